//! What is wrong with a measurement, told apart by the agent: chargers on Modbus TCP of which one is parked all the time, one has a
//! sensor that freezes, one is cut off, one gets another meter, the counter of one comes to its end, and one is wired wrong. Of each
//! exactly what happened to it arrives at the broker, and nothing else.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hil_tests::agent::{Agent, Setup, Status};
use hil_tests::broker::{Broker, Options};
use hil_tests::certs::{Authority, Validity};
use hil_tests::consumer::{Consumer, Endpoint};
use hil_tests::oracle::{Line, Message, Value};
use hil_tests::wait::{let_pass, wait_for};

const SOON: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(100);

const PROFILE: &str = r#"
[profile]
vendor = "test"
model = "charger"
kind = "evse"
sources = ["the one source"]

[modbus]
address_base = 0
table = "input"
type = "u16"

[group.fast]
interval = "poll"

[point]
voltage_l1 = { register = 0, scale = 0.1, unit = "V", frozen_after = "2s", group = "fast" }
voltage_l2 = { register = 1, scale = 0.1, unit = "V", frozen_after = "2s", group = "fast" }
frequency = { register = 2, scale = 0.01, unit = "Hz", group = "fast" }
current_l1 = { register = 3, scale = 0.01, unit = "A", group = "fast" }
power_flow_l1 = { register = 4, type = "i16", unit = "W", sign = "import-positive", group = "fast" }
power_flow_l2 = { register = 5, type = "i16", unit = "W", sign = "import-positive", group = "fast" }
power_flow_l3 = { register = 6, type = "i16", unit = "W", sign = "import-positive", group = "fast" }
power_flow = { register = 7, type = "i16", unit = "W", sign = "import-positive", group = "fast" }
energy_import = { register = 8, scale = 0.1, unit = "kWh", group = "fast" }
serial = { register = 9, unit = "", shape = "integer", group = "fast" }
temperature = { register = 10, unit = "°C", group = "fast" }

[plausibility.phase_direction]
hold = "2s"

[plausibility.phase_sum]
hold = "2s"
"#;

/// The registers of a charger.
#[derive(Debug, Clone, Copy)]
struct Charger {
    volts: [u16; 2],
    frequency: u16,
    current: u16,
    powers: [i16; 3],
    energy: u16,
    serial: u16,
    answers: bool,
}

impl Charger {
    fn words(&self) -> [u16; 11] {
        let of = |watts: i16| u16::from_be_bytes(watts.to_be_bytes());
        let [l1, l2, l3] = self.powers;
        let Self { volts: [v1, v2], frequency, current, energy, serial, .. } = *self;
        [v1, v2, frequency, current, of(l1), of(l2), of(l3), of(l1 + l2 + l3), energy, serial, 21]
    }
}

/// A charger on a port of its own.
struct Stand {
    name: &'static str,
    charger: Arc<Mutex<Charger>>,
    address: String,
}

impl Stand {
    /// Parked, at 2,000 kWh.
    fn start(name: &'static str, energy: u16) -> Self {
        let parked = Charger {
            volts: [2300, 2310],
            frequency: 5000,
            current: 0,
            powers: [0; 3],
            energy,
            serial: 4711,
            answers: true,
        };
        let charger = Arc::new(Mutex::new(parked));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let served = Arc::clone(&charger);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let served = Arc::clone(&served);
                std::thread::spawn(move || serve(stream, &served));
            }
        });
        Self { name, charger, address }
    }

    fn change(&self, change: impl FnOnce(&mut Charger)) {
        change(&mut self.charger.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Answers reads of input registers (Modbus Messaging on TCP/IP 1.0b, 3.1.3) until the connection ends.
fn serve(mut stream: TcpStream, charger: &Mutex<Charger>) {
    let mut request = [0; 12];
    while stream.read_exact(&mut request).is_ok() {
        let charger = *charger.lock().unwrap_or_else(PoisonError::into_inner);
        let (start, count) =
            (usize::from(u16::from_be_bytes([request[8], request[9]])), u16::from_be_bytes([request[10], request[11]]));
        let words = charger.words();
        let Some(words) = words.get(start..start + usize::from(count)).filter(|_| charger.answers) else { continue };
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        let body = [&[request[6], 4, u8::try_from(bytes.len()).expect("22 at most")], &bytes[..]].concat();
        let length = u16::try_from(body.len()).expect("short").to_be_bytes();
        if stream.write_all(&[&request[..4], &length, &body].concat()).is_err() {
            return;
        }
    }
}

/// The chargers, and the time that has passed for them.
struct Depot {
    stands: [Stand; 6],
    step: u16,
}

impl Depot {
    fn stand(&self, name: &str) -> &Stand {
        self.stands.iter().find(|stand| stand.name == name).expect("a charger")
    }

    /// The grid moves a little at each step; what is frozen does not.
    fn run(&mut self, seconds: u16, frozen: &str) {
        for _ in 0..seconds * 10 {
            self.step += 1;
            let by = self.step % 7;
            for stand in &self.stands {
                stand.change(|charger| {
                    charger.volts[1] = 2310 - by;
                    charger.frequency = 5000 + by;
                    if stand.name != frozen {
                        charger.volts[0] = 2300 + by;
                    }
                });
            }
            let_pass(STEP);
        }
    }
}

/// The events of each device but the first, that it answers: what, and about which point or rule.
fn events(messages: &[Message]) -> BTreeMap<String, Vec<String>> {
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for message in messages.iter().filter(|message| message.topic.ends_with("/telemetry")) {
        let text = String::from_utf8_lossy(&message.payload);
        for line in text.lines().map(|line| Line::parse(line).expect("line protocol")) {
            let (Some(device), Some(kind)) = (line.tag("device"), line.tag("kind")) else { continue };
            let word = |key: &str| match line.field(key) {
                Some(Value::Text(word)) => Some(word.clone()),
                _ => None,
            };
            let about = match kind {
                "counter_break" => word("reason"),
                "point_frozen" | "point_moving" => word("point"),
                _ => line.tag("rule").map(str::to_owned),
            };
            told.entry(device.to_owned()).or_default().push(format!("{kind} {}", about.unwrap_or_default()));
        }
    }
    for events in told.values_mut() {
        assert_eq!(events.remove(0), "device_answering ");
    }
    told.retain(|_, events| !events.is_empty());
    told
}

fn setup(depot: &Depot, broker: &Broker, authority: &Authority) -> Setup {
    let device = |Stand { name, address, .. }: &Stand| {
        format!(
            "[device.{name}]\nkind = \"evse\"\nbus = \"lan\"\naddress = \"{address}\"\nunit = 1\nprofile = \"charger\"\n\
             poll = \"100ms\"\ntimeout = \"500ms\"\n"
        )
    };
    Setup {
        gateway: "gw-01".to_owned(),
        site: "depot-a".to_owned(),
        brokers: vec![broker.url()],
        tls: authority.client("gw-01", Validity::Good).expect("a client certificate"),
        meters: vec![],
        line: None,
        keep_alive: "5s",
        uplink: String::new(),
        extra: depot.stands.iter().map(device).collect(),
    }
}

#[test]
fn a_frozen_sensor_a_cut_line_a_parked_charger_an_exchanged_meter_and_a_roll_over_are_told_apart() {
    let names = [
        ("parked", 20_000),
        ("freezes", 20_000),
        ("cut", 20_000),
        ("exchanged", 20_000),
        ("rolls", 65_530),
        ("turned", 20_000),
    ];
    let mut depot = Depot { stands: names.map(|(name, energy)| Stand::start(name, energy)), step: 0 };
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(dir.path().join("devices")).expect("a directory");
    std::fs::write(dir.path().join("devices/charger.toml"), PROFILE).expect("written");
    let authority = Authority::new(&dir.path().join("tls"), "depot ca").expect("a ca");
    let server = authority.server(Validity::Good).expect("a server certificate");
    let broker = Broker::start(&dir.path().join("broker"), &server, Options::default()).expect("a broker");
    let endpoint = Endpoint::Plain(broker.plain_port());
    let consumer = Consumer::start(dir.path(), &endpoint, "judge", &["v2g/#"]).expect("a consumer");
    let binary =
        std::env::var_os("V2G_EDGE_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_v2g-edge")), PathBuf::from);
    let setup = setup(&depot, &broker, &authority);
    let mut agent = Agent::new(Path::new(&binary), dir.path(), &setup).expect("a configuration");
    agent.start().expect("it starts");
    let is_online = || match agent.status() {
        Ok(status) if status.is_online() => Ok(()),
        other => Err(format!("{other:?}")),
    };
    wait_for(SOON, "that it is online", is_online).unwrap_or_else(|late| panic!("{late}\n{}", agent.log_tail()));
    depot.run(3, "");

    depot.stand("cut").change(|charger| charger.answers = false);
    depot.stand("exchanged").change(|charger| (charger.serial, charger.energy) = (815, 7));
    depot.stand("rolls").change(|charger| charger.energy = 5);
    depot.stand("turned").change(|charger| charger.powers = [3600, -3600, 3600]);
    depot.run(2, "freezes");
    depot.stand("rolls").change(|charger| charger.energy = 6);
    depot.run(8, "freezes");
    let stands = || {
        let status = agent.status().map_err(|error| error.to_string())?;
        let what = status.text("/devices/turned/implausible/phase_direction/what");
        what.map(str::to_owned).ok_or_else(|| format!("{status:?}"))
    };
    let what = wait_for(SOON, "the finding in status", stands).unwrap_or_else(|late| panic!("{late}"));
    assert!(what.starts_with("power_flow_l1 + power_flow_l2 + power_flow_l3 against"), "{what}");

    depot.stand("cut").change(|charger| charger.answers = true);
    depot.stand("turned").change(|charger| charger.powers = [3600; 3]);
    depot.run(8, "");
    let is_over = || match agent.status().ok().as_ref().and_then(Status::waiting) {
        Some(0) => Ok(()),
        other => Err(format!("{other:?} wait")),
    };
    wait_for(SOON, "that all is acknowledged", is_over).unwrap_or_else(|late| panic!("{late}"));
    assert!(agent.terminate(Duration::from_secs(15)).expect("it ends").success(), "{}", agent.log_tail());

    let told = consumer.look(events);
    let expected = [
        ("cut", &["device_silent ", "device_answering "][..]),
        ("exchanged", &["counter_break meter_exchanged", "meter_exchanged "]),
        ("freezes", &["point_frozen voltage_l1", "point_moving voltage_l1"]),
        ("rolls", &["counter_break rolled_over"]),
        ("turned", &["implausible phase_direction", "plausible phase_direction"]),
    ];
    let sorted = |events: &[String]| {
        let mut events = events.to_vec();
        events.sort();
        events
    };
    let told: Vec<_> = told.iter().map(|(device, events)| (device.as_str(), sorted(events))).collect();
    let expected: Vec<_> = expected
        .map(|(device, events)| (device, sorted(&events.iter().map(|event| (*event).to_owned()).collect::<Vec<_>>())))
        .into();
    assert_eq!(told, expected);
}
