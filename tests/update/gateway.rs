//! A gateway with a box around it that can be updated.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use hil_tests::oracle::Message;
use hil_tests::process::Process;
use hil_tests::scripted::ScriptedBroker;
use hil_tests::wait::wait_for;
use serde_json::Value;

use crate::stage::{SOON, Stage};

/// What the double says of a bundle.
pub(crate) const BUNDLE: &str = r#"{"compatible":"v2g-edge-test","version":"9.9.9","description":null,"images":[]}"#;
/// The version that runs.
pub(crate) const OLD: &str = env!("CARGO_PKG_VERSION");

pub(crate) struct Gateway {
    pub(crate) stage: Stage,
    /// Where the double is, with what it says and what it was asked.
    tools: PathBuf,
}

/// How a command ended, and what it said on both outputs.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Gateway {
    /// A box that was booted from slot A; its agent does not run yet.
    pub(crate) fn new() -> Self {
        let stage = Stage::set();
        let tools = stage.dir.path().join("tools");
        fs::create_dir(&tools).expect("ours");
        let double = tools.join("rauc");
        fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/update/rauc"), &double).expect("copied");
        fs::set_permissions(&double, fs::Permissions::from_mode(0o755)).expect("ours");
        let gateway = Self { stage, tools };
        gateway.boots("A");
        gateway.says("info.json", BUNDLE);
        fs::write(gateway.bundle(), "a bundle").expect("ours");
        gateway
    }

    pub(crate) fn bundle(&self) -> PathBuf {
        self.stage.dir.path().join("new.raucb")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.stage.dir.path().join("state")
    }

    /// What the double says.
    pub(crate) fn says(&self, file: &str, text: &str) {
        fs::write(self.tools.join(file), text).expect("ours");
    }

    /// Another double, beside that of RAUC.
    pub(crate) fn says_as_program(&self, name: &str, script: &str) {
        self.says(name, script);
        fs::set_permissions(self.tools.join(name), fs::Permissions::from_mode(0o755)).expect("ours");
    }

    /// No more of that.
    pub(crate) fn says_no_more(&self, file: &str) {
        fs::remove_file(self.tools.join(file)).expect("it was said");
    }

    /// The slot that runs, as the double says.
    pub(crate) fn boots(&self, booted: &str) {
        self.boots_as(booted, "good");
    }

    /// The same, with what RAUC has that slot for.
    pub(crate) fn boots_as(&self, booted: &str, status: &str) {
        let slot = |number: u8, name: &str| {
            let (state, status) = if name == booted { ("booted", status) } else { ("inactive", "good") };
            format!(
                r#"{{"rootfs.{number}":{{"class":"rootfs","device":"/dev/vda{number}","bootname":"{name}","state":"{state}","boot_status":"{status}","slot_status":{{"bundle":{{"version":"slot-{name}"}},"checksum":{{"sha256":"{name}{name}"}}}}}}}}"#
            )
        };
        let slots = [slot(0, "A"), slot(1, "B")].join(",");
        let status = format!(r#"{{"compatible":"v2g-edge-test","booted":"{booted}","slots":[{slots}]}}"#);
        self.says("status.json", &status);
    }

    /// What the double was asked, without the looks at the slots.
    pub(crate) fn asked(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.tools.join("calls")).unwrap_or_default();
        calls.lines().filter(|call| !call.starts_with("status --detailed")).map(str::to_owned).collect()
    }

    /// `v2g-edge update …` as root of the box.
    pub(crate) fn update(&self, arguments: &[&str]) -> Said {
        self.update_with_path(&self.path(), arguments)
    }

    pub(crate) fn update_with_path(&self, path: &str, arguments: &[&str]) -> Said {
        let Output { status, stdout, stderr } = self.command(path, arguments).output().expect("it starts");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Said { code: status.code(), out: text(stdout), err: text(stderr) }
    }

    /// The same, and it is not waited for.
    pub(crate) fn start_update(&self, arguments: &[&str]) -> Process {
        let log = self.stage.dir.path().join("update.log");
        Process::start("an update", &mut self.command(&self.path(), arguments), &log).expect("it starts")
    }

    fn command(&self, path: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_v2g-edge"));
        command.arg("update").args(arguments).arg("--config").arg(self.stage.agent.config()).env("PATH", path);
        command
    }

    /// Where the double is found before what this machine has.
    fn path(&self) -> String {
        format!("{}:{}", self.tools.display(), std::env::var("PATH").unwrap_or_default())
    }

    pub(crate) fn install(&self) -> Said {
        self.update(&["install", &self.bundle().display().to_string()])
    }

    pub(crate) fn record(&self) -> Value {
        let text = fs::read_to_string(self.state().join("update.json")).expect("there is a record");
        serde_json::from_str(&text).expect("JSON")
    }

    /// The box reboots: what was installed was in another boot than this one, and the agent is another process.
    pub(crate) fn reboots_into(&mut self, slot: &str) {
        self.stage.agent.kill9().expect("it is ours");
        let mut record = self.record();
        record["boot"] = Value::from("0".repeat(32));
        fs::write(self.state().join("update.json"), record.to_string()).expect("ours");
        self.boots(slot);
    }

    pub(crate) fn starts(&mut self) {
        self.stage.agent.start().expect("it starts");
    }
}

/// The events of updates that a broker has, in order; what came twice under one identity is one.
pub(crate) fn events(messages: &[Message]) -> Vec<String> {
    let mut known = BTreeSet::new();
    let mut told = Vec::new();
    for message in messages {
        let property = |key: &str| message.user_properties.iter().find(|(name, _)| name == key).map(|(_, value)| value);
        if !known.insert((property("epoch"), property("seq"))) {
            continue;
        }
        let payload = String::from_utf8_lossy(&message.payload);
        let events = payload.lines().filter_map(|line| line.split_once(",kind=update_"));
        told.extend(events.map(|(_, event)| event.rsplit_once(' ').expect("a time").0.to_owned()));
    }
    told
}

#[track_caller]
pub(crate) fn wait_for_events(broker: &ScriptedBroker, expected: &[String]) {
    let look = || {
        let told = events(&broker.messages());
        if told.len() >= expected.len() { Ok(told) } else { Err(format!("{told:?}")) }
    };
    let told = wait_for(SOON, "the events of the update", look).unwrap_or_else(|late| panic!("{late}"));
    assert_eq!(told, expected);
}

/// `started from_version=…,to_version=…`.
pub(crate) fn event(kind: &str) -> String {
    format!("{kind} from_version=\"{OLD}\",to_version=\"9.9.9\"")
}
