//! The journal against a plain file with CRC and fsync, and against redb, in one run.
//!
//! `cargo bench --features bench`: some 300 MB on disk. `V2G_BENCH_FULL=1`: a backlog of 1 GB and a churn of 4 GB.
//! `V2G_BENCH_DIR` names a directory on the disk to be measured (default: `target/bench`). Every measurement is a process
//! of its own, so that memory and bytes written are its own. Prints a table, and one line of JSON.
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a measurement"
)]

mod depot;
mod stores;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use v2g_edge::journal::{BUFFER_ALIGN, BUFFER_BYTES};

use depot::Depot;

/// As in the firmware.
#[global_allocator]
static HEAP: hal::KeepingHeap<BUFFER_BYTES, BUFFER_ALIGN> = hal::KeepingHeap::new();

const MB: u64 = 1_000_000;
/// 2.5 KB entries: 50 charge points and a meter with 60 points.
const ENTRY_CHARGERS: u16 = 50;
const ENTRY_METER_POINTS: u16 = 60;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--part") {
        println!("{}", stores::part(&arguments[at + 1..]));
        return;
    }
    if arguments.iter().any(|argument| argument == "--test") || !arguments.iter().any(|argument| argument == "--bench")
    {
        println!("nothing is measured without `cargo bench`");
        return;
    }
    let root = std::env::var_os("V2G_BENCH_DIR").map_or_else(|| PathBuf::from("target/bench"), PathBuf::from);
    let full = std::env::var_os("V2G_BENCH_FULL").is_some();
    let (append, backlog, churn) =
        if full { (500 * MB, 1_000 * MB, 4_000 * MB) } else { (125 * MB, 250 * MB, 500 * MB) };
    let measure = |part: &str, store: &str, bytes: u64| {
        let dir = root.join(store);
        let _ = std::fs::remove_dir_all(&dir);
        let told = child(part, store, &dir, bytes);
        let _ = std::fs::remove_dir_all(&dir);
        told
    };
    let mut told = json!({});
    for store in ["plain", "ring", "redb"] {
        let dir = root.join(store);
        let _ = std::fs::remove_dir_all(&dir);
        told[store] = json!({ "append": child("append", store, &dir, append) });
        let _ = std::fs::remove_dir_all(&dir);
        told[store]["fill"] = child("append", store, &dir, backlog);
        told[store]["open"] = child("drain", store, &dir, 0);
        told[store]["churn"] = measure("churn", store, churn);
    }
    told["compressed"] = measure("append", "plain+zstd", append);
    told["noise"] = measure("noise", "ring", append);
    told["points"] = stores::points(&root.join("points"));
    let _ = std::fs::remove_dir_all(&root);
    print(&told);
    println!("{told}");
}

fn child(part: &str, store: &str, dir: &Path, bytes: u64) -> Value {
    std::fs::create_dir_all(dir).expect("a directory");
    let mut command = Command::new(std::env::current_exe().expect("this file"));
    let output = command.args(["--part", part, store]).arg(dir).arg(bytes.to_string()).output().expect("it runs");
    assert!(output.status.success(), "{part} {store}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// 2.5 KB entries of consecutive windows, as bytes, and how many points each has.
fn records() -> (Vec<Vec<u8>>, u64) {
    let mut depot = Depot::new(ENTRY_CHARGERS, ENTRY_METER_POINTS);
    let points = depot.window().points();
    // One at a time: what a measurement holds before it begins counts as its memory.
    ((0..256).map(|_| v2g_edge::journal::bench::encode(&depot.window())).collect(), points)
}

fn print(told: &Value) {
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    println!(
        "{:<8} {:>12} {:>6} {:>8} | {:>8} {:>10} {:>9} {:>12} | {:>12} {:>9}",
        "store", "entries/s", "WA", "RSS MB", "MB", "open s", "RSS MB", "drain/s", "churn ÷ live", "RSS MB"
    );
    for store in ["plain", "ring", "redb"] {
        let of = &told[store];
        println!(
            "{store:<8} {:>12.0} {:>6.2} {:>8.1} | {:>8.0} {:>10.3} {:>9.1} {:>12.0} | {:>12.2} {:>9.1}",
            number(&of["append"]["per_s"]),
            number(&of["append"]["write_amplification"]),
            number(&of["append"]["rss_mb"]),
            number(&of["fill"]["payload_mb"]),
            number(&of["open"]["open_s"]),
            number(&of["open"]["rss_mb"]),
            number(&of["open"]["per_s"]),
            number(&of["churn"]["peak_to_live"]),
            number(&of["churn"]["rss_mb"]),
        );
    }
    let ring = |other: &str| number(&told["ring"]["append"]["per_s"]) / number(&told[other]["append"]["per_s"]);
    let compressed = number(&told["compressed"]["per_s"]);
    let mb_s = number(&told["plain"]["append"]["per_s"]) * number(&told["plain"]["append"]["entry_bytes"]) / 1e6;
    println!("this disk takes {mb_s:.0} MB/s in that way");
    println!("ring: {:.2} of the plain file, {:.2} of redb", ring("plain"), ring("redb"));
    println!(
        "ring: {:.2} of a plain file with the same compression ({compressed:.0} entries/s)",
        number(&told["ring"]["append"]["per_s"]) / compressed
    );
    println!(
        "ring, entries that nothing makes shorter: {:.0} entries/s, WA {:.2}",
        number(&told["noise"]["per_s"]),
        number(&told["noise"]["write_amplification"])
    );
    println!("a typical depot, 250 points a window:");
    for (name, value) in told["points"].as_object().into_iter().flatten() {
        println!("  {:<44} {:>10.2}", name.replace('_', " "), number(value));
    }
}
