//! Finds whole frames in the bytes of a database, damaged or not, without the database.
//!
//! A value of ours lies in one piece in sled's log, so the frames can be found by their magic and believed by their CRC.
//! Memory: one buffer, whatever the size of the file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::RangeBounds;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::journal::disk::chunk::{self, BODY_BYTES_MAX, Chunk, HEAD_BYTES, Kind, MAGIC};
use crate::journal::disk::files;

/// How much is looked at in one go; more than twice the longest frame.
const BUFFER_BYTES: usize = 256 * 1024;
const FRAME_BYTES_MAX: usize = HEAD_BYTES + BODY_BYTES_MAX;

/// Where a whole frame lies.
#[derive(Debug, Clone, Copy)]
struct Place {
    offset: u64,
    length: usize,
}

/// What is left of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::journal) enum Remains {
    /// Chunks that are whole.
    Readable,
    /// None that is.
    Torn,
}

/// What a look at the bytes has found: some 8 KB for a full segment.
#[derive(Debug, Default)]
pub(in crate::journal) struct Scan {
    /// `None`: there is none, and so nothing in it.
    file: Option<File>,
    /// By first number: the parts of the chunk that were found.
    entries: BTreeMap<u64, Parts>,
    header: Parts,
    /// So far it has looked; `None`: at everything.
    looked_to: Option<u64>,
    /// Frames of entries that begin and are not whole.
    torn: u64,
}

impl Scan {
    /// Looks through a file.
    pub(in crate::journal) fn of(path: &Path) -> io::Result<Self> {
        let mut scan = Self::begin(path)?;
        scan.look_until(|_| false)?;
        Ok(scan)
    }

    /// Looks through a file step by step, as far as is asked for: a whole segment at once is 200 ms of slow flash, in which
    /// nothing else could be written. Right as long as chunks lie in their order; who finds a hole needs [`Scan::of`].
    pub(in crate::journal) fn begin(path: &Path) -> io::Result<Self> {
        let (entries, header) = (BTreeMap::new(), Parts::new());
        Ok(Self { file: Some(files::open(path)?), entries, header, looked_to: Some(0), torn: 0 })
    }

    /// What is left of entries here; `None`: nothing was ever written. Only after [`Scan::of`].
    pub(in crate::journal) fn remains(&self) -> Option<Remains> {
        if self.whole(..).next().is_some() {
            Some(Remains::Readable)
        } else if self.torn > 0 || !self.entries.is_empty() {
            Some(Remains::Torn)
        } else {
            None
        }
    }

    /// Whether frames of entries were found that are not whole.
    pub(in crate::journal) fn has_torn(&self) -> bool {
        self.torn > 0
    }

    /// The frames of the header, if they are all there.
    pub(in crate::journal) fn header(&mut self) -> io::Result<Vec<Vec<u8>>> {
        self.look_until(|scan| is_whole(&scan.header))?;
        if is_whole(&self.header) { self.read(&self.header) } else { Ok(Vec::new()) }
    }

    /// The frames of the chunk that begins at or before `at`, or else of the first one.
    pub(in crate::journal) fn at_or_before(&mut self, at: u64) -> io::Result<Option<Vec<Vec<u8>>>> {
        self.look_until(|scan| scan.whole(at.saturating_add(1)..).next().is_some())?;
        let found = self.whole(..=at).next_back().or_else(|| self.whole(..).next());
        found.map(|parts| self.read(parts)).transpose()
    }

    /// The frames of the first chunk that begins after `after`.
    pub(in crate::journal) fn after(&mut self, after: u64) -> io::Result<Option<Vec<Vec<u8>>>> {
        self.look_until(|scan| scan.whole(after.saturating_add(1)..).next().is_some())?;
        self.whole(after.saturating_add(1)..).next().map(|parts| self.read(parts)).transpose()
    }

    /// Looks on, a buffer at a time.
    fn look_until(&mut self, enough: impl Fn(&Self) -> bool) -> io::Result<()> {
        let mut buffer = Vec::new();
        while let Some(offset) = self.looked_to.filter(|_| !enough(self)) {
            buffer.resize(BUFFER_BYTES, 0);
            let end = self.file.as_ref().map_or(Ok(0), |file| read_full(file, &mut buffer, offset))?;
            let last = end < buffer.len();
            let used = look_through(&buffer[..end], offset, last, self);
            self.looked_to = (!last).then_some(offset + used as u64);
        }
        Ok(())
    }

    /// The chunks with all their parts, ascending.
    fn whole(&self, range: impl RangeBounds<u64>) -> impl DoubleEndedIterator<Item = &Parts> {
        self.entries.range(range).map(|(_, parts)| parts).filter(|parts| is_whole(parts))
    }

    fn read(&self, parts: &Parts) -> io::Result<Vec<Vec<u8>>> {
        let frame = |(place, _): &(Place, u8)| {
            let mut frame = vec![0; place.length];
            let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
            file.read_exact_at(&mut frame, place.offset).map(|()| frame)
        };
        parts.values().map(frame).collect()
    }

    fn add(&mut self, (chunk, part, parts): &(Chunk, u8, u8), place: Place) {
        let found = match chunk.kind {
            Kind::Entries => self.entries.entry(chunk.first.0).or_default(),
            Kind::Header => &mut self.header,
        };
        found.insert(*part, (place, *parts));
    }
}

/// By number: where the part lies, and how many there must be.
type Parts = BTreeMap<u8, (Place, u8)>;

fn is_whole(parts: &Parts) -> bool {
    let wanted = parts.first_key_value().map(|(_, (_, count))| usize::from(*count));
    wanted == Some(parts.len()) && parts.keys().copied().eq((0..).take(parts.len()))
}

/// Looks for frames in `bytes`, which lie at `offset` in the file, and answers how many bytes are done with.
fn look_through(bytes: &[u8], offset: u64, last: bool, found: &mut Scan) -> usize {
    // A frame that begins behind this may not be all here.
    let limit = if last { bytes.len() } else { bytes.len() - FRAME_BYTES_MAX };
    let mut at = 0;
    while at < limit {
        let Some(step) = bytes[at..].windows(MAGIC.len()).position(|window| window == MAGIC) else { return limit };
        at += step;
        if at >= limit {
            return limit;
        }
        let frame = chunk::frame_length(&bytes[at..]).and_then(|length| bytes.get(at..at + length));
        match frame.map(|frame| (frame.len(), chunk::parse(frame))) {
            Some((length, Ok(parsed))) => {
                found.add(&parsed, Place { offset: offset + at as u64, length });
                at += length;
            }
            _ => {
                found.torn += u64::from(chunk::claims_entries(&bytes[at..]));
                at += 1;
            }
        }
    }
    at
}

fn read_full(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::measure::{Epoch, Seq};

    #[test]
    fn whole_frames_are_found_between_rubbish_and_across_buffers() {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        for seq in 1..=60_u64 {
            let mut chunk = Chunk::new(Epoch(1), Seq(seq), 0);
            // Nothing that could be made shorter: each frame is as long as the longest.
            chunk.push(
                &(0..23_000_u32)
                    .map(|i| (i.wrapping_mul(2_654_435_761) >> (seq % 20)).to_le_bytes()[0])
                    .collect::<Vec<_>>(),
            );
            let mut frame = chunk.frames().remove(0);
            if seq == 30 {
                frame[500] ^= 1;
            }
            file.write_all(b"rubbish V2GJ and more V2G").expect("it can be written");
            file.write_all(&frame).expect("it can be written");
        }
        let whole = Scan::of(file.path()).expect("it can be read");
        assert_eq!((whole.entries.len(), whole.looked_to), (59, None));
        for mut scan in [whole, Scan::begin(file.path()).expect("it can be read")] {
            let frames = scan.at_or_before(30).expect("it can be read").expect("there are chunks");
            assert_eq!(Chunk::join(&frames).expect("it is whole").first, Seq(29));
            let frames = scan.after(29).expect("it can be read").expect("there are chunks");
            assert_eq!(Chunk::join(&frames).expect("it is whole").first, Seq(31));
            let frames = scan.at_or_before(u64::MAX).expect("it can be read").expect("there are chunks");
            assert_eq!(Chunk::join(&frames).expect("it is whole").first, Seq(60));
            assert_eq!(scan.after(60).expect("it can be read"), None);
            assert!(scan.header().expect("it can be read").is_empty());
        }
    }

    #[test]
    fn no_more_is_read_than_is_asked_for() {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        for seq in 1..=200_u64 {
            let mut chunk = Chunk::new(Epoch(1), Seq(seq), 0);
            chunk.push(&[7; 20_000]);
            file.write_all(&chunk.frames_as_is().concat()).expect("it can be written");
        }
        let mut scan = Scan::begin(file.path()).expect("it can be read");
        for seq in 1..=100 {
            let frames = scan.at_or_before(seq).expect("it can be read").expect("there are chunks");
            assert_eq!(Chunk::join(&frames).expect("it is whole").first, Seq(seq));
            let ahead = scan.looked_to.expect("that is not all") / 20_000 - seq;
            assert!(ahead < 30, "{ahead} chunks ahead at {seq}");
        }
    }
}
