//! V2GTP frames (ISO 15118-2, 7.8.3) out of a stream of bytes. Pure.
//!
//! ```text
//! 0     1     2           4                       8
//! +-----+-----+-----------+-----------------------+---------------- - -
//! | 01  | FE  | type      | length, big-endian    | payload
//! +-----+-----+-----------+-----------------------+---------------- - -
//! ```
//!
//! Nothing marks a frame's beginning for sure, so after garbage the next place that looks like one is taken: the two bytes, a
//! known type, a length within bounds. Memory: at most one frame.

use super::decode::{Unreadable, is_message_type};

/// The largest real message, a -20 certificate installation or a schedule with prices, has some tens of kilobytes.
pub const PAYLOAD_BYTES_MAX: usize = 64 << 10;
const HEADER_BYTES: usize = 8;

/// What a stream gives.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A frame.
    Frame {
        /// The payload type.
        payload_type: u16,
        /// Its payload.
        payload: &'a [u8],
    },
    /// Bytes that are none, once for each run of them.
    Bad(Unreadable),
}

/// What the first bytes of a buffer are.
enum Head {
    Frame { payload_type: u16, length: usize },
    More,
    Bad(Unreadable),
}

fn head(bytes: &[u8]) -> Head {
    let begins = bytes.iter().zip([0x01, 0xfe]).all(|(byte, expected)| *byte == expected);
    match bytes {
        _ if !begins => Head::Bad(Unreadable::Garbage),
        [_, _, a, b, c, d, e, f, ..] => {
            let payload_type = u16::from_be_bytes([*a, *b]);
            let length = u32::from_be_bytes([*c, *d, *e, *f]);
            match usize::try_from(length) {
                Ok(length) if length <= PAYLOAD_BYTES_MAX => Head::Frame { payload_type, length },
                _ => Head::Bad(Unreadable::TooLong),
            }
        }
        _ => Head::More,
    }
}

/// Whether these bytes begin with the header of a message.
pub(super) fn begins_a_message(bytes: &[u8]) -> bool {
    matches!(head(bytes), Head::Frame { payload_type, .. } if is_message_type(payload_type))
}

/// The one frame that these bytes are.
///
/// # Errors
/// Why they are not.
pub fn whole(bytes: &[u8]) -> Result<(u16, &[u8]), Unreadable> {
    match head(bytes) {
        Head::Frame { payload_type, length } => match (bytes.len() - HEADER_BYTES).cmp(&length) {
            std::cmp::Ordering::Equal => Ok((payload_type, &bytes[HEADER_BYTES..])),
            std::cmp::Ordering::Less => Err(Unreadable::Truncated),
            std::cmp::Ordering::Greater => Err(Unreadable::Garbage),
        },
        Head::More => Err(Unreadable::Truncated),
        Head::Bad(reason) => Err(reason),
    }
}

/// One direction of a connection.
#[derive(Debug, Default)]
pub struct Frames {
    buffer: Vec<u8>,
    /// Garbage is being skipped and has been told.
    lost: bool,
}

impl Frames {
    /// More bytes; all that they complete goes to `out`.
    pub fn push(&mut self, bytes: &[u8], mut out: impl FnMut(Piece<'_>)) {
        // Usually a segment is a frame: nothing is copied then.
        if self.buffer.is_empty() {
            let rest = self.take(bytes, &mut out);
            self.buffer.extend_from_slice(&bytes[rest..]);
            return;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.extend_from_slice(bytes);
        let rest = self.take(&buffer, &mut out);
        buffer.drain(..rest);
        if buffer.is_empty() {
            buffer = Vec::new();
        }
        self.buffer = buffer;
    }

    /// The stream is heard from somewhere in its midst: what comes before the first frame is no fault.
    pub fn join(&mut self) {
        self.buffer.clear();
        self.lost = true;
    }

    /// A new record begins. One that is garbage from its start is told by itself, also behind another that was.
    pub fn next_record(&mut self) {
        if self.buffer.is_empty() {
            self.lost = false;
        }
    }

    /// Whether a frame was begun, and its rest has not come.
    #[must_use]
    pub fn is_begun(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Bytes are missing here: what was begun is lost, and the next beginning is looked for.
    pub fn skip(&mut self, mut out: impl FnMut(Piece<'_>)) {
        if !self.buffer.is_empty() && !self.lost {
            out(Piece::Bad(Unreadable::Truncated));
        }
        self.buffer.clear();
        self.lost = true;
    }

    /// The stream ends here.
    pub fn finish(&mut self, mut out: impl FnMut(Piece<'_>)) {
        if !self.buffer.is_empty() && !self.lost {
            out(Piece::Bad(Unreadable::Truncated));
        }
        *self = Self::default();
    }

    /// Answers how many bytes are done with.
    fn take(&mut self, bytes: &[u8], out: &mut impl FnMut(Piece<'_>)) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            let open = &bytes[at..];
            match head(open) {
                // While looking for a beginning, only what is a message is one.
                Head::Frame { payload_type, .. } if self.lost && !is_message_type(payload_type) => at += 1,
                Head::Frame { payload_type, length } => {
                    let Some(payload) = open.get(HEADER_BYTES..HEADER_BYTES + length) else { break };
                    self.lost = false;
                    out(Piece::Frame { payload_type, payload });
                    at += HEADER_BYTES + length;
                }
                Head::More => break,
                Head::Bad(reason) => {
                    if !self.lost {
                        self.lost = true;
                        out(Piece::Bad(reason));
                    }
                    let next = open[1..].iter().position(|byte| *byte == 0x01);
                    at += next.map_or(open.len(), |next| next + 1);
                }
            }
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        [&[0x01, 0xfe, 0x80, 0x01][..], &length[..], payload].concat()
    }

    fn pieces(frames: &mut Frames, bytes: &[u8]) -> Vec<Result<Vec<u8>, Unreadable>> {
        let mut told = Vec::new();
        frames.push(bytes, |piece| {
            told.push(match piece {
                Piece::Frame { payload, .. } => Ok(payload.to_vec()),
                Piece::Bad(reason) => Err(reason),
            });
        });
        told
    }

    #[test]
    fn garbage_is_told_once_and_the_next_frame_is_found() {
        let mut frames = Frames::default();
        let bytes = [&[7; 100][..], &[0x01, 0xfe, 0x12, 0x34, 0, 0, 0, 2][..], &frame(b"ab"), &frame(b"")].concat();
        assert_eq!(pieces(&mut frames, &bytes), [Err(Unreadable::Garbage), Ok(b"ab".to_vec()), Ok(vec![])]);
    }

    #[test]
    fn a_frame_beyond_the_bound_takes_no_memory() {
        let mut frames = Frames::default();
        let told = pieces(&mut frames, &[0x01, 0xfe, 0x80, 0x01, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(told, [Err(Unreadable::TooLong)]);
        for _ in 0..1000 {
            assert!(pieces(&mut frames, &[0xff; 4096]).is_empty());
        }
        assert_eq!(frames.buffer.capacity(), 0);
    }

    #[test]
    fn a_frame_that_is_cut_off_is_told() {
        let mut frames = Frames::default();
        assert!(pieces(&mut frames, &frame(b"abc")[..9]).is_empty());
        let mut told = Vec::new();
        frames.finish(|piece| told.push(piece == Piece::Bad(Unreadable::Truncated)));
        assert_eq!(told, [true]);
        assert_eq!(pieces(&mut frames, &frame(b"abc")), [Ok(b"abc".to_vec())]);
    }

    proptest! {
        #[test]
        fn however_a_stream_is_cut_the_frames_are_the_same(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..8),
            cuts in proptest::collection::vec(1_usize..30, 1..40),
        ) {
            let stream: Vec<u8> = payloads.iter().flat_map(|payload| frame(payload)).collect();
            let mut frames = Frames::default();
            let (mut told, mut rest) = (Vec::new(), stream.as_slice());
            for cut in cuts.iter().cycle() {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                told.extend(pieces(&mut frames, now));
                rest = later;
                if rest.is_empty() { break }
            }
            prop_assert_eq!(told, payloads.into_iter().map(Ok).collect::<Vec<_>>());
        }
    }
}
