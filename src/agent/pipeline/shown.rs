//! What `status` shows of the devices' values, from the windows: the power, and what makes no sense.

use std::collections::BTreeSet;

use crate::agent::probe_command::probe_command;
use crate::config::{DevicePlan, Plan};
use crate::health::{ImplausibleFacts, QuestionableFacts, StatusBoard};
use crate::measure::{EventKind, IntervalValue, PointInterval, Questionable, Statistic, Verdict, Window};
use crate::spec::{DeviceId, PointIx, PointSpec, Points, Unit};

/// V. Below, no meter finds a frequency; an open line has less induced into it.
const LIVE_MIN: f64 = 30.0;

/// Of every device, by its place in the plan.
#[derive(Debug)]
pub(super) struct Shown {
    devices: Vec<Device>,
}

#[derive(Debug)]
struct Device {
    id: DeviceId,
    points: Points,
    /// The command that shows what it says.
    probe: Option<String>,
    /// What is on the board as questionable.
    doubted: BTreeSet<PointIx>,
    /// Points that show a voltage.
    live: BTreeSet<PointIx>,
}

impl Shown {
    pub(super) fn new(plan: &Plan) -> Self {
        let device = |device: &DevicePlan| Device {
            id: device.spec.id.clone(),
            points: device.spec.points.clone(),
            probe: probe_command(plan, device),
            doubted: BTreeSet::new(),
            live: BTreeSet::new(),
        };
        Self { devices: plan.devices.iter().map(device).collect() }
    }

    /// Puts a window's news on the board.
    pub(super) fn note(&mut self, Window { intervals, events, .. }: &Window, board: &StatusBoard) {
        for (device, kind) in events.iter().filter_map(|event| Some((event.device.as_ref()?, &event.kind))) {
            match kind {
                EventKind::Implausible(verdict) => board.device(device, |facts| {
                    facts.implausible.insert(verdict.rule.to_string(), implausible(verdict));
                }),
                EventKind::Plausible(verdict) => board.device(device, |facts| {
                    facts.implausible.remove(&*verdict.rule);
                }),
                _ => {}
            }
        }
        for interval in intervals {
            if let Some(device) = self.devices.get_mut(usize::from(interval.device.0)) {
                device.note(&interval.points, board);
            }
        }
    }
}

impl Device {
    fn note(&mut self, told: &[PointInterval], board: &StatusBoard) {
        self.note_voltage(told);
        let power_ix = self.points.roles().power;
        let mut power = None;
        let mut news = Vec::new();
        for told in told {
            let Some(spec) = self.points.get(usize::from(told.point.0)) else { continue };
            if Some(told.point) == power_ix {
                power = Some(number(told).map(|s| s.value).filter(|value| spec.makes_sense(*value)));
            }
            let mut doubt = doubt(told, spec);
            if let Some(doubt) = doubt.as_mut().filter(|doubt| spec.unit == Unit::Hertz && doubt.value == 0.0) {
                doubt.is_unpowered = self.live.is_empty();
            }
            let is_new = if doubt.is_some() {
                self.doubted.insert(told.point);
                true
            } else {
                self.doubted.remove(&told.point)
            };
            if is_new {
                news.push((spec.field.to_string(), doubt));
            }
        }
        if power.is_none() && news.is_empty() {
            return;
        }
        board.device(&self.id, |facts| {
            if let Some(power) = power {
                facts.power_flow_kw = power;
            }
            if facts.probe != self.probe {
                facts.probe.clone_from(&self.probe);
            }
            for (field, doubt) in news {
                match doubt {
                    Some(doubt) => facts.questionable.insert(field, doubt),
                    None => facts.questionable.remove(&field),
                };
            }
        });
    }

    fn note_voltage(&mut self, told: &[PointInterval]) {
        for told in told {
            let Some(spec) = self.points.get(usize::from(told.point.0)) else { continue };
            // Garbage is no voltage, but something is there.
            if spec.unit == Unit::Volt && number(told).is_some_and(|s| s.value.abs() >= LIVE_MIN) {
                self.live.insert(told.point);
            } else {
                self.live.remove(&told.point);
            }
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "what makes sense is far below 2^53 thousandths")]
fn implausible(verdict: &Verdict) -> ImplausibleFacts {
    let Verdict { rule: _, value_milli, expected_milli, unit, what } = verdict;
    ImplausibleFacts {
        value: *value_milli as f64 / 1000.0,
        expected: *expected_milli as f64 / 1000.0,
        unit: unit.to_string(),
        what: what.to_string(),
    }
}

fn number(told: &PointInterval) -> Option<Statistic> {
    match told.value {
        IntervalValue::Float(statistic) => Some(statistic),
        IntervalValue::Integer(_) | IntervalValue::Text(_) | IntervalValue::Missing(_) => None,
    }
}

/// What of a window's readings makes no sense, and why.
fn doubt(told: &PointInterval, spec: &PointSpec) -> Option<QuestionableFacts> {
    let why = told.questionable.filter(|why| why.is_senseless())?;
    let Statistic { value, min, max, .. } = number(told)?;
    // The value of the window may be that of others in it, which are well.
    let is_it = |value: &f64| match why {
        Questionable::CounterZero => *value == 0.0,
        _ => !spec.makes_sense(*value),
    };
    let value = [value, min, max].into_iter().find(is_it).unwrap_or(value);
    Some(QuestionableFacts {
        value,
        unit: spec.unit.symbol().to_owned(),
        why: why.as_str().to_owned(),
        is_unpowered: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Surroundings};
    use crate::health::{Severity, Subject, judge};
    use crate::measure::{ClockTrust, Missing};

    /// A window of an SDM630 that says 0 Hz, and the voltage of each phase.
    fn told(shown: &Shown, volts: Option<[f64; 3]>) -> Vec<PointInterval> {
        let number = |value| IntervalValue::Float(Statistic { value, min: value, max: value, count: 1 });
        let phases = ["voltage_l1", "voltage_l2", "voltage_l3"];
        let points = (0..).zip(shown.devices[0].points.iter());
        let of = |(ix, spec): (u16, &PointSpec)| {
            let field = spec.field.as_str();
            let (value, questionable) = match (field, phases.iter().position(|phase| *phase == field), volts) {
                ("frequency", _, _) => (number(0.0), Some(Questionable::OutOfRange)),
                (_, Some(phase), Some(volts)) => (number(volts[phase]), None),
                (_, Some(_), None) => (IntervalValue::Missing(Missing::Timeout), None),
                _ => return None,
            };
            Some(PointInterval { point: PointIx(ix), value, questionable })
        };
        points.filter_map(of).collect()
    }

    #[test]
    fn no_frequency_is_bad_only_where_there_is_a_voltage() {
        let text = "[gateway]\nid = \"gw\"\nsite = \"depot\"\nstate_dir = \"/var\"\n\
            [uplink]\nbrokers = [\"mqtt://127.0.0.1\"]\n[bus.lan]\nmodbus-tcp = {}\n\
            [device.grid]\nkind = \"meter\"\nbus = \"lan\"\naddress = \"10.0.0.1\"\nunit = 1\nprofile = \"eastron-sdm630\"\n";
        let plan = config::parse(text, "gateway.toml", &Surroundings::none()).expect("a plan");
        let (mut shown, board) = (Shown::new(&plan), StatusBoard::default());
        let dead = "grid measures no frequency: frequency 0 Hz, and no voltage: nothing is connected or energised";
        let cannot = "grid says what cannot be: frequency 0 Hz";
        for (volts, severity, begins) in [
            (Some([231.0, 230.0, 229.0]), Severity::Bad, cannot),
            // A contactor opens; a little is induced.
            (Some([0.0, 0.3, 4.0]), Severity::Watch, dead),
            // One phase is enough.
            (Some([0.0, 0.0, 229.0]), Severity::Bad, cannot),
            (None, Severity::Watch, dead),
        ] {
            let told = told(&shown, volts);
            shown.devices[0].note(&told, &board);
            let found = judge(&board.status(), &[], ClockTrust::Synced);
            let of_grid: Vec<_> = found.iter().filter(|f| matches!(f.subject, Subject::Device(_))).collect();
            assert!(of_grid.len() == 1 && of_grid[0].severity == severity, "{volts:?}: {of_grid:?}");
            assert!(of_grid[0].what.starts_with(begins), "{volts:?}: {of_grid:?}");
        }
    }
}
