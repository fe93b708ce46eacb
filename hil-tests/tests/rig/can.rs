//! CAN in the booted box: two controllers on one bus, a virtual bus with CAN FD, and an adapter on a serial port whose
//! controller leaves the bus.

use std::io::Write as _;

use hil_tests::agent::Status;
use hil_tests::fault::Fault;
use hil_tests::oracle::{Line, Value};
use hil_tests::rig::{Options, Rig, RigError};
use hil_tests::wait::unix_ns;

/// The vehicle and the charger speak on can0; the agent listens on can1, whose bit rate it sets itself.
const BUSES: &str = r#"
[bus.can-a]
can = { interface = "can1", bitrate = 500000, restart = "100ms" }
[bus.can-fd]
can = { interface = "vcan0", fd = true }
[bus.can-s]
can = { interface = "slcan0" }
[device.dc-1]
kind = "evse"
bus = "can-a"
profile = "chademo"
[device.pack]
kind = "evse"
bus = "can-fd"
profile = "pack-fd"
[device.dc-2]
kind = "evse"
bus = "can-s"
profile = "chademo"
"#;

/// A message of 64 bytes, with a big-endian float at its end.
const PACK_DBC: &str = r#"VERSION ""

NS_ :

BS_:

BU_: Pack

BO_ 2566844142 PackFd: 64 Pack
 SG_ PackVoltage : 7|16@0+ (0.1,0) [0|1000] "V" Pack
 SG_ PackCurrent : 16|16@1- (0.1,0) [-1000|1000] "A" Pack
 SG_ PackSoc : 487|32@0- (1,0) [0|100] "%" Pack

SIG_VALTYPE_ 2566844142 PackSoc : 1;
"#;
const PACK_PROFILE: &str = r#"
[profile]
vendor = "rig"
model = "pack with CAN FD"
kind = "evse"
sources = ["this test"]
[can]
dbc = "pack-fd.dbc"
stale_after = "2s"
[point]
voltage = { signal = "PackVoltage" }
current = { signal = "PackCurrent", sign = "export-positive" }
power_flow = { product = ["voltage", "current"], unit = "W" }
soc = { signal = "PackSoc" }
"#;

fn options() -> Options {
    Options {
        extra: BUSES,
        files: &[("/etc/v2g-edge/devices/pack-fd.dbc", PACK_DBC), ("/etc/v2g-edge/devices/pack-fd.toml", PACK_PROFILE)],
        ..Options::default()
    }
}

fn number(line: &Line, field: &str) -> f64 {
    line.field(field).and_then(Value::number).unwrap_or_else(|| panic!("no {field} in {line:?}"))
}

/// Sends these frames every 100 ms until the file /tmp/NAME is gone.
fn send(rig: &mut Rig, name: &str, interface: &str, frames: &[&str]) -> Result<(), RigError> {
    let sent: String = frames.iter().map(|frame| format!("cansend {interface} {frame}; ")).collect();
    let command = format!("touch /tmp/{name}; (while [ -e /tmp/{name} ]; do {sent} sleep 0.1; done) >/dev/null 2>&1 &");
    rig.run(&command).map(drop)
}

fn stop(rig: &mut Rig, name: &str) -> Result<(), RigError> {
    rig.run(&format!("rm -f /tmp/{name}")).map(drop)
}

fn is_bus(status: &Status, bus: &str, state: &str) -> bool {
    status.text(&format!("/buses/{bus}/state")) == Some(state)
}

/// A line of a device with this direction, of a window in which all of its messages came.
fn line_of(rig: &Rig, device: &str, direction: &str) -> Result<Line, RigError> {
    let from = unix_ns();
    rig.wait_for_line(&format!("{device} in the direction {direction}"), |line| {
        let whole = ["power_flow", "voltage", "current", "soc"].iter().all(|field| line.field(field).is_some());
        line.tag("device") == Some(device) && line.tag("direction") == Some(direction) && line.time_ns > from && whole
    })
}

#[test]
fn chademo_on_a_real_controller_and_fd_on_a_virtual_bus_arrive_with_their_direction() -> Result<(), RigError> {
    let mut rig = Rig::start(options())?;
    // A bus that is not there yet is told, and found when it comes.
    rig.wait_for_status("that vcan0 is absent", |status| is_bus(status, "can-fd", "absent"))?;
    rig.run("/usr/bin/ip link set can0 down; /usr/bin/ip link set can0 up type can bitrate 500000")?;
    rig.wait_for_status("that can1 is active", |status| is_bus(status, "can-a", "active"))?;
    let shown = rig.run("/usr/bin/ip -d link show can1")?;
    assert!(shown.contains("bitrate 500000") && shown.contains("LISTEN-ONLY"), "{shown}");

    // V2H: 400 V, 14 A back (0xF1 = 255 - 14), 45 % SoC.
    let frames = ["100#00000000A4016400", "102#02A4011400812D00", "109#0290010001050000", "208#F15E01F100000000"];
    send(&mut rig, "v2h", "can0", &frames)?;
    let line = line_of(&rig, "dc-1", "V2G")?;
    println!("{line:?}");
    for (field, expected) in [("power_flow", -5.6), ("voltage", 400.0), ("current", -14.0), ("soc", 45.0)] {
        assert!((number(&line, field) - expected).abs() < 1e-9, "{field}: {line:?}");
    }
    let status = rig.wait_for_status("rates of the bus", |status| status.number("/devices/dc-1/answers") > Some(20))?;
    println!("{status:?}");
    println!("{}", rig.run("v2g-edge probe can can1 --for 2s --bitrate 500000 --dbc chademo.dbc")?);
    // Somebody takes the interface down, and up again.
    rig.run("/usr/bin/ip link set can1 down")?;
    rig.wait_for_text(r#"state="down""#)?;
    rig.run("/usr/bin/ip link set can1 up")?;
    rig.wait_for_status("that can1 is active again", |status| is_bus(status, "can-a", "active"))?;
    line_of(&rig, "dc-1", "V2G")?;
    stop(&mut rig, "v2h")?;

    // Charging: 400 V, 50 A.
    let frames = ["102#02A4013200812E00", "109#0290013201050000", "208#FF5E01F100000000"];
    send(&mut rig, "charge", "can0", &frames)?;
    let line = line_of(&rig, "dc-1", "G2V")?;
    assert!(number(&line, "power_flow") > 0.0 && number(&line, "current") > 0.0, "{line:?}");
    stop(&mut rig, "charge")?;
    rig.wait_for_line("that the session is over", |line| {
        line.tag("device") == Some("dc-1") && line.field("missing") == Some(&Value::Text("stale".to_owned()))
    })?;

    // CAN FD, extended id, 64 bytes: 400.0 V, 25.0 A out of the pack, 62.5 %.
    rig.run("/usr/bin/ip link add vcan0 type vcan; /usr/bin/ip link set vcan0 mtu 72; /usr/bin/ip link set vcan0 up")?;
    let payload = format!("0FA0FA00{}427A0000", "00".repeat(56));
    send(&mut rig, "fd", "vcan0", &[&format!("18FEEEEE##1{payload}")])?;
    let line = line_of(&rig, "pack", "V2G")?;
    println!("{line:?}");
    for (field, expected) in [("power_flow", -10.0), ("voltage", 400.0), ("current", -25.0), ("soc", 62.5)] {
        assert!((number(&line, field) - expected).abs() < 1e-9, "{field}: {line:?}");
    }
    // It vanishes, and returns under the same name.
    rig.run("/usr/bin/ip link del vcan0")?;
    rig.wait_for_status("that vcan0 has vanished", |status| is_bus(status, "can-fd", "absent"))?;
    rig.wait_for_text(r#"state="absent""#)?;
    rig.run("/usr/bin/ip link add vcan0 type vcan; /usr/bin/ip link set vcan0 mtu 72; /usr/bin/ip link set vcan0 up")?;
    line_of(&rig, "pack", "V2G")?;
    stop(&mut rig, "fd")?;
    Ok(())
}

/// The agent stands still while more comes than the kernel keeps for it: what was lost is counted and told, not hidden.
#[test]
fn frames_that_did_not_fit_into_the_buffer_are_told() -> Result<(), RigError> {
    let mut rig = Rig::start(options())?;
    rig.run("/usr/bin/ip link add vcan0 type vcan; /usr/bin/ip link set vcan0 mtu 72; /usr/bin/ip link set vcan0 up")?;
    rig.wait_for_status("that vcan0 is active", |status| is_bus(status, "can-fd", "active"))?;
    rig.inject(Fault::Hang)?;
    rig.run("cangen vcan0 -e -I 18FEEEEE -L 8 -g 0 -i -n 40000")?;
    rig.heal(Fault::Hang)?;
    rig.wait_for_text("kind=frames_dropped")?;
    let status = rig.wait_for_status("how many", |status| status.number("/buses/can-fd/dropped") > Some(0))?;
    println!("{} of 40000 frames were lost, and told", status.number("/buses/can-fd/dropped").unwrap_or(0));
    Ok(())
}

#[test]
fn bus_off_of_an_adapter_is_an_event_and_its_recovery_another() -> Result<(), RigError> {
    let mut rig = Rig::start(options())?;
    // Whoever plugs in the adapter attaches the driver.
    rig.run("(slcand -F -o -s6 /dev/ttyS1 slcan0 >/dev/null 2>&1 &); sleep 1; /usr/bin/ip link set slcan0 up")?;
    let mut adapter = rig.adapter()?;
    rig.wait_for_status("that slcan0 is active", |status| is_bus(status, "can-s", "active"))?;
    let mut say = |text: &str| adapter.write_all(text.as_bytes()).expect("the adapter's port takes it");
    // Warning, passive, and then the controller leaves the bus: state, receive and transmit error counters.
    say("sw100100\r");
    rig.wait_for_text(r#"state="warning""#)?;
    say("sp130130\r");
    rig.wait_for_text(r#"state="passive""#)?;
    say("sb000255\r");
    rig.wait_for_text(r#"state="bus_off""#)?;
    rig.wait_for_status("that slcan0 is off", |status| is_bus(status, "can-s", "bus_off"))?;
    say("sa000000\r");
    rig.wait_for_text(r#"state="active""#)?;
    rig.wait_for_status("that slcan0 is active again", |status| is_bus(status, "can-s", "active"))?;
    // And it hears again: 400 V, 14 A back.
    for _ in 0..3 {
        say("t10980290010001050000\r");
        say("t2088F15E01F100000000\r");
    }
    let line = rig.wait_for_line("values over the adapter", |line| {
        line.tag("device") == Some("dc-2") && line.field("voltage").is_some()
    })?;
    assert!((number(&line, "voltage") - 400.0).abs() < 1e-9, "{line:?}");
    Ok(())
}
