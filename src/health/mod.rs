//! Facts for people and machines: what each task last knew of itself.
//!
//! In: small updates from every task ([`StatusBoard`]). Out: one [`Status`], read by the local API, the CLI and the
//! watchdog; and what of it a person should look at ([`judge`]). Nothing here decides anything about data, nothing
//! survives a restart, and no lock is held for longer than it takes to copy a few numbers.

mod facts;
mod files;
mod heartbeat;
mod judge;
mod log;
mod log_bound;

pub use facts::{
    BrokerLimits, BrokerTrouble, BusFacts, ClockWait, DepotFacts, DepotWindow, DeviceFacts, DeviceState,
    ImplausibleFacts, JournalFacts, LaneFacts, PipelineFacts, QuarterFacts, QuestionableFacts, RECORDING_OVER,
    SessionFacts, Status, StatusBoard, UpdateFacts, UplinkFacts, UplinkState,
};
pub use files::out_of_files;
pub use heartbeat::{Heartbeat, Heartbeats, TaskName};
pub use judge::{Finding, Severity, Subject, judge};
pub(crate) use judge::{LATE_MS_MAX, entries};
pub use log::{LogError, LogLimit, init as init_log};
