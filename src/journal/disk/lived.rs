//! How long the journal has lived, as it is written: a record, in the frame that `record` draws.
//!
//! ```text
//! offset  size
//!      0     8  ms that the journal has lived through, little-endian as all that follows
//!      8     8  the first number of a complete segment
//!     16     8  ms lived through when that was complete
//!     24     -  the next segment, ascending
//! ```
//!
//! Version 0.1.0 does not know it, and leaves it where it is.

use std::time::Duration;

use crate::journal::disk::record;

const MAGIC: [u8; 4] = *b"V2GL";
const ROW_BYTES: usize = 16;

/// What is known of the age of segments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::journal) struct Lived {
    /// Of all lives together.
    pub(in crate::journal) total: Duration,
    /// By first number: the total when the segment was complete.
    pub(in crate::journal) complete: Vec<(u64, Duration)>,
}

impl Lived {
    /// `None`: it is too long, with more than a million segments.
    pub(in crate::journal) fn write(&self) -> Option<Vec<u8>> {
        let ms = |lived: Duration| u64::try_from(lived.as_millis()).unwrap_or(u64::MAX).to_le_bytes();
        let rows = self.complete.iter().flat_map(|(first, lived)| [first.to_le_bytes(), ms(*lived)]);
        let body: Vec<u8> = std::iter::once(ms(self.total)).chain(rows).flatten().collect();
        record::frame(MAGIC, &body)
    }

    /// `None`: it is damaged, or a newer program's.
    pub(in crate::journal) fn read(bytes: &[u8]) -> Option<Self> {
        let body = record::body(MAGIC, bytes).ok()?;
        let (total, rows) = body.split_first_chunk::<8>()?;
        let ms = |bytes: [u8; 8]| Duration::from_millis(u64::from_le_bytes(bytes));
        let row = |row: &[u8]| {
            let (first, rest) = row.split_first_chunk::<8>()?;
            Some((u64::from_le_bytes(*first), ms(*rest.first_chunk::<8>()?)))
        };
        let complete = rows.chunks(ROW_BYTES).map(row).collect::<Option<Vec<_>>>()?;
        Some(Self { total: ms(*total), complete })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_these_and_come_back() {
        let lived = Lived { total: Duration::from_millis(0x0102), complete: vec![(7, Duration::from_millis(3))] };
        let bytes = lived.write().expect("it is short");
        assert_eq!(bytes[..8], *b"V2GL\x18\x00\x00\x00");
        assert_eq!(bytes[12..], [2, 1, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Lived::read(&bytes), Some(lived));
    }

    #[test]
    fn what_is_cut_short_or_changed_is_none() {
        let bytes = Lived { complete: vec![(7, Duration::ZERO)], ..Lived::default() }.write().expect("it is short");
        for cut in 0..bytes.len() {
            assert_eq!(Lived::read(&bytes[..cut]), None);
        }
        for at in 4..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(Lived::read(&changed), None, "{at}");
        }
    }
}
