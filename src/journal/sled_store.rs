//! The medium of the firmware: a ring of small sled databases, written once each.
//!
//! sled 0.34.7 is a good log and a poor archive: one that grows bloats, its `flush` ends in `sync_file_range` and not in
//! `fsync`, and damage makes it panic, forget, or write zeros over what is intact. So each database here is small, is
//! never opened twice and has nothing deleted in it; we sync its file ourselves; values carry their own CRC and place in
//! the sequence; and once it is closed they are read from its file without it (`scan`).

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use super::chunk::{self, Chunk, Damage};
use super::files;
use super::scan::Scan;
use super::segment::{Header, Seal};
use super::store::{Durably, Found, Record, Room, Store, StoreError};
use crate::measure::Seq;

/// sled moves a page once it has ten pieces, which would write everything twice (measured: 3.9 bytes per byte instead of
/// 1.07): no tree ever gets a tenth key.
const TREE_KEYS_MAX: usize = 9;
/// sled's own unit of writing. A value above a quarter of it would become a file that is never synced; frames stay
/// below 60 KB. Each open database holds two or three buffers of this size.
const SLED_SEGMENT_BYTES: usize = 512 * 1024;
/// sled's page cache; nothing is read twice.
const SLED_CACHE_BYTES: u64 = 256 * 1024;
/// Damaged segments that are kept for a person to look at: the newest.
const QUARANTINED_MAX: usize = 2;
/// Who only looks whether an agent runs holds the lock for an instant (see `archive`): a start outlasts that.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// Where damaged segments are put.
pub(super) const QUARANTINE: &str = "quarantine";
/// The ending of a segment that is written anew, until it takes the place of the damaged one.
const AGAIN: &str = "again";
/// Small files and directories of a segment on a file system with blocks of 4 KiB: conf, ready, seal, blobs/, itself.
const SEGMENT_OVERHEAD_BYTES: u64 = 20 * 1024;
/// The tree with the copies of the header begins with this; the others are named by 8 bytes.
const HEADER_TREE: &str = "header-";

/// The directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unusable {
    /// Another agent has it.
    #[error("the directory is in use")]
    Locked,
    /// The system refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Segments under one directory, which it holds alone.
#[derive(Debug)]
pub(super) struct SledStore {
    dir: PathBuf,
    /// Held until the store goes.
    _lock: File,
    active: Option<Active>,
    /// The complete segment that was read last, and where its chunks lie.
    reading: Option<(u64, Scan)>,
    /// Segments that were looked through once more because something was missing.
    salvaged: BTreeSet<u64>,
}

/// The segment being written.
#[derive(Debug)]
struct Active {
    first: u64,
    database: Database,
    tree: Option<sled::Tree>,
    keys: usize,
    /// Our own handle of sled's file: syncing it is what makes an entry durable.
    file: File,
    /// The sync that was begun, on a thread of its own.
    syncing: Option<JoinHandle<Result<(), StoreError>>>,
}

/// An open database and the first numbers of its trees, ascending.
#[derive(Debug)]
struct Database {
    sled: sled::Db,
    trees: Vec<u64>,
}

impl SledStore {
    /// Takes a directory; made if it is not there.
    pub(super) fn open(dir: &Path) -> Result<Self, Unusable> {
        let failed = |operation| move |source| io_error(operation, dir, source);
        if !dir.is_dir() {
            fs::create_dir_all(dir).map_err(failed("make"))?;
            files::sync_parent(dir).map_err(failed("sync"))?;
        }
        let path = dir.join("lock");
        let open = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let lock = open.map_err(|source| io_error("open", &path, source))?;
        for tries_left in (0..LOCK_TRIES).rev() {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if tries_left > 0 => std::thread::park_timeout(LOCK_PAUSE),
                Err(TryLockError::WouldBlock) => return Err(Unusable::Locked),
                Err(TryLockError::Error(source)) => return Err(io_error("lock", &path, source).into()),
            }
        }
        let salvaged = BTreeSet::new();
        Ok(Self { dir: dir.to_owned(), _lock: lock, active: None, reading: None, salvaged })
    }

    fn path(&self, segment: Seq) -> PathBuf {
        self.dir.join(format!("{:016x}", segment.0))
    }

    fn record_path(&self, record: Record) -> PathBuf {
        self.dir.join(match record {
            Record::Life => "life",
            Record::CursorA => "cursor-a",
            Record::CursorB => "cursor-b",
            Record::Times => "times",
        })
    }

    /// Makes a segment, and opens it for writing unless it is complete with its `content`. What lies in sled's file now is
    /// only a second copy of the header: it becomes durable with the first chunks. `conf` is never read again.
    fn make(&mut self, header: &Header, path: &Path, content: Option<(&[Chunk], &Seal)>) -> Result<(), StoreError> {
        let segment = header.first;
        let failed = |operation| move |source| io_error(operation, path, source);
        let damage = |damage| StoreError::Damaged { segment: segment.0, damage };
        let frames = header.to_chunk().ok_or(damage(Damage::Content))?.frames();
        fs::create_dir(path).map_err(failed("make"))?;
        let database = Database::open(path, segment)?;
        contained("write header", segment, || {
            for (group, frames) in frames.chunks(TREE_KEYS_MAX).enumerate() {
                let tree = database.sled.open_tree(format!("{HEADER_TREE}{group:02}"))?;
                for (part, frame) in (0_u8..).zip(frames) {
                    tree.insert(key(segment, part), frame.as_slice())?;
                }
            }
            Ok(())
        })?;
        let file = OpenOptions::new().read(true).write(true).open(path.join("db")).map_err(failed("open"))?;
        let mut active = Active { first: segment.0, database, tree: None, keys: 0, file, syncing: None };
        if let Some((chunks, seal)) = content {
            for chunk in chunks {
                active.put(chunk.first, &chunk.frames())?;
            }
            contained("flush", segment, || active.database.sled.flush().map(drop))?;
            let seal = seal.write().ok_or(damage(Damage::Content))?;
            files::replace(&path.join("seal"), &seal).map_err(failed("write"))?;
            active.file.sync_all().map_err(failed("sync"))?;
        }
        files::sync_dir(path).map_err(failed("sync"))?;
        // From here on it counts.
        files::replace(&path.join("ready"), &frames.concat()).map_err(failed("mark"))?;
        files::sync_dir(&self.dir).map_err(failed("sync"))?;
        if content.is_none() {
            self.active = Some(active);
        } else {
            close(active);
        }
        Ok(())
    }

    /// Makes a segment; what is left of one that fails has no `ready`, or nothing in it.
    fn make_anew(&mut self, header: &Header, content: Option<(&[Chunk], &Seal)>) -> Result<(), StoreError> {
        let path = self.path(header.first);
        // A try before may have failed half way.
        if path.exists() && !path.join("ready").exists() {
            fs::remove_dir_all(&path).map_err(|source| io_error("remove", &path, source))?;
        }
        self.make(header, &path, content).inspect_err(|_| {
            // The next try or the next start removes what this cannot.
            let _ = fs::remove_dir_all(&path);
        })
    }

    /// Complete segments are read without sled: at the slightest damage it takes what follows for garbage and writes zeros
    /// over it, or panics, or silently forgets. All that it would answer lies in whole frames in its file.
    fn read(
        &mut self,
        segment: Seq,
        from_database: impl FnOnce(&Database) -> sled::Result<Option<Vec<Vec<u8>>>>,
        from_scan: impl FnOnce(&Scan) -> io::Result<Option<Vec<Vec<u8>>>>,
    ) -> Result<Option<Vec<Vec<u8>>>, StoreError> {
        if let Some(active) = &self.active
            && active.first == segment.0
        {
            return contained("read", segment, || from_database(&active.database));
        }
        let path = self.path(segment);
        let known = self.reading.take().filter(|(first, _)| *first == segment.0);
        let (_, scan) = match known {
            Some(known) => self.reading.insert(known),
            None => {
                let scan = Scan::of(&path.join("db")).map_err(|source| io_error("scan", &path, source))?;
                self.reading.insert((segment.0, scan))
            }
        };
        from_scan(scan).map_err(|source| io_error("read", &path, source))
    }

    /// Begins a segment anew, beside the damaged one of the same name: what is put goes into it.
    pub(super) fn begin_again(&mut self, header: &Header) -> Result<(), StoreError> {
        let path = self.path(header.first).with_extension(AGAIN);
        if path.exists() {
            fs::remove_dir_all(&path).map_err(|source| io_error("remove", &path, source))?;
        }
        self.make(header, &path, None)
    }

    /// The segment that was begun anew is complete: it takes the place of the damaged one, which is put aside.
    pub(super) fn take_place(&mut self, seal: &Seal) -> Result<(), StoreError> {
        let (first, failed) = (Seq(seal.first), |path: &Path, source| io_error("replace", path, source));
        self.sync()?;
        self.shut();
        let path = self.path(first);
        let again = path.with_extension(AGAIN);
        let bytes = seal.write().ok_or(StoreError::Damaged { segment: seal.first, damage: Damage::Content })?;
        files::replace(&again.join("seal"), &bytes).map_err(|source| failed(&again, source))?;
        // A cut between the two: the next start finds a complete segment without a place, and gives it its own.
        self.quarantine(first)?;
        fs::rename(&again, &path).map_err(|source| failed(&path, source))?;
        files::sync_dir(&self.dir).map_err(|source| failed(&path, source))
    }

    fn close_reading(&mut self, segment: Seq) {
        self.reading.take_if(|(first, _)| *first == segment.0);
    }
}

impl Store for SledStore {
    fn segments(&mut self) -> Result<Vec<Found>, StoreError> {
        let failed = |operation| move |path: &Path, source| io_error(operation, path, source);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(|source| failed("list")(&self.dir, source))? {
            let path = entry.map_err(|source| failed("list")(&self.dir, source))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if name.ends_with(".del") {
                fs::remove_dir_all(&path).map_err(|source| failed("remove")(&path, source))?;
            }
            let name = match name.strip_suffix(AGAIN).and_then(|name| name.strip_suffix('.')) {
                // The damaged one was put aside, and then came a cut.
                Some(first) if path.join("seal").exists() && !self.dir.join(first).exists() => {
                    fs::rename(&path, self.dir.join(first)).map_err(|source| failed("rename")(&path, source))?;
                    files::sync_dir(&self.dir).map_err(|source| failed("sync")(&path, source))?;
                    first
                }
                Some(_) => {
                    fs::remove_dir_all(&path).map_err(|source| failed("remove")(&path, source))?;
                    continue;
                }
                None => name,
            };
            let path = self.dir.join(name);
            let Some(first) = (name.len() == 16).then(|| u64::from_str_radix(name, 16).ok()).flatten() else {
                continue;
            };
            if path.join("ready").exists() {
                let first = Seq(first);
                found.push(Found { first, bytes: self.bytes(first), sealed: path.join("seal").exists() });
            } else {
                tracing::warn!(path = %path.display(), "a segment that was never finished is removed; nothing was in it");
                fs::remove_dir_all(&path).map_err(|source| failed("remove")(&path, source))?;
            }
        }
        found.sort_by_key(|found| found.first);
        Ok(found)
    }

    fn create(&mut self, header: &Header) -> Result<(), StoreError> {
        self.make_anew(header, None)
    }

    fn make_whole(&mut self, header: &Header, chunks: &[Chunk], seal: &Seal) -> Result<(), StoreError> {
        self.make_anew(header, Some((chunks, seal)))
    }

    fn room(&mut self) -> Option<Room> {
        let space = rustix::fs::statvfs(&self.dir).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(space.f_frsize);
        Some(Room { free: bytes(space.f_bavail), total: bytes(space.f_blocks) })
    }

    fn put(&mut self, first: Seq, frames: &[Vec<u8>]) -> Result<(), StoreError> {
        self.active.as_mut().ok_or(StoreError::Shut)?.put(first, frames)
    }

    fn begin_sync(&mut self) -> Result<(), StoreError> {
        let active = self.active.as_mut().ok_or(StoreError::Shut)?;
        let (segment, database) = (Seq(active.first), active.database.sled.clone());
        let path = self.dir.join(format!("{:016x}", active.first)).join("db");
        let file = active.file.try_clone().map_err(|source| io_error("sync", &path, source))?;
        let thread = std::thread::Builder::new().name("journal-sync".to_owned());
        match thread.spawn(move || sync(&database, &file, segment, &path)) {
            Ok(begun) => active.syncing = Some(begun),
            // The system has no thread to spare: then now.
            Err(_) => return self.sync(),
        }
        Ok(())
    }

    fn finish_sync(&mut self) -> Result<(), StoreError> {
        let Some(active) = self.active.as_mut() else { return Ok(()) };
        let Some(begun) = active.syncing.take() else { return Ok(()) };
        let problem = || "the thread that syncs panicked".to_owned();
        let panicked = |_| StoreError::Database { operation: "sync", segment: active.first, problem: problem() };
        begun.join().map_err(panicked)?
    }

    /// Without a thread: nobody has anything else to do meanwhile.
    fn sync(&mut self) -> Result<(), StoreError> {
        self.finish_sync()?;
        let active = self.active.as_ref().ok_or(StoreError::Shut)?;
        let segment = Seq(active.first);
        sync(&active.database.sled, &active.file, segment, &self.path(segment).join("db"))
    }

    fn shut(&mut self) {
        self.active.take().into_iter().for_each(close);
    }

    fn seal(&mut self, segment: Seq, seal: &Seal) -> Result<(), StoreError> {
        let path = self.path(segment).join("seal");
        let damage = StoreError::Damaged { segment: segment.0, damage: Damage::Content };
        let bytes = seal.write().ok_or(damage)?;
        files::replace(&path, &bytes).map_err(|source| io_error("write", &path, source))
    }

    fn bytes(&mut self, segment: Seq) -> u64 {
        segment_bytes(&self.path(segment))
    }

    fn header(&mut self, segment: Seq) -> Result<Header, StoreError> {
        let path = self.path(segment);
        let ready = fs::read(path.join("ready")).map_err(|source| io_error("read", &path, source));
        let read = |frames: &[Vec<u8>]| Chunk::join(frames).and_then(|chunk| Header::from_chunk(&chunk));
        if let Ok(header) = ready.map(|ready| read(&chunk::split(&ready))).unwrap_or(Err(Damage::Torn)) {
            return Ok(header);
        }
        let copy = Scan::of(&path.join("db")).and_then(|scan| scan.header());
        let copy = copy.map_err(|source| io_error("scan", &path, source))?;
        read(&copy).map_err(|damage| StoreError::Damaged { segment: segment.0, damage })
    }

    fn seal_of(&mut self, segment: Seq) -> Result<Option<Seal>, StoreError> {
        let path = self.path(segment).join("seal");
        let bytes = files::read(&path).map_err(|source| io_error("read", &path, source))?;
        Ok(bytes.as_deref().and_then(Seal::read))
    }

    fn at_or_before(&mut self, segment: Seq, at: Seq) -> Result<Option<Vec<Vec<u8>>>, StoreError> {
        self.read(segment, |database| database.at_or_before(at), |scan| scan.at_or_before(at.0))
    }

    fn after(&mut self, segment: Seq, after: Seq) -> Result<Option<Vec<Vec<u8>>>, StoreError> {
        self.read(segment, |database| database.after(after), |scan| scan.after(after.0))
    }

    fn secure(&mut self, segment: Seq) -> Result<(), StoreError> {
        let path = self.path(segment).join("db");
        match File::open(&path).and_then(|file| file.sync_data()) {
            // Nothing can be read of it either.
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(()),
            synced => synced.map_err(|source| io_error("sync", &path, source)),
        }
    }

    fn salvage(&mut self, segment: Seq) -> Result<bool, StoreError> {
        self.close_reading(segment);
        Ok(self.salvaged.insert(segment.0))
    }

    fn remove(&mut self, segment: Seq) -> Result<(), StoreError> {
        self.close_reading(segment);
        let path = self.path(segment);
        let going = path.with_extension("del");
        fs::rename(&path, &going).map_err(|source| io_error("rename", &path, source))?;
        files::sync_dir(&self.dir).map_err(|source| io_error("sync", &self.dir, source))?;
        self.salvaged.remove(&segment.0);
        // It no longer counts; what cannot be removed now is removed at the next start.
        let _ = fs::remove_dir_all(&going);
        Ok(())
    }

    fn quarantine(&mut self, segment: Seq) -> Result<(), StoreError> {
        self.close_reading(segment);
        let (path, dir) = (self.path(segment), self.dir.join(QUARANTINE));
        let failed = |source| io_error("put aside", &path, source);
        fs::create_dir_all(&dir).map_err(failed)?;
        let mut held: Vec<PathBuf> = fs::read_dir(&dir).map_err(failed)?.filter_map(|e| Some(e.ok()?.path())).collect();
        held.sort();
        for old in held.iter().take((held.len() + 1).saturating_sub(QUARANTINED_MAX)) {
            let _ = fs::remove_dir_all(old);
        }
        let to = dir.join(format!("{:016x}", segment.0));
        if to.exists() {
            fs::remove_dir_all(&to).map_err(failed)?;
        }
        fs::rename(&path, &to).map_err(failed)?;
        files::sync_dir(&dir).and_then(|()| files::sync_dir(&self.dir)).map_err(failed)?;
        tracing::warn!(path = %to.display(), "a damaged segment is put aside; what is intact was read from it");
        self.salvaged.remove(&segment.0);
        Ok(())
    }

    fn quarantined(&mut self) -> Vec<String> {
        files::names(&self.dir.join(QUARANTINE))
    }

    fn load(&mut self, record: Record) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.record_path(record);
        let failed = |source| io_error("read", &path, source);
        let bytes = files::read(&path).map_err(failed)?;
        if bytes.is_some() {
            File::open(&path).and_then(|file| file.sync_data()).map_err(failed)?;
        }
        Ok(bytes)
    }

    fn save(&mut self, record: Record, bytes: &[u8], durably: Durably) -> Result<(), StoreError> {
        let path = self.record_path(record);
        let saved = match record {
            Record::Life | Record::Times => files::replace(&path, bytes),
            Record::CursorA | Record::CursorB => files::overwrite(&path, bytes, durably == Durably::Yes),
        };
        saved.map_err(|source| io_error("write", &path, source))
    }
}

impl Active {
    fn put(&mut self, first: Seq, frames: &[Vec<u8>]) -> Result<(), StoreError> {
        let Self { first: segment, database, tree, keys, file: _, syncing: _ } = self;
        contained("write", Seq(*segment), || {
            if tree.is_none() || *keys + frames.len() > TREE_KEYS_MAX {
                *tree = Some(database.sled.open_tree(first.0.to_be_bytes())?);
                *keys = 0;
                database.trees.push(first.0);
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
}

/// sled's flush ends in sync_file_range, which survives no power cut: its file is synced by us.
fn sync(database: &sled::Db, file: &File, segment: Seq, path: &Path) -> Result<(), StoreError> {
    contained("flush", segment, || database.flush().map(drop))?;
    file.sync_data().map_err(|source| io_error("sync", path, source))
}

/// Closes a database that is written; what it does not do any more was synced before, or is in doubt.
fn close(mut active: Active) {
    let segment = Seq(active.first);
    // The thread holds the database, too.
    let _ = active.syncing.take().map(JoinHandle::join);
    let _ = contained("close", segment, || {
        drop(active);
        Ok(())
    });
}

/// Bytes that a segment takes on the medium.
pub(super) fn segment_bytes(path: &Path) -> u64 {
    files::taken(&path.join("db")) + SEGMENT_OVERHEAD_BYTES
}

impl Database {
    fn open(path: &Path, segment: Seq) -> Result<Self, StoreError> {
        let config = sled::Config::new()
            .path(path)
            .segment_size(SLED_SEGMENT_BYTES)
            .cache_capacity(SLED_CACHE_BYTES)
            .flush_every_ms(None)
            .use_compression(false);
        let sled = contained("open", segment, || config.open())?;
        let mut trees: Vec<u64> =
            sled.tree_names().iter().filter_map(|name| name.as_ref().try_into().ok().map(u64::from_be_bytes)).collect();
        trees.sort_unstable();
        Ok(Self { sled, trees })
    }

    fn at_or_before(&self, at: Seq) -> sled::Result<Option<Vec<Vec<u8>>>> {
        let Some(tree) = self.tree_of(at)? else { return Ok(None) };
        let before = tree.range(..=key(at, u8::MAX)).next_back();
        let found = before.or_else(|| tree.iter().next()).transpose()?;
        found.map(|(key, _)| parts(&tree, &key)).transpose()
    }

    fn after(&self, after: Seq) -> sled::Result<Option<Vec<Vec<u8>>>> {
        let Some(tree) = self.tree_of(after)? else { return Ok(None) };
        if let Some((key, _)) = tree.range(key(after.next(), 0)..).next().transpose()? {
            return parts(&tree, &key).map(Some);
        }
        let next = self.trees.partition_point(|&first| first <= after.0);
        let Some(first) = self.trees.get(next) else { return Ok(None) };
        self.at_or_before(Seq(*first))
    }

    fn tree_of(&self, number: Seq) -> sled::Result<Option<sled::Tree>> {
        let place = self.trees.partition_point(|&first| first <= number.0).saturating_sub(1);
        self.trees.get(place).map(|first| self.sled.open_tree(first.to_be_bytes())).transpose()
    }
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

fn io_error(operation: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::Io { operation, path: path.to_owned(), source }
}
