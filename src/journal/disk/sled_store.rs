//! The medium of the firmware: a ring of small sled databases, written once each.
//!
//! sled 0.34.7 is a good log and a poor archive: one that grows bloats, its `flush` is no `fsync`, and damage makes it
//! panic, forget, or write zeros over what is intact. So each database here is small, is never opened twice and has
//! nothing deleted in it (`sled_segment`); values carry their own CRC and place in the sequence; and once it is closed
//! they are read from its file without it (`scan`).

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;

use crate::journal::disk::chunk::{Chunk, Damage};
use crate::journal::disk::entry;
use crate::journal::disk::files;
use crate::journal::disk::newer::{self, NewerRecord, OwnNames};
use crate::journal::disk::record::Record;
use crate::journal::disk::scan::{Remains, Scan};
use crate::journal::disk::segment::{Header, Seal};
use crate::journal::disk::sled_segment::{Laying, Writing};
use crate::journal::disk::store::{Durably, Found, Room, Store, StoreError};
use crate::measure::{Epoch, Event, EventKind, Gap, Seq};

/// Damaged segments that are kept for a person to look at: the newest.
const QUARANTINED_MAX: usize = 2;
/// Who only looks whether an agent runs holds the lock for an instant (see `archive`): a start outlasts that.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// Where what took that place is put.
const MISPLACED: &str = "misplaced";
/// Where damaged segments are put.
pub(in crate::journal) const QUARANTINE: &str = "quarantine";
/// The ending of a segment that is written anew, until it takes the place of the damaged one.
const AGAIN: &str = "again";
/// The ending of a segment that is made whole, until it is.
const MAKING: &str = "making";
/// What must be a file, if it is there at all, for a life to begin and to go on.
const FILES: [&str; 14] = [
    "lock",
    "life",
    "life.new",
    "times",
    "times.new",
    "deciders",
    "deciders.new",
    "checkpoint",
    "checkpoint.new",
    "lived",
    "lived.new",
    "cursor-a",
    "cursor-b",
    "in-memory",
];
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
    hold: Hold,
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
    /// Takes a directory; made if it is not there. What lies there as something else than the file that it must be is moved aside,
    /// and what others could read is closed to them.
    pub(in crate::journal) fn open(dir: &Path) -> Result<Self, Unusable> {
        let failed = |operation| move |source| StoreError::io(operation, dir, source);
        if !dir.is_dir() {
            files::make_dirs(dir).map_err(failed("make"))?;
            files::sync_parent(dir).map_err(failed("sync"))?;
        }
        let hold = Hold::take(dir)?;
        if let Err(error) = files::make_private(dir) {
            tracing::warn!(dir = %dir.display(), %error, "others may be able to read the journal, and that cannot be changed");
        }
        for moved in move_misfits(dir)? {
            tracing::warn!(
                to = %moved.display(),
                "what lay in the journal where a file of its own belongs was moved aside; look whose it is"
            );
        }
        let (salvaged, names) = (BTreeSet::new(), OwnNames::beside(&newer::records(dir)));
        Ok(Self { dir: dir.to_owned(), hold, writing: None, next: None, reading: None, salvaged, names })
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

    /// Makes a segment for writing, of the one that was laid for it if there is one; what is left of one that fails has nothing in
    /// it.
    fn make_anew(&mut self, header: &Header) -> Result<Option<Writing>, StoreError> {
        let path = self.path(header.first);
        // One that was laid for another header may have the same name; it is gone after this.
        let laid = match self.next.take().and_then(|next| next.take(Some(header))) {
            Some(laid) => laid,
            None => {
                self.clear(&path)?;
                Writing::lay(&path, header)?
            }
        };
        self.complete(laid, &path, None).inspect_err(|_| {
            // The next try or the next start removes what this cannot.
            let _ = fs::remove_dir_all(&path);
        })
    }

    /// Removes what a try before has left half made under this name. If there is anything in it, it is put aside.
    fn clear(&self, path: &Path) -> Result<(), StoreError> {
        if !path.exists() || path.join("ready").exists() {
            return Ok(());
        }
        match remains_in(path)? {
            None => fs::remove_dir_all(path).map_err(|source| StoreError::io("remove", path, source)),
            Some(_) => self.put_aside(path),
        }
    }

    /// Moves what lies in a segment's place aside, for a person to look at.
    fn put_aside(&self, path: &Path) -> Result<(), StoreError> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let moved = files::move_aside(&self.dir, name, QUARANTINE);
        let moved = moved.map_err(|source| StoreError::io("put aside", path, source))?;
        tracing::error!(to = %moved.display(), "what lies in a segment's place cannot be read; it is put aside");
        Ok(())
    }

    /// Segments without their markers: somebody took those away, or they were never finished. What is in them decides. Answers
    /// those that count.
    fn judge_unmarked(&self, unmarked: BTreeSet<u64>) -> Result<Vec<Seq>, StoreError> {
        let (mut counting, mut coarser) = (Vec::new(), Vec::new());
        for first in unmarked.into_iter().map(Seq) {
            let path = self.path(first);
            match remains_in(&path)? {
                None => {
                    tracing::warn!(path = %path.display(), "a segment that was never finished is removed; nothing is in it");
                    remove_leftover(&path);
                }
                Some(Remains::Torn) => self.put_aside(&path)?,
                Some(Remains::Readable) => {
                    let stands_for = self.stands_for(first)?;
                    if stands_for.is_empty() {
                        mark_again(&path);
                        counting.push(first);
                    } else {
                        coarser.push((first, stands_for));
                    }
                }
            }
        }
        // These are judged by those that count, so they come last.
        let mut source = None;
        for (first, stands_for) in coarser {
            let path = self.path(first);
            if self.is_half_made(&stands_for, &mut source)? {
                tracing::warn!(path = %path.display(), "a coarser segment that was never finished is removed; what it was made of is there");
                remove_leftover(&path);
            } else {
                mark_again(&path);
                counting.push(first);
            }
        }
        Ok(counting)
    }

    /// The numbers that an unmarked segment was made of, by what its first entry tells; none: it is not a coarser one.
    fn stands_for(&self, first: Seq) -> Result<Vec<Gap>, StoreError> {
        let db = self.path(first).join("db");
        let frames = Scan::of(&db).and_then(|mut scan| Ok((scan.header()?, scan.at_or_before(0)?)));
        let (header, frames) = frames.map_err(|source| StoreError::io("read", &db, source))?;
        let first_window = || {
            let header = Header::from_frames(&header).ok()?;
            let chunk = Chunk::join(&frames?).ok()?;
            let range = chunk.entries().ok()?.into_iter().next()?;
            entry::decode(&chunk.body[range], header.boot).ok()
        };
        let told = first_window().map(|window| window.events).unwrap_or_default();
        // What it stands for may itself have stood for something: that is told of other numbers.
        let gap_of = |event: &Event| match &event.kind {
            EventKind::Thinned(thinned) if thinned.as_from == first => Some(thinned.gap),
            _ => None,
        };
        Ok(told.iter().filter_map(gap_of).collect())
    }

    /// Programs before this one made coarser segments in their place, with the marker last: whether this is the half of one. Then
    /// all that it was to stand for is still there.
    fn is_half_made(&self, stands_for: &[Gap], source: &mut Option<(u64, Scan)>) -> Result<bool, StoreError> {
        for gap in stands_for {
            if !self.holds(gap.epoch, gap.from, source)? || !self.holds(gap.epoch, gap.to, source)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether an entry of this life lies in a segment that counts, or lay there and cannot be read any more. `read`: the segment
    /// that was looked at last.
    fn holds(&self, epoch: Epoch, seq: Seq, read: &mut Option<(u64, Scan)>) -> Result<bool, StoreError> {
        let firsts: BTreeSet<u64> = files::names(&self.dir).iter().filter_map(|name| number_of(name)).collect();
        let mut marked = firsts.range(..=seq.0).copied().filter(|first| self.path(Seq(*first)).join("ready").exists());
        let Some(first) = marked.next_back() else { return Ok(false) };
        let path = self.path(Seq(first)).join("db");
        let chunk_at = |source: &mut Option<(u64, Scan)>| {
            let (_, scan) = match source.take().filter(|(known, _)| *known == first) {
                Some(known) => source.insert(known),
                None => source.insert((first, Scan::of(&path)?)),
            };
            Ok::<_, io::Error>((scan.at_or_before(seq.0)?, scan.has_torn()))
        };
        let (chunk, is_torn) = match chunk_at(read) {
            Ok((frames, is_torn)) => (frames.and_then(|frames| Chunk::join(&frames).ok()), is_torn),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) if !may_pass(&error) => (None, true),
            Err(source) => return Err(StoreError::io("read", &path, source)),
        };
        if let Some(chunk) = chunk.filter(|chunk| (chunk.first.0..=chunk.last()).contains(&seq.0)) {
            return Ok(chunk.epoch == epoch);
        }
        // The part of it in which the entry lay may be damaged: its seal says how far it goes.
        let seal = path.with_file_name("seal");
        let sealed = files::read(&seal).map_err(|source| StoreError::io("read", &seal, source));
        Ok(match sealed {
            Ok(bytes) => bytes.and_then(|bytes| Seal::read(&bytes).ok()).map_or(is_torn, |seal| seal.last >= seq.0),
            Err(StoreError::Io { source, .. }) if !may_pass(&source) => true,
            Err(error) => return Err(error),
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
        let (mut firsts, mut unmarked) = (Vec::new(), BTreeSet::new());
        for entry in fs::read_dir(&self.dir).map_err(|source| failed("list")(&self.dir, source))? {
            let path = entry.map_err(|source| failed("list")(&self.dir, source))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if path.extension().is_some_and(|ending| ending == "del" || ending == MAKING) {
                remove_leftover(&path);
                continue;
            }
            let name = match name.strip_suffix(AGAIN).and_then(|name| name.strip_suffix('.')) {
                // The damaged one was put aside, and then came a cut.
                Some(first) if path.join("seal").exists() && !self.dir.join(first).exists() => {
                    fs::rename(&path, self.dir.join(first)).map_err(|source| failed("rename")(&path, source))?;
                    files::sync_dir(&self.dir).map_err(|source| failed("sync")(&path, source))?;
                    first
                }
                Some(_) => {
                    remove_leftover(&path);
                    continue;
                }
                None => name,
            };
            let path = self.dir.join(name);
            let Some(first) = number_of(name) else { continue };
            if path.join("ready").exists() {
                firsts.push(Seq(first));
            } else {
                unmarked.insert(first);
            }
        }
        firsts.extend(self.judge_unmarked(unmarked)?);
        firsts.sort_unstable();
        let found =
            |first: Seq| Found { first, bytes: self.bytes(first), sealed: self.path(first).join("seal").exists() };
        Ok(firsts.into_iter().map(found).collect())
    }

    fn prepare(&mut self, header: &Header) {
        self.give_up_next();
        self.next = Laying::begin(self.path(header.first), header);
    }

    fn create(&mut self, header: &Header) -> Result<(), StoreError> {
        self.hold.check(&self.dir)?;
        self.writing = self.make_anew(header)?;
        Ok(())
    }

    fn make_whole(&mut self, header: &Header, chunks: &[Chunk], seal: &Seal) -> Result<(), StoreError> {
        self.hold.check(&self.dir)?;
        // One that was laid may have the same name.
        self.give_up_next();
        let path = self.path(header.first);
        self.clear(&path)?;
        let making = path.with_extension(MAKING);
        if making.exists() {
            fs::remove_dir_all(&making).map_err(|source| StoreError::io("remove", &making, source))?;
        }
        let laid = Writing::lay(&making, header)?;
        let made = self.complete(laid, &making, Some((chunks, seal))).and_then(|_| {
            let moved = fs::rename(&making, &path).and_then(|()| files::sync_dir(&self.dir));
            moved.map_err(|source| StoreError::io("rename", &making, source))
        });
        made.inspect_err(|_| {
            // The next try or the next start removes what this cannot.
            let _ = fs::remove_dir_all(&making);
        })
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
        self.hold.check(&self.dir)?;
        self.writing.as_mut().ok_or(StoreError::Shut)?.begin_sync()
    }

    fn finish_sync(&mut self) -> Result<(), StoreError> {
        self.writing.as_mut().map_or(Ok(()), Writing::finish_sync)
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.hold.check(&self.dir)?;
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
        if let Some(header) = Header::of_marker(&path.join("ready"), segment.0) {
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
        match files::open(&path).and_then(|file| file.sync_data()) {
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
        files::make_dirs(&dir).map_err(failed)?;
        // What was moved aside for another reason is not ours to remove.
        let segments = files::names(&dir).into_iter().filter(|name| number_of(name).is_some());
        let held: Vec<PathBuf> = segments.map(|name| dir.join(name)).collect();
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
        self.hold.check(&self.dir)?;
        let path = self.record_path(record);
        let saved = match record {
            Record::Life | Record::Times | Record::Lived | Record::Deciders | Record::Checkpoint => {
                files::replace(&path, bytes)
            }
            Record::CursorA | Record::CursorB => files::overwrite(&path, bytes, durably == Durably::Yes),
        };
        saved.map_err(|source| StoreError::io("write", &path, source))
    }
}

/// The directory in our hands. It is locked itself: a file in it could be removed under us, and made again by another agent.
#[derive(Debug)]
struct Hold {
    /// Held until the store goes.
    _dir: File,
    /// The file that programs before this one lock. It may not be there, and nothing depends on it.
    _file: Option<File>,
    /// Device and inode of what is locked.
    place: (u64, u64),
}

impl Hold {
    fn take(dir: &Path) -> Result<Self, Unusable> {
        let failed = |operation| move |source| StoreError::io(operation, dir, source);
        let held = File::open(dir).map_err(failed("open"))?;
        lock(&held, dir)?;
        let metadata = held.metadata().map_err(failed("look at"))?;
        let path = dir.join("lock");
        let file = files::open_for_writing(&path).ok();
        if let Some(file) = &file {
            lock(file, &path)?;
        }
        Ok(Self { _dir: held, _file: file, place: (metadata.dev(), metadata.ino()) })
    }

    /// Whether what lies under its name is still what is locked; another agent may have what was put in its place.
    fn check(&self, dir: &Path) -> Result<(), StoreError> {
        let metadata = fs::metadata(dir).map_err(|source| StoreError::io("look at", dir, source))?;
        let is_same = (metadata.dev(), metadata.ino()) == self.place;
        if is_same { Ok(()) } else { Err(StoreError::Displaced(dir.to_owned())) }
    }
}

fn lock(file: &File, path: &Path) -> Result<(), Unusable> {
    for tries_left in (0..LOCK_TRIES).rev() {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if tries_left > 0 => std::thread::park_timeout(LOCK_PAUSE),
            Err(TryLockError::WouldBlock) => return Err(Unusable::Locked),
            Err(TryLockError::Error(source)) => return Err(StoreError::io("lock", path, source).into()),
        }
    }
    Ok(())
}

/// What lies in a journal where a file, or the directory of what is put aside, belongs, and is none.
pub(in crate::journal) fn misfits(dir: &Path) -> Vec<PathBuf> {
    let is_other = |path: &PathBuf, is_right: fn(&fs::Metadata) -> bool| {
        fs::metadata(path).is_ok_and(|metadata| !is_right(&metadata))
    };
    let mut found: Vec<PathBuf> = FILES.iter().map(|name| dir.join(name)).collect();
    found.retain(|path| is_other(path, fs::Metadata::is_file));
    let segments = files::names(dir).into_iter().filter(|name| number_of(name).is_some()).map(|name| dir.join(name));
    found.extend(segments.chain([dir.join(QUARANTINE)]).filter(|path| is_other(path, fs::Metadata::is_dir)));
    found
}

/// Moves it aside; nothing is removed.
fn move_misfits(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut moved = Vec::new();
    // What takes the place of the directory for such things goes first.
    for path in misfits(dir).into_iter().rev() {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let to = if name == QUARANTINE { MISPLACED } else { QUARANTINE };
        let to = files::move_aside(dir, name, to);
        moved.push(to.map_err(|source| StoreError::Misfit { path: path.clone(), source })?);
    }
    Ok(moved)
}

/// What is left of entries in a segment's directory; `None`: nothing was ever in it.
fn remains_in(path: &Path) -> Result<Option<Remains>, StoreError> {
    let db = path.join("db");
    match Scan::of(&db) {
        Ok(scan) => Ok(scan.remains()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // Whoever put that there knows what it is.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::IsADirectory) => {
            Ok(Some(Remains::Torn))
        }
        // That says nothing of what is in it.
        Err(source) if may_pass(&source) => Err(StoreError::io("read", &db, source)),
        // To ask again for ever would leave all the rest without its journal.
        Err(error) => {
            tracing::error!(path = %db.display(), %error, "what lies in a segment's place cannot be read");
            Ok(Some(Remains::Torn))
        }
    }
}

/// Whether what cannot be read now may be read later, as more files may be open, there is more memory, or somebody has given us the
/// right to it. A disk that has lost it does not find it again.
fn may_pass(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::LOOP))
        || error.kind() == io::ErrorKind::PermissionDenied
}

/// Entries are in a segment that lacks its marker: it counts.
fn mark_again(path: &Path) {
    let shown = path.display();
    tracing::warn!(path = %shown, "a segment lacks its marker; entries are in it, so it is marked again and kept");
    let header = Scan::begin(&path.join("db")).and_then(|mut scan| scan.header()).unwrap_or_default();
    if let Err(error) = files::replace(&path.join("ready"), &header.concat()) {
        tracing::warn!(path = %shown, %error, "the marker cannot be written now; the next start does it");
    }
}

/// What does not count any more, or never did. What cannot be removed now is removed at a later start.
fn remove_leftover(path: &Path) {
    if let Err(error) = fs::remove_dir_all(path) {
        tracing::warn!(path = %path.display(), %error, "a leftover cannot be removed");
    }
}

/// The first number of the segment that has this name.
pub(in crate::journal) fn number_of(name: &str) -> Option<u64> {
    (name.len() == 16).then(|| u64::from_str_radix(name, 16).ok()).flatten()
}

/// Whether there are entries in a segment's directory that has no marker.
pub(in crate::journal) fn is_unmarked_segment(path: &Path) -> bool {
    remains_in(path).is_ok_and(|remains| remains.is_some())
}

/// Bytes that a segment takes on the medium.
pub(in crate::journal) fn segment_bytes(path: &Path) -> u64 {
    files::taken(&path.join("db")) + SEGMENT_OVERHEAD_BYTES
}

#[cfg(test)]
#[path = "sled_store_tests.rs"]
mod tests;
