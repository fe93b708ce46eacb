//! The jobs that wait for the owner of a port. Pure.
//!
//! One task owns a port, and all that happens on it is a [`Job`] of this queue. Of each block of a device at most one read
//! waits, so that what cannot be done in time never piles up.

use hal::Ahead;

use super::unit::Key;
use crate::measure::Mono;
use crate::spec::RegisterBlock;

/// Reads that may wait at once: each of 512 points of each of 1,000 devices (the most that a plan may have) in a request of its
/// own. At 64 bytes each, 8 MiB in a case that no bus could serve; in the usual one some dozens.
pub(super) const JOBS_MAX: usize = 1_000 * 512;

/// What the owner of a port is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Job {
    /// Read a block.
    Read(Read),
}

/// One block of one device, by their places in the port's lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Read {
    pub(super) device: usize,
    pub(super) group: usize,
    pub(super) block: RegisterBlock,
    /// Why it is read.
    pub(super) why: Why,
    /// Which requests that were given up before it are waited for, too: they may be in its way.
    pub(super) ahead: Ahead,
    /// When its group is due again.
    pub(super) until: Mono,
    /// Whether it has been tried before.
    pub(super) is_again: bool,
    /// Whether it goes before what else is due of its device.
    pub(super) is_hurried: bool,
    /// Of which poll of the device it is.
    pub(super) poll: u64,
}

/// Why a block is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Its group is due.
    Due,
    /// It was silent, and this is to find out whether it still is.
    Probe {
        /// Whether it is over before anybody else is due.
        fits: bool,
    },
    /// Another block of its unit is silent: does the unit still answer at all?
    Check,
}

impl Read {
    /// Which block of its device.
    pub(super) fn key(&self) -> Key {
        Key { group: self.group, block: self.block }
    }
}

/// What waits, in the order in which it came.
#[derive(Debug, Default)]
pub(super) struct Queue {
    reads: Vec<Read>,
}

impl Queue {
    /// Nothing more may be put in before something is taken out.
    pub(super) fn is_full(&self) -> bool {
        self.reads.len() >= JOBS_MAX
    }

    /// A read of a block that already waits, or that finds no room, is not put in. A check that waits becomes due by one that is:
    /// what comes of it is told.
    pub(super) fn push(&mut self, read: Read) {
        let is_full = self.is_full();
        match self.reads.iter_mut().find(|waiting| waiting.device == read.device && waiting.key() == read.key()) {
            Some(waiting) if waiting.why == Why::Check => waiting.why = read.why,
            None if !is_full => self.reads.push(read),
            Some(_) | None => {}
        }
    }

    /// As [`Queue::push`], before all others that are hurried.
    pub(super) fn push_first(&mut self, read: Read) {
        if !self.is_full() && !self.holds(read.device, read.key()) {
            self.reads.insert(0, read);
        }
    }

    /// Puts a read in, or lets the one of its block that waits already go as early as this.
    pub(super) fn hurry(&mut self, read: Read) {
        match self.reads.iter_mut().find(|waiting| waiting.device == read.device && waiting.key() == read.key()) {
            Some(waiting) => waiting.is_hurried = true,
            None => self.push(read),
        }
    }

    pub(super) fn holds(&self, device: usize, key: Key) -> bool {
        self.reads.iter().any(|read| read.device == device && read.key() == key)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Read> {
        self.reads.iter()
    }

    /// Takes the first that is so.
    pub(super) fn take_first(&mut self, is_so: impl Fn(&Read) -> bool) -> Option<Read> {
        let at = self.reads.iter().position(is_so)?;
        Some(self.reads.remove(at))
    }

    /// Takes the one of those that are so which comes first in this order.
    pub(super) fn take_min<K: Ord>(
        &mut self,
        is_so: impl Fn(&Read) -> bool,
        order: impl Fn(&Read) -> K,
    ) -> Option<Read> {
        let candidates = (0..self.reads.len()).filter(|at| is_so(&self.reads[*at]));
        let at = candidates.min_by_key(|at| order(&self.reads[*at]))?;
        Some(self.reads.remove(at))
    }

    /// Drops those that are not so.
    pub(super) fn retain(&mut self, is_so: impl Fn(&Read) -> bool) {
        self.reads.retain(is_so);
    }
}
