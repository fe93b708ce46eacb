//! The agent's process, as its user sees it: a configuration file, a command line, a pid, a log.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::certs::Files;
use crate::process::{Process, ProcessError, tail};
use crate::wait::{TimedOut, wait_for};

/// A question to the running agent: the socket answers in milliseconds, the process starts in tens.
const ASK_WITHIN: Duration = Duration::from_secs(10);

/// What can go wrong with the agent's process.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Its files could not be written or read.
    #[error("{path:?} cannot be written or read")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its process misbehaved.
    #[error("the agent's process")]
    Process(#[from] ProcessError),
    /// A command did not end.
    #[error("`v2g-edge {command}` does not end")]
    Slow {
        /// Its arguments.
        command: String,
        /// How long it had.
        #[source]
        source: TimedOut,
    },
    /// A command ended with another code than 0, or said something else than was asked.
    #[error("`v2g-edge {command}` ended with {status}: {output}")]
    Refused {
        /// Its arguments.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said on both outputs.
        output: String,
    },
}

/// What goes into the configuration file.
#[derive(Debug, Clone)]
pub struct Setup {
    /// `gateway.id`: also the common name of its certificate.
    pub gateway: String,
    /// `gateway.site`.
    pub site: String,
    /// `uplink.brokers`.
    pub brokers: Vec<String>,
    /// `uplink.tls`.
    pub tls: Files,
    /// Meters on the bus `lan`, or on the bus `line`.
    pub meters: Vec<MeterSetup>,
    /// The serial port of the bus `line`, if there is one.
    pub line: Option<String>,
    /// `uplink.keep_alive`; the shortest is 5 s.
    pub keep_alive: &'static str,
    /// More keys for `[uplink]`, as TOML.
    pub uplink: String,
    /// More TOML, after all other tables.
    pub extra: String,
}

/// One meter in the configuration.
#[derive(Debug, Clone)]
pub struct MeterSetup {
    /// `device.ID`.
    pub id: String,
    /// `address`; without one it is on the serial line.
    pub address: Option<String>,
    /// `profile`.
    pub profile: String,
    /// `poll`.
    pub poll: &'static str,
}

impl MeterSetup {
    /// The meter that [`crate::meter`] plays, polled every 250 ms.
    #[must_use]
    pub fn sdm630(id: &str, address: &str) -> Self {
        let address = Some(address.to_owned());
        Self { id: id.to_owned(), address, profile: "eastron-sdm630".to_owned(), poll: "250ms" }
    }

    /// The same on the serial line, whose speed is another: polled twice a second.
    #[must_use]
    pub fn sdm630_on_the_line(id: &str) -> Self {
        Self { id: id.to_owned(), address: None, profile: "eastron-sdm630".to_owned(), poll: "500ms" }
    }
}

/// An agent that may run or not, with one directory of state. Dropping it kills it.
#[derive(Debug)]
pub struct Agent {
    binary: PathBuf,
    dir: PathBuf,
    process: Option<Process>,
}

/// What `status --json` says. The agent's own view.
#[derive(Debug, Clone)]
pub struct Status(Value);

impl Agent {
    /// An agent that does not run yet: writes its configuration into `dir`.
    pub fn new(binary: &Path, dir: &Path, setup: &Setup) -> Result<Self, AgentError> {
        let agent = Self { binary: binary.to_owned(), dir: dir.to_owned(), process: None };
        let state = agent.dir.join("state");
        fs::create_dir_all(&state).map_err(|source| AgentError::File { path: state, source })?;
        agent.configure(setup)?;
        Ok(agent)
    }

    /// Writes another configuration; the agent learns of it by [`Agent::reload`] or at its next start.
    pub fn configure(&self, setup: &Setup) -> Result<(), AgentError> {
        let path = self.config();
        fs::write(&path, setup.toml(&self.dir.join("state"), &self.socket()))
            .map_err(|source| AgentError::File { path, source })
    }

    /// Starts `run --config FILE`; does not wait until it is ready.
    ///
    /// # Panics
    /// If it runs already.
    pub fn start(&mut self) -> Result<(), AgentError> {
        assert!(self.process.is_none(), "the agent runs already");
        let mut command = Command::new(&self.binary);
        command.arg("run").arg("--config").arg(self.config()).current_dir(&self.dir);
        // A service manager above the test would be told of an agent that is not its own.
        command.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC").env_remove("JOURNAL_STREAM");
        self.process = Some(Process::start("v2g-edge", &mut command, &self.log())?);
        Ok(())
    }

    /// SIGKILL.
    pub fn kill9(&mut self) -> Result<(), AgentError> {
        if let Some(mut process) = self.process.take() {
            process.kill9()?;
        }
        Ok(())
    }

    /// SIGTERM, and how it ended.
    ///
    /// # Panics
    /// If it was not started.
    pub fn terminate(&mut self, within: Duration) -> Result<ExitStatus, AgentError> {
        let mut process = self.process.take().expect("only an agent that was started can be terminated");
        Ok(process.terminate(within)?)
    }

    /// SIGHUP: read the configuration again.
    pub fn reload(&mut self) -> Result<(), AgentError> {
        self.process.as_mut().map_or(Ok(()), |process| process.signal(Signal::HUP)).map_err(AgentError::from)
    }

    /// Whether it runs. An agent that ended by itself does not.
    pub fn runs(&mut self) -> Result<bool, AgentError> {
        Ok(match &mut self.process {
            Some(process) => process.ended()?.is_none(),
            None => false,
        })
    }

    /// Memory in RAM: now and at most, bytes.
    #[must_use]
    pub fn rss_bytes(&self) -> Option<(u64, u64)> {
        let process = self.process.as_ref()?;
        Some((process.rss_bytes()?, process.rss_peak_bytes()?))
    }

    /// What the running agent says of itself.
    pub fn status(&self) -> Result<Status, AgentError> {
        let socket = self.socket().display().to_string();
        let (status, output) = self.ask(&["status", "--json", "--socket", &socket])?;
        match serde_json::from_str(&output) {
            Ok(json) => Ok(Status(json)),
            Err(_) => Err(AgentError::Refused { command: "status --json".to_owned(), status, output }),
        }
    }

    /// Runs another command of the binary and hands over how it ended and what it printed.
    pub fn ask(&self, arguments: &[&str]) -> Result<(ExitStatus, String), AgentError> {
        let answer = tempfile::NamedTempFile::new_in(&self.dir)
            .map_err(|source| AgentError::File { path: self.dir.clone(), source })?;
        let mut command = Command::new(&self.binary);
        command.args(arguments).current_dir(&self.dir);
        let mut process = Process::start("v2g-edge", &mut command, answer.path())?;
        let told = arguments.join(" ");
        let end = wait_for(ASK_WITHIN, "its end", || match process.ended() {
            Ok(Some(status)) => Ok(Ok(status)),
            Ok(None) => Err("it runs".to_owned()),
            Err(error) => Ok(Err(error)),
        });
        let status = end.map_err(|source| AgentError::Slow { command: told, source })??;
        let output =
            fs::read(answer.path()).map_err(|source| AgentError::File { path: answer.path().to_owned(), source })?;
        Ok((status, String::from_utf8_lossy(&output).into_owned()))
    }

    /// Its log file; all its lives append to it.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir.join("agent.log")
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        tail(&self.log())
    }

    /// Its configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.dir.join("gateway.toml")
    }

    /// Where it answers `v2g-edge status`.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.join("api.sock")
    }
}

impl Setup {
    /// The configuration file of an agent that keeps its state and its socket there.
    #[must_use]
    pub fn toml(&self, state: &Path, socket: &Path) -> String {
        self.toml_with_window("250ms", state, socket)
    }

    /// The same with another `aggregate.window`: each is an entry of the journal.
    #[must_use]
    pub fn toml_with_window(&self, window: &str, state: &Path, socket: &Path) -> String {
        let Self { gateway, site, brokers, tls, meters, line, keep_alive, uplink, extra } = self;
        let mut toml = String::new();
        // Rust's quoting of a path is TOML's as long as the path is printable, and ours are.
        let mut write = |text: std::fmt::Arguments<'_>| {
            toml.write_fmt(text).and_then(|()| toml.write_char('\n')).expect("a String takes everything");
        };
        write(format_args!("[gateway]\nid = {gateway:?}\nsite = {site:?}\nstate_dir = {state:?}\n"));
        write(format_args!("[aggregate]\nwindow = {window:?}\n"));
        write(format_args!("[api]\nsocket = {socket:?}\n"));
        write(format_args!("[uplink]\nbrokers = {brokers:?}\nkeep_alive = {keep_alive:?}\n{uplink}\n"));
        let Files { ca, certificate, key } = tls;
        write(format_args!("[uplink.tls]\nca = {ca:?}\ncertificate = {certificate:?}\nkey = {key:?}\n"));
        write(format_args!("[bus.lan]\nmodbus-tcp = {{}}\n"));
        if let Some(port) = line {
            write(format_args!("[bus.line]\nmodbus-rtu = {{ port = {port:?}, baud = 19200, parity = \"even\" }}\n"));
        }
        for MeterSetup { id, address, profile, poll } in meters {
            let bus = if address.is_some() { "lan" } else { "line" };
            write(format_args!("[device.{id}]\nkind = \"meter\"\nbus = {bus:?}\nunit = 1"));
            if let Some(address) = address {
                write(format_args!("address = {address:?}"));
            }
            write(format_args!("profile = {profile:?}\npoll = {poll:?}\n"));
        }
        write(format_args!("{extra}"));
        toml
    }
}

impl Status {
    /// One line of `status --json --every`.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok().map(Self)
    }

    /// The life of the journal that it writes in.
    #[must_use]
    pub fn epoch(&self) -> Option<u64> {
        self.number("/journal/epoch")
    }

    /// Entries that are durable or on their way there and not acknowledged.
    #[must_use]
    pub fn waiting(&self) -> Option<u64> {
        Some(self.number("/journal/waiting_entries")? + self.number("/journal/unsynced_entries")?)
    }

    /// The newest number that is durable.
    #[must_use]
    pub fn durable(&self) -> Option<u64> {
        self.number("/journal/durable")
    }

    /// Whether it says that it is connected to a broker.
    #[must_use]
    pub fn is_online(&self) -> bool {
        self.0.pointer("/uplink/state").and_then(Value::as_str) == Some("online")
    }

    /// A text by its JSON pointer.
    #[must_use]
    pub fn text(&self, pointer: &str) -> Option<&str> {
        self.0.pointer(pointer)?.as_str()
    }

    /// A number by its JSON pointer.
    #[must_use]
    pub fn number(&self, pointer: &str) -> Option<u64> {
        self.0.pointer(pointer)?.as_u64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A shell script in place of the agent: this crate does not know the binary.
    fn agent(dir: &Path, script: &str) -> Agent {
        let binary = dir.join("agent.sh");
        // Written by another process: a file that this one has open while another test forks is "busy" when run.
        let mut writer = Command::new("sh");
        writer.args(["-c", r#"printf '#!/bin/sh\n%s\n' "$1" > "$0" && chmod 755 "$0""#]).arg(&binary).arg(script);
        assert!(writer.status().expect("sh is everywhere").success());
        let file = |name: &str| dir.join(name);
        let setup = Setup {
            gateway: "gw-01".to_owned(),
            site: "depot-a".to_owned(),
            brokers: vec!["mqtts://127.0.0.1:1".to_owned()],
            tls: Files { ca: file("ca.pem"), certificate: file("gw.pem"), key: file("gw.key") },
            meters: vec![MeterSetup::sdm630("grid-main", "127.0.0.1:2")],
            line: None,
            keep_alive: "5s",
            uplink: String::new(),
            extra: String::new(),
        };
        Agent::new(&binary, dir, &setup).expect("a writable directory")
    }

    #[test]
    fn the_configuration_names_every_peer() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let toml = fs::read_to_string(agent(dir.path(), "").config()).expect("it was written");
        for part in ["brokers = [\"mqtts://127.0.0.1:1\"]", "[device.grid-main]", "address = \"127.0.0.1:2\"", "gw.key"]
        {
            assert!(toml.contains(part), "{toml}");
        }
    }

    #[test]
    fn status_is_read_from_the_command_and_its_refusal_is_told() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let journal =
            r#"{"journal":{"waiting_entries":3,"unsynced_entries":1,"durable":40},"uplink":{"state":"online"}}"#;
        let talks = agent(dir.path(), &format!("test \"$1 $2\" = 'status --json' && echo '{journal}'"));
        let status = talks.status().expect("it answers");
        assert_eq!((status.waiting(), status.durable(), status.is_online()), (Some(4), Some(40), true));
        let error = agent(dir.path(), "echo nobody is at home >&2; exit 3").status().unwrap_err();
        assert!(error.to_string().contains("nobody is at home"), "{error}");
    }
}
