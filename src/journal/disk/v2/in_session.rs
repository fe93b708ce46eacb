//! Which charging session the intervals and the events of a window are of: version 1 has no words for it.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::journal::disk::chunk::Damage;
use crate::journal::disk::v1::event::name;
use crate::measure::{EventKind, Window};
use crate::spec::SessionId;

/// A session, and the places in the window of what is of it, ascending.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct InSession<'a> {
    session: &'a str,
    intervals: Vec<u32>,
    events: Vec<u32>,
}

/// The sessions of a window, in the order in which they come in it: intervals first, then events.
pub(super) fn of(window: &Window) -> Vec<InSession<'_>> {
    let (mut all, mut known) = (Vec::new(), HashMap::new());
    for (place, interval) in (0..).zip(&window.intervals) {
        if let Some(session) = &interval.session {
            entry(&mut all, &mut known, session).intervals.push(place);
        }
    }
    for (place, event) in (0..).zip(&window.events) {
        if let EventKind::Session(told) = &event.kind
            && let Some(session) = &told.session
        {
            entry(&mut all, &mut known, session).events.push(place);
        }
    }
    all
}

/// `known` has the place of each.
fn entry<'a, 'w>(
    all: &'a mut Vec<InSession<'w>>,
    known: &mut HashMap<&'w str, usize>,
    session: &'w SessionId,
) -> &'a mut InSession<'w> {
    let session = session.as_str();
    let place = *known.entry(session).or_insert_with(|| {
        all.push(InSession { session, intervals: Vec::new(), events: Vec::new() });
        all.len() - 1
    });
    &mut all[place]
}

/// Puts them where they belong, once all events are where they were.
pub(super) fn put(window: &mut Window, all: &[InSession<'_>]) -> Result<(), Damage> {
    let at = |place: u32| usize::try_from(place).map_err(|_| Damage::Content);
    for InSession { session, intervals, events } in all {
        let session: SessionId = name(session)?;
        for place in intervals {
            window.intervals.get_mut(at(*place)?).ok_or(Damage::Content)?.session = Some(session.clone());
        }
        for place in events {
            match window.events.get_mut(at(*place)?).map(|event| &mut event.kind) {
                Some(EventKind::Session(told)) => told.session = Some(session.clone()),
                _ => return Err(Damage::Content),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::journal::disk::chunk::Damage;
    use crate::journal::disk::{v1, v2};
    use crate::journal::testing::depot_window;
    use crate::measure::testing::{LINEAR, growth};
    use crate::measure::{BootId, Event, EventKind, OfSession, SessionEvent, Window};

    const HOME: BootId = BootId([7; 16]);

    fn event(session: Option<&str>, event: SessionEvent) -> Event {
        let session = session.map(|id| id.try_into().expect("a name"));
        Event { device: None, kind: EventKind::Session(OfSession { session, event }) }
    }

    /// Three devices, the first two in a session, and what happened in them, beside what is of both versions.
    fn window() -> Window {
        let mut window = depot_window(3, 2, 1);
        for (interval, session) in window.intervals.iter_mut().zip(["a", "b"]) {
            interval.session = Some(session.try_into().expect("a name"));
        }
        window.events = vec![
            Event { device: None, kind: EventKind::Reloaded },
            event(Some("a"), SessionEvent::Encrypted),
            Event { device: None, kind: EventKind::PollKept },
            event(None, SessionEvent::FeedConnected),
            event(Some("c"), SessionEvent::Readable { count: 7 }),
        ];
        window
    }

    #[test]
    fn sessions_come_back_at_their_intervals_and_events() {
        let window = window();
        let bytes = v2::write(&window, HOME, Vec::new()).expect("it can be written");
        assert_eq!(v2::read(&bytes[1..], HOME), Ok(window));
    }

    /// Each interval was compared with all sessions before it: 12 million times in a window of 5,000.
    #[test]
    fn a_session_costs_the_same_whatever_others_there_are() {
        let window = |devices: usize| {
            let mut window = depot_window(u16::try_from(devices).expect("few"), 1, 1);
            for (n, interval) in window.intervals.iter_mut().enumerate() {
                interval.session = Some(format!("{n:016x}").as_str().try_into().expect("an id"));
            }
            window
        };
        let grown = growth(1_000, window, |window| assert_eq!(super::of(&window).len(), window.intervals.len()));
        assert!(grown < LINEAR, "{grown:.0}");
    }

    /// As written on the day of its making.
    #[test]
    fn the_bytes_of_sessions_are_these() {
        let window = window();
        let bytes = v2::write(&window, HOME, Vec::new()).expect("it can be written");
        let own = [
            &[2, 3, 0, 0, 7, 2, 0, 12][..],
            &[0, 0, 18, 3],
            &[1, b'a', 1, 0, 1, 1],
            &[1, b'b', 1, 1, 0],
            &[1, b'c', 0, 1, 4],
        ];
        let own = own.concat();
        assert_eq!(bytes[..own.len()], own);
        let mut without = window;
        without.intervals.iter_mut().for_each(|interval| interval.session = None);
        let rest = v1::entry::write(&without, HOME, Vec::new()).expect("it can be written");
        assert_eq!(bytes[own.len()..], rest, "the rest is version 1, which knows of no session");
    }

    #[test]
    fn a_place_at_which_nothing_can_be_of_a_session_is_damage() {
        let bytes = v2::write(&window(), HOME, Vec::new()).expect("it can be written");
        // The interval of a; the event of a; that of c, which is then one that is of no session.
        for (at, place) in [(15, 3), (17, 9), (26, 2)] {
            let mut bytes = bytes.clone();
            bytes[at] = place;
            assert_eq!(v2::read(&bytes[1..], HOME), Err(Damage::Content), "{at}");
        }
    }
}
