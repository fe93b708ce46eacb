//! What most tests of the whole agent stand on: a mosquitto with client certificates, a consumer, and an agent between them and its devices.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::agent::{Agent, Setup, Status};
use crate::broker::{Broker, Options};
use crate::certs::{Authority, Validity};
use crate::consumer::{Consumer, Endpoint};
use crate::oracle::Message;
use crate::wait::wait_for;

/// The gateway's name.
pub const GATEWAY: &str = "gw-01";

/// How the agent stands on it.
#[derive(Debug, Clone)]
pub struct Play<'p> {
    /// The agent's binary.
    pub binary: &'p Path,
    /// `aggregate.window`.
    pub window: &'p str,
    /// Buses and devices, as TOML; `{dir}` stands for the stage's directory. The bus `lan` (Modbus TCP) is there.
    pub tables: String,
    /// More files beside the configuration: their paths, and what is in them.
    pub files: Vec<(String, String)>,
    /// For whatever should come at once.
    pub soon: Duration,
}

/// In one directory that goes with it.
#[derive(Debug)]
pub struct Stage {
    // Dropped in this order: the agent first, its directory last.
    /// May be killed and started.
    pub agent: Agent,
    /// Of everything.
    pub consumer: Consumer,
    /// May be stopped and started.
    pub broker: Broker,
    /// In `tls` below the directory.
    pub authority: Authority,
    soon: Duration,
    dir: tempfile::TempDir,
}

impl Stage {
    /// Everything runs, and the agent is online.
    ///
    /// # Panics
    /// If not.
    #[must_use]
    pub fn start(play: Play<'_>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let authority = Authority::new(&dir.path().join("tls"), "depot ca").expect("a ca");
        let server = authority.server(Validity::Good).expect("a server certificate");
        let broker = Broker::start(&dir.path().join("broker"), &server, Options::default()).expect("a broker");
        let endpoint = Endpoint::Plain(broker.plain_port());
        let consumer = Consumer::start(dir.path(), &endpoint, "judge", &["v2g/#"]).expect("a consumer");
        for (name, text) in &play.files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap_or(dir.path())).expect("a directory");
            fs::write(path, text).expect("a file");
        }
        let setup = Setup {
            gateway: GATEWAY.to_owned(),
            site: "depot-a".to_owned(),
            brokers: vec![broker.url()],
            tls: authority.client(GATEWAY, Validity::Good).expect("a client certificate"),
            meters: vec![],
            line: None,
            keep_alive: "5s",
            uplink: String::new(),
            extra: play.tables.replace("{dir}", &dir.path().display().to_string()),
        };
        let mut agent = Agent::new(play.binary, dir.path(), &setup).expect("a configuration");
        let toml = setup.toml_with_window(play.window, &dir.path().join("state"), &agent.socket());
        fs::write(agent.config(), toml).expect("it is ours");
        agent.start().expect("the agent starts");
        let mut stage = Self { agent, consumer, broker, authority, soon: play.soon, dir };
        stage.wait_for_status("that it is online", Status::is_online);
        stage
    }

    /// Below its directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Waits until the last that came is the agent's state offline: it has ended in order.
    ///
    /// # Panics
    /// If it is not.
    #[track_caller]
    pub fn wait_for_offline(&self) {
        let said = || match self.consumer.look(|messages| messages.last().map(Message::says_offline)) {
            Some(true) => Ok(()),
            other => Err(format!("the last message says offline: {other:?}")),
        };
        wait_for(self.soon, "the state offline", said).unwrap_or_else(|late| panic!("{late}"));
    }

    /// Waits until the agent says something of itself that holds.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub fn wait_for_status(&mut self, what: &str, holds: impl Fn(&Status) -> bool) -> Status {
        let look = || match self.agent.status() {
            Ok(status) if holds(&status) => Ok(status),
            Ok(status) => Err(format!("{status:?}")),
            Err(error) => Err(format!("{error:#?}")),
        };
        wait_for(self.soon, what, look).unwrap_or_else(|late| panic!("{late}\n{}", self.agent.log_tail()))
    }
}
