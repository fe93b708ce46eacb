//! What a start finds of how things stood, and what it costs to write it.

use std::sync::Arc;
use std::time::Duration;

use crate::journal::core::context::WriterContext;
use crate::journal::core::journal_core::JournalCore;
use crate::journal::core::limits::Limits;
use crate::journal::core::recovery;
use crate::journal::disk::mem_store::MemStore;
use crate::journal::line::{LEASES_MAX, Lane, Settlement};
use crate::journal::testing::{charging_session, depot_schema, depot_window, stamp};
use crate::measure::testing::{LINEAR, growth};
use crate::measure::{
    BootId, Checkpoint, Energy, EnergyDelta, EnergySource, IntervalValue, Mono, Schema, SessionState, Statistic,
    WhenFull, Window,
};
use crate::spec::{DeviceIx, PointIx};

const BOOT: BootId = BootId([7; 16]);
const IMPORT: PointIx = PointIx(1);

/// Devices of power and a register.
fn schema(devices: &[&str]) -> Schema {
    let mut schema = depot_schema("gw-01", 0, 0);
    let series = &depot_schema("gw-01", 1, 2).series[0];
    schema.series = devices
        .iter()
        .map(|id| {
            let mut series = series.clone();
            series.device = (*id).try_into().expect("a name");
            series.points[0].field = "power_flow".try_into().expect("a field");
            series.points[1].field = "energy_import".try_into().expect("a field");
            series
        })
        .collect();
    schema
}

/// One life, as the pipeline feeds it: 4 windows a second, of which each 20th has the registers of the devices.
struct Life {
    core: JournalCore<MemStore>,
    schema: Schema,
    stands: Checkpoint,
    n: u64,
}

impl Life {
    fn begin(mut store: MemStore, devices: &[&str], n: u64, limits: Limits) -> Self {
        let schema = schema(devices);
        let start = recovery::start(&mut store, &schema, BOOT, stamp(n * 250_000_000)).expect("the medium works");
        let stands = start.checkpoint.clone();
        let context = WriterContext { epoch: start.epoch, boot: BOOT, schema: Arc::new(schema.clone()) };
        Self { core: JournalCore::new(Some(store), limits, context, start), schema, stands, n }
    }

    fn run(&mut self, windows: u64) {
        for _ in 0..windows {
            self.n += 1;
            let mut window = self.window();
            window.advance(&mut self.stands, &self.schema);
            window.checkpoint = Some(Arc::new(self.stands.clone()));
            let now = Duration::from_millis(self.n * 250);
            self.core.append(window, now);
            self.core.commit(now);
            self.core.maintain(now);
        }
    }

    fn window(&self) -> Window {
        let mut window = depot_window(u16::try_from(self.schema.series.len()).expect("few"), 2, self.n);
        window.end.mono = Mono(self.n * 250_000_000);
        for interval in window.intervals.iter_mut().filter(|_| self.n.is_multiple_of(20)) {
            let value = self.n as f64;
            interval.points[1].value = IntervalValue::Float(Statistic { value, min: value, max: value, count: 1 });
            let import = Some(EnergyDelta { mwh: 20_000_000, source: EnergySource::Register });
            interval.energy = Energy { import, export: None, known: None };
        }
        window
    }

    /// Everything that waits is acknowledged.
    fn deliver(&mut self) {
        self.core.go_live();
        loop {
            let leased = self.core.lease(Lane::History, LEASES_MAX);
            if leased.is_empty() {
                break;
            }
            leased.iter().for_each(|entry| self.core.settle(Settlement::Acknowledged(entry.identity.seq)));
        }
        self.core.maintain(Duration::from_millis(self.n * 250 + 60_000));
    }

    fn bases(&self) -> Vec<(u16, f64)> {
        self.stands
            .registers
            .iter()
            .map(|((DeviceIx(device), point), base)| {
                assert_eq!(*point, IMPORT);
                (*device, base.value)
            })
            .collect()
    }

    fn end_in_order(mut self) -> MemStore {
        self.core.close(None, Duration::from_millis(self.n * 250)).expect("the medium works");
        self.core.into_store().expect("it has one")
    }

    fn killed(self) -> MemStore {
        self.core.into_store().expect("it has one").after_kill()
    }
}

#[test]
fn a_start_goes_on_from_the_newest_windows_however_the_life_before_ended() {
    for windows in [20, 119, 120, 121, 600, 1_199] {
        for is_delivered in [false, true] {
            for in_order in [false, true] {
                let mut life = Life::begin(MemStore::default(), &["a", "b"], 0, Limits::boundless());
                life.run(windows);
                if is_delivered {
                    life.deliver();
                }
                let store = if in_order { life.end_in_order() } else { life.killed() };
                let life = Life::begin(store, &["a", "b"], windows, Limits::boundless());
                let newest = (windows / 20 * 20) as f64;
                assert_eq!(life.bases(), [(0, newest), (1, newest)], "{windows} {is_delivered} {in_order}");
            }
        }
    }
}

/// A charging session that runs is found again at its device, with the energy of the windows after it was told; one that has ended is
/// not.
#[test]
fn a_session_that_runs_is_found_after_a_kill_and_after_an_end_in_order_wherever_its_device_stands_then() {
    for in_order in [false, true] {
        let mut life = Life::begin(MemStore::default(), &["a", "b"], 0, Limits::boundless());
        let mut window = life.window();
        window.sessions =
            vec![charging_session(1, "runs", SessionState::Running), charging_session(0, "over", SessionState::Ended)];
        window.advance(&mut life.stands, &life.schema);
        window.checkpoint = Some(Arc::new(life.stands.clone()));
        life.core.append(window, Duration::ZERO);
        for n in 1..=30 {
            life.n = n;
            let mut window = depot_window(2, 2, n);
            window.intervals[1].session = Some("runs".try_into().expect("a name"));
            let export = Some(EnergyDelta { mwh: 1_000, source: EnergySource::Power });
            window.intervals[1].energy = Energy { import: None, export, known: None };
            window.advance(&mut life.stands, &life.schema);
            window.checkpoint = Some(Arc::new(life.stands.clone()));
            let now = Duration::from_millis(n * 250);
            life.core.append(window, now);
            life.core.commit(now);
        }
        let store = if in_order { life.end_in_order() } else { life.killed() };
        let life = Life::begin(store, &["c", "a", "b"], 40, Limits::boundless());
        let [open] = &life.stands.sessions.values().collect::<Vec<_>>()[..] else {
            panic!("{in_order}: {:?}", life.stands.sessions)
        };
        assert_eq!((open.told.id.as_str(), open.told.device), ("runs", DeviceIx(2)), "{in_order}");
        assert_eq!(open.told.energy.export.map(|delta| delta.mwh), Some(30_000), "{in_order}");
    }
}

/// A register that is read once an hour is in a checkpoint of each segment, long after the window that told it has gone.
#[test]
fn what_was_told_long_ago_is_in_each_segment() {
    let limits = || Limits { segment_chunks: 8, ..Limits::boundless() };
    let mut life = Life::begin(MemStore::default(), &["a"], 0, limits());
    life.run(20);
    for n in 21..400 {
        life.n = n;
        let mut window = depot_window(1, 1, n);
        window.checkpoint = Some(Arc::new(life.stands.clone()));
        let now = Duration::from_millis(n * 250);
        life.core.append(window, now);
        life.core.commit(now);
        life.deliver();
    }
    let life = Life::begin(life.killed(), &["a"], 400, limits());
    assert_eq!(life.bases(), [(0, 20.0)]);
}

#[test]
fn a_checkpoint_is_written_every_15_seconds_and_near_the_beginning_of_each_segment() {
    let mut life = Life::begin(MemStore::default(), &["a"], 0, Limits { segment_chunks: 100, ..Limits::boundless() });
    life.run(600);
    life.core.go_live();
    let mut with = Vec::new();
    loop {
        let leased = life.core.lease(Lane::History, LEASES_MAX);
        if leased.is_empty() {
            break;
        }
        for entry in leased {
            with.extend(entry.window.checkpoint.is_some().then_some(entry.identity.seq.0));
            life.core.settle(Settlement::Acknowledged(entry.identity.seq));
        }
    }
    assert_eq!(with, [1, 2, 62, 102, 162, 202, 262, 302, 362, 402, 462, 502, 562]);
}

#[test]
fn another_plan_keeps_what_it_still_has_and_finds_it_under_its_new_place() {
    let mut life = Life::begin(MemStore::default(), &["a", "b", "c"], 0, Limits::boundless());
    life.run(40);
    let mut life = Life::begin(life.end_in_order(), &["new", "c", "a"], 40, Limits::boundless());
    assert_eq!(life.bases(), [(1, 40.0), (2, 40.0)]);
    // Killed before anything is read again.
    life.run(3);
    let life = Life::begin(life.killed(), &["c"], 43, Limits::boundless());
    assert_eq!(life.bases(), [(0, 40.0)]);
}

/// What was downsampled is older than its numbers.
#[test]
fn windows_that_became_coarser_say_nothing_of_how_things_stand() {
    let limits = || Limits { segment_chunks: 8, when_full: WhenFull::Thin, ..Limits::boundless() };
    let mut life = Life::begin(MemStore::default(), &["a"], 0, limits());
    life.run(200);
    assert!(life.core.downsample_one_run(Duration::from_secs(60)), "there is something to downsample");
    let life = Life::begin(life.killed(), &["a"], 200, limits());
    assert_eq!(life.bases(), [(0, 200.0)]);
}

#[test]
fn without_a_journal_nothing_is_known() {
    assert_eq!(Life::begin(MemStore::default(), &["a"], 0, Limits::boundless()).bases(), []);
}

/// Of so many devices, each in a session that goes on.
fn in_sessions(devices: usize) -> (Window, Checkpoint) {
    let devices = u16::try_from(devices).expect("a plan has no more");
    let mut window = depot_window(devices, 1, 1);
    let mut checkpoint = Checkpoint::default();
    window.sessions = (0..devices).map(|n| charging_session(n, "6f1c", SessionState::Running)).collect();
    window.advance(&mut checkpoint, &depot_schema("gw-01", devices, 1));
    for interval in &mut window.intervals {
        interval.session = Some("6f1c".try_into().expect("an id"));
        interval.energy.import = Some(EnergyDelta { mwh: 5, source: EnergySource::Power });
    }
    (window, checkpoint)
}

/// Every interval looked for its session among all that are open, and each that was told went through all of them twice.
#[test]
fn a_session_costs_the_same_whatever_others_run() {
    let schema = depot_schema("gw-01", 0, 0);
    let told = growth(500, in_sessions, |(window, mut checkpoint)| window.advance(&mut checkpoint, &schema));
    assert!(told < LINEAR, "all told: {told:.0}");
    let silent = |devices| {
        let (window, checkpoint) = in_sessions(devices);
        (Window { sessions: Vec::new(), ..window }, checkpoint)
    };
    let grown = growth(500, silent, |(window, mut checkpoint)| window.advance(&mut checkpoint, &schema));
    assert!(grown < LINEAR, "none told: {grown:.0}");
}

#[test]
fn a_session_that_ends_is_open_no_more_and_another_one_takes_its_place() {
    let (mut window, mut checkpoint) = in_sessions(2);
    let schema = depot_schema("gw-01", 2, 1);
    let ended = |id| charging_session(0, id, SessionState::Ended);
    window.sessions = vec![ended("another")];
    window.advance(&mut checkpoint, &schema);
    assert_eq!(checkpoint.sessions.len(), 2, "the end of one that does not stand there");
    assert_eq!(checkpoint.sessions[&DeviceIx(0)].told.energy.import.map(|delta| delta.mwh), Some(100_005));
    window.sessions = vec![ended("6f1c"), charging_session(1, "7a00", SessionState::Paused)];
    window.advance(&mut checkpoint, &schema);
    let open: Vec<_> = checkpoint.sessions.values().map(|open| open.told.id.as_str()).collect();
    assert_eq!(open, ["7a00"]);
}
