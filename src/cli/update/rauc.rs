//! The program `rauc` (1.8 or later): what it is asked, and what it says in words for who updates a box.

use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::program::{self, Within};
use crate::cli::show;

/// RAUC's service is started when it is asked (D-Bus gives a start 25 s), and then reads a few small files.
pub(super) const ANSWERS_WITHIN: Duration = Duration::from_secs(60);
/// A bundle of form `plain` is read as a whole before its signature is known: 2 GiB at 4 MB/s.
const BUNDLE_WITHIN: Duration = Duration::from_secs(10 * 60);
/// RAUC 1.8 says nothing while it writes an image: 4 GiB onto the slowest card (class 2: 2 MB/s) take 36 min.
const SILENT_AT_MOST: Duration = Duration::from_secs(60 * 60);
/// Two blocks of a flash, which another one may be writing (`fw_setenv` holds a lock meanwhile).
const PRINTENV_WITHIN: Duration = Duration::from_secs(10);

/// RAUC could not do it. Nothing was changed but what its own words say.
#[derive(Debug, thiserror::Error)]
pub(super) enum RaucError {
    /// There is no such program.
    #[error(
        "there is no RAUC on this box: `update` is for an image with two root file systems; a package is upgraded by apt \
         (/usr/share/doc/v2g-edge/install.md)"
    )]
    Absent,
    /// It cannot be started.
    #[error("rauc cannot be run: {0}")]
    NotRun(io::Error),
    /// It said no.
    #[error("{cause} (RAUC: {said})")]
    Refused {
        /// What that means here, and what to do.
        cause: String,
        /// In its own words.
        said: String,
    },
    /// It hung and was killed. Its service may go on with what it was told to do.
    #[error(
        "{call} {hung}, and was killed: its service hangs (systemctl restart rauc ends what it does; journalctl -u rauc)"
    )]
    Hung {
        /// What was called.
        call: String,
        /// How long it did not do what.
        hung: String,
    },
    /// It said something else than was asked.
    #[error("rauc says what this program does not understand ({0}); is it older than 1.8?")]
    Garbled(String),
}

/// What RAUC knows of the box.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct System {
    /// What bundles must be for.
    pub(super) compatible: String,
    /// The bootloader's name of the slot that runs; `None`: it cannot tell.
    pub(super) booted: Option<String>,
    /// Ascending by name.
    pub(super) slots: Vec<Slot>,
}

/// A place for a root file system, or what belongs to one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Slot {
    /// `rootfs.0`.
    pub(super) name: String,
    /// `rootfs`.
    pub(super) class: String,
    /// The bootloader's name, `A`; `None` for what is not booted.
    pub(super) bootname: Option<String>,
    /// `booted`, `active`, `inactive`.
    pub(super) state: String,
    /// `good` or `bad`, as the bootloader says.
    pub(super) boot_status: Option<String>,
    /// The version of the bundle that RAUC has put there; `None`: another program has.
    pub(super) version: Option<String>,
    /// The SHA-256 of what RAUC has put there; likewise.
    pub(super) checksum: Option<String>,
}

/// What a bundle says of itself, with a signature that is known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bundle {
    /// What it is for.
    pub(super) compatible: String,
    /// Its version; `-` if it has none.
    pub(super) version: String,
}

impl System {
    /// The slot of this bootloader's name.
    pub(super) fn slot(&self, bootname: &str) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.bootname.as_deref() == Some(bootname))
    }

    /// The slot that a bundle goes into when this one runs: of its class, and not it.
    pub(super) fn other_than(&self, booted: &str) -> Option<&Slot> {
        let class = &self.slot(booted)?.class;
        let is_other =
            |slot: &&Slot| slot.class == *class && slot.bootname.as_deref().is_some_and(|name| name != booted);
        self.slots.iter().find(is_other)
    }
}

/// The slots and how they are.
pub(super) fn system(within: Duration) -> Result<System, RaucError> {
    let said = ask(&["status", "--detailed", "--output-format=json"], within)?;
    read_system(&said).ok_or_else(|| RaucError::Garbled(first_line(&said)))
}

/// What a bundle is, if its signature is one that this box trusts.
pub(super) fn bundle(path: &Path) -> Result<Bundle, RaucError> {
    let mut rauc = rauc(&["info", "--output-format=json"]);
    let said = output(rauc.arg(path), "info", BUNDLE_WITHIN)?;
    let read = |said: &str| {
        let json: Value = serde_json::from_str(said).ok()?;
        let version = text(&json, "version").unwrap_or_else(|| "-".to_owned());
        Some(Bundle { compatible: text(&json, "compatible")?, version })
    };
    read(&said).ok_or_else(|| RaucError::Garbled(first_line(&said)))
}

/// Whether RAUC's service installs something: it goes on also when whoever has told it to is gone. The program `rauc` does not tell, so
/// it is asked by systemd's `busctl`; where that cannot be, it is not known to.
pub(super) fn is_installing() -> bool {
    let mut busctl = Command::new("busctl");
    busctl.args(["get-property", "de.pengutronix.rauc", "/", "de.pengutronix.rauc.Installer", "Operation"]);
    let answer = program::output(&mut busctl, ANSWERS_WITHIN);
    matches!(answer, Ok(Within::Ended(output)) if output.stdout.starts_with(b"s \"installing\""))
}

/// Tells the bootloader that the slot that runs is good, or bad.
pub(super) fn mark(good: bool, within: Duration) -> Result<(), RaucError> {
    ask(&["status", if good { "mark-good" } else { "mark-bad" }], within).map(drop)
}

/// Installs a bundle, however long that takes, as long as RAUC makes progress. `tell` is called with each line of it.
pub(super) fn install(path: &Path, mut tell: impl FnMut(&str)) -> Result<(), RaucError> {
    let mut command = rauc(&["install", "--progress"]);
    command.arg(path);
    let mut last = None;
    let ended = program::lines(&mut command, SILENT_AT_MOST, |line| match line.strip_prefix("LastError: ") {
        Some(error) if !error.is_empty() => last = Some(error.to_owned()),
        _ => tell(&line),
    });
    match ended.map_err(not_run)? {
        Within::Ended(status) if status.success() => Ok(()),
        Within::Ended(status) => Err(refused(&last.unwrap_or_else(|| format!("it ended with {status}")))),
        Within::Killed => Err(hung("install", &format!("has made no progress for {}", show::duration(SILENT_AT_MOST)))),
    }
}

fn ask(arguments: &[&str], within: Duration) -> Result<String, RaucError> {
    output(&mut rauc(arguments), &arguments[..arguments.len().min(2)].join(" "), within)
}

fn rauc(arguments: &[&str]) -> Command {
    let mut command = Command::new("rauc");
    // In its own words, and not in those of a country.
    command.args(arguments).env("LC_ALL", "C");
    command
}

fn output(command: &mut Command, call: &str, within: Duration) -> Result<String, RaucError> {
    match program::output(command, within).map_err(not_run)? {
        Within::Ended(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Within::Ended(output) => Err(refused(what_was_said(&String::from_utf8_lossy(&output.stderr)))),
        Within::Killed => Err(hung(call, &format!("has not ended within {}", show::duration(within)))),
    }
}

fn hung(call: &str, hung: &str) -> RaucError {
    RaucError::Hung { call: format!("`rauc {call}`"), hung: hung.to_owned() }
}

fn not_run(error: io::Error) -> RaucError {
    if error.kind() == io::ErrorKind::NotFound { RaucError::Absent } else { RaucError::NotRun(error) }
}

/// The last line that is no remark of GLib's log.
fn what_was_said(stderr: &str) -> &str {
    let is_remark = |line: &&str| line.starts_with("rauc-Message:") || line.contains("rauc-WARNING");
    let lines = || stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    lines().rfind(|line| !is_remark(line)).or_else(|| lines().next_back()).unwrap_or("nothing")
}

/// Words of RAUC 1.8, and what they mean here.
const CAUSES: [(&str, &str); 10] = [
    (
        "certificate is not yet valid",
        "the bundle's signature is not valid yet: check the clock of this box (v2g-edge doctor)",
    ),
    ("certificate has expired", "the certificate that signed the bundle has expired: have it signed anew"),
    (
        "signature verification failed",
        "the bundle's signature is none that this box trusts: it must be made with a key of the keyring that \
         /etc/rauc/system.conf names",
    ),
    ("Compatible mismatch", "the bundle is for another kind of box"),
    ("not allowed", "the bundle has a form that this box does not take (bundle-formats in /etc/rauc/system.conf)"),
    ("Invalid bundle format", "this is no whole bundle: it is cut short or something else; fetch it again"),
    ("No such file", "there is no such bundle"),
    ("No keyring", "RAUC is not set up on this box: there is no keyring (/etc/rauc/system.conf)"),
    (
        "via D-Bus",
        "RAUC's service does not answer: look at `systemctl status rauc`; on Debian it is the package rauc-service",
    ),
    ("nput/output error", "the bundle is damaged, or the disk is: fetch it again"),
];

fn refused(said: &str) -> RaucError {
    let cause = CAUSES.iter().find(|(part, _)| said.contains(part));
    let cause = cause.map_or("RAUC refuses it", |(_, cause)| cause).to_owned();
    RaucError::Refused { cause, said: said.to_owned() }
}

fn first_line(said: &str) -> String {
    said.lines().next().unwrap_or_default().chars().take(200).collect()
}

fn read_system(said: &str) -> Option<System> {
    let json: Value = serde_json::from_str(said).ok()?;
    let named = json.get("slots")?.as_array()?.iter().filter_map(Value::as_object).flatten();
    let mut slots: Vec<Slot> = named.filter_map(|(name, slot)| read_slot(name, slot)).collect();
    slots.sort_by(|a, b| a.name.cmp(&b.name));
    Some(System { compatible: text(&json, "compatible")?, booted: text(&json, "booted"), slots })
}

fn read_slot(name: &str, slot: &Value) -> Option<Slot> {
    let status = |pointer: &str| slot.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    Some(Slot {
        name: name.to_owned(),
        class: text(slot, "class")?,
        bootname: text(slot, "bootname"),
        state: text(slot, "state")?,
        boot_status: text(slot, "boot_status"),
        version: status("/slot_status/bundle/version"),
        checksum: status("/slot_status/checksum/sha256"),
    })
}

/// `None` also for what is there and empty.
fn text(json: &Value, key: &str) -> Option<String> {
    json.get(key)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// How often the bootloader would still try a slot, by U-Boot's variables; `None`: it does not tell.
pub(super) fn tries_left(bootname: &str) -> Option<u64> {
    let name = format!("BOOT_{bootname}_LEFT");
    let mut command = Command::new("fw_printenv");
    let Ok(Within::Ended(output)) = program::output(command.args(["-n", &name]), PRINTENV_WITHIN) else { return None };
    let said = String::from_utf8_lossy(&output.stdout);
    if output.status.success() { u64::from_str_radix(said.trim().trim_start_matches("0x"), 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As RAUC 1.8 of Debian 12 says it, of a box that was updated once.
    const STATUS: &str = r#"{"compatible":"v2g-edge-qemuarm64","variant":"","booted":"A","boot_primary":"rootfs.0","slots":[
        {"rootfs.1":{"class":"rootfs","device":"/dev/vda3","type":"ext4","bootname":"B","state":"inactive","parent":null,
        "mountpoint":null,"boot_status":"good","slot_status":{"bundle":{"compatible":"v2g-edge-qemuarm64","version":"0.2.0"},
        "checksum":{"sha256":"1820","size":3000000},"installed":{"timestamp":"2026-11-30T05:22:42Z","count":1},"status":"ok"}}},
        {"rootfs.0":{"class":"rootfs","device":"/dev/vda2","type":"ext4","bootname":"A","state":"booted","parent":null,
        "mountpoint":"/","boot_status":"bad","slot_status":{"bundle":{"compatible":null}}}},
        {"app.0":{"class":"app","device":"/dev/vda5","type":"ext4","bootname":null,"state":"inactive","parent":null,
        "mountpoint":null,"boot_status":null}}]}"#;

    #[test]
    fn the_status_of_rauc_1_8_is_read_and_the_other_slot_is_of_the_same_class() {
        let system = read_system(STATUS).expect("read");
        assert_eq!((system.compatible.as_str(), system.booted.as_deref()), ("v2g-edge-qemuarm64", Some("A")));
        let names: Vec<&str> = system.slots.iter().map(|slot| slot.name.as_str()).collect();
        assert_eq!(names, ["app.0", "rootfs.0", "rootfs.1"]);
        let other = system.other_than("A").expect("there is one");
        assert_eq!((other.bootname.as_deref(), other.version.as_deref()), (Some("B"), Some("0.2.0")));
        assert_eq!(
            (other.checksum.as_deref(), system.slot("A").and_then(|a| a.checksum.as_deref())),
            (Some("1820"), None)
        );
        assert_eq!(system.other_than("C"), None, "of a slot that RAUC does not know there is no other");
        assert_eq!(read_system("{}"), None);
        assert_eq!(read_system("rauc"), None);
    }

    #[test]
    fn what_rauc_1_8_says_is_told_with_its_cause() {
        let of = |stderr: &str| refused(what_was_said(stderr)).to_string();
        let remarks = "rauc-Message: 05:22:42.644: Reading bundle: /w.raucb\nrauc-Message: 05:22:42.645: Verifying bundle signature... \n";
        for (said, cause) in [
            ("signature verification failed: Verify error: self-signed certificate", "none that this box trusts"),
            ("signature verification failed: Verify error: certificate is not yet valid", "check the clock"),
            ("Invalid bundle format: Signature size (18157518080763845932) exceeds bundle size", "cut short"),
            (
                "Invalid bundle format: Failed to seek to end of bundle: Error seeking in file: Invalid argument",
                "cut short",
            ),
            ("No such file: /nonexistent.raucb", "there is no such bundle"),
            ("No keyring file or directory provided", "RAUC is not set up"),
            ("Error retrieving slot status via D-Bus: error creating proxy: Could not connect", "rauc-service"),
            ("Compatible mismatch: Expected 'a' but bundle manifest has 'b'", "another kind of box"),
            ("Bundle format 'plain' not allowed", "bundle-formats"),
            ("something new", "RAUC refuses it"),
        ] {
            let told = of(&format!("{remarks}{said}\n"));
            assert!(told.contains(cause) && told.ends_with(&format!("(RAUC: {said})")), "{told}");
        }
        assert!(of("").ends_with("(RAUC: nothing)"));
    }
}
