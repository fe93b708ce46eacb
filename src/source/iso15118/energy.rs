//! The energy of one session: from the station's meter where it tells its readings, else from power over time. Pure.
//!
//! A meter that stands still while its station tells that power flows is not believed: then power over time counts until it
//! moves again.

use std::time::Duration;

use crate::measure::Mono;

/// Longer than this between two powers, and nobody knows what flowed in between. A charging loop has 250 ms to 1 s.
const HOLE: Duration = Duration::from_secs(5);
/// More than this between two readings of a meter is another meter, or a flipped bit: 1 MWh.
const JUMP_KWH_MAX: f64 = 1_000.0;

/// So much may flow before a meter moves that never has since the agent began; afterwards twice its widest step. 30 Wh
/// are 6 s at 22 kW. A meter of 100 Wh or 1 kWh is doubted until it has made a whole step, and nothing is lost by it.
const STILL_KWH_MAX: f64 = 0.03;
/// No meter of a charging station is coarser. What is wider is no step, and teaches the next session nothing.
const STEP_KWH_MAX: f64 = 1.0;

/// Both directions of a session.
#[derive(Debug, Clone, Default)]
pub(super) struct Energy {
    import: Side,
    export: Side,
    /// The last power, kW, and when.
    power: Option<(f64, Mono)>,
}

/// One direction.
#[derive(Debug, Clone, Default)]
struct Side {
    /// kWh, up to the last reading if the meter counts, else all of it.
    sum: f64,
    /// The last reading of the meter, kWh.
    reading: Option<f64>,
    /// What has flowed by power over time since the reading last changed, kWh.
    since: f64,
    /// The widest step of the meter, kWh.
    step: f64,
    /// The sum at the last reading that was believed, kWh.
    counted: f64,
}

impl Side {
    /// What flowed since the last reading is what the meter says; before the first one it is what was integrated.
    fn read(&mut self, reading: f64) {
        if let Some(last) = self.reading {
            let flowed = reading - last;
            if flowed == 0.0 {
                return;
            }
            let was_stuck = self.is_stuck();
            let since = std::mem::take(&mut self.since);
            self.reading = Some(reading);
            if !(0.0..=JUMP_KWH_MAX).contains(&flowed) {
                // Begun anew: what it counts from here on is right again.
                return;
            }
            // What flowed unheard, or was counted by another meter, is no step: power over time does not account for it.
            self.step = self.step.max(flowed.min(since));
            // It stood still before, and what it did not count then it does not make up for now, or all at once.
            self.sum = if was_stuck { self.sum.max(self.counted + flowed) } else { self.counted + flowed };
            self.counted = self.sum;
        } else {
            self.counted = self.sum;
        }
        self.reading = Some(reading);
    }

    /// What has flowed by power over time.
    fn flow(&mut self, area: f64) {
        if self.reading.is_none() {
            self.sum += area;
            return;
        }
        let was_stuck = self.is_stuck();
        self.since += area;
        if self.is_stuck() {
            self.sum += if was_stuck { area } else { self.since };
        }
    }

    /// Whether the meter contradicts the power.
    fn is_stuck(&self) -> bool {
        self.reading.is_some() && self.since > STILL_KWH_MAX.max(2.0 * self.step)
    }
}

impl Energy {
    /// Of a session whose station's meters (import, export) are known to move in these steps, kWh.
    pub(super) fn of_steps((import, export): (f64, f64)) -> Self {
        let side = |step| Side { step, ..Side::default() };
        Self { import: side(import), export: side(export), power: None }
    }

    /// The widest steps of the meters (import, export), kWh: 0 as long as one has not moved.
    pub(super) fn steps(&self) -> (f64, f64) {
        (self.import.step.min(STEP_KWH_MAX), self.export.step.min(STEP_KWH_MAX))
    }

    /// The power from now on, kW, positive towards the vehicle.
    pub(super) fn power(&mut self, power: f64, now: Mono) {
        if let Some((before, since)) = self.power {
            let passed = now.since(since);
            if passed <= HOLE {
                let (import, export) = areas(before, power, passed.as_secs_f64() / 3600.0);
                for (side, area) in [(&mut self.import, import), (&mut self.export, export)] {
                    side.flow(area);
                }
            }
        }
        self.power = Some((power, now));
    }

    /// Power is not known from now on.
    pub(super) fn pause(&mut self) {
        self.power = None;
    }

    /// Readings of the station's meter, kWh.
    pub(super) fn meter(&mut self, import: Option<f64>, export: Option<f64>) {
        if let Some(reading) = import {
            self.import.read(reading);
        }
        if let Some(reading) = export {
            self.export.read(reading);
        }
    }

    /// Whether the meter of each direction stands still though energy flows.
    pub(super) fn stuck(&self) -> (bool, bool) {
        (self.import.is_stuck(), self.export.is_stuck())
    }

    /// kWh to the vehicle.
    pub(super) fn import_kwh(&self) -> f64 {
        tidy(self.import.sum)
    }

    /// kWh from the vehicle.
    pub(super) fn export_kwh(&self) -> f64 {
        tidy(self.export.sum)
    }

    /// Where they come from. `mixed`: one direction is metered, and what flowed in the other is integrated.
    pub(super) fn source(&self) -> &'static str {
        let is_metered = |side: &Side| side.reading.is_some() && !side.is_stuck();
        let flows_unmetered = |side: &Side| !is_metered(side) && side.sum > 0.0;
        match (&self.import, &self.export) {
            (import, export) if !is_metered(import) && !is_metered(export) => "integrated",
            (import, export) if flows_unmetered(import) || flows_unmetered(export) => "mixed",
            _ => "meter",
        }
    }

    /// Whether anything is known.
    pub(super) fn is_known(&self) -> bool {
        self.power.is_some() || self.import.reading.is_some() || self.import.sum + self.export.sum > 0.0
    }
}

/// A sum of differences of decimals, without the dust of their binary forms: to the mWh.
fn tidy(kwh: f64) -> f64 {
    (kwh * 1e6).round() / 1e6
}

/// The areas above and below zero under a straight line from `from` to `to`.
fn areas(from: f64, to: f64, length: f64) -> (f64, f64) {
    let whole = f64::midpoint(from, to) * length;
    if from * to >= 0.0 {
        return if whole >= 0.0 { (whole, 0.0) } else { (0.0, -whole) };
    }
    let crossing = from / (from - to);
    let (first, second) = (from * crossing / 2.0 * length, to * (1.0 - crossing) / 2.0 * length);
    if from > 0.0 { (first, -second) } else { (second, -first) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000_000)
    }

    #[test]
    fn power_over_time_is_energy_in_its_direction() {
        let mut energy = Energy::default();
        for (second, power) in [(0, 36.0), (1, 36.0), (2, -36.0), (3, -36.0)] {
            energy.power(power, at(second));
        }
        assert_eq!((energy.import_kwh(), energy.export_kwh(), energy.source()), (0.0125, 0.0125, "integrated"));
    }

    #[test]
    fn nothing_flows_in_a_hole() {
        let mut energy = Energy::default();
        energy.power(36.0, at(0));
        energy.power(36.0, at(60));
        assert_eq!(energy.import_kwh(), 0.0);
        energy.pause();
        energy.power(36.0, at(61));
        assert_eq!(energy.import_kwh(), 0.0);
    }

    #[test]
    fn the_meter_goes_before_the_integral_and_takes_it_over() {
        let mut energy = Energy::default();
        energy.power(36.0, at(0));
        energy.power(36.0, at(1));
        energy.meter(Some(1234.961), Some(4.321));
        energy.power(36.0, at(2));
        energy.meter(Some(1234.981), Some(4.321));
        assert_eq!((energy.import_kwh(), energy.export_kwh(), energy.source()), (0.03, 0.0, "meter"));
    }

    #[test]
    fn a_meter_of_one_direction_leaves_the_other_to_the_integral() {
        let mut energy = Energy::default();
        energy.meter(Some(10.0), None);
        assert_eq!(energy.source(), "meter");
        energy.power(-36.0, at(0));
        energy.power(-36.0, at(1));
        assert_eq!((energy.import_kwh(), energy.export_kwh(), energy.source()), (0.0, 0.01, "mixed"));
    }

    #[test]
    fn a_meter_that_jumps_or_goes_back_does_not_make_energy() {
        let mut energy = Energy::default();
        for reading in [10.0, 11.0, 3.0, 3.5, 1e9, 1e9 + 1.0] {
            energy.meter(Some(reading), None);
        }
        assert_eq!(energy.import_kwh(), 2.5);
    }

    #[test]
    fn a_meter_that_stands_still_while_power_flows_is_not_believed_until_it_moves() {
        let mut energy = Energy::default();
        for second in 0..=100 {
            energy.power(36.0, at(second));
            energy.meter(Some(0.0), None);
        }
        assert_eq!((energy.import_kwh(), energy.source(), energy.stuck()), (1.0, "integrated", (true, false)));
        energy.meter(Some(0.25), None);
        energy.power(36.0, at(101));
        energy.meter(Some(0.26), None);
        assert_eq!((energy.import_kwh(), energy.source(), energy.stuck()), (1.01, "meter", (false, false)));
    }

    #[test]
    fn what_a_meter_counted_unheard_is_no_step_of_it() {
        let mut energy = Energy::default();
        energy.meter(Some(100.0), None);
        energy.power(36.0, at(0));
        energy.power(36.0, at(1));
        energy.pause();
        energy.meter(Some(105.0), None);
        let mut next = Energy::of_steps(energy.steps());
        for second in 0..=4 {
            next.power(36.0, at(second));
            next.meter(Some(105.0), None);
        }
        assert_eq!((energy.steps(), next.stuck()), ((0.01, 0.0), (true, false)));
    }

    #[test]
    fn a_coarse_meter_is_believed_between_its_steps_and_a_standing_one_where_nothing_flows() {
        let mut energy = Energy::default();
        for second in 0..=200_u32 {
            energy.power(36.0, at(second.into()));
            energy.meter(Some(f64::from(second / 50) * 0.5), None);
        }
        assert_eq!((energy.import_kwh(), energy.source()), (2.0, "meter"));
        for second in 201..=900 {
            energy.power(0.0, at(second));
            energy.meter(Some(2.0), None);
        }
        assert_eq!((energy.import_kwh(), energy.stuck()), (2.0, (false, false)));
    }
}
