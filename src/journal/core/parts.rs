//! A window that is longer than the longest entry becomes several: of a gateway with 1,000 devices and many points each, or of a moment in
//! which thousands of things happen.
//!
//! Each part is an entry of its own, with the devices that come next; their times are 2 ms apart, as no two entries share one. The
//! roll-up of the site and what the journal itself tells go with the first, how things stand after the window with the last.

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

/// Takes the second half off; `None`: nothing can be halved. What the journal tells is of no device, and stays.
fn split_off(window: &mut Window) -> Option<Window> {
    let (intervals, sessions) = (window.intervals.len(), window.sessions.len());
    let movable = window.events.iter().filter(|event| event.device.is_some()).count();
    if intervals.max(sessions).max(movable) < 2 {
        return None;
    }
    let mut part = Window::empty(window.boot, window.end, window.length);
    part.intervals = window.intervals.split_off(intervals - intervals / 2);
    part.sessions = window.sessions.split_off(sessions - sessions / 2);
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
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::journal::core::context::WriterContext;
    use crate::journal::core::journal_core::JournalCore;
    use crate::journal::core::limits::Limits;
    use crate::journal::core::recovery;
    use crate::journal::disk::chunk::ENTRY_BYTES_MAX;
    use crate::journal::disk::mem_store::MemStore;
    use crate::journal::line::Lane;
    use crate::journal::testing::{charging_session, depot_schema, depot_window, stamp};
    use crate::measure::{Checkpoint, EventKind, IntervalValue, SessionState, Statistic};

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
            assert_eq!((part.end, &part.site), (whole.end, &None));
            joined.intervals.extend(part.intervals.clone());
            joined.sessions.extend(part.sessions.clone());
            joined.events.extend(part.events.clone());
        }
        let last = parts.len() - 1;
        let with: Vec<usize> = (0..parts.len()).filter(|n| parts[*n].checkpoint.is_some()).collect();
        assert_eq!((with, joined.intervals, joined.sessions), (vec![last], whole.intervals, whole.sessions));
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
    }
}
