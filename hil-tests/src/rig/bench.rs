//! A real box, over SSH: its power and its cable are switched by commands of this machine.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Deserialize;

use super::RigError;
use super::shell::ShellError;
use crate::process::{Process, program};
use crate::tool;
use crate::wait::{let_pass, wait_for};

/// Capacitors hold a box up for a while.
const POWER_IS_OFF_AFTER: Duration = Duration::from_secs(3);
/// Beside the box's own shell: what is left of an earlier test.
const CLEAN_UP: &str = "touch /run/rig-stop; killall -q keep tell v2g-edge; rm -rf /data/v2g-edge; mkdir -p /data";
const KEEP: &str = "rm -f /run/rig-stop; setsid /etc/rig/keep >/run/rig.log 2>&1 </dev/null &";

/// `rigs/bench.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Runs its last argument in the box's shell.
    pub ssh: Vec<String>,
    /// From power on to a shell, s.
    pub boot_within_s: u64,
    /// This machine, as the box sees it.
    pub host: String,
    /// This machine's end of the RS-485 line.
    pub adapter: PathBuf,
    /// How `stty` sets it up.
    pub stty: Vec<String>,
    /// The box's end of it.
    pub serial_port: String,
    /// The box's watchdog.
    pub watchdog: String,
    /// `power_off`, `power_on`, `link_down`, `link_up`.
    pub commands: BTreeMap<String, Vec<String>>,
}

/// A box with its power on. Dropping it leaves it on, without an agent.
#[derive(Debug)]
pub(super) struct Bench {
    settings: Settings,
    status: Process,
    log: PathBuf,
    /// The kernel's name of the boot that the test has seen.
    boot_id: String,
}

impl Bench {
    /// Waits for a shell, puts the overlay on the box if it is its first boot in this test, and starts the agent.
    pub(super) fn boot(settings: &Settings, overlay: &Path, dir: &Path, first: bool) -> Result<Self, RigError> {
        let within = Duration::from_secs(settings.boot_within_s);
        let up = wait_for(within, "a shell in the box", || ssh(settings, "true").map_err(|error| error.to_string()));
        up.map_err(RigError::Late)?;
        if first {
            ssh(settings, CLEAN_UP)?;
            put(settings, overlay)?;
        }
        ssh(settings, KEEP)?;
        let boot_id = ssh(settings, "cat /proc/sys/kernel/random/boot_id")?;
        let log = dir.join("bench.log");
        let mut tell = command(settings, "/etc/rig/tell");
        let status = Process::start_with_stdout("ssh", &mut tell, &log, Stdio::piped())?;
        Ok(Self { settings: settings.clone(), status, log, boot_id })
    }

    /// In the box's shell.
    pub(super) fn run(&mut self, text: &str) -> Result<String, ShellError> {
        ssh(&self.settings, text)
    }

    /// The stream of the agent's status, once.
    pub(super) fn status_stream(&mut self) -> io::Result<impl Read + Send + 'static> {
        self.status.take_stdout().ok_or_else(|| io::Error::other("the status stream was taken already"))
    }

    /// This machine's end of the line, at its speed.
    pub(super) fn serial(&self) -> Result<File, RigError> {
        let adapter = &self.settings.adapter;
        tool::run(Command::new("stty").arg("-F").arg(adapter).args(&self.settings.stty)).map_err(RigError::Tool)?;
        let opened = OpenOptions::new().read(true).write(true).open(adapter);
        opened.map_err(super::io_error(&adapter.display().to_string()))
    }

    /// What the agent has logged, and ssh.
    pub(super) fn console(&mut self) -> String {
        let said = self.run("cat /run/rig.log").unwrap_or_else(|error| error.to_string());
        said + &crate::process::tail(&self.log)
    }

    /// Puts the cable in or pulls it out.
    pub(super) fn set_link(&mut self, up: bool) -> Result<(), RigError> {
        self.switch(if up { "link_up" } else { "link_down" })
    }

    /// How often the box has booted by itself: after a reset it has another boot id.
    pub(super) fn resets(&mut self) -> usize {
        let now = self.run("cat /proc/sys/kernel/random/boot_id");
        usize::from(now.is_ok_and(|id| id != self.boot_id))
    }

    /// The power goes.
    pub(super) fn power_off(self) -> Result<(), RigError> {
        self.switch("power_off")?;
        let_pass(POWER_IS_OFF_AFTER);
        Ok(())
    }

    /// The power is back.
    pub(super) fn power_on(settings: &Settings) -> Result<(), RigError> {
        switch(settings, "power_on")
    }

    fn switch(&self, name: &'static str) -> Result<(), RigError> {
        switch(&self.settings, name)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // A box without power does not hear it, and needs not.
        let _ = ssh(&self.settings, CLEAN_UP);
    }
}

fn switch(settings: &Settings, name: &'static str) -> Result<(), RigError> {
    match settings.commands.get(name).map(Vec::as_slice) {
        Some([program, arguments @ ..]) => {
            tool::run(Command::new(program).args(arguments)).map(drop).map_err(RigError::Tool)
        }
        _ => Err(RigError::NotOnThisRig(name)),
    }
}

fn command(settings: &Settings, text: &str) -> Command {
    let mut words = settings.ssh.iter();
    let mut command = Command::new(program(words.next().map_or("ssh", String::as_str)));
    command.args(words).arg(text);
    command
}

fn ssh(settings: &Settings, text: &str) -> Result<String, ShellError> {
    let told = text.to_owned();
    let output = command(settings, text).stdin(Stdio::null()).output();
    let output = output.map_err(|source| ShellError::Mute { command: told.clone(), output: String::new(), source })?;
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).trim().to_owned();
    match output.status.code() {
        Some(0) => Ok(said),
        code => Err(ShellError::Failed { command: told, code: code.unwrap_or(-1), output: said }),
    }
}

/// Copies a directory over the box's root.
fn put(settings: &Settings, from: &Path) -> Result<(), RigError> {
    let failed = super::io_error("the files for the box");
    let done = (|| {
        let mut tar = Command::new("tar").arg("-C").arg(from).args(["-c", "."]).stdout(Stdio::piped()).spawn()?;
        let archive = tar.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let unpacked = command(settings, "tar -C / -x -o").stdin(archive).output()?;
        let packed = tar.wait()?;
        if unpacked.status.success() && packed.success() {
            return Ok(());
        }
        Err(io::Error::other(String::from_utf8_lossy(&unpacked.stderr).into_owned()))
    })();
    done.map_err(failed)
}
