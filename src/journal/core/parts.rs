//! A window that is longer than the longest entry becomes several: of a gateway with 1,000 devices and many points each, or of a moment in
//! which thousands of things happen.
//!
//! Each part is an entry of its own, with the devices that come next; their times are 2 ms apart, as no two entries share one. What the
//! journal itself tells goes with the first. What sums up devices comes with the last of them or behind it, so that after a kill between two
//! parts nothing is in a sum twice: the charging sessions, then with the last part the depot, its quarter-hours, and how things stand
//! after the window.

use crate::journal::disk::entry::{self, Encoded};
use crate::journal::disk::unwritable::Unwritable;
use crate::measure::{BootId, Event, Window};

/// Encodes as much of a window as one entry takes. Answers it, and the parts that are left, in their order; `window` is what was encoded.
pub(super) fn encode_first(window: &mut Window, boot: BootId) -> (Result<Encoded, Unwritable>, Vec<Window>) {
    let mut rest = Vec::new();
    loop {
        let encoded = entry::encode(window, boot);
        if let Err(Unwritable::Long { bytes }) = encoded {
            if let Some(part) = split_off(window) {
                rest.push(part);
                continue;
            }
            if window.checkpoint.take().is_some() {
                tracing::warn!(bytes, "how things stand is longer than an entry: a start has to look further back");
                continue;
            }
        }
        rest.reverse();
        return (encoded, rest);
    }
}

/// Takes the second half of the devices off, with the sessions of all; then the sessions from the devices, then the second half of them.
/// `None`: nothing can be halved. What the journal tells is of no device, and stays.
fn split_off(window: &mut Window) -> Option<Window> {
    let (intervals, sessions) = (window.intervals.len(), window.sessions.len());
    let movable = window.events.iter().filter(|event| event.device.is_some()).count();
    let stay = match (intervals.max(movable), sessions) {
        (2.., _) | (1, 1..) => 0,
        (0, 2..) => sessions - sessions / 2,
        _ => return None,
    };
    let mut part = Window::empty(window.boot, window.end, window.length);
    part.intervals = window.intervals.split_off(intervals - intervals / 2);
    part.sessions = window.sessions.split_off(stay);
    (part.site, part.site_intervals) = (window.site.take(), std::mem::take(&mut window.site_intervals));
    let mut left = movable - movable / 2;
    let stays = |event: &Event| {
        let stays = event.device.is_none() || left > 0;
        left -= usize::from(stays && event.device.is_some());
        stays
    };
    (window.events, part.events) = std::mem::take(&mut window.events).into_iter().partition(stays);
    part.checkpoint = window.checkpoint.take();
    Some(part)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::journal::core::context::WriterContext;
    use crate::journal::core::journal_core::JournalCore;
    use crate::journal::core::limits::Limits;
    use crate::journal::core::recovery;
    use crate::journal::disk::chunk::ENTRY_BYTES_MAX;
    use crate::journal::disk::mem_store::MemStore;
    use crate::journal::line::Lane;
    use crate::journal::testing::{charging_session, depot_schema, depot_window, stamp};
    use crate::measure::{
        Checkpoint, ClockTrust, Energy, EnergyDelta, EnergySource, EventKind, Interval, IntervalValue, Mono,
        SessionState, SiteRollup, Statistic, Utc,
    };
    use crate::spec::DeviceIx;

    const BOOT: BootId = BootId([7; 16]);

    /// 1,000 devices with 60 points, each read several times in it; and something happens to each of them.
    fn long() -> Window {
        let mut window = depot_window(1_000, 60, 1);
        for point in window.intervals.iter_mut().flat_map(|interval| &mut interval.points) {
            let IntervalValue::Float(Statistic { value, .. }) = point.value else { panic!("a number") };
            let (min, max) = (value - 0.1, value + 0.1);
            point.value = IntervalValue::Float(Statistic { value, min, max, count: 3 });
        }
        let device = |n: u16| format!("evse-{n:03}").as_str().try_into().expect("a name");
        window.events =
            (0..1_000).map(|n| Event { device: Some(device(n)), kind: EventKind::DeviceAnswering }).collect();
        window.events.push(Event { device: None, kind: EventKind::Stopping });
        window.sessions = (0..1_000).map(|n| charging_session(n, "6f1c", SessionState::Running)).collect();
        window.site = Some(Box::default());
        window.checkpoint = Some(Arc::new(Checkpoint::default()));
        window
    }

    /// It was told as a gap: all values of all devices were lost, window after window.
    #[test]
    fn a_window_that_is_longer_than_an_entry_is_kept_in_several_and_nothing_of_it_is_lost() {
        let whole = long();
        let (mut left, mut parts) = (vec![whole.clone()], Vec::new());
        while let Some(mut window) = left.pop() {
            let (encoded, rest) = encode_first(&mut window, BOOT);
            assert!(encoded.expect("it can be written").bytes.len() <= ENTRY_BYTES_MAX);
            left.extend(rest.into_iter().rev());
            parts.push(window);
        }
        assert!((3..=8).contains(&parts.len()), "{} parts", parts.len());
        let mut joined = parts[0].clone();
        for part in &parts[1..] {
            assert_eq!(part.end, whole.end);
            joined.intervals.extend(part.intervals.clone());
            joined.sessions.extend(part.sessions.clone());
            joined.events.extend(part.events.clone());
        }
        let last = parts.len() - 1;
        let with: Vec<usize> = (0..parts.len()).filter(|n| parts[*n].checkpoint.is_some()).collect();
        assert_eq!((with, joined.intervals, joined.sessions), (vec![last], whole.intervals, whole.sessions));
        assert!(parts[..last].iter().all(|part| part.site.is_none()) && parts[last].site == whole.site);
        let of_devices = |events: Vec<Event>| events.into_iter().filter(|event| event.device.is_some()).collect();
        let (told, expected): (Vec<_>, Vec<_>) = (of_devices(joined.events), of_devices(whole.events));
        assert_eq!(told, expected);
        assert!(parts[0].events.iter().any(|event| event.kind == EventKind::Stopping));
    }

    #[test]
    fn the_parts_of_a_window_go_out_one_after_the_other_each_with_a_time_of_its_own() {
        let (schema, mut store) = (depot_schema("gw-01", 1_000, 60), MemStore::default());
        let start = recovery::start(&mut store, &schema, BOOT, stamp(0)).expect("the medium works");
        let context = WriterContext { epoch: start.epoch, boot: BOOT, schema: Arc::new(schema) };
        let mut core = JournalCore::new(Some(store), Limits::boundless(), context, start);
        let (whole, now) = (long(), Duration::from_millis(250));
        core.append(whole.clone(), now);
        core.commit(now);
        let entries = core.lease(Lane::History, 100);
        assert_eq!(entries.iter().map(|entry| entry.window.points()).sum::<u64>(), whole.points());
        assert!(entries.iter().all(|entry| entry.window.gaps().next().is_none()));
        let times: Vec<i64> = entries.iter().map(|entry| entry.window.end.utc.0 - whole.end.utc.0).collect();
        assert_eq!(times, [0, 2_000_000, 4_000_000, 6_000_000]);
        let until: Vec<Utc> = entries
            .iter()
            .flat_map(|entry| {
                let end = entry.window.end.utc;
                entry.window.sessions.iter().map(move |told| told.until.utc(end))
            })
            .collect();
        let told = Utc(whole.end.utc.0 - 1_000_000_000);
        assert!(
            until.len() == 1_000 && until.iter().all(|until| *until == told),
            "a session is where its window tells it"
        );
    }

    /// The window ends with a quarter-hour: its parts end behind it. What its sessions had told was counted twice after a kill.
    #[test]
    fn a_start_goes_on_from_the_parts_of_a_window_as_from_the_whole() {
        for trust in [ClockTrust::Synced, ClockTrust::Unsynced] {
            let schema = depot_schema("gw-01", 1_000, 60);
            let mut store = MemStore::default();
            let start = recovery::start(&mut store, &schema, BOOT, stamp(0)).expect("the medium works");
            let context = WriterContext { epoch: start.epoch, boot: BOOT, schema: Arc::new(schema.clone()) };
            let mut core = JournalCore::new(Some(store), Limits::boundless(), context, start);
            let (mut stands, mut before, mut whole) = (Checkpoint::default(), depot_window(0, 0, 0), charging());
            (before.end, whole.end.mono) = (stamp(1_000_000_000), Mono(900_000_000_000));
            before.sessions = (0..1_000).map(|n| charging_session(n, "6f1c", SessionState::Running)).collect();
            before.advance(&mut stands, &schema);
            before.checkpoint = Some(Arc::new(stands.clone()));
            whole.end.utc = stamp(900_000_000_000).utc;
            (before.end.trust, whole.end.trust) = (trust, trust);
            whole.advance(&mut stands, &schema);
            for window in [before, whole] {
                core.append(window, Duration::from_millis(250));
            }
            core.commit(Duration::from_millis(250));
            let mut store = core.into_store().expect("it has one").after_kill();
            let found = recovery::start(&mut store, &schema, BOOT, stamp(901_000_000_000)).expect("the medium works");
            assert_eq!(found.checkpoint.sessions, stands.sessions);
            assert!(found.checkpoint == stands && stands.site.newest.is_some_and(|quarter| quarter.is_complete));
        }
    }

    /// All devices charge and have counted some; of each third the session is told, of some of those its end.
    fn charging() -> Window {
        let mut window = Window { checkpoint: None, ..long() };
        let energy = |mwh| {
            let import = Some(EnergyDelta { mwh, source: EnergySource::Register });
            Energy { import, export: None, known: Some(Duration::from_millis(250)) }
        };
        for interval in &mut window.intervals {
            interval.session = Some("6f1c".try_into().expect("a name"));
            interval.energy = energy(7);
        }
        let state = |n: u16| if n.is_multiple_of(2) { SessionState::Ended } else { SessionState::Paused };
        window.sessions = (0..1_000).step_by(3).map(|n| charging_session(n, "6f1c", state(n))).collect();
        window.site = Some(Box::new(SiteRollup { energy: energy(7_000), ..SiteRollup::default() }));
        window
    }

    proptest! {
        /// However often it is halved.
        #[test]
        fn what_stands_after_the_parts_of_a_window_is_what_stands_after_it(
            intervals in prop::collection::vec((0_u16..5, 0_u8..3, 1_u64..100), 0..8),
            told_now in prop::collection::vec((0_u16..5, 0_u8..3, any::<bool>()), 0..8),
            open in prop::collection::vec((0_u16..5, 0_u8..3), 0..5),
            splits in prop::collection::vec(any::<bool>(), 64),
        ) {
            let (schema, id) = (depot_schema("gw-01", 5, 1), |id: u8| format!("{id:04}"));
            let running = |(device, n): (u16, u8)| charging_session(device, &id(n), SessionState::Running);
            let mut stands = Checkpoint::default();
            Window { sessions: open.into_iter().map(running).collect(), ..depot_window(0, 0, 1) }
                .advance(&mut stands, &schema);
            let interval = |(device, n, mwh): (u16, u8, u64)| {
                let import = Some(EnergyDelta { mwh, source: EnergySource::Power });
                let session = Some(id(n).as_str().try_into().expect("a name"));
                let energy = Energy { import, export: None, known: None };
                Interval { device: DeviceIx(device), session, energy, ..depot_window(1, 1, 2).intervals.remove(0) }
            };
            let state = |is_over| if is_over { SessionState::Ended } else { SessionState::Running };
            let told = |(device, n, is_over): (u16, u8, bool)| charging_session(device, &id(n), state(is_over));
            let mut whole = Window { site: Some(Box::default()), ..depot_window(0, 0, 2) };
            whole.intervals = intervals.into_iter().map(interval).collect();
            whole.sessions = told_now.into_iter().map(told).collect();
            let (mut left, mut splits, mut of_parts) = (vec![whole.clone()], splits.into_iter(), stands.clone());
            let mut is_told = BTreeSet::new();
            while let Some(mut part) = left.pop() {
                if splits.next() == Some(true) && let Some(rest) = split_off(&mut part) {
                    left.extend([rest, part]);
                    continue;
                }
                // After a kill before the next part it is in no sum twice.
                prop_assert!(part.intervals.iter().all(|interval| !is_told.contains(&interval.device)));
                prop_assert_eq!(part.site.is_some(), left.is_empty());
                is_told.extend(part.sessions.iter().map(|told| told.device));
                part.advance(&mut of_parts, &schema);
            }
            whole.advance(&mut stands, &schema);
            prop_assert_eq!(of_parts, stands);
        }
    }
}
