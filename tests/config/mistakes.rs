//! Mistakes: all of them at once, each with its line and what to write instead.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use v2g_edge::config;

use super::stage::{HEAD, METER, assert_faults, faults, plan};

fn five_mistakes(directory: &Path) -> String {
    for (name, mode) in [("ca.pem", 0o644), ("gateway.pem", 0o644), ("gateway.key", 0o640)] {
        let path = directory.join(name);
        fs::write(&path, "-----BEGIN-----\n").expect("a file in a temporary directory");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("our own file");
    }
    r#"[gateway]
id = "gw-01"
state_dir = "/var/lib/v2g-edge"

[aggregate]
window = "250"

[journal]
byte_max = "4GiB"

[uplink]
brokers = ["mqtts://mqtt-a.example:8883"]
[uplink.tls]
ca = "ca.pem"
certificate = "gateway.pem"
key = "gateway.key"

[bus.lan]
modbus-tcp = {}

[device.grid-main]
kind = "meter"
bus = "lan"
address = "10.0.0.16"
unit = 1
profile = "eastron-sdm630"

[device.grid-main]
kind = "meter"
bus = "lan"
address = "10.0.0.17"
unit = 1
profile = "eastron-sdm630"
"#
    .to_owned()
}

#[test]
fn five_different_mistakes_are_told_in_one_run() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("gateway.toml");
    fs::write(&path, five_mistakes(directory.path())).expect("a file in a temporary directory");
    let faults = config::load(&path).expect_err("five mistakes");
    let chmod = format!("chmod 600 {}", directory.path().join("gateway.key").display());
    assert_faults(
        &faults,
        &[
            (1, "the key site is missing under [gateway]", "site = \"depot-a\""),
            (6, "window = \"250\" has no unit", "window = \"250ms\"   (units: ms, s, m"),
            (9, "there is no key byte_max in [journal]", "bytes_max = \"4GiB\""),
            (16, "secret open to its group (mode 640)", &chmod),
            (28, "the device id \"grid-main\" is used twice, here and at line 21", "[device.grid-main-2]"),
        ],
    );
    assert!(faults.iter().all(|fault| fault.file == path.display().to_string() && !fault.excerpt.is_empty()));
    let shown = faults.to_string();
    assert!(shown.contains(&format!("{}:6: window", path.display())), "{shown}");
    assert!(shown.ends_with("5 mistakes"), "{shown}");
}

#[test]
fn mistakes_are_json_for_machines() {
    let faults = faults(&format!("{HEAD}{METER}").replace("unit = 1", "unit = 300"));
    let json = serde_json::to_value(&faults).expect("plain data");
    assert_eq!(json[0]["file"], "gateway.toml");
    assert_eq!(json[0]["line"], 13);
    assert_eq!(json[0]["column"], 8);
    assert_eq!(json[0]["key"], "device.grid-main.unit");
    assert_eq!(json[0]["excerpt"], "unit = 300");
    assert!(json[0]["problem"].as_str().is_some_and(|text| text.contains("outside 0 to 255")));
    assert!(json[0]["remedy"].as_str().is_some_and(|text| text.starts_with("unit = 1")));
}

#[test]
fn every_single_mistake_has_its_line_and_its_remedy() {
    let cases: &[(&str, &str, usize, &str, &str)] = &[
        ("[bus.lan]", "[uplnk]\nx = 1\n[bus.lan]", 7, "there is no table uplnk in this file", "[uplink]"),
        (
            "[bus.lan]",
            "[update]\nconfirm_within = \"330s\"\n[bus.lan]",
            8,
            "(journal.time_wait = \"5m\")",
            "confirm_within = \"6m\"   (or a shorter time_wait",
        ),
        ("unit = 1", "unit = \"1\"", 13, "unit is a text, not a whole number", "unit = 1"),
        ("unit = 1", "unit = 0x", 13, "unit is no number", "unit = 1"),
        ("unit = 1", "unit = 250", 13, "250 is reserved", "1 to 247; over TCP also 0 or 255"),
        ("address = \"10.0.0.16\"\n", "", 9, "the key address is missing under [device.grid-main]", "address = \"10."),
        ("10.0.0.16", "10.0.0.16:99999", 12, "port that is not 1 to 65535", "address = "),
        (
            "eastron-sdm630",
            "eastron-smd630",
            14,
            "there is no profile \"eastron-smd630\"",
            "profile = \"eastron-sdm630\"",
        ),
        ("eastron-sdm630", "keba", 14, "there is no profile \"keba\"", "profile = \"keba-p30\""),
        (
            "eastron-sdm630",
            "x",
            14,
            "there is no profile \"x\"",
            "sunspec-inverter, uugreenpower-ur1000x0, webasto-unite",
        ),
        ("unit = 1", "unit = 1\nconnector = 2", 14, "has one connector only", "delete this line"),
        ("kind = \"meter\"", "kind = \"evse\"", 10, "of kind meter, not evse", "kind = \"meter\""),
        ("bus = \"lan\"", "bus = \"nowhere\"", 11, "not in this file", "[bus.nowhere]"),
        ("bus = \"lan\"", "bus = \"lna\"", 11, "not in this file", "bus = \"lan\""),
        ("unit = 1", "unit = 1\npoll = \"5ms\"", 14, "below the bound of 10ms", "poll = \"10ms\"   (10ms to 1h)"),
        ("unit = 1", "unit = 1\npoll = \"250 m\"", 14, "has a space in it", "(units: ms, s, m (minutes), h, d)"),
        ("grid-main]", "\"grid main\"]", 9, "character that topics and tags cannot carry", "[device.grid-main]"),
        ("mqtt://127.0.0.1", "mqtt://10.0.0.1", 6, "readable over the network", "mqtts://10.0.0.1:8883"),
        ("mqtt://127.0.0.1", "mqtts://10.0.0.1", 6, "needs the table [uplink.tls]", "[uplink.tls]\nca = "),
        ("mqtt://127.0.0.1", "ws://10.0.0.1/x", 6, "readable over the network", "wss://10.0.0.1:443/x"),
        ("mqtt://127.0.0.1", "wss://10.0.0.1", 6, "wss:// needs the table [uplink.tls]", "[uplink.tls]\nca = "),
        ("mqtt://127.0.0.1", "mqtts://10.0.0.1/mqtt", 6, "only wss:// and ws:// have", "brokers = [\"mqtts://"),
        ("mqtt://127.0.0.1", "wss://10.0.0.1/mqtt?key=1", 6, "stand in every log", "brokers = [\"mqtts://"),
        ("mqtt://127.0.0.1", "10.0.0.1:1883", 6, "does not begin with mqtts://", "brokers = [\"mqtts://"),
        ("\"mqtt://127.0.0.1\"", "\"mqtt://::1\", \"mqtt://[::1]:1883\"", 6, "twice", "once"),
        ("\"mqtt://127.0.0.1\"", "", 6, "brokers has 0 items; 1 to 8", "brokers = ["),
        ("/var/lib/v2g-edge", "var", 4, "not an absolute path", "state_dir = \"/var/lib/v2g-edge\""),
        (
            "[bus.lan]",
            "keep_alive = \"4s\"\n[bus.lan]",
            7,
            "below the bound of 5s",
            "keep_alive = \"5s\"   (5s to 18h)",
        ),
        ("[bus.lan]", "keep_alive = \"5500ms\"\n[bus.lan]", 7, "not in whole seconds", "keep_alive = \"15s\""),
        ("[bus.lan]", "topic_prefix = \"a/#\"\n[bus.lan]", 7, "wildcard", "topic_prefix = \"v2g/{site}"),
        ("[bus.lan]", "[journal]\nbytes_max = \"4GB\"\n[bus.lan]", 8, "unit that is not known", "bytes_max = \"4GiB\""),
        ("[bus.lan]", "[journal]\nwhen_full = \"thinn\"\n[bus.lan]", 8, "not one of its words", "when_full = \"thin\""),
        ("[bus.lan]", "[log]\nfilter = \"inof\"\n[bus.lan]", 8, "\"inof\" where a level is due", "filter = \"info\""),
        ("modbus-tcp = {}", "", 7, "does not say what it is", "modbus-tcp = {}"),
        ("[bus.lan]", "uplink = 1\n[bus.lan]", 7, "there is no key uplink in [uplink]", "one of brokers"),
        (
            "modbus-tcp = {}",
            "modbus-tcp = {}\n[bus.b]\ncan = { bitrate = 250000 }",
            10,
            "the key interface is missing",
            "interface = \"can0\"",
        ),
    ];
    for (old, new, line, problem, remedy) in cases {
        let text = format!("{HEAD}{METER}");
        assert!(text.contains(old), "{old}");
        let faults = faults(&text.replacen(old, new, 1));
        assert_faults(&faults, &[(*line, problem, remedy)]);
    }
}

#[test]
fn certificates_that_are_not_there_are_told() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("gateway.toml");
    fs::write(&path, five_mistakes(directory.path())).expect("a file in a temporary directory");
    for name in ["ca.pem", "gateway.key"] {
        fs::remove_file(directory.path().join(name)).expect("written above");
    }
    let faults = config::load(&path).expect_err("mistakes");
    for line in [14, 16] {
        assert!(
            faults.iter().any(|fault| fault.line == line && fault.problem.contains("nothing of this name")),
            "{faults}"
        );
    }
}

#[test]
fn a_configuration_that_is_not_there_is_one_mistake() {
    let faults = config::load(Path::new("/nonexistent/gateway.toml")).expect_err("no file");
    assert_faults(&faults, &[(1, "there is nothing of this name", "configuration file")]);
}

#[test]
fn a_name_that_is_torn_apart_at_its_dots_is_answered_with_quotation_marks_and_nothing_else() {
    let device = METER.replace("[device.grid-main]", "[device.a-2.0s]");
    let expected = (9, "there is no table 0s in [device.a-2]", "[device.\"a-2.0s\"]");
    assert_faults(&faults(&format!("{HEAD}{device}")), &[expected]);

    let deep = METER.replace("[device.grid-main]", "[device.a.b.c]");
    let expected = (9, "there is no table b in [device.a]", "[device.\"a.b.c\"]");
    assert_faults(&faults(&format!("{HEAD}{deep}")), &[expected]);

    let another = METER.replace("[device.grid-main]", "[device.a-2.1s]").replace("unit = 1", "unit = 2");
    let expected = [
        (9, "there is no table 0s in [device.a-2]", "[device.\"a-2.0s\"]"),
        (15, "there is no table 1s in [device.a-2]", "[device.\"a-2.1s\"]"),
    ];
    assert_faults(&faults(&format!("{HEAD}{device}{another}")), &expected);

    let bus = HEAD.replace("[bus.lan]", "[bus.lan.1]") + &METER.replace("\"lan\"", "\"lan.1\"");
    assert_faults(&faults(&bus), &[(7, "there is no table 1 in [bus.lan]", "[bus.\"lan.1\"]")]);

    let beside = format!("{HEAD}{METER}[device.grid-main.b]\nkind = \"meter\"\n");
    let expected = (15, "there is no table b in [device.grid-main]", "[device.\"grid-main.b\"]");
    assert_faults(&faults(&beside), &[expected]);

    plan(&format!("{HEAD}{}", METER.replace("[device.grid-main]", "[device.\"a-2.0s\"]")));
    plan(&(HEAD.replace("[bus.lan]\nmodbus-tcp = {}", "[bus.lan.modbus-tcp]\ntimeout = \"1s\"") + METER));
}
