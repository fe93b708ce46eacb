//! Registers become numbers. Every function here is total: no words make it panic.

use crate::measure::{Missing, Outcome, PointSpec, RawKind, RegisterPoint, Shape, Suspicion, Value, WordOrder};

/// The words as one unsigned number, most significant first.
pub(super) fn bits(register: &RegisterPoint, words: &[u16]) -> u64 {
    let join = |bits: u64, word: &u16| bits << 16 | u64::from(*word);
    match register.word_order {
        WordOrder::MswFirst => words.iter().fold(0, join),
        WordOrder::LswFirst => words.iter().rev().fold(0, join),
    }
}

/// A number as the device means it.
enum Number {
    Integer(i128),
    Float(f64),
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "the bits of a narrower kind fill only its width, and reinterpreting them is the point"
)]
fn number(raw: RawKind, bits: u64) -> Number {
    match raw {
        RawKind::U16 | RawKind::U32 | RawKind::U64 => Number::Integer(bits.into()),
        RawKind::I16 => Number::Integer((bits as u16 as i16).into()),
        RawKind::I32 => Number::Integer((bits as u32 as i32).into()),
        RawKind::I64 => Number::Integer((bits as i64).into()),
        RawKind::F32 => Number::Float(f32::from_bits(bits as u32).into()),
        RawKind::F64 => Number::Float(f64::from_bits(bits)),
    }
}

/// What the words of a point say. `words` has the point's width.
pub(super) fn outcome(spec: &PointSpec, words: &[u16]) -> Outcome {
    let register = &spec.register;
    let bits = bits(register, words);
    if register.not_available.contains(&bits) {
        return Outcome::Missing(Missing::Decode);
    }
    let number = number(register.raw, bits);
    match spec.shape {
        Shape::Float => float(spec, &number),
        Shape::Integer => match integer(register, &number) {
            Some(code) => Outcome::Good(Value::Integer(code)),
            None => Outcome::Missing(Missing::Decode),
        },
        Shape::Text => match integer(register, &number) {
            Some(code) => Outcome::Good(Value::Text(text(register, code))),
            None => Outcome::Missing(Missing::Decode),
        },
    }
}

fn float(spec: &PointSpec, number: &Number) -> Outcome {
    let register = &spec.register;
    #[allow(clippy::cast_precision_loss, reason = "a 64-bit counter beyond 2^53 loses less than its own resolution")]
    let raw = match *number {
        Number::Integer(integer) => integer as f64,
        Number::Float(float) => float,
    };
    let converted = register.conversion.apply(raw) + register.offset;
    let value = if register.invert { -converted } else { converted };
    if !value.is_finite() {
        return Outcome::Missing(Missing::Decode);
    }
    // Minus zero would be written as "-0": a sign where there is no direction.
    let value = Value::Float(if value == 0.0 { 0.0 } else { value });
    match (&spec.valid, &value) {
        (Some(valid), Value::Float(v)) if !valid.contains(v) => Outcome::Suspect(value, Suspicion::OutOfRange),
        _ => Outcome::Good(value),
    }
}

/// A code or a count: only a whole number that fits, never a rounded one.
fn integer(register: &RegisterPoint, number: &Number) -> Option<i64> {
    let whole = match *number {
        Number::Integer(integer) => integer,
        #[allow(clippy::cast_possible_truncation, reason = "checked to be whole and within 2^53")]
        Number::Float(float) if float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0 => float as i128,
        Number::Float(_) => return None,
    };
    i64::try_from(if register.invert { -whole } else { whole }).ok()
}

fn text(register: &RegisterPoint, code: i64) -> std::sync::Arc<str> {
    match register.texts.iter().find(|(known, _)| *known == code) {
        Some((_, word)) => std::sync::Arc::clone(word),
        None => code.to_string().into(),
    }
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "narrowing is how the cases are made")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::measure::{Conversion, Fold, RegisterTable, Unit};

    fn spec(raw: RawKind, word_order: WordOrder, shape: Shape) -> PointSpec {
        PointSpec {
            field: "x".try_into().expect("a field"),
            unit: Unit::One,
            shape,
            fold: Fold::Mean,
            valid: None,
            frozen_after: None,
            register: RegisterPoint {
                table: RegisterTable::Input,
                address: 0,
                raw,
                word_order,
                not_available: vec![],
                conversion: Conversion::IDENTITY,
                offset: 0.0,
                invert: false,
                texts: vec![(2, "charging".into())],
            },
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
