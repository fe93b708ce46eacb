//! The model of a medium: what is live, what is durable, and after a power cut anything between. For tests only.

use std::collections::{BTreeMap, BTreeSet};

use crate::journal::disk::chunk::{self, Chunk};
use crate::journal::disk::record::Record;
use crate::journal::disk::segment::{Header, Seal};
use crate::journal::disk::store::{Durably, Found, Room, Store, StoreError};
use crate::measure::Seq;

/// Whole chunks that were put, and whether they are durable.
#[derive(Debug, Clone)]
struct Held {
    frames: Vec<Vec<u8>>,
    durable: bool,
}

#[derive(Debug, Clone)]
struct Segment {
    header: Header,
    chunks: BTreeMap<u64, Held>,
    seal: Option<Seal>,
}

#[derive(Debug, Clone, Default)]
struct Slot {
    live: Option<Vec<u8>>,
    durable: Option<Vec<u8>>,
}

/// A medium in memory that obeys the fault model of [`Store`] to the letter, in its worst reading.
#[derive(Debug, Clone, Default)]
pub(in crate::journal) struct MemStore {
    segments: BTreeMap<u64, Segment>,
    salvaged: BTreeSet<u64>,
    records: BTreeMap<Record, Slot>,
    writing: Option<u64>,
    /// The chunks that the sync which was begun makes durable.
    syncing: Option<Vec<u64>>,
    /// Calls until the power is cut; the call itself may or may not take effect.
    pub(in crate::journal) fuse: Option<u64>,
    /// Decides all that the fault model leaves open.
    pub(in crate::journal) dice: u64,
    /// Calls that write since the beginning.
    pub(in crate::journal) calls: u64,
    /// Its size, if it can be told.
    pub(in crate::journal) space: Option<u64>,
    /// No write succeeds.
    pub(in crate::journal) full: bool,
}

impl MemStore {
    /// What is there when the power comes back.
    pub(in crate::journal) fn after_cut(mut self) -> Self {
        let segments: Vec<u64> = self.segments.keys().copied().collect();
        for first in segments {
            let unsynced: Vec<u64> = {
                let chunks = &self.segments[&first].chunks;
                chunks.iter().filter(|(_, held)| !held.durable).map(|(&first, _)| first).collect()
            };
            for number in unsynced {
                let (fate, bit) = (self.roll(3), self.roll(100_000));
                let Some(segment) = self.segments.get_mut(&first) else { continue };
                match fate {
                    0 => drop(segment.chunks.remove(&number)),
                    1 => damage(segment.chunks.get_mut(&number), bit),
                    _ => {}
                }
            }
        }
        let records: Vec<Record> = self.records.keys().copied().collect();
        for record in records {
            let (fate, cut) = (self.roll(3), self.roll(60));
            let Some(slot) = self.records.get_mut(&record) else { continue };
            if slot.live == slot.durable {
                continue;
            }
            match fate {
                0 => slot.live.clone_from(&slot.durable),
                1 => {
                    if let Some(live) = &mut slot.live {
                        live.truncate(usize::try_from(cut).expect("small"));
                    }
                }
                _ => {}
            }
            slot.durable.clone_from(&slot.live);
        }
        for held in self.segments.values_mut().flat_map(|s| s.chunks.values_mut()) {
            held.durable = true;
        }
        (self.fuse, self.writing, self.syncing, self.full) = (None, None, None, false);
        self.salvaged.clear();
        self
    }

    /// What is there when only the process ended.
    pub(in crate::journal) fn after_kill(mut self) -> Self {
        (self.fuse, self.writing, self.syncing, self.full) = (None, None, None, false);
        self.salvaged.clear();
        self
    }

    /// Changes a bit of a durable chunk, if there is one; answers its numbers.
    pub(in crate::journal) fn flip(&mut self, pick: u64) -> Option<(u64, u64)> {
        let all: Vec<(u64, u64)> =
            self.segments.iter().flat_map(|(&s, segment)| segment.chunks.keys().map(move |&c| (s, c))).collect();
        let count = u64::try_from(all.len()).ok().filter(|&n| n > 0)?;
        let (segment, first) = all[usize::try_from(pick % count).expect("it fits")];
        let held = self.segments.get_mut(&segment)?.chunks.get_mut(&first)?;
        let last = Chunk::join(&held.frames).ok()?.last();
        damage(Some(held), pick / 7);
        Some((first, last))
    }

    pub(in crate::journal) fn segments_left(&self) -> usize {
        self.segments.len()
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.dice >> 33) % sides
    }

    /// Counts a call that writes. At the cut it takes effect or not, and every later one fails.
    fn write(&mut self) -> Result<Effect, StoreError> {
        self.calls += 1;
        if self.full {
            return Err(failure());
        }
        match &mut self.fuse {
            None => Ok(Effect::Whole),
            Some(0) => Err(failure()),
            Some(fuse) => {
                *fuse -= 1;
                if *fuse > 0 {
                    return Ok(Effect::Whole);
                }
                Ok(if self.roll(2) == 0 { Effect::WholeThenCut } else { Effect::NoneThenCut })
            }
        }
    }
}

enum Effect {
    Whole,
    WholeThenCut,
    NoneThenCut,
}

impl Effect {
    fn apply(self, act: impl FnOnce()) -> Result<(), StoreError> {
        match self {
            Self::Whole => {
                act();
                Ok(())
            }
            Self::WholeThenCut => {
                act();
                Err(failure())
            }
            Self::NoneThenCut => Err(failure()),
        }
    }
}

fn failure() -> StoreError {
    let source = std::io::Error::other("the power is cut");
    StoreError::Io { operation: "write", path: "model".into(), source }
}

fn damage(held: Option<&mut Held>, bit: u64) {
    if let Some(frame) = held.and_then(|held| held.frames.first_mut()) {
        let bit = usize::try_from(bit).expect("small") % (frame.len() * 8);
        frame[bit / 8] ^= 1 << (bit % 8);
    }
}

fn whole(held: &Held) -> bool {
    held.frames.iter().all(|frame| chunk::parse(frame).is_ok())
}

impl Store for MemStore {
    fn segments(&mut self) -> Result<Vec<Found>, StoreError> {
        let found = |(&first, segment): (&u64, &Segment)| Found {
            first: Seq(first),
            bytes: size(segment),
            sealed: segment.seal.is_some(),
        };
        Ok(self.segments.iter().map(found).collect())
    }

    fn create(&mut self, header: &Header) -> Result<(), StoreError> {
        assert!(!self.segments.contains_key(&header.first.0), "a segment of this name is there");
        let effect = self.write()?;
        let (segments, writing) = (&mut self.segments, &mut self.writing);
        effect.apply(|| {
            let segment = Segment { header: header.clone(), chunks: BTreeMap::new(), seal: None };
            segments.insert(header.first.0, segment);
            *writing = Some(header.first.0);
        })
    }

    fn put(&mut self, first: Seq, frames: &[Vec<u8>]) -> Result<(), StoreError> {
        let effect = self.write()?;
        let writing = self.writing.ok_or(StoreError::Shut)?;
        let segment = self.segments.get_mut(&writing).ok_or(StoreError::Shut)?;
        effect.apply(|| {
            let before = segment.chunks.insert(first.0, Held { frames: frames.to_vec(), durable: false });
            assert!(before.is_none(), "a chunk was written over another");
        })
    }

    fn begin_sync(&mut self) -> Result<(), StoreError> {
        assert!(self.syncing.is_none(), "one sync at a time");
        let writing = self.writing.ok_or(StoreError::Shut)?;
        let segment = self.segments.get(&writing).ok_or(StoreError::Shut)?;
        self.syncing = Some(segment.chunks.keys().copied().collect());
        Ok(())
    }

    fn finish_sync(&mut self) -> Result<(), StoreError> {
        let Some(begun) = self.syncing.take() else { return Ok(()) };
        let effect = self.write()?;
        let writing = self.writing.ok_or(StoreError::Shut)?;
        let segment = self.segments.get_mut(&writing).ok_or(StoreError::Shut)?;
        effect.apply(|| {
            for first in begun {
                if let Some(held) = segment.chunks.get_mut(&first) {
                    held.durable = true;
                }
            }
        })
    }

    fn shut(&mut self) {
        (self.writing, self.syncing) = (None, None);
    }

    fn seal(&mut self, segment: Seq, seal: &Seal) -> Result<(), StoreError> {
        let effect = self.write()?;
        let segment = self.segments.get_mut(&segment.0).ok_or(StoreError::Shut)?;
        effect.apply(|| segment.seal = Some(seal.clone()))
    }

    fn make_whole(&mut self, header: &Header, chunks: &[Chunk], seal: &Seal) -> Result<(), StoreError> {
        assert!(!self.segments.contains_key(&header.first.0), "a segment of this name is there");
        let effect = self.write()?;
        let held = |chunk: &Chunk| (chunk.first.0, Held { frames: chunk.frames(), durable: true });
        let chunks = chunks.iter().map(held).collect();
        let segments = &mut self.segments;
        effect.apply(|| {
            let segment = Segment { header: header.clone(), chunks, seal: Some(seal.clone()) };
            segments.insert(header.first.0, segment);
        })
    }

    fn room(&mut self) -> Option<Room> {
        let taken: u64 = self.segments.values().map(size).sum();
        self.space.map(|total| Room { free: total.saturating_sub(taken), total })
    }

    fn bytes(&mut self, segment: Seq) -> u64 {
        self.segments.get(&segment.0).map_or(0, size)
    }

    fn header(&mut self, segment: Seq) -> Result<Header, StoreError> {
        self.segments.get(&segment.0).map(|s| s.header.clone()).ok_or(StoreError::Shut)
    }

    fn seal_of(&mut self, segment: Seq) -> Result<Option<Seal>, StoreError> {
        Ok(self.segments.get(&segment.0).and_then(|s| s.seal.clone()))
    }

    fn at_or_before(&mut self, segment: Seq, at: Seq) -> Result<Option<Vec<Vec<u8>>>, StoreError> {
        let salvaged = self.salvaged.contains(&segment.0);
        let Some(held) = self.segments.get(&segment.0) else { return Err(StoreError::Shut) };
        let mut seen = held.chunks.iter().filter(|(_, held)| !salvaged || whole(held));
        let found = seen.clone().rfind(|(first, _)| **first <= at.0).or_else(|| seen.next());
        Ok(found.map(|(_, held)| held.frames.clone()))
    }

    fn after(&mut self, segment: Seq, after: Seq) -> Result<Option<Vec<Vec<u8>>>, StoreError> {
        let salvaged = self.salvaged.contains(&segment.0);
        let Some(held) = self.segments.get(&segment.0) else { return Err(StoreError::Shut) };
        let mut seen = held.chunks.range(after.0 + 1..).filter(|(_, held)| !salvaged || whole(held));
        Ok(seen.next().map(|(_, held)| held.frames.clone()))
    }

    fn secure(&mut self, segment: Seq) -> Result<(), StoreError> {
        let effect = self.write()?;
        let segment = self.segments.get_mut(&segment.0).ok_or(StoreError::Shut)?;
        effect.apply(|| segment.chunks.values_mut().for_each(|held| held.durable = true))
    }

    fn salvage(&mut self, segment: Seq) -> Result<bool, StoreError> {
        Ok(self.salvaged.insert(segment.0))
    }

    fn remove(&mut self, segment: Seq) -> Result<(), StoreError> {
        let effect = self.write()?;
        let segments = &mut self.segments;
        effect.apply(|| drop(segments.remove(&segment.0)))
    }

    fn quarantine(&mut self, segment: Seq) -> Result<(), StoreError> {
        self.remove(segment)
    }

    fn load(&mut self, record: Record) -> Result<Option<Vec<u8>>, StoreError> {
        let slot = self.records.entry(record).or_default();
        slot.durable.clone_from(&slot.live);
        Ok(slot.live.clone())
    }

    fn save(&mut self, record: Record, bytes: &[u8], durably: Durably) -> Result<(), StoreError> {
        let effect = self.write()?;
        let slot = self.records.entry(record).or_default();
        let replaced_whole = !matches!(record, Record::CursorA | Record::CursorB);
        // A slot that is being overwritten when the power goes may be torn.
        let synced = durably == Durably::Yes && matches!(effect, Effect::Whole);
        effect.apply(|| {
            slot.live = Some(bytes.to_vec());
            if replaced_whole || synced {
                slot.durable.clone_from(&slot.live);
            }
        })
    }
}

fn size(segment: &Segment) -> u64 {
    segment.chunks.values().flat_map(|held| &held.frames).map(|frame| frame.len() as u64).sum::<u64>() + 100
}
