//! How old segments are, counted in time that the journal has lived through. The medium is not touched here.
//!
//! The wall clock has no say in it: a step makes nothing old, nor does a clock that is wrong for years. What counts is the
//! time while a journal ran, of all its lives together; while the box, or the agent, was off nothing could be delivered, and
//! nothing ages. So a backlog may lie for longer than `age_max` by the calendar, and never for less; `bytes_max` is the bound
//! that holds whatever happens.
//!
//! A segment is as old as its newest entry. One of which nothing is known (written by version 0.1.0, or completed after the
//! last save before a power cut) is as old as this life.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::journal::disk::lived::Lived;

/// The longest time between two saves: what a power cut takes of the time lived.
const SAVE: Duration = Duration::from_secs(600);
/// The shortest: a segment a second is complete in a burst.
const SAVE_AGAIN: Duration = Duration::from_secs(60);

/// See the module's head.
#[derive(Debug, Default)]
pub(in crate::journal) struct Age {
    /// Time lived through before this life.
    before: Duration,
    /// When this life began to count: a medium may be found long after the agent has started.
    begun: Duration,
    /// By the first number of each complete segment: time lived through when it was.
    complete: BTreeMap<u64, Duration>,
    saved_at: Duration,
    is_changed: bool,
}

impl Age {
    /// Goes on with what a life before has saved; `found`: the segments that are there, all of them complete.
    pub(in crate::journal) fn open(bytes: Option<&[u8]>, found: impl DoubleEndedIterator<Item = u64> + Clone) -> Self {
        let lived = bytes.map(Lived::read);
        if lived == Some(None) {
            tracing::warn!("the record of the time lived is damaged: what waits counts as new, and is kept for longer");
        }
        let Lived { total, complete } = lived.flatten().unwrap_or_default();
        let mut age = Self { before: total, complete: complete.into_iter().collect(), ..Self::default() };
        age.note(found, Duration::ZERO);
        age
    }

    /// This life's own time counts from now on.
    pub(super) fn begin(&mut self, now: Duration) {
        self.begun = now;
    }

    fn lived(&self, now: Duration) -> Duration {
        self.before + now.saturating_sub(self.begun)
    }

    /// These are all the complete segments: what is not known yet is complete since just now.
    pub(super) fn note(&mut self, complete: impl DoubleEndedIterator<Item = u64> + Clone, now: Duration) {
        let newest = complete.clone().next_back();
        let is_same = newest.is_none_or(|newest| self.complete.contains_key(&newest));
        if is_same && complete.clone().count() == self.complete.len() {
            return;
        }
        let lived = self.lived(now);
        let mut known = std::mem::take(&mut self.complete);
        let before = known.len();
        self.complete = complete.map(|first| (first, known.remove(&first).unwrap_or(lived))).collect();
        self.is_changed |= !known.is_empty() || self.complete.len() != before;
    }

    /// The segment that begins with `first` stands for these: it is as old as the youngest of them.
    pub(super) fn inherit(&mut self, first: u64, from: impl Iterator<Item = u64>) {
        if let Some(lived) = from.filter_map(|source| self.complete.get(&source).copied()).max() {
            self.complete.insert(first, lived);
            self.is_changed = true;
        }
    }

    /// How old the newest entry of a complete segment is.
    pub(super) fn of(&self, first: u64, now: Duration) -> Duration {
        self.complete.get(&first).map_or(Duration::ZERO, |lived| self.lived(now).saturating_sub(*lived))
    }

    /// The same of one that was completed in this life, which no wall clock can contradict.
    pub(super) fn of_this_life(&self, first: u64, now: Duration) -> Option<Duration> {
        self.complete.get(&first).is_some_and(|lived| *lived > self.before).then(|| self.of(first, now))
    }

    /// What is to be saved now; it counts as saved. `None`: nothing yet.
    pub(super) fn due(&mut self, now: Duration) -> Option<Vec<u8>> {
        let since = now.saturating_sub(self.saved_at);
        (since >= SAVE || self.is_changed && since >= SAVE_AGAIN).then(|| self.save(now)).flatten()
    }

    /// The record as it is now; it counts as saved.
    pub(super) fn save(&mut self, now: Duration) -> Option<Vec<u8>> {
        (self.saved_at, self.is_changed) = (now, false);
        let complete = self.complete.iter().map(|(first, lived)| (*first, *lived)).collect();
        Lived { total: self.lived(now), complete }.write()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn ages_go_on_over_lives_and_the_time_between_them_does_not_count() {
        let mut first = Age::open(None, [].into_iter());
        first.note([1].into_iter(), s(100));
        first.note([1, 50].into_iter(), s(300));
        assert_eq!([first.of(1, s(400)), first.of(50, s(400)), first.of(90, s(400))], [s(300), s(100), s(0)]);
        let saved = first.save(s(400)).expect("it is short");
        // Whenever that is.
        let mut second = Age::open(Some(&saved), [1, 50, 90].into_iter());
        second.note([1, 50, 90, 99].into_iter(), s(1));
        assert_eq!([1, 50, 90, 99].map(|first| second.of(first, s(10))), [s(310), s(110), s(10), s(9)]);
        assert_eq!([90, 99].map(|first| second.of_this_life(first, s(10))), [None, Some(s(9))]);
    }

    /// A directory that could not be read for four days had all that waited in it given up as aged when it was mended.
    #[test]
    fn a_journal_that_is_found_long_after_the_start_is_no_older_for_it() {
        let mut first = Age::open(None, [].into_iter());
        first.note([1].into_iter(), s(100));
        let saved = first.save(s(400)).expect("it is short");
        let mut second = Age::open(Some(&saved), [1, 50].into_iter());
        second.begin(s(345_600));
        assert_eq!([1, 50].map(|first| second.of(first, s(345_610))), [s(310), s(10)]);
    }

    #[test]
    fn what_is_downsampled_is_as_old_as_the_youngest_that_it_stands_for() {
        let mut age = Age::default();
        age.note([1, 50].into_iter(), s(100));
        age.note([1, 50, 70].into_iter(), s(200));
        age.inherit(200, [1, 70].into_iter());
        age.note([200].into_iter(), s(300));
        assert_eq!(age.of(200, s(300)), s(100));
    }

    #[test]
    fn it_is_saved_once_a_minute_when_segments_come_and_go_and_else_every_ten() {
        let mut age = Age::default();
        age.note([1].into_iter(), s(1));
        let saved: Vec<u64> = (0..1_500).filter(|&now| age.due(s(now)).is_some()).collect();
        assert_eq!(saved, [60, 660, 1_260]);
    }

    #[test]
    fn a_damaged_record_makes_nothing_old() {
        let mut age = Age::open(Some(b"V2GL and no more"), [].into_iter());
        age.note([1].into_iter(), s(5));
        assert_eq!(age.of(1, s(6)), s(1));
    }
}
