//! What a start finds, and what it makes of it. The cost is that of the newest segment, whatever the backlog.

use std::collections::BTreeSet;

use crate::journal::core::age::Age;
use crate::journal::core::checkpoint;
use crate::journal::core::epoch::{self, JournalMeta};
use crate::journal::core::ledger::Ledger;
use crate::journal::core::newer::NewerRecords;
use crate::journal::core::ranges::Ranges;
use crate::journal::core::segments::{Segment, Segments};
use crate::journal::core::times::Times;
use crate::journal::disk::chunk::{self, Chunk, Kind};
use crate::journal::disk::cursor::Cursor;
use crate::journal::disk::entry;
use crate::journal::disk::record::Record;
use crate::journal::disk::segment::Seal;
use crate::journal::disk::store::{Durably, Found, Store, StoreError};
use crate::journal::resolution::Resolution;
use crate::measure::{BootId, Checkpoint, Epoch, Gap, GapReason, Identity, Schema, Seq, Stamp};

/// Where a life of the journal begins.
#[derive(Debug)]
pub(in crate::journal) struct Start {
    pub(in crate::journal) epoch: Epoch,
    /// The record of this life, if it could not be written, and why: nothing else may be written before it.
    pub(in crate::journal) unbegun: Option<(Vec<u8>, StoreError)>,
    /// How the life before ended; `None`: there was none.
    pub(in crate::journal) previous_ended_clean: Option<bool>,
    pub(super) segments: Segments,
    pub(super) settled: Ranges,
    /// What may have been handed out before and is not settled.
    pub(super) published: Ranges,
    pub(super) next: u64,
    pub(super) ledger: Ledger,
    pub(super) times: Times,
    pub(super) age: Age,
    /// The newest number that is there; 0: none, or one that is not the newest in time.
    pub(super) last: u64,
    /// Losses of the life before that it could not tell any more.
    pub(super) untold: Vec<Gap>,
    /// Numbers in segments of newer programs.
    pub(super) passed: Vec<(u64, u64)>,
    /// Records of newer programs, by name.
    pub(super) newer: Vec<String>,
    /// How what is derived stood at the end of the life before, in the words of this one.
    pub(in crate::journal) checkpoint: Checkpoint,
}

impl Start {
    /// Without a medium nothing is known: the epoch is the clock's, or drawn.
    pub(in crate::journal) fn in_memory(known: Option<Epoch>, boot: BootId, now: Stamp) -> Self {
        let epoch = epoch::begin(known, now, boot);
        Self {
            epoch,
            unbegun: None,
            previous_ended_clean: None,
            segments: Segments::default(),
            settled: Ranges::default(),
            published: Ranges::default(),
            next: Seq::FIRST.0,
            ledger: Ledger::default(),
            times: Times::open(None, None, 1, (epoch, boot)),
            age: Age::default(),
            last: 0,
            untold: Vec::new(),
            passed: Vec::new(),
            newer: Vec::new(),
            checkpoint: Checkpoint::default(),
        }
    }
}

/// Finds out where the life before ended, completes what it left half done, and begins a new epoch, durably.
///
/// # Errors
/// The medium failed. Nothing has been lost; without the new epoch nothing may be written.
pub(in crate::journal) fn start<S: Store>(
    store: &mut S,
    schema: &Schema,
    boot: BootId,
    now: Stamp,
) -> Result<Start, StoreError> {
    match find(store, schema, None, boot, now)? {
        Start { unbegun: Some((_, error)), .. } => Err(error),
        start => Ok(start),
    }
}

/// The same on a medium that may only be read: then the new epoch is not durable, and a life goes on from what is there.
/// `known`: the newest life that is known from elsewhere.
///
/// # Errors
/// The medium cannot be read.
pub(in crate::journal) fn find<S: Store>(
    store: &mut S,
    schema: &Schema,
    known: Option<Epoch>,
    boot: BootId,
    now: Stamp,
) -> Result<Start, StoreError> {
    let newer = NewerRecords::of(&store.newer_records());
    let previous = previous_meta(store, &newer)?;
    let slots = [store.load(Record::CursorA)?, store.load(Record::CursorB)?];
    let unused = slots == [None, None];
    let cursor = Cursor::choose(slots);
    let found = store.segments()?;
    let newest_epoch = newest_epoch(store, &found, previous.as_ref());
    let mut past = look_back(store, found, !newer.is_empty())?;
    let newest_epoch = newest_epoch.max(past.newest_of_newer);
    look_for_losses(store, &mut past, cursor.as_ref().map_or(1, |(cursor, _)| cursor.next))?;

    let second = cursor.as_ref().is_some_and(|(_, second)| *second);
    let cursor = cursor.map(|(cursor, _)| cursor);
    let next = (past.last + 1).max(cursor.as_ref().map_or(1, |cursor| cursor.next)).max(newer.next);
    // A newer program has settled what only its own cursor tells.
    let is_known = newer.is_empty() && cursor.as_ref().is_some_and(|cursor| !cursor.shortened);
    let settled = settled(store, &past, cursor.as_ref(), is_known, next)?;
    // Without a cursor nothing was ever handed out; with one that cannot be read, or an older agent's, anything may
    // have been.
    let out_of = match &cursor {
        _ if !newer.is_empty() => None,
        Some(cursor) => cursor.published.clone(),
        None => unused.then(Vec::new),
    };
    let out_of: BTreeSet<u64> = out_of.map_or_else(|| past.firsts().collect(), |firsts| firsts.into_iter().collect());
    let mut published = past.spans(next).filter(|(first, _)| out_of.contains(first)).collect::<Ranges>();
    for (from, to) in settled.iter() {
        published.remove(from, to);
    }
    let ledger = Ledger::after(cursor.map_or(0, |cursor| cursor.generation), second, out_of);

    let epoch = epoch::begin(newest_epoch.max(known), now, boot);
    let meta = JournalMeta { epoch, gateway: schema.gateway.clone(), site: schema.site.clone(), clean: false };
    let unbegun = save_meta(store, &meta).err().and_then(|error| Some((meta.write()?, error)));
    let untold = untold(&past, &settled);
    let oldest = past.segments.oldest().map_or(next, Segment::first);
    let times = Times::open(store.load(Record::Times)?.as_deref(), past.newest_time(), oldest, (epoch, boot));
    let mut times = times.with_deciders(store.load(Record::Deciders)?.as_deref());
    if let Some(beside) = newer.times {
        times.set_beside(beside, newer.next);
    }
    // Nothing is lost without it.
    let lived = store.load(Record::Lived).unwrap_or_else(|error| {
        tracing::warn!(%error, "the record of the time lived cannot be read");
        None
    });
    let age = Age::open(lived.as_deref(), past.firsts());
    let of_newer = |(first, _): &(u64, u64)| {
        let place = past.segments.beginning_with(*first);
        place.and_then(|place| past.segments.get(place)).is_some_and(|segment| segment.newer().is_some())
    };
    let passed = past.spans(next).filter(of_newer).collect();
    let last = if past.newest_is_downsampled { 0 } else { past.last };
    let previous_ended_clean = previous.map(|meta| meta.clean);
    let checkpoint = checkpoint::find(store, &past.segments, next, schema);
    Ok(Start {
        epoch,
        unbegun,
        previous_ended_clean,
        segments: past.segments,
        settled,
        published,
        next,
        ledger,
        times,
        age,
        last,
        untold,
        passed,
        newer: newer.names,
        checkpoint,
    })
}

/// The newest life that is known, of whatever version.
pub(in crate::journal) fn previous_meta<S: Store>(
    store: &mut S,
    newer: &NewerRecords,
) -> Result<Option<JournalMeta>, StoreError> {
    let own = store.load(Record::Life)?.as_deref().and_then(|bytes| JournalMeta::read(bytes).ok());
    let epoch = |meta: &Option<JournalMeta>| meta.as_ref().map(|meta| meta.epoch);
    Ok(if epoch(&newer.meta) > epoch(&own) { newer.meta.clone() } else { own })
}

/// Notes the state of a life.
pub(in crate::journal) fn save_meta<S: Store>(store: &mut S, meta: &JournalMeta) -> Result<(), StoreError> {
    let Some(bytes) = meta.write() else { return Ok(()) };
    store.save(Record::Life, &bytes, Durably::Yes)
}

/// What the segments say.
#[derive(Debug, Default)]
struct Past {
    segments: Segments,
    /// The newest number that is there.
    last: u64,
    /// The newest segment whose end is known.
    ended: Option<u64>,
    /// The newest time that can be believed, in the segments that were looked at, and the last entry of the newest that has
    /// one.
    newest_utc: Option<i64>,
    told_by: Option<Identity>,
    /// The newest segment is older than its numbers.
    newest_is_downsampled: bool,
    /// Gaps that are told in segments that were not complete, or are newer than the cursor: the losses may not have
    /// taken place.
    told: Vec<Gap>,
    /// Numbers that were never written, in segments that were not complete, with the epoch.
    skipped: Vec<(u64, u64, Epoch)>,
    /// The newest epoch in segments of newer programs.
    newest_of_newer: Option<Epoch>,
}

impl Past {
    /// Takes a segment for the newest. What was downsampled is older than its numbers; the record of times was made durable
    /// before it was.
    fn note_end(&mut self, seal: &Seal, epoch: Epoch) {
        self.last = self.last.max(seal.last);
        self.ended = Some(seal.first);
        self.newest_is_downsampled = seal.resolution != Resolution::AsRead;
        if !self.newest_is_downsampled && seal.newest_utc.is_some() {
            self.newest_utc = self.newest_utc.max(seal.newest_utc);
            self.told_by = self.told_by.max(Some(Identity { epoch, seq: Seq(seal.last) }));
        }
    }

    fn newest_time(&self) -> Option<(Identity, i64)> {
        self.told_by.zip(self.newest_utc)
    }

    fn firsts(&self) -> impl DoubleEndedIterator<Item = u64> + Clone + '_ {
        self.segments.iter().map(Segment::first)
    }

    /// The first and the last number that each segment may have.
    fn spans(&self, next: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.firsts().zip(self.firsts().skip(1).chain([next]).map(|next| next - 1))
    }
}

/// Notes what complete segments tell as lost that the cursor does not know of: those that have a number from
/// `unsettled_from` on. They are as many as were written since the cursor was.
fn look_for_losses<S: Store>(store: &mut S, past: &mut Past, unsettled_from: u64) -> Result<(), StoreError> {
    let newer: Vec<u64> =
        past.spans(past.last + 1).filter(|(_, last)| *last >= unsettled_from).map(|(first, _)| first).collect();
    for first in newer.into_iter().map(Seq) {
        let Some(seal) = store.seal_of(first)? else { continue };
        let boot = store.header(first).ok().map_or(BootId([0; 16]), |header| header.boot);
        let telling = seal.telling.unwrap_or_else(|| (seal.first..=seal.last).collect());
        let mut looked_to = 0;
        for number in telling {
            if number <= looked_to {
                continue;
            }
            let chunk = store.at_or_before(first, Seq(number)).ok().flatten().and_then(|f| Chunk::join(&f).ok());
            if let Some(chunk) = chunk.filter(|chunk| chunk.tells_loss) {
                looked_to = chunk.last();
                past.told.extend(gaps_in(&chunk, boot));
            }
        }
    }
    Ok(())
}

/// The newest epoch that is known: of the life, or, should that record be gone, of the newest segment.
fn newest_epoch<S: Store>(store: &mut S, found: &[Found], previous: Option<&JournalMeta>) -> Option<Epoch> {
    let of_segment = found.last().and_then(|newest| store.header(newest.first).ok()).map(|header| header.epoch);
    previous.map(|meta| meta.epoch).max(of_segment)
}

/// Completes the segments that have no seal (in order: the newest of a life that was cut short) and finds the newest
/// number. What a newer program wrote is not touched; `any_newer`: whether there are signs of one, so that each is asked.
fn look_back<S: Store>(store: &mut S, found: Vec<Found>, any_newer: bool) -> Result<Past, StoreError> {
    let mut past = Past::default();
    let count = found.len();
    for (place, Found { first, bytes, sealed }) in found.into_iter().enumerate() {
        let mut segment = Segment::new(first.0, bytes);
        let newest = place + 1 == count;
        let asked = if any_newer || newest || !sealed { store.newer_segment(first) } else { Ok(None) };
        let asked = match asked {
            // Nothing is done to it here; it is asked again.
            Err(error) if sealed && !newest => {
                tracing::warn!(%error, "a segment does not say now which program wrote it");
                None
            }
            asked => asked?,
        };
        if let Some((version, epoch)) = asked {
            segment.set_newer(Some(version));
            past.newest_of_newer = past.newest_of_newer.max(Some(epoch));
            if newest {
                // Its name is taken, also if nothing is in it.
                past.last = past.last.max(last_of_newer(store, first)?).max(first.0);
                past.ended = Some(first.0);
            }
            past.segments.push(segment);
            continue;
        }
        let seal = if sealed && newest { store.seal_of(first)? } else { None };
        if let Some(seal) = seal {
            past.note_end(&seal, epoch_of(store, first));
        } else if !sealed || newest {
            let seal = look_into(store, first, &mut past)?;
            if seal.last < first.0 {
                match store.remove(first) {
                    Ok(()) => continue,
                    // It is removed before another takes its name.
                    Err(error) => tracing::warn!(%error, "an empty segment cannot be removed now"),
                }
            }
            past.note_end(&seal, epoch_of(store, first));
            // A seal that cannot be written now is no reason to stop: it is in memory.
            segment.keep_seal(store.seal(first, &seal).is_err().then_some(seal));
        }
        past.segments.push(segment);
    }
    end_of_the_newest(store, &mut past)?;
    Ok(past)
}

/// The last number in a segment that a newer program wrote: the heads of frames say it in every version.
fn last_of_newer<S: Store>(store: &mut S, first: Seq) -> Result<u64, StoreError> {
    store.salvage(first)?;
    let mut last = first.0 - 1;
    let mut frames = store.at_or_before(first, first)?;
    while let Some(found) = frames {
        let Some(Ok((head, ..))) = found.first().map(|frame| chunk::parse(frame)) else { break };
        last = last.max(head.last());
        frames = store.after(first, head.first)?;
    }
    Ok(last)
}

/// Of a segment whose header cannot be read: older than any.
fn epoch_of<S: Store>(store: &mut S, segment: Seq) -> Epoch {
    store.header(segment).map_or(Epoch(0), |header| header.epoch)
}

/// If the newest segment was empty and went, the one before it is the newest now, and its end was not looked at. That its first
/// number is known from an older one says nothing: after a failed sync an entry may lie in both.
fn end_of_the_newest<S: Store>(store: &mut S, past: &mut Past) -> Result<(), StoreError> {
    let newest = past.segments.newest().map(Segment::first);
    let Some(first) = newest.filter(|_| past.ended != newest).map(Seq) else { return Ok(()) };
    let seal = match store.seal_of(first)? {
        Some(seal) => seal,
        None => look_into(store, first, past)?,
    };
    past.note_end(&seal, epoch_of(store, first));
    Ok(())
}

/// Reads a segment to its end, without trusting its index, and says what its seal must say. What it finds is durable: a seal
/// promises it.
fn look_into<S: Store>(store: &mut S, first: Seq, past: &mut Past) -> Result<Seal, StoreError> {
    let mut seal = Seal::open(first.0);
    let boot = store.header(first).ok().map(|header| header.boot);
    store.secure(first)?;
    store.salvage(first)?;
    let mut frames = store.at_or_before(first, first)?;
    while let Some(found) = frames {
        // A salvaged segment answers whole chunks only.
        let Ok(chunk) = Chunk::join(&found) else { break };
        if chunk.kind == Kind::Entries && chunk.count > 0 {
            seal.add(&chunk);
            if chunk.skipped > 0 {
                past.skipped.push((chunk.begins_at(), chunk.first.0 - 1, chunk.epoch));
            }
            if chunk.tells_loss {
                past.told.extend(gaps_in(&chunk, boot.unwrap_or(BootId([0; 16]))));
            }
        }
        frames = store.after(first, chunk.first)?;
    }
    Ok(seal)
}

fn gaps_in(chunk: &Chunk, boot: BootId) -> Vec<Gap> {
    let entries = chunk.entries().unwrap_or_default();
    let windows = entries.into_iter().filter_map(|range| entry::decode(&chunk.body[range], boot).ok());
    windows.flat_map(|window| window.events).filter_map(|event| event.kind.gap()).collect()
}

/// What needs nothing more: what the cursor says and what is told as lost. Without a whole cursor also everything of which
/// there is no segment, because a segment is removed only when it is settled: `is_known`
/// says that the cursor is whole.
fn settled<S: Store>(
    store: &mut S,
    past: &Past,
    cursor: Option<&Cursor>,
    is_known: bool,
    next: u64,
) -> Result<Ranges, StoreError> {
    let mut settled = Ranges::default();
    for &(from, to) in cursor.map_or(&[][..], |cursor| &cursor.settled) {
        settled.insert(from, to.min(next - 1));
    }
    // A loss that is told takes place, also if the cut came between the two.
    for gap in &past.told {
        settled.insert(gap.from.0, gap.to.0.min(next - 1));
    }
    if !is_known {
        settled.insert(1, past.segments.oldest().map_or(next, Segment::first) - 1);
        for (place, segment) in past.segments.iter().enumerate() {
            let seal = match segment.seal() {
                Some(seal) => Some(seal.clone()),
                None => store.seal_of(Seq(segment.first()))?,
            };
            let end = past.segments.get(place + 1).map_or(next, Segment::first);
            if let Some(seal) = seal {
                settled.insert(seal.last + 1, end - 1);
            }
        }
    }
    Ok(settled)
}

/// Numbers that the life before gave up and could not tell any more.
fn untold(past: &Past, settled: &Ranges) -> Vec<Gap> {
    let gap = |epoch: Epoch, (from, to): (u64, u64)| Gap {
        epoch,
        from: Seq(from),
        to: Seq(to),
        points: None,
        reason: GapReason::JournalFull,
    };
    let skipped = past.skipped.iter();
    skipped.flat_map(|&(from, to, epoch)| settled.missing(from, to).into_iter().map(move |s| gap(epoch, s))).collect()
}
