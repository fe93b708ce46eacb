//! What takes too long for every run of the tests of the image (`HIL_LONG=1`): versions that do not deliver, and power cuts.

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hil_tests::disk::{Recording, Remains};
use hil_tests::gpt;
use hil_tests::process::{Process, program};
use hil_tests::rig::{GATEWAY, Rig};
use hil_tests::wait::{let_pass, unix_ns};

use super::judged;
use super::versions::{
    CANNOT_DELIVER, CRASHES, Clock, Failure, HANGS, INSTALL_WITHIN, Stick, delivers, goes, running, start,
    start_without_stick, unmounts, wait_for_state,
};

/// This machine on the cable of the buses, on which the box may reach everything.
const SERVER: &str = "10.9.0.1";
const PORT: u16 = 8080;
/// Until the gateway has told what it has to tell of a confirmation, and after it.
const AFTER: Duration = Duration::from_secs(5);

/// Each goes by itself, and the one before is back with its record.
#[test]
fn a_version_that_cannot_deliver_crashes_or_hangs_goes_by_itself() -> Result<(), Failure> {
    let clock = Clock::start();
    let stick = Stick::new()?;
    let versions =
        [("2.1.0", CANNOT_DELIVER, "acknowledgement"), ("2.2.0", CRASHES, "does not run"), ("2.3.0", HANGS, "gateway")];
    for (version, does, _) in versions {
        stick.version(version, Some(does))?;
    }
    clock.say("the bundles are made");
    let mut rig = start(&stick, "250ms")?;
    clock.say("it delivers");
    for (version, _, why) in versions {
        goes(&mut rig, version, why, ["B", "A"])?;
        clock.say(&format!("{version} has gone"));
    }
    let judgement = judged(&mut rig)?;
    clock.say("judged");
    let tally = judgement.tally(GATEWAY);
    for (event, times) in [("update_started", 3), ("update_rolled_back", 3)] {
        assert_eq!(tally.events.get(event), Some(&times), "{event}: {judgement}");
    }
    Ok(())
}

/// One update is fetched, written, booted and confirmed, and its disk recorded. Then the power goes at random instants of each of its
/// parts, and of what was not flushed a random part remains: the box comes up in one of the two versions, with its record, and the
/// update comes to an end that is told once.
#[test]
fn a_power_cut_at_any_instant_of_an_update_leaves_one_of_two_versions_and_the_record() -> Result<(), Failure> {
    let cuts = std::env::var("HIL_CUTS").ok().map_or(20, |cuts| cuts.parse().expect("HIL_CUTS must be a number"));
    let clock = Clock::start();
    let stick = Stick::new()?;
    stick.version("3.0.0", None)?;
    let mut rig = start_without_stick()?;
    let mut serve = Command::new(program("python3"));
    serve.args(["-m", "http.server", "--bind", SERVER, "--directory"]).arg(stick.files()).arg(PORT.to_string());
    let log = stick.files().with_extension("log");
    let _server = Process::start("http.server", &mut serve, &log)?;
    clock.say("it delivers");

    let run = rig.record()?;
    rig.run_within(&format!("v2g-edge update install http://{SERVER}:{PORT}/3.0.0.raucb"), INSTALL_WITHIN)?;
    clock.say("installed");
    let before = rig.boot_id()?;
    let rebooted = unix_ns();
    rig.run("systemd-run --quiet --on-active=1s systemctl reboot")?;
    rig.wait_for_start_after(&before)?;
    let up = unix_ns();
    unmounts(&mut rig)?;
    assert_eq!(running(&mut rig)?, "B");
    wait_for_state(&mut rig, &["confirmed"])?;
    let_pass(AFTER);
    let recording = rig.recorded()?;
    clock.say("confirmed");
    let parts = parts(&recording, rebooted, up);
    println!("{} writes and flushes: {parts:?}", recording.events());

    for cut in 0..cuts {
        let (part, events) = &parts[cut % parts.len()];
        let after = rig.seed().within(events.start..=events.end);
        let met = rig.power_cut_at(&run, &recording, after, Remains::Random)?;
        rig.power_on()?;
        let (slot, state) = settled(&mut rig, part)?;
        clock.say(&format!("cut {cut} ({part}) after {after}, {} blocks lost: slot {slot}, {state}", met.blocks_lost));
        judged(&mut rig)?;
    }
    Ok(())
}

/// The parts of an update, by what is written.
fn parts(recording: &Recording, rebooted: i64, up: i64) -> Vec<(&'static str, Range<usize>)> {
    let disk = File::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/image/disk.img")).expect("it is built");
    let place = |name| gpt::partition(&disk, name).unwrap_or_else(|error| panic!("{name}: {error}"));
    let (slot, slot_bytes) = place("rootfs-b");
    let mut slot = recording.writes_into(slot, slot_bytes);
    let (first, last) = (slot.next().expect("a slot is written"), slot.next_back().expect("more than once"));
    let mut state: Vec<usize> = ["state-a", "state-b"]
        .map(place)
        .into_iter()
        .flat_map(|(begin, bytes)| recording.writes_into(begin, bytes))
        .collect();
    state.sort_unstable();
    let rebooted = recording.events_until(rebooted);
    let switched = state.iter().rfind(|number| **number < rebooted).copied().expect("RAUC tells the bootloader");
    let booted = state.iter().find(|number| **number >= rebooted).copied().expect("the bootloader counts");
    let up = recording.events_until(up);
    let marked = state.last().copied().expect("the new slot is marked good");
    let end = recording.events();
    vec![
        ("download", 0..first),
        ("write", first..last),
        // A few writes before it and after it.
        ("switch", switched.saturating_sub(8)..(switched + 8).min(rebooted)),
        ("shutdown", rebooted..booted),
        ("first boot", booted..up),
        ("confirm", up..end),
        ("mark good", marked.saturating_sub(8)..(marked + 16).min(end)),
    ]
}

/// The box is up, and the update has come to its end, which is told: the slot that runs and how it has ended.
fn settled(rig: &mut Rig, part: &str) -> Result<(String, String), Failure> {
    let ends = if part == "download" { &["none", "failed"][..] } else { &["confirmed", "rolled_back", "failed"] };
    let state = wait_for_state(rig, ends)?;
    let slot = running(rig)?;
    assert_eq!(slot, if state == "confirmed" { "B" } else { "A" }, "{state}");
    delivers(rig)?;
    if state != "none" {
        let event = rig.wait_for_line_with(&["event,", &format!("kind=update_{state}")])?;
        println!("{event}");
    }
    let told = rig.judge(None)?.tally(GATEWAY).events;
    let times = |event: &str| told.get(event).copied().unwrap_or(0);
    let expected = u64::from(state != "none");
    assert_eq!((times("update_started"), times(&format!("update_{state}"))), (expected, expected), "{told:?}");
    Ok((slot, state))
}
