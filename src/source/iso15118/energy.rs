//! The energy of one session: from the station's meter where it tells its readings, else from power over time. Pure.

use std::time::Duration;

use crate::measure::Mono;

/// Longer than this between two powers, and nobody knows what flowed in between. A charging loop has 250 ms to 1 s.
const HOLE: Duration = Duration::from_secs(5);
/// More than this between two readings of a meter is another meter, or a flipped bit: 1 MWh.
const JUMP_KWH_MAX: f64 = 1_000.0;

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
}

impl Side {
    /// What flowed since the last reading is what the meter says; before the first one it is what was integrated.
    fn read(&mut self, reading: f64) {
        if let Some(last) = self.reading {
            let flowed = reading - last;
            if !(0.0..=JUMP_KWH_MAX).contains(&flowed) {
                // Begun anew: what it counts from here on is right again.
                self.reading = Some(reading);
                return;
            }
            self.sum += flowed;
        }
        self.reading = Some(reading);
    }
}

impl Energy {
    /// The power from now on, kW, positive towards the vehicle.
    pub(super) fn power(&mut self, power: f64, now: Mono) {
        if let Some((before, since)) = self.power {
            let passed = now.since(since);
            if passed <= HOLE {
                let (import, export) = areas(before, power, passed.as_secs_f64() / 3600.0);
                for (side, area) in [(&mut self.import, import), (&mut self.export, export)] {
                    if side.reading.is_none() {
                        side.sum += area;
                    }
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
        let is_metered = |side: &Side| side.reading.is_some();
        let flows_unmetered = |side: &Side| side.reading.is_none() && side.sum > 0.0;
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
    let whole = (from + to) / 2.0 * length;
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
}
