//! For measurements only (feature `bench`, never in the firmware): the journal without its thread, and windows already
//! encoded, so that it can be compared with stores that take bytes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::WhenFull;
use crate::journal::core::heart::{COMMIT_BYTES_MAX, Heart, Limits, Verdict, Words};
use crate::journal::core::lanes::Lane;
use crate::journal::core::recovery;
use crate::journal::disk::entry::{self, Encoded};
use crate::journal::disk::sled_store::SledStore;
use crate::journal::line::{SEGMENT_BYTES, SEGMENT_CHUNKS};
use crate::measure::{BootId, Entry, Schema, Seq, Stamp, Window};

const BOOT: BootId = BootId([7; 16]);

/// A window as the journal keeps it, uncompressed.
///
/// # Panics
/// If it cannot be written.
#[must_use]
pub fn encode(window: &Window) -> Vec<u8> {
    entry::encode(window, BOOT).expect("a window of a depot can be written").bytes
}

/// A run of entries as the journal compresses it; as it is, if that is not shorter.
#[must_use]
pub fn squeeze(body: Vec<u8>) -> Vec<u8> {
    crate::journal::disk::squeeze::squeeze(&body).unwrap_or(body)
}

/// A journal in the hands of its caller.
#[derive(Debug)]
pub struct Ring {
    heart: Heart<SledStore>,
}

impl Ring {
    /// Opens it as an agent does.
    ///
    /// # Panics
    /// If the directory cannot be used.
    #[must_use]
    pub fn open(dir: &Path, bytes_max: u64, schema: Schema, now: Stamp) -> Self {
        let mut store = SledStore::open(dir).expect("the directory is ours");
        let start = recovery::start(&mut store, &schema, BOOT, now).expect("the disk works");
        let limits = Limits {
            bytes_max,
            free_min: 0,
            age_max: Duration::from_secs(3650 * 86_400),
            when_full: WhenFull::DropOldest,
            commit_interval: Duration::from_millis(50),
            commit_bytes: COMMIT_BYTES_MAX,
            time_wait: Duration::ZERO,
            segment_bytes: SEGMENT_BYTES,
            segment_chunks: SEGMENT_CHUNKS,
        };
        let words = Words { epoch: start.epoch, boot: BOOT, schema: Arc::new(schema) };
        Self { heart: Heart::new(Some(store), limits, words, start) }
    }

    /// Takes an encoded window.
    pub fn append(&mut self, record: &[u8], points: u64) {
        let seq = self.heart.next;
        self.heart.next += 1;
        let encoded = Encoded { bytes: record.to_vec(), points, tells_loss: false, utc: None };
        self.heart.keep(seq, encoded, Duration::ZERO);
    }

    /// Makes durable what was taken, as the agent does when it is due: in a burst the last megabyte is left to the disk, and
    /// what comes next waits for it.
    ///
    /// # Panics
    /// If the disk fails.
    pub fn commit(&mut self, now: Duration) {
        self.heart.commit_on(now);
        assert!(self.heart.trouble().is_none(), "{:?}", self.heart.trouble());
    }

    /// Bounds and cursor.
    pub fn tend(&mut self, now: Duration) {
        self.heart.tend(now);
    }

    /// The next entries, read from the disk.
    pub fn lease(&mut self, entries_max: usize) -> Vec<Arc<Entry>> {
        self.heart.lease(Lane::History, entries_max)
    }

    /// The broker has it.
    pub fn acknowledge(&mut self, seq: Seq) {
        self.heart.settle(Verdict::Acknowledged(seq));
    }

    /// Bytes of all segments on disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.heart.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// Bytes of frames given to the database.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.heart.bytes_written
    }

    /// Ends in order.
    ///
    /// # Panics
    /// If the disk fails.
    pub fn close(mut self, now: Duration) {
        self.heart.close(None, now).expect("the disk works");
    }
}
