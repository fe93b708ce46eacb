//! Events as they are written. Read without a copy: texts are those of the bytes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::enums::{GapReason, Missing};
use crate::journal::disk::chunk::Damage;
use crate::measure;
use crate::measure::{Epoch, Seq};
use crate::spec::{BusId, DeviceId, FieldName};

/// Something that happened.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Event<'a> {
    #[serde(borrow)]
    device: Option<&'a str>,
    #[serde(borrow)]
    kind: EventKind<'a>,
}

/// What happened. The order is what is written: see `enums`.
#[derive(Debug, Serialize, Deserialize)]
enum EventKind<'a> {
    Gap(Gap),
    Started { version: &'a str, clean: Option<bool> },
    Stopping,
    DeviceSilent(Missing),
    DeviceAnswering,
    PointFrozen(&'a str),
    PointMoving(&'a str),
    ClockStepped(i64),
    SamplesShed(u64),
    EntryRefused { identity: Identity, code: u8 },
    Thinned(Thinned),
    JournalFailing(&'a str),
    JournalWorking,
    BusState { bus: &'a str, state: &'a str, detail: &'a str },
    BusRestarted(&'a str),
    FramesDropped { bus: &'a str, frames: u64 },
    Session(#[serde(borrow)] SessionEvent<'a>),
    UplinkTrouble { broker: &'a str, what: &'a str, remedy: &'a str },
    UplinkOnline(&'a str),
    CertificateExpires { file: &'a str, days: u16 },
}

/// Something in a charging session.
#[derive(Debug, Serialize, Deserialize)]
enum SessionEvent<'a> {
    Started {
        protocol: &'a str,
        namespace: &'a str,
        evse_id: &'a str,
        how: &'a str,
    },
    Phase {
        phase: &'a str,
        before: &'a str,
    },
    Notified {
        what: &'a str,
    },
    Failed {
        code: &'a str,
        message: &'a str,
    },
    Ended {
        how: &'a str,
        reason: &'a str,
        seconds: u64,
        import_wh: u64,
        export_wh: u64,
        energy_source: &'a str,
        messages: u64,
        unreadable: u64,
    },
    Encrypted,
    Unreadable {
        reason: &'a str,
        count: u64,
        namespace: &'a str,
    },
    Readable {
        count: u64,
    },
    FeedConnected,
    FeedLost {
        reason: &'a str,
    },
    FeedRefused {
        reason: &'a str,
        count: u64,
        detail: &'a str,
    },
}

/// A run of entries that will never be delivered.
#[derive(Debug, Serialize, Deserialize)]
struct Gap {
    epoch: u64,
    from: u64,
    to: u64,
    points: Option<u64>,
    reason: GapReason,
}

/// A run of entries for which coarser ones stand.
#[derive(Debug, Serialize, Deserialize)]
struct Thinned {
    gap: Gap,
    as_epoch: u64,
    as_from: u64,
    as_to: u64,
    window: Duration,
}

/// Which entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::journal) struct Identity {
    epoch: u64,
    seq: u64,
}

impl From<measure::Identity> for Identity {
    fn from(measure::Identity { epoch, seq }: measure::Identity) -> Self {
        Self { epoch: epoch.0, seq: seq.0 }
    }
}

impl From<Identity> for measure::Identity {
    fn from(Identity { epoch, seq }: Identity) -> Self {
        Self { epoch: Epoch(epoch), seq: Seq(seq) }
    }
}

impl From<measure::Gap> for Gap {
    fn from(measure::Gap { epoch, from, to, points, reason }: measure::Gap) -> Self {
        Self { epoch: epoch.0, from: from.0, to: to.0, points, reason: reason.into() }
    }
}

impl From<Gap> for measure::Gap {
    fn from(Gap { epoch, from, to, points, reason }: Gap) -> Self {
        Self { epoch: Epoch(epoch), from: Seq(from), to: Seq(to), points, reason: reason.into() }
    }
}

impl From<measure::Thinned> for Thinned {
    fn from(measure::Thinned { gap, as_epoch, as_from, as_to, window }: measure::Thinned) -> Self {
        Self { gap: gap.into(), as_epoch: as_epoch.0, as_from: as_from.0, as_to: as_to.0, window }
    }
}

impl From<Thinned> for measure::Thinned {
    fn from(Thinned { gap, as_epoch, as_from, as_to, window }: Thinned) -> Self {
        Self { gap: gap.into(), as_epoch: Epoch(as_epoch), as_from: Seq(as_from), as_to: Seq(as_to), window }
    }
}

impl<'a> Event<'a> {
    /// `None`: this version has no words for it.
    pub(super) fn of(measure::Event { device, kind }: &'a measure::Event) -> Option<Self> {
        Some(Self { device: device.as_ref().map(DeviceId::as_str), kind: EventKind::of(kind)? })
    }
}

impl TryFrom<Event<'_>> for measure::Event {
    type Error = Damage;
    fn try_from(Event { device, kind }: Event<'_>) -> Result<Self, Damage> {
        Ok(Self { device: device.map(name::<DeviceId>).transpose()?, kind: kind.try_into()? })
    }
}

/// A name that was one when it was written.
pub(in crate::journal::disk) fn name<'a, T: TryFrom<&'a str>>(text: &'a str) -> Result<T, Damage> {
    T::try_from(text).map_err(|_| Damage::Content)
}

impl<'a> EventKind<'a> {
    fn of(kind: &'a measure::EventKind) -> Option<Self> {
        use measure::EventKind as Domain;
        Some(match kind {
            Domain::Gap(gap) => Self::Gap((*gap).into()),
            Domain::Started { version, clean } => Self::Started { version, clean: *clean },
            Domain::Stopping => Self::Stopping,
            Domain::DeviceSilent(why) => Self::DeviceSilent((*why).into()),
            Domain::DeviceAnswering => Self::DeviceAnswering,
            Domain::PointFrozen(field) => Self::PointFrozen(field.as_str()),
            Domain::PointMoving(field) => Self::PointMoving(field.as_str()),
            Domain::ClockStepped(by_ns) => Self::ClockStepped(*by_ns),
            Domain::SamplesShed(count) => Self::SamplesShed(*count),
            Domain::EntryRefused { identity, code } => Self::EntryRefused { identity: (*identity).into(), code: *code },
            Domain::Thinned(thinned) => Self::Thinned((*thinned).into()),
            Domain::JournalFailing(why) => Self::JournalFailing(why),
            Domain::JournalWorking => Self::JournalWorking,
            Domain::BusState { bus, state, detail } => Self::BusState { bus: bus.as_str(), state, detail },
            Domain::BusRestarted(bus) => Self::BusRestarted(bus.as_str()),
            Domain::FramesDropped { bus, frames } => Self::FramesDropped { bus: bus.as_str(), frames: *frames },
            // In which session is version 2's affair.
            Domain::Session(measure::OfSession { event, session: _ }) => Self::Session(event.into()),
            Domain::UplinkTrouble { broker, what, remedy } => Self::UplinkTrouble { broker, what, remedy },
            Domain::UplinkOnline(broker) => Self::UplinkOnline(broker),
            Domain::CertificateExpires { file, days } => Self::CertificateExpires { file, days: *days },
            // Of version 2.
            Domain::JournalNewer(_)
            | Domain::DevicePartly { .. }
            | Domain::CounterBreak { .. }
            | Domain::MeterExchanged { .. }
            | Domain::JournalInMemory { .. }
            | Domain::LifeLost(_)
            | Domain::PollOverrun(_)
            | Domain::PollKept
            | Domain::EventsLeftOut { .. }
            | Domain::ReloadRefused(_)
            | Domain::Reloaded
            | Domain::OfEntry { .. }
            | Domain::UpdateStarted { .. }
            | Domain::UpdateConfirmed { .. }
            | Domain::UpdateRolledBack { .. }
            | Domain::UpdateFailed { .. }
            | Domain::Implausible(_)
            | Domain::Plausible(_)
            | Domain::SiteLimitExceeded(_)
            | Domain::SiteLimitKept(_) => return None,
        })
    }
}

impl TryFrom<EventKind<'_>> for measure::EventKind {
    type Error = Damage;
    fn try_from(kind: EventKind<'_>) -> Result<Self, Damage> {
        Ok(match kind {
            EventKind::Gap(gap) => Self::Gap(gap.into()),
            EventKind::Started { version, clean } => Self::Started { version: version.to_owned(), clean },
            EventKind::Stopping => Self::Stopping,
            EventKind::DeviceSilent(why) => Self::DeviceSilent(why.into()),
            EventKind::DeviceAnswering => Self::DeviceAnswering,
            EventKind::PointFrozen(field) => Self::PointFrozen(name::<FieldName>(field)?),
            EventKind::PointMoving(field) => Self::PointMoving(name::<FieldName>(field)?),
            EventKind::ClockStepped(by_ns) => Self::ClockStepped(by_ns),
            EventKind::SamplesShed(count) => Self::SamplesShed(count),
            EventKind::EntryRefused { identity, code } => Self::EntryRefused { identity: identity.into(), code },
            EventKind::Thinned(thinned) => Self::Thinned(thinned.into()),
            EventKind::JournalFailing(why) => Self::JournalFailing(why.into()),
            EventKind::JournalWorking => Self::JournalWorking,
            EventKind::BusState { bus, state, detail } => {
                Self::BusState { bus: name::<BusId>(bus)?, state: state.into(), detail: detail.into() }
            }
            EventKind::BusRestarted(bus) => Self::BusRestarted(name::<BusId>(bus)?),
            EventKind::FramesDropped { bus, frames } => Self::FramesDropped { bus: name::<BusId>(bus)?, frames },
            EventKind::Session(event) => Self::Session(measure::SessionEvent::from(event).into()),
            EventKind::UplinkTrouble { broker, what, remedy } => {
                Self::UplinkTrouble { broker: broker.into(), what: what.into(), remedy: remedy.into() }
            }
            EventKind::UplinkOnline(broker) => Self::UplinkOnline(broker.into()),
            EventKind::CertificateExpires { file, days } => Self::CertificateExpires { file: file.into(), days },
        })
    }
}

impl<'a> From<&'a measure::SessionEvent> for SessionEvent<'a> {
    fn from(event: &'a measure::SessionEvent) -> Self {
        use measure::SessionEvent as Domain;
        match event {
            Domain::Started { protocol, namespace, evse_id, how } => {
                Self::Started { protocol, namespace, evse_id, how }
            }
            Domain::Phase { phase, before } => Self::Phase { phase, before },
            Domain::Notified { what } => Self::Notified { what },
            Domain::Failed { code, message } => Self::Failed { code, message },
            Domain::Ended { how, reason, seconds, import_wh, export_wh, energy_source, messages, unreadable } => {
                Self::Ended {
                    how,
                    reason,
                    seconds: *seconds,
                    import_wh: *import_wh,
                    export_wh: *export_wh,
                    energy_source,
                    messages: *messages,
                    unreadable: *unreadable,
                }
            }
            Domain::Encrypted => Self::Encrypted,
            Domain::Unreadable { reason, count, namespace } => Self::Unreadable { reason, count: *count, namespace },
            Domain::Readable { count } => Self::Readable { count: *count },
            Domain::FeedConnected => Self::FeedConnected,
            Domain::FeedLost { reason } => Self::FeedLost { reason },
            Domain::FeedRefused { reason, count, detail } => Self::FeedRefused { reason, count: *count, detail },
        }
    }
}

impl From<SessionEvent<'_>> for measure::SessionEvent {
    fn from(event: SessionEvent<'_>) -> Self {
        use SessionEvent as Written;
        match event {
            Written::Started { protocol, namespace, evse_id, how } => Self::Started {
                protocol: protocol.into(),
                namespace: namespace.into(),
                evse_id: evse_id.into(),
                how: how.into(),
            },
            Written::Phase { phase, before } => Self::Phase { phase: phase.into(), before: before.into() },
            Written::Notified { what } => Self::Notified { what: what.into() },
            Written::Failed { code, message } => Self::Failed { code: code.into(), message: message.into() },
            Written::Ended { how, reason, seconds, import_wh, export_wh, energy_source, messages, unreadable } => {
                Self::Ended {
                    how: how.into(),
                    reason: reason.into(),
                    seconds,
                    import_wh,
                    export_wh,
                    energy_source: energy_source.into(),
                    messages,
                    unreadable,
                }
            }
            Written::Encrypted => Self::Encrypted,
            Written::Unreadable { reason, count, namespace } => {
                Self::Unreadable { reason: reason.into(), count, namespace: namespace.into() }
            }
            Written::Readable { count } => Self::Readable { count },
            Written::FeedConnected => Self::FeedConnected,
            Written::FeedLost { reason } => Self::FeedLost { reason: reason.into() },
            Written::FeedRefused { reason, count, detail } => {
                Self::FeedRefused { reason: reason.into(), count, detail: detail.into() }
            }
        }
    }
}
