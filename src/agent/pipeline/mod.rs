//! Samples in, windows out: the two pure rooms between the sources and the journal, run as one.
//!
//! Nothing here waits for the journal: a window that even the journal cannot take is told by an event in the
//! next one it does take ([`EventKind::SamplesShed`]).

mod task;
#[cfg(test)]
mod tests;

pub(super) use task::run;

use std::sync::Arc;

use crate::aggregate::Aggregator;
use crate::health::StatusBoard;
use crate::journal::{Appended, JournalHandle};
use crate::measure::{Event, EventKind, Interval, IntervalValue, Mono, Payload, Sample, Stamp, Window};
use crate::normalise::Normaliser;
use crate::spec::{DeviceId, DeviceSpec, PointIx};

use super::generation::ProcessContext;
use crate::config::Plan;

/// The pipeline as a value.
#[derive(Debug)]
pub(super) struct Pipeline {
    normaliser: Normaliser,
    aggregator: Aggregator,
    /// Of each device its name and, if it has one, its power's place.
    powers: Vec<(DeviceId, Option<PointIx>)>,
    facts: Arc<StatusBoard>,
    /// Measured values in windows that the journal could not take, not yet told.
    shed: u64,
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
            powers: devices.iter().map(|device| (device.id.clone(), power(device))).collect(),
            facts: Arc::clone(&context.facts),
            shed: 0,
        }
    }

    /// When the open window ends.
    pub(super) fn next_end(&self) -> Mono {
        self.aggregator.next_end()
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

    /// Hands the window that has ended by `now`, if one has, to the journal.
    fn close(&mut self, now: Stamp, journal: &JournalHandle) {
        if let Some(window) = self.aggregator.close(now) {
            self.keep(window, journal);
        }
    }

    /// Ends the open window before its time, with what it has, and says that the agent stops.
    fn finish(&mut self, now: Stamp, journal: &JournalHandle) {
        self.aggregator.add_event(Event { device: None, kind: EventKind::Stopping });
        let window = self.aggregator.finish(now);
        self.keep(window, journal);
    }

    fn keep(&mut self, mut window: Window, journal: &JournalHandle) {
        if self.shed > 0 {
            window.events.push(Event { device: None, kind: EventKind::SamplesShed(self.shed) });
        }
        self.note(&window);
        match journal.append(window) {
            Appended::Queued => self.shed = 0,
            Appended::Stalled(lost) => {
                if self.shed == 0 {
                    tracing::error!("the journal stalls: windows are shed until it takes them again");
                }
                // What is told in the next window must not count its own telling.
                let points = lost.points();
                self.shed += points;
                self.facts.pipeline(|facts| facts.samples_shed += points);
            }
            // The supervisor is about to end this generation: its journal has gone.
            Appended::Closed => {}
        }
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

fn power(device: &DeviceSpec) -> Option<PointIx> {
    (0..).map(PointIx).zip(device.points.iter()).find(|(_, p)| p.field.as_str() == "power_flow").map(|(ix, _)| ix)
}

/// What this window says of a point: `None` nothing, `Some(None)` that it is not known.
fn value(interval: &Interval, point: PointIx) -> Option<Option<f64>> {
    let found = interval.points.iter().find(|p| p.point == point)?;
    Some(match &found.value {
        IntervalValue::Float(statistic) => Some(statistic.value),
        IntervalValue::Integer(_) | IntervalValue::Text(_) | IntervalValue::Missing(_) => None,
    })
}
