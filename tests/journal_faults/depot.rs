//! A depot whose every value can be checked, and the oracle that checks it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use v2g_edge::health::StatusBoard;
use v2g_edge::journal::{Appended, Journal, JournalHandle, Lane, Settings, WhenFull};
use v2g_edge::measure::{
    BootId, ClockTrust, Direction, Energy, Entry, EventKind, Gap, GapReason, Identity, Interval, IntervalValue,
    LifeLost, Mono, PointColumn, PointInterval, Schema, SeriesSpec, Stamp, Statistic, Utc, Window,
};
use v2g_edge::spec::{Aggregation, DeviceIx, DeviceKind, PointIx, Unit, ValueType};

pub(crate) const BOOT: BootId = BootId([9; 16]);
/// 2026-06-01 12:00 UTC.
const NOON_NS: i64 = 1_780_315_200_000_000_000;
const WINDOW_NS: u64 = 250_000_000;
const DEVICES: u16 = 20;
const POWERS: u16 = 8;
/// The point behind the powers: an energy counter.
const ENERGY: u16 = POWERS;

pub(crate) fn schema() -> Schema {
    let column = |point: u16| PointColumn {
        field: format!("power_flow_l{point}").try_into().expect("a field"),
        unit: Unit::Kilowatt,
        value_type: ValueType::Float,
        aggregation: Aggregation::Mean,
    };
    let energy = PointColumn {
        field: "energy_import".try_into().expect("a field"),
        unit: Unit::KilowattHour,
        value_type: ValueType::Float,
        aggregation: Aggregation::Last,
    };
    let series = |device: u16| SeriesSpec {
        device: format!("evse-{device:02}").try_into().expect("a device"),
        kind: DeviceKind::Evse,
        points: (0..POWERS).map(column).chain([energy.clone()]).collect(),
    };
    Schema {
        gateway: "gw-01".try_into().expect("a gateway"),
        site: "depot-a".try_into().expect("a site"),
        series: (0..DEVICES).map(series).collect(),
    }
}

pub(crate) fn stamp(n: u64) -> Stamp {
    let mono = n * WINDOW_NS;
    Stamp { mono: Mono(mono), utc: Utc(NOON_NS.saturating_add_unsigned(mono)), trust: ClockTrust::Synced }
}

/// The window whose end is told as this.
pub(crate) fn number_at(utc_ns: i64) -> u64 {
    u64::try_from(utc_ns - NOON_NS).expect("after noon") / WINDOW_NS
}

/// Looks like noise, so that nothing makes it short.
fn power(n: u64, device: u16, point: u16) -> f64 {
    let mixed = (n * 1_009 + u64::from(device) * 331 + u64::from(point)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 44;
    mixed as f64 / 1e4
}

/// What the meter shows at the end of window `n`, kWh, in whole Wh.
pub(crate) fn energy(n: u64, device: u16) -> f64 {
    (1_000_000 + n * (7 + u64::from(device % 5))) as f64 / 1e3
}

/// Window `n`, counted from 1.
pub(crate) fn window(n: u64) -> Window {
    let once = |value: f64| IntervalValue::Float(Statistic { value, min: value, max: value, count: 1 });
    let point = |point, value| PointInterval { point: PointIx(point), value, questionable: None };
    let interval = |device: u16| Interval {
        device: DeviceIx(device),
        direction: Some(Direction::GridToVehicle),
        vehicle: None,
        session: None,
        energy: Energy::default(),
        points: (0..POWERS)
            .map(|p| point(p, once(power(n, device, p))))
            .chain([point(ENERGY, once(energy(n, device)))])
            .collect(),
    };
    Window { intervals: (0..DEVICES).map(interval).collect(), ..empty(n) }
}

/// A tick in which nothing was read.
pub(crate) fn empty(n: u64) -> Window {
    Window {
        boot: BOOT,
        end: stamp(n),
        length: Duration::from_nanos(WINDOW_NS),
        intervals: Vec::new(),
        site: None,
        events: Vec::new(),
        sessions: Vec::new(),
        site_intervals: Vec::new(),
        checkpoint: None,
    }
}

pub(crate) fn settings(dir: &Path, bytes_max: u64, when_full: WhenFull) -> Settings {
    Settings {
        dir: dir.to_owned(),
        bytes_max,
        free_min: 64 << 20,
        age_max: Duration::from_secs(72 * 3600),
        commit_interval: Duration::from_millis(20),
        bytes_per_day_max: None,
        when_full,
        runtime_dir: None,
        time_wait: Duration::from_secs(300),
    }
}

pub(crate) fn open(settings: Settings, n: u64) -> (Journal, Arc<StatusBoard>) {
    let facts = Arc::new(StatusBoard::default());
    let journal = Journal::open(settings, schema(), BOOT, stamp(n), Arc::clone(&facts)).expect("the journal opens");
    (journal, facts)
}

/// Hands a window over, waiting while the journal stalls.
pub(crate) async fn append(handle: &JournalHandle, mut window: Window) {
    loop {
        match handle.append(window) {
            Appended::Queued => return,
            Appended::Stalled(back) => window = back,
            Appended::Closed => panic!("the journal has ended"),
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Runs something asynchronous.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

/// What came out, checked value by value.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    /// By number: the epoch, the first and the last window that the entry stands for; `None`: no data.
    pub(crate) came: BTreeMap<u64, (u64, Option<(u64, u64)>)>,
    pub(crate) gaps: Vec<Gap>,
    pub(crate) lives: Vec<LifeLost>,
    pub(crate) events: Vec<&'static str>,
    pub(crate) coarsest: Duration,
}

impl Oracle {
    /// Takes all that waits, ticking so that what is left is told. `n` is the newest window.
    pub(crate) async fn drain(&mut self, journal: &Journal, n: &mut u64) {
        let handle = journal.handle();
        for _ in 0..3 {
            *n += 1;
            append(&handle, empty(*n)).await;
            handle.commit().await;
            loop {
                let leases = handle.lease(Lane::History, 256).await;
                if leases.is_empty() {
                    break;
                }
                for lease in leases {
                    self.take(lease.entry());
                    lease.acknowledge();
                }
            }
        }
    }

    pub(crate) fn take(&mut self, entry: &Entry) {
        let Identity { epoch, seq } = entry.identity;
        let span = check(&entry.window);
        let before = self.came.insert(seq.0, (epoch.0, span));
        assert!(before.is_none_or(|before| before == (epoch.0, span)), "number {seq} came with two contents");
        self.gaps.extend(entry.window.gaps());
        self.lives.extend(entry.window.lives_lost());
        self.events.extend(entry.window.events.iter().map(|event| event.kind.name()));
        let told =
            entry.window.events.iter().filter_map(|e| if let EventKind::Thinned(t) = e.kind { Some(t) } else { None });
        self.coarsest = told.map(|thinned| thinned.window).fold(self.coarsest, Duration::max);
    }

    /// Every number up to `last` came or is told, and none is both. Answers how many are told, by reason.
    pub(crate) fn judge_numbers(&self, last: u64) -> BTreeMap<&'static str, u64> {
        let mut told: BTreeMap<u64, GapReason> = BTreeMap::new();
        for gap in &self.gaps {
            told.extend((gap.from.0..=gap.to.0).map(|number| (number, gap.reason)));
        }
        let unknown = (1..=last).find(|number| !self.came.contains_key(number) && !told.contains_key(number));
        assert_eq!(unknown, None, "nobody knows what became of this number");
        let both = told.keys().find(|number| self.came.contains_key(number));
        assert_eq!(both, None, "this number came, and a gap says that it never will");
        let mut counts = BTreeMap::new();
        told.values().for_each(|reason| *counts.entry(reason.as_str()).or_default() += 1);
        counts
    }

    /// No window came twice. Answers how many of the first `last` did not come.
    pub(crate) fn judge_windows(&self, last: u64) -> u64 {
        let mut spans: Vec<(u64, u64)> = self.came.values().filter_map(|(_, span)| *span).collect();
        spans.sort_unstable();
        let twice = spans.windows(2).find(|pair| pair[0].1 >= pair[1].0);
        assert_eq!(twice, None, "windows came twice");
        last - spans.iter().map(|(from, to)| to - from + 1).sum::<u64>()
    }
}

/// Checks every value of a window, coarse or not, against the truth; answers which windows it stands for.
fn check(window: &Window) -> Option<(u64, u64)> {
    if window.intervals.is_empty() {
        return None;
    }
    assert_eq!(window.intervals.len(), usize::from(DEVICES));
    let to = window.end.mono.0 / WINDOW_NS;
    let from = to + 1 - u64::try_from(window.length.as_nanos()).expect("short") / WINDOW_NS;
    assert_eq!(window.end, stamp(to));
    for interval in &window.intervals {
        let device = interval.device.0;
        for point in &interval.points {
            let IntervalValue::Float(told) = point.value else { panic!("{point:?} is no number") };
            let truth = |n: u64| {
                if point.point.0 == ENERGY { energy(n, device) } else { power(n, device, point.point.0) }
            };
            let values = || (from..=to).map(truth);
            let bits = |value: f64| value.to_bits();
            assert_eq!(u64::from(told.count), to - from + 1);
            assert_eq!(bits(told.min), bits(values().fold(f64::INFINITY, f64::min)), "smallest of {from}..={to}");
            assert_eq!(bits(told.max), bits(values().fold(f64::NEG_INFINITY, f64::max)), "largest of {from}..={to}");
            if point.point.0 == ENERGY {
                assert_eq!(bits(told.value), bits(truth(to)), "the counter at the end of window {to}");
            } else {
                let mean = values().sum::<f64>() / f64::from(told.count);
                assert!((told.value - mean).abs() < 1e-9, "{} is not the mean {mean}", told.value);
            }
        }
    }
    Some((from, to))
}
