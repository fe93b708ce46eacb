//! A journal that holds everything the format has, written by the program as it is, and compared with the one that
//! version 0.1.0 has written (`tests/data/journal-0.1.0`, read as a whole by `tests/golden.rs`).
//!
//! The golden bytes are never written anew. A later version of the format gets a directory of its own: `V2G_GOLDEN=DIR`
//! makes these tests leave there what they have written, unless it is there already.

mod aged;
mod bytes;
mod depot;
mod kinds;
mod later;
mod newer;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use self::depot::{
    Boot, NOON_NS, Y2001_NS, after_change, disordered, every_event, first_schema, long, plain, rich, second_schema,
};
use crate::journal::Finding;
use crate::journal::core::context::WriterContext;
use crate::journal::core::epoch::JournalMeta;
use crate::journal::core::journal_core::JournalCore;
use crate::journal::core::limits::{COMMIT_BYTES_MAX, Limits};
use crate::journal::core::recovery;
use crate::journal::disk::sled_store::SledStore;
use crate::journal::line::{Lane, Settlement};
use crate::journal::offline::archive::{Archive, Place};
use crate::measure::{BootId, ClockTrust, Entry, Event, EventKind, Schema, Seq, Window, Words};

const DAY_NS: i64 = 86_400_000_000_000;
/// Chunks of a segment: a few segments are enough.
const SEGMENT_CHUNKS: u32 = 4;

/// One life of the journal in the hands of a test.
struct Lived {
    core: JournalCore<SledStore>,
    meta: JournalMeta,
    boot: Boot,
    now: Duration,
}

impl Lived {
    fn begin(dir: &Path, schema: Schema, boot: Boot) -> Self {
        let limits = Limits { segment_chunks: SEGMENT_CHUNKS, ..boundless() };
        Self::begin_within(limits, dir, schema, boot)
    }

    fn begin_within(limits: Limits, dir: &Path, schema: Schema, boot: Boot) -> Self {
        let mut store = SledStore::open(dir).expect("the directory is ours");
        let start = recovery::start(&mut store, &schema, boot.id, boot.at(5_000_000_000)).expect("the disk works");
        let (gateway, site) = (schema.gateway.clone(), schema.site.clone());
        let meta = JournalMeta { epoch: start.epoch, gateway, site, clean: true };
        let context = WriterContext { epoch: start.epoch, boot: boot.id, schema: Arc::new(schema) };
        Self { core: JournalCore::new(Some(store), limits, context, start), meta, boot, now: Duration::ZERO }
    }

    /// Appends and makes durable, as one chunk if it is short.
    fn keep(&mut self, windows: impl IntoIterator<Item = Window>) {
        for window in windows {
            self.core.append(window, self.now);
        }
        self.now += Duration::from_millis(500);
        self.core.commit(self.now);
        assert!(self.core.trouble().is_none(), "{:?}", self.core.trouble());
    }

    /// The same in a burst: as it is, not compressed.
    fn keep_in_a_burst(&mut self, windows: impl IntoIterator<Item = Window>) {
        self.core.set_commit_bytes(1);
        self.keep(windows);
        self.core.set_commit_bytes(COMMIT_BYTES_MAX);
    }

    fn maintain(&mut self) {
        self.now += Duration::from_secs(11);
        self.core.maintain(self.now);
    }

    /// Leases so many of history, acknowledges these in this order, and gives back the rest.
    fn deliver(&mut self, count: usize, acknowledged: &[u64]) -> Vec<Arc<Entry>> {
        let leased = self.core.lease(Lane::History, count);
        let out = |seq: u64| leased.iter().any(|entry| entry.identity.seq.0 == seq);
        for &seq in acknowledged.iter().filter(|seq| out(**seq)) {
            self.core.settle(Settlement::Acknowledged(Seq(seq)));
        }
        for entry in leased.iter().filter(|entry| !acknowledged.contains(&entry.identity.seq.0)) {
            self.core.settle(Settlement::GivenBack(entry.identity.seq));
        }
        leased
    }

    fn end(mut self) {
        self.core.close(Some((self.boot.id, self.boot.at(9_000_000_000_000))), self.now).expect("the disk works");
        self.core.save_meta(&self.meta).expect("the disk works");
    }
}

fn boundless() -> Limits {
    Limits { segment_chunks: SEGMENT_CHUNKS, ..Limits::boundless() }
}

fn boot(id: u8, utc: i64, trust: ClockTrust) -> Boot {
    Boot { id: BootId([id; 16]), utc, trust }
}

/// Five lives in four boots, the last of them cut short: see the comments.
fn cut_short(dir: &Path) {
    // The clock is wrong at first and is then synced: times are resolved through the anchor.
    let dark = boot(0xa1, Y2001_NS, ClockTrust::Unsynced);
    let synced = boot(0xa1, NOON_NS, ClockTrust::Synced);
    let free = boot(0xa1, NOON_NS, ClockTrust::Holdover);
    let mut life = Lived::begin(dir, first_schema(), dark);
    let started = EventKind::Started { version: "0.1.0".to_owned(), clean: None };
    let mut first = plain(dark, 1);
    first.events.push(Event { device: None, kind: started });
    life.keep([first, rich(dark, 2)]);
    life.keep([rich(dark, 3), rich(dark, 4)].into_iter().chain((5..=8).map(|n| plain(dark, n))));
    life.keep((9..=14).map(|n| plain(synced, n)));
    life.keep([rich(free, 15)].into_iter().chain((16..=20).map(|n| plain(free, n))));
    // One is refused; what is acknowledged has holes, and came in another order.
    life.core.go_live();
    let refused = Arc::clone(&life.deliver(10, &[8, 5, 2, 1, 3])[5]);
    assert_eq!(life.core.lease(Lane::History, 2).len(), 2);
    let identity = refused.identity;
    life.core.settle(Settlement::GivenBack(Seq(4)));
    let (points, told, lives) = (refused.window.points(), Vec::new(), Vec::new());
    life.core.settle(Settlement::Refused { identity, points, code: 0x99, told, lives });
    life.keep([Window { events: every_event(), ..rich(synced, 21) }]);
    // A number that is never written, in bursts, and chunks in parts, as they are and compressed.
    life.keep_in_a_burst([rich(synced, 22), disordered(synced, 23), plain(synced, 24), long(synced, 25, false)]);
    life.keep([long(synced, 26, true)]);
    life.maintain();
    life.end();

    // The same boot, another life, of which nothing will be left but the damaged file.
    let mut life = Lived::begin(dir, first_schema(), synced);
    life.keep((401..=403).map(|n| plain(synced, n)));
    life.keep((404..=405).map(|n| plain(synced, n)));
    life.end();

    // A boot that is never synced: of some entries the time is estimated and told, of those 5 minutes later it is open.
    let dark = boot(0xb2, Y2001_NS, ClockTrust::Unsynced);
    let mut life = Lived::begin(dir, first_schema(), dark);
    life.keep([rich(dark, 1), plain(dark, 2), plain(dark, 3), plain(dark, 4)]);
    life.core.go_live();
    life.maintain();
    life.deliver(40, &[35, 34]);
    for group in 0..8 {
        life.keep((0..12).map(|n| plain(dark, 2_000 + group * 12 + n)));
    }
    life.maintain();
    drop(life);

    // Another plan. Something is damaged meanwhile; what was never handed out becomes coarser.
    damage(dir, Seq(9));
    damage(dir, Seq(27));
    let synced = boot(0xc3, NOON_NS + DAY_NS, ClockTrust::Synced);
    let mut life = Lived::begin(dir, second_schema(), synced);
    life.keep((1..=3).map(|n| after_change(synced, n)));
    life.core.go_live();
    life.deliver(40, &[1, 2, 3, 5, 6, 8, 30, 31]);
    life.keep((4..=6).map(|n| after_change(synced, n)));
    life.maintain();
    assert!(life.core.downsample_one_run(life.now));
    life.maintain();
    life.keep((7..=8).map(|n| after_change(synced, n)));
    life.end();

    // The clock is wrong once more, and the box is switched off.
    let dark = boot(0xd4, Y2001_NS, ClockTrust::Unsynced);
    let mut life = Lived::begin(dir, second_schema(), dark);
    life.keep((1..=4).map(|n| after_change(dark, n)));
    life.maintain();
    life.keep((5..=6).map(|n| after_change(dark, n)));
}

/// One life that ended in order, of which all but the last is acknowledged.
fn ended_in_order(dir: &Path) {
    let synced = boot(0xe5, NOON_NS, ClockTrust::Synced);
    let mut life = Lived::begin(dir, second_schema(), synced);
    for group in 0..3 {
        life.keep((1..=5).map(|n| after_change(synced, group * 5 + n)));
    }
    life.deliver(15, &(1..=14).collect::<Vec<_>>());
    life.end();
}

/// Changes a byte in the chunk that has this number.
fn damage(dir: &Path, seq: Seq) {
    let archive = Archive::open(dir).expect("a journal");
    let folder = archive.folders().iter().rfind(|folder| folder.first <= seq.0).expect("a segment");
    let path = folder.path.join("db");
    let frames = folder.scan().expect("a scan").at_or_before(seq.0).expect("it can be read").expect("a chunk");
    let mut bytes = fs::read(&path).expect("a database");
    let at = bytes.windows(frames[0].len()).position(|window| window == frames[0]).expect("it lies in one piece");
    bytes[at + 100] ^= 0x10;
    fs::write(&path, bytes).expect("written");
}

/// The text with each epoch in the place of its number: no two lives of a journal draw the same.
fn without_epochs(text: &str) -> String {
    let number = |rest: &str| rest.split(')').next().and_then(|digits| digits.parse::<u64>().ok());
    let epochs: BTreeSet<u64> = text.split("Epoch(").skip(1).filter_map(number).collect();
    epochs.iter().enumerate().fold(text.to_owned(), |text, (place, epoch)| {
        text.replace(&format!("Epoch({epoch})"), &format!("Epoch(the {place}th)"))
    })
}

/// All that stands in a journal, and what a look at every byte finds.
fn content(dir: &Path) -> (String, Vec<Finding>) {
    let archive = Archive::open(dir).expect("a journal");
    let mut places = Vec::new();
    let take = |mut place: Place| {
        // What it says, whatever the words: those are a matter of the wire.
        if let Place::Entry(entry, _) = &mut place {
            entry.words = Words::First;
            // 0.1.0 had none for that entries go out under another epoch.
            entry.window.events.retain(|event| event.kind.life_lost().is_none());
        }
        places.push(format!("{place:?}"));
        ControlFlow::Continue(())
    };
    archive.read((Seq::FIRST, Seq(u64::MAX)), take).expect("it can be read");
    let mut findings = archive.verify().expect("it can be read").findings;
    findings.iter_mut().for_each(|f| f.file = f.file.strip_prefix(dir).expect("below").to_owned());
    (without_epochs(&places.join("\n")), findings)
}

fn golden(name: &str) -> (tempfile::TempDir, PathBuf) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/journal-0.1.0").join(name);
    let dir = tempfile::tempdir().expect("a directory");
    let journal = dir.path().join("journal");
    fs::create_dir_all(&journal).expect("made");
    hil_tests::tree::unpack(&fs::read(path).expect("the golden bytes"), &journal).expect("they are whole");
    (dir, journal)
}

/// Writes a journal, and compares it with the golden one.
fn judge(name: &str, write: impl FnOnce(&Path)) {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = dir.path().join("journal");
    write(&journal);
    if let Some(kept) = std::env::var_os("V2G_GOLDEN") {
        let kept = PathBuf::from(kept).join(name);
        let packed = hil_tests::tree::pack(&journal).expect("packed");
        let new = fs::OpenOptions::new().write(true).create_new(true).open(kept);
        if let Ok(mut file) = new {
            file.write_all(&packed).expect("written");
        }
    }
    // Who has found the times of others: 0.1.0 did not note it.
    let _ = fs::remove_file(journal.join("deciders"));
    let (_dir, golden) = golden(name);
    assert_eq!(content(&journal), content(&golden));
}

#[test]
fn this_program_writes_what_0_1_0_wrote_in_five_lives() {
    judge("cut-short.tree", cut_short);
}

#[test]
fn this_program_writes_what_0_1_0_wrote_in_a_life_that_ended_in_order() {
    judge("ended-in-order.tree", ended_in_order);
}
