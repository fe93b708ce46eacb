use proptest::prelude::*;

use super::*;
use crate::measure::{ClockTrust, Payload, Raw, Sample, Utc};
use crate::normalise::Normaliser;
use crate::spec::{
    Aggregation, ByteOrder, Conversion, DerivedTerm, DeviceIx, DeviceKind, PointIx, PollGroup, RawKind, RegisterBlock,
    RegisterPoint, RegisterTable, Scaling, SessionValue, Unit, ValueType, WordOrder,
};

const MS: u64 = 1_000_000;

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

fn register(field: &str, unit: Unit, address: u16) -> PointSpec {
    let raw = RawKind::I16;
    let register = RegisterPoint {
        unit: None,
        table: RegisterTable::Input,
        address,
        raw,
        byte_order: ByteOrder::Big,
        word_order: WordOrder::MswFirst,
        mask: None,
        not_available: vec![0x8000],
        scale: None,
    };
    point(field, unit, Origin::Register(register))
}

fn derived(field: &str, unit: Unit, formula: DerivedFormula) -> PointSpec {
    point(field, unit, Origin::Derived(DerivedPoint { formula, stale_after: None }))
}

fn terms(fields: &[&str]) -> Vec<DerivedTerm> {
    fields.iter().map(|field| DerivedTerm { times: 1.0, field: (*field).try_into().expect("a field") }).collect()
}

fn rate(of: &str, over: Duration) -> DerivedFormula {
    DerivedFormula::Rate { of: of.try_into().expect("a field"), over }
}

fn block(start: u16, count: u16) -> RegisterBlock {
    RegisterBlock { unit: None, table: RegisterTable::Input, start, count }
}

fn device(points: Vec<PointSpec>) -> DeviceSpec {
    let group = |name: &str, ms, block| PollGroup {
        name: name.to_owned(),
        interval: Duration::from_millis(ms),
        blocks: vec![block],
    };
    DeviceSpec {
        id: "meter".try_into().expect("a name"),
        kind: DeviceKind::Meter,
        profile: "test".to_owned(),
        points: points.into(),
        groups: vec![group("fast", 500, block(10, 3)), group("slow", 5_000, block(20, 2))],
    }
}

/// Three phases and a factor that is read seldom; their sum, what half of it is, and the quotient of the first two.
fn meter() -> Bench {
    let half = DerivedFormula::Product(terms(&["total", "factor"]));
    let quotient = DerivedFormula::Quotient(Box::new(terms(&["p1", "p2"]).try_into().expect("two")));
    Bench::new(vec![
        // Before what it needs.
        derived("half", Unit::Kilowatt, half),
        register("p1", Unit::Kilowatt, 10),
        register("p2", Unit::Kilowatt, 11),
        register("p3", Unit::Kilowatt, 12),
        register("factor", Unit::One, 20),
        derived("total", Unit::Kilowatt, DerivedFormula::Sum(terms(&["p1", "p2", "p3"]))),
        derived("ratio", Unit::One, quotient),
    ])
}

struct Bench {
    normaliser: Normaliser,
    names: Vec<String>,
}

impl Bench {
    fn new(points: Vec<PointSpec>) -> Self {
        let names = points.iter().map(|point| point.field.to_string()).collect();
        Self { normaliser: Normaliser::new(&[device(points)]), names }
    }

    fn payload(&mut self, ms: u64, payload: Payload) -> Vec<String> {
        let at = Stamp { mono: Mono(ms * MS), utc: Utc(0), trust: ClockTrust::Synced };
        let names = &self.names;
        let mut told = Vec::new();
        self.normaliser.readings(&Sample { device: DeviceIx(0), at, payload }, |reading| {
            assert_eq!(reading.at, at);
            let name = &names[usize::from(reading.point.0)];
            told.push(match reading.outcome {
                Outcome::Good(Value::Float(value)) => format!("{name}={value}"),
                Outcome::Questionable(Value::Float(value), why) => format!("{name}={value} {}", why.as_str()),
                Outcome::Missing(why) => format!("{name} {}", why.as_str()),
                other => format!("{name} {other:?}"),
            });
        });
        told
    }

    /// All that is told when these registers are read.
    fn all(&mut self, ms: u64, start: u16, words: &[i16]) -> Vec<String> {
        let count = u16::try_from(words.len()).expect("few");
        let words = Ok(words.iter().map(|word| u16::from_be_bytes(word.to_be_bytes())).collect());
        self.payload(ms, Payload::Registers { block: block(start, count), words })
    }

    /// What is told of points that are worked out.
    fn read(&mut self, ms: u64, start: u16, words: &[i16]) -> Vec<String> {
        let all = self.all(ms, start, words);
        all.into_iter()
            .filter(|told| ["half", "total", "ratio", "rate", "net"].iter().any(|n| told.starts_with(n)))
            .collect()
    }

    fn fails(&mut self, ms: u64, start: u16, count: u16, why: Missing) -> Vec<String> {
        self.payload(ms, Payload::Registers { block: block(start, count), words: Err(why) })
    }
}

#[test]
fn what_stands_in_one_block_is_worked_out_of_one_moment_behind_what_the_device_tells() {
    let mut meter = meter();
    let told = meter.all(1_000, 10, &[1, 2, 3]);
    assert_eq!(told, ["p1=1", "p2=2", "p3=3", "total=6", "ratio=0.5"], "the factor was never read");
    meter.all(1_100, 20, &[7]);
    assert_eq!(meter.read(1_500, 10, &[10, 20, 30]), ["total=60", "half=420", "ratio=0.5"]);
}

#[test]
fn what_comes_in_pieces_is_told_once_with_the_last_of_them() {
    let mut meter = meter();
    assert!(meter.read(1_000, 10, &[1]).is_empty());
    assert!(meter.read(1_010, 12, &[3]).is_empty());
    assert_eq!(meter.read(1_020, 11, &[2]), ["total=6", "ratio=0.5"]);
    // The rest of this round is lost without a word: the next one does not wait for it for ever.
    assert!(meter.read(1_500, 10, &[4]).is_empty());
    assert_eq!(meter.read(2_000, 10, &[5]), ["total=10", "ratio=2.5"]);
    // What is left is older than two polls.
    assert!(meter.read(2_500, 10, &[5]).is_empty());
    assert_eq!(meter.read(3_000, 10, &[5]), ["total stale", "ratio stale"]);
}

#[test]
fn of_what_is_read_seldom_the_newest_counts_for_two_of_its_polls() {
    let mut meter = meter();
    meter.all(1_000, 20, &[2]);
    assert_eq!(meter.read(1_001, 10, &[1, 1, 1]), ["total=3", "half=6", "ratio=1"]);
    assert!(meter.read(6_000, 20, &[4]).is_empty(), "nothing is told of phases that were not read");
    assert_eq!(meter.read(6_001, 10, &[1, 1, 1]), ["total=3", "half=12", "ratio=1"]);
    assert_eq!(meter.read(16_000, 10, &[1, 1, 1]), ["total=3", "half=12", "ratio=1"]);
    assert_eq!(meter.read(16_001, 10, &[1, 1, 1]), ["total=3", "half stale", "ratio=1"]);
    meter.fails(16_002, 20, 1, Missing::Timeout);
    assert_eq!(meter.read(16_501, 10, &[1, 1, 1]), ["total=3", "half timeout", "ratio=1"]);
}

#[test]
fn what_an_operand_lacks_the_result_lacks_for_the_same_reason() {
    let mut meter = meter();
    meter.all(900, 20, &[2]);
    assert_eq!(meter.read(1_000, 10, &[1, i16::MIN, 3]), ["total decode", "half decode", "ratio decode"]);
    let told = meter.fails(1_500, 10, 3, Missing::Exception);
    let expected =
        ["p1 exception", "p2 exception", "p3 exception", "total exception", "half exception", "ratio exception"];
    assert_eq!(told, expected);
    let told = meter.payload(2_000, Payload::Silent(Missing::BusOff));
    assert_eq!(told.len(), meter.names.len(), "each once: {told:?}");
    assert!(told.iter().all(|told| told.ends_with("bus_off")), "{told:?}");
    assert_eq!(meter.read(2_500, 10, &[1, 2, 3]), ["total=6", "half bus_off", "ratio=0.5"]);
}

#[test]
fn a_doubtful_operand_makes_a_doubtful_result_and_a_quotient_by_zero_is_none() {
    let mut points = vec![
        register("p1", Unit::Kilowatt, 10),
        register("p2", Unit::Kilowatt, 11),
        derived("total", Unit::Kilowatt, DerivedFormula::Sum(terms(&["p1", "p2"]))),
        derived("ratio", Unit::One, DerivedFormula::Quotient(Box::new(terms(&["p1", "p2"]).try_into().expect("two")))),
    ];
    points[0].valid = Some(0.0..=100.0);
    points[2].valid = Some(0.0..=1000.0);
    let mut meter = Bench::new(points);
    assert_eq!(meter.read(1_000, 10, &[101, 1]), ["total=102 out_of_range", "ratio=101 out_of_range"]);
    assert_eq!(meter.read(1_500, 10, &[100, 1_000]), ["total=1100 out_of_range", "ratio=0.1"], "by its own range");
    assert_eq!(meter.read(2_000, 10, &[5, 0]), ["total=5", "ratio decode"]);
}

#[test]
fn what_is_worked_out_gets_its_own_scale_and_sign() {
    let mut points = vec![
        register("voltage", Unit::Volt, 10),
        register("current", Unit::Ampere, 11),
        derived("total", Unit::Kilowatt, DerivedFormula::Product(terms(&["voltage", "current"]))),
    ];
    points[2].scaling.conversion = Conversion { multiply: 1.0, divide: 1000.0 };
    points[2].scaling.invert = true;
    assert_eq!(Bench::new(points).read(1_000, 10, &[230, 16]), ["total=-3.68"]);
}

/// An energy counter in kWh, and its rate in kW.
fn counter(over: Duration) -> Bench {
    let mut points = vec![
        register("energy_import", Unit::KilowattHour, 10),
        derived("rate", Unit::Kilowatt, rate("energy_import", over)),
    ];
    points[1].scaling.conversion = Conversion { multiply: 3600.0, divide: 1.0 };
    Bench::new(points)
}

#[test]
fn a_rate_is_the_change_over_its_time_also_where_a_poll_is_lost() {
    let mut meter = counter(Duration::ZERO);
    assert!(meter.read(1_000, 10, &[100]).is_empty(), "nothing is known to have passed");
    assert_eq!(meter.read(1_500, 10, &[101]), ["rate=7200"]);
    assert_eq!(meter.read(2_000, 10, &[101]), ["rate=0"]);
    assert_eq!(meter.fails(2_500, 10, 1, Missing::Timeout), ["energy_import timeout", "rate timeout"]);
    assert_eq!(meter.read(3_000, 10, &[102]), ["rate=3600"], "over two polls");
}

#[test]
fn a_rate_begins_anew_after_a_silence_of_more_than_three_polls() {
    let mut meter = counter(Duration::ZERO);
    meter.read(1_000, 10, &[100]);
    assert_eq!(meter.read(2_500, 10, &[101]), ["rate=2400"]);
    assert!(meter.read(4_001, 10, &[102]).is_empty());
    assert_eq!(meter.read(4_501, 10, &[103]), ["rate=7200"]);
}

#[test]
fn a_rate_is_none_while_a_counter_is_doubted_and_over_a_break() {
    let mut meter = counter(Duration::ZERO);
    meter.read(1_000, 10, &[1_000]);
    assert_eq!(meter.read(1_500, 10, &[0]), ["rate decode"]);
    assert_eq!(meter.read(2_000, 10, &[1_001]), ["rate=3600"], "a glitch is no break");
    // Another meter: believed once its level has stayed for 5 s.
    let told: Vec<Vec<String>> = (0..=11).map(|n| meter.read(2_500 + n * 500, 10, &[500])).collect();
    let (last, doubted) = told.split_last().expect("several");
    assert!(!doubted.is_empty() && doubted.iter().any(|told| *told == ["rate decode"]), "{told:?}");
    assert!(doubted.iter().chain([last]).flatten().all(|told| told == "rate decode" || told == "rate=0"), "{told:?}");
    assert!(told.iter().any(Vec::is_empty), "the first that is believed tells nothing: {told:?}");
    assert_eq!(meter.read(8_500, 10, &[501]), ["rate=7200"]);
}

#[test]
fn a_rate_over_a_minute_is_told_once_a_minute() {
    let mut meter = counter(Duration::from_secs(60));
    let told: Vec<String> =
        (0_u64..=240).flat_map(|n| meter.read(1_000 + 500 * n, 10, &[i16::try_from(n / 40).expect("small")])).collect();
    assert_eq!(told, ["rate=180", "rate=180"]);
}

#[test]
fn a_break_in_what_a_rate_is_worked_out_of_is_one_in_it() {
    let mut points = vec![
        register("energy_import", Unit::KilowattHour, 10),
        register("energy_export", Unit::KilowattHour, 11),
        derived("net", Unit::KilowattHour, DerivedFormula::Sum(terms(&["energy_import", "energy_export"]))),
        derived("rate", Unit::Kilowatt, rate("net", Duration::ZERO)),
    ];
    points[3].scaling.conversion = Conversion { multiply: 3600.0, divide: 1.0 };
    let mut meter = Bench::new(points);
    meter.read(1_000, 10, &[1_000, 1_000]);
    assert_eq!(meter.read(1_500, 10, &[1_001, 1_000]), ["net=2001", "rate=7200"]);
    let told: Vec<Vec<String>> = (0..=12).map(|n| meter.read(2_000 + n * 500, 10, &[1_001, 500])).collect();
    let rates: Vec<&String> = told.iter().flatten().filter(|told| told.starts_with("rate=")).collect();
    assert!(rates.iter().all(|rate| *rate == "rate=0"), "{told:?}");
    assert_eq!(meter.read(8_500, 10, &[1_001, 501]), ["net=1502", "rate=7200"]);
}

#[test]
fn what_a_session_told_is_nothing_of_the_next_one() {
    let session = |field, value| point(field, Unit::One, Origin::Session(SessionPoint { value }));
    let points = vec![
        session("voltage", SessionValue::Voltage),
        session("current", SessionValue::Current),
        derived("total", Unit::One, DerivedFormula::Product(terms(&["voltage", "current"]))),
    ];
    let mut heard = Bench::new(points);
    let values = |values: &[(u16, f64)]| {
        Payload::Values(values.iter().map(|(ix, value)| (PointIx(*ix), Ok(Raw::Float(*value)))).collect())
    };
    assert_eq!(heard.payload(1_000, values(&[(0, 400.0), (1, 10.0)])).last().map(String::as_str), Some("total=4000"));
    assert_eq!(heard.payload(1_100, values(&[(0, 400.0)])), ["voltage=400"]);
    assert_eq!(heard.payload(1_200, values(&[(0, 390.0)])).last().map(String::as_str), Some("total=3900"));
    heard.payload(1_300, Payload::Session(None));
    heard.payload(1_400, values(&[(0, 380.0)]));
    assert_eq!(heard.payload(1_500, values(&[(0, 380.0)])), ["voltage=380"], "no current of this session is known");
}

#[test]
fn a_device_without_points_that_are_worked_out_remembers_nothing_for_them() {
    assert!(DerivedPoints::new(&device(vec![register("p1", Unit::Kilowatt, 10)])).is_none());
}

#[test]
fn what_is_worked_out_is_read_as_often_as_the_most_frequent_of_what_it_needs() {
    let spec = device(vec![
        derived("half", Unit::One, DerivedFormula::Product(terms(&["total", "factor"]))),
        register("p1", Unit::One, 10),
        register("factor", Unit::One, 20),
        derived("total", Unit::One, DerivedFormula::Sum(terms(&["p1", "factor"]))),
        derived("slow", Unit::One, rate("factor", Duration::ZERO)),
    ]);
    let intervals = [0, 1, 2, 3, 4].map(|ix| spec.interval_of(PointIx(ix)).map(|interval| interval.as_millis()));
    assert_eq!(intervals, [500, 500, 5_000, 500, 5_000].map(Some));
}

/// A profile that says so is refused; should one come, nothing hangs and nothing is told.
#[test]
fn what_needs_itself_is_never_told() {
    let mut meter = Bench::new(vec![
        register("p1", Unit::Kilowatt, 10),
        derived("total", Unit::Kilowatt, DerivedFormula::Sum(terms(&["p1", "half"]))),
        derived("half", Unit::Kilowatt, DerivedFormula::Sum(terms(&["p1", "total"]))),
        derived("ratio", Unit::Kilowatt, DerivedFormula::Sum(terms(&["p1", "nowhere"]))),
    ]);
    assert!(meter.read(1_000, 10, &[1]).is_empty());
}

proptest! {
    /// However the answers of a round are cut, and in whatever order they come, the same is worked out of them.
    #[test]
    fn any_split_of_the_samples_gives_the_same_derived_readings(
        rounds in prop::collection::vec((prop::array::uniform3(-50_i16..50), 0_usize..6, 0_usize..4, prop::bool::ANY), 1..12),
    ) {
        const ORDERS: [[u16; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        let (mut whole, mut split) = (meter(), meter());
        for (n, (words, order, cut, is_slow_read)) in rounds.into_iter().enumerate() {
            let ms = 1_000 + 500 * n as u64;
            if is_slow_read {
                let factor = [i16::try_from(n).expect("few")];
                prop_assert_eq!(whole.read(ms, 20, &factor), split.read(ms, 20, &factor));
            }
            let expected = whole.read(ms, 10, &words);
            let told = match cut {
                0 => split.read(ms, 10, &words),
                1 => [split.read(ms, 10, &words[..1]), split.read(ms, 11, &words[1..])].concat(),
                2 => [split.read(ms, 11, &words[1..]), split.read(ms, 10, &words[..1])].concat(),
                _ => ORDERS[order]
                    .iter()
                    .flat_map(|at| split.read(ms, 10 + at, &words[usize::from(*at)..=usize::from(*at)]))
                    .collect(),
            };
            let (mut expected, mut told) = (expected, told);
            expected.sort();
            told.sort();
            prop_assert_eq!(told, expected);
        }
    }
}
