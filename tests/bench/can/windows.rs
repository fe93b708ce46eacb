//! How long after its end a window is at the broker, beside a busy machine: the agent on a dense recording, a mosquitto, a subscriber.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hil_tests::port::free_port;
use serde_json::{Value, json};

use super::broker::mosquitto;
use super::counter::count;
use super::{Agent, recording};

/// Of the recording.
const SECONDS: u64 = 12;
/// Windows of 250 ms in as many seconds.
const WINDOWS: u64 = 4 * SECONDS;

/// Processes that do nothing and never rest, as many as there are processors and as many again: a compiler that takes all it can get.
struct Compiler(Vec<Child>);

impl Compiler {
    fn start() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let busy = |_| Command::new("sh").args(["-c", "while :; do :; done"]).spawn().expect("a shell");
        Self((0..2 * processors).map(busy).collect())
    }
}

impl Drop for Compiler {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// At this many frames a second: windows of [`WINDOWS`] that came live, and how long after their end.
pub(crate) fn measure(frames_per_s: u64, beside_compiler: bool) -> Value {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, port) = (dir.path(), free_port());
    let _broker = mosquitto(path, "central", port, "");
    let counted = count(port, "v2g/#");
    // Times of no day: it is of the moment at which it is played.
    fs::write(path.join("bus.log"), recording(frames_per_s, SECONDS, 1)).expect("written");
    let config = super::configuration(path, port);
    let _compiler = beside_compiler.then(Compiler::start);
    let agent = start(&config, path);
    let begin = Instant::now();
    let frames = || super::frames(&Agent::status(&config)).unwrap_or(0);
    while frames() < frames_per_s * SECONDS && begin.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(500));
    }
    // The last window is on its way.
    std::thread::sleep(Duration::from_secs(2));
    drop(agent);
    let mut after_ns = counted.live_ns.lock().expect("nobody panics").clone();
    after_ns.sort_unstable();
    let ms = |share: usize| after_ns.get((after_ns.len().max(1) - 1) * share / 100).map(|ns| *ns as f64 / 1e6);
    json!({
        "frames_per_second": frames_per_s,
        "beside_compiler": beside_compiler,
        "windows": after_ns.len(),
        "of": WINDOWS,
        "p50_ms": ms(50),
        "p99_ms": ms(99),
        "max_ms": ms(100),
    })
}

fn start(config: &Path, dir: &Path) -> Agent {
    Agent(
        Command::new(env!("CARGO_BIN_EXE_v2g-edge"))
            .args(["run", "--config"])
            .arg(config)
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.join("agent.log")).expect("a file"))
            .spawn()
            .expect("the agent starts"),
    )
}
