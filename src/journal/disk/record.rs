//! Small records in files of their own: length and CRC-32C before a postcard body.
//!
//! ```text
//! offset  size
//!      0     4  magic, by kind of record
//!      4     4  length of the body in bytes, little-endian
//!      8     4  CRC-32C of the body, little-endian
//!     12     -  body
//! ```
//!
//! A record that is cut short or changed is as good as none. What follows the body (an older, longer record in the same
//! slot) is not looked at.

use serde::Serialize;
use serde::de::DeserializeOwned;

const HEAD_BYTES: usize = 12;

/// Writes a record.
pub(in crate::journal) fn write<T: Serialize>(magic: [u8; 4], content: &T) -> Option<Vec<u8>> {
    let body = postcard::to_stdvec(content).ok()?;
    let length = u32::try_from(body.len()).ok()?;
    let mut bytes = Vec::with_capacity(HEAD_BYTES + body.len());
    bytes.extend_from_slice(&magic);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
    Some(bytes)
}

/// Reads a record; `None` if it is not whole. What a newer agent has written behind it is passed over.
pub(in crate::journal) fn read<T: DeserializeOwned>(magic: [u8; 4], bytes: &[u8]) -> Option<T> {
    postcard::from_bytes(body(magic, bytes)?).ok()
}

/// Reads a record that was written as a pair; without its second half if an older agent wrote the first alone.
pub(in crate::journal) fn read_pair<T: DeserializeOwned, U: DeserializeOwned>(
    magic: [u8; 4],
    bytes: &[u8],
) -> Option<(T, Option<U>)> {
    let (first, rest) = postcard::take_from_bytes(body(magic, bytes)?).ok()?;
    Some((first, postcard::from_bytes(rest).ok()))
}

fn body(magic: [u8; 4], bytes: &[u8]) -> Option<&[u8]> {
    let length = usize::try_from(u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?)).ok()?;
    let body = bytes.get(HEAD_BYTES..)?.get(..length)?;
    let whole = bytes.get(..4)? == magic && bytes.get(8..12)? == crc32c::crc32c(body).to_le_bytes();
    whole.then_some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAGIC: [u8; 4] = *b"V2GT";

    #[test]
    fn a_record_in_a_slot_that_held_a_longer_one_is_whole() {
        let mut bytes = write(MAGIC, &(1_u64, "short")).expect("it can be written");
        bytes.extend_from_slice(b"rest of the one before");
        assert_eq!(read::<(u64, String)>(MAGIC, &bytes), Some((1, "short".to_owned())));
    }

    #[test]
    fn what_a_newer_agent_adds_is_read_by_itself_and_passed_over_by_an_older_one() {
        let new = write(MAGIC, &(7_u64, vec![1_u64, 2])).expect("it can be written");
        assert_eq!(read_pair::<u64, Vec<u64>>(MAGIC, &new), Some((7, Some(vec![1, 2]))));
        assert_eq!(read::<u64>(MAGIC, &new), Some(7));
        let old = write(MAGIC, &7_u64).expect("it can be written");
        assert_eq!(read_pair::<u64, Vec<u64>>(MAGIC, &old), Some((7, None)));
    }

    #[test]
    fn a_record_that_was_changed_or_cut_short_is_none() {
        let bytes = write(MAGIC, &(1_u64, "text")).expect("it can be written");
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(read::<(u64, String)>(MAGIC, &changed), None, "byte {at}");
            assert_eq!(read::<(u64, String)>(MAGIC, &bytes[..at]), None, "cut at {at}");
        }
    }
}
