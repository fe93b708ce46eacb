//! What happened in a window that version 1 has no words for, and what is told beside it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::charging::Session;
use super::checkpoint::Checkpoint;
use super::energy::Energies;
use super::in_session::InSession;
use super::quarter::{Limit, Quarter, SiteProgress};
use super::site::Site;
use crate::journal::disk::chunk::Damage;
use crate::journal::disk::v1;
use crate::measure::{self, Epoch, Identity, Questionable, Seq};
use crate::spec::{DeviceId, FieldName};

/// Something that happened, and where it stands among the events of its window.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Event<'a> {
    pub(super) place: u32,
    #[serde(borrow)]
    pub(super) device: Option<&'a str>,
    #[serde(borrow)]
    pub(super) kind: EventKind<'a>,
}

/// What happened. The order is what is written.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum EventKind<'a> {
    JournalNewer(&'a str),
    DevicePartly {
        answering: u16,
        blocks: u16,
        silent: &'a str,
    },
    CounterBreak {
        field: &'a str,
        from_milli: i64,
        to_milli: i64,
        reason: BreakReason,
    },
    MeterExchanged {
        before: &'a str,
        after: &'a str,
    },
    /// No event: the doubts that version 1 has no words for, each with its place among the points of the window. Version 1
    /// has `Rate` there.
    CounterDoubts(Vec<(u32, CounterDoubt)>),
    EventsLeftOut {
        of: &'a str,
        about: &'a str,
        count: u64,
    },
    ReloadRefused(&'a str),
    Reloaded,
    JournalInMemory {
        why: &'a str,
        from: u64,
        counts_anew: bool,
    },
    LifeLost {
        epoch: u64,
        from: u64,
        to: Option<u64>,
        renumbered: bool,
    },
    /// No event: of the window's intervals the place, and the places of their points that are missing for this reason.
    Overruns(Vec<(u32, Vec<u32>)>),
    PollOverrun(&'a str),
    PollKept,
    OfEntry {
        epoch: u64,
        seq: u64,
        #[serde(borrow)]
        told: AboutLife<'a>,
    },
    UpdateStarted {
        from: &'a str,
        to: &'a str,
    },
    UpdateConfirmed {
        from: &'a str,
        to: &'a str,
    },
    UpdateRolledBack {
        from: &'a str,
        to: &'a str,
        why: &'a str,
    },
    UpdateFailed {
        from: &'a str,
        to: &'a str,
        why: &'a str,
    },
    /// No event: the charging sessions that the window's intervals and events are of.
    InSession(#[serde(borrow)] Vec<InSession<'a>>),
    /// No event: what the window's intervals know of energy.
    Energies(#[serde(borrow)] Energies<'a>),
    /// No event: how what is derived stands after the window.
    Checkpoint(#[serde(borrow)] Checkpoint<'a>),
    /// No event: charging sessions of which there is news.
    ChargingSessions(#[serde(borrow)] Vec<Session<'a>>),
    Implausible(#[serde(borrow)] Verdict<'a>),
    Plausible(#[serde(borrow)] Verdict<'a>),
    /// No event: what the window knows of the depot that version 1 has no words for.
    Site(#[serde(borrow)] Site<'a>),
    SiteLimitExceeded(Limit),
    SiteLimitKept(Limit),
    /// No event: quarter-hours of which there is news.
    SiteIntervals(Vec<Quarter>),
    /// No event: how the grid connection stands after the window, beside a `Checkpoint`.
    SiteProgress(SiteProgress),
}

/// What a rule finds of quantities of a device.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Verdict<'a> {
    rule: &'a str,
    value_milli: i64,
    expected_milli: i64,
    unit: &'a str,
    what: &'a str,
}

/// What an entry told of its own life. The order is what is written.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum AboutLife<'a> {
    Failing(&'a str),
    Working,
    InMemory { why: &'a str, from: u64, counts_anew: bool },
    Stopping,
}

/// Why a counter does not go on as it was. The order is what is written.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum BreakReason {
    RolledOver,
    MeterExchanged,
    AnotherLevel,
}

/// Why a counter is doubted. The order is what is written.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum CounterDoubt {
    Zero,
    Backwards,
    Jump,
}

impl CounterDoubt {
    /// `None`: version 1 has words for it.
    pub(super) fn of(why: Questionable) -> Option<Self> {
        match why {
            Questionable::CounterZero => Some(Self::Zero),
            Questionable::CounterBackwards => Some(Self::Backwards),
            Questionable::CounterJump => Some(Self::Jump),
            Questionable::OutOfRange | Questionable::Frozen | Questionable::Rate | Questionable::Clock => None,
        }
    }
}

impl From<CounterDoubt> for Questionable {
    fn from(why: CounterDoubt) -> Self {
        match why {
            CounterDoubt::Zero => Self::CounterZero,
            CounterDoubt::Backwards => Self::CounterBackwards,
            CounterDoubt::Jump => Self::CounterJump,
        }
    }
}

impl From<measure::BreakReason> for BreakReason {
    fn from(reason: measure::BreakReason) -> Self {
        match reason {
            measure::BreakReason::RolledOver => Self::RolledOver,
            measure::BreakReason::MeterExchanged => Self::MeterExchanged,
            measure::BreakReason::AnotherLevel => Self::AnotherLevel,
        }
    }
}

impl From<BreakReason> for measure::BreakReason {
    fn from(reason: BreakReason) -> Self {
        match reason {
            BreakReason::RolledOver => Self::RolledOver,
            BreakReason::MeterExchanged => Self::MeterExchanged,
            BreakReason::AnotherLevel => Self::AnotherLevel,
        }
    }
}

impl<'a> From<&'a measure::AboutLife> for AboutLife<'a> {
    fn from(told: &'a measure::AboutLife) -> Self {
        use measure::AboutLife as Domain;
        match told {
            Domain::Failing(why) => Self::Failing(why),
            Domain::Working => Self::Working,
            Domain::InMemory { why, from, counts_anew } => {
                Self::InMemory { why, from: from.0, counts_anew: *counts_anew }
            }
            Domain::Stopping => Self::Stopping,
        }
    }
}

impl From<AboutLife<'_>> for measure::AboutLife {
    fn from(told: AboutLife<'_>) -> Self {
        match told {
            AboutLife::Failing(why) => Self::Failing(why.into()),
            AboutLife::Working => Self::Working,
            AboutLife::InMemory { why, from, counts_anew } => {
                Self::InMemory { why: why.into(), from: Seq(from), counts_anew }
            }
            AboutLife::Stopping => Self::Stopping,
        }
    }
}

impl<'a> From<&'a measure::Verdict> for Verdict<'a> {
    fn from(verdict: &'a measure::Verdict) -> Self {
        let measure::Verdict { rule, value_milli, expected_milli, unit, what } = verdict;
        Self { rule, value_milli: *value_milli, expected_milli: *expected_milli, unit, what }
    }
}

impl From<Verdict<'_>> for Arc<measure::Verdict> {
    fn from(Verdict { rule, value_milli, expected_milli, unit, what }: Verdict<'_>) -> Self {
        let (rule, unit, what) = (rule.into(), unit.into(), what.into());
        measure::Verdict { rule, value_milli, expected_milli, unit, what }.into()
    }
}

impl<'a> Event<'a> {
    /// `None`: version 1 has words for it.
    pub(super) fn of(place: u32, measure::Event { device, kind }: &'a measure::Event) -> Option<Self> {
        use measure::EventKind as Domain;
        let kind = match kind {
            Domain::JournalNewer(text) => EventKind::JournalNewer(text),
            Domain::DevicePartly { answering, blocks, silent } => {
                EventKind::DevicePartly { answering: *answering, blocks: *blocks, silent }
            }
            Domain::CounterBreak { field, from_milli, to_milli, reason } => EventKind::CounterBreak {
                field: field.as_str(),
                from_milli: *from_milli,
                to_milli: *to_milli,
                reason: (*reason).into(),
            },
            Domain::MeterExchanged { before, after } => EventKind::MeterExchanged { before, after },
            Domain::EventsLeftOut { of, about, count } => EventKind::EventsLeftOut { of, about, count: *count },
            Domain::ReloadRefused(why) => EventKind::ReloadRefused(why),
            Domain::Reloaded => EventKind::Reloaded,
            Domain::JournalInMemory { why, from, counts_anew } => {
                EventKind::JournalInMemory { why, from: from.0, counts_anew: *counts_anew }
            }
            Domain::LifeLost(measure::LifeLost { epoch, from, to, renumbered }) => {
                EventKind::LifeLost { epoch: epoch.0, from: from.0, to: to.map(|to| to.0), renumbered: *renumbered }
            }
            Domain::PollOverrun(text) => EventKind::PollOverrun(text),
            Domain::PollKept => EventKind::PollKept,
            Domain::OfEntry { entry: Identity { epoch, seq }, told } => {
                EventKind::OfEntry { epoch: epoch.0, seq: seq.0, told: told.into() }
            }
            Domain::SiteLimitExceeded(told) => EventKind::SiteLimitExceeded((*told).into()),
            Domain::SiteLimitKept(told) => EventKind::SiteLimitKept((*told).into()),
            Domain::UpdateStarted { from, to } => EventKind::UpdateStarted { from, to },
            Domain::UpdateConfirmed { from, to } => EventKind::UpdateConfirmed { from, to },
            Domain::UpdateRolledBack { from, to, why } => EventKind::UpdateRolledBack { from, to, why },
            Domain::UpdateFailed { from, to, why } => EventKind::UpdateFailed { from, to, why },
            Domain::Implausible(verdict) => EventKind::Implausible((&**verdict).into()),
            Domain::Plausible(verdict) => EventKind::Plausible((&**verdict).into()),
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
            EventKind::CounterBreak { field, from_milli, to_milli, reason } => {
                let field = v1::event::name::<FieldName>(field)?;
                measure::EventKind::CounterBreak { field, from_milli, to_milli, reason: reason.into() }
            }
            EventKind::MeterExchanged { before, after } => {
                measure::EventKind::MeterExchanged { before: before.into(), after: after.into() }
            }
            EventKind::EventsLeftOut { of, about, count } => {
                measure::EventKind::EventsLeftOut { of: of.into(), about: about.into(), count }
            }
            EventKind::ReloadRefused(why) => measure::EventKind::ReloadRefused(why.into()),
            EventKind::Reloaded => measure::EventKind::Reloaded,
            EventKind::JournalInMemory { why, from, counts_anew } => {
                measure::EventKind::JournalInMemory { why: why.into(), from: Seq(from), counts_anew }
            }
            EventKind::LifeLost { epoch, from, to, renumbered } => {
                let (epoch, from, to) = (Epoch(epoch), Seq(from), to.map(Seq));
                measure::EventKind::LifeLost(measure::LifeLost { epoch, from, to, renumbered })
            }
            EventKind::PollOverrun(text) => measure::EventKind::PollOverrun(text.into()),
            EventKind::PollKept => measure::EventKind::PollKept,
            EventKind::OfEntry { epoch, seq, told } => {
                let entry = Identity { epoch: Epoch(epoch), seq: Seq(seq) };
                measure::EventKind::OfEntry { entry, told: told.into() }
            }
            EventKind::UpdateStarted { from, to } => {
                measure::EventKind::UpdateStarted { from: from.into(), to: to.into() }
            }
            EventKind::UpdateConfirmed { from, to } => {
                measure::EventKind::UpdateConfirmed { from: from.into(), to: to.into() }
            }
            EventKind::UpdateRolledBack { from, to, why } => {
                measure::EventKind::UpdateRolledBack { from: from.into(), to: to.into(), why: why.into() }
            }
            EventKind::UpdateFailed { from, to, why } => {
                measure::EventKind::UpdateFailed { from: from.into(), to: to.into(), why: why.into() }
            }
            EventKind::Implausible(verdict) => measure::EventKind::Implausible(verdict.into()),
            EventKind::Plausible(verdict) => measure::EventKind::Plausible(verdict.into()),
            EventKind::SiteLimitExceeded(told) => measure::EventKind::SiteLimitExceeded(told.into()),
            EventKind::SiteLimitKept(told) => measure::EventKind::SiteLimitKept(told.into()),
            // Taken out before.
            EventKind::CounterDoubts(_)
            | EventKind::Overruns(_)
            | EventKind::InSession(_)
            | EventKind::Energies(_)
            | EventKind::Checkpoint(_)
            | EventKind::ChargingSessions(_)
            | EventKind::Site(_)
            | EventKind::SiteIntervals(_)
            | EventKind::SiteProgress(_) => return Err(Damage::Content),
        };
        Ok(Self { device: device.map(v1::event::name::<DeviceId>).transpose()?, kind })
    }
}
