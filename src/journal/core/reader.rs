//! Finds the content of a number in the chunk that was read last, or on the medium.

use std::ops::Range;
use std::sync::Arc;

use crate::journal::core::context::WriterContext;
use crate::journal::disk::chunk::{self, Chunk};
use crate::journal::disk::entry;
use crate::journal::disk::store::{Store, StoreError};
use crate::journal::disk::unreadable::Unreadable;
use crate::measure::{Entry, Epoch, Identity, Seq};

/// What a number turned out to be.
#[derive(Debug)]
pub(in crate::journal) enum Fetched {
    /// An entry.
    Entry(Box<Entry>),
    /// From the number asked for to this one nothing was ever written, on purpose.
    Skipped { to: u64 },
    /// From the number asked for to this one nothing can be read any more.
    Lost { to: u64, epoch: Epoch },
    /// From the number asked for to this one a newer program wrote it, in a version that this one does not know; `None`: it
    /// does not say in which.
    Newer { to: u64, version: Option<u16> },
}

/// Where a number is.
#[derive(Debug)]
pub(super) enum Looked {
    /// In the reader's chunk.
    Found,
    /// A newer program wrote it, and those up to `to`.
    Newer { to: u64 },
    /// It was never written, and neither were those up to `to`.
    Skipped { to: u64 },
    /// Nobody knows. `None`: to the end of the segment.
    Hole { to: Option<u64> },
}

/// What was read last: one chunk, and the context of one segment. Memory does not grow with the backlog.
#[derive(Debug, Default)]
pub(super) struct Reader {
    context: Option<(u64, WriterContext)>,
    chunk: Option<(Chunk, Vec<Range<usize>>)>,
}

impl Reader {
    /// The epoch, the boot and the schema under which a segment was written.
    pub(super) fn context_of<S: Store>(&mut self, store: Option<&mut S>, segment: u64) -> Option<WriterContext> {
        if let Some((first, context)) = &self.context
            && *first == segment
        {
            return Some(context.clone());
        }
        let header = store?.header(Seq(segment));
        let header = header.inspect_err(|error| tracing::error!(%error, "the words of a segment are lost")).ok()?;
        let context = WriterContext::from(header);
        self.context = Some((segment, context.clone()));
        Some(context)
    }

    /// Whether the chunk that was read last has this number.
    pub(super) fn has(&self, number: u64) -> bool {
        self.chunk.as_ref().is_some_and(|(chunk, _)| (chunk.first.0..=chunk.last()).contains(&number))
    }

    /// Looks for the chunk of a segment that has this number, as the store finds it.
    pub(super) fn look<S: Store>(&mut self, store: Option<&mut S>, segment: u64, number: u64) -> Looked {
        let hole = Looked::Hole { to: None };
        let Some(store) = store else { return hole };
        let mut frames = store.at_or_before(Seq(segment), Seq(number));
        // The chunk at or before; if it ends too early, the one after says whether numbers are missing.
        for _ in 0..2 {
            let Ok(Some(found)) = &frames else { return hole };
            let Ok(chunk) = Chunk::join(found) else { return hole };
            // The numbers first: they are in the head, whose version is every version's.
            if chunk.last() < number {
                frames = store.after(Seq(segment), chunk.first);
                continue;
            }
            if chunk.first.0 > number {
                return match chunk.begins_at() {
                    begins_at if begins_at <= number => Looked::Skipped { to: chunk.first.0 - 1 },
                    begins_at => Looked::Hole { to: Some(begins_at - 1) },
                };
            }
            if chunk.newer {
                return Looked::Newer { to: chunk.last() };
            }
            let Ok(entries) = chunk.entries() else { return hole };
            self.chunk = Some((chunk, entries));
            return Looked::Found;
        }
        hole
    }

    /// Whether entries of a newer version lie in a segment.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn holds_newer<S: Store>(store: &mut S, segment: u64) -> Result<bool, StoreError> {
        let mut frames = store.at_or_before(Seq(segment), Seq(segment))?;
        while let Some(found) = frames {
            let Ok(chunk) = Chunk::join(&found) else {
                // Damage is the business of whoever reads it; what is behind it counts all the same.
                let Some(Ok((head, ..))) = found.first().map(|frame| chunk::parse(frame)) else { return Ok(false) };
                frames = store.after(Seq(segment), head.first)?;
                continue;
            };
            let entries = chunk.entries().unwrap_or_default();
            if chunk.newer || entries.into_iter().any(|range| entry::is_newer(&chunk.body[range])) {
                return Ok(true);
            }
            frames = store.after(Seq(segment), chunk.first)?;
        }
        Ok(false)
    }

    /// A number of the chunk that was read last.
    pub(super) fn read(&self, number: u64, context: &WriterContext) -> Fetched {
        match self.encoded(number) {
            Some(bytes) => read(number, bytes, context),
            None => Fetched::Lost { to: number, epoch: context.epoch },
        }
    }

    /// The bytes of an entry of the chunk that was read last.
    pub(super) fn encoded(&self, number: u64) -> Option<&[u8]> {
        let (chunk, entries) = self.chunk.as_ref()?;
        let place = usize::try_from(number.checked_sub(chunk.first.0)?).ok()?;
        Some(&chunk.body[entries.get(place)?.clone()])
    }
}

/// An entry from its bytes.
pub(in crate::journal) fn read(number: u64, bytes: &[u8], context: &WriterContext) -> Fetched {
    match entry::decode(bytes, context.boot) {
        Ok(window) => Fetched::Entry(Box::new(Entry {
            identity: Identity { epoch: context.epoch, seq: Seq(number) },
            schema: Arc::clone(&context.schema),
            words: entry::words(bytes),
            window,
        })),
        Err(Unreadable::Newer { version }) => Fetched::Newer { to: number, version: Some(version) },
        Err(Unreadable::Damage(_)) => Fetched::Lost { to: number, epoch: context.epoch },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::disk::mem_store::MemStore;
    use crate::journal::disk::segment::Header;
    use crate::journal::testing::depot_schema;
    use crate::measure::BootId;

    /// The frames of a chunk that a newer program wrote: of a kind that is not known.
    fn newer(chunk: &Chunk) -> Vec<Vec<u8>> {
        let mut frames = chunk.frames_as_is();
        frames[0][52] = 2;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&frames[0][4..8]), &frames[0][12..]);
        frames[0][8..12].copy_from_slice(&crc.to_le_bytes());
        frames
    }

    #[test]
    fn numbers_before_a_newer_chunk_are_skipped_or_missing_and_the_chunk_is_newer() {
        for skipped in 0..=2 {
            let mut store = MemStore::default();
            let schema = Arc::new(depot_schema("gw-01", 1, 1));
            let header = Header { epoch: Epoch(1), first: Seq(1), boot: BootId([1; 16]), schema };
            store.create(&header).expect("it is made");
            let mut ours = Chunk::new(Epoch(1), Seq(1), 0);
            ours.push(&[1; 8]);
            ours.push(&[1; 8]);
            store.put(ours.first, &ours.frames_as_is()).expect("it is put");
            let mut other = Chunk::new(Epoch(1), Seq(5), skipped);
            other.push(&[9; 8]);
            store.put(other.first, &newer(&other)).expect("it is put");

            let mut reader = Reader::default();
            let mut look = |number| reader.look(Some(&mut store), 1, number);
            let begins_at = 5 - skipped;
            for number in 3..=4 {
                let looked = look(number);
                let is_as_it_lies = match looked {
                    Looked::Skipped { to } => number >= begins_at && to == 4,
                    Looked::Hole { to } => number < begins_at && to == Some(begins_at - 1),
                    Looked::Found | Looked::Newer { .. } => false,
                };
                assert!(is_as_it_lies, "{number} behind {skipped} skipped: {looked:?}");
            }
            assert!(matches!(look(5), Looked::Newer { to: 5 }));
            assert!(matches!(look(2), Looked::Found));
        }
    }
}
