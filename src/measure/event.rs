//! Things that happened, kept and sent in order with the data.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::id::{Epoch, Identity, Seq};
use super::sample::Missing;
use super::session::SessionEvent;
use crate::spec::{BusId, DeviceId, FieldName};

/// Something that a person or an audit must be able to find later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The device concerned; `None` for the gateway itself.
    pub device: Option<DeviceId>,
    /// What happened.
    pub kind: EventKind,
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
    Session(SessionEvent),
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
}

impl EventKind {
    /// The tag `kind` on the wire.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Gap(_) | Self::Thinned(_) => "gap",
            Self::Started { .. } => "started",
            Self::Stopping => "stopping",
            Self::DeviceSilent(_) => "device_silent",
            Self::DeviceAnswering => "device_answering",
            Self::PointFrozen(_) => "point_frozen",
            Self::PointMoving(_) => "point_moving",
            Self::ClockStepped(_) => "clock_stepped",
            Self::SamplesShed(_) => "samples_shed",
            Self::EntryRefused { .. } => "entry_refused",
            Self::JournalFailing(_) => "journal_failing",
            Self::JournalWorking => "journal_working",
            Self::BusState { .. } => "bus_state",
            Self::BusRestarted(_) => "bus_restarted",
            Self::FramesDropped { .. } => "frames_dropped",
            Self::Session(event) => event.name(),
            Self::UplinkTrouble { .. } => "uplink_trouble",
            Self::UplinkOnline(_) => "uplink_online",
            Self::CertificateExpires { .. } => "certificate_expires",
            Self::JournalNewer(_) => "journal_newer",
            Self::DevicePartly { .. } => "device_partly",
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

    /// The entries that it says will never be delivered.
    #[must_use]
    pub fn gap(&self) -> Option<Gap> {
        match self {
            Self::Gap(gap) | Self::Thinned(Thinned { gap, .. }) => Some(*gap),
            _ => None,
        }
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
