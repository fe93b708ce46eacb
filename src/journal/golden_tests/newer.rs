//! A newer program was here, and an older one goes on; then the newer one is back. The newer one is made: it is
//! this one with other marks and one field more in each record, and when it is back its marks are taken off again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::depot::{Boot, NOON_NS, Y2001_NS, after_change, second_schema};
use super::{DAY_NS, Lived, boot, boundless};
use crate::health::JournalFacts;
use crate::journal::core::journal_core::Purge;
use crate::journal::core::limits::Limits;
use crate::journal::core::ranges::Ranges;
use crate::journal::disk::chunk::{self, Chunk};
use crate::journal::disk::cursor::Cursor;
use crate::journal::line::Lane;
use crate::journal::offline::archive::{Archive, Place};
use crate::journal::offline::repair::{purge, repair};
use crate::measure::{ClockTrust, Entry, EventKind, Seq, WhenFull};

const RECORDS: [&str; 4] = ["life", "times", "cursor-a", "cursor-b"];

type Files = BTreeMap<PathBuf, Vec<u8>>;

/// Every file below `dir`.
fn files(dir: &Path) -> Files {
    let mut found = Files::new();
    for entry in fs::read_dir(dir).expect("a directory").flatten() {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.insert(entry.path(), fs::read(entry.path()).expect("a file"));
        }
    }
    found
}

/// A frame with its checksum as it must be.
fn checked(frame: &mut [u8]) {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&frame[4..8]), &frame[12..]);
    frame[8..12].copy_from_slice(&crc.to_le_bytes());
}

/// A record of version 2, with a field more.
fn record_of_2(record: &[u8]) -> Vec<u8> {
    let length = usize::from(record[4]) + (usize::from(record[5]) << 8) + (usize::from(record[6]) << 16);
    let body = [&record[12..12 + length], &[42]].concat();
    let head = (u32::try_from(body.len()).expect("short") | 1 << 24).to_le_bytes();
    let crc = crc32c::crc32c_append(crc32c::crc32c(&head), &body).to_le_bytes();
    [&record[..4], &head, &crc, &body].concat()
}

/// The header of a segment in version 3 (2 is ours).
fn header_of_3(ready: &[u8]) -> Vec<u8> {
    let mut chunk = Chunk::join(&chunk::split(ready)).expect("a header");
    chunk.body[0] = 3;
    chunk.frames().concat()
}

/// The frames in a database, each changed: entries and headers get version 3 (2 is ours), what is compressed an unknown flag.
fn frames_of_2(database: &mut [u8]) {
    let mut at = 0;
    while at + 4 < database.len() {
        let frame = chunk::frame_length(&database[at..]).and_then(|length| database[at..].get_mut(..length));
        let Some(frame) = frame.filter(|frame| chunk::parse(frame).is_ok()) else {
            at += 1;
            continue;
        };
        if frame[53] & 2 != 0 {
            frame[53] |= 4;
        } else if frame[52] == 1 {
            frame[56] = 3;
        } else {
            let entries = Chunk::join(&[frame.to_vec()]).and_then(|chunk| chunk.entries()).expect("entries");
            entries.into_iter().for_each(|range| frame[56 + range.start] = 3);
        }
        checked(frame);
        at += frame.len();
    }
}

/// A journal that a newer program has left.
struct Left {
    /// What the newer program wrote, as it lies there.
    newer: Files,
    /// The same without its marks.
    unmarked: Files,
    /// The last number that it gave away.
    last: u64,
    /// All that waits, of both programs.
    waits: BTreeMap<u64, Entry>,
}

fn waiting(dir: &Path) -> BTreeMap<u64, Entry> {
    let mut waits = BTreeMap::new();
    let take = |place| {
        if let Place::Entry(entry, true) = place {
            waits.insert(entry.identity.seq.0, *entry);
        }
        ControlFlow::Continue(())
    };
    Archive::open(dir).expect("a journal").read((Seq::FIRST, Seq(u64::MAX)), take).expect("it can be read");
    waits
}

fn synced(n: u8) -> Boot {
    boot(n, NOON_NS + i64::from(n) * DAY_NS, ClockTrust::Synced)
}

/// First this program, then a newer one, whose power was cut.
fn roll_back(dir: &Path) -> Left {
    let mut life = Lived::begin(dir, second_schema(), synced(1));
    life.keep((1..=6).map(|n| after_change(synced(1), n)));
    life.core.go_live();
    life.deliver(6, &[1, 2]);
    life.end();
    let path = |name: &str| dir.join(name);
    let before: Vec<_> = RECORDS.map(|name| (name, fs::read(path(name)).ok())).into();

    let mut life = Lived::begin(dir, second_schema(), synced(2));
    for group in 0..6 {
        let windows = (0..3).map(|n| after_change(synced(2), 10 + group * 3 + n));
        if group % 2 == 0 { life.keep(windows) } else { life.keep_in_a_burst(windows) }
    }
    life.core.go_live();
    life.deliver(100, &[3, 9, 8]);
    life.maintain();
    let last = life.core.progress().durable.expect("something is durable").0;
    drop(life);
    let waits = waiting(dir);

    let (mut newer, mut unmarked) = (Files::new(), Files::new());
    for (path, bytes) in files(dir) {
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
        let segment = path.parent().and_then(Path::file_name).and_then(|name| name.to_str()).expect("a name");
        let is_newer = u64::from_str_radix(segment, 16).is_ok_and(|first| first > 6);
        let marked = match name.as_str() {
            "ready" if is_newer => header_of_3(&bytes),
            "seal" if is_newer => record_of_2(&bytes),
            "db" if is_newer => {
                let mut marked = bytes.clone();
                frames_of_2(&mut marked);
                marked
            }
            _ if is_newer => bytes.clone(),
            name if RECORDS.contains(&name) => {
                let name = name.replace("cursor-", "cursor-2-").replace("life", "life-2").replace("times", "times-2");
                newer.insert(dir.join(name), record_of_2(&bytes));
                continue;
            }
            _ => continue,
        };
        unmarked.insert(path.clone(), bytes);
        newer.insert(path, marked);
    }
    for (path, bytes) in &newer {
        fs::write(path, bytes).expect("written");
    }
    // The newer program has left the records of version 1 as they were.
    for (name, bytes) in before {
        match bytes {
            Some(bytes) => fs::write(path(name), bytes).expect("written"),
            None => fs::remove_file(path(name)).expect("removed"),
        }
    }
    Left { newer, unmarked, last, waits }
}

impl Left {
    #[track_caller]
    fn judge_untouched(&self) {
        for (path, bytes) in &self.newer {
            assert!(fs::read(path).is_ok_and(|now| now == *bytes), "{} was touched", path.display());
        }
    }

    /// The newer program is back: its marks are off, and it takes both cursors together.
    fn come_back(&self, dir: &Path) {
        let path = |name: &str| dir.join(name);
        let cursor = |names: [&str; 2]| {
            let slots = names.map(|name| fs::read(path(name)).ok());
            Cursor::choose(slots).expect("a cursor").0
        };
        let older = cursor(["cursor-a", "cursor-b"]);
        for name in ["cursor-2-a", "cursor-2-b", "times-2", "life-2"] {
            let Ok(bytes) = fs::read(path(name)) else { continue };
            let mut bytes = bytes;
            let body = bytes[12..bytes.len() - 1].to_vec();
            bytes[4..8].copy_from_slice(&u32::try_from(body.len()).expect("short").to_le_bytes());
            bytes[8..12].copy_from_slice(&crc32c::crc32c(&body).to_le_bytes());
            bytes.truncate(bytes.len() - 1);
            fs::remove_file(path(name)).expect("removed");
            if name.starts_with("cursor") || name == "times-2" {
                fs::write(path(&name.replace("-2", "")), bytes).expect("written");
            }
        }
        let newer = cursor(["cursor-a", "cursor-b"]);
        let settled: Ranges = newer.settled.iter().chain(&older.settled).copied().collect();
        let next = newer.next.max(older.next);
        let merged = Cursor::new(newer.generation + older.generation, next, settled.iter(), Vec::new());
        fs::write(path("cursor-a"), merged.write().expect("it can be written")).expect("written");
        for (path, bytes) in &self.unmarked {
            fs::write(path, bytes).expect("written");
        }
    }
}

/// Everything that can be leased, acknowledged.
fn drain(life: &mut Lived) -> BTreeMap<u64, Entry> {
    let mut out = BTreeMap::new();
    for lane in [Lane::History, Lane::Live] {
        loop {
            let leased = life.core.lease(lane, 100);
            if leased.is_empty() {
                break;
            }
            for entry in leased {
                let seq = entry.identity.seq;
                life.core.settle(crate::journal::line::Settlement::Acknowledged(seq));
                assert!(out.insert(seq.0, Entry::clone(&entry)).is_none(), "{seq} was handed out twice");
            }
        }
    }
    out
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = dir.path().join("journal");
    (dir, journal)
}

fn told(entries: &BTreeMap<u64, Entry>) -> Vec<Arc<str>> {
    let events = entries.values().flat_map(|entry| &entry.window.events);
    events
        .filter_map(|e| if let EventKind::JournalNewer(text) = &e.kind { Some(Arc::clone(text)) } else { None })
        .collect()
}

#[test]
fn what_a_newer_program_left_is_told_and_not_touched_and_when_it_is_back_all_is_delivered_once() {
    let (_dir, journal) = place();
    let left = roll_back(&journal);

    // The older program: two lives, of which the first is killed.
    let mut life = Lived::begin(&journal, second_schema(), synced(3));
    let mut facts = JournalFacts::default();
    life.core.note(&mut facts);
    let text = facts.newer.expect("status says so");
    assert!(text.contains("2 segments") && text.contains("life-2 (version 2)"), "{text}");
    life.keep((1..=3).map(|n| after_change(synced(3), n)));
    life.core.go_live();
    let first = drain(&mut life);
    life.keep((4..=5).map(|n| after_change(synced(3), n)));
    life.maintain();
    drop(life);
    left.judge_untouched();
    let mut life = Lived::begin(&journal, second_schema(), synced(4));
    life.keep([after_change(synced(4), 1)]);
    life.core.go_live();
    let second = drain(&mut life);
    life.keep((2..=4).map(|n| after_change(synced(4), n)));
    life.maintain();
    life.end();
    left.judge_untouched();
    let own = waiting(&journal);

    assert_eq!((told(&first).len(), told(&second).len()), (1, 1), "once in a life");
    assert_eq!(told(&first)[0].as_ref(), text);
    let by_older: BTreeSet<u64> = first.keys().chain(second.keys()).copied().collect();
    assert!(by_older.iter().all(|seq| *seq <= 6 || *seq > left.last), "{by_older:?}");
    assert!(first.values().chain(second.values()).all(|e| e.identity.seq.0 <= 6 || e.identity.epoch > left.epoch()));
    let gaps = first.values().chain(second.values()).flat_map(|entry| entry.window.gaps()).count();
    assert_eq!(gaps, 0, "nothing is lost");

    // The newer program again.
    left.come_back(&journal);
    let mut life = Lived::begin(&journal, second_schema(), synced(5));
    let out = drain(&mut life);
    life.end();
    let mut expected = left.waits.clone();
    expected.retain(|seq, _| !by_older.contains(seq));
    expected.extend(own.into_iter().filter(|(seq, _)| *seq > left.last));
    assert!(expected.len() > 15 && expected.keys().any(|seq| *seq > left.last), "{:?}", expected.keys());
    assert_eq!(out.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    assert_eq!(out, expected);
}

impl Left {
    /// The newest epoch of the newer program.
    fn epoch(&self) -> crate::measure::Epoch {
        self.waits.values().map(|entry| entry.identity.epoch).max().expect("something waits")
    }
}

#[test]
fn no_bound_and_no_order_of_a_person_takes_what_a_newer_program_wrote() {
    let (_dir, journal) = place();
    let left = roll_back(&journal);
    for when_full in [WhenFull::DropOldest, WhenFull::Thin] {
        let limits =
            Limits { bytes_max: 1, age_max: Duration::from_secs(1), when_full, segment_bytes: 1, ..boundless() };
        let mut life = Lived::begin_within(limits, &journal, second_schema(), synced(3));
        for n in 1..=20 {
            life.keep([after_change(synced(3), n)]);
            life.maintain();
        }
        let inventory = life.core.inventory();
        let newer: Vec<_> = inventory.segments.iter().filter_map(|s| s.newer).collect();
        assert_eq!(newer, [3, 3]);
        assert!(inventory.segments.len() < 12, "what is ours gives: {}", inventory.segments.len());
        life.end();
        left.judge_untouched();
    }
    let now = synced(4).at(5_000_000_000);
    let purged = purge(&journal, Duration::ZERO, synced(4).id, now).expect("it can be done");
    assert_eq!(purged.newer, 2);
    left.judge_untouched();

    let report = Archive::open(&journal).and_then(|archive| archive.verify()).expect("it can be read");
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    let words: Vec<_> = report.left_alone.iter().map(|finding| &finding.what[..30]).collect();
    let is_newer = |what: &&str| ["newer: written in version 2, w", "newer: written in version 3, w"].contains(what);
    assert!(words.len() >= 5 && words.iter().all(is_newer), "{words:?}");
    let repaired = repair(&journal, synced(4).id, now).expect("it can be done");
    assert_eq!(repaired.left_alone, report.left_alone);
    left.judge_untouched();
}

#[test]
fn a_journal_of_which_a_newer_cursor_alone_is_left_uses_no_number_again() {
    let (_dir, journal) = place();
    let left = roll_back(&journal);
    for (path, _) in left.newer.iter().filter(|(path, _)| path.ends_with("ready")) {
        fs::remove_dir_all(path.parent().expect("a segment")).expect("removed");
    }
    let mut life = Lived::begin(&journal, second_schema(), synced(3));
    life.keep([after_change(synced(3), 1)]);
    let out = drain(&mut life);
    assert!(out.keys().all(|seq| *seq <= 6 || *seq > left.last), "{:?}", out.keys());
    assert_eq!(out.values().flat_map(|entry| entry.window.gaps()).count(), 0, "what was delivered is not lost");
}

#[test]
fn records_that_a_newer_program_wrote_under_our_names_are_not_written_over() {
    let (_dir, journal) = place();
    let left = roll_back(&journal);
    let mut taken = Files::new();
    for (path, bytes) in left.newer.iter().filter(|(path, _)| path.parent() == Some(&journal)) {
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name").replace("-2", "");
        fs::remove_file(path).expect("removed");
        fs::write(journal.join(&name), bytes).expect("written");
        taken.insert(journal.join(name), bytes.clone());
    }
    for n in 3..=4 {
        let mut life = Lived::begin(&journal, second_schema(), synced(n));
        life.keep([after_change(synced(n), 1)]);
        life.core.go_live();
        let out = drain(&mut life);
        assert!(out.keys().all(|seq| *seq <= 6 || *seq > left.last), "{:?}", out.keys());
        life.end();
        for (path, bytes) in &taken {
            assert!(fs::read(path).is_ok_and(|now| now == *bytes), "{} was touched", path.display());
        }
    }
    assert!(journal.join("cursor-1-a").exists() && journal.join("life-1").exists());
}

#[test]
fn newer_entries_in_a_segment_of_this_version_are_passed_over_told_and_never_given_up() {
    let (_dir, journal) = place();
    let mut life = Lived::begin(&journal, second_schema(), synced(1));
    life.keep_in_a_burst((1..=4).map(|n| after_change(synced(1), n)));
    life.keep((5..=8).map(|n| after_change(synced(1), n)));
    life.end();
    let path = journal.join("0000000000000001/db");
    let mut database = fs::read(&path).expect("a database");
    frames_of_2(&mut database);
    // The copy of the header stays as it was: the marker counts.
    fs::write(&path, &database).expect("written");

    let limits = Limits { bytes_max: 1, age_max: Duration::from_secs(1), segment_bytes: 1, ..boundless() };
    let mut life = Lived::begin_within(limits, &journal, second_schema(), synced(3));
    assert!(drain(&mut life).is_empty());
    for n in 1..=6 {
        life.keep([after_change(synced(3), n)]);
        life.maintain();
    }
    let mut facts = JournalFacts::default();
    life.core.note(&mut facts);
    assert!(facts.newer.is_some_and(|text| text.contains("1 segments")));
    life.core.go_live();
    assert!(drain(&mut life).values().all(|entry| entry.window.gaps().all(|gap| gap.from.0 > 8)));
    assert_eq!(fs::read(&path).ok(), Some(database));
}

/// Three segments of an earlier life, with eight entries each.
fn three_segments(dir: &Path) {
    let mut life = Lived::begin(dir, second_schema(), synced(1));
    for n in 0..12 {
        life.keep([after_change(synced(1), 2 * n + 1), after_change(synced(1), 2 * n + 2)]);
    }
    life.end();
}

/// How many segments are given up by each call until one gives up nothing more.
fn given_up_by(life: &mut Lived, mut call: impl FnMut(&mut Lived)) -> Vec<u64> {
    let mut given_up = Vec::new();
    loop {
        let before = life.core.progress().unacknowledged;
        call(life);
        match before - life.core.progress().unacknowledged {
            0 => return given_up,
            entries => given_up.push(entries / 8),
        }
    }
}

#[test]
fn one_call_looks_through_one_segment_of_an_earlier_life_at_most() {
    let bounds = [
        Limits { age_max: Duration::from_secs(1), ..boundless() },
        Limits { bytes_max: 1, segment_bytes: 1 << 20, when_full: WhenFull::DropOldest, ..boundless() },
        boundless(),
    ];
    for (case, limits) in bounds.into_iter().enumerate() {
        let (_dir, journal) = place();
        three_segments(&journal);
        let mut life = Lived::begin_within(limits, &journal, second_schema(), synced(3));
        life.core.append(after_change(synced(3), 1), life.now);
        let mut order = Purge::new(Duration::from_secs(1), None);
        let mut purged = None;
        let by_call = given_up_by(&mut life, |life| {
            if case == 2 {
                purged = life.core.purge(&mut order, life.now);
            } else {
                life.maintain();
            }
        });
        assert_eq!(by_call, [1, 1, 1], "case {case}");
        if case == 2 {
            let purged = purged.expect("it is done");
            assert_eq!((purged.segments, purged.entries, purged.newer), (3, 24, 0));
        }
    }
}

#[test]
fn a_segment_that_cannot_be_read_to_know_whether_it_is_newer_stays_until_it_can() {
    let (_dir, journal) = place();
    three_segments(&journal);
    let limits = Limits { age_max: Duration::from_secs(1), ..boundless() };
    let mut life = Lived::begin_within(limits, &journal, second_schema(), synced(3));
    life.core.append(after_change(synced(3), 1), life.now);
    // To read a directory is an error of the system.
    let (path, aside) = (journal.join("0000000000000001/db"), journal.join("0000000000000001/aside"));
    fs::rename(&path, &aside).expect("renamed");
    fs::create_dir(&path).expect("made");
    let mut waits = vec![life.core.progress().unacknowledged];
    for _ in 0..3 {
        life.maintain();
        waits.push(life.core.progress().unacknowledged);
    }
    assert_eq!(waits, [24, 24, 16, 8], "it keeps nothing else from going");
    fs::remove_dir(&path).expect("removed");
    fs::rename(&aside, &path).expect("renamed");
    for _ in 0..3 {
        life.maintain();
    }
    assert_eq!(life.core.progress().unacknowledged, 8, "it is not tried at each call");
    life.maintain();
    assert_eq!(life.core.progress().unacknowledged, 0);
}

#[test]
fn a_newer_segment_before_them_does_not_keep_what_is_too_old() {
    let (_dir, journal) = place();
    three_segments(&journal);
    let ready = journal.join("0000000000000001/ready");
    fs::write(&ready, header_of_3(&fs::read(&ready).expect("a header"))).expect("written");
    // Its seal is one that this program cannot read.
    let seal = journal.join("0000000000000001/seal");
    fs::write(&seal, record_of_2(&fs::read(&seal).expect("a seal"))).expect("written");
    // What says that a newer program was here.
    fs::write(journal.join("life-2"), record_of_2(&fs::read(journal.join("life")).expect("a life"))).expect("written");
    let limits = Limits { age_max: Duration::from_secs(1), ..boundless() };
    let mut life = Lived::begin_within(limits, &journal, second_schema(), synced(3));
    life.core.append(after_change(synced(3), 1), life.now);
    assert_eq!(given_up_by(&mut life, Lived::maintain), [1, 1]);
}

#[test]
fn a_boot_without_a_clock_whose_times_a_newer_program_keeps_is_left_to_it() {
    // The older program's own record is gone, or it is there and the boot is open in it.
    for is_kept in [false, true] {
        let (_dir, journal) = place();
        let path = |name: &str| journal.join(name);
        let dark = boot(1, Y2001_NS, ClockTrust::Unsynced);
        let mut life = Lived::begin(&journal, second_schema(), dark);
        life.keep((1..=4).map(|n| after_change(dark, n)));
        life.end();
        let times = fs::read(path("times")).expect("a record");
        fs::write(path("times-2"), record_of_2(&times)).expect("written");
        let cursor = ["cursor-a", "cursor-b"].into_iter().find_map(|name| fs::read(path(name)).ok()).expect("a cursor");
        fs::write(path("cursor-2-a"), record_of_2(&cursor)).expect("written");
        if !is_kept {
            fs::remove_file(path("times")).expect("removed");
        }

        let mut life = Lived::begin(&journal, second_schema(), synced(2));
        life.keep((1..=2).map(|n| after_change(synced(2), n)));
        life.core.go_live();
        assert_eq!(drain(&mut life).into_keys().collect::<Vec<_>>(), [5, 6], "kept: {is_kept}");
        life.end();
        // A boot that the newer program has never seen is placed all the same.
        let dark = boot(3, Y2001_NS, ClockTrust::Unsynced);
        let mut life = Lived::begin(&journal, second_schema(), dark);
        life.keep([after_change(dark, 1)]);
        life.end();
        let mut life = Lived::begin(&journal, second_schema(), synced(4));
        life.keep([after_change(synced(4), 1)]);
        life.core.go_live();
        let out = drain(&mut life);
        assert_eq!(out.keys().copied().collect::<Vec<_>>(), [7, 8], "kept: {is_kept}");
        assert_eq!(out[&7].window.end.trust, ClockTrust::Estimated);
        // The last entry tells that the 7th went out under another epoch.
        life.end();
        // The newer program is back, and tells them with the times that it knows.
        fs::remove_file(path("times-2")).expect("removed");
        fs::remove_file(path("cursor-2-a")).expect("removed");
        fs::write(path("times"), times).expect("written");
        let mut life = Lived::begin(&journal, second_schema(), synced(5));
        life.keep([after_change(synced(5), 1)]);
        life.core.go_live();
        let out = drain(&mut life);
        assert_eq!(out.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4, 9, 10]);
        assert!(out.values().take(4).all(|entry| entry.window.end.trust == ClockTrust::Estimated));
    }
}

#[test]
fn an_anchor_that_a_newer_program_has_seen_in_this_boot_decides_what_waited_for_it() {
    let (_dir, journal) = place();
    let path = |name: &str| journal.join(name);
    let dark = boot(1, Y2001_NS, ClockTrust::Unsynced);
    let synced = boot(1, NOON_NS, ClockTrust::Synced);
    let mut life = Lived::begin(&journal, second_schema(), dark);
    life.keep((1..=4).map(|n| after_change(dark, n)));
    life.end();
    let times = fs::read(path("times")).expect("a record");
    let mut life = Lived::begin(&journal, second_schema(), synced);
    life.keep([after_change(synced, 5)]);
    life.end();
    fs::write(path("times-2"), record_of_2(&fs::read(path("times")).expect("a record"))).expect("written");
    fs::write(path("times"), times).expect("written");

    let mut life = Lived::begin(&journal, second_schema(), dark);
    life.keep([after_change(dark, 6)]);
    life.core.go_live();
    let out = drain(&mut life);
    let told: Vec<_> = out.values().map(|entry| (entry.window.end.trust, entry.window.end.utc)).collect();
    assert_eq!(out.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert!(told[..4].iter().all(|(trust, _)| *trust == ClockTrust::Resolved), "{told:?}");
    assert!(told[..5].is_sorted_by_key(|(_, utc)| *utc) && told[0].1.0 > Y2001_NS + DAY_NS, "{told:?}");
}
