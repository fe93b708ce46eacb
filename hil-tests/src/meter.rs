//! A real Modbus TCP server, pymodbus, that plays an Eastron SDM630 whose registers all change every 100 ms.
//!
//! What it had and when goes to a file (`meter.py` says how), from which [`Meter::truth`] makes what the oracle holds
//! the delivered values against. It can die, be revived on the same port (its counters go on), and be frozen.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde::Deserialize;

use crate::oracle::Truth;
use crate::port;
use crate::process::{Process, ProcessError};
use crate::wait::{TimedOut, unix_ns, wait_for};

/// Python and pymodbus take 0.5 s to start on a quiet machine.
const START_WITHIN: Duration = Duration::from_secs(30);
/// Somebody may take a free port before we use it.
const PORT_TRIES: usize = 5;
/// The interpreter in which `tests/run` has installed pymodbus.
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/test-python/bin/python3");

/// What can go wrong with the meter.
#[derive(Debug, thiserror::Error)]
pub enum MeterError {
    /// A file of it could not be written or read.
    #[error("{path:?} cannot be written or read")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its process misbehaved.
    #[error("the meter's process")]
    Process(#[from] ProcessError),
    /// It started and does not answer, or ended at once; nothing runs.
    #[error("the meter does not listen (tests/run installs pymodbus); its log:\n{log}")]
    Mute {
        /// Its last lines.
        log: String,
        /// How long it had.
        #[source]
        source: TimedOut,
    },
}

/// How its frames are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Modbus TCP.
    Tcp,
    /// Modbus RTU, carried by TCP: what hangs on a [`crate::line`].
    Rtu,
}

/// A meter. Dropping it kills it.
#[derive(Debug)]
pub struct Meter {
    framing: Framing,
    listen: Ipv4Addr,
    dir: PathBuf,
    port: u16,
    process: Option<Process>,
    /// When nobody could read it any more, for each time that it died.
    deaths_ns: Vec<i64>,
}

impl Meter {
    /// Starts one that speaks Modbus TCP.
    pub fn start(dir: &Path) -> Result<Self, MeterError> {
        Self::start_with(dir, Framing::Tcp, Ipv4Addr::LOCALHOST)
    }

    /// Starts one with its files in `dir`, and waits until it listens. Unit id 1.
    pub fn start_with(dir: &Path, framing: Framing, listen: Ipv4Addr) -> Result<Self, MeterError> {
        fs::create_dir_all(dir).map_err(|source| MeterError::File { path: dir.to_owned(), source })?;
        let mut meter = Self { framing, listen, dir: dir.to_owned(), port: 0, process: None, deaths_ns: Vec::new() };
        let mut tries = 1;
        loop {
            meter.port = port::free_port();
            match meter.revive() {
                Err(MeterError::Mute { .. }) if tries < PORT_TRIES => tries += 1,
                Err(error) => return Err(error),
                Ok(()) => return Ok(meter),
            }
        }
    }

    /// Where it listens: `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its loopback port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts it again on the same port.
    ///
    /// # Panics
    /// If it runs already.
    pub fn revive(&mut self) -> Result<(), MeterError> {
        assert!(self.process.is_none(), "the meter runs already");
        let script = self.dir.join("meter.py");
        fs::write(&script, include_str!("meter.py"))
            .map_err(|source| MeterError::File { path: script.clone(), source })?;
        let first_step = self.steps()?.last().map_or(0, |step| step.step + 1);
        let mut command = Command::new(python());
        command
            .arg(&script)
            .arg(self.listen.to_string())
            .arg(self.port.to_string())
            .arg(self.truth_file())
            .arg(first_step.to_string());
        command.arg(match self.framing {
            Framing::Tcp => "tcp",
            Framing::Rtu => "rtu",
        });
        let mut process = Process::start("meter.py", &mut command, &self.dir.join("meter.log"))?;
        let listening = wait_for(START_WITHIN, "the meter to listen", || match process.ended() {
            Ok(None) if port::accepts(self.port) => Ok(()),
            Ok(None) => Err("no connection".to_owned()),
            Ok(Some(status)) => Err(format!("it ended with {status}")),
            Err(error) => Err(error.to_string()),
        });
        listening.map_err(|source| MeterError::Mute { log: process.log_tail(), source })?;
        self.process = Some(process);
        Ok(())
    }

    /// SIGKILL: connections are reset, later ones refused.
    pub fn die(&mut self) -> Result<(), MeterError> {
        if let Some(mut process) = self.process.take() {
            process.kill9()?;
            self.deaths_ns.push(unix_ns());
        }
        Ok(())
    }

    /// SIGSTOP: connections stay open and nothing answers. What it had last stays readable to nobody.
    pub fn freeze(&mut self) -> Result<(), MeterError> {
        self.signal(Signal::STOP)?;
        self.deaths_ns.push(unix_ns());
        Ok(())
    }

    /// SIGCONT.
    pub fn thaw(&mut self) -> Result<(), MeterError> {
        self.signal(Signal::CONT)
    }

    /// What it had until now, by the wire's names and units, for the device with this tag.
    pub fn truth(&self, device: &str, tolerance: Duration) -> Result<Truth, MeterError> {
        let mut truth = Truth::new(device, tolerance);
        let mut deaths = self.deaths_ns.iter().copied().peekable();
        for step in self.steps()? {
            if let Some(death) = deaths.next_if(|&death| death <= step.unix_ns) {
                truth.silence(death);
            }
            for (field, value) in &step.values {
                truth.hold(field, step.unix_ns, value / divisor(field));
            }
        }
        deaths.for_each(|death| truth.silence(death));
        Ok(truth)
    }

    fn signal(&mut self, signal: Signal) -> Result<(), MeterError> {
        self.process.as_mut().map_or(Ok(()), |process| process.signal(signal)).map_err(MeterError::from)
    }

    fn truth_file(&self) -> PathBuf {
        self.dir.join("truth.jsonl")
    }

    fn steps(&self) -> Result<Vec<Step>, MeterError> {
        let path = self.truth_file();
        match fs::read_to_string(&path) {
            // A line without its end is one that the meter has not finished: nobody can have read that step.
            Ok(text) => Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(MeterError::File { path, source }),
        }
    }
}

#[derive(Deserialize)]
struct Step {
    unix_ns: i64,
    step: u64,
    values: BTreeMap<String, f64>,
}

/// From the meter's unit (W, var, VA) to the wire's (kW, kvar, kVA).
fn divisor(field: &str) -> f64 {
    if field.starts_with("power_") && !field.starts_with("power_factor") { 1e3 } else { 1.0 }
}

fn python() -> PathBuf {
    let own = PathBuf::from(PYTHON);
    if own.is_file() { own } else { crate::process::program("python3") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_are_told_in_kilo_and_the_rest_as_it_is() {
        for (field, by) in [("power_flow", 1e3), ("power_demand_peak", 1e3), ("power_factor_l1", 1.0), ("voltage", 1.0)]
        {
            assert!((divisor(field) - by).abs() < f64::EPSILON, "{field}");
        }
    }
}
