//! The model of a disk with a volatile write cache: what is written is readable at once and durable after a flush.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use crate::seed::Seed;

/// What a power cut tears apart at the finest. A physical block is written whole or not at all: ext4 does not survive half
/// a block of its own journal, and no file system claims to.
pub(super) const BLOCK: usize = 4096;

/// What a power cut leaves of the writes that no flush had covered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remains {
    /// Nothing.
    Nothing,
    /// Each block of each write by the toss of a coin, in the order of the writes: a later one may have reached the
    /// medium and an earlier one not.
    Random,
    /// All of it.
    Everything,
}

/// What was there at the beginning, in a file that is never written, and each block that is another since. A disk of a
/// gigabyte takes the memory of what was written to it.
#[derive(Debug, Clone)]
struct Medium {
    image: Arc<File>,
    length: usize,
    changed: HashMap<usize, Box<[u8; BLOCK]>>,
}

/// A medium and the cache in front of it.
#[derive(Debug, Clone)]
pub(super) struct Cached {
    medium: Medium,
    /// Sectors in the order in which they were written since the last flush.
    pending: Vec<(usize, [u8; BLOCK])>,
    /// Where in `pending` the newest content of a block is.
    newest: HashMap<usize, usize>,
}

impl Cached {
    /// Over what stands in this file; its length is a multiple of the block.
    pub(super) fn new(image: File) -> io::Result<Self> {
        let length = usize::try_from(image.metadata()?.len()).map_err(|_| io::ErrorKind::FileTooLarge)?;
        if !length.is_multiple_of(BLOCK) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{length} bytes are no whole blocks")));
        }
        let medium = Medium { image: Arc::new(image), length, changed: HashMap::new() };
        Ok(Self { medium, pending: Vec::new(), newest: HashMap::new() })
    }

    pub(super) fn len(&self) -> usize {
        self.medium.length
    }

    /// What stands there, as whoever writes sees it. `None` beyond the end, not on blocks, or if the file cannot be read.
    pub(super) fn read(&self, offset: usize, length: usize) -> Option<Vec<u8>> {
        let blocks = self.blocks(offset, length)?;
        let mut data = vec![0; length];
        self.medium.image.read_exact_at(&mut data, offset as u64).ok()?;
        for (block, piece) in blocks.zip(data.chunks_exact_mut(BLOCK)) {
            if let Some(&at) = self.newest.get(&block) {
                piece.copy_from_slice(&self.pending[at].1);
            } else if let Some(changed) = self.medium.changed.get(&block) {
                piece.copy_from_slice(&**changed);
            }
        }
        Some(data)
    }

    /// Into the cache. `None` beyond the end or not on blocks.
    pub(super) fn write(&mut self, offset: usize, data: &[u8]) -> Option<()> {
        let blocks = self.blocks(offset, data.len())?;
        for (block, piece) in blocks.zip(data.chunks_exact(BLOCK)) {
            self.newest.insert(block, self.pending.len());
            self.pending.push((block, piece.try_into().expect("chunks_exact gives whole blocks")));
        }
        Some(())
    }

    /// Everything so far is on the medium. How many blocks that were.
    pub(super) fn flush(&mut self) -> usize {
        let blocks = self.newest.len();
        for (block, data) in std::mem::take(&mut self.pending) {
            self.put(block, &data);
        }
        self.newest.clear();
        blocks
    }

    /// The power goes. How many written blocks are lost.
    pub(super) fn cut(&mut self, remains: Remains, seed: &mut Seed) -> usize {
        let mut lost = 0;
        for (block, data) in std::mem::take(&mut self.pending) {
            let keep = match remains {
                Remains::Nothing => false,
                Remains::Random => seed.coin(),
                Remains::Everything => true,
            };
            if keep {
                self.put(block, &data);
            } else {
                lost += 1;
            }
        }
        self.newest.clear();
        lost
    }

    fn put(&mut self, block: usize, data: &[u8; BLOCK]) {
        self.medium.changed.insert(block, Box::new(*data));
    }

    fn blocks(&self, offset: usize, length: usize) -> Option<std::ops::Range<usize>> {
        let end = offset.checked_add(length)?;
        let fits = end <= self.medium.length && offset.is_multiple_of(BLOCK) && length.is_multiple_of(BLOCK);
        fits.then_some(offset / BLOCK..end / BLOCK)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// A disk with this content.
    fn disk(content: &[u8]) -> Cached {
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(content).expect("it takes it");
        Cached::new(file).expect("whole blocks")
    }

    fn blocks(fill: &[u8]) -> Vec<u8> {
        fill.iter().flat_map(|&byte| [byte; BLOCK]).collect()
    }

    #[test]
    fn what_was_written_is_read_and_only_a_flush_makes_it_last() {
        let mut disk = disk(&blocks(&[0, 0, 0]));
        disk.write(0, &blocks(&[1, 1])).expect("it fits");
        assert_eq!(disk.flush(), 2);
        disk.write(BLOCK, &blocks(&[2, 2])).expect("it fits");
        assert_eq!(disk.read(0, 3 * BLOCK).expect("it is there"), blocks(&[1, 2, 2]));
        assert_eq!(disk.cut(Remains::Nothing, &mut Seed::new(1)), 2);
        assert_eq!(disk.read(0, 3 * BLOCK).expect("it is there"), blocks(&[1, 1, 0]));
    }

    #[test]
    fn a_random_part_remains_block_by_block() {
        let mut disk = disk(&blocks(&[0; 400]));
        disk.write(0, &blocks(&[1; 400])).expect("it fits");
        let lost = disk.cut(Remains::Random, &mut Seed::new(7));
        let kept = disk.read(0, 400 * BLOCK).expect("it is there").chunks_exact(BLOCK).filter(|s| s[0] == 1).count();
        assert_eq!(kept + lost, 400);
        assert!((100..300).contains(&lost), "{lost} of 400: that is no coin");
    }

    #[test]
    fn an_older_write_may_survive_the_newer() {
        let old_survives = |seed| {
            let mut disk = disk(&blocks(&[0]));
            disk.write(0, &blocks(&[1])).and_then(|()| disk.write(0, &blocks(&[2]))).expect("it fits");
            disk.cut(Remains::Random, &mut Seed::new(seed));
            disk.read(0, BLOCK).expect("it is there")[0] == 1
        };
        assert!((0..50).any(old_survives) && !(0..50).all(old_survives));
    }

    #[test]
    fn beyond_the_end_and_between_blocks_there_is_nothing() {
        let mut disk = disk(&blocks(&[0, 0]));
        assert!(disk.read(BLOCK, 2 * BLOCK).is_none());
        assert!(disk.write(1, &blocks(&[1])).is_none());
        assert!(disk.read(usize::MAX - 511, BLOCK).is_none());
    }
}
