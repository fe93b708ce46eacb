//! Signals become points: what each device on a bus last said, and what has gone stale. Pure; `now` is an argument.
//!
//! - A frame is told at once, as the values of the points that it changes. A sum or a quotient that needs signals of
//!   several messages takes the newest of each, none of them stale.
//! - A term of a sum that need not be sent counts as 0 only after the device has talked for as long as the term may be
//!   silent, and only as long as it never came since the device began to talk.
//! - A point that was told and is stale is missing, once a second. A device of which nothing is heard is silent.

use std::time::Duration;

use hal::can::{Frame, FrameId};

use super::decode::{Decoded, Decoder};
use crate::measure::{Missing, Mono, Payload, Raw};
use crate::spec::{DeviceIx, Formula, PointIx, PointSpec, Signal};

/// How often it is said that something is missing.
const MISSING_EVERY: Duration = Duration::from_secs(1);

/// What is known of the devices on one bus.
#[derive(Debug)]
pub(super) struct Tracker {
    decoder: Decoder,
    /// By the place of a signal in the decoder's list.
    slots: Vec<Slot>,
    devices: Vec<Device>,
    /// Signals that a frame has changed, while it is read.
    changed: Vec<usize>,
}

/// The newest value of a signal.
#[derive(Debug)]
struct Slot {
    /// The device that it belongs to, by its place here, and the points that need it, ascending.
    device: usize,
    points: Vec<u16>,
    value: Option<(Decoded, Mono)>,
}

#[derive(Debug)]
struct Device {
    ix: DeviceIx,
    points: Vec<Point>,
    /// Since when it talks; `None` while it is silent.
    talking: Option<Mono>,
    heard: Option<Mono>,
    /// No point of it outlives this.
    silence: Duration,
    /// When it was last said that it is silent.
    told_silent: Option<Mono>,
    missed: Option<Missing>,
}

#[derive(Debug)]
struct Point {
    recipe: Recipe,
    stale_after: Duration,
    optional: bool,
    /// When it had a value, and when it was last said that it is missing.
    known: Option<Mono>,
    told_missing: Option<Mono>,
}

#[derive(Debug)]
enum Recipe {
    /// A slot; `true`: its bits alone.
    Signal(usize, bool),
    /// Factor, slot, whether it need not be sent.
    Sum(Vec<(f64, usize, bool)>),
    /// Factor and slot of each.
    Quotient([(f64, usize); 2]),
}

/// What a point is worth now.
enum Worth {
    Known(Raw),
    /// Something that it needs is not known, or not known any more.
    Unknown,
}

impl Tracker {
    /// Tracks these devices; they begin to be missed at `now`.
    pub(super) fn new<'d>(devices: impl IntoIterator<Item = (DeviceIx, &'d [PointSpec])>, now: Mono) -> Self {
        let (mut signals, mut slots, mut tracked): (Vec<&Signal>, Vec<Slot>, Vec<Device>) = Default::default();
        for (place, (ix, specs)) in devices.into_iter().enumerate() {
            let first = signals.len();
            let mut slot_of = |signal: &'d Signal| {
                // The same signal in several points is read once for each device.
                let known = signals[first..].iter().position(|known| *known == signal);
                known.map_or_else(
                    || {
                        signals.push(signal);
                        slots.push(Slot { device: place, points: vec![], value: None });
                        signals.len() - 1
                    },
                    |known| first + known,
                )
            };
            let mut points: Vec<Point> = specs.iter().map(|spec| Point::of(spec, &mut slot_of)).collect();
            name_dependants(&points, &mut slots);
            let silence = points.iter().map(|point| point.stale_after).max().unwrap_or(MISSING_EVERY);
            points.iter_mut().for_each(|point| point.told_missing = Some(now));
            tracked.push(Device {
                ix,
                points,
                talking: None,
                heard: None,
                silence,
                told_silent: Some(now),
                missed: None,
            });
        }
        Self { decoder: Decoder::new(signals), slots, devices: tracked, changed: Vec::new() }
    }

    /// A frame came at `now`: what it says goes to `out`, for each device that it concerns. Answers whether it was one of ours.
    pub(super) fn handle_frame(&mut self, frame: &Frame, now: Mono, out: impl FnMut(DeviceIx, Payload)) -> bool {
        !frame.remote && self.handle_message(frame.id, frame.data(), now, out)
    }

    /// The same of what an id carries, whether in one frame or in several.
    pub(super) fn handle_message(
        &mut self,
        id: FrameId,
        data: &[u8],
        now: Mono,
        mut out: impl FnMut(DeviceIx, Payload),
    ) -> bool {
        let Self { decoder, slots, devices, changed } = self;
        changed.clear();
        let mut broken = false;
        decoder.decode_message(id, data, |slot, decoded| match (slots.get_mut(slot), decoded) {
            (Some(known), Some(decoded)) => {
                known.value = Some((decoded, now));
                changed.push(slot);
            }
            (_, _) => broken = true,
        });
        // One device after the other; slots of a device stand together.
        changed.sort_unstable();
        let mut rest = changed.as_slice();
        while let Some(place) = rest.first().and_then(|slot| slots.get(*slot)).map(|slot| slot.device) {
            let count = rest.iter().take_while(|slot| slots.get(**slot).is_some_and(|s| s.device == place)).count();
            let (mine, others) = rest.split_at(count);
            rest = others;
            let Some(device) = devices.get_mut(place) else { break };
            let values = device.update(mine, slots, now);
            if !values.is_empty() {
                out(device.ix, Payload::Values(values));
            }
        }
        broken || !changed.is_empty()
    }

    /// Says what is missing at `now`. `silence` is what to say of a device that was never heard.
    pub(super) fn handle_tick(&mut self, now: Mono, silence: Missing, mut out: impl FnMut(DeviceIx, Payload)) {
        for (place, device) in self.devices.iter_mut().enumerate() {
            if device.falls_silent(now) {
                // What it said before belongs to another time: it is not put together with what comes.
                self.slots.iter_mut().filter(|slot| slot.device == place).for_each(|slot| slot.value = None);
            }
            if let Some(payload) = device.missing(now, silence) {
                out(device.ix, payload);
            }
        }
    }

    /// Why a device is silent, if that was said.
    pub(super) fn missed(&self, device: usize) -> Option<Missing> {
        self.devices.get(device).and_then(|device| device.missed)
    }

    /// Whether a device talks.
    pub(super) fn talks(&self, device: usize) -> bool {
        self.devices.get(device).is_some_and(|device| device.talking.is_some())
    }
}

impl Point {
    fn of<'d>(spec: &'d PointSpec, slot_of: &mut impl FnMut(&'d Signal) -> usize) -> Self {
        let nothing = Recipe::Sum(vec![]);
        let (recipe, stale_after, optional) = match spec.signal() {
            // Of another wire, or worked out of others.
            None => (nothing, Duration::ZERO, true),
            Some(point) => {
                let recipe = match &point.formula {
                    Formula::Signal(signal, bits) => Recipe::Signal(slot_of(signal), *bits),
                    Formula::Sum(terms) => {
                        Recipe::Sum(terms.iter().map(|t| (t.times, slot_of(&t.signal), t.optional)).collect())
                    }
                    Formula::Quotient(terms) => {
                        Recipe::Quotient(terms.each_ref().map(|t| (t.times, slot_of(&t.signal))))
                    }
                };
                (recipe, point.stale_after, point.optional)
            }
        };
        Self { recipe, stale_after, optional, known: None, told_missing: None }
    }

    /// What it is worth by its signals.
    fn worth(&self, slots: &[Slot], talking: Mono, now: Mono) -> Worth {
        let value = |slot: usize| slots.get(slot).and_then(|slot| slot.value.as_ref());
        let fresh = |slot: usize| value(slot).filter(|(_, at)| now.since(*at) <= self.stale_after).map(|(v, _)| *v);
        match &self.recipe {
            Recipe::Quotient(terms) => {
                let [dividend, divisor] =
                    terms.map(|(times, slot)| fresh(slot).map(|decoded| times * decoded.value.as_f64()));
                match (dividend, divisor.filter(|divisor| *divisor != 0.0)) {
                    (Some(dividend), Some(divisor)) => Worth::Known(Raw::Float(dividend / divisor)),
                    _ => Worth::Unknown,
                }
            }
            Recipe::Signal(slot, bits) => {
                let worth = |decoded: Decoded| Raw::from(if *bits { decoded.bits } else { decoded.value });
                fresh(*slot).map_or(Worth::Unknown, |decoded| Worth::Known(worth(decoded)))
            }
            Recipe::Sum(terms) => {
                let mut sum = 0.0;
                for (times, slot, optional) in terms {
                    match fresh(*slot) {
                        Some(decoded) => sum += times * decoded.value.as_f64(),
                        None if *optional && value(*slot).is_none() && now.since(talking) >= self.stale_after => {}
                        None => return Worth::Unknown,
                    }
                }
                Worth::Known(Raw::Float(sum))
            }
        }
    }
}

impl Device {
    /// These slots have changed: the values of the points that need them.
    fn update(&mut self, changed: &[usize], slots: &[Slot], now: Mono) -> Vec<(PointIx, Result<Raw, Missing>)> {
        let talking = *self.talking.get_or_insert(now);
        self.heard = Some(now);
        let mut concerned: Vec<u16> =
            changed.iter().filter_map(|slot| slots.get(*slot)).flat_map(|s| s.points.clone()).collect();
        concerned.sort_unstable();
        concerned.dedup();
        let mut values = Vec::with_capacity(concerned.len());
        for ix in concerned {
            let Some(point) = self.points.get_mut(usize::from(ix)) else { continue };
            let Worth::Known(raw) = point.worth(slots, talking, now) else { continue };
            point.known = Some(now);
            point.told_missing = None;
            values.push((PointIx(ix), Ok(raw)));
        }
        values
    }

    fn is_silent(&self, now: Mono) -> bool {
        self.heard.is_none_or(|heard| now.since(heard) > self.silence)
    }

    /// Answers whether it talked until now.
    fn falls_silent(&mut self, now: Mono) -> bool {
        let falls = self.is_silent(now) && self.talking.take().is_some();
        if falls {
            self.points.iter_mut().for_each(|point| point.known = None);
            self.told_silent = None;
        }
        falls
    }

    fn missing(&mut self, now: Mono, silence: Missing) -> Option<Payload> {
        let due = |told: Option<Mono>| told.is_none_or(|told| now.since(told) >= MISSING_EVERY);
        if self.is_silent(now) {
            if !due(self.told_silent) {
                return None;
            }
            self.told_silent = Some(now);
            let why = if silence == Missing::BusOff || self.heard.is_none() { silence } else { Missing::Stale };
            self.missed = Some(why);
            return Some(Payload::Silent(why));
        }
        let begun = self.talking.unwrap_or(now);
        let stale = |point: &Point| match point.known {
            Some(known) => now.since(known) > point.stale_after,
            None => !point.optional && now.since(begun) > point.stale_after,
        };
        let mut told = Vec::new();
        for (ix, point) in (0..).map(PointIx).zip(&mut self.points) {
            if stale(point) && due(point.told_missing) {
                point.told_missing = Some(now);
                let why = if point.known.is_some() { Missing::Stale } else { Missing::Timeout };
                told.push((ix, Err(why)));
            }
        }
        (!told.is_empty()).then_some(Payload::Values(told))
    }
}

/// Writes down in each slot which points need it.
fn name_dependants(points: &[Point], slots: &mut [Slot]) {
    for (ix, point) in (0..).zip(points) {
        let needed: Vec<usize> = match &point.recipe {
            Recipe::Signal(slot, _) => vec![*slot],
            Recipe::Sum(terms) => terms.iter().map(|(_, slot, _)| *slot).collect(),
            Recipe::Quotient(terms) => terms.iter().map(|(_, slot)| *slot).collect(),
        };
        for slot in needed {
            if let Some(slot) = slots.get_mut(slot)
                && slot.points.last() != Some(&ix)
            {
                slot.points.push(ix);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{
        Aggregation, BitField, BitOrder, FrameMatch, Origin, Scaling, SignalKind, SignalPoint, Term, Unit, ValueType,
    };

    const MS: u64 = 1_000_000;

    fn signal(id: u16, start: u64) -> Signal {
        Signal {
            name: format!("{id:x}.{start}").into(),
            message: "m".into(),
            frame: FrameMatch::exactly(id.into(), false),
            field: BitField::new(BitOrder::Intel, start, 8).expect("a field"),
            kind: SignalKind::Unsigned,
            factor: 1.0,
            offset: 0.0,
            gates: vec![],
        }
    }

    fn point(field: &str, formula: Formula, optional: bool) -> PointSpec {
        PointSpec {
            field: field.try_into().expect("a field"),
            unit: Unit::One,
            value_type: ValueType::Float,
            aggregation: Aggregation::Mean,
            valid: None,
            frozen_after: None,
            scaling: Scaling::default(),
            origin: Origin::Signal(SignalPoint { formula, stale_after: Duration::from_millis(500), optional }),
        }
    }

    /// Voltage in 0x109; current as what goes out (0x109) less what comes back (0x208); a limit that may not come.
    fn charger() -> Vec<PointSpec> {
        let term = |times, signal, optional| Term { times, signal, optional };
        let current = Formula::Sum(vec![term(1.0, signal(0x109, 8), false), term(-1.0, signal(0x208, 0), true)]);
        vec![
            point("voltage", Formula::Signal(signal(0x109, 0), false), false),
            point("current", current, false),
            point("limit", Formula::Signal(signal(0x208, 8), false), true),
        ]
    }

    struct Bench {
        tracker: Tracker,
        told: Vec<String>,
    }

    impl Bench {
        fn new(specs: &[PointSpec]) -> Self {
            Self { tracker: Tracker::new([(DeviceIx(7), specs)], Mono(0)), told: vec![] }
        }

        fn frame(&mut self, ms: u64, id: u16, data: &[u8]) -> Vec<String> {
            let frame = Frame::new(FrameId::Standard(id), data, false).expect("a frame");
            let told = &mut self.told;
            self.tracker.handle_frame(&frame, Mono(ms * MS), |device, payload| tell(told, device, &payload));
            std::mem::take(told)
        }

        fn tick(&mut self, ms: u64) -> Vec<String> {
            let told = &mut self.told;
            self.tracker.handle_tick(Mono(ms * MS), Missing::Timeout, |device, payload| tell(told, device, &payload));
            std::mem::take(told)
        }
    }

    fn number(raw: &Raw) -> f64 {
        match raw {
            #[allow(clippy::cast_precision_loss, reason = "the numbers of this test are small")]
            Raw::Integer(integer) => *integer as f64,
            Raw::Float(float) => *float,
            Raw::Text(_) => f64::NAN,
        }
    }

    fn tell(told: &mut Vec<String>, device: DeviceIx, payload: &Payload) {
        assert_eq!(device, DeviceIx(7));
        match payload {
            Payload::Values(values) => told.extend(values.iter().map(|(PointIx(ix), value)| match value {
                Ok(raw) => format!("{ix}={}", number(raw)),
                Err(why) => format!("{ix} {}", why.as_str()),
            })),
            Payload::Silent(why) => told.push(format!("silent {}", why.as_str())),
            other => told.push(format!("{other:?}")),
        }
    }

    #[test]
    fn a_quotient_is_of_the_newest_of_both_and_not_known_while_it_is_by_nothing() {
        let term = |times, signal| Term { times, signal, optional: false };
        let rate = Formula::Quotient(Box::new([term(100.0, signal(0x102, 0)), term(1.0, signal(0x100, 0))]));
        let mut bench = Bench::new(&[point("soc", rate, false)]);
        assert!(bench.frame(0, 0x102, &[45, 0]).is_empty());
        assert!(bench.frame(10, 0x100, &[0, 0]).is_empty());
        assert_eq!(bench.frame(20, 0x100, &[100, 0]), ["0=45"]);
        assert_eq!(bench.frame(30, 0x102, &[57, 0]), ["0=57"]);
        assert_eq!(bench.frame(40, 0x100, &[200, 0]), ["0=28.5"]);
    }

    #[test]
    fn a_frame_tells_the_points_that_it_changes() {
        let mut bench = Bench::new(&charger());
        bench.frame(0, 0x208, &[14, 99]);
        assert_eq!(bench.frame(10, 0x109, &[200, 0]), ["0=200", "1=-14"]);
        assert_eq!(bench.frame(20, 0x208, &[0, 98]), ["1=0", "2=98"]);
        assert_eq!(bench.frame(30, 0x109, &[200, 10]), ["0=200", "1=10"]);
        assert!(bench.frame(40, 0x300, &[1]).is_empty());
    }

    #[test]
    fn a_term_that_never_comes_counts_as_nothing_only_after_it_had_its_time() {
        let mut bench = Bench::new(&charger());
        // The discharge current may still come: nobody knows yet which way the power flows.
        assert_eq!(bench.frame(0, 0x109, &[200, 10]), ["0=200"]);
        assert_eq!(bench.frame(400, 0x109, &[200, 10]), ["0=200"]);
        assert_eq!(bench.frame(500, 0x109, &[200, 10]), ["0=200", "1=10"]);
        // It came, and then no more: it is not nothing, it is not known.
        bench.frame(600, 0x208, &[3, 0]);
        assert_eq!(bench.frame(1_000, 0x109, &[200, 10]), ["0=200", "1=7"]);
        assert_eq!(bench.frame(1_200, 0x109, &[200, 10]), ["0=200"]);
        assert_eq!(bench.tick(1_600), ["1 stale", "2 stale"]);
    }

    #[test]
    fn what_is_stale_is_missing_once_a_second_and_what_need_not_come_is_not() {
        let mut bench = Bench::new(&charger());
        bench.frame(0, 0x109, &[200, 10]);
        (1..20).for_each(|n| assert!(!bench.frame(n * 100, 0x109, &[200, 10]).is_empty()));
        assert!(bench.tick(1_900).is_empty(), "the limit need not come");
        bench.frame(2_000, 0x208, &[0, 5]);
        for n in 20..40 {
            bench.frame(n * 100, 0x109, &[200, 10]);
        }
        assert_eq!(bench.tick(3_900), ["1 stale", "2 stale"]);
        assert!(bench.tick(4_000).is_empty(), "said already");
    }

    #[test]
    fn a_device_that_falls_silent_forgets_and_one_that_never_spoke_is_a_timeout() {
        let mut bench = Bench::new(&charger());
        assert!(bench.tick(900).is_empty(), "it has its time");
        assert_eq!(bench.tick(1_000), ["silent timeout"]);
        assert!(!bench.tracker.talks(0));
        bench.frame(1_100, 0x208, &[14, 0]);
        bench.frame(1_100, 0x109, &[200, 0]);
        assert!(bench.tracker.talks(0));
        assert_eq!(bench.tick(1_700), ["silent stale"]);
        assert!(bench.tick(2_000).is_empty());
        assert_eq!(bench.tick(2_700), ["silent stale"]);
        // Another vehicle, which cannot discharge: what the one before it took back is forgotten.
        assert_eq!(bench.frame(3_000, 0x109, &[200, 20]), ["0=200"]);
        assert_eq!(bench.frame(3_500, 0x109, &[200, 20]), ["0=200", "1=20"]);
    }

    #[test]
    fn two_devices_of_one_kind_are_told_apart_by_their_ids() {
        let numbered = |number: u32| {
            let mut voltage = signal(0x100, 0);
            voltage.frame = FrameMatch::exactly(0x100 + number, false);
            vec![point("voltage", Formula::Signal(voltage, false), false)]
        };
        let (one, two) = (numbered(1), numbered(2));
        let mut tracker = Tracker::new([(DeviceIx(0), &*one), (DeviceIx(1), &*two)], Mono(0));
        let mut told = Vec::new();
        for (id, value) in [(0x102, 5), (0x101, 6)] {
            let frame = Frame::new(FrameId::Standard(id), &[value], false).expect("a frame");
            tracker.handle_frame(&frame, Mono(0), |device, _| told.push((device.0, value)));
        }
        assert_eq!(told, [(1, 5), (0, 6)]);
        assert!(tracker.talks(0) && tracker.talks(1));
    }
}
