//! A DBC text made ready for the parser, and the mistakes in it that the parser would not tell, or would tell one at a time.

use std::collections::{HashMap, HashSet};

/// Older editors keep signals without a message under this id, newer ones under the other, each by this name.
const NO_MESSAGE_OLD: u64 = 0x4000_0000;
const NO_MESSAGE: u64 = 0xc000_0000;
const NO_MESSAGE_NAME: &str = "VECTOR__INDEPENDENT_SIG_MSG";

/// Statements in which whole numbers are codes of a signal.
const VALUES: [&str; 2] = ["VAL_", "VAL_TABLE_"];

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
    /// Of those why, as far as they are mistakes.
    pub refused: HashMap<String, String>,
    /// Signals of which there are two: by the message's name and theirs, why neither is read.
    pub doubled: HashMap<(String, String), String>,
    /// Where each signal stands: by the message's id as it is written, and its name.
    pub lines: HashMap<(u64, String), usize>,
}

/// Looks through a text. What stands between quotes is nobody's statement, whatever it looks like.
pub(super) fn prepared(text: &str) -> Prepared {
    let mut found = Prepared {
        text: rewritten(text, |word, statement, _| number(word, VALUES.contains(&statement))),
        ..Prepared::default()
    };
    found.no_messages.insert(NO_MESSAGE_NAME.to_owned());
    let plain = without_strings(text);
    let mut bad_ids = HashSet::new();
    let mut message: Option<(u64, &str)> = None;
    for (line, words) in (1..).zip(plain.lines()) {
        let mut words = words.split_whitespace();
        match (words.next(), words.next(), message) {
            (Some("BO_"), Some(id), _) => {
                let name = words.next().unwrap_or_default().trim_end_matches(':');
                message = id.parse().ok().map(|id| (id, name));
                if let Some((id, (problem, cure))) = message.and_then(|(id, name)| Some((id, bad_id(id, name)?))) {
                    found.refused.insert(name.to_owned(), problem.clone());
                    found.mistakes.push(DbcFault { line: Some(line), problem, cure });
                    bad_ids.insert(id);
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
                        found.doubled.insert((message.to_owned(), name.to_owned()), problem.clone());
                        found.mistakes.push(DbcFault { line: Some(line), problem, cure });
                    }
                }
            }
            _ => {}
        }
    }
    if !bad_ids.is_empty() {
        // The parser would cut them down to another message's. The same number may be a limit or a code besides.
        let no_message = |word: &str, statement: &str, place: usize| {
            let is_id = match statement {
                "SG_" => false,
                statement if VALUES.contains(&statement) => place == 1,
                // Behind what it is of: BA_REL_ "Name" BU_BO_REL_ NODE ID.
                _ => place <= 3,
            };
            let is_bad = is_id && word.parse().is_ok_and(|id: u64| bad_ids.contains(&id));
            is_bad.then(|| NO_MESSAGE.to_string())
        };
        found.text = rewritten(&found.text, no_message);
    }
    found
}

/// Numbers as the parser takes them.
fn number(word: &str, is_code: bool) -> Option<String> {
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
        Ok(code) if is_code && i64::try_from(code).is_err() => Some(code.cast_signed().to_string()),
        _ => None,
    }
}

/// Why a message cannot have this id, and what to write; `None` if it can.
fn bad_id(id: u64, name: &str) -> Option<(String, String)> {
    let bits = match id {
        NO_MESSAGE_OLD | NO_MESSAGE => return None,
        0x800..0x8000_0000 => 11,
        0xa000_0000.. => 29,
        _ => return None,
    };
    let cure = if bits == 11 {
        format!("an id of 29 bits is written with bit 31: BO_ {} {name}: …", id | 1 << 31)
    } else {
        format!("the id as the message's maker has it; one of 29 bits and bit 31 are at most {}", 0x9fff_ffff_u32)
    };
    Some((format!("the id {id} of {name} has more than {bits} bits"), cure))
}

/// Every word outside of quotes that `change` has another for is that one; it is told the word with which the statement begins, and
/// how many words after that this one is.
/// What follows on further lines still belongs to it: only a keyword, which ends with `_`, begins another. One pass, whatever the text.
fn rewritten(text: &str, change: impl Fn(&str, &str, usize) -> Option<String>) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '+' | '-');
    let (mut out, mut rest, mut quoted, mut statement) = (String::with_capacity(text.len()), text, false, "");
    // Whether only blanks stand between here and the end of a line or of a statement.
    let (mut begins, mut place) = (true, 0);
    while let Some(first) = rest.chars().next() {
        if quoted || !is_word(first) {
            quoted ^= first == '"';
            begins = !quoted && (matches!(first, '\n' | ';') || begins && first.is_whitespace());
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (word, after) = rest.split_at(rest.find(|c| !is_word(c)).unwrap_or(rest.len()));
        if begins && first.is_ascii_alphabetic() && word.ends_with('_') {
            (statement, place) = (word, 0);
        }
        begins = false;
        let other = change(word, statement, place);
        place += 1;
        match other {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Every blank looked back over all blanks before it: 8 MiB of them, which is as much as a file may have, took hours.
    #[test]
    fn a_text_of_nothing_but_blanks_is_looked_through_once() {
        for blank in [" ", "\t", "\r", "\n ", "\" \"", ";"] {
            let text = blank.repeat((8 << 20) / blank.len());
            assert_eq!(prepared(&text).text.len(), text.len(), "{blank:?}");
        }
    }

    #[test]
    fn a_code_of_64_bits_is_rewritten_on_whichever_line_of_its_statement_it_stands() {
        let max = u64::MAX;
        for text in [
            format!("VAL_ 1 S {max} \"a\" ;"),
            format!("\nVAL_ 1 S 0 \"a\"\n {max} \"b\" ;"),
            format!("\nVAL_ 1 S\r\n\t{max} \"a\"\n0 \"b\"\n{max} \"c\"\n;"),
            format!("\nVAL_\n1\nS\n{max} \"a\" ;"),
            format!("BS_: ; VAL_TABLE_ T 0 \"BO_\"\n\n{max} \"a\" ;"),
        ] {
            let want = text.replace(&max.to_string(), "-1");
            assert_eq!(prepared(&text).text, want);
        }
        // The list of keywords is no statement of values, and a limit is no code.
        let limit =
            format!("NS_ :\n\tVAL_\n\tVAL_TABLE_\nBS_:\nBO_ 1 M: 8 N\n SG_ S : 0|64@1+ (1,0) [0|{max}] \"\" N\n");
        assert_eq!(prepared(&limit).text, limit);
    }
}
