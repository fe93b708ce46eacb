//! For measurements only (feature `bench`, never in the firmware): the journal without its thread, and windows already
//! encoded, so that it can be compared with stores that take bytes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::journal::core::context::WriterContext;
use crate::journal::core::journal_core::JournalCore;
use crate::journal::core::limits::{COMMIT_BYTES_MAX, Limits, SEGMENT_BYTES, SEGMENT_CHUNKS};
use crate::journal::core::recovery;
use crate::journal::disk::entry::{self, Encoded};
use crate::journal::disk::sled_store::SledStore;
use crate::journal::line::{Lane, Settlement};
use crate::measure::WhenFull;
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
pub fn compress(body: Vec<u8>) -> Vec<u8> {
    crate::journal::disk::compress::compress(&body).unwrap_or(body)
}

/// A journal in the hands of its caller.
#[derive(Debug)]
pub struct Ring {
    core: JournalCore<SledStore>,
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
        let context = WriterContext { epoch: start.epoch, boot: BOOT, schema: Arc::new(schema) };
        Self { core: JournalCore::new(Some(store), limits, context, start) }
    }

    /// Takes an encoded window.
    pub fn append(&mut self, record: &[u8], points: u64) {
        let encoded = Encoded { bytes: record.to_vec(), points, tells_loss: false, utc: None };
        self.core.append_encoded(encoded, Duration::ZERO);
    }

    /// Makes durable what was taken, as the agent does when it is due: in a burst the last megabyte is left to the disk, and
    /// what comes next waits for it.
    ///
    /// # Panics
    /// If the disk fails.
    pub fn commit(&mut self, now: Duration) {
        self.core.commit_on(now);
        assert!(self.core.trouble().is_none(), "{:?}", self.core.trouble());
    }

    /// Bounds and cursor.
    pub fn maintain(&mut self, now: Duration) {
        self.core.maintain(now);
    }

    /// The next entries, read from the disk.
    pub fn lease(&mut self, entries_max: usize) -> Vec<Arc<Entry>> {
        self.core.lease(Lane::History, entries_max)
    }

    /// The broker has it.
    pub fn acknowledge(&mut self, seq: Seq) {
        self.core.settle(Settlement::Acknowledged(seq));
    }

    /// Bytes of all segments on disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.core.bytes()
    }

    /// Bytes of frames given to the database.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.core.written().1
    }

    /// Ends in order.
    ///
    /// # Panics
    /// If the disk fails.
    pub fn close(mut self, now: Duration) {
        self.core.close(None, now).expect("the disk works");
    }
}
