//! The course of the sessions at one connector. Pure: frames and times in, [`TrackerOutput`] out.
//!
//! A session begins with SessionSetup, or is joined where it is heard first; it ends with SessionStop, with the connection, with
//! another session in its place, or after [`SILENCE`]. What is of the moment is known for [`STALE`], and no longer than the
//! session; a term (a limit, a word) is told when it changes and every [`REPEAT`].
//!
//! Bounds: one session, one known value per kind, 20 offered protocols (the schema's maximum), texts of 64 characters.

mod telling;

use std::sync::Arc;
use std::time::Duration;

use iso15118::Protocol;

use super::decode::{Agreed, Decoded, Unreadable, agreed_on, decode, protocol_name};
use super::energy::Energy;
use super::measured::{LOWER_OF_BOTH, Measured, phase_of};
use super::message::{Act, Datum, Heard, Stop};
use super::trouble::{News, Trouble};
use crate::measure::{Missing, Mono, Raw, SessionEvent};
use crate::spec::{SessionValue as V, VehicleId};

/// V2G_SECC_Sequence_Timeout (ISO 15118-2, table 109; -20, table 215): whoever is silent for so long has gone.
const SILENCE: Duration = Duration::from_secs(60);
/// A loop turns every 0.25 s (DC) to some seconds (AC).
const STALE: Duration = Duration::from_secs(10);
/// A term is told again after this, so that a consumer who came later has it, too.
const REPEAT: Duration = Duration::from_secs(10);
const TEXT_CHARS_MAX: usize = 64;

/// What is to be handed on, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum TrackerOutput {
    /// Values of one message.
    Values(Vec<(V, Result<Raw, Missing>)>),
    /// Something happened.
    Event(SessionEvent),
    /// Who stands there from now on.
    Vehicle(Option<VehicleId>),
}

/// One connector.
#[derive(Debug)]
pub struct Tracker {
    agreed: Agreed,
    namespace: Option<Arc<str>>,
    offers: Vec<(u8, String)>,
    vehicle: Option<VehicleId>,
    session: Option<Session>,
    state: &'static str,
    known: [Option<Known>; V::COUNT],
    /// When the last message was understood.
    heard_at: Option<Mono>,
    trouble: Trouble,
    messages: u64,
    sessions: u64,
    last_end: Option<String>,
    told: Vec<TrackerOutput>,
    values: Vec<(V, Result<Raw, Missing>)>,
    heard: Heard,
}

#[derive(Debug)]
struct Session {
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
            session: None,
            state: "",
            known: [None; V::COUNT],
            heard_at: None,
            trouble: Trouble::default(),
            messages: 0,
            sessions: 0,
            last_end: None,
            told: Vec::new(),
            values: Vec::new(),
            heard: Heard::default(),
        }
    }
}

impl Tracker {
    /// The connection of a session was opened.
    pub fn handle_open(&mut self, now: Mono) {
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

    /// The agent stops: what is known of the session is told.
    pub fn handle_stop(&mut self, now: Mono) {
        self.close("agent_stopped", now);
    }

    fn close(&mut self, how: &'static str, now: Mono) {
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
        let mut heard = std::mem::take(&mut self.heard);
        match decode(&self.agreed, payload_type, payload, &mut heard) {
            Decoded::Not(reason) => {
                let has_read = self.session.as_ref().is_some_and(|session| session.messages > 0);
                let reason = match (reason, &self.agreed) {
                    (Unreadable::Undecodable, Agreed::On(_)) if !has_read => Unreadable::SchemaMismatch,
                    (reason, _) => reason,
                };
                self.handle_unreadable(reason, now);
            }
            Decoded::As(protocol) => {
                let Self { trouble, told, namespace, .. } = self;
                trouble.good(now, |news| told.push(tell_news(news, namespace.as_ref())));
                self.messages += 1;
                self.heard_at = Some(now);
                match protocol {
                    None => self.handshake(&mut heard, now),
                    Some(protocol) => self.message(protocol, &mut heard, now),
                }
                self.flush();
            }
        }
        self.heard = heard;
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
            self.end("silent", now);
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
    pub fn is_troubled(&self) -> bool {
        self.trouble.is_now()
    }

    /// Messages understood since the start.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Frames that could not be read since the start, by reason.
    pub fn unreadable(&self) -> impl Iterator<Item = (Unreadable, u64)> + '_ {
        self.trouble.counts()
    }

    fn handshake(&mut self, heard: &mut Heard, now: Mono) {
        match std::mem::take(&mut heard.act) {
            Act::Offer(offers) => {
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
                        self.told.push(TrackerOutput::Event(SessionEvent::Unreadable { reason, count: 0, namespace }));
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
            self.begin("new", now);
            self.vehicle = vehicle_id(id);
            self.told.push(TrackerOutput::Vehicle(self.vehicle.clone()));
        }
        if self.session.is_none() {
            if heard.name == "SessionStopRes" {
                return;
            }
            self.begin("joined", now);
        }
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

    fn read_values(&mut self, heard: &mut Heard, now: Mono) {
        let mut measured = Measured::default();
        for (value, datum) in heard.values.drain(..) {
            match datum {
                Datum::Number(number) => {
                    let number = self.normalised(value, number, now);
                    measured.note(value, number);
                    self.tell_number(value, number, now);
                }
                Datum::Whole(whole) => self.tell_raw(value, Raw::Integer(whole.into()), now),
                Datum::Word(word) => self.read_word(value, word, now),
                Datum::Text(text) => self.read_text(value, &text, now),
                Datum::Unusable => self.values.push((value, Err(Missing::Decode))),
            }
        }
        self.derive(&measured, now);
    }

    /// Limits of discharge are magnitudes here; some stacks send them negative.
    fn normalised(&mut self, value: V, number: f64, now: Mono) -> f64 {
        let sign = match value {
            V::EvPowerDischarge | V::EvCurrentDischarge => Some(V::EvDischargeSign),
            V::EvsePowerDischarge | V::EvseCurrentDischarge => Some(V::EvseDischargeSign),
            V::EvPowerDischargeL2
            | V::EvPowerDischargeL3
            | V::EvPowerDischargeLeast
            | V::EvCurrentDischargeLeast
            | V::EvsePowerDischargeL2
            | V::EvsePowerDischargeL3
            | V::EvsePowerDischargeLeast
            | V::EvseCurrentDischargeLeast => None,
            _ => return number,
        };
        if let Some(sign) = sign.filter(|_| number != 0.0) {
            self.tell_word(sign, if number < 0.0 { "negative" } else { "positive" }, now);
        }
        number.abs()
    }

    fn read_word(&mut self, value: V, word: &'static str, now: Mono) {
        let is_new = self.tell_word(value, word, now);
        let warns = match value {
            V::EvseNotification => word != "None",
            V::EvseStatus => matches!(
                word,
                "EVSE_Shutdown" | "EVSE_UtilityInterruptEvent" | "EVSE_EmergencyShutdown" | "EVSE_Malfunction"
            ),
            V::EvError => word != "NO_ERROR",
            V::FaultCode => true,
            V::Isolation => matches!(word, "Warning" | "Fault"),
            _ => false,
        };
        if !warns {
            return;
        }
        if let Some(session) = &mut self.session {
            // What the station does counts for more than what it asks for.
            let is_graver = value != V::EvseNotification || session.cause.is_none();
            if is_graver {
                session.cause = Some(word);
            }
        }
        if is_new {
            self.told.push(TrackerOutput::Event(SessionEvent::Notified { what: word.into() }));
        }
    }

    fn read_text(&mut self, value: V, text: &str, now: Mono) {
        let Some(session) = &mut self.session else { return };
        if value == V::EvseId && *session.evse_id != *text {
            session.evse_id = bounded(text, TEXT_CHARS_MAX).into();
        }
        let id = Arc::clone(&session.evse_id);
        self.tell_raw(value, Raw::Text(id), now);
    }

    /// What follows from a message's values: power, energy, the limits that bind both.
    fn derive(&mut self, measured: &Measured, now: Mono) {
        let Some(session) = &mut self.session else { return };
        session.station_power |= measured.station_power.is_some();
        let power = match (measured.voltage, measured.current) {
            (Some(voltage), Some(current)) => Some(voltage * current / 1000.0),
            _ if session.station_power => measured.station_power,
            _ => measured.vehicle_power,
        };
        // A station may tell its power before the loop; energy flows in the loop.
        match power.filter(|power| is_plausible(V::PowerFlow, *power)) {
            Some(power) if self.state == "charging" => session.energy.power(power, now),
            Some(_) => session.energy.pause(),
            None => {}
        }
        session.energy.meter(measured.meter_import, measured.meter_export);
        let sums = (power.is_some() || measured.meter_import.is_some())
            .then(|| (session.energy.import_kwh(), session.energy.export_kwh(), session.energy.source()));
        if let Some(power) = power {
            self.tell_number(V::PowerFlow, power, now);
        }
        if let Some((import, export, source)) = sums {
            self.tell_number(V::EnergyImport, import, now);
            self.tell_number(V::EnergyExport, export, now);
            self.tell_word(V::EnergySource, source, now);
        }
        if measured.has_limits {
            for (value, ours, theirs) in LOWER_OF_BOTH {
                let lower = match (self.limit(ours), self.limit(theirs)) {
                    (Some(one), Some(other)) => Some(one.min(other)),
                    (one, other) => one.or(other),
                };
                if let Some(lower) = lower {
                    self.tell_number(value, lower, now);
                }
            }
        }
    }

    /// The sum of a limit's phases.
    fn limit(&self, phases: &[V]) -> Option<f64> {
        let known = |value: &V| self.known[value.index()].map(|known| known.number);
        phases.first().and_then(known).map(|first| first + phases[1..].iter().filter_map(known).sum::<f64>())
    }

    fn begin(&mut self, how: &'static str, now: Mono) {
        self.known = [None; V::COUNT];
        self.sessions += 1;
        self.session = Some(Session {
            began: now,
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
            energy: Energy::default(),
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
        let Some(session) = self.session.take() else { return };
        self.forget_present();
        let until = self.heard_at.unwrap_or(now);
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
            seconds: until.since(session.began).as_secs(),
            import_wh: watt_hours(session.energy.import_kwh()),
            export_wh: watt_hours(session.energy.export_kwh()),
            energy_source: session.energy.source().into(),
            messages: session.messages,
            unreadable: session.unreadable,
        }));
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

/// A vehicle's name as a tag can carry it; none if nothing of it is left.
fn vehicle_id(text: &str) -> Option<VehicleId> {
    let plain: String = text
        .chars()
        .take(TEXT_CHARS_MAX)
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' })
        .collect();
    VehicleId::try_from(plain).ok()
}

fn bounded(text: &str, chars_max: usize) -> String {
    text.chars().take(chars_max).collect()
}

fn is_plausible(value: V, number: f64) -> bool {
    value.valid().is_none_or(|(low, high)| (low..=high).contains(&number))
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a session's energy is below 2^53 Wh and not negative"
)]
fn watt_hours(kwh: f64) -> u64 {
    (kwh * 1000.0).round().max(0.0) as u64
}
