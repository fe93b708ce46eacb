//! The medium of the firmware: a ring of small sled databases, written once each.
//!
//! sled 0.34.7 is a good log and a poor archive: one that grows bloats, its `flush` is no `fsync`, and damage makes it
//! panic, forget, or write zeros over what is intact. So each database here is small, is never opened twice and has
//! nothing deleted in it (`sled_segment`); values carry their own CRC and place in the sequence; and once it is closed
//! they are read from its file without it (`scan`).

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::journal::disk::chunk::{self, Chunk, Damage};
use crate::journal::disk::files;
use crate::journal::disk::newer::{self, NewerRecord, OwnNames};
use crate::journal::disk::record::Record;
use crate::journal::disk::scan::Scan;
use crate::journal::disk::segment::{Header, Seal};
use crate::journal::disk::sled_segment::{Laying, Writing};
use crate::journal::disk::store::{Durably, Found, Room, Store, StoreError};
use crate::measure::{Epoch, Seq};

/// Damaged segments that are kept for a person to look at: the newest.
const QUARANTINED_MAX: usize = 2;
/// Who only looks whether an agent runs holds the lock for an instant (see `archive`): a start outlasts that.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// Where damaged segments are put.
pub(in crate::journal) const QUARANTINE: &str = "quarantine";
/// The ending of a segment that is written anew, until it takes the place of the damaged one.
const AGAIN: &str = "again";
/// Small files and directories of a segment on a file system with blocks of 4 KiB: conf, ready, seal, blobs/, itself.
const SEGMENT_OVERHEAD_BYTES: u64 = 20 * 1024;

/// The directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(in crate::journal) enum Unusable {
    /// Another agent has it.
    #[error("the directory is in use")]
    Locked,
    /// The system refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Segments under one directory, which it holds alone.
#[derive(Debug)]
pub(in crate::journal) struct SledStore {
    dir: PathBuf,
    /// Held until the store goes.
    _lock: File,
    /// The segment being written.
    writing: Option<Writing>,
    /// The one that comes after it.
    next: Option<Laying>,
    /// The complete segment that was read last, and where its chunks lie.
    reading: Option<(u64, Scan)>,
    /// Segments that were looked through once more because something was missing.
    salvaged: BTreeSet<u64>,
    names: OwnNames,
}

impl SledStore {
    /// Takes a directory; made if it is not there.
    pub(in crate::journal) fn open(dir: &Path) -> Result<Self, Unusable> {
        let failed = |operation| move |source| StoreError::io(operation, dir, source);
        if !dir.is_dir() {
            fs::create_dir_all(dir).map_err(failed("make"))?;
            files::sync_parent(dir).map_err(failed("sync"))?;
        }
        let path = dir.join("lock");
        let open = OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let lock = open.map_err(|source| StoreError::io("open", &path, source))?;
        for tries_left in (0..LOCK_TRIES).rev() {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if tries_left > 0 => std::thread::park_timeout(LOCK_PAUSE),
                Err(TryLockError::WouldBlock) => return Err(Unusable::Locked),
                Err(TryLockError::Error(source)) => return Err(StoreError::io("lock", &path, source).into()),
            }
        }
        let (salvaged, names) = (BTreeSet::new(), OwnNames::beside(&newer::records(dir)));
        Ok(Self { dir: dir.to_owned(), _lock: lock, writing: None, next: None, reading: None, salvaged, names })
    }

    fn path(&self, segment: Seq) -> PathBuf {
        self.dir.join(format!("{:016x}", segment.0))
    }

    fn record_path(&self, record: Record) -> PathBuf {
        self.dir.join(self.names.of(record))
    }

    /// Makes what was laid count; answers it if it is not complete with its `content`.
    fn complete(
        &self,
        mut laid: Writing,
        path: &Path,
        content: Option<(&[Chunk], &Seal)>,
    ) -> Result<Option<Writing>, StoreError> {
        if let Some((chunks, seal)) = content {
            for chunk in chunks {
                laid.put(chunk.first, &chunk.frames())?;
            }
            laid.sync()?;
            let damage = StoreError::Damaged { segment: laid.first.0, damage: Damage::Content };
            let sealed = files::replace(&path.join("seal"), &seal.write().ok_or(damage)?);
            sealed.and_then(|()| files::sync_dir(path)).map_err(|source| StoreError::io("write", path, source))?;
        }
        let marked = files::replace(&path.join("ready"), &laid.take_mark());
        let marked = marked.and_then(|()| files::sync_dir(&self.dir));
        marked.map_err(|source| StoreError::io("mark", path, source))?;
        if content.is_none() {
            return Ok(Some(laid));
        }
        laid.close();
        Ok(None)
    }

    /// Makes a segment, of the one that was laid for it if there is one; what is left of one that fails has no `ready`, or
    /// nothing in it.
    fn make_anew(
        &mut self,
        header: &Header,
        content: Option<(&[Chunk], &Seal)>,
    ) -> Result<Option<Writing>, StoreError> {
        let path = self.path(header.first);
        // One that was laid for another header may have the same name; it is gone after this.
        let laid = match self.next.take().and_then(|next| next.take(Some(header))) {
            Some(laid) => Ok(laid),
            None => lay_anew(&path, header),
        };
        laid.and_then(|laid| self.complete(laid, &path, content)).inspect_err(|_| {
            // The next try or the next start removes what this cannot.
            let _ = fs::remove_dir_all(&path);
        })
    }

    /// Complete segments are read without sled: at the slightest damage it takes what follows for garbage and writes zeros
    /// over it, or panics, or silently forgets. All that it would answer lies in whole frames in its file.
    fn read(
        &mut self,
        segment: Seq,
        from_database: impl FnOnce(&Writing) -> Result<Option<Vec<Vec<u8>>>, StoreError>,
        from_scan: impl FnOnce(&mut Scan) -> io::Result<Option<Vec<Vec<u8>>>>,
    ) -> Result<Option<Vec<Vec<u8>>>, StoreError> {
        if let Some(writing) = self.writing.as_ref().filter(|writing| writing.first == segment) {
            return from_database(writing);
        }
        let path = self.path(segment);
        let known = self.reading.take().filter(|(first, _)| *first == segment.0);
        let (_, scan) = match known {
            Some(known) => self.reading.insert(known),
            None => {
                let look = if self.salvaged.contains(&segment.0) { Scan::of } else { Scan::begin };
                let scan = look(&path.join("db")).map_err(|source| StoreError::io("scan", &path, source))?;
                self.reading.insert((segment.0, scan))
            }
        };
        from_scan(scan).map_err(|source| StoreError::io("read", &path, source))
    }

    /// Begins a segment anew, beside the damaged one of the same name: what is put goes into it.
    pub(in crate::journal) fn begin_again(&mut self, header: &Header) -> Result<(), StoreError> {
        let path = self.path(header.first).with_extension(AGAIN);
        if path.exists() {
            fs::remove_dir_all(&path).map_err(|source| StoreError::io("remove", &path, source))?;
        }
        self.writing = self.complete(Writing::lay(&path, header)?, &path, None)?;
        Ok(())
    }

    /// The segment that was begun anew is complete: it takes the place of the damaged one, which is put aside.
    pub(in crate::journal) fn take_place(&mut self, seal: &Seal) -> Result<(), StoreError> {
        let (first, failed) = (Seq(seal.first), |path: &Path, source| StoreError::io("replace", path, source));
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

    fn give_up_next(&mut self) {
        let _ = self.next.take().and_then(|next| next.take(None));
    }

    fn close_reading(&mut self, segment: Seq) {
        self.reading.take_if(|(first, _)| *first == segment.0);
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        self.give_up_next();
    }
}

impl Store for SledStore {
    fn segments(&mut self) -> Result<Vec<Found>, StoreError> {
        let failed = |operation| move |path: &Path, source| StoreError::io(operation, path, source);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(|source| failed("list")(&self.dir, source))? {
            let path = entry.map_err(|source| failed("list")(&self.dir, source))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if path.extension().is_some_and(|ending| ending == "del") {
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

    fn prepare(&mut self, header: &Header) {
        self.give_up_next();
        self.next = Laying::begin(self.path(header.first), header);
    }

    fn create(&mut self, header: &Header) -> Result<(), StoreError> {
        self.writing = self.make_anew(header, None)?;
        Ok(())
    }

    fn make_whole(&mut self, header: &Header, chunks: &[Chunk], seal: &Seal) -> Result<(), StoreError> {
        self.make_anew(header, Some((chunks, seal))).map(drop)
    }

    fn room(&mut self) -> Option<Room> {
        let space = rustix::fs::statvfs(&self.dir).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(space.f_frsize);
        Some(Room { free: bytes(space.f_bavail), total: bytes(space.f_blocks) })
    }

    fn put(&mut self, first: Seq, frames: &[Vec<u8>]) -> Result<(), StoreError> {
        self.writing.as_mut().ok_or(StoreError::Shut)?.put(first, frames)
    }

    fn begin_sync(&mut self) -> Result<(), StoreError> {
        self.writing.as_mut().ok_or(StoreError::Shut)?.begin_sync()
    }

    fn finish_sync(&mut self) -> Result<(), StoreError> {
        self.writing.as_mut().map_or(Ok(()), Writing::finish_sync)
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.writing.as_mut().ok_or(StoreError::Shut)?.sync()
    }

    fn shut(&mut self) {
        self.writing.take().into_iter().for_each(Writing::close);
    }

    fn seal(&mut self, segment: Seq, seal: &Seal) -> Result<(), StoreError> {
        let path = self.path(segment).join("seal");
        let damage = StoreError::Damaged { segment: segment.0, damage: Damage::Content };
        let bytes = seal.write().ok_or(damage)?;
        files::replace(&path, &bytes).map_err(|source| StoreError::io("write", &path, source))
    }

    fn bytes(&mut self, segment: Seq) -> u64 {
        segment_bytes(&self.path(segment))
    }

    fn header(&mut self, segment: Seq) -> Result<Header, StoreError> {
        let path = self.path(segment);
        let ready = fs::read(path.join("ready")).map_err(|source| StoreError::io("read", &path, source));
        if let Ok(Ok(header)) = ready.map(|ready| Header::from_frames(&chunk::split(&ready))) {
            return Ok(header);
        }
        let copy = Scan::begin(&path.join("db")).and_then(|mut scan| scan.header());
        let copy = copy.map_err(|source| StoreError::io("scan", &path, source))?;
        Header::from_frames(&copy).map_err(|why| StoreError::Unreadable { segment: segment.0, why })
    }

    fn newer_segment(&mut self, segment: Seq) -> Result<Option<(u16, Epoch)>, StoreError> {
        let path = self.path(segment);
        newer::segment(&path).map_err(|source| StoreError::io("read", &path, source))
    }

    fn newer_records(&mut self) -> Vec<NewerRecord> {
        newer::records(&self.dir)
    }

    fn seal_of(&mut self, segment: Seq) -> Result<Option<Seal>, StoreError> {
        let path = self.path(segment).join("seal");
        let bytes = files::read(&path).map_err(|source| StoreError::io("read", &path, source))?;
        Ok(bytes.as_deref().and_then(|bytes| Seal::read(bytes).ok()))
    }

    fn at_or_before(&mut self, segment: Seq, at: Seq) -> Result<Option<Vec<Vec<u8>>>, StoreError> {
        self.read(segment, |writing| writing.at_or_before(at), |scan| scan.at_or_before(at.0))
    }

    fn after(&mut self, segment: Seq, after: Seq) -> Result<Option<Vec<Vec<u8>>>, StoreError> {
        self.read(segment, |writing| writing.after(after), |scan| scan.after(after.0))
    }

    fn secure(&mut self, segment: Seq) -> Result<(), StoreError> {
        let path = self.path(segment).join("db");
        match File::open(&path).and_then(|file| file.sync_data()) {
            // Nothing can be read of it either.
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(()),
            synced => synced.map_err(|source| StoreError::io("sync", &path, source)),
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
        fs::rename(&path, &going).map_err(|source| StoreError::io("rename", &path, source))?;
        files::sync_dir(&self.dir).map_err(|source| StoreError::io("sync", &self.dir, source))?;
        self.salvaged.remove(&segment.0);
        // It no longer counts; what cannot be removed now is removed at the next start.
        let _ = fs::remove_dir_all(&going);
        Ok(())
    }

    fn quarantine(&mut self, segment: Seq) -> Result<(), StoreError> {
        self.close_reading(segment);
        let (path, dir) = (self.path(segment), self.dir.join(QUARANTINE));
        let failed = |source| StoreError::io("put aside", &path, source);
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
        let failed = |source| StoreError::io("read", &path, source);
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
        saved.map_err(|source| StoreError::io("write", &path, source))
    }
}

/// Lays a segment where a try before may have failed half way.
fn lay_anew(path: &Path, header: &Header) -> Result<Writing, StoreError> {
    if path.exists() && !path.join("ready").exists() {
        fs::remove_dir_all(path).map_err(|source| StoreError::io("remove", path, source))?;
    }
    Writing::lay(path, header)
}

/// Bytes that a segment takes on the medium.
pub(in crate::journal) fn segment_bytes(path: &Path) -> u64 {
    files::taken(&path.join("db")) + SEGMENT_OVERHEAD_BYTES
}
