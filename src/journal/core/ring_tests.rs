//! Without a medium that writes, memory is all there is: bounded, and told.

use std::sync::Arc;
use std::time::Duration;

use crate::health::StatusBoard;
use crate::journal::core::context::WriterContext;
use crate::journal::core::journal_core::JournalCore;
use crate::journal::core::limits::Limits;
use crate::journal::core::ranges::Ranges;
use crate::journal::core::recovery::{self, Start};
use crate::journal::disk::mem_store::MemStore;
use crate::journal::disk::store::StoreError;
use crate::journal::line::{LEASES_MAX, Lane, Settlement};
use crate::journal::testing::{depot_schema, depot_window, empty_window, stamp};
use crate::measure::{BootId, ClockTrust, Entry, EventKind, GapReason, Utc};

const BOOT: BootId = BootId([7; 16]);
/// Windows of 240 points, some 900 bytes: three times what memory holds.
const WINDOWS: u64 = 15_000;
/// What memory holds, and the newest window.
const BYTES_MAX: usize = 4 * 1024 * 1024 + 4096;

fn core(store: Option<MemStore>) -> JournalCore<MemStore> {
    let limits = Limits {
        age_max: Duration::from_secs(72 * 3600),
        time_wait: Duration::from_secs(300),
        segment_chunks: 1000,
        ..Limits::boundless()
    };
    let schema = depot_schema("gw-01", 20, 12);
    let (store, start) = match store {
        Some(mut store) => {
            let start = recovery::start(&mut store, &schema, BOOT, stamp(0)).expect("the medium works at first");
            (Some(store), start)
        }
        None => (None, Start::in_memory(None, BOOT, stamp(0))),
    };
    let context = WriterContext { epoch: start.epoch, boot: BOOT, schema: Arc::new(schema) };
    JournalCore::new(store, limits, context, start)
}

/// Hours without a broker.
fn hoard(core: &mut JournalCore<MemStore>) {
    for n in 1..=WINDOWS {
        let now = Duration::from_millis(250 * n);
        core.append(depot_window(20, 12, n), now);
        if core.commit_at().is_some_and(|at| at <= now) || !core.has_medium() {
            core.commit(now);
        }
        core.maintain(now);
        assert!(
            core.queue().tail().open_bytes() <= BYTES_MAX,
            "{} bytes wait in memory",
            core.queue().tail().open_bytes()
        );
    }
    // The last losses are told in windows in which nothing else is.
    for n in 1..=3 {
        let now = Duration::from_millis(250 * WINDOWS + 2_500 * n);
        core.append(empty_window(WINDOWS + 10 * n), now);
        core.commit(now);
    }
}

/// All that comes out.
fn drain(core: &mut JournalCore<MemStore>) -> Vec<Arc<Entry>> {
    let mut out = Vec::new();
    loop {
        let leased = core.lease(Lane::History, LEASES_MAX);
        if leased.is_empty() {
            return out;
        }
        for entry in leased {
            core.settle(Settlement::Acknowledged(entry.identity.seq));
            out.push(entry);
        }
    }
}

#[track_caller]
fn judge(core: &JournalCore<MemStore>, out: &[Arc<Entry>]) {
    let came: Vec<u64> = out.iter().map(|entry| entry.identity.seq.0).collect();
    let (first, last) = (came[0], came[came.len() - 1]);
    assert!(first > WINDOWS / 3, "nothing had to be given up: {first}");
    assert!(came.iter().copied().eq(first..=last), "what memory holds comes in order");
    assert!(last + 20 > WINDOWS, "the newest are not there: {last}");
    let (mut told, mut count) = (Ranges::default(), 0);
    for gap in out.iter().flat_map(|entry| entry.window.gaps()) {
        assert_eq!((gap.reason, gap.epoch), (GapReason::JournalFull, core.epoch()));
        assert_eq!(gap.points, Some((gap.to.0 - gap.from.0 + 1) * 240));
        told.insert(gap.from.0, gap.to.0);
        count += gap.to.0 - gap.from.0 + 1;
    }
    assert_eq!((told.iter().collect::<Vec<_>>(), count), (vec![(1, first - 1)], first - 1), "each loss is told once");
    let failing = out.iter().flat_map(|entry| &entry.window.events).find_map(|event| match &event.kind {
        EventKind::JournalFailing(why) | EventKind::JournalInMemory { why, .. } => Some(why.to_string()),
        _ => None,
    });
    assert_eq!(failing.as_deref(), core.trouble(), "the broker hears what status says");
    assert!(failing.is_some());
    println!("of {WINDOWS} windows {} came, {} were told as lost", came.len(), count);
}

#[test]
fn without_any_medium_memory_is_bounded_and_losses_and_trouble_are_told() {
    let mut core = core(None);
    let source = std::io::Error::from(std::io::ErrorKind::ReadOnlyFilesystem);
    core.without_medium(&StoreError::io("make", std::path::Path::new("/journal"), source));
    hoard(&mut core);
    let out = drain(&mut core);
    judge(&core, &out);
}

#[test]
fn while_the_medium_fails_memory_is_bounded_and_losses_and_trouble_are_told() {
    let mut core = core(Some(MemStore::default()));
    core.store_mut().expect("it has one").full = true;
    hoard(&mut core);
    assert!(core.losses().open() <= 6_000, "{} losses wait to be told", core.losses().open());
    let out = drain(&mut core);
    judge(&core, &out);

    // Space returns: it says so, and keeps what comes.
    core.store_mut().expect("it has one").full = false;
    let now = Duration::from_millis(250 * (WINDOWS + 100));
    core.append(depot_window(20, 12, WINDOWS + 100), now);
    core.commit(now);
    assert_eq!(core.trouble(), None);
    core.append(depot_window(20, 12, WINDOWS + 101), now);
    core.commit(now);
    assert_eq!(core.durable(), core.next() - 1);
    let out = drain(&mut core);
    // Gaps whose telling never became durable are told again.
    let events = out.iter().flat_map(|entry| &entry.window.events).map(|event| &event.kind);
    let events: Vec<_> = events.filter(|kind| kind.gap().is_none()).collect();
    assert_eq!(events, [&EventKind::JournalWorking]);
}

/// Found by reading: the text was made after every command, and thrown away unless something was held.
#[test]
fn why_entries_wait_for_the_clock_is_put_into_words_when_somebody_asks() {
    let board = StatusBoard::default();
    let mut core = core(Some(MemStore::default()));
    core.append(depot_window(20, 12, 1), Duration::ZERO);
    core.commit(Duration::ZERO);
    board.journal(|facts| {
        core.note(facts);
        assert_eq!((facts.held_entries, &facts.clock_wait, &facts.held_why), (0, &None, &None));
    });

    let mut window = depot_window(20, 12, 2);
    (window.boot, window.end.trust, window.end.utc) = (BootId([8; 16]), ClockTrust::Unsynced, Utc(0));
    core.append(window, Duration::ZERO);
    core.commit(Duration::from_secs(1));
    board.journal(|facts| {
        core.note(facts);
        assert_eq!((facts.held_entries, facts.clock_wait.is_some(), &facts.held_why), (1, true, &None));
    });
    let asked = board.status().journal;
    let why = asked.held_why.expect("somebody asks");
    assert!(why.contains("1970-01-01T00:00:00.000Z") && why.contains("300 s after the first connection"), "{why}");
    assert_eq!(asked.clock_wait, None);
}
