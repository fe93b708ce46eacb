//! Of which session it is told what values and events are.

use super::feed_tests::Heard;
use super::tests::frames;
use super::*;
use crate::health::SessionFacts;
use crate::measure::{EventKind, OfSession, SessionEvent};
use crate::spec::SessionId;
use iso15118::exi::ExiDocument;
use iso15118::iso2::{BodyChoice, Document};

/// The events of sessions, but their phases, each with the id that it has.
fn told(heard: &Heard) -> Vec<(&'static str, Option<&str>)> {
    heard
        .events
        .iter()
        .filter_map(|kind| match kind {
            EventKind::Session(OfSession { session, event }) => {
                Some((event.name(), session.as_ref().map(SessionId::as_str)))
            }
            _ => None,
        })
        .filter(|(name, _)| !matches!(*name, "session_phase" | "session_unreadable" | "session_readable"))
        .collect()
}

#[test]
fn each_session_has_the_id_that_its_station_gave_it_and_its_events_have_it() {
    let mut heard = Heard::new();
    heard.feed("03-other-session-id", 250);
    let [first, second] = &heard.sessions[..] else { panic!("{:?}", heard.sessions) };
    assert!(first != second && first.len() == 16 && second.len() == 16, "{first} {second}");
    let (first, second) = (Some(first.as_str()), Some(second.as_str()));
    let all = told(&heard);
    let ends: Vec<_> = all.iter().filter(|(name, _)| name.ends_with("ed") && name.starts_with("session_")).collect();
    let expected = [&("session_started", first), &("session_ended", first), &("session_started", second)];
    assert_eq!(ends, expected);
    // The phase before the station has given one is of none; those after it are of the session.
    let phases: Vec<_> = heard
        .events
        .iter()
        .filter_map(|kind| match kind {
            EventKind::Session(OfSession { session, event: SessionEvent::Phase { phase, .. } }) => {
                Some((&**phase, session.is_some()))
            }
            _ => None,
        })
        .collect();
    assert!(phases.len() > 4 && phases.iter().all(|(phase, is_of)| *is_of != (*phase == "setup")), "{phases:?}");
    let mut facts = SessionFacts::default();
    heard.adapter.touch();
    assert!(heard.adapter.news(&mut facts));
    assert_eq!(facts.session_id.as_ref().map(SessionId::as_str), second);
}

#[test]
fn a_session_keeps_its_id_over_a_lost_feed_and_has_none_after_its_end() {
    let mut heard = Heard::new();
    heard.feed("04-feed-gap.a", 250).lose_feed();
    let id = heard.session.clone().expect("it goes on");
    heard.feed("04-feed-gap.b", 250);
    assert_eq!((heard.sessions.as_slice(), heard.session.as_ref()), (&[id.clone()][..], None));
    let names = told(&heard);
    assert_eq!(names.first(), Some(&("feed_connected", None)));
    assert_eq!(names.last(), Some(&("session_ended", Some(id.as_str()))));
}

#[test]
fn a_session_that_the_station_gave_no_id_has_none() {
    let mut heard = Heard::new();
    heard.feed("13-setup-unanswered", 250);
    assert_eq!(told(&heard), [("feed_connected", None), ("session_started", None), ("session_ended", None)]);
    assert!(heard.sessions.is_empty());
}

/// Plays the recorded AC session, with another SessionID in each header, from the `from`-th frame on.
fn play(heard: &mut Heard, id: u64, from: usize, joins: bool) {
    let open = heard.stamp();
    heard.adapter.hear(open, |tracker| tracker.handle_open(open.mono));
    for (payload_type, payload) in frames("iso2-ac-eim").into_iter().skip(from) {
        let payload = match Document::from_bytes(&payload) {
            Ok(Document::V2GMessage(mut message)) => {
                match &mut message.body.choice {
                    Some(BodyChoice::SessionSetupReq(_)) => {}
                    Some(BodyChoice::SessionSetupRes(answer)) if joins => {
                        answer.response_code = iso15118::iso2::ResponseCode::OKOldSessionJoined;
                        message.header.session_id = id.to_be_bytes().to_vec();
                    }
                    _ => message.header.session_id = id.to_be_bytes().to_vec(),
                }
                Document::V2GMessage(message).to_vec().expect("it can be written")
            }
            _ => payload,
        };
        heard.now_ms += 250;
        let at = heard.stamp();
        heard.adapter.hear(at, |tracker| tracker.handle_frame(payload_type, &payload, at.mono));
        heard.take();
    }
}

#[test]
fn a_station_that_gives_each_session_the_same_id_does_not_make_them_one() {
    let mut heard = Heard::new();
    play(&mut heard, 1, 0, false);
    heard.now_ms = 100_000;
    play(&mut heard, 1, 0, false);
    play(&mut heard, 1, 0, true);
    // The beginning was not heard.
    play(&mut heard, 1, 20, false);
    let again = "0000000000000001-101000";
    assert_eq!(heard.sessions, ["0000000000000001", again, again, again]);
    let ends = told(&heard).into_iter().filter(|(name, _)| *name == "session_ended");
    assert!(ends.map(|(_, id)| id).eq(heard.sessions.iter().map(|id| Some(id.as_str()))));
}

/// The address of the vehicle's modem, with which it says who it is, in the station's SessionID.
#[test]
fn an_id_that_a_station_has_made_of_its_vehicles_tells_nothing_of_it_where_it_is_not_to_be_told() {
    for vehicle_ids in [VehicleIds::Hash([7; 32]), VehicleIds::Omit([7; 32])] {
        let mut heard = Heard::telling(vehicle_ids);
        play(&mut heard, 0xa0b1_c2d3_e401, 0, false);
        // Also where nobody has heard the vehicle say who it is.
        play(&mut heard, 0xa0b1_c2d3_e401, 20, false);
        let mut facts = SessionFacts::default();
        heard.adapter.touch();
        heard.adapter.news(&mut facts);
        let told = format!("{:?} {:?} {facts:?}", heard.events, heard.sessions).to_lowercase();
        assert!(heard.sessions.len() == 2 && heard.sessions[0] == heard.sessions[1], "{:?}", heard.sessions);
        assert!(!told.contains("a0b1c2d3e401"), "{told}");
    }
}
