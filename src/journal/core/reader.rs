//! Finds the content of a number: in memory, in the chunk that was read last, or on the medium.

use std::ops::Range;
use std::sync::Arc;

use crate::journal::core::journal_core::{JournalCore, WriterContext};
use crate::journal::disk::chunk::Chunk;
use crate::journal::disk::entry;
use crate::journal::disk::store::Store;
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
    /// An entry of a version that this agent does not know.
    Unknown { version: u16 },
}

/// What was read last: one chunk, and the context of one segment. Memory does not grow with the backlog.
#[derive(Debug, Default)]
pub(in crate::journal) struct Reader {
    context: Option<(u64, WriterContext)>,
    chunk: Option<(Chunk, Vec<Range<usize>>)>,
}

/// No life has this number: it stands for one that can no longer be known.
const UNKNOWN: Epoch = Epoch(0);

impl<S: Store> JournalCore<S> {
    /// The content of `number`, which is below what is leasable and not settled.
    pub(in crate::journal) fn fetch(&mut self, number: u64) -> Fetched {
        if let Some(kept) = self.tail.find(number) {
            return read(number, &kept.encoded.bytes, &self.context);
        }
        let Some(place) = self.segment_of(number) else {
            return Fetched::Lost { to: self.segments.first().map_or(number, |s| s.first - 1), epoch: UNKNOWN };
        };
        let last = self.last_of(place);
        let segment = self.segments[place].first;
        let Some(context) = self.context_of(segment) else {
            return Fetched::Lost { to: last, epoch: UNKNOWN };
        };
        match self.chunk_with(segment, number) {
            Looked::Found => match &self.reader.chunk {
                Some((chunk, entries)) => read_from(chunk, entries, number, &context),
                None => Fetched::Lost { to: number, epoch: context.epoch },
            },
            Looked::Skipped { to } => Fetched::Skipped { to: to.min(last) },
            Looked::Hole { to } => Fetched::Lost { to: to.unwrap_or(last).min(last), epoch: context.epoch },
        }
    }

    /// Encoded bytes of an entry that was just fetched.
    pub(in crate::journal) fn bytes_of(&self, number: u64) -> usize {
        if let Some(kept) = self.tail.find(number) {
            return kept.encoded.bytes.len();
        }
        let Some((chunk, entries)) = &self.reader.chunk else { return 0 };
        let place = number.checked_sub(chunk.first.0).and_then(|place| usize::try_from(place).ok());
        place.and_then(|place| entries.get(place)).map_or(0, ExactSizeIterator::len)
    }

    /// The epoch, the boot and the schema under which a segment was written.
    pub(in crate::journal) fn context_of(&mut self, segment: u64) -> Option<WriterContext> {
        if let Some((first, context)) = &self.reader.context
            && *first == segment
        {
            return Some(context.clone());
        }
        let header = self.store.as_mut()?.header(Seq(segment));
        let header = header.inspect_err(|error| tracing::error!(%error, "the words of a segment are lost")).ok()?;
        let context = WriterContext { epoch: header.epoch, boot: header.boot, schema: header.schema };
        self.reader.context = Some((segment, context.clone()));
        Some(context)
    }

    /// Looks for the chunk that has `number`: first as the store finds it, and if that leaves a hole, by a look at every
    /// byte.
    fn chunk_with(&mut self, segment: u64, number: u64) -> Looked {
        if self.reader.chunk.as_ref().is_some_and(|(chunk, _)| (chunk.first.0..=chunk.last()).contains(&number)) {
            return Looked::Found;
        }
        let looked = self.look(segment, number);
        let Looked::Hole { .. } = looked else { return looked };
        if self.active.as_ref().is_some_and(|active| active.first == segment)
            && let Err(error) = self.seal_active()
        {
            // Nothing more is written to a segment that is damaged; its seal is in memory.
            tracing::warn!(%error, segment, "a damaged segment cannot be sealed");
        }
        let salvaged = self.store.as_mut().map(|store| store.salvage(Seq(segment)));
        match salvaged {
            Some(Ok(true)) => {
                tracing::warn!(segment, number, "a chunk is missing; looking at every byte of its segment");
                self.look(segment, number)
            }
            Some(Err(error)) => {
                tracing::error!(%error, segment, "a damaged segment cannot be searched");
                looked
            }
            _ => looked,
        }
    }

    fn look(&mut self, segment: u64, number: u64) -> Looked {
        let hole = Looked::Hole { to: None };
        let Some(store) = self.store.as_mut() else { return hole };
        let mut frames = store.at_or_before(Seq(segment), Seq(number));
        // The chunk at or before; if it ends too early, the one after says whether numbers are missing.
        for _ in 0..2 {
            let Ok(Some(found)) = &frames else { return hole };
            let Ok(chunk) = Chunk::join(found) else { return hole };
            let Ok(entries) = chunk.entries() else { return hole };
            if chunk.last() < number {
                frames = store.after(Seq(segment), chunk.first);
                continue;
            }
            return if chunk.first.0 <= number {
                self.reader.chunk = Some((chunk, entries));
                Looked::Found
            } else if chunk.begins_at() <= number {
                Looked::Skipped { to: chunk.first.0 - 1 }
            } else {
                Looked::Hole { to: Some(chunk.begins_at() - 1) }
            };
        }
        hole
    }
}

enum Looked {
    /// It is in the reader's chunk now.
    Found,
    Skipped {
        to: u64,
    },
    /// `None`: to the end of the segment.
    Hole {
        to: Option<u64>,
    },
}

fn read_from(chunk: &Chunk, entries: &[Range<usize>], number: u64, context: &WriterContext) -> Fetched {
    let place = usize::try_from(number - chunk.first.0).ok();
    match place.and_then(|place| entries.get(place)) {
        Some(range) => read(number, &chunk.body[range.clone()], context),
        None => Fetched::Lost { to: number, epoch: context.epoch },
    }
}

pub(in crate::journal) fn read(number: u64, bytes: &[u8], context: &WriterContext) -> Fetched {
    match entry::decode(bytes, context.boot) {
        Ok(window) => Fetched::Entry(Box::new(Entry {
            identity: Identity { epoch: context.epoch, seq: Seq(number) },
            schema: Arc::clone(&context.schema),
            window,
        })),
        Err(Unreadable::Newer { version }) => Fetched::Unknown { version },
        Err(Unreadable::Damage(_)) => Fetched::Lost { to: number, epoch: context.epoch },
    }
}
