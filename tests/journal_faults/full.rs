//! A file system that is full, because of the journal and because of others.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use v2g_edge::journal::{JournalHandle, WhenFull};

use super::depot::{self, Oracle};
use super::stage;

/// Appends windows up to `to`, committing every few.
async fn hoard(handle: &JournalHandle, n: &mut u64, to: u64) {
    while *n < to {
        *n += 1;
        depot::append(handle, depot::window(*n)).await;
        if n.is_multiple_of(32) {
            handle.commit().await;
        }
    }
    handle.commit().await;
}

/// Writes until there is no byte left.
pub(crate) fn fill(path: &Path) -> u64 {
    let mut file = File::create(path).expect("a file");
    let (mut bytes, mut size) = (0, 1 << 20);
    while size > 0 {
        match file.write(&vec![7; size]) {
            Ok(written) if written > 0 => bytes += written as u64,
            _ => size /= 2,
        }
    }
    bytes
}

fn taken(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| {
            let path = entry.path();
            if path.is_dir() {
                taken(&path)
            } else {
                entry.metadata().map_or(0, |m| std::os::unix::fs::MetadataExt::blocks(&m) * 512)
            }
        })
        .sum()
}

#[test]
fn a_journal_at_its_bound_thins_and_keeps_every_energy_to_the_watt_hour() {
    const BYTES_MAX: u64 = 8 << 20;
    let dir = tempfile::tempdir().expect("a directory");
    depot::block_on(async {
        let (journal, facts) = depot::open(depot::settings(dir.path(), BYTES_MAX, WhenFull::Thin), 0);
        let (handle, mut n, mut most) = (journal.handle(), 0, 0);
        while n < 30_000 {
            let to = n + 500;
            hoard(&handle, &mut n, to).await;
            most = most.max(taken(dir.path()));
        }
        // 8 MiB and one segment of a quarter of it.
        assert!(most <= BYTES_MAX + BYTES_MAX / 4, "{most} bytes on disk");
        let status = facts.status().journal;
        let (last, mut oracle) = (n, Oracle::default());
        oracle.drain(&journal, &mut n).await;
        let told = oracle.judge_numbers(status.durable.expect("entries").0);
        let missing = oracle.judge_windows(last);
        println!(
            "{last} windows in {BYTES_MAX} bytes (at most {most} on disk): {} entries came, told {told:?}, windows \
             of up to {:?}; {missing} windows lost",
            oracle.came.len(),
            oracle.coarsest,
        );
        assert!(told["thinned"] > 1_000 && oracle.coarsest > Duration::from_secs(1));
        let lost = told.get("journal_full").copied().unwrap_or(0);
        assert!(missing == 0 || lost > 0, "{missing} windows are missing and no loss is told");
        journal.close().await.expect("it closes");
    });
}

#[test]
fn a_small_file_system_filled_to_the_last_byte_recovers_alone() {
    const NAME: &str = "full::a_small_file_system_filled_to_the_last_byte_recovers_alone";
    if !stage::inside(NAME, stage::own_mounts()) {
        return;
    }
    let place = tempfile::tempdir().expect("a directory");
    let disk = place.path().join("disk");
    stage::mount_tmpfs(&disk, "64m");
    // Someone else is there first.
    fs::write(disk.join("first"), vec![7; 36 << 20]).expect("there is room");
    depot::block_on(async {
        // The byte budget is beyond the disk: what bounds is the free space, an eighth of 64 MiB.
        let (journal, facts) = depot::open(depot::settings(&disk.join("journal"), 1 << 30, WhenFull::Thin), 0);
        let (handle, mut n) = (journal.handle(), 0);
        hoard(&handle, &mut n, 50_000).await;
        let by_itself = facts.status().journal;
        assert_eq!(by_itself.trouble, None);
        assert!(by_itself.entries_thinned > 0, "nothing was thinned");
        println!("by itself: {n} windows in {} bytes, {} thinned", by_itself.bytes, by_itself.entries_thinned);

        // Someone else takes all the rest.
        let other = disk.join("other");
        let bytes = fill(&other);
        let until = n + 600;
        hoard(&handle, &mut n, until).await;
        let trouble = facts.status().journal.trouble;
        println!("{bytes} bytes by someone else: {trouble:?}");
        assert!(trouble.is_some_and(|text| text.contains("free space")), "status says nothing");

        // Space returns; nobody tells the journal.
        fs::remove_file(&other).expect("it is removed");
        for _ in 0..200 {
            let until = n + 4;
            hoard(&handle, &mut n, until).await;
            if facts.status().journal.trouble.is_none() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(facts.status().journal.trouble, None, "it does not recover");

        let (last, mut oracle) = (n, Oracle::default());
        oracle.drain(&journal, &mut n).await;
        let told = oracle.judge_numbers(facts.status().journal.durable.expect("entries").0);
        let missing = oracle.judge_windows(last);
        println!("{last} windows, {} entries came, told {told:?}, {missing} windows lost", oracle.came.len());
        assert!(oracle.events.contains(&"journal_failing") && oracle.events.contains(&"journal_working"));
        let lost = told.get("journal_full").copied().unwrap_or(0);
        assert!(missing == 0 || lost > 0, "{missing} windows are missing and no loss is told");
        journal.close().await.expect("it closes");
    });
}
