//! The main job against real peers: pymodbus meter → agent → mosquitto with client certificates → a consumer that
//! knows the wire contract only, judged by the conservation oracle.
//!
//! `tests/run` installs the peers. `V2G_EDGE_BIN` names another binary than the one cargo has built (a release build);
//! `HIL_SEED` repeats the random moments of a run that failed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use hil_tests::agent::{Agent, MeterSetup, Setup, Status};
use hil_tests::broker::{Broker, Options};
use hil_tests::certs::{Authority, Validity};
use hil_tests::consumer::{Consumer, Endpoint};
use hil_tests::meter::Meter;
use hil_tests::oracle::{Judgement, Line, Message, Oracle, Value, judge_the_end};
use hil_tests::seed::Seed;
use hil_tests::wait::{let_pass, unix_ns, wait_for};

const GATEWAY: &str = "gw-01";
const DEVICE: &str = "grid-main";
/// For whatever should come at once, on a machine that does other things too.
const SOON: Duration = Duration::from_secs(20);
/// The agent's own deadline to drain and sync is shorter; a service manager's is longer.
const STOP_WITHIN: Duration = Duration::from_secs(15);
/// A line may tell what the meter had so long before or after its time: a window of 250 ms, a poll of several requests
/// on a busy machine; the clocks are one.
const TOLERANCE: Duration = Duration::from_millis(1_000);
/// What the agent may have in RAM, in a release build.
const RSS_BYTES_MAX: u64 = 16 << 20;
/// What a debug build may: not a promise to anybody, but a leak would show.
const RSS_BYTES_MAX_DEBUG: u64 = 64 << 20;

#[test]
fn five_kills_and_a_sixty_second_outage_leave_no_gap_and_no_changed_duplicate() {
    let mut seed = Seed::from_env();
    let mut rig = Rig::start();
    let mut kill_after = |rig: &mut Rig, from: u64, to: u64| {
        let moment = seed.between(Duration::from_millis(from), Duration::from_millis(to));
        println!("kill -9 after {moment:?}");
        let_pass(moment);
        rig.agent.kill9().expect("it was started");
        rig.agent.start().expect("it starts again");
        moment
    };
    rig.wait_until_live();
    kill_after(&mut rig, 500, 6_000);
    rig.wait_until_live();

    rig.broker.stop().expect("the broker ends");
    let outage = Duration::from_secs(60);
    let kills = [1, 2, 3].map(|_| kill_after(&mut rig, 1_000, 18_000));
    let_pass(outage.saturating_sub(kills.iter().sum()));
    rig.broker.start_again().expect("the broker comes back");
    // In the midst of the replay, or before the agent has noticed that it may begin.
    kill_after(&mut rig, 50, 4_000);

    rig.wait_until_live();
    let judgement = rig.stop_and_judge();
    assert!(judgement.tally(GATEWAY).epochs == 6, "one start and five restarts: {judgement}");
    assert!(judgement.tally(GATEWAY).historical > 0, "nothing came by the history lane: {judgement}");
}

#[test]
fn a_short_outage_is_replayed_on_history_while_new_data_is_live() {
    let mut rig = Rig::start();
    rig.wait_until_live();
    rig.broker.stop().expect("the broker ends");
    let outage = Duration::from_secs(5);
    let outage_begin = unix_ns();
    let_pass(outage);
    // From here on a window may find the broker there at once: it is new.
    let outage_end = unix_ns();
    rig.broker.start_again().expect("the broker comes back");
    rig.wait_until_live();
    rig.wait_until_drained();

    let judgement = rig.stop_and_judge();
    // A window that ended in the last second may still have been on its way to the disk when the broker came back.
    let during = outage_begin..outage_end - 1_000_000_000;
    let (lost_live, on_history): (usize, usize) = rig.consumer.look(|messages| {
        let late = |m: &&Message| time_ns(m).is_some_and(|time| during.contains(&time));
        let on = |lane: &str| messages.iter().filter(late).filter(|m| m.topic.ends_with(lane)).count();
        (on("/telemetry"), on("/history"))
    });
    // 4 s of 250 ms windows, less those at their edges.
    assert!(on_history >= 12, "{on_history} windows of the outage came by the history lane: {judgement}");
    assert_eq!(lost_live, 0, "windows of the outage came as if they were new: {judgement}");
}

#[test]
fn a_dead_meter_is_missing_not_zero() {
    let mut rig = Rig::start();
    rig.wait_until_live();
    rig.meter.die().expect("the meter dies");
    let dead_since = unix_ns();
    let silent = |line: &Line| line.field("missing").is_some() && line.field("power_flow").is_none();
    rig.wait_for_line("lines that say that it is missing", |line| line.time_ns > dead_since && silent(line));
    // Long enough for a value that is repeated to fall out of the tolerance around the time of death.
    let_pass(3 * TOLERANCE);
    rig.meter.revive().expect("the meter comes back");
    let alive_since = unix_ns();
    rig.wait_for_line("values again", |line| line.time_ns > alive_since && line.field("power_flow").is_some());

    // The truth ends at the meter's death: the oracle finds every value that was made up after it.
    let judgement = rig.stop_and_judge();
    let reason = rig.lines().into_iter().find(|line| line.time_ns > dead_since && silent(line));
    let reason = reason.and_then(|line| line.field("missing").cloned());
    assert_eq!(reason, Some(Value::Text("timeout".to_owned())), "{judgement}");
}

#[test]
fn sigterm_drains_and_says_offline() {
    let mut rig = Rig::start();
    rig.wait_until_live();
    rig.stop_and_judge();
    let endpoint = Endpoint::Plain(rig.broker.plain_port());
    let late = Consumer::start(rig.dir.path(), &endpoint, "late", &["v2g/+/+/state"]).expect("a consumer");
    let state = wait_for(SOON, "the retained state", || {
        late.look(|messages| messages.first().cloned()).ok_or_else(|| "nothing".to_owned())
    });
    let state = state.unwrap_or_else(|error| panic!("{error}"));
    let json: serde_json::Value = serde_json::from_slice(&state.payload).expect("the oracle has read it before");
    assert_eq!((state.retain, json["state"].as_str()), (true, Some("offline")));
}

#[test]
fn sighup_with_a_changed_plan_keeps_the_backlog() {
    let mut rig = Rig::start();
    rig.wait_until_live();
    rig.broker.stop().expect("the broker ends");
    rig.wait_for_status("a backlog of 8 entries", |status| status.waiting().is_some_and(|waiting| waiting >= 8));
    // The same meter by another of its names: two devices of one address and unit are a mistake.
    let second = rig.meter.address().replace("127.0.0.1", "localhost");
    rig.setup.meters.push(MeterSetup::sdm630("second", &second));
    rig.agent.configure(&rig.setup).expect("the file is ours");
    rig.agent.reload().expect("it runs");
    rig.wait_for_status("the second meter", |status| {
        status.number("/devices/second/answers").is_some_and(|answers| answers > 0)
    });
    rig.broker.start_again().expect("the broker comes back");
    rig.wait_for_line("lines of the second meter", |line| line.tag("device") == Some("second"));
    rig.wait_until_drained();
    rig.stop_and_judge();
}

#[test]
fn a_half_open_broker_is_noticed() {
    let mut rig = Rig::start();
    rig.wait_until_live();
    rig.broker.freeze().expect("it runs");
    // In flight and unanswered for 10 s is dead, whatever TCP says; then the next try must time out too.
    let noticed = Duration::from_secs(25);
    rig.wait_for_status_within(noticed, "that it is not online", |status| !status.is_online());
    rig.broker.thaw().expect("it was frozen");
    rig.wait_until_live();
    rig.wait_until_drained();
    rig.stop_and_judge();
}

#[test]
fn the_agent_fits_into_its_memory() {
    let mut rig = Rig::start();
    rig.wait_until_live();
    rig.broker.stop().expect("the broker ends");
    rig.wait_for_status("a backlog of 20 entries", |status| status.waiting().is_some_and(|waiting| waiting >= 20));
    rig.broker.start_again().expect("the broker comes back");
    rig.wait_until_live();
    rig.wait_until_drained();
    rig.stop_and_judge();
}

/// All peers and an agent, in one directory that goes with the test.
struct Rig {
    // Dropped in this order: the agent first, its directory last.
    agent: Agent,
    consumer: Consumer,
    broker: Broker,
    meter: Meter,
    setup: Setup,
    dir: tempfile::TempDir,
}

impl Rig {
    /// Everything runs; the consumer has been there since before the agent.
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let authority = Authority::new(&dir.path().join("tls"), "depot ca").expect("a ca");
        let server = authority.server(Validity::Good).expect("a server certificate");
        let broker = Broker::start(&dir.path().join("broker"), &server, Options::default()).expect("a broker");
        let meter = Meter::start(&dir.path().join("meter")).expect("a meter");
        let endpoint = Endpoint::Plain(broker.plain_port());
        let consumer = Consumer::start(dir.path(), &endpoint, "judge", &["v2g/#"]).expect("a consumer");
        let setup = Setup {
            gateway: GATEWAY.to_owned(),
            site: "depot-a".to_owned(),
            brokers: vec![broker.url()],
            tls: authority.client(GATEWAY, Validity::Good).expect("a client certificate"),
            meters: vec![MeterSetup::sdm630(DEVICE, &meter.address())],
            line: None,
            keep_alive: "5s",
            uplink: String::new(),
            extra: String::new(),
        };
        let mut agent = Agent::new(&binary(), dir.path(), &setup).expect("a configuration");
        agent.start().expect("the agent starts");
        Self { agent, consumer, broker, meter, setup, dir }
    }

    /// A batch of now, with a value of the meter in it, has come by the live lane.
    fn wait_until_live(&mut self) {
        let from = unix_ns();
        self.wait_for_line("live values of now", |line| line.time_ns > from && line.field("power_flow").is_some());
    }

    /// The agent says that nothing waits, and so it must remain: windows go on, so some entry may always be on its way.
    fn wait_until_drained(&mut self) {
        self.wait_for_status("an empty backlog", |status| {
            // Between two windows of 250 ms nothing waits and nothing is on its way.
            status.is_online() && status.waiting() == Some(0)
        });
    }

    #[track_caller]
    fn wait_for_status(&mut self, what: &str, holds: impl Fn(&Status) -> bool) {
        self.wait_for_status_within(SOON, what, holds);
    }

    #[track_caller]
    fn wait_for_status_within(&mut self, within: Duration, what: &str, holds: impl Fn(&Status) -> bool) {
        let look = || match self.agent.status() {
            Ok(status) if holds(&status) => Ok(()),
            Ok(status) => Err(format!("{status:?}")),
            Err(error) => Err(format!("{error:#?}")),
        };
        wait_for(within, what, look).unwrap_or_else(|late| panic!("{late}"));
    }

    #[track_caller]
    fn wait_for_line(&mut self, what: &str, holds: impl Fn(&Line) -> bool) {
        let look = || match (self.lines().iter().any(&holds), self.agent.runs()) {
            (true, _) => Ok(()),
            (false, Ok(true)) => Err(format!("{} messages and no such line", self.consumer.look(<[Message]>::len))),
            (false, _) => Err("the agent has ended".to_owned()),
        };
        wait_for(SOON, what, look).unwrap_or_else(|late| panic!("{late}"));
    }

    /// All device lines so far, in order of their arrival.
    fn lines(&self) -> Vec<Line> {
        self.consumer.look(|messages| messages.iter().flat_map(Message::device_lines).collect())
    }

    /// Waits until all is delivered, stops the agent in order, and lets the oracle speak: from the first number to the
    /// last one that the agent told of, nothing may be missing.
    fn stop_and_judge(&mut self) -> Judgement {
        self.wait_until_drained();
        let durable = self.agent.status().expect("it runs").durable().expect("it has written");
        self.check_memory();
        let status = self.agent.terminate(STOP_WITHIN).expect("it ends");
        assert!(status.success(), "the agent ended with {status}:\n{}", self.agent.log_tail());
        let oracle = || {
            let mut oracle = Oracle::new();
            for meter in &self.setup.meters {
                oracle.know(self.meter.truth(&meter.id, TOLERANCE).expect("the meter's file"));
            }
            oracle
        };
        let judgement = judge_the_end(SOON, GATEWAY, durable, oracle, || self.consumer.messages());
        assert_eq!(self.consumer.unreadable(), Vec::<String>::new());
        assert!(judgement.tally(GATEWAY).values_checked > 0, "no value was held against the truth: {judgement}");
        self.assert_energies_add_up();
        judgement
    }

    /// What the windows know of energy is in all the difference of what the meter's registers showed, to the mWh, whatever
    /// happened in between.
    fn assert_energies_add_up(&self) {
        let mut batches = BTreeMap::new();
        self.consumer.look(|messages| {
            for message in messages.iter().filter(|message| !message.device_lines().is_empty()) {
                let text = String::from_utf8_lossy(&message.payload).into_owned();
                let head = text.lines().next().and_then(|line| Line::parse(line).ok()).expect("the batch's own line");
                let identity = (head.count("epoch").expect("a number"), head.count("seq").expect("a number"));
                batches.insert(identity, message.device_lines());
            }
        });
        for (register, delta) in [("energy_import", "energy_import_delta"), ("energy_export", "energy_export_delta")] {
            let lines = batches.values().flatten().filter(|line| line.tag("device") == Some(DEVICE));
            let (mut shown, mut sum) = (Vec::new(), 0);
            for line in lines {
                shown.extend(line.field(register).and_then(Value::number).map(mwh));
                sum += line.field(delta).and_then(Value::number).map_or(0, mwh);
            }
            let (Some(first), Some(last)) = (shown.first(), shown.last()) else { panic!("no {register}") };
            assert_eq!(sum, last - first, "{register} of {} readings", shown.len());
        }
    }

    /// RSS at the end of a test's work. Only a release build is held to the promise.
    fn check_memory(&self) {
        let (now, peak) = self.agent.rss_bytes().expect("it runs");
        let max = if std::env::var_os("V2G_EDGE_BIN").is_some() { RSS_BYTES_MAX } else { RSS_BYTES_MAX_DEBUG };
        let kib = |bytes: u64| bytes >> 10;
        println!("RSS {} KiB, at most {} KiB, allowed {} KiB", kib(now), kib(peak), kib(max));
        assert!(peak < max, "the agent has had {peak} bytes in RAM, more than {max}");
    }
}

fn binary() -> PathBuf {
    std::env::var_os("V2G_EDGE_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_v2g-edge")), PathBuf::from)
}

/// Whole mWh.
#[allow(clippy::cast_possible_truncation, reason = "some MWh")]
fn mwh(kwh: f64) -> i64 {
    (kwh * 1e6).round() as i64
}

/// The time of a batch: that of its first line.
fn time_ns(message: &Message) -> Option<i64> {
    let text = String::from_utf8_lossy(&message.payload);
    text.lines().next()?.rsplit(' ').next()?.parse().ok()
}
