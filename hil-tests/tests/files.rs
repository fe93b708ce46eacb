//! Files that say the same thing twice must say the same.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use hil_tests::rig::Settings;

fn text(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn table(path: &str, name: &str) -> toml::Table {
    let whole: toml::Table = text(path).parse().unwrap_or_else(|error| panic!("{path}: {error}"));
    whole[name].as_table().unwrap_or_else(|| panic!("{path}: {name} is no table")).clone()
}

#[test]
fn cross_and_plain_cargo_build_the_same() {
    let of_cargo: BTreeSet<String> = table(".cargo/config.toml", "target").keys().cloned().collect();
    let of_cross: BTreeSet<String> = table("cross.toml", "target").keys().cloned().collect();
    assert_eq!(of_cargo, of_cross, "targets of .cargo/config.toml and cross.toml");
    assert_eq!(of_cargo.len(), 2);
    let script = text("hil-tests/cross");
    let remarks = text("cross.toml");
    for target in &of_cargo {
        let compiler = format!("CC_{}", target.replace('-', "_"));
        assert!(table(".cargo/config.toml", "env").contains_key(&compiler), "ring's C for {target} has no compiler");
        assert!(script.contains(target.as_str()), "hil-tests/cross does not build {target}");
        let command = format!("cross build --release --no-default-features --target {target}");
        assert!(remarks.contains(&command), "cross.toml does not say how {target} is built");
        assert!(table("cross.toml", "target")[target]["image"].as_str().is_some_and(|image| image.contains(target)));
    }
    // The same profile and features.
    assert!(script.contains("cargo auditable rustc --release --no-default-features --locked --target"));
}

#[test]
fn both_rigs_can_be_read() {
    let rig =
        |path: &str| -> Settings { toml::from_str(&text(path)).unwrap_or_else(|error| panic!("{path}: {error}")) };
    assert!(matches!(rig("hil-tests/rigs/qemu.toml"), Settings::Qemu(_)));
    let Settings::Bench(bench) = rig("hil-tests/rigs/bench.toml") else { panic!("bench.toml is no bench") };
    for command in ["power_off", "power_on", "link_down", "link_up"] {
        assert!(bench.commands.contains_key(command), "bench.toml shows no {command}");
    }
}
