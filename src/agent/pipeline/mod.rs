//! Samples in, windows out: the three pure rooms between the sources and the journal, run as one.
//!
//! - A window ends when it ends, whatever the load: its end is an absolute time, how late it was closed is a fact
//!   ([`crate::health::PipelineFacts`]), and it holds what was captured in it: a sample from after its end waits.
//! - What comes late, with a time of its source's own, goes into windows of its own beside these, and to the journal as that
//!   has room beside what is of the moment.
//! - Nothing here waits for the journal: a window that even the journal cannot take, and samples that a source had no
//!   room for, are told by an event in the next window that it takes ([`EventKind::SamplesShed`]).
//! - Nothing is told more often than once a second for each cause, whatever flaps (`events.rs`); what comes late, once in a second of its
//!   own time.

mod events;
mod shown;
mod task;
#[cfg(test)]
mod tests;

pub(super) use task::run;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::aggregate::{Aggregator, LateWindows};
use crate::derive::Deriver;
use crate::health::{DepotWindow, QuarterFacts, StatusBoard};
use crate::journal::{Appended, JournalHandle};
use crate::live::Live;
use crate::measure::{
    Checkpoint, EnergyDelta, Event, EventKind, Mono, Notice, Payload, Sample, Schema, SiteInterval, Stamp, Window,
};
use crate::normalise::Normaliser;
use crate::spec::{DeviceIx, DeviceSpec};

use self::events::EventBound;
use self::shown::Shown;
use super::generation::ProcessContext;
use crate::config::Plan;

/// Samples from after the end of the open window: those of the moment until it is closed. With more, it is closed at once.
const AHEAD_MAX: usize = 4096;
/// Windows that are closed at once, one after the other, after the agent was starved: half of what the journal's queue
/// takes. Of a longer time the oldest part becomes one window.
const CATCH_UP_MAX: u32 = 32;

/// Late windows that wait for the journal: a minute's each, they are two days. Beyond, the oldest go.
const LATE_WINDOWS_MAX: usize = 4096;
/// So many that wait, and what comes late goes into windows of this length: a second, ten, a minute.
const LATE_COARSER: [(usize, Duration); 3] =
    [(512, Duration::from_secs(1)), (1024, Duration::from_secs(10)), (2048, Duration::from_secs(60))];
/// Between two times at which what waits of a device that comes late is told though nothing more has come.
const LATE_EVENTS_EVERY: Duration = Duration::from_secs(1);
/// A source's own time that goes back by more was set back; by less, what it sends is out of order, and is bound all the same.
const OWN_TIME_BACK_NS: i64 = 1_000_000_000;
/// Between two events of what was shed.
const SHED_TOLD_EVERY: Duration = Duration::from_secs(1);

/// The pipeline as a value.
#[derive(Debug)]
pub(super) struct Pipeline {
    normaliser: Normaliser,
    aggregator: Aggregator,
    deriver: Deriver,
    /// How what is derived stands after the last window that was handed over.
    checkpoint: Arc<Checkpoint>,
    schema: Schema,
    /// Captured after the end of the open window, in the order in which they came.
    ahead: VecDeque<Sample>,
    window: Duration,
    shown: Shown,
    late: LateWindows,
    /// Events of devices that come late.
    late_events: BTreeMap<DeviceIx, LateEvents>,
    /// Late windows that the journal has no room for yet.
    late_closed: VecDeque<Window>,
    facts: Arc<StatusBoard>,
    live: Arc<Live>,
    /// The last window was not taken by the journal.
    stalled: bool,
    events: EventBound,
    /// What was shed is told again from here on.
    shed_from: Mono,
}

/// Events of a device that come late, bound by the time that they have.
#[derive(Debug)]
struct LateEvents {
    bound: EventBound,
    /// The newest time that has come.
    newest: Stamp,
    /// When nothing more had come and all that waited was told last, by our clock.
    released: Mono,
}

impl Pipeline {
    /// `first` are told in the first window; `checkpoint` is where the life before ended.
    pub(super) fn new(
        plan: &Plan,
        context: &ProcessContext,
        start: Stamp,
        first: Vec<EventKind>,
        checkpoint: Checkpoint,
    ) -> Self {
        let devices: Vec<DeviceSpec> = plan.devices.iter().map(|device| device.spec.clone()).collect();
        let mut aggregator =
            Aggregator::new(&devices, plan.aggregate.window, plan.aggregate.dead_band_kw, context.boot, start);
        for kind in first {
            let _ = aggregator.add_event(Event { device: None, kind });
        }
        let (mut normaliser, mut deriver) = (
            Normaliser::new(&devices),
            Deriver::new(&devices, plan.aggregate.window, plan.aggregate.dead_band_kw, context.boot)
                .with_site(plan.site.clone()),
        );
        normaliser.resume(&checkpoint, context.boot, start);
        deriver.resume(&checkpoint, start);
        Self {
            normaliser,
            aggregator,
            deriver,
            checkpoint: Arc::new(checkpoint),
            schema: plan.schema(),
            ahead: VecDeque::new(),
            window: plan.aggregate.window,
            shown: Shown::new(plan),
            late: LateWindows::new(&devices, plan.aggregate.dead_band_kw, context.boot),
            late_events: BTreeMap::new(),
            late_closed: VecDeque::new(),
            facts: Arc::clone(&context.facts),
            live: Arc::clone(&context.live),
            stalled: false,
            events: EventBound::default(),
            shed_from: start.mono,
        }
    }

    /// When the open window ends.
    pub(super) fn next_end(&self) -> Mono {
        self.aggregator.next_end()
    }

    /// A sample goes into the window in which it was captured, or, if that is closed, into the open one.
    fn receive(&mut self, sample: Sample, now: Stamp, journal: &JournalHandle) {
        if sample.at.trust.is_of_source() {
            self.take_late(&sample);
            self.hand_over_late(journal);
            return;
        }
        if self.ahead.len() >= AHEAD_MAX {
            self.close(now, Duration::ZERO, journal);
        }
        if sample.at.mono < self.next_end() || self.ahead.len() >= AHEAD_MAX {
            self.take(&sample);
        } else {
            self.ahead.push_back(sample);
        }
    }

    fn take(&mut self, sample: &Sample) {
        self.facts.pipeline(|facts| facts.samples += 1);
        let Self { normaliser, aggregator, deriver, .. } = self;
        if let Payload::Vehicle(vehicle) = &sample.payload {
            aggregator.set_vehicle(sample.device, vehicle.clone());
            deriver.set_vehicle(sample.device, vehicle.clone());
            self.late.set_vehicle(sample.device, vehicle.clone());
        }
        if let Payload::Session(session) = &sample.payload {
            aggregator.set_session(sample.device, session.clone());
            deriver.set_session(sample.device, session.clone(), sample.at);
            self.late.set_session(sample.device, session.clone());
        }
        if let Payload::Noticed(kind) = &sample.payload {
            deriver.notice(sample.device, kind, sample.at);
        }
        let mut begun = None;
        let noticed = normaliser.readings(sample, |reading| {
            deriver.add(&reading);
            if let Some(session) = deriver.session_news(reading.device) {
                aggregator.set_session(reading.device, session.clone());
                begun = Some(session);
            }
            aggregator.add(reading);
        });
        if let Some(session) = begun {
            self.late.set_session(sample.device, session);
        }
        noticed.into_iter().for_each(|event| self.tell(event, sample.at.mono));
    }

    /// A sample with a time of its source's own.
    fn take_late(&mut self, sample: &Sample) {
        self.facts.pipeline(|facts| {
            facts.samples += 1;
            facts.samples_late += 1;
        });
        let waiting = self.late_closed.len();
        let coarser = LATE_COARSER.iter().rev().find(|(from, _)| waiting >= *from).map(|(_, length)| *length);
        let length = coarser.map_or(self.window, |coarser| coarser.max(self.window));
        let Self { normaliser, aggregator, deriver, late, late_events, late_closed, .. } = self;
        let device = sample.device;
        let occupant = || (aggregator.vehicle(device).cloned(), aggregator.session(device).cloned());
        late_closed.extend(late.open(device, sample.at, length, occupant).map(|window| completed(deriver, window)));
        if let Payload::Vehicle(vehicle) = &sample.payload {
            late.set_vehicle(device, vehicle.clone());
            deriver.set_vehicle(device, vehicle.clone());
            aggregator.set_vehicle(device, vehicle.clone());
        }
        if let Payload::Session(session) = &sample.payload {
            late.set_session(device, session.clone());
            deriver.set_session(device, session.clone(), sample.at);
            aggregator.set_session(device, session.clone());
        }
        if let Payload::Noticed(kind) = &sample.payload {
            deriver.notice(device, kind, sample.at);
        }
        let noticed = normaliser.readings(sample, |reading| {
            deriver.add(&reading);
            if let Some(session) = deriver.session_news(device) {
                aggregator.set_session(device, session.clone());
                late.set_session(device, session);
            }
            late.add(reading);
        });
        let (own_time, mut gone) = (Mono(u64::try_from(sample.at.utc.0).unwrap_or(0)), 0);
        let mut tell = |event| gone += u64::from(!late.add_event(device, event));
        let new = || LateEvents { bound: EventBound::default(), newest: sample.at, released: Mono(0) };
        let events = late_events.entry(device).or_insert_with(new);
        if events.newest.utc.0.saturating_sub(sample.at.utc.0) > OWN_TIME_BACK_NS {
            // By the time before nothing would be due until it is reached again.
            events.bound.release_all(own_time, &mut tell);
            (events.bound, events.newest) = (EventBound::default(), sample.at);
        }
        if sample.at.utc >= events.newest.utc {
            events.newest = sample.at;
        }
        events.bound.release(own_time, &mut tell);
        noticed.into_iter().for_each(|event| events.bound.take(event, own_time, &mut tell));
        self.count_shed(gone);
    }

    /// Of devices of which nothing more comes late tells the last that waits: once a second by our clock, or at the end at once.
    fn release_late(&mut self, now: Mono, is_end: bool) {
        let Self { deriver, late, late_events, late_closed, window, .. } = self;
        let mut gone = 0;
        for (&device, events) in late_events {
            let is_due = is_end || (late.is_idle(device) && now.since(events.released) >= LATE_EVENTS_EVERY);
            if !events.bound.holds_any() || !is_due {
                continue;
            }
            events.released = now;
            let ended = late.open(device, events.newest, *window, || (None, None));
            late_closed.extend(ended.map(|window| completed(deriver, window)));
            events.bound.release_all(Mono(0), &mut |event| gone += u64::from(!late.add_event(device, event)));
        }
        self.count_shed(gone);
    }

    fn count_shed(&self, samples: u64) {
        if samples > 0 {
            self.facts.pipeline(|facts| facts.samples_shed += samples);
        }
    }

    /// Of late windows that wait only so many are left, the newest. Of the others the values are counted, and what happened is told
    /// in the open window, in its order.
    fn shed_late(&mut self, left: usize) {
        let surplus = self.late_closed.len().saturating_sub(left);
        let (mut points, mut events) = (0, Vec::new());
        for lost in self.late_closed.drain(..surplus) {
            points += lost.points();
            self.deriver.take_back(&lost);
            events.extend(lost.events);
        }
        let gone = self.aggregator.carry_events(events);
        self.count_shed(points + gone as u64);
    }

    /// Hands late windows to the journal, as far as it has room for them. Answers whether some are left.
    fn hand_over_late(&mut self, journal: &JournalHandle) -> bool {
        while let Some(mut window) = self.late_closed.pop_front() {
            self.shown.note(&window, &self.facts);
            let points = window.points();
            let before = self.advance(&mut window);
            match journal.append_late(window) {
                Appended::Queued => self.facts.pipeline(|facts| {
                    facts.windows_late += 1;
                    facts.points += points;
                }),
                Appended::Stalled(window) => {
                    self.checkpoint = before;
                    self.late_closed.push_front(window);
                    break;
                }
                Appended::Closed => {}
            }
        }
        self.shed_late(LATE_WINDOWS_MAX);
        !self.late_closed.is_empty()
    }

    /// Nothing more comes: ends the late windows, too. Answers whether some wait for the journal.
    fn finish_late(&mut self, journal: &JournalHandle) -> bool {
        self.release_late(Mono::MAX, true);
        let Self { deriver, late, late_closed, .. } = self;
        late_closed.extend(late.finish().into_iter().map(|window| completed(deriver, window)));
        self.hand_over_late(journal)
    }

    /// The gateway itself has something to tell.
    fn notice(&mut self, notice: Notice, now: Stamp) {
        let Notice { kind, is_rare } = notice;
        let event = Event { device: None, kind };
        if is_rare {
            add(&mut self.aggregator, &self.facts, event);
        } else {
            self.tell(event, now.mono);
        }
    }

    /// Not more often than its cause may be told.
    fn tell(&mut self, event: Event, now: Mono) {
        let Self { aggregator, events, facts, .. } = self;
        events.take(event, now, &mut |event| add(aggregator, facts, event));
    }

    /// Hands the windows to the journal that ended `grace` before `now` or earlier, each with its own samples.
    fn close(&mut self, now: Stamp, grace: Duration, journal: &JournalHandle) {
        let span = u64::try_from((self.window * CATCH_UP_MAX).as_nanos()).unwrap_or(u64::MAX);
        let oldest = Mono(now.mono.0.saturating_sub(span));
        while self.next_end() <= now.mono && now.mono.since(self.next_end()) >= grace {
            let (end, next) = (self.next_end(), self.ahead.iter().map(|sample| sample.at.mono).min());
            let Self { aggregator, events, facts, .. } = self;
            events.release(end, &mut |event| add(aggregator, facts, event));
            let Some(window) = self.aggregator.close_before(now, next.unwrap_or(now.mono).max(oldest)) else { return };
            self.note_lateness(now.mono.since(end));
            let is_due = end >= self.shed_from;
            self.keep(window, is_due, journal);
            self.take_ahead(self.next_end());
            self.release_late(now.mono, false);
            let Self { deriver, late, late_closed, .. } = self;
            late_closed.extend(late.close_idle().into_iter().map(|window| completed(deriver, window)));
        }
        self.hand_over_late(journal);
    }

    /// What has waited and was captured before `end` goes into the open window.
    fn take_ahead(&mut self, end: Mono) {
        let (due, ahead): (VecDeque<_>, VecDeque<_>) = self.ahead.drain(..).partition(|sample| sample.at.mono < end);
        self.ahead = ahead;
        due.iter().for_each(|sample| self.take(sample));
    }

    /// Ends the open window before its time, with what it has, and says that the agent stops.
    fn finish(&mut self, now: Stamp, journal: &JournalHandle) {
        self.close(now, Duration::ZERO, journal);
        self.take_ahead(Mono(u64::MAX));
        // What came late and the journal had no room for until now.
        self.shed_late(0);
        let Self { aggregator, events, facts, .. } = self;
        events.release_all(now.mono, &mut |event| add(aggregator, facts, event));
        add(aggregator, facts, Event { device: None, kind: EventKind::Stopping });
        let window = self.aggregator.finish(now);
        self.keep(window, true, journal);
    }

    /// `tells_shed`: whether what was shed may be told again.
    fn keep(&mut self, mut window: Window, tells_shed: bool, journal: &JournalHandle) {
        let mut untold = 0;
        self.facts.pipeline(|facts| untold = facts.samples_shed.saturating_sub(facts.samples_shed_told));
        if !tells_shed {
            untold = 0;
        }
        if untold > 0 {
            self.shed_from = window.end.mono + SHED_TOLD_EVERY;
            window.events.push(Event { device: None, kind: EventKind::SamplesShed(untold) });
        }
        self.deriver.complete(&mut window, false);
        self.deriver.tell_after_backlog(&mut window, journal.progress().borrow().history_waiting > 0);
        self.live.tell(&window);
        self.note(&window);
        let before = self.advance(&mut window);
        self.note_depot(&window);
        match journal.append(window) {
            Appended::Queued => {
                self.stalled = false;
                self.facts.pipeline(|facts| {
                    facts.windows_taken += 1;
                    facts.samples_shed_told += untold;
                });
            }
            Appended::Stalled(lost) => {
                if !std::mem::replace(&mut self.stalled, true) {
                    tracing::error!("the journal stalls: windows are shed until it takes them again");
                }
                let points = lost.points();
                self.checkpoint = before;
                self.deriver.take_back(&lost);
                // Values go; what happened is told with the next window, but for the count of what went, which is told anew.
                let is_kept = |event: &Event| !matches!(event.kind, EventKind::SamplesShed(_));
                let gone = self.aggregator.carry_events(lost.events.into_iter().filter(is_kept).collect());
                self.facts.pipeline(|facts| facts.samples_shed += points + gone as u64);
            }
            // The supervisor is about to end this generation: its journal has gone.
            Appended::Closed => {}
        }
    }

    /// How what is derived stands after a window goes with it. Answers how it stood before.
    fn advance(&mut self, window: &mut Window) -> Arc<Checkpoint> {
        let before = Arc::clone(&self.checkpoint);
        if window.is_progress(&self.checkpoint) {
            window.advance(Arc::make_mut(&mut self.checkpoint), &self.schema);
        }
        window.checkpoint = Some(Arc::clone(&self.checkpoint));
        before
    }

    fn note_depot(&self, window: &Window) {
        self.facts.depot(|facts| {
            if let Some(site) = &window.site {
                facts.newest = Some(DepotWindow { time_ns: window.end.utc, rollup: (**site).clone() });
            }
            if let Some(told) = window.site_intervals.last() {
                facts.quarter = Some(quarter_facts(told));
            }
            facts.exceeded.clone_from(&self.checkpoint.site.exceeded);
        });
    }

    fn note_lateness(&self, late: Duration) {
        let late_ms = late.as_secs_f64() * 1e3;
        self.facts.pipeline(|facts| {
            facts.late_ms = Some(late_ms);
            facts.late_max_ms = facts.late_max_ms.max(late_ms);
        });
    }

    fn note(&mut self, window: &Window) {
        self.shown.note(window, &self.facts);
        self.facts.pipeline(|facts| {
            facts.windows += 1;
            facts.points += window.points();
            facts.clock = Some(window.end.trust);
            if let Some(power) = window.site.as_ref().and_then(|site| site.power) {
                facts.site_power_kw = Some(power.flow_kw);
            }
        });
    }
}

fn quarter_facts(told: &SiteInterval) -> QuarterFacts {
    let kwh = |delta: Option<EnergyDelta>| delta.map_or(0.0, EnergyDelta::kwh);
    QuarterFacts {
        start: told.start.rfc3339(),
        complete: told.is_complete,
        energy_import_kwh: kwh(told.energy.import),
        energy_export_kwh: kwh(told.energy.export),
        known_s: told.energy.known.unwrap_or_default().as_secs_f64(),
        power_import_mean_kw: told.means().map(|(import, _)| import),
        power_import_forecast_kw: told.forecast.map(|(import, _)| import),
        power_import_peak_kw: told.import_max_kw,
        power_export_peak_kw: told.export_max_kw,
    }
}

/// A late window with what it knows of energy.
fn completed(deriver: &mut Deriver, mut window: Window) -> Window {
    deriver.complete(&mut window, true);
    window
}

/// An event for which the open window has no room is counted.
fn add(aggregator: &mut Aggregator, facts: &StatusBoard, event: Event) {
    if !aggregator.add_event(event) {
        facts.pipeline(|facts| facts.samples_shed += 1);
    }
}
