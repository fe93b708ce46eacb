//! Random histories over the model of a medium, with a cut at any call that writes, on a box without a battery for its
//! clock; judged by one oracle.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::WhenFull;
use super::heart::{Heart, LEASES_MAX, Limits, Verdict, Words};
use super::lanes::Lane;
use super::mem_store::MemStore;
use super::recovery;
use super::testing::{NOON_NS, depot_schema, depot_window, empty_window};
use crate::measure::{BootId, ClockTrust, Entry, EventKind, Gap, GapReason, Identity, Mono, Seq, Stamp, Utc, Window};

/// 2001-01-01 UTC.
const Y2001_NS: i64 = 978_307_200_000_000_000;
/// Of the model's windows.
const WINDOW_NS: u64 = 250_000_000;

#[derive(Debug, Clone)]
enum Step {
    Append,
    Commit,
    Lease(Lane, usize),
    Acknowledge(usize),
    GiveBack(usize),
    Refuse(usize),
    GoLive,
    Tend(u64),
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
        14 => Just(Step::Commit),
        14 => (lane, 1_usize..9).prop_map(|(lane, max)| Step::Lease(lane, max)),
        16 => any::<usize>().prop_map(Step::Acknowledge),
        5 => any::<usize>().prop_map(Step::GiveBack),
        2 => any::<usize>().prop_map(Step::Refuse),
        2 => Just(Step::GoLive),
        8 => (1_u64..12_000).prop_map(Step::Tend),
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
}

impl Oracle {
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

    fn acknowledge(&mut self, entry: &Entry, doomed: bool) {
        self.acknowledged.insert(entry.identity);
        if doomed {
            self.late.insert(entry.identity);
        }
        for event in &entry.window.events {
            if let EventKind::Gap(gap) = event.kind {
                self.told.push(gap);
            }
        }
    }

    fn is_told(&self, identity: Identity) -> bool {
        self.told.iter().any(|g| g.epoch == identity.epoch && (g.from..=g.to).contains(&identity.seq))
    }

    fn judge(&self, last: u64) {
        for identity in &self.durable {
            let fate = self.acknowledged.contains(identity) || self.is_told(*identity);
            assert!(fate, "{identity:?} was durable, did not arrive, and no gap tells of it");
        }
        for identity in &self.acknowledged {
            let twice = self.is_told(*identity) && !self.late.contains(identity);
            assert!(!twice, "{identity:?} arrived, and a gap says that it never will");
        }
        for seq in 1..=last {
            let arrived = self.acknowledged.iter().any(|i| i.seq == Seq(seq));
            let told = self.told.iter().any(|g| (g.from..=g.to).contains(&Seq(seq)));
            assert!(arrived || told, "nobody knows what became of number {seq}");
        }
    }
}

struct World {
    heart: Heart<MemStore>,
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
            age_max: Duration::from_secs(72 * 3600),
            when_full,
            commit_interval: Duration::from_millis(100),
            time_wait: Duration::from_secs(10),
            segment_bytes: 1_500,
            segment_chunks: 6,
        };
        let clocks = Clocks::new();
        let heart = Self::open(MemStore::default(), &limits, &clocks);
        let (leases, oracle) = (Vec::new(), Oracle::default());
        Self { heart, limits, leases, oracle, windows: 0, now: Duration::ZERO, clocks }
    }

    fn open(mut store: MemStore, limits: &Limits, clocks: &Clocks) -> Heart<MemStore> {
        let schema = depot_schema("gw-01", 2, 3);
        let (boot, now) = (clocks.boot(), clocks.now());
        let start = recovery::start(&mut store, &schema, boot, now).expect("the medium works again");
        let words = Words { epoch: start.epoch, boot, schema: Arc::new(schema) };
        Heart::new(Some(store), limits.clone(), words, start)
    }

    fn restart(&mut self, store: MemStore) {
        self.clocks.advance(3_000_000_000);
        self.leases.clear();
        self.now = Duration::ZERO;
        let before = self.heart.words.epoch;
        self.heart = Self::open(store, &self.limits, &self.clocks);
        assert!(self.heart.words.epoch > before, "the epoch was not raised");
        // An acknowledgement that the end of the process took is a repeat, or, if room runs out first, a gap too many.
        let settled = self.heart.lanes.settled();
        let forgotten = self.oracle.acknowledged.iter().filter(|identity| !settled.contains(identity.seq.0));
        self.oracle.late.extend(forgotten);
    }

    fn store(&mut self) -> &mut MemStore {
        self.heart.store.as_mut().expect("the model always has a medium")
    }

    fn note_durable(&mut self) {
        let epoch = self.heart.words.epoch;
        let (durable, tail) = (self.heart.durable, &self.heart.tail);
        let new = (1..=durable).rev().take_while(|&seq| tail.find(seq).is_some());
        self.oracle.durable.extend(new.map(|seq| Identity { epoch, seq: Seq(seq) }));
    }

    fn commit(&mut self) {
        self.heart.commit(self.now);
        self.note_durable();
    }

    fn lease(&mut self, lane: Lane, max: usize) -> usize {
        let leased = self.heart.lease(lane, max);
        for entry in &leased {
            self.oracle.see(entry);
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
        let doomed = !self.heart.lanes.any_leased_in(seq.0, seq.0);
        self.oracle.acknowledge(entry, doomed);
        self.heart.settle(Verdict::Acknowledged(seq));
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Append => {
                self.windows += 1;
                let window = self.clocks.stamped(depot_window(2, 3, self.windows));
                self.heart.append(window, self.now);
            }
            Step::Commit => self.commit(),
            Step::Lease(lane, max) => drop(self.lease(lane, max)),
            Step::Acknowledge(pick) => {
                if let Some(entry) = self.take_lease(pick) {
                    self.acknowledge(&entry);
                }
            }
            Step::GiveBack(pick) => {
                if let Some(entry) = self.take_lease(pick) {
                    self.heart.settle(Verdict::GivenBack(entry.identity.seq));
                }
            }
            Step::Refuse(pick) => {
                if let Some(entry) = self.take_lease(pick) {
                    let (identity, points) = (entry.identity, entry.window.points());
                    let told = entry.window.gaps().collect();
                    // A cut may take the memory of the refusal, and the broker may take the repeat.
                    self.oracle.late.insert(identity);
                    self.heart.settle(Verdict::Refused { identity, points, code: 0x99, told });
                }
            }
            Step::GoLive => self.heart.go_live(),
            Step::Tend(ms) => {
                self.now += Duration::from_millis(ms);
                self.heart.tend(self.now);
            }
            Step::Stop => {
                let closed = self.heart.close(Some((self.clocks.boot(), self.clocks.now())), self.now);
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
        self.heart.go_live();
        for _ in 0..10_000 {
            self.now += Duration::from_secs(3);
            let window = self.clocks.stamped(empty_window(self.windows));
            self.heart.append(window, self.now);
            self.commit();
            self.heart.tend(self.now);
            let count = self.lease(Lane::History, LEASES_MAX) + self.lease(Lane::Live, LEASES_MAX);
            for entry in std::mem::take(&mut self.leases) {
                self.acknowledge(&entry);
            }
            if count == 0 && !self.heart.losses.any_untold() && self.heart.lanes.waiting() == 0 {
                return;
            }
        }
        panic!("the journal never drains: {:?}", self.heart.lanes);
    }
}

fn run(when_full: WhenFull, bytes_max: u64, steps: &[Step]) -> World {
    let mut world = World::new(when_full, bytes_max);
    for step in steps {
        world.step(step);
    }
    world.drain();
    world.oracle.judge(world.heart.durable);
    world
}

fn cases() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(400);
    ProptestConfig { cases, max_shrink_iters: 4_000, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn no_cut_loses_or_changes_what_was_durable(steps in prop::collection::vec(any_step(), 1..160)) {
        let world = run(WhenFull::DropOldest, u64::MAX, &steps);
        prop_assert!(world.oracle.told.iter().all(|g| g.reason != GapReason::Aged));
        if world.clocks.zeros.values().all(|(_, honest)| *honest) {
            let labels = world.oracle.labels_in_order();
            prop_assert!(labels.is_sorted(), "labels out of order: {labels:?}");
        }
    }

    #[test]
    fn dropping_the_oldest_leaves_exact_gaps(steps in prop::collection::vec(any_step(), 1..160)) {
        run(WhenFull::DropOldest, 6_000, &steps);
    }

    #[test]
    fn refusing_the_newest_accounts_for_every_number(steps in prop::collection::vec(any_step(), 1..160)) {
        run(WhenFull::RefuseNewest, 6_000, &steps);
    }
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
        world.oracle.judge(world.heart.durable);
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
