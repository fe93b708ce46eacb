//! What is in the journal, for whoever asks.

use super::JournalCore;
use crate::journal::core::reader::Fetched;
use crate::journal::disk::store::Store;
use crate::journal::report::{Inventory, SegmentFacts};
use crate::measure::{ClockTrust, Seq, Utc};

impl<S: Store> JournalCore<S> {
    /// All of it, as this life knows it. Reads two small files for each segment.
    pub(in crate::journal) fn inventory(&mut self) -> Inventory {
        let count = self.medium.segments().len();
        let segments: Vec<SegmentFacts> = (0..count).filter_map(|place| self.facts_of(place)).collect();
        // Each was asked what wrote it.
        self.note_newer();
        let oldest = segments.first().filter(|s| s.last >= s.first).map(|s| s.first.0);
        let oldest = oldest.and_then(|number| match self.fetch(number) {
            Fetched::Entry(entry) if entry.window.end.trust != ClockTrust::Unsynced => Some(entry.window.end.utc),
            _ => None,
        });
        let inventory = Inventory {
            gateway: Some(self.context.schema.gateway.clone()),
            site: Some(self.context.schema.site.clone()),
            next: Some(Seq(self.queue.next())),
            quarantined: self.medium.quarantined(),
            oldest,
            newest: segments.iter().rev().find_map(|segment| segment.newest),
            bytes_max: Some(self.limits.bytes_max),
            age_max_s: Some(self.limits.age_max.as_secs()),
            segments,
            ..Inventory::default()
        };
        inventory.concluded()
    }

    fn facts_of(&mut self, place: usize) -> Option<SegmentFacts> {
        let (first, last) = self.medium.span_of(place);
        let active = self.medium.active_seal(first).cloned();
        let sealed = active.is_none();
        let seal = active.or_else(|| self.medium.seal_of(place));
        let newer = self.medium.newer_of(place);
        let epoch = self.medium.header_of(first).map(|header| header.epoch);
        let segment = self.medium.segments().get(place)?;
        Some(SegmentFacts {
            first: Seq(first),
            last: Seq(seal.as_ref().map_or(last, |seal| seal.last)),
            epoch,
            bytes: segment.bytes(),
            points: seal.as_ref().map(|seal| seal.points),
            waiting: self.count_waiting(first, last),
            newest: seal.and_then(|seal| seal.newest_utc).map(Utc),
            sealed,
            damaged: segment.is_damaged(),
            newer,
        })
    }
}
