//! The box, virtual or real: what a rig can do to it.

use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::bench::{self, Bench};
use super::feed::Feed;
use super::qemu::{self, Boot, Qemu};
use super::{RigError, io_error};
use crate::line::Line;
use crate::process::tail;

/// A rig file.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Settings {
    /// A box that QEMU emulates.
    Qemu(qemu::Settings),
    /// A box over SSH.
    Bench(bench::Settings),
}

impl Settings {
    /// This machine, as the box sees it.
    pub(super) fn host(&self) -> &str {
        match self {
            Self::Qemu(qemu) => &qemu.host,
            Self::Bench(bench) => &bench.host,
        }
    }

    /// This machine, as the box sees it where the meters are.
    pub(super) fn meter_host(&self) -> &str {
        match self {
            Self::Qemu(qemu) => qemu.bus.as_ref().map_or(&qemu.host, |bus| &bus.host),
            Self::Bench(bench) => &bench.host,
        }
    }

    /// Where the meter on the network listens.
    pub(super) fn meter_listens(&self) -> Ipv4Addr {
        match self {
            Self::Qemu(qemu) if qemu.bus.is_some() => Ipv4Addr::UNSPECIFIED,
            Self::Qemu(_) | Self::Bench(_) => self.listen(),
        }
    }

    /// The virtual box that starts from its disk.
    pub(super) fn firmware(&self) -> Option<&qemu::Settings> {
        match self {
            Self::Qemu(qemu) if qemu.firmware.is_some() => Some(qemu),
            Self::Qemu(_) | Self::Bench(_) => None,
        }
    }

    /// Where broker and meter listen, so that the box finds them.
    pub(super) fn listen(&self) -> Ipv4Addr {
        match self {
            // The emulator hands connections to its host on to loopback.
            Self::Qemu(_) => Ipv4Addr::LOCALHOST,
            Self::Bench(_) => Ipv4Addr::UNSPECIFIED,
        }
    }

    /// The box's end of the RS-485 line.
    pub(super) fn serial_port(&self) -> &str {
        match self {
            Self::Qemu(qemu) => &qemu.serial_port,
            Self::Bench(bench) => &bench.serial_port,
        }
    }

    /// The box's watchdog.
    pub(super) fn watchdog(&self) -> &str {
        match self {
            Self::Qemu(qemu) => &qemu.watchdog,
            Self::Bench(bench) => &bench.watchdog,
        }
    }

    /// From power on to a shell.
    pub(super) fn boot_within(&self) -> Duration {
        Duration::from_secs(match self {
            Self::Qemu(qemu) => qemu.boot_within_s,
            Self::Bench(bench) => bench.boot_within_s,
        })
    }
}

/// A box with its power on.
#[derive(Debug)]
pub(super) enum Machine {
    Qemu(Qemu),
    Bench(Bench),
}

impl Machine {
    /// In the box's shell.
    pub(super) fn run(&mut self, command: &str, within: Duration) -> Result<String, RigError> {
        Ok(match self {
            Self::Qemu(qemu) => qemu.run(command, within)?,
            Self::Bench(bench) => bench.run(command)?,
        })
    }

    /// Wires the agent's status to the feed and the serial port to the line.
    pub(super) fn wire(&mut self, feed: &Feed, line: &Line, meter: u16) -> Result<(), RigError> {
        match self {
            Self::Qemu(qemu) => {
                feed.listen(qemu.status_stream().map_err(io_error("the status port"))?);
                let serial = qemu.serial().map_err(io_error("the serial port"))?;
                let other_way = serial.try_clone().map_err(io_error("the serial port"))?;
                line.attach(serial, other_way, meter)
            }
            Self::Bench(bench) => {
                feed.listen(bench.status_stream().map_err(io_error("the status stream"))?);
                let serial = bench.serial()?;
                let other_way = serial.try_clone().map_err(io_error("the adapter"))?;
                line.attach(serial, other_way, meter)
            }
        }
        .map_err(io_error("the line"))
    }

    /// The box's end of a CAN adapter on its second serial port.
    pub(super) fn adapter(&mut self) -> Result<std::os::unix::net::UnixStream, RigError> {
        match self {
            Self::Qemu(qemu) => qemu.adapter().map_err(io_error("the adapter's port")),
            Self::Bench(_) => Err(RigError::NotOnThisRig("a CAN adapter that is played")),
        }
    }

    /// The end of what it has logged.
    pub(super) fn console_tail(&mut self) -> String {
        match self {
            Self::Qemu(qemu) => tail(qemu.console()),
            Self::Bench(bench) => bench.console(),
        }
    }

    /// All that it has logged in this boot.
    pub(super) fn console(&mut self) -> io::Result<String> {
        match self {
            Self::Qemu(qemu) => std::fs::read(qemu.console()).map(|text| String::from_utf8_lossy(&text).into_owned()),
            Self::Bench(bench) => Ok(bench.console()),
        }
    }

    /// Puts the cable in or pulls it out.
    pub(super) fn set_link(&mut self, up: bool) -> Result<(), RigError> {
        match self {
            Self::Qemu(qemu) => qemu.set_link(up).map_err(io_error("the link")),
            Self::Bench(bench) => bench.set_link(up),
        }
    }

    /// How often it was reset since its power came on.
    pub(super) fn resets(&mut self) -> usize {
        match self {
            Self::Qemu(qemu) => qemu.watchdog_fired(),
            Self::Bench(bench) => bench.resets(),
        }
    }

    /// After a reset: waits for its shell, and wires what the reset has cut.
    pub(super) fn wait_for_shell(&mut self, within: Duration) -> Result<(), RigError> {
        match self {
            // Its ports and their streams outlive the guest.
            Self::Qemu(qemu) => Ok(qemu.wait_for_shell(within)?),
            Self::Bench(_) => Err(RigError::NotOnThisRig("wiring after a reset: cut the power instead")),
        }
    }

    /// The power goes.
    pub(super) fn power_off(self) -> Result<(), RigError> {
        match self {
            Self::Qemu(qemu) => Ok(qemu.power_off()?),
            Self::Bench(bench) => bench.power_off(),
        }
    }
}

/// What a boot of either kind needs of the rig.
#[derive(Debug)]
pub(super) struct PowerOn<'a> {
    pub(super) dir: &'a Path,
    pub(super) overlay: &'a Path,
    pub(super) boot: Option<Boot<'a>>,
    pub(super) number: u32,
}

impl PowerOn<'_> {
    /// Power on, up to a shell; the agent starts by itself.
    pub(super) fn go(self, settings: &Settings) -> Result<Machine, RigError> {
        match (settings, self.boot) {
            (Settings::Bench(bench), _) => {
                if self.number > 1 {
                    Bench::power_on(bench)?;
                }
                Ok(Machine::Bench(Bench::boot(bench, self.overlay, self.dir, self.number == 1)?))
            }
            (Settings::Qemu(settings), Some(boot)) => Ok(Machine::Qemu(Qemu::boot(settings, &boot)?)),
            (Settings::Qemu(_), None) => Err(RigError::NoPower),
        }
    }
}
