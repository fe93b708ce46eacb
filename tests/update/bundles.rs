//! The real RAUC and real bundles: what it says of them is what is understood.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hil_tests::scripted::{Script, ScriptedBroker};
use hil_tests::tool;

use crate::gateway::Gateway;

/// A key and its certificate.
fn signer(dir: &Path, name: &str) {
    let file = |ending: &str| dir.join(format!("{name}.{ending}")).display().to_string();
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=a signer of bundles"]);
    tool::run(openssl.args(["-keyout", &file("key"), "-out", &file("crt")])).expect("openssl");
}

/// A bundle for a kind of box.
fn bundle(dir: &Path, name: &str, signer: &str, compatible: &str) -> PathBuf {
    let (content, made) = (dir.join(format!("{name}.d")), dir.join(format!("{name}.raucb")));
    fs::create_dir(&content).expect("ours");
    // What cannot be compressed away: RAUC takes no bundle of one block.
    let noise = std::iter::successors(Some(1_u32), |n| Some(n.wrapping_mul(1_664_525).wrapping_add(1_013_904_223)));
    let root: Vec<u8> = noise.take(300_000).map(|n| n.to_be_bytes()[0]).collect();
    fs::write(content.join("rootfs.ext4"), root).expect("ours");
    let manifest = format!(
        "[update]\ncompatible={compatible}\nversion=9.9.9\n[bundle]\nformat=verity\n[image.rootfs]\nfilename=rootfs.ext4\n"
    );
    fs::write(content.join("manifest.raucm"), manifest).expect("ours");
    let file = |ending: &str| dir.join(format!("{signer}.{ending}")).display().to_string();
    let mut rauc = Command::new("/usr/bin/rauc");
    rauc.args(["--cert", &file("crt"), "--key", &file("key"), "bundle"]).arg(&content).arg(&made);
    tool::run(&mut rauc).expect("rauc and mksquashfs: tests/run installs them");
    made
}

#[test]
fn a_good_bundle_goes_on_to_be_installed_and_each_bad_one_is_refused_by_what_rauc_finds() {
    let broker = ScriptedBroker::start(Script::default());
    let mut gateway = Gateway::new();
    gateway.stage.start(&[broker.url()], "");
    gateway.stage.wait_until_online();
    let dir = gateway.stage.dir.path().join("bundles");
    fs::create_dir(&dir).expect("ours");
    signer(&dir, "depot");
    signer(&dir, "stranger");
    let system = format!(
        "[system]\ncompatible=v2g-edge-test\nbootloader=uboot\nbundle-formats=-plain\ndata-directory={0}\n\
         [keyring]\npath={0}/depot.crt\n[slot.rootfs.0]\ndevice={0}/a\ntype=ext4\nbootname=A\n",
        dir.display()
    );
    gateway.says("system.conf", &system);

    let good = bundle(&dir, "good", "depot", "v2g-edge-test");
    let strange = bundle(&dir, "strange", "stranger", "v2g-edge-test");
    let other = bundle(&dir, "other", "depot", "another-box");
    let cut = dir.join("cut.raucb");
    let bytes = fs::read(&good).expect("made");
    fs::write(&cut, &bytes[..bytes.len() / 2]).expect("ours");
    let empty = dir.join("empty.raucb");
    fs::write(&empty, "").expect("ours");
    for (path, cause) in [
        (&strange, "none that this box trusts: it must be made with a key of the keyring"),
        (&other, "it is for \"another-box\", and this box is \"v2g-edge-test\""),
        (&cut, "this is no whole bundle: it is cut short or something else; fetch it again"),
        (&empty, "this is no whole bundle: it is cut short or something else; fetch it again"),
    ] {
        let said = gateway.update(&["install", &path.display().to_string()]);
        assert_eq!(said.code, Some(3), "{}", said.err);
        assert!(said.err.contains(cause), "{}: {}", path.display(), said.err);
    }
    assert!(!gateway.asked().iter().any(|call| call.starts_with("install")), "{:?}", gateway.asked());
    let said = gateway.update(&["install", &good.display().to_string()]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(gateway.record()["to"]["version"], "9.9.9");
}
