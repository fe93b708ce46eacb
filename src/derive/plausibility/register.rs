//! What a register counts, against power over the same time.

use super::hold::Sides;
use crate::measure::{Count, Outcome, Reading};
use crate::spec::{DeviceKind, DeviceSpec, PointIx, Roles, Tolerance};

/// kWh that are compared, at the least.
const COMPARED_MIN: f64 = 0.5;
/// And so often what is unsure at both ends of a comparison.
const COMPARED_TIMES: f64 = 10.0;
/// A register may be so much behind power, in hours: a device works its counters out some times a minute.
const BEHIND_HOURS: f64 = 20.0 / 3600.0;
/// The steps of a register that has never moved, kWh: those of a meter for such powers …
const STEPS: std::ops::RangeInclusive<f64> = 0.1..=10.0;
/// … which moves once in so long at its highest power, hours.
const STEP_HOURS: f64 = 1.0 / 25.0;
/// So near a mistake that is known is the likely one.
const LIKELY_PART: f64 = 0.2;
/// So many comparisons, one after the other, make a finding, and its end.
const COMPARISONS_MIN: u32 = 2;

/// The registers of a device against its power.
#[derive(Debug)]
pub(super) struct RegisterCheck {
    power: PointIx,
    /// Import and export.
    registers: [Option<PointIx>; 2],
    /// A meter may count phases that bring and phases that take apart, and its power is their sum: where only one direction is counted, it
    /// may count more.
    may_count_more: bool,
    tolerance: Tolerance,
    /// Which registers were read since power is known.
    begun: [bool; 2],
    /// Since the comparison before: by the registers and by power, in the directions that are counted (kWh), and the time (hours).
    counted: f64,
    flowed: f64,
    /// The same without signs.
    counted_all: f64,
    flowed_all: f64,
    hours: f64,
    /// By power since a register has moved.
    since_step: f64,
    /// The smallest step seen; 0: none.
    step: f64,
    power_max: f64,
    /// How often the same was found, and what.
    run: (u32, Off),
    stands: bool,
    sides: Sides,
    words: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Off {
    Fits,
    More,
    Less,
}

impl RegisterCheck {
    /// `None`: it has no power and no register that is not worked out of it.
    pub(super) fn new(device: &DeviceSpec, tolerance: Tolerance) -> Option<Self> {
        let Roles { power, energy_import, energy_export, .. } = device.points.roles();
        let power = power?;
        let own = device.points.operands_of(power);
        let is_register = |ix: &PointIx| {
            let is_counter = device.points.get(usize::from(ix.0)).is_some_and(crate::spec::PointSpec::is_counter);
            is_counter && device.points.operands_of(*ix).iter().all(|operand| !own.contains(operand))
        };
        let registers = [energy_import.filter(is_register), energy_export.filter(is_register)];
        registers.iter().any(Option::is_some).then(|| Self {
            power,
            registers,
            may_count_more: device.kind != DeviceKind::Evse && registers.iter().any(Option::is_none),
            tolerance,
            begun: [false; 2],
            counted: 0.0,
            flowed: 0.0,
            counted_all: 0.0,
            flowed_all: 0.0,
            hours: 0.0,
            since_step: 0.0,
            step: 0.0,
            power_max: 0.0,
            run: (0, Off::Fits),
            stands: false,
            sides: Sides::default(),
            words: "",
        })
    }

    /// What was before is not known to go on.
    pub(super) fn begin_anew(&mut self) {
        self.begun = [false; 2];
        self.next();
    }

    /// The next comparison begins.
    fn next(&mut self) {
        (self.counted, self.flowed, self.counted_all, self.flowed_all) = (0.0, 0.0, 0.0, 0.0);
        (self.hours, self.since_step) = (0.0, 0.0);
    }

    /// A reading; `flowed` is the mean power (kW) since the one before, and the hours, if it is one of power and known.
    pub(super) fn add(&mut self, reading: &Reading, flowed: Option<(f64, f64)>) {
        if reading.point == self.power {
            return match (flowed, &reading.outcome) {
                (Some(flowed), _) => self.flow(flowed),
                // The next one may reach over it.
                (None, Outcome::Missing(_)) => {}
                (None, _) => self.begin_anew(),
            };
        }
        let Some(side) = self.registers.iter().position(|register| *register == Some(reading.point)) else { return };
        match reading.count {
            Some(Count::On(passed)) => self.count(side, passed),
            Some(Count::First | Count::Break(_)) => self.begin_anew(),
            Some(Count::Doubtful(_)) | None => {}
        }
    }

    fn has_begun(&self) -> bool {
        self.registers.iter().zip(self.begun).all(|(register, begun)| begun || register.is_none())
    }

    fn flow(&mut self, (kw, hours): (f64, f64)) {
        self.power_max = self.power_max.max(kw.abs());
        if !self.has_begun() {
            return;
        }
        let [import, export] = self.registers;
        let is_counted = if kw >= 0.0 { import.is_some() } else { export.is_some() };
        self.hours += hours;
        if is_counted {
            self.flowed += kw * hours;
            self.flowed_all += kw.abs() * hours;
            self.since_step += kw.abs() * hours;
        }
        // It should have moved long ago.
        let step = self.step.max((self.power_max * STEP_HOURS).clamp(*STEPS.start(), *STEPS.end()));
        if self.since_step >= COMPARED_TIMES * self.unsure(step) {
            self.compare(step);
        }
    }

    fn count(&mut self, side: usize, passed: f64) {
        if let Some(begun) = self.begun.get_mut(side).filter(|begun| !**begun) {
            *begun = true;
            // What it has counted meanwhile is of a time of which power is not known.
            return self.next();
        }
        if !self.has_begun() || passed <= 0.0 {
            return;
        }
        self.step = if self.step > 0.0 { self.step.min(passed) } else { passed };
        self.since_step = 0.0;
        self.counted += if side == 0 { passed } else { -passed };
        self.counted_all += passed;
        let enough = COMPARED_MIN.max(COMPARED_TIMES * self.unsure(self.step));
        if self.counted_all.max(self.flowed_all) >= enough && self.hours * 3600.0 >= self.tolerance.hold.as_secs_f64() {
            self.compare(self.step);
        }
    }

    /// kWh by which both may differ at the ends of a comparison.
    fn unsure(&self, step: f64) -> f64 {
        2.0 * step + self.power_max * BEHIND_HOURS
    }

    fn compare(&mut self, step: f64) {
        let all = self.counted_all.max(self.flowed_all);
        let off = self.tolerance.part * all + self.unsure(step);
        let difference = self.counted - self.flowed;
        let found = if difference > off && !(self.may_count_more && self.flowed >= 0.0) {
            Off::More
        } else if difference < -off && !(self.may_count_more && self.flowed < 0.0) {
            Off::Less
        } else {
            Off::Fits
        };
        self.run = if self.run.1 == found { (self.run.0.saturating_add(1), found) } else { (1, found) };
        if self.run.0 >= COMPARISONS_MIN {
            self.stands = found != Off::Fits;
        }
        self.sides = Sides { value: self.counted, expected: self.flowed };
        self.words = words(found, self.counted, self.flowed);
        self.next();
    }

    pub(super) fn stands(&self) -> bool {
        self.stands
    }

    pub(super) fn told(&self) -> (Sides, &'static str, String) {
        let registers = match self.registers {
            [Some(_), Some(_)] => "energy_import - energy_export",
            [Some(_), None] => "energy_import",
            _ => "-energy_export",
        };
        (self.sides, "kWh", format!("{registers} against power_flow over the same time{}", self.words))
    }
}

/// What is likely.
fn words(found: Off, counted: f64, flowed: f64) -> &'static str {
    let is_about = |factor: f64| (counted / (factor * flowed) - 1.0).abs() <= LIKELY_PART;
    match found {
        Off::Fits => "",
        _ if counted == 0.0 => ": the register stands still",
        _ if is_about(-1.0) => ": import and export are exchanged, or the sign of power",
        _ if is_about(1000.0) || is_about(0.001) => ": by a factor of 1000",
        _ if is_about(100.0) || is_about(0.01) => ": by a factor of 100",
        _ if is_about(10.0) || is_about(0.1) => ": by a factor of 10",
        _ => "",
    }
}
