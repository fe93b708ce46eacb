//! What a person orders to be given up: what is old, and what nobody can read.

use std::time::Duration;

use super::JournalCore;
use crate::journal::disk::store::Store;
use crate::journal::report::Purged;
use crate::measure::{Epoch, GapReason, Utc};

impl<S: Store> JournalCore<S> {
    /// Gives up every complete segment of which all is older than this: told in the next window, gone when that is
    /// durable. `now`: from when to count; without it from the newest entry.
    pub(in crate::journal) fn purge(&mut self, older_than: Duration, now: Option<Utc>) -> Purged {
        let complete = self.medium.complete();
        let dated: Vec<_> = (0..complete).map(|place| self.medium.seal_of(place)).collect();
        let newest = dated.iter().flatten().filter_map(|seal| seal.newest_utc).max();
        let Some(now) = now.or(self.clock.newest_utc().max(newest).map(Utc)) else {
            return Purged { undated: complete as u64, ..Purged::default() };
        };
        let age = i64::try_from(older_than.as_nanos()).unwrap_or(i64::MAX);
        let mut purged = Purged { counted_from: Some(now), ..Purged::default() };
        for (place, seal) in dated.into_iter().enumerate() {
            let is_dropping = self.medium.segments().get(place).is_some_and(|segment| segment.is_dropping());
            match seal.as_ref().and_then(|seal| seal.newest_utc) {
                _ if is_dropping => {}
                _ if self.medium.newer_of(place).is_some() => purged.newer += 1,
                Some(utc) if now.0.saturating_sub(utc) > age && !self.may_drop(place) => purged.newer += 1,
                Some(utc) if now.0.saturating_sub(utc) > age => {
                    let (first, last) = self.medium.span_of(place);
                    purged.segments += 1;
                    purged.entries += self.count_waiting(first, last);
                    self.give_up(place, seal, GapReason::Forgotten);
                }
                Some(_) => {}
                None => purged.undated += 1,
            }
        }
        purged
    }

    /// Gives up a segment if its header is gone in both places: nobody knows under which schema its entries were
    /// written. Answers how many waited.
    pub(in crate::journal) fn lose_nameless(&mut self, first: u64) -> u64 {
        if self.medium.context_of(first).is_some() {
            return 0;
        }
        let Some(place) = self.medium.segments().beginning_with(first) else { return 0 };
        let (first, last) = self.medium.span_of(place);
        self.lose_damaged(first, last)
    }

    /// Gives up numbers that cannot be read. Answers how many waited.
    pub(in crate::journal) fn lose_damaged(&mut self, from: u64, to: u64) -> u64 {
        let waiting = self.count_waiting(from, to);
        let segment = self.medium.segments().with(from).map(|place| self.medium.segments().first_of(place));
        let context = segment.and_then(|first| self.medium.context_of(first));
        let epoch = context.map_or(Epoch(0), |context| context.epoch);
        self.lose(from, to, epoch, None, GapReason::Corrupt);
        waiting
    }

    /// How many of `from..=to` wait.
    pub(super) fn count_waiting(&self, from: u64, to: u64) -> u64 {
        self.queue.lanes().waiting_in(from, to).iter().map(|(from, to)| to - from + 1).sum()
    }
}
