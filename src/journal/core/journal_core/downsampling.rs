//! When room runs out, the oldest entries become coarser before any are dropped.
//!
//! # What gives, and when
//! Of the budget the newest half stays as it was read, a quarter is for windows of 1 s, an eighth for 10 s, the rest for
//! 60 s. When the whole is over the budget, the finest share that is over its own is downsampled, oldest segment first; when
//! it is the coarsest, its oldest segment is dropped. A window that would not save at least [`WORTH`] is skipped: devices
//! that are read once a second are no smaller at 1 s. What was handed out once is never downsampled (the broker may have it
//! under its old number), only dropped; but for what came back as heard by nobody the first time that it was out (`no_subscriber =
//! "hold"`).
//!
//! # How nothing is lost, and nothing told twice
//! A downsampled run is a segment of its own, under the schema of its source, under new numbers of the current epoch. Its
//! first entry tells which numbers it stands for. It is made whole, with its seal, before it counts: a cut leaves it
//! whole or not at all. When it is there its source is settled; a start that finds it settles the source too, before
//! anything is handed out, because what is told takes place (`recovery`). If anything of the source was handed out or
//! settled meanwhile, the work is thrown away.
//!
//! Work is done a slice at a time between commands, in bounded memory: some 1 MiB of downsampled entries.

use std::time::Duration;

use super::{JournalCore, LOOKED_AT_MAX};
use crate::journal::core::job::{Job, JobState, Span};
use crate::journal::core::medium::Failure;
use crate::journal::core::segments::Segment;
use crate::journal::disk::segment::{Header, Seal};
use crate::journal::disk::store::Store;
use crate::journal::disk::unwritable::Unwritable;
use crate::journal::resolution::Resolution;
use crate::measure::Seq;

/// The most bytes of downsampled entries that one piece of work holds in memory: a group commit's worth.
const JOB_BYTES_MAX: u64 = 1024 * 1024;
/// The most bytes that are read between two commands: some 10 ms of work on a small box.
const SLICE_BYTES: usize = 256 * 1024;
/// The shares of the budget, as its halves halved: as it was read, 1 s, 10 s.
const SHARES: [(Resolution, u64); 3] = [(Resolution::AsRead, 2), (Resolution::Second, 4), (Resolution::TenSeconds, 8)];

/// What reading has come to.
enum Reading {
    /// The slice is over.
    Pause,
    /// All that this piece of work takes is read.
    End,
}

impl<S: Store> JournalCore<S> {
    /// Does a slice of work towards keeping within `budget`.
    pub(super) fn downsample(&mut self, budget: u64, now: Duration) -> JobState {
        if !self.medium.is_there() || self.trouble().is_some() || !self.upkeep.may_downsample(now) {
            return JobState::Nothing;
        }
        if !self.queue.is_open() && self.is_behind() {
            return JobState::Later;
        }
        let Some(mut job) = self.upkeep.take_job().or_else(|| self.begin_job(budget)) else {
            return JobState::Nothing;
        };
        match self.read_on(&mut job) {
            Ok(Reading::Pause) => {
                self.upkeep.keep_job(Some(job));
                JobState::Working
            }
            Ok(Reading::End) => self.end_job(job, now),
            Err(why) => {
                tracing::warn!(%why, "entries cannot be told at a coarser window; they may be dropped as they are");
                self.medium.leave_alone(job.sources());
                JobState::Done
            }
        }
    }

    /// Whether the newest number is not durable: the window that had it may have had no bytes, and none will come.
    fn is_behind(&self) -> bool {
        self.queue.next() != self.medium.durable() + 1
    }

    fn is_downsamplable(&self, place: usize) -> bool {
        let (first, last) = self.medium.span_of(place);
        let is_open = self
            .medium
            .segments()
            .get(place)
            .is_some_and(|segment| !segment.is_dropping() && !segment.is_left_alone() && segment.newer().is_none());
        let lanes = self.queue.lanes();
        is_open && !lanes.any_published_in(first, last) && !lanes.waiting_in(first, last).is_empty()
    }

    fn begin_job(&mut self, budget: u64) -> Option<Job> {
        let complete = self.medium.complete();
        let resolutions: Vec<Resolution> = (0..complete).map(|place| self.medium.resolution_of(place)).collect();
        for place in 0..complete {
            self.medium.newer_of(place);
        }
        let oldest_of = |core: &Self, resolution: Resolution| {
            (0..complete).find(|&place| resolutions[place] == resolution && core.is_downsamplable(place))
        };
        let bytes_of = |core: &Self, resolution: Resolution| -> u64 {
            let is_ours = |segment: &Segment| !segment.is_dropping() && segment.newer().is_none();
            let all = core.medium.segments().iter().enumerate().filter(|(_, segment)| is_ours(segment));
            all.filter(|(place, _)| resolutions.get(*place).copied().unwrap_or_default() == resolution)
                .map(|(_, segment)| segment.bytes())
                .sum()
        };
        let over = SHARES.iter().filter(|(resolution, share)| bytes_of(self, *resolution) > budget / share);
        let place = over.map(|(resolution, _)| *resolution).find_map(|resolution| oldest_of(self, resolution));
        // All others keep to their shares: the coarsest is what is too much, unless there is none of it.
        let place = place.or_else(|| {
            let coarsest_gives = bytes_of(self, Resolution::Minute) > budget / 8;
            SHARES.iter().filter(|_| !coarsest_gives).find_map(|(resolution, _)| oldest_of(self, *resolution))
        })?;
        let (source, from) = (self.medium.segments().first_of(place), resolutions[place]);
        let schema = self.medium.context_of(source)?.schema;
        Job::new(from, schema, source)
    }

    fn read_on(&mut self, job: &mut Job) -> Result<Reading, Unwritable> {
        let home = self.context.boot;
        let bytes_max = usize::try_from(JOB_BYTES_MAX.min(self.limits.segment_bytes / 4)).unwrap_or(usize::MAX);
        let begun = job.bytes_in();
        for _ in 0..LOOKED_AT_MAX {
            if job.bytes_in() - begun >= SLICE_BYTES {
                break;
            }
            let Some(number) = self.next_to_read(job, bytes_max) else { return Ok(Reading::End) };
            job.go_past(number);
            let Some(mut entry) = self.entry_at(number) else { continue };
            // A time that is decided is kept in what is downsampled: the record of times goes by numbers of before.
            self.clock.label(&mut entry.window);
            if job.ends_before(&entry.window, bytes_max) {
                return Ok(Reading::End);
            }
            let bytes = self.encoded_bytes_of(number);
            job.take(*entry, bytes, home)?;
        }
        // A look at the first slice tells whether this window saves anything.
        Ok(if job.is_worth_it() { Reading::Pause } else { Reading::End })
    }

    /// Encoded bytes of an entry that was just fetched.
    fn encoded_bytes_of(&self, number: u64) -> usize {
        let in_memory = self.queue.tail().find(number).map(|kept| kept.encoded.bytes.len());
        in_memory.unwrap_or_else(|| self.medium.encoded_bytes_of(number))
    }

    /// The next number to read, in the segment being read or in one like it that follows.
    fn next_to_read(&mut self, job: &mut Job, bytes_max: usize) -> Option<u64> {
        loop {
            let (source, next) = job.reads()?;
            let place = self.medium.segments().beginning_with(source)?;
            let waiting = self.queue.lanes().readable_from(next, self.medium.span_of(place).1);
            if waiting.is_some() {
                return waiting;
            }
            let following = place + 1;
            let fits = job.bytes_out() < bytes_max
                && following < self.medium.complete()
                && self.medium.resolution_of(following) == job.from()
                && self.is_downsamplable(following);
            if !fits {
                return None;
            }
            let first = self.medium.segments().first_of(following);
            self.medium.context_of(first).filter(|context| context.schema == *job.schema())?;
            job.go_on_with(first);
        }
    }

    fn end_job(&mut self, mut job: Job, now: Duration) -> JobState {
        if !matches!(job.finish(self.context.boot), Ok(true)) {
            self.medium.leave_alone(job.sources());
            return JobState::Done;
        }
        if !job.is_worth_it() {
            match job.coarser() {
                Some(coarser) => self.upkeep.keep_job(Some(coarser)),
                None => self.medium.leave_alone(job.sources()),
            }
            return JobState::Working;
        }
        // New numbers come after all that has one.
        self.commit(now);
        let lanes = self.queue.lanes();
        let is_untouched = |span: &Span| {
            lanes.waiting_in(span.from, span.to) == [(span.from, span.to)]
                && !lanes.any_published_in(span.from, span.to)
        };
        if self.trouble().is_none() && self.is_behind() {
            return JobState::Later;
        }
        if self.trouble().is_some() || !job.spans().iter().all(is_untouched) {
            return JobState::Working;
        }
        match self.replace(&job, now) {
            Ok(()) => JobState::Done,
            Err(Failure::NoMedium) => JobState::Nothing,
            Err(Failure::Store(error)) => {
                tracing::warn!(%error, "the oldest entries cannot be thinned now");
                self.upkeep.rest(now);
                JobState::Nothing
            }
        }
    }

    /// Writes what stands for the source, and settles the source.
    fn replace(&mut self, job: &Job, now: Duration) -> Result<(), Failure> {
        let first = self.medium.durable() + 1;
        let (epoch, boot) = (self.context.epoch, self.context.boot);
        let Ok(chunks) = job.chunks(first, epoch, boot) else {
            self.medium.leave_alone(job.sources());
            return Ok(());
        };
        self.seal_active()?;
        self.save_times_behind()?;
        let mut seal = Seal { resolution: job.to(), ..Seal::open(first) };
        chunks.iter().for_each(|chunk| seal.add(chunk));
        let header = Header { epoch, first: Seq(first), boot, schema: job.schema().clone() };
        self.medium.add_whole(&header, &chunks, &seal, job.bytes_out())?;
        self.age.inherit(first, job.sources().iter().copied());
        self.queue.backfill(first, seal.last);
        for span in job.spans() {
            self.queue.settle(span.from, span.to);
        }
        let count = job.spans().iter().map(|span| span.to - span.from + 1).sum();
        self.losses.note_downsampled(job.spans().len() as u64, count);
        self.medium.touch_cursor();
        tracing::warn!(
            from = job.spans().first().map(|span| span.from),
            to = job.spans().last().map(|span| span.to),
            as_from = first,
            as_to = seal.last,
            window_s = job.to().window().as_secs(),
            "room runs out: the oldest entries are kept at a coarser window"
        );
        self.remove_settled(now);
        Ok(())
    }
}
