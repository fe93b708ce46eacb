//! What can happen to a box in a depot, by name.

use std::time::Duration;

use crate::disk::Remains;

/// One thing that goes wrong. A rig injects it and, where it does not pass by itself, heals it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Requests on the RS-485 line are not heard.
    Silence,
    /// Bytes of the answers on the RS-485 line are others.
    Noise,
    /// Answers on the RS-485 line take this much longer.
    LateReply(Duration),
    /// The first CAN controller leaves the bus.
    BusOff,
    /// The power goes; of what the disk had not flushed this remains. Healed by the next boot.
    PowerCut(Remains),
    /// Not a byte is free on the data disk.
    DiskFull,
    /// Writes to the data disk fail with EIO.
    DiskError,
    /// Each write and flush takes this much longer.
    SlowDisk(Duration),
    /// The broker's sockets stay open, and it does nothing.
    BrokerMute,
    /// The cable is out.
    LinkDown,
    /// The wall clock is set to this second since 1970. Does not heal: set it again.
    ClockJump(i64),
    /// The agent does nothing any more, and does not end.
    Hang,
}

impl Fault {
    /// How a rig file names what injects it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Silence => "silence",
            Self::Noise => "noise",
            Self::LateReply(_) => "late_reply",
            Self::BusOff => "bus_off",
            Self::PowerCut(_) => "power_cut",
            Self::DiskFull => "disk_full",
            Self::DiskError => "disk_error",
            Self::SlowDisk(_) => "slow_disk",
            Self::BrokerMute => "broker_mute",
            Self::LinkDown => "link_down",
            Self::ClockJump(_) => "clock_jump",
            Self::Hang => "hang",
        }
    }
}
