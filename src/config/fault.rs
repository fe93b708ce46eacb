//! A mistake in a file, told so that it can be mended without this manual: where, the line itself, what is
//! wrong and what to write instead.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;

/// All mistakes of one reading, in the order of the lines; those of the main file first.
///
/// Never empty when it is returned as an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Faults(Vec<Fault>);

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The file, as it was named to us.
    pub file: String,
    /// Its line, from 1.
    pub line: usize,
    /// The first character concerned, from 1.
    pub column: usize,
    /// How many characters are concerned, at least 1.
    pub width: usize,
    /// The key concerned, `device.grid-main.poll`; empty if it is none.
    pub key: String,
    /// The line itself.
    pub excerpt: String,
    /// Another line that belongs to the mistake: the first of two equal ids.
    pub also: Option<OtherLine>,
    /// What is wrong.
    pub problem: String,
    /// What to write, or do, instead. May have several lines.
    pub remedy: String,
}

/// A second line of a mistake, in the same file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OtherLine {
    /// From 1.
    pub line: usize,
    /// The line itself.
    pub excerpt: String,
}

impl Faults {
    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In the order of the lines.
    #[must_use]
    pub fn as_slice(&self) -> &[Fault] {
        &self.0
    }

    /// In the order of the lines.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.0.iter()
    }
}

impl IntoIterator for Faults {
    type Item = Fault;
    type IntoIter = std::vec::IntoIter<Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl std::error::Error for Faults {}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for fault in self {
            writeln!(f, "{fault}\n")?;
        }
        match self.len() {
            1 => f.write_str("1 mistake"),
            n => write!(f, "{n} mistakes"),
        }
    }
}

impl std::error::Error for Fault {}

/// Four lines at most, and the remedy:
/// ```text
/// gateway.toml:26: poll has no unit
///    26 | poll = "500"
///       |        ^^^^^
///    write: poll = "500ms"
/// ```
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}:{}: {}", self.file, self.line, self.problem)?;
        let other = self.also.as_ref().map_or(0, |other| other.line);
        let gutter = self.line.max(other).to_string().len().max(4);
        let before: String =
            self.excerpt.chars().take(self.column - 1).map(|c| if c == '\t' { c } else { ' ' }).collect();
        let (first, last): (Vec<_>, Vec<_>) = self.also.iter().partition(|other| other.line < self.line);
        for OtherLine { line, excerpt } in first {
            writeln!(f, " {line:>gutter$} | {excerpt}")?;
        }
        writeln!(f, " {:>gutter$} | {}", self.line, self.excerpt)?;
        writeln!(f, " {:>gutter$} | {before}{}", "", "^".repeat(self.width))?;
        for OtherLine { line, excerpt } in last {
            writeln!(f, " {line:>gutter$} | {excerpt}")?;
        }
        for (n, line) in self.remedy.lines().enumerate() {
            let (end, label) = if n == 0 { ("", "write: ") } else { ("\n", "       ") };
            write!(f, "{end}   {label}{line}")?;
        }
        Ok(())
    }
}

/// A file with its text, shared by everything that was read from it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub name: String,
    pub text: String,
}

impl Source {
    pub(super) fn new(name: impl Into<String>, text: impl Into<String>) -> Arc<Self> {
        Arc::new(Self { name: name.into(), text: text.into() })
    }

    /// The line of a byte, from 1, and where that line begins and ends.
    fn line_of(&self, at: usize) -> (usize, Range<usize>) {
        let at = self.text.floor_char_boundary(at);
        let start = self.text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let end = self.text[at..].find('\n').map_or(self.text.len(), |newline| at + newline);
        let number = self.text[..start].matches('\n').count() + 1;
        (number, start..end)
    }

    fn excerpt(&self, line: Range<usize>) -> String {
        self.text[line].trim_end().to_owned()
    }
}

/// Some bytes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub source: Arc<Source>,
    pub span: Range<usize>,
}

impl Place {
    pub(super) fn new(source: &Arc<Source>, span: Range<usize>) -> Self {
        Self { source: Arc::clone(source), span }
    }

    /// The line, from 1.
    pub(super) fn line(&self) -> usize {
        self.source.line_of(self.span.start).0
    }

    /// A mistake here.
    pub(super) fn fault(&self, key: impl Into<String>, problem: impl Into<String>, remedy: impl Into<String>) -> Fault {
        let (line, bytes) = self.source.line_of(self.span.start);
        let text = &self.source.text;
        let start = text.floor_char_boundary(self.span.start).clamp(bytes.start, bytes.end);
        let end = text.floor_char_boundary(self.span.end).clamp(start, bytes.end);
        Fault {
            file: self.source.name.clone(),
            line,
            column: text[bytes.start..start].chars().count() + 1,
            width: text[start..end].trim_end().chars().count().max(1),
            key: key.into(),
            excerpt: self.source.excerpt(bytes),
            also: None,
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }

    /// The line of this place as the other line of a mistake.
    pub(super) fn as_other(&self) -> OtherLine {
        let (line, bytes) = self.source.line_of(self.span.start);
        OtherLine { line, excerpt: self.source.excerpt(bytes) }
    }
}

impl Fault {
    /// Shows another line with it.
    pub(super) fn also(mut self, other: &Place) -> Self {
        self.also = Some(other.as_other());
        self
    }
}

/// Where mistakes gather during a reading. Shared by all sections that are open at a time.
#[derive(Debug, Default)]
pub(super) struct Collector(RefCell<Vec<Fault>>);

impl Collector {
    pub(super) fn push(&self, fault: Fault) {
        self.0.borrow_mut().push(fault);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// How many so far.
    pub(super) fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// Whether this key of this file has already been blamed: what is wrong is not also missing.
    pub(super) fn blames(&self, source: &Source, key: &str) -> bool {
        self.0.borrow().iter().any(|fault| fault.file == source.name && fault.key == key)
    }

    /// All of them in order, the main file's first.
    pub(super) fn into_faults(self, main_file: &str) -> Faults {
        let mut faults = self.0.into_inner();
        faults.sort_by(|a, b| {
            let key = |f: &Fault| (f.file != main_file, f.file.clone(), f.line, f.column);
            key(a).cmp(&key(b))
        });
        faults.dedup();
        Faults(faults)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_shows_its_line_with_the_words_underlined() {
        let source = Source::new("gateway.toml", "[device.a]\r\npoll = \"5ö0\" # fast\r\n");
        let fault = Place::new(&source, 19..25).fault("device.a.poll", "poll has no unit", "poll = \"500ms\"");
        assert_eq!((fault.line, fault.column, fault.width), (2, 8, 5));
        let shown = "gateway.toml:2: poll has no unit\n    2 | poll = \"5ö0\" # fast\n      |        ^^^^^\n   write: poll = \"500ms\"";
        assert_eq!(fault.to_string(), shown);
    }

    #[test]
    fn a_place_at_the_end_of_a_file_is_still_a_place() {
        for text in ["", "\n", "a = 1", "ä"] {
            let source = Source::new("x", text);
            let fault = Place::new(&source, text.len()..text.len() + 3).fault("", "", "");
            assert!(fault.line >= 1 && fault.column >= 1 && fault.width == 1);
        }
    }
}
