//! How what waits in memory reaches the medium: batch after batch into the segment being written, segment after segment.

use std::time::Duration;

use crate::journal::core::journal_core::{JournalCore, Segment, Trouble};
use crate::journal::disk::chunk::Chunk;
use crate::journal::disk::segment::Seal;
use crate::journal::disk::store::{Store, StoreError};
use crate::measure::{EventKind, Seq};

/// A medium that failed is tried again this often: soon enough to lose little memory, rarely enough to do no harm.
const RETRY: Duration = Duration::from_secs(2);

/// How far a commit goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::journal) enum Until {
    /// All that waits is durable.
    Durable,
    /// All that waits is on its way, and what was before it is durable.
    Begun,
}

/// Chunks that were put and whose sync was begun, without their bodies.
#[derive(Debug, Default)]
pub(in crate::journal) struct UnderWay {
    chunks: Vec<Chunk>,
    /// Of the entries in them.
    entry_bytes: usize,
    /// Of their frames.
    bytes: u64,
}

/// Why nothing was written.
pub(in crate::journal) enum Failure {
    /// There is nothing to write to.
    NoMedium,
    /// The medium did not do it.
    Store(StoreError),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl<S: Store> JournalCore<S> {
    /// Batch by batch. While the medium makes one durable, the next one is prepared.
    pub(in crate::journal) fn write_out(&mut self, until: Until) -> Result<(), Failure> {
        self.save_times()?;
        let is_burst = self.is_burst();
        loop {
            let from = self.under_way.chunks.last().map_or(self.durable, Chunk::last) + 1;
            let chunks = self.tail.chunks(self.context.epoch, from, self.limits.commit_bytes);
            let Some(last) = chunks.last().map(Chunk::last) else { break };
            if self.active_is_full() {
                self.seal_active()?;
            }
            self.open_segment()?;
            self.note_sent_unsynced()?;
            let batch = self.put(chunks, is_burst)?;
            self.finish()?;
            let store = self.store.as_mut().ok_or(Failure::NoMedium)?;
            if until == Until::Durable && self.tail.last() == Some(last) {
                store.sync()?;
            } else {
                store.begin_sync()?;
            }
            self.under_way = batch;
            self.prepare_next();
        }
        if until == Until::Durable {
            self.finish()?;
        }
        Ok(())
    }

    /// So much waits that a commit is due, whenever the last one was.
    pub(in crate::journal) fn is_burst(&self) -> bool {
        self.tail.open_bytes().saturating_sub(self.under_way.entry_bytes) >= self.limits.commit_bytes
    }

    /// Waits for what is under way, between two commits.
    pub(in crate::journal) fn finish_under_way(&mut self, now: Duration) {
        match self.finish() {
            Ok(()) | Err(Failure::NoMedium) => self.lanes.extend(self.durable + 1),
            Err(Failure::Store(error)) => self.failed(&error, now),
        }
    }

    /// Hands chunks to the medium; their bodies are not needed any more. In a burst they stay as they are: there the processor
    /// is what is waited for, and it has better things to do. A depot's own rate is no burst.
    fn put(&mut self, mut chunks: Vec<Chunk>, is_burst: bool) -> Result<UnderWay, Failure> {
        let store = self.store.as_mut().ok_or(Failure::NoMedium)?;
        let (mut bytes, mut entry_bytes) = (0, 0);
        self.may_survive = chunks.last().map_or(self.may_survive, Chunk::last);
        for chunk in &mut chunks {
            let frames = if is_burst { chunk.frames_as_is() } else { chunk.frames() };
            entry_bytes += chunk.entry_bytes();
            chunk.body = Vec::new();
            bytes += frames.iter().map(|frame| frame.len() as u64).sum::<u64>();
            store.put(chunk.first, &frames)?;
        }
        self.bytes_written += bytes;
        Ok(UnderWay { chunks, entry_bytes, bytes })
    }

    /// Waits until what is under way is durable. If it cannot be, it still waits in memory.
    fn finish(&mut self) -> Result<(), Failure> {
        let UnderWay { chunks, .. } = std::mem::take(&mut self.under_way);
        let Some(last) = chunks.last() else { return Ok(()) };
        let store = self.store.as_mut().ok_or(Failure::NoMedium)?;
        store.finish_sync()?;
        if let Some(active) = &mut self.active {
            chunks.iter().for_each(|chunk| active.add(chunk));
        }
        if let Some(segment) = self.segments.last_mut() {
            segment.bytes = store.bytes(Seq(segment.first));
        }
        self.durable = last.last();
        self.tail.close_to(self.durable);
        Ok(())
    }

    /// Whether the segment being written is full, with what is under way to it.
    fn active_is_full(&self) -> bool {
        self.active.as_ref().zip(self.segments.last()).is_some_and(|(seal, segment)| {
            let chunks = seal.chunks.saturating_add(u32::try_from(self.under_way.chunks.len()).unwrap_or(u32::MAX));
            segment.bytes + self.under_way.bytes >= self.limits.segment_bytes || chunks >= self.limits.segment_chunks
        })
    }

    /// The segment is full with what is under way: the next one can be begun, if nothing goes wrong until it is needed.
    fn prepare_next(&mut self) {
        if self.active_is_full()
            && let (Some(store), Some(last)) = (&mut self.store, self.under_way.chunks.last())
        {
            store.prepare(&self.context.header(last.last() + 1));
        }
    }

    fn open_segment(&mut self) -> Result<(), Failure> {
        let store = self.store.as_mut().ok_or(Failure::NoMedium)?;
        if self.active.is_some() {
            return Ok(());
        }
        let first = self.durable + 1;
        // One that failed before anything in it was durable has the same name.
        if self.segments.last().is_some_and(|last| last.first == first) {
            store.remove(Seq(first))?;
            self.segments.pop();
            self.may_survive = 0;
        }
        store.create(&self.context.header(first))?;
        self.segments.push(Segment::new(first, store.bytes(Seq(first))));
        self.active = Some(Seal::open(first));
        Ok(())
    }

    /// Completes the segment being written, with what is under way to it.
    pub(in crate::journal) fn seal_active(&mut self) -> Result<(), StoreError> {
        match self.finish() {
            Ok(()) | Err(Failure::NoMedium) => {}
            Err(Failure::Store(error)) => return Err(error),
        }
        let (Some(store), Some(seal)) = (self.store.as_mut(), self.active.take()) else { return Ok(()) };
        store.shut();
        let sealed = store.seal(Seq(seal.first), &seal);
        if let Some(segment) = self.segments.last_mut() {
            segment.bytes = store.bytes(Seq(segment.first));
            segment.seal = sealed.is_err().then_some(seal);
        }
        sealed
    }

    pub(in crate::journal) fn succeeded(&mut self, now: Duration) {
        self.commits += 1;
        self.open_since = (self.tail.open_count() > 0).then_some(now);
        self.lanes.extend(self.durable + 1);
        self.release_withheld();
        if self.trouble.take().is_some() {
            tracing::info!("the journal writes to its medium again");
            // Whoever was never told of the trouble need not be told of its end.
            let untold = matches!(self.news, Some(EventKind::JournalFailing(_)));
            self.news = if untold { None } else { Some(EventKind::JournalWorking) };
        }
    }

    /// The segment being written is dead for good; what was not synced is still in memory.
    pub(in crate::journal) fn failed(&mut self, error: &StoreError, now: Duration) {
        let source = std::error::Error::source(error).map_or_else(String::new, |source| format!(": {source}"));
        let text = format!("{error}{source}; {}", error.remedy());
        if self.trouble.is_none() {
            tracing::error!(trouble = text, "the journal cannot write; entries wait in memory");
            self.news = Some(EventKind::JournalFailing(text.as_str().into()));
        }
        let since = self.trouble.as_ref().map_or(now, |trouble| trouble.since);
        self.trouble = Some(Trouble { since, retry_at: now + RETRY, text });
        self.under_way = UnderWay::default();
        // What an earlier batch made durable counts.
        self.lanes.extend(self.durable + 1);
        if let Some(store) = &mut self.store {
            store.shut();
        }
        if self.active.as_ref().is_some_and(|seal| seal.last >= seal.first) {
            // If the seal cannot be written either, the next start looks into the segment.
            if self.seal_active().is_ok() {
                self.may_survive = 0;
            }
        }
        self.active = None;
    }
}
