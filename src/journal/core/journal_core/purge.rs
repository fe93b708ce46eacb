//! What a person orders to be given up: what is old, and what nobody can read.

use std::time::Duration;

use super::JournalCore;
use crate::journal::disk::store::Store;
use crate::journal::report::Purged;
use crate::measure::{Epoch, GapReason, Utc};

/// An order to give up what is old, and how far it is carried out.
#[derive(Debug)]
pub(in crate::journal) struct Purge {
    older_than: Duration,
    /// What was done so far, and from when to count.
    purged: Purged,
    /// The segments that begin below are dealt with.
    next: u64,
}

impl Purge {
    /// `now`: from when to count; without it from the newest entry.
    pub(in crate::journal) fn new(older_than: Duration, now: Option<Utc>) -> Self {
        Self { older_than, purged: Purged { counted_from: now, ..Purged::default() }, next: 0 }
    }
}

impl<S: Store> JournalCore<S> {
    /// Gives up every complete segment of which all is older than ordered: told in the next window, gone when that is
    /// durable. Of segments of earlier lives it looks through one in a call; `None`: the next call goes on. `at`: the time
    /// of this call.
    pub(in crate::journal) fn purge(&mut self, order: &mut Purge, at: Duration) -> Option<Purged> {
        let complete = self.medium.complete();
        let Some(now) = order.purged.counted_from.or_else(|| self.newest_time()) else {
            return Some(Purged { undated: complete as u64, ..Purged::default() });
        };
        order.purged.counted_from = Some(now);
        let age = i64::try_from(order.older_than.as_nanos()).unwrap_or(i64::MAX);
        for place in 0..complete {
            let first = self.medium.segments().first_of(place);
            if first < order.next {
                continue;
            }
            order.next = first + 1;
            let was_known = self.medium.knows_whether_to_drop(place, at);
            let is_dropping = self.medium.segments().get(place).is_some_and(|segment| segment.is_dropping());
            let seal = self.medium.seal_of(place);
            let purged = &mut order.purged;
            let newest = seal.as_ref().and_then(|seal| seal.newest_utc);
            // By the calendar, which also counts the time in which the box was off; of this life no clock has to be believed.
            let is_old = match self.age.of_this_life(first, at) {
                Some(lived) => lived > order.older_than,
                None => newest.is_some_and(|utc| now.0.saturating_sub(utc) > age),
            };
            match newest {
                _ if is_dropping => {}
                _ if self.medium.newer_of(place).is_some() => purged.newer += 1,
                Some(_) if is_old => {
                    if self.may_drop(place, at) {
                        let (first, last) = self.medium.span_of(place);
                        purged.segments += 1;
                        purged.entries += self.count_waiting(first, last);
                        self.give_up(place, seal, GapReason::Forgotten);
                    } else {
                        purged.newer += 1;
                    }
                    if !was_known {
                        return None;
                    }
                }
                Some(_) => {}
                None => purged.undated += 1,
            }
        }
        Some(order.purged)
    }

    /// The newest time that can be believed: of the last window that was kept, or of the last complete segment that has one. Not
    /// the highest: a clock that went wrong for a while has shown that.
    fn newest_time(&mut self) -> Option<Utc> {
        let kept = self.clock.newest_utc();
        let sealed =
            |core: &mut Self| (0..core.medium.complete()).rev().find_map(|at| core.medium.seal_of(at)?.newest_utc);
        kept.or_else(|| sealed(self)).map(Utc)
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
        let place = self.medium.segments().with(from);
        let gone = place.and_then(|place| self.medium.gone_behind(place)).filter(|gone| from >= gone.from);
        let segment = place.map(|place| self.medium.segments().first_of(place));
        let own = segment.and_then(|first| self.medium.context_of(first)).map(|context| context.epoch);
        let epoch = gone.map(|gone| gone.epoch).or(own).unwrap_or(Epoch(0));
        self.lose(from, to, epoch, None, GapReason::Corrupt);
        waiting
    }

    /// How many of `from..=to` wait.
    pub(super) fn count_waiting(&self, from: u64, to: u64) -> u64 {
        self.queue.lanes().waiting_in(from, to).iter().map(|(from, to)| to - from + 1).sum()
    }
}
