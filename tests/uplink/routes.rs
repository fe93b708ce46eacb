//! Show 5: brokers that die, come back, and send us elsewhere.

use std::time::Duration;

use hil_tests::broker::{Broker, Options};
use hil_tests::certs::Validity;
use hil_tests::consumer::{Consumer, Endpoint};
use hil_tests::oracle::Message;
use hil_tests::proxy::Proxy;
use hil_tests::scripted::{Script, ScriptedBroker};
use hil_tests::wait::unix_ns;

use crate::stage::{GATEWAY, SOON, Stage, kill_behind};

/// The first step of the back-off, TCP, TLS and CONNECT, and a busy machine.
const FAIL_OVER_WITHIN: Duration = Duration::from_secs(3 + 2);

#[test]
fn a_broker_that_is_killed_for_ever_in_mid_drain_is_left_for_the_next_within_the_first_step_and_without_a_gap() {
    let mut stage = Stage::set();
    let server = stage.authority.server(Validity::Good).expect("a server certificate");
    // Nothing that a broker has acknowledged waits in it for room with its consumer.
    let options = || Options { receive_maximum: 1_000, ..Options::default() };
    let dir = |name: &str| stage.dir.path().join(name);
    let mut first = Broker::start(&dir("first"), &server, options()).expect("a broker");
    let second = Broker::start(&dir("second"), &server, options()).expect("a broker");
    let line = Proxy::start(first.tls_port());
    let consumer = |broker: &Broker, name: &str| {
        Consumer::start(stage.dir.path(), &Endpoint::Plain(broker.plain_port()), name, &["v2g/#"]).expect("a consumer")
    };
    let consumers = [consumer(&first, "judge-1"), consumer(&second, "judge-2")];
    let heard = || {
        let mut heard: Vec<Message> = consumers.iter().flat_map(Consumer::messages).collect();
        heard.sort_by_key(|message| message.received_ns);
        heard
    };

    let slowly = "history_rate_max = \"8KiB/s\"\nfail_back = \"1h\"";
    stage.start(&["mqtts://127.0.0.1:9".to_owned()], slowly);
    stage.wait_for_backlog(100);
    stage.setup.brokers = vec![format!("mqtts://127.0.0.1:{}", line.port()), second.url()];
    stage.agent.configure(&stage.setup).expect("the file is ours");
    stage.agent.reload().expect("it runs");
    stage.wait_for_status("a drain on its way", |status| {
        status.number("/uplink/history/acknowledged").is_some_and(|n| n >= 10)
    });
    assert!(stage.agent.status().expect("it runs").waiting().expect("it says") > 20, "the drain is over already");
    kill_behind(&line, &mut first);
    let killed = unix_ns();
    let url = second.url();
    stage.wait_for_status("the second broker", |s| s.is_online() && s.text("/uplink/broker") == Some(&url));
    let took = Duration::from_nanos((unix_ns() - killed).unsigned_abs());
    println!("fail-over took {took:?}");
    assert!(took < FAIL_OVER_WITHIN, "fail-over took {took:?}");
    let judgement = stage.judge(heard);
    assert!(judgement.tally(GATEWAY).historical >= 100, "{judgement}");
}

#[test]
fn the_preferred_broker_is_returned_to_when_it_is_back_and_the_other_is_told() {
    let mut stage = Stage::set();
    let server = stage.authority.server(Validity::Good).expect("a server certificate");
    let dir = stage.dir.path().join("first");
    let mut first = Broker::start(&dir, &server, Options::default()).expect("a broker");
    let endpoint = Endpoint::Plain(first.plain_port());
    let consumer = Consumer::start(stage.dir.path(), &endpoint, "judge", &["v2g/#"]).expect("a consumer");
    let second = ScriptedBroker::start(Script::default());
    first.stop().expect("it ran");
    stage.start(&[first.url(), second.url()], "fail_back = \"1s\"");
    let url = second.url();
    stage.wait_for_status("the second broker", |s| s.is_online() && s.text("/uplink/broker") == Some(&url));
    first.start_again().expect("it comes back");
    let url = first.url();
    stage.wait_for_status("the first broker", |s| s.is_online() && s.text("/uplink/broker") == Some(&url));
    let last = second.messages().into_iter().rfind(|m| m.topic.ends_with("/state")).expect("it was told");
    assert!(last.says_offline(), "the broker that was left is told so");
    stage.judge(|| second.messages().into_iter().chain(consumer.messages()).collect());
}

#[test]
fn another_server_that_the_broker_names_is_gone_to() {
    let there = ScriptedBroker::start(Script::default());
    let named = format!("127.0.0.1:{}", there.port());
    let here = ScriptedBroker::start(Script {
        refusals: vec![(0x9c, Some(named))],
        refuses_always: true,
        ..Script::default()
    });
    let mut stage = Stage::set();
    stage.start(&[here.url()], "");
    let url = there.url();
    stage.wait_for_status("the other server", |s| s.is_online() && s.text("/uplink/broker") == Some(&url));
    stage.judge(|| there.messages());
}

#[test]
fn a_broker_by_ipv6_is_reached_with_tls() {
    let mut stage = Stage::set();
    let server = stage.authority.server_known_as("::1", Validity::Good).expect("a server certificate");
    let port = hil_tests::port::free_port();
    let show = |path: &std::path::Path| path.display().to_string();
    let extra = format!(
        "listener {port} ::1\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\nuse_identity_as_username true",
        show(&server.ca),
        show(&server.certificate),
        show(&server.key)
    );
    let options = Options { extra, ..Options::default() };
    let broker = Broker::start(&stage.dir.path().join("broker"), &server, options).expect("a broker");
    let endpoint = Endpoint::Plain(broker.plain_port());
    let consumer = Consumer::start(stage.dir.path(), &endpoint, "judge", &["v2g/#"]).expect("a consumer");
    stage.start(&[format!("mqtts://[::1]:{port}")], "");
    stage.wait_for_status_within(SOON, "a connection", hil_tests::agent::Status::is_online);
    stage.judge(|| consumer.messages());
}

#[test]
fn the_second_link_is_taken_when_the_first_has_no_way_and_left_when_it_has() {
    let broker = ScriptedBroker::start(Script::default());
    let mut stage = Stage::set();
    // An interface that is not there yet stands for a cable that is out; the loopback for the modem.
    stage.setup.extra = "[uplink.second]\ninterface = \"lo\"\nhistory_per_day_max = \"1GiB\"\n".to_owned();
    stage.start(&[broker.url()], "interface = \"v2g-cable\"\nfail_back = \"1h\"");
    stage.wait_for_status("a connection by the second link", |status| {
        status.is_online() && status.text("/uplink/interface") == Some("lo")
    });
    let status =
        stage.wait_for_status("a budget", |status| status.number("/uplink/history_bytes_left_today").is_some());
    // An hour's worth and what has flowed in since.
    assert!(status.number("/uplink/history_bytes_left_today") <= Some((1 << 30) / 23));
    stage.judge(|| broker.messages());
}
