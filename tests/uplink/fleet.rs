//! The brokers' configurations that this repository offers, with paths and ports of the test in place of those of a
//! server, against the real programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hil_tests::broker::{Broker, Options};
use hil_tests::certs::{Files, Validity};
use hil_tests::consumer::{Consumer, Endpoint};
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

#[test]
fn the_mosquitto_configuration_lets_a_gateway_write_its_own_subtree_and_nothing_else() {
    let mut stage = Stage::set();
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
    let _broker = start("mosquitto", &["-c", &path.display().to_string()], &dir, port);

    let collector = stage.authority.client("collector", Validity::Good).expect("a certificate");
    let consumer = Consumer::start(&dir, &Endpoint::Tls(port, collector), "collector", &["v2g/#"]).expect("a consumer");
    let urls = [format!("mqtts://127.0.0.1:{port}"), format!("wss://127.0.0.1:{websocket}/mqtt")];
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
