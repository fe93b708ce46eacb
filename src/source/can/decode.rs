//! Frames become values of signals. Pure and total: no frame makes it panic.
//!
//! Bits are read as a DBC file means them: Intel counts up from the least significant bit, Motorola down from the most
//! significant one. A signal that does not lie wholly within the payload that came has no value.

use std::collections::HashMap;

use hal::can::{Frame, FrameId};

use crate::measure::Raw;
use crate::spec::{BitField, BitOrder, FrameMatch, Gate, Signal, SignalKind};

/// Signals by the frames that carry them, ready to be read.
#[derive(Debug, Default)]
pub struct Decoder {
    signals: Vec<Row>,
    /// Signals of one id.
    exact: HashMap<FrameId, Vec<usize>>,
    /// Signals of many ids.
    masked: Vec<(FrameMatch, Vec<usize>)>,
}

/// One signal, ready to be read.
#[derive(Debug)]
struct Row {
    field: BitField,
    kind: SignalKind,
    factor: f64,
    offset: f64,
    /// The factor of a whole number, and the offset, if they are whole: then so is the value, and exact.
    whole_factor: Option<i128>,
    whole_offset: Option<i128>,
    gates: Vec<Gate>,
}

/// The value of a signal in one frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decoded {
    /// The bits as what they are, without factor and offset.
    pub bits: Number,
    /// In the signal's unit.
    pub value: Number,
}

/// A number, exact where it can be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    /// A whole one.
    Integer(i128),
    /// Any other; it need not be finite.
    Float(f64),
}

impl Number {
    /// The nearest floating-point number.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "64-bit counters beyond 2^53 lose less than anybody reads off them")]
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Integer(integer) => integer as f64,
            Self::Float(float) => float,
        }
    }
}

impl From<Number> for Raw {
    fn from(number: Number) -> Self {
        match number {
            Number::Integer(integer) => Self::Integer(integer),
            Number::Float(float) => Self::Float(float),
        }
    }
}

impl Decoder {
    /// Reads these signals; [`Decoder::decode`] names them by their place in the list.
    #[must_use]
    pub fn new<'s>(signals: impl IntoIterator<Item = &'s Signal>) -> Self {
        let mut decoder = Self::default();
        for (ix, signal) in signals.into_iter().enumerate() {
            decoder.signals.push(Row::of(signal));
            let frame = signal.frame;
            let all = if frame.extended { FrameMatch::EXTENDED_MASK } else { FrameMatch::STANDARD_MASK };
            match FrameId::new(frame.id, frame.extended) {
                Ok(id) if frame.mask == all => decoder.exact.entry(id).or_default().push(ix),
                _ => match decoder.masked.iter_mut().find(|(known, _)| *known == frame) {
                    Some((_, rows)) => rows.push(ix),
                    None => decoder.masked.push((frame, vec![ix])),
                },
            }
        }
        decoder
    }

    /// Reads a frame: of each signal that it is to carry its place in the list and what it says; `None` if the payload is
    /// too short. A multiplexed signal that is not in this frame is not told.
    pub fn decode(&self, frame: &Frame, out: impl FnMut(usize, Option<Decoded>)) {
        if !frame.remote {
            self.decode_message(frame.id, frame.data(), out);
        }
    }

    /// The same of what an id carries, whether in one frame or in several.
    pub fn decode_message(&self, id: FrameId, data: &[u8], mut out: impl FnMut(usize, Option<Decoded>)) {
        let (number, extended) = (id.number(), id.is_extended());
        let masked = self.masked.iter().filter(|(what, _)| what.accepts(number, extended)).map(|(_, rows)| rows);
        for ix in self.exact.get(&id).into_iter().chain(masked).flatten() {
            if let Some(row) = self.signals.get(*ix)
                && row.is_there(data)
            {
                out(*ix, row.read(data));
            }
        }
    }
}

impl Row {
    fn of(signal: &Signal) -> Self {
        let Signal { field, kind, factor, offset, gates, .. } = signal;
        let is_integer = matches!(kind, SignalKind::Unsigned | SignalKind::Signed);
        Self {
            field: *field,
            kind: *kind,
            factor: *factor,
            offset: *offset,
            whole_factor: whole(*factor).filter(|_| is_integer),
            whole_offset: whole(*offset),
            gates: gates.clone(),
        }
    }

    fn is_there(&self, data: &[u8]) -> bool {
        let open = |gate: &Gate| {
            bits(gate.field, data).is_some_and(|value| gate.values.iter().any(|range| range.contains(&value)))
        };
        self.gates.iter().all(open)
    }

    fn read(&self, data: &[u8]) -> Option<Decoded> {
        let bits = number(self.kind, self.field, bits(self.field, data)?);
        let scaled = match (bits, self.whole_factor) {
            (Number::Integer(integer), Some(factor)) => Number::Integer(integer * factor),
            _ => Number::Float(bits.as_f64() * self.factor),
        };
        let value = match (scaled, self.whole_offset) {
            (Number::Integer(integer), Some(offset)) => Number::Integer(integer + offset),
            _ => Number::Float(scaled.as_f64() + self.offset),
        };
        Some(Decoded { bits, value })
    }
}

/// A factor or an offset as a whole number, if it is one. 2^53 × 2^64 is far inside of 128 bits.
fn whole(number: f64) -> Option<i128> {
    #[allow(clippy::cast_possible_truncation, reason = "checked to be whole and within 2^53")]
    (number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0).then_some(number as i128)
}

/// The bits of a field as an unsigned number; `None` if they do not all lie within the payload.
fn bits(field: BitField, data: &[u8]) -> Option<u64> {
    let (first, last) = (field.first(), field.last());
    let bytes = data.get(usize::from(first / 8)..=usize::from(last / 8))?;
    let joined = |joined: u128, byte: &u8| joined << 8 | u128::from(*byte);
    let (joined, shift) = match field.order() {
        BitOrder::Intel => (bytes.iter().rev().fold(0, joined), first % 8),
        BitOrder::Motorola => (bytes.iter().fold(0, joined), 7 - last % 8),
    };
    #[allow(clippy::cast_possible_truncation, reason = "the mask leaves at most 64 bits")]
    Some((joined >> shift & ((1_u128 << field.size()) - 1)) as u64)
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "reinterpreting the bits of a field of 32 or 64 bits is the point"
)]
fn number(kind: SignalKind, field: BitField, bits: u64) -> Number {
    match kind {
        SignalKind::Unsigned => Number::Integer(bits.into()),
        SignalKind::Signed => {
            let unused = 64 - u32::from(field.size());
            Number::Integer(((bits << unused) as i64 >> unused).into())
        }
        SignalKind::F32 => Number::Float(f32::from_bits(bits as u32).into()),
        SignalKind::F64 => Number::Float(f64::from_bits(bits)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn field(order: BitOrder, start: u64, size: u64) -> BitField {
        BitField::new(order, start, size).expect("a field")
    }

    fn signal(field: BitField, kind: SignalKind, factor: f64, offset: f64) -> Signal {
        Signal {
            name: "s".into(),
            message: "m".into(),
            frame: FrameMatch::exactly(0x123, false),
            field,
            kind,
            factor,
            offset,
            gates: vec![],
        }
    }

    fn read(signal: &Signal, data: &[u8]) -> Vec<Option<Decoded>> {
        let frame = Frame::new(FrameId::Standard(0x123), data, data.len() > 8).expect("a frame");
        let mut found = Vec::new();
        Decoder::new([signal]).decode(&frame, |_, decoded| found.push(decoded));
        found
    }

    fn value(signal: &Signal, data: &[u8]) -> f64 {
        read(signal, data)[0].expect("a value").value.as_f64()
    }

    #[test]
    fn big_endian_start_bits_are_those_of_the_dbc_format() {
        use BitOrder::Motorola;
        let data = [0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0];
        for (start, size, expected) in [
            (7, 8, 0x12_u64),
            (7, 16, 0x1234),
            (15, 16, 0x3456),
            // From the low nibble of byte 0 into the high nibble of byte 1.
            (3, 8, 0x23),
            // One bit: bit 5 of byte 1 (0x34 = 0011 0100).
            (13, 1, 1),
            (12, 1, 1),
            (11, 1, 0),
            // Twelve bits from bit 2 of byte 0: 010 0011 0100 0.
            (2, 12, 0b0100_0110_1000),
            (39, 32, 0x9abc_def0),
            (7, 64, 0x1234_5678_9abc_def0),
        ] {
            assert_eq!(bits(field(Motorola, start, size), &data), Some(expected), "{start}|{size}@0");
        }
    }

    #[test]
    fn little_endian_start_bits_are_those_of_the_dbc_format() {
        use BitOrder::Intel;
        let data = [0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0];
        for (start, size, expected) in [
            (0, 8, 0x12_u64),
            (0, 16, 0x3412),
            (4, 8, 0x41),
            (8, 32, 0x9a78_5634),
            (12, 12, 0x563),
            (0, 64, 0xf0de_bc9a_7856_3412),
        ] {
            assert_eq!(bits(field(Intel, start, size), &data), Some(expected), "{start}|{size}@1");
        }
    }

    #[test]
    fn numbers_of_every_kind_are_read() {
        let f32_be = signal(field(BitOrder::Motorola, 7, 32), SignalKind::F32, 1.0, 0.0);
        assert_eq!(value(&f32_be, &[0x43, 0xc8, 0x20, 0, 0, 0, 0, 0]).to_bits(), 400.25_f64.to_bits());
        let f64_le = signal(field(BitOrder::Intel, 0, 64), SignalKind::F64, 2.0, 1.0);
        assert_eq!(value(&f64_le, &(-1.5_f64).to_le_bytes()).to_bits(), (-2.0_f64).to_bits());
        let signed = signal(field(BitOrder::Intel, 4, 12), SignalKind::Signed, 0.5, 0.0);
        assert_eq!(value(&signed, &[0xf0, 0xff]).to_bits(), (-0.5_f64).to_bits());
        let inverted = signal(field(BitOrder::Intel, 0, 8), SignalKind::Unsigned, -1.0, 255.0);
        assert_eq!(read(&inverted, &[0xff])[0].expect("a value").value, Number::Integer(0));
        assert_eq!(read(&inverted, &[0xf1])[0].expect("a value").value, Number::Integer(14));
        let all = signal(field(BitOrder::Intel, 0, 64), SignalKind::Unsigned, 3.0, 1.0);
        let most = read(&all, &[0xff; 8])[0].expect("a value").value;
        assert_eq!(most, Number::Integer(i128::from(u64::MAX) * 3 + 1), "exact beyond 2^53");
    }

    #[test]
    fn a_multiplexed_signal_is_there_only_with_its_multiplexor() {
        let gate = |start, values: &[std::ops::RangeInclusive<u64>]| Gate {
            field: field(BitOrder::Intel, start, 8),
            values: values.to_vec(),
        };
        let mut nested = signal(field(BitOrder::Intel, 16, 8), SignalKind::Unsigned, 1.0, 0.0);
        nested.gates = vec![gate(0, &[1..=2, 7..=7]), gate(8, &[5..=5])];
        for (data, there) in [([1, 5, 9], true), ([7, 5, 9], true), ([3, 5, 9], false), ([1, 6, 9], false)] {
            assert_eq!(read(&nested, &data).len(), usize::from(there), "{data:?}");
        }
        assert!(read(&nested, &[1]).is_empty(), "without its multiplexor nobody knows");
    }

    #[test]
    fn a_frame_that_is_too_short_has_no_value_and_a_remote_one_says_nothing() {
        let wide = signal(field(BitOrder::Intel, 8, 16), SignalKind::Unsigned, 1.0, 0.0);
        assert_eq!(read(&wide, &[1, 2]), [None]);
        let mut said = 0;
        Decoder::new([&wide]).decode(&Frame::remote(FrameId::Standard(0x123)), |_, _| said += 1);
        assert_eq!(said, 0);
    }

    #[test]
    fn a_signal_of_a_parameter_group_is_read_from_every_id_of_the_group() {
        let mut speed = signal(field(BitOrder::Intel, 24, 16), SignalKind::Unsigned, 0.125, 0.0);
        speed.frame = FrameMatch::parameter_group(0x0cf0_0400);
        let decoder = Decoder::new([&speed]);
        let count = |id| {
            let frame = Frame::new(FrameId::Extended(id), &[0; 8], false).expect("a frame");
            let mut count = 0;
            decoder.decode(&frame, |_, _| count += 1);
            count
        };
        assert_eq!((count(0x0cf0_0400), count(0x18f0_0421), count(0x18f0_0521)), (1, 1, 0));
    }

    /// Writes bits one by one, as the format's own words have it: an oracle that shares nothing with [`bits`].
    fn write(order: BitOrder, start: u16, size: u8, value: u64, data: &mut [u8]) {
        let (mut byte, mut bit) = (usize::from(start / 8), start % 8);
        for n in 0..size {
            let digit = match order {
                BitOrder::Intel => value >> n & 1,
                BitOrder::Motorola => value >> (size - 1 - n) & 1,
            };
            data[byte] = data[byte] & !(1 << bit) | u8::try_from(digit).expect("a bit") << bit;
            (byte, bit) = match (order, bit) {
                (BitOrder::Intel, 7) => (byte + 1, 0),
                (BitOrder::Intel, bit) => (byte, bit + 1),
                (BitOrder::Motorola, 0) => (byte + 1, 7),
                (BitOrder::Motorola, bit) => (byte, bit - 1),
            };
        }
    }

    proptest! {
        #[test]
        fn what_was_written_into_a_frame_is_read_from_it(
            motorola: bool,
            start in prop_oneof![0_u16..512, 0_u16..14_280],
            size in 1_u8..=64,
            value: u64,
            noise in prop::collection::vec(any::<u8>(), 1785),
        ) {
            let order = if motorola { BitOrder::Motorola } else { BitOrder::Intel };
            if let Ok(field) = BitField::new(order, start.into(), size.into()) {
                let mut data = noise.clone();
                let value = value >> (64 - size);
                write(order, start, size, value, &mut data);
                prop_assert_eq!(bits(field, &data), Some(value));
                let bytes = usize::from(field.last() / 8);
                prop_assert_eq!(bits(field, &data[..bytes]), None);
                prop_assert_eq!(bits(field, &data[..=bytes]), Some(value));
                // Nothing beside it was read: the same with the other noise.
                let mut inverted: Vec<u8> = noise.iter().map(|byte| !byte).collect();
                write(order, start, size, value, &mut inverted);
                prop_assert_eq!(bits(field, &inverted), Some(value));
            }
        }

        #[test]
        fn no_frame_makes_the_decoder_panic(
            start in 0_u64..15_000,
            size in 0_u64..70,
            motorola: bool,
            kind in 0_u8..4,
            factor in any::<f64>(),
            offset in any::<f64>(),
            data in prop::collection::vec(any::<u8>(), 0..=64),
        ) {
            let order = if motorola { BitOrder::Motorola } else { BitOrder::Intel };
            let kind = [SignalKind::Unsigned, SignalKind::Signed, SignalKind::F32, SignalKind::F64][usize::from(kind)];
            if let Ok(field) = BitField::new(order, start, size) {
                read(&signal(field, kind, factor, offset), &data);
            }
        }
    }
}
