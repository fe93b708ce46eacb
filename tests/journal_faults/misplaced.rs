//! What a third party took away from a journal, put into it, or could read of it.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use v2g_edge::health::StatusBoard;
use v2g_edge::journal::{self, Archive, Journal, Lane, OpenError, Settings, WhenFull};
use v2g_edge::measure::{Identity, Seq};

use super::depot::{self, Oracle};

const WINDOWS: u64 = 41;

fn settings(dir: &Path) -> Settings {
    depot::settings(dir, 1 << 30, WhenFull::Thin)
}

/// A journal in which windows wait, left as a kill leaves it.
fn left_by_a_kill(dir: &Path) {
    depot::block_on(async {
        let (journal, _) = depot::open(settings(dir), 0);
        for n in 1..=WINDOWS {
            depot::append(&journal.handle(), depot::window(n)).await;
        }
        journal.handle().commit().await;
        drop(journal);
    });
}

/// All windows come, and nothing is told as lost.
fn judge_whole(dir: &Path) {
    depot::block_on(async {
        let (journal, facts) = depot::open(settings(dir), WINDOWS);
        assert_eq!(facts.status().journal.trouble, None);
        let (mut oracle, mut n) = (Oracle::default(), WINDOWS);
        oracle.drain(&journal, &mut n).await;
        assert_eq!(oracle.judge_windows(WINDOWS), 0, "windows that waited are gone");
        assert!(oracle.gaps.is_empty(), "{:?}", oracle.gaps);
        journal.close().await.expect("it closes");
    });
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("a directory").flatten().map(|entry| entry.path());
    entries.filter(|path| path.join("db").exists()).collect()
}

/// `ready` was taken as the proof that something is in a segment: 41 entries that waited were deleted, and `verify` said good.
#[test]
fn a_segment_that_lost_its_marker_keeps_its_entries() {
    let place = tempfile::tempdir().expect("a directory");
    let dir = place.path().join("journal");
    left_by_a_kill(&dir);
    for segment in segments(&dir) {
        fs::remove_file(segment.join("ready")).expect("a marker");
    }
    let report = Archive::open(&dir).and_then(|archive| archive.verify()).expect("it can be read");
    assert_eq!(report.entries, WINDOWS);
    assert!(report.findings.iter().any(|finding| finding.what.contains("marker")), "{:?}", report.findings);
    judge_whole(&dir);
}

/// Two lives, of one window after the other; with the identities of their entries.
fn left_by_two_lives(dir: &Path) -> Vec<Identity> {
    let mut identities = Vec::new();
    for from in [0, WINDOWS] {
        depot::block_on(async {
            let (journal, _) = depot::open(settings(dir), from);
            for n in 1..=WINDOWS {
                depot::append(&journal.handle(), depot::window(from + n)).await;
            }
            journal.handle().commit().await;
            identities.extend((1..=WINDOWS).map(|n| Identity { epoch: journal.epoch(), seq: Seq(from + n) }));
            drop(journal);
        });
    }
    identities
}

/// With the marker of another segment entries went out under its epoch, and by its schema; `verify` said good.
#[test]
fn the_marker_of_another_segment_gives_no_entry_another_identity() {
    let place = tempfile::tempdir().expect("a directory");
    let dir = place.path().join("journal");
    let identities = left_by_two_lives(&dir);
    let mut segments = segments(&dir);
    segments.sort();
    fs::copy(segments[0].join("ready"), segments[1].join("ready")).expect("copied");
    let report = Archive::open(&dir).and_then(|archive| archive.verify()).expect("it can be read");
    assert_eq!(report.entries, 2 * WINDOWS);
    assert!(report.findings.iter().any(|finding| finding.what.contains("another segment's")), "{:?}", report.findings);
    depot::block_on(async {
        let (journal, _) = depot::open(settings(&dir), 2 * WINDOWS);
        let handle = journal.handle();
        handle.go_live();
        let mut came = Vec::new();
        loop {
            let leases = handle.lease(Lane::History, 64).await;
            if leases.is_empty() {
                break;
            }
            for lease in leases {
                came.push(lease.entry().identity);
                lease.acknowledge();
            }
        }
        assert_eq!(came, identities);
        journal.close().await.expect("it closes");
    });
}

/// One file that was gone kept everybody from seeing, exporting and repairing all the others.
#[test]
fn a_database_that_is_gone_hides_no_other_segment() {
    let place = tempfile::tempdir().expect("a directory");
    let dir = place.path().join("journal");
    left_by_two_lives(&dir);
    let mut segments = segments(&dir);
    segments.sort();
    fs::remove_file(segments[0].join("db")).expect("a database");
    let archive = Archive::open(&dir).expect("it can be read");
    let report = archive.verify().expect("the others can be read");
    assert_eq!(report.entries, WINDOWS);
    assert!(report.findings.iter().any(|finding| finding.what.contains("it is not there")), "{:?}", report.findings);
    archive.inventory().expect("it can be shown");
    drop(archive);
    let repaired = journal::repair(&dir, depot::BOOT, depot::stamp(2 * WINDOWS)).expect("it can be repaired");
    assert_eq!(repaired.entries_lost, WINDOWS);
    assert_eq!(repaired.set_aside, [Seq(1)]);
    let report = Archive::open(&dir).and_then(|archive| archive.verify()).expect("it can be read");
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

#[test]
fn what_is_left_of_a_segment_that_cannot_be_read_is_put_aside_and_not_removed() {
    let place = tempfile::tempdir().expect("a directory");
    let dir = place.path().join("journal");
    left_by_a_kill(&dir);
    let segment = segments(&dir).pop().expect("a segment");
    fs::remove_file(segment.join("ready")).expect("a marker");
    // Every frame loses a byte of its body.
    let mut bytes = fs::read(segment.join("db")).expect("a database");
    let frames: Vec<usize> = (0..bytes.len() - 64).filter(|at| bytes[*at..].starts_with(b"V2GJ")).collect();
    frames.iter().for_each(|at| bytes[at + 60] ^= 1);
    fs::write(segment.join("db"), bytes).expect("it is damaged");
    depot::block_on(async {
        let (journal, facts) = depot::open(settings(&dir), WINDOWS);
        assert_eq!(facts.status().journal.trouble, None);
        journal.close().await.expect("it closes");
    });
    assert!(dir.join("quarantine").join(segment.file_name().expect("a name")).join("db").exists());
}

/// Set in the process that holds a journal.
const CHILD_DIR: &str = "V2G_JOURNAL_FAULTS_HOLD_DIR";

#[test]
fn a_lock_that_somebody_removes_lets_no_second_agent_in() {
    if let Ok(dir) = std::env::var(CHILD_DIR) {
        let (journal, _) = depot::open(settings(Path::new(&dir)), 0);
        println!("held");
        std::io::stdout().flush().expect("it is said");
        // Until the other end is closed.
        let _ = std::io::stdin().read_line(&mut String::new());
        drop(journal);
        return;
    }
    let place = tempfile::tempdir().expect("a directory");
    let dir = place.path().join("journal");
    let name = "misplaced::a_lock_that_somebody_removes_lets_no_second_agent_in";
    let mut child = Command::new(std::env::current_exe().expect("the test's own program"))
        .args(["--exact", name, "--nocapture"])
        .env(CHILD_DIR, &dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the child starts");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    assert!(lines.any(|line| line.is_ok_and(|line| line.ends_with("held"))), "the child holds the journal");
    fs::remove_file(dir.join("lock")).expect("a lock");

    let second = Journal::open(settings(&dir), depot::schema(), depot::BOOT, depot::stamp(0), Arc::default());
    assert!(matches!(second, Err(OpenError::Held(_))), "{second:?}");
    let repaired = journal::repair(&dir, depot::BOOT, depot::stamp(0));
    assert!(repaired.is_err(), "{repaired:?}");
    drop(child.stdin.take());
    child.wait().expect("it is gone");
    let (journal, _) = depot::open(settings(&dir), 0);
    depot::block_on(journal.close()).expect("it closes");
}

#[test]
fn a_journal_that_is_moved_away_is_not_gone_on_in_its_place() {
    let place = tempfile::tempdir().expect("a directory");
    let (dir, away) = (place.path().join("journal"), place.path().join("away"));
    depot::block_on(async {
        let (journal, facts) = depot::open(settings(&dir), 0);
        let handle = journal.handle();
        depot::append(&handle, depot::window(1)).await;
        handle.commit().await;
        fs::rename(&dir, &away).expect("it is moved");
        fs::create_dir(&dir).expect("another");
        depot::append(&handle, depot::window(2)).await;
        // A window and an order come by ways of their own: the first order may be there before it.
        let trouble = loop {
            handle.commit().await;
            if let Some(trouble) = facts.status().journal.trouble {
                break trouble;
            }
        };
        assert!(trouble.contains("is not the directory any more that this agent holds"), "{trouble}");
        assert_eq!(fs::read_dir(&dir).expect("a directory").count(), 0, "something was written into the other");
        // Moved back, it goes on there.
        fs::remove_dir(&dir).expect("it is empty");
        fs::rename(&away, &dir).expect("it is moved back");
        until_it_works(&handle, &facts, 2).await;
        journal.close().await.expect("it closes");
    });
    depot::block_on(async {
        let (journal, _) = depot::open(settings(&dir), 9);
        let (mut oracle, mut n) = (Oracle::default(), 1_000);
        oracle.drain(&journal, &mut n).await;
        assert_eq!(oracle.judge_windows(2), 0);
        journal.close().await.expect("it closes");
    });
}

/// Ticks with windows that hold nothing, until the journal has no trouble. Answers the last.
pub(crate) async fn until_it_works(handle: &journal::JournalHandle, facts: &StatusBoard, mut n: u64) -> u64 {
    while facts.status().journal.trouble.is_some() {
        n += 1;
        depot::append(handle, depot::empty(n)).await;
        handle.commit().await;
    }
    n
}

/// Paths below that others may read, write or list.
fn open_to_others(dir: &Path) -> Vec<PathBuf> {
    let mode = fs::symlink_metadata(dir).expect("it is there").permissions().mode();
    let mut open: Vec<PathBuf> = (mode & 0o077 != 0).then(|| dir.to_owned()).into_iter().collect();
    if dir.is_dir() {
        open.extend(fs::read_dir(dir).expect("a directory").flatten().flat_map(|entry| open_to_others(&entry.path())));
    }
    open
}

/// As programs before this one left it: for everybody to read.
fn open_to_all(path: &Path) {
    let is_dir = path.is_dir();
    fs::set_permissions(path, Permissions::from_mode(if is_dir { 0o755 } else { 0o644 })).expect("it is ours");
    if is_dir {
        fs::read_dir(path).expect("a directory").flatten().for_each(|entry| open_to_all(&entry.path()));
    }
}

#[test]
fn nobody_but_its_owner_can_read_a_journal_of_today_or_of_before() {
    let place = tempfile::tempdir().expect("a directory");
    let state_dir = place.path().join("state");
    let dir = state_dir.join("journal");
    left_by_a_kill(&dir);
    assert_eq!(open_to_others(&state_dir), Vec::<PathBuf>::new(), "of today");
    open_to_all(&dir);
    depot::block_on(async {
        let (journal, _) = depot::open(settings(&dir), WINDOWS);
        depot::append(&journal.handle(), depot::window(WINDOWS + 1)).await;
        journal.handle().commit().await;
        assert_eq!(open_to_others(&dir), Vec::<PathBuf>::new(), "while it is written");
        journal.close().await.expect("it closes");
    });
    assert_eq!(open_to_others(&dir), Vec::<PathBuf>::new(), "of before");
}

/// Directories in the place of these left the agent with memory only for all of its life.
const NAMES: [&str; 6] = ["lock", "cursor-a", "cursor-b", "life", "times", "life.new"];

fn misplace(dir: &Path, name: &str) {
    let path = dir.join(name);
    let _ = fs::remove_file(&path);
    fs::create_dir(&path).expect("a directory");
    fs::write(path.join("somebodys"), "work").expect("a file");
}

fn is_kept(dir: &Path, name: &str) -> bool {
    fs::read_to_string(dir.join("quarantine").join(name).join("somebodys")).is_ok_and(|text| text == "work")
}

#[test]
fn what_lies_in_the_place_of_a_record_is_moved_aside_and_the_disk_is_used() {
    for name in NAMES {
        let place = tempfile::tempdir().expect("a directory");
        let dir = place.path().join("journal");
        left_by_a_kill(&dir);
        misplace(&dir, name);
        judge_whole(&dir);
        assert!(is_kept(&dir, name), "{name} is gone");
    }
}

#[test]
fn repair_moves_aside_what_lies_in_the_place_of_a_record_and_removes_nothing() {
    let place = tempfile::tempdir().expect("a directory");
    let dir = place.path().join("journal");
    left_by_a_kill(&dir);
    NAMES.into_iter().for_each(|name| misplace(&dir, name));
    fs::write(dir.join("quarantine"), "somebody's file").expect("a file");
    let repaired = journal::repair(&dir, depot::BOOT, depot::stamp(WINDOWS)).expect("it is repaired");
    assert_eq!(repaired.entries_lost, 0);
    assert!(repaired.findings.iter().any(|finding| finding.file.ends_with("cursor-b")), "{:?}", repaired.findings);
    NAMES.into_iter().for_each(|name| assert!(is_kept(&dir, name), "{name} is gone"));
    assert_eq!(fs::read_to_string(dir.join("misplaced/quarantine")).ok().as_deref(), Some("somebody's file"));
    let report = Archive::open(&dir).and_then(|archive| archive.verify()).expect("it can be read");
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    judge_whole(&dir);
}

/// A pipe is opened for writing when somebody reads it: in the place of `lock` or of the note of lives in memory it held up the start
/// for ever.
#[test]
fn a_pipe_in_the_place_of_any_of_its_files_holds_up_nobody() {
    for name in NAMES.into_iter().chain(["in-memory"]) {
        let place = tempfile::tempdir().expect("a directory");
        let dir = place.path().join("journal");
        left_by_a_kill(&dir);
        let path = dir.join(name);
        let _ = fs::remove_file(&path);
        assert!(Command::new("mkfifo").arg(&path).status().expect("it is there").success());
        let (tell, done) = channel();
        let judged = std::thread::spawn(move || {
            let archive = Archive::open(&dir).and_then(|archive| archive.verify());
            assert!(archive.is_ok(), "{archive:?}");
            judge_whole(&dir);
            tell.send(dir.join("quarantine").join(name).exists()).expect("somebody waits");
        });
        assert_eq!(done.recv_timeout(Duration::from_secs(60)), Ok(true), "{name}");
        judged.join().expect("it holds");
    }
}

/// A read error said nothing of what is in a segment, and put it aside: 41 entries that waited were not delivered.
#[test]
fn a_segment_without_its_marker_that_cannot_be_read_now_is_read_when_it_can() {
    let place = tempfile::tempdir().expect("a directory");
    let dir = place.path().join("journal");
    left_by_a_kill(&dir);
    let segment = segments(&dir).pop().expect("a segment");
    fs::remove_file(segment.join("ready")).expect("a marker");
    let (db, away) = (segment.join("db"), place.path().join("db"));
    fs::rename(&db, &away).expect("it is moved");
    // It cannot be opened: too many levels of symbolic links.
    std::os::unix::fs::symlink(&db, &db).expect("a link to itself");
    depot::block_on(async {
        let (journal, facts) = depot::open(settings(&dir), WINDOWS);
        let handle = journal.handle();
        for _ in 0..2 {
            depot::append(&handle, depot::empty(WINDOWS)).await;
            handle.commit().await;
        }
        let trouble = facts.status().journal.trouble.expect("status says nothing");
        assert!(trouble.contains("read") && trouble.contains("db"), "{trouble}");
        fs::remove_file(&db).expect("it is a link");
        fs::rename(&away, &db).expect("it is moved back");
        let mut n = until_it_works(&handle, &facts, WINDOWS).await;
        let mut oracle = Oracle::default();
        oracle.drain(&journal, &mut n).await;
        assert_eq!(oracle.judge_windows(WINDOWS), 0, "windows that waited are gone");
        journal.close().await.expect("it closes");
    });
    assert!(!dir.join("quarantine").exists(), "nothing is put aside");
}
