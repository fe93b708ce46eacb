//! The source on simulated devices, over TCP and serial lines.

use hal::sim::{Behaviour, ModbusLine, ModbusServer, RegisterImage};
use hal::{LinuxClock, Parity, SerialLine, StopBits, Table};

use super::*;
use crate::health::Heartbeats;
use crate::spec::{DeviceIx, DeviceKind, DeviceSpec, PollGroup, RegisterTable};

fn target(ix: u16, unit: UnitId) -> Target {
    let block = RegisterBlock { unit: None, table: RegisterTable::Input, start: 0, count: 2 };
    let interval = Duration::from_millis(50);
    Target {
        ix: DeviceIx(ix),
        unit,
        spec: DeviceSpec {
            id: format!("meter-{ix}").as_str().try_into().expect("a name"),
            kind: DeviceKind::Meter,
            profile: "test".to_owned(),
            points: vec![].into(),
            groups: vec![PollGroup { name: "fast".to_owned(), interval, blocks: vec![block] }],
        },
        timeout: Duration::from_millis(100),
        pause: Duration::ZERO,
    }
}

fn image(unit: UnitId) -> RegisterImage {
    let mut image = RegisterImage::default();
    image.set_f32(Table::Input, 0, f32::from(unit.get()));
    image
}

fn units() -> [UnitId; 2] {
    [1, 2].map(|id| UnitId::try_from(id).expect("a unit"))
}

/// A port that is being read.
struct Running {
    samples: mpsc::Receiver<Sample>,
    facts: Arc<StatusBoard>,
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    /// Two units at `address`.
    fn start(address: Address) -> Self {
        let [first, second] = units();
        let port = Port {
            bus: "bus".try_into().expect("a name"),
            address,
            devices: vec![target(0, first), target(1, second)],
            window: Duration::from_millis(50),
            window_end: Mono(0),
            byte_timeout: hal::BYTE_TIMEOUT,
            learned: None,
        };
        let (sender, samples) = mpsc::channel(256);
        let (stop, stopped) = watch::channel(false);
        let facts = Arc::new(StatusBoard::default());
        let heartbeat = Heartbeats::default().watch("source", Duration::from_secs(1), Mono(0));
        let clock = Arc::new(LinuxClock::new());
        let task = tokio::spawn(run(port, clock, sender, Arc::clone(&facts), heartbeat, stopped));
        Self { samples, facts, stop, task }
    }

    async fn next(&mut self) -> (DeviceIx, Result<Vec<u16>, Missing>) {
        loop {
            let sample = self.samples.recv().await.expect("the source runs");
            match sample.payload {
                // With a poll of 50 ms, nobody is asked in time while a silent one is waited for.
                Payload::Registers { words: Err(Missing::Overrun), .. } | Payload::Noticed(_) => {}
                Payload::Registers { words, .. } => return (sample.device, words),
                _ => panic!("no registers: {sample:?}"),
            }
        }
    }

    async fn end(self) -> Arc<StatusBoard> {
        self.stop.send_replace(true);
        self.task.await.expect("ended");
        self.facts
    }
}

/// Until both have been told five times.
async fn hears_the_first_and_misses_the_second(address: Address) {
    let mut running = Running::start(address);
    let (mut heard, mut missed) = (0, 0);
    while heard < 5 || missed < 5 {
        match running.next().await {
            (DeviceIx(0), Ok(words)) => {
                assert_eq!(words, [0x3f80, 0]);
                heard += 1;
            }
            (DeviceIx(1), Err(Missing::Timeout)) => missed += 1,
            other => panic!("{other:?}"),
        }
    }
    let status = running.end().await.status();
    let silent = &status.devices[&"meter-1".try_into().expect("a name")];
    assert_eq!(silent.state, DeviceState::Silent(Missing::Timeout));
    assert!(silent.last_failure.as_ref().is_some_and(|text| text.contains("unit 2")));
}

fn line() -> (ModbusLine, Address) {
    let line = ModbusLine::start().expect("a pseudo-terminal");
    units().into_iter().for_each(|unit| line.put(unit, image(unit)));
    let path = line.path().to_owned();
    let address = Address::Serial(SerialLine {
        path,
        baud: 115_200,
        parity: Parity::None,
        stop_bits: StopBits::One,
        rs485: false,
    });
    (line, address)
}

#[tokio::test]
async fn a_silent_unit_is_missing_and_the_other_goes_on() {
    let server = ModbusServer::start().await.expect("started");
    units().into_iter().for_each(|unit| server.put(unit, image(unit)));
    server.behave(units()[1], Behaviour::Silent);
    let address = Address::Tcp(server.address().into());
    hears_the_first_and_misses_the_second(address).await;
}

#[tokio::test]
async fn a_silent_unit_on_a_serial_line_is_missing_and_the_other_goes_on() {
    let (line, address) = line();
    line.behave(units()[1], Behaviour::Silent);
    hears_the_first_and_misses_the_second(address).await;
}

#[tokio::test]
async fn two_units_of_one_serial_line_are_each_read_as_themselves() {
    let (_line, address) = line();
    let mut running = Running::start(address);
    let mut heard = [0; 2];
    while heard.iter().any(|times| *times < 5) {
        let (device, words) = running.next().await;
        let expected = if device == DeviceIx(0) { [0x3f80, 0] } else { [0x4000, 0] };
        assert_eq!(words.as_deref(), Ok(expected.as_slice()), "{device:?}");
        heard[usize::from(device.0)] += 1;
    }
    running.end().await;
}
