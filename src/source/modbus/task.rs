//! Carries a port's schedule to its bus and what comes back to the pipeline.

use std::sync::Arc;
use std::time::Duration;

use hal::{BusError, Clock, LateReply, Pause, RegisterBus, UnitId};
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::bus::{Bus, request};
use super::keeping::{Change, Keeping};
use super::limits::{Answer, Limits, Refusal};
use super::parts::Parts;
use super::queue::{Job, Read, Why};
use super::record::Record;
use super::schedule::{Next, ReadOutcome, Schedule, Setting};
use super::sunspec::{Survey, SurveyStep};
use super::unit::Ended;
use super::{Address, Port, Target, pauses};
use crate::health::{DeviceFacts, DeviceState, Heartbeat, StatusBoard};
use crate::measure::{EventKind, Missing, Mono, Payload, Sample, Stamp};
use crate::spec::{Origin, RegisterBlock};

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
    pauses::kept(&port).into_iter().for_each(|pause| bus.times().keep_pause(pause));
    driver.pauses(bus.times().pauses(), &mut schedule);
    loop {
        let started = now();
        heartbeat.beat(started.mono);
        driver.overdue(started, &mut schedule);
        match schedule.next(started.mono) {
            Next::Wait(until) => {
                let until = until.min(schedule.overdue_at().max(Mono(started.mono.0 + 1)));
                tokio::select! {
                    () = sleep_until(Instant::now() + until.since(started.mono).min(BEAT)) => {}
                    () = bus.listen() => {}
                    _ = stop.wait_for(|stop| *stop) => return,
                }
                driver.late(bus.times().take_late(), &mut schedule);
            }
            Next::Missing(job) => {
                driver.missing(job, started, &mut schedule);
            }
            Next::Do(Job::Read(job), patience) => {
                let target = &port.devices[job.device];
                bus.set_deadline(patience, target.timeout, job.ahead);
                let answer = {
                    let mut reading = std::pin::pin!(bus.read(target.unit_of(job.block), request(job)));
                    loop {
                        let wait = schedule.overdue_at().since(now().mono).min(BEAT);
                        tokio::select! {
                            answer = &mut reading => break answer,
                            () = sleep_until(Instant::now() + wait) => {
                                heartbeat.beat(now().mono);
                                driver.overdue(now(), &mut schedule);
                            }
                            _ = stop.wait_for(|stop| *stop) => return,
                        }
                    }
                };
                let ended = now();
                driver.late(bus.times().take_late(), &mut schedule);
                schedule.took(bus.times().took());
                driver.ended(job, answer, (started, ended), &mut schedule);
                driver.pauses(bus.times().pauses(), &mut schedule);
            }
        }
    }
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
    /// The pauses that are kept, as they were told last.
    pauses: Vec<Pause>,
    /// Which devices' polls are kept.
    keeping: Vec<Keeping>,
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
        let keeping = port.devices.iter().map(|_| Keeping::default()).collect();
        Self {
            port,
            samples,
            facts,
            readers,
            records,
            standing,
            why,
            told,
            exception: None,
            pauses: Vec::new(),
            keeping,
        }
    }

    fn settings(&self) -> Vec<Setting> {
        // Who is alone on a connection of its own takes nobody's time.
        let is_shared = self.port.devices.len() > 1 || !matches!(self.port.address, Address::Tcp(_));
        let silence = self.port.address.silence_cost();
        let setting = |(target, reader): (&Target, &Reader)| Setting {
            groups: target.spec.groups.iter().map(|group| group.interval).zip(reader.blocks(target)).collect(),
            unit: target.unit.get(),
            timeout: target.timeout,
            is_shared,
            pause: target.pause,
            silence,
        };
        self.port.devices.iter().zip(&self.readers).map(setting).collect()
    }

    /// A read that is due is not asked: its block is silent.
    fn missing(&mut self, job: Read, at: Stamp, schedule: &mut Schedule) {
        schedule.told(job.device, job.key(), at.mono);
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
        match &answer {
            Ok(_) | Err(BusError::Exception { .. }) => self.keeping[job.device].answered(),
            Err(_) => self.keeping[job.device].failed(),
        }
        let is_asked_again = self.learn(job, &answer, schedule);
        // A check is due to nobody: only an answer to it says something.
        let is_told = answer.is_ok() || job.why != Why::Check;
        if verdict == ReadOutcome::Over && !is_asked_again && is_told {
            schedule.told(job.device, job.key(), ended.mono);
            self.hand_over(job, ended, answer.map_err(|error| missing(&error)), schedule);
        }
        self.judge(job.device, ended, schedule);
    }

    /// What was due and is not told before its window ends is missing in it.
    fn overdue(&mut self, at: Stamp, schedule: &mut Schedule) {
        while let Some((read, is_silent)) = schedule.overdue(at.mono) {
            let why = if is_silent { self.why[read.device] } else { Missing::Overrun };
            let is_surveyed = match &self.readers[read.device] {
                Reader::Registers(_) => true,
                Reader::SunSpec(survey) => survey.is_known(),
            };
            if !is_surveyed {
                continue;
            }
            if why == Missing::Overrun {
                let interval = self.port.devices[read.device].spec.groups.get(read.group).map(|group| group.interval);
                self.keeping[read.device].missed(interval.unwrap_or_default(), at.mono);
            }
            self.exception = None;
            self.hand_over(read, at, Err(why), schedule);
        }
        for device in 0..self.keeping.len() {
            self.judge_keeping(device, at, schedule);
        }
    }

    /// Tells once that a device's polls are not kept, with why and what to do, and once that they are again.
    fn judge_keeping(&mut self, device: usize, at: Stamp, schedule: &Schedule) {
        let change = self.keeping[device].change(at.mono);
        if change.is_none() && !self.keeping[device].is_told() {
            return;
        }
        let Target { ix, spec, .. } = &self.port.devices[device];
        let (id, bus) = (&spec.id, &self.port.bus);
        let is_serial = matches!(self.port.address, Address::Serial(_));
        let words = self.keeping[device].is_told().then(|| schedule.load(device).words(id, is_serial));
        let kind = match (change, &words) {
            (Some(Change::Lost), Some(words)) => {
                tracing::warn!(device = %id, %bus, why = words, "device is not read as often as it should be");
                Some(EventKind::PollOverrun(words.as_str().into()))
            }
            (Some(Change::Kept), _) => {
                tracing::info!(device = %id, %bus, "device is read as often as it should be");
                Some(EventKind::PollKept)
            }
            _ => None,
        };
        self.facts.device(id, |facts| facts.overrun = words);
        if let Some(kind) = kind {
            self.send(Sample { device: *ix, at, payload: Payload::Noticed(kind) });
        }
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
                Err(why) => {
                    // "Busy" says nothing about what is there.
                    let refusal = self.exception.filter(|code| why == Missing::Exception && *code <= 4);
                    match refusal.map(|code| survey.refused(job.block, code)) {
                        Some(told) if told != SurveyStep::Part || !survey.is_known() => {
                            return self.surveyed(job.device, at, &told, schedule);
                        }
                        // One model may be silent while the others speak.
                        _ => match survey.silent(job.block, why) {
                            Some(missing) if missing.is_empty() => return,
                            Some(missing) => Payload::Values(missing),
                            None => Payload::Silent(why),
                        },
                    }
                }
            },
        };
        self.send(Sample { device: target.ix, at, payload });
        if let Reader::SunSpec(survey) = &mut self.readers[job.device]
            && survey.take_replanned()
        {
            self.replan_now(job.device, schedule);
        }
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
                self.replan_now(device, schedule);
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
                    Answer::Undone => self.replan_now(job.device, schedule),
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
                self.replan_now(job.device, schedule);
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

    /// Blocks are others, or whole again. They are asked now: until they are, nothing is known of them, and their group may be due in
    /// an hour.
    fn replan_now(&self, device: usize, schedule: &mut Schedule) {
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
            if after <= target.timeout {
                // In time by its own measure, and given up before that for others' sake: no fault of it.
                continue;
            }
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

    /// The pauses that the bus keeps now.
    fn pauses(&mut self, pauses: Vec<Pause>, schedule: &mut Schedule) {
        if pauses == self.pauses {
            return;
        }
        let is_kept_as_it_was = pauses::is_same(&pauses, &self.pauses);
        self.pauses = pauses;
        schedule.pauses(&self.pauses);
        if is_kept_as_it_was {
            return;
        }
        for target in &self.port.devices {
            let of_it = self.pauses.iter().filter(|pause| target.has(pause.unit)).map(|pause| pause.known).max();
            let pause_ms = of_it.map(|pause| pause.as_secs_f64() * 1e3);
            self.facts.device(&target.spec.id, |facts| facts.pause_ms = pause_ms);
        }
        if let Err(error) = pauses::keep(self.port, &self.pauses) {
            tracing::warn!(%error, "a pause was learned but cannot be kept; it is learned again after a start");
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
#[path = "task_tests.rs"]
mod tests;
