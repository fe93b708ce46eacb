//! What `check` says of DBC files and of the profiles that name them.

use std::fs;
use std::path::Path;

use super::*;

/// A profile of one signal beside this DBC file, and a device with it; the plan or its mistakes as a person reads them.
fn plan_of(dbc: &str, can: &str, signal: &str, device: &str) -> Result<Plan, String> {
    plan_in(dbc, can, signal, device, |surroundings| surroundings)
}

fn plan_in(
    dbc: &str,
    can: &str,
    signal: &str,
    device: &str,
    change: impl FnOnce(Surroundings) -> Surroundings,
) -> Result<Plan, String> {
    let dir = tempfile::tempdir().expect("a directory");
    let devices = dir.path().join("devices");
    fs::create_dir(&devices).expect("made");
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/can");
    fs::copy(cases.join(dbc), devices.join(dbc)).expect("copied");
    let profile = format!(
        "[profile]\nvendor = \"v\"\nmodel = \"m\"\nkind = \"meter\"\nsources = [\"s\"]\n\
         [can]\ndbc = \"{dbc}\"\nstale_after = \"1s\"\n{can}\n[point]\nspeed = {{ signal = \"{signal}\", unit = \"\" }}\n"
    );
    fs::write(devices.join("mine.toml"), profile).expect("written");
    let text = format!(
        "[gateway]\nid = \"gw\"\nsite = \"depot\"\nstate_dir = \"/var\"\n[uplink]\nbrokers = [\"mqtt://127.0.0.1\"]\n\
         [bus.a]\ncan = {{ log = \"/bus.log\" }}\n[device.one]\nkind = \"meter\"\nbus = \"a\"\nprofile = \"mine\"\n{device}\n"
    );
    let surroundings = change(Surroundings { checks_files: false, ..Surroundings::of(dir.path()) });
    parse(&text, "gateway.toml", &surroundings).map_err(|faults| faults.to_string())
}

#[test]
fn all_mistakes_of_a_dbc_file_are_told_at_once_each_with_its_line_and_a_cure() {
    let told = plan_of("dbc-one-bad-id.dbc", "", "T", "").expect_err("two mistakes");
    for part in
        ["dbc-one-bad-id.dbc:11: the id 4096 of W1", "dbc-one-bad-id.dbc:13: the id 4097 of W2", "BO_ 2147487744 W1"]
    {
        assert!(told.contains(part), "{part} is not in {told}");
    }
    let told = plan_of("dbc-signal-beyond.dbc", "", "G", "").expect_err("a mistake");
    assert!(told.contains("the signal T needs 3 bytes, and its message M has 2"), "{told}");
    let told = plan_of("dbc-dup-signal.dbc", "", "T", "").expect_err("a mistake");
    assert!(told.contains("M has two signals T"), "{told}");
    for good in
        ["dbc-comment-holds-BO.dbc", "dbc-factor-enddot.dbc", "dbc-val-u64.dbc", "dbc-independent-0x40000000.dbc"]
    {
        plan_of(good, "", "T", "").expect(good);
    }
}

#[test]
fn a_mistake_in_what_no_profile_uses_stops_nothing_that_runs() {
    let to_run = |dbc, signal| plan_in(dbc, "", signal, "", Surroundings::for_running);
    for (dbc, sound, mistaken, why) in [
        ("dbc-one-bad-id.dbc", "T", "U", "the id 4096 of W1 has more than 11 bits"),
        ("dbc-signal-beyond.dbc", "G", "T", "the signal T needs 3 bytes, and its message M has 2"),
    ] {
        assert!(plan_of(dbc, "", sound, "").is_err(), "check tells it");
        to_run(dbc, sound).expect(dbc);
        let told = to_run(dbc, mistaken).expect_err("it is used");
        assert!(told.contains(why), "{told}");
    }
    let told = to_run("dbc-dup-signal.dbc", "T").expect_err("one of two");
    assert!(told.contains("M has two signals T"), "{told}");
}

#[test]
fn a_signal_beyond_the_longest_frame_is_one_of_a_parameter_group() {
    for (protocol, node, is_good) in [("protocol = \"j1939\"", "node = 3", true), ("protocol = \"none\"", "", false)] {
        let planned = plan_of("j1939-long.dbc", protocol, "Tail", node);
        match planned {
            Ok(_) => assert!(is_good),
            Err(told) => assert!(!is_good && told.contains("beyond the 64 bytes of the longest frame"), "{told}"),
        }
    }
}

#[test]
fn a_profile_of_parameter_groups_says_how_their_sources_are_told_apart() {
    for dbc in ["j1939-vector.dbc", "j1939-enum-index.dbc"] {
        let told = plan_of(dbc, "", "EngineSpeed", "").expect_err("three engines would be one device");
        assert!(
            told.contains("which every source on the bus may send") && told.contains("protocol = \"j1939\""),
            "{told}"
        );
        plan_of(dbc, "protocol = \"j1939\"", "EngineSpeed", "node = 3").expect("one engine");
        plan_of(dbc, "protocol = \"none\"", "EngineSpeed", "").expect("one id");
    }
}
