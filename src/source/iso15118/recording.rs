//! A recording of one side of a session: a file of V2GTP frames.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use super::decode::Unreadable;
use super::frames::{Frames, Piece};

/// A recording larger than this is none: an hour of a charging loop has 4 MB.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// The frames of one recording, in order; `Err` is a run of bytes that are none.
pub(super) type Recorded = Vec<Result<(u16, Vec<u8>), Unreadable>>;

pub(super) fn recorded(path: &Path) -> io::Result<Recorded> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    let (mut frames, mut recorded) = (Frames::default(), Vec::new());
    let mut keep = |piece: Piece<'_>| {
        recorded.push(match piece {
            Piece::Frame { payload_type, payload } => Ok((payload_type, payload.to_vec())),
            Piece::Bad(reason) => Err(reason),
        });
    };
    frames.push(&bytes, &mut keep);
    frames.finish(&mut keep);
    Ok(recorded)
}
