//! Registers become raw values. Every function here is total: no words make it panic.

use std::fmt::Write;

use super::layout::Place;
use crate::measure::Raw;
use crate::spec::{ByteOrder, RawKind, RegisterPoint, ScaleKind, ScaleRegister, WordOrder};

/// What the words of a block say of a point that has this place in it; `None` if the device says "not available", or nothing
/// that its type can be.
pub(super) fn raw(register: &RegisterPoint, place: &Place, words: &[u16]) -> Option<Raw> {
    let raw = decoded(register, words.get(place.own.clone())?)?;
    match (&register.scale, &place.scale) {
        (Some(scale), Some(at)) => scaled(&raw, scale.kind, &factor(register, scale, words.get(at.clone())?)?),
        _ => Some(raw),
    }
}

fn decoded(register: &RegisterPoint, words: &[u16]) -> Option<Raw> {
    let mut ordered = words.iter().map(|word| ordered(register.byte_order, *word));
    match register.raw {
        RawKind::Text(_) => text(ordered.flat_map(u16::to_be_bytes).map(u16::from)),
        RawKind::WideText(_) => text(ordered),
        RawKind::Bytes(_) => bytes(ordered),
        RawKind::DateTimePacked => date_time_packed(chunk(&mut ordered)?).map(|s| Raw::Integer(s.into())),
        RawKind::DateTimeParts => date_time_parts(chunk(&mut ordered)?).map(|s| Raw::Integer(s.into())),
        kind => number(kind, register, words),
    }
}

fn ordered(order: ByteOrder, word: u16) -> u16 {
    match order {
        ByteOrder::Big => word,
        ByteOrder::Little => word.swap_bytes(),
    }
}

fn chunk<const N: usize>(words: &mut impl Iterator<Item = u16>) -> Option<[u16; N]> {
    let mut chunk = [0; N];
    for place in &mut chunk {
        *place = words.next()?;
    }
    Some(chunk)
}

/// The words as one unsigned number. At most four.
fn joined(register: &RegisterPoint, words: &[u16]) -> u64 {
    let join = |bits: u64, word: &u16| bits << 16 | u64::from(ordered(register.byte_order, *word));
    match register.word_order {
        WordOrder::MswFirst => words.iter().fold(0, join),
        WordOrder::LswFirst => words.iter().rev().fold(0, join),
    }
}

fn number(kind: RawKind, register: &RegisterPoint, words: &[u16]) -> Option<Raw> {
    let whole = joined(register, words);
    let width = 16 * u32::from(kind.width());
    let (bits, width) = match register.mask {
        Some(mask) if mask != 0 => ((whole & mask) >> mask.trailing_zeros(), mask.count_ones()),
        _ => (whole, width),
    };
    (!register.not_available.contains(&bits)).then(|| interpreted(kind, bits, width)).flatten()
}

/// What a number of `width` bits (1 to 64) says as this kind.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "the bits of a narrower kind fill only its width, and reinterpreting them is the point"
)]
fn interpreted(kind: RawKind, bits: u64, width: u32) -> Option<Raw> {
    let unused = 64 - width.clamp(1, 64);
    match kind {
        RawKind::I16 | RawKind::I32 | RawKind::I64 => Some(Raw::Integer((((bits << unused) as i64) >> unused).into())),
        RawKind::F16 => Some(Raw::Float(half(bits as u16))),
        RawKind::F32 => Some(Raw::Float(f32::from_bits(bits as u32).into())),
        RawKind::F64 => Some(Raw::Float(f64::from_bits(bits))),
        RawKind::Bcd16 | RawKind::Bcd32 | RawKind::Bcd64 => decimal(bits).map(|number| Raw::Integer(number.into())),
        _ => Some(Raw::Integer(bits.into())),
    }
}

/// A number of IEEE 754 binary16: sign, five bits of exponent, ten of fraction.
fn half(bits: u16) -> f64 {
    let fraction = f64::from(bits & 0x3FF) / 1024.0;
    let magnitude = match i32::from(bits >> 10 & 0x1F) {
        0 => fraction * 2_f64.powi(-14),
        31 if bits & 0x3FF == 0 => f64::INFINITY,
        31 => f64::NAN,
        exponent => (1.0 + fraction) * 2_f64.powi(exponent - 15),
    };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}

/// Sixteen decimal digits, one in each half byte; `None` if one is none.
fn decimal(bits: u64) -> Option<u64> {
    (0..16).rev().map(|digit| bits >> (4 * digit) & 0xF).try_fold(0, |number, digit| {
        let is_digit = digit <= 9;
        is_digit.then_some(number * 10 + digit)
    })
}

/// Printable characters up to the first NUL, without the blanks around; `None` if there are none, or if any is no text.
fn text(characters: impl Iterator<Item = u16>) -> Option<Raw> {
    let used: Vec<u16> = characters.take_while(|character| *character != 0).collect();
    let text = String::from_utf16(&used).ok()?;
    let text = text.trim();
    // A device without a text fills it with ones.
    let is_text = !text.is_empty() && !text.chars().any(|c| c.is_control() || c == '\u{FFFF}' || c == '\u{FF}');
    is_text.then(|| Raw::Text(text.into()))
}

/// Hexadecimal digits; `None` if all bits are the same, which is nobody's identifier.
fn bytes(words: impl Iterator<Item = u16>) -> Option<Raw> {
    let mut digits = String::new();
    for word in words {
        // Into a string: cannot fail.
        let _ = write!(digits, "{word:04x}");
    }
    let is_blank = digits.bytes().all(|digit| digit == b'0') || digits.bytes().all(|digit| digit == b'f');
    (!is_blank).then(|| Raw::Text(digits.into()))
}

/// Word 1 bits 0 to 6: year after 2000; word 2 bits 8 to 11: month, bits 0 to 4: day; word 3 bits 8 to 12: hour, bits 0 to
/// 5: minute, bit 7: invalid; word 4: milliseconds of the minute.
fn date_time_packed(words: [u16; 4]) -> Option<i64> {
    let [year, date, time, ms] = words.map(i64::from);
    let is_valid = time >> 7 & 1 == 0;
    let second = ms / 1000;
    is_valid
        .then(|| seconds(2000 + (year & 0x7F), date >> 8 & 0xF, date & 0x1F, time >> 8 & 0x1F, time & 0x3F, second))?
}

fn date_time_parts(words: [u16; 6]) -> Option<i64> {
    let [year, month, day, hour, minute, second] = words.map(i64::from);
    seconds(if year < 100 { 2000 + year } else { year }, month, day, hour, minute, second)
}

/// Seconds since 1970-01-01 00:00 of a date and time by the same clock; `None` if there is no such time.
fn seconds(year: i64, month: i64, day: i64, hour: i64, minute: i64, second: i64) -> Option<i64> {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_of_month = match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let exists = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_of_month).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..60).contains(&second);
    // The year begins in March, so that the leap day is its last (Hinnant, "chrono-compatible low-level date algorithms").
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 719_469;
    exists.then_some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// The number in a scale register; `None` if it is none to scale by.
fn factor(register: &RegisterPoint, scale: &ScaleRegister, words: &[u16]) -> Option<Raw> {
    let bits = joined(register, words);
    let is_there = !scale.not_available.contains(&bits);
    is_there.then(|| interpreted(scale.raw, bits, 16 * u32::from(scale.raw.width()))).flatten()
}

/// The value times its scale. A quotient where the scale is below 1: 2304 tenths are 230.4, while times 0.1 they are not.
fn scaled(raw: &Raw, kind: ScaleKind, scale: &Raw) -> Option<Raw> {
    #[allow(clippy::cast_precision_loss, reason = "a 64-bit counter beyond 2^53 loses less than its own resolution")]
    let float = |raw: &Raw| match raw {
        Raw::Integer(integer) => Some(*integer as f64),
        Raw::Float(float) => Some(*float),
        Raw::Text(_) => None,
    };
    let value = float(raw)?;
    let scaled = match (kind, scale) {
        (ScaleKind::Exponent, Raw::Integer(exponent @ 0..=10)) => value * 10_f64.powi(i32::try_from(*exponent).ok()?),
        (ScaleKind::Exponent, Raw::Integer(exponent @ -10..0)) => value / 10_f64.powi(i32::try_from(-exponent).ok()?),
        (ScaleKind::Exponent, _) => return None,
        (ScaleKind::Factor, factor) => {
            let factor = float(factor).filter(|factor| *factor != 0.0)?;
            value * factor
        }
    };
    scaled.is_finite().then_some(Raw::Float(scaled))
}

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "narrowing is how the cases are made")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::measure::{Missing, Outcome, Questionable, Value};
    use crate::normalise::scaling;
    use crate::spec::{Aggregation, Origin, PointSpec, RegisterTable, Scaling, Unit, ValueType};

    /// What a block that is just the point says of it.
    fn raw(register: &RegisterPoint, words: &[u16]) -> Option<Raw> {
        super::raw(register, &Place::of(register, &register.extent())?, words)
    }

    /// The whole way of a point's words.
    fn outcome(spec: &PointSpec, words: &[u16]) -> Outcome {
        let register = spec.register().expect("a register");
        raw(register, words).map_or(Outcome::Missing(Missing::Decode), |raw| scaling::outcome(spec, &raw))
    }

    fn register(raw: RawKind, byte_order: ByteOrder, word_order: WordOrder) -> RegisterPoint {
        RegisterPoint {
            unit: None,
            table: RegisterTable::Input,
            address: 0,
            raw,
            byte_order,
            word_order,
            mask: None,
            not_available: vec![],
            scale: None,
        }
    }

    fn spec(register: RegisterPoint, value_type: ValueType) -> PointSpec {
        PointSpec {
            field: "x".try_into().expect("a field"),
            unit: Unit::One,
            value_type,
            aggregation: Aggregation::Mean,
            valid: None,
            frozen_after: None,
            scaling: Scaling { texts: vec![(2, "charging".into())], ..Scaling::default() },
            origin: Origin::Register(register),
        }
    }

    /// The words of a value whose bytes are given most significant first.
    fn words(bytes: &[u8], byte_order: ByteOrder, word_order: WordOrder) -> Vec<u16> {
        let pair = |pair: &[u8]| match byte_order {
            ByteOrder::Big => u16::from(pair[0]) * 256 + u16::from(pair[1]),
            ByteOrder::Little => u16::from(pair[1]) * 256 + u16::from(pair[0]),
        };
        let mut words: Vec<u16> = bytes.chunks(2).map(pair).collect();
        if word_order == WordOrder::LswFirst {
            words.reverse();
        }
        words
    }

    fn orders() -> impl Strategy<Value = (ByteOrder, WordOrder)> {
        let bytes = prop_oneof![Just(ByteOrder::Big), Just(ByteOrder::Little)];
        (bytes, prop_oneof![Just(WordOrder::MswFirst), Just(WordOrder::LswFirst)])
    }

    fn any_kind() -> impl Strategy<Value = RawKind> {
        prop_oneof![
            Just(RawKind::U16),
            Just(RawKind::I16),
            Just(RawKind::U32),
            Just(RawKind::I32),
            Just(RawKind::U64),
            Just(RawKind::I64),
            Just(RawKind::F16),
            Just(RawKind::Bit),
            Just(RawKind::F32),
            Just(RawKind::F64),
            Just(RawKind::Bcd16),
            Just(RawKind::Bcd32),
            Just(RawKind::Bcd64),
            Just(RawKind::DateTimePacked),
            Just(RawKind::DateTimeParts),
            (1_u16..20).prop_map(RawKind::Text),
            (1_u16..20).prop_map(RawKind::WideText),
            (1_u16..20).prop_map(RawKind::Bytes),
        ]
    }

    proptest! {
        #[test]
        fn every_integer_kind_reads_what_was_written(value: i64, (byte, word) in orders()) {
            let cases: [(RawKind, Vec<u8>, i128); 6] = [
                (RawKind::U16, (value as u16).to_be_bytes().to_vec(), (value as u16).into()),
                (RawKind::I16, (value as i16).to_be_bytes().to_vec(), (value as i16).into()),
                (RawKind::U32, (value as u32).to_be_bytes().to_vec(), (value as u32).into()),
                (RawKind::I32, (value as i32).to_be_bytes().to_vec(), (value as i32).into()),
                (RawKind::U64, (value as u64).to_be_bytes().to_vec(), (value as u64).into()),
                (RawKind::I64, value.to_be_bytes().to_vec(), value.into()),
            ];
            for (kind, bytes, expected) in cases {
                let expected = i64::try_from(expected)
                    .map_or(Outcome::Missing(Missing::Decode), |code| Outcome::Good(Value::Integer(code)));
                let spec = spec(register(kind, byte, word), ValueType::Integer);
                prop_assert_eq!(outcome(&spec, &words(&bytes, byte, word)), expected);
            }
        }

        #[test]
        fn floats_are_read_to_the_bit_and_what_is_not_finite_is_missing(value: f64, narrow: f32, (byte, word) in orders()) {
            let wide = spec(register(RawKind::F64, byte, word), ValueType::Float);
            // What no quantity is as large or small as is kept to the bit, too, and doubted.
            let expected = |value: f64| match value {
                _ if !value.is_finite() => Outcome::Missing(Missing::Decode),
                _ if wide.makes_sense(value) => Outcome::Good(Value::Float(value)),
                _ => Outcome::Questionable(Value::Float(value), Questionable::OutOfRange),
            };
            prop_assert_eq!(outcome(&wide, &words(&value.to_be_bytes(), byte, word)), expected(value));
            let small = spec(register(RawKind::F32, byte, word), ValueType::Float);
            prop_assert_eq!(outcome(&small, &words(&narrow.to_be_bytes(), byte, word)), expected(narrow.into()));
        }

        #[test]
        fn decimal_digits_are_read_as_their_number(value in 0_u64..10_000_000_000_000_000, (byte, word) in orders()) {
            for (kind, digits) in [(RawKind::Bcd16, 4_usize), (RawKind::Bcd32, 8), (RawKind::Bcd64, 16)] {
                let number = value % 10_u64.pow(digits as u32);
                let text = format!("{number:0digits$}");
                let digit = |c: &u8| c - b'0';
                let bytes: Vec<u8> = text.as_bytes().chunks(2).map(|pair| digit(&pair[0]) << 4 | digit(&pair[1])).collect();
                let point = register(kind, byte, word);
                prop_assert_eq!(raw(&point, &words(&bytes, byte, word)), Some(Raw::Integer(number.into())));
            }
        }

        #[test]
        fn a_text_is_read_in_either_width_and_byte_order(text in "[!-~äöü]([ -~äöü]{0,12}[!-~äöü])?", little: bool) {
            let byte = if little { ByteOrder::Little } else { ByteOrder::Big };
            let expected = Some(Raw::Text(text.as_str().into()));
            let mut latin: Vec<u8> = text.chars().map(|c| c as u8).collect();
            latin.resize(16, 0);
            let narrow = register(RawKind::Text(8), byte, WordOrder::MswFirst);
            prop_assert_eq!(raw(&narrow, &words(&latin, byte, WordOrder::MswFirst)), expected.clone());
            let wide_bytes: Vec<u8> = latin.iter().flat_map(|b| [0, *b]).collect();
            let wide = register(RawKind::WideText(16), byte, WordOrder::MswFirst);
            prop_assert_eq!(raw(&wide, &words(&wide_bytes, byte, WordOrder::MswFirst)), expected);
        }

        #[test]
        fn an_identifier_is_read_as_its_digits(id in proptest::collection::vec(1_u8..255, 2..=20)) {
            prop_assume!(id.len() % 2 == 0);
            let digits: String = id.iter().map(|b| format!("{b:02x}")).collect();
            let point = register(RawKind::Bytes(u16::try_from(id.len() / 2).expect("short")), ByteOrder::Big, WordOrder::MswFirst);
            let words = words(&id, ByteOrder::Big, WordOrder::MswFirst);
            prop_assert_eq!(raw(&point, &words), Some(Raw::Text(digits.into())));
        }

        #[test]
        fn a_bit_field_is_read_alone_and_with_its_own_sign(around: u64, value: i64, low in 0_u32..64, bits in 1_u32..=64, (byte, word) in orders()) {
            let bits = bits.min(64 - low);
            let field = if bits == 64 { u64::MAX } else { (1 << bits) - 1 };
            let (mask, value) = (field << low, value as u64 & field);
            let bytes = ((around & !mask) | (value << low)).to_be_bytes();
            let signed = if value >> (bits - 1) & 1 == 1 { i128::from(value) - (1_i128 << bits) } else { value.into() };
            for (kind, expected) in [(RawKind::U64, value.into()), (RawKind::I64, signed)] {
                let point = RegisterPoint { mask: Some(mask), ..register(kind, byte, word) };
                prop_assert_eq!(raw(&point, &words(&bytes, byte, word)), Some(Raw::Integer(expected)));
                let without = RegisterPoint { not_available: vec![value], ..point };
                prop_assert_eq!(raw(&without, &words(&bytes, byte, word)), None);
            }
        }

        #[test]
        fn a_time_is_read_in_either_form(second in 946_684_800_i64..4_102_444_800) {
            // Counted by days, not by the formula.
            let (mut days, mut year) = (second / 86_400 - 10_957, 2000_i64);
            let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            while days >= 365 + i64::from(leap(year)) {
                days -= 365 + i64::from(leap(year));
                year += 1;
            }
            let lengths = [31, 28 + i64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            let mut month = 0;
            while days >= lengths[month] {
                days -= lengths[month];
                month += 1;
            }
            let (day, month) = ((days + 1) as u16, month as u16 + 1);
            let [hour, minute, s] = [second / 3600 % 24, second / 60 % 60, second % 60].map(|x| x as u16);
            let parts = register(RawKind::DateTimeParts, ByteOrder::Big, WordOrder::MswFirst);
            let expected = Some(Raw::Integer(second.into()));
            prop_assert_eq!(raw(&parts, &[(year % 100) as u16, month, day, hour, minute, s]), expected.clone());
            let packed = register(RawKind::DateTimePacked, ByteOrder::Big, WordOrder::MswFirst);
            let words = [(year - 2000) as u16, month << 8 | 0xE0 | day, hour << 8 | minute, s * 1000 + 7];
            prop_assert_eq!(raw(&packed, &words), expected);
        }

        #[test]
        fn a_scale_register_scales_and_is_never_guessed(value: i16, exponent: i16, gap in 1_u16..50, before: bool) {
            let (address, scale_address) = if before { (gap, 0) } else { (0, gap) };
            let scale = ScaleRegister {
                address: scale_address,
                raw: RawKind::I16,
                kind: ScaleKind::Exponent,
                not_available: vec![0x8000],
            };
            let point = RegisterPoint { address, scale: Some(scale), ..register(RawKind::I16, ByteOrder::Big, WordOrder::MswFirst) };
            prop_assert_eq!((point.extent().start, point.extent().count), (0, gap + 1));
            let read = |exponent: i16| {
                let mut words = vec![0xAAAA; usize::from(gap) + 1];
                words[usize::from(address)] = value as u16;
                words[usize::from(scale_address)] = exponent as u16;
                raw(&point, &words)
            };
            if !(-10..=10).contains(&exponent) {
                prop_assert_eq!(read(exponent), None);
            }
            let small = exponent.rem_euclid(21) - 10;
            // The nearest number to the decimal, by the standard library's parser.
            let expected: f64 = format!("{value}e{small}").parse().expect("a number");
            prop_assert_eq!(read(small), Some(Raw::Float(expected)));
            prop_assert_eq!(raw(&point, &vec![1; usize::from(gap)]), None, "a block without all of it");
        }

        #[test]
        fn no_words_make_it_panic(
            words in proptest::collection::vec(any::<u16>(), 0..24),
            kind in any_kind(),
            (byte, word) in orders(),
            mask in proptest::option::of(any::<u64>()),
            scale in proptest::option::of((any::<u16>(), any_kind(), any::<bool>())),
            value_type in prop_oneof![Just(ValueType::Float), Just(ValueType::Integer), Just(ValueType::Text)],
        ) {
            let scale = scale.map(|(address, raw, is_exponent)| ScaleRegister {
                address,
                raw,
                kind: if is_exponent { ScaleKind::Exponent } else { ScaleKind::Factor },
                not_available: vec![],
            });
            let point = RegisterPoint { address: 5, mask, scale, ..register(kind, byte, word) };
            let _ = outcome(&spec(point, value_type), &words);
        }
    }

    #[test]
    fn a_half_is_read_as_ieee_754_has_it() {
        let point = RegisterPoint { address: 5, ..register(RawKind::F16, ByteOrder::Big, WordOrder::MswFirst) };
        for (bits, expected) in
            [(0x3C00, 1.0), (0xC900, -10.0), (0x0001, 2_f64.powi(-24)), (0x7BFF, 65_504.0), (0x8000, 0.0)]
        {
            assert_eq!(decoded(&point, &[bits]), Some(Raw::Float(expected)), "{bits:#06x}");
        }
    }

    #[test]
    fn a_code_is_written_as_its_word_or_else_as_its_number() {
        let state = spec(register(RawKind::U16, ByteOrder::Big, WordOrder::MswFirst), ValueType::Text);
        assert_eq!(outcome(&state, &[2]), Outcome::Good(Value::Text("charging".into())));
        assert_eq!(outcome(&state, &[77]), Outcome::Good(Value::Text("77".into())));
    }

    #[test]
    fn what_is_no_decimal_no_date_and_no_text_is_missing() {
        let point = |kind| register(kind, ByteOrder::Big, WordOrder::MswFirst);
        assert_eq!(raw(&point(RawKind::Bcd16), &[0x12A4]), None);
        assert_eq!(raw(&point(RawKind::DateTimeParts), &[25, 2, 29, 0, 0, 0]), None, "2025 is no leap year");
        assert_eq!(raw(&point(RawKind::DateTimeParts), &[24, 2, 29, 24, 0, 0]), None);
        assert_eq!(raw(&point(RawKind::DateTimePacked), &[25, 0x0101, 0x0080, 0]), None, "marked as invalid");
        assert_eq!(raw(&point(RawKind::DateTimePacked), &[25, 0x0101, 0, 60_000]), None);
        for blank in [0, 0x2020, u16::MAX, 0x0107] {
            assert_eq!(raw(&point(RawKind::Text(3)), &[blank; 3]), None, "{blank:#06x}");
        }
        for blank in [0, 0x20, u16::MAX, 0xD800] {
            assert_eq!(raw(&point(RawKind::WideText(3)), &[blank; 3]), None, "{blank:#06x}");
        }
        assert_eq!(raw(&point(RawKind::Bytes(2)), &[0, 0]), None);
        assert_eq!(raw(&point(RawKind::Bytes(2)), &[u16::MAX; 2]), None);
    }

    #[test]
    fn a_factor_register_multiplies_and_zero_or_nothing_is_no_factor() {
        let scale = ScaleRegister { address: 2, raw: RawKind::F32, kind: ScaleKind::Factor, not_available: vec![] };
        let point = RegisterPoint { scale: Some(scale), ..register(RawKind::U32, ByteOrder::Big, WordOrder::LswFirst) };
        let read = |factor: f32| {
            let bits = factor.to_bits();
            raw(&point, &[7, 0, bits as u16, (bits >> 16) as u16])
        };
        assert_eq!(read(2.5), Some(Raw::Float(17.5)));
        assert_eq!(read(0.0), None);
        assert_eq!(read(f32::NAN), None);
    }
}
