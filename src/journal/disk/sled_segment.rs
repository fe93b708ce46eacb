//! One segment of the firmware's medium while it is written: a small sled database, from its making to its close.
//!
//! sled's own `flush` ends in `sync_file_range`, which survives no power cut: its file is synced by us. Damage makes it
//! panic; no panic of it leaves this file.

use std::fs::{self, File, OpenOptions};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread::{Builder, JoinHandle};

use crate::journal::disk::chunk::Damage;
use crate::journal::disk::files;
use crate::journal::disk::segment::Header;
use crate::journal::disk::store::StoreError;
use crate::measure::Seq;

/// sled moves a page once it has ten pieces, which would write everything twice (measured: 3.9 bytes per byte instead of
/// 1.07): no tree ever gets a tenth key.
const TREE_KEYS_MAX: usize = 9;
/// sled's own unit of writing. A value above a quarter of it would become a file that is never synced; frames stay
/// below 60 KB. Each open database holds two or three buffers of this size, and fills one after the other.
pub const BUFFER_BYTES: usize = 512 * 1024;
/// How sled aligns them.
pub const BUFFER_ALIGN: usize = 8192;
/// sled's page cache; nothing is read twice.
const SLED_CACHE_BYTES: u64 = 256 * 1024;
/// The tree with the copies of the header begins with this; the others are named by 8 bytes.
const HEADER_TREE: &str = "header-";

/// A segment being written.
#[derive(Debug)]
pub(in crate::journal) struct Writing {
    pub(in crate::journal) first: Seq,
    path: PathBuf,
    /// The header's frames, until they are taken.
    mark: Vec<u8>,
    sled: sled::Db,
    /// The first numbers of its trees, ascending.
    trees: Vec<u64>,
    /// The last of them, and how many keys it has.
    tree: Option<sled::Tree>,
    keys: usize,
    /// Our own handle of sled's file: syncing it is what makes an entry durable.
    file: File,
    /// The sync that was begun, on a thread of its own.
    syncing: Option<JoinHandle<Result<(), StoreError>>>,
}

impl Writing {
    /// Makes a directory with a database in it, and in that a copy of the header, which becomes durable with the first
    /// chunks. It does not count yet: that is for whoever puts the mark into it. sled's `conf` is never read again.
    pub(in crate::journal) fn lay(path: &Path, header: &Header) -> Result<Self, StoreError> {
        let (first, failed) = (header.first, |operation| move |source| StoreError::io(operation, path, source));
        let damage = StoreError::Damaged { segment: first.0, damage: Damage::Content };
        let frames = header.to_chunk().ok_or(damage)?.frames();
        files::make_dir(path).map_err(failed("make"))?;
        let config = sled::Config::new()
            .path(path)
            .segment_size(BUFFER_BYTES)
            .cache_capacity(SLED_CACHE_BYTES)
            .flush_every_ms(None)
            .use_compression(false);
        let sled = contained("open", first, || config.open())?;
        contained("write header", first, || {
            for (group, frames) in frames.chunks(TREE_KEYS_MAX).enumerate() {
                let tree = sled.open_tree(format!("{HEADER_TREE}{group:02}"))?;
                for (part, frame) in (0_u8..).zip(frames) {
                    tree.insert(key(first, part), frame.as_slice())?;
                }
            }
            Ok(())
        })?;
        let file = OpenOptions::new().read(true).write(true).open(path.join("db")).map_err(failed("open"))?;
        // sled makes its files for everybody to read; in this directory nobody can, and they say so themselves.
        files::make_content_private(path).map_err(failed("close to others"))?;
        files::sync_dir(path).map_err(failed("sync"))?;
        let (path, mark, trees) = (path.to_owned(), frames.concat(), Vec::new());
        Ok(Self { first, path, mark, sled, trees, tree: None, keys: 0, file, syncing: None })
    }

    /// What is to be written beside it to make it count.
    pub(in crate::journal) fn take_mark(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.mark)
    }

    /// Adds a chunk, as its frames.
    pub(in crate::journal) fn put(&mut self, first: Seq, frames: &[Vec<u8>]) -> Result<(), StoreError> {
        let Self { first: segment, sled, trees, tree, keys, .. } = self;
        contained("write", *segment, || {
            if tree.is_none() || *keys + frames.len() > TREE_KEYS_MAX {
                *tree = Some(sled.open_tree(first.0.to_be_bytes())?);
                *keys = 0;
                trees.push(first.0);
            }
            if let Some(tree) = tree {
                for (part, frame) in (0_u8..).zip(frames) {
                    tree.insert(key(first, part), frame.as_slice())?;
                    *keys += 1;
                }
            }
            Ok(())
        })
    }

    /// Begins to make durable what was put, on a thread.
    pub(in crate::journal) fn begin_sync(&mut self) -> Result<(), StoreError> {
        let (sled, segment, path) = (self.sled.clone(), self.first, self.path.clone());
        let file = self.file.try_clone().map_err(|source| StoreError::io("sync", &path, source))?;
        match Builder::new().name("journal-sync".to_owned()).spawn(move || sync(&sled, &file, segment, &path)) {
            Ok(begun) => self.syncing = Some(begun),
            // The system has no thread to spare: then now.
            Err(_) => return self.sync(),
        }
        Ok(())
    }

    /// Waits for what was begun.
    pub(in crate::journal) fn finish_sync(&mut self) -> Result<(), StoreError> {
        let Some(begun) = self.syncing.take() else { return Ok(()) };
        let problem = || "the thread that syncs panicked".to_owned();
        begun.join().map_err(|_| StoreError::Database {
            operation: "sync",
            segment: self.first.0,
            problem: problem(),
        })?
    }

    /// Makes durable what was put, without a thread: nobody has anything else to do meanwhile.
    pub(in crate::journal) fn sync(&mut self) -> Result<(), StoreError> {
        self.finish_sync()?;
        sync(&self.sled, &self.file, self.first, &self.path)
    }

    /// Closes the database; what it does not do any more was synced before, or is in doubt.
    pub(in crate::journal) fn close(mut self) {
        let segment = self.first;
        // The thread holds the database, too.
        let _ = self.syncing.take().map(JoinHandle::join);
        let _ = contained("close", segment, || {
            drop(self);
            Ok(())
        });
    }

    /// The frames of the chunk whose first number is the highest not above `at`; else of the first one after.
    pub(in crate::journal) fn at_or_before(&self, at: Seq) -> Result<Option<Vec<Vec<u8>>>, StoreError> {
        contained("read", self.first, || self.find_at_or_before(at))
    }

    /// The frames of the first chunk whose first number is above `after`.
    pub(in crate::journal) fn after(&self, after: Seq) -> Result<Option<Vec<Vec<u8>>>, StoreError> {
        contained("read", self.first, || {
            let Some(tree) = self.tree_of(after)? else { return Ok(None) };
            if let Some((key, _)) = tree.range(key(after.next(), 0)..).next().transpose()? {
                return parts(&tree, &key).map(Some);
            }
            let next = self.trees.partition_point(|&first| first <= after.0);
            let Some(first) = self.trees.get(next) else { return Ok(None) };
            self.find_at_or_before(Seq(*first))
        })
    }

    fn find_at_or_before(&self, at: Seq) -> sled::Result<Option<Vec<Vec<u8>>>> {
        let Some(tree) = self.tree_of(at)? else { return Ok(None) };
        let before = tree.range(..=key(at, u8::MAX)).next_back();
        let found = before.or_else(|| tree.iter().next()).transpose()?;
        found.map(|(key, _)| parts(&tree, &key)).transpose()
    }

    fn tree_of(&self, number: Seq) -> sled::Result<Option<sled::Tree>> {
        let place = self.trees.partition_point(|&first| first <= number.0).saturating_sub(1);
        self.trees.get(place).map(|first| self.sled.open_tree(first.to_be_bytes())).transpose()
    }
}

/// A segment that is laid on a thread, because the one being written is full and somebody will ask for it.
#[derive(Debug)]
pub(in crate::journal) struct Laying {
    header: Header,
    path: PathBuf,
    thread: JoinHandle<Result<Writing, StoreError>>,
}

impl Laying {
    /// Begins it; `None` if the system has no thread to spare, or if something lies there.
    pub(in crate::journal) fn begin(path: PathBuf, header: &Header) -> Option<Self> {
        if path.exists() {
            return None;
        }
        let laid = {
            let (path, header) = (path.clone(), header.clone());
            move || Writing::lay(&path, &header)
        };
        let thread = Builder::new().name("journal-next".to_owned()).spawn(laid).ok()?;
        Some(Self { header: header.clone(), path, thread })
    }

    /// Waits for it. What is not as wanted, or could not be made, is removed; `None`: nobody wants it any more.
    pub(in crate::journal) fn take(self, wanted: Option<&Header>) -> Option<Writing> {
        match self.thread.join().ok().and_then(Result::ok) {
            Some(laid) if wanted == Some(&self.header) => return Some(laid),
            Some(unwanted) => unwanted.close(),
            None => {}
        }
        // What cannot be removed now has no mark, and is removed before the next try or at the next start.
        let _ = fs::remove_dir_all(&self.path);
        None
    }
}

fn sync(sled: &sled::Db, file: &File, segment: Seq, path: &Path) -> Result<(), StoreError> {
    contained("flush", segment, || sled.flush().map(drop))?;
    file.sync_data().map_err(|source| StoreError::io("sync", &path.join("db"), source))
}

/// All frames of the chunk that `key` belongs to.
fn parts(tree: &sled::Tree, key: &[u8]) -> sled::Result<Vec<Vec<u8>>> {
    let first = &key[..key.len().min(8)];
    tree.scan_prefix(first).map(|part| part.map(|(_, frame)| frame.to_vec())).collect()
}

/// First number, big-endian so that order is order, and part.
fn key(first: Seq, part: u8) -> [u8; 9] {
    let mut key = [part; 9];
    key[..8].copy_from_slice(&first.0.to_be_bytes());
    key
}

/// Calls sled, which answers damage with an error or with a panic.
fn contained<T>(
    operation: &'static str,
    segment: Seq,
    call: impl FnOnce() -> sled::Result<T>,
) -> Result<T, StoreError> {
    // What a panic leaves behind is a database that we close and do not trust any more: nothing of ours is half done.
    let problem = match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => error.to_string(),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("for unknown reasons");
            format!("sled panicked: {text}")
        }
    };
    Err(StoreError::Database { operation, segment: segment.0, problem })
}
