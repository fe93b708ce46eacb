//! The charge points of the depot as one.

use std::time::Duration;

use crate::measure::{Direction, Mono, Outcome, Reading, SiteRollup, Value};
use crate::spec::{DeviceKind, DeviceSpec, Origin, PointIx, Roles, SessionPoint, SessionValue};

/// States of a connector whose sessions are heard, in which there is none. Not among them are those after which one may go on unheard.
const WITHOUT_SESSION: [&str; 6] = ["idle", "discovery", "handshake", "terminated", "failed", "paused"];

/// A charging loop turns every 0.25 s (DC) to some seconds (AC). The source says itself when what it heard is of the moment no more: after
/// 10 s of silence, which it looks for once a second.
const SESSION_HOLD: Duration = Duration::from_secs(12);

/// What is known of every charge point, now.
///
/// A charge point is read less often than windows close, so a sum needs the newest value of each; but only while it
/// can still be true: for two polls and a window, or until its source says that it is not. After that the charge point is counted as unknown, never summed. One whose
/// sessions are heard and that has none has no power that could be unknown.
#[derive(Debug)]
pub(super) struct Rollup {
    dead_band_kw: f64,
    /// Indexed by device; `None` for what is not a charge point with a power.
    points: Vec<Option<ChargePoint>>,
    /// Whether any charge point's power was read in the open window.
    heard: bool,
}

#[derive(Debug)]
struct ChargePoint {
    power_ix: PointIx,
    soc_ix: Option<PointIx>,
    /// The state of a charging session.
    state_ix: Option<PointIx>,
    hold: Duration,
    power: Option<(f64, Mono)>,
    soc: Option<(f64, Mono)>,
    /// There is no charging session, as was heard last.
    is_free: bool,
}

impl Rollup {
    pub(super) fn new(devices: &[DeviceSpec], window: Duration, dead_band_kw: f64) -> Self {
        let points = devices.iter().map(|device| ChargePoint::of(device, window)).collect();
        Self { dead_band_kw, points, heard: false }
    }

    pub(super) fn add(&mut self, reading: &Reading) {
        let Some(Some(point)) = self.points.get_mut(usize::from(reading.device.0)) else { return };
        if Some(reading.point) == point.state_ix {
            let state = if let Outcome::Good(Value::Text(state)) = &reading.outcome { Some(&**state) } else { None };
            point.is_free = state.is_some_and(|state| WITHOUT_SESSION.contains(&state));
            return;
        }
        let known = match &reading.outcome {
            Outcome::Good(Value::Float(x)) => Some((*x, reading.at.mono)),
            _ => None,
        };
        if reading.point == point.power_ix {
            point.power = known;
            self.heard = true;
        } else if Some(reading.point) == point.soc_ix {
            point.soc = known;
        }
    }

    /// The roll-up at `end`, if any charge point was heard in the window.
    pub(super) fn cut(&mut self, end: Mono) -> Option<SiteRollup> {
        if !std::mem::take(&mut self.heard) {
            return None;
        }
        let (mut import, mut export) = (0.0, 0.0);
        let (mut charging, mut discharging, mut unknown) = (0, 0, 0);
        let (mut soc_sum, mut soc_min, mut soc_count) = (0.0, f64::INFINITY, 0_u32);
        for point in self.points.iter().flatten() {
            let fresh = |value: Option<(f64, Mono)>| value.filter(|(_, at)| end.since(*at) <= point.hold);
            let Some((kw, _)) = fresh(point.power) else {
                unknown += u32::from(!point.is_free);
                continue;
            };
            match Direction::of(kw, self.dead_band_kw) {
                Direction::GridToVehicle => charging += 1,
                Direction::VehicleToGrid => discharging += 1,
                Direction::Idle => {}
            }
            import += kw.max(0.0);
            export += kw.min(0.0);
            if let Some((soc, _)) = fresh(point.soc) {
                soc_sum += soc;
                soc_min = soc_min.min(soc);
                soc_count += 1;
            }
        }
        let power_flow_kw = import + export;
        Some(SiteRollup {
            direction: Direction::of(power_flow_kw, self.dead_band_kw),
            power_flow_kw,
            power_import_kw: import,
            power_export_kw: export,
            charging,
            discharging,
            unknown,
            soc: (soc_count > 0).then(|| (soc_min, soc_sum / f64::from(soc_count))),
        })
    }
}

impl ChargePoint {
    fn of(device: &DeviceSpec, window: Duration) -> Option<Self> {
        if device.kind != DeviceKind::Evse {
            return None;
        }
        let Roles { power, soc, .. } = device.points.roles();
        let is_state = |origin: &Origin| matches!(origin, Origin::Session(SessionPoint { value: SessionValue::State }));
        let state_ix = (0..).map(PointIx).zip(device.points.iter()).find(|(_, point)| is_state(&point.origin));
        let state_ix = state_ix.map(|(ix, _)| ix);
        let poll = device.groups.iter().map(|group| group.interval).min().unwrap_or(window);
        let hold = if state_ix.is_some() { SESSION_HOLD } else { 2 * poll + window };
        Some(Self { power_ix: power?, soc_ix: soc, state_ix, hold, power: None, soc: None, is_free: false })
    }
}
