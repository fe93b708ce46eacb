//! Charging sessions as they stand: version 1 has no words for them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::energy::{source_code, source_of};
use super::told::Told;
use crate::journal::disk::chunk::Damage;
use crate::journal::disk::v1::event::name;
use crate::measure::{
    self, ChargingSession, Energy, EnergyDelta, OpenSession, SessionKnownBy, SessionState, SessionTime, Utc,
};
use crate::spec::{DeviceIx, SessionId, VehicleId};

/// A session. The order is what is written.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Session<'a> {
    device: u16,
    id: &'a str,
    #[serde(borrow)]
    vehicle: Option<&'a str>,
    is_of_vehicle: bool,
    source: Source,
    start: Time,
    is_joined: bool,
    until: Time,
    state: State,
    phase: &'a str,
    reason: &'a str,
    /// mWh, and the code of their source (see `energy`).
    import: Option<(u64, u8)>,
    export: Option<(u64, u8)>,
    /// ms.
    known: Option<u64>,
    charging: u64,
    discharging: u64,
    idle: u64,
    import_max_kw: f64,
    export_max_kw: f64,
    soc: Option<(f64, f64)>,
    meter_import: Option<(f64, f64)>,
    meter_export: Option<(f64, f64)>,
}

/// The order is what is written.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Source {
    Messages,
    State,
    Power,
}

/// The order is what is written.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum State {
    Running,
    Paused,
    Ended,
}

/// UTC, or before the end of the window, ns. The order is what is written.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Time {
    At(i64),
    Before(u64),
}

impl<'a> Session<'a> {
    pub(super) fn of(session: &'a ChargingSession) -> Self {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let delta = |delta: Option<EnergyDelta>| delta.map(|delta| (delta.mwh, source_code(delta.source)));
        let Energy { import, export, known } = session.energy;
        Self {
            device: session.device.0,
            id: session.id.as_str(),
            vehicle: session.vehicle.as_ref().map(VehicleId::as_str),
            is_of_vehicle: session.is_of_vehicle,
            source: session.source.into(),
            start: session.start.into(),
            is_joined: session.is_joined,
            until: session.until.into(),
            state: session.state.into(),
            phase: &session.phase,
            reason: &session.reason,
            import: delta(import),
            export: delta(export),
            known: known.map(ms),
            charging: ms(session.charging),
            discharging: ms(session.discharging),
            idle: ms(session.idle),
            import_max_kw: session.import_max_kw,
            export_max_kw: session.export_max_kw,
            soc: session.soc,
            meter_import: session.meter_import,
            meter_export: session.meter_export,
        }
    }

    pub(super) fn read(&self) -> Result<ChargingSession, Damage> {
        let delta = |told: Option<(u64, u8)>| {
            let delta = |(mwh, code)| source_of(code).map(|source| EnergyDelta { mwh, source }).ok_or(Damage::Content);
            told.map(delta).transpose()
        };
        let (import, export) = (delta(self.import)?, delta(self.export)?);
        Ok(ChargingSession {
            device: DeviceIx(self.device),
            id: name::<SessionId>(self.id)?,
            vehicle: self.vehicle.map(name::<VehicleId>).transpose()?,
            is_of_vehicle: self.is_of_vehicle,
            source: self.source.into(),
            start: self.start.into(),
            is_joined: self.is_joined,
            until: self.until.into(),
            state: self.state.into(),
            phase: self.phase.into(),
            reason: self.reason.into(),
            energy: Energy { import, export, known: self.known.map(Duration::from_millis) },
            charging: Duration::from_millis(self.charging),
            discharging: Duration::from_millis(self.discharging),
            idle: Duration::from_millis(self.idle),
            import_max_kw: self.import_max_kw,
            export_max_kw: self.export_max_kw,
            soc: self.soc,
            meter_import: self.meter_import,
            meter_export: self.meter_export,
        })
    }
}

/// A session that goes on, and the window that told it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Open<'a> {
    #[serde(borrow)]
    session: Session<'a>,
    told: Told,
}

impl<'a> Open<'a> {
    /// `window`: beside whose end it is written, if it is.
    pub(super) fn of(open: &'a OpenSession, window: Option<&measure::Window>) -> Self {
        Self { session: Session::of(&open.told), told: Told::of((open.boot, open.at), window) }
    }

    pub(super) fn read(&self, window: Option<&measure::Window>) -> Result<OpenSession, Damage> {
        let (boot, at) = self.told.read(window).ok_or(Damage::Content)?;
        Ok(OpenSession { told: self.session.read()?, boot, at })
    }
}

macro_rules! both_ways {
    ($written:ident, $domain:ident: $($variant:ident),+) => {
        impl From<$domain> for $written {
            fn from(value: $domain) -> Self {
                match value { $($domain::$variant => Self::$variant),+ }
            }
        }

        impl From<$written> for $domain {
            fn from(value: $written) -> Self {
                match value { $($written::$variant => Self::$variant),+ }
            }
        }
    };
}

both_ways!(Source, SessionKnownBy: Messages, State, Power);
both_ways!(State, SessionState: Running, Paused, Ended);

impl From<SessionTime> for Time {
    fn from(time: SessionTime) -> Self {
        match time {
            SessionTime::At(utc) => Self::At(utc.0),
            SessionTime::Before(time) => Self::Before(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)),
        }
    }
}

impl From<Time> for SessionTime {
    fn from(time: Time) -> Self {
        match time {
            Time::At(ns) => Self::At(Utc(ns)),
            Time::Before(ns) => Self::Before(Duration::from_nanos(ns)),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::journal::disk::v2;
    use crate::journal::testing::{charging_session, depot_window};
    use crate::measure::{BootId, Checkpoint, OpenSession, SessionState, Window};

    const HOME: BootId = BootId([7; 16]);

    /// Two sessions of which there is news, and one that goes on.
    fn window() -> Window {
        let mut window = depot_window(2, 1, 1);
        window.sessions =
            vec![charging_session(0, "6f1c", SessionState::Running), charging_session(1, "b", SessionState::Ended)];
        let open = OpenSession { told: window.sessions[0].clone(), boot: HOME, at: window.end };
        window.checkpoint =
            Some(Checkpoint { sessions: [(open.told.device, open)].into(), ..Checkpoint::default() }.into());
        window
    }

    #[test]
    fn sessions_come_back_as_they_were() {
        let window = window();
        let bytes = v2::write(&window, HOME, Vec::new()).expect("it can be written");
        assert_eq!(v2::read(&bytes[1..], HOME), Ok(window));
    }

    /// As written on the day of its making.
    #[test]
    fn the_bytes_of_a_session_are_these() {
        let mut window = window();
        (window.checkpoint, window.sessions) = (None, window.sessions[..1].into());
        let bytes = v2::write(&window, HOME, Vec::new()).expect("it can be written");
        let float = f64::to_le_bytes;
        let own = [
            &[2, 1, 0, 0, 21, 1][..],
            &[0, 4],
            b"6f1c",
            &[1, 5],
            b"EV001",
            &[1, 0, 0, 0x80, 0x80, 0xd0, 0xfc, 0xec, 0xa9, 0xfe, 0xfa, 0x30, 0, 1, 0x80, 0x94, 0xeb, 0xdc, 3, 0, 8],
            b"charging",
            &[0, 1, 0xa0, 0x8d, 6, 2, 0, 1, 0xe8, 7, 0xf4, 3, 0, 0xf4, 3],
            &float(11.0),
            &float(0.0),
            &[1],
            &float(41.0),
            &float(63.0),
            &[0, 0],
        ];
        assert_eq!(bytes[..own.concat().len()], own.concat());
    }
}
