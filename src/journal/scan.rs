//! Finds whole frames in the bytes of a database, damaged or not, without the database.
//!
//! A value of ours lies in one piece in sled's log, so the frames can be found by their magic and believed by their CRC.
//! Memory: one buffer, whatever the size of the file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::chunk::{self, BODY_BYTES_MAX, Chunk, HEAD_BYTES, Kind, MAGIC};

/// How much is looked at in one go; more than twice the longest frame.
const BUFFER_BYTES: usize = 256 * 1024;
const FRAME_BYTES_MAX: usize = HEAD_BYTES + BODY_BYTES_MAX;

/// Where a whole frame lies.
#[derive(Debug, Clone, Copy)]
struct Place {
    offset: u64,
    length: usize,
}

/// What a look at every byte has found: some 8 KB for a full segment.
#[derive(Debug)]
pub(super) struct Scan {
    file: File,
    /// By first number: the parts of the chunk, in order, all there.
    entries: BTreeMap<u64, Vec<Place>>,
    header: Vec<Place>,
}

impl Scan {
    /// Looks through a file.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let mut found = Found::default();
        let mut buffer = vec![0; BUFFER_BYTES];
        let (mut offset, mut kept) = (0_u64, 0_usize);
        loop {
            let read = read_full(&file, &mut buffer[kept..], offset + kept as u64)?;
            let end = kept + read;
            let last = end < buffer.len();
            let used = look_through(&buffer[..end], offset, last, &mut found);
            if last {
                break;
            }
            buffer.copy_within(used..end, 0);
            kept = end - used;
            offset += used as u64;
        }
        let (entries, header) = found.whole();
        Ok(Self { file, entries, header })
    }

    /// The frames of the header, if they are all there.
    pub(super) fn header(&self) -> io::Result<Vec<Vec<u8>>> {
        self.read(&self.header)
    }

    /// The frames of the chunk that begins at or before `at`, or else of the first one.
    pub(super) fn at_or_before(&self, at: u64) -> io::Result<Option<Vec<Vec<u8>>>> {
        let before = self.entries.range(..=at).next_back();
        before.or_else(|| self.entries.first_key_value()).map(|(_, places)| self.read(places)).transpose()
    }

    /// The frames of the first chunk that begins after `after`.
    pub(super) fn after(&self, after: u64) -> io::Result<Option<Vec<Vec<u8>>>> {
        self.entries.range(after + 1..).next().map(|(_, places)| self.read(places)).transpose()
    }

    fn read(&self, places: &[Place]) -> io::Result<Vec<Vec<u8>>> {
        let frame = |place: &Place| {
            let mut frame = vec![0; place.length];
            self.file.read_exact_at(&mut frame, place.offset).map(|()| frame)
        };
        places.iter().map(frame).collect()
    }
}

type Parts = BTreeMap<u8, (Place, u8)>;

#[derive(Default)]
struct Found {
    entries: BTreeMap<u64, Parts>,
    header: Parts,
}

impl Found {
    fn add(&mut self, (chunk, part, parts): &(Chunk, u8, u8), place: Place) {
        let found = match chunk.kind {
            Kind::Entries => self.entries.entry(chunk.first.0).or_default(),
            Kind::Header => &mut self.header,
        };
        found.insert(*part, (place, *parts));
    }

    fn whole(self) -> (BTreeMap<u64, Vec<Place>>, Vec<Place>) {
        let complete = |parts: Parts| {
            let wanted = parts.first_key_value().map(|(_, (_, count))| usize::from(*count));
            let all = wanted == Some(parts.len()) && parts.keys().copied().eq((0..).take(parts.len()));
            all.then(|| parts.into_values().map(|(place, _)| place).collect::<Vec<_>>())
        };
        let entries = self.entries.into_iter().filter_map(|(first, parts)| Some((first, complete(parts)?))).collect();
        (entries, complete(self.header).unwrap_or_default())
    }
}

/// Looks for frames in `bytes`, which lie at `offset` in the file, and answers how many bytes are done with.
fn look_through(bytes: &[u8], offset: u64, last: bool, found: &mut Found) -> usize {
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
            _ => at += 1,
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
        let scan = Scan::of(file.path()).expect("it can be read");
        assert_eq!(scan.entries.len(), 59);
        let frames = scan.at_or_before(30).expect("it can be read").expect("there are chunks");
        assert_eq!(Chunk::join(&frames).expect("it is whole").first, Seq(29));
        let frames = scan.after(29).expect("it can be read").expect("there are chunks");
        assert_eq!(Chunk::join(&frames).expect("it is whole").first, Seq(31));
    }
}
