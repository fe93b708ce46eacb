//! Which points of a device stand still though they should move. Pure.
//!
//! - **Frozen** is a number, not 0, that has not moved a bit for longer than its profile allows (`frozen_after`), while others of the
//!   device moved all that time. A device on which nothing happens is at rest; a time in which the point was not read counts for
//!   nothing, nor does one in which its neighbours stood still. What is measured of electricity moves with what is measured of
//!   electricity: a clock, a limit, a state or a temperature says nothing of a voltage.
//! - A power and its current go together. One of them that does not move for [`CONTRARY_AFTER`] while the other is elsewhere by half
//!   is frozen, whatever its profile says ([`Contrary`]). What the voltage between them explains is not counted: a battery is charged
//!   with a constant current while its voltage rises, or with a constant power.
//! - 0 is rest, and never frozen. A counter of energy stands still as long as nothing flows: whether it counts what flows is
//!   found by the energy (`derive::plausibility`).
//! - It moves again when it has moved [`MOVES_MIN`] times, or is 0: one that moves now and then is not told each time.
//!
//! Memory: some words for each point that may be found frozen, one for each that may not.

use std::time::Duration;

use crate::measure::{Mono, Outcome, Stamp, Value};
use crate::spec::{DeviceSpec, Origin, PointSpec, Unit, ValueType};

/// So often a point is read, and its neighbours move, before it is called frozen: two readings are alike by chance.
const READINGS_MIN: u32 = 6;
/// So often it moves, never further apart than its limit, before it is called well.
const MOVES_MIN: u32 = 3;
/// For a power and its current: slower ones are averages of a minute. As long may one of them follow the other.
const CONTRARY_AFTER: Duration = Duration::from_secs(60);
/// The part by which the other one has changed: a voltage or a power factor changes a current by less.
const CONTRARY_PART: f64 = 0.5;
/// Of a smaller power, kW, half may be less than a step of the current, and of a smaller current, A, the other way round.
const CONTRARY_KW_MIN: f64 = 2.0;
const CONTRARY_A_MIN: f64 = 8.0;
/// What is no measurement, though it has the unit of one.
const ORDERED: [&str; 10] =
    ["limit", "target", "request", "rated", "upper", "lower", "_set", "available", "capacity", "offered"];

/// All points of a device.
#[derive(Debug)]
pub(super) struct Stillness {
    points: Vec<Point>,
    /// Those that may be found frozen.
    watched: Vec<u16>,
    /// What moved in the sample that is read.
    moved: Moved,
    now: Mono,
    /// Which sample it is.
    sample: u64,
    is_of_source: bool,
}

#[derive(Debug)]
struct Point {
    family: Family,
    /// The raw bits last seen.
    bits: Option<u64>,
    /// Its newest number that is good, if it ever had one, and in which sample it came; `None`: it is lost since.
    magnitude: Option<f64>,
    read_in: Option<u64>,
    watch: Option<Box<Watch>>,
}

/// What moves together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    /// Volts, amperes, powers, energies: as measured.
    Electrical,
    /// Other numbers.
    Other,
    /// Words, codes, clocks, and what somebody has set: says nothing of others.
    Alone,
}

#[derive(Debug, Clone, Copy, Default)]
struct Moved {
    electrical: bool,
    other: bool,
}

/// A point that may be found frozen.
#[derive(Debug)]
struct Watch {
    /// What its profile says.
    limit: Option<Duration>,
    /// Not 0, and read in the newest sample that was to carry it.
    is_live: bool,
    is_lost: bool,
    /// In the newest sample, without having moved.
    is_unmoved: bool,
    read: Mono,
    /// With what its neighbours did since it moved.
    still: Still,
    contrary: Option<Contrary>,
    frozen: bool,
    /// Since it was found frozen: how often it has moved, and when last.
    moves: (u32, Mono),
}

/// A power or a current, and what the other one did since it moved.
///
/// They are read one after the other, and one follows the other: the first [`CONTRARY_AFTER`] after it moved says nothing. Then the
/// other one is somewhere for [`READINGS_MIN`] readings, and it is contrary if it is elsewhere each time the point is read again
/// unmoved. A glitch of it, or a gap between two readings of the point, is neither.
#[derive(Debug)]
struct Contrary {
    /// The places of what must move with it, and the most that may stand there without.
    counterparts: Vec<u16>,
    counterpart_min: f64,
    /// The place of the voltage between them, if it is measured.
    voltage: Option<u16>,
    /// When the point moved last.
    moved: Mono,
    /// The newest sample of its counterparts that was looked at.
    seen: u64,
    /// Where they were, and for how many readings.
    level: Option<(Level, u32)>,
    /// With them elsewhere.
    away: Still,
}

#[derive(Debug, Clone, Copy)]
struct Level {
    number: f64,
    /// How many of the counterparts have a number: a device may lack phases.
    of: usize,
    voltage: Option<f64>,
}

/// How long a point has stood still though it should not.
#[derive(Debug, Clone, Copy)]
struct Still {
    since: Option<Mono>,
    /// Readings of it, and moves of others, in that time.
    readings: u32,
    others: u32,
    /// When others moved last.
    last: Mono,
}

impl Stillness {
    pub(super) fn new(device: &DeviceSpec) -> Self {
        let mut points: Vec<Point> = device.points.iter().map(|spec| Point::of(spec, device)).collect();
        let watched = (0..).zip(&points).filter(|(_, point)| point.watch.is_some()).map(|(ix, _)| ix).collect();
        points.shrink_to_fit();
        Self { points, watched, moved: Moved::default(), now: Mono(0), sample: 0, is_of_source: false }
    }

    /// Before all that a sample tells. A source that has a time of its own has also its own line of it.
    pub(super) fn begin(&mut self, at: Stamp) {
        let is_of_source = at.trust.is_of_source();
        let now = if is_of_source { Mono(u64::try_from(at.utc.0).unwrap_or(0)) } else { at.mono };
        if self.is_of_source != is_of_source {
            // The two lines of time have nothing to do with each other.
            self.is_of_source = is_of_source;
            self.clear();
        }
        (self.now, self.moved, self.sample) = (now, Moved::default(), self.sample + 1);
    }

    /// What is told before is nothing of what comes.
    pub(super) fn clear(&mut self) {
        for point in &mut self.points {
            (point.bits, point.magnitude, point.read_in) = (None, None, None);
            if let Some(watch) = &mut point.watch {
                watch.begin_anew(Mono(0), 0);
                watch.is_live = false;
            }
        }
    }

    /// A point was read: its raw bits, and what they say.
    pub(super) fn read(&mut self, ix: u16, bits: u64, outcome: &Outcome) {
        let Self { points, moved, now, sample, .. } = self;
        let Some(point) = points.get_mut(usize::from(ix)) else { return };
        let number = match outcome {
            Outcome::Good(Value::Float(number)) | Outcome::Questionable(Value::Float(number), _) => *number,
            Outcome::Good(_) | Outcome::Questionable(..) => 1.0,
            Outcome::Missing(_) => return point.lose(),
        };
        let before = point.bits.replace(bits);
        let has_moved = before.is_some_and(|before| before != bits);
        if has_moved {
            moved.electrical |= point.family == Family::Electrical;
            moved.other |= point.family == Family::Other;
        }
        if matches!(outcome, Outcome::Good(_)) {
            (point.magnitude, point.read_in) = (Some(number.abs()), Some(*sample));
        }
        if let Some(watch) = &mut point.watch {
            if before.is_none() {
                watch.begin_anew(*now, *sample);
            }
            watch.read(has_moved, number != 0.0, (*now, *sample));
        }
    }

    /// A point was to be read, and nothing came.
    pub(super) fn lose(&mut self, ix: u16) {
        if let Some(point) = self.points.get_mut(usize::from(ix)) {
            point.lose();
        }
    }

    pub(super) fn is_frozen(&self, ix: u16) -> bool {
        let watch = self.points.get(usize::from(ix)).and_then(|point| point.watch.as_ref());
        watch.is_some_and(|watch| watch.frozen)
    }

    /// After all that a sample tells: the points, by their places, that are found frozen, or moving again.
    pub(super) fn finish(&mut self, mut tell: impl FnMut(u16, bool)) {
        let Self { points, watched, moved, now, sample, .. } = self;
        for ix in watched {
            let place = usize::from(*ix);
            let Some(mut watch) = points.get_mut(place).and_then(|point| point.watch.take()) else { continue };
            let counterpart = watch.contrary.as_ref().and_then(|contrary| contrary.look(points));
            if let Some(point) = points.get_mut(place) {
                let have_moved = moved.electrical || (moved.other && point.family != Family::Electrical);
                if watch.judge(have_moved, counterpart, (*now, *sample)) {
                    tell(*ix, watch.frozen);
                }
                point.watch = Some(watch);
            }
        }
    }
}

impl Point {
    fn of(spec: &PointSpec, device: &DeviceSpec) -> Self {
        let contrary = Contrary::of(spec, device);
        let limit = spec.frozen_after.filter(|_| !spec.is_counter());
        let watch = (limit.is_some() || contrary.is_some()).then(|| {
            Box::new(Watch {
                limit,
                is_live: false,
                is_lost: false,
                is_unmoved: false,
                read: Mono(0),
                still: Still::NONE,
                contrary,
                frozen: false,
                moves: (0, Mono(0)),
            })
        });
        Self { family: Family::of(spec), bits: None, magnitude: None, read_in: None, watch }
    }

    fn lose(&mut self) {
        self.read_in = None;
        if let Some(watch) = &mut self.watch {
            (watch.is_live, watch.is_lost) = (false, true);
        }
    }
}

impl Family {
    fn of(spec: &PointSpec) -> Self {
        let is_ordered = ORDERED.iter().any(|word| spec.field.as_str().contains(word));
        match spec.unit {
            _ if spec.value_type != ValueType::Float || is_ordered => Self::Alone,
            Unit::Second | Unit::Millisecond => Self::Alone,
            Unit::Volt | Unit::Ampere | Unit::Hertz => Self::Electrical,
            Unit::Kilowatt | Unit::Kilovar | Unit::KilovoltAmpere => Self::Electrical,
            Unit::KilowattHour | Unit::KilovarHour | Unit::KilovoltAmpereHour => Self::Electrical,
            _ => Self::Other,
        }
    }
}

/// Whether it is a number that is not worked out of others.
fn is_own(spec: &PointSpec) -> bool {
    let is_told = matches!(spec.origin, Origin::Register(_) | Origin::SunSpec(_) | Origin::Signal(_));
    is_told && spec.value_type == ValueType::Float
}

fn place(field: &str, device: &DeviceSpec) -> Option<u16> {
    let found = (0..).zip(device.points.iter()).find(|(_, other)| other.field.as_str() == field);
    found.filter(|(_, other)| is_own(other)).map(|(ix, _)| ix)
}

/// What must move with a power or a current of this device: of the same phase, and not worked out of it.
fn counterparts(spec: &PointSpec, device: &DeviceSpec) -> Vec<u16> {
    if !is_own(spec) {
        return Vec::new();
    }
    let place = |field: &str| place(field, device);
    let first = |fields: &[&str]| fields.iter().find_map(|field| place(field)).into_iter().collect::<Vec<u16>>();
    let phases: Option<Vec<u16>> =
        ["current_l1", "current_l2", "current_l3"].iter().map(|field| place(field)).collect();
    match spec.field.as_str() {
        "current" | "current_sum" => first(&["power_flow", "power_apparent"]),
        "current_l1" => first(&["power_flow_l1", "power_apparent_l1"]),
        "current_l2" => first(&["power_flow_l2", "power_apparent_l2"]),
        "current_l3" => first(&["power_flow_l3", "power_apparent_l3"]),
        "power_flow_l1" => first(&["current_l1"]),
        "power_flow_l2" => first(&["current_l2"]),
        "power_flow_l3" => first(&["current_l3"]),
        "power_flow" => phases.unwrap_or_else(|| first(&["current_sum", "current"])),
        _ => Vec::new(),
    }
}

impl Watch {
    fn begin_anew(&mut self, now: Mono, sample: u64) {
        (self.still, self.read, self.is_lost) = (Still::NONE, now, false);
        if let Some(contrary) = &mut self.contrary {
            contrary.begin_anew(now, sample);
        }
    }

    fn read(&mut self, has_moved: bool, is_some: bool, (now, sample): (Mono, u64)) {
        if has_moved || !is_some {
            self.begin_anew(now, sample);
            if has_moved && self.frozen {
                let limit = self.limit.unwrap_or(CONTRARY_AFTER);
                let (moves, last) = self.moves;
                self.moves = (if now.since(last) > limit { 1 } else { moves + 1 }, now);
            }
        } else {
            if std::mem::take(&mut self.is_lost) {
                let unseen = now.since(self.read);
                self.still.forget(unseen);
                if let Some(contrary) = &mut self.contrary {
                    contrary.forget(unseen);
                }
            }
            self.read = now;
            self.still.readings = self.still.readings.saturating_add(1);
        }
        (self.is_live, self.is_unmoved) = (is_some, is_some && !has_moved);
    }

    /// Whether it is another than before; `counterpart` is what [`Contrary::look`] says.
    fn judge(&mut self, have_moved: bool, counterpart: Option<(Level, u64)>, (now, sample): (Mono, u64)) -> bool {
        let is_unmoved = std::mem::take(&mut self.is_unmoved);
        if self.frozen {
            if self.moves.0 < MOVES_MIN && (self.is_live || self.is_lost) {
                return false;
            }
            (self.frozen, self.moves) = (false, (0, now));
            self.begin_anew(now, sample);
            return true;
        }
        if !self.is_live {
            return false;
        }
        let mut frozen = false;
        if let Some(limit) = self.limit.filter(|_| have_moved) {
            self.still.others_moved(now, limit);
            frozen |= self.still.is_over(now, limit);
        }
        if let (Some(contrary), Some(counterpart), true) = (&mut self.contrary, counterpart, is_unmoved) {
            frozen |= contrary.judge(counterpart, now);
        }
        if frozen {
            (self.frozen, self.moves) = (true, (0, now));
        }
        frozen
    }
}

impl Contrary {
    fn of(spec: &PointSpec, device: &DeviceSpec) -> Option<Self> {
        let counterparts = counterparts(spec, device);
        let is_power = spec.unit == Unit::Kilowatt;
        // That of a phase is the grid's, and stays.
        let is_whole = matches!(spec.field.as_str(), "current" | "power_flow");
        (!counterparts.is_empty()).then(|| Self {
            counterparts,
            counterpart_min: if is_power { CONTRARY_A_MIN } else { CONTRARY_KW_MIN },
            voltage: is_whole.then(|| place("voltage", device)).flatten(),
            moved: Mono(0),
            seen: 0,
            level: None,
            away: Still::NONE,
        })
    }

    fn begin_anew(&mut self, now: Mono, sample: u64) {
        (self.moved, self.seen, self.level, self.away) = (now, sample, None, Still::NONE);
    }

    fn forget(&mut self, unseen: Duration) {
        self.moved = self.moved + unseen;
        self.away.forget(unseen);
    }

    /// Where its counterparts are, and the newest sample of them; `None` if one is lost, or none was ever read.
    fn look(&self, points: &[Point]) -> Option<(Level, u64)> {
        let read = |ix: &u16| {
            let point = points.get(usize::from(*ix))?;
            Some((point.magnitude?, point.read_in))
        };
        let (mut level, mut newest) = (Level { number: 0.0, of: 0, voltage: None }, None);
        for (magnitude, sample) in self.counterparts.iter().filter_map(read) {
            (level.number, level.of, newest) = (level.number + magnitude, level.of + 1, newest.max(Some(sample?)));
        }
        if let Some((volts, sample)) = self.voltage.as_ref().and_then(read) {
            level.voltage = sample.map(|_| Some(volts))?;
        }
        Some((level, newest?))
    }

    /// After the point was read, unmoved: whether its counterparts have been elsewhere for too long.
    fn judge(&mut self, (now_at, newest): (Level, u64), now: Mono) -> bool {
        if now.since(self.moved) < CONTRARY_AFTER {
            return false;
        }
        let is_new = newest > self.seen;
        self.seen = self.seen.max(newest);
        if self.level.is_some_and(|(level, _)| !level.is_like(now_at)) {
            (self.level, self.away) = (None, Still::NONE);
        }
        match &mut self.level {
            Some((level, readings)) if !level.is_left_for(now_at, self.counterpart_min) => {
                *readings = readings.saturating_add(u32::from(is_new));
                if now.since(self.away.last) > CONTRARY_AFTER {
                    self.away = Still::NONE;
                }
                false
            }
            Some((_, READINGS_MIN..)) => {
                self.away.since.get_or_insert(now);
                self.away.readings = self.away.readings.saturating_add(1);
                self.away.others = self.away.others.saturating_add(u32::from(is_new));
                self.away.last = now;
                self.away.is_over(now, CONTRARY_AFTER)
            }
            level => {
                *level = is_new.then_some((now_at, 1)).or(*level);
                false
            }
        }
    }
}

impl Level {
    /// Whether it is of the same points as another one.
    fn is_like(self, other: Self) -> bool {
        (self.of, self.voltage.is_some()) == (other.of, other.voltage.is_some())
    }

    /// Whether another one is away from it by half, and not by the voltage.
    fn is_left_for(self, other: Self, least_most: f64) -> bool {
        let (least, most) = (self.number.min(other.number), self.number.max(other.number));
        let (low, high) = match (self.voltage, other.voltage) {
            (Some(before), Some(now)) if before > 0.0 && now > 0.0 => (before.min(now), before.max(now)),
            _ => (1.0, 1.0),
        };
        most >= least_most && least * high <= (1.0 - CONTRARY_PART) * most * low
    }
}

impl Still {
    const NONE: Self = Self { since: None, readings: 0, others: 0, last: Mono(0) };

    fn others_moved(&mut self, now: Mono, limit: Duration) {
        let is_gap = now.since(self.last) > limit;
        if self.since.is_none() || is_gap {
            *self = Self { since: Some(now), readings: 0, others: 0, last: now };
        }
        self.others = self.others.saturating_add(1);
        self.last = now;
    }

    fn is_over(&self, now: Mono, limit: Duration) -> bool {
        let is_long = self.since.is_some_and(|since| now.since(since) > limit);
        is_long && self.readings >= READINGS_MIN && self.others >= READINGS_MIN
    }

    /// A time in which nothing was known counts for nothing.
    fn forget(&mut self, unseen: Duration) {
        self.since = self.since.map(|since| since + unseen);
        self.last = self.last + unseen;
    }
}

#[cfg(test)]
#[path = "stillness_tests.rs"]
mod tests;
