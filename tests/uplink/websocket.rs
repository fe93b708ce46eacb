//! MQTT over WebSocket, plain and with client certificates: mosquitto's own listeners, and servers that refuse.

use std::collections::HashSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hil_tests::agent::MeterSetup;
use hil_tests::broker::{Broker, Options};
use hil_tests::certs::{Authority, Files, Validity};
use hil_tests::consumer::{Consumer, Endpoint};
use hil_tests::port::{accepts, free_port};
use hil_tests::process::{Process, program};
use hil_tests::proxy::Proxy;
use hil_tests::scripted::{Script, ScriptedBroker};
use hil_tests::wait::{let_pass, wait_until};

use crate::stage::{GATEWAY, SOON, Stage};

/// What the agent sends in one frame.
const FRAME_BYTES_MAX: usize = 16 * 1024;

/// A mosquitto with two listeners more.
struct Listeners {
    broker: Broker,
    plain: u16,
    tls: u16,
}

impl Listeners {
    fn start(dir: &Path, server: &Files) -> Self {
        let (plain, tls) = (free_port(), free_port());
        let Files { ca, certificate, key } = server;
        let extra = format!(
            "listener {plain} 127.0.0.1\nprotocol websockets\nlistener {tls} 127.0.0.1\nprotocol websockets\n\
             cafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\nuse_identity_as_username true",
            ca.display(),
            certificate.display(),
            key.display()
        );
        let options = Options { receive_maximum: 1_000, extra, ..Options::default() };
        let broker = Broker::start(dir, server, options).expect("a broker");
        wait_until(SOON, "both listeners", || accepts(plain) && accepts(tls));
        Self { broker, plain, tls }
    }

    fn consumer(&self, dir: &Path) -> Consumer {
        Consumer::start(dir, &Endpoint::Plain(self.broker.plain_port()), "judge", &["v2g/#"]).expect("a consumer")
    }
}

/// The verdict and the text of each broker in turn.
fn doctor(stage: &mut Stage, brokers: &[String]) -> Vec<(String, String)> {
    stage.setup.brokers = brokers.to_vec();
    stage.agent.configure(&stage.setup).expect("the file is ours");
    let config = stage.agent.config().display().to_string();
    let (_, output) = stage.agent.ask(&["doctor", "--json", "--config", &config]).expect("it ends");
    let report: serde_json::Value = serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}: {output}"));
    let checks = report["checks"].as_array().expect("a list");
    let of = |url: &String| {
        let check = checks.iter().find(|check| check["what"].as_str() == Some(&format!("broker {url}")));
        let check = check.unwrap_or_else(|| panic!("nothing of {url} in {report}"));
        let text = |key: &str| check[key].as_str().unwrap_or_default().to_owned();
        (text("verdict"), text("found"))
    };
    brokers.iter().map(of).collect()
}

/// Answers every HTTP request by its path, and what is none as web servers do.
fn serve(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("bound").port();
    // Ends with the test.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = answer_one(stream, &answer);
        }
    });
    port
}

fn answer_one(mut stream: TcpStream, answer: impl Fn(&str) -> Vec<u8>) -> std::io::Result<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte)? == 1 {
        head.push(byte[0]);
        if !b"GET /".starts_with(&head[..head.len().min(5)]) {
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")?;
            return stream.shutdown(Shutdown::Write);
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    stream.write_all(&answer(head.split(' ').nth(1).unwrap_or_default()))?;
    stream.shutdown(Shutdown::Write)
}

#[test]
fn over_wss_with_a_client_certificate_the_history_has_no_gap_through_outages_and_messages_of_many_frames() {
    let mut stage = Stage::set();
    // One window of them all is larger than a frame, though nobody answers for these.
    let feeder = |n: u16| MeterSetup::sdm630(&format!("feeder-{n}"), &format!("127.0.1.{n}:9"));
    stage.setup.meters.extend((1..=100).map(feeder));
    let server = stage.authority.server(Validity::Good).expect("a server certificate");
    let dir = stage.dir.path().to_owned();
    let mut listeners = Listeners::start(&dir.join("broker"), &server);
    let consumer = listeners.consumer(&dir);
    let line = Proxy::start(listeners.tls);
    stage.start(&[format!("wss://127.0.0.1:{}/mqtt", line.port())], "");
    stage.wait_until_online();

    listeners.broker.stop().expect("it ran");
    let_pass(Duration::from_secs(3));
    listeners.broker.start_again().expect("it comes back");
    stage.wait_until_online();
    stage.wait_until_drained();
    // In the midst of a message.
    line.reset_after(20_000);
    wait_until(SOON, "the reset", || line.has_reset());
    stage.wait_until_online();
    // Half-open: MQTT's keep-alive of 5 s notices it here, too.
    line.freeze(true);
    stage.wait_for_status_within(Duration::from_secs(7), "that it is not online", |status| !status.is_online());
    line.freeze(false);
    stage.wait_until_online();

    let judgement = stage.judge(|| consumer.messages());
    assert!(judgement.tally(GATEWAY).historical > 0, "nothing came by the history lane: {judgement}");
    assert!(judgement.tally(GATEWAY).gaps.is_empty(), "nothing was to be given up: {judgement}");
    let largest = consumer.messages().iter().map(|message| message.payload.len()).max().unwrap_or(0);
    assert!(largest > 2 * FRAME_BYTES_MAX, "the largest message had {largest} bytes");
}

#[test]
fn ws_wss_and_mqtts_stand_in_for_each_other() {
    let mut stage = Stage::set();
    let server = stage.authority.server(Validity::Good).expect("a server certificate");
    let dir = stage.dir.path().to_owned();
    let listeners = Listeners::start(&dir.join("broker"), &server);
    let consumer = listeners.consumer(&dir);
    let (plain, tls) = (Proxy::start(listeners.plain), Proxy::start(listeners.tls));
    let urls = [
        format!("wss://127.0.0.1:{}/mqtt", tls.port()),
        format!("ws://127.0.0.1:{}/mqtt", plain.port()),
        listeners.broker.url(),
    ];
    let at = |stage: &mut Stage, url: &String| {
        stage.wait_for_status(url, |status| status.is_online() && status.text("/uplink/broker") == Some(url));
    };
    stage.start(&urls, "fail_back = \"1s\"");
    at(&mut stage, &urls[0]);
    tls.close();
    at(&mut stage, &urls[1]);
    plain.close();
    at(&mut stage, &urls[2]);
    plain.open();
    at(&mut stage, &urls[1]);
    tls.open();
    at(&mut stage, &urls[0]);
    let judgement = stage.judge(|| consumer.messages());
    assert!(judgement.tally(GATEWAY).gaps.is_empty(), "nothing was to be given up: {judgement}");
}

#[test]
fn behind_a_proxy_that_reads_http_the_history_has_no_gap_and_a_dead_broker_is_named() {
    let mut stage = Stage::set();
    let server = stage.authority.server(Validity::Good).expect("a server certificate");
    let dir = stage.dir.path().to_owned();
    let mut listeners = Listeners::start(&dir.join("broker"), &server);
    let consumer = listeners.consumer(&dir);
    let port = free_port();
    let config = dir.join("haproxy.cfg");
    let text = format!(
        "global\n    maxconn 100\ndefaults\n    mode http\n    timeout connect 1s\n    timeout client 30s\n    \
         timeout server 30s\n    timeout tunnel 30s\nfrontend web\n    bind 127.0.0.1:{port}\n    \
         default_backend brokers\nbackend brokers\n    server broker 127.0.0.1:{}\n",
        listeners.plain
    );
    fs::write(&config, text).expect("ours");
    let mut command = Command::new(program("haproxy"));
    command.args(["-db", "-f", &config.display().to_string()]);
    let _haproxy = Process::start("haproxy", &mut command, &dir.join("haproxy.log")).expect("it starts");
    wait_until(SOON, "the proxy", || accepts(port));

    stage.start(&[format!("ws://127.0.0.1:{port}/mqtt")], "");
    stage.wait_until_online();
    listeners.broker.stop().expect("it ran");
    let heard = consumer.count("/telemetry");
    stage.wait_for_trouble("HTTP 503", "is the broker running");
    listeners.broker.start_again().expect("it comes back");
    stage.wait_until_online();
    // The consumer needs its time to come back, too; what it heard last until then is the will.
    wait_until(SOON, "live data at the consumer", || consumer.count("/telemetry") > heard);
    let judgement = stage.judge(|| consumer.messages());
    assert!(judgement.tally(GATEWAY).historical > 0, "nothing came by the history lane: {judgement}");
    assert!(judgement.tally(GATEWAY).gaps.is_empty(), "nothing was to be given up: {judgement}");
}

#[test]
fn a_broker_without_websocket_sends_us_to_one_with_it_by_its_scheme() {
    let mut stage = Stage::set();
    let server = stage.authority.server(Validity::Good).expect("a server certificate");
    let dir = stage.dir.path().to_owned();
    let listeners = Listeners::start(&dir.join("broker"), &server);
    let consumer = listeners.consumer(&dir);
    let there = format!("ws://127.0.0.1:{}/there", listeners.plain);
    let here = ScriptedBroker::start(Script {
        refusals: vec![(0x9c, Some(there.clone()))],
        refuses_always: true,
        ..Script::default()
    });
    stage.start(&[here.url()], "");
    stage.wait_for_status("the other", |s| s.is_online() && s.text("/uplink/broker") == Some(&there));
    stage.judge(|| consumer.messages());
}

#[test]
fn doctor_and_status_name_what_is_behind_a_wrong_scheme_port_path_or_certificate() {
    let mut stage = Stage::set();
    let server = stage.authority.server(Validity::Good).expect("a server certificate");
    let dir = stage.dir.path().to_owned();
    let listeners = Listeners::start(&dir.join("broker"), &server);
    let refusing = serve(|path| match path {
        "/moved" => b"HTTP/1.1 308 Permanent Redirect\r\nLocation: https://b.example/mqtt\r\n\r\n".to_vec(),
        "/odd" => b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n".to_vec(),
        path => format!("HTTP/1.1 {} Refused\r\n\r\n", path.trim_start_matches('/')).into_bytes(),
    });
    let Listeners { broker, plain, tls } = &listeners;
    let (mqtt, mqtts) = (broker.plain_port(), broker.tls_port());
    let cases = [
        (format!("wss://127.0.0.1:{tls}/mqtt"), "takes us", "1000 messages in flight"),
        (format!("ws://127.0.0.1:{plain}/any"), "takes us", "1000 messages in flight"),
        (format!("ws://127.0.0.1:{refusing}/404"), "HTTP 404", "correct the path"),
        (format!("ws://127.0.0.1:{refusing}/401"), "HTTP 401", "known by certificate"),
        (format!("ws://127.0.0.1:{refusing}/403"), "HTTP 403", "rules"),
        (format!("ws://127.0.0.1:{refusing}/407"), "HTTP 407", "proxies"),
        (format!("ws://127.0.0.1:{refusing}/200"), "a page came", "hand on Upgrade"),
        (format!("ws://127.0.0.1:{refusing}/moved"), "https://b.example/mqtt", "redirects are not followed"),
        (format!("ws://127.0.0.1:{refusing}/odd"), "not to WebSocket", "a proxy between"),
        (format!("ws://127.0.0.1:{refusing}/502"), "no broker behind", "is the broker running"),
        // The right machine, the wrong port.
        (format!("ws://127.0.0.1:{mqtt}/mqtt"), "in place of an answer to HTTP", "mqtt://"),
        (format!("ws://127.0.0.1:{tls}/mqtt"), "in place of an answer to HTTP", "wss://"),
        (format!("wss://127.0.0.1:{mqtts}/mqtt"), "in place of an answer to HTTP", "mqtts://"),
        (format!("mqtt://127.0.0.1:{refusing}"), "speaks HTTP and not MQTT", "ws://"),
        (format!("wss://127.0.0.1:{refusing}/mqtt"), "TLS", "the port speaks TLS"),
    ];
    let mut texts = HashSet::new();
    for cases in cases.chunks(8) {
        let urls: Vec<String> = cases.iter().map(|(url, ..)| url.clone()).collect();
        for ((url, what, remedy), (verdict, found)) in cases.iter().zip(doctor(&mut stage, &urls)) {
            println!("{url}: {verdict}: {found}");
            assert!(found.contains(what) && found.contains(remedy), "{url}: {found}");
            assert_eq!(verdict == "good", *what == "takes us", "{url}: {verdict}, {found}");
            texts.insert(found.replace(url.as_str(), ""));
        }
    }
    assert!(texts.len() >= cases.len() - 1, "{texts:#?}");

    // The running agent says the same, and what TLS has to say is said as without WebSocket.
    stage.start(&[format!("ws://127.0.0.1:{refusing}/404")], "");
    stage.wait_for_trouble("HTTP 404", "correct the path");
    let stranger = Authority::new(&dir.join("stranger"), "another ca").expect("a ca");
    stage.setup.brokers = vec![format!("wss://127.0.0.1:{tls}/mqtt")];
    stage.setup.tls = stranger.client(GATEWAY, Validity::Good).expect("one");
    stage.setup.tls.ca = stage.authority.ca();
    stage.agent.configure(&stage.setup).expect("the file is ours");
    stage.agent.reload().expect("it runs");
    stage.wait_for_trouble("", "does not know the CA of this gateway's certificate");
}
