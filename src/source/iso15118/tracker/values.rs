//! The values of a message, and what follows from them: power, energy, the limits that bind both sides.

use std::sync::Arc;

use iso15118::Protocol;

use super::{TEXT_CHARS_MAX, Tracker, TrackerOutput, bounded};
use crate::measure::{Missing, Mono, Raw, SessionEvent};
use crate::source::iso15118::decode::Agreed;
use crate::source::iso15118::measured::{LOWER_OF_BOTH, Measured};
use crate::source::iso15118::message::{Datum, Heard};
use crate::spec::SessionValue as V;

/// The loop of AC in ISO 15118-2: there the reading is the station's own and of now. A receipt has one of before.
const CHARGING_STATUS: &str = "ChargingStatusRes";

impl Tracker {
    pub(super) fn read_values(&mut self, heard: &mut Heard, now: Mono) {
        let mut measured = Measured::default();
        for (value, datum) in heard.values.drain(..) {
            match datum {
                Datum::Number(number) => {
                    let value = if number < 0.0 { discharge_of(value) } else { value };
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
        if heard.name == CHARGING_STATUS && self.agreed == Agreed::On(Protocol::Iso2) {
            self.work_out(measured.meter_import, now);
        } else if self.state != "charging"
            && let Some(session) = self.session.as_mut().filter(|session| session.meter_power.is_begun())
        {
            session.meter_power.pause();
            self.forget_power();
        }
    }

    /// In an AC session of ISO 15118-2 nobody tells the power: it is what the meter has counted since a while ago.
    fn work_out(&mut self, reading: Option<f64>, now: Mono) {
        let known = |value: V| self.known[value.index()].map(|known| known.number);
        let offer = (known(V::EvseCurrentCharge), known(V::NominalVoltage));
        let (Some(session), own) = (self.session.as_mut().filter(|_| self.works_out_power), self.heard_own) else {
            return;
        };
        let power = match reading {
            Some(kwh) => session.meter_power.read(kwh, own, offer),
            None if session.meter_power.is_fresh(own) => return,
            None => None,
        };
        if let Some(power) = power {
            self.tell_number(V::PowerFlow, power, now);
            // Beside each of them, and not only now and then.
            self.known[V::PowerSource.index()] = None;
            self.tell_word(V::PowerSource, "meter", now);
        } else {
            self.forget_power();
        }
    }

    /// What was told is not so any more.
    fn forget_power(&mut self) {
        if self.known[V::PowerFlow.index()].take().is_some() {
            self.values.push((V::PowerFlow, Err(Missing::Stale)));
        }
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
            Some(power) if self.state == "charging" => session.energy.power(power, self.heard_own),
            Some(_) => session.energy.pause(),
            None => {}
        }
        session.energy.meter(measured.meter_import, measured.meter_export, self.heard_own);
        let stuck = session.energy.stuck();
        for (value, is_stuck, was_stuck) in
            [(V::MeterImport, stuck.0, &mut session.stuck.0), (V::MeterExport, stuck.1, &mut session.stuck.1)]
        {
            if std::mem::replace(was_stuck, is_stuck) != is_stuck {
                self.told.push(TrackerOutput::Stuck(value, is_stuck));
            }
        }
        let sums = (power.is_some() || measured.meter_import.is_some())
            .then(|| (session.energy.import_kwh(), session.energy.export_kwh(), session.energy.source()));
        if let Some(power) = power {
            self.tell_number(V::PowerFlow, power, now);
            self.tell_word(V::PowerSource, "present", now);
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
}

/// Over -2 and DIN a vehicle that can discharge and its station send the limit of discharge in the place of that of
/// charge, negative (SAE J2847/2), for as long as that is the way.
fn discharge_of(value: V) -> V {
    match value {
        V::EvPowerCharge => V::EvPowerDischarge,
        V::EvCurrentCharge => V::EvCurrentDischarge,
        V::EvsePowerCharge => V::EvsePowerDischarge,
        V::EvseCurrentCharge => V::EvseCurrentDischarge,
        // The least current that can flow is the most that can flow back.
        V::EvCurrentChargeLeast => V::EvCurrentDischarge,
        V::EvseCurrentChargeLeast => V::EvseCurrentDischarge,
        other => other,
    }
}

fn is_plausible(value: V, number: f64) -> bool {
    value.valid().is_none_or(|(low, high)| (low..=high).contains(&number))
}
