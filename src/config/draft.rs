//! A device profile's file, read as far as it goes: everything may still be left open.
//!
//! Drafts are laid over each other (`extends`); [`super::profile`] completes and checks the result. The form is
//! explained at the top of `configs/devices/eastron-sdm630.toml`.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::document::{Entry, Kind, Table, Value};
use super::fault::Place;
use super::section::{Form, Scope, Section, Taken, Wrong, duration_within, integer, number, one_of, text};
use crate::measure::{DeviceKind, FieldName, Fold, RawKind, RegisterTable, Shape, Unit, WordOrder};

/// Modbus Application Protocol 1.1b3, 6.3 and 6.4: no reply holds more.
pub(super) const REQUEST_REGISTERS_MAX: u16 = 125;
/// Of a poll and of a group's interval. See [`crate::measure::PollGroup::interval`].
pub(super) const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);
/// Of `frozen_after`: below a second every meter is frozen, beyond a day nobody waits.
const FROZEN: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);
/// The numbers that register lists give to the wire's address 0.
const ADDRESS_BASES: [i128; 6] = [0, 1, 30_001, 40_001, 300_001, 400_001];

pub(super) const FILE: Form =
    Form { table: "", keys: &[("profile", "[profile]"), ("modbus", "[modbus]"), ("group", ""), ("point", "")] };
pub(super) const PROFILE: Form = Form {
    table: "profile",
    keys: &[
        ("vendor", "\"Eastron\""),
        ("model", "\"SDM630-Modbus\""),
        ("kind", "\"meter\""),
        ("extends", "\"eastron-sdm630\""),
        ("sources", "[\"vendor document, version, date\"]"),
    ],
};
pub(super) const MODBUS: Form = Form {
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
pub(super) const GROUP: Form = Form { table: "group.*", keys: &[("interval", "\"10s\"")] };
pub(super) const POINT: Form = Form {
    table: "point.*",
    keys: &[
        ("register", "0"),
        ("table", "\"input\""),
        ("type", "\"f32\""),
        ("word_order", "\"msw-first\""),
        ("scale", "0.1"),
        ("offset", "-40"),
        ("unit", "\"V\""),
        ("sign", "\"import-positive\""),
        ("valid", "[0, 500]"),
        ("not_available", "[0xFFFF]"),
        ("group", "\"fast\""),
        ("frozen_after", "\"60s\""),
        ("fold", "\"last\""),
        ("shape", "\"integer\""),
        ("texts", "{ 0 = \"available\", 1 = \"charging\" }"),
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
pub(super) const KINDS: [(&str, DeviceKind); 2] = [("meter", DeviceKind::Meter), ("evse", DeviceKind::Evse)];

/// How often a group is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// As often as the device table's `poll` says.
    Poll,
    /// This often, but not more often than `poll`.
    Every(Duration),
}

/// A profile's file as far as it goes.
#[derive(Debug)]
pub(super) struct Draft {
    /// The profile that this one is laid over, and where that is said.
    pub extends: Option<(String, Place)>,
    pub header: Place,
    pub modbus_header: Place,
    pub vendor: Option<String>,
    pub model: Option<String>,
    pub kind: Option<DeviceKind>,
    pub sources: Option<Vec<String>>,
    pub modbus: ModbusDraft,
    pub groups: Vec<(String, Pace)>,
    pub points: Vec<PointDraft>,
}

#[derive(Debug)]
pub(super) struct ModbusDraft {
    pub table: Option<RegisterTable>,
    pub address_base: Option<u32>,
    pub raw: Option<RawKind>,
    pub word_order: Option<WordOrder>,
    pub registers_max: Option<u16>,
    pub gap_max: Option<u16>,
    pub poll: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct PointDraft {
    pub field: FieldName,
    pub place: Place,
    /// The number as written, with the base of the file that wrote it.
    pub register: Option<(u32, Option<u32>)>,
    pub table: Option<RegisterTable>,
    pub raw: Option<RawKind>,
    pub word_order: Option<WordOrder>,
    pub scale: Option<f64>,
    pub offset: Option<f64>,
    pub unit: Option<Unit>,
    pub invert: Option<bool>,
    pub valid: Option<(f64, f64)>,
    pub not_available: Option<Vec<u64>>,
    pub group: Option<String>,
    pub frozen_after: Option<Duration>,
    pub fold: Option<Fold>,
    pub shape: Option<Shape>,
    pub texts: Option<Vec<(i64, Arc<str>)>>,
}

impl Draft {
    /// Reads one file. Everything that is wrong in it by itself is reported.
    pub(super) fn read(scope: Scope<'_>, root: &Table) -> Self {
        let file = Section::new(scope, &FILE, "", root);
        if !file.has("profile") {
            file.missing("profile");
        }
        let empty = Table::empty();
        let profile =
            file.section("profile", &PROFILE).unwrap_or_else(|| Section::new(scope, &PROFILE, "profile", &empty));
        let modbus = file.section("modbus", &MODBUS).unwrap_or_else(|| Section::new(scope, &MODBUS, "modbus", &empty));
        let address_base = modbus.optional("address_base", address_base);
        Self {
            extends: profile.optional("extends", text).map(|name| (name, profile.place("extends"))),
            header: profile.header(),
            modbus_header: modbus.header(),
            vendor: profile.optional("vendor", text),
            model: profile.optional("model", text),
            kind: profile.optional("kind", one_of(&KINDS)),
            sources: profile.list("sources", 64, text),
            modbus: ModbusDraft {
                table: modbus.optional("table", one_of(&TABLES)),
                address_base,
                raw: modbus.optional("type", raw_kind),
                word_order: modbus.optional("word_order", one_of(&WORD_ORDERS)),
                registers_max: modbus.optional("request_registers_max", integer(1..=REQUEST_REGISTERS_MAX)),
                gap_max: modbus.optional("request_gap_max", integer(0..=REQUEST_REGISTERS_MAX)),
                poll: modbus.optional("poll", duration_within(INTERVAL)),
            },
            groups: read_groups(scope, &file),
            points: file
                .family("point")
                .into_iter()
                .filter_map(|(entry, table)| PointDraft::read(scope, entry, table, address_base))
                .collect(),
        }
    }

    /// This file's words where it has any, the base's elsewhere.
    pub(super) fn over(self, base: Self) -> Self {
        let Self { extends, header, modbus_header, vendor, model, kind, sources, modbus, groups, points } = self;
        let mut merged_groups = base.groups;
        for (name, pace) in groups {
            match merged_groups.iter_mut().find(|(known, _)| *known == name) {
                Some(known) => known.1 = pace,
                None => merged_groups.push((name, pace)),
            }
        }
        let mut merged_points = base.points;
        for point in points {
            match merged_points.iter().position(|known| known.field == point.field) {
                Some(index) => {
                    let known = merged_points.remove(index);
                    merged_points.insert(index, point.over(known));
                }
                None => merged_points.push(point),
            }
        }
        Self {
            extends,
            header,
            modbus_header,
            vendor: vendor.or(base.vendor),
            model: model.or(base.model),
            kind: kind.or(base.kind),
            sources: sources.or(base.sources),
            modbus: modbus.over(base.modbus),
            groups: merged_groups,
            points: merged_points,
        }
    }
}

impl ModbusDraft {
    fn over(self, base: Self) -> Self {
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
}

impl PointDraft {
    fn read(scope: Scope<'_>, entry: &Entry, table: &Table, address_base: Option<u32>) -> Option<Self> {
        let section = Section::new(scope, &POINT, format!("point.{}", entry.key), table);
        let place = Place::new(scope.source, entry.key_span.clone());
        let register = section.optional("register", integer(0..=465_536_u32)).map(|number| (number, address_base));
        let draft = |field| Self {
            field,
            place: place.clone(),
            register,
            table: section.optional("table", one_of(&TABLES)),
            raw: section.optional("type", raw_kind),
            word_order: section.optional("word_order", one_of(&WORD_ORDERS)),
            scale: section.optional("scale", scale),
            offset: section.optional("offset", number(-1e12..=1e12)),
            unit: section.optional("unit", unit),
            invert: section.optional("sign", one_of(&[("import-positive", false), ("export-positive", true)])),
            valid: section.optional("valid", range),
            not_available: section.list("not_available", 16, integer(0..=u64::MAX)),
            group: section.optional("group", text),
            frozen_after: section.optional("frozen_after", duration_within(FROZEN)),
            fold: section.optional("fold", one_of(&[("mean", Fold::Mean), ("last", Fold::Last)])),
            shape: section.optional(
                "shape",
                one_of(&[("float", Shape::Float), ("integer", Shape::Integer), ("text", Shape::Text)]),
            ),
            texts: section.optional("texts", texts),
        };
        match FieldName::try_from(entry.key.as_str()) {
            Ok(field) => Some(draft(field)),
            Err(invalid) => {
                let problem = format!("the point {invalid}");
                scope.faults.push(place.fault(
                    section.title.clone(),
                    problem,
                    "a name such as power_flow or voltage_l1",
                ));
                None
            }
        }
    }

    fn over(self, base: Self) -> Self {
        Self {
            field: self.field,
            place: self.place,
            register: self.register.or(base.register),
            table: self.table.or(base.table),
            raw: self.raw.or(base.raw),
            word_order: self.word_order.or(base.word_order),
            scale: self.scale.or(base.scale),
            offset: self.offset.or(base.offset),
            unit: self.unit.or(base.unit),
            invert: self.invert.or(base.invert),
            valid: self.valid.or(base.valid),
            not_available: self.not_available.or(base.not_available),
            group: self.group.or(base.group),
            frozen_after: self.frozen_after.or(base.frozen_after),
            fold: self.fold.or(base.fold),
            shape: self.shape.or(base.shape),
            texts: self.texts.or(base.texts),
        }
    }
}

fn read_groups(scope: Scope<'_>, file: &Section<'_>) -> Vec<(String, Pace)> {
    let read = |(entry, table): (&Entry, &Table)| {
        let group = Section::new(scope, &GROUP, format!("group.{}", entry.key), table);
        let pace = group.required("interval", |value| match &value.kind {
            Kind::Text(word) if word == "poll" => Ok(Pace::Poll),
            _ => duration_within(INTERVAL)(value).map(Pace::Every),
        });
        // A wrong interval is reported; the group itself is there.
        (entry.key.clone(), pace.unwrap_or(Pace::Poll))
    };
    file.family("group").into_iter().map(read).collect()
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

fn scale(value: &Value) -> Taken<f64> {
    let scale = number(-1e12..=1e12)(value)?;
    if scale == 0.0 { Err(Wrong::new("is 0, which makes every value 0")) } else { Ok(scale) }
}

fn unit(value: &Value) -> Taken<Unit> {
    let symbol = text(value)?;
    Unit::from_symbol(&symbol).ok_or_else(|| {
        let list = Unit::ALL.map(Unit::symbol).join(", ");
        let problem = format!("= \"{symbol}\" is not a unit we know");
        let alike = Unit::ALL.into_iter().find(|unit| unit.symbol().eq_ignore_ascii_case(&symbol));
        match alike {
            Some(unit) => Wrong::instead(problem, format!("\"{}\"", unit.symbol()), list),
            None => Wrong::noted(problem, list),
        }
    })
}

fn range(value: &Value) -> Taken<(f64, f64)> {
    let Kind::List(items) = &value.kind else { return Err(Wrong::new("is not a list of two numbers")) };
    let [low, high] = items.as_slice() else { return Err(Wrong::new("is not a list of two numbers")) };
    let anything = || number(f64::MIN..=f64::MAX);
    let (low, high) = (anything()(low)?, anything()(high)?);
    if low < high { Ok((low, high)) } else { Err(Wrong::new("does not rise from the first number to the second")) }
}

fn texts(value: &Value) -> Taken<Vec<(i64, Arc<str>)>> {
    let Kind::Table(table) = &value.kind else { return Err(Wrong::new("is not a table of codes")) };
    let pair = |entry: &Entry| {
        let code = entry.key.parse::<i64>();
        let code = code.map_err(|_| Wrong::new(format!("has the code {}, which is no whole number", entry.key)))?;
        let words = text(&entry.value)?;
        // A tag or field of the wire takes more, a screen does not.
        if words.is_empty() || words.chars().count() > 64 || words.chars().any(char::is_control) {
            return Err(Wrong::new(format!("has no text of 1 to 64 characters for the code {code}"))
                .at(entry.value.span.clone()));
        }
        Ok((code, words.into()))
    };
    table.entries.iter().map(pair).collect()
}
