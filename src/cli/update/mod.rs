//! `v2g-edge update`: a new version of the whole box, by RAUC, into the slot that does not run.
//!
//! RAUC is called as a program: it knows bundles, signatures, slots and the bootloader. What is here is what it cannot know: whether the
//! backlog is safe, what answered before, whether the new version delivers, and what is told of it. The record of an update
//! (`agent::confirm`) is written here, as root, and nowhere else.

mod confirm;
mod download;
mod install;
mod lock;
mod program;
mod rauc;
mod status;
mod task;

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Subcommand;

use super::show::complain;
use super::{ConfigPath, Exit, status as agent_status};
use crate::agent::confirm::{Found, UpdateRecord};
use crate::api::{AskError, Report};
use crate::config::{self, JournalPlan, SoundParts, UpdatePlan};

/// Where a gateway with a broken configuration has its record, if it is where it is installed.
const STATE_DIR: &str = "/var/lib/v2g-edge";
/// statfs(2): tmpfs, ramfs.
const IN_MEMORY: [u32; 2] = [0x0102_1994, 0x8584_58f6];

#[derive(Debug, clap::Args)]
#[command(
    after_help = "After an update the new version must show that it delivers, or the box goes back: v2g-edge-confirm.service.\n\
    Exit code 0: fine. 1: an update is open, or did not stay; of confirm: not confirmed, reboot. 2: usage. 3: could not be done."
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install a bundle into the other slot; it runs after the next boot
    Install(install::Arguments),
    /// Slots and versions, which runs, what is still waited for, what became of the last update
    Status(status::Arguments),
    /// What systemd runs at each boot: mark this slot good, or after an update wait until it delivers
    Confirm(confirm::Arguments),
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit> {
    match &arguments.command {
        Command::Install(arguments) => install::run(arguments),
        Command::Status(arguments) => status::run(arguments),
        Command::Confirm(arguments) => confirm::run(arguments),
    }
}

/// What of the configuration is needed. A configuration with mistakes has what it is installed with: a box that cannot be updated for
/// a mistake could not be mended either.
struct Place {
    state_dir: PathBuf,
    socket: PathBuf,
    free_min: u64,
    confirm_within: Duration,
}

impl Place {
    fn of(config: &ConfigPath) -> Self {
        let SoundParts { gateway, api, journal, update, .. } = config::load_sound_parts(&config.config);
        let time_wait = journal.as_ref().map(|journal| journal.time_wait);
        Self {
            state_dir: gateway.map_or_else(|| STATE_DIR.into(), |gateway| gateway.state_dir),
            socket: api.unwrap_or_default().socket,
            free_min: journal.map_or(JournalPlan::FREE_MIN, |journal| journal.free_min),
            confirm_within: update
                .unwrap_or_else(|| time_wait.map_or_else(UpdatePlan::default, UpdatePlan::after))
                .confirm_within,
        }
    }

    /// How the running agent is; `None`: none answers.
    fn agent(&self) -> Result<Option<Box<Report>>> {
        match agent_status::ask(&self.socket) {
            Ok(report) => Ok(Some(report)),
            Err(error) if matches!(error.downcast_ref(), Some(AskError::Absent { .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The record. None in memory is none that is known: its disk may not be mounted.
    fn record(&self) -> Found {
        match UpdateRecord::read(&self.state_dir) {
            Found::Nothing if self.is_in_memory() => {
                Found::Unreadable(format!("{} is in memory: its disk is not mounted", self.state_dir.display()))
            }
            found => found,
        }
    }

    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::unnecessary_cast,
        reason = "its width differs from target to target; what is compared has 32 bits"
    )]
    fn is_in_memory(&self) -> bool {
        rustix::fs::statfs(&self.state_dir).is_ok_and(|found| IN_MEMORY.contains(&(found.f_type as u32)))
    }

    fn keep(&self, record: &UpdateRecord) -> Result<()> {
        let path = UpdateRecord::path(&self.state_dir);
        record.write(&self.state_dir).with_context(|| format!("the update cannot be recorded in {}", path.display()))
    }

    /// Where all goes on without it. `then` says how.
    fn keep_or_complain(&self, record: &UpdateRecord, then: &str) {
        if let Err(error) = self.keep(record) {
            complain(format_args!("{error:#}{then}"));
        }
    }

    /// What of the new version is still waited for; `None`: nothing.
    fn lacks(&self, record: &UpdateRecord) -> Option<String> {
        match self.agent() {
            Ok(Some(report)) => confirm::lacks(&report, record),
            Ok(None) => Some("an answer of the gateway: it does not run".to_owned()),
            Err(error) => Some(format!("an answer of the gateway: {error:#}")),
        }
    }
}

/// The id of this run of the kernel, as records have it.
fn boot() -> String {
    hal::boot_id().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// 16 hexadecimal digits from the kernel.
fn drawn_id() -> Result<String> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut bytes)).context("/dev/urandom")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
