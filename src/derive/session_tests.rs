use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::measure::{
    ClockTrust, Energy, EnergyDelta, Interval, IntervalValue, Mono, OfSession, OpenSession, Outcome, PointInterval,
    SessionEvent, SessionKnownBy, SessionTime, Utc, Value,
};
use crate::spec::{
    Aggregation, DeviceKind, Origin, PointIx, PointSpec, PollGroup, Scaling, SessionPoint, SessionValue, SunSpecPoint,
    Unit, ValueType,
};

const WINDOW: Duration = Duration::from_secs(1);
const POWER: PointIx = PointIx(0);
const SOC: PointIx = PointIx(1);
const STATE: PointIx = PointIx(2);
/// Says the state of its connector.
const STATION: DeviceIx = DeviceIx(0);
/// Says its power alone.
const PLAIN: DeviceIx = DeviceIx(1);
/// Its messages are heard.
const HEARD: DeviceIx = DeviceIx(2);
const BOOT: BootId = BootId([1; 16]);
/// 2025-11-24 16:00 UTC.
const BEGIN_S: i64 = 1_764_000_000;

fn depot() -> Vec<DeviceSpec> {
    let polled = |_| Origin::SunSpec(SunSpecPoint { from: vec![] });
    let heard = |value| Origin::Session(SessionPoint { value });
    let point = |field: &str, unit, value_type, origin| PointSpec {
        field: field.try_into().expect("a field"),
        unit,
        value_type,
        aggregation: Aggregation::usual(value_type, unit),
        valid: None,
        frozen_after: None,
        scaling: Scaling::default(),
        origin,
    };
    let points = |origin: &dyn Fn(SessionValue) -> Origin| {
        vec![
            point("power_flow", Unit::Kilowatt, ValueType::Float, origin(SessionValue::PowerFlow)),
            point("soc", Unit::Percent, ValueType::Float, origin(SessionValue::Soc)),
            point("state", Unit::One, ValueType::Text, origin(SessionValue::State)),
        ]
    };
    let group = || PollGroup { name: "fast".to_owned(), interval: WINDOW, blocks: vec![] };
    let device = |id: &str, points: Vec<PointSpec>, groups| DeviceSpec {
        id: id.try_into().expect("a name"),
        kind: DeviceKind::Evse,
        profile: "test".to_owned(),
        points: points.into(),
        groups,
    };
    vec![
        device("dc-1", points(&polled), vec![group()]),
        device("ac-1", points(&polled)[..1].to_vec(), vec![group()]),
        device("plug-1", points(&heard), vec![]),
    ]
}

/// A depot of which each device is read once a second; one window each.
struct Depot {
    deriver: Deriver,
    /// s since [`BEGIN_S`].
    second: u64,
    trust: ClockTrust,
    /// What the clock is off the truth, s.
    off: i64,
    said: BTreeMap<DeviceIx, SessionId>,
    told: Vec<(Stamp, ChargingSession)>,
    windows: Vec<Window>,
}

impl Depot {
    fn new() -> Self {
        let deriver = Deriver::new(&depot(), WINDOW, 0.05, BOOT);
        let (said, told, windows) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { deriver, second: 0, trust: ClockTrust::Synced, off: 0, said, told, windows }
    }

    fn now(&self) -> Stamp {
        let utc = (BEGIN_S + self.off) * 1_000_000_000 + i64::try_from(self.second).expect("short") * 1_000_000_000;
        Stamp { mono: Mono((self.second + 100) * 1_000_000_000), utc: Utc(utc), trust: self.trust }
    }

    fn read(&mut self, device: DeviceIx, point: PointIx, value: Value) {
        let outcome = Outcome::Good(value);
        self.deriver.add(&Reading { device, point, at: self.now(), outcome, count: None });
        if let Some(session) = self.deriver.session_news(device) {
            match session {
                Some(session) => self.said.insert(device, session),
                None => self.said.remove(&device),
            };
        }
    }

    fn state(&mut self, device: DeviceIx, word: &str) {
        self.read(device, STATE, Value::Text(word.into()));
    }

    fn event(&mut self, event: SessionEvent) {
        let kind = EventKind::Session(OfSession { session: None, event });
        self.deriver.notice(HEARD, &kind, self.now());
    }

    fn session(&mut self, id: Option<&str>) {
        let id: Option<SessionId> = id.map(|id| id.try_into().expect("a name"));
        self.deriver.set_session(HEARD, id.clone(), self.now());
        match id {
            Some(id) => self.said.insert(HEARD, id),
            None => self.said.remove(&HEARD),
        };
    }

    /// So many seconds at this power, with a window at the end of each. Answers whether the last one is kept.
    fn run(&mut self, device: DeviceIx, seconds: u64, kw: f64) {
        for _ in 0..seconds {
            self.second += 1;
            self.read(device, POWER, Value::Float(kw));
            let window = self.close(device);
            self.keep(window);
        }
    }

    fn close(&mut self, device: DeviceIx) -> Window {
        let told = PointInterval { point: POWER, value: IntervalValue::Integer(0), questionable: None };
        let interval = Interval {
            device,
            direction: None,
            vehicle: None,
            session: self.said.get(&device).cloned(),
            points: vec![told],
            energy: Energy::default(),
        };
        let mut window = Window { intervals: vec![interval], ..Window::empty(BOOT, self.now(), WINDOW) };
        self.deriver.complete(&mut window, false);
        window
    }

    fn keep(&mut self, window: Window) {
        self.told.extend(window.sessions.iter().map(|told| (window.end, told.clone())));
        self.windows.push(window);
    }

    /// The newest of each session that was told, in the order in which they were told first, and how often.
    fn sessions(&self) -> Vec<(ChargingSession, usize)> {
        let mut newest: Vec<(ChargingSession, usize)> = Vec::new();
        for (end, told) in &self.told {
            let told = told.clone().sealed(*end).unwrap_or_else(|| told.clone());
            match newest.iter_mut().find(|(known, _)| known.id == told.id) {
                Some((known, times)) => (*known, *times) = (told, *times + 1),
                None => newest.push((told, 1)),
            }
        }
        newest
    }

    /// What the windows of a session know.
    fn sum(&self, id: &SessionId) -> Energy {
        let mut sum = Energy::default();
        let intervals = self.windows.iter().flat_map(|window| &window.intervals);
        intervals.filter(|i| i.session.as_ref() == Some(id)).for_each(|interval| sum.add(interval.energy));
        sum
    }
}

fn started(how: &str) -> SessionEvent {
    SessionEvent::Started { protocol: "".into(), namespace: "".into(), evse_id: "".into(), how: how.into() }
}

fn over(how: &str, reason: &str) -> SessionEvent {
    SessionEvent::Ended {
        how: how.into(),
        reason: reason.into(),
        seconds: 0,
        import_wh: 0,
        export_wh: 0,
        energy_source: "".into(),
        messages: 0,
        unreadable: 0,
    }
}

fn at(second: i64) -> SessionTime {
    SessionTime::At(Utc((BEGIN_S + second) * 1_000_000_000))
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn what_a_station_says_of_its_connector_is_a_session_with_all_that_a_bill_asks_for() {
    let mut depot = Depot::new();
    depot.state(STATION, "available");
    depot.run(STATION, 10, 0.0);
    depot.state(STATION, "preparing");
    depot.read(STATION, SOC, Value::Float(41.0));
    depot.run(STATION, 20, 0.0);
    depot.state(STATION, "charging");
    depot.run(STATION, 100, 36.0);
    depot.read(STATION, SOC, Value::Float(63.0));
    depot.run(STATION, 50, -18.0);
    depot.state(STATION, "finishing");
    depot.run(STATION, 5, 0.0);
    depot.state(STATION, "available");
    depot.run(STATION, 10, 0.0);
    let [(session, times)] = &depot.sessions()[..] else { panic!("{:?}", depot.sessions()) };
    assert_eq!((session.state, session.source), (SessionState::Ended, SessionKnownBy::State));
    assert_eq!((session.start, session.until), (at(10), at(185)));
    assert_eq!((&*session.phase, &*session.reason), ("available", "disconnected"));
    assert_eq!((session.charging, session.discharging, session.idle), (seconds(101), seconds(50), seconds(24)));
    assert_eq!((session.import_max_kw, session.export_max_kw), (36.0, 18.0));
    assert_eq!(session.soc, Some((41.0, 63.0)));
    // Half of the second in which power turns is of each way.
    let kwh = session.energy.import.map_or(0.0, EnergyDelta::kwh);
    assert!((kwh - 36.0 * 100.0 / 3600.0).abs() < 0.01, "{kwh}");
    assert_eq!(session.energy, depot.sum(&session.id));
    assert!((6..=8).contains(times), "at its begin, at each change, each minute, and at its end: {times}");
    assert!(depot.windows.iter().all(|window| window.sessions.len() <= 1));
}

#[test]
fn a_fault_or_silence_of_a_station_ends_no_session() {
    let mut depot = Depot::new();
    depot.state(STATION, "charging");
    depot.run(STATION, 60, 11.0);
    depot.state(STATION, "faulted");
    depot.run(STATION, 60, 0.0);
    depot.second += 600;
    depot.state(STATION, "suspended by station");
    depot.run(STATION, 60, 11.0);
    depot.state(STATION, "available");
    depot.run(STATION, 1, 0.0);
    let [(session, _)] = &depot.sessions()[..] else { panic!("{:?}", depot.sessions()) };
    assert_eq!((session.start, session.until), (at(0), at(780)));
    assert_eq!(session.energy, depot.sum(&session.id));
}

#[test]
fn power_alone_is_a_session_and_a_pause_in_it_does_not_end_it() {
    let mut depot = Depot::new();
    depot.run(PLAIN, 30, 0.01);
    depot.run(PLAIN, 3, 7.0);
    depot.run(PLAIN, 30, 0.0);
    assert_eq!(depot.sessions().len(), 0, "three seconds are none");
    depot.run(PLAIN, 600, 7.0);
    depot.run(PLAIN, 800, 0.0);
    depot.run(PLAIN, 600, 7.0);
    depot.run(PLAIN, 901, 0.0);
    depot.run(PLAIN, 100, 7.0);
    let [(first, _), (second, _)] = &depot.sessions()[..] else { panic!("{:?}", depot.sessions()) };
    assert_eq!((first.state, first.start, first.until), (SessionState::Ended, at(64), at(64 + 2_000)));
    assert_eq!((&*first.reason, first.source), ("no_power", SessionKnownBy::Power));
    assert_eq!((second.state, second.start), (SessionState::Running, at(64 + 2_901)));
    assert_ne!(first.id, second.id);
}

#[test]
fn of_a_station_whose_words_nobody_knows_power_tells() {
    let mut depot = Depot::new();
    depot.state(STATION, "mode 7");
    depot.run(STATION, 10, 0.0);
    depot.run(STATION, 100, 7.0);
    depot.state(STATION, "mode 3");
    depot.run(STATION, 901, 0.0);
    let [(session, _)] = &depot.sessions()[..] else { panic!("{:?}", depot.sessions()) };
    assert_eq!((session.state, session.source), (SessionState::Ended, SessionKnownBy::Power));
    assert_eq!((session.start, session.until, &*session.phase), (at(11), at(111), "mode 3"));
    // Once a word is known, the words tell.
    depot.state(STATION, "available");
    depot.run(STATION, 100, 7.0);
    assert_eq!(depot.sessions().len(), 1);
}

#[test]
fn a_session_that_is_heard_goes_on_after_a_pause_or_a_lost_feed_and_ends_with_its_reason() {
    let mut depot = Depot::new();
    depot.deriver.set_vehicle(HEARD, Some("EV001".try_into().expect("a vehicle")));
    depot.event(started("new"));
    depot.second += 2;
    depot.session(Some("6f1c"));
    depot.state(HEARD, "charging");
    depot.run(HEARD, 100, 36.0);
    for (how, silent) in [("paused", 300), ("silent", 20)] {
        depot.event(over(how, ""));
        depot.session(None);
        depot.run(HEARD, 1, 0.0);
        assert_eq!(depot.told.last().map(|(_, told)| told.state), Some(SessionState::Paused), "{how}");
        depot.second += silent;
        depot.event(started("resumed"));
        depot.session(Some("6f1c"));
        depot.run(HEARD, 100, 36.0);
    }
    depot.event(over("terminated", "SessionStop"));
    depot.session(None);
    depot.run(HEARD, 2, 0.0);
    let [(session, _)] = &depot.sessions()[..] else { panic!("{:?}", depot.sessions()) };
    assert_eq!((session.state, &*session.reason), (SessionState::Ended, "SessionStop"));
    assert_eq!((session.start, session.is_joined, session.is_of_vehicle), (at(0), false, true));
    assert_eq!(session.charging, seconds(3 * 99));
    assert_eq!(session.energy, depot.sum(&session.id));
}

#[test]
fn it_does_not_matter_whether_the_begin_of_a_session_or_its_id_is_heard_first() {
    for (how, is_joined) in [("new", false), ("joined", true)] {
        let mut depot = Depot::new();
        depot.session(Some("6f1c"));
        depot.event(started(how));
        depot.run(HEARD, 10, 36.0);
        depot.event(over("terminated", ""));
        depot.session(None);
        depot.session(Some("7"));
        depot.run(HEARD, 1, 36.0);
        let sessions = depot.sessions();
        let told: Vec<_> = sessions.iter().map(|(told, _)| (told.is_joined, told.start)).collect();
        assert_eq!(told, [(is_joined, at(0)), (true, at(10))], "{how}");
    }
}

#[test]
fn another_session_ends_the_one_before_and_one_without_an_id_gets_one() {
    let mut depot = Depot::new();
    depot.session(Some("a"));
    depot.run(HEARD, 10, 36.0);
    depot.session(Some("b"));
    depot.run(HEARD, 10, 36.0);
    depot.event(over("paused", ""));
    depot.session(None);
    depot.run(HEARD, 10, 0.0);
    depot.event(started("new"));
    depot.state(HEARD, "charging");
    depot.run(HEARD, 10, 36.0);
    let sessions = depot.sessions();
    let told: Vec<_> = sessions.iter().map(|(told, _)| (told.state, &*told.reason, told.is_joined)).collect();
    assert_eq!(told[0], (SessionState::Ended, "superseded", true));
    assert_eq!(told[1], (SessionState::Paused, "paused", true), "it is over only once another one has an id");
    assert_eq!(told.len(), 2, "a session may go on until another one is known");
}

#[test]
fn a_station_that_gives_its_sessions_no_id_has_sessions_all_the_same() {
    let mut depot = Depot::new();
    depot.event(started("new"));
    depot.second += 5;
    depot.state(HEARD, "charging");
    depot.run(HEARD, 10, 36.0);
    depot.event(over("terminated", ""));
    depot.state(HEARD, "terminated");
    depot.run(HEARD, 2, 0.0);
    let [(session, _)] = &depot.sessions()[..] else { panic!("{:?}", depot.sessions()) };
    assert_eq!((session.start, session.state), (at(0), SessionState::Ended));
    assert_eq!((&*session.reason, session.energy), ("terminated", depot.sum(&session.id)));
    assert!(!depot.said.contains_key(&HEARD), "what follows is of none");
}

/// As the journal keeps it: each window makes a checkpoint go on, and a life begins from it.
fn restarted(depot: Depot, checkpoint: &mut Checkpoint, from: usize) -> Depot {
    let series = depot_schema();
    depot.windows[from..].iter().for_each(|window| window.advance(checkpoint, &series));
    let mut next = Depot { second: depot.second + 30, windows: depot.windows, told: depot.told, ..Depot::new() };
    next.deriver.resume(checkpoint, next.now());
    next
}

fn depot_schema() -> crate::measure::Schema {
    let (gateway, site) = ("gw".try_into().expect("a gateway"), "site".try_into().expect("a site"));
    crate::measure::Schema::new(gateway, site, &depot())
}

#[test]
fn a_session_goes_on_over_kills_under_its_id_with_the_energy_of_all_its_windows() {
    let mut checkpoint = Checkpoint::default();
    let mut depot = Depot::new();
    depot.state(STATION, "charging");
    depot.run(STATION, 100, 36.0);
    let mut depot = restarted(depot, &mut checkpoint, 0);
    let from = depot.windows.len();
    assert_eq!(checkpoint.sessions.len(), 1);
    depot.state(STATION, "charging");
    depot.run(STATION, 100, 36.0);
    let mut depot = restarted(depot, &mut checkpoint, from);
    let from = depot.windows.len();
    depot.state(STATION, "available");
    depot.run(STATION, 2, 0.0);
    let [(session, _)] = &depot.sessions()[..] else { panic!("{:?}", depot.sessions()) };
    assert_eq!((session.start, session.state), (at(0), SessionState::Ended));
    assert_eq!(session.energy, depot.sum(&session.id));
    let lacking = seconds(200).saturating_sub(session.charging);
    assert!(lacking <= seconds(2 * 60), "a minute before each kill at most: {lacking:?}");
    let depot = restarted(depot, &mut checkpoint, from);
    assert_eq!((checkpoint.sessions.len(), depot.said.len()), (0, 0), "it is over");
}

#[test]
fn a_session_in_a_window_that_is_not_kept_is_told_with_the_next_one_and_counted_once() {
    let mut depot = Depot::new();
    depot.state(STATION, "charging");
    depot.run(STATION, 10, 36.0);
    let lose = |depot: &mut Depot| {
        depot.second += 1;
        depot.read(STATION, POWER, Value::Float(36.0));
        let lost = depot.close(STATION);
        depot.deriver.take_back(&lost);
        lost
    };
    lose(&mut depot);
    depot.run(STATION, 1, 36.0);
    depot.state(STATION, "available");
    assert_eq!(lose(&mut depot).sessions.len(), 1, "its end");
    depot.run(STATION, 1, 0.0);
    let [(session, _)] = &depot.sessions()[..] else { panic!("{:?}", depot.sessions()) };
    assert_eq!((session.state, session.until), (SessionState::Ended, at(12)));
    assert_eq!(session.energy.known, Some(seconds(11)));
}

/// The clock is set while the session runs: what was told before is put right afterwards, and stands at the same moment.
#[test]
fn a_session_begins_at_one_moment_whenever_the_clock_is_set() {
    let mut depot = Depot { trust: ClockTrust::Unsynced, off: -700_000_000, ..Depot::new() };
    depot.second = 10;
    depot.state(STATION, "charging");
    depot.run(STATION, 70, 36.0);
    let (end, early) = depot.told.last().expect("told").clone();
    assert_eq!(early.start, SessionTime::Before(seconds(end.mono.0 / 1_000_000_000 - 110)));
    let resolved = Utc(end.utc.0 + 700_000_000 * 1_000_000_000);
    (depot.trust, depot.off) = (ClockTrust::Synced, 0);
    depot.run(STATION, 130, 36.0);
    let (end, late) = depot.told.last().expect("told").clone();
    assert_eq!(late.start, at(10));
    assert_eq!(late.start.utc(end.utc), early.start.utc(resolved));
}

#[test]
fn what_ended_beside_a_backlog_is_told_once_more_when_that_has_gone() {
    let mut depot = Depot::new();
    depot.state(STATION, "charging");
    depot.run(STATION, 10, 36.0);
    depot.state(STATION, "available");
    depot.second += 1;
    let mut window = depot.close(STATION);
    depot.deriver.tell_after_backlog(&mut window, true);
    assert_eq!(window.sessions.len(), 1);
    let ended = window.sessions[0].clone();
    let again = vec![ended];
    for (has_backlog, expected) in [(true, vec![]), (false, again), (false, vec![]), (true, vec![]), (false, vec![])] {
        let mut window = Window::empty(BOOT, depot.now(), WINDOW);
        depot.deriver.tell_after_backlog(&mut window, has_backlog);
        assert_eq!(window.sessions, expected);
    }
}

/// The broker is connected, and only then it is known that something waits: what ended a moment before is told once more, too.
#[test]
fn what_ended_just_before_a_backlog_showed_is_told_once_more() {
    for (later, is_told) in [(0, true), (30, true), (90, false)] {
        let mut depot = Depot::new();
        depot.state(STATION, "charging");
        depot.run(STATION, 10, 36.0);
        depot.state(STATION, "available");
        depot.second += 1;
        let mut window = depot.close(STATION);
        depot.deriver.tell_after_backlog(&mut window, false);
        assert_eq!(window.sessions.len(), 1);
        let tell = |depot: &mut Depot, has_backlog| {
            let mut window = Window::empty(BOOT, depot.now(), WINDOW);
            depot.deriver.tell_after_backlog(&mut window, has_backlog);
            window.sessions.len()
        };
        depot.second += later;
        tell(&mut depot, false);
        depot.second += 1;
        assert_eq!(tell(&mut depot, true), 0);
        assert_eq!(tell(&mut depot, false), usize::from(is_told), "{later}");
    }
}

#[test]
fn a_session_of_an_earlier_boot_without_a_clock_begins_anew_in_time_and_not_in_name() {
    let mut depot = Depot { trust: ClockTrust::Unsynced, ..Depot::new() };
    depot.state(STATION, "charging");
    depot.run(STATION, 5, 36.0);
    let (end, told) = depot.told.last().expect("told").clone();
    let id = told.id.clone();
    let mut next = Depot::new();
    let open = OpenSession { told, boot: BootId([9; 16]), at: end };
    next.second = 50;
    next.deriver
        .resume(&Checkpoint { sessions: [(open.told.device, open)].into(), ..Checkpoint::default() }, next.now());
    next.state(STATION, "charging");
    next.run(STATION, 61, 36.0);
    let [(session, _)] = &next.sessions()[..] else { panic!("{:?}", next.sessions()) };
    assert_eq!((&session.id, session.start), (&id, at(50)));
}

/// How much flowed each way, mWh, and for how long power was known.
fn amounts(Energy { import, export, known }: Energy) -> (u64, u64, Duration) {
    let mwh = |delta: Option<EnergyDelta>| delta.map_or(0, |delta| delta.mwh);
    (mwh(import), mwh(export), known.unwrap_or_default())
}

proptest! {
    /// Whatever a station says, and however windows get lost: a session's energy is the sum of its windows, and no two sessions share
    /// a moment.
    #[test]
    fn the_energy_of_a_session_is_the_sum_of_its_windows(
        steps in prop::collection::vec((0_usize..5, 1_u64..40, -50.0..50.0_f64, prop::bool::weighted(0.1)), 1..30),
    ) {
        let mut depot = Depot::new();
        for (word, seconds, kw, is_lost) in steps {
            depot.state(STATION, ["available", "preparing", "charging", "faulted", "suspended"][word]);
            depot.run(STATION, seconds, kw);
            if is_lost {
                depot.second += 1;
                depot.read(STATION, POWER, Value::Float(kw));
                let lost = depot.close(STATION);
                depot.deriver.take_back(&lost);
            }
        }
        depot.state(STATION, "available");
        depot.run(STATION, 2, 0.0);
        let mut before = at(0);
        for (session, _) in depot.sessions() {
            prop_assert_eq!(session.state, SessionState::Ended);
            prop_assert_eq!(amounts(session.energy), amounts(depot.sum(&session.id)));
            let (SessionTime::At(before_utc), SessionTime::At(start)) = (before, session.start) else { panic!("a time") };
            prop_assert!(before_utc <= start);
            before = session.until;
        }
    }
}
