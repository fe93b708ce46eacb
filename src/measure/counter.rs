//! A counter that only ever runs forwards, and what else its readings may be. Pure.
//!
//! In: readings in the order of their times. Out: for each what it is ([`Count`]), and how much has passed, never less than
//! nothing. A reading goes on from the last one that was believed if it is not below it and not further than what can have
//! passed since. What is not is told apart:
//!
//! - within one step over the end of its bits, and a second reading, not 0, goes on from there: it rolled over. However long nobody
//!   looked, no more than one step is made of it, as an exchanged meter looks the same. No power of ten is an end: nobody says how
//!   many digits a meter has;
//! - below, or zero, or too far ahead: doubtful, and the last one that was believed stays. A fall for one reading is over with
//!   the next, which goes on from there;
//! - a level that stays (three readings that go on from each other, over 5 s; over a minute for a zero, as devices show while
//!   they start): another counter, or a reset one. It is believed from there on, and what passed before is not made up;
//! - if the meter's number has changed (`exchange`), that holds at once, but for a zero, and wherever the new one stands: what was
//!   read since the old number was last seen is of neither for sure. Without a number, a meter that stands further on than the old one
//!   by no more than can have flowed while nobody looked is not to be told from it.
//!
//! Nothing survives a restart but what somebody kept: a counter that goes on (`resume`) from what was told of it judges its first
//! reading as any other; of one that begins anew the first reading is believed, and nothing is made of what passed before it.

use std::time::Duration;

use super::event::BreakReason;
use super::quality::Questionable;
use super::time::Mono;

/// Readings of another level before it is believed: two may be one late answer, told twice.
const READINGS_MIN: u32 = 3;
/// For so long it must stand: longer than a device's own averaging, shorter than anybody waits.
const STAYS: Duration = Duration::from_secs(5);
/// A zero stands longer: a device that starts shows it until it has read its memory.
const STAYS_AT_ZERO: Duration = Duration::from_secs(60);

/// What a reading of a counter is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Count {
    /// The first: nothing is known to have passed.
    First,
    /// It goes on; so much has passed, not less than 0.
    On(f64),
    /// Not to be believed as it stands, and why.
    Doubtful(Questionable),
    /// Believed, though it does not go on from the last one.
    Break(CounterBreak),
}

/// A place at which a counter does not go on as it was.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CounterBreak {
    /// The last reading before.
    pub from: f64,
    /// The first that is believed after.
    pub to: f64,
    /// What is known to have passed in between, not less than 0.
    pub passed: f64,
    /// Why.
    pub reason: BreakReason,
}

/// How a counter is made.
#[derive(Debug, Clone, PartialEq)]
pub struct CounterKind {
    /// The most that can pass in an hour, in the counter's unit.
    pub hourly_max: f64,
    /// One step may be as wide as this, however short the time.
    pub step_max: f64,
    /// Values at which it may begin anew: the ends of its bits.
    pub ends: Vec<f64>,
}

/// A counter and what was read of it.
#[derive(Debug, Clone)]
pub struct Counter {
    kind: CounterKind,
    /// The last reading that was believed, and when.
    last: Option<(f64, Mono)>,
    /// For how long nobody had looked before that.
    unseen: Duration,
    /// Where it may have gone.
    other: Option<Level>,
    is_exchanged: bool,
    /// The last reading while the meter said that it is the one it was, if it says so at all.
    own: Option<f64>,
    /// It says another number, and whether it is another meter is not known yet.
    is_in_doubt: bool,
    /// That it stays at another level has been told since the meter last said that it is the one it was.
    is_told: bool,
}

/// Readings that go on from each other, and not from the last one that was believed.
#[derive(Debug, Clone, Copy)]
struct Level {
    first: (f64, Mono),
    newest: (f64, Mono),
    readings: u32,
}

impl Counter {
    /// Nothing was read of it yet.
    #[must_use]
    pub fn new(kind: CounterKind) -> Self {
        Self {
            kind,
            last: None,
            unseen: Duration::ZERO,
            other: None,
            is_exchanged: false,
            own: None,
            is_in_doubt: false,
            is_told: false,
        }
    }

    /// What was believed last, in another life, and for how long nobody can have looked at it until `now`.
    pub fn resume(&mut self, value: f64, now: Mono, unseen: Duration) {
        (self.last, self.own, self.unseen) = (Some((value, now)), Some(value), unseen);
    }

    /// The meter has just said that it is the one it was.
    pub fn is_same(&mut self) {
        self.own = self.last.map(|(value, _)| value);
        (self.is_in_doubt, self.is_told) = (false, false);
    }

    /// The meter says another number: soon it is known whether it is another one, and that is what has happened to its counter then.
    pub fn doubt(&mut self, is_in_doubt: bool) {
        self.is_in_doubt = is_in_doubt;
    }

    /// The meter is another one, since some time after it last said which it is: where its counter stands says nothing of where it
    /// stood.
    pub fn exchange(&mut self) {
        self.is_exchanged = self.last.is_some() && !self.is_told;
        self.is_in_doubt = false;
    }

    /// Judges a reading; finite.
    pub fn read(&mut self, value: f64, at: Mono) -> Count {
        let Some((last, since)) = self.last else {
            return self.believe(value, at, Count::First);
        };
        if self.is_exchanged && value != 0.0 {
            let (from, reason) = (self.own.unwrap_or(last), BreakReason::MeterExchanged);
            let told = Count::Break(CounterBreak { from, to: value, passed: 0.0, reason });
            return self.believe(value, at, told);
        }
        if (0.0..=self.reach(at.since(since) + self.unseen)).contains(&(value - last)) {
            return self.believe(value, at, Count::On(value - last));
        }
        let broken = |passed, reason| Count::Break(CounterBreak { from: last, to: value, passed, reason });
        let before = self.other.filter(|level| self.goes_on(level.newest, (value, at)));
        if let Some(passed) = self.rolled_over(last, value).filter(|_| before.is_some() && value != 0.0) {
            return self.believe(value, at, broken(passed, BreakReason::RolledOver));
        }
        let level = match before {
            // Where a meter stands after the zero of its start is nothing that passed.
            Some(level) if level.newest.0 != 0.0 || value == 0.0 => {
                Level { newest: (value, at), readings: level.readings.saturating_add(1), ..level }
            }
            _ => Level { first: (value, at), newest: (value, at), readings: 1 },
        };
        if level.stays() && !self.is_in_doubt {
            let reason = if self.is_exchanged { BreakReason::MeterExchanged } else { BreakReason::AnotherLevel };
            return self.believe(value, at, broken(value - level.first.0, reason));
        }
        self.other = Some(level);
        Count::Doubtful(match value {
            _ if value > last => Questionable::CounterJump,
            0.0 => Questionable::CounterZero,
            _ => Questionable::CounterBackwards,
        })
    }

    fn believe(&mut self, value: f64, at: Mono, count: Count) -> Count {
        if let Count::Break(broken) = count {
            // Told, so that it is not told again of what was before.
            (self.own, self.is_told) = (None, broken.reason == BreakReason::AnotherLevel);
        }
        (self.last, self.unseen, self.other, self.is_exchanged) = (Some((value, at)), Duration::ZERO, None, false);
        count
    }

    /// The most that can have passed in a time.
    fn reach(&self, time: Duration) -> f64 {
        self.kind.step_max + self.kind.hourly_max * time.as_secs_f64() / 3600.0
    }

    fn goes_on(&self, (from, since): (f64, Mono), (to, at): (f64, Mono)) -> bool {
        (0.0..=self.reach(at.since(since))).contains(&(to - from))
    }

    /// What passed, if it came to an end and began anew: one step at most.
    fn rolled_over(&self, from: f64, to: f64) -> Option<f64> {
        let ends = self.kind.ends.iter().filter(|end| **end > from);
        ends.map(|end| end - from + to).find(|passed| to < from && (0.0..=self.kind.step_max).contains(passed))
    }
}

impl Level {
    fn stays(&self) -> bool {
        let least = if self.newest.0 == 0.0 { STAYS_AT_ZERO } else { STAYS };
        self.readings >= READINGS_MIN && self.newest.1.since(self.first.1) >= least
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000_000)
    }

    /// 100 kW at most, in steps up to 10 kWh, 32 bits of 0.1 kWh.
    fn counter() -> Counter {
        Counter::new(CounterKind { hourly_max: 100.0, step_max: 10.0, ends: vec![429_496_729.6] })
    }

    /// One reading a second.
    fn read(counter: &mut Counter, values: &[f64]) -> Vec<Count> {
        (1..).zip(values).map(|(second, value)| counter.read(*value, at(second))).collect()
    }

    fn broken(from: f64, to: f64, passed: f64, reason: BreakReason) -> Count {
        Count::Break(CounterBreak { from, to, passed, reason })
    }

    #[test]
    fn a_counter_that_falls_to_zero_for_a_reading_goes_on_from_where_it_was() {
        let told = read(&mut counter(), &[12345.5, 12346.0, 0.0, 12346.0, 12346.5]);
        let zero = Count::Doubtful(Questionable::CounterZero);
        assert_eq!(told, [Count::First, Count::On(0.5), zero, Count::On(0.0), Count::On(0.5)]);
    }

    #[test]
    fn what_runs_backwards_is_doubted_as_long_as_it_does() {
        let values: Vec<f64> = (0..200).map(|n| 500.0 - f64::from(n)).collect();
        let told = read(&mut counter(), &values);
        assert!(told[1..].iter().all(|count| *count == Count::Doubtful(Questionable::CounterBackwards)), "{told:?}");
    }

    fn assert_rolled_over(told: Count, kwh: f64) {
        let Count::Break(CounterBreak { passed, reason: BreakReason::RolledOver, .. }) = told else {
            panic!("{told:?}")
        };
        assert!((passed - kwh).abs() < 1e-6, "{passed}");
    }

    #[test]
    fn a_counter_that_comes_to_the_end_of_its_bits_goes_on_once_a_second_reading_confirms_it() {
        let (backwards, zero) =
            (Count::Doubtful(Questionable::CounterBackwards), Count::Doubtful(Questionable::CounterZero));
        let told = read(&mut counter(), &[429_496_729.0, 0.5, 0.75, 1.0]);
        assert_eq!((told[1], told[3]), (backwards, Count::On(0.25)));
        assert_rolled_over(told[2], 1.35);
        // At rest, and over the zero itself.
        assert_rolled_over(read(&mut counter(), &[429_496_729.0, 0.5, 0.5])[2], 1.1);
        let told = read(&mut counter(), &[429_496_729.0, 0.0, 0.0, 0.5]);
        assert_eq!(told[1..3], [zero; 2]);
        assert_rolled_over(told[3], 1.1);
    }

    #[test]
    fn a_zero_near_the_end_of_its_bits_or_of_a_power_of_ten_is_a_glitch() {
        for from in [429_496_729.0, 995.0, 9_995.0, 99_995.0] {
            let told = read(&mut counter(), &[from, 0.0, from + 0.25, from + 0.25]);
            let zero = Count::Doubtful(Questionable::CounterZero);
            assert_eq!(told, [Count::First, zero, Count::On(0.25), Count::On(0.0)], "{from}");
            let told = read(&mut counter(), &[from, 0.5, from + 0.25]);
            assert_eq!(told[1..], [Count::Doubtful(Questionable::CounterBackwards), Count::On(0.25)], "{from}");
        }
    }

    /// 10,000 − 6,000 kWh were energy: in an hour a depot's transformer can bring as much.
    #[test]
    fn an_exchanged_or_restarting_meter_is_no_roll_over_however_long_nobody_looked() {
        for (ends, silent) in
            [(vec![], 3_600), (vec![6_553.6], 3_600), (vec![4_294_967.296], 1_000_000), (vec![6_553.6], 1)]
        {
            for begins in [0.0, 0.5, 3.0] {
                let mut counter =
                    Counter::new(CounterKind { hourly_max: 10_000.0, ends: ends.clone(), ..counter().kind });
                let mut told = read(&mut counter, &[6_000.0]);
                told.extend((silent..silent + 90).map(|second| counter.read(begins, at(1 + second))));
                assert!(matches!(told[1], Count::Doubtful(_)), "{told:?}");
                let breaks: Vec<_> = told.iter().filter(|count| matches!(count, Count::Break(_))).collect();
                assert_eq!(breaks, [&broken(6_000.0, begins, 0.0, BreakReason::AnotherLevel)], "{silent} {ends:?}");
                assert!(told.iter().all(|count| !matches!(count, Count::On(passed) if *passed > 0.0)), "{told:?}");
            }
        }
    }

    #[test]
    fn where_an_exchanged_meter_stands_after_its_zero_is_no_energy() {
        let mut counter = Counter::new(CounterKind { hourly_max: 10_000.0, ..counter().kind });
        let told = read(&mut counter, &[&[6_000.0, 0.0, 0.0, 0.0, 0.0, 0.0][..], &[9.0; 7]].concat());
        assert_eq!(told[11], broken(6_000.0, 9.0, 0.0, BreakReason::AnotherLevel), "{told:?}");
    }

    #[test]
    fn another_level_that_stays_is_believed_and_what_it_counted_meanwhile_is_known() {
        for level in [3.0, 70_000.0] {
            let values: Vec<f64> = [500.0].into_iter().chain((0..20).map(|n| level + f64::from(n) * 0.25)).collect();
            let told = read(&mut counter(), &values);
            let doubt = if level > 500.0 { Questionable::CounterJump } else { Questionable::CounterBackwards };
            assert_eq!(told[1..6], [Count::Doubtful(doubt); 5]);
            assert_eq!(told[6], broken(500.0, level + 1.25, 1.25, BreakReason::AnotherLevel));
            assert!(told[7..].iter().all(|count| *count == Count::On(0.25)), "{told:?}");
        }
    }

    #[test]
    fn a_zero_is_believed_after_a_minute_as_a_device_shows_it_while_it_starts() {
        let mut counter = counter();
        let told = read(&mut counter, &[&[500.0][..], &[0.0; 60]].concat());
        assert!(told[1..].iter().all(|count| *count == Count::Doubtful(Questionable::CounterZero)), "{told:?}");
        assert_eq!(counter.clone().read(500.1, at(62)), Count::On(500.1 - 500.0));
        assert_eq!(counter.read(0.0, at(62)), broken(500.0, 0.0, 0.0, BreakReason::AnotherLevel));
    }

    #[test]
    fn an_exchanged_meter_is_believed_at_once_and_makes_no_energy() {
        let mut counter = counter();
        read(&mut counter, &[500.0]);
        counter.exchange();
        assert_eq!(counter.read(7_000.0, at(2)), broken(500.0, 7_000.0, 0.0, BreakReason::MeterExchanged));
        assert_eq!(counter.read(7_001.0, at(3)), Count::On(1.0));
        // But for the zero that it shows while it starts.
        counter.exchange();
        assert_eq!(counter.read(0.0, at(4)), Count::Doubtful(Questionable::CounterZero));
        assert_eq!(counter.read(12.0, at(5)), broken(7_001.0, 12.0, 0.0, BreakReason::MeterExchanged));
    }

    /// A meter was told as exchanged and its counter, after as long, as reset: two breaks for one meter.
    #[test]
    fn an_exchanged_meter_breaks_its_counter_once_whenever_it_says_its_number() {
        let values: Vec<f64> = [500.0].into_iter().chain([7.0; 6]).collect();
        let mut soon = counter();
        soon.is_same();
        soon.read(500.0, at(1));
        for second in 2..=8 {
            assert_eq!(soon.read(7.0, at(second)), Count::Doubtful(Questionable::CounterBackwards));
            soon.doubt(true);
        }
        soon.exchange();
        assert_eq!(soon.read(7.0, at(9)), broken(500.0, 7.0, 0.0, BreakReason::MeterExchanged));
        // It is read for its number once a minute.
        let mut late = counter();
        assert_eq!(read(&mut late, &values)[6], broken(500.0, 7.0, 0.0, BreakReason::AnotherLevel));
        late.exchange();
        assert_eq!(late.read(7.5, at(9)), Count::On(0.5));
    }

    /// In an hour in which nobody looked, 100 kWh can have flowed: the new meter was taken to have counted them.
    #[test]
    fn an_exchanged_meter_that_stands_further_on_is_no_energy_either() {
        let mut counter = counter();
        read(&mut counter, &[500.0]);
        counter.is_same();
        // It says its number a little later than where it stands.
        assert_eq!(counter.read(580.0, at(3_600)), Count::On(80.0));
        counter.exchange();
        assert_eq!(counter.read(580.25, at(3_605)), broken(500.0, 580.25, 0.0, BreakReason::MeterExchanged));
        assert_eq!(counter.read(580.5, at(3_606)), Count::On(0.25));
        counter.is_same();
        counter.exchange();
        assert_eq!(counter.read(581.0, at(3_607)), broken(580.5, 581.0, 0.0, BreakReason::MeterExchanged));
    }

    #[test]
    fn how_far_it_can_have_run_grows_with_the_time_in_which_nobody_looked() {
        let mut counter = counter();
        read(&mut counter, &[500.0]);
        assert_eq!(counter.clone().read(600.0, at(2)), Count::Doubtful(Questionable::CounterJump));
        assert_eq!(counter.read(600.0, at(2 + 3600)), Count::On(100.0));
    }

    #[test]
    fn the_first_reading_after_a_start_says_nothing_of_what_passed_before() {
        assert_eq!(counter().read(0.0, at(1)), Count::First);
    }

    proptest! {
        /// Whatever a device says: what passed is never less than nothing, and in all never more than can have passed.
        #[test]
        fn no_readings_make_energy_that_cannot_have_flowed(
            readings in prop::collection::vec((prop_oneof![Just(0.0), 0.0..1e9_f64, 490.0..510.0_f64, 429_496_700.0..429_496_729.6_f64], 0_u64..100), 1..60),
        ) {
            let (mut counter, mut now, mut sum, mut counted) = (counter(), 1, 0.0, 0_u32);
            for (value, later) in readings {
                now += later;
                let passed = match counter.read(value, at(now)) {
                    Count::First | Count::Doubtful(_) => 0.0,
                    Count::On(passed) | Count::Break(CounterBreak { passed, .. }) => { counted += 1; passed }
                };
                prop_assert!(passed >= 0.0, "{passed}");
                sum += passed;
            }
            // Each step that counts, and each before it that a new level took to be believed.
            let most = 100.0 * f64::from(u32::try_from(now).expect("small")) / 3600.0 + 60.0 * 10.0;
            prop_assert!(sum <= most, "{sum} of at most {most} in {counted} steps");
        }

        /// Readings that are spoilt in between do not change what is counted by those that are not.
        #[test]
        fn spoilt_readings_change_nothing_of_the_sum(
            steps in prop::collection::vec((0.0..5.0_f64, prop::option::of(prop_oneof![Just(0.0), 1e5..1e9_f64])), 2..60),
        ) {
            let (mut counter, mut value, mut sum) = (counter(), 1_000.0, 0.0);
            let mut first = None;
            for (second, (step, spoilt)) in (1..).step_by(2).zip(&steps) {
                value += step;
                if let (Some(spoilt), true) = (spoilt, first.is_some()) {
                    prop_assert!(matches!(counter.read(*spoilt, at(second)), Count::Doubtful(_)));
                }
                first.get_or_insert(value);
                match counter.read(value, at(second + 1)) {
                    Count::First => {}
                    Count::On(passed) => sum += passed,
                    other => prop_assert!(false, "{:?}", other),
                }
            }
            prop_assert!((sum - (value - first.unwrap_or(value))).abs() < 1e-6);
        }
    }
}
