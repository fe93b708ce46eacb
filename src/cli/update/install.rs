//! `v2g-edge update install`: what must hold before the other slot is written, the record, RAUC, and what happens next.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use tokio::runtime::Runtime;

use super::download::{Partial, is_url, space};
use super::lock::Lock;
use super::rauc::{self, Bundle, System};
use super::{Place, boot, drawn_id, is_root, task};
use crate::agent::confirm::{Found, Side, UpdateRecord, UpdateState, answering};
use crate::api::Report;
use crate::cli::show::{note, print_line};
use crate::cli::{ConfigPath, Exit};
use crate::health::{UpdateFacts, entries};

/// For RAUC's status and ours.
const FREE_MIN: u64 = 1 << 20;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigPath,
    /// A bundle: a file, or an address (http, https), which is fetched with curl and gone on with where it broke off
    #[arg(value_name = "FILE|URL")]
    bundle: String,
    /// Reboot into the new version as soon as it is installed
    #[arg(long)]
    reboot: bool,
    /// Also if no gateway runs: nobody can say then whether its backlog is safe, nor what answered before
    #[arg(long)]
    without_agent: bool,
    /// One JSON object on stdout at the end; progress goes to stderr
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit> {
    if !is_root() {
        bail!("only root can install an update: use sudo");
    }
    let place = Place::of(&arguments.config);
    let system = rauc::system(rauc::ANSWERS_WITHIN)?;
    let _lock = Lock::take(&place.state_dir, &arguments.bundle)?;
    if rauc::is_installing() {
        bail!(
            "RAUC's service is still installing what somebody else has told it to, or who is gone: wait until it has ended \
             (`v2g-edge update status`), or end it with `systemctl restart rauc`"
        );
    }
    let (from, slot) = slots(&system)?;
    settled(&place.record(), &from)?;
    safe(place.agent()?.as_deref(), arguments.without_agent)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().context("no runtime")?;

    let mut partial = None;
    let path = if is_url(&arguments.bundle) {
        let fetched = Partial::of(&arguments.bundle, &place.state_dir)?;
        runtime.block_on(task::fetch(&fetched, place.free_min))?;
        let path = fetched.path().to_owned();
        partial = Some(fetched);
        path
    } else {
        local(&arguments.bundle)?
    };
    let installed = fitting(&path, &system).and_then(|bundle| {
        // A download takes long: what counts is how all is now.
        settled(&place.record(), &from)?;
        let agent = place.agent()?;
        safe(agent.as_deref(), arguments.without_agent)?;
        let to = Side { version: bundle.version.as_str().into(), slot };
        let buses = agent.as_ref().map_or_else(Vec::new, |report| answering(&report.status));
        let record = UpdateRecord::new(drawn_id()?, from, to, boot(), buses);
        let id = record.id.clone();
        replace(&place, agent.is_some().then_some(&runtime))?;
        let is_noted = |facts: Option<&UpdateFacts>| facts.is_some_and(|facts| facts.id == id && facts.start_told);
        install(&place, record, &path, || agent.is_some() && runtime.block_on(task::wait_until(&place, is_noted)))
    });
    // What was fetched has done its part, or was no good.
    if let Some(partial) = partial {
        partial.discard()?;
    }
    let record = installed?;
    next(arguments, &place, &record)
}

/// The side that runs, and the slot that the bundle goes into.
fn slots(system: &System) -> Result<(Side, String)> {
    let Some(booted) = &system.booted else {
        bail!("RAUC cannot tell from which slot this box was booted: rauc.slot= must be on the kernel's command line");
    };
    let Some(slot) = system.other_than(booted).and_then(|slot| slot.bootname.clone()) else {
        bail!("there is no second slot to install into: RAUC knows {} ({booted} runs)", system.slots.len());
    };
    Ok((Side { version: env!("CARGO_PKG_VERSION").into(), slot: booted.clone() }, slot))
}

/// The other slot is what the box goes back to until this version is confirmed.
fn settled(found: &Found, from: &Side) -> Result<()> {
    if let Found::Record(record) = found
        && (record.state == UpdateState::Confirming
            || record.state.is_open() && record.boot != boot() && record.to.slot == from.slot)
    {
        bail!(
            "the version that runs ({}) is not confirmed yet, and the other slot is what the box would go back to ({}): \
             wait, and look with `v2g-edge update status`",
            record.to.version,
            record.from.version
        );
    }
    Ok(())
}

/// Whether the backlog outlives the reboot.
fn safe(agent: Option<&Report>, without_agent: bool) -> Result<()> {
    let Some(report) = agent else {
        if without_agent {
            note("no gateway runs: its backlog and what answered before are not known");
            return Ok(());
        }
        bail!(
            "no gateway answers, so nobody can say whether its backlog is safe: start it (systemctl start v2g-edge), or \
             install all the same with --without-agent"
        );
    };
    if let Some(trouble) = &report.status.journal.trouble {
        let waiting = report.status.journal.waiting_entries + report.status.journal.unsynced_entries;
        bail!("the record is not safe on its disk, and {} would be lost by the reboot: {trouble}", entries(waiting));
    }
    Ok(())
}

/// The absolute path of a file that is there.
fn local(given: &str) -> Result<PathBuf> {
    let path = fs::canonicalize(given).with_context(|| format!("there is no bundle {given}"))?;
    if !path.is_file() {
        bail!("{given} is no file: a bundle is one file, mostly named .raucb");
    }
    Ok(path)
}

/// A bundle whose signature is trusted, and that is for such a box.
fn fitting(path: &Path, system: &System) -> Result<Bundle> {
    let bundle = rauc::bundle(path).with_context(|| format!("{} is not installed", path.display()))?;
    if bundle.compatible != system.compatible {
        bail!(
            "{} is not installed: it is for \"{}\", and this box is \"{}\"",
            path.display(),
            bundle.compatible,
            system.compatible
        );
    }
    Ok(bundle)
}

/// An update that was not booted yet has ended with this one. Before its record goes the running gateway, if there is one, tells its end.
fn replace(place: &Place, told: Option<&Runtime>) -> Result<()> {
    let Found::Record(mut record) = place.record() else { return Ok(()) };
    if record.state.is_open() {
        record.state = UpdateState::Failed;
        record.why = Some("another update takes its place before it was booted".into());
        place.keep(&record)?;
    }
    if let Some(runtime) = told {
        let has_ended = |facts: Option<&UpdateFacts>| facts.is_none_or(|facts| facts.id == record.id && facts.end_told);
        runtime.block_on(task::wait_until(place, has_ended));
    }
    Ok(())
}

/// The record first, then RAUC. `noted` waits until the running gateway has told that it begins.
fn install(place: &Place, mut record: UpdateRecord, path: &Path, noted: impl FnOnce() -> bool) -> Result<UpdateRecord> {
    room(place)?;
    place.keep(&record)?;
    note(format_args!(
        "update from {} (slot {}) to {} (slot {})",
        record.from.version, record.from.slot, record.to.version, record.to.slot
    ));
    if !noted() {
        note("that an update begins is told later: the gateway has not told it yet");
    }
    match rauc::install(path, |line| note(line)) {
        Ok(()) => record.state = UpdateState::Installed,
        Err(error) => {
            (record.state, record.why) = (UpdateState::Failed, Some(error.to_string().into()));
            place.keep_or_complain(&record, "");
            return Err(anyhow::Error::from(error).context("the update is not installed, and this version goes on"));
        }
    }
    place.keep(&record)?;
    Ok(record)
}

fn room(place: &Place) -> Result<()> {
    if space(&place.state_dir)?.free < FREE_MIN {
        bail!("{} is full: make room, or the update cannot be recorded", place.state_dir.display());
    }
    Ok(())
}

fn next(arguments: &Arguments, place: &Place, record: &UpdateRecord) -> Result<Exit> {
    let UpdateRecord { from, to, .. } = record;
    if arguments.json {
        print_line(json!({ "ok": true, "reboot": arguments.reboot, "update": record }));
    } else {
        print_line(format_args!(
            "installed: {} runs after the next boot{}. If it does not deliver within {} s, the box goes back to {} by itself; \
             `v2g-edge update status` tells",
            to.version,
            if arguments.reboot { ", which begins now" } else { " (systemctl reboot)" },
            place.confirm_within.as_secs(),
            from.version
        ));
    }
    if arguments.reboot {
        let status =
            Command::new("systemctl").arg("reboot").status().context("systemctl cannot be run: reboot the box")?;
        if !status.success() {
            bail!("systemctl does not reboot the box ({status}): reboot it");
        }
    }
    Ok(Exit::Fine)
}
