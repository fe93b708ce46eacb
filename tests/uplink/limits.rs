//! Show 4: what a broker grants is kept to, and everything is delivered all the same.

use hil_tests::scripted::{Do, Script, ScriptedBroker};

use crate::stage::{GATEWAY, Stage};

/// Delivers a backlog and live data under these limits.
fn deliver(script: Script) -> ScriptedBroker {
    let mut stage = Stage::set();
    stage.start(&["mqtt://127.0.0.1:9".to_owned()], "");
    stage.wait_for_backlog(40);
    let broker = ScriptedBroker::start(script);
    stage.setup.brokers = vec![broker.url()];
    stage.agent.configure(&stage.setup).expect("the file is ours");
    stage.agent.reload().expect("it runs");
    stage.wait_for_status("live data", |status| {
        status.number("/uplink/live/acknowledged").is_some_and(|acknowledged| acknowledged >= 4)
    });
    let judgement = stage.judge(|| broker.messages());
    assert!(judgement.tally(GATEWAY).gaps.is_empty(), "nothing was to be given up: {judgement}");
    assert!(judgement.tally(GATEWAY).historical >= 40, "{judgement}");
    assert_eq!(broker.violations(), Vec::<String>::new());
    broker
}

#[test]
fn one_message_at_a_time_delivers_everything() {
    let broker = deliver(Script { receive_maximum: Some(1), ..Script::default() });
    assert_eq!(broker.most_in_flight(), 1);
}

#[test]
fn packets_of_one_kibibyte_deliver_everything() {
    deliver(Script { packet_bytes_max: Some(1024), ..Script::default() });
}

#[test]
fn no_topic_alias_and_all_of_them_deliver_everything() {
    assert_eq!(deliver(Script { topic_alias_max: 0, ..Script::default() }).aliased(), 0);
    assert!(deliver(Script { topic_alias_max: 65_535, ..Script::default() }).aliased() > 30);
    // One number is for live data.
    assert!(deliver(Script { topic_alias_max: 1, ..Script::default() }).aliased() > 0);
}

#[test]
fn all_limits_at_once_deliver_everything() {
    deliver(Script {
        receive_maximum: Some(1),
        packet_bytes_max: Some(1024),
        topic_alias_max: 65_535,
        keep_alive_s: Some(1),
        retains: false,
        answers: Box::new(|_| Do::Ack(0x10)),
        ..Script::default()
    });
}

#[test]
fn a_keep_alive_of_the_broker_is_kept_and_its_zero_is_no_trouble() {
    for (granted, keeps) in [(2, true), (0, false)] {
        let broker = ScriptedBroker::start(Script { keep_alive_s: Some(granted), ..Script::default() });
        let mut stage = Stage::set();
        // Windows so long that nothing but pings is sent meanwhile.
        stage.setup.extra = String::new();
        stage.start(&[broker.url()], "");
        stage.wait_for_status("60 windows", |status| status.durable().is_some_and(|durable| durable >= 60));
        assert_eq!(broker.connections(), 1);
        let agreed = stage.agent.status().expect("it runs").number("/uplink/granted/keep_alive_s");
        assert_eq!(agreed, Some(if keeps { 2 } else { 5 }));
        assert_eq!(broker.violations(), Vec::<String>::new());
        stage.judge(|| broker.messages());
    }
}
