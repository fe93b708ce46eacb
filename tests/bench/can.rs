//! CAN: what decoding a frame costs, what a full bus of 1 Mbit/s costs the whole agent, and how late windows are at the broker.
//!
//! `cargo bench --features bench --bench can`. The first part decodes frames in a loop; the second runs the real agent on a
//! recording of 8,000 frames a second, all of them planned, decoded, aggregated and journaled, and reads what the kernel
//! says of its processor time; the third runs it at three rates to a mosquitto, alone and beside a busy machine, and takes the time from the
//! end of each window to its subscriber. Prints all, and one line of JSON.
#![allow(clippy::cast_precision_loss, clippy::disallowed_methods, clippy::disallowed_types, reason = "a measurement")]

mod broker;
#[path = "uplink/counter.rs"]
#[allow(dead_code, reason = "the bench of the uplink takes more of it")]
mod counter;
#[path = "can/windows.rs"]
mod windows;

use std::fmt::Write as _;
use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hal::can::{Frame, FrameId};
use serde_json::{Value, json};
use v2g_edge::config::{Dbc, built_in_dbc};
use v2g_edge::source::can::Decoder;

/// What a bus of 1 Mbit/s carries: 11-bit ids, 8 bytes.
const FRAMES_PER_S: u64 = 8_000;
/// Of the recording; the middle of it is measured.
const RECORDED_S: u64 = 24;
const MEASURED: Duration = Duration::from_secs(16);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("nothing is measured without `cargo bench`");
        return;
    }
    let (ns_of_frame, signals) = decode();
    println!("decoding: {ns_of_frame:.0} ns a frame of {signals:.1} signals, {:.1} ns a signal", ns_of_frame / signals);
    let agent = whole_agent();
    println!(
        "the agent on {FRAMES_PER_S} frames/s: {:.1} % of one core, {} frames read, {} lost, {} MiB resident; \
         {} windows in {:.2} s, closed at most {:.1} ms after their end",
        agent["core_percent"],
        agent["frames"],
        agent["lost"],
        agent["rss_mib"],
        agent["windows"],
        agent["seconds"].as_f64().unwrap_or(0.0),
        agent["late_max_ms"].as_f64().unwrap_or(f64::NAN)
    );
    let rates = [400, 1_000, FRAMES_PER_S].into_iter().flat_map(|rate| [(rate, false), (rate, true)]);
    let arrivals: Vec<Value> = rates.map(|(rate, beside_compiler)| windows::measure(rate, beside_compiler)).collect();
    for told in &arrivals {
        println!(
            "{} frames/s{}: {} of {} windows at the subscriber, after their end p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
            told["frames_per_second"],
            if told["beside_compiler"] == true { " beside a compiler" } else { "" },
            told["windows"],
            told["of"],
            told["p50_ms"].as_f64().unwrap_or(f64::NAN),
            told["p99_ms"].as_f64().unwrap_or(f64::NAN),
            told["max_ms"].as_f64().unwrap_or(f64::NAN)
        );
    }
    let decoded = json!({ "decode_ns_per_frame": ns_of_frame, "signals_per_frame": signals });
    println!("{}", json!({ "decoding": decoded, "agent": agent, "windows": arrivals }));
}

/// The messages of a charging session with V2H: 8 bytes each, every signal of them.
const SESSION: [(u16, [u8; 8]); 8] = [
    (0x100, [0, 0, 0, 0, 0xa4, 1, 100, 0]),
    (0x101, [0, 0xff, 60, 30, 0, 0x90, 1, 0]),
    (0x102, [2, 0xa4, 1, 20, 0, 0x81, 45, 0]),
    (0x108, [1, 0xf4, 1, 125, 0xa4, 1, 0, 0]),
    (0x109, [2, 0x90, 1, 0, 1, 5, 0, 60]),
    (0x200, [0xe1, 0, 0, 0, 0x2c, 1, 20, 0]),
    (0x208, [0xf1, 0x5e, 1, 0xf1, 0, 0, 0, 0]),
    (0x201, [1, 30, 0, 0x90, 1, 0, 0, 0]),
];

/// ns for a frame, and signals in it.
fn decode() -> (f64, f64) {
    let dbc = Dbc::read(built_in_dbc("chademo.dbc").expect("built in").as_bytes()).expect("a DBC file");
    let decoder = Decoder::new(dbc.signals().filter_map(|(_, signal)| signal.signal.as_ref().ok()));
    let frames: Vec<Frame> = SESSION
        .iter()
        .map(|(id, data)| {
            Frame::new(FrameId::new((*id).into(), false).expect("11 bits"), data, false).expect("8 bytes")
        })
        .collect();
    let rounds = 200_000;
    let mut signals = 0_u64;
    let began = Instant::now();
    for _ in 0..rounds {
        for frame in &frames {
            decoder.decode(black_box(frame), |_, decoded| {
                black_box(decoded);
                signals += 1;
            });
        }
    }
    let count = rounds * frames.len();
    (began.elapsed().as_nanos() as f64 / count as f64, signals as f64 / count as f64)
}

/// A recording of the session at this rate; it begins at this second.
fn recording(frames_per_s: u64, seconds: u64, begins_s: u64) -> String {
    let mut log = String::new();
    for n in 0..frames_per_s * seconds {
        let us = n * 1_000_000 / frames_per_s;
        let (id, data) = SESSION[usize::try_from(n).expect("small") % SESSION.len()];
        let hex: String = data.iter().map(|byte| format!("{byte:02X}")).collect();
        writeln!(log, "({}.{:06}) can0 {id:03X}#{hex}", begins_s + us / 1_000_000, us % 1_000_000).expect("written");
    }
    log
}

/// Of an agent that reads `bus.log` in this directory, and sends to this port of loopback.
fn configuration(dir: &Path, port: u16) -> PathBuf {
    fs::create_dir(dir.join("state")).expect("made");
    let config = dir.join("gateway.toml");
    let at = |name: &str| dir.join(name).display().to_string();
    let toml = format!(
        "[gateway]\nid = \"bench\"\nsite = \"bench\"\nstate_dir = \"{}\"\n[api]\nsocket = \"{}\"\n\
         [uplink]\nbrokers = [\"mqtt://127.0.0.1:{port}\"]\n\
         [bus.a]\ncan = {{ log = \"{}\", bitrate = 1000000 }}\n\
         [device.dc]\nkind = \"evse\"\nbus = \"a\"\nprofile = \"chademo\"\n",
        at("state"),
        at("api.sock"),
        at("bus.log")
    );
    fs::write(&config, toml).expect("written");
    config
}

/// Frames that were read.
fn frames(status: &Value) -> Option<u64> {
    status["status"]["devices"]["dc"]["answers"].as_u64().or(status["devices"]["dc"]["answers"].as_u64())
}

fn whole_agent() -> Value {
    let dir = tempfile::tempdir().expect("a directory");
    let log = recording(FRAMES_PER_S, RECORDED_S, 1_700_000_000);
    fs::write(dir.path().join("bus.log"), log).expect("written");
    let path = dir.path();
    // Nobody listens there.
    let config = configuration(path, 9);
    let agent = Agent(
        Command::new(env!("CARGO_BIN_EXE_v2g-edge"))
            .args(["run", "--config"])
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(fs::File::create(path.join("agent.log")).expect("a file"))
            .spawn()
            .expect("the agent starts"),
    );
    std::thread::sleep(Duration::from_secs(4));
    let (before, frames_before) = (agent.cpu(), Agent::status(&config));
    let began = Instant::now();
    std::thread::sleep(MEASURED);
    let (after, status) = (agent.cpu(), Agent::status(&config));
    let took = began.elapsed();
    let bus = if status["buses"].is_object() { &status["buses"]["a"] } else { &status["status"]["buses"]["a"] };
    let pipeline = |status: &Value, fact: &str| {
        [&status["pipeline"], &status["status"]["pipeline"]].into_iter().find_map(|facts| facts[fact].as_f64())
    };
    let windows = pipeline(&status, "windows").zip(pipeline(&frames_before, "windows"));
    json!({
        "core_percent": after.saturating_sub(before).as_secs_f64() / took.as_secs_f64() * 100.0,
        "frames": frames(&status).zip(frames(&frames_before)).map(|(after, before)| after - before),
        "frames_per_second": bus["frames_per_second"],
        "load": bus["load"],
        "lost": bus["dropped"].as_f64().unwrap_or(0.0) + pipeline(&status, "samples_shed").unwrap_or(0.0),
        // A window of 250 ms ends four times a second.
        "windows": windows.map(|(after, before)| after - before),
        "seconds": took.as_secs_f64(),
        "late_max_ms": pipeline(&status, "late_max_ms"),
        "rss_mib": agent.rss_mib(),
    })
}

/// The agent's process; dropping it kills it.
struct Agent(Child);

impl Agent {
    /// User and system time so far.
    fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).expect("it runs");
        let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
        // utime and stime are fields 14 and 15; the state is field 3. A tick is 10 ms (USER_HZ).
        let ticks = |at: usize| fields[at].parse::<u64>().expect("ticks");
        Duration::from_millis((ticks(11) + ticks(12)) * 10)
    }

    fn rss_mib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("KiB") / 1024
    }

    /// What it says of itself; null as long as it does not answer.
    fn status(config: &Path) -> Value {
        let output =
            Command::new(env!("CARGO_BIN_EXE_v2g-edge")).args(["status", "--json", "--config"]).arg(config).output();
        serde_json::from_slice(&output.expect("it is there").stdout).unwrap_or(Value::Null)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
