//! The least that runs, and how mistakes are compared.

use v2g_edge::config::{self, Faults, Plan, Surroundings};
use v2g_edge::spec::{DeviceSpec, PointSpec, RegisterPoint};

pub(super) const MANUAL: &str = include_str!("../../configs/gateway.toml");

/// The least that runs.
pub(super) const HEAD: &str = r#"[gateway]
id = "gw-01"
site = "depot-a"
state_dir = "/var/lib/v2g-edge"
[uplink]
brokers = ["mqtt://127.0.0.1"]
[bus.lan]
modbus-tcp = {}
"#;

pub(super) const METER: &str = r#"[device.grid-main]
kind = "meter"
bus = "lan"
address = "10.0.0.16"
unit = 1
profile = "eastron-sdm630"
"#;

pub(super) fn parse(text: &str) -> Result<Plan, Faults> {
    config::parse(text, "gateway.toml", &Surroundings::none())
}

pub(super) fn plan(text: &str) -> Plan {
    parse(text).unwrap_or_else(|faults| panic!("{faults}"))
}

/// The mistakes of a text that has some.
pub(super) fn faults(text: &str) -> Faults {
    parse(text).err().unwrap_or_else(|| panic!("no mistake was found in:\n{text}"))
}

/// Exactly these mistakes: line, part of the problem, part of the remedy.
#[track_caller]
pub(super) fn assert_faults(faults: &Faults, expected: &[(usize, &str, &str)]) {
    let matches = faults.len() == expected.len()
        && faults.iter().zip(expected).all(|(fault, (line, problem, remedy))| {
            fault.line == *line && fault.problem.contains(problem) && fault.remedy.contains(remedy)
        });
    assert!(matches, "expected {expected:#?}, found\n{faults}");
}

pub(super) fn point<'s>(spec: &'s DeviceSpec, field: &str) -> &'s PointSpec {
    spec.points.iter().find(|point| point.field.as_str() == field).unwrap_or_else(|| panic!("no point {field}"))
}

pub(super) fn register(point: &PointSpec) -> &RegisterPoint {
    point.register().unwrap_or_else(|| panic!("{} is in no register", point.field.as_str()))
}
