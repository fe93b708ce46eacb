//! Circles between the files of a room: a file names something of another, which by some way names something of it.
//!
//! What a file names is where it is declared, and not where it is passed on: a `mod.rs` that declares its children and passes
//! on what they offer is part of no circle. What only tests see does not count.

use std::collections::{BTreeMap, BTreeSet};

use super::paths::{Form, Meaning, Named, Paths, module_of};
use super::text::without_tests;

/// How often a name may be passed on from file to file.
const PASSES_MAX: usize = 6;

struct File {
    place: String,
    paths: Paths,
}

/// Files that name each other in a circle.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Circle {
    /// Sorted.
    pub(crate) files: Vec<String>,
    /// Who names whom, and in which line first.
    pub(crate) names: Vec<String>,
}

/// From a file to those that it names, with the first line in which it does.
type Edges<'f> = BTreeMap<&'f str, BTreeMap<&'f str, usize>>;

/// The circles of a crate; `files` with their code without comments and strings.
pub(crate) fn circles(files: &[(String, String)]) -> Vec<Circle> {
    let tests = only_for_tests(files);
    let kept = files.iter().filter(|(place, _)| !tests.contains(&module_of(place)));
    let files: BTreeMap<Vec<String>, File> = kept
        .map(|(place, code)| {
            let paths = Paths::of(place, &without_tests(code));
            (module_of(place), File { place: place.clone(), paths })
        })
        .collect();
    let mut edges = Edges::new();
    for (module, file) in &files {
        let own = edges.entry(file.place.as_str()).or_default();
        for named in &file.paths.named {
            let target = target(&files, module, file, named).filter(|target| *target != file.place);
            if let Some(target) = target {
                own.entry(target).or_insert(named.line);
            }
        }
    }
    components(&edges)
}

/// The modules that a parent declares for tests, with all below them.
fn only_for_tests(files: &[(String, String)]) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    for (place, code) in files {
        let all: BTreeSet<&str> = declared(code).collect();
        let kept = without_tests(code);
        let kept: BTreeSet<&str> = declared(&kept).collect();
        found.extend(all.difference(&kept).map(|name| [module_of(place), vec![(*name).to_owned()]].concat()));
    }
    let below: Vec<Vec<String>> = files
        .iter()
        .map(|(place, _)| module_of(place))
        .filter(|module| found.iter().any(|tests| module.starts_with(tests)))
        .collect();
    found.extend(below);
    found
}

fn declared(code: &str) -> impl Iterator<Item = &str> {
    code.split("mod ").skip(1).filter_map(|rest| rest.split_once(';')).map(|(name, _)| name.trim())
}

/// The file of the same room in which that is declared which `named` means.
fn target<'f>(
    files: &'f BTreeMap<Vec<String>, File>,
    module: &[String],
    file: &File,
    named: &Named,
) -> Option<&'f str> {
    if matches!(named.form, Form::Use { passed_on: true, .. }) {
        return None;
    }
    let Some(Meaning::Own(path)) = file.paths.meaning(named, &[]) else { return None };
    if path.first() != module.first() {
        return None;
    }
    declaring(files, path, PASSES_MAX)
}

/// Follows a path through what is passed on to the file that declares its end.
fn declaring(files: &BTreeMap<Vec<String>, File>, path: Vec<String>, passes: usize) -> Option<&str> {
    let length = (1..=path.len()).rev().find(|length| files.contains_key(&path[..*length]))?;
    let (module, rest) = path.split_at(length);
    let file = &files[module];
    let Some((name, rest)) = rest.split_first().filter(|_| passes > 0) else { return Some(&file.place) };
    let passed = file.paths.named.iter().find(|named| {
        let Form::Use { name: as_name, passed_on } = &named.form else { return false };
        *passed_on && as_name == name
    });
    match passed.and_then(|named| file.paths.meaning(named, &[])) {
        Some(Meaning::Own(on)) if on != path => declaring(files, [&on, rest].concat(), passes - 1),
        _ => Some(&file.place),
    }
}

/// The strongly connected components of more than one file: for each file all that it reaches and that reaches it back.
fn components(edges: &Edges<'_>) -> Vec<Circle> {
    let reached: BTreeMap<&str, BTreeSet<&str>> = edges.keys().map(|from| (*from, reachable(edges, from))).collect();
    let mutual = reached.iter().map(|(from, reaches)| -> BTreeSet<&str> {
        reaches.iter().copied().filter(|to| reached[to].contains(from)).collect()
    });
    let circles: BTreeSet<BTreeSet<&str>> = mutual.filter(|files| files.len() > 1).collect();
    let told = |files: BTreeSet<&str>| {
        let mut names = Vec::new();
        for from in &files {
            let inside = edges[from].iter().filter(|(to, _)| files.contains(*to));
            names.extend(inside.map(|(to, line)| format!("{from}:{line} names {to}")));
        }
        Circle { files: files.iter().map(|file| (*file).to_owned()).collect(), names }
    };
    circles.into_iter().map(told).collect()
}

fn reachable<'f>(edges: &Edges<'f>, from: &str) -> BTreeSet<&'f str> {
    let (mut reached, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(next) = open.pop() {
        for to in edges[next].keys() {
            if reached.insert(*to) {
                open.push(*to);
            }
        }
    }
    reached
}

fn found(files: &[(&str, &str)]) -> Vec<Vec<String>> {
    let files: Vec<_> = files.iter().map(|(place, code)| ((*place).to_owned(), (*code).to_owned())).collect();
    circles(&files).into_iter().map(|circle| circle.files).collect()
}

#[test]
fn a_circle_is_found_in_every_form_and_through_what_is_passed_on() {
    let b = "use super::c::C;";
    for a in [
        "use crate::room::b::B;",
        "use super::b;",
        "fn f() { super::b::g(); }",
        "use crate::room::B;",
        "use super::{B, x::Y};",
    ] {
        let parent = "mod a;\nmod b;\nmod c;\npub use b::B;";
        let circles =
            found(&[("room/mod.rs", parent), ("room/a.rs", a), ("room/b.rs", b), ("room/c.rs", "use super::a::A;")]);
        assert_eq!(circles, [["room/a.rs", "room/b.rs", "room/c.rs"]], "{a}");
    }
    let parent = "mod a;\nuse a::A;\npub struct P(A);";
    assert_eq!(found(&[("room/mod.rs", parent), ("room/a.rs", "use super::P;")]), [["room/a.rs", "room/mod.rs"]]);
}

#[test]
fn what_is_no_circle_is_not_found() {
    // A parent that declares and passes on; one that its child uses; tests; another room, which the table judges.
    let parent = "mod a;\npub use a::A;\npub struct P;\n#[cfg(test)]\nmod tests;\n#[cfg(test)]\nuse a::helper;";
    let child = "use super::P;\n#[cfg(test)]\nmod tests { use crate::room::b::B; }";
    let other = "use super::a::A;\nuse crate::far::F;";
    let files = [
        ("room/mod.rs", parent),
        ("room/a.rs", child),
        ("room/b.rs", other),
        ("room/tests.rs", "use super::a::A; use super::b::B;"),
        ("far/mod.rs", "use crate::room::a::A;"),
    ];
    assert_eq!(found(&files), Vec::<Vec<String>>::new());
}
