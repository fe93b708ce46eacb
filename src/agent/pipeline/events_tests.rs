use super::*;
use crate::measure::testing::{LINEAR, growth};
use crate::measure::{Gap, GapReason, Missing, Seq};

const MS: Duration = Duration::from_millis(1);

fn bus(state: &str) -> Event {
    let kind = EventKind::BusState { bus: "can0".try_into().expect("a name"), state: state.into(), detail: "".into() };
    Event { device: None, kind }
}

fn of(device: &str, kind: EventKind) -> Event {
    Event { device: Some(device.try_into().expect("a name")), kind }
}

/// Each told event with the time, in ms, at which it was.
fn told(bound: &mut EventBound, events: impl Iterator<Item = (u32, Event)>, until: u32) -> Vec<(u32, Event)> {
    let (mut told, mut events) = (Vec::new(), events.peekable());
    for at in 0..=until {
        let now = Mono(0) + MS * at;
        while let Some((_, event)) = events.next_if(|(due, _)| *due <= at) {
            bound.take(event, now, &mut |event| told.push((at, event)));
        }
        // As at the end of each window.
        if at % 250 == 0 {
            bound.release(now, &mut |event| told.push((at, event)));
        }
    }
    told
}

fn left_out(told: &[(u32, Event)]) -> u64 {
    let count = |(_, event): &(u32, Event)| {
        if let EventKind::EventsLeftOut { count, .. } = event.kind { count } else { 0 }
    };
    told.iter().map(count).sum()
}

#[test]
fn a_flood_is_told_at_most_once_a_second_and_nothing_of_it_is_uncounted() {
    // 200 changes a second for 8 s: 1,600 events.
    let flood = (0..1_600).map(|n| (n * 5, bus(if n % 2 == 0 { "passive" } else { "active" })));
    let told = told(&mut EventBound::default(), flood, 30_000);
    let states: Vec<u32> =
        told.iter().filter(|(_, e)| matches!(e.kind, EventKind::BusState { .. })).map(|t| t.0).collect();
    assert!(states.windows(2).all(|pair| pair[1] - pair[0] >= 1_000), "{states:?}");
    assert!(told.len() <= 12, "{} events", told.len());
    assert_eq!(states.len() as u64 + left_out(&told), 1_600);
}

#[test]
fn whatever_was_last_is_told_in_the_end() {
    for count in 2..60_u32 {
        for step in [1, 7, 99, 333, 999, 1_000, 1_001] {
            let state = |n: u32| if n.is_multiple_of(2) { "passive" } else { "active" };
            let flood = (0..count).map(|n| (n * step, bus(state(n))));
            let told = told(&mut EventBound::default(), flood, count * step + 12_000);
            let last = told.iter().rev().find(|(_, event)| matches!(event.kind, EventKind::BusState { .. }));
            assert_eq!(last.map(|(_, event)| event), Some(&bus(state(count - 1))), "{count} every {step} ms");
            let states = told.iter().filter(|(_, event)| matches!(event.kind, EventKind::BusState { .. })).count();
            assert_eq!(states as u64 + left_out(&told), u64::from(count), "{count} every {step} ms");
        }
    }
}

#[test]
fn what_comes_at_most_once_a_second_is_told_as_it_comes() {
    let flood = (0..20).map(|n| (n * 1_000, bus(if n % 2 == 0 { "passive" } else { "active" })));
    let told = told(&mut EventBound::default(), flood, 21_000);
    assert_eq!(told.iter().map(|(at, _)| *at).collect::<Vec<_>>(), (0..20).map(|n| n * 1_000).collect::<Vec<_>>());
}

#[test]
fn what_has_calmed_down_is_told_at_once_again() {
    let flood = (0..1_000).map(|n| (n * 10, bus(if n % 2 == 0 { "passive" } else { "active" })));
    let later = [(40_000, bus("bus_off")), (45_000, bus("active")), (46_000, bus("passive"))];
    let told = told(&mut EventBound::default(), flood.chain(later), 60_000);
    let late: Vec<u32> = told.iter().map(|(at, _)| *at).filter(|at| *at >= 30_000).collect();
    assert_eq!(late, [40_000, 45_000, 46_000]);
}

#[test]
fn the_flood_of_one_cause_holds_up_no_other_and_each_device_is_one() {
    let silent = || EventKind::DeviceSilent(Missing::Timeout);
    let events = (0..1_000).flat_map(|n| {
        let kind = if n % 2 == 0 { silent() } else { EventKind::DeviceAnswering };
        let other = (n == 500).then(|| (500, of("b", silent())));
        [(n, of("a", kind))].into_iter().chain(other)
    });
    let told = told(&mut EventBound::default(), events, 2_000);
    assert!(told.contains(&(500, of("b", silent()))), "{told:?}");
}

#[test]
fn counts_are_added_up_and_lose_nothing() {
    let dropped = |frames| Event {
        device: None,
        kind: EventKind::FramesDropped { bus: "can0".try_into().expect("a name"), frames },
    };
    let told = told(&mut EventBound::default(), (0..100).map(|n| (n * 10, dropped(3))), 5_000);
    let sum = told.iter().map(|(_, e)| if let EventKind::FramesDropped { frames, .. } = e.kind { frames } else { 0 });
    assert_eq!((sum.sum::<u64>(), left_out(&told)), (300, 0), "{told:?}");
}

#[test]
fn gaps_starts_and_ends_are_told_each_and_what_was_before_an_end_comes_before_it() {
    let gap = Gap { epoch: crate::measure::Epoch(1), from: Seq(1), to: Seq(1), points: None, reason: GapReason::Aged };
    let gaps = (0..50).map(|_| (0, Event { device: None, kind: EventKind::Gap(gap) }));
    assert_eq!(told(&mut EventBound::default(), gaps, 0).len(), 50);

    let session = |event: SessionEvent| of("a", EventKind::Session(event.into()));
    let phase = |n: u32| session(SessionEvent::Phase { phase: n.to_string().into(), before: "".into() });
    let end = session(SessionEvent::Ended {
        how: "terminated".into(),
        reason: "".into(),
        seconds: 1,
        import_wh: 0,
        export_wh: 0,
        energy_source: "meter".into(),
        messages: 1,
        unreadable: 0,
    });
    let events = (0..100).map(|n| (n, phase(n))).chain([(100, end.clone())]);
    let told = told(&mut EventBound::default(), events, 20_000);
    assert_eq!(told[..32], (0..32).map(|n| (n, phase(n))).collect::<Vec<_>>(), "a session's own bustle is no flood");
    assert_eq!(told[told.len() - 2..], [(100, phase(99)), (100, end)]);
    assert_eq!(left_out(&told), 67);
}

#[test]
fn all_that_waits_is_told_before_the_stop() {
    let (mut bound, mut told) = (EventBound::default(), Vec::new());
    for state in ["passive", "active", "bus_off"] {
        bound.take(bus(state), Mono(5), &mut |event| told.push(event));
    }
    assert_eq!(told, [bus("passive")]);
    bound.release_all(Mono(6), &mut |event| told.push(event));
    assert_eq!((told.len(), told.last()), (3, Some(&bus("bus_off"))));
}

#[test]
fn thousands_of_causes_are_bounded_and_a_quiet_one_is_forgotten() {
    let mut bound = EventBound::default();
    let mut count = 0;
    for n in 0..CAUSES_MAX + 100 {
        let kind = EventKind::UplinkOnline(n.to_string().into());
        bound.take(Event { device: None, kind }, Mono(0), &mut |_| count += 1);
    }
    assert!(bound.causes.len() <= CAUSES_MAX + 1, "{}", bound.causes.len());
    assert!(count >= CAUSES_MAX);
    bound.release_all(Mono(0), &mut |_| {});
    bound.take(bus("passive"), Mono(0) + Duration::from_secs(60), &mut |_| {});
    assert_eq!(bound.causes.len(), 1);
}

/// Of 1,000 stations one flaps, and the sessions of all begin: each beginning looked at all causes for what waits of its device.
#[test]
fn the_beginning_of_a_session_costs_the_same_however_many_there_are() {
    let session = |n: usize, event| of(&format!("evse-{n:05}"), EventKind::Session(OfSession { session: None, event }));
    let prepare = |count: usize| {
        let mut bound = EventBound::default();
        for n in 0..count {
            bound.take(session(n, SessionEvent::Encrypted), Mono(0), &mut |_| {});
        }
        for state in ["passive", "active"] {
            bound.take(bus(state), Mono(0), &mut |_| {});
        }
        assert!(bound.holds_any());
        let started = || SessionEvent::Started {
            protocol: "".into(),
            namespace: "".into(),
            evse_id: "".into(),
            how: "heard".into(),
        };
        (bound, (0..count).map(|n| session(n, started())).collect::<Vec<_>>())
    };
    let grown = growth(500, prepare, |(mut bound, events)| {
        let mut told = 0;
        let count = events.len();
        events.into_iter().for_each(|event| bound.take(event, Mono(0), &mut |_| told += 1));
        assert_eq!(told, count);
    });
    assert!(grown < LINEAR, "{grown:.0}");
}
