use std::time::Duration;

use super::*;

/// A batch as the contract has it, with `body` as its further lines.
fn batch(lane: &str, epoch: u64, seq: u64, points: u64, body: &str) -> Message {
    let time = i64::try_from(seq).expect("small") * 1_000;
    // Even numbers are of wire version 1.
    let trust = if seq.is_multiple_of(2) { "time=\"synced\"" } else { "time_trust=\"synced\",version=2i" };
    let head = format!("gateway,site=s,gateway=gw epoch={epoch}i,seq={seq}i,points={points}i,{trust} {time}");
    let mut properties = vec![
        ("gateway".to_owned(), "gw".to_owned()),
        ("epoch".to_owned(), epoch.to_string()),
        ("seq".to_owned(), seq.to_string()),
        ("points".to_owned(), points.to_string()),
    ];
    if lane == "history" {
        properties.push(("historical".to_owned(), "true".to_owned()));
    }
    Message {
        topic: format!("v2g/s/gw/{lane}"),
        payload: if body.is_empty() { head } else { format!("{head}\n{body}") }.into_bytes(),
        intact: true,
        user_properties: properties,
        content_type: Some("application/vnd.influx-line-protocol".to_owned()),
        payload_is_utf8: true,
        qos: 1,
        retain: false,
        received_ns: time + 500,
    }
}

/// One meter with one voltage, a different one in each.
fn entry(lane: &str, epoch: u64, seq: u64) -> Message {
    let body = format!("meter,site=s,gateway=gw,device=m voltage={} {}", 230 + seq, seq * 1_000);
    batch(lane, epoch, seq, 1, &body)
}

fn judge(messages: &[Message]) -> Judgement {
    let mut oracle = Oracle::new();
    oracle.take_all(messages);
    oracle.judge()
}

#[track_caller]
fn assert_only(judgement: &Judgement, kind: Kind, words: &str) {
    assert_eq!(judgement.findings.len(), 1, "{judgement}");
    assert_eq!(judgement.findings[0].kind, kind, "{judgement}");
    assert!(judgement.findings[0].text.contains(words), "{judgement}");
}

#[test]
fn replayed_unordered_and_repeated_entries_over_several_epochs_pass() {
    let judgement = judge(&[
        entry("telemetry", 1, 1),
        entry("telemetry", 1, 2),
        entry("telemetry", 3, 5),
        entry("history", 1, 2),
        entry("history", 1, 3),
        entry("history", 3, 4),
    ]);
    judgement.assert_passed();
    let tally = judgement.tally("gw");
    assert_eq!((tally.delivered, tally.repeated, tally.epochs, tally.range), (5, 1, 2, Some((1, 5))));
    assert_eq!((tally.live, tally.historical, tally.points), (3, 3, 5));
    assert_eq!(tally.live_p99_ns, Some(500));
}

#[test]
fn nothing_at_all_does_not_pass() {
    assert!(!judge(&[]).passed());
}

#[test]
fn a_missing_number_is_a_gap_also_between_epochs() {
    assert_only(&judge(&[entry("telemetry", 1, 1), entry("telemetry", 1, 3)]), Kind::Gap, "seq 2 to 2 (1)");
    let judgement = judge(&[entry("telemetry", 1, 1), entry("telemetry", 2, 5)]);
    assert_only(&judgement, Kind::Gap, "seq 2 to 4 (3) between (epoch 1, seq 1) and (epoch 2, seq 5)");
}

#[test]
fn a_gap_event_accounts_for_what_it_names_and_no_more() {
    let told = |to: u64| {
        let body = format!(
            "event,site=s,gateway=gw,kind=gap from_epoch=1i,from_seq=2i,to_seq={to}i,points=9i,reason=\"aged\" 5000"
        );
        [entry("telemetry", 1, 1), batch("telemetry", 1, 5, 0, &body)]
    };
    let judgement = judge(&told(4));
    judgement.assert_passed();
    assert_eq!(judgement.tally("gw").gaps["aged"], 3);
    assert_only(&judge(&told(3)), Kind::Gap, "seq 4 to 4");
}

#[test]
fn the_issuers_range_shows_what_is_missing_at_both_ends_and_what_is_too_much() {
    let within = |first, last| {
        let mut oracle = Oracle::new();
        oracle.expect_range("gw", first, last);
        oracle.take_all(&[entry("telemetry", 1, 2), entry("telemetry", 1, 3)]);
        oracle.judge()
    };
    within(2, 3).assert_passed();
    assert_only(&within(1, 3), Kind::Gap, "seq 1 to 1");
    assert_only(&within(2, 5), Kind::Gap, "seq 4 to 5");
    assert_only(&within(2, 2), Kind::Spurious, "(epoch 1, seq 3)");
    let mut silent = Oracle::new();
    silent.expect_range("gw", 1, 9);
    assert_only(&silent.judge(), Kind::Gap, "nothing at all");
}

#[test]
fn one_identity_with_two_contents_is_changed() {
    let mut other = entry("history", 1, 1);
    let text = String::from_utf8(other.payload).expect("a text").replace("voltage=2", "voltage=3");
    other.payload = text.into_bytes();
    assert_only(&judge(&[entry("telemetry", 1, 1), other]), Kind::Changed, "voltage=331");
}

#[test]
fn one_content_under_two_identities_is_a_twin() {
    let body = "meter,site=s,gateway=gw,device=m voltage=230 2000";
    let twin = |seq| {
        let mut message = batch("telemetry", 1, seq, 1, body);
        let payload = String::from_utf8(message.payload).expect("text");
        message.payload = payload.replacen(&format!("{}\n", seq * 1_000), "2000\n", 1).into_bytes();
        message
    };
    assert_only(&judge(&[twin(1), twin(2)]), Kind::Twin, "(epoch 1, seq 1) and (epoch 1, seq 2)");
}

#[test]
fn one_point_of_a_series_under_two_identities_is_a_twin() {
    let event = |seq, version: &str| {
        let body = format!("event,site=s,gateway=gw,kind=started version=\"{version}\" 7");
        batch("telemetry", 1, seq, 0, &body)
    };
    assert_only(&judge(&[event(1, "a"), event(2, "b")]), Kind::Twin, "a database keeps one");
}

/// It stands at the session's start, whenever it is told: the newest takes the place of the one before.
#[test]
fn news_of_a_charging_session_is_no_twin_and_no_measured_point() {
    let session = |seq: u64| {
        let line = "charging_session,site=s,gateway=gw,device=e session_id=\"a\",energy_import=";
        let body = format!("evse,site=s,gateway=gw,device=e soc=7,known_s=0.25 {}\n{line}{seq} 7", seq * 1_000);
        batch("telemetry", 1, seq, 1, &body)
    };
    judge(&[session(1), session(2), session(3)]).assert_passed();
}

#[test]
fn a_number_used_in_two_epochs_and_an_epoch_that_falls_break_the_order() {
    let judgement = judge(&[entry("telemetry", 1, 1), batch("telemetry", 2, 1, 0, "")]);
    assert_only(&judgement, Kind::Order, "used twice");
    assert_only(&judge(&[entry("telemetry", 2, 1), entry("telemetry", 1, 2)]), Kind::Order, "epochs must rise");
}

#[test]
fn a_message_that_contradicts_itself_or_the_contract_is_malformed() {
    type Change = fn(&mut Message);
    let changes: [(&str, Change); 12] = [
        ("user property seq", |m| m.user_properties[2].1 = "9".to_owned()),
        ("user property gateway", |m| m.user_properties.push(("gateway".to_owned(), "gw".to_owned()))),
        ("user property points", |m| drop(m.user_properties.remove(3))),
        ("user property historical", |m| m.topic = "v2g/s/gw/history".to_owned()),
        ("content type", |m| m.content_type = None),
        ("format indicator", |m| m.payload_is_utf8 = false),
        ("retained", |m| m.retain = true),
        ("QoS 0", |m| m.qos = 0),
        ("not that of gateway", |m| m.topic = "v2g/elsewhere/gw/telemetry".to_owned()),
        ("no topic", |m| m.topic = "v2g/s/gw/gossip".to_owned()),
        ("UTF-8", |m| m.intact = false),
        ("first line", |m| m.payload = b"hello".to_vec()),
    ];
    for (words, change) in changes {
        let mut message = entry("telemetry", 1, 1);
        change(&mut message);
        assert_only(&judge(&[message]), Kind::Malformed, words);
    }
}

#[test]
fn lines_that_contradict_their_batch_are_malformed() {
    for (points, body, words) in [
        (2, "meter,site=s,gateway=gw,device=m voltage=230 1000", "points=2 and holds 1"),
        (1, "meter,site=s,gateway=gw,device=m voltage=230,voltage_min=229,voltage_max=231 1000", ""),
        (0, "meter,site=s,gateway=gw,device=m missing=\"timeout\" 1000", ""),
        (1, "meter,site=s,gateway=gw,device=m voltage=230 1001", "stands at 1001"),
        (1, "evse,site=s,gateway=gw,device=e soc=7,session_id=\"a\" 1000", ""),
        (
            2,
            "evse,site=s,gateway=gw,device=e soc=7,session_id=\"a\" 1000\nevse,site=s,gateway=gw,device=e soc=7,session_id=\"b\" 1001",
            "",
        ),
        (
            2,
            "evse,site=s,gateway=gw,device=e soc=7,session_id=\"a\" 1000\nevse,site=s,gateway=gw,device=e soc=7,session_id=\"a\" 1001",
            "stands at 1001",
        ),
        (1, "meter,site=s,gateway=other,device=m voltage=230 1000", "gateway=Some(\"other\")"),
        (1, "meter,site=s,gateway=gw,device=m,direction=V2G power_flow=7 1000", "direction=V2G"),
        (1, "meter,site=s,gateway=gw,device=m,direction=V2G power_flow=-7 1000", ""),
        (0, "meter,site=s,gateway=gw,device=m,direction=G2V missing=\"timeout\" 1000", "direction=G2V"),
        (0, "gateway,site=s,gateway=gw epoch=1i 1000", "second line"),
        (0, "event,site=s,gateway=gw,kind=gap from_epoch=1i,from_seq=3i,to_seq=2i,reason=\"x\" 1000", "back to 2"),
        (0, "meter", "expected"),
    ] {
        let judgement = judge(&[batch("telemetry", 1, 1, points, body)]);
        if words.is_empty() {
            judgement.assert_passed();
        } else {
            assert!(
                judgement.findings.iter().any(|f| f.kind == Kind::Malformed && f.text.contains(words)),
                "{judgement}"
            );
        }
    }
}

#[test]
fn a_series_told_twice_in_one_batch_is_malformed() {
    let event = "event,site=s,gateway=gw,kind=gap from_epoch=1i,from_seq=1i,to_seq=1i,points=1i,reason=\"aged\" 2000";
    let judgement = judge(&[batch("telemetry", 1, 2, 0, &format!("{event}\n{event}"))]);
    assert_only(&judgement, Kind::Malformed, "comes twice");
}

#[test]
fn issued_entries_are_delivered_lost_or_told_and_nothing_else_arrives() {
    let mut oracle = Oracle::new();
    for seq in 1..=4 {
        oracle.issued("gw", 1, seq, Some(&entry("telemetry", 1, seq).payload));
    }
    oracle.acknowledged("gw", 1, 1);
    oracle.take_all(&[entry("telemetry", 1, 1), entry("telemetry", 1, 2), entry("telemetry", 1, 3)]);
    let judgement = oracle.judge();
    assert_only(&judgement, Kind::Lost, "(epoch 1, seq 4) was issued");
    assert_eq!(judgement.tally("gw").issued, Some(4));
    oracle.take(&entry("telemetry", 1, 4));
    oracle.judge().assert_passed();

    oracle.acknowledged("gw", 1, 9);
    assert_only(&oracle.judge(), Kind::Lost, "was acknowledged and not delivered");
    oracle.issued("gw", 1, 9, None);
    oracle.take(&entry("telemetry", 1, 5));
    let judgement = oracle.judge();
    assert!(judgement.count(Kind::Spurious) == 1, "{judgement}");
}

#[test]
fn a_value_that_the_meter_did_not_have_then_is_untrue() {
    let mut truth = Truth::new("m", Duration::from_nanos(100));
    truth.hold("voltage", 0, 231.0);
    truth.hold("voltage", 1_500, 232.0);
    truth.silence(2_500);
    let mut oracle = Oracle::new();
    oracle.know(truth);
    oracle.take_all(&[entry("telemetry", 1, 1), entry("telemetry", 1, 2)]);
    let judgement = oracle.judge();
    judgement.assert_passed();
    assert_eq!(judgement.tally("gw").values_checked, 2);
    oracle.take(&entry("telemetry", 1, 3));
    assert_only(&oracle.judge(), Kind::Untrue, "voltage=233 was not to be read then (but never)");
}

#[test]
fn the_verdict_names_numbers_and_shows_a_bounded_number_of_findings() {
    let messages: Vec<Message> = (1..=30).map(|seq| entry("telemetry", 1, seq * 2)).collect();
    let text = judge(&messages).to_string();
    assert!(text.starts_with("conservation: FAILED: 29 findings"), "{text}");
    assert!(text.contains("… and 17 more"), "{text}");
}

#[test]
fn retained_documents_need_their_keys() {
    let mut state = batch("state", 1, 1, 0, "");
    state.payload = br#"{"state":"online","epoch":1,"version":"0","since":"now"}"#.to_vec();
    state.retain = true;
    assert_eq!(judge(&[state.clone()]).findings, []);
    state.payload = br#"{"state":"online"}"#.to_vec();
    assert_only(&judge(&[state]), Kind::Malformed, "no key \"epoch\"");
}

#[test]
fn what_was_committed_and_given_out_again_under_another_epoch_is_lost() {
    let mut oracle = Oracle::new();
    oracle.take_all(&[entry("telemetry", 1, 1), entry("telemetry", 2, 2), entry("telemetry", 2, 3)]);
    // Every number has come: without the commit nothing would show.
    oracle.judge().assert_passed();
    oracle.committed("gw", 1, 2, 3);
    assert_only(&oracle.judge(), Kind::Lost, "epoch 1: 2 entries (seq 2 to 3)");
}

#[test]
fn what_was_committed_and_came_under_a_later_epoch_with_that_told_is_not_lost() {
    let judged = |to: u64| {
        let event = format!(
            "event,site=s,gateway=gw,kind=gap from_epoch=1i,from_seq=2i,to_seq={to}i,reason=\"renumbered\" 4000"
        );
        let mut oracle = Oracle::new();
        oracle.take_all(&[entry("telemetry", 1, 1), entry("history", 2, 2), entry("history", 2, 3)]);
        oracle.take_all(&[batch("telemetry", 3, 4, 0, &event)]);
        oracle.committed("gw", 1, 2, 3);
        oracle.judge()
    };
    judged(3).assert_passed();
    assert_only(&judged(2), Kind::Lost, "epoch 1: 1 entries (seq 3 to 3)");
    // Whether it was told or not.
    let between = (8 << 25) + 77;
    let mut oracle = Oracle::new();
    oracle.take_all(&[entry("telemetry", (7 << 25) + 1, 1), entry("history", between, 2)]);
    oracle.committed("gw", (7 << 25) + 1, 1, 2);
    oracle.judge().assert_passed();
}

#[test]
fn what_was_committed_and_arrived_is_not_lost() {
    let mut oracle = Oracle::new();
    oracle.take_all(&[entry("telemetry", 1, 1), entry("telemetry", 1, 2), entry("telemetry", 2, 3)]);
    // The second life has said at its start what the first had committed, and nothing since.
    oracle.committed("gw", 1, 2, 2);
    oracle.committed("gw", 2, 3, 2);
    oracle.judge().assert_passed();
}
