//! The other files: each is of the form that its program reads.

use std::fs;
use std::process::Command;

use hil_tests::tool;

use crate::{files_of, shipped, text};

/// Keys and their sections that systemd's daemons know (systemd-system.conf, resolved.conf, journald.conf, timesyncd.conf of
/// version 252).
const KNOWN: [(&str, &str, &[&str]); 4] = [
    ("system.conf.d", "[Manager]", &["RuntimeWatchdogSec", "RebootWatchdogSec", "DefaultTimeoutStopSec"]),
    ("resolved.conf.d", "[Resolve]", &["LLMNR", "MulticastDNS"]),
    (
        "journald.conf.d",
        "[Journal]",
        &[
            "Storage",
            "SystemMaxUse",
            "SystemKeepFree",
            "RuntimeMaxUse",
            "MaxFileSec",
            "MaxRetentionSec",
            "SyncIntervalSec",
            "RateLimitIntervalSec",
            "RateLimitBurst",
        ],
    ),
    (
        "timesyncd.conf.d",
        "[Time]",
        &["SaveIntervalSec", "ConnectionRetrySec", "PollIntervalMinSec", "PollIntervalMaxSec", "NTP"],
    ),
];

/// Settings of modules or kernels that this machine need not have.
const ELSEWHERE: [&str; 4] = ["kernel.yama.ptrace_scope", "kernel.kexec_load_disabled", "kernel.sysrq", "net.ipv6."];

#[test]
fn the_user_and_the_directories_are_made_by_systemds_own_tools() {
    let root = tempfile::tempdir().expect("a directory");
    fs::create_dir(root.path().join("etc")).expect("made");
    let sysusers = shipped("sysusers.d/v2g-edge.conf");
    let mut users = Command::new("systemd-sysusers");
    tool::run(users.arg(format!("--root={}", root.path().display())).arg(&sysusers)).expect("systemd-sysusers");
    let passwd = text(&root.path().join("etc/passwd"));
    let user = passwd.lines().find(|line| line.starts_with("v2g-edge:")).expect("the user is there");
    assert!(user.contains("/var/lib/v2g-edge:") && user.ends_with("/nologin"), "{user}");
    let mut files = Command::new("systemd-tmpfiles");
    files.arg("--create").arg(format!("--root={}", root.path().display())).arg(shipped("tmpfiles.d/v2g-edge.conf"));
    tool::run(&mut files).expect("systemd-tmpfiles");
    assert!(root.path().join("etc/v2g-edge/tls").is_dir() && root.path().join("etc/v2g-edge/devices").is_dir());
}

#[test]
fn the_settings_of_systemds_daemons_are_ones_that_they_know() {
    for (directory, section, keys) in KNOWN {
        let paths = files_of(&format!("systemd/{directory}"));
        assert_eq!(paths.len(), 1, "{paths:?}");
        let text = text(&paths[0]);
        let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        assert_eq!(lines[0], section);
        for line in &lines[1..] {
            let key = line.split('=').next().expect("a key");
            assert!(keys.contains(&key), "{}: {line}", paths[0].display());
        }
    }
}

#[test]
fn every_kernel_setting_is_one_that_kernels_have() {
    let path = shipped("sysctl.d/60-v2g-edge.conf");
    let text = text(&path);
    let settings = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    for line in settings {
        let (key, value) = line.split_once(" = ").unwrap_or_else(|| panic!("{line}"));
        assert!(value.parse::<u32>().is_ok(), "{line}");
        if ELSEWHERE.iter().any(|known| key.starts_with(known)) {
            continue;
        }
        let file = format!("/proc/sys/{}", key.replace('.', "/"));
        assert!(fs::metadata(&file).is_ok(), "{line}: there is no {file}");
    }
}

#[test]
fn a_rule_of_udev_has_matches_and_assignments_only() {
    for line in
        text(&shipped("udev/60-v2g-edge.rules")).lines().filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        for part in line.split(", ") {
            let (key, value) = part.split_once('"').unwrap_or_else(|| panic!("{part}"));
            let operator = key.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || "_{}".contains(c));
            assert!(["==", "!=", "=", "+="].contains(&operator) && value.ends_with('"'), "{part}");
        }
    }
}

#[test]
fn the_policy_of_the_bus_lets_nobody_but_root_command_rauc() {
    let text = text(&shipped("dbus/v2g-edge-rauc.conf"));
    let rules: Vec<&str> =
        text.lines().map(str::trim).filter(|line| line.starts_with("<allow") || line.starts_with("<deny")).collect();
    assert_eq!(rules[0], r#"<deny send_destination="de.pengutronix.rauc"/>"#, "all but what follows is denied");
    let looks = ["Introspectable", "\"Get\"", "\"GetAll\"", "\"GetSlotStatus\"", "\"GetPrimary\""];
    assert_eq!(rules.len(), looks.len() + 2, "{rules:?}");
    assert!(looks.iter().zip(&rules[1..]).all(|(look, rule)| rule.contains(look)), "{rules:?}");
    let root = text.split("<policy user=\"root\">").nth(1).expect("root's own");
    assert!(root.contains(r#"<allow send_destination="de.pengutronix.rauc"/>"#));
}
