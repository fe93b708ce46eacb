//! What stations read though the schema does not allow it. Pure.
//!
//! - Zero bytes behind a document, as a sender leaves them that rounds its buffer up.
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

/// Zero bytes behind a document: buffers of up to 64 bytes that are sent whole.
const ZEROS_MAX: usize = 64;
/// Values outside in one message: a charging profile has 24 entries.
const VALUES_MAX: usize = 24;
/// A longer message is read as the schema has it, or not: each value outside costs some fifty readings.
const BYTES_MAX: usize = 4 << 10;
/// The widest value that a schema numbers by its range.
const VALUE_BITS_MAX: usize = 8;

/// Reads a payload, and what is left of it if it is not quite as the schema has it.
pub(super) fn read(
    payload: &[u8],
    heard: &mut Heard,
    read: impl Fn(&[u8], &mut Heard) -> ExiResult<()>,
) -> ExiResult<()> {
    let read = |bytes: &[u8], heard: &mut Heard| {
        heard.clear();
        read(bytes, heard)
    };
    let mut bytes = payload;
    let mut result = read(bytes, heard);
    for _ in 0..ZEROS_MAX {
        let (Err(ExiError::TrailingData), Some((0, shorter))) = (result, bytes.split_last()) else { break };
        bytes = shorter;
        result = read(bytes, heard);
    }
    if result.is_err_and(is_outside) && bytes.len() <= BYTES_MAX {
        result = without_values_outside(bytes, heard, &read);
    }
    if result.is_err() {
        heard.clear();
    }
    result
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
    let Heard { name, session, response, fault, act, values } = heard;
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
