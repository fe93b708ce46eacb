//! How long something has been so, without a break.

use std::time::Duration;

/// So many comparisons make a finding, and its end, at the least: one may be of a moment.
const COMPARISONS_MIN: u32 = 5;
/// With longer pauses between two comparisons nobody knows what was in between.
const PAUSE_NS_MIN: i64 = 60_000_000_000;

/// A side of a rule and the other, when it was judged last.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sides {
    pub(super) value: f64,
    pub(super) expected: f64,
}

/// What one comparison says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    /// It fits.
    Fits,
    /// It would fit with a little more tolerance, or not with a little less.
    Neither,
    /// The value is too large.
    TooLarge,
    /// Too small.
    TooSmall,
}

/// Whether a comparison is broken, with its hold time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    /// What has been found since, each time.
    run: Finding,
    since: i64,
    newest: i64,
    count: u32,
    pub(super) stands: bool,
    /// When it ended last.
    pub(super) ended: i64,
}

impl Held {
    pub(super) fn new() -> Self {
        Self { run: Finding::Neither, since: 0, newest: 0, count: 0, stands: false, ended: i64::MIN }
    }

    /// What stands goes on to stand, and nothing else is known.
    pub(super) fn begin_anew(&mut self) {
        (self.run, self.count, self.ended) = (Finding::Neither, 0, i64::MIN);
    }

    pub(super) fn take(&mut self, finding: Finding, now: i64, hold: Duration) {
        let hold = i64::try_from(hold.as_nanos()).unwrap_or(i64::MAX);
        let pause = hold.max(PAUSE_NS_MIN);
        if self.run != finding || !(0..=pause).contains(&now.saturating_sub(self.newest)) {
            (self.run, self.since, self.count) = (finding, now, 0);
        }
        self.newest = now;
        self.count = self.count.saturating_add(1);
        if self.count < COMPARISONS_MIN || now.saturating_sub(self.since) < hold {
            return;
        }
        match finding {
            Finding::TooLarge | Finding::TooSmall => self.stands = true,
            Finding::Fits if self.stands => (self.stands, self.ended) = (false, now),
            Finding::Fits | Finding::Neither => {}
        }
    }
}
