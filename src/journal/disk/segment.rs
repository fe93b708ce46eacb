//! What a segment says of itself: the header when it is made, the seal when it is full.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use crate::journal::disk::chunk::{self, Chunk, Damage, Kind};
use crate::journal::disk::files;
use crate::journal::disk::unreadable::Unreadable;
use crate::journal::disk::{v1, v2};
use crate::journal::resolution::Resolution;
use crate::measure::{BootId, Epoch, Schema, Seq};

/// The most telling entries that a seal lists; with more, all of its entries are looked at when it is dropped.
const TELLING_MAX: usize = 256;

/// The schema and the epoch under which a segment's entries are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::journal) struct Header {
    pub(in crate::journal) epoch: Epoch,
    pub(in crate::journal) first: Seq,
    pub(in crate::journal) boot: BootId,
    pub(in crate::journal) schema: Arc<Schema>,
}

impl Header {
    /// The header as a chunk: the content of the marker `ready`, and once more inside of the database.
    pub(in crate::journal) fn to_chunk(&self) -> Option<Chunk> {
        let mut chunk = Chunk::new(self.epoch, self.first, 0);
        chunk.kind = Kind::Header;
        chunk.body = v2::schema::write(self.boot, &self.schema)?;
        Some(chunk)
    }

    /// Reads it from the marker of the segment that begins at `first`. `None`: it is not there, damaged, or the marker of another
    /// segment, under whose epoch and schema nothing of this one may be read.
    pub(in crate::journal) fn of_marker(path: &Path, first: u64) -> Option<Self> {
        let marker = files::read(path).ok()??;
        Self::from_frames(&chunk::split(&marker)).ok().filter(|header| header.first == Seq(first))
    }

    /// Reads it from the frames of such a chunk.
    pub(in crate::journal) fn from_frames(frames: &[Vec<u8>]) -> Result<Self, Unreadable> {
        Self::from_chunk(&Chunk::join(frames)?)
    }

    fn from_chunk(chunk: &Chunk) -> Result<Self, Unreadable> {
        if chunk.kind != Kind::Header {
            return Err(Damage::Content.into());
        }
        if chunk.newer {
            // It does not say in which: the least that is not known.
            return Err(Unreadable::Newer { version: v2::schema::FORMAT + 1 });
        }
        let (boot, schema) = v2::schema::read(&chunk.body)?;
        Ok(Self { epoch: chunk.epoch, first: chunk.first, boot, schema: Arc::new(schema) })
    }
}

/// What is known of a segment to which nothing will be added, so that nobody has to read it to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::journal) struct Seal {
    pub(in crate::journal) first: u64,
    /// Its last number; `first - 1` if there is none.
    pub(in crate::journal) last: u64,
    pub(in crate::journal) chunks: u32,
    /// Measured values in it.
    pub(in crate::journal) points: u64,
    /// The newest wall time in it that could be believed.
    pub(in crate::journal) newest_utc: Option<i64>,
    /// The entries that tell of a loss; `None`: too many to list.
    pub(in crate::journal) telling: Option<Vec<u64>>,
    /// The length of its windows; a segment that does not say is as it was read.
    pub(in crate::journal) resolution: Resolution,
}

impl Seal {
    /// Of a segment that begins at `first` and is still empty.
    pub(in crate::journal) fn open(first: u64) -> Self {
        let (newest_utc, telling, resolution) = (None, Some(Vec::new()), Resolution::AsRead);
        Self { first, last: first - 1, chunks: 0, points: 0, newest_utc, telling, resolution }
    }

    /// Takes a chunk into account. Of a chunk that tells of a loss all entries count as telling.
    pub(in crate::journal) fn add(&mut self, chunk: &Chunk) {
        self.last = self.last.max(chunk.last());
        self.chunks += 1;
        self.points += u64::from(chunk.points);
        self.newest_utc = self.newest_utc.max(chunk.newest_utc);
        if chunk.tells_loss
            && let Some(telling) = &mut self.telling
        {
            telling.extend(chunk.first.0..=chunk.last());
            if telling.len() > TELLING_MAX {
                self.telling = None;
            }
        }
    }

    pub(in crate::journal) fn write(&self) -> Option<Vec<u8>> {
        let Self { first, last, chunks, points, newest_utc, ref telling, resolution } = *self;
        let telling = telling.as_deref().map(Cow::Borrowed);
        v1::record::write_seal(
            &v1::record::Seal { first, last, chunks, points, newest_utc, telling },
            resolution.into(),
        )
    }

    pub(in crate::journal) fn read(bytes: &[u8]) -> Result<Self, Unreadable> {
        let (seal, resolution) = v1::record::read_seal(bytes)?;
        let v1::record::Seal { first, last, chunks, points, newest_utc, telling } = seal;
        let (telling, resolution) = (telling.map(Cow::into_owned), resolution.map(Into::into).unwrap_or_default());
        Ok(Self { first, last, chunks, points, newest_utc, telling, resolution })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::disk::record;
    use crate::journal::testing::depot_schema;
    use crate::spec::{Aggregation, Unit};

    #[test]
    fn a_header_comes_back_in_its_own_words() {
        let mut schema = depot_schema("gw-01", 300, 30);
        schema.series[7].points[11].aggregation = Aggregation::Last;
        let header = Header { epoch: Epoch(4), first: Seq(9), boot: BootId([3; 16]), schema: Arc::new(schema) };
        let frames = header.to_chunk().expect("it can be written").frames();
        println!("header of 300 devices with 30 points: {} frames", frames.len());
        assert_eq!(Header::from_frames(&frames), Ok(header));
    }

    #[test]
    fn a_header_from_before_anything_was_thinned_folds_as_is_usual() {
        let mut schema = depot_schema("gw-01", 1, 2);
        schema.series[0].points[1].unit = Unit::KilowattHour;
        let header = Header { epoch: Epoch(4), first: Seq(9), boot: BootId([3; 16]), schema: Arc::new(schema) };
        let mut chunk = header.to_chunk().expect("it can be written");
        // A length and one byte of bits.
        chunk.body.truncate(chunk.body.len() - 2);
        let folds =
            Header::from_chunk(&chunk).map(|h| h.schema.series[0].points.iter().map(|p| p.aggregation).collect());
        assert_eq!(folds, Ok(vec![Aggregation::Mean, Aggregation::Last]));
    }

    #[test]
    fn a_seal_says_how_coarse_its_segment_is_and_an_older_one_does_not() {
        let seal = Seal { resolution: Resolution::TenSeconds, ..Seal::open(5) };
        assert_eq!(seal.write().as_deref().map(Seal::read), Some(Ok(seal.clone())));
        let older = record::shortened(&seal.write().expect("it can be written"), 1);
        assert_eq!(Seal::read(&older), Ok(Seal::open(5)));
    }
}
