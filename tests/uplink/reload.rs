//! What a person is told of a reload that was refused.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};

use hil_tests::oracle::Message;
use hil_tests::scripted::{Script, ScriptedBroker};
use hil_tests::wait::wait_for;

use crate::stage::{SOON, Stage};

/// The agent under a systemd that is this test; ended when dropped.
struct Unit {
    child: Child,
    notified: UnixDatagram,
}

impl Drop for Unit {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Unit {
    fn start(stage: &Stage) -> Self {
        let path = stage.dir.path().join("notify");
        let notified = UnixDatagram::bind(&path).expect("a socket");
        notified.set_read_timeout(Some(SOON)).expect("ours");
        let child = Command::new(env!("CARGO_BIN_EXE_v2g-edge"))
            .args(["run", "--config"])
            .arg(stage.agent.config())
            .env("NOTIFY_SOCKET", &path)
            .env_remove("WATCHDOG_USEC")
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        Self { child, notified }
    }

    fn reload(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-HUP", &pid]).status().expect("asked").success());
    }

    /// The next line of this kind that systemd is told.
    #[track_caller]
    fn next(&self, key: &str) -> String {
        let mut buffer = [0; 4096];
        loop {
            let length = self.notified.recv(&mut buffer).unwrap_or_else(|error| panic!("no {key}: {error}"));
            let text = String::from_utf8_lossy(&buffer[..length]);
            if let Some(line) = text.lines().find_map(|line| line.strip_prefix(key)) {
                return line.to_owned();
            }
        }
    }
}

#[test]
fn a_refused_reload_is_seen_by_systemd_and_in_status_which_finds_its_agent_until_a_good_one() {
    let stage = Stage::set();
    let good = fs::read_to_string(stage.agent.config()).expect("there");
    let unit = Unit::start(&stage);
    unit.next("READY=");

    let broken = good.replace("keep_alive = \"5s\"", "keep_alive = \"5\"");
    assert_ne!(broken, good);
    fs::write(stage.agent.config(), &broken).expect("ours");
    unit.reload();
    let told = unit.next("STATUS=");
    assert!(told.starts_with("reload refused, the agent goes on as it was: "), "{told}");
    assert!(told.contains("has no unit; v2g-edge check shows all mistakes"), "{told}");
    unit.next("READY=");
    // The file is broken, and still says where the agent answers.
    let config = stage.agent.config().display().to_string();
    let (status, shown) = stage.agent.ask(&["status", "--config", &config]).expect("asked");
    assert_eq!(status.code(), Some(1), "{shown}");
    assert!(shown.lines().any(|line| line.starts_with("look at") && line.ends_with(&told)), "{told} in\n{shown}");

    fs::write(stage.agent.config(), &good).expect("ours");
    unit.reload();
    assert_eq!(unit.next("STATUS="), "", "it is over");
    unit.next("READY=");
    let (_, shown) = stage.agent.ask(&["status", "--config", &config]).expect("asked");
    assert!(!shown.contains("reload refused"), "{shown}");
}

#[test]
fn what_became_of_a_reload_is_told_to_the_broker() {
    let broker = ScriptedBroker::start(Script::default());
    let mut stage = Stage::set();
    stage.start(&[broker.url()], "");
    stage.wait_until_online();
    let good = fs::read_to_string(stage.agent.config()).expect("there");
    let broken = good.replace(&broker.url(), "mqtt://me:s3cret@127.0.0.1:1").replace("\"5s\"", "\"5\"");
    fs::write(stage.agent.config(), &broken).expect("ours");
    stage.agent.reload().expect("it runs");
    let told = |part: &str| {
        let line = |m: &Message| {
            let payload = String::from_utf8_lossy(&m.payload).into_owned();
            payload.lines().find(|line| line.contains(part)).map(str::to_owned)
        };
        broker.messages().iter().find_map(line).ok_or_else(|| format!("no {part}"))
    };
    let refused = wait_for(SOON, "the refusal", || told("kind=reload_refused")).unwrap_or_else(|late| panic!("{late}"));
    assert!(refused.contains("v2g-edge check shows all mistakes"), "{refused}");
    assert!(!refused.contains("s3cret"), "{refused}");
    fs::write(stage.agent.config(), &good).expect("ours");
    stage.agent.reload().expect("it runs");
    wait_for(SOON, "the reload", || told("kind=reloaded")).unwrap_or_else(|late| panic!("{late}"));
    stage.judge(|| broker.messages());
}
