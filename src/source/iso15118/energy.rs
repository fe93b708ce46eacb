//! The energy of one session: from the station's meter where it tells its readings, else from power over time. Pure.
//!
//! A meter that stands still while its station tells that power flows is not believed: then power over time counts until it
//! moves again.

use std::time::Duration;

use crate::measure::{Count, Counter, CounterBreak, CounterKind, Mono, areas};

/// Longer than this between two powers, and nobody knows what flowed in between. A charging loop has 250 ms to 1 s.
const HOLE: Duration = Duration::from_secs(5);
/// What a station's meter can count: 4 MW, and 10 kWh at once. What is not such is a fault of the meter, or another one.
const METER: CounterKind = CounterKind { hourly_max: 4_000.0, step_max: 10.0, ends: Vec::new() };

/// So much may flow before a meter moves that never has since the agent began; afterwards twice its widest step. 30 Wh
/// are 6 s at 22 kW. By a meter of 100 Wh or 1 kWh it is not counted until it has made a whole step, and nothing is lost by it; frozen it is called only if
/// its digits allow no such step.
const STILL_KWH_MAX: f64 = 0.03;
/// What its digits say of the steps of a meter, kWh: 1,234,500 Wh may be one of 100 Wh, 1,234,567 Wh is none.
const GRAINS: [f64; 3] = [0.001, 0.01, 0.1];
/// No meter of a charging station is coarser. What is wider is no step, and teaches the next session nothing.
const STEP_KWH_MAX: f64 = 1.0;

/// Both directions of a session.
#[derive(Debug, Clone)]
pub(super) struct Energy {
    import: Side,
    export: Side,
    /// The last power, kW, and when.
    power: Option<(f64, Mono)>,
    /// What passed between the last two.
    turn: Duration,
}

/// One direction.
#[derive(Debug, Clone)]
struct Side {
    /// Tells what of the readings goes on.
    counter: Counter,
    /// kWh, up to the last reading if the meter counts, else all of it.
    sum: f64,
    /// Whether the meter was read.
    is_read: bool,
    /// What has flowed by power over time since the reading last changed, kWh.
    since: f64,
    /// The widest step of the meter, kWh.
    step: f64,
    /// The widest that its digits allow, kWh.
    grain: f64,
    /// The sum at the last reading that was believed, kWh.
    counted: f64,
}

impl Side {
    /// Of a meter that is known to move in such steps, kWh.
    fn new(step: f64) -> Self {
        Self {
            counter: Counter::new(METER),
            sum: 0.0,
            is_read: false,
            since: 0.0,
            step,
            grain: STEP_KWH_MAX,
            counted: 0.0,
        }
    }

    /// What flowed since the last reading is what the meter says; before the first one it is what was integrated.
    fn read(&mut self, reading: f64, now: Mono) {
        self.grain = self.grain.min(grain(reading));
        let flowed = match self.counter.read(reading, now) {
            Count::First => None,
            // What flowed meanwhile is known once it goes on, or has begun anew.
            Count::Doubtful(_) => return,
            Count::On(flowed) | Count::Break(CounterBreak { passed: flowed, .. }) => Some(flowed),
        };
        if let Some(flowed) = flowed {
            if flowed == 0.0 {
                return;
            }
            let was_stuck = self.is_stuck();
            let since = std::mem::take(&mut self.since);
            // What flowed unheard, or was counted by another meter, is no step: power over time does not account for it.
            self.step = self.step.max(flowed.min(since));
            // It stood still before, and what it did not count then it does not make up for now, or all at once.
            self.sum = if was_stuck { self.sum.max(self.counted + flowed) } else { self.counted + flowed };
            self.counted = self.sum;
        } else {
            self.counted = self.sum;
        }
        self.is_read = true;
    }

    /// What has flowed by power over time.
    fn flow(&mut self, area: f64) {
        if !self.is_read {
            self.sum += area;
            return;
        }
        let was_stuck = self.is_stuck();
        self.since += area;
        if self.is_stuck() {
            self.sum += if was_stuck { area } else { self.since };
        }
    }

    /// Whether the meter contradicts the power, as far as is known of its steps: then power over time counts.
    fn is_stuck(&self) -> bool {
        self.is_read && self.since > STILL_KWH_MAX.max(2.0 * self.step)
    }

    /// Whether it does whatever its steps are.
    fn is_frozen(&self) -> bool {
        self.is_stuck() && self.since > 2.0 * self.grain
    }
}

/// The widest step by which a meter can have come to show this, kWh.
fn grain(kwh: f64) -> f64 {
    let wh = (kwh * 1000.0).round();
    let is_fine = |grain: &f64| wh % (grain * 10_000.0).round() != 0.0;
    GRAINS.into_iter().find(is_fine).unwrap_or(STEP_KWH_MAX)
}

impl Energy {
    /// Of a session whose station's meters (import, export) are known to move in these steps, kWh.
    pub(super) fn of_steps((import, export): (f64, f64)) -> Self {
        Self { import: Side::new(import), export: Side::new(export), power: None, turn: Duration::ZERO }
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
                self.turn = passed;
                let (import, export) = areas(before, power, passed.as_secs_f64() / 3600.0);
                for (side, area) in [(&mut self.import, import), (&mut self.export, export)] {
                    side.flow(area);
                }
            }
        }
        self.power = Some((power, now));
    }

    /// The session is over. The last power stands for its own turn of the loop, as each before it did: as many seconds are counted as
    /// there were turns. Answers whether that is anything.
    pub(super) fn finish(&mut self, now: Mono) -> bool {
        let Some((power, since)) = self.power else { return false };
        let before = (self.import_kwh(), self.export_kwh());
        self.power(power, since + self.turn.min(now.since(since)));
        before != (self.import_kwh(), self.export_kwh())
    }

    /// Power is not known from now on.
    pub(super) fn pause(&mut self) {
        self.power = None;
    }

    /// Readings of the station's meter, kWh.
    pub(super) fn meter(&mut self, import: Option<f64>, export: Option<f64>, now: Mono) {
        if let Some(reading) = import {
            self.import.read(reading, now);
        }
        if let Some(reading) = export {
            self.export.read(reading, now);
        }
    }

    /// Whether the meter of each direction stands still though energy flows.
    pub(super) fn stuck(&self) -> (bool, bool) {
        (self.import.is_frozen(), self.export.is_frozen())
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
        let is_metered = |side: &Side| side.is_read && !side.is_stuck();
        let flows_unmetered = |side: &Side| !is_metered(side) && side.sum > 0.0;
        match (&self.import, &self.export) {
            (import, export) if !is_metered(import) && !is_metered(export) => "integrated",
            (import, export) if flows_unmetered(import) || flows_unmetered(export) => "mixed",
            _ => "meter",
        }
    }

    /// Whether anything is known.
    pub(super) fn is_known(&self) -> bool {
        self.power.is_some() || self.import.is_read || self.import.sum + self.export.sum > 0.0
    }
}

/// A sum of differences of decimals, without the dust of their binary forms: to the mWh.
fn tidy(kwh: f64) -> f64 {
    (kwh * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000_000)
    }

    #[test]
    fn power_over_time_is_energy_in_its_direction() {
        let mut energy = Energy::of_steps((0.0, 0.0));
        for (second, power) in [(0, 36.0), (1, 36.0), (2, -36.0), (3, -36.0)] {
            energy.power(power, at(second));
        }
        assert_eq!((energy.import_kwh(), energy.export_kwh(), energy.source()), (0.0125, 0.0125, "integrated"));
    }

    /// 240 powers at 250 ms were 59.75 s.
    #[test]
    fn the_last_power_stands_for_one_turn_and_no_longer_than_the_session() {
        for (ends_ms, kwh) in [(60_000, 0.6), (61_000, 0.6), (59_750, 0.5975)] {
            let mut energy = Energy::of_steps((0.0, 0.0));
            (0..240).for_each(|turn| energy.power(36.0, Mono(turn * 250_000_000)));
            energy.finish(Mono(ends_ms * 1_000_000));
            assert_eq!(energy.import_kwh(), kwh, "{ends_ms}");
        }
        let mut one = Energy::of_steps((0.0, 0.0));
        one.power(36.0, at(0));
        one.finish(at(1));
        assert_eq!(one.import_kwh(), 0.0, "nobody knows how long its turn is");
    }

    #[test]
    fn nothing_flows_in_a_hole() {
        let mut energy = Energy::of_steps((0.0, 0.0));
        energy.power(36.0, at(0));
        energy.power(36.0, at(60));
        assert_eq!(energy.import_kwh(), 0.0);
        energy.pause();
        energy.power(36.0, at(61));
        assert_eq!(energy.import_kwh(), 0.0);
    }

    #[test]
    fn the_meter_goes_before_the_integral_and_takes_it_over() {
        let mut energy = Energy::of_steps((0.0, 0.0));
        energy.power(36.0, at(0));
        energy.power(36.0, at(1));
        energy.meter(Some(1234.961), Some(4.321), at(1));
        energy.power(36.0, at(2));
        energy.meter(Some(1234.981), Some(4.321), at(2));
        assert_eq!((energy.import_kwh(), energy.export_kwh(), energy.source()), (0.03, 0.0, "meter"));
    }

    #[test]
    fn a_meter_of_one_direction_leaves_the_other_to_the_integral() {
        let mut energy = Energy::of_steps((0.0, 0.0));
        energy.meter(Some(10.0), None, at(0));
        assert_eq!(energy.source(), "meter");
        energy.power(-36.0, at(0));
        energy.power(-36.0, at(1));
        assert_eq!((energy.import_kwh(), energy.export_kwh(), energy.source()), (0.0, 0.01, "mixed"));
    }

    #[test]
    fn a_meter_that_jumps_or_goes_back_does_not_make_energy() {
        let mut energy = Energy::of_steps((0.0, 0.0));
        // Another meter after 5 s: what it counted in the meantime counts, too.
        let readings = [10.0, 11.0, 1e9, 3.0, 3.5, 3.5, 4.0, 4.0, 4.0, 4.5];
        let sums = (0..).zip(readings).map(|(second, reading)| {
            energy.meter(Some(reading), None, at(second));
            energy.import_kwh()
        });
        assert_eq!(sums.collect::<Vec<_>>(), [0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.5]);
    }

    /// It was 1 MWh too much at most: the way back up was taken for energy.
    #[test]
    fn a_meter_that_falls_to_zero_or_jumps_for_one_reading_makes_no_energy() {
        for spoilt in [0.0, 100.0, 1_700.0] {
            let mut energy = Energy::of_steps((0.0, 0.0));
            for (second, reading) in (0..).zip([700.0, 700.5, spoilt, 701.0, 701.5]) {
                energy.meter(Some(reading), Some(0.0), at(second));
            }
            assert_eq!((energy.import_kwh(), energy.export_kwh()), (1.5, 0.0), "{spoilt}");
        }
    }

    /// A session had 4 MWh of an exchanged meter, and 5 kWh of one that said 0 once.
    #[test]
    fn a_meter_that_says_zero_after_silence_or_at_a_round_number_has_not_rolled_over() {
        for (before, silent, more) in [(6_000.0, 3_600, 0.0), (9_995.0, 1, 0.25), (999.75, 1, 0.25)] {
            let mut energy = Energy::of_steps((0.0, 0.0));
            energy.meter(Some(before), None, at(0));
            energy.meter(Some(0.0), None, at(silent));
            assert_eq!(energy.import_kwh(), 0.0, "{before}");
            energy.meter(Some(before + more), None, at(silent + 1));
            assert_eq!(energy.import_kwh(), more, "{before}");
        }
    }

    #[test]
    fn a_meter_that_stands_still_while_power_flows_is_not_believed_until_it_moves() {
        let mut energy = Energy::of_steps((0.0, 0.0));
        for second in 0..=100 {
            energy.power(36.0, at(second));
            energy.meter(Some(0.0), None, at(second));
        }
        // It may be one of 1 kWh.
        assert_eq!((energy.import_kwh(), energy.source(), energy.stuck()), (1.0, "integrated", (false, false)));
        for second in 101..=300 {
            energy.power(36.0, at(second));
            energy.meter(Some(0.0), None, at(second));
        }
        assert_eq!((energy.import_kwh(), energy.source(), energy.stuck()), (3.0, "integrated", (true, false)));
        energy.meter(Some(0.25), None, at(300));
        energy.power(36.0, at(301));
        energy.meter(Some(0.26), None, at(301));
        assert_eq!((energy.import_kwh(), energy.source(), energy.stuck()), (3.01, "meter", (false, false)));
    }

    #[test]
    fn what_a_meter_counted_unheard_is_no_step_of_it() {
        let mut energy = Energy::of_steps((0.0, 0.0));
        energy.meter(Some(100.0), None, at(0));
        energy.power(36.0, at(0));
        energy.power(36.0, at(1));
        energy.pause();
        energy.meter(Some(105.0), None, at(2));
        let mut next = Energy::of_steps(energy.steps());
        for second in 0..=4 {
            next.power(36.0, at(second));
            next.meter(Some(105.125), None, at(second));
        }
        assert_eq!((energy.steps(), next.stuck()), ((0.01, 0.0), (true, false)));
    }

    #[test]
    fn a_coarse_meter_is_believed_between_its_steps_and_a_standing_one_where_nothing_flows() {
        let mut energy = Energy::of_steps((0.0, 0.0));
        for second in 0..=200_u32 {
            energy.power(36.0, at(second.into()));
            energy.meter(Some(f64::from(second / 50) * 0.5), None, at(second.into()));
        }
        assert_eq!((energy.import_kwh(), energy.source()), (2.0, "meter"));
        for second in 201..=900 {
            energy.power(0.0, at(second));
            energy.meter(Some(2.0), None, at(second));
        }
        assert_eq!((energy.import_kwh(), energy.stuck()), (2.0, (false, false)));
    }
}
