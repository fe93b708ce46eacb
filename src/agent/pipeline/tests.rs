//! A box without a battery for its clock: what it measured, from the sample to the bytes of the message; and windows under
//! load.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use hal::sim::SimClock;
use hal::{Clock, Trust};
use tokio::sync::mpsc;

use super::*;
use crate::config::{self, Surroundings};
use crate::journal::testing::HangingJournal;
use crate::journal::{Journal, Lane, Lease, Settings, WhenFull};
use crate::measure::{BootId, Checkpoint, ClockTrust, Energy, EnergyDelta, IntervalValue, Missing, Payload, Raw, Utc};
use crate::spec::{DeviceIx, PointIx};
use crate::uplink::wire;

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
        let since = clock.now().into();
        let context = ProcessContext { boot: BootId([0; 16]), since, ..ProcessContext::begin() };
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
            runtime_dir: None,
            time_wait: Duration::from_secs(3600),
        };
        let facts = Arc::clone(&self.context.facts);
        let journal = Journal::open(settings, self.plan.schema(), self.context.boot, now, facts).expect("a journal");
        let first = EventKind::Started { version: "test".to_owned(), clean: journal.previous_ended_clean() };
        let pipeline = Pipeline::new(&self.plan, &self.context, now, vec![first], journal.checkpoint().clone());
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

    /// A window in which the meter shows this much imported energy, kWh, and whether the journal has made it durable.
    async fn read_energy(&mut self, kwh: f32, is_durable: bool) {
        let spec = &self.plan.devices[0].spec;
        let ix = spec.points.roles().energy_import.expect("a register");
        let block = spec.points[usize::from(ix.0)].register().expect("Modbus").extent();
        let bits = kwh.to_bits().to_be_bytes();
        let words = Ok(vec![u16::from_be_bytes([bits[0], bits[1]]), u16::from_be_bytes([bits[2], bits[3]])]);
        let (journal, pipeline) = self.generation.as_mut().expect("it has booted");
        let handle = journal.handle();
        let payload = Payload::Registers { block, words };
        pipeline.take(&Sample { device: DeviceIx(0), at: self.clock.now().into(), payload });
        self.clock.advance(WINDOW);
        pipeline.close(self.clock.now().into(), Duration::ZERO, &handle);
        if is_durable {
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

/// In its first boot, with the right time.
fn synced() -> (tempfile::TempDir, Gateway) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut gateway = Gateway::new();
    gateway.boot(dir.path(), NOON);
    gateway.sync();
    (dir, gateway)
}

/// The first line's trust and the one time of all lines of a message.
fn as_sent(lease: &Lease) -> (String, i64) {
    let lines = wire::read::lines(&wire::payload(lease.entry())).expect("line protocol");
    let trust = wire::read::time_trust(&lines[0]).expect("a trust").to_owned();
    let time = lines[0].time_ns;
    assert!(lines.iter().all(|line| (time..time + 10).contains(&line.time_ns)), "{lines:?}");
    (trust, time)
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
    let (dir, mut gateway) = synced();
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

/// kWh that the meter is told to have counted, all windows together.
fn counted(leases: &[Lease]) -> f64 {
    let energies = leases.iter().flat_map(|lease| &lease.entry().window.intervals).map(|interval| interval.energy);
    let mut sum = Energy::default();
    energies.for_each(|energy| sum.add(energy));
    sum.import.map_or(0.0, EnergyDelta::kwh)
}

/// The difference of what the register shows is told once, whatever happens to the box in between: a kill, a power cut with what was
/// not durable yet, hours without power, an end in order.
#[tokio::test]
async fn the_energy_of_a_register_goes_on_over_restarts_without_a_gap_and_without_a_double() {
    let (dir, mut gateway) = synced();
    gateway.read_energy(500.0, true).await;
    gateway.read_energy(500.25, true).await;
    // Killed.
    gateway.boot(dir.path(), NOON + 60 * S);
    gateway.sync();
    gateway.read_energy(500.75, true).await;
    // Nothing of it was read before the next kill: it is known all the same.
    gateway.boot(dir.path(), NOON + 120 * S);
    gateway.run(3).await;
    gateway.boot(dir.path(), NOON + 3_720 * S);
    gateway.read_energy(530.0, true).await;
    for _ in 0..100 {
        gateway.run(1).await;
    }
    let (journal, mut pipeline) = gateway.generation.take().expect("it has booted");
    pipeline.finish(gateway.clock.now().into(), &journal.handle());
    journal.close().await.expect("it ends in order");
    gateway.boot(dir.path(), NOON + 3_780 * S);
    gateway.sync();
    gateway.read_energy(531.5, true).await;
    assert_eq!(counted(&gateway.lease().await), 31.5);
}

/// A sample may be read and not be durable: what it would have told is told by the next that is.
#[tokio::test]
async fn what_a_window_told_that_no_disk_has_is_told_again() {
    let (dir, mut gateway) = synced();
    gateway.read_energy(500.0, true).await;
    let hanging = HangingJournal::with_history(0);
    let (journal, mut pipeline) = gateway.generation.take().expect("it has booted");
    gateway.generation = None;
    let spec = gateway.plan.devices[0].spec.clone();
    let ix = spec.points.roles().energy_import.expect("a register");
    let block = spec.points[usize::from(ix.0)].register().expect("Modbus").extent();
    let payload = Payload::Registers { block, words: Ok(vec![0x43fa, 0x8000]) };
    pipeline.take(&Sample { device: DeviceIx(0), at: gateway.clock.now().into(), payload });
    gateway.clock.advance(WINDOW);
    pipeline.close(gateway.clock.now().into(), Duration::ZERO, &hanging.handle());
    let lost: f64 =
        hanging.windows().iter().flat_map(|w| &w.intervals).filter_map(|i| i.energy.import).map(EnergyDelta::kwh).sum();
    assert_eq!(lost, 1.0, "501 kWh");
    drop(journal);
    gateway.boot(dir.path(), NOON + 60 * S);
    gateway.sync();
    gateway.read_energy(502.0, true).await;
    assert_eq!(counted(&gateway.lease().await), 2.0);
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
    let first = vec![EventKind::Stopping];
    let pipeline =
        || Pipeline::new(&gateway.plan, &gateway.context, clock.now().into(), first.clone(), Checkpoint::default());
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
    let (_dir, mut gateway) = synced();
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
async fn what_a_source_has_shed_is_told_once_by_the_next_window_and_at_most_once_a_second() {
    let (_dir, mut gateway) = synced();
    gateway.context.facts.pipeline(|facts| facts.samples_shed += 5_597);
    gateway.run(1).await;
    for _ in 0..5 {
        gateway.context.facts.pipeline(|facts| facts.samples_shed += 3);
        gateway.run(1).await;
    }
    let shed = |lease: &Lease| {
        let of_event = |event: &Event| if let EventKind::SamplesShed(count) = event.kind { count } else { 0 };
        lease.entry().window.events.iter().map(of_event).sum::<u64>()
    };
    assert_eq!(gateway.lease().await.iter().map(shed).collect::<Vec<_>>(), [5_597, 0, 0, 0, 12, 0]);
    assert_eq!(gateway.context.facts.status().pipeline.samples_shed_told, 5_609);
}

#[tokio::test]
async fn a_device_that_comes_and_goes_is_told_once_a_second_and_last_as_it_is() {
    let (_dir, mut gateway) = synced();
    let (journal, pipeline) = gateway.generation.as_mut().expect("it has booted");
    let handle = journal.handle();
    for n in 0..81_u32 {
        let silent = EventKind::DeviceSilent(Missing::Timeout);
        let kind = if n % 2 == 0 { silent } else { EventKind::DeviceAnswering };
        let at = gateway.clock.now().into();
        pipeline.receive(Sample { device: DeviceIx(0), at, payload: Payload::Noticed(kind) }, at, &handle);
        gateway.clock.advance(Duration::from_millis(50));
        pipeline.close(gateway.clock.now().into(), Duration::ZERO, &handle);
    }
    pipeline.finish(gateway.clock.now().into(), &handle);
    handle.commit().await;
    let leases = gateway.lease().await;
    let events = leases.iter().flat_map(|lease| &lease.entry().window.events).map(|event| &event.kind);
    let told: Vec<&EventKind> = events.filter(|kind| !matches!(kind, EventKind::Started { .. })).collect();
    let mut states = told.iter().filter(|kind| matches!(kind, EventKind::DeviceSilent(_) | EventKind::DeviceAnswering));
    let left_out = told.iter().map(|kind| if let EventKind::EventsLeftOut { count, .. } = kind { *count } else { 0 });
    assert_eq!(states.clone().count() as u64 + left_out.sum::<u64>(), 81, "{told:?}");
    assert!(told.len() <= 10, "{told:?}");
    assert_eq!(states.next_back(), Some(&&EventKind::DeviceSilent(Missing::Timeout)), "{told:?}");
}

/// A minute that comes in a moment, in the midst of what is of now.
#[tokio::test]
async fn what_comes_late_is_in_windows_of_its_own_time_and_disturbs_no_other() {
    let (_dir, mut gateway) = synced();
    let now: Stamp = gateway.clock.now().into();
    let (journal, pipeline) = gateway.generation.as_mut().expect("it has booted");
    let handle = journal.handle();
    let value = |at, value: f64| {
        let payload = Payload::Values(vec![(PointIx(0), Ok(Raw::Float(value)))]);
        Sample { device: DeviceIx(0), at, payload }
    };
    pipeline.receive(value(now, 1.0), now, &handle);
    for turn in 0..240_i64 {
        let own = Utc(now.utc.0 - 60 * S + turn * 250_000_000);
        let at = Stamp { mono: now.mono, utc: own, trust: ClockTrust::Resolved };
        pipeline.receive(value(at, 45.5), now, &handle);
    }
    pipeline.receive(value(now, 3.0), now, &handle);
    // The journal takes them as it has room, windows of the moment first.
    for _ in 0..40 {
        gateway.clock.advance(WINDOW);
        pipeline.close(gateway.clock.now().into(), Duration::ZERO, &handle);
        handle.commit().await;
    }
    let facts = gateway.context.facts.status().pipeline;
    assert_eq!((facts.samples_late, facts.samples_shed, facts.windows), (240, 0, 40));
    let leases = gateway.lease().await;
    let times: BTreeSet<i64> = leases.iter().map(|lease| as_sent(lease).1).collect();
    assert_eq!(times.len(), leases.len(), "no two entries share a time stamp");
    let late: Vec<&Lease> = leases.iter().filter(|lease| as_sent(lease).0 == "resolved").collect();
    let mut ends: Vec<i64> = late.iter().map(|lease| as_sent(lease).1 / 250_000_000).collect();
    ends.dedup();
    assert!((240..=241).contains(&ends.len()), "{} windows of 250 ms", ends.len());
    assert!(ends.is_sorted() && late.iter().all(|lease| as_sent(lease).1 <= now.utc.0 + 250_000_000));
    assert_eq!(late.iter().map(|lease| readings(lease)).sum::<u32>(), 240);
    let live: Vec<u32> = leases.iter().filter(|lease| as_sent(lease).0 == "synced").map(readings).collect();
    assert_eq!((live[0], live.iter().sum::<u32>()), (2, 2), "the open window has what is of now");
}

#[tokio::test]
async fn an_hour_that_comes_at_once_is_kept_in_coarser_windows_and_none_of_it_is_shed() {
    let (_dir, mut gateway) = synced();
    let now: Stamp = gateway.clock.now().into();
    let (journal, pipeline) = gateway.generation.as_mut().expect("it has booted");
    let handle = journal.handle();
    for turn in 0..14_400_i64 {
        let at =
            Stamp { mono: now.mono, utc: Utc(now.utc.0 - 3600 * S + turn * 250_000_000), trust: ClockTrust::Resolved };
        pipeline.take_late(&Sample {
            device: DeviceIx(0),
            at,
            payload: Payload::Values(vec![(PointIx(0), Ok(Raw::Float(1.0)))]),
        });
    }
    let waiting = pipeline.late_closed.len();
    assert!((1_000..=LATE_WINDOWS_MAX).contains(&waiting), "{waiting} windows wait");
    while pipeline.finish_late(&handle) {
        handle.commit().await;
    }
    handle.commit().await;
    assert_eq!(gateway.context.facts.status().pipeline.samples_shed, 0);
    let mut told = 0;
    while told < 14_400 {
        let leases = handle.lease(Lane::History, 32).await;
        assert!(!leases.is_empty(), "{told} readings");
        told += leases.iter().map(readings).sum::<u32>();
        leases.into_iter().for_each(Lease::acknowledge);
    }
    assert_eq!(told, 14_400);
}

/// What came late and found no room in the journal until the agent stopped was gone, and nothing told it.
#[tokio::test]
async fn what_came_late_and_the_journal_does_not_take_before_the_end_is_counted_and_told() {
    let (_dir, mut gateway) = synced();
    let (_, pipeline) = gateway.generation.as_mut().expect("it has booted");
    let now: Stamp = gateway.clock.now().into();
    let journal = HangingJournal::with_history(0);
    let handle = journal.handle();
    for turn in 0..100_i64 {
        let utc = Utc(now.utc.0 - 3600 * S + turn * 250_000_000);
        let at = Stamp { utc, trust: ClockTrust::Resolved, ..now };
        let payload = Payload::Values(vec![(PointIx(0), Ok(Raw::Float(1.0)))]);
        pipeline.take_late(&Sample { device: DeviceIx(0), at, payload });
    }
    let happened = [EventKind::DeviceSilent(Missing::Timeout), EventKind::DeviceAnswering];
    for (kind, before) in happened.iter().zip([3000, 2900]) {
        let at = Stamp { utc: Utc(now.utc.0 - before * S), trust: ClockTrust::Resolved, ..now };
        pipeline.take_late(&Sample { device: DeviceIx(0), at, payload: Payload::Noticed(kind.clone()) });
    }
    assert!(pipeline.finish_late(&handle), "the journal hangs");
    pipeline.finish(now, &handle);
    let windows = journal.windows();
    let taken: u64 = windows.iter().map(Window::points).sum();
    assert_eq!((taken, gateway.context.facts.status().pipeline.samples_shed), (32, 68));
    let told = &windows.last().expect("the last").events;
    assert!(told.iter().any(|event| event.kind == EventKind::SamplesShed(68)), "{told:?}");
    let late = told.iter().map(|event| &event.kind).filter(|kind| happened.contains(kind));
    assert!(late.eq(&happened), "in their order: {told:?}");
}

/// The clock of a recorder goes back by an hour: for an hour of its time nothing that happened was told but the last of it.
#[tokio::test]
async fn a_device_whose_own_time_goes_back_is_told_on() {
    let (_dir, mut gateway) = synced();
    let now: Stamp = gateway.clock.now().into();
    let (journal, pipeline) = gateway.generation.as_mut().expect("it has booted");
    let handle = journal.handle();
    let states = [EventKind::DeviceSilent(Missing::Timeout), EventKind::DeviceAnswering];
    let mut happened = Vec::new();
    for (turn, kind) in (0..20_i64).zip(states.iter().cycle()) {
        // Of the first ten the last comes too soon, and waits.
        let since = if turn < 10 { turn * 20 - turn / 9 * 20 } else { turn * 20 - 3600 };
        let at = Stamp { utc: Utc(now.utc.0 - 3600 * S + since * S), trust: ClockTrust::Resolved, ..now };
        pipeline.take_late(&Sample { device: DeviceIx(0), at, payload: Payload::Noticed(kind.clone()) });
        happened.push(kind.clone());
    }
    assert!(!pipeline.finish_late(&handle), "there is room for all");
    handle.commit().await;
    let leases = gateway.lease().await;
    let told = leases.iter().flat_map(|lease| &lease.entry().window.events).map(|event| event.kind.clone());
    assert_eq!(told.filter(|kind| states.contains(kind)).collect::<Vec<_>>(), happened);
}

/// What was told of an update was noted as told by the windows that had ended, and the journal had taken none of them.
#[tokio::test]
async fn what_happens_while_the_journal_stalls_is_in_the_next_window_that_counts_as_taken() {
    let (_dir, mut gateway) = synced();
    let (_, pipeline) = gateway.generation.as_mut().expect("it has booted");
    let journal = HangingJournal::with_history(0);
    let handle = journal.handle();
    let facts = Arc::clone(&gateway.context.facts);
    let taken = || facts.status().pipeline.windows_taken;
    let close = |pipeline: &mut Pipeline| {
        gateway.clock.advance(WINDOW);
        pipeline.close(gateway.clock.now().into(), Duration::ZERO, &handle);
    };
    (0..100).for_each(|_| close(pipeline));
    let before = taken();
    assert!((1..100).contains(&before), "it stalls: {before}");
    let rare = EventKind::UplinkOnline("b".into());
    pipeline.notice(Notice { kind: rare.clone(), is_rare: true }, gateway.clock.now().into());
    (0..3).for_each(|_| close(pipeline));
    assert_eq!((taken(), journal.windows().len() as u64), (before, before), "none more is taken");
    close(pipeline);
    assert_eq!(taken(), before + 1);
    let told = journal.windows();
    assert!(told.iter().flat_map(|window| &window.events).any(|event| event.kind == rare), "{told:?}");
}

/// Two boxes of one id take the session from each other within moments: what was said of that was replaced by `uplink_online`.
#[tokio::test]
async fn what_is_rare_is_told_although_newer_events_of_its_kind_come_at_once() {
    let (_dir, mut gateway) = synced();
    let now: Stamp = gateway.clock.now().into();
    let (journal, pipeline) = gateway.generation.as_mut().expect("it has booted");
    let handle = journal.handle();
    let online = EventKind::UplinkOnline("b".into());
    let rare = EventKind::UplinkTrouble { broker: "b".into(), what: "two boxes".into(), remedy: "one id each".into() };
    pipeline.notice(online.clone().into(), now);
    pipeline.notice(online.clone().into(), now);
    pipeline.notice(Notice { kind: rare.clone(), is_rare: true }, now);
    pipeline.notice(online.into(), now);
    pipeline.finish(now, &handle);
    handle.commit().await;
    let leases = gateway.lease().await;
    let told = leases.iter().flat_map(|lease| &lease.entry().window.events);
    assert_eq!(told.filter(|event| event.kind == rare).count(), 1);
}

/// A backlog in which a device comes and goes, many times in each second.
#[tokio::test]
async fn a_device_that_came_and_went_in_a_backlog_is_told_once_in_a_second_of_its_time_and_last_as_it_was() {
    let (_dir, mut gateway) = synced();
    let now: Stamp = gateway.clock.now().into();
    let (journal, pipeline) = gateway.generation.as_mut().expect("it has booted");
    let handle = journal.handle();
    let notice = |turn: i64, kind| {
        let utc = Utc(now.utc.0 - 3600 * S + turn * 20_000_000);
        let at = Stamp { utc, trust: ClockTrust::Resolved, ..now };
        Sample { device: DeviceIx(0), at, payload: Payload::Noticed(kind) }
    };
    for turn in 0..501 {
        let silent = EventKind::DeviceSilent(Missing::Timeout);
        let kind = if turn % 2 == 0 { silent } else { EventKind::DeviceAnswering };
        pipeline.take_late(&notice(turn, kind));
    }
    // Nothing more comes for a while.
    for _ in 0..8 {
        gateway.clock.advance(WINDOW);
        pipeline.close(gateway.clock.now().into(), Duration::ZERO, &handle);
        handle.commit().await;
    }
    let leases = gateway.lease().await;
    let late = leases.iter().filter(|lease| as_sent(lease).0 == "resolved");
    let told: Vec<&EventKind> = late.flat_map(|lease| &lease.entry().window.events).map(|event| &event.kind).collect();
    let mut states = told.iter().filter(|kind| matches!(kind, EventKind::DeviceSilent(_) | EventKind::DeviceAnswering));
    let left_out = told.iter().map(|kind| if let EventKind::EventsLeftOut { count, .. } = kind { *count } else { 0 });
    assert_eq!(states.clone().count() as u64 + left_out.sum::<u64>(), 501, "{told:?}");
    assert!(told.len() <= 24, "ten seconds: {told:?}");
    assert_eq!(states.next_back(), Some(&&EventKind::DeviceSilent(Missing::Timeout)), "{told:?}");
    assert_eq!(gateway.context.facts.status().pipeline.samples_shed, 0);
}
