//! Where a value stands in the frames of a CAN bus, as a DBC file describes it.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

/// The longest message, of J1939's transport protocol, in bits: 255 packets of seven bytes.
const MESSAGE_BITS_MAX: u16 = 1785 * 8;
/// The longest payload of a frame, of CAN FD, in bits.
const FRAME_BITS_MAX: u16 = 64 * 8;

/// The order of a signal's bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BitOrder {
    /// Little-endian. The start bit is the least significant one.
    Intel,
    /// Big-endian. The start bit is the most significant one; bits count down within a byte, and go on at bit 7 of the next.
    Motorola,
}

/// A run of bits in a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BitField {
    order: BitOrder,
    start: u16,
    size: u8,
}

impl BitField {
    /// `start` as a DBC file has it: byte `start / 8`, bit `start % 8`, bit 0 being the least significant.
    ///
    /// # Errors
    /// It has no bit or more than 64, or does not lie within the 1,785 bytes of the longest message.
    pub fn new(order: BitOrder, start: u64, size: u64) -> Result<Self, String> {
        let outside = || format!("{size} bits from bit {start} on do not lie within a message of 1785 bytes");
        let Some(size @ 1..=64) = u8::try_from(size).ok() else {
            return Err(format!("has {size} bits; 1 to 64 are possible"));
        };
        let start = u16::try_from(start).ok().filter(|start| *start < MESSAGE_BITS_MAX).ok_or_else(outside)?;
        let field = Self { order, start, size };
        if field.last() >= MESSAGE_BITS_MAX { Err(outside()) } else { Ok(field) }
    }

    /// The order of its bits.
    #[must_use]
    pub fn order(self) -> BitOrder {
        self.order
    }

    /// How many bits, 1 to 64.
    #[must_use]
    pub fn size(self) -> u8 {
        self.size
    }

    /// Its first bit, counted in its own order: from the least significant bit of byte 0 (Intel), or from the most
    /// significant one (Motorola).
    #[must_use]
    pub fn first(self) -> u16 {
        match self.order {
            BitOrder::Intel => self.start,
            BitOrder::Motorola => self.start - self.start % 8 + 7 - self.start % 8,
        }
    }

    /// Whether it lies within what one frame can carry; beyond is a message of several.
    #[must_use]
    pub fn fits_a_frame(self) -> bool {
        self.last() < FRAME_BITS_MAX
    }

    /// Its last bit, counted in the same way.
    #[must_use]
    pub fn last(self) -> u16 {
        self.first() + u16::from(self.size) - 1
    }
}

/// What the bits of a signal are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SignalKind {
    /// A whole number.
    Unsigned,
    /// A whole number, two's complement.
    Signed,
    /// IEEE 754 binary32; 32 bits.
    F32,
    /// IEEE 754 binary64; 64 bits.
    F64,
}

/// Which frames: all whose id agrees with `id` in every bit of `mask`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrameMatch {
    /// Bits that do not count are 0.
    pub id: u32,
    /// Bits that count.
    pub mask: u32,
    /// An id of 29 bits.
    pub extended: bool,
}

impl FrameMatch {
    /// All bits of an id of 29 bits.
    pub const EXTENDED_MASK: u32 = 0x1fff_ffff;
    /// All bits of an id of 11 bits.
    pub const STANDARD_MASK: u32 = 0x7ff;

    /// Exactly this id.
    #[must_use]
    pub fn exactly(id: u32, extended: bool) -> Self {
        let mask = if extended { Self::EXTENDED_MASK } else { Self::STANDARD_MASK };
        Self { id: id & mask, mask, extended }
    }

    /// The parameter group of a J1939 id (SAE J1939-21, 5.2): priority and source address do not count, and neither does
    /// the destination of a group that is sent to somebody (PDU format below 240).
    #[must_use]
    pub fn parameter_group(id: u32) -> Self {
        let is_addressed = id >> 16 & 0xff < 240;
        let mask = if is_addressed { 0x03ff_0000 } else { 0x03ff_ff00 };
        Self { id: id & mask, mask, extended: true }
    }

    /// Whether it is a parameter group: the priority, and with it who is served first, does not count in it.
    #[must_use]
    pub fn is_group(self) -> bool {
        self.extended && self.mask & 0x1c00_0000 == 0
    }

    /// With these bits not counting.
    #[must_use]
    pub fn ignoring(self, bits: u32) -> Self {
        let mask = self.mask & !bits;
        Self { id: self.id & mask, mask, ..self }
    }

    /// With `number` in the bits from `shift` on, `bits` of them.
    #[must_use]
    pub fn with_number(self, shift: u8, bits: u8, number: u32) -> Self {
        let ones = u32::try_from((1_u64 << bits) - 1).unwrap_or(u32::MAX) << shift;
        Self { id: self.id & !ones | number << shift & ones, mask: self.mask | ones, ..self }
    }

    /// Whether a frame of this id is meant.
    #[must_use]
    pub fn accepts(self, id: u32, extended: bool) -> bool {
        extended == self.extended && id & self.mask == self.id
    }

    /// Whether some id is meant by both.
    #[must_use]
    pub fn meets(self, other: Self) -> bool {
        let both = self.mask & other.mask;
        self.extended == other.extended && self.id & both == other.id & both
    }
}

/// A signal, with all that it takes to read it from a frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Signal {
    /// Its name in the DBC file.
    pub name: Arc<str>,
    /// The name of its message.
    pub message: Arc<str>,
    /// The frames that carry it.
    pub frame: FrameMatch,
    /// Its bits.
    pub field: BitField,
    /// What they are.
    pub kind: SignalKind,
    /// Value = bits × factor + offset, in the signal's unit.
    pub factor: f64,
    /// See `factor`.
    pub offset: f64,
    /// It is there only if each of these multiplexors has one of its values.
    pub gates: Vec<Gate>,
}

/// A multiplexor, and the values of it by which a signal is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    /// The multiplexor's bits, read as an unsigned number.
    pub field: BitField,
    /// Any of these.
    pub values: Vec<RangeInclusive<u64>>,
}

/// A point that comes from signals on a CAN bus.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalPoint {
    /// From what it is made.
    pub formula: Formula,
    /// A signal that has not come for so long is not known any more.
    pub stale_after: Duration,
    /// The device need not send it: as long as it never came it is not missing.
    pub optional: bool,
}

/// How a point is made from signals.
#[derive(Debug, Clone, PartialEq)]
pub enum Formula {
    /// One signal as it is; `true`: its bits alone, without factor and offset (a code).
    Signal(Signal, bool),
    /// A sum of signals. Not empty.
    Sum(Vec<Term>),
    /// The first divided by the second; not known while that is 0.
    Quotient(Box<[Term; 2]>),
}

impl Formula {
    /// The signals that it needs by itself.
    pub fn signals(&self) -> impl Iterator<Item = &Signal> {
        let (one, many): (Option<&Signal>, &[Term]) = match self {
            Self::Signal(signal, _) => (Some(signal), &[]),
            Self::Sum(terms) => (None, terms),
            Self::Quotient(terms) => (None, terms.as_slice()),
        };
        one.into_iter().chain(many.iter().map(|term| &term.signal))
    }
}

impl Formula {
    /// Changes the signals that it needs by itself.
    pub fn for_each_signal(&mut self, mut change: impl FnMut(&mut Signal)) {
        match self {
            Self::Signal(signal, _) => change(signal),
            Self::Sum(terms) => terms.iter_mut().for_each(|term| change(&mut term.signal)),
            Self::Quotient(terms) => terms.iter_mut().for_each(|term| change(&mut term.signal)),
        }
    }
}

/// A signal in a sum.
#[derive(Debug, Clone, PartialEq)]
pub struct Term {
    /// Times this.
    pub times: f64,
    /// Its value.
    pub signal: Signal,
    /// A device that does not send it means 0.
    pub optional: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_motorola_start_bit_is_the_most_significant_bit() {
        let field = |start, size| BitField::new(BitOrder::Motorola, start, size).expect("fits");
        // Byte 0 bit 7 is the very first bit of a payload; byte 1 bit 0 the sixteenth.
        assert_eq!((field(7, 16).first(), field(7, 16).last()), (0, 15));
        assert_eq!((field(0, 2).first(), field(0, 2).last()), (7, 8));
        assert_eq!((field(39, 32).first(), field(39, 32).last()), (32, 63));
    }

    #[test]
    fn what_lies_outside_of_every_payload_is_refused() {
        for (order, start, size) in [
            (BitOrder::Intel, 0, 0),
            (BitOrder::Intel, 0, 65),
            (BitOrder::Intel, 14_273, 8),
            (BitOrder::Intel, 14_280, 1),
            (BitOrder::Motorola, 14_272, 2),
            (BitOrder::Motorola, u64::MAX, 1),
        ] {
            assert!(BitField::new(order, start, size).is_err(), "{order:?} {start} {size}");
        }
        for start in [504, 14_272] {
            let field = BitField::new(BitOrder::Intel, start, 8).expect("within the longest message");
            assert_eq!(field.fits_a_frame(), start == 504);
        }
        assert!(BitField::new(BitOrder::Motorola, 511, 8).is_ok_and(BitField::fits_a_frame));
    }

    #[test]
    fn a_parameter_group_is_met_from_any_source_and_at_any_priority() {
        // EEC1 is PGN 61444, broadcast; TSC1 is PGN 0, addressed.
        let eec1 = FrameMatch::parameter_group(0x0cf0_0400);
        assert!(eec1.accepts(0x18f0_0421, true) && !eec1.accepts(0x0cf0_0500, true));
        assert!(!eec1.accepts(0x0cf0_0400 & 0x7ff, false));
        let tsc1 = FrameMatch::parameter_group(0x0c00_0003);
        assert!(tsc1.accepts(0x0c00_2117, true) && !tsc1.accepts(0x0c01_2117, true));
        let from_one = eec1.with_number(0, 8, 0x21);
        assert!(from_one.accepts(0x18f0_0421, true) && !from_one.accepts(0x18f0_0422, true));
    }

    #[test]
    fn two_matches_meet_if_an_id_fits_both() {
        let one = FrameMatch::exactly(0x109, false);
        assert!(one.meets(one) && !one.meets(FrameMatch::exactly(0x10a, false)));
        assert!(!one.meets(FrameMatch::exactly(0x109, true)));
        let group = FrameMatch::parameter_group(0x18f0_0400);
        assert!(group.meets(group.with_number(0, 8, 1)));
        assert!(!group.with_number(0, 8, 2).meets(group.with_number(0, 8, 1)));
    }
}
