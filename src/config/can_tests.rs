//! What `check` says of DBC files and of the profiles that name them.

use std::fs;
use std::path::Path;

use super::*;

/// A profile of one signal beside this DBC file, and a device with it; the plan or its mistakes as a person reads them.
fn plan_of(dbc: &str, can: &str, signal: &str, device: &str) -> Result<Plan, String> {
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
    let surroundings = Surroundings { checks_files: false, ..Surroundings::of(dir.path()) };
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
