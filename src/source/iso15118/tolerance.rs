//! What stations read though the schema does not allow it. Pure.
//!
//! - Bytes behind a document: the decoder of a station stops at the document's end. Zeros are of a sender that rounds its buffer up, and
//!   nothing is said of them; of others that they were there. Where it is not known by which schema a message is to be read, only zeros
//!   are passed over: what one schema takes for a short message and a rest may be a whole one of another.
//! - A value outside its facet: EXI numbers a range of three values with two bits, and one sender uses the fourth. The rest of
//!   the message is read; a value of ours that is outside is not known.
//!
//! How a value outside is found: a prefix of the message ends in the midst of something until it holds all bits of the value.
//! In the last byte of the shortest prefix that fails otherwise, bits behind the value change nothing, and every value
//! outside has a bit whose change brings it inside, so the last bit that makes a difference is one of its own. The message
//! is read with that bit changed, and with the one before it that makes a difference: what the two readings
//! have in common is what was sent.

use iso15118::exi::{ExiError, ExiResult};

use super::message::{Datum, Heard};
use crate::spec::SessionValue;

/// Zero bytes behind a document that are nothing odd: buffers of up to 64 bytes that are sent whole.
const ZEROS_MAX: usize = 64;
/// Values outside in one message: a charging profile has 24 entries.
const VALUES_MAX: usize = 24;
/// A longer message is read as the schema has it, or not: each value outside costs some fifty readings.
const BYTES_MAX: usize = 4 << 10;
/// The widest value that a schema numbers by its range.
const VALUE_BITS_MAX: usize = 8;

/// What may stand behind a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behind {
    /// Some zeros.
    Zeros,
    /// Whatever it is.
    Anything,
}

/// Reads a payload, and what is left of it if it is not quite as the schema has it.
pub(super) fn read(
    payload: &[u8],
    behind: Behind,
    heard: &mut Heard,
    read: impl Fn(&[u8], &mut Heard) -> ExiResult<()>,
) -> ExiResult<()> {
    let read = |bytes: &[u8], heard: &mut Heard| {
        heard.clear();
        match read(bytes, heard) {
            Err(ExiError::TrailingData) => up_to_its_end(bytes, behind, heard, &read),
            result => result,
        }
    };
    let mut result = read(payload, heard);
    if result.is_err_and(is_outside) && payload.len() <= BYTES_MAX {
        result = without_values_outside(payload, heard, &read);
    }
    if result.is_err() {
        heard.clear();
    }
    result
}

/// Reads a document behind which something stands: it is the one beginning that ends neither too early nor too late.
fn up_to_its_end(bytes: &[u8], behind: Behind, heard: &mut Heard, read: &Reader<'_>) -> ExiResult<()> {
    let (mut short, mut long) = (0, bytes.len());
    let rest = loop {
        if short >= long {
            return Err(ExiError::TrailingData);
        }
        let middle = short.midpoint(long);
        heard.clear();
        match read(&bytes[..middle], heard) {
            Ok(()) => break &bytes[middle..],
            Err(ExiError::TrailingData) => long = middle,
            Err(_) => short = middle + 1,
        }
    };
    let is_padding = rest.len() <= ZEROS_MAX && rest.iter().all(|byte| *byte == 0);
    heard.is_trailed = !is_padding;
    if is_padding || behind == Behind::Anything { Ok(()) } else { Err(ExiError::TrailingData) }
}

fn is_outside(error: ExiError) -> bool {
    matches!(error, ExiError::ValueOutOfRange | ExiError::UnknownEnumValue)
}

type Reader<'a> = dyn Fn(&[u8], &mut Heard) -> ExiResult<()> + 'a;

fn without_values_outside(bytes: &[u8], heard: &mut Heard, read: &Reader<'_>) -> ExiResult<()> {
    let mut inside = bytes.to_vec();
    // Of each value outside two bits, each of which brings it inside.
    let mut changes = Vec::new();
    loop {
        match read(&inside, heard) {
            Ok(()) => break,
            Err(error) if is_outside(error) && changes.len() < VALUES_MAX => {
                let (one, other) = bits_that_bring_inside(&mut inside, heard, read).ok_or(error)?;
                flip(&mut inside, one);
                changes.push((one, other));
            }
            Err(error) => return Err(error),
        }
    }
    let mut again = Heard::default();
    for (one, other) in changes {
        flip(&mut inside, one);
        flip(&mut inside, other);
        read(&inside, &mut again)?;
        flip(&mut inside, other);
        flip(&mut inside, one);
        keep_what_is_common(heard, &again)?;
    }
    Ok(())
}

/// The two last bits of the first value outside that make a difference to it.
fn bits_that_bring_inside(bytes: &mut [u8], heard: &mut Heard, read: &Reader<'_>) -> Option<(usize, usize)> {
    let (mut short, mut long) = (0, bytes.len());
    while short < long {
        let middle = short.midpoint(long);
        match read(&bytes[..middle], heard) {
            Err(error) if is_outside(error) => long = middle,
            _ => short = middle + 1,
        }
    }
    let mut found = Vec::new();
    for bit in (0..long * 8).rev().take(8 + VALUE_BITS_MAX) {
        flip(bytes, bit);
        let is_inside = !read(&bytes[..long], heard).is_err_and(is_outside);
        flip(bytes, bit);
        if is_inside {
            found.push(bit);
        }
        if let [one, other] = found[..] {
            return (one - other < VALUE_BITS_MAX).then_some((one, other));
        }
    }
    None
}

fn flip(bytes: &mut [u8], bit: usize) {
    bytes[bit / 8] ^= 0x80 >> (bit % 8);
}

/// Takes out what two readings have not in common. One value may differ, and nothing else.
fn keep_what_is_common(heard: &mut Heard, again: &Heard) -> ExiResult<()> {
    let Heard { name, session, response, fault, act, values, is_trailed: _ } = heard;
    let is_one_message = *name == again.name
        && *session == again.session
        && *response == again.response
        && *fault == again.fault
        && *act == again.act
        && values.iter().map(|(value, _)| value).eq(again.values.iter().map(|(value, _)| value));
    // What another value outside has made unusable differs again, and is no news.
    let differs = |((_, one), (_, other)): &(&(SessionValue, Datum), &(SessionValue, Datum))| {
        one != other && *one != Datum::Unusable
    };
    if !is_one_message || values.iter().zip(&again.values).filter(differs).count() > 1 {
        return Err(ExiError::ValueOutOfRange);
    }
    for ((_, one), (_, other)) in values.iter_mut().zip(&again.values) {
        if one != other {
            *one = Datum::Unusable;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::iso15118::decode::{Agreed, Decoded, decode};
    use crate::source::iso15118::tests::{changed, frames};
    use crate::spec::SessionValue as V;
    use iso15118::Protocol;
    use iso15118::exi::ExiDocument;
    use iso15118::iso2::{BodyChoice, Document};

    fn read_as_2(payload: &[u8]) -> Vec<(V, Datum)> {
        let mut heard = Heard::default();
        let decoded = decode(&Agreed::On(Protocol::Iso2), 0x8001, payload, &mut heard);
        assert_eq!(decoded, Decoded::As(Some(Protocol::Iso2)));
        heard.values
    }

    fn unusable(values: &[(V, Datum)]) -> Vec<V> {
        values.iter().filter(|(_, datum)| *datum == Datum::Unusable).map(|(value, _)| *value).collect()
    }

    /// The handshake was read to the bit: of who sends zeros behind each document nobody knew what the two had agreed on.
    #[test]
    fn zeros_behind_every_document_of_a_session_change_nothing() {
        for (name, protocol) in
            [("din-dc", Protocol::Din70121), ("iso2-ac-eim", Protocol::Iso2), ("iso20-dcbpt-sched", Protocol::Iso20)]
        {
            for (payload_type, payload) in frames(name) {
                for zeros in [1, 3, 40] {
                    let mut longer = payload.clone();
                    longer.resize(payload.len() + zeros, 0);
                    let (mut sent, mut read) = (Heard::default(), Heard::default());
                    let agreed = Agreed::On(protocol);
                    let expected = decode(&agreed, payload_type, &payload, &mut sent);
                    assert_eq!(decode(&agreed, payload_type, &longer, &mut read), expected, "{name}: {}", sent.name);
                    assert_eq!((read.name, read.act, read.values), (sent.name, sent.act, sent.values));
                }
            }
        }
    }

    /// What is behind a document was refused with it, but for zeros: of who sends the rest of its buffer nothing was read. Stations, whose
    /// decoders stop at the end of a document, read all of it.
    #[test]
    fn whatever_stands_behind_every_document_of_a_session_is_remarked_and_changes_nothing() {
        for (name, protocol) in
            [("din-dc", Protocol::Din70121), ("iso2-ac-eim", Protocol::Iso2), ("iso20-dcbpt-sched", Protocol::Iso20)]
        {
            for (payload_type, payload) in frames(name) {
                for behind in [&[0xff][..], &[0, 0, 7], &[0x80, 0x9a, 2, 1], &[0; 65], &payload] {
                    let longer = [&payload, behind].concat();
                    let (mut sent, mut read) = (Heard::default(), Heard::default());
                    let agreed = Agreed::On(protocol);
                    let expected = decode(&agreed, payload_type, &payload, &mut sent);
                    assert_eq!(decode(&agreed, payload_type, &longer, &mut read), expected, "{name}: {}", sent.name);
                    assert_eq!((read.name, read.act, read.values), (sent.name, sent.act, sent.values));
                    assert!(read.is_trailed && !sent.is_trailed, "{name}: {} with {behind:?}", sent.name);
                }
            }
        }
    }

    /// Both multipliers are one bit from 7, of which the schema knows nothing.
    #[test]
    fn two_values_outside_their_facets_cost_nothing_but_themselves() {
        let mut payload = changed(&frames("iso2-dc-eim")[41].1, |body| match body {
            BodyChoice::CurrentDemandRes(answer) => {
                answer.evse_present_voltage.multiplier = 3;
                answer.evse_present_current.multiplier = 3;
            }
            other => panic!("{}", other.name()),
        });
        let sent = read_as_2(&payload);
        assert_eq!(unusable(&sent), []);
        let bits = 8 * payload.len();
        let mut bit_of = |value: V| {
            let costs_it = |bit: &usize| {
                flip(&mut payload, *bit);
                let is_outside = Document::from_bytes(&payload).err().is_some_and(is_outside);
                let costs = is_outside && unusable(&read_as_2(&payload)) == [value];
                flip(&mut payload, *bit);
                costs
            };
            (0..bits).find(costs_it).expect("one of its multiplier")
        };
        let (voltage, current) = (bit_of(V::Voltage), bit_of(V::Current));
        flip(&mut payload, voltage);
        flip(&mut payload, current);
        let read = read_as_2(&payload);
        assert_eq!(unusable(&read), [V::Voltage, V::Current]);
        for (read, sent) in read.iter().zip(&sent).filter(|(read, _)| read.1 != Datum::Unusable) {
            assert_eq!(read, sent);
        }
    }
}
