//! Whether what a device says goes together: rules as data (`spec::plausibility`), judged here. Pure.
//!
//! In: the windows of a device, as they are closed, and its readings of power and registers. Out: [`EventKind::Implausible`] when a rule
//! has been broken for its hold time, and [`EventKind::Plausible`] when it has held again for as long. No value is changed.
//!
//! - Compared is only what was read together: within a second, and all of it anew since the comparison before. Each number is taken
//!   as the range of its window, wider by the step in which the device tells it; a rule is broken if no pair out of both ranges fits.
//! - A load that moves is not read at one moment: one comparison that fits begins the hold time anew. So does what is off the other way,
//!   and a time in which nothing could be compared.
//! - Within a fifth of its tolerance nothing begins and nothing ends.
//! - What is worked out of the other side, or is missing, or doubtful, is not compared; nor is what an inverter or a charger tells in SunSpec:
//!   its points may be those of a meter of its own.
//! - A start begins anew: what stands then is told again.
//!
//! Memory: 40 bytes for each quantity that is compared and 120 for each comparison: 3 kB of a meter that tells all of its phases.

mod compared;
mod hold;
mod register;
mod soc;

use std::sync::Arc;

use self::compared::{Check, Slot};
use self::hold::Sides;
use self::register::RegisterCheck;
use self::soc::SocCheck;
use crate::measure::{EventKind, Interval, IntervalValue, PointInterval, Reading, Stamp, Verdict};
use crate::spec::{COMPARISONS, DeviceKind, DeviceSpec, Origin, PointIx, Rule};

/// What is known of the rules of one device.
#[derive(Debug)]
pub(super) struct Plausibility {
    /// By point: where it stands among the slots, or [`NO_SLOT`].
    slot_of: Box<[u8]>,
    slots: Box<[Slot]>,
    checks: Box<[Check]>,
    register: Option<Box<RegisterCheck>>,
    soc: Option<Box<SocCheck>>,
    /// The rules that were told as broken, by their places.
    told: u8,
    is_of_source: bool,
}

const NO_SLOT: u8 = u8::MAX;

impl Plausibility {
    pub(super) fn new(device: &DeviceSpec) -> Self {
        let mut slots: Vec<(PointIx, Slot)> = Vec::new();
        let is_sunspec = device.points.iter().any(|point| matches!(point.origin, Origin::SunSpec(_)));
        let are_mixed = is_sunspec && device.kind != DeviceKind::Meter;
        let tolerances = device.points.tolerances();
        let is_on = |rule: Rule| !are_mixed && !tolerances.of(rule).is_off;
        let comparisons = COMPARISONS.iter().filter(|comparison| is_on(comparison.rule));
        let checks: Vec<Check> = comparisons
            .filter_map(|comparison| {
                let places = device.points.compared_by(comparison, device.kind)?;
                let mut slot = |ix: PointIx| compared::slot(&mut slots, ix, device.points.get(usize::from(ix.0))?);
                let places: Option<Box<[u8]>> = places.into_iter().map(&mut slot).collect();
                Some(Check::new(comparison, places?, tolerances.of(comparison.rule)))
            })
            .collect();
        let mut slot_of = vec![NO_SLOT; device.points.len()].into_boxed_slice();
        for ((ix, _), slot) in slots.iter().zip(0..) {
            if let Some(place) = slot_of.get_mut(usize::from(ix.0)) {
                *place = slot;
            }
        }
        let register = is_on(Rule::RegisterAgainstPower)
            .then(|| RegisterCheck::new(device, tolerances.of(Rule::RegisterAgainstPower)));
        let soc = is_on(Rule::SocAgainstEnergy).then(|| SocCheck::new(device, tolerances.of(Rule::SocAgainstEnergy)));
        Self {
            slot_of,
            slots: slots.into_iter().map(|(_, slot)| slot).collect(),
            checks: checks.into(),
            register: register.flatten().map(Box::new),
            soc: soc.flatten().map(Box::new),
            told: 0,
            is_of_source: false,
        }
    }

    /// Takes a reading; `flowed`: if it is one of power, the mean power (kW) since the one before and the hours between.
    pub(super) fn add(&mut self, reading: &Reading, flowed: Option<(f64, f64)>) {
        if let Some(register) = &mut self.register {
            register.add(reading, flowed);
        }
    }

    /// Judges a window of the device that ends at `end`: what begins and what ends is told, as long as `tell` takes it.
    pub(super) fn judge(&mut self, intervals: &[Interval], end: Stamp, mut tell: impl FnMut(EventKind) -> bool) {
        let is_of_source = end.trust.is_of_source();
        if std::mem::replace(&mut self.is_of_source, is_of_source) != is_of_source {
            self.begin_anew();
        }
        let now = if is_of_source { end.utc.0 } else { i64::try_from(end.mono.0).unwrap_or(i64::MAX) };
        let mut is_new = false;
        for interval in intervals {
            for told in &interval.points {
                is_new |= self.note(told, now);
            }
            if let Some(soc) = &mut self.soc {
                soc.judge(interval, now);
            }
        }
        if is_new {
            let Self { slots, checks, .. } = self;
            checks.iter_mut().for_each(|check| check.judge(slots, now));
        }
        let standing = self.standing();
        if standing == self.told {
            return;
        }
        let news = standing ^ self.told;
        for rule in Rule::ALL.into_iter().filter(|rule| news & bit(*rule) != 0) {
            let broken = self.broken(rule);
            let stands = broken.is_some();
            let Some((sides, unit, what)) = broken.or_else(|| self.last(rule)) else { continue };
            let verdict = Arc::new(verdict(rule, sides, unit, &what));
            if tell(if stands { EventKind::Implausible(verdict) } else { EventKind::Plausible(verdict) }) {
                self.told ^= bit(rule);
            }
        }
    }

    fn note(&mut self, told: &PointInterval, now: i64) -> bool {
        let slot = self.slot_of.get(usize::from(told.point.0)).filter(|slot| **slot != NO_SLOT);
        let Some(slot) = slot.and_then(|slot| self.slots.get_mut(usize::from(*slot))) else { return false };
        match told.value {
            IntervalValue::Float(statistic) if told.questionable.is_none() => slot.note(statistic, now),
            _ => slot.lose(),
        }
        true
    }

    /// The two lines of time have nothing to do with each other.
    fn begin_anew(&mut self) {
        self.slots.iter_mut().for_each(Slot::lose);
        self.checks.iter_mut().for_each(Check::begin_anew);
        self.register.iter_mut().for_each(|register| register.begin_anew());
        self.soc.iter_mut().for_each(|soc| soc.begin_anew());
    }

    /// The rules that are broken, by their places.
    fn standing(&self) -> u8 {
        let compared = self.checks.iter().filter(|check| check.stands()).map(|check| bit(check.comparison.rule));
        let register = self.register.iter().filter(|register| register.stands());
        let soc = self.soc.iter().filter(|soc| soc.stands());
        let of_energy =
            register.map(|_| bit(Rule::RegisterAgainstPower)).chain(soc.map(|_| bit(Rule::SocAgainstEnergy)));
        compared.chain(of_energy).fold(0, |all, rule| all | rule)
    }

    /// What is broken of a rule.
    fn broken(&self, rule: Rule) -> Option<(Sides, &'static str, String)> {
        match rule {
            Rule::RegisterAgainstPower => self.register.as_ref().filter(|r| r.stands()).map(|r| r.told()),
            Rule::SocAgainstEnergy => self.soc.as_ref().filter(|soc| soc.stands()).map(|soc| soc.told()),
            _ => {
                let mut own = self.checks.iter().filter(|check| check.comparison.rule == rule);
                own.find(|check| check.stands()).map(Check::told)
            }
        }
    }

    /// How a rule stands that was broken.
    fn last(&self, rule: Rule) -> Option<(Sides, &'static str, String)> {
        match rule {
            Rule::RegisterAgainstPower => self.register.as_ref().map(|register| register.told()),
            Rule::SocAgainstEnergy => self.soc.as_ref().map(|soc| soc.told()),
            _ => {
                let own = self.checks.iter().filter(|check| check.comparison.rule == rule);
                own.max_by_key(|check| check.ended_at()).map(Check::told)
            }
        }
    }
}

fn bit(rule: Rule) -> u8 {
    1 << rule as u8
}

fn verdict(rule: Rule, Sides { value, expected }: Sides, unit: &str, what: &str) -> Verdict {
    #[allow(clippy::cast_possible_truncation, reason = "saturates; what makes sense is far below")]
    let milli = |number: f64| (number * 1000.0).round() as i64;
    Verdict {
        rule: rule.as_str().into(),
        value_milli: milli(value),
        expected_milli: milli(expected),
        unit: unit.into(),
        what: what.into(),
    }
}

#[cfg(test)]
mod tests;
