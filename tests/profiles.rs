//! Every shipped Modbus profile against register images: `tests/profiles/NAME.txt` says what a device's registers hold
//! and what must be read from them, worked out by other means than the code under test.
//!
//! Once through configuration and normaliser alone, for every section of every image; and once through everything: pymodbus
//! → bus → agent → broker → a consumer that knows the wire contract only. `tests/run` installs the peers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use hil_tests::agent::{Agent, Setup};
use hil_tests::broker::{Broker, Options};
use hil_tests::certs::{Authority, Validity};
use hil_tests::consumer::{Consumer, Endpoint};
use hil_tests::oracle;
use hil_tests::process::Process;
use hil_tests::wait::wait_for;
use v2g_edge::config::{self, Plan, ProfileSource, Surroundings};
use v2g_edge::measure::{ClockTrust, Mono, Outcome, Payload, Sample, Stamp, Utc, Value};
use v2g_edge::normalise::Normaliser;
use v2g_edge::spec::{DeviceIx, DeviceSpec, RegisterBlock, RegisterTable};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/profiles");
/// What a device has in registers of which its image says nothing.
const FILLER: u16 = 0x55AA;

// ---------------------------------------------------------------- images

/// What must be read from a point.
#[derive(Debug, Clone, PartialEq)]
enum Expected {
    Float(f64),
    Integer(i64),
    Text(String),
    Missing,
}

/// One line of an image.
#[derive(Debug)]
struct Row {
    unit: Option<u8>,
    table: RegisterTable,
    address: u16,
    words: Vec<u16>,
    field: String,
    expected: Expected,
}

/// The sections of an image, in their order.
type Image = Vec<(String, Vec<Row>)>;

fn image(name: &str) -> Image {
    let text = fs::read_to_string(Path::new(FOLDER).join(format!("{name}.txt"))).expect("the image is there");
    let mut sections: Image = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix('[') {
            Some(title) => sections.push((title.trim_end_matches(']').to_owned(), Vec::new())),
            None => sections.last_mut().expect("a section").1.push(row(line)),
        }
    }
    sections
}

/// `holding@200 1100: 41CB 1EB8 -> temperature 25.39`
fn row(line: &str) -> Row {
    let (place, meaning) = line.split_once(" -> ").unwrap_or_else(|| panic!("{line}"));
    let (place, words) = place.split_once(": ").unwrap_or_else(|| panic!("{line}"));
    let (table, address) = place.split_once(' ').unwrap_or_else(|| panic!("{line}"));
    let (table, unit) = table.split_once('@').map_or((table, None), |(table, unit)| (table, unit.parse().ok()));
    let (field, value) = meaning.split_once(' ').unwrap_or_else(|| panic!("{line}"));
    let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    let integer = value.strip_suffix('i').and_then(|value| value.parse().ok());
    Row {
        unit,
        table: if table == "input" { RegisterTable::Input } else { RegisterTable::Holding },
        address: address.parse().unwrap_or_else(|_| panic!("{line}")),
        words: words.split(' ').map(|w| u16::from_str_radix(w, 16).unwrap_or_else(|_| panic!("{line}"))).collect(),
        field: field.to_owned(),
        expected: match (quoted, integer, value) {
            (Some(text), ..) => Expected::Text(text.to_owned()),
            (_, Some(integer), _) => Expected::Integer(integer),
            (.., "missing") => Expected::Missing,
            _ => Expected::Float(value.parse().unwrap_or_else(|_| panic!("{line}"))),
        },
    }
}

/// The names of all images.
fn names() -> Vec<String> {
    let files = fs::read_dir(FOLDER).expect("the folder is there").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<String> =
        files.filter_map(|file| Some(file.to_str()?.strip_suffix(".txt")?.to_owned())).collect();
    names.sort();
    names
}

/// The plan with one device of this profile, of the kind that it is.
fn plan(profile: &str, more: &str) -> Result<Plan, String> {
    let of_kind = |kind: &str| {
        let text = format!(
            "[gateway]\nid = \"g\"\nsite = \"s\"\nstate_dir = \"/var/lib/v2g-edge\"\n[uplink]\nbrokers = [\"mqtt://127.0.0.1\"]\n\
             [bus.lan]\nmodbus-tcp = {{}}\n[device.d]\nkind = \"{kind}\"\nbus = \"lan\"\naddress = \"127.0.0.1\"\nunit = 1\n\
             profile = \"{profile}\"\n{more}"
        );
        config::parse(&text, "gateway.toml", &Surroundings::none()).map_err(|faults| faults.to_string())
    };
    of_kind("meter").or_else(|_| of_kind("evse"))
}

fn device(profile: &str, more: &str) -> DeviceSpec {
    plan(profile, more).unwrap_or_else(|faults| panic!("{faults}")).devices.remove(0).spec
}

// ---------------------------------------------------------------- through the normaliser

/// What the registers of a device say, by field; every request of its plan is answered once.
fn read(spec: &DeviceSpec, word: impl Fn(RegisterBlock, u16) -> u16) -> BTreeMap<String, Vec<Outcome>> {
    let mut normaliser = Normaliser::new(std::slice::from_ref(spec));
    let mut outcomes: BTreeMap<String, Vec<Outcome>> = BTreeMap::new();
    for block in spec.groups.iter().flat_map(|group| &group.blocks) {
        let words = (block.start..=block.start + (block.count - 1)).map(|register| word(*block, register)).collect();
        let sample = Sample {
            device: DeviceIx(0),
            at: Stamp { mono: Mono(1_000_000_000), utc: Utc(0), trust: ClockTrust::Synced },
            payload: Payload::Registers { block: *block, words: Ok(words) },
        };
        normaliser.readings(&sample, |reading| {
            let field = spec.points[usize::from(reading.point.0)].field.to_string();
            outcomes.entry(field).or_default().push(reading.outcome);
        });
    }
    outcomes
}

fn read_section(spec: &DeviceSpec, rows: &[Row]) -> BTreeMap<String, Vec<Outcome>> {
    let mut memory = BTreeMap::new();
    for row in rows {
        for (register, word) in (row.address..).zip(&row.words) {
            memory.insert((row.unit, row.table, register), *word);
        }
    }
    read(spec, |block, register| memory.get(&(block.unit, block.table, register)).copied().unwrap_or(FILLER))
}

fn is_as_expected(outcome: &Outcome, expected: &Expected) -> bool {
    match (outcome, expected) {
        (Outcome::Good(Value::Float(value)), Expected::Float(expected)) => is_near(*value, *expected),
        (Outcome::Good(Value::Integer(value)), Expected::Integer(expected)) => value == expected,
        (Outcome::Good(Value::Text(value)), Expected::Text(expected)) => **value == **expected,
        (Outcome::Missing(_), Expected::Missing) => true,
        _ => false,
    }
}

/// To the last bits: what two roundings, or the mean of equal values, may cost.
fn is_near(value: f64, expected: f64) -> bool {
    (value - expected).abs() <= expected.abs() * 1e-12
}

#[test]
fn every_profile_reads_its_register_images_as_they_were_meant() {
    let mut wrong = Vec::new();
    for name in names() {
        let spec = device(&name, "");
        for (section, rows) in image(&name) {
            let outcomes = read_section(&spec, &rows);
            for Row { field, expected, .. } in rows {
                let read = outcomes.get(&field).map_or(&[][..], Vec::as_slice);
                if read.is_empty() || !read.iter().all(|outcome| is_as_expected(outcome, &expected)) {
                    wrong.push(format!("{name} [{section}] {field}: {expected:?} expected, {read:?} read"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_point_of_every_modbus_profile_is_in_its_image() {
    for name in ProfileSource::built_in().names() {
        // A profile of another wire cannot stand on this bus.
        let Ok(plan) = plan(&name, "") else { continue };
        // A SunSpec device says itself where its points are.
        if plan.devices[0].spec.points.iter().all(|point| point.register().is_none()) {
            continue;
        }
        let points: BTreeSet<String> = plan.devices[0].spec.points.iter().map(|p| p.field.to_string()).collect();
        for section in ["importing", "exporting"] {
            let image = image(&name);
            let (_, rows) = image.iter().find(|(title, _)| title == section).expect("a section");
            let shown: BTreeSet<String> = rows.iter().map(|row| row.field.clone()).collect();
            assert_eq!(shown, points, "{name} [{section}]");
        }
    }
    assert!(names().len() >= 22, "the images are there: {:?}", names());
}

#[test]
fn every_signed_power_is_shown_in_both_directions() {
    let mut both = 0;
    for name in names() {
        let image = image(&name);
        let power = |section: &str| {
            let (_, rows) = image.iter().find(|(title, _)| title == section).expect("a section");
            let row = rows.iter().find(|row| row.field == "power_flow").expect("every device has its power");
            match row.expected {
                Expected::Float(power) => power,
                ref other => panic!("{name}: {other:?}"),
            }
        };
        assert!(power("importing") > 0.0, "{name}");
        both += usize::from(power("exporting") < 0.0);
    }
    // What is left counts only charging: the registers of seven wallboxes and one DC charger are unsigned.
    assert!(both >= 14, "{both} images have a power below zero");
}

#[test]
fn every_state_text_of_every_profile_is_shown() {
    for name in names() {
        let image = image(&name);
        for point in device(&name, "").points.iter().filter(|point| !point.scaling.texts.is_empty()) {
            let field = point.field.as_str();
            let rows = image.iter().flat_map(|(_, rows)| rows).filter(|row| row.field == field);
            let shown: BTreeSet<Vec<u16>> = rows.map(|row| row.words.clone()).collect();
            // One more than are listed: a code without a word is told as its number.
            assert!(shown.len() > point.scaling.texts.len(), "{name} {field}: {} codes shown", shown.len());
        }
    }
}

#[test]
fn another_connector_is_the_same_map_further_on_and_the_station_stays() {
    for (name, stride, last) in [("alpitronic-hypercharger", 100, 4_u16), ("phoenixcontact-charx-sec", 1000, 48)] {
        let rows = image(name).swap_remove(0).1;
        for connector in [1, 2, last] {
            let spec = device(name, &format!("connector = {connector}\n"));
            let shift = stride * (connector - 1);
            // The station's own registers are below those of its first connector.
            let moved = |row: Row| Row { address: row.address + if row.address < stride { 0 } else { shift }, ..row };
            let rows: Vec<Row> = image(name).swap_remove(0).1.into_iter().map(moved).collect();
            let outcomes = read_section(&spec, &rows);
            for Row { field, expected, .. } in &rows {
                assert!(outcomes[field].iter().all(|o| is_as_expected(o, expected)), "{name} {connector} {field}");
            }
        }
        assert!(!rows.is_empty());
    }
}

// ---------------------------------------------------------------- through everything

/// pymodbus takes a second to start, the agent reads 24 devices on one line, the broker is on the same machine.
const SOON: Duration = Duration::from_secs(90);

#[test]
fn over_tcp_every_profile_tells_the_broker_what_the_registers_of_pymodbus_mean() {
    for section in ["importing", "exporting"] {
        judge("tcp", section, |place| format!("[bus.images]\nmodbus-tcp = {{}}\n# {place}"));
    }
}

/// What these devices were seen to say: an Alfen at rest is in state E, the frequency of a Countis is in thousandths, the total of
/// an EM24 stands before its partial counter, and a CHARX counts a session in 64 bits.
#[test]
fn over_tcp_what_devices_say_in_the_field_is_told_as_what_it_is() {
    judge("tcp", "in the field", |place| format!("[bus.images]\nmodbus-tcp = {{}}\n# {place}"));
}

#[test]
fn over_rtu_every_profile_tells_the_broker_what_the_registers_of_pymodbus_mean() {
    for section in ["importing", "exporting"] {
        judge("rtu", section, |place| {
            format!("[bus.images]\nmodbus-rtu = {{ port = \"{place}\", baud = 115200, parity = \"none\" }}\n")
        });
    }
}

#[test]
fn what_a_profile_works_out_reaches_the_broker_and_the_catalog_says_of_what() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (_server, port) = serve(dir.path(), "importing", "tcp", &["eastron-sdm630".to_owned()]);
    let authority = Authority::new(&dir.path().join("tls"), "depot ca").expect("a ca");
    let server = authority.server(Validity::Good).expect("a server certificate");
    let broker = Broker::start(&dir.path().join("broker"), &server, Options::default()).expect("a broker");
    let endpoint = Endpoint::Plain(broker.plain_port());
    let consumer = Consumer::start(dir.path(), &endpoint, "judge", &["v2g/#"]).expect("a consumer");
    fs::create_dir(dir.path().join("devices")).expect("made");
    let profile = "[profile]\nextends = \"eastron-sdm630\"\n[point]\n\
                   power_sum = { phase_total = \"power_flow\" }\n\
                   power_share_l1 = { quotient = [\"power_flow_l1\", \"power_sum\"], unit = \"%\" }\n\
                   current_mean_l12 = { sum = [\"0.5 * current_l1\", \"0.5 * current_l2\"] }\n\
                   power_mean = { rate = \"energy_import\" }\n";
    fs::write(dir.path().join("devices/own.toml"), profile).expect("written");
    let device =
        "[device.grid-main]\nkind = \"meter\"\nbus = \"images\"\nunit = 1\nprofile = \"own\"\npoll = \"250ms\"";
    let setup = Setup {
        gateway: "gw-01".to_owned(),
        site: "depot-a".to_owned(),
        brokers: vec![broker.url()],
        tls: authority.client("gw-01", Validity::Good).expect("a client certificate"),
        meters: vec![],
        line: None,
        keep_alive: "5s",
        uplink: String::new(),
        extra: format!("[bus.images]\nmodbus-tcp = {{}}\n{device}\naddress = \"127.0.0.1:{port}\"\n"),
    };
    let mut agent = Agent::new(&binary(), dir.path(), &setup).expect("a configuration");
    agent.start().expect("the agent starts");

    let float =
        |field: &str| match image("eastron-sdm630")[0].1.iter().find(|row| row.field == field).map(|row| &row.expected)
        {
            Some(Expected::Float(value)) => *value,
            other => panic!("{field}: {other:?}"),
        };
    let sum = float("power_flow_l1") + float("power_flow_l2") + float("power_flow_l3");
    let expected = [
        ("power_sum", sum),
        ("power_share_l1", 100.0 * float("power_flow_l1") / sum),
        ("current_mean_l12", f64::midpoint(float("current_l1"), float("current_l2"))),
        // The counter of the image stands.
        ("power_mean", 0.0),
    ];
    for (field, expected) in expected {
        let look = || {
            let told = consumer.look(|messages| {
                let mut lines = messages.iter().flat_map(oracle::Message::device_lines);
                lines.find_map(|line| line.field(field).cloned())
            });
            told.ok_or_else(|| agent.log_tail())
        };
        let told = wait_for(SOON, field, look).unwrap_or_else(|late| panic!("{field}: {late}"));
        let oracle::Value::Float(told) = told else { panic!("{field}: {told:?}") };
        assert!((told - expected).abs() <= 1e-9 * expected.abs(), "{field}: {expected} expected, {told} told");
    }
    let catalog = consumer.look(|messages| {
        let catalog = messages.iter().find(|message| message.topic.ends_with("/catalog")).expect("it comes first");
        String::from_utf8(catalog.payload.clone()).expect("text")
    });
    let of = "\"derived\":\"sum of power_flow_l1, power_flow_l2, power_flow_l3\"";
    assert!(catalog.contains(of), "{catalog}");
    agent.terminate(Duration::from_secs(15)).expect("it ends");
}

/// Plays a section of all images, and holds every line that reaches the broker against it until every field has come.
fn judge(framing: &str, section: &str, bus: impl Fn(&str) -> String) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let names: Vec<String> =
        names().into_iter().filter(|name| image(name).iter().any(|(title, _)| title == section)).collect();
    let (_server, place) = serve(dir.path(), section, framing, &names);
    let authority = Authority::new(&dir.path().join("tls"), "depot ca").expect("a ca");
    let server = authority.server(Validity::Good).expect("a server certificate");
    let broker = Broker::start(&dir.path().join("broker"), &server, Options::default()).expect("a broker");
    let endpoint = Endpoint::Plain(broker.plain_port());
    let consumer = Consumer::start(dir.path(), &endpoint, "judge", &["v2g/#"]).expect("a consumer");

    let mut extra = bus(&place);
    for (unit, name) in (1..).zip(&names) {
        let kind = device(name, "");
        let kind = kind.kind.as_str();
        let address = if framing == "tcp" { format!("address = \"127.0.0.1:{place}\"\n") } else { String::new() };
        extra += &format!(
            "\n[device.\"{name}\"]\nkind = \"{kind}\"\nbus = \"images\"\nunit = {unit}\nprofile = \"{name}\"\npoll = \"2s\"\n{address}"
        );
    }
    let setup = Setup {
        gateway: "gw-01".to_owned(),
        site: "depot-a".to_owned(),
        brokers: vec![broker.url()],
        tls: authority.client("gw-01", Validity::Good).expect("a client certificate"),
        meters: vec![],
        line: None,
        keep_alive: "5s",
        uplink: String::new(),
        extra,
    };
    let mut agent = Agent::new(&binary(), dir.path(), &setup).expect("a configuration");
    agent.start().expect("the agent starts");

    let expected: BTreeMap<(String, String), Expected> = names
        .iter()
        .flat_map(|name| {
            let image = image(name);
            let (_, rows) = image.into_iter().find(|(title, _)| title == section).expect("a section");
            rows.into_iter().map(|row| ((name.clone(), row.field), row.expected))
        })
        .collect();
    let mut seen = BTreeSet::new();
    let look = || {
        let lines: Vec<_> = consumer.look(|messages| messages.iter().flat_map(oracle::Message::device_lines).collect());
        for line in &lines {
            let device = line.tag("device").expect("a device line has it").to_owned();
            assert_eq!(line.field("suspect"), None, "{framing} [{section}]: {line:?}");
            for (field, value) in &line.fields {
                let key = (device.clone(), field.clone());
                let Some(expected) = expected.get(&key) else { continue };
                assert!(
                    is_told(value, expected),
                    "{framing} [{section}] {key:?}: {expected:?} expected, {value:?} told"
                );
                seen.insert(key);
            }
        }
        if seen.len() == expected.len() {
            return Ok(());
        }
        let missing: Vec<_> = expected.keys().filter(|key| !seen.contains(*key)).take(20).collect();
        Err(format!("{} of {} fields, not: {missing:?}\n{}", seen.len(), expected.len(), agent.log_tail()))
    };
    wait_for(SOON, "every field of every profile", look).unwrap_or_else(|late| panic!("{framing} [{section}]: {late}"));
    println!("{framing} [{section}]: {} fields of {} profiles as expected", expected.len(), names.len());
    agent.terminate(Duration::from_secs(15)).expect("it ends");
}

fn is_told(value: &oracle::Value, expected: &Expected) -> bool {
    match (value, expected) {
        (oracle::Value::Float(value), Expected::Float(expected)) => is_near(*value, *expected),
        (oracle::Value::Integer(value), Expected::Integer(expected)) => value == expected,
        (oracle::Value::Text(value), Expected::Text(expected)) => value == expected,
        _ => false,
    }
}

/// pymodbus with a section of all images, and where it listens.
fn serve(dir: &Path, section: &str, framing: &str, names: &[String]) -> (Process, String) {
    const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/test-python/bin/python3");
    let mut command = Command::new(PYTHON);
    command.arg(Path::new(FOLDER).join("serve.py")).args([section, framing]);
    command.args((1..).zip(names).map(|(unit, name): (u8, _)| format!("{unit}={name}")));
    let out = dir.join("serve.out");
    let stdout = Stdio::from(fs::File::create(&out).expect("a file"));
    let process = Process::start_with_stdout("serve.py", &mut command, &dir.join("serve.log"), stdout);
    let process = process.expect("tests/run has installed it");
    let place = || match fs::read_to_string(&out) {
        Ok(text) if text.ends_with('\n') => Ok(text.trim().to_owned()),
        other => Err(format!("{other:?}, {}", process.log_tail())),
    };
    let place = wait_for(SOON, "pymodbus to listen", place).unwrap_or_else(|late| panic!("{late}"));
    (process, place)
}

fn binary() -> PathBuf {
    std::env::var_os("V2G_EDGE_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_v2g-edge")), PathBuf::from)
}
