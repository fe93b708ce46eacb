//! The configuration as an operator meets it: the manual is valid, and mistakes are told all at once, each with
//! its line and what to write instead.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use hal::{Parity, SerialLine, StopBits, UnitId};
use v2g_edge::config::{
    self, BusKind, DeviceAddress, Faults, Framing, Plan, ProfileSource, Surroundings, WhenFull, known_keys,
};
use v2g_edge::spec::{
    Aggregation, ByteOrder, Conversion, DeviceKind, DeviceSpec, PointSpec, RawKind, RegisterPoint, RegisterTable,
    ScaleKind, Unit, ValueType,
};

const MANUAL: &str = include_str!("../configs/gateway.toml");

/// The least that runs.
const HEAD: &str = r#"[gateway]
id = "gw-01"
site = "depot-a"
state_dir = "/var/lib/v2g-edge"
[uplink]
brokers = ["mqtt://127.0.0.1"]
[bus.lan]
modbus-tcp = {}
"#;

const METER: &str = r#"[device.grid-main]
kind = "meter"
bus = "lan"
address = "10.0.0.16"
unit = 1
profile = "eastron-sdm630"
"#;

fn parse(text: &str) -> Result<Plan, Faults> {
    config::parse(text, "gateway.toml", &Surroundings::none())
}

fn plan(text: &str) -> Plan {
    parse(text).unwrap_or_else(|faults| panic!("{faults}"))
}

/// The mistakes of a text that has some.
fn faults(text: &str) -> Faults {
    parse(text).err().unwrap_or_else(|| panic!("no mistake was found in:\n{text}"))
}

/// Exactly these mistakes: line, part of the problem, part of the remedy.
#[track_caller]
fn assert_faults(faults: &Faults, expected: &[(usize, &str, &str)]) {
    let matches = faults.len() == expected.len()
        && faults.iter().zip(expected).all(|(fault, (line, problem, remedy))| {
            fault.line == *line && fault.problem.contains(problem) && fault.remedy.contains(remedy)
        });
    assert!(matches, "expected {expected:#?}, found\n{faults}");
}

fn point<'s>(spec: &'s DeviceSpec, field: &str) -> &'s PointSpec {
    spec.points.iter().find(|point| point.field.as_str() == field).unwrap_or_else(|| panic!("no point {field}"))
}

fn register(point: &PointSpec) -> &RegisterPoint {
    point.register().unwrap_or_else(|| panic!("{} is in no register", point.field.as_str()))
}

// ---------------------------------------------------------------- what is right

#[test]
fn the_manual_is_a_valid_configuration() {
    let plan = plan(MANUAL);
    assert_eq!(plan.gateway.id.as_str(), "gw-01");
    assert_eq!(plan.uplink.topic_prefix, "v2g/depot-a/gw-01");
    assert_eq!(plan.uplink.brokers.len(), 2);
    assert_eq!(plan.devices.len(), 2);
    assert_eq!(plan.devices[1].address.to_string(), "10.0.0.17:502");
}

#[test]
fn the_manual_mentions_every_key() {
    for (table, key) in known_keys() {
        let header = format!("[{}", if table.is_empty() { key } else { table }.replace(".*", "."));
        let written = format!("{key} = ");
        let below = format!("[{table}.{key}]");
        let mentioned = if table.is_empty() {
            MANUAL.contains(&header)
        } else {
            MANUAL.contains(&written) || MANUAL.contains(&below)
        };
        assert!(mentioned, "configs/gateway.toml does not mention {table} {key}");
    }
}

#[test]
fn the_manual_names_every_built_in_profile() {
    for name in ProfileSource::built_in().names() {
        assert!(MANUAL.contains(&format!("\"{name}\"")), "configs/gateway.toml does not name the profile {name}");
    }
}

#[test]
fn the_manual_shows_the_defaults() {
    let bare = plan(&format!("{HEAD}{METER}"));
    let shown = plan(MANUAL);
    assert_eq!(bare.aggregate, shown.aggregate);
    assert_eq!(bare.journal, shown.journal);
    assert_eq!(bare.api, shown.api);
    assert_eq!(bare.log, shown.log);
    assert_eq!(bare.watchdog, shown.watchdog);
    assert_eq!(bare.uplink.topic_prefix, shown.uplink.topic_prefix);
    assert_eq!(bare.uplink.client_id, shown.uplink.client_id);
    assert_eq!(bare.uplink.keep_alive, shown.uplink.keep_alive);
    assert_eq!(bare.uplink.link, shown.uplink.link);
    assert_eq!(bare.uplink.fail_back, shown.uplink.fail_back);
    assert_eq!(bare.uplink.in_flight_max, shown.uplink.in_flight_max);
    assert_eq!(bare.buses[0].kind, shown.buses[0].kind);
    assert_eq!(bare.devices[0].spec, shown.devices[0].spec);
    assert_eq!(bare.devices[0].timeout, shown.devices[0].timeout);
}

#[test]
fn the_kernels_watchdog_is_left_alone_unless_it_is_named() {
    assert_eq!(plan(&format!("{HEAD}{METER}")).watchdog.device, None);
    let named = plan(&format!("{HEAD}[watchdog]\ndevice = \"/dev/watchdog\"\ntimeout = \"12s\"\n{METER}")).watchdog;
    assert_eq!((named.device, named.timeout), (Some("/dev/watchdog".into()), Duration::from_secs(12)));
}

#[test]
fn every_kind_of_bus_is_read() {
    let plan = plan(&format!(
        r#"{HEAD}
[bus.meters]
modbus-rtu = {{ port = "/dev/ttyS1", baud = 19200, parity = "even", stop_bits = 1 }}
[bus.can-a]
can = {{ interface = "can0", bitrate = 250000 }}
[bus.plc-1.iso15118]
files = ["a.ev.bin", "a.se.bin"]
"#
    ));
    let kinds: Vec<&str> = plan.buses.iter().map(|bus| bus.kind.as_str()).collect();
    assert_eq!(kinds, ["modbus-tcp", "modbus-rtu", "can", "iso15118"]);
    assert_eq!(plan.buses[0].kind, BusKind::ModbusTcp { timeout: Duration::from_secs(1), framing: Framing::Tcp });
}

#[test]
fn devices_keep_the_order_of_the_file() {
    let evse = |n: u8| METER.replace("grid-main", &format!("z{}", 9 - n)).replace("unit = 1", &format!("unit = {n}"));
    let plan = plan(&format!("{HEAD}{}{}{}", evse(1), evse(2), evse(3)));
    let series: Vec<String> = plan.schema().series.iter().map(|series| series.device.to_string()).collect();
    assert_eq!(series, ["z8", "z7", "z6"]);
}

#[test]
fn what_is_written_is_what_runs() {
    let text = format!("{HEAD}{METER}").replace(
        "[bus.lan]",
        r#"topic_prefix = "a/{gateway}"
keep_alive = "2m"
history_rate_max = "64KiB/s"
[journal]
bytes_max = "512MiB"
when_full = "drop-oldest"
[aggregate]
window = "1s"
[bus.lan]"#,
    );
    let plan = plan(&text);
    assert_eq!(plan.uplink.topic_prefix, "a/gw-01");
    assert_eq!(plan.uplink.keep_alive, Duration::from_secs(120));
    assert_eq!(plan.uplink.link.history_rate_max, 65_536);
    assert_eq!(plan.journal.bytes_max, 512 << 20);
    assert_eq!(plan.journal.when_full, WhenFull::DropOldest);
    assert_eq!(plan.aggregate.window, Duration::from_secs(1));
}

// ---------------------------------------------------------------- five mistakes in one file

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

// ---------------------------------------------------------------- written twice

#[test]
fn mistakes_inside_a_repeated_device_are_told_too() {
    let second = METER.replace("unit = 1", "unit = 999").replace("bus = \"lan\"", "bus = \"lam\"");
    let text = format!("{HEAD}{METER}{second}");
    assert_faults(
        &faults(&text),
        &[
            (15, "\"grid-main\" is used twice, here and at line 9", "[device.grid-main-2]"),
            (17, "\"lam\" is a bus that is not in this file", "bus = \"lan\""),
            (19, "unit is 999", "unit = 1"),
        ],
    );
}

#[test]
fn a_table_written_twice_names_both_lines_and_its_keys_count() {
    let text =
        format!("{HEAD}{METER}").replace("site = \"depot-a\"\n", "") + "[gateway]\nsite = \"depot-a\"\nid = \"x\"\n";
    assert_faults(
        &faults(&text),
        &[
            (14, "the table [gateway] is written twice, here and at line 1", "line 1"),
            (16, "the key id is written twice, here and at line 2", "delete line 2 or line 16"),
        ],
    );
}

#[test]
fn a_key_written_twice_names_both_lines() {
    let text = format!("{HEAD}{METER}unit = 2\npol = \"1s\"\n");
    let faults = faults(&text);
    assert_faults(
        &faults,
        &[
            (15, "the key unit is written twice, here and at line 13", "delete line 13 or line 15"),
            (16, "there is no key pol in [device.grid-main]", "poll = \"1s\""),
        ],
    );
    let first = faults.iter().next().and_then(|fault| fault.also.clone()).expect("the other line");
    assert_eq!((first.line, first.excerpt.as_str()), (13, "unit = 1"));
}

#[test]
fn ids_that_differ_only_in_case_are_one_id() {
    let other = METER.replace("grid-main", "Grid-Main").replace("unit = 1", "unit = 2");
    assert_faults(
        &faults(&format!("{HEAD}{METER}{other}")),
        &[(15, "differ only in the case of letters", "Grid-Main-2")],
    );
}

#[test]
fn one_device_under_two_names_is_found() {
    let other = METER.replace("grid-main", "grid-copy").replace("\"10.0.0.16\"", "\"10.0.0.16:502\"");
    let faults = faults(&format!("{HEAD}{METER}{other}"));
    assert_faults(&faults, &[(15, "grid-copy is the same device as grid-main at line 9", "its own address or unit")]);
}

#[test]
fn a_bus_written_twice_names_both_lines() {
    let text = format!("{HEAD}[bus.lan]\nmodbus-tcp = {{}}\n{METER}");
    assert_faults(&faults(&text), &[(9, "the bus id \"lan\" is used twice, here and at line 7", "[bus.lan-2]")]);
}

// ---------------------------------------------------------------- not TOML

#[test]
fn a_broken_line_hides_no_other_mistake() {
    let text = format!("{HEAD}{METER}")
        .replace("unit = 1", "unit = 1 1")
        .replace("site = \"depot-a\"", "site = depot-a")
        .replace("kind = \"meter\"", "kind = \"metre\"");
    assert_faults(
        &faults(&text),
        &[(3, "not TOML", "site = \"depot-a\""), (10, "\"metre\"", "kind = \"meter\""), (13, "not TOML", "unit = ")],
    );
}

#[test]
fn the_usual_slips_of_the_pen_are_answered_with_the_line_to_write() {
    for (slip, remedy) in [
        ("poll = 500ms", "poll = \"500ms\""),
        ("poll = \"500ms", "poll = \"500ms\""),
        ("poll = “500ms”", "poll = \"500ms\""),
        ("poll: 500ms", "poll = \"500ms\""),
        ("poll \"500ms\"", "poll = \"500ms\""),
        ("poll =", "poll = and its value"),
        ("poll = 500", "poll = \"500ms\"   (units: ms"),
        ("[device.b", "[device.b]"),
        ("[device b]", "[device.b]"),
        ("[[device.b]]", "[device.b]"),
    ] {
        let faults = faults(&format!("{HEAD}{METER}{slip}\n"));
        let answered = faults.iter().any(|fault| fault.line == 15 && fault.remedy.starts_with(remedy));
        assert!(answered, "{slip} was answered with\n{faults}");
    }
}

#[test]
fn what_the_toml_crate_refuses_is_refused() {
    for text in ["a.b = 1\n[a]\nc = 1", "a = { b = 1, b = 2 }", "a = 1 = 2", "\u{1}", "= 1", "[]", "a = 'x", "[a]]"] {
        assert!(parse(text).is_err(), "{text:?} was accepted");
        assert!(faults(text).iter().any(|fault| fault.problem.contains("TOML")), "{text:?}: {}", faults(text));
    }
}

#[test]
fn a_file_from_windows_is_the_same_file() {
    let text = format!("\u{feff}{HEAD}{METER}").replace('\n', "\r\n");
    assert_eq!(plan(&text), plan(&format!("{HEAD}{METER}")));
    let wrong = text.replace("unit = 1", "unit = 300");
    assert_eq!(faults(&wrong).iter().map(|f| (f.line, f.excerpt.as_str())).collect::<Vec<_>>(), [(13, "unit = 300")]);
}

#[test]
fn an_empty_file_is_answered_with_what_it_needs() {
    assert_faults(
        &faults(""),
        &[(1, "[gateway] is missing", "id = \"gw-01\"\nsite ="), (1, "[uplink] is missing", "[uplink]\nbrokers = [")],
    );
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(cuts in proptest::collection::vec((0_usize..6000, ".{0,6}"), 0..6)) {
        let mut text = MANUAL.to_owned();
        for (at, noise) in cuts {
            let at = text.floor_char_boundary(at.min(text.len()));
            let end = text.floor_char_boundary((at + noise.len() * 3).min(text.len()));
            text.replace_range(at..end.max(at), &noise);
        }
        if let Err(faults) = parse(&text) {
            proptest::prop_assert!(!faults.is_empty());
            let _ = faults.to_string();
        }
    }
}

// ---------------------------------------------------------------- one mistake each

#[test]
fn every_single_mistake_has_its_line_and_its_remedy() {
    let cases: &[(&str, &str, usize, &str, &str)] = &[
        ("[bus.lan]", "[uplnk]\nx = 1\n[bus.lan]", 7, "there is no table uplnk in this file", "[uplink]"),
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
        ("eastron-sdm630", "x", 14, "there is no profile \"x\"", "sunspec-evse, uugreenpower-ur1000x0, webasto-unite"),
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

// ---------------------------------------------------------------- charging sessions

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

// ---------------------------------------------------------------- a serial line

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

// ---------------------------------------------------------------- profiles

#[test]
fn the_sdm630_is_read_in_few_requests_and_in_the_wires_units() {
    let plan = plan(&format!("{HEAD}{METER}poll = \"250ms\"\n"));
    let spec = &plan.devices[0].spec;
    assert_eq!((spec.points.len(), spec.kind), (55, DeviceKind::Meter));
    let intervals: Vec<u128> = spec.groups.iter().map(|g| g.interval.as_millis()).collect();
    assert_eq!(intervals, [250, 1000, 10_000]);
    let blocks: Vec<Vec<(u16, u16)>> =
        spec.groups.iter().map(|g| g.blocks.iter().map(|b| (b.start, b.count)).collect()).collect();
    let detail = vec![(18, 18), (84, 4), (200, 6), (224, 2), (234, 12), (342, 22)];
    assert_eq!(blocks, [vec![(0, 18), (42, 30)], vec![(72, 10)], detail]);
    let power = point(spec, "power_flow");
    assert_eq!(
        (power.unit, power.value_type, power.aggregation),
        (Unit::Kilowatt, ValueType::Float, Aggregation::Mean)
    );
    assert_eq!(
        (register(power).table, register(power).address, register(power).raw),
        (RegisterTable::Input, 52, RawKind::F32)
    );
    assert_eq!(power.scaling.conversion, Conversion { multiply: 1.0, divide: 1000.0 });
    assert_eq!(power.valid, Some(-10_000.0..=10_000.0));
    assert_eq!(point(spec, "energy_import").aggregation, Aggregation::Last);
    assert_eq!(register(point(spec, "voltage")).address, 42);
    assert_eq!(register(point(spec, "current")).address, 46);
}

#[test]
fn a_slow_device_is_never_polled_faster_than_its_poll_says() {
    let plan = plan(&format!("{HEAD}{METER}poll = \"5s\"\n"));
    let intervals: Vec<u64> = plan.devices[0].spec.groups.iter().map(|g| g.interval.as_secs()).collect();
    assert_eq!(intervals, [5, 5, 10]);
}

#[test]
fn the_simulated_charger_is_read_in_two_requests() {
    let text = METER.replace("meter", "evse").replace("eastron-sdm630", "sim-bidirectional-dc");
    let plan = plan(&format!("{HEAD}{text}"));
    let spec = &plan.devices[0].spec;
    let blocks: Vec<(u16, u16)> = spec.groups.iter().flat_map(|g| &g.blocks).map(|b| (b.start, b.count)).collect();
    assert_eq!(blocks, [(0, 10), (10, 8)]);
    let state = point(spec, "state");
    assert_eq!(
        (state.value_type, state.aggregation, state.scaling.texts.len()),
        (ValueType::Text, Aggregation::Last, 6)
    );
    assert_eq!(register(point(spec, "soc")).not_available, [0xFFFF]);
    assert_eq!(point(spec, "fault").value_type, ValueType::Integer);
    let summary = plan.summary();
    assert_eq!((summary.points, summary.devices[0].requests_per_second), (11, 3.0));
    assert_eq!((summary.values_per_second, summary.devices[0].registers_per_second), (20.0, 28.0));
}

/// A configuration whose one device has this profile.
fn with_profile(profile: &str) -> Result<Plan, Faults> {
    let profiles = ProfileSource::built_in().and_text("mine", "devices/mine.toml", profile);
    let surroundings = Surroundings::none().with_profiles(profiles);
    config::parse(&format!("{HEAD}{METER}").replace("eastron-sdm630", "mine"), "gateway.toml", &surroundings)
}

const MINE: &str = r#"[profile]
vendor = "a"
model = "b"
kind = "meter"
sources = ["c"]
[modbus]
address_base = 30001
table = "input"
type = "i32"
word_order = "lsw-first"
[group.fast]
interval = "poll"
[point]
power_flow = { register = 30053, unit = "W", scale = 0.1, sign = "export-positive", valid = [-1000, 5000], group = "fast" }
"#;

#[test]
fn an_own_profile_turns_sign_scale_and_base() {
    let plan = with_profile(MINE).unwrap_or_else(|faults| panic!("{faults}"));
    let power = point(&plan.devices[0].spec, "power_flow");
    assert_eq!(register(power).address, 52);
    assert!(power.scaling.invert);
    assert_eq!(power.scaling.conversion, Conversion { multiply: 1.0, divide: 10_000.0 });
    assert_eq!(power.valid, Some(-5.0..=1.0));
}

#[test]
fn a_profile_may_extend_another() {
    let text = r#"[profile]
extends = "eastron-sdm630"
model = "SDM630MCT"
[modbus]
word_order = "lsw-first"
[point]
power_flow = { sign = "export-positive" }
relay = { register = 500, type = "u16", shape = "integer", group = "detail" }
"#;
    let plan = with_profile(text).unwrap_or_else(|faults| panic!("{faults}"));
    let spec = &plan.devices[0].spec;
    assert_eq!(spec.points.len(), 56);
    let power = point(spec, "power_flow");
    assert!(power.scaling.invert);
    assert_eq!(register(power).address, 52);
    assert_eq!(register(power).word_order, v2g_edge::spec::WordOrder::LswFirst);
}

#[test]
fn a_mistake_in_a_profile_is_told_at_its_own_line() {
    let cases: &[(&str, &str, usize, &str, &str)] = &[
        ("sign = \"export-positive\", ", "", 14, "has no sign", "sign = \"import-positive\""),
        ("30053", "52", 14, "not within the registers", "address_base"),
        ("address_base = 30001\n", "", 6, "address_base is missing under [modbus]", "address_base = 0"),
        ("\"W\"", "\"w\"", 14, "not a unit we know", "unit = \"W\""),
        ("\"W\"", "\"V\"", 14, "a point of this name is in kW on the wire", "unit = \"kW\""),
        ("group = \"fast\"", "group = \"fsat\"", 14, "which is not there", "group = \"fast\""),
        ("\"i32\"", "\"int32\"", 9, "called otherwise here", "type = \"i32\""),
        ("power_flow", "power_max", 14, "reserved", "power_flow"),
        ("sources = [\"c\"]\n", "", 1, "sources is missing under [profile]", "sources = ["),
        ("[profile]", "[profile]\nextends = \"eastron\"", 2, "no profile \"eastron\" to extend", "eastron-sdm630"),
        ("[profile]", "[profile]\nextends = \"mine\"", 2, "extends itself", "another profile"),
        ("[point]", "[point.x]\nregister = 1\n[point.x]\n[point]", 15, "[point.x] is written twice", "line 13"),
        ("register = 30053", "regster = 30053", 14, "there is no key regster", "register = 30053"),
        ("\"i32\"", "\"string\"", 9, "called otherwise here", "type = \"text\""),
        ("30053,", "30053, type = \"text\",", 14, "has no length", "length = 8"),
        ("30053,", "30053, length = 2,", 14, "a type that has its own", "without length"),
        ("30053,", "30053, mask = 0x50,", 14, "not one run of bits", "one field for each run"),
        ("30053,", "30053, mask = 0x700000000,", 14, "a mask wider than its type", "0x00FF"),
        ("30053,", "30053, type = \"f32\", mask = 0x1,", 14, "no bits to choose from", "type = \"u16\""),
        ("30053,", "30053, mask = 0xF0, not_available = [0x10],", 14, "code wider than its type", "0x8000"),
        ("30053,", "30053, type = \"bytes\", length = 2,", 14, "cannot have a scale or an offset", "without scale"),
        ("30053,", "30053, scale_register = { register = 30055 },", 14, "type is missing", "type = \"i16\""),
        (
            "30053,",
            "30053, scale_register = { register = 30190, type = \"i16\", holds = \"exponent\" },",
            14,
            "further from its scale register than one request reaches",
            "together with the value",
        ),
        (
            "30053,",
            "30053, scale_register = { register = 30055, type = \"f32\", holds = \"exponent\" },",
            14,
            "no number to scale by",
            "type = \"i16\"",
        ),
        ("table =", "connectors = 2\ntable =", 6, "connector_stride is missing under [modbus]", "connector_stride = "),
        (
            "table =",
            "connectors = 99\nconnector_stride = 999\ntable =",
            16,
            "at the last connector",
            "of = \"station\"",
        ),
        ("interval =", "unit_id = 255\ninterval =", 12, "255, outside 1 to 247", "unit_id = "),
        ("interval =", "of = \"sation\"\ninterval =", 12, "not one of its words", "of = \"station\""),
    ];
    for (old, new, line, problem, remedy) in cases {
        let faults = with_profile(&MINE.replacen(old, new, 1)).expect_err(old);
        let told = faults.iter().any(|fault| {
            let here = fault.file == "devices/mine.toml" && fault.line == *line;
            here && fault.problem.contains(problem) && fault.remedy.contains(remedy)
        });
        assert!(told, "expected {problem:?} at line {line}, found\n{faults}");
    }
}

#[test]
fn every_form_of_a_point_is_read() {
    let text = r#"[profile]
vendor = "a"
model = "b"
kind = "meter"
sources = ["c"]
[modbus]
address_base = 40001
table = "holding"
type = "u16"
byte_order = "little"
word_order = "lsw-first"
connectors = 3
connector_stride = 200
[group.fast]
interval = "poll"
[group.station]
interval = "1h"
of = "station"
unit_id = 200
[point]
voltage = { register = 40011, scale_register = { register = 40061, type = "i16", holds = "exponent", not_available = [0x8000] }, unit = "V", group = "fast" }
alarm = { register = 40012, mask = 0x00F0, not_available = [0xF], shape = "integer", group = "fast" }
serial = { register = 40101, type = "text", length = 8, byte_order = "big", group = "station" }
clock = { register = 40111, type = "date-time-packed", group = "station" }
count = { register = 40121, type = "bcd32", unit = "", group = "station" }
state = { register = 40131, texts = { 0x10 = "available" }, group = "station" }
"#;
    let profiles = ProfileSource::built_in().and_text("mine", "devices/mine.toml", text);
    let surroundings = Surroundings::none().with_profiles(profiles);
    let meter = |id: &str, connector: &str| {
        format!("{METER}connector = {connector}\n").replace("eastron-sdm630", "mine").replace("grid-main", id)
    };
    let text = format!("{HEAD}{}{}", meter("one", "1"), meter("three", "3"));
    let plan = config::parse(&text, "gateway.toml", &surroundings).unwrap_or_else(|faults| panic!("{faults}"));
    let [one, three] = [0, 1].map(|n| &plan.devices[n]);
    assert_eq!((one.connector, three.connector), (Some(1), Some(3)));
    let voltage = register(point(&three.spec, "voltage"));
    assert_eq!((voltage.address, voltage.byte_order), (410, ByteOrder::Little));
    let scale = voltage.scale.as_ref().expect("it has one");
    assert_eq!((scale.address, scale.raw, scale.kind), (460, RawKind::I16, ScaleKind::Exponent));
    assert_eq!(register(point(&one.spec, "alarm")).mask, Some(0xF0));
    let serial = register(point(&three.spec, "serial"));
    assert_eq!((serial.address, serial.unit, serial.raw), (100, Some(200), RawKind::Text(8)));
    assert_eq!(serial.byte_order, ByteOrder::Big);
    assert_eq!(point(&one.spec, "clock").value_type, ValueType::Integer);
    assert_eq!(point(&one.spec, "state").scaling.texts[0].0, 16);
    let blocks: Vec<_> =
        three.spec.groups.iter().map(|g| (g.blocks[0].unit, g.blocks[0].start, g.blocks[0].count)).collect();
    assert_eq!(blocks, [(None, 410, 51), (Some(200), 100, 31)]);
}

#[test]
fn one_connector_under_two_names_is_found() {
    let dc = |id: &str, connector: &str| {
        let device = METER
            .replace("grid-main", id)
            .replace("meter", "evse")
            .replace("eastron-sdm630", "alpitronic-hypercharger");
        format!("{device}{connector}")
    };
    let text = format!("{HEAD}{}{}{}", dc("a", ""), dc("b", "connector = 2\n"), dc("c", "connector = 1\n"));
    assert_faults(&faults(&text), &[(22, "c is the same device as a at line 9", "address, unit or connector")]);
    let five = format!("{HEAD}{}", dc("a", "connector = 5\n"));
    assert_faults(&faults(&five), &[(15, "5, outside 1 to 4", "connector = ")]);
}

#[test]
fn a_profile_beside_the_file_goes_before_the_built_in_one_and_may_extend_it() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::create_dir(directory.path().join("devices")).expect("an empty directory");
    let own = "[profile]\nextends = \"eastron-sdm630\"\n[group.fast]\ninterval = \"2s\"\n";
    fs::write(directory.path().join("devices/eastron-sdm630.toml"), own).expect("a file in a temporary directory");
    let path = directory.path().join("gateway.toml");
    fs::write(&path, format!("{HEAD}{METER}")).expect("a file in a temporary directory");
    let plan = config::load(&path).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(plan.devices[0].spec.groups[0].interval, Duration::from_secs(2));
}

#[test]
fn profiles_that_extend_each_other_are_refused() {
    let base = |name: &str| format!("[profile]\nextends = \"{name}\"\n");
    let profiles = ProfileSource::built_in().and_text("a", "a.toml", &base("b")).and_text("b", "b.toml", &base("a"));
    let text = format!("{HEAD}{METER}").replace("eastron-sdm630", "a");
    let faults = config::parse(&text, "gateway.toml", &Surroundings::none().with_profiles(profiles));
    assert!(faults.expect_err("a circle").to_string().contains("extends itself by a detour"));
}

// ---------------------------------------------------------------- a CAN bus

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
            "comes from a signal, a sum",
            "one of the three",
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
