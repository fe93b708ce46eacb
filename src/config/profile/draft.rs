//! A device profile's file, read as far as it goes: everything may still be left open.
//!
//! Drafts are laid over each other (`extends`); [`super`] completes and checks the result. The form is
//! explained at the top of `configs/devices/eastron-sdm630.toml`.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::can::{CAN, CanDraft, SignalDraft};
use super::derived::FormulaDraft;
use super::iso15118::{ISO15118, SessionDraft};
use super::modbus::{MODBUS, ModbusDraft, RegisterDraft};
use super::plausibility::RuleDraft;
use crate::config::document::{Entry, Kind, Table, Value};
use crate::config::fault::Place;
use crate::config::section::{Form, Scope, Section, Taken, Wrong, duration_within, integer, number, one_of, text};
use crate::spec::{Aggregation, DeviceKind, FieldName, Unit, ValueType};

/// Of a poll and of a group's interval. See [`crate::spec::PollGroup::interval`].
pub(in crate::config) const INTERVAL: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);
/// Of `frozen_after`: below a second every meter is frozen, beyond a day nobody waits.
const FROZEN: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);
pub(super) const FILE: Form = Form {
    table: "",
    keys: &[
        ("profile", "[profile]"),
        ("modbus", "[modbus]"),
        ("can", "[can]"),
        ("iso15118", "[iso15118]"),
        ("group", ""),
        ("point", ""),
        ("plausibility", ""),
    ],
};
pub(super) const PROFILE: Form = Form {
    table: "profile",
    keys: &[
        ("vendor", "\"Eastron\""),
        ("model", "\"SDM630-Modbus\""),
        ("kind", "\"meter\""),
        ("extends", "\"eastron-sdm630\""),
        ("sources", "[\"vendor document, version, date\"]"),
        ("notes", "[\"frequency: tenths by one source, hundredths by the other; tenths here\"]"),
    ],
};
pub(super) const GROUP: Form =
    Form { table: "group.*", keys: &[("interval", "\"10s\""), ("unit_id", "200"), ("of", "\"station\"")] };
pub(super) const POINT: Form = Form {
    table: "point.*",
    keys: &[
        ("register", "0"),
        ("signal", "\"PackVoltage\""),
        ("sum", "[\"ChargeCurrent\", \"-DischargeCurrent\"]"),
        ("difference", "[\"energy_import\", \"energy_export\"]"),
        ("product", "[\"voltage\", \"current\"]"),
        ("quotient", "[\"100 * Part\", \"Whole\"]"),
        ("phase_total", "\"power_flow\""),
        ("rate", "\"energy_import\""),
        ("over", "\"1m\""),
        ("optional", "true"),
        ("stale_after", "\"1s\""),
        ("table", "\"input\""),
        ("type", "\"f32\""),
        ("length", "8"),
        ("byte_order", "\"big\""),
        ("word_order", "\"msw-first\""),
        ("mask", "0x00FF"),
        ("scale_register", "{ register = 70, type = \"i16\", holds = \"exponent\" }"),
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

pub(in crate::config) const KINDS: [(&str, DeviceKind); 5] = [
    ("meter", DeviceKind::Meter),
    ("evse", DeviceKind::Evse),
    ("vehicle", DeviceKind::Vehicle),
    ("battery", DeviceKind::Battery),
    ("inverter", DeviceKind::Inverter),
];

/// How often a group is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// As often as the device table's `poll` says.
    Poll,
    /// This often, but not more often than `poll`.
    Every(Duration),
}

/// How a group is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GroupDraft {
    pub pace: Pace,
    /// Of another unit than the device's own.
    pub unit: Option<u8>,
    /// The same for every connector of a station.
    pub of_station: bool,
}

/// A profile's file as far as it goes.
#[derive(Debug)]
pub(in crate::config) struct Draft {
    /// The profile that this one is laid over, and where that is said.
    pub extends: Option<(String, Place)>,
    pub header: Place,
    pub modbus_header: Place,
    pub vendor: Option<String>,
    pub model: Option<String>,
    pub kind: Option<DeviceKind>,
    pub sources: Option<Vec<String>>,
    /// Where the sources disagree, and what was decided. For who reads the file; nothing is made of it.
    pub notes: Option<Vec<String>>,
    pub(super) modbus: ModbusDraft,
    pub(super) can: CanDraft,
    /// Of a profile of charging sessions, which has neither registers nor groups.
    pub(super) session: Option<SessionDraft>,
    /// The profile of a device that says itself what it offers, beneath this one.
    pub(in crate::config) sunspec: Option<&'static str>,
    pub(super) groups: Vec<(String, GroupDraft)>,
    pub(super) points: Vec<PointDraft>,
    pub(super) rules: Vec<RuleDraft>,
}

#[derive(Debug)]
pub(super) struct PointDraft {
    pub field: FieldName,
    pub place: Place,
    pub register: RegisterDraft,
    pub signal: SignalDraft,
    pub formula: Option<FormulaDraft>,
    pub scale: Option<f64>,
    pub offset: Option<f64>,
    pub unit: Option<Unit>,
    pub invert: Option<bool>,
    pub valid: Option<(f64, f64)>,
    pub group: Option<String>,
    pub frozen_after: Option<Duration>,
    pub aggregation: Option<Aggregation>,
    pub value_type: Option<ValueType>,
    pub texts: Option<Vec<(i128, Arc<str>)>>,
}

impl Draft {
    /// Reads one file. Everything that is wrong in it by itself is reported.
    pub(in crate::config) fn read(scope: Scope<'_>, root: &Table) -> Self {
        let file = Section::new(scope, &FILE, "", root);
        if !file.has("profile") {
            file.missing("profile");
        }
        let empty = Table::empty();
        let profile =
            file.section("profile", &PROFILE).unwrap_or_else(|| Section::new(scope, &PROFILE, "profile", &empty));
        let modbus = file.section("modbus", &MODBUS).unwrap_or_else(|| Section::new(scope, &MODBUS, "modbus", &empty));
        let modbus_draft = ModbusDraft::read(&modbus);
        let address_base = modbus_draft.address_base;
        Self {
            extends: profile.optional("extends", text).map(|name| (name, profile.place("extends"))),
            header: profile.header(),
            modbus_header: modbus.header(),
            vendor: profile.optional("vendor", text),
            model: profile.optional("model", text),
            kind: profile.optional("kind", one_of(&KINDS)),
            sources: profile.list("sources", 64, text),
            notes: profile.list("notes", 64, text),
            modbus: modbus_draft,
            can: CanDraft::read(file.section("can", &CAN).as_ref()),
            session: file.section("iso15118", &ISO15118).map(|section| SessionDraft::read(&section)),
            sunspec: None,
            groups: read_groups(scope, &file),
            points: file
                .family("point")
                .into_iter()
                .filter_map(|(entry, table)| PointDraft::read(scope, entry, table, address_base))
                .collect(),
            rules: RuleDraft::read_all(scope, &file),
        }
    }

    /// This file's words where it has any, the base's elsewhere.
    pub(in crate::config) fn over(self, base: Self) -> Self {
        let Self {
            extends,
            header,
            modbus_header,
            vendor,
            model,
            kind,
            sources,
            notes,
            modbus,
            can,
            session,
            sunspec,
            groups,
            points,
            rules,
        } = self;
        let mut merged_groups = base.groups;
        for (name, group) in groups {
            match merged_groups.iter_mut().find(|(known, _)| *known == name) {
                Some(known) => known.1 = group,
                None => merged_groups.push((name, group)),
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
            notes: notes.or(base.notes),
            modbus: modbus.over(base.modbus),
            can: can.over(base.can),
            session: match (session, base.session) {
                (Some(own), Some(base)) => Some(own.over(base)),
                (own, base) => own.or(base),
            },
            sunspec: sunspec.or(base.sunspec),
            groups: merged_groups,
            points: merged_points,
            rules: RuleDraft::over(rules, base.rules),
        }
    }
}

impl PointDraft {
    fn read(scope: Scope<'_>, entry: &Entry, table: &Table, address_base: Option<u32>) -> Option<Self> {
        let section = Section::new(scope, &POINT, format!("point.{}", entry.key), table);
        let place = Place::new(scope.source, entry.key_span.clone());
        let draft = |field| Self {
            field,
            place: place.clone(),
            register: RegisterDraft::read(&section, address_base),
            signal: SignalDraft::read(&section),
            formula: FormulaDraft::read(&section),
            scale: section.optional("scale", scale),
            offset: section.optional("offset", number(-1e12..=1e12)),
            unit: section.optional("unit", unit),
            invert: section.optional("sign", one_of(&[("import-positive", false), ("export-positive", true)])),
            valid: section.optional("valid", range),
            group: section.optional("group", text),
            frozen_after: section.optional("frozen_after", duration_within(FROZEN)),
            aggregation: section.optional("fold", one_of(&[("mean", Aggregation::Mean), ("last", Aggregation::Last)])),
            value_type: section.optional(
                "shape",
                one_of(&[("float", ValueType::Float), ("integer", ValueType::Integer), ("text", ValueType::Text)]),
            ),
            texts: section.optional("texts", texts),
        };
        match FieldName::of_point(&entry.key) {
            Ok(field) => Some(draft(field)),
            Err(invalid) => {
                let problem = format!("the point {invalid}");
                let own = FieldName::of_point(&format!("device_{}", entry.key));
                let remedy = match own.ok().filter(|_| FieldName::try_from(entry.key.as_str()).is_ok()) {
                    Some(own) => format!("{own}, or another name of its own"),
                    None => "a name such as power_flow or voltage_l1".to_owned(),
                };
                scope.faults.push(place.fault(section.title.clone(), problem, remedy));
                None
            }
        }
    }

    fn over(self, base: Self) -> Self {
        let comes_over_a_wire = self.register.is_said() || self.signal.is_said();
        // What is said of a register means nothing for a sum, and the other way round.
        if self.formula.is_some() != base.formula.is_some() && (self.formula.is_some() || comes_over_a_wire) {
            return self;
        }
        Self {
            field: self.field,
            place: self.place,
            formula: self.formula.or(base.formula),
            register: self.register.over(base.register),
            signal: self.signal.over(base.signal),
            scale: self.scale.or(base.scale),
            offset: self.offset.or(base.offset),
            unit: self.unit.or(base.unit),
            invert: self.invert.or(base.invert),
            valid: self.valid.or(base.valid),
            group: self.group.or(base.group),
            frozen_after: self.frozen_after.or(base.frozen_after),
            aggregation: self.aggregation.or(base.aggregation),
            value_type: self.value_type.or(base.value_type),
            texts: self.texts.or(base.texts),
        }
    }
}

fn read_groups(scope: Scope<'_>, file: &Section<'_>) -> Vec<(String, GroupDraft)> {
    let read = |(entry, table): (&Entry, &Table)| {
        let group = Section::new(scope, &GROUP, format!("group.{}", entry.key), table);
        let pace = group.required("interval", |value| match &value.kind {
            Kind::Text(word) if word == "poll" => Ok(Pace::Poll),
            _ => duration_within(INTERVAL)(value).map(Pace::Every),
        });
        let of = group.optional("of", one_of(&[("connector", false), ("station", true)]));
        let draft = GroupDraft {
            // A wrong interval is reported; the group itself is there.
            pace: pace.unwrap_or(Pace::Poll),
            // What is a unit on every kind of line.
            unit: group.optional("unit_id", integer(1..=247)),
            of_station: of.unwrap_or(false),
        };
        (entry.key.clone(), draft)
    };
    file.family("group").into_iter().map(read).collect()
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

fn texts(value: &Value) -> Taken<Vec<(i128, Arc<str>)>> {
    let Kind::Table(table) = &value.kind else { return Err(Wrong::new("is not a table of codes")) };
    let pair = |entry: &Entry| {
        let code = match entry.key.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).map(i128::from),
            None => entry.key.parse::<i128>(),
        };
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
