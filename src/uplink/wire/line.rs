//! InfluxDB line protocol, written (InfluxDB 1.8, "Line protocol reference").

use std::collections::HashMap;
use std::fmt::Write;

/// Lines under construction.
#[derive(Debug, Default)]
pub(super) struct Lines {
    text: String,
    /// The series of the lines so far, and how many lines each has: to tell those apart that would overwrite one another.
    series: HashMap<String, i64>,
}

/// One line under construction: `measurement,tag=value field=value`.
#[derive(Debug)]
pub(super) struct Line {
    series: String,
    fields: String,
}

impl Line {
    /// Begins a line. `measurement` is one of our own words.
    pub(super) fn new(measurement: &str) -> Self {
        Self { series: measurement.to_owned(), fields: String::new() }
    }

    pub(super) fn tag(mut self, key: &str, value: &str) -> Self {
        // A tag without a value is not allowed.
        if !value.is_empty() {
            let _ = write!(self.series, ",{key}=");
            escape(value, &[',', '=', ' '], &mut self.series);
        }
        self
    }

    fn key(&mut self, key: &str, suffix: &str) {
        let comma = if self.fields.is_empty() { "" } else { "," };
        let _ = write!(self.fields, "{comma}{key}{suffix}=");
    }

    /// `suffix` follows the key: `_min`, or nothing. `value` is finite.
    pub(super) fn float(&mut self, key: &str, suffix: &str, value: f64) {
        self.key(key, suffix);
        let _ = write!(self.fields, "{value}");
    }

    pub(super) fn integer(&mut self, key: &str, value: i64) {
        self.key(key, "");
        let _ = write!(self.fields, "{value}i");
    }

    /// Numbers on this wire are signed: InfluxDB 1.x has no other. Beyond 2^63 the largest stands for all.
    pub(super) fn count(&mut self, key: &str, value: u64) {
        self.integer(key, i64::try_from(value).unwrap_or(i64::MAX));
    }

    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.key(key, "");
        self.fields.push('"');
        escape(value, &['"'], &mut self.fields);
        self.fields.push('"');
    }

    pub(super) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
}

/// Control characters would end a line, or a terminal's patience: each becomes a space. Backslashes are escaped
/// everywhere: a reader takes the character behind one as it is.
fn escape(text: &str, special: &[char], out: &mut String) {
    for c in text.chars() {
        let c = if c.is_control() { ' ' } else { c };
        if special.contains(&c) || c == '\\' {
            out.push('\\');
        }
        out.push(c);
    }
}

impl Lines {
    /// Adds a line at `time_ns`, unless it has no field.
    pub(super) fn push(&mut self, line: Line, time_ns: i64) {
        if line.is_empty() {
            return;
        }
        let Line { series, fields } = line;
        let same = self.series.get(&series).copied().unwrap_or(0);
        let _ = writeln!(self.text, "{series} {fields} {}", time_ns.saturating_add(same));
        self.series.insert(series, same + 1);
    }

    /// Adds a line that takes the place of what stands at this time.
    pub(super) fn put(&mut self, line: &Line, time_ns: i64) {
        let _ = writeln!(self.text, "{} {} {time_ns}", line.series, line.fields);
    }

    /// The payload: lines ended by `\n`, but for the last.
    pub(super) fn finish(mut self) -> String {
        self.text.pop();
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::testing::{LINEAR, growth};

    fn lines(count: usize) -> Vec<Line> {
        let line = |n: usize| {
            let mut line = Line::new("evse").tag("site", "depot-a").tag("device", &format!("evse-{n:05}"));
            line.float("power_flow", "", 11.0);
            line
        };
        (0..count).map(line).collect()
    }

    /// Each line was compared with all before it: 12 million times in a batch of 5,000 devices.
    #[test]
    fn a_line_costs_the_same_whatever_lines_are_before_it() {
        let grown = growth(1_000, lines, |lines| {
            let mut all = Lines::default();
            lines.into_iter().for_each(|line| all.push(line, 5));
            assert!(all.finish().ends_with(" 5"));
        });
        assert!(grown < LINEAR, "{grown:.0}");
    }

    #[test]
    fn lines_of_one_series_take_each_others_place_in_no_database() {
        let mut all = Lines::default();
        lines(2).into_iter().chain(lines(1)).chain(lines(1)).for_each(|line| all.push(line, 5));
        let times: Vec<_> = all.finish().lines().map(|line| line[line.len() - 1..].to_owned()).collect();
        assert_eq!(times, ["5", "5", "6", "7"]);
    }
}
