//! Events of windows that are not kept. They are told in the next window that is: what happened is not lost with the values beside it,
//! and whoever has told an event once may rely on it as soon as all that it handed over is durable.

use std::collections::{BTreeMap, VecDeque};

use crate::measure::{Event, EventKind};

/// Some 25 KB. A charging session has about ten, an update of the box four.
const HELD_MAX: usize = 256;

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct HeldEvents {
    events: VecDeque<Event>,
    /// Those beyond the bound, by kind.
    left_out: BTreeMap<&'static str, u64>,
}

impl HeldEvents {
    /// These were in a window that is not kept. Too many: the oldest are left out, of an update none before the others.
    pub(super) fn hold(&mut self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            self.events.push_back(event);
            if self.events.len() > HELD_MAX {
                let place = self.events.iter().position(|event| !event.kind.is_of_update()).unwrap_or(0);
                if let Some(event) = self.events.remove(place) {
                    *self.left_out.entry(event.kind.name()).or_default() += 1;
                }
            }
        }
    }

    /// Whether there are any.
    pub(super) fn any(&self) -> bool {
        !self.events.is_empty()
    }

    /// All of them, in the order in which they happened.
    pub(super) fn take(&mut self) -> Vec<Event> {
        let mut events: Vec<Event> = std::mem::take(&mut self.events).into();
        let left_out = std::mem::take(&mut self.left_out);
        if !left_out.is_empty() {
            let count = left_out.values().sum();
            let of = left_out.into_keys().collect::<Vec<_>>().join(",").into();
            events.push(Event { device: None, kind: EventKind::EventsLeftOut { of, about: "".into(), count } });
        }
        events
    }
}

/// Whether an event says how the medium is for the entries around it: of others it says nothing.
pub(super) fn is_about_the_medium(kind: &EventKind) -> bool {
    matches!(kind, EventKind::JournalInMemory { .. } | EventKind::JournalFailing(_) | EventKind::JournalWorking)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventKind) -> Event {
        Event { device: None, kind }
    }

    #[test]
    fn of_too_many_the_oldest_are_left_out_and_counted_and_those_of_an_update_stay() {
        let mut held = HeldEvents::default();
        let update = event(EventKind::UpdateStarted { from: "1".into(), to: "2".into() });
        held.hold([update.clone()]);
        held.hold((0..300).map(|n| event(EventKind::ClockStepped(n))));
        assert!(held.any());
        let told = held.take();
        assert_eq!((told.len(), &told[0]), (HELD_MAX + 1, &update));
        assert_eq!(told[1], event(EventKind::ClockStepped(45)));
        let left_out = EventKind::EventsLeftOut { of: "clock_stepped".into(), about: "".into(), count: 45 };
        assert_eq!(told[HELD_MAX], event(left_out));
        assert!(!held.any() && held.take().is_empty());
    }
}
