//! Facts for people and machines: what each task last knew of itself.
//!
//! In: small updates from every task ([`StatusBoard`]). Out: one [`Status`], read by the local API, the CLI and the
//! watchdog; and what of it a person should look at ([`judge`]). Nothing here decides anything about data, nothing
//! survives a restart, and no lock is held for longer than it takes to copy a few numbers.

mod facts;
mod heartbeat;
mod judge;
mod log;

pub use facts::{
    BrokerLimits, BrokerTrouble, BusFacts, ClockWait, DeviceFacts, DeviceState, JournalFacts, LaneFacts, PipelineFacts,
    SessionFacts, Status, StatusBoard, UplinkFacts, UplinkState,
};
pub use heartbeat::{Heartbeat, Heartbeats, TaskName};
pub use judge::{Finding, Severity, Subject, judge};
pub(crate) use judge::{LATE_MS_MAX, entries};
pub use log::{LogError, init as init_log};
