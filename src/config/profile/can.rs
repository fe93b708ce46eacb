//! The CAN part of a profile: which signals of a DBC file each point comes from.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::draft::Draft;
use super::{Critic, PointDraft};
use crate::config::dbc::{Dbc, DbcMessage, DbcSignal};
use crate::config::dbc_text::DbcFault;
use crate::config::document::{Kind, Value};
use crate::config::fault::{Collector, Place};
use crate::config::section::{Form, Section, Taken, Wrong, boolean, duration_within, integer, nearest, one_of, text};
use crate::spec::{Formula, FrameMatch, PointIx, Signal, SignalKind, SignalPoint, Term, Unit, ValueType};

pub(in crate::config) const CAN: Form = Form {
    table: "can",
    keys: &[
        ("dbc", "\"chademo.dbc\""),
        ("protocol", "\"j1939\""),
        ("node", "{ shift = 0, bits = 8 }"),
        ("ignore", "0x0000_0F00"),
        ("stale_cycles", "5"),
        ("stale_after", "\"500ms\""),
    ],
};
pub(in crate::config) const NODE: Form = Form { table: "can.node", keys: &[("shift", "0"), ("bits", "8")] };

/// So many cycles of a message may fail to come before its signals are stale.
const STALE_CYCLES_DEFAULT: u32 = 5;
/// Below, a busy gateway is late; beyond, nobody waits.
const STALE: std::ops::RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(3600);
/// The most signals in a sum.
const TERMS_MAX: usize = 32;
/// The units of DBC files that are written in many ways.
const UNIT_WORDS: [(&str, Unit); 12] = [
    ("degC", Unit::Celsius),
    ("deg C", Unit::Celsius),
    ("DegC", Unit::Celsius),
    ("C", Unit::Celsius),
    ("Volt", Unit::Volt),
    ("Amp", Unit::Ampere),
    ("Ampere", Unit::Ampere),
    ("percent", Unit::Percent),
    ("Ohm", Unit::Ohm),
    ("sec", Unit::Second),
    ("-", Unit::One),
    ("1", Unit::One),
];

/// Where DBC files are found.
pub(in crate::config) trait DbcFiles {
    /// The file of this name, read.
    fn find(&self, name: &str) -> Result<Rc<Dbc>, DbcTrouble>;
}

/// Why there is no DBC file.
#[derive(Debug)]
pub(in crate::config) enum DbcTrouble {
    /// None of this name; what there is instead.
    Unknown(Vec<String>),
    Unreadable(std::io::Error),
    /// The file with its mistakes.
    Broken(String, Vec<DbcFault>),
}

/// Where a device's own number stands in an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct Node {
    pub shift: u8,
    pub bits: u8,
}

/// `[can]`: what holds for all points.
#[derive(Debug, Default)]
pub(super) struct CanDraft {
    dbc: Option<(String, Place)>,
    j1939: Option<bool>,
    node: Option<Node>,
    ignore: Option<u32>,
    stale_cycles: Option<u32>,
    stale_after: Option<Duration>,
    /// The table is there.
    said: bool,
}

impl CanDraft {
    /// `None` if the file has no such table.
    pub(super) fn read(section: Option<&Section<'_>>) -> Self {
        let Some(section) = section else { return Self::default() };
        let node = section.section("node", &NODE).and_then(|node| {
            let (shift, bits) = (node.required("shift", integer(0..=28_u8)), node.required("bits", integer(1..=16_u8)));
            let node = Node { shift: shift?, bits: bits? };
            if node.shift + node.bits > 29 {
                node_blame(section);
                return None;
            }
            Some(node)
        });
        let dbc = section.optional("dbc", text).map(|name| (name, section.place("dbc")));
        Self {
            dbc,
            j1939: section.optional("protocol", one_of(&[("j1939", true), ("none", false)])),
            node,
            ignore: section.optional("ignore", integer(0..=FrameMatch::EXTENDED_MASK)),
            stale_cycles: section.optional("stale_cycles", integer(2..=1000_u32)),
            stale_after: section.optional("stale_after", duration_within(STALE)),
            said: true,
        }
    }

    pub(super) fn over(self, base: Self) -> Self {
        Self {
            dbc: self.dbc.or(base.dbc),
            j1939: self.j1939.or(base.j1939),
            node: self.node.or(base.node),
            ignore: self.ignore.or(base.ignore),
            stale_cycles: self.stale_cycles.or(base.stale_cycles),
            stale_after: self.stale_after.or(base.stale_after),
            said: self.said || base.said,
        }
    }

    /// Whether this is a profile for a CAN bus.
    pub(super) fn is_said(&self) -> bool {
        self.said
    }

    /// Where the device's number stands: J1939 has it in the last byte.
    pub(super) fn node(&self) -> Option<Node> {
        self.node.or(self.j1939.unwrap_or(false).then_some(Node { shift: 0, bits: 8 }))
    }

    /// The DBC file; what is wrong with it is reported once.
    pub(super) fn file(&self, header: &Place, files: &dyn DbcFiles, faults: &Collector) -> Option<Rc<Dbc>> {
        let Some((name, place)) = &self.dbc else {
            let problem = "the key dbc is missing under [can]: the file that says what the frames carry";
            faults.push(header.fault("can.dbc", problem, "dbc = \"NAME.dbc\", a file beside this profile"));
            return None;
        };
        let (problem, remedy) = match files.find(name) {
            Ok(dbc) => return Some(dbc),
            Err(DbcTrouble::Unknown(known)) => {
                let remedy = match nearest(name, known.iter().map(String::as_str)) {
                    Some(near) => format!("dbc = \"{near}\""),
                    None => format!("devices/{name} beside the configuration, or one of {}", known.join(", ")),
                };
                (format!("there is no file \"{name}\""), remedy)
            }
            Err(DbcTrouble::Unreadable(error)) => {
                (format!("the file \"{name}\" cannot be read: {error}"), "a readable DBC file".to_owned())
            }
            Err(DbcTrouble::Broken(file, mistakes)) => {
                for DbcFault { line, problem, cure } in mistakes {
                    let at = line.map(|line| format!(":{line}")).unwrap_or_default();
                    faults.push(place.fault("can.dbc", format!("{file}{at}: {problem}"), cure));
                }
                return None;
            }
        };
        faults.push(place.fault("can.dbc", problem, remedy));
        None
    }

    /// Whether the frames of a message are those of several devices, and nothing tells them apart.
    fn mixes_sources(&self, message: &DbcMessage) -> bool {
        const SOURCE: u32 = 0xff;
        self.j1939.is_none() && self.node.is_none() && message.frame.extended && message.frame.mask & SOURCE == 0
    }

    /// The frames of a message, as this profile matches them.
    fn frame(&self, message: &DbcMessage) -> FrameMatch {
        let frame = match self.j1939 {
            Some(true) if message.frame.extended => FrameMatch::parameter_group(message.id),
            Some(false) => FrameMatch::exactly(message.id, message.frame.extended),
            _ => message.frame,
        };
        let ones = |node: Node| u32::try_from((1_u64 << node.bits) - 1).unwrap_or(u32::MAX) << node.shift;
        // Which number a device has is known only with the device.
        frame.ignoring(self.ignore.unwrap_or(0) | self.node().map_or(0, ones))
    }
}

fn node_blame(section: &Section<'_>) {
    section.blame(
        "node",
        "the number of the device reaches beyond the 29 bits of an id",
        "node = { shift = 0, bits = 8 }",
    );
}

/// A point's signals, as far as they are said.
#[derive(Debug, Default)]
pub(super) struct SignalDraft {
    source: Option<SourceDraft>,
    optional: Option<bool>,
    stale_after: Option<Duration>,
}

#[derive(Debug)]
enum SourceDraft {
    Signal(String),
    Sum(Vec<(f64, String, bool)>),
    Product([String; 2]),
    Quotient([(f64, String, bool); 2]),
}

/// What the signals of a point give for it, where its profile says nothing.
#[derive(Debug, Default)]
pub(super) struct DbcDefaults {
    pub unit: Option<Unit>,
    pub texts: Vec<(i128, Arc<str>)>,
    pub range: Option<(f64, f64)>,
    /// A signal is not there, which is reported: what it would have given is not missed.
    pub unknown: bool,
}

impl SignalDraft {
    pub(super) fn read(section: &Section<'_>) -> Self {
        let signal = section.optional("signal", text).map(SourceDraft::Signal);
        let sum = section.list("sum", TERMS_MAX, term).map(SourceDraft::Sum);
        let product = section.optional("product", pair).map(SourceDraft::Product);
        let quotient = section.optional("quotient", terms_of_quotient).map(SourceDraft::Quotient);
        if let [_, second, ..] = section.present(&["signal", "sum", "product", "quotient"]).as_slice() {
            section.blame(
                second,
                "a point comes from a signal, a sum or a quotient of signals, or a product of points",
                "one of the four",
            );
        }
        Self {
            source: signal.or(sum).or(product).or(quotient),
            optional: section.optional("optional", boolean),
            stale_after: section.optional("stale_after", duration_within(STALE)),
        }
    }

    pub(super) fn over(self, base: Self) -> Self {
        Self {
            source: self.source.or(base.source),
            optional: self.optional.or(base.optional),
            stale_after: self.stale_after.or(base.stale_after),
        }
    }

    /// Whether its sign follows from that of other points.
    pub(super) fn is_product(&self) -> bool {
        matches!(self.source, Some(SourceDraft::Product(_)))
    }

    /// Whether another point of the profile is a product of this one: then its sign decides about a power.
    pub(super) fn is_factor(draft: &Draft, field: &str) -> bool {
        let multiplies = |point: &PointDraft| match &point.signal.source {
            Some(SourceDraft::Product(names)) => names.iter().any(|name| name == field),
            _ => false,
        };
        draft.points.iter().any(multiplies)
    }

    /// What the DBC gives for the point; silent about what is wrong.
    pub(super) fn defaults(&self, dbc: &Dbc) -> DbcDefaults {
        let Some(SourceDraft::Signal(name)) = &self.source else {
            return match &self.source {
                Some(SourceDraft::Sum(terms)) => {
                    let units = terms.iter().map(|(_, name, _)| unit(&found(dbc, name).ok()?.1.unit));
                    let first = units.clone().next().flatten();
                    let unknown = terms.iter().any(|(_, name, _)| found(dbc, name).is_err());
                    DbcDefaults {
                        unit: first.filter(|_| units.clone().all(|unit| unit == first)),
                        unknown,
                        ..DbcDefaults::default()
                    }
                }
                Some(SourceDraft::Quotient(terms)) => {
                    let unknown = terms.iter().any(|(_, name, _)| found(dbc, name).is_err());
                    DbcDefaults { unknown, ..DbcDefaults::default() }
                }
                Some(_) => DbcDefaults::default(),
                None => DbcDefaults { unknown: true, ..DbcDefaults::default() },
            };
        };
        let Ok((_, signal)) = found(dbc, name) else { return DbcDefaults { unknown: true, ..DbcDefaults::default() } };
        let range = signal.range.as_ref().map(|range| (*range.start(), *range.end()));
        DbcDefaults { unit: unit(&signal.unit), texts: signal.texts.clone(), range, unknown: false }
    }

    /// The point's signals, or `None` after reporting what is wrong.
    pub(super) fn complete(
        &self,
        draft: &Draft,
        dbc: &Dbc,
        value_type: ValueType,
        critic: Critic<'_>,
    ) -> Option<SignalPoint> {
        let formula = match &self.source {
            None => {
                critic.require(
                    false,
                    "signal",
                    "\"PackVoltage\"   (or sum = [\"A\", \"-B\"], or product = [\"voltage\", \"current\"])",
                );
                return None;
            }
            Some(SourceDraft::Signal(name)) => {
                let signal = resolve(draft, dbc, name, "signal", critic)?;
                let is_integer = matches!(signal.kind, SignalKind::Unsigned | SignalKind::Signed);
                if value_type != ValueType::Float && !is_integer {
                    critic.blame("is a code and cannot be a floating-point signal", "shape = \"float\"");
                    return None;
                }
                Formula::Signal(signal, value_type == ValueType::Text)
            }
            Some(SourceDraft::Sum(terms)) => {
                let resolved = terms.iter().map(|(times, name, optional)| {
                    let signal = resolve(draft, dbc, name, "sum", critic)?;
                    Some(Term { times: *times, signal, optional: *optional })
                });
                // Through a list first, so that the first wrong name does not hide the others.
                let resolved: Vec<Option<Term>> = resolved.collect();
                let terms = resolved.into_iter().collect::<Option<Vec<_>>>()?;
                if terms.is_empty() {
                    critic.blame("is a sum of nothing", "sum = [\"A\", \"-B\"]");
                    return None;
                }
                if value_type == ValueType::Text {
                    critic.blame("is a sum and cannot be a text", "signal = \"…\"");
                    return None;
                }
                Formula::Sum(terms)
            }
            Some(SourceDraft::Product(names)) => Formula::Product(factors(draft, names, critic)?),
            Some(SourceDraft::Quotient(terms)) => {
                let [dividend, divisor] = terms.each_ref().map(|(times, name, optional)| {
                    let signal = resolve(draft, dbc, name, "quotient", critic)?;
                    Some(Term { times: *times, signal, optional: *optional })
                });
                let terms = [dividend?, divisor?];
                if value_type != ValueType::Float {
                    critic.blame("is a quotient and cannot be a code", "shape = \"float\"");
                    return None;
                }
                Formula::Quotient(Box::new(terms))
            }
        };
        let stale_after = self.stale_after(draft, dbc)?;
        let Some(stale_after) = stale_after else {
            let problem = "comes from a message without a cycle time (GenMsgCycleTime) in the DBC file";
            critic.blame(
                problem,
                "stale_after = \"5s\": without news for so long it is not known any more; or once under [can]",
            );
            return None;
        };
        Some(SignalPoint { formula, stale_after, optional: self.optional.unwrap_or(false) })
    }

    /// `None` if a signal is not there, which is told elsewhere; `Some(None)` if nobody says.
    fn stale_after(&self, draft: &Draft, dbc: &Dbc) -> Option<Option<Duration>> {
        let cycles = draft.can.stale_cycles.unwrap_or(STALE_CYCLES_DEFAULT);
        let of_signal = |name: &str| -> Option<Option<Duration>> {
            let (message, _) = found(dbc, name).ok()?;
            Some(message.cycle.map(|cycle| cycle * cycles))
        };
        let of_terms = |terms: &[(f64, String, bool)]| -> Option<Option<Duration>> {
            let all: Vec<Option<Duration>> = terms.iter().map(|(_, name, _)| of_signal(name)).collect::<Option<_>>()?;
            Some(all.into_iter().collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().max()))
        };
        if let Some(said) = self.stale_after {
            return Some(Some(said));
        }
        let own: Option<Duration> = match self.source.as_ref()? {
            SourceDraft::Signal(name) => of_signal(name)?,
            SourceDraft::Sum(terms) => of_terms(terms)?,
            SourceDraft::Quotient(terms) => of_terms(terms)?,
            SourceDraft::Product(names) => {
                let points = names.iter().filter_map(|name| draft.points.iter().find(|p| p.field.as_str() == name));
                let all: Vec<_> =
                    points.filter(|p| !p.signal.is_product()).map(|p| p.signal.stale_after(draft, dbc)).collect();
                let all: Vec<Option<Duration>> = all.into_iter().collect::<Option<_>>()?;
                all.into_iter().collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().max())
            }
        };
        Some(own.map(|own| own.max(*STALE.start())).or(draft.can.stale_after))
    }
}

/// The two points of a product.
fn factors(draft: &Draft, names: &[String; 2], critic: Critic<'_>) -> Option<[PointIx; 2]> {
    let place = |name: &String| {
        let found = draft.points.iter().position(|point| point.field.as_str() == name);
        let Some(at) = found else {
            let near = nearest(name, draft.points.iter().map(|point| point.field.as_str()));
            let remedy = near.map_or_else(|| "two points of this profile".to_owned(), |near| format!("\"{near}\""));
            critic.blame(&format!("is a product of {name}, which is not a point of this profile"), &remedy);
            return None;
        };
        if draft.points.get(at).is_some_and(|point| point.signal.is_product()) {
            critic.blame(
                &format!("is a product of {name}, which is a product itself"),
                "two points that come from signals",
            );
            return None;
        }
        u16::try_from(at).ok().map(PointIx)
    };
    let [first, second] = names;
    let (first, second) = (place(first), place(second));
    Some([first?, second?])
}

/// Why a name is not a signal's.
enum NotFound {
    Unknown,
    /// In several messages.
    Ambiguous(Vec<Arc<str>>),
}

/// `Message.Signal`, or `Signal` alone if only one message has it.
fn found<'d>(dbc: &'d Dbc, name: &str) -> Result<(&'d DbcMessage, &'d DbcSignal), NotFound> {
    if let Some((message, signal)) = name.split_once('.') {
        let mut all = dbc.signals();
        return all.find(|(m, s)| &*m.name == message && &*s.name == signal).ok_or(NotFound::Unknown);
    }
    let all: Vec<_> = dbc.signals().filter(|(_, signal)| &*signal.name == name).collect();
    match all.as_slice() {
        [] => Err(NotFound::Unknown),
        [one] => Ok(*one),
        several => Err(NotFound::Ambiguous(several.iter().map(|(message, _)| Arc::clone(&message.name)).collect())),
    }
}

fn resolve(draft: &Draft, dbc: &Dbc, name: &str, key: &str, critic: Critic<'_>) -> Option<Signal> {
    let file = draft.can.dbc.as_ref().map_or("the DBC file", |(name, _)| name.as_str());
    match found(dbc, name) {
        Ok((message, _)) if draft.can.mixes_sources(message) => {
            let problem = format!(
                "comes from {}, a parameter group of J1939, which every source on the bus may send: they would be one device",
                message.name
            );
            let cure = "protocol = \"j1939\" under [can]; then `node = 0`, its source address, in each device's table; or \
                        protocol = \"none\" for the one id that the file has";
            critic.blame(&problem, cure);
            None
        }
        Ok((_, DbcSignal { doubled: Some(why), .. })) => {
            critic.blame(&format!("comes from the signal {name} of {file}, and {why}"), "another signal");
            None
        }
        Ok((message, signal)) => match &signal.signal {
            Ok(signal) => {
                let frame = draft.can.frame(message);
                if !signal.field.fits_a_frame() && !frame.is_group() {
                    let problem = format!(
                        "comes from the signal {name} of {file}, which lies beyond the 64 bytes of the longest frame; only a \
                         parameter group of J1939 has messages of several frames"
                    );
                    critic.blame(&problem, "protocol = \"j1939\" under [can], if it is one");
                    return None;
                }
                Some(Signal { frame, ..signal.clone() })
            }
            Err(why) => {
                critic.blame(&format!("comes from the signal {name} of {file}, which {why}"), "another signal");
                None
            }
        },
        Err(NotFound::Ambiguous(messages)) => {
            let list = messages.iter().map(|m| format!("\"{m}.{name}\"")).collect::<Vec<_>>().join(" or ");
            critic.blame(
                &format!("comes from {name}, which {} messages of {file} have", messages.len()),
                &format!("{key} = {list}"),
            );
            None
        }
        Err(NotFound::Unknown) => {
            let long: Vec<String> = dbc.signals().map(|(m, s)| format!("{}.{}", m.name, s.name)).collect();
            let near = if name.contains('.') {
                nearest(name, long.iter().map(String::as_str))
            } else {
                nearest(name, dbc.signals().map(|(_, s)| &*s.name))
            };
            let remedy = match near {
                Some(near) => format!("{key} = \"{near}\""),
                None => format!(
                    "a signal of {file}; it has {}",
                    long.iter().take(12).cloned().collect::<Vec<_>>().join(", ")
                ),
            };
            critic.blame(&format!("comes from the signal \"{name}\", which {file} does not have"), &remedy);
            None
        }
    }
}

/// The unit of a DBC file as one of ours.
fn unit(symbol: &str) -> Option<Unit> {
    let symbol = symbol.trim();
    let known = UNIT_WORDS.iter().find(|(word, _)| *word == symbol).map(|(_, unit)| *unit);
    known.or_else(|| Unit::from_symbol(symbol)).filter(|_| !symbol.is_empty())
}

/// `"A"`, `"-A"`, `"2 * A"`, each with `?` at its end for a signal that need not be sent.
fn term(value: &Value) -> Taken<(f64, String, bool)> {
    let given = text(value)?;
    let (name, optional) = given.strip_suffix('?').map_or((given.as_str(), false), |name| (name, true));
    let (times, name) = match name.split_once('*') {
        Some((times, name)) => match times.trim().parse::<f64>() {
            Ok(times) if times.is_finite() && times != 0.0 => (times, name.trim()),
            _ => return Err(Wrong::noted(format!("= \"{given}\" is no number times a signal"), "\"2 * Name\"")),
        },
        None => name.trim().strip_prefix('-').map_or((1.0, name.trim()), |name| (-1.0, name.trim())),
    };
    if name.is_empty() {
        return Err(Wrong::noted(
            format!("= \"{given}\" names no signal"),
            "\"Name\", \"-Name\", \"2 * Name\", \"Name?\"",
        ));
    }
    Ok((times, name.to_owned(), optional))
}

/// Two terms: what is divided, and by what.
fn terms_of_quotient(value: &Value) -> Taken<[(f64, String, bool); 2]> {
    let wrong = || Wrong::noted("is not a list of two signals", "[\"100 * Part\", \"Whole\"]");
    let Kind::List(items) = &value.kind else { return Err(wrong()) };
    let [dividend, divisor] = items.as_slice() else { return Err(wrong()) };
    let terms = [term(dividend)?, term(divisor)?];
    if terms.iter().any(|(_, _, optional)| *optional) { Err(wrong()) } else { Ok(terms) }
}

fn pair(value: &Value) -> Taken<[String; 2]> {
    let wrong = || Wrong::noted("is not a list of two points", "[\"voltage\", \"current\"]");
    let Kind::List(items) = &value.kind else { return Err(wrong()) };
    let [first, second] = items.as_slice() else { return Err(wrong()) };
    Ok([text(first)?, text(second)?])
}
