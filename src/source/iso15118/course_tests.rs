//! Courses of sessions that were told wrongly once: gaps in which one vehicle follows another, and messages of another session.

use super::tests::{Consumer, TURN_NS, frames};
use super::*;
use crate::measure::{Mono, SessionEvent};

type Frame = (u16, Vec<u8>);

/// Hands frames on, one every turn from `at` on; answers when the next would come.
fn hear(tracker: &mut Tracker, frames: &[Frame], at: u64) -> u64 {
    for (turn, (payload_type, payload)) in (0..).zip(frames) {
        tracker.handle_frame(*payload_type, payload, Mono(at + turn * TURN_NS));
    }
    at + frames.len() as u64 * TURN_NS
}

fn hows(consumer: &Consumer) -> Vec<String> {
    let of = |event: &SessionEvent| match event {
        SessionEvent::Started { how, .. } => Some(format!("started {how}")),
        SessionEvent::Ended { how, .. } => Some(format!("ended {how}")),
        _ => None,
    };
    consumer.events.iter().filter_map(of).collect()
}

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
