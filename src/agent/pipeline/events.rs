//! How often the same may be told: one event a second for each cause, whatever flaps. Pure.
//!
//! - A cause is what happens to one thing: to a device whether it answers, to a bus its state, to a point that it stands still.
//! - The first event of a cause is told at once. What comes within the second after it is held, of each cause the newest
//!   only; it is told when its time has come, so that the last state is always told, with how many were left out
//!   ([`EventKind::EventsLeftOut`]). While a cause flaps on, it is told more and more rarely, down to once in
//!   [`INTERVAL_MAX`].
//! - Counts are added up, and nothing of them is left out.
//! - A gap, a start, an end, an update, and what begins or ends a charging session are told each, always.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::measure::{Event, EventKind, Mono, OfSession, SessionEvent};
use crate::spec::{BusId, DeviceId, FieldName};

/// Between two events of a cause …
const INTERVAL: Duration = Duration::from_secs(1);
/// … and of one that has flapped for a while: how late the last state may be told.
const INTERVAL_MAX: Duration = Duration::from_secs(10);
/// A charging session goes through so many phases within moments when it begins or ends.
const SESSION_BURST: u32 = 32;
/// Causes remembered: a plan of 1,000 devices has about 40,000 points that can freeze; each takes some 250 bytes while it is not quiet.
/// Beyond, those of one kind share a cause.
const CAUSES_MAX: usize = 65_536;
/// Above so many causes the quiet ones are forgotten, looked for once in an interval.
const CAUSES_QUIET: usize = 256;

/// What was told lately, and what waits to be told.
#[derive(Debug)]
pub(super) struct EventBound {
    causes: HashMap<Cause, Told>,
    /// How many causes have something to tell later …
    held: usize,
    /// … and of charging sessions how many at each device.
    held_of_sessions: HashMap<Subject, usize>,
    /// When quiet ones were looked for.
    looked: Mono,
}

/// One thing, and one kind of what happens to it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Cause {
    /// The names of the events that take each other's place.
    kinds: &'static str,
    subject: Subject,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Subject {
    Gateway,
    Device(DeviceId),
    Point(Option<DeviceId>, FieldName),
    Rule(Option<DeviceId>, Arc<str>),
    Bus(BusId),
    Named(Arc<str>),
}

#[derive(Debug)]
struct Told {
    /// The last.
    last: EventKind,
    /// When the next one could be told if there were no bursts (the virtual scheduling of a leaky bucket).
    next: Mono,
    interval: Duration,
    held: Option<Event>,
    left_out: u64,
}

impl Default for EventBound {
    fn default() -> Self {
        Self { causes: HashMap::new(), held: 0, held_of_sessions: HashMap::new(), looked: Mono(0) }
    }
}

impl EventBound {
    /// Something happened: told now, or later.
    pub(super) fn take(&mut self, event: Event, now: Mono, tell: &mut impl FnMut(Event)) {
        if is_bound_of_session(&event.kind) {
            // What happened before it comes before it.
            let device = event.device.clone().map_or(Subject::Gateway, Subject::Device);
            // Sessions of a whole depot may begin in one moment, each beside all causes: most have nothing that waits.
            if self.held_of_sessions.contains_key(&device) {
                self.release_if(now, tell, |cause, _| cause.is_of_session() && cause.subject == device);
            }
        }
        let Some(mut cause) = Cause::of(&event) else { return tell(event) };
        if !self.causes.contains_key(&cause) {
            self.forget_quiet(now);
            if self.causes.len() >= CAUSES_MAX {
                cause.subject = Subject::Gateway;
            }
        }
        let Some(told) = self.causes.get_mut(&cause) else {
            let next = now + INTERVAL;
            self.causes
                .insert(cause, Told { last: event.kind.clone(), next, interval: INTERVAL, held: None, left_out: 0 });
            return tell(event);
        };
        if told.held.is_none() && told.is_due(now, cause.burst()) {
            if now.since(told.next) >= told.interval {
                told.interval = INTERVAL;
            }
            told.note(event.kind.clone(), now);
            return tell(event);
        }
        if told.held.is_none() {
            self.held += 1;
            if cause.is_of_session() {
                *self.held_of_sessions.entry(cause.subject).or_default() += 1;
            }
        }
        told.hold(event);
    }

    /// Tells what has waited long enough.
    pub(super) fn release(&mut self, now: Mono, tell: &mut impl FnMut(Event)) {
        self.release_if(now, tell, |cause, told| told.is_due(now, cause.burst()));
    }

    /// Whether anything waits to be told.
    pub(super) fn holds_any(&self) -> bool {
        self.held > 0
    }

    /// Tells all that waits: the agent stops.
    pub(super) fn release_all(&mut self, now: Mono, tell: &mut impl FnMut(Event)) {
        self.release_if(now, tell, |_, _| true);
    }

    fn release_if(&mut self, now: Mono, tell: &mut impl FnMut(Event), is_due: impl Fn(&Cause, &Told) -> bool) {
        if self.held == 0 {
            return;
        }
        let due = self.causes.iter_mut().filter(|(cause, told)| told.held.is_some() && is_due(cause, told));
        for (cause, told) in due {
            self.held -= 1;
            if cause.is_of_session()
                && let Some(held) = self.held_of_sessions.get_mut(&cause.subject)
            {
                *held -= 1;
                if *held == 0 {
                    self.held_of_sessions.remove(&cause.subject);
                }
            }
            told.release(cause, now, tell);
        }
    }

    fn forget_quiet(&mut self, now: Mono) {
        if self.causes.len() >= CAUSES_QUIET && now.since(self.looked) >= INTERVAL {
            self.looked = now;
            self.causes.retain(|_, told| told.held.is_some() || now.since(told.next) < INTERVAL_MAX);
        }
    }
}

impl Told {
    fn is_due(&self, now: Mono, burst: u32) -> bool {
        self.next.since(now) <= self.interval * (burst - 1)
    }

    fn note(&mut self, kind: EventKind, now: Mono) {
        self.next = if self.next > now { self.next } else { now } + self.interval;
        self.last = kind;
    }

    /// The newest takes the place of the one before; counts are added to it.
    fn hold(&mut self, event: Event) {
        let Some(held) = self.held.take() else {
            self.held = Some(event);
            return;
        };
        let Event { device, kind } = event;
        let kind = match added(&held.kind, &kind) {
            Some(sum) => sum,
            None => {
                self.left_out += 1;
                kind
            }
        };
        self.held = Some(Event { device, kind });
    }

    fn release(&mut self, cause: &Cause, now: Mono, tell: &mut impl FnMut(Event)) {
        let Some(event) = self.held.take() else { return };
        let is_flapping = self.left_out > 0 && cause.burst() == 1;
        // It is again as it was told last: only that it was not in between is news.
        let is_as_told = !is_count(&event.kind) && event.kind == self.last;
        let left_out = std::mem::take(&mut self.left_out) + u64::from(is_as_told);
        self.interval = if is_flapping { (self.interval * 2).min(INTERVAL_MAX) } else { INTERVAL };
        if left_out > 0 {
            let kind =
                EventKind::EventsLeftOut { of: cause.kinds.into(), about: cause.subject.about(), count: left_out };
            tell(Event { device: event.device.clone(), kind });
        }
        self.note(event.kind.clone(), now);
        if !is_as_told {
            tell(event);
        }
    }
}

impl Cause {
    /// `None`: it is told each time.
    fn of(event: &Event) -> Option<Self> {
        let device = || event.device.clone().map_or(Subject::Gateway, Subject::Device);
        if is_bound_of_session(&event.kind) {
            return None;
        }
        let (kinds, subject) = match &event.kind {
            EventKind::Gap(_)
            | EventKind::Thinned(_)
            | EventKind::Started { .. }
            | EventKind::Stopping
            | EventKind::EventsLeftOut { .. }
            | EventKind::Reloaded
            | EventKind::UpdateStarted { .. }
            | EventKind::UpdateConfirmed { .. }
            | EventKind::UpdateRolledBack { .. }
            | EventKind::UpdateFailed { .. }
            | EventKind::JournalInMemory { .. }
            | EventKind::LifeLost(_)
            | EventKind::OfEntry { .. } => return None,
            EventKind::DeviceSilent(_) | EventKind::DeviceAnswering | EventKind::DevicePartly { .. } => {
                ("device_answering,device_partly,device_silent", device())
            }
            EventKind::PollOverrun(_) | EventKind::PollKept => ("poll_kept,poll_overrun", device()),
            EventKind::CounterBreak { field, .. } => {
                ("counter_break", Subject::Point(event.device.clone(), field.clone()))
            }
            EventKind::PointFrozen(field) | EventKind::PointMoving(field) => {
                ("point_frozen,point_moving", Subject::Point(event.device.clone(), field.clone()))
            }
            EventKind::Implausible(verdict) | EventKind::Plausible(verdict) => {
                ("implausible,plausible", Subject::Rule(event.device.clone(), Arc::clone(&verdict.rule)))
            }
            EventKind::JournalFailing(_) | EventKind::JournalWorking => {
                ("journal_failing,journal_working", Subject::Gateway)
            }
            EventKind::SiteLimitExceeded(told) | EventKind::SiteLimitKept(told) => {
                ("site_limit_exceeded,site_limit_kept", Subject::Named(told.limit.as_str().into()))
            }
            EventKind::BusState { bus, .. } => ("bus_state", Subject::Bus(bus.clone())),
            EventKind::BusRestarted(bus) => ("bus_restarted", Subject::Bus(bus.clone())),
            EventKind::FramesDropped { bus, .. } => ("frames_dropped", Subject::Bus(bus.clone())),
            EventKind::UplinkTrouble { broker, .. } | EventKind::UplinkOnline(broker) => {
                ("uplink_online,uplink_trouble", Subject::Named(Arc::clone(broker)))
            }
            EventKind::CertificateExpires { file, .. } => ("certificate_expires", Subject::Named(Arc::clone(file))),
            EventKind::Session(OfSession { event: told, .. }) => match told {
                SessionEvent::FeedConnected | SessionEvent::FeedLost { .. } => ("feed_connected,feed_lost", device()),
                SessionEvent::Unreadable { .. } | SessionEvent::Readable { .. } => {
                    ("session_readable,session_unreadable", device())
                }
                other => (other.name(), device()),
            },
            kind @ (EventKind::ClockStepped(_)
            | EventKind::SamplesShed(_)
            | EventKind::EntryRefused { .. }
            | EventKind::ReloadRefused(_)
            | EventKind::MeterExchanged { .. }
            | EventKind::JournalNewer(_)) => (kind.name(), device()),
        };
        Some(Self { kinds, subject })
    }

    /// Told before a session begins or ends.
    fn is_of_session(&self) -> bool {
        self.kinds.starts_with("session_")
    }

    fn burst(&self) -> u32 {
        if self.is_of_session() { SESSION_BURST } else { 1 }
    }
}

impl Subject {
    /// Its name, where the event's device does not say it.
    fn about(&self) -> Arc<str> {
        match self {
            Self::Gateway | Self::Device(_) => "".into(),
            Self::Point(_, field) => field.as_str().into(),
            Self::Bus(bus) => bus.as_str().into(),
            Self::Named(name) | Self::Rule(_, name) => Arc::clone(name),
        }
    }
}

/// Whether a charging session begins or ends with it.
fn is_bound_of_session(kind: &EventKind) -> bool {
    matches!(
        kind,
        EventKind::Session(OfSession { event: SessionEvent::Started { .. } | SessionEvent::Ended { .. }, .. })
    )
}

/// Both as one, of which nothing is lost; `None` where the newer one takes the place of the older.
fn added(older: &EventKind, newer: &EventKind) -> Option<EventKind> {
    match (older, newer) {
        (EventKind::SamplesShed(a), EventKind::SamplesShed(b)) => Some(EventKind::SamplesShed(a.saturating_add(*b))),
        (EventKind::ClockStepped(a), EventKind::ClockStepped(b)) => Some(EventKind::ClockStepped(a.saturating_add(*b))),
        (EventKind::FramesDropped { frames: a, .. }, EventKind::FramesDropped { bus, frames: b }) => {
            Some(EventKind::FramesDropped { bus: bus.clone(), frames: a.saturating_add(*b) })
        }
        _ => None,
    }
}

/// Whether the same once more is more, and not the same.
fn is_count(kind: &EventKind) -> bool {
    added(kind, kind).is_some() || matches!(kind, EventKind::BusRestarted(_) | EventKind::Session(_))
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
