//! Devices that misbehave, each beside a healthy one on the same bus: what is kept of its values, and of those of the other.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use hal::sim::{Manner, RegisterImage, WireLine};
use hal::{Parity, SerialLine, StopBits, Table};
use tokio::time::Instant;
use v2g_edge::health::{DeviceFacts, Status};
use v2g_edge::measure::{Missing, Payload};
use v2g_edge::net::Endpoint;
use v2g_edge::source::modbus::{Address, Target};
use v2g_edge::spec::{DeviceIx, DeviceKind, DeviceSpec, PollGroup, RegisterBlock, RegisterTable};

use super::stage::{self, port, unit};

/// The unit that misbehaves, the one beside it, and what else is behind a gateway.
const ODD: u8 = 1;
const HEALTHY: u8 = 2;
const DEAD: [u8; 3] = [3, 4, 5];
const STARTS: [u16; 2] = [0, 100];
const COUNT: u16 = 4;
const POLLS: u32 = 30;

fn target(id: u8, poll: Duration) -> Target {
    let block = |start| RegisterBlock { unit: None, table: RegisterTable::Holding, start, count: COUNT };
    Target {
        ix: DeviceIx(id.into()),
        unit: unit(id),
        spec: DeviceSpec {
            id: format!("unit-{id}").as_str().try_into().expect("a name"),
            kind: DeviceKind::Meter,
            profile: "test".to_owned(),
            points: Vec::new().into(),
            groups: vec![PollGroup { name: "fast".to_owned(), interval: poll, blocks: STARTS.map(block).to_vec() }],
        },
        timeout: Duration::from_secs(1),
        pause: Duration::ZERO,
    }
}

/// What came of [`POLLS`] polls.
struct Heard {
    /// Values of each unit, of twice as many as there are polls.
    values: BTreeMap<u8, u32>,
    /// Values that are missing because they were not asked in time.
    overrun: u32,
    status: Status,
}

impl Heard {
    fn of(&self, id: u8) -> u32 {
        self.values.get(&id).copied().unwrap_or(0)
    }

    fn device(&self, id: u8) -> &DeviceFacts {
        &self.status.devices[&format!("unit-{id}").as_str().try_into().expect("a name")]
    }

    /// Whatever is said of a unit.
    fn told(&self, id: u8) -> [String; 3] {
        let device = self.device(id);
        [&device.trouble, &device.last_failure, &device.overrun].map(|told| told.clone().unwrap_or_default())
    }
}

async fn listen(address: Address, units: &[u8], poll: Duration) -> Heard {
    let (mut values, mut overrun) = (BTreeMap::new(), 0);
    let devices = units.iter().map(|id| target(*id, poll)).collect();
    let end = Instant::now() + poll * POLLS;
    let (status, _) = stage::listen(port(address, devices, poll), end, |sample, _| {
        match sample.payload {
            Payload::Registers { words: Ok(_), .. } => {
                *values.entry(u8::try_from(sample.device.0).expect("a unit")).or_default() += 1;
            }
            Payload::Registers { words: Err(Missing::Overrun), .. } => overrun += 1,
            _ => {}
        }
        false
    })
    .await;
    Heard { values, overrun, status }
}

async fn beside_a_healthy_one_on_a_line(manner: Manner, poll: Duration) -> Heard {
    let settings =
        SerialLine { path: "".into(), baud: 9_600, parity: Parity::None, stop_bits: StopBits::One, rs485: false };
    let wire = WireLine::start(settings.clone()).expect("a pseudo-terminal");
    for (id, manner) in [(ODD, manner), (HEALTHY, Manner::Prompt)] {
        let mut image = RegisterImage::default();
        STARTS.iter().for_each(|start| image.set_words(Table::Holding, *start, &[id.into(); COUNT as usize]));
        wire.put(unit(id), image, manner);
    }
    let address = Address::Serial(SerialLine { path: wire.path().to_owned(), ..settings });
    listen(address, &[ODD, HEALTHY], poll).await
}

/// Of 80 values one came: a block and the request by which a late answer was to be told apart made each other deaf.
#[tokio::test]
async fn a_unit_that_is_deaf_after_its_answer_is_read_and_its_pause_is_in_status() {
    // Where two requests and two pauses do not fit into half a second, the poll is one into which they do.
    let cases = [5, 20, 60, 120, 200, 500].map(|deaf: u64| async move {
        let poll = Duration::from_millis(500.max(2 * deaf + 300));
        (deaf, beside_a_healthy_one_on_a_line(Manner::Deaf(Duration::from_millis(deaf)), poll).await)
    });
    let mut wrong = Vec::new();
    for (deaf, heard) in futures_util::future::join_all(cases).await {
        let (odd, healthy, pause) = (heard.of(ODD), heard.of(HEALTHY), heard.device(ODD).pause_ms);
        let told = format!("deaf for {deaf} ms: {odd} of {}; beside it {healthy}; a pause of {pause:?} ms", 2 * POLLS);
        println!("{told}");
        // Its pause is found out by doubling and halving, which costs a few; on a busy machine more than the eight seen.
        let are_kept = odd * 4 >= 2 * POLLS * 3 && healthy * 10 >= 2 * POLLS * 9;
        let deaf = f64::from(u32::try_from(deaf).expect("short"));
        // A line keeps a silence of 4 ms and more by itself, so that 5 ms are met now and then, and may teach nothing.
        let (slack, may_be_unknown) = if deaf < 10.0 { (250.0, odd * 20 >= 2 * POLLS * 19) } else { (15.0, false) };
        let is_known = pause.map_or(may_be_unknown, |pause| (0.9 * deaf..=2.0 * deaf + slack).contains(&pause));
        if !are_kept || !is_known || heard.device(HEALTHY).pause_ms.is_some() {
            wrong.push(told);
        }
    }
    assert_eq!(wrong, [""; 0]);
}

/// What a server says to the n-th request of a connection, byte by byte; in pieces, each with what passes before it.
type Says = fn(n: u32, asked: &[u8; 12]) -> Vec<(Duration, Vec<u8>)>;

const NONE: Duration = Duration::ZERO;

/// The right answer: every register reads 1.
fn right(asked: &[u8; 12]) -> Vec<u8> {
    let [t0, t1, _, _, _, _, unit, function, _, _, _, count] = *asked;
    [vec![t0, t1, 0, 0, 0, 3 + 2 * count, unit, function, 2 * count], [0, 1].repeat(count.into())].concat()
}

fn refusal(asked: &[u8; 12], code: u8) -> Vec<u8> {
    vec![asked[0], asked[1], 0, 0, 0, 3, asked[6], asked[7] | 0x80, code]
}

fn with(mut answer: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    answer[at] = byte;
    answer
}

/// A gateway of Modbus TCP with these units behind it, which asks one after the other; `closes` after each answer. Ends with the
/// test's process.
fn serve(says: Says, closes: bool) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let requests = Arc::new(AtomicU32::new(0));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let requests = Arc::clone(&requests);
            thread::spawn(move || talk(stream, says, closes, &requests));
        }
    });
    Endpoint { host: "127.0.0.1".to_owned(), port }
}

#[allow(clippy::disallowed_methods, reason = "a device that takes its time, on a thread of its own")]
fn talk(mut stream: TcpStream, says: Says, closes: bool, requests: &AtomicU32) {
    let mut asked = [0; 12];
    while stream.read_exact(&mut asked).is_ok() {
        let pieces = match asked[6] {
            ODD => says(requests.fetch_add(1, Ordering::Relaxed), &asked),
            HEALTHY => vec![(NONE, right(&asked))],
            // A gateway waits for who does not answer, and then says so.
            _ => vec![(Duration::from_secs(3), refusal(&asked, 11))],
        };
        for (after, piece) in pieces {
            thread::sleep(after);
            if stream.write_all(&piece).is_err() {
                return;
            }
        }
        if closes {
            return;
        }
    }
}

/// A server, the least of the sixty values of its odd unit and of the healthy one beside it, and what is said of it.
struct Case {
    name: &'static str,
    says: Says,
    closes: bool,
    units: &'static [u8],
    odd: u32,
    healthy: u32,
    named: &'static str,
}

const BOTH: &[u8] = &[ODD, HEALTHY];
/// Nine of ten.
const MOST: u32 = 2 * POLLS * 9 / 10;
const USUAL: Case =
    Case { name: "", says: right_at_once, closes: false, units: BOTH, odd: MOST, healthy: MOST, named: "" };

fn right_at_once(_: u32, asked: &[u8; 12]) -> Vec<(Duration, Vec<u8>)> {
    vec![(NONE, right(asked))]
}

/// What they say is odd.
fn of_words() -> Vec<Case> {
    vec![
        Case { name: "right", ..USUAL },
        Case { name: "closes after each answer", closes: true, ..USUAL },
        Case { name: "calls itself 0", says: |_, asked| vec![(NONE, with(right(asked), 6, 0))], ..USUAL },
        Case { name: "calls itself 255", says: |_, asked| vec![(NONE, with(right(asked), 6, 255))], ..USUAL },
        Case {
            name: "transaction 0",
            says: |_, asked| vec![(NONE, with(with(right(asked), 0, 0), 1, 0))],
            odd: 0,
            named: "transaction number",
            ..USUAL
        },
        Case {
            name: "busy now and then",
            says: |n, asked| vec![(NONE, if n % 5 == 4 { refusal(asked, 6) } else { right(asked) })],
            odd: 40,
            named: "server device busy",
            ..USUAL
        },
        Case {
            name: "another unit now and then",
            says: |n, asked| vec![(NONE, if n % 10 == 9 { with(right(asked), 6, 9) } else { right(asked) })],
            odd: 50,
            named: "unit 9 answers",
            ..USUAL
        },
        Case {
            name: "garbage before an answer",
            says: |n, asked| {
                let garbage = if n % 10 == 9 { vec![0xa5; 7] } else { vec![] };
                vec![(NONE, [garbage, right(asked)].concat())]
            },
            odd: 48,
            named: "not Modbus TCP",
            ..USUAL
        },
        Case {
            name: "a byte of the head is wrong now and then",
            says: |n, asked| {
                let at = [0, 1, 2, 3, 4, 5, 7, 8][usize::try_from(n / 10).expect("few") % 8];
                vec![(NONE, if n % 10 == 9 { with(right(asked), at, 0x5a) } else { right(asked) })]
            },
            odd: 45,
            named: "",
            ..USUAL
        },
        Case {
            name: "illegal data value for one of its blocks",
            says: |_, asked| vec![(NONE, if asked[9] == 100 { refusal(asked, 3) } else { right(asked) })],
            odd: MOST / 2,
            named: "illegal data value",
            ..USUAL
        },
    ]
}

/// When they say it is, or whether.
fn of_times() -> Vec<Case> {
    vec![
        Case {
            name: "breaks off now and then",
            says: |n, asked| vec![(NONE, if n % 20 == 19 { right(asked)[..9].to_vec() } else { right(asked) })],
            odd: 48,
            named: "breaks off",
            ..USUAL
        },
        Case {
            name: "falls silent within",
            says: |n, asked| {
                let silence = Duration::from_millis(50 + 250 * u64::from(n % 2));
                vec![(NONE, right(asked)[..9].to_vec()), (silence, right(asked)[9..].to_vec())]
            },
            odd: 53,
            ..USUAL
        },
        Case {
            name: "silent now and then",
            says: |n, asked| if n % 10 == 9 { vec![] } else { vec![(NONE, right(asked))] },
            units: &[ODD],
            odd: 48,
            healthy: 0,
            ..USUAL
        },
        // Of another unit of its gateway it would take half of the time: who is that slow has a connection of its own.
        Case {
            name: "slow",
            says: |_, asked| vec![(Duration::from_millis(700), right(asked))],
            units: &[ODD],
            odd: 18,
            healthy: 0,
            named: "takes up to",
            ..USUAL
        },
        Case {
            name: "a byte each 400 ms",
            says: |_, asked| {
                let head = [&asked[..2], &[0, 0, 0, 253, asked[6], asked[7], 250]].concat();
                head.into_iter().chain([0; 250]).map(|byte| (Duration::from_millis(400), vec![byte])).collect()
            },
            odd: 0,
            ..USUAL
        },
        // The two that answer beside three that are waited for, 3 s each: it was 0 of 70.
        Case {
            name: "three dead units behind the gateway",
            units: &[ODD, HEALTHY, DEAD[0], DEAD[1], DEAD[2]],
            odd: 30,
            healthy: 30,
            ..USUAL
        },
    ]
}

/// Each with the least of its values, of sixty, and what is said of it.
#[tokio::test]
async fn servers_that_misbehave_keep_their_values_and_are_named_as_what_they_are() {
    let poll = Duration::from_millis(500);
    let run = |case: Case| async move {
        let heard = listen(Address::Tcp(serve(case.says, case.closes)), case.units, poll).await;
        (case, heard)
    };
    let mut wrong = Vec::new();
    for (case, heard) in futures_util::future::join_all(of_words().into_iter().chain(of_times()).map(run)).await {
        let (told, kept, beside) = (heard.told(ODD), heard.of(ODD), heard.of(HEALTHY));
        let line = format!(
            "{}: {kept} of {}, beside it {beside}, {} not in time; {told:?}",
            case.name,
            2 * POLLS,
            heard.overrun
        );
        println!("{line}");
        let is_named = told.iter().any(|told| told.contains(case.named));
        let is_overrun = heard.device(ODD).overrun.is_some();
        let is_deaf = heard.device(ODD).pause_ms.is_some();
        let is_right = kept >= case.odd && beside >= case.healthy && is_named && !is_deaf;
        if !is_right || is_overrun != (case.name == "slow") {
            wrong.push(line);
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

/// On a serial line, each beside a healthy unit; of the sixty values of each the least.
#[tokio::test]
async fn units_that_misbehave_on_a_line_cost_the_one_beside_them_less_than_a_tenth() {
    let poll = Duration::from_millis(500);
    let cases = [
        ("garbage before each answer", Manner::Garbage(3), MOST, ""),
        ("a flipped bit in one of ten answers", Manner::Noisy(10), 48, ""),
        ("a byte each 400 ms", Manner::Trickle(Duration::from_millis(400)), 0, "breaks off"),
        ("dead", Manner::Dead, 0, "no answer"),
        ("dead for one block", Manner::DeadAt(STARTS[1]), MOST / 2, ""),
    ];
    let run = |(name, manner, odd, named)| async move {
        (name, odd, named, beside_a_healthy_one_on_a_line(manner, poll).await)
    };
    let mut wrong = Vec::new();
    for (name, odd, named, heard) in futures_util::future::join_all(cases.map(run)).await {
        let (told, kept, beside) = (heard.told(ODD), heard.of(ODD), heard.of(HEALTHY));
        let line = format!("{name}: {kept} of {}, beside it {beside}; {told:?}", 2 * POLLS);
        println!("{line}");
        if kept < odd || beside < MOST || !told.iter().any(|told| told.contains(named)) {
            wrong.push(line);
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}
