//! The journal's decisions: what is kept, when it counts, what goes out, what is settled. No thread, no clock, no file:
//! `now` is an argument, the medium a [`Store`].
//!
//! What it decides on has six owners, each with a state of its own that nobody else sees: the [`Medium`] (what is durable, or
//! on its way), the [`Queue`] (what waits), the [`Losses`] (what is to be told), the [`HeldEvents`] of windows that are not kept, the [`Clock`] (with what time) and the [`Age`]
//! of segments. Rules that concern more than one of them are here, by subject: `writing`, `time`, `retention`, `downsampling`, `purge`,
//! `inventory`.

mod downsampling;
mod in_memory;
mod inventory;
mod purge;
mod retention;
mod time;
mod writing;

pub(in crate::journal) use self::purge::Purge;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::health::JournalFacts;
use crate::journal::core::age::Age;
use crate::journal::core::checkpoint::{self, Cadence};
use crate::journal::core::clock::{Clock, MayLeave};
use crate::journal::core::context::WriterContext;
use crate::journal::core::epoch::JournalMeta;
use crate::journal::core::held::{HeldEvents, is_about_the_medium};
use crate::journal::core::lanes::Lanes;
use crate::journal::core::limits::Limits;
use crate::journal::core::losses::{Loss, Losses, Refused};
use crate::journal::core::medium::Medium;
use crate::journal::core::newer;
use crate::journal::core::parts;
use crate::journal::core::queue::Queue;
use crate::journal::core::reader::{self, Fetched};
use crate::journal::core::recovery::Start;
use crate::journal::core::segments::Segment;
use crate::journal::core::tail::Kept;
use crate::journal::core::upkeep::Upkeep;
use crate::journal::disk::entry::{self, Encoded};
use crate::journal::disk::record::Record;
use crate::journal::disk::store::{Durably, Store, StoreError};
use crate::journal::line::{Lane, Settlement};
use crate::journal::report::Progress;
use crate::measure::WhenFull;
use crate::measure::{BootId, Checkpoint, Entry, Epoch, EventKind, Gap, GapReason, Identity, Seq, Stamp, Window};

/// What may wait in memory while the medium fails, and what the journal holds if there is no medium at all: some 25
/// minutes of a depot of 250 points at 4 windows a second.
const MEMORY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Entries that one call walks past because they cannot leave, with those that it hands out or reads: each may be a chunk
/// that is read for nothing. The next call goes on behind them.
const LOOKED_AT_MAX: usize = 1_024;

/// See the module's head.
#[derive(Debug)]
pub(in crate::journal) struct JournalCore<S> {
    limits: Limits,
    context: WriterContext,
    medium: Medium<S>,
    queue: Queue,
    losses: Losses,
    held: HeldEvents,
    clock: Clock,
    age: Age,
    upkeep: Upkeep,
    checkpoints: Cadence,
    /// How what is derived stands after the newest window.
    stands: Option<Arc<Checkpoint>>,
    /// Segments of former lives, by their first numbers, of which it is told that entries go out under another epoch. They only
    /// become fewer.
    other_epochs: BTreeSet<u64>,
    /// Records of newer programs, by name.
    newer_records: Vec<String>,
    /// What newer programs left, in words, once it is told.
    newer: Option<String>,
}

impl<S: Store> JournalCore<S> {
    /// A journal that continues what a start has found, or one in memory only if `store` is `None`.
    pub(in crate::journal) fn new(store: Option<S>, limits: Limits, context: WriterContext, start: Start) -> Self {
        let Start {
            unbegun,
            segments,
            settled,
            published,
            next,
            ledger,
            times,
            age,
            last,
            untold,
            passed,
            newer,
            checkpoint,
            epoch: _,
            previous_ended_clean: _,
        } = start;
        let mut core = Self {
            limits,
            context,
            medium: Medium::new(store, segments, ledger, next - 1),
            queue: Queue::new(Lanes::new(settled, published, next), next),
            losses: Losses::default(),
            held: HeldEvents::default(),
            clock: Clock::new(times),
            age,
            upkeep: Upkeep::default(),
            checkpoints: Cadence::default(),
            stands: (checkpoint != Checkpoint::default()).then(|| Arc::new(checkpoint)),
            other_epochs: BTreeSet::new(),
            newer_records: newer,
            newer: None,
        };
        for (from, to) in passed {
            core.queue.pass_over_all(from, to);
        }
        core.note_newer();
        for gap in untold {
            core.lose(gap.from.0, gap.to.0, gap.epoch, gap.points, gap.reason);
        }
        core.look_for_end(last);
        if let Some((life, error)) = unbegun {
            core.begin_in_memory(life, &error);
        }
        core.hold_for_clock(Duration::ZERO);
        core
    }

    /// Newer programs have left something, or nothing: tells it once in a life, and keeps it in words.
    fn note_newer(&mut self) {
        let segments = self.medium.newer_segments();
        if segments.is_none() && self.newer_records.is_empty() {
            return;
        }
        let text = newer::in_words(&self.newer_records, segments);
        if self.newer.is_none() {
            tracing::warn!(newer = text, "the journal holds what a newer program wrote");
            self.losses.tell_newer(&text);
        }
        self.newer = Some(text);
    }

    /// Takes a window. It has a number now and counts as kept after the commit.
    pub(in crate::journal) fn append(&mut self, window: Window, now: Duration) {
        self.append_as(window, now, Clock::capture);
    }

    fn append_as(&mut self, mut window: Window, now: Duration, capture: fn(&mut Clock, &mut Window, u64)) {
        self.clock.witness(window.boot, window.end);
        let ours = self.losses.any_to_tell(now) || self.clock.has_step_to_tell(&window);
        if self.is_full() && !ours {
            return self.refuse_newest(window);
        }
        if window.is_empty() && !ours && !self.losses.any_refused() && !self.held.any() {
            return;
        }
        self.lose_refused();
        let seq = self.queue.take_number();
        window.events.splice(0..0, self.held.take());
        window.events.extend(self.losses.tell_news(seq));
        capture(&mut self.clock, &mut window, seq);
        window.events.extend(self.losses.tell(seq, now));
        let newest = self.medium.segments().newest().map(Segment::first);
        self.stands = window.checkpoint.clone().or(self.stands.take());
        if window.checkpoint.is_some() && !self.checkpoints.is_due(newest, now) {
            window.checkpoint = None;
        }
        let (encoded, rest) = parts::encode_first(&mut window, self.context.boot);
        match encoded {
            Ok(encoded) => self.keep(seq, encoded, now),
            Err(why) => {
                tracing::error!(seq, %why, "a window cannot be kept; it is told as a gap");
                self.losses.untell(seq, seq);
                self.lose(seq, seq, self.context.epoch, Some(window.points()), GapReason::Corrupt);
            }
        }
        if rest.iter().any(|part| part.checkpoint.is_some()) {
            self.checkpoints = Cadence::default();
        }
        rest.into_iter().for_each(|part| self.append_as(part, now, capture));
    }

    /// Takes an entry as it will be written.
    #[cfg(any(test, feature = "bench"))]
    pub(in crate::journal) fn append_encoded(&mut self, encoded: Encoded, now: Duration) {
        let seq = self.queue.take_number();
        self.keep(seq, encoded, now);
    }

    fn keep(&mut self, seq: u64, encoded: Encoded, now: Duration) {
        self.clock.note_kept(encoded.utc);
        self.queue.push(seq, encoded, now);
        if self.queue.tail().open_bytes() > MEMORY_BYTES_MAX {
            // What is under way is not lost.
            self.finish_under_way(now);
        }
        while self.queue.tail().open_bytes() > MEMORY_BYTES_MAX
            && let Some(shed) = self.queue.shed()
        {
            self.hold_events_of(&shed);
            self.tell_again(shed.seq, &shed.encoded);
            if self.losses.told_trouble_in(shed.seq) {
                self.tell_trouble_again();
            }
            self.lose(shed.seq, shed.seq, self.context.epoch, Some(shed.encoded.points), GapReason::JournalFull);
        }
    }

    /// An entry in memory is given up. What happened is told in the next one, unless it has gone out; what the journal itself has to tell is
    /// told anew.
    fn hold_events_of(&mut self, shed: &Kept) {
        let lanes = self.queue.lanes();
        if lanes.settled().contains(shed.seq) || lanes.any_leased_in(shed.seq, shed.seq) {
            return;
        }
        let events = entry::decode(&shed.encoded.bytes, self.context.boot).map(|window| window.events);
        let is_told_anew =
            |kind: &EventKind| is_about_the_medium(kind) || kind.gap().is_some() || kind.life_lost().is_some();
        self.held.hold(events.unwrap_or_default().into_iter().filter(|event| !is_told_anew(&event.kind)));
    }

    /// An entry in memory is given up that may have told of losses: those are told by a later one.
    fn tell_again(&mut self, seq: u64, encoded: &Encoded) {
        let is_settled = self.queue.lanes().settled().contains(seq);
        if is_settled {
            self.losses.delivered(seq);
        }
        if !encoded.tells_loss || self.losses.untell(seq, seq) || is_settled {
            return;
        }
        let events = entry::decode(&encoded.bytes, self.context.boot).map(|w| w.events).unwrap_or_default();
        events.iter().filter_map(|event| event.kind.life_lost()).for_each(|lost| self.losses.tell_life_lost(lost));
        let gaps: Vec<Gap> = events.iter().filter_map(|event| event.kind.gap()).collect();
        if !gaps.is_empty() {
            self.losses.push(Loss { gaps, refusal: None, settles: Vec::new() });
        }
    }

    /// The medium must not be filled further.
    fn is_full(&self) -> bool {
        self.limits.when_full == WhenFull::RefuseNewest && self.pressure().is_some()
    }

    fn refuse_newest(&mut self, window: Window) {
        if !window.is_empty() {
            self.losses.refuse(self.queue.take_number(), window.points());
            self.held.hold(window.events);
        }
    }

    fn lose_refused(&mut self) {
        if let Some(Refused { from, to, points }) = self.losses.take_refused() {
            self.lose(from, to, self.context.epoch, Some(points), GapReason::JournalFull);
        }
    }

    /// Hands out up to `max` entries of a lane, in order; fewer also behind many that cannot leave.
    pub(in crate::journal) fn lease(&mut self, lane: Lane, max: usize) -> Vec<Arc<Entry>> {
        let mut leased = Vec::new();
        for _ in 0..LOOKED_AT_MAX {
            if leased.len() >= max {
                break;
            }
            let Some(number) = self.queue.next_to_lease(lane) else { break };
            let Some(mut entry) = self.entry_at(number) else { continue };
            let recorded = entry.identity.epoch;
            match self.seal_time(&mut entry) {
                MayLeave::Yes => {}
                MayLeave::NotNow => break,
                MayLeave::Newer => {
                    self.queue.pass_over(number);
                    continue;
                }
                MayLeave::NotYet => {
                    self.queue.withhold(number);
                    continue;
                }
            }
            if entry.identity.epoch != recorded {
                self.tell_other_epoch(recorded, number);
            }
            self.note_publication(number);
            self.queue.hand_out(number, lane);
            leased.push(Arc::new(*entry));
        }
        leased
    }

    /// The entry of this number. If there is none, what became of it is noted, and it is not asked for again.
    fn entry_at(&mut self, number: u64) -> Option<Box<Entry>> {
        match self.fetch(number) {
            Fetched::Entry(entry) => return Some(entry),
            // Numbers that were given up before, and told.
            Fetched::Skipped { to } => self.queue.settle(number, to),
            Fetched::Lost { to, epoch } => {
                tracing::error!(from = number, to, "entries are damaged beyond reading; they are told as a gap");
                self.lose(number, to, epoch, None, GapReason::Corrupt);
            }
            Fetched::Newer { to, version } => {
                tracing::debug!(from = number, to, ?version, "entries of a newer program are passed over");
                self.queue.pass_over_all(number, to);
                if self.medium.note_newer_in(number) {
                    self.note_newer();
                }
            }
        }
        None
    }

    /// The content of `number`, which is below what is leasable and not settled: from memory, or from the medium.
    fn fetch(&mut self, number: u64) -> Fetched {
        if let Some(kept) = self.queue.tail().find(number) {
            return reader::read(number, &kept.encoded.bytes, &self.context);
        }
        let fetched = self.medium.fetch(number);
        // A damaged segment that was being written is complete now, with all that was under way to it.
        self.queue.close_to(self.medium.durable());
        fetched
    }

    /// What became of a lease.
    pub(in crate::journal) fn settle(&mut self, settlement: Settlement) {
        self.queue.lease_ended();
        self.medium.touch_cursor();
        match settlement {
            Settlement::Acknowledged(seq) => self.queue.acknowledge(seq.0),
            Settlement::GivenBack(seq) => self.queue.give_back(seq.0),
            Settlement::Unheard(seq) => self.take_back_publication(seq.0),
            Settlement::Refused { identity, points, code, told, lives } => {
                let Identity { epoch, seq } = identity;
                self.queue.start_dropping(seq.0, seq.0);
                lives.into_iter().for_each(|lost| self.losses.tell_life_lost(lost));
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
        self.queue.go_live();
        self.clock.connected();
        // Whoever listens from now on may not have heard it, and its entry may wait far behind.
        if !self.medium.has_begun() {
            self.tell_trouble_again();
        }
    }

    /// Gives up numbers: they are not leased from here on, and settled once a gap entry tells it durably.
    fn lose(&mut self, from: u64, to: u64, epoch: Epoch, points: Option<u64>, reason: GapReason) {
        let spans = self.queue.lanes().waiting_in(from, to);
        // Points are known for the whole only.
        let points = points.filter(|_| spans == [(from, to)]);
        let gaps =
            spans.iter().map(|&(from, to)| Gap { epoch, from: Seq(from), to: Seq(to), points, reason }).collect();
        self.queue.start_dropping(from, to);
        if reason == GapReason::Corrupt {
            self.medium.set_damaged(from);
        }
        if !spans.is_empty() {
            self.losses.push(Loss { gaps, refusal: None, settles: spans });
        }
    }

    /// Settles the losses that are told durably, and lets go of what nobody needs any more.
    fn carry_out(&mut self, now: Duration) {
        let told_to = if self.medium.is_there() { self.medium.durable() } else { self.queue.next() - 1 };
        let told = self.losses.told(told_to);
        for &(from, to) in told.iter().flat_map(|loss| &loss.settles) {
            self.queue.settle(from, to);
        }
        if !told.is_empty() {
            self.medium.touch_cursor();
            self.remove_settled(now);
        }
    }

    /// The end: tells what is untold, commits, seals, and writes the cursor.
    pub(in crate::journal) fn close(&mut self, end: Option<(BootId, Stamp)>, now: Duration) -> Result<(), StoreError> {
        self.losses.tell_all_now();
        if let Some((boot, end)) = end
            && (self.losses.any_untold() || self.losses.any_refused() || self.held.any())
        {
            self.lose_refused();
            self.append(Window::empty(boot, end, Duration::ZERO), now);
        }
        if !self.write_all(now)? {
            return Ok(());
        }
        self.carry_out(now);
        self.seal_active()?;
        self.save_cursor(Durably::Yes, now)?;
        self.remove_settled(now);
        self.note_complete(now);
        let lived = self.age.save(now);
        self.save_age(lived);
        self.save_checkpoint();
        Ok(())
    }

    /// Notes how things stand after the last entry. Without it the next life finds it in the newest entries, if they are still there.
    fn save_checkpoint(&mut self) {
        let Some(stands) = self.stands.take() else { return };
        let record = checkpoint::record(self.queue.next() - 1, &stands, &self.context.schema);
        let saved = record.map_or(Ok(()), |bytes| self.medium.save(Record::Checkpoint, &bytes));
        if let Err(error) = saved {
            tracing::warn!(%error, "how far energies were told cannot be noted");
        }
    }

    /// Notes the state of this life. Without a medium there is nothing to do.
    pub(in crate::journal) fn save_meta(&mut self, meta: &JournalMeta) -> Result<(), StoreError> {
        let Some(bytes) = meta.write() else { return Ok(()) };
        self.medium.save(Record::Life, &bytes)
    }

    /// The medium, for whoever goes on with it alone.
    pub(in crate::journal) fn into_store(self) -> Option<S> {
        self.medium.into_store()
    }

    /// The time between two commits from here on.
    pub(in crate::journal) fn set_commit_interval(&mut self, interval: Duration) {
        self.limits.commit_interval = interval;
    }

    /// Whether the next window must tell of losses.
    pub(in crate::journal) fn any_untold(&self) -> bool {
        self.losses.any_untold()
    }

    /// The life that lasts.
    pub(in crate::journal) fn epoch(&self) -> Epoch {
        self.context.epoch
    }

    /// How far the journal and its delivery are.
    pub(in crate::journal) fn progress(&self) -> Progress {
        let (live_waiting, history_waiting) = self.queue.lanes().ready();
        let durable = self.medium.durable();
        Progress {
            epoch: Some(self.context.epoch),
            durable: (durable > 0).then_some(Seq(durable)),
            live_waiting,
            history_waiting,
            unacknowledged: self.queue.lanes().waiting(),
        }
    }

    /// What is wrong with the medium, in words.
    pub(in crate::journal) fn trouble(&self) -> Option<&str> {
        self.medium.trouble()
    }

    /// Commits since the start, and the bytes of frames that were written.
    pub(in crate::journal) fn written(&self) -> (u64, u64) {
        self.medium.written()
    }

    /// Bytes of all segments on the medium.
    #[cfg(feature = "bench")]
    pub(in crate::journal) fn bytes(&self) -> u64 {
        self.medium.segments().bytes()
    }

    /// Whether all that was appended is durable.
    pub(in crate::journal) fn is_durable(&self) -> bool {
        self.unsynced() == 0
    }

    fn unsynced(&self) -> u64 {
        self.queue.next() - 1 - self.medium.durable()
    }

    /// Tells others how it is.
    pub(in crate::journal) fn note(&self, facts: &mut JournalFacts) {
        let Progress { durable, unacknowledged, .. } = self.progress();
        facts.epoch = Some(self.context.epoch);
        facts.durable = durable;
        facts.waiting_entries = unacknowledged;
        facts.held_entries = self.queue.lanes().held();
        // Put into words by whoever asks: this is noted after every command.
        facts.clock_wait = (facts.held_entries > 0).then(|| self.clock.wait(self.limits.time_wait));
        facts.clock_off_s = self.clock.set().map(|by_ns| by_ns as f64 / 1e9);
        facts.unsynced_entries = self.unsynced();
        facts.bytes = self.medium.segments().bytes();
        facts.segments = self.medium.segments().len() as u64;
        (facts.commits, facts.bytes_written) = self.medium.written();
        (facts.gaps, facts.entries_lost, facts.entries_thinned) = self.losses.counts();
        facts.trouble = self.medium.trouble().map(str::to_owned);
        facts.newer.clone_from(&self.newer);
    }
}

/// What the tests of histories look at.
#[cfg(test)]
impl<S: Store> JournalCore<S> {
    pub(super) fn store_mut(&mut self) -> Option<&mut S> {
        self.medium.store_mut()
    }

    pub(super) fn has_medium(&self) -> bool {
        self.medium.is_there()
    }

    pub(super) fn durable(&self) -> u64 {
        self.medium.durable()
    }

    pub(super) fn next(&self) -> u64 {
        self.queue.next()
    }

    pub(super) fn queue(&self) -> &Queue {
        &self.queue
    }

    pub(super) fn losses(&self) -> &Losses {
        &self.losses
    }

    pub(in crate::journal) fn set_commit_bytes(&mut self, bytes: usize) {
        self.limits.commit_bytes = bytes;
    }

    /// Whether it is noted that something of the segment that begins with `first` has gone out.
    pub(super) fn notes_publication_of(&self, first: u64) -> bool {
        self.medium.ledger().notes_publication_of(first)
    }

    /// Downsamples one run of entries to its end; whether there was one.
    pub(in crate::journal) fn downsample_one_run(&mut self, now: Duration) -> bool {
        use crate::journal::core::job::JobState;
        loop {
            match self.downsample(1, now) {
                JobState::Working => {}
                JobState::Done => return true,
                JobState::Later | JobState::Nothing => return false,
            }
        }
    }

    pub(super) fn set_free_min(&mut self, bytes: u64) {
        self.limits.free_min = bytes;
    }
}
