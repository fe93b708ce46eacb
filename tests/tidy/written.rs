//! What is written to disk is made of plain types of its own: a type with a serde derive below `journal/disk/v1` names in
//! its fields types that are declared there with such a derive, those of std below, and primitives. So nothing that changes
//! in another room changes what is on disk.

use std::collections::BTreeSet;

/// Types of std whose form serde will not change.
const STD: [&str; 5] = ["Option", "Vec", "Cow", "String", "Duration"];

/// A type with a serde derive.
struct Item<'a> {
    name: &'a str,
    is_enum: bool,
    /// Between its braces or parentheses.
    body: &'a str,
    line: usize,
}

/// All that is wrong in these files, given with their code without comments and strings.
pub(crate) fn check(files: &[(String, String)]) -> Vec<String> {
    let own: BTreeSet<&str> = files.iter().flat_map(|(_, code)| items(code)).map(|item| item.name).collect();
    let mut findings = Vec::new();
    for (place, code) in files {
        let imported = imported(code);
        for item in items(code) {
            for name in types(&item) {
                if imported.contains(name) || !(own.contains(name) || STD.contains(&name)) {
                    let Item { name: item, line, .. } = item;
                    findings
                        .push(format!("src/{place}:{line}: {item} is written, and {name} is no plain type of its own"));
                }
            }
        }
    }
    findings
}

/// The items with a serde derive, also those that a macro makes.
fn items(code: &str) -> Vec<Item<'_>> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("#[derive(") {
        let (derive, rest) = code[at..].split_once(']').unwrap_or_default();
        if !derive.contains("Serialize") && !derive.contains("Deserialize") {
            continue;
        }
        let Some(item) = ["struct ", "enum "].into_iter().filter_map(|kind| Some((rest.find(kind)?, kind))).min()
        else {
            continue;
        };
        let (offset, kind) = item;
        let after = &rest[offset + kind.len()..];
        let Some(open) = after.find(['{', '(']) else { continue };
        let head = after[..open].trim();
        let name = head.split(['<', ' ']).next().unwrap_or_default();
        let line = code[..at].matches('\n').count() + 1;
        found.push(Item { name, is_enum: kind == "enum ", body: inside(&after[open..]), line });
    }
    // What a macro is called with: `enum Name = domain { … }`.
    for (at, _) in code.match_indices("enum ") {
        let declared = code[at + "enum ".len()..].split_once(" = ");
        if let Some((name, _)) = declared.filter(|(name, _)| name.chars().all(char::is_alphanumeric)) {
            found.push(Item { name, is_enum: true, body: "", line: code[..at].matches('\n').count() + 1 });
        }
    }
    found
}

/// What lies between the first bracket and the one that closes it.
fn inside(code: &str) -> &str {
    let mut depth = 0;
    for (at, c) in code.char_indices() {
        match c {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &code[1.min(at)..at];
        }
    }
    code
}

/// The names of types in the fields of an item; a path counts by its first part.
fn types<'a>(item: &Item<'a>) -> Vec<&'a str> {
    let (mut found, mut depth, mut begins, mut at) = (Vec::new(), 0, true, 0);
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    while let Some(c) = item.body[at..].chars().next() {
        let rest = &item.body[at..];
        let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
        match c {
            _ if rest.starts_with("pub(") => at += 3 + inside(&rest[3..]).len() + 2,
            '#' => at += 1 + inside(&rest[1..]).len() + 2,
            '$' => at += 1 + rest[1..].find(|c| !is_part(c)).unwrap_or(rest.len() - 1),
            c if is_part(c) => {
                let (word, after) = rest.split_at(length);
                let before = &item.body[..at];
                let is_variant = item.is_enum && depth == 0 && begins;
                let is_path = after.starts_with("::");
                // Of a path the first part counts.
                let is_named = before.ends_with('\'') || before.ends_with("::");
                if !is_variant && !is_named && (is_path || word.starts_with(char::is_uppercase)) {
                    found.push(word);
                }
                begins = false;
                at += length;
            }
            _ => {
                match c {
                    '{' | '(' | '[' | '<' => depth += 1,
                    '}' | ')' | ']' | '>' => depth -= 1,
                    ',' if depth == 0 => begins = true,
                    _ => {}
                }
                at += c.len_utf8();
            }
        }
    }
    found
}

/// Names that the file takes from other rooms.
fn imported(code: &str) -> BTreeSet<&str> {
    let uses = code.split("use crate::").skip(1).filter_map(|rest| rest.split_once(';'));
    let foreign = uses.map(|(path, _)| path).filter(|path| !path.starts_with("journal::disk::v1"));
    let words = foreign.flat_map(|path| path.split(|c: char| !(c.is_alphanumeric() || c == '_')));
    words.filter(|word| word.starts_with(char::is_uppercase)).collect()
}

fn complaints(code: &str) -> usize {
    check(&[("journal/disk/v1/a.rs".to_owned(), code.to_owned())]).len()
}

#[test]
fn a_written_type_that_names_another_rooms_is_found() {
    for code in [
        "use crate::measure::Gap;\n#[derive(Serialize)]\nstruct A { gap: Gap }",
        "use crate::measure::{Epoch, Gap};\n#[derive(Deserialize)]\nenum A { One, Two(Option<Gap>) }",
        "#[derive(Debug, Serialize, Deserialize)]\nstruct A { gap: measure::Gap }",
        "#[derive(Serialize)]\nstruct A<'a>(#[serde(borrow)] Vec<Gap<'a>>);",
        "#[derive(Serialize)]\nenum A { One { gap: Gap } }",
        // One of its own has the same name, in another file.
        "use crate::measure::Gap;\n#[derive(Serialize)]\nstruct A(Gap);\nmod b { #[derive(Serialize)] struct Gap(u8); }",
    ] {
        assert_eq!(complaints(code), 1, "{code}");
    }
}

#[test]
fn a_written_type_of_plain_types_is_not_found() {
    for code in [
        "use crate::measure::Gap;\n#[derive(Serialize)]\nstruct A { gap: Option<u64> }\nfn f(gap: Gap) {}",
        "#[derive(Serialize)]\nenum Gap { One, Two(u8) }\n#[derive(Serialize)]\nstruct A<'a> { gap: Vec<Gap>, b: &'a [u8] }",
        "as_written! { enum Missing = measure::Missing { Timeout, Stale } }\n#[derive(Serialize)]\nstruct A(Missing);",
        "#[derive(Debug)]\nstruct A { gap: measure::Gap }",
    ] {
        assert_eq!(complaints(code), 0, "{code}");
    }
}
