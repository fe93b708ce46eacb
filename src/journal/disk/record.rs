//! Small records in files of their own: length, version and CRC-32C before a body.
//!
//! ```text
//! offset  size
//!      0     4  magic, by kind of record
//!      4     3  length of the body in bytes, little-endian
//!      7     1  version, less one: 0 for version 1
//!      8     4  CRC-32C, little-endian: of the body; of version 2 and later of offset 4 to 8 and the body, so that no
//!               changed bit makes a record newer
//!     12     -  body
//! ```
//!
//! A record that is cut short or changed is as good as none. What follows the body (an older, longer record in the same
//! slot) is not looked at. What a body begins with in every version, so that an older program can go on beside it, is said
//! in `newer`.

use crate::journal::disk::chunk::Damage;
use crate::journal::disk::unreadable::Unreadable;

const HEAD_BYTES: usize = 12;
const VERSION: u16 = 1;

/// The records beside the segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::journal) enum Record {
    /// See `epoch`.
    Life,
    /// See `cursor`.
    CursorA,
    /// See `cursor`.
    CursorB,
    /// See `times`.
    Times,
    /// See `lived`.
    Lived,
    /// See `times`.
    Deciders,
    /// See `core::checkpoint`.
    Checkpoint,
}

/// Writes a record of version 1; `None`: it is too long.
pub(in crate::journal) fn frame(magic: [u8; 4], body: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(body.len()).ok().filter(|length| *length < 1 << 24)?;
    let mut bytes = Vec::with_capacity(HEAD_BYTES + body.len());
    bytes.extend_from_slice(&magic);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(body).to_le_bytes());
    bytes.extend_from_slice(body);
    Some(bytes)
}

/// The body of a record of version 1.
pub(in crate::journal) fn body(magic: [u8; 4], bytes: &[u8]) -> Result<&[u8], Unreadable> {
    match any_body(magic, bytes)? {
        (VERSION, body) => Ok(body),
        (version, _) => Err(Unreadable::Newer { version }),
    }
}

/// The version of a record, and its body.
pub(in crate::journal) fn any_body(magic: [u8; 4], bytes: &[u8]) -> Result<(u16, &[u8]), Damage> {
    let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>().ok_or(Damage::Torn)?;
    let [a, b, c, d, l0, l1, l2, version, crc @ ..] = *head;
    if [a, b, c, d] != magic {
        return Err(Damage::Torn);
    }
    let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, 0])).map_err(|_| Damage::Torn)?;
    let body = rest.get(..length).ok_or(Damage::Torn)?;
    let head_crc = if version == 0 { 0 } else { crc32c::crc32c(&head[4..8]) };
    let whole = crc32c::crc32c_append(head_crc, body).to_le_bytes() == crc;
    if whole { Ok((u16::from(version) + VERSION, body)) } else { Err(Damage::Checksum) }
}

/// A record of version 1 whose body ends so many bytes earlier: as it was written before something was added.
#[cfg(test)]
pub(in crate::journal) fn shortened(bytes: &[u8], by: usize) -> Vec<u8> {
    let (magic, body) = (bytes[..4].try_into().expect("four bytes"), &bytes[HEAD_BYTES..bytes.len() - by]);
    frame(magic, body).expect("it is short")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAGIC: [u8; 4] = *b"V2GT";

    /// As a later version would write it.
    fn later(version: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = frame(MAGIC, body).expect("it is short");
        bytes[7] = version - 1;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[4..8]), body);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    #[test]
    fn a_record_in_a_slot_that_held_a_longer_one_is_whole() {
        let mut bytes = frame(MAGIC, b"short").expect("it is short");
        bytes.extend_from_slice(b"rest of the one before");
        assert_eq!(body(MAGIC, &bytes), Ok(&b"short"[..]));
    }

    #[test]
    fn a_record_of_a_later_version_is_told_from_a_damaged_one() {
        assert_eq!(body(MAGIC, &later(2, b"text")), Err(Unreadable::Newer { version: 2 }));
        assert_eq!(any_body(MAGIC, &later(200, b"text")), Ok((200, &b"text"[..])));
    }

    #[test]
    fn a_record_that_was_changed_or_cut_short_is_damage_and_never_newer() {
        for bytes in [frame(MAGIC, b"some text").expect("it is short"), later(2, b"some text")] {
            for bit in 0..bytes.len() * 8 {
                let mut changed = bytes.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                assert!(any_body(MAGIC, &changed).is_err(), "bit {bit}");
                assert!(any_body(MAGIC, &bytes[..bit / 8]).is_err(), "cut at {}", bit / 8);
            }
        }
    }
}
