//! The virtual box: one QEMU for each time the power is on.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::qmp::Qmp;
use super::shell::{Shell, ShellError};
use crate::process::{Process, ProcessError, program, tail};
use crate::wait::wait_for;

/// From the start of QEMU to its sockets.
const SOCKETS_WITHIN: Duration = Duration::from_secs(20);

/// `rigs/qemu.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The program.
    pub emulator: String,
    /// Board, processor, memory.
    pub board: Vec<String>,
    /// Devices that stand for themselves.
    pub devices: Vec<String>,
    /// From power on to a shell, s.
    pub boot_within_s: u64,
    /// MiB.
    pub data_disk_mib: u32,
    /// U-Boot, of a box that starts from its disk, with the image that is flashed; without one QEMU loads the rig's own kernel.
    pub firmware: Option<PathBuf>,
    /// This machine, as the box sees it.
    pub host: String,
    /// A second cable, where the meters are: this machine's address on it, and the name of its interface (a tap device).
    pub bus: Option<Bus>,
    /// The box's end of the RS-485 line.
    pub serial_port: String,
    /// The box's watchdog.
    pub watchdog: String,
}

/// The cable of the meters.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bus {
    /// This machine's interface; QEMU's `-netdev tap` names it.
    pub interface: String,
    /// This machine's address.
    pub host: String,
    /// The box's.
    pub gateway: String,
}

/// What a box loads when its power comes on.
#[derive(Debug, Clone)]
pub(super) enum Loads {
    /// A kernel and the archive with everything, from QEMU's hand.
    Kernel {
        /// The kernel.
        kernel: PathBuf,
        /// Base and overlay.
        initrd: PathBuf,
    },
    /// U-Boot, and that the rest from the disk.
    Firmware(PathBuf),
}

/// The box could not be powered on.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// QEMU did not start.
    #[error("the virtual box")]
    Process(#[from] ProcessError),
    /// One of QEMU's sockets was not there.
    #[error("{path:?} of the virtual box; QEMU says:\n{log}")]
    Socket {
        /// Which.
        path: PathBuf,
        /// Its log.
        log: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It runs and gives no shell.
    #[error("the box does not come up; the end of its console:\n{console}")]
    Console {
        /// What it had said.
        console: String,
        /// Why.
        #[source]
        source: ShellError,
    },
}

/// What a boot needs.
#[derive(Debug)]
pub(super) struct Boot<'a> {
    pub(super) loads: &'a Loads,
    /// The disk's socket.
    pub(super) disk: &'a Path,
    /// A memory stick in the box: an image of it.
    pub(super) stick: Option<&'a Path>,
    /// Where sockets and logs go.
    pub(super) dir: &'a Path,
    /// `-rtc base=`: `utc`, and then the clock counts as synced; or a date, and then it does not.
    pub(super) rtc: &'a str,
    /// The how-manieth boot: names the files.
    pub(super) number: u32,
}

/// A box with its power on. Dropping it cuts the power.
#[derive(Debug)]
pub(super) struct Qemu {
    process: Process,
    qmp: Qmp,
    shell: Shell,
    sockets: PathBuf,
    console: PathBuf,
}

impl Qemu {
    /// Power on; returns when there is a shell.
    pub(super) fn boot(settings: &Settings, boot: &Boot<'_>) -> Result<Self, BootError> {
        let sockets = boot.dir.join(format!("boot-{}", boot.number));
        std::fs::create_dir_all(&sockets).map_err(|source| socket_error(&sockets, "", source))?;
        let console = boot.dir.join(format!("console-{}.log", boot.number));
        let socket = |name: &str| format!("socket,id={name},path={},server=on,wait=off", sockets.join(name).display());
        let mut command = Command::new(program(&settings.emulator));
        command.args(&settings.board).args(["-nodefaults", "-no-user-config", "-display", "none"]);
        // Blocks of the file system and of the disk are one: what no file system survives is half a block. U-Boot knows
        // sectors of 512 bytes only; QEMU makes whole blocks of them.
        let sector = match boot.loads {
            Loads::Kernel { kernel, initrd } => {
                command.arg("-kernel").arg(kernel).arg("-initrd").arg(initrd);
                let synced = if boot.rtc == "utc" { " rig.synced" } else { "" };
                command.args(["-append", &format!("console=ttyAMA0 quiet panic=-1{synced}")]);
                4096
            }
            Loads::Firmware(firmware) => {
                command.arg("-bios").arg(firmware);
                512
            }
        };
        command.args(["-rtc", &format!("base={}", boot.rtc)]);
        // A file is never full and never waits: a console that nobody reads would stop the processor.
        command.args(["-serial", &format!("file:{}", console.display())]);
        command.args(["-qmp", &format!("unix:{},server=on,wait=off", sockets.join("qmp").display())]);
        let disk = format!("driver=nbd,server.type=unix,server.path={},node-name=data", boot.disk.display());
        let sizes = format!("logical_block_size={sector},physical_block_size=4096");
        command.args(["-blockdev", &disk, "-device", &format!("virtio-blk-pci,drive=data,write-cache=on,{sizes}")]);
        if let Some(stick) = boot.stick {
            let file = format!("driver=file,filename={},node-name=stick,read-only=on", stick.display());
            command.args(["-blockdev", &file, "-device", "virtio-blk-pci,drive=stick"]);
        }
        command.args(["-netdev", "user,id=net0", "-device", "virtio-net-pci,netdev=net0,id=nic0,romfile="]);
        command.args(["-chardev", &socket("serial"), "-device", "pci-serial,chardev=serial"]);
        // The second serial port: a CAN adapter that speaks slcan is plugged in there, if a test plays one.
        command.args(["-chardev", &socket("adapter"), "-device", "pci-serial,chardev=adapter"]);
        command.args(["-device", "virtio-serial-pci"]);
        for port in ["control", "status"] {
            command.args(["-chardev", &socket(port)]);
            command.args(["-device", &format!("virtserialport,chardev={port},name={port}")]);
        }
        command.args(&settings.devices);

        let log = boot.dir.join("qemu.log");
        let mut process = Process::start("qemu", &mut command, &log)?;
        let connected = wait_for(SOCKETS_WITHIN, "QEMU's sockets", || match process.ended() {
            Ok(None) => match (Qmp::connect(&sockets.join("qmp")), UnixStream::connect(sockets.join("control"))) {
                (Ok(qmp), Ok(control)) => Ok((qmp, control)),
                (Err(error), _) | (_, Err(error)) => Err(error.to_string()),
            },
            Ok(Some(status)) => Err(format!("it ended with {status}")),
            Err(error) => Err(error.to_string()),
        });
        let (qmp, control) = connected
            .map_err(|late| socket_error(&sockets, &process.log_tail(), io::Error::other(late.to_string())))?;
        let mut qemu = Self { process, qmp, shell: Shell::over(control), sockets, console };
        let up = qemu.shell.run("true", Duration::from_secs(settings.boot_within_s));
        up.map_err(|source| BootError::Console { console: tail(&qemu.console), source })?;
        Ok(qemu)
    }

    /// In the box's shell.
    pub(super) fn run(&mut self, command: &str, within: Duration) -> Result<String, ShellError> {
        self.shell.run(command, within)
    }

    /// The stream of the agent's status.
    pub(super) fn status_stream(&self) -> io::Result<UnixStream> {
        UnixStream::connect(self.sockets.join("status"))
    }

    /// The box's end of the RS-485 line.
    pub(super) fn serial(&self) -> io::Result<UnixStream> {
        UnixStream::connect(self.sockets.join("serial"))
    }

    /// The box's end of the CAN adapter.
    pub(super) fn adapter(&self) -> io::Result<UnixStream> {
        UnixStream::connect(self.sockets.join("adapter"))
    }

    /// What the box has said on its console in this boot.
    pub(super) fn console(&self) -> &Path {
        &self.console
    }

    /// Puts the cable in or pulls it out.
    pub(super) fn set_link(&mut self, up: bool) -> io::Result<()> {
        self.qmp.command("set_link", json!({ "name": "nic0", "up": up }))
    }

    /// How often the watchdog has fired in this boot.
    pub(super) fn watchdog_fired(&self) -> usize {
        self.qmp.count("WATCHDOG")
    }

    /// The power goes: SIGKILL, at once.
    pub(super) fn power_off(mut self) -> Result<(), ProcessError> {
        self.process.kill9()
    }

    /// After a reset by the watchdog: waits for the shell of the new boot.
    pub(super) fn wait_for_shell(&mut self, within: Duration) -> Result<(), BootError> {
        self.shell
            .run("true", within)
            .map(drop)
            .map_err(|source| BootError::Console { console: tail(&self.console), source })
    }
}

fn socket_error(path: &Path, log: &str, source: io::Error) -> BootError {
    BootError::Socket { path: path.to_owned(), log: log.to_owned(), source }
}
