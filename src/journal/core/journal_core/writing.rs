//! How what waits in memory reaches the medium: batch after batch into the segment being written, segment after segment.

use std::time::Duration;

use super::JournalCore;
use crate::journal::core::medium::Failure;
use crate::journal::disk::chunk::Chunk;
use crate::journal::disk::store::{Durably, Store, StoreError};

/// How far a commit goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// All that waits is durable.
    Durable,
    /// All that waits is on its way, and what was before it is durable.
    Begun,
}

impl<S: Store> JournalCore<S> {
    /// When the next commit is due, if anything waits for one.
    pub(in crate::journal) fn commit_at(&self) -> Option<Duration> {
        let since = self.queue.open_since()?;
        if let Some(retry_at) = self.medium.retry_at() {
            return Some(retry_at);
        }
        // At once, unless the last one was less than the interval ago: live data does not wait without need, and the
        // disk is not synced more often than that.
        let spaced = self.medium.committed_at().map_or(since, |at| since.max(at + self.limits.commit_interval));
        Some(if self.is_burst() { since } else { spaced })
    }

    /// Makes durable what waits, and carries out the losses that are told by that.
    pub(in crate::journal) fn commit(&mut self, now: Duration) {
        self.write(Until::Durable, now);
    }

    /// The same, but in a burst the last batch is left to the medium: what comes next finishes it, the next commit at the
    /// latest.
    pub(in crate::journal) fn commit_on(&mut self, now: Duration) {
        // A medium that failed is trusted again when it has made something durable, not before.
        let leaves_some = self.is_burst() && self.trouble().is_none();
        self.write(if leaves_some { Until::Begun } else { Until::Durable }, now);
    }

    fn write(&mut self, until: Until, now: Duration) {
        if self.queue.is_open() {
            self.medium.begin_commit(now);
            match self.write_out(until) {
                Ok(()) => self.succeeded(now),
                Err(Failure::NoMedium) => {}
                Err(Failure::Store(error)) => self.failed(&error, now),
            }
        } else {
            self.queue.await_no_commit();
        }
        self.hold_for_clock(now);
        self.send_unsynced(now);
        self.carry_out(now);
    }

    /// Writes all that waits, at the end. Answers whether there is a medium.
    pub(super) fn write_all(&mut self, now: Duration) -> Result<bool, StoreError> {
        match self.write_out(Until::Durable) {
            Ok(()) => {
                self.succeeded(now);
                Ok(true)
            }
            Err(Failure::NoMedium) => Ok(false),
            Err(Failure::Store(error)) => {
                self.failed(&error, now);
                Err(error)
            }
        }
    }

    /// Batch by batch. While the medium makes one durable, the next one is prepared.
    fn write_out(&mut self, until: Until) -> Result<(), Failure> {
        self.save_times()?;
        let is_burst = self.is_burst();
        loop {
            let from = self.medium.last_put() + 1;
            let chunks = self.queue.tail().chunks(self.context.epoch, from, self.limits.commit_bytes);
            let Some(last) = chunks.last().map(Chunk::last) else { break };
            if self.medium.is_active_full(&self.limits) {
                self.seal_active()?;
            }
            self.medium.open_segment(&self.context)?;
            self.note_sent_unsynced()?;
            let batch = self.medium.put(chunks, is_burst)?;
            self.finish()?;
            let is_last = until == Until::Durable && self.queue.tail().last() == Some(last);
            self.medium.sync(batch, if is_last { Durably::Yes } else { Durably::No })?;
            self.medium.prepare_next(&self.context, &self.limits);
        }
        if until == Until::Durable {
            self.finish()?;
        }
        Ok(())
    }

    /// So much waits that a commit is due, whenever the last one was.
    fn is_burst(&self) -> bool {
        let waits = self.queue.tail().open_bytes().saturating_sub(self.medium.entry_bytes_under_way());
        waits >= self.limits.commit_bytes
    }

    /// Waits for what is under way, between two commits.
    pub(super) fn finish_under_way(&mut self, now: Duration) {
        match self.finish() {
            Ok(()) | Err(Failure::NoMedium) => self.queue.extend_to(self.medium.durable()),
            Err(Failure::Store(error)) => self.failed(&error, now),
        }
    }

    fn finish(&mut self) -> Result<(), Failure> {
        self.medium.finish()?;
        self.queue.close_to(self.medium.durable());
        Ok(())
    }

    /// Completes the segment being written, with what is under way to it.
    pub(super) fn seal_active(&mut self) -> Result<(), StoreError> {
        let sealed = self.medium.seal_active();
        self.queue.close_to(self.medium.durable());
        sealed
    }

    fn succeeded(&mut self, now: Duration) {
        self.queue.committed(now);
        self.queue.extend_to(self.medium.durable());
        self.queue.release_withheld();
        if self.medium.succeed() {
            self.losses.tell_end_of_trouble();
        }
    }

    fn failed(&mut self, error: &StoreError, now: Duration) {
        if let Some(text) = self.medium.fail(error, now) {
            self.losses.tell_trouble(&text);
        }
        // What an earlier batch made durable counts.
        self.queue.close_to(self.medium.durable());
        self.queue.extend_to(self.medium.durable());
    }

    /// Without a medium what is in memory may go out: the alternative is to send nothing at all.
    fn send_unsynced(&mut self, now: Duration) {
        if self.medium.is_as_good_as_none(now) {
            self.queue.extend_to_all();
        }
        if !self.medium.is_there() {
            self.queue.await_no_commit();
        }
    }
}
