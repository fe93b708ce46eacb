//! Carries what is heard on a bus to the tracker, and what that says to the pipeline.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hal::Clock;
use hal::can::{BusState, CanLog, CanSocket, Counters, FrameBus, Heard, LogPace, Received};
use tokio::sync::{mpsc, watch};

use super::load::Load;
use super::tracker::Tracker;
use super::{Bus, Port, filters};
use crate::health::{BusFacts, DeviceFacts, DeviceState, Heartbeat, StatusBoard};
use crate::measure::{EventKind, Missing, Mono, Payload, Sample, Stamp};
use crate::source::outbox::Outbox;
use crate::spec::DeviceIx;

/// How often is looked for what has gone stale.
const TICK: Duration = Duration::from_millis(100);
/// How often the rates are told, and lost frames at most.
const TELL: Duration = Duration::from_secs(1);
/// A frame that waited in the kernel for longer has a time stamp of a clock that was set meanwhile.
const AGE_NS_MAX: i64 = 2_000_000_000;
/// How often the log says that a bus's state changes, at most.
const LOG_STATE: Duration = Duration::from_secs(10);
/// The longest text of a bus's state in an event.
const DETAIL_CHARS_MAX: usize = 200;

/// Hears the bus until `stop` turns true.
pub async fn run<C: Clock>(
    bus: Bus,
    clock: Arc<C>,
    samples: mpsc::Sender<Sample>,
    facts: Arc<StatusBoard>,
    heartbeat: Heartbeat,
    mut stop: watch::Receiver<bool>,
) {
    let mut frames_in = FrameSource::of(&bus);
    let mut outbox = Outbox::new(samples, Arc::clone(&facts));
    let mut driver = Driver::new(&bus, Arc::clone(&facts), clock.now().into());
    let mut heard = Vec::new();
    loop {
        tokio::select! {
            () = frames_in.hear(&mut heard) => {}
            () = tokio::time::sleep(TICK) => {}
            _ = stop.wait_for(|stop| *stop) => break,
        }
        let now: Stamp = clock.now().into();
        heartbeat.beat(now.mono);
        for told in heard.drain(..) {
            driver.take(told, now);
        }
        if driver.is_due(now.mono) {
            let counters = frames_in.counters();
            driver.tick(now, counters);
        }
        outbox.flush();
        for sample in driver.outbox.drain(..) {
            outbox.push(sample);
            // A recording that is played as fast as possible waits for the pipeline; a bus never does.
            if frames_in.can_wait() {
                tokio::select! {
                    goes_on = outbox.drain() => if !goes_on { return },
                    _ = stop.wait_for(|stop| *stop) => break,
                }
            }
        }
    }
    outbox.close().await;
}

/// The bus of a port, by its kind.
enum FrameSource {
    Socket(Box<CanSocket>),
    Log(Box<CanLog>, LogPace),
}

impl FrameSource {
    fn of(bus: &Bus) -> Self {
        match &bus.port {
            Port::Interface(settings) => Self::Socket(Box::new(CanSocket::new(settings.clone(), filters(bus)))),
            Port::Log { path, pace, interface } => {
                Self::Log(Box::new(CanLog::new(path, *pace, interface.clone()).of_one_bus()), *pace)
            }
        }
    }

    fn can_wait(&self) -> bool {
        matches!(self, Self::Log(_, LogPace::Fast))
    }

    async fn hear(&mut self, into: &mut Vec<Heard>) {
        match self {
            Self::Socket(socket) => socket.hear(into).await,
            Self::Log(log, _) => log.hear(into).await,
        }
    }

    fn counters(&mut self) -> Option<Counters> {
        match self {
            Self::Socket(socket) => socket.counters(),
            Self::Log(log, _) => log.counters(),
        }
    }
}

/// What is known of the bus, and what goes out.
struct Driver<'b> {
    bus: &'b Bus,
    facts: Arc<StatusBoard>,
    tracker: Tracker,
    load: Load,
    outbox: Vec<Sample>,
    state: BusState,
    next_tick: Mono,
    next_tell: Mono,
    /// Frames of each device since it was last told.
    frames: Vec<u64>,
    /// Lost frames that no event has told yet.
    untold: u64,
    /// Changes of state since the last event of one, and when that was.
    flaps: u64,
    state_told: Option<Mono>,
    state_logged: Option<Mono>,
    detail: String,
    /// Of a recording that is played fast.
    play: Option<Play>,
}

/// How far a recording is that has its own time.
struct Play {
    /// Its first time stamp, and when that was played.
    first_ns: i64,
    began: Mono,
    /// Where its newest frame stands, and when that was played.
    due: Mono,
    played: Mono,
}

impl Play {
    /// The recording's time on our own clock: after its last frame it goes on with ours.
    fn at(&self, now: Mono) -> Mono {
        self.due + now.since(self.played)
    }
}

impl<'b> Driver<'b> {
    fn new(bus: &'b Bus, facts: Arc<StatusBoard>, now: Stamp) -> Self {
        let devices = bus.devices.iter().map(|target| (target.ix, &*target.spec.points));
        for target in &bus.devices {
            facts.device(&target.spec.id, |facts| {
                *facts = DeviceFacts { bus: Some(bus.bus.clone()), kind: Some(target.spec.kind), ..Default::default() };
            });
        }
        facts.bus(&bus.bus, |facts| *facts = BusFacts { port: bus.port.to_string(), ..BusFacts::default() });
        Self {
            bus,
            facts,
            tracker: Tracker::new(devices, now.mono),
            load: Load::new(now.mono),
            outbox: Vec::new(),
            state: BusState::Absent,
            next_tick: now.mono,
            next_tell: now.mono + TELL,
            frames: vec![0; bus.devices.len()],
            untold: 0,
            flaps: 0,
            state_told: None,
            state_logged: None,
            detail: String::new(),
            play: None,
        }
    }

    fn take(&mut self, heard: Heard, now: Stamp) {
        match heard {
            Heard::Frame(received) => self.take_frame(&received, now),
            Heard::State(state, detail) => self.enter(state, &detail, now),
            Heard::Restarted => {
                tracing::info!(bus = %self.bus.bus, "the controller was restarted after a bus-off");
                self.note(|facts| facts.restarts += 1);
                self.notice(EventKind::BusRestarted(self.bus.bus.clone()), now);
            }
            Heard::Dropped(frames) => {
                self.note(|facts| facts.dropped += frames);
                self.untold += frames;
            }
            Heard::Overrun(times) => {
                self.note(|facts| facts.overruns += times);
                self.untold += times;
            }
            Heard::BusErrors(errors) => self.note(|facts| facts.bus_errors += errors),
            Heard::Unreadable(lines, first) => {
                tracing::warn!(bus = %self.bus.bus, lines, first, "lines of the recording cannot be read");
                self.note(|facts| {
                    facts.unreadable += lines;
                    facts.detail = first;
                });
            }
            // Why nothing of it is played has been told.
            Heard::End if self.state == BusState::Stopped => {}
            Heard::End => {
                tracing::info!(bus = %self.bus.bus, "the recording is over");
                self.note(|facts| facts.detail = "the recording is over".to_owned());
            }
        }
    }

    fn take_frame(&mut self, received: &Received, now: Stamp) {
        let at = self.stamp(received, now);
        let due = self.due_in_play(received, now);
        let Self { bus, tracker, load, outbox, frames, .. } = self;
        load.note(&received.frame);
        // The time of what goes stale: a recording's own if it is played fast.
        let heard_at = due.unwrap_or(at.mono);
        tracker.handle_frame(&received.frame, heard_at, |device, payload| {
            if let Some(place) = bus.devices.iter().position(|target| target.ix == device) {
                frames[place] += 1;
            }
            outbox.push(Sample { device, at, payload });
        });
        if let Some(due) = due
            && due >= self.next_tick
        {
            self.sweep(due, at);
        }
    }

    /// When it came in: the kernel's time stamp is of the wall clock, and only its age counts.
    fn stamp(&self, received: &Received, now: Stamp) -> Stamp {
        let Port::Interface(_) = self.bus.port else { return now };
        let age = received.utc_ns.map(|utc| now.utc.0.saturating_sub(utc)).filter(|age| (0..AGE_NS_MAX).contains(age));
        let age = age.and_then(|age| u64::try_from(age).ok()).unwrap_or(0);
        let mut at = now;
        at.mono = now.mono - Duration::from_nanos(age);
        at.utc.0 = now.utc.0.saturating_sub_unsigned(age);
        at
    }

    /// Where in a recording that is played fast this frame stands, on our own time.
    fn due_in_play(&mut self, received: &Received, now: Stamp) -> Option<Mono> {
        let Port::Log { pace: LogPace::Fast, .. } = self.bus.port else { return None };
        let utc = received.utc_ns?;
        let new = Play { first_ns: utc, began: now.mono, due: now.mono, played: now.mono };
        let play = self.play.get_or_insert(new);
        let into = u64::try_from(utc.saturating_sub(play.first_ns)).unwrap_or(0);
        play.due = play.due.max(play.began + Duration::from_nanos(into));
        play.played = now.mono;
        Some(play.due)
    }

    fn enter(&mut self, state: BusState, detail: &str, now: Stamp) {
        let before = std::mem::replace(&mut self.state, state);
        detail.clone_into(&mut self.detail);
        self.note(|facts| {
            facts.state = state.as_str().to_owned();
            facts.detail = detail.to_owned();
        });
        // That a bus is well at the start is no event.
        if state == BusState::Active && before == BusState::Absent && !self.was_told() {
            tracing::info!(bus = %self.bus.bus, state = state.as_str(), detail, "the bus can be heard");
            return;
        }
        self.note(|facts| facts.changes += 1);
        self.flaps += 1;
        if self.state_told.is_none_or(|told| now.mono.since(told) >= TELL) {
            self.tell_state(now);
        }
    }

    /// A state, as one event for all changes since the last.
    fn tell_state(&mut self, now: Stamp) {
        let (bus, state, left_out) = (self.bus.bus.clone(), self.state.as_str(), self.flaps.saturating_sub(1));
        let mut detail: String = self.detail.chars().take(DETAIL_CHARS_MAX).collect();
        if left_out > 0 {
            detail.push_str(&format!("; {left_out} changes of state before this one are not told each"));
        }
        if self.state_logged.is_none_or(|logged| now.mono.since(logged) >= LOG_STATE) {
            self.state_logged = Some(now.mono);
            match self.state {
                BusState::Active => tracing::info!(%bus, state, detail, "the bus can be heard"),
                _ => tracing::warn!(%bus, state, detail, "the bus is not well"),
            }
        }
        (self.flaps, self.state_told) = (0, Some(now.mono));
        self.notice(EventKind::BusState { bus, state: state.into(), detail: detail.into() }, now);
    }

    fn was_told(&self) -> bool {
        let mut changes = 0;
        self.facts.bus(&self.bus.bus, |facts| changes = facts.changes);
        changes > 0
    }

    fn notice(&mut self, kind: EventKind, now: Stamp) {
        let device = self.bus.devices.first().map_or(DeviceIx(0), |target| target.ix);
        self.outbox.push(Sample { device, at: now, payload: Payload::Noticed(kind) });
    }

    fn note(&self, update: impl FnOnce(&mut BusFacts)) {
        self.facts.bus(&self.bus.bus, update);
    }

    fn is_due(&self, now: Mono) -> bool {
        let at = self.play.as_ref().map_or(now, |play| play.at(now));
        at >= self.next_tick || now >= self.next_tell
    }

    fn tick(&mut self, now: Stamp, counters: Option<Counters>) {
        let at = self.play.as_ref().map_or(now.mono, |play| play.at(now.mono));
        if at >= self.next_tick {
            self.sweep(at, now);
        }
        if now.mono >= self.next_tell {
            self.next_tell = now.mono + TELL;
            self.tell(now, counters);
        }
    }

    /// Says what is missing.
    fn sweep(&mut self, at: Mono, now: Stamp) {
        self.next_tick = at + TICK;
        let silence = if self.state == BusState::BusOff { Missing::BusOff } else { Missing::Timeout };
        let Self { tracker, outbox, .. } = self;
        tracker.handle_tick(at, silence, |device, payload| outbox.push(Sample { device, at: now, payload }));
        for (place, target) in self.bus.devices.iter().enumerate() {
            let state = match (self.tracker.talks(place), self.tracker.missed(place)) {
                (true, _) => DeviceState::Answering,
                (false, Some(why)) => DeviceState::Silent(why),
                (false, None) => DeviceState::Unknown,
            };
            let frames = std::mem::take(&mut self.frames[place]);
            self.facts.device(&target.spec.id, |facts| {
                facts.state = state;
                facts.answers += frames;
                if let DeviceState::Silent(_) = state {
                    facts.last_failure = Some(format!(
                        "none of its frames comes on {} ({}); check that it is on, wiring and bit rate",
                        self.bus.port, self.state
                    ));
                }
            });
        }
    }

    fn tell(&mut self, now: Stamp, counters: Option<Counters>) {
        if self.flaps > 0 && self.state_told.is_none_or(|told| now.mono.since(told) >= TELL) {
            self.tell_state(now);
        }
        let rates = self.load.cut(now.mono, self.bus.speeds, counters);
        self.untold += rates.lost;
        self.note(|facts| {
            facts.frames_per_second = rates.frames_per_second;
            facts.load = rates.load;
            facts.lost += rates.lost;
            facts.ids = rates.ids.iter().map(|(id, rate)| (id.to_string(), *rate)).collect::<BTreeMap<_, _>>();
        });
        if self.untold > 0 {
            tracing::warn!(bus = %self.bus.bus, frames = self.untold, "frames were lost before we could take them");
            let kind = EventKind::FramesDropped { bus: self.bus.bus.clone(), frames: std::mem::take(&mut self.untold) };
            self.notice(kind, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{ClockTrust, Utc};
    use crate::source::can::{Speeds, Target};
    use crate::spec::{DeviceKind, DeviceSpec};

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
}
