//! The command by which a person sees what a device says, as exactly as its plan knows.

use std::time::Duration;

use crate::config::{BusKind, CanSource, DeviceAddress, DevicePlan, Framing, Plan};
use crate::spec::{Origin, PointSpec};

/// `None` for a device that cannot be probed: a charging session is heard, not asked.
pub(super) fn probe_command(plan: &Plan, device: &DevicePlan) -> Option<String> {
    let (place, unit) = match &device.address {
        DeviceAddress::Tcp { endpoint, unit } => {
            let is_rtu = matches!(plan.bus(&device.bus)?.kind, BusKind::ModbusTcp { framing: Framing::Rtu, .. });
            (format!("{endpoint}{}", if is_rtu { " --rtu" } else { "" }), unit)
        }
        DeviceAddress::Serial { line, unit } => {
            let (path, baud) = (line.path.display(), line.baud);
            let (parity, stop_bits) = (line.parity.as_str(), line.stop_bits.count());
            (format!("{path} --baud {baud} --parity {parity} --stop-bits {stop_bits}"), unit)
        }
        DeviceAddress::Can { source, .. } => {
            let place = match source {
                CanSource::Interface(interface) => interface.clone(),
                CanSource::Log { path, interface, .. } => {
                    format!(
                        "{}--log {}",
                        interface.as_ref().map_or_else(String::new, |on| format!("{on} ")),
                        path.display()
                    )
                }
            };
            return Some(format!("v2g-edge probe can {place} --frames"));
        }
        DeviceAddress::Session { .. } => return None,
    };
    let timeout = duration(device.timeout);
    let is_sunspec = device.spec.points.iter().any(|point: &PointSpec| matches!(point.origin, Origin::SunSpec(_)));
    Some(if is_sunspec {
        format!("v2g-edge probe sunspec {place} --timeout {timeout} --unit {unit}")
    } else {
        format!("v2g-edge probe modbus {place} --timeout {timeout} --units {unit} --profile {}", device.spec.profile)
    })
}

/// As the command line reads it.
fn duration(duration: Duration) -> String {
    let ms = duration.as_millis();
    if ms.is_multiple_of(1000) { format!("{}s", ms / 1000) } else { format!("{ms}ms") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Surroundings};

    #[test]
    fn each_device_is_probed_by_its_own_place_framing_line_and_profile() {
        let text = "[gateway]\nid = \"g\"\nsite = \"s\"\nstate_dir = \"/var\"\n[uplink]\nbrokers = [\"mqtt://127.0.0.1\"]\n\
            [bus.lan]\nmodbus-tcp = {}\n[bus.far]\nmodbus-tcp = { framing = \"rtu\", timeout = \"2500ms\" }\n\
            [bus.line]\nmodbus-rtu = { port = \"/dev/ttyS1\", baud = 9600, parity = \"none\", stop_bits = 2 }\n\
            [bus.can-a]\ncan = { interface = \"can0\" }\n[bus.plc]\niso15118 = { mirror = \"unix:/run/a.sock\" }\n\
            [device.a]\nkind = \"evse\"\nbus = \"lan\"\naddress = \"10.0.0.17:1502\"\nunit = 255\nprofile = \"keba-p30\"\n\
            [device.b]\nkind = \"meter\"\nbus = \"far\"\naddress = \"10.0.0.18\"\nunit = 3\nprofile = \"sunspec\"\n\
            [device.c]\nkind = \"meter\"\nbus = \"line\"\nunit = 7\nprofile = \"eastron-sdm630\"\n\
            [device.d]\nkind = \"evse\"\nbus = \"can-a\"\nprofile = \"chademo\"\n\
            [device.e]\nkind = \"evse\"\nbus = \"plc\"\nconnector = 1\nprofile = \"iso15118\"\n";
        let plan =
            config::parse(text, "gateway.toml", &Surroundings::none()).unwrap_or_else(|faults| panic!("{faults}"));
        let told: Vec<Option<String>> = plan.devices.iter().map(|device| probe_command(&plan, device)).collect();
        let expected = [
            Some("v2g-edge probe modbus 10.0.0.17:1502 --timeout 1s --units 255 --profile keba-p30"),
            Some("v2g-edge probe sunspec 10.0.0.18:502 --rtu --timeout 2500ms --unit 3"),
            Some(
                "v2g-edge probe modbus /dev/ttyS1 --baud 9600 --parity none --stop-bits 2 --timeout 1s --units 7 --profile eastron-sdm630",
            ),
            Some("v2g-edge probe can can0 --frames"),
            None,
        ];
        assert_eq!(told, expected.map(|command| command.map(str::to_owned)));
    }
}
