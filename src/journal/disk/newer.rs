//! What a newer program wrote, and how an older one goes on beside it.
//!
//! After an A/B roll-back the older program finds what the newer has left. It leaves all of it alone, tells it, and goes on in
//! segments of its own, under numbers and epochs above all that were used. Put back, the newer program finds its own and the
//! older one's, and delivers both. For that, these hold in every version:
//!
//! - **A segment's header, seal and chunks are of one version**, or older in parts: the header's body begins with it (u16, as
//!   postcard has it). A version that writes another header, seal or kind of chunk says so there. Entries have a version of
//!   their own: those of version 2 lie in segments of version 1, or of version 2 where a device is of a kind that version 1 has no word for.
//! - **The head of a frame never changes** (`chunk`, offset 0 to 55), so that the last number in a segment can be found by
//!   anybody. A kind or a flag that is not known makes a chunk of entries one of a newer version.
//! - **The version byte stands before each entry** (`entry`), whatever its segment's header says. An older program delivers
//!   what it can read around a newer entry, and keeps the segment for it.
//! - **Records are told apart by their names**: those of version n, from 2 on, are `life-n`, `times-n`, `cursor-n-a`,
//!   `cursor-n-b`, and say so in their head (`record`, offset 7). A program writes none but those of its own version. It reads
//!   those of all older ones as well and takes them together: of cursors the union of what is settled, and the highest of
//!   all numbers and epochs. Their bodies begin as those of version 1: a life with all that this one has; a cursor with its
//!   generation and the next number; times with format, anchor, highest and newest label, and turns.
//! - **Directories**: a segment is named by its first number, counts when it has `ready`, and is being removed when its name
//!   ends in `.del`.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use crate::journal::disk::record::Record;
use crate::journal::disk::scan::Scan;
use crate::journal::disk::segment::Header;
use crate::journal::disk::unreadable::Unreadable;
use crate::journal::disk::v1::record as v1;
use crate::journal::disk::{chunk, files};
use crate::measure::Epoch;

/// The version and the epoch of the segment in this directory, if a newer program wrote it; `None` also if what is there
/// does not say.
///
/// # Errors
/// What is there cannot be read now.
pub(in crate::journal) fn segment(path: &Path) -> io::Result<Option<(u16, Epoch)>> {
    let newer = |frames: &[Vec<u8>]| match Header::from_frames(frames) {
        Err(Unreadable::Newer { version }) => Some((version, chunk::parse(frames.first()?).ok()?.0.epoch)),
        _ => None,
    };
    let read = files::read(&path.join("ready"));
    let marker = read.as_ref().ok().and_then(Option::as_deref).map(chunk::split).unwrap_or_default();
    if Header::from_frames(&marker).is_ok() {
        return Ok(None);
    }
    if let Some(found) = newer(&marker) {
        return Ok(Some(found));
    }
    let copy = match Scan::begin(&path.join("db")).and_then(|mut scan| scan.header()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        copy => copy?,
    };
    match newer(&copy) {
        None if Header::from_frames(&copy).is_err() => read.map(|_| None),
        found => Ok(found),
    }
}

/// The records of newer programs in this directory, the oldest version first.
pub(in crate::journal) fn records(dir: &Path) -> Vec<NewerRecord> {
    let names = files::names(dir);
    let read = |name: &String| NewerRecord::of(name, || files::read(&dir.join(name)).ok().flatten());
    let mut found: Vec<NewerRecord> = names.iter().filter_map(read).collect();
    // A tenth version's name sorts before a second's.
    found.sort_by_key(|record| record.version);
    found
}

/// The names of this version's records; should a newer program have taken one, against the rule, ours has another.
#[derive(Debug, Default)]
pub(in crate::journal) struct OwnNames {
    taken: BTreeSet<Record>,
}

impl OwnNames {
    pub(in crate::journal) fn beside(newer: &[NewerRecord]) -> Self {
        let own = |newer: &&NewerRecord| newer.name == Self::default().of(newer.record);
        Self { taken: newer.iter().filter(own).map(|newer| newer.record).collect() }
    }

    pub(in crate::journal) fn of(&self, record: Record) -> &'static str {
        match (record, self.taken.contains(&record)) {
            (Record::Life, false) => "life",
            (Record::CursorA, false) => "cursor-a",
            (Record::CursorB, false) => "cursor-b",
            (Record::Times, false) => "times",
            (Record::Lived, false) => "lived",
            (Record::Deciders, false) => "deciders",
            (Record::Checkpoint, false) => "checkpoint",
            (Record::Life, true) => "life-1",
            (Record::CursorA, true) => "cursor-1-a",
            (Record::CursorB, true) => "cursor-1-b",
            (Record::Times, true) => "times-1",
            (Record::Lived, true) => "lived-1",
            (Record::Deciders, true) => "deciders-1",
            (Record::Checkpoint, true) => "checkpoint-1",
        }
    }
}

/// A record that a newer program wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::journal) struct NewerRecord {
    pub(in crate::journal) name: String,
    pub(in crate::journal) record: Record,
    pub(in crate::journal) version: u16,
    pub(in crate::journal) bytes: Vec<u8>,
}

impl NewerRecord {
    /// The record in a file of this name, if it is whole and a newer program's, whatever the name says.
    pub(in crate::journal) fn of(name: &str, read: impl FnOnce() -> Option<Vec<u8>>) -> Option<Self> {
        let mut parts = name.split('-');
        let kind = parts.next()?;
        let rest: Vec<&str> = parts.collect();
        let record = match (kind, rest.last()) {
            ("life", _) => Record::Life,
            ("times", _) => Record::Times,
            ("cursor", Some(&"a")) => Record::CursorA,
            ("cursor", Some(&"b")) => Record::CursorB,
            _ => return None,
        };
        let bytes = read()?;
        let version = v1::version_of(record, &bytes).filter(|version| *version > 1)?;
        Some(Self { name: name.to_owned(), record, version, bytes })
    }
}
