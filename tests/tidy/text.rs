//! A file's text: its code without comments and strings, and without what only tests see.

/// The code with comments and the insides of strings blanked; lines stay where they are.
pub(crate) fn without_comments_and_strings(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(hashes) = raw_string(rest) {
            let close = format!("\"{}", "#".repeat(hashes));
            let inside = hashes + 2;
            rest[inside..].find(&close).map_or(rest.len(), |end| inside + end + close.len())
        } else if c == '"' {
            string_end(rest)
        } else if c == '\'' {
            char_end(rest)
        } else {
            0
        };
        if skipped == 0 {
            out.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            out.extend(rest[..skipped].chars().filter(|c| *c == '\n'));
            out.push(' ');
            rest = &rest[skipped..];
        }
    }
    out
}

/// The number of `#` if a raw string begins here.
fn raw_string(text: &str) -> Option<usize> {
    let after = text.strip_prefix('r')?;
    let hashes = after.chars().take_while(|c| *c == '#').count();
    after[hashes..].starts_with('"').then_some(hashes)
}

fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a character literal; 0 for a lifetime.
fn char_end(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => text[2..].char_indices().skip(1).find(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 3),
        Some((at, c)) if text[at + c.len_utf8()..].starts_with('\'') => at + c.len_utf8() + 1,
        _ => 0,
    }
}

/// Where the tests of a file begin: they stand last.
pub(crate) fn tests_begin(code: &str) -> usize {
    let module = code.match_indices("#[cfg(").map(|(at, _)| at).find(|at| {
        let rest = &code[*at..];
        rest.lines().next().is_some_and(|line| line.contains("test"))
            && rest.lines().take(4).any(|l| l.starts_with("mod tests"))
    });
    module.unwrap_or(code.len())
}

pub(crate) fn lines_containing<'c>(code: &'c str, pattern: &'c str) -> impl Iterator<Item = usize> {
    code.match_indices(pattern).map(|(at, _)| line_of(code, at))
}

pub(crate) fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// The code with every item blanked that is only there for tests; lines stay where they are.
pub(crate) fn without_tests(code: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(code.len()), code);
    while let Some(at) = ["#[cfg(test)]", "#[cfg(all(test"].iter().filter_map(|form| rest.find(form)).min() {
        let length = item_length(&rest[at..]);
        out.push_str(&rest[..at]);
        out.extend(rest[at..at + length].chars().filter(|c| *c == '\n'));
        rest = &rest[at + length..];
    }
    out + rest
}

/// How long an item is that begins with its attributes: to the `;` or the `}` that ends it.
fn item_length(item: &str) -> usize {
    let (mut depth, mut is_import) = (0_usize, false);
    for (at, c) in item.char_indices() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' => depth -= 1,
            '}' => {
                depth -= 1;
                if depth == 0 && !is_import {
                    return at + 1;
                }
            }
            ';' if depth == 0 => return at + 1,
            'u' if depth == 0 && item[at..].starts_with("use ") => is_import = true,
            _ => {}
        }
    }
    item.len()
}
