//! Registers become raw values. Every function here is total: no words make it panic.

use crate::measure::{Raw, RawKind, RegisterPoint, WordOrder};

/// The words as one unsigned number, most significant first.
pub(super) fn bits(register: &RegisterPoint, words: &[u16]) -> u64 {
    let join = |bits: u64, word: &u16| bits << 16 | u64::from(*word);
    match register.word_order {
        WordOrder::MswFirst => words.iter().fold(0, join),
        WordOrder::LswFirst => words.iter().rev().fold(0, join),
    }
}

/// What the words of a point say, which has their width; `None` if the device says "not available".
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "the bits of a narrower kind fill only its width, and reinterpreting them is the point"
)]
pub(super) fn raw(register: &RegisterPoint, words: &[u16]) -> Option<Raw> {
    let bits = bits(register, words);
    if register.not_available.contains(&bits) {
        return None;
    }
    Some(match register.raw {
        RawKind::U16 | RawKind::U32 | RawKind::U64 => Raw::Integer(bits.into()),
        RawKind::I16 => Raw::Integer((bits as u16 as i16).into()),
        RawKind::I32 => Raw::Integer((bits as u32 as i32).into()),
        RawKind::I64 => Raw::Integer((bits as i64).into()),
        RawKind::F32 => Raw::Float(f32::from_bits(bits as u32).into()),
        RawKind::F64 => Raw::Float(f64::from_bits(bits)),
    })
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "narrowing is how the cases are made")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::measure::{Fold, Meaning, Missing, Origin, Outcome, PointSpec, RegisterTable, Shape, Unit, Value};
    use crate::normalise::meaning;

    /// The whole way of a point's words.
    fn outcome(spec: &PointSpec, words: &[u16]) -> Outcome {
        let register = spec.register().expect("a register");
        raw(register, words).map_or(Outcome::Missing(Missing::Decode), |raw| meaning::outcome(spec, &raw))
    }

    fn spec(raw: RawKind, word_order: WordOrder, shape: Shape) -> PointSpec {
        PointSpec {
            field: "x".try_into().expect("a field"),
            unit: Unit::One,
            shape,
            fold: Fold::Mean,
            valid: None,
            frozen_after: None,
            meaning: Meaning { texts: vec![(2, "charging".into())], ..Meaning::default() },
            origin: Origin::Register(RegisterPoint {
                table: RegisterTable::Input,
                address: 0,
                raw,
                word_order,
                not_available: vec![],
            }),
        }
    }

    /// The words of a value whose bytes are given most significant first.
    fn words(bytes: &[u8], order: WordOrder) -> Vec<u16> {
        let mut words: Vec<u16> = bytes.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
        if order == WordOrder::LswFirst {
            words.reverse();
        }
        words
    }

    fn order() -> impl Strategy<Value = WordOrder> {
        prop_oneof![Just(WordOrder::MswFirst), Just(WordOrder::LswFirst)]
    }

    proptest! {
        #[test]
        fn every_integer_kind_reads_what_was_written(value: i64, order in order()) {
            let cases: [(RawKind, Vec<u8>, i128); 6] = [
                (RawKind::U16, (value as u16).to_be_bytes().to_vec(), (value as u16).into()),
                (RawKind::I16, (value as i16).to_be_bytes().to_vec(), (value as i16).into()),
                (RawKind::U32, (value as u32).to_be_bytes().to_vec(), (value as u32).into()),
                (RawKind::I32, (value as i32).to_be_bytes().to_vec(), (value as i32).into()),
                (RawKind::U64, (value as u64).to_be_bytes().to_vec(), (value as u64).into()),
                (RawKind::I64, value.to_be_bytes().to_vec(), value.into()),
            ];
            for (raw, bytes, expected) in cases {
                let expected = i64::try_from(expected)
                    .map_or(Outcome::Missing(Missing::Decode), |code| Outcome::Good(Value::Integer(code)));
                prop_assert_eq!(outcome(&spec(raw, order, Shape::Integer), &words(&bytes, order)), expected);
            }
        }

        #[test]
        fn floats_are_read_to_the_bit_and_what_is_not_finite_is_missing(value: f64, narrow: f32, order in order()) {
            let expected = |value: f64| if value.is_finite() {
                Outcome::Good(Value::Float(value))
            } else {
                Outcome::Missing(Missing::Decode)
            };
            let wide = spec(RawKind::F64, order, Shape::Float);
            prop_assert_eq!(outcome(&wide, &words(&value.to_be_bytes(), order)), expected(value));
            let small = spec(RawKind::F32, order, Shape::Float);
            prop_assert_eq!(outcome(&small, &words(&narrow.to_be_bytes(), order)), expected(narrow.into()));
        }

        #[test]
        fn no_words_make_it_panic(bits: u64, shape in prop_oneof![Just(Shape::Float), Just(Shape::Integer), Just(Shape::Text)]) {
            for raw in [RawKind::U16, RawKind::I16, RawKind::U32, RawKind::I32, RawKind::U64, RawKind::I64, RawKind::F32, RawKind::F64] {
                let bytes = bits.to_be_bytes();
                let width = usize::from(raw.width()) * 2;
                let _ = outcome(&spec(raw, WordOrder::MswFirst, shape), &words(&bytes[..width], WordOrder::MswFirst));
            }
        }
    }

    #[test]
    fn a_code_is_written_as_its_word_or_else_as_its_number() {
        let state = spec(RawKind::U16, WordOrder::MswFirst, Shape::Text);
        assert_eq!(outcome(&state, &[2]), Outcome::Good(Value::Text("charging".into())));
        assert_eq!(outcome(&state, &[77]), Outcome::Good(Value::Text("77".into())));
    }
}
