//! `v2g-edge journal`: what waits, whether it is whole, what it says. Every answer names whose view it is.

mod csv;
mod export;
mod sessions;
mod show;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::Subcommand;
use hal::Clock as _;
use serde_json::json;

use super::{CONFIG, Exit};
use crate::agent::wiring;
use crate::api::{self, AskError, Request, Response};
use crate::cli::show::{complain, note, print, print_line};
use crate::config;
use crate::journal::{self, Archive, Inventory, Purged, Repaired, Settings, VerifyReport, View};
use crate::measure::{BootId, Stamp};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Whose view: where an agent answers on its socket, `stats`, `list` and `forget` ask it. All else \
    reads the files, without changing them; `repair` needs the agent stopped.\n\
    Exit code 0: fine. 1: something is wrong or lost. 2: usage or configuration. 3: could not be done."
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Segments, bytes, what waits, what a day costs, and how many hours of outage fit
    Stats(Where),
    /// Every segment: numbers, life, size, what waits
    List(Where),
    /// Look at every byte: checksums, continuity, seals
    Verify(Where),
    /// Write entries to stdout
    Export(export::Arguments),
    /// Complete, salvage and put aside what is damaged; the agent must be stopped
    Repair(Where),
    /// Give up what is older, in whole segments; a gap event tells the consumer
    Forget(ForgetArguments),
}

#[derive(Debug, clap::Args)]
struct Where {
    /// The configuration file: names the state directory and the agent's socket
    #[arg(long, short, value_name = "FILE", default_value = CONFIG, conflicts_with = "dir")]
    config: PathBuf,
    /// A journal's directory, read as it is; no agent is asked
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct ForgetArguments {
    #[command(flatten)]
    place: Where,
    /// As 12h or 30d
    #[arg(long, value_name = "DURATION", value_parser = config::duration)]
    older_than: Duration,
}

/// Where the journal is, and who might answer for it.
struct Target {
    dir: PathBuf,
    socket: Option<PathBuf>,
    settings: Option<Settings>,
}

impl Where {
    fn target(&self) -> Result<Target, Exit> {
        if let Some(dir) = &self.dir {
            return Ok(Target { dir: dir.clone(), socket: None, settings: None });
        }
        match config::load(&self.config) {
            Ok(plan) => {
                let settings = wiring::journal_settings(&plan);
                Ok(Target { dir: settings.dir.clone(), socket: Some(plan.api.socket), settings: Some(settings) })
            }
            Err(faults) => {
                note(&faults);
                complain("or name the journal's directory with --dir");
                Err(Exit::Usage)
            }
        }
    }
}

impl Target {
    /// What the running agent answers; `None`: none runs.
    fn ask(&self, request: Request) -> Result<Option<Response>> {
        let Some(socket) = &self.socket else { return Ok(None) };
        match api::ask(socket, request) {
            Ok(Response::Refused { why }) => bail!("the agent refused: {why}"),
            Ok(response) => Ok(Some(response)),
            Err(AskError::Absent { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn inventory(&self) -> Result<(View, Inventory)> {
        match self.ask(Request::Journal)? {
            Some(Response::Journal(inventory)) => Ok((View::Agent, *inventory)),
            Some(_) => bail!("the agent answered something else; is another version running?"),
            None => {
                let archive = Archive::open(&self.dir)?;
                let inventory = archive.inventory()?;
                let inventory = match &self.settings {
                    Some(settings) => inventory.bounded_by(settings),
                    None => inventory,
                };
                Ok((archive.view(), inventory))
            }
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit> {
    let place = match &arguments.command {
        Command::Stats(place) | Command::List(place) | Command::Verify(place) | Command::Repair(place) => place,
        Command::Export(arguments) => &arguments.place,
        Command::Forget(arguments) => &arguments.place,
    };
    let target = match place.target() {
        Ok(target) => target,
        Err(exit) => return Ok(exit),
    };
    match &arguments.command {
        Command::Stats(_) => stats(&target, place.json),
        Command::List(_) => list(&target, place.json),
        Command::Verify(_) => verify(&target, place.json),
        Command::Export(arguments) => export::run(&target, arguments),
        Command::Repair(_) => repair(&target, place.json),
        Command::Forget(arguments) => forget(&target, arguments.older_than, place.json),
    }
}

fn stats(target: &Target, as_json: bool) -> Result<Exit> {
    let (view, inventory) = target.inventory()?;
    if as_json {
        print_line(show::stats_json(view, target, &inventory)?);
    } else {
        print(show::stats_text(view, target, &inventory));
    }
    Ok(Exit::Fine)
}

fn list(target: &Target, as_json: bool) -> Result<Exit> {
    let (view, inventory) = target.inventory()?;
    if as_json {
        print_line(json!({ "view": view, "journal": target.dir, "segments": inventory.segments }));
    } else {
        print(show::list_text(view, target, &inventory));
    }
    Ok(Exit::Fine)
}

fn verify(target: &Target, as_json: bool) -> Result<Exit> {
    let report: VerifyReport = Archive::open(&target.dir)?.verify()?;
    let good = report.findings.is_empty();
    if as_json {
        print_line(show::with(json!({ "ok": good, "journal": target.dir }), &report)?);
    } else {
        print(show::verify_text(target, &report));
    }
    Ok(if good { Exit::Fine } else { Exit::Wrong })
}

fn now() -> Stamp {
    hal::LinuxClock::new().now().into()
}

fn repair(target: &Target, as_json: bool) -> Result<Exit> {
    let repaired: Repaired = journal::repair(&target.dir, BootId(hal::boot_id()), now())?;
    if as_json {
        print_line(show::with(json!({ "view": View::Files, "journal": target.dir }), &repaired)?);
    } else {
        print(show::repaired_text(target, &repaired));
    }
    Ok(if repaired.entries_lost > 0 { Exit::Wrong } else { Exit::Fine })
}

fn forget(target: &Target, older_than: Duration, as_json: bool) -> Result<Exit> {
    let asked = target.ask(Request::Forget { older_than_s: older_than.as_secs() })?;
    let (view, purged): (View, Purged) = match asked {
        Some(Response::Forgotten(purged)) => (View::Agent, purged),
        Some(_) => bail!("the agent answered something else; is another version running?"),
        None => (View::Files, journal::purge(&target.dir, older_than, BootId(hal::boot_id()), now())?),
    };
    if as_json {
        print_line(show::with(json!({ "view": view, "journal": target.dir }), &purged)?);
    } else {
        print(show::purged_text(view, target, &purged));
    }
    Ok(Exit::Fine)
}
