//! What is done from time to time, and when it is due: bounds, removals, and downsampling under way.

use std::time::Duration;

use crate::journal::core::job::Job;

/// Bounds are looked at this often; and at every removal.
const RETAIN: Duration = Duration::from_secs(1);
/// A whole segment that was acknowledged goes as soon as this, and two go at once: a replay at full speed would else leave a
/// second of it on disk. Each time costs a durable cursor.
const REMOVE_SETTLED: Duration = Duration::from_millis(100);
/// After a failure of the medium nothing is downsampled for this long.
const REST: Duration = Duration::from_secs(2);

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    retained_at: Duration,
    removed_at: Duration,
    /// Downsampling under way.
    job: Option<Job>,
    /// Nothing is downsampled before.
    downsamples_from: Duration,
}

impl Upkeep {
    /// Whether the bounds are to be looked at; if so, they count as looked at.
    pub(super) fn looks_at_bounds(&mut self, now: Duration) -> bool {
        let is_due = now >= self.retained_at + RETAIN;
        if is_due {
            self.retained_at = now;
        }
        is_due
    }

    /// Whether a single segment may go already.
    pub(super) fn may_remove_one(&self, now: Duration) -> bool {
        now >= self.removed_at + REMOVE_SETTLED
    }

    /// Segments are being removed.
    pub(super) fn removes(&mut self, now: Duration) {
        self.removed_at = now;
    }

    pub(super) fn may_downsample(&self, now: Duration) -> bool {
        now >= self.downsamples_from
    }

    /// The medium did not do it: not before a while.
    pub(super) fn rest(&mut self, now: Duration) {
        self.downsamples_from = now + REST;
    }

    /// The work under way.
    pub(super) fn take_job(&mut self) -> Option<Job> {
        self.job.take()
    }

    /// It goes on later; `None`: there is none any more.
    pub(super) fn keep_job(&mut self, job: Option<Job>) {
        self.job = job;
    }
}
