//! The content models of DIN SPEC 70121:2014, annex (V2G_CI_MsgDef, MsgHeader, MsgBody, MsgDataTypes; namespace
//! `urn:din:70121:2012:MsgDef`), in the order of the schema. What belongs to contracts is named and closed: the standard
//! allows only external payment (DIN SPEC 70121, 8.4).

use super::Kind::{
    AttributeText, AttributeWord, Bytes, Closed, Flag, Group, Integer, Physical, Range, Text, Unsigned, Word,
};
use super::{Branch, Kind, Particle};

/// Exactly one.
const fn one(branches: &'static [Branch]) -> Particle {
    Particle { branches, required: true, at_most: 1 }
}

/// One or none.
const fn maybe(branches: &'static [Branch]) -> Particle {
    Particle { branches, required: false, at_most: 1 }
}

/// One to `at_most`.
const fn many(at_most: u16, branches: &'static [Branch]) -> Particle {
    Particle { branches, required: true, at_most }
}

const fn el(name: &'static str, kind: Kind) -> Branch {
    Branch { name, kind }
}

/// The schema's `unbounded`.
const UNBOUNDED: u16 = u16::MAX;
const STRING: usize = 1024;
const EMPTY: &[Particle] = &[];

macro_rules! physical {
    ($($name:literal),+) => { &[$(el($name, Physical)),+] };
}

const RESPONSE: Particle = one(&[el("ResponseCode", Word(23))]);
const PROCESSING: Particle = one(&[el("EVSEProcessing", Word(2))]);
const EVSE_ID: Particle = one(&[el("EVSEID", Bytes(32))]);
const TUPLE_ID: Particle = one(&[el("SAScheduleTupleID", Integer)]);

pub(super) const HEADER: &[Particle] = &[
    one(&[el("SessionID", Bytes(8))]),
    maybe(&[el("Notification", Group(NOTIFICATION))]),
    maybe(&[el("Signature", Closed)]),
];

const NOTIFICATION: &[Particle] = &[one(&[el("FaultCode", Word(3))]), maybe(&[el("FaultMsg", Text(64))])];

const EV_STATUS: &[Particle] = &[
    one(&[el("EVReady", Flag)]),
    maybe(&[el("EVCabinConditioning", Flag)]),
    maybe(&[el("EVRESSConditioning", Flag)]),
    one(&[el("EVErrorCode", Word(12))]),
    one(&[el("EVRESSSOC", Range(0, 100))]),
];
const VEHICLE: Particle = one(&[el("DC_EVStatus", Group(EV_STATUS))]);

const DC_STATUS: &[Particle] = &[
    maybe(&[el("EVSEIsolationStatus", Word(4))]),
    one(&[el("EVSEStatusCode", Word(12))]),
    one(&[el("NotificationMaxDelay", Unsigned)]),
    one(&[el("EVSENotification", Word(3))]),
];
const STATION: Particle = one(&[el("DC_EVSEStatus", Group(DC_STATUS))]);

const AC_STATUS: &[Particle] = &[
    one(&[el("PowerSwitchClosed", Flag)]),
    one(&[el("RCD", Flag)]),
    one(&[el("NotificationMaxDelay", Unsigned)]),
    one(&[el("EVSENotification", Word(3))]),
];

const METER: &[Particle] = &[
    one(&[el("MeterID", Text(32))]),
    maybe(physical!("MeterReading")),
    maybe(&[el("SigMeterReading", Bytes(32))]),
    maybe(&[el("MeterStatus", Integer)]),
    maybe(&[el("TMeter", Integer)]),
];

const SERVICE_TAG: &[Particle] = &[
    one(&[el("ServiceID", Unsigned)]),
    maybe(&[el("ServiceName", Text(32))]),
    one(&[el("ServiceCategory", Word(4))]),
    maybe(&[el("ServiceScope", Text(32))]),
];
const CHARGE_SERVICE: &[Particle] = &[
    one(&[el("ServiceTag", Group(SERVICE_TAG))]),
    one(&[el("FreeService", Flag)]),
    one(&[el("EnergyTransferType", Word(10))]),
];
const SERVICE: &[Particle] = &[one(&[el("ServiceTag", Group(SERVICE_TAG))]), one(&[el("FreeService", Flag)])];
const SERVICES: &[Particle] = &[many(UNBOUNDED, &[el("Service", Group(SERVICE))])];
const PAYMENTS: &[Particle] = &[many(UNBOUNDED, &[el("PaymentOption", Word(2))])];
const SELECTED: &[Particle] = &[one(&[el("ServiceID", Unsigned)]), maybe(&[el("ParameterSetID", Integer)])];
const SELECTION: &[Particle] = &[many(UNBOUNDED, &[el("SelectedService", Group(SELECTED))])];

const PARAMETER: &[Particle] = &[
    one(&[el("Name", AttributeText(STRING))]),
    one(&[el("ValueType", AttributeWord(6))]),
    one(&[
        el("boolValue", Flag),
        el("byteValue", Range(-128, 127)),
        el("shortValue", Integer),
        el("intValue", Integer),
        el("physicalValue", Physical),
        el("stringValue", Text(STRING)),
    ]),
];
const PARAMETER_SET: &[Particle] =
    &[one(&[el("ParameterSetID", Integer)]), many(UNBOUNDED, &[el("Parameter", Group(PARAMETER))])];
const PARAMETER_SETS: &[Particle] = &[many(UNBOUNDED, &[el("ParameterSet", Group(PARAMETER_SET))])];

const INTERVAL: &[Particle] = &[one(&[el("start", Unsigned)]), maybe(&[el("duration", Unsigned)])];
const INTERVALS: Particle = one(&[el("RelativeTimeInterval", Group(INTERVAL)), el("TimeInterval", Group(EMPTY))]);
const POWER_ENTRY: &[Particle] = &[INTERVALS, one(&[el("PMax", Integer)])];
const POWER_SCHEDULE: &[Particle] =
    &[one(&[el("PMaxScheduleID", Integer)]), many(UNBOUNDED, &[el("PMaxScheduleEntry", Group(POWER_ENTRY))])];
const COST: &[Particle] =
    &[one(&[el("costKind", Word(3))]), one(&[el("amount", Unsigned)]), maybe(&[el("amountMultiplier", Range(-3, 3))])];
const CONSUMPTION: &[Particle] = &[
    one(&[el("startValue", Unsigned)]),
    Particle { branches: &[el("Cost", Group(COST))], required: false, at_most: UNBOUNDED },
];
const TARIFF_ENTRY: &[Particle] = &[
    INTERVALS,
    one(&[el("EPriceLevel", Range(0, 255))]),
    Particle { branches: &[el("ConsumptionCost", Group(CONSUMPTION))], required: false, at_most: UNBOUNDED },
];
const TARIFF: &[Particle] = &[
    one(&[el("Id", AttributeText(STRING))]),
    one(&[el("SalesTariffID", Integer)]),
    maybe(&[el("SalesTariffDescription", Text(32))]),
    one(&[el("NumEPriceLevels", Range(0, 255))]),
    many(UNBOUNDED, &[el("SalesTariffEntry", Group(TARIFF_ENTRY))]),
];
const TUPLE: &[Particle] =
    &[TUPLE_ID, one(&[el("PMaxSchedule", Group(POWER_SCHEDULE))]), maybe(&[el("SalesTariff", Group(TARIFF))])];
const TUPLES: &[Particle] = &[many(UNBOUNDED, &[el("SAScheduleTuple", Group(TUPLE))])];

const AC_EV: &[Particle] = &[
    one(&[el("DepartureTime", Unsigned)]),
    one(physical!("EAmount")),
    one(physical!("EVMaxVoltage")),
    one(physical!("EVMaxCurrent")),
    one(physical!("EVMinCurrent")),
];
const DC_EV: &[Particle] = &[
    VEHICLE,
    one(physical!("EVMaximumCurrentLimit")),
    maybe(physical!("EVMaximumPowerLimit")),
    one(physical!("EVMaximumVoltageLimit")),
    maybe(physical!("EVEnergyCapacity")),
    maybe(physical!("EVEnergyRequest")),
    maybe(&[el("FullSOC", Range(0, 100))]),
    maybe(&[el("BulkSOC", Range(0, 100))]),
];
const AC_EVSE: &[Particle] = &[
    one(&[el("AC_EVSEStatus", Group(AC_STATUS))]),
    one(physical!("EVSEMaxVoltage")),
    one(physical!("EVSEMaxCurrent")),
    one(physical!("EVSEMinCurrent")),
];
const DC_EVSE: &[Particle] = &[
    STATION,
    one(physical!("EVSEMaximumCurrentLimit")),
    maybe(physical!("EVSEMaximumPowerLimit")),
    one(physical!("EVSEMaximumVoltageLimit")),
    one(physical!("EVSEMinimumCurrentLimit")),
    one(physical!("EVSEMinimumVoltageLimit")),
    maybe(physical!("EVSECurrentRegulationTolerance")),
    one(physical!("EVSEPeakCurrentRipple")),
    maybe(physical!("EVSEEnergyToBeDelivered")),
];
const PROFILE_ENTRY: &[Particle] =
    &[one(&[el("ChargingProfileEntryStart", Unsigned)]), one(&[el("ChargingProfileEntryMaxPower", Integer)])];
const PROFILE: &[Particle] = &[TUPLE_ID, many(UNBOUNDED, &[el("ProfileEntry", Group(PROFILE_ENTRY))])];
const DC_POWER: &[Particle] =
    &[VEHICLE, maybe(&[el("BulkChargingComplete", Flag)]), one(&[el("ChargingComplete", Flag)])];

const CHARGE_PARAMETERS_REQ: &[Particle] = &[
    one(&[el("EVRequestedEnergyTransferType", Word(6))]),
    one(&[
        el("AC_EVChargeParameter", Group(AC_EV)),
        el("DC_EVChargeParameter", Group(DC_EV)),
        el("EVChargeParameter", Group(EMPTY)),
    ]),
];
const CHARGE_PARAMETERS_RES: &[Particle] = &[
    RESPONSE,
    PROCESSING,
    one(&[el("SAScheduleList", Group(TUPLES)), el("SASchedules", Group(EMPTY))]),
    one(&[
        el("AC_EVSEChargeParameter", Group(AC_EVSE)),
        el("DC_EVSEChargeParameter", Group(DC_EVSE)),
        el("EVSEChargeParameter", Group(EMPTY)),
    ]),
];
const CURRENT_DEMAND_REQ: &[Particle] = &[
    VEHICLE,
    one(physical!("EVTargetCurrent")),
    maybe(physical!("EVMaximumVoltageLimit")),
    maybe(physical!("EVMaximumCurrentLimit")),
    maybe(physical!("EVMaximumPowerLimit")),
    maybe(&[el("BulkChargingComplete", Flag)]),
    one(&[el("ChargingComplete", Flag)]),
    maybe(physical!("RemainingTimeToFullSoC")),
    maybe(physical!("RemainingTimeToBulkSoC")),
    one(physical!("EVTargetVoltage")),
];
const CURRENT_DEMAND_RES: &[Particle] = &[
    RESPONSE,
    STATION,
    one(physical!("EVSEPresentVoltage")),
    one(physical!("EVSEPresentCurrent")),
    one(&[el("EVSECurrentLimitAchieved", Flag)]),
    one(&[el("EVSEVoltageLimitAchieved", Flag)]),
    one(&[el("EVSEPowerLimitAchieved", Flag)]),
    maybe(physical!("EVSEMaximumVoltageLimit")),
    maybe(physical!("EVSEMaximumCurrentLimit")),
    maybe(physical!("EVSEMaximumPowerLimit")),
];
const CHARGING_STATUS_RES: &[Particle] = &[
    RESPONSE,
    EVSE_ID,
    TUPLE_ID,
    maybe(physical!("EVSEMaxCurrent")),
    maybe(&[el("MeterInfo", Group(METER))]),
    one(&[el("ReceiptRequired", Flag)]),
    one(&[el("AC_EVSEStatus", Group(AC_STATUS))]),
];
const POWER_DELIVERY_REQ: &[Particle] = &[
    one(&[el("ReadyToChargeState", Flag)]),
    maybe(&[el("ChargingProfile", Group(PROFILE))]),
    maybe(&[el("DC_EVPowerDeliveryParameter", Group(DC_POWER)), el("EVPowerDeliveryParameter", Group(EMPTY))]),
];
const POWER_DELIVERY_RES: &[Particle] = &[
    RESPONSE,
    one(&[
        el("AC_EVSEStatus", Group(AC_STATUS)),
        el("DC_EVSEStatus", Group(DC_STATUS)),
        el("EVSEStatus", Group(EMPTY)),
    ]),
];
const PRE_CHARGE_REQ: &[Particle] = &[VEHICLE, one(physical!("EVTargetVoltage")), one(physical!("EVTargetCurrent"))];
const PRESENT_VOLTAGE: &[Particle] = &[RESPONSE, STATION, one(physical!("EVSEPresentVoltage"))];
const SESSION_SETUP_RES: &[Particle] = &[RESPONSE, EVSE_ID, maybe(&[el("DateTimeNow", Integer)])];
const DISCOVERY_REQ: &[Particle] = &[maybe(&[el("ServiceScope", Text(32))]), maybe(&[el("ServiceCategory", Word(4))])];
const DISCOVERY_RES: &[Particle] = &[
    RESPONSE,
    one(&[el("PaymentOptions", Group(PAYMENTS))]),
    one(&[el("ChargeService", Group(CHARGE_SERVICE))]),
    maybe(&[el("ServiceList", Group(SERVICES))]),
];
const DETAIL_RES: &[Particle] =
    &[RESPONSE, one(&[el("ServiceID", Unsigned)]), maybe(&[el("ServiceParameterList", Group(PARAMETER_SETS))])];
const PAYMENT_REQ: &[Particle] =
    &[one(&[el("SelectedPaymentOption", Word(2))]), one(&[el("SelectedServiceList", Group(SELECTION))])];
const AUTHENTICATION_REQ: &[Particle] =
    &[maybe(&[el("Id", AttributeText(STRING))]), maybe(&[el("GenChallenge", Text(STRING))])];
const METERING_REQ: &[Particle] = &[
    maybe(&[el("Id", AttributeText(STRING))]),
    one(&[el("SessionID", Bytes(8))]),
    maybe(&[el("SAScheduleTupleID", Integer)]),
    one(&[el("MeterInfo", Group(METER))]),
];
const METERING_RES: &[Particle] = &[RESPONSE, one(&[el("AC_EVSEStatus", Group(AC_STATUS))])];

/// BodyElement and all that may stand in its place, in the order of their names.
pub(super) const BODY: &[Particle] = &[maybe(&[
    el("BodyElement", Closed),
    el("CableCheckReq", Group(&[VEHICLE])),
    el("CableCheckRes", Group(&[RESPONSE, STATION, PROCESSING])),
    el("CertificateInstallationReq", Closed),
    el("CertificateInstallationRes", Closed),
    el("CertificateUpdateReq", Closed),
    el("CertificateUpdateRes", Closed),
    el("ChargeParameterDiscoveryReq", Group(CHARGE_PARAMETERS_REQ)),
    el("ChargeParameterDiscoveryRes", Group(CHARGE_PARAMETERS_RES)),
    el("ChargingStatusReq", Group(EMPTY)),
    el("ChargingStatusRes", Group(CHARGING_STATUS_RES)),
    el("ContractAuthenticationReq", Group(AUTHENTICATION_REQ)),
    el("ContractAuthenticationRes", Group(&[RESPONSE, PROCESSING])),
    el("CurrentDemandReq", Group(CURRENT_DEMAND_REQ)),
    el("CurrentDemandRes", Group(CURRENT_DEMAND_RES)),
    el("MeteringReceiptReq", Group(METERING_REQ)),
    el("MeteringReceiptRes", Group(METERING_RES)),
    el("PaymentDetailsReq", Closed),
    el("PaymentDetailsRes", Closed),
    el("PowerDeliveryReq", Group(POWER_DELIVERY_REQ)),
    el("PowerDeliveryRes", Group(POWER_DELIVERY_RES)),
    el("PreChargeReq", Group(PRE_CHARGE_REQ)),
    el("PreChargeRes", Group(PRESENT_VOLTAGE)),
    el("ServiceDetailReq", Group(&[one(&[el("ServiceID", Unsigned)])])),
    el("ServiceDetailRes", Group(DETAIL_RES)),
    el("ServiceDiscoveryReq", Group(DISCOVERY_REQ)),
    el("ServiceDiscoveryRes", Group(DISCOVERY_RES)),
    el("ServicePaymentSelectionReq", Group(PAYMENT_REQ)),
    el("ServicePaymentSelectionRes", Group(&[RESPONSE])),
    el("SessionSetupReq", Group(&[one(&[el("EVCCID", Bytes(8))])])),
    el("SessionSetupRes", Group(SESSION_SETUP_RES)),
    el("SessionStopReq", Group(EMPTY)),
    el("SessionStopRes", Group(&[RESPONSE])),
    el("WeldingDetectionReq", Group(&[VEHICLE])),
    el("WeldingDetectionRes", Group(PRESENT_VOLTAGE)),
])];
