//! The profiles `sunspec`, `sunspec-evse`, `sunspec-battery` and `sunspec-inverter`: devices that say themselves where their values
//! stand.
//!
//! Which model's point is which quantity, and with which sign, is the list below; where it stands is found at the device. The
//! first source that a device has carries the quantity, and each value is told once. A meter's own models come first for
//! `sunspec`, those of the inverter (DER) for the others; what the other half of such a device says has a name of its own.
//!
//! Signs: a SunSpec meter counts import as positive; an inverter counts what it feeds into the grid, which is export here
//! (SunSpec model definitions 201-214, 101-113, 701). Of models 802 and 803 the sign of power and current is not defined: they
//! are not collected.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::draft::Pace;
use super::{Group, Medium, Profile};
use crate::spec::{
    Aggregation, DeviceKind, FieldName, Origin, PointSpec, Points, Scaling, SunSpecPoint, SunSpecSource, Unit,
    ValueType,
};

/// The names of these profiles, with the kind of device.
pub(in crate::config) const NAMES: [(&str, DeviceKind); 4] = [
    ("sunspec", DeviceKind::Meter),
    ("sunspec-evse", DeviceKind::Evse),
    ("sunspec-battery", DeviceKind::Battery),
    ("sunspec-inverter", DeviceKind::Inverter),
];

const POLL_DEFAULT: Duration = Duration::from_millis(500);
/// State of charge, ratings.
const SLOW: Duration = Duration::from_secs(5);

const NUMBER: ValueType = ValueType::Float;

/// Field, unit in the models, shape, sources of meters, sources of everything else. `~` turns the sign, `/100` divides.
type Row = (&'static str, Unit, ValueType, &'static str, &'static str);

#[rustfmt::skip]
const ROWS: [Row; 58] = [
    ("power_flow", Unit::Watt, NUMBER, "201-204.W 211-214.W", "~701.W ~101-103.W ~111-113.W"),
    ("power_flow_l1", Unit::Watt, NUMBER, "201-204.WphA 211-214.WphA", "~701.WL1"),
    ("power_flow_l2", Unit::Watt, NUMBER, "201-204.WphB 211-214.WphB", "~701.WL2"),
    ("power_flow_l3", Unit::Watt, NUMBER, "201-204.WphC 211-214.WphC", "~701.WL3"),
    ("power_reactive", Unit::Var, NUMBER, "201-204.VAR 211-214.VAR", "~701.Var ~101-103.VAr ~111-113.VAr"),
    ("power_apparent", Unit::VoltAmpere, NUMBER, "201-204.VA 211-214.VA", "701.VA 101-103.VA 111-113.VA"),
    ("power_factor", Unit::One, NUMBER, "201-204.PF/100 211-214.PF", "~701.PF 101-103.PF/100 111-113.PF/100"),
    ("voltage", Unit::Volt, NUMBER, "201-204.PhV 211-214.PhV", "701.LNV"),
    ("voltage_l1", Unit::Volt, NUMBER, "201-204.PhVphA 211-214.PhVphA", "701.VL1 101-103.PhVphA 111-113.PhVphA"),
    ("voltage_l2", Unit::Volt, NUMBER, "201-204.PhVphB 211-214.PhVphB", "701.VL2 101-103.PhVphB 111-113.PhVphB"),
    ("voltage_l3", Unit::Volt, NUMBER, "201-204.PhVphC 211-214.PhVphC", "701.VL3 101-103.PhVphC 111-113.PhVphC"),
    ("voltage_l1_l2", Unit::Volt, NUMBER, "201-204.PhVphAB 211-214.PPVphAB", "701.VL1L2 101-103.PPVphAB 111-113.PPVphAB"),
    ("voltage_l2_l3", Unit::Volt, NUMBER, "201-204.PhVphBC 211-214.PPVphBC", "701.VL2L3 101-103.PPVphBC 111-113.PPVphBC"),
    ("voltage_l3_l1", Unit::Volt, NUMBER, "201-204.PhVphCA 211-214.PPVphCA", "701.VL3L1 101-103.PPVphCA 111-113.PPVphCA"),
    ("current", Unit::Ampere, NUMBER, "201-204.A 211-214.A", "701.A 101-103.A 111-113.A"),
    ("current_l1", Unit::Ampere, NUMBER, "201-204.AphA 211-214.AphA", "701.AL1 101-103.AphA 111-113.AphA"),
    ("current_l2", Unit::Ampere, NUMBER, "201-204.AphB 211-214.AphB", "701.AL2 101-103.AphB 111-113.AphB"),
    ("current_l3", Unit::Ampere, NUMBER, "201-204.AphC 211-214.AphC", "701.AL3 101-103.AphC 111-113.AphC"),
    ("frequency", Unit::Hertz, NUMBER, "201-204.Hz 211-214.Hz", "701.Hz 101-103.Hz 111-113.Hz"),
    ("energy_import", Unit::WattHour, NUMBER, "201-204.TotWhImp 211-214.TotWhImp", "701.TotWhAbs"),
    ("energy_export", Unit::WattHour, NUMBER, "201-204.TotWhExp 211-214.TotWhExp", "701.TotWhInj 101-103.WH 111-113.WH"),
    ("fault", Unit::One, ValueType::Integer, "201-204.Evt 211-214.Evt", "701.Alrm 101-103.Evt1 111-113.Evt1"),
    ("state", Unit::One, ValueType::Text, "", "701.InvSt 101-103.St 111-113.St"),
    ("state_connection", Unit::One, ValueType::Text, "", "701.ConnSt"),
    ("power_dc", Unit::Watt, NUMBER, "", "~714.DCW ~101-103.DCW ~111-113.DCW"),
    ("voltage_dc", Unit::Volt, NUMBER, "", "101-103.DCV 111-113.DCV"),
    ("current_dc", Unit::Ampere, NUMBER, "", "~714.DCA ~101-103.DCA ~111-113.DCA"),
    ("energy_dc_import", Unit::WattHour, NUMBER, "", "714.DCWhAbs"),
    ("energy_dc_export", Unit::WattHour, NUMBER, "", "714.DCWhInj"),
    ("temperature", Unit::Celsius, NUMBER, "", "701.TmpCab 101-103.TmpCab 111-113.TmpCab"),
    ("temperature_ambient", Unit::Celsius, NUMBER, "", "701.TmpAmb"),
    ("temperature_heatsink", Unit::Celsius, NUMBER, "", "701.TmpSnk 101-103.TmpSnk 111-113.TmpSnk"),
    ("soc", Unit::Percent, NUMBER, "", "713.SoC 802.SoC 804.SoC 124.ChaState"),
    ("soh", Unit::Percent, NUMBER, "", "713.SoH 802.SoH 804.SoH"),
    ("energy_rated", Unit::WattHour, NUMBER, "", "713.WHRtg 802.WHRtg"),
    ("energy_available", Unit::WattHour, NUMBER, "", "713.WHAvail"),
    ("state_storage", Unit::One, ValueType::Text, "", "713.Sta 802.ChaSt 124.ChaSt"),
    ("state_battery", Unit::One, ValueType::Text, "", "802.State"),
    ("voltage_battery", Unit::Volt, NUMBER, "", "802.V 804.V 124.InBatV"),
    ("fault_battery", Unit::One, ValueType::Integer, "", "802.Evt1 804.Evt1"),
    ("temperature_battery", Unit::Celsius, NUMBER, "", "803.ModTmpAvg 804.ModTmpAvg"),
    ("temperature_battery_highest", Unit::Celsius, NUMBER, "", "803.ModTmpMax 804.ModTmpMax"),
    ("power_limit_charge", Unit::Watt, NUMBER, "", "702.WChaRteMax 702.WChaRteMaxRtg 802.WChaRteMax 124.WChaMax"),
    ("power_limit_discharge", Unit::Watt, NUMBER, "", "702.WDisChaRteMax 702.WDisChaRteMaxRtg 802.WDisChaRteMax"),
    ("power_dc_1", Unit::Watt, NUMBER, "", "~160.module[0].DCW"),
    ("power_dc_2", Unit::Watt, NUMBER, "", "~160.module[1].DCW"),
    ("power_dc_3", Unit::Watt, NUMBER, "", "~160.module[2].DCW"),
    ("power_dc_4", Unit::Watt, NUMBER, "", "~160.module[3].DCW"),
    ("voltage_dc_1", Unit::Volt, NUMBER, "", "160.module[0].DCV"),
    ("voltage_dc_2", Unit::Volt, NUMBER, "", "160.module[1].DCV"),
    ("voltage_dc_3", Unit::Volt, NUMBER, "", "160.module[2].DCV"),
    ("voltage_dc_4", Unit::Volt, NUMBER, "", "160.module[3].DCV"),
    ("inverter_power_flow", Unit::Watt, NUMBER, "", "~701.W ~101-103.W ~111-113.W"),
    ("inverter_power_reactive", Unit::Var, NUMBER, "", "~701.Var ~101-103.VAr ~111-113.VAr"),
    ("inverter_current", Unit::Ampere, NUMBER, "", "701.A 101-103.A 111-113.A"),
    ("inverter_energy_import", Unit::WattHour, NUMBER, "", "701.TotWhAbs"),
    ("inverter_energy_export", Unit::WattHour, NUMBER, "", "701.TotWhInj 101-103.WH 111-113.WH"),
    ("inverter_fault", Unit::One, ValueType::Integer, "", "701.Alrm 101-103.Evt1 111-113.Evt1"),
];

/// The profile of this name, if it is one of these.
pub(in crate::config) fn profile(name: &str) -> Option<Profile> {
    let (_, kind) = NAMES.into_iter().find(|(known, _)| *known == name)?;
    let points: Points = ROWS.iter().filter_map(|row| point(row, kind)).collect();
    let group = |name: &str, pace| Group { name: name.to_owned(), pace, of_station: false, blocks: Vec::new() };
    Some(Profile {
        kind,
        poll: POLL_DEFAULT,
        pause: Duration::ZERO,
        connectors: None,
        address_base: None,
        medium: Medium::Modbus,
        of_station: vec![false; points.len()],
        points,
        groups: vec![group("fast", Pace::Poll), group("slow", Pace::Every(SLOW))],
    })
}

fn point((field, unit, value_type, of_meter, of_rest): &Row, kind: DeviceKind) -> Option<PointSpec> {
    let (wire_unit, conversion) = unit.wire();
    let is_meter = kind == DeviceKind::Meter;
    // The meter of a charger or an inverter that has one is told beside it.
    let field = match field.strip_prefix("inverter_") {
        Some(rest) if !is_meter => format!("meter_{rest}"),
        _ => (*field).to_owned(),
    };
    let of_meter = field.strip_prefix("meter_").map_or(*of_meter, |rest| {
        ROWS.iter().find(|(known, ..)| *known == rest).map_or("", |(_, _, _, of_meter, _)| of_meter)
    });
    let order = if is_meter { [of_meter, of_rest] } else { [of_rest, of_meter] };
    let from = order.into_iter().flat_map(str::split_whitespace).filter_map(source).collect();
    Some(PointSpec {
        field: FieldName::try_from(field.as_str()).ok()?,
        unit: wire_unit,
        value_type: *value_type,
        aggregation: Aggregation::usual(*value_type, wire_unit),
        valid: None,
        frozen_after: None,
        scaling: Scaling { conversion, ..Scaling::default() },
        origin: Origin::SunSpec(SunSpecPoint { from }),
    })
}

/// `~201-204.PF/100`.
fn source(text: &str) -> Option<SunSpecSource> {
    let (rest, invert) = text.strip_prefix('~').map_or((text, false), |rest| (rest, true));
    let (rest, divide) = rest.split_once('/').map_or((rest, 1.0), |(rest, by)| (rest, by.parse().unwrap_or(1.0)));
    let (models, point) = rest.split_once('.')?;
    let (first, last) = models.split_once('-').unwrap_or((models, models));
    let models: RangeInclusive<u16> = first.parse().ok()?..=last.parse().ok()?;
    Some(SunSpecSource { models, point: point.into(), invert, divide })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_a_point_of_each_profile_in_the_usual_unit() {
        for (name, kind) in NAMES {
            let profile = profile(name).expect(name);
            assert_eq!((profile.points.len(), profile.kind), (ROWS.len(), kind));
            for point in profile.points.iter() {
                let usual =
                    super::super::usual_unit(point.field.as_str()).filter(|_| point.value_type == ValueType::Float);
                assert!(usual.is_none_or(|usual| usual == point.unit), "{}", point.field);
                let Origin::SunSpec(sunspec) = &point.origin else { panic!("{}", point.field) };
                assert!(!sunspec.from.is_empty(), "{}", point.field);
            }
        }
    }

    #[test]
    fn a_source_is_read_as_it_is_written() {
        let source = source("~201-204.PF/100").expect("a source");
        assert_eq!((source.models, &*source.point, source.invert, source.divide), (201..=204, "PF", true, 100.0));
    }
}
