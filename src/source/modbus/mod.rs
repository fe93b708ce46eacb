//! Modbus: registers that are read on a schedule.

mod schedule;
mod task;

pub use task::run;

use std::time::Duration;

use crate::measure::{BusId, DeviceIx, DeviceSpec, RegisterBlock};

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
    /// How long it may take to answer.
    pub timeout: Duration,
}

impl Target {
    /// Who is asked for a block.
    fn unit_of(&self, block: RegisterBlock) -> hal::UnitId {
        // A plan has no unit that is none.
        block.unit.and_then(|unit| hal::UnitId::try_from(unit).ok()).unwrap_or(self.unit)
    }
}
