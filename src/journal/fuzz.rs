//! For fuzzing only (feature `fuzz`, never in the firmware): what reads the bytes of a damaged segment, without a journal.

use std::io;
use std::path::Path;

use crate::journal::disk::chunk::{self, Chunk, MAGIC};
use crate::journal::disk::entry;
use crate::journal::disk::scan::Scan;
use crate::journal::disk::segment::Header;
use crate::measure::BootId;

/// What can be read of a file.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Chunks of which every part is there.
    pub chunks: usize,
    /// Entries of these chunks that make a window.
    pub entries: usize,
    /// Whether there is the header of a segment.
    pub header: bool,
}

/// Reads a file as that of a damaged segment is read.
///
/// # Errors
/// The file cannot be read.
///
/// # Panics
/// If a chunk is answered that does not come after the one before.
pub fn scan(path: &Path) -> io::Result<Found> {
    let mut whole = Scan::of(path)?;
    let mut found = Found { header: Header::from_frames(&whole.header()?).is_ok(), ..Found::default() };
    let mut next = whole.at_or_before(0)?;
    let mut before = None;
    while let Some(frames) = next {
        found.chunks += 1;
        let (head, ..) = chunk::parse(&frames[0]).expect("the scan has believed it");
        assert!(before.is_none_or(|before| head.first.0 > before), "a chunk comes twice");
        before = Some(head.first.0);
        found.entries += Chunk::join(&frames).map_or(0, |chunk| readable(&chunk));
        next = whole.after(head.first.0)?;
    }
    // Step by step, as while the agent runs: it need not find all if they lie in disorder, but never what is not there.
    let mut steps = Scan::begin(path)?;
    steps.header()?;
    assert!(steps.at_or_before(u64::MAX)?.is_none() || found.chunks > 0, "a chunk that a look at all does not find");
    Ok(found)
}

fn readable(chunk: &Chunk) -> usize {
    let ranges = chunk.entries().unwrap_or_default();
    ranges.into_iter().filter(|range| entry::decode(&chunk.body[range.clone()], BootId([7; 16])).is_ok()).count()
}

/// Gives every frame in these bytes the checksum that it must have, which noise does not find.
pub fn mend_checksums(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(step) = bytes[at..].windows(MAGIC.len()).position(|window| window == MAGIC) {
        at += step;
        let length = chunk::frame_length(&bytes[at..]).filter(|length| at + length <= bytes.len());
        let Some(length) = length else {
            at += 1;
            continue;
        };
        let frame = &mut bytes[at..at + length];
        let crc = chunk::checksum(frame);
        frame[8..12].copy_from_slice(&crc.to_le_bytes());
        at += length;
    }
}
