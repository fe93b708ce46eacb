//! What is on the medium, and on its way to it: the segments, the one that is being written, the cursor, and what is
//! wrong. It decides nothing: what is written, given up or removed is the business of [`JournalCore`].
//!
//! [`JournalCore`]: crate::journal::core::journal_core::JournalCore

use std::time::Duration;

use crate::journal::core::context::WriterContext;
use crate::journal::core::ledger::Ledger;
use crate::journal::core::limits::Limits;
use crate::journal::core::ranges::Ranges;
use crate::journal::core::reader::{Fetched, Looked, Reader};
use crate::journal::core::segments::{Segment, Segments};
use crate::journal::disk::chunk::Chunk;
use crate::journal::disk::record::Record;
use crate::journal::disk::segment::{Header, Seal};
use crate::journal::disk::store::{Durably, Room, Store, StoreError};
use crate::journal::resolution::Resolution;
use crate::measure::{Epoch, Seq};

/// A medium that failed is tried again this often: soon enough to lose little memory, rarely enough to do no harm.
const RETRY: Duration = Duration::from_secs(2);
/// A medium that has failed for this long is treated as none: what waits in memory may go out without being durable.
const SEND_UNSYNCED_AFTER: Duration = Duration::from_secs(5);
/// A segment that could not be read when it was to be given up is read again after this time.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// No life has this number: it stands for one that can no longer be known.
const UNKNOWN: Epoch = Epoch(0);

/// Why nothing was written.
#[derive(Debug)]
pub(super) enum Failure {
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

/// Numbers of a segment that is gone, and the life that wrote them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gone {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) epoch: Epoch,
}

/// Chunks that were put, without their bodies.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    chunks: Vec<Chunk>,
    /// Of the entries in them.
    entry_bytes: usize,
    /// Of their frames.
    bytes: u64,
}

/// What is wrong with the medium.
#[derive(Debug, Clone)]
struct Trouble {
    since: Duration,
    retry_at: Duration,
    text: String,
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Medium<S> {
    /// `None`: no medium at all; memory is all there is.
    store: Option<S>,
    /// The record of this life, which could not be written yet. Nothing else is before it.
    unbegun: Option<Vec<u8>>,
    /// The newest one is being written if `active` is set.
    segments: Segments,
    /// What the seal of the segment being written will say.
    active: Option<Seal>,
    /// Put, and its sync begun.
    under_way: UnderWay,
    /// The newest durable number; 0: none.
    durable: u64,
    /// The newest number that was put and may be found there, durable or not.
    may_survive: u64,
    reader: Reader,
    ledger: Ledger,
    trouble: Option<Trouble>,
    /// What was free when somebody last looked.
    room: Option<Room>,
    /// The beginning of the last commit that had something to write.
    committed_at: Option<Duration>,
    commits: u64,
    bytes_written: u64,
}

impl<S: Store> Medium<S> {
    /// A medium as a start has found it; `durable`: the newest number that is there.
    pub(super) fn new(store: Option<S>, segments: Segments, ledger: Ledger, durable: u64) -> Self {
        Self {
            store,
            unbegun: None,
            segments,
            active: None,
            under_way: UnderWay::default(),
            durable,
            may_survive: 0,
            reader: Reader::default(),
            ledger,
            trouble: None,
            room: None,
            committed_at: None,
            commits: 0,
            bytes_written: 0,
        }
    }

    /// Whether there is one at all.
    pub(super) fn is_there(&self) -> bool {
        self.store.is_some()
    }

    /// This life could not be noted, and is before anything else is.
    pub(super) fn set_unbegun(&mut self, life: Vec<u8>) {
        self.unbegun = Some(life);
    }

    /// Whether this life has a record on the medium, so that the next one knows of it.
    pub(super) fn has_begun(&self) -> bool {
        self.store.is_some() && self.unbegun.is_none()
    }

    /// Notes this life, if it is not.
    fn begin(&mut self) -> Result<(), StoreError> {
        if let (Some(life), Some(store)) = (&self.unbegun, &mut self.store) {
            store.save(Record::Life, life, Durably::Yes)?;
            self.unbegun = None;
            tracing::info!("the journal can be written now: this life is noted, and what waits in memory follows");
        }
        Ok(())
    }

    /// The store itself, for whoever goes on with it alone.
    pub(super) fn into_store(self) -> Option<S> {
        self.store
    }

    #[cfg(test)]
    pub(super) fn store_mut(&mut self) -> Option<&mut S> {
        self.store.as_mut()
    }

    /// The newest durable number; 0: none.
    pub(super) fn durable(&self) -> u64 {
        self.durable
    }

    /// Whether this number was put to the medium and may be found there, durable or not.
    pub(super) fn may_have(&self, number: u64) -> bool {
        number <= self.may_survive
    }

    pub(super) fn segments(&self) -> &Segments {
        &self.segments
    }

    /// Commits so far, and the bytes of frames that were put.
    pub(super) fn written(&self) -> (u64, u64) {
        (self.commits, self.bytes_written)
    }

    // --- what is wrong

    /// What is wrong, in words.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_ref().map(|trouble| trouble.text.as_str())
    }

    /// When it is tried again, if it failed.
    pub(super) fn retry_at(&self) -> Option<Duration> {
        self.trouble.as_ref().map(|trouble| trouble.retry_at)
    }

    /// There is none, and why.
    pub(super) fn set_absent(&mut self, text: String) {
        self.trouble = Some(Trouble { since: Duration::ZERO, retry_at: Duration::ZERO, text });
    }

    /// Whether what waits in memory may go out: the alternative is to send nothing at all.
    pub(super) fn is_as_good_as_none(&self, now: Duration) -> bool {
        let is_dead = self.trouble.as_ref().is_some_and(|trouble| now >= trouble.since + SEND_UNSYNCED_AFTER);
        !self.has_begun() || is_dead
    }

    /// It did not do it. The segment being written is dead for good; what was not synced is still in memory. Answers the
    /// trouble in words if it is new.
    pub(super) fn fail(&mut self, error: &StoreError, now: Duration) -> Option<String> {
        let text = error.with_remedy();
        let since = self.trouble.as_ref().map(|trouble| trouble.since);
        if since.is_none() {
            tracing::error!(trouble = text, "the journal cannot write; entries wait in memory");
        }
        let news = since.is_none().then(|| text.clone());
        self.trouble = Some(Trouble { since: since.unwrap_or(now), retry_at: now + RETRY, text });
        self.under_way = UnderWay::default();
        if let Some(store) = &mut self.store {
            store.shut();
        }
        // If the seal cannot be written either, the next start looks into the segment.
        if self.active.as_ref().is_some_and(|seal| seal.last >= seal.first) && self.seal_active().is_ok() {
            self.may_survive = 0;
        }
        self.active = None;
        news
    }

    // --- writing

    /// A commit begins that has something to write.
    pub(super) fn begin_commit(&mut self, now: Duration) {
        self.committed_at = Some(now);
    }

    /// The beginning of the last commit that had something to write.
    pub(super) fn committed_at(&self) -> Option<Duration> {
        self.committed_at
    }

    /// All was written. Answers whether the medium had failed before.
    pub(super) fn succeed(&mut self) -> bool {
        self.commits += 1;
        let had_failed = self.trouble.take().is_some();
        if had_failed {
            tracing::info!("the journal writes to its medium again");
        }
        had_failed
    }

    /// The newest number that is durable or on its way.
    pub(super) fn last_put(&self) -> u64 {
        self.under_way.chunks.last().map_or(self.durable, Chunk::last)
    }

    /// Bytes of the entries on their way.
    pub(super) fn entry_bytes_under_way(&self) -> usize {
        self.under_way.entry_bytes
    }

    /// Whether the segment being written is full, with what is under way to it.
    pub(super) fn is_active_full(&self, limits: &Limits) -> bool {
        self.active.as_ref().zip(self.segments.newest()).is_some_and(|(seal, segment)| {
            let chunks = seal.chunks.saturating_add(u32::try_from(self.under_way.chunks.len()).unwrap_or(u32::MAX));
            segment.bytes() + self.under_way.bytes >= limits.segment_bytes || chunks >= limits.segment_chunks
        })
    }

    /// Begins the next segment, if none is being written.
    pub(super) fn open_segment(&mut self, context: &WriterContext) -> Result<(), Failure> {
        self.begin()?;
        let store = self.store.as_mut().ok_or(Failure::NoMedium)?;
        if self.active.is_some() {
            return Ok(());
        }
        let first = self.durable + 1;
        // One that failed before anything in it was durable has the same name.
        if self.segments.newest().is_some_and(|last| last.first() == first) {
            store.remove(Seq(first))?;
            self.segments.pop();
            self.may_survive = 0;
        }
        store.create(&context.header(first))?;
        self.segments.push(Segment::new(first, store.bytes(Seq(first))).of_this_life());
        self.active = Some(Seal::open(first));
        Ok(())
    }

    /// Hands chunks to the medium; their bodies are not needed any more. In a burst they stay as they are: there the processor
    /// is what is waited for, and it has better things to do. A depot's own rate is no burst.
    pub(super) fn put(&mut self, mut chunks: Vec<Chunk>, is_burst: bool) -> Result<UnderWay, Failure> {
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

    /// Makes durable what was put, or begins to; [`Medium::finish`] ends it. What was under way before is finished.
    pub(super) fn sync(&mut self, batch: UnderWay, durably: Durably) -> Result<(), Failure> {
        let store = self.store.as_mut().ok_or(Failure::NoMedium)?;
        match durably {
            Durably::Yes => store.sync()?,
            Durably::No => store.begin_sync()?,
        }
        self.under_way = batch;
        Ok(())
    }

    /// Waits until what is under way is durable. If it cannot be, it still waits in memory.
    pub(super) fn finish(&mut self) -> Result<(), Failure> {
        let UnderWay { chunks, .. } = std::mem::take(&mut self.under_way);
        let Some(last) = chunks.last() else { return Ok(()) };
        let store = self.store.as_mut().ok_or(Failure::NoMedium)?;
        store.finish_sync()?;
        if let Some(active) = &mut self.active {
            chunks.iter().for_each(|chunk| active.add(chunk));
        }
        if let Some(segment) = self.segments.newest() {
            let bytes = store.bytes(Seq(segment.first()));
            self.segments.set_newest_bytes(bytes);
        }
        self.durable = last.last();
        Ok(())
    }

    /// If the segment is full with what is under way, the next one can be begun, if nothing goes wrong until it is needed.
    pub(super) fn prepare_next(&mut self, context: &WriterContext, limits: &Limits) {
        if self.is_active_full(limits)
            && let (Some(store), Some(last)) = (&mut self.store, self.under_way.chunks.last())
        {
            store.prepare(&context.header(last.last() + 1));
        }
    }

    /// Completes the segment being written, with what is under way to it.
    pub(super) fn seal_active(&mut self) -> Result<(), StoreError> {
        match self.finish() {
            Ok(()) | Err(Failure::NoMedium) => {}
            Err(Failure::Store(error)) => return Err(error),
        }
        let (Some(store), Some(seal)) = (self.store.as_mut(), self.active.take()) else { return Ok(()) };
        store.shut();
        let sealed = store.seal(Seq(seal.first), &seal);
        if let Some(newest) = self.segments.newest() {
            let bytes = store.bytes(Seq(newest.first()));
            self.segments.complete_newest(bytes, sealed.is_err().then_some(seal));
        }
        sealed
    }

    /// Makes a complete segment, newer than all; nothing may be under way, and no segment being written.
    /// `entry_bytes`: what its entries count for as written.
    pub(super) fn add_whole(
        &mut self,
        header: &Header,
        chunks: &[Chunk],
        seal: &Seal,
        entry_bytes: usize,
    ) -> Result<(), Failure> {
        let store = self.store.as_mut().ok_or(Failure::NoMedium)?;
        store.make_whole(header, chunks, seal)?;
        let segment = Segment::new(seal.first, store.bytes(Seq(seal.first))).of(seal.resolution).of_this_life();
        self.bytes_written += entry_bytes as u64;
        self.segments.push(segment);
        self.durable = seal.last;
        Ok(())
    }

    /// Replaces a record, durably. Without a medium there is nothing to do.
    pub(super) fn save(&mut self, record: Record, bytes: &[u8]) -> Result<(), StoreError> {
        self.begin()?;
        self.store.as_mut().map_or(Ok(()), |store| store.save(record, bytes, Durably::Yes))
    }

    // --- reading

    /// The content of a number that is not in memory any more. A damaged segment that is being written is completed.
    pub(super) fn fetch(&mut self, number: u64) -> Fetched {
        let Some(place) = self.segments.with(number) else {
            let to = self.segments.oldest().map_or(number, |oldest| oldest.first() - 1);
            return Fetched::Lost { to, epoch: UNKNOWN };
        };
        let (segment, last) = self.span_of(place);
        if let Some(version) = self.newer_of(place) {
            return Fetched::Newer { to: last, version: Some(version) };
        }
        let Some(context) = self.context_of(segment) else {
            return Fetched::Lost { to: last, epoch: UNKNOWN };
        };
        match self.look(segment, number) {
            Looked::Found => self.reader.read(number, &context),
            Looked::Newer { to } => Fetched::Newer { to: to.min(last), version: None },
            Looked::Skipped { to } => Fetched::Skipped { to: to.min(last) },
            Looked::Hole { to } => match self.gone_behind(place) {
                Some(Gone { from, to, epoch }) if number >= from => Fetched::Lost { to, epoch },
                gone => {
                    let last = gone.map_or(last, |gone| gone.from - 1);
                    Fetched::Lost { to: to.unwrap_or(last).min(last), epoch: context.epoch }
                }
            },
        }
    }

    /// What a complete segment does not have of the numbers before the next one: they were in a segment that is gone. A life's
    /// numbers follow one another, so that it is of the life on both sides, if that is one; else nobody knows.
    pub(super) fn gone_behind(&mut self, place: usize) -> Option<Gone> {
        let (first, to) = self.span_of(place);
        let from = self.seal_of(place)?.last + 1;
        if from > to {
            return None;
        }
        let next = self.segments.get(place + 1).map(Segment::first);
        let mut epoch_of = |segment| self.context_of(segment).map(|context| context.epoch);
        let (before, after) = (epoch_of(first), next.and_then(epoch_of));
        Some(Gone { from, to, epoch: before.filter(|_| before == after).unwrap_or(UNKNOWN) })
    }

    /// Encoded bytes of an entry that was just fetched.
    pub(super) fn encoded_bytes_of(&self, number: u64) -> usize {
        self.reader.encoded(number).map_or(0, <[u8]>::len)
    }

    /// The epoch, the boot and the schema under which a segment was written.
    pub(super) fn context_of(&mut self, segment: u64) -> Option<WriterContext> {
        self.reader.context_of(self.store.as_mut(), segment)
    }

    /// Looks for the chunk that has `number`: first as the store finds it, and if that leaves a hole, by a look at every
    /// byte.
    fn look(&mut self, segment: u64, number: u64) -> Looked {
        if self.reader.has(number) {
            return Looked::Found;
        }
        let looked = self.reader.look(self.store.as_mut(), segment, number);
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
                self.reader.look(self.store.as_mut(), segment, number)
            }
            Some(Err(error)) => {
                tracing::error!(%error, segment, "a damaged segment cannot be searched");
                looked
            }
            _ => looked,
        }
    }

    // --- what is known of segments

    /// The first and the last number that the segment at this place can have.
    pub(super) fn span_of(&self, place: usize) -> (u64, u64) {
        (self.segments.first_of(place), self.segments.last_of(place, self.durable))
    }

    /// How many segments are not being written.
    pub(super) fn complete(&self) -> usize {
        self.segments.len() - usize::from(self.active.is_some() && !self.segments.is_empty())
    }

    /// What the seal of the segment being written will say, if it is the one that begins with `first`.
    pub(super) fn active_seal(&self, first: u64) -> Option<&Seal> {
        self.active.as_ref().filter(|seal| seal.first == first)
    }

    /// The seal of a complete segment, if it has a whole one.
    pub(super) fn seal_of(&mut self, place: usize) -> Option<Seal> {
        let segment = self.segments.get(place)?;
        match segment.seal() {
            Some(seal) => Some(seal.clone()),
            None => self.store.as_mut()?.seal_of(Seq(segment.first())).ok().flatten(),
        }
    }

    /// The length of the windows of a complete segment.
    pub(super) fn resolution_of(&mut self, place: usize) -> Resolution {
        if let Some(resolution) = self.segments.get(place).and_then(Segment::resolution) {
            return resolution;
        }
        let resolution = self.seal_of(place).map(|seal| seal.resolution).unwrap_or_default();
        self.segments.set_resolution(place, resolution);
        resolution
    }

    /// The version in which a newer program wrote the segment at this place; `None`: it is of this version or an older one,
    /// or cannot be read now.
    pub(super) fn newer_of(&mut self, place: usize) -> Option<u16> {
        self.ask_newer_of(place).ok().flatten()
    }

    fn ask_newer_of(&mut self, place: usize) -> Result<Option<u16>, StoreError> {
        let Some(segment) = self.segments.get(place) else { return Ok(None) };
        if let Some(known) = segment.newer_if_known() {
            return Ok(known);
        }
        let first = Seq(segment.first());
        let newer = self.store.as_mut().map_or(Ok(None), |store| store.newer_segment(first))?;
        let newer = newer.map(|(version, _)| version);
        self.segments.set_newer(place, newer);
        Ok(newer)
    }

    /// Whether [`Medium::may_drop`] answers for the segment at this place without reading all of it.
    pub(super) fn knows_whether_to_drop(&self, place: usize, now: Duration) -> bool {
        self.segments.get(place).is_none_or(|segment| {
            segment.newer().is_some() || segment.holds_newer().is_some() || now < segment.look_again_at()
        })
    }

    /// Whether the segment at this place may be given up: a newer program wrote neither it nor entries in it. Reads all of
    /// it the first time: who asks of many asks of one such in a call. One that cannot be read now stays for now.
    pub(super) fn may_drop(&mut self, place: usize, now: Duration) -> bool {
        let Some(segment) = self.segments.get(place) else { return false };
        if let Some(known) = segment.holds_newer() {
            return !known;
        }
        if now < segment.look_again_at() {
            return false;
        }
        let first = segment.first();
        let holds = self.ask_newer_of(place).and_then(|newer| match (newer, self.store.as_mut()) {
            (None, Some(store)) => Reader::holds_newer(store, first),
            (newer, _) => Ok(newer.is_some()),
        });
        match holds {
            Ok(holds) => {
                self.segments.set_holds_newer(place, holds);
                !holds
            }
            Err(error) => {
                tracing::warn!(%error, segment = first, "a segment cannot be read, so it is not given up; it is tried again");
                self.segments.look_again_at(place, now + LOOK_AGAIN);
                false
            }
        }
    }

    /// A newer program wrote the entry of this number. Answers whether that is news of its segment.
    pub(super) fn note_newer_in(&mut self, number: u64) -> bool {
        let Some(place) = self.segments.with(number) else { return false };
        let is_news = self.segments.get(place).is_some_and(|segment| segment.holds_newer() != Some(true));
        self.segments.set_holds_newer(place, true);
        is_news
    }

    /// Segments of newer programs, or with entries of theirs, that are known: how many, the first of them, and their bytes.
    pub(super) fn newer_segments(&self) -> Option<(usize, u64, u64)> {
        let newer = self.segments.newer();
        let bytes = newer.clone().map(Segment::bytes).sum();
        newer.clone().next().map(|first| (newer.count(), first.first(), bytes))
    }

    /// The header of a segment, if it can be read.
    pub(super) fn header_of(&mut self, first: u64) -> Option<Header> {
        self.store.as_mut()?.header(Seq(first)).ok()
    }

    /// Damaged segments that were put aside, by name.
    pub(super) fn quarantined(&mut self) -> Vec<String> {
        self.store.as_mut().map(Store::quarantined).unwrap_or_default()
    }

    /// The segment that has this number turned out to be damaged.
    pub(super) fn set_damaged(&mut self, number: u64) {
        if let Some(place) = self.segments.with(number)
            && self.gone_behind(place).is_none_or(|gone| number < gone.from)
        {
            self.segments.set_damaged(place);
        }
    }

    /// The segment at this place goes as soon as its loss is told.
    pub(super) fn set_dropping(&mut self, place: usize) {
        self.segments.set_dropping(place);
    }

    /// To downsample these would win nothing.
    pub(super) fn leave_alone(&mut self, firsts: &[u64]) {
        self.segments.leave_alone(firsts);
    }

    // --- space, and what goes

    pub(super) fn look_at_room(&mut self) {
        self.room = self.store.as_mut().and_then(Store::room);
    }

    /// What was free when somebody last looked.
    pub(super) fn room(&self) -> Option<Room> {
        self.room
    }

    /// Removes a segment, or puts it aside if it is damaged.
    pub(super) fn let_go(&mut self, first: u64) -> Result<(), StoreError> {
        self.begin()?;
        let Some(place) = self.segments.beginning_with(first) else { return Ok(()) };
        let Some(store) = self.store.as_mut() else { return Ok(()) };
        if self.segments.get(place).is_some_and(Segment::is_damaged) {
            store.quarantine(Seq(first))?;
        } else {
            store.remove(Seq(first))?;
        }
        self.segments.remove(place);
        Ok(())
    }

    // --- the cursor

    /// Where the cursor stands.
    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Something was settled.
    pub(super) fn touch_cursor(&mut self) {
        self.ledger.touch();
    }

    /// Something of the segment that begins with `first` goes out, or has gone out from memory.
    pub(super) fn note_published(&mut self, first: u64) {
        self.ledger.note_published(first);
    }

    /// Of the segment that begins with `first` nobody has anything.
    pub(super) fn take_back_publication(&mut self, first: u64) {
        self.ledger.take_back_publication(first);
    }

    /// Writes the cursor. What is settled above the newest durable number is not said.
    pub(super) fn save_cursor(&mut self, settled: &Ranges, durably: Durably, now: Duration) -> Result<(), StoreError> {
        self.begin()?;
        let Some(store) = self.store.as_mut() else { return Ok(()) };
        let durable = self.durable;
        let settled = settled.iter().filter(|&(a, _)| a <= durable).map(|(a, b)| (a, b.min(durable)));
        let is_there = |first| self.segments.beginning_with(first).is_some();
        let (cursor, slot) = self.ledger.cursor(durable + 1, settled, is_there);
        let Some(bytes) = cursor.write() else { return Ok(()) };
        store.save(slot, &bytes, durably)?;
        self.ledger.saved(durably, now);
        Ok(())
    }
}
