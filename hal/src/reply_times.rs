//! What every register bus keeps of its units' answers: how long they are waited for, and what was learned of when they come.

use std::time::Duration;

use tokio::time::Instant;

use crate::rest::{Pause, Rests};

/// How long a silence within a frame may be, unless somebody says otherwise: as libmodbus has it.
pub const BYTE_TIMEOUT: Duration = Duration::from_millis(500);

/// Late replies that are remembered until somebody takes them.
const LATE_MAX: usize = 16;
/// A frame has at most 260 bytes: a gateway or an adapter that hands it over in more than five pieces with silences between them
/// hands over no frame. So many silences of the greatest length may be within one after its deadline, and no more: a unit that
/// says a byte now and then would have the bus for itself.
const FRAME_SILENCES_MAX: u32 = 4;

/// A reply that came too late for its request, and was recognised as that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LateReply {
    /// Whose.
    pub unit: u8,
    /// How long after its request.
    pub after: Duration,
}

/// Of one bus.
#[derive(Debug)]
pub struct ReplyTimes {
    pub(crate) deadline: Duration,
    /// The longest that a unit may take.
    pub(crate) limit: Duration,
    pub(crate) byte_timeout: Duration,
    /// What the last answer took.
    pub(crate) took: Duration,
    pub(crate) rests: Rests,
    late: Vec<LateReply>,
}

impl ReplyTimes {
    pub(crate) fn new(deadline: Duration) -> Self {
        Self {
            deadline,
            limit: deadline,
            byte_timeout: BYTE_TIMEOUT,
            took: Duration::ZERO,
            rests: Rests::default(),
            late: Vec::new(),
        }
    }

    /// How long a silence within an answer may be.
    pub fn set_byte_timeout(&mut self, timeout: Duration) {
        self.byte_timeout = timeout;
    }

    /// Of the reads that follow: they are given up after `deadline`, but a unit may take up to `limit`. On a serial line what is heard
    /// of the answer while the line is heard out is taken until then; behind a gateway a request that follows one that was given up
    /// waits for that one's time, too ([`crate::TcpBus::set_ahead`]). Units of one bus may differ.
    pub fn set_deadline(&mut self, deadline: Duration, limit: Duration) {
        self.deadline = deadline;
        self.limit = limit.max(deadline);
    }

    /// Replies to earlier requests that came while something else was waited for, since the last time. None of them was taken for
    /// an answer.
    pub fn take_late(&mut self) -> Vec<LateReply> {
        std::mem::take(&mut self.late)
    }

    /// What the last answer took, from its own request on: without what was waited for before.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.took
    }

    /// The pauses that are kept after answers, as learned.
    #[must_use]
    pub fn pauses(&self) -> Vec<Pause> {
        self.rests.pauses()
    }

    /// Keeps a pause that was learned earlier.
    pub fn keep_pause(&mut self, pause: Pause) {
        self.rests.keep(pause);
    }

    /// A reply to an earlier request of this unit came, so long after it.
    pub(crate) fn was_late(&mut self, unit: u8, after: Duration, now: Instant) {
        self.rests.was_late(unit, now);
        if self.late.len() < LATE_MAX {
            self.late.push(LateReply { unit, after });
        }
    }

    /// How long after its deadline an answer may go on that has begun before it, with all silences within.
    pub(crate) fn frame_max(&self) -> Duration {
        self.byte_timeout * FRAME_SILENCES_MAX
    }
}
