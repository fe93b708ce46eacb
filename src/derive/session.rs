//! The charging sessions of one device: one model, whatever hears them.

use std::sync::Arc;
use std::time::Duration;

use crate::measure::{
    BootId, ChargingSession, ClockTrust, Direction, Energy, EventKind, Interval, Mono, OpenSession, Outcome, Reading,
    SessionEvent, SessionKnownBy, SessionState, SessionTime, Stamp, Utc, Value, fingerprint,
};
use crate::spec::{
    Connector, DeviceIx, DeviceKind, DeviceSpec, Origin, PointIx, Roles, SessionId, SessionPoint, SessionValue,
    VehicleId,
};

/// A running session is told again after so long.
const TOLD_EVERY: Duration = Duration::from_secs(60);
/// Of a device whose power alone tells: power that flows for so long is a session, and none for so long is its end. A vehicle that
/// waits for a cheaper hour or a cooler battery has not left.
const POWER_BEGINS: Duration = Duration::from_secs(5);
/// See above.
const POWER_ENDS: Duration = Duration::from_secs(900);
/// The word of sessions that are heard while energy may flow.
const CHARGING: &str = "charging";

/// The sessions of one device.
#[derive(Debug)]
pub(super) struct SessionMeter {
    device: DeviceIx,
    known_by: Option<SessionKnownBy>,
    roles: Roles,
    state_ix: Option<PointIx>,
    /// A word of its state has said something of its connector. Until then power alone tells.
    is_understood: bool,
    dead_band_kw: f64,
    boot: BootId,
    /// Its beginning was heard, and it has no id yet.
    begun: Option<(Stamp, bool)>,
    vehicle: Option<VehicleId>,
    phase: Arc<str>,
    /// The one that runs, or is paused.
    current: Option<Session>,
    /// Ended in the open window.
    ended: Vec<Session>,
    /// Told as ended in windows that were not kept.
    untold: Vec<ChargingSession>,
    /// The session that the device's lines are of, as was last said.
    said: Option<SessionId>,
    /// Power by which a session may begin or end: since when it flows, or does not.
    turned: Option<(bool, Stamp)>,
}

#[derive(Debug)]
struct Session {
    told: ChargingSession,
    /// Its beginning; `None`: it is in `told`, by the wall clock.
    start: Option<Stamp>,
    until: Stamp,
    last_told: Option<Mono>,
    /// There is news beside what goes on.
    is_changed: bool,
    /// Its id was made here.
    is_own: bool,
    /// The messages have said that it began.
    is_begin_heard: bool,
}

impl SessionMeter {
    pub(super) fn new(ix: DeviceIx, device: &DeviceSpec, dead_band_kw: f64, boot: BootId) -> Self {
        let is_heard = |origin: &Origin| matches!(origin, Origin::Session(SessionPoint { value: SessionValue::State }));
        let mut states =
            (0..).map(PointIx).zip(device.points.iter()).filter(|(_, point)| point.field.as_str() == "state");
        let state = states.next();
        let roles = device.points.roles();
        let known_by = match &state {
            _ if device.kind != DeviceKind::Evse => None,
            Some((_, point)) if is_heard(&point.origin) => Some(SessionKnownBy::Messages),
            Some(_) => Some(SessionKnownBy::State),
            None => roles.power.map(|_| SessionKnownBy::Power),
        };
        Self {
            device: ix,
            known_by,
            roles,
            state_ix: state.map(|(ix, _)| ix),
            is_understood: false,
            dead_band_kw,
            boot,
            begun: None,
            vehicle: None,
            phase: "".into(),
            current: None,
            ended: Vec::new(),
            untold: Vec::new(),
            said: None,
            turned: None,
        }
    }

    /// The life before has left this one open, `now` this one begins.
    pub(super) fn resume(&mut self, OpenSession { told, boot, at }: OpenSession, now: Stamp) {
        let place = |time: SessionTime| match time {
            SessionTime::At(_) => None,
            SessionTime::Before(time) if boot == self.boot => {
                let ns = i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
                Some(Stamp { mono: at.mono - time, utc: Utc(at.utc.0.saturating_sub(ns)), trust: at.trust })
            }
            // Nobody knows any more when that was.
            SessionTime::Before(_) => Some(now),
        };
        let start = place(told.start);
        self.vehicle.clone_from(&told.vehicle);
        self.phase = Arc::clone(&told.phase);
        let is_own = told.source != SessionKnownBy::Messages;
        let (last_told, is_changed, is_begin_heard) = (None, false, true);
        self.current = Some(Session { told, start, until: now, last_told, is_changed, is_own, is_begin_heard });
    }

    /// The session that the device's lines are of from now on, if that has changed and no message says it.
    pub(super) fn news(&mut self) -> Option<Option<SessionId>> {
        let runs = |session: &&Session| session.is_own && session.told.state == SessionState::Running;
        let now = self.current.as_ref().filter(runs).map(|session| session.told.id.clone());
        let is_news = self.said != now;
        self.said.clone_from(&now);
        is_news.then_some(now)
    }

    pub(super) fn set_vehicle(&mut self, vehicle: Option<VehicleId>) {
        if let (Some(session), Some(vehicle)) = (&mut self.current, &vehicle)
            && session.told.vehicle.is_none()
        {
            session.told.vehicle = Some(vehicle.clone());
            session.is_changed = true;
        }
        self.vehicle = vehicle;
    }

    /// What the messages say: the session from now on.
    pub(super) fn set_session(&mut self, id: Option<SessionId>, at: Stamp) {
        let Some(id) = id else { return };
        match &mut self.current {
            Some(session) if session.told.id == id => {
                session.is_changed |= session.told.state != SessionState::Running;
                (session.told.state, session.told.reason) = (SessionState::Running, "".into());
            }
            _ => {
                self.end(SessionState::Ended, "superseded", at);
                let begun = self.begun.take();
                let (start, is_joined) = begun.unwrap_or((at, true));
                self.begin(Some(id), start, is_joined, begun.is_some());
            }
        }
    }

    /// What happened in a session that is heard.
    pub(super) fn notice(&mut self, kind: &EventKind, at: Stamp) {
        let EventKind::Session(told) = kind else { return };
        match &told.event {
            SessionEvent::Started { how, .. } => self.hear_begin(at, &**how == "joined"),
            SessionEvent::Ended { how, reason, .. } => {
                self.begun = None;
                let may_go_on = matches!(&**how, "paused" | "silent" | "agent_stopped");
                let state = if may_go_on { SessionState::Paused } else { SessionState::Ended };
                let why = if reason.is_empty() { Arc::clone(how) } else { Arc::clone(reason) };
                self.end(state, &why, at);
            }
            _ => {}
        }
    }

    /// The messages may say that a session begins before they say its id, or after.
    fn hear_begin(&mut self, at: Stamp, is_joined: bool) {
        match &mut self.current {
            Some(session) if session.told.state == SessionState::Running => {
                if !std::mem::replace(&mut session.is_begin_heard, true) {
                    session.told.is_joined = is_joined;
                }
            }
            _ => self.begun = Some((at, is_joined)),
        }
    }

    /// Takes a reading, whose energy is known already.
    pub(super) fn add(&mut self, reading: &Reading) {
        if self.known_by.is_none() {
            return;
        }
        if Some(reading.point) == self.state_ix
            && let Outcome::Good(Value::Text(word)) = &reading.outcome
        {
            self.read_state(word, reading.at);
        }
        let Outcome::Good(Value::Float(value)) = reading.outcome else { return };
        if Some(reading.point) == self.roles.power && self.finds_by() == Some(SessionKnownBy::Power) {
            self.read_power(value, reading.at);
        }
        let Some(session) = self.current.as_mut().filter(|session| session.told.state == SessionState::Running) else {
            return;
        };
        session.until = reading.at;
        let newest = |pair: &mut Option<(f64, f64)>| *pair = Some((pair.map_or(value, |(first, _)| first), value));
        let Roles { power, soc, energy_import, energy_export } = self.roles;
        let told = &mut session.told;
        let place = Some(reading.point);
        if place == power {
            told.import_max_kw = told.import_max_kw.max(value);
            told.export_max_kw = told.export_max_kw.max(-value);
        } else if place == soc {
            newest(&mut told.soc);
        } else if place == energy_import && reading.count.is_some() {
            newest(&mut told.meter_import);
        } else if place == energy_export && reading.count.is_some() {
            newest(&mut told.meter_export);
        }
    }

    /// For so long the power was about this much, kW.
    pub(super) fn flow(&mut self, kw: f64, time: Duration) {
        let running = self.current.as_mut().filter(|session| session.told.state == SessionState::Running);
        let Some(ChargingSession { charging, discharging, idle, .. }) = running.map(|session| &mut session.told) else {
            return;
        };
        *match Direction::of(kw, self.dead_band_kw) {
            Direction::GridToVehicle => charging,
            Direction::VehicleToGrid => discharging,
            Direction::Idle => idle,
        } += time;
    }

    /// By what a session is found now.
    fn finds_by(&self) -> Option<SessionKnownBy> {
        match self.known_by {
            Some(SessionKnownBy::State) if !self.is_understood => Some(SessionKnownBy::Power),
            known_by => known_by,
        }
    }

    fn read_state(&mut self, word: &Arc<str>, at: Stamp) {
        if self.phase != *word {
            self.phase = Arc::clone(word);
            if let Some(session) = &mut self.current {
                session.told.phase = Arc::clone(word);
                session.is_changed = true;
            }
        }
        let connector = Connector::of_state(word);
        self.is_understood |= connector.is_some();
        match (self.known_by, connector) {
            (Some(SessionKnownBy::State), Some(Connector::Occupied)) if self.current.is_none() => {
                self.begin(None, at, false, true);
            }
            (Some(SessionKnownBy::State), Some(Connector::Free)) => self.end(SessionState::Ended, "disconnected", at),
            // A station that gives its sessions no id.
            (Some(SessionKnownBy::Messages), _) if &**word == CHARGING && self.current.is_none() => {
                let begun = self.begun.take();
                let (start, is_joined) = begun.unwrap_or((at, true));
                self.begin(None, start, is_joined, begun.is_some());
            }
            _ => {}
        }
    }

    fn read_power(&mut self, kw: f64, at: Stamp) {
        let flows = Direction::of(kw, self.dead_band_kw) != Direction::Idle;
        let (_, since) = *self.turned.get_or_insert((flows, at));
        if self.turned.is_some_and(|(before, _)| before != flows) {
            self.turned = Some((flows, at));
            return;
        }
        let time = at.mono.since(since.mono);
        if flows && self.current.is_none() && time >= POWER_BEGINS {
            self.begin(None, since, false, true);
        } else if !flows && time >= POWER_ENDS {
            self.end(SessionState::Ended, "no_power", since);
        }
    }

    /// An id that no other session has: of the boot, the device and the moment.
    fn own_id(&self, at: Stamp) -> SessionId {
        let bytes = self.boot.0.into_iter().chain(self.device.0.to_le_bytes()).chain(at.mono.0.to_le_bytes());
        let id = format!("{:016x}", fingerprint(bytes.chain(at.utc.0.to_le_bytes())));
        SessionId::try_from(id).expect("sixteen digits are an id")
    }

    fn begin(&mut self, id: Option<SessionId>, at: Stamp, is_joined: bool, is_begin_heard: bool) {
        let Some(source) = self.finds_by() else { return };
        let is_own = id.is_none();
        let told = ChargingSession {
            device: self.device,
            id: id.unwrap_or_else(|| self.own_id(at)),
            vehicle: self.vehicle.clone(),
            is_of_vehicle: self.vehicle.is_some(),
            source,
            start: SessionTime::At(at.utc),
            is_joined,
            until: SessionTime::At(at.utc),
            state: SessionState::Running,
            phase: Arc::clone(&self.phase),
            reason: "".into(),
            energy: Energy::default(),
            charging: Duration::ZERO,
            discharging: Duration::ZERO,
            idle: Duration::ZERO,
            import_max_kw: 0.0,
            export_max_kw: 0.0,
            soc: None,
            meter_import: None,
            meter_export: None,
        };
        let (start, last_told, is_changed) = (Some(at), None, true);
        self.current = Some(Session { told, start, until: at, last_told, is_changed, is_own, is_begin_heard });
    }

    /// What was paused, and does not go on after all, ended when it was heard last, and as was said then.
    fn end(&mut self, state: SessionState, reason: &str, at: Stamp) {
        let Some(session) = &mut self.current else { return };
        if session.told.state == SessionState::Running {
            (session.until, session.told.reason) = (at, reason.into());
        }
        session.is_changed |= session.told.state != state;
        session.told.state = state;
        if state == SessionState::Ended {
            self.ended.extend(self.current.take());
        }
    }

    /// Adds up what a window knows of energy, which ended at `end`, and says what there is to tell.
    pub(super) fn tell(&mut self, intervals: &[Interval], end: Stamp, out: &mut Vec<ChargingSession>) {
        out.append(&mut self.untold);
        for session in self.ended.iter_mut().chain(&mut self.current) {
            let is_own = |interval: &&Interval| interval.session.as_ref() == Some(&session.told.id);
            intervals.iter().filter(is_own).for_each(|interval| session.told.energy.add(interval.energy));
            out.extend(session.news(end));
        }
        self.ended.clear();
    }

    /// A part of a window that is not kept: its energy comes again.
    pub(super) fn take_back(&mut self, interval: &Interval) {
        if let Some(session) = &mut self.current {
            if interval.session.as_ref() == Some(&session.told.id) {
                session.told.energy.take_back(interval.energy);
            }
            session.is_changed = true;
        }
    }

    /// News of a window that is not kept: of what goes on there will be more.
    pub(super) fn tell_again(&mut self, told: &ChargingSession) {
        if told.state == SessionState::Ended {
            self.untold.push(told.clone());
        } else if let Some(session) = &mut self.current {
            session.is_changed = true;
        }
    }
}

impl Session {
    /// As it stands at the end of a window, if there is anything to tell.
    fn news(&mut self, end: Stamp) -> Option<ChargingSession> {
        let is_over = self.told.state != SessionState::Running;
        let is_due = self.last_told.is_none_or(|at| end.mono.since(at) >= TOLD_EVERY);
        if !self.is_changed && (is_over || !is_due) {
            return None;
        }
        (self.last_told, self.is_changed) = (Some(end.mono), false);
        if let Some(start) = self.start {
            self.told.start = beside(start, end);
            if let SessionTime::At(_) = self.told.start {
                self.start = None;
            }
        }
        self.told.until = beside(self.until, end);
        Some(self.told.clone())
    }
}

/// A moment beside the end of a window that tells it.
fn beside(at: Stamp, end: Stamp) -> SessionTime {
    if at.trust != ClockTrust::Unsynced {
        return SessionTime::At(at.utc);
    }
    let before = end.mono.since(at.mono);
    if end.trust == ClockTrust::Unsynced {
        return SessionTime::Before(before);
    }
    // Set in between.
    SessionTime::At(SessionTime::Before(before).utc(end.utc))
}
