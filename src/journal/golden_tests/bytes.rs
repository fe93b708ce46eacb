//! What version 0.1.0 wrote is written again to the byte: each entry behind its version, each header, seal and record, not
//! only what it says.

use std::fs;
use std::path::PathBuf;

use super::golden;
use crate::journal::core::epoch::JournalMeta;
use crate::journal::core::times::Times;
use crate::journal::disk::chunk::{self, Chunk, Kind};
use crate::journal::disk::cursor::Cursor;
use crate::journal::disk::entry;
use crate::journal::disk::scan::Scan;
use crate::journal::disk::segment::{Header, Seal};

const JOURNALS: [&str; 2] = ["cut-short.tree", "ended-in-order.tree"];

/// The directories of all segments, also of those that are put aside.
fn segments(journal: &std::path::Path) -> Vec<PathBuf> {
    let dirs = [journal.to_owned(), journal.join("quarantine")];
    let entries = dirs.iter().flat_map(|dir| fs::read_dir(dir).into_iter().flatten().flatten());
    entries.map(|entry| entry.path()).filter(|path| path.join("db").exists()).collect()
}

#[test]
fn entries_headers_and_seals_of_0_1_0_are_written_again_to_the_byte_but_for_their_version() {
    let (mut entries, mut in_parts, mut squeezed, mut seals) = (0, 0, 0, 0);
    for name in JOURNALS {
        let (_dir, journal) = golden(name);
        for segment in segments(&journal) {
            let ready = chunk::split(&fs::read(segment.join("ready")).expect("a marker"));
            let header = Header::from_frames(&ready).expect("a header");
            assert_eq!(header.to_chunk().map(|chunk| chunk.frames()), Some(ready));
            if let Ok(seal) = fs::read(segment.join("seal")) {
                assert_eq!(Seal::read(&seal).ok().and_then(|seal| seal.write()), Some(seal));
                seals += 1;
            }
            let mut scan = Scan::of(&segment.join("db")).expect("it can be read");
            let mut found = scan.at_or_before(0).expect("it can be read");
            while let Some(frames) = found {
                let chunk = Chunk::join(&frames).expect("it is whole");
                assert_eq!(chunk.kind, Kind::Entries);
                let is_squeezed = frames[0][53] & 2 != 0;
                assert_eq!(if is_squeezed { chunk.frames() } else { chunk.frames_as_is() }, frames);
                for range in chunk.entries().expect("it has entries") {
                    let window = entry::decode(&chunk.body[range.clone()], header.boot).expect("it can be read");
                    let again = entry::encode(&window, header.boot).expect("it can be written");
                    // Version 2, and none of its own events.
                    let (version, body) = again.bytes.split_at(2);
                    assert_eq!((version, body), (&[2, 0][..], &chunk.body[range][1..]));
                    entries += 1;
                }
                squeezed += u32::from(is_squeezed);
                in_parts += u32::from(frames.len() > 1);
                found = scan.after(chunk.first.0).expect("it can be read");
            }
        }
    }
    assert!(entries > 100 && squeezed > 10 && in_parts == 2 && seals > 7, "{entries} {squeezed} {in_parts} {seals}");
}

#[test]
fn records_of_0_1_0_are_written_again_to_the_byte() {
    // A slot may hold the rest of an older, longer record.
    let same = |name: &str, bytes: &[u8], again: Option<Vec<u8>>| {
        let again = again.unwrap_or_else(|| panic!("{name} cannot be read"));
        assert_eq!(bytes.get(..again.len()), Some(&again[..]), "{name}");
    };
    for name in JOURNALS {
        let (_dir, journal) = golden(name);
        let read = |name: &str| fs::read(journal.join(name)).expect("a record");
        let life = read("life");
        same("life", &life, JournalMeta::read(&life).ok().and_then(|life| life.write()));
        let times = read("times");
        same("times", &times, Times::rewritten(&times));
        for slot in ["cursor-a", "cursor-b"].into_iter().filter(|slot| journal.join(slot).exists()) {
            let cursor = read(slot);
            same(slot, &cursor, Cursor::read(&cursor).ok().and_then(|cursor| cursor.write()));
        }
    }
}
