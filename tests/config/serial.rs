//! Serial lines.

use std::time::Duration;

use hal::{Parity, SerialLine, StopBits, UnitId};
use v2g_edge::config::DeviceAddress;

use super::stage::{HEAD, METER, assert_faults, faults, plan};

/// The least that reads a serial line.
fn serial() -> String {
    let rtu = "modbus-rtu = { port = \"/dev/ttyS1\", baud = 9600, parity = \"even\" }";
    format!("{HEAD}{METER}").replace("modbus-tcp = {}", rtu).replace("address = \"10.0.0.16\"\n", "")
}

#[test]
fn a_device_on_a_serial_line_needs_no_address() {
    let plan = plan(&serial());
    let line = SerialLine {
        path: "/dev/ttyS1".into(),
        baud: 9600,
        parity: Parity::Even,
        stop_bits: StopBits::One,
        rs485: false,
    };
    assert_eq!(plan.devices[0].address, DeviceAddress::Serial { line, unit: UnitId::try_from(1).expect("a unit") });
    assert_eq!(plan.devices[0].timeout, Duration::from_secs(1));
    assert_eq!(plan.summary().devices[0].address, "/dev/ttyS1 (9600 baud, even parity, 1 stop bit)");
}

#[test]
fn an_address_on_a_serial_line_is_to_be_deleted() {
    let text = serial().replace("unit = 1", "unit = 1\naddress = \"10.0.0.16\"");
    assert_faults(&faults(&text), &[(13, "the bus lan is a serial line", "delete this line")]);
}

#[test]
fn a_unit_that_no_device_on_a_serial_line_has_is_refused() {
    for number in [0, 248, 255] {
        let text = serial().replace("unit = 1", &format!("unit = {number}"));
        assert_faults(&faults(&text), &[(12, "outside 1 to 247", "unit = 1")]);
    }
    let missing = serial().replace("unit = 1\n", "");
    assert_faults(&faults(&missing), &[(9, "the key unit is missing", "unit = 1")]);
}

#[test]
fn one_device_of_a_serial_line_under_two_names_is_found() {
    let text = serial();
    let device = &text[text.find("[device").expect("a device")..];
    let twice = format!("{text}{}", device.replace("grid-main", "grid-copy"));
    assert_faults(
        &faults(&twice),
        &[(14, "grid-copy is the same device as grid-main at line 9: bus lan, unit 1", "its own unit for grid-copy")],
    );
}

#[test]
fn two_buses_on_one_port_are_told_with_both_lines() {
    let other = "[bus.b]\nmodbus-rtu = { port = \"/dev//ttyS1\", baud = 19200, parity = \"none\" }\n";
    let faults = faults(&format!("{}{other}", serial()));
    assert_faults(&faults, &[(14, "the bus b has the same port as lan, /dev//ttyS1, here and at line 7", "[bus.b]")]);
    let first = faults.iter().next().and_then(|fault| fault.also.clone()).expect("the other line");
    assert_eq!(first.line, 7);
}

#[test]
fn a_device_whose_bus_has_a_mistake_is_not_asked_for_an_address() {
    let text = serial().replace("baud = 9600", "baud = 9601");
    assert_faults(&faults(&text), &[(8, "9601, which is not usual", "baud = 9600")]);
}
