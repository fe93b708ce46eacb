//! What a device really had, and when; and whether a delivered value is one of those.

use std::collections::BTreeMap;
use std::time::Duration;

use super::batch::is_point;
use super::line::{Line, Value};

/// Of a 32-bit float that was converted (W to kW) in 64 bits and printed: half a unit in the last place of the
/// float is 6e-8 of the value; a wrong step is off by more than 1e-6.
const RELATIVE_ERROR: f64 = 2e-7;

/// All that one device ever offered, by the wire's field names, in the wire's units.
#[derive(Debug, Clone, Default)]
pub struct Truth {
    device: String,
    tolerance_ns: i64,
    fields: BTreeMap<String, Vec<Held>>,
}

/// A value and the time in which it could be read.
#[derive(Debug, Clone, Copy)]
struct Held {
    from_ns: i64,
    until_ns: i64,
    value: f64,
}

/// A line against the truth.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Comparison {
    /// Values that were looked up.
    pub(super) checked: u64,
    /// What was not so.
    pub(super) untrue: Vec<String>,
}

impl Truth {
    /// Of the device with this tag. A line at time `t` may tell what could be read from `t - tolerance` to
    /// `t + tolerance`: take the window's length, plus the time in which a reply may be on its way, plus the
    /// difference of the clocks.
    ///
    /// # Panics
    /// If the tolerance is longer than 292 years.
    #[must_use]
    pub fn new(device: &str, tolerance: Duration) -> Self {
        let tolerance_ns = i64::try_from(tolerance.as_nanos()).expect("a tolerance of seconds");
        Self { device: device.to_owned(), tolerance_ns, fields: BTreeMap::new() }
    }

    /// From `from_ns` on `field` has this value, and no longer the one before. To be told in order of time.
    pub fn hold(&mut self, field: &str, from_ns: i64, value: f64) {
        let held = self.fields.entry(field.to_owned()).or_default();
        if let Some(last) = held.last_mut() {
            last.until_ns = last.until_ns.min(from_ns);
        }
        held.push(Held { from_ns, until_ns: i64::MAX, value });
    }

    /// From `at_ns` on nothing can be read, until something is held again.
    pub fn silence(&mut self, at_ns: i64) {
        for held in self.fields.values_mut() {
            if let Some(last) = held.last_mut() {
                last.until_ns = last.until_ns.min(at_ns);
            }
        }
    }

    /// The device's tag.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Whether `field` could be read with this value at about this time.
    #[must_use]
    pub fn had(&self, field: &str, time_ns: i64, value: f64) -> bool {
        self.around(field, time_ns).any(|held| {
            // Both are numbers that a 32-bit float can hold: no overflow, no subnormal worth a thought.
            (held.value - value).abs() <= held.value.abs() * RELATIVE_ERROR
        })
    }

    /// Looks up every number of a line: with `_min` and `_max` beside it, those two must be real and the value
    /// between them; alone, it must itself be real.
    pub(super) fn compare(&self, line: &Line) -> Comparison {
        let mut comparison = Comparison::default();
        for (field, value) in line.fields.iter().filter(|(key, _)| is_point(key)) {
            let Some(value) = value.number() else { continue };
            comparison.checked += 1;
            if let Err(error) = self.compare_field(line, field, value) {
                comparison.untrue.push(format!("{} at {}: {error}", self.device, line.time_ns));
            }
        }
        comparison
    }

    fn compare_field(&self, line: &Line, field: &str, value: f64) -> Result<(), String> {
        if !self.fields.contains_key(field) {
            return Err(format!("{field}={value} is no field of the device"));
        }
        let end = |suffix| line.field(&format!("{field}{suffix}")).and_then(Value::number);
        let real = |value| self.require(field, line.time_ns, value);
        match (end("_min"), end("_max")) {
            (None, None) => real(value),
            (Some(min), Some(max)) if (min..=max).contains(&value) => real(min).and_then(|()| real(max)),
            (min, max) => Err(format!("{field}={value} with _min={min:?} and _max={max:?}")),
        }
    }

    fn require(&self, field: &str, time_ns: i64, value: f64) -> Result<(), String> {
        if self.had(field, time_ns, value) {
            return Ok(());
        }
        let had: Vec<f64> = self.around(field, time_ns).map(|held| held.value).collect();
        let elsewhere = self.fields[field].iter().find(|h| (h.value - value).abs() <= h.value.abs() * RELATIVE_ERROR);
        let when = elsewhere.map_or("never".to_owned(), |held| {
            format!(
                "{:+.3} s from there",
                Duration::from_nanos(held.from_ns.abs_diff(time_ns)).as_secs_f64()
                    * if held.from_ns < time_ns { -1.0 } else { 1.0 }
            )
        });
        Err(format!("{field}={value} was not to be read then (but {when}); what was: {had:?}"))
    }

    fn around(&self, field: &str, time_ns: i64) -> impl Iterator<Item = &Held> {
        let held = self.fields.get(field).map_or(&[][..], Vec::as_slice);
        let (from, to) = (time_ns.saturating_sub(self.tolerance_ns), time_ns.saturating_add(self.tolerance_ns));
        let first = held.partition_point(|held| held.until_ns < from);
        held[first..].iter().take_while(move |held| held.from_ns <= to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truth() -> Truth {
        let mut truth = Truth::new("m", Duration::from_nanos(10));
        for (from, value) in [(0, 1.0), (100, 2.0), (200, 3.0)] {
            truth.hold("v", from, value);
        }
        truth.silence(300);
        truth
    }

    fn untrue(text: &str) -> Vec<String> {
        truth().compare(&Line::parse(text).expect("well-formed")).untrue
    }

    #[test]
    fn a_value_is_true_only_around_the_time_at_which_it_could_be_read() {
        for (text, is_true) in [
            ("meter v=1 50", true),
            ("meter v=2 90", true),
            ("meter v=2 89", false),
            ("meter v=1 110", true),
            ("meter v=1 111", false),
            ("meter v=3 310", true),
            // After the device fell silent its last value is a lie.
            ("meter v=3 311", false),
            ("meter v=2.000001 150", false),
            ("meter w=1 50", false),
        ] {
            assert_eq!(untrue(text).is_empty(), is_true, "{text}: {:?}", untrue(text));
        }
    }

    #[test]
    fn a_mean_lies_between_two_real_extremes() {
        assert!(untrue("meter v=1.7,v_min=1,v_max=2 100").is_empty());
        assert!(!untrue("meter v=2.1,v_min=1,v_max=2 100").is_empty());
        assert!(!untrue("meter v=1.7,v_min=1.1,v_max=2 100").is_empty());
        assert!(!untrue("meter v=1,v_min=1 100").is_empty());
    }

    #[test]
    fn watts_in_a_float_are_the_same_in_kilowatts() {
        let watts = 7_234.567_f32;
        let mut truth = Truth::new("m", Duration::ZERO);
        truth.hold("power_flow", 0, f64::from(watts) / 1e3);
        assert!(truth.had("power_flow", 5, f64::from(watts) * 0.001));
        assert!(!truth.had("power_flow", 5, 7.234_575));
    }
}
