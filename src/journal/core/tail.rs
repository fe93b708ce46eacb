//! The newest entries, encoded, in memory: those that are not durable yet, and a few more for the live lane.

use std::collections::VecDeque;

use crate::journal::disk::chunk::Chunk;
use crate::journal::disk::entry::Encoded;
use crate::measure::{Epoch, Seq};

/// Durable entries that are kept for the live lane: more than it may lag ([`crate::journal::core::lanes::LIVE_LAG_MAX`]).
const CACHED_MAX: usize = 256;
/// And no more of them than this many bytes.
const CACHED_BYTES_MAX: usize = 1024 * 1024;
/// A chunk is closed when it has this many bytes: large enough that the store's own bytes do not count, small enough
/// that a damaged one costs little.
pub(super) const CHUNK_BYTES: usize = 24 * 1024;

/// An entry in memory.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) seq: u64,
    pub(super) encoded: Encoded,
}

/// Entries in ascending order of their numbers; holes are numbers that are given up.
#[derive(Debug)]
pub(super) struct Tail {
    entries: VecDeque<Kept>,
    /// Numbers below are durable.
    open_from: u64,
    open_bytes: usize,
    bytes: usize,
}

impl Tail {
    pub(super) fn new(next: u64) -> Self {
        Self { entries: VecDeque::new(), open_from: next, open_bytes: 0, bytes: 0 }
    }

    pub(super) fn push(&mut self, seq: u64, encoded: Encoded) {
        self.bytes += encoded.bytes.len();
        self.open_bytes += encoded.bytes.len();
        self.entries.push_back(Kept { seq, encoded });
    }

    pub(super) fn into_entries(self) -> impl Iterator<Item = Kept> {
        self.entries.into_iter()
    }

    pub(super) fn find(&self, seq: u64) -> Option<&Kept> {
        let at = self.entries.partition_point(|kept| kept.seq < seq);
        self.entries.get(at).filter(|kept| kept.seq == seq)
    }

    /// The newest number.
    pub(super) fn last(&self) -> Option<u64> {
        self.entries.back().map(|kept| kept.seq)
    }

    /// Bytes that are not durable.
    pub(super) fn open_bytes(&self) -> usize {
        self.open_bytes
    }

    /// Entries that are not durable.
    pub(super) fn open_count(&self) -> usize {
        self.entries.len() - self.first_open()
    }

    /// Chunks of entries that are not durable, oldest first, of `bytes_max` together or a little more. `from` is the
    /// number after the last one that was written: what is before it is on its way.
    pub(super) fn chunks(&self, epoch: Epoch, from: u64, bytes_max: usize) -> Vec<Chunk> {
        let (mut chunks, mut bytes, mut expected) = (Vec::new(), 0, from);
        let mut current: Option<Chunk> = None;
        let begin = self.first_open().max(self.entries.partition_point(|kept| kept.seq < from));
        for kept in self.entries.range(begin..) {
            let full = current
                .as_ref()
                .is_some_and(|c| kept.seq != expected || c.body.len() + kept.encoded.bytes.len() > CHUNK_BYTES);
            if full {
                chunks.extend(current.take());
                if bytes >= bytes_max {
                    break;
                }
            }
            let room = CHUNK_BYTES.min(self.open_bytes).max(kept.encoded.bytes.len() + 4);
            let chunk =
                current.get_or_insert_with(|| Chunk::new(epoch, Seq(kept.seq), kept.seq - expected).with_room(room));
            add(chunk, &kept.encoded);
            bytes += kept.encoded.bytes.len();
            expected = kept.seq + 1;
        }
        chunks.extend(current);
        chunks
    }

    /// Numbers up to `durable` are durable: of those only the newest stay.
    pub(super) fn close_to(&mut self, durable: u64) {
        if durable < self.open_from {
            return;
        }
        let (first, after) = (self.first_open(), self.entries.partition_point(|kept| kept.seq <= durable));
        let closed: usize = self.entries.range(first..after.max(first)).map(|kept| kept.encoded.bytes.len()).sum();
        self.open_bytes -= closed;
        self.open_from = self.open_from.max(durable + 1);
        while self.first_open() > CACHED_MAX
            || (self.first_open() > 0 && self.bytes - self.open_bytes > CACHED_BYTES_MAX)
        {
            self.pop();
        }
    }

    /// Gives up the oldest entry that is not durable, and with it all durable ones before it.
    pub(super) fn shed(&mut self) -> Option<Kept> {
        while self.first_open() > 0 {
            self.pop();
        }
        let kept = self.pop()?;
        self.open_bytes -= kept.encoded.bytes.len();
        Some(kept)
    }

    fn pop(&mut self) -> Option<Kept> {
        let kept = self.entries.pop_front()?;
        self.bytes -= kept.encoded.bytes.len();
        Some(kept)
    }

    fn first_open(&self) -> usize {
        self.entries.partition_point(|kept| kept.seq < self.open_from)
    }
}

fn add(chunk: &mut Chunk, encoded: &Encoded) {
    chunk.push(&encoded.bytes);
    chunk.points = chunk.points.saturating_add(u32::try_from(encoded.points).unwrap_or(u32::MAX));
    chunk.newest_utc = chunk.newest_utc.max(encoded.utc);
    chunk.tells_loss |= encoded.tells_loss;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(length: usize) -> Encoded {
        Encoded { bytes: vec![1; length], points: 3, tells_loss: false, utc: Some(5) }
    }

    #[test]
    fn a_number_that_was_given_up_begins_a_new_chunk_that_says_so() {
        let mut tail = Tail::new(10);
        for seq in [12, 13, 17] {
            tail.push(seq, entry(100));
        }
        let chunks = tail.chunks(Epoch(1), 10, usize::MAX);
        let shape: Vec<_> = chunks.iter().map(|c| (c.begins_at(), c.first.0, c.last(), c.points)).collect();
        assert_eq!(shape, [(10, 12, 13, 6), (14, 17, 17, 3)]);
    }

    #[test]
    fn chunks_are_cut_by_bytes_and_a_batch_too() {
        let mut tail = Tail::new(1);
        for seq in 1..=100 {
            tail.push(seq, entry(10_000));
        }
        let chunks = tail.chunks(Epoch(1), 1, 100_000);
        assert_eq!((chunks.len(), chunks[0].count), (5, 2));
        tail.close_to(10);
        assert_eq!(tail.chunks(Epoch(1), 11, usize::MAX)[0].begins_at(), 11);
        assert_eq!((tail.open_count(), tail.open_bytes()), (90, 900_000));
    }

    #[test]
    fn memory_keeps_the_newest_durable_entries_only() {
        let mut tail = Tail::new(1);
        for seq in 1..=1_000 {
            tail.push(seq, entry(10));
        }
        tail.close_to(990);
        assert!(tail.find(990 - 256).is_none());
        assert!(tail.find(991 - 256).is_some());
        assert_eq!(tail.shed().map(|kept| kept.seq), Some(991));
        assert_eq!(tail.open_count(), 9);
    }
}
