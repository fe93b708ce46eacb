//! A run of entries that becomes coarser: what was read of it, and what it becomes. Pure; [`JournalCore`] reads for it and
//! writes what it makes.
//!
//! [`JournalCore`]: crate::journal::core::journal_core::JournalCore

use std::sync::Arc;

use crate::journal::core::downsampler::Downsampler;
use crate::journal::core::tail::Tail;
use crate::journal::disk::chunk::Chunk;
use crate::journal::disk::entry::{self, Encoded};
use crate::journal::disk::unwritable::Unwritable;
use crate::journal::resolution::Resolution;
use crate::measure::{BootId, Entry, Epoch, Event, EventKind, Gap, GapReason, Schema, Seq, Thinned, Window};

/// What is downsampled must become smaller than this share of what it was, as a fraction.
pub(super) const WORTH: (usize, usize) = (7, 10);
/// The most runs of numbers that one piece of work stands for, each told: 64 are some 2 KB.
const SPANS_MAX: usize = 64;

/// How far it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum JobState {
    /// There is more to do, later.
    Working,
    /// A piece of work is done, or found useless: the bound may be kept now.
    Done,
    /// Numbers were given away that are not written yet: it goes on when the next window is durable.
    Later,
    /// There is nothing that can be downsampled.
    Nothing,
}

/// Numbers that follow one another, all read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    epoch: Epoch,
    pub(super) from: u64,
    pub(super) to: u64,
    points: u64,
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Job {
    from: Resolution,
    to: Resolution,
    schema: Arc<Schema>,
    /// The segments that it reads; the last one is being read.
    sources: Vec<u64>,
    /// The next number to read.
    next: u64,
    downsampler: Downsampler,
    spans: Vec<Span>,
    /// The first downsampled window: it will tell what all stand for.
    first: Option<Window>,
    more: Vec<Encoded>,
    bytes_in: usize,
    bytes_out: usize,
}

impl Job {
    /// Of the entries of one segment and of those like it that follow; `None` if there is nothing coarser than `from`.
    pub(super) fn new(from: Resolution, schema: Arc<Schema>, source: u64) -> Option<Self> {
        from.coarser().map(|to| Self::towards(from, to, schema, source))
    }

    /// The same work at the next coarser window; `None` if there is none.
    pub(super) fn coarser(&self) -> Option<Self> {
        let to = self.to.coarser()?;
        Some(Self::towards(self.from, to, Arc::clone(&self.schema), *self.sources.first()?))
    }

    fn towards(from: Resolution, to: Resolution, schema: Arc<Schema>, source: u64) -> Self {
        Self {
            from,
            to,
            schema,
            sources: vec![source],
            next: source,
            downsampler: Downsampler::new(to),
            spans: Vec::new(),
            first: None,
            more: Vec::new(),
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    /// What its source is.
    pub(super) fn from(&self) -> Resolution {
        self.from
    }

    /// What it makes.
    pub(super) fn to(&self) -> Resolution {
        self.to
    }

    /// The schema of its source and of what it makes.
    pub(super) fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// The segments that it reads, by their first numbers.
    pub(super) fn sources(&self) -> &[u64] {
        &self.sources
    }

    /// The segment that is being read, and the next number to read in it.
    pub(super) fn reads(&self) -> Option<(u64, u64)> {
        self.sources.last().map(|source| (*source, self.next))
    }

    /// Goes on with the segment that begins with `first`.
    pub(super) fn go_on_with(&mut self, first: u64) {
        self.sources.push(first);
        self.next = first;
    }

    /// This number is being read.
    pub(super) fn go_past(&mut self, number: u64) {
        self.next = number + 1;
    }

    /// The runs of numbers that it stands for.
    pub(super) fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Bytes of entries read so far.
    pub(super) fn bytes_in(&self) -> usize {
        self.bytes_in
    }

    /// Bytes of entries made so far.
    pub(super) fn bytes_out(&self) -> usize {
        self.bytes_out
    }

    /// Whether it holds as much as it may, and this window can wait for the next piece of work.
    pub(super) fn ends_before(&self, window: &Window, bytes_max: usize) -> bool {
        let is_full = |times| self.bytes_out >= times * bytes_max || self.spans.len() >= times * SPANS_MAX;
        // What comes late may go on and on with no window of the moment beside it.
        is_full(1) && self.downsampler.is_ended_by(window) || is_full(2)
    }

    /// Takes the next entry, of so many encoded bytes.
    pub(super) fn take(&mut self, entry: Entry, bytes: usize, home: BootId) -> Result<(), Unwritable> {
        let (number, epoch, points) = (entry.identity.seq.0, entry.identity.epoch, entry.window.points());
        match self.spans.last_mut() {
            Some(span) if span.epoch == epoch && span.to + 1 == number => {
                span.to = number;
                span.points += points;
            }
            _ => self.spans.push(Span { epoch, from: number, to: number, points }),
        }
        self.bytes_in += bytes;
        let Entry { identity, mut window, .. } = entry;
        // Its number goes, and it may be of another life than what stands for it.
        let own = |Event { device, kind }| Event { device, kind: kind.of_entry(identity) };
        window.events = window.events.into_iter().map(own).collect();
        let ended = self.downsampler.add(window, &self.schema);
        ended.map_or(Ok(()), |window| self.put(window, home))
    }

    /// Nothing more comes. Answers whether anything came of it.
    pub(super) fn finish(&mut self, home: BootId) -> Result<bool, Unwritable> {
        for window in self.downsampler.finish(&self.schema) {
            self.put(window, home)?;
        }
        Ok(self.first.is_some())
    }

    fn put(&mut self, window: Window, home: BootId) -> Result<(), Unwritable> {
        let encoded = entry::encode(&window, home)?;
        self.bytes_out += encoded.bytes.len();
        if self.first.is_none() {
            self.first = Some(window);
        } else {
            self.more.push(encoded);
        }
        Ok(())
    }

    /// Whether it saves enough.
    pub(super) fn is_worth_it(&self) -> bool {
        self.bytes_out * WORTH.1 <= self.bytes_in * WORTH.0
    }

    /// The downsampled entries from number `first` on, as chunks; the first of them tells what all of them stand for.
    pub(super) fn chunks(&self, first: u64, epoch: Epoch, home: BootId) -> Result<Vec<Chunk>, Unwritable> {
        let mut tail = Tail::new(first);
        let Some(mut window) = self.first.clone() else { return Ok(Vec::new()) };
        let last = first + self.more.len() as u64;
        let told = |span: &Span| Thinned {
            gap: Gap {
                epoch: span.epoch,
                from: Seq(span.from),
                to: Seq(span.to),
                points: Some(span.points),
                reason: GapReason::Thinned,
            },
            as_epoch: epoch,
            as_from: Seq(first),
            as_to: Seq(last),
            window: self.to.window(),
        };
        let events = self.spans.iter().map(|span| Event { device: None, kind: EventKind::Thinned(told(span)) });
        window.events.extend(events);
        tail.push(first, entry::encode(&window, home)?);
        for (number, encoded) in (first + 1..).zip(&self.more) {
            tail.push(number, encoded.clone());
        }
        Ok(tail.chunks(epoch, first, usize::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::testing::{depot_schema, depot_window};
    use crate::measure::{Identity, Words};

    /// An entry of a life in memory became coarser in the next life, which then seemed to be in memory itself, and never complete.
    #[test]
    fn what_an_entry_tells_of_its_own_life_is_told_as_of_that() {
        let (home, schema) = (BootId([7; 16]), Arc::new(depot_schema("gw-01", 1, 1)));
        let mut job = Job::new(Resolution::AsRead, Arc::clone(&schema), 1).expect("there is a coarser one");
        let in_memory = EventKind::JournalInMemory { why: "full".into(), from: Seq(1), counts_anew: false };
        let told = [in_memory, EventKind::DeviceAnswering, EventKind::JournalWorking, EventKind::Stopping];
        let identity = |n: u64| Identity { epoch: Epoch(5), seq: Seq(n) };
        for (n, kind) in (1..).zip(told.clone()) {
            let events = vec![Event { device: None, kind }];
            let window = Window { events, ..depot_window(1, 1, n) };
            let entry = Entry { identity: identity(n), schema: Arc::clone(&schema), words: Words::Second, window };
            job.take(entry, 100, home).expect("it is taken");
        }
        assert!(job.finish(home).expect("it is taken"));
        let window = job.first.expect("one window");
        let kinds: Vec<EventKind> = window.events.into_iter().map(|event| event.kind).collect();
        let expected: Vec<EventKind> = (1..).zip(told).map(|(n, kind)| kind.of_entry(identity(n))).collect();
        assert_eq!(kinds, expected);
        assert!(matches!(kinds[0], EventKind::OfEntry { .. }) && kinds[1] == EventKind::DeviceAnswering);
    }
}
