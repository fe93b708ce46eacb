//! What goes: segments that nobody needs any more, and, when a bound is reached, the oldest that somebody would.

use std::time::Duration;

use super::WhenFull;
use super::cursor::Cursor;
use super::heart::Heart;
use super::losses::Loss;
use super::reader::Fetched;
use super::segment::Seal;
use super::store::{Durably, Record, Store, StoreError};
use crate::measure::{EventKind, Gap, GapReason, Seq};

/// What is settled is written at least this often: what a kill may repeat.
const CURSOR_SAVE: Duration = Duration::from_secs(1);
/// And made durable at least this often: what a power cut may repeat. Each costs a sync of the disk.
const CURSOR_SYNC: Duration = Duration::from_secs(10);
/// Bounds are looked at this often; and at every removal.
const RETAIN: Duration = Duration::from_secs(1);

/// A whole segment that was acknowledged goes as soon as this: a replay at full speed would else leave a second of it on
/// disk. Each costs a durable cursor.
const SWEEP: Duration = Duration::from_millis(100);

/// Where the cursor stands.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) generation: u64,
    /// Whether the newest durable slot is the second.
    pub(super) second: bool,
    /// Something was settled since the last save.
    pub(super) dirty: bool,
    /// It was saved since the last durable save.
    unsynced: bool,
    saved_at: Duration,
    synced_at: Duration,
    retained_at: Duration,
    swept_at: Duration,
}

impl Ledger {
    /// After a start that has found this cursor: the next save supersedes it.
    pub(super) fn after(generation: u64, second: bool) -> Self {
        Self { generation, second, dirty: true, ..Self::default() }
    }
}

impl<S: Store> Heart<S> {
    /// What is done from time to time: bounds, and the cursor.
    pub(super) fn tend(&mut self, now: Duration) {
        self.mind_the_clock(now);
        if now >= self.ledger.retained_at + RETAIN {
            self.ledger.retained_at = now;
            self.sweep(now);
            self.give_up_aged();
        } else if now >= self.ledger.swept_at + SWEEP && self.trouble().is_none() && self.oldest_is_settled() {
            self.ledger.swept_at = now;
            self.sweep(now);
        }
        self.give_up_for_room();
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
    pub(super) fn sweep(&mut self, now: Duration) {
        let complete = self.segments.len() - usize::from(self.active.is_some() && !self.segments.is_empty());
        let needless = |heart: &Self, place: usize| {
            heart.lanes.settled().covers(heart.segments[place].first, heart.last_of(place))
        };
        let goes: Vec<u64> =
            (0..complete).filter(|&place| needless(self, place)).map(|place| self.segments[place].first).collect();
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
    }

    pub(super) fn save_cursor(&mut self, durably: Durably, now: Duration) -> Result<(), StoreError> {
        let Some(store) = self.store.as_mut() else { return Ok(()) };
        let durable = self.durable;
        let settled = self.lanes.settled().iter().filter(|&(a, _)| a <= durable).map(|(a, b)| (a, b.min(durable)));
        let cursor = Cursor::new(self.ledger.generation + 1, durable + 1, settled);
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
        }
        Ok(())
    }

    fn oldest_is_settled(&self) -> bool {
        // The last one may be the one that is written.
        let complete = self.segments.len() > usize::from(self.active.is_some());
        complete && self.lanes.settled().covers(self.segments[0].first, self.last_of(0))
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
        while let Some(place) = self.oldest_droppable() {
            let seal = self.seal_of(place);
            let aged = seal.as_ref().and_then(|s| s.newest_utc).is_some_and(|utc| now.saturating_sub(utc) > age_max);
            if !aged {
                return;
            }
            self.give_up(place, seal, GapReason::Aged);
        }
    }

    fn give_up_for_room(&mut self) {
        if self.limits.when_full == WhenFull::RefuseNewest {
            return;
        }
        loop {
            let kept: u64 = self.segments.iter().filter(|s| !s.doomed).map(|s| s.bytes).sum();
            if kept <= self.limits.bytes_max {
                return;
            }
            let Some(place) = self.oldest_droppable() else { return };
            let seal = self.seal_of(place);
            self.give_up(place, seal, GapReason::JournalFull);
        }
    }

    /// The oldest complete segment of which nothing is out on lease; if there is none, the oldest.
    fn oldest_droppable(&self) -> Option<usize> {
        let complete = self.segments.len() - usize::from(self.active.is_some() && !self.segments.is_empty());
        let mut open = (0..complete).filter(|&place| !self.segments[place].doomed);
        let oldest = open.clone().next();
        open.find(|&place| !self.lanes.any_leased_in(self.segments[place].first, self.last_of(place))).or(oldest)
    }

    pub(super) fn seal_of(&mut self, place: usize) -> Option<Seal> {
        let segment = &self.segments[place];
        if segment.seal.is_some() {
            return segment.seal.clone();
        }
        self.store.as_mut()?.seal_of(Seq(segment.first)).ok().flatten()
    }

    /// Gives up a segment: its gap is told in the next window, and it goes when that is durable.
    pub(super) fn give_up(&mut self, place: usize, seal: Option<Seal>, reason: GapReason) {
        self.segments[place].doomed = true;
        let (first, last) = (self.segments[place].first, self.last_of(place));
        if self.lanes.waiting_in(first, last).is_empty() {
            return;
        }
        tracing::error!(from = first, to = last, reason = reason.as_str(), "the oldest entries are given up");
        let told_before = self.gaps_told_in(first, last, seal.as_ref());
        let epoch = self.words_of(first).map_or(crate::measure::Epoch(0), |words| words.epoch);
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
                let events = entry.window.events.into_iter();
                gaps.extend(events.filter_map(|e| if let EventKind::Gap(gap) = e.kind { Some(gap) } else { None }));
            }
        }
        gaps
    }
}
