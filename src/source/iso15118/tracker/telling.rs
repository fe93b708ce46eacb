//! How the tracker tells: a value of the moment each time, a term when it changes and now and then, a fact for `status`.

use super::{Known, REPEAT, Tracker, TrackerOutput};
use crate::health::SessionFacts;
use crate::measure::{self, Mono, Raw};
use crate::source::iso15118::decode::Agreed;
use crate::source::iso15118::energy::Energy;
use crate::spec::SessionValue as V;

impl Tracker {
    /// What `status` shows.
    pub fn facts(&self, facts: &mut SessionFacts) {
        let protocol = match self.agreed {
            Agreed::On(protocol) => Some(protocol.as_str().to_owned()),
            Agreed::Unheard | Agreed::Foreign => None,
        };
        facts.state = if self.state.is_empty() { "unknown".to_owned() } else { self.state.to_owned() };
        facts.protocol = protocol;
        facts.namespace = self.namespace.as_deref().map(str::to_owned);
        facts.vehicle = self.vehicle.clone();
        facts.sessions = self.sessions;
        facts.messages = self.messages;
        facts.readable = !self.trouble.is_now();
        facts.last_end.clone_from(&self.last_end);
        let session = self.session.as_ref();
        facts.evse_id = session.map(|s| s.evse_id.to_string()).filter(|id| !id.is_empty());
        let number = |value: V| session.and(self.known[value.index()]).map(|known| known.number);
        facts.soc = number(V::Soc);
        facts.voltage = number(V::Voltage);
        facts.current = number(V::Current);
        let works_out = session.is_some_and(|session| session.meter_power.is_begun());
        let power = session.and(self.known[V::PowerFlow.index()]);
        facts.power_source = power.map(|_| if works_out { "meter" } else { "present" }.to_owned());
        let energy = session.map(|s| &s.energy).filter(|energy| energy.is_known());
        facts.energy_import_kwh = energy.map(Energy::import_kwh);
        facts.energy_export_kwh = energy.map(Energy::export_kwh);
        facts.energy_source = energy.map(|energy| energy.source().to_owned());
    }

    pub(super) fn flush(&mut self) {
        if !self.values.is_empty() {
            self.told.push(TrackerOutput::Values(std::mem::take(&mut self.values)));
        }
    }

    pub(super) fn tell_number(&mut self, value: V, number: f64, now: Mono) {
        self.tell(value, number.to_bits(), number, now, || Raw::Float(number));
    }

    pub(super) fn tell_word(&mut self, value: V, word: &'static str, now: Mono) -> bool {
        self.tell(value, measure::fingerprint(word.bytes()), 0.0, now, || Raw::Text(word.into()))
    }

    pub(super) fn tell_raw(&mut self, value: V, raw: Raw, now: Mono) {
        let fingerprint = match &raw {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a fingerprint, not a number")]
            Raw::Integer(integer) => *integer as u64,
            Raw::Float(float) => float.to_bits(),
            Raw::Text(text) => measure::fingerprint(text.bytes()),
        };
        self.tell(value, fingerprint, 0.0, now, || raw);
    }

    /// Puts a value among those to be told, unless it is told on change and has not; answers whether it has changed.
    fn tell(&mut self, value: V, fingerprint: u64, number: f64, now: Mono, raw: impl FnOnce() -> Raw) -> bool {
        let known = &mut self.known[value.index()];
        let changed = known.is_none_or(|known| known.fingerprint != fingerprint);
        let is_due = known.is_none_or(|known| now.since(known.at) >= REPEAT);
        if changed || is_due || !value.is_told_on_change() {
            *known = Some(Known { fingerprint, number, at: now });
            // Twice in one message: the last word counts.
            match self.values.iter_mut().find(|(told, _)| *told == value) {
                Some(told) => told.1 = Ok(raw()),
                None => self.values.push((value, Ok(raw()))),
            }
        }
        changed
    }
}
