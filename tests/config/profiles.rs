//! Profiles: built in, of one's own, and extended.

use std::fs;
use std::time::Duration;

use v2g_edge::config::{self, Faults, Plan, ProfileSource, Surroundings};
use v2g_edge::spec::{
    Aggregation, ByteOrder, Conversion, DeviceKind, RawKind, RegisterTable, ScaleKind, Unit, ValueType,
};

use super::stage::{HEAD, METER, assert_faults, faults, plan, point, register};

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
        ("power_flow", "time", 14, "the point \"time\" is reserved", "device_time, or another"),
        ("power_flow", "time_trust", 14, "reserved", "device_time_trust"),
        ("power_flow", "epoch", 14, "reserved", "device_epoch"),
        ("power_flow", "seq", 14, "reserved", "device_seq"),
        ("power_flow", "version", 14, "reserved", "device_version"),
        ("power_flow", "points", 14, "reserved", "device_points"),
        ("power_flow", "site", 14, "reserved", "device_site"),
        ("power_flow", "gateway", 14, "reserved", "device_gateway"),
        ("power_flow", "device", 14, "reserved", "device_device"),
        ("power_flow", "vehicle_id", 14, "reserved", "device_vehicle_id"),
        ("power_flow", "direction", 14, "reserved", "device_direction"),
        ("power_flow", "kind", 14, "reserved", "device_kind"),
        ("power_flow", "historical", 14, "reserved", "device_historical"),
        ("power_flow", "session_id", 14, "reserved", "device_session_id"),
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
