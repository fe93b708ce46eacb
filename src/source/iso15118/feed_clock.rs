//! The times of a feed's records on a line of their own. Pure.
//!
//! What the station saw a minute ago may come only now, all of it at once: how long something took is in the records' own
//! times, whatever zone or year the station's clock is in. A clock that stands still or goes back says nothing: then
//! the time of arrival counts.

use std::time::Duration;

use crate::measure::Mono;

/// A step of the station's clock, not a delay: no feed is kept for so long.
const JUMP_MAX: Duration = Duration::from_secs(3600);

/// Of one feed.
#[derive(Debug, Default)]
pub(super) struct FeedClock {
    /// A record's time by the station's clock, and where it stands on the line.
    anchor: Option<(u64, Mono)>,
    last: Option<Last>,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    unix_us: u64,
    arrived: Mono,
    at: Mono,
}

impl FeedClock {
    /// Where a record stands that has arrived now. Never before the one before it.
    pub(super) fn at(&mut self, unix_us: u64, arrived: Mono) -> Mono {
        let waited = |last: Last| Mono(last.at.0.saturating_add(arrived.0.saturating_sub(last.arrived.0)));
        let at = match (self.anchor, self.last) {
            (Some((anchor_us, anchor)), Some(last)) if unix_us > last.unix_us && is_plausible(last, unix_us) => {
                let into = unix_us.saturating_sub(anchor_us).saturating_mul(1_000);
                Mono(anchor.0.saturating_add(into)).max(last.at)
            }
            (_, Some(last)) if unix_us == last.unix_us => waited(last),
            (_, last) => {
                let at = last.map_or(arrived, waited);
                self.anchor = Some((unix_us, at));
                at
            }
        };
        self.last = Some(Last { unix_us, arrived, at });
        at
    }
}

fn is_plausible(last: Last, unix_us: u64) -> bool {
    Duration::from_micros(unix_us.saturating_sub(last.unix_us)) <= JUMP_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(records: &[(u64, u64)]) -> Vec<u64> {
        let mut clock = FeedClock::default();
        let at = |(unix_ms, arrived_ms): &(u64, u64)| clock.at(unix_ms * 1_000, Mono(arrived_ms * 1_000_000));
        records.iter().map(at).map(|at| at.0 / 1_000_000).collect()
    }

    #[test]
    fn what_comes_late_has_its_own_pace_and_a_clock_that_stands_has_that_of_its_arrival() {
        // A minute in 3 ms.
        assert_eq!(line(&[(9_000, 5), (39_000, 6), (69_000, 8)]), [5, 30_005, 60_005]);
        assert_eq!(line(&[(9_000, 5), (9_000, 255), (9_000, 505)]), [5, 255, 505]);
        // Whole seconds.
        assert_eq!(line(&[(9_000, 0), (9_000, 500), (10_000, 1_000), (10_000, 1_500)]), [0, 500, 1_000, 1_500]);
    }

    #[test]
    fn a_step_of_the_stations_clock_is_no_time_that_has_passed() {
        assert_eq!(line(&[(9_000, 0), (8_000, 250), (8_250, 500)]), [0, 250, 500]);
        assert_eq!(line(&[(9_000, 0), (9_000_000_000, 250), (9_000_000_250, 500)]), [0, 250, 500]);
    }
}
