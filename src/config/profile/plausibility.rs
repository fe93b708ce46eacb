//! `[plausibility.RULE]` of a profile or a device: how near quantities must be that go together.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::document::{Entry, Table, Value};
use crate::config::fault::{Collector, Place};
use crate::config::section::{Form, Scope, Section, Taken, Wrong, boolean, duration_within, nearest, text};
use crate::spec::{COMPARISONS, DeviceKind, Points, Rule, Tolerance, Tolerances};

pub(crate) const RULE: Form =
    Form { table: "plausibility.*", keys: &[("tolerance", "\"2 %\""), ("hold", "\"30s\""), ("off", "true")] };
/// Of a rule's hold time: shorter is a moment, longer is nobody's concern.
const HOLD: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3600);

/// What is said of a rule.
#[derive(Debug, Clone)]
pub(crate) struct RuleDraft {
    rule: Rule,
    place: Place,
    part: Option<f64>,
    hold: Option<Duration>,
    off: Option<bool>,
}

impl RuleDraft {
    /// All that `owner` says under `plausibility`.
    pub(crate) fn read_all(scope: Scope<'_>, owner: &Section<'_>) -> Vec<Self> {
        let prefix = if owner.title.is_empty() { String::new() } else { format!("{}.", owner.title) };
        let read = |(entry, table)| Self::read(scope, &prefix, entry, table);
        owner.family("plausibility").into_iter().filter_map(read).collect()
    }

    fn read(scope: Scope<'_>, prefix: &str, entry: &Entry, table: &Table) -> Option<Self> {
        let section = Section::new(scope, &RULE, format!("{prefix}plausibility.{}", entry.key), table);
        let place = Place::new(scope.source, entry.key_span.clone());
        let part = section.optional("tolerance", percentage);
        let hold = section.optional("hold", duration_within(HOLD));
        let off = section.optional("off", boolean);
        let Some(rule) = Rule::from_name(&entry.key) else {
            let names = Rule::ALL.map(Rule::as_str);
            let remedy = match nearest(&entry.key, names.into_iter()) {
                Some(near) => format!("[{prefix}plausibility.{near}]"),
                None => format!("one of {}", names.join(", ")),
            };
            scope.faults.push(place.fault(section.title, format!("there is no rule {}", entry.key), remedy));
            return None;
        };
        Some(Self { rule, place, part, hold, off })
    }

    /// These words where there are any, those of `base` elsewhere.
    pub(super) fn over(own: Vec<Self>, base: Vec<Self>) -> Vec<Self> {
        let mut merged = base;
        for draft in own {
            match merged.iter_mut().find(|known| known.rule == draft.rule) {
                Some(known) => {
                    let Self { rule, place, part, hold, off } = draft;
                    let (part, hold, off) = (part.or(known.part), hold.or(known.hold), off.or(known.off));
                    *known = Self { rule, place, part, hold, off };
                }
                None => merged.push(draft),
            }
        }
        merged
    }

    /// The points with what is said of them; a rule for which they have not the quantities is reported.
    pub(crate) fn applied(drafts: &[Self], points: Points, kind: DeviceKind, faults: &Collector) -> Points {
        if drafts.is_empty() {
            return points;
        }
        let mut tolerances = points.tolerances();
        for draft in drafts {
            draft.apply(&points, kind, &mut tolerances, faults);
        }
        points.with_tolerances(tolerances)
    }

    fn apply(&self, points: &Points, kind: DeviceKind, tolerances: &mut Tolerances, faults: &Collector) {
        let Self { rule, place, part, hold, off } = self;
        let name = rule.as_str();
        if !points.has_quantities_of(*rule, kind) {
            let problem = format!("there is nothing that the rule {name} compares: it looks at {}", quantities(*rule));
            faults.push(place.fault(format!("plausibility.{name}"), problem, "delete this table, or add the points"));
            return;
        }
        let Tolerance { part: known_part, hold: known_hold, is_off } = tolerances.of(*rule);
        let (part, hold) = (part.unwrap_or(known_part), hold.unwrap_or(known_hold));
        tolerances.set(*rule, Tolerance { part, hold, is_off: off.unwrap_or(is_off) });
    }
}

/// What a rule looks at, by its first comparison.
fn quantities(rule: Rule) -> String {
    match rule {
        Rule::RegisterAgainstPower => "power_flow and energy_import or energy_export".to_owned(),
        Rule::SocAgainstEnergy => "soc and power_flow or energy_import".to_owned(),
        _ => {
            let first = COMPARISONS.iter().find(|comparison| comparison.rule == rule);
            let fields = first.into_iter().flat_map(|c| c.value.iter().chain(c.expected.iter().copied().flatten()));
            let mut named: Vec<&str> = fields.copied().collect();
            named.dedup();
            let is_of_charger = first.is_some_and(|comparison| comparison.is_of_charger);
            let of = if is_of_charger { ", of devices of kind evse" } else { "" };
            format!("{}{of}, for instance", named.join(", "))
        }
    }
}

/// `2 %`, as a part of 1.
fn percentage(value: &Value) -> Taken<f64> {
    let given = text(value)?;
    let number = given.strip_suffix('%').and_then(|number| number.trim_end().parse::<f64>().ok());
    match number.filter(|number| (0.0..=100.0).contains(number)) {
        Some(percent) => Ok(percent / 100.0),
        None => Err(Wrong::noted(format!("= \"{given}\" is no percentage"), "0 % to 100 %")),
    }
}
