//! What is refused before anything is written, each with its cause and what to do.

use std::fs;

use hil_tests::scripted::{Script, ScriptedBroker};
use hil_tests::wait::wait_for;

use crate::gateway::{Gateway, Said, event, wait_for_events};
use crate::stage::SOON;

#[track_caller]
fn refused(gateway: &Gateway, said: &Said, parts: &[&str]) {
    assert_eq!(said.code, Some(3), "{}", said.err);
    for part in parts {
        assert!(said.err.contains(part), "\"{part}\" is not in: {}", said.err);
    }
    assert!(!gateway.asked().iter().any(|call| call.starts_with("install")), "{:?}", gateway.asked());
    assert!(!gateway.state().join("update.json").exists());
}

#[test]
fn each_reason_not_to_install_is_named_with_what_to_do() {
    let broker = ScriptedBroker::start(Script::default());
    let mut gateway = Gateway::new();
    let empty = gateway.stage.dir.path().join("empty");
    fs::create_dir(&empty).expect("ours");
    let said = gateway.update_with_path(&empty.display().to_string(), &["install", "x.raucb"]);
    refused(&gateway, &said, &["there is no RAUC on this box", "upgraded by apt"]);
    assert_eq!(gateway.update_with_path(&empty.display().to_string(), &["confirm"]).code, Some(0), "nothing to decide");
    assert_eq!(gateway.update_with_path(&empty.display().to_string(), &["status"]).code, Some(0));

    let said = gateway.install();
    refused(&gateway, &said, &["no gateway answers", "systemctl start v2g-edge", "--without-agent"]);

    gateway.stage.start(&[broker.url()], "");
    gateway.stage.wait_until_online();
    refused(&gateway, &gateway.update(&["install", "gone.raucb"]), &["there is no bundle gone.raucb"]);
    refused(&gateway, &gateway.update(&["install", "/tmp"]), &["/tmp is no file"]);
    for (words, cause) in [
        ("signature verification failed: Verify error: self-signed certificate", "none that this box trusts"),
        ("Invalid bundle format: Signature size (18157518080763845932) exceeds bundle size", "it is cut short"),
    ] {
        gateway.says("info.error", &format!("rauc-Message: 05:22:42.644: Reading bundle: x\n{words}\n"));
        refused(&gateway, &gateway.install(), &[cause, &format!("(RAUC: {words})")]);
    }
    fs::remove_file(gateway.stage.dir.path().join("tools/info.error")).expect("ours");
    gateway.says("info.json", r#"{"compatible":"another-box","version":"9.9.9"}"#);
    refused(&gateway, &gateway.install(), &["it is for \"another-box\", and this box is \"v2g-edge-test\""]);
}

#[test]
fn an_update_that_rauc_does_not_install_has_failed_and_is_told_and_one_that_is_not_confirmed_lets_no_other_in() {
    let broker = ScriptedBroker::start(Script::default());
    let mut gateway = Gateway::new();
    gateway.stage.start(&[broker.url()], "");
    gateway.stage.wait_until_online();
    gateway.says("install.error", "Failed updating slot rootfs.1: Input/output error");
    let said = gateway.install();
    assert_eq!(said.code, Some(3), "{}", said.err);
    assert!(said.err.contains("the update is not installed, and this version goes on"), "{}", said.err);
    assert!(said.err.contains("the bundle is damaged, or the disk is"), "{}", said.err);
    assert_eq!(gateway.record()["state"], "failed");
    let reason = "the bundle is damaged, or the disk is: fetch it again (RAUC: Failed updating slot rootfs.1: Input/output error)";
    let failed = format!("{},reason=\"{reason}\"", event("failed"));
    wait_for_events(&broker, &[event("started"), failed]);

    fs::remove_file(gateway.stage.dir.path().join("tools/install.error")).expect("ours");
    assert_eq!(gateway.install().code, Some(0));
    gateway.reboots_into("B");
    assert_eq!(gateway.update(&["confirm", "--within", "1s"]).code, Some(1));
    let said = gateway.install();
    assert_eq!(said.code, Some(3), "{}", said.err);
    assert!(said.err.contains("(9.9.9) is not confirmed yet, and the other slot is what"), "{}", said.err);
}

#[test]
fn a_backlog_that_only_memory_has_is_not_rebooted_away() {
    let mut gateway = Gateway::new();
    // A file lies where the journal belongs: it runs from memory.
    fs::write(gateway.state().join("journal"), "").expect("ours");
    gateway.stage.start(&["mqtt://127.0.0.1:9".to_owned()], "");
    gateway.stage.wait_for_status("a journal in memory", |status| status.text("/journal/trouble").is_some());
    let said = gateway.install();
    refused(&gateway, &said, &["the record is not safe on its disk", "would be lost by the reboot"]);
}

#[test]
fn what_a_newer_program_left_is_named_and_left_alone() {
    let mut gateway = Gateway::new();
    let (path, newer) = (gateway.state().join("update.json"), r#"{"format":2,"what":"is it"}"#);
    fs::write(&path, newer).expect("ours");
    gateway.starts();
    let said = "a newer program wrote it (format 2, this one reads 1)";
    gateway.stage.wait_for_status("the finding", |status| {
        status.text("/update/trouble").is_some_and(|trouble| trouble.contains(said))
    });
    let status = gateway.update(&["status"]);
    assert!(status.code == Some(1) && status.out.contains(said), "{}", status.out);
    // Nobody knows what it says, nor whether the slot that runs is new: it is not marked good.
    let decided = gateway.update(&["confirm", "--within", "1s"]);
    assert!(decided.code == Some(1) && decided.err.contains("is not marked good: "), "{}", decided.err);
    assert_eq!(gateway.asked(), Vec::<String>::new());
    assert_eq!(fs::read_to_string(&path).expect("there"), newer);
}

/// Two at a time wrote over each other's record, and fetched into one file.
#[test]
fn a_second_installation_at_a_time_is_refused_with_who_is_at_it() {
    let gateway = Gateway::new();
    gateway.says("hangs", "info --output-format=json");
    let mut first = gateway.start_update(&["install", "--without-agent", &gateway.bundle().display().to_string()]);
    let bundle = gateway.bundle().display().to_string();
    let at_it = format!("process {}, {bundle}", first.id());
    let look = || {
        let status = gateway.update(&["status", "--json"]);
        if status.out.contains(&at_it) { Ok(()) } else { Err(status.out) }
    };
    wait_for(SOON, "the first one", look).unwrap_or_else(|late| panic!("{late}"));
    let said = gateway.update(&["install", "--without-agent", &bundle]);
    let parts =
        ["another `v2g-edge update install` is at it", &at_it, "wait until it has ended", "or end it with kill"];
    refused(&gateway, &said, &parts);
    first.kill9().expect("ours");
    gateway.says_no_more("hangs");
    let said = gateway.update(&["install", "--without-agent", &bundle]);
    assert_eq!(said.code, Some(0), "{}", said.err);
}

#[test]
fn an_installation_that_was_killed_is_not_said_to_go_on() {
    let gateway = Gateway::new();
    gateway.says("hangs", "install --progress");
    let bundle = gateway.bundle().display().to_string();
    let mut killed = gateway.start_update(&["install", "--without-agent", &bundle]);
    let shows = |text: &str| {
        let look = || match gateway.update(&["status"]) {
            Said { out, .. } if out.contains(text) => Ok(()),
            Said { out, .. } => Err(out),
        };
        wait_for(SOON, text, look).unwrap_or_else(|late| panic!("{late}"));
    };
    shows("is being installed");
    killed.kill9().expect("ours");
    shows("its installation was broken off: install it again");
}

/// Its client was killed, and RAUC's service went on; the next one was told nothing but `it ended with exit status: 1`, and its record
/// had taken the place of that of the version that was then booted.
#[test]
fn what_rauc_still_installs_for_nobody_is_shown_and_lets_no_other_in() {
    let gateway = Gateway::new();
    gateway.says_as_program("busctl", "#!/bin/sh\n[ \"$5\" = Operation ] && echo 's \"installing\"'\n");
    let status = gateway.update(&["status"]);
    assert!(status.out.contains("RAUC's service, for nobody who waits for it"), "{}", status.out);
    let install = ["install", "--without-agent", &gateway.bundle().display().to_string()];
    refused(&gateway, &gateway.update(&install), &["RAUC's service is still installing", "systemctl restart rauc"]);
    gateway.says_as_program("busctl", "#!/bin/sh\necho 's \"idle\"'\n");
    let said = gateway.update(&install);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let status = gateway.update(&["status"]);
    assert!(!status.out.contains("RAUC's service"), "{}", status.out);
}
