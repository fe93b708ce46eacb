//! What a charging session tells: its values. The words of ISO 15118-2, ISO 15118-20 and DIN SPEC 70121.

use super::point::{Aggregation, ValueType};
use super::unit::Unit;

/// How a value behaves, and so how often it is told and how a window folds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Moves all the time: told with every message that has it, folded to a mean.
    Flow,
    /// Moves slowly: told with every message that has it, the newest counts.
    Level,
    /// A limit, a target, a forecast: told when it changes, and again every 10 s.
    Term,
    /// 0 or 1, told like a term.
    Flag,
    /// A whole number, told with every message.
    Count,
    /// A word, told like a term.
    Word,
}

macro_rules! session_values {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $unit:ident, $manner:ident, $valid:expr;)*) => {
        /// A value that a charging session tells. The name is the field on the wire. Power and current are positive towards
        /// the vehicle and negative from it (V2G); limits of discharge are magnitudes, whatever sign a stack sends.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum SessionValue {
            $(
                $(#[$doc])*
                $variant,
            )*
        }

        impl SessionValue {
            /// Every value, in the order of their fields.
            pub const ALL: [Self; [$(stringify!($variant)),*].len()] = [$(Self::$variant),*];

            const fn row(self) -> (&'static str, Unit, Manner, Option<(f64, f64)>) {
                match self {
                    $(Self::$variant => ($name, Unit::$unit, Manner::$manner, $valid),)*
                }
            }
        }
    };
}

/// What no charging system of today goes beyond: IEC 61851-23 ends at 1500 V; megawatt charging at 3 kA and 3.75 MW.
const POWER: Option<(f64, f64)> = Some((-5000.0, 5000.0));
const POWER_LIMIT: Option<(f64, f64)> = Some((0.0, 5000.0));
const CURRENT: Option<(f64, f64)> = Some((-5000.0, 5000.0));
const CURRENT_LIMIT: Option<(f64, f64)> = Some((0.0, 5000.0));
const VOLTAGE: Option<(f64, f64)> = Some((0.0, 1700.0));
const PERCENT: Option<(f64, f64)> = Some((0.0, 100.0));
const ENERGY: Option<(f64, f64)> = Some((0.0, 100_000.0));
const REQUEST: Option<(f64, f64)> = Some((-10_000.0, 10_000.0));
/// A register of Wh.
const METER: Option<(f64, f64)> = Some((0.0, 1e12));
/// 10 years.
const SECONDS: Option<(f64, f64)> = Some((0.0, 315_360_000.0));

session_values! {
    /// DC: present voltage times present current of the station. AC: the station's present active power if it tells it, else the vehicle's; in
    /// ISO 15118-2, where nobody tells it, from the meter.
    PowerFlow = "power_flow", Kilowatt, Flow, POWER;
    /// EVSEPresentVoltage.
    Voltage = "voltage", Volt, Flow, VOLTAGE;
    /// EVSEPresentCurrent.
    Current = "current", Ampere, Flow, CURRENT;
    /// EVRESSSOC, PresentSOC.
    Soc = "soc", Percent, Level, PERCENT;
    /// Energy to the vehicle in this session.
    EnergyImport = "energy_import", KilowattHour, Term, ENERGY;
    /// Energy from the vehicle in this session.
    EnergyExport = "energy_export", KilowattHour, Term, ENERGY;
    /// `meter`: the two above come from the station's meter; `integrated`: from present power over time; `mixed`: one each.
    EnergySource = "energy_source", One, Word, None;
    /// `present`: `power_flow` is what the messages say of the moment; `meter`: it is worked out from the readings of the station's meter (AC of
    /// ISO 15118-2), a mean of up to a minute.
    PowerSource = "power_source", One, Word, None;
    /// What the session does: see the phases in `source/iso15118`.
    State = "state", One, Word, None;
    /// `din70121`, `iso15118-2`, `iso15118-20`.
    Protocol = "protocol", One, Word, None;
    /// `AC`, `DC`, `AC_BPT`, `DC_BPT`, …
    Service = "service", One, Word, None;
    /// `scheduled` or `dynamic`; with `_bpt` in a bidirectional session.
    ControlMode = "control_mode", One, Word, None;
    /// EVSEID.
    EvseId = "evse_id", One, Word, None;
    /// EVPresentVoltage.
    EvVoltage = "ev_voltage", Volt, Flow, VOLTAGE;
    /// EVTargetVoltage.
    VoltageTarget = "voltage_target", Volt, Level, VOLTAGE;
    /// EVTargetCurrent.
    CurrentTarget = "current_target", Ampere, Level, CURRENT;
    /// EVSETargetActivePower as sent: of L1, or of all phases; stacks differ when L2 and L3 are there.
    PowerTarget = "power_target", Kilowatt, Level, POWER;
    /// EVSETargetActivePower_L2.
    PowerTargetL2 = "power_target_l2", Kilowatt, Level, POWER;
    /// EVSETargetActivePower_L3.
    PowerTargetL3 = "power_target_l3", Kilowatt, Level, POWER;
    /// EVSETargetReactivePower.
    ReactiveTarget = "power_reactive_target", Kilovar, Level, POWER;
    /// EVPresentActivePower, the sum of the phases.
    EvPower = "ev_power", Kilowatt, Flow, POWER;
    /// EVPresentActivePower of L1, where L2 or L3 are told.
    EvPowerL1 = "ev_power_l1", Kilowatt, Flow, POWER;
    /// EVPresentActivePower_L2.
    EvPowerL2 = "ev_power_l2", Kilowatt, Flow, POWER;
    /// EVPresentActivePower_L3.
    EvPowerL3 = "ev_power_l3", Kilowatt, Flow, POWER;
    /// EVPresentReactivePower, the sum of the phases.
    EvReactive = "ev_power_reactive", Kilovar, Flow, POWER;
    /// EVSEPresentActivePower, the sum of the phases.
    EvsePower = "evse_power", Kilowatt, Flow, POWER;
    /// EVSEPresentActivePower of L1, where L2 or L3 are told.
    EvsePowerL1 = "evse_power_l1", Kilowatt, Flow, POWER;
    /// EVSEPresentActivePower_L2.
    EvsePowerL2 = "evse_power_l2", Kilowatt, Flow, POWER;
    /// EVSEPresentActivePower_L3.
    EvsePowerL3 = "evse_power_l3", Kilowatt, Flow, POWER;
    /// MinimumSOC.
    SocMinimum = "soc_minimum", Percent, Term, PERCENT;
    /// TargetSOC.
    SocTarget = "soc_target", Percent, Term, PERCENT;
    /// MaximumSOC.
    SocMaximum = "soc_maximum", Percent, Term, PERCENT;
    /// FullSOC.
    SocFull = "soc_full", Percent, Term, PERCENT;
    /// BulkSOC.
    SocBulk = "soc_bulk", Percent, Term, PERCENT;
    /// RemainingTimeToMinimumSOC.
    TimeToMinimum = "time_to_soc_minimum", Second, Term, SECONDS;
    /// RemainingTimeToTargetSOC.
    TimeToTarget = "time_to_soc_target", Second, Term, SECONDS;
    /// RemainingTimeToMaximumSOC.
    TimeToMaximum = "time_to_soc_maximum", Second, Term, SECONDS;
    /// RemainingTimeToFullSoC.
    TimeToFull = "time_to_soc_full", Second, Term, SECONDS;
    /// RemainingTimeToBulkSoC.
    TimeToBulk = "time_to_soc_bulk", Second, Term, SECONDS;
    /// DepartureTime, from the moment it was told.
    DepartureTime = "departure_time", Second, Term, SECONDS;
    /// BatteryEnergyCapacity, EVEnergyCapacity.
    Capacity = "battery_capacity", KilowattHour, Term, ENERGY;
    /// EVTargetEnergyRequest, EVEnergyRequest, EAmount.
    RequestTarget = "energy_request", KilowattHour, Term, REQUEST;
    /// EVMaximumEnergyRequest.
    RequestMaximum = "energy_request_maximum", KilowattHour, Term, REQUEST;
    /// EVMinimumEnergyRequest; negative where the vehicle can give.
    RequestMinimum = "energy_request_minimum", KilowattHour, Term, REQUEST;
    /// EVMaximumV2XEnergyRequest.
    RequestV2xMaximum = "energy_v2x_maximum", KilowattHour, Term, REQUEST;
    /// EVMinimumV2XEnergyRequest.
    RequestV2xMinimum = "energy_v2x_minimum", KilowattHour, Term, REQUEST;
    /// EVSEEnergyToBeDelivered.
    EnergyOffered = "energy_offered", KilowattHour, Term, ENERGY;
    /// The lower of what vehicle and station can charge.
    PowerLimitCharge = "power_limit_charge", Kilowatt, Term, POWER_LIMIT;
    /// The lower of what vehicle and station can discharge.
    PowerLimitDischarge = "power_limit_discharge", Kilowatt, Term, POWER_LIMIT;
    /// The lower of the currents that vehicle and station can charge with.
    CurrentLimit = "current_limit", Ampere, Term, CURRENT_LIMIT;
    /// EVMaximumChargePower, EVMaximumPowerLimit.
    EvPowerCharge = "ev_power_limit_charge", Kilowatt, Term, POWER_LIMIT;
    /// EVMaximumChargePower_L2.
    EvPowerChargeL2 = "ev_power_limit_charge_l2", Kilowatt, Term, POWER_LIMIT;
    /// EVMaximumChargePower_L3.
    EvPowerChargeL3 = "ev_power_limit_charge_l3", Kilowatt, Term, POWER_LIMIT;
    /// EVMinimumChargePower.
    EvPowerChargeLeast = "ev_power_least_charge", Kilowatt, Term, POWER_LIMIT;
    /// EVMaximumDischargePower.
    EvPowerDischarge = "ev_power_limit_discharge", Kilowatt, Term, POWER_LIMIT;
    /// EVMaximumDischargePower_L2.
    EvPowerDischargeL2 = "ev_power_limit_discharge_l2", Kilowatt, Term, POWER_LIMIT;
    /// EVMaximumDischargePower_L3.
    EvPowerDischargeL3 = "ev_power_limit_discharge_l3", Kilowatt, Term, POWER_LIMIT;
    /// EVMinimumDischargePower.
    EvPowerDischargeLeast = "ev_power_least_discharge", Kilowatt, Term, POWER_LIMIT;
    /// EVMaximumChargeCurrent, EVMaximumCurrentLimit, EVMaxCurrent.
    EvCurrentCharge = "ev_current_limit_charge", Ampere, Term, CURRENT_LIMIT;
    /// EVMinimumChargeCurrent, EVMinCurrent.
    EvCurrentChargeLeast = "ev_current_least_charge", Ampere, Term, CURRENT_LIMIT;
    /// EVMaximumDischargeCurrent.
    EvCurrentDischarge = "ev_current_limit_discharge", Ampere, Term, CURRENT_LIMIT;
    /// EVMinimumDischargeCurrent.
    EvCurrentDischargeLeast = "ev_current_least_discharge", Ampere, Term, CURRENT_LIMIT;
    /// EVMaximumVoltage, EVMaximumVoltageLimit, EVMaxVoltage.
    EvVoltageLimit = "ev_voltage_limit", Volt, Term, VOLTAGE;
    /// EVMinimumVoltage.
    EvVoltageLeast = "ev_voltage_least", Volt, Term, VOLTAGE;
    /// EVSEMaximumChargePower, EVSEMaximumPowerLimit.
    EvsePowerCharge = "evse_power_limit_charge", Kilowatt, Term, POWER_LIMIT;
    /// EVSEMaximumChargePower_L2.
    EvsePowerChargeL2 = "evse_power_limit_charge_l2", Kilowatt, Term, POWER_LIMIT;
    /// EVSEMaximumChargePower_L3.
    EvsePowerChargeL3 = "evse_power_limit_charge_l3", Kilowatt, Term, POWER_LIMIT;
    /// EVSEMinimumChargePower.
    EvsePowerChargeLeast = "evse_power_least_charge", Kilowatt, Term, POWER_LIMIT;
    /// EVSEMaximumDischargePower.
    EvsePowerDischarge = "evse_power_limit_discharge", Kilowatt, Term, POWER_LIMIT;
    /// EVSEMaximumDischargePower_L2.
    EvsePowerDischargeL2 = "evse_power_limit_discharge_l2", Kilowatt, Term, POWER_LIMIT;
    /// EVSEMaximumDischargePower_L3.
    EvsePowerDischargeL3 = "evse_power_limit_discharge_l3", Kilowatt, Term, POWER_LIMIT;
    /// EVSEMinimumDischargePower.
    EvsePowerDischargeLeast = "evse_power_least_discharge", Kilowatt, Term, POWER_LIMIT;
    /// EVSEMaximumChargeCurrent, EVSEMaximumCurrentLimit, EVSEMaxCurrent.
    EvseCurrentCharge = "evse_current_limit_charge", Ampere, Term, CURRENT_LIMIT;
    /// EVSEMinimumChargeCurrent, EVSEMinimumCurrentLimit.
    EvseCurrentChargeLeast = "evse_current_least_charge", Ampere, Term, CURRENT_LIMIT;
    /// EVSEMaximumDischargeCurrent.
    EvseCurrentDischarge = "evse_current_limit_discharge", Ampere, Term, CURRENT_LIMIT;
    /// EVSEMinimumDischargeCurrent.
    EvseCurrentDischargeLeast = "evse_current_least_discharge", Ampere, Term, CURRENT_LIMIT;
    /// EVSEMaximumVoltage, EVSEMaximumVoltageLimit.
    EvseVoltageLimit = "evse_voltage_limit", Volt, Term, VOLTAGE;
    /// EVSEMinimumVoltage, EVSEMinimumVoltageLimit.
    EvseVoltageLeast = "evse_voltage_least", Volt, Term, VOLTAGE;
    /// EVSENominalVoltage.
    NominalVoltage = "voltage_nominal", Volt, Term, VOLTAGE;
    /// EVSENominalFrequency, EVSETargetFrequency.
    NominalFrequency = "frequency_nominal", Hertz, Term, Some((0.0, 1000.0));
    /// The sign with which the vehicle sends its limits of discharge: `positive` or `negative`. The limits here are magnitudes.
    EvDischargeSign = "ev_discharge_sign", One, Word, None;
    /// The same of the station.
    EvseDischargeSign = "evse_discharge_sign", One, Word, None;
    /// The station's meter, energy to the vehicle: MeterReading, ChargedEnergyReadingWh.
    MeterImport = "meter_import", KilowattHour, Level, METER;
    /// The station's meter, energy from the vehicle: BPT_DischargedEnergyReadingWh.
    MeterExport = "meter_export", KilowattHour, Level, METER;
    /// ResponseCode of the last answer.
    ResponseCode = "response_code", One, Word, None;
    /// EVSEStatusCode (DC).
    EvseStatus = "evse_status", One, Word, None;
    /// EVSENotification.
    EvseNotification = "evse_notification", One, Word, None;
    /// NotificationMaxDelay.
    NotificationDelay = "evse_notification_delay", Second, Term, SECONDS;
    /// FaultCode of a header's notification.
    FaultCode = "fault_code", One, Word, None;
    /// EVSEIsolationStatus.
    Isolation = "isolation", One, Word, None;
    /// EVErrorCode.
    EvError = "ev_error", One, Word, None;
    /// EVReady.
    EvReady = "ev_ready", One, Flag, None;
    /// ChargingComplete.
    ChargingComplete = "charging_complete", One, Flag, None;
    /// BulkChargingComplete.
    BulkComplete = "bulk_charging_complete", One, Flag, None;
    /// InletHot.
    InletHot = "inlet_hot", One, Flag, None;
    /// EVSEPowerLimitAchieved.
    PowerLimitAchieved = "power_limit_achieved", One, Flag, None;
    /// EVSECurrentLimitAchieved.
    CurrentLimitAchieved = "current_limit_achieved", One, Flag, None;
    /// EVSEVoltageLimitAchieved.
    VoltageLimitAchieved = "voltage_limit_achieved", One, Flag, None;
    /// RCD: the residual current device has tripped.
    Rcd = "rcd", One, Flag, None;
    /// MeterStatus.
    MeterStatus = "meter_status", One, Flag, None;
    /// Messages of this session that were understood.
    Messages = "messages", One, Count, None;
    /// Frames of this session that were not.
    Unreadable = "unreadable", One, Flag, None;
}

impl SessionValue {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Its place in [`Self::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The field on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.row().0
    }

    /// The value of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|value| value.name() == name)
    }

    /// Its unit on the wire.
    #[must_use]
    pub const fn unit(self) -> Unit {
        self.row().1
    }

    /// Its type on the wire.
    #[must_use]
    pub const fn value_type(self) -> ValueType {
        match self.row().2 {
            Manner::Flow | Manner::Level | Manner::Term => ValueType::Float,
            Manner::Flag | Manner::Count => ValueType::Integer,
            Manner::Word => ValueType::Text,
        }
    }

    /// How a window folds it.
    #[must_use]
    pub const fn fold(self) -> Aggregation {
        match self.row().2 {
            Manner::Flow => Aggregation::Mean,
            _ => Aggregation::Last,
        }
    }

    /// What is plausible, in its unit, both ends included. EXI has no checksum: two of three flipped bits decode.
    #[must_use]
    pub const fn valid(self) -> Option<(f64, f64)> {
        self.row().3
    }

    /// Whether it is told only when it changes (and every 10 s), because messages repeat it.
    #[must_use]
    pub const fn is_told_on_change(self) -> bool {
        matches!(self.row().2, Manner::Term | Manner::Flag | Manner::Word)
    }

    /// Whether it is of the moment: not known any more once the session is over or silent.
    #[must_use]
    pub const fn is_present(self) -> bool {
        matches!(self.row().2, Manner::Flow | Manner::Level)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::FieldName;

    #[test]
    fn every_value_has_a_field_of_its_own_in_a_unit_of_the_wire() {
        for (index, value) in SessionValue::ALL.into_iter().enumerate() {
            assert_eq!(value.index(), index);
            assert!(FieldName::try_from(value.name()).is_ok(), "{}", value.name());
            assert_eq!(SessionValue::from_name(value.name()), Some(value), "two values are called {}", value.name());
            assert_eq!(value.unit().wire().0, value.unit(), "{}", value.name());
        }
    }
}
