//! Reads a table key by key and reports everything that is wrong with it, not only the first.
//!
//! Each table has a [`Form`]: the list of its keys with a line that could be written for each. The form is what
//! unknown keys are compared with, what a missing key is answered with, and what the manual is checked against.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::Duration;

use super::document::{Entry, Kind, SCRATCH, Table, Value};
use super::fault::{Collector, Place, Source};
use super::units::{
    ENERGY_UNITS, NotAQuantity, POWER_UNITS, RATE_UNITS, SIZE_UNITS, TIME_UNITS, duration, energy, power, rate,
    show_duration, show_energy, show_power, show_size, size,
};

/// What a table may hold.
#[derive(Debug)]
pub(super) struct Form {
    /// Its path in the file; `*` where the operator chooses a name.
    pub table: &'static str,
    /// Each key with a value that could be written.
    pub keys: &'static [(&'static str, &'static str)],
}

impl Form {
    /// Whether the operator chooses the names of such tables: `device.*`, `bus.*`.
    fn names_its_tables(&self) -> bool {
        self.table.ends_with(".*")
    }

    /// A value that could be written for a key.
    pub(super) fn example(&self, key: &str) -> &'static str {
        self.keys.iter().find(|(known, _)| *known == key).map_or("", |(_, example)| example)
    }
}

/// What is being read and where its mistakes go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'a> {
    pub source: &'a Arc<Source>,
    pub faults: &'a Collector,
}

/// A value that cannot be taken.
#[derive(Debug)]
pub(super) struct Wrong {
    /// The end of the sentence that begins with the key.
    problem: String,
    /// The whole remedy; without one, the example of the form.
    remedy: Option<Remedy>,
    /// The part of the value concerned; without one, all of it.
    span: Option<Range<usize>>,
}

#[derive(Debug)]
enum Remedy {
    /// A value to write for the key, and what else is allowed.
    Value(String, String),
    /// A remark on the form's example.
    Note(String),
    /// Something else to do.
    Action(String),
}

impl Wrong {
    /// Remedied by the form's example.
    pub(super) fn new(problem: impl Into<String>) -> Self {
        Self { problem: problem.into(), remedy: None, span: None }
    }

    /// Remedied by this value.
    pub(super) fn instead(problem: impl Into<String>, value: impl Into<String>, note: impl Into<String>) -> Self {
        Self { remedy: Some(Remedy::Value(value.into(), note.into())), ..Self::new(problem) }
    }

    /// Remedied by the form's example, with a remark.
    pub(super) fn noted(problem: impl Into<String>, note: impl Into<String>) -> Self {
        Self { remedy: Some(Remedy::Note(note.into())), ..Self::new(problem) }
    }

    /// Remedied by doing this.
    pub(super) fn action(problem: impl Into<String>, action: impl Into<String>) -> Self {
        Self { remedy: Some(Remedy::Action(action.into())), ..Self::new(problem) }
    }

    /// Only this part of the value is wrong.
    pub(super) fn at(mut self, span: Range<usize>) -> Self {
        self.span = Some(span);
        self
    }
}

/// What reading a value gives.
pub(super) type Taken<T> = Result<T, Wrong>;

/// A table being read.
#[derive(Debug)]
pub(super) struct Section<'a> {
    scope: Scope<'a>,
    form: &'static Form,
    /// Its path with the operator's own names: `device.grid-main`.
    pub title: String,
    table: &'a Table,
}

impl<'a> Section<'a> {
    pub(super) fn new(scope: Scope<'a>, form: &'static Form, title: impl Into<String>, table: &'a Table) -> Self {
        let section = Self { scope, form, title: title.into(), table };
        section.refuse_unknown();
        section
    }

    /// The value of a key, or `None` if it is not there or is wrong (which is then reported).
    pub(super) fn optional<T>(&self, key: &str, take: impl FnOnce(&Value) -> Taken<T>) -> Option<T> {
        let entry = self.entry(key)?;
        if entry.value.kind == Kind::Broken {
            return None;
        }
        take(&entry.value).map_err(|wrong| self.report(key, &entry.value, wrong)).ok()
    }

    /// The value of a key that must be there.
    pub(super) fn required<T>(&self, key: &str, take: impl FnOnce(&Value) -> Taken<T>) -> Option<T> {
        if self.entry(key).is_none() {
            self.missing(key);
        }
        self.optional(key, take)
    }

    /// The items of a list, 1 to `at_most`; every wrong one is reported.
    pub(super) fn list<T>(&self, key: &str, at_most: usize, take: impl Fn(&Value) -> Taken<T>) -> Option<Vec<T>> {
        let entry = self.entry(key)?;
        let items = match &entry.value.kind {
            Kind::List(items) if (1..=at_most).contains(&items.len()) => items,
            Kind::List(items) => {
                let problem = format!("has {} items; 1 to {at_most} are allowed", items.len());
                self.report(key, &entry.value, Wrong::new(problem));
                return None;
            }
            Kind::Broken => return None,
            other => {
                let problem = format!("is {}, not a list in square brackets", other.describe());
                self.report(key, &entry.value, Wrong::new(problem));
                return None;
            }
        };
        let taken = items.iter().map(|item| take(item).map_err(|wrong| self.report(key, item, wrong)).ok());
        // Through a list first, so that the first wrong item does not end the reading.
        taken.collect::<Vec<_>>().into_iter().collect()
    }

    /// A table inside this one, `[title.key]` or `key = { … }`.
    pub(super) fn section(&self, key: &str, form: &'static Form) -> Option<Self> {
        let entry = self.entry(key)?;
        match &entry.value.kind {
            Kind::Table(table) => Some(Self::new(self.scope, form, self.path(key), table)),
            Kind::Broken => None,
            other => {
                self.report(key, &entry.value, Wrong::new(format!("is {}, not a table", other.describe())));
                None
            }
        }
    }

    /// The children of a table whose keys are the operator's own names, in the order of the file.
    pub(super) fn family(&self, key: &str) -> Vec<(&'a Entry, &'a Table)> {
        let Some(entry) = self.entry(key) else { return Vec::new() };
        let Kind::Table(table) = &entry.value.kind else {
            self.report(key, &entry.value, Wrong::new("is not a table"));
            return Vec::new();
        };
        let child = |entry: &'a Entry| match &entry.value.kind {
            Kind::Table(child) => Some((entry, child)),
            Kind::Broken => None,
            other => {
                let name = &entry.key;
                let problem = format!("{key}.{name} is {}, not a table", other.describe());
                let place = self.place_of(&entry.value.span);
                self.scope.faults.push(place.fault(format!("{key}.{name}"), problem, format!("[{key}.{name}]")));
                None
            }
        };
        table.entries.iter().filter_map(child).collect()
    }

    /// Whether the key is there, right or wrong.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entry(key).is_some()
    }

    /// Which of these keys are there.
    pub(super) fn present(&self, keys: &[&'static str]) -> Vec<&'static str> {
        keys.iter().copied().filter(|key| self.has(key)).collect()
    }

    /// Where a key's value is, or the table's header if there is none.
    pub(super) fn place(&self, key: &str) -> Place {
        self.place_of(self.entry(key).map_or(&self.table.place, |entry| &entry.value.span))
    }

    /// Where the table's header is.
    pub(super) fn header(&self) -> Place {
        self.place_of(&self.table.place)
    }

    /// Reports a mistake in a value that only shows beside others.
    pub(super) fn blame(&self, key: &str, problem: impl Into<String>, remedy: impl Into<String>) {
        self.scope.faults.push(self.place(key).fault(self.path(key), problem, remedy));
    }

    /// Reports a mistake of the table as a whole.
    pub(super) fn blame_header(&self, problem: impl Into<String>, remedy: impl Into<String>) {
        self.scope.faults.push(self.header().fault(self.title.clone(), problem, remedy));
    }

    /// Reports a key that must be there and is not.
    pub(super) fn missing(&self, key: &str) {
        let title = if self.title.is_empty() { String::new() } else { format!(" under [{}]", self.title) };
        let problem = format!("the key {key} is missing{title}");
        let remedy = format!("{key} = {}", self.form.example(key));
        self.scope.faults.push(self.header().fault(self.path(key), problem, remedy));
    }

    fn report(&self, key: &str, value: &Value, wrong: Wrong) {
        let place = self.place_of(wrong.span.as_ref().unwrap_or(&value.span));
        let example = self.form.example(key);
        let remedy = match wrong.remedy {
            None => format!("{key} = {example}"),
            Some(Remedy::Note(note)) => format!("{key} = {example}   ({note})"),
            Some(Remedy::Value(value, note)) if note.is_empty() => format!("{key} = {value}"),
            Some(Remedy::Value(value, note)) => format!("{key} = {value}   ({note})"),
            Some(Remedy::Action(action)) => action,
        };
        self.scope.faults.push(place.fault(self.path(key), format!("{key} {}", wrong.problem), remedy));
    }

    fn refuse_unknown(&self) {
        let known = || self.form.keys.iter().map(|(key, _)| *key);
        let unknown = |entry: &&Entry| entry.key != SCRATCH && !known().any(|key| key == entry.key);
        for entry in self.table.entries.iter().filter(unknown) {
            let is_header = self.is_header(entry);
            let at_home = if self.title.is_empty() { "this file".to_owned() } else { format!("[{}]", self.title) };
            let what = if is_header { "table" } else { "key" };
            let problem = format!("there is no {what} {} in {at_home}", entry.key);
            let list = known().collect::<Vec<_>>().join(", ");
            let remedy = match nearest(&entry.key, known()) {
                None if is_header && self.form.names_its_tables() => {
                    let (family, first) = self.title.split_once('.').unwrap_or((&self.title, ""));
                    let name = self.whole_name(first, entry);
                    format!("[{family}.\"{name}\"]   (a name with a dot in it stands in quotation marks)")
                }
                Some(key) if is_header => format!("[{}]", self.path(key)),
                Some(key) => format!("{key} = {}", self.text(&entry.value.span).lines().next().unwrap_or("")),
                None => format!("one of {list}; or delete it"),
            };
            let place = self.place_of(&entry.key_span);
            self.scope.faults.push(place.fault(self.path(&entry.key), problem, remedy));
        }
    }

    /// The names in a child of a family that were torn apart at a dot, `a-2.0s` of `[device.a-2.0s]`, after reporting them:
    /// it holds nothing but headers that are unknown there. None for all others, of which nothing is reported.
    pub(super) fn torn_names(
        scope: Scope<'a>,
        form: &'static Form,
        family: &str,
        entry: &Entry,
        table: &'a Table,
    ) -> Vec<String> {
        let section = Self { scope, form, title: format!("{family}.{}", entry.key), table };
        if table.entries.is_empty() || !table.entries.iter().all(|inner| section.is_part_of_a_name(inner)) {
            return Vec::new();
        }
        section.refuse_unknown();
        table.entries.iter().map(|inner| section.whole_name(&entry.key, inner)).collect()
    }

    /// A name that was torn apart at its dots: each part but the last is a header with nothing but the next part in it.
    fn whole_name(&self, first: &str, inner: &Entry) -> String {
        let (mut name, mut inner) = (format!("{first}.{}", inner.key), inner);
        while let Kind::Table(table) = &inner.value.kind
            && let [next] = table.entries.as_slice()
            && self.is_part_of_a_name(next)
        {
            name = format!("{name}.{}", next.key);
            inner = next;
        }
        name
    }

    /// Whether it is a header, and none that this table has.
    fn is_part_of_a_name(&self, inner: &Entry) -> bool {
        self.is_header(inner) && nearest(&inner.key, self.form.keys.iter().map(|(key, _)| *key)).is_none()
    }

    /// Whether it is a table with a line of its own.
    fn is_header(&self, entry: &Entry) -> bool {
        matches!(&entry.value.kind, Kind::Table(table) if !self.text(&table.place).starts_with('{'))
    }

    fn entry(&self, key: &str) -> Option<&'a Entry> {
        debug_assert!(self.form.keys.iter().any(|(known, _)| *known == key), "{key} is not in the form");
        self.table.entry(key)
    }

    fn path(&self, key: &str) -> String {
        if self.title.is_empty() { key.to_owned() } else { format!("{}.{key}", self.title) }
    }

    fn place_of(&self, span: &Range<usize>) -> Place {
        Place::new(self.scope.source, span.clone())
    }

    fn text(&self, span: &Range<usize>) -> &'a str {
        self.scope.source.text.get(span.clone()).unwrap_or("")
    }
}

/// The candidate that was probably meant.
pub(super) fn nearest<'c>(word: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    // Transposed, dropped and doubled letters of our own keys are above this, strangers below.
    const ALIKE: f64 = 0.8;
    let word = word.to_lowercase();
    let likeness = |candidate: &str| {
        let candidate = &candidate.to_lowercase();
        // In a short word one slip weighs too much: "lna" for "lan".
        let one_slip = word.len() >= 3 && strsim::osa_distance(&word, candidate) <= 1;
        strsim::jaro_winkler(&word, candidate).max(if one_slip { 0.9 } else { 0.0 })
    };
    candidates
        .map(|candidate| (likeness(candidate), candidate))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// A text.
pub(super) fn text(value: &Value) -> Taken<String> {
    match &value.kind {
        Kind::Text(text) => Ok(text.clone()),
        other => Err(Wrong::new(format!("is {}, not a text in quotation marks", other.describe()))),
    }
}

/// `true` or `false`.
pub(super) fn boolean(value: &Value) -> Taken<bool> {
    match &value.kind {
        Kind::Boolean(boolean) => Ok(*boolean),
        other => Err(Wrong::noted(format!("is {}, not true or false", other.describe()), "without quotation marks")),
    }
}

/// A whole number within bounds.
pub(super) fn integer<T>(bounds: RangeInclusive<T>) -> impl Fn(&Value) -> Taken<T>
where
    T: Copy + TryFrom<i128> + Into<i128> + std::fmt::Display,
{
    move |value| {
        let (low, high) = (*bounds.start(), *bounds.end());
        let note = format!("{low} to {high}");
        match value.kind {
            Kind::Integer(number) if (low.into()..=high.into()).contains(&number) => {
                T::try_from(number).map_err(|_| Wrong::noted(format!("is {number}"), note))
            }
            Kind::Integer(number) => Err(Wrong::noted(format!("is {number}, outside {low} to {high}"), note)),
            ref other => Err(Wrong::noted(format!("is {}, not a whole number", other.describe()), note)),
        }
    }
}

/// A finite number within bounds.
pub(super) fn number(bounds: RangeInclusive<f64>) -> impl Fn(&Value) -> Taken<f64> {
    move |value| {
        let (low, high) = (bounds.start(), bounds.end());
        let number = match &value.kind {
            Kind::Float(number) => *number,
            #[allow(clippy::cast_precision_loss, reason = "beyond 2^53 every bound of ours is exceeded anyway")]
            Kind::Integer(number) => *number as f64,
            other => return Err(Wrong::new(format!("is {}, not a number", other.describe()))),
        };
        if bounds.contains(&number) {
            return Ok(number);
        }
        Err(Wrong::noted(format!("is {number}, outside {low} to {high}"), format!("{low} to {high}")))
    }
}

/// A duration within bounds.
pub(super) fn duration_within(bounds: RangeInclusive<Duration>) -> impl Fn(&Value) -> Taken<Duration> {
    move |value| {
        let (low, high) = (show_duration(*bounds.start()), show_duration(*bounds.end()));
        quantity(value, TIME_UNITS, duration, &bounds, (&low, &high))
    }
}

/// A size in bytes within bounds.
pub(super) fn size_within(bounds: RangeInclusive<u64>) -> impl Fn(&Value) -> Taken<u64> {
    move |value| {
        let (low, high) = (show_size(*bounds.start()), show_size(*bounds.end()));
        quantity(value, SIZE_UNITS, size, &bounds, (&low, &high))
    }
}

/// A power in W within bounds.
pub(super) fn power_within(bounds: RangeInclusive<u64>) -> impl Fn(&Value) -> Taken<u64> {
    move |value| {
        let (low, high) = (show_power(*bounds.start()), show_power(*bounds.end()));
        quantity(value, POWER_UNITS, power, &bounds, (&low, &high))
    }
}

/// An energy in Wh within bounds.
pub(super) fn energy_within(bounds: RangeInclusive<u64>) -> impl Fn(&Value) -> Taken<u64> {
    move |value| {
        let (low, high) = (show_energy(*bounds.start()), show_energy(*bounds.end()));
        quantity(value, ENERGY_UNITS, energy, &bounds, (&low, &high))
    }
}

/// A rate in bytes per second within bounds.
pub(super) fn rate_within(bounds: RangeInclusive<u64>) -> impl Fn(&Value) -> Taken<u64> {
    move |value| {
        let (low, high) = (format!("{}/s", show_size(*bounds.start())), format!("{}/s", show_size(*bounds.end())));
        quantity(value, RATE_UNITS, rate, &bounds, (&low, &high))
    }
}

fn quantity<T: PartialOrd>(
    value: &Value,
    units: &'static str,
    read: impl Fn(&str) -> Result<T, NotAQuantity>,
    bounds: &RangeInclusive<T>,
    (low, high): (&str, &str),
) -> Taken<T> {
    let text = match &value.kind {
        Kind::Text(text) => text,
        Kind::Integer(number) => {
            return Err(Wrong::noted(format!("is the bare number {number}, without a unit"), units));
        }
        other => return Err(Wrong::noted(format!("is {}, not a text with a unit", other.describe()), units)),
    };
    let quantity = read(text).map_err(|NotAQuantity { problem, instead }| {
        let problem = format!("= \"{text}\" {problem}");
        match instead {
            Some(instead) if read(&instead).is_ok_and(|meant| bounds.contains(&meant)) => {
                Wrong::instead(problem, format!("\"{instead}\""), units)
            }
            _ => Wrong::noted(problem, units),
        }
    })?;
    if bounds.contains(&quantity) {
        return Ok(quantity);
    }
    let (side, bound) = if quantity < *bounds.start() { ("below", low) } else { ("above", high) };
    Err(Wrong::instead(
        format!("= \"{text}\" is {side} the bound of {bound}"),
        format!("\"{bound}\""),
        format!("{low} to {high}"),
    ))
}

/// One of a few words.
pub(super) fn one_of<T: Copy>(words: &[(&'static str, T)]) -> impl Fn(&Value) -> Taken<T> {
    move |value| {
        let list = words.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(" | ");
        let given = text(value).map_err(|wrong| Wrong::noted(wrong.problem, list.clone()))?;
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == given) {
            return Ok(*meaning);
        }
        let problem = format!("= \"{given}\" is not one of its words");
        match nearest(&given, words.iter().map(|(word, _)| *word)) {
            Some(word) => Err(Wrong::instead(problem, format!("\"{word}\""), list)),
            None => Err(Wrong::noted(problem, list)),
        }
    }
}

/// A name of the vocabulary.
pub(super) fn name<T>(value: &Value) -> Taken<T>
where
    T: for<'t> TryFrom<&'t str, Error = crate::spec::InvalidName>,
{
    let given = text(value)?;
    T::try_from(&given).map_err(|invalid| Wrong::new(format!("= {invalid}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_near_and_a_stranger_is_not() {
        let keys = ["kind", "bus", "address", "unit", "profile", "poll", "timeout"];
        for (slip, meant) in [("adress", "address"), ("pol", "poll"), ("bsu", "bus"), ("Profile", "profile")] {
            assert_eq!(nearest(slip, keys.into_iter()), Some(meant));
        }
        for stranger in ["colour", "baud", "x", "", "interval"] {
            assert_eq!(nearest(stranger, keys.into_iter()), None, "{stranger}");
        }
    }
}
