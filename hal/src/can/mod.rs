//! Buses on which frames pass: CAN, classic and FD. There is no way here to send one.
//!
//! | | where the frames come from |
//! |---|---|
//! | [`CanSocket`] | an interface of the kernel (SocketCAN): set up by netlink, filtered by the kernel, watched |
//! | [`CanLog`] | a recording by `candump -L`, at its own pace or as fast as it is taken |
//!
//! [`CanSocket`] never gives up: an interface that is not there, is down, or vanishes is a state of the bus, told as
//! [`Heard::State`], and looked for again every second.

mod fault;
mod frame;
mod link;
mod log;
mod receive;
mod socket;

use std::fmt;
use std::future::Future;

pub use fault::{Fault, faults};
pub use frame::{Frame, FrameId, InvalidFrame};
pub use link::{LinkSettings, Timing};
pub use log::{CanLog, LogContent, LogLine, LogPace, parse_log_line};
pub use socket::{CanSocket, Counters, FrameFilter};

/// What is heard on a bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A frame that somebody sent.
    Frame(Received),
    /// The bus or our way to it is in another state than before.
    State(BusState, String),
    /// The controller was restarted after a bus-off.
    Restarted,
    /// So many frames did not fit into the receive buffer of our socket since this was last told.
    Dropped(u64),
    /// So many times did a frame not fit into the controller's own buffer since this was last told.
    Overrun(u64),
    /// So many errors did the controller see on the bus since this was last told.
    BusErrors(u64),
    /// So many lines of a recording could not be read; the first of them, and why.
    Unreadable(u64, String),
    /// The recording is over; nothing more will come.
    End,
}

/// A frame with its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// When the kernel took it from the controller, or when it was recorded: ns since 1970-01-01 UTC. `None` if it was
    /// not told.
    pub utc_ns: Option<i64>,
    /// What came.
    pub frame: Frame,
}

/// How a bus is, or why it cannot be heard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum BusState {
    /// There is no such interface, or it may not be used.
    #[default]
    Absent,
    /// The interface is down.
    Down,
    /// The controller is stopped or asleep.
    Stopped,
    /// All is well (ISO 11898-1: error active). A virtual interface is always so.
    Active,
    /// An error counter has reached 96.
    Warning,
    /// An error counter has reached 128: the controller may no longer signal errors.
    Passive,
    /// The transmit error counter has passed 255: the controller has left the bus.
    BusOff,
}

impl BusState {
    /// The word in events and status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Down => "down",
            Self::Stopped => "stopped",
            Self::Active => "active",
            Self::Warning => "warning",
            Self::Passive => "passive",
            Self::BusOff => "bus_off",
        }
    }

    /// Whether frames can come in.
    #[must_use]
    pub fn is_heard(self) -> bool {
        matches!(self, Self::Active | Self::Warning | Self::Passive)
    }
}

impl fmt::Display for BusState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A bus on which frames are heard.
pub trait FrameBus: Send {
    /// Waits until something is heard, and appends all that was, in order. Comes back at least once a second, also with
    /// nothing. Cancel-safe: what was heard and not yet appended is appended by the next call.
    fn hear(&mut self, into: &mut Vec<Heard>) -> impl Future<Output = ()> + Send;

    /// What the interface counts by itself, of all frames, also those that a filter keeps from us.
    fn counters(&mut self) -> Option<Counters>;
}
