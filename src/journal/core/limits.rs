//! The bounds of one journal.

use std::time::Duration;

use crate::journal::settings::Settings;
use crate::measure::WhenFull;

/// [`Limits::commit_bytes`] of an agent: what is written in 100 ms or so by slow flash.
pub(in crate::journal) const COMMIT_BYTES_MAX: usize = 1024 * 1024;
/// A segment is as small as its removal is cheap, and as large as its five small files are not felt.
pub(in crate::journal) const SEGMENT_BYTES: u64 = 8 * 1024 * 1024;
/// 128 trees of 9 chunks. sled rewrites the list of its trees with each new one; at a depot's rate of one small chunk
/// a commit this bounds that list to a few KiB, and a segment to about five minutes.
pub(in crate::journal) const SEGMENT_CHUNKS: u32 = 128 * 9;

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

impl Limits {
    /// Of a test in which none is reached, but for what it sets itself.
    #[cfg(test)]
    pub(in crate::journal) fn boundless() -> Self {
        Self {
            bytes_max: u64::MAX,
            free_min: 0,
            age_max: Duration::from_secs(3650 * 86_400),
            when_full: WhenFull::Thin,
            commit_interval: Duration::from_millis(100),
            commit_bytes: COMMIT_BYTES_MAX,
            time_wait: Duration::ZERO,
            segment_bytes: SEGMENT_BYTES,
            segment_chunks: SEGMENT_CHUNKS,
        }
    }

    /// Of an agent with these settings.
    pub(in crate::journal) fn of(settings: &Settings) -> Self {
        Self {
            bytes_max: settings.bytes_max.max(SEGMENT_BYTES / 2),
            free_min: settings.free_min,
            age_max: settings.age_max,
            when_full: settings.when_full,
            commit_interval: settings.commit_interval,
            commit_bytes: COMMIT_BYTES_MAX,
            time_wait: settings.time_wait,
            segment_bytes: SEGMENT_BYTES.min(settings.bytes_max / 4),
            segment_chunks: SEGMENT_CHUNKS,
        }
    }
}
