//! A straight line from the monotonic clock of one boot to UTC, and where to draw it when nobody knows.

use crate::journal::core::epoch::PLAUSIBLE_S;
use crate::measure::Mono;

pub(super) const MS: i64 = 1_000_000;
/// A clock that moves by more against the monotonic one was set; a leap second does not.
pub(super) const SET_NS: i64 = 1_000_000_000;
/// 2026-01-01 UTC, in ns: this agent did not exist before, so a clock that says so is wrong.
pub(super) const PLAUSIBLE_NS: i64 = PLAUSIBLE_S * 1_000_000_000;

/// UTC as a function of the monotonic time of one boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Course {
    pub(super) mono: Mono,
    pub(super) utc: i64,
    /// In so many ns of the monotonic clock …
    pub(super) mono_span: u64,
    /// … so many of UTC go by. The same, unless the neighbours leave less room.
    pub(super) utc_span: u64,
}

/// What is known of a run of windows whose wall clock was never synced.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    /// Monotonic end of the first and of the last window.
    pub(super) first: Mono,
    pub(super) last: Mono,
    /// UTC minus monotonic, as the wall clock had it.
    pub(super) wall: i64,
    /// The newest known time before.
    pub(super) after: Option<i64>,
    /// The oldest known time after.
    pub(super) before: Option<i64>,
}

impl Course {
    /// Both clocks at one pace, through one known moment.
    pub(super) fn through(mono: Mono, utc: i64) -> Self {
        Self { mono, utc, mono_span: 1, utc_span: 1 }
    }

    /// Between the neighbours: where the wall clock says if that fits between them; otherwise as close behind the one
    /// before as it may have been, or, without one, directly before the one after. The pace is that of the monotonic
    /// clock. Where the neighbours leave less room it is quickened, to twice at most; where even that does not fit (they
    /// contradict each other), the one before counts.
    pub(super) fn between(run: Run) -> Self {
        let Run { first, last, wall, after, before } = run;
        let span = signed(last.0.saturating_sub(first.0));
        let told = signed(first.0).saturating_add(wall);
        let earliest = after.map(|utc| utc.saturating_add(MS));
        let latest = before.map(|utc| utc.saturating_sub(span).saturating_sub(MS));
        let start = match (earliest, latest) {
            (None, Some(latest)) if told < PLAUSIBLE_NS => latest,
            (earliest, Some(latest)) => told.min(latest).max(earliest.unwrap_or(i64::MIN)),
            (earliest, None) => told.max(earliest.unwrap_or(i64::MIN)),
        };
        let room = before.map_or(i64::MAX, |utc| utc.saturating_sub(MS).saturating_sub(start));
        match (u64::try_from(span), u64::try_from(room)) {
            (Ok(mono_span), Ok(utc_span)) if utc_span < mono_span && utc_span >= mono_span / 2 => {
                Self { mono: first, utc: start, mono_span, utc_span }
            }
            _ => Self::through(first, start),
        }
    }

    /// UTC at `mono`, ns.
    pub(super) fn at(&self, mono: Mono) -> i64 {
        let away = i128::from(mono.0) - i128::from(self.mono.0);
        let utc = i128::from(self.utc) + away * i128::from(self.utc_span) / i128::from(self.mono_span.max(1));
        i64::try_from(utc).unwrap_or(if utc < 0 { i64::MIN } else { i64::MAX })
    }

    /// UTC minus monotonic at `mono`, ns.
    pub(super) fn offset(&self, mono: Mono) -> i64 {
        self.at(mono).saturating_sub(signed(mono.0))
    }
}

pub(super) fn signed(ns: u64) -> i64 {
    i64::try_from(ns).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const S: i64 = 1_000_000_000;
    /// 2026-06-01 12:00 UTC.
    const NOON: i64 = 1_780_315_200 * S;
    /// 2001-01-01 UTC.
    const Y2001: i64 = 978_307_200 * S;

    fn run(wall_at_first: i64, after: Option<i64>, before: Option<i64>) -> Run {
        let (first, last) = (Mono(20_000_000_000), Mono(80_000_000_000));
        Run { first, last, wall: wall_at_first - 20 * S, after, before }
    }

    #[test]
    fn a_clock_that_fits_between_its_neighbours_is_taken_at_its_word() {
        let course = Course::between(run(NOON + 50 * S, Some(NOON), Some(NOON + 3600 * S)));
        assert_eq!(course.at(Mono(20_000_000_000)), NOON + 50 * S);
        assert_eq!(course.at(Mono(80_000_000_000)), NOON + 110 * S);
    }

    #[test]
    fn a_clock_in_the_past_is_placed_behind_its_predecessor() {
        let course = Course::between(run(Y2001, Some(NOON), Some(NOON + 3600 * S)));
        assert_eq!(course.at(Mono(20_000_000_000)), NOON + MS);
        assert_eq!(course.at(Mono(80_000_000_000)), NOON + MS + 60 * S);
    }

    #[test]
    fn without_a_predecessor_the_successor_decides() {
        let course = Course::between(run(Y2001, None, Some(NOON)));
        assert_eq!(course.at(Mono(80_000_000_000)), NOON - MS);
        assert_eq!(course.at(Mono(20_000_000_000)), NOON - MS - 60 * S);
    }

    #[test]
    fn a_little_too_little_room_quickens_the_pace_and_none_at_all_does_not() {
        let squeezed = Course::between(run(Y2001, Some(NOON), Some(NOON + 50 * S)));
        assert_eq!(squeezed.at(Mono(20_000_000_000)), NOON + MS);
        assert_eq!(squeezed.at(Mono(80_000_000_000)), NOON + 50 * S - MS);
        let contradicted = Course::between(run(Y2001, Some(NOON), Some(NOON - 50 * S)));
        assert_eq!(contradicted.at(Mono(80_000_000_000)), NOON + MS + 60 * S);
    }

    proptest! {
        #[test]
        fn labels_rise_and_stand_between_neighbours_that_leave_room(
            wall in -S..i64::MAX / 4, gap in 70 * S..1_000_000 * S, after in any::<bool>(), before in any::<bool>(),
        ) {
            let (lower, upper) = (after.then_some(NOON), before.then_some(NOON + gap));
            let course = Course::between(run(wall, lower, upper));
            let labels: Vec<i64> = (20..=80_u64).map(|s| course.at(Mono(s * 1_000_000_000))).collect();
            prop_assert!(labels.windows(2).all(|pair| pair[1] - pair[0] == S));
            prop_assert!(lower.is_none_or(|utc| labels[0] > utc));
            prop_assert!(upper.is_none_or(|utc| labels[60] < utc));
        }
    }
}
