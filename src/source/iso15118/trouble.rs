//! Frames that cannot be read, as few events: the first at once, then at most one a second for each reason, and then
//! one every ten while it goes on; and one when the next frame can be read. Pure.

use std::time::Duration;

use super::decode::Unreadable;
use crate::measure::Mono;

/// Between two events of one reason in the first [`PATIENCE`] of a trouble.
const PACE: Duration = Duration::from_secs(1);
/// Afterwards.
const PACE_SLOW: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(10);

/// What is known of the frames that could not be read.
#[derive(Debug, Clone, Default)]
pub(super) struct Trouble {
    counts: [u64; Unreadable::ALL.len()],
    untold: [u64; Unreadable::ALL.len()],
    told_at: [Option<Mono>; Unreadable::ALL.len()],
    /// Since when, and how many so far; `None` while frames can be read.
    now: Option<(Mono, u64)>,
    /// When the end of a trouble was last told.
    mended_at: Option<Mono>,
    /// Frames of troubles that ended and were not told yet.
    mended: u64,
}

/// What is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    Unreadable { reason: Unreadable, count: u64 },
    Readable { count: u64 },
}

impl Trouble {
    /// A frame could not be read.
    pub(super) fn bad(&mut self, reason: Unreadable, now: Mono, tell: impl FnMut(News)) {
        let index = reason as usize;
        self.counts[index] += 1;
        self.untold[index] += 1;
        let (_, count) = self.now.get_or_insert((now, 0));
        *count += 1;
        self.poll(now, tell);
    }

    /// Something is odd about a frame that can be read: it is counted. Answers whether it may be told, should that `is_news`.
    pub(super) fn remark(&mut self, reason: Unreadable, is_news: bool, now: Mono) -> bool {
        let index = reason as usize;
        self.counts[index] += 1;
        let may_tell = is_news && self.told_at[index].is_none_or(|told| now.since(told) >= PACE);
        self.told_at[index] = if may_tell { Some(now) } else { self.told_at[index] };
        may_tell
    }

    /// A frame could be read.
    pub(super) fn good(&mut self, now: Mono, tell: impl FnMut(News)) {
        if self.now.is_some() || self.mended > 0 {
            if let Some((_, count)) = self.now.take() {
                self.mended += count;
            }
            self.poll(now, tell);
        }
    }

    /// Tells what has waited long enough. At least once a second while [`Self::is_waiting`].
    pub(super) fn poll(&mut self, now: Mono, mut tell: impl FnMut(News)) {
        let pace = match self.now {
            Some((since, _)) if now.since(since) > PATIENCE => PACE_SLOW,
            _ => PACE,
        };
        let is_due = |told: Option<Mono>, pace| told.is_none_or(|told| now.since(told) >= pace);
        for reason in Unreadable::ALL {
            let index = reason as usize;
            if self.untold[index] > 0 && is_due(self.told_at[index], pace) {
                tell(News::Unreadable { reason, count: std::mem::take(&mut self.untold[index]) });
                self.told_at[index] = Some(now);
            }
        }
        let all_told = self.untold.iter().all(|count| *count == 0);
        if self.now.is_none() && self.mended > 0 && all_told && is_due(self.mended_at, PACE) {
            tell(News::Readable { count: std::mem::take(&mut self.mended) });
            self.mended_at = Some(now);
        }
    }

    /// Whether something is still to be told.
    pub(super) fn is_waiting(&self) -> bool {
        self.mended > 0 || self.untold.iter().any(|count| *count > 0)
    }

    /// Whether the last frame could not be read.
    pub(super) fn is_now(&self) -> bool {
        self.now.is_some()
    }

    /// By reason, since the start.
    pub(super) fn counts(&self) -> impl Iterator<Item = (Unreadable, u64)> + '_ {
        Unreadable::ALL.into_iter().zip(self.counts).filter(|(_, count)| *count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_a_few_events_and_no_frame_is_uncounted() {
        let mut trouble = Trouble::default();
        let mut told = Vec::new();
        // 1000 a second for a minute.
        for millisecond in 0..60_000_u64 {
            trouble.bad(Unreadable::Garbage, Mono(millisecond * 1_000_000), |news| told.push(news));
        }
        assert!(told.len() <= 10 + 6 + 1, "{}", told.len());
        assert_eq!(told[0], News::Unreadable { reason: Unreadable::Garbage, count: 1 });
        assert!(trouble.is_now() && trouble.is_waiting());
        trouble.good(Mono(60_000_000_000), |news| told.push(news));
        trouble.poll(Mono(71_000_000_000), |news| told.push(news));
        assert_eq!(told.last(), Some(&News::Readable { count: 60_000 }));
        let counted: u64 = told
            .iter()
            .map(|news| match news {
                News::Unreadable { count, .. } => *count,
                News::Readable { .. } => 0,
            })
            .sum();
        assert_eq!(counted, 60_000);
        assert_eq!(trouble.counts().collect::<Vec<_>>(), [(Unreadable::Garbage, 60_000)]);
    }

    #[test]
    fn good_and_bad_frames_in_turn_are_no_storm() {
        let mut trouble = Trouble::default();
        let mut told = 0;
        for millisecond in 0..10_000_u64 {
            let now = Mono(millisecond * 1_000_000);
            trouble.bad(Unreadable::Undecodable, now, |_| told += 1);
            trouble.good(now, |_| told += 1);
        }
        assert!(told <= 22, "{told}");
    }

    #[test]
    fn the_end_of_a_short_trouble_is_told_at_once() {
        let mut trouble = Trouble::default();
        let mut told = Vec::new();
        trouble.bad(Unreadable::TooLong, Mono(0), |news| told.push(news));
        trouble.good(Mono(1), |news| told.push(news));
        assert_eq!(told, [News::Unreadable { reason: Unreadable::TooLong, count: 1 }, News::Readable { count: 1 }]);
    }
}
