//! Modbus RTU at the speed of the wire: requests a second of the real source over a real pseudo-terminal, against what 19,200
//! baud, 8E1, allow: the characters of request and answer, and t3.5 before each of them.
//!
//! `cargo bench --features bench --bench rtu`

use std::sync::Arc;
use std::time::Duration;

use hal::sim::{Manner, RegisterImage, WireLine};
use hal::{LinuxClock, Parity, SerialLine, StopBits, Table, UnitId};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};
use v2g_edge::health::{Heartbeats, StatusBoard};
use v2g_edge::measure::{Missing, Mono, Payload};
use v2g_edge::source::modbus::{Address, Port, Target, run};
use v2g_edge::spec::{
    Aggregation, ByteOrder, DeviceIx, DeviceKind, DeviceSpec, Origin, PointSpec, PollGroup, RawKind, RegisterBlock,
    RegisterPoint, RegisterTable, Scaling, Unit, ValueType, WordOrder,
};

const LENGTH: Duration = Duration::from_secs(10);
/// Characters of a request; of an answer without its words.
const REQUEST: u32 = 8;
const ANSWER: u32 = 5;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    println!("registers  requests/s   the wire's limit   share   answers that were not right");
    for count in [2, 16, 60, 125] {
        let (rate, limit, wrong) = runtime.block_on(measure(count));
        println!("{count:>9}  {rate:>10.2}   {limit:>16.2}   {:>4.1} %   {wrong}", rate / limit * 100.0);
    }
}

fn line() -> SerialLine {
    SerialLine { path: "".into(), baud: 19_200, parity: Parity::Even, stop_bits: StopBits::One, rs485: false }
}

/// The rate at blocks of so many registers, the limit, and how many answers were something else.
async fn measure(count: u16) -> (f64, f64, usize) {
    let wire = WireLine::start(line()).expect("a pseudo-terminal");
    let unit = UnitId::try_from(1).expect("a unit");
    let mut image = RegisterImage::default();
    let words: Vec<u16> = (0..count).map(|n| n ^ 0x5a5a).collect();
    image.set_words(Table::Holding, 0, &words);
    wire.put(unit, image, Manner::Prompt);

    let port = Port {
        bus: "bus".try_into().expect("a name"),
        address: Address::Serial(SerialLine { path: wire.path().to_owned(), ..line() }),
        devices: vec![Target {
            ix: DeviceIx(0),
            unit,
            spec: spec(count),
            timeout: Duration::from_secs(1),
            pause: Duration::ZERO,
        }],
        window: Duration::from_millis(50),
        window_end: Mono(0),
        byte_timeout: hal::BYTE_TIMEOUT,
        learned: None,
    };
    let (sender, mut samples) = mpsc::channel(4096);
    let (stop, stopped) = watch::channel(false);
    let heartbeat = Heartbeats::default().watch("source", Duration::from_secs(10), Mono(0));
    let task = tokio::spawn(run(
        port,
        Arc::new(LinuxClock::new()),
        sender,
        Arc::new(StatusBoard::default()),
        heartbeat,
        stopped,
    ));
    // The line is heard out after opening.
    samples.recv().await.expect("a first answer");
    let (started, mut answers, mut wrong) = (Instant::now(), 0_u32, 0);
    let mut last = started;
    while let Ok(Some(sample)) = timeout_at(started + LENGTH, samples.recv()).await {
        // That one more could not be asked in time is no answer.
        if matches!(sample.payload, Payload::Registers { words: Err(Missing::Overrun), .. } | Payload::Noticed(_)) {
            continue;
        }
        answers += 1;
        last = Instant::now();
        if !matches!(&sample.payload, Payload::Registers { words: Ok(heard), .. } if *heard == words) {
            wrong += 1;
        }
    }
    stop.send_replace(true);
    task.await.expect("ended");
    let on_wire = line().characters(REQUEST + ANSWER + 2 * u32::from(count)) + 2 * line().silence();
    (f64::from(answers) / last.duration_since(started).as_secs_f64(), 1.0 / on_wire.as_secs_f64(), wrong)
}

/// One group that is due more often than the wire allows.
fn spec(count: u16) -> DeviceSpec {
    let point = |address: u16| PointSpec {
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
    };
    let block = RegisterBlock { unit: None, table: RegisterTable::Holding, start: 0, count };
    DeviceSpec {
        id: "meter".try_into().expect("a name"),
        kind: DeviceKind::Meter,
        profile: "bench".to_owned(),
        points: (0..count).map(point).collect(),
        groups: vec![PollGroup { name: "fast".to_owned(), interval: Duration::from_millis(10), blocks: vec![block] }],
    }
}
