//! A box without a battery for its clock: what it measured, from the sample to the bytes of the message; and windows under
//! load.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use hal::sim::SimClock;
use hal::{Clock, LinuxClock, Trust};
use tokio::sync::mpsc;

use super::*;
use crate::config::{self, Surroundings};
use crate::health::Heartbeats;
use crate::journal::{Journal, Lane, Lease, Settings, WhenFull};
use crate::measure::{BootId, ClockTrust, Missing, Payload, Raw};
use crate::spec::DeviceIx;
use crate::uplink::wire;
use crate::uplink::wire::read::Field;

const S: i64 = 1_000_000_000;
/// 2026-06-01 12:00 UTC, the true time of the first boot.
const NOON: i64 = 1_780_315_200 * S;
/// 2001-01-01 UTC: what the wall clock shows after each boot.
const Y2001: i64 = 978_307_200 * S;
const WINDOW: Duration = Duration::from_millis(250);

fn plan() -> Plan {
    let text = "[gateway]\nid = \"gw\"\nsite = \"depot\"\nstate_dir = \"/var\"\n\
        [uplink]\nbrokers = [\"mqtt://127.0.0.1\"]\n[bus.lan]\nmodbus-tcp = {}\n\
        [device.grid]\nkind = \"meter\"\nbus = \"lan\"\naddress = \"10.0.0.1\"\nunit = 1\nprofile = \"eastron-sdm630\"\n";
    config::parse(text, "gateway.toml", &Surroundings::none()).expect("a plan")
}

/// The box, over its boots.
struct Gateway {
    plan: Plan,
    context: ProcessContext,
    clock: SimClock,
    boots: u8,
    /// True UTC at the start of each boot.
    zeros: Vec<i64>,
    generation: Option<(Journal, Pipeline)>,
}

impl Gateway {
    fn new() -> Self {
        let clock = SimClock::new(Y2001);
        let context = ProcessContext {
            clock: Arc::new(LinuxClock::new()),
            boot: BootId([0; 16]),
            facts: Arc::new(StatusBoard::default()),
            heartbeats: Arc::new(Heartbeats::default()),
            since: clock.now().into(),
        };
        Self { plan: plan(), context, clock, boots: 0, zeros: Vec::new(), generation: None }
    }

    /// The power was off until the true time is `truth`; the clock shows 2001.
    fn boot(&mut self, dir: &Path, truth: i64) {
        self.generation = None;
        self.clock = SimClock::new(Y2001);
        self.clock.trust(Trust::Unsynced);
        self.zeros.push(truth - 10 * S);
        self.boots += 1;
        self.context.boot = BootId([self.boots; 16]);
        let now: Stamp = self.clock.now().into();
        let settings = Settings {
            dir: dir.to_owned(),
            bytes_max: 64 << 20,
            free_min: 0,
            age_max: Duration::from_secs(72 * 3600),
            commit_interval: Duration::from_millis(20),
            bytes_per_day_max: None,
            when_full: WhenFull::DropOldest,
            time_wait: Duration::from_secs(3600),
        };
        let facts = Arc::clone(&self.context.facts);
        let journal = Journal::open(settings, self.plan.schema(), self.context.boot, now, facts).expect("a journal");
        let first = EventKind::Started { version: "test".to_owned(), clean: journal.previous_ended_clean() };
        let pipeline = Pipeline::new(&self.plan, &self.context, now, Event { device: None, kind: first });
        self.generation = Some((journal, pipeline));
    }

    fn truth(&self, window: &Window) -> i64 {
        self.zeros[usize::from(window.boot.0[0]) - 1] + i64::try_from(window.end.mono.0).expect("small")
    }

    /// `count` windows with one sample each, all durable.
    async fn run(&mut self, count: usize) {
        let block = self.plan.devices[0].spec.groups[0].blocks[0];
        let (journal, pipeline) = self.generation.as_mut().expect("it has booted");
        let handle = journal.handle();
        for _ in 0..count {
            let payload = Payload::Registers { block, words: Err(Missing::Timeout) };
            pipeline.take(&Sample { device: DeviceIx(0), at: self.clock.now().into(), payload });
            self.clock.advance(WINDOW);
            pipeline.close(self.clock.now().into(), Duration::ZERO, &handle);
            handle.commit().await;
        }
    }

    /// NTP sets the clock right, by a step.
    fn sync(&mut self) {
        let now = self.clock.now();
        let truth = self.zeros[usize::from(self.boots) - 1] + i64::try_from(now.mono.as_nanos()).expect("small");
        self.clock.step(truth - now.utc_ns);
        self.clock.trust(Trust::Synced);
    }

    async fn lease(&self) -> Vec<Lease> {
        let handle = self.generation.as_ref().expect("it has booted").0.handle();
        handle.go_live();
        let mut leases = Vec::new();
        loop {
            let more = handle.lease(Lane::History, 32).await;
            if more.is_empty() {
                return leases;
            }
            leases.extend(more);
        }
    }
}

/// The first line's trust and the one time of all lines of a message.
fn as_sent(lease: &Lease) -> (String, i64) {
    let lines = wire::read::lines(&wire::payload(lease.entry())).expect("line protocol");
    let Some(Field::Text(trust)) = lines[0].fields.get("time") else { panic!("no trust: {lines:?}") };
    let time = lines[0].time_ns;
    assert!(lines.iter().all(|line| (time..time + 10).contains(&line.time_ns)), "{lines:?}");
    (trust.clone(), time)
}

fn steps(leases: &[Lease]) -> Vec<i64> {
    let events = leases.iter().flat_map(|lease| &lease.entry().window.events);
    events.filter_map(|event| if let EventKind::ClockStepped(by) = event.kind { Some(by) } else { None }).collect()
}

#[tokio::test]
async fn a_box_that_boots_in_2001_sends_its_record_with_the_true_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut gateway = Gateway::new();
    gateway.boot(dir.path(), NOON);
    gateway.run(12).await;
    assert_eq!(gateway.lease().await.len(), 0, "nobody knows yet when that was");
    let status = gateway.context.facts.status().journal;
    assert_eq!((status.held_entries, status.waiting_entries), (12, 12));
    assert!(status.held_why.is_some_and(|why| why.contains("2001-01-01") && why.contains("NTP")));
    gateway.sync();
    gateway.run(12).await;
    // The power goes. A boot that is synced in its turn, one that never is, and one that is again.
    gateway.boot(dir.path(), NOON + 60 * S);
    gateway.run(12).await;
    assert_eq!(gateway.lease().await.len(), 24, "the first boot's, and none of this one's");
    gateway.sync();
    gateway.run(12).await;
    gateway.boot(dir.path(), NOON + 120 * S);
    gateway.run(12).await;
    gateway.boot(dir.path(), NOON + 180 * S);
    gateway.run(12).await;
    gateway.sync();
    gateway.run(12).await;

    let leases = gateway.lease().await;
    assert_eq!(leases.len(), 84);
    assert_eq!(gateway.context.facts.status().journal.held_entries, 0);
    let mut trusts = Vec::new();
    let mut before = 0;
    for lease in &leases {
        let (trust, time) = as_sent(lease);
        let off = (time - gateway.truth(&lease.entry().window)).abs();
        assert!(trust == "estimated" || off < 50_000_000, "{trust} is {off} ns off the truth");
        assert!(time > before, "out of order");
        before = time;
        if trusts.last() != Some(&trust) {
            trusts.push(trust);
        }
    }
    assert_eq!(trusts, ["resolved", "synced", "resolved", "synced", "estimated", "resolved", "synced"]);
    assert_eq!(steps(&leases).len(), 3, "each step of the clock is told");
    assert!(steps(&leases).iter().all(|by| *by > NOON - Y2001 - S));

    // Nothing of it changes: not by a crash, not in another boot.
    let sent: Vec<_> = leases.iter().map(as_sent).collect();
    drop(leases);
    gateway.boot(dir.path(), NOON + 240 * S);
    let again = gateway.lease().await;
    assert_eq!(again.iter().map(as_sent).collect::<Vec<_>>(), sent);
}

#[tokio::test]
async fn a_clock_that_is_set_back_repeats_no_time_stamp() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut gateway = Gateway::new();
    gateway.boot(dir.path(), NOON);
    gateway.sync();
    gateway.run(20).await;
    // Back by whole windows, so that every label would come again: once within a generation, once while the agent is away.
    gateway.clock.step(-2_500_000_000);
    gateway.run(20).await;
    gateway.boot(dir.path(), NOON + 60 * S);
    gateway.sync();
    gateway.clock.step(-61 * S);
    gateway.run(20).await;
    let leases = gateway.lease().await;
    let times: BTreeSet<i64> = leases.iter().map(|lease| as_sent(lease).1).collect();
    assert_eq!((leases.len(), times.len()), (60, 60));
    assert!(leases.iter().all(|lease| lease.entry().window.end.trust == ClockTrust::Synced));
    assert_eq!(steps(&leases).iter().filter(|by| **by < 0).count(), 2, "{:?}", steps(&leases));
}

/// How many readings the one point in it was made of.
fn readings(lease: &Lease) -> u32 {
    let mut points = lease.entry().window.intervals.iter().flat_map(|interval| &interval.points);
    match points.next().map(|point| &point.value) {
        Some(IntervalValue::Float(statistic)) => statistic.count,
        _ => 0,
    }
}

/// Runs the pipeline for 12 s of a clock on which `burst` samples come at each `step`; there is always one to be taken.
/// Answers how many readings each window was made of, but for the one that the end cuts, and the greatest lateness in ms.
async fn on_a_stream(step: Duration, burst: usize) -> (Vec<u32>, f64) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut gateway = Gateway::new();
    gateway.boot(dir.path(), NOON);
    let (journal, pipeline) = gateway.generation.take().expect("it has booted");
    let clock = Arc::new(SimClock::new(NOON));
    let (samples, sampled) = mpsc::channel(burst);
    let (_notices, noticed) = mpsc::channel(1);
    let heartbeat = gateway.context.heartbeats.watch("pipeline", WINDOW, Stamp::from(clock.now()).mono);
    drop(pipeline);
    let first = Event { device: None, kind: EventKind::Stopping };
    let pipeline = || Pipeline::new(&gateway.plan, &gateway.context, clock.now().into(), first.clone());
    let running = tokio::spawn(run(pipeline(), Arc::clone(&clock), (sampled, noticed), journal.handle(), heartbeat));
    for _ in 0..Duration::from_secs(12).as_nanos() / step.as_nanos() {
        for _ in 0..burst {
            let payload = Payload::Values(vec![(PointIx(0), Ok(Raw::Float(1.0)))]);
            let sample = Sample { device: DeviceIx(0), at: clock.now().into(), payload };
            samples.send(sample).await.expect("the pipeline runs");
        }
        clock.advance(step);
    }
    drop(samples);
    running.await.expect("it ends");
    journal.handle().commit().await;
    gateway.generation = Some((journal, pipeline()));
    let mut counts: Vec<u32> = gateway.lease().await.iter().map(readings).collect();
    counts.truncate(48);
    (counts, gateway.context.facts.status().pipeline.late_max_ms)
}

#[tokio::test]
async fn every_window_ends_on_time_and_holds_its_own_samples_however_dense_they_come() {
    for (step_us, burst, each) in [(2_500, 1, 100), (1_000, 1, 250), (1_000, 8, 2_000)] {
        let (counts, late_ms) = on_a_stream(Duration::from_micros(step_us), burst).await;
        assert_eq!(counts, [each; 48], "{burst} every {step_us} us");
        assert!(late_ms < 20.0, "{late_ms} ms late");
    }
}

#[tokio::test]
async fn who_was_starved_for_seconds_closes_each_window_with_its_own_samples() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut gateway = Gateway::new();
    gateway.boot(dir.path(), NOON);
    gateway.sync();
    let (journal, pipeline) = gateway.generation.as_mut().expect("it has booted");
    let handle = journal.handle();
    // A sample every 50 ms for 2 s, and nobody looks at them before the end.
    for value in 0..40_i32 {
        let payload = Payload::Values(vec![(PointIx(0), Ok(Raw::Float(value.into())))]);
        let at = gateway.clock.now().into();
        pipeline.receive(Sample { device: DeviceIx(0), at, payload }, at, &handle);
        gateway.clock.advance(Duration::from_millis(50));
    }
    pipeline.close(gateway.clock.now().into(), Duration::ZERO, &handle);
    handle.commit().await;
    let facts = gateway.context.facts.status().pipeline;
    assert_eq!(facts.windows, 8);
    assert!(facts.late_max_ms >= 1_700.0 && facts.late_ms.is_some_and(|late| late < 250.0), "{facts:?}");
    assert_eq!(gateway.lease().await.iter().map(readings).collect::<Vec<_>>(), [5; 8]);
}

#[tokio::test]
async fn what_a_source_has_shed_is_told_once_by_the_next_window() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut gateway = Gateway::new();
    gateway.boot(dir.path(), NOON);
    gateway.sync();
    gateway.context.facts.pipeline(|facts| facts.samples_shed += 5_597);
    gateway.run(2).await;
    gateway.context.facts.pipeline(|facts| facts.samples_shed += 3);
    gateway.run(1).await;
    let shed = |lease: &Lease| {
        let of_event = |event: &Event| if let EventKind::SamplesShed(count) = event.kind { count } else { 0 };
        lease.entry().window.events.iter().map(of_event).sum::<u64>()
    };
    assert_eq!(gateway.lease().await.iter().map(shed).collect::<Vec<_>>(), [5_597, 0, 3]);
    assert_eq!(gateway.context.facts.status().pipeline.samples_shed_told, 5_600);
}
