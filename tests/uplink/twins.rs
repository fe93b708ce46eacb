//! Two boxes of one id, and what is none.

use hil_tests::broker::{Broker, Options};
use hil_tests::certs::Validity;
use hil_tests::consumer::{Endpoint, publish};
use hil_tests::proxy::Proxy;
use hil_tests::scripted::{Do, Script, ScriptedBroker};

use crate::stage::{GATEWAY, Stage};

const TOPIC: &str = "v2g/depot-a/gw-01/state";
const CURE: &str = "its own [gateway] id";

fn wait_for_twin(stage: &mut Stage, what: &str) {
    stage.wait_for_status(what, |status| {
        let says = |pointer: &str, part: &str| status.text(pointer).is_some_and(|text| text.contains(part));
        says("/uplink/twin/what", what) && says("/uplink/twin/remedy", CURE)
    });
    let (_, shown) =
        stage.agent.ask(&["doctor", "--config", &stage.agent.config().display().to_string()]).expect("asked");
    assert!(shown.lines().any(|line| line.contains("running agent") && line.contains(what)), "{shown}");
    assert_eq!(stage.agent.log_tail().matches(what).count(), 1, "told once");
}

#[test]
fn a_session_that_goes_to_another_client_again_and_again_is_told_as_two_boxes_of_one_id() {
    let broker = ScriptedBroker::start(Script::default());
    let mut stage = Stage::set();
    stage.start(&[broker.url()], "");
    for connections in 1..=2 {
        stage.wait_for_status("a connection", |status| {
            status.is_online() && status.number("/uplink/connections") >= Some(connections)
        });
        let mut once = true;
        broker.change(|script| {
            script.answers =
                Box::new(move |_| if std::mem::take(&mut once) { Do::Disconnect(0x8e) } else { Do::Ack(0) });
        });
        stage.wait_for_status("the loss", |status| status.number("/uplink/disconnections") >= Some(connections));
    }
    wait_for_twin(&mut stage, "another client connects with our client id gw-01");
    let judgement = stage.judge(|| broker.messages());
    assert!(judgement.tally(GATEWAY).events.contains_key("uplink_trouble"), "{judgement}");
}

#[test]
fn another_life_that_comes_online_on_our_topic_is_told_by_its_epoch() {
    let mut stage = Stage::set();
    let server = stage.authority.server(Validity::Good).expect("a server certificate");
    let broker = Broker::start(&stage.dir.path().join("broker"), &server, Options::default()).expect("a broker");
    stage.start(&[broker.url()], "");
    stage.wait_for_status("an acknowledgement", |status| status.number("/uplink/live/acknowledged") > Some(0));
    let twin = br#"{"state":"online","epoch":7,"version":"0.1.0","since":"2126-01-01T00:00:00.000Z"}"#;
    publish(&Endpoint::Plain(broker.plain_port()), TOPIC, twin, &["-r"]).expect("it may");
    wait_for_twin(&mut stage, "tells of a life of epoch 7");
}

#[test]
fn a_line_that_breaks_again_and_again_and_a_restart_of_our_own_are_no_twin() {
    let mut stage = Stage::set();
    let server = stage.authority.server(Validity::Good).expect("a server certificate");
    let broker = Broker::start(&stage.dir.path().join("broker"), &server, Options::default()).expect("a broker");
    let line = Proxy::start(broker.tls_port());
    let url = format!("mqtts://127.0.0.1:{}", line.port());
    stage.start(&[url], "");
    for connections in 1..=7 {
        let status = stage.wait_for_status("a connection", |status| {
            status.is_online() && status.number("/uplink/connections") >= Some(connections)
        });
        assert_eq!(status.text("/uplink/twin/what"), None);
        line.close();
        stage.wait_for_status("the loss", |status| status.number("/uplink/disconnections") >= Some(connections));
        line.open();
    }
    stage.agent.kill9().expect("it ran");
    stage.agent.start().expect("it starts");
    stage.wait_until_drained();
    assert_eq!(stage.agent.status().expect("it runs").text("/uplink/twin/what"), None);
}

#[test]
fn a_broker_that_forbids_to_read_is_used_all_the_same() {
    for code in [Some(0x87), None] {
        let broker = ScriptedBroker::start(Script { subscriptions: code, ..Script::default() });
        let mut stage = Stage::set();
        stage.start(&[broker.url()], "");
        let judgement = stage.judge(|| broker.messages());
        assert!(judgement.tally(GATEWAY).delivered >= 8, "{judgement}");
        assert_eq!(broker.subscriptions(), if code.is_none() { 2 } else { 1 }, "{code:?}");
    }
}
