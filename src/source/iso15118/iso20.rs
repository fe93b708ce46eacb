//! ISO 15118-20: what its messages say. Certificates, contract ids and signatures are not looked at.
//!
//! The plain and the bidirectional (BPT) types of a control mode have the same fields and no common type in the crate:
//! macros read what they share.

use iso15118::iso20::ac::{
    self, ACChargeLoopReqChoice as AcReq, ACChargeLoopResChoice as AcRes, ACChargeParameterDiscoveryReqChoice as AcAsk,
    ACChargeParameterDiscoveryResChoice as AcOffer,
};
use iso15118::iso20::common::{
    CLResControlMode, DisplayParameters, EVSEStatus, MessageHeader, MeterInfo, RationalNumber, ResponseCode,
};
use iso15118::iso20::dc::{
    self, DCChargeLoopReqChoice as DcReq, DCChargeLoopResChoice as DcRes, DCChargeParameterDiscoveryReqChoice as DcAsk,
    DCChargeParameterDiscoveryResChoice as DcOffer,
};
use iso15118::iso20::messages::{
    self, ChargeProgress, ChargingSession, ScheduleExchangeReqChoice, ScheduleExchangeResChoice,
};

use super::enums::{NOTIFICATION_20, RESPONSE_20, service_20, word};
use super::iso2::session_id;
use super::message::{Act, Datum, Heard, Power, Stop, decimal};
use crate::spec::SessionValue as V;

/// The longest word of a vehicle that is told on.
const EXPLANATION_CHARS_MAX: usize = 64;

/// CommonMessages (0x8002).
pub(super) fn read_common(document: &messages::Document, heard: &mut Heard) {
    use messages::Document as D;
    head(document.name(), document.header(), document.response_code(), heard);
    match document {
        D::SessionSetupReq(m) => heard.act = Act::Vehicle(m.evcc_id.clone()),
        D::SessionSetupRes(m) => {
            heard.values.push((V::EvseId, Datum::Text(m.evse_id.clone())));
            let resumed = heard.response.is_some_and(|response| response.code == "OK_OldSessionJoined");
            heard.act = Act::Established { resumed };
        }
        D::ServiceSelectionReq(m) => {
            heard.word(V::Service, service_20(m.selected_energy_transfer_service.service_id));
        }
        D::ScheduleExchangeReq(m) => match &m.choice {
            ScheduleExchangeReqChoice::DynamicSEReqControlMode(mode) => {
                heard.word(V::ControlMode, "dynamic");
                heard.number(V::DepartureTime, mode.departure_time);
                heard.some_number(V::SocMinimum, mode.minimum_soc);
                heard.some_number(V::SocTarget, mode.target_soc);
                rational(V::RequestTarget, &mode.ev_target_energy_request, heard);
                rational(V::RequestMaximum, &mode.ev_maximum_energy_request, heard);
                rational(V::RequestMinimum, &mode.ev_minimum_energy_request, heard);
                some(V::RequestV2xMaximum, mode.ev_maximum_v2_x_energy_request.as_ref(), heard);
                some(V::RequestV2xMinimum, mode.ev_minimum_v2_x_energy_request.as_ref(), heard);
            }
            ScheduleExchangeReqChoice::ScheduledSEReqControlMode(mode) => {
                heard.word(V::ControlMode, "scheduled");
                heard.some_number(V::DepartureTime, mode.departure_time);
                some(V::RequestTarget, mode.ev_target_energy_request.as_ref(), heard);
                some(V::RequestMaximum, mode.ev_maximum_energy_request.as_ref(), heard);
                some(V::RequestMinimum, mode.ev_minimum_energy_request.as_ref(), heard);
            }
        },
        D::ScheduleExchangeRes(m) => {
            if let ScheduleExchangeResChoice::DynamicSEResControlMode(mode) = &m.choice {
                heard.some_number(V::DepartureTime, mode.departure_time);
                heard.some_number(V::SocMinimum, mode.minimum_soc);
                heard.some_number(V::SocTarget, mode.target_soc);
            }
        }
        D::PowerDeliveryReq(m) => {
            heard.act = Act::Power(match m.charge_progress {
                ChargeProgress::Start => Power::Start,
                ChargeProgress::Stop => Power::Stop,
                ChargeProgress::Standby => Power::Standby,
                ChargeProgress::ScheduleRenegotiation => Power::Renegotiate,
            });
        }
        D::PowerDeliveryRes(m) => status(m.evse_status.as_ref(), heard),
        D::SessionStopReq(m) => {
            let how = match m.charging_session {
                ChargingSession::Terminate => Stop::Terminate,
                ChargingSession::Pause => Stop::Pause,
                ChargingSession::ServiceRenegotiation => Stop::Renegotiate,
            };
            let words = [m.ev_termination_code.as_deref(), m.ev_termination_explanation.as_deref()];
            let text = words.into_iter().flatten().collect::<Vec<_>>().join(": ");
            let reason = (!text.is_empty()).then(|| text.chars().take(EXPLANATION_CHARS_MAX).collect());
            heard.act = Act::Stop { how, reason };
        }
        _ => {}
    }
}

macro_rules! vehicle_ac_limits {
    ($mode:expr, $heard:expr) => {{
        vehicle_ac_limits!(charge $mode, $heard);
        rational(V::EvPowerDischarge, &$mode.ev_maximum_discharge_power, $heard);
        some(V::EvPowerDischargeL2, $mode.ev_maximum_discharge_power_l2.as_ref(), $heard);
        some(V::EvPowerDischargeL3, $mode.ev_maximum_discharge_power_l3.as_ref(), $heard);
        rational(V::EvPowerDischargeLeast, &$mode.ev_minimum_discharge_power, $heard);
    }};
    (charge $mode:expr, $heard:expr) => {{
        rational(V::EvPowerCharge, &$mode.ev_maximum_charge_power, $heard);
        some(V::EvPowerChargeL2, $mode.ev_maximum_charge_power_l2.as_ref(), $heard);
        some(V::EvPowerChargeL3, $mode.ev_maximum_charge_power_l3.as_ref(), $heard);
        rational(V::EvPowerChargeLeast, &$mode.ev_minimum_charge_power, $heard);
    }};
    (some charge $mode:expr, $heard:expr) => {{
        some(V::EvPowerCharge, $mode.ev_maximum_charge_power.as_ref(), $heard);
        some(V::EvPowerChargeL2, $mode.ev_maximum_charge_power_l2.as_ref(), $heard);
        some(V::EvPowerChargeL3, $mode.ev_maximum_charge_power_l3.as_ref(), $heard);
        some(V::EvPowerChargeLeast, $mode.ev_minimum_charge_power.as_ref(), $heard);
    }};
}

macro_rules! requests {
    ($mode:expr, $heard:expr) => {{
        $heard.some_number(V::DepartureTime, $mode.departure_time);
        rational(V::RequestTarget, &$mode.ev_target_energy_request, $heard);
        rational(V::RequestMaximum, &$mode.ev_maximum_energy_request, $heard);
        rational(V::RequestMinimum, &$mode.ev_minimum_energy_request, $heard);
    }};
    (some $mode:expr, $heard:expr) => {{
        some(V::RequestTarget, $mode.ev_target_energy_request.as_ref(), $heard);
        some(V::RequestMaximum, $mode.ev_maximum_energy_request.as_ref(), $heard);
        some(V::RequestMinimum, $mode.ev_minimum_energy_request.as_ref(), $heard);
    }};
}

/// The vehicle's present power, active and reactive; `$reactive` is an option.
macro_rules! vehicle_ac_present {
    ($mode:expr, $reactive:expr, $heard:expr) => {{
        let (l2, l3) = (&$mode.ev_present_active_power_l2, &$mode.ev_present_active_power_l3);
        phases(
            [V::EvPower, V::EvPowerL1, V::EvPowerL2, V::EvPowerL3],
            [Some(&$mode.ev_present_active_power), l2.as_ref(), l3.as_ref()],
            $heard,
        );
        let (l2, l3) = (&$mode.ev_present_reactive_power_l2, &$mode.ev_present_reactive_power_l3);
        if let Some(total) = sum([$reactive, l2.as_ref(), l3.as_ref()]) {
            $heard.number(V::EvReactive, total);
        }
    }};
}

macro_rules! station_ac_targets {
    ($mode:expr, $target:expr, $heard:expr) => {{
        some(V::PowerTarget, $target, $heard);
        some(V::PowerTargetL2, $mode.evse_target_active_power_l2.as_ref(), $heard);
        some(V::PowerTargetL3, $mode.evse_target_active_power_l3.as_ref(), $heard);
        some(V::ReactiveTarget, $mode.evse_target_reactive_power.as_ref(), $heard);
        station_ac_present!($mode, $heard);
    }};
}

macro_rules! station_ac_present {
    ($mode:expr, $heard:expr) => {{
        let (l1, l2) = (&$mode.evse_present_active_power, &$mode.evse_present_active_power_l2);
        phases(
            [V::EvsePower, V::EvsePowerL1, V::EvsePowerL2, V::EvsePowerL3],
            [l1.as_ref(), l2.as_ref(), $mode.evse_present_active_power_l3.as_ref()],
            $heard,
        );
    }};
}

macro_rules! station_ac_charge {
    ($mode:expr, $heard:expr) => {{
        rational(V::EvsePowerCharge, &$mode.evse_maximum_charge_power, $heard);
        some(V::EvsePowerChargeL2, $mode.evse_maximum_charge_power_l2.as_ref(), $heard);
        some(V::EvsePowerChargeL3, $mode.evse_maximum_charge_power_l3.as_ref(), $heard);
        rational(V::EvsePowerChargeLeast, &$mode.evse_minimum_charge_power, $heard);
        rational(V::NominalFrequency, &$mode.evse_nominal_frequency, $heard);
        station_ac_present!($mode, $heard);
    }};
}

macro_rules! dynamic_answer {
    ($mode:expr, $heard:expr) => {{
        $heard.some_number(V::DepartureTime, $mode.departure_time);
        $heard.some_number(V::SocMinimum, $mode.minimum_soc);
        $heard.some_number(V::SocTarget, $mode.target_soc);
    }};
}

/// AC (0x8003).
pub(super) fn read_ac(document: &ac::Document, heard: &mut Heard) {
    use ac::Document as D;
    head(document.name(), document.header(), document.response_code(), heard);
    match document {
        D::ACChargeParameterDiscoveryReq(m) => match &m.choice {
            AcAsk::ACCPDReqEnergyTransferMode(mode) => vehicle_ac_limits!(charge mode, heard),
            AcAsk::BPTACCPDReqEnergyTransferMode(mode) => vehicle_ac_limits!(mode, heard),
        },
        D::ACChargeParameterDiscoveryRes(m) => match &m.choice {
            AcOffer::ACCPDResEnergyTransferMode(mode) => station_ac_charge!(mode, heard),
            AcOffer::BPTACCPDResEnergyTransferMode(mode) => {
                station_ac_charge!(mode, heard);
                rational(V::EvsePowerDischarge, &mode.evse_maximum_discharge_power, heard);
                some(V::EvsePowerDischargeL2, mode.evse_maximum_discharge_power_l2.as_ref(), heard);
                some(V::EvsePowerDischargeL3, mode.evse_maximum_discharge_power_l3.as_ref(), heard);
                rational(V::EvsePowerDischargeLeast, &mode.evse_minimum_discharge_power, heard);
            }
        },
        D::ACChargeLoopReq(m) => {
            display(m.display_parameters.as_ref(), heard);
            vehicle_ac_loop(&m.choice, heard);
        }
        D::ACChargeLoopRes(m) => {
            status(m.evse_status.as_ref(), heard);
            meter(m.meter_info.as_ref(), heard);
            some(V::NominalFrequency, m.evse_target_frequency.as_ref(), heard);
            match &m.choice {
                AcRes::BPTDynamicACCLResControlMode(mode) => {
                    dynamic_answer!(mode, heard);
                    station_ac_targets!(mode, Some(&mode.evse_target_active_power), heard);
                }
                AcRes::DynamicACCLResControlMode(mode) => {
                    dynamic_answer!(mode, heard);
                    station_ac_targets!(mode, Some(&mode.evse_target_active_power), heard);
                }
                AcRes::BPTScheduledACCLResControlMode(mode) => {
                    station_ac_targets!(mode, mode.evse_target_active_power.as_ref(), heard);
                }
                AcRes::ScheduledACCLResControlMode(mode) => {
                    station_ac_targets!(mode, mode.evse_target_active_power.as_ref(), heard);
                }
                AcRes::CLResControlMode(CLResControlMode { .. }) => {}
            }
        }
        _ => {}
    }
}

fn vehicle_ac_loop(choice: &AcReq, heard: &mut Heard) {
    match choice {
        AcReq::BPTDynamicACCLReqControlMode(mode) => {
            heard.word(V::ControlMode, "dynamic_bpt");
            requests!(mode, heard);
            vehicle_ac_limits!(mode, heard);
            vehicle_ac_present!(mode, Some(&mode.ev_present_reactive_power), heard);
            some(V::RequestV2xMaximum, mode.ev_maximum_v2_x_energy_request.as_ref(), heard);
            some(V::RequestV2xMinimum, mode.ev_minimum_v2_x_energy_request.as_ref(), heard);
        }
        AcReq::DynamicACCLReqControlMode(mode) => {
            heard.word(V::ControlMode, "dynamic");
            requests!(mode, heard);
            vehicle_ac_limits!(charge mode, heard);
            vehicle_ac_present!(mode, Some(&mode.ev_present_reactive_power), heard);
        }
        AcReq::BPTScheduledACCLReqControlMode(mode) => {
            heard.word(V::ControlMode, "scheduled_bpt");
            requests!(some mode, heard);
            vehicle_ac_limits!(some charge mode, heard);
            vehicle_ac_present!(mode, mode.ev_present_reactive_power.as_ref(), heard);
            some(V::EvPowerDischarge, mode.ev_maximum_discharge_power.as_ref(), heard);
            some(V::EvPowerDischargeL2, mode.ev_maximum_discharge_power_l2.as_ref(), heard);
            some(V::EvPowerDischargeL3, mode.ev_maximum_discharge_power_l3.as_ref(), heard);
            some(V::EvPowerDischargeLeast, mode.ev_minimum_discharge_power.as_ref(), heard);
        }
        AcReq::ScheduledACCLReqControlMode(mode) => {
            heard.word(V::ControlMode, "scheduled");
            requests!(some mode, heard);
            vehicle_ac_limits!(some charge mode, heard);
            vehicle_ac_present!(mode, mode.ev_present_reactive_power.as_ref(), heard);
        }
        AcReq::CLReqControlMode(_) => {}
    }
}

macro_rules! vehicle_dc_charge {
    ($mode:expr, $heard:expr) => {{
        rational(V::EvPowerCharge, &$mode.ev_maximum_charge_power, $heard);
        rational(V::EvPowerChargeLeast, &$mode.ev_minimum_charge_power, $heard);
        rational(V::EvCurrentCharge, &$mode.ev_maximum_charge_current, $heard);
        rational(V::EvVoltageLimit, &$mode.ev_maximum_voltage, $heard);
        rational(V::EvVoltageLeast, &$mode.ev_minimum_voltage, $heard);
    }};
    (some $mode:expr, $heard:expr) => {{
        some(V::EvPowerCharge, $mode.ev_maximum_charge_power.as_ref(), $heard);
        some(V::EvPowerChargeLeast, $mode.ev_minimum_charge_power.as_ref(), $heard);
        some(V::EvCurrentCharge, $mode.ev_maximum_charge_current.as_ref(), $heard);
        some(V::EvVoltageLimit, $mode.ev_maximum_voltage.as_ref(), $heard);
        some(V::EvVoltageLeast, $mode.ev_minimum_voltage.as_ref(), $heard);
    }};
}

macro_rules! vehicle_dc_discharge {
    ($mode:expr, $heard:expr) => {{
        rational(V::EvPowerDischarge, &$mode.ev_maximum_discharge_power, $heard);
        rational(V::EvPowerDischargeLeast, &$mode.ev_minimum_discharge_power, $heard);
        rational(V::EvCurrentDischarge, &$mode.ev_maximum_discharge_current, $heard);
    }};
}

macro_rules! station_dc_charge {
    ($mode:expr, $heard:expr) => {{
        rational(V::EvsePowerCharge, &$mode.evse_maximum_charge_power, $heard);
        rational(V::EvsePowerChargeLeast, &$mode.evse_minimum_charge_power, $heard);
        rational(V::EvseCurrentCharge, &$mode.evse_maximum_charge_current, $heard);
        rational(V::EvseVoltageLimit, &$mode.evse_maximum_voltage, $heard);
    }};
    (some $mode:expr, $heard:expr) => {{
        some(V::EvsePowerCharge, $mode.evse_maximum_charge_power.as_ref(), $heard);
        some(V::EvsePowerChargeLeast, $mode.evse_minimum_charge_power.as_ref(), $heard);
        some(V::EvseCurrentCharge, $mode.evse_maximum_charge_current.as_ref(), $heard);
        some(V::EvseVoltageLimit, $mode.evse_maximum_voltage.as_ref(), $heard);
    }};
}

macro_rules! station_dc_discharge {
    ($mode:expr, $heard:expr) => {{
        rational(V::EvsePowerDischarge, &$mode.evse_maximum_discharge_power, $heard);
        rational(V::EvsePowerDischargeLeast, &$mode.evse_minimum_discharge_power, $heard);
        rational(V::EvseCurrentDischarge, &$mode.evse_maximum_discharge_current, $heard);
        rational(V::EvseVoltageLeast, &$mode.evse_minimum_voltage, $heard);
    }};
}

/// DC (0x8004).
pub(super) fn read_dc(document: &dc::Document, heard: &mut Heard) {
    use dc::Document as D;
    head(document.name(), document.header(), document.response_code(), heard);
    match document {
        D::DCChargeParameterDiscoveryReq(m) => match &m.choice {
            DcAsk::DCCPDReqEnergyTransferMode(mode) => {
                vehicle_dc_charge!(mode, heard);
                rational(V::EvCurrentChargeLeast, &mode.ev_minimum_charge_current, heard);
                heard.some_number(V::SocTarget, mode.target_soc);
            }
            DcAsk::BPTDCCPDReqEnergyTransferMode(mode) => {
                vehicle_dc_charge!(mode, heard);
                rational(V::EvCurrentChargeLeast, &mode.ev_minimum_charge_current, heard);
                heard.some_number(V::SocTarget, mode.target_soc);
                vehicle_dc_discharge!(mode, heard);
                rational(V::EvCurrentDischargeLeast, &mode.ev_minimum_discharge_current, heard);
            }
        },
        D::DCChargeParameterDiscoveryRes(m) => match &m.choice {
            DcOffer::DCCPDResEnergyTransferMode(mode) => {
                station_dc_charge!(mode, heard);
                rational(V::EvseCurrentChargeLeast, &mode.evse_minimum_charge_current, heard);
                rational(V::EvseVoltageLeast, &mode.evse_minimum_voltage, heard);
            }
            DcOffer::BPTDCCPDResEnergyTransferMode(mode) => {
                station_dc_charge!(mode, heard);
                rational(V::EvseCurrentChargeLeast, &mode.evse_minimum_charge_current, heard);
                station_dc_discharge!(mode, heard);
                rational(V::EvseCurrentDischargeLeast, &mode.evse_minimum_discharge_current, heard);
            }
        },
        D::DCPreChargeReq(m) => {
            rational(V::EvVoltage, &m.ev_present_voltage, heard);
            rational(V::VoltageTarget, &m.ev_target_voltage, heard);
        }
        D::DCPreChargeRes(m) => rational(V::Voltage, &m.evse_present_voltage, heard),
        D::DCWeldingDetectionRes(m) => rational(V::Voltage, &m.evse_present_voltage, heard),
        D::DCChargeLoopReq(m) => {
            display(m.display_parameters.as_ref(), heard);
            rational(V::EvVoltage, &m.ev_present_voltage, heard);
            vehicle_dc_loop(&m.choice, heard);
        }
        D::DCChargeLoopRes(m) => {
            status(m.evse_status.as_ref(), heard);
            meter(m.meter_info.as_ref(), heard);
            rational(V::Voltage, &m.evse_present_voltage, heard);
            rational(V::Current, &m.evse_present_current, heard);
            heard.flag(V::PowerLimitAchieved, m.evse_power_limit_achieved);
            heard.flag(V::CurrentLimitAchieved, m.evse_current_limit_achieved);
            heard.flag(V::VoltageLimitAchieved, m.evse_voltage_limit_achieved);
            station_dc_loop(&m.choice, heard);
        }
        _ => {}
    }
}

fn vehicle_dc_loop(choice: &DcReq, heard: &mut Heard) {
    match choice {
        DcReq::BPTDynamicDCCLReqControlMode(mode) => {
            heard.word(V::ControlMode, "dynamic_bpt");
            requests!(mode, heard);
            vehicle_dc_charge!(mode, heard);
            vehicle_dc_discharge!(mode, heard);
            some(V::RequestV2xMaximum, mode.ev_maximum_v2_x_energy_request.as_ref(), heard);
            some(V::RequestV2xMinimum, mode.ev_minimum_v2_x_energy_request.as_ref(), heard);
        }
        DcReq::DynamicDCCLReqControlMode(mode) => {
            heard.word(V::ControlMode, "dynamic");
            requests!(mode, heard);
            vehicle_dc_charge!(mode, heard);
        }
        DcReq::BPTScheduledDCCLReqControlMode(mode) => {
            heard.word(V::ControlMode, "scheduled_bpt");
            requests!(some mode, heard);
            rational(V::CurrentTarget, &mode.ev_target_current, heard);
            rational(V::VoltageTarget, &mode.ev_target_voltage, heard);
            vehicle_dc_charge!(some mode, heard);
            some(V::EvPowerDischarge, mode.ev_maximum_discharge_power.as_ref(), heard);
            some(V::EvPowerDischargeLeast, mode.ev_minimum_discharge_power.as_ref(), heard);
            some(V::EvCurrentDischarge, mode.ev_maximum_discharge_current.as_ref(), heard);
        }
        DcReq::ScheduledDCCLReqControlMode(mode) => {
            heard.word(V::ControlMode, "scheduled");
            requests!(some mode, heard);
            rational(V::CurrentTarget, &mode.ev_target_current, heard);
            rational(V::VoltageTarget, &mode.ev_target_voltage, heard);
            vehicle_dc_charge!(some mode, heard);
        }
        DcReq::CLReqControlMode(_) => {}
    }
}

fn station_dc_loop(choice: &DcRes, heard: &mut Heard) {
    match choice {
        DcRes::BPTDynamicDCCLResControlMode(mode) => {
            dynamic_answer!(mode, heard);
            station_dc_charge!(mode, heard);
            station_dc_discharge!(mode, heard);
        }
        DcRes::DynamicDCCLResControlMode(mode) => {
            dynamic_answer!(mode, heard);
            station_dc_charge!(mode, heard);
        }
        DcRes::BPTScheduledDCCLResControlMode(mode) => {
            station_dc_charge!(some mode, heard);
            some(V::EvsePowerDischarge, mode.evse_maximum_discharge_power.as_ref(), heard);
            some(V::EvsePowerDischargeLeast, mode.evse_minimum_discharge_power.as_ref(), heard);
            some(V::EvseCurrentDischarge, mode.evse_maximum_discharge_current.as_ref(), heard);
            some(V::EvseVoltageLeast, mode.evse_minimum_voltage.as_ref(), heard);
        }
        DcRes::ScheduledDCCLResControlMode(mode) => station_dc_charge!(some mode, heard),
        DcRes::CLResControlMode(CLResControlMode { .. }) => {}
    }
}

fn head(name: &'static str, header: Option<&MessageHeader>, code: Option<ResponseCode>, heard: &mut Heard) {
    heard.name = name;
    heard.session = header.map(|header| session_id(&header.session_id));
    if let Some(code) = code {
        heard.respond(word(&RESPONSE_20, code as usize));
    }
}

fn display(parameters: Option<&DisplayParameters>, heard: &mut Heard) {
    let Some(shown) = parameters else { return };
    heard.some_number(V::Soc, shown.present_soc);
    heard.some_number(V::SocMinimum, shown.minimum_soc);
    heard.some_number(V::SocTarget, shown.target_soc);
    heard.some_number(V::SocMaximum, shown.maximum_soc);
    heard.some_number(V::TimeToMinimum, shown.remaining_time_to_minimum_soc);
    heard.some_number(V::TimeToTarget, shown.remaining_time_to_target_soc);
    heard.some_number(V::TimeToMaximum, shown.remaining_time_to_maximum_soc);
    some(V::Capacity, shown.battery_energy_capacity.as_ref(), heard);
    heard.flag(V::ChargingComplete, shown.charging_complete);
    heard.flag(V::InletHot, shown.inlet_hot);
}

/// The readings only: the meter's signature stays where it is.
fn meter(meter: Option<&MeterInfo>, heard: &mut Heard) {
    let Some(meter) = meter else { return };
    heard.watt_hours(V::MeterImport, meter.charged_energy_reading_wh);
    if let Some(reading) = meter.bpt_discharged_energy_reading_wh {
        heard.watt_hours(V::MeterExport, reading);
    }
    if let Some(status) = meter.meter_status {
        heard.values.push((V::MeterStatus, Datum::Whole(status.into())));
    }
}

fn status(status: Option<&EVSEStatus>, heard: &mut Heard) {
    let Some(status) = status else { return };
    heard.word(V::EvseNotification, word(&NOTIFICATION_20, status.evse_notification as usize));
    heard.number(V::NotificationDelay, status.notification_max_delay);
}

/// A power of up to three phases: the sum, and the phases where there is more than one.
fn phases([all, l1, l2, l3]: [V; 4], powers: [Option<&RationalNumber>; 3], heard: &mut Heard) {
    let Some(total) = sum(powers) else { return };
    heard.number(all, total);
    if powers[1].is_some() || powers[2].is_some() {
        for (value, power) in [l1, l2, l3].into_iter().zip(powers) {
            some(value, power, heard);
        }
    }
}

/// In thousands of the base unit. All digits are added as whole numbers where their places allow it.
fn sum(powers: [Option<&RationalNumber>; 3]) -> Option<f64> {
    /// Between these, three 16-bit numbers at any of the places fit into 64 bits.
    const PLACES: std::ops::RangeInclusive<i8> = -6..=6;
    let known = || powers.into_iter().flatten();
    let lowest = known().map(|power| power.exponent).min()?;
    if known().all(|power| PLACES.contains(&power.exponent)) {
        let digits =
            |power: &RationalNumber| i64::from(power.value) * 10_i64.pow(u32::from(power.exponent.abs_diff(lowest)));
        return Some(decimal(known().map(digits).sum(), i32::from(lowest) - 3));
    }
    Some(known().map(|power| decimal(power.value.into(), i32::from(power.exponent) - 3)).sum())
}

fn some(value: V, number: Option<&RationalNumber>, heard: &mut Heard) {
    if let Some(number) = number {
        rational(value, number, heard);
    }
}

fn rational(value: V, number: &RationalNumber, heard: &mut Heard) {
    heard.decimal(value, number.value, number.exponent);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_of_different_places_add_up_exactly() {
        let power = |value, exponent| RationalNumber { value, exponent };
        assert_eq!(sum([Some(&power(31_667, -1)), Some(&power(31_682, -1)), Some(&power(31_652, -1))]), Some(9.5001));
        assert_eq!(sum([Some(&power(-1, 3)), None, Some(&power(5, -1))]), Some(-0.9995));
        assert_eq!(sum([None, None, None]), None);
        assert!(sum([Some(&power(i16::MAX, 127)), Some(&power(1, -128)), None]).is_some_and(f64::is_finite));
    }
}
