//! Records of the mirror feed. Pure.
//!
//! ```text
//! 0         1        2           4                                   12                      16
//! +---------+--------+-----------+-----------------------------------+-----------------------+------- - -
//! | version | kind   | connector | unix time, µs                     | length                | bytes
//! +---------+--------+-----------+-----------------------------------+-----------------------+------- - -
//!   1         0 open, 1 from the vehicle, 2 from the station, 3 close   all big-endian
//! ```
//!
//! `bytes` is one V2GTP frame (kinds 1 and 2) or a text (kinds 0 and 3, not interpreted). A stream that is none of this cannot
//! be trusted again: its connection is closed, and the sender opens another. Memory: at most one record.

use super::frames::PAYLOAD_BYTES_MAX;

const HEADER_BYTES: usize = 16;
const VERSION: u8 = 1;
/// A frame with its header.
const BYTES_MAX: usize = PAYLOAD_BYTES_MAX + 8;

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A vehicle has connected.
    Open,
    /// A frame from the vehicle.
    FromVehicle,
    /// A frame from the station.
    FromStation,
    /// The connection is closed.
    Close,
}

/// One record.
#[derive(Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// What it is about.
    pub kind: Kind,
    /// As the charger counts its connectors.
    pub connector: u16,
    /// When the charger saw it, by its own clock.
    pub unix_us: u64,
    /// A V2GTP frame, or a text.
    pub bytes: &'a [u8],
}

/// Why a stream is no mirror feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadRecord {
    /// Another version of this format, or no record at all.
    #[error("a record begins with {0:#04x}, not with version 1")]
    Version(u8),
    /// 0 to 3.
    #[error("a record is of kind {0}; 0 to 3 are known")]
    Kind(u8),
    /// Longer than a frame can be.
    #[error("a record of {0} bytes; {BYTES_MAX} is the most")]
    Length(u32),
}

/// Connector and time of the record that these bytes begin with, if they do.
pub(super) fn first_time(bytes: &[u8]) -> Option<(u16, u64)> {
    let header: &[u8; HEADER_BYTES] = bytes.first_chunk()?;
    let [VERSION, _, high, low, time @ .., _, _, _, _] = *header else { return None };
    Some((u16::from_be_bytes([high, low]), u64::from_be_bytes(time)))
}

/// One feed's stream.
#[derive(Debug, Default)]
pub struct Records {
    buffer: Vec<u8>,
}

impl Records {
    /// More bytes; every record that they complete goes to `out`.
    ///
    /// # Errors
    /// The stream is none: give it up.
    pub fn push(&mut self, bytes: &[u8], mut out: impl FnMut(Record<'_>)) -> Result<(), BadRecord> {
        self.buffer.extend_from_slice(bytes);
        let mut at = 0;
        while let Some((record, length)) = first(&self.buffer[at..])? {
            out(record);
            at += length;
        }
        self.buffer.drain(..at);
        Ok(())
    }

    /// Whether the stream may end here.
    #[must_use]
    pub fn is_between(&self) -> bool {
        self.buffer.is_empty()
    }
}

/// What is wrong is said as soon as the byte that shows it is there.
fn first(bytes: &[u8]) -> Result<Option<(Record<'_>, usize)>, BadRecord> {
    if let Some(version) = bytes.first().filter(|version| **version != VERSION) {
        return Err(BadRecord::Version(*version));
    }
    let kind = match bytes.get(1) {
        None => return Ok(None),
        Some(0) => Kind::Open,
        Some(1) => Kind::FromVehicle,
        Some(2) => Kind::FromStation,
        Some(3) => Kind::Close,
        Some(other) => return Err(BadRecord::Kind(*other)),
    };
    let Some((head, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let [_, _, c0, c1, t0, t1, t2, t3, t4, t5, t6, t7, l0, l1, l2, l3] = *head;
    let length = u32::from_be_bytes([l0, l1, l2, l3]);
    let size = usize::try_from(length).ok().filter(|size| *size <= BYTES_MAX).ok_or(BadRecord::Length(length))?;
    let Some(bytes) = rest.get(..size) else { return Ok(None) };
    let connector = u16::from_be_bytes([c0, c1]);
    let unix_us = u64::from_be_bytes([t0, t1, t2, t3, t4, t5, t6, t7]);
    Ok(Some((Record { kind, connector, unix_us, bytes }, HEADER_BYTES + size)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).expect("short").to_be_bytes();
        [&[1, kind, 0x12, 0x34, 0, 0, 0, 0, 0, 0, 0x30, 0x39][..], &length[..], bytes].concat()
    }

    #[test]
    fn the_layout_is_as_drawn() {
        let mut records = Records::default();
        let mut told = 0;
        let stream = [record(0, b"[fe80::1]:50000"), record(1, b"frame")].concat();
        for byte in &stream {
            records
                .push(&[*byte], |record| {
                    told += 1;
                    assert_eq!((record.connector, record.unix_us), (0x1234, 12_345));
                    let expected: (Kind, &[u8]) =
                        if told == 1 { (Kind::Open, b"[fe80::1]:50000") } else { (Kind::FromVehicle, b"frame") };
                    assert_eq!((record.kind, record.bytes), expected);
                })
                .expect("it is one");
        }
        assert!(told == 2 && records.is_between());
    }

    #[test]
    fn what_is_no_record_is_refused_at_its_first_wrong_byte() {
        assert_eq!(Records::default().push(b"GET /", |_| {}), Err(BadRecord::Version(b'G')));
        assert_eq!(Records::default().push(&[1, 9], |_| {}), Err(BadRecord::Kind(9)));
        let long = [1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
        assert_eq!(Records::default().push(&long, |_| {}), Err(BadRecord::Length(u32::MAX)));
    }
}
