//! The course of the sessions at one connector. Pure: frames and times in, [`TrackerOutput`] out.
//!
//! A session is its SessionID. It begins with SessionSetup, or is joined where it is heard first; it ends with SessionStop, with
//! the connection, with another session in its place, or after [`SILENCE`]. A lost feed ends none: who comes back with the same
//! SessionID goes on. What is a message of another session, and what a stray, is decided in `strays`.
//! What is of the moment is known for [`STALE`], and no longer than the session; a term (a limit, a word) is told when it
//! changes and every [`REPEAT`].
//!
//! Bounds: one session, one known value per kind, 20 offered protocols (the schema's maximum), texts of 64 characters.

mod held;
mod strays;
mod telling;
mod values;

use std::sync::Arc;
use std::time::Duration;

use iso15118::Protocol;

use self::held::Held;
use super::decode::{Agreed, Decoded, Unreadable, agreed_on, decode, protocol_name};
use super::energy::Energy;
use super::measured::phase_of;
use super::message::{Act, Heard, Stop};
use super::meter_power::MeterPower;
use super::trouble::{News, Trouble};
use super::vehicle::VehicleIds;
use crate::measure::{Missing, Mono, Raw, SessionEvent};
use crate::spec::{SessionValue as V, VehicleId};

/// V2G_SECC_Sequence_Timeout (ISO 15118-2, table 109; -20, table 215): whoever is silent for so long has gone.
const SILENCE: Duration = Duration::from_secs(60);
/// A loop turns every 0.25 s (DC) to some seconds (AC).
const STALE: Duration = Duration::from_secs(10);
/// A term is told again after this, so that a consumer who came later has it, too.
const REPEAT: Duration = Duration::from_secs(10);
const TEXT_CHARS_MAX: usize = 64;
/// Between two events of a namespace that is not known.
const FOREIGN_PACE: Duration = Duration::from_secs(1);

/// What is to be handed on, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum TrackerOutput {
    /// Values of one message.
    Values(Vec<(V, Result<Raw, Missing>)>),
    /// Something happened.
    Event(SessionEvent),
    /// Who stands there from now on.
    Vehicle(Option<VehicleId>),
    /// The session that runs from now on has an id; `None`: it is over.
    Session(Option<Identified>),
    /// A value stands still from now on that should move, or moves again.
    Stuck(V, bool),
}

/// A session whose id is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identified {
    /// The header's SessionID.
    pub id: u64,
    /// The station has just given it, to a session that does not go on from one before.
    pub is_given: bool,
}

/// One connector.
#[derive(Debug)]
pub struct Tracker {
    agreed: Agreed,
    namespace: Option<Arc<str>>,
    offers: Vec<(u8, String)>,
    vehicle: Option<VehicleId>,
    vehicle_ids: VehicleIds,
    /// Power may be worked out of the meter: messages come with their times, and it can be marked.
    works_out_power: bool,
    session: Option<Session>,
    state: &'static str,
    known: [Option<Known>; V::COUNT],
    /// When the last message was understood, and where it stands on the line of the feed's own times.
    heard_at: Option<Mono>,
    heard_own: Mono,
    /// The feed was lost while a session ran.
    is_lost: bool,
    /// Messages of one other session, until it is clear what they are.
    held: Vec<Held>,
    /// Messages of another protocol since the last one of the session's.
    strays: u32,
    trouble: Trouble,
    /// When it was last told that a namespace that is not known was agreed on.
    foreign_told_at: Option<Mono>,
    messages: u64,
    sessions: u64,
    last_end: Option<String>,
    /// The widest steps of the station's meters (import, export) that any session has shown, kWh.
    meter_steps: (f64, f64),
    told: Vec<TrackerOutput>,
    values: Vec<(V, Result<Raw, Missing>)>,
    heard: Heard,
}

#[derive(Debug)]
struct Session {
    /// The header's, once the station has given it.
    id: Option<u64>,
    /// On the line of the feed's own times.
    began: Mono,
    how: &'static str,
    is_told: bool,
    evse_id: Arc<str>,
    messages: u64,
    unreadable: u64,
    stop: Option<(Stop, Option<String>)>,
    failed: Option<&'static str>,
    /// What a header's notification said.
    fault: Option<String>,
    /// The last warning of either side.
    cause: Option<&'static str>,
    /// The station tells its own power (AC): the vehicle's is not the power then.
    station_power: bool,
    energy: Energy,
    meter_power: MeterPower,
    /// The meter of each direction stands still though energy flows, as was told.
    stuck: (bool, bool),
    /// That something stands behind its messages is told.
    is_trailed: bool,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    fingerprint: u64,
    number: f64,
    at: Mono,
}

impl Default for Tracker {
    fn default() -> Self {
        Self {
            agreed: Agreed::Unheard,
            namespace: None,
            offers: Vec::new(),
            vehicle: None,
            vehicle_ids: VehicleIds::Send,
            works_out_power: false,
            session: None,
            state: "",
            known: [None; V::COUNT],
            heard_at: None,
            heard_own: Mono(0),
            is_lost: false,
            held: Vec::new(),
            strays: 0,
            trouble: Trouble::default(),
            foreign_told_at: None,
            messages: 0,
            sessions: 0,
            last_end: None,
            meter_steps: (0.0, 0.0),
            told: Vec::new(),
            values: Vec::new(),
            heard: Heard::default(),
        }
    }
}

impl Tracker {
    /// One that tells vehicles so.
    #[must_use]
    pub fn telling(vehicle_ids: VehicleIds) -> Self {
        Self { vehicle_ids, ..Self::default() }
    }

    /// Works out power where nobody tells it.
    pub fn work_out_power(&mut self) {
        self.works_out_power = true;
    }

    /// The connection of a session was opened.
    pub fn handle_open(&mut self, now: Mono) {
        if std::mem::take(&mut self.is_lost) && self.session.is_some() {
            // A feed that comes back may begin so. Its first message shows whether the session is another one.
            return;
        }
        self.drop_held(now);
        self.end("superseded", now);
        self.forget_agreement();
        if self.state.is_empty() {
            self.set_state("idle", now);
        }
    }

    /// The station has told a vehicle where it listens.
    pub fn handle_discovery(&mut self, now: Mono) {
        if self.session.is_none() && self.state != "encrypted" {
            self.set_state("discovery", now);
        }
    }

    /// It was closed.
    pub fn handle_close(&mut self, now: Mono) {
        self.close("aborted", now);
    }

    /// The feed is lost: the session may go on unheard. What is of the moment is not known.
    pub fn handle_feed_lost(&mut self, now: Mono) {
        let goes_on = |s: &Session| s.id.is_some() && s.failed.is_none() && s.stop.is_none();
        if self.session.as_ref().is_some_and(goes_on) {
            self.drop_held(now);
            self.forget_present();
            self.is_lost = true;
            // A choice that is heard next may answer an offer that was not.
            self.offers.clear();
        } else {
            self.close("aborted", now);
        }
    }

    /// The agent stops: what is known of the session is told.
    pub fn handle_stop(&mut self, now: Mono) {
        self.close("agent_stopped", now);
    }

    fn close(&mut self, how: &'static str, now: Mono) {
        self.release(now);
        let how = match &self.session {
            Some(Session { failed: Some(_), .. }) => "failed",
            Some(Session { stop: Some((Stop::Pause, _)), .. }) => "paused",
            Some(Session { stop: Some((Stop::Terminate, _)), .. }) => "terminated",
            _ => how,
        };
        self.end(how, now);
        self.forget_agreement();
        if matches!(self.state, "encrypted" | "discovery" | "handshake" | "unknown_protocol") {
            self.set_state("idle", now);
        }
    }

    /// The connection speaks TLS.
    pub fn handle_encrypted(&mut self, now: Mono) {
        self.drop_held(now);
        self.end("superseded", now);
        self.forget_agreement();
        if self.state != "encrypted" {
            self.told.push(TrackerOutput::Event(SessionEvent::Encrypted));
            self.set_state("encrypted", now);
        }
    }

    /// Something that is no message came, or something is missing.
    pub fn handle_unreadable(&mut self, reason: Unreadable, now: Mono) {
        let Self { trouble, told, namespace, .. } = self;
        trouble.bad(reason, now, |news| told.push(tell_news(news, namespace.as_ref())));
        if let Some(session) = &mut self.session {
            session.unreadable += 1;
            let count = session.unreadable;
            self.tell_raw(V::Unreadable, Raw::Integer(count.into()), now);
            self.flush();
        }
    }

    /// A frame came: its payload type and what it carries.
    pub fn handle_frame(&mut self, payload_type: u16, payload: &[u8], now: Mono) {
        self.handle_frame_of(payload_type, payload, now, now);
    }

    /// The same of a feed that has times of its own: `own` is where the frame stands on their line. Energies and lengths count by it.
    pub fn handle_frame_of(&mut self, payload_type: u16, payload: &[u8], now: Mono, own: Mono) {
        let mut heard = std::mem::take(&mut self.heard);
        match self.decode(payload_type, payload, &mut heard) {
            Decoded::As(Some(protocol)) if self.is_stray(protocol, &heard) => {
                self.handle_unreadable(Unreadable::OtherProtocol, now);
            }
            Decoded::Not(reason) => {
                let has_read = self.session.as_ref().is_some_and(|session| session.messages > 0);
                let reason = match (reason, &self.agreed) {
                    (Unreadable::Undecodable, Agreed::On(_)) if !has_read => Unreadable::SchemaMismatch,
                    (reason, _) => reason,
                };
                self.handle_unreadable(reason, now);
            }
            Decoded::As(protocol) => {
                self.drop_held_before(&heard, now);
                let Self { trouble, told, namespace, .. } = self;
                trouble.good(now, |news| told.push(tell_news(news, namespace.as_ref())));
                self.messages += 1;
                self.heard_at = Some(now);
                self.remark_on(&heard, now);
                match protocol {
                    None => {
                        self.heard_own = own;
                        self.handshake(&mut heard, now);
                    }
                    Some(protocol) => self.of_session(protocol, &mut heard, now, own),
                }
                self.flush();
            }
        }
        self.heard = heard;
    }

    /// Counts what is odd about a message that is read; it is told once in a session.
    fn remark_on(&mut self, heard: &Heard, now: Mono) {
        if !heard.is_trailed {
            return;
        }
        let reason = Unreadable::TrailingBytes;
        let is_news = self.session.as_ref().is_some_and(|session| !session.is_trailed);
        if self.trouble.remark(reason, is_news, now)
            && let Some(session) = &mut self.session
        {
            session.is_trailed = true;
            self.told.push(tell_news(News::Unreadable { reason, count: 1 }, self.namespace.as_ref()));
        }
    }

    /// After a lost feed the next vehicle may have agreed on another protocol, unheard.
    fn decode(&self, payload_type: u16, payload: &[u8], heard: &mut Heard) -> Decoded {
        let decoded = decode(&self.agreed, payload_type, payload, heard);
        if self.is_lost
            && let Decoded::Not(Unreadable::Undecodable) = decoded
        {
            return decode(&Agreed::Unheard, payload_type, payload, heard);
        }
        decoded
    }

    /// Time passes: at least once a second.
    pub fn poll(&mut self, now: Mono) {
        if self.trouble.is_waiting() {
            let Self { trouble, told, namespace, .. } = self;
            trouble.poll(now, |news| told.push(tell_news(news, namespace.as_ref())));
        }
        let Some(heard_at) = self.heard_at else { return };
        let silence = now.since(heard_at);
        if silence >= SILENCE {
            self.drop_held(now);
            let was_lost = std::mem::take(&mut self.is_lost);
            self.end(if was_lost { "aborted" } else { "silent" }, now);
            if was_lost {
                // Nobody has heard what the next vehicle agrees on.
                self.forget_agreement();
            }
            self.heard_at = None;
        } else if silence >= STALE {
            self.forget_present();
        }
    }

    /// What is to be handed on since the last time.
    pub fn drain(&mut self) -> impl Iterator<Item = TrackerOutput> + '_ {
        self.told.drain(..)
    }

    /// Whether frames cannot be read just now.
    #[must_use]
    pub fn is_troubled(&self) -> bool {
        self.trouble.is_now()
    }

    /// Messages understood since the start.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Where the last message stands on the line of the feed's own times.
    pub(super) fn heard_own(&self) -> Mono {
        self.heard_own
    }

    /// Frames that could not be read since the start, by reason.
    pub fn unreadable(&self) -> impl Iterator<Item = (Unreadable, u64)> + '_ {
        self.trouble.counts()
    }

    fn handshake(&mut self, heard: &mut Heard, now: Mono) {
        match std::mem::take(&mut heard.act) {
            Act::Offer(offers) => {
                self.is_lost = false;
                self.end("superseded", now);
                self.forget_agreement();
                self.offers = offers;
                self.set_state("handshake", now);
            }
            Act::Choice(schema_id) => {
                let response = heard.response;
                if let Some(response) = response.filter(|response| response.is_failed()) {
                    self.last_end = Some(format!("failed: {}", response.code));
                    let (code, message) = (response.code.into(), heard.name.into());
                    self.told.push(TrackerOutput::Event(SessionEvent::Failed { code, message }));
                    self.set_state("failed", now);
                    return;
                }
                // A station may leave the id out when there was one offer only.
                let chosen = match schema_id {
                    Some(id) => self.offers.iter().find(|(offered, _)| *offered == id),
                    None if self.offers.len() == 1 => self.offers.first(),
                    None => None,
                };
                // Without the offer, the first message will show what was chosen.
                let Some((_, namespace)) = chosen else { return };
                let namespace: Arc<str> = bounded(namespace, 100).into();
                self.agreed = agreed_on(&namespace);
                self.namespace = Some(Arc::clone(&namespace));
                match self.agreed {
                    Agreed::On(protocol) => {
                        self.tell_raw(V::Protocol, Raw::Text(protocol_name(protocol)), now);
                    }
                    Agreed::Foreign | Agreed::Unheard => {
                        let reason = Unreadable::UnknownNamespace.as_str().into();
                        // Once a second: who agrees again and again gets nowhere.
                        if self.foreign_told_at.is_none_or(|told| now.since(told) >= FOREIGN_PACE) {
                            self.foreign_told_at = Some(now);
                            let told = SessionEvent::Unreadable { reason, count: 0, namespace };
                            self.told.push(TrackerOutput::Event(told));
                        }
                        self.set_state("unknown_protocol", now);
                    }
                }
            }
            _ => {}
        }
    }

    fn message(&mut self, protocol: Protocol, heard: &mut Heard, now: Mono) {
        if self.agreed != Agreed::On(protocol) {
            if matches!(self.agreed, Agreed::On(_)) {
                self.end("superseded", now);
            }
            self.agreed = Agreed::On(protocol);
            self.namespace = None;
        }
        let act = std::mem::take(&mut heard.act);
        if let Act::Vehicle(id) = &act {
            self.end("superseded", now);
            self.begin("new");
            self.vehicle = self.vehicle_ids.told(id);
            self.told.push(TrackerOutput::Vehicle(self.vehicle.clone()));
        }
        if self.session.is_none() {
            if heard.name == "SessionStopRes" {
                return;
            }
            self.begin("joined");
        }
        self.know_id(heard.session, &act);
        self.tell_raw(V::Protocol, Raw::Text(protocol_name(protocol)), now);
        if let Some(phase) = phase_of(heard.name, &act) {
            self.set_phase(phase, now);
        }
        self.read_values(heard, now);
        if let Act::Established { resumed: true } = act
            && let Some(session) = &mut self.session
        {
            session.how = "resumed";
        }
        // The beginning of a session is told when both are known by name.
        if !matches!(act, Act::Vehicle(_)) {
            self.tell_start(protocol);
        }
        self.respond(heard);
        if let Act::Stop { how, reason } = act
            && let Some(session) = &mut self.session
        {
            session.stop = Some((how, reason));
        }
        self.count(now);
        if heard.name == "SessionStopRes" {
            self.stopped(now);
        }
    }

    /// The station gives the session its id; who joins takes it from the first message.
    fn know_id(&mut self, id: Option<u64>, act: &Act) {
        let (Some(session), Some(id)) = (&mut self.session, id.filter(|id| *id != 0)) else { return };
        let known = session.id;
        match act {
            // The vehicle names the session before, or none.
            Act::Vehicle(_) => {}
            Act::Established { .. } => session.id = Some(id),
            _ => {
                session.id.get_or_insert(id);
            }
        }
        if let Some(id) = session.id.filter(|id| known != Some(*id)) {
            let is_given = *act == Act::Established { resumed: false };
            self.told.push(TrackerOutput::Session(Some(Identified { id, is_given })));
        }
    }

    fn count(&mut self, now: Mono) {
        let Some(session) = &mut self.session else { return };
        session.messages += 1;
        let messages = session.messages;
        self.tell_raw(V::Messages, Raw::Integer(messages.into()), now);
    }

    fn stopped(&mut self, now: Mono) {
        let Some(session) = &mut self.session else { return };
        match (session.failed, session.stop.as_ref().map(|(how, _)| *how)) {
            (Some(_), _) => self.end("failed", now),
            (None, Some(Stop::Pause)) => self.end("paused", now),
            (None, Some(Stop::Renegotiate)) => {
                session.stop = None;
                self.set_phase("service", now);
            }
            (None, Some(Stop::Terminate) | None) => self.end("terminated", now),
        }
    }

    fn respond(&mut self, heard: &mut Heard) {
        let Some(session) = &mut self.session else { return };
        if let Some(fault) = heard.fault.take() {
            session.fault = Some(bounded(&fault, TEXT_CHARS_MAX));
        }
        let Some(response) = heard.response else { return };
        if response.is_failed() {
            if session.failed.replace(response.code) != Some(response.code) {
                let (code, message) = (response.code.into(), heard.name.into());
                self.told.push(TrackerOutput::Event(SessionEvent::Failed { code, message }));
            }
        } else if response.code.starts_with("WARNING") {
            session.cause = Some(response.code);
            self.told.push(TrackerOutput::Event(SessionEvent::Notified { what: response.code.into() }));
        }
    }

    fn begin(&mut self, how: &'static str) {
        self.known = [None; V::COUNT];
        self.sessions += 1;
        self.session = Some(Session {
            id: None,
            began: self.heard_own,
            how,
            is_told: false,
            evse_id: "".into(),
            messages: 0,
            unreadable: 0,
            stop: None,
            failed: None,
            fault: None,
            cause: None,
            station_power: false,
            energy: Energy::of_steps(self.meter_steps),
            meter_power: MeterPower::default(),
            stuck: (false, false),
            is_trailed: false,
        });
    }

    fn tell_start(&mut self, protocol: Protocol) {
        let Some(session) = self.session.as_mut().filter(|session| !session.is_told) else { return };
        session.is_told = true;
        self.told.push(TrackerOutput::Event(SessionEvent::Started {
            protocol: protocol_name(protocol),
            namespace: self.namespace.clone().unwrap_or_else(|| "".into()),
            evse_id: Arc::clone(&session.evse_id),
            how: session.how.into(),
        }));
    }

    fn end(&mut self, how: &'static str, now: Mono) {
        // Whoever hears of an end has heard of the start.
        if let Agreed::On(protocol) = self.agreed {
            self.tell_start(protocol);
        }
        let Some(mut session) = self.session.take() else { return };
        if session.energy.finish(self.heard_own) {
            self.tell_number(V::EnergyImport, session.energy.import_kwh(), now);
            self.tell_number(V::EnergyExport, session.energy.export_kwh(), now);
        }
        self.meter_steps = session.energy.steps();
        self.forget_present();
        let Session { failed, fault, stop, cause, .. } = &session;
        let said = stop.as_ref().and_then(|(_, reason)| reason.as_deref());
        let led_to_it = [*failed, fault.as_deref(), said, cause.filter(|_| failed.is_none() && said.is_none())];
        let reason = led_to_it.into_iter().flatten().collect::<Vec<_>>().join(": ");
        self.last_end = Some(if reason.is_empty() { how.to_owned() } else { format!("{how}: {reason}") });
        self.set_state(how, now);
        self.flush();
        self.told.push(TrackerOutput::Event(SessionEvent::Ended {
            how: how.into(),
            reason: reason.into(),
            seconds: self.heard_own.since(session.began).as_secs(),
            import_wh: watt_hours(session.energy.import_kwh()),
            export_wh: watt_hours(session.energy.export_kwh()),
            energy_source: session.energy.source().into(),
            messages: session.messages,
            unreadable: session.unreadable,
        }));
        // A mark is of its session.
        for (value, _) in
            [(V::MeterImport, session.stuck.0), (V::MeterExport, session.stuck.1)].into_iter().filter(|stuck| stuck.1)
        {
            self.told.push(TrackerOutput::Stuck(value, false));
        }
        if session.id.is_some() {
            self.told.push(TrackerOutput::Session(None));
        }
        if self.vehicle.take().is_some() {
            self.told.push(TrackerOutput::Vehicle(None));
        }
        self.known = [None; V::COUNT];
    }

    fn forget_agreement(&mut self) {
        self.agreed = Agreed::Unheard;
        self.namespace = None;
        self.offers.clear();
    }

    /// What was of the moment is not known any more.
    fn forget_present(&mut self) {
        for value in V::ALL.into_iter().filter(|value| value.is_present() || *value == V::PowerFlow) {
            if self.known[value.index()].take().is_some() {
                self.values.push((value, Err(Missing::Stale)));
            }
        }
        if let Some(session) = &mut self.session {
            session.energy.pause();
            session.meter_power.pause();
        }
        self.flush();
    }

    fn set_phase(&mut self, phase: &'static str, now: Mono) {
        if self.state != phase {
            let before = if self.state.is_empty() { "unknown" } else { self.state };
            self.told.push(TrackerOutput::Event(SessionEvent::Phase { phase: phase.into(), before: before.into() }));
        }
        self.set_state(phase, now);
    }

    fn set_state(&mut self, state: &'static str, now: Mono) {
        self.state = state;
        self.tell_word(V::State, state, now);
        self.flush();
    }
}

fn tell_news(news: News, namespace: Option<&Arc<str>>) -> TrackerOutput {
    TrackerOutput::Event(match news {
        News::Unreadable { reason, count } => SessionEvent::Unreadable {
            reason: reason.as_str().into(),
            count,
            namespace: namespace.cloned().unwrap_or_else(|| "".into()),
        },
        News::Readable { count } => SessionEvent::Readable { count },
    })
}

fn bounded(text: &str, chars_max: usize) -> String {
    text.chars().take(chars_max).collect()
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a session's energy is below 2^53 Wh and not negative"
)]
fn watt_hours(kwh: f64) -> u64 {
    (kwh * 1000.0).round().max(0.0) as u64
}
