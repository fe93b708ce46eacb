//! Quantities of a moment, one side against the other.

use super::hold::{Finding, Held, Sides};
use crate::measure::Statistic;
use crate::spec::{Comparison, Origin, PointIx, PointSpec, Relation, Tolerance};

/// Quantities that were read further apart are not of one moment: a device is read within a second, or in groups.
const TOGETHER_NS: i64 = 1_000_000_000;
/// No quantity is compared that stands behind so many others.
const SLOTS_MAX: usize = 255;

/// The newest of a quantity.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    newest: Option<(f64, f64, i64)>,
    /// The step in which the device tells it.
    digit: f64,
}

impl Slot {
    pub(super) fn note(&mut self, Statistic { min, max, .. }: Statistic, now: i64) {
        self.newest = Some((min, max, now));
    }

    pub(super) fn lose(&mut self) {
        self.newest = None;
    }
}

/// The slot of a point, which is made if there is none; `None`: there are too many.
pub(super) fn slot(slots: &mut Vec<(PointIx, Slot)>, ix: PointIx, spec: &PointSpec) -> Option<u8> {
    let known = slots.iter().position(|(own, _)| *own == ix);
    let place = known.unwrap_or_else(|| {
        slots.push((ix, Slot { newest: None, digit: digit(spec) }));
        slots.len() - 1
    });
    u8::try_from(place).ok().filter(|_| place < SLOTS_MAX)
}

/// Floats, and what scales itself, are told in steps that nobody knows.
fn digit(spec: &PointSpec) -> f64 {
    match &spec.origin {
        Origin::Register(register) if register.scale.is_none() && register.raw.is_integer() => {
            spec.scaling.conversion.apply(1.0).abs()
        }
        _ => 0.0,
    }
}

/// From the least to the most that a number may be.
#[derive(Debug, Clone, Copy)]
struct Range {
    low: f64,
    high: f64,
}

impl Range {
    const ZERO: Self = Self { low: 0.0, high: 0.0 };

    fn of(slot: &Slot) -> Option<Self> {
        let (min, max, _) = slot.newest?;
        Some(Self { low: min - slot.digit, high: max + slot.digit })
    }

    fn plus(self, other: Self) -> Self {
        Self { low: self.low + other.low, high: self.high + other.high }
    }

    fn magnitude(self) -> Self {
        let (low, high) = (self.low.abs(), self.high.abs());
        let least = if self.low <= 0.0 && self.high >= 0.0 { 0.0 } else { low.min(high) };
        Self { low: least, high: low.max(high) }
    }

    /// Of two magnitudes.
    fn times(self, other: Self) -> Self {
        Self { low: self.low * other.low, high: self.high * other.high }
    }

    fn scaled(self, by: f64) -> Self {
        Self { low: self.low * by, high: self.high * by }
    }

    fn middle(self) -> f64 {
        f64::midpoint(self.low, self.high)
    }
}

/// A comparison of a device.
#[derive(Debug)]
pub(super) struct Check {
    pub(super) comparison: &'static Comparison,
    /// The slots of its fields, in their order.
    places: Box<[u8]>,
    tolerance: Tolerance,
    /// When it was compared last.
    compared: i64,
    held: Held,
    sides: Sides,
}

impl Check {
    pub(super) fn new(comparison: &'static Comparison, places: Box<[u8]>, tolerance: Tolerance) -> Self {
        Self { comparison, places, tolerance, compared: i64::MIN, held: Held::new(), sides: Sides::default() }
    }

    pub(super) fn begin_anew(&mut self) {
        self.compared = i64::MIN;
        self.held.begin_anew();
    }

    pub(super) fn stands(&self) -> bool {
        self.held.stands
    }

    pub(super) fn ended_at(&self) -> i64 {
        self.held.ended
    }

    /// With what is new.
    pub(super) fn judge(&mut self, slots: &[Slot], now: i64) {
        let of_slot = |place: &u8| slots.get(usize::from(*place)).and_then(|slot| slot.newest);
        let is_new = |(_, _, at): (f64, f64, i64)| at > self.compared && now.saturating_sub(at) <= TOGETHER_NS;
        if !self.places.iter().all(|place| of_slot(place).is_some_and(is_new)) {
            return;
        }
        let Some((value, expected, scale)) = self.both(slots) else { return };
        self.compared = now;
        self.sides = Sides { value: value.middle(), expected: expected.middle() };
        let finding = self.find(value, expected, scale);
        self.held.take(finding, now, self.tolerance.hold);
    }

    /// Both sides, and the size by which they are compared.
    fn both(&self, slots: &[Slot]) -> Option<(Range, Range, f64)> {
        let Comparison { value, expected, times, relation, .. } = self.comparison;
        let mut places = self.places.iter();
        let mut next = || Range::of(slots.get(usize::from(*places.next()?))?);
        let mut own = Range::ZERO;
        for _ in *value {
            own = own.plus(next()?);
        }
        let (mut other, mut scale) = (Range::ZERO, 0.0);
        for product in *expected {
            let mut factors = product.iter();
            factors.next()?;
            let first = next()?;
            // A product of one factor may have a sign.
            let mut term = if *relation == Relation::Same { first } else { first.magnitude() };
            for _ in factors {
                term = term.magnitude().times(next()?.magnitude());
            }
            let term = term.scaled(*times);
            scale += term.magnitude().high;
            other = other.plus(term);
        }
        if *relation != Relation::Same {
            own = own.magnitude();
        }
        Some((own, other, scale))
    }

    fn find(&self, value: Range, expected: Range, scale: f64) -> Finding {
        let by = |part: f64| {
            let off = (part * self.tolerance.part * scale).max(part * self.comparison.least);
            let is_too_large = value.low > expected.high + off && self.comparison.relation != Relation::NoSmaller;
            let is_too_small = value.high < expected.low - off && self.comparison.relation != Relation::NoLarger;
            (is_too_large, is_too_small)
        };
        match (by(1.0), by(0.8)) {
            ((true, _), _) => Finding::TooLarge,
            ((_, true), _) => Finding::TooSmall,
            (_, (false, false)) => Finding::Fits,
            _ => Finding::Neither,
        }
    }

    /// What it said last, and of which quantities.
    pub(super) fn told(&self) -> (Sides, &'static str, String) {
        let Comparison { value, expected, relation, unit, .. } = self.comparison;
        let sum = value.join(" + ");
        let products: Vec<String> = expected.iter().map(|product| product.join(" × ")).collect();
        let products = products.join(" + ");
        let what = match relation {
            Relation::Same | Relation::AsLarge => format!("{sum} against {products}"),
            Relation::NoLarger => format!("{sum} against {products}, the most that it can be"),
            Relation::NoSmaller => format!("{sum} against {products}, the least that it can be"),
        };
        (self.sides, unit.symbol(), what)
    }
}
