//! The model of a disk with a volatile write cache: what is written is readable at once and durable after a flush.

use std::collections::HashMap;

use crate::seed::Seed;

/// What a power cut tears apart at the finest: no disk promises more than one sector.
pub(super) const SECTOR: usize = 512;

/// What a power cut leaves of the writes that no flush had covered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remains {
    /// Nothing.
    Nothing,
    /// Each sector of each write by the toss of a coin, in the order of the writes: a later one may have reached the
    /// medium and an earlier one not.
    Random,
    /// All of it.
    Everything,
}

/// A medium and the cache in front of it.
#[derive(Debug)]
pub(super) struct Cached {
    medium: Vec<u8>,
    /// Sectors in the order in which they were written since the last flush.
    pending: Vec<(usize, [u8; SECTOR])>,
    /// Where in `pending` the newest content of a sector is.
    newest: HashMap<usize, usize>,
}

impl Cached {
    /// Over this medium; its length is a multiple of the sector.
    pub(super) fn new(medium: Vec<u8>) -> Self {
        assert!(medium.len().is_multiple_of(SECTOR), "{} bytes are no whole sectors", medium.len());
        Self { medium, pending: Vec::new(), newest: HashMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.medium.len()
    }

    /// What stands there, as whoever writes sees it. `None` beyond the end or not on sectors.
    pub(super) fn read(&self, offset: usize, length: usize) -> Option<Vec<u8>> {
        self.sectors(offset, length)?;
        let mut data = self.medium[offset..offset + length].to_vec();
        for (index, piece) in data.chunks_exact_mut(SECTOR).enumerate() {
            if let Some(&at) = self.newest.get(&(offset / SECTOR + index)) {
                piece.copy_from_slice(&self.pending[at].1);
            }
        }
        Some(data)
    }

    /// Into the cache. `None` beyond the end or not on sectors.
    pub(super) fn write(&mut self, offset: usize, data: &[u8]) -> Option<()> {
        let sectors = self.sectors(offset, data.len())?;
        for (sector, piece) in sectors.zip(data.chunks_exact(SECTOR)) {
            self.newest.insert(sector, self.pending.len());
            self.pending.push((sector, piece.try_into().expect("chunks_exact gives whole sectors")));
        }
        Some(())
    }

    /// Everything so far is on the medium. How many sectors that were.
    pub(super) fn flush(&mut self) -> usize {
        let sectors = self.newest.len();
        for (sector, data) in std::mem::take(&mut self.pending) {
            self.put(sector, &data);
        }
        self.newest.clear();
        sectors
    }

    /// The power goes. How many written sectors are lost.
    pub(super) fn cut(&mut self, remains: Remains, seed: &mut Seed) -> usize {
        let mut lost = 0;
        for (sector, data) in std::mem::take(&mut self.pending) {
            let keep = match remains {
                Remains::Nothing => false,
                Remains::Random => seed.coin(),
                Remains::Everything => true,
            };
            if keep {
                self.put(sector, &data);
            } else {
                lost += 1;
            }
        }
        self.newest.clear();
        lost
    }

    fn put(&mut self, sector: usize, data: &[u8; SECTOR]) {
        self.medium[sector * SECTOR..][..SECTOR].copy_from_slice(data);
    }

    fn sectors(&self, offset: usize, length: usize) -> Option<std::ops::Range<usize>> {
        let end = offset.checked_add(length)?;
        let fits = end <= self.medium.len() && offset.is_multiple_of(SECTOR) && length.is_multiple_of(SECTOR);
        fits.then_some(offset / SECTOR..end / SECTOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sectors(fill: &[u8]) -> Vec<u8> {
        fill.iter().flat_map(|&byte| [byte; SECTOR]).collect()
    }

    #[test]
    fn what_was_written_is_read_and_only_a_flush_makes_it_last() {
        let mut disk = Cached::new(sectors(&[0, 0, 0]));
        disk.write(0, &sectors(&[1, 1])).expect("it fits");
        assert_eq!(disk.flush(), 2);
        disk.write(SECTOR, &sectors(&[2, 2])).expect("it fits");
        assert_eq!(disk.read(0, 3 * SECTOR).expect("it is there"), sectors(&[1, 2, 2]));
        assert_eq!(disk.cut(Remains::Nothing, &mut Seed::new(1)), 2);
        assert_eq!(disk.read(0, 3 * SECTOR).expect("it is there"), sectors(&[1, 1, 0]));
    }

    #[test]
    fn a_random_part_remains_sector_by_sector() {
        let mut disk = Cached::new(sectors(&[0; 400]));
        disk.write(0, &sectors(&[1; 400])).expect("it fits");
        let lost = disk.cut(Remains::Random, &mut Seed::new(7));
        let kept = disk.read(0, 400 * SECTOR).expect("it is there").chunks_exact(SECTOR).filter(|s| s[0] == 1).count();
        assert_eq!(kept + lost, 400);
        assert!((100..300).contains(&lost), "{lost} of 400: that is no coin");
    }

    #[test]
    fn an_older_write_may_survive_the_newer() {
        let old_survives = |seed| {
            let mut disk = Cached::new(sectors(&[0]));
            disk.write(0, &sectors(&[1])).and_then(|()| disk.write(0, &sectors(&[2]))).expect("it fits");
            disk.cut(Remains::Random, &mut Seed::new(seed));
            disk.read(0, SECTOR).expect("it is there")[0] == 1
        };
        assert!((0..50).any(old_survives) && !(0..50).all(old_survives));
    }

    #[test]
    fn beyond_the_end_and_between_sectors_there_is_nothing() {
        let mut disk = Cached::new(sectors(&[0, 0]));
        assert!(disk.read(SECTOR, 2 * SECTOR).is_none());
        assert!(disk.write(1, &sectors(&[1])).is_none());
        assert!(disk.read(usize::MAX - 511, SECTOR).is_none());
    }
}
