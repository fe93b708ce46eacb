//! What goes: segments that nobody needs any more, and, when a bound is reached, the oldest that somebody would; but for
//! what `downsampling` can save.

use std::time::Duration;

use super::JournalCore;
use crate::journal::core::job::JobState;
use crate::journal::core::limits::Limits;
use crate::journal::core::losses::Loss;
use crate::journal::core::medium::Gone;
use crate::journal::core::reader::Fetched;
use crate::journal::core::segments::Segment;
use crate::journal::disk::record::Record;
use crate::journal::disk::segment::Seal;
use crate::journal::disk::store::{Durably, Store, StoreError};
use crate::measure::WhenFull;
use crate::measure::{Epoch, Gap, GapReason};

/// Segments that are dropped and slices of downsampling that are done in one call, however urgent it is; the next call goes
/// on.
const STEPS_MAX: usize = 64;

/// A bound is reached.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pressure {
    /// What may be kept.
    budget: u64,
    /// It must be kept at once, whatever else waits.
    urgent: bool,
}

impl<S: Store> JournalCore<S> {
    /// What is done from time to time: bounds, and the cursor.
    pub(in crate::journal) fn maintain(&mut self, now: Duration) {
        self.hold_for_clock(now);
        if self.upkeep.looks_at_bounds(now) {
            self.medium.look_at_room();
            self.remove_settled(now);
            self.note_complete(now);
            self.give_up_aged(now);
            let lived = self.age.due(now);
            self.save_age(lived);
        } else if self.trouble().is_none()
            && (self.oldest_are_settled(2) || self.upkeep.may_remove_one(now) && self.oldest_are_settled(1))
        {
            self.upkeep.removes(now);
            self.remove_settled(now);
        }
        self.make_room(now);
        let saved = self.medium.ledger().is_due(now).map_or(Ok(()), |durably| self.save_cursor(durably, now));
        if let Err(error) = saved {
            self.warn(&error, "the cursor cannot be saved; a restart would send more again");
        }
    }

    /// Removes every complete segment of which nothing is needed.
    pub(super) fn remove_settled(&mut self, now: Duration) {
        let mut goes = Vec::new();
        for place in 0..self.medium.complete() {
            if self.is_needless(place) && self.medium.newer_of(place).is_none() {
                goes.push(self.medium.segments().first_of(place));
            }
        }
        if goes.is_empty() {
            return;
        }
        // Only a cursor that is durable says that the numbers of a missing segment are settled and not lost.
        if let Err(error) = self.save_times_behind().and_then(|()| self.save_cursor(Durably::Yes, now)) {
            self.warn(&error, "the cursor cannot be saved; segments stay until it can");
            return;
        }
        for first in goes {
            if let Err(error) = self.medium.let_go(first) {
                self.warn(&error, "a segment cannot be removed; it is tried again");
                return;
            }
        }
        self.medium.look_at_room();
    }

    /// An entry goes out. Of each segment this is noted once, durably, before anything of it goes out: what the broker
    /// may have under its number is never downsampled, not after a restart either.
    pub(super) fn note_publication(&mut self, number: u64) {
        if number > self.medium.durable() {
            // It goes out from memory: see `note_sent_unsynced`.
            return;
        }
        let Some(place) = self.medium.segments().with(number) else { return };
        let first = self.medium.segments().first_of(place);
        self.medium.note_published(first);
        if self.medium.ledger().lacks_publication() {
            self.medium.touch_cursor();
            if let Err(error) = self.save_cursor(Durably::Yes, self.medium.ledger().saved_at()) {
                // It stays in memory and is tried again with the next one. To deliver comes first.
                self.warn(&error, "the cursor cannot be saved; it does not say what is being sent");
            }
        }
    }

    /// What went out was heard by nobody, and may become coarser after all. A restart may know nothing of that.
    pub(super) fn take_back_publication(&mut self, number: u64) {
        self.queue.give_back_unheard(number);
        if number > self.medium.durable() {
            // It was never noted, or with all the rest of its segment: see `note_sent_unsynced`.
            return;
        }
        let Some(place) = self.medium.segments().with(number) else { return };
        let (first, last) = self.medium.span_of(place);
        let is_newest = self.medium.segments().newest().is_some_and(|segment| segment.first() == first);
        let is_out =
            if is_newest { self.is_newest_out(first) } else { self.queue.lanes().any_published_in(first, last) };
        if !is_out {
            self.medium.take_back_publication(first);
        }
    }

    /// While the medium is known to fail, that has been told.
    fn warn(&self, error: &StoreError, what: &str) {
        match self.trouble() {
            None => tracing::warn!(%error, "{what}"),
            Some(_) => tracing::debug!(%error, "{what}"),
        }
    }

    /// Entries are about to become durable in the segment being written; some may have gone out from memory before.
    pub(super) fn note_sent_unsynced(&mut self) -> Result<(), StoreError> {
        let Some(first) = self.medium.segments().newest().map(|segment| segment.first()) else { return Ok(()) };
        if self.is_newest_out(first) {
            self.medium.note_published(first);
        }
        if self.medium.ledger().lacks_publication() {
            self.save_cursor(Durably::Yes, self.medium.ledger().saved_at())?;
        }
        Ok(())
    }

    /// Whether anything has gone out of the newest segment, which begins with `first`.
    fn is_newest_out(&self, first: u64) -> bool {
        let (lanes, next) = (self.queue.lanes(), self.queue.next());
        // Also those that came back as delivered: no cursor has them settled yet.
        lanes.any_published_in(first, next) || lanes.settled().count_within(self.medium.durable() + 1, next) > 0
    }

    pub(super) fn save_cursor(&mut self, durably: Durably, now: Duration) -> Result<(), StoreError> {
        self.medium.save_cursor(self.queue.lanes().settled(), durably, now)
    }

    fn is_needless(&self, place: usize) -> bool {
        let (first, last) = self.medium.span_of(place);
        self.queue.lanes().settled().covers(first, last)
    }

    /// Whether so many of the oldest segments are complete and nothing of them is needed.
    fn oldest_are_settled(&self, count: usize) -> bool {
        self.medium.complete() >= count && (0..count).all(|place| self.is_needless(place))
    }

    /// Tells the age of segments which of them are complete now.
    pub(super) fn note_complete(&mut self, now: Duration) {
        let complete = self.medium.complete();
        self.age.note(self.medium.segments().iter().take(complete).map(Segment::first), now);
    }

    /// Nothing is lost if it fails but that what waits is kept for longer.
    pub(super) fn save_age(&mut self, bytes: Option<Vec<u8>>) {
        let saved = bytes.map_or(Ok(()), |bytes| self.medium.save(Record::Lived, &bytes));
        if let Err(error) = saved {
            tracing::debug!(%error, "the time lived cannot be saved");
        }
    }

    /// Gives up what is too old, by the time that was lived through: no step of the wall clock makes anything old. Of segments
    /// of earlier lives it looks through one in a call: the next call goes on.
    fn give_up_aged(&mut self, now: Duration) {
        for place in self.ranked_to_drop() {
            let first = self.medium.segments().first_of(place);
            // Its seal may not be readable, and it stays anyhow.
            if self.age.of(first, now) <= self.limits.age_max || self.medium.newer_of(place).is_some() {
                continue;
            }
            let seal = self.medium.seal_of(place);
            let was_known = self.medium.knows_whether_to_drop(place, now);
            if self.may_drop(place, now) {
                self.give_up(place, seal, GapReason::Aged);
            }
            if !was_known {
                return;
            }
        }
    }

    /// Downsamples or drops until the bounds are kept, or as far as it goes now. Of segments of earlier lives it looks
    /// through one in a call: the next call goes on.
    fn make_room(&mut self, now: Duration) {
        if self.limits.when_full == WhenFull::RefuseNewest {
            return;
        }
        for _ in 0..STEPS_MAX {
            let Some(Pressure { budget, urgent }) = self.pressure() else { return self.upkeep.keep_job(None) };
            let state = match self.limits.when_full {
                WhenFull::Thin => self.downsample(budget, now),
                WhenFull::DropOldest | WhenFull::RefuseNewest => JobState::Nothing,
            };
            match state {
                JobState::Working if !urgent => return,
                JobState::Later => return,
                JobState::Working | JobState::Done => {}
                JobState::Nothing => {
                    let Some((place, was_known)) = self.first_to_drop(now) else { return };
                    let seal = self.medium.seal_of(place);
                    self.give_up(place, seal, GapReason::JournalFull);
                    if !was_known {
                        return;
                    }
                }
            }
        }
    }

    /// Whether a bound is reached. What is only waiting to be removed does not count.
    pub(super) fn pressure(&self) -> Option<Pressure> {
        let Limits { bytes_max, free_min, segment_bytes, .. } = self.limits;
        let going = self.medium.segments().bytes_dropping();
        // What a newer program wrote counts, and what is ours gives; but for two segments of it.
        let newer = self.medium.segments().bytes_of_newer();
        let kept = self.medium.segments().bytes().saturating_sub(going + newer);
        let budget = match newer {
            0 => bytes_max,
            newer => bytes_max.saturating_sub(newer).max(segment_bytes.saturating_mul(2)),
        };
        if kept > budget {
            return Some(Pressure { budget, urgent: kept > budget.saturating_add(segment_bytes / 2) });
        }
        let room = self.medium.room()?;
        let (free, free_min) = (room.free.saturating_add(going), free_min.min(room.total / 8));
        // The last two segments are ours, whoever fills the disk.
        let tight = free < free_min && kept > segment_bytes.saturating_mul(2);
        tight.then_some(Pressure { budget: kept, urgent: free < free_min / 2 })
    }

    /// The complete segment that gives first when something must be dropped, and whether that was known without looking
    /// through it. `None` also if one was looked through that must stay.
    fn first_to_drop(&mut self, now: Duration) -> Option<(usize, bool)> {
        for place in self.ranked_to_drop() {
            let was_known = self.medium.knows_whether_to_drop(place, now);
            if self.may_drop(place, now) {
                return Some((place, was_known));
            }
            if !was_known {
                return None;
            }
        }
        None
    }

    /// The complete segments in the order in which they give: the coarsest and so oldest first, of which nothing is out on
    /// lease before those of which something is.
    fn ranked_to_drop(&mut self) -> Vec<usize> {
        let mut ranked = Vec::new();
        for place in 0..self.medium.complete() {
            if self.medium.segments().get(place).is_some_and(|segment| !segment.is_dropping()) {
                let (first, last) = self.medium.span_of(place);
                let is_leased = self.queue.lanes().any_leased_in(first, last);
                ranked.push((is_leased, std::cmp::Reverse(self.medium.resolution_of(place)), place));
            }
        }
        ranked.sort_unstable();
        ranked.into_iter().map(|(.., place)| place).collect()
    }

    /// Whether a segment may be given up: nothing in it is a newer program's. Reads all of it the first time.
    pub(super) fn may_drop(&mut self, place: usize, now: Duration) -> bool {
        let was_known = self.medium.knows_whether_to_drop(place, now);
        let may_drop = self.medium.may_drop(place, now);
        if !may_drop && !was_known {
            self.note_newer();
        }
        may_drop
    }

    /// Gives up a segment: its gap is told in the next window, and it goes when that is durable.
    pub(super) fn give_up(&mut self, place: usize, seal: Option<Seal>, reason: GapReason) {
        self.medium.set_dropping(place);
        let (first, last) = self.medium.span_of(place);
        if self.queue.lanes().waiting_in(first, last).is_empty() {
            return;
        }
        tracing::error!(from = first, to = last, reason = reason.as_str(), "the oldest entries are given up");
        let told_before = self.gaps_told_in(first, last, seal.as_ref());
        let epoch = self.medium.context_of(first).map_or(Epoch(0), |context| context.epoch);
        let gone = self.medium.gone_behind(place);
        let own = gone.map_or(last, |gone| gone.from - 1);
        self.lose(first, own, epoch, seal.map(|seal| seal.points), reason);
        if let Some(Gone { from, to, epoch }) = gone {
            self.lose(from, to, epoch, None, GapReason::Corrupt);
        }
        // Who never got to read of these must read of them later.
        if !told_before.is_empty() {
            self.losses.push(Loss { gaps: told_before, refusal: None, settles: Vec::new() });
        }
    }

    /// The gaps that waiting entries of a segment tell: with the entries the telling would be lost.
    fn gaps_told_in(&mut self, first: u64, last: u64, seal: Option<&Seal>) -> Vec<Gap> {
        let listed = seal.and_then(|seal| seal.telling.clone());
        let telling: Vec<u64> = listed.unwrap_or_else(|| (first..=last).collect());
        let mut gaps = Vec::new();
        for number in telling {
            if self.queue.lanes().waiting_in(number, number).is_empty() {
                continue;
            }
            if let Fetched::Entry(entry) = self.fetch(number) {
                entry.window.lives_lost().for_each(|lost| self.losses.tell_life_lost(lost));
                gaps.extend(entry.window.gaps());
            }
        }
        gaps
    }
}
