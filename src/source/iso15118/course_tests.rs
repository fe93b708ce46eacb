//! Courses of sessions that were told wrongly once: gaps in which one vehicle follows another, and messages of another session.

use super::tests::{Consumer, TURN_NS, changed, frames};
use super::*;
use crate::measure::{Mono, SessionEvent};
use iso15118::exi::ExiDocument;
use iso15118::iso2::{BodyChoice, Document};

type Frame = (u16, Vec<u8>);

/// Hands frames on, one every turn from `at` on; answers when the next would come.
fn hear(tracker: &mut Tracker, frames: &[Frame], at: u64) -> u64 {
    for (turn, (payload_type, payload)) in (0..).zip(frames) {
        tracker.handle_frame(*payload_type, payload, Mono(at + turn * TURN_NS));
    }
    at + frames.len() as u64 * TURN_NS
}

/// An ISO 15118-2 frame of another session.
fn of_another_session((payload_type, payload): &Frame) -> Frame {
    let mut document = Document::from_bytes(payload).expect("a message");
    let Document::V2GMessage(message) = &mut document else { panic!("no message") };
    message.header.session_id = vec![0x0a, 1, 2, 3, 4, 5, 6, 7];
    (*payload_type, document.to_vec().expect("it can be written"))
}

fn hows(consumer: &Consumer) -> Vec<String> {
    let of = |event: &SessionEvent| match event {
        SessionEvent::Started { how, .. } => Some(format!("started {how}")),
        SessionEvent::Ended { how, .. } => Some(format!("ended {how}")),
        _ => None,
    };
    consumer.events.iter().filter_map(of).collect()
}

/// The feed is lost in an ISO 15118-2 session; the next vehicle speaks DIN, and its beginning falls into the gap.
#[test]
fn after_a_gap_a_vehicle_of_another_protocol_is_read() {
    let (mut tracker, mut consumer) = (Tracker::default(), Consumer::default());
    let at = hear(&mut tracker, &frames("iso2-dc-eim")[..40], 0);
    tracker.handle_feed_lost(Mono(at));
    hear(&mut tracker, &frames("din-dc")[6..], at);
    consumer.take(&mut tracker);
    // Two alone may be strays.
    assert!(
        tracker.unreadable().eq([(Unreadable::OtherProtocol, 2)]),
        "{:?}",
        tracker.unreadable().collect::<Vec<_>>()
    );
    assert_eq!(consumer.text("protocol"), "din70121");
    assert_eq!(hows(&consumer).len(), 4, "{:?}", hows(&consumer));
}

#[test]
fn a_gap_as_long_as_the_silence_ends_the_agreement_too() {
    let (mut tracker, mut consumer) = (Tracker::default(), Consumer::default());
    let at = hear(&mut tracker, &frames("iso2-dc-eim")[..40], 0);
    tracker.handle_feed_lost(Mono(at));
    let later = at + 61_000_000_000;
    tracker.poll(Mono(later));
    hear(&mut tracker, &frames("din-dc")[6..], later);
    consumer.take(&mut tracker);
    assert_eq!(tracker.unreadable().count(), 0);
    assert_eq!(hows(&consumer), ["started new", "ended aborted", "started joined", "ended terminated"]);
}

/// The answer to a set-up names a session that begins, also where the request was not heard.
#[test]
fn an_answer_to_an_unheard_set_up_ends_the_session_before() {
    let (mut tracker, mut consumer) = (Tracker::default(), Consumer::default());
    let at = hear(&mut tracker, &frames("iso2-dc-eim")[..40], 0);
    hear(&mut tracker, &frames("iso2-ac-eim")[3..20], at);
    consumer.take(&mut tracker);
    assert_eq!(hows(&consumer), ["started new", "ended superseded", "started joined"]);
    assert_eq!(consumer.vehicles.last(), Some(&None), "the vehicle before has gone");
    assert_eq!(tracker.unreadable().count(), 0);
}

#[test]
fn one_message_of_another_session_is_not_told_as_one_of_this() {
    let (mut tracker, mut consumer) = (Tracker::default(), Consumer::default());
    let all = frames("iso2-dc-eim");
    let at = hear(&mut tracker, &all[..40], 0);
    consumer.take(&mut tracker);
    let other = changed(&all[40].1, |body| match body {
        BodyChoice::CurrentDemandReq(request) => request.dc_ev_status.ev_ress_soc = 99,
        other => panic!("{}", other.name()),
    });
    let at = hear(&mut tracker, &[of_another_session(&(0x8001, other))], at);
    hear(&mut tracker, &all[40..42], at);
    let told = tracker.drain().map(|told| format!("{told:?}")).collect::<String>();
    assert!(told.contains("(Soc, ") && !told.contains("(Soc, Ok(Float(99.0)))"), "{told}");
    assert!(tracker.unreadable().map(|(reason, count)| (reason.as_str(), count)).eq([("other_session", 1)]));
    assert_eq!(tracker.messages(), 42);
    assert!(!tracker.is_troubled());
}

/// Found by an outside harness: two frames of another session made two sessions of one, and three with what came after.
#[test]
fn a_few_messages_of_another_session_split_none_that_goes_on() {
    let all = frames("iso2-dc-eim");
    let stray = of_another_session(&all[40]);
    for (strays, step) in [(1, TURN_NS), (2, TURN_NS), (2, 1), (7, 1), (2, 4_900_000_000)] {
        let (mut tracker, mut consumer) = (Tracker::default(), Consumer::default());
        let mut at = hear(&mut tracker, &all[..40], 0);
        for _ in 0..3 {
            for n in 0..strays {
                tracker.handle_frame(stray.0, &stray.1, Mono(at + n * step));
            }
            at = hear(&mut tracker, &all[40..42], at + strays * step);
        }
        hear(&mut tracker, &all[42..], at);
        consumer.take(&mut tracker);
        assert_eq!(hows(&consumer), ["started new", "ended terminated"], "{strays} every {step} ns");
        assert!(tracker.unreadable().eq([(Unreadable::OtherSession, 3 * strays)]));
        assert_eq!(tracker.messages(), all.len() as u64 + 4);
    }
}

/// A vehicle that sends the rest of its buffer behind each message.
#[test]
fn what_stands_behind_every_message_is_counted_and_told_once_in_a_session() {
    let (mut tracker, mut consumer) = (Tracker::default(), Consumer::default());
    let trailed: Vec<Frame> =
        frames("iso2-dc-eim").into_iter().map(|(of, payload)| (of, [&payload[..], &[7, 0, 1]].concat())).collect();
    for round in 0..2 {
        hear(&mut tracker, &trailed, round * 3_600_000_000_000);
    }
    consumer.take(&mut tracker);
    assert_eq!(hows(&consumer), ["started new", "ended terminated"].repeat(2));
    assert!(tracker.unreadable().eq([(Unreadable::TrailingBytes, 2 * trailed.len() as u64)]));
    let told = consumer.events.iter().filter(|event| matches!(event, SessionEvent::Unreadable { .. })).count();
    assert_eq!((told, tracker.messages()), (2, 2 * trailed.len() as u64));
    assert!(!tracker.is_troubled());
}

/// Two feeds mixed into one, message by message.
#[test]
fn of_two_sessions_at_once_the_one_that_was_there_first_is_told() {
    let all = frames("iso2-dc-eim");
    let (mut tracker, mut consumer) = (Tracker::default(), Consumer::default());
    let mut at = hear(&mut tracker, &all[..40], 0);
    for _ in 0..200 {
        at = hear(&mut tracker, &[of_another_session(&all[40]), all[40].clone(), all[41].clone()], at);
    }
    consumer.take(&mut tracker);
    assert_eq!(hows(&consumer), ["started new"]);
    assert!(tracker.unreadable().eq([(Unreadable::OtherSession, 200)]));
}

/// Whose set-up was not heard, as after a station that mirrors its frames was restarted in between.
#[test]
fn another_session_that_goes_on_is_read_from_its_first_message_on() {
    let all = frames("iso2-dc-eim");
    let others: Vec<Frame> = all[40..].iter().cycle().take(40).map(of_another_session).collect();
    // In turns of a loop; and rarely, as in AC.
    for (count, step) in [(8, TURN_NS), (2, 5_000_000_000)] {
        let (mut tracker, mut consumer) = (Tracker::default(), Consumer::default());
        let at = hear(&mut tracker, &all[..40], 0);
        for (n, (payload_type, payload)) in (0..).zip(&others[..count]) {
            tracker.handle_frame(*payload_type, payload, Mono(at + n * step));
        }
        consumer.take(&mut tracker);
        assert_eq!(hows(&consumer), ["started new", "ended superseded", "started joined"], "{count} every {step} ns");
        assert_eq!(tracker.messages(), 40 + count as u64);
        assert_eq!(tracker.unreadable().count(), 0);
    }
}

#[test]
fn a_connection_that_turns_to_tls_takes_no_message_of_before_along() {
    let (mut tracker, mut consumer) = (Tracker::default(), Consumer::default());
    let all = frames("iso2-dc-eim");
    let at = hear(&mut tracker, &all[..40], 0);
    let at = hear(&mut tracker, &[of_another_session(&all[40])], at);
    tracker.handle_encrypted(Mono(at));
    tracker.handle_close(Mono(at));
    consumer.take(&mut tracker);
    assert_eq!(hows(&consumer), ["started new", "ended superseded"]);
    assert!(tracker.unreadable().map(|(reason, count)| (reason.as_str(), count)).eq([("other_session", 1)]));
}

/// A meter that counts in 100 Wh, in a loop of 1 s at 42 kW: 11.6 Wh each.
#[test]
fn a_coarse_meter_is_never_taken_for_a_frozen_one() {
    let all = frames("iso2-dc-eim");
    let (mut tracker, mut turns) = (Tracker::default(), 0_u64);
    let mut frozen = Vec::new();
    for _ in 0..3 {
        for (payload_type, payload) in &all[..28] {
            tracker.handle_frame(*payload_type, payload, Mono(turns * 1_000_000_000));
        }
        tracker.drain().count();
        let mut marks = 0;
        for _ in 0..60 {
            turns += 1;
            let answer = changed(&all[41].1, |body| match body {
                BodyChoice::CurrentDemandRes(answer) => {
                    let meter = answer.meter_info.as_mut().expect("it has a meter");
                    meter.meter_reading = Some(2_000_000 + turns * 116 / 10 / 100 * 100);
                }
                other => panic!("{}", other.name()),
            });
            for payload in [&all[40].1, &answer] {
                tracker.handle_frame(0x8001, payload, Mono(turns * 1_000_000_000));
            }
            marks += tracker.drain().filter(|told| matches!(told, TrackerOutput::Stuck(_, true))).count();
        }
        tracker.handle_close(Mono(turns * 1_000_000_000));
        frozen.push(marks > 0);
    }
    assert_eq!(frozen, [false; 3]);
}
