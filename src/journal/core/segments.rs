//! The list of segments: their numbers, what they take, and what is known of each. It touches no medium.

use std::time::Duration;

use crate::journal::disk::segment::Seal;
use crate::journal::resolution::Resolution;

/// A segment in the list. Its last number is one below the next one's first.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    first: u64,
    bytes: u64,
    /// Its seal, if it could not be written to the medium.
    seal: Option<Seal>,
    /// Something in it was not what was written: it is put aside and not removed.
    is_damaged: bool,
    /// It goes as soon as its loss is told.
    is_dropping: bool,
    /// The length of its windows, once somebody has looked.
    resolution: Option<Resolution>,
    /// To downsample it would win nothing.
    is_left_alone: bool,
    /// Whether a newer program wrote it, and in which version, once somebody has looked.
    newer: Option<Option<u16>>,
    /// Whether entries of a newer version lie in it, once somebody has looked.
    holds_newer: Option<bool>,
    /// A look for that failed: not before this is it looked at again.
    look_again_at: Duration,
}

impl Segment {
    pub(super) fn new(first: u64, bytes: u64) -> Self {
        let (is_damaged, is_dropping, is_left_alone) = (false, false, false);
        let (seal, resolution, newer, holds_newer, look_again_at) = (None, None, None, None, Duration::ZERO);
        Self {
            first,
            bytes,
            seal,
            is_damaged,
            is_dropping,
            resolution,
            is_left_alone,
            newer,
            holds_newer,
            look_again_at,
        }
    }

    /// The same, and its windows are known to be of this length.
    pub(super) fn of(self, resolution: Resolution) -> Self {
        Self { resolution: Some(resolution), ..self }
    }

    /// The same, written in this life: nobody has to look whether a newer program did.
    pub(super) fn of_this_life(self) -> Self {
        Self { newer: Some(None), holds_newer: Some(false), ..self }
    }

    pub(super) fn first(&self) -> u64 {
        self.first
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Its seal, if it could not be written to the medium.
    pub(super) fn seal(&self) -> Option<&Seal> {
        self.seal.as_ref()
    }

    pub(super) fn is_damaged(&self) -> bool {
        self.is_damaged
    }

    pub(super) fn is_dropping(&self) -> bool {
        self.is_dropping
    }

    pub(super) fn is_left_alone(&self) -> bool {
        self.is_left_alone
    }

    pub(super) fn resolution(&self) -> Option<Resolution> {
        self.resolution
    }

    /// The version in which a newer program wrote it; `None` also as long as nobody has looked.
    pub(super) fn newer(&self) -> Option<u16> {
        self.newer.flatten()
    }

    /// Whether somebody has looked, and what was found.
    pub(super) fn newer_if_known(&self) -> Option<Option<u16>> {
        self.newer
    }

    pub(super) fn holds_newer(&self) -> Option<bool> {
        self.holds_newer
    }

    /// Not before this is it looked at again; zero: no look failed.
    pub(super) fn look_again_at(&self) -> Duration {
        self.look_again_at
    }

    /// A newer program wrote it, in this version; or `None`.
    pub(super) fn set_newer(&mut self, newer: Option<u16>) {
        self.newer = Some(newer);
    }

    /// Keeps a seal that could not be written.
    pub(super) fn keep_seal(&mut self, seal: Option<Seal>) {
        self.seal = seal;
    }
}

/// All segments, ascending. A place in the list is good until the next one comes or goes.
#[derive(Debug, Clone, Default)]
pub(super) struct Segments {
    list: Vec<Segment>,
}

impl Segments {
    pub(super) fn push(&mut self, segment: Segment) {
        self.list.push(segment);
    }

    /// Takes the newest one out.
    pub(super) fn pop(&mut self) -> Option<Segment> {
        self.list.pop()
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Segment> + ExactSizeIterator + Clone {
        self.list.iter()
    }

    pub(super) fn get(&self, place: usize) -> Option<&Segment> {
        self.list.get(place)
    }

    pub(super) fn oldest(&self) -> Option<&Segment> {
        self.list.first()
    }

    pub(super) fn newest(&self) -> Option<&Segment> {
        self.list.last()
    }

    /// The first number of the segment at this place.
    pub(super) fn first_of(&self, place: usize) -> u64 {
        self.list[place].first
    }

    /// The last number that the segment at this place can have; `newest`: the newest number that is durable.
    pub(super) fn last_of(&self, place: usize, newest: u64) -> u64 {
        self.list.get(place + 1).map_or(newest, |next| next.first - 1)
    }

    /// The place of the segment that has this number.
    pub(super) fn with(&self, number: u64) -> Option<usize> {
        self.list.partition_point(|segment| segment.first <= number).checked_sub(1)
    }

    /// The place of the segment that begins with this number.
    pub(super) fn beginning_with(&self, first: u64) -> Option<usize> {
        self.list.binary_search_by_key(&first, |segment| segment.first).ok()
    }

    /// Bytes of all.
    pub(super) fn bytes(&self) -> u64 {
        self.list.iter().map(|segment| segment.bytes).sum()
    }

    /// Those that newer programs wrote, or entries in them, as far as somebody has looked.
    pub(super) fn newer(&self) -> impl Iterator<Item = &Segment> + Clone {
        self.list.iter().filter(|segment| segment.newer().is_some() || segment.holds_newer() == Some(true))
    }

    /// Bytes of those that newer programs wrote, or entries in them.
    pub(super) fn bytes_of_newer(&self) -> u64 {
        self.newer().map(Segment::bytes).sum()
    }

    /// Bytes of those that go as soon as their loss is told.
    pub(super) fn bytes_dropping(&self) -> u64 {
        self.list.iter().filter(|segment| segment.is_dropping).map(|segment| segment.bytes).sum()
    }

    /// The newest one takes so much by now.
    pub(super) fn set_newest_bytes(&mut self, bytes: u64) {
        if let Some(newest) = self.list.last_mut() {
            newest.bytes = bytes;
        }
    }

    /// The newest one is complete; `seal`: its seal, if it could not be written.
    pub(super) fn complete_newest(&mut self, bytes: u64, seal: Option<Seal>) {
        if let Some(newest) = self.list.last_mut() {
            newest.bytes = bytes;
            newest.seal = seal;
        }
    }

    pub(super) fn set_damaged(&mut self, place: usize) {
        self.list[place].is_damaged = true;
    }

    pub(super) fn set_dropping(&mut self, place: usize) {
        self.list[place].is_dropping = true;
    }

    pub(super) fn set_newer(&mut self, place: usize, newer: Option<u16>) {
        self.list[place].set_newer(newer);
    }

    pub(super) fn set_holds_newer(&mut self, place: usize, holds: bool) {
        self.list[place].holds_newer = Some(holds);
    }

    pub(super) fn look_again_at(&mut self, place: usize, at: Duration) {
        self.list[place].look_again_at = at;
    }

    pub(super) fn set_resolution(&mut self, place: usize, resolution: Resolution) {
        self.list[place].resolution = Some(resolution);
    }

    /// These are not worth another try.
    pub(super) fn leave_alone(&mut self, firsts: &[u64]) {
        for segment in self.list.iter_mut().filter(|segment| firsts.contains(&segment.first)) {
            segment.is_left_alone = true;
        }
    }

    pub(super) fn remove(&mut self, place: usize) {
        self.list.remove(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_counts_as_newer_as_soon_as_anything_in_it_is_known_to_be() {
        let mut segments = Segments::default();
        for (first, bytes) in [(1, 100), (10, 20), (20, 3)] {
            segments.push(Segment::new(first, bytes));
        }
        segments.set_newer(0, Some(2));
        segments.set_holds_newer(1, true);
        segments.set_holds_newer(2, false);
        assert_eq!(segments.bytes_of_newer(), 120);
    }
}
