//! The retained documents: who is there, and what the fields mean.

use serde::Serialize;
use serde_json::json;

use super::WIRE_VERSION;
use crate::measure::{ClockTrust, Epoch, Stamp};
use crate::spec::{DeviceKind, DeviceSpec, PointIx, Roles, Unit, ValueType};
use crate::uplink::settings::Birth;

/// Whether the gateway is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::uplink) enum Presence {
    Online,
    Offline,
}

/// The `state` document. `since` is when this state began, by the gateway's clock.
pub(in crate::uplink) fn state(presence: Presence, epoch: Epoch, version: &str, since: Stamp) -> String {
    let mut document = json!({
        "state": presence,
        "epoch": epoch,
        "version": version,
        "since": since.utc.rfc3339(),
    });
    if since.trust != ClockTrust::Synced {
        document["since_trust"] = json!(since.trust);
    }
    document.to_string()
}

/// One device in the catalog.
#[derive(Debug, Clone, Serialize)]
pub struct DeviceCard {
    device: String,
    kind: DeviceKind,
    profile: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    points: Option<Vec<PointCard>>,
}

#[derive(Debug, Clone, Serialize)]
struct PointCard {
    field: String,
    unit: &'static str,
    #[serde(rename = "type")]
    value_type: ValueType,
    /// Of what it is worked out, for people: it comes over no wire.
    #[serde(skip_serializing_if = "Option::is_none")]
    derived: Option<String>,
}

impl From<&DeviceSpec> for DeviceCard {
    fn from(device: &DeviceSpec) -> Self {
        let point = |point: &crate::spec::PointSpec| PointCard {
            field: point.field.as_str().to_owned(),
            unit: point.unit.symbol(),
            value_type: point.value_type,
            derived: point.derived().map(|derived| derived.formula.to_string()),
        };
        Self {
            device: device.id.as_str().to_owned(),
            kind: device.kind,
            profile: device.profile.clone(),
            points: Some(device.points.iter().map(point).chain(energy_of(device)).collect()),
        }
    }
}

/// What each window knows of the device's energy (`derive`).
fn energy_of(device: &DeviceSpec) -> Vec<PointCard> {
    let Roles { power, energy_import, energy_export, .. } = device.points.roles();
    let spec = |ix: PointIx| device.points.get(usize::from(ix.0));
    let power = power.and_then(spec).map(|power| format!("{} over the time for which it is known", power.field));
    let card = |(field, unit, derived): (&str, Unit, String)| PointCard {
        field: field.to_owned(),
        unit: unit.symbol(),
        value_type: ValueType::Float,
        derived: Some(derived),
    };
    let delta = |(field, register): (&'static str, Option<PointIx>)| {
        let register = register.and_then(spec).filter(|register| register.is_energy_register());
        let by_register = register.map(|register| format!("differences of {}", register.field));
        Some((field, Unit::KilowattHour, by_register.or_else(|| power.clone())?))
    };
    let deltas = [("energy_import_delta", energy_import), ("energy_export_delta", energy_export)].into_iter();
    let known = power.clone().map(|power| ("known_s", Unit::Second, power));
    deltas.filter_map(delta).chain(known).map(card).collect()
}

/// The `catalog` document; without the `points` of the devices where they would be too much for the broker.
pub(in crate::uplink) fn catalog(birth: &Birth, with_points: bool) -> String {
    let Birth { gateway, site, version, window, devices, .. } = birth;
    let bare = |card: &DeviceCard| DeviceCard { points: None, ..card.clone() };
    let bare: Vec<DeviceCard> = if with_points { Vec::new() } else { devices.iter().map(bare).collect() };
    let devices = if with_points { devices } else { &bare };
    json!({
        "wire_version": WIRE_VERSION,
        "gateway": gateway,
        "site": site,
        "version": version,
        "window_ms": u64::try_from(window.as_millis()).unwrap_or(u64::MAX),
        "devices": devices,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{
        Aggregation, DerivedFormula, DerivedPoint, DerivedTerm, Origin, PointSpec, Scaling, SessionPoint, SessionValue,
        Unit,
    };

    #[test]
    fn the_catalog_says_of_a_point_of_what_it_is_worked_out() {
        let point = |field: &str, origin| PointSpec {
            field: field.try_into().expect("a field"),
            unit: Unit::Kilowatt,
            value_type: ValueType::Float,
            aggregation: Aggregation::Mean,
            valid: None,
            frozen_after: None,
            scaling: Scaling::default(),
            origin,
        };
        let term = |times, field: &str| DerivedTerm { times, field: field.try_into().expect("a field") };
        let formula = DerivedFormula::Sum(vec![term(1.0, "power_l1"), term(1.0, "power_l2")]);
        let device = DeviceSpec {
            id: "inverter-1".try_into().expect("a name"),
            kind: DeviceKind::Inverter,
            profile: "p".to_owned(),
            points: vec![
                point("power_l1", Origin::Session(SessionPoint { value: SessionValue::PowerFlow })),
                point("power_flow", Origin::Derived(DerivedPoint { formula, stale_after: None })),
            ]
            .into(),
            groups: vec![],
        };
        let card = serde_json::to_value(DeviceCard::from(&device)).expect("JSON");
        let by_power = "power_flow over the time for which it is known";
        let expected = json!({
            "device": "inverter-1",
            "kind": "inverter",
            "profile": "p",
            "points": [
                { "field": "power_l1", "unit": "kW", "type": "float" },
                { "field": "power_flow", "unit": "kW", "type": "float", "derived": "sum of power_l1, power_l2" },
                { "field": "energy_import_delta", "unit": "kWh", "type": "float", "derived": by_power },
                { "field": "energy_export_delta", "unit": "kWh", "type": "float", "derived": by_power },
                { "field": "known_s", "unit": "s", "type": "float", "derived": by_power },
            ],
        });
        assert_eq!(card, expected);
    }
}
