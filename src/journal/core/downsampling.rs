//! When room runs out, the oldest entries become coarser before any are dropped.
//!
//! # What gives, and when
//! Of the budget the newest half stays as it was read, a quarter is for windows of 1 s, an eighth for 10 s, the rest for
//! 60 s. When the whole is over the budget, the finest share that is over its own is downsampled, oldest segment first; when
//! it is the coarsest, its oldest segment is dropped. A window that would not save at least [`WORTH`] is skipped: devices
//! that are read once a second are no smaller at 1 s. What was handed out once is never downsampled (the broker may have it
//! under its old number), only dropped.
//!
//! # How nothing is lost, and nothing told twice
//! A downsampled run is a segment of its own, under the schema of its source, under new numbers of the current epoch. Its
//! first entry tells which numbers it stands for. It is made whole, with its seal, before it counts: a cut leaves it
//! whole or not at all. When it is there its source is settled; a start that finds it settles the source too, before
//! anything is handed out, because what is told takes place (`recovery`). If anything of the source was handed out or
//! settled meanwhile, the work is thrown away.
//!
//! Work is done a slice at a time between commands, in bounded memory: some 1 MiB of downsampled entries.

use std::sync::Arc;
use std::time::Duration;

use crate::journal::core::downsampler::{Downsampler, Resolution};
use crate::journal::core::journal_core::JournalCore;
use crate::journal::core::tail::Tail;
use crate::journal::core::times::Label;
use crate::journal::disk::entry::{self, Encoded, Unwritable};
use crate::journal::disk::segment::{Header, Seal};
use crate::journal::disk::store::{Store, StoreError};
use crate::measure::{BootId, Entry, Epoch, Event, EventKind, Gap, GapReason, Schema, Seq, Thinned, Window};

/// What is downsampled must become smaller than this share of what it was, as a fraction.
const WORTH: (usize, usize) = (7, 10);
/// The most bytes of downsampled entries that one piece of work holds in memory: a group commit's worth.
const JOB_BYTES_MAX: u64 = 1024 * 1024;
/// The most bytes that are read between two commands: some 10 ms of work on a small box.
const SLICE_BYTES: usize = 256 * 1024;
/// The most runs of numbers that one piece of work stands for, each told: 64 are some 2 KB.
const SPANS_MAX: usize = 64;
/// After a failure of the medium nothing is downsampled for this long.
const REST: Duration = Duration::from_secs(2);
/// The shares of the budget, as its halves halved: as it was read, 1 s, 10 s.
const SHARES: [(Resolution, u64); 3] = [(Resolution::AsRead, 2), (Resolution::Second, 4), (Resolution::TenSeconds, 8)];

/// How far it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::journal) enum JobState {
    /// There is more to do, later.
    Working,
    /// A piece of work is done, or found useless: the bound may be kept now.
    Done,
    /// There is nothing that can be downsampled.
    Nothing,
}

/// A piece of work: a run of entries that becomes coarser.
#[derive(Debug)]
pub(in crate::journal) struct Job {
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

/// Numbers that follow one another, all read.
#[derive(Debug, Clone, Copy)]
struct Span {
    epoch: Epoch,
    from: u64,
    to: u64,
    points: u64,
}

impl Job {
    fn new(from: Resolution, to: Resolution, schema: Arc<Schema>, source: u64) -> Self {
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

    fn take(&mut self, entry: Entry, bytes: usize, home: BootId) -> Result<(), Unwritable> {
        let (number, epoch, points) = (entry.identity.seq.0, entry.identity.epoch, entry.window.points());
        match self.spans.last_mut() {
            Some(span) if span.epoch == epoch && span.to + 1 == number => {
                span.to = number;
                span.points += points;
            }
            _ => self.spans.push(Span { epoch, from: number, to: number, points }),
        }
        self.bytes_in += bytes;
        let ended = self.downsampler.add(entry.window, &self.schema);
        ended.map_or(Ok(()), |window| self.put(window, home))
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

    fn is_worth_it(&self) -> bool {
        self.bytes_out * WORTH.1 <= self.bytes_in * WORTH.0
    }

    /// The downsampled entries from number `first` on, the first of them with what all of them stand for.
    fn entries(&self, first: u64, epoch: Epoch, home: BootId) -> Result<Tail, Unwritable> {
        let mut tail = Tail::new(first);
        let Some(mut window) = self.first.clone() else { return Ok(tail) };
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
        Ok(tail)
    }
}

/// What reading has come to.
enum Reading {
    /// The slice is over.
    Pause,
    /// All that this piece of work takes is read.
    End,
}

impl<S: Store> JournalCore<S> {
    /// Does a slice of work towards keeping within `budget`.
    pub(in crate::journal) fn downsample(&mut self, budget: u64, now: Duration) -> JobState {
        if self.store.is_none() || self.trouble().is_some() || now < self.ledger.downsamples_from {
            return JobState::Nothing;
        }
        let Some(mut job) = self.ledger.job.take().or_else(|| self.begin_job(budget)) else {
            return JobState::Nothing;
        };
        match self.read_on(&mut job) {
            Ok(Reading::Pause) => {
                self.ledger.job = Some(job);
                JobState::Working
            }
            Ok(Reading::End) => self.end_job(job, now),
            Err(why) => {
                tracing::warn!(%why, "entries cannot be told at a coarser window; they may be dropped as they are");
                self.leave_alone(&job);
                JobState::Done
            }
        }
    }

    /// The complete segment that gives first when something must be dropped: the coarsest and so oldest, of which
    /// nothing is out on lease if there is such a one.
    pub(in crate::journal) fn first_to_drop(&mut self) -> Option<usize> {
        let open: Vec<usize> = (0..self.complete()).filter(|&place| !self.segments[place].dropping).collect();
        let resolutions: Vec<Resolution> = open.iter().map(|&place| self.resolution_of(place)).collect();
        let ranked = open.into_iter().zip(resolutions);
        let leased = |place: usize| self.lanes.any_leased_in(self.segments[place].first, self.last_of(place));
        ranked
            .min_by_key(|&(place, resolution)| (leased(place), std::cmp::Reverse(resolution), place))
            .map(|(place, _)| place)
    }

    /// How many segments are not being written.
    pub(in crate::journal) fn complete(&self) -> usize {
        self.segments.len() - usize::from(self.active.is_some() && !self.segments.is_empty())
    }

    fn resolution_of(&mut self, place: usize) -> Resolution {
        if let Some(resolution) = self.segments[place].resolution {
            return resolution;
        }
        let resolution = self.seal_of(place).map(|seal| seal.resolution).unwrap_or_default();
        self.segments[place].resolution = Some(resolution);
        resolution
    }

    fn is_downsamplable(&self, place: usize) -> bool {
        let segment = &self.segments[place];
        let (first, last) = (segment.first, self.last_of(place));
        let is_open = !segment.dropping && !segment.left_alone;
        is_open && !self.lanes.any_published_in(first, last) && !self.lanes.waiting_in(first, last).is_empty()
    }

    fn begin_job(&mut self, budget: u64) -> Option<Job> {
        let complete = self.complete();
        let resolutions: Vec<Resolution> = (0..complete).map(|place| self.resolution_of(place)).collect();
        let oldest_of = |core: &Self, resolution: Resolution| {
            (0..complete).find(|&place| resolutions[place] == resolution && core.is_downsamplable(place))
        };
        let bytes_of = |core: &Self, resolution: Resolution| -> u64 {
            let all = core.segments.iter().enumerate().filter(|(_, segment)| !segment.dropping);
            all.filter(|(place, _)| resolutions.get(*place).copied().unwrap_or_default() == resolution)
                .map(|(_, s)| s.bytes)
                .sum()
        };
        let over = SHARES.iter().filter(|(resolution, share)| bytes_of(self, *resolution) > budget / share);
        let place = over.map(|(resolution, _)| *resolution).find_map(|resolution| oldest_of(self, resolution));
        // All others keep to their shares: the coarsest is what is too much, unless there is none of it.
        let place = place.or_else(|| {
            let coarsest_gives = bytes_of(self, Resolution::Minute) > budget / 8;
            SHARES.iter().filter(|_| !coarsest_gives).find_map(|(resolution, _)| oldest_of(self, *resolution))
        })?;
        let (source, from) = (self.segments[place].first, resolutions[place]);
        let schema = self.context_of(source)?.schema;
        Some(Job::new(from, from.coarser()?, schema, source))
    }

    fn read_on(&mut self, job: &mut Job) -> Result<Reading, Unwritable> {
        let home = self.context.boot;
        let bytes_max = usize::try_from(JOB_BYTES_MAX.min(self.limits.segment_bytes / 4)).unwrap_or(usize::MAX);
        let begun = job.bytes_in;
        while job.bytes_in - begun < SLICE_BYTES {
            let Some(number) = self.next_to_read(job, bytes_max) else { return Ok(Reading::End) };
            job.next = number + 1;
            let Some(mut entry) = self.entry_at(number) else { continue };
            // A time that is decided is kept in what is downsampled: the record of times goes by numbers of before.
            if let Label::Told(stamp) = self.times.label(entry.window.boot, entry.window.end) {
                entry.window.end = stamp;
            }
            let full = job.bytes_out >= bytes_max || job.spans.len() >= SPANS_MAX;
            if full && job.downsampler.is_ended_by(&entry.window) {
                return Ok(Reading::End);
            }
            let bytes = self.bytes_of(number);
            job.take(*entry, bytes, home)?;
        }
        // A look at the first slice tells whether this window saves anything.
        Ok(if job.is_worth_it() { Reading::Pause } else { Reading::End })
    }

    /// The next number to read, in the segment being read or in one like it that follows.
    fn next_to_read(&mut self, job: &mut Job, bytes_max: usize) -> Option<u64> {
        loop {
            let source = *job.sources.last()?;
            let place = self.segment_of(source).filter(|&place| self.segments[place].first == source)?;
            let waiting = self.lanes.readable_from(job.next, self.last_of(place));
            if waiting.is_some() {
                return waiting;
            }
            let following = place + 1;
            let fits = job.bytes_out < bytes_max
                && following < self.complete()
                && self.resolution_of(following) == job.from
                && self.is_downsamplable(following);
            if !fits {
                return None;
            }
            let first = self.segments[following].first;
            self.context_of(first).filter(|context| context.schema == job.schema)?;
            job.sources.push(first);
            job.next = first;
        }
    }

    fn end_job(&mut self, mut job: Job, now: Duration) -> JobState {
        let last = job.downsampler.finish(&Arc::clone(&job.schema));
        if last.map_or(Ok(()), |window| job.put(window, self.context.boot)).is_err() || job.first.is_none() {
            self.leave_alone(&job);
            return JobState::Done;
        }
        if !job.is_worth_it() {
            match job.to.coarser() {
                Some(coarser) => self.ledger.job = Some(Job::new(job.from, coarser, job.schema, job.sources[0])),
                None => self.leave_alone(&job),
            }
            return JobState::Working;
        }
        // New numbers come after all that has one.
        self.commit(now);
        let untouched = |span: &Span| {
            self.lanes.waiting_in(span.from, span.to) == [(span.from, span.to)]
                && !self.lanes.any_published_in(span.from, span.to)
        };
        if self.trouble().is_some() || self.next != self.durable + 1 || !job.spans.iter().all(untouched) {
            return JobState::Working;
        }
        match self.replace(&job, now) {
            Ok(()) => JobState::Done,
            Err(error) => {
                tracing::warn!(%error, "the oldest entries cannot be thinned now");
                self.ledger.downsamples_from = now + REST;
                JobState::Nothing
            }
        }
    }

    /// Writes what stands for the source, and settles the source.
    fn replace(&mut self, job: &Job, now: Duration) -> Result<(), StoreError> {
        let first = self.durable + 1;
        let (epoch, boot) = (self.context.epoch, self.context.boot);
        let Ok(entries) = job.entries(first, epoch, boot) else {
            self.leave_alone(job);
            return Ok(());
        };
        self.seal_active()?;
        self.save_times_behind()?;
        let chunks = entries.chunks(epoch, first, usize::MAX);
        let mut seal = Seal { resolution: job.to, ..Seal::open(first) };
        chunks.iter().for_each(|chunk| seal.add(chunk));
        let header = Header { epoch, first: Seq(first), boot, schema: Arc::clone(&job.schema) };
        let Some(store) = self.store.as_mut() else { return Ok(()) };
        store.make_whole(&header, &chunks, &seal)?;
        let mut segment = crate::journal::core::journal_core::Segment::new(first, store.bytes(Seq(first)));
        segment.resolution = Some(job.to);
        self.bytes_written += job.bytes_out as u64;
        self.segments.push(segment);
        self.durable = seal.last;
        self.next = seal.last + 1;
        self.tail.close_to(seal.last);
        self.lanes.set_backfilled(first, seal.last);
        self.lanes.extend(self.next);
        for span in &job.spans {
            self.lanes.settle(span.from, span.to);
        }
        let count = job.spans.iter().map(|span| span.to - span.from + 1).sum();
        self.losses.downsampled(job.spans.len() as u64, count);
        self.ledger.dirty = true;
        tracing::warn!(
            from = job.spans.first().map(|span| span.from),
            to = job.spans.last().map(|span| span.to),
            as_from = first,
            as_to = seal.last,
            window_s = job.to.window().as_secs(),
            "room runs out: the oldest entries are kept at a coarser window"
        );
        self.remove_settled(now);
        Ok(())
    }

    /// Nothing is won, or nothing can be done: these stay as they are until they are sent or dropped.
    fn leave_alone(&mut self, job: &Job) {
        for segment in self.segments.iter_mut().filter(|segment| job.sources.contains(&segment.first)) {
            segment.left_alone = true;
        }
    }
}
