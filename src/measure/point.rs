//! What a device offers: points, where each stands on the wire and what it means.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::id::{DeviceId, FieldName};
use super::schema::DeviceKind;
use super::session::SessionValue;
use super::unit::{Conversion, Unit};

/// A device as the plan has it: all that a source, the normaliser and the aggregator need of it.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceSpec {
    /// Its name on this gateway.
    pub id: DeviceId,
    /// The measurement of its lines on the wire.
    pub kind: DeviceKind,
    /// Its profile's name, for the catalog.
    pub profile: String,
    /// What it offers. A point's index in this list is its [`super::PointIx`].
    pub points: Arc<[PointSpec]>,
    /// How often each group of points is read; empty for a device that speaks by itself.
    pub groups: Vec<PollGroup>,
}

/// Points that are read together at one interval.
#[derive(Debug, Clone, PartialEq)]
pub struct PollGroup {
    /// Its name in the profile, `fast`, `slow`.
    pub name: String,
    /// Time between two reads of each point in it. 10 ms to 1 h.
    pub interval: Duration,
    /// The reads that cover all its points, each within the device's limit.
    pub blocks: Vec<RegisterBlock>,
}

/// One quantity of one device.
#[derive(Debug, Clone, PartialEq)]
pub struct PointSpec {
    /// Its name on the wire.
    pub field: FieldName,
    /// Its unit on the wire (see [`Unit::wire`]).
    pub unit: Unit,
    /// What kind of value the wire carries.
    pub shape: Shape,
    /// How several readings in one window become one value.
    pub fold: Fold,
    /// Values outside, in the wire's unit, are `Suspect(OutOfRange)`.
    pub valid: Option<RangeInclusive<f64>>,
    /// Bit-identical for longer than this while the device's other points move: `Suspect(Frozen)`.
    pub frozen_after: Option<Duration>,
    /// From what the device says to what the wire carries.
    pub meaning: Meaning,
    /// Where it comes from.
    pub origin: Origin,
}

impl PointSpec {
    /// Where it stands in a Modbus device; `None` for a point of another wire.
    #[must_use]
    pub fn register(&self) -> Option<&RegisterPoint> {
        match &self.origin {
            Origin::Register(register) => Some(register),
            Origin::Signal(_) | Origin::Session(_) => None,
        }
    }
}

/// What a device's number means, whatever wire it came over.
#[derive(Debug, Clone, PartialEq)]
pub struct Meaning {
    /// From the device's number to the wire's unit: its scale and the conversion of the unit in one.
    pub conversion: Conversion,
    /// Added after the conversion, in the wire's unit.
    pub offset: f64,
    /// Turn the sign, because the device counts export as positive.
    pub invert: bool,
    /// For [`Shape::Text`]: what each code means. A code not listed is written as its number.
    pub texts: Vec<(i64, Arc<str>)>,
}

impl Default for Meaning {
    /// The number as it came.
    fn default() -> Self {
        Self { conversion: Conversion::IDENTITY, offset: 0.0, invert: false, texts: Vec::new() }
    }
}

/// Where a point comes from, by kind of wire.
#[derive(Debug, Clone, PartialEq)]
pub enum Origin {
    /// Registers of a Modbus device.
    Register(RegisterPoint),
    /// A signal in the frames of a CAN bus.
    Signal(SignalPoint),
    /// A value of an ISO 15118 session.
    Session(SessionPoint),
}

/// A signal on a CAN bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignalPoint {
    /// Its name in the DBC file.
    pub signal: Arc<str>,
}

/// A value of an ISO 15118 session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionPoint {
    /// Which one.
    pub value: SessionValue,
}

/// The type of a value on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// A 64-bit float.
    Float,
    /// A 64-bit signed integer: a code or a count.
    Integer,
    /// Words: a state.
    Text,
}

/// How the readings of one window become one value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fold {
    /// The mean: power, voltage, current, temperature.
    #[default]
    Mean,
    /// The newest: energy counters, states, codes, SoC.
    Last,
}

impl Fold {
    /// What is meant unless somebody says otherwise: counters and codes are the newest, all else is a mean.
    #[must_use]
    pub fn usual(shape: Shape, wire_unit: Unit) -> Self {
        let is_counter = matches!(wire_unit, Unit::KilowattHour | Unit::KilovarHour | Unit::KilovoltAmpereHour);
        if shape == Shape::Float && !is_counter { Self::Mean } else { Self::Last }
    }
}

/// The four tables of a Modbus device, by the function code that reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RegisterTable {
    /// Function code 3.
    Holding,
    /// Function code 4.
    Input,
}

/// A run of registers that one request reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegisterBlock {
    /// Which table.
    pub table: RegisterTable,
    /// Zero-based address of the first, as on the wire.
    pub start: u16,
    /// 1 to 125 (Modbus Application Protocol 1.1b3, 6.3).
    pub count: u16,
}

/// Where a point stands in a Modbus device and how its registers become a raw number.
#[derive(Debug, Clone, PartialEq)]
pub struct RegisterPoint {
    /// Which table.
    pub table: RegisterTable,
    /// Zero-based address of its first register, as on the wire.
    pub address: u16,
    /// How the registers are read.
    pub raw: RawKind,
    /// Which register of a multi-register value comes first.
    pub word_order: WordOrder,
    /// Raw values, as unsigned integers of the point's width, by which the device says "not available".
    pub not_available: Vec<u64>,
}

impl RegisterPoint {
    /// How many registers it takes.
    #[must_use]
    pub fn width(&self) -> u16 {
        self.raw.width()
    }
}

/// How a value lies in its registers (each register big-endian, as Modbus has it).
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
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64.
    F64,
}

impl RawKind {
    /// How many registers it takes.
    #[must_use]
    pub fn width(self) -> u16 {
        match self {
            Self::U16 | Self::I16 => 1,
            Self::U32 | Self::I32 | Self::F32 => 2,
            Self::U64 | Self::I64 | Self::F64 => 4,
        }
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
