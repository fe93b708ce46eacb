//! `v2g-edge update status`: slots and versions, which runs, and how the newest update is.

use anyhow::Result;
use serde_json::json;

use super::lock::Lock;
use super::rauc::{self, RaucError, Slot, System};
use super::{Place, boot};
use crate::agent::confirm::{Found, UpdateRecord, UpdateState};
use crate::cli::show::{Paint, print, print_line};
use crate::cli::{ConfigPath, Exit};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigPath,
    /// One JSON object on stdout: `{"compatible":…,"booted":…,"slots":[…],"update":…,"installer":…,"waits_for":[…],"trouble":…}`
    #[arg(long)]
    json: bool,
}

/// All that is known.
struct Known {
    system: Result<System, RaucError>,
    /// Of each slot of `system`, what the bootloader would still try it.
    tries: Vec<Option<u64>>,
    found: Found,
    /// Who installs a version now, in words; `None`: nobody.
    installer: Option<String>,
    /// What is waited for, as the running gateway says; `None`: it does not say.
    waits_for: Option<Vec<String>>,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit> {
    let place = Place::of(&arguments.config);
    let system = rauc::system(rauc::ANSWERS_WITHIN);
    let slots = system.as_ref().map_or(&[][..], |system| &system.slots);
    let tries = slots.iter().map(|slot| slot.bootname.as_deref().and_then(rauc::tries_left)).collect();
    let found = place.record();
    let without_us = || rauc::is_installing().then(|| "RAUC's service, for nobody who waits for it".to_owned());
    let installer = Lock::holder(&place.state_dir).or_else(without_us);
    let waits_for = place.agent().ok().flatten().and_then(|report| report.status.update).map(|facts| facts.waits_for);
    let known = Known { system, tries, found, installer, waits_for };
    if arguments.json {
        print_line(known.json());
    } else {
        print(known.text(Paint::for_stdout(), &boot()));
    }
    Ok(known.exit())
}

impl Known {
    /// An update that is open, or did not stay, is something to look at; so is what cannot be read.
    fn exit(&self) -> Exit {
        match (&self.system, &self.found) {
            (Err(RaucError::Absent), Found::Nothing) => Exit::Fine,
            (Err(_), _) | (_, Found::Unreadable(_)) => Exit::Wrong,
            (Ok(_), Found::Nothing) => Exit::Fine,
            (Ok(_), Found::Record(record)) if record.state == UpdateState::Confirmed => Exit::Fine,
            (Ok(_), Found::Record(_)) => Exit::Wrong,
        }
    }

    fn slots(&self) -> impl Iterator<Item = (&Slot, Option<u64>)> {
        let slots = self.system.as_ref().map_or(&[][..], |system| &system.slots);
        slots.iter().zip(self.tries.iter().copied())
    }

    fn json(&self) -> serde_json::Value {
        let slots = self.slots().map(|(slot, tries_left)| {
            let Slot { name, class, bootname, state, boot_status, version, checksum: _ } = slot;
            json!({ "name": name, "class": class, "bootname": bootname, "state": state, "boot_status": boot_status,
                "version": version, "tries_left": tries_left })
        });
        let slots: Vec<_> = slots.collect();
        let system = self.system.as_ref().ok();
        let update = if let Found::Record(record) = &self.found { Some(record) } else { None };
        let unreadable = if let Found::Unreadable(why) = &self.found { Some(why.clone()) } else { None };
        json!({
            "compatible": system.map(|system| &system.compatible),
            "booted": system.map(|system| &system.booted),
            "slots": slots,
            "update": update,
            "installer": self.installer,
            "waits_for": self.waits_for,
            "trouble": unreadable.or_else(|| self.system.as_ref().err().map(ToString::to_string)),
        })
    }

    fn text(&self, paint: Paint, boot: &str) -> String {
        let mut out = String::new();
        let mut line = |label: &str, text: String| out += &format!("{} {text}\n", paint.dim(&format!("{label:<9}")));
        match &self.system {
            Ok(system) => {
                let booted = system.booted.as_deref().unwrap_or("unknown");
                line("box", format!("{}, booted from slot {}", system.compatible, paint.bold(booted)));
            }
            Err(error) => line("box", paint.odd(&error.to_string())),
        }
        for (slot, tries) in self.slots().filter(|(slot, _)| slot.bootname.is_some()) {
            line("slot", slot_text(slot, tries, paint));
        }
        match &self.found {
            Found::Nothing => line("update", "none was installed by v2g-edge".to_owned()),
            Found::Unreadable(why) => line("update", paint.bad(why)),
            Found::Record(record) => {
                line("update", update_text(record, boot, self.installer.is_some(), paint));
                if record.state == UpdateState::Confirming {
                    let awaited = match &self.waits_for {
                        None => "the gateway, which does not answer".to_owned(),
                        Some(none) if none.is_empty() => "nothing any more: it is confirmed within a second".to_owned(),
                        Some(awaited) => awaited.join(", "),
                    };
                    line("", format!("waits for {awaited}"));
                }
            }
        }
        if let Some(installer) = &self.installer {
            line("installer", installer.clone());
        }
        out
    }
}

fn slot_text(slot: &Slot, tries: Option<u64>, paint: Paint) -> String {
    let status = match slot.boot_status.as_deref() {
        Some("good") => paint.good("good"),
        Some(status) => paint.bad(status),
        None => "unknown".to_owned(),
    };
    let version = slot.version.as_deref().map_or_else(String::new, |version| format!(", version {version}"));
    let tries = tries.map_or_else(String::new, |tries| format!(", {tries} tries left"));
    let bootname = slot.bootname.as_deref().unwrap_or_default();
    format!("{} {} ({}): {status}{tries}{version}", paint.bold(bootname), slot.state, slot.name)
}

/// `is_at_it`: a process that installs a version is there.
fn update_text(record: &UpdateRecord, boot: &str, is_at_it: bool, paint: Paint) -> String {
    let why = record.why.as_deref().unwrap_or("no reason is known");
    let state = match record.state {
        UpdateState::Installing if record.boot == boot && is_at_it => paint.odd("is being installed"),
        UpdateState::Installing => paint.odd("its installation was broken off: install it again"),
        UpdateState::Installed if record.boot == boot => paint.odd("installed; it runs after the next boot"),
        UpdateState::Installed => paint.odd("installed; v2g-edge-confirm.service has not looked yet"),
        UpdateState::Confirming => paint.odd("runs, and is not confirmed yet"),
        UpdateState::Confirmed => paint.good("confirmed"),
        UpdateState::RolledBack => paint.bad(&format!("did not stay, {} runs again: {why}", record.from.version)),
        UpdateState::Failed => paint.bad(&format!("was not installed: {why}")),
    };
    let UpdateRecord { from, to, .. } = record;
    format!("{} (slot {}) to {} (slot {}): {state}", from.version, from.slot, to.version, to.slot)
}
