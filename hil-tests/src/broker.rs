//! A real mosquitto with the depot's rules: client certificates, one subtree per gateway, and a memory on disk.
//!
//! Two listeners, both on loopback: TLS with mandatory client certificates for gateways (the common name is the
//! user, who may only write below `v2g/+/NAME/`), and a plain one for the consumer that judges. Nothing that a
//! persistent session is owed is dropped for its number or size, so that a gap is never the broker's.
//!
//! [`Broker::stop`] writes everything down before it ends. [`Broker::kill9`] does not: what was acknowledged in the
//! last second may be gone, which is mosquitto's promise and not the agent's. Judge conservation over the former.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::certs::Files;
use crate::port;
use crate::process::{Process, ProcessError, program};
use crate::wait::{TimedOut, wait_for};

/// From the start to a listening socket. mosquitto takes about 20 ms; the rest is for a busy machine.
const START_WITHIN: Duration = Duration::from_secs(15);
/// From SIGTERM to the end: it writes its database first.
const STOP_WITHIN: Duration = Duration::from_secs(15);
/// Somebody may take a free port before we use it; several times in a row is no accident.
const PORT_TRIES: usize = 5;

/// What can go wrong with the broker.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// Its files could not be written; nothing runs.
    #[error("{path:?} cannot be written")]
    Write {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its process misbehaved.
    #[error("the broker's process")]
    Process(#[from] ProcessError),
    /// It started and does not listen, or ended at once; nothing runs.
    #[error("the broker does not listen; its log:\n{log}")]
    Mute {
        /// Its last lines.
        log: String,
        /// How long it had.
        #[source]
        source: TimedOut,
    },
}

/// What differs from test to test.
#[derive(Debug, Clone)]
pub struct Options {
    /// mosquitto's `max_inflight_messages`: the Receive Maximum that the agent is told.
    pub receive_maximum: u16,
    /// Where it listens for gateways; the consumers' port is on loopback always.
    pub listen: Ipv4Addr,
    /// The port for gateways, where it must be a certain one: in a network of the test's own it is free.
    pub tls_port: Option<u16>,
    /// More lines for `mosquitto.conf`.
    pub extra: String,
}

impl Default for Options {
    fn default() -> Self {
        Self { receive_maximum: 100, listen: Ipv4Addr::LOCALHOST, tls_port: None, extra: String::new() }
    }
}

/// A broker. Dropping it kills it.
#[derive(Debug)]
pub struct Broker {
    dir: PathBuf,
    options: Options,
    server: Files,
    tls_port: u16,
    plain_port: u16,
    process: Option<Process>,
}

impl Broker {
    /// Starts one with its files in `dir`, and waits until it listens.
    pub fn start(dir: &Path, server: &Files, options: Options) -> Result<Self, BrokerError> {
        fs::create_dir_all(dir).map_err(|source| BrokerError::Write { path: dir.to_owned(), source })?;
        let mut broker =
            Self { dir: dir.to_owned(), options, server: server.clone(), tls_port: 0, plain_port: 0, process: None };
        let mut tries = 1;
        loop {
            broker.tls_port = broker.options.tls_port.unwrap_or_else(port::free_port);
            broker.plain_port = port::free_port();
            match broker.start_again() {
                Err(BrokerError::Mute { .. }) if tries < PORT_TRIES => tries += 1,
                Err(error) => return Err(error),
                Ok(()) => return Ok(broker),
            }
        }
    }

    /// Where gateways connect.
    #[must_use]
    pub fn url(&self) -> String {
        format!("mqtts://127.0.0.1:{}", self.tls_port)
    }

    /// The port with client certificates.
    #[must_use]
    pub fn tls_port(&self) -> u16 {
        self.tls_port
    }

    /// The port without, for consumers on this machine.
    #[must_use]
    pub fn plain_port(&self) -> u16 {
        self.plain_port
    }

    /// Starts it on the same ports with what it remembers, and waits until it listens.
    ///
    /// # Panics
    /// If it runs already.
    pub fn start_again(&mut self) -> Result<(), BrokerError> {
        assert!(self.process.is_none(), "the broker runs already");
        let config = self.write_files()?;
        let log = self.log();
        let mut command = Command::new(program("mosquitto"));
        command.arg("-c").arg(&config);
        let mut process = Process::start("mosquitto", &mut command, &log)?;
        let ports = [self.tls_port, self.plain_port];
        let listening = wait_for(START_WITHIN, "the broker to listen", || match process.ended() {
            // Both: an answer alone could come from a stranger on our port.
            Ok(None) if ports.into_iter().all(port::accepts) => Ok(true),
            Ok(None) => Err("no connection".to_owned()),
            Ok(Some(status)) => Err(format!("it ended with {status}")),
            Err(error) => Err(error.to_string()),
        });
        match listening {
            Ok(_) => self.process = Some(process),
            Err(source) => return Err(BrokerError::Mute { log: process.log_tail(), source }),
        }
        Ok(())
    }

    /// SIGTERM: it writes down what it owes, and ends.
    pub fn stop(&mut self) -> Result<(), BrokerError> {
        if let Some(mut process) = self.process.take() {
            process.terminate(STOP_WITHIN)?;
        }
        Ok(())
    }

    /// SIGKILL. What it took in the last second may be forgotten.
    pub fn kill9(&mut self) -> Result<(), BrokerError> {
        if let Some(mut process) = self.process.take() {
            process.kill9()?;
        }
        Ok(())
    }

    /// SIGSTOP: its sockets stay open and nothing answers, as behind a cut radio link.
    pub fn freeze(&mut self) -> Result<(), BrokerError> {
        self.signal(Signal::STOP)
    }

    /// SIGCONT.
    pub fn thaw(&mut self) -> Result<(), BrokerError> {
        self.signal(Signal::CONT)
    }

    /// Where it writes what it does.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir.join("mosquitto.log")
    }

    fn signal(&mut self, signal: Signal) -> Result<(), BrokerError> {
        self.process.as_mut().map_or(Ok(()), |process| process.signal(signal)).map_err(BrokerError::from)
    }

    fn write_files(&self) -> Result<PathBuf, BrokerError> {
        let write = |name: &str, text: &str| {
            let path = self.dir.join(name);
            fs::write(&path, text).map(|()| path.clone()).map_err(|source| BrokerError::Write { path, source })
        };
        // The second pattern is one because mosquitto 2.0 knows nothing else of a session that it has read back from
        // disk and whose client is still away: under a `topic` rule it would drop what that session is owed. What
        // stands before the first `user` holds for those without a name: the plain listener.
        let acl = write(
            "acl",
            "topic readwrite #\n\nuser auditor\ntopic write hil/probe\n\npattern write v2g/+/%u/#\npattern read #\n",
        )?;
        let Files { ca, certificate, key } = &self.server;
        let config = [
            // Started by root it would change to a user who cannot read our files.
            if rustix::process::getuid().is_root() { "user root".to_owned() } else { String::new() },
            format!("persistence true\npersistence_location {}/\nautosave_interval 1", self.dir.display()),
            "max_queued_messages 0\nmax_queued_bytes 0".to_owned(),
            format!("set_tcp_nodelay true\nmax_inflight_messages {}", self.options.receive_maximum),
            format!("allow_anonymous true\nacl_file {}", acl.display()),
            // To stderr, which is the log file.
            "log_dest stderr\nlog_type error\nlog_type warning\nlog_type notice\nlog_type information".to_owned(),
            "connection_messages true\nlog_timestamp_format %H:%M:%S".to_owned(),
            self.options.extra.clone(),
            format!("listener {} 127.0.0.1", self.plain_port),
            format!("listener {} {}", self.tls_port, self.options.listen),
            format!("cafile {}\ncertfile {}\nkeyfile {}", ca.display(), certificate.display(), key.display()),
            "require_certificate true\nuse_identity_as_username true".to_owned(),
        ];
        write("mosquitto.conf", &(config.join("\n") + "\n"))
    }
}
