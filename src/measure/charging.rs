//! A charging session as a whole: what of it a bill, an audit and a dispatcher ask for.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::energy::Energy;
use super::time::{BootId, ClockTrust, Stamp, Utc};
use crate::spec::{DeviceIx, SessionId, VehicleId};

/// A session, as far as it is known at the end of a window. Each later one takes the place of the one before.
#[derive(Debug, Clone, PartialEq)]
pub struct ChargingSession {
    /// At which device.
    pub device: DeviceIx,
    /// Its id: that of the lines of its device while it runs.
    pub id: SessionId,
    /// The vehicle, once it is known.
    pub vehicle: Option<VehicleId>,
    /// Whether the vehicle was known when it was told first, and so is a tag of its line: that stays one series.
    pub is_of_vehicle: bool,
    /// By what it is known.
    pub source: SessionKnownBy,
    /// When it began, or was found.
    pub start: SessionTime,
    /// It ran already when it was found: it may have begun before.
    pub is_joined: bool,
    /// Up to when it is known; of one that has ended its end.
    pub until: SessionTime,
    /// Whether it goes on.
    pub state: SessionState,
    /// What it does, in the words of its device; empty if that has none.
    pub phase: Arc<str>,
    /// Why it does not go on; empty as long as it does, or if nobody says.
    pub reason: Arc<str>,
    /// The sum of what its windows know.
    pub energy: Energy,
    /// For how long it has charged, discharged, and done neither, of the time in which power was known.
    pub charging: Duration,
    /// See above.
    pub discharging: Duration,
    /// See above.
    pub idle: Duration,
    /// The highest power to the vehicle, kW, not negative.
    pub import_max_kw: f64,
    /// The highest power from the vehicle, kW, not negative.
    pub export_max_kw: f64,
    /// The first and the newest state of charge, %.
    pub soc: Option<(f64, f64)>,
    /// The first and the newest reading of the device's register of imported energy, kWh.
    pub meter_import: Option<(f64, f64)>,
    /// The same of exported energy.
    pub meter_export: Option<(f64, f64)>,
}

impl ChargingSession {
    /// The same in a window that ends so much later.
    #[must_use]
    pub fn beside_later(self, by: Duration) -> Self {
        self.beside(|before| before + by)
    }

    /// The same in a window that ends so much earlier.
    #[must_use]
    pub fn beside_earlier(self, by: Duration) -> Self {
        self.beside(|before| before.saturating_sub(by))
    }

    fn beside(self, other: impl Fn(Duration) -> Duration) -> Self {
        let other = |time| match time {
            SessionTime::At(utc) => SessionTime::At(utc),
            SessionTime::Before(before) => SessionTime::Before(other(before)),
        };
        Self { start: other(self.start), until: other(self.until), ..self }
    }
}

impl ChargingSession {
    /// The same with its times by the wall clock, as they are beside this end of a window; `None`: the clock is not set.
    #[must_use]
    pub fn sealed(self, end: Stamp) -> Option<Self> {
        if end.trust == ClockTrust::Unsynced {
            return None;
        }
        let (start, until) = (SessionTime::At(self.start.utc(end.utc)), SessionTime::At(self.until.utc(end.utc)));
        Some(Self { start, until, ..self })
    }
}

/// By what a session is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionKnownBy {
    /// The messages between vehicle and station: ISO 15118, DIN SPEC 70121.
    Messages,
    /// What the station says of its connector.
    State,
    /// Power alone.
    Power,
}

impl SessionKnownBy {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::State => "state",
            Self::Power => "power",
        }
    }
}

/// Whether a session goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionState {
    /// It runs.
    Running,
    /// It does not, and the same one may go on: paused by its own messages, or its feed was lost.
    Paused,
    /// It is over.
    Ended,
}

impl SessionState {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Ended => "ended",
        }
    }
}

/// A time of a session, beside the end of the window that tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionTime {
    /// Known by the wall clock.
    At(Utc),
    /// The clock is not set: so long before the window's end, whose time is found later.
    Before(Duration),
}

const MS: i64 = 1_000_000;

impl SessionTime {
    /// The wall time, to the millisecond; `end` is that of the window.
    #[must_use]
    pub fn utc(self, end: Utc) -> Utc {
        let Utc(ns) = match self {
            Self::At(utc) => utc,
            Self::Before(time) => Utc(end.0.saturating_sub(i64::try_from(time.as_nanos()).unwrap_or(i64::MAX))),
        };
        Utc(ns.div_euclid(MS) * MS)
    }
}

/// A session that had not ended at the end of a window.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenSession {
    /// As it was told last.
    pub told: ChargingSession,
    /// The boot in which the time of `at` counts.
    pub boot: BootId,
    /// The end of the window that told it.
    pub at: Stamp,
}
