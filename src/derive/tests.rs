use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::measure::{
    BootId, ClockTrust, Counter, CounterKind, Energy, EnergyDelta, EnergySource, Interval, IntervalValue, Missing,
    Mono, Outcome, PointInterval, Questionable, RegisterBase, Stamp, Utc, Value,
};
use crate::spec::{
    Aggregation, DeviceKind, Origin, PointIx, PointSpec, PollGroup, Scaling, SessionPoint, SessionValue, SunSpecPoint,
    Unit, ValueType,
};

const WINDOW: Duration = Duration::from_millis(250);
const POWER: PointIx = PointIx(0);
const IMPORT: PointIx = PointIx(1);
const EXPORT: PointIx = PointIx(2);
const METER: DeviceIx = DeviceIx(0);
const CHARGER: DeviceIx = DeviceIx(1);
const CONNECTOR: DeviceIx = DeviceIx(2);

fn point(field: &str, unit: Unit, origin: Origin) -> PointSpec {
    PointSpec {
        field: field.try_into().expect("a field"),
        unit,
        value_type: ValueType::Float,
        aggregation: Aggregation::usual(ValueType::Float, unit),
        valid: None,
        frozen_after: None,
        scaling: Scaling::default(),
        origin,
    }
}

fn device(id: &str, points: Vec<PointSpec>, interval: Option<Duration>) -> DeviceSpec {
    let group = |interval| PollGroup { name: "fast".to_owned(), interval, blocks: vec![] };
    DeviceSpec {
        id: id.try_into().expect("a name"),
        kind: DeviceKind::Evse,
        profile: "test".to_owned(),
        points: points.into(),
        groups: interval.map(group).into_iter().collect(),
    }
}

/// A meter with power and two registers, a charger with power alone, both polled each second; and a connector whose sessions are
/// heard.
fn depot() -> Vec<DeviceSpec> {
    let polled = || Origin::SunSpec(SunSpecPoint { from: vec![] });
    let heard = |value| Origin::Session(SessionPoint { value });
    let second = Some(Duration::from_secs(1));
    let registers = |origin: &dyn Fn(bool) -> Origin| {
        vec![
            point("power_flow", Unit::Kilowatt, origin(true)),
            point("energy_import", Unit::KilowattHour, origin(true)),
            point("energy_export", Unit::KilowattHour, origin(false)),
        ]
    };
    let sessions =
        registers(&|is_import| heard(if is_import { SessionValue::EnergyImport } else { SessionValue::EnergyExport }));
    vec![
        device("grid", registers(&|_| polled()), second),
        device("dc-1", vec![point("power_flow", Unit::Kilowatt, polled())], second),
        device("plug-1", sessions, None),
    ]
}

/// The room, with counters as `normalise` has them.
struct Room {
    deriver: Deriver,
    counters: BTreeMap<(DeviceIx, PointIx), Counter>,
    session: Option<SessionId>,
}

impl Room {
    fn new() -> Self {
        Self {
            deriver: Deriver::new(&depot(), WINDOW, 0.05, BootId([1; 16])),
            counters: BTreeMap::new(),
            session: None,
        }
    }

    fn resume(&mut self, point: PointIx, value: f64) {
        let at = stamp(0);
        let base = RegisterBase { value, boot: BootId([1; 16]), at };
        self.deriver.resume(&Checkpoint { registers: [((METER, point), base)].into(), ..Checkpoint::default() }, at);
        self.counter(METER, point).resume(value, at.mono, Duration::from_secs(86_400));
    }

    fn counter(&mut self, device: DeviceIx, point: PointIx) -> &mut Counter {
        let kind = CounterKind { hourly_max: 10_000.0, step_max: 10.0, ends: vec![4_294_967.296] };
        self.counters.entry((device, point)).or_insert_with(|| Counter::new(kind))
    }

    fn read(&mut self, device: DeviceIx, point: PointIx, ms: u64, outcome: Outcome) {
        let at = stamp(ms);
        let count = match outcome {
            Outcome::Good(Value::Float(value)) if device == METER && point != POWER => {
                Some(self.counter(device, point).read(value, at.mono))
            }
            _ => None,
        };
        self.deriver.add(&Reading { device, point, at, outcome, count });
    }

    fn good(&mut self, device: DeviceIx, point: PointIx, ms: u64, value: f64) {
        self.read(device, point, ms, Outcome::Good(Value::Float(value)));
    }

    fn set_session(&mut self, id: Option<&str>) {
        self.session = id.map(|id| id.try_into().expect("a name"));
        self.deriver.set_session(CONNECTOR, self.session.clone(), stamp(0));
    }

    fn window(device: DeviceIx, sessions: &[Option<SessionId>]) -> Window {
        let told = PointInterval { point: POWER, value: IntervalValue::Integer(0), questionable: None };
        let interval = |session: &Option<SessionId>| Interval {
            device,
            direction: None,
            vehicle: None,
            session: session.clone(),
            points: vec![told.clone()],
            energy: Energy::default(),
        };
        Window {
            boot: BootId([1; 16]),
            end: stamp(0),
            length: WINDOW,
            intervals: sessions.iter().map(interval).collect(),
            site: None,
            events: vec![],
            sessions: Vec::new(),
            site_intervals: Vec::new(),
            checkpoint: None,
        }
    }

    /// What is known of a device since the last time.
    fn told(&mut self, device: DeviceIx) -> Energy {
        let session = if device == CONNECTOR { self.session.clone() } else { None };
        let mut window = Self::window(device, &[session]);
        self.deriver.complete(&mut window, false);
        window.intervals[0].energy
    }
}

fn stamp(ms: u64) -> Stamp {
    let utc = 1_764_000_000_000_000_000 + i64::try_from(ms * 1_000_000).expect("small");
    Stamp { mono: Mono(ms * 1_000_000), utc: Utc(utc), trust: ClockTrust::Synced }
}

fn by_power(mwh: u64) -> Option<EnergyDelta> {
    Some(EnergyDelta { mwh, source: EnergySource::Power })
}

fn by_register(mwh: u64) -> Option<EnergyDelta> {
    Some(EnergyDelta { mwh, source: EnergySource::Register })
}

fn known(ms: u64) -> Option<Duration> {
    Some(Duration::from_millis(ms))
}

#[test]
fn power_over_time_is_energy_in_the_direction_in_which_it_goes() {
    let mut room = Room::new();
    room.good(CHARGER, POWER, 1_000, 36.0);
    assert_eq!(room.told(CHARGER), Energy::default(), "one reading says nothing of a time");
    room.good(CHARGER, POWER, 2_000, 36.0);
    assert_eq!(room.told(CHARGER), Energy { import: by_power(10_000), export: None, known: known(1_000) });
    room.good(CHARGER, POWER, 3_000, -36.0);
    let both = Energy { import: by_power(2_500), export: by_power(2_500), known: known(1_000) };
    assert_eq!(room.told(CHARGER), both, "half of the time each way");
    room.good(CHARGER, POWER, 3_500, 0.0);
    room.good(CHARGER, POWER, 4_500, 0.0);
    assert_eq!(room.told(CHARGER), Energy { import: None, export: by_power(2_500), known: known(1_500) });
}

#[test]
fn nothing_flows_over_a_silence_nor_while_a_device_says_that_it_does_not_know() {
    for (between, is_bridged) in [
        (vec![], false),
        (vec![Missing::Timeout; 8], false),
        (vec![Missing::Decode], false),
        (vec![Missing::Stale], false),
    ] {
        let mut room = Room::new();
        room.good(CHARGER, POWER, 1_000, 36.0);
        let silent = if between == [Missing::Decode] || between == [Missing::Stale] { 1_000 } else { 10_000 };
        between.iter().for_each(|why| room.read(CHARGER, POWER, 1_500, Outcome::Missing(*why)));
        room.good(CHARGER, POWER, 1_000 + silent, 36.0);
        assert_eq!(room.told(CHARGER).is_empty(), !is_bridged, "{between:?}");
        room.good(CHARGER, POWER, 2_000 + silent, 36.0);
        assert_eq!(room.told(CHARGER).import, by_power(10_000), "{between:?}: it goes on from the first reading after");
    }
}

#[test]
fn a_poll_that_is_lost_or_spoilt_is_bridged() {
    for spoilt in [
        Outcome::Missing(Missing::Timeout),
        Outcome::Missing(Missing::Overrun),
        Outcome::Questionable(Value::Float(-3.2e29), Questionable::OutOfRange),
    ] {
        let mut room = Room::new();
        room.good(CHARGER, POWER, 1_000, 36.0);
        room.read(CHARGER, POWER, 2_000, spoilt.clone());
        room.good(CHARGER, POWER, 3_000, 36.0);
        let told = Energy { import: by_power(20_000), export: None, known: known(2_000) };
        assert_eq!(room.told(CHARGER), told, "{spoilt:?}");
    }
}

#[test]
fn a_sensor_that_stands_still_makes_no_energy_and_a_charger_at_rest_is_known_to_rest() {
    let mut room = Room::new();
    let frozen = |kw| Outcome::Questionable(Value::Float(kw), Questionable::Frozen);
    for ms in [1_000, 2_000, 3_000] {
        room.read(CHARGER, POWER, ms, frozen(36.0));
    }
    assert_eq!(room.told(CHARGER), Energy::default());
    for ms in [4_000, 5_000, 6_000] {
        room.read(CHARGER, POWER, ms, frozen(0.0));
    }
    assert_eq!(room.told(CHARGER), Energy { import: None, export: None, known: known(2_000) });
}

#[test]
fn a_register_takes_the_place_of_power_in_its_direction() {
    let mut room = Room::new();
    room.good(METER, POWER, 1_000, 36.0);
    room.good(METER, POWER, 2_000, 36.0);
    room.good(METER, IMPORT, 2_000, 500.0);
    let mixed = Some(EnergyDelta { mwh: 10_000, source: EnergySource::Mixed });
    assert_eq!(room.told(METER), Energy { import: mixed, export: None, known: known(1_000) });
    room.good(METER, POWER, 3_000, -36.0);
    room.good(METER, IMPORT, 3_000, 500.002);
    let told = Energy { import: by_register(2_000), export: by_power(2_500), known: known(1_000) };
    assert_eq!(room.told(METER), told, "what flows back is not counted by it");
}

#[test]
fn what_a_register_counted_while_the_device_was_silent_is_told_when_it_is_read_again() {
    let mut room = Room::new();
    room.good(METER, IMPORT, 1_000, 500.0);
    room.good(METER, IMPORT, 3_600_000, 523.4);
    assert_eq!(room.told(METER), Energy { import: by_register(23_400_000), export: None, known: None });
}

#[test]
fn a_fall_for_a_reading_a_roll_over_and_another_meter_make_no_energy_of_their_own() {
    let mut room = Room::new();
    let mut read = |ms, value| {
        room.good(METER, EXPORT, ms, value);
        room.told(METER).export
    };
    assert_eq!(read(1_000, 4_294_967.0), by_register(0));
    assert_eq!(read(2_000, 0.0), None, "a fall for a reading");
    assert_eq!(read(3_000, 4_294_967.1), by_register(100_000));
    assert_eq!(read(4_000, 0.2), None, "it may be anything");
    assert_eq!(read(5_000, 0.3), by_register(496_000), "the end of its bits, confirmed");
    assert_eq!(read(6_000, 70_000.0), None, "another meter");
    (7..11).for_each(|second| assert_eq!(read(second * 1_000, 70_000.0), None));
    assert_eq!(read(11_000, 70_000.25), by_register(250_000), "what it has counted since it was seen first");
    assert_eq!(read(12_000, 70_000.5), by_register(250_000));
}

#[test]
fn a_restart_goes_on_from_what_was_told() {
    let mut room = Room::new();
    room.resume(IMPORT, 500.0);
    room.good(METER, POWER, 500, 36.0);
    room.good(METER, POWER, 1_500, 36.0);
    assert_eq!(
        room.told(METER),
        Energy { import: None, export: None, known: known(1_000) },
        "the register will tell it"
    );
    room.good(METER, IMPORT, 2_000, 507.25);
    assert_eq!(room.told(METER).import, by_register(7_250_000));
}

#[test]
fn what_a_station_counts_of_a_session_is_told_as_it_grows_and_begins_anew_with_the_next_one() {
    let mut room = Room::new();
    room.set_session(Some("a"));
    room.good(CONNECTOR, POWER, 1_000, 36.0);
    room.good(CONNECTOR, IMPORT, 1_000, 0.0);
    room.good(CONNECTOR, POWER, 2_000, 36.0);
    room.good(CONNECTOR, IMPORT, 2_000, 0.25);
    assert_eq!(room.told(CONNECTOR), Energy { import: by_register(250_000), export: None, known: known(1_000) });
    room.good(CONNECTOR, IMPORT, 3_000, 0.2);
    assert_eq!(room.told(CONNECTOR).import, by_register(0), "its meter corrects it");
    room.good(CONNECTOR, IMPORT, 4_000, 1.0);
    let before = room.session.clone();
    room.set_session(Some("b"));
    room.good(CONNECTOR, IMPORT, 5_000, 0.5);
    let mut window = Room::window(CONNECTOR, &[before, room.session.clone()]);
    room.deriver.complete(&mut window, false);
    let told: Vec<_> = window.intervals.iter().map(|interval| interval.energy.import).collect();
    assert_eq!(told, [by_register(750_000), by_register(500_000)]);
    // One whose id nobody knows.
    room.good(CONNECTOR, IMPORT, 6_000, 0.125);
    assert_eq!(room.told(CONNECTOR).import, by_register(125_000));
}

#[test]
fn the_energy_of_a_window_that_is_not_kept_is_told_in_the_next_one() {
    let mut room = Room::new();
    room.good(METER, IMPORT, 1_000, 500.0);
    room.told(METER);
    room.good(METER, IMPORT, 2_000, 500.5);
    let mut lost = Room::window(METER, &[None]);
    room.deriver.complete(&mut lost, false);
    assert_eq!(lost.intervals[0].energy.import, by_register(500_000));
    room.deriver.take_back(&lost);
    room.good(METER, IMPORT, 3_000, 500.75);
    assert_eq!(room.told(METER).import, by_register(750_000));
}

#[test]
fn a_time_of_the_source_is_not_measured_by_ours() {
    let mut room = Room::new();
    room.good(CONNECTOR, POWER, 1_000, 36.0);
    let own = |ms: i64| Stamp { utc: Utc(ms * 1_000_000), trust: ClockTrust::Resolved, ..stamp(1_100) };
    let read = |room: &mut Room, ms, kw| {
        let outcome = Outcome::Good(Value::Float(kw));
        room.deriver.add(&Reading { device: CONNECTOR, point: POWER, at: own(ms), outcome, count: None });
        room.told(CONNECTOR).known
    };
    assert_eq!(read(&mut room, 50_000, 36.0), None, "another clock");
    assert_eq!(read(&mut room, 51_000, 36.0), known(1_000));
    assert_eq!(read(&mut room, 50_500, 99.0), None, "out of order");
    assert_eq!(read(&mut room, 52_000, 36.0), known(1_000));
    assert_eq!(read(&mut room, 20_000, 36.0), None, "set back");
    assert_eq!(read(&mut room, 20_250, 36.0), known(250));
}

/// Readings of a meter: which point, after how many ms, and how much further it is (kW for power, Wh for a register), or that nothing
/// came.
fn readings() -> impl Strategy<Value = Vec<(u16, u64, Option<u32>)>> {
    prop::collection::vec((0_u16..3, 0_u64..4_000, prop::option::weighted(0.9, 0_u32..5_000)), 1..200)
}

/// Reads them, and tells what is known after each for which `is_end` holds, and at the end.
fn energies(readings: &[(u16, u64, Option<u32>)], is_end: impl Fn(usize) -> bool) -> Vec<Energy> {
    let (mut room, mut now, mut registers, mut told) = (Room::new(), 1_000, [0_u64, 123_456, 999_000_000], Vec::new());
    for (n, (point, later, step)) in readings.iter().enumerate() {
        now += later;
        let outcome = step.map_or(Outcome::Missing(Missing::Timeout), |step| {
            let register = &mut registers[usize::from(*point)];
            *register += u64::from(step);
            let value = if *point == 0 { f64::from(step) - 2_500.0 } else { *register as f64 / 1e3 };
            Outcome::Good(Value::Float(value))
        });
        room.read(METER, PointIx(*point), now, outcome);
        if is_end(n) {
            told.push(room.told(METER));
        }
    }
    told.push(room.told(METER));
    told
}

fn sum(energies: &[Energy]) -> Energy {
    let mut sum = Energy::default();
    energies.iter().for_each(|energy| sum.add(*energy));
    sum
}

proptest! {
    /// However the same readings fall into windows, and however those are put together: not one mWh more or less.
    #[test]
    fn any_split_into_windows_and_any_merging_of_them_is_the_same_energy(
        readings in readings(), every in 1_usize..20, merged in 1_usize..9,
    ) {
        let whole = energies(&readings, |_| false);
        let fine = energies(&readings, |n| n % every == 0);
        prop_assert_eq!(sum(&fine), whole[0]);
        let coarse: Vec<Energy> = fine.chunks(merged).map(sum).collect();
        prop_assert_eq!(sum(&coarse), whole[0]);
    }

    #[test]
    fn the_sum_of_what_a_register_has_told_is_the_difference_of_what_it_showed(readings in readings()) {
        let told = energies(&readings, |n| n % 3 == 0);
        for (point, side) in [(1_u16, sum(&told).import), (2, sum(&told).export)] {
            let steps: Vec<u64> =
                readings.iter().filter(|(of, ..)| *of == point).filter_map(|(.., step)| step.map(u64::from)).collect();
            // What flowed before it was read for the first time is in what is mixed.
            if let Some(EnergyDelta { mwh, source: EnergySource::Register }) = side {
                prop_assert_eq!(mwh, steps.iter().skip(1).sum::<u64>() * 1_000);
            }
        }
    }
}
