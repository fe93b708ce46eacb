//! Samples in, windows out: the two pure rooms between the sources and the journal, run as one.
//!
//! - A window ends when it ends, whatever the load: its end is an absolute time, how late it was closed is a fact
//!   ([`crate::health::PipelineFacts`]), and it holds what was captured in it: a sample from after its end waits.
//! - Nothing here waits for the journal: a window that even the journal cannot take, and samples that a source had no
//!   room for, are told by an event in the next window that it takes ([`EventKind::SamplesShed`]).

mod task;
#[cfg(test)]
mod tests;

pub(super) use task::run;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::aggregate::Aggregator;
use crate::health::StatusBoard;
use crate::journal::{Appended, JournalHandle};
use crate::measure::{Event, EventKind, Interval, IntervalValue, Mono, Payload, Sample, Stamp, Window};
use crate::normalise::Normaliser;
use crate::spec::{DeviceId, DeviceSpec, PointIx};

use super::generation::ProcessContext;
use crate::config::Plan;

/// Samples from after the end of the open window: those of the moment until it is closed. With more, it is closed at once.
const AHEAD_MAX: usize = 4096;
/// Windows that are closed at once, one after the other, after the agent was starved: half of what the journal's queue
/// takes. Of a longer time the oldest part becomes one window.
const CATCH_UP_MAX: u32 = 32;

/// The pipeline as a value.
#[derive(Debug)]
pub(super) struct Pipeline {
    normaliser: Normaliser,
    aggregator: Aggregator,
    /// Captured after the end of the open window, in the order in which they came.
    ahead: VecDeque<Sample>,
    window: Duration,
    /// Of each device its name and, if it has one, its power's place.
    powers: Vec<(DeviceId, Option<PointIx>)>,
    facts: Arc<StatusBoard>,
    /// The last window was not taken by the journal.
    stalled: bool,
}

impl Pipeline {
    /// `first` is told in the first window.
    pub(super) fn new(plan: &Plan, context: &ProcessContext, start: Stamp, first: Event) -> Self {
        let devices: Vec<DeviceSpec> = plan.devices.iter().map(|device| device.spec.clone()).collect();
        let mut aggregator =
            Aggregator::new(&devices, plan.aggregate.window, plan.aggregate.dead_band_kw, context.boot, start);
        aggregator.add_event(first);
        Self {
            normaliser: Normaliser::new(&devices),
            aggregator,
            ahead: VecDeque::new(),
            window: plan.aggregate.window,
            powers: devices.iter().map(|device| (device.id.clone(), device.points.roles().power)).collect(),
            facts: Arc::clone(&context.facts),
            stalled: false,
        }
    }

    /// When the open window ends.
    pub(super) fn next_end(&self) -> Mono {
        self.aggregator.next_end()
    }

    /// A sample goes into the window in which it was captured, or, if that is closed, into the open one.
    fn receive(&mut self, sample: Sample, now: Stamp, journal: &JournalHandle) {
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
        let Self { normaliser, aggregator, .. } = self;
        if let Payload::Vehicle(vehicle) = &sample.payload {
            aggregator.set_vehicle(sample.device, vehicle.clone());
        }
        let noticed = normaliser.readings(sample, |reading| aggregator.add(reading));
        for event in noticed {
            aggregator.add_event(event);
        }
    }

    /// The gateway itself has something to tell.
    fn notice(&mut self, kind: EventKind) {
        self.aggregator.add_event(Event { device: None, kind });
    }

    /// Hands the windows to the journal that ended `grace` before `now` or earlier, each with its own samples.
    fn close(&mut self, now: Stamp, grace: Duration, journal: &JournalHandle) {
        let span = u64::try_from((self.window * CATCH_UP_MAX).as_nanos()).unwrap_or(u64::MAX);
        let oldest = Mono(now.mono.0.saturating_sub(span));
        while self.next_end() <= now.mono && now.mono.since(self.next_end()) >= grace {
            let (end, next) = (self.next_end(), self.ahead.iter().map(|sample| sample.at.mono).min());
            let Some(window) = self.aggregator.close_before(now, next.unwrap_or(now.mono).max(oldest)) else { return };
            self.note_lateness(now.mono.since(end));
            self.keep(window, journal);
            self.take_ahead(self.next_end());
        }
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
        self.aggregator.add_event(Event { device: None, kind: EventKind::Stopping });
        let window = self.aggregator.finish(now);
        self.keep(window, journal);
    }

    fn keep(&mut self, mut window: Window, journal: &JournalHandle) {
        let mut untold = 0;
        self.facts.pipeline(|facts| untold = facts.samples_shed.saturating_sub(facts.samples_shed_told));
        if untold > 0 {
            window.events.push(Event { device: None, kind: EventKind::SamplesShed(untold) });
        }
        self.note(&window);
        match journal.append(window) {
            Appended::Queued => {
                self.stalled = false;
                self.facts.pipeline(|facts| facts.samples_shed_told += untold);
            }
            Appended::Stalled(lost) => {
                if !std::mem::replace(&mut self.stalled, true) {
                    tracing::error!("the journal stalls: windows are shed until it takes them again");
                }
                let points = lost.points();
                // Values go; what happened is told with the next window, but for the count of what went, which is told anew.
                let is_kept = |event: &Event| !matches!(event.kind, EventKind::SamplesShed(_));
                let gone = self.aggregator.carry_events(lost.events.into_iter().filter(is_kept).collect());
                self.facts.pipeline(|facts| facts.samples_shed += points + gone as u64);
            }
            // The supervisor is about to end this generation: its journal has gone.
            Appended::Closed => {}
        }
    }

    fn note_lateness(&self, late: Duration) {
        let late_ms = late.as_secs_f64() * 1e3;
        self.facts.pipeline(|facts| {
            facts.late_ms = Some(late_ms);
            facts.late_max_ms = facts.late_max_ms.max(late_ms);
        });
    }

    fn note(&self, window: &Window) {
        for interval in &window.intervals {
            let Some((id, Some(point))) = self.powers.get(usize::from(interval.device.0)) else { continue };
            if let Some(known) = value(interval, *point) {
                self.facts.device(id, |facts| facts.power_flow_kw = known);
            }
        }
        self.facts.pipeline(|facts| {
            facts.windows += 1;
            facts.points += window.points();
            facts.clock = Some(window.end.trust);
            if let Some(site) = &window.site {
                facts.site_power_kw = Some(site.power_flow_kw);
            }
        });
    }
}

/// What this window says of a point: `None` nothing, `Some(None)` that it is not known.
fn value(interval: &Interval, point: PointIx) -> Option<Option<f64>> {
    let found = interval.points.iter().find(|p| p.point == point)?;
    Some(match &found.value {
        IntervalValue::Float(statistic) => Some(statistic.value),
        IntervalValue::Integer(_) | IntervalValue::Text(_) | IntervalValue::Missing(_) => None,
    })
}
