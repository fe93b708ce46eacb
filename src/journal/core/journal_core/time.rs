//! Entries that wait for the clock, and labels that are sealed before they leave.

use std::time::Duration;

use super::JournalCore;
use crate::journal::core::clock::MayLeave;
use crate::journal::core::reader::Fetched;
use crate::journal::core::times::Unsaved;
use crate::journal::disk::record::Record;
use crate::journal::disk::store::{Store, StoreError};
use crate::measure::{Entry, Epoch, LifeLost, Seq};

impl<S: Store> JournalCore<S> {
    /// If the boot before ended without a clock: when that was, as its last entry says.
    pub(super) fn look_for_end(&mut self, last: u64) {
        if last > 0
            && self.clock.lacks_end()
            && let Fetched::Entry(entry) = self.fetch(last)
        {
            self.clock.note_end(entry.window.boot, entry.window.end);
        }
    }

    /// Labels an entry that is about to be leased, and answers whether it may leave.
    pub(super) fn seal_time(&mut self, entry: &mut Entry) -> MayLeave {
        match self.clock.seal(entry) {
            Some(true) => return MayLeave::Yes,
            None => return MayLeave::Newer,
            Some(false) => {}
        }
        match self.save_times() {
            Ok(()) => MayLeave::Yes,
            Err(error) => {
                tracing::debug!(%error, "the times of entries cannot be saved");
                match entry.identity.seq.0 {
                    seq if seq <= self.medium.durable() => MayLeave::NotNow,
                    seq if self.medium.may_have(seq) => MayLeave::NotYet,
                    // Neither the entry nor its label outlives this life.
                    _ => MayLeave::Yes,
                }
            }
        }
    }

    /// Decides from which number on entries wait for the clock.
    pub(super) fn hold_for_clock(&mut self, now: Duration) {
        // An anchor may have been seen in a window that was not kept.
        if !self.queue.is_open()
            && let Err(error) = self.save_times()
        {
            tracing::debug!(%error, "the times of entries cannot be saved");
        }
        self.queue.hold(self.clock.held_from(now, self.limits.time_wait));
    }

    /// Makes durable what the times of entries depend on.
    pub(super) fn save_times(&mut self) -> Result<(), StoreError> {
        self.save_as(self.clock.unsaved())
    }

    /// The same, before the newest entries may go.
    pub(super) fn save_times_behind(&mut self) -> Result<(), StoreError> {
        self.save_as(self.clock.behind())
    }

    /// Entry `number`, recorded in the life `recorded`, goes out under another epoch, as others of its segment may: that
    /// is told once in a life that sends some.
    pub(super) fn tell_other_epoch(&mut self, recorded: Epoch, number: u64) {
        let Some(place) = self.medium.segments().with(number) else { return };
        let (from, to) = self.medium.span_of(place);
        if self.other_epochs.insert(from) {
            let (from, to) = (Seq(from), Some(Seq(to)));
            self.losses.tell_life_lost(LifeLost { epoch: recorded, from, to, renumbered: true });
        }
    }

    fn save_as(&mut self, unsaved: Option<Unsaved>) -> Result<(), StoreError> {
        let Some(Unsaved { deciders, times }) = unsaved else { return Ok(()) };
        if let Some(deciders) = deciders {
            self.medium.save(Record::Deciders, &deciders)?;
        }
        self.medium.save(Record::Times, &times)?;
        self.clock.saved();
        Ok(())
    }
}
