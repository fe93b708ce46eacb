//! Windows become coarser: several in, one out. Pure; the same rules as the aggregator's own (see `aggregate`).
//!
//! - Smallest, largest and count of a point are those of all its readings. A mean is the mean of all its readings; of a
//!   point of which the newest counts (energy counters, states, codes) the newest value stays, to the bit.
//! - A point is missing only if no window had a value of it. The newest doubt stays.
//! - One device with two vehicles in one coarse window is told in two intervals: what a vehicle did is never mixed with
//!   what another did.
//! - The site's powers are means by time; its counts are the newest.
//! - Events all stay, in order, at the end of the coarse window.
//! - A coarse window ends with its last fine one. Nothing is joined over a restart of the box, a step of the clock or a
//!   change of its trust. What is alone in a coarse window stays as it is.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::journal::resolution::Resolution;
use crate::measure::{
    Direction, Event, Interval, IntervalValue, Missing, PointInterval, Questionable, Schema, SiteRollup, Stamp,
    Statistic, Window,
};
use crate::spec::{Aggregation, DeviceIx, PointIx, Roles, VehicleId};

/// Ends of windows that belong together are off the held offset by less than this (as in `aggregate`).
const STEP_NS: i64 = 1_000_000;

/// A coarse window under construction.
#[derive(Debug)]
pub(super) struct Downsampler {
    length_ns: i64,
    open: Option<Open>,
}

#[derive(Debug)]
enum Open {
    /// The first window, as it came.
    One(Window),
    Many(Box<Joint>),
}

impl Downsampler {
    /// Of coarse windows of this length.
    pub(super) fn new(resolution: Resolution) -> Self {
        let length_ns = i64::try_from(resolution.window().as_nanos()).unwrap_or(i64::MAX).max(1);
        Self { length_ns, open: None }
    }

    /// Whether `window` does not belong to the coarse window under construction.
    pub(super) fn is_ended_by(&self, window: &Window) -> bool {
        let (boot, end) = match &self.open {
            None => return false,
            Some(Open::One(window)) => (window.boot, window.end),
            Some(Open::Many(joint)) => (joint.first.boot, joint.end),
        };
        let place = |at: Stamp| (at.utc.0 - 1).div_euclid(self.length_ns);
        let offset = |at: Stamp| at.utc.0.saturating_sub(i64::try_from(at.mono.0).unwrap_or(i64::MAX));
        boot != window.boot
            || end.trust != window.end.trust
            || window.end.mono < end.mono
            || place(end) != place(window.end)
            || (offset(end) - offset(window.end)).abs() > STEP_NS
    }

    /// Takes the next window, in order. Answers the coarse one that it ends. `schema` is that of both.
    pub(super) fn add(&mut self, window: Window, schema: &Schema) -> Option<Window> {
        let ended = if self.is_ended_by(&window) { self.finish(schema) } else { None };
        self.open = Some(match self.open.take() {
            None => Open::One(window),
            Some(Open::One(first)) => {
                let mut joint = Box::new(Joint::of(first));
                joint.add(window);
                Open::Many(joint)
            }
            Some(Open::Many(mut joint)) => {
                joint.add(window);
                Open::Many(joint)
            }
        });
        ended
    }

    /// Ends the coarse window under construction.
    pub(super) fn finish(&mut self, schema: &Schema) -> Option<Window> {
        Some(match self.open.take()? {
            Open::One(window) => window,
            Open::Many(joint) => joint.window(schema),
        })
    }
}

/// Several windows as one.
#[derive(Debug)]
struct Joint {
    /// The first window, emptied: where it begins.
    first: Window,
    end: Stamp,
    series: BTreeMap<(DeviceIx, Option<VehicleId>), Series>,
    site: Option<Site>,
    events: Vec<Event>,
}

#[derive(Debug, Default)]
struct Series {
    directions: Vec<Direction>,
    points: BTreeMap<PointIx, Point>,
}

impl Joint {
    fn of(mut first: Window) -> Self {
        let (intervals, site, events) =
            (std::mem::take(&mut first.intervals), first.site.take(), std::mem::take(&mut first.events));
        let (end, length) = (first.end, first.length);
        let mut joint = Self { first, end, series: BTreeMap::new(), site: None, events: Vec::new() };
        joint.take(intervals, site, events, length);
        joint
    }

    fn add(&mut self, window: Window) {
        let Window { boot: _, end, length, intervals, site, events } = window;
        self.end = end;
        self.take(intervals, site, events, length);
    }

    fn take(&mut self, intervals: Vec<Interval>, site: Option<SiteRollup>, events: Vec<Event>, length: Duration) {
        for Interval { device, direction, vehicle, points } in intervals {
            let series = self.series.entry((device, vehicle)).or_default();
            series.directions.extend(direction);
            for PointInterval { point, value, questionable } in points {
                series.points.entry(point).or_default().add(value, questionable);
            }
        }
        if let Some(rollup) = site {
            self.site.get_or_insert_default().add(rollup, length);
        }
        self.events.extend(events);
    }

    fn window(self, schema: &Schema) -> Window {
        let Self { first, end, series, site, events } = self;
        let begin = first.end.mono - first.length;
        let interval = |((device, vehicle), series): ((DeviceIx, Option<VehicleId>), Series)| {
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
            Interval { device, direction: direction(&series.directions, power), vehicle, points }
        };
        Window {
            boot: first.boot,
            end,
            length: end.mono.since(begin),
            intervals: series.into_iter().map(interval).collect(),
            site: site.and_then(Site::rollup),
            events,
        }
    }
}

/// Of the directions that were seen, the one in which the mean power goes; the dead band is not known here.
fn direction(seen: &[Direction], power: Option<f64>) -> Option<Direction> {
    let newest = *seen.last()?;
    let by_power = power.map(|kw| if kw > 0.0 { Direction::GridToVehicle } else { Direction::VehicleToGrid });
    let fits = [by_power, Some(Direction::Idle)].into_iter().flatten().find(|direction| seen.contains(direction));
    Some(if seen.iter().all(|direction| *direction == newest) { newest } else { fits.unwrap_or(newest) })
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
        /// Of value times count.
        sum: f64,
        last: f64,
        min: f64,
        max: f64,
        count: u32,
        /// Whether it is of one window only.
        one: bool,
    },
    Word(IntervalValue),
}

impl Point {
    fn add(&mut self, value: IntervalValue, questionable: Option<Questionable>) {
        self.questionable = questionable.or(self.questionable);
        self.known = match (value, std::mem::take(&mut self.known)) {
            (IntervalValue::Missing(why), Known::Nothing | Known::Missing(_)) => Known::Missing(why),
            (IntervalValue::Missing(_), known) => known,
            (IntervalValue::Float(s), Known::Floats { sum, min, max, count, .. }) => Known::Floats {
                sum: sum + s.value * f64::from(s.count),
                last: s.value,
                min: min.min(s.min),
                max: max.max(s.max),
                count: count.saturating_add(s.count),
                one: false,
            },
            (IntervalValue::Float(s), _) => {
                let Statistic { value, min, max, count } = s;
                Known::Floats { sum: value * f64::from(count), last: value, min, max, count, one: true }
            }
            (word @ (IntervalValue::Integer(_) | IntervalValue::Text(_)), _) => Known::Word(word),
        };
    }

    fn interval(self, point: PointIx, aggregation: Aggregation) -> Option<PointInterval> {
        let value = match self.known {
            Known::Nothing => return None,
            Known::Missing(why) => IntervalValue::Missing(why),
            Known::Word(word) => word,
            Known::Floats { sum, last, min, max, count, one } => {
                let mean = sum / f64::from(count.max(1));
                let keep = one || aggregation == Aggregation::Last || !mean.is_finite();
                // Rounding of the sum must not push the mean out of what was read.
                let value = if keep { last } else { mean.max(min).min(max) };
                IntervalValue::Float(Statistic { value, min, max, count })
            }
        };
        Some(PointInterval { point, value, questionable: self.questionable })
    }
}

/// The site in several windows.
#[derive(Debug, Default)]
struct Site {
    directions: Vec<Direction>,
    /// Sums of kW times seconds.
    flow: f64,
    import: f64,
    export: f64,
    seconds: f64,
    soc: Option<(f64, f64, u32)>,
    newest: Option<SiteRollup>,
}

impl Site {
    fn add(&mut self, rollup: SiteRollup, length: Duration) {
        let seconds = length.as_secs_f64().max(1e-9);
        self.directions.push(rollup.direction);
        self.flow += rollup.power_flow_kw * seconds;
        self.import += rollup.power_import_kw * seconds;
        self.export += rollup.power_export_kw * seconds;
        self.seconds += seconds;
        if let Some((min, mean)) = rollup.soc {
            let (low, sum, count) = self.soc.unwrap_or((f64::INFINITY, 0.0, 0));
            self.soc = Some((low.min(min), sum + mean, count + 1));
        }
        self.newest = Some(rollup);
    }

    fn rollup(self) -> Option<SiteRollup> {
        let power_flow_kw = self.flow / self.seconds;
        let newest = self.newest?;
        Some(SiteRollup {
            direction: direction(&self.directions, Some(power_flow_kw)).unwrap_or(newest.direction),
            power_flow_kw,
            power_import_kw: self.import / self.seconds,
            power_export_kw: self.export / self.seconds,
            soc: self.soc.map(|(low, sum, count)| (low, sum / f64::from(count))),
            ..newest
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::journal::testing::{depot_schema, stamp};
    use crate::measure::{BootId, ClockTrust, Mono};
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
            points: points.into_iter().map(point).collect(),
        };
        Window {
            boot: BootId([7; 16]),
            end: stamp(n * 250_000_000),
            length: STEP,
            intervals: vec![interval],
            site: None,
            events: Vec::new(),
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
