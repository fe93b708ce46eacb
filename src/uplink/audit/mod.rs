//! A consumer at the broker that believes nothing but what arrives, and judges it.
//!
//! In: messages ([`consume`] brings them from a broker). Out: a [`AuditReport`] per gateway, by identity alone: every
//! `(epoch, seq)` from the first one heard on is there, or a gap event accounts for it; no identity has two contents,
//! no content two identities.
//!
//! Memory: about 100 bytes for each entry heard, 35 MB for a day of one gateway at four entries a second.

mod judge;
mod lives;
mod parts;
mod report;
mod task;

pub use judge::{Judge, Message};
pub use report::{AuditReport, GatewayReport, Latency, MemoryLife, Span};
pub use task::{ConsumeError, ConsumerSettings, Heard, consume};
