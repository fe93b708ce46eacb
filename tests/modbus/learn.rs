//! What a device does not allow is learned through the real source, over real TCP, and is there after a restart.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hal::sim::{ModbusServer, RegisterImage};
use hal::{LinuxClock, Table, UnitId};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use v2g_edge::config::{self, ProfileSource, Surroundings};
use v2g_edge::health::{Heartbeats, StatusBoard};
use v2g_edge::measure::{EventKind, Missing, Mono, Payload, Sample};
use v2g_edge::source::modbus::{Address, Port, Target, run};
use v2g_edge::spec::{DeviceIx, DeviceSpec, RegisterBlock};

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
    let text = format!(
        "[gateway]\nid = \"gw\"\nsite = \"depot\"\nstate_dir = \"/var\"\n[uplink]\nbrokers = [\"mqtt://127.0.0.1\"]\n\
         [bus.lan]\nmodbus-tcp = {{}}\n[device.meter]\nkind = \"meter\"\nbus = \"lan\"\naddress = \"{address}\"\nunit = 1\n\
         profile = \"{profile}\"\npoll = \"50ms\"\n"
    );
    let profiles = ProfileSource::built_in().and_text("gap", "devices/gap.toml", PROFILE);
    let surroundings = Surroundings::none().with_profiles(profiles);
    config::parse(&text, "gateway.toml", &surroundings).expect("a plan").devices[0].spec.clone()
}

/// Reads the device until this says enough; answers with what was known of it then.
async fn until(
    server: &ModbusServer,
    profile: &str,
    learned: &Path,
    mut enough: impl FnMut(&Sample, &StatusBoard) -> bool,
) {
    let address = server.address();
    let target = Target {
        ix: DeviceIx(0),
        unit: UnitId::try_from(1).expect("a unit"),
        spec: device(profile, &address.to_string()),
        timeout: Duration::from_secs(1),
        pause: Duration::ZERO,
    };
    let port = Port {
        bus: "lan".try_into().expect("a name"),
        address: Address::Tcp(address.into()),
        devices: vec![target],
        window: Duration::from_millis(50),
        window_end: Mono(0),
        learned: Some(learned.to_owned()),
    };
    let (sender, mut samples) = mpsc::channel(256);
    let (stop, stopped) = watch::channel(false);
    let facts = Arc::new(StatusBoard::default());
    let heartbeat = Heartbeats::default().watch("source", Duration::from_secs(10), Mono(0));
    let task = tokio::spawn(run(port, Arc::new(LinuxClock::new()), sender, Arc::clone(&facts), heartbeat, stopped));
    loop {
        let sample = timeout(Duration::from_secs(20), samples.recv()).await.expect("within 20 s").expect("it runs");
        if enough(&sample, &facts) {
            break;
        }
    }
    stop.send_replace(true);
    task.await.expect("ended");
}

fn block(sample: &Sample) -> Option<(RegisterBlock, bool)> {
    match &sample.payload {
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
    server.put(UnitId::try_from(1).expect("a unit"), image);
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
    server.put(UnitId::try_from(1).expect("a unit"), image);
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
