//! Updates of the booted image by `v2g-edge update`: a version that delivers stays, and one that does not goes by itself; nothing
//! of the record is lost either way.

use std::fs;
use std::time::Duration;

use hil_tests::agent::Status;
use hil_tests::bundle::{Signer, Slot};
use hil_tests::fault::Fault;
use hil_tests::rig::{GATEWAY, Rig};
use hil_tests::wait::{let_pass, wait_for};

use super::versions::{
    CANNOT_DELIVER, COMPATIBLE, Clock, Failure, INSTALL_WITHIN, STICK, Stick, goes, running, start, update,
    wait_for_state,
};
use super::{judged, long};

/// As often as entries can come, until enough of them wait; from the next start on as everybody has it.
const OFTEN: &str = "50ms";
const AS_USUAL: &str =
    "sed -i 's/^window = .*/window = \"250ms\"/; s/^poll = \"50ms\"/poll = \"250ms\"/' /etc/v2g-edge/gateway.toml";
/// An emulated box that has nothing else to do takes nine minutes for 10,000; on a busy machine it takes four times as long.
const BACKLOG_WITHIN: Duration = Duration::from_secs(2_400);
const DRAIN_WITHIN: Duration = Duration::from_secs(600);

/// What is no bundle for this box is refused by name. Then entries wait for the broker while a new version is installed; it delivers each
/// once, and stays. With `HIL_LONG=1` there are many, and the next version does not deliver, and goes back to the second slot.
#[test]
fn what_is_unfit_is_refused_and_a_version_that_delivers_the_backlog_stays() -> Result<(), Failure> {
    let (backlog, window): (u64, _) = if long() { (10_000, OFTEN) } else { (100, "250ms") };
    let clock = Clock::start();
    let stick = Stick::new()?;
    stick.version("2.0.0", None)?;
    if long() {
        stick.version("2.1.0", Some(CANNOT_DELIVER))?;
    }
    unfit(&stick)?;
    clock.say("the bundles are made");
    let mut rig = start(&stick, window)?;
    clock.say("it delivers");
    rig.inject(Fault::BrokerMute)?;
    refuses(&mut rig)?;
    clock.say("what is unfit was refused");
    waits(&mut rig, backlog)?;
    rig.run(AS_USUAL)?;
    clock.say("the backlog waits");

    update(&mut rig, "2.0.0")?;
    assert_eq!(running(&mut rig)?, "B");
    clock.say("2.0.0 runs");
    let status = rig
        .wait_for_status("that all still waits", |status| status.waiting().is_some_and(|waiting| waiting >= backlog))?;
    println!("{} entries wait", status.waiting().unwrap_or_default());
    rig.heal(Fault::BrokerMute)?;
    wait_for_state(&mut rig, &["confirmed"])?;
    clock.say("2.0.0 is confirmed");
    // That it began is told in the backlog.
    drained(&mut rig)?;
    clock.say("the backlog is delivered");
    rig.wait_for_text("kind=update_started")?;
    println!("{}", rig.wait_for_line_with(&["kind=update_confirmed", "to_version=\"2.0.0\""])?);
    assert_eq!(rig.run("fw_printenv -n BOOT_ORDER; fw_printenv -n BOOT_B_LEFT")?, "B A\n3");

    let gone = u64::from(long());
    if long() {
        goes(&mut rig, "2.1.0", "acknowledgement", ["A", "B"])?;
        clock.say("2.1.0 has gone");
    }
    let judgement = judged(&mut rig)?;
    clock.say("judged");
    let tally = judgement.tally(GATEWAY);
    // Each start is a life of the journal: of the version before and of the new one, of the one that goes and of that which is back.
    assert!(tally.epochs == 2 + 2 * gone && tally.historical > backlog / 20, "{judgement}");
    for (event, times) in [("update_started", 1 + gone), ("update_confirmed", 1), ("update_rolled_back", gone)] {
        assert_eq!(tally.events.get(event).copied().unwrap_or(0), times, "{event}: {judgement}");
    }
    Ok(())
}

/// Waits until so many entries wait.
fn waits(rig: &mut Rig, backlog: u64) -> Result<(), Failure> {
    // Who is asked ten times a second how he is does little else, emulated.
    rig.run("systemctl stop hil-status")?;
    wait_for(BACKLOG_WITHIN, "the backlog", || {
        let status = rig.run("v2g-edge status --json || true").unwrap_or_default();
        match status.lines().find_map(Status::parse).and_then(|status| status.waiting()) {
            Some(waiting) if waiting >= backlog => Ok(()),
            waiting => {
                let_pass(Duration::from_secs(2));
                Err(format!("{waiting:?} entries"))
            }
        }
    })?;
    rig.run("systemctl start hil-status")?;
    Ok(())
}

/// Bundles that are none for this box.
fn unfit(stick: &Stick) -> Result<(), Failure> {
    let slot = Slot::of_noise(&stick.dir().join("other"))?;
    slot.bundle(&stick.bundle("other.raucb"), "somebody-elses-box", "2.0.0", &Signer::of_the_image())?;
    slot.bundle(&stick.bundle("stranger.raucb"), COMPATIBLE, "2.0.0", &Signer::stranger(stick.dir())?)?;
    let whole = fs::read(stick.bundle("2.0.0.raucb"))?;
    fs::write(stick.bundle("short.raucb"), &whole[..whole.len() / 2])?;
    println!("a bundle has {} bytes", whole.len());
    Ok(())
}

/// Each of them is refused by its name, and nothing is written.
fn refuses(rig: &mut Rig) -> Result<(), Failure> {
    rig.run(STICK)?;
    for (name, words) in [
        ("other", "it is for \"somebody-elses-box\", and this box is \"v2g-edge-qemu-arm64\""),
        ("stranger", "none that this box trusts"),
        ("short", "cut short"),
    ] {
        let refused = rig.run_within(&format!("v2g-edge update install /run/stick/{name}.raucb"), INSTALL_WITHIN);
        let said = refused.expect_err("it is refused").to_string();
        println!("{name}: {said}");
        assert!(said.contains(words) && said.contains(&format!("{name}.raucb is not installed")), "{said}");
    }
    assert_eq!(rig.run("ls /var/lib/v2g-edge/update.json 2>/dev/null || true")?, "", "no update has begun");
    Ok(())
}

/// Waits until what had waited is delivered.
fn drained(rig: &mut Rig) -> Result<(), Failure> {
    wait_for(DRAIN_WITHIN, "the backlog to be delivered", || match rig.status().and_then(|status| status.waiting()) {
        Some(waiting) if waiting < 20 => Ok(()),
        waiting => Err(format!("{waiting:?} entries wait")),
    })?;
    Ok(())
}
