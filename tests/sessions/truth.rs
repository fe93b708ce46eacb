//! What a consumer must read of one message, worked out from what its sender handed to the encoder. It shares no code with
//! the agent: names and scales of the schemas against the fields of the wire.

use serde_json::Value;

/// A field's value at the broker.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expected {
    Number(f64),
    Integer(i64),
    Text(String),
}

/// Element, field, power of ten from the element's unit to the field's.
const NUMBERS: &[(&str, &str, i32)] = &[
    ("EVRESSSOC", "soc", 0),
    ("PresentSOC", "soc", 0),
    ("MinimumSOC", "soc_minimum", 0),
    ("TargetSOC", "soc_target", 0),
    ("MaximumSOC", "soc_maximum", 0),
    ("FullSOC", "soc_full", 0),
    ("BulkSOC", "soc_bulk", 0),
    ("RemainingTimeToMinimumSOC", "time_to_soc_minimum", 0),
    ("RemainingTimeToTargetSOC", "time_to_soc_target", 0),
    ("RemainingTimeToMaximumSOC", "time_to_soc_maximum", 0),
    ("RemainingTimeToFullSoC", "time_to_soc_full", 0),
    ("RemainingTimeToBulkSoC", "time_to_soc_bulk", 0),
    ("DepartureTime", "departure_time", 0),
    ("BatteryEnergyCapacity", "battery_capacity", -3),
    ("EVEnergyCapacity", "battery_capacity", -3),
    ("EVSEPresentVoltage", "voltage", 0),
    ("EVSEPresentCurrent", "current", 0),
    ("EVPresentVoltage", "ev_voltage", 0),
    ("EVTargetVoltage", "voltage_target", 0),
    ("EVTargetCurrent", "current_target", 0),
    ("EVSETargetActivePower", "power_target", -3),
    ("EVSETargetActivePower_L2", "power_target_l2", -3),
    ("EVSETargetActivePower_L3", "power_target_l3", -3),
    ("EVSETargetReactivePower", "power_reactive_target", -3),
    ("EVPresentActivePower_L2", "ev_power_l2", -3),
    ("EVPresentActivePower_L3", "ev_power_l3", -3),
    ("EVSEPresentActivePower_L2", "evse_power_l2", -3),
    ("EVSEPresentActivePower_L3", "evse_power_l3", -3),
    ("EVTargetEnergyRequest", "energy_request", -3),
    ("EVEnergyRequest", "energy_request", -3),
    ("EAmount", "energy_request", -3),
    ("EVMaximumEnergyRequest", "energy_request_maximum", -3),
    ("EVMinimumEnergyRequest", "energy_request_minimum", -3),
    ("EVMaximumV2XEnergyRequest", "energy_v2x_maximum", -3),
    ("EVMinimumV2XEnergyRequest", "energy_v2x_minimum", -3),
    ("EVMaximumChargePower", "ev_power_limit_charge", -3),
    ("EVMaximumChargePower_L2", "ev_power_limit_charge_l2", -3),
    ("EVMaximumChargePower_L3", "ev_power_limit_charge_l3", -3),
    ("EVMaximumPowerLimit", "ev_power_limit_charge", -3),
    ("EVMinimumChargePower", "ev_power_least_charge", -3),
    ("EVMaximumDischargePower", "ev_power_limit_discharge", -3),
    ("EVMaximumDischargePower_L2", "ev_power_limit_discharge_l2", -3),
    ("EVMaximumDischargePower_L3", "ev_power_limit_discharge_l3", -3),
    ("EVMinimumDischargePower", "ev_power_least_discharge", -3),
    ("EVMaximumChargeCurrent", "ev_current_limit_charge", 0),
    ("EVMaximumCurrentLimit", "ev_current_limit_charge", 0),
    ("EVMaxCurrent", "ev_current_limit_charge", 0),
    ("EVMinimumChargeCurrent", "ev_current_least_charge", 0),
    ("EVMinCurrent", "ev_current_least_charge", 0),
    ("EVMaximumDischargeCurrent", "ev_current_limit_discharge", 0),
    ("EVMinimumDischargeCurrent", "ev_current_least_discharge", 0),
    ("EVMaximumVoltage", "ev_voltage_limit", 0),
    ("EVMaximumVoltageLimit", "ev_voltage_limit", 0),
    ("EVMaxVoltage", "ev_voltage_limit", 0),
    ("EVMinimumVoltage", "ev_voltage_least", 0),
    ("EVSEMaximumChargePower", "evse_power_limit_charge", -3),
    ("EVSEMaximumChargePower_L2", "evse_power_limit_charge_l2", -3),
    ("EVSEMaximumChargePower_L3", "evse_power_limit_charge_l3", -3),
    ("EVSEMaximumPowerLimit", "evse_power_limit_charge", -3),
    ("EVSEMinimumChargePower", "evse_power_least_charge", -3),
    ("EVSEMaximumDischargePower", "evse_power_limit_discharge", -3),
    ("EVSEMaximumDischargePower_L2", "evse_power_limit_discharge_l2", -3),
    ("EVSEMaximumDischargePower_L3", "evse_power_limit_discharge_l3", -3),
    ("EVSEMinimumDischargePower", "evse_power_least_discharge", -3),
    ("EVSEMaximumChargeCurrent", "evse_current_limit_charge", 0),
    ("EVSEMaximumCurrentLimit", "evse_current_limit_charge", 0),
    ("EVSEMaxCurrent", "evse_current_limit_charge", 0),
    ("EVSEMinimumChargeCurrent", "evse_current_least_charge", 0),
    ("EVSEMinimumCurrentLimit", "evse_current_least_charge", 0),
    ("EVSEMaximumDischargeCurrent", "evse_current_limit_discharge", 0),
    ("EVSEMinimumDischargeCurrent", "evse_current_least_discharge", 0),
    ("EVSEMaximumVoltage", "evse_voltage_limit", 0),
    ("EVSEMaximumVoltageLimit", "evse_voltage_limit", 0),
    ("EVSEMinimumVoltage", "evse_voltage_least", 0),
    ("EVSEMinimumVoltageLimit", "evse_voltage_least", 0),
    ("EVSEEnergyToBeDelivered", "energy_offered", -3),
    ("EVSENominalVoltage", "voltage_nominal", 0),
    ("EVSENominalFrequency", "frequency_nominal", 0),
    ("EVSETargetFrequency", "frequency_nominal", 0),
    ("MeterReading", "meter_import", -3),
    ("ChargedEnergyReadingWh", "meter_import", -3),
    ("BPT_DischargedEnergyReadingWh", "meter_export", -3),
    ("NotificationMaxDelay", "evse_notification_delay", 0),
];

const WORDS: &[(&str, &str)] = &[
    ("ResponseCode", "response_code"),
    ("EVSEStatusCode", "evse_status"),
    ("EVSENotification", "evse_notification"),
    ("EVSEIsolationStatus", "isolation"),
    ("EVErrorCode", "ev_error"),
    ("EVSEID", "evse_id"),
    ("FaultCode", "fault_code"),
];

const FLAGS: &[(&str, &str)] = &[
    ("EVReady", "ev_ready"),
    ("ChargingComplete", "charging_complete"),
    ("BulkChargingComplete", "bulk_charging_complete"),
    ("InletHot", "inlet_hot"),
    ("EVSEPowerLimitAchieved", "power_limit_achieved"),
    ("EVSECurrentLimitAchieved", "current_limit_achieved"),
    ("EVSEVoltageLimitAchieved", "voltage_limit_achieved"),
    ("RCD", "rcd"),
    ("MeterStatus", "meter_status"),
];

/// Summed over the phases: base element, field of the sum, field of L1.
const PHASED: &[(&str, &str, &str)] = &[
    ("EVPresentActivePower", "ev_power", "ev_power_l1"),
    ("EVSEPresentActivePower", "evse_power", "evse_power_l1"),
    ("EVPresentReactivePower", "ev_power_reactive", ""),
];

/// Named here so that an element that nobody thought of is noticed.
const NOT_TOLD: &[&str] = &[
    // Said by the session's tags and events.
    "EVCCID",
    "SessionID",
    "SchemaID",
    "ServiceID",
    "ChargingSession",
    "ChargeProgress",
    "ReadyToChargeState",
    "EVRequestedEnergyTransferType",
    "RequestedEnergyTransferMode",
    "AppProtocol",
    // Of no interest to a depot.
    "TimeStamp",
    "EVSETimeStamp",
    "DateTimeNow",
    "MeterID",
    "MeterTimestamp",
    "TMeter",
    "MeterInfoRequested",
    "EVProcessing",
    "EVSEProcessing",
    "SAScheduleTupleID",
    "MaxEntriesSAScheduleTuple",
    "MaximumSupportingPoints",
    "ReceiptRequired",
    "EVSEPeakCurrentRipple",
    "EVSECurrentRegulationTolerance",
    "EVSEPowerRampLimitation",
    "MaximumPowerAsymmetry",
    "BPT_ChannelSelection",
    "FreeService",
    "ServiceRenegotiationSupported",
    "ParameterSetID",
    "AuthorizationServices",
    "CertificateInstallationService",
    "SelectedAuthorizationService",
    "SelectedPaymentOption",
    "PaymentOption",
    "ServiceCategory",
    "EnergyTransferType",
    "EnergyTransferMode",
    "ServiceName",
    "Id",
    // The event of the session's end has it.
    "FaultMsg",
    // Of a minimum, the total is enough.
    "EVMinimumChargePower_L2",
    "EVMinimumChargePower_L3",
    "EVMinimumDischargePower_L2",
    "EVMinimumDischargePower_L3",
    "EVSEMinimumChargePower_L2",
    "EVSEMinimumChargePower_L3",
    "EVSEMinimumDischargePower_L2",
    "EVSEMinimumDischargePower_L3",
    // Their sums are told.
    "EVPresentReactivePower_L2",
    "EVPresentReactivePower_L3",
    "EVSETargetReactivePower_L2",
    "EVSETargetReactivePower_L3",
];

/// Whole trees of them.
const CLOSED: &[&str] = &[
    "SAScheduleList",
    "EVPowerProfile",
    "ChargingProfile",
    "EVEnergyOffer",
    "ScheduleTuple",
    "ServiceParameterList",
    "ServiceList",
    "VASList",
    "PnC_AReqAuthorizationMode",
    "PnC_ASResAuthorizationMode",
    "EIM_ASResAuthorizationMode",
    "PriceLevelSchedule",
];

/// The message's own name.
pub(crate) fn name(message: &Value) -> &str {
    let body = message.pointer("/V2G_Message/Body").unwrap_or(message);
    body.as_object().and_then(|body| body.keys().next()).map_or("", String::as_str)
}

/// Everything that the message says.
///
/// # Panics
/// On an element that is in none of the tables.
pub(crate) fn told_by(message: &Value) -> Vec<(String, Expected)> {
    let mut told = Vec::new();
    if !name(message).starts_with("supportedAppProtocol") {
        walk(message, &mut told);
        derive(message, &mut told);
    }
    told
}

fn walk(value: &Value, told: &mut Vec<(String, Expected)>) {
    match value {
        Value::Object(fields) => {
            for (key, inner) in fields {
                element(key, inner, fields, told);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| walk(item, told)),
        _ => {}
    }
}

fn element(key: &str, value: &Value, among: &serde_json::Map<String, Value>, told: &mut Vec<(String, Expected)>) {
    let mut tell = |field: &str, expected| told.push((field.to_owned(), expected));
    if let Some((_, field, scale)) = NUMBERS.iter().find(|(name, ..)| *name == key) {
        // Discharge is a magnitude at the broker.
        let number = number(value, *scale).expect("a number");
        tell(field, Expected::Number(if field.contains("discharge") { number.abs() } else { number }));
    } else if let Some((_, field)) = WORDS.iter().find(|(name, _)| *name == key) {
        tell(field, Expected::Text(value.as_str().expect("a word").to_owned()));
    } else if let Some((_, field)) = FLAGS.iter().find(|(name, _)| *name == key) {
        let flag = value.as_bool().map(i64::from).or(value.as_i64()).expect("a flag");
        tell(field, Expected::Integer(flag));
    } else if let Some((base, sum, first)) = PHASED.iter().find(|(name, ..)| *name == key) {
        let phase = |suffix: &str| among.get(&format!("{base}{suffix}")).and_then(|value| number(value, -3));
        let phases = [phase(""), phase("_L2"), phase("_L3")];
        tell(sum, Expected::Number(phases.iter().flatten().sum()));
        if let ([Some(l1), Some(_), _] | [Some(l1), _, Some(_)], false) = (phases, first.is_empty()) {
            tell(first, Expected::Number(l1));
        }
    } else if CLOSED.contains(&key) || NOT_TOLD.contains(&key) {
    } else if value.is_object() || value.is_array() {
        walk(value, told);
    } else {
        panic!("the element {key} = {value} is in no table");
    }
}

/// Power follows from voltage and current, or is the station's.
fn derive(message: &Value, told: &mut Vec<(String, Expected)>) {
    let number = |field: &str| {
        told.iter().find_map(|(name, expected)| match expected {
            Expected::Number(number) if name == field => Some(*number),
            _ => None,
        })
    };
    let power = match (number("voltage"), number("current"), number("evse_power")) {
        (Some(voltage), Some(current), _) => Some(voltage * current / 1000.0),
        (_, _, power) => power,
    };
    if let Some(power) = power {
        told.push(("power_flow".to_owned(), Expected::Number(power)));
    }
    let modes = [
        ("BPT_Dynamic_", "dynamic_bpt"),
        ("BPT_Scheduled_", "scheduled_bpt"),
        ("Dynamic_", "dynamic"),
        ("Scheduled_", "scheduled"),
    ];
    let body = message.as_object().and_then(|root| root.values().next()).and_then(Value::as_object);
    for key in body.into_iter().flat_map(|body| body.keys()).filter(|key| key.ends_with("ReqControlMode")) {
        let mode = modes.iter().find(|(prefix, _)| key.starts_with(prefix));
        told.extend(mode.map(|(_, mode)| ("control_mode".to_owned(), Expected::Text((*mode).to_owned()))));
    }
}

fn number(value: &Value, scale: i32) -> Option<f64> {
    let (digits, exponent) = match value {
        Value::Object(_) => {
            let exponent = value.get("Exponent").or(value.get("Multiplier")).and_then(Value::as_i64)?;
            (value.get("Value").and_then(Value::as_f64)?, i32::try_from(exponent).ok()?)
        }
        _ => (value.as_f64()?, 0),
    };
    // The nearest float of the decimal, as a reader of the text would get it.
    format!("{digits}e{}", exponent + scale).parse().ok()
}
