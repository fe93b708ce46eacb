//! The depot of the demo: six bidirectional chargers and the meter at the grid, as physics.
//!
//! Pure: time comes in as seconds, values come out; who serves them over Modbus is not its business.

use std::f64::consts::TAU;

/// Chargers in the depot.
pub(super) const CHARGERS: usize = 6;

/// Rated power of each, kW, either way.
const RATED_KW: f64 = 60.0;
/// Usable energy of a bus battery, kWh. Far too small, so that the state of charge is seen to move within half a minute.
const BATTERY_KWH: f64 = 0.8;
/// The depot's own load: lights, workshop, kW.
const BASE_LOAD_KW: f64 = 18.0;
/// One swing of the schedule from charging to discharging and back, s.
const SWING_S: f64 = 24.0;

/// One charger with its vehicle.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Charger {
    /// kW, positive into the vehicle.
    pub(super) power_kw: f64,
    /// %.
    pub(super) soc: f64,
    /// kWh into the vehicle since ever.
    pub(super) import_kwh: f64,
    /// kWh out of the vehicle since ever.
    pub(super) export_kwh: f64,
}

impl Charger {
    /// V, as the battery's.
    pub(super) fn voltage(&self) -> f64 {
        620.0 + 1.6 * self.soc
    }

    /// A, signed as the power.
    pub(super) fn current(&self) -> f64 {
        self.power_kw * 1e3 / self.voltage()
    }
}

/// The whole depot at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Depot {
    /// s since the demo began.
    time_s: f64,
    pub(super) chargers: [Charger; CHARGERS],
    pub(super) grid_import_kwh: f64,
    pub(super) grid_export_kwh: f64,
}

impl Depot {
    pub(super) fn new() -> Self {
        let mut chargers = [Charger { power_kw: 0.0, soc: 0.0, import_kwh: 1_204.0, export_kwh: 388.0 }; CHARGERS];
        for (charger, soc) in chargers.iter_mut().zip([31.0, 78.0, 55.0, 64.0, 42.0, 88.0]) {
            charger.soc = soc;
        }
        Self { time_s: 0.0, chargers, grid_import_kwh: 41_877.0, grid_export_kwh: 9_120.0 }
    }

    /// Power at the grid connection, kW, positive from the grid.
    pub(super) fn grid_kw(&self) -> f64 {
        BASE_LOAD_KW + self.chargers.iter().map(|c| c.power_kw).sum::<f64>()
    }

    /// Hz: sags a little when the depot draws.
    pub(super) fn frequency(&self) -> f64 {
        50.0 - self.grid_kw() * 1e-4 + 0.01 * (self.time_s * 1.7).sin()
    }

    /// Moves on by `dt_s` seconds.
    pub(super) fn step(&mut self, dt_s: f64) {
        self.time_s += dt_s;
        let hours = dt_s / 3600.0;
        for (charger, place) in self.chargers.iter_mut().zip(0_u8..) {
            // Not evenly spread: their sum would be nothing.
            let phase = 0.55 * f64::from(place) / CHARGERS as f64;
            let wish = RATED_KW * (TAU * (self.time_s / SWING_S + phase)).sin();
            // Full batteries do not charge, low ones do not discharge: taper over the last 10 %.
            let room = if wish > 0.0 { (100.0 - charger.soc) / 10.0 } else { (charger.soc - 20.0) / 10.0 };
            charger.power_kw = wish * room.clamp(0.0, 1.0);
            let energy = charger.power_kw * hours;
            charger.soc = (charger.soc + energy / BATTERY_KWH * 100.0).clamp(0.0, 100.0);
            charger.import_kwh += energy.max(0.0);
            charger.export_kwh += (-energy).max(0.0);
        }
        let grid = self.grid_kw() * hours;
        self.grid_import_kwh += grid.max(0.0);
        self.grid_export_kwh += (-grid).max(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// They counted thirty times as much, so that batteries moved: the agent calls that implausible.
    #[test]
    fn registers_count_what_power_brings_and_power_is_voltage_times_current() {
        let mut depot = Depot::new();
        let (first, mut kwh) = (depot.clone(), 0.0);
        for _ in 0..600 {
            depot.step(0.1);
            let Charger { power_kw, .. } = depot.chargers[0];
            kwh += power_kw * 0.1 / 3600.0;
            assert!((depot.chargers[0].voltage() * depot.chargers[0].current() / 1e3 - power_kw).abs() < 1e-9);
        }
        let net = |charger: &Charger| charger.import_kwh - charger.export_kwh;
        assert!((net(&depot.chargers[0]) - net(&first.chargers[0]) - kwh).abs() < 1e-9);
    }

    #[test]
    fn energy_goes_both_ways_and_batteries_stay_within_their_bounds() {
        let mut depot = Depot::new();
        let (mut charged, mut discharged) = (false, false);
        for _ in 0..600 {
            depot.step(0.1);
            charged |= depot.chargers.iter().any(|c| c.power_kw > 10.0);
            discharged |= depot.chargers.iter().any(|c| c.power_kw < -10.0);
            assert!(depot.chargers.iter().all(|c| (0.0..=100.0).contains(&c.soc) && c.power_kw.abs() <= RATED_KW));
        }
        assert!(charged && discharged);
    }
}
