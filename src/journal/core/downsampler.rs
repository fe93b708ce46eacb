//! Windows become coarser: several in, one out. Pure; the same rules as the aggregator's own (see `aggregate`).
//!
//! - Smallest, largest and count of a point are those of all its readings. A mean is the mean of all its readings; of a
//!   point of which the newest counts (energy counters, states, codes) the newest value stays, to the bit.
//! - A point is missing only if no window had a value of it. The newest doubt stays. A window with a reading that makes no sense
//!   (out of range, a counter that does not go on) gives its extremes, and its value only where no other has one.
//! - One device with two vehicles or two charging sessions in one coarse window is told in two intervals: what a vehicle did is
//!   never mixed with what another did, nor a session with the next. Sessions of one vehicle stay in their order.
//! - The site's powers are means by time, a headroom is the least; its counts are the newest.
//! - Energies and known times are added up: not one mWh more or less.
//! - Of a charging session, and of a quarter-hour, the newest news stays.
//! - Events all stay, in order, at the end of the coarse window.
//! - A coarse window ends with its last fine one; one that was kept in several entries ends with the first of them. Nothing is joined
//!   over a restart of the box, a step of the clock or a change of its trust. What is alone in a coarse window stays as it is.
//! - What has a time of its source's own, or was given one afterwards, is joined by that time, beside what has the clock's: late windows
//!   between others end none of them. Of a device nothing is joined to what came after it.

mod site;

use std::collections::BTreeMap;
use std::time::Duration;

use self::site::{Site, direction};
use crate::journal::resolution::Resolution;
use crate::measure::{
    BootId, ChargingSession, Direction, Energy, Event, Interval, IntervalValue, Missing, Mono, PointInterval,
    Questionable, Schema, SiteInterval, Stamp, Statistic, Window,
};
use crate::spec::{Aggregation, DeviceIx, PointIx, Roles, SessionId, VehicleId};

/// Ends of windows that belong together are off the held offset by less than this (as in `aggregate`).
const STEP_NS: i64 = 1_000_000;

/// Late windows of so many devices, one beside the other, find their own coarse window again.
const OF_SOURCES_MAX: usize = 8;
const MS: i64 = 1_000_000;

/// The coarse windows under construction, in the order in which they were begun: one of the clock's time, and some of others.
#[derive(Debug)]
pub(super) struct Downsampler {
    length_ns: i64,
    open: Vec<Open>,
}

#[derive(Debug)]
struct Open {
    held: Held,
    /// Of the newest window in it.
    end: Stamp,
    /// Each has ended as much later by the one clock as by the other.
    is_steady: bool,
    /// The newest window of each device, by its source's time, ns.
    newest: BTreeMap<DeviceIx, i64>,
}

#[derive(Debug)]
enum Held {
    /// The first window, as it came.
    One(Window),
    Many(Box<Joint>),
}

impl Downsampler {
    /// Of coarse windows of this length.
    pub(super) fn new(resolution: Resolution) -> Self {
        let length_ns = i64::try_from(resolution.window().as_nanos()).unwrap_or(i64::MAX).max(1);
        Self { length_ns, open: Vec::new() }
    }

    /// Whether `window` belongs to none of the coarse windows under construction. What comes late beside one of the moment is no end.
    pub(super) fn is_ended_by(&self, window: &Window) -> bool {
        let is_beside = window.end.trust.is_of_source() && self.open.iter().any(|open| !open.end.trust.is_of_source());
        !self.open.is_empty() && !is_beside && self.place_of(window).is_none()
    }

    /// The coarse window to which `window` belongs.
    fn place_of(&self, window: &Window) -> Option<usize> {
        self.open.iter().position(|open| open.goes_on_with(window, self.length_ns))
    }

    /// Takes the next window, in order. Answers the coarse one that it ends. `schema` is that of both.
    pub(super) fn add(&mut self, mut window: Window, schema: &Schema) -> Option<Window> {
        // A restart goes on from newer ones.
        window.checkpoint = None;
        if let Some(open) = self.place_of(&window).and_then(|place| self.open.get_mut(place)) {
            open.add(window);
            return None;
        }
        let is_of_source = window.end.trust.is_of_source();
        let mut same = (0..).zip(&self.open).filter(|(_, open)| open.end.trust.is_of_source() == is_of_source);
        let bound = if is_of_source { OF_SOURCES_MAX } else { 1 };
        let ended = if same.clone().count() >= bound { same.next().map(|(place, _)| place) } else { None };
        let ended = ended.map(|place| self.open.remove(place).window(schema));
        self.open.push(Open::of(window));
        ended
    }

    /// Ends the coarse windows under construction.
    pub(super) fn finish(&mut self, schema: &Schema) -> Vec<Window> {
        std::mem::take(&mut self.open).into_iter().map(|open| open.window(schema)).collect()
    }
}

/// UTC minus monotonic, ns.
fn offset(at: Stamp) -> i64 {
    at.utc.0.saturating_sub(i64::try_from(at.mono.0).unwrap_or(i64::MAX))
}

impl Open {
    fn of(window: Window) -> Self {
        let (end, newest) = (window.end, newest_of(&window).collect());
        Self { held: Held::One(window), end, is_steady: true, newest }
    }

    fn boot(&self) -> BootId {
        match &self.held {
            Held::One(window) => window.boot,
            Held::Many(joint) => joint.first.boot,
        }
    }

    fn goes_on_with(&self, window: &Window, length_ns: i64) -> bool {
        // The journal sets times apart by less than a millisecond.
        let place = |at: Stamp| (at.utc.0.div_euclid(MS).saturating_mul(MS) - 1).div_euclid(length_ns);
        let is_there = place(self.end) == place(window.end) || window.is_part_of(self.boot(), self.end);
        let belongs = self.boot() == window.boot && self.end.trust == window.end.trust && is_there;
        let follows = if self.end.trust.is_of_source() {
            newest_of(window).all(|(device, end)| self.newest.get(&device).is_none_or(|newest| *newest < end))
        } else {
            window.end.mono >= self.end.mono && self.is_as_far(window.end)
        };
        belongs && follows
    }

    fn is_as_far(&self, end: Stamp) -> bool {
        (offset(self.end) - offset(end)).abs() <= STEP_NS
    }

    fn add(&mut self, mut window: Window) {
        if window.is_part_of(self.boot(), self.end) {
            window.move_end(self.end);
        }
        self.is_steady &= window.end.mono >= self.end.mono && self.is_as_far(window.end);
        self.newest.extend(newest_of(&window));
        // What is of another device may have come before it.
        self.end = if window.end.utc >= self.end.utc { window.end } else { self.end };
        self.held.add(window);
    }

    fn window(self, schema: &Schema) -> Window {
        match self.held {
            Held::One(window) => window,
            Held::Many(joint) => joint.window(self.end, self.is_steady, schema),
        }
    }
}

impl Held {
    fn add(&mut self, window: Window) {
        if let Self::One(first) = self {
            *self = Self::Many(Box::new(Joint::of(emptied(first))));
        }
        if let Self::Many(joint) = self {
            joint.add(window);
        }
    }
}

/// Takes a window out, and leaves one with nothing in it.
fn emptied(window: &mut Window) -> Window {
    let Window { boot, end, length, .. } = *window;
    std::mem::replace(window, Window::empty(boot, end, length))
}

/// The end of a window, for each device in it, ns: of one that bears its source's time. Others have one time for all.
fn newest_of(window: &Window) -> impl Iterator<Item = (DeviceIx, i64)> {
    let intervals = if window.end.trust.is_of_source() { window.intervals.as_slice() } else { &[] };
    intervals.iter().map(|interval| (interval.device, window.end.utc.0))
}

/// Several windows as one.
#[derive(Debug)]
struct Joint {
    /// The first window, emptied: where it begins.
    first: Window,
    /// The earliest begin, by the wall clock, ns.
    begin: i64,
    series: BTreeMap<(DeviceIx, Option<VehicleId>), Sessions>,
    site: Option<Site>,
    events: Vec<Event>,
    /// The newest of each, and the end of its window.
    sessions: Vec<(ChargingSession, Mono)>,
    /// The newest of each.
    site_intervals: Vec<SiteInterval>,
}

/// The charging sessions of a vehicle at a device, the oldest first.
type Sessions = Vec<(Option<SessionId>, Series)>;

#[derive(Debug, Default)]
struct Series {
    directions: Vec<Direction>,
    points: BTreeMap<PointIx, Point>,
    energy: Energy,
}

impl Joint {
    fn of(mut first: Window) -> Self {
        let (content, begin) = (emptied(&mut first), begin(&first));
        let (series, events, sessions, site_intervals) = (BTreeMap::new(), Vec::new(), Vec::new(), Vec::new());
        let mut joint = Self { first, begin, series, site: None, events, sessions, site_intervals };
        joint.take(content);
        joint
    }

    fn add(&mut self, window: Window) {
        self.begin = self.begin.min(begin(&window));
        self.take(window);
    }

    fn take(&mut self, window: Window) {
        let Window { boot: _, end, length, intervals, site, events, sessions, site_intervals, checkpoint: _ } = window;
        for Interval { device, direction, vehicle, session, points, energy } in intervals {
            let sessions = self.series.entry((device, vehicle)).or_default();
            let place = sessions.iter().position(|(known, _)| *known == session).unwrap_or_else(|| {
                sessions.push((session, Series::default()));
                sessions.len() - 1
            });
            let (_, series) = &mut sessions[place];
            series.directions.extend(direction);
            series.energy.add(energy);
            for PointInterval { point, value, questionable } in points {
                series.points.entry(point).or_default().add(value, questionable);
            }
        }
        if let Some(rollup) = site {
            self.site.get_or_insert_default().add(*rollup, length);
        }
        self.events.extend(events);
        for told in sessions {
            self.sessions.retain(|(known, _)| known.device != told.device || known.id != told.id);
            self.sessions.push((told, end.mono));
        }
        for told in site_intervals {
            self.site_intervals.retain(|known| known.start != told.start);
            self.site_intervals.push(told);
        }
    }

    /// `is_steady`: the monotonic clock says how long it is, else the wall clock does.
    fn window(self, end: Stamp, is_steady: bool, schema: &Schema) -> Window {
        let Self { first, begin, series, site, events, sessions, site_intervals } = self;
        let by_wall_clock = Duration::from_nanos(u64::try_from(end.utc.0.saturating_sub(begin)).unwrap_or(0));
        let length = if is_steady { end.mono.since(first.end.mono - first.length) } else { by_wall_clock };
        let interval =
            |(device, vehicle, session, series): (DeviceIx, Option<VehicleId>, Option<SessionId>, Series)| {
                let columns = schema.series.get(usize::from(device.0)).map_or(&[][..], |series| &series.points);
                let aggregation =
                    |ix: PointIx| columns.get(usize::from(ix.0)).map_or(Aggregation::Last, |column| column.aggregation);
                let power_ix = Roles::of(columns.iter().map(|column| &column.field)).power;
                let points: Vec<PointInterval> =
                    series.points.into_iter().filter_map(|(ix, point)| point.interval(ix, aggregation(ix))).collect();
                let power = points.iter().find(|p| power_ix == Some(p.point)).and_then(|p| match p.value {
                    IntervalValue::Float(statistic) => Some(statistic.value),
                    _ => None,
                });
                let direction = direction(&series.directions, power);
                Interval { device, direction, vehicle, session, points, energy: series.energy }
            };
        let series = series.into_iter().flat_map(|((device, vehicle), sessions)| {
            sessions.into_iter().map(move |(session, series)| (device, vehicle.clone(), session, series))
        });
        let (intervals, site) = (series.map(interval).collect(), site.and_then(Site::rollup).map(Box::new));
        let sessions = sessions.into_iter().map(|(session, told)| session.beside_later(end.mono.since(told))).collect();
        Window { intervals, site, events, sessions, site_intervals, ..Window::empty(first.boot, end, length) }
    }
}

/// When it began by the wall clock, ns.
fn begin(window: &Window) -> i64 {
    window.end.utc.0.saturating_sub(i64::try_from(window.length.as_nanos()).unwrap_or(i64::MAX))
}

/// One point in several windows.
#[derive(Debug, Default)]
struct Point {
    known: Known,
    questionable: Option<Questionable>,
}

#[derive(Debug, Default)]
enum Known {
    #[default]
    Nothing,
    Missing(Missing),
    Floats {
        min: f64,
        max: f64,
        believed: Sum,
        /// Of windows with a reading that makes no sense: told only where there are no others.
        senseless: Sum,
    },
    Word(IntervalValue),
}

/// Windows of a kind.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    /// Of value times count.
    sum: f64,
    last: f64,
    count: u32,
    windows: u32,
}

impl Sum {
    fn add(&mut self, statistic: Statistic) {
        let Statistic { value, min: _, max: _, count } = statistic;
        let Self { sum, last: _, count: before, windows } = *self;
        *self = Self {
            sum: sum + value * f64::from(count),
            last: value,
            count: before.saturating_add(count),
            windows: windows.saturating_add(1),
        };
    }
}

impl Point {
    fn add(&mut self, value: IntervalValue, questionable: Option<Questionable>) {
        self.questionable = questionable.or(self.questionable);
        self.known = match (value, std::mem::take(&mut self.known)) {
            (IntervalValue::Missing(why), Known::Nothing | Known::Missing(_)) => Known::Missing(why),
            (IntervalValue::Missing(_), known) => known,
            (IntervalValue::Float(s), known) => {
                let (min, max, mut believed, mut senseless) = match known {
                    Known::Floats { min, max, believed, senseless } => {
                        (min.min(s.min), max.max(s.max), believed, senseless)
                    }
                    _ => (s.min, s.max, Sum::default(), Sum::default()),
                };
                let is_senseless = questionable.is_some_and(Questionable::is_senseless);
                if is_senseless {
                    senseless.add(s);
                } else {
                    believed.add(s);
                }
                Known::Floats { min, max, believed, senseless }
            }
            (word @ (IntervalValue::Integer(_) | IntervalValue::Text(_)), _) => Known::Word(word),
        };
    }

    fn interval(self, point: PointIx, aggregation: Aggregation) -> Option<PointInterval> {
        let value = match self.known {
            Known::Nothing => return None,
            Known::Missing(why) => IntervalValue::Missing(why),
            Known::Word(word) => word,
            Known::Floats { min, max, believed, senseless } => {
                let Sum { sum, last, count, windows } = if believed.windows > 0 { believed } else { senseless };
                let mean = sum / f64::from(count.max(1));
                let keep = windows == 1 || aggregation == Aggregation::Last || !mean.is_finite();
                // Rounding of the sum must not push the mean out of what was read.
                let value = if keep { last } else { mean.max(min).min(max) };
                let count = believed.count.saturating_add(senseless.count);
                IntervalValue::Float(Statistic { value, min, max, count })
            }
        };
        Some(PointInterval { point, value, questionable: self.questionable })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::journal::testing::{charging_session, depot_schema, stamp};
    use crate::measure::{ClockTrust, EnergyDelta, EnergySource, SessionState, SessionTime, Utc};
    use crate::spec::Unit;

    const STEP: Duration = Duration::from_millis(250);

    /// One charge point: power, then an energy counter.
    fn schema() -> Schema {
        let mut schema = depot_schema("gw-01", 1, 2);
        let points = &mut schema.series[0].points;
        points[0].field = "power_flow".try_into().expect("a field");
        (points[1].unit, points[1].aggregation) = (Unit::KilowattHour, Aggregation::Last);
        schema
    }

    fn window(n: u64, vehicle: Option<&str>, points: Vec<(u16, IntervalValue)>) -> Window {
        let point = |(ix, value)| PointInterval { point: PointIx(ix), value, questionable: None };
        let interval = Interval {
            device: DeviceIx(0),
            direction: None,
            vehicle: vehicle.map(|id| id.try_into().expect("a vehicle")),
            session: None,
            energy: Energy::default(),
            points: points.into_iter().map(point).collect(),
        };
        Window {
            boot: BootId([7; 16]),
            end: stamp(n * 250_000_000),
            length: STEP,
            intervals: vec![interval],
            site: None,
            events: Vec::new(),
            sessions: Vec::new(),
            site_intervals: Vec::new(),
            checkpoint: None,
        }
    }

    fn once(value: f64) -> IntervalValue {
        IntervalValue::Float(Statistic { value, min: value, max: value, count: 1 })
    }

    fn coarse(resolution: Resolution, windows: impl IntoIterator<Item = Window>) -> Vec<Window> {
        let (schema, mut downsampler) = (schema(), Downsampler::new(resolution));
        let mut out: Vec<Window> = windows.into_iter().filter_map(|w| downsampler.add(w, &schema)).collect();
        out.extend(downsampler.finish(&schema));
        out
    }

    #[test]
    fn a_window_that_makes_no_sense_gives_its_value_only_where_no_other_has_one() {
        let spoilt = |n, points| {
            let mut window = window(n, None, points);
            let doubts = [Questionable::OutOfRange, Questionable::CounterZero];
            for (point, doubt) in window.intervals[0].points.iter_mut().zip(doubts) {
                point.questionable = Some(doubt);
            }
            window
        };
        let both = |power, energy| vec![(0, once(power)), (1, once(energy))];
        let windows = [window(1, None, both(10.0, 700.0)), window(2, None, both(14.0, 700.5))];
        let out = coarse(Resolution::Second, windows.into_iter().chain([spoilt(3, both(-3.2e29, 0.0))]));
        let [power, energy] = &out[0].intervals[0].points[..] else { panic!("{out:?}") };
        let statistic = |value, min, max| IntervalValue::Float(Statistic { value, min, max, count: 3 });
        assert_eq!(power.value, statistic(12.0, -3.2e29, 14.0));
        assert_eq!(energy.value, statistic(700.5, 0.0, 700.5));
        assert_eq!(energy.questionable, Some(Questionable::CounterZero));
        let out = coarse(Resolution::Second, [spoilt(1, both(-3.2e29, 0.0)), spoilt(2, both(-3.2e29, 0.0))]);
        assert_eq!(
            out[0].intervals[0].points[1].value,
            IntervalValue::Float(Statistic { value: 0.0, min: 0.0, max: 0.0, count: 2 })
        );
    }

    #[test]
    fn four_windows_become_one_that_ends_on_the_second() {
        let out = coarse(
            Resolution::Second,
            (1..=8).map(|n| window(n, None, vec![(0, once(n as f64)), (1, once(n as f64))])),
        );
        let ends: Vec<u64> = out.iter().map(|w| w.end.mono.0).collect();
        assert_eq!(ends, [1_000_000_000, 2_000_000_000]);
        assert_eq!(out[1].length, Duration::from_secs(1));
        let values: Vec<_> = out[1].intervals[0].points.iter().map(|p| p.value.clone()).collect();
        let statistic = |value| IntervalValue::Float(Statistic { value, min: 5.0, max: 8.0, count: 4 });
        assert_eq!(values, [statistic(6.5), statistic(8.0)]);
    }

    #[test]
    fn energies_are_added_up_and_how_things_stood_is_left_to_newer_windows() {
        let fine = |n| {
            let mut window = window(n, None, vec![(0, once(1.0))]);
            let delta = |mwh| Some(EnergyDelta { mwh, source: EnergySource::Power });
            let known = Some(Duration::from_millis(250));
            window.intervals[0].energy = Energy { import: delta(n), export: None, known };
            window.checkpoint = Some(std::sync::Arc::default());
            window
        };
        let out = coarse(Resolution::Second, (1..=9).map(fine));
        let told = |window: &Window| {
            let Energy { import, export, known } = window.intervals[0].energy;
            (import.map(|delta| delta.mwh), export, known)
        };
        let told: Vec<_> = out.iter().map(told).collect();
        let known = |ms| Some(Duration::from_millis(ms));
        assert_eq!(told, [(Some(10), None, known(1_000)), (Some(26), None, known(1_000)), (Some(9), None, known(250))]);
        assert!(out.iter().all(|window| window.checkpoint.is_none()));
    }

    #[test]
    fn what_is_alone_stays_as_it_is() {
        let windows: Vec<Window> = (1..4).map(|n| window(n * 40, None, vec![(0, once(0.1))])).collect();
        assert_eq!(coarse(Resolution::Second, windows.clone()), windows);
        assert_eq!(coarse(Resolution::TenSeconds, windows.clone()), windows);
    }

    #[test]
    fn two_vehicles_in_one_window_are_not_mixed() {
        let out = coarse(
            Resolution::Second,
            [window(1, Some("EV1"), vec![(0, once(1.0))]), window(2, Some("EV2"), vec![(0, once(3.0))])],
        );
        let told: Vec<_> =
            out[0].intervals.iter().map(|i| (i.vehicle.as_ref().map(VehicleId::as_str), &i.points[0].value)).collect();
        assert_eq!(told, [(Some("EV1"), &once(1.0)), (Some("EV2"), &once(3.0))]);
    }

    #[test]
    fn two_sessions_of_a_vehicle_are_not_mixed_and_stay_in_their_order() {
        let of = |n, session: &str, kw| {
            let mut window = window(n, Some("EV1"), vec![(0, once(kw))]);
            window.intervals[0].session = Some(session.try_into().expect("a session"));
            window
        };
        let out = coarse(Resolution::Second, [of(1, "ff", 1.0), of(2, "ff", 3.0), of(3, "00", 5.0), of(4, "00", 7.0)]);
        let told = |interval: &Interval| {
            let IntervalValue::Float(power) = interval.points[0].value else { panic!("a number") };
            (interval.session.as_ref().map(ToString::to_string), power.value, power.count)
        };
        let told: Vec<_> = out[0].intervals.iter().map(told).collect();
        assert_eq!(told, [(Some("ff".to_owned()), 2.0, 2), (Some("00".to_owned()), 6.0, 2)]);
    }

    #[test]
    fn a_point_is_missing_only_if_it_never_was_there() {
        let missing = || IntervalValue::Missing(Missing::Timeout);
        let out = coarse(
            Resolution::Second,
            [
                window(1, None, vec![(0, missing()), (1, missing())]),
                window(2, None, vec![(0, once(5.0)), (1, missing())]),
                window(3, None, vec![(0, missing())]),
            ],
        );
        let values: Vec<_> = out[0].intervals[0].points.iter().map(|p| p.value.clone()).collect();
        assert_eq!(values, [once(5.0), missing()]);
    }

    #[test]
    fn nothing_is_joined_over_a_restart_a_step_or_a_change_of_trust() {
        let plain = |n| window(n, None, vec![(0, once(1.0))]);
        let change = |change: &dyn Fn(&mut Window)| {
            let mut second = plain(2);
            change(&mut second);
            coarse(Resolution::Minute, [plain(1), second]).len()
        };
        assert_eq!(change(&|_| {}), 1);
        assert_eq!(change(&|w| w.boot = BootId([8; 16])), 2);
        assert_eq!(change(&|w| w.end.utc.0 += 2_000_000), 2);
        assert_eq!(change(&|w| w.end.trust = ClockTrust::Holdover), 2);
        assert_eq!(change(&|w| w.end.mono = Mono(0)), 2);
    }

    /// What came late: it has arrived with window `arrived`, and is from the `n`-th window long before.
    fn late(arrived: u64, device: u16, n: i64, value: f64) -> Window {
        let mut window = window(arrived, None, vec![(0, once(value))]);
        window.intervals[0].device = DeviceIx(device);
        let long_before = crate::journal::testing::NOON_NS - 3_600_000_000_000;
        window.end.utc = Utc(long_before + n * 250_000_000 + 7_000);
        window.end.trust = ClockTrust::Resolved;
        window
    }

    /// Each late window ended the one under construction: of a backlog that came beside what is of the moment nothing became coarser.
    #[test]
    fn late_windows_between_others_end_none_of_them_and_are_joined_by_their_own_time() {
        let mixed = (1..=8).flat_map(|n| {
            let own = 3 * i64::try_from(n).expect("small");
            let backlog = (own - 2..=own).flat_map(move |m| [late(n, 1, m, m as f64), late(n, 2, m + 40, 0.5)]);
            std::iter::once(window(n, None, vec![(0, once(1.0))])).chain(backlog)
        });
        let out = coarse(Resolution::Second, mixed);
        let (late, live): (Vec<_>, Vec<_>) = out.iter().partition(|window| window.end.trust == ClockTrust::Resolved);
        assert_eq!(live.iter().map(|w| w.end.mono.0).collect::<Vec<_>>(), [1_000_000_000, 2_000_000_000]);
        assert_eq!(late.len(), 2 * 6, "24 windows of each of two devices are six seconds: {late:?}");
        for window in late {
            let [interval] = &window.intervals[..] else { panic!("of one device: {window:?}") };
            let IntervalValue::Float(power) = &interval.points[0].value else { panic!("{window:?}") };
            assert_eq!((window.length, power.count), (Duration::from_secs(1), 4));
            assert_eq!(window.end.utc.0 % 1_000_000_000, 7_000, "it ends on the second, and keeps what sets it apart");
        }
    }

    /// The second and those after it end behind the second on which their window ends.
    #[test]
    fn the_parts_of_a_window_are_in_the_coarse_window_of_its_first_at_each_resolution() {
        let first = 240 * 3;
        let mut fine = Vec::new();
        for n in first + 1..=first + 480 {
            for part in 0..3_u16 {
                let mut window = window(n, None, vec![(0, once(1.0))]);
                let later = Duration::from_millis(2 * u64::from(part));
                (window.end.mono, window.end.utc.0) =
                    (window.end.mono + later, window.end.utc.0 + i64::from(part) * 2 * MS);
                window.intervals[0].device = DeviceIx(part);
                let until = SessionTime::Before(Duration::from_secs(1) + later);
                window.sessions =
                    vec![ChargingSession { until, ..charging_session(part, "6f1c", SessionState::Running) }];
                fine.push(window);
            }
        }
        let windows = |resolution, seconds: u64, fine: &[Window]| {
            let out = coarse(resolution, fine.to_vec());
            assert_eq!(out.len() as u64, 120 / seconds);
            for (n, window) in (1..).zip(&out) {
                let end = stamp((first * 250 + n * seconds * 1_000) * 1_000_000);
                assert_eq!((window.end, window.length), (end, Duration::from_secs(seconds)));
                let counts = window.intervals.iter().map(|interval| match interval.points[0].value {
                    IntervalValue::Float(Statistic { count, .. }) => (interval.device.0, u64::from(count)),
                    _ => panic!("a number"),
                });
                assert!(counts.eq((0..3).map(|part| (part, 4 * seconds))), "{window:?}");
                let until = SessionTime::Before(Duration::from_secs(1));
                assert!(window.sessions.len() == 3 && window.sessions.iter().all(|told| told.until == until));
            }
            out
        };
        let seconds = windows(Resolution::Second, 1, &fine);
        let tens = windows(Resolution::TenSeconds, 10, &seconds);
        windows(Resolution::Minute, 60, &tens);
    }

    #[test]
    fn of_a_device_whose_time_goes_back_nothing_is_joined_to_what_came_later() {
        let out = coarse(Resolution::Second, [late(1, 1, 2, 1.0), late(1, 2, 1, 5.0), late(1, 1, 1, 9.0)]);
        let told: Vec<Vec<u16>> = out.iter().map(|w| w.intervals.iter().map(|i| i.device.0).collect()).collect();
        assert_eq!(told, [vec![1, 2], vec![1]]);
    }

    #[test]
    fn the_direction_is_that_in_which_the_mean_power_went() {
        let directed = |n, kw: f64| {
            let mut window = window(n, None, vec![(0, once(kw))]);
            window.intervals[0].direction = Some(Direction::of(kw, 0.05));
            window
        };
        let of = |powers: &[f64]| {
            let out = coarse(Resolution::Second, (1..).zip(powers).map(|(n, kw)| directed(n, *kw)));
            out[0].intervals[0].direction
        };
        assert_eq!(of(&[-7.0, -7.0, 0.0, 0.0]), Some(Direction::VehicleToGrid));
        assert_eq!(of(&[-7.0, 9.0, 9.0, 0.0]), Some(Direction::GridToVehicle));
        assert_eq!(of(&[0.01, 0.0, 0.0, 0.0]), Some(Direction::Idle));
    }

    proptest! {
        #[test]
        fn coarser_and_coarser_windows_say_the_same_as_all_readings(
            readings in prop::collection::vec(prop::option::weighted(0.8, (-1e6..1e6_f64, 0.0..10.0_f64, 1_u32..5)), 1..600),
        ) {
            let statistic = |(value, spread, count): (f64, f64, u32)| {
                if count == 1 { once(value) } else {
                    IntervalValue::Float(Statistic { value, min: value - spread, max: value + spread, count })
                }
            };
            let fine: Vec<Window> = (1..).zip(&readings).map(|(n, reading)| {
                let points = reading.map_or_else(Vec::new, |r| vec![(0, statistic(r)), (1, statistic(r))]);
                window(n, None, points)
            }).collect();
            let mut windows = fine.clone();
            for resolution in [Resolution::Second, Resolution::TenSeconds, Resolution::Minute] {
                windows = coarse(resolution, windows);
                for coarse in &windows {
                    let begin = coarse.end.mono.0 - u64::try_from(coarse.length.as_nanos()).expect("short");
                    let inside: Vec<Statistic> = fine.iter()
                        .filter(|w| (begin + 1..=coarse.end.mono.0).contains(&w.end.mono.0))
                        .flat_map(|w| &w.intervals[0].points)
                        .filter(|p| p.point == PointIx(1))
                        .filter_map(|p| if let IntervalValue::Float(s) = p.value { Some(s) } else { None })
                        .collect();
                    let points = &coarse.intervals[0].points;
                    prop_assert_eq!(points.is_empty(), inside.is_empty());
                    for point in points {
                        let IntervalValue::Float(told) = point.value else { panic!("a number") };
                        let count: u32 = inside.iter().map(|s| s.count).sum();
                        let mean = inside.iter().map(|s| s.value * f64::from(s.count)).sum::<f64>() / f64::from(count);
                        let min = inside.iter().map(|s| s.min).fold(f64::INFINITY, f64::min);
                        let max = inside.iter().map(|s| s.max).fold(f64::NEG_INFINITY, f64::max);
                        prop_assert_eq!((told.min, told.max, told.count), (min, max, count));
                        if point.point == PointIx(1) {
                            prop_assert_eq!(Some(told.value.to_bits()), inside.last().map(|s| s.value.to_bits()));
                        } else {
                            prop_assert!((told.value - mean).abs() <= 1e-6, "{} is not {mean}", told.value);
                        }
                    }
                }
            }
            let count: u64 = windows.iter().flat_map(|w| &w.intervals[0].points).map(|p| {
                if let IntervalValue::Float(s) = p.value { u64::from(s.count) } else { 0 }
            }).sum();
            prop_assert_eq!(count, 2 * readings.iter().flatten().map(|r| u64::from(r.2)).sum::<u64>());
        }
    }
}
