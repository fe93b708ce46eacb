//! Random histories over the model of a medium, with a cut at any call that writes, on a box without a battery for its
//! clock; judged by one oracle.

mod found;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::journal::core::context::WriterContext;
use crate::journal::core::journal_core::JournalCore;
use crate::journal::core::limits::Limits;
use crate::journal::core::recovery;
use crate::journal::disk::entry::Encoded;
use crate::journal::disk::mem_store::MemStore;
use crate::journal::disk::store::Store;
use crate::journal::line::{LEASES_MAX, Lane, Settlement};
use crate::journal::testing::{NOON_NS, depot_schema, depot_window, empty_window};
use crate::measure::WhenFull;
use crate::measure::{
    BootId, ClockTrust, Entry, Epoch, Gap, GapReason, Identity, IntervalValue, Mono, Seq, Stamp, Statistic, Utc, Window,
};
use crate::spec::Aggregation;

/// 2001-01-01 UTC.
const Y2001_NS: i64 = 978_307_200_000_000_000;
/// Of the model's windows.
const WINDOW_NS: u64 = 250_000_000;

/// Of device 0: carries the number of the window, as an energy counter would its kWh.
const COUNTER: usize = 2;

/// So many windows.
fn appended(count: usize) -> Vec<Step> {
    vec![Step::Append; count]
}

#[derive(Debug, Clone)]
enum Step {
    Append,
    Commit,
    /// As the agent's thread does it.
    CommitOn,
    Lease(Lane, usize),
    Acknowledge(usize),
    GiveBack(usize),
    /// The broker has had it, and nobody subscribes.
    Unheard(usize),
    Refuse(usize),
    GoLive,
    Maintain(u64),
    Stop,
    Kill,
    Fill(bool),
    /// The wall clock is set right by NTP, or NTP is lost.
    Sync(bool),
    /// Somebody sets the wall clock, by s.
    SetClock(i64),
    /// The power is cut this many writing calls later.
    CutAfter(u64, u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let lane = prop_oneof![Just(Lane::Live), Just(Lane::History)];
    prop_oneof![
        30 => Just(Step::Append),
        10 => Just(Step::Commit),
        8 => Just(Step::CommitOn),
        14 => (lane, 1_usize..9).prop_map(|(lane, max)| Step::Lease(lane, max)),
        16 => any::<usize>().prop_map(Step::Acknowledge),
        5 => any::<usize>().prop_map(Step::GiveBack),
        4 => any::<usize>().prop_map(Step::Unheard),
        2 => any::<usize>().prop_map(Step::Refuse),
        2 => Just(Step::GoLive),
        8 => (1_u64..12_000).prop_map(Step::Maintain),
        1 => Just(Step::Stop),
        1 => Just(Step::Kill),
        1 => any::<bool>().prop_map(Step::Fill),
        2 => any::<bool>().prop_map(Step::Sync),
        1 => (-7_200_i64..7_200).prop_map(Step::SetClock),
        3 => (1_u64..14, any::<u64>()).prop_map(|(calls, dice)| Step::CutAfter(calls, dice)),
    ]
}

/// The box's clocks, and the truth. A boot begins in 2001.
#[derive(Debug)]
struct Clocks {
    boot: u8,
    mono: u64,
    wall: i64,
    trust: ClockTrust,
    /// True UTC at the start of each boot, and whether nobody set its clock by hand.
    zeros: HashMap<BootId, (i64, bool)>,
}

impl Clocks {
    fn new() -> Self {
        let mono = 10_000_000_000;
        let zeros = HashMap::from([(BootId([1; 16]), (NOON_NS - 10_000_000_000, true))]);
        Self { boot: 1, mono, wall: NOON_NS, trust: ClockTrust::Synced, zeros }
    }

    fn boot(&self) -> BootId {
        BootId([self.boot; 16])
    }

    fn now(&self) -> Stamp {
        Stamp { mono: Mono(self.mono), utc: Utc(self.wall), trust: self.trust }
    }

    fn truth(&self, boot: BootId, mono: Mono) -> i64 {
        self.zeros[&boot].0 + i64::try_from(mono.0).expect("a test is short")
    }

    fn advance(&mut self, by: u64) {
        self.mono += by;
        self.wall += i64::try_from(by).expect("a test is short");
    }

    fn reboot(&mut self) {
        let pause = 7_123_456_789;
        let zero = self.truth(self.boot(), Mono(self.mono)) + pause;
        self.boot += 1;
        (self.mono, self.wall, self.trust) = (5_000_000_000, Y2001_NS, ClockTrust::Unsynced);
        self.zeros.insert(self.boot(), (zero, true));
    }

    fn sync(&mut self, on: bool) {
        if on {
            self.wall = self.truth(self.boot(), Mono(self.mono));
            self.trust = ClockTrust::Synced;
        } else if self.trust == ClockTrust::Synced {
            self.trust = ClockTrust::Holdover;
        }
    }

    fn set(&mut self, by_s: i64) {
        self.wall += by_s * 1_000_000_000;
        let boot = self.boot();
        self.zeros.entry(boot).and_modify(|(_, honest)| *honest = false);
    }

    /// A window that ends now, a window after the one before.
    fn stamped(&mut self, mut window: Window) -> Window {
        self.advance(WINDOW_NS);
        (window.boot, window.end) = (self.boot(), self.now());
        window
    }

    /// What must hold of every label.
    fn check(&self, entry: &Entry) {
        let Window { boot, end, .. } = entry.window;
        let (_, honest) = self.zeros[&boot];
        let off = (end.utc.0 - self.truth(boot, end.mono)).abs();
        assert!(end.trust != ClockTrust::Unsynced, "an entry left without a time: {end:?}");
        assert!(end.trust == ClockTrust::Estimated || !honest || off < 50_000_000, "{end:?} is {off} ns off the truth");
    }
}

/// What was promised, and what came out.
#[derive(Debug, Default)]
struct Oracle {
    /// Every entry that was ever handed out.
    seen: BTreeMap<Identity, Window>,
    /// Every label that was ever handed out.
    labels: BTreeMap<Utc, Identity>,
    durable: BTreeSet<Identity>,
    acknowledged: BTreeSet<Identity>,
    /// Acknowledged although given up while on lease: the one case in which a gap may cover an entry that came.
    late: BTreeSet<Identity>,
    told: Vec<Gap>,
    /// Told from memory: a kill before the telling is durable undoes the loss, and then what was given up comes after all.
    sent_unsynced: Vec<Gap>,
    /// The window that each number was given to.
    appended: BTreeMap<Identity, u64>,
    /// What came out: first window, last window, how many, the counter, and whether it stands for others.
    came: BTreeMap<Identity, Came>,
    /// Handed out while the medium could not note it: a restart may have it downsampled.
    unnoted: BTreeSet<u64>,
    /// All epochs of lives.
    lives: BTreeSet<Epoch>,
    /// The epoch under which each entry that was handed out went out.
    under: BTreeMap<Identity, Epoch>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Came {
    first: u64,
    last: u64,
    count: u64,
}

fn covers(gap: &Gap, identity: &Identity) -> bool {
    gap.epoch == identity.epoch && (gap.from..=gap.to).contains(&identity.seq)
}

impl Oracle {
    /// The entry under the epoch of the life that recorded it: where another one has found its time it goes out under one between
    /// the two, and always under that.
    fn as_recorded(&mut self, entry: &Entry) -> Entry {
        let Identity { epoch, seq } = entry.identity;
        let life = *self.lives.range(..=epoch).next_back().expect("an epoch below every life's");
        let identity = Identity { epoch: life, seq };
        let before = *self.under.entry(identity).or_insert(epoch);
        assert_eq!(before, epoch, "{identity:?} went out under two epochs");
        Entry { identity, ..entry.clone() }
    }

    fn see(&mut self, entry: &Entry) {
        let before = self.seen.insert(entry.identity, entry.window.clone());
        if let Some(before) = before {
            assert_eq!(before, entry.window, "{:?} has changed", entry.identity);
        }
        // What leaves from memory because the medium is dead leaves nothing behind that a later life could heed.
        if self.durable.contains(&entry.identity) {
            let other = *self.labels.entry(entry.window.end.utc).or_insert(entry.identity);
            assert_eq!(other, entry.identity, "two entries at {:?}", entry.window.end);
        }
    }

    /// All labels of durable entries that came out, by identity.
    fn labels_in_order(&self) -> Vec<Utc> {
        let durable = self.seen.iter().filter(|(identity, _)| self.durable.contains(identity));
        durable.map(|(_, window)| window.end.utc).collect()
    }

    fn acknowledge(&mut self, entry: &Entry, dropping: bool) {
        self.acknowledged.insert(entry.identity);
        if dropping {
            self.late.insert(entry.identity);
        }
        self.told.extend(entry.window.gaps());
        if let Some(came) = counted(&entry.window) {
            self.came.insert(entry.identity, came);
        }
    }

    fn is_told(&self, identity: Identity) -> bool {
        self.told.iter().any(|gap| covers(gap, &identity))
    }

    /// What was downsampled came once, whole, and with its counters exact; `complete`: nothing else was given up.
    fn judge_downsampling(&self, complete: bool) {
        let is_downsampled =
            |identity: &Identity| self.told.iter().any(|gap| gap.reason == GapReason::Thinned && covers(gap, identity));
        let downsampled: BTreeSet<u64> =
            self.appended.iter().filter(|(identity, _)| is_downsampled(identity)).map(|(_, n)| *n).collect();
        let raw = |identity: &Identity| self.appended.contains_key(identity);
        let coarse: Vec<Came> = self.came.iter().filter(|(identity, _)| !raw(identity)).map(|(_, c)| *c).collect();
        for came in &coarse {
            let inside = |other: &Came| other.first >= came.first && other.last <= came.last;
            let known: u64 = self
                .came
                .values()
                .filter(|other| inside(other) && !self.unnoted.contains(&other.first))
                .map(|other| other.count)
                .sum();
            assert!(known <= came.last - came.first + 1, "windows {came:?} came twice");
        }
        let came: u64 = coarse.iter().map(|came| came.count).sum();
        if !self.unnoted.is_empty() {
            return;
        }
        assert!(came <= downsampled.len() as u64, "{came} windows came coarser, {} were told", downsampled.len());
        if complete {
            let lost = downsampled.iter().find(|n| !coarse.iter().any(|c| (c.first..=c.last).contains(n)));
            assert_eq!(lost, None, "a window was downsampled and its coarser one did not come");
            assert_eq!(came, downsampled.len() as u64);
        }
    }

    fn judge(&self, last: u64) {
        for identity in &self.durable {
            let fate = self.acknowledged.contains(identity) || self.is_told(*identity);
            assert!(fate, "{identity:?} was durable, did not arrive, and no gap tells of it");
        }
        for identity in &self.acknowledged {
            let sent_unsynced = self.sent_unsynced.iter().any(|g| covers(g, identity));
            let twice = self.is_told(*identity) && !self.late.contains(identity) && !sent_unsynced;
            let gaps = || self.told.iter().filter(|g| g.epoch == identity.epoch).collect::<Vec<_>>();
            assert!(!twice, "{identity:?} arrived, and a gap says that it never will: {:?}", gaps());
        }
        for seq in 1..=last {
            let arrived = self.acknowledged.iter().any(|i| i.seq == Seq(seq));
            let told = self.told.iter().any(|g| (g.from..=g.to).contains(&Seq(seq)));
            assert!(arrived || told, "nobody knows what became of number {seq}");
        }
    }
}

/// The counter of a window that has one.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small whole numbers")]
fn counted(window: &Window) -> Option<Came> {
    let point = window.intervals.first()?.points.iter().find(|p| usize::from(p.point.0) == COUNTER)?;
    let IntervalValue::Float(s) = point.value else { return None };
    assert_eq!(s.value.to_bits(), s.max.to_bits(), "the newest count is the largest");
    Some(Came { first: s.min as u64, last: s.max as u64, count: s.count.into() })
}

struct World {
    core: JournalCore<MemStore>,
    limits: Limits,
    leases: Vec<Arc<Entry>>,
    oracle: Oracle,
    windows: u64,
    now: Duration,
    clocks: Clocks,
}

impl World {
    fn new(when_full: WhenFull, bytes_max: u64) -> Self {
        let limits = Limits {
            bytes_max,
            free_min: 0,
            age_max: Duration::from_secs(72 * 3600),
            when_full,
            commit_interval: Duration::from_millis(100),
            commit_bytes: 600,
            time_wait: Duration::from_secs(10),
            segment_bytes: 1_500,
            segment_chunks: 6,
        };
        let clocks = Clocks::new();
        let core = Self::open(MemStore::default(), &limits, &clocks);
        let lives = BTreeSet::from([core.epoch()]);
        let (leases, oracle) = (Vec::new(), Oracle { lives, ..Oracle::default() });
        Self { core, limits, leases, oracle, windows: 0, now: Duration::ZERO, clocks }
    }

    fn open(mut store: MemStore, limits: &Limits, clocks: &Clocks) -> JournalCore<MemStore> {
        let mut schema = depot_schema("gw-01", 2, 3);
        schema.series[0].points[COUNTER].aggregation = Aggregation::Last;
        let (boot, now) = (clocks.boot(), clocks.now());
        let start = recovery::start(&mut store, &schema, boot, now).expect("the medium works again");
        let context = WriterContext { epoch: start.epoch, boot, schema: Arc::new(schema) };
        JournalCore::new(Some(store), limits.clone(), context, start)
    }

    fn restart(&mut self, store: MemStore) {
        self.clocks.advance(3_000_000_000);
        self.leases.clear();
        self.now = Duration::ZERO;
        let before = self.core.epoch();
        self.core = Self::open(store, &self.limits, &self.clocks);
        assert!(self.core.epoch() > before, "the epoch was not raised");
        self.oracle.lives.insert(self.core.epoch());
        // An acknowledgement that the end of the process took is a repeat, or, if room runs out first, a gap too many.
        let settled = self.core.queue().lanes().settled();
        let forgotten = self.oracle.acknowledged.iter().filter(|identity| !settled.contains(identity.seq.0));
        self.oracle.late.extend(forgotten);
    }

    fn store(&mut self) -> &mut MemStore {
        self.core.store_mut().expect("the model always has a medium")
    }

    fn note_durable(&mut self) {
        let epoch = self.core.epoch();
        let (durable, tail) = (self.core.durable(), self.core.queue().tail());
        let new = (1..=durable).rev().filter(|&seq| tail.find(seq).is_some());
        self.oracle.durable.extend(new.map(|seq| Identity { epoch, seq: Seq(seq) }));
    }

    fn commit(&mut self) {
        self.core.commit(self.now);
        self.note_durable();
    }

    fn lease(&mut self, lane: Lane, max: usize) -> usize {
        let leased = self.core.lease(lane, max);
        let leased: Vec<Arc<Entry>> = leased.iter().map(|entry| Arc::new(self.oracle.as_recorded(entry))).collect();
        let noted = !self.store().full;
        for entry in &leased {
            self.oracle.see(entry);
            if !noted {
                self.oracle.unnoted.extend(counted(&entry.window).map(|came| came.first));
                self.oracle.late.insert(entry.identity);
            }
            self.clocks.check(entry);
        }
        let count = leased.len();
        self.leases.extend(leased);
        count
    }

    fn take_lease(&mut self, pick: usize) -> Option<Arc<Entry>> {
        (!self.leases.is_empty()).then(|| self.leases.swap_remove(pick % self.leases.len()))
    }

    fn acknowledge(&mut self, entry: &Entry) {
        let seq = entry.identity.seq;
        let dropping = !self.core.queue().lanes().any_leased_in(seq.0, seq.0);
        self.oracle.acknowledge(entry, dropping);
        if seq.0 > self.core.durable() {
            self.oracle.sent_unsynced.extend(entry.window.gaps());
        }
        self.core.settle(Settlement::Acknowledged(seq));
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Append => {
                self.windows += 1;
                let mut window = self.clocks.stamped(depot_window(2, 3, self.windows));
                let n = self.windows as f64;
                window.intervals[0].points[COUNTER].value =
                    IntervalValue::Float(Statistic { value: n, min: n, max: n, count: 1 });
                let identity = Identity { epoch: self.core.epoch(), seq: Seq(self.core.next()) };
                self.oracle.appended.insert(identity, self.windows);
                self.core.append(window, self.now);
            }
            Step::Commit => self.commit(),
            Step::CommitOn => {
                self.core.commit_on(self.now);
                self.note_durable();
            }
            Step::Lease(lane, max) => drop(self.lease(lane, max)),
            Step::Acknowledge(pick) => {
                if let Some(entry) = self.take_lease(pick) {
                    self.acknowledge(&entry);
                }
            }
            Step::GiveBack(pick) => {
                if let Some(entry) = self.take_lease(pick) {
                    self.core.settle(Settlement::GivenBack(entry.identity.seq));
                }
            }
            Step::Unheard(pick) => {
                if let Some(entry) = self.take_lease(pick) {
                    self.core.settle(Settlement::Unheard(entry.identity.seq));
                }
            }
            Step::Refuse(pick) => {
                if let Some(entry) = self.take_lease(pick) {
                    let (identity, points) = (entry.identity, entry.window.points());
                    let (told, lives) = (entry.window.gaps().collect(), Vec::new());
                    // A cut may take the memory of the refusal, and the broker may take the repeat.
                    self.oracle.late.insert(identity);
                    self.core.settle(Settlement::Refused { identity, points, code: 0x99, told, lives });
                }
            }
            Step::GoLive => self.core.go_live(),
            Step::Maintain(ms) => {
                self.now += Duration::from_millis(ms);
                self.core.maintain(self.now);
            }
            Step::Stop => {
                let closed = self.core.close(Some((self.clocks.boot(), self.clocks.now())), self.now);
                self.note_durable();
                if closed.is_ok() {
                    let store = self.store().clone().after_kill();
                    self.restart(store);
                }
            }
            Step::Kill => {
                let store = self.store().clone().after_kill();
                self.restart(store);
            }
            Step::Fill(full) => self.store().full = full,
            Step::Sync(on) => self.clocks.sync(on),
            Step::SetClock(by_s) => self.clocks.set(by_s),
            Step::CutAfter(calls, dice) => {
                self.store().dice ^= dice;
                self.store().fuse.get_or_insert(calls);
            }
        }
        if self.store().fuse == Some(0) {
            let store = self.store().clone().after_cut();
            self.clocks.reboot();
            self.restart(store);
        }
    }

    /// All comes out, and is acknowledged.
    fn drain(&mut self) {
        self.store().full = false;
        self.store().fuse = None;
        for entry in std::mem::take(&mut self.leases) {
            self.acknowledge(&entry);
        }
        self.core.go_live();
        for _ in 0..10_000 {
            self.now += Duration::from_secs(3);
            let window = self.clocks.stamped(empty_window(self.windows));
            self.core.append(window, self.now);
            self.commit();
            self.core.maintain(self.now);
            let count = self.lease(Lane::History, LEASES_MAX) + self.lease(Lane::Live, LEASES_MAX);
            for entry in std::mem::take(&mut self.leases) {
                self.acknowledge(&entry);
            }
            if count == 0 && !self.core.losses().any_untold() && self.core.queue().lanes().waiting() == 0 {
                return;
            }
        }
        panic!("the journal never drains: {:?}", self.core.queue().lanes());
    }
}

fn run(when_full: WhenFull, bytes_max: u64, steps: &[Step]) -> World {
    let mut world = World::new(when_full, bytes_max);
    for step in steps {
        world.step(step);
    }
    world.drain();
    world.oracle.judge(world.core.durable());
    world.oracle.judge_downsampling(world.oracle.told.iter().all(|gap| gap.reason == GapReason::Thinned));
    world
}

/// Random histories of one kind, judged one by one; `PROPTEST_CASES` says how many.
fn histories(name: &str, length: usize, steps: impl Strategy<Value = Step> + 'static, judge: impl Fn(&[Step])) {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(400);
    let config = ProptestConfig { cases, max_shrink_iters: 4_000, failure_persistence: None, ..Default::default() };
    let history = prop::collection::vec(steps, 1..length);
    let run = TestRunner::new(config).run(&history, |steps| {
        judge(&steps);
        Ok(())
    });
    if let Err(why) = run {
        panic!("{name}: {why}");
    }
    println!("{name}: {cases} random histories of up to {length} steps");
}

/// What fills a small journal again and again.
fn busy_step() -> impl Strategy<Value = Step> {
    prop_oneof![1 => Just(Step::Append), 2 => any_step()]
}

#[test]
fn no_cut_loses_or_changes_what_was_durable() {
    histories("cuts", 160, any_step(), |steps| {
        let world = run(WhenFull::DropOldest, u64::MAX, steps);
        assert!(world.oracle.told.iter().all(|g| g.reason != GapReason::Aged));
        if world.clocks.zeros.values().all(|(_, honest)| *honest) {
            let labels = world.oracle.labels_in_order();
            assert!(labels.is_sorted(), "labels out of order: {labels:?}");
        }
    });
}

#[test]
fn dropping_the_oldest_leaves_exact_gaps() {
    histories("drop-oldest", 160, any_step(), |steps| drop(run(WhenFull::DropOldest, 6_000, steps)));
}

#[test]
fn thinning_the_oldest_loses_nothing_and_tells_nothing_twice() {
    histories("thin", 400, busy_step(), |steps| drop(run(WhenFull::Thin, 8_000, steps)));
}

#[test]
fn thinning_and_dropping_leave_exact_gaps() {
    histories("thin and drop", 400, busy_step(), |steps| drop(run(WhenFull::Thin, 4_000, steps)));
}

#[test]
fn refusing_the_newest_accounts_for_every_number() {
    histories("refuse-newest", 160, any_step(), |steps| drop(run(WhenFull::RefuseNewest, 6_000, steps)));
}

/// A file system that others fill: the same policy acts, and the last two segments stay.
#[test]
fn when_the_file_system_is_nearly_full_the_oldest_become_coarser() {
    let mut world = World::new(WhenFull::Thin, u64::MAX);
    world.limits.free_min = u64::MAX;
    world.core.set_free_min(u64::MAX);
    world.store().space = Some(40_000);
    for _ in 0..900 {
        world.step(&Step::Append);
        world.step(&Step::Commit);
        world.step(&Step::Maintain(1_000));
        let room = world.store().room().expect("it is told");
        assert!(room.free + 2 * 1_500 > room.total / 8, "{room:?}");
    }
    world.drain();
    assert!(world.oracle.told.iter().any(|gap| gap.reason == GapReason::Thinned));
    world.oracle.judge(world.core.durable());
    world.oracle.judge_downsampling(world.oracle.told.iter().all(|gap| gap.reason == GapReason::Thinned));
}

#[test]
fn a_window_that_cannot_be_written_costs_nothing_while_room_is_urgent() {
    let mut world = World::new(WhenFull::Thin, u64::MAX);
    for _ in 0..300 {
        world.step(&Step::Append);
        world.step(&Step::Commit);
    }
    world.core.set_free_min(u64::MAX);
    let taken: u64 = world.core.inventory().segments.iter().map(|segment| segment.bytes).sum();
    world.store().space = Some(taken + 10);
    let mut disordered = depot_window(1, 3, 1);
    disordered.intervals[0].points.swap(0, 2);
    world.core.append(disordered, world.now);
    world.step(&Step::Maintain(1_000));
    world.step(&Step::Append);
    world.step(&Step::Commit);
    world.step(&Step::Maintain(1_000));
    let (_, lost, downsampled) = world.core.losses().counts();
    assert!(lost == 1 && downsampled > 0, "it alone is lost: {lost} lost, {downsampled} downsampled");
}

#[test]
fn an_entry_of_a_newer_agent_is_kept_and_passed_over() {
    let mut world = World::new(WhenFull::DropOldest, u64::MAX);
    for n in 0..9 {
        world.step(&Step::Append);
        if n == 4 {
            let unknown = Encoded { bytes: vec![99, 1, 2, 3], points: 5, tells_loss: false, utc: None };
            world.core.append_encoded(unknown, world.now);
        }
    }
    world.step(&Step::Stop);
    let out: Vec<u64> = world.core.lease(Lane::History, 20).iter().map(|entry| entry.identity.seq.0).collect();
    assert_eq!(out, [1, 2, 3, 4, 5, 7, 8, 9, 10]);
    for seq in out {
        world.core.settle(Settlement::Acknowledged(Seq(seq)));
    }
    world.step(&Step::Append);
    world.step(&Step::Stop);
    assert_eq!((world.core.queue().lanes().waiting(), world.store().segments_left()), (2, 2), "it is not given up");
    assert!(!world.core.losses().any_untold());
    world.core.lease(Lane::History, 20);
    assert_eq!(world.core.queue().lanes().ready(), (0, 0));
}

#[test]
fn one_call_walks_past_so_many_entries_that_cannot_leave_and_the_next_goes_on() {
    let mut world = World::new(WhenFull::DropOldest, u64::MAX);
    for _ in 0..2_500 {
        let unknown = Encoded { bytes: vec![99, 1, 2, 3], points: 5, tells_loss: false, utc: None };
        world.core.append_encoded(unknown, world.now);
    }
    world.step(&Step::Append);
    world.step(&Step::Commit);
    let ready: Vec<(usize, u64)> =
        (0..4).map(|_| (world.core.lease(Lane::History, 20).len(), world.core.queue().lanes().ready().1)).collect();
    assert_eq!(ready, [(0, 1_477), (0, 453), (1, 0), (0, 0)]);
}

#[test]
fn a_damaged_chunk_is_a_gap_and_everything_else_arrives() {
    for pick in 0..200_u64 {
        let mut world = World::new(WhenFull::DropOldest, u64::MAX);
        for _ in 0..40 {
            world.step(&Step::Append);
            world.step(&Step::Commit);
        }
        world.step(&Step::Stop);
        let (from, to) = world.store().flip(pick * 7_919).expect("there are chunks");
        world.drain();
        let told: Vec<_> = world.oracle.told.iter().map(|g| (g.from.0, g.to.0, g.reason)).collect();
        assert_eq!(told, [(from, to, GapReason::Corrupt)]);
        world.oracle.judge(world.core.durable());
    }
}

#[test]
fn a_drained_journal_keeps_no_segment_but_the_one_being_written() {
    let mut world = World::new(WhenFull::DropOldest, u64::MAX);
    for _ in 0..100 {
        world.step(&Step::Append);
        world.step(&Step::Commit);
    }
    world.drain();
    assert!(world.store().segments_left() <= 1, "{} segments", world.store().segments_left());
}
