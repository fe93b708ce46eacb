//! The CAN part of a profile: which signals of a DBC file each point comes from.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::derived::{FormulaDraft, TermDraft};
use super::draft::Draft;
use super::{Critic, PointDraft};
use crate::config::dbc::{Dbc, DbcMessage, DbcSignal};
use crate::config::dbc_text::DbcFault;
use crate::config::fault::{Collector, Place};
use crate::config::section::{Form, Section, boolean, duration_within, integer, nearest, one_of, text};
use crate::spec::{Formula, FrameMatch, Signal, SignalKind, SignalPoint, Term, Unit, ValueType};

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

/// A point's signal, as far as it is said; a formula of signals is a `FormulaDraft`.
#[derive(Debug, Default)]
pub(super) struct SignalDraft {
    signal: Option<String>,
    pub(super) optional: Option<bool>,
    pub(super) stale_after: Option<Duration>,
}

/// What a point comes from.
#[derive(Debug)]
enum Source<'p> {
    Signal(&'p str),
    Sum(Vec<TermDraft>),
    Quotient(&'p [TermDraft; 2]),
}

impl<'p> Source<'p> {
    /// `None` for a point of which nothing is said, and for one that is worked out of points.
    fn of(point: &'p PointDraft) -> Option<Self> {
        match (&point.signal.signal, &point.formula) {
            (Some(signal), _) => Some(Self::Signal(signal)),
            (None, Some(FormulaDraft::Sum(terms))) => Some(Self::Sum(terms.clone())),
            (None, Some(FormulaDraft::Difference([first, second]))) => {
                Some(Self::Sum(vec![first.clone(), TermDraft { times: -second.times, ..second.clone() }]))
            }
            (None, Some(FormulaDraft::Quotient(terms))) => Some(Self::Quotient(terms)),
            // It is worked out of points, or nothing is said of it.
            (None, _) => None,
        }
    }

    fn signals(&self) -> Vec<&str> {
        match self {
            Self::Signal(name) => vec![*name],
            Self::Sum(terms) => terms.iter().map(|term| term.name.as_str()).collect(),
            Self::Quotient(terms) => terms.iter().map(|term| term.name.as_str()).collect(),
        }
    }
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
        Self {
            signal: section.optional("signal", text),
            optional: section.optional("optional", boolean),
            stale_after: section.optional("stale_after", duration_within(STALE)),
        }
    }

    pub(super) fn over(self, base: Self) -> Self {
        Self {
            signal: self.signal.or(base.signal),
            optional: self.optional.or(base.optional),
            stale_after: self.stale_after.or(base.stale_after),
        }
    }

    /// Whether it has a signal of its own.
    pub(super) fn is_said(&self) -> bool {
        self.signal.is_some()
    }
}

/// What the DBC gives for the point; silent about what is wrong.
pub(super) fn defaults(point: &PointDraft, dbc: &Dbc) -> DbcDefaults {
    let unknown = || DbcDefaults { unknown: true, ..DbcDefaults::default() };
    let Some(source) = Source::of(point) else { return unknown() };
    let found: Option<Vec<&DbcSignal>> = source.signals().iter().map(|name| Some(found(dbc, name).ok()?.1)).collect();
    let Some(signals) = found else { return unknown() };
    match (source, signals.as_slice()) {
        (Source::Signal(_), [signal]) => {
            let range = signal.range.as_ref().map(|range| (*range.start(), *range.end()));
            DbcDefaults { unit: unit(&signal.unit), texts: signal.texts.clone(), range, unknown: false }
        }
        (Source::Sum(_), [first, rest @ ..]) => {
            let of_first = unit(&first.unit);
            let is_one = rest.iter().all(|signal| unit(&signal.unit) == of_first);
            DbcDefaults { unit: of_first.filter(|_| is_one), ..DbcDefaults::default() }
        }
        _ => DbcDefaults::default(),
    }
}

/// The point's signals, or `None` after reporting what is wrong.
pub(super) fn complete(
    point: &PointDraft,
    draft: &Draft,
    dbc: &Dbc,
    value_type: ValueType,
    critic: Critic<'_>,
) -> Option<SignalPoint> {
    let term = |TermDraft { times, name, optional }: &TermDraft, key: &str| {
        let signal = resolve(draft, dbc, name, key, critic)?;
        Some(Term { times: *times, signal, optional: *optional })
    };
    let Some(source) = Source::of(point) else {
        let example = "\"PackVoltage\"   (or sum = [\"A\", \"-B\"], or product = [\"voltage\", \"current\"])";
        critic.require(false, "signal", example);
        return None;
    };
    let formula = match &source {
        Source::Signal(name) => {
            let signal = resolve(draft, dbc, name, "signal", critic)?;
            let is_integer = matches!(signal.kind, SignalKind::Unsigned | SignalKind::Signed);
            if value_type != ValueType::Float && !is_integer {
                critic.blame("is a code and cannot be a floating-point signal", "shape = \"float\"");
                return None;
            }
            Formula::Signal(signal, value_type == ValueType::Text)
        }
        Source::Sum(terms) => {
            // Through a list first, so that the first wrong name does not hide the others.
            let resolved: Vec<Option<Term>> = terms.iter().map(|each| term(each, "sum")).collect();
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
        Source::Quotient(terms) => {
            let [dividend, divisor] = terms.each_ref().map(|each| term(each, "quotient"));
            let terms = [dividend?, divisor?];
            if value_type != ValueType::Float {
                critic.blame("is a quotient and cannot be a code", "shape = \"float\"");
                return None;
            }
            Formula::Quotient(Box::new(terms))
        }
    };
    let Some(stale_after) = stale_after(point, &source, draft, dbc) else {
        let problem = "comes from a message without a cycle time (GenMsgCycleTime) in the DBC file";
        critic.blame(
            problem,
            "stale_after = \"5s\": without news for so long it is not known any more; or once under [can]",
        );
        return None;
    };
    Some(SignalPoint { formula, stale_after, optional: point.signal.optional.unwrap_or(false) })
}

/// `None` if nobody says. The signals are there.
fn stale_after(point: &PointDraft, source: &Source<'_>, draft: &Draft, dbc: &Dbc) -> Option<Duration> {
    let cycles = draft.can.stale_cycles.unwrap_or(STALE_CYCLES_DEFAULT);
    let cycle = |name: &&str| Some(found(dbc, name).ok()?.0.cycle? * cycles);
    let all: Option<Vec<Duration>> = source.signals().iter().map(cycle).collect();
    let own = all.and_then(|all| all.into_iter().max()).map(|own| own.max(*STALE.start()));
    point.signal.stale_after.or(own).or(draft.can.stale_after)
}

/// Whether the file has a signal of this name, in whatever message.
pub(super) fn has_signal(dbc: &Dbc, name: &str) -> bool {
    !matches!(found(dbc, name), Err(NotFound::Unknown))
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
