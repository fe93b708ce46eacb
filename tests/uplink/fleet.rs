//! The brokers' configurations that this repository offers, with paths and ports of the test in place of those of a
//! server, against the real programs.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use hil_tests::broker::{Broker, Options};
use hil_tests::certs::{Files, Validity};
use hil_tests::consumer::{Consumer, Endpoint, publish};
use hil_tests::oracle::Message;
use hil_tests::port::{accepts, free_port};
use hil_tests::process::{Process, program};
use hil_tests::proxy::Proxy;
use hil_tests::wait::wait_until;

use crate::stage::{GATEWAY, SOON, Stage, kill_behind};

fn config(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("configs").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every one must be there: a configuration that has changed must not slip through.
fn with(mut text: String, changes: &[(&str, String)]) -> String {
    for (from, to) in changes {
        assert!(text.contains(from), "{from} is not in it");
        text = text.replace(from, to);
    }
    text
}

fn start(name: &str, arguments: &[&str], dir: &Path, port: u16) -> Process {
    let mut command = Command::new(program(name));
    command.args(arguments);
    let process = Process::start(name, &mut command, &dir.join(format!("{name}.log"))).expect("it starts");
    wait_until(Duration::from_secs(15), "its port", || accepts(port));
    process
}

/// A mosquitto with the configuration and the rules of this repository.
struct Offered {
    process: Process,
    config: PathBuf,
    dir: PathBuf,
    port: u16,
    websocket: u16,
}

impl Offered {
    fn start(stage: &Stage) -> Self {
        let dir = stage.dir.path().join("mosquitto");
        fs::create_dir_all(&dir).expect("ours");
        let Files { ca, certificate, key } = stage.authority.server(Validity::Good).expect("a server certificate");
        let (port, websocket) = (free_port(), free_port());
        let acl = dir.join("acl");
        // What the test's consumer needs for its probe, and no real one has.
        fs::write(&acl, config("mosquitto.acl") + "pattern readwrite hil/probe\n").expect("ours");
        let text = with(
            config("mosquitto.conf"),
            &[
                ("/etc/mosquitto/certs/ca.pem", ca.display().to_string()),
                ("/etc/mosquitto/certs/server.pem", certificate.display().to_string()),
                ("/etc/mosquitto/certs/server.key", key.display().to_string()),
                ("/etc/mosquitto/v2g.acl", acl.display().to_string()),
                ("persistence_location /var/lib/mosquitto/", format!("persistence_location {}/", dir.display())),
                ("listener 8883", format!("listener {port} 127.0.0.1")),
                ("listener 8084", format!("listener {websocket} 127.0.0.1")),
            ],
        );
        // Started by root it would change to a user who cannot read the test's files.
        let path = dir.join("mosquitto.conf");
        fs::write(&path, format!("user root\n{text}")).expect("ours");
        let process = start("mosquitto", &["-c", &path.display().to_string()], &dir, port);
        Self { process, config: path, dir, port, websocket }
    }

    /// In order: it writes down what it owes.
    fn restart(&mut self) {
        self.process.terminate(Duration::from_secs(15)).expect("it ends");
        self.process = start("mosquitto", &["-c", &self.config.display().to_string()], &self.dir, self.port);
    }

    /// With a certificate for this name.
    fn endpoint(&self, stage: &Stage, name: &str) -> Endpoint {
        Endpoint::Tls(self.port, stage.authority.client(name, Validity::Good).expect("a certificate"))
    }
}

#[test]
fn the_mosquitto_configuration_lets_a_gateway_write_its_own_subtree_and_nothing_else() {
    let mut stage = Stage::set();
    let broker = Offered::start(&stage);
    let consumer =
        Consumer::start(&broker.dir, &broker.endpoint(&stage, "ingest"), "ingest", &["v2g/#"]).expect("a consumer");
    let urls = [format!("mqtts://127.0.0.1:{}", broker.port), format!("wss://127.0.0.1:{}/mqtt", broker.websocket)];
    stage.start(&urls[..1], "topic_prefix = \"v2g/{site}/another\"");
    stage.wait_for_trouble("Not authorized (0x87)", "ACL");
    assert_eq!(consumer.count("/telemetry") + consumer.count("/history"), 0, "another's subtree was written");
    stage.setup.uplink = String::new();
    for url in urls.iter().rev() {
        stage.setup.brokers = vec![url.clone()];
        stage.agent.configure(&stage.setup).expect("the file is ours");
        stage.agent.reload().expect("it runs");
        stage.wait_for_status(url, |status| status.is_online() && status.text("/uplink/broker") == Some(url));
        let before = consumer.count("/telemetry");
        wait_until(SOON, "live data", || consumer.count("/telemetry") >= before + 4);
    }
    let judgement = stage.judge(|| consumer.messages());
    assert!(judgement.tally(GATEWAY).delivered > 8, "{judgement}");
}

/// Connects as `name` with a will on this topic, waits until it reads its retained catalog, and dies without a word.
fn die_with_a_will(stage: &Stage, port: u16, name: &str, topic: &str, will: &str) {
    let Files { ca, certificate, key } = stage.authority.client(name, Validity::Good).expect("a certificate");
    let mut command = Command::new(program("mosquitto_sub"));
    command.args(["-V", "5", "-h", "127.0.0.1", "-p", &port.to_string(), "-q", "1"]);
    command.arg("--cafile").arg(ca).arg("--cert").arg(certificate).arg("--key").arg(key);
    command.args(["--will-topic", topic, "--will-payload", will, "--will-retain", "--will-qos", "1"]);
    // Retained: it comes at once.
    command.args(["-t", &format!("v2g/depot-a/{name}/catalog")]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("it is piped");
    BufReader::new(stdout).read_line(&mut line).expect("text");
    child.kill().expect("ours");
    child.wait().expect("ours");
}

/// What a consumer has heard, as `topic payload`.
fn heard(consumer: &Consumer) -> Vec<String> {
    let told =
        |m: &Message| format!("{} {}", m.topic.trim_start_matches("v2g/depot-a/"), String::from_utf8_lossy(&m.payload));
    consumer.look(|messages| messages.iter().map(told).collect())
}

#[test]
fn a_gateway_reads_and_writes_below_its_own_prefix_only_its_will_and_retained_state_included() {
    let stage = Stage::set();
    let broker = Offered::start(&stage);
    let [one, two, ingest] = ["gw-01", "gw-02", "ingest"].map(|name| broker.endpoint(&stage, name));
    let all = Consumer::start(&broker.dir, &ingest, "ingest", &["v2g/#"]).expect("a consumer");
    let spy = Consumer::start(&broker.dir, &two, "gw-02", &["v2g/#"]).expect("a consumer");
    let say = |by: &Endpoint, topic: &str, payload: &str| {
        // Whether mosquitto_pub says that it was refused depends on its version: what arrives is what counts.
        let _ = publish(by, &format!("v2g/depot-a/{topic}"), payload.as_bytes(), &["-r"]);
    };
    say(&one, "gw-01/state", "online");
    say(&one, "gw-01/telemetry", "1 kW");
    say(&two, "gw-01/state", "forged");
    say(&two, "gw-01/telemetry", "forged");
    say(&two, "gw-01/command", "forged");
    say(&ingest, "gw-01/state", "forged");
    say(&two, "gw-02/catalog", "two");
    // Some versions refuse the CONNECT, others the will.
    die_with_a_will(&stage, broker.port, "gw-02", "v2g/depot-a/gw-01/state", "forged");
    die_with_a_will(&stage, broker.port, "gw-02", "v2g/depot-a/gw-02/state", "offline");
    let is_last = |consumer: &Consumer| heard(consumer).last().is_some_and(|last| last == "gw-02/state offline");
    wait_until(SOON, "its own will", || is_last(&all) && is_last(&spy));
    let expected = ["gw-01/state online", "gw-01/telemetry 1 kW", "gw-02/catalog two", "gw-02/state offline"];
    assert_eq!(heard(&all), expected);
    assert_eq!(heard(&spy), expected[2..], "what is retained is read no more than what is new");

    let console = broker.endpoint(&stage, "console");
    let orders = Consumer::start(&broker.dir, &one, "gw-01", &["v2g/+/gw-01/#"]).expect("a consumer");
    say(&console, "gw-01/command", "stop");
    say(&console, "gw-01/telemetry", "forged");
    say(&console, "gw-01/command", "charge");
    wait_until(SOON, "the orders", || heard(&orders).last().is_some_and(|last| last == "gw-01/command charge"));
    assert!(heard(&orders).iter().all(|told| !told.contains("forged")), "{:?}", heard(&orders));
}

/// mosquitto may know a session that it has read back from disk by its client id only: what it is owed must not be dropped for
/// that its user is not there.
#[test]
fn what_the_consumer_is_owed_while_it_is_away_survives_a_restart_of_the_broker() {
    let stage = Stage::set();
    let mut broker = Offered::start(&stage);
    let [one, ingest] = ["gw-01", "ingest"].map(|name| broker.endpoint(&stage, name));
    drop(Consumer::start(&broker.dir, &ingest, "ingest", &["v2g/#"]).expect("a consumer"));
    let say = |payload: &str| publish(&one, "v2g/depot-a/gw-01/telemetry", payload.as_bytes(), &[]).expect("it may");
    say("before");
    broker.restart();
    say("after");
    let all = Consumer::start(&broker.dir, &ingest, "ingest", &["v2g/#"]).expect("a consumer");
    wait_until(SOON, "what it is owed", || heard(&all).len() >= 2);
    assert_eq!(heard(&all), ["gw-01/telemetry before", "gw-01/telemetry after"]);
}

#[test]
fn behind_haproxy_a_broker_that_dies_is_left_for_another() {
    let mut stage = Stage::set();
    let server = stage.authority.server(Validity::Good).expect("a server certificate");
    let dir = stage.dir.path().to_owned();
    let options = || Options { receive_maximum: 1_000, ..Options::default() };
    let mut brokers =
        ["a", "b", "c"].map(|name| Some(Broker::start(&dir.join(name), &server, options()).expect("a broker")));
    let consumers: Vec<Consumer> = brokers
        .iter()
        .flatten()
        .zip(["judge-a", "judge-b", "judge-c"])
        .map(|(broker, name)| {
            Consumer::start(&dir, &Endpoint::Plain(broker.plain_port()), name, &["v2g/#"]).expect("a consumer")
        })
        .collect();
    let heard = || {
        let mut heard: Vec<Message> = consumers.iter().flat_map(Consumer::messages).collect();
        heard.sort_by_key(|message| message.received_ns);
        heard
    };
    let port = free_port();
    let ports: Vec<u16> = brokers.iter().flatten().map(Broker::tls_port).collect();
    let text = with(
        config("haproxy.cfg"),
        &[
            // As many file descriptors as a test has.
            ("maxconn 60000", "maxconn 100".to_owned()),
            ("bind :8883", format!("bind 127.0.0.1:{port}")),
            ("10.0.1.11:8883", format!("127.0.0.1:{}", ports[0])),
            ("10.0.1.12:8883", format!("127.0.0.1:{}", ports[1])),
            ("10.0.1.13:8883", format!("127.0.0.1:{}", ports[2])),
        ],
    );
    let path = dir.join("haproxy.cfg");
    fs::write(&path, text).expect("ours");
    let _haproxy = start("haproxy", &["-db", "-f", &path.display().to_string()], &dir, port);
    let line = Proxy::start(port);
    stage.start(&[format!("mqtts://127.0.0.1:{}", line.port())], "");
    for left in [2, 1] {
        stage.wait_until_online();
        stage.wait_until_drained();
        // The one that the gateway is at: its consumer heard last.
        let newest = |consumer: &Consumer| consumer.look(|messages| messages.last().map(|m| m.received_ns));
        let at = (0..3).filter(|n| brokers[*n].is_some()).max_by_key(|n| newest(&consumers[*n])).expect("one lives");
        let lost = stage.agent.status().expect("it runs").number("/uplink/disconnections").unwrap_or(0);
        kill_behind(&line, brokers[at].as_mut().expect("it lives"));
        brokers[at] = None;
        stage.wait_for_status(&format!("another of {left} brokers"), |status| {
            status.is_online() && status.number("/uplink/disconnections").is_some_and(|now| now > lost)
        });
    }
    stage.judge(heard);
}
