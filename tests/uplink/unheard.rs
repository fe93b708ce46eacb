//! Nobody at the broker subscribes: told, and on request not believed.

use hil_tests::agent::Status;
use hil_tests::broker::{Broker, Options};
use hil_tests::certs::Validity;
use hil_tests::consumer::{Consumer, Endpoint};
use hil_tests::wait::wait_until;

use crate::stage::{GATEWAY, SOON, Stage};

fn broker(stage: &Stage) -> Broker {
    let server = stage.authority.server(Validity::Good).expect("a server certificate");
    Broker::start(&stage.dir.path().join("broker"), &server, Options::default()).expect("a broker")
}

fn consumer(stage: &Stage, broker: &Broker) -> Consumer {
    Consumer::start(stage.dir.path(), &Endpoint::Plain(broker.plain_port()), "judge", &["v2g/#"]).expect("a consumer")
}

fn is_told(status: &Status, part: &str) -> bool {
    status.text("/uplink/no_subscriber/what").is_some_and(|what| what.contains(part))
}

/// mosquitto answers so of its own accord (MQTT 5, 3.4.2.1).
#[test]
fn entries_that_nobody_subscribes_to_are_counted_and_told_with_the_cure_until_somebody_does() {
    let mut stage = Stage::set();
    let broker = broker(&stage);
    stage.start(&[broker.url()], "");
    let what = "nobody subscribes to v2g/depot-a/gw-01/telemetry: No matching subscribers (0x10)";
    let status = stage.wait_for_status("nobody", |status| is_told(status, what));
    assert!(status.number("/uplink/live/unheard").is_some_and(|count| count > 0));
    let remedy = status.text("/uplink/no_subscriber/remedy").unwrap_or_default();
    assert!(remedy.contains("no_subscriber = \"hold\""), "{remedy}");
    stage.wait_for_status("it is taken as delivered", |status| status.number("/uplink/live/acknowledged") >= Some(8));
    let consumer = consumer(&stage, &broker);
    stage.wait_for_status("somebody", |status| status.text("/uplink/no_subscriber/what").is_none());
    let told = |part: &str| {
        consumer.look(|messages| messages.iter().any(|m| String::from_utf8_lossy(&m.payload).contains(part)))
    };
    wait_until(SOON, "live data", || told("grid-main"));
}

#[test]
fn with_hold_nothing_is_lost_before_the_first_subscriber_and_the_broker_is_not_asked_in_a_hot_loop() {
    let mut stage = Stage::set();
    let broker = broker(&stage);
    stage.start(&[broker.url()], "no_subscriber = \"hold\"");
    stage.wait_for_status("nobody", |status| is_told(status, "the entries are kept and offered again"));
    stage.wait_for_backlog(40);
    let status = stage.agent.status().expect("it runs");
    let offered =
        status.number("/uplink/live/published").unwrap_or(0) + status.number("/uplink/history/published").unwrap_or(0);
    // 40 windows of 250 ms: two lanes, each after 0.5 s, 1 s, 2 s and so on.
    assert!(offered < 20, "{offered} offers in 10 s");
    assert_eq!(status.number("/uplink/live/acknowledged"), Some(0));
    let consumer = consumer(&stage, &broker);
    let judgement = stage.judge(|| consumer.messages());
    assert!(judgement.tally(GATEWAY).delivered >= 40, "{judgement}");
    assert!(judgement.tally(GATEWAY).gaps.is_empty(), "{judgement}");
}
