//! What the journal needs of a medium, and what the medium may do to it.
//!
//! # The fault model
//! A power cut may come at any instant, also inside of any of the calls below. After it,
//! - what [`Store::sync`] or [`Store::finish_sync`], [`Store::seal`], [`Store::create`], [`Store::remove`] or a durable [`Store::save`] had
//!   answered `Ok` to is there, whole;
//! - of what was written and not yet synced **any part** may be there: nothing, all, some chunks and not the ones before
//!   them, a chunk with wrong bytes, half of a record;
//! - a segment that was being made ([`Store::create`], and with all that is in it [`Store::make_whole`]) is there as a
//!   whole or not at all; so is a seal; a segment that was being removed is
//!   there as it was, or gone.
//!
//! Apart from cuts, at any time: any call may answer with an error (no space, I/O); after an error in `put` or one of
//! the syncs the segment being written is unusable, and what was not synced is in doubt; a read may find a chunk changed, or may
//! silently not find it or all that follow it, because a damaged database forgets instead of complaining.
//! What the medium must not do is lie about a sync: a disk that ignores FLUSH loses acknowledged data, and nothing here
//! can help it.

use crate::health::out_of_files;
use crate::journal::disk::chunk::Chunk;
use crate::journal::disk::newer::NewerRecord;
use crate::journal::disk::record::Record;
use crate::journal::disk::segment::{Header, Seal};
use crate::measure::{Epoch, Seq};

/// A medium: segments of chunks, and a few records. Blocking; owned by one thread.
pub(in crate::journal) trait Store {
    /// Every segment that is whole, ascending; leftovers of things half made or half removed are cleared away.
    fn segments(&mut self) -> Result<Vec<Found>, StoreError>;
    /// A hint: the segment being written is full, and one with this header will be asked for. May begin to make it. Nothing
    /// of it counts before [`Store::create`], and it may be given up.
    fn prepare(&mut self, _header: &Header) {}
    /// Makes a segment, durably, and opens it for writing; named by `header.first`, which no other one has.
    fn create(&mut self, header: &Header) -> Result<(), StoreError>;
    /// Adds a chunk, as its frames, to the segment being written. Not durable yet.
    fn put(&mut self, first: Seq, frames: &[Vec<u8>]) -> Result<(), StoreError>;
    /// Begins to make durable all that was put. One at a time: what was begun before must be finished. What is put from
    /// here on may become durable with it, or not.
    fn begin_sync(&mut self) -> Result<(), StoreError>;
    /// Waits for what was begun; what was put before it began is durable then. Nothing to do if nothing was begun.
    fn finish_sync(&mut self) -> Result<(), StoreError>;
    /// Makes all that was put durable.
    fn sync(&mut self) -> Result<(), StoreError> {
        self.begin_sync()?;
        self.finish_sync()
    }
    /// Closes the segment being written, if any, without writing anything more to it; a sync that was begun is given up.
    fn shut(&mut self);
    /// Marks a segment that is not being written as complete, durably.
    fn seal(&mut self, segment: Seq, seal: &Seal) -> Result<(), StoreError>;
    /// Makes a complete segment with all its chunks and its seal, durably, beside the one being written, if any.
    fn make_whole(&mut self, header: &Header, chunks: &[Chunk], seal: &Seal) -> Result<(), StoreError>;
    /// The space that is left; `None` if it cannot be told.
    fn room(&mut self) -> Option<Room>;
    /// Bytes that a segment takes on the medium.
    fn bytes(&mut self, segment: Seq) -> u64;
    /// The header of a segment.
    fn header(&mut self, segment: Seq) -> Result<Header, StoreError>;
    /// The version and the epoch of a segment that a newer program wrote; `None`: it is of this version, or does not say.
    fn newer_segment(&mut self, _segment: Seq) -> Result<Option<(u16, Epoch)>, StoreError> {
        Ok(None)
    }
    /// The records that newer programs wrote.
    fn newer_records(&mut self) -> Vec<NewerRecord> {
        Vec::new()
    }
    /// The seal of a segment, if it has a whole one.
    fn seal_of(&mut self, segment: Seq) -> Result<Option<Seal>, StoreError>;
    /// The frames of the chunk of this segment whose first number is the highest not above `at`; if there is none, of
    /// the first chunk after. `None`: there is no chunk at all.
    fn at_or_before(&mut self, segment: Seq, at: Seq) -> Result<Option<Vec<Vec<u8>>>, StoreError>;
    /// The frames of the first chunk of this segment whose first number is above `after`.
    fn after(&mut self, segment: Seq, after: Seq) -> Result<Option<Vec<Vec<u8>>>, StoreError>;
    /// Makes durable what can be read of a segment that an earlier life was writing: after a kill it may have been written and
    /// not synced, and a power cut would still take it.
    fn secure(&mut self, segment: Seq) -> Result<(), StoreError>;
    /// From here on reads this segment from what a look at every byte of it finds, without trusting any index. Answers
    /// whether that is a change.
    fn salvage(&mut self, segment: Seq) -> Result<bool, StoreError>;
    /// Removes a segment, durably.
    fn remove(&mut self, segment: Seq) -> Result<(), StoreError>;
    /// Puts a damaged segment aside for a person to look at, in bounded space; as good as removed.
    fn quarantine(&mut self, segment: Seq) -> Result<(), StoreError>;
    /// The damaged segments that are put aside, by name.
    fn quarantined(&mut self) -> Vec<String> {
        Vec::new()
    }
    /// A record as it was last saved, and durable from here on; `None` if there is none.
    fn load(&mut self, record: Record) -> Result<Option<Vec<u8>>, StoreError>;
    /// Replaces a record. Life and times are replaced as a whole, durably; a cursor's slot is overwritten in place.
    fn save(&mut self, record: Record, bytes: &[u8], durably: Durably) -> Result<(), StoreError>;
}

/// A segment on the medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::journal) struct Found {
    pub(in crate::journal) first: Seq,
    pub(in crate::journal) bytes: u64,
    pub(in crate::journal) sealed: bool,
}

/// The space of the medium, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::journal) struct Room {
    /// What the agent could still write.
    pub(in crate::journal) free: u64,
    /// The whole file system.
    pub(in crate::journal) total: u64,
}

/// Whether a record must survive a power cut from here on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::journal) enum Durably {
    /// It must.
    Yes,
    /// A kill of the process only.
    No,
}

/// The medium did not do it. What was durable before is not touched by any of them.
#[derive(Debug, thiserror::Error)]
pub(in crate::journal) enum StoreError {
    /// The system refused. No space, no permission, a broken disk.
    #[error("{operation} {path}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The database refused, or panicked over what it found.
    #[error("{operation} in segment {segment:016x}: {problem}")]
    Database {
        /// What was tried.
        operation: &'static str,
        /// Where.
        segment: u64,
        /// In its own words.
        problem: String,
    },
    /// What is there is not what was written.
    #[error("segment {segment:016x} is damaged: {damage}")]
    Damaged {
        /// Where.
        segment: u64,
        /// How.
        #[source]
        damage: crate::journal::disk::chunk::Damage,
    },
    /// What is there is not what was written, or was written by a newer program.
    #[error("segment {segment:016x}")]
    Unreadable {
        /// Where.
        segment: u64,
        /// Why.
        #[source]
        why: super::unreadable::Unreadable,
    },
    /// The directory is not the one any more that was taken: somebody moved it away. Nothing is written to what is there now.
    #[error("{0} is not the directory any more that this agent holds")]
    Displaced(std::path::PathBuf),
    /// Something lies where a file of the journal belongs, and cannot be moved aside.
    #[error("{path} is not the file that belongs there, and it cannot be moved aside")]
    Misfit {
        /// What.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// It is not for this agent to write there.
    #[error("{what}")]
    Refused {
        /// Why.
        what: String,
        /// What to do.
        cure: &'static str,
    },
    /// No segment is being written.
    #[error("no segment is open for writing")]
    Shut,
}

impl StoreError {
    /// The system refused an operation on a path.
    pub(in crate::journal) fn io(operation: &'static str, path: &std::path::Path, source: std::io::Error) -> Self {
        Self::Io { operation, path: path.to_owned(), source }
    }

    /// With its cause.
    pub(in crate::journal) fn in_words(&self) -> String {
        std::error::Error::source(self).map_or_else(|| self.to_string(), |source| format!("{self}: {source}"))
    }

    /// With what a person can do about it.
    pub(in crate::journal) fn with_remedy(&self) -> String {
        format!("{}; {}", self.in_words(), self.remedy())
    }

    /// What a person can do about it.
    pub(in crate::journal) fn remedy(&self) -> String {
        use std::io::ErrorKind as Kind;
        let text = self.in_words();
        if let Self::Io { source, .. } = self
            && let Some(cure) = out_of_files(source)
        {
            return cure.to_owned();
        }
        let kind =
            if let Self::Io { source, .. } | Self::Misfit { source, .. } = self { Some(source.kind()) } else { None };
        let fixed = match (self, kind) {
            (_, Some(Kind::StorageFull | Kind::QuotaExceeded)) => "free space on the file system of the journal",
            (_, Some(Kind::ReadOnlyFilesystem)) => "mount the file system of the journal for writing; check the disk",
            (Self::Misfit { path, .. }, _) => return format!("stop the agent and move {} away", path.display()),
            (Self::Refused { cure, .. }, _) => cure,
            (Self::Displaced(path), _) => {
                let path = path.display();
                return format!(
                    "move the directory back to {path}, or restart the agent to go on in the one that is there"
                );
            }
            (Self::Io { path, .. }, Some(Kind::PermissionDenied)) => {
                let path = path.display();
                return format!(
                    "give the agent's user the right to write in the journal's directory (chown, chmod 700): {path}"
                );
            }
            (Self::Io { path, .. }, Some(Kind::NotADirectory | Kind::AlreadyExists)) => {
                let path = path.display();
                return format!(
                    "a file lies where the directory {path}, or one above it, belongs: move that file away"
                );
            }
            (Self::Io { path, .. }, Some(Kind::IsADirectory)) => {
                return format!("a directory lies where the file {} belongs: move it away", path.display());
            }
            (Self::Io { path, .. }, Some(Kind::InvalidInput)) => {
                return format!("a pipe or a device lies where the file {} belongs: move it away", path.display());
            }
            (Self::Io { path, .. }, Some(Kind::NotFound)) => {
                let path = path.display();
                return format!("make the directory above {path}, or mount the file system that it is on");
            }
            // As sled tells it.
            _ if text.contains("Too many open files") => {
                "let the agent open more files: LimitNOFILE= in its unit (systemctl edit v2g-edge), or ulimit -n"
            }
            _ if text.contains("No space left") => "free space on the file system of the journal",
            _ => "check the disk (dmesg, smartctl) and the file system of the journal",
        };
        fixed.to_owned()
    }
}
