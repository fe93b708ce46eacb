//! Versions of the system for the tests of updates, and what is done with them in the box.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hil_tests::bundle::{self, BundleError, Signer, Slot};
use hil_tests::rig::{Options, Rig, RigError};
use hil_tests::wait::{unix_ns, wait_for};

pub(super) const COMPATIBLE: &str = "v2g-edge-qemu-arm64";
/// For a version that delivers, on a machine with other things to do; the clock of the box is right when it starts.
const CONFIRM: &str = "[journal]\ntime_wait = \"0s\"\n[update]\nconfirm_within = \"10m\"\n";
/// The shortest that there is, for one that does not.
const SOON_JUDGED: &str = "sed -i 's/^confirm_within = .*/confirm_within = \"1m\"/' /etc/v2g-edge/gateway.toml";
pub(super) const STICK: &str =
    "mkdir -p /run/stick && { mountpoint -q /run/stick || mount -o ro /dev/vdb /run/stick; }";
/// Reading, checking and writing a slot, emulated on a busy machine, and up to the reboot.
pub(super) const INSTALL_WITHIN: Duration = Duration::from_secs(600);
/// From the reboot into the new version to its end, with one into the old one again.
const END_WITHIN: Duration = Duration::from_secs(900);
/// Until a shell that is asked again says what it has to say.
const LOOK: Duration = Duration::from_secs(10);
/// A way in for what the gateway is to do in place of what it does.
const DROP_IN: &str = "/usr/lib/systemd/system/v2g-edge.service.d/50-version.conf";

/// The certificate of an authority that has signed nothing here.
const OTHER_CA: &str = "/usr/share/v2g-edge/other-ca.pem";

/// What differs in /etc is the box's own; this one has another authority built in.
pub(super) const CANNOT_DELIVER: &str = "[Service]\nExecStart=\nExecStart=/bin/sh -c 'sed s,/etc/v2g-edge/tls/ca.pem,/usr/share/v2g-edge/other-ca.pem, \
     /etc/v2g-edge/gateway.toml >/run/v2g-edge/gateway.toml; exec /usr/bin/v2g-edge run --config /run/v2g-edge/gateway.toml'\n";
pub(super) const CRASHES: &str = "[Service]\nExecStart=\nExecStart=/bin/sh -c 'kill -SEGV $$$$'\n";
pub(super) const HANGS: &str = "[Service]\nExecStart=\nExecStart=/bin/sh -c 'kill -STOP $$$$'\n";

pub(super) type Failure = Box<dyn std::error::Error>;

/// Versions of the system on a memory stick.
pub(super) struct Stick {
    dir: tempfile::TempDir,
}

impl Stick {
    pub(super) fn new() -> Result<Self, Failure> {
        let dir = tempfile::tempdir()?;
        fs::create_dir(dir.path().join("files"))?;
        Ok(Self { dir })
    }

    /// For what is made on the way.
    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where its files are on this machine.
    pub(super) fn files(&self) -> PathBuf {
        self.dir.path().join("files")
    }

    /// One of them.
    pub(super) fn bundle(&self, name: &str) -> PathBuf {
        self.files().join(name)
    }

    /// What is in the image, as a version of this name, with this in the place of what the gateway does.
    pub(super) fn version(&self, version: &str, drop_in: Option<&str>) -> Result<(), BundleError> {
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
        bundle::stick(&self.files(), &to)?;
        Ok(to)
    }
}

/// A box that delivers, with this stick in it.
pub(super) fn start(stick: &Stick, window: &'static str) -> Result<Rig, Failure> {
    let options =
        Options { stick: Some(stick.image()?), extra: CONFIRM, window, has_host_keys: true, ..Options::firmware() };
    let mut rig = Rig::start(options)?;
    delivers(&mut rig)?;
    Ok(rig)
}

/// A box that delivers, and its first slot with what an update needs; what it fetches comes over the network.
pub(super) fn start_without_stick() -> Result<Rig, Failure> {
    let mut rig = Rig::start(Options { extra: CONFIRM, has_host_keys: true, ..Options::firmware() })?;
    delivers(&mut rig)?;
    Ok(rig)
}

/// Waits until all that is started is, which is much at the first start, and values come.
pub(super) fn delivers(rig: &mut Rig) -> Result<(), RigError> {
    rig.run_within("systemctl is-system-running --wait || true", INSTALL_WITHIN)?;
    rig.wait_until_live()
}

/// Installs a version that does not deliver: it is tried in one slot, goes for this reason, and the other one runs again. Its slot is marked
/// bad by itself; where RAUC does not do that in time, the bootloader counts to three.
pub(super) fn goes(rig: &mut Rig, version: &str, why: &str, [tried, back]: [&str; 2]) -> Result<(), Failure> {
    rig.run(SOON_JUDGED)?;
    let mut boot = update(rig, version)?;
    let mut tries = 0;
    loop {
        let slot = running(rig)?;
        if slot == back && tries > 0 {
            break;
        }
        tries += 1;
        assert!(slot == tried && tries <= 3, "{version} runs in {slot}, try {tries}");
        boot = rig.wait_for_start_after(&boot)?;
    }
    println!("{version} was tried {tries} time(s)");
    if tries > 1 {
        println!("{}", rig.run("journalctl --no-pager -u v2g-edge-confirm -u rauc | tail -n 60")?);
    }
    wait_for_state(rig, &["rolled_back"])?;
    delivers(rig)?;
    let event = rig.wait_for_line_with(&["kind=update_rolled_back", &format!("to_version=\"{version}\"")])?;
    println!("{event}");
    assert!(event.contains(why), "{event}");
    Ok(())
}

/// Installs a version from the stick, and waits for the start after it; what that start is called.
pub(super) fn update(rig: &mut Rig, version: &str) -> Result<String, Failure> {
    rig.run(STICK)?;
    let before = rig.boot_id()?;
    // Beside the shell, which ends when the box is rebooted.
    let install = format!("v2g-edge update install --reboot /run/stick/{version}.raucb");
    rig.run(&format!("systemd-run --quiet --unit=update-{version} {install}"))?;
    let asked = "cat /proc/sys/kernel/random/boot_id; systemctl is-failed 'update-*' || true";
    let tried = wait_for(INSTALL_WITHIN, "the box to start anew", || match rig.run_within(asked, LOOK) {
        Ok(said) if !said.starts_with(&before) => Ok(true),
        Ok(said) if said.contains("failed") => Ok(false),
        other => Err(format!("{other:?}")),
    })?;
    if tried {
        unmounts(rig)?;
        return Ok(rig.boot_id()?);
    }
    Err(rig.run(&format!("journalctl --no-pager -n 30 -u update-{version}"))?.into())
}

/// Nothing was held when the box went down: journald held /var, whose mount had no unit that it could have been stopped for.
pub(super) fn unmounts(rig: &mut Rig) -> Result<(), RigError> {
    let console = rig.console()?;
    let failed: Vec<&str> = console.lines().filter(|line| line.contains("Failed unmounting")).collect();
    assert!(failed.is_empty(), "{failed:?}");
    Ok(())
}

/// By the kernel's command line.
pub(super) fn running(rig: &mut Rig) -> Result<String, RigError> {
    rig.run("sed 's/.*rauc.slot=\\([AB]\\).*/\\1/' /proc/cmdline")
}

/// Waits until the record of the update says one of these, or, for "none", is not there; which.
pub(super) fn wait_for_state(rig: &mut Rig, states: &[&str]) -> Result<String, RigError> {
    let look =
        || match rig.run_within("cat /var/lib/v2g-edge/update.json 2>/dev/null || echo '{\"state\":\"none\"}'", LOOK) {
            Ok(record) => match states.iter().find(|state| record.contains(&format!("\"state\":\"{state}\""))) {
                Some(state) => Ok((*state).to_owned()),
                None => Err(record),
            },
            Err(error) => Err(error.to_string()),
        };
    Ok(wait_for(END_WITHIN, "the end of the update", look)?)
}

/// How long what took.
pub(super) struct Clock {
    begin_ns: i64,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { begin_ns: unix_ns() }
    }

    pub(super) fn say(&self, what: &str) {
        println!("{:4} s  {what}", (unix_ns() - self.begin_ns) / 1_000_000_000);
    }
}
