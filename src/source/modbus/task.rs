//! Carries a port's schedule to its bus and what comes back to the pipeline.

use std::sync::Arc;
use std::time::Duration;

use hal::{Ahead, BusError, Clock, LateReply, ReadRequest, RegisterBus, RtuBus, Table, TcpBus, UnitId};
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::limits::{Answer, Limits, Refusal};
use super::parts::Parts;
use super::queue::{Job, Read, Why};
use super::record::Record;
use super::schedule::{Next, ReadOutcome, Schedule, Setting};
use super::sunspec::{Survey, SurveyStep};
use super::unit::Ended;
use super::{Address, Port, Target};
use crate::health::{DeviceFacts, DeviceState, Heartbeat, StatusBoard};
use crate::measure::{EventKind, Missing, Payload, Sample, Stamp};
use crate::net::Endpoint;
use crate::spec::{Origin, RegisterBlock, RegisterTable};

/// The longest sleep between two signs of life.
const BEAT: Duration = Duration::from_secs(5);

/// Reads the port's devices until `stop` turns true. One outstanding request at a time.
pub async fn run<C: Clock>(
    port: Port,
    clock: Arc<C>,
    samples: mpsc::Sender<Sample>,
    facts: Arc<StatusBoard>,
    heartbeat: Heartbeat,
    mut stop: watch::Receiver<bool>,
) {
    let mut bus = Bus::of(&port);
    let now = || -> Stamp { clock.now().into() };
    let mut driver = Driver::new(&port, samples, facts);
    let mut schedule = Schedule::new(driver.settings(), port.window, port.window_end, now().mono);
    loop {
        let started = now();
        heartbeat.beat(started.mono);
        match schedule.next(started.mono) {
            Next::Wait(until) => tokio::select! {
                () = sleep_until(Instant::now() + until.since(started.mono).min(BEAT)) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            },
            Next::Missing(job) => {
                driver.missing(job, started, &mut schedule);
            }
            Next::Do(Job::Read(job), patience) => {
                let target = &port.devices[job.device];
                bus.set_deadline(patience, target.timeout, job.ahead);
                let answer = tokio::select! {
                    answer = bus.read(target.unit_of(job.block), request(job)) => answer,
                    _ = stop.wait_for(|stop| *stop) => return,
                };
                let ended = now();
                driver.late(bus.take_late(), &mut schedule);
                driver.ended(job, answer, (started, ended), &mut schedule);
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
            Address::Tcp(Endpoint { host, port }) => Self::Tcp(TcpBus::new(host, port, timeout)),
            Address::RtuOverTcp(Endpoint { host, port }) => Self::Rtu(RtuBus::over_tcp(host, port, timeout)),
            Address::Serial(line) => Self::Rtu(RtuBus::new(line, timeout)),
        }
    }

    fn set_deadline(&mut self, deadline: Duration, limit: Duration, ahead: Ahead) {
        match self {
            Self::Tcp(bus) => {
                bus.set_deadline(deadline, limit);
                bus.set_ahead(ahead);
            }
            Self::Rtu(bus) => bus.set_deadline(deadline, limit),
        }
    }

    fn take_late(&mut self) -> Vec<LateReply> {
        match self {
            Self::Tcp(bus) => bus.take_late(),
            Self::Rtu(bus) => bus.take_late(),
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

fn request(job: Read) -> ReadRequest {
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
        Err(
            BusError::Noise { .. } | BusError::Short { .. } | BusError::WrongUnit { .. } | BusError::Malformed { .. },
        ) => Ended::Broken,
        Err(_) => Ended::Silent,
    }
}

fn missing(error: &BusError) -> Missing {
    match error {
        // Gateway path unavailable, gateway target failed to respond: the device itself is silent.
        BusError::Exception { code: 10 | 11, .. } => Missing::Timeout,
        BusError::Exception { .. } => Missing::Exception,
        BusError::Malformed { .. } | BusError::Noise { .. } | BusError::Short { .. } | BusError::WrongUnit { .. } => {
            Missing::Decode
        }
        BusError::Unreachable { .. } | BusError::Timeout { .. } | BusError::Late { .. } | BusError::Gone { .. } => {
            Missing::Timeout
        }
    }
}

/// How a device's registers are found.
enum Reader {
    /// Its profile says where they stand; what it allows is learned.
    Registers(Limits),
    /// It says so itself.
    SunSpec(Box<Survey>),
}

impl Reader {
    fn of(target: &Target, port: &Port) -> Self {
        if target.spec.points.iter().any(|point| matches!(point.origin, Origin::SunSpec(_))) {
            return Self::SunSpec(Box::new(Survey::new(&target.spec.points)));
        }
        Self::Registers(Limits::of(&target.spec, port.learned.as_deref()))
    }

    /// What is read of each of the device's groups.
    fn blocks(&self, target: &Target) -> Vec<Vec<RegisterBlock>> {
        match self {
            Self::Registers(limits) => target.spec.groups.iter().map(|group| limits.blocks(group)).collect(),
            Self::SunSpec(survey) => survey.blocks().into(),
        }
    }
}

/// Where answers are handed over and written down.
struct Driver<'a> {
    port: &'a Port,
    samples: mpsc::Sender<Sample>,
    facts: Arc<StatusBoard>,
    readers: Vec<Reader>,
    records: Vec<Record>,
    /// What is wrong with a device whatever its last requests came to.
    standing: Vec<Option<String>>,
    /// Why there was no answer of a device the last time that there was none.
    why: Vec<Missing>,
    /// As it was told last.
    told: Vec<DeviceState>,
    /// The exception code of the last answer, if it was a refusal.
    exception: Option<u8>,
}

impl<'a> Driver<'a> {
    fn new(port: &'a Port, samples: mpsc::Sender<Sample>, facts: Arc<StatusBoard>) -> Self {
        for target in &port.devices {
            facts.device(&target.spec.id, |facts| {
                *facts =
                    DeviceFacts { bus: Some(port.bus.clone()), kind: Some(target.spec.kind), ..Default::default() };
            });
        }
        let readers = port.devices.iter().map(|target| Reader::of(target, port)).collect();
        let records = port.devices.iter().map(|_| Record::default()).collect();
        let standing = port.devices.iter().map(|_| None).collect();
        let why = vec![Missing::Timeout; port.devices.len()];
        let told = vec![DeviceState::Unknown; port.devices.len()];
        Self { port, samples, facts, readers, records, standing, why, told, exception: None }
    }

    fn settings(&self) -> Vec<Setting> {
        // Who is alone on a connection of its own takes nobody's time.
        let is_shared = self.port.devices.len() > 1 || !matches!(self.port.address, Address::Tcp(_));
        let silence = self.port.address.silence_cost();
        let setting = |(target, reader): (&Target, &Reader)| Setting {
            groups: target.spec.groups.iter().map(|group| group.interval).zip(reader.blocks(target)).collect(),
            timeout: target.timeout,
            is_shared,
            pause: target.pause,
            silence,
        };
        self.port.devices.iter().zip(&self.readers).map(setting).collect()
    }

    /// A read that is due is not asked: its block is silent.
    fn missing(&mut self, job: Read, at: Stamp, schedule: &mut Schedule) {
        self.hand_over(job, at, Err(Missing::Timeout), schedule);
        self.judge(job.device, at, schedule);
    }

    /// A read has ended; `times` are its beginning and its end.
    fn ended(&mut self, job: Read, answer: Result<Vec<u16>, BusError>, times: (Stamp, Stamp), schedule: &mut Schedule) {
        let (started, ended) = times;
        let verdict = schedule.done(job, judged(&answer), started.mono, ended.mono);
        if let Err(BusError::Late { after_ms, .. }) = &answer {
            let after = Duration::from_millis(u64::try_from(*after_ms).unwrap_or(u64::MAX));
            schedule.late(job.device, job.block.unit, after);
        }
        self.note(job.device, &answer, started, ended);
        let is_asked_again = self.learn(job, &answer, schedule);
        // A check is due to nobody: only an answer to it says something.
        let is_told = answer.is_ok() || job.why != Why::Check;
        if verdict == ReadOutcome::Over && !is_asked_again && is_told {
            self.hand_over(job, ended, answer.map_err(|error| missing(&error)), schedule);
        }
        self.judge(job.device, ended, schedule);
    }

    fn hand_over(&mut self, job: Read, at: Stamp, words: Result<Vec<u16>, Missing>, schedule: &mut Schedule) {
        let target = &self.port.devices[job.device];
        let payload = match &mut self.readers[job.device] {
            Reader::Registers(_) => Payload::Registers { block: job.block, words },
            Reader::SunSpec(survey) => match words {
                Ok(words) => match survey.answered(job.block, &words) {
                    SurveyStep::Values(mut values) => {
                        values.sort_by_key(|(ix, _)| *ix);
                        Payload::Values(values)
                    }
                    told => return self.surveyed(job.device, at, &told, schedule),
                },
                // "Busy" says nothing about what is there.
                Err(Missing::Exception) if self.exception.is_some_and(|code| code <= 4) => {
                    let told = survey.refused(job.block);
                    return self.surveyed(job.device, at, &told, schedule);
                }
                // One model may be silent while the others speak.
                Err(why) => survey.silent(job.block, why).map_or(Payload::Silent(why), Payload::Values),
            },
        };
        self.send(Sample { device: target.ix, at, payload });
    }

    /// Never waits: a bus must not feel what is behind it.
    fn send(&self, sample: Sample) {
        if self.samples.try_send(sample).is_err() {
            self.facts.pipeline(|facts| facts.samples_shed += 1);
        }
    }

    /// What became known of a device that says itself what it offers.
    fn surveyed(&mut self, device: usize, at: Stamp, told: &SurveyStep, schedule: &mut Schedule) {
        let target = &self.port.devices[device];
        let (id, bus) = (&target.spec.id, &self.port.bus);
        let Reader::SunSpec(survey) = &self.readers[device] else { return };
        match told {
            SurveyStep::Step => {
                if survey.is_known() {
                    let models: Vec<u16> = survey.chain().iter().map(|model| model.id).collect();
                    tracing::info!(device = %id, %bus, ?models, "SunSpec device surveyed");
                    self.standing[device] = None;
                }
                self.replan(device, schedule);
                schedule.hurry(device);
            }
            SurveyStep::NoSunSpec => {
                let trouble = "it has no SunSpec mark at register 40000, 50000 or 0: it is no SunSpec device, or SunSpec is \
                               switched off in its settings; see: v2g-edge probe sunspec";
                self.standing[device] = Some(trouble.to_owned());
                self.facts.device(id, |facts| facts.trouble = Some(trouble.to_owned()));
                // It answers, and nothing of it can be read.
                self.send(Sample { device: target.ix, at, payload: Payload::Silent(Missing::Decode) });
                self.replan(device, schedule);
            }
            SurveyStep::Values(_) | SurveyStep::Part => {}
        }
    }

    /// What a refusal teaches about the requests that a device takes. Answers whether what was refused is asked again at once, as
    /// it was or in parts: then there is nothing to tell yet.
    fn learn(&mut self, job: Read, answer: &Result<Vec<u16>, BusError>, schedule: &mut Schedule) -> bool {
        let Reader::Registers(limits) = &mut self.readers[job.device] else { return false };
        let refusal = match answer {
            Ok(_) => {
                match limits.allowed(job.block) {
                    Answer::Plain => {}
                    Answer::Helped(whole) => schedule.check(job, whole),
                    Answer::Undone => self.undo_split(job.device, schedule),
                }
                return false;
            }
            Err(BusError::Exception { code, .. }) => limits.refused(job.block, *code),
            Err(_) => return false,
        };
        match refusal {
            Refusal::Final => false,
            Refusal::Known => true,
            Refusal::Undone => {
                self.undo_split(job.device, schedule);
                false
            }
            Refusal::Doubtful => {
                schedule.ask(job, [job.block]);
                true
            }
            Refusal::Cut(parts) => {
                let Target { spec, .. } = &self.port.devices[job.device];
                tracing::info!(device = %spec.id, bus = %self.port.bus, start = job.block.start, count = job.block.count,
                    "device refuses a merged request; it is tried in two");
                self.replan(job.device, schedule);
                schedule.ask(job, parts);
                true
            }
        }
    }

    /// A block is whole again. It is asked now: until it is, nothing is known of it, and its group may be due in an hour.
    fn undo_split(&self, device: usize, schedule: &mut Schedule) {
        self.replan(device, schedule);
        schedule.hurry(device);
    }

    /// All groups of a device are read as is known by now.
    fn replan(&self, device: usize, schedule: &mut Schedule) {
        for (group, blocks) in self.readers[device].blocks(&self.port.devices[device]).into_iter().enumerate() {
            schedule.replan(device, group, blocks);
        }
    }

    /// Late replies that were heard while something else was asked: they teach patience, and are told.
    fn late(&mut self, replies: Vec<LateReply>, schedule: &mut Schedule) {
        for LateReply { unit, after } in replies {
            let mut owner = None;
            for (at, target) in self.port.devices.iter().enumerate() {
                let is_its_own = target.unit.get() == unit && schedule.late(at, None, after);
                if schedule.late(at, Some(unit), after) || is_its_own {
                    owner = owner.or(Some((at, target)));
                }
            }
            let (Some((at, target)), Ok(unit)) = (owner, UnitId::try_from(unit)) else { continue };
            let (after_ms, ms) = (after.as_millis(), target.timeout.as_millis());
            let error = BusError::Late { unit, after_ms, ms };
            let trouble = self.records[at].add(Some(&error));
            self.facts.device(&target.spec.id, |facts| {
                *facts.failures.entry(error.name().to_owned()).or_default() += 1;
                facts.last_failure = Some(error.to_string());
                facts.trouble = trouble;
            });
        }
    }

    fn note(&mut self, device: usize, answer: &Result<Vec<u16>, BusError>, started: Stamp, ended: Stamp) {
        let trouble = self.records[device].add(answer.as_ref().err()).or_else(|| self.standing[device].clone());
        let was_late = self.records[device].is_mostly_late();
        self.exception = match answer {
            Err(BusError::Exception { code, .. }) => Some(*code),
            _ => None,
        };
        if let Some(why) = answer.as_ref().err().map(missing).filter(|why| *why != Missing::Exception) {
            self.why[device] = why;
        }
        self.facts.device(&self.port.devices[device].spec.id, |facts| {
            facts.requests += 1;
            facts.trouble = trouble;
            match answer {
                Ok(_) => {
                    facts.answers += 1;
                    facts.reply_ms = Some(ended.mono.since(started.mono).as_secs_f64() * 1e3);
                }
                Err(error) => {
                    *facts.failures.entry(error.name().to_owned()).or_default() += 1;
                    // Who is known to be late is not reported as absent.
                    if !(was_late && matches!(error, BusError::Timeout { .. })) {
                        facts.last_failure = Some(error.to_string());
                    }
                }
            }
        });
    }

    /// Tells in which state a device is, if it is known and another one than was told last. What finds no room in the queue is
    /// told after the next poll.
    fn judge(&mut self, device: usize, at: Stamp, schedule: &mut Schedule) {
        let target = &self.port.devices[device];
        let is_unreadable = self.standing[device].is_some();
        let parts = match schedule.judge(device) {
            Some(standing) => Parts::of(&standing, target),
            // It answers, and no block of it is left to be judged by.
            None if is_unreadable && self.may_answer(device, schedule) => Parts::All,
            None => return,
        };
        let seen = match &parts {
            Parts::All => DeviceState::Answering,
            Parts::Some { answering, blocks, .. } => DeviceState::Partly { answering: *answering, blocks: *blocks },
            Parts::None => DeviceState::Silent(self.why[device]),
        };
        self.note_state(device, seen, &parts);
        let (state, kind) = match &parts {
            Parts::All if is_unreadable => {
                (DeviceState::Silent(Missing::Decode), EventKind::DeviceSilent(Missing::Decode))
            }
            Parts::All => (seen, EventKind::DeviceAnswering),
            Parts::Some { answering, blocks, silent, .. } => {
                let silent = silent.as_str().into();
                (seen, EventKind::DevicePartly { answering: *answering, blocks: *blocks, silent })
            }
            Parts::None => (seen, EventKind::DeviceSilent(self.why[device])),
        };
        if !is_same(state, self.told[device]) {
            let sample = Sample { device: target.ix, at, payload: Payload::Noticed(kind) };
            if self.samples.try_send(sample).is_ok() {
                self.told[device] = state;
            }
        }
    }

    /// Whether a device is told as silent, or not at all, of which no block is.
    fn may_answer(&self, device: usize, schedule: &Schedule) -> bool {
        let mut is_silent = false;
        self.facts.device(&self.port.devices[device].spec.id, |facts| {
            is_silent = matches!(facts.state, DeviceState::Silent(_));
        });
        self.told[device] == DeviceState::Unknown || (is_silent && !schedule.has_silent(device))
    }

    fn note_state(&self, device: usize, seen: DeviceState, parts: &Parts) {
        let (id, bus) = (&self.port.devices[device].spec.id, &self.port.bus);
        let (mut has_changed, mut error) = (false, String::new());
        self.facts.device(id, |facts| {
            has_changed = !is_same(facts.state, seen);
            facts.state = seen;
            facts.silent_part = match parts {
                Parts::Some { trouble, .. } => Some(trouble.clone()),
                Parts::All | Parts::None => None,
            };
            if let DeviceState::Silent(_) = seen {
                facts.power_flow_kw = None;
                error = facts.last_failure.clone().unwrap_or_default();
            }
        });
        match parts {
            _ if !has_changed => {}
            Parts::All => tracing::info!(device = %id, %bus, "device answers"),
            Parts::Some { trouble, .. } => tracing::warn!(device = %id, %bus, trouble, "device answers in part"),
            Parts::None => tracing::warn!(device = %id, %bus, error, "device is silent"),
        }
    }
}

/// Why a device is silent may change, and is no news.
fn is_same(a: DeviceState, b: DeviceState) -> bool {
    a == b || matches!((a, b), (DeviceState::Silent(_), DeviceState::Silent(_)))
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod driver_tests;

#[cfg(all(test, feature = "demo"))]
mod tests {
    use hal::sim::{Behaviour, ModbusLine, ModbusServer, RegisterImage};
    use hal::{LinuxClock, Parity, SerialLine, StopBits};

    use super::*;
    use crate::health::Heartbeats;
    use crate::measure::Mono;
    use crate::spec::{DeviceIx, DeviceKind, DeviceSpec, PollGroup};

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
                    Payload::Registers { words, .. } => return (sample.device, words),
                    Payload::Noticed(_) => {}
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
}
