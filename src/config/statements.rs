//! Cuts a TOML text into its statements, so that a mistake in one cannot hide the mistakes in the others.
//!
//! Only strings, comments and brackets are understood here; what a statement says is the TOML parser's to
//! tell. Where a string or a bracket is never closed, the cut is made at the next line that can only be a new
//! statement.

use std::ops::Range;

/// A table header or an assignment: where it is in the text, without the white space around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    pub span: Range<usize>,
    pub is_header: bool,
}

/// All statements of a text, in order. Comments and empty lines between them are left out.
pub(super) fn statements(text: &str) -> Vec<Statement> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let line_end = end_of_line(text, at);
        let line = &text[at..line_end];
        let start = at + (line.len() - line.trim_start().len());
        let first = text[start..line_end].bytes().next();
        let (end, is_header) = match first {
            None | Some(b'#') => {
                at = line_end + 1;
                continue;
            }
            Some(b'[') => (line_end, true),
            Some(_) => (end_of_assignment(text, start), false),
        };
        let end_trimmed = start + text[start..end].trim_end().len();
        found.push(Statement { span: start..end_trimmed, is_header });
        at = end + 1;
    }
    found
}

/// Where the line of `at` ends: at its newline, or at the end of the text.
fn end_of_line(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |newline| at + newline)
}

/// Where the assignment that begins at `start` ends: at the newline that is in no string and no bracket.
fn end_of_assignment(text: &str, start: usize) -> usize {
    let bytes = text.as_bytes();
    let mut open = Vec::new();
    let mut at = start;
    while at < bytes.len() {
        match bytes[at] {
            b'\n' if open.is_empty() || begins_a_statement(&text[at + 1..], open.last()) => return at,
            b'#' => {
                at = end_of_line(text, at);
                continue;
            }
            b'"' | b'\'' => {
                at = end_of_string(text, at);
                continue;
            }
            bracket @ (b'[' | b'{') => open.push(bracket),
            b']' | b'}' => {
                open.pop();
            }
            _ => {}
        }
        at += 1;
    }
    text.len()
}

/// The first byte after the string that begins at `start`. One that is never closed ends with its line.
fn end_of_string(text: &str, start: usize) -> usize {
    let quote = &text[start..=start];
    let escapes = quote == "\"";
    let long = quote.repeat(3);
    let (mark, limit) =
        if text[start..].starts_with(&long) { (long.as_str(), text.len()) } else { (quote, end_of_line(text, start)) };
    let bytes = text.as_bytes();
    let mut at = start + mark.len();
    while at < limit {
        if escapes && bytes[at] == b'\\' {
            at += 2;
        } else if bytes[at..limit].starts_with(mark.as_bytes()) {
            // A long string may end in one or two quotes of its own: """"a"""" is "a".
            let after = at + mark.len();
            let own = bytes[after..limit].iter().take(mark.len() - 1).take_while(|b| **b == bytes[start]).count();
            return after + own;
        } else {
            at += 1;
        }
    }
    end_of_line(text, start)
}

/// Whether the next line can only be a new statement, although a bracket is open: a header of bare words is no
/// array element, and inside `[` (not inside `{`) an assignment has no place either.
fn begins_a_statement(rest: &str, innermost: Option<&u8>) -> bool {
    let line = rest[..end_of_line(rest, 0)].trim();
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if let Some(header) = line.strip_prefix('[') {
        let header = header.strip_prefix('[').unwrap_or(header);
        let name = header.trim_start_matches(bare);
        return header.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.starts_with(']')
            && !matches!(&header[..header.len() - name.len()], "true" | "false" | "inf" | "nan");
    }
    let after_key = line.trim_start_matches(bare);
    innermost == Some(&b'[') && after_key.len() < line.len() && after_key.trim_start().starts_with('=')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str) -> Vec<&str> {
        statements(text).into_iter().map(|s| &text[s.span]).collect()
    }

    #[test]
    fn strings_comments_and_brackets_hide_newlines() {
        let text = concat!(
            "a = 1 # [x]\n\n  b = [ # ]\n  \"]\", [1],\n]\n[t] # c\r\n",
            "c = \"\"\"\n[no]\n\"\"\"\"\nd = '''x\n'''\ne={f=1,\ng=2}"
        );
        let expected = [
            "a = 1 # [x]",
            "b = [ # ]\n  \"]\", [1],\n]",
            "[t] # c",
            "c = \"\"\"\n[no]\n\"\"\"\"",
            "d = '''x\n'''",
            "e={f=1,\ng=2}",
        ];
        assert_eq!(cut(text), expected);
    }

    #[test]
    fn what_is_never_closed_hides_no_later_statement() {
        assert_eq!(cut("a = [1,\n[t]\nb = 2"), ["a = [1,", "[t]", "b = 2"]);
        assert_eq!(cut("a = [1,\nb = 2"), ["a = [1,", "b = 2"]);
        assert_eq!(cut("a = \"x\nb = 2"), ["a = \"x", "b = 2"]);
        assert_eq!(cut("a = \"\"\"x\nb = 2"), ["a = \"\"\"x", "b = 2"]);
        assert_eq!(cut("a = \"\\"), ["a = \"\\"]);
    }
}
