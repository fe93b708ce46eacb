//! Facts for people and machines: what each task last knew of itself.
//!
//! In: small updates from every task ([`Facts`]). Out: one [`Status`], read by the local API, the CLI and
//! the watchdog. Nothing here decides anything about data, nothing survives a restart, and no lock is held
//! for longer than it takes to copy a few numbers.

mod facts;
mod log;
mod pulse;

pub use facts::{
    BrokerLimits, BrokerTrouble, BusFacts, DeviceFacts, DeviceState, Facts, JournalFacts, LaneFacts, PipelineFacts,
    SessionFacts, Status, UplinkFacts, UplinkState,
};
pub use log::{LogError, init as init_log};
pub use pulse::{Pulse, PulseName, Pulses};
