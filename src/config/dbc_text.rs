//! A DBC text made ready for the parser, and the mistakes in it that the parser would not tell, or would tell one at a time.

use std::collections::{HashMap, HashSet};

/// Older editors keep signals without a message under this id, newer ones under the other, each by this name.
const NO_MESSAGE_OLD: u64 = 0x4000_0000;
const NO_MESSAGE: u64 = 0xc000_0000;
const NO_MESSAGE_NAME: &str = "VECTOR__INDEPENDENT_SIG_MSG";

/// A mistake in a file, or why it is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct DbcFault {
    /// Counted from 1; `None` if it is not known.
    pub line: Option<usize>,
    /// What is wrong.
    pub problem: String,
    /// What to write, or to do.
    pub cure: String,
}

/// What was found in a text.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    /// For the parser.
    pub text: String,
    /// In the order of the file.
    pub mistakes: Vec<DbcFault>,
    /// The names of what is no message that can be read: they stand under the id 0 of 29 bits.
    pub no_messages: HashSet<String>,
    /// Where each signal stands: by the message's id as it is written, and its name.
    pub lines: HashMap<(u64, String), usize>,
}

/// Looks through a text. What stands between quotes is nobody's statement, whatever it looks like.
pub(super) fn prepared(text: &str) -> Prepared {
    let mut found = Prepared { text: rewritten(text, number), ..Prepared::default() };
    found.no_messages.insert(NO_MESSAGE_NAME.to_owned());
    let plain = without_strings(text);
    let mut bad_ids = Vec::new();
    let mut message: Option<(u64, &str)> = None;
    for (line, words) in (1..).zip(plain.lines()) {
        let mut words = words.split_whitespace();
        match (words.next(), words.next(), message) {
            (Some("BO_"), Some(id), _) => {
                let name = words.next().unwrap_or_default().trim_end_matches(':');
                message = id.parse().ok().map(|id| (id, name));
                if let Some((id, _)) =
                    message.filter(|(id, _)| (0x800..0x8000_0000).contains(id) && *id != NO_MESSAGE_OLD)
                {
                    let problem = format!("the id {id} of {name} has more than 11 bits");
                    let cure = format!("an id of 29 bits is written with bit 31: BO_ {} {name}: …", id | 1 << 31);
                    found.mistakes.push(DbcFault { line: Some(line), problem, cure });
                    bad_ids.push(id);
                    found.no_messages.insert(name.to_owned());
                }
            }
            (Some("SG_"), Some(name), Some((id, message))) => {
                let key = (id, name.to_owned());
                match found.lines.get(&key) {
                    None => _ = found.lines.insert(key, line),
                    Some(first) => {
                        let problem = format!("{message} has two signals {name}; the first is at line {first}");
                        let cure = "another name for one of the two, or delete it".to_owned();
                        found.mistakes.push(DbcFault { line: Some(line), problem, cure });
                    }
                }
            }
            _ => {}
        }
    }
    if !bad_ids.is_empty() {
        // The parser would cut them down to another message's.
        let no_message = |word: &str| {
            let is_bad = word.parse().is_ok_and(|id: u64| bad_ids.contains(&id));
            is_bad.then(|| NO_MESSAGE.to_string())
        };
        found.text = rewritten(&found.text, no_message);
    }
    found
}

/// Numbers as the parser takes them.
fn number(word: &str) -> Option<String> {
    let digits = word.strip_prefix(['+', '-']).unwrap_or(word);
    if let Some(whole) = digits.strip_suffix('.')
        && !whole.is_empty()
        && whole.bytes().all(|byte| byte.is_ascii_digit())
    {
        return Some(format!("{word}0"));
    }
    match word.parse::<u64>() {
        Ok(NO_MESSAGE_OLD) => Some(NO_MESSAGE.to_string()),
        // A code of 64 bits: its bits are the same.
        Ok(code) if i64::try_from(code).is_err() => Some(code.cast_signed().to_string()),
        _ => None,
    }
}

/// Every word outside of quotes that `change` has another for is that one.
fn rewritten(text: &str, change: impl Fn(&str) -> Option<String>) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '+' | '-');
    let (mut out, mut rest, mut quoted) = (String::with_capacity(text.len()), text, false);
    while let Some(first) = rest.chars().next() {
        let end = if quoted || !is_word(first) {
            quoted ^= first == '"';
            first.len_utf8()
        } else {
            rest.find(|c| !is_word(c)).unwrap_or(rest.len())
        };
        let (word, after) = rest.split_at(end);
        match change(word).filter(|_| !quoted) {
            Some(other) => out.push_str(&other),
            None => out.push_str(word),
        }
        rest = after;
    }
    out
}

/// The same lines with blanks for all that stands in quotes.
fn without_strings(text: &str) -> String {
    let mut quoted = false;
    let plain = |c: char| {
        quoted ^= c == '"';
        if quoted && c != '\n' { ' ' } else { c }
    };
    text.chars().map(plain).collect()
}
