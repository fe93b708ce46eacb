//! The house rules that no compiler checks: who may import whom, which heavy crate is named where, and what no file
//! may hold. Data first, then the checks, then the proof that each check can fail.

#[path = "tidy/circles.rs"]
mod circles;
#[path = "tidy/paths.rs"]
mod paths;
#[path = "tidy/text.rs"]
mod text;
#[path = "tidy/written.rs"]
mod written;

use std::fs;
use std::path::{Path, PathBuf};

use Reach::{AllBut, Everything, Only};
use paths::{Form, Meaning, Named, Paths};
use text::{lines_containing, tests_begin, without_comments_and_strings};

/// What a room may import of the others.
enum Reach {
    Everything,
    AllBut(&'static [&'static str]),
    Only(&'static [&'static str]),
}

/// A part of the repository with rules of its own.
struct Tree {
    /// Below the repository's root.
    root: &'static str,
    /// Who may import whom; rooms are the first directories or files.
    rooms: &'static [(&'static str, Reach)],
    /// Heavy crates and the paths below the root in which they may be named.
    heavy: &'static [(&'static str, &'static [&'static str])],
    /// Crates that nothing here may name.
    forbidden: &'static [&'static str],
    /// What no file may hold.
    absent: &'static [&'static str],
    /// Whether the import table holds for tests, too.
    tests_as_well: bool,
    /// Files that are one thing and may name each other in a circle, and why.
    compositions: &'static [(&'static [&'static str], &'static str)],
}

const SRC: Tree = Tree {
    root: "src",
    rooms: SRC_ROOMS,
    heavy: SRC_HEAVY,
    forbidden: &[],
    absent: &[".unwrap()", "todo!", "unimplemented!", "unsafe {", "unsafe fn"],
    tests_as_well: true,
    compositions: &[
        (
            &["agent/generation.rs", "agent/pipeline/mod.rs", "agent/pipeline/task.rs"],
            "the pipeline is a part of a generation, cut off for its length, and takes the context of the process from it",
        ),
        (
            &[
                "cli/audit.rs",
                "cli/check.rs",
                "cli/demo/mod.rs",
                "cli/doctor.rs",
                "cli/journal/export.rs",
                "cli/journal/mod.rs",
                "cli/journal/show.rs",
                "cli/mod.rs",
                "cli/probe/can.rs",
                "cli/probe/mod.rs",
                "cli/probe/modbus.rs",
                "cli/probe/sunspec.rs",
                "cli/run.rs",
                "cli/status.rs",
                "cli/update/confirm.rs",
                "cli/update/install.rs",
                "cli/update/mod.rs",
                "cli/update/status.rs",
                "cli/update/task.rs",
            ],
            "a parent dispatches to its commands, and they end as it says (Exit, ConfigPath)",
        ),
        (
            &[
                "config/bus.rs",
                "config/dbc_files.rs",
                "config/device.rs",
                "config/mod.rs",
                "config/profile/can.rs",
                "config/profile/derived.rs",
                "config/profile/draft.rs",
                "config/profile/iso15118.rs",
                "config/profile/mod.rs",
                "config/profile/modbus.rs",
                "config/profile/sunspec.rs",
                "config/profiles.rs",
                "config/uplink.rs",
            ],
            "one grammar: a section reads its parts, and a part reads durations, names and files as all sections do",
        ),
        (
            &["source/iso15118/din/mod.rs", "source/iso15118/din/table.rs"],
            "the schema and its reader, cut in two for their length",
        ),
        (&["spec/device.rs", "spec/points.rs"], "a device is a list of points, and these have their place in it"),
        (
            &["spec/point.rs", "spec/session.rs"],
            "a point may be a value of a session, and that says how a point is folded",
        ),
        (&["uplink/audit/judge.rs", "uplink/audit/parts.rs"], "the judge puts parts of messages together to messages"),
        (
            &[
                "uplink/client/connect.rs",
                "uplink/client/mod.rs",
                "uplink/client/task.rs",
                "uplink/client/websocket.rs",
            ],
            "one connection in layers: each tells of its end in the words (Loss) of the whole",
        ),
        (
            &["uplink/settings.rs", "uplink/wire/documents.rs"],
            "what the settings say once at birth is what the documents tell",
        ),
    ],
};

/// All `unsafe` code is here. It knows nothing of ours, and what is simulated is never part of the firmware.
const HAL: Tree = Tree {
    root: "hal/src",
    rooms: HAL_ROOMS,
    heavy: &[
        ("tokio_serial", &["rtu/", "sim/"]),
        ("tokio_modbus", &["sim/"]),
        ("socketcan", &["can/"]),
        ("sd_notify", &["watchdog.rs"]),
    ],
    forbidden: &["v2g_edge", "hil_tests"],
    absent: &[".unwrap()", "todo!", "unimplemented!"],
    tests_as_well: false,
    compositions: &[],
};

/// It drives the agent as a black box: not one line of it is the agent's.
const HIL_TESTS: Tree = Tree {
    root: "hil-tests/src",
    rooms: HIL_ROOMS,
    heavy: &[("rcgen", &["certs.rs"]), ("nix", &["isolation.rs"]), ("toml", &["rig.rs", "rig/"])],
    forbidden: &["v2g_edge"],
    absent: &["todo!", "unimplemented!", "unsafe {", "unsafe fn"],
    tests_as_well: true,
    compositions: &[
        (&["disk.rs", "disk/nbd.rs"], "the disk and the protocol by which the box uses it, which shares its state"),
        (
            &["oracle.rs", "oracle/batch.rs", "oracle/parts.rs"],
            "the oracle reads messages, and puts parts of them together to messages",
        ),
        (
            &["rig.rs", "rig/bench.rs", "rig/firmware.rs", "rig/machine.rs", "rig/rewind.rs"],
            "a rig is a machine of either kind, and each fails in its words (RigError)",
        ),
    ],
};

const HIL_TESTS_TESTS: Tree = Tree {
    root: "hil-tests/tests",
    rooms: &[],
    heavy: &[("toml", &["files.rs"])],
    forbidden: &["v2g_edge"],
    absent: &["todo!", "unimplemented!", "#[ignore"],
    tests_as_well: true,
    compositions: &[],
};

const TESTS: Tree = Tree {
    root: "tests",
    rooms: &[],
    heavy: &[("rustls", &["sessions/guarded.rs"]), ("redb", &["bench/stores.rs"]), ("toml", &["yocto.rs"])],
    forbidden: &[],
    absent: &["todo!", "unimplemented!", "#[ignore"],
    tests_as_well: true,
    compositions: &[],
};

const TREES: [&Tree; 5] = [&SRC, &HAL, &HIL_TESTS, &HIL_TESTS_TESTS, &TESTS];

/// The import table (src/ARCHITECTURE.md). `hal` is the crate.
const SRC_ROOMS: &[(&str, Reach)] = &[
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
    ("derive", Only(&["spec", "measure"])),
    ("live", Only(&["spec", "measure"])),
    ("journal", Only(&["spec", "measure", "health"])),
    ("uplink", Only(&["spec", "measure", "health", "net", "journal", "tls"])),
    ("api", Only(&["spec", "measure", "health", "journal", "config", "live"])),
    ("agent", AllBut(&["cli"])),
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

/// Of `hal`: ports know each other's plain types, and none knows what is simulated.
const HAL_ROOMS: &[(&str, Reach)] = &[
    ("can", Only(&[])),
    ("clock", Only(&[])),
    ("heap", Only(&[])),
    ("packet_tap", Only(&[])),
    ("process", Only(&[])),
    ("reach", Only(&[])),
    ("register_bus", Only(&["reach", "reply_times"])),
    ("reply", Only(&["register_bus"])),
    ("reply_times", Only(&["rest"])),
    ("rest", Only(&[])),
    ("rtu", Only(&["register_bus", "reply", "reply_times", "rest"])),
    ("sim", Only(&["clock", "register_bus", "reply", "rtu"])),
    ("tcp", Only(&["register_bus", "reply", "reply_times", "rest"])),
    ("watchdog", Only(&[])),
    // The crate's front page.
    ("", Everything),
];

/// Of `hil-tests`: the oracle shares no code with what it judges, and nothing that makes faults knows the rig.
const HIL_ROOMS: &[(&str, Reach)] = &[
    ("agent", Only(&["certs", "process", "wait"])),
    ("broker", Only(&["certs", "port", "process", "wait"])),
    ("bundle", Only(&["process", "tool"])),
    ("certs", Only(&[])),
    ("consumer", Only(&["certs", "oracle", "process", "wait"])),
    ("depot", Only(&["oracle", "registers", "seed", "wait"])),
    ("disk", Only(&["seed", "tool", "wait"])),
    ("fault", Only(&["disk"])),
    ("gpt", Only(&[])),
    ("image", Only(&["process", "tool"])),
    ("isolation", Only(&["process", "tool"])),
    ("line", Only(&["seed"])),
    ("meter", Only(&["oracle", "port", "process", "wait"])),
    ("oracle", Only(&["wait"])),
    ("port", Only(&[])),
    ("process", Only(&["wait"])),
    ("proxy", Only(&["port"])),
    ("registers", Only(&[])),
    ("rig", AllBut(&["hal", "proxy", "scripted", "tree"])),
    ("scripted", Only(&["oracle", "port", "wait"])),
    ("seed", Only(&["wait"])),
    ("stage", Only(&["agent", "broker", "certs", "consumer", "oracle", "wait"])),
    ("tool", Only(&[])),
    ("tree", Only(&[])),
    ("wait", Only(&[])),
    // The crate's front page.
    ("", Everything),
];

/// Heavy crates and the paths below `src/` in which they may be named.
const SRC_HEAVY: &[(&str, &[&str])] = &[
    ("tokio_serial", &[]),
    ("tokio_modbus", &[]),
    ("socketcan", &[]),
    ("can_dbc", &["config/dbc.rs"]),
    ("iso15118", &["source/iso15118"]),
    ("sled", &["journal/disk/sled_segment.rs"]),
    // The last is a test of what derives outside of the first would lose.
    (
        "postcard",
        &["journal/disk/v1/", "journal/disk/v2.rs", "journal/disk/v2/schema.rs", "journal/golden_tests/later.rs"],
    ),
    ("zstd", &["config/built_in.rs", "journal/disk/compress.rs"]),
    ("redb", &[]),
    ("rumqttc", &["uplink/"]),
    ("rustls", &["tls/", "uplink/"]),
    ("tokio_rustls", &["tls/"]),
    // The fuzzer answers an upgrade as a server does.
    ("tokio_tungstenite", &["uplink/client/websocket.rs", "uplink/client/fuzz.rs"]),
    ("httparse", &["uplink/client/websocket.rs"]),
    ("toml", &["config/"]),
    ("clap", &["cli/"]),
    ("rumqttd", &["cli/demo/"]),
    ("sd_notify", &[]),
];

/// Crates that are heavy somewhere, and ours: what a path may begin with that is no module.
fn crates() -> Vec<&'static str> {
    let heavy = TREES.iter().flat_map(|tree| tree.heavy).map(|(name, _)| *name);
    let mut crates: Vec<&str> = SRC_HEAVY.iter().map(|(name, _)| *name).chain(heavy).collect();
    crates.extend(["hal", "hil_tests", "v2g_edge"]);
    crates.sort_unstable();
    crates.dedup();
    crates
}

/// A file that grows past this wants to be two.
const LINES_MAX: usize = 700;

#[test]
fn the_code_keeps_the_rules_of_the_house() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let findings: Vec<String> = TREES.iter().flat_map(|tree| tidy(tree, &root.join(tree.root))).collect();
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

/// All that is wrong below `root`, one line each.
fn tidy(tree: &Tree, root: &Path) -> Vec<String> {
    let mut places = Vec::new();
    collect(root, &mut places);
    assert!(!places.is_empty(), "no code below {}", root.display());
    places.sort();
    let (mut findings, mut files) = (Vec::new(), Vec::new());
    for file in places {
        let text = fs::read_to_string(&file).expect("a source file");
        let place = file.strip_prefix(root).expect("below the root").to_string_lossy().into_owned();
        findings.extend(check(tree, &place, &text));
        files.push((place, without_comments_and_strings(&text)));
    }
    if !tree.rooms.is_empty() {
        findings.extend(check_circles(tree, &files));
    }
    files.retain(|(place, _)| place.starts_with("journal/disk/v1/"));
    findings.extend(written::check(&files));
    findings
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, files);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
}

/// Circles that are in no named composition, and compositions in which there is no circle any more.
fn check_circles(tree: &Tree, files: &[(String, String)]) -> Vec<String> {
    let circles = circles::circles(files);
    let within =
        |circle: &circles::Circle, whole: &[&str]| circle.files.iter().all(|file| whole.contains(&file.as_str()));
    let mut findings = Vec::new();
    for circle in &circles {
        if !tree.compositions.iter().any(|(whole, _)| within(circle, whole)) {
            findings.push(format!("{}: a circle of files:\n    {}", tree.root, circle.names.join("\n    ")));
        }
    }
    for (whole, _) in tree.compositions {
        if !circles.iter().any(|circle| within(circle, whole)) {
            findings.push(format!("{}: no circle any more: {}", tree.root, whole.join(", ")));
        }
    }
    findings
}

/// All that is wrong in one file; `place` is its path below the tree's root.
fn check(tree: &Tree, place: &str, text: &str) -> Vec<String> {
    let code = without_comments_and_strings(text);
    let production = &code[..tests_begin(&code)];
    let is_test = place.ends_with("tests.rs") || place.ends_with("testing.rs") || place.ends_with("mem_store.rs");
    let mut findings = check_crates(tree, place, production);
    if tree.tests_as_well || !is_test {
        findings.extend(check_imports(tree, place, if tree.tests_as_well { &code } else { production }));
    }
    for pattern in tree.absent.iter().filter(|_| !is_test) {
        findings
            .extend(lines_containing(production, pattern).map(|line| (line, format!("{pattern} has no place here"))));
    }
    let is_task = place.ends_with("task.rs") || place.starts_with("cli/demo/");
    if tree.root == SRC.root && !is_task && !is_test {
        let told = |line| (line, "time is an argument; only task.rs reads it".to_owned());
        findings.extend(lines_containing(production, "Instant::now").map(told));
    }
    if place.ends_with("mod.rs") && !text.starts_with("//!") {
        findings.push((1, "a room opens with its contract (//!)".to_owned()));
    }
    let lines = text.lines().count();
    if lines > LINES_MAX {
        findings.push((lines, format!("{lines} lines: this file wants to be two")));
    }
    findings.into_iter().map(|(line, what)| format!("{}/{place}:{line}: {what}", tree.root)).collect()
}

/// Imports against the table, whatever the form of the path, and paths that climb past their parent.
fn check_imports(tree: &Tree, place: &str, code: &str) -> Vec<(usize, String)> {
    let paths = Paths::of(place, code);
    let climbing = paths.named.iter().filter(|named| Paths::climbs(named) > 1);
    let mut findings: Vec<_> =
        climbing.map(|named| (named.line, "reaches past its parent by super: write crate::…".to_owned())).collect();
    if tree.rooms.is_empty() {
        return findings;
    }
    let module = paths::module_of(place);
    let room = module.first().map_or("", String::as_str);
    let Some((_, reach)) = tree.rooms.iter().find(|(name, _)| *name == room) else {
        findings.push((1, format!("room \"{room}\" is not in the import table of tests/tidy.rs")));
        return findings;
    };
    let may = |other: &str| match reach {
        Everything => true,
        AllBut(others) => !others.contains(&other),
        Only(others) => others.contains(&other),
    };
    for named in &paths.named {
        let other = match paths.meaning(named, &["hal"]) {
            Some(Meaning::Own(path)) => path.first().cloned().unwrap_or_default(),
            Some(Meaning::Foreign(_)) => "hal".to_owned(),
            None => continue,
        };
        let is_all = named.segments == ["crate"] || named.segments == ["crate", "*"];
        let is_room = other == "hal" || tree.rooms.iter().any(|(name, _)| *name == other);
        if is_all {
            findings.push((named.line, "all of the crate under another name, or none".to_owned()));
        } else if is_room && !other.is_empty() && other != room && !may(&other) {
            findings
                .push((named.line, format!("{} may not import {other}", if room.is_empty() { "it" } else { room })));
        }
    }
    findings
}

/// Crates that are named where they may not be, also by what another passes on; and crates that are passed on.
fn check_crates(tree: &Tree, place: &str, production: &str) -> Vec<(usize, String)> {
    let (paths, crates) = (Paths::of(place, production), crates());
    let mut findings = Vec::new();
    for named in &paths.named {
        let Some(Meaning::Foreign(path)) = paths.meaning(named, &crates) else { continue };
        findings.extend(check_crate(tree, place, named, &path, &crates).map(|what| (named.line, what)));
    }
    findings
}

fn check_crate(tree: &Tree, place: &str, named: &Named, path: &[String], crates: &[&str]) -> Option<String> {
    let first = path[0].as_str();
    if tree.forbidden.contains(&first) {
        return Some(format!("{first} has no place in {}", tree.root));
    }
    if matches!(named.form, Form::Use { passed_on: true, .. }) {
        return Some(format!("{first} is passed on: who needs it names it, in its own room"));
    }
    // Of ours the segments are modules, which may be called as a crate is.
    let is_ours = ["hal", "hil_tests", "v2g_edge"].contains(&first);
    let segments = if is_ours { &path[..1] } else { path };
    let heavy = segments.iter().filter(|segment| crates.contains(&segment.as_str()) && !is_ours);
    let misplaced = |name: &&String| {
        let places = tree.heavy.iter().find(|(heavy, _)| heavy == *name).map_or(&[][..], |(_, places)| places);
        !places.iter().any(|allowed| place.starts_with(allowed))
    };
    heavy.into_iter().find(misplaced).map(|name| format!("{name} is named outside of its room"))
}

fn complaints(place: &str, code: &str) -> usize {
    check(&SRC, place, &format!("//! Contract.\n{code}\n")).len()
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
        assert_eq!(complaints("journal/mod.rs", code), 0, "{code}: {:?}", check(&SRC, "journal/mod.rs", code));
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
    assert_eq!(check(&SRC, "journal/mod.rs", "use std::fs;\n").len(), 1, "no contract");
    assert_eq!(complaints("journal/core/journal_core.rs", &"\n".repeat(LINES_MAX + 1)), 1);
}

#[test]
fn a_violation_deep_in_the_tree_is_found() {
    let dir = tempfile::tempdir().expect("a directory");
    let deep = dir.path().join("journal/deep/deeper");
    fs::create_dir_all(&deep).expect("made");
    fs::write(deep.join("leaf.rs"), "use crate::{measure, agent};\n").expect("written");
    let findings = tidy(&Tree { compositions: &[], ..SRC }, dir.path());
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].contains("journal/deep/deeper/leaf.rs:1: journal may not import agent"));
}

#[test]
fn a_path_is_judged_by_what_it_means_and_not_by_its_form() {
    for code in [
        "use super::super::uplink::run;",
        "fn f() { super::super::uplink::run(); }",
        "mod inner { use super::super::super::uplink::run; }",
        "use crate::measure as words;\nuse crate::uplink as words_of_another;",
        "use crate::*;",
        "use crate as whole;",
    ] {
        assert!(complaints("journal/line.rs", code) >= 1, "{code}");
    }
    // Out of a room by its front page.
    assert_eq!(complaints("journal/mod.rs", "use super::uplink;"), 1);
    // Past its parent, within the room.
    assert_eq!(complaints("journal/core/lanes.rs", "use super::super::Settings;"), 1);
    assert_eq!(
        complaints("journal/core/lanes.rs", "use super::Settings;\nmod tests { use super::super::Settings; }"),
        0
    );
}

#[test]
fn a_crate_that_is_passed_on_or_named_through_another_is_found() {
    for code in ["pub use rumqttc::v5;", "pub(crate) use rumqttc;", "pub(super) use hal::Clock;"] {
        assert_eq!(complaints("uplink/client/mod.rs", code), if code.contains("hal") { 2 } else { 1 }, "{code}");
    }
    // What rumqttc passes on is tokio-rustls all the same.
    assert_eq!(complaints("uplink/client/connect.rs", "use rumqttc::tokio_rustls::TlsConnector;"), 1);
    assert_eq!(complaints("uplink/client/connect.rs", "use rumqttc::v5::mqttbytes::QoS;"), 0);
    // A room of the same name is no crate.
    assert_eq!(complaints("source/mod.rs", "pub mod iso15118;\npub use iso15118::Frames;"), 0);
    assert_eq!(complaints("agent/generation.rs", "use crate::source::iso15118;\nfn f() { iso15118::run(); }"), 0);
}

#[test]
fn each_tree_has_rules_of_its_own() {
    let found = |tree: &Tree, place: &str, code: &str| check(tree, place, &format!("//! Contract.\n{code}\n")).len();
    for (tree, place, code) in [
        (&HAL, "tcp.rs", "use crate::sim::Behaviour;"),
        (&HAL, "clock.rs", "use tokio_serial::SerialStream;"),
        (&HAL, "clock.rs", "use v2g_edge::measure::Mono;"),
        (&HAL, "rtu/mod.rs", "pub use tokio_serial::SerialStream;"),
        (&HAL, "unheard_of.rs", ""),
        (&HIL_TESTS, "oracle/line.rs", "use crate::rig::Rig;"),
        (&HIL_TESTS, "consumer.rs", "use v2g_edge::uplink::wire;"),
        (&HIL_TESTS_TESTS, "rig.rs", "use v2g_edge::measure::Seq;"),
        (&TESTS, "uplink/stage.rs", "use rumqttc::v5::Client;"),
        (&TESTS, "uplink/stage.rs", "#[ignore]\nfn f() {}"),
    ] {
        assert_eq!(found(tree, place, code), 1, "{}/{place}: {code}", tree.root);
    }
    assert_eq!(found(&HAL, "tcp.rs", "#[cfg(test)]\nmod tests {\n    use crate::sim::Behaviour;\n}"), 0);
    assert_eq!(found(&TESTS, "sessions/guarded.rs", "use rustls::ClientConfig;"), 0);
}

#[test]
fn a_circle_of_files_is_found_and_so_is_a_composition_that_is_none() {
    let composed =
        Tree { compositions: &[(&["core/a.rs", "core/b.rs"], "one thing")], rooms: &[("core", Everything)], ..SRC };
    let none = Tree { compositions: &[], ..composed };
    let file = |place: &str, code: &str| (place.to_owned(), code.to_owned());
    let circle = [file("core/a.rs", "use super::b::B;"), file("core/b.rs", "use super::a::A;")];
    assert_eq!(check_circles(&none, &circle).len(), 1);
    assert_eq!(check_circles(&composed, &circle).len(), 0);
    assert_eq!(check_circles(&composed, &circle[..1]).len(), 1, "no circle any more");
}
