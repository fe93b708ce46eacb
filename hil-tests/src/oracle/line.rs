//! InfluxDB line protocol, as strict as the strictest reader of it, and stricter: what a database would silently
//! bend (a repeated key, an empty tag, an unsigned integer) is a fault here.

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// Its measurement.
    pub measurement: String,
    /// In the order of the line; keys are unique.
    pub tags: Vec<(String, String)>,
    /// In the order of the line; keys are unique; at least one.
    pub fields: Vec<(String, Value)>,
    /// Nanoseconds since 1970.
    pub time_ns: i64,
}

/// A field's value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Finite.
    Float(f64),
    /// `12i`.
    Integer(i64),
    /// `"text"`.
    Text(String),
    /// `true`, `false`, and their short forms.
    Boolean(bool),
}

impl Value {
    /// As a number, if it is one. Integers of this contract are far below 2^53.
    #[must_use]
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Float(x) => Some(*x),
            #[allow(clippy::cast_precision_loss, reason = "codes and counts, far below 2^53")]
            Self::Integer(n) => Some(*n as f64),
            Self::Text(_) | Self::Boolean(_) => None,
        }
    }
}

impl Line {
    /// Reads one line, without its line break. The error says what is wrong, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut rest = Cursor { text, at: 0 };
        let measurement = rest.word(&[',', ' '])?;
        let mut tags = Vec::new();
        while rest.take(',') {
            let key = rest.word(&['='])?;
            rest.expect('=')?;
            let value = rest.word(&[',', ' '])?;
            unique(&tags, &key)?;
            tags.push((key, value));
        }
        rest.expect(' ')?;
        let mut fields = Vec::new();
        loop {
            let key = rest.word(&['='])?;
            rest.expect('=')?;
            let value = rest.value()?;
            unique(&fields, &key)?;
            fields.push((key, value));
            if !rest.take(',') {
                break;
            }
        }
        rest.expect(' ')?;
        let time = &text[rest.at..];
        let time_ns = time.parse().map_err(|_| format!("{time:?} is no time in nanoseconds"))?;
        Ok(Self { measurement, tags, fields, time_ns })
    }

    /// The value of a tag.
    #[must_use]
    pub fn tag(&self, key: &str) -> Option<&str> {
        self.tags.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// The value of a field.
    #[must_use]
    pub fn field(&self, key: &str) -> Option<&Value> {
        self.fields.iter().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    /// A field that counts: an integer that is not negative.
    pub fn count(&self, key: &str) -> Result<u64, String> {
        match self.field(key) {
            Some(Value::Integer(n)) => u64::try_from(*n).map_err(|_| format!("{key}={n}i is negative")),
            Some(other) => Err(format!("{key}={other:?} is no integer")),
            None => Err(format!("{} has no field {key}", self.measurement)),
        }
    }

    /// Whether it says how something was in the window of its batch: no event, and no charging session, which stands at its start.
    #[must_use]
    pub fn is_of_window(&self) -> bool {
        !matches!(self.measurement.as_str(), "event" | "charging_session" | "site_interval")
    }

    /// What a database takes for the same point: measurement and tags, in any order, and the time.
    #[must_use]
    pub fn series_at_time(&self) -> String {
        let mut tags: Vec<_> = self.tags.iter().map(|(k, v)| format!("{k}={v}")).collect();
        tags.sort();
        format!("{},{} {}", self.measurement, tags.join(","), self.time_ns)
    }
}

fn unique<T>(pairs: &[(String, T)], key: &str) -> Result<(), String> {
    if pairs.iter().any(|(k, _)| k == key) { Err(format!("{key} comes twice")) } else { Ok(()) }
}

struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.at += wanted.len_utf8();
        }
        found
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        if self.take(wanted) {
            return Ok(());
        }
        let found = self.peek().map_or("the end".to_owned(), |c| format!("{c:?}"));
        Err(format!("{wanted:?} expected at byte {}, found {found}", self.at))
    }

    /// A name or a tag's value up to one of `ends`. A backslash makes `,`, `=` and a blank part of it.
    fn word(&mut self, ends: &[char]) -> Result<String, String> {
        let begin = self.at;
        let mut word = String::new();
        while let Some(c) = self.peek() {
            if ends.contains(&c) {
                break;
            }
            if matches!(c, ',' | '=' | ' ' | '"') {
                return Err(format!("{c:?} at byte {} stands unescaped in a name", self.at));
            }
            self.at += c.len_utf8();
            match (c, self.peek()) {
                ('\\', Some(escaped @ (',' | '=' | ' '))) => {
                    self.at += 1;
                    word.push(escaped);
                }
                _ => word.push(c),
            }
        }
        if word.is_empty() { Err(format!("a name is empty at byte {begin}")) } else { Ok(word) }
    }

    fn value(&mut self) -> Result<Value, String> {
        if self.take('"') {
            return self.text_value();
        }
        let rest = &self.text[self.at..];
        let word = &rest[..rest.find([',', ' ']).unwrap_or(rest.len())];
        self.at += word.len();
        match word {
            "t" | "T" | "true" | "True" | "TRUE" => return Ok(Value::Boolean(true)),
            "f" | "F" | "false" | "False" | "FALSE" => return Ok(Value::Boolean(false)),
            _ => {}
        }
        if let Some(integer) = word.strip_suffix('i') {
            return integer.parse().map(Value::Integer).map_err(|_| format!("{word:?} is no 64-bit integer"));
        }
        // Rust reads "inf" and "nan" as numbers; a database does not.
        let plain = word.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'));
        match word.parse::<f64>() {
            Ok(x) if plain && x.is_finite() => Ok(Value::Float(x)),
            _ => Err(format!("{word:?} is no value")),
        }
    }

    fn text_value(&mut self) -> Result<Value, String> {
        let mut value = String::new();
        while let Some(c) = self.peek() {
            self.at += c.len_utf8();
            match (c, self.peek()) {
                ('"', _) => return Ok(Value::Text(value)),
                ('\\', Some(escaped @ ('"' | '\\'))) => {
                    self.at += 1;
                    value.push(escaped);
                }
                _ => value.push(c),
            }
        }
        Err("a text has no closing quote".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_value_and_escape_is_read() {
        let line =
            Line::parse(r#"a\ b,t\,ag=x\=y f=-7.2,g=1e-3,n=-12i,s="a, \"b\" c=\\",b=true 17"#).expect("well-formed");
        assert_eq!(line.measurement, "a b");
        assert_eq!(line.tag("t,ag"), Some("x=y"));
        assert_eq!(line.field("f"), Some(&Value::Float(-7.2)));
        assert_eq!(line.field("g"), Some(&Value::Float(0.001)));
        assert_eq!(line.field("n"), Some(&Value::Integer(-12)));
        assert_eq!(line.field("s"), Some(&Value::Text(r#"a, "b" c=\"#.to_owned())));
        assert_eq!(line.field("b"), Some(&Value::Boolean(true)));
        assert_eq!(line.time_ns, 17);
    }

    #[test]
    fn what_a_database_would_bend_or_refuse_is_a_fault() {
        for (text, why) in [
            ("m,t= f=1 1", "empty"),
            ("m,t=1,t=2 f=1 1", "twice"),
            ("m f=1,f=2 1", "twice"),
            ("m f=12u 1", "no value"),
            ("m f=NaN 1", "no value"),
            ("m f=inf 1", "no value"),
            ("m f=1e999 1", "no value"),
            ("m f=9223372036854775808i 1", "no 64-bit integer"),
            ("m f=\"open 1", "closing quote"),
            ("m f=1", "expected"),
            ("m f=1 1.5", "no time"),
            ("m f=1 1 ", "no time"),
            ("m  f=1 1", "unescaped"),
            ("m 1", "expected"),
            ("", "empty"),
            ("m f=1, 1", "unescaped"),
        ] {
            let error = Line::parse(text).expect_err(text);
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }
}
