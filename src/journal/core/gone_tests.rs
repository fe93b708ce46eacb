//! Segments whose directory is gone: their numbers seemed to be of the segment before them, and of the life that wrote that.

use std::sync::Arc;
use std::time::Duration;

use crate::journal::core::context::WriterContext;
use crate::journal::core::journal_core::JournalCore;
use crate::journal::core::limits::Limits;
use crate::journal::core::recovery;
use crate::journal::disk::mem_store::MemStore;
use crate::journal::disk::store::Store;
use crate::journal::line::{LEASES_MAX, Lane, Settlement};
use crate::journal::testing::{depot_schema, depot_window, empty_window, stamp};
use crate::measure::{BootId, Epoch, Gap, GapReason, Seq, WhenFull};

const BOOT: BootId = BootId([7; 16]);
/// Windows of each life: four segments of two.
const WINDOWS: u64 = 8;

fn begin(mut store: MemStore, limits: &Limits) -> JournalCore<MemStore> {
    let schema = depot_schema("gw-01", 2, 3);
    let start = recovery::start(&mut store, &schema, BOOT, stamp(0)).expect("the medium works");
    let context = WriterContext { epoch: start.epoch, boot: BOOT, schema: Arc::new(schema) };
    JournalCore::new(Some(store), limits.clone(), context, start)
}

fn limits() -> Limits {
    Limits { segment_chunks: 2, ..Limits::boundless() }
}

/// Two lives of which nothing was delivered: their epochs, and the medium.
fn two_lives() -> ([Epoch; 2], MemStore) {
    let mut store = MemStore::default();
    let epochs = [0, 1].map(|life| {
        let mut core = begin(std::mem::take(&mut store), &limits());
        for n in 1..=WINDOWS {
            core.append(depot_window(2, 3, life * WINDOWS + n), Duration::ZERO);
            core.commit(Duration::ZERO);
        }
        core.close(None, Duration::ZERO).expect("it ends");
        let epoch = core.epoch();
        store = core.into_store().expect("a medium").after_kill();
        epoch
    });
    (epochs, store)
}

/// What is told after these segments have gone, and how many entries come.
fn told_without(gone: &[u64], limits: &Limits) -> (Vec<Gap>, usize, [Epoch; 2]) {
    let (epochs, mut store) = two_lives();
    let firsts: Vec<u64> = store.segments().expect("a list").into_iter().map(|found| found.first.0).collect();
    assert_eq!(firsts, [1, 3, 5, 7, 9, 11, 13, 15]);
    gone.iter().for_each(|first| store.remove(Seq(*first)).expect("removed"));
    let mut core = begin(store, limits);
    core.go_live();
    let (mut gaps, mut came) = (Vec::new(), 0);
    for n in 1..=6 {
        core.append(empty_window(100 + n), Duration::from_secs(n));
        core.commit(Duration::from_secs(n));
        core.maintain(Duration::from_secs(n));
        for lane in [Lane::History, Lane::Live] {
            for entry in core.lease(lane, LEASES_MAX) {
                came += usize::from(entry.window.points() > 0);
                gaps.extend(entry.window.gaps());
                core.settle(Settlement::Acknowledged(entry.identity.seq));
            }
        }
    }
    assert_eq!(core.progress().unacknowledged, 0);
    (gaps, came, epochs)
}

fn gap(epoch: Epoch, from: u64, to: u64) -> Gap {
    Gap { epoch, from: Seq(from), to: Seq(to), points: None, reason: GapReason::Corrupt }
}

#[test]
fn what_is_gone_between_two_segments_of_one_life_is_told_as_of_that_life() {
    let (gaps, came, [first, second]) = told_without(&[5, 11, 13], &limits());
    assert_eq!(gaps, [gap(first, 5, 6), gap(second, 11, 14)]);
    assert_eq!(came, 10);
}

#[test]
fn what_is_gone_between_two_lives_is_told_as_of_nobody_knows_which() {
    for gone in [&[7][..], &[9], &[5, 7, 9, 11]] {
        let (gaps, came, _) = told_without(gone, &limits());
        let (from, to) = (gone[0], gone[gone.len() - 1] + 1);
        assert_eq!((gaps, came), (vec![gap(Epoch(0), from, to)], 16 - 2 * gone.len()), "{gone:?}");
    }
}

/// The segment before it gave way, and took the numbers of the one that was gone along.
#[test]
fn who_gives_up_a_segment_does_not_tell_what_is_gone_behind_it_as_of_its_life() {
    let tight = Limits { bytes_max: 1, when_full: WhenFull::DropOldest, ..limits() };
    let (gaps, _, [first, second]) = told_without(&[9], &tight);
    let of = |gap: &Gap| (gap.epoch, gap.from.0, gap.to.0, gap.reason);
    let told: Vec<_> = gaps.iter().filter(|gap| gap.to.0 <= 16).map(of).collect();
    assert!(told.contains(&(Epoch(0), 9, 10, GapReason::Corrupt)), "{told:?}");
    for (epoch, from, to, reason) in told {
        let is_right = match epoch {
            Epoch(0) => (from, to) == (9, 10),
            epoch if reason != GapReason::JournalFull => panic!("{epoch} {from} {to}"),
            epoch if epoch == first => to <= 8,
            epoch => epoch == second && from >= 11,
        };
        assert!(is_right, "{epoch} from {from} to {to}");
    }
}
