//! A depot with devices of kinds that version 1 has no words for: a program of version 1 leaves their segments alone, this one delivers
//! them, and the segments of before stay as version 1 wrote them.

use std::collections::BTreeMap;
use std::fs;

use super::depot::{NOON_NS, after_change, second_schema};
use super::{Lived, boot};
use crate::journal::disk::chunk::{self, Chunk};
use crate::journal::disk::unreadable::Unreadable;
use crate::journal::disk::v1;
use crate::journal::line::Lane;
use crate::measure::{ClockTrust, Schema};
use crate::spec::DeviceKind;

fn with_kinds(kinds: [DeviceKind; 2]) -> Schema {
    let mut schema = second_schema();
    for (series, kind) in schema.series.iter_mut().zip(kinds) {
        series.kind = kind;
    }
    schema
}

#[test]
fn kinds_that_version_1_has_no_words_for_outlive_a_restart_and_version_1_leaves_their_segments_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = dir.path().join("journal");
    let synced = |n| boot(n, NOON_NS + i64::from(n), ClockTrust::Synced);
    let (usual, battery) = (second_schema(), with_kinds([DeviceKind::Battery, DeviceKind::Inverter]));
    for (n, schema) in [(1, &usual), (2, &battery)] {
        let mut life = Lived::begin(&journal, schema.clone(), synced(n));
        life.keep((1..=3).map(|window| after_change(synced(n), window)));
        life.end();
    }

    let mut by_version_1 = Vec::new();
    let mut names: Vec<_> = fs::read_dir(&journal).expect("a journal").flatten().map(|entry| entry.path()).collect();
    names.sort();
    for ready in names.iter().map(|segment| segment.join("ready")).filter(|ready| ready.exists()) {
        let header = Chunk::join(&chunk::split(&fs::read(ready).expect("a marker"))).expect("a header");
        by_version_1.push(v1::schema::read(&header.body).map(|(_, schema)| schema));
    }
    assert_eq!(by_version_1, [Ok(usual.clone()), Err(Unreadable::Newer { version: 2 })]);

    let mut life = Lived::begin(&journal, usual.clone(), synced(3));
    let mut told = BTreeMap::new();
    for entry in life.core.lease(Lane::History, 100) {
        told.entry(entry.identity.epoch).or_insert_with(|| (*entry.schema).clone());
    }
    assert_eq!(told.into_values().collect::<Vec<_>>(), [usual, battery]);
}
