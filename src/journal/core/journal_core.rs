//! The journal's decisions: what is kept, when it counts, what goes out, what is settled. No thread, no clock, no file:
//! `now` is an argument, the medium a [`Store`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::journal::core::downsampler::Resolution;
use crate::journal::core::lanes::{Lane, Lanes};
use crate::journal::core::losses::{Loss, Losses};
use crate::journal::core::reader::{Fetched, Reader};
use crate::journal::core::tail::Tail;
use crate::journal::core::times::Times;
use crate::journal::core::waiting::{ClockWait, MayLeave};
use crate::journal::core::writing::{Failure, UnderWay, Until};
use crate::journal::disk::entry::{self, Encoded};
use crate::journal::disk::segment::{Header, Seal};
use crate::journal::disk::store::{Store, StoreError};
use crate::journal::{Progress, WhenFull};
use crate::measure::{BootId, Entry, Epoch, Event, EventKind, Gap, GapReason, Identity, Schema, Seq, Stamp, Window};

/// The most leases that are out at once, and so the most settlements that can be on their way. Above the receive maximum
/// that brokers grant (mosquitto 20, EMQX 32, HiveMQ 10 by default; more helps only on very long lines).
pub(in crate::journal) const LEASES_MAX: usize = 256;
/// [`Limits::commit_bytes`] of an agent: what is written in 100 ms or so by slow flash.
pub(in crate::journal) const COMMIT_BYTES_MAX: usize = 1024 * 1024;
/// What may wait in memory while the medium fails, and what the journal holds if there is no medium at all: some 25
/// minutes of a depot of 250 points at 4 windows a second.
const MEMORY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A medium that has failed for this long is treated as none: what waits in memory may go out without being durable.
const SEND_UNSYNCED_AFTER: Duration = Duration::from_secs(5);

/// Bounds of one journal.
#[derive(Debug, Clone)]
pub(in crate::journal) struct Limits {
    pub(in crate::journal) bytes_max: u64,
    /// What must stay free on the file system; at most an eighth of it.
    pub(in crate::journal) free_min: u64,
    pub(in crate::journal) age_max: Duration,
    pub(in crate::journal) when_full: WhenFull,
    pub(in crate::journal) commit_interval: Duration,
    /// A group commit is made at once when this many bytes wait, and writes no more at a time.
    pub(in crate::journal) commit_bytes: usize,
    pub(in crate::journal) time_wait: Duration,
    /// A segment with this many bytes is full.
    pub(in crate::journal) segment_bytes: u64,
    /// So is one with this many chunks.
    pub(in crate::journal) segment_chunks: u32,
}

/// The schema, the boot and the epoch under which entries are written and read.
#[derive(Debug, Clone)]
pub(in crate::journal) struct WriterContext {
    pub(in crate::journal) epoch: Epoch,
    pub(in crate::journal) boot: BootId,
    pub(in crate::journal) schema: Arc<Schema>,
}

impl WriterContext {
    /// The header of a segment that begins with this number.
    pub(in crate::journal) fn header(&self, first: u64) -> Header {
        Header { epoch: self.epoch, first: Seq(first), boot: self.boot, schema: Arc::clone(&self.schema) }
    }
}

/// A segment in the list. Its last number is one below the next one's first.
#[derive(Debug, Clone)]
pub(in crate::journal) struct Segment {
    pub(in crate::journal) first: u64,
    pub(in crate::journal) bytes: u64,
    /// Its seal, if it could not be written to the medium.
    pub(in crate::journal) seal: Option<Seal>,
    /// Something in it was not what was written: it is put aside and not removed.
    pub(in crate::journal) damaged: bool,
    /// It goes as soon as its loss is told.
    pub(in crate::journal) dropping: bool,
    /// The length of its windows, once somebody has looked.
    pub(in crate::journal) resolution: Option<Resolution>,
    /// Downsampling it would win nothing.
    pub(in crate::journal) left_alone: bool,
}

impl Segment {
    pub(in crate::journal) fn new(first: u64, bytes: u64) -> Self {
        Self { first, bytes, seal: None, damaged: false, dropping: false, resolution: None, left_alone: false }
    }
}

/// What is wrong with the medium.
#[derive(Debug, Clone)]
pub(in crate::journal) struct Trouble {
    pub(in crate::journal) since: Duration,
    pub(in crate::journal) retry_at: Duration,
    pub(in crate::journal) text: String,
}

/// What became of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::journal) enum Settlement {
    /// The broker has it.
    Acknowledged(Seq),
    /// The broker will never take it, for a reason of its own.
    Refused {
        identity: Identity,
        points: u64,
        code: u8,
        /// The gaps that the entry itself was to tell.
        told: Vec<Gap>,
    },
    /// Nothing is known; it goes back.
    GivenBack(Seq),
}

/// See the module's head.
#[derive(Debug)]
pub(in crate::journal) struct JournalCore<S> {
    /// `None`: no medium at all; memory is all there is.
    pub(in crate::journal) store: Option<S>,
    pub(in crate::journal) limits: Limits,
    pub(in crate::journal) context: WriterContext,
    /// Ascending. The last one is being written if `active` is set.
    pub(in crate::journal) segments: Vec<Segment>,
    /// What the seal of the segment being written will say.
    pub(in crate::journal) active: Option<Seal>,
    pub(in crate::journal) tail: Tail,
    pub(in crate::journal) lanes: Lanes,
    pub(in crate::journal) losses: Losses,
    pub(in crate::journal) reader: Reader,
    pub(in crate::journal) ledger: crate::journal::core::retention::Ledger,
    pub(in crate::journal) times: Times,
    pub(in crate::journal) clock_wait: ClockWait,
    /// The number of the next window.
    pub(in crate::journal) next: u64,
    /// The newest durable number; 0: none.
    pub(in crate::journal) durable: u64,
    /// The newest number that was put to the medium and may be found there, durable or not.
    pub(in crate::journal) may_survive: u64,
    /// See [`MayLeave::NotYet`].
    pub(in crate::journal) withheld: BTreeSet<u64>,
    /// The newest end of a window whose clock could be believed.
    pub(in crate::journal) newest_utc: Option<i64>,
    /// Windows that were refused for want of room and are not told yet: first, last, points.
    refusing: Option<(u64, u64, u64)>,
    pub(in crate::journal) trouble: Option<Trouble>,
    /// What the next window says of the medium, to whoever reads at the broker.
    pub(in crate::journal) news: Option<EventKind>,
    /// The entry that told of the present trouble.
    told_trouble_in: Option<u64>,
    outstanding: usize,
    pub(in crate::journal) open_since: Option<Duration>,
    pub(in crate::journal) under_way: UnderWay,
    /// The beginning of the last commit that had something to write.
    committed_at: Option<Duration>,
    pub(in crate::journal) commits: u64,
    pub(in crate::journal) bytes_written: u64,
}

impl<S: Store> JournalCore<S> {
    /// A journal that continues what a start has found, or one in memory only if `store` is `None`.
    pub(in crate::journal) fn new(
        store: Option<S>,
        limits: Limits,
        context: WriterContext,
        start: crate::journal::core::recovery::Start,
    ) -> Self {
        let mut core = Self {
            store,
            limits,
            context,
            segments: start.segments,
            active: None,
            tail: Tail::new(start.next),
            lanes: Lanes::new(start.settled, start.published, start.next),
            losses: Losses::default(),
            reader: Reader::default(),
            ledger: start.ledger,
            times: start.times,
            clock_wait: ClockWait::default(),
            next: start.next,
            durable: start.next - 1,
            may_survive: 0,
            withheld: BTreeSet::new(),
            newest_utc: None,
            refusing: None,
            trouble: None,
            news: None,
            told_trouble_in: None,
            outstanding: 0,
            open_since: None,
            under_way: UnderWay::default(),
            committed_at: None,
            commits: 0,
            bytes_written: 0,
        };
        for gap in start.untold {
            core.lose(gap.from.0, gap.to.0, gap.epoch, gap.points, gap.reason);
        }
        core.look_for_end(start.last);
        core.mind_the_clock(Duration::ZERO);
        core
    }

    /// Takes a window. It has a number now and counts as kept after the commit.
    pub(in crate::journal) fn append(&mut self, mut window: Window, now: Duration) {
        self.times.witness(window.boot, window.end);
        let ours = self.losses.any_untold() || self.news.is_some();
        if self.is_full() && !ours {
            return self.refuse_newest(&window);
        }
        if window.is_empty() && !ours && self.refusing.is_none() {
            return;
        }
        if let Some((from, to, points)) = self.refusing.take() {
            self.lose(from, to, self.context.epoch, Some(points), GapReason::JournalFull);
        }
        let seq = self.next;
        self.next += 1;
        if let Some(kind) = self.news.take() {
            self.told_trouble_in = matches!(kind, EventKind::JournalFailing(_)).then_some(seq);
            window.events.push(Event { device: None, kind });
        }
        self.capture_time(&mut window, seq);
        window.events.extend(self.losses.tell(seq));
        match entry::encode(&window, self.context.boot) {
            Ok(encoded) => self.keep(seq, encoded, now),
            Err(why) => {
                tracing::error!(seq, %why, "a window cannot be kept; it is told as a gap");
                self.losses.untell(seq, seq);
                self.lose(seq, seq, self.context.epoch, Some(window.points()), GapReason::Corrupt);
            }
        }
    }

    /// When the next commit is due, if anything waits for one.
    pub(in crate::journal) fn commit_at(&self) -> Option<Duration> {
        let since = self.open_since?;
        if let Some(trouble) = &self.trouble {
            return Some(trouble.retry_at);
        }
        // At once, unless the last one was less than the interval ago: live data does not wait without need, and the
        // disk is not synced more often than that.
        let spaced = self.committed_at.map_or(since, |at| since.max(at + self.limits.commit_interval));
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
        let leaves_some = self.is_burst() && self.trouble.is_none();
        self.write(if leaves_some { Until::Begun } else { Until::Durable }, now);
    }

    fn write(&mut self, until: Until, now: Duration) {
        if self.tail.open_count() > 0 {
            self.committed_at = Some(now);
            match self.write_out(until) {
                Ok(()) => self.succeeded(now),
                Err(Failure::NoMedium) => {}
                Err(Failure::Store(error)) => self.failed(&error, now),
            }
        } else {
            self.open_since = None;
        }
        self.mind_the_clock(now);
        self.send_unsynced(now);
        self.carry_out(now);
    }

    /// Hands out up to `max` entries of a lane, in order.
    pub(in crate::journal) fn lease(&mut self, lane: Lane, max: usize) -> Vec<Arc<Entry>> {
        let mut leased = Vec::new();
        while leased.len() < max && self.outstanding < LEASES_MAX {
            let Some(number) = self.lanes.next(lane) else { break };
            if let Some(mut entry) = self.entry_at(number) {
                match self.seal_time(&mut entry) {
                    MayLeave::Yes => {}
                    MayLeave::NotNow => break,
                    MayLeave::NotYet => {
                        self.lanes.pass_over(number);
                        self.withheld.insert(number);
                        continue;
                    }
                }
                self.note_publication(number);
                self.lanes.take(number, lane);
                self.outstanding += 1;
                leased.push(Arc::new(*entry));
            }
        }
        leased
    }

    /// The entry of this number. If there is none, what became of it is noted, and it is not asked for again.
    pub(in crate::journal) fn entry_at(&mut self, number: u64) -> Option<Box<Entry>> {
        match self.fetch(number) {
            Fetched::Entry(entry) => return Some(entry),
            // Numbers that were given up before, and told.
            Fetched::Skipped { to } => self.lanes.settle(number, to),
            Fetched::Lost { to, epoch } => {
                tracing::error!(from = number, to, "entries are damaged beyond reading; they are told as a gap");
                self.lose(number, to, epoch, None, GapReason::Corrupt);
            }
            Fetched::Unknown { version } => {
                tracing::warn!(seq = number, version, "an entry of a newer agent is kept and passed over");
                self.lanes.pass_over(number);
            }
        }
        None
    }

    /// What became of a lease.
    pub(in crate::journal) fn settle(&mut self, settlement: Settlement) {
        self.outstanding = self.outstanding.saturating_sub(1);
        self.ledger.dirty = true;
        match settlement {
            Settlement::Acknowledged(seq) => self.lanes.acknowledge(seq.0),
            Settlement::GivenBack(seq) => self.lanes.give_back(seq.0),
            Settlement::Refused { identity, points, code, told } => {
                let Identity { epoch, seq } = identity;
                self.lanes.start_dropping(seq.0, seq.0);
                let gap = Gap { epoch, from: seq, to: seq, points: Some(points), reason: GapReason::Refused };
                self.losses.push(Loss {
                    // What it was to tell must be told by another.
                    gaps: std::iter::once(gap).chain(told).collect(),
                    refusal: Some((identity, code)),
                    settles: vec![(seq.0, seq.0)],
                });
            }
        }
    }

    /// A (re)connection: what comes from here on is live.
    pub(in crate::journal) fn go_live(&mut self) {
        self.lanes.go_live();
        self.clock_wait.connected();
    }

    /// The end: tells what is untold, commits, seals, and writes the cursor.
    pub(in crate::journal) fn close(&mut self, end: Option<(BootId, Stamp)>, now: Duration) -> Result<(), StoreError> {
        if let Some((boot, end)) = end
            && (self.losses.any_untold() || self.refusing.is_some())
        {
            if let Some((from, to, points)) = self.refusing.take() {
                self.lose(from, to, self.context.epoch, Some(points), GapReason::JournalFull);
            }
            let (length, intervals, events) = (Duration::ZERO, Vec::new(), Vec::new());
            self.append(Window { boot, end, length, intervals, site: None, events }, now);
        }
        match self.write_out(Until::Durable) {
            Ok(()) => self.succeeded(now),
            Err(Failure::NoMedium) => return Ok(()),
            Err(Failure::Store(error)) => {
                self.failed(&error, now);
                return Err(error);
            }
        }
        self.carry_out(now);
        self.seal_active()?;
        self.save_cursor(crate::journal::disk::store::Durably::Yes, now)?;
        self.remove_settled(now);
        Ok(())
    }

    /// What others may know.
    pub(in crate::journal) fn progress(&self) -> Progress {
        let (live_waiting, history_waiting) = self.lanes.ready();
        Progress {
            durable: (self.durable > 0).then_some(Seq(self.durable)),
            live_waiting,
            history_waiting,
            unacknowledged: self.lanes.waiting(),
        }
    }

    /// What is wrong with the medium, in words.
    pub(in crate::journal) fn trouble(&self) -> Option<&str> {
        self.trouble.as_ref().map(|trouble| trouble.text.as_str())
    }

    /// The medium must not be filled further.
    fn is_full(&self) -> bool {
        self.limits.when_full == WhenFull::RefuseNewest && self.pressure().is_some()
    }

    /// There is no medium, and why.
    pub(in crate::journal) fn without_medium(&mut self, text: String) {
        self.news = Some(EventKind::JournalFailing(text.as_str().into()));
        self.trouble = Some(Trouble { since: Duration::ZERO, retry_at: Duration::ZERO, text });
    }

    /// Gives up numbers: they are not leased from here on, and settled once a gap entry tells it durably.
    pub(in crate::journal) fn lose(
        &mut self,
        from: u64,
        to: u64,
        epoch: Epoch,
        points: Option<u64>,
        reason: GapReason,
    ) {
        let spans = self.lanes.waiting_in(from, to);
        // Points are known for the whole only.
        let points = points.filter(|_| spans == [(from, to)]);
        let gaps =
            spans.iter().map(|&(from, to)| Gap { epoch, from: Seq(from), to: Seq(to), points, reason }).collect();
        self.lanes.start_dropping(from, to);
        if let Some(segment) = self.segment_of(from)
            && reason == GapReason::Corrupt
        {
            self.segments[segment].damaged = true;
        }
        if !spans.is_empty() {
            self.losses.push(Loss { gaps, refusal: None, settles: spans });
        }
    }

    /// The place in the list of the segment that has this number.
    pub(in crate::journal) fn segment_of(&self, number: u64) -> Option<usize> {
        self.segments.partition_point(|segment| segment.first <= number).checked_sub(1)
    }

    /// The last number that this segment of the list can have.
    pub(in crate::journal) fn last_of(&self, place: usize) -> u64 {
        self.segments.get(place + 1).map_or(self.durable, |next| next.first - 1)
    }

    pub(in crate::journal) fn keep(&mut self, seq: u64, encoded: Encoded, now: Duration) {
        self.newest_utc = encoded.utc.or(self.newest_utc);
        self.tail.push(seq, encoded);
        self.open_since.get_or_insert(now);
        if self.tail.open_bytes() > MEMORY_BYTES_MAX {
            // What is under way is not lost.
            self.finish_under_way(now);
        }
        while self.tail.open_bytes() > MEMORY_BYTES_MAX
            && let Some(shed) = self.tail.shed()
        {
            self.tell_again(shed.seq, &shed.encoded);
            if self.told_trouble_in == Some(shed.seq)
                && let Some(trouble) = &self.trouble
            {
                self.news = Some(EventKind::JournalFailing(trouble.text.as_str().into()));
            }
            self.lose(shed.seq, shed.seq, self.context.epoch, Some(shed.encoded.points), GapReason::JournalFull);
        }
    }

    /// An entry in memory is given up that may have told of losses: those are told by a later one.
    fn tell_again(&mut self, seq: u64, encoded: &Encoded) {
        if !encoded.tells_loss || self.losses.untell(seq, seq) {
            return;
        }
        let events = entry::decode(&encoded.bytes, self.context.boot).map(|w| w.events).unwrap_or_default();
        let gaps = events.iter().filter_map(|e| e.kind.gap());
        let gaps: Vec<Gap> = gaps.collect();
        if !gaps.is_empty() && !self.lanes.settled().contains(seq) {
            self.losses.push(Loss { gaps, refusal: None, settles: Vec::new() });
        }
    }

    fn refuse_newest(&mut self, window: &Window) {
        if window.is_empty() {
            return;
        }
        let (first, points) = self.refusing.map_or((self.next, 0), |(first, _, points)| (first, points));
        self.refusing = Some((first, self.next, points + window.points()));
        self.next += 1;
    }

    /// Without a medium what is in memory may go out: the alternative is to send nothing at all.
    fn send_unsynced(&mut self, now: Duration) {
        let dead = self.trouble.as_ref().is_some_and(|trouble| now >= trouble.since + SEND_UNSYNCED_AFTER);
        if self.store.is_none() || dead {
            self.lanes.extend(self.next);
        }
        if self.store.is_none() {
            self.open_since = None;
        }
    }

    /// Settles the losses that are told durably, and lets go of what nobody needs any more.
    fn carry_out(&mut self, now: Duration) {
        let told = self.losses.told(if self.store.is_some() { self.durable } else { self.next - 1 });
        for &(from, to) in told.iter().flat_map(|loss| &loss.settles) {
            self.lanes.settle(from, to);
        }
        if !told.is_empty() {
            self.ledger.dirty = true;
            self.remove_settled(now);
        }
    }
}
