//! Readings become windows. Pure: time is an argument.
//!
//! In: [`Reading`]s and [`Event`]s as they come. Out: one [`Window`] for each window of the monotonic clock that has
//! ended, also an empty one: it is the tick on which the journal tells its own events.
//!
//! - Windows are cut on monotonic time. The first is placed so that window ends are whole multiples of the window
//!   length in UTC, by the wall clock of the start; afterwards a label is the monotonic end plus a held offset, so
//!   that labels stay exact multiples while the clock is slewed. A step of the wall clock changes the offset from
//!   the next window on and is an event; it changes no window's length. After a step back, labels may fall where
//!   earlier ones were: the journal keeps them apart, and order is its `seq`, never the label.
//! - A reading belongs to the window in which it is handed over. Who hands over keeps back what was captured after the
//!   end of the open window until that is closed.
//! - A value that makes no sense (out of range, a counter that does not go on) does not stand for the others of its window: it
//!   is among their extremes, and marks the point.
//! - What was read in a charging session is not mixed with what was read after it: where one ends, its device gets another
//!   interval in the same window.
//! - What comes late, with a time of its source's own, has windows of its own beside these ([`LateWindows`]).
//! - A point is missing in a window only if it was asked for and no reading of it had a value. A point that was
//!   not asked for is not in the window at all.
//!
//! Memory: one small cell per point. Nothing survives a restart but what was closed.

mod cell;
mod late;

use std::time::Duration;

use cell::Cell;
pub use late::LateWindows;

use crate::measure::{
    BootId, Direction, Energy, Event, EventKind, Interval, IntervalValue, Mono, PointInterval, Reading, Stamp, Utc,
    Window,
};
use crate::spec::{DeviceIx, DeviceSpec, PointIx, PointSpec, SessionId, VehicleId};

/// The wall clock has been stepped if it is off the held offset by more than this. Above the time between the two
/// reads of a stamp on a busy box, below any step that matters to a label of 50 ms or more.
const STEP_NS: i64 = 1_000_000;

/// Events of one window beside those that are carried: a depot of 1,000 devices whose sessions all begin at once.
pub const EVENTS_MAX: usize = 4_096;
/// Intervals of a device in one window before the open one: a session takes longer than a window, so there are none or one. Beyond,
/// what follows is told under the newest session.
const PARTS_MAX: usize = 8;
/// Events that wait for a window that is kept: some hundred bytes each, and more than any depot has in the minutes for which
/// a disk may hang.
pub const EVENTS_CARRIED_MAX: usize = 4_096;

/// The state of the room: the open window.
#[derive(Debug)]
pub struct Aggregator {
    boot: BootId,
    length: Duration,
    dead_band_kw: f64,
    devices: Vec<Device>,
    events: Vec<Event>,
    /// Events of the open window beside those that are carried.
    added: usize,
    start: Mono,
    end: Mono,
    /// UTC minus monotonic, ns.
    offset: i64,
}

#[derive(Debug)]
struct Device {
    cells: Vec<Cell>,
    /// Its power's place, and what it can be.
    power: Option<(PointIx, PointSpec)>,
    /// Whether anything was added in the open window.
    touched: bool,
    vehicle: Option<VehicleId>,
    /// The vehicle that left in the open window: what was read in it is still of that one.
    left: Option<VehicleId>,
    session: Option<SessionId>,
    /// Of sessions that ended in the open window.
    parts: Vec<Interval>,
}

impl Aggregator {
    /// An open window from `start` on, to the next multiple of `length` in UTC.
    #[must_use]
    pub fn new(devices: &[DeviceSpec], length: Duration, dead_band_kw: f64, boot: BootId, start: Stamp) -> Self {
        Self {
            boot,
            length,
            dead_band_kw,
            devices: devices.iter().map(Device::of).collect(),
            events: Vec::new(),
            added: 0,
            start: start.mono,
            end: first_end(start, length),
            offset: offset(start),
        }
    }

    /// When the open window ends. Other windows end at whole multiples of the length before and after it.
    #[must_use]
    pub fn next_end(&self) -> Mono {
        self.end
    }

    /// Counts a reading in the open window.
    pub fn add(&mut self, reading: Reading) {
        let Some(device) = self.devices.get_mut(usize::from(reading.device.0)) else { return };
        device.add(reading);
    }

    /// The vehicle at a device from now on: the tag of its windows. A window in which it leaves still has it.
    pub fn set_vehicle(&mut self, device: DeviceIx, vehicle: Option<VehicleId>) {
        if let Some(device) = self.devices.get_mut(usize::from(device.0)) {
            device.set_vehicle(vehicle);
        }
    }

    /// The session at a device from now on. What was added before is of the one before.
    pub fn set_session(&mut self, device: DeviceIx, session: Option<SessionId>) {
        let dead_band_kw = self.dead_band_kw;
        if let Some(at) = self.devices.get_mut(usize::from(device.0)) {
            at.set_session(device, session, dead_band_kw);
        }
    }

    /// The session at a device.
    #[must_use]
    pub fn session(&self, device: DeviceIx) -> Option<&SessionId> {
        self.devices.get(usize::from(device.0)).and_then(|device| device.session.as_ref())
    }

    /// The vehicle at a device.
    #[must_use]
    pub fn vehicle(&self, device: DeviceIx) -> Option<&VehicleId> {
        self.devices.get(usize::from(device.0)).and_then(|device| device.vehicle.as_ref())
    }

    /// Tells an event in the open window; `false` if that has [`EVENTS_MAX`] already, and this one goes.
    #[must_use]
    pub fn add_event(&mut self, event: Event) -> bool {
        let has_room = self.added < EVENTS_MAX;
        if has_room {
            self.added += 1;
            self.events.push(event);
        }
        has_room
    }

    /// Tells in the open window, before its own events, those of windows that could not be kept. Beyond
    /// [`EVENTS_CARRIED_MAX`] the oldest go; answers how many.
    pub fn carry_events(&mut self, mut events: Vec<Event>) -> usize {
        events.append(&mut self.events);
        let surplus = events.len().saturating_sub(EVENTS_CARRIED_MAX);
        events.drain(..surplus);
        self.events = events;
        surplus
    }

    /// Closes the open window if it has ended at `now`. If `now` is several windows later (the box slept, or was
    /// starved), those between are skipped: they would be empty.
    pub fn close(&mut self, now: Stamp) -> Option<Window> {
        self.close_before(now, now.mono)
    }

    /// The same, for one who has readings for the windows between: none is skipped that holds `next` or comes after it.
    pub fn close_before(&mut self, now: Stamp, next: Mono) -> Option<Window> {
        if now.mono < self.end {
            return None;
        }
        let end = self.end;
        let window = self.cut(end, now);
        let length = nanos(self.length);
        let skipped = next.min(now.mono).0.saturating_sub(end.0) / length;
        self.start = Mono(end.0 + skipped * length);
        self.end = self.start + self.length;
        Some(window)
    }

    /// Closes the open window before its time: the last of this run, shorter than the others.
    pub fn finish(&mut self, now: Stamp) -> Window {
        let end = now.mono.max(self.start + Duration::from_nanos(1));
        let window = self.cut(end, now);
        self.start = end;
        window
    }

    fn cut(&mut self, end: Mono, now: Stamp) -> Window {
        let step = offset(now) - self.offset;
        if step.abs() > STEP_NS {
            self.offset += step;
            self.events.push(Event { device: None, kind: EventKind::ClockStepped(step) });
        }
        let label = Stamp { mono: end, utc: Utc(signed(end.0).saturating_add(self.offset)), trust: now.trust };
        self.added = 0;
        let dead_band_kw = self.dead_band_kw;
        let intervals =
            (0..).map(DeviceIx).zip(&mut self.devices).flat_map(|(ix, device)| device.cut(ix, dead_band_kw)).collect();
        let events = std::mem::take(&mut self.events);
        Window { intervals, events, ..Window::empty(self.boot, label, end.since(self.start)) }
    }
}

impl Device {
    fn of(device: &DeviceSpec) -> Self {
        Self {
            cells: device.points.iter().map(|point| Cell::new(point.aggregation)).collect(),
            power: power_of(device),
            touched: false,
            vehicle: None,
            left: None,
            session: None,
            parts: Vec::new(),
        }
    }

    fn add(&mut self, reading: Reading) {
        let Some(cell) = self.cells.get_mut(usize::from(reading.point.0)) else { return };
        self.touched = true;
        cell.add(reading.outcome);
    }

    fn set_vehicle(&mut self, vehicle: Option<VehicleId>) {
        self.left = self.vehicle.take().or(self.left.take());
        self.vehicle = vehicle;
    }

    /// What is read before the station gives a session its id is of that session: it has had no other one.
    fn set_session(&mut self, ix: DeviceIx, session: Option<SessionId>, dead_band_kw: f64) {
        if self.session.is_some() && self.session != session && self.parts.len() < PARTS_MAX {
            let part = self.part(ix, dead_band_kw);
            self.parts.extend(part);
        }
        self.session = session;
    }

    /// All of the window, in the order in which it was.
    fn cut(&mut self, ix: DeviceIx, dead_band_kw: f64) -> Vec<Interval> {
        let mut parts = std::mem::take(&mut self.parts);
        parts.extend(self.part(ix, dead_band_kw));
        self.left = None;
        parts
    }

    /// What was added since the last part of the window.
    fn part(&mut self, ix: DeviceIx, dead_band_kw: f64) -> Option<Interval> {
        if !std::mem::take(&mut self.touched) {
            return None;
        }
        let (vehicle, session) = (self.vehicle.clone().or_else(|| self.left.clone()), self.session.clone());
        let points: Vec<PointInterval> =
            (0..).map(PointIx).zip(&mut self.cells).filter_map(|(point, cell)| cell.cut(point)).collect();
        let power = self.power.as_ref().and_then(|(ix, spec)| {
            let told = points.iter().find(|p| p.point == *ix)?;
            let IntervalValue::Float(statistic) = told.value else { return None };
            // What cannot be goes no way.
            spec.makes_sense(statistic.value).then_some(statistic.value)
        });
        let direction = power.map(|kw| Direction::of(kw, dead_band_kw));
        Some(Interval { device: ix, direction, vehicle, session, points, energy: Energy::default() })
    }
}

fn power_of(device: &DeviceSpec) -> Option<(PointIx, PointSpec)> {
    let ix = device.points.roles().power?;
    Some((ix, device.points.get(usize::from(ix.0))?.clone()))
}

/// UTC minus monotonic, ns.
fn offset(at: Stamp) -> i64 {
    at.utc.0.saturating_sub(signed(at.mono.0))
}

/// The first monotonic moment after `start` that is a whole multiple of `length` in UTC.
fn first_end(start: Stamp, length: Duration) -> Mono {
    let length = nanos(length);
    let into = u64::try_from(start.utc.0.rem_euclid(signed(length))).unwrap_or(0);
    start.mono + Duration::from_nanos(length - into)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).max(1)
}

fn signed(ns: u64) -> i64 {
    i64::try_from(ns).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
