//! The driver with its schedule on a simulated bus.

use super::*;
use crate::measure::{ClockTrust, Mono, Utc};
use crate::net::Endpoint;
use crate::spec::{
    Aggregation, ByteOrder, DeviceIx, DeviceKind, DeviceSpec, PointSpec, PollGroup, RawKind, RegisterPoint,
    RegisterTable, Scaling, SunSpecPoint, SunSpecSource, Unit, ValueType, WordOrder,
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
        byte_timeout: hal::BYTE_TIMEOUT,
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
    simulate_taking(port, length_ms, |block, at, patience| {
        let answer = answer(block, at);
        let took = if judged(&answer) == Ended::Silent { patience * 3 / 2 } else { Duration::from_millis(10) };
        (answer, took)
    })
}

/// The same, with what each answer takes.
fn simulate_taking(
    port: &Port,
    length_ms: u64,
    mut answer: impl FnMut(RegisterBlock, u64, Duration) -> (Result<Vec<u16>, BusError>, Duration),
) -> Log {
    let (sender, mut samples) = mpsc::channel(256);
    let facts = Arc::new(StatusBoard::default());
    let mut driver = Driver::new(port, sender, Arc::clone(&facts));
    let mut schedule = Schedule::new(driver.settings(), port.window, port.window_end, Mono(0));
    let stamp = |mono| Stamp { mono, utc: Utc(0), trust: ClockTrust::Synced };
    let (mut now, mut log) = (Mono(0), Log::default());
    while now.0 < length_ms * MS {
        driver.overdue(stamp(now), &mut schedule);
        match schedule.next(now) {
            Next::Wait(until) => now = until.min(schedule.overdue_at()).max(Mono(now.0 + 1)),
            Next::Missing(job) => driver.missing(job, stamp(now), &mut schedule),
            Next::Do(Job::Read(job), patience) => {
                let (started, (answer, took)) = (now, answer(job.block, now.0 / MS, patience));
                log.asked.push((now.0 / MS, job.block));
                now = now + took;
                while schedule.overdue_at() < now {
                    let at = schedule.overdue_at();
                    driver.overdue(stamp(at), &mut schedule);
                }
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
        let missing = log.told.iter().filter_map(|(_, told)| match told {
            Payload::Registers { words: Err(why), .. } => Some(*why),
            _ => None,
        });
        // While the list is silent, its points may have to wait for the next window.
        let missing: Vec<_> = missing.collect();
        assert!(missing.len() <= 3 && missing.iter().all(|why| *why == Missing::Overrun), "{missing:?}");
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

/// A model that was refused in a way that taught nothing was simply not there.
#[test]
fn values_of_a_sunspec_model_that_is_refused_are_missing() {
    let source = SunSpecSource { models: 201..=204, point: "W".into(), invert: false, divide: 1.0 };
    let points = vec![point(Origin::SunSpec(SunSpecPoint { from: vec![source] }))];
    let port = port(points, vec![group(500, vec![]), group(10_000, vec![])]);
    let word = |at: u16| match at {
        40_000 => 0x5375,
        40_001 => 0x6e53,
        40_002 => 203,
        40_003 => 105,
        40_109 => u16::MAX,
        _ => 0,
    };
    for (code, is_cut) in [(DEVICE_FAILURE, false), (ILLEGAL_ADDRESS, true)] {
        let log = simulate(&port, 40_000, |asked, at| match asked {
            asked if asked.table == RegisterTable::Input => refused(ILLEGAL_ADDRESS),
            _ if (10_000..15_000).contains(&at) => refused(code),
            asked => Ok((asked.start..asked.start + asked.count).map(word).collect()),
        });
        let told = |of: std::ops::Range<u64>| {
            let values = log.told.iter().filter(|(at, _)| of.contains(at)).filter_map(|(_, told)| match told {
                Payload::Values(values) => Some(values[0].1.clone().map(|_| ())),
                _ => None,
            });
            values.collect::<Vec<_>>()
        };
        let refusals = told(10_000..15_000);
        let missing = refusals.iter().filter(|told| **told == Err(Missing::Exception)).count();
        assert!(missing >= 8 && missing == refusals.len(), "exception {code}: {refusals:?}");
        assert!(told(16_000..40_000).len() >= 45 && told(16_000..40_000).iter().all(Result::is_ok), "exception {code}");
        let longest =
            |of: std::ops::Range<u64>| log.asked.iter().filter(|(at, _)| of.contains(at)).map(|(_, b)| b.count).max();
        assert_eq!(longest(30_000..40_000), longest(5_000..10_000), "exception {code} leaves nothing behind");
        let shortest = log.asked.iter().filter(|(at, _)| (10_000..15_000).contains(at)).map(|(_, b)| b.count).min();
        assert_eq!(shortest < longest(5_000..10_000), is_cut, "exception {code}");
    }
}

/// What was told of a block in each window of the port, from the second on.
fn windows(log: &Log, port: &Port, block: RegisterBlock, length_ms: u64) -> Vec<Vec<Result<(), Missing>>> {
    let window = u64::try_from(port.window.as_millis()).expect("short");
    let mut windows = vec![Vec::new(); usize::try_from(length_ms / window).expect("few")];
    for (at, payload) in &log.told {
        if let Payload::Registers { block: of, words } = payload
            && *of == block
            && let Some(told) = windows.get_mut(usize::try_from(at / window).expect("few"))
        {
            told.push(words.as_ref().map(|_| ()).map_err(|why| *why));
        }
    }
    windows.split_off(1)
}

/// Nothing was told of the windows in which no answer came: 0.7 s an answer, and a poll of 0.5 s.
#[test]
fn a_poll_that_cannot_be_kept_is_missing_where_it_has_no_value_and_told_once_with_what_to_do() {
    let port = port(vec![register(None, 0)], vec![group(500, vec![block(0, 1)])]);
    let log = simulate_taking(&port, 120_000, |_, _, _| (Ok(vec![0]), Duration::from_millis(700)));
    let windows = windows(&log, &port, block(0, 1), 120_000);
    assert!(windows.iter().all(|told| !told.is_empty()), "nothing is told of some window");
    let missing = windows.iter().filter(|told| told.iter().all(Result::is_err)).count();
    assert!((60..=75).contains(&missing), "two of seven windows have no answer: {missing} of {}", windows.len());
    let reasons = windows.iter().flatten().filter_map(|told| told.err());
    assert!(reasons.skip(2).all(|why| why == Missing::Overrun));
    let told: Vec<_> = log.events().into_iter().filter(|(_, kind)| *kind != EventKind::DeviceAnswering).collect();
    let [(_, EventKind::PollOverrun(why))] = &told[..] else { panic!("{told:?}") };
    assert!(why.contains("takes up to 700 ms") && why.contains("set poll = \"1s\" in [device.meter]"), "{why}");
}

/// A poll of less than half a window put off what was to be told of the window with each of its points, for ever.
#[test]
fn of_a_poll_that_is_faster_than_its_window_each_window_without_a_value_is_told() {
    let port = port(vec![register(None, 0)], vec![group(100, vec![block(0, 1)])]);
    let log = simulate_taking(&port, 60_000, |_, _, _| (Ok(vec![0]), Duration::from_millis(1_700)));
    let windows = windows(&log, &port, block(0, 1), 60_000);
    let untold = windows.iter().filter(|told| told.is_empty()).count();
    assert_eq!(untold, 0, "of {}", windows.len());
    let missing = windows.iter().filter(|told| told.contains(&Err(Missing::Overrun))).count();
    assert!((60..=90).contains(&missing), "{missing} of {}", windows.len());
    let prompt = simulate(&port, 20_000, |_, _| Ok(vec![0]));
    assert!(prompt.told.iter().all(|(_, told)| !matches!(told, Payload::Registers { words: Err(_), .. })));
}

#[test]
fn a_poll_that_is_kept_is_never_missing_though_its_answer_comes_in_the_next_window() {
    let port = port(vec![register(None, 0)], vec![group(500, vec![block(0, 1)])]);
    let log = simulate_taking(&port, 60_000, |_, _, _| (Ok(vec![0]), Duration::from_millis(400)));
    let windows = windows(&log, &port, block(0, 1), 60_000);
    assert!(windows.iter().skip(1).all(|told| *told == [Ok(())]), "{windows:?}");
    assert!(matches!(log.events()[..], [(_, EventKind::DeviceAnswering)]), "{:?}", log.events());
}

/// A poll that fell due while a request hung was simply not there.
#[test]
fn a_poll_that_falls_due_while_another_request_hangs_is_missing_for_that_reason() {
    let (well, hangs) = (block(0, 1), RegisterBlock { unit: Some(7), ..block(10, 1) });
    let points = vec![register(None, 0), register(Some(7), 10)];
    let port = port(points, vec![group(500, vec![well, hangs])]);
    let log = simulate_taking(&port, 60_000, |asked, at, _| match asked {
        asked if asked == hangs && (10_000..12_000).contains(&at) => (silent(), Duration::from_millis(1_700)),
        asked => (Ok(vec![0; asked.count.into()]), Duration::from_millis(10)),
    });
    let windows = windows(&log, &port, well, 60_000);
    let untold: Vec<_> = (1..).zip(&windows).filter(|(_, told)| told.is_empty()).map(|(at, _)| at * 500).collect();
    assert!(untold.is_empty(), "nothing is told of the windows from {untold:?} ms on");
    let missing: Vec<_> = windows.iter().filter(|told| !told.contains(&Ok(()))).flatten().copied().collect();
    assert!((2..=9).contains(&missing.len()) && missing.iter().all(|why| *why == Err(Missing::Overrun)), "{missing:?}");
}

/// An answer after 702 ms of a unit that may take a second was told as late, "instead of 1000 ms".
#[test]
fn an_answer_that_was_given_up_before_its_time_is_no_fault_of_the_unit() {
    let port = port(vec![register(None, 0)], vec![group(500, vec![block(0, 1)])]);
    let facts = Arc::new(StatusBoard::default());
    let (samples, _heard) = mpsc::channel(4);
    let mut driver = Driver::new(&port, samples, Arc::clone(&facts));
    let mut schedule = Schedule::new(driver.settings(), port.window, port.window_end, Mono(0));
    for (ms, failures) in [(702, 0), (1_002, 1)] {
        driver.late(vec![LateReply { unit: 1, after: Duration::from_millis(ms) }], &mut schedule);
        assert_eq!(facts.status().devices[&id()].failures.values().sum::<u64>(), failures, "{ms} ms");
    }
}

/// A long wait for one answer looked like a task that hangs.
#[tokio::test]
async fn a_task_that_waits_for_a_slow_answer_beats() {
    use tokio::io::AsyncReadExt as _;

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let mut port = port(vec![register(None, 0)], vec![group(500, vec![block(0, 1)])]);
    let at = Endpoint { host: "127.0.0.1".to_owned(), port: listener.local_addr().expect("an address").port() };
    (port.address, port.devices[0].timeout) = (Address::Tcp(at), Duration::from_secs(60));
    let (clock, beats) = (Arc::new(hal::LinuxClock::new()), crate::health::Heartbeats::default());
    let heartbeat = beats.watch("source", Duration::ZERO, Mono(0));
    let (samples, _heard) = mpsc::channel(64);
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(run(port, Arc::clone(&clock), samples, Arc::default(), heartbeat, stopped));
    let (mut peer, _) = listener.accept().await.expect("accepted");
    peer.read_exact(&mut [0; 12]).await.expect("a request");
    let (asked, given_up) = (Stamp::from(clock.now()).mono, Instant::now() + Duration::from_secs(50));
    while !beats.silent(asked).is_empty() {
        assert!(Instant::now() < given_up, "no beat while it waits");
        sleep_until(Instant::now() + Duration::from_millis(20)).await;
    }
    stop.send_replace(true);
    task.await.expect("it ends");
}
