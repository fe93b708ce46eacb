//! What the depot does: a function of time and a seed, and so the truth.

use super::course::{Course, smooth};
use crate::registers::DcCharger;
use crate::seed::Seed;

/// Charge points.
pub const EVSES: usize = 50;
/// Meters, each of five charge points and a building.
pub const METERS: usize = 10;
/// A battery so small that its state of charge moves within a minute, kWh.
const CAPACITY_KWH: f64 = 4.0;
/// From one power to another, s.
const RAMP_S: f64 = 4.0;
/// A power does not stand still to the watt.
const RIPPLE: f64 = 0.01;
const RIPPLE_HZ: f64 = 0.08;
/// A register shows so much before, Wh.
const COUNTED_WH: u64 = 1_234_567;

/// A time in which vehicles come and go and powers change, s; at least 10 s. Between two of them every power holds: there the gateway is
/// killed, and what nobody could read is known all the same.
pub type Calm = (f64, f64);

/// How a device is read, and so what can be known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Modbus: state, power, SoC and registers of energy.
    Registers,
    /// Modbus: state, power and SoC.
    State,
    /// Modbus: power.
    Power,
    /// CAN: state, power and SoC, four times a second.
    Bus,
    /// ISO 15118, DIN SPEC 70121: its sessions are heard.
    Messages,
    /// Modbus: a meter with registers.
    Meter,
    /// Modbus: a meter that tells power only.
    PowerMeter,
}

/// One device.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) id: String,
    pub(super) source: Source,
    pub(super) course: Course,
    pub(super) visits: Vec<Visit>,
}

/// A vehicle that is plugged in from `from` to `to`.
#[derive(Debug, Clone)]
pub(super) struct Visit {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) soc: f64,
    /// From when on it goes to which power, kW.
    levels: Vec<(f64, f64)>,
    phase: f64,
}

/// The whole of it.
#[derive(Debug)]
pub struct Script {
    pub(super) devices: Vec<Device>,
    pub(super) length_s: f64,
}

impl Visit {
    /// Comes in the first of these calms and goes in the last; in each between its power changes.
    fn new(seed: &mut Seed, calms: &[Calm]) -> Self {
        let mut within = |from: f64, to: f64| from + (to - from) * seed.below(1_000) as f64 / 1_000.0;
        let (first, last) = (calms[0].0, calms[calms.len() - 1].0);
        let mut levels = Vec::new();
        for (number, (begin, _)) in calms.iter().enumerate() {
            let charges = number == 0 || within(0.0, 1.0) < 0.5;
            let kw = within(12.0, 50.0) * if charges { 1.0 } else { -1.0 };
            let is_last = number + 1 == calms.len();
            let at = begin + if number == 0 { within(3.0, 5.0) } else { within(0.0, 0.8) };
            let turns = levels.last().is_some_and(|(_, before)| before * kw < 0.0);
            if turns || is_last {
                levels.push((at, 0.0));
            }
            if !is_last {
                levels.push((at + if turns { RAMP_S } else { 0.0 }, kw));
            }
        }
        let (from, to) = (first + within(0.0, 1.0), last + 0.8 + RAMP_S + within(2.2, 4.0));
        Self { from, to, soc: 40.0 + within(0.0, 200.0).floor() / 10.0, levels, phase: within(0.0, 6.0) }
    }

    fn kw(&self, second: f64) -> f64 {
        let mut kw = 0.0;
        for (at, level) in &self.levels {
            kw += (level - kw) * smooth((second - at) / RAMP_S);
        }
        kw * (1.0 + RIPPLE * (second * RIPPLE_HZ * std::f64::consts::TAU + self.phase).sin())
    }

    pub(super) fn is_there(&self, second: f64) -> bool {
        (self.from..self.to).contains(&second)
    }
}

impl Script {
    /// In these calms. `has_bus`: ten of the charge points are on a CAN bus, else they are read by Modbus.
    #[must_use]
    pub fn new(seed: &mut Seed, calms: &[Calm], has_bus: bool) -> Self {
        let length_s = calms.last().map_or(0.0, |(_, to)| *to);
        let source = |number: usize| match number {
            1..=20 => Source::Registers,
            29 | 30 => Source::Power,
            31..=40 if has_bus => Source::Bus,
            41..=50 => Source::Messages,
            _ => Source::State,
        };
        let mut devices: Vec<Device> = Vec::new();
        for number in 1..=EVSES {
            let visits = visits(seed, calms, source(number));
            let course = Course::new(length_s, |second| visits.iter().map(|visit| visit.kw(second)).sum());
            devices.push(Device { id: format!("evse-{number:02}"), source: source(number), course, visits });
        }
        for number in 1..=METERS {
            let source = if number <= 8 { Source::Meter } else { Source::PowerMeter };
            // What changes its direction within a poll is not known to 0.1 % without a register.
            let building = if source == Source::Meter { 5.0 + seed.below(10) as f64 } else { 260.0 };
            let own = |place: usize| place % METERS == number % METERS && place < 40;
            let chargers: Vec<&Course> =
                devices.iter().enumerate().filter(|(place, _)| own(*place)).map(|(_, device)| &device.course).collect();
            let course = Course::new(length_s, |second| {
                let there = smooth((second - 1.0) / RAMP_S) * smooth((length_s - 1.0 - second) / RAMP_S);
                building * there + chargers.iter().map(|course| course.kw(second)).sum::<f64>()
            });
            devices.push(Device { id: format!("meter-{number:02}"), source, course, visits: Vec::new() });
        }
        Self { devices, length_s }
    }
}

/// One that stays all the time, or two.
fn visits(seed: &mut Seed, calms: &[Calm], source: Source) -> Vec<Visit> {
    if calms.len() < 4 || source == Source::Messages || seed.coin() {
        return vec![Visit::new(seed, calms)];
    }
    let first = seed.within(2..=calms.len() - 2);
    vec![Visit::new(seed, &calms[..first]), Visit::new(seed, &calms[first..])]
}

impl Device {
    pub(super) fn visit(&self, second: f64) -> Option<&Visit> {
        self.visits.iter().find(|visit| visit.is_there(second))
    }

    /// 0.1 %.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 1000")]
    pub(super) fn soc(&self, visit: &Visit, second: f64) -> u16 {
        let ((import, export), (before_import, before_export)) =
            (self.course.flowed(second), self.course.flowed(visit.from));
        let kwh = import - before_import - (export - before_export);
        ((visit.soc + kwh * 100.0 / CAPACITY_KWH) * 10.0).round() as u16
    }

    /// What its registers show, Wh.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and small")]
    pub(super) fn counted(&self, second: f64) -> (u64, u64) {
        let (import, export) = self.course.flowed(second);
        let whole = |kwh: f64| COUNTED_WH + (kwh * 1e3).floor() as u64;
        (whole(import), whole(export))
    }

    /// What it is then.
    pub(super) fn is_now(&self, second: f64) -> DcCharger {
        let kw = self.course.kw(second);
        let (import_wh, export_wh) = self.counted(second);
        let visit = self.visit(second);
        let state = match visit {
            None => 0,
            Some(_) if kw > 0.05 => 2,
            Some(_) if kw < -0.05 => 3,
            Some(visit) if second < visit.from + 6.0 => 1,
            Some(_) => 4,
        };
        #[allow(clippy::cast_possible_truncation, reason = "some hundred kW")]
        let power_w = (kw * 1e3).round() as i32;
        DcCharger { state, power_w, soc: visit.map_or(0xFFFF, |visit| self.soc(visit, second)), import_wh, export_wh }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALMS: [Calm; 4] = [(3.0, 13.0), (19.0, 29.0), (36.0, 46.0), (52.0, 62.0)];

    #[test]
    fn between_two_calms_every_power_holds_and_nobody_comes_or_goes() {
        for seed in 0..50 {
            let script = Script::new(&mut Seed::new(seed), &CALMS, true);
            for device in &script.devices {
                for pair in CALMS.windows(2) {
                    let (min, max) = device.course.range(pair[0].1, pair[1].0);
                    // Each charge point's ripple; four of a meter may nearly make up for each other, and ripple all the same.
                    let of = if device.visits.is_empty() { 4.0 * 50.0 } else { max.abs().max(min.abs()) };
                    assert!(max - min <= 2.0 * RIPPLE * of + 0.5, "{}: {min} to {max}", device.id);
                    let is_between = |second: f64| second > pair[0].1 && second < pair[1].0;
                    assert!(!device.visits.iter().any(|visit| is_between(visit.from) || is_between(visit.to)));
                }
                assert!(device.course.kw(0.0).abs() < 1e-9 && device.course.kw(script.length_s).abs() < 1e-9);
                let flows = device.visits.iter().all(|visit| device.course.kw(visit.from).abs() < 1e-9);
                assert!(flows, "{} is plugged in without power", device.id);
                assert!(device.visits.iter().all(|visit| device.course.kw(visit.to).abs() < 1e-9), "{}", device.id);
            }
        }
    }
}
