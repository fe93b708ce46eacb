use proptest::prelude::*;

use super::*;
use crate::measure::{ClockTrust, Missing, Outcome, Questionable, Statistic, Value};
use crate::spec::{
    Aggregation, ByteOrder, DeviceKind, Origin, PointSpec, PollGroup, RawKind, RegisterPoint, RegisterTable, Scaling,
    Unit, ValueType, WordOrder,
};

const WINDOW: Duration = Duration::from_millis(250);
const MS: u64 = 1_000_000;

fn point(field: &str, aggregation: Aggregation) -> PointSpec {
    PointSpec {
        field: field.try_into().expect("a field"),
        unit: Unit::Kilowatt,
        value_type: ValueType::Float,
        aggregation,
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

fn device(id: &str, kind: DeviceKind) -> DeviceSpec {
    DeviceSpec {
        id: id.try_into().expect("a name"),
        kind,
        profile: "test".to_owned(),
        points: vec![point("power_flow", Aggregation::Mean), point("soc", Aggregation::Last)].into(),
        groups: vec![PollGroup { name: "fast".to_owned(), interval: 2 * WINDOW, blocks: vec![] }],
    }
}

/// `mono_ms` after the boot; the boot was at 2025-11-24 16:00:00.040 UTC.
fn at(mono_ms: u64) -> Stamp {
    Stamp {
        mono: Mono(mono_ms * MS),
        utc: Utc(1_764_000_000_040_000_000 + i64::try_from(mono_ms * MS).expect("small")),
        trust: ClockTrust::Synced,
    }
}

fn aggregator() -> Aggregator {
    let devices =
        [device("dc-1", DeviceKind::Evse), device("dc-2", DeviceKind::Evse), device("grid", DeviceKind::Meter)];
    Aggregator::new(&devices, WINDOW, 0.05, BootId([7; 16]), at(1_000))
}

fn reading(device: u16, point: u16, mono_ms: u64, outcome: Outcome) -> Reading {
    Reading { device: DeviceIx(device), point: PointIx(point), at: at(mono_ms), outcome, count: None }
}

fn good(x: f64) -> Outcome {
    Outcome::Good(Value::Float(x))
}

#[test]
fn windows_end_at_whole_multiples_of_their_length_in_utc() {
    let mut aggregator = aggregator();
    // 16:00:01.040 is the start; the next multiple is 16:00:01.250.
    assert_eq!(aggregator.next_end(), Mono(1_210 * MS));
    assert!(aggregator.close(at(1_209)).is_none());
    for k in 0..4 {
        let window = aggregator.close(at(1_213 + 250 * k)).expect("ended");
        assert_eq!(window.end.utc.0 % 250_000_000, 0);
        assert_eq!(window.end.mono, Mono((1_210 + 250 * k) * MS));
    }
}

#[test]
fn the_mean_of_a_window_stands_between_its_extremes_and_a_counter_shows_its_newest() {
    let mut aggregator = aggregator();
    for (ms, kw, soc) in [(1_010, -7.4, 45.0), (1_020, -7.0, 45.5)] {
        aggregator.add(reading(0, 0, ms, good(kw)));
        aggregator.add(reading(0, 1, ms, good(soc)));
    }
    let window = aggregator.close(at(1_211)).expect("ended");
    let [interval] = window.intervals.as_slice() else { panic!("one device: {window:?}") };
    assert_eq!(interval.direction, Some(Direction::VehicleToGrid));
    let IntervalValue::Float(power) = interval.points[0].value else { panic!("a number") };
    assert_eq!((power.value, power.min, power.max, power.count), (-7.2, -7.4, -7.0, 2));
    let IntervalValue::Float(soc) = interval.points[1].value else { panic!("a number") };
    assert_eq!(soc.value, 45.5);
}

#[test]
fn a_value_that_makes_no_sense_stands_for_a_window_only_where_nothing_else_was_read() {
    let garbage = || Outcome::Questionable(Value::Float(-3.2e29), Questionable::OutOfRange);
    let zero = || Outcome::Questionable(Value::Float(0.0), Questionable::CounterZero);
    let mut aggregator = aggregator();
    for (ms, power, counter) in
        [(1_050, good(10.0), good(45.0)), (1_100, garbage(), zero()), (1_150, good(14.0), zero())]
    {
        aggregator.add(reading(0, 0, ms, power));
        aggregator.add(reading(0, 1, ms, counter));
    }
    aggregator.add(reading(1, 0, 1_150, garbage()));
    let window = aggregator.close(at(1_210)).expect("closed");
    let [mixed, spoilt] = &window.intervals[..] else { panic!("two devices: {window:?}") };
    let statistic = |value, min, max, count| IntervalValue::Float(Statistic { value, min, max, count });
    assert_eq!(mixed.points[0].value, statistic(12.0, -3.2e29, 14.0, 3));
    assert_eq!(mixed.points[0].questionable, Some(Questionable::OutOfRange));
    assert_eq!(mixed.points[1].value, statistic(45.0, 0.0, 45.0, 3));
    assert_eq!(mixed.points[1].questionable, Some(Questionable::CounterZero));
    assert_eq!((mixed.direction, spoilt.direction), (Some(Direction::GridToVehicle), None));
    assert_eq!(spoilt.points[0].value, statistic(-3.2e29, -3.2e29, -3.2e29, 1));
}

#[test]
fn a_point_is_missing_only_if_nothing_came_in_the_whole_window() {
    let mut aggregator = aggregator();
    aggregator.add(reading(0, 0, 1_010, Outcome::Missing(Missing::Timeout)));
    aggregator.add(reading(0, 1, 1_010, Outcome::Missing(Missing::Timeout)));
    aggregator.add(reading(0, 1, 1_020, Outcome::Questionable(Value::Float(140.0), Questionable::OutOfRange)));
    let window = aggregator.close(at(1_211)).expect("ended");
    assert_eq!(window.intervals[0].points[0].value, IntervalValue::Missing(Missing::Timeout));
    assert_eq!(window.intervals[0].points[1].questionable, Some(Questionable::OutOfRange));
    assert_eq!(window.points(), 1);
    assert!(aggregator.close(at(1_461)).expect("ended").intervals.is_empty(), "nothing is repeated");
}

#[test]
fn a_window_has_the_vehicle_that_stands_there_or_has_just_left() {
    let mut aggregator = aggregator();
    let mut window_with = |vehicles: &[Option<&str>], end| {
        for vehicle in vehicles {
            aggregator.set_vehicle(DeviceIx(0), vehicle.map(|id| id.try_into().expect("a name")));
        }
        aggregator.add(reading(0, 0, 1_010, good(1.0)));
        let window = aggregator.close(at(end)).expect("ended");
        window.intervals[0].vehicle.as_ref().map(ToString::to_string)
    };
    assert_eq!(window_with(&[], 1_211), None);
    assert_eq!(window_with(&[Some("EV001")], 1_461).as_deref(), Some("EV001"));
    assert_eq!(window_with(&[None], 1_711).as_deref(), Some("EV001"));
    assert_eq!(window_with(&[], 1_961), None);
    assert_eq!(window_with(&[Some("EV002"), None, Some("EV003")], 2_211).as_deref(), Some("EV003"));
}

#[test]
fn what_was_read_in_a_session_is_not_mixed_with_what_was_read_after_it() {
    let mut aggregator = aggregator();
    let session = |id: Option<&str>| id.map(|id| SessionId::try_from(id).expect("a name"));
    let vehicle = || Some(VehicleId::try_from("EV001").expect("a name"));
    let told = |window: Window| -> Vec<(Option<String>, Option<String>, f64)> {
        let of = |interval: &Interval| {
            let IntervalValue::Float(power) = interval.points[0].value else { panic!("a number") };
            let (vehicle, session) = (interval.vehicle.as_ref(), interval.session.as_ref());
            (vehicle.map(ToString::to_string), session.map(ToString::to_string), power.value)
        };
        window.intervals.iter().map(of).collect()
    };
    let row = |session: Option<&str>, kw| (Some("EV001".to_owned()), session.map(str::to_owned), kw);

    // The set-up is of the session that it begins.
    aggregator.set_vehicle(DeviceIx(0), vehicle());
    aggregator.add(reading(0, 0, 1_010, good(1.0)));
    aggregator.set_session(DeviceIx(0), session(Some("a")));
    aggregator.add(reading(0, 0, 1_020, good(3.0)));
    assert_eq!(told(aggregator.close(at(1_211)).expect("ended")), [row(Some("a"), 2.0)]);
    // The window goes on after its end, with the next one of the same vehicle.
    aggregator.add(reading(0, 0, 1_250, good(7.0)));
    aggregator.set_session(DeviceIx(0), None);
    aggregator.set_vehicle(DeviceIx(0), None);
    aggregator.set_vehicle(DeviceIx(0), vehicle());
    aggregator.set_session(DeviceIx(0), session(Some("b")));
    aggregator.add(reading(0, 0, 1_300, good(11.0)));
    assert_eq!(told(aggregator.close(at(1_461)).expect("ended")), [row(Some("a"), 7.0), row(Some("b"), 11.0)]);
    // Nothing was read in the rest of it, and in the next window there is none.
    aggregator.add(reading(0, 0, 1_470, good(5.0)));
    aggregator.set_session(DeviceIx(0), None);
    assert_eq!(told(aggregator.close(at(1_711)).expect("ended")), [row(Some("b"), 5.0)]);
    aggregator.add(reading(0, 0, 1_720, good(0.0)));
    assert_eq!(told(aggregator.close(at(1_961)).expect("ended")), [row(None, 0.0)]);
}

#[test]
fn sessions_that_flap_are_a_bounded_number_of_intervals_and_no_reading_is_lost() {
    let mut aggregator = aggregator();
    for n in 0..1_000 {
        aggregator.set_session(DeviceIx(0), Some(SessionId::try_from(format!("s{n}")).expect("a name")));
        aggregator.add(reading(0, 0, 1_100, good(1.0)));
    }
    let window = aggregator.close(at(1_211)).expect("ended");
    assert_eq!(window.intervals.len(), PARTS_MAX + 1);
    let points = window.intervals.iter().flat_map(|interval| &interval.points);
    let counts = points.map(|p| if let IntervalValue::Float(s) = p.value { s.count } else { 0 });
    assert_eq!(counts.sum::<u32>(), 1_000);
}

#[test]
fn a_step_of_the_wall_clock_moves_the_labels_and_no_window() {
    let mut aggregator = aggregator();
    aggregator.close(at(1_211)).expect("ended");
    let hour = 3_600_000_000_000;
    let mut stepped = at(1_462);
    stepped.utc.0 += hour;
    let window = aggregator.close(stepped).expect("ended");
    assert_eq!(window.length, WINDOW);
    assert_eq!(window.end.utc, Utc(at(1_460).utc.0 + hour));
    assert_eq!(window.events, [Event { device: None, kind: EventKind::ClockStepped(hour) }]);
}

#[test]
fn a_long_sleep_is_one_window_and_not_a_burst() {
    let mut aggregator = aggregator();
    assert!(aggregator.close(at(61_000)).is_some());
    assert!(aggregator.close(at(61_000)).is_none());
    assert!(aggregator.next_end() > Mono(61_000 * MS));
}

/// The journal stalls for minutes while a session ends: the end must be told when it takes windows again.
#[test]
fn the_events_of_a_window_that_was_not_kept_are_told_in_the_next_in_their_order() {
    let mut aggregator = aggregator();
    let stepped = |n| Event { device: None, kind: EventKind::ClockStepped(n) };
    assert!(aggregator.add_event(stepped(1)));
    let lost = aggregator.close(at(1_250)).expect("it has ended");
    assert!(aggregator.add_event(stepped(2)));
    assert_eq!(aggregator.carry_events(lost.events), 0);
    let window = aggregator.close(at(1_500)).expect("it has ended");
    assert_eq!(window.events, [stepped(1), stepped(2)]);

    let many: Vec<Event> = (0..).map(stepped).take(EVENTS_CARRIED_MAX + 1).collect();
    assert_eq!(aggregator.carry_events(many), 1, "beyond the bound the oldest goes, and is counted");
    assert_eq!(aggregator.finish(at(1_600)).events[0], stepped(1));
}

proptest! {
    #[test]
    fn every_reading_is_in_exactly_one_window_and_every_mean_within_its_extremes(
        steps in prop::collection::vec((0_u64..400, -1e6_f64..1e6), 1..200)
    ) {
        let mut aggregator = aggregator();
        let (mut ms, mut counted, mut windows) = (1_000, 0_u64, vec![]);
        for (pause, kw) in &steps {
            ms += pause;
            windows.extend(aggregator.close(at(ms)));
            aggregator.add(reading(0, 0, ms, good(*kw)));
        }
        windows.push(aggregator.finish(at(ms + 1)));
        for window in &windows {
            for point in window.intervals.iter().flat_map(|interval| &interval.points) {
                let IntervalValue::Float(s) = point.value else { panic!("a number") };
                prop_assert!(s.min <= s.value && s.value <= s.max);
                counted += u64::from(s.count);
            }
        }
        prop_assert_eq!(counted, steps.len() as u64);
        prop_assert!(windows.windows(2).all(|pair| pair[0].end.mono < pair[1].end.mono));
    }
}
