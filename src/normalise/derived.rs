//! Points that are worked out of others of the same device. Pure.
//!
//! In: what was told of the operands in a sample. Out: the points that are to be told with it.
//!
//! - A point is worked out once all its operands that are read as often as the most frequent of them have news, so that what belongs
//!   together is not mixed with what was before it, however it is cut into samples. If one of them comes a second time meanwhile,
//!   nobody waits for the others. Of what is read less often the newest counts.
//! - It has the time of the sample that brought the last operand. An operand that is older than two of its polls is not known.
//! - Missing is what has a missing operand, for the reason of the first that is; doubted what has a doubted one. What divides by 0 is
//!   `Missing(Decode)`. As long as an operand was never told nothing is told.
//! - A rate is worked out between two readings of which the operand goes on from one to the other. After a break of a counter, and
//!   after a silence of more than three polls, it begins anew, and its first reading tells nothing.
//!
//! Nothing is remembered of the session before, nor over a restart.

use std::time::Duration;

use crate::measure::{Count, EventKind, Missing, Mono, Outcome, Questionable, Stamp, Value};
use crate::spec::{DerivedFormula, DerivedPoint, DeviceSpec, FieldName, Origin, PointSpec, SessionPoint};

/// Polls for which a value may stand with those of others: one may be late.
const POLLS_HELD: u32 = 2;
/// Polls without a reading after which a rate is that of nobody knows what.
const POLLS_SILENT: u32 = 3;
/// A session's source tells again every 10 s what does not change, and tells what it does not know any more.
const SESSION_HELD: Duration = Duration::from_secs(12);
/// How often a session tells what every message has, and what it tells on change.
const SESSION_PACES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(10)];

/// The derived points of a device.
#[derive(Debug)]
pub(super) struct DerivedPoints {
    /// By the place of a point in the device's list; `None` for what nobody needs.
    operands: Vec<Option<Operand>>,
    /// Each after all that it needs.
    points: Vec<Derived>,
    now: Mono,
    /// Whether the times are those of a source of its own.
    is_of_source: bool,
}

/// What was told last of a point that others need.
#[derive(Debug, Clone, Default)]
struct Operand {
    said: Option<(Said, Mono)>,
    is_new: bool,
}

/// A number as far as it is known, with the doubt in it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Said {
    Known(f64, Option<Questionable>),
    Missing(Missing),
}

#[derive(Debug)]
struct Derived {
    ix: u16,
    recipe: Recipe,
    needs: Vec<Need>,
}

/// An operand as a derived point needs it.
#[derive(Debug, Clone)]
struct Need {
    ix: usize,
    times: f64,
    held: Duration,
    /// One of those that are read most often: it is waited for.
    is_awaited: bool,
    has_news: bool,
}

#[derive(Debug)]
enum Recipe {
    Sum,
    Product,
    Quotient,
    Rate(Rate),
}

#[derive(Debug)]
struct Rate {
    over: Duration,
    silent: Duration,
    /// What the operand is worked out of, itself included: a break in any of them is one in it.
    fields: Vec<FieldName>,
    is_broken: bool,
    base: Option<Reached>,
    /// When it was read last.
    last: Mono,
}

/// Where the operand of a rate was, and when.
#[derive(Debug, Clone, Copy)]
struct Reached {
    value: f64,
    doubt: Option<Questionable>,
    at: Mono,
}

/// How often a point is read, how long its value may stand, and how long it may be silent.
#[derive(Debug, Clone, Copy)]
struct Pace {
    interval: Duration,
    held: Duration,
    silent: Duration,
}

impl DerivedPoints {
    /// `None` if the device has none.
    pub(super) fn new(device: &DeviceSpec) -> Option<Self> {
        let mut paces: Vec<Option<Pace>> = device.points.iter().map(|point| Pace::of(point, device)).collect();
        let mut points: Vec<Derived> = Vec::new();
        let mut left: Vec<(u16, &DerivedPoint)> =
            (0..).zip(device.points.iter()).filter_map(|(ix, point)| Some((ix, point.derived()?))).collect();
        if left.is_empty() {
            return None;
        }
        // Once around for each level of what is derived of what is derived; what needs itself is never reached, and never told.
        while let Some(next) = left.iter().position(|(_, point)| Derived::needs_of(point, device, &paces).is_some()) {
            let (ix, point) = left.remove(next);
            let Some(derived) = Derived::of(ix, point, device, &mut paces) else { continue };
            points.push(derived);
        }
        let mut operands = vec![None; device.points.len()];
        for need in points.iter().flat_map(|point| &point.needs) {
            operands[need.ix] = Some(Operand::default());
        }
        Some(Self { operands, points, now: Mono(0), is_of_source: false })
    }

    /// Before all that a sample tells.
    pub(super) fn begin(&mut self, at: Stamp) {
        let is_of_source = at.trust.is_of_source();
        if is_of_source != self.is_of_source {
            // The two lines of time have nothing to do with each other.
            self.clear();
        }
        self.is_of_source = is_of_source;
        self.now = if is_of_source { Mono(u64::try_from(at.utc.0).unwrap_or(0)) } else { at.mono };
    }

    /// What is told of a point.
    pub(super) fn note(&mut self, ix: u16, outcome: &Outcome) {
        let Some(Some(operand)) = self.operands.get_mut(usize::from(ix)) else { return };
        operand.said = Some((Said::from(outcome), self.now));
        operand.is_new = true;
    }

    /// Another session begins: what was told in the one before is nothing of it.
    pub(super) fn clear(&mut self) {
        self.operands.iter_mut().flatten().for_each(|operand| *operand = Operand::default());
        for point in &mut self.points {
            point.needs.iter_mut().for_each(|need| need.has_news = false);
            if let Recipe::Rate(rate) = &mut point.recipe {
                rate.base = None;
            }
        }
    }

    /// Tells what is to be told with what was noted. `noticed` is what the sample has shown of counters, and takes what the derived
    /// ones show; `read` makes of a number, with the doubt in it, what it is as the point of this place.
    pub(super) fn work_out(
        &mut self,
        noticed: &mut Vec<EventKind>,
        mut read: impl FnMut(u16, f64, Option<Questionable>, &mut Vec<EventKind>) -> Option<(Outcome, Option<Count>)>,
        mut tell: impl FnMut(u16, Outcome, Option<Count>),
    ) {
        for place in 0..self.points.len() {
            let Self { operands, points, now, .. } = self;
            let Some(point) = points.get_mut(place) else { break };
            point.notice_breaks(noticed);
            if !point.is_due(operands) {
                continue;
            }
            let ix = point.ix;
            let told = match point.worth(operands, *now) {
                None => None,
                Some(Said::Missing(why)) => Some((Outcome::Missing(why), None)),
                Some(Said::Known(value, doubt)) => read(ix, value, doubt, noticed),
            };
            let Some((outcome, count)) = told else { continue };
            self.note(ix, &outcome);
            tell(ix, outcome, count);
        }
        self.operands.iter_mut().flatten().for_each(|operand| operand.is_new = false);
    }
}

impl Derived {
    /// Each operand with its pace; `None` if that of one is not known yet.
    fn needs_of(point: &DerivedPoint, device: &DeviceSpec, paces: &[Option<Pace>]) -> Option<Vec<(usize, Pace)>> {
        let place = |field: &FieldName| {
            let ix = usize::from(device.points.place_of(field)?.0);
            Some((ix, paces.get(ix).copied()??))
        };
        point.formula.operands().map(place).collect()
    }

    /// Its own pace is that of its most frequent operands.
    fn of(ix: u16, point: &DerivedPoint, device: &DeviceSpec, paces: &mut [Option<Pace>]) -> Option<Self> {
        let needs = Self::needs_of(point, device, paces)?;
        let own = needs.iter().map(|(_, pace)| *pace).min_by_key(|pace| pace.interval)?;
        let times = |n: usize| match &point.formula {
            DerivedFormula::Sum(terms) | DerivedFormula::Product(terms) => terms.get(n).map_or(1.0, |term| term.times),
            DerivedFormula::Quotient(terms) => terms.get(n).map_or(1.0, |term| term.times),
            DerivedFormula::Rate { .. } => 1.0,
        };
        let recipe = match &point.formula {
            DerivedFormula::Sum(_) => Recipe::Sum,
            DerivedFormula::Product(_) => Recipe::Product,
            DerivedFormula::Quotient(_) => Recipe::Quotient,
            DerivedFormula::Rate { of, over } => Recipe::Rate(Rate {
                over: *over,
                silent: point.stale_after.unwrap_or(own.silent),
                fields: all_of(of, device),
                is_broken: false,
                base: None,
                last: Mono(0),
            }),
        };
        let need = |(n, (ix, pace)): (usize, &(usize, Pace))| Need {
            ix: *ix,
            times: times(n),
            held: point.stale_after.unwrap_or(pace.held),
            is_awaited: pace.interval == own.interval,
            has_news: false,
        };
        let needs = needs.iter().enumerate().map(need).collect();
        *paces.get_mut(usize::from(ix))? = Some(own);
        Some(Self { ix, recipe, needs })
    }

    fn notice_breaks(&mut self, noticed: &[EventKind]) {
        if let Recipe::Rate(rate) = &mut self.recipe {
            let is_own =
                |kind: &EventKind| matches!(kind, EventKind::CounterBreak { field, .. } if rate.fields.contains(field));
            rate.is_broken |= noticed.iter().any(is_own);
        }
    }

    /// Whether it is to be told with what is new.
    fn is_due(&mut self, operands: &[Option<Operand>]) -> bool {
        let is_new = |need: &Need| operands.get(need.ix).and_then(Option::as_ref).is_some_and(|operand| operand.is_new);
        let (mut any, mut again) = (false, false);
        for need in self.needs.iter_mut().filter(|need| need.is_awaited) {
            if is_new(need) {
                again |= need.has_news;
                (any, need.has_news) = (true, true);
            }
        }
        let is_due = any && (again || self.needs.iter().all(|need| need.has_news || !need.is_awaited));
        if is_due {
            self.needs.iter_mut().for_each(|need| need.has_news = false);
        }
        is_due
    }

    /// `None`: there is nothing to be told.
    fn worth(&mut self, operands: &[Option<Operand>], now: Mono) -> Option<Said> {
        let mut values = Vec::with_capacity(self.needs.len());
        let (mut missing, mut doubt) = (None, None);
        for need in &self.needs {
            let (said, at) = operands.get(need.ix)?.as_ref()?.said?;
            match said {
                Said::Missing(why) => missing = missing.or(Some(why)),
                Said::Known(..) if now.since(at) > need.held => missing = missing.or(Some(Missing::Stale)),
                Said::Known(value, why) => {
                    values.push(need.times * value);
                    doubt = doubt.or(why);
                }
            }
        }
        if let Some(why) = missing {
            return Some(Said::Missing(why));
        }
        let value = match (&mut self.recipe, values.as_slice()) {
            (Recipe::Rate(rate), [value]) => return rate.read(*value, doubt, now),
            (Recipe::Sum, values) => values.iter().sum(),
            (Recipe::Product, values) => values.iter().product(),
            (Recipe::Quotient, [dividend, divisor]) if *divisor != 0.0 => dividend / divisor,
            (Recipe::Quotient | Recipe::Rate(_), _) => return Some(Said::Missing(Missing::Decode)),
        };
        Some(Said::Known(value, doubt))
    }
}

impl Rate {
    /// The change in a second since the last time that it was told.
    fn read(&mut self, value: f64, doubt: Option<Questionable>, now: Mono) -> Option<Said> {
        match doubt {
            None | Some(Questionable::Frozen | Questionable::Rate | Questionable::Clock) => {}
            // It says nothing of where the operand stands.
            Some(
                Questionable::OutOfRange
                | Questionable::CounterZero
                | Questionable::CounterBackwards
                | Questionable::CounterJump,
            ) => return Some(Said::Missing(Missing::Decode)),
        }
        let goes_on = !std::mem::take(&mut self.is_broken) && now.since(self.last) <= self.silent;
        self.last = now;
        let reached = Reached { value, doubt, at: now };
        let Some(base) = self.base.filter(|_| goes_on) else {
            self.base = Some(reached);
            return None;
        };
        let passed = now.since(base.at);
        if passed.is_zero() || passed < self.over {
            return None;
        }
        self.base = Some(reached);
        Some(Said::Known((value - base.value) / passed.as_secs_f64(), base.doubt.or(doubt)))
    }
}

impl From<&Outcome> for Said {
    fn from(outcome: &Outcome) -> Self {
        let (value, doubt) = match outcome {
            Outcome::Good(value) => (value, None),
            Outcome::Questionable(value, why) => (value, Some(*why)),
            Outcome::Missing(why) => return Self::Missing(*why),
        };
        match value {
            Value::Float(float) => Self::Known(*float, doubt),
            #[allow(clippy::cast_precision_loss, reason = "a code or a count beyond 2^53 is none that anybody adds up")]
            Value::Integer(integer) => Self::Known(*integer as f64, doubt),
            Value::Text(_) => Self::Missing(Missing::Decode),
        }
    }
}

impl Pace {
    /// `None` for what is worked out: it follows from the operands.
    fn of(point: &PointSpec, device: &DeviceSpec) -> Option<Self> {
        let polled = |interval: Duration, longest: Duration| Self {
            interval,
            held: longest * POLLS_HELD,
            silent: longest * POLLS_SILENT,
        };
        match &point.origin {
            Origin::Derived(_) => None,
            Origin::Register(register) => {
                let extent = register.extent();
                let reads = device.groups.iter().filter(|group| group.blocks.iter().any(|block| block.covers(&extent)));
                let interval = reads.map(|group| group.interval).min().unwrap_or(SESSION_HELD);
                Some(polled(interval, interval))
            }
            // Which of its models are read seldom is found at the device.
            Origin::SunSpec(_) => {
                let intervals = || device.groups.iter().map(|group| group.interval);
                let often = intervals().min().unwrap_or(SESSION_HELD);
                Some(polled(often, intervals().max().unwrap_or(often)))
            }
            Origin::Signal(signal) => {
                let interval = signal.stale_after;
                Some(Self { interval, held: interval, silent: interval })
            }
            Origin::Session(SessionPoint { value }) => {
                let [always, on_change] = SESSION_PACES;
                let interval = if value.is_told_on_change() { on_change } else { always };
                Some(Self { interval, held: SESSION_HELD, silent: SESSION_HELD })
            }
        }
    }
}

/// A point and all that it is worked out of. Bounded by the number of points, whatever is written of them.
fn all_of(field: &FieldName, device: &DeviceSpec) -> Vec<FieldName> {
    let mut all = vec![field.clone()];
    let mut at = 0;
    while let Some(field) = all.get(at) {
        let spec = device.points.iter().find(|point| point.field == *field);
        let further: Vec<FieldName> = spec
            .and_then(PointSpec::derived)
            .into_iter()
            .flat_map(|derived| derived.formula.operands())
            .filter(|field| !all.contains(field))
            .cloned()
            .collect();
        all.extend(further);
        at += 1;
    }
    all
}

#[cfg(test)]
#[path = "derived_tests.rs"]
mod tests;
