//! Depots and windows for tests.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use tokio::sync::watch;

use crate::journal::line::{Command, Inbox, JournalHandle, Lease, Line};
use crate::journal::open::Journal;
use crate::journal::report::Progress;
use crate::journal::settings::Settings;
use crate::measure::{
    BootId, ChargingSession, ClockTrust, Direction, Energy, EnergyDelta, EnergySource, Entry, Epoch, Event, EventKind,
    Gap, GapReason, Identity, Interval, IntervalValue, Missing, Mono, OfSession, PointColumn, PointInterval,
    Questionable, Schema, Seq, SeriesSpec, SessionEvent, SessionKnownBy, SessionState, SessionTime, SitePower,
    SiteRollup, Stamp, Statistic, Utc, WhenFull, Window, Words,
};
use crate::spec::{
    Aggregation, DeviceId, DeviceIx, DeviceKind, FieldName, GatewayId, PointIx, SessionId, SiteId, Unit, ValueType,
    VehicleId,
};

/// One that is made in this directory, by the default rules and with no wait for the clock.
pub(crate) fn small_journal(dir: &Path) -> Journal {
    let settings = Settings {
        dir: dir.to_owned(),
        bytes_max: 16 << 20,
        free_min: 0,
        age_max: Duration::from_secs(3600),
        commit_interval: Duration::from_millis(20),
        bytes_per_day_max: None,
        runtime_dir: None,
        time_wait: Duration::ZERO,
        when_full: WhenFull::DropOldest,
    };
    let now = Stamp { mono: Mono(0), utc: Utc(0), trust: ClockTrust::Unsynced };
    Journal::open(settings, depot_schema("gw-01", 0, 0), BootId([7; 16]), now, Arc::default()).expect("a journal")
}

/// 2026-06-01 12:00 UTC.
pub(super) const NOON_NS: i64 = 1_780_315_200_000_000_000;

pub(super) fn stamp(mono_ns: u64) -> Stamp {
    let utc = NOON_NS + i64::try_from(mono_ns).expect("a test is short");
    Stamp { mono: Mono(mono_ns), utc: Utc(utc), trust: ClockTrust::Synced }
}

pub(crate) fn depot_schema(gateway: &str, devices: u16, points: u16) -> Schema {
    let column = |i: u16| PointColumn {
        field: FieldName::try_from(format!("power_flow_l{i}")).expect("a field name"),
        unit: Unit::Kilowatt,
        value_type: ValueType::Float,
        aggregation: Aggregation::Mean,
    };
    let series = |i: u16| SeriesSpec {
        device: DeviceId::try_from(format!("evse-{i:03}")).expect("a device id"),
        kind: DeviceKind::Evse,
        points: (0..points).map(column).collect(),
    };
    Schema {
        gateway: GatewayId::try_from(gateway).expect("a gateway id"),
        site: SiteId::try_from("depot-a").expect("a site id"),
        series: (0..devices).map(series).collect(),
    }
}

#[allow(clippy::cast_possible_truncation, reason = "values that look like a meter's, whatever n is")]
/// The `n`-th window of a depot of 250 ms windows, one reading per point.
pub(crate) fn depot_window(devices: u16, points: u16, n: u64) -> Window {
    let value = |device: u16, point: u16| {
        let tenths = f64::from(u32::from(device) * 1_009 + u32::from(point) * 331) + f64::from(n as u32 % 997);
        match point % 4 {
            0 => tenths / 1e4,
            1 => (2_300.0 + tenths % 50.0) / 10.0,
            2 => f64::from((tenths / 7.0) as f32),
            _ => tenths.trunc(),
        }
    };
    let point = |device, point| {
        let value = value(device, point);
        let value = IntervalValue::Float(Statistic { value, min: value, max: value, count: 1 });
        PointInterval { point: PointIx(point), value, questionable: None }
    };
    let interval = |device: u16| Interval {
        device: DeviceIx(device),
        direction: Some(Direction::GridToVehicle),
        vehicle: device.is_multiple_of(2).then(|| VehicleId::try_from(format!("EV{device:03}")).expect("a vehicle")),
        session: None,
        energy: Energy::default(),
        points: (0..points).map(|p| point(device, p)).collect(),
    };
    Window {
        boot: BootId([7; 16]),
        end: stamp(n * 250_000_000),
        length: Duration::from_millis(250),
        intervals: (0..devices).map(interval).collect(),
        site: None,
        events: Vec::new(),
        sessions: Vec::new(),
        site_intervals: Vec::new(),
        checkpoint: None,
    }
}

/// A session that began at 16:00 and has charged 0.1 kWh for a minute.
pub(crate) fn charging_session(device: u16, id: &str, state: SessionState) -> ChargingSession {
    let import = Some(EnergyDelta { mwh: 100_000, source: EnergySource::Register });
    ChargingSession {
        device: DeviceIx(device),
        id: id.try_into().expect("a name"),
        vehicle: Some("EV001".try_into().expect("a vehicle")),
        is_of_vehicle: true,
        source: SessionKnownBy::Messages,
        start: SessionTime::At(Utc(1_764_000_000_000_000_000)),
        is_joined: false,
        until: SessionTime::Before(Duration::from_secs(1)),
        state,
        phase: "charging".into(),
        reason: "".into(),
        energy: Energy { import, export: None, known: Some(Duration::from_millis(1_000)) },
        charging: Duration::from_millis(500),
        discharging: Duration::ZERO,
        idle: Duration::from_millis(500),
        import_max_kw: 11.0,
        export_max_kw: 0.0,
        soc: Some((41.0, 63.0)),
        meter_import: None,
        meter_export: None,
    }
}

pub(crate) fn empty_window(n: u64) -> Window {
    depot_window(0, 0, n)
}

fn any_value() -> impl Strategy<Value = IntervalValue> {
    let number = prop_oneof![
        (-1e9..1e9_f64),
        any::<i32>().prop_map(|v| f64::from(v) / 1e3),
        any::<f32>().prop_filter("finite", |v| v.is_finite()).prop_map(f64::from),
        Just(-0.0),
    ];
    let missing =
        prop_oneof![Just(Missing::Timeout), Just(Missing::BusOff), Just(Missing::Stale), Just(Missing::Overrun)];
    prop_oneof![
        4 => number.clone().prop_map(|v| IntervalValue::Float(Statistic { value: v, min: v, max: v, count: 1 })),
        2 => (number, 0.0..5.0_f64, 1_u32..9).prop_map(|(value, spread, count)| {
            IntervalValue::Float(Statistic { value, min: value - spread, max: value + spread, count })
        }),
        1 => any::<i64>().prop_map(IntervalValue::Integer),
        1 => "[a-z]{0,9}".prop_map(|text| IntervalValue::Text(text.into())),
        1 => missing.prop_map(IntervalValue::Missing),
    ]
}

/// Any window that the aggregator could make, and some that it would not.
pub(super) fn any_window() -> impl Strategy<Value = Window> {
    let questionable = prop::option::weighted(0.1, prop_oneof![Just(Questionable::Frozen), Just(Questionable::Clock)]);
    let points = prop::collection::btree_map(0_u16..70, (any_value(), questionable), 0..12).prop_map(|points| {
        let point = |(point, (value, questionable))| PointInterval { point: PointIx(point), value, questionable };
        points.into_iter().map(point).collect::<Vec<_>>()
    });
    let vehicle = prop::option::of("[A-Z0-9]{1,17}").prop_map(|v| v.map(|v| VehicleId::try_from(v).expect("plain")));
    let direction = prop::option::of(prop_oneof![Just(Direction::Idle), Just(Direction::VehicleToGrid)]);
    let session = prop::option::of("[0-9a-f]{16}").prop_map(|id| id.map(|id| SessionId::try_from(id).expect("plain")));
    let delta = (0..1_000_000_u64, any::<bool>()).prop_map(|(mwh, is_of_register)| EnergyDelta {
        mwh,
        source: if is_of_register { EnergySource::Register } else { EnergySource::Power },
    });
    let known = prop::option::of((0..60_000_u64).prop_map(Duration::from_millis));
    let energy = (prop::option::of(delta.clone()), prop::option::of(delta), known)
        .prop_map(|(import, export, known)| Energy { import, export, known });
    let interval = (any::<u16>(), direction, vehicle, session, points, energy).prop_map(
        |(device, direction, vehicle, session, points, energy)| Interval {
            device: DeviceIx(device),
            direction,
            vehicle,
            session,
            points,
            energy,
        },
    );
    let site = SiteRollup {
        power: Some(SitePower { direction: Direction::Idle, flow_kw: 0.1, import_kw: 1.2, export_kw: -1.1 }),
        charging: 1,
        discharging: 1,
        soc: Some((12.0, 54.1)),
        ..SiteRollup::default()
    };
    let gap = Gap { epoch: Epoch(1), from: Seq(2), to: Seq(3), points: None, reason: GapReason::Aged };
    let events = vec![
        Event { device: None, kind: EventKind::Gap(gap) },
        Event { device: Some(DeviceId::try_from("a").expect("plain")), kind: EventKind::ClockStepped(-5) },
        Event { device: None, kind: EventKind::DevicePartly { answering: 3, blocks: 5, silent: "unit 200".into() } },
        Event {
            device: None,
            kind: EventKind::Session(OfSession {
                session: Some("4fde139fc6844d0e".try_into().expect("plain")),
                event: SessionEvent::Encrypted,
            }),
        },
    ];
    let rest = (any::<bool>(), any::<bool>(), any::<u64>(), any::<bool>());
    (prop::collection::vec(interval, 0..5), rest).prop_map(move |(intervals, (home, sited, mono, eventful))| Window {
        boot: BootId(if home { [7; 16] } else { [8; 16] }),
        end: Stamp { mono: Mono(mono), utc: Utc(-5), trust: ClockTrust::Unsynced },
        length: Duration::from_millis(250),
        intervals,
        site: sited.then(|| site.clone().into()),
        events: if eventful { events.clone() } else { Vec::new() },
        sessions: if eventful { vec![charging_session(1, "6f1c", SessionState::Paused)] } else { Vec::new() },
        site_intervals: Vec::new(),
        checkpoint: None,
    })
}

/// A journal whose thread hangs in the midst of what it was asked, as it does with its disk.
#[derive(Debug)]
pub(crate) struct HangingJournal {
    line: Line,
    inbox: Mutex<Inbox>,
    progress: watch::Sender<Progress>,
}

impl HangingJournal {
    /// One that says that so many entries of history wait.
    pub(crate) fn with_history(history_waiting: u64) -> Self {
        let (line, inbox) = Line::new();
        let (progress, _) = watch::channel(Progress { history_waiting, ..Progress::default() });
        Self { line, inbox: Mutex::new(inbox), progress }
    }

    pub(crate) fn handle(&self) -> JournalHandle {
        JournalHandle::new(self.line.clone(), self.progress.subscribe())
    }

    /// Says that so many entries wait, live and of history.
    pub(crate) fn waits(&self, live: u64, history: u64) {
        self.progress.send_modify(|progress| (progress.live_waiting, progress.history_waiting) = (live, history));
    }

    /// Says that another life goes on.
    pub(crate) fn go_on_as(&self, epoch: Epoch) {
        self.progress.send_modify(|progress| progress.epoch = Some(epoch));
    }

    /// Waits, with the whole thread, until a lease is asked for. Answered by what it gives back, with one entry.
    pub(crate) fn lease_asked(&self) -> impl FnOnce() + Send + use<> {
        loop {
            let next = self.inbox.lock().expect("one test").next(Duration::from_secs(30));
            if let Command::Lease { lane, reply, .. } = next.expect("nobody asks for a lease") {
                let identity = Identity { epoch: Epoch(1), seq: Seq(1) };
                let schema = Arc::new(depot_schema("gw-01", 1, 1));
                let entry = Entry { identity, schema, words: Words::Second, window: depot_window(1, 1, 1) };
                let lease = Lease::new(Arc::new(entry), lane, self.line.clone());
                return move || reply.send(vec![lease]).expect("somebody waits for it");
            }
        }
    }

    /// Waits, with the whole thread, until a lease is asked for. Answered by what it gives back, with none.
    pub(crate) fn lease_asked_in_vain(&self) -> impl FnOnce() + Send + use<> {
        loop {
            let next = self.inbox.lock().expect("one test").next(Duration::from_secs(30));
            if let Command::Lease { reply, .. } = next.expect("nobody asks for a lease") {
                return move || reply.send(Vec::new()).expect("somebody waits for it");
            }
        }
    }

    /// Takes the windows that were handed over.
    pub(crate) fn windows(&self) -> Vec<Window> {
        let inbox = self.inbox.lock().expect("one test");
        let next = || inbox.next(Duration::ZERO).ok();
        let window = |command| if let Command::Append(window) = command { Some(*window) } else { None };
        std::iter::from_fn(next).filter_map(window).collect()
    }

    /// Waits, with the whole thread, until something is settled.
    pub(crate) fn settled(&self) -> usize {
        loop {
            let settled = self.inbox.lock().expect("one test").settlements();
            if !settled.is_empty() {
                return settled.len();
            }
            self.inbox.lock().expect("one test").next(Duration::from_secs(30)).expect("nothing is settled");
        }
    }
}
