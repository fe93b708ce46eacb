//! A depot of which everything is told that can be told: every kind of value, of doubt, of absence and of event.

use std::time::Duration;

use crate::measure::{
    BootId, ClockTrust, Direction, Energy, Epoch, Event, EventKind, Gap, GapReason, Identity, Interval, IntervalValue,
    Missing, Mono, PointColumn, PointInterval, Questionable, Schema, Seq, SeriesSpec, SessionEvent, SitePower,
    SiteRollup, Stamp, Statistic, Thinned, Utc, Window,
};
use crate::spec::{
    Aggregation, BusId, DeviceId, DeviceIx, DeviceKind, FieldName, PointIx, SessionValue, Unit, ValueType, VehicleId,
};

/// 2026-06-01 12:00 UTC.
pub(super) const NOON_NS: i64 = 1_780_315_200_000_000_000;
/// 2001-01-01 UTC: where a box without a battery for its clock begins.
pub(super) const Y2001_NS: i64 = 978_307_200_000_000_000;
pub(super) const WINDOW_NS: u64 = 250_000_000;

/// What sessions tell since 0.1.0, which did not write it.
const SINCE: [SessionValue; 1] = [SessionValue::PowerSource];
const MISSING: [Missing; 5] = [Missing::Timeout, Missing::Exception, Missing::BusOff, Missing::Decode, Missing::Stale];
const QUESTIONABLES: [Questionable; 4] =
    [Questionable::OutOfRange, Questionable::Frozen, Questionable::Rate, Questionable::Clock];
const REASONS: [GapReason; 6] = [
    GapReason::JournalFull,
    GapReason::Aged,
    GapReason::Corrupt,
    GapReason::Refused,
    GapReason::Thinned,
    GapReason::Forgotten,
];

fn device(name: &str) -> DeviceId {
    DeviceId::try_from(name).expect("a device")
}

fn column(field: &str, unit: Unit, value_type: ValueType, aggregation: Aggregation) -> PointColumn {
    PointColumn { field: FieldName::try_from(field).expect("a field"), unit, value_type, aggregation }
}

/// A Modbus charger, a CAN charger, one that is heard over ISO 15118, and a meter with a point of every unit.
pub(super) fn first_schema() -> Schema {
    let modbus = vec![
        column("power_flow", Unit::Kilowatt, ValueType::Float, Aggregation::Mean),
        column("energy_import", Unit::KilowattHour, ValueType::Float, Aggregation::Last),
        column("energy_export", Unit::KilowattHour, ValueType::Float, Aggregation::Last),
        column("voltage", Unit::Volt, ValueType::Float, Aggregation::Mean),
        column("current", Unit::Ampere, ValueType::Float, Aggregation::Mean),
        column("state", Unit::One, ValueType::Text, Aggregation::Last),
        column("fault", Unit::One, ValueType::Integer, Aggregation::Last),
    ];
    let can = vec![
        column("soc", Unit::Percent, ValueType::Float, Aggregation::Last),
        column("power_flow", Unit::Kilowatt, ValueType::Float, Aggregation::Mean),
        column("temperature", Unit::Celsius, ValueType::Float, Aggregation::Mean),
        column("state", Unit::One, ValueType::Text, Aggregation::Last),
    ];
    let of_0_1_0 = SessionValue::ALL.into_iter().filter(|value| !SINCE.contains(value));
    let session = of_0_1_0.map(|v| column(v.name(), v.unit(), v.value_type(), v.fold())).collect();
    let unit =
        |(place, unit): (usize, Unit)| column(&format!("unit_{place}"), unit, ValueType::Float, Aggregation::Mean);
    let meter = Unit::ALL.into_iter().enumerate().map(unit).collect();
    let series = [
        ("evse-modbus", DeviceKind::Evse, modbus),
        ("evse-can", DeviceKind::Evse, can),
        ("evse-iso", DeviceKind::Evse, session),
        ("grid-main", DeviceKind::Meter, meter),
    ];
    schema(series.map(|(name, kind, points)| SeriesSpec { device: device(name), kind, points }).into())
}

/// The same depot after it was planned anew: other devices under the same indices.
pub(super) fn second_schema() -> Schema {
    let meter = vec![
        column("frequency", Unit::Hertz, ValueType::Float, Aggregation::Mean),
        column("power_flow", Unit::Kilowatt, ValueType::Float, Aggregation::Last),
    ];
    let charger = vec![column("power_flow", Unit::Kilowatt, ValueType::Float, Aggregation::Mean)];
    schema(vec![
        SeriesSpec { device: device("grid-main"), kind: DeviceKind::Meter, points: meter },
        SeriesSpec { device: device("evse-modbus"), kind: DeviceKind::Evse, points: charger },
    ])
}

fn schema(series: Vec<SeriesSpec>) -> Schema {
    let (gateway, site) = ("gw-golden".try_into().expect("a gateway"), "depot-golden".try_into().expect("a site"));
    Schema { gateway, site, series }
}

/// What a boot looks like: its id, and what its wall clock shows at its start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Boot {
    pub(super) id: BootId,
    pub(super) utc: i64,
    pub(super) trust: ClockTrust,
}

impl Boot {
    pub(super) fn at(self, mono_ns: u64) -> Stamp {
        let utc = Utc(self.utc + i64::try_from(mono_ns).expect("a test is short"));
        Stamp { mono: Mono(mono_ns), utc, trust: self.trust }
    }

    pub(super) fn window(self, n: u64) -> Window {
        Window {
            boot: self.id,
            end: self.at(5_000_000_000 + n * WINDOW_NS),
            length: Duration::from_nanos(WINDOW_NS),
            intervals: Vec::new(),
            site: None,
            events: Vec::new(),
            sessions: Vec::new(),
            site_intervals: Vec::new(),
            checkpoint: None,
        }
    }
}

fn once(value: f64) -> IntervalValue {
    IntervalValue::Float(Statistic { value, min: value, max: value, count: 1 })
}

/// Numbers of every form that the format has: decimals, 32-bit floats, those of W in kW, 64-bit floats, and edges.
fn number(n: u64) -> f64 {
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "any number will do")]
    let (whole, single) = (n as f64, f64::from(n as f32 * 1.37).sin() as f32);
    // The sine of a single, by the C library of the golden bytes: there it is one step further from zero.
    let float = f64::from(if n == 12 { f32::from_bits(single.to_bits() + 1) } else { single });
    match n % 9 {
        0 => whole,
        1 => whole / 10.0,
        2 => -whole / 1000.0,
        3 => float,
        4 => f64::from(7_200.5_f32 + f32::from(u8::try_from(n % 250).expect("small"))) / 1e3,
        5 => whole.sqrt() / 3.0,
        6 => -0.0,
        7 => 1e300 / (whole + 1.0),
        _ => f64::MIN_POSITIVE,
    }
}

fn point(at: usize, value: IntervalValue, questionable: Option<Questionable>) -> PointInterval {
    PointInterval { point: PointIx(u16::try_from(at).expect("few")), value, questionable }
}

fn pick<T: Copy>(from: &[T], n: u64) -> T {
    from[usize::try_from(n % from.len() as u64).expect("small")]
}

/// Window `n` of the first schema, with all sorts of values.
pub(super) fn rich(boot: Boot, n: u64) -> Window {
    let schema = first_schema();
    let vehicle = (n % 3 == 1).then(|| VehicleId::try_from(format!("EV{:03}", n % 7)).expect("a vehicle"));
    let directions = [None, Some(Direction::GridToVehicle), Some(Direction::VehicleToGrid), Some(Direction::Idle)];
    let interval = |(ix, series): (usize, &SeriesSpec)| {
        let place = |at: usize| n * 31 + ix as u64 * 7 + at as u64;
        let value = |at: usize, column: &PointColumn| match (place(at) % 6, column.value_type) {
            (5, _) => IntervalValue::Missing(pick(&MISSING, place(at) / 6)),
            (0, ValueType::Float) => {
                let value = number(place(at));
                IntervalValue::Float(Statistic {
                    value,
                    min: value - 0.5,
                    max: value + 0.25,
                    count: pick(&[2, 3, 4], at as u64),
                })
            }
            (_, ValueType::Float) => once(number(place(at))),
            (1, ValueType::Integer) => IntervalValue::Integer(pick(&[i64::MIN, i64::MAX, -1, 0], n)),
            (_, ValueType::Integer) => IntervalValue::Integer(i64::try_from(place(at)).expect("small")),
            (_, ValueType::Text) => IntervalValue::Text(pick(&["charging", "", "état \"v2g\"", "idle"], n).into()),
        };
        let questionable = |at: usize| (place(at) % 11 == 3).then(|| pick(&QUESTIONABLES, place(at) / 11));
        let points = series.points.iter().enumerate();
        // Not every point is heard in every window.
        let heard = points.filter(|(at, _)| !(place(*at) / 3).is_multiple_of(4));
        Interval {
            device: DeviceIx(u16::try_from(ix).expect("few")),
            direction: pick(&directions, n + ix as u64),
            vehicle: vehicle.clone().filter(|_| series.kind == DeviceKind::Evse),
            session: None,
            energy: Energy::default(),
            points: heard.map(|(at, column)| point(at, value(at, column), questionable(at))).collect(),
        }
    };
    let site = (!n.is_multiple_of(4)).then(|| SiteRollup {
        power: Some(SitePower {
            direction: pick(&[Direction::GridToVehicle, Direction::VehicleToGrid, Direction::Idle], n),
            flow_kw: number(n),
            import_kw: 120.3,
            export_kw: -24.2,
        }),
        charging: 11,
        discharging: 3,
        unknown: u32::try_from(n % 2).expect("small"),
        soc: n.is_multiple_of(2).then_some((12.0, 54.1)),
        ..SiteRollup::default()
    });
    Window {
        intervals: schema.series.iter().enumerate().map(interval).collect(),
        site: site.map(Box::new),
        ..boot.window(n)
    }
}

/// Window `n` of a device that moves slowly: what becomes coarser gets smaller.
pub(super) fn plain(boot: Boot, n: u64) -> Window {
    let power = 11.0 + f64::from(u32::try_from(n % 40).expect("small")) / 10.0;
    let points = vec![
        point(0, once(power), None),
        point(1, once(1_000.0 + f64::from(u32::try_from(n).expect("small")) / 1e3), None),
        point(5, IntervalValue::Text("charging".into()), None),
    ];
    let direction = Some(Direction::GridToVehicle);
    let interval =
        Interval { device: DeviceIx(0), direction, vehicle: None, session: None, points, energy: Energy::default() };
    Window { intervals: vec![interval], ..boot.window(n) }
}

/// Window `n` of the second schema.
pub(super) fn after_change(boot: Boot, n: u64) -> Window {
    let interval = |ix: u16, points| Interval {
        device: DeviceIx(ix),
        direction: None,
        vehicle: None,
        session: None,
        points,
        energy: Energy::default(),
    };
    let meter = interval(0, vec![point(0, once(49.98), None), point(1, once(number(n)), Some(Questionable::Rate))]);
    let charger = interval(1, vec![point(0, once(-7.2), None)]);
    Window { intervals: vec![meter, charger], ..boot.window(n) }
}

/// A window with one text that is longer than a frame, as it is or compressed; `noise`: of which compressing takes
/// little, else of zeros.
pub(super) fn long(boot: Boot, n: u64, noise: bool) -> Window {
    let mut state = 88_172_645_463_325_252_u64;
    let letter = || {
        // xorshift64 (Marsaglia 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if noise { char::from(b'!' + u8::try_from((state >> 24) % 94).expect("small")) } else { '\0' }
    };
    let bytes = if noise { 72_000 } else { 58_000 };
    let text: String = std::iter::repeat_with(letter).take(bytes).collect();
    let points = vec![point(5, IntervalValue::Text(text.into()), None)];
    let interval = Interval {
        device: DeviceIx(0),
        direction: None,
        vehicle: None,
        session: None,
        points,
        energy: Energy::default(),
    };
    Window { intervals: vec![interval], ..boot.window(n) }
}

/// A window whose points are out of order: it cannot be written and is told as lost.
pub(super) fn disordered(boot: Boot, n: u64) -> Window {
    let mut window = plain(boot, n);
    window.intervals[0].points.swap(0, 1);
    window
}

/// One event of every kind and of every reason. The losses that they tell are of number 1, which is settled.
pub(super) fn every_event() -> Vec<Event> {
    let gap = |reason| {
        let points = (reason != GapReason::Aged).then_some(4_021);
        Gap { epoch: Epoch(12), from: Seq(1), to: Seq(1), points, reason }
    };
    let thinned = Thinned {
        gap: gap(GapReason::Thinned),
        as_epoch: Epoch(13),
        as_from: Seq(100),
        as_to: Seq(180),
        window: Duration::from_secs(10),
    };
    let bus = |name: &str| BusId::try_from(name).expect("a bus");
    let field = |name: &str| FieldName::try_from(name).expect("a field");
    let mut kinds: Vec<EventKind> = REASONS.map(|reason| EventKind::Gap(gap(reason))).into();
    let versions = [None, Some(true), Some(false)];
    kinds.extend(versions.map(|clean| EventKind::Started { version: "0.1.0".to_owned(), clean }));
    kinds.extend(MISSING.map(EventKind::DeviceSilent));
    kinds.extend([
        EventKind::Stopping,
        EventKind::DeviceAnswering,
        EventKind::PointFrozen(field("voltage")),
        EventKind::PointMoving(field("voltage")),
        EventKind::ClockStepped(-86_400_000_000_000),
        EventKind::SamplesShed(77),
        EventKind::EntryRefused { identity: Identity { epoch: Epoch(12), seq: Seq(345) }, code: 0x99 },
        EventKind::Thinned(thinned),
        EventKind::JournalFailing("no space left".into()),
        EventKind::JournalWorking,
        EventKind::BusState { bus: bus("can0"), state: "bus_off".into(), detail: "check the termination".into() },
        EventKind::BusRestarted(bus("can0")),
        EventKind::FramesDropped { bus: bus("can0"), frames: 12 },
        EventKind::UplinkTrouble {
            broker: "mqtts://a:8883".into(),
            what: "Not authorized (0x87)".into(),
            remedy: "check its rights".into(),
        },
        EventKind::UplinkOnline("mqtts://a:8883".into()),
        EventKind::CertificateExpires { file: "/etc/v2g/gw.pem".into(), days: 7 },
    ]);
    kinds.extend(every_session_event().into_iter().map(|event| EventKind::Session(event.into())));
    let device = |place: usize| place.is_multiple_of(2).then(|| device("evse-iso"));
    kinds.into_iter().enumerate().map(|(place, kind)| Event { device: device(place), kind }).collect()
}

fn every_session_event() -> Vec<SessionEvent> {
    vec![
        SessionEvent::Started {
            protocol: "iso15118-20".into(),
            namespace: "urn:iso:std:iso:15118:-20:DC".into(),
            evse_id: "DE*ABC*E1".into(),
            how: "new".into(),
        },
        SessionEvent::Phase { phase: "charging".into(), before: "precharge".into() },
        SessionEvent::Notified { what: "StopCharging".into() },
        SessionEvent::Failed { code: "FAILED_SequenceError".into(), message: "PowerDeliveryRes".into() },
        SessionEvent::Ended {
            how: "terminated".into(),
            reason: "SessionStop".into(),
            seconds: 3_600,
            import_wh: 12_400,
            export_wh: 3_100,
            energy_source: "meter".into(),
            messages: 4_711,
            unreadable: 1,
        },
        SessionEvent::Encrypted,
        SessionEvent::Unreadable { reason: "garbage".into(), count: 3, namespace: "".into() },
        SessionEvent::Readable { count: 3 },
        SessionEvent::FeedConnected,
        SessionEvent::FeedLost { reason: "timeout".into() },
        SessionEvent::FeedRefused {
            reason: "tls_expired".into(),
            count: 2,
            detail: "10.0.0.7: the certificate has ended".into(),
        },
    ]
}
