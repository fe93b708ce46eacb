//! The domain as it may be one day: each type that is written has a field or a variant more. Read through the types of
//! version 1 the golden journal is there as a whole; with serde derives of the domain's own types, as it was before those,
//! nothing of it is what it was. So what keeps it is the conversions, and not luck.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::golden;
use crate::journal::disk::chunk::Chunk;
use crate::journal::disk::segment::Header;
use crate::journal::disk::v1;
use crate::journal::offline::archive::{Archive, Piece, walk};
use crate::measure;

/// A type with a variant more, at the beginning: who adds one in the order of the alphabet does this.
macro_rules! with_one_more {
    ($($name:ident = $domain:path { $($variant:ident),+ })+) => {$(
        #[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
        #[allow(dead_code, reason = "nobody has written it yet")]
        enum $name { Added, $($variant),+ }

        impl From<$domain> for $name {
            fn from(value: $domain) -> Self {
                use $domain as Domain;
                match value { $(Domain::$variant => Self::$variant),+ }
            }
        }
    )+};
}

with_one_more! {
    Missing = measure::Missing { Timeout, Exception, BusOff, Decode, Stale, Overrun }
    Questionable = measure::Questionable {
        OutOfRange, Frozen, Rate, Clock, CounterZero, CounterBackwards, CounterJump
    }
    ClockTrust = measure::ClockTrust { Synced, Holdover, Unsynced, Resolved, Estimated }
    Direction = measure::Direction { GridToVehicle, VehicleToGrid, Idle }
}

/// Of a domain with more in it, what a window tells beside its columns.
#[derive(Debug, PartialEq, Deserialize)]
struct Window {
    boot: Option<[u8; 16]>,
    mono: u64,
    utc: i64,
    trust: ClockTrust,
    length: Duration,
    devices: Vec<Device>,
    present: Vec<u8>,
    codes: Vec<u8>,
    numbers: Vec<u8>,
    texts: Vec<Arc<str>>,
    missing: Vec<Missing>,
    spreads: Vec<(u32, u32, u8)>,
    questionables: Vec<(u32, Questionable)>,
    site: Option<SiteRollup>,
    events: Vec<Event>,
    count: u32,
    bits: u32,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Device {
    device: u16,
    direction: Option<Direction>,
    vehicle: Option<String>,
    width: u16,
    added: Option<u32>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct SiteRollup {
    direction: Direction,
    powers: (f64, f64, f64),
    counts: (u32, u32, u32),
    soc: Option<(f64, f64)>,
    added: Option<f64>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Event {
    device: Option<String>,
    added: Option<u32>,
    kind: String,
}

/// What the later domain makes of a window that version 1 has read: what was not there is not known.
fn converted(window: measure::Window) -> (ClockTrust, Vec<Device>, Option<SiteRollup>, Vec<Event>) {
    let device = |interval: &measure::Interval| Device {
        device: interval.device.0,
        direction: interval.direction.map(Into::into),
        vehicle: interval.vehicle.as_ref().map(ToString::to_string),
        width: interval.points.last().map_or(0, |point| point.point.0 + 1),
        added: None,
    };
    let site = |site: measure::SiteRollup| {
        let power = site.power.expect("version 1 always tells it");
        SiteRollup {
            direction: power.direction.into(),
            powers: (power.flow_kw, power.import_kw, power.export_kw),
            counts: (site.charging, site.discharging, site.unknown),
            soc: site.soc,
            added: None,
        }
    };
    let event = |event: measure::Event| Event {
        device: event.device.as_ref().map(ToString::to_string),
        added: None,
        kind: event.kind.name().to_owned(),
    };
    let devices = window.intervals.iter().map(device).collect();
    (
        window.end.trust.into(),
        devices,
        window.site.map(|told| site(*told)),
        window.events.into_iter().map(event).collect(),
    )
}

/// Every entry of the golden journals, with the boot of its segment.
fn entries() -> Vec<(Vec<u8>, measure::BootId)> {
    let mut all = Vec::new();
    for name in ["cut-short.tree", "ended-in-order.tree"] {
        let (_dir, journal) = golden(name);
        let archive = Archive::open(&journal).expect("a journal");
        for folder in archive.folders() {
            let mut scan = folder.scan().expect("it can be read");
            let header: Header = folder.header(Some(&mut scan)).expect("a header");
            let mut take = |chunk: Chunk| {
                let ranges = chunk.entries().expect("entries");
                all.extend(ranges.into_iter().map(|range| (chunk.body[range].to_vec(), header.boot)));
            };
            let _ = walk(folder, &mut scan, |piece| {
                if let Piece::Chunk(chunk) = piece {
                    take(chunk);
                }
                std::ops::ControlFlow::Continue(())
            });
        }
    }
    all
}

#[test]
fn a_program_whose_types_have_grown_reads_all_of_0_1_0_by_its_conversions_and_nothing_without() {
    let entries = entries();
    let (mut kept, mut by_derives) = (0, 0);
    for (bytes, home) in &entries {
        let window = v1::entry::read(&bytes[1..], *home).expect("version 1 is read for ever");
        let (trust, devices, site, events) = converted(window.clone());
        assert_eq!((devices.len(), events.len()), (window.intervals.len(), window.events.len()));
        kept += 1;
        let derived = postcard::from_bytes::<Window>(&bytes[1..]).ok();
        by_derives += u32::from(derived.is_some_and(|derived| {
            (derived.trust, derived.devices, derived.site, derived.events) == (trust, devices, site, events)
        }));
    }
    assert!(entries.len() > 100 && kept == entries.len(), "{kept} of {}", entries.len());
    assert_eq!(by_derives, 0, "without the conversions nothing would be what it was");
}
