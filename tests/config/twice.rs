//! What is written twice.

use super::stage::{HEAD, METER, assert_faults, faults};

#[test]
fn mistakes_inside_a_repeated_device_are_told_too() {
    let second = METER.replace("unit = 1", "unit = 999").replace("bus = \"lan\"", "bus = \"lam\"");
    let text = format!("{HEAD}{METER}{second}");
    assert_faults(
        &faults(&text),
        &[
            (15, "\"grid-main\" is used twice, here and at line 9", "[device.grid-main-2]"),
            (17, "\"lam\" is a bus that is not in this file", "bus = \"lan\""),
            (19, "unit is 999", "unit = 1"),
        ],
    );
}

#[test]
fn a_table_written_twice_names_both_lines_and_its_keys_count() {
    let text =
        format!("{HEAD}{METER}").replace("site = \"depot-a\"\n", "") + "[gateway]\nsite = \"depot-a\"\nid = \"x\"\n";
    assert_faults(
        &faults(&text),
        &[
            (14, "the table [gateway] is written twice, here and at line 1", "line 1"),
            (16, "the key id is written twice, here and at line 2", "delete line 2 or line 16"),
        ],
    );
}

#[test]
fn a_key_written_twice_names_both_lines() {
    let text = format!("{HEAD}{METER}unit = 2\npol = \"1s\"\n");
    let faults = faults(&text);
    assert_faults(
        &faults,
        &[
            (15, "the key unit is written twice, here and at line 13", "delete line 13 or line 15"),
            (16, "there is no key pol in [device.grid-main]", "poll = \"1s\""),
        ],
    );
    let first = faults.iter().next().and_then(|fault| fault.also.clone()).expect("the other line");
    assert_eq!((first.line, first.excerpt.as_str()), (13, "unit = 1"));
}

#[test]
fn ids_that_differ_only_in_case_are_one_id() {
    let other = METER.replace("grid-main", "Grid-Main").replace("unit = 1", "unit = 2");
    assert_faults(
        &faults(&format!("{HEAD}{METER}{other}")),
        &[(15, "differ only in the case of letters", "Grid-Main-2")],
    );
}

#[test]
fn one_device_under_two_names_is_found() {
    let other = METER.replace("grid-main", "grid-copy").replace("\"10.0.0.16\"", "\"10.0.0.16:502\"");
    let faults = faults(&format!("{HEAD}{METER}{other}"));
    assert_faults(&faults, &[(15, "grid-copy is the same device as grid-main at line 9", "its own address or unit")]);
}

#[test]
fn a_bus_written_twice_names_both_lines() {
    let text = format!("{HEAD}[bus.lan]\nmodbus-tcp = {{}}\n{METER}");
    assert_faults(&faults(&text), &[(9, "the bus id \"lan\" is used twice, here and at line 7", "[bus.lan-2]")]);
}
