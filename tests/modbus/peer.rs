//! pymodbus with an image of ours.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::json;

/// The interpreter in which `tests/run` has installed pymodbus.
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/test-python/bin/python3");
const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/modbus/peer.py");

/// The words of one unit, by table.
#[derive(Debug, Default, Clone)]
pub(crate) struct Unit {
    pub(crate) holding: BTreeMap<u16, u16>,
    pub(crate) input: BTreeMap<u16, u16>,
}

/// A server that ends when it is dropped.
pub(crate) struct Peer {
    child: Child,
    /// `127.0.0.1:PORT`, or the path of a pseudo-terminal.
    pub(crate) at: String,
    _dir: tempfile::TempDir,
}

impl Peer {
    /// Serves these units by "tcp", "rtu" or "rtu-tcp".
    pub(crate) fn start(how: &str, units: &BTreeMap<u8, Unit>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("image.json");
        let words = |table: &BTreeMap<u16, u16>| {
            table.iter().map(|(at, word)| (at.to_string(), *word)).collect::<BTreeMap<_, _>>()
        };
        let image: BTreeMap<String, _> = units
            .iter()
            .map(|(id, unit)| (id.to_string(), json!({ "holding": words(&unit.holding), "input": words(&unit.input) })))
            .collect();
        std::fs::write(&path, json!(image).to_string()).expect("written");
        let mut child = Command::new(PYTHON)
            .arg(PEER)
            .arg(&path)
            .arg(how)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("tests/python has made a Python with pymodbus");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("where it is");
        let told = line.trim();
        assert!(!told.is_empty(), "pymodbus did not start");
        let at = if how == "rtu" { told.to_owned() } else { format!("127.0.0.1:{told}") };
        Self { child, at, _dir: dir }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `v2g-edge probe …` and reads its JSON.
pub(crate) fn probe(arguments: &[&str]) -> (Option<i32>, serde_json::Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_v2g-edge"))
        .arg("probe")
        .args(arguments)
        .arg("--json")
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let json = serde_json::from_str(said.trim())
        .unwrap_or_else(|error| panic!("{error}: {said}\n{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), json)
}
