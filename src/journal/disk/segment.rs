//! What a segment says of itself: the header when it is made, the seal when it is full.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::journal::disk::chunk::{Chunk, Damage, Kind};
use crate::journal::disk::record;
use crate::journal::resolution::Resolution;
use crate::measure::{BootId, Epoch, Schema, Seq};
use crate::spec::Aggregation;

const SEAL_MAGIC: [u8; 4] = *b"V2GS";
/// Raised when a segment can no longer be read as this code does.
const FORMAT: u16 = 1;
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

#[derive(Serialize, Deserialize)]
struct HeaderBody {
    format: u16,
    boot: BootId,
    schema: Schema,
}

/// What stands behind the body: for each point of the schema, device by device, a bit that says whether its newest value
/// counts and not its mean. A header without it was written before anything was downsampled.
type Lasting = Vec<u8>;

impl Header {
    /// The header as a chunk: the content of the marker `ready`, and once more inside of the database.
    pub(in crate::journal) fn to_chunk(&self) -> Option<Chunk> {
        let mut chunk = Chunk::new(self.epoch, self.first, 0);
        chunk.kind = Kind::Header;
        // The layout of `HeaderBody`, without a copy of the schema.
        chunk.body = postcard::to_stdvec(&(FORMAT, self.boot, &self.schema, lasting(&self.schema))).ok()?;
        Some(chunk)
    }

    pub(in crate::journal) fn from_chunk(chunk: &Chunk) -> Result<Self, Damage> {
        if chunk.kind != Kind::Header {
            return Err(Damage::Content);
        }
        let (body, rest): (HeaderBody, _) = postcard::take_from_bytes(&chunk.body).map_err(|_| Damage::Content)?;
        if body.format != FORMAT {
            return Err(Damage::Content);
        }
        let mut schema = body.schema;
        fold_as(&mut schema, postcard::from_bytes::<Lasting>(rest).ok().as_deref());
        Ok(Self { epoch: chunk.epoch, first: chunk.first, boot: body.boot, schema: Arc::new(schema) })
    }
}

fn lasting(schema: &Schema) -> Lasting {
    let folds: Vec<Aggregation> =
        schema.series.iter().flat_map(|series| &series.points).map(|column| column.aggregation).collect();
    let byte = |folds: &[Aggregation]| {
        (0_u8..).zip(folds).map(|(bit, fold)| u8::from(*fold == Aggregation::Last) << bit).sum()
    };
    folds.chunks(8).map(byte).collect()
}

fn fold_as(schema: &mut Schema, lasting: Option<&[u8]>) {
    for (place, column) in schema.series.iter_mut().flat_map(|series| &mut series.points).enumerate() {
        let told = lasting.and_then(|bits| bits.get(place / 8)).map(|byte| byte >> (place % 8) & 1 == 1);
        column.aggregation = match told {
            Some(true) => Aggregation::Last,
            Some(false) => Aggregation::Mean,
            None => Aggregation::usual(column.value_type, column.unit),
        };
    }
}

/// What is known of a segment to which nothing will be added, so that nobody has to read it to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// The length of its windows. Written behind the rest; a segment that does not say is as it was read.
    #[serde(skip)]
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
        record::write(SEAL_MAGIC, &(self, self.resolution))
    }

    pub(in crate::journal) fn read(bytes: &[u8]) -> Option<Self> {
        let (seal, resolution): (Self, _) = record::read_pair(SEAL_MAGIC, bytes)?;
        Some(Self { resolution: resolution.unwrap_or_default(), ..seal })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::testing::depot_schema;
    use crate::spec::Unit;

    #[test]
    fn a_header_comes_back_in_its_own_words() {
        let mut schema = depot_schema("gw-01", 300, 30);
        schema.series[7].points[11].aggregation = Aggregation::Last;
        let header = Header { epoch: Epoch(4), first: Seq(9), boot: BootId([3; 16]), schema: Arc::new(schema) };
        let frames = header.to_chunk().expect("it can be written").frames();
        println!("header of 300 devices with 30 points: {} frames", frames.len());
        assert_eq!(Chunk::join(&frames).and_then(|chunk| Header::from_chunk(&chunk)), Ok(header));
    }

    #[test]
    fn a_header_from_before_anything_was_thinned_folds_as_is_usual() {
        let mut schema = depot_schema("gw-01", 1, 2);
        schema.series[0].points[1].unit = Unit::KilowattHour;
        let header = Header { epoch: Epoch(4), first: Seq(9), boot: BootId([3; 16]), schema: Arc::new(schema) };
        let mut chunk = header.to_chunk().expect("it can be written");
        chunk.body = postcard::to_stdvec(&(FORMAT, header.boot, &header.schema)).expect("it can be written");
        let folds =
            Header::from_chunk(&chunk).map(|h| h.schema.series[0].points.iter().map(|p| p.aggregation).collect());
        assert_eq!(folds, Ok(vec![Aggregation::Mean, Aggregation::Last]));
    }

    #[test]
    fn a_seal_says_how_coarse_its_segment_is_and_an_older_one_does_not() {
        let seal = Seal { resolution: Resolution::TenSeconds, ..Seal::open(5) };
        assert_eq!(seal.write().as_deref().and_then(Seal::read), Some(seal.clone()));
        let older = record::write(SEAL_MAGIC, &seal).expect("it can be written");
        assert_eq!(Seal::read(&older), Some(Seal::open(5)));
    }
}
