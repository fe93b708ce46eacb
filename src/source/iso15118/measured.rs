//! What follows from the names and numbers of one message: its phase, and what can be worked out from its values. Pure.

use super::message::{Act, Power};
use crate::spec::SessionValue as V;

/// A limit that binds both, and whose lower one it is: the vehicle's and the station's, each the sum of its phases.
pub(super) const LOWER_OF_BOTH: [(V, &[V], &[V]); 3] = [
    (
        V::PowerLimitCharge,
        &[V::EvPowerCharge, V::EvPowerChargeL2, V::EvPowerChargeL3],
        &[V::EvsePowerCharge, V::EvsePowerChargeL2, V::EvsePowerChargeL3],
    ),
    (
        V::PowerLimitDischarge,
        &[V::EvPowerDischarge, V::EvPowerDischargeL2, V::EvPowerDischargeL3],
        &[V::EvsePowerDischarge, V::EvsePowerDischargeL2, V::EvsePowerDischargeL3],
    ),
    (V::CurrentLimit, &[V::EvCurrentCharge], &[V::EvseCurrentCharge]),
];

/// The numbers of one message from which others follow.
#[derive(Debug, Default)]
pub(super) struct Measured {
    pub(super) voltage: Option<f64>,
    pub(super) current: Option<f64>,
    pub(super) vehicle_power: Option<f64>,
    pub(super) station_power: Option<f64>,
    pub(super) meter_import: Option<f64>,
    pub(super) meter_export: Option<f64>,
    pub(super) has_limits: bool,
}

impl Measured {
    pub(super) fn note(&mut self, value: V, number: f64) {
        let place = match value {
            V::Voltage => &mut self.voltage,
            V::Current => &mut self.current,
            V::EvPower => &mut self.vehicle_power,
            V::EvsePower => &mut self.station_power,
            V::MeterImport => &mut self.meter_import,
            V::MeterExport => &mut self.meter_export,
            V::EvPowerCharge
            | V::EvPowerDischarge
            | V::EvCurrentCharge
            | V::EvsePowerCharge
            | V::EvsePowerDischarge
            | V::EvseCurrentCharge => {
                self.has_limits = true;
                return;
            }
            _ => return,
        };
        *place = Some(number);
    }
}

/// What a message means for the phase of its session.
pub(super) fn phase_of(name: &str, act: &Act) -> Option<&'static str> {
    match act {
        Act::Power(Power::Start) => return Some("starting"),
        Act::Power(Power::Stop) => return Some("stopping"),
        Act::Power(Power::Standby) => return Some("standby"),
        Act::Power(Power::Renegotiate) => return Some("renegotiation"),
        _ => {}
    }
    let name = name.strip_prefix("AC_").or_else(|| name.strip_prefix("DC_")).unwrap_or(name);
    let name = name.strip_suffix("Req").or_else(|| name.strip_suffix("Res")).unwrap_or(name);
    Some(match name {
        "SessionSetup" => "setup",
        "AuthorizationSetup"
        | "Authorization"
        | "PaymentDetails"
        | "ContractAuthentication"
        | "CertificateInstallation"
        | "CertificateUpdate" => "authorization",
        "ServiceDiscovery"
        | "ServiceDetail"
        | "ServiceSelection"
        | "PaymentServiceSelection"
        | "ServicePaymentSelection" => "service",
        "ChargeParameterDiscovery" | "ScheduleExchange" => "parameters",
        "CableCheck" => "cable_check",
        "PreCharge" => "precharge",
        "CurrentDemand" | "ChargingStatus" | "ChargeLoop" => "charging",
        "WeldingDetection" => "welding_detection",
        "VehicleCheckIn" | "VehicleCheckOut" => "parking",
        "SessionStop" => "stopping",
        _ => return None,
    })
}
