//! What is not TOML, and what the pen slips into.

use super::stage::{HEAD, MANUAL, METER, assert_faults, faults, parse, plan};

#[test]
fn a_broken_line_hides_no_other_mistake() {
    let text = format!("{HEAD}{METER}")
        .replace("unit = 1", "unit = 1 1")
        .replace("site = \"depot-a\"", "site = depot-a")
        .replace("kind = \"meter\"", "kind = \"metre\"");
    assert_faults(
        &faults(&text),
        &[(3, "not TOML", "site = \"depot-a\""), (10, "\"metre\"", "kind = \"meter\""), (13, "not TOML", "unit = ")],
    );
}

#[test]
fn the_usual_slips_of_the_pen_are_answered_with_the_line_to_write() {
    for (slip, remedy) in [
        ("poll = 500ms", "poll = \"500ms\""),
        ("poll = \"500ms", "poll = \"500ms\""),
        ("poll = “500ms”", "poll = \"500ms\""),
        ("poll: 500ms", "poll = \"500ms\""),
        ("poll \"500ms\"", "poll = \"500ms\""),
        ("poll =", "poll = and its value"),
        ("poll = 500", "poll = \"500ms\"   (units: ms"),
        ("[device.b", "[device.b]"),
        ("[device b]", "[device.b]"),
        ("[[device.b]]", "[device.b]"),
    ] {
        let faults = faults(&format!("{HEAD}{METER}{slip}\n"));
        let answered = faults.iter().any(|fault| fault.line == 15 && fault.remedy.starts_with(remedy));
        assert!(answered, "{slip} was answered with\n{faults}");
    }
}

#[test]
fn what_the_toml_crate_refuses_is_refused() {
    for text in ["a.b = 1\n[a]\nc = 1", "a = { b = 1, b = 2 }", "a = 1 = 2", "\u{1}", "= 1", "[]", "a = 'x", "[a]]"] {
        assert!(parse(text).is_err(), "{text:?} was accepted");
        assert!(faults(text).iter().any(|fault| fault.problem.contains("TOML")), "{text:?}: {}", faults(text));
    }
}

#[test]
fn a_file_from_windows_is_the_same_file() {
    let text = format!("\u{feff}{HEAD}{METER}").replace('\n', "\r\n");
    assert_eq!(plan(&text), plan(&format!("{HEAD}{METER}")));
    let wrong = text.replace("unit = 1", "unit = 300");
    assert_eq!(faults(&wrong).iter().map(|f| (f.line, f.excerpt.as_str())).collect::<Vec<_>>(), [(13, "unit = 300")]);
}

#[test]
fn an_empty_file_is_answered_with_what_it_needs() {
    assert_faults(
        &faults(""),
        &[(1, "[gateway] is missing", "id = \"gw-01\"\nsite ="), (1, "[uplink] is missing", "[uplink]\nbrokers = [")],
    );
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(cuts in proptest::collection::vec((0_usize..6000, ".{0,6}"), 0..6)) {
        let mut text = MANUAL.to_owned();
        for (at, noise) in cuts {
            let at = text.floor_char_boundary(at.min(text.len()));
            let end = text.floor_char_boundary((at + noise.len() * 3).min(text.len()));
            text.replace_range(at..end.max(at), &noise);
        }
        if let Err(faults) = parse(&text) {
            proptest::prop_assert!(!faults.is_empty());
            let _ = faults.to_string();
        }
    }
}
