//! `[site]`: the depot as a whole.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::document::Value;
use super::plan::DevicePlan;
use super::section::{Form, Section, Taken, Wrong, duration_within, nearest, number, power_within, text};
use crate::spec::{DeviceIx, DeviceKind, SiteSpec};

pub(super) const SITE: Form = Form {
    table: "site",
    keys: &[
        ("meter", "\"grid-main\""),
        ("import_max", "\"250kW\""),
        ("export_max", "\"100kW\""),
        ("hysteresis", "2"),
        ("hold", "\"5s\""),
        ("v2g_soc_floor", "20"),
    ],
};

/// W. Below, one charger alone is more; above, no depot is connected.
const LIMIT: RangeInclusive<u64> = 1_000..=100_000_000;
/// 0: given by nobody.
const EXPORT_LIMIT: RangeInclusive<u64> = 0..=100_000_000;
/// Below, what swings about a limit would be told more than once a second; above, nobody can act on it.
const HOLD: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(600);

/// `devices` are those of the plan; `None` if some of them have mistakes. `names` are all that the file has.
pub(super) fn site(section: &Section<'_>, devices: Option<&[DevicePlan]>, names: &[&str]) -> SiteSpec {
    let usual = SiteSpec::default();
    let meter = section.optional("meter", |value| device_name(value, names));
    let meter = meter.zip(devices).and_then(|(name, devices)| {
        let (ix, device) = (0..).map(DeviceIx).zip(devices).find(|(_, device)| device.spec.id.as_str() == name)?;
        blame_meter(section, device);
        Some(ix)
    });
    let capacities = (0..).map(DeviceIx).zip(devices.into_iter().flatten());
    let capacities = capacities.filter_map(|(ix, device)| Some((ix, device.battery_capacity_kwh?)));
    SiteSpec {
        meter,
        import_max_kw: section.optional("import_max", power_within(LIMIT)).map(kilowatts),
        export_max_kw: section.optional("export_max", power_within(EXPORT_LIMIT)).map(kilowatts),
        hysteresis: section.optional("hysteresis", number(0.0..=50.0)).unwrap_or(usual.hysteresis),
        hold: section.optional("hold", duration_within(HOLD)).unwrap_or(usual.hold),
        v2g_soc_floor: section.optional("v2g_soc_floor", number(0.0..=100.0)).unwrap_or(usual.v2g_soc_floor),
        battery_capacities: capacities.collect(),
    }
}

/// What stands for the connection must measure its power.
fn blame_meter(section: &Section<'_>, device: &DevicePlan) {
    let id = &device.spec.id;
    if device.spec.kind != DeviceKind::Meter {
        let problem = format!("{id} is of kind {}, and not the meter of a grid connection", device.spec.kind.as_str());
        section.blame("meter", problem, "a device of kind = \"meter\"; or delete this line");
    } else if device.spec.points.roles().power.is_none() {
        let problem = format!("{id} has no power_flow: its profile {} does not read it", device.spec.profile);
        section.blame("meter", problem, "a meter whose profile has the point power_flow; or delete this line");
    }
}

fn device_name(value: &Value, known: &[&str]) -> Taken<String> {
    let given = text(value)?;
    if known.contains(&given.as_str()) {
        return Ok(given);
    }
    let problem = format!("= \"{given}\" is a device that is not in this file");
    Err(match nearest(&given, known.iter().copied()) {
        Some(near) => Wrong::instead(problem, format!("\"{near}\""), String::new()),
        None => Wrong::action(problem, format!("[device.{given}] with kind = \"meter\"; or delete this line")),
    })
}

#[allow(clippy::cast_precision_loss, reason = "whole watts, bounded by 100 MW")]
fn kilowatts(watts: u64) -> f64 {
    watts as f64 / 1000.0
}
