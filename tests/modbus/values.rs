//! What a meter says and cannot be: as `status`, a probe and a consumer at the broker see it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use hil_tests::agent::{MeterSetup, Setup};
use hil_tests::broker::{Broker, Options};
use hil_tests::certs::{Authority, Validity};
use hil_tests::consumer::{Consumer, Endpoint};
use hil_tests::oracle::{self, Value};
use hil_tests::wait::wait_for;
use serde_json::Value as Json;

use crate::peer::{Peer, Unit};

const PROGRAM: &str = env!("CARGO_BIN_EXE_v2g-edge");
const SOON: Duration = Duration::from_secs(60);
const KWH: f32 = 12_345.6;

/// An SDM630 on which all is well, but for these registers.
fn sdm630(others: &[(u16, f32)]) -> BTreeMap<u16, u16> {
    let mut words: BTreeMap<u16, u16> = (0..400).map(|register| (register, 0)).collect();
    let well = [(0, 231.0), (2, 230.0), (4, 229.5), (52, 7_200.0), (70, 49.98), (72, KWH), (74, 1.5)];
    for (register, value) in well.iter().chain(others) {
        let bytes = value.to_be_bytes();
        words.insert(*register, u16::from_be_bytes([bytes[0], bytes[1]]));
        words.insert(register + 1, u16::from_be_bytes([bytes[2], bytes[3]]));
    }
    words
}

/// The agent, ended with its test.
struct Agent {
    child: Child,
    socket: PathBuf,
}

impl Agent {
    /// Reads the meter at `place`; there is no broker.
    fn start(dir: &Path, place: &str) -> Self {
        let (socket, config) = (dir.join("api.sock"), dir.join("gateway.toml"));
        let text = format!(
            "[gateway]\nid = \"gw-01\"\nsite = \"depot-a\"\nstate_dir = \"{}\"\n[uplink]\nbrokers = [\"mqtt://127.0.0.1:1\"]\n\
             [api]\nsocket = \"{}\"\n[bus.lan]\nmodbus-tcp = {{}}\n[device.grid]\nkind = \"meter\"\nbus = \"lan\"\n\
             address = \"{place}\"\nunit = 1\nprofile = \"eastron-sdm630\"\n",
            dir.join("state").display(),
            socket.display(),
        );
        std::fs::write(&config, text).expect("written");
        let child = Command::new(PROGRAM).args(["run", "--config"]).arg(&config).spawn().expect("it runs");
        Self { child, socket }
    }

    fn status(&self, more: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(PROGRAM);
        let said = command.args(["status", "--socket"]).arg(&self.socket).args(more).output().expect("asked");
        (said.status.code(), String::from_utf8_lossy(&said.stdout).into_owned())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The fields of which this list of a probe's points says that they make no sense.
fn senseless(probed: &Json) -> BTreeSet<String> {
    let points = probed["units"][0]["points"].as_array().expect("points");
    let senseless = points.iter().filter(|point| point["verdict"] == "implausible");
    senseless.filter_map(|point| point["field"].as_str().map(str::to_owned)).collect()
}

/// A word order, a base or a scale that is another's: what was read was shown as if it were fine.
#[test]
fn what_a_probe_calls_senseless_is_questionable_in_status_with_the_command_that_shows_it() {
    // W, Hz and kWh as no meter says them, beside a voltage of a phase that is not wired.
    let unit = Unit { input: sdm630(&[(52, -3.2e32), (70, 0.0), (74, -4.0), (4, 0.0)]), ..Unit::default() };
    let peer = Peer::start("tcp", &BTreeMap::from([(1, unit)]));
    let dir = tempfile::tempdir().expect("a directory");
    let agent = Agent::start(dir.path(), &peer.at);
    let command = format!("v2g-edge probe modbus {} --timeout 1s --units 1 --profile eastron-sdm630", peer.at);
    let (code, said) = wait_for(SOON, "what makes no sense", || {
        let (code, said) = agent.status(&[]);
        let is_all =
            ["power_flow -3.2", "frequency 0 Hz", "energy_export -4 kWh"].iter().all(|part| said.contains(part));
        if is_all { Ok((code, said)) } else { Err(said) }
    })
    .unwrap_or_else(|late| panic!("{late}"));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("kW (questionable)") && said.contains("grid says what cannot be: "), "{said}");
    assert!(said.contains(&format!("compare with: {command}\n")), "{said}");

    let (code, report) = agent.status(&["--json"]);
    let report: Json = serde_json::from_str(&report).expect("json");
    let grid = &report["devices"]["grid"];
    let grid = if grid.is_object() { grid } else { &report["status"]["devices"]["grid"] };
    assert_eq!((code, &grid["power_flow_kw"], &grid["probe"]), (Some(1), &Json::Null, &Json::from(command.clone())));
    assert_eq!(grid["questionable"]["power_flow"]["why"], "out_of_range");
    let shown: BTreeSet<String> = grid["questionable"].as_object().expect("fields").keys().cloned().collect();

    let words: Vec<&str> = command.split(' ').skip(2).collect();
    let (_, probed) = crate::peer::probe(&words);
    assert_eq!(senseless(&probed), shown, "a probe and status go by one rule");
    assert!(!shown.contains("voltage_l1") && !shown.contains("voltage_l3"), "{shown:?}");
}

/// Answers as the meter that it is, but every third read of the counters with zeros.
fn serve_with_zeros(mut stream: TcpStream, image: &BTreeMap<u16, u16>) {
    let (mut asked, mut reads) = ([0; 12], 0_u32);
    while stream.read_exact(&mut asked).is_ok() {
        let [t0, t1, _, _, _, _, unit, function, s0, s1, _, count] = asked;
        let start = u16::from_be_bytes([s0, s1]);
        let is_energy = (start..start + u16::from(count)).contains(&72);
        reads += u32::from(is_energy);
        let word = |register: u16| {
            if is_energy && reads.is_multiple_of(3) { 0 } else { image.get(&register).copied().unwrap_or(0) }
        };
        let words = (start..start + u16::from(count)).flat_map(|register| word(register).to_be_bytes());
        let said: Vec<u8> = [unit, function, count * 2].into_iter().chain(words).collect();
        let length = u8::try_from(said.len()).expect("at most 125 registers");
        if stream.write_all(&[&[t0, t1, 0, 0, 0, length], said.as_slice()].concat()).is_err() {
            return;
        }
    }
}

/// A consumer that takes differences made 12 MWh out of each fall and rise.
#[test]
fn a_counter_that_falls_to_zero_for_a_read_is_marked_and_never_told_as_if_it_were_good() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let place = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        let image = sdm630(&[]);
        while let Ok((stream, _)) = listener.accept() {
            let image = image.clone();
            std::thread::spawn(move || serve_with_zeros(stream, &image));
        }
    });
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Authority::new(&dir.path().join("tls"), "depot ca").expect("a ca");
    let server = authority.server(Validity::Good).expect("a server certificate");
    let broker = Broker::start(&dir.path().join("broker"), &server, Options::default()).expect("a broker");
    let endpoint = Endpoint::Plain(broker.plain_port());
    let consumer = Consumer::start(dir.path(), &endpoint, "judge", &["v2g/#"]).expect("a consumer");
    let setup = Setup {
        gateway: "gw-01".to_owned(),
        site: "depot-a".to_owned(),
        brokers: vec![broker.url()],
        tls: authority.client("gw-01", Validity::Good).expect("a client certificate"),
        meters: vec![MeterSetup::sdm630("grid", &place)],
        line: None,
        keep_alive: "5s",
        uplink: String::new(),
        extra: String::new(),
    };
    let mut agent = hil_tests::agent::Agent::new(Path::new(PROGRAM), dir.path(), &setup).expect("a configuration");
    agent.start().expect("the agent starts");
    let lines = wait_for(SOON, "three falls", || {
        let lines: Vec<_> = consumer.look(|messages| messages.iter().flat_map(oracle::Message::device_lines).collect());
        let falls = lines.iter().filter(|line| suspect(line).contains("energy_import:counter_zero")).count();
        if falls >= 3 { Ok(lines) } else { Err(format!("{falls} falls in {} lines", lines.len())) }
    })
    .unwrap_or_else(|late| panic!("{late}"));
    let mut good = 0;
    for line in &lines {
        let Some(Value::Float(energy)) = line.field("energy_import") else { continue };
        if suspect(line).contains("energy_import:") {
            assert_eq!(*energy, 0.0, "{line:?}");
        } else {
            assert!((energy - f64::from(KWH)).abs() < 1e-9, "{line:?}");
            good += 1;
        }
    }
    assert!(good >= 4, "{good} good readings");
    agent.terminate(Duration::from_secs(15)).expect("it ends");
}

fn suspect(line: &oracle::Line) -> String {
    match line.field("suspect") {
        Some(Value::Text(text)) => text.clone(),
        _ => String::new(),
    }
}
