use std::os::unix::fs::symlink;
use std::sync::Arc;

use super::*;
use crate::journal::testing::{depot_schema, depot_window};
use crate::measure::{BootId, Event, GapReason, Thinned, Window};

const EPOCH: Epoch = Epoch(7);
const BOOT: BootId = BootId([7; 16]);

fn gap(from: u64, to: u64) -> Gap {
    Gap { epoch: EPOCH, from: Seq(from), to: Seq(to), points: None, reason: GapReason::Thinned }
}

/// A complete segment of three entries, the first of which stands for others: `(from, to)` in place of `as_from`.
fn make(store: &mut SledStore, first: u64, stands_for: &[(u64, u64, u64)]) {
    let thinned = |&(from, to, as_from): &(u64, u64, u64)| {
        let (gap, window) = (gap(from, to), Duration::from_secs(1));
        let thinned = Thinned { gap, as_epoch: EPOCH, as_from: Seq(as_from), as_to: Seq(as_from + 2), window };
        Event { device: None, kind: EventKind::Thinned(thinned) }
    };
    let (mut chunk, mut seal) = (Chunk::new(EPOCH, Seq(first), 0), Seal::open(first));
    for n in 0..3 {
        let events = if n == 0 { stands_for.iter().map(thinned).collect() } else { Vec::new() };
        let window = Window { events, ..depot_window(1, 1, first + n) };
        chunk.push(&entry::encode(&window, BOOT).expect("it can be written").bytes);
    }
    seal.add(&chunk);
    let header = Header { epoch: EPOCH, first: Seq(first), boot: BOOT, schema: Arc::new(depot_schema("gw-01", 1, 1)) };
    store.make_whole(&header, &[chunk], &seal).expect("it is made");
}

fn firsts(store: &mut SledStore) -> Vec<u64> {
    store.segments().expect("they can be listed").iter().map(|found| found.first.0).collect()
}

/// The marker of a coarser segment was taken away. Its first entry also told what its source had stood for, of numbers long gone;
/// the segment below them passed for the source, and the coarser one was removed: nothing was left of either.
#[test]
fn a_coarser_segment_without_its_marker_is_removed_only_if_all_that_it_stands_for_is_there() {
    let place = tempfile::tempdir().expect("a directory");
    let mut store = SledStore::open(place.path()).expect("it opens");
    make(&mut store, 1, &[]);
    make(&mut store, 100, &[(10, 20, 50), (50, 60, 100)]);
    make(&mut store, 200, &[(1, 3, 200)]);
    make(&mut store, 300, &[(100, 102, 300), (103, 110, 300)]);
    for segment in [100, 200, 300] {
        fs::remove_file(store.path(Seq(segment)).join("ready")).expect("it has one");
    }
    assert_eq!(firsts(&mut store), [1, 100, 300], "200 is half made");
    assert!(!store.path(Seq(200)).exists() && store.path(Seq(100)).join("ready").exists());
}

/// What is unmarked and cannot be read for good kept the journal shut for ever, all of it.
#[test]
fn an_unmarked_segment_that_the_disk_has_lost_is_put_aside_and_one_that_may_be_read_later_is_asked_for_again() {
    let place = tempfile::tempdir().expect("a directory");
    let mut store = SledStore::open(place.path()).expect("it opens");
    make(&mut store, 1, &[]);
    let lost = store.path(Seq(10));
    fs::create_dir(&lost).expect("it is made");
    // EIO with each read (proc(5): nothing is mapped at 0), and a name that there cannot be.
    for file in [PathBuf::from("/proc/self/mem"), PathBuf::from("x".repeat(300))] {
        symlink(&file, lost.join("db")).expect("it is made");
        assert_eq!(firsts(&mut store), [1], "{}", file.display());
        assert!(!lost.exists());
        let aside = place.path().join(QUARANTINE).join("000000000000000a");
        assert_eq!(fs::read_link(aside.join("db")).expect("it is there"), file);
        fs::rename(&aside, &lost).expect("it comes back");
        fs::remove_file(lost.join("db")).expect("it is there");
    }
    symlink("db", lost.join("db")).expect("it is made");
    store.segments().expect_err("somebody may mend that (ELOOP)");
    assert!(lost.exists());
}

/// Where the source of a half made coarser segment was damaged, or could not be read, the half counted, and the source was removed.
#[test]
fn a_half_made_coarser_segment_does_not_outlive_a_source_that_is_damaged_or_cannot_be_read_now() {
    let place = tempfile::tempdir().expect("a directory");
    let mut store = SledStore::open(place.path()).expect("it opens");
    let source = store.path(Seq(1)).join("db");
    let half = |store: &mut SledStore| {
        if !store.path(Seq(200)).exists() {
            make(store, 200, &[(1, 3, 200)]);
        }
        fs::remove_file(store.path(Seq(200)).join("ready")).expect("it has one");
    };
    make(&mut store, 1, &[]);
    half(&mut store);
    let intact = fs::read(&source).expect("it is there");
    fs::remove_file(&source).expect("it is there");
    symlink("db", &source).expect("it is made");
    store.segments().expect_err("the source may be read later");
    assert!(store.path(Seq(200)).exists() && store.path(Seq(1)).exists());
    // One byte of each part of its entries; all magic is gone; the disk has lost it.
    let (mut torn, mut gone) = (intact.clone(), intact);
    let magic = crate::journal::disk::chunk::MAGIC;
    for at in (0..torn.len() - magic.len()).filter(|at| gone[*at..].starts_with(&magic)).collect::<Vec<_>>() {
        torn[at + 60] ^= 1;
        gone[at] ^= 1;
    }
    for bytes in [Some(torn), Some(gone), None] {
        fs::remove_file(&source).expect("it is there");
        match &bytes {
            Some(bytes) => fs::write(&source, bytes).expect("it is written"),
            None => symlink("/proc/self/mem", &source).expect("it is made"),
        }
        assert_eq!(firsts(&mut store), [1]);
        assert!(!store.path(Seq(200)).exists());
        half(&mut store);
    }
}

/// Both markers were taken away: as the coarser one was judged first, its source did not count yet.
#[test]
fn what_a_coarser_segment_was_made_of_is_judged_before_it() {
    let place = tempfile::tempdir().expect("a directory");
    let mut store = SledStore::open(place.path()).expect("it opens");
    make(&mut store, 50, &[(100, 102, 50)]);
    make(&mut store, 100, &[]);
    for segment in [50, 100] {
        fs::remove_file(store.path(Seq(segment)).join("ready")).expect("it has one");
    }
    assert_eq!(firsts(&mut store), [100]);
}
