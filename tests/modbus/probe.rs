//! `v2g-edge probe` against pymodbus, and a SunSpec device through the real source.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::time::Instant;
use v2g_edge::config::{self, ProfileSource, Surroundings, profile_views};
use v2g_edge::measure::{Outcome, Value};
use v2g_edge::net::Endpoint;
use v2g_edge::normalise::Normaliser;
use v2g_edge::source::modbus::{Address, Target};
use v2g_edge::spec::DeviceIx;

use crate::peer::{Peer, Unit, probe};
use crate::stage::{self, unit};

/// Lays a model by hand: offsets are SunSpec's, from the model's number on.
fn model(words: &mut Vec<u16>, id: u16, length: u16, points: &[(usize, &[u16])]) {
    let at = words.len();
    words.resize(at + usize::from(length) + 2, 0);
    words[at] = id;
    words[at + 1] = length;
    for (offset, own) in points {
        words[at + offset..at + offset + own.len()].copy_from_slice(own);
    }
}

fn two(value: u32) -> [u16; 2] {
    [u16::try_from(value >> 16).expect("16 bits"), u16::try_from(value & 0xffff).expect("16 bits")]
}

fn text(text: &str) -> Vec<u16> {
    let bytes: Vec<u8> = text.bytes().chain([0; 2]).collect();
    bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()
}

/// Models 1, 203, 701 and 713. The meter imports 15.3 kW, the inverter absorbs 7.2 kW (charges), the battery is at 61.5 %.
fn sunspec(base: u16) -> Unit {
    const NONE: u16 = 0x8000;
    let minus = |by: i16| by.cast_unsigned();
    let mut words = vec![0x5375, 0x6e53];
    model(&mut words, 1, 66, &[(2, &text("Acme")), (18, &text("Wallbox 2")), (50, &text("SN-0815"))]);
    model(
        &mut words,
        203,
        105,
        &[
            (2, &[662]),
            (3, &[220, 221, 222]),
            (6, &[minus(-1)]),
            (8, &[2301, 2312, 2323]),
            (15, &[minus(-1)]),
            (16, &[4998]),
            (17, &[minus(-2)]),
            (18, &[1530, 510, 511, 509]),
            (22, &[1]),
            (23, &[NONE; 4]),
            (27, &[NONE]),
            (28, &[NONE; 4]),
            (32, &[NONE]),
            (33, &[95]),
            (34, &[NONE; 3]),
            (37, &[0]),
            (38, &two(123_456)),
            (46, &two(7_654_321)),
            (54, &[1]),
        ],
    );
    model(
        &mut words,
        701,
        153,
        &[
            (2, &[2, 1, 3, 1]),
            (6, &[0, 0]),
            (10, &[minus(-720), 730, NONE, NONE, 104, 4001, 2310]),
            (17, &two(50_020)),
            (19, &[0, 0, 0, 9_000]),
            (23, &[0, 0, 1, 0]),
            (27, &[0xffff; 8]),
            (35, &[NONE, 415, NONE, NONE, NONE, NONE]),
            (41, &[NONE; 7]),
            (48, &[0xffff; 16]),
            (64, &[NONE; 7]),
            (71, &[0xffff; 16]),
            (87, &[NONE; 7]),
            (94, &[0xffff; 16]),
            (110, &[0xffff]),
            (113, &[minus(-1), minus(-1), minus(-3), 1, NONE, 1, NONE, 0, NONE, minus(-1)]),
        ],
    );
    model(&mut words, 713, 7, &[(2, &[770, 473, 615, 990, 0, 2, minus(-1)])]);
    words.extend([0xffff, 0]);
    Unit { holding: (base..).zip(words).collect(), ..Unit::default() }
}

/// The value of a point of a model, as `probe sunspec` has it.
fn value<'j>(probed: &'j Json, id: u16, name: &str) -> &'j Json {
    let model = probed["models"]
        .as_array()
        .and_then(|models| models.iter().find(|model| model["id"] == id))
        .expect("the model");
    let points = model["points"].as_array().expect("points");
    &points.iter().find(|point| point["name"] == name).expect(name)["value"]
}

#[test]
fn probe_sunspec_prints_the_chain_and_every_value_scaled() {
    for (how, base) in [("tcp", 40_000), ("tcp", 0), ("tcp", 50_000), ("rtu", 40_000), ("rtu-tcp", 40_000)] {
        let peer = Peer::start(how, &BTreeMap::from([(1, sunspec(base))]));
        let framing: &[&str] = if how == "rtu-tcp" { &["--rtu"] } else { &[] };
        let (code, probed) = probe(&[["sunspec", &peer.at, "--parity", "none"].as_slice(), framing].concat());
        assert_eq!(code, Some(0));
        let ids: Vec<u64> =
            probed["models"].as_array().expect("models").iter().filter_map(|m| m["id"].as_u64()).collect();
        assert_eq!((ids, probed["base"].as_u64()), (vec![1, 203, 701, 713], Some(base.into())), "{how}");
        for (id, name, expected) in [
            (1, "Mn", json!("Acme")),
            (1, "SN", json!("SN-0815")),
            (203, "W", json!(15_300.0)),
            (203, "PhVphB", json!(231.2)),
            (203, "TotWhImp", json!(76_543_210.0)),
            (203, "VA", Json::Null),
            (701, "W", json!(-7_200.0)),
            (701, "Hz", json!(50.02)),
            (701, "TotWhAbs", json!(65_536)),
            (701, "InvSt", json!("running")),
            (701, "TmpAmb", Json::Null),
            (701, "WL1", Json::Null),
            (713, "SoC", json!(61.5)),
            (713, "WHRtg", json!(77_000.0)),
        ] {
            assert_eq!(*value(&probed, id, name), expected, "{how}: {id}.{name}");
        }
    }
}

#[tokio::test]
async fn a_sunspec_device_is_read_without_a_profile_of_its_own_in_our_names_units_and_signs() {
    let peer = Peer::start("tcp", &BTreeMap::from([(1, sunspec(40_000))]));
    let (host, port) = peer.at.split_once(':').expect("host and port");
    let plan = format!(
        "[gateway]\nid = \"gw\"\nsite = \"depot\"\nstate_dir = \"/var\"\n[uplink]\nbrokers = [\"mqtt://127.0.0.1\"]\n\
         [bus.lan]\nmodbus-tcp = {{}}\n[device.plant]\nkind = \"meter\"\nbus = \"lan\"\naddress = \"{}\"\nunit = 1\n\
         profile = \"sunspec\"\npoll = \"100ms\"\n",
        peer.at
    );
    let plan = config::parse(&plan, "gateway.toml", &Surroundings::none()).expect("a plan");
    let spec = plan.devices[0].spec.clone();
    let target = Target {
        ix: DeviceIx(0),
        unit: unit(1),
        spec: spec.clone(),
        timeout: Duration::from_secs(1),
        pause: Duration::ZERO,
    };
    let at = Address::Tcp(Endpoint { host: host.to_owned(), port: port.parse().expect("a port") });
    let mut normaliser = Normaliser::new(std::slice::from_ref(&spec));
    let (mut known, mut told) = (BTreeMap::<String, Outcome>::new(), BTreeSet::<String>::new());
    let end = Instant::now() + Duration::from_secs(20);
    let port = stage::port(at, vec![target], Duration::from_millis(250));
    let (_, has_all) = stage::listen(port, end, |sample, _| {
        normaliser.readings(&sample, |reading| {
            let field = spec.points[usize::from(reading.point.0)].field.as_str().to_owned();
            told.insert(field.clone());
            // A poll that came too late takes nothing back of what was said before.
            if !matches!(reading.outcome, Outcome::Missing(_)) {
                known.insert(field, reading.outcome);
            }
        });
        ["power_flow", "soc", "inverter_power_flow"].iter().all(|field| known.contains_key(*field))
    })
    .await;
    assert!(has_all, "within 20 s: {known:?}");
    for (field, expected) in [
        ("power_flow", 15.3),
        ("power_flow_l2", 5.11),
        ("voltage_l3", 232.3),
        ("current_l1", 22.0),
        ("frequency", 49.98),
        ("power_factor", 0.95),
        ("energy_import", 76_543.21),
        ("energy_export", 1_234.56),
        // Charging is absorbing; V2G would be negative.
        ("inverter_power_flow", 7.2),
        ("inverter_energy_import", 65.536),
        ("inverter_energy_export", 9.0),
        ("soc", 61.5),
        ("soh", 99.0),
        ("energy_rated", 77.0),
        ("temperature", 41.5),
    ] {
        assert_eq!(known.get(field), Some(&Outcome::Good(Value::Float(expected))), "{field}");
    }
    assert_eq!(known.get("state"), Some(&Outcome::Good(Value::Text("running".into()))));
    for absent in ["power_apparent", "temperature_ambient", "power_dc", "power_limit_charge"] {
        assert!(!told.contains(absent), "{absent} is not implemented by this device, and is not missing either");
    }
}

/// The registers of an Eastron SDM630 by its vendor's list, each value a float of two registers; `swapped` puts the low word
/// first, as a gateway in between may.
fn sdm630(swapped: bool) -> Unit {
    let (profiles, _) = profile_views(&ProfileSource::built_in());
    let profile = profiles.into_iter().find(|profile| profile.name == "eastron-sdm630").expect("built in");
    let mut input: BTreeMap<u16, u16> = (0..400).map(|at| (at, 0)).collect();
    for point in profile.spec.points.iter() {
        let Some(register) = point.register() else { continue };
        let value: f32 = match point.field.as_str() {
            "power_flow" => -7200.0,
            field if field.starts_with("frequency") => 50.02,
            field if field.starts_with("voltage") => 230.25,
            field if field.starts_with("power_factor") => 0.97,
            field if field.starts_with("energy") => 1234.5,
            field if field.starts_with("thd") => 2.5,
            _ => 11.25,
        };
        let [high, low] = two(value.to_bits());
        let words = if swapped { [low, high] } else { [high, low] };
        input.extend((register.address..).zip(words));
    }
    Unit { input, ..Unit::default() }
}

#[test]
fn probe_modbus_finds_the_units_of_a_line_and_says_what_they_are() {
    let peer = Peer::start("rtu", &BTreeMap::from([(3, sdm630(false)), (5, sunspec(40_000))]));
    let (code, probed) = probe(&["modbus", &peer.at, "--units", "1-6", "--parity", "none"]);
    let units = probed["units"].as_array().expect("units");
    let ids: Vec<u64> = units.iter().filter_map(|unit| unit["unit"].as_u64()).collect();
    assert_eq!(ids, [3, 5], "{probed}");
    assert_eq!(code, Some(0), "{probed}");
    assert_eq!((&units[0]["profile"], &units[0]["fits"]), (&json!("eastron-sdm630"), &json!(true)));
    assert_eq!(units[1]["sunspec"], json!(true));
    let points = units[0]["points"].as_array().expect("points");
    let power = points.iter().find(|point| point["field"] == "power_flow").expect("power");
    assert_eq!((&power["value"], &power["words"]), (&json!(-7.2), &json!(["c5e1", "0000"])));
    let lines = units[0]["config"].as_str().expect("lines to write");
    assert!(lines.contains("unit = 3\nprofile = \"eastron-sdm630\"") && lines.contains(&peer.at), "{lines}");
}

/// The bus was printed once for each of its units.
#[test]
fn what_probe_prints_for_two_units_can_be_pasted() {
    let peer = Peer::start("tcp", &BTreeMap::from([(1, sdm630(false)), (2, sdm630(false))]));
    let output = Command::new(env!("CARGO_BIN_EXE_v2g-edge"))
        .args(["probe", "modbus", &peer.at, "--units", "1,2"])
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let [_, pasted] = said.split("# gateway.toml\n").collect::<Vec<_>>().try_into().expect("one piece");
    let head =
        "[gateway]\nid = \"gw\"\nsite = \"depot\"\nstate_dir = \"/var\"\n[uplink]\nbrokers = [\"mqtt://127.0.0.1\"]\n";
    let plan = config::parse(&format!("{head}{pasted}"), "gateway.toml", &Surroundings::none());
    assert_eq!(plan.expect("a plan").devices.len(), 2, "{pasted}");
}

#[test]
fn probe_modbus_says_that_the_words_are_the_other_way_round_and_what_to_write() {
    let peer = Peer::start("tcp", &BTreeMap::from([(1, sdm630(true))]));
    let (code, probed) = probe(&["modbus", &peer.at, "--units", "1", "--profile", "eastron-sdm630"]);
    assert_eq!(code, Some(1), "{probed}");
    let unit = &probed["units"][0];
    assert_eq!(
        (&unit["words_swapped"], &unit["shift"], &unit["other_table"]),
        (&json!(true), &json!(0), &json!(false))
    );
    assert!(unit["own_profile"].as_str().is_some_and(|own| own.contains("word_order = \"lsw-first\"")), "{unit}");
}

#[test]
fn probe_modbus_says_that_the_list_begins_at_one_and_what_to_write() {
    let right = sdm630(false);
    let earlier = right.input.iter().map(|(at, word)| (at + 1, *word)).collect();
    let peer = Peer::start("tcp", &BTreeMap::from([(1, Unit { input: earlier, ..Unit::default() })]));
    let (code, probed) = probe(&["modbus", &peer.at, "--units", "1", "--profile", "eastron-sdm630"]);
    assert_eq!(code, Some(1), "{probed}");
    assert_eq!(probed["units"][0]["shift"], json!(1), "{}", probed["units"][0]["own_profile"]);
}

#[test]
fn probe_says_when_nobody_is_there() {
    let peer = Peer::start("rtu", &BTreeMap::from([(3, sdm630(false))]));
    let (code, probed) = probe(&["modbus", &peer.at, "--units", "1,2", "--parity", "none"]);
    assert_eq!((code, &probed["units"]), (Some(1), &json!([])));
}
