//! What a person orders: to purge what is old, to repair what is damaged. With the agent stopped it is a short life of
//! its own: its epoch is raised, and every loss is told in an entry before it takes place, as in any life.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::journal::core::context::WriterContext;
use crate::journal::core::epoch::JournalMeta;
use crate::journal::core::journal_core::{JournalCore, Purge};
use crate::journal::core::limits::{COMMIT_BYTES_MAX, Limits};
use crate::journal::core::newer::NewerRecords;
use crate::journal::core::recovery;
use crate::journal::disk::segment::Seal;
use crate::journal::disk::sled_store::{SledStore, Unusable};
use crate::journal::disk::store::{Store, StoreError};
use crate::journal::offline::archive::{Archive, ArchiveError, Piece, View, walk};
use crate::journal::offline::verify::{Finding, concerns};
use crate::journal::report::Purged;
use crate::measure::WhenFull;
use crate::measure::{BootId, Schema, Seq, Stamp, Window};

/// Each window tells some hundreds of losses: bounds what a journal in shreds can make of this.
const TELLINGS_MAX: usize = 1_000;

/// It could not be done. What was told is told; nothing else was given up.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// An agent has the journal.
    #[error("{0} is held by a running agent, or read by another command; stop that first")]
    Held(PathBuf),
    /// Neither the record of the last life nor any segment says whose journal it is.
    #[error("{0} does not say whose journal it is; start the agent once, it begins a new life")]
    Nameless(PathBuf),
    /// The files cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The medium failed.
    #[error("the journal cannot be written: {0}")]
    Medium(String),
}

impl From<StoreError> for RepairError {
    fn from(error: StoreError) -> Self {
        Self::Medium(error.in_words())
    }
}

/// What a repair did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Repaired {
    /// What was wrong.
    pub findings: Vec<Finding>,
    /// Segments of which what is intact was written anew, and the damaged original put aside.
    pub rewritten: Vec<Seq>,
    /// Segments in which nothing was left to keep.
    pub set_aside: Vec<Seq>,
    /// Entries that are lost; a gap event tells it.
    pub entries_lost: u64,
    /// What a newer program wrote: it was not touched.
    pub left_alone: Vec<Finding>,
    /// Whether a life that was cut short was completed.
    pub completed: bool,
}

/// Gives up what is older than this, with the agent stopped.
///
/// # Errors
/// See [`RepairError`].
pub fn purge(dir: &Path, older_than: Duration, boot: BootId, now: Stamp) -> Result<Purged, RepairError> {
    let counted_from = (now.trust != crate::measure::ClockTrust::Unsynced).then_some(now.utc);
    let mut life = Maintenance::begin(dir, boot, now)?;
    let mut order = Purge::new(older_than, counted_from);
    // Each call deals with a segment more.
    let purged = loop {
        if let Some(purged) = life.core.purge(&mut order, Duration::ZERO) {
            break purged;
        }
    };
    life.end()?;
    Ok(purged)
}

/// Completes what a life that was cut short left half done, tells what is damaged beyond reading, writes what is intact
/// of damaged segments anew, and puts the originals aside.
///
/// # Errors
/// See [`RepairError`].
pub fn repair(dir: &Path, boot: BootId, now: Stamp) -> Result<Repaired, RepairError> {
    let archive = Archive::open(dir)?;
    if archive.view() != View::Files {
        return Err(RepairError::Held(dir.to_owned()));
    }
    let report = archive.verify()?;
    let completed = report.incomplete.is_some();
    if report.findings.is_empty() && !completed {
        return Ok(Repaired { left_alone: report.left_alone, ..Repaired::default() });
    }
    let damaged =
        |folder: &&crate::journal::offline::archive::Folder| report.findings.iter().any(|f| concerns(f, &folder.path));
    // To write one anew in which something is newer would be to change that.
    let is_ours = |folder: &&crate::journal::offline::archive::Folder| {
        !report.left_alone.iter().any(|f| concerns(f, &folder.path))
    };
    let damaged = archive.folders().iter().filter(damaged).filter(is_ours);
    let damaged: Vec<u64> = damaged.map(|folder| folder.first).collect();
    drop(archive);

    let mut life = Maintenance::begin(dir, boot, now)?;
    let mut repaired = Repaired { completed, ..Repaired::default() };
    for &first in &damaged {
        repaired.entries_lost += life.core.lose_nameless(first);
    }
    for (from, to) in report.findings.iter().filter_map(|finding| finding.range) {
        repaired.entries_lost += life.core.lose_damaged(from.0, to.0);
    }
    let mut store = life.end()?;
    for first in damaged {
        match rewrite(&mut store, dir, first)? {
            Some(true) => repaired.rewritten.push(Seq(first)),
            Some(false) => repaired.set_aside.push(Seq(first)),
            // Nobody needed anything of it any more: it went at the end of that life.
            None => repaired.set_aside.push(Seq(first)),
        }
    }
    (repaired.findings, repaired.left_alone) = (report.findings, report.left_alone);
    Ok(repaired)
}

/// Writes what is intact of a segment anew. `None`: it is gone already; `Some(false)`: nothing in it is intact.
fn rewrite(store: &mut SledStore, dir: &Path, first: u64) -> Result<Option<bool>, RepairError> {
    let archive = Archive::look(dir)?;
    let Some(folder) = archive.folders().iter().find(|folder| folder.first == first) else { return Ok(None) };
    let mut scan = folder.scan()?;
    let header = folder.header(Some(&mut scan));
    let Some(header) = header.filter(|_| folder.file("db").exists()) else {
        store.quarantine(Seq(first))?;
        return Ok(Some(false));
    };
    let resolution = folder.seal.as_ref().map(|seal| seal.resolution).unwrap_or_default();
    let mut seal = Seal { resolution, ..Seal::open(first) };
    let mut failed = None;
    store.begin_again(&header)?;
    let _ = walk(folder, &mut scan, |piece| {
        let Piece::Chunk(mut chunk) = piece else { return ControlFlow::Continue(()) };
        // What is missing before it is told, and so never was there, on purpose.
        chunk.skipped = chunk.first.0 - (seal.last + 1);
        seal.add(&chunk);
        match store.put(chunk.first, &chunk.frames()) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    if let Some(error) = failed {
        store.shut();
        return Err(error.into());
    }
    store.take_place(&seal)?;
    Ok(Some(true))
}

/// A life that takes no windows.
struct Maintenance {
    core: JournalCore<SledStore>,
    meta: JournalMeta,
    boot: BootId,
    now: Stamp,
}

impl Maintenance {
    fn begin(dir: &Path, boot: BootId, now: Stamp) -> Result<Self, RepairError> {
        if !dir.is_dir() {
            return Err(ArchiveError::Absent(dir.to_owned()).into());
        }
        let mut store = match SledStore::open(dir) {
            Ok(store) => store,
            Err(Unusable::Locked) => return Err(RepairError::Held(dir.to_owned())),
            Err(Unusable::Store(error)) => return Err(error.into()),
        };
        let newer = NewerRecords::of(&store.newer_records());
        let previous = recovery::previous_meta(&mut store, &newer)?;
        let (gateway, site) = match &previous {
            Some(meta) => (meta.gateway.clone(), meta.site.clone()),
            None => {
                let newest = store.segments()?.into_iter().rev().find_map(|found| store.header(found.first).ok());
                let schema = newest.ok_or_else(|| RepairError::Nameless(dir.to_owned()))?.schema;
                (schema.gateway.clone(), schema.site.clone())
            }
        };
        let schema = Schema { gateway: gateway.clone(), site: site.clone(), series: Vec::new() };
        let start = recovery::start(&mut store, &schema, boot, now)?;
        // The next life of the agent asks how the last one of the agent ended, not this.
        let meta = JournalMeta { epoch: start.epoch, gateway, site, clean: previous.is_none_or(|meta| meta.clean) };
        let context = WriterContext { epoch: start.epoch, boot, schema: schema.into() };
        let limits = Limits {
            bytes_max: u64::MAX,
            free_min: 0,
            age_max: Duration::MAX,
            when_full: WhenFull::DropOldest,
            commit_interval: Duration::ZERO,
            commit_bytes: COMMIT_BYTES_MAX,
            time_wait: Duration::ZERO,
            segment_bytes: u64::MAX,
            segment_chunks: u32::MAX,
        };
        Ok(Self { core: JournalCore::new(Some(store), limits, context, start), meta, boot, now })
    }

    /// Tells what is to be told, carries it out, and ends in order.
    fn end(mut self) -> Result<SledStore, RepairError> {
        let mut tellings = 0;
        while self.core.any_untold() && tellings < TELLINGS_MAX {
            tellings += 1;
            self.core.append(Window::empty(self.boot, self.now, Duration::ZERO), Duration::ZERO);
        }
        self.core.close(None, Duration::ZERO)?;
        let mut store = self.core.into_store().ok_or_else(|| RepairError::Medium("it is gone".to_owned()))?;
        recovery::save_meta(&mut store, &self.meta)?;
        Ok(store)
    }
}
