//! The pauses that the units of a port were found to need, kept below the agent's state.
//!
//! One file for each port, `learned/pauses/DEVICE.json`, by its first device. It may be deleted at any time, and is learned again.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::time::Duration;

use hal::Pause;
use serde::{Deserialize, Serialize};

use super::Port;

/// As it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// `None`: after any answer.
    unit: Option<u8>,
    /// Long enough, and too short.
    pause_us: u64,
    deaf_us: u64,
}

fn file(port: &Port) -> Option<PathBuf> {
    let first = port.devices.first()?;
    Some(port.learned.as_ref()?.join("pauses").join(format!("{}.json", first.spec.id)))
}

/// What is known from an earlier life.
pub(super) fn kept(port: &Port) -> Vec<Pause> {
    let read = || serde_json::from_slice::<Vec<Kept>>(&fs::read(file(port)?).ok()?).ok();
    let pause = |Kept { unit, pause_us, deaf_us }: Kept| {
        let (known, deaf) = (Duration::from_micros(pause_us), Duration::from_micros(deaf_us));
        Pause { unit, now: known, known, deaf }
    };
    read().unwrap_or_default().into_iter().map(pause).collect()
}

/// Written beside and moved into place, so that a power cut leaves the old ones or the new ones.
pub(super) fn keep(port: &Port, pauses: &[Pause]) -> io::Result<()> {
    let Some(file) = file(port) else { return Ok(()) };
    if let Some(directory) = file.parent() {
        // Nobody but the agent reads what lies in its state directory.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let kept = |pause: &Pause| Kept { unit: pause.unit, pause_us: micros(pause.known), deaf_us: micros(pause.deaf) };
    let all: Vec<Kept> = pauses.iter().map(kept).collect();
    let beside = file.with_extension("new");
    let mut out = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    out.write_all(&serde_json::to_vec(&all)?)?;
    out.sync_all()?;
    fs::rename(&beside, file)
}

/// Whether they are the same but for what is tried just now.
pub(super) fn is_same(one: &[Pause], other: &[Pause]) -> bool {
    let known = |pause: &Pause| (pause.unit, pause.known);
    one.iter().map(known).eq(other.iter().map(known))
}
