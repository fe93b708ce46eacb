//! Buses on which charging sessions are heard.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use v2g_edge::config::{self, DeviceAddress};

use super::stage::{HEAD, assert_faults, faults, plan};

/// One charge point whose sessions are heard.
fn sessions(wire: &str, device: &str) -> String {
    format!(
        "{HEAD}[bus.plc-1]\niso15118 = {wire}\n\
         [device.evse-07]\nkind = \"evse\"\nbus = \"plc-1\"\nprofile = \"iso15118\"\n{device}"
    )
}

#[test]
fn a_charge_point_may_be_heard_in_three_ways() {
    let mirror = plan(&sessions("{ mirror = \"unix:/run/v2g-edge/iso15118.sock\" }", "connector = 2\n"));
    assert_eq!(mirror.devices[0].address, DeviceAddress::Session { connector: 2 });
    let points = &mirror.devices[0].spec.points;
    assert!(points.iter().any(|point| point.field.as_str() == "soc") && points.len() > 80, "{}", points.len());
    plan(&sessions("{ mirror = \"tcp:127.0.0.1:15119\" }", ""));
    plan(&sessions("{ mirror = \"tcp:[::1]:15119\" }", ""));
    plan(&sessions("{ mirror = \"tls:0.0.0.0:15119\", ca = \"a\", certificate = \"b\", key = \"c\" }", ""));
    plan(&sessions("{ tap = \"eth1\" }", ""));
    plan(&sessions("{ files = [\"a.ev.bin\", \"a.se.bin\"] }", ""));
}

/// A capture of packets passed as a recording, of which nothing could be read.
#[test]
fn a_file_that_does_not_begin_with_a_frame_is_no_recording() {
    let dir = tempfile::tempdir().expect("a directory");
    let around = config::Surroundings::of(dir.path());
    let path = dir.path().join("a.bin");
    let text = sessions(&format!("{{ files = [{path:?}, {path:?}] }}"), "");
    config::parse(&text, "gateway.toml", &around).expect("it may come later");
    for (bytes, told) in [
        (&[0xd4, 0xc3, 0xb2, 0xa1, 2, 0][..], Some("capture of packets (pcap)")),
        (&[0x0a, 0x0d, 0x0d, 0x0a, 0x1c, 0], Some("capture of packets (pcapng)")),
        (b"{ \"a\": 1 }", Some("begins with 7b 20")),
        (&[0x01, 0xfe, 0x80, 0x01, 0, 0, 0, 0], None),
    ] {
        fs::write(&path, bytes).expect("ours");
        let read = config::parse(&text, "gateway.toml", &around).map_err(|faults| faults.to_string());
        match told {
            Some(told) => assert!(read.as_ref().is_err_and(|faults| faults.contains(told)), "{told}: {read:?}"),
            None => assert!(read.is_ok(), "{read:?}"),
        }
    }
}

#[test]
fn what_a_session_bus_does_not_have_is_told() {
    let tap = "{ tap = \"eth1\" }";
    for (wire, device, problem, remedy) in [
        (tap, "connector = 2", "the bus plc-1 is one connector by itself", "delete this line"),
        (tap, "unit = 1", "are heard and never asked", "delete this line"),
        (tap, "poll = \"1s\"", "are heard and never asked", "delete this line"),
        ("{ files = [\"a.ev.bin\"] }", "", "1 files are no pairs", "a.se.bin"),
        ("{ mirror = \"/run/x\" }", "", "is no socket", "unix:/path"),
        ("{ mirror = \"tls:15119\" }", "", "is no socket", "tls:host:port"),
        (
            "{ mirror = \"tcp:0.0.0.0:15119\" }",
            "",
            "takes the vehicles' session data readable over the network",
            "mirror = \"tls:0.0.0.0:15119\", ca = \"/etc/v2g-edge/tls/stations-ca.pem\", certificate = ",
        ),
        ("{ mirror = \"tcp:[::]:15119\" }", "", "readable over the network", "mirror = \"tcp:127.0.0.1:15119\""),
        (
            "{ mirror = \"tls:0.0.0.0:15119\" }",
            "",
            "the key ca is missing",
            "ca = \"/etc/v2g-edge/tls/stations-ca.pem\"",
        ),
        (
            "{ mirror = \"tls:0.0.0.0:15119\", ca = \"a\", certificate = \"b\" }",
            "",
            "the key key is missing under [bus.plc-1.iso15118]",
            "key = \"/etc/v2g-edge/tls/mirror.key\"",
        ),
        (
            "{ mirror = \"tcp:127.0.0.1:15119\", ca = \"a\" }",
            "",
            "ca is for a mirror feed over TLS",
            "mirror = \"tls:0.0.0.0:15119\", or delete this key",
        ),
        ("{ tap = \"eth1\", key = \"a\" }", "", "only a mirror feed has TLS", "delete this key"),
    ] {
        let found = faults(&sessions(wire, &format!("{device}\n")));
        assert!(
            found.iter().any(|fault| fault.problem.contains(problem) && fault.remedy.contains(remedy)),
            "{found:?}"
        );
    }
    let registers = sessions(tap, "").replace("profile = \"iso15118\"", "profile = \"sim-bidirectional-dc\"");
    let found = faults(&registers);
    assert!(found.iter().any(|fault| fault.problem.contains("is for Modbus; the bus plc-1 is iso15118")), "{found:?}");
}

#[test]
fn the_certificates_of_a_mirror_feed_are_checked_and_the_agent_runs_without_them() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let key = directory.path().join("mirror.key");
    fs::write(&key, "-----BEGIN-----\n").expect("a file in a temporary directory");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).expect("our own file");
    let path = directory.path().join("gateway.toml");
    let wire =
        "{ mirror = \"tls:0.0.0.0:15119\", ca = \"ca.pem\", certificate = \"mirror.pem\", key = \"mirror.key\" }";
    fs::write(&path, sessions(wire, "")).expect("a file in a temporary directory");
    let faults = config::load(&path).expect_err("mistakes");
    assert_faults(
        &faults,
        &[
            (10, "nothing of this name", "ca = \"/etc/v2g-edge/tls/stations-ca.pem\""),
            (10, "nothing of this name", "certificate = \"/etc/v2g-edge/tls/mirror.pem\""),
            (10, "is a secret open to its group (mode 640)", "chmod 600 "),
        ],
    );
    config::load_to_run(&path).expect("without them it runs, and says so");
}

#[test]
fn two_devices_of_one_connector_are_one() {
    let second = "connector = 1\n[device.evse-08]\nkind = \"evse\"\nbus = \"plc-1\"\nprofile = \"iso15118\"\n";
    let found = faults(&sessions("{ mirror = \"unix:/run/x.sock\" }", second));
    assert!(found.iter().any(|fault| fault.problem.contains("bus plc-1, connector 1")), "{found:?}");
}
