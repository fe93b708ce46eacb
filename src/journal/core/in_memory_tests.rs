//! What lives in memory tell, and what is told of them: once each, whatever becomes of the entry that tells it.

use std::sync::Arc;
use std::time::Duration;

use crate::journal::core::context::WriterContext;
use crate::journal::core::journal_core::JournalCore;
use crate::journal::core::limits::Limits;
use crate::journal::core::recovery::{self, Start};
use crate::journal::disk::mem_store::MemStore;
use crate::journal::disk::store::StoreError;
use crate::journal::line::{Lane, Lease, Line, Settlement};
use crate::journal::testing::{depot_schema, depot_window, empty_window, stamp};
use crate::measure::{BootId, Entry, Epoch, Event, EventKind, LifeLost, Seq, Utc};

const BOOT: BootId = BootId([7; 16]);
const LOST: (Epoch, Seq) = (Epoch(5), Seq(3));

fn core(store: Option<MemStore>, start: Start) -> JournalCore<MemStore> {
    let context = WriterContext { epoch: start.epoch, boot: BOOT, schema: Arc::new(depot_schema("gw-01", 40, 20)) };
    JournalCore::new(store, Limits::boundless(), context, start)
}

fn on_disk() -> JournalCore<MemStore> {
    let mut store = MemStore::default();
    let start = recovery::start(&mut store, &depot_schema("gw-01", 40, 20), BOOT, stamp(0)).expect("the medium works");
    core(Some(store), start)
}

fn without_disk() -> JournalCore<MemStore> {
    let mut core = core(None, Start::in_memory(None, BOOT, stamp(0)));
    core.without_medium(&StoreError::Shut);
    core
}

fn delivered(core: &mut JournalCore<MemStore>) -> Vec<Arc<Entry>> {
    let mut all = Vec::new();
    loop {
        let leased = core.lease(Lane::History, 32);
        if leased.is_empty() {
            return all;
        }
        leased.iter().for_each(|entry| core.settle(Settlement::Acknowledged(entry.identity.seq)));
        all.extend(leased);
    }
}

fn lives(entries: &[Arc<Entry>]) -> Vec<LifeLost> {
    entries.iter().flat_map(|entry| entry.window.lives_lost()).collect()
}

fn events(entries: &[Arc<Entry>]) -> Vec<&'static str> {
    entries.iter().flat_map(|entry| &entry.window.events).map(|event| event.kind.name()).collect()
}

#[test]
fn a_lost_life_whose_entry_the_broker_refuses_is_told_in_another() {
    let mut core = on_disk();
    core.tell_lives_lost([LOST].into_iter());
    core.append(depot_window(1, 1, 1), Duration::ZERO);
    core.commit(Duration::ZERO);
    let told = core.lease(Lane::History, 32);
    assert_eq!((lives(&told).len(), core.has_told_lives()), (1, true));
    let (line, inbox) = Line::new();
    told.into_iter().for_each(|entry| Lease::new(entry, Lane::History, line.clone()).refuse(0x99));
    inbox.settlements().into_iter().for_each(|settlement| core.settle(settlement));
    assert!(!core.has_told_lives(), "nobody has heard of it");
    core.append(empty_window(2), Duration::ZERO);
    core.commit(Duration::ZERO);
    let told = lives(&delivered(&mut core));
    assert_eq!(told, [LifeLost { epoch: LOST.0, from: LOST.1, to: None, renumbered: false }]);
    assert!(core.has_told_lives());
}

#[test]
fn a_lost_life_that_the_broker_has_heard_of_is_not_told_again_when_memory_gives_its_entry_up() {
    let mut core = without_disk();
    core.tell_lives_lost([LOST].into_iter());
    core.append(depot_window(1, 1, 1), Duration::ZERO);
    core.commit(Duration::ZERO);
    assert_eq!(lives(&delivered(&mut core)).len(), 1);
    // Until memory has given up far more than the first.
    let mut n = 1;
    while core.losses().counts().1 < 100 {
        n += 1;
        assert!(n < 100_000, "memory has no bound");
        core.append(depot_window(40, 20, n), Duration::ZERO);
        core.commit(Duration::ZERO);
    }
    assert_eq!(lives(&delivered(&mut core)), []);
}

#[test]
fn a_life_that_goes_on_where_it_cannot_write_either_does_not_say_that_it_can() {
    let mut core = without_disk();
    core.append(depot_window(1, 1, 1), Duration::ZERO);
    core.commit(Duration::ZERO);
    let mut store = MemStore::default();
    store.full = true;
    let known = Some(core.epoch());
    let start = recovery::find(&mut store, &depot_schema("gw-01", 40, 20), known, BOOT, stamp(1)).expect("it is read");
    core.adopt(store, start, Duration::ZERO);
    core.commit(Duration::ZERO);
    assert_eq!(events(&delivered(&mut core)), ["journal_in_memory", "gap"]);
    // It can be written now.
    core.store_mut().expect("one").full = false;
    core.append(depot_window(1, 1, 2), Duration::from_secs(9));
    core.commit(Duration::from_secs(9));
    core.append(empty_window(3), Duration::from_secs(9));
    core.commit(Duration::from_secs(9));
    assert_eq!(events(&delivered(&mut core)), ["journal_working"]);
}

/// What waited to be told of the clock went with the life in memory, or came twice.
#[test]
fn steps_of_the_clock_that_wait_are_told_once_when_there_is_a_disk() {
    let steps = |entries: &[Arc<Entry>]| -> Vec<i64> {
        let told = entries.iter().flat_map(|entry| &entry.window.events);
        told.filter_map(|event| if let EventKind::ClockStepped(by_ns) = event.kind { Some(by_ns) } else { None })
            .collect()
    };
    let run = |core: &mut JournalCore<MemStore>, adopts: bool| {
        for n in 1..=12 {
            let mut window = depot_window(1, 1, n);
            if n <= 2 {
                window.events.push(Event { device: None, kind: EventKind::ClockStepped(7_000_000) });
            }
            if n >= 3 {
                // It is set back, and nobody says so.
                window.end.utc = Utc(window.end.utc.0 - 3_600_000_000_000);
            }
            core.append(window, Duration::ZERO);
            core.commit(Duration::ZERO);
            if n == 4 && adopts {
                let (mut store, schema) = (MemStore::default(), depot_schema("gw-01", 40, 20));
                let start =
                    recovery::find(&mut store, &schema, Some(core.epoch()), BOOT, stamp(1)).expect("it is read");
                core.adopt(store, start, Duration::ZERO);
            }
        }
        steps(&delivered(core))
    };
    let (told, told_anew) = (run(&mut on_disk(), false), run(&mut without_disk(), true));
    assert_eq!((told.len(), told[0]), (2, 7_000_000), "{told:?}");
    assert!(told[1] < -3_000_000_000_000, "{told:?}");
    assert_eq!(told_anew, told);
}
