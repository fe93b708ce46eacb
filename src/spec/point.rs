//! What a device offers: points, where each stands on the wire and what it means.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::derived::DerivedPoint;
use super::name::FieldName;
use super::session::SessionValue;
use super::signal::SignalPoint;
use super::unit::{Conversion, Unit};

/// One quantity of one device.
#[derive(Debug, Clone, PartialEq)]
pub struct PointSpec {
    /// Its name on the wire.
    pub field: FieldName,
    /// Its unit on the wire (see [`Unit::wire`]).
    pub unit: Unit,
    /// What kind of value the wire carries.
    pub value_type: ValueType,
    /// How several readings in one window become one value.
    pub aggregation: Aggregation,
    /// Values outside, in the wire's unit, are `Questionable(OutOfRange)`; `None`: as the table of [`PointSpec::range`] says.
    pub valid: Option<RangeInclusive<f64>>,
    /// Bit-identical, and not 0, for longer than this while the device's other points move: `Questionable(Frozen)`.
    pub frozen_after: Option<Duration>,
    /// From what the device says to what the wire carries.
    pub scaling: Scaling,
    /// Where it comes from.
    pub origin: Origin,
}

impl PointSpec {
    /// From which signals it comes; `None` for a point of another wire.
    #[must_use]
    pub fn signal(&self) -> Option<&SignalPoint> {
        match &self.origin {
            Origin::Signal(signal) => Some(signal),
            Origin::Register(_) | Origin::SunSpec(_) | Origin::Session(_) | Origin::Derived(_) => None,
        }
    }

    /// Where it stands in a Modbus device; `None` for a point of another wire.
    #[must_use]
    pub fn register(&self) -> Option<&RegisterPoint> {
        match &self.origin {
            Origin::Register(register) => Some(register),
            Origin::SunSpec(_) | Origin::Signal(_) | Origin::Session(_) | Origin::Derived(_) => None,
        }
    }

    /// Of what it is worked out; `None` for a point that comes over a wire.
    #[must_use]
    pub fn derived(&self) -> Option<&DerivedPoint> {
        match &self.origin {
            Origin::Derived(derived) => Some(derived),
            Origin::Register(_) | Origin::SunSpec(_) | Origin::Signal(_) | Origin::Session(_) => None,
        }
    }
}

/// What a device's number means, whatever wire it came over.
#[derive(Debug, Clone, PartialEq)]
pub struct Scaling {
    /// From the device's number to the wire's unit: its scale and the conversion of the unit in one.
    pub conversion: Conversion,
    /// Added after the conversion, in the wire's unit.
    pub offset: f64,
    /// Turn the sign, because the device counts export as positive.
    pub invert: bool,
    /// For [`ValueType::Text`]: what each code means. A code not listed is written as its number.
    pub texts: Vec<(i128, Arc<str>)>,
}

impl Default for Scaling {
    /// The number as it came.
    fn default() -> Self {
        Self { conversion: Conversion::IDENTITY, offset: 0.0, invert: false, texts: Vec::new() }
    }
}

impl Scaling {
    /// A number of the device as the wire has it. Never minus zero: that would be a sign where there is no direction.
    #[must_use]
    pub fn number(&self, raw: f64) -> f64 {
        let converted = self.conversion.apply(raw) + self.offset;
        let value = if self.invert { -converted } else { converted };
        if value == 0.0 { 0.0 } else { value }
    }
}

/// Where a point comes from: a wire, by its kind, or other points.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// Registers of a Modbus device.
    Register(RegisterPoint),
    /// A model of a SunSpec device, wherever it stands in its registers.
    SunSpec(SunSpecPoint),
    /// Signals in the frames of a CAN bus.
    Signal(SignalPoint),
    /// A value of an ISO 15118 session.
    Session(SessionPoint),
    /// Worked out of other points of the device.
    Derived(DerivedPoint),
}

/// A quantity of a SunSpec device.
#[derive(Debug, Clone, PartialEq)]
pub struct SunSpecPoint {
    /// The models' points that may carry it: the first that the device has is taken.
    pub from: Vec<SunSpecSource>,
}

/// A point of one of these SunSpec models.
#[derive(Debug, Clone, PartialEq)]
pub struct SunSpecSource {
    /// Numbers of models that have it in the same meaning.
    pub models: RangeInclusive<u16>,
    /// Its name there.
    pub point: Arc<str>,
    /// Turn the sign: these models count what leaves the device as positive.
    pub invert: bool,
    /// From the models' unit to the point's: 100 for a ratio in percent.
    pub divide: f64,
}

/// A value of an ISO 15118 session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionPoint {
    /// Which one.
    pub value: SessionValue,
}

/// The type of a value on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueType {
    /// A 64-bit float.
    Float,
    /// A 64-bit signed integer: a code or a count.
    Integer,
    /// Words: a state.
    Text,
}

/// How the readings of one window become one value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Aggregation {
    /// The mean: power, voltage, current, temperature.
    #[default]
    Mean,
    /// The newest: energy counters, states, codes, SoC.
    Last,
}

impl Aggregation {
    /// What is meant unless somebody says otherwise: counters and codes are the newest, all else is a mean.
    #[must_use]
    pub fn usual(value_type: ValueType, wire_unit: Unit) -> Self {
        let is_counter = matches!(wire_unit, Unit::KilowattHour | Unit::KilovarHour | Unit::KilovoltAmpereHour);
        if value_type == ValueType::Float && !is_counter { Self::Mean } else { Self::Last }
    }
}

/// The four tables of a Modbus device, by the function code that reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RegisterTable {
    /// Function code 3.
    Holding,
    /// Function code 4.
    Input,
    /// Function code 1: single bits, each of which stands for a register here.
    Coil,
    /// Function code 2: single bits, as well.
    Discrete,
}

impl RegisterTable {
    /// Whether it holds single bits.
    #[must_use]
    pub fn is_of_bits(self) -> bool {
        matches!(self, Self::Coil | Self::Discrete)
    }

    /// The word of profiles and of people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Holding => "holding",
            Self::Input => "input",
            Self::Coil => "coil",
            Self::Discrete => "discrete",
        }
    }

    /// The function code that reads it.
    #[must_use]
    pub fn function(self) -> u8 {
        match self {
            Self::Coil => 1,
            Self::Discrete => 2,
            Self::Holding => 3,
            Self::Input => 4,
        }
    }
}

/// A run of registers that one request reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegisterBlock {
    /// Of which unit; `None` is the device's own. Some devices spread over several units of one address.
    pub unit: Option<u8>,
    /// Which table.
    pub table: RegisterTable,
    /// Zero-based address of the first, as on the wire.
    pub start: u16,
    /// 1 to 125 registers, or 1 to 2000 bits (Modbus Application Protocol 1.1b3, 6.1 to 6.4).
    pub count: u16,
}

impl RegisterBlock {
    /// Whether its reply brings all of the other.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let end = |block: &Self| u32::from(block.start) + u32::from(block.count);
        (self.unit, self.table) == (other.unit, other.table) && self.start <= other.start && end(other) <= end(self)
    }
}

/// Where a point stands in a Modbus device and how its registers become a raw number.
///
/// In this order: the bytes of each register, the order of the registers, the bits that count, "not available", the
/// type, the scale register.
#[derive(Debug, Clone, PartialEq)]
pub struct RegisterPoint {
    /// Of which unit; `None` is the device's own.
    pub unit: Option<u8>,
    /// Which table.
    pub table: RegisterTable,
    /// Zero-based address of its first register, as on the wire.
    pub address: u16,
    /// How the registers are read.
    pub raw: RawKind,
    /// Which byte of a register comes first.
    pub byte_order: ByteOrder,
    /// Which register of a multi-register value comes first.
    pub word_order: WordOrder,
    /// A bit field: only these bits count, moved down so that the lowest of them has the value 1. One run of bits within
    /// the width of an integer kind.
    pub mask: Option<u64>,
    /// Raw values, as unsigned integers of the point's width (or of its bit field), by which the device says "not
    /// available".
    pub not_available: Vec<u64>,
    /// Where the scale stands, if it is no constant.
    pub scale: Option<ScaleRegister>,
}

impl RegisterPoint {
    /// How many registers it takes.
    #[must_use]
    pub fn width(&self) -> u16 {
        self.raw.width()
    }

    /// The registers that one request must read together, or the value means nothing: the value's own and, if it has one,
    /// those of its scale.
    #[must_use]
    pub fn extent(&self) -> RegisterBlock {
        let (mut start, mut end) = (u32::from(self.address), u32::from(self.address) + u32::from(self.width()));
        if let Some(scale) = &self.scale {
            start = start.min(scale.address.into());
            end = end.max(u32::from(scale.address) + u32::from(scale.raw.width()));
        }
        let (unit, table) = (self.unit, self.table);
        // A profile whose points do not lie within the address space is refused.
        let count = u16::try_from(end - start).unwrap_or(u16::MAX);
        RegisterBlock { unit, table, start: u16::try_from(start).unwrap_or(u16::MAX), count }
    }
}

/// A register by which a device scales a value. It is read in the value's own request: a scale that was read before or
/// after it may belong to another value.
#[derive(Debug, Clone, PartialEq)]
pub struct ScaleRegister {
    /// Zero-based address of its first register, in the value's unit and table.
    pub address: u16,
    /// How it is read; bytes and words in the order of the value's.
    pub raw: RawKind,
    /// What it holds.
    pub kind: ScaleKind,
    /// As in [`RegisterPoint::not_available`]: without a scale there is no value.
    pub not_available: Vec<u64>,
}

/// What a scale register holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ScaleKind {
    /// The power of ten, -10 to 10 (SunSpec `sunssf`).
    Exponent,
    /// The factor itself.
    Factor,
}

/// How a value lies in its registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RawKind {
    /// 16 bits unsigned.
    U16,
    /// 16 bits, two's complement.
    I16,
    /// 32 bits unsigned.
    U32,
    /// 32 bits, two's complement.
    I32,
    /// 64 bits unsigned.
    U64,
    /// 64 bits, two's complement.
    I64,
    /// IEEE 754 binary16.
    F16,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64.
    F64,
    /// A coil or a discrete input: 0 or 1.
    Bit,
    /// Four decimal digits, one in each half byte.
    Bcd16,
    /// Eight decimal digits.
    Bcd32,
    /// Sixteen decimal digits.
    Bcd64,
    /// A date and time in four registers: year, month and day, hour and minute, milliseconds (the bit fields of IEC
    /// 60870-5 CP56Time2a in the order of Schneider Electric's TI081). Read as seconds since 1970 of the device's own clock.
    DateTimePacked,
    /// A date and time in six registers: year (0 to 99 is 2000 to 2099), month, day, hour, minute, second. Read as seconds
    /// since 1970 of the device's own clock.
    DateTimeParts,
    /// A text of so many registers, two characters in each, up to its end or the first NUL.
    Text(u16),
    /// A text of so many registers, one character in each, up to its end or the first NUL.
    WideText(u16),
    /// So many registers as hexadecimal digits: an identifier that is no text.
    Bytes(u16),
}

impl RawKind {
    /// How many registers it takes.
    #[must_use]
    pub fn width(self) -> u16 {
        match self {
            Self::U16 | Self::I16 | Self::F16 | Self::Bcd16 | Self::Bit => 1,
            Self::U32 | Self::I32 | Self::F32 | Self::Bcd32 => 2,
            Self::U64 | Self::I64 | Self::F64 | Self::Bcd64 | Self::DateTimePacked => 4,
            Self::DateTimeParts => 6,
            Self::Text(registers) | Self::WideText(registers) | Self::Bytes(registers) => registers,
        }
    }

    /// Whether it is a whole number of 16 to 64 bits.
    #[must_use]
    pub fn is_integer(self) -> bool {
        matches!(self, Self::U16 | Self::I16 | Self::U32 | Self::I32 | Self::U64 | Self::I64)
    }

    /// Whether it is words and no number.
    #[must_use]
    pub fn is_text(self) -> bool {
        matches!(self, Self::Text(_) | Self::WideText(_) | Self::Bytes(_))
    }
}

/// Which register of a multi-register value comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WordOrder {
    /// Most significant word first: the standard's order.
    MswFirst,
    /// Least significant word first: "CDAB".
    LswFirst,
}

/// Which byte of a register comes first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ByteOrder {
    /// The high byte: Modbus Application Protocol 1.1b3, 4.2.
    #[default]
    Big,
    /// The low byte: "BADC", or "DCBA" with the least significant word first.
    Little,
}
