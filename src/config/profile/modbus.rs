//! The Modbus part of a profile: where each point stands in the registers, and in which requests they are read.

use std::time::Duration;

use super::blocks::merge;
use super::draft::{GroupDraft, INTERVAL};
use super::{Critic, Group};
use crate::config::device::PAUSE;
use crate::config::document::{Kind, Value};
use crate::config::fault::{Collector, Place};
use crate::config::section::{Form, Section, Taken, Wrong, duration_within, integer, one_of, text};
use crate::spec::{
    ByteOrder, PointSpec, RawKind, RegisterBlock, RegisterPoint, RegisterTable, ScaleKind, ScaleRegister, ValueType,
    WordOrder,
};

/// Modbus Application Protocol 1.1b3, 6.3 and 6.4: no reply holds more.
const REQUEST_REGISTERS_MAX: u16 = 125;
/// The same, 6.1 and 6.2.
const REQUEST_BITS_MAX: u16 = 2000;
/// A hole of 8 registers costs 16 bytes; a request of its own costs about 20 and the device's thinking time.
const REQUEST_GAP_DEFAULT: u16 = 8;
/// When neither the device table nor the profile says.
const POLL_DEFAULT: Duration = Duration::from_millis(500);
/// The numbers that register lists give to the wire's address 0.
const ADDRESS_BASES: [i128; 8] = [0, 1, 10_001, 30_001, 40_001, 100_001, 300_001, 400_001];

pub(in crate::config) const MODBUS: Form = Form {
    table: "modbus",
    keys: &[
        ("table", "\"input\""),
        ("address_base", "0"),
        ("type", "\"f32\""),
        ("byte_order", "\"big\""),
        ("word_order", "\"msw-first\""),
        ("request_registers_max", "60"),
        ("request_gap_max", "8"),
        ("poll", "\"500ms\""),
        ("pause", "\"50ms\""),
        ("connectors", "2"),
        ("connector_stride", "1000"),
    ],
};
pub(super) const SCALE_REGISTER: Form = Form {
    table: "point.*.scale_register",
    keys: &[("register", "70"), ("type", "\"i16\""), ("holds", "\"exponent\""), ("not_available", "[0x8000]")],
};

const TABLES: [(&str, RegisterTable); 4] = [
    ("input", RegisterTable::Input),
    ("holding", RegisterTable::Holding),
    ("coil", RegisterTable::Coil),
    ("discrete", RegisterTable::Discrete),
];
const WORD_ORDERS: [(&str, WordOrder); 2] = [("msw-first", WordOrder::MswFirst), ("lsw-first", WordOrder::LswFirst)];
const BYTE_ORDERS: [(&str, ByteOrder); 2] = [("big", ByteOrder::Big), ("little", ByteOrder::Little)];
const SCALE_KINDS: [(&str, ScaleKind); 2] = [("exponent", ScaleKind::Exponent), ("factor", ScaleKind::Factor)];
/// The last three have the length that the point says.
const TYPES: [(&str, RawKind); 18] = [
    ("u16", RawKind::U16),
    ("i16", RawKind::I16),
    ("u32", RawKind::U32),
    ("i32", RawKind::I32),
    ("u64", RawKind::U64),
    ("i64", RawKind::I64),
    ("bit", RawKind::Bit),
    ("f16", RawKind::F16),
    ("f32", RawKind::F32),
    ("f64", RawKind::F64),
    ("bcd16", RawKind::Bcd16),
    ("bcd32", RawKind::Bcd32),
    ("bcd64", RawKind::Bcd64),
    ("date-time-packed", RawKind::DateTimePacked),
    ("date-time-parts", RawKind::DateTimeParts),
    ("text", RawKind::Text(0)),
    ("wide-text", RawKind::WideText(0)),
    ("bytes", RawKind::Bytes(0)),
];

/// The registers of each connector of a station stand so far after those of the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct Connectors {
    /// How many there are, at least one.
    pub(in crate::config) count: u16,
    stride: u16,
}

impl Connectors {
    /// What is added to the registers of the first connector. `connector` is 1 to `count`.
    pub(super) fn shift(self, connector: u16) -> u16 {
        connector.saturating_sub(1).saturating_mul(self.stride)
    }
}

/// `[modbus]`: what holds for all points that do not say otherwise.
#[derive(Debug, Default)]
pub(super) struct ModbusDraft {
    table: Option<RegisterTable>,
    pub(super) address_base: Option<u32>,
    raw: Option<RawKind>,
    byte_order: Option<ByteOrder>,
    word_order: Option<WordOrder>,
    connectors: Option<u16>,
    connector_stride: Option<u16>,
    registers_max: Option<u16>,
    gap_max: Option<u16>,
    poll: Option<Duration>,
    pause: Option<Duration>,
}

impl ModbusDraft {
    pub(super) fn read(section: &Section<'_>) -> Self {
        Self {
            table: section.optional("table", one_of(&TABLES)),
            address_base: section.optional("address_base", address_base),
            raw: section.optional("type", raw_kind),
            byte_order: section.optional("byte_order", one_of(&BYTE_ORDERS)),
            word_order: section.optional("word_order", one_of(&WORD_ORDERS)),
            connectors: section.optional("connectors", integer(1..=1000)),
            connector_stride: section.optional("connector_stride", integer(1..=u16::MAX)),
            registers_max: section.optional("request_registers_max", integer(1..=REQUEST_REGISTERS_MAX)),
            gap_max: section.optional("request_gap_max", integer(0..=REQUEST_REGISTERS_MAX)),
            poll: section.optional("poll", duration_within(INTERVAL)),
            pause: section.optional("pause", duration_within(PAUSE)),
        }
    }

    pub(super) fn over(self, base: Self) -> Self {
        Self {
            table: self.table.or(base.table),
            address_base: self.address_base.or(base.address_base),
            raw: self.raw.or(base.raw),
            byte_order: self.byte_order.or(base.byte_order),
            word_order: self.word_order.or(base.word_order),
            connectors: self.connectors.or(base.connectors),
            connector_stride: self.connector_stride.or(base.connector_stride),
            registers_max: self.registers_max.or(base.registers_max),
            gap_max: self.gap_max.or(base.gap_max),
            poll: self.poll.or(base.poll),
            pause: self.pause.or(base.pause),
        }
    }

    pub(super) fn poll(&self) -> Duration {
        self.poll.unwrap_or(POLL_DEFAULT)
    }

    pub(super) fn pause(&self) -> Duration {
        self.pause.unwrap_or_default()
    }

    /// The connectors of a station that has several in one map; reports one of the two keys without the other.
    pub(super) fn connectors(&self, header: &Place, faults: &Collector) -> Option<Connectors> {
        let (has, lacks, example) = match (self.connectors, self.connector_stride) {
            (Some(count), Some(stride)) => return Some(Connectors { count, stride }),
            (None, None) => return None,
            (Some(_), None) => ("connectors", "connector_stride", MODBUS.example("connector_stride")),
            (None, Some(_)) => ("connector_stride", "connectors", MODBUS.example("connectors")),
        };
        let path = format!("modbus.{lacks}");
        if !faults.blames(&header.source, &path) {
            let problem = format!("the key {lacks} is missing under [modbus], which has {has}");
            faults.push(header.fault(path, problem, format!("{lacks} = {example}")));
        }
        None
    }

    /// The requests that read each group's points.
    pub(super) fn groups(&self, groups: &[(String, GroupDraft)], points: &[(String, PointSpec)]) -> Vec<Group> {
        let registers_max = self.registers_max.unwrap_or(REQUEST_REGISTERS_MAX);
        let gap_max = self.gap_max.unwrap_or(REQUEST_GAP_DEFAULT);
        let extent = |(_, point): &(String, PointSpec)| point.register().map(RegisterPoint::extent);
        let group = |(name, group): &(String, GroupDraft)| {
            let extents: Vec<RegisterBlock> = points.iter().filter(|(of, _)| of == name).filter_map(extent).collect();
            let (bits, registers): (Vec<_>, Vec<_>) = extents.into_iter().partition(|extent| extent.table.is_of_bits());
            // A bit is to a register as one to sixteen; the numbers of a profile are those of registers.
            let bits = merge(&bits, (registers_max * 16).min(REQUEST_BITS_MAX), gap_max.saturating_mul(16));
            let blocks = [merge(&registers, registers_max, gap_max), bits].concat();
            Group { name: name.clone(), pace: group.pace, of_station: group.of_station, blocks }
        };
        // A group that a derived profile has emptied is no group.
        groups.iter().map(group).filter(|g| !g.blocks.is_empty()).collect()
    }
}

/// A register as written, with the base of the file that wrote it.
type Numbered = (u32, Option<u32>);

/// A point's place in the registers, as far as it is said.
#[derive(Debug, Default)]
pub(super) struct RegisterDraft {
    register: Option<Numbered>,
    table: Option<RegisterTable>,
    raw: Option<RawKind>,
    length: Option<u16>,
    byte_order: Option<ByteOrder>,
    word_order: Option<WordOrder>,
    mask: Option<u64>,
    not_available: Option<Vec<u64>>,
    scale: Option<ScaleDraft>,
}

/// Where a point's scale stands. All of it is said in one place.
#[derive(Debug)]
struct ScaleDraft {
    register: Option<Numbered>,
    raw: Option<RawKind>,
    kind: Option<ScaleKind>,
    not_available: Vec<u64>,
}

impl RegisterDraft {
    pub(super) fn read(section: &Section<'_>, address_base: Option<u32>) -> Self {
        let number = |number| (number, address_base);
        let scale = |scale: Section<'_>| ScaleDraft {
            register: scale.required("register", register_number).map(number),
            raw: scale.required("type", raw_kind),
            kind: scale.required("holds", one_of(&SCALE_KINDS)),
            not_available: scale.list("not_available", 16, integer(0..=u64::MAX)).unwrap_or_default(),
        };
        Self {
            register: section.optional("register", register_number).map(number),
            table: section.optional("table", one_of(&TABLES)),
            raw: section.optional("type", raw_kind),
            length: section.optional("length", integer(1..=REQUEST_REGISTERS_MAX)),
            byte_order: section.optional("byte_order", one_of(&BYTE_ORDERS)),
            word_order: section.optional("word_order", one_of(&WORD_ORDERS)),
            mask: section.optional("mask", mask),
            not_available: section.list("not_available", 16, integer(0..=u64::MAX)),
            scale: section.section("scale_register", &SCALE_REGISTER).map(scale),
        }
    }

    /// Whether it has a place of its own.
    pub(super) fn is_said(&self) -> bool {
        self.register.is_some()
    }

    pub(super) fn over(self, base: Self) -> Self {
        Self {
            register: self.register.or(base.register),
            table: self.table.or(base.table),
            raw: self.raw.or(base.raw),
            length: self.length.or(base.length),
            byte_order: self.byte_order.or(base.byte_order),
            word_order: self.word_order.or(base.word_order),
            mask: self.mask.or(base.mask),
            not_available: self.not_available.or(base.not_available),
            scale: self.scale.or(base.scale),
        }
    }

    /// The shape of a point that does not say, if its type leaves no other.
    pub(super) fn natural_shape(&self, modbus: &ModbusDraft) -> Option<ValueType> {
        match self.kind(modbus)? {
            RawKind::Bit => Some(ValueType::Integer),
            raw if raw.is_text() => Some(ValueType::Text),
            RawKind::DateTimePacked | RawKind::DateTimeParts => Some(ValueType::Integer),
            _ => None,
        }
    }

    /// How it is read; a coil or a discrete input needs not say that it is a bit.
    fn kind(&self, modbus: &ModbusDraft) -> Option<RawKind> {
        let is_bit = self.table.or(modbus.table).is_some_and(RegisterTable::is_of_bits);
        if is_bit { self.raw.or(Some(RawKind::Bit)) } else { self.raw.or(modbus.raw) }
    }

    /// The place, or `None` after reporting why not. What the point does not say, `[modbus]` says for all.
    pub(super) fn complete(
        &self,
        modbus: &ModbusDraft,
        group: Option<&GroupDraft>,
        value_type: ValueType,
        critic: Critic<'_>,
    ) -> Option<RegisterPoint> {
        let table = self.table.or(modbus.table);
        let raw = self.kind(modbus).and_then(|raw| self.with_length(raw, critic));
        let is_ordered = raw.is_some_and(|raw| raw.width() > 1 && !raw.is_text() && raw != RawKind::DateTimeParts);
        // The order of one word, or of words that are one after the other.
        let word_order = if is_ordered { self.word_order.or(modbus.word_order) } else { Some(WordOrder::MswFirst) };
        for (is_there, key, example) in [
            (self.register.is_some(), "register", "52"),
            (
                table.is_some(),
                "table",
                "\"input\"   (or \"holding\", \"coil\", \"discrete\"; or once for all under [modbus])",
            ),
            (self.kind(modbus).is_some(), "type", "\"f32\"   (or once for all under [modbus])"),
            (word_order.is_some(), "word_order", "\"msw-first\"   (or \"lsw-first\"; or once for all under [modbus])"),
        ] {
            critic.require(is_there, key, example);
        }
        let (raw, number) = (raw?, self.register?);
        let address = located(number, raw, modbus, critic)?;
        let scale = match &self.scale {
            None => None,
            Some(scale) => Some(scale.complete(modbus, critic)?),
        };
        let point = RegisterPoint {
            unit: group.and_then(|group| group.unit),
            table: table?,
            address,
            raw,
            byte_order: self.byte_order.or(modbus.byte_order).unwrap_or_default(),
            word_order: word_order?,
            mask: self.mask,
            not_available: self.not_available.clone().unwrap_or_default(),
            scale,
        };
        check_width(&point, modbus, group, critic);
        check_type(&point, value_type, critic);
        Some(point)
    }

    /// The type with its length, if it is one that needs one.
    fn with_length(&self, raw: RawKind, critic: Critic<'_>) -> Option<RawKind> {
        let kind = match raw {
            RawKind::Text(_) => RawKind::Text,
            RawKind::WideText(_) => RawKind::WideText,
            RawKind::Bytes(_) => RawKind::Bytes,
            raw => {
                if self.length.is_some() {
                    critic.blame("has a length, and a type that has its own", "it without length");
                }
                return Some(raw);
            }
        };
        critic.require(self.length.is_some(), "length", "8   (registers)");
        self.length.map(kind)
    }
}

impl ScaleDraft {
    fn complete(&self, modbus: &ModbusDraft, critic: Critic<'_>) -> Option<ScaleRegister> {
        let (raw, kind, number) = (self.raw?, self.kind?, self.register?);
        let is_right = match kind {
            ScaleKind::Exponent => raw.is_integer(),
            ScaleKind::Factor => raw.is_integer() || matches!(raw, RawKind::F16 | RawKind::F32 | RawKind::F64),
        };
        if !is_right {
            critic.blame("has a scale register of a type that is no number to scale by", "type = \"i16\"");
        }
        let address = located(number, raw, modbus, critic)?;
        Some(ScaleRegister { address, raw, kind, not_available: self.not_available.clone() })
    }
}

/// The first register on the wire of a value that begins at this number.
fn located((number, own_base): Numbered, raw: RawKind, modbus: &ModbusDraft, critic: Critic<'_>) -> Option<u16> {
    let first = wire_address(number, own_base.or(modbus.address_base)?);
    let is_inside = |first: &u16| first.checked_add(raw.width() - 1).is_some();
    let address = first.filter(is_inside);
    if address.is_none() {
        critic.blame("is not within the registers 0 to 65535 of the wire", "a register that fits address_base");
    }
    address
}

/// What one request must read, at every connector.
fn check_width(point: &RegisterPoint, modbus: &ModbusDraft, group: Option<&GroupDraft>, critic: Critic<'_>) {
    let extent = point.extent();
    if extent.count > modbus.registers_max.unwrap_or(REQUEST_REGISTERS_MAX) {
        let (problem, remedy) = if point.scale.is_some() && point.width() < extent.count {
            let problem = "stands further from its scale register than one request reaches (request_registers_max)";
            (problem, "a scale register that can be read together with the value: another may belong to another value")
        } else {
            ("is wider than request_registers_max allows", "a larger request_registers_max, up to 125")
        };
        critic.blame(problem, remedy);
    }
    if let (Some(count), Some(stride)) = (modbus.connectors, modbus.connector_stride)
        && !group.is_some_and(|group| group.of_station)
    {
        let last = u32::from(extent.start) + u32::from(extent.count) - 1 + u32::from(count - 1) * u32::from(stride);
        if last > u32::from(u16::MAX) {
            let problem = format!("would stand in register {last} at the last connector, which is not there");
            critic.blame(&problem, "fewer connectors, or a group with of = \"station\"");
        }
    }
}

/// What the type allows.
fn check_type(point: &RegisterPoint, value_type: ValueType, critic: Critic<'_>) {
    let RegisterPoint { raw, mask, not_available, scale, .. } = point;
    match (point.table.is_of_bits(), *raw == RawKind::Bit) {
        (true, false) => critic.blame("is a single bit in its table, and no number", "it without type"),
        (false, true) => {
            critic.blame("is in a table of registers, which are no bits", "type = \"u16\", and a mask: 0x0001");
        }
        _ => {}
    }
    if value_type != ValueType::Float && matches!(raw, RawKind::F16 | RawKind::F32 | RawKind::F64) {
        critic.blame("is a code and cannot be a floating-point number in the device", "type = \"u16\"");
    }
    if value_type != ValueType::Text && raw.is_text() {
        critic.blame("is a text in the device and nothing else", "it without shape");
    }
    if value_type != ValueType::Float && scale.is_some() {
        critic.blame("is no quantity and cannot have a scale register", "it without scale_register");
    }
    if mask.is_some() && !raw.is_integer() {
        critic.blame("has a mask, and a type that has no bits to choose from", "type = \"u16\"");
    }
    let width = 16 * u32::from(raw.width());
    if width < 64 && mask.is_some_and(|mask| mask >> width != 0) {
        critic.blame("has a mask wider than its type", "a mask within its width: 0x00FF");
    }
    let bits = mask.map_or(width, u64::count_ones);
    let are_codes = *raw != RawKind::Bit && raw.width() <= 4 && !raw.is_text() && *raw != RawKind::DateTimePacked;
    if !are_codes && !not_available.is_empty() {
        let remedy = "it without not_available: what is no text or no date is missing by itself";
        critic.blame("has not_available codes, and a type that has none", remedy);
    }
    if are_codes && bits < 64 && not_available.iter().any(|code| code >> bits != 0) {
        critic.blame(
            "has a not_available code wider than its type",
            "the codes as unsigned numbers of its width: 0x8000",
        );
    }
}

fn register_number(value: &Value) -> Taken<u32> {
    integer(0..=465_536_u32)(value)
}

/// One run of bits.
fn mask(value: &Value) -> Taken<u64> {
    let mask = integer(1..=u64::MAX)(value)?;
    let run = mask >> mask.trailing_zeros();
    if run & run.wrapping_add(1) == 0 {
        return Ok(mask);
    }
    Err(Wrong::noted("is not one run of bits", "one field for each run of bits: 0x0001, 0x7F00"))
}

fn wire_address(number: u32, base: u32) -> Option<u16> {
    number.checked_sub(base).and_then(|address| u16::try_from(address).ok())
}

fn address_base(value: &Value) -> Taken<u32> {
    match value.kind {
        Kind::Integer(base) if ADDRESS_BASES.contains(&base) => {
            u32::try_from(base).map_err(|_| Wrong::new("is negative"))
        }
        _ => Err(Wrong::noted(
            "is not a base that register lists have",
            "0 as on the wire, 1, 10001, 30001, 40001, 100001, 300001 or 400001: what the list calls the first register",
        )),
    }
}

/// One of [`TYPES`]; what other tools call them is answered with our word.
fn raw_kind(value: &Value) -> Taken<RawKind> {
    one_of(&TYPES)(value).map_err(|wrong| {
        let Ok(given) = text(value) else { return wrong };
        let ours = match given.to_ascii_lowercase().as_str() {
            "string" | "ascii" => "text".to_owned(),
            other => other.replace("uint", "u").replace("int", "i").replace("float", "f"),
        };
        if !TYPES.iter().any(|(name, _)| *name == ours) {
            return wrong;
        }
        let list = TYPES.map(|(name, _)| name).join(", ");
        Wrong::instead(format!("= \"{given}\" is called otherwise here"), format!("\"{ours}\""), list)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vendors_register_number_becomes_the_address_on_the_wire() {
        assert_eq!(wire_address(30_053, 30_001), Some(52));
        assert_eq!(wire_address(0, 1), None);
        assert_eq!(wire_address(465_536, 400_001), Some(65_535));
        assert_eq!(wire_address(465_537, 400_001), None);
    }
}
