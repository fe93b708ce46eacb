//! Version 2 of an entry: version 1 with the events that it has no words for. Headers, seals and records have no version 2.
//!
//! An entry without such an event is written in version 1 as before, so that a program of version 1, which leaves this
//! one alone, is kept from as little as possible.
//!
//! Behind the version byte:
//!
//! ```text
//! postcard of [(place among the window's events, device, kind)], ascending
//! the window with its other events, as version 1 has it behind its version byte
//! ```

use serde::{Deserialize, Serialize};

use super::v1;
use crate::journal::disk::chunk::Damage;
use crate::journal::disk::unwritable::Unwritable;
use crate::measure::{self, BootId, Window};
use crate::spec::DeviceId;

/// The number of this version, before each entry.
pub(in crate::journal) const VERSION: u8 = 2;

/// Something that happened, and where it stands among the events of its window.
#[derive(Debug, Serialize, Deserialize)]
struct Event<'a> {
    place: u32,
    #[serde(borrow)]
    device: Option<&'a str>,
    #[serde(borrow)]
    kind: EventKind<'a>,
}

/// What happened. The order is what is written.
#[derive(Debug, Serialize, Deserialize)]
enum EventKind<'a> {
    JournalNewer(&'a str),
    DevicePartly { answering: u16, blocks: u16, silent: &'a str },
}

/// Appends a window of the boot `home` to `bytes`, version byte and all; in version 1 if that has words for all of it.
pub(in crate::journal) fn write(window: &Window, home: BootId, mut bytes: Vec<u8>) -> Result<Vec<u8>, Unwritable> {
    let own: Vec<Event<'_>> = (0..).zip(&window.events).filter_map(|(place, event)| Event::of(place, event)).collect();
    if own.is_empty() {
        bytes.push(v1::VERSION);
    } else {
        bytes.push(VERSION);
        bytes = postcard::to_extend(&own, bytes).map_err(|_| Unwritable::Codec)?;
    }
    v1::entry::write(window, home, bytes)
}

/// Reads what stands behind the version byte.
pub(in crate::journal) fn read(bytes: &[u8], home: BootId) -> Result<Window, Damage> {
    let (own, rest): (Vec<Event<'_>>, _) = postcard::take_from_bytes(bytes).map_err(|_| Damage::Content)?;
    let mut window = v1::entry::read(rest, home)?;
    for event in own {
        let place = usize::try_from(event.place).map_err(|_| Damage::Content)?;
        if place > window.events.len() {
            return Err(Damage::Content);
        }
        window.events.insert(place, event.try_into()?);
    }
    Ok(window)
}

impl<'a> Event<'a> {
    /// `None`: version 1 has words for it.
    fn of(place: u32, measure::Event { device, kind }: &'a measure::Event) -> Option<Self> {
        use measure::EventKind as Domain;
        let kind = match kind {
            Domain::JournalNewer(text) => EventKind::JournalNewer(text),
            Domain::DevicePartly { answering, blocks, silent } => {
                EventKind::DevicePartly { answering: *answering, blocks: *blocks, silent }
            }
            // All of them by name: a new kind is in neither version until somebody says in which it is.
            Domain::Gap(_)
            | Domain::Started { .. }
            | Domain::Stopping
            | Domain::DeviceSilent(_)
            | Domain::DeviceAnswering
            | Domain::PointFrozen(_)
            | Domain::PointMoving(_)
            | Domain::ClockStepped(_)
            | Domain::SamplesShed(_)
            | Domain::EntryRefused { .. }
            | Domain::Thinned(_)
            | Domain::JournalFailing(_)
            | Domain::JournalWorking
            | Domain::BusState { .. }
            | Domain::BusRestarted(_)
            | Domain::FramesDropped { .. }
            | Domain::Session(_)
            | Domain::UplinkTrouble { .. }
            | Domain::UplinkOnline(_)
            | Domain::CertificateExpires { .. } => return None,
        };
        Some(Self { place, device: device.as_ref().map(DeviceId::as_str), kind })
    }
}

impl TryFrom<Event<'_>> for measure::Event {
    type Error = Damage;
    fn try_from(Event { place: _, device, kind }: Event<'_>) -> Result<Self, Damage> {
        let kind = match kind {
            EventKind::JournalNewer(text) => measure::EventKind::JournalNewer(text.into()),
            EventKind::DevicePartly { answering, blocks, silent } => {
                measure::EventKind::DevicePartly { answering, blocks, silent: silent.into() }
            }
        };
        Ok(Self { device: device.map(v1::event::name::<DeviceId>).transpose()?, kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::testing::depot_window;
    use crate::measure::{Event as Told, EventKind as Kind};

    const HOME: BootId = BootId([7; 16]);

    fn window(kinds: Vec<Kind>) -> Window {
        let device =
            |kind: &Kind| matches!(kind, Kind::DevicePartly { .. }).then(|| "evse-1".try_into().expect("a name"));
        let events = kinds.into_iter().map(|kind| Told { device: device(&kind), kind }).collect();
        Window { events, ..depot_window(2, 3, 1) }
    }

    fn partly() -> Kind {
        Kind::DevicePartly { answering: 3, blocks: 5, silent: "unit 200".into() }
    }

    #[test]
    fn events_of_both_versions_come_back_in_their_order() {
        for kinds in [
            vec![partly(), Kind::Stopping, Kind::JournalNewer("a".into()), partly()],
            vec![Kind::Stopping, partly()],
            vec![partly()],
        ] {
            let window = window(kinds);
            let bytes = write(&window, HOME, Vec::new()).expect("it can be written");
            assert_eq!(bytes[0], 2);
            assert_eq!(read(&bytes[1..], HOME), Ok(window));
        }
    }

    /// As written on the day of its making: version 2 is read for ever, too.
    #[test]
    fn the_bytes_of_version_2_are_these() {
        let window =
            Window { intervals: Vec::new(), ..window(vec![Kind::Stopping, partly(), Kind::JournalNewer("n".into())]) };
        let bytes = write(&window, HOME, Vec::new()).expect("it can be written");
        let own = [&[2, 2][..], &[1, 1, 6], b"evse-1", &[1, 3, 5, 8], b"unit 200", &[2, 0, 0, 1], b"n"].concat();
        assert_eq!(bytes[..own.len()], own);
        assert_eq!(read(&bytes[1..], HOME), Ok(window));
    }

    #[test]
    fn what_version_1_has_words_for_is_written_in_version_1() {
        let window = window(vec![Kind::Stopping]);
        let bytes = write(&window, HOME, Vec::new()).expect("it can be written");
        assert_eq!(bytes, v1::entry::write(&window, HOME, vec![v1::VERSION]).expect("it can be written"));
    }

    #[test]
    fn a_place_that_no_event_can_have_is_damage() {
        let own = [Event { place: 1, device: None, kind: EventKind::JournalNewer("n") }];
        let bytes = postcard::to_stdvec(&own[..]).expect("it can be written");
        let bytes = v1::entry::write(&depot_window(1, 1, 1), HOME, bytes).expect("it can be written");
        assert_eq!(read(&bytes, HOME), Err(Damage::Content));
    }
}
