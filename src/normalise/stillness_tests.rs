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
/// A charger of direct current, as the shipped ones: without a limit.
const DIRECT: [(&str, Unit, bool); 4] = [
    ("voltage", Unit::Volt, false),
    ("current", Unit::Ampere, false),
    ("power_flow", Unit::Kilowatt, false),
    ("soc", Unit::Percent, false),
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

/// A charger that is read once a second, if nothing else is said.
struct Charger {
    normaliser: Normaliser,
    fields: &'static [(&'static str, Unit, bool)],
    second: u64,
    /// And so many ms.
    later: u64,
    values: BTreeMap<&'static str, f64>,
    /// The seconds at which events came, but for that it answers.
    told: Vec<(u64, String)>,
}

impl Charger {
    /// Parked: volts that move a little, no current, no power.
    fn parked() -> Self {
        let mut charger = Self::of(&FIELDS);
        charger.values.extend(FIELDS.map(|(field, ..)| {
            (
                field,
                match field {
                    "energy_import" => 1234.5,
                    "current_limit" => 16.0,
                    "frequency" => 50.0,
                    _ => 0.0,
                },
            )
        }));
        charger
    }

    fn of(fields: &'static [(&'static str, Unit, bool)]) -> Self {
        let spec = DeviceSpec {
            id: "ac-1".try_into().expect("a name"),
            kind: DeviceKind::Evse,
            profile: "test".to_owned(),
            points: fields.iter().copied().map(point).collect(),
            groups: vec![],
        };
        let values = fields.iter().map(|(field, ..)| (*field, 0.0)).collect();
        Self { normaliser: Normaliser::new(&[spec]), fields, second: 0, later: 0, values, told: Vec::new() }
    }

    fn set(&mut self, field: &'static str, value: f64) {
        self.values.insert(field, value);
    }

    fn hear(&mut self, payload: Payload) -> Vec<Outcome> {
        let mono = Mono((self.second * 1_000 + self.later) * 1_000_000);
        let at = Stamp { mono, utc: Utc(0), trust: ClockTrust::Synced };
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
        self.set("station_time", f64::from(u32::try_from(self.second + 1).expect("it fits")));
        self.read_all()
    }

    fn read_all(&mut self) -> Vec<Outcome> {
        self.second += 1;
        self.hear(self.sample(|_| true))
    }

    fn sample(&self, is_read: impl Fn(&str) -> bool) -> Payload {
        let values = (0..).map(PointIx).zip(self.fields).filter(|(_, (field, ..))| is_read(field));
        Payload::Values(values.map(|(ix, (field, ..))| (ix, Ok(Raw::Float(self.values[field])))).collect())
    }

    /// Time passes, and one field is read in a sample of its own.
    fn read_alone(&mut self, field: &str, after: u64) {
        let ms = self.later + after;
        (self.second, self.later) = (self.second + ms / 1_000, ms % 1_000);
        self.hear(self.sample(|other| other == field));
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

/// How often one and the other are read, ms: a CAN bus, a Modbus device in one and in two groups.
const RATES: [(u64, u64); 4] = [(100, 100), (1_000, 1_000), (1_000, 10_000), (10_000, 1_000)];

/// For a time, in seconds, two fields are read in samples of their own; `world` sets what they say, by the second.
fn read_apart(
    charger: &mut Charger,
    fields: [&'static str; 2],
    (one, other): (u64, u64),
    seconds: u64,
    mut world: impl FnMut(&mut Charger, u64),
) {
    let begin = charger.second;
    for ms in (0..seconds * 1_000).step_by(100) {
        if ms % 1_000 == 0 {
            world(charger, ms / 1_000);
        }
        (charger.second, charger.later) = (begin + 1 + ms / 1_000, ms % 1_000);
        for (field, rate) in fields.into_iter().zip([one, other]) {
            if ms % rate == 0 {
                charger.read_alone(field, 10);
            }
        }
    }
}

const BOTH_ORDERS: [[&str; 2]; 2] = [["power_flow_l1", "current_l1"], ["current_l1", "power_flow_l1"]];

/// The power was judged by the current of the set-point before, which was read before it: it was frozen as long as it stood.
#[test]
fn a_set_point_is_not_frozen_though_its_current_is_read_in_another_sample_or_follows_it() {
    for (fields, rates, lag) in BOTH_ORDERS
        .into_iter()
        .flat_map(|fields| RATES.map(|rates| (fields, rates)))
        .flat_map(|(fields, rates)| [0, 5, 30].map(|lag| (fields, rates, lag)))
    {
        let mut charger = Charger::parked();
        let hold = if rates.0 == 100 { 300 } else { 3_600 };
        for power in [50.0, 0.0, 50.0, 10.0, 50.0] {
            let amperes = power * 1.44;
            read_apart(&mut charger, fields, rates, hold, |charger, second| {
                let [leads, follows] = fields;
                let value = |field| if field == "current_l1" { amperes } else { power };
                charger.set(leads, value(leads));
                if second >= lag {
                    charger.set(follows, value(follows));
                }
            });
        }
        assert_eq!(charger.told(), [], "{fields:?} {rates:?} {lag}");
    }
}

#[test]
fn a_power_that_stands_while_its_current_changes_by_half_again_and_again_is_found_in_samples_of_its_own() {
    for (fields, rates) in BOTH_ORDERS.into_iter().flat_map(|fields| RATES.map(|rates| (fields, rates))) {
        let mut charger = Charger::parked();
        charger.set("power_flow_l1", 50.0);
        read_apart(&mut charger, fields, rates, 600, |charger, second| {
            charger.set("current_l1", if second < 200 || second % 40 < 20 { 72.0 } else { 30.0 });
        });
        let told: Vec<_> = charger.told().into_iter().map(|(_, event)| event).collect();
        assert_eq!(told, ["power_flow_l1 frozen"], "{fields:?} {rates:?}");
    }
}

#[test]
fn a_current_that_falls_between_two_readings_of_its_power_or_is_misread_freezes_nothing() {
    for fields in BOTH_ORDERS {
        let mut charger = Charger::parked();
        charger.set("power_flow_l1", 50.0);
        let rates = if fields[0] == "current_l1" { (1_000, 10_000) } else { (10_000, 1_000) };
        read_apart(&mut charger, fields, rates, 3_600, |charger, second| {
            charger.set("current_l1", if second % 300 > 296 || second % 300 == 150 { 0.0 } else { 72.0 });
        });
        assert_eq!(charger.told(), [], "{fields:?}");
    }
}

/// A number as a device tells it.
fn digits(value: f64, digit: f64) -> f64 {
    (value / digit).round() * digit
}

/// Seconds of a charger of direct current: `world` says its volts and amperes, by the part of the time that has passed. It is read
/// in one sample or in several, in the order of its fields or the other way round.
fn charge(charger: &mut Charger, way: usize, seconds: u32, sign: f64, world: impl Fn(f64) -> (f64, f64)) {
    for second in 0..seconds {
        let part = f64::from(second) / f64::from(seconds);
        let (volts, amperes) = world(part);
        charger.set("voltage", digits(volts, 0.1));
        charger.set("current", sign * digits(amperes, 0.1));
        charger.set("power_flow", sign * digits(volts * amperes / 1_000.0, 0.1));
        match way {
            0 => drop(charger.read_all()),
            1 => ["voltage", "current", "power_flow"].iter().for_each(|field| charger.read_alone(field, 300)),
            _ => ["power_flow", "current", "voltage"].iter().for_each(|field| charger.read_alone(field, 300)),
        }
    }
}

/// 125.0 A for 20 min while the voltage rises, by a little or to the double; then a constant voltage while the current falls to
/// nothing; then full. Or a constant power, while the current falls and the voltage rises.
#[test]
fn a_battery_that_is_charged_with_a_constant_current_voltage_or_power_freezes_nothing() {
    for (way, sign) in (0..3).flat_map(|way| [(way, 1.0), (way, -1.0)]) {
        let mut charger = Charger::of(&DIRECT);
        for (from, to) in [(400.0, 420.0), (240.0, 480.0), (200.0, 480.0)] {
            charge(&mut charger, way, 120, sign, |_| (from, 0.0));
            charge(&mut charger, way, 1_200, sign, |part| (from + (to - from) * part, 125.0));
            charge(&mut charger, way, 2_400, sign, |part| (to, 125.0 * (-5.0 * part).exp()));
            charger.set("soc", 100.0);
            charge(&mut charger, way, 1_200, sign, |_| (to, 0.0));
            charge(&mut charger, way, 1_200, sign, |part| (200.0 + 400.0 * part, 50_000.0 / (200.0 + 400.0 * part)));
        }
        assert_eq!(charger.told(), [], "{way} {sign}");
    }
}

#[test]
fn a_current_or_a_power_of_a_battery_that_stands_though_its_voltage_does_not_say_so_is_found() {
    for way in 0..3 {
        let mut charger = Charger::of(&DIRECT);
        charge(&mut charger, way, 1_200, 1.0, |part| (400.0 + 40.0 * part, 125.0));
        for (field, value) in [("voltage", 0.0), ("power_flow", 0.0)] {
            charger.set(field, value);
        }
        for _ in 0..300 {
            ["voltage", "current", "power_flow"].iter().for_each(|field| charger.read_alone(field, 300));
        }
        let told: Vec<_> = charger.told().into_iter().map(|(_, event)| event).collect();
        assert_eq!(told, ["current frozen"], "{way}");
        let mut charger = Charger::of(&DIRECT);
        charge(&mut charger, way, 300, 1.0, |_| (400.0, 125.0));
        for second in 0..1_200_u32 {
            charger.set("current", 125.0 - f64::from(second) / 10.0);
            charger.set("voltage", 400.0 + f64::from(second % 2));
            charger.read_all();
        }
        let told: Vec<_> = charger.told().into_iter().map(|(_, event)| event).collect();
        assert_eq!(told, ["power_flow frozen"], "{way}");
    }
}

/// The phases of a meter: the second and the third are not there on every device.
const PHASES: [(&str, Unit, bool); 4] = [
    ("power_flow", Unit::Kilowatt, false),
    ("current_l1", Unit::Ampere, false),
    ("current_l2", Unit::Ampere, false),
    ("current_l3", Unit::Ampere, false),
];

/// Seconds in which so many phases are read, and the others are not available.
fn read_phases(meter: &mut Charger, seconds: u64, phases: usize) {
    for _ in 0..seconds {
        meter.second += 1;
        let values = (0..).map(PointIx).zip(meter.fields).map(|(ix, (field, ..))| {
            let is_there = usize::from(ix.0) <= phases;
            (ix, if is_there { Ok(Raw::Float(meter.values[field])) } else { Err(Missing::Decode) })
        });
        meter.hear(Payload::Values(values.collect()));
    }
}

#[test]
fn phases_that_a_meter_lacks_hide_no_frozen_power_and_those_it_loses_freeze_none() {
    let mut meter = Charger::of(&PHASES);
    for (field, value) in [("power_flow", 50.0), ("current_l1", 72.0), ("current_l2", 72.0), ("current_l3", 72.0)] {
        meter.set(field, value);
    }
    read_phases(&mut meter, 300, 1);
    // Two more come, and go again.
    read_phases(&mut meter, 300, 3);
    read_phases(&mut meter, 3_600, 1);
    read_phases(&mut meter, 300, 3);
    assert_eq!(meter.told(), []);
    let mut meter = Charger::of(&PHASES);
    meter.set("power_flow", 16.5);
    meter.set("current_l1", 72.0);
    read_phases(&mut meter, 300, 1);
    meter.set("current_l1", 10.0);
    read_phases(&mut meter, 300, 1);
    assert_eq!(meter.told(), [(362, "power_flow frozen")]);
}
