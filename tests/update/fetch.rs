//! A bundle from an address: whole, gone on with where it broke off, and never at the cost of the record.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hil_tests::port::free_port;
use hil_tests::process::Process;
use hil_tests::scripted::{Script, ScriptedBroker};
use hil_tests::wait::wait_for;

use crate::gateway::Gateway;

struct Server {
    _process: Process,
    log: PathBuf,
    port: u16,
}

impl Server {
    /// Serves a file, and cuts so many answers in the middle.
    fn start(dir: &Path, file: &Path, cuts: u8) -> Self {
        let port = free_port();
        let log = dir.join("server.log");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/update/server.py");
        let mut python = Command::new("python3");
        python.arg(script).arg(port.to_string()).arg(file).arg(cuts.to_string());
        let process = Process::start("a server of bundles", &mut python, &log).expect("it starts");
        let listens = || match fs::read_to_string(&log) {
            Ok(said) if said.contains("listening") => Ok(()),
            said => Err(format!("{said:?}")),
        };
        wait_for(Duration::from_secs(30), "the server", listens).unwrap_or_else(|late| panic!("{late}"));
        Self { _process: process, log, port }
    }

    fn url(&self) -> String {
        self.url_of("new.raucb")
    }

    fn url_of(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}/{name}", self.port)
    }

    /// The ranges that were asked for.
    fn ranges(&self) -> Vec<String> {
        self.ranges_of("new.raucb")
    }

    fn ranges_of(&self, name: &str) -> Vec<String> {
        let (log, asked) = (fs::read_to_string(&self.log).expect("there"), format!("GET /{name} "));
        log.lines().filter_map(|line| line.strip_prefix(&asked)).map(str::to_owned).collect()
    }
}

#[test]
fn a_download_that_breaks_off_goes_on_where_it_was_and_is_gone_when_it_is_installed() {
    let broker = ScriptedBroker::start(Script::default());
    let mut gateway = Gateway::new();
    gateway.stage.start(&[broker.url()], "");
    gateway.stage.wait_until_online();
    let content: Vec<u8> = (0..400_000_u32).map(|n| (n % 251) as u8).collect();
    fs::write(gateway.bundle(), &content).expect("ours");
    let server = Server::start(gateway.stage.dir.path(), &gateway.bundle(), 2);
    // What was fetched is what the double is asked about.
    let fetched = gateway.state().join("update.raucb");
    let copy = gateway.stage.dir.path().join("copy");
    gateway.says("keep-copy", &copy.display().to_string());
    let said = gateway.update(&["install", &server.url()]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(server.ranges(), ["None", "bytes=200000-", "bytes=300000-"], "{}", said.err);
    assert_eq!(fs::read(&copy).expect("kept"), content);
    assert!(gateway.asked().iter().any(|call| *call == format!("install --progress {}", fetched.display())));
    assert!(!fetched.exists(), "it takes no room any more");
}

/// What must begin anew is a failure like any other: how many there may be, src/cli/update/download.rs says.
#[test]
fn a_server_that_does_not_go_on_in_the_middle_is_asked_from_the_beginning() {
    let gateway = Gateway::new();
    let content: Vec<u8> = (0..400_000_u32).map(|n| (n % 251) as u8).collect();
    fs::write(gateway.bundle(), &content).expect("ours");
    let server = Server::start(gateway.stage.dir.path(), &gateway.bundle(), 1);
    let copy = gateway.stage.dir.path().join("copy");
    gateway.says("keep-copy", &copy.display().to_string());
    let said = gateway.update(&["install", "--without-agent", &server.url_of("whole.raucb")]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.err.contains("the server does not go on in the middle; going on at 0 B in 8 s"), "{}", said.err);
    assert_eq!(server.ranges_of("whole.raucb"), ["None", "bytes=200000-", "None"], "{}", said.err);
    assert_eq!(fs::read(&copy).expect("kept"), content);
}

#[test]
fn an_address_without_a_bundle_and_a_disk_that_is_too_small_are_named() {
    let broker = ScriptedBroker::start(Script::default());
    let mut gateway = Gateway::new();
    gateway.stage.start(&[broker.url()], "");
    gateway.stage.wait_until_online();
    let server = Server::start(gateway.stage.dir.path(), &gateway.bundle(), 0);
    for (url, said) in [
        (server.url().replace("new", "old"), "404"),
        (server.url().replace("new", "huge"), "stay free for the record ([journal] free_min): make room"),
    ] {
        let ended = gateway.update(&["install", &url]);
        assert!(ended.code == Some(3) && ended.err.contains(said), "{}", ended.err);
    }
    assert!(server.ranges().is_empty(), "nothing was fetched");
    assert!(gateway.asked().is_empty(), "{:?}", gateway.asked());
}
