//! Points that are worked out of others of the same device, whatever its wire: `sum`, `difference`, `product`, `quotient`,
//! `phase_total` and `rate`.
//!
//! On a CAN bus a sum, a difference or a quotient may also be one of signals; then it is its source that makes it (`can`).

use std::time::Duration;

use super::draft::{INTERVAL, PointDraft};
use super::{Critic, scaled, usual_unit};
use crate::config::document::{Kind, Value};
use crate::config::fault::Collector;
use crate::config::section::{Section, Taken, Wrong, duration_within, nearest, text};
use crate::spec::{
    Aggregation, Conversion, DerivedFormula, DerivedPoint, DerivedTerm, Dimension, FieldName, Origin, PointSpec,
    Scaling, Unit, ValueType,
};

/// The most terms of a sum or a product.
const TERMS_MAX: usize = 32;
/// Every way in which a point can come to its value.
const WAYS: [&str; 8] = ["register", "signal", "sum", "difference", "product", "quotient", "phase_total", "rate"];
/// What is said of a register alone.
const OF_REGISTERS: [&str; 8] =
    ["table", "type", "length", "byte_order", "word_order", "mask", "not_available", "scale_register"];

/// How a point is worked out, as typed.
#[derive(Debug, Clone)]
pub(super) enum FormulaDraft {
    Sum(Vec<TermDraft>),
    Difference([TermDraft; 2]),
    Product(Vec<TermDraft>),
    Quotient([TermDraft; 2]),
    /// Of the points of this name with `_l1`, `_l2` and `_l3` behind it.
    PhaseTotal(String),
    Rate {
        of: String,
        over: Option<Duration>,
    },
    /// It cannot be read, which has been reported.
    Broken,
}

/// A signal or a point in a formula.
#[derive(Debug, Clone)]
pub(super) struct TermDraft {
    pub times: f64,
    pub name: String,
    /// With `?` behind it.
    pub optional: bool,
}

impl FormulaDraft {
    /// `None` if the point is worked out of nothing.
    pub(super) fn read(section: &Section<'_>) -> Option<Self> {
        let sum = section.list("sum", TERMS_MAX, term).map(Self::Sum);
        let difference = section.optional("difference", two_terms).map(Self::Difference);
        let product = section.list("product", TERMS_MAX, term).map(Self::Product);
        let quotient = section.optional("quotient", two_terms).map(Self::Quotient);
        let phase_total = section.optional("phase_total", text).map(Self::PhaseTotal);
        let over = section.optional("over", duration_within(INTERVAL));
        let rate = section.optional("rate", text).map(|of| Self::Rate { of, over });
        if let [_, second, ..] = section.present(&WAYS).as_slice() {
            let problem = "a point comes from a register or a signal, or is worked out in one way";
            section.blame(second, problem, format!("one of {}", WAYS.join(", ")));
        }
        if section.has("over") && !section.has("rate") {
            section.blame("over", "only a rate is one over a time", "rate = \"energy_import\", or delete this line");
        }
        let is_said = section.present(&WAYS).iter().any(|way| !matches!(*way, "register" | "signal"));
        let broken = is_said.then_some(Self::Broken);
        let formula = sum.or(difference).or(product).or(quotient).or(phase_total).or(rate).or(broken)?;
        for key in section.present(&OF_REGISTERS) {
            let problem = format!("the point is worked out of others and has no {key} of its own");
            section.blame(key, problem, format!("it without {key}"));
        }
        Some(formula)
    }

    /// What it is called.
    fn word(&self) -> &'static str {
        match self {
            Self::Sum(_) => "sum",
            Self::Difference(_) => "difference",
            Self::Product(_) => "product",
            Self::Quotient(_) => "quotient",
            Self::PhaseTotal(_) => "total of the phases",
            Self::Rate { .. } => "rate",
            Self::Broken => "formula",
        }
    }

    /// The signals or points in it.
    pub(super) fn terms(&self) -> &[TermDraft] {
        match self {
            Self::Sum(terms) | Self::Product(terms) => terms,
            Self::Difference(terms) | Self::Quotient(terms) => terms,
            Self::PhaseTotal(_) | Self::Rate { .. } | Self::Broken => &[],
        }
    }

    /// Whether it is one of points. A sum, a difference and a quotient is one of signals if all their names are those of signals, or if
    /// none is that of a point.
    pub(super) fn is_of_points(&self, is_point: impl Fn(&str) -> bool, is_signal: impl Fn(&str) -> bool) -> bool {
        match self {
            Self::Product(_) | Self::PhaseTotal(_) | Self::Rate { .. } | Self::Broken => true,
            Self::Sum(_) | Self::Difference(_) | Self::Quotient(_) => {
                let terms = self.terms();
                let are_signals = terms.iter().all(|term| is_signal(&term.name));
                !are_signals && terms.iter().any(|term| is_point(&term.name))
            }
        }
    }
}

/// All points of a profile, while those that are worked out are completed.
pub(super) struct Candidates<'a> {
    list: Vec<Candidate<'a>>,
    faults: &'a Collector,
    /// Whether a name that is not a point's is a signal's.
    is_signal: &'a dyn Fn(&str) -> bool,
}

struct Candidate<'a> {
    field: FieldName,
    /// Of one that is worked out.
    draft: Option<(&'a PointDraft, &'a FormulaDraft)>,
    spec: Option<PointSpec>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Underway,
    Done,
}

impl<'a> Candidates<'a> {
    pub(super) fn new(faults: &'a Collector, is_signal: &'a dyn Fn(&str) -> bool) -> Self {
        Self { list: Vec::new(), faults, is_signal }
    }

    /// A point that comes from the device; `None` if it has a mistake, which has been reported.
    pub(super) fn push(&mut self, field: &FieldName, spec: Option<PointSpec>) {
        self.list.push(Candidate { field: field.clone(), draft: None, spec, state: State::Done });
    }

    /// A point that is worked out.
    pub(super) fn push_derived(&mut self, point: &'a PointDraft, formula: &'a FormulaDraft) {
        if self.list.iter().any(|known| known.field == point.field) {
            let remedy = format!("device_{}, or another name of its own", point.field);
            Critic { point, faults: self.faults }.blame("has the name of one that the device tells itself", &remedy);
        }
        let field = point.field.clone();
        self.list.push(Candidate { field, draft: Some((point, formula)), spec: None, state: State::Open });
    }

    /// All of them, in their order; `None` if one has a mistake, all of which have been reported.
    pub(super) fn complete(mut self) -> Option<Vec<PointSpec>> {
        for at in 0..self.list.len() {
            self.finish(at, &mut Vec::new());
        }
        self.list.into_iter().map(|candidate| candidate.spec).collect()
    }

    /// Completes a point, and before it what it needs. `path`: what needs it.
    fn finish(&mut self, at: usize, path: &mut Vec<usize>) {
        let Candidate { draft: Some((point, formula)), state: state @ (State::Open | State::Underway), .. } =
            &mut self.list[at]
        else {
            return;
        };
        let (point, formula) = (*point, *formula);
        if *state == State::Underway {
            self.blame_cycle(point, at, path);
            return;
        }
        *state = State::Underway;
        path.push(at);
        let terms = self.terms(point, formula);
        for (_, operand) in terms.iter().flatten() {
            self.finish(*operand, path);
        }
        path.pop();
        let spec = terms.and_then(|terms| self.spec(point, formula, &terms));
        self.list[at].spec = spec;
        self.list[at].state = State::Done;
    }

    fn blame_cycle(&self, point: &PointDraft, at: usize, path: &[usize]) {
        let around = path.iter().skip_while(|known| **known != at).chain([&at]);
        let names: Vec<&str> = around.map(|at| self.list[*at].field.as_str()).collect();
        let problem = format!("is worked out of itself: {}", names.join(" → "));
        Critic { point, faults: self.faults }.blame(&problem, "points that do not need this one");
    }

    /// The operands with their factors, by their places; `None` after reporting what is wrong.
    fn terms(&self, point: &PointDraft, formula: &FormulaDraft) -> Option<Vec<(f64, usize)>> {
        let critic = Critic { point, faults: self.faults };
        let named: Vec<(f64, String)> = match formula {
            FormulaDraft::PhaseTotal(stem) => self.phases(stem, critic)?,
            FormulaDraft::Rate { of, .. } => vec![(1.0, of.clone())],
            FormulaDraft::Broken => return None,
            FormulaDraft::Sum(terms) | FormulaDraft::Product(terms) if terms.len() < 2 => {
                let (word, count) = (formula.word(), terms.len());
                critic.blame(&format!("is a {word} of {count}"), &format!("{word} = two points or more"));
                return None;
            }
            _ => formula.terms().iter().map(|term| (term.times, term.name.clone())).collect(),
        };
        if let FormulaDraft::Difference(_) = formula {
            let [first, (times, second)] = <[(f64, String); 2]>::try_from(named).ok()?;
            return Some(vec![self.placed(&first, critic)?, self.placed(&(-times, second), critic)?]);
        }
        if let Some(term) = formula.terms().iter().find(|term| term.optional) {
            let problem = format!("is worked out of {}?, a point, which is known or not by itself", term.name);
            critic.blame(&problem, &format!("\"{}\"", term.name));
        }
        // Through a list first, so that the first wrong name does not hide the others.
        let placed: Vec<Option<(f64, usize)>> = named.iter().map(|term| self.placed(term, critic)).collect();
        placed.into_iter().collect()
    }

    /// Two phases, or three.
    fn phases(&self, stem: &str, critic: Critic<'_>) -> Option<Vec<(f64, String)>> {
        let mut names = ["_l1", "_l2", "_l3"].map(|phase| format!("{stem}{phase}")).to_vec();
        let is_there = |name: &String| self.place(name).is_some();
        if !is_there(&names[2]) {
            names.pop();
        }
        if let Some(lacks) = names.iter().find(|name| !is_there(name)) {
            let problem = format!("is the total of the phases of {stem}, and there is no point {lacks}");
            let stems = || self.list.iter().filter_map(|known| known.field.as_str().strip_suffix("_l1"));
            let remedy = match nearest(stem, stems()).or(stems().next()) {
                Some(near) => format!("phase_total = \"{near}\""),
                None => format!("points {stem}_l1, {stem}_l2 and {stem}_l3"),
            };
            critic.blame(&problem, &remedy);
            return None;
        }
        Some(names.into_iter().map(|name| (1.0, name)).collect())
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.list.iter().position(|known| known.field.as_str() == name)
    }

    fn placed(&self, (times, name): &(f64, String), critic: Critic<'_>) -> Option<(f64, usize)> {
        if let Some(at) = self.place(name) {
            return Some((*times, at));
        }
        let (what, remedy) = if (self.is_signal)(name) {
            let remedy =
                format!("a point of its own for it, SOME_NAME = {{ signal = \"{name}\" }}, and that name here");
            ("a signal and not a point", remedy)
        } else {
            let own = critic.point.field.as_str();
            let others = self.list.iter().map(|known| known.field.as_str()).filter(|known| *known != own);
            let near = nearest(name, others.clone());
            let list = || others.clone().take(12).collect::<Vec<_>>().join(", ");
            let remedy =
                near.map_or_else(|| format!("points of this profile: {}", list()), |near| format!("\"{near}\""));
            ("not a point of this profile", remedy)
        };
        critic.blame(&format!("is worked out of {name}, which is {what}"), &remedy);
        None
    }

    /// The point itself; `None` after reporting what is wrong, or if something that it needs is wrong.
    fn spec(&self, point: &PointDraft, formula: &FormulaDraft, terms: &[(f64, usize)]) -> Option<PointSpec> {
        let critic = Critic { point, faults: self.faults };
        refuse_foreign(point, critic);
        let operands: Vec<&PointSpec> =
            terms.iter().map(|(_, at)| self.list[*at].spec.as_ref()).collect::<Option<_>>()?;
        if let Some(words) = operands.iter().find(|operand| operand.value_type == ValueType::Text) {
            critic.blame(&format!("is worked out of {}, which is a text", words.field), "points that are numbers");
            return None;
        }
        let value_type = point.value_type.unwrap_or(ValueType::Float);
        let can_be = match formula {
            FormulaDraft::Sum(_) | FormulaDraft::Difference(_) => value_type != ValueType::Text,
            _ => value_type == ValueType::Float,
        };
        if !can_be {
            critic.blame(&format!("is a {} and cannot be a code or a text", formula.word()), "shape = \"float\"");
            return None;
        }
        let (unit, conversion) = unit_of(point, formula, &operands, critic)?;
        point.check_meaning(value_type, unit, false, critic);
        let (wire_unit, of_unit) = unit.wire();
        let invert = point.invert.unwrap_or(false);
        let turned = |(low, high): (f64, f64)| {
            let (low, high) = (of_unit.apply(low), of_unit.apply(high));
            if invert { -high..=-low } else { low..=high }
        };
        Some(PointSpec {
            field: point.field.clone(),
            unit: wire_unit,
            value_type,
            aggregation: point.aggregation.unwrap_or_else(|| Aggregation::usual(value_type, wire_unit)),
            valid: point.valid.map(turned),
            frozen_after: None,
            scaling: Scaling {
                conversion: scaled(point.scale.unwrap_or(1.0), conversion),
                offset: of_unit.apply(point.offset.unwrap_or(0.0)),
                invert,
                texts: Vec::new(),
            },
            origin: Origin::Derived(DerivedPoint {
                formula: of_operands(formula, terms, &operands)?,
                stale_after: point.signal.stale_after,
            }),
        })
    }
}

/// What has no meaning for a point that comes from no wire.
fn refuse_foreign(point: &PointDraft, critic: Critic<'_>) {
    for (is_there, key) in [
        (point.group.is_some(), "group"),
        (point.frozen_after.is_some(), "frozen_after"),
        (point.texts.is_some(), "texts"),
        (point.signal.optional.is_some(), "optional"),
    ] {
        if is_there {
            critic.blame(&format!("is worked out of others and has no {key} of its own"), &format!("it without {key}"));
        }
    }
}

fn of_operands(formula: &FormulaDraft, terms: &[(f64, usize)], operands: &[&PointSpec]) -> Option<DerivedFormula> {
    let term = |((times, _), operand): (&(f64, usize), &&PointSpec)| DerivedTerm {
        times: *times,
        field: operand.field.clone(),
    };
    let all: Vec<DerivedTerm> = terms.iter().zip(operands).map(term).collect();
    Some(match formula {
        FormulaDraft::Sum(_) | FormulaDraft::Difference(_) | FormulaDraft::PhaseTotal(_) => DerivedFormula::Sum(all),
        FormulaDraft::Product(_) => DerivedFormula::Product(all),
        FormulaDraft::Quotient(_) => DerivedFormula::Quotient(Box::new(all.try_into().ok()?)),
        FormulaDraft::Broken => return None,
        FormulaDraft::Rate { over, .. } => {
            DerivedFormula::Rate { of: all.into_iter().next()?.field, over: over.unwrap_or_default() }
        }
    })
}

/// The unit as the point has it, or as it follows, and the way there from the operands' units on the wire.
fn unit_of(
    point: &PointDraft,
    formula: &FormulaDraft,
    operands: &[&PointSpec],
    critic: Critic<'_>,
) -> Option<(Unit, Conversion)> {
    let word = formula.word();
    let (first, rest) = operands.split_first()?;
    let (mut dimension, mut is_fixed) = (Dimension::of(first.unit), false);
    match formula {
        FormulaDraft::Sum(_) | FormulaDraft::Difference(_) | FormulaDraft::PhaseTotal(_) => {
            if let Some(other) = rest.iter().find(|operand| operand.unit != first.unit) {
                let (a, b) = (first.unit.symbol(), other.unit.symbol());
                let problem = format!("is a {word} of {} in \"{a}\" and {} in \"{b}\"", first.field, other.field);
                critic.blame(&problem, "points of one unit");
                return None;
            }
            is_fixed = true;
        }
        FormulaDraft::Product(_) => rest.iter().for_each(|by| dimension = dimension.times(Dimension::of(by.unit))),
        FormulaDraft::Quotient(_) => rest.iter().for_each(|by| dimension = dimension.over(Dimension::of(by.unit))),
        FormulaDraft::Broken => return None,
        FormulaDraft::Rate { .. } => {
            dimension = dimension.over(Dimension::of(Unit::Second));
            is_fixed = dimension.unit().is_some();
        }
    }
    let follows = match formula {
        FormulaDraft::Sum(_) | FormulaDraft::Difference(_) | FormulaDraft::PhaseTotal(_) => Some(first.unit),
        _ => dimension.unit(),
    };
    // A ratio of a name that is in percent, V times A of a name that is in kVA.
    let usual = usual_unit(point.field.as_str()).filter(|unit| !is_fixed && dimension.in_unit(*unit).is_some());
    let Some(unit) = point.unit.or(usual.filter(|_| follows.is_some())).or(follows) else {
        let units: Vec<String> = operands.iter().map(|operand| format!("\"{}\"", operand.unit.symbol())).collect();
        let problem = format!("is a {word} of {}, the unit of which cannot be worked out", units.join(" and "));
        critic.blame(&problem, "unit = \"…\": the one that it has, \"\" for a ratio or a count");
        return None;
    };
    let conversion = dimension.in_unit(unit);
    match (conversion, follows) {
        (Some(conversion), follows) if !is_fixed || follows == Some(unit.wire().0) => Some((unit, conversion)),
        (_, Some(follows)) => {
            let symbol = follows.symbol();
            let problem = format!("is in \"{}\"; as a {word} of these it is in \"{symbol}\"", unit.symbol());
            critic.blame(&problem, &format!("unit = \"{symbol}\", or no unit"));
            None
        }
        // Nobody knows better.
        (_, None) => Some((unit, Conversion::IDENTITY)),
    }
}

/// `"A"`, `"-A"`, `"2 * A"`, each with `?` at its end for a signal that need not be sent.
fn term(value: &Value) -> Taken<TermDraft> {
    let given = text(value)?;
    let (name, optional) = given.strip_suffix('?').map_or((given.as_str(), false), |name| (name, true));
    let (times, name) = match name.split_once('*') {
        Some((times, name)) => match times.trim().parse::<f64>() {
            Ok(times) if times.is_finite() && times != 0.0 => (times, name.trim()),
            _ => return Err(Wrong::noted(format!("= \"{given}\" is no number times a name"), "\"2 * Name\"")),
        },
        None => name.trim().strip_prefix('-').map_or((1.0, name.trim()), |name| (-1.0, name.trim())),
    };
    if name.is_empty() {
        return Err(Wrong::noted(
            format!("= \"{given}\" names neither a signal nor a point"),
            "\"Name\", \"-Name\", \"2 * Name\", \"Name?\"",
        ));
    }
    Ok(TermDraft { times, name: name.to_owned(), optional })
}

/// Two terms: what is divided, and by what; from what is taken, and what.
fn two_terms(value: &Value) -> Taken<[TermDraft; 2]> {
    let wrong = || Wrong::noted("is not a list of two signals or points", "[\"100 * Part\", \"Whole\"]");
    let Kind::List(items) = &value.kind else { return Err(wrong()) };
    let [first, second] = items.as_slice() else { return Err(wrong()) };
    let terms = [term(first)?, term(second)?];
    if terms.iter().any(|term| term.optional) { Err(wrong()) } else { Ok(terms) }
}
