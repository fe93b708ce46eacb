//! Windows of what comes late: values with a time of their source's own, from before the open window. Pure.
//!
//! They are cut on that time, in windows of their own beside the live ones, which they do not touch: one device each, at whole
//! multiples of the length in UTC, with the trust that their source's time has. A device's window ends with its first value from outside of it,
//! or when nothing more has come for a while ([`LateWindows::close_idle`]).

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Device, EVENTS_MAX, nanos, signed};
use crate::measure::{BootId, Event, Reading, Stamp, Utc, Window};
use crate::spec::{DeviceIx, DeviceSpec, SessionId, VehicleId};

/// The open late windows, one for each device of which something has come late.
#[derive(Debug)]
pub struct LateWindows {
    boot: BootId,
    dead_band_kw: f64,
    specs: Vec<DeviceSpec>,
    lanes: BTreeMap<DeviceIx, Lane>,
}

#[derive(Debug)]
struct Lane {
    device: Device,
    events: Vec<Event>,
    /// In UTC, ns; its start is in the window, its end is not.
    start: i64,
    end: i64,
    /// When the newest of it has arrived.
    arrived: Stamp,
    /// Something has come since it was last asked.
    is_busy: bool,
}

impl LateWindows {
    /// Of these devices, none of them late.
    #[must_use]
    pub fn new(devices: &[DeviceSpec], dead_band_kw: f64, boot: BootId) -> Self {
        Self { boot, dead_band_kw, specs: devices.to_vec(), lanes: BTreeMap::new() }
    }

    /// Something of a device comes from `at`: the window that it does not belong to any more. What follows is added to one of
    /// this length. `occupant` is who stands there and for which session, if the device was never late before.
    pub fn open(
        &mut self,
        device: DeviceIx,
        at: Stamp,
        length: Duration,
        occupant: impl FnOnce() -> (Option<VehicleId>, Option<SessionId>),
    ) -> Option<Window> {
        let spec = self.specs.get(usize::from(device.0))?;
        let length = signed(nanos(length));
        let lane = self.lanes.entry(device).or_insert_with(|| {
            let (vehicle, session) = occupant();
            Lane {
                device: Device { vehicle, session, ..Device::of(spec) },
                events: Vec::new(),
                start: i64::MAX,
                end: i64::MIN,
                arrived: at,
                is_busy: true,
            }
        });
        let is_inside = (lane.start..lane.end).contains(&at.utc.0);
        let ended = if is_inside { None } else { lane.cut(device, self.boot, self.dead_band_kw) };
        if !is_inside {
            lane.start = at.utc.0.saturating_sub(at.utc.0.rem_euclid(length));
            lane.end = lane.start.saturating_add(length);
        }
        (lane.arrived, lane.is_busy) = (at, true);
        ended
    }

    /// Counts a reading in its device's open window.
    pub fn add(&mut self, reading: Reading) {
        if let Some(lane) = self.lanes.get_mut(&reading.device) {
            lane.device.add(reading);
        }
    }

    /// Tells an event in a device's open window; `false` if that has no room for it.
    #[must_use]
    pub fn add_event(&mut self, device: DeviceIx, event: Event) -> bool {
        let lane = self.lanes.get_mut(&device).filter(|lane| lane.events.len() < EVENTS_MAX);
        lane.map(|lane| lane.events.push(event)).is_some()
    }

    /// Whether nothing of a device has come since [`Self::close_idle`] was called last.
    #[must_use]
    pub fn is_idle(&self, device: DeviceIx) -> bool {
        self.lanes.get(&device).is_none_or(|lane| !lane.is_busy)
    }

    /// As [`super::Aggregator::set_vehicle`].
    pub fn set_vehicle(&mut self, device: DeviceIx, vehicle: Option<VehicleId>) {
        if let Some(lane) = self.lanes.get_mut(&device) {
            lane.device.set_vehicle(vehicle);
        }
    }

    /// As [`super::Aggregator::set_session`].
    pub fn set_session(&mut self, device: DeviceIx, session: Option<SessionId>) {
        if let Some(lane) = self.lanes.get_mut(&device) {
            lane.device.set_session(device, session, self.dead_band_kw);
        }
    }

    /// Ends the windows of devices of which nothing has come since the last call.
    pub fn close_idle(&mut self) -> Vec<Window> {
        let Self { boot, dead_band_kw, lanes, .. } = self;
        let idle = lanes.iter_mut().filter_map(|(device, lane)| {
            let was_busy = std::mem::take(&mut lane.is_busy);
            if was_busy { None } else { lane.cut(*device, *boot, *dead_band_kw) }
        });
        idle.collect()
    }

    /// Ends all of them.
    pub fn finish(&mut self) -> Vec<Window> {
        self.lanes.values_mut().for_each(|lane| lane.is_busy = false);
        self.close_idle()
    }
}

impl Lane {
    /// Its window, if anything is in it; and none is open.
    fn cut(&mut self, ix: DeviceIx, boot: BootId, dead_band_kw: f64) -> Option<Window> {
        let (start, end) = (std::mem::replace(&mut self.start, i64::MAX), std::mem::replace(&mut self.end, i64::MIN));
        let intervals = self.device.cut(ix, dead_band_kw);
        let events = std::mem::take(&mut self.events);
        if intervals.is_empty() && events.is_empty() {
            return None;
        }
        let length = Duration::from_nanos(u64::try_from(end.saturating_sub(start)).unwrap_or(0));
        // It is as old as its arrival.
        let end = Stamp { mono: self.arrived.mono, utc: Utc(end), trust: self.arrived.trust };
        Some(Window { intervals, events, ..Window::empty(boot, end, length) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{ClockTrust, EventKind, IntervalValue, Mono, Outcome, Value};
    use crate::spec::{
        Aggregation, DeviceKind, Origin, PointIx, PointSpec, Scaling, SessionPoint, SessionValue, Unit, ValueType,
    };

    const MS: i64 = 1_000_000;
    const WINDOW: Duration = Duration::from_millis(250);

    fn devices() -> Vec<DeviceSpec> {
        let power = PointSpec {
            field: "power_flow".try_into().expect("a field"),
            unit: Unit::Kilowatt,
            value_type: ValueType::Float,
            aggregation: Aggregation::Mean,
            valid: None,
            frozen_after: None,
            scaling: Scaling::default(),
            origin: Origin::Session(SessionPoint { value: SessionValue::PowerFlow }),
        };
        let device = |id: &str| DeviceSpec {
            id: id.try_into().expect("a name"),
            kind: DeviceKind::Evse,
            profile: "test".to_owned(),
            points: vec![power.clone()].into(),
            groups: vec![],
        };
        vec![device("one"), device("two")]
    }

    fn at(ms: i64) -> Stamp {
        Stamp { mono: Mono(9_000_000_000), utc: Utc(ms * MS), trust: ClockTrust::Resolved }
    }

    fn add(late: &mut LateWindows, device: u16, ms: i64, kw: f64) -> Option<(i64, f64)> {
        let device = DeviceIx(device);
        let ended = late.open(device, at(ms), WINDOW, || (None, None));
        late.add(Reading {
            device,
            point: PointIx(0),
            at: at(ms),
            outcome: Outcome::Good(Value::Float(kw)),
            count: None,
        });
        ended.map(|window| told(&window))
    }

    fn told(window: &Window) -> (i64, f64) {
        assert_eq!((window.length, window.end.trust), (WINDOW, ClockTrust::Resolved));
        let IntervalValue::Float(power) = &window.intervals[0].points[0].value else { panic!("{window:?}") };
        (window.end.utc.0 / MS, power.value)
    }

    #[test]
    fn what_comes_late_is_in_windows_of_its_own_time_device_by_device() {
        let mut late = LateWindows::new(&devices(), 0.1, BootId([1; 16]));
        assert_eq!(add(&mut late, 0, 1_000, 10.0), None);
        assert_eq!(add(&mut late, 1, 7_300, 1.0), None, "another device, at another time");
        assert_eq!(add(&mut late, 0, 1_249, 20.0), None);
        assert_eq!(add(&mut late, 0, 1_250, 30.0), Some((1_250, 15.0)));
        assert_eq!(add(&mut late, 0, 600, 40.0), Some((1_500, 30.0)), "time goes back: another window");
        assert!(late.close_idle().is_empty(), "more may come");
        let ended: Vec<_> = late.close_idle().iter().map(told).collect();
        assert_eq!(ended, [(750, 40.0), (7_500, 1.0)]);
        assert!(late.close_idle().is_empty() && late.finish().is_empty());
    }

    #[test]
    fn an_event_alone_is_a_window_and_a_vehicle_that_leaves_is_in_its_last_one() {
        let mut late = LateWindows::new(&devices(), 0.1, BootId([1; 16]));
        let vehicle = || Some(VehicleId::try_from("EV1").expect("a name"));
        let occupant = || (vehicle(), None);
        late.open(DeviceIx(0), at(1_000), WINDOW, occupant);
        assert!(late.add_event(DeviceIx(0), Event { device: None, kind: EventKind::Stopping }));
        late.open(DeviceIx(0), at(1_300), WINDOW, occupant).expect("the event");
        late.set_vehicle(DeviceIx(0), None);
        add(&mut late, 0, 1_400, 5.0);
        let [last] = &late.finish()[..] else { panic!("one window") };
        assert_eq!(last.intervals[0].vehicle, vehicle());
    }

    #[test]
    fn two_sessions_in_a_late_window_are_not_mixed() {
        let mut late = LateWindows::new(&devices(), 0.1, BootId([1; 16]));
        let session = |id: &str| Some(SessionId::try_from(id).expect("a name"));
        late.open(DeviceIx(0), at(1_000), WINDOW, || (None, session("a")));
        add(&mut late, 0, 1_010, 5.0);
        late.set_session(DeviceIx(0), None);
        late.set_session(DeviceIx(0), session("b"));
        add(&mut late, 0, 1_020, 7.0);
        let [window] = &late.finish()[..] else { panic!("one window") };
        let told: Vec<_> = window.intervals.iter().map(|interval| interval.session.clone()).collect();
        assert_eq!(told, [session("a"), session("b")]);
    }
}
