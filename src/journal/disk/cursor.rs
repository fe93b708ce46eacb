//! How far the record has been settled: which numbers are acknowledged or told as lost, and which comes next.
//!
//! Two slots take turns. The slot that was last written durably is never touched until the other one is durable, so a
//! cut while writing leaves the older one. An old cursor costs repeats, never a loss; a segment is removed only after
//! the cursor that says so is durable.

use std::borrow::Cow;

use crate::journal::disk::unreadable::Unreadable;
use crate::journal::disk::v1::record as v1;

/// The most ranges that are written: 64 KiB at 16 bytes. Each is a hole in what is settled, and holes come from a live
/// lane that jumped ahead; a network that flaps every ten seconds for twelve hours makes as many. The newest are left
/// out: their numbers are sent again after a restart.
const RANGES_MAX: usize = 4_096;

/// One state of the cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::journal) struct Cursor {
    /// Counts durable writes; the higher of two whole slots is the valid one.
    pub(in crate::journal) generation: u64,
    /// No number below it is used again.
    pub(in crate::journal) next: u64,
    /// What is settled, ascending, inclusive.
    pub(in crate::journal) settled: Vec<(u64, u64)>,
    /// Whether ranges were left out.
    pub(in crate::journal) shortened: bool,
    /// The segments, by their first numbers, of which something was handed out that is not settled. Durable before it
    /// is handed out: what may have been published is never rewritten under other numbers. `None`: an older agent
    /// wrote it, and nobody knows.
    pub(in crate::journal) published: Option<Vec<u64>>,
}

impl Cursor {
    pub(in crate::journal) fn new(
        generation: u64,
        next: u64,
        settled: impl Iterator<Item = (u64, u64)>,
        published: Vec<u64>,
    ) -> Self {
        let mut settled: Vec<_> = settled.take(RANGES_MAX + 1).collect();
        let shortened = settled.len() > RANGES_MAX;
        settled.truncate(RANGES_MAX);
        Self { generation, next, settled, shortened, published: Some(published) }
    }

    pub(in crate::journal) fn write(&self) -> Option<Vec<u8>> {
        let Self { generation, next, settled, shortened, published } = self;
        let settled = Cow::Borrowed(settled.as_slice());
        let cursor = v1::Cursor { generation: *generation, next: *next, settled, shortened: *shortened };
        v1::write_cursor(&cursor, published.as_deref().unwrap_or_default())
    }

    pub(in crate::journal) fn read(bytes: &[u8]) -> Result<Self, Unreadable> {
        let (v1::Cursor { generation, next, settled, shortened }, published) = v1::read_cursor(bytes)?;
        Ok(Self { generation, next, settled: settled.into_owned(), shortened, published })
    }

    /// The valid one of the two slots, and whether it is the second.
    pub(in crate::journal) fn choose(slots: [Option<Vec<u8>>; 2]) -> Option<(Self, bool)> {
        let [a, b] = slots.map(|bytes| bytes.and_then(|b| Self::read(&b).ok()));
        match (a, b) {
            (Some(a), Some(b)) if b.generation > a.generation => Some((b, true)),
            (Some(a), _) => Some((a, false)),
            (None, b) => b.map(|b| (b, true)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newer_whole_slot_counts() {
        let old = Cursor::new(4, 10, [(1, 3)].into_iter(), vec![]);
        let new = Cursor::new(5, 20, [(1, 9)].into_iter(), vec![4]);
        assert_eq!(Cursor::choose([old.write(), new.write()]), Some((new.clone(), true)));
        let mut torn = new.write().expect("it can be written");
        torn.pop();
        assert_eq!(Cursor::choose([old.write(), Some(torn)]), Some((old, false)));
        assert_eq!(Cursor::choose([None, None]), None);
    }

    #[test]
    fn too_many_holes_cost_repeats_and_not_memory() {
        let cursor = Cursor::new(1, 99_999, (0..5_000).map(|i| (i * 2, i * 2)), vec![]);
        assert_eq!((cursor.settled.len(), cursor.shortened), (RANGES_MAX, true));
    }
}
