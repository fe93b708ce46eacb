//! What takes time: waiting for the new version to deliver, for the running one to take note, and for a download.

use std::fs;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep, sleep_until};

use super::confirm::{Duty, duty, first_look, unjudged};
use super::download::{Ended, Partial, Tries};
use super::rauc::{ANSWERS_WITHIN, RaucError, System};
use super::{Place, drawn_id, rauc};
use crate::agent::confirm::{Found, KnownGood, UpdateRecord, UpdateState};
use crate::cli::Exit;
use crate::cli::show::{self, complain, note};
use crate::health::UpdateFacts;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// What RAUC's service may take to be there after a boot, where nothing is to be decided.
const RAUC_WITHIN: Duration = Duration::from_secs(60);
/// The running gateway looks once a second, and tells in the window that is open then.
const NOTED_WITHIN: Duration = Duration::from_secs(15);
/// What RAUC still has when the time is over: more than the 25 s that D-Bus gives the start of its service. With 10 s a slow box (`rauc
/// status mark-bad` took 14 s) was booted again into a version that does not deliver. With the other outcome, and the gateway's 3 s for
/// each of two answers, the decision comes 66 s late at most.
const LAST_TRY: Duration = Duration::from_secs(30);

/// Does what this boot asks for. Never fails but for a version that is not to stay: the unit reboots the box then.
pub(super) async fn confirm(place: &Place, within: Duration, boot: &str) -> Exit {
    let start = Instant::now();
    let booted = match booted(start).await {
        Ok(Some(booted)) => booted,
        Ok(None) => {
            note("RAUC cannot tell from which slot this box was booted: nothing can be decided");
            return Exit::Fine;
        }
        Err(error @ RaucError::Absent) => {
            note(error);
            return Exit::Fine;
        }
        Err(error) => {
            complain(format_args!("{error}: nothing can be decided"));
            return Exit::Fine;
        }
    };
    match duty(place.record(), &booted, boot) {
        Duty::Unknown(why) => return unknown(place, &booted, &why, start + within, boot).await,
        Duty::Nothing(why) => note(why),
        Duty::MarkGood => {
            if let Some(record) = installed_by_others(place, &booted, start).await {
                return confirm_new(place, record, start + within).await;
            }
            mark_good(start).await;
        }
        Duty::Confirm(record) => return confirm_new(place, *record, start + within).await,
        Duty::Ended(record) => {
            let UpdateRecord { from, to, state, why, .. } = &*record;
            let why = why.as_deref().unwrap_or_default();
            note(format_args!("update from {} to {}: {}: {why}", from.version, to.version, state.as_str()));
            place.keep_or_complain(&record, "");
            mark_good(start).await;
        }
    }
    Exit::Fine
}

/// Nobody can say whether this slot is new: it is not marked good while that is so. A disk that comes late, or a file that is taken away by
/// a person, is seen.
async fn unknown(place: &Place, booted: &str, why: &str, until: Instant, boot: &str) -> Exit {
    complain(format_args!("this slot is not marked good: {why}"));
    while Instant::now() < until {
        sleep_until(until.min(Instant::now() + LOOK)).await;
        if !matches!(place.record(), Found::Unreadable(_)) {
            return Box::pin(confirm(place, until.saturating_duration_since(Instant::now()), boot)).await;
        }
    }
    complain(format_args!("slot {booted} is not confirmed: {why}; the box is booted again"));
    Exit::Wrong
}

/// The slot that runs: by the kernel's command line, as RAUC itself goes by it first, or by RAUC.
async fn booted(start: Instant) -> Result<Option<String>, RaucError> {
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    if let Some(slot) = line.split_whitespace().find_map(|word| word.strip_prefix("rauc.slot=")) {
        return Ok(Some(slot.to_owned()));
    }
    Ok(system(start).await?.booted)
}

/// What RAUC knows, once its service is there.
async fn system(start: Instant) -> Result<System, RaucError> {
    loop {
        match rauc::system(ANSWERS_WITHIN) {
            Err(error) if !matches!(error, RaucError::Absent) && start.elapsed() < RAUC_WITHIN => sleep(LOOK).await,
            answer => return answer,
        }
    }
}

/// The record of a version that RAUC was told to install by somebody else.
async fn installed_by_others(place: &Place, booted: &str, start: Instant) -> Option<UpdateRecord> {
    let system = system(start).await.ok()?;
    let known = match KnownGood::read(&place.state_dir) {
        Ok(Some(known)) => known,
        Ok(None) => {
            let known = first_look(&system, booted);
            if let Err(error) = known.write(&place.state_dir) {
                note(format_args!("what is good on this box is not noted, and the next boot looks again: {error}"));
            }
            known
        }
        Err(why) => {
            complain(why);
            return None;
        }
    };
    let (from, to) = unjudged(&known, &system, booted)?;
    // Nobody knows what answered before, nor in which boot it was installed.
    Some(UpdateRecord::new(drawn_id().ok()?, from, to, String::new(), Vec::new()))
}

/// What runs has shown that it delivers.
fn note_good(place: &Place, booted: &str) {
    let checksum = rauc::system(LAST_TRY).ok().and_then(|system| system.slot(booted)?.checksum.clone());
    let (Some(checksum), Ok(known)) = (checksum, KnownGood::read(&place.state_dir)) else { return };
    let mut known = known.unwrap_or_else(|| KnownGood::begin(None));
    known.add(&checksum);
    if let Err(error) = known.write(&place.state_dir) {
        complain(format_args!("that this slot is good is not noted, and the next boot decides again: {error}"));
    }
}

async fn mark_good(start: Instant) {
    loop {
        match rauc::mark(true, ANSWERS_WITHIN) {
            Ok(()) => return note("this slot is marked good"),
            Err(error) if start.elapsed() >= RAUC_WITHIN => {
                return complain(format_args!("this slot is not marked good: {error}"));
            }
            Err(_) => sleep(LOOK).await,
        }
    }
}

/// Until the new version delivers, or `until`.
///
/// The power may go between any two of these steps, and each is durable before the next one:
///
/// 1. The record says that this version is being confirmed. Cut after it: it must show that it delivers in its next boot, too; the bootloader
///    counts the boots, and when the old version runs the update ends as taken back.
/// 2. It delivers, and the record says so. Cut: its next boot goes on at 3, whatever the broker does then. If the bootloader had no try left
///    and the old version runs, the update ends as taken back: nobody was told that it was confirmed.
/// 3. The bootloader has the slot as good. Cut: the next boot is of this version, and goes on at 3: marked twice is marked once.
/// 4. The slot's checksum is among the good ones. Not after 5: a confirmed slot that is not among them is taken for one that somebody
///    else has installed, and is judged again.
/// 5. The record says that it is confirmed, and the gateway tells it.
///
/// If it does not deliver, the record says why before the slot is marked bad. Cut between: as after 1.
async fn confirm_new(place: &Place, mut record: UpdateRecord, until: Instant) -> Exit {
    let (from, to) = (record.from.version.to_string(), record.to.version.to_string());
    // RAUC's service is started by the first who asks, which takes time that there is now and not at the end.
    let _ = rauc::system(LAST_TRY);
    if record.state != UpdateState::Confirming {
        (record.state, record.delivered) = (UpdateState::Confirming, false);
        place.keep_or_complain(&record, "");
    }
    let Some(lacking) = delivers_and_is_marked(place, &mut record, until).await else {
        note_good(place, &record.to.slot);
        (record.state, record.delivered) = (UpdateState::Confirmed, false);
        place.keep_or_complain(&record, "; the next boot decides again");
        note(format_args!("update from {from} to {to}: it delivers, and stays"));
        return Exit::Fine;
    };
    record.delivered = false;
    record.why = Some(format!("not within the time that it had: {lacking}").into());
    place.keep_or_complain(&record, "");
    if let Err(error) = rauc::mark(false, LAST_TRY) {
        complain(format_args!("the slot is not marked bad ({error}): the bootloader's counter has to do it"));
    }
    complain(format_args!("update from {from} to {to}: not confirmed: {lacking}; at the next boot {from} runs again"));
    Exit::Wrong
}

/// Steps 2 and 3. What is lacking at `until`; `None`: it delivers, and its slot is marked good.
async fn delivers_and_is_marked(place: &Place, record: &mut UpdateRecord, until: Instant) -> Option<String> {
    let mut told = String::new();
    loop {
        let mut lacking = if record.delivered { None } else { place.lacks(record) };
        if lacking.is_none() {
            if !record.delivered {
                (record.delivered, record.why) = (true, None);
                place.keep_or_complain(record, "; after a power cut it must show that it delivers again");
            }
            // What RAUC cannot do now it may do later.
            let left = until.saturating_duration_since(Instant::now()).clamp(LAST_TRY, ANSWERS_WITHIN);
            lacking = rauc::mark(true, left).err().map(|error| format!("RAUC to mark the slot good: {error}"));
        }
        let lacking = lacking?;
        if lacking != told {
            let UpdateRecord { from, to, .. } = &*record;
            note(format_args!("update from {} to {}: waiting for {lacking}", from.version, to.version));
            told.clone_from(&lacking);
        }
        if Instant::now() >= until {
            return Some(lacking);
        }
        sleep_until(until.min(Instant::now() + LOOK)).await;
    }
}

/// Waits until the running gateway says something of the update, or nothing any more; `false`: it did not in time, and tells later.
pub(super) async fn wait_until(place: &Place, is_so: impl Fn(Option<&UpdateFacts>) -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < NOTED_WITHIN {
        let update = place.agent().ok().flatten().and_then(|report| report.status.update);
        if is_so(update.as_ref()) {
            return true;
        }
        sleep(LOOK / 4).await;
    }
    false
}

/// Fetches all of a file, going on where it broke off, and leaves `free_min` free.
pub(super) async fn fetch(partial: &Partial, free_min: u64) -> Result<()> {
    let mut tries = Tries::default();
    while !partial.is_whole()? {
        partial.check_space(free_min)?;
        let mut transfer = partial.start()?;
        let ended = loop {
            if let Some(ended) = transfer.ended()? {
                break ended;
            }
            show_progress(partial)?;
            if let Err(full) = partial.check_free(free_min) {
                transfer.stop();
                return Err(full);
            }
            sleep(LOOK).await;
        };
        let why = match ended {
            Ended::Whole => break,
            Ended::Refused(why) => bail!("{} cannot be fetched: {why}", partial.url()),
            Ended::Broken(why) => why,
            Ended::FromTheBeginning => {
                partial.discard()?;
                "the server does not go on in the middle".to_owned()
            }
        };
        let here = partial.bytes()?;
        let Some(pause) = tries.after_failure(here) else {
            bail!("{} cannot be fetched: {why}; the same command goes on where it broke off", partial.url());
        };
        note(format_args!("{why}; going on at {} in {} s", show::bytes(here), pause.as_secs()));
        sleep(pause).await;
    }
    note(format_args!("fetched: {}", show::bytes(partial.bytes()?)));
    Ok(())
}

fn show_progress(partial: &Partial) -> Result<()> {
    if let Some(percent) = partial.percent()? {
        note(format_args!("{percent:>3}% fetched"));
    }
    Ok(())
}
