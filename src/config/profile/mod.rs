//! A device profile: what a make of device offers.
//!
//! In: files, laid over each other (`draft.rs`). Out: a [`Profile`], complete and checked; what is missing or does not fit is
//! reported. What all wires share is here: quantity, unit, scale, sign, range, words; where a point comes from is in the
//! file of its wire (`modbus.rs`, `can.rs`, `iso15118.rs`), or, if it is worked out of others, in `derived.rs`.

mod blocks;
mod can;
mod derived;
mod draft;
mod iso15118;
mod modbus;
mod plausibility;
pub(in crate::config) mod sunspec;

use std::time::Duration;

use super::dbc::Dbc;
use super::fault::Collector;
use super::section::nearest;
use crate::spec::{
    Aggregation, Conversion, DeviceKind, Origin, PointSpec, Points, PollGroup, RegisterBlock, Scaling, Unit, ValueType,
};
use can::DbcDefaults;
use derived::{Candidates, FormulaDraft};
use draft::{GroupDraft, PROFILE, Pace, PointDraft};
use modbus::Connectors;

pub(super) use can::{DbcFiles, DbcTrouble, Node};
pub(super) use draft::{Draft, INTERVAL, KINDS};
pub(super) use plausibility::{RULE, RuleDraft};

/// The most points of a device; [`crate::spec::PointIx`] could hold more, a batch should not.
const POINTS_MAX: usize = 512;

/// A profile that is complete and checked.
#[derive(Debug)]
pub(super) struct Profile {
    pub kind: DeviceKind,
    /// When the device table does not say.
    pub poll: Duration,
    /// What passes at least between an answer and the next request, unless the device's own section says otherwise.
    pub pause: Duration,
    /// The wire that it is for.
    pub medium: Medium,
    /// Of a station that has several in one map.
    pub connectors: Option<Connectors>,
    /// What its register list calls the first register on the wire.
    pub address_base: Option<u32>,
    /// Of the first connector, if there are several.
    points: Points,
    /// The points that are the same at every connector.
    of_station: Vec<bool>,
    groups: Vec<Group>,
}

/// The kind of wire that a profile is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Medium {
    Modbus,
    /// A CAN bus; where a device's own number stands in its ids.
    Can(Option<Node>),
    /// Charging sessions.
    Session,
}

#[derive(Debug)]
struct Group {
    name: String,
    pace: Pace,
    of_station: bool,
    blocks: Vec<RegisterBlock>,
}

impl Profile {
    /// What a device at this connector (from 1) offers.
    pub(super) fn points(&self, connector: u16) -> Points {
        let shift = self.shift(connector);
        if shift == 0 {
            return self.points.clone();
        }
        let shifted = |(point, of_station): (&PointSpec, &bool)| {
            let mut point = point.clone();
            if let (false, Origin::Register(register)) = (*of_station, &mut point.origin) {
                register.address += shift;
                if let Some(scale) = &mut register.scale {
                    scale.address += shift;
                }
            }
            point
        };
        let points: Points = self.points.iter().zip(&self.of_station).map(shifted).collect();
        points.with_tolerances(self.points.tolerances())
    }

    /// The groups of a device at this connector that is polled at this interval.
    pub(super) fn groups(&self, connector: u16, poll: Duration) -> Vec<PollGroup> {
        let interval = |pace| match pace {
            Pace::Poll => poll,
            Pace::Every(interval) => poll.max(interval),
        };
        let shift = |g: &Group| if g.of_station { 0 } else { self.shift(connector) };
        let blocks = |g: &Group| {
            let shift = shift(g);
            g.blocks.iter().map(|block| RegisterBlock { start: block.start + shift, ..*block }).collect()
        };
        let group = |g: &Group| PollGroup { name: g.name.clone(), interval: interval(g.pace), blocks: blocks(g) };
        self.groups.iter().map(group).collect()
    }

    /// It has been checked that no register leaves the address space at the last connector.
    fn shift(&self, connector: u16) -> u16 {
        self.connectors.map_or(0, |connectors| connectors.shift(connector.min(connectors.count)))
    }

    /// The points of the device of this number on a CAN bus.
    pub(super) fn points_of(&self, number: Option<u32>) -> Points {
        let (Medium::Can(Some(node)), Some(number)) = (self.medium, number) else { return self.points.clone() };
        let numbered = |point: &PointSpec| {
            let mut point = point.clone();
            if let Origin::Signal(signal) = &mut point.origin {
                signal.formula.for_each_signal(|s| s.frame = s.frame.with_number(node.shift, node.bits, number));
            }
            point
        };
        let points: Points = self.points.iter().map(numbered).collect();
        points.with_tolerances(self.points.tolerances())
    }
}

impl Draft {
    /// The profile, if nothing is missing and everything fits together; what does not is reported.
    pub(super) fn complete(&self, faults: &Collector, files: &dyn DbcFiles) -> Option<Profile> {
        self.require_all(faults);
        if let Some(name) = self.sunspec {
            let profile = sunspec::profile(name)?;
            let points = self.with_derived(profile.points.to_vec(), faults)?;
            let kind = self.kind.unwrap_or(profile.kind);
            let of_station = vec![false; points.len()];
            let points = RuleDraft::applied(&self.rules, points.into(), kind, faults);
            return Some(Profile { kind, points, of_station, ..profile });
        }
        let dbc = if self.can.is_said() { Some(self.can.file(&self.header, files, faults)?) } else { None };
        let medium = match (&self.session, self.can.is_said()) {
            (Some(_), _) => Medium::Session,
            (None, true) => Medium::Can(self.can.node()),
            (None, false) => Medium::Modbus,
        };
        let points = match &self.session {
            Some(session) => self.with_derived(session.points()?, faults)?,
            None => self.all_points(dbc.as_deref(), faults)?,
        };
        let (connectors, groups, of_station) = match medium {
            Medium::Session => (None, Vec::new(), vec![false; points.len()]),
            Medium::Can(_) | Medium::Modbus => self.places(&points, faults),
        };
        let kind = self.kind?;
        Some(Profile {
            kind,
            poll: self.modbus.poll(),
            pause: self.modbus.pause(),
            address_base: self.modbus.address_base,
            medium,
            connectors,
            groups,
            of_station,
            points: RuleDraft::applied(&self.rules, points.into(), kind, faults),
        })
    }

    /// The points as the file has them.
    fn all_points(&self, dbc: Option<&Dbc>, faults: &Collector) -> Option<Vec<PointSpec>> {
        let is_signal = |name: &str| dbc.is_some_and(|dbc| can::has_signal(dbc, name));
        let mut candidates = Candidates::new(faults, &is_signal);
        for point in &self.points {
            match &point.formula {
                Some(formula) if dbc.is_none() || formula.is_of_points(|name| self.has_point(name), is_signal) => {
                    candidates.push_derived(point, formula);
                }
                _ => candidates.push(&point.field, point.complete(self, dbc, faults)),
            }
        }
        candidates.complete()
    }

    /// What the device tells by itself, and behind it what the file works out of that.
    fn with_derived(&self, told: Vec<PointSpec>, faults: &Collector) -> Option<Vec<PointSpec>> {
        let is_signal = |_: &str| false;
        let mut candidates = Candidates::new(faults, &is_signal);
        for point in told {
            let field = point.field.clone();
            candidates.push(&field, Some(point));
        }
        for point in &self.points {
            if let Some(formula) = &point.formula {
                candidates.push_derived(point, formula);
            }
        }
        candidates.complete()
    }

    /// Connectors and groups, and which of the points are the same at every connector.
    fn places(&self, points: &[PointSpec], faults: &Collector) -> (Option<Connectors>, Vec<Group>, Vec<bool>) {
        // What comes over no wire is in no group.
        let group = |point: &PointDraft| point.group.clone().unwrap_or_default();
        let grouped: Vec<(String, PointSpec)> = self.points.iter().map(group).zip(points.iter().cloned()).collect();
        let is_of_station = |(name, _): &(String, PointSpec)| self.group(name).is_some_and(|group| group.of_station);
        let connectors = self.modbus.connectors(&self.modbus_header, faults);
        (connectors, self.modbus.groups(&self.groups, &grouped), grouped.iter().map(is_of_station).collect())
    }

    fn has_point(&self, name: &str) -> bool {
        self.points.iter().any(|point| point.field.as_str() == name)
    }

    /// Whether a point is a product of this one: then its sign decides about a power.
    fn is_factor(&self, field: &str) -> bool {
        let formulas = self.points.iter().filter_map(|point| point.formula.as_ref());
        let is_product = |formula: &&FormulaDraft| matches!(formula, FormulaDraft::Product(_));
        formulas.filter(is_product).flat_map(FormulaDraft::terms).any(|term| term.name == field)
    }

    fn group(&self, name: &str) -> Option<&GroupDraft> {
        self.groups.iter().find(|(known, _)| known == name).map(|(_, group)| group)
    }

    /// Reports what a profile must say of itself and does not.
    fn require_all(&self, faults: &Collector) {
        let Self { header, modbus_header, vendor, model, kind, sources, modbus, points, session, .. } = self;
        let is_modbus = session.is_none() && !self.can.is_said() && self.sunspec.is_none();
        let base = "0   (the number that the register list gives to the first register on the wire)";
        let needed = [
            (vendor.is_some(), header, "profile", "vendor", PROFILE.example("vendor")),
            (model.is_some(), header, "profile", "model", PROFILE.example("model")),
            (
                kind.is_some(),
                header,
                "profile",
                "kind",
                "\"meter\"   (or \"evse\", \"vehicle\", \"battery\", \"inverter\")",
            ),
            (sources.is_some(), header, "profile", "sources", PROFILE.example("sources")),
            (modbus.address_base.is_some() || !is_modbus, modbus_header, "modbus", "address_base", base),
        ];
        for (is_there, place, table, key, example) in needed {
            let path = format!("{table}.{key}");
            // What lies beneath says all of it.
            let is_there = is_there || self.sunspec.is_some();
            if !is_there && !faults.blames(&place.source, &path) {
                let problem = format!("the key {key} is missing under [{table}]");
                faults.push(place.fault(path, problem, format!("{key} = {example}")));
            }
        }
        let finds_points = session.is_some() || self.sunspec.is_some();
        if let Some(point) = points.iter().find(|point| finds_points && point.formula.is_none()) {
            let (beneath, remedy) = match self.sunspec {
                Some(_) => {
                    ("upon SunSpec, which finds its points itself", "only points that are worked out: sum = […]")
                }
                None => (
                    "with [iso15118]",
                    "values = [\"all\"] under [iso15118], and only points that are worked out: sum = […]",
                ),
            };
            let problem = format!("the point {} has no place in a profile {beneath}", point.field);
            faults.push(point.place.fault(format!("point.{}", point.field), problem, remedy));
        }
        let is_empty = points.is_empty() && session.is_none() && self.sunspec.is_none();
        if is_empty || points.len() > POINTS_MAX {
            let problem = format!("the profile has {} points; 1 to {POINTS_MAX} are allowed", points.len());
            let line = "power_flow = { register = 52, unit = \"W\", sign = \"import-positive\", group = \"fast\" }";
            faults.push(header.fault("point", problem, format!("[point]\n{line}")));
        }
    }
}

/// Reports the mistakes of one point.
#[derive(Clone, Copy)]
struct Critic<'a> {
    point: &'a PointDraft,
    faults: &'a Collector,
}

impl Critic<'_> {
    fn blame(self, problem: &str, remedy: &str) {
        let PointDraft { field, place, .. } = self.point;
        let fault = place.fault(format!("point.{field}"), format!("the point {field} {problem}"), remedy);
        self.faults.push(fault);
    }

    /// What is wrong, here or under `[modbus]`, has been told and is not also missing.
    fn require(self, is_there: bool, key: &str, example: &str) {
        let PointDraft { field, place, .. } = self.point;
        let paths = [format!("point.{field}.{key}"), format!("modbus.{key}"), format!("can.{key}")];
        if !is_there && !paths.iter().any(|path| self.faults.blames(&place.source, path)) {
            self.blame(&format!("has no {key}"), &format!("{key} = {example}"));
        }
    }
}

impl PointDraft {
    /// A point that comes over a wire, or `None` after reporting why not.
    fn complete(&self, draft: &Draft, dbc: Option<&Dbc>, faults: &Collector) -> Option<PointSpec> {
        let critic = Critic { point: self, faults };
        let of_dbc = dbc.map_or_else(DbcDefaults::default, |dbc| can::defaults(self, dbc));
        let natural = || match dbc {
            Some(_) => ValueType::Float,
            None => self.register.natural_shape(&draft.modbus).unwrap_or(ValueType::Float),
        };
        let value_type =
            self.value_type.unwrap_or_else(|| if self.texts.is_some() { ValueType::Text } else { natural() });
        let unit = self.unit.or((value_type != ValueType::Float).then_some(Unit::One)).or(of_dbc.unit);
        // The commonest complaint of all is a power with the wrong sign: it is never assumed.
        let field = self.field.as_str();
        let decides = field.starts_with("power_flow") || field.starts_with("current") && draft.is_factor(field);
        let is_signed = self.invert.is_some() || !decides;
        for (is_there, key, example) in [
            (unit.is_some() || of_dbc.unknown, "unit", "\"V\"   (\"\" for a ratio or a count)"),
            (self.group.is_some() || dbc.is_some(), "group", "\"fast\""),
            (is_signed, "sign", "\"import-positive\"   (or \"export-positive\": what does the device count as plus?)"),
        ] {
            critic.require(is_there, key, example);
        }
        let of = self.group.as_deref().and_then(|name| draft.group(name));
        let origin = match dbc {
            Some(dbc) => can::complete(self, draft, dbc, value_type, critic).map(Origin::Signal),
            None => self.register.complete(&draft.modbus, of, value_type, critic).map(Origin::Register),
        };
        let group = self.group.clone().or(dbc.map(|_| String::new()));
        let (group, unit, origin) = (group?, unit?, origin?);
        if dbc.is_none() && of.is_none() {
            let near = nearest(&group, draft.groups.iter().map(|(name, _)| name.as_str()));
            let make = || format!("[group.{group}]\ninterval = \"10s\"");
            let remedy = near.map_or_else(make, |near| format!("group = \"{near}\""));
            critic.blame(&format!("is in the group \"{group}\", which is not there"), &remedy);
        }
        let is_words = matches!(&origin, Origin::Register(register) if register.raw.is_text());
        self.check_meaning(value_type, unit, is_words || !of_dbc.texts.is_empty() && self.texts.is_none(), critic);
        let (wire_unit, unit_conversion) = unit.wire();
        let invert = self.invert.unwrap_or(false);
        // The DBC file's limits are of the signal as it is.
        let is_plain = self.scale.is_none() && self.offset.is_none() && value_type == ValueType::Float;
        let range = of_dbc.range.filter(|_| is_plain);
        let turned = |(low, high): (f64, f64)| {
            let (low, high) = (unit_conversion.apply(low), unit_conversion.apply(high));
            if invert { -high..=-low } else { low..=high }
        };
        Some(PointSpec {
            field: self.field.clone(),
            unit: wire_unit,
            value_type,
            aggregation: self.aggregation.unwrap_or_else(|| Aggregation::usual(value_type, wire_unit)),
            valid: self.valid.or(range).map(turned),
            frozen_after: self.frozen_after,
            scaling: Scaling {
                conversion: scaled(self.scale.unwrap_or(1.0), unit_conversion),
                offset: unit_conversion.apply(self.offset.unwrap_or(0.0)),
                invert,
                texts: self.texts.clone().unwrap_or(if value_type == ValueType::Text {
                    of_dbc.texts
                } else {
                    Vec::new()
                }),
            },
            origin,
        })
    }

    /// What a point says must fit what it is called and how it is stored. `is_words`: the device itself gives words.
    fn check_meaning(&self, value_type: ValueType, unit: Unit, is_words: bool, critic: Critic<'_>) {
        if value_type != ValueType::Float && (self.scale.is_some() || self.offset.is_some()) {
            critic.blame("is a code and cannot have a scale or an offset", "it without scale and offset");
        }
        if is_words && self.texts.is_some() {
            critic.blame("is a text in the device, which has no codes", "it without texts, or type = \"u16\"");
        } else if !is_words && (value_type == ValueType::Text) != self.texts.is_some() {
            let remedy = "texts = { 0 = \"available\", 1 = \"charging\" }, and no other shape";
            critic.blame("needs texts if, and only if, it is a text", remedy);
        }
        if let Some(expected) = usual_unit(self.field.as_str())
            && expected != unit.wire().0
            && value_type == ValueType::Float
        {
            let problem =
                format!("is in \"{}\"; a point of this name is in {} on the wire", unit.symbol(), expected.symbol());
            critic.blame(&problem, &format!("unit = \"{}\", or another name", expected.symbol()));
        }
    }
}

/// Scale and unit as one quotient. 0.1 is no binary fraction, but 1/10 is a quotient of exact numbers.
fn scaled(scale: f64, unit: Conversion) -> Conversion {
    let inverse = (1.0 / scale).round();
    let is_fraction = scale.abs() < 1.0 && (1.0 / scale - inverse).abs() <= inverse.abs() * 1e-12;
    if is_fraction {
        Conversion { multiply: unit.multiply, divide: unit.divide * inverse }
    } else {
        Conversion { multiply: unit.multiply * scale, divide: unit.divide }
    }
}

/// The wire's unit of the names that consumers rely on.
fn usual_unit(field: &str) -> Option<Unit> {
    let stem = ["_l1", "_l2", "_l3"].iter().find_map(|phase| field.strip_suffix(phase)).unwrap_or(field);
    match stem {
        "power_flow" | "power_limit_charge" | "power_limit_discharge" => Some(Unit::Kilowatt),
        "power_reactive" => Some(Unit::Kilovar),
        "power_apparent" => Some(Unit::KilovoltAmpere),
        "power_factor" => Some(Unit::One),
        "voltage" => Some(Unit::Volt),
        "current" | "current_limit" => Some(Unit::Ampere),
        "frequency" => Some(Unit::Hertz),
        "energy_import" | "energy_export" => Some(Unit::KilowattHour),
        "soc" => Some(Unit::Percent),
        _ if stem.starts_with("temperature") => Some(Unit::Celsius),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_scale_gives_the_nearest_value() {
        let tenth_of_a_watt = scaled(0.1, Unit::Watt.wire().1);
        assert_eq!(tenth_of_a_watt.apply(72_005.0).to_bits(), 7.2005_f64.to_bits());
        let hundredth = scaled(0.01, Conversion::IDENTITY);
        assert_eq!(hundredth.apply(4_998.0).to_bits(), 49.98_f64.to_bits());
        assert_eq!(scaled(10.0, Unit::WattHour.wire().1), Conversion { multiply: 10.0, divide: 1000.0 });
        assert_eq!(scaled(0.3, Conversion::IDENTITY), Conversion { multiply: 0.3, divide: 1.0 });
        assert_eq!(scaled(-0.1, Conversion::IDENTITY).apply(5.0).to_bits(), (-0.5_f64).to_bits());
    }

    #[test]
    fn the_manual_of_profiles_mentions_every_key() {
        let manual = include_str!("../../../configs/devices/eastron-sdm630.toml");
        let manual = manual.split("this meter").next().expect("its beginning");
        let can = include_str!("../../../configs/devices/chademo.toml");
        let can = can.split("this protocol").next().expect("its beginning");
        let is_key_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        for (key, _) in can::CAN.keys.iter().chain(can::NODE.keys) {
            assert!(can.split(|c| !is_key_part(c)).any(|word| word == *key), "chademo.toml does not mention {key}");
        }
        for form in [&PROFILE, &modbus::MODBUS, &modbus::SCALE_REGISTER, &draft::GROUP, &draft::POINT, &RULE] {
            for (key, _) in form.keys {
                let is_mentioned = manual.split(|c| !is_key_part(c)).any(|word| word == *key);
                assert!(is_mentioned, "the manual does not mention {} {key}", form.table);
            }
        }
    }
}
