//! What a device does not allow is learned through the real source, over real TCP, and is there after a restart.

use std::path::Path;
use std::time::Duration;

use hal::Table;
use hal::sim::{ModbusServer, RegisterImage};
use tokio::time::Instant;
use v2g_edge::config::{self, ProfileSource, Surroundings};
use v2g_edge::health::StatusBoard;
use v2g_edge::measure::{EventKind, Missing, Outcome, Payload, Sample, Value};
use v2g_edge::normalise::Normaliser;
use v2g_edge::source::modbus::{Address, Port, Target};
use v2g_edge::spec::{DeviceIx, DeviceSpec, RegisterBlock};

use super::stage::{self, port, unit};

/// Two values with a hole of four registers between them, which one request would read over.
const PROFILE: &str = r#"
[profile]
vendor = "Acme"
model = "Gap"
kind = "meter"
sources = ["this test"]
[modbus]
table = "input"
address_base = 0
type = "u16"
poll = "50ms"
[group.fast]
interval = "poll"
[point]
voltage_l1 = { register = 10, unit = "V", group = "fast" }
voltage_l2 = { register = 15, unit = "V", group = "fast" }
"#;

fn device(profile: &str, address: &str) -> DeviceSpec {
    device_by(profile, PROFILE, address)
}

fn device_of(text: &str, address: &str) -> DeviceSpec {
    device_by("gap", text, address)
}

fn device_by(profile: &str, own: &str, address: &str) -> DeviceSpec {
    let text = format!(
        "[gateway]\nid = \"gw\"\nsite = \"depot\"\nstate_dir = \"/var\"\n[uplink]\nbrokers = [\"mqtt://127.0.0.1\"]\n\
         [bus.lan]\nmodbus-tcp = {{}}\n[device.meter]\nkind = \"meter\"\nbus = \"lan\"\naddress = \"{address}\"\nunit = 1\n\
         profile = \"{profile}\"\npoll = \"50ms\"\n"
    );
    let profiles = ProfileSource::built_in().and_text("gap", "devices/gap.toml", own);
    let surroundings = Surroundings::none().with_profiles(profiles);
    config::parse(&text, "gateway.toml", &surroundings).expect("a plan").devices[0].spec.clone()
}

/// Reads the device until this says enough; answers with what was known of it then.
async fn until(
    server: &ModbusServer,
    profile: &str,
    learned: &Path,
    enough: impl FnMut(&Sample, &StatusBoard) -> bool,
) {
    until_of(server, device(profile, &server.address().to_string()), learned, enough).await;
}

async fn until_of(
    server: &ModbusServer,
    spec: DeviceSpec,
    learned: &Path,
    mut enough: impl FnMut(&Sample, &StatusBoard) -> bool,
) {
    let target =
        Target { ix: DeviceIx(0), unit: unit(1), spec, timeout: Duration::from_secs(1), pause: Duration::ZERO };
    let port = port(Address::Tcp(server.address().into()), vec![target], Duration::from_millis(50));
    let port = Port { learned: Some(learned.to_owned()), ..port };
    let end = Instant::now() + Duration::from_secs(20);
    let (_, was_enough) = stage::listen(port, end, |sample, board| enough(&sample, board)).await;
    assert!(was_enough, "within 20 s");
}

fn block(sample: &Sample) -> Option<(RegisterBlock, bool)> {
    match &sample.payload {
        // On a busy machine, 50 ms are not kept.
        Payload::Registers { words: Err(Missing::Overrun), .. } => None,
        Payload::Registers { block, words } => Some((*block, words.is_ok())),
        _ => None,
    }
}

#[tokio::test]
async fn a_hole_that_a_device_does_not_read_over_is_learned_and_remembered() {
    let server = ModbusServer::start().await.expect("started");
    let mut image = RegisterImage::default();
    image.set_u16(Table::Input, 10, 230);
    image.set_u16(Table::Input, 15, 231);
    server.put(unit(1), image);
    let state = tempfile::tempdir().expect("a directory");
    let learned = state.path().join("learned");

    let (mut refusals, mut alone) = (0, Vec::new());
    until(&server, "gap", &learned, |sample, _| {
        match block(sample) {
            Some((block, false)) => {
                assert_eq!((block.start, block.count), (10, 6), "only the merged request is refused");
                refusals += 1;
            }
            Some((block, true)) => alone.push((block.start, block.count)),
            None => {}
        }
        alone.contains(&(10, 1)) && alone.contains(&(15, 1))
    })
    .await;
    // The second is asked again in parts at once: there is nothing to tell of it.
    assert_eq!(refusals, 1, "learned at the second refusal");

    // A new life: it is not asked for what it is known to refuse.
    let mut answers = 0;
    until(&server, "gap", &learned, |sample, _| {
        let Some((block, answered)) = block(sample) else { return false };
        assert!(answered, "{block:?} was refused again");
        answers += 1;
        answers == 6
    })
    .await;
}

#[tokio::test]
async fn a_device_that_is_no_sunspec_device_is_named_with_what_to_do() {
    let server = ModbusServer::start().await.expect("started");
    let mut image = RegisterImage::default();
    image.set_u16(Table::Holding, 0, 7);
    server.put(unit(1), image);
    let state = tempfile::tempdir().expect("a directory");
    let mut is_told = false;
    until(&server, "sunspec", state.path(), |sample, facts| {
        if is_told {
            let silent = EventKind::DeviceSilent(Missing::Decode);
            return sample.payload == Payload::Noticed(silent);
        }
        assert!(matches!(sample.payload, Payload::Silent(_)), "{sample:?}");
        let status = facts.status();
        let trouble = status.devices[&"meter".try_into().expect("a name")].trouble.clone().expect("told");
        assert!(trouble.contains("no SunSpec mark") && trouble.contains("probe sunspec"), "{trouble}");
        is_told = true;
        false
    })
    .await;
}

/// Two coils, a discrete input and a number of half precision, as a charger of relays may have them.
const RELAYS: &str = r#"
[profile]
vendor = "Acme"
model = "Relay"
kind = "meter"
sources = ["this test"]
[modbus]
address_base = 0
poll = "50ms"
[group.fast]
interval = "poll"
[point]
contactor = { register = 3, table = "coil", group = "fast", texts = { 0 = "open", 1 = "closed" } }
locked = { register = 20, table = "coil", group = "fast" }
door = { register = 7, table = "discrete", group = "fast" }
temperature = { register = 0, table = "input", type = "f16", unit = "°C", group = "fast" }
"#;

#[tokio::test]
async fn coils_discrete_inputs_and_half_floats_are_read() {
    let server = ModbusServer::start().await.expect("started");
    let mut image = RegisterImage::default();
    image.set_words(Table::Coil, 0, &[0; 32]);
    image.set_u16(Table::Coil, 3, 1);
    image.set_u16(Table::Coil, 20, 1);
    image.set_u16(Table::Discrete, 7, 1);
    image.set_u16(Table::Input, 0, 0x4D40);
    server.put(unit(1), image);
    let state = tempfile::tempdir().expect("a directory");
    let spec = device_of(RELAYS, &server.address().to_string());
    let mut normaliser = Normaliser::new(std::slice::from_ref(&spec));
    let mut known = std::collections::BTreeMap::new();
    until_of(&server, spec.clone(), state.path(), |sample, _| {
        normaliser.readings(sample, |reading| {
            if !matches!(reading.outcome, Outcome::Missing(_)) {
                known.insert(spec.points[usize::from(reading.point.0)].field.as_str().to_owned(), reading.outcome);
            }
        });
        known.len() == 4
    })
    .await;
    let good = |value| Some(Outcome::Good(value));
    assert_eq!(known.get("contactor").cloned(), good(Value::Text("closed".into())));
    assert_eq!(known.get("locked").cloned(), good(Value::Integer(1)));
    assert_eq!(known.get("door").cloned(), good(Value::Integer(1)));
    assert_eq!(known.get("temperature").cloned(), good(Value::Float(21.0)));
}
