//! `v2g-edge update confirm`: whether the version that was booted stays. What systemd runs at each boot, as root.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::rauc::{Slot, System};
use super::{Place, boot, is_root, task};
use crate::agent::confirm::{Found, KnownGood, Side, UpdateRecord, UpdateState};
use crate::api::Report;
use crate::cli::show::complain;
use crate::cli::{ConfigPath, Exit};
use crate::config;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit code 0: the slot is marked good, or there is nothing to decide. 1: the new version did not show that it \
    delivers; its slot is marked bad, and the unit reboots the box into the one before."
)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigPath,
    /// In place of `[update] confirm_within`
    #[arg(long, value_name = "DURATION", value_parser = config::duration)]
    within: Option<Duration>,
}

/// What is to be done in this boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Duty {
    /// Nothing, and why.
    Nothing(&'static str),
    /// The slot was confirmed before, or never updated: it is good.
    MarkGood,
    /// It is new: it must show that it delivers.
    Confirm(Box<UpdateRecord>),
    /// An update has ended without staying. The record with its end.
    Ended(Box<UpdateRecord>),
    /// Nobody can say what this slot is: it is not good. Why.
    Unknown(String),
}

/// What to do, by what is recorded, the slot that runs, and this boot.
pub(super) fn duty(found: Found, booted: &str, boot: &str) -> Duty {
    let mut record = match found {
        // Its installation was said to have failed, and it was booted all the same: RAUC went on with it, or an earlier one was there.
        Found::Record(record) if record.state == UpdateState::Failed && is_new(&record, booted, boot) => record,
        Found::Record(record) if record.state.is_open() => record,
        Found::Unreadable(why) => return Duty::Unknown(why),
        _ => return Duty::MarkGood,
    };
    if record.boot == boot {
        return Duty::Nothing("an update is installed, and runs after the next boot");
    }
    if booted == record.to.slot {
        return Duty::Confirm(record);
    }
    let (state, why) = match record.state {
        UpdateState::Installing => {
            (UpdateState::Failed, "the power went, or the box was restarted, while it was installed")
        }
        _ if record.delivered => {
            (UpdateState::RolledBack, "it delivered, and its slot could not be marked good in time")
        }
        _ => (UpdateState::RolledBack, "it did not come to a decision: it did not boot, crashed, hung, or lost power"),
    };
    (record.state, record.delivered) = (state, false);
    record.why.get_or_insert_with(|| why.into());
    Duty::Ended(record)
}

/// Whether the slot that runs is the one that the update was for, booted since.
fn is_new(record: &UpdateRecord, booted: &str, boot: &str) -> bool {
    booted == record.to.slot && booted != record.from.slot && boot != record.boot
}

/// What is good on a box that is looked at for the first time: what runs, as there is nothing to judge it by. But a slot that RAUC has
/// written and calls bad (by a person, or because the bootloader has used up its tries, which it has of a slot that was never marked
/// good) is not, if there is one that RAUC calls good: that one is then what the box goes back to.
pub(super) fn first_look(system: &System, booted: &str) -> KnownGood {
    let is = |slot: &Slot, status: &str| slot.boot_status.as_deref() == Some(status);
    let runs = system.slot(booted);
    let is_bad = runs.is_some_and(|slot| slot.checksum.is_some() && is(slot, "bad"));
    let good = system.other_than(booted).filter(|other| is_bad && is(other, "good")).or(runs);
    KnownGood::begin(good.and_then(|slot| slot.checksum.as_deref()))
}

/// The two sides of a version that RAUC was told to install by somebody else, and that was never good here; `None`: the slot that runs
/// is none, or there is no other to go back to.
pub(super) fn unjudged(known: &KnownGood, system: &System, booted: &str) -> Option<(Side, Side)> {
    let slot = system.slot(booted)?;
    let is_new = slot.checksum.as_deref().is_some_and(|checksum| !known.has(checksum));
    let other = system.other_than(booted).filter(|_| is_new)?;
    let side = |slot: &Slot, unknown: &str| {
        let version = slot.version.as_deref().unwrap_or(unknown).into();
        Some(Side { version, slot: slot.bootname.clone()? })
    };
    Some((side(other, "unknown")?, side(slot, env!("CARGO_PKG_VERSION"))?))
}

/// What of the new version is still waited for, by what the running agent says; `None`: nothing.
pub(super) fn lacks(report: &Report, record: &UpdateRecord) -> Option<String> {
    if let Some((task, _)) = report.hung.first() {
        return Some(format!("a sign of life of its task {task}"));
    }
    match &report.status.update {
        Some(facts) if facts.id == record.id => (!facts.waits_for.is_empty()).then(|| facts.waits_for.join(", ")),
        _ => Some("a look of the gateway at the record of the update".to_owned()),
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit> {
    if !is_root() {
        complain("only root can mark a slot good or bad: systemctl start v2g-edge-confirm, or sudo");
        return Ok(Exit::Failed);
    }
    let place = Place::of(&arguments.config);
    let within = arguments.within.unwrap_or(place.confirm_within);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().context("no runtime")?;
    Ok(runtime.block_on(task::confirm(&place, within, &boot())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::{Status, UpdateFacts};
    use crate::measure::ClockTrust;

    fn record(state: UpdateState) -> UpdateRecord {
        let side = |version: &str, slot: &str| Side { version: version.into(), slot: slot.to_owned() };
        let mut record =
            UpdateRecord::new("7".to_owned(), side("1", "A"), side("2", "B"), "boot-1".to_owned(), Vec::new());
        record.state = state;
        record
    }

    fn of(state: UpdateState, booted: &str, boot: &str) -> Duty {
        duty(Found::Record(Box::new(record(state))), booted, boot)
    }

    const OPEN: [UpdateState; 3] = [UpdateState::Installing, UpdateState::Installed, UpdateState::Confirming];

    #[test]
    fn a_slot_that_is_not_new_is_good_and_a_new_one_must_show_it() {
        assert_eq!(duty(Found::Nothing, "A", "boot-2"), Duty::MarkGood);
        let unreadable = duty(Found::Unreadable("an I/O error".to_owned()), "A", "boot-2");
        assert_eq!(unreadable, Duty::Unknown("an I/O error".to_owned()), "nobody knows whether it is new");
        for ended in [UpdateState::Confirmed, UpdateState::RolledBack] {
            assert_eq!([of(ended, "A", "boot-9"), of(ended, "B", "boot-9")], [Duty::MarkGood, Duty::MarkGood]);
        }
        // RAUC went on after whoever had called it was gone; or an update was there before one that was refused.
        assert!(matches!(of(UpdateState::Failed, "B", "boot-9"), Duty::Confirm(_)));
        assert_eq!(
            [of(UpdateState::Failed, "A", "boot-9"), of(UpdateState::Failed, "B", "boot-1")],
            [Duty::MarkGood, Duty::MarkGood]
        );
        for open in OPEN {
            assert!(matches!(of(open, "B", "boot-2"), Duty::Confirm(record) if record.state == open), "{open:?}");
            assert!(matches!(of(open, "A", "boot-1"), Duty::Nothing(_)), "it was not rebooted yet");
        }
    }

    #[test]
    fn back_in_the_old_slot_the_update_has_ended_and_the_record_says_why() {
        let ended = |state, why: Option<&str>| {
            let mut record = record(state);
            record.why = why.map(Into::into);
            match duty(Found::Record(Box::new(record)), "A", "boot-5") {
                Duty::Ended(record) => (record.state, record.why.expect("a reason").to_string()),
                other => panic!("{other:?}"),
            }
        };
        let (state, why) = ended(UpdateState::Installing, None);
        assert!(state == UpdateState::Failed && why.contains("while it was installed"), "{why}");
        let (state, why) = ended(UpdateState::Installed, None);
        assert!(state == UpdateState::RolledBack && why.contains("did not boot"), "{why}");
        let told = ended(UpdateState::Confirming, Some("no PUBACK"));
        assert_eq!(told, (UpdateState::RolledBack, "no PUBACK".to_owned()));
        let mut record = record(UpdateState::Confirming);
        record.delivered = true;
        let Duty::Ended(ended) = duty(Found::Record(Box::new(record)), "A", "boot-5") else { panic!("it has ended") };
        assert!(ended.state == UpdateState::RolledBack && !ended.delivered);
        assert!(ended.why.as_deref().is_some_and(|why| why.contains("could not be marked good")), "{ended:?}");
    }

    #[test]
    fn what_rauc_installed_for_somebody_else_is_judged_too_and_what_was_good_before_is_not() {
        let slot = |name: &str, version: Option<&str>, checksum: Option<&str>| Slot {
            name: format!("rootfs.{name}"),
            class: "rootfs".to_owned(),
            bootname: Some(name.to_owned()),
            state: String::new(),
            boot_status: None,
            version: version.map(str::to_owned),
            checksum: checksum.map(str::to_owned),
        };
        let slots = vec![slot("A", None, None), slot("B", Some("2"), Some("b"))];
        let system = System { compatible: String::new(), booted: None, slots };
        let side = |version: &str, slot: &str| Side { version: version.into(), slot: slot.to_owned() };
        let mut known = KnownGood::begin(None);
        assert_eq!(unjudged(&known, &system, "B"), Some((side("unknown", "A"), side("2", "B"))));
        assert_eq!(unjudged(&known, &system, "A"), None, "the factory's");
        assert_eq!(unjudged(&known, &system, "C"), None);
        let alone = System { slots: system.slots[1..].to_vec(), ..system.clone() };
        assert_eq!(unjudged(&known, &alone, "B"), None, "there is nothing to go back to");
        known.add("b");
        assert_eq!(unjudged(&known, &system, "B"), None);
    }

    #[test]
    fn at_the_first_look_what_runs_is_good_unless_rauc_has_written_it_and_calls_it_bad_and_the_other_one_good() {
        let of = |checksum: Option<&str>, status: Option<&str>, other: Option<&str>| {
            let slot = |name: &str, status: Option<&str>, checksum: Option<&str>| Slot {
                name: format!("rootfs.{name}"),
                class: "rootfs".to_owned(),
                bootname: Some(name.to_owned()),
                state: String::new(),
                boot_status: status.map(str::to_owned),
                version: None,
                checksum: checksum.map(str::to_owned),
            };
            let slots = vec![slot("A", other, Some("a")), slot("B", status, checksum)];
            let system = System { compatible: String::new(), booted: None, slots };
            let known = first_look(&system, "B");
            (known.has("a"), known.has("b"), unjudged(&known, &system, "B").is_some())
        };
        let (bad, good) = (Some("bad"), Some("good"));
        assert_eq!(of(Some("b"), bad, good), (true, false, true));
        for (checksum, status, other) in
            [(Some("b"), good, good), (Some("b"), None, good), (Some("b"), bad, bad), (Some("b"), bad, None)]
        {
            assert_eq!(of(checksum, status, other), (false, true, false), "{status:?} {other:?}");
        }
        assert_eq!(
            of(None, bad, good),
            (false, false, false),
            "flashed: a box that was never set up would not come to rest"
        );
    }

    #[test]
    fn what_the_running_agent_says_of_this_update_decides_and_a_hung_task_is_no_version_to_keep() {
        let facts = |id: &str, waits_for: &[&str]| UpdateFacts {
            id: id.to_owned(),
            waits_for: waits_for.iter().map(|awaited| (*awaited).to_owned()).collect(),
            ..UpdateFacts::default()
        };
        let of = |update, hung: &[&str]| {
            let report = Report {
                version: "2".to_owned(),
                gateway: "gw-01".try_into().expect("a name"),
                site: "depot-a".try_into().expect("a name"),
                pid: 7,
                uptime_s: 3,
                rss_bytes: None,
                wall_clock: String::new(),
                clock: ClockTrust::Synced,
                hung: hung.iter().map(|task| ((*task).to_owned(), 61.0)).collect(),
                status: Status { update, ..Status::default() },
            };
            lacks(&report, &record(UpdateState::Confirming))
        };
        assert_eq!(of(Some(facts("7", &[])), &[]), None);
        assert_eq!(of(Some(facts("7", &["a", "b"])), &[]).as_deref(), Some("a, b"));
        assert!(of(Some(facts("6", &[])), &[]).is_some(), "of another update");
        assert!(of(None, &[]).is_some());
        assert!(of(Some(facts("7", &[])), &["uplink"]).is_some_and(|lacking| lacking.contains("uplink")));
    }
}
