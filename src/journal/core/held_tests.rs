//! Events of windows that were not kept. An update noted its event as told as soon as all that it had handed over was durable, and the
//! window with the event had been refused, or had gone from memory.

use std::sync::Arc;
use std::time::Duration;

use crate::journal::core::context::WriterContext;
use crate::journal::core::journal_core::JournalCore;
use crate::journal::core::limits::Limits;
use crate::journal::core::recovery;
use crate::journal::disk::mem_store::MemStore;
use crate::journal::line::{LEASES_MAX, Lane, Settlement};
use crate::journal::testing::{depot_schema, depot_window, stamp};
use crate::measure::{BootId, Event, EventKind, WhenFull, Window};

const BOOT: BootId = BootId([7; 16]);

fn begin(mut store: MemStore, limits: Limits) -> JournalCore<MemStore> {
    let schema = depot_schema("gw-01", 40, 20);
    let start = recovery::start(&mut store, &schema, BOOT, stamp(0)).expect("the medium works");
    let context = WriterContext { epoch: start.epoch, boot: BOOT, schema: Arc::new(schema) };
    JournalCore::new(Some(store), limits, context, start)
}

fn with_event(n: u64) -> Window {
    let kind = EventKind::UpdateStarted { from: "0.1.0".into(), to: "0.2.0".into() };
    Window { events: vec![Event { device: None, kind }], ..depot_window(2, 3, n) }
}

fn append(core: &mut JournalCore<MemStore>, window: Window, n: u64) {
    let now = Duration::from_millis(250 * n);
    core.append(window, now);
    core.commit(now);
    core.maintain(now);
}

/// How often the event comes in what is delivered.
fn delivered(core: &mut JournalCore<MemStore>) -> usize {
    let mut came = 0;
    loop {
        let leased = core.lease(Lane::History, LEASES_MAX);
        if leased.is_empty() {
            return came;
        }
        for entry in leased {
            let is_it = |event: &&Event| event.kind.is_of_update();
            came += entry.window.events.iter().filter(is_it).count();
            core.settle(Settlement::Acknowledged(entry.identity.seq));
        }
    }
}

/// A journal that has refused a window with the event; the number of the next window.
fn refused(limits: &Limits) -> (JournalCore<MemStore>, u64) {
    let mut core = begin(MemStore::default(), limits.clone());
    let mut n = 0;
    while !core.losses().any_refused() {
        n += 1;
        assert!(n < 1_000, "it is never full");
        append(&mut core, depot_window(2, 3, n), n);
    }
    append(&mut core, with_event(n + 1), n + 1);
    assert!(!core.is_durable(), "whoever tells it must not take it for told");
    (core, n + 2)
}

fn limits() -> Limits {
    Limits { bytes_max: 6_000, segment_chunks: 2, when_full: WhenFull::RefuseNewest, ..Limits::boundless() }
}

#[test]
fn what_happened_in_a_window_that_was_refused_is_told_once_when_there_is_room_again() {
    let (mut core, mut n) = refused(&limits());
    assert_eq!(delivered(&mut core), 0, "it is in none that was kept");
    for _ in 0..4 {
        append(&mut core, depot_window(2, 3, n), n);
        n += 1;
    }
    assert!(core.is_durable());
    assert_eq!(delivered(&mut core), 1);
}

/// What was to be told is in none of the entries, so that who looks for it there (`agent::confirm`) tells it again.
#[test]
fn a_kill_takes_what_happened_in_a_window_that_was_refused_and_nothing_says_that_it_was_told() {
    let (core, n) = refused(&limits());
    let store = core.into_store().expect("a medium").after_kill();
    let mut core = begin(store, limits());
    assert_eq!(delivered(&mut core), 0);
    append(&mut core, with_event(n), n);
    append(&mut core, depot_window(2, 3, n + 1), n + 1);
    assert!(core.is_durable());
    assert_eq!(delivered(&mut core), 1);
}

#[test]
fn an_orderly_end_tells_what_happened_in_a_window_that_was_refused() {
    let (mut core, n) = refused(&limits());
    core.close(Some((BOOT, stamp(n))), Duration::from_millis(250 * n)).expect("it ends");
    let store = core.into_store().expect("a medium").after_kill();
    assert_eq!(delivered(&mut begin(store, limits())), 1);
}

#[test]
fn what_happened_in_an_entry_that_memory_gave_up_is_told_when_the_medium_writes_again() {
    let mut core = begin(MemStore::default(), Limits { time_wait: Duration::from_secs(300), ..Limits::boundless() });
    core.store_mut().expect("one").full = true;
    let mut n = 1;
    append(&mut core, with_event(1), 1);
    while core.losses().counts().1 == 0 && n < 10_000 && !core.losses().any_untold() {
        n += 1;
        append(&mut core, depot_window(40, 20, n), n);
    }
    core.store_mut().expect("one").full = false;
    for _ in 0..20 {
        n += 1;
        append(&mut core, depot_window(2, 3, n), n);
    }
    assert!(core.is_durable());
    assert_eq!(delivered(&mut core), 1);
}
