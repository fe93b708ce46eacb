//! The frame in which everything lies on the medium: a chunk of entries, or the header of a segment.
//!
//! All numbers little-endian:
//!
//! ```text
//! offset  size
//!      0     4  magic "V2GJ"
//!      4     4  length of the body in bytes
//!      8     4  CRC-32C of everything but these and the magic's bytes: length, then offset 12 to the end
//!     12     8  epoch
//!     20     8  first sequence number
//!     28     4  count of entries; their numbers follow one another
//!     32     8  skipped: how many numbers directly before the first were never written, on purpose
//!     40     8  newest wall time that can be believed, ns UTC; i64::MIN: none
//!     48     4  points: measured values in the entries
//!     52     1  kind: 0 entries, 1 header of a segment; of a newer version: others, which are entries
//!     53     1  flags: bit 0: an entry tells of a loss; bit 1: the body is compressed (see `compress`); others are zero
//!               unless a newer version wrote it
//!     54     1  part: a chunk too long for one frame is cut into parts, from 0; each repeats this head
//!     55     1  parts: how many; at least 1
//!     56     -  body: for entries, each a length (4) and an encoded window (see `entry`); the CRC is over what lies
//!               here, compressed or not, and a body is cut into parts after it was compressed
//! ```
//!
//! Who reads checks two things: the CRC, and that `first - skipped` follows the chunk before. A store that loses a
//! chunk silently is found out by the second.

use std::ops::Range;

use crate::journal::disk::compress;
use crate::measure::{Epoch, Seq};

/// "V2GJ".
pub(in crate::journal) const MAGIC: [u8; 4] = *b"V2GJ";
/// Bytes before the body.
pub(in crate::journal) const HEAD_BYTES: usize = 56;
/// The longest body of one frame: with its head, key and sled's own 30 or so bytes it stays below 60 KB, where the
/// store would put a value into a file of its own that it never syncs (a quarter of its `segment_size` of 256 KiB).
pub(in crate::journal) const BODY_BYTES_MAX: usize = 56 * 1024;
/// The most parts of one chunk: they lie in one tree of at most nine keys.
pub(in crate::journal) const PARTS_MAX: usize = 9;
/// The longest encoded entry, with its length before it: 504 KiB, some 100,000 points.
pub(in crate::journal) const ENTRY_BYTES_MAX: usize = BODY_BYTES_MAX * PARTS_MAX - 4;
const _: () = assert!(BODY_BYTES_MAX * PARTS_MAX == compress::RAW_BYTES_MAX, "a body that fits can be compressed");

/// An entry tells of a loss.
const FLAG_TELLS_LOSS: u8 = 1;
/// The body is compressed.
const FLAG_COMPRESSED: u8 = 2;

/// What a chunk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::journal) enum Kind {
    /// Entries.
    Entries,
    /// The header of the segment it lies in.
    Header,
}

/// A frame that is not what was written. The chunk cannot be used; what is around it can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::journal) enum Damage {
    /// Not one of ours, or cut short.
    #[error("not a frame, or cut short")]
    Torn,
    /// Ours, and changed.
    #[error("the checksum is wrong")]
    Checksum,
    /// Each frame is right, and they do not fit together.
    #[error("the parts do not fit together")]
    Parts,
    /// The checksum is right and the content makes no sense.
    #[error("the content cannot be read")]
    Content,
}

/// A run of entries as it lies on the medium.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::journal) struct Chunk {
    pub(in crate::journal) epoch: Epoch,
    pub(in crate::journal) first: Seq,
    pub(in crate::journal) count: u32,
    pub(in crate::journal) skipped: u64,
    pub(in crate::journal) newest_utc: Option<i64>,
    pub(in crate::journal) points: u32,
    pub(in crate::journal) kind: Kind,
    pub(in crate::journal) tells_loss: bool,
    /// Of a newer version: its numbers are known, and its body is as it lies there.
    pub(in crate::journal) newer: bool,
    pub(in crate::journal) body: Vec<u8>,
}

impl Chunk {
    /// An empty chunk of entries that begins at `first`.
    pub(in crate::journal) fn new(epoch: Epoch, first: Seq, skipped: u64) -> Self {
        Self {
            epoch,
            first,
            count: 0,
            skipped,
            newest_utc: None,
            points: 0,
            kind: Kind::Entries,
            tells_loss: false,
            newer: false,
            body: Vec::new(),
        }
    }

    /// Room for so many bytes of entries, with their lengths: a body that grows step by step is copied at each.
    pub(in crate::journal) fn with_room(mut self, bytes: usize) -> Self {
        self.body.reserve(bytes);
        self
    }

    /// The last number in it. A chunk of entries has at least one.
    pub(in crate::journal) fn last(&self) -> u64 {
        self.first.0 + u64::from(self.count).saturating_sub(1)
    }

    /// The number that the chunk before must have ended with, plus one.
    pub(in crate::journal) fn begins_at(&self) -> u64 {
        self.first.0.saturating_sub(self.skipped)
    }

    /// Adds an encoded entry, of at most [`ENTRY_BYTES_MAX`].
    pub(in crate::journal) fn push(&mut self, entry: &[u8]) {
        let length = u32::try_from(entry.len()).unwrap_or(u32::MAX);
        self.body.extend_from_slice(&length.to_le_bytes());
        self.body.extend_from_slice(entry);
        self.count += 1;
    }

    /// Bytes of the encoded entries, without the lengths before them.
    pub(in crate::journal) fn entry_bytes(&self) -> usize {
        let lengths = usize::try_from(self.count).unwrap_or(usize::MAX).saturating_mul(4);
        self.body.len().saturating_sub(lengths)
    }

    /// Where each entry lies in the body.
    pub(in crate::journal) fn entries(&self) -> Result<Vec<Range<usize>>, Damage> {
        let mut at = 0;
        let mut entries = Vec::new();
        while at < self.body.len() {
            let length = self.body.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
            let length = length.and_then(|l| usize::try_from(l).ok()).ok_or(Damage::Content)?;
            let range = at + 4..(at + 4).saturating_add(length);
            if range.end > self.body.len() {
                return Err(Damage::Content);
            }
            at = range.end;
            entries.push(range);
        }
        if entries.len() as u64 == u64::from(self.count) { Ok(entries) } else { Err(Damage::Content) }
    }

    /// The frames that carry it, in order; one unless the body is longer than [`BODY_BYTES_MAX`].
    /// The body is compressed where that makes it shorter.
    pub(in crate::journal) fn frames(&self) -> Vec<Vec<u8>> {
        self.framed(compress::compress(&self.body))
    }

    /// The same, with the body as it is.
    pub(in crate::journal) fn frames_as_is(&self) -> Vec<Vec<u8>> {
        self.framed(None)
    }

    fn framed(&self, compressed: Option<Vec<u8>>) -> Vec<Vec<u8>> {
        let flags = u8::from(self.tells_loss) * FLAG_TELLS_LOSS + u8::from(compressed.is_some()) * FLAG_COMPRESSED;
        let body = compressed.as_ref().unwrap_or(&self.body);
        let bodies: Vec<&[u8]> = if body.is_empty() { vec![&[]] } else { body.chunks(BODY_BYTES_MAX).collect() };
        let parts = u8::try_from(bodies.len()).unwrap_or(u8::MAX);
        bodies.iter().zip(0_u8..).map(|(body, part)| self.frame(body, flags, part, parts)).collect()
    }

    /// Puts the frames of one chunk together again.
    pub(in crate::journal) fn join(frames: &[Vec<u8>]) -> Result<Self, Damage> {
        let mut whole: Option<Self> = None;
        let mut flags = 0;
        for (frame, wanted) in frames.iter().zip(0_u8..) {
            let (chunk, part, parts) = parse(frame)?;
            flags = frame[53];
            if part != wanted || usize::from(parts) != frames.len() {
                return Err(Damage::Parts);
            }
            match &mut whole {
                None => whole = Some(chunk),
                Some(first) if (first.epoch, first.first) == (chunk.epoch, chunk.first) => {
                    first.body.extend_from_slice(&chunk.body);
                }
                Some(_) => return Err(Damage::Parts),
            }
        }
        let mut whole = whole.ok_or(Damage::Torn)?;
        if !whole.newer && flags & FLAG_COMPRESSED != 0 {
            whole.body = compress::decompress(&whole.body).map_err(|_| Damage::Content)?;
        }
        Ok(whole)
    }

    fn frame(&self, body: &[u8], flags: u8, part: u8, parts: u8) -> Vec<u8> {
        let mut frame = Vec::with_capacity(HEAD_BYTES + body.len());
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        frame.extend_from_slice(&MAGIC);
        frame.extend_from_slice(&length.to_le_bytes());
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(&self.epoch.0.to_le_bytes());
        frame.extend_from_slice(&self.first.0.to_le_bytes());
        frame.extend_from_slice(&self.count.to_le_bytes());
        frame.extend_from_slice(&self.skipped.to_le_bytes());
        frame.extend_from_slice(&self.newest_utc.unwrap_or(i64::MIN).to_le_bytes());
        frame.extend_from_slice(&self.points.to_le_bytes());
        let kind = match self.kind {
            Kind::Entries => 0,
            Kind::Header => 1,
        };
        frame.extend_from_slice(&[kind, flags, part, parts]);
        frame.extend_from_slice(body);
        let crc = checksum(&frame);
        frame[8..12].copy_from_slice(&crc.to_le_bytes());
        frame
    }
}

/// One checked frame: its share of the chunk, its body as it lies there; which part it is, and of how many.
pub(in crate::journal) fn parse(frame: &[u8]) -> Result<(Chunk, u8, u8), Damage> {
    if frame_length(frame) != Some(frame.len()) {
        return Err(Damage::Torn);
    }
    if checksum(frame).to_le_bytes() != frame[8..12] {
        return Err(Damage::Checksum);
    }
    let kind = if frame[52] == 1 { Kind::Header } else { Kind::Entries };
    let newer = frame[52] > 1 || frame[53] > FLAG_TELLS_LOSS | FLAG_COMPRESSED;
    let newest_utc = i64::from_le_bytes(array(frame, 40));
    let chunk = Chunk {
        epoch: Epoch(u64::from_le_bytes(array(frame, 12))),
        first: Seq(u64::from_le_bytes(array(frame, 20))),
        count: u32::from_le_bytes(array(frame, 28)),
        skipped: u64::from_le_bytes(array(frame, 32)),
        newest_utc: (newest_utc != i64::MIN).then_some(newest_utc),
        points: u32::from_le_bytes(array(frame, 48)),
        kind,
        tells_loss: frame[53] & FLAG_TELLS_LOSS != 0,
        newer,
        body: frame[HEAD_BYTES..].to_vec(),
    };
    Ok((chunk, frame[54], frame[55]))
}

/// The length that the frame at the beginning of `bytes` claims, if it may be one.
pub(in crate::journal) fn frame_length(bytes: &[u8]) -> Option<usize> {
    if bytes.len() < HEAD_BYTES || bytes[..4] != MAGIC {
        return None;
    }
    let body = usize::try_from(u32::from_le_bytes(array(bytes, 4))).ok()?;
    (body <= BODY_BYTES_MAX).then_some(HEAD_BYTES + body)
}

/// Whether what begins here would be a frame of entries, were it whole.
pub(in crate::journal) fn claims_entries(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC) && bytes.get(52).is_none_or(|kind| *kind != 1)
}

/// The frames that lie one behind the other in `bytes`.
pub(in crate::journal) fn split(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Some((frame, rest)) = frame_length(bytes).and_then(|length| bytes.split_at_checked(length)) {
        frames.push(frame.to_vec());
        bytes = rest;
    }
    frames
}

pub(in crate::journal) fn checksum(frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&frame[4..8]), &frame[12..])
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Chunk {
        let mut chunk = Chunk::new(Epoch(0x0102_0304), Seq(0x0506), 3);
        chunk.points = 77;
        chunk.newest_utc = Some(9);
        chunk.tells_loss = true;
        chunk.push(b"abc");
        chunk.push(b"");
        chunk
    }

    /// Bytes that nothing makes shorter (xorshift64, Marsaglia 2003).
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 88_172_645_463_325_252_u64;
        let next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        std::iter::repeat_with(next).take(length).collect()
    }

    #[test]
    fn what_repeats_itself_is_kept_short_and_what_does_not_as_it_is() {
        let mut chunk = Chunk::new(Epoch(1), Seq(1), 0);
        chunk.push(&vec![7; BODY_BYTES_MAX * 2]);
        let frames = chunk.frames();
        assert_eq!((frames.len(), frames[0][53]), (1, 2));
        assert_eq!(Chunk::join(&frames), Ok(chunk));
        let mut chunk = Chunk::new(Epoch(1), Seq(1), 0);
        chunk.push(&noise(20_000));
        let frames = chunk.frames();
        assert_eq!((frames[0].len(), frames[0][53]), (HEAD_BYTES + 20_004, 0));
    }

    /// As version 0.1.0 wrote it, before anything was compressed.
    #[test]
    fn a_chunk_of_before_is_still_read() {
        let mut chunk = Chunk::new(Epoch(1), Seq(1), 0);
        chunk.push(&[7; 1000]);
        let frame = chunk.frame(&chunk.body, 0, 0, 1);
        assert_eq!(frame.len(), HEAD_BYTES + 1004);
        assert_eq!(Chunk::join(&[frame]), Ok(chunk));
    }

    #[test]
    fn the_layout_is_the_one_that_is_drawn() {
        let frames = sample().frames();
        let frame = &frames[0];
        assert_eq!(frames.len(), 1);
        assert_eq!(&frame[0..4], b"V2GJ");
        assert_eq!(frame[4..8], 11_u32.to_le_bytes());
        assert_eq!(frame[12..20], 0x0102_0304_u64.to_le_bytes());
        assert_eq!(frame[20..28], 0x0506_u64.to_le_bytes());
        assert_eq!(frame[28..32], 2_u32.to_le_bytes());
        assert_eq!(frame[32..40], 3_u64.to_le_bytes());
        assert_eq!(frame[40..48], 9_i64.to_le_bytes());
        assert_eq!(frame[48..52], 77_u32.to_le_bytes());
        assert_eq!(frame[52..56], [0, 1, 0, 1]);
        assert_eq!(&frame[56..], b"\x03\0\0\0abc\0\0\0\0");
        let mut plain = frame[4..8].to_vec();
        plain.extend_from_slice(&frame[12..]);
        assert_eq!(frame[8..12], crc32c::crc32c(&plain).to_le_bytes());
        assert_eq!(crc32c::crc32c(b"123456789"), 0xE306_9283, "the check value of CRC-32C (RFC 3720, B.4)");
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let frame = sample().frames().remove(0);
        for bit in 0..frame.len() * 8 {
            let mut damaged = frame.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(parse(&damaged).is_err(), "bit {bit} changed and nobody noticed");
        }
    }

    #[test]
    fn a_long_entry_travels_in_parts_and_comes_back_whole() {
        let mut chunk = Chunk::new(Epoch(1), Seq(1), 0);
        chunk.push(&noise(BODY_BYTES_MAX * 2));
        let mut frames = chunk.frames();
        assert_eq!(frames.len(), 3);
        assert_eq!(Chunk::join(&frames), Ok(chunk));
        frames.swap(0, 1);
        assert_eq!(Chunk::join(&frames), Err(Damage::Parts));
        frames.pop();
        assert_eq!(Chunk::join(&frames), Err(Damage::Parts));
    }

    #[test]
    fn a_chunk_knows_where_each_entry_lies() {
        let chunk = sample();
        assert_eq!(chunk.entries(), Ok(vec![4..7, 11..11]));
        assert_eq!((chunk.begins_at(), chunk.last()), (0x0503, 0x0507));
    }
}
