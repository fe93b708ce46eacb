//! CAN: frames that pass on a bus, read as a DBC file describes them.
//!
//! In: a bus, and the signals that the devices on it are made of. Out: a sample for each frame that concerns a device,
//! with the values of the points that it changes; and what happens to the bus, as events.
//!
//! - Nothing is sent, not even an acknowledgement where the controller can be kept from it.
//! - The kernel hands over only the ids that are wanted. Signals at 100 Hz are samples at 100 Hz: the pipeline makes
//!   windows of them.
//! - What does not come for a multiple of its cycle is missing, once a second; what never came, too, unless it need not.
//! - Frames that were lost (receive buffer, controller, driver) are counted, and told as an event at most once a second.
//! - Messages of J1939 that are longer than a frame are put together (`transport`); at most 32 at once on a bus.
//! - Per bus at most 1024 ids are told apart in the rates, and 512 in the kernel's filter; beyond that all frames are taken.

mod decode;
mod load;
mod task;
mod tracker;
mod transport;

use std::fmt;
use std::path::PathBuf;

use hal::can::{FrameFilter, FrameId, LinkSettings, LogPace};

pub use decode::{Decoded, Decoder, Number};
pub use load::{Load, Rates, Speeds};
pub use task::run;
pub use transport::{Message, Transport};

use crate::spec::{BusId, DeviceIx, DeviceSpec, FrameMatch};

/// One bus with the devices that are heard on it.
#[derive(Debug, Clone)]
pub struct Bus {
    /// Its name.
    pub bus: BusId,
    /// Where its frames come from.
    pub port: Port,
    /// How fast it is, for its load.
    pub speeds: Speeds,
    /// The devices on it; not empty.
    pub devices: Vec<Target>,
}

/// Where the frames of a bus come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Port {
    /// An interface of the kernel.
    Interface(LinkSettings),
    /// A recording.
    Log {
        /// By `candump -L`.
        path: PathBuf,
        /// How fast it is played.
        pace: LogPace,
        /// Only what was recorded on this interface.
        interface: Option<String>,
    },
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interface(settings) => settings.interface.fmt(f),
            Self::Log { path, .. } => path.display().fmt(f),
        }
    }
}

/// One device on a bus.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its place in the plan.
    pub ix: DeviceIx,
    /// What it is made of.
    pub spec: DeviceSpec,
}

/// What the devices of a bus are made of.
fn wanted(bus: &Bus) -> Vec<FrameMatch> {
    let points = bus.devices.iter().flat_map(|target| target.spec.points.iter());
    let signals = points.filter_map(|point| point.signal()).flat_map(|point| point.formula.signals());
    let mut frames: Vec<FrameMatch> = signals.map(|signal| signal.frame).collect();
    frames.sort_unstable();
    frames.dedup();
    frames
}

/// The frames that carry it: a parameter group may come in several.
fn filters(bus: &Bus) -> Vec<FrameFilter> {
    let mut frames = wanted(bus);
    if frames.iter().any(|frame| frame.is_group()) {
        frames.extend(transport::frames());
    }
    let filter = |frame: FrameMatch| {
        let id = FrameId::new(frame.id, frame.extended).ok()?;
        Some(FrameFilter { id, mask: frame.mask })
    };
    frames.into_iter().filter_map(filter).collect()
}
