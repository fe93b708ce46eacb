//! CAN against its peers: every signal of a recording as cantools reads it, and a recorded CHAdeMO session through the
//! whole agent to a broker.
//!
//! `tests/run` installs the peers. `HIL_SEED` repeats the random files of a run that failed; `V2G_EDGE_BIN` names another
//! binary than the one cargo has built.

#[path = "can/generate.rs"]
mod generate;
#[path = "can/j1939.rs"]
mod j1939;
#[path = "can/recorded.rs"]
mod recorded;
#[path = "can/windows.rs"]
mod windows;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use hil_tests::agent::{Agent, Setup};
use hil_tests::broker::{Broker, Options};
use hil_tests::certs::{Authority, Validity};
use hil_tests::consumer::{Consumer, Endpoint};
use hil_tests::oracle::{Line, Message, Value};
use hil_tests::process::program;
use hil_tests::seed::Seed;
use hil_tests::wait::wait_for;

use hal::can::{Frame, FrameId};
use v2g_edge::config::Dbc;
use v2g_edge::source::can::Decoder;

use generate::Dice;

const SOON: Duration = Duration::from_secs(30);
/// Random files, and frames of each.
const FILES: usize = 40;
const FRAMES: usize = 60;

fn binary() -> PathBuf {
    std::env::var_os("V2G_EDGE_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_v2g-edge")), PathBuf::from)
}

fn probe(arguments: &[&str]) -> Output {
    Command::new(binary()).args(["probe", "can"]).args(arguments).output().expect("the program starts")
}

fn lines(output: &Output) -> Vec<serde_json::Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// What a decoder says of one frame: message, and of each signal value and words.
type Said = (Option<String>, BTreeMap<String, (serde_json::Value, Option<String>)>);

fn said(told: &serde_json::Value) -> Said {
    let message = told["message"].as_str().map(str::to_owned);
    let signals = told["signals"].as_object().into_iter().flatten();
    let signal = |(name, told): (&String, &serde_json::Value)| {
        let words = told["text"].as_str().map(str::to_owned);
        (name.clone(), (told["value"].clone(), words))
    };
    (message, signals.map(signal).collect())
}

/// Reads the recording with both decoders: how many frames and values they agree on.
#[track_caller]
fn compare(dbc: &Path, log: &Path) -> (usize, usize) {
    let (dbc, log) = (dbc.to_str().expect("plain"), log.to_str().expect("plain"));
    let ours = lines(&probe(&["--log", log, "--dbc", dbc, "--frames", "--json"]));
    let oracle = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/can/oracle.py");
    let theirs = Command::new(program("python3")).arg(oracle).args([dbc, log]).output().expect("python3 starts");
    assert!(theirs.status.success(), "{}\n{}", String::from_utf8_lossy(&theirs.stderr), text(dbc));
    let theirs = lines(&theirs);
    assert_eq!(ours.len(), theirs.len(), "{}", text(dbc));
    let (mut frames, mut values) = (0, 0);
    for (ours, theirs) in ours.iter().zip(&theirs) {
        // A multiplexor with a value that no signal has: cantools refuses the frame, we read what does not depend on it.
        if theirs.get("error").is_some() {
            continue;
        }
        let (ours, theirs) = (said(ours), said(theirs));
        // A message of which no signal is there has no name in our answer.
        if !theirs.1.is_empty() {
            let same = ours.0 == theirs.0
                && ours.1.keys().eq(theirs.1.keys())
                && ours.1.values().zip(theirs.1.values()).all(|(ours, theirs)| is_same(ours, theirs));
            assert!(same, "ours {ours:?}\ntheirs {theirs:?}\n{}", text(dbc));
        }
        frames += 1;
        values += theirs.1.len();
    }
    (frames, values)
}

/// The same words and the same number. A number that is no 64-bit integer may differ by what reading JSON costs: one unit
/// in the last place.
fn is_same(ours: &(serde_json::Value, Option<String>), theirs: &(serde_json::Value, Option<String>)) -> bool {
    let close = match (ours.0.as_f64(), theirs.0.as_f64()) {
        (Some(ours), Some(theirs)) => (ours - theirs).abs() <= f64::EPSILON * theirs.abs(),
        _ => false,
    };
    let is_float = !theirs.0.is_i64() && !theirs.0.is_u64();
    ours.1 == theirs.1 && (ours.0 == theirs.0 || is_float && close)
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn every_kind_of_signal_has_the_value_that_cantools_reads() {
    let dir = tempfile::tempdir().expect("a directory");
    let dbc = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/can/kinds.dbc");
    let mut dice = Dice::new(Seed::from_env());
    let mut log = String::new();
    for n in 0..400 {
        let byte = |dice: &mut Dice| u8::try_from(dice.below(256)).expect("a byte");
        let (id, extended, length) =
            [(256, false, 8), (257, false, 8), (0x18fe_eeee, true, 64), (258, false, 8), (259, false, 8)]
                [dice.below(5)];
        let mut data: Vec<u8> = (0..length).map(|_| byte(&mut dice)).collect();
        if id == 258 {
            data[0] = data[0] & 0xf0 | [0, 1, 15][dice.below(3)];
        }
        if id == 259 {
            data[0] = [0, 3, 5, 9][dice.below(4)];
            data[1] = [1, 2, 16, 31][dice.below(4)];
        }
        log.push_str(&generate::line(n, id, extended, &data));
    }
    let path = dir.path().join("kinds.log");
    fs::write(&path, log).expect("written");
    let (frames, values) = compare(&dbc, &path);
    println!("{frames} frames, {values} values");
    assert!(frames == 400 && values > 1_000, "{frames} frames, {values} values");
}

#[test]
fn random_dbc_files_have_the_values_that_cantools_reads() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut dice = Dice::new(Seed::from_env());
    let (mut frames, mut values) = (0, 0);
    for n in 0..FILES {
        let (dbc, messages) = generate::dbc(&mut dice);
        let log = generate::log(&mut dice, &messages, FRAMES);
        let (dbc_path, log_path) = (dir.path().join(format!("{n}.dbc")), dir.path().join(format!("{n}.log")));
        fs::write(&dbc_path, dbc).expect("written");
        fs::write(&log_path, log).expect("written");
        let (more_frames, more_values) = compare(&dbc_path, &log_path);
        frames += more_frames;
        values += more_values;
    }
    println!("{frames} frames, {values} values");
    assert!(frames > FILES * FRAMES / 2, "{frames} of {} frames could be compared", FILES * FRAMES);
}

proptest::proptest! {
    #[test]
    fn whatever_a_random_dbc_file_encodes_is_decoded_from_it(number: u64) {
        let mut dice = Dice::new(Seed::new(number));
        let (dbc, messages) = generate::dbc(&mut dice);
        let read = Dbc::read(dbc.as_bytes()).expect("a DBC file");
        let signals: Vec<_> = read.signals().map(|(_, signal)| signal).collect();
        let decoder = Decoder::new(signals.iter().map(|signal| signal.signal.as_ref().expect("usable")));
        for message in &messages {
            let (data, expected) = generate::encode(&mut dice, message);
            let id = FrameId::new(message.id, message.extended).expect("fits");
            let frame = Frame::new(id, &data, data.len() > 8).expect("fits");
            let mut found = BTreeMap::new();
            decoder.decode(&frame, |ix, decoded| {
                found.insert(signals[ix].name.to_string(), decoded.map(|decoded| decoded.value.as_f64()));
            });
            for (name, value) in expected {
                let got = found.get(&name).copied().flatten();
                // Exact up to how often a number beyond 2^53 is rounded on the way.
                // Between two infinities there is no distance.
                let near = |got: f64| got == value || (got - value).abs() <= 4.0 * f64::EPSILON * value.abs();
                let close = got.is_some_and(near);
                proptest::prop_assert!(close, "{name}: {got:?}, not {value}\n{frame}\n{dbc}");
            }
        }
    }
}

#[test]
fn a_built_in_dbc_file_has_the_values_that_cantools_reads() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut dice = Dice::new(Seed::from_env());
    for (name, ids) in [
        ("chademo", [(0x100, false), (0x102, false), (0x109, false), (0x208, false)].as_slice()),
        ("infypower-v113", &[(0x283_f000, true), (0x284_f000, true), (0x28a_f000, true)]),
    ] {
        let mut log = String::new();
        for n in 0..100 {
            let (id, extended) = ids[dice.below(ids.len())];
            let data: Vec<u8> = (0..8).map(|_| u8::try_from(dice.below(256)).expect("a byte")).collect();
            log.push_str(&generate::line(n, id, extended, &data));
        }
        let path = dir.path().join(format!("{name}.log"));
        fs::write(&path, log).expect("written");
        let dbc = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("configs/devices/{name}.dbc"));
        let (frames, values) = compare(&dbc, &path);
        assert!(frames == 100 && values > 100, "{name}: {frames} frames, {values} values");
    }
}

#[test]
fn probe_shows_ids_rates_load_and_values_of_a_recording() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = dir.path().join("bus.log");
    fs::write(&log, session(Duration::from_secs(2), -14)).expect("written");
    let log = log.to_str().expect("plain");
    let output = probe(&["--log", log, "--dbc", "chademo.dbc", "--bitrate", "500000", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let [report] = lines(&output).try_into().expect("one object");
    let ids: Vec<&str> = report["ids"].as_array().expect("a list").iter().filter_map(|id| id["id"].as_str()).collect();
    assert_eq!(ids, ["100", "102", "109", "208"]);
    let discharge = &report["ids"][3];
    assert_eq!(discharge["signals"]["PresentDischargeCurrent"]["value"], 14);
    assert!((9.0..=11.5).contains(&discharge["per_second"].as_f64().expect("a number")), "{discharge}");
    // 40 frames of 111 bits a second on 500 kbit/s are 0.9 %.
    assert!((0.008..0.011).contains(&report["load"].as_f64().expect("a number")), "{report}");

    fs::write(log, "noise\n(1.0) can0 109#00\n").expect("written");
    assert_eq!(probe(&["--log", log]).status.code(), Some(1), "a line that cannot be read is told");
    assert_eq!(probe(&["--log", "/nowhere/at.all"]).status.code(), Some(1));
    assert_eq!(probe(&["--log", log, "--dbc", "/nowhere/at.dbc"]).status.code(), Some(2));
}

/// CHAdeMO frames at 100 ms: 400 V; the current positive towards the vehicle, negative from it; 45 % SoC.
fn session(length: Duration, current: i16) -> String {
    let mut text = String::new();
    let (out, back) = (format!("{:02X}", current.max(0)), format!("{:02X}", 255 + current.min(0)));
    for cycle in 0..length.as_millis() / 100 {
        for (offset, frame) in [
            (0, "100#00000000A4016400".to_owned()),
            (10, "102#02A4011400812D00".to_owned()),
            (20, format!("109#029001{out}01050000")),
            (30, format!("208#{back}5E01F100000000")),
        ] {
            let ms = cycle * 100 + offset;
            text.push_str(&format!("({}.{:03}000) can0 {frame}\n", 1_700_000_000 + ms / 1000, ms % 1000));
        }
    }
    text
}

/// A broker, a consumer, and an agent with a CAN bus that is a recording.
struct Rig {
    // Dropped in this order: the agent first, its directory last.
    agent: Agent,
    consumer: Consumer,
    _broker: Broker,
    _dir: tempfile::TempDir,
}

impl Rig {
    fn start(log: &str, extra: &str) -> Self {
        Self::start_with(log, "bitrate = 500000", extra)
    }

    fn start_with(log: &str, settings: &str, extra: &str) -> Self {
        Self::start_beside(log, settings, extra, |_| {})
    }

    /// The same with files beside the configuration.
    fn start_beside(log: &str, settings: &str, extra: &str, beside: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        beside(dir.path());
        fs::write(dir.path().join("bus.log"), log).expect("written");
        let authority = Authority::new(&dir.path().join("tls"), "depot ca").expect("a ca");
        let server = authority.server(Validity::Good).expect("a server certificate");
        let broker = Broker::start(&dir.path().join("broker"), &server, Options::default()).expect("a broker");
        let endpoint = Endpoint::Plain(broker.plain_port());
        let consumer = Consumer::start(dir.path(), &endpoint, "judge", &["v2g/#"]).expect("a consumer");
        let log = dir.path().join("bus.log");
        let setup = Setup {
            gateway: "gw-can".to_owned(),
            site: "depot-a".to_owned(),
            brokers: vec![broker.url()],
            tls: authority.client("gw-can", Validity::Good).expect("a client certificate"),
            meters: vec![],
            line: None,
            keep_alive: "5s",
            uplink: String::new(),
            extra: format!("[bus.can-a]\ncan = {{ log = {log:?}, {settings} }}\n{extra}"),
        };
        let mut agent = Agent::new(&binary(), dir.path(), &setup).expect("a configuration");
        agent.start().expect("the agent starts");
        Self { agent, consumer, _broker: broker, _dir: dir }
    }

    fn lines(&self) -> Vec<Line> {
        self.consumer.look(|messages| messages.iter().flat_map(Message::device_lines).collect())
    }

    fn texts(&self) -> String {
        let text = |message: &Message| String::from_utf8_lossy(&message.payload).into_owned();
        self.consumer.look(|messages| messages.iter().map(text).collect::<Vec<_>>().join("\n"))
    }

    #[track_caller]
    fn wait_for_line(&mut self, what: &str, holds: impl Fn(&Line) -> bool) -> Line {
        let look = || {
            let lines = self.lines();
            let last = lines.last().map(|line| format!("{line:?}"));
            lines.into_iter().rev().find(&holds).ok_or_else(|| format!("{last:?}\n{}", self.agent.log_tail()))
        };
        wait_for(SOON, what, look).unwrap_or_else(|late| panic!("{late}"))
    }
}

fn number(line: &Line, field: &str) -> f64 {
    line.field(field).and_then(Value::number).unwrap_or_else(|| panic!("no {field} in {line:?}"))
}

const CHADEMO: &str = "[device.dc-1]\nkind = \"evse\"\nbus = \"can-a\"\nprofile = \"chademo\"\n";

#[test]
fn a_recorded_discharge_arrives_negative_with_kw_v_a_and_soc() {
    let mut rig = Rig::start(&session(Duration::from_secs(120), -14), CHADEMO);
    let line =
        rig.wait_for_line("a discharge", |line| line.field("power_flow").is_some_and(|_| line.field("soc").is_some()));
    assert_eq!(line.tag("direction"), Some("V2G"), "{line:?}");
    assert!((number(&line, "power_flow") + 5.6).abs() < 1e-9, "{line:?}");
    assert!((number(&line, "current") + 14.0).abs() < 1e-9, "{line:?}");
    assert!((number(&line, "voltage") - 400.0).abs() < 1e-9, "{line:?}");
    assert!((number(&line, "soc") - 45.0).abs() < 1e-9, "{line:?}");
    assert_eq!(line.field("state"), Some(&Value::Text("charging".to_owned())), "{line:?}");
    let status = rig.agent.status().expect("it runs");
    assert_eq!(status.text("/buses/can-a/state"), Some("active"), "{status:?}");
    let silent = rig.lines().iter().any(|line| line.field("missing").is_some());
    assert!(!silent, "what is not in this session is not missing: {}", rig.texts());
}

#[test]
fn a_recorded_charge_arrives_positive_and_its_end_is_missing_not_old() {
    let mut rig = Rig::start(&session(Duration::from_secs(6), 50), CHADEMO);
    let line = rig.wait_for_line("a charge", |line| line.field("power_flow").is_some());
    assert_eq!(line.tag("direction"), Some("G2V"), "{line:?}");
    assert!((number(&line, "power_flow") - 20.0).abs() < 1e-9, "{line:?}");
    let stale = Value::Text("stale".to_owned());
    let end = rig.wait_for_line("its end", |line| line.field("missing") == Some(&stale));
    assert!(end.field("power_flow").is_none() && end.time_ns > line.time_ns, "{end:?}");
    let told = |text: &str| wait_for(SOON, text, || if rig.texts().contains(text) { Ok(()) } else { Err(rig.texts()) });
    told("kind=device_silent").unwrap_or_else(|late| panic!("{late}"));
}

#[test]
fn a_recording_that_is_played_fast_loses_no_frame_and_ends_as_it_would_have() {
    let mut rig =
        Rig::start_with(&session(Duration::from_secs(300), -14), "speed = \"fast\", bitrate = 500000", CHADEMO);
    let line = rig.wait_for_line("the discharge", |line| line.field("power_flow").is_some());
    assert!((number(&line, "power_flow") + 5.6).abs() < 1e-9, "{line:?}");
    let stale = Value::Text("stale".to_owned());
    rig.wait_for_line("its end", |line| line.field("missing") == Some(&stale));
    let status = rig.agent.status().expect("it runs");
    assert_eq!(status.number("/devices/dc-1/answers"), Some(4 * 10 * 300), "{status:?}");
    assert_eq!(status.number("/pipeline/samples_shed"), Some(0), "{status:?}");
}

#[test]
fn a_bus_that_goes_off_and_comes_back_is_two_events() {
    let mut log = session(Duration::from_secs(3), 10);
    log.push_str(
        "(1700000003.000000) can0 20000040#0000000000000000\n(1700000004.000000) can0 20000100#0000000000000000\n",
    );
    log.push_str(&session(Duration::from_secs(3), 10).replace("(17000000", "(17000001"));
    let rig = Rig::start(&log, CHADEMO);
    for text in [r#"state="bus_off""#, "kind=bus_restarted", r#"state="active""#] {
        let look = || if rig.texts().contains(text) { Ok(()) } else { Err(rig.texts()) };
        wait_for(SOON, text, look).unwrap_or_else(|late| panic!("{late}"));
    }
}
