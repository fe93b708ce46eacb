//! Bodies of chunks made shorter, where that pays.
//!
//! ```text
//! offset  size
//!      0     4  length of the body before, little-endian; at most that of the longest chunk
//!      4     -  one zstd frame (RFC 8878) that holds exactly as much
//! ```

use std::cell::RefCell;

/// What fits into a chunk uncompressed, and so what a lying header can make us allocate.
pub(super) const RAW_BYTES_MAX: usize = 504 * 1024;
/// The fastest of the plain ones: in a burst it is half of the journal's work already. Of 24 KB of a typical depot it
/// leaves 1.86 bytes a point, level 9 1.69.
const LEVEL: i32 = 1;
/// A commit of a window or a few is small and comes some times a second: there it pays to look closer. 3.95 bytes a point
/// instead of 4.04, of a single window.
const LEVEL_SMALL: i32 = 6;
const SMALL_BYTES: usize = 8 * 1024;
/// Below, nothing repeats.
const WORTH_BYTES: usize = 96;
const LENGTH_BYTES: usize = 4;

thread_local! {
    /// The tables of the one thread that writes, some 200 KiB: making them anew costs as much as a small chunk.
    static COMPRESSOR: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
}

/// It is not what was compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotCompressed;

/// The compressed form, if it is shorter.
pub(in crate::journal) fn compress(body: &[u8]) -> Option<Vec<u8>> {
    if body.len() < WORTH_BYTES || body.len() > RAW_BYTES_MAX {
        return None;
    }
    let mut compressed = vec![0; body.len() - 1];
    compressed[..LENGTH_BYTES].copy_from_slice(&u32::try_from(body.len()).ok()?.to_le_bytes());
    let length = COMPRESSOR.with_borrow_mut(|compressor| {
        if compressor.is_none() {
            *compressor = zstd::bulk::Compressor::new(LEVEL).ok();
        }
        let compressor = compressor.as_mut()?;
        let level = if body.len() < SMALL_BYTES { LEVEL_SMALL } else { LEVEL };
        compressor.set_compression_level(level).ok()?;
        // An error is a result that would not be shorter.
        compressor.compress_to_buffer(body, &mut compressed[LENGTH_BYTES..]).ok()
    })?;
    compressed.truncate(LENGTH_BYTES + length);
    Some(compressed)
}

/// The body as it was.
pub(super) fn decompress(compressed: &[u8]) -> Result<Vec<u8>, NotCompressed> {
    let (length, frame) = compressed.split_first_chunk::<LENGTH_BYTES>().ok_or(NotCompressed)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| NotCompressed)?;
    if length > RAW_BYTES_MAX {
        return Err(NotCompressed);
    }
    let mut body = vec![0; length];
    // Never writes more than there is room for.
    match zstd::bulk::decompress_to_buffer(frame, &mut body) {
        Ok(written) if written == length => Ok(body),
        _ => Err(NotCompressed),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_length_that_lies_allocates_no_more_than_a_chunk_and_is_damage() {
        let compressed = compress(&[7; 1000]).expect("it is shorter");
        for lie in [0, 999, 1001, 504 * 1024, 504 * 1024 + 1, u32::MAX] {
            let mut lying = compressed.clone();
            lying[..4].copy_from_slice(&lie.to_le_bytes());
            assert_eq!(decompress(&lying), Err(NotCompressed), "{lie}");
        }
        assert_eq!(decompress(&compressed).as_deref(), Ok(&[7; 1000][..]));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), length in 0_u32..3_000) {
            if let Some(head) = bytes.first_chunk_mut::<4>() {
                *head = length.to_le_bytes();
            }
            let _ = decompress(&bytes);
        }
    }
}
