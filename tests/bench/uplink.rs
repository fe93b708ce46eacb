//! The uplink against a real mosquitto: a backlog of a million points while live data flows, and the same points through
//! a mosquitto bridge, one message for each reading.
//!
//! `cargo bench --features bench --bench uplink`. `V2G_BENCH_POINTS` takes another number of points. Both senders find the
//! same central broker and the same counting subscriber. Prints a table, and one line of JSON.
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a measurement"
)]

#[path = "uplink/bridge.rs"]
mod bridge;
mod broker;
#[path = "uplink/counter.rs"]
mod counter;
#[allow(dead_code, reason = "the journal's bench takes more of it")]
mod depot;
#[path = "uplink/drain.rs"]
mod drain;

use std::path::Path;

use hil_tests::port;
use hil_tests::process::Process;
use serde_json::json;

pub(crate) use broker::mosquitto;

/// 17 minutes of a depot with 1,000 points a second, 3 hours of one with 100.
const POINTS: u64 = 1_000_000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.iter().any(|argument| argument == "--test") || !arguments.iter().any(|argument| argument == "--bench")
    {
        println!("nothing is measured without `cargo bench`");
        return;
    }
    let points = std::env::var("V2G_BENCH_POINTS").ok().and_then(|text| text.parse().ok()).unwrap_or(POINTS);
    let dir = tempfile::tempdir().expect("a directory");
    println!("{points} points, on {} processors", std::thread::available_parallelism().map_or(1, usize::from));

    let broker = Central::start(&dir.path().join("unbounded"));
    let free = drain::measure(dir.path(), &broker, points, 1 << 30);
    drop(broker);
    println!("agent, as fast as the broker takes it: {free}");
    let broker = Central::start(&dir.path().join("bounded"));
    let paced = drain::measure(dir.path(), &broker, points, 2 << 20);
    drop(broker);
    println!("agent, at the default rate of 2 MiB/s: {paced}");
    let bridge = bridge::measure(dir.path(), points);
    println!("mosquitto bridge, a message for each reading: {bridge}");
    let factor = free.points_per_s() / bridge.points_per_s();
    println!("points/s: {factor:.1} times the bridge's");
    let told = json!({ "points": points, "agent": free, "agent_paced": paced, "bridge": bridge, "factor": factor });
    println!("{told}");
}

/// The broker at the centre: plain, on loopback, with room for everything.
pub(crate) struct Central {
    pub(crate) port: u16,
    _process: Process,
}

impl Central {
    fn start(dir: &Path) -> Self {
        Self::start_at(dir, port::free_port())
    }

    pub(crate) fn start_at(dir: &Path, port: u16) -> Self {
        std::fs::create_dir_all(dir).expect("ours");
        Self { port, _process: mosquitto(dir, "central", port, "") }
    }
}

/// CPU seconds that a process has used: user and system (proc(5), fields 14 and 15; 100 ticks a second on Linux).
pub(crate) fn cpu_s(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = after_name.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}
