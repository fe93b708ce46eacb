//! A box that starts from its disk with what `hil-tests/image` has built: the bytes that are flashed, and behind them a data
//! partition of the test's own. What a test needs in the box (a shell, its configuration) lies on that partition, as a
//! technician's would; the slots are what is shipped.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::qemu::Bus;
use super::{Options, RigError, io_error};
use crate::agent::Setup;
use crate::certs::Files;
use crate::gpt;
use crate::image::Overlay;
use crate::tool;

/// The gateway's user in the image.
const USER: &str = "v2g-edge";
/// Blocks that are copied at once.
const COPY_BYTES: usize = 1 << 20;

/// A shell for the rig, and the agent's status over and over. `multi-user.target` takes both.
///
/// A clock that says that it is synced is written into the RTC by the kernel, a second ahead (for RTCs that take so long); each start of one
/// QEMU began a second later than the one before. The RTC is QEMU's, which is right: its driver goes as soon as the clock was set by it.
const UNITS: [(&str, &str); 3] = [
    (
        "hil-shell.service",
        "[Service]\nExecStartPre=-/bin/sh -c 'if [ -e /data/hil/synced ]; then echo 9010000.pl031 >/sys/bus/amba/drivers/rtc-pl031/unbind; /data/hil/adjtimex --status 1 --maxerror 1000 --esterror 1000; fi'\n\
         ExecStart=/bin/sh -c 'until [ -e /dev/virtio-ports/control ]; do sleep 0.1; done; exec sh <>/dev/virtio-ports/control >&0 2>&0'\n\
         Environment=PATH=/data/hil:/usr/sbin:/usr/bin:/sbin:/bin\nRestart=always\nKillMode=process\n",
    ),
    (
        "hil-status.service",
        "[Service]\nExecStart=/bin/sh -c 'until [ -e /dev/virtio-ports/status ]; do sleep 0.1; done; exec /data/hil/tell /dev/virtio-ports/status'\n\
         Restart=always\n",
    ),
    ("multi-user.target.d/hil.conf", "[Unit]\nWants=hil-shell.service hil-status.service\n"),
];

/// What `hil-tests/image` has left.
pub(super) fn built() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/image")
}

/// The second cable, in the network of the test's own.
pub(super) fn lay_cable(bus: &Bus) -> Result<(), RigError> {
    let Bus { interface, host, .. } = bus;
    for arguments in [
        &["tuntap", "add", "dev", interface, "mode", "tap"][..],
        &["address", "add", &format!("{host}/24"), "dev", interface],
        &["link", "set", interface, "up"],
    ] {
        tool::run(Command::new(crate::process::program("ip")).args(arguments))?;
    }
    Ok(())
}

/// Where a file of the box lies on the data partition: what differs from the slot in `/etc` is kept apart.
pub(super) fn on_data(path: &str) -> String {
    if let Some(of_data) = path.strip_prefix("/data/") {
        return format!("/{of_data}");
    }
    path.strip_prefix("/etc/").map_or_else(|| path.to_owned(), |of_etc| format!("/etc/upper/{of_etc}"))
}

/// The content of the data partition: the configuration with its keys, the drop-in for serial lines, what the rig needs.
pub(super) fn data(setup: &Setup, tls: &Files, bus: &Bus, options: &Options) -> Result<Overlay, RigError> {
    let data = Overlay::new()?;
    let etc = |path: &str| on_data(&format!("/etc/{path}"));
    let shipped = |path: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/system").join(path);
    let toml =
        setup.toml_with_window(options.window, Path::new("/var/lib/v2g-edge"), Path::new("/run/v2g-edge/api.sock"));
    data.put(&etc("v2g-edge/gateway.toml"), toml.as_bytes(), 0o644)?;
    for (from, to, mode) in [
        (&tls.ca, &setup.tls.ca, 0o644),
        (&tls.certificate, &setup.tls.certificate, 0o644),
        (&tls.key, &setup.tls.key, 0o600),
    ] {
        data.copy(&on_data(&to.to_string_lossy()), from, mode)?;
    }
    let Bus { gateway, host, .. } = bus;
    let network = host.rsplit_once('.').map_or(host.as_str(), |(network, _)| network);
    let buses = format!("add element inet v2g_edge bus4 {{ {network}.0/24 }}\n");
    data.put(&etc("v2g-edge/nftables.d/depot.nft"), buses.as_bytes(), 0o644)?;
    let cable = format!("[Match]\nMACAddress=52:54:00:09:00:02\n[Network]\nAddress={gateway}/24\n");
    data.put(&etc("systemd/network/10-bus.network"), cable.as_bytes(), 0o644)?;
    let serial = "systemd/v2g-edge.service.d/serial.conf";
    data.copy(&etc("systemd/system/v2g-edge.service.d/serial.conf"), &shipped(serial), 0o644)?;
    for (name, text) in UNITS {
        data.put(&etc(&format!("systemd/system/{name}")), text.as_bytes(), 0o644)?;
    }
    if options.has_host_keys {
        let ssh = data.root().join("etc/upper/ssh");
        fs::create_dir_all(&ssh).map_err(io_error("host keys"))?;
        for kind in ["rsa", "ecdsa", "ed25519"] {
            let mut make = Command::new(crate::process::program("ssh-keygen"));
            make.args(["-q", "-N", "", "-t", kind, "-f"]).arg(ssh.join(format!("ssh_host_{kind}_key")));
            tool::run(&mut make)?;
        }
    }
    data.put("/hil/tell", include_bytes!("../../guest/tell"), 0o755)?;
    for tool in ["adjtimex", "candump", "cansend"] {
        data.copy(&format!("/hil/{tool}"), &built().join("tools").join(tool), 0o755)?;
    }
    if options.rtc == "utc" {
        data.put("/hil/synced", b"", 0o644)?;
    }
    Ok(data)
}

/// The disk as it is flashed, with `mebibytes` more behind it, and this on its data partition.
pub(super) fn disk(data: &Overlay, to: &Path, mebibytes: u32) -> Result<(), RigError> {
    let flashed = built().join("disk.img");
    if !flashed.is_file() {
        return Err(RigError::File { path: flashed, why: "no image there; hil-tests/image builds it".to_owned() });
    }
    tool::run(Command::new("cp").arg("--sparse=always").arg(&flashed).arg(to))?;
    let io = |path: &Path| io_error(&path.display().to_string());
    let disk = File::options().read(true).write(true).open(to).map_err(io(to))?;
    let (begin, length) = gpt::partition(&disk, "data").map_err(io(to))?;
    own(data.root()).map_err(io(data.root()))?;
    let file_system = to.with_extension("data");
    let options = ["-q", "-t", "ext4", "-b", "4096", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0"];
    let mut make = Command::new(crate::process::program("mke2fs"));
    make.args(options).arg("-d").arg(data.root()).arg(&file_system).arg(format!("{}k", length / 1024));
    tool::run(&mut make)?;
    write_at(&file_system, &disk, begin).map_err(io(to))?;
    let longer = disk.metadata().map_err(io(to))?.len() + (u64::from(mebibytes) << 20);
    disk.set_len(longer).map_err(io(to))?;
    fs::remove_file(&file_system).map_err(io(&file_system))
}

/// Gives the gateway's files to its user, and all others to root.
fn own(data: &Path) -> io::Result<()> {
    let passwd = fs::read_to_string(built().join("passwd"))?;
    let user = passwd.lines().find_map(|line| line.strip_prefix(&format!("{USER}:x:")));
    let ids = user.and_then(|rest| {
        let mut ids = rest.split(':').map(str::parse);
        Some((ids.next()?.ok()?, ids.next()?.ok()?))
    });
    let (uid, gid): (u32, u32) =
        ids.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no user {USER} in the image")))?;
    let of_user = data.join("etc/upper/v2g-edge");
    let mut open = vec![data.to_owned()];
    while let Some(path) = open.pop() {
        let is_key = path.extension().is_some_and(|extension| extension == "key");
        let group = if path.starts_with(&of_user) { gid } else { 0 };
        chown(&path, Some(if is_key { uid } else { 0 }), Some(group))?;
        if path.is_dir() {
            open.extend(
                fs::read_dir(&path)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?,
            );
        }
    }
    Ok(())
}

/// Copies a file into another, from there on.
fn write_at(from: &Path, to: &File, begin: u64) -> io::Result<()> {
    let from = File::open(from)?;
    let length = from.metadata()?.len();
    let mut buffer = vec![0; COPY_BYTES];
    let mut at = 0;
    while at < length {
        let count = from.read_at(&mut buffer, at)?;
        if count == 0 {
            break;
        }
        to.write_all_at(&buffer[..count], begin + at)?;
        at += count as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_in_etc_has_a_place_of_its_own_on_the_data_partition() {
        assert_eq!(on_data("/etc/v2g-edge/gateway.toml"), "/etc/upper/v2g-edge/gateway.toml");
        assert_eq!(on_data("/data/hil/x"), "/hil/x");
    }
}
