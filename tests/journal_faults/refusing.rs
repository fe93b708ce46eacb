//! Places that do not let us write.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use v2g_edge::journal::{Journal, Lane, Lease, WhenFull};

use super::depot::{self, Oracle};
use super::stage;

/// The agent goes on from memory: what comes in goes out, status and broker hear why.
fn judge_without_a_disk(dir: &Path, why: &str) {
    depot::block_on(async {
        let (journal, facts) = depot::open(depot::settings(dir, 1 << 30, WhenFull::Thin), 0);
        let handle = journal.handle();
        for n in 1..=50 {
            depot::append(&handle, depot::window(n)).await;
        }
        handle.commit().await;
        let trouble = facts.status().journal.trouble.expect("status says nothing");
        println!("{trouble}");
        assert!(trouble.contains(why), "{trouble}");
        let mut oracle = Oracle::default();
        for lease in handle.lease(Lane::History, 256).await {
            oracle.take(lease.entry());
            lease.acknowledge();
        }
        assert_eq!((oracle.came.len(), oracle.judge_windows(50)), (50, 0));
        assert_eq!(oracle.events, ["journal_in_memory"]);
        // It cannot note its end either.
        let _ = journal.close().await;
    });
}

async fn leased(journal: &Journal) -> Vec<Lease> {
    journal.handle().commit().await;
    journal.handle().lease(Lane::History, 256).await
}

#[test]
fn a_read_only_file_system_leaves_memory_and_says_so() {
    if !stage::inside("refusing::a_read_only_file_system_leaves_memory_and_says_so", stage::own_mounts()) {
        return;
    }
    let place = tempfile::tempdir().expect("a directory");
    let disk = place.path().join("disk");
    stage::mount_tmpfs(&disk, "64m");
    depot::block_on(async {
        let (journal, _) = depot::open(depot::settings(&disk.join("journal"), 1 << 30, WhenFull::Thin), 0);
        depot::append(&journal.handle(), depot::window(0)).await;
        for lease in leased(&journal).await {
            lease.acknowledge();
        }
        journal.close().await.expect("it closes");
    });
    stage::remount_read_only(&disk);
    judge_without_a_disk(&disk.join("journal"), "mount the file system of the journal for writing");
    judge_without_a_disk(&disk.join("another"), "mount the file system of the journal for writing");
}

#[test]
fn a_directory_without_permission_leaves_memory_and_says_so() {
    // Root without its capabilities obeys the modes of files as everybody does.
    let with = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"];
    let without: &[&str] = if stage::is_root() { &with } else { &["env"] };
    if !stage::inside("refusing::a_directory_without_permission_leaves_memory_and_says_so", without) {
        return;
    }
    let place = tempfile::tempdir().expect("a directory");
    let closed = place.path().join("closed");
    fs::create_dir(&closed).expect("a directory");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).expect("it is closed");
    judge_without_a_disk(&closed.join("journal"), "right to write");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).expect("it is opened");
}

#[test]
fn a_state_dir_that_is_no_directory_leaves_memory_and_says_so() {
    let place = tempfile::tempdir().expect("a directory");
    let file = place.path().join("file");
    fs::write(&file, "not a directory").expect("a file");
    judge_without_a_disk(&file.join("journal"), "move that file away");
}

#[test]
fn leftovers_of_things_half_made_and_half_removed_are_cleared_away() {
    let place = tempfile::tempdir().expect("a directory");
    let dir = place.path().join("journal");
    let settings = || depot::settings(&dir, 1 << 30, WhenFull::Thin);
    depot::block_on(async {
        let (journal, _) = depot::open(settings(), 0);
        for n in 1..=100 {
            depot::append(&journal.handle(), depot::window(n)).await;
        }
        journal.close().await.expect("it closes");
        for (name, file) in [("00000000000000ff", "db"), ("0000000000000100", "conf"), ("0000000000000001.del", "db")] {
            fs::create_dir(dir.join(name)).expect("a directory");
            fs::write(dir.join(name).join(file), [7; 5000]).expect("a file");
        }
        fs::create_dir(dir.join("0000000000000101")).expect("a directory");
        fs::write(dir.join("life.new"), [7; 50]).expect("a file");
        let (journal, facts) = depot::open(settings(), 100);
        assert_eq!(facts.status().journal.trouble, None);
        let (mut oracle, mut n) = (Oracle::default(), 100);
        oracle.drain(&journal, &mut n).await;
        assert_eq!((oracle.judge_windows(100), oracle.judge_numbers(100).len()), (0, 0));
        tokio::time::sleep(Duration::from_millis(10)).await;
        journal.close().await.expect("it closes");
    });
    let left: Vec<_> = fs::read_dir(&dir).expect("a directory").flatten().map(|e| e.file_name()).collect();
    let left: Vec<_> = left.iter().filter_map(|name| name.to_str()).filter(|name| name.starts_with("0000")).collect();
    assert!(left.len() <= 1, "{left:?}");
}
