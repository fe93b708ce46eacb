//! The wire, read back: for the audit and for whoever draws what arrives. Total: no bytes make it panic.

use std::collections::BTreeMap;

use super::WIRE_VERSION;

/// One line of the protocol.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// `gateway`, `evse`, `meter`, `site`, `event`.
    pub measurement: String,
    /// In the order of their keys.
    pub tags: BTreeMap<String, String>,
    /// In the order of their keys.
    pub fields: BTreeMap<String, Field>,
    /// ns since 1970.
    pub time_ns: i64,
}

/// A field's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Field {
    /// `1.5`
    Float(f64),
    /// `3i`
    Integer(i64),
    /// `"text"`
    Text(String),
    /// `true`
    Boolean(bool),
}

impl Line {
    /// An integer field that is not negative.
    #[must_use]
    pub fn count(&self, key: &str) -> Option<u64> {
        match self.fields.get(key) {
            Some(Field::Integer(value)) => u64::try_from(*value).ok(),
            _ => None,
        }
    }

    /// A text field.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.fields.get(key) {
            Some(Field::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// A float field.
    #[must_use]
    pub fn float(&self, key: &str) -> Option<f64> {
        match self.fields.get(key) {
            Some(Field::Float(value)) => Some(*value),
            _ => None,
        }
    }
}

/// How far the times of a batch can be believed, as its own line says in the words of its version.
///
/// # Errors
/// It does not say so, or it is of a version that is not known; in words.
pub fn time_trust(own: &Line) -> Result<&str, String> {
    let key = match own.fields.get("version") {
        None => "time",
        Some(Field::Integer(version)) if *version == i64::from(WIRE_VERSION) => "time_trust",
        Some(version) => return Err(format!("wire version {version:?} in the first line, which is not known")),
    };
    match own.fields.get(key) {
        Some(Field::Text(trust)) => Ok(trust),
        _ => Err(format!("no {key} in the first line")),
    }
}

/// A payload that is not line protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {number} is not line protocol: {why}")]
pub struct NotLines {
    /// From 1.
    pub number: usize,
    /// What is wrong.
    pub why: &'static str,
}

/// All lines of a payload.
///
/// # Errors
/// The first line that is none, by its number.
pub fn lines(payload: &str) -> Result<Vec<Line>, NotLines> {
    let numbered = (1..).zip(payload.split('\n')).filter(|(_, line)| !line.is_empty());
    numbered.map(|(number, text)| line(text).map_err(|why| NotLines { number, why })).collect()
}

fn line(text: &str) -> Result<Line, &'static str> {
    let (series, rest) = split_unescaped(text, ' ').ok_or("no fields")?;
    let (fields, time) = split_fields(rest)?;
    let mut parts = unescaped_parts(series, ',').into_iter();
    let measurement = unescape(parts.next().unwrap_or_default());
    if measurement.is_empty() {
        return Err("no measurement");
    }
    let mut tags = BTreeMap::new();
    for part in parts {
        let (key, value) = split_unescaped(part, '=').ok_or("a tag without a value")?;
        tags.insert(unescape(key), unescape(value));
    }
    let mut read = BTreeMap::new();
    for part in field_parts(fields) {
        let (key, value) = split_unescaped(part, '=').ok_or("a field without a value")?;
        if read.insert(unescape(key), field(value)?).is_some() {
            return Err("a field twice");
        }
    }
    let time_ns = time.parse().map_err(|_| "no time stamp")?;
    Ok(Line { measurement, tags, fields: read, time_ns })
}

fn field(text: &str) -> Result<Field, &'static str> {
    if let Some(quoted) = text.strip_prefix('"') {
        let inner = quoted.strip_suffix('"').ok_or("a text without its end")?;
        return Ok(Field::Text(unescape(inner)));
    }
    if let Some(digits) = text.strip_suffix('i') {
        return digits.parse().map(Field::Integer).map_err(|_| "not an integer");
    }
    match text {
        "t" | "T" | "true" | "True" | "TRUE" => Ok(Field::Boolean(true)),
        "f" | "F" | "false" | "False" | "FALSE" => Ok(Field::Boolean(false)),
        _ => match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Field::Float(value)),
            _ => Err("not a number"),
        },
    }
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(chars.next()),
            c => out.push(c),
        }
    }
    out
}

/// Byte offsets of `stop` outside of escapes, and, if `quotes` count, outside of quoted text.
fn stops(text: &str, stop: char, quotes: bool) -> Vec<usize> {
    let (mut found, mut escaped, mut quoted) = (Vec::new(), false, false);
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if quotes && c == '"' {
            quoted = !quoted;
        } else if c == stop && !quoted {
            found.push(at);
        }
    }
    found
}

fn split_unescaped(text: &str, stop: char) -> Option<(&str, &str)> {
    let at = *stops(text, stop, false).first()?;
    Some((&text[..at], &text[at + stop.len_utf8()..]))
}

fn cut<'a>(text: &'a str, stops: &[usize]) -> Vec<&'a str> {
    let begins = std::iter::once(0).chain(stops.iter().map(|at| at + 1));
    let ends = stops.iter().copied().chain(std::iter::once(text.len()));
    begins.zip(ends).map(|(from, to)| &text[from..to]).collect()
}

fn unescaped_parts(text: &str, stop: char) -> Vec<&str> {
    cut(text, &stops(text, stop, false))
}

fn field_parts(text: &str) -> Vec<&str> {
    cut(text, &stops(text, ',', true))
}

/// Fields and time: the last space outside of quotes.
fn split_fields(text: &str) -> Result<(&str, &str), &'static str> {
    let at = *stops(text, ' ', true).last().ok_or("no time stamp")?;
    Ok((&text[..at], &text[at + 1..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::line::{Line as Written, Lines};
    use super::*;

    #[test]
    fn the_trust_of_both_versions_is_read_and_that_of_another_is_not() {
        let trust = |fields: &str| {
            let read = lines(&format!("gateway,gateway=gw {fields} 5")).expect("line protocol");
            time_trust(&read[0]).map(str::to_owned)
        };
        assert_eq!(trust("seq=1i,time=\"synced\"").as_deref(), Ok("synced"));
        assert_eq!(trust("seq=1i,time_trust=\"holdover\",version=2i").as_deref(), Ok("holdover"));
        for fields in
            ["seq=1i", "time=\"synced\",version=2i", "time_trust=\"synced\"", "time_trust=\"synced\",version=3i"]
        {
            assert!(trust(fields).is_err(), "{fields}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(tag in "[ -~äß]{1,20}[a-z]", text in "[ -~äß]{0,30}", float in -1e300_f64..1e300, integer: i64, time: i64) {
            let mut line = Written::new("meter").tag("device", &tag);
            line.float("power_flow", "_min", float);
            line.integer("fault", integer);
            line.text("state", &text);
            let mut written = Lines::default();
            written.push(line, time);
            let payload = written.finish();
            let read = lines(&payload).expect("lines");
            prop_assert_eq!(read.len(), 1);
            prop_assert_eq!(&read[0].measurement, "meter");
            prop_assert_eq!(&read[0].tags["device"], &tag);
            prop_assert_eq!(&read[0].fields["power_flow_min"], &Field::Float(float));
            prop_assert_eq!(&read[0].fields["fault"], &Field::Integer(integer));
            prop_assert_eq!(&read[0].fields["state"], &Field::Text(text));
            prop_assert_eq!(read[0].time_ns, time);
        }

        #[test]
        fn no_text_makes_it_panic(text in "[ -~\\n\\\\\"=,i]{0,200}") {
            let _ = lines(&text);
        }
    }
}
