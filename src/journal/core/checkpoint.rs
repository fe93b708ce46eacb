//! Which windows are written with how things stand after them, and how a start finds the newest of those and goes on by the windows
//! behind it.

use std::sync::Arc;
use std::time::Duration;

use crate::journal::core::segments::Segments;
use crate::journal::disk::chunk::Chunk;
use crate::journal::disk::entry;
use crate::journal::disk::record::Record;
use crate::journal::disk::store::{Store, StoreError};
use crate::journal::disk::v2::{self, CheckpointAtEnd};
use crate::journal::resolution::Resolution;
use crate::measure::{
    BootId, ChargingSession, Checkpoint, Event, EventKind, Interval, OpenSession, RegisterBase, Schema, Seq, Stamp,
    Window, Words,
};
use crate::spec::{DeviceId, FieldName};

/// A checkpoint takes a dozen bytes for each register, and the windows since the newest are read at a start.
const EVERY: Duration = Duration::from_secs(15);
/// Chunks that a start looks back at: those of [`EVERY`] and some, at ten commits a second.
const CHUNKS_MAX: usize = 512;

/// Segments that a start looks into: each has a checkpoint near its beginning.
const SEGMENTS_MAX: usize = 2;

/// When a checkpoint is written.
#[derive(Debug, Default)]
pub(super) struct Cadence {
    written: Option<Duration>,
    segment: Option<u64>,
}

impl Cadence {
    /// Whether the next entry is written with it: each segment has one near its beginning. `segment` is the newest one.
    pub(super) fn is_due(&mut self, segment: Option<u64>, now: Duration) -> bool {
        let is_due = self.segment != segment || self.written.is_none_or(|at| now.saturating_sub(at) >= EVERY);
        if is_due {
            *self = Self { written: Some(now), segment };
        }
        is_due
    }
}

/// The record of how things stand after entry `last`, the last of a life.
pub(super) fn record(last: u64, stands: &Checkpoint, schema: &Schema) -> Option<Vec<u8>> {
    let named = |(device, field, base): (&DeviceId, &FieldName, RegisterBase)| (device.clone(), field.clone(), base);
    let session = |open: &OpenSession| {
        let series = schema.series.get(usize::from(open.told.device.0))?;
        Some((series.device.clone(), open.clone()))
    };
    let sessions = stands.sessions.values().filter_map(session).collect();
    v2::write_checkpoint(&CheckpointAtEnd {
        last,
        registers: stands.registers(schema).map(named).collect(),
        sessions,
        site: stands.site.clone(),
    })
}

/// How things stood at the end of the life before, in the words of `schema`; `next` is the first number that was never given away. Where
/// nothing is found, nothing is known.
///
/// A life that ended in order has noted it. After another one its newest entries say it; one of them has a checkpoint.
pub(super) fn find<S: Store>(store: &mut S, segments: &Segments, next: u64, schema: &Schema) -> Checkpoint {
    let noted = store.load(Record::Checkpoint).ok().flatten().and_then(|bytes| v2::read_checkpoint(&bytes));
    if let Some(noted) = noted.filter(|noted| noted.last + 1 == next) {
        return at_end(noted, schema);
    }
    let found = look_back(store, segments).unwrap_or_else(|error| {
        tracing::warn!(%error, "the newest entries cannot be read; energies begin anew at the next readings");
        Vec::new()
    });
    let mut stands = Checkpoint::default();
    let mut words: Option<Arc<Schema>> = None;
    let mut first: Option<(BootId, Stamp)> = None;
    for (mut window, own) in found.into_iter().rev() {
        // The parts of a window are one: of a moment, and of a quarter-hour.
        match first.filter(|(boot, end)| window.is_part_of(*boot, *end)) {
            Some((_, end)) => window.move_end(end),
            None => first = Some((window.boot, window.end)),
        }
        if let Some(before) = words.replace(Arc::clone(&own)).filter(|before| !Arc::ptr_eq(before, &own)) {
            stands = stands.under(&before, &own);
        }
        match window.checkpoint {
            Some(checkpoint) => stands = Arc::unwrap_or_clone(checkpoint),
            None => window.advance(&mut stands, &own),
        }
    }
    words.map_or(stands.clone(), |own| stands.under(&own, schema))
}

/// What a life that ended in order has noted, in the words of `schema`.
fn at_end(CheckpointAtEnd { last: _, registers, sessions, site }: CheckpointAtEnd, schema: &Schema) -> Checkpoint {
    let registers = registers.iter().map(|(device, field, base)| (device, field, *base));
    let places = schema.places();
    let session = |(device, open): (DeviceId, OpenSession)| {
        let ix = *places.get(&device)?;
        Some((ix, OpenSession { told: ChargingSession { device: ix, ..open.told }, ..open }))
    };
    let sessions = sessions.into_iter().filter_map(session).collect();
    Checkpoint { sessions, site, ..Checkpoint::of_registers(registers, schema) }
}

/// The newest windows down to one that has a checkpoint, newest first, with their words, of the newest [`SEGMENTS_MAX`] segments. What was
/// downsampled is older than its numbers.
fn look_back<S: Store>(store: &mut S, segments: &Segments) -> Result<Vec<(Window, Arc<Schema>)>, StoreError> {
    let (mut windows, mut chunks, mut looked_at) = (Vec::new(), 0, 0);
    for segment in segments.iter().rev() {
        if segment.newer().is_some() {
            // A newer program has told more than we know of.
            return Ok(Vec::new());
        }
        let first = Seq(segment.first());
        let seal = match segment.seal() {
            Some(seal) => Some(seal.clone()),
            None => store.seal_of(first)?,
        };
        if seal.is_some_and(|seal| seal.resolution != Resolution::AsRead) {
            continue;
        }
        looked_at += 1;
        if looked_at > SEGMENTS_MAX {
            break;
        }
        let header = store.header(first)?;
        let mut at = Seq(u64::MAX);
        while let Some(found) = store.at_or_before(first, at)? {
            // What is damaged is told by whoever reads it.
            let Ok(chunk) = Chunk::join(&found) else { return Ok(windows) };
            if chunk.first > at || chunks >= CHUNKS_MAX {
                break;
            }
            chunks += 1;
            for range in chunk.entries().unwrap_or_default().into_iter().rev() {
                if entry::words(&chunk.body[range.clone()]) == Words::First {
                    // Version 0.1.0 knew nothing of it.
                    return Ok(windows);
                }
                let Ok(window) = entry::decode(&chunk.body[range], header.boot) else { return Ok(windows) };
                let is_found = window.checkpoint.is_some();
                windows.push((needed(window), Arc::clone(&header.schema)));
                if is_found {
                    return Ok(windows);
                }
            }
            let Some(before) = chunk.first.0.checked_sub(1).filter(|before| *before >= first.0) else { break };
            at = Seq(before);
        }
        if chunks >= CHUNKS_MAX {
            break;
        }
    }
    Ok(windows)
}

/// What of a window a checkpoint goes on by.
fn needed(mut window: Window) -> Window {
    let is_needed = |interval: &Interval| {
        interval.energy.is_of_register() || (interval.session.is_some() && !interval.energy.is_empty())
    };
    window.intervals.retain(is_needed);
    window.intervals.shrink_to_fit();
    let is_needed = |event: &Event| matches!(event.kind, EventKind::SiteLimitExceeded(_) | EventKind::SiteLimitKept(_));
    window.events.retain(is_needed);
    window.events.shrink_to_fit();
    window
}
