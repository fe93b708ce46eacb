//! What a person is told, and how often. Pure; times are since the uplink's start.

use std::collections::HashMap;
use std::time::Duration;

/// A trouble that lasts is told again after so long.
const TELL_AGAIN: Duration = Duration::from_secs(600);
/// Different troubles remembered; with more of them each is news.
const REMEMBERED_MAX: usize = 64;

/// Which troubles were told.
#[derive(Debug, Default)]
pub(super) struct ToldTroubles(HashMap<(String, String), Duration>);

impl ToldTroubles {
    /// Whether this has not been told since the last connection, or not for long.
    pub(super) fn is_news(&mut self, broker: &str, what: &str, now: Duration) -> bool {
        if self.0.len() >= REMEMBERED_MAX {
            self.0.clear();
        }
        let key = (broker.to_owned(), what.to_owned());
        match self.0.get(&key) {
            Some(at) if now < *at + TELL_AGAIN => false,
            _ => {
                self.0.insert(key, now);
                true
            }
        }
    }

    /// A connection was made: what comes now is new.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }
}

/// What was counted lately is shown for so long after the last.
const REMEMBERED: Duration = Duration::from_secs(600);

/// A count of what should not be: shown while it goes on, and for a while after.
#[derive(Debug, Default)]
pub(super) struct Lately {
    count: u64,
    newest: Duration,
}

impl Lately {
    /// So many more.
    pub(super) fn add(&mut self, count: u64, now: Duration) {
        *self = Self { count: self.count(now).saturating_add(count), newest: now };
    }

    /// How many, if the last was not long ago.
    pub(super) fn count(&self, now: Duration) -> u64 {
        if now.saturating_sub(self.newest) < REMEMBERED { self.count } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_told_once_until_it_lasts_or_comes_back() {
        let mut told = ToldTroubles::default();
        let s = Duration::from_secs;
        assert!(told.is_news("a", "refused", s(0)));
        assert!(!told.is_news("a", "refused", s(1)));
        assert!(told.is_news("b", "refused", s(1)));
        assert!(told.is_news("a", "refused", s(600)));
        told.forget();
        assert!(told.is_news("a", "refused", s(601)));
    }

    /// One message that nobody had asked for was a finding until the next start.
    #[test]
    fn what_was_counted_is_shown_until_ten_minutes_after_the_last() {
        let (mut lately, s) = (Lately::default(), Duration::from_secs);
        assert_eq!(lately.count(s(5)), 0);
        lately.add(2, s(10));
        lately.add(1, s(500));
        assert_eq!((lately.count(s(1_099)), lately.count(s(1_100))), (3, 0));
        lately.add(7, s(2_000));
        assert_eq!(lately.count(s(2_000)), 7);
    }
}
