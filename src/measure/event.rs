//! Things that happened, kept and sent in order with the data.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::id::{Epoch, Identity, Seq};
use super::limit::SiteLimitTold;
use super::quality::Missing;
use super::session::OfSession;
use crate::spec::{BusId, DeviceId, FieldName};

/// Something that a person or an audit must be able to find later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The device concerned; `None` for the gateway itself.
    pub device: Option<DeviceId>,
    /// What happened.
    pub kind: EventKind,
}

/// What a part of the agent tells of the gateway itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What happened.
    pub kind: EventKind,
    /// Whoever tells it sees to it that it is rare: no newer event takes its place.
    pub is_rare: bool,
}

impl From<EventKind> for Notice {
    /// It may come as often as it will; of what comes too often the newest is told.
    fn from(kind: EventKind) -> Self {
        Self { kind, is_rare: false }
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum EventKind {
    /// Entries that will never be delivered.
    Gap(Gap),
    /// The agent started.
    Started {
        /// Its version.
        version: String,
        /// Whether the life before this one ended in order; `None` for the first.
        clean: Option<bool>,
    },
    /// The agent is stopping in order.
    Stopping,
    /// A device stopped answering.
    DeviceSilent(Missing),
    /// A device answers again, or for the first time.
    DeviceAnswering,
    /// A point of a device shows a bit-identical value for too long while its neighbours move.
    PointFrozen(FieldName),
    /// A frozen point moves again.
    PointMoving(FieldName),
    /// The wall clock was stepped; by how much, in ns, forward positive.
    ClockStepped(i64),
    /// Samples were thrown away because even the journal stalled.
    SamplesShed(u64),
    /// The broker refused an entry for a reason of the entry's own.
    EntryRefused {
        /// Which entry.
        identity: Identity,
        /// The MQTT 5 reason code of the PUBACK.
        code: u8,
    },
    /// Entries that will never be delivered as they were: others, coarser, stand for them.
    Thinned(Thinned),
    /// The journal cannot write to its medium, or has none: what waits is in memory, and a restart loses it.
    JournalFailing(Arc<str>),
    /// The journal writes again.
    JournalWorking,
    /// A CAN bus, or our way to it, is in another state.
    BusState {
        /// Which bus.
        bus: BusId,
        /// `active`, `warning`, `passive`, `bus_off`, `stopped`, `down` or `absent`.
        state: Arc<str>,
        /// What is known besides, and what to do; may be empty.
        detail: Arc<str>,
    },
    /// The controller of a CAN bus was restarted after a bus-off.
    BusRestarted(BusId),
    /// Frames of a CAN bus were lost before we could take them.
    FramesDropped {
        /// Which bus.
        bus: BusId,
        /// How many, at the least.
        frames: u64,
    },
    /// Something in the charging session at the device.
    Session(OfSession),
    /// There is no connection to a broker, or it does not take what it should.
    UplinkTrouble {
        /// Which broker.
        broker: Arc<str>,
        /// What happened, with the name and code of the reason if the broker gave one.
        what: Arc<str>,
        /// What a person can do.
        remedy: Arc<str>,
    },
    /// A connection to this broker was made.
    UplinkOnline(Arc<str>),
    /// A certificate of `[uplink.tls]` or of a mirror feed ends.
    CertificateExpires {
        /// The file.
        file: Arc<str>,
        /// Within so many days: 30, 7, 1; 0 when it has.
        days: u16,
    },
    /// The journal holds what a newer program wrote: it is left alone. What, and what to do.
    JournalNewer(Arc<str>),
    /// A device answers for some of what is read of it, and not for the rest.
    DevicePartly {
        /// So many blocks of registers are answered.
        answering: u16,
        /// Of so many that are read.
        blocks: u16,
        /// Those that are not.
        silent: Arc<str>,
    },
    /// A counter does not go on as it was, and is believed where it is now.
    CounterBreak {
        /// The point.
        field: FieldName,
        /// Its last reading before, in thousandths of its unit.
        from_milli: i64,
        /// The first that is believed after, likewise.
        to_milli: i64,
        /// Why.
        reason: BreakReason,
    },
    /// The number that a device tells of itself is another one.
    MeterExchanged {
        /// The number before.
        before: Arc<str>,
        /// The number now.
        after: Arc<str>,
    },
    /// This life began without a medium that can be written: until [`EventKind::JournalWorking`] of the same epoch what is not
    /// delivered goes with it.
    JournalInMemory {
        /// What was seen, and the cure.
        why: Arc<str>,
        /// The first entry that is in memory only.
        from: Seq,
        /// What is on the medium could not be read either: this life counts its entries from 1, and not on from the last.
        counts_anew: bool,
    },
    /// What a life had in memory only will not come, or not as it was.
    LifeLost(LifeLost),
    /// A device is not read as often as it should be. Why, and what to do.
    PollOverrun(Arc<str>),
    /// It is again.
    PollKept,
    /// Events that were not told each, because there were too many of them; the last of them is told.
    EventsLeftOut {
        /// Their kinds, with commas between.
        of: Arc<str>,
        /// Which bus, point, broker or file, if it is about one.
        about: Arc<str>,
        /// How many.
        count: u64,
    },
    /// The configuration was not taken at a reload: the agent goes on as it was. Why, and what to do.
    ReloadRefused(Arc<str>),
    /// The configuration was taken at a reload: what follows is of the new one.
    Reloaded,
    /// What an entry told of its own life, now that a coarser one stands for it: of the life that tells it now it says nothing.
    OfEntry {
        /// The entry.
        entry: Identity,
        /// What it told.
        told: AboutLife,
    },
    /// An update of the box begins: it is about to be installed.
    UpdateStarted {
        /// The version that runs.
        from: Arc<str>,
        /// The version that is to run.
        to: Arc<str>,
    },
    /// The new version delivers, and stays.
    UpdateConfirmed {
        /// The version before.
        from: Arc<str>,
        /// The version that runs.
        to: Arc<str>,
    },
    /// The new version did not deliver: the one before runs again.
    UpdateRolledBack {
        /// The version that runs.
        from: Arc<str>,
        /// The version that did not stay.
        to: Arc<str>,
        /// What was waited for in vain.
        why: Arc<str>,
    },
    /// The update was not installed.
    UpdateFailed {
        /// The version that runs.
        from: Arc<str>,
        /// The version that was to run.
        to: Arc<str>,
        /// Why not.
        why: Arc<str>,
    },
    /// The power of the grid connection has been above one of its limits for a while.
    SiteLimitExceeded(SiteLimitTold),
    /// It is below it again, or the limit is none any more.
    SiteLimitKept(SiteLimitTold),
    /// Quantities of a device do not go together, until [`EventKind::Plausible`] of the same rule.
    Implausible(Arc<Verdict>),
    /// They go together again.
    Plausible(Arc<Verdict>),
}

/// What a rule finds of quantities of a device that must go together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The rule's name.
    pub rule: Arc<str>,
    /// What the device says, in thousandths of the unit.
    pub value_milli: i64,
    /// What its other quantities make of it, likewise.
    pub expected_milli: i64,
    /// The unit of both.
    pub unit: Arc<str>,
    /// Which quantities, in words.
    pub what: Arc<str>,
}

/// What an entry tells of its own life, and of no other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum AboutLife {
    /// [`EventKind::JournalFailing`].
    Failing(Arc<str>),
    /// [`EventKind::JournalWorking`].
    Working,
    /// [`EventKind::JournalInMemory`].
    InMemory {
        /// What was seen, and the cure.
        why: Arc<str>,
        /// The first entry that is in memory only.
        from: Seq,
        /// This life counts its entries from 1.
        counts_anew: bool,
    },
    /// [`EventKind::Stopping`].
    Stopping,
}

impl EventKind {
    /// The tag `kind` on the wire.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Gap(_) | Self::Thinned(_) | Self::LifeLost(_) => "gap",
            Self::Started { .. } => "started",
            Self::Stopping | Self::OfEntry { told: AboutLife::Stopping, .. } => "stopping",
            Self::DeviceSilent(_) => "device_silent",
            Self::DeviceAnswering => "device_answering",
            Self::PointFrozen(_) => "point_frozen",
            Self::PointMoving(_) => "point_moving",
            Self::ClockStepped(_) => "clock_stepped",
            Self::SamplesShed(_) => "samples_shed",
            Self::EntryRefused { .. } => "entry_refused",
            Self::JournalFailing(_) | Self::OfEntry { told: AboutLife::Failing(_), .. } => "journal_failing",
            Self::JournalWorking | Self::OfEntry { told: AboutLife::Working, .. } => "journal_working",
            Self::BusState { .. } => "bus_state",
            Self::BusRestarted(_) => "bus_restarted",
            Self::FramesDropped { .. } => "frames_dropped",
            Self::Session(told) => told.event.name(),
            Self::UplinkTrouble { .. } => "uplink_trouble",
            Self::UplinkOnline(_) => "uplink_online",
            Self::CertificateExpires { .. } => "certificate_expires",
            Self::JournalNewer(_) => "journal_newer",
            Self::DevicePartly { .. } => "device_partly",
            Self::CounterBreak { .. } => "counter_break",
            Self::MeterExchanged { .. } => "meter_exchanged",
            Self::JournalInMemory { .. } | Self::OfEntry { told: AboutLife::InMemory { .. }, .. } => {
                "journal_in_memory"
            }
            Self::PollOverrun(_) => "poll_overrun",
            Self::PollKept => "poll_kept",
            Self::EventsLeftOut { .. } => "events_left_out",
            Self::ReloadRefused(_) => "reload_refused",
            Self::Reloaded => "reloaded",
            Self::UpdateStarted { .. } => "update_started",
            Self::UpdateConfirmed { .. } => "update_confirmed",
            Self::UpdateRolledBack { .. } => "update_rolled_back",
            Self::UpdateFailed { .. } => "update_failed",
            Self::SiteLimitExceeded(_) => "site_limit_exceeded",
            Self::SiteLimitKept(_) => "site_limit_kept",
            Self::Implausible(_) => "implausible",
            Self::Plausible(_) => "plausible",
        }
    }

    /// The bus that it is about, if it is about a bus and not about one device.
    #[must_use]
    pub fn bus(&self) -> Option<&BusId> {
        match self {
            Self::BusState { bus, .. } | Self::BusRestarted(bus) | Self::FramesDropped { bus, .. } => Some(bus),
            _ => None,
        }
    }

    /// Whether it is of an update of the whole box.
    #[must_use]
    pub fn is_of_update(&self) -> bool {
        matches!(
            self,
            Self::UpdateStarted { .. }
                | Self::UpdateConfirmed { .. }
                | Self::UpdateRolledBack { .. }
                | Self::UpdateFailed { .. }
        )
    }

    /// The same in an entry that stands for `entry`, which had it.
    #[must_use]
    pub fn of_entry(self, entry: Identity) -> Self {
        let told = match self {
            Self::JournalFailing(why) => AboutLife::Failing(why),
            Self::JournalWorking => AboutLife::Working,
            Self::JournalInMemory { why, from, counts_anew } => AboutLife::InMemory { why, from, counts_anew },
            Self::Stopping => AboutLife::Stopping,
            other => return other,
        };
        Self::OfEntry { entry, told }
    }

    /// The life that it says lost what it had in memory only.
    #[must_use]
    pub fn life_lost(&self) -> Option<LifeLost> {
        match self {
            Self::LifeLost(lost) => Some(*lost),
            _ => None,
        }
    }

    /// The entries that it says will never be delivered.
    #[must_use]
    pub fn gap(&self) -> Option<Gap> {
        match self {
            Self::Gap(gap) | Self::Thinned(Thinned { gap, .. }) => Some(*gap),
            _ => None,
        }
    }
}

/// What a life had in memory only: of its entries from here on those that were not delivered never will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LifeLost {
    /// The life.
    pub epoch: Epoch,
    /// The first entry that may be among them.
    pub from: Seq,
    /// The last; `None`: nobody knows how many there were.
    pub to: Option<Seq>,
    /// What was in them is delivered all the same, in entries of a later epoch.
    pub renumbered: bool,
}

/// Of a life whose numbers are its own.
impl From<Gap> for LifeLost {
    fn from(Gap { epoch, from, to, .. }: Gap) -> Self {
        Self { epoch, from, to: Some(to), renumbered: false }
    }
}

/// A run of entries of one epoch that will never be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// The epoch of all of them.
    pub epoch: Epoch,
    /// The first.
    pub from: Seq,
    /// The last, inclusive.
    pub to: Seq,
    /// How many measured values were in them; `None` if it can no longer be known.
    pub points: Option<u64>,
    /// Why.
    pub reason: GapReason,
}

/// A run of entries that was rewritten at a coarser window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Thinned {
    /// What was; its reason is [`GapReason::Thinned`].
    pub gap: Gap,
    /// The epoch of what stands for it.
    pub as_epoch: Epoch,
    /// The first entry that stands for it; with others of its kind it may stand for more.
    pub as_from: Seq,
    /// The last, inclusive.
    pub as_to: Seq,
    /// The coarser window.
    pub window: Duration,
}

/// Why entries were given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// The journal reached its byte budget.
    JournalFull,
    /// They were older than the configured age.
    Aged,
    /// The medium gave back something else than was written.
    Corrupt,
    /// The broker refused them for a reason of their own.
    Refused,
    /// Rewritten at a coarser window under new numbers.
    Thinned,
    /// A person ordered it.
    Forgotten,
}

impl GapReason {
    /// The field `reason` on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::JournalFull => "journal_full",
            Self::Aged => "aged",
            Self::Corrupt => "corrupt",
            Self::Refused => "refused",
            Self::Thinned => "thinned",
            Self::Forgotten => "forgotten",
        }
    }
}

/// Why a counter does not go on as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakReason {
    /// It came to the end of its bits.
    RolledOver,
    /// The meter's number is another one.
    MeterExchanged,
    /// It stays at another level: reset, or another meter.
    AnotherLevel,
}

impl BreakReason {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RolledOver => "rolled_over",
            Self::MeterExchanged => "meter_exchanged",
            Self::AnotherLevel => "another_level",
        }
    }
}
