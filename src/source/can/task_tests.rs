use std::io::Write;

use hal::LinuxClock;
use hal::can::{Frame, FrameId};

use super::*;
use crate::health::Heartbeats;
use crate::source::can::{Speeds, Target};
use crate::spec::{
    Aggregation, BitField, BitOrder, DeviceKind, DeviceSpec, Formula, FrameMatch, Origin, PointSpec, Scaling, Signal,
    SignalKind, SignalPoint, Unit, ValueType,
};

fn bus() -> Bus {
    let spec = DeviceSpec {
        id: "dc".try_into().expect("a name"),
        kind: DeviceKind::Evse,
        profile: "test".to_owned(),
        points: vec![].into(),
        groups: vec![],
    };
    Bus {
        bus: "can".try_into().expect("a name"),
        port: Port::Log { path: "bus.log".into(), pace: LogPace::Recorded, interface: None },
        speeds: Speeds { bitrate: None, data_bitrate: None },
        devices: vec![Target { ix: DeviceIx(0), spec }],
    }
}

#[test]
fn a_bus_whose_state_flaps_is_one_event_a_second_with_a_count() {
    let (bus, facts) = (bus(), Arc::new(StatusBoard::default()));
    let at = |ms: u64| Stamp { mono: Mono(ms * 1_000_000), utc: Utc(0), trust: ClockTrust::Synced };
    let mut driver = Driver::new(&bus, Arc::clone(&facts), at(0));
    // 200 changes a second for 8 s.
    for change in 0..1_600_u64 {
        let state = if change % 2 == 0 { BusState::Passive } else { BusState::Active };
        driver.take(Heard::State(state, "by an error frame".to_owned()), at(change * 5));
        if driver.is_due(at(change * 5).mono) {
            driver.tick(at(change * 5), None);
        }
    }
    driver.tick(at(9_100), None);
    assert!(driver.unlogged.is_some(), "the log had one state ten seconds ago");
    driver.tick(at(19_000), None);
    assert_eq!(driver.unlogged, None, "and has the last one now");
    let told: Vec<String> = driver
        .outbox
        .iter()
        .filter_map(|sample| match &sample.payload {
            Payload::Noticed(EventKind::BusState { detail, .. }) => Some(detail.to_string()),
            _ => None,
        })
        .collect();
    assert!((8..=10).contains(&told.len()), "{told:?}");
    assert_eq!(told[0], "by an error frame");
    let counts = told[1..].iter().filter_map(|detail| detail.split(' ').nth(4)?.parse::<usize>().ok());
    assert_eq!(counts.sum::<usize>() + told.len(), 1_600, "each change is an event or counted in one");
    assert_eq!(facts.status().buses.values().next().map(|bus| bus.changes), Some(1_600));
}

#[test]
fn what_was_recorded_has_the_recorded_time_and_so_has_what_follows_it() {
    let (bus, facts) = (bus(), Arc::new(StatusBoard::default()));
    // 2026-06-01 12:00 UTC, and a recording of 2023.
    let (noon, recorded) = (1_780_315_200_000_000_000, 1_700_000_000_000_000_000);
    let at = |ms: u64| Stamp {
        mono: Mono(ms * 1_000_000),
        utc: Utc(noon + i64::try_from(ms).expect("small") * 1_000_000),
        trust: ClockTrust::Synced,
    };
    let frame = Frame::new(FrameId::Standard(0x109), &[0; 8], false).expect("a frame");
    for (utc, expected) in [
        (Some(recorded), (recorded + 500_000_000, ClockTrust::Resolved)),
        // Since the first frame; of the moment; to come; none.
        (Some(100_000_000), (noon + 1_500_000_000, ClockTrust::Synced)),
        (Some(noon), (noon + 1_500_000_000, ClockTrust::Synced)),
        (Some(noon + 60_000_000_000), (noon + 1_500_000_000, ClockTrust::Synced)),
        (None, (noon + 1_500_000_000, ClockTrust::Synced)),
    ] {
        let mut driver = Driver::new(&bus, Arc::clone(&facts), at(0));
        driver.take(Heard::Frame(Received { utc_ns: utc, frame }), at(1_000));
        driver.take(Heard::State(BusState::BusOff, String::new()), at(1_500));
        let told = driver.outbox.last().expect("the state").at;
        assert_eq!((told.utc.0, told.trust, told.mono), (expected.0, expected.1, at(1_500).mono), "{utc:?}");
    }
}

/// A queue of eight, and an agent that stops before anything was played.
#[tokio::test]
async fn a_recording_that_is_played_fast_is_played_to_its_end_when_the_agent_stops() {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    for n in 0..5_000_u32 {
        writeln!(file, "({}.{:03}000) can0 109#{:02X}", 1_700_000_000 + n / 10, n % 10 * 100, n % 256)
            .expect("written");
    }
    let signal = Signal {
        name: "s".into(),
        message: "m".into(),
        frame: FrameMatch::exactly(0x109, false),
        field: BitField::new(BitOrder::Intel, 0, 8).expect("a field"),
        kind: SignalKind::Unsigned,
        factor: 1.0,
        offset: 0.0,
        gates: vec![],
    };
    let formula = Formula::Signal(signal, false);
    let point = PointSpec {
        field: "voltage".try_into().expect("a field"),
        unit: Unit::Volt,
        value_type: ValueType::Float,
        aggregation: Aggregation::Mean,
        valid: None,
        frozen_after: None,
        scaling: Scaling::default(),
        origin: Origin::Signal(SignalPoint { formula, stale_after: Duration::from_secs(1), optional: false }),
    };
    let mut bus = bus();
    bus.port = Port::Log { path: file.path().to_owned(), pace: LogPace::Fast, interface: None };
    bus.devices[0].spec.points = vec![point].into();
    let (clock, facts) = (Arc::new(LinuxClock::new()), Arc::new(StatusBoard::default()));
    let (samples, mut sampled) = mpsc::channel(8);
    let heartbeat = Heartbeats::default().watch("source", Duration::from_secs(60), Stamp::from(clock.now()).mono);
    let (stop, stopped) = watch::channel(false);
    stop.send_replace(true);
    let running = tokio::spawn(run(bus, clock, samples, Arc::clone(&facts), heartbeat, stopped));
    let mut values = 0;
    while let Some(sample) = sampled.recv().await {
        values += u32::from(matches!(sample.payload, Payload::Values(_)));
    }
    running.await.expect("it ends");
    assert_eq!((values, facts.status().pipeline.samples_shed), (5_000, 0));
}
