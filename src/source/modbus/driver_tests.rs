//! The driver with its schedule on a simulated bus.

use super::*;
use crate::measure::{ClockTrust, Mono, Utc};
use crate::spec::{
    Aggregation, ByteOrder, DeviceIx, DeviceKind, DeviceSpec, PointSpec, PollGroup, RawKind, RegisterPoint, Scaling,
    SunSpecPoint, SunSpecSource, Unit, ValueType, WordOrder,
};

const MS: u64 = 1_000_000;
const ILLEGAL_ADDRESS: u8 = 2;
const DEVICE_FAILURE: u8 = 4;

fn block(start: u16, count: u16) -> RegisterBlock {
    RegisterBlock { unit: None, table: RegisterTable::Input, start, count }
}

fn point(origin: Origin) -> PointSpec {
    PointSpec {
        field: "value".try_into().expect("a field"),
        unit: Unit::One,
        value_type: ValueType::Float,
        aggregation: Aggregation::Mean,
        valid: None,
        frozen_after: None,
        scaling: Scaling::default(),
        origin,
    }
}

/// A point of one register.
fn register(unit: Option<u8>, address: u16) -> PointSpec {
    point(Origin::Register(RegisterPoint {
        unit,
        table: RegisterTable::Input,
        address,
        raw: RawKind::U16,
        byte_order: ByteOrder::Big,
        word_order: WordOrder::MswFirst,
        mask: None,
        not_available: vec![],
        scale: None,
    }))
}

fn group(interval_ms: u64, blocks: Vec<RegisterBlock>) -> PollGroup {
    PollGroup { name: "group".to_owned(), interval: Duration::from_millis(interval_ms), blocks }
}

/// A port with one device.
fn port(points: Vec<PointSpec>, groups: Vec<PollGroup>) -> Port {
    let spec =
        DeviceSpec { id: id(), kind: DeviceKind::Meter, profile: "test".to_owned(), points: points.into(), groups };
    Port {
        bus: "bus".try_into().expect("a name"),
        address: Address::RtuOverTcp(Endpoint { host: "gateway".to_owned(), port: 502 }),
        devices: vec![Target {
            ix: DeviceIx(0),
            unit: UnitId::try_from(1).expect("a unit"),
            spec,
            timeout: Duration::from_secs(1),
            pause: Duration::ZERO,
        }],
        window: Duration::from_millis(500),
        window_end: Mono(0),
        learned: None,
    }
}

fn id() -> crate::spec::DeviceId {
    "meter".try_into().expect("a name")
}

fn refused(code: u8) -> Result<Vec<u16>, BusError> {
    Err(BusError::Exception { unit: UnitId::try_from(1).expect("a unit"), code })
}

fn silent() -> Result<Vec<u16>, BusError> {
    Err(BusError::Timeout { unit: UnitId::try_from(1).expect("a unit"), ms: 0 })
}

/// What came of a run, each with its time in ms.
#[derive(Debug, Default)]
struct Log {
    asked: Vec<(u64, RegisterBlock)>,
    told: Vec<(u64, Payload)>,
    /// Each state in the status that is another than the one before.
    states: Vec<(u64, DeviceState)>,
}

impl Log {
    fn events(&self) -> Vec<(u64, EventKind)> {
        let event = |(at, payload): &(u64, Payload)| match payload {
            Payload::Noticed(kind) => Some((*at, kind.clone())),
            _ => None,
        };
        self.told.iter().filter_map(event).collect()
    }

    fn times_asked(&self, block: RegisterBlock) -> usize {
        self.asked.iter().filter(|(_, asked)| *asked == block).count()
    }
}

/// Reads the port's device over `length_ms`, with answers by block and time in ms. An answer takes 10 ms; a silence one and a
/// half patiences.
fn simulate(
    port: &Port,
    length_ms: u64,
    mut answer: impl FnMut(RegisterBlock, u64) -> Result<Vec<u16>, BusError>,
) -> Log {
    let (sender, mut samples) = mpsc::channel(256);
    let facts = Arc::new(StatusBoard::default());
    let mut driver = Driver::new(port, sender, Arc::clone(&facts));
    let mut schedule = Schedule::new(driver.settings(), port.window, port.window_end, Mono(0));
    let stamp = |mono| Stamp { mono, utc: Utc(0), trust: ClockTrust::Synced };
    let (mut now, mut log) = (Mono(0), Log::default());
    while now.0 < length_ms * MS {
        match schedule.next(now) {
            Next::Wait(until) => now = until,
            Next::Missing(job) => driver.missing(job, stamp(now), &mut schedule),
            Next::Do(Job::Read(job), patience) => {
                let (started, answer) = (now, answer(job.block, now.0 / MS));
                log.asked.push((now.0 / MS, job.block));
                let took = if judged(&answer) == Ended::Silent { patience * 3 / 2 } else { Duration::from_millis(10) };
                now = now + took;
                driver.ended(job, answer, (stamp(started), stamp(now)), &mut schedule);
            }
        }
        while let Ok(sample) = samples.try_recv() {
            log.told.push((sample.at.mono.0 / MS, sample.payload));
        }
        let state = facts.status().devices[&id()].state;
        if log.states.last().is_none_or(|(_, last)| *last != state) {
            log.states.push((now.0 / MS, state));
        }
    }
    log
}

/// A list of two points in a group of an hour was refused twice, and then answered: for an hour no change of the device's state
/// was told.
#[test]
fn a_split_of_a_seldom_read_block_that_is_undone_holds_up_no_state() {
    let whole = block(10, 11);
    let port = port(
        vec![register(None, 0), register(None, 10), register(None, 20)],
        vec![group(500, vec![block(0, 1)]), group(3_600_000, vec![whole])],
    );
    for mood_ends_with in [block(10, 1), block(20, 1)] {
        let mut refusals = 0;
        let log = simulate(&port, 20_000, |asked, at| {
            refusals += u32::from(asked == whole);
            match asked {
                asked if asked == whole && refusals <= 2 => refused(ILLEGAL_ADDRESS),
                // Either a part is answered, and then the whole; or no part is.
                asked if asked.start != 0 && asked != whole && mood_ends_with.start == 20 => refused(ILLEGAL_ADDRESS),
                asked if asked.start == 0 && at >= 10_000 => silent(),
                asked => Ok(vec![0; asked.count.into()]),
            }
        });
        let events = log.events();
        assert!(matches!(events[..], [(0..2_000, EventKind::DeviceAnswering), (10_000..13_000, _), ..]), "{events:?}");
    }
}

/// The only block of a device that answered was whole again and not yet asked: the device was told as silent.
#[test]
fn a_device_whose_only_answering_block_is_whole_again_is_not_silent() {
    let (whole, dead) = (block(10, 11), RegisterBlock { unit: Some(7), ..block(0, 1) });
    let points = vec![register(Some(7), 0), register(None, 10), register(None, 20)];
    let port = port(points, vec![group(500, vec![dead, whole])]);
    let log = simulate(&port, 20_000, |asked, at| match asked {
        asked if asked == dead => silent(),
        asked if asked == whole && (5_000..5_700).contains(&at) => refused(ILLEGAL_ADDRESS),
        asked if asked.count == 1 && at < 10_000 => refused(ILLEGAL_ADDRESS),
        asked => Ok(vec![0; asked.count.into()]),
    });
    let events = log.events();
    assert!(matches!(events[..], [(_, EventKind::DevicePartly { .. })]), "{events:?}");
    assert!(log.times_asked(block(10, 1)) > 0, "it was split");
}

/// A device that refuses a list of two points as illegal and later gives another reason for it, or none, was asked for the list
/// after each answer of a part, and both points were missing each time.
#[test]
fn a_split_list_that_fails_for_another_reason_is_asked_a_few_times_and_costs_its_points_nothing() {
    let whole = block(10, 11);
    for fails in [|| refused(DEVICE_FAILURE), silent] {
        let mut asked_whole = 0;
        let port = port(vec![register(None, 10), register(None, 20)], vec![group(500, vec![whole])]);
        let log = simulate(&port, 60_000, |asked, _| {
            asked_whole += u32::from(asked == whole);
            match asked {
                asked if asked != whole || asked_whole == 1 => Ok(vec![0; asked.count.into()]),
                _ if asked_whole <= 3 => refused(ILLEGAL_ADDRESS),
                _ => fails(),
            }
        });
        assert_eq!(log.times_asked(whole), 1 + 2 + 3, "in a minute: at the first, the 8th and the 64th answer");
        let missing = log.told.iter().find(|(_, told)| matches!(told, Payload::Registers { words: Err(_), .. }));
        assert_eq!(missing, None);
        assert!(log.times_asked(block(10, 1)) >= 117 && log.times_asked(block(20, 1)) >= 117, "each poll");
        assert!(matches!(log.events()[..], [(_, EventKind::DeviceAnswering)]), "{:?}", log.events());
    }
}

/// It stayed "silent (timeout)" in the status for as long as it answered.
#[test]
fn a_device_that_was_silent_and_then_answers_without_sunspec_is_no_longer_silent_in_the_status() {
    let source = SunSpecSource { models: 201..=204, point: "W".into(), invert: false, divide: 1.0 };
    let points = vec![point(Origin::SunSpec(SunSpecPoint { from: vec![source] }))];
    let port = port(points, vec![group(500, vec![]), group(10_000, vec![])]);
    let log =
        simulate(
            &port,
            60_000,
            |asked, at| {
                if (5_000..40_000).contains(&at) { Ok(vec![0; asked.count.into()]) } else { silent() }
            },
        );
    let states: Vec<_> = log.states.iter().map(|(at, state)| (at / 1_000, *state)).collect();
    let timeout = DeviceState::Silent(Missing::Timeout);
    assert!(
        matches!(
            states[..],
            [(0, DeviceState::Unknown), (..3, first), (5..15, DeviceState::Answering), (40..50, last)]
                if (first, last) == (timeout, timeout)
        ),
        "{states:?}"
    );
    assert!(matches!(log.events()[..], [(_, EventKind::DeviceSilent(_))]), "{:?}", log.events());
}
