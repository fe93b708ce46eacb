//! CAN buses, their profiles and DBC files.

use std::fs;

use v2g_edge::config::{self, ProfileSource, Surroundings};

use super::stage::{HEAD, faults, parse};

/// The least that listens to a CAN bus.
fn can(device: &str) -> String {
    let wire = "can = { interface = \"can0\", bitrate = 500000 }";
    HEAD.replace("modbus-tcp = {}", wire) + device
}

const CHADEMO: &str = "[device.dc-1]\nkind = \"evse\"\nbus = \"lan\"\nprofile = \"chademo\"\n";

#[test]
fn a_can_device_needs_its_bus_and_its_profile_only() {
    let plan = parse(&can(CHADEMO)).expect("a plan");
    assert_eq!(plan.devices[0].address.to_string(), "can0");
    assert!(plan.devices[0].spec.groups.is_empty() && plan.devices[0].spec.points.len() > 10);
}

#[test]
fn what_does_not_fit_a_can_bus_is_named() {
    for (device, problem, remedy) in [
        (CHADEMO.to_owned() + "unit = 1\n", "speaks by itself", "delete this line"),
        (CHADEMO.to_owned() + "node = 1\n", "have no number of their own", "delete this line"),
        (CHADEMO.replace("chademo", "winline-uxr"), "the key node is missing", "node = 3"),
        (CHADEMO.replace("chademo", "alfen-eve-ng9xx"), "is for Modbus; the bus lan is can", "of the same kind"),
        (CHADEMO.to_owned() + &CHADEMO.replace("dc-1", "dc-2"), "is the same device as dc-1", "bus or profile"),
    ] {
        let faults = faults(&can(&device)).to_string();
        assert!(faults.contains(problem) && faults.contains(remedy), "{device}: {faults}");
    }
    for (old, new, problem) in [
        ("bitrate = 500000", "log = \"a.log\", listen_only = true", "a recording has no controller"),
        ("bitrate = 500000", "speed = \"fast\"", "only a recording has a speed"),
        ("bitrate = 500000", "bitrate = 500000, fd = true", "needs its data_bitrate"),
        ("bitrate = 500000", "data_bitrate = 2000000", "only CAN FD"),
        ("bitrate = 500000", "bitrate = 500001", "500000"),
        ("interface = \"can0\", ", "", "the key interface is missing"),
    ] {
        let faults = faults(&can(CHADEMO).replacen(old, new, 1)).to_string();
        assert!(faults.contains(problem), "{new}: {faults}");
    }
}

/// A profile of one's own over the CHAdeMO file.
fn own_profile(can: &str, points: &str) -> String {
    format!(
        "[profile]\nvendor = \"v\"\nmodel = \"m\"\nkind = \"evse\"\nsources = [\"s\"]\n[can]\n{can}\n[point]\n{points}\n"
    )
}

#[test]
fn a_can_profile_with_a_mistake_is_answered_with_the_nearest_name() {
    let dbc = "dbc = \"chademo.dbc\"";
    for (can_table, points, problem, remedy) in [
        (
            dbc,
            "voltage = { signal = \"PresentOutputVoltag\" }",
            "chademo.dbc does not have",
            "\"PresentOutputVoltage\"",
        ),
        (
            dbc,
            "voltage = { signal = \"EVSE_Statos.PresentOutputVoltage\" }",
            "does not have",
            "EVSE_Status.PresentOutputVoltage",
        ),
        (dbc, "x = { sum = [\"PresentOutputCurent\"], unit = \"A\" }", "does not have", "PresentOutputCurrent"),
        (
            dbc,
            "voltage = { signal = \"PresentOutputVoltage\" }\np = { product = [\"voltage\", \"curent\"], unit = \"W\" }\ncurrent = { signal = \"PresentOutputCurrent\" }",
            "curent, which is not a point",
            "\"current\"",
        ),
        ("dbc = \"chadem.dbc\"", "voltage = { signal = \"PresentOutputVoltage\" }", "there is no file", "chademo.dbc"),
        ("stale_cycles = 5", "voltage = { signal = \"PresentOutputVoltage\" }", "the key dbc is missing", "dbc = "),
        (dbc, "power_flow = { signal = \"PresentOutputVoltage\", unit = \"W\" }", "has no sign", "import-positive"),
        (
            dbc,
            "voltage = { signal = \"PresentOutputVoltage\" }\ncurrent = { signal = \"PresentOutputCurrent\" }\npower_flow = { product = [\"voltage\", \"current\"], unit = \"W\" }",
            "current has no sign",
            "import-positive",
        ),
        (dbc, "x = { signal = \"AutomakerCode\", unit = \"\" }", "without a cycle time", "stale_after"),
        (dbc, "voltage = { unit = \"V\" }", "has no signal", "signal = "),
        (
            dbc,
            "voltage = { signal = \"PresentOutputVoltage\", sum = [\"A\"] }",
            "comes from a register or a signal, or is worked out in one way",
            "one of register, signal",
        ),
    ] {
        let profiles = ProfileSource::built_in().and_text("own", "own.toml", &own_profile(can_table, points));
        let text = can(&CHADEMO.replace("chademo", "own"));
        let faults = config::parse(&text, "gateway.toml", &Surroundings::none().with_profiles(profiles))
            .expect_err(points)
            .to_string();
        assert!(
            faults.contains(problem) && faults.contains(remedy) && faults.contains("own.toml:"),
            "{points}: {faults}"
        );
    }
}

#[test]
fn a_dbc_file_of_ones_own_stands_beside_the_profile() {
    let dir = tempfile::tempdir().expect("a directory");
    let devices = dir.path().join("devices");
    fs::create_dir(&devices).expect("made");
    let dbc = "VERSION \"\"\n\nNS_ :\n\nBS_:\n\nBU_: A\n\nBO_ 2364540158 EEC1: 8 A\n SG_ Volts : 24|16@1+ (0.1,0) [0|1000] \"V\" A\n";
    fs::write(devices.join("own.dbc"), dbc).expect("written");
    let profile = own_profile(
        "dbc = \"own.dbc\"\nprotocol = \"j1939\"\nstale_after = \"1s\"",
        "voltage = { signal = \"Volts\" }",
    );
    fs::write(devices.join("own.toml"), profile).expect("written");
    let around = Surroundings::none().with_profiles(ProfileSource::built_in().and_directory(&devices));
    let text = can(&(CHADEMO.replace("chademo", "own") + "node = 0x21\n"));
    let plan = config::parse(&text, "gateway.toml", &around).expect("a plan");
    let point = &plan.devices[0].spec.points[0];
    let frame = point.signal().and_then(|signal| signal.formula.signals().next()).expect("a signal").frame;
    assert!(frame.accepts(0x18f0_0421, true) && !frame.accepts(0x18f0_0422, true) && frame.accepts(0x0cf0_0421, true));
    assert_eq!(point.valid, Some(0.0..=1000.0));
    fs::write(devices.join("own.dbc"), "nonsense").expect("written");
    let faults = config::parse(&text, "gateway.toml", &around).expect_err("a broken file").to_string();
    assert!(faults.contains("own.dbc:1: this is not DBC"), "{faults}");
}
