//! Updates of the booted image by `v2g-edge update`: a version that delivers stays, and one that does not goes by itself; nothing
//! of the record is lost either way, wherever the power goes.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use hil_tests::bundle::{self, BundleError, Signer, Slot};
use hil_tests::disk::Remains;
use hil_tests::fault::Fault;
use hil_tests::rig::{GATEWAY, Options, Rig, RigError};
use hil_tests::wait::{let_pass, unix_ns, wait_for};

use super::{judged, long};

const COMPATIBLE: &str = "v2g-edge-qemu-arm64";
/// The shortest that there is, for a box whose clock is right when it starts.
const CONFIRM: &str = "[journal]\ntime_wait = \"0s\"\n[update]\nconfirm_within = \"1m\"\n";
const STICK: &str = "mkdir -p /run/stick && mount -o ro /dev/vdb /run/stick";
/// Reading, checking and writing a slot, emulated on a busy machine.
const INSTALL_WITHIN: Duration = Duration::from_secs(600);
/// From the reboot into the new version to its end, with one into the old one again.
const END_WITHIN: Duration = Duration::from_secs(900);
/// A way in for what the gateway is to do in place of what it does.
const DROP_IN: &str = "/usr/lib/systemd/system/v2g-edge.service.d/50-version.conf";

/// The certificate of an authority that has signed nothing here.
const OTHER_CA: &str = "/usr/share/v2g-edge/other-ca.pem";

type Failure = Box<dyn std::error::Error>;

/// Versions of the system on a memory stick.
struct Stick {
    dir: tempfile::TempDir,
}

impl Stick {
    fn new() -> Result<Self, Failure> {
        let dir = tempfile::tempdir()?;
        fs::create_dir(dir.path().join("files"))?;
        Ok(Self { dir })
    }

    fn bundle(&self, name: &str) -> PathBuf {
        self.dir.path().join("files").join(name)
    }

    /// What is in the image, as a version of this name, with this in the place of what the gateway does.
    fn version(&self, version: &str, drop_in: Option<&str>) -> Result<(), BundleError> {
        let slot = Slot::of_the_image(&self.dir.path().join("slot"))?;
        if let Some(text) = drop_in {
            slot.put(DROP_IN, text, 0o644)?;
            let stranger = Signer::stranger(self.dir.path())?;
            slot.put(OTHER_CA, &fs::read_to_string(&stranger.certificate).unwrap_or_default(), 0o644)?;
        }
        slot.bundle(&self.bundle(&format!("{version}.raucb")), COMPATIBLE, version, &Signer::of_the_image())
    }

    /// Its image.
    fn image(&self) -> Result<PathBuf, BundleError> {
        let to = self.dir.path().join("stick");
        bundle::stick(&self.dir.path().join("files"), &to)?;
        Ok(to)
    }
}

fn start(stick: &Stick, window: &'static str) -> Result<Rig, Failure> {
    let options = Options { stick: Some(stick.image()?), extra: CONFIRM, window, ..Options::firmware() };
    let mut rig = Rig::start(options)?;
    rig.wait_until_live()?;
    rig.run(STICK)?;
    Ok(rig)
}

/// Many entries wait for the broker while the new version is installed; it delivers each once, and stays. What is no bundle for
/// this box is refused by name before.
#[test]
fn an_update_delivers_the_backlog_once_and_is_confirmed() -> Result<(), Failure> {
    let backlog: u64 = if long() { 10_000 } else { 600 };
    let stick = Stick::new()?;
    stick.version("2.0.0", None)?;
    let slot = Slot::of_the_image(&stick.dir.path().join("other"))?;
    slot.bundle(&stick.bundle("other.raucb"), "somebody-elses-box", "2.0.0", &Signer::of_the_image())?;
    slot.bundle(&stick.bundle("stranger.raucb"), COMPATIBLE, "2.0.0", &Signer::stranger(stick.dir.path())?)?;
    let whole = fs::read(stick.bundle("2.0.0.raucb"))?;
    fs::write(stick.bundle("short.raucb"), &whole[..whole.len() / 2])?;
    println!("a bundle has {} bytes", whole.len());

    let mut rig = start(&stick, "50ms")?;
    rig.inject(Fault::BrokerMute)?;
    for (name, words) in [
        ("other", "it is for \"somebody-elses-box\""),
        ("stranger", "signature"),
        ("short", "short.raucb is not installed"),
    ] {
        let refused = rig.run_within(&format!("v2g-edge update install /run/stick/{name}.raucb"), INSTALL_WITHIN);
        let said = refused.expect_err("it is refused").to_string();
        println!("{name}: {said}");
        assert!(said.contains(words), "{said}");
    }
    wait_for(Duration::from_secs(backlog / 5), "the backlog", || {
        let waiting = rig.status().and_then(|status| status.waiting()).unwrap_or(0);
        if waiting >= backlog { Ok(()) } else { Err(format!("{waiting} entries")) }
    })?;
    let before = rig.boot_id()?;
    let said = rig.run_within("v2g-edge update install --reboot /run/stick/2.0.0.raucb", INSTALL_WITHIN)?;
    println!("{said}");
    rig.wait_for_start_after(&before)?;
    assert_eq!(running(&mut rig)?, "B");
    rig.wait_for_status("that all still waits", |status| status.waiting().is_some_and(|waiting| waiting >= backlog))?;
    rig.heal(Fault::BrokerMute)?;
    wait_for_state(&mut rig, &["confirmed"])?;
    rig.wait_for_text("kind=update_started")?;
    rig.wait_for_text("kind=update_confirmed")?;
    println!("{}", rig.run("v2g-edge update status; fw_printenv")?);
    assert_eq!(rig.run("fw_printenv -n BOOT_ORDER; fw_printenv -n BOOT_B_LEFT")?, "B A\n3");
    rig.wait_until_live()?;
    let judgement = judged(&mut rig)?;
    let tally = judgement.tally(GATEWAY);
    assert!(tally.epochs == 2 && tally.historical > backlog / 20, "{judgement}");
    Ok(())
}

/// Each goes by itself, and the one before is back with its record.
#[test]
fn a_version_that_does_not_deliver_goes_by_itself() -> Result<(), Failure> {
    // What differs in /etc is the box's own; this one has another authority built in.
    let wrong_ca = "[Service]\nExecStart=\nExecStart=/bin/sh -c 'sed s,/etc/v2g-edge/tls/ca.pem,/usr/share/v2g-edge/other-ca.pem, \
                    /etc/v2g-edge/gateway.toml >/run/v2g-edge/gateway.toml; exec /usr/bin/v2g-edge run --config /run/v2g-edge/gateway.toml'\n";
    let crashes = "[Service]\nExecStart=\nExecStart=/bin/sh -c 'kill -SEGV $$$$'\n";
    let hangs = "[Service]\nExecStart=\nExecStart=/bin/sh -c 'kill -STOP $$$$'\n";
    let versions =
        [("2.1.0", wrong_ca, "acknowledgement"), ("2.2.0", crashes, "does not run"), ("2.3.0", hangs, "gateway")];
    let versions = &versions[..if long() { 3 } else { 1 }];
    let stick = Stick::new()?;
    for (version, drop_in, _) in versions {
        stick.version(version, Some(drop_in))?;
    }
    let mut rig = start(&stick, "250ms")?;
    for (version, _, why) in versions {
        let before = rig.boot_id()?;
        rig.run_within(&format!("v2g-edge update install --reboot /run/stick/{version}.raucb"), INSTALL_WITHIN)?;
        let tried = rig.wait_for_start_after(&before)?;
        assert_eq!(running(&mut rig)?, "B", "{version} is tried");
        rig.wait_for_start_after(&tried)?;
        assert_eq!(running(&mut rig)?, "A", "{version} has gone");
        wait_for_state(&mut rig, &["rolled_back"])?;
        rig.wait_until_live()?;
        let event = rig.wait_for_line_with(&["kind=update_rolled_back", &format!("to_version=\"{version}\"")])?;
        println!("{event}");
        assert!(event.contains(why), "{event}");
        rig.run(STICK)?;
    }
    judged(&mut rig)?;
    Ok(())
}

/// The power goes at a random instant between the first byte that is written and the confirmation, and of what was not flushed a
/// random part remains: the box comes up in one of the two versions, with its record.
#[test]
fn a_power_cut_in_an_update_leaves_one_of_two_versions_and_the_record() -> Result<(), Failure> {
    let cuts = if long() { 20 } else { 2 };
    let stick = Stick::new()?;
    for version in ["3.0.0", "3.0.1"] {
        stick.version(version, None)?;
    }
    let mut rig = start(&stick, "250ms")?;
    // What a whole one takes here, today.
    let begin = unix_ns();
    let mut from = rig.boot_id()?;
    rig.run_within("v2g-edge update install --reboot /run/stick/3.0.0.raucb", INSTALL_WITHIN)?;
    from = rig.wait_for_start_after(&from)?;
    wait_for_state(&mut rig, &["confirmed"])?;
    let whole = Duration::from_nanos((unix_ns() - begin).unsigned_abs());
    println!("an update takes {whole:?} here");
    for cut in 0..cuts {
        rig.run(STICK)?;
        let version = ["3.0.1", "3.0.0"][cut % 2];
        rig.run(&format!(
            "systemd-run --collect --unit=update v2g-edge update install --reboot /run/stick/{version}.raucb"
        ))?;
        let instant = rig.seed().between(Duration::from_millis(100), whole);
        let_pass(instant);
        let met = rig.power_cut(Remains::Random)?;
        rig.power_on()?;
        // It may start anew once more: a version that has not had its time goes back.
        let state = wait_for_state(&mut rig, &["confirmed", "rolled_back", "failed"])?;
        let slot = running(&mut rig)?;
        rig.wait_until_live()?;
        println!(
            "cut {cut} after {:.1} s, {} blocks lost: slot {slot}, {state}",
            instant.as_secs_f64(),
            met.blocks_lost
        );
    }
    assert_ne!(rig.boot_id()?, from);
    judged(&mut rig)?;
    Ok(())
}

/// By the kernel's command line.
fn running(rig: &mut Rig) -> Result<String, RigError> {
    rig.run("sed 's/.*rauc.slot=\\([AB]\\).*/\\1/' /proc/cmdline")
}

/// Waits until `update status` says one of these; which.
fn wait_for_state(rig: &mut Rig, states: &[&str]) -> Result<String, RigError> {
    let look = || match rig.run_within("cat /var/lib/v2g-edge/update.json", Duration::from_secs(10)) {
        Ok(record) => match states.iter().find(|state| record.contains(&format!("\"state\":\"{state}\""))) {
            Some(state) => Ok((*state).to_owned()),
            None => Err(record),
        },
        Err(error) => Err(error.to_string()),
    };
    Ok(wait_for(END_WITHIN, "the end of the update", look)?)
}
