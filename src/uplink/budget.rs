//! How many bytes of history a metered link may carry in a day. Pure; times are since the uplink's start.
//!
//! The budget flows in all day long and can be saved up for a day. It begins with one hour's worth, so that restarts do
//! not give it out again and again. Live data is never held back by it, and does not count.

use std::time::Duration;

const DAY_S: f64 = 86_400.0;

/// What a link may still carry.
#[derive(Debug)]
pub(super) struct Budget {
    /// Bytes a day; `None` for a link that costs nothing.
    per_day: Option<f64>,
    left: f64,
    counted: Duration,
}

impl Budget {
    pub(super) fn new(bytes_per_day: Option<u64>, now: Duration) -> Self {
        #[allow(clippy::cast_precision_loss, reason = "a rate")]
        let per_day = bytes_per_day.map(|bytes| bytes as f64);
        Self { per_day, left: per_day.unwrap_or(0.0) / 24.0, counted: now }
    }

    /// Whether history may be sent now.
    pub(super) fn allows(&mut self, now: Duration) -> bool {
        let Some(per_day) = self.per_day else { return true };
        let earned = now.saturating_sub(self.counted).as_secs_f64() / DAY_S * per_day;
        (self.left, self.counted) = ((self.left + earned).min(per_day), now);
        self.left > 0.0
    }

    /// When it does again, if it does not now.
    pub(super) fn allows_from(&self) -> Option<Duration> {
        let per_day = self.per_day?;
        // A little more than nothing, so that each look that it is waited for sends something.
        let lacking = per_day / 10_000.0 - self.left;
        (self.left <= 0.0).then(|| self.counted + Duration::from_secs_f64(lacking / per_day * DAY_S))
    }

    pub(super) fn spend(&mut self, bytes: usize) {
        #[allow(clippy::cast_precision_loss, reason = "bounded by a packet")]
        let bytes = bytes as f64;
        self.left -= bytes;
    }

    /// What is left, bytes; `None` without a bound.
    pub(super) fn left(&self) -> Option<u64> {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and a day's worth")]
        self.per_day.map(|_| self.left.max(0.0) as u64)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_link_without_a_budget_always_allows() {
        let mut budget = Budget::new(None, Duration::ZERO);
        budget.spend(usize::MAX);
        assert!(budget.allows(Duration::ZERO));
        assert_eq!((budget.allows_from(), budget.left()), (None, None));
    }

    #[test]
    fn an_hours_worth_is_there_at_once_and_a_day_can_be_saved_up() {
        let mut budget = Budget::new(Some(24_000), Duration::ZERO);
        assert_eq!(budget.left(), Some(1_000));
        budget.spend(1_500);
        assert!(!budget.allows(Duration::from_secs(1)));
        let from = budget.allows_from().expect("it does not allow now");
        assert!(from > Duration::from_secs(1_800) && from < Duration::from_secs(1_820), "{from:?}");
        assert!(budget.allows(from));
        assert!(budget.allows(Duration::from_secs(86_400 * 30)));
        assert_eq!(budget.left(), Some(24_000));
    }

    proptest! {
        #[test]
        fn no_day_carries_more_than_the_budget_and_what_was_saved(
            per_day in 100_000_u64..100_000_000, steps in prop::collection::vec((1_u64..3_600, 1_usize..60_000), 1..500),
        ) {
            let mut budget = Budget::new(Some(per_day), Duration::ZERO);
            let (mut now, mut spent) = (0, 0_u64);
            for (seconds, bytes) in steps {
                now += seconds;
                if budget.allows(Duration::from_secs(now)) {
                    budget.spend(bytes);
                    spent += bytes as u64;
                }
                let allowed = per_day as f64 * (1.0 / 24.0 + now as f64 / DAY_S) + 60_000.0;
                prop_assert!(spent as f64 <= allowed + 1.0, "{spent} of {allowed} after {now} s");
            }
        }
    }
}
