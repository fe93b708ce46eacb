//! The house rules that no compiler checks: who may import whom, which heavy crate is named where, and what no file
//! may hold. Data first, then the checks, then the proof that each check can fail.

#[path = "tidy/written.rs"]
mod written;

use std::fs;
use std::path::{Path, PathBuf};

use Reach::{Everything, Only};

/// What a room may import of the others.
enum Reach {
    Everything,
    Only(&'static [&'static str]),
}

/// The import table (src/ARCHITECTURE.md). `hal` is the crate.
const TABLE: [(&str, Reach); 15] = [
    ("spec", Only(&[])),
    ("measure", Only(&["spec"])),
    ("net", Only(&[])),
    ("health", Only(&["spec", "measure"])),
    // Of hal the plain types of a serial line and a unit: one type for one thing, and hal can import none of ours.
    ("config", Only(&["spec", "measure", "net", "hal"])),
    ("tls", Only(&["spec", "measure", "net"])),
    ("source", Only(&["spec", "measure", "health", "net", "tls", "hal"])),
    ("normalise", Only(&["spec", "measure"])),
    ("aggregate", Only(&["spec", "measure"])),
    ("journal", Only(&["spec", "measure", "health"])),
    ("uplink", Only(&["spec", "measure", "health", "net", "journal", "tls"])),
    ("api", Only(&["spec", "measure", "health", "journal", "config"])),
    ("agent", Everything),
    (
        "cli",
        Only(&[
            "agent",
            "config",
            "journal",
            "health",
            "hal",
            "api",
            "uplink",
            "spec",
            "measure",
            "net",
            "source",
            "normalise",
            "tls",
        ]),
    ),
    // The crate's front page and the binary name rooms, and nothing else.
    ("", Everything),
];

/// Heavy crates and the paths below `src/` in which they may be named.
const HEAVY: [(&str, &[&str]); 18] = [
    ("tokio_serial", &[]),
    ("tokio_modbus", &[]),
    ("socketcan", &[]),
    ("can_dbc", &["config/dbc.rs"]),
    ("iso15118", &["source/iso15118"]),
    ("sled", &["journal/disk/sled_segment.rs"]),
    ("postcard", &["journal/disk/v1/", "journal/golden_tests/later.rs"]),
    ("zstd", &["journal/disk/compress.rs"]),
    ("redb", &[]),
    ("rumqttc", &["uplink/"]),
    ("rustls", &["tls/", "uplink/"]),
    ("tokio_rustls", &["tls/"]),
    ("tokio_tungstenite", &["uplink/client/websocket.rs"]),
    ("httparse", &["uplink/client/websocket.rs"]),
    ("toml", &["config/"]),
    ("clap", &["cli/"]),
    ("rumqttd", &["cli/demo/"]),
    ("sd_notify", &[]),
];

/// A file that grows past this wants to be two.
const LINES_MAX: usize = 700;

#[test]
fn the_code_keeps_the_rules_of_the_house() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let findings = tidy(&root);
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

/// All that is wrong below `root`, one line each.
fn tidy(root: &Path) -> Vec<String> {
    let mut files = Vec::new();
    collect(root, &mut files);
    assert!(!files.is_empty(), "no code below {}", root.display());
    files.sort();
    let (mut findings, mut written) = (Vec::new(), Vec::new());
    for file in files {
        let text = fs::read_to_string(&file).expect("a source file");
        let place = file.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
        findings.extend(check(&place, &text));
        if place.starts_with("journal/disk/v1/") {
            written.push((place, without_comments_and_strings(&text)));
        }
    }
    findings.extend(written::check(&written));
    findings
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
}

/// All that is wrong in one file; `place` is its path below `src/`.
fn check(place: &str, text: &str) -> Vec<String> {
    let code = without_comments_and_strings(text);
    let (room, _) = place.split_once('/').unwrap_or(("", place));
    let mut findings = Vec::new();
    let mut find = |line: usize, what: String| findings.push(format!("src/{place}:{line}: {what}"));

    match TABLE.iter().find(|(name, _)| *name == room) {
        None => find(1, format!("room \"{room}\" is not in the import table of tests/tidy.rs")),
        Some((_, Everything)) if room == "agent" => {
            for (line, other) in imports(&code).into_iter().filter(|(_, other)| other == "cli") {
                find(line, format!("agent may not import {other}"));
            }
        }
        Some((_, Everything)) => {}
        Some((_, Only(allowed))) => {
            for (line, other) in imports(&code) {
                let known = other == "hal" || TABLE.iter().any(|(name, _)| *name == other);
                if known && other != room && !allowed.contains(&other.as_str()) {
                    find(line, format!("{room} may not import {other}"));
                }
            }
        }
    }
    let production = &code[..tests_begin(&code)];
    for (heavy, places) in HEAVY {
        if !places.iter().any(|allowed| place.starts_with(allowed)) {
            for line in lines_with_path(production, heavy) {
                find(line, format!("{heavy} is named outside of its room ({})", places.join(", ")));
            }
        }
    }
    let is_test = place.ends_with("tests.rs") || place.ends_with("testing.rs") || place.ends_with("mem_store.rs");
    let forbidden = [".unwrap()", "todo!", "unimplemented!", "unsafe {", "unsafe fn"];
    for pattern in forbidden.into_iter().filter(|_| !is_test) {
        for line in lines_containing(production, pattern) {
            find(line, format!("{pattern} has no place here"));
        }
    }
    let is_task = place.ends_with("task.rs") || place.starts_with("cli/demo/");
    if !is_task && !is_test {
        for line in lines_containing(production, "Instant::now") {
            find(line, "time is an argument; only task.rs reads it".to_owned());
        }
    }
    if place.ends_with("mod.rs") && !text.starts_with("//!") {
        find(1, "a room opens with its contract (//!)".to_owned());
    }
    let lines = text.lines().count();
    if lines > LINES_MAX {
        find(lines, format!("{lines} lines: this file wants to be two"));
    }
    findings
}

/// Rooms that the code names, with the line: `crate::room`, `crate::{a, b::c}`, `hal::…`, also over several lines.
fn imports(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for at in words(code, "crate") {
        let rest = code[at + "crate".len()..].trim_start();
        let line = line_of(code, at);
        if let Some(rest) = rest.strip_prefix("::") {
            let rest = rest.trim_start();
            if let Some(group) = rest.strip_prefix('{') {
                found.extend(heads(group).into_iter().map(|head| (line, head)));
            } else {
                found.push((line, head(rest)));
            }
        }
        if code[at..].starts_with("crate as ") {
            found.push((line, "an alias of crate".to_owned()));
        }
    }
    found.extend(lines_with_path(code, "hal").into_iter().map(|line| (line, "hal".to_owned())));
    found
}

/// The first segment of a path.
fn head(path: &str) -> String {
    path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// The first segments of the paths in a group whose opening brace is already read.
fn heads(group: &str) -> Vec<String> {
    let (mut found, mut depth, mut begins) = (Vec::new(), 1, true);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => begins = true,
            c if begins && !c.is_whitespace() => {
                found.push(head(&group[at..]));
                begins = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    found
}

/// Byte offsets at which `word` stands as a word of its own.
fn words(code: &str, word: &str) -> Vec<usize> {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let alone =
        |at: &usize| !is_part(code[..*at].chars().next_back()) && !is_part(code[at + word.len()..].chars().next());
    code.match_indices(word).map(|(at, _)| at).filter(alone).collect()
}

/// Lines on which `name` begins a path: `name::`, `use name;`.
fn lines_with_path(code: &str, name: &str) -> Vec<usize> {
    let begins_path = |at: &usize| {
        let (before, after) = (code[..*at].trim_end(), code[at + name.len()..].trim_start());
        !before.ends_with("::") && !before.ends_with('.') && (after.starts_with("::") || before.ends_with("use"))
    };
    words(code, name).into_iter().filter(begins_path).map(|at| line_of(code, at)).collect()
}

fn lines_containing(code: &str, pattern: &str) -> Vec<usize> {
    code.match_indices(pattern).map(|(at, _)| line_of(code, at)).collect()
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// Where the tests of a file begin: they stand last.
fn tests_begin(code: &str) -> usize {
    let module = code.match_indices("#[cfg(").map(|(at, _)| at).find(|at| {
        let rest = &code[*at..];
        rest.lines().next().is_some_and(|line| line.contains("test"))
            && rest.lines().take(4).any(|l| l.starts_with("mod tests"))
    });
    module.unwrap_or(code.len())
}

/// The code with comments and the insides of strings blanked; lines stay where they are.
fn without_comments_and_strings(text: &str) -> String {
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

fn complaints(place: &str, code: &str) -> usize {
    check(place, &format!("//! Contract.\n{code}\n")).len()
}

#[test]
fn an_import_against_the_table_is_found_in_every_form() {
    for code in [
        "use crate::uplink::run;",
        "use crate::{measure::Seq, uplink};",
        "use crate::{\n    measure::{Seq, Epoch},\n    uplink::{run},\n};",
        "fn f() { crate::uplink::run(); }",
        "pub use crate :: uplink;",
        "#[cfg(test)]\nmod tests {\n    use crate::uplink;\n}",
        "use hal::Clock;",
        "fn f() { let c = hal::LinuxClock::new(); }",
    ] {
        assert_eq!(complaints("journal/mod.rs", code), 1, "{code}");
    }
    assert_eq!(complaints("agent/mod.rs", "use crate::cli;"), 1);
    assert_eq!(complaints("unheard_of/mod.rs", ""), 1);
}

#[test]
fn what_the_table_allows_and_what_is_only_said_is_not_found() {
    for code in [
        "use crate::{measure::{Seq, Epoch}, health};",
        "// use crate::uplink;",
        "/* crate::uplink */",
        "const A: &str = \"crate::uplink\";",
        "const A: &str = r#\"\"crate::uplink\"\"#;",
        "fn f<'a>(c: char) -> bool { c == '\"' || c == '\\'' }",
        "struct Marshal; impl Marshal { fn shall() {} }",
    ] {
        assert_eq!(complaints("journal/mod.rs", code), 0, "{code}: {:?}", check("journal/mod.rs", code));
    }
}

#[test]
fn a_heavy_crate_outside_of_its_room_is_found() {
    assert_eq!(complaints("journal/core/journal_core.rs", "use sled::Db;"), 1);
    assert_eq!(complaints("journal/disk/sled_segment.rs", "use sled::Db;"), 0);
    assert_eq!(complaints("agent/task.rs", "fn f() { rumqttc::v5::x(); }"), 1);
    assert_eq!(complaints("source/modbus/task.rs", "use tokio_modbus::client;"), 1);
}

#[test]
fn what_no_file_may_hold_is_found() {
    for code in ["fn f() { x.unwrap(); }", "fn f() { todo!() }", "unsafe fn f() {}", "fn f() { Instant::now(); }"] {
        assert_eq!(complaints("journal/core/journal_core.rs", code), 1, "{code}");
    }
    let in_tests = "#[cfg(test)]\nmod tests {\n    fn f() { x.unwrap(); }\n}";
    assert_eq!(complaints("journal/core/journal_core.rs", in_tests), 0);
    assert_eq!(check("journal/mod.rs", "use std::fs;\n").len(), 1, "no contract");
    assert_eq!(complaints("journal/core/journal_core.rs", &"\n".repeat(LINES_MAX + 1)), 1);
}

#[test]
fn a_violation_deep_in_the_tree_is_found() {
    let dir = tempfile::tempdir().expect("a directory");
    let deep = dir.path().join("journal/deep/deeper");
    fs::create_dir_all(&deep).expect("made");
    fs::write(deep.join("leaf.rs"), "use crate::{measure, agent};\n").expect("written");
    let findings = tidy(dir.path());
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].contains("journal/deep/deeper/leaf.rs:1: journal may not import agent"));
}
