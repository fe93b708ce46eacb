//! One point in the open window.

use crate::measure::{IntervalValue, Missing, Outcome, PointInterval, Questionable, Statistic, Value};
use crate::spec::{Aggregation, PointIx};

/// What is known so far of one point in the open window.
#[derive(Debug)]
pub(super) struct Cell {
    aggregation: Aggregation,
    known: Known,
    questionable: Option<Questionable>,
}

#[derive(Debug, Default)]
enum Known {
    #[default]
    Nothing,
    Missing(Missing),
    Floats {
        min: f64,
        max: f64,
        believed: Sum,
        /// What makes no sense: told only where nothing else was read.
        senseless: Sum,
    },
    /// A code or a state: the newest.
    Word(IntervalValue),
}

/// Numbers of a kind.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    sum: f64,
    last: f64,
    count: u32,
}

impl Sum {
    fn add(&mut self, x: f64) {
        *self = Self { sum: self.sum + x, last: x, count: self.count.saturating_add(1) };
    }
}

impl Cell {
    pub(super) fn new(aggregation: Aggregation) -> Self {
        Self { aggregation, known: Known::Nothing, questionable: None }
    }

    pub(super) fn add(&mut self, outcome: Outcome) {
        let (value, is_senseless) = match outcome {
            Outcome::Good(value) => (value, false),
            Outcome::Questionable(value, why) => {
                self.questionable = Some(why);
                (value, why.is_senseless())
            }
            Outcome::Missing(why) => {
                if matches!(self.known, Known::Nothing | Known::Missing(_)) {
                    self.known = Known::Missing(why);
                }
                return;
            }
        };
        self.known = match (value, std::mem::take(&mut self.known)) {
            (Value::Float(x), known) => {
                let (min, max, mut believed, mut senseless) = match known {
                    Known::Floats { min, max, believed, senseless } => (min.min(x), max.max(x), believed, senseless),
                    _ => (x, x, Sum::default(), Sum::default()),
                };
                if is_senseless {
                    senseless.add(x);
                } else {
                    believed.add(x);
                }
                Known::Floats { min, max, believed, senseless }
            }
            (Value::Integer(code), _) => Known::Word(IntervalValue::Integer(code)),
            (Value::Text(word), _) => Known::Word(IntervalValue::Text(word)),
        };
    }

    /// What the window knows of the point, and an empty cell for the next one.
    pub(super) fn cut(&mut self, point: PointIx) -> Option<PointInterval> {
        let questionable = self.questionable.take();
        let value = match std::mem::take(&mut self.known) {
            Known::Nothing => return None,
            Known::Missing(why) => IntervalValue::Missing(why),
            Known::Word(word) => word,
            Known::Floats { min, max, believed, senseless } => {
                let Sum { sum, last, count } = if believed.count > 0 { believed } else { senseless };
                let value = match self.aggregation {
                    Aggregation::Last => last,
                    // Rounding of the sum must not push the mean out of what was read.
                    Aggregation::Mean => (sum / f64::from(count)).clamp(min, max),
                };
                // A sum that overflowed has no mean; the newest value is true.
                let value = if value.is_finite() { value } else { last };
                let count = believed.count.saturating_add(senseless.count);
                IntervalValue::Float(Statistic { value, min, max, count })
            }
        };
        Some(PointInterval { point, value, questionable })
    }
}
