//! What does not go together is found once, with its name, and what does is not.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::measure::{
    BreakReason, ClockTrust, Count, CounterBreak, Energy, EnergyDelta, EnergySource, Missing, Mono, Outcome,
    Questionable, Statistic, Utc, Value,
};
use crate::spec::{
    Aggregation, ByteOrder, PointSpec, Points, PollGroup, RawKind, RegisterPoint, RegisterTable, Scaling, Tolerance,
    Unit, ValueType, WordOrder,
};

const POLL: Duration = Duration::from_millis(500);

fn unit_of(field: &str) -> Unit {
    match field.split('_').next().expect("a word") {
        "voltage" => Unit::Volt,
        "current" => Unit::Ampere,
        "energy" => Unit::KilowattHour,
        "soc" => Unit::Percent,
        _ if field.starts_with("power_factor") => Unit::One,
        _ if field.starts_with("power_apparent") => Unit::KilovoltAmpere,
        _ => Unit::Kilowatt,
    }
}

fn point(field: &str) -> PointSpec {
    let unit = unit_of(field);
    PointSpec {
        field: field.try_into().expect("a field"),
        unit,
        value_type: ValueType::Float,
        aggregation: Aggregation::usual(ValueType::Float, unit),
        valid: None,
        frozen_after: None,
        scaling: Scaling::default(),
        origin: Origin::Register(RegisterPoint {
            unit: None,
            table: RegisterTable::Input,
            address: 0,
            raw: RawKind::F32,
            byte_order: ByteOrder::Big,
            word_order: WordOrder::MswFirst,
            mask: None,
            not_available: vec![],
            scale: None,
        }),
    }
}

fn device(kind: DeviceKind, fields: &[&str], points: impl FnOnce(Points) -> Points) -> DeviceSpec {
    let group = PollGroup { name: "fast".to_owned(), interval: POLL, blocks: vec![] };
    DeviceSpec {
        id: "d".try_into().expect("a name"),
        kind,
        profile: "test".to_owned(),
        points: points(fields.iter().map(|field| point(field)).collect()),
        groups: vec![group],
    }
}

/// A device that is read each 500 ms, in windows as long.
struct Told {
    fields: Vec<String>,
    plausibility: Plausibility,
    ms: u64,
    events: Vec<(u64, String)>,
    words: Vec<String>,
    energy: Energy,
}

impl Told {
    fn by(device: &DeviceSpec) -> Self {
        Self {
            fields: device.points.iter().map(|point| point.field.to_string()).collect(),
            plausibility: Plausibility::new(device),
            ms: 0,
            events: Vec::new(),
            words: Vec::new(),
            energy: Energy::default(),
        }
    }

    fn new(kind: DeviceKind, fields: &[&str]) -> Self {
        Self::by(&device(kind, fields, |points| points))
    }

    /// What is said of each field, in one window.
    fn say(&mut self, said: impl Fn(&str) -> Option<f64>) {
        self.ms += 500;
        let at = Stamp { mono: Mono(self.ms * 1_000_000), utc: Utc(0), trust: ClockTrust::Synced };
        let point = |(ix, field): (u16, &String)| {
            let value = said(field)?;
            let value = IntervalValue::Float(Statistic { value, min: value, max: value, count: 1 });
            Some(PointInterval { point: PointIx(ix), value, questionable: None })
        };
        let interval = Interval {
            device: crate::spec::DeviceIx(0),
            direction: None,
            vehicle: None,
            session: None,
            points: (0..).zip(&self.fields).filter_map(point).collect(),
            energy: std::mem::take(&mut self.energy),
        };
        let (ms, events, words) = (self.ms, &mut self.events, &mut self.words);
        self.plausibility.judge(&[interval], at, |kind| {
            let (EventKind::Implausible(verdict) | EventKind::Plausible(verdict)) = &kind else { panic!("{kind:?}") };
            events.push((ms / 1000, format!("{} {}", kind.name(), verdict.rule)));
            words.push(verdict.what.to_string());
            true
        });
    }

    fn for_seconds(&mut self, seconds: u64, said: impl Fn(&str) -> Option<f64>) {
        for _ in 0..seconds * 2 {
            self.say(&said);
        }
    }

    fn told(&self) -> Vec<&str> {
        self.events.iter().map(|(_, event)| event.as_str()).collect()
    }
}

/// Three phases: volts, amperes, power factor.
type Phases = [(f64, f64, f64); 3];

/// What a meter makes of them.
fn of(phases: Phases) -> impl Fn(&str) -> Option<f64> {
    move |field| {
        let power = |(u, i, f): (f64, f64, f64)| u * i * f / 1000.0;
        let apparent = |(u, i, _): (f64, f64, f64)| u * i / 1000.0;
        let sum = |of: &dyn Fn((f64, f64, f64)) -> f64| phases.iter().map(|phase| of(*phase)).sum::<f64>();
        let each = |name: &str, of: &dyn Fn((f64, f64, f64)) -> f64| {
            let phase: usize = field.strip_prefix(name)?.strip_prefix("_l")?.parse().ok()?;
            Some(of(phases[phase - 1]))
        };
        match field {
            "power_flow" => Some(sum(&power)),
            "power_apparent" => Some(sum(&apparent)),
            "power_factor" => Some(sum(&power) / sum(&apparent).max(1e-9)),
            "current_sum" => Some(sum(&|(_, i, _)| i)),
            _ => each("power_flow", &power)
                .or_else(|| each("power_apparent", &apparent))
                .or_else(|| each("power_factor", &|(_, _, f)| f))
                .or_else(|| each("voltage", &|(u, ..)| u))
                .or_else(|| each("current", &|(_, i, _)| i)),
        }
    }
}

const ALL: [&str; 19] = [
    "voltage_l1",
    "voltage_l2",
    "voltage_l3",
    "current_l1",
    "current_l2",
    "current_l3",
    "power_flow_l1",
    "power_flow_l2",
    "power_flow_l3",
    "power_flow",
    "power_apparent",
    "power_apparent_l1",
    "power_apparent_l2",
    "power_apparent_l3",
    "power_factor",
    "power_factor_l1",
    "power_factor_l2",
    "power_factor_l3",
    "current_sum",
];
const AT_16_A: Phases = [(230.0, 16.0, 0.99), (231.0, 16.1, 0.99), (229.0, 15.9, 0.98)];

/// The same, but for one field.
fn but(field: &'static str, make: impl Fn(f64) -> f64) -> impl Fn(&str) -> Option<f64> {
    move |asked| {
        let value = of(AT_16_A)(asked)?;
        Some(if asked == field { make(value) } else { value })
    }
}

proptest! {
    #[test]
    fn whatever_a_meter_measures_goes_together(
        loads in proptest::collection::vec(
            proptest::array::uniform3((0.0..260.0_f64, 0.0..80.0_f64, -1.0..1.0_f64)), 1..6,
        )
    ) {
        let mut meter = Told::new(DeviceKind::Meter, &ALL);
        for phases in loads {
            meter.for_seconds(120, of(phases));
        }
        prop_assert_eq!(meter.told(), Vec::<&str>::new());
    }
}

#[test]
fn what_is_broken_for_its_hold_time_is_told_once_and_its_end_once() {
    let mut meter = Told::new(DeviceKind::Meter, &ALL);
    meter.for_seconds(60, of(AT_16_A));
    meter.for_seconds(29, but("power_flow", |kw| -kw));
    assert_eq!(meter.told(), Vec::<&str>::new());
    meter.for_seconds(3600, but("power_flow", |kw| -kw));
    assert_eq!(meter.events, [(90, "implausible phase_sum".to_owned())]);
    assert_eq!(meter.words, ["power_flow against power_flow_l1 + power_flow_l2 + power_flow_l3"]);
    meter.for_seconds(60, of(AT_16_A));
    assert_eq!(meter.events[1..], [(3719, "plausible phase_sum".to_owned())]);
}

#[test]
fn what_flaps_at_its_tolerance_is_told_once() {
    let mut meter = Told::new(DeviceKind::Meter, &["power_flow", "power_flow_l1", "power_flow_l2", "power_flow_l3"]);
    meter.for_seconds(60, but("power_flow", |kw| kw * 1.06));
    for _ in 0..100 {
        meter.for_seconds(40, but("power_flow", |kw| kw * 1.045));
        meter.for_seconds(40, but("power_flow", |kw| kw * 1.055));
    }
    assert_eq!(meter.told(), ["implausible phase_sum"]);
}

#[test]
fn a_load_that_moves_between_two_reads_is_no_finding() {
    let mut meter = Told::new(DeviceKind::Meter, &ALL);
    // The powers are those of a moment later: a load that is switched each second or two, read in two requests.
    for n in 0..2000_u32 {
        let load = |n: u32| AT_16_A.map(|(u, i, f)| (u, if (n / 3).is_multiple_of(2) { i } else { 0.5 }, f));
        let (before, after) = (of(load(n)), of(load(n + 1)));
        meter.say(|field| if field.starts_with("power") { after(field) } else { before(field) });
    }
    assert_eq!(meter.told(), Vec::<&str>::new());
}

#[test]
fn what_was_not_read_together_or_is_doubtful_is_not_compared() {
    let mut meter = Told::new(DeviceKind::Meter, &ALL);
    for n in 0..600_u32 {
        // Ten polls apart.
        meter.say(|field| {
            let is_turn = if field == "power_flow" { n.is_multiple_of(10) } else { n % 10 == 5 };
            is_turn.then(|| but("power_flow", |kw| kw * 2.0)(field)).flatten()
        });
    }
    assert_eq!(meter.told(), Vec::<&str>::new());
}

#[test]
fn each_mistake_of_wiring_or_of_a_profile_is_told_by_the_rules_that_it_breaks() {
    let told = |kind, said: &dyn Fn(&str) -> Option<f64>| {
        let mut told = Told::new(kind, &ALL);
        told.for_seconds(120, said);
        told.events.into_iter().map(|(_, event)| event.replace("implausible ", "")).collect::<Vec<_>>()
    };
    // A transformer that is the wrong way round: a meter may have it so, a charger not.
    let turned: Phases = [AT_16_A[0], (231.0, 16.1, -0.99), AT_16_A[2]];
    assert_eq!(told(DeviceKind::Meter, &of(turned)), Vec::<&str>::new());
    assert_eq!(told(DeviceKind::Evse, &of(turned)), ["phase_direction"]);
    // The voltage of another phase: its power is half, and against the others.
    let exchanged: Phases = [AT_16_A[0], (230.0, 16.0, -0.5), (230.0, 16.0, -0.5)];
    assert_eq!(told(DeviceKind::Evse, &of(exchanged)), ["phase_direction"]);
    // A ratio that is not set, a scale, a register of something else.
    let ratio =
        |by: f64| move |field: &str| Some(of(AT_16_A)(field)? * if field.starts_with("current") { by } else { 1.0 });
    assert_eq!(told(DeviceKind::Evse, &ratio(0.1)), ["power_against_current"]);
    assert_eq!(told(DeviceKind::Evse, &ratio(10.0)), ["power_against_current"]);
    assert_eq!(told(DeviceKind::Meter, &but("power_flow", |kw| kw / 10.0)), ["phase_sum"]);
    let both = ["power_against_current", "phase_sum", "apparent_against_active", "power_factor"];
    assert_eq!(told(DeviceKind::Meter, &but("power_flow", |kw| kw * 1000.0)), both);
    assert_eq!(told(DeviceKind::Meter, &but("power_apparent", |kva| kva / 1000.0))[0], "apparent_against_active");
    assert_eq!(told(DeviceKind::Meter, &but("power_factor_l2", |factor| factor / 100.0)), ["power_factor"]);
    assert_eq!(told(DeviceKind::Meter, &but("current_sum", |amperes| amperes / 3.0)), ["phase_sum"]);
}

#[test]
fn direct_current_is_volts_times_amperes_and_nothing_is_said_of_what_rests() {
    let mut charger = Told::new(DeviceKind::Evse, &["voltage", "current", "power_flow", "soc"]);
    let said = |volts: f64, amperes: f64, kw: f64| {
        move |field: &str| {
            Some(match field {
                "voltage" => volts,
                "current" => amperes,
                "power_flow" => kw,
                _ => 40.0,
            })
        }
    };
    charger.for_seconds(600, said(0.0, 0.0, 0.0));
    charger.for_seconds(600, said(390.0, 0.2, 0.0));
    charger.for_seconds(600, said(400.0, -125.0, -48.0));
    assert_eq!(charger.told(), Vec::<&str>::new());
    charger.for_seconds(600, said(400.0, 125.0, 5.0));
    assert_eq!(charger.told(), ["implausible power_against_current"]);
    assert_eq!(charger.words, ["power_flow against voltage × current"]);
}

#[test]
fn a_rule_is_tightened_loosened_and_switched_off() {
    let told = |tolerance: Tolerance| {
        let device = device(DeviceKind::Meter, &ALL, |points| {
            let mut tolerances = points.tolerances();
            tolerances.set(Rule::PhaseSum, tolerance);
            points.with_tolerances(tolerances)
        });
        let mut told = Told::by(&device);
        told.for_seconds(120, but("power_flow", |kw| kw * 1.04));
        told.events
    };
    let usual = Rule::PhaseSum.usual();
    assert_eq!(told(usual), []);
    let hold = Duration::from_secs(10);
    assert_eq!(told(Tolerance { part: 0.02, hold, ..usual }), [(10, "implausible phase_sum".to_owned())]);
    assert_eq!(told(Tolerance { part: 0.02, hold, is_off: true }), []);
}

/// A register beside power: one reading of each a second.
struct Counted {
    told: Told,
    counter: f64,
    second: u64,
}

impl Counted {
    fn new(kind: DeviceKind) -> Self {
        let told = Told::new(kind, &["power_flow", "energy_import", "energy_export"]);
        let mut counted = Self { told, counter: 0.0, second: 0 };
        (0..2).for_each(|_| counted.read(0.0, [Some(Count::First), Some(Count::First)]));
        counted
    }

    fn read(&mut self, kw: f64, counts: [Option<Count>; 2]) {
        self.second += 1;
        let at = Stamp { mono: Mono(self.second * 1_000_000_000), utc: Utc(0), trust: ClockTrust::Synced };
        let device = crate::spec::DeviceIx(0);
        let good = |value| Outcome::Good(Value::Float(value));
        let power = Reading { device, point: PointIx(0), at, outcome: good(kw), count: None };
        self.told.plausibility.add(&power, Some((kw, 1.0 / 3600.0)));
        for (ix, count) in (1..).zip(counts) {
            let reading = Reading { device, point: PointIx(ix), at, outcome: good(0.0), count };
            self.told.plausibility.add(&reading, None);
        }
        self.told.for_seconds(1, |_| None);
    }

    /// Power for so long, of which the registers (import, export) count these parts, in steps of so many kWh.
    fn flow(&mut self, kw: f64, seconds: u64, parts: [f64; 2], step: f64) {
        for _ in 0..seconds {
            let shown = |counter: f64| (counter / step).floor() * step;
            let before = shown(self.counter);
            self.counter += kw.abs() / 3600.0;
            let passed = shown(self.counter) - before;
            self.read(kw, parts.map(|part| Some(Count::On(part * passed))));
        }
    }
}

#[test]
fn a_register_that_counts_what_flows_is_told_of_by_nothing_however_coarse_it_is() {
    for step in [0.001, 0.1, 1.0] {
        let mut meter = Counted::new(DeviceKind::Evse);
        meter.flow(11.0, 20_000, [1.0, 0.0], step);
        meter.flow(0.0, 20_000, [1.0, 0.0], step);
        meter.flow(-22.0, 20_000, [0.0, 1.0], step);
        // The phases of a meter: some bring, some take.
        meter.flow(3.0, 20_000, [2.0, 1.0], step);
        assert_eq!(meter.told.told(), Vec::<&str>::new(), "{step}");
    }
}

#[test]
fn a_register_that_stands_is_exchanged_or_is_off_by_a_factor_is_told_with_what_is_likely() {
    let words = |parts: [f64; 2], kw: f64| {
        let mut meter = Counted::new(DeviceKind::Meter);
        meter.flow(kw, 10_000, parts, 0.01);
        assert_eq!(meter.told.told(), ["implausible register_against_power"], "{parts:?}");
        meter.flow(kw, 3600, if kw > 0.0 { [1.0, 0.0] } else { [0.0, 1.0] }, 0.01);
        assert_eq!(meter.told.told()[1..], ["plausible register_against_power"], "{parts:?}");
        meter.told.words.remove(0).split_once(": ").map_or_else(String::new, |(_, words)| words.to_owned())
    };
    let exchanged = "import and export are exchanged, or the sign of power";
    assert_eq!(words([0.0, 1.0], 22.0), exchanged);
    assert_eq!(words([1.0, 0.0], -22.0), exchanged);
    assert_eq!(words([10.0, 0.0], 22.0), "by a factor of 10");
    assert_eq!(words([0.001, 0.0], 22.0), "by a factor of 1000");
    assert_eq!(words([0.0, 0.0], 22.0), "the register stands still");
    assert_eq!(words([1.5, 0.0], 22.0), "");
}

#[test]
fn what_a_register_counted_while_power_was_not_known_or_another_meter_counted_is_no_finding() {
    let mut meter = Counted::new(DeviceKind::Evse);
    for n in 0..200_u32 {
        meter.flow(22.0, 300, [1.0, 0.0], 0.01);
        let device = crate::spec::DeviceIx(0);
        let at = Stamp { mono: Mono(0), utc: Utc(0), trust: ClockTrust::Synced };
        let known_again =
            Reading { device, point: PointIx(0), at, outcome: Outcome::Good(Value::Float(22.0)), count: None };
        let missing = Reading { outcome: Outcome::Missing(Missing::Timeout), ..known_again.clone() };
        meter.told.plausibility.add(&missing, None);
        if n.is_multiple_of(2) {
            // An hour of silence.
            meter.told.plausibility.add(&known_again, None);
            meter.read(22.0, [Some(Count::On(22.0)), Some(Count::On(0.0))]);
        } else {
            let broken = CounterBreak { from: 9_999.0, to: 3.0, passed: 0.0, reason: BreakReason::MeterExchanged };
            meter.read(22.0, [Some(Count::Break(broken)), Some(Count::On(0.0))]);
            meter.read(22.0, [Some(Count::Doubtful(Questionable::CounterZero)), Some(Count::On(0.0))]);
        }
    }
    assert_eq!(meter.told.told(), Vec::<&str>::new());
}

/// Charges with so many kW for so long; `soc` after so many kWh.
fn charge(told: &mut Told, seconds: u32, kw: f64, soc: impl Fn(f64) -> f64) {
    let capacity = told.fields.contains(&"battery_capacity".to_owned());
    let mut kwh = 0.0;
    for _ in 0..seconds * 2 {
        kwh += kw / 7200.0;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some thousand mWh")]
        let delta = Some(EnergyDelta { mwh: (kw.abs() * 1e6 / 7200.0) as u64, source: EnergySource::Power });
        let (import, export) = if kw > 0.0 { (delta, None) } else { (None, delta) };
        told.energy = Energy { import, export, known: Some(POLL) };
        let soc = soc(kwh);
        told.say(|field| match field {
            "soc" => Some(soc),
            "battery_capacity" => capacity.then_some(60.0),
            _ => None,
        });
    }
}

#[test]
fn a_state_of_charge_that_follows_its_energy_is_told_of_by_nothing_and_one_that_does_not_is() {
    let fields: BTreeMap<bool, Vec<&str>> =
        [(false, vec!["power_flow", "soc"]), (true, vec!["power_flow", "soc", "battery_capacity"])].into();
    for (knows, fields) in &fields {
        let new = || Told::new(DeviceKind::Evse, fields);
        let whole = |soc: f64| soc.floor();
        for loss in [0.85, 1.0] {
            let mut well = new();
            charge(&mut well, 2400, 50.0, |kwh| whole(20.0 + 100.0 * loss * kwh / 60.0));
            // It leaves, and another one comes whose state is lower.
            charge(&mut well, 120, 0.0, |_| 70.0);
            charge(&mut well, 2400, 50.0, |kwh| whole(10.0 + 100.0 * loss * kwh / 60.0));
            charge(&mut well, 120, 0.0, |_| 60.0);
            charge(&mut well, 2400, -50.0, |kwh| whole(60.0 + 100.0 * kwh / 60.0 / loss));
            // Full, and kept warm.
            charge(&mut well, 120, 0.0, |_| 100.0);
            charge(&mut well, 36_000, 5.0, |_| 100.0);
            assert_eq!(well.told(), Vec::<&str>::new(), "{knows} {loss}");
        }
        let mut falls = new();
        charge(&mut falls, 600, 50.0, |kwh| 60.0 - 2.0 * kwh);
        assert_eq!(falls.told(), ["implausible soc_against_energy"], "{knows}");
        let mut stands = new();
        charge(&mut stands, 3600, 50.0, |_| 20.0);
        assert_eq!(stands.told(), ["implausible soc_against_energy"], "{knows}");
    }
}
