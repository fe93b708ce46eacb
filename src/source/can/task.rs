//! Carries what is heard on a bus to the tracker, and what that says to the pipeline.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hal::Clock;
use hal::can::{BusState, CanLog, CanSocket, Counters, FrameBus, Heard, LogPace, Received};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::load::Load;
use super::tracker::Tracker;
use super::transport::{GivenUp, Transport};
use super::{Bus, Port, filters, wanted};
use crate::health::{BusFacts, DeviceFacts, DeviceState, Heartbeat, RECORDING_OVER, StatusBoard};
use crate::measure::{ClockTrust, EventKind, Missing, Mono, Payload, Sample, Stamp, Utc};
use crate::source::outbox::Outbox;
use crate::spec::DeviceIx;

/// How often is looked for what has gone stale.
const TICK: Duration = Duration::from_millis(100);
/// What the end of the agent waits at most for the rest of a recording that is played fast: hours of a bus.
const REST_WITHIN: Duration = Duration::from_secs(10);
/// How often the rates are told, and lost frames at most.
const TELL: Duration = Duration::from_secs(1);
/// A frame that waited in the kernel for longer has a time stamp of a clock that was set meanwhile.
const AGE_NS_MAX: i64 = 2_000_000_000;
/// 2000-01-01 UTC. Times since the first frame are below, and nobody has recorded that bus in the last century.
const RECORDED_MIN: i64 = 946_684_800_000_000_000;
/// What was recorded less than that ago is of the moment.
const NOW_NS: i64 = 2_000_000_000;
/// How often the log says that a bus's state changes, at most.
const LOG_STATE: Duration = Duration::from_secs(10);
/// How often the log says that messages of several frames are too many, at most.
const LOG_TRANSPORT: Duration = Duration::from_secs(60);
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
        if !hand_over(&mut driver, &mut outbox, frames_in.can_wait()).await {
            return;
        }
    }
    if frames_in.can_wait() {
        let rest = timeout(REST_WITHIN, play_rest(&mut frames_in, &mut driver, &mut outbox, &*clock, &heartbeat));
        if rest.await.is_err() {
            tracing::warn!(bus = %bus.bus, "the agent stops before the recording is over: the rest of it is not played");
        }
    }
    driver.log_last_state(clock.now().into());
    outbox.close().await;
}

/// Hands over what the driver tells; `false` if nobody takes it any more. A recording that is played as fast as possible waits
/// for the pipeline; a bus never does.
async fn hand_over(driver: &mut Driver<'_>, outbox: &mut Outbox, waits: bool) -> bool {
    outbox.flush();
    for sample in driver.outbox.drain(..) {
        outbox.push(sample);
        if waits && !outbox.drain().await {
            return false;
        }
    }
    true
}

/// The agent stops in the midst of a recording that is played fast: the rest of it is moments away.
async fn play_rest<C: Clock>(
    frames_in: &mut FrameSource,
    driver: &mut Driver<'_>,
    outbox: &mut Outbox,
    clock: &C,
    heartbeat: &Heartbeat,
) {
    let mut heard = Vec::new();
    // Nothing may have been heard of it yet when the stop comes.
    while !driver.is_over && (driver.state.is_heard() || driver.state_told.is_none()) {
        frames_in.hear(&mut heard).await;
        let now: Stamp = clock.now().into();
        heartbeat.beat(now.mono);
        heard.drain(..).for_each(|told| driver.take(told, now));
        if !hand_over(driver, outbox, true).await {
            return;
        }
    }
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
    transport: Transport,
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
    /// What was told of the newest state and is not in the log.
    unlogged: Option<String>,
    detail: String,
    /// Messages of several frames of which there were too many, as far as they were told.
    crowded: u64,
    transport_logged: Option<Mono>,
    /// The recording has been played.
    is_over: bool,
    /// Of a recording with times that can be true: that of its newest frame, and when that was played.
    recorded: Option<(i64, Mono)>,
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
            transport: Transport::new(wanted(bus)),
            crowded: 0,
            transport_logged: None,
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
            unlogged: None,
            detail: String::new(),
            is_over: false,
            recorded: None,
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
                self.is_over = true;
                tracing::info!(bus = %self.bus.bus, "the recording is over");
                self.note(|facts| facts.detail = RECORDING_OVER.to_owned());
            }
        }
    }

    fn take_frame(&mut self, received: &Received, now: Stamp) {
        let at = self.stamp(received, now);
        let due = self.due_in_play(received, now);
        let Self { bus, tracker, transport, load, outbox, frames, .. } = self;
        load.note(&received.frame);
        // The time of what goes stale: a recording's own if it is played fast.
        let heard_at = due.unwrap_or(at.mono);
        let mut tell = |device, payload| {
            if let Some(place) = bus.devices.iter().position(|target| target.ix == device) {
                frames[place] += 1;
            }
            outbox.push(Sample { device, at, payload });
        };
        tracker.handle_frame(&received.frame, heard_at, &mut tell);
        if let Some(message) = transport.handle_frame(&received.frame, heard_at) {
            tracker.handle_message(message.id, &message.data, heard_at, &mut tell);
        }
        if let Some(due) = due
            && due >= self.next_tick
        {
            self.sweep(due, at);
        }
    }

    /// When it came in: the kernel's time stamp is of the wall clock, and only its age counts. Of a recording, when it was
    /// recorded.
    fn stamp(&mut self, received: &Received, now: Stamp) -> Stamp {
        let Port::Interface(_) = self.bus.port else {
            self.recorded = received.utc_ns.filter(|utc| is_recorded(*utc, now)).map(|utc| (utc, now.mono));
            return self.on_bus(now);
        };
        let age = received.utc_ns.map(|utc| now.utc.0.saturating_sub(utc)).filter(|age| (0..AGE_NS_MAX).contains(age));
        let age = age.and_then(|age| u64::try_from(age).ok()).unwrap_or(0);
        let mut at = now;
        at.mono = now.mono - Duration::from_nanos(age);
        at.utc.0 = now.utc.0.saturating_sub_unsigned(age);
        at
    }

    /// What time it is on the bus: in a recording the recorded time, which goes on after its last frame.
    fn on_bus(&self, now: Stamp) -> Stamp {
        let Some((utc, played)) = self.recorded else { return now };
        let since = i64::try_from(now.mono.since(played).as_nanos()).unwrap_or(i64::MAX);
        Stamp { mono: now.mono, utc: Utc(utc.saturating_add(since)), trust: ClockTrust::Resolved }
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
            self.log_state(&detail, now);
        } else {
            self.unlogged = Some(detail.clone());
        }
        (self.flaps, self.state_told) = (0, Some(now.mono));
        self.notice(EventKind::BusState { bus, state: state.into(), detail: detail.into() }, now);
    }

    fn log_state(&mut self, detail: &str, now: Stamp) {
        (self.state_logged, self.unlogged) = (Some(now.mono), None);
        let (bus, state) = (&self.bus.bus, self.state.as_str());
        match self.state {
            BusState::Active => tracing::info!(%bus, state, detail, "the bus can be heard"),
            _ => tracing::warn!(%bus, state, detail, "the bus is not well"),
        }
    }

    /// The log has the last state of a bus, too, however many there were before it.
    fn log_last_state(&mut self, now: Stamp) {
        if let Some(detail) = self.unlogged.take() {
            self.log_state(&detail, now);
        }
    }

    /// What became of messages of several frames. Those that were too many are lost by us: their event is that of lost frames.
    fn tell_transport(&mut self, now: Stamp) {
        let given_up: BTreeMap<GivenUp, u64> = self.transport.given_up().collect();
        let assembled = self.transport.assembled();
        if assembled == 0 && given_up.is_empty() {
            return;
        }
        let crowded = given_up.get(&GivenUp::Crowded).copied().unwrap_or(0);
        self.untold += crowded - self.crowded;
        let is_news = crowded > self.crowded;
        self.crowded = crowded;
        if is_news && self.transport_logged.is_none_or(|logged| now.mono.since(logged) >= LOG_TRANSPORT) {
            self.transport_logged = Some(now.mono);
            tracing::warn!(
                bus = %self.bus.bus, given_up = crowded,
                "more messages of several frames (J1939 transport protocol) are begun than can be put together at once"
            );
        }
        self.note(|facts| {
            facts.messages = assembled;
            facts.messages_given_up = given_up.iter().map(|(why, count)| (why.as_str().to_owned(), *count)).collect();
        });
    }

    fn was_told(&self) -> bool {
        let mut changes = 0;
        self.facts.bus(&self.bus.bus, |facts| changes = facts.changes);
        changes > 0
    }

    fn notice(&mut self, kind: EventKind, now: Stamp) {
        let device = self.bus.devices.first().map_or(DeviceIx(0), |target| target.ix);
        let at = self.on_bus(now);
        self.outbox.push(Sample { device, at, payload: Payload::Noticed(kind) });
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
            self.sweep(at, self.on_bus(now));
        }
        if now.mono >= self.next_tell {
            self.next_tell = now.mono + TELL;
            self.tell(now, counters);
        }
    }

    /// Says what is missing.
    fn sweep(&mut self, at: Mono, now: Stamp) {
        self.next_tick = at + TICK;
        self.transport.handle_tick(at);
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
        if self.state_logged.is_none_or(|logged| now.mono.since(logged) >= LOG_STATE) {
            self.log_last_state(now);
        }
        self.tell_transport(now);
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

/// Whether a recording's time is one of its own: not since its first frame, not to come, and not just now, as one has that is
/// written while it is played.
fn is_recorded(utc: i64, now: Stamp) -> bool {
    utc >= RECORDED_MIN && now.utc.0.saturating_sub(utc) > NOW_NS
}

#[cfg(test)]
#[path = "task_tests.rs"]
mod tests;
