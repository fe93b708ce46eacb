//! What goes: segments that nobody needs any more, and, when a bound is reached, the oldest that somebody would; but for
//! what `downsampling` can save.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::journal::WhenFull;
use crate::journal::core::downsampling::{Job, JobState};
use crate::journal::core::journal_core::{JournalCore, Limits};
use crate::journal::core::losses::Loss;
use crate::journal::core::reader::Fetched;
use crate::journal::disk::cursor::Cursor;
use crate::journal::disk::segment::Seal;
use crate::journal::disk::store::{Durably, Record, Room, Store, StoreError};
use crate::measure::{Gap, GapReason, Seq};

/// What is settled is written at least this often: what a kill may repeat.
const CURSOR_SAVE: Duration = Duration::from_secs(1);
/// And made durable at least this often: what a power cut may repeat. Each costs a sync of the disk.
const CURSOR_SYNC: Duration = Duration::from_secs(10);
/// Bounds are looked at this often; and at every removal.
const RETAIN: Duration = Duration::from_secs(1);

/// A whole segment that was acknowledged goes as soon as this, and two go at once: a replay at full speed would else leave a
/// second of it on disk. Each time costs a durable cursor.
const REMOVE_SETTLED: Duration = Duration::from_millis(100);

/// Where the cursor stands.
#[derive(Debug, Default)]
pub(in crate::journal) struct Ledger {
    pub(in crate::journal) generation: u64,
    /// Whether the newest durable slot is the second.
    pub(in crate::journal) second: bool,
    /// Something was settled since the last save.
    pub(in crate::journal) dirty: bool,
    /// It was saved since the last durable save.
    unsynced: bool,
    saved_at: Duration,
    synced_at: Duration,
    retained_at: Duration,
    removed_at: Duration,
    /// Segments of which something was handed out, as the cursor says it.
    published: BTreeSet<u64>,
    /// One of them is not noted durably yet.
    unnoted: bool,
    /// What was free when somebody last looked.
    room: Option<Room>,
    /// Downsampling under way.
    pub(in crate::journal) job: Option<Job>,
    /// Nothing is downsampled before.
    pub(in crate::journal) downsamples_from: Duration,
}

impl Ledger {
    /// After a start that has found this cursor: the next save supersedes it.
    pub(in crate::journal) fn after(generation: u64, second: bool, published: BTreeSet<u64>) -> Self {
        Self { generation, second, published, dirty: true, ..Self::default() }
    }
}

/// A bound is reached.
#[derive(Debug, Clone, Copy)]
pub(in crate::journal) struct Pressure {
    /// What may be kept.
    budget: u64,
    /// It must be kept at once, whatever else waits.
    urgent: bool,
}

impl<S: Store> JournalCore<S> {
    /// What is done from time to time: bounds, and the cursor.
    pub(in crate::journal) fn maintain(&mut self, now: Duration) {
        self.mind_the_clock(now);
        if now >= self.ledger.retained_at + RETAIN {
            self.ledger.retained_at = now;
            self.look_at_room();
            self.remove_settled(now);
            self.give_up_aged();
        } else if self.trouble().is_none()
            && (self.oldest_are_settled(2)
                || now >= self.ledger.removed_at + REMOVE_SETTLED && self.oldest_are_settled(1))
        {
            self.ledger.removed_at = now;
            self.remove_settled(now);
        }
        self.make_room(now);
        let Ledger { dirty, unsynced, saved_at, synced_at, .. } = self.ledger;
        let saved = if (dirty || unsynced) && now >= synced_at + CURSOR_SYNC {
            self.save_cursor(Durably::Yes, now)
        } else if dirty && now >= saved_at + CURSOR_SAVE {
            self.save_cursor(Durably::No, now)
        } else {
            Ok(())
        };
        if let Err(error) = saved {
            tracing::warn!(%error, "the cursor cannot be saved; a restart would send more again");
        }
    }

    /// Removes every complete segment of which nothing is needed.
    pub(in crate::journal) fn remove_settled(&mut self, now: Duration) {
        let needless = (0..self.complete()).filter(|&place| self.is_needless(place));
        let goes: Vec<u64> = needless.map(|place| self.segments[place].first).collect();
        if goes.is_empty() {
            return;
        }
        // Only a cursor that is durable says that the numbers of a missing segment are settled and not lost.
        if let Err(error) = self.save_times_behind().and_then(|()| self.save_cursor(Durably::Yes, now)) {
            tracing::warn!(%error, "the cursor cannot be saved; segments stay until it can");
            return;
        }
        for first in goes {
            if let Err(error) = self.let_go(first) {
                tracing::warn!(%error, "a segment cannot be removed; it is tried again");
                return;
            }
        }
        self.look_at_room();
    }

    /// An entry goes out. Of each segment this is noted once, durably, before anything of it goes out: what the broker
    /// may have under its number is never downsampled, not after a restart either.
    pub(in crate::journal) fn note_publication(&mut self, number: u64) {
        if number > self.durable {
            // It goes out from memory: see `note_sent_unsynced`.
            return;
        }
        let Some(first) = self.segment_of(number).map(|place| self.segments[place].first) else { return };
        self.ledger.unnoted |= self.ledger.published.insert(first);
        if self.ledger.unnoted {
            self.save_publication();
        }
    }

    /// Entries are about to become durable in the segment being written; some may have gone out from memory before.
    pub(in crate::journal) fn note_sent_unsynced(&mut self) -> Result<(), StoreError> {
        let Some(first) = self.segments.last().map(|segment| segment.first) else { return Ok(()) };
        // Also those that came back as delivered: no cursor has them settled yet.
        let sent_unsynced = self.lanes.any_published_in(first, self.next)
            || self.lanes.settled().count_within(self.durable + 1, self.next) > 0;
        if sent_unsynced {
            self.ledger.unnoted |= self.ledger.published.insert(first);
        }
        if self.ledger.unnoted {
            self.save_cursor(Durably::Yes, self.ledger.saved_at)?;
        }
        Ok(())
    }

    fn save_publication(&mut self) {
        self.ledger.dirty = true;
        if let Err(error) = self.save_cursor(Durably::Yes, self.ledger.saved_at) {
            // It stays in memory and is tried again with the next one. To deliver comes first.
            tracing::warn!(%error, "the cursor cannot be saved; it does not say what is being sent");
        }
    }

    pub(in crate::journal) fn save_cursor(&mut self, durably: Durably, now: Duration) -> Result<(), StoreError> {
        let Some(store) = self.store.as_mut() else { return Ok(()) };
        let durable = self.durable;
        let settled = self.lanes.settled().iter().filter(|&(a, _)| a <= durable).map(|(a, b)| (a, b.min(durable)));
        let there = |first: &u64| self.segments.binary_search_by_key(first, |segment| segment.first).is_ok();
        self.ledger.published.retain(there);
        let published = self.ledger.published.iter().copied().collect();
        let cursor = Cursor::new(self.ledger.generation + 1, durable + 1, settled, published);
        let Some(bytes) = cursor.write() else { return Ok(()) };
        // Never the slot that is the newest durable one.
        let slot = if self.ledger.second { Record::CursorA } else { Record::CursorB };
        store.save(slot, &bytes, durably)?;
        self.ledger.dirty = false;
        self.ledger.unsynced = durably == Durably::No;
        self.ledger.saved_at = now;
        if durably == Durably::Yes {
            self.ledger.generation += 1;
            self.ledger.second = !self.ledger.second;
            self.ledger.synced_at = now;
            self.ledger.unnoted = false;
        }
        Ok(())
    }

    fn is_needless(&self, place: usize) -> bool {
        self.lanes.settled().covers(self.segments[place].first, self.last_of(place))
    }

    /// Whether so many of the oldest segments are complete and nothing of them is needed.
    fn oldest_are_settled(&self, count: usize) -> bool {
        self.complete() >= count && (0..count).all(|place| self.is_needless(place))
    }

    fn let_go(&mut self, first: u64) -> Result<(), StoreError> {
        let Some(place) = self.segments.iter().position(|segment| segment.first == first) else { return Ok(()) };
        let Some(store) = self.store.as_mut() else { return Ok(()) };
        if self.segments[place].damaged {
            store.quarantine(Seq(first))?;
        } else {
            store.remove(Seq(first))?;
        }
        self.segments.remove(place);
        Ok(())
    }

    fn give_up_aged(&mut self) {
        let Some(now) = self.newest_utc else { return };
        let age_max = i64::try_from(self.limits.age_max.as_nanos()).unwrap_or(i64::MAX);
        // What was downsampled has newer numbers than what is younger: the first to drop is the oldest all the same.
        while let Some(place) = self.first_to_drop() {
            let seal = self.seal_of(place);
            let aged = seal.as_ref().and_then(|s| s.newest_utc).is_some_and(|utc| now.saturating_sub(utc) > age_max);
            if !aged {
                return;
            }
            self.give_up(place, seal, GapReason::Aged);
        }
    }

    /// Thins or drops until the bounds are kept, or as far as it goes now.
    fn make_room(&mut self, now: Duration) {
        if self.limits.when_full == WhenFull::RefuseNewest {
            return;
        }
        while let Some(Pressure { budget, urgent }) = self.pressure() {
            let downsampled = match self.limits.when_full {
                WhenFull::Thin => self.downsample(budget, now),
                WhenFull::DropOldest | WhenFull::RefuseNewest => JobState::Nothing,
            };
            match downsampled {
                JobState::Working if !urgent => return,
                JobState::Working | JobState::Done => {}
                JobState::Nothing => {
                    let Some(place) = self.first_to_drop() else { return };
                    let seal = self.seal_of(place);
                    self.give_up(place, seal, GapReason::JournalFull);
                }
            }
        }
        self.ledger.job = None;
    }

    /// Whether a bound is reached. What is only waiting to be removed does not count.
    pub(in crate::journal) fn pressure(&self) -> Option<Pressure> {
        let Limits { bytes_max, free_min, segment_bytes, .. } = self.limits;
        let kept: u64 = self.segments.iter().filter(|segment| !segment.dropping).map(|segment| segment.bytes).sum();
        let going: u64 = self.segments.iter().filter(|segment| segment.dropping).map(|segment| segment.bytes).sum();
        if kept > bytes_max {
            return Some(Pressure { budget: bytes_max, urgent: kept > bytes_max.saturating_add(segment_bytes / 2) });
        }
        let room = self.ledger.room?;
        let (free, free_min) = (room.free.saturating_add(going), free_min.min(room.total / 8));
        // The last two segments are ours, whoever fills the disk.
        let tight = free < free_min && kept > segment_bytes.saturating_mul(2);
        tight.then_some(Pressure { budget: kept, urgent: free < free_min / 2 })
    }

    fn look_at_room(&mut self) {
        self.ledger.room = self.store.as_mut().and_then(Store::room);
    }

    pub(in crate::journal) fn seal_of(&mut self, place: usize) -> Option<Seal> {
        let segment = &self.segments[place];
        if segment.seal.is_some() {
            return segment.seal.clone();
        }
        self.store.as_mut()?.seal_of(Seq(segment.first)).ok().flatten()
    }

    /// Gives up a segment: its gap is told in the next window, and it goes when that is durable.
    pub(in crate::journal) fn give_up(&mut self, place: usize, seal: Option<Seal>, reason: GapReason) {
        self.segments[place].dropping = true;
        let (first, last) = (self.segments[place].first, self.last_of(place));
        if self.lanes.waiting_in(first, last).is_empty() {
            return;
        }
        tracing::error!(from = first, to = last, reason = reason.as_str(), "the oldest entries are given up");
        let told_before = self.gaps_told_in(first, last, seal.as_ref());
        let epoch = self.context_of(first).map_or(crate::measure::Epoch(0), |context| context.epoch);
        self.lose(first, last, epoch, seal.map(|seal| seal.points), reason);
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
            if self.lanes.waiting_in(number, number).is_empty() {
                continue;
            }
            if let Fetched::Entry(entry) = self.fetch(number) {
                gaps.extend(entry.window.gaps());
            }
        }
        gaps
    }
}
