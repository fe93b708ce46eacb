//! What a segment says of itself: the header when it is made, the seal when it is full.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::chunk::{Chunk, Damage, Kind};
use super::record;
use crate::measure::{BootId, Epoch, Schema, Seq};

const SEAL_MAGIC: [u8; 4] = *b"V2GS";
/// Raised when a segment can no longer be read as this code does.
const FORMAT: u16 = 1;
/// The most telling entries that a seal lists; with more, all of its entries are looked at when it is dropped.
const TELLING_MAX: usize = 256;

/// The words and the life in which a segment's entries are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) epoch: Epoch,
    pub(super) first: Seq,
    pub(super) boot: BootId,
    pub(super) schema: Arc<Schema>,
}

#[derive(Serialize, Deserialize)]
struct HeaderBody {
    format: u16,
    boot: BootId,
    schema: Arc<Schema>,
}

impl Header {
    /// The header as a chunk: the content of the marker `ready`, and once more inside of the database.
    pub(super) fn to_chunk(&self) -> Option<Chunk> {
        let body = HeaderBody { format: FORMAT, boot: self.boot, schema: Arc::clone(&self.schema) };
        let mut chunk = Chunk::new(self.epoch, self.first, 0);
        chunk.kind = Kind::Header;
        chunk.body = postcard::to_stdvec(&body).ok()?;
        Some(chunk)
    }

    pub(super) fn from_chunk(chunk: &Chunk) -> Result<Self, Damage> {
        if chunk.kind != Kind::Header {
            return Err(Damage::Content);
        }
        let body: HeaderBody = postcard::from_bytes(&chunk.body).map_err(|_| Damage::Content)?;
        if body.format != FORMAT {
            return Err(Damage::Content);
        }
        Ok(Self { epoch: chunk.epoch, first: chunk.first, boot: body.boot, schema: body.schema })
    }
}

/// What is known of a segment to which nothing will be added, so that nobody has to read it to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seal {
    pub(super) first: u64,
    /// Its last number; `first - 1` if there is none.
    pub(super) last: u64,
    pub(super) chunks: u32,
    /// Measured values in it.
    pub(super) points: u64,
    /// The newest wall time in it that could be believed.
    pub(super) newest_utc: Option<i64>,
    /// The entries that tell of a loss; `None`: too many to list.
    pub(super) telling: Option<Vec<u64>>,
}

impl Seal {
    /// Of a segment that begins at `first` and is still empty.
    pub(super) fn open(first: u64) -> Self {
        Self { first, last: first - 1, chunks: 0, points: 0, newest_utc: None, telling: Some(Vec::new()) }
    }

    /// Takes a chunk into account. Of a chunk that tells of a loss all entries count as telling.
    pub(super) fn add(&mut self, chunk: &Chunk) {
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

    pub(super) fn write(&self) -> Option<Vec<u8>> {
        record::write(SEAL_MAGIC, self)
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        record::read(SEAL_MAGIC, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::depot_schema;
    use super::*;

    #[test]
    fn a_header_comes_back_in_its_own_words() {
        let header = Header {
            epoch: Epoch(4),
            first: Seq(9),
            boot: BootId([3; 16]),
            schema: Arc::new(depot_schema("gw-01", 300, 30)),
        };
        let frames = header.to_chunk().expect("it can be written").frames();
        println!("header of 300 devices with 30 points: {} frames", frames.len());
        assert_eq!(Chunk::join(&frames).and_then(|chunk| Header::from_chunk(&chunk)), Ok(header));
    }
}
