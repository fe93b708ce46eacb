//! ISO 15118-2: what its messages say. Certificates, contract ids and signatures are not looked at.

use iso15118::iso2::{
    ACEVSEStatus, BodyChoice, ChargeParameterDiscoveryReqChoice, ChargeParameterDiscoveryResChoice3, ChargeProgress,
    ChargingSession, DCEVSEStatus, DCEVStatus, Document, EnergyTransferMode, MeterInfo, PhysicalValue,
    PowerDeliveryReqChoice, PowerDeliveryResChoice, UnitSymbol,
};

use super::enums::{EV_ERROR, EVSE_STATUS, FAULT, ISOLATION, NOTIFICATION_2, RESPONSE_2, TRANSFER, word};
use super::message::{Act, Datum, Heard, Power, Stop, Symbol};
use crate::spec::SessionValue as V;

/// Fills `heard`; `false` if the document is no message (an element of its own, or an empty body).
pub(super) fn read(document: &Document, heard: &mut Heard) -> bool {
    let Document::V2GMessage(message) = document else { return false };
    let Some(body) = &message.body.choice else { return false };
    heard.name = body.name();
    heard.session = Some(session_id(&message.header.session_id));
    if let Some(code) = body.response_code() {
        heard.respond(word(&RESPONSE_2, code as usize));
    }
    if let Some(notification) = &message.header.notification {
        heard.word(V::FaultCode, word(&FAULT, notification.fault_code as usize));
        heard.fault.clone_from(&notification.fault_msg);
    }
    body_of(body, heard);
    true
}

/// Up to 8 bytes; a shorter one (`00`) is filled up.
pub(super) fn session_id(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte))
}

/// A MAC address as the vehicle has it on its label.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

fn body_of(body: &BodyChoice, heard: &mut Heard) {
    match body {
        BodyChoice::SessionSetupReq(m) => heard.act = Act::Vehicle(hex(&m.evcc_id)),
        BodyChoice::SessionSetupRes(m) => {
            heard.values.push((V::EvseId, Datum::Text(m.evse_id.clone())));
            let resumed = heard.response.is_some_and(|response| response.code == "OK_OldSessionJoined");
            heard.act = Act::Established { resumed };
        }
        BodyChoice::ChargeParameterDiscoveryReq(m) => {
            heard.word(V::Service, service(m.requested_energy_transfer_mode));
            vehicle_parameters(&m.choice, heard);
        }
        BodyChoice::ChargeParameterDiscoveryRes(m) => station_parameters(&m.choice_3, heard),
        BodyChoice::PowerDeliveryReq(m) => {
            heard.act = Act::Power(match m.charge_progress {
                ChargeProgress::Start => Power::Start,
                ChargeProgress::Stop => Power::Stop,
                ChargeProgress::Renegotiate => Power::Renegotiate,
            });
            if let Some(PowerDeliveryReqChoice::DCEVPowerDeliveryParameter(dc)) = &m.choice {
                vehicle_status(&dc.dc_ev_status, heard);
                heard.flag(V::BulkComplete, dc.bulk_charging_complete);
                heard.flag(V::ChargingComplete, dc.charging_complete);
            }
        }
        BodyChoice::PowerDeliveryRes(m) => match &m.choice {
            PowerDeliveryResChoice::ACEVSEStatus(status) => ac_status(status, heard),
            PowerDeliveryResChoice::DCEVSEStatus(status) => dc_status(status, heard),
            PowerDeliveryResChoice::EVSEStatus(_) => {}
        },
        BodyChoice::SessionStopReq(m) => {
            let how = match m.charging_session {
                ChargingSession::Terminate => Stop::Terminate,
                ChargingSession::Pause => Stop::Pause,
            };
            heard.act = Act::Stop { how, reason: None };
        }
        loop_message => current_of(loop_message, heard),
    }
}

/// What is said while current flows, just before and just after.
fn current_of(body: &BodyChoice, heard: &mut Heard) {
    match body {
        BodyChoice::CableCheckReq(m) => vehicle_status(&m.dc_ev_status, heard),
        BodyChoice::CableCheckRes(m) => dc_status(&m.dc_evse_status, heard),
        BodyChoice::PreChargeReq(m) => {
            vehicle_status(&m.dc_ev_status, heard);
            physical(V::VoltageTarget, &m.ev_target_voltage, heard);
            physical(V::CurrentTarget, &m.ev_target_current, heard);
        }
        BodyChoice::PreChargeRes(m) => {
            dc_status(&m.dc_evse_status, heard);
            physical(V::Voltage, &m.evse_present_voltage, heard);
        }
        BodyChoice::CurrentDemandReq(m) => {
            vehicle_status(&m.dc_ev_status, heard);
            physical(V::CurrentTarget, &m.ev_target_current, heard);
            physical(V::VoltageTarget, &m.ev_target_voltage, heard);
            some(V::EvVoltageLimit, m.ev_maximum_voltage_limit.as_ref(), heard);
            some(V::EvCurrentCharge, m.ev_maximum_current_limit.as_ref(), heard);
            some(V::EvPowerCharge, m.ev_maximum_power_limit.as_ref(), heard);
            some(V::TimeToFull, m.remaining_time_to_full_soc.as_ref(), heard);
            some(V::TimeToBulk, m.remaining_time_to_bulk_soc.as_ref(), heard);
            heard.flag(V::BulkComplete, m.bulk_charging_complete);
            heard.flag(V::ChargingComplete, m.charging_complete);
        }
        BodyChoice::CurrentDemandRes(m) => {
            dc_status(&m.dc_evse_status, heard);
            physical(V::Voltage, &m.evse_present_voltage, heard);
            physical(V::Current, &m.evse_present_current, heard);
            heard.flag(V::CurrentLimitAchieved, m.evse_current_limit_achieved);
            heard.flag(V::VoltageLimitAchieved, m.evse_voltage_limit_achieved);
            heard.flag(V::PowerLimitAchieved, m.evse_power_limit_achieved);
            some(V::EvseVoltageLimit, m.evse_maximum_voltage_limit.as_ref(), heard);
            some(V::EvseCurrentCharge, m.evse_maximum_current_limit.as_ref(), heard);
            some(V::EvsePowerCharge, m.evse_maximum_power_limit.as_ref(), heard);
            heard.values.push((V::EvseId, Datum::Text(m.evse_id.clone())));
            meter(m.meter_info.as_ref(), heard);
        }
        BodyChoice::ChargingStatusRes(m) => {
            some(V::EvseCurrentCharge, m.evse_max_current.as_ref(), heard);
            heard.values.push((V::EvseId, Datum::Text(m.evse_id.clone())));
            meter(m.meter_info.as_ref(), heard);
            ac_status(&m.ac_evse_status, heard);
        }
        BodyChoice::MeteringReceiptReq(m) => meter(Some(&m.meter_info), heard),
        BodyChoice::WeldingDetectionReq(m) => vehicle_status(&m.dc_ev_status, heard),
        BodyChoice::WeldingDetectionRes(m) => {
            dc_status(&m.dc_evse_status, heard);
            physical(V::Voltage, &m.evse_present_voltage, heard);
        }
        _ => {}
    }
}

fn service(mode: EnergyTransferMode) -> &'static str {
    if word(&TRANSFER, mode as usize).starts_with("AC") { "AC" } else { "DC" }
}

fn vehicle_parameters(choice: &ChargeParameterDiscoveryReqChoice, heard: &mut Heard) {
    match choice {
        ChargeParameterDiscoveryReqChoice::ACEVChargeParameter(ac) => {
            heard.some_number(V::DepartureTime, ac.departure_time);
            physical(V::RequestTarget, &ac.e_amount, heard);
            physical(V::EvVoltageLimit, &ac.ev_max_voltage, heard);
            physical(V::EvCurrentCharge, &ac.ev_max_current, heard);
            physical(V::EvCurrentChargeLeast, &ac.ev_min_current, heard);
        }
        ChargeParameterDiscoveryReqChoice::DCEVChargeParameter(dc) => {
            heard.some_number(V::DepartureTime, dc.departure_time);
            vehicle_status(&dc.dc_ev_status, heard);
            physical(V::EvCurrentCharge, &dc.ev_maximum_current_limit, heard);
            some(V::EvPowerCharge, dc.ev_maximum_power_limit.as_ref(), heard);
            physical(V::EvVoltageLimit, &dc.ev_maximum_voltage_limit, heard);
            some(V::Capacity, dc.ev_energy_capacity.as_ref(), heard);
            some(V::RequestTarget, dc.ev_energy_request.as_ref(), heard);
            heard.some_number(V::SocFull, dc.full_soc);
            heard.some_number(V::SocBulk, dc.bulk_soc);
        }
        ChargeParameterDiscoveryReqChoice::EVChargeParameter(_) => {}
    }
}

fn station_parameters(choice: &ChargeParameterDiscoveryResChoice3, heard: &mut Heard) {
    match choice {
        ChargeParameterDiscoveryResChoice3::ACEVSEChargeParameter(ac) => {
            ac_status(&ac.ac_evse_status, heard);
            physical(V::NominalVoltage, &ac.evse_nominal_voltage, heard);
            physical(V::EvseCurrentCharge, &ac.evse_max_current, heard);
        }
        ChargeParameterDiscoveryResChoice3::DCEVSEChargeParameter(dc) => {
            dc_status(&dc.dc_evse_status, heard);
            physical(V::EvseCurrentCharge, &dc.evse_maximum_current_limit, heard);
            physical(V::EvsePowerCharge, &dc.evse_maximum_power_limit, heard);
            physical(V::EvseVoltageLimit, &dc.evse_maximum_voltage_limit, heard);
            physical(V::EvseCurrentChargeLeast, &dc.evse_minimum_current_limit, heard);
            physical(V::EvseVoltageLeast, &dc.evse_minimum_voltage_limit, heard);
            some(V::EnergyOffered, dc.evse_energy_to_be_delivered.as_ref(), heard);
        }
        ChargeParameterDiscoveryResChoice3::EVSEChargeParameter(_) => {}
    }
}

fn vehicle_status(status: &DCEVStatus, heard: &mut Heard) {
    heard.number(V::Soc, status.ev_ress_soc);
    heard.flag(V::EvReady, status.ev_ready);
    heard.word(V::EvError, word(&EV_ERROR, status.ev_error_code as usize));
}

fn dc_status(status: &DCEVSEStatus, heard: &mut Heard) {
    heard.word(V::EvseStatus, word(&EVSE_STATUS, status.evse_status_code as usize));
    heard.word(V::EvseNotification, word(&NOTIFICATION_2, status.evse_notification as usize));
    heard.number(V::NotificationDelay, status.notification_max_delay);
    if let Some(level) = status.evse_isolation_status {
        heard.word(V::Isolation, word(&ISOLATION, level as usize));
    }
}

fn ac_status(status: &ACEVSEStatus, heard: &mut Heard) {
    heard.word(V::EvseNotification, word(&NOTIFICATION_2, status.evse_notification as usize));
    heard.number(V::NotificationDelay, status.notification_max_delay);
    heard.flag(V::Rcd, status.rcd);
}

/// The reading only: the meter's signature stays where it is.
fn meter(meter: Option<&MeterInfo>, heard: &mut Heard) {
    let Some(meter) = meter else { return };
    if let Some(reading) = meter.meter_reading {
        heard.watt_hours(V::MeterImport, reading);
    }
    if let Some(status) = meter.meter_status {
        heard.values.push((V::MeterStatus, Datum::Whole(status.into())));
    }
}

fn some(value: V, number: Option<&PhysicalValue>, heard: &mut Heard) {
    if let Some(number) = number {
        physical(value, number, heard);
    }
}

fn physical(value: V, number: &PhysicalValue, heard: &mut Heard) {
    let unit = match number.unit {
        UnitSymbol::H => Symbol::Hour,
        UnitSymbol::M => Symbol::Minute,
        UnitSymbol::S => Symbol::Second,
        UnitSymbol::A => Symbol::Ampere,
        UnitSymbol::V => Symbol::Volt,
        UnitSymbol::W => Symbol::Watt,
        UnitSymbol::Wh => Symbol::WattHour,
        #[allow(unreachable_patterns, reason = "the crate may learn more")]
        _ => Symbol::Other,
    };
    heard.physical(value, number.value, number.multiplier, Some(unit));
}
