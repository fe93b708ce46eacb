//! A TOML text as a tree in which every key and value knows its place. The only file that names the `toml` crate.
//!
//! The crate's own tree stops being useful at a repeated table: it folds the second into the first and reports
//! every key of it as repeated. Here each statement is parsed by itself and the tree is put together around
//! them, so that a broken or repeated statement hides nothing. Whatever we take as right is at last given to the
//! crate as a whole: what it refuses, we refuse.

use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{Collector, Place, Source};
use super::statements::{Statement, statements};

/// A table: the root, `[a.b]` or `{ … }`. Entries are in the order of the file.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Table {
    /// Where its header or its braces are; the first line of the file for the root.
    pub place: Range<usize>,
    pub entries: Vec<Entry>,
    origin: Origin,
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub key: String,
    pub key_span: Range<usize>,
    pub value: Value,
}

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Value {
    pub span: Range<usize>,
    pub kind: Kind,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Text(String),
    Integer(i128),
    Float(f64),
    Boolean(bool),
    /// A date or a time; no key of ours takes one.
    Date,
    List(Vec<Value>),
    Table(Table),
    /// The crate takes it for a number, and it is none: `0x`.
    NoNumber,
    /// It cannot be read, which has already been reported.
    Broken,
}

/// How a table came to be, which decides whether it may be opened again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// Only a part of a path so far: `a` in `[a.b]`.
    Implied,
    Header,
    Braces,
}

impl Table {
    fn new(place: Range<usize>, origin: Origin) -> Self {
        Self { place, entries: Vec::new(), origin }
    }

    /// A table that is not in the file.
    pub(super) fn empty() -> Self {
        Self::new(0..0, Origin::Implied)
    }

    /// The entry of this key; the first one if a family has it twice.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }
}

impl Kind {
    /// The type in words.
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Boolean(_) => "true or false",
            Self::Date => "a date",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
            Self::NoNumber => "no number",
            Self::Broken => "unreadable",
        }
    }
}

/// Reads a text. What is wrong with its syntax goes to `faults`; the tree holds all the rest.
///
/// `families` are the tables whose children are named by the operator (`device` in `[device.grid-main]`). A child
/// that is written twice is kept twice, for the caller to report in its own words.
pub(super) fn read(source: &Arc<Source>, families: &[&str], faults: &Collector) -> Table {
    let mut builder = Builder { source, families, faults, root: Table::new(0..0, Origin::Header), current: Vec::new() };
    let cut = statements(&source.text);
    for statement in &cut {
        if statement.is_header {
            builder.header(statement);
        } else {
            builder.assignment(statement);
        }
    }
    let root = builder.root;
    if faults.is_empty() && !cut.is_empty() {
        ask_the_crate(source, families, &root, faults);
    }
    root
}

/// Is the whole file TOML? A child of a family written twice is not, and is reported elsewhere.
fn ask_the_crate(source: &Arc<Source>, families: &[&str], root: &Table, faults: &Collector) {
    let twice = |family: &Entry| match &family.value.kind {
        Kind::Table(table) => {
            table.entries.iter().enumerate().any(|(n, e)| table.entries[..n].iter().any(|f| f.key == e.key))
        }
        _ => false,
    };
    if root.entries.iter().filter(|entry| families.contains(&entry.key.as_str())).any(twice) {
        return;
    }
    if let Err(error) = DeTable::parse(&source.text) {
        let place = Place::new(source, error.span().unwrap_or(0..0));
        faults.push(place.fault(
            "",
            sentence(error.message()),
            "a line that TOML allows here (https://toml.io/en/v1.0.0)",
        ));
    }
}

struct Builder<'a> {
    source: &'a Arc<Source>,
    families: &'a [&'a str],
    faults: &'a Collector,
    root: Table,
    /// Indices of entries from the root down to the table that assignments go to.
    current: Vec<usize>,
}

/// A key on the way to a value, with its place in the file.
type Step = (String, Range<usize>);

impl Builder<'_> {
    fn header(&mut self, statement: &Statement) {
        let text = &self.source.text[statement.span.clone()];
        let (parsed, errors) = DeTable::parse_recoverable(text);
        let mut path = Vec::new();
        let mut table = parsed.get_ref();
        while let Some((key, value)) = table.iter().next() {
            path.push((key.get_ref().to_string(), shift(key.span(), statement.span.start)));
            table = match value.get_ref() {
                DeValue::Table(inner) => inner,
                DeValue::Array(items) => match items.first().map(Spanned::get_ref) {
                    Some(DeValue::Table(inner)) => inner,
                    _ => break,
                },
                _ => break,
            };
        }
        if let Some(error) = errors.first() {
            let mut name = bare_name(text);
            // [device grid-main]: a point was meant.
            if let Some((family, child)) = name.split_once('-').filter(|(first, _)| self.families.contains(first)) {
                name = format!("{family}.{}", child.replace('.', "-"));
            }
            self.syntax(statement, error, &format!("[{name}]"));
            // What stands below it still belongs to what was probably meant.
            path = name.split('.').map(|step| (step.to_owned(), statement.span.clone())).collect();
        } else if text.starts_with("[[") {
            let remedy = format!("[{}]", bare_name(text));
            let place = Place::new(self.source, statement.span.clone());
            self.faults.push(place.fault(
                "",
                "a list of tables has no place here; every table has its own name",
                remedy,
            ));
        }
        self.open(&path, statement);
    }

    /// Makes the table of a header the current one.
    fn open(&mut self, path: &[Step], statement: &Statement) {
        self.current.clear();
        let Some(((last, last_span), parents)) = path.split_last() else { return };
        let Some(parent) = self.descend(parents, &statement.span) else {
            // Its keys go nowhere that is read; the mistake itself has been reported.
            self.current = vec![self.scratch(&statement.span)];
            return;
        };
        let repeats = parents.len() == 1 && self.families.contains(&parents[0].0.as_str());
        let source = self.source;
        let faults = self.faults;
        let table = table_at(&mut self.root, &parent);
        // The newest of a family's equal children is the one that is being written.
        let found = table.entries.iter().rposition(|entry| entry.key == *last);
        let index = match found.map(|index| (index, &mut table.entries[index])) {
            Some((index, Entry { value: Value { kind: Kind::Table(known), span }, .. }))
                if known.origin == Origin::Implied =>
            {
                known.origin = Origin::Header;
                known.place = statement.span.clone();
                *span = statement.span.clone();
                index
            }
            Some((index, entry)) if !repeats => {
                let first = Place::new(source, entry.key_span.clone());
                let is_table = matches!(entry.value.kind, Kind::Table(_));
                let key = joined(path);
                let problem = format!("the table [{key}] is written twice, here and at line {}", first.line());
                let remedy = format!("its keys under line {}, and delete this line", first.line());
                faults.push(Place::new(source, last_span.clone()).fault(key, problem, remedy).also(&first));
                if !is_table {
                    self.current = vec![self.scratch(&statement.span)];
                    return;
                }
                index
            }
            _ => {
                let value = Table::new(statement.span.clone(), Origin::Header);
                table.entries.push(Entry {
                    key: last.clone(),
                    key_span: last_span.clone(),
                    value: Value { span: statement.span.clone(), kind: Kind::Table(value) },
                });
                table.entries.len() - 1
            }
        };
        self.current = parent;
        self.current.push(index);
    }

    fn assignment(&mut self, statement: &Statement) {
        let text = &self.source.text[statement.span.clone()];
        let (parsed, errors) = DeTable::parse_recoverable(text);
        if let Some(error) = errors.first() {
            let (key, remedy) = guess_assignment(text);
            self.syntax(statement, error, &remedy);
            if let Some(key) = key {
                let value = Value { span: statement.span.clone(), kind: Kind::Broken };
                let end = statement.span.start + key.len();
                self.insert(&[], (key, statement.span.start..end), value);
            }
            return;
        }
        let mut path = Vec::new();
        let mut table = parsed.get_ref();
        // A dotted key is a chain of tables of one entry each; braces end it.
        while let Some((key, value)) = table.iter().next() {
            let step = (key.get_ref().to_string(), shift(key.span(), statement.span.start));
            match value.get_ref() {
                DeValue::Table(inner) if !text[value.span()].starts_with('{') => {
                    path.push(step);
                    table = inner;
                }
                _ => {
                    let value = convert(value, statement.span.start);
                    self.insert(&path, step, value);
                    return;
                }
            }
        }
    }

    fn insert(&mut self, path: &[Step], (key, key_span): Step, value: Value) {
        let Some(at) = self.descend_from(self.current.clone(), path, &key_span) else { return };
        let source = self.source;
        let table = table_at(&mut self.root, &at);
        match table.entry(&key) {
            None => table.entries.push(Entry { key, key_span, value }),
            Some(entry) => {
                let first = Place::new(source, entry.key_span.clone());
                let second = Place::new(source, key_span);
                let problem = format!("the key {key} is written twice, here and at line {}", first.line());
                let remedy = format!("only one of them: delete line {} or line {}", first.line(), second.line());
                self.faults.push(second.fault(key, problem, remedy).also(&first));
            }
        }
    }

    fn descend(&mut self, path: &[Step], place: &Range<usize>) -> Option<Vec<usize>> {
        self.descend_from(Vec::new(), path, place)
    }

    /// The table at the end of the path, made where it is not there yet; `None` if a value is in the way.
    fn descend_from(&mut self, mut at: Vec<usize>, path: &[Step], place: &Range<usize>) -> Option<Vec<usize>> {
        for (key, span) in path {
            let table = table_at(&mut self.root, &at);
            let index = table.entries.iter().rposition(|entry| entry.key == *key).unwrap_or_else(|| {
                let value = Value { span: span.clone(), kind: Kind::Table(Table::new(place.clone(), Origin::Implied)) };
                table.entries.push(Entry { key: key.clone(), key_span: span.clone(), value });
                table.entries.len() - 1
            });
            let entry = &table.entries[index];
            if !matches!(&entry.value.kind, Kind::Table(inner) if inner.origin != Origin::Braces) {
                let first = Place::new(self.source, entry.key_span.clone());
                let problem =
                    format!("{key} already has its value at line {} and cannot be opened again", first.line());
                let fault = Place::new(self.source, span.clone()).fault(key, problem, "all of it in one place");
                self.faults.push(fault.also(&first));
                return None;
            }
            at.push(index);
        }
        Some(at)
    }

    /// A table that nobody reads, for the keys below a header that leads nowhere.
    fn scratch(&mut self, place: &Range<usize>) -> usize {
        let value = Value { span: place.clone(), kind: Kind::Table(Table::new(place.clone(), Origin::Header)) };
        self.root.entries.push(Entry { key: SCRATCH.to_owned(), key_span: place.clone(), value });
        self.root.entries.len() - 1
    }

    fn syntax(&self, statement: &Statement, error: &toml::de::Error, remedy: &str) {
        let span = error.span().map_or(statement.span.clone(), |span| shift(span, statement.span.start));
        self.faults.push(Place::new(self.source, span).fault("", sentence(error.message()), remedy));
    }
}

/// The name of tables that nobody reads. Not a possible key: TOML keys come from the file, this has a NUL.
pub(super) const SCRATCH: &str = "\0";

fn table_at<'t>(root: &'t mut Table, path: &[usize]) -> &'t mut Table {
    let mut table = root;
    for &index in path {
        match &mut table.entries[index].value.kind {
            Kind::Table(inner) => table = inner,
            _ => unreachable!("paths are made of tables only, see `descend_from` and `open`"),
        }
    }
    table
}

fn shift(span: Range<usize>, by: usize) -> Range<usize> {
    span.start + by..span.end + by
}

fn joined(path: &[Step]) -> String {
    path.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>().join(".")
}

fn convert(value: &Spanned<DeValue<'_>>, by: usize) -> Value {
    let span = shift(value.span(), by);
    let kind = match value.get_ref() {
        DeValue::String(text) => Kind::Text(text.to_string()),
        DeValue::Integer(integer) => {
            i128::from_str_radix(integer.as_str(), integer.radix()).map_or(Kind::NoNumber, Kind::Integer)
        }
        DeValue::Float(float) => float.as_str().parse().map_or(Kind::NoNumber, Kind::Float),
        DeValue::Boolean(boolean) => Kind::Boolean(*boolean),
        DeValue::Datetime(_) => Kind::Date,
        DeValue::Array(items) => Kind::List(items.iter().map(|item| convert(item, by)).collect()),
        DeValue::Table(table) => {
            let mut entries: Vec<Entry> = table
                .iter()
                .map(|(key, value)| Entry {
                    key: key.get_ref().to_string(),
                    key_span: shift(key.span(), by),
                    value: convert(value, by),
                })
                .collect();
            entries.sort_by_key(|entry| entry.key_span.start);
            Kind::Table(Table { place: span.clone(), entries, origin: Origin::Braces })
        }
    };
    Value { span, kind }
}

/// The parser's words, as one sentence of ours.
fn sentence(message: &str) -> String {
    let line = message.lines().collect::<Vec<_>>().join(", ");
    if line.is_empty() { "this is not TOML".to_owned() } else { format!("this is not TOML: {line}") }
}

/// The name in a header that cannot be read, without what certainly does not belong to it.
fn bare_name(header: &str) -> String {
    let inner = header.trim_start_matches('[');
    let inner = inner.split(['#', ']']).next().unwrap_or(inner);
    inner.split_whitespace().collect::<Vec<_>>().join("-")
}

/// The key of an assignment that cannot be read, if there is one, and what was probably meant.
fn guess_assignment(text: &str) -> (Option<String>, String) {
    let first_line = text.lines().next().unwrap_or(text);
    let bare =
        |key: &str| !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    let Some((key, value)) = first_line.split_once('=') else {
        let mut words = first_line.splitn(2, [' ', '\t', ':']);
        let (key, value) = (words.next().unwrap_or("").trim(), words.next().unwrap_or("").trim());
        let known = bare(key).then(|| key.to_owned());
        return match known {
            Some(key) if !value.is_empty() => (Some(key.clone()), format!("{key} = {}", quoted(value))),
            known => (known, "key = value, or [table], or # in front of a remark".to_owned()),
        };
    };
    let key = key.trim();
    if !bare(key) {
        return (None, "key = value, with a key of letters, digits, '-' and '_'".to_owned());
    }
    let value = value.trim();
    let remedy = match value.chars().next() {
        None => format!("{key} = and its value, or delete the line"),
        Some('[' | '{') => format!("{key} = with every bracket and quotation mark closed"),
        Some(_) => format!("{key} = {}", quoted(value)),
    };
    (Some(key.to_owned()), remedy)
}

/// The value as a text in quotation marks, without the ones that are there and without a remark.
fn quoted(value: &str) -> String {
    let bare = value.split('#').next().unwrap_or(value).trim().trim_matches(['"', '\'', '“', '”']);
    format!("\"{bare}\"")
}
