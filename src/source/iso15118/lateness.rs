//! How late the records of a connector come, and so from when they are. Pure.
//!
//! What the station saw a minute ago and sends only now is from a minute ago: that is what its samples say
//! ([`ClockTrust::Resolved`], or `Estimated` where our own clock is not synced). How far the two clocks are apart is not known
//! and has to be told from what is late:
//!
//! - A first record that is up to [`LATE_MAX`] old is that old. Otherwise the station's clock is another one, and the newest
//!   record of what comes at once is of now.
//! - No record is from before the one before it: a clock that goes back was set.
//! - A record that comes sooner than any before shows that the clocks are so much closer.
//! - What lags behind evenly for [`STEADY`] is not late, its clock is.
//! - What is less than [`LIVE`] behind is of the moment: then the time of arrival counts.

use std::time::Duration;

use crate::measure::{ClockTrust, Mono, Stamp, Utc};

/// On its way through a controller and a network.
const LIVE: Duration = Duration::from_secs(2);
/// A clock that is off by more shows another zone or no time at all; no feed is kept for so long.
const LATE_MAX: Duration = Duration::from_secs(3600);
/// So long, and by no more than this more or less.
const STEADY: (Duration, i64) = (Duration::from_secs(30), 1_000_000_000);
/// What the first records of a station with another clock are kept back for, until the last of what has waited shows what time it
/// is there: so long without a byte, so long in all, and so many bytes.
const HOLD_QUIET: Duration = Duration::from_millis(50);
const HOLD_MAX: Duration = Duration::from_secs(1);
const HOLD_BYTES_MAX: usize = 1 << 20;
/// 2026-01-01 UTC: this agent did not exist before, so a clock of ours that says so is wrong.
const PLAUSIBLE: Utc = Utc(1_767_225_600_000_000_000);

/// The first bytes of a feed, kept back.
#[derive(Debug)]
pub(super) struct Hold {
    pub(super) bytes: Vec<u8>,
    pub(super) since: Mono,
    pub(super) newest: Mono,
}

impl Hold {
    pub(super) fn is_over(&self, now: Mono) -> bool {
        now.since(self.newest) >= HOLD_QUIET || now.since(self.since) >= HOLD_MAX || self.bytes.len() >= HOLD_BYTES_MAX
    }
}

/// Of one connector, whichever feed speaks of it.
#[derive(Debug, Default)]
pub(super) struct Lateness {
    /// By how much the station's clock is behind ours, ns: the lag of what is not late.
    offset: Option<i64>,
    /// From when the newest record is.
    newest: Option<i64>,
    steady: Option<Steady>,
}

#[derive(Debug, Clone, Copy)]
struct Steady {
    since: Mono,
    least: i64,
    most: i64,
}

impl Lateness {
    /// Whether the first record of a connector, by its station's clock, shows nothing that can be compared with ours: then what
    /// comes with it must be seen first.
    pub(super) fn is_puzzled_by(&self, unix_us: u64, at: Stamp) -> bool {
        self.offset.is_none() && lag(unix_us, at).is_some_and(|lag| !is_late(lag) && lag.unsigned_abs() > nanos(LIVE))
    }

    /// This record is not late, unless a later one is known.
    pub(super) fn is_of_now(&mut self, unix_us: u64, at: Stamp) {
        self.offset = self.offset.into_iter().chain(lag(unix_us, at)).min();
    }

    /// From when a record is that has arrived at `at`.
    pub(super) fn stamp(&mut self, unix_us: u64, at: Stamp) -> Stamp {
        let stamp = self.place(unix_us, at);
        self.newest = Some(stamp.utc.0);
        stamp
    }

    fn place(&mut self, unix_us: u64, at: Stamp) -> Stamp {
        let Some(lag) = lag(unix_us, at).filter(|_| at.utc >= PLAUSIBLE) else { return at };
        let offset = *self.offset.get_or_insert(if is_late(lag) { 0 } else { lag });
        let mut delay = lag.saturating_sub(offset);
        let since_newest = self.newest.map(|newest| at.utc.0.saturating_sub(newest)).filter(|since| *since >= 0);
        if let Some(since_newest) = since_newest.filter(|since| delay > *since) {
            self.offset = Some(lag.saturating_sub(since_newest));
            delay = since_newest;
        }
        if delay < 0 || delay.unsigned_abs() > nanos(LATE_MAX) {
            // Closer than was known; or a clock that was set.
            self.offset = Some(lag);
            return at;
        }
        if delay.unsigned_abs() <= nanos(LIVE) {
            self.steady = None;
            return at;
        }
        if let Some(least) = self.steady_at(delay, at.mono) {
            self.offset = Some(lag.saturating_sub(delay).saturating_add(least));
            return at;
        }
        let trust = if at.trust == ClockTrust::Unsynced { ClockTrust::Estimated } else { ClockTrust::Resolved };
        Stamp { mono: at.mono, utc: Utc(at.utc.0.saturating_sub(delay)), trust }
    }

    /// The least delay of a time in which it was always about the same.
    fn steady_at(&mut self, delay: i64, now: Mono) -> Option<i64> {
        let new = Steady { since: now, least: delay, most: delay };
        let known = self.steady.unwrap_or(new);
        let wider = Steady { least: known.least.min(delay), most: known.most.max(delay), ..known };
        let (length, spread) = STEADY;
        let steady = if wider.most - wider.least > spread { new } else { wider };
        let is_over = now.since(steady.since) >= length;
        self.steady = (!is_over).then_some(steady);
        is_over.then_some(steady.least)
    }
}

/// The same in ms, for people; `None` when the two are clearly not one.
pub(super) fn lag_ms(at: Stamp, unix_us: u64) -> Option<f64> {
    const BELIEVABLE_US: i64 = 3_600_000_000;
    let by_us = i64::try_from(unix_us).ok().and_then(|sent| (at.utc.0 / 1000).checked_sub(sent))?;
    #[allow(clippy::cast_precision_loss, reason = "within an hour")]
    (by_us.abs() <= BELIEVABLE_US).then_some(by_us as f64 / 1000.0)
}

/// From the station's clock to ours.
fn lag(unix_us: u64, at: Stamp) -> Option<i64> {
    let ns = i64::try_from(unix_us).ok()?.checked_mul(1_000)?;
    at.utc.0.checked_sub(ns)
}

/// Whether a first lag is one, or that of another clock.
fn is_late(lag: i64) -> bool {
    lag >= 0 && lag.unsigned_abs() <= nanos(LATE_MAX)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;
    /// 2026-06-01 12:00 UTC.
    const NOON_S: i64 = 1_780_315_200;

    /// Records of these times (s of the station's clock, from noon on) that arrive at these (s from noon on), as stamped: s from
    /// noon on, and whether that is the source's own time.
    fn stamped(lateness: &mut Lateness, records: &[(i64, i64)]) -> Vec<(i64, bool)> {
        let stamp = |(own_s, arrived_s): &(i64, i64)| {
            let at = at(*arrived_s, ClockTrust::Synced);
            let own_us = u64::try_from((NOON_S + own_s) * 1_000_000).expect("after 1970");
            let stamp = lateness.stamp(own_us, at);
            assert_eq!(stamp.mono, at.mono);
            (stamp.utc.0 / S - NOON_S, stamp.trust == ClockTrust::Resolved)
        };
        records.iter().map(stamp).collect()
    }

    fn at(s: i64, trust: ClockTrust) -> Stamp {
        let mono = Mono(u64::try_from((s + 100_000) * S).expect("after the boot"));
        Stamp { mono, utc: Utc((NOON_S + s) * S), trust }
    }

    #[test]
    fn what_comes_late_is_from_when_the_station_saw_it_and_what_comes_in_time_from_now() {
        let records = [(0, 61), (30, 61), (58, 61), (60, 61), (62, 62)];
        let told = [(0, true), (30, true), (58, true), (61, false), (62, false)];
        assert_eq!(stamped(&mut Lateness::default(), &records), told);
    }

    #[test]
    fn a_backlog_of_a_station_whose_clock_is_known_to_be_off_is_told_by_ours() {
        // Seven hours behind, as its first records have shown; then a minute is lost and comes later.
        let (mut lateness, off) = (Lateness::default(), -7 * 3600);
        assert_eq!(stamped(&mut lateness, &[(off, 0), (off + 1, 1)]), [(0, false), (1, false)]);
        let records = [(off + 2, 62), (off + 32, 62), (off + 62, 62)];
        assert_eq!(stamped(&mut lateness, &records), [(2, true), (32, true), (62, false)]);
    }

    #[test]
    fn a_clock_that_is_behind_is_told_from_a_delay_after_half_a_minute() {
        let records: Vec<_> = (0..40).map(|s| (s - 600, s)).collect();
        let told = stamped(&mut Lateness::default(), &records);
        assert_eq!((told[0], told[29], told[30], told[39]), ((-600, true), (-571, true), (30, false), (39, false)));
    }

    #[test]
    fn a_clock_that_is_ahead_or_is_set_says_nothing_of_a_delay() {
        for records in [
            [(5, 0), (6, 1), (7, 2)],
            [(0, 0), (90_000, 1), (2, 2)],
            [(0, 0), (-90_000, 1), (2, 2)],
            [(0, 0), (-600, 1), (-599, 2)],
        ] {
            let told = stamped(&mut Lateness::default(), &records);
            assert_eq!(told, [(0, false), (1, false), (2, false)], "{records:?}");
        }
    }

    #[test]
    fn no_record_is_from_before_the_one_before_it() {
        // The last of a backlog has the time of the first, as some senders close.
        let told = stamped(&mut Lateness::default(), &[(0, 100), (30, 100), (60, 100), (0, 100), (101, 101)]);
        assert_eq!(told, [(0, true), (30, true), (60, true), (60, true), (101, false)]);
    }

    #[test]
    fn without_a_clock_of_our_own_it_is_an_estimate_or_nothing_at_all() {
        let own_us = u64::try_from(NOON_S * 1_000_000).expect("after 1970");
        let told = Lateness::default().stamp(own_us, at(61, ClockTrust::Unsynced));
        assert_eq!((told.utc.0, told.trust), (NOON_S * S, ClockTrust::Estimated));
        // A box that boots in 2001.
        let in_2001 = Stamp { utc: Utc(978_307_200 * S), ..at(0, ClockTrust::Unsynced) };
        assert_eq!(Lateness::default().stamp(978_307_140_000_000, in_2001), in_2001);
    }

    #[test]
    fn only_a_first_record_of_another_clock_is_a_puzzle() {
        let us = |s: i64| u64::try_from((NOON_S + s) * 1_000_000).expect("after 1970");
        let now = at(0, ClockTrust::Synced);
        let mut lateness = Lateness::default();
        assert!(lateness.is_puzzled_by(us(-7 * 3600), now) && lateness.is_puzzled_by(us(60), now));
        assert!(!lateness.is_puzzled_by(us(-60), now) && !lateness.is_puzzled_by(us(0), now));
        lateness.is_of_now(us(-7 * 3600), now);
        assert!(!lateness.is_puzzled_by(us(60), now));
        assert_eq!(stamped(&mut lateness, &[(-7 * 3600 - 60, 0)]), [(-60, true)]);
    }
}
