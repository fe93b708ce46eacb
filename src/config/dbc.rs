//! DBC files: what the frames of a CAN bus carry.
//!
//! In: a file as editors write it (UTF-8 or Windows-1252). Out: its messages, each signal with all that it takes to read
//! it from a frame: bits, kind, factor, offset, multiplexors (simple and extended: `SG_MUL_VAL_`), value table, unit, range; and
//! the cycle time of its message (`GenMsgCycleTime`). A message of a J1939 file is known by its parameter group.
//!
//! A signal that cannot be read is kept with the reason, so that the others can.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use can_dbc::{
    AttributeDefinition, AttributeValue, AttributeValueType, MessageId, MultiplexIndicator, NumericValue,
    SignalExtendedValueType, ValueDescription,
};

use super::dbc_text::{DbcFault, Prepared, prepared};
use crate::spec::{BitField, BitOrder, FrameMatch, Gate, Signal, SignalKind};

/// What the parser makes of the id of signals without a message.
const NO_MESSAGE: MessageId = MessageId::Extended(0);
/// How deep multiplexors may stand in each other.
const GATES_MAX: usize = 8;
/// So much of a line that is none is shown.
const LINE_CHARS_SHOWN: usize = 80;
/// The value of the attribute `VFrameFormat` that means a J1939 parameter group where the file has no list of them, and its name.
const FORMAT_J1939: (u64, &str) = (3, "J1939PG");
/// Windows-1252 from 0x80 to 0x9f (unassigned ones as they are in ISO 8859-1).
const CP1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘', '’',
    '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// A DBC file.
#[derive(Debug, Clone, PartialEq)]
pub struct Dbc {
    /// In the order of the file.
    pub messages: Vec<DbcMessage>,
}

/// A message.
#[derive(Debug, Clone, PartialEq)]
pub struct DbcMessage {
    /// Its name.
    pub name: Arc<str>,
    /// The frames that are it.
    pub frame: FrameMatch,
    /// Its id as the file has it.
    pub id: u32,
    /// Its payload in bytes.
    pub length: u64,
    /// How often it is sent, if the file says so.
    pub cycle: Option<Duration>,
    /// In the order of the file.
    pub signals: Vec<DbcSignal>,
}

/// A signal.
#[derive(Debug, Clone, PartialEq)]
pub struct DbcSignal {
    /// Its name.
    pub name: Arc<str>,
    /// How it is read, or why it cannot be.
    pub signal: Result<Signal, String>,
    /// Its message has another one of this name, which is not read: what is told of that.
    pub doubled: Option<String>,
    /// As the file has it.
    pub unit: Arc<str>,
    /// Smallest and largest value; `None` if the file leaves it open (`[0|0]`).
    pub range: Option<RangeInclusive<f64>>,
    /// What its codes mean.
    pub texts: Vec<(i128, Arc<str>)>,
}

impl Dbc {
    /// Reads a file without a mistake.
    ///
    /// # Errors
    /// It is not a DBC file, and where that shows; or its first mistake.
    pub fn read(bytes: &[u8]) -> Result<Self, DbcFault> {
        let (dbc, mistakes) = Self::read_with_mistakes(bytes)?;
        mistakes.into_iter().next().map_or(Ok(dbc), Err)
    }

    /// Reads a file, and tells every mistake in it; what is not concerned by them can be used.
    ///
    /// # Errors
    /// It is not a DBC file, and where that shows.
    pub fn read_with_mistakes(bytes: &[u8]) -> Result<(Self, Vec<DbcFault>), DbcFault> {
        let text = decoded(bytes);
        let Prepared { text: ready, mut mistakes, lines, no_messages, refused, doubled } = prepared(&text);
        let file = can_dbc::Dbc::try_from(ready.as_str()).map_err(|error| fault(&error, &text))?;
        let book = Book::of(&file);
        let is_none = |m: &can_dbc::Message| m.id == NO_MESSAGE && no_messages.contains(&m.name);
        let messages = file.messages.iter().filter(|message| !is_none(message));
        let mut messages: Vec<DbcMessage> = messages.map(|message| book.message(message)).collect();
        for message in &mut messages {
            let name_of_both = |signal: &DbcSignal| doubled.get(&(message.name.to_string(), signal.name.to_string()));
            for signal in &mut message.signals {
                signal.doubled = name_of_both(signal).cloned();
            }
            mistakes.extend(without_doubles(message));
            let written = u64::from(message.id) | u64::from(message.frame.extended) << 31;
            for signal in &mut message.signals {
                if let Some(problem) = beyond(signal, &message.name, message.length) {
                    let line = lines.get(&(written, signal.name.to_string())).copied();
                    let cure = "its start bit and size, or the length of the message, as its maker has them".to_owned();
                    mistakes.push(DbcFault { line, problem: problem.clone(), cure });
                    signal.signal = Err(problem);
                }
            }
        }
        mistakes.sort_by_key(|mistake| mistake.line);
        tell_apart(&mut messages);
        // Whoever wants one of these hears why there is none.
        for none in file.messages.iter().filter(|message| is_none(message)) {
            let Some(problem) = refused.get(&none.name) else { continue };
            let mut message = book.message(none);
            message
                .signals
                .iter_mut()
                .for_each(|signal| signal.signal = Err(format!("is in a message of which {problem}")));
            messages.push(message);
        }
        Ok((Self { messages }, mistakes))
    }

    /// Every signal, with its message.
    pub fn signals(&self) -> impl Iterator<Item = (&DbcMessage, &DbcSignal)> {
        self.messages.iter().flat_map(|message| message.signals.iter().map(move |signal| (message, signal)))
    }
}

/// Messages of one parameter group are told apart by their source address.
fn tell_apart(messages: &mut [DbcMessage]) {
    let frames: Vec<FrameMatch> = messages.iter().map(|message| message.frame).collect();
    for message in messages {
        if frames.iter().filter(|frame| **frame == message.frame).count() > 1 {
            message.frame = message.frame.with_number(0, 8, message.id & 0xff);
            message.signals.iter_mut().filter_map(|s| s.signal.as_mut().ok()).for_each(|s| s.frame = message.frame);
        }
    }
}

/// Takes out the signals that have the name of one before them. Of those that only have it by their long names this is told here.
fn without_doubles(message: &mut DbcMessage) -> Vec<DbcFault> {
    let (mut names, mut doubled) = (HashSet::new(), Vec::new());
    message.signals.retain(|signal| {
        let is_first = names.insert(Arc::clone(&signal.name));
        if !is_first && signal.doubled.is_none() {
            doubled.push(Arc::clone(&signal.name));
        }
        is_first
    });
    let mut faults = Vec::new();
    for name in doubled {
        let problem = format!("{} has two signals of the long name {name}", message.name);
        let cure = "another SystemSignalLongSymbol for one of the two, or delete it".to_owned();
        for signal in message.signals.iter_mut().filter(|signal| signal.name == name) {
            signal.doubled = Some(problem.clone());
        }
        faults.push(DbcFault { line: None, problem, cure });
    }
    faults
}

/// How a signal reaches beyond its message; a message of length 0 says nothing of its length.
fn beyond(signal: &DbcSignal, message: &str, length: u64) -> Option<String> {
    let field = signal.signal.as_ref().ok()?.field;
    let bytes = u64::from(field.last() / 8) + 1;
    let name = &signal.name;
    (length > 0 && bytes > length)
        .then(|| format!("the signal {name} needs {bytes} bytes, and its message {message} has {length}"))
}

fn decoded(bytes: &[u8]) -> String {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|byte| cp1252(*byte)).collect(),
    };
    text.strip_prefix('\u{feff}').map_or(text.clone(), str::to_owned)
}

fn cp1252(byte: u8) -> char {
    match byte {
        0x80..=0x9f => CP1252[usize::from(byte - 0x80)],
        other => char::from(other),
    }
}

/// The parser tells its place as ` --> line:column`, and of its reasons only the names of its rules.
fn fault(error: &can_dbc::DbcError, text: &str) -> DbcFault {
    let told = error.to_string();
    let place: Option<usize> = told.split(" --> ").nth(1).and_then(|rest| rest.split(':').next()?.trim().parse().ok());
    let line = place.and_then(|line| text.lines().nth(line.checked_sub(1)?));
    let shown: String = line.unwrap_or_default().trim().chars().take(LINE_CHARS_SHOWN).collect();
    let what = if shown.is_empty() { "it ends, or breaks off, in the midst of a statement" } else { &shown };
    DbcFault {
        line: place,
        problem: format!("this is not DBC: {what}"),
        cure: "the statement as a CAN tool writes it, such as SG_ Name : 0|8@1+ (1,0) [0|255] \"unit\" Receiver"
            .to_owned(),
    }
}

/// A signal, by its message and its name.
type Key<'f> = (MessageId, &'f str);
/// Values of a multiplexor.
type Values = Vec<RangeInclusive<u64>>;

/// What the file says of messages and signals outside of them, by name.
struct Book<'f> {
    /// Cycle times.
    cycles: HashMap<MessageId, Duration>,
    cycle_default: Option<Duration>,
    /// Whether a message is a parameter group, and whether one is that does not say.
    formats: HashMap<MessageId, bool>,
    is_j1939: bool,
    kinds: HashMap<Key<'f>, SignalExtendedValueType>,
    texts: HashMap<Key<'f>, Vec<(i128, Arc<str>)>>,
    /// Names of more than 32 characters, which the file itself cuts short.
    long_messages: HashMap<MessageId, &'f str>,
    long_signals: HashMap<Key<'f>, &'f str>,
    /// Multiplexor and values of a signal, where they are told at length.
    gates: HashMap<Key<'f>, (&'f str, Values)>,
}

impl<'f> Book<'f> {
    fn of(file: &'f can_dbc::Dbc) -> Self {
        let group_code = group_code(file);
        let is_group = |format: &AttributeValue| match format {
            AttributeValue::String(name) => name == FORMAT_J1939.1,
            number => whole(number) == Some(group_code),
        };
        let (mut cycles, mut formats, mut long_messages) = (HashMap::new(), HashMap::new(), HashMap::new());
        for value in &file.attribute_values_message {
            match value.name.as_str() {
                "GenMsgCycleTime" => cycles.extend(cycle(&value.value).map(|cycle| (value.message_id, cycle))),
                "VFrameFormat" => _ = formats.insert(value.message_id, is_group(&value.value)),
                "SystemMessageLongSymbol" => {
                    long_messages.extend(long(&value.value).map(|name| (value.message_id, name)));
                }
                _ => {}
            }
        }
        let named = file.attribute_values_signal.iter().filter(|value| value.name == "SystemSignalLongSymbol");
        let long_signals = named.filter_map(|v| Some(((v.message_id, v.signal_name.as_str()), long(&v.value)?)));
        let default = |name: &str| file.attribute_defaults.iter().find(|default| default.name == name);
        let protocol = file.attribute_values_database.iter().find(|value| value.name == "ProtocolType");
        let protocol = protocol.map(|value| &value.value).or(default("ProtocolType").map(|default| &default.value));
        let kinds = file.signal_extended_value_type_list.iter();
        let mut texts: HashMap<_, Vec<_>> = HashMap::new();
        for description in &file.value_descriptions {
            if let ValueDescription::Signal { message_id, name, value_descriptions } = description {
                let words =
                    value_descriptions.iter().map(|v| (i128::from(v.id), Arc::from(v.description.as_str()))).collect();
                texts.insert((*message_id, name.as_str()), words);
            }
        }
        let mut gates: HashMap<_, (&str, Vec<_>)> = HashMap::new();
        for told in &file.extended_multiplex {
            let values = told.mappings.iter().map(|mapping| mapping.min_value..=mapping.max_value);
            let entry = gates.entry((told.message_id, told.signal_name.as_str()));
            entry.or_insert((told.multiplexor_signal_name.as_str(), vec![])).1.extend(values);
        }
        Self {
            cycles,
            cycle_default: default("GenMsgCycleTime").and_then(|default| cycle(&default.value)),
            formats,
            is_j1939: match default("VFrameFormat") {
                _ if matches!(protocol, Some(AttributeValue::String(name)) if name.eq_ignore_ascii_case("J1939")) => {
                    true
                }
                default => default.is_some_and(|default| is_group(&default.value)),
            },
            kinds: kinds.map(|k| ((k.message_id, k.signal_name.as_str()), k.signal_extended_value_type)).collect(),
            texts,
            long_messages,
            long_signals: long_signals.collect(),
            gates,
        }
    }

    fn message(&self, message: &can_dbc::Message) -> DbcMessage {
        let (id, extended) = match message.id {
            MessageId::Standard(id) => (u32::from(id), false),
            MessageId::Extended(id) => (id, true),
        };
        let is_group = self.formats.get(&message.id).copied().unwrap_or(self.is_j1939);
        let frame =
            if extended && is_group { FrameMatch::parameter_group(id) } else { FrameMatch::exactly(id, extended) };
        let name: Arc<str> = self.long_messages.get(&message.id).copied().unwrap_or(&message.name).into();
        let signal = |signal: &can_dbc::Signal| self.signal(message, frame, &name, signal);
        DbcMessage {
            signals: message.signals.iter().map(signal).collect(),
            frame,
            id,
            length: message.size,
            cycle: self.cycles.get(&message.id).copied().or(self.cycle_default),
            name,
        }
    }

    fn signal(
        &self,
        message: &can_dbc::Message,
        frame: FrameMatch,
        message_name: &Arc<str>,
        signal: &can_dbc::Signal,
    ) -> DbcSignal {
        let long = self.long_signals.get(&(message.id, signal.name.as_str()));
        let name: Arc<str> = long.copied().unwrap_or(&signal.name).into();
        let read = || -> Result<Signal, String> {
            let (field, kind) = (bit_field(signal)?, self.kind(message.id, signal)?);
            let (factor, offset) = (signal.factor, signal.offset);
            let finite = factor.is_finite() && offset.is_finite();
            // Editors leave the factor and the offset of a signal that nobody scales at 0.
            let factor = if factor == 0.0 && offset == 0.0 { 1.0 } else { factor };
            let gates = self.gates(message, signal)?;
            if !finite {
                return Err("its factor or offset is not a number".to_owned());
            }
            let (name, message) = (name.clone(), Arc::clone(message_name));
            Ok(Signal { name, message, frame, field, kind, factor, offset, gates })
        };
        let (low, high) = (numeric(signal.min), numeric(signal.max));
        let mut texts = self.texts.get(&(message.id, signal.name.as_str())).cloned().unwrap_or_default();
        if signal.size == 64 && signal.value_type == can_dbc::ValueType::Unsigned {
            // The parser knows codes of 63 bits; a larger one was given to it as the negative one of the same bits.
            texts.iter_mut().filter(|(code, _)| *code < 0).for_each(|(code, _)| *code += 1 << 64);
        }
        DbcSignal {
            signal: read(),
            doubled: None,
            unit: signal.unit.as_str().into(),
            range: (low < high).then_some(low..=high),
            texts,
            name,
        }
    }

    fn kind(&self, message: MessageId, signal: &can_dbc::Signal) -> Result<SignalKind, String> {
        let extended = self.kinds.get(&(message, signal.name.as_str()));
        match (extended, signal.value_type) {
            (Some(SignalExtendedValueType::IEEEfloat32Bit | SignalExtendedValueType::IEEEdouble64bit), _) => {
                match signal.size {
                    32 => Ok(SignalKind::F32),
                    64 => Ok(SignalKind::F64),
                    bits => Err(format!("is a floating-point number of {bits} bits; 32 and 64 can be read")),
                }
            }
            (_, can_dbc::ValueType::Signed) => Ok(SignalKind::Signed),
            (_, can_dbc::ValueType::Unsigned) => Ok(SignalKind::Unsigned),
        }
    }

    /// The multiplexors on which a signal depends, the outermost last.
    fn gates(&self, message: &can_dbc::Message, signal: &can_dbc::Signal) -> Result<Vec<Gate>, String> {
        let mut gates = Vec::new();
        let mut inner = signal;
        while let Some((name, values)) = self.gate(message, inner)? {
            let multiplexor = message.signals.iter().find(|other| other.name == name);
            let multiplexor =
                multiplexor.ok_or_else(|| format!("depends on the multiplexor {name}, which is not there"))?;
            gates.push(Gate { field: bit_field(multiplexor)?, values });
            inner = multiplexor;
            if gates.len() > GATES_MAX {
                return Err("depends on multiplexors that depend on each other".to_owned());
            }
        }
        Ok(gates)
    }

    /// The multiplexor of a signal and the values of it by which the signal is there.
    fn gate<'m>(
        &self,
        message: &'m can_dbc::Message,
        signal: &'m can_dbc::Signal,
    ) -> Result<Option<(String, Values)>, String> {
        // What is told at length goes before the letter: some tools write `M` for a multiplexor inside of another.
        if let Some((name, values)) = self.gates.get(&(message.id, signal.name.as_str())) {
            return Ok(Some(((*name).to_owned(), values.clone())));
        }
        let value = match signal.multiplexer_indicator {
            MultiplexIndicator::Plain | MultiplexIndicator::Multiplexor => return Ok(None),
            MultiplexIndicator::MultiplexedSignal(value)
            | MultiplexIndicator::MultiplexorAndMultiplexedSignal(value) => value,
        };
        let root = message.signals.iter().find(|s| s.multiplexer_indicator == MultiplexIndicator::Multiplexor);
        let root = root.ok_or("is multiplexed, and its message has no multiplexor")?;
        Ok(Some((root.name.clone(), vec![value..=value])))
    }
}

fn bit_field(signal: &can_dbc::Signal) -> Result<BitField, String> {
    let order = match signal.byte_order {
        can_dbc::ByteOrder::LittleEndian => BitOrder::Intel,
        can_dbc::ByteOrder::BigEndian => BitOrder::Motorola,
    };
    BitField::new(order, signal.start_bit, signal.size)
}

#[allow(clippy::cast_precision_loss, reason = "a limit beyond 2^53 is none that anybody meets")]
fn numeric(value: NumericValue) -> f64 {
    match value {
        NumericValue::Uint(number) => number as f64,
        NumericValue::Int(number) => number as f64,
        NumericValue::Double(number) => number,
    }
}

fn whole(value: &AttributeValue) -> Option<u64> {
    match value {
        AttributeValue::Uint(number) => Some(*number),
        AttributeValue::Int(number) => u64::try_from(*number).ok(),
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be whole and small")]
        AttributeValue::Double(number) if number.fract() == 0.0 && (0.0..1e9).contains(number) => Some(*number as u64),
        AttributeValue::Double(_) | AttributeValue::String(_) => None,
    }
}

fn long(value: &AttributeValue) -> Option<&str> {
    match value {
        AttributeValue::String(name) if !name.is_empty() => Some(name),
        _ => None,
    }
}

/// The code of a parameter group in the file's own list of formats.
fn group_code(file: &can_dbc::Dbc) -> u64 {
    let own = file.attribute_definitions.iter().find_map(|definition| match definition {
        AttributeDefinition::Message(name, AttributeValueType::Enum(words)) if name == "VFrameFormat" => {
            words.iter().position(|word| word == FORMAT_J1939.1)
        }
        _ => None,
    });
    own.and_then(|code| u64::try_from(code).ok()).unwrap_or(FORMAT_J1939.0)
}

/// 0 is "not cyclic".
fn cycle(value: &AttributeValue) -> Option<Duration> {
    whole(value).filter(|ms| *ms > 0).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "VERSION \"\"\n\nNS_ :\n\nBS_:\n\nBU_: A\n\n";

    fn read(text: &str) -> Dbc {
        Dbc::read(format!("{HEAD}{text}").as_bytes()).expect("a file")
    }

    fn signal<'d>(dbc: &'d Dbc, name: &str) -> &'d DbcSignal {
        dbc.signals().find(|(_, signal)| &*signal.name == name).map(|(_, signal)| signal).expect(name)
    }

    #[test]
    fn units_ranges_words_and_cycle_times_are_read() {
        let dbc = read(
            "BO_ 256 M: 8 A\n SG_ T : 0|8@1+ (0.5,-40) [-40|87.5] \"degC\" A\n SG_ S : 8|2@1+ (1,0) [0|0] \"\" A\n\n\
             BA_DEF_ BO_ \"GenMsgCycleTime\" INT 0 65535;\nBA_DEF_DEF_ \"GenMsgCycleTime\" 0;\n\
             BA_ \"GenMsgCycleTime\" BO_ 256 100;\nVAL_ 256 S 0 \"off\" 1 \"on\" ;\n",
        );
        let [message] = dbc.messages.as_slice() else { panic!("{dbc:?}") };
        assert_eq!((message.cycle, message.length), (Some(Duration::from_millis(100)), 8));
        assert_eq!(signal(&dbc, "T").range, Some(-40.0..=87.5));
        assert_eq!((&*signal(&dbc, "T").unit, signal(&dbc, "S").range.clone()), ("degC", None));
        let words: Vec<_> = signal(&dbc, "S").texts.iter().map(|(code, word)| (*code, &**word)).collect();
        assert_eq!(words, [(0, "off"), (1, "on")]);
    }

    #[test]
    fn a_code_of_64_bits_has_its_word_and_a_range_beyond_63_bits_its_end() {
        let (dbc, mistakes) = case("dbc-val-u64.dbc");
        assert_eq!(mistakes, []);
        assert_eq!(signal(&dbc, "T").texts, [(i128::from(u64::MAX), Arc::from("SNA"))]);
        let dbc = read(
            "BO_ 256 M: 8 A\n SG_ T : 0|64@1+ (1,0) [0|18446744073709551615] \"\" A\n\
             BO_ 257 N: 8 A\n SG_ S : 0|64@1- (1,0) [0|0] \"\" A\n\nVAL_ 257 S -1 \"SNA\" 7 \"x\" ;\n",
        );
        assert_eq!(signal(&dbc, "T").range, Some(0.0..=18_446_744_073_709_551_615.0));
        assert_eq!(signal(&dbc, "S").texts[0].0, -1, "a signed signal");
    }

    #[test]
    fn multiplexors_inside_of_multiplexors_are_a_chain_of_gates() {
        let dbc = read(
            "BO_ 256 M: 8 A\n SG_ O M : 0|8@1+ (1,0) [0|0] \"\" A\n SG_ I m3M : 8|8@1+ (1,0) [0|0] \"\" A\n\
             \x20SG_ L m1 : 16|8@1+ (1,0) [0|0] \"\" A\n SG_ P : 24|8@1+ (1,0) [0|0] \"\" A\n\n\
             SG_MUL_VAL_ 256 I O 3-5, 9-9;\nSG_MUL_VAL_ 256 L I 1-1;\n",
        );
        let gates = |name: &str| -> Vec<(u16, Vec<RangeInclusive<u64>>)> {
            let signal = signal(&dbc, name).signal.as_ref().expect("usable");
            signal.gates.iter().map(|gate| (gate.field.first(), gate.values.clone())).collect()
        };
        assert_eq!(gates("L"), [(8, vec![1..=1]), (0, vec![3..=5, 9..=9])]);
        assert_eq!(gates("I"), [(0, vec![3..=5, 9..=9])]);
        assert!(gates("O").is_empty() && gates("P").is_empty());
    }

    #[test]
    fn messages_of_a_j1939_file_are_known_by_their_group_and_two_of_one_group_by_their_source() {
        let group = |attribute: &str| {
            let text = format!(
                "BO_ 2364540158 EEC1: 8 A\n SG_ N : 24|16@1+ (0.125,0) [0|8031.875] \"rpm\" A\n\n\
                 BO_ 2566834689 One: 8 A\n SG_ A1 : 0|8@1+ (1,0) [0|0] \"\" A\n\n\
                 BO_ 2566834690 Two: 8 A\n SG_ A2 : 0|8@1+ (1,0) [0|0] \"\" A\n\n{attribute}\n"
            );
            read(&text)
        };
        let dbc = group("BA_DEF_  \"ProtocolType\" STRING ;\nBA_DEF_DEF_ \"ProtocolType\" \"J1939\";");
        let accepts =
            |dbc: &Dbc, name: &str, id| signal(dbc, name).signal.as_ref().expect("usable").frame.accepts(id, true);
        assert!(accepts(&dbc, "N", 0x18f0_0421) && !accepts(&dbc, "N", 0x18f0_0521));
        assert!(accepts(&dbc, "A1", 0x0cfe_c101) == accepts(&dbc, "A1", 0x18fe_c101));
        assert!(!accepts(&dbc, "A1", dbc.messages[2].id) && accepts(&dbc, "A2", dbc.messages[2].id));
        let plain = group("");
        assert!(!accepts(&plain, "N", 0x18f0_0421) && accepts(&plain, "N", 0x0cf0_04fe));
    }

    #[test]
    fn a_signal_that_cannot_be_read_leaves_the_others() {
        let dbc = read(
            "BO_ 256 M: 8 A\n SG_ Bad : 0|16@1- (1,0) [0|0] \"\" A\n SG_ Good : 16|8@1+ (1,0) [0|0] \"\" A\n\n\
             SIG_VALTYPE_ 256 Bad : 1;\n",
        );
        assert!(signal(&dbc, "Bad").signal.as_ref().is_err_and(|why| why.contains("16 bits")));
        assert!(signal(&dbc, "Good").signal.is_ok());
    }

    #[test]
    fn a_file_in_windows_1252_is_read_and_one_that_is_none_says_where() {
        let mut bytes = HEAD.as_bytes().to_vec();
        bytes.extend(b"BO_ 256 M: 8 A\n SG_ T : 0|8@1+ (1,0) [0|0] \"\xb0C\" A\n");
        assert_eq!(&*signal(&Dbc::read(&bytes).expect("a file"), "T").unit, "°C");
        let fault =
            Dbc::read(format!("{HEAD}BO_ 256 M: 8 A\n SG_ T : zero|8@1+ (1,0)\n").as_bytes()).expect_err("none");
        assert!(fault.line.is_some_and(|line| line >= 9), "{fault:?}");
        let fault = Dbc::read(format!("{HEAD}BO_ 5000 M: 8 A\n").as_bytes()).expect_err("none");
        assert!(fault.line == Some(9) && fault.problem.contains("more than 11 bits"), "{fault:?}");
        assert!(Dbc::read(b"\x00\xff\xfe").is_err());
    }

    /// An id was cut down to 29 bits, and its message read from the frames of another.
    #[test]
    fn an_id_of_more_than_29_bits_is_a_mistake_and_no_other_message() {
        for id in [u64::from(u32::MAX), 0xf000_0001, 1 << 32, 0xc000_0001] {
            let text = format!(
                "{HEAD}BO_ 256 M: 8 A\n SG_ T : 0|32@1+ (1,0) [0|{id}] \"\" A\nBO_ {id} W: 8 A\n SG_ U : 0|8@1+ (1,0) [0|0] \"\" A\n\
                 VAL_ 256 T {id} \"SNA\" ;\nVAL_ {id} U 1 \"on\" ;\n"
            );
            let (dbc, mistakes) = Dbc::read_with_mistakes(text.as_bytes()).expect("the rest can be read");
            let problem = format!("the id {id} of W has more than 29 bits");
            assert!(mistakes.len() == 1 && mistakes[0].problem == problem, "{mistakes:?}");
            assert!(signal(&dbc, "U").signal.as_ref().is_err_and(|why| why.contains(&problem)));
            // The same number as a limit and as a code is what it is.
            let limit = signal(&dbc, "T").range.as_ref().map(|range| range.end().to_string());
            assert_eq!(limit, Some(id.to_string()));
            assert_eq!(signal(&dbc, "T").texts, [(i128::from(id), Arc::from("SNA"))]);
        }
    }

    #[test]
    fn two_signals_of_one_long_name_are_a_mistake() {
        let text = format!(
            "{HEAD}BO_ 256 M: 8 A\n SG_ T : 0|8@1+ (1,0) [0|0] \"\" A\n SG_ U : 8|8@1+ (1,0) [0|0] \"\" A\n\n\
             BA_DEF_ SG_ \"SystemSignalLongSymbol\" STRING ;\nBA_DEF_DEF_ \"SystemSignalLongSymbol\" \"\";\n\
             BA_ \"SystemSignalLongSymbol\" SG_ 256 T \"Same\";\nBA_ \"SystemSignalLongSymbol\" SG_ 256 U \"Same\";\n"
        );
        let (dbc, mistakes) = Dbc::read_with_mistakes(text.as_bytes()).expect("it is DBC");
        assert!(
            mistakes.len() == 1 && mistakes[0].problem == "M has two signals of the long name Same",
            "{mistakes:?}"
        );
        assert!(signal(&dbc, "Same").doubled.is_some());
    }

    fn case(name: &str) -> (Dbc, Vec<DbcFault>) {
        let path = format!("{}/tests/data/can/{name}", env!("CARGO_MANIFEST_DIR"));
        Dbc::read_with_mistakes(&std::fs::read(path).expect("a file")).expect("it is DBC")
    }

    #[test]
    fn what_other_tools_read_is_read() {
        let ids = |name: &str| -> Vec<u32> {
            let (dbc, mistakes) = case(name);
            assert_eq!(mistakes, [], "{name}");
            dbc.messages.iter().map(|message| message.id).collect()
        };
        assert_eq!(ids("dbc-comment-holds-BO.dbc"), [256]);
        assert_eq!(ids("dbc-independent-0x40000000.dbc"), [256]);
        let scaled = |name: &str| {
            let (dbc, _) = case(name);
            let signal = signal(&dbc, "T").signal.clone().expect("usable");
            (signal.factor, signal.offset)
        };
        assert_eq!(scaled("dbc-factor-enddot.dbc"), (5.0, 1.0));
        assert_eq!(scaled("dbc-factor-zero.dbc"), (0.0, 3.0));
        let (dbc, mistakes) = case("dbc-val-u64.dbc");
        let words: Vec<_> = signal(&dbc, "T").texts.iter().map(|(code, word)| (*code, &**word)).collect();
        assert_eq!((words, mistakes), (vec![(i128::from(u64::MAX), "SNA")], vec![]));
    }

    #[test]
    fn every_mistake_is_told_with_its_line_and_the_rest_is_read() {
        let told = |name: &str| {
            let (dbc, mistakes) = case(name);
            assert!(dbc.signals().any(|(_, signal)| signal.signal.is_ok()), "{name}");
            mistakes.into_iter().map(|m| (m.line.expect("a line"), m.problem)).collect::<Vec<_>>()
        };
        let problem = "the id 4096 of W1 has more than 11 bits";
        let ids = told("dbc-one-bad-id.dbc");
        assert_eq!((ids.len(), ids[0].0, ids[0].1.as_str(), ids[1].0), (2, 11, problem, 13));
        let problem = "the signal T needs 3 bytes, and its message M has 2";
        assert_eq!(told("dbc-signal-beyond.dbc"), [(10, problem.to_owned())]);
        let problem = "M has two signals T; the first is at line 10";
        assert_eq!(told("dbc-dup-signal.dbc"), [(11, problem.to_owned())]);
    }

    #[test]
    fn a_parameter_group_is_known_by_the_files_own_list_of_formats() {
        let (dbc, _) = case("j1939-enum-index.dbc");
        let frame = signal(&dbc, "EngineSpeed").signal.as_ref().expect("usable").frame;
        assert!(frame.accepts(0x18f0_0400, true) && frame.accepts(0x0cf0_0421, true));
    }
}
