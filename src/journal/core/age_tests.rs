//! What makes entries old, and what does not.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::journal::core::context::WriterContext;
use crate::journal::core::journal_core::JournalCore;
use crate::journal::core::limits::Limits;
use crate::journal::core::recovery;
use crate::journal::disk::mem_store::MemStore;
use crate::journal::line::{LEASES_MAX, Lane, Settlement};
use crate::journal::testing::{NOON_NS, depot_schema, depot_window};
use crate::measure::{BootId, ClockTrust, Entry, GapReason, Mono, Stamp, Utc, Window};

const AGE_MAX: Duration = Duration::from_secs(72 * 3_600);
const DAY_S: i64 = 86_400;

/// A box with its two clocks, and the journal on it. A window a second, two to a segment.
struct Box {
    core: JournalCore<MemStore>,
    boot: u8,
    n: u64,
    /// Time in this life.
    now: Duration,
    /// Time in this boot.
    mono: Duration,
    /// What the wall clock is ahead of the truth, s.
    ahead_s: i64,
    trust: ClockTrust,
    /// How long the box was off, all together.
    off: Duration,
    /// The true time of each entry's end, by number.
    truth: HashMap<u64, i64>,
}

fn begin(mut store: MemStore, boot: u8) -> JournalCore<MemStore> {
    let limits = Limits { age_max: AGE_MAX, segment_chunks: 2, ..Limits::boundless() };
    let (schema, boot) = (depot_schema("gw-01", 1, 1), BootId([boot; 16]));
    let now = Stamp { mono: Mono(0), utc: Utc(NOON_NS), trust: ClockTrust::Synced };
    let start = recovery::start(&mut store, &schema, boot, now).expect("the medium works");
    let context = WriterContext { epoch: start.epoch, boot, schema: Arc::new(schema) };
    JournalCore::new(Some(store), limits, context, start)
}

impl Box {
    fn new() -> Self {
        let (now, mono, off) = (Duration::ZERO, Duration::from_secs(20), Duration::ZERO);
        let core = begin(MemStore::default(), 1);
        let truth = HashMap::new();
        Self { core, boot: 1, n: 0, now, mono, ahead_s: 0, trust: ClockTrust::Synced, off, truth }
    }

    /// So much time goes by, with a window at its end.
    fn run(&mut self, by: Duration) {
        self.now += by;
        self.mono += by;
        self.n += 1;
        let truth = NOON_NS + i64::try_from((self.off + self.mono).as_nanos()).expect("short");
        let shown = truth + self.ahead_s * 1_000_000_000;
        self.truth.insert(self.core.next(), truth);
        let end = Stamp {
            mono: Mono(u64::try_from(self.mono.as_nanos()).expect("short")),
            utc: Utc(shown),
            trust: self.trust,
        };
        let boot = BootId([self.boot; 16]);
        self.core.append(Window { boot, end, ..depot_window(1, 1, self.n) }, self.now);
        self.core.commit(self.now);
        self.core.maintain(self.now);
    }

    fn seconds(&mut self, count: u64) {
        for _ in 0..count {
            self.run(Duration::from_secs(1));
        }
    }

    /// Without power for so long; the last life ended in order or not.
    fn off(mut self, off: Duration, in_order: bool) -> Self {
        if in_order {
            self.core.close(None, self.now).expect("the medium works");
        }
        let store = self.core.into_store().expect("it has one");
        let (boot, now, mono) = (self.boot + 1, Duration::ZERO, Duration::from_secs(20));
        Self { core: begin(store, boot), boot, now, mono, off: self.off + self.mono + off, ..self }
    }

    /// All that comes out, and how many were given up as too old.
    fn drain(&mut self) -> (Vec<Arc<Entry>>, u64) {
        // What is connected does not wait for the clock for long.
        self.core.go_live();
        self.seconds(3);
        let (mut out, mut aged) = (Vec::new(), 0);
        loop {
            let mut leased = self.core.lease(Lane::History, LEASES_MAX);
            leased.extend(self.core.lease(Lane::Live, LEASES_MAX));
            match (leased.is_empty(), self.core.any_untold()) {
                (true, true) => self.seconds(1),
                (true, false) => return (out, aged),
                (false, _) => {}
            }
            for entry in leased {
                self.core.settle(Settlement::Acknowledged(entry.identity.seq));
                for gap in entry.window.gaps() {
                    assert_eq!(gap.reason, GapReason::Aged);
                    aged += gap.to.0 - gap.from.0 + 1;
                }
                out.push(entry);
            }
        }
    }
}

fn days(count: u64) -> Duration {
    Duration::from_secs(count * 86_400)
}

/// Steps of the clock: 50, or 200 with `HIL_LONG=1`.
fn steps() -> u64 {
    if std::env::var_os("HIL_LONG").is_some_and(|value| value == "1") { 200 } else { 50 }
}

/// Found by an outside harness: a clock that was 4.6 days ahead for 8 s, synced or not, had a fresh backlog deleted as too old.
#[test]
fn fifty_steps_of_the_wall_clock_during_an_outage_make_nothing_old() {
    let mut depot = Box::new();
    depot.seconds(10);
    let mut far_off = 0_u64;
    for step in 0..steps() {
        // 4.6 days ahead first; then minutes to weeks, both ways, with a clock that is synced, runs free, or was never synced.
        let size = [397_440, 60, 3_600, DAY_S, 4 * DAY_S, 30 * DAY_S][usize::try_from(step % 6).expect("small")];
        let back = step % 4 >= 2;
        depot.trust = if step.is_multiple_of(2) { ClockTrust::Synced } else { ClockTrust::Holdover };
        depot.ahead_s = if back { -size } else { size };
        depot.seconds(8);
        far_off += if depot.trust == ClockTrust::Holdover { 8 } else { 0 };
        (depot.ahead_s, depot.trust) =
            (0, if step.is_multiple_of(3) { ClockTrust::Holdover } else { ClockTrust::Synced });
        depot.seconds(8);
        if step % 10 == 9 {
            depot = depot.off(Duration::from_secs(600), step % 20 == 9);
            depot.trust = ClockTrust::Synced;
            depot.seconds(12);
        }
    }
    let kept = depot.n;
    let (out, aged) = depot.drain();
    // By the true time, when it was measured: a free clock that was set takes no time stamp along.
    let truth = |entry: &Entry| depot.truth[&entry.identity.seq.0];
    let is_off = |entry: &&Arc<Entry>| (entry.window.end.utc.0 - truth(entry)).abs() > 1_000_000_000;
    let off: Vec<_> = out.iter().filter(is_off).map(|entry| entry.window.end.trust).collect();
    assert!(off.iter().all(|trust| *trust == ClockTrust::Synced), "only a clock that calls itself synced is believed");
    println!("{} steps, {kept} windows kept, {aged} given up, {far_off} windows of a free clock that was set", steps());
    assert_eq!((aged, out.len() as u64), (0, depot.n));
}

#[test]
fn what_has_waited_for_longer_than_allowed_while_the_journal_ran_is_given_up_whatever_the_clock_shows() {
    let mut depot = Box::new();
    depot.seconds(6);
    depot.run(days(2));
    // In the past, as on a box without a battery.
    let mut depot = depot.off(days(5), true);
    (depot.trust, depot.ahead_s) = (ClockTrust::Unsynced, -9_000 * DAY_S);
    depot.seconds(4);
    depot.run(Duration::from_secs(86_400 - 600));
    assert_eq!(depot.core.losses().counts().1, 0, "2 days, 5 of which nobody knows, and 1 day less 10 minutes");
    depot.run(Duration::from_secs(1_200));
    let (out, aged) = depot.drain();
    assert_eq!(aged, 4, "the first segments, each of two windows");
    assert_eq!(out.len() as u64 + aged, depot.n);
}

#[test]
fn a_box_that_was_off_for_a_month_delivers_what_waited() {
    for in_order in [true, false] {
        let mut depot = Box::new();
        depot.seconds(5);
        let mut depot = depot.off(days(30), in_order);
        depot.seconds(5);
        let (out, aged) = depot.drain();
        assert_eq!((aged, out.len() as u64), (0, depot.n), "in order: {in_order}");
    }
}

#[test]
fn lives_that_are_cut_short_count_as_lived() {
    let mut depot = Box::new();
    depot.seconds(4);
    // 75 hours in half hours.
    for _ in 0..150 {
        depot.run(Duration::from_secs(1_800));
        depot = depot.off(Duration::ZERO, false);
    }
    let (out, aged) = depot.drain();
    assert!((4..20).contains(&aged), "{aged}");
    assert_eq!(out.len() as u64 + aged, depot.n);
}
