//! One part of the measurement, in a process of its own: some gateways, each on its thread, and a thread that plays all buses.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use hal::{Clock, LinuxClock};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use v2g_edge::agent::bench::Gateway;
use v2g_edge::health::UplinkState;
use v2g_edge::measure::{Sample, Stamp};

use super::fleet::{self, Fleet, POLL, QUANTITIES};

/// The buses are looked at so often.
const TICK: Duration = Duration::from_millis(5);
const BUSES: &str = "buses";
/// See [`Part::of_environment`].
const VARIABLE: &str = "V2G_BENCH_PIPELINE_PART";

#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) gateways: usize,
    pub(super) vehicles: usize,
    pub(super) seconds: u64,
}

/// What it took, by itself.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Spent {
    /// Points that were handed over.
    pub(super) points: u64,
    pub(super) seconds: f64,
    /// Of all threads but that of the buses.
    pub(super) agent_cpu_s: f64,
    pub(super) buses_cpu_s: f64,
    /// By the names of threads that have not ended.
    pub(super) threads_cpu_s: BTreeMap<String, f64>,
    pub(super) rss_peak_bytes: u64,
    pub(super) shed: u64,
    pub(super) closed_late_max_ms: f64,
    /// Samples that found the queue full, and waited.
    pub(super) waited: u64,
}

impl Spent {
    pub(super) fn threads_in_words(&self) -> String {
        let threads = self.threads_cpu_s.iter().filter(|(_, cpu_s)| **cpu_s > 0.02);
        let threads: Vec<String> = threads.map(|(name, cpu_s)| format!("{name} {:.3}", cpu_s / self.seconds)).collect();
        format!(
            "cores by thread: {}; closed {:.0} ms after its end at most; {} samples waited, {} shed",
            threads.join(", "),
            self.closed_late_max_ms,
            self.waited,
            self.shed
        )
    }
}

struct Running {
    samples: mpsc::Sender<Sample>,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<(u64, f64)>,
}

impl Part {
    /// The part that this process is, if it is one: `gateways vehicles seconds port directory`.
    pub(super) fn of_environment() -> Option<(Self, u16, PathBuf)> {
        let text = std::env::var(VARIABLE).ok()?;
        let words: Vec<&str> = text.splitn(5, ' ').collect();
        let number = |n: usize| words[n].parse().expect("a number");
        let part = Self { gateways: number(0), vehicles: number(1), seconds: number(2) as u64 };
        Some((part, u16::try_from(number(3)).expect("a port"), PathBuf::from(words[4])))
    }

    pub(super) fn put_into(self, command: &mut Command, port: u16, dir: &Path) {
        let Self { gateways, vehicles, seconds } = self;
        command.env(VARIABLE, format!("{gateways} {vehicles} {seconds} {port} {}", dir.display()));
    }

    /// Runs it, and prints what it took.
    pub(super) fn run(self, port: u16, dir: &Path) {
        let (tell, ready) = channel();
        let plans: Vec<_> = (0..self.gateways).map(|n| fleet::plan(n, self.vehicles, port, dir)).collect();
        let fleets: Vec<Fleet> = plans.iter().map(Fleet::new).collect();
        let running: Vec<Running> = plans.into_iter().map(|plan| Running::start(plan, &tell, &ready)).collect();
        let length = Duration::from_secs(self.seconds);
        let (before, threads_before, began) = (cpu_s(), threads(), Instant::now());
        let outlets = running.iter().map(|running| running.samples.clone()).collect();
        let buses = Builder::new().name(BUSES.to_owned()).spawn(move || {
            let played = play(fleets, outlets, length);
            (played, thread_cpu_s())
        });
        let ((samples, waited), buses_cpu_s) = buses.expect("a thread").join().expect("it plays");
        // The last windows are on their way.
        std::thread::sleep(Duration::from_millis(400));
        let (cpu_s, seconds) = (cpu_s() - before, began.elapsed().as_secs_f64());
        let mut threads_cpu_s = threads();
        for (name, before) in threads_before {
            *threads_cpu_s.entry(name).or_default() -= before;
        }
        let rss_peak_bytes = rss_peak_bytes();
        let (mut shed, mut closed_late_max_ms) = (0, 0.0_f64);
        let threads: Vec<_> = running.into_iter().map(Running::stop).collect();
        for thread in threads {
            let (own, late_ms) = thread.join().expect("it ends in order");
            (shed, closed_late_max_ms) = (shed + own, closed_late_max_ms.max(late_ms));
        }
        let spent = Spent {
            points: samples * QUANTITIES,
            seconds,
            agent_cpu_s: cpu_s - buses_cpu_s,
            buses_cpu_s,
            threads_cpu_s,
            rss_peak_bytes,
            shed,
            closed_late_max_ms,
            waited,
        };
        println!("{}", serde_json::to_string(&spent).expect("it can be written"));
    }
}

impl Running {
    /// On a thread of its own, as the process of an agent has one; comes back when it is online.
    fn start(
        plan: v2g_edge::config::Plan,
        tell: &Sender<mpsc::Sender<Sample>>,
        ready: &Receiver<mpsc::Sender<Sample>>,
    ) -> Self {
        let (stop, stopped) = oneshot::channel();
        let tell = tell.clone();
        let thread = Builder::new().name(plan.gateway.id.as_str().to_owned()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let gateway = Gateway::begin(&plan).expect("its directory is new");
                while gateway.status().uplink.state != UplinkState::Online {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                tell.send(gateway.samples()).expect("it waits");
                let _ = stopped.await;
                let pipeline = gateway.status().pipeline;
                gateway.end().await;
                (pipeline.samples_shed, pipeline.late_max_ms)
            })
        });
        Self { samples: ready.recv().expect("it comes online"), stop, thread: thread.expect("a thread") }
    }

    fn stop(self) -> JoinHandle<(u64, f64)> {
        let Self { samples, stop, thread } = self;
        drop(samples);
        let _ = stop.send(());
        thread
    }
}

/// Reads every charger at its time for so long. Answers how many times, and how many samples found no room at once.
fn play(mut fleets: Vec<Fleet>, outlets: Vec<mpsc::Sender<Sample>>, length: Duration) -> (u64, u64) {
    let (clock, start) = (LinuxClock::new(), Instant::now());
    let per_tick = TICK.as_secs_f64() / POLL.as_secs_f64();
    let mut waiting: Vec<VecDeque<Sample>> = outlets.iter().map(|_| VecDeque::new()).collect();
    let (mut reads, mut waited, mut read) = (0, 0, vec![0_usize; fleets.len()]);
    let mut out = Vec::new();
    for tick in 1_u32.. {
        let due = TICK * tick;
        if due > length {
            break;
        }
        std::thread::sleep(due.saturating_sub(start.elapsed()));
        let at: Stamp = clock.now().into();
        for (n, fleet) in fleets.iter_mut().enumerate() {
            let until = (f64::from(tick) * per_tick * fleet.len() as f64) as usize;
            for turn in read[n]..until {
                fleet.read(turn % fleet.len(), at, &mut out);
                reads += 1;
            }
            read[n] = until;
            waiting[n].extend(out.drain(..));
            while let Some(sample) = waiting[n].pop_front() {
                if let Err(error) = outlets[n].try_send(sample) {
                    waiting[n].push_front(error.into_inner());
                    waited += waiting[n].len() as u64;
                    break;
                }
            }
        }
    }
    for (waiting, outlet) in waiting.into_iter().zip(&outlets) {
        waiting.into_iter().for_each(|sample| outlet.blocking_send(sample).expect("it takes them"));
    }
    (reads, waited)
}

/// User and system time in seconds, of a line of proc(5) `stat`: fields 14 and 15, 100 ticks a second on Linux.
fn cpu_of(path: &Path) -> f64 {
    let stat = std::fs::read_to_string(path).unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = after_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}

/// Of this process, with threads that have ended.
fn cpu_s() -> f64 {
    cpu_of(Path::new("/proc/self/stat"))
}

/// Of this thread.
fn thread_cpu_s() -> f64 {
    cpu_of(Path::new("/proc/thread-self/stat"))
}

/// Of the threads that there are, by name, those of all gateways together.
fn threads() -> BTreeMap<String, f64> {
    let mut threads = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        let name = if name.starts_with("gw-") { "pipeline+uplink" } else { name.trim() };
        *threads.entry(name.to_owned()).or_insert(0.0) += cpu_of(&task.path().join("stat"));
    }
    threads
}

fn rss_peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}
