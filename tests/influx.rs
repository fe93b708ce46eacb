//! The questions of an operator (`docs/queries.md`) to a real InfluxDB, about a day of a depot whose truth is known.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use hil_tests::port::free_port;
use hil_tests::process::{Process, program};
use hil_tests::wait::wait_for;
use serde_json::Value as Json;
use v2g_edge::aggregate::Aggregator;
use v2g_edge::derive::Deriver;
use v2g_edge::measure::{
    BootId, ClockTrust, Counter, CounterKind, Entry, Epoch, Event, EventKind, Gap, GapReason, Identity, Mono, Outcome,
    Reading, Schema, Seq, Stamp, Utc, Value, Verdict, Window, Words,
};
use v2g_edge::spec::{
    Aggregation, DeviceIx, DeviceKind, DeviceSpec, Origin, PointIx, PointSpec, PollGroup, Scaling, SiteSpec,
    SunSpecPoint, Unit, ValueType,
};
use v2g_edge::uplink::wire::payload_of;

/// Midnight in Berlin: 2025-11-23 23:00 UTC.
const MIDNIGHT_S: i64 = 1_763_938_800;
const RANGE: &str = "time > '2025-11-23T23:00:00Z' AND time <= '2025-11-24T23:00:00Z'";
const DAY_S: u64 = 86_400;
const POLL_S: u64 = 10;
const WINDOW_S: u64 = 60;
const BOOT: BootId = BootId([1; 16]);
/// What the depot takes beside its chargers, kW.
const BASE_KW: f64 = 5.0;
const SOON: Duration = Duration::from_secs(60);

const POWER: PointIx = PointIx(0);
/// Of a charger the SoC, of the meter its register.
const SECOND: PointIx = PointIx(1);
const STATE: PointIx = PointIx(2);

/// A vehicle at a charger: from when to when (s of the day), its powers (from when on, kW), and its SoC at both ends.
struct Visit {
    device: u16,
    vehicle: &'static str,
    span: (u64, u64),
    powers: &'static [(u64, f64)],
    soc: (f64, f64),
}

const fn at(hour: u64, minute: u64) -> u64 {
    hour * 3_600 + minute * 60
}

const VISITS: [Visit; 3] = [
    Visit {
        device: 1,
        vehicle: "EV001",
        span: (at(8, 0), at(10, 1)),
        powers: &[(at(8, 0), 30.0), (at(10, 0), 0.0)],
        soc: (20.0, 80.0),
    },
    Visit {
        device: 1,
        vehicle: "EV002",
        span: (at(18, 0), at(19, 1)),
        powers: &[(at(18, 0), 20.0), (at(18, 29), 0.0), (at(18, 30), -10.0), (at(19, 0), 0.0)],
        soc: (50.0, 58.0),
    },
    Visit {
        device: 2,
        vehicle: "EV003",
        span: (at(9, 30), at(12, 0)),
        powers: &[(at(9, 30), 40.0), (at(10, 30), 0.0)],
        soc: (10.0, 55.0),
    },
];

impl Visit {
    fn is_there(&self, second: u64) -> bool {
        (self.span.0..self.span.1).contains(&second)
    }

    fn kw(&self, second: u64) -> f64 {
        self.powers.iter().rev().find(|(from, _)| *from <= second).map_or(0.0, |(_, kw)| *kw)
    }

    /// kWh each way: the areas of steps, as straight lines between polls have them, too.
    fn kwh(&self) -> (f64, f64) {
        let ends = self.powers.iter().skip(1).map(|(from, _)| *from);
        let parts = self.powers.iter().zip(ends).map(|((from, kw), to)| kw * (to - from) as f64 / 3_600.0);
        parts.fold((0.0, 0.0), |(import, export), kwh| (import + kwh.max(0.0), export + (-kwh).max(0.0)))
    }
}

fn depot() -> Vec<DeviceSpec> {
    let point = |field: &str, unit, value_type| PointSpec {
        field: field.try_into().expect("a field"),
        unit,
        value_type,
        aggregation: Aggregation::usual(value_type, unit),
        valid: None,
        frozen_after: None,
        scaling: Scaling::default(),
        origin: Origin::SunSpec(SunSpecPoint { from: vec![] }),
    };
    let device = |id: &str, kind, second, state: Option<PointSpec>| DeviceSpec {
        id: id.try_into().expect("a name"),
        kind,
        profile: "test".to_owned(),
        points: [point("power_flow", Unit::Kilowatt, ValueType::Float), second].into_iter().chain(state).collect(),
        groups: vec![PollGroup { name: "fast".to_owned(), interval: Duration::from_secs(POLL_S), blocks: vec![] }],
    };
    let soc = || point("soc", Unit::Percent, ValueType::Float);
    let state = || Some(point("state", Unit::One, ValueType::Text));
    vec![
        device("grid-main", DeviceKind::Meter, point("energy_import", Unit::KilowattHour, ValueType::Float), None),
        device("dc-1", DeviceKind::Evse, soc(), state()),
        device("dc-2", DeviceKind::Evse, soc(), state()),
    ]
}

/// The day as the gateway tells it, a batch for each minute.
struct Day {
    aggregator: Aggregator,
    deriver: Deriver,
    counter: Counter,
    /// What the meter has counted, kWh.
    register: f64,
    batches: Vec<String>,
    seq: u64,
}

fn stamp(second: u64) -> Stamp {
    let utc = (MIDNIGHT_S + i64::try_from(second).expect("a day")) * 1_000_000_000;
    Stamp { mono: Mono((second + 1_000) * 1_000_000_000), utc: Utc(utc), trust: ClockTrust::Synced }
}

impl Day {
    fn tell() -> Self {
        let (devices, window) = (depot(), Duration::from_secs(WINDOW_S));
        let kind = CounterKind { hourly_max: 10_000.0, step_max: 10.0, ends: vec![] };
        let mut day = Self {
            aggregator: Aggregator::new(&devices, window, 0.05, BOOT, stamp(0)),
            deriver: Deriver::new(&devices, window, 0.05, BOOT)
                .with_site(SiteSpec { meter: Some(DeviceIx(0)), ..SiteSpec::default() }),
            counter: Counter::new(kind),
            register: 123_456.789,
            batches: Vec::new(),
            seq: 1,
        };
        for second in (0..=DAY_S).step_by(usize::try_from(POLL_S).expect("small")) {
            if second > 0 && second.is_multiple_of(WINDOW_S) {
                day.close(second);
            }
            if second < DAY_S {
                day.poll(second);
            }
        }
        day
    }

    fn poll(&mut self, second: u64) {
        let mut total = BASE_KW;
        for device in [1, 2] {
            let visit = VISITS.iter().find(|visit| visit.device == device && visit.is_there(second));
            let kw = visit.map_or(0.0, |visit| visit.kw(second));
            let ix = DeviceIx(device);
            let vehicle = visit.map(|visit| visit.vehicle.try_into().expect("a vehicle"));
            if self.aggregator.vehicle(ix) != vehicle.as_ref() {
                self.aggregator.set_vehicle(ix, vehicle.clone());
                self.deriver.set_vehicle(ix, vehicle);
            }
            let state = match visit {
                None => "available",
                Some(_) if kw > 0.0 => "charging",
                Some(_) if kw < 0.0 => "discharging",
                Some(_) => "finishing",
            };
            self.read(ix, STATE, second, Value::Text(state.into()));
            if let Some(Visit { span: (from, to), soc: (first, last), .. }) = visit {
                let part = (second - from) as f64 / (to - POLL_S - from) as f64;
                self.read(ix, SECOND, second, Value::Float(first + (last - first) * part));
            }
            self.read(ix, POWER, second, Value::Float(kw));
            total += kw;
        }
        self.read(DeviceIx(0), POWER, second, Value::Float(total));
        self.read(DeviceIx(0), SECOND, second, Value::Float((self.register * 1e3).floor() / 1e3));
        self.register += total.max(0.0) * POLL_S as f64 / 3_600.0;
    }

    fn read(&mut self, device: DeviceIx, point: PointIx, second: u64, value: Value) {
        let at = stamp(second);
        let count = match value {
            Value::Float(kwh) if (device, point) == (DeviceIx(0), SECOND) => Some(self.counter.read(kwh, at.mono)),
            _ => None,
        };
        let reading = Reading { device, point, at, outcome: Outcome::Good(value), count };
        self.deriver.add(&reading);
        if let Some(session) = self.deriver.session_news(device) {
            self.aggregator.set_session(device, session);
        }
        self.aggregator.add(reading);
    }

    fn close(&mut self, second: u64) {
        let mut window: Window = self.aggregator.close(stamp(second)).expect("it has ended");
        self.deriver.complete(&mut window, false);
        Self::find(&mut window, second);
        if self.batches.len() == 700 {
            // Five entries were given up.
            let (epoch, from, to) = (Epoch(12), Seq(self.seq), Seq(self.seq + 4));
            let gap = Gap { epoch, from, to, points: Some(30), reason: GapReason::JournalFull };
            window.events.push(Event { device: None, kind: EventKind::Gap(gap) });
            self.seq += 5;
        }
        let (gateway, site) = ("gw-01".try_into().expect("a gateway"), "depot-a".try_into().expect("a site"));
        let schema = Arc::new(Schema::new(gateway, site, &depot()));
        let identity = Identity { epoch: Epoch(12), seq: Seq(self.seq) };
        self.batches.push(payload_of(&Entry { identity, schema, words: Words::Second, window }));
        self.seq += 1;
    }
}

impl Day {
    /// At noon two rules of a meter are broken; one of them holds again an hour later, and is broken again in the evening.
    fn find(window: &mut Window, second: u64) {
        let verdict = |rule: &str| {
            let (unit, what) = ("kW".into(), "power_flow against its phases".into());
            Verdict { rule: rule.into(), value_milli: -7_250, expected_milli: 21_750, unit, what }.into()
        };
        let kinds = match second {
            second if second == at(12, 0) => {
                vec![EventKind::Implausible(verdict("phase_sum")), EventKind::Implausible(verdict("power_factor"))]
            }
            second if second == at(13, 0) => {
                vec![EventKind::Plausible(verdict("phase_sum")), EventKind::Plausible(verdict("power_factor"))]
            }
            second if second == at(18, 0) => vec![EventKind::Implausible(verdict("phase_sum"))],
            _ => vec![],
        };
        let grid = depot().remove(0).id;
        window.events.extend(kinds.into_iter().map(|kind| Event { device: Some(grid.clone()), kind }));
    }
}

/// A real server, ended with the test.
struct Influx {
    port: u16,
    _process: Process,
    _dir: tempfile::TempDir,
}

impl Influx {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let (port, rpc, path) = (free_port(), free_port(), dir.path().display().to_string());
        let config = format!(
            "reporting-disabled = true\nbind-address = \"127.0.0.1:{rpc}\"\n[meta]\ndir = \"{path}/meta\"\n[data]\n\
             dir = \"{path}/data\"\nwal-dir = \"{path}/wal\"\n[http]\nbind-address = \"127.0.0.1:{port}\"\n\
             [monitor]\nstore-enabled = false\n"
        );
        let file = dir.path().join("influxdb.conf");
        fs::write(&file, config).expect("written");
        let mut command = Command::new(program("influxd"));
        let process = Process::start("influxd", command.arg("run").arg("-config").arg(file), &dir.path().join("log"));
        let influx = Self { port, _process: process.expect("influxd starts"), _dir: dir };
        let look = || influx.request(&["-X", "POST"], "CREATE DATABASE v2g_telemetry");
        wait_for(SOON, "influxd", look).unwrap_or_else(|late| panic!("{late}"));
        influx
    }

    fn curl(arguments: &[&str]) -> Result<String, String> {
        let output = Command::new(program("curl")).args(["-sS", "--fail-with-body"]).args(arguments).output();
        let output = output.map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() { Ok(text) } else { Err(text + &String::from_utf8_lossy(&output.stderr)) }
    }

    fn request(&self, more: &[&str], query: &str) -> Result<String, String> {
        let (url, query) = (format!("http://127.0.0.1:{}/query", self.port), format!("q={query}"));
        let database = ["--data-urlencode", "db=v2g_telemetry", "--data-urlencode", &query, &url];
        Self::curl(&[more, &database].concat())
    }

    fn write(&self, batches: &[String], dir: &Path) {
        let file = dir.join("lines");
        fs::write(&file, batches.join("\n")).expect("written");
        let (url, data) =
            (format!("http://127.0.0.1:{}/write?db=v2g_telemetry", self.port), format!("@{}", file.display()));
        let answer = Self::curl(&["-X", "POST", "--data-binary", &data, &url]);
        assert_eq!(answer.as_deref(), Ok(""), "every line is taken");
    }

    /// The rows of a query: the tags that it is grouped by, and the columns by name.
    fn ask(&self, query: &str) -> Vec<Row> {
        let answer = self.request(&["-G", "--data-urlencode", "epoch=s"], query).expect("an answer");
        let answer: Json = serde_json::from_str(&answer).expect("JSON");
        let result = &answer["results"][0];
        assert!(result.get("error").is_none(), "{query}: {result}");
        let mut rows = Vec::new();
        for series in result["series"].as_array().into_iter().flatten() {
            let tags = series["tags"].as_object().into_iter().flatten();
            let tags: Row = tags.map(|(key, value)| (key.clone(), value.clone())).collect();
            let columns = series["columns"].as_array().expect("columns");
            for values in series["values"].as_array().expect("values") {
                let named = columns.iter().zip(values.as_array().expect("a row"));
                let named = named.map(|(name, value)| (name.as_str().expect("a name").to_owned(), value.clone()));
                rows.push(tags.clone().into_iter().chain(named).collect());
            }
        }
        rows
    }
}

type Row = BTreeMap<String, Json>;

/// The query under this heading of the page, about the day.
fn query(heading: &str, place: usize) -> String {
    let page = include_str!("../docs/queries.md");
    let section = page.split("\n## ").find(|section| section.starts_with(heading)).expect("a heading");
    let block = section.split("```sql\n").nth(place + 1).expect("a query");
    block.split("```").next().expect("its end").replace('\n', " ").replace("$timeFilter", RANGE)
}

fn number(row: &Row, key: &str) -> f64 {
    row[key].as_f64().unwrap_or_else(|| panic!("{key} of {row:?}"))
}

fn text<'r>(row: &'r Row, key: &str) -> &'r str {
    row[key].as_str().unwrap_or_else(|| panic!("{key} of {row:?}"))
}

/// Within 0.1 %, as what is integrated.
fn assert_near(told: f64, truth: f64, what: &str) {
    assert!((told - truth).abs() <= truth.abs() * 1e-3, "{what}: {told}, not {truth}");
}

#[test]
fn every_question_of_an_operator_is_answered_by_one_query_as_it_was() {
    let day = Day::tell();
    let (influx, dir) = (Influx::start(), tempfile::tempdir().expect("a directory"));
    influx.write(&day.batches, dir.path());
    let answers = || {
        let headings = [
            "Power of each charger now",
            "Energy per direction and day",
            "Energy per vehicle",
            "Energy per charging session",
            "Who charged when",
            "Peaks per quarter-hour",
            "Gaps in the record",
            "Findings that stand",
        ];
        headings.map(|heading| influx.ask(&query(heading, 0)))
    };
    let told = answers();
    let [now, per_day, per_vehicle, per_session, who, peaks, gaps, findings] = &told;

    let now: Vec<_> = now.iter().map(|row| (text(row, "device"), number(row, "kW"))).collect();
    assert_eq!(now, [("dc-1", 0.0), ("dc-2", 0.0)]);

    let truth = VISITS.iter().map(Visit::kwh).fold((0.0, 0.0), |sum, kwh| (sum.0 + kwh.0, sum.1 + kwh.1));
    let [today] = &per_day[..] else { panic!("one day: {per_day:?}") };
    assert_near(number(today, "charged_kWh"), truth.0, "charged");
    assert_near(number(today, "discharged_kWh"), truth.1, "discharged");

    for visit in &VISITS {
        let row = per_vehicle.iter().find(|row| text(row, "vehicle_id") == visit.vehicle).expect("a row");
        assert_near(number(row, "charged_kWh"), visit.kwh().0, visit.vehicle);
        let device = format!("dc-{}", visit.device);
        let start = MIDNIGHT_S as f64 + visit.span.0 as f64;
        let row = per_session.iter().find(|row| text(row, "device") == device && number(row, "time") == start);
        let row = row.unwrap_or_else(|| panic!("{}: {per_session:?}", visit.vehicle));
        assert_near(number(row, "energy_import"), visit.kwh().0, visit.vehicle);
        assert_near(number(row, "energy_export"), visit.kwh().1, visit.vehicle);
        assert_eq!((text(row, "state"), text(row, "reason")), ("ended", "disconnected"));
        assert_eq!((number(row, "soc_start"), number(row, "soc_end")), visit.soc);
        let row = who.iter().find(|row| text(row, "vehicle") == visit.vehicle).expect("a row");
        let span = (MIDNIGHT_S as f64 + visit.span.0 as f64, MIDNIGHT_S as f64 + visit.span.1 as f64);
        assert_eq!((number(row, "start"), number(row, "end")), span, "{}", visit.vehicle);
    }
    assert_eq!((per_session.len(), who.len()), (VISITS.len(), VISITS.len()));

    let highest = peaks.iter().max_by(|a, b| number(a, "kW").total_cmp(&number(b, "kW"))).expect("a peak");
    assert_near(number(highest, "kW"), BASE_KW + 70.0, "both chargers");
    let second = number(highest, "time") - MIDNIGHT_S as f64;
    assert_eq!((second / 900.0).floor() * 900.0, at(9, 45) as f64, "the quarter-hour of both");
    let counted: f64 = peaks.iter().map(|row| number(row, "kW") / 4.0).sum();
    let register = (day.register * 1e3).floor() / 1e3 - 123_456.789;
    assert_near(counted, register, "the register");

    let quarters = influx.ask(&query("Peaks per quarter-hour", 1));
    // A row stands at the beginning of its quarter-hour; that of the first is not behind the beginning of the range.
    assert_eq!(quarters.len(), 95, "the quarter-hours of the day");
    for row in &quarters {
        let sum = peaks.iter().find(|sum| number(sum, "time") == number(row, "time")).expect("the same quarter-hour");
        assert_near(number(row, "kW"), number(sum, "kW"), "told by the gateway, and summed up here");
    }

    let [gap] = &gaps[..] else { panic!("one gap: {gaps:?}") };
    assert_eq!((number(gap, "missing"), text(gap, "gateway")), (5.0, "gw-01"));
    let [accounted] = &influx.ask(&query("Gaps in the record", 1))[..] else { panic!("one event") };
    assert_eq!((number(accounted, "from_seq"), number(accounted, "to_seq")), (701.0, 705.0));

    let [finding] = &findings[..] else { panic!("one finding: {findings:?}") };
    assert_eq!((text(finding, "device"), text(finding, "rule")), (depot()[0].id.as_str(), "phase_sum"));
    assert_eq!((number(finding, "value"), number(finding, "expected")), (-7.25, 21.75));
    assert_eq!(number(finding, "time"), (MIDNIGHT_S + i64::try_from(at(18, 0)).expect("a day")) as f64);

    // All of it once more, as a broker may deliver it.
    influx.write(&day.batches, dir.path());
    assert_eq!(answers(), told, "the same stream twice changes nothing");
}
