//! Facts for people and machines: what each task last knew of itself.
//!
//! In: small updates from every task ([`StatusBoard`]). Out: one [`Status`], read by the local API, the CLI and
//! the watchdog. Nothing here decides anything about data, nothing survives a restart, and no lock is held
//! for longer than it takes to copy a few numbers.

mod facts;
mod heartbeat;
mod log;

pub use facts::{
    BrokerLimits, BrokerTrouble, BusFacts, DeviceFacts, DeviceState, JournalFacts, LaneFacts, PipelineFacts,
    SessionFacts, Status, StatusBoard, UplinkFacts, UplinkState,
};
pub use heartbeat::{Heartbeat, Heartbeats, TaskName};
pub use log::{LogError, init as init_log};
