//! Where to probe: a serial port or a TCP server, as the command line says it; and progress on stderr.

use std::io::{IsTerminal, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use hal::{BusError, Holding, Parity, ReadRequest, RegisterBus, RtuBus, SerialLine, StopBits, TcpBus, UnitId};

use crate::cli::show::note;
use crate::config;
use crate::net::Endpoint;
use crate::spec::{RegisterBlock, RegisterTable};

#[derive(Debug, clap::Args)]
pub(super) struct Link {
    /// A serial port (/dev/ttyS1) or a server (10.0.0.17, meter.local:1502)
    target: String,
    /// Of a serial line
    #[arg(long, default_value_t = 19_200)]
    baud: u32,
    /// Of a serial line: none, even, odd
    #[arg(long, default_value = "even", value_parser = Parity::ALL.map(Parity::as_str))]
    parity: String,
    /// Of a serial line
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=2))]
    stop_bits: u8,
    /// The server hands the frames of a serial line through (RTU over TCP)
    #[arg(long)]
    rtu: bool,
    /// The longest that a unit may take to answer
    #[arg(long, value_name = "DURATION", value_parser = config::duration, default_value = "300ms")]
    timeout: Duration,
}

/// An open way to units.
pub(super) enum Bus {
    Tcp(Box<TcpBus>),
    Rtu(Box<RtuBus>),
}

impl Link {
    pub(super) fn is_serial(&self) -> bool {
        self.target.starts_with('/')
    }

    pub(super) fn open(&self) -> Result<Bus> {
        if self.is_serial() {
            match hal::holder_of(Path::new(&self.target)) {
                // As root it could be opened all the same, and both would speak at once.
                Holding::Process(holder) if holder.name.starts_with("v2g-edge") => {
                    bail!("{} is busy: {}", self.target, hal::cure(&self.target, &std::io::Error::other("busy")));
                }
                // The other end of a pseudo-terminal, a multiplexer, a logger, or another master.
                Holding::Process(holder) => note(format_args!(
                    "{} is open in {holder}, too; a line has one master: if answers are missing or not right, stop that",
                    self.target
                )),
                // What may not be looked at is no reason to warn: at each start of a person who is not root.
                Holding::Nobody | Holding::User(_) | Holding::Unclear(_) => {}
            }
            let line = SerialLine {
                path: PathBuf::from(&self.target),
                baud: self.baud,
                parity: Parity::ALL.into_iter().find(|parity| parity.as_str() == self.parity).unwrap_or(Parity::Even),
                stop_bits: if self.stop_bits == 2 { StopBits::Two } else { StopBits::One },
                rs485: false,
            };
            return Ok(Bus::Rtu(Box::new(RtuBus::new(line, self.timeout))));
        }
        let Endpoint { host, port } = Endpoint::parse(&self.target, 502).map_err(|invalid| {
            anyhow!("\"{}\" {invalid}; give a serial port (/dev/ttyS1) or host:port", self.target)
        })?;
        Ok(if self.rtu {
            Bus::Rtu(Box::new(RtuBus::over_tcp(host, port, self.timeout)))
        } else {
            Bus::Tcp(Box::new(TcpBus::new(host, port, self.timeout)))
        })
    }

    /// The lines of a configuration that lead here: the bus and, of a device, its address.
    pub(super) fn config_lines(&self) -> (String, Option<String>) {
        if self.is_serial() {
            let (port, baud, parity, stop_bits) = (&self.target, self.baud, &self.parity, self.stop_bits);
            let wire = format!(
                "modbus-rtu = {{ port = \"{port}\", baud = {baud}, parity = \"{parity}\", stop_bits = {stop_bits} }}"
            );
            return (format!("[bus.meters]\n{wire}\n"), None);
        }
        let framing = if self.rtu { "{ framing = \"rtu\" }" } else { "{}" };
        (format!("[bus.lan]\nmodbus-tcp = {framing}\n"), Some(format!("address = \"{}\"\n", self.target)))
    }

    pub(super) fn bus_name(&self) -> &'static str {
        if self.is_serial() { "meters" } else { "lan" }
    }
}

impl Bus {
    pub(super) async fn read(&mut self, unit: UnitId, block: RegisterBlock) -> Result<Vec<u16>, BusError> {
        let unit = block.unit.and_then(|own| UnitId::try_from(own).ok()).unwrap_or(unit);
        let table = match block.table {
            RegisterTable::Holding => hal::Table::Holding,
            RegisterTable::Input => hal::Table::Input,
            RegisterTable::Coil => hal::Table::Coil,
            RegisterTable::Discrete => hal::Table::Discrete,
        };
        let request = ReadRequest { table, start: block.start, count: block.count };
        match self {
            Self::Tcp(bus) => bus.read(unit, request).await,
            Self::Rtu(bus) => bus.read(unit, request).await,
        }
    }
}

impl Bus {
    /// How long the unit does not hear after an answer, as far as it was found.
    pub(super) fn pause(&mut self, unit: UnitId) -> Option<Duration> {
        let times = match self {
            Self::Tcp(bus) => bus.times(),
            Self::Rtu(bus) => bus.times(),
        };
        let pauses = times.pauses();
        let of_it = pauses.into_iter().filter(|pause| pause.unit.is_none_or(|of| of == unit.get()));
        of_it.map(|pause| pause.known).max()
    }
}

/// Whether a failure means that no more can be asked at all.
pub(super) fn is_hopeless(error: &BusError) -> bool {
    matches!(error, BusError::Unreachable { .. } | BusError::Gone { .. })
}

/// Whether somebody was heard, be it to refuse.
pub(super) fn is_heard(answer: &Result<Vec<u16>, BusError>) -> bool {
    match answer {
        Ok(_) => true,
        // A gateway's word that nobody answered.
        Err(BusError::Exception { code, .. }) => !matches!(code, 10 | 11),
        Err(BusError::Late { .. }) => true,
        Err(_) => false,
    }
}

/// `1-16,247`.
pub(super) fn units(text: &str) -> Result<Vec<UnitId>> {
    let mut units = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number =
            |text: &str| text.trim().parse::<u8>().map_err(|_| anyhow!("\"{text}\" is no unit; write 1-16,247"));
        for id in number(first)?..=number(last)? {
            units.push(UnitId::try_from(id).map_err(|invalid| anyhow!("unit {invalid}"))?);
        }
    }
    if units.is_empty() {
        bail!("no unit is asked for; write --units 1-16");
    }
    Ok(units)
}

/// Runs the work of a probe to its end on a runtime of its own.
pub(super) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// What goes on, on one line of stderr that is written over where a person watches, and on lines of its own elsewhere.
pub(super) struct Progress {
    is_terminal: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { is_terminal: std::io::stderr().is_terminal() }
    }

    /// A step of many: shown to a person only.
    pub(super) fn step(&self, text: &str) {
        if self.is_terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K{text}");
        }
    }

    /// Something worth keeping.
    pub(super) fn tell(&self, text: &str) {
        let clear = if self.is_terminal { "\r\x1b[K" } else { "" };
        let _ = writeln!(std::io::stderr(), "{clear}{text}");
    }

    pub(super) fn end(&self) {
        if self.is_terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_as_people_write_them() {
        let ids: Vec<u8> = units("1-3, 247").expect("units").iter().map(|unit| unit.get()).collect();
        assert_eq!(ids, [1, 2, 3, 247]);
        assert!(units("250").is_err() && units("a").is_err());
    }
}
