//! What the broker has had, and nobody else: it may become coarser as if it had never gone out.

use std::sync::Arc;
use std::time::Duration;

use crate::journal::core::context::WriterContext;
use crate::journal::core::journal_core::JournalCore;
use crate::journal::core::limits::Limits;
use crate::journal::core::recovery;
use crate::journal::disk::mem_store::MemStore;
use crate::journal::line::{LEASES_MAX, Lane, Settlement};
use crate::journal::testing::{depot_schema, depot_window, stamp};
use crate::measure::BootId;

const BOOT: BootId = BootId([7; 16]);

/// Four segments of 16 windows each.
fn hoard() -> JournalCore<MemStore> {
    let mut core = core();
    for n in 1..=64 {
        core.append(depot_window(4, 4, n), Duration::ZERO);
        if n % 16 == 0 {
            core.commit(Duration::ZERO);
        }
    }
    core
}

/// Each commit makes a segment.
fn core() -> JournalCore<MemStore> {
    let limits = Limits { segment_chunks: 1, ..Limits::boundless() };
    let (schema, mut store) = (depot_schema("gw-01", 4, 4), MemStore::default());
    let start = recovery::start(&mut store, &schema, BOOT, stamp(0)).expect("the medium works");
    let context = WriterContext { epoch: start.epoch, boot: BOOT, schema: Arc::new(schema) };
    JournalCore::new(Some(store), limits, context, start)
}

/// What the broker has of a segment from memory is told by its mark alone, until the entries are durable and a cursor has them as
/// settled. What nobody heard of the same segment took the mark away.
#[test]
fn a_segment_of_which_the_broker_has_unsynced_entries_stays_noted_whatever_nobody_heard_of_it() {
    let mut core = core();
    core.append(depot_window(4, 4, 1), Duration::ZERO);
    core.commit(Duration::ZERO);
    core.store_mut().expect("one").full = true;
    core.append(depot_window(4, 4, 2), Duration::ZERO);
    (1..=600).for_each(|s| core.commit(Duration::from_secs(s)));
    let leased: Vec<_> = core.lease(Lane::History, LEASES_MAX).iter().map(|entry| entry.identity.seq).collect();
    assert_eq!((leased.len(), core.durable()), (2, 1), "one of them goes out from memory");
    core.settle(Settlement::Acknowledged(leased[1]));
    core.settle(Settlement::Unheard(leased[0]));
    assert!(core.notes_publication_of(1));
}

/// With `no_subscriber = "hold"` an entry goes out now and then. It marked its segment as published, so that nothing became coarser
/// any more, and the oldest was dropped instead.
#[test]
fn a_backlog_that_is_offered_and_that_nobody_hears_becomes_coarser_all_the_same() {
    for is_unheard in [true, false] {
        let mut core = hoard();
        for entry in core.lease(Lane::History, LEASES_MAX) {
            let seq = entry.identity.seq;
            core.settle(if is_unheard { Settlement::Unheard(seq) } else { Settlement::GivenBack(seq) });
        }
        assert_eq!(core.queue().lanes().waiting(), 64);
        assert_eq!(core.downsample_one_run(Duration::ZERO), is_unheard);
        assert_eq!(core.queue().lanes().waiting() < 64, is_unheard);
    }
}
