//! The state of charge, against the energy that has flowed meanwhile.

use super::hold::{Finding, Held, Sides};
use crate::measure::{EnergyDelta, Interval, IntervalValue, fingerprint};
use crate::spec::{DeviceKind, DeviceSpec, PointIx, Tolerance};

/// Without energy for so long another vehicle may stand there.
const IDLE_NS: i64 = 60_000_000_000;
/// What a vehicle tells before energy flows may be nothing that it knows.
const FLOWS_NS: i64 = 5_000_000_000;
/// Power that was not known for so long: nobody knows what has flowed.
const UNKNOWN_NS: i64 = 15_000_000_000;
/// %: a state of charge is corrected now and then by as much.
const CORRECTION: f64 = 5.0;
/// % above which what flows keeps a battery warm.
const FULL: f64 = 95.0;
/// kWh after which it must not have gone the other way.
const TURNED_KWH: f64 = 1.0;
/// kWh, and the part of the capacity, after which it must have gone as far as it should.
const CHARGED_KWH: f64 = 5.0;
const CHARGED_PART: f64 = 0.2;
/// kWh of the largest battery of a vehicle, where none is told, and after how much it must have moved.
const LARGEST_KWH: f64 = 700.0;
const LARGEST_CHARGED_KWH: f64 = 35.0;
/// No battery of a vehicle that is charged by wire is smaller.
const SMALLEST_KWH: f64 = 1.0;
const CAPACITIES: [&str; 2] = ["battery_capacity", "energy_capacity"];

/// The state of charge of a device against its energy.
#[derive(Debug)]
pub(super) struct SocCheck {
    soc: PointIx,
    capacity: Option<PointIx>,
    is_of_vehicle: bool,
    tolerance: Tolerance,
    capacity_kwh: Option<f64>,
    base: Option<Base>,
    /// When energy flowed last.
    flow: i64,
    /// Whose it is.
    who: Option<u64>,
    held: Held,
    sides: Sides,
}

/// From where it is counted.
#[derive(Debug, Clone, Copy)]
struct Base {
    soc: f64,
    /// kWh to the battery since.
    flowed: f64,
    /// When that was known last.
    known: i64,
}

impl SocCheck {
    /// `None`: it has none, or no energy.
    pub(super) fn new(device: &DeviceSpec, tolerance: Tolerance) -> Option<Self> {
        let roles = device.points.roles();
        let has_energy = roles.power.is_some() || roles.energy_import.is_some();
        let place = |name: &&'static str| {
            let found = (0..).zip(device.points.iter()).find(|(_, point)| point.field.as_str() == *name);
            found.map(|(ix, _)| PointIx(ix))
        };
        Some(Self {
            soc: roles.soc.filter(|_| has_energy)?,
            capacity: CAPACITIES.iter().find_map(place),
            is_of_vehicle: matches!(device.kind, DeviceKind::Evse | DeviceKind::Vehicle),
            tolerance,
            capacity_kwh: None,
            base: None,
            flow: i64::MIN,
            who: None,
            held: Held::new(),
            sides: Sides::default(),
        })
    }

    pub(super) fn begin_anew(&mut self) {
        (self.base, self.flow) = (None, i64::MIN);
        self.held.begin_anew();
    }

    pub(super) fn stands(&self) -> bool {
        self.held.stands
    }

    pub(super) fn judge(&mut self, interval: &Interval, now: i64) {
        let names = (&interval.vehicle, &interval.session);
        let who = (names != (&None, &None)).then(|| {
            let vehicle = names.0.as_ref().map_or("", |vehicle| vehicle.as_str());
            let session = names.1.as_ref().map_or("", |session| session.as_str());
            fingerprint(vehicle.bytes().chain([0]).chain(session.bytes()))
        });
        if std::mem::replace(&mut self.who, who) != who {
            // What was found was of the vehicle before.
            (self.base, self.held, self.capacity_kwh) = (None, Held::new(), None);
        }
        let number = |ix: PointIx| {
            let told = interval.points.iter().find(|told| told.point == ix && told.questionable.is_none())?;
            if let IntervalValue::Float(statistic) = told.value { Some(statistic.value) } else { None }
        };
        self.capacity_kwh = self.capacity.and_then(number).filter(|kwh| *kwh >= SMALLEST_KWH).or(self.capacity_kwh);
        let soc = number(self.soc);
        let (import, export) = (interval.energy.import, interval.energy.export);
        let kwh = import.map_or(0.0, EnergyDelta::kwh) - export.map_or(0.0, EnergyDelta::kwh);
        if kwh != 0.0 {
            self.flow = now;
        }
        if let Some(base) = self.base.as_mut().filter(|_| !interval.energy.is_empty()) {
            let is_hole = now.saturating_sub(base.known) > UNKNOWN_NS && !interval.energy.is_of_register();
            (base.known, base.flowed) = (now, base.flowed + kwh);
            if is_hole {
                self.base = None;
            }
        }
        let still = now.saturating_sub(self.flow);
        if still > IDLE_NS {
            self.base = None;
        }
        let Some(soc) = soc else { return };
        if self.base.is_none() && still <= FLOWS_NS {
            self.base = Some(Base { soc, flowed: 0.0, known: now });
        }
        let Some(base) = self.base else { return };
        if let Some((finding, expected)) = self.find(base, soc) {
            self.sides = Sides { value: soc - base.soc, expected };
            self.held.take(finding, now, self.tolerance.hold);
        }
    }

    /// What it says, and by how much it should have moved; `None`: too little has flowed.
    fn find(&self, Base { soc: from, flowed, .. }: Base, soc: f64) -> Option<(Finding, f64)> {
        let moved = soc - from;
        if flowed.abs() >= TURNED_KWH && moved * flowed.signum() <= -CORRECTION {
            return Some((if flowed > 0.0 { Finding::TooSmall } else { Finding::TooLarge }, 0.0));
        }
        if soc >= FULL || from >= FULL {
            return None;
        }
        if let Some(capacity) = self.capacity_kwh {
            if flowed.abs() < CHARGED_KWH.max(CHARGED_PART * capacity) {
                return None;
            }
            let expected = 100.0 * flowed / capacity;
            let off = self.tolerance.part * expected.abs() + CORRECTION;
            let finding = match moved - expected {
                more if more > off => Finding::TooLarge,
                less if less < -off => Finding::TooSmall,
                near if near.abs() <= 0.8 * off => Finding::Fits,
                _ => Finding::Neither,
            };
            return Some((finding, expected));
        }
        if !self.is_of_vehicle || flowed.abs() < LARGEST_CHARGED_KWH {
            return None;
        }
        let least = 100.0 * flowed / LARGEST_KWH;
        let is_still = moved * flowed.signum() < 0.2 * least.abs();
        let finding = match (is_still, flowed > 0.0) {
            (false, _) => Finding::Fits,
            (true, true) => Finding::TooSmall,
            (true, false) => Finding::TooLarge,
        };
        Some((finding, least))
    }

    pub(super) fn told(&self) -> (Sides, &'static str, String) {
        let of = self.capacity_kwh.map_or_else(String::new, |kwh| format!(" of {kwh} kWh"));
        (self.sides, "%", format!("the change of soc against the energy that flowed{of}"))
    }
}
