//! Carries a port's schedule to its bus and what comes back to the pipeline.

use std::sync::Arc;
use std::time::Duration;

use hal::{BusError, Clock, ReadRequest, RegisterBus, RtuBus, Table, TcpBus, UnitId};
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::schedule::{Ended, Job, Next, Schedule};
use super::{Address, Port, Target};
use crate::health::{DeviceFacts, DeviceState, Facts, Pulse};
use crate::measure::{Missing, Payload, RegisterTable, Sample, Stamp};

/// The longest sleep between two signs of life.
const BEAT: Duration = Duration::from_secs(5);

/// Reads the port's devices until `stop` turns true. One outstanding request at a time.
pub async fn run<C: Clock>(
    port: Port,
    clock: Arc<C>,
    samples: mpsc::Sender<Sample>,
    facts: Arc<Facts>,
    pulse: Pulse,
    mut stop: watch::Receiver<bool>,
) {
    let mut bus = Bus::of(&port);
    let groups: Vec<_> = port
        .devices
        .iter()
        .map(|target| target.spec.groups.iter().map(|g| (g.interval, g.blocks.clone())).collect())
        .collect();
    let now = || -> Stamp { clock.now().into() };
    let mut schedule = Schedule::new(&groups, port.window, port.window_end, now().mono);
    let desk = Desk { port: &port, samples, facts };
    for target in &port.devices {
        desk.introduce(target);
    }
    loop {
        let started = now();
        pulse.beat(started.mono);
        match schedule.next(started.mono) {
            Next::Wait(until) => tokio::select! {
                () = sleep_until(Instant::now() + until.since(started.mono).min(BEAT)) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            },
            Next::Missing(job) => desk.hand_over(job, started, Err(Missing::Timeout)),
            Next::Read(job) => {
                let target = &port.devices[job.device];
                bus.set_deadline(target.timeout);
                let answer = tokio::select! {
                    answer = bus.read(target.unit_of(job.block), request(job)) => answer,
                    _ = stop.wait_for(|stop| *stop) => return,
                };
                let ended = now();
                schedule.done(job, judged(&answer), ended.mono);
                desk.note(target, &answer, started, ended);
                desk.hand_over(job, ended, answer.map_err(|error| missing(&error)));
            }
        }
    }
}

/// The bus of a port, by its kind.
enum Bus {
    Tcp(TcpBus),
    Rtu(RtuBus),
}

impl Bus {
    fn of(port: &Port) -> Self {
        let timeout = port.devices.iter().map(|target| target.timeout).max().unwrap_or_default();
        match port.address.clone() {
            Address::Tcp { host, port } => Self::Tcp(TcpBus::new(host, port, timeout)),
            Address::Serial(line) => Self::Rtu(RtuBus::new(line, timeout)),
        }
    }

    fn set_deadline(&mut self, deadline: Duration) {
        match self {
            Self::Tcp(bus) => bus.set_deadline(deadline),
            Self::Rtu(bus) => bus.set_deadline(deadline),
        }
    }
}

impl RegisterBus for Bus {
    async fn read(&mut self, unit: UnitId, request: ReadRequest) -> Result<Vec<u16>, BusError> {
        match self {
            Self::Tcp(bus) => bus.read(unit, request).await,
            Self::Rtu(bus) => bus.read(unit, request).await,
        }
    }
}

fn request(job: Job) -> ReadRequest {
    let table = match job.block.table {
        RegisterTable::Holding => Table::Holding,
        RegisterTable::Input => Table::Input,
    };
    ReadRequest { table, start: job.block.start, count: job.block.count }
}

/// Whether the device was heard. An exception is an answer, except a gateway's word that the device gave none.
fn judged(answer: &Result<Vec<u16>, BusError>) -> Ended {
    match answer {
        Ok(_) => Ended::Answered,
        Err(error) if missing(error) == Missing::Exception => Ended::Answered,
        Err(_) => Ended::Silent,
    }
}

fn missing(error: &BusError) -> Missing {
    match error {
        // Gateway path unavailable, gateway target failed to respond: the device itself is silent.
        BusError::Exception { code: 10 | 11, .. } => Missing::Timeout,
        BusError::Exception { .. } => Missing::Exception,
        BusError::Malformed { .. } => Missing::Decode,
        BusError::Unreachable { .. } | BusError::Timeout { .. } | BusError::Gone { .. } => Missing::Timeout,
    }
}

/// Where answers are handed over and written down.
struct Desk<'a> {
    port: &'a Port,
    samples: mpsc::Sender<Sample>,
    facts: Arc<Facts>,
}

impl Desk<'_> {
    fn introduce(&self, target: &Target) {
        self.facts.device(&target.spec.id, |facts| {
            *facts =
                DeviceFacts { bus: Some(self.port.bus.clone()), kind: Some(target.spec.kind), ..Default::default() };
        });
    }

    /// Never waits: a bus must not feel what is behind it.
    fn hand_over(&self, job: Job, at: Stamp, words: Result<Vec<u16>, Missing>) {
        let device = self.port.devices[job.device].ix;
        let sample = Sample { device, at, payload: Payload::Registers { block: job.block, words } };
        if self.samples.try_send(sample).is_err() {
            self.facts.pipeline(|facts| facts.samples_shed += 1);
        }
    }

    fn note(&self, target: &Target, answer: &Result<Vec<u16>, BusError>, started: Stamp, ended: Stamp) {
        let id = &target.spec.id;
        let mut changed = false;
        let state = match answer {
            Ok(_) => DeviceState::Answering,
            Err(error) => match missing(error) {
                Missing::Exception => DeviceState::Answering,
                why => DeviceState::Silent(why),
            },
        };
        self.facts.device(id, |facts| {
            facts.requests += 1;
            changed = std::mem::discriminant(&facts.state) != std::mem::discriminant(&state);
            facts.state = state;
            match answer {
                Ok(_) => {
                    facts.answers += 1;
                    facts.reply_ms = Some(ended.mono.since(started.mono).as_secs_f64() * 1e3);
                }
                Err(error) => {
                    *facts.failures.entry(error.name().to_owned()).or_default() += 1;
                    facts.last_failure = Some(error.to_string());
                    if state != DeviceState::Answering {
                        facts.power_flow_kw = None;
                    }
                }
            }
        });
        match answer {
            Err(error) if changed => tracing::warn!(device = %id, bus = %self.port.bus, %error, "device is silent"),
            Ok(_) if changed => tracing::info!(device = %id, bus = %self.port.bus, "device answers"),
            _ => {}
        }
    }
}

#[cfg(all(test, feature = "demo"))]
mod tests {
    use hal::sim::{Behaviour, ModbusLine, ModbusServer, RegisterImage};
    use hal::{LinuxClock, Parity, SerialLine, StopBits};

    use super::*;
    use crate::health::Pulses;
    use crate::measure::{DeviceIx, DeviceKind, DeviceSpec, Mono, PollGroup, RegisterBlock};

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
        facts: Arc<Facts>,
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
            };
            let (sender, samples) = mpsc::channel(256);
            let (stop, stopped) = watch::channel(false);
            let facts = Arc::new(Facts::default());
            let pulse = Pulses::default().watch("source", Duration::from_secs(1), Mono(0));
            let clock = Arc::new(LinuxClock::new());
            let task = tokio::spawn(run(port, clock, sender, Arc::clone(&facts), pulse, stopped));
            Self { samples, facts, stop, task }
        }

        async fn next(&mut self) -> (DeviceIx, Result<Vec<u16>, Missing>) {
            let sample = self.samples.recv().await.expect("the source runs");
            let Payload::Registers { words, .. } = sample.payload else { panic!("no registers: {sample:?}") };
            (sample.device, words)
        }

        async fn end(self) -> Arc<Facts> {
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
        let address =
            Address::Serial(SerialLine { path, baud: 115_200, parity: Parity::None, stop_bits: StopBits::One });
        (line, address)
    }

    #[tokio::test]
    async fn a_silent_unit_is_missing_and_the_other_goes_on() {
        let server = ModbusServer::start().await.expect("started");
        units().into_iter().for_each(|unit| server.put(unit, image(unit)));
        server.behave(units()[1], Behaviour::Silent);
        let address = Address::Tcp { host: "127.0.0.1".to_owned(), port: server.address().port() };
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
}
