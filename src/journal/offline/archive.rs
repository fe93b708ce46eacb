//! The journal as its files say: read without the database, and without changing a byte.
//!
//! In: a directory. Out: an [`Inventory`], a [`VerifyReport`](super::VerifyReport), or one [`Entry`] after the other. Whether an agent
//! holds the journal is asked of its lock, before and after; the lock is not kept, because nobody who looks may keep an
//! agent from starting. Beside an agent only complete segments are read, which nobody changes, and what was meanwhile
//! delivered and removed is passed over. Memory: one segment's list of chunks, and one chunk.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::journal::core::context::WriterContext;
use crate::journal::core::epoch::JournalMeta;
use crate::journal::core::newer::NewerRecords;
use crate::journal::core::ranges::Ranges;
use crate::journal::core::reader::{self, Fetched};
use crate::journal::core::times::Times;
use crate::journal::disk::chunk::{self, Chunk};
use crate::journal::disk::cursor::Cursor;
use crate::journal::disk::files;
use crate::journal::disk::newer::{self, NewerRecord, OwnNames};
use crate::journal::disk::record::Record;
use crate::journal::disk::scan::Scan;
use crate::journal::disk::segment::{Header, Seal};
use crate::journal::disk::sled_store::{QUARANTINE, is_unmarked_segment, misfits, number_of, segment_bytes};
use crate::journal::report::{Inventory, SegmentFacts};
use crate::measure::{BootId, Entry, Epoch, Seq, Utc};

/// Of whoever only looks.
const NO_LIFE: (Epoch, BootId) = (Epoch(0), BootId([0; 16]));

/// Whose view something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum View {
    /// The agent was asked.
    #[serde(rename = "as the running agent says")]
    Agent,
    /// The files were read, and no agent was there, neither before nor after.
    #[serde(rename = "as the files are; no agent runs")]
    Files,
    /// The files were read while an agent, or a repair, holds the journal.
    #[serde(rename = "as the files are, beside a running agent")]
    FilesBesideAgent,
}

impl View {
    /// In words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "as the running agent says",
            Self::Files => "as the files are; no agent runs",
            Self::FilesBesideAgent => "as the files are, beside a running agent",
        }
    }
}

/// The files cannot be read. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// There is no journal.
    #[error("{0} is no journal: there is no such directory")]
    Absent(PathBuf),
    /// A file lies there.
    #[error(
        "{0} is a file, and a directory belongs there: move it away, and the agent makes a journal there within seconds"
    )]
    NotADirectory(PathBuf),
    /// The system refused.
    #[error("read {path}")]
    Io {
        /// What was read.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// What stands at one place of the record.
#[derive(Debug)]
pub enum Place {
    /// An entry, and whether it still waits for the broker.
    Entry(Box<Entry>, bool),
    /// What a newer program wrote.
    Newer {
        /// The first number.
        from: Seq,
        /// The last, inclusive.
        to: Seq,
        /// The version it is written in; `None`: a later one that does not say which.
        version: Option<u16>,
    },
    /// Numbers that cannot be read, and of which some still wait.
    Hole {
        /// The first.
        from: Seq,
        /// The last, inclusive.
        to: Seq,
    },
}

/// A journal that is only read.
#[derive(Debug)]
pub struct Archive {
    dir: PathBuf,
    /// When it was opened.
    view: View,
    meta: Option<JournalMeta>,
    cursor: Option<Cursor>,
    settled: Ranges,
    /// Under which times entries are told.
    times: Times,
    times_damaged: bool,
    /// Records of newer programs.
    newer: Vec<NewerRecord>,
    /// Ascending. Beside a running agent only those that are complete, and the newest one if it was asked for.
    folders: Vec<Folder>,
}

/// A segment as a directory.
#[derive(Debug)]
pub(in crate::journal) struct Folder {
    pub(in crate::journal) first: u64,
    pub(in crate::journal) path: PathBuf,
    /// Whether there is a file `seal`.
    pub(in crate::journal) sealed: bool,
    /// What it says, if it is whole.
    pub(in crate::journal) seal: Option<Seal>,
    /// The version in which a newer program wrote it, and its epoch.
    pub(in crate::journal) newer: Option<(u16, Epoch)>,
}

/// What a walk through one segment meets.
#[derive(Debug)]
pub(in crate::journal) enum Piece {
    Chunk(Chunk),
    Hole(u64, u64),
}

impl Folder {
    pub(in crate::journal) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(in crate::journal) fn scan(&self) -> Result<Scan, ArchiveError> {
        let db = self.file("db");
        match Scan::of(&db) {
            // Its database is gone, and it is not: nothing in it can be read, and what is in the others can.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.path.join("ready").exists() => {
                Ok(Scan::default())
            }
            scan => scan.map_err(failed(&db)),
        }
    }

    /// The header of the marker; from `scan` if that is damaged.
    pub(in crate::journal) fn header(&self, scan: Option<&mut Scan>) -> Option<Header> {
        let marker = Header::of_marker(&self.file("ready"), self.first);
        marker.or_else(|| Header::from_frames(&scan?.header().ok()?).ok())
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> ArchiveError {
    move |source| ArchiveError::Io { path: path.to_owned(), source }
}

impl Archive {
    /// Looks at a directory.
    ///
    /// # Errors
    /// See [`ArchiveError`].
    pub fn open(dir: &Path) -> Result<Self, ArchiveError> {
        if !dir.is_dir() {
            let why = if dir.exists() { ArchiveError::NotADirectory } else { ArchiveError::Absent };
            return Err(why(dir.to_owned()));
        }
        let view = view(dir)?;
        // The list before the cursor: what is removed between the two is settled in the cursor.
        let folders = list(dir, view)?;
        let newer = newer::records(dir);
        let names = OwnNames::beside(&newer);
        let record = |record| {
            let path = dir.join(names.of(record));
            // What is no file there is none of ours: see `misfits`.
            if path.exists() && !path.is_file() { Ok(None) } else { files::read(&path).map_err(failed(&path)) }
        };
        let meta = record(Record::Life)?.as_deref().and_then(|bytes| JournalMeta::read(bytes).ok());
        let meta = meta.or(NewerRecords::of(&newer).meta);
        let cursor = Cursor::choose([record(Record::CursorA)?, record(Record::CursorB)?]).map(|(cursor, _)| cursor);
        let mut settled = Ranges::default();
        for &(from, to) in cursor.iter().flat_map(|cursor| &cursor.settled) {
            settled.insert(from, to);
        }
        let times = record(Record::Times)?;
        let times_damaged = times.as_deref().is_some_and(|bytes| !Times::is_whole(bytes));
        let times = times.filter(|_| !times_damaged);
        let times = Times::open(times.as_deref(), None, 1, NO_LIFE).with_deciders(record(Record::Deciders)?.as_deref());
        Ok(Self { dir: dir.to_owned(), view, meta, cursor, settled, times, times_damaged, newer, folders })
    }

    /// Looks at a directory that the caller holds.
    pub(super) fn look(dir: &Path) -> Result<Self, ArchiveError> {
        let folders = list(dir, View::Files)?;
        let (settled, view) = (Ranges::default(), View::Files);
        let (times, times_damaged) = (Times::open(None, None, 1, NO_LIFE), false);
        let dir = dir.to_owned();
        Ok(Self { dir, view, meta: None, cursor: None, settled, times, times_damaged, newer: Vec::new(), folders })
    }

    /// Whose view this is: also of what was read until now, should an agent have started meanwhile.
    #[must_use]
    pub fn view(&self) -> View {
        match self.view {
            View::Files => view(&self.dir).unwrap_or(View::Files),
            known => known,
        }
    }

    /// What is there. Reads small files, and the newest segment if it was not completed.
    ///
    /// # Errors
    /// The system refused.
    pub fn inventory(&self) -> Result<Inventory, ArchiveError> {
        let mut segments = Vec::with_capacity(self.folders.len());
        for folder in &self.folders {
            let seal = match &folder.seal {
                Some(seal) => seal.clone(),
                None => self.estimate(folder)?,
            };
            let (first, last) = (folder.first, seal.last);
            segments.push(SegmentFacts {
                first: Seq(first),
                last: Seq(last),
                epoch: folder.newer.map(|(_, epoch)| epoch).or_else(|| Some(folder.header(None)?.epoch)),
                bytes: segment_bytes(&folder.path),
                points: folder.seal.as_ref().map(|seal| seal.points),
                waiting: self.settled.missing(first, last).iter().map(|(from, to)| to - from + 1).sum(),
                newest: seal.newest_utc.map(Utc),
                sealed: folder.sealed,
                damaged: folder.sealed && folder.seal.is_none() && folder.newer.is_none(),
                newer: folder.newer.map(|(version, _)| version),
            });
        }
        let inventory = Inventory {
            gateway: self.meta.as_ref().map(|meta| meta.gateway.clone()),
            site: self.meta.as_ref().map(|meta| meta.site.clone()),
            next: segments.last().map(|s| s.last.next()).max(self.cursor.as_ref().map(|cursor| Seq(cursor.next))),
            quarantined: files::names(&self.dir.join(QUARANTINE)),
            oldest: self.oldest()?,
            newest: segments.iter().rev().find_map(|segment| segment.newest),
            segments,
            ..Inventory::default()
        };
        Ok(inventory.concluded())
    }

    /// Hands over what stands in `from..=to`, in order, until `take` breaks.
    ///
    /// # Errors
    /// The system refused.
    pub fn read(
        &self,
        (from, to): (Seq, Seq),
        mut take: impl FnMut(Place) -> ControlFlow<()>,
    ) -> Result<(), ArchiveError> {
        for (place, folder) in self.folders.iter().enumerate() {
            let end = self.folders.get(place + 1).map_or(u64::MAX, |next| next.first - 1);
            if end < from.0 || folder.first > to.0 {
                continue;
            }
            if let Some((version, _)) = folder.newer {
                let last = self.last_of(folder)?;
                let (from, to) = (Seq(folder.first.max(from.0)), Seq(last.min(to.0)));
                if from <= to && take(Place::Newer { from, to, version: Some(version) }).is_break() {
                    return Ok(());
                }
                continue;
            }
            let mut scan = match folder.scan() {
                Ok(scan) => scan,
                Err(_) if self.gone(folder) => continue,
                Err(error) => return Err(error),
            };
            let Some(header) = folder.header(Some(&mut scan)) else {
                let last = folder.seal.as_ref().map_or(folder.first, |seal| seal.last);
                if self.hole(folder.first.max(from.0), last.min(to.0), &mut take).is_break() {
                    return Ok(());
                }
                continue;
            };
            let context = WriterContext::from(header);
            let flow = walk(folder, &mut scan, |piece| match piece {
                Piece::Hole(a, b) => self.hole(a.max(from.0), b.min(to.0), &mut take),
                Piece::Chunk(chunk) => self.entries(&chunk, &context, (from, to), &mut take),
            })?;
            if flow.is_break() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Where it is.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The segments, ascending; beside a running agent only those that are complete.
    pub(in crate::journal) fn folders(&self) -> &[Folder] {
        &self.folders
    }

    /// What lies where a file of the journal belongs, and is none.
    pub(super) fn misfits(&self) -> Vec<PathBuf> {
        misfits(&self.dir)
    }

    /// Whether the record of the last life could be read.
    pub(super) fn has_meta(&self) -> bool {
        self.meta.is_some()
    }

    /// Whether a whole cursor says what is settled.
    pub(super) fn has_cursor(&self) -> bool {
        self.cursor.is_some()
    }

    /// What the cursor says is settled.
    pub(super) fn settled(&self) -> &Ranges {
        &self.settled
    }

    /// Whether there is a record of times, and it is damaged.
    pub(super) fn has_damaged_times(&self) -> bool {
        self.times_damaged
    }

    /// The records that a newer program wrote.
    pub(super) fn newer(&self) -> &[NewerRecord] {
        &self.newer
    }

    /// Whether a running agent has removed it meanwhile.
    pub(super) fn gone(&self, folder: &Folder) -> bool {
        self.view() == View::FilesBesideAgent && !folder.path.exists()
    }

    fn hole(&self, from: u64, to: u64, take: &mut impl FnMut(Place) -> ControlFlow<()>) -> ControlFlow<()> {
        // What is settled was delivered, or told as lost.
        for (from, to) in self.settled.missing(from, to) {
            take(Place::Hole { from: Seq(from), to: Seq(to) })?;
        }
        ControlFlow::Continue(())
    }

    fn entries(
        &self,
        chunk: &Chunk,
        context: &WriterContext,
        (from, to): (Seq, Seq),
        take: &mut impl FnMut(Place) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        if chunk.newer {
            let (from, to) = (chunk.first.max(from), Seq(chunk.last()).min(to));
            return if from <= to { take(Place::Newer { from, to, version: None }) } else { ControlFlow::Continue(()) };
        }
        for (number, range) in (chunk.first.0..).zip(chunk.entries().unwrap_or_default()) {
            let seq = Seq(number);
            if seq < from || seq > to {
                continue;
            }
            match reader::read(number, &chunk.body[range], context) {
                Fetched::Entry(mut entry) => {
                    // As it was or will be told, if that is decided; else as it was captured.
                    self.times.tell(&mut entry);
                    take(Place::Entry(entry, !self.settled.contains(number)))?;
                }
                Fetched::Newer { version, .. } => take(Place::Newer { from: seq, to: seq, version })?,
                Fetched::Skipped { .. } | Fetched::Lost { .. } => self.hole(number, number, take)?,
            }
        }
        ControlFlow::Continue(())
    }

    /// The last number in a segment; its first less one if there is none.
    pub(super) fn last_of(&self, folder: &Folder) -> Result<u64, ArchiveError> {
        Ok(match &folder.seal {
            Some(seal) => seal.last,
            None => self.estimate(folder)?.last,
        })
    }

    /// What the seal of a segment would say that has none.
    fn estimate(&self, folder: &Folder) -> Result<Seal, ArchiveError> {
        let mut seal = Seal::open(folder.first);
        let mut scan = match folder.scan() {
            Err(_) if self.gone(folder) => return Ok(seal),
            scan => scan?,
        };
        let _ = walk(folder, &mut scan, |piece| {
            if let Piece::Chunk(chunk) = piece {
                seal.add(&chunk);
            }
            ControlFlow::Continue(())
        })?;
        Ok(seal)
    }

    fn oldest(&self) -> Result<Option<Utc>, ArchiveError> {
        let Some(folder) = self.folders.first() else { return Ok(None) };
        let mut scan = match folder.scan() {
            Err(_) if self.gone(folder) => return Ok(None),
            scan => scan?,
        };
        let Some(header) = folder.header(Some(&mut scan)) else { return Ok(None) };
        let context = WriterContext::from(header);
        let frames = scan.at_or_before(0).map_err(failed(&folder.path))?;
        let Some(chunk) = frames.and_then(|frames| Chunk::join(&frames).ok()) else { return Ok(None) };
        let entry = chunk.entries().ok().and_then(|entries| entries.into_iter().next());
        let entry = entry.map(|range| reader::read(chunk.first.0, &chunk.body[range], &context));
        Ok(match entry {
            Some(Fetched::Entry(entry)) if chunk.newest_utc.is_some() => Some(entry.window.end.utc),
            _ => None,
        })
    }
}

/// Goes through a segment in the order of the numbers.
pub(in crate::journal) fn walk(
    folder: &Folder,
    scan: &mut Scan,
    mut take: impl FnMut(Piece) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, ArchiveError> {
    let mut expected = folder.first;
    let mut frames = scan.at_or_before(folder.first).map_err(failed(&folder.path))?;
    while let Some(found) = frames {
        // The scan answers chunks that are whole; their content may still make no sense.
        if let Ok(chunk) = Chunk::join(&found) {
            let (first, last, begins_at) = (chunk.first, chunk.last(), chunk.begins_at());
            if begins_at > expected && take(Piece::Hole(expected, begins_at - 1)).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            let readable = chunk.newer || chunk.entries().is_ok();
            let piece = if readable { Piece::Chunk(chunk) } else { Piece::Hole(first.0, last) };
            if take(piece).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            expected = expected.max(last + 1);
            frames = scan.after(first.0).map_err(failed(&folder.path))?;
        } else {
            let first = chunk::parse(&found[0]).map_or(expected, |(chunk, _, _)| chunk.first.0);
            frames = scan.after(first.max(expected)).map_err(failed(&folder.path))?;
        }
    }
    Ok(match &folder.seal {
        Some(seal) if seal.last >= expected => take(Piece::Hole(expected, seal.last)),
        _ => ControlFlow::Continue(()),
    })
}

/// Whether somebody holds it: the directory itself, or, if that is an older program, the file in it.
fn view(dir: &Path) -> Result<View, ArchiveError> {
    for path in [dir.to_owned(), dir.join("lock")] {
        // What is no file there is none of ours.
        let is_misfit = path != dir && path.exists() && !path.is_file();
        let lock = match if path == dir { File::open(&path) } else { files::open(&path) } {
            Ok(lock) => lock,
            Err(_) if is_misfit => continue,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(ArchiveError::Io { path, source }),
        };
        match lock.try_lock_shared() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(View::FilesBesideAgent),
            Err(TryLockError::Error(source)) => return Err(ArchiveError::Io { path, source }),
        }
    }
    Ok(View::Files)
}

fn list(dir: &Path, view: View) -> Result<Vec<Folder>, ArchiveError> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(dir).map_err(failed(dir))? {
        let name = entry.map_err(failed(dir))?.file_name();
        found.extend(name.to_str().and_then(number_of));
    }
    let mut folders = Vec::new();
    for first in found {
        let path = dir.join(format!("{first:016x}"));
        if path.is_file() {
            // None of ours: see `misfits`.
            continue;
        }
        // Without its marker a segment counts if there is something in it; beside an agent it may be one that is being made.
        if !path.join("ready").exists() && (view != View::Files || !is_unmarked_segment(&path)) {
            continue;
        }
        let seal = files::read(&path.join("seal")).map_err(failed(&path))?;
        let folder = Folder {
            first,
            sealed: seal.is_some(),
            seal: seal.as_deref().and_then(|bytes| Seal::read(bytes).ok()),
            newer: newer::segment(&path).map_err(failed(&path))?,
            path,
        };
        if folder.sealed || view == View::Files {
            folders.push(folder);
        }
    }
    Ok(folders)
}
