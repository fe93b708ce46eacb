//! The Modbus part of a profile: where each point stands in the registers, and in which requests they are read.

use std::time::Duration;

use super::blocks::{Extent, merge};
use super::draft::{INTERVAL, Pace};
use super::{Critic, Group};
use crate::config::document::{Kind, Value};
use crate::config::section::{Form, Section, Taken, Wrong, duration_within, integer, one_of, text};
use crate::measure::{PointSpec, RawKind, RegisterPoint, RegisterTable, Shape, WordOrder};

/// Modbus Application Protocol 1.1b3, 6.3 and 6.4: no reply holds more.
const REQUEST_REGISTERS_MAX: u16 = 125;
/// A hole of 8 registers costs 16 bytes; a request of its own costs about 20 and the device's thinking time.
const REQUEST_GAP_DEFAULT: u16 = 8;
/// When neither the device table nor the profile says.
const POLL_DEFAULT: Duration = Duration::from_millis(500);
/// The numbers that register lists give to the wire's address 0.
const ADDRESS_BASES: [i128; 6] = [0, 1, 30_001, 40_001, 300_001, 400_001];

pub(in crate::config) const MODBUS: Form = Form {
    table: "modbus",
    keys: &[
        ("table", "\"input\""),
        ("address_base", "0"),
        ("type", "\"f32\""),
        ("word_order", "\"msw-first\""),
        ("request_registers_max", "60"),
        ("request_gap_max", "8"),
        ("poll", "\"500ms\""),
    ],
};

const TABLES: [(&str, RegisterTable); 2] = [("input", RegisterTable::Input), ("holding", RegisterTable::Holding)];
const WORD_ORDERS: [(&str, WordOrder); 2] = [("msw-first", WordOrder::MswFirst), ("lsw-first", WordOrder::LswFirst)];
const TYPES: [(&str, RawKind); 8] = [
    ("u16", RawKind::U16),
    ("i16", RawKind::I16),
    ("u32", RawKind::U32),
    ("i32", RawKind::I32),
    ("u64", RawKind::U64),
    ("i64", RawKind::I64),
    ("f32", RawKind::F32),
    ("f64", RawKind::F64),
];

/// `[modbus]`: what holds for all points that do not say otherwise.
#[derive(Debug, Default)]
pub(super) struct ModbusDraft {
    table: Option<RegisterTable>,
    pub(super) address_base: Option<u32>,
    raw: Option<RawKind>,
    word_order: Option<WordOrder>,
    registers_max: Option<u16>,
    gap_max: Option<u16>,
    poll: Option<Duration>,
}

impl ModbusDraft {
    pub(super) fn read(section: &Section<'_>) -> Self {
        Self {
            table: section.optional("table", one_of(&TABLES)),
            address_base: section.optional("address_base", address_base),
            raw: section.optional("type", raw_kind),
            word_order: section.optional("word_order", one_of(&WORD_ORDERS)),
            registers_max: section.optional("request_registers_max", integer(1..=REQUEST_REGISTERS_MAX)),
            gap_max: section.optional("request_gap_max", integer(0..=REQUEST_REGISTERS_MAX)),
            poll: section.optional("poll", duration_within(INTERVAL)),
        }
    }

    pub(super) fn over(self, base: Self) -> Self {
        Self {
            table: self.table.or(base.table),
            address_base: self.address_base.or(base.address_base),
            raw: self.raw.or(base.raw),
            word_order: self.word_order.or(base.word_order),
            registers_max: self.registers_max.or(base.registers_max),
            gap_max: self.gap_max.or(base.gap_max),
            poll: self.poll.or(base.poll),
        }
    }

    pub(super) fn poll(&self) -> Duration {
        self.poll.unwrap_or(POLL_DEFAULT)
    }

    /// The requests that read each group's points.
    pub(super) fn groups(&self, groups: &[(String, Pace)], points: &[(String, PointSpec)]) -> Vec<Group> {
        let registers_max = self.registers_max.unwrap_or(REQUEST_REGISTERS_MAX);
        let gap_max = self.gap_max.unwrap_or(REQUEST_GAP_DEFAULT);
        let extent = |(_, point): &(String, PointSpec)| -> Option<Extent> {
            point.register().map(|register| (register.table, register.address, register.width()))
        };
        let group = |(name, pace): &(String, Pace)| {
            let extents: Vec<Extent> = points.iter().filter(|(of, _)| of == name).filter_map(extent).collect();
            Group { name: name.clone(), pace: *pace, blocks: merge(&extents, registers_max, gap_max) }
        };
        // A group that a derived profile has emptied is no group.
        groups.iter().map(group).filter(|g| !g.blocks.is_empty()).collect()
    }
}

/// A point's place in the registers, as far as it is said.
#[derive(Debug, Default)]
pub(super) struct RegisterDraft {
    /// The number as written, with the base of the file that wrote it.
    register: Option<(u32, Option<u32>)>,
    table: Option<RegisterTable>,
    raw: Option<RawKind>,
    word_order: Option<WordOrder>,
    not_available: Option<Vec<u64>>,
}

impl RegisterDraft {
    pub(super) fn read(section: &Section<'_>, address_base: Option<u32>) -> Self {
        let register = section.optional("register", integer(0..=465_536_u32)).map(|number| (number, address_base));
        Self {
            register,
            table: section.optional("table", one_of(&TABLES)),
            raw: section.optional("type", raw_kind),
            word_order: section.optional("word_order", one_of(&WORD_ORDERS)),
            not_available: section.list("not_available", 16, integer(0..=u64::MAX)),
        }
    }

    pub(super) fn over(self, base: Self) -> Self {
        Self {
            register: self.register.or(base.register),
            table: self.table.or(base.table),
            raw: self.raw.or(base.raw),
            word_order: self.word_order.or(base.word_order),
            not_available: self.not_available.or(base.not_available),
        }
    }

    /// The place, or `None` after reporting why not. What the point does not say, `[modbus]` says for all.
    pub(super) fn complete(&self, modbus: &ModbusDraft, shape: Shape, critic: Critic<'_>) -> Option<RegisterPoint> {
        let table = self.table.or(modbus.table);
        let raw = self.raw.or(modbus.raw);
        let word_order = match raw.map_or(1, RawKind::width) {
            // The order of one word.
            1 => Some(WordOrder::MswFirst),
            _ => self.word_order.or(modbus.word_order),
        };
        for (is_there, key, example) in [
            (self.register.is_some(), "register", "52"),
            (table.is_some(), "table", "\"input\"   (or \"holding\"; or once for all under [modbus])"),
            (raw.is_some(), "type", "\"f32\"   (or once for all under [modbus])"),
            (word_order.is_some(), "word_order", "\"msw-first\"   (or \"lsw-first\"; or once for all under [modbus])"),
        ] {
            critic.require(is_there, key, example);
        }
        let ((number, own_base), raw) = (self.register?, raw?);
        let first = wire_address(number, own_base.or(modbus.address_base)?);
        let Some(address) = first.filter(|first| first.checked_add(raw.width() - 1).is_some()) else {
            critic.blame("is not within the registers 0 to 65535 of the wire", "a register that fits address_base");
            return None;
        };
        if raw.width() > modbus.registers_max.unwrap_or(REQUEST_REGISTERS_MAX) {
            let remedy = format!("request_registers_max = {}", raw.width());
            critic.blame("is wider than request_registers_max allows", &remedy);
        }
        if shape != Shape::Float && matches!(raw, RawKind::F32 | RawKind::F64) {
            critic.blame("is a code and cannot be a floating-point number in the device", "type = \"u16\"");
        }
        let bits = 16 * u32::from(raw.width());
        if self.not_available.iter().flatten().any(|code| bits < 64 && *code >> bits != 0) {
            critic.blame(
                "has a not_available code wider than its type",
                "the codes as unsigned numbers of its width: 0x8000",
            );
        }
        let not_available = self.not_available.clone().unwrap_or_default();
        Some(RegisterPoint { table: table?, address, raw, word_order: word_order?, not_available })
    }
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
            "0 as on the wire, 1, 30001, 40001, 300001 or 400001: what the list calls the first register",
        )),
    }
}

/// One of [`TYPES`]; what other tools call them is answered with our word.
fn raw_kind(value: &Value) -> Taken<RawKind> {
    one_of(&TYPES)(value).map_err(|wrong| {
        let Ok(given) = text(value) else { return wrong };
        let ours = given.to_ascii_lowercase().replace("uint", "u").replace("int", "i").replace("float", "f");
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
