//! What freezes, what is silent, what rests and what stands as it should: told apart, and nothing else told.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::measure::{
    ClockTrust, Event, EventKind, Missing, Mono, Outcome, Payload, Questionable, Raw, Sample, Stamp, Utc,
};
use crate::normalise::Normaliser;
use crate::spec::{
    Aggregation, ByteOrder, DeviceIx, DeviceKind, DeviceSpec, Origin, PointIx, PointSpec, RawKind, RegisterPoint,
    RegisterTable, Scaling, Unit, ValueType, WordOrder,
};

/// The voltages have a limit of 2 min, as in the profiles; the energy has one by mistake.
const FIELDS: [(&str, Unit, bool); 10] = [
    ("voltage_l1", Unit::Volt, true),
    ("voltage_l2", Unit::Volt, true),
    ("current_l1", Unit::Ampere, false),
    ("power_flow_l1", Unit::Kilowatt, false),
    ("power_flow", Unit::Kilowatt, false),
    ("frequency", Unit::Hertz, false),
    ("energy_import", Unit::KilowattHour, true),
    ("current_limit", Unit::Ampere, false),
    ("temperature", Unit::Celsius, false),
    ("station_time", Unit::Second, false),
];
const LIMIT: Duration = Duration::from_secs(120);

fn point((field, unit, is_watched): (&str, Unit, bool)) -> PointSpec {
    PointSpec {
        field: field.try_into().expect("a field"),
        unit,
        value_type: ValueType::Float,
        aggregation: Aggregation::usual(ValueType::Float, unit),
        valid: None,
        frozen_after: is_watched.then_some(LIMIT),
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

/// A charger that is read once a second.
struct Charger {
    normaliser: Normaliser,
    second: u64,
    values: BTreeMap<&'static str, f64>,
    /// The seconds at which events came, but for that it answers.
    told: Vec<(u64, String)>,
}

impl Charger {
    /// Parked: volts that move a little, no current, no power.
    fn parked() -> Self {
        let spec = DeviceSpec {
            id: "ac-1".try_into().expect("a name"),
            kind: DeviceKind::Evse,
            profile: "test".to_owned(),
            points: FIELDS.map(point).into_iter().collect(),
            groups: vec![],
        };
        let values = FIELDS.map(|(field, ..)| {
            (
                field,
                match field {
                    "energy_import" => 1234.5,
                    "current_limit" => 16.0,
                    "frequency" => 50.0,
                    _ => 0.0,
                },
            )
        });
        Self { normaliser: Normaliser::new(&[spec]), second: 0, values: values.into(), told: Vec::new() }
    }

    fn set(&mut self, field: &'static str, value: f64) {
        self.values.insert(field, value);
    }

    fn hear(&mut self, payload: Payload) -> Vec<Outcome> {
        let at = Stamp { mono: Mono(self.second * 1_000_000_000), utc: Utc(0), trust: ClockTrust::Synced };
        let mut outcomes = Vec::new();
        let sample = Sample { device: DeviceIx(0), at, payload };
        let events = self.normaliser.readings(&sample, |reading| outcomes.push(reading.outcome));
        let about = |Event { kind, .. }: Event| match kind {
            EventKind::PointFrozen(field) => Some(format!("{field} frozen")),
            EventKind::PointMoving(field) => Some(format!("{field} moving")),
            EventKind::DeviceAnswering => None,
            other => Some(other.name().to_owned()),
        };
        self.told.extend(events.into_iter().filter_map(about).map(|event| (self.second, event)));
        outcomes
    }

    /// A second passes, and all is read.
    fn read(&mut self) -> Vec<Outcome> {
        self.second += 1;
        self.set("station_time", f64::from(u32::try_from(self.second).expect("it fits")));
        let values = (0..).map(PointIx).zip(FIELDS);
        let values = values.map(|(ix, (field, ..))| (ix, Ok(Raw::Float(self.values[field])))).collect();
        self.hear(Payload::Values(values))
    }

    /// Seconds in which the line voltages of all but these move, as the grid does.
    fn jitter(&mut self, seconds: u64, but: &[&'static str]) {
        for _ in 0..seconds {
            let step = f64::from(u32::try_from(self.second % 7).expect("it fits"));
            let moving = [("voltage_l1", 230.0 + 0.1 * step), ("voltage_l2", 229.0 - 0.1 * step)];
            for (field, value) in moving.into_iter().chain([("frequency", 50.0 + 0.01 * step)]) {
                if !but.contains(&field) {
                    self.set(field, value);
                }
            }
            self.read();
        }
    }

    fn told(&self) -> Vec<(u64, &str)> {
        self.told.iter().map(|(second, event)| (*second, event.as_str())).collect()
    }
}

#[test]
fn a_charger_at_zero_all_night_is_told_of_by_nothing() {
    let mut charger = Charger::parked();
    charger.jitter(36_000, &[]);
    assert_eq!(charger.told(), []);
}

#[test]
fn a_device_that_moves_nothing_all_night_but_its_clock_is_at_rest_and_in_the_morning_too() {
    let mut charger = Charger::parked();
    charger.set("voltage_l1", 230.5);
    charger.set("voltage_l2", 230.5);
    for second in 0..36_000_u32 {
        charger.set("temperature", 20.0 + f64::from(second / 600));
        charger.read();
    }
    assert_eq!(charger.told(), []);
    // It charges: what stood still all night has its time from here on.
    charger.jitter(60, &["voltage_l1"]);
    assert_eq!(charger.told(), []);
}

#[test]
fn a_voltage_that_freezes_while_its_neighbours_move_is_found_once_and_its_end_too() {
    let mut charger = Charger::parked();
    charger.jitter(100, &[]);
    charger.jitter(1000, &["voltage_l1"]);
    assert_eq!(charger.told(), [(221, "voltage_l1 frozen")]);
    let doubted = charger.read();
    assert!(matches!(doubted[0], Outcome::Questionable(_, Questionable::Frozen)), "{doubted:?}");
    assert!(matches!(doubted[1], Outcome::Good(_)), "{doubted:?}");
    charger.jitter(100, &[]);
    assert_eq!(charger.told()[1..], [(1104, "voltage_l1 moving")]);
}

#[test]
fn a_voltage_that_moves_now_and_then_is_told_once() {
    let mut charger = Charger::parked();
    charger.jitter(10, &[]);
    for n in 0..100 {
        charger.set("voltage_l1", 231.0 + f64::from(n));
        charger.jitter(150, &["voltage_l1"]);
    }
    assert_eq!(charger.told().len(), 1, "{:?}", charger.told());
}

#[test]
fn an_open_phase_and_what_goes_to_zero_are_at_rest() {
    let mut charger = Charger::parked();
    charger.jitter(1000, &["voltage_l2"]);
    assert_eq!(charger.told(), []);
    charger.set("voltage_l2", 229.3);
    charger.jitter(200, &["voltage_l2"]);
    charger.set("voltage_l2", 0.0);
    charger.jitter(200, &["voltage_l2"]);
    let told: Vec<_> = charger.told().into_iter().map(|(_, event)| event).collect();
    assert_eq!(told, ["voltage_l2 frozen", "voltage_l2 moving"]);
}

#[test]
fn a_line_that_is_cut_is_silent_and_what_was_not_read_meanwhile_has_not_stood_still() {
    let mut charger = Charger::parked();
    charger.jitter(100, &[]);
    let before = charger.values["voltage_l1"];
    for _ in 0..3600 {
        charger.second += 1;
        charger.hear(Payload::Silent(Missing::Timeout));
    }
    charger.set("voltage_l1", before);
    charger.jitter(60, &["voltage_l1"]);
    assert_eq!(charger.told(), [(101, "device_silent")]);
    // One of ten polls is lost: that hides nothing.
    let mut charger = Charger::parked();
    charger.jitter(100, &[]);
    for _ in 0..100 {
        charger.jitter(9, &["voltage_l1"]);
        charger.second += 1;
        charger.hear(Payload::Values(vec![(PointIx(0), Err(Missing::Timeout))]));
    }
    assert_eq!(charger.told().len(), 1, "{:?}", charger.told());
}

#[test]
fn a_current_that_stands_while_its_power_goes_is_found_without_a_word_of_its_profile() {
    let mut charger = Charger::parked();
    charger.set("current_l1", 16.0);
    charger.set("power_flow_l1", 3.68);
    charger.jitter(600, &[]);
    // Less by a third: so much may be the voltage's, or a coarse step's.
    charger.set("power_flow_l1", 2.5);
    charger.jitter(600, &[]);
    assert_eq!(charger.told(), []);
    charger.set("power_flow_l1", 0.0);
    charger.jitter(600, &[]);
    assert_eq!(charger.told(), [(1262, "current_l1 frozen")]);
    for amperes in [10.0, 11.0, 12.0] {
        charger.set("current_l1", amperes);
        charger.jitter(1, &[]);
    }
    assert_eq!(charger.told()[1..], [(1803, "current_l1 moving")]);
}

#[test]
fn what_rightly_stands_is_not_frozen() {
    let mut charger = Charger::parked();
    // A steady load, a limit that is set anew, a counter of 5 kWh: 12 h.
    for (field, value) in [("current_l1", 16.0), ("power_flow_l1", 3.68), ("power_flow", 3.68)] {
        charger.set(field, value);
    }
    for hour in 0..12 {
        charger.set("current_limit", 16.0 + f64::from(hour));
        charger.set("energy_import", 1200.0 + if hour > 8 { 5.0 } else { 0.0 });
        charger.jitter(3600, &[]);
    }
    assert_eq!(charger.told(), []);
}

#[test]
fn a_voltage_is_not_frozen_by_a_clock_a_limit_or_a_temperature() {
    let mut charger = Charger::parked();
    charger.set("voltage_l1", 230.5);
    charger.set("voltage_l2", 230.5);
    for second in 0..1000 {
        charger.set("current_limit", f64::from(second % 32));
        charger.set("temperature", f64::from(second));
        charger.read();
    }
    assert_eq!(charger.told(), []);
}
