//! Modbus: registers that are read on a schedule.
//!
//! In: a [`Port`] with all that is on it. Out: a sample for every block that was due, also when nothing came.
//!
//! - When what is read, and who waits how long for whom: `schedule.rs`; which units and blocks answer: `unit.rs`; what waits to
//!   be done on the port: `queue.rs`. All pure.
//! - A device answers, answers in part, or is silent. A change is told once, after all that was due has shown it (`parts.rs`).
//! - What a device allows of merged requests is learned (`limits.rs`) and kept below the agent's state; what SunSpec devices
//!   offer is asked of themselves ([`sunspec`]). Both may be lost at any time and are found again.
//! - A unit that is deaf after its answers is left alone for so long, which the bus learns ([`hal::Pause`]) and `pauses.rs` keeps.
//! - What was due and could not be asked in time is missing for that reason; that a poll cannot be kept is told (`keeping.rs`).
//! - What is wrong with a device though it answers, by its share of the last requests: `record.rs`.
//! - One connection to a server, one outstanding request on it. Only reads are sent.

mod bus;
mod keeping;
mod limits;
mod parts;
mod pauses;
mod queue;
mod record;
mod schedule;
pub mod sunspec;
mod task;
mod unit;

pub use task::run;

use std::time::Duration;

use crate::net::Endpoint;
use crate::spec::{BusId, DeviceIx, DeviceSpec, RegisterBlock};

/// One port with all that is read through it.
#[derive(Debug, Clone)]
pub struct Port {
    /// The bus it belongs to, for people.
    pub bus: BusId,
    /// Where it is.
    pub address: Address,
    /// The devices behind it.
    pub devices: Vec<Target>,
    /// The aggregation window: polls fall in the middle of it.
    pub window: Duration,
    /// The monotonic time at which some window ends.
    pub window_end: crate::measure::Mono,
    /// How long a silence within an answer may be.
    pub byte_timeout: Duration,
    /// Where what is learned of the devices is kept; `None` keeps it in memory.
    pub learned: Option<std::path::PathBuf>,
}

/// Where a port is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A server of Modbus TCP.
    Tcp(Endpoint),
    /// A gateway that hands the bytes of serial frames through.
    RtuOverTcp(Endpoint),
    /// A serial line of Modbus RTU.
    Serial(hal::SerialLine),
}

impl Address {
    /// What a request without an answer takes of it.
    fn silence_cost(&self) -> schedule::SilenceCost {
        let (is_heard_out, character) = match self {
            Self::Tcp(_) => (false, Duration::ZERO),
            Self::RtuOverTcp(_) => (true, Duration::ZERO),
            Self::Serial(line) => (true, line.characters(1)),
        };
        schedule::SilenceCost { is_heard_out, character }
    }
}

/// One device behind a port.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its place in the plan.
    pub ix: DeviceIx,
    /// Its unit id.
    pub unit: hal::UnitId,
    /// What is read of it.
    pub spec: DeviceSpec,
    /// The longest that it may take to answer.
    pub timeout: Duration,
    /// What passes at least between its answer and the next request to it.
    pub pause: Duration,
}

impl Target {
    /// Who is asked for a block.
    fn unit_of(&self, block: RegisterBlock) -> hal::UnitId {
        self.unit_id(block.unit)
    }

    /// Whether it is read by this unit; `None` is any.
    fn has(&self, unit: Option<u8>) -> bool {
        let blocks = || self.spec.groups.iter().flat_map(|group| &group.blocks);
        unit.is_none_or(|unit| self.unit.get() == unit || blocks().any(|block| block.unit == Some(unit)))
    }

    /// A unit by what a block says of it.
    fn unit_id(&self, unit: Option<u8>) -> hal::UnitId {
        // A plan has no unit that is none.
        unit.and_then(|unit| hal::UnitId::try_from(unit).ok()).unwrap_or(self.unit)
    }
}
