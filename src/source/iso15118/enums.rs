//! The words of the schemas, by the index that EXI sends. The crate's own names are Rust's, not the schema's.

/// `FAILED_WrongChargeParameter`, …: ISO 15118-2, V2G_CI_MsgDataTypes, responseCodeType.
pub(super) const RESPONSE_2: [&str; 26] = [
    "OK",
    "OK_NewSessionEstablished",
    "OK_OldSessionJoined",
    "OK_CertificateExpiresSoon",
    "FAILED",
    "FAILED_SequenceError",
    "FAILED_ServiceIDInvalid",
    "FAILED_UnknownSession",
    "FAILED_ServiceSelectionInvalid",
    "FAILED_PaymentSelectionInvalid",
    "FAILED_CertificateExpired",
    "FAILED_SignatureError",
    "FAILED_NoCertificateAvailable",
    "FAILED_CertChainError",
    "FAILED_ChallengeInvalid",
    "FAILED_ContractCanceled",
    "FAILED_WrongChargeParameter",
    "FAILED_PowerDeliveryNotApplied",
    "FAILED_TariffSelectionInvalid",
    "FAILED_ChargingProfileInvalid",
    "FAILED_MeteringSignatureNotValid",
    "FAILED_NoChargeServiceSelected",
    "FAILED_WrongEnergyTransferMode",
    "FAILED_ContactorError",
    "FAILED_CertificateNotAllowedAtThisEVSE",
    "FAILED_CertificateRevoked",
];

/// DIN SPEC 70121, responseCodeType: the first 20 as in -2.
pub(super) const RESPONSE_DIN: [&str; 23] = [
    "OK",
    "OK_NewSessionEstablished",
    "OK_OldSessionJoined",
    "OK_CertificateExpiresSoon",
    "FAILED",
    "FAILED_SequenceError",
    "FAILED_ServiceIDInvalid",
    "FAILED_UnknownSession",
    "FAILED_ServiceSelectionInvalid",
    "FAILED_PaymentSelectionInvalid",
    "FAILED_CertificateExpired",
    "FAILED_SignatureError",
    "FAILED_NoCertificateAvailable",
    "FAILED_CertChainError",
    "FAILED_ChallengeInvalid",
    "FAILED_ContractCanceled",
    "FAILED_WrongChargeParameter",
    "FAILED_PowerDeliveryNotApplied",
    "FAILED_TariffSelectionInvalid",
    "FAILED_ChargingProfileInvalid",
    "FAILED_EVSEPresentVoltageToLow",
    "FAILED_MeteringSignatureNotValid",
    "FAILED_WrongEnergyTransferType",
];

/// ISO 15118-20, V2G_CI_CommonTypes, responseCodeType.
pub(super) const RESPONSE_20: [&str; 40] = [
    "OK",
    "OK_CertificateExpiresSoon",
    "OK_NewSessionEstablished",
    "OK_OldSessionJoined",
    "OK_PowerToleranceConfirmed",
    "WARNING_AuthorizationSelectionInvalid",
    "WARNING_CertificateExpired",
    "WARNING_CertificateNotYetValid",
    "WARNING_CertificateRevoked",
    "WARNING_CertificateValidationError",
    "WARNING_ChallengeInvalid",
    "WARNING_EIMAuthorizationFailure",
    "WARNING_eMSPUnknown",
    "WARNING_EVPowerProfileViolation",
    "WARNING_GeneralPnCAuthorizationError",
    "WARNING_NoCertificateAvailable",
    "WARNING_NoContractMatchingPCIDFound",
    "WARNING_PowerToleranceNotConfirmed",
    "WARNING_ScheduleRenegotiationFailed",
    "WARNING_StandbyNotAllowed",
    "WARNING_WPT",
    "FAILED",
    "FAILED_AssociationError",
    "FAILED_ContactorError",
    "FAILED_EVPowerProfileInvalid",
    "FAILED_EVPowerProfileViolation",
    "FAILED_MeteringSignatureNotValid",
    "FAILED_NoEnergyTransferServiceSelected",
    "FAILED_NoServiceRenegotiationSupported",
    "FAILED_PauseNotAllowed",
    "FAILED_PowerDeliveryNotApplied",
    "FAILED_PowerToleranceNotConfirmed",
    "FAILED_ScheduleRenegotiation",
    "FAILED_ScheduleSelectionInvalid",
    "FAILED_SequenceError",
    "FAILED_ServiceIDInvalid",
    "FAILED_ServiceSelectionInvalid",
    "FAILED_SignatureError",
    "FAILED_UnknownSession",
    "FAILED_WrongChargeParameter",
];

/// DC_EVErrorCodeType, in -2 and DIN alike.
pub(super) const EV_ERROR: [&str; 12] = [
    "NO_ERROR",
    "FAILED_RESSTemperatureInhibit",
    "FAILED_EVShiftPosition",
    "FAILED_ChargerConnectorLockFault",
    "FAILED_EVRESSMalfunction",
    "FAILED_ChargingCurrentdifferential",
    "FAILED_ChargingVoltageOutOfRange",
    "Reserved_A",
    "Reserved_B",
    "Reserved_C",
    "FAILED_ChargingSystemIncompatibility",
    "NoData",
];

/// DC_EVSEStatusCodeType, in -2 and DIN alike.
pub(super) const EVSE_STATUS: [&str; 12] = [
    "EVSE_NotReady",
    "EVSE_Ready",
    "EVSE_Shutdown",
    "EVSE_UtilityInterruptEvent",
    "EVSE_IsolationMonitoringActive",
    "EVSE_EmergencyShutdown",
    "EVSE_Malfunction",
    "Reserved_8",
    "Reserved_9",
    "Reserved_A",
    "Reserved_B",
    "Reserved_C",
];

/// isolationLevelType; DIN has the first four.
pub(super) const ISOLATION: [&str; 5] = ["Invalid", "Valid", "Warning", "Fault", "No_IMD"];

/// EVSENotificationType of -2 and DIN.
pub(super) const NOTIFICATION_2: [&str; 3] = ["None", "StopCharging", "ReNegotiation"];

/// EvseNotificationType of -20.
pub(super) const NOTIFICATION_20: [&str; 6] =
    ["Pause", "ExitStandby", "Terminate", "ScheduleRenegotiation", "ServiceRenegotiation", "MeteringConfirmation"];

/// EnergyTransferModeType of -2, EVRequestedEnergyTransferType of DIN.
pub(super) const TRANSFER: [&str; 6] =
    ["AC_single_phase_core", "AC_three_phase_core", "DC_core", "DC_extended", "DC_combo_core", "DC_unique"];

/// faultCodeType of the header's notification, in -2 and DIN alike.
pub(super) const FAULT: [&str; 3] = ["ParsingError", "NoTLSRootCertificatAvailable", "UnknownError"];

/// ServiceID of -20 (ISO 15118-20, table 204).
pub(super) fn service_20(id: u16) -> &'static str {
    match id {
        1 => "AC",
        2 => "DC",
        3 => "WPT",
        4 => "DC_ACDP",
        5 => "AC_BPT",
        6 => "DC_BPT",
        7 => "DC_ACDP_BPT",
        _ => "other",
    }
}

/// The word at an index that the codec has checked; a codec with more words than this table is answered honestly.
pub(super) fn word<const N: usize>(words: &'static [&'static str; N], index: usize) -> &'static str {
    words.get(index).copied().unwrap_or("unknown")
}
