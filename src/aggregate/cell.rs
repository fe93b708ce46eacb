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
        sum: f64,
        last: f64,
        min: f64,
        max: f64,
        count: u32,
    },
    /// A code or a state: the newest.
    Word(IntervalValue),
}

impl Cell {
    pub(super) fn new(aggregation: Aggregation) -> Self {
        Self { aggregation, known: Known::Nothing, questionable: None }
    }

    pub(super) fn add(&mut self, outcome: Outcome) {
        let value = match outcome {
            Outcome::Good(value) => value,
            Outcome::Questionable(value, why) => {
                self.questionable = Some(why);
                value
            }
            Outcome::Missing(why) => {
                if matches!(self.known, Known::Nothing | Known::Missing(_)) {
                    self.known = Known::Missing(why);
                }
                return;
            }
        };
        self.known = match (value, std::mem::take(&mut self.known)) {
            (Value::Float(x), Known::Floats { sum, min, max, count, .. }) => Known::Floats {
                sum: sum + x,
                last: x,
                min: min.min(x),
                max: max.max(x),
                count: count.saturating_add(1),
            },
            (Value::Float(x), _) => Known::Floats { sum: x, last: x, min: x, max: x, count: 1 },
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
            Known::Floats { sum, last, min, max, count } => {
                let value = match self.aggregation {
                    Aggregation::Last => last,
                    // Rounding of the sum must not push the mean out of what was read.
                    Aggregation::Mean => (sum / f64::from(count)).clamp(min, max),
                };
                // A sum that overflowed has no mean; the newest value is true.
                let value = if value.is_finite() { value } else { last };
                IntervalValue::Float(Statistic { value, min, max, count })
            }
        };
        Some(PointInterval { point, value, questionable })
    }
}
