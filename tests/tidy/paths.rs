//! The paths that a file's code names, in whatever form, and what they mean from where they stand.

use std::collections::BTreeMap;

use super::text::line_of;

/// A path as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) line: usize,
    pub(crate) segments: Vec<String>,
    pub(crate) form: Form,
    /// The inline modules in which it stands, outermost first.
    pub(crate) within: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Form {
    /// Of a `use`: under which name, and whether it is passed on (`pub use`).
    Use { name: String, passed_on: bool },
    /// In the midst of code.
    Code,
}

/// What a path means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Something of this crate, by its whole path.
    Own(Vec<String>),
    /// Something of another crate, by its whole path.
    Foreign(Vec<String>),
}

/// A file's paths, and what is needed to know what they mean.
pub(crate) struct Paths {
    module: Vec<String>,
    pub(crate) named: Vec<Named>,
    /// Modules that the file declares.
    children: Vec<String>,
    /// What its imports call what, outside of inline modules.
    names: BTreeMap<String, Vec<String>>,
}

impl Paths {
    /// Of a file at `place` below the crate's root, with its code without comments and strings.
    pub(crate) fn of(place: &str, code: &str) -> Self {
        let mut reader = Reader { tokens: tokens(code), at: 0, code, named: Vec::new(), children: Vec::new() };
        reader.read();
        let Reader { named, children, .. } = reader;
        let outer = named.iter().filter(|named| named.within.is_empty());
        let names = outer
            .filter_map(|named| match &named.form {
                Form::Use { name, .. } => Some((name.clone(), named.segments.clone())),
                Form::Code => None,
            })
            .collect();
        Self { module: module_of(place), named, children, names }
    }

    /// What a path means; `None` for a name whose origin does not show (a type, a local, std).
    pub(crate) fn meaning(&self, named: &Named, foreign: &[&str]) -> Option<Meaning> {
        let mut here = self.module.clone();
        here.extend(named.within.iter().cloned());
        self.resolve(&here, &named.segments, foreign, 0)
    }

    fn resolve(&self, here: &[String], segments: &[String], foreign: &[&str], depth: usize) -> Option<Meaning> {
        let (first, rest) = segments.split_first()?;
        let own = |base: &[String], rest: &[String]| Some(Meaning::Own([base, rest].concat()));
        match first.as_str() {
            "crate" => own(&[], rest),
            "self" => own(here, rest),
            "super" => {
                let up = &here[..here.len().saturating_sub(1)];
                if rest.first().is_some_and(|next| next == "super") {
                    return self.resolve(up, rest, foreign, depth);
                }
                own(up, rest)
            }
            name if here == self.module && self.children.iter().any(|child| child == name) => own(here, segments),
            // An import may itself begin with the name of another; not with its own.
            name if depth < 4 && self.names.get(name).is_some_and(|path| path[0] != *name) => {
                self.resolve(&self.module, &[&self.names[name], rest].concat(), foreign, depth + 1)
            }
            name if foreign.contains(&name) => Some(Meaning::Foreign(segments.to_vec())),
            _ => None,
        }
    }

    /// How many levels above its own file a path climbs.
    pub(crate) fn climbs(named: &Named) -> usize {
        let ups = named.segments.iter().take_while(|segment| *segment == "super" || *segment == "self");
        ups.filter(|segment| *segment == "super").count().saturating_sub(named.within.len())
    }
}

/// `journal/core/mod.rs` is `journal::core`, `journal/line.rs` is `journal::line`, `lib.rs` the crate itself.
pub(crate) fn module_of(place: &str) -> Vec<String> {
    let mut path: Vec<String> = place.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if path.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
        path.pop();
    }
    path
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'c> {
    Word(&'c str),
    /// `::`
    Joint,
    Sign(char),
}

fn tokens(code: &str) -> Vec<(usize, Token<'_>)> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let (mut found, mut at) = (Vec::new(), 0);
    while let Some(c) = code[at..].chars().next() {
        let rest = &code[at..];
        let (token, length) = match c {
            c if is_part(c) => {
                let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
                (Some(Token::Word(&rest[..length])), length)
            }
            ':' if rest.starts_with("::") => (Some(Token::Joint), 2),
            c if c.is_whitespace() => (None, c.len_utf8()),
            c => (Some(Token::Sign(c)), c.len_utf8()),
        };
        found.extend(token.map(|token| (at, token)));
        at += length;
    }
    found
}

struct Reader<'c> {
    tokens: Vec<(usize, Token<'c>)>,
    at: usize,
    code: &'c str,
    named: Vec<Named>,
    children: Vec<String>,
}

impl<'c> Reader<'c> {
    fn token(&self, at: usize) -> Option<Token<'c>> {
        self.tokens.get(at).map(|(_, token)| *token)
    }

    fn word(&self, at: usize) -> Option<&'c str> {
        match self.token(at)? {
            Token::Word(word) => Some(word),
            _ => None,
        }
    }

    fn read(&mut self) {
        let (mut within, mut depth) = (Vec::<(String, usize)>::new(), 0_usize);
        while let Some(token) = self.token(self.at) {
            let modules = || within.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
            match token {
                Token::Word("mod") if self.word(self.at + 1).is_some() => {
                    let name = self.word(self.at + 1).unwrap_or_default().to_owned();
                    if within.is_empty() {
                        self.children.push(name.clone());
                    }
                    if self.token(self.at + 2) == Some(Token::Sign('{')) {
                        within.push((name, depth));
                        depth += 1;
                    }
                    self.at += 3;
                }
                Token::Word("use") if self.token(self.at + 1) != Some(Token::Sign('<')) => {
                    let passed_on = self.is_passed_on();
                    self.at += 1;
                    self.tree(&mut Vec::new(), passed_on, &modules());
                }
                Token::Word(_) if self.token(self.at + 1) == Some(Token::Joint) && !self.goes_on() => {
                    self.path(modules());
                }
                Token::Sign('{') => {
                    depth += 1;
                    self.at += 1;
                }
                Token::Sign('}') => {
                    depth = depth.saturating_sub(1);
                    within.pop_if(|(_, opened)| *opened == depth);
                    self.at += 1;
                }
                _ => self.at += 1,
            }
        }
    }

    /// Whether the word here is the end of something longer.
    fn goes_on(&self) -> bool {
        let before = self.at.checked_sub(1).and_then(|before| self.token(before));
        matches!(before, Some(Token::Joint | Token::Sign('.')))
    }

    /// Whether `pub` or `pub(…)` stands before the `use` here.
    fn is_passed_on(&self) -> bool {
        let mut before = self.at;
        if before > 0 && self.token(before - 1) == Some(Token::Sign(')')) {
            while before > 0 && self.token(before - 1) != Some(Token::Sign('(')) {
                before -= 1;
            }
            before = before.saturating_sub(1);
        }
        before > 0 && self.token(before - 1) == Some(Token::Word("pub"))
    }

    fn path(&mut self, within: Vec<String>) {
        let line = line_of(self.code, self.tokens[self.at].0);
        let mut segments = vec![self.word(self.at).unwrap_or_default().to_owned()];
        self.at += 1;
        while self.token(self.at) == Some(Token::Joint) {
            let Some(word) = self.word(self.at + 1) else { break };
            segments.push(word.to_owned());
            self.at += 2;
        }
        self.named.push(Named { line, segments, form: Form::Code, within });
    }

    /// A tree of imports, from its first segment to the sign behind it.
    fn tree(&mut self, path: &mut Vec<String>, passed_on: bool, within: &[String]) {
        let begun = path.len();
        let mut name = None;
        let mut is_group = false;
        let line = self.tokens.get(self.at).map_or(0, |(at, _)| line_of(self.code, *at));
        while let Some(token) = self.token(self.at) {
            match token {
                Token::Word("as") => {
                    name = self.word(self.at + 1).map(str::to_owned);
                    self.at += 2;
                }
                Token::Word(word) => {
                    path.push(word.to_owned());
                    self.at += 1;
                }
                Token::Sign('*') => {
                    path.push("*".to_owned());
                    self.at += 1;
                }
                Token::Joint => self.at += 1,
                Token::Sign('{') => {
                    is_group = true;
                    self.at += 1;
                    while !matches!(self.token(self.at), None | Some(Token::Sign('}'))) {
                        self.tree(path, passed_on, within);
                        if self.token(self.at) == Some(Token::Sign(',')) {
                            self.at += 1;
                        }
                    }
                    self.at += 1;
                }
                Token::Sign(_) => break,
            }
        }
        if !is_group && path.len() > begun {
            let mut segments = path.clone();
            if segments.len() > 1 && segments.last().is_some_and(|last| last == "self") {
                segments.pop();
            }
            let name = name.unwrap_or_else(|| segments.last().cloned().unwrap_or_default());
            let form = Form::Use { name, passed_on };
            self.named.push(Named { line, segments, form, within: within.to_vec() });
        }
        path.truncate(begun);
    }
}

#[test]
fn a_path_is_read_in_every_form() {
    let code = "pub(crate) use a::{self, b::{C, d as e}, f::*};\nmod x;\nmod t { use super::super::g; fn h() { self::i::<u8>(); } }\n\
                fn j() -> k::L { <M as n::O>::p(); q.r::<s::T>() }";
    let named = Paths::of("room/file.rs", code).named;
    let shown: Vec<String> = named.iter().map(|named| named.segments.join("::")).collect();
    assert_eq!(shown, ["a", "a::b::C", "a::b::d", "a::f::*", "super::super::g", "self::i", "k::L", "n::O", "s::T"]);
    assert!(matches!(&named[2].form, Form::Use { name, passed_on: true } if name == "e"));
    assert_eq!((named[4].within.as_slice(), Paths::climbs(&named[4])), (["t".to_owned()].as_slice(), 1));
}

#[test]
fn a_path_means_the_same_in_every_form() {
    let code = "mod child;\nuse crate::room::other as known;\nuse known::deep;\nuse iso15118::Frame;\nmod tests { use super::super::up; }\n\
                fn f() { self::a(); super::b(); child::c(); known::d(); deep::e(); Vec::new(); iso15118::x(); }";
    let paths = Paths::of("room/file.rs", code);
    let meant = |text: &str| {
        let named = paths.named.iter().find(|named| named.segments.join("::") == text).expect("it is named");
        match paths.meaning(named, &["iso15118"]) {
            Some(Meaning::Own(path)) => path.join("::"),
            Some(Meaning::Foreign(path)) => format!("::{}", path.join("::")),
            None => String::new(),
        }
    };
    for (written, meaning) in [
        ("crate::room::other", "room::other"),
        ("known::deep", "room::other::deep"),
        ("super::super::up", "room::up"),
        ("self::a", "room::file::a"),
        ("super::b", "room::b"),
        ("child::c", "room::file::child::c"),
        ("known::d", "room::other::d"),
        ("deep::e", "room::other::deep::e"),
        ("Vec::new", ""),
        ("iso15118::x", "::iso15118::x"),
    ] {
        assert_eq!(meant(written), meaning, "{written}");
    }
}
