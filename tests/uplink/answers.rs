//! Show 1, the broker's half: acknowledgements late, out of order, repeated, invented, withheld, and with every reason.

use std::time::Duration;

use hil_tests::scripted::{Do, Script, ScriptedBroker};
use hil_tests::seed::Seed;
use hil_tests::wait::wait_for;

use crate::stage::{GATEWAY, SOON, Stage};

#[test]
fn whatever_the_broker_does_with_acknowledgements_nothing_is_lost_or_changed() {
    let mut seed = Seed::from_env();
    let broker = ScriptedBroker::start(Script {
        receive_maximum: Some(20),
        topic_alias_max: 10,
        answers: Box::new(move |offer| match (offer.seq, offer.before) {
            // The second time it goes well, so that there is an end.
            (None, _) | (_, 2..) => Do::Ack(0),
            // One for certain.
            (Some(50), 0) => Do::Cut,
            _ => match seed.below(100) {
                0..=2 => Do::Ack(0x97),
                3..=5 => Do::Ack(0x80),
                6..=8 => Do::Ack(0x87),
                9..=11 => Do::Ack(0x83),
                12..=14 => Do::Ack(0x10),
                15..=19 => Do::Twice,
                20..=24 => Do::Invent,
                25 => Do::Cut,
                26 => Do::Ack(0xee),
                27 => Do::Disconnect(0x89),
                28..=80 => Do::Late(seed.between(Duration::from_millis(1), Duration::from_millis(300))),
                _ => Do::Ack(0),
            },
        }),
        ..Script::default()
    });
    let mut stage = Stage::set();
    // A backlog first, so that many are in flight at once.
    stage.start(&["mqtt://127.0.0.1:9".to_owned()], "");
    stage.wait_for_backlog(80);
    stage.setup.brokers = vec![broker.url()];
    stage.agent.configure(&stage.setup).expect("the file is ours");
    stage.agent.reload().expect("it runs");
    stage.wait_until_drained();
    // A line that is cut in the last moment leaves no time to say the end.
    broker.change(|script| script.answers = Box::new(|_| Do::Ack(0)));
    let judgement = stage.judge(|| broker.messages());
    assert_eq!(broker.violations(), Vec::<String>::new());
    assert!(broker.connections() > 1, "no connection was cut");
    assert!(judgement.tally(GATEWAY).delivered >= 80, "{judgement}");
    assert!(judgement.tally(GATEWAY).gaps.is_empty(), "nothing was to be given up: {judgement}");
}

#[test]
fn a_message_that_is_never_answered_comes_again_and_the_others_go_on() {
    let broker = ScriptedBroker::start(Script {
        answers: Box::new(|offer| if offer.seq == Some(5) && offer.before == 0 { Do::Withhold } else { Do::Ack(0) }),
        ..Script::default()
    });
    let mut stage = Stage::set();
    stage.start(&[broker.url()], "");
    let later = || match broker.messages().len() {
        60.. => Ok(()),
        n => Err(format!("{n} messages")),
    };
    wait_for(SOON, "messages after the one without an answer", later).unwrap_or_else(|late| panic!("{late}"));
    assert_eq!(broker.connections(), 1, "one missing answer is no reason to stop");
    let again = || match broker.connections() {
        2.. => Ok(()),
        n => Err(format!("{n} connections")),
    };
    wait_for(SOON, "a new connection after 20 s", again).unwrap_or_else(|late| panic!("{late}"));
    let judgement = stage.judge(|| broker.messages());
    assert!(judgement.tally(GATEWAY).repeated >= 1, "{judgement}");
}

#[test]
fn what_the_broker_refuses_for_good_is_a_gap_that_is_told() {
    let broker = ScriptedBroker::start(Script {
        answers: Box::new(|offer| if offer.seq == Some(7) { Do::Ack(0x99) } else { Do::Ack(0) }),
        ..Script::default()
    });
    let mut stage = Stage::set();
    stage.start(&[broker.url()], "");
    stage.wait_for_trouble("Payload format invalid (0x99)", "payload validation");
    let told = || {
        if broker.messages().iter().any(|m| String::from_utf8_lossy(&m.payload).contains("kind=gap")) {
            Ok(())
        } else {
            Err("no gap event".to_owned())
        }
    };
    wait_for(SOON, "the gap event", told).unwrap_or_else(|late| panic!("{late}"));
    let judgement = stage.judge(|| broker.messages());
    assert_eq!(judgement.tally(GATEWAY).gaps.values().sum::<u64>(), 1, "{judgement}");
}

#[test]
fn status_names_the_cause_and_the_cure_of_every_refusal() {
    let broker = ScriptedBroker::start(Script::default());
    let mut stage = Stage::set();
    stage.start(&[broker.url()], "");
    stage.wait_until_online();
    for (code, name, remedy) in [
        (0x97, "Quota exceeded (0x97) (\"as told\")", "raise the broker's quota"),
        (0x87, "Not authorized (0x87)", "ACL"),
        (0x80, "Unspecified error (0x80)", "broker's log"),
        (0xee, "Unknown reason code (0xEE)", "broker's log"),
    ] {
        broker.change(|script| script.answers = Box::new(move |_| Do::Ack(code)));
        stage.wait_for_trouble(name, remedy);
        stage.wait_for_status("a finding", |status| {
            status.text("/uplink/live/not_taken/what").is_some_and(|what| what.contains(name))
        });
        broker.change(|script| script.answers = Box::new(|_| Do::Ack(0)));
        stage.wait_until_drained();
        stage.wait_for_status("no finding", |status| status.text("/uplink/live/not_taken/what").is_none());
    }
    for (code, name, remedy) in [
        (0x8b, "Server shutting down (0x8B)", "tries again by itself"),
        (0x8e, "Session taken over (0x8E)", "its own gateway.id"),
        (0x98, "Administrative action (0x98)", "who manages the broker"),
    ] {
        let mut once = true;
        broker.change(|script| {
            script.answers =
                Box::new(move |_| if std::mem::take(&mut once) { Do::Disconnect(code) } else { Do::Ack(0) });
        });
        stage.wait_for_trouble(name, remedy);
        stage.wait_until_online();
    }
    let judgement = stage.judge(|| broker.messages());
    assert!(judgement.tally(GATEWAY).events.contains_key("uplink_trouble"), "told at the broker, too: {judgement}");
}

#[test]
fn a_refused_connection_is_explained_and_mended_without_a_restart() {
    let broker = ScriptedBroker::start(Script { refuses_always: true, ..Script::default() });
    let mut stage = Stage::set();
    let refuse = |code: u8, old: bool| {
        broker.change(|script| (script.refusals, script.speaks_3_1_1) = (vec![(code, None)], old));
    };
    refuse(0x86, false);
    stage.start(&[broker.url()], "");
    stage.wait_for_trouble("Bad User Name or Password (0x86)", "password_file");
    refuse(0x87, false);
    stage.wait_for_trouble("Not authorized (0x87)", "ACL");
    stage.wait_for_trouble("Not authorized (0x87)", "correct [uplink] username and password_file");
    refuse(0x84, false);
    stage.wait_for_trouble("Unsupported Protocol Version (0x84)", "MQTT 5");
    refuse(5, true);
    stage.wait_for_trouble("Not authorized, of MQTT 3.1.1 (0x05)", "0x87 (Not authorized) is in MQTT 5");
    broker.change(|script| (script.refusals, script.speaks_3_1_1) = (Vec::new(), false));
    stage.wait_until_online();
    stage.judge(|| broker.messages());
}
