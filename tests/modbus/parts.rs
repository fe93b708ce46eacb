//! Devices of which a part is silent: a block of registers, or a secondary unit. What answers keeps its rate, and what is
//! silent is told once.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hal::sim::{Manner, RegisterImage, WireLine};
use hal::{Parity, SerialLine, StopBits, Table};
use hil_tests::wait::wait_for;
use tokio::time::Instant;
use v2g_edge::config::{self, ProfileSource, Surroundings};
use v2g_edge::health::{DeviceState, Status};
use v2g_edge::measure::{EventKind, Missing, Payload, Sample};
use v2g_edge::net::Endpoint;
use v2g_edge::source::modbus::{Address, Target};
use v2g_edge::spec::{DeviceIx, DeviceSpec};

use super::stage::{self, port};

const POLL: Duration = Duration::from_millis(500);
/// As long as eighteen seconds are.
const POLLS: u64 = 36;

/// Blocks at 10, 500 and, if wanted, 900.
fn blocks(third: bool) -> String {
    let third = if third { "energy_import = { register = 900, unit = \"kWh\", group = \"fast\" }\n" } else { "" };
    format!(
        "[profile]\nvendor = \"Acme\"\nmodel = \"Blocks\"\nkind = \"meter\"\nsources = [\"this test\"]\n[modbus]\n\
         table = \"holding\"\naddress_base = 0\ntype = \"u16\"\nword_order = \"msw-first\"\n[group.fast]\n\
         interval = \"poll\"\n[point]\npower_flow = {{ register = 10, unit = \"W\", sign = \"import-positive\", group = \
         \"fast\" }}\nvoltage = {{ register = 500, unit = \"V\", group = \"fast\" }}\n{third}"
    )
}

/// A fast group of unit 1 and a slow one of unit 200.
const TWO_UNITS: &str = r#"
[profile]
vendor = "Acme"
model = "Units"
kind = "meter"
sources = ["this test"]
[modbus]
table = "holding"
address_base = 0
type = "u16"
word_order = "msw-first"
[group.fast]
interval = "poll"
[group.station]
interval = "2s"
unit_id = 200
[point]
power_flow = { register = 10, unit = "W", sign = "import-positive", group = "fast" }
voltage = { register = 500, unit = "V", group = "station" }
"#;

fn device(profile: &str, kind: &str) -> DeviceSpec {
    let text = format!(
        "[gateway]\nid = \"gw\"\nsite = \"depot\"\nstate_dir = \"/var\"\n[uplink]\nbrokers = [\"mqtt://127.0.0.1\"]\n\
         [bus.lan]\nmodbus-tcp = {{}}\n[device.it]\nkind = \"{kind}\"\nbus = \"lan\"\naddress = \"127.0.0.1:1\"\nunit = 1\n\
         profile = \"{profile}\"\npoll = \"500ms\"\n"
    );
    let profiles = ProfileSource::built_in()
        .and_text("two-blocks", "devices/two-blocks.toml", &blocks(false))
        .and_text("three-blocks", "devices/three-blocks.toml", &blocks(true))
        .and_text("two-units", "devices/two-units.toml", TWO_UNITS);
    let surroundings = Surroundings::none().with_profiles(profiles);
    config::parse(&text, "gateway.toml", &surroundings).expect("a plan").devices[0].spec.clone()
}

/// What a server does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    Answer,
    Nothing,
    Refuse(u8),
}

type Rule = Box<dyn Fn(u8, u16) -> Does + Send>;

/// A Modbus TCP server that decides by unit and first register. It ends with its connections.
struct Server {
    port: u16,
    rule: Arc<Mutex<Rule>>,
}

impl Server {
    fn start(rule: impl Fn(u8, u16) -> Does + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let port = listener.local_addr().expect("an address").port();
        let rule: Arc<Mutex<Rule>> = Arc::new(Mutex::new(Box::new(rule)));
        let shared = Arc::clone(&rule);
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let rule = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream, &rule));
            }
        });
        Self { port, rule }
    }

    fn rule(&self, rule: impl Fn(u8, u16) -> Does + Send + 'static) {
        *self.rule.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(rule);
    }

    fn address(&self) -> Address {
        Address::Tcp(Endpoint { host: "127.0.0.1".to_owned(), port: self.port })
    }
}

/// Every register reads 1.
fn serve(mut stream: TcpStream, rule: &Mutex<Rule>) {
    let mut asked = [0; 12];
    while stream.read_exact(&mut asked).is_ok() {
        let [t0, t1, _, _, _, _, unit, function, s0, s1, _, count] = asked;
        let does = rule.lock().unwrap_or_else(PoisonError::into_inner)(unit, u16::from_be_bytes([s0, s1]));
        let said = match does {
            Does::Nothing => continue,
            Does::Refuse(code) => vec![unit, function | 0x80, code],
            Does::Answer => [vec![unit, function, count * 2], [0, 1].repeat(count.into())].concat(),
        };
        let length = u8::try_from(said.len()).expect("below 125 registers");
        if stream.write_all(&[&[t0, t1, 0, 0, 0, length], said.as_slice()].concat()).is_err() {
            return;
        }
    }
}

/// What came of a device.
#[derive(Default)]
struct Heard {
    /// The polls in which the fast power was read, by their number.
    power: Vec<u64>,
    /// Words that are missing because nothing answered.
    missing: u32,
    events: Vec<EventKind>,
}

impl Heard {
    fn take(&mut self, sample: Sample, power_at: u16) {
        match sample.payload {
            Payload::Registers { block, words: Ok(_) }
                if (block.start..block.start + block.count).contains(&power_at) =>
            {
                // The grid is in the middle of the windows.
                self.power.push((sample.at.mono.0 - 125_000_000) / u64::try_from(POLL.as_nanos()).expect("short"));
            }
            Payload::Registers { words: Err(Missing::Timeout), .. } => self.missing += 1,
            Payload::Noticed(kind) => self.events.push(kind),
            _ => {}
        }
    }

    fn kinds(&self) -> Vec<&'static str> {
        self.events.iter().map(EventKind::name).collect()
    }

    /// From the first poll on, none of [`POLLS`] is without its value.
    fn keeps_all_polls(&self) {
        let first = self.power[0];
        let lost: Vec<u64> = (first..first + POLLS).filter(|poll| !self.power.contains(poll)).collect();
        assert!(lost.is_empty(), "{} of {POLLS} polls without a value: {lost:?} of {:?}", lost.len(), self.power);
    }
}

fn target(ix: u16, unit: u8, spec: &DeviceSpec, timeout: Duration) -> Target {
    let id = format!("device-{ix}").as_str().try_into().expect("a name");
    let unit = stage::unit(unit);
    Target { ix: DeviceIx(ix), unit, spec: DeviceSpec { id, ..spec.clone() }, timeout, pause: Duration::ZERO }
}

/// Reads devices for [`POLLS`]; `at_poll` is called with the number of each poll of the first.
async fn listen(
    address: Address,
    devices: Vec<Target>,
    power_at: u16,
    mut at_poll: impl FnMut(u64),
) -> (Vec<Heard>, Status) {
    let mut heard: Vec<Heard> = devices.iter().map(|_| Heard::default()).collect();
    // What is dead from the start may be waited for before the first that answers.
    let end = Instant::now() + POLL * u32::try_from(POLLS + 8).expect("few");
    let is_enough = |heard: &Heard| heard.power.last().is_some_and(|last| *last >= heard.power[0] + POLLS);
    let mut polls = 0;
    let (status, _) = stage::listen(port(address, devices, Duration::from_millis(250)), end, |sample, _| {
        let at = usize::from(sample.device.0);
        heard[at].take(sample, power_at);
        if at == 0 && heard[0].power.len() > polls {
            polls = heard[0].power.len();
            at_poll(heard[0].power[polls - 1] - heard[0].power[0]);
        }
        heard.iter().all(is_enough)
    })
    .await;
    (heard, status)
}

fn state(status: &Status) -> (DeviceState, String) {
    let device = &status.devices[&"device-0".try_into().expect("a name")];
    (device.state, device.silent_part.clone().unwrap_or_default())
}

const SECOND: Duration = Duration::from_secs(1);

/// The built-in profile of a charger whose station answers as unit 200, or not. Today's installations have many without.
async fn a_charger_without_its_station(does: Does) {
    let server = Server::start(move |unit, _| if unit == 200 { does } else { Does::Answer });
    let spec = device("alfen-eve-ng9xx", "evse");
    let (heard, status) = listen(server.address(), vec![target(0, 1, &spec, SECOND)], 344, |_| {}).await;
    heard[0].keeps_all_polls();
    assert_eq!(heard[0].kinds(), ["device_partly"]);
    assert!(heard[0].missing >= 2, "what is silent is missing");
    let (state, told) = state(&status);
    let DeviceState::Partly { answering, blocks } = state else { panic!("{state:?}") };
    let of_200 = spec.groups.iter().flat_map(|group| &group.blocks).filter(|block| block.unit == Some(200)).count();
    assert_eq!(usize::from(blocks - answering), of_200);
    assert!(told.contains("unit 200 gives no answer") && told.contains("check in the device's settings"), "{told}");
}

#[tokio::test]
async fn a_silent_secondary_unit_costs_the_fast_group_nothing_and_is_told_once() {
    a_charger_without_its_station(Does::Nothing).await;
}

#[tokio::test]
async fn a_secondary_unit_that_a_gateway_does_not_find_is_as_one_that_is_silent() {
    a_charger_without_its_station(Does::Refuse(11)).await;
}

#[tokio::test]
async fn a_silent_block_costs_the_other_of_its_unit_nothing_and_is_told_once() {
    let server = Server::start(|_, start| if start == 500 { Does::Nothing } else { Does::Answer });
    for timeout in [Duration::from_millis(200), SECOND] {
        let spec = device("two-blocks", "meter");
        let (heard, status) = listen(server.address(), vec![target(0, 1, &spec, timeout)], 10, |_| {}).await;
        heard[0].keeps_all_polls();
        let silent = "unit 1 holding registers 500".into();
        assert_eq!(heard[0].events, [EventKind::DevicePartly { answering: 1, blocks: 2, silent }]);
        assert!(u64::from(heard[0].missing) >= POLLS - 1, "every poll tells the silence: {}", heard[0].missing);
        let (state, told) = state(&status);
        assert_eq!(state, DeviceState::Partly { answering: 1, blocks: 2 });
        assert!(
            told.contains("no answer for unit 1 holding registers 500") && told.contains("profile of your own"),
            "{told}"
        );
    }
}

#[tokio::test]
async fn two_silent_blocks_of_three_leave_the_third_its_rate_also_when_they_are_read_before_it() {
    for alive in [10, 900] {
        let server = Server::start(move |_, start| if start == alive { Does::Answer } else { Does::Nothing });
        let spec = device("three-blocks", "meter");
        let (heard, _) = listen(server.address(), vec![target(0, 1, &spec, SECOND)], alive, |_| {}).await;
        heard[0].keeps_all_polls();
        assert_eq!(heard[0].kinds(), ["device_partly"], "block {alive}");
        assert!(matches!(heard[0].events[0], EventKind::DevicePartly { answering: 1, blocks: 3, .. }));
    }
}

#[tokio::test]
async fn a_block_that_dies_and_returns_is_told_as_each_once_and_read_in_full_again() {
    let server = Server::start(|_, _| Does::Answer);
    let spec = device("two-blocks", "meter");
    let (heard, status) = listen(server.address(), vec![target(0, 1, &spec, SECOND)], 10, |poll| match poll {
        5 => server.rule(|_, start| if start == 500 { Does::Nothing } else { Does::Answer }),
        15 => server.rule(|_, _| Does::Answer),
        _ => {}
    })
    .await;
    heard[0].keeps_all_polls();
    assert_eq!(heard[0].kinds(), ["device_answering", "device_partly", "device_answering"]);
    assert_eq!(state(&status), (DeviceState::Answering, String::new()));
}

#[tokio::test]
async fn a_device_that_is_silent_as_a_whole_is_told_as_silent_and_as_answering_when_it_returns() {
    let server = Server::start(|_, _| Does::Answer);
    let spec = device("three-blocks", "meter");
    let devices = vec![target(0, 1, &spec, Duration::from_millis(200))];
    let mut healer = None;
    let (heard, status) = listen(server.address(), devices, 10, |poll| {
        if poll == 5 {
            server.rule(|_, _| Does::Nothing);
            let rule = Arc::clone(&server.rule);
            healer = Some(std::thread::spawn(move || {
                hil_tests::wait::let_pass(POLL * 10);
                *rule.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(|_, _| Does::Answer);
            }));
        }
    })
    .await;
    healer.expect("it died").join().expect("it was mended");
    assert_eq!(heard[0].kinds(), ["device_answering", "device_silent", "device_answering"]);
    assert_eq!(heard[0].events[1], EventKind::DeviceSilent(Missing::Timeout));
    assert_eq!(state(&status).0, DeviceState::Answering);
}

/// For seven seconds a device refuses everything as an illegal address: it was read in single points for ever after.
#[tokio::test]
async fn refusals_of_a_mood_leave_no_requests_behind_that_were_not_made_before() {
    let asked: Arc<Mutex<Vec<(Duration, u16)>>> = Arc::default();
    let (log, began) = (Arc::clone(&asked), Instant::now());
    let mood = Duration::from_secs(4)..Duration::from_secs(11);
    let is_mood = mood.clone();
    let server = Server::start(move |_, start| {
        let at = began.elapsed();
        log.lock().unwrap_or_else(PoisonError::into_inner).push((at, start));
        if is_mood.contains(&at) { Does::Refuse(2) } else { Does::Answer }
    });
    let spec = device("alfen-eve-ng9xx", "evse");
    let (heard, _) = listen(server.address(), vec![target(0, 1, &spec, SECOND)], 344, |_| {}).await;
    assert_eq!(heard[0].kinds(), ["device_answering"], "a refusal is an answer");
    let asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
    let starts = |of: std::ops::Range<Duration>| -> std::collections::BTreeSet<u16> {
        asked.iter().filter(|(at, _)| of.contains(at)).map(|(_, start)| *start).collect()
    };
    let (before, after) = (starts(Duration::ZERO..mood.start), starts(mood.end + SECOND..Duration::MAX));
    assert!(!after.is_empty() && after.is_subset(&before), "before {before:?}, after {after:?}");
    let during = asked.iter().filter(|(at, _)| mood.contains(at)).count();
    assert!(during < 400, "{during} requests in seven seconds");
}

fn line() -> SerialLine {
    SerialLine { path: "".into(), baud: 19_200, parity: Parity::Even, stop_bits: StopBits::One, rs485: false }
}

fn on_the_line(wire: &WireLine) -> Address {
    Address::Serial(SerialLine { path: wire.path().to_owned(), ..line() })
}

fn image() -> RegisterImage {
    let mut image = RegisterImage::default();
    [10, 500, 900].into_iter().for_each(|register| image.set_u16(Table::Holding, register, 1));
    image
}

#[tokio::test]
async fn on_a_serial_line_a_silent_block_costs_neither_its_unit_nor_the_others_a_poll() {
    let wire = WireLine::start(line()).expect("a pseudo-terminal");
    wire.put(stage::unit(1), image(), Manner::DeadAt(500));
    wire.put(stage::unit(2), image(), Manner::Prompt);
    let spec = device("two-blocks", "meter");
    let devices = vec![target(0, 1, &spec, SECOND), target(1, 2, &spec, SECOND)];
    let (heard, status) = listen(on_the_line(&wire), devices, 10, |_| {}).await;
    heard.iter().for_each(Heard::keeps_all_polls);
    assert_eq!((heard[0].kinds(), heard[1].kinds()), (vec!["device_partly"], vec!["device_answering"]));
    assert_eq!(state(&status).0, DeviceState::Partly { answering: 1, blocks: 2 });
}

#[tokio::test]
async fn on_a_serial_line_a_silent_secondary_unit_costs_neither_its_device_nor_the_others_a_poll() {
    let wire = WireLine::start(line()).expect("a pseudo-terminal");
    for id in [1, 2] {
        wire.put(stage::unit(id), image(), Manner::Prompt);
    }
    let devices =
        vec![target(0, 1, &device("two-units", "meter"), SECOND), target(1, 2, &device("two-blocks", "meter"), SECOND)];
    let (heard, _) = listen(on_the_line(&wire), devices, 10, |_| {}).await;
    heard.iter().for_each(Heard::keeps_all_polls);
    assert_eq!((heard[0].kinds(), heard[1].kinds()), (vec!["device_partly"], vec!["device_answering"]));
}

/// The agent itself, asked as an operator asks it.
#[test]
fn status_names_what_is_silent_of_a_device_with_what_to_do_and_the_log_warns_once() {
    let server = Server::start(|unit, _| if unit == 200 { Does::Nothing } else { Does::Answer });
    let dir = tempfile::tempdir().expect("a directory");
    let (socket, config) = (dir.path().join("api.sock"), dir.path().join("gateway.toml"));
    std::fs::write(
        &config,
        format!(
            "[gateway]\nid = \"gw-01\"\nsite = \"depot-a\"\nstate_dir = \"{}\"\n[uplink]\nbrokers = [\"mqtt://127.0.0.1:1\"]\n\
             [api]\nsocket = \"{}\"\n[bus.lan]\nmodbus-tcp = {{}}\n[device.evse-1]\nkind = \"evse\"\nbus = \"lan\"\naddress = \
             \"127.0.0.1:{}\"\nunit = 1\nprofile = \"alfen-eve-ng9xx\"\n",
            dir.path().join("state").display(),
            socket.display(),
            server.port
        ),
    )
    .expect("written");
    let program = env!("CARGO_BIN_EXE_v2g-edge");
    let log = dir.path().join("log");
    let to_log = Stdio::from(std::fs::File::create(&log).expect("created"));
    let mut agent =
        Command::new(program).args(["run", "--config"]).arg(&config).stderr(to_log).spawn().expect("it runs");
    let said = wait_for(Duration::from_secs(30), "what is silent", || {
        let status = Command::new(program).args(["status", "--socket"]).arg(&socket).output().expect("asked");
        let said = String::from_utf8_lossy(&status.stdout).into_owned();
        if said.contains("evse-1 answers in part") { Ok((said, status.status.code())) } else { Err(said) }
    });
    let _ = agent.kill();
    let _ = agent.wait();
    let (said, code) = said.unwrap_or_else(|late| panic!("{late}"));
    assert_eq!(code, Some(1), "something is to be looked at");
    assert!(said.contains("unit 200 gives no answer") && said.contains("blocks of registers"), "{said}");
    assert!(said.contains(" partly ("), "{said}");
    let log = std::fs::read_to_string(&log).expect("a log");
    let warnings = log.lines().filter(|line| line.contains("WARN") && line.contains("evse-1")).count();
    assert_eq!(warnings, 1, "{log}");
}
