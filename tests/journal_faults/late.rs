//! Lives that begin without a disk that can be written. Such a life was in memory only until its end, whatever became of the
//! disk: at the next kill 60 to 90 % of the readings were gone, and nothing told it.

use std::fs;
use std::path::Path;

use v2g_edge::journal::{Journal, Lane, Settings, WhenFull};
use v2g_edge::measure::{LifeLost, Seq};

use super::depot::{self, Oracle};
use super::misplaced::until_it_works;
use super::{full, stage};

fn settings(dir: &Path) -> Settings {
    depot::settings(dir, 1 << 30, WhenFull::Thin)
}

async fn append(journal: &Journal, from: u64, to: u64) {
    for n in from..=to {
        depot::append(&journal.handle(), depot::window(n)).await;
    }
    journal.handle().commit().await;
}

/// A life of 20 windows that ends in order; one of 30 that begins when the disk is `broken` and is killed after it was
/// `mended`; one that delivers.
fn judge_a_disk_that_comes_back(dir: &Path, seen: &str, broken: impl FnOnce(), mended: impl FnOnce()) {
    depot::block_on(async {
        let (journal, _) = depot::open(settings(dir), 0);
        append(&journal, 1, 20).await;
        journal.close().await.expect("it closes");
        broken();
        let (journal, facts) = depot::open(settings(dir), 20);
        append(&journal, 21, 50).await;
        let trouble = facts.status().journal.trouble.expect("status says nothing");
        assert!(trouble.contains(seen), "{trouble}");
        mended();
        let last = until_it_works(&journal.handle(), &facts, 50).await + 1;
        append(&journal, last, last).await;
        drop(journal);

        let mut n = last + 1;
        let (journal, facts) = depot::open(settings(dir), n);
        assert_eq!(facts.status().journal.trouble, None);
        let mut oracle = Oracle::default();
        oracle.drain(&journal, &mut n).await;
        assert_eq!((&oracle.gaps[..], &oracle.lives[..]), (&[][..], &[][..]));
        assert_eq!(oracle.events, ["journal_in_memory", "journal_working"]);
        let windows: Vec<_> = oracle.came.values().filter_map(|(_, span)| *span).collect();
        let all = (1..=50).chain([last]).map(|n| (n, n));
        assert_eq!(windows, all.collect::<Vec<_>>(), "in order, and what waited before what is new");
        journal.close().await.expect("it closes");
    });
}

#[test]
fn a_disk_that_is_read_only_at_the_start_is_written_as_soon_as_it_can_be() {
    if !stage::inside(
        "late::a_disk_that_is_read_only_at_the_start_is_written_as_soon_as_it_can_be",
        stage::own_mounts(),
    ) {
        return;
    }
    let place = tempfile::tempdir().expect("a directory");
    let disk = place.path().join("disk");
    stage::mount_tmpfs(&disk, "64m");
    let (broken, mended) = (|| stage::remount_read_only(&disk), || stage::remount_writable(&disk));
    judge_a_disk_that_comes_back(
        &disk.join("journal"),
        "mount the file system of the journal for writing",
        broken,
        mended,
    );
}

#[test]
fn a_disk_that_is_full_at_the_start_is_written_as_soon_as_there_is_room() {
    if !stage::inside("late::a_disk_that_is_full_at_the_start_is_written_as_soon_as_there_is_room", stage::own_mounts())
    {
        return;
    }
    let place = tempfile::tempdir().expect("a directory");
    let disk = place.path().join("disk");
    stage::mount_tmpfs(&disk, "64m");
    let other = disk.join("other");
    let broken = || assert!(full::fill(&other) > 0);
    let mended = || fs::remove_file(&other).expect("it is removed");
    judge_a_disk_that_comes_back(&disk.join("journal"), "free space on the file system", broken, mended);
}

#[test]
fn what_waits_on_a_disk_that_cannot_be_written_is_delivered_from_it() {
    if !stage::inside("late::what_waits_on_a_disk_that_cannot_be_written_is_delivered_from_it", stage::own_mounts()) {
        return;
    }
    let place = tempfile::tempdir().expect("a directory");
    let disk = place.path().join("disk");
    stage::mount_tmpfs(&disk, "64m");
    let dir = disk.join("journal");
    depot::block_on(async {
        let (journal, _) = depot::open(settings(&dir), 0);
        append(&journal, 1, 20).await;
        journal.close().await.expect("it closes");
        stage::remount_read_only(&disk);
        let (journal, _) = depot::open(settings(&dir), 20);
        append(&journal, 21, 50).await;
        let mut oracle = Oracle::default();
        for lease in journal.handle().lease(Lane::History, 256).await {
            oracle.take(lease.entry());
            lease.acknowledge();
        }
        assert_eq!((oracle.came.len(), oracle.judge_windows(50)), (50, 0), "numbers go on from what is there");
    });
}

#[test]
fn a_life_in_memory_that_is_killed_is_told_by_the_next_though_the_disk_was_full_all_the_time() {
    const NAME: &str =
        "late::a_life_in_memory_that_is_killed_is_told_by_the_next_though_the_disk_was_full_all_the_time";
    if !stage::inside(NAME, stage::own_mounts()) {
        return;
    }
    let place = tempfile::tempdir().expect("a directory");
    let disk = place.path().join("disk");
    stage::mount_tmpfs(&disk, "64m");
    let (dir, other) = (disk.join("journal"), disk.join("other"));
    depot::block_on(async {
        let (journal, _) = depot::open(settings(&dir), 0);
        append(&journal, 1, 20).await;
        // The note has its room once the journal has looked after itself.
        append(&journal, 21, 21).await;
        journal.close().await.expect("it closes");
        full::fill(&other);
        let mut killed = Vec::new();
        for life in 0..2 {
            let (journal, _) = depot::open(settings(&dir), 100 + life);
            append(&journal, 100 + 10 * life, 109 + 10 * life).await;
            killed.push(LifeLost { epoch: journal.epoch(), from: Seq(22), to: None, renumbered: false });
            drop(journal);
        }
        fs::remove_file(&other).expect("it is removed");
        let (journal, _) = depot::open(settings(&dir), 200);
        let (mut oracle, mut n) = (Oracle::default(), 200);
        oracle.drain(&journal, &mut n).await;
        oracle.lives.sort_unstable_by_key(|lost| lost.epoch);
        killed.sort_unstable_by_key(|lost| lost.epoch);
        assert_eq!(oracle.lives, killed);
        journal.close().await.expect("it closes");
        // Told once is enough.
        let (journal, _) = depot::open(settings(&dir), 300);
        let mut oracle = Oracle::default();
        oracle.drain(&journal, &mut 300).await;
        assert_eq!(oracle.lives, []);
        journal.close().await.expect("it closes");
    });
}

#[test]
fn a_journal_that_cannot_even_be_read_at_the_start_is_gone_on_with_when_it_can() {
    let place = tempfile::tempdir().expect("a directory");
    let (dir, away) = (place.path().join("journal"), place.path().join("away"));
    depot::block_on(async {
        let (journal, _) = depot::open(settings(&dir), 0);
        append(&journal, 1, 20).await;
        journal.close().await.expect("it closes");
        fs::rename(&dir, &away).expect("it is moved");
        fs::write(&dir, "no journal").expect("a file");

        let (journal, facts) = depot::open(settings(&dir), 20);
        append(&journal, 21, 30).await;
        let (handle, in_memory) = (journal.handle(), journal.epoch());
        assert!(facts.status().journal.trouble.is_some_and(|text| text.contains("move that file away")));
        let mut first = Oracle::default();
        let mut leases = handle.lease(Lane::History, 4).await;
        let held = leases.pop().expect("four");
        for lease in leases {
            first.take(lease.entry());
            lease.acknowledge();
        }
        fs::remove_file(&dir).expect("it is removed");
        fs::rename(&away, &dir).expect("it is moved back");
        // Nothing gets another number while somebody holds it.
        first.take(held.entry());
        held.acknowledge();
        let last = until_it_works(&handle, &facts, 30).await + 1;
        append(&journal, last, last).await;
        drop(journal);

        let mut n = last + 1;
        let (journal, _) = depot::open(settings(&dir), n);
        let mut oracle = Oracle::default();
        oracle.drain(&journal, &mut n).await;
        let windows: Vec<_> = oracle.came.values().filter_map(|(_, span)| *span).collect();
        assert_eq!(windows, (1..=20).chain(25..=30).chain([last]).map(|n| (n, n)).collect::<Vec<_>>());
        assert_eq!(first.judge_windows(4), 0);
        assert_eq!(oracle.lives, [LifeLost { epoch: in_memory, from: Seq(1), to: Some(Seq(10)), renumbered: true }]);
        journal.close().await.expect("it closes");
    });
}

/// A life without a disk looks for one every 2 s. What was mended within these before the end was not looked at again, and all that
/// waited was gone.
#[test]
fn a_disk_that_is_mended_just_before_the_end_takes_what_waits_in_memory() {
    let place = tempfile::tempdir().expect("a directory");
    let dir = place.path().join("journal");
    fs::write(&dir, "no journal").expect("a file");
    depot::block_on(async {
        let (journal, _) = depot::open(settings(&dir), 0);
        append(&journal, 1, 10).await;
        let in_memory = journal.epoch();
        fs::remove_file(&dir).expect("it is removed");
        journal.close().await.expect("it closes");

        let (journal, _) = depot::open(settings(&dir), 10);
        assert_eq!(journal.previous_ended_clean(), Some(true));
        let mut oracle = Oracle::default();
        oracle.drain(&journal, &mut 10).await;
        let windows: Vec<_> = oracle.came.values().filter_map(|(_, span)| *span).collect();
        assert_eq!(windows, (1..=10).map(|n| (n, n)).collect::<Vec<_>>());
        assert_eq!(oracle.lives, [LifeLost { epoch: in_memory, from: Seq(1), to: Some(Seq(10)), renumbered: true }]);
        journal.close().await.expect("it closes");
    });
}

/// A note of a life in memory that cannot be removed was told by each life from then on.
#[test]
fn a_note_that_cannot_be_removed_is_told_once_all_the_same() {
    if !stage::inside("late::a_note_that_cannot_be_removed_is_told_once_all_the_same", stage::own_mounts()) {
        return;
    }
    let place = tempfile::tempdir().expect("a directory");
    let (dir, note) = (place.path().join("journal"), place.path().join("journal-in-memory"));
    fs::write(&dir, "no journal").expect("a file");
    depot::block_on(async {
        let (journal, _) = depot::open(settings(&dir), 0);
        append(&journal, 1, 10).await;
        let killed = journal.epoch();
        drop(journal);
        fs::remove_file(&dir).expect("it is removed");
        stage::hold_in_place(&note);
        for told in [&[LifeLost { epoch: killed, from: Seq(1), to: None, renumbered: false }][..], &[]] {
            let (journal, _) = depot::open(settings(&dir), 20);
            let mut oracle = Oracle::default();
            oracle.drain(&journal, &mut 20).await;
            assert_eq!(oracle.lives, told);
            journal.close().await.expect("it closes");
        }
    });
}
