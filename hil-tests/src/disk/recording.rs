//! What a disk was told, one thing after the other, and what it was before.
//!
//! Kept in memory: as much of it as is written meanwhile.

use super::cache::{Cached, Remains};
use crate::seed::Seed;
use crate::wait::unix_ns;

/// Writes and flushes of a disk in their order.
#[derive(Debug)]
pub struct Recording {
    begin: Cached,
    begin_ns: i64,
    events: Vec<Event>,
}

#[derive(Debug)]
struct Event {
    at_ns: i64,
    what: What,
}

#[derive(Debug)]
enum What {
    Write { offset: usize, data: Vec<u8> },
    Flush,
}

impl Recording {
    pub(super) fn begin(cached: &Cached) -> Self {
        Self { begin: cached.clone(), begin_ns: unix_ns(), events: Vec::new() }
    }

    pub(super) fn write(&mut self, offset: usize, data: &[u8]) {
        self.take(What::Write { offset, data: data.to_vec() });
    }

    pub(super) fn flush(&mut self) {
        self.take(What::Flush);
    }

    fn take(&mut self, what: What) {
        self.events.push(Event { at_ns: unix_ns(), what });
    }

    /// How many writes and flushes.
    #[must_use]
    pub fn events(&self) -> usize {
        self.events.len()
    }

    /// When the first `events` had come, ns since 1970.
    #[must_use]
    pub fn time_after(&self, events: usize) -> i64 {
        self.events.iter().take(events).next_back().map_or(self.begin_ns, |event| event.at_ns)
    }

    /// How many events had come by then.
    #[must_use]
    pub fn events_until(&self, ns: i64) -> usize {
        self.events.partition_point(|event| event.at_ns <= ns)
    }

    /// The numbers of the events that write into this part of the disk: bytes, from 0 on.
    #[must_use]
    pub fn writes_into(&self, begin: u64, length: u64) -> impl DoubleEndedIterator<Item = usize> {
        let touches = move |event: &Event| match &event.what {
            What::Write { offset, data } => {
                let offset = *offset as u64;
                offset < begin + length && offset + data.len() as u64 > begin
            }
            What::Flush => false,
        };
        self.events.iter().enumerate().filter(move |(_, event)| touches(event)).map(|(number, _)| number)
    }

    /// The disk after a cut there, and how many blocks are lost.
    pub(super) fn cut_after(&self, events: usize, remains: Remains, seed: &mut Seed) -> (Cached, usize) {
        let mut cached = self.begin.clone();
        for event in self.events.iter().take(events) {
            match &event.what {
                // It was taken once, by a disk of this length.
                What::Write { offset, data } => drop(cached.write(*offset, data)),
                What::Flush => drop(cached.flush()),
            }
        }
        let lost = cached.cut(remains, seed);
        (cached, lost)
    }
}
