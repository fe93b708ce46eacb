//! Modbus: registers that are read on a schedule.
//!
//! In: a [`Port`] with all that is on it. Out: a sample for every block that was due, also when nothing came.
//!
//! - When what is read, and who waits how long for whom: `schedule.rs`, pure.
//! - What a device allows of merged requests is learned (`limits.rs`) and kept below the agent's state; what SunSpec devices
//!   offer is asked of themselves ([`sunspec`]). Both may be lost at any time and are found again.
//! - What is wrong with a device though it answers, by its share of the last requests: `record.rs`.
//! - One connection to a server, one outstanding request on it. Only reads are sent.

mod limits;
mod record;
mod schedule;
pub mod sunspec;
mod task;

pub use task::run;

use std::time::Duration;

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
    /// Where what is learned of the devices is kept; `None` keeps it in memory.
    pub learned: Option<std::path::PathBuf>,
}

/// Where a port is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A server of Modbus TCP.
    Tcp {
        /// A name or an address.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// A gateway that hands the bytes of serial frames through.
    RtuOverTcp {
        /// A name or an address.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// A serial line of Modbus RTU.
    Serial(hal::SerialLine),
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
        // A plan has no unit that is none.
        block.unit.and_then(|unit| hal::UnitId::try_from(unit).ok()).unwrap_or(self.unit)
    }
}
