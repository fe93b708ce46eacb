//! Ten units on one serial line: three dead, one late, one with noise on every twentieth answer, in the midst of six that are
//! to keep their rate.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Duration;

use hal::sim::{Manner, RegisterImage, WireLine};
use hal::{Parity, SerialLine, StopBits, Table};
use hil_tests::wait::wait_for;
use tokio::time::Instant;
use v2g_edge::health::{DeviceState, Status};
use v2g_edge::measure::Payload;
use v2g_edge::source::modbus::{Address, Target};
use v2g_edge::spec::{
    Aggregation, ByteOrder, DeviceIx, DeviceKind, DeviceSpec, Origin, PointSpec, PollGroup, RawKind, RegisterBlock,
    RegisterPoint, RegisterTable, Scaling, Unit, ValueType, WordOrder,
};

use super::stage::{self, port, unit};

const DEAD: [u8; 3] = [2, 5, 9];
const LATE: u8 = 7;
const NOISY: u8 = 4;
/// Two blocks of one shape, so that one could pass for the other if anything could.
const STARTS: [u16; 2] = [0, 100];
const COUNT: u16 = 20;
const LENGTH: Duration = Duration::from_secs(24);

fn settings() -> SerialLine {
    SerialLine { path: "".into(), baud: 19_200, parity: Parity::Even, stop_bits: StopBits::One, rs485: false }
}

/// Every register of every unit has a word of its own.
fn word(unit: u8, register: u16) -> u16 {
    u16::from(unit) << 8 | register
}

fn point(address: u16) -> PointSpec {
    PointSpec {
        field: format!("p{address}").as_str().try_into().expect("a field"),
        unit: Unit::One,
        value_type: ValueType::Integer,
        aggregation: Aggregation::Last,
        valid: None,
        frozen_after: None,
        scaling: Scaling::default(),
        origin: Origin::Register(RegisterPoint {
            unit: None,
            table: RegisterTable::Holding,
            address,
            raw: RawKind::U16,
            byte_order: ByteOrder::Big,
            word_order: WordOrder::MswFirst,
            mask: None,
            not_available: vec![],
            scale: None,
        }),
    }
}

fn target(id: u8, poll: Duration, timeout: Duration) -> Target {
    let block = |start| RegisterBlock { unit: None, table: RegisterTable::Holding, start, count: COUNT };
    let registers = STARTS.into_iter().flat_map(|start| start..start + COUNT);
    Target {
        ix: DeviceIx(id.into()),
        unit: unit(id),
        spec: DeviceSpec {
            id: format!("unit-{id}").as_str().try_into().expect("a name"),
            kind: DeviceKind::Meter,
            profile: "test".to_owned(),
            points: registers.map(point).collect(),
            groups: vec![PollGroup { name: "fast".to_owned(), interval: poll, blocks: STARTS.map(block).to_vec() }],
        },
        timeout,
        pause: Duration::ZERO,
    }
}

/// What came in [`LENGTH`].
struct Heard {
    /// Answers of each unit.
    answers: BTreeMap<u8, u32>,
    /// Words that were not those of the unit and register.
    wrong: Vec<String>,
    status: Status,
}

async fn listen(wire: &WireLine, targets: Vec<Target>) -> Heard {
    let address = Address::Serial(SerialLine { path: wire.path().to_owned(), ..settings() });
    let (mut answers, mut wrong) = (BTreeMap::new(), Vec::new());
    let port = port(address, targets, Duration::from_millis(250));
    let (status, _) = stage::listen(port, Instant::now() + LENGTH, |sample, _| {
        if let Payload::Registers { block, words: Ok(words) } = sample.payload {
            let id = u8::try_from(sample.device.0).expect("a unit");
            *answers.entry(id).or_default() += 1;
            for (at, heard) in (block.start..).zip(&words) {
                if *heard != word(id, at) {
                    wrong.push(format!("unit {id} register {at}: {heard:#06x}"));
                }
            }
        }
        false
    })
    .await;
    Heard { answers, wrong, status }
}

fn depot() -> WireLine {
    let wire = WireLine::start(settings()).expect("a pseudo-terminal");
    // A request and its answer, with the silences, take 34 ms.
    let request_time = settings().characters(8 + 5 + 2 * u32::from(COUNT)) + 2 * settings().silence();
    for id in 1..=10 {
        let mut image = RegisterImage::default();
        for start in STARTS {
            let words: Vec<u16> = (start..start + COUNT).map(|register| word(id, register)).collect();
            image.set_words(Table::Holding, start, &words);
        }
        let manner = match id {
            id if DEAD.contains(&id) => Manner::Dead,
            LATE => Manner::Late(2 * request_time),
            NOISY => Manner::Noisy(20),
            _ => Manner::Prompt,
        };
        wire.put(unit(id), image, manner);
    }
    wire
}

/// Runs the depot and holds it to the six healthy ones' rate and to every single word.
async fn six_keep_their_rate(poll: Duration, timeout: Duration) -> Status {
    let wire = depot();
    let Heard { answers, wrong, status } = listen(&wire, (1..=10).map(|id| target(id, poll, timeout)).collect()).await;
    assert_eq!(wrong, Vec::<String>::new(), "a value of another unit or register");
    let polls = u32::try_from(LENGTH.as_millis() / poll.as_millis()).expect("few");
    for id in (1..=10).filter(|id| !DEAD.contains(id) && *id != LATE) {
        let (got, due) = (answers.get(&id).copied().unwrap_or(0), polls * 2);
        println!("unit {id}: {got} of {due} answers at a poll of {poll:?}");
        assert!(got * 10 >= due * 9, "unit {id}: {got} of {due}; all: {answers:?}");
    }
    for id in DEAD {
        assert_eq!(answers.get(&id), None);
    }
    status
}

fn device(status: &Status, id: u8) -> (DeviceState, String) {
    let device = &status.devices[&format!("unit-{id}").as_str().try_into().expect("a name")];
    (
        device.state,
        format!("{} {}", device.trouble.as_deref().unwrap_or(""), device.last_failure.as_deref().unwrap_or("")),
    )
}

#[tokio::test]
async fn six_of_ten_units_keep_their_rate_beside_dead_late_and_noisy_ones_and_each_trouble_is_named() {
    // The late one is later than its timeout allows.
    let status = six_keep_their_rate(Duration::from_secs(1), Duration::from_millis(50)).await;
    for id in DEAD {
        let (state, told) = device(&status, id);
        assert!(matches!(state, DeviceState::Silent(_)) && told.contains("no answer from unit"), "{id}: {told}");
    }
    let (_, late) = device(&status, LATE);
    assert!(late.contains("answers late, after") && late.contains("longer timeout"), "{late}");
    let (_, noise) = device(&status, NOISY);
    assert!(noise.contains("noise") || noise.contains("breaks off"), "{noise}");
    let well = &status.devices[&"unit-1".try_into().expect("a name")];
    assert_eq!((well.state, &well.trouble), (DeviceState::Answering, &None));
}

#[tokio::test]
async fn a_bus_that_is_three_quarters_full_has_room_for_its_troubles() {
    // Two fifths of the time are the six's, a quarter the slow one's, a twelfth the dead ones'.
    let status = six_keep_their_rate(Duration::from_secs(1), Duration::from_secs(1)).await;
    // Given a second, the late one is in time.
    assert_eq!(device(&status, LATE).0, DeviceState::Answering);
}

/// The agent itself on such a line, asked as an operator asks it.
#[test]
fn status_of_the_running_agent_names_each_trouble_with_what_to_do() {
    let wire = depot();
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("api.sock");
    let registers = STARTS.into_iter().flat_map(|start| start..start + COUNT);
    let points: String =
        registers.map(|at| format!("p{at} = {{ register = {at}, unit = \"\", group = \"fast\" }}\n")).collect();
    std::fs::create_dir(dir.path().join("devices")).expect("made");
    std::fs::write(
        dir.path().join("devices/test.toml"),
        format!(
            "[profile]\nvendor = \"Acme\"\nmodel = \"Test\"\nkind = \"meter\"\nsources = [\"this test\"]\n[modbus]\n\
             table = \"holding\"\naddress_base = 0\ntype = \"u16\"\n[group.fast]\ninterval = \"poll\"\n[point]\n{points}"
        ),
    )
    .expect("written");
    let devices: String = (1..=10)
        .map(|id| {
            let timeout = if id == LATE { "timeout = \"50ms\"\n" } else { "" };
            format!("[device.unit-{id}]\nkind = \"meter\"\nbus = \"line\"\nunit = {id}\nprofile = \"test\"\npoll = \"500ms\"\n{timeout}")
        })
        .collect();
    let config = dir.path().join("gateway.toml");
    let (state, port) = (dir.path().join("state"), wire.path().display());
    std::fs::write(
        &config,
        format!(
            "[gateway]\nid = \"gw\"\nsite = \"depot\"\nstate_dir = \"{}\"\n[uplink]\nbrokers = [\"mqtt://127.0.0.1:1\"]\n\
             [api]\nsocket = \"{}\"\n[bus.line]\nmodbus-rtu = {{ port = \"{port}\", baud = 19200, parity = \"even\", \
             timeout = \"1s\" }}\n{devices}",
            state.display(),
            socket.display()
        ),
    )
    .expect("written");
    let program = env!("CARGO_BIN_EXE_v2g-edge");
    let agent =
        Command::new(program).args(["run", "--config"]).arg(&config).stderr(Stdio::null()).spawn().expect("it runs");
    let _agent = Ended(agent);
    let named = [
        ("unit-2 is silent (timeout): no answer from unit 2", "check unit id and wiring"),
        ("unit-5 is silent (timeout): no answer from unit 5", "check unit id and wiring"),
        ("unit-9 is silent (timeout): no answer from unit 9", "check unit id and wiring"),
        ("unit-7", "give it a longer timeout"),
        ("unit-4 answers, but", "noise; check termination"),
    ];
    wait_for(Duration::from_secs(90), "every trouble in status", || {
        let status = Command::new(program).args(["status", "--socket"]).arg(&socket).output().expect("asked");
        let said = String::from_utf8_lossy(&status.stdout).into_owned();
        let looks: Vec<&str> = said.lines().filter(|line| line.starts_with("look at")).collect();
        let is_named = |(who, what): &(&str, &str)| looks.iter().any(|line| line.contains(who) && line.contains(what));
        let all = named.iter().all(is_named);
        if all {
            for well in [1, 3, 6, 8, 10] {
                // Fourteen requests of 34 ms a poll, and the troubles beside them, do not fit into half a second.
                let is_kept = |line: &&&str| !line.contains("is not read as often as it should be");
                let who = format!(" unit-{well} ");
                assert!(!looks.iter().filter(is_kept).any(|line| line.contains(&who)), "{said}");
            }
        }
        all.then_some(()).ok_or(said)
    })
    .expect("each trouble is named");
}

/// A process that ends with the test.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
