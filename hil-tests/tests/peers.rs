//! The rig's own proof: its peers are real, and what they pass on is whole. No agent takes part; `mosquitto_pub`
//! with a client certificate stands in for it.

use std::path::Path;
use std::time::Duration;

use hil_tests::broker::{Broker, Options};
use hil_tests::certs::{Authority, Files, Validity};
use hil_tests::consumer::{Consumer, ConsumerError, Endpoint, publish};
use hil_tests::meter::Meter;
use hil_tests::oracle::Oracle;
use hil_tests::wait::{wait_for, wait_until};

const SOON: Duration = Duration::from_secs(20);

struct Rig {
    broker: Broker,
    authority: Authority,
    gateway: Files,
    dir: tempfile::TempDir,
}

fn rig() -> Rig {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let authority = Authority::new(&dir.path().join("tls"), "depot ca").expect("a ca");
    let server = authority.server(Validity::Good).expect("a server certificate");
    let gateway = authority.client("gw", Validity::Good).expect("a client certificate");
    let broker = Broker::start(&dir.path().join("broker"), &server, Options::default()).expect("a broker");
    Rig { broker, authority, gateway, dir }
}

impl Rig {
    fn consumer(&self) -> Consumer {
        let endpoint = Endpoint::Plain(self.broker.plain_port());
        Consumer::start(self.dir.path(), &endpoint, "judge", &["v2g/#"]).expect("a consumer")
    }

    fn send(&self, files: &Files, lane: &str, seq: u64) -> Result<(), ConsumerError> {
        let time = seq * 1_000;
        let payload = format!(
            "gateway,site=s,gateway=gw epoch=1i,seq={seq}i,points=1i,time_trust=\"synced\",version=2i {time}\n\
             meter,site=s,gateway=gw,device=m voltage={} {time}\n",
            200 + seq
        );
        let seq = seq.to_string();
        let property = |key, value| ["-D", "publish", "user-property", key, value];
        let mut arguments = vec!["-D", "publish", "content-type", "application/vnd.influx-line-protocol"];
        arguments.extend(["-D", "publish", "payload-format-indicator", "1"]);
        for (key, value) in [("gateway", "gw"), ("epoch", "1"), ("seq", &seq), ("points", "1")] {
            arguments.extend(property(key, value));
        }
        if lane == "history" {
            arguments.extend(property("historical", "true"));
        }
        let endpoint = Endpoint::Tls(self.broker.tls_port(), files.clone());
        publish(&endpoint, &format!("v2g/s/gw/{lane}"), payload.as_bytes(), &arguments)
    }
}

#[test]
fn what_gateways_send_reaches_the_oracle_whole_over_restarts_of_the_broker() {
    let mut rig = rig();
    let consumer = rig.consumer();
    for seq in 1..=3 {
        rig.send(&rig.gateway, "telemetry", seq).expect("the broker takes it");
    }
    rig.broker.stop().expect("it ends");
    rig.broker.start_again().expect("it comes back");
    // At once: whether or not the consumer is back already, it is owed these.
    rig.send(&rig.gateway, "telemetry", 5).expect("the broker takes it");
    rig.send(&rig.gateway, "history", 4).expect("the broker takes it");
    // Not by their number: what the broker had not seen acknowledged when it went comes twice.
    let all = wait_for(SOON, "all five batches", || {
        let mut oracle = Oracle::new();
        oracle.expect_range("gw", 1, 5);
        oracle.take_all(&consumer.messages());
        let judgement = oracle.judge();
        if judgement.passed() { Ok(()) } else { Err(judgement.to_string()) }
    });
    all.unwrap_or_else(|late| panic!("{late}"));
    assert_eq!(consumer.unreadable(), Vec::<String>::new());
}

#[test]
fn the_broker_knows_gateways_by_certificate_and_keeps_them_to_their_own_topics() {
    let rig = rig();
    let consumer = rig.consumer();
    let other = rig.authority.client("gw-other", Validity::Good).expect("a client certificate");
    let expired = rig.authority.client("gw-expired", Validity::Expired).expect("a client certificate");
    let stranger = Authority::new(&rig.dir.path().join("stranger"), "stranger ca").expect("a ca");
    let stranger = stranger.client("gw", Validity::Good).expect("a client certificate");
    let stranger = Files { ca: rig.gateway.ca.clone(), ..stranger };
    for (name, files) in [("another's topic", &other), ("expired", &expired), ("another ca", &stranger)] {
        // A refusal by the ACL is a PUBACK that mosquitto_pub only warns of; what counts is what arrives.
        let _ = rig.send(files, "telemetry", 1);
        assert_eq!(consumer.count("/telemetry"), 0, "{name}");
    }
    rig.send(&rig.gateway, "telemetry", 2).expect("the broker takes it");
    wait_until(SOON, "the one that is allowed", || consumer.count("/telemetry") == 1);
    assert!(consumer.look(|messages| String::from_utf8_lossy(&messages[0].payload).contains("seq=2i")));
}

#[test]
fn a_frozen_broker_accepts_connections_and_says_nothing() {
    let mut rig = rig();
    rig.broker.freeze().expect("it runs");
    assert!(hil_tests::port::accepts(rig.broker.tls_port()), "the kernel answers for it");
    rig.broker.thaw().expect("it runs");
    rig.send(&rig.gateway, "telemetry", 1).expect("awake again");
}

#[test]
fn a_consumer_over_tls_with_its_own_name_reads_everything() {
    let rig = rig();
    let auditor = rig.authority.client("auditor", Validity::Good).expect("a client certificate");
    let endpoint = Endpoint::Tls(rig.broker.tls_port(), auditor);
    let consumer = Consumer::start(rig.dir.path(), &endpoint, "auditor", &["v2g/#"]).expect("a consumer");
    rig.send(&rig.gateway, "telemetry", 1).expect("the broker takes it");
    wait_until(SOON, "the batch", || consumer.count("/telemetry") == 1);
}

#[test]
fn the_meter_writes_down_what_it_serves_over_death_and_revival() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let tolerance = Duration::from_millis(1);
    let mut meter = Meter::start(dir.path()).expect("a meter");
    let steps = |path: &Path| std::fs::read_to_string(path.join("truth.jsonl")).map_or(0, |text| text.lines().count());
    wait_until(SOON, "three steps", || steps(dir.path()) >= 3);
    let address = meter.address();
    let served = read_float(&address, 52).expect("it answers");
    let truth = meter.truth("grid-main", tolerance).expect("its file");
    let now = hil_tests::wait::unix_ns();
    let just_now = |ms: i64| truth.had("power_flow", now - ms * 1_000_000, f64::from(served) / 1e3);
    assert!((0..2_000).any(just_now), "{served} W is none of what it had in the last two seconds");

    meter.die().expect("it dies");
    assert_eq!(read_float(&address, 52), None);
    let before = steps(dir.path());
    let dead_since = hil_tests::wait::unix_ns();
    let truth = meter.truth("grid-main", tolerance).expect("its file");
    assert!(!truth.had("power_flow", dead_since + 2_000_000, f64::from(served) / 1e3), "the dead have no power");

    meter.revive().expect("it comes back");
    assert_eq!(meter.address(), address);
    wait_until(SOON, "more steps", || steps(dir.path()) > before + 2);
    let energy = wait_for(SOON, "an answer", || read_float(&address, 72).ok_or_else(|| "none".to_owned()));
    let first_energy_kwh = 1_000.0;
    assert!(energy.expect("it answers") > first_energy_kwh + 0.02, "its counters went back");
}

/// A Modbus TCP read of two input registers, by hand: transaction 1, unit 1, function 4.
fn read_float(address: &str, register: u16) -> Option<f32> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(SOON)).ok()?;
    let [high, low] = register.to_be_bytes();
    stream.write_all(&[0, 1, 0, 0, 0, 6, 1, 4, high, low, 0, 2]).ok()?;
    let mut answer = [0_u8; 13];
    stream.read_exact(&mut answer).ok()?;
    let bytes: [u8; 4] = answer[9..].try_into().ok()?;
    (answer[7] == 4).then(|| f32::from_be_bytes(bytes))
}
