//! The unit's sandbox, as `systemd-analyze` judges it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hil_tests::tool;

use crate::{files_of, shipped, text};

/// What the unit may reach with one drop-in, or none, of 10.
const EXPOSURE_MAX: f64 = 2.2;
/// What it may reach with none, and with serial lines.
const USUAL_MAX: f64 = 2.0;
/// What the unit that confirms an update may reach: it is root's.
const CONFIRM_MAX: f64 = 1.0;

/// The exposure of the unit with these drop-ins.
fn exposure(drop_ins: &[&Path]) -> f64 {
    exposure_of("v2g-edge.service", drop_ins)
}

fn exposure_of(name: &str, drop_ins: &[&Path]) -> f64 {
    let dir = tempfile::tempdir().expect("a directory");
    let unit = dir.path().join(name);
    fs::copy(shipped("systemd").join(name), &unit).expect("copied");
    let beside = dir.path().join("v2g-edge.service.d");
    fs::create_dir(&beside).expect("made");
    for path in drop_ins {
        fs::copy(path, beside.join(path.file_name().expect("a name"))).expect("copied");
    }
    let said = tool::run(Command::new("systemd-analyze").args(["security", "--offline=true"]).arg(&unit));
    let said = said.expect("systemd-analyze");
    let last = said.lines().last().expect("a line");
    let level = last.split(": ").nth(1).and_then(|rest| rest.split(' ').next()).and_then(|level| level.parse().ok());
    level.unwrap_or_else(|| panic!("{last}"))
}

/// What the first lines of a file say of it.
fn said(path: &Path) -> f64 {
    let text = text(path);
    let line = text.lines().find_map(|line| line.strip_prefix("# Exposure: "));
    let line = line.unwrap_or_else(|| panic!("{} does not tell its exposure", path.display()));
    let number = line.split([',', ' ']).next().expect("a word");
    number.parse().unwrap_or_else(|_| panic!("{}: {line}", path.display()))
}

#[test]
fn the_exposure_of_the_unit_and_of_each_drop_in_is_what_its_comment_says() {
    let unit = shipped("systemd/v2g-edge.service");
    assert_eq!((exposure(&[]), said(&unit)), (said(&unit), said(&unit)));
    assert!(said(&unit) <= USUAL_MAX);
    let drop_ins = files_of("systemd/v2g-edge.service.d");
    assert!(drop_ins.len() >= 5, "{drop_ins:?}");
    for path in &drop_ins {
        let measured = exposure(&[path]);
        assert!((measured - said(path)).abs() < 0.01, "{}: {measured}, and it says {}", path.display(), said(path));
        let most = if path.ends_with("serial.conf") { USUAL_MAX } else { EXPOSURE_MAX };
        assert!(measured <= most, "{}: {measured}", path.display());
    }
}

#[test]
fn what_confirms_an_update_is_root_and_may_do_little_and_reboots_the_box_also_if_it_cannot_start() {
    let unit = shipped("systemd/v2g-edge-confirm.service");
    let measured = exposure_of("v2g-edge-confirm.service", &[]);
    assert!((measured - said(&unit)).abs() < 0.01, "{measured}, and it says {}", said(&unit));
    assert!(measured <= CONFIRM_MAX, "{measured}");
    let text = text(&unit);
    for line in ["FailureAction=reboot", "ConditionPathExists=/etc/rauc/system.conf", "Type=oneshot"] {
        assert!(text.lines().any(|found| found == line), "{line}");
    }
    verify("v2g-edge-confirm.service", &[]);
}

#[test]
fn systemd_takes_every_key_of_the_unit_and_of_its_drop_ins() {
    verify("v2g-edge.service", &files_of("systemd/v2g-edge.service.d"));
}

/// What `systemd-analyze verify` says of a unit: nothing.
#[track_caller]
fn verify(name: &str, drop_ins: &[PathBuf]) {
    let dir = tempfile::tempdir().expect("a directory");
    let unit = dir.path().join(name);
    // The program is not installed where the tests run.
    let program = env!("CARGO_BIN_EXE_v2g-edge");
    fs::write(&unit, text(&shipped("systemd").join(name)).replace("/usr/bin/v2g-edge", program)).expect("written");
    let beside = dir.path().join(format!("{name}.d"));
    fs::create_dir(&beside).expect("made");
    for path in drop_ins {
        fs::copy(path, beside.join(path.file_name().expect("a name"))).expect("copied");
    }
    let output = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<&str> = said.lines().filter(|line| line.contains(name)).collect();
    assert!(output.status.success() && ours.is_empty(), "{said}");
}
