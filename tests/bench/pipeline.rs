//! The agent's pipeline with 100 to 10,000 vehicles: normaliser, aggregator, deriver, a journal on disk and an uplink to a real mosquitto,
//! as an agent runs them. Only the buses are simulated: each vehicle is read twice a second, 4 quantities at a time, with charging
//! sessions that begin and end.
//!
//! `cargo bench --features bench --bench pipeline`: two and a half minutes. `V2G_BENCH_SECONDS` takes another length of each part.
//! Each part is a process of its own; the broker and the subscriber are in others, and the thread that simulates the buses is counted
//! for itself. Prints a table, and one line of JSON. Ends with 1 if a window is late, if a point is missing, or if what is asked of
//! 10,000 vehicles in one process is not reached.
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a measurement"
)]

mod broker;
#[allow(dead_code, reason = "the uplink's bench takes more of it")]
#[path = "uplink/counter.rs"]
mod counter;
#[path = "pipeline/fleet.rs"]
mod fleet;
#[path = "pipeline/part.rs"]
mod part;
#[path = "pipeline/subscriber.rs"]
mod subscriber;

use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use hil_tests::port;
use serde_json::json;

use part::{Part, Spent};
use subscriber::Seen;

/// Gateways in one process, and vehicles of each. A plan has at most 1,000 devices: 10,000 vehicles are ten gateways. The last is
/// what no plan allows, to see where it ends.
const PARTS: [(usize, usize); 4] = [(1, 100), (1, 1_000), (10, 1_000), (1, 10_000)];
/// So many vehicles in a process are asked for …
const ASKED_VEHICLES: usize = 10_000;
/// … with 99 of 100 windows at the broker in this time …
const ASKED_P99_MS: f64 = 100.0;
/// … on less than so many processors.
const ASKED_CORES: f64 = 2.0;
const SECONDS: u64 = 30;

fn main() -> ExitCode {
    if let Some((part, port, dir)) = Part::of_environment() {
        part.run(port, &dir);
        return ExitCode::SUCCESS;
    }
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("nothing is measured without `cargo bench`");
        return ExitCode::SUCCESS;
    }
    let seconds = std::env::var("V2G_BENCH_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(SECONDS);
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{seconds} s each, on {processors} processors; load before: {}", load());
    println!(
        "{:>13}  {:>8}  {:>7} {:>5} {:>7}  {:>7} {:>7} {:>7}  {:>6} {:>6}  {:>8} {:>8}  {:>7}",
        "vehicles",
        "points/s",
        "windows",
        "late",
        "missing",
        "p50 ms",
        "p99 ms",
        "max ms",
        "cores",
        "buses",
        "ns/point",
        "growth",
        "RSS MB"
    );
    let (mut told, mut first, mut is_well) = (Vec::new(), None, true);
    for (gateways, vehicles) in PARTS {
        let measured = Measured::of(Part { gateways, vehicles, seconds });
        let growth = measured.ns_per_point() / *first.get_or_insert(measured.ns_per_point());
        measured.print(growth);
        is_well &= measured.is_well();
        told.push(measured.json(growth));
    }
    println!("{}", json!({ "seconds": seconds, "processors": processors, "load": load(), "parts": told }));
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The mean number of processes that ran or waited for a processor: in 1, 5 and 15 minutes.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

/// What was seen of a part from outside and from inside.
struct Measured {
    part: Part,
    seen: Seen,
    spent: Spent,
}

impl Measured {
    fn of(part: Part) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let port = port::free_port();
        let broker = broker::mosquitto(dir.path(), "central", port, "");
        let subscriber = subscriber::subscribe(port);
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        part.put_into(&mut command, port, dir.path());
        let output = command.stderr(Stdio::inherit()).output().expect("this program starts");
        assert!(output.status.success(), "a part ended with {}", output.status);
        let spent: Spent = serde_json::from_slice(&output.stdout).expect("what it has spent");
        // It has ended, and so all that it sent has been acknowledged; the subscriber may be behind.
        let within = std::time::Instant::now() + Duration::from_secs(10);
        while subscriber.points() < spent.points && std::time::Instant::now() < within {
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(broker);
        Self { part, seen: subscriber.end(), spent }
    }

    fn ns_per_point(&self) -> f64 {
        self.spent.agent_cpu_s * 1e9 / self.spent.points as f64
    }

    fn missing(&self) -> i64 {
        self.spent.points.cast_signed() - self.seen.points.cast_signed()
    }

    fn cores(&self) -> f64 {
        self.spent.agent_cpu_s / self.spent.seconds
    }

    /// Of one gateway in a size that no plan has nothing is asked.
    fn is_well(&self) -> bool {
        let vehicles = self.part.gateways * self.part.vehicles;
        let is_asked = vehicles == ASKED_VEHICLES && self.part.gateways > 1;
        let is_complete = self.seen.late() == 0 && self.missing() == 0 && self.spent.shed == 0;
        let is_quick = self.seen.quantile_ms(0.99) < ASKED_P99_MS && self.cores() < ASKED_CORES;
        self.part.vehicles > 1_000 || (is_complete && (is_quick || !is_asked))
    }

    fn print(&self, growth: f64) {
        let Self { part, seen, spent } = self;
        println!(
            "{:>13}  {:>8.0}  {:>7} {:>5} {:>7}  {:>7.1} {:>7.1} {:>7.1}  {:>6.3} {:>6.3}  {:>8.0} {growth:>8.2}  {:>7.1}",
            format!("{} x {}", part.gateways, part.vehicles),
            spent.points as f64 / part.seconds as f64,
            seen.latencies_ns.len(),
            seen.late(),
            self.missing(),
            seen.quantile_ms(0.5),
            seen.quantile_ms(0.99),
            seen.quantile_ms(1.0),
            self.cores(),
            spent.buses_cpu_s / spent.seconds,
            self.ns_per_point(),
            spent.rss_peak_bytes as f64 / 1e6,
        );
        println!("{:>13}  {}", "", spent.threads_in_words());
    }

    fn json(&self, growth: f64) -> serde_json::Value {
        let Self { part, seen, spent } = self;
        json!({
            "gateways": part.gateways, "vehicles": part.vehicles, "points": spent.points, "missing": self.missing(),
            "windows": seen.latencies_ns.len(), "late": seen.late(), "p50_ms": seen.quantile_ms(0.5),
            "p99_ms": seen.quantile_ms(0.99), "max_ms": seen.quantile_ms(1.0), "closed_late_max_ms": spent.closed_late_max_ms,
            "bytes_per_point": seen.bytes as f64 / seen.points as f64, "cores": self.cores(), "ns_per_point": self.ns_per_point(),
            "growth": growth, "spent": spent,
        })
    }
}
