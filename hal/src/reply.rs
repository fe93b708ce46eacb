//! Modbus replies as bytes: the two framings, decoded without trust. Pure and total: no bytes make it panic.
//!
//! ```text
//! serial   unit │ function │ byte count │ words, big-endian … │ CRC-16, low byte first
//!          unit │ function + 0x80 │ exception code │ CRC-16
//! TCP      transaction, 2 │ protocol 0, 2 │ length of what follows, 2 │ unit │ function │ … as above, without CRC
//! ```
//!
//! Modbus over Serial Line 1.02, 2.5.1; Modbus Messaging on TCP/IP 1.0b, 3.1; Application Protocol 1.1b3, 6.3, 6.4, 7.

use crate::register_bus::{ReadRequest, Table, UnitId};

/// Marks the function code of a refusal.
const REFUSAL: u8 = 0x80;
/// The most bytes in one reply: 125 registers, or 2000 bits.
const WORD_BYTES_MAX: usize = 250;
/// Unit, function, one byte, CRC: the shortest serial reply.
const SERIAL_MIN: usize = 5;
/// Transaction, protocol, length.
const TCP_HEAD: usize = 6;
/// Unit and function and at least one byte; unit, function, byte count and 250 bytes of words.
const TCP_LENGTH: std::ops::RangeInclusive<usize> = 3..=WORD_BYTES_MAX + 3;

/// The kind of a reply with words: what tells the answers to two requests to one unit apart on a serial line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    /// 1 to 4.
    pub function: u8,
    /// Registers; or bits, up to the next multiple of eight: that is all that a reply tells.
    pub count: u16,
}

impl From<ReadRequest> for Shape {
    fn from(request: ReadRequest) -> Self {
        let bits = if request.table.is_of_bits() { 8 } else { 1 };
        Self { function: function(request.table), count: request.count.next_multiple_of(bits) }
    }
}

/// The function code that reads a table.
#[must_use]
pub fn function(table: Table) -> u8 {
    match table {
        Table::Coil => 1,
        Table::Discrete => 2,
        Table::Holding => 3,
        Table::Input => 4,
    }
}

/// A whole reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Who says it.
    pub unit: u8,
    /// To what: the function code without the mark of a refusal.
    pub function: u8,
    /// What.
    pub content: Content,
}

/// What a reply says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Registers; or bits, a word each, up to a multiple of eight.
    Words(Vec<u16>),
    /// A refusal, by its exception code.
    Exception(u8),
}

impl Reply {
    /// Its shape, if it carries words.
    #[must_use]
    pub fn shape(&self) -> Option<Shape> {
        match &self.content {
            Content::Words(words) => {
                Some(Shape { function: self.function, count: u16::try_from(words.len()).unwrap_or(u16::MAX) })
            }
            Content::Exception(_) => None,
        }
    }
}

/// What stands at the head of received bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Head {
    /// A reply that ends after so many bytes.
    Reply(Reply, usize),
    /// The beginning of what may become one.
    Unfinished,
    /// No reply begins here.
    Noise,
}

/// CRC-16/MODBUS: polynomial 0x8005, reflected, begun at 0xffff.
#[must_use]
pub fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0xffff, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xa001 } else { crc >> 1 })
    })
}

/// A read as it goes onto a serial line.
#[must_use]
pub fn serial_request(unit: UnitId, request: ReadRequest) -> [u8; 8] {
    let mut frame = [0; 8];
    frame[0] = unit.get();
    frame[1..6].copy_from_slice(&body(request));
    let crc = crc16(&frame[..6]);
    frame[6..].copy_from_slice(&crc.to_le_bytes());
    frame
}

/// A read as it goes over TCP.
#[must_use]
pub fn tcp_request(transaction: u16, unit: UnitId, request: ReadRequest) -> [u8; 12] {
    let mut frame = [0; 12];
    frame[..2].copy_from_slice(&transaction.to_be_bytes());
    frame[5] = 6;
    frame[6] = unit.get();
    frame[7..].copy_from_slice(&body(request));
    frame
}

fn body(request: ReadRequest) -> [u8; 5] {
    let ([start_high, start_low], [count_high, count_low]) = (request.start.to_be_bytes(), request.count.to_be_bytes());
    [function(request.table), start_high, start_low, count_high, count_low]
}

/// What a serial line has at the head of `bytes`.
#[must_use]
pub fn serial_head(bytes: &[u8]) -> Head {
    let length = match *bytes {
        [] | [_] => return Head::Unfinished,
        [_, 1..=4] => return Head::Unfinished,
        [_, function @ 1..=4, count, ..] => {
            let count = usize::from(count);
            if count == 0 || (count % 2 == 1 && function > 2) || count > WORD_BYTES_MAX {
                return Head::Noise;
            }
            SERIAL_MIN + count
        }
        [_, code, ..] if (1 | REFUSAL..=4 | REFUSAL).contains(&code) => SERIAL_MIN,
        _ => return Head::Noise,
    };
    let Some(frame) = bytes.get(..length) else { return Head::Unfinished };
    let (said, crc) = frame.split_at(length - 2);
    if crc != crc16(said).to_le_bytes() {
        return Head::Noise;
    }
    match reply(said) {
        Some(reply) => Head::Reply(reply, length),
        None => Head::Noise,
    }
}

/// What a TCP stream has at the head of `bytes`: the reply and its transaction. `Noise` means that the stream has lost
/// its beat and must be closed.
#[must_use]
pub fn tcp_head(bytes: &[u8]) -> (Head, u16) {
    let Some(head) = bytes.get(..TCP_HEAD) else { return (Head::Unfinished, 0) };
    let transaction = u16::from_be_bytes([head[0], head[1]]);
    let length = usize::from(u16::from_be_bytes([head[4], head[5]]));
    if head[2..4] != [0, 0] || !TCP_LENGTH.contains(&length) {
        return (Head::Noise, transaction);
    }
    let Some(said) = bytes.get(TCP_HEAD..TCP_HEAD + length) else { return (Head::Unfinished, transaction) };
    match reply(said) {
        Some(reply) => (Head::Reply(reply, TCP_HEAD + length), transaction),
        None => (Head::Noise, transaction),
    }
}

/// Unit, function and what follows, without framing; `None` if that is no answer to a read.
fn reply(said: &[u8]) -> Option<Reply> {
    let (&[unit, code], rest) = said.split_first_chunk::<2>()?;
    let content = match (code & !REFUSAL, code & REFUSAL != 0, rest) {
        (1..=4, true, &[code]) => Content::Exception(code),
        (1 | 2, false, &[count, ref bytes @ ..]) if usize::from(count) == bytes.len() => {
            let bits = |byte: &u8| (0..8).map(|bit| u16::from(*byte >> bit & 1)).collect::<Vec<_>>();
            Content::Words(bytes.iter().flat_map(bits).collect())
        }
        (3 | 4, false, &[count, ref words @ ..]) if usize::from(count) == words.len() && count % 2 == 0 => {
            Content::Words(words.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect())
        }
        _ => return None,
    };
    Some(Reply { unit, function: code & !REFUSAL, content })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn serial(said: &[u8]) -> Vec<u8> {
        [said, &crc16(said).to_le_bytes()].concat()
    }

    fn words_of(unit: u8, function: u8, words: &[u16]) -> Vec<u8> {
        let count = u8::try_from(words.len() * 2).expect("short");
        let mut said = vec![unit, function, count];
        said.extend(words.iter().flat_map(|word| word.to_be_bytes()));
        said
    }

    #[test]
    fn a_request_is_the_standards_example_to_the_byte() {
        let unit = UnitId::try_from(17).expect("a unit");
        let request = ReadRequest { table: Table::Holding, start: 0x6b, count: 3 };
        assert_eq!(serial_request(unit, request), [0x11, 0x03, 0x00, 0x6b, 0x00, 0x03, 0x76, 0x87]);
        assert_eq!(tcp_request(0x1501, unit, request), [0x15, 1, 0, 0, 0, 6, 0x11, 3, 0, 0x6b, 0, 3]);
    }

    #[test]
    fn a_refusal_is_read_and_anything_else_with_its_mark_is_noise() {
        let refused = serial(&[1, 0x83, 2]);
        let reply = Reply { unit: 1, function: 3, content: Content::Exception(2) };
        assert_eq!(serial_head(&refused), Head::Reply(reply, 5));
        assert_eq!(serial_head(&serial(&[1, 0x90, 2])), Head::Noise);
        assert_eq!(tcp_head(&[0, 7, 0, 0, 0, 4, 1, 0x83, 2, 9]).0, Head::Noise);
        assert_eq!(tcp_head(&[0, 7, 0, 1, 0, 3, 1, 0x83, 2]).0, Head::Noise);
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_and_every_beginning_of_it_is_unfinished(
            unit: u8, function in 3_u8..=4, words in prop::collection::vec(any::<u16>(), 1..=125), transaction: u16,
        ) {
            let said = words_of(unit, function, &words);
            let reply = Reply { unit, function, content: Content::Words(words) };
            let frame = serial(&said);
            for length in 0..frame.len() {
                prop_assert_eq!(serial_head(&frame[..length]), Head::Unfinished);
            }
            prop_assert_eq!(serial_head(&frame), Head::Reply(reply.clone(), frame.len()));
            let mut over_tcp = transaction.to_be_bytes().to_vec();
            over_tcp.extend([0, 0]);
            over_tcp.extend(u16::try_from(said.len()).expect("short").to_be_bytes());
            over_tcp.extend(&said);
            prop_assert_eq!(tcp_head(&over_tcp), (Head::Reply(reply, over_tcp.len()), transaction));
        }

        #[test]
        fn one_flipped_bit_is_never_read_as_a_reply(
            words in prop::collection::vec(any::<u16>(), 1..=125), at: prop::sample::Index,
        ) {
            let mut frame = serial(&words_of(1, 3, &words));
            let bit = at.index(frame.len() * 8);
            frame[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(!matches!(serial_head(&frame), Head::Reply(..)));
        }

        #[test]
        fn no_bytes_make_it_panic_or_claim_more_than_is_there(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Head::Reply(_, length) = serial_head(&bytes) {
                prop_assert!(length <= bytes.len());
            }
            if let (Head::Reply(_, length), _) = tcp_head(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }
    }
}
