//! InfluxDB line protocol, written (InfluxDB 1.8, "Line protocol reference").

use std::fmt::Write;

/// Lines under construction.
#[derive(Debug, Default)]
pub(super) struct Lines {
    text: String,
    /// The series of the lines so far, to tell those apart that would overwrite one another.
    series: Vec<String>,
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
        let same = self.series.iter().filter(|series| **series == line.series).count();
        let time_ns = time_ns.saturating_add(i64::try_from(same).unwrap_or(0));
        let _ = writeln!(self.text, "{} {} {time_ns}", line.series, line.fields);
        self.series.push(line.series);
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
