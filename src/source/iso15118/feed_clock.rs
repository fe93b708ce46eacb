//! The times of a feed's records on a line of their own. Pure.
//!
//! What the station saw a minute ago may come only now, all of it at once: how long something took is in the records' own
//! times, whatever zone or year the station's clock is in. A clock that stands still, goes back or runs ahead says nothing:
//! then the time of arrival counts.

use std::time::Duration;

use crate::measure::Mono;

/// A step of the station's clock, not a delay: no feed is kept for so long.
const JUMP_MAX: Duration = Duration::from_secs(3600);

/// The line of a feed runs ahead of arrival by as long as its first records were kept back, and no longer: 60 s of silence
/// end a session (V2G_SECC_Sequence_Timeout), a minute has been seen, and this is twice that. A clock that ticks too fast
/// gains so much once, and from then on only the time of arrival passes.
const LEAD_MAX: Duration = Duration::from_secs(120);

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
    /// Where a record stands that has arrived now. Never before the one before it; the first one not before `heard`, to which
    /// the line of a feed before this one has come.
    pub(super) fn at(&mut self, unix_us: u64, arrived: Mono, heard: Mono) -> Mono {
        let waited = self.last.map_or(arrived.max(heard), |last| last.at + arrived.since(last.arrived));
        let at = match (self.anchor, self.last) {
            (_, Some(last)) if unix_us == last.unix_us => waited,
            (Some(anchor), Some(last)) if unix_us > last.unix_us && is_plausible(last, unix_us) => {
                let at = on_line(anchor, unix_us).max(last.at);
                if at.since(arrived) <= LEAD_MAX { at } else { self.begin_anew(unix_us, waited) }
            }
            _ => self.begin_anew(unix_us, waited),
        };
        self.last = Some(Last { unix_us, arrived, at });
        at
    }

    fn begin_anew(&mut self, unix_us: u64, at: Mono) -> Mono {
        self.anchor = Some((unix_us, at));
        at
    }
}

fn on_line((anchor_us, anchor): (u64, Mono), unix_us: u64) -> Mono {
    anchor + Duration::from_micros(unix_us.saturating_sub(anchor_us))
}

fn is_plausible(last: Last, unix_us: u64) -> bool {
    Duration::from_micros(unix_us.saturating_sub(last.unix_us)) <= JUMP_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(records: &[(u64, u64)]) -> Vec<u64> {
        let mut clock = FeedClock::default();
        let at = |(unix_ms, arrived_ms): &(u64, u64)| clock.at(unix_ms * 1_000, Mono(arrived_ms * 1_000_000), Mono(0));
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

    #[test]
    fn a_clock_that_ticks_ten_times_too_fast_leads_by_a_bounded_time() {
        let records: Vec<_> = (0..36_000).map(|turn| (9_000 + turn * 2_500, turn * 250)).collect();
        for (at, (_, arrived)) in line(&records).into_iter().zip(&records) {
            assert!(at <= arrived + 120_250, "{at} {arrived}");
        }
    }

    #[test]
    fn the_line_of_a_new_feed_begins_where_the_one_before_has_come_to() {
        let (mut clock, heard) = (FeedClock::default(), Mono(60_000_000_000));
        let told: Vec<_> = [(9_000_000, 10), (9_250_000, 260)]
            .map(|(unix_us, arrived_ms)| clock.at(unix_us, Mono(arrived_ms * 1_000_000), heard).0 / 1_000_000)
            .to_vec();
        assert_eq!(told, [60_000, 60_250]);
    }
}
