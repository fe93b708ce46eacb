//! How the counters of a device are made: by what its profile says of their registers and of its power. Pure.

use std::sync::Arc;
use std::time::Duration;

use crate::measure::{
    BootId, ClockTrust, Counter, CounterBreak, CounterKind, EventKind, Mono, RegisterBase, Stamp, Value,
};
use crate::spec::{DeviceSpec, FieldName, Origin, PointSpec, RawKind, ValueType};

/// kW that a device can have, if its profile does not say less: the largest transformer of a depot.
const POWER_MAX_KW: f64 = 10_000.0;
/// kWh by which a counter may go on at once. Above the steps of coarse meters, below what a bill would notice.
const STEP_MAX_KWH: f64 = 10.0;
/// Powers of ten by which a device may scale a counter that says its own scale, or whose width nobody knows: from mWh to MWh.
const SCALES: std::ops::RangeInclusive<i32> = -6..=3;
/// For so long a device says another number before it is another device: a reading that is spoilt, or two units that answer by
/// turns, are none. It bounds the events, too: one in as long.
const SERIAL_STAYS: Duration = Duration::from_secs(5);

/// For so long a device that has said another number once may say it again, or its own: most are asked once a minute. Then its
/// counters are judged by themselves.
const SERIAL_DOUBTED: Duration = Duration::from_secs(5 + 60);

/// The counter of a point for which [`PointSpec::is_counter`] holds.
pub(super) fn of(spec: &PointSpec, device: &DeviceSpec) -> Counter {
    let power = device.points.roles().power.and_then(|ix| device.points.get(usize::from(ix.0))?.range());
    let power_kw = power.map_or(POWER_MAX_KW, |range| range.start().abs().max(range.end().abs()).min(POWER_MAX_KW));
    let count = spec.scaling.conversion.apply(1.0).abs();
    let (digit, ends) = match &spec.origin {
        Origin::Register(register) if register.scale.is_none() => {
            let bits: &[i32] = match register.raw {
                RawKind::U16 => &[16],
                RawKind::I16 => &[15, 16],
                RawKind::U32 => &[32],
                RawKind::I32 => &[31, 32],
                // Wider ones come to no end in the life of a meter; floats and decimals have none in bits.
                _ => &[],
            };
            let digit = if register.raw.is_integer() { count } else { 1.0 };
            (digit, bits.iter().map(|bits| 2_f64.powi(*bits) * count).collect())
        }
        Origin::Register(_) | Origin::SunSpec(_) => {
            (1.0, SCALES.map(|scale| 2_f64.powi(32) * 10_f64.powi(scale)).collect())
        }
        Origin::Signal(_) | Origin::Session(_) | Origin::Derived(_) => (1.0, Vec::new()),
    };
    Counter::new(CounterKind { hourly_max: power_kw, step_max: STEP_MAX_KWH.max(2.0 * digit), ends })
}

/// For so long nobody may have looked at a counter, where no clock can tell.
const UNSEEN_MAX: Duration = Duration::from_secs(86_400);

/// How long nobody has looked at a counter at the begin of a life, at most: by one clock of both lives, if there is one that can be
/// believed.
pub(super) fn unseen(base: &RegisterBase, boot: BootId, now: Stamp) -> Duration {
    let is_set = |trust| matches!(trust, ClockTrust::Synced | ClockTrust::Holdover);
    if base.boot == boot && !base.at.trust.is_of_source() {
        return now.mono.since(base.at.mono);
    }
    if is_set(now.trust) && base.at.trust != ClockTrust::Unsynced {
        return Duration::from_nanos(u64::try_from(now.utc.0.saturating_sub(base.at.utc.0)).unwrap_or(0));
    }
    UNSEEN_MAX
}

/// The event of a counter's break.
pub(super) fn event(field: &FieldName, CounterBreak { from, to, passed: _, reason }: CounterBreak) -> EventKind {
    EventKind::CounterBreak { field: field.clone(), from_milli: milli(from), to_milli: milli(to), reason }
}

#[allow(clippy::cast_possible_truncation, reason = "a counter within its range is below 10^12 thousandths")]
fn milli(value: f64) -> i64 {
    (value * 1000.0).round() as i64
}

/// Whether a point is the number by which a device tells itself from others.
pub(super) fn tells_serial(spec: &PointSpec) -> bool {
    matches!(spec.field.as_str(), "serial" | "serial_number") && spec.value_type != ValueType::Float
}

/// A device's own number, as last believed.
#[derive(Debug, Default)]
pub(super) struct Serial {
    known: Option<Arc<str>>,
    /// What it says instead, and since when.
    other: Option<(Arc<str>, Mono)>,
    /// When it said what is known last.
    same_at: Option<Mono>,
}

impl Serial {
    /// Whether another device is there now; not at the first look. At most one event in [`SERIAL_STAYS`].
    pub(super) fn read(&mut self, value: &Value, at: Mono) -> Option<EventKind> {
        let now: Arc<str> = match value {
            Value::Text(text) => Arc::clone(text),
            Value::Integer(number) => number.to_string().into(),
            Value::Float(_) => return None,
        };
        // A device that starts has not read its number yet.
        if now.chars().all(|c| c == '0' || c == '\0' || c.is_whitespace()) {
            return None;
        }
        let is_known = *self.known.get_or_insert_with(|| Arc::clone(&now)) == now;
        if is_known {
            (self.other, self.same_at) = (None, Some(at));
            return None;
        }
        match &self.other {
            Some((other, since)) if *other == now => {
                if at.since(*since) < SERIAL_STAYS {
                    return None;
                }
            }
            _ => {
                self.other = Some((now, at));
                return None;
            }
        }
        self.other = None;
        let before = self.known.replace(Arc::clone(&now))?;
        Some(EventKind::MeterExchanged { before, after: now })
    }

    /// Whether it says another number, and has not for long enough: no longer than [`SERIAL_DOUBTED`].
    pub(super) fn is_in_doubt(&self, now: Mono) -> bool {
        self.other.as_ref().is_some_and(|(_, since)| now.since(*since) <= SERIAL_DOUBTED)
    }

    /// Whether the device said at this moment that it is the one it was.
    pub(super) fn is_same_at(&self, at: Mono) -> bool {
        self.same_at == Some(at)
    }
}

#[cfg(test)]
mod tests {
    use crate::measure::{
        ClockTrust, Event, EventKind, Mono, Outcome, Payload, Questionable, Raw, Sample, Stamp, Utc, Value,
    };
    use crate::normalise::Normaliser;
    use crate::spec::{
        Aggregation, ByteOrder, Conversion, DeviceIx, DeviceKind, DeviceSpec, Origin, PointIx, PointSpec, RawKind,
        RegisterPoint, RegisterTable, Scaling, Unit, ValueType, WordOrder,
    };

    fn point(field: &str, unit: Unit, value_type: ValueType, raw: RawKind, divide: f64) -> PointSpec {
        PointSpec {
            field: field.try_into().expect("a field"),
            unit,
            value_type,
            aggregation: Aggregation::usual(value_type, unit),
            valid: None,
            frozen_after: None,
            scaling: Scaling { conversion: Conversion { multiply: 1.0, divide }, ..Scaling::default() },
            origin: Origin::Register(RegisterPoint {
                unit: None,
                table: RegisterTable::Input,
                address: 0,
                raw,
                byte_order: ByteOrder::Big,
                word_order: WordOrder::MswFirst,
                mask: None,
                not_available: vec![],
                scale: None,
            }),
        }
    }

    /// A counter of 32 bits in Wh, one of floats in kWh, and the meter's number.
    fn meter() -> Normaliser {
        let energy = |field, raw, divide| point(field, Unit::KilowattHour, ValueType::Float, raw, divide);
        let points = vec![
            energy("energy_import", RawKind::U32, 1000.0),
            energy("energy_export", RawKind::F32, 1.0),
            point("serial_number", Unit::One, ValueType::Integer, RawKind::U32, 1.0),
        ];
        Normaliser::new(&[DeviceSpec {
            id: "grid".try_into().expect("a name"),
            kind: DeviceKind::Meter,
            profile: "test".to_owned(),
            points: points.into(),
            groups: vec![],
        }])
    }

    /// What a reading of a point is, a second after the one before, and the events but that the device answers.
    fn read(meter: &mut Normaliser, second: u64, point: u16, raw: Raw) -> (Outcome, Vec<EventKind>) {
        let payload = Payload::Values(vec![(PointIx(point), Ok(raw))]);
        let at = Stamp { mono: Mono(second * 1_000_000_000), utc: Utc(0), trust: ClockTrust::Synced };
        let mut outcomes = Vec::new();
        let sample = Sample { device: DeviceIx(0), at, payload };
        let events = meter.readings(&sample, |reading| outcomes.push(reading.outcome));
        let kinds =
            events.into_iter().map(|Event { kind, .. }| kind).filter(|kind| *kind != EventKind::DeviceAnswering);
        (outcomes.remove(0), kinds.collect())
    }

    fn good(value: f64) -> Outcome {
        Outcome::Good(Value::Float(value))
    }

    #[test]
    fn a_glitch_is_marked_with_its_own_reason_and_the_next_reading_is_good() {
        let mut meter = meter();
        assert_eq!(read(&mut meter, 1, 0, Raw::Integer(12_345_600)), (good(12_345.6), vec![]));
        let zero = Outcome::Questionable(Value::Float(0.0), Questionable::CounterZero);
        assert_eq!(read(&mut meter, 2, 0, Raw::Integer(0)), (zero, vec![]));
        assert_eq!(read(&mut meter, 3, 0, Raw::Integer(12_345_700)), (good(12_345.7), vec![]));
    }

    #[test]
    fn a_roll_over_of_bits_is_good_and_an_event_once_it_is_confirmed() {
        let mut meter = meter();
        read(&mut meter, 1, 0, Raw::Integer(u32::MAX.into()));
        let doubt = Outcome::Questionable(Value::Float(0.099), Questionable::CounterBackwards);
        assert_eq!(read(&mut meter, 2, 0, Raw::Integer(99)), (doubt, vec![]));
        let (outcome, events) = read(&mut meter, 3, 0, Raw::Integer(100));
        let broken = EventKind::CounterBreak {
            field: "energy_import".try_into().expect("a field"),
            from_milli: 4_294_967_295,
            to_milli: 100,
            reason: crate::measure::BreakReason::RolledOver,
        };
        assert_eq!((outcome, events), (good(0.1), vec![broken]));
    }

    /// No profile says how many digits a meter has: a power of ten is as good a place to be exchanged at as any other.
    #[test]
    fn a_power_of_ten_is_no_end_of_a_counter() {
        for (kwh, silent) in [(6_000.0, 3_600), (9_995.0, 1), (99_999.875, 1), (99_999.875, 3_600)] {
            let mut meter = meter();
            read(&mut meter, 1, 1, Raw::Float(kwh));
            let zero = Outcome::Questionable(Value::Float(0.0), Questionable::CounterZero);
            assert_eq!(read(&mut meter, 1 + silent, 1, Raw::Float(0.0)), (zero, vec![]), "{kwh}");
            assert_eq!(read(&mut meter, 2 + silent, 1, Raw::Float(kwh + 0.25)), (good(kwh + 0.25), vec![]), "{kwh}");
        }
    }

    #[test]
    fn an_exchanged_meter_is_told_by_its_number_and_its_counters_begin_anew() {
        let mut meter = meter();
        read(&mut meter, 1, 2, Raw::Integer(1_234_567));
        read(&mut meter, 1, 0, Raw::Integer(12_345_600));
        for second in 2..7 {
            assert_eq!(read(&mut meter, second, 2, Raw::Integer(7_654_321)).1, [], "{second}");
        }
        let exchanged = EventKind::MeterExchanged { before: "1234567".into(), after: "7654321".into() };
        assert_eq!(read(&mut meter, 7, 2, Raw::Integer(7_654_321)).1, [exchanged]);
        let (outcome, events) = read(&mut meter, 8, 0, Raw::Integer(1_000));
        assert_eq!(outcome, good(1.0));
        let broken = EventKind::CounterBreak {
            field: "energy_import".try_into().expect("a field"),
            from_milli: 12_345_600,
            to_milli: 1_000,
            reason: crate::measure::BreakReason::MeterExchanged,
        };
        assert_eq!(events, [broken]);
    }

    /// It was in doubt for ever, and no energy was told of it any more.
    #[test]
    fn a_counter_at_another_level_is_believed_though_a_number_that_was_said_once_is_never_said_again() {
        let mut meter = meter();
        read(&mut meter, 1, 2, Raw::Integer(1_234_567));
        read(&mut meter, 1, 0, Raw::Integer(12_345_600));
        read(&mut meter, 2, 2, Raw::Integer(7_654_321));
        let doubt = Outcome::Questionable(Value::Float(1.0), Questionable::CounterBackwards);
        for second in 3..=67 {
            assert_eq!(read(&mut meter, second, 0, Raw::Integer(1_000)), (doubt.clone(), vec![]), "{second}");
        }
        let events: Vec<_> = (68..80).flat_map(|second| read(&mut meter, second, 0, Raw::Integer(1_000)).1).collect();
        let broken = EventKind::CounterBreak {
            field: "energy_import".try_into().expect("a field"),
            from_milli: 12_345_600,
            to_milli: 1_000,
            reason: crate::measure::BreakReason::AnotherLevel,
        };
        assert_eq!(events, [broken]);
        assert_eq!(read(&mut meter, 80, 0, Raw::Integer(1_100)), (good(1.1), vec![]));
    }

    /// After an hour of silence another meter stands where the old one could have come to: nothing was told of its counters.
    #[test]
    fn an_exchanged_meter_that_stands_higher_than_the_old_one_is_a_break() {
        let mut meter = meter();
        read(&mut meter, 1, 0, Raw::Integer(1_000_000));
        read(&mut meter, 1, 2, Raw::Integer(1_234_567));
        for second in 3_600..3_605 {
            assert_eq!(read(&mut meter, second, 0, Raw::Integer(3_000_000)), (good(3_000.0), vec![]), "{second}");
            assert_eq!(read(&mut meter, second, 2, Raw::Integer(7_654_321)).1, [], "{second}");
        }
        assert_eq!(read(&mut meter, 3_605, 2, Raw::Integer(7_654_321)).1.len(), 1);
        let broken = EventKind::CounterBreak {
            field: "energy_import".try_into().expect("a field"),
            from_milli: 1_000_000,
            to_milli: 3_000_100,
            reason: crate::measure::BreakReason::MeterExchanged,
        };
        assert_eq!(read(&mut meter, 3_606, 0, Raw::Integer(3_000_100)), (good(3_000.1), vec![broken]));
        assert_eq!(read(&mut meter, 3_607, 0, Raw::Integer(3_000_200)), (good(3_000.2), vec![]));
    }

    #[test]
    fn a_meter_that_says_the_same_number_after_an_hour_has_counted_what_it_says() {
        let mut meter = meter();
        for (second, energy) in [(1, 1_000_000), (3_600, 3_000_000), (3_601, 3_000_100)] {
            assert_eq!(read(&mut meter, second, 0, Raw::Integer(energy)).1, [], "{second}");
            assert_eq!(read(&mut meter, second, 2, Raw::Integer(1_234_567)).1, [], "{second}");
        }
    }

    /// It was two exchanges, and the zeros in between were good.
    #[test]
    fn a_number_and_counters_that_are_zero_while_a_device_starts_are_no_exchange() {
        let mut meter = meter();
        read(&mut meter, 1, 2, Raw::Integer(1_234_567));
        read(&mut meter, 1, 0, Raw::Integer(12_345_600));
        let zero = Outcome::Questionable(Value::Float(0.0), Questionable::CounterZero);
        for second in 2..32 {
            assert_eq!(read(&mut meter, second, 2, Raw::Integer(0)).1, [], "{second}");
            assert_eq!(read(&mut meter, second, 0, Raw::Integer(0)), (zero.clone(), vec![]), "{second}");
        }
        assert_eq!(read(&mut meter, 32, 2, Raw::Integer(1_234_567)).1, []);
        assert_eq!(read(&mut meter, 32, 0, Raw::Integer(12_345_700)), (good(12_345.7), vec![]));
    }

    #[test]
    fn two_units_that_answer_by_turns_are_no_exchange_and_make_no_events() {
        let mut meter = meter();
        for second in 1..200_u64 {
            let (number, energy) = if second % 4 < 2 { (111, 6_000_000) } else { (222, 3_000_000) };
            assert_eq!(read(&mut meter, second, 2, Raw::Integer(number)).1, [], "{second}");
            assert_eq!(read(&mut meter, second, 0, Raw::Integer(energy)).1, [], "{second}");
        }
    }

    #[test]
    fn a_number_that_is_empty_or_of_zeros_alone_is_none() {
        for none in ["", "  ", "\0\0", "0", "00000000"] {
            let mut serial = super::Serial::default();
            let mut tell =
                |text: &str, second: u64| serial.read(&Value::Text(text.into()), Mono(second * 1_000_000_000));
            assert_eq!(tell("A1", 1), None);
            assert!((2..60).all(|second| tell(none, second).is_none()), "{none:?}");
            assert!((60..90).all(|second| tell("A1", second).is_none()), "{none:?}");
        }
    }

    #[test]
    fn what_is_out_of_range_says_nothing_of_where_a_counter_stands() {
        let mut meter = meter();
        read(&mut meter, 1, 1, Raw::Float(500.0));
        for second in 2..20 {
            let (outcome, _) = read(&mut meter, second, 1, Raw::Float(-1.0));
            assert!(matches!(outcome, Outcome::Questionable(_, Questionable::OutOfRange)), "{outcome:?}");
        }
        assert_eq!(read(&mut meter, 21, 1, Raw::Float(500.5)), (good(500.5), vec![]));
    }

    #[test]
    fn after_a_start_the_first_reading_is_believed_whatever_it_is() {
        assert_eq!(read(&mut meter(), 1, 0, Raw::Integer(0)), (good(0.0), vec![]));
    }
}
