//! The agent's journal and uplink, with a backlog and with live windows four times a second.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::{mpsc, watch};
use v2g_edge::health::{Heartbeats, StatusBoard};
use v2g_edge::journal::{Appended, Journal, Settings as JournalSettings, WhenFull};
use v2g_edge::measure::{BootId, ClockTrust, Mono, Stamp, Utc, Window};
use v2g_edge::net::{BrokerUrl, Endpoint, Link};
use v2g_edge::uplink::{Birth, Settings, Surroundings};

use super::Central;
use super::counter::{Counted, count};
use super::depot::Depot;
use hil_tests::wait::unix_ns;

const WINDOW: Duration = Duration::from_millis(250);
const BOOT: BootId = BootId([7; 16]);

#[derive(Debug, Serialize)]
pub(crate) struct Drained {
    points: u64,
    messages: u64,
    seconds: f64,
    bytes_per_s: f64,
    live: usize,
    live_p50_ms: f64,
    live_p99_ms: f64,
    live_max_ms: f64,
    /// Of the whole process: journal, uplink, the making of live windows, and the counting subscriber.
    cpu_s: f64,
    rss_mb: f64,
}

impl Drained {
    pub(crate) fn points_per_s(&self) -> f64 {
        self.points as f64 / self.seconds
    }
}

impl fmt::Display for Drained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} points in {} messages in {:.2} s: {:.0} points/s, {:.2} MB/s; live p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms \
             of {}; {:.2} s of CPU, {:.1} MB resident at most",
            self.points,
            self.messages,
            self.seconds,
            self.points_per_s(),
            self.bytes_per_s / 1e6,
            self.live_p50_ms,
            self.live_p99_ms,
            self.live_max_ms,
            self.live,
            self.cpu_s,
            self.rss_mb
        )
    }
}

/// A window that ends now.
fn now(depot: &mut Depot, start: Instant) -> Window {
    Window { end: stamp(start), ..depot.window() }
}

/// The boot is older than any backlog: ten days.
const SINCE_BOOT: Duration = Duration::from_secs(864_000);

fn stamp(start: Instant) -> Stamp {
    before(start, Duration::ZERO)
}

/// So long before now.
fn before(start: Instant, by: Duration) -> Stamp {
    let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    let mono = Mono(ns(SINCE_BOOT + start.elapsed()) - ns(by));
    Stamp { mono, utc: Utc(unix_ns() - ns(by).cast_signed()), trust: ClockTrust::Synced }
}

pub(crate) fn measure(dir: &Path, broker: &Central, points: u64, history_rate_max: u64) -> Drained {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let dir = dir.join(format!("journal-{}", broker.port));
    runtime.block_on(drain(&dir, broker, points, history_rate_max))
}

async fn drain(dir: &Path, broker: &Central, points: u64, history_rate_max: u64) -> Drained {
    let start = Instant::now();
    let mut depot = Depot::typical();
    let facts = Arc::new(StatusBoard::default());
    let settings = JournalSettings {
        dir: dir.to_owned(),
        bytes_max: 1 << 32,
        free_min: 0,
        age_max: Duration::from_secs(3650 * 86_400),
        when_full: WhenFull::DropOldest,
        commit_interval: Duration::from_millis(100),
        bytes_per_day_max: None,
        runtime_dir: None,
        time_wait: Duration::ZERO,
    };
    let journal = Journal::open(settings, depot.schema(), BOOT, stamp(start), Arc::clone(&facts)).expect("ours");
    let (mut queued, mut messages) = (0, 0);
    let per_window = Depot::typical().window().points();
    while queued < points {
        // Each a window's length after the one before; the last ended just now.
        let left = u32::try_from((points - queued) / per_window).expect("days at the most");
        let window = Window { end: before(start, WINDOW * left), ..depot.window() };
        queued += window.points();
        messages += 1;
        let mut window = Some(window);
        while let Some(waiting) = window.take() {
            match journal.handle().append(waiting) {
                Appended::Queued => {}
                Appended::Stalled(back) => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    window = Some(back);
                }
                Appended::Closed => panic!("the journal has ended"),
            }
        }
    }
    journal.handle().commit().await;

    let counted = count(broker.port, "v2g/#");
    let pid = std::process::id();
    let cpu_before = super::cpu_s(pid);
    let (stop, stopped) = watch::channel(false);
    let uplink = tokio::spawn(uplink(broker, &journal, &facts, history_rate_max, start, stopped));
    let begin = Instant::now();
    live(&journal, &mut depot, start, &counted, messages + 2).await;
    let seconds = begin.elapsed().as_secs_f64();
    let cpu_s = super::cpu_s(pid) - cpu_before;
    let bytes = facts.status().uplink.history.bytes;
    stop.send_replace(true);
    uplink.await.expect("it ends");
    journal.close().await.expect("it closes");
    let mut live_ns = counted.live_ns.lock().expect("nobody panics").clone();
    live_ns.sort_unstable();
    let quantile = |q: f64| {
        live_ns.get(((live_ns.len() as f64 - 1.0) * q).round() as usize).map_or(f64::NAN, |ns| *ns as f64 / 1e6)
    };
    Drained {
        points: queued,
        messages,
        seconds,
        bytes_per_s: bytes as f64 / seconds,
        live: live_ns.len(),
        live_p50_ms: quantile(0.5),
        live_p99_ms: quantile(0.99),
        live_max_ms: quantile(1.0),
        cpu_s,
        rss_mb: peak_rss_bytes() as f64 / 1e6,
    }
}

/// Live windows, each handed over when it ends, until the backlog and the documents are at the broker.
async fn live(journal: &Journal, depot: &mut Depot, start: Instant, counted: &Counted, others: u64) {
    let mut tick = tokio::time::interval(WINDOW);
    let mut look = tokio::time::interval(Duration::from_millis(5));
    let begin = Instant::now();
    loop {
        tokio::select! {
            _ = tick.tick() => {
                // What is full here would be counted as late.
                let _ = journal.handle().append(now(depot, start));
            }
            _ = look.tick() => {
                let come = counted.others.load(std::sync::atomic::Ordering::Relaxed);
                assert!(begin.elapsed() < Duration::from_secs(600), "{come} of {others} came");
                if come >= others {
                    return;
                }
            }
        }
    }
}

fn uplink(
    broker: &Central,
    journal: &Journal,
    facts: &Arc<StatusBoard>,
    history_rate_max: u64,
    start: Instant,
    stopped: watch::Receiver<bool>,
) -> impl Future<Output = ()> + use<> {
    let settings = Settings {
        brokers: vec![BrokerUrl {
            tls: false,
            endpoint: Endpoint { host: "127.0.0.1".to_owned(), port: broker.port },
            websocket: None,
        }],
        client_id: "gw-01".to_owned(),
        prefix: "v2g/depot-a/gw-01".to_owned(),
        keep_alive: Duration::from_secs(15),
        in_flight_max: 100,
        links: vec![Link { interface: None, history_rate_max, history_bytes_per_day: None }],
        fail_back: Duration::from_secs(300),
        holds_unheard: false,
        tls: None,
        login: None,
        drain: Duration::from_secs(3),
        boot: BOOT,
        birth: Birth {
            gateway: "gw-01".try_into().expect("a name"),
            site: "depot-a".try_into().expect("a name"),
            epoch: journal.epoch(),
            version: "bench".to_owned(),
            since: stamp(start),
            window: WINDOW,
            devices: Vec::new(),
        },
    };
    let heartbeat = Heartbeats::default().watch("uplink", Duration::from_secs(60), stamp(start).mono);
    let (notices, unread) = mpsc::channel(64);
    let surroundings = Surroundings { facts: Arc::clone(facts), heartbeat, notices };
    let handle = journal.handle();
    async move {
        v2g_edge::uplink::run(settings, handle, surroundings, move || stamp(start), stopped).await;
        drop(unread);
    }
}

fn peak_rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}
