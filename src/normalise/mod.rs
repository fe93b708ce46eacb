//! What came from a wire becomes a value with a unit, a sign and a quality. Pure.
//!
//! In: [`Sample`]. Out: one [`Reading`] for each point that the sample was to carry, also when nothing came
//! ([`Outcome::Missing`]), behind them those that are worked out of them (`derived`), and the [`Event`]s that only a memory of earlier samples can notice: a device that speaks by itself
//! falls silent or is heard again, a point is frozen or moves again, a counter does not go on as it was. Whether a device that is polled answers is for its source to
//! tell: only it knows what was asked, and of which part of the device.
//!
//! Memory: a few words per point. Nothing survives a restart but up to where counters have been told ([`Normaliser::resume`]).
//! Deliberately absent: time out of order is not sorted, and no value is ever repeated.

mod counters;
mod derived;
mod layout;
mod registers;
mod scaling;
mod stillness;

use crate::measure::{
    self, BootId, Checkpoint, Count, Counter, Event, EventKind, Missing, Mono, Outcome, Payload, Questionable, Raw,
    Reading, Sample, Stamp, Value,
};
use crate::spec::{DeviceId, DeviceIx, DeviceSpec, PointIx, PointSpec};
use counters::Serial;
use derived::DerivedPoints;
use layout::Layouts;
use stillness::Stillness;

/// The state of the room: what is remembered of each device.
#[derive(Debug)]
pub struct Normaliser {
    devices: Vec<Device>,
}

#[derive(Debug)]
struct Device {
    id: DeviceId,
    points: Vec<Point>,
    /// The point by which it tells itself from others.
    serial_at: Option<usize>,
    layouts: Layouts,
    /// Points that are worked out of others, if it has some.
    derived: Option<DerivedPoints>,
    stillness: Stillness,
    is_polled: bool,
    /// `None` before it is known.
    answering: Option<bool>,
}

#[derive(Debug)]
struct Point {
    spec: PointSpec,
    /// Frozen, in its source's judgement.
    stuck: bool,
    /// What is remembered of a counter of energy.
    counter: Option<Counter>,
    /// The number by which the device tells itself from others, in the one point that has it.
    serial: Option<Serial>,
}

impl Normaliser {
    /// Knows these devices, by their place in the list.
    #[must_use]
    pub fn new(devices: &[DeviceSpec]) -> Self {
        let point = |spec: &PointSpec, device: &DeviceSpec| Point {
            spec: spec.clone(),
            stuck: false,
            counter: spec.is_counter().then(|| counters::of(spec, device)),
            serial: counters::tells_serial(spec).then(Serial::default),
        };
        let device = |device: &DeviceSpec| Device {
            id: device.id.clone(),
            points: device.points.iter().map(|spec| point(spec, device)).collect(),
            serial_at: device.points.iter().position(counters::tells_serial),
            layouts: Layouts::new(device),
            derived: DerivedPoints::new(device),
            stillness: Stillness::new(device),
            is_polled: !device.groups.is_empty(),
            answering: None,
        };
        Self { devices: devices.iter().map(device).collect() }
    }

    /// The life before, in `boot` until now, has told the energy of registers up to where this says: their counters go on from
    /// there.
    pub fn resume(&mut self, checkpoint: &Checkpoint, boot: BootId, now: Stamp) {
        for ((device, point), base) in &checkpoint.registers {
            let device = self.devices.get_mut(usize::from(device.0));
            let point = device.and_then(|device| device.points.get_mut(usize::from(point.0)));
            if let Some(counter) = point.and_then(|point| point.counter.as_mut()) {
                counter.resume(base.value, now.mono, counters::unseen(base, boot, now));
            }
        }
    }

    /// Reads a sample: each reading goes to `out`, in the order of the device's points, those that are worked out last; the
    /// events it makes plain are returned. A sample of a device that is not in the plan says nothing.
    pub fn readings(&mut self, sample: &Sample, mut out: impl FnMut(Reading)) -> Vec<Event> {
        let mut events = Vec::new();
        let Some(device) = self.devices.get_mut(usize::from(sample.device.0)) else { return events };
        device.notice_answer(&sample.payload, &mut events);
        let mut noticed = Vec::new();
        device.stillness.begin(sample.at);
        if let Some(derived) = &mut device.derived {
            derived.begin(sample.at);
        }
        let mut tell = |point, (outcome, count): (Outcome, Option<Count>)| {
            if let Some(derived) = &mut device.derived {
                derived.note(point, &outcome);
            }
            out(Reading { device: sample.device, point: PointIx(point), at: sample.at, outcome, count });
        };
        match &sample.payload {
            Payload::Registers { block, words } => {
                for (ix, place) in device.layouts.of(block) {
                    let Some(point) = device.points.get_mut(usize::from(*ix)) else { continue };
                    let outcome = match words {
                        Err(why) => {
                            device.stillness.lose(*ix);
                            (Outcome::Missing(*why), None)
                        }
                        Ok(words) => {
                            let (Some(register), Some(own)) = (point.spec.register(), words.get(place.whole.clone()))
                            else {
                                continue;
                            };
                            let raw = registers::raw(register, place, words);
                            let of_words = || measure::fingerprint(own.iter().flat_map(|word| word.to_be_bytes()));
                            let fingerprint = raw.as_ref().map_or_else(of_words, scaling::fingerprint_of);
                            let is_frozen = device.stillness.is_frozen(*ix);
                            let read = point.read(raw.as_ref(), is_frozen, sample.at.mono, &mut noticed);
                            device.stillness.read(*ix, fingerprint, &read.0);
                            read
                        }
                    };
                    tell(*ix, outcome);
                }
            }
            Payload::Values(values) => {
                for (PointIx(ix), value) in values {
                    let Some(point) = device.points.get_mut(usize::from(*ix)) else { continue };
                    let outcome = match value {
                        Err(why) => {
                            device.stillness.lose(*ix);
                            (Outcome::Missing(*why), None)
                        }
                        Ok(raw) => {
                            let is_frozen = device.stillness.is_frozen(*ix);
                            let read = point.read(Some(raw), is_frozen, sample.at.mono, &mut noticed);
                            device.stillness.read(*ix, scaling::fingerprint_of(raw), &read.0);
                            read
                        }
                    };
                    tell(*ix, outcome);
                }
            }
            Payload::Silent(why) => {
                // What is worked out of others is missing as they are.
                let told = (0..).zip(&device.points).filter(|(_, point)| point.spec.derived().is_none());
                told.for_each(|(ix, _)| {
                    device.stillness.lose(ix);
                    tell(ix, (Outcome::Missing(*why), None));
                });
            }
            Payload::Noticed(kind) => {
                device.take_over(kind);
                // What happens to a bus happens to no single device.
                let device = kind.bus().is_none().then(|| device.id.clone());
                events.push(Event { device, kind: kind.clone() });
            }
            // Who stands there, and for which session, is the aggregator's affair.
            Payload::Vehicle(_) => {}
            Payload::Session(_) => {
                device.derived.iter_mut().for_each(DerivedPoints::clear);
                device.stillness.clear();
            }
        }
        device.work_out(sample, &mut noticed, out);
        device.notice_counters(noticed, sample.at.mono, &mut events);
        device.notice_frozen(&mut events);
        events
    }

    /// Whether a device is known to answer, at least in part.
    #[must_use]
    pub fn answering(&self, device: DeviceIx) -> Option<bool> {
        self.devices.get(usize::from(device.0)).and_then(|device| device.answering)
    }
}

impl Device {
    fn notice_answer(&mut self, payload: &Payload, events: &mut Vec<Event>) {
        if self.is_polled {
            match payload {
                Payload::Noticed(EventKind::DeviceSilent(_)) => self.answering = Some(false),
                Payload::Noticed(EventKind::DeviceAnswering | EventKind::DevicePartly { .. }) => {
                    self.answering = Some(true);
                }
                _ => {}
            }
            return;
        }
        let silent = match payload {
            // A refused block is an answer: the device is there.
            Payload::Registers { words: Err(Missing::Exception), .. } => return,
            Payload::Registers { words: Err(why), .. } | Payload::Silent(why) => Some(*why),
            Payload::Registers { words: Ok(_), .. } => None,
            Payload::Values(values) if values.iter().any(|(_, value)| value.is_ok()) => None,
            // One part of it may be silent while the others speak.
            Payload::Values(_) | Payload::Noticed(_) | Payload::Vehicle(_) | Payload::Session(_) => return,
        };
        if self.answering != Some(silent.is_none()) {
            self.answering = Some(silent.is_none());
            let kind = silent.map_or(EventKind::DeviceAnswering, EventKind::DeviceSilent);
            events.push(Event { device: Some(self.id.clone()), kind });
        }
    }

    /// A source that knows more of a point than its bits says itself that it stands still.
    fn take_over(&mut self, kind: &EventKind) {
        let (field, is_stuck) = match kind {
            EventKind::PointFrozen(field) => (field, true),
            EventKind::PointMoving(field) => (field, false),
            _ => return,
        };
        for point in self.points.iter_mut().filter(|point| point.spec.field == *field) {
            point.stuck = is_stuck;
        }
    }

    /// Tells the points that are worked out of those that were told.
    fn work_out(&mut self, sample: &Sample, noticed: &mut Vec<EventKind>, mut out: impl FnMut(Reading)) {
        let Self { derived: Some(derived), points, .. } = self else { return };
        let (device, at) = (sample.device, sample.at);
        derived.work_out(
            noticed,
            |ix, value, doubt, noticed| {
                Some(points.get_mut(usize::from(ix))?.read_derived(value, doubt, at.mono, noticed))
            },
            |ix, outcome, count| out(Reading { device, point: PointIx(ix), at, outcome, count }),
        );
    }

    /// What readings of this sample have shown of counters. Those of an exchanged meter begin anew.
    fn notice_counters(&mut self, noticed: Vec<EventKind>, at: Mono, events: &mut Vec<Event>) {
        let serial = self.serial_at.and_then(|ix| self.points.get(ix)?.serial.as_ref());
        let is_same = serial.is_some_and(|serial| serial.is_same_at(at));
        let is_in_doubt = serial.is_some_and(|serial| serial.is_in_doubt(at));
        let counters = self.points.iter_mut().filter_map(|point| point.counter.as_mut());
        if noticed.iter().any(|kind| matches!(kind, EventKind::MeterExchanged { .. })) {
            counters.for_each(Counter::exchange);
        } else if is_same {
            counters.for_each(Counter::is_same);
        } else {
            counters.for_each(|counter| counter.doubt(is_in_doubt));
        }
        events.extend(noticed.into_iter().map(|kind| Event { device: Some(self.id.clone()), kind }));
    }

    fn notice_frozen(&mut self, events: &mut Vec<Event>) {
        let Self { id, points, stillness, .. } = self;
        stillness.finish(|ix, is_frozen| {
            let Some(point) = points.get(usize::from(ix)) else { return };
            let field = point.spec.field.clone();
            let kind = if is_frozen { EventKind::PointFrozen(field) } else { EventKind::PointMoving(field) };
            events.push(Event { device: Some(id.clone()), kind });
        });
    }
}

impl Point {
    /// What a raw value says, and what has passed if it is a counter's; `None` is "not available". A value of a frozen point is
    /// kept, and doubted.
    fn read(
        &mut self,
        raw: Option<&Raw>,
        is_frozen: bool,
        at: Mono,
        noticed: &mut Vec<EventKind>,
    ) -> (Outcome, Option<Count>) {
        let outcome = raw.map_or(Outcome::Missing(Missing::Decode), |raw| scaling::outcome(&self.spec, raw));
        let Outcome::Good(value) = outcome else { return (outcome, None) };
        noticed.extend(self.serial.as_mut().and_then(|serial| serial.read(&value, at)));
        let count = match (&mut self.counter, &value) {
            (Some(counter), Value::Float(reading)) => Some(counter.read(*reading, at)),
            _ => None,
        };
        match count {
            Some(Count::Doubtful(why)) => return (Outcome::Questionable(value, why), count),
            Some(Count::Break(broken)) => noticed.push(counters::event(&self.spec.field, broken)),
            Some(Count::First | Count::On(_)) | None => {}
        }
        (
            if is_frozen || self.stuck {
                Outcome::Questionable(value, Questionable::Frozen)
            } else {
                Outcome::Good(value)
            },
            count,
        )
    }

    /// What a number says that was worked out of others. A counter takes no doubtful one for where it stands.
    fn read_derived(
        &mut self,
        value: f64,
        doubt: Option<Questionable>,
        at: Mono,
        noticed: &mut Vec<EventKind>,
    ) -> (Outcome, Option<Count>) {
        let raw = Raw::Float(value);
        let Some(doubt) = doubt else { return self.read(Some(&raw), false, at, noticed) };
        match scaling::outcome(&self.spec, &raw) {
            Outcome::Good(value) => (Outcome::Questionable(value, doubt), None),
            other => (other, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::measure::{ClockTrust, Missing, Stamp, Utc, Value};
    use crate::spec::{
        Aggregation, ByteOrder, Conversion, DeviceKind, Origin, RawKind, RegisterBlock, RegisterPoint, RegisterTable,
        Scaling, Unit, ValueType, WordOrder,
    };

    fn point(field: &str, address: u16, frozen_after: Option<Duration>) -> PointSpec {
        PointSpec {
            field: field.try_into().expect("a field"),
            unit: Unit::Kilowatt,
            value_type: ValueType::Float,
            aggregation: Aggregation::Mean,
            valid: Some(-100.0..=100.0),
            frozen_after,
            scaling: Scaling {
                conversion: Conversion { multiply: 1.0, divide: 10.0 },
                invert: true,
                ..Scaling::default()
            },
            origin: Origin::Register(RegisterPoint {
                unit: None,
                table: RegisterTable::Input,
                address,
                raw: RawKind::I16,
                byte_order: ByteOrder::Big,
                word_order: WordOrder::MswFirst,
                mask: None,
                not_available: vec![0x8000],
                scale: None,
            }),
        }
    }

    fn normaliser() -> Normaliser {
        let frozen_after = Some(Duration::from_secs(2));
        Normaliser::new(&[DeviceSpec {
            id: "meter".try_into().expect("a name"),
            kind: DeviceKind::Meter,
            profile: "test".to_owned(),
            points: vec![point("power_flow", 10, frozen_after), point("other", 12, None)].into(),
            groups: vec![],
        }])
    }

    fn sample(second: u64, words: Result<[i16; 3], Missing>) -> Sample {
        let words = words.map(|words| words.map(|w| u16::from_be_bytes(w.to_be_bytes())).to_vec());
        Sample {
            device: DeviceIx(0),
            at: Stamp { mono: Mono(second * 1_000_000_000), utc: Utc(0), trust: ClockTrust::Synced },
            payload: Payload::Registers {
                block: RegisterBlock { unit: None, table: RegisterTable::Input, start: 10, count: 3 },
                words,
            },
        }
    }

    fn read(normaliser: &mut Normaliser, sample: &Sample) -> (Vec<Outcome>, Vec<&'static str>) {
        let mut outcomes = Vec::new();
        let events = normaliser.readings(sample, |reading| outcomes.push(reading.outcome));
        (outcomes, events.iter().map(|event| event.kind.name()).collect())
    }

    #[test]
    fn raw_words_become_kilowatts_with_our_sign() {
        let (outcomes, events) = read(&mut normaliser(), &sample(1, Ok([72, 0, -5])));
        assert_eq!(outcomes, [Outcome::Good(Value::Float(-7.2)), Outcome::Good(Value::Float(0.5))]);
        assert_eq!(events, ["device_answering"]);
    }

    #[test]
    fn an_implausible_value_is_kept_and_doubted_and_an_unavailable_one_is_missing() {
        let (outcomes, _) = read(&mut normaliser(), &sample(1, Ok([1001, 0, i16::MIN])));
        assert_eq!(
            outcomes,
            [Outcome::Questionable(Value::Float(-100.1), Questionable::OutOfRange), Outcome::Missing(Missing::Decode)]
        );
    }

    #[test]
    fn silence_is_missing_for_every_point_and_one_event() {
        let mut normaliser = normaliser();
        read(&mut normaliser, &sample(1, Ok([1, 0, 1])));
        let (outcomes, events) = read(&mut normaliser, &sample(2, Err(Missing::Timeout)));
        assert_eq!(outcomes, [const { Outcome::Missing(Missing::Timeout) }; 2]);
        assert_eq!(events, ["device_silent"]);
        assert!(read(&mut normaliser, &sample(3, Err(Missing::Timeout))).1.is_empty());
        assert_eq!(read(&mut normaliser, &sample(4, Ok([1, 0, 1]))).1, ["device_answering"]);
    }

    #[test]
    fn a_point_that_stands_still_while_its_neighbour_moves_is_frozen_until_it_moves() {
        let mut normaliser = normaliser();
        for (second, neighbour) in (1..8).zip(1..) {
            assert!(!read(&mut normaliser, &sample(second, Ok([7, 0, neighbour]))).1.contains(&"point_frozen"));
        }
        assert_eq!(read(&mut normaliser, &sample(8, Ok([7, 0, 8]))).1, ["point_frozen"]);
        let (outcomes, _) = read(&mut normaliser, &sample(9, Ok([7, 0, 8])));
        assert!(matches!(outcomes[0], Outcome::Questionable(Value::Float(_), Questionable::Frozen)), "{outcomes:?}");
        for (second, own) in [(10, 8), (11, 9)] {
            assert!(read(&mut normaliser, &sample(second, Ok([own, 0, 8]))).1.is_empty());
        }
        assert_eq!(read(&mut normaliser, &sample(12, Ok([10, 0, 8]))).1, ["point_moving"]);
    }

    #[test]
    fn a_value_that_its_source_has_decoded_gets_the_same_scale_sign_range_and_suspicion() {
        let mut normaliser = normaliser();
        let mut payload = |second, payload| {
            let sample = Sample { payload, ..sample(second, Ok([0, 0, 0])) };
            read(&mut normaliser, &sample)
        };
        let values = |raw: [Raw; 2]| Payload::Values((0..).map(PointIx).zip(raw.map(Ok)).collect());
        let (outcomes, events) = payload(1, values([Raw::Integer(72), Raw::Float(1001.0)]));
        assert_eq!(
            outcomes,
            [Outcome::Good(Value::Float(-7.2)), Outcome::Questionable(Value::Float(-100.1), Questionable::OutOfRange)]
        );
        assert_eq!(events, ["device_answering"]);
        for second in 2..8_u32 {
            payload(second.into(), values([Raw::Integer(72), Raw::Float(second.into())]));
        }
        assert_eq!(payload(8, values([Raw::Integer(72), Raw::Float(8.0)])).1, ["point_frozen"]);
        let (outcomes, events) = payload(9, Payload::Silent(Missing::Stale));
        assert_eq!(outcomes, [const { Outcome::Missing(Missing::Stale) }; 2]);
        assert_eq!(events, ["device_silent"]);
        let stale = Payload::Values(vec![(PointIx(1), Err(Missing::Stale)), (PointIx(9), Err(Missing::Stale))]);
        assert_eq!(payload(10, stale), (vec![Outcome::Missing(Missing::Stale)], vec![]));
    }

    #[test]
    fn a_point_that_its_source_calls_frozen_is_doubted_until_its_source_says_otherwise() {
        let mut normaliser = normaliser();
        let mut payload = |payload| read(&mut normaliser, &Sample { payload, ..sample(1, Ok([0, 0, 0])) });
        let value = || Payload::Values(vec![(PointIx(0), Ok(Raw::Integer(72)))]);
        let field = crate::spec::FieldName::try_from("power_flow").expect("a field");
        assert_eq!(payload(Payload::Noticed(EventKind::PointFrozen(field.clone()))).1, ["point_frozen"]);
        assert!(matches!(payload(value()).0[..], [Outcome::Questionable(_, Questionable::Frozen)]));
        assert_eq!(payload(Payload::Noticed(EventKind::PointMoving(field))).1, ["point_moving"]);
        assert!(matches!(payload(value()).0[..], [Outcome::Good(_)]));
    }

    #[test]
    fn a_device_at_rest_is_not_frozen() {
        let mut normaliser = normaliser();
        for second in 1..20 {
            assert!(!read(&mut normaliser, &sample(second, Ok([0, 0, 0]))).1.contains(&"point_frozen"));
        }
    }
}
