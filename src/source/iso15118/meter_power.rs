//! The power of an AC session of ISO 15118-2, in which nobody tells it: worked out from the station's meter. Pure.
//!
//! In: readings of the meter with their times. Out: the mean power since one of them, or nothing.
//!
//! A reading moves in steps (of 1, 10 or 100 Wh, or of what a station has found when it asked its meter again), so the difference of two
//! readings in a row says nothing of power: it is 0, and then far too much. Taken is the mean from a step of the reading to now,
//! and it is off by no more than
//!
//! ```text
//! (the finest step + power · the longest time without a step) / the time since that step
//! ```
//!
//! because a rest may be hidden within a step, and nobody knows how long ago the reading became what it is. The newest step is taken
//! from which on that is a tenth of the power, or [`ERROR_KW`]. None of the last [`SPAN`] may be: then nothing is told. So a meter of 1 Wh
//! that is read once a second tells from about 2 kW on, one of 10 Wh from about 15 kW, and one of 100 Wh never.
//!
//! A reading that stands still for so long that less than [`ERROR_KW`] can be hidden in a step is no power: 36 s for 1 Wh.
//!
//! Nothing is worked out over [`GAP_MAX`] without a reading, nor over a reading that is below the one before or further on than what the
//! station offers can have taken it (vehicles give nothing back in such a session): what follows is begun anew. The first
//! reading is no step, and the power is never above what the station offers.

use std::collections::VecDeque;
use std::time::Duration;

use crate::measure::Mono;

/// A tenth of the power, and for small ones this, kW.
const ERROR_PART: f64 = 0.1;
const ERROR_KW: f64 = 0.1;
/// What lies further back is no present power.
const SPAN: Duration = Duration::from_secs(60);
/// A charging loop turns every second or two; after so long what is of the moment is not known any more.
const GAP_MAX: Duration = Duration::from_secs(10);
/// A loop of 250 ms makes as many in [`SPAN`].
const STEPS_MAX: usize = 256;
/// IEC 62196-2 ends at 63 A (three phases) and 70 A (one), at 480 V between the phases.
const CURRENT_MAX: f64 = 70.0;
const VOLTAGE_MAX: f64 = 277.0;
/// A current is measured, too.
const OFFER_PART: f64 = 1.1;

/// The meter of one session.
#[derive(Debug, Clone, Default)]
pub(super) struct MeterPower {
    last: Option<Reading>,
    /// Readings that were another one than that before, the newest last.
    steps: VecDeque<Reading>,
    /// The finest step so far, kWh.
    finest: f64,
    /// The most that the station has offered, kW.
    offer: f64,
}

#[derive(Debug, Clone, Copy)]
struct Reading {
    kwh: f64,
    at: Mono,
}

impl MeterPower {
    /// A reading, kWh, and what the station offers: its current for each phase (A) and the voltage (V), as far as they are known. The
    /// power now, kW, not negative.
    pub(super) fn read(&mut self, kwh: f64, at: Mono, offer: (Option<f64>, Option<f64>)) -> Option<f64> {
        self.offer = self.offer.max(most(offer));
        let reading = Reading { kwh, at };
        let last = self.last.replace(reading)?;
        if kwh < last.kwh || at <= last.at || at.since(last.at) > GAP_MAX {
            self.begin_anew(reading);
            return None;
        }
        if kwh > last.kwh && !self.step(kwh - last.kwh, reading) {
            self.begin_anew(reading);
            return None;
        }
        self.power(reading).filter(|kw| *kw <= self.offer * OFFER_PART)
    }

    /// There was no reading in this turn. Whether that may be for once.
    pub(super) fn is_fresh(&self, at: Mono) -> bool {
        self.last.is_some_and(|last| at.since(last.at) <= GAP_MAX)
    }

    /// Whether there were readings.
    pub(super) fn is_begun(&self) -> bool {
        self.last.is_some()
    }

    /// What follows does not go on from what was.
    pub(super) fn pause(&mut self) {
        *self = Self { offer: self.offer, ..Self::default() };
    }

    fn begin_anew(&mut self, reading: Reading) {
        self.pause();
        self.last = Some(reading);
    }

    /// The reading has moved by so much; `false` if it cannot have.
    fn step(&mut self, by: f64, reading: Reading) -> bool {
        if let Some(before) = self.steps.back() {
            // The step before may have come late by as long as steps are apart.
            let longest = self.intervals(reading.at).fold(Duration::ZERO, Duration::max);
            let hours = (reading.at.since(before.at) + longest).as_secs_f64() / 3600.0;
            if by > self.offer * OFFER_PART * hours + self.finest {
                return false;
            }
        }
        self.finest = if self.finest > 0.0 { self.finest.min(by) } else { by };
        if self.steps.len() >= STEPS_MAX {
            self.steps.pop_front();
        }
        self.steps.push_back(reading);
        true
    }

    /// Between the steps, from now on back.
    fn intervals(&self, now: Mono) -> impl Iterator<Item = Duration> + '_ {
        let later = std::iter::once(now).chain(self.steps.iter().rev().map(|step| step.at));
        later.zip(self.steps.iter().rev()).map(|(later, step)| later.since(step.at))
    }

    fn power(&mut self, now: Reading) -> Option<f64> {
        while self.steps.len() > 1 && self.steps.front().is_some_and(|step| now.at.since(step.at) > SPAN) {
            self.steps.pop_front();
        }
        let mut longest = 0.0_f64;
        for (step, interval) in self.steps.iter().rev().zip(self.intervals(now.at)) {
            longest = longest.max(interval.as_secs_f64() / 3600.0);
            let (passed, time) = (now.kwh - step.kwh, now.at.since(step.at));
            let hours = time.as_secs_f64() / 3600.0;
            if hours <= 0.0 || (passed > 0.0 && time > SPAN) {
                continue;
            }
            let kw = passed / hours;
            if (self.finest + kw * longest) / hours <= ERROR_KW.max(kw * ERROR_PART) {
                // More digits than it has would be none of it.
                return Some((kw * 1000.0).round() / 1000.0);
            }
        }
        None
    }
}

/// kW over three phases. Whether it is one, or the voltage is that between them, makes it less.
fn most((current, voltage): (Option<f64>, Option<f64>)) -> f64 {
    let known = |value: Option<f64>, most: f64| value.filter(|value| *value > 0.0).unwrap_or(most);
    3.0 * known(current, CURRENT_MAX) * known(voltage, VOLTAGE_MAX) / 1000.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OFFER: (Option<f64>, Option<f64>) = (Some(32.0), Some(230.0));

    fn at(seconds: f64) -> Mono {
        Mono(0) + Duration::from_secs_f64(seconds)
    }

    /// A meter of so many Wh, which a station asks every `refresh` seconds, at a vehicle that takes these powers (kW) for so long (s).
    struct Depot {
        powers: Vec<(f64, f64)>,
        step_wh: f64,
        refresh: f64,
    }

    impl Depot {
        fn energy_wh(&self, now: f64) -> f64 {
            let mut left = now;
            let of = |(kw, length): &(f64, f64)| {
                let passed = left.clamp(0.0, *length);
                left -= length;
                kw * passed / 3.6
            };
            1_234_935.4 + self.powers.iter().map(of).sum::<f64>()
        }

        fn reading_kwh(&self, now: f64) -> f64 {
            let asked = if self.refresh > 0.0 { (now / self.refresh).floor() * self.refresh } else { now };
            (self.energy_wh(asked) / self.step_wh).floor() * self.step_wh / 1000.0
        }

        /// The least and the most in this time, kW.
        fn between(&self, from: f64, to: f64) -> (f64, f64) {
            let mut begin = 0.0;
            let mut powers = Vec::new();
            for (kw, length) in &self.powers {
                if begin <= to && begin + length >= from {
                    powers.push(*kw);
                }
                begin += length;
            }
            (powers.iter().copied().fold(f64::INFINITY, f64::min), powers.iter().copied().fold(0.0, f64::max))
        }

        /// What is told at each reading.
        fn told(&self, every: f64) -> Vec<(f64, Option<f64>)> {
            let mut meter = MeterPower::default();
            let turns = (0..).map(|turn| f64::from(turn) * every).take_while(|now| *now < self.length());
            turns.map(|now| (now, meter.read(self.reading_kwh(now), at(now), OFFER))).collect()
        }

        fn length(&self) -> f64 {
            self.powers.iter().map(|(_, length)| length).sum()
        }
    }

    fn steady(kw: f64, step_wh: f64) -> Vec<Option<f64>> {
        let depot = Depot { powers: vec![(kw, 300.0)], step_wh, refresh: 1.0 };
        depot.told(1.3).into_iter().map(|(_, kw)| kw).collect()
    }

    #[test]
    fn a_steady_power_is_told_within_a_tenth_from_a_minute_on() {
        for kw in [3.7, 7.4, 11.0, 21.5] {
            let told = steady(kw, 1.0);
            assert!(told[0..4].iter().all(Option::is_none), "{kw}: nothing of the first readings");
            for told in &told[46..] {
                let told = told.expect("a power");
                assert!((told - kw).abs() <= kw / 10.0, "{told} is not {kw}");
            }
        }
    }

    /// 100 Wh are 16 s at 22 kW: it would be 0, 0, 0, and 277 kW for a turn.
    #[test]
    fn a_meter_that_is_too_coarse_for_its_power_tells_none_and_not_a_sawtooth() {
        for (kw, step_wh) in [(21.5, 100.0), (3.7, 10.0), (0.5, 1.0)] {
            assert!(steady(kw, step_wh).iter().all(Option::is_none), "{kw} kW in steps of {step_wh} Wh");
        }
    }

    #[test]
    fn a_meter_that_stands_still_is_no_power_once_nothing_can_be_hidden_in_a_step() {
        // From the first step on: nobody knows what a meter is that has never moved.
        let depot = Depot { powers: vec![(3.6, 100.4), (0.0, 200.0)], step_wh: 1.0, refresh: 0.0 };
        let told = depot.told(1.0);
        let zeros: Vec<f64> = told.iter().filter(|(_, kw)| *kw == Some(0.0)).map(|(now, _)| *now).collect();
        assert!((136.0..140.0).contains(&zeros[0]) && zeros.last() == Some(&300.0), "{zeros:?}");
        let between = told.iter().filter(|(now, _)| (106.0..zeros[0]).contains(now));
        assert!(between.clone().count() > 20 && between.clone().all(|(_, kw)| kw.is_none()), "nothing in between");
        // An hour in which nobody has heard it says nothing of now.
        let mut silent = MeterPower::default();
        let readings = (0..20_u32).map(|now| (f64::from(now), f64::from(now) / 1000.0)).chain([(3_600.0, 0.019)]);
        assert_eq!(readings.map(|(now, kwh)| silent.read(kwh, at(now), OFFER)).last(), Some(None));
        let mut never = MeterPower::default();
        assert!((0..600_u32).all(|now| never.read(1_234.935, at(now.into()), OFFER).is_none()));
    }

    /// Readings of 11 kW, spoilt from 100 s on; how many powers are told before that, and each after it with its time.
    fn spoilt(change: impl Fn(f64, f64) -> (f64, f64)) -> (usize, Vec<(f64, f64)>) {
        let depot = Depot { powers: vec![(11.0, 200.0)], step_wh: 1.0, refresh: 0.0 };
        let (mut meter, mut before, mut after) = (MeterPower::default(), 0, Vec::new());
        for turn in 0..180_u32 {
            let now = f64::from(turn);
            let (kwh, now) = change(depot.reading_kwh(now), now);
            match meter.read(kwh, at(now), OFFER) {
                Some(_) if now < 100.0 => before += 1,
                Some(kw) => after.push((now, kw)),
                None => {}
            }
        }
        (before, after)
    }

    /// What a reading and its time become.
    type Change = fn(f64, f64) -> (f64, f64);

    #[test]
    fn nothing_is_told_over_a_gap_or_a_reading_that_cannot_be() {
        let (before, undisturbed) = spoilt(|kwh, now| (kwh, now));
        assert!(before > 70 && undisturbed[0].0 == 100.0);
        let changes: [Change; 5] = [
            // Eleven seconds without a reading.
            |kwh, now| {
                (
                    if now >= 100.0 { kwh + 11.0 * 11.0 / 3600.0 } else { kwh },
                    now + if now >= 100.0 { 11.0 } else { 0.0 },
                )
            },
            // A fall to 0 for one reading.
            |kwh, now| (if now == 100.0 { 0.0 } else { kwh }, now),
            // Another meter, or one that begins anew.
            |kwh, now| (if now >= 100.0 { kwh - 1_000.0 } else { kwh }, now),
            // Further on than what is offered can have taken it.
            |kwh, now| (if now >= 100.0 { kwh + 0.5 } else { kwh }, now),
            // A jump for one reading.
            |kwh, now| (if now == 100.0 { kwh + 0.5 } else { kwh }, now),
        ];
        for (which, change) in changes.iter().enumerate() {
            let (same, after) = spoilt(change);
            assert_eq!(same, before);
            assert!(after[0].0 >= 110.0 && after.len() > 40, "{which}: it begins anew: {after:?}");
            assert!(after.iter().all(|(_, kw)| (kw - 11.0).abs() <= 1.1), "{which}: {after:?}");
        }
    }

    /// The recording of Josev: a meter that runs 50 times as fast as its time, at up to 32 A.
    #[test]
    fn no_power_is_told_that_the_station_cannot_give() {
        for offer in [OFFER, (None, None)] {
            let mut meter = MeterPower::default();
            let told = (0..100_u32).map(|turn| meter.read(1_234.935 + f64::from(turn) * 0.3, at(turn.into()), offer));
            assert_eq!(told.flatten().count(), 0);
        }
    }

    proptest! {
        /// Whatever a vehicle takes, a meter's steps are, and how often it is asked and read.
        #[test]
        fn what_is_told_is_a_power_that_was_there_in_the_last_minute(
            powers in prop::collection::vec((prop_oneof![Just(0.0), 0.0..22.0_f64], 20.0..150.0_f64), 1..6),
            step_wh in prop_oneof![Just(1.0), Just(5.0), Just(10.0), Just(100.0)],
            refresh in prop_oneof![Just(0.0), 0.0..10.0_f64],
            every in 0.25..5.0_f64,
        ) {
            let depot = Depot { powers, step_wh, refresh };
            for (now, told) in depot.told(every) {
                let Some(told) = told else { continue };
                let (least, most) = depot.between(now - 60.0 - refresh - every, now);
                let error = 0.1_f64.max(told * 0.1) + 0.001;
                prop_assert!(told >= least - error && told <= most + error, "{told} kW at {now} s, of {least} to {most}");
            }
        }
    }
}
