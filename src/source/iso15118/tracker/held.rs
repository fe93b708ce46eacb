//! A message that waits until it is clear to which session it belongs.

use iso15118::Protocol;

use crate::measure::Mono;
use crate::source::iso15118::message::Heard;

/// A message whose SessionID is not that of the session.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) id: u64,
    pub(super) protocol: Protocol,
    pub(super) heard: Heard,
    /// When it came, and where it stands on the line of the feed's own times.
    pub(super) at: Mono,
    pub(super) own: Mono,
}
