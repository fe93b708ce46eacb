//! Where the cursor stands: what was saved of it, when, and in which of its two slots. It touches no medium.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::journal::disk::cursor::Cursor;
use crate::journal::disk::record::Record;
use crate::journal::disk::store::Durably;

/// What is settled is written at least this often: what a kill may repeat.
const CURSOR_SAVE: Duration = Duration::from_secs(1);
/// And made durable at least this often: what a power cut may repeat. Each costs a sync of the disk.
const CURSOR_SYNC: Duration = Duration::from_secs(10);

/// See the module's head.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    generation: u64,
    /// Whether the newest durable slot is the second.
    second: bool,
    /// Something was settled since the last save.
    dirty: bool,
    /// It was saved since the last durable save.
    unsynced: bool,
    saved_at: Duration,
    synced_at: Duration,
    /// Segments of which something was handed out, as the cursor says it.
    published: BTreeSet<u64>,
    /// One of them is not noted durably yet.
    unnoted: bool,
}

impl Ledger {
    /// After a start that has found this cursor: the next save supersedes it.
    pub(super) fn after(generation: u64, second: bool, published: BTreeSet<u64>) -> Self {
        Self { generation, second, published, dirty: true, ..Self::default() }
    }

    /// Something was settled.
    pub(super) fn touch(&mut self) {
        self.dirty = true;
    }

    /// Something of this segment goes out, or has gone out from memory before the segment was written.
    pub(super) fn note_published(&mut self, segment: u64) {
        self.unnoted |= self.published.insert(segment);
    }

    /// Nobody has anything of this segment: the next cursor says so.
    pub(super) fn take_back_publication(&mut self, segment: u64) {
        self.dirty |= self.published.remove(&segment);
    }

    /// Whether something goes out of which the durable cursor does not know.
    pub(super) fn lacks_publication(&self) -> bool {
        self.unnoted
    }

    #[cfg(test)]
    pub(super) fn notes_publication_of(&self, segment: u64) -> bool {
        self.published.contains(&segment)
    }

    /// When it was saved last.
    pub(super) fn saved_at(&self) -> Duration {
        self.saved_at
    }

    /// Whether it is time to save it, and how.
    pub(super) fn is_due(&self, now: Duration) -> Option<Durably> {
        if (self.dirty || self.unsynced) && now >= self.synced_at + CURSOR_SYNC {
            Some(Durably::Yes)
        } else if self.dirty && now >= self.saved_at + CURSOR_SAVE {
            Some(Durably::No)
        } else {
            None
        }
    }

    /// The cursor that supersedes the one before, and its slot: never the one that is the newest durable one. Of the
    /// segments that are not `there` any more it says nothing.
    pub(super) fn cursor(
        &mut self,
        next: u64,
        settled: impl Iterator<Item = (u64, u64)>,
        there: impl Fn(u64) -> bool,
    ) -> (Cursor, Record) {
        self.published.retain(|first| there(*first));
        let published = self.published.iter().copied().collect();
        let slot = if self.second { Record::CursorA } else { Record::CursorB };
        (Cursor::new(self.generation + 1, next, settled, published), slot)
    }

    /// It was saved so.
    pub(super) fn saved(&mut self, durably: Durably, now: Duration) {
        self.dirty = false;
        self.unsynced = durably == Durably::No;
        self.saved_at = now;
        if durably == Durably::Yes {
            self.generation += 1;
            self.second = !self.second;
            self.synced_at = now;
            self.unnoted = false;
        }
    }
}
