//! What newer programs left behind, as far as an older one can know it. Nothing of it is touched; see `disk::newer`.

use crate::journal::core::epoch::JournalMeta;
use crate::journal::core::times::TimesBeside;
use crate::journal::disk::newer::NewerRecord;
use crate::journal::disk::record::Record;
use crate::journal::disk::v1::record as v1;

/// What the records of newer programs say.
#[derive(Debug, Default)]
pub(in crate::journal) struct NewerRecords {
    /// Their names, each with its version.
    pub(super) names: Vec<String>,
    /// The newest life.
    pub(in crate::journal) meta: Option<JournalMeta>,
    /// No number below was left unused; 0: no cursor says.
    pub(super) next: u64,
    pub(super) times: Option<TimesBeside>,
}

impl NewerRecords {
    pub(in crate::journal) fn of(records: &[NewerRecord]) -> Self {
        let mut found = Self::default();
        for NewerRecord { name, record, version, bytes } in records {
            found.names.push(format!("{name} (version {version})"));
            match record {
                Record::Life => {
                    let meta = JournalMeta::begin_of(bytes);
                    if meta.as_ref().map(|meta| meta.epoch) > found.meta.as_ref().map(|meta| meta.epoch) {
                        found.meta = meta;
                    }
                }
                Record::CursorA | Record::CursorB => {
                    let next = v1::begin_of_cursor(bytes).map_or(0, |(_, next)| next);
                    found.next = found.next.max(next);
                }
                Record::Times => {
                    let times = TimesBeside::of(bytes);
                    // Each label is at most the highest of one of them. Of two that end alike the newest program's counts.
                    if times.map(|times| times.high()) >= found.times.map(|times| times.high()) {
                        found.times = times;
                    }
                }
                // How long it has lived, who found which times, and how things stood then, is its own business.
                Record::Lived | Record::Deciders | Record::Checkpoint => {}
            }
        }
        found
    }

    pub(in crate::journal) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

/// What is left alone, in words: these records, and segments of so many bytes from this number on.
pub(super) fn in_words(names: &[String], segments: Option<(usize, u64, u64)>) -> String {
    let segments = segments
        .map(|(count, first, bytes)| format!("{count} segments with {bytes} bytes, the first of them {first:016x}"));
    let all: Vec<String> = segments.into_iter().chain(names.iter().cloned()).collect();
    format!(
        "a newer program has written {}; this one leaves that alone, and entries in it wait: run the newer program again, it \
         delivers them (`v2g-edge journal list` names the segments). They count towards journal.bytes_max and give way to \
         nothing",
        all.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record of times in a later version, with this for its highest label.
    fn times(version: u16, high: Option<i64>) -> NewerRecord {
        let body = postcard::to_stdvec(&v1::Times::new(None, high, high, 0)).expect("it can be written");
        let mut bytes = crate::journal::disk::record::frame(*b"V2GA", &body).expect("it is short");
        bytes[7] = u8::try_from(version - 1).expect("small");
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[4..8]), &body);
        bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        NewerRecord { name: format!("times-{version}"), record: Record::Times, version, bytes }
    }

    #[test]
    fn of_two_records_of_times_the_one_with_the_highest_label_counts() {
        for (records, expected) in [
            ([times(2, Some(9)), times(3, Some(5))], Some(9)),
            ([times(2, Some(5)), times(3, Some(9))], Some(9)),
            ([times(2, Some(5)), times(3, None)], Some(5)),
        ] {
            assert_eq!(NewerRecords::of(&records).times.and_then(|times| times.high()), expected);
        }
        let mut damaged = times(3, Some(9));
        damaged.bytes.pop();
        let found = NewerRecords::of(&[times(2, Some(5)), damaged]);
        assert_eq!(found.times.and_then(|times| times.high()), Some(5));
    }
}
