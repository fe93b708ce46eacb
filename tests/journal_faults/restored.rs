//! A box whose state comes back from a backup, again and again, and clones of its card: without a clock, and with one that is set
//! each time at another moment.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use v2g_edge::journal::{Journal, JournalHandle, Lane, WhenFull};
use v2g_edge::measure::{BootId, ClockTrust, Identity, Mono, Stamp, Utc, Window};
use v2g_edge::uplink::wire::payload_of;

use super::depot;

/// 2001-01-01 UTC: what the clock of such a box shows at each boot.
const Y2001_NS: i64 = 978_307_200_000_000_000;
/// Windows of each life.
const WINDOWS: u64 = 20;

/// How many states are restored: 200 with `HIL_LONG=1`.
fn restores() -> u64 {
    if std::env::var_os("HIL_LONG").is_some_and(|value| value == "1") { 200 } else { 30 }
}

/// A boot without a clock, as the kernel shows it: the two clocks are never read in the same moment.
#[derive(Clone, Copy)]
struct Boot {
    id: u8,
    /// How long the box was up when the life began.
    up: Duration,
    /// The window from which on the clock is synced, and by how much it is ahead of what it shows before, ns.
    set: Option<(u64, i64)>,
}

impl Boot {
    fn at(self, n: u64) -> Stamp {
        let mono = u64::try_from(self.up.as_nanos()).expect("short") + n * 250_000_000;
        let apart = n * 7_919 % 900_000;
        let (ahead, trust) = match self.set {
            Some((from, ahead)) if n >= from => (ahead, ClockTrust::Synced),
            _ => (0, ClockTrust::Unsynced),
        };
        Stamp { mono: Mono(mono), utc: Utc((Y2001_NS + ahead).saturating_add_unsigned(mono + apart)), trust }
    }

    fn window(self, n: u64, value: u64) -> Window {
        Window { boot: BootId([self.id; 16]), end: self.at(n), ..depot::window(value) }
    }
}

/// What a broker has of each identity.
#[derive(Debug, Default)]
struct Record {
    contents: BTreeMap<Identity, String>,
    twice: u64,
    changed: Vec<Identity>,
}

impl Record {
    fn take(&mut self, identity: Identity, payload: String) {
        match self.contents.insert(identity, payload.clone()) {
            Some(known) if known != payload => self.changed.push(identity),
            Some(_) => self.twice += 1,
            None => {}
        }
    }
}

/// Takes all that waits, and acknowledges it if that `arrives`. What was not comes again in a later life.
async fn take_all(handle: &JournalHandle, record: &mut Record, arrives: bool) {
    let mut held = Vec::new();
    loop {
        let leases = handle.lease(Lane::History, 256).await;
        if leases.is_empty() {
            return;
        }
        for lease in leases {
            record.take(lease.entry().identity, payload_of(lease.entry()));
            if arrives {
                lease.acknowledge();
            } else {
                held.push(lease);
            }
        }
    }
}

/// What of a life is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sends {
    Nothing,
    /// All, at its end.
    AtTheEnd,
    /// The same, and no acknowledgement comes.
    Unacknowledged,
    /// All, before the middle and at its end.
    Twice,
}

/// A life that appends, sends what waits, and ends in order or as if killed.
fn live(dir: &Path, boot: Boot, value: u64, record: &mut Record, sends: Sends, in_order: bool) {
    let settings =
        v2g_edge::journal::Settings { time_wait: Duration::ZERO, ..depot::settings(dir, 1 << 30, WhenFull::Thin) };
    depot::block_on(async {
        let (id, now) = (BootId([boot.id; 16]), boot.at(0));
        let journal = Journal::open(settings, depot::schema(), id, now, Arc::default()).expect("the journal opens");
        let handle = journal.handle();
        for n in 1..=WINDOWS {
            depot::append(&handle, boot.window(n, value + n)).await;
            if n == WINDOWS / 2 - 1 && sends == Sends::Twice {
                handle.commit().await;
                handle.go_live();
                take_all(&handle, record, true).await;
            }
        }
        handle.commit().await;
        handle.go_live();
        if sends != Sends::Nothing {
            take_all(&handle, record, sends != Sends::Unacknowledged).await;
        }
        if in_order {
            journal.close().await.expect("it closes");
        }
    });
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("a directory").map(|entry| entry.expect("an entry")) {
        let there = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &there);
        } else {
            fs::copy(entry.path(), there).expect("copied");
        }
    }
}

/// Found by an outside harness: 28 of 41 identities had two contents. The epoch was the newest known one and one, and each life
/// after the same backup had the same. And of what waited in the backup the estimated times followed the moment at which the
/// clocks were read.
#[test]
fn no_identity_has_two_contents_after_states_were_restored_on_a_box_without_a_clock() {
    let place = tempfile::tempdir().expect("a directory");
    let (journal, backup) = (place.path().join("journal"), place.path().join("backup"));
    let mut record = Record::default();
    let up = |seconds| Duration::from_secs(seconds);
    // What is sent, and what waits: of a boot that has ended, and of the one that lasts.
    let set = None;
    live(&journal, Boot { id: 1, up: up(20), set }, 0, &mut record, Sends::AtTheEnd, true);
    live(&journal, Boot { id: 2, up: up(20), set }, 100, &mut record, Sends::Nothing, true);
    live(&journal, Boot { id: 3, up: up(20), set }, 200, &mut record, Sends::Nothing, false);
    copy(&journal, &backup);
    for round in 0..restores() {
        let id = match round % 3 {
            // Within the boot of the backup; the same moment of the same boot, as two clones of a machine have it; another boot.
            0 | 1 => 3,
            _ => u8::try_from(10 + round % 200).expect("small"),
        };
        let up = if round % 3 == 1 { up(1_000) } else { up(1_000 + round) };
        fs::remove_dir_all(&journal).expect("removed");
        copy(&backup, &journal);
        let boot = Boot { id, up, set };
        live(&journal, boot, 1_000 * (round + 1), &mut record, Sends::AtTheEnd, round.is_multiple_of(2));
    }
    let (identities, rounds) = (record.contents.len(), restores());
    println!(
        "{rounds} restored states, {identities} identities, {} came again unchanged, {:?} changed",
        record.twice, record.changed
    );
    assert_eq!(record.changed, [], "identities with two contents");
    assert_eq!(identities as u64, (rounds + 3) * WINDOWS);
    assert_eq!(record.twice, 2 * WINDOWS * (rounds - 1), "what waited in the backup came out of each");
}

/// Found by an outside harness: with a clock that was set in each life at another moment 20 of the 40 entries that waited in the
/// backup had a second content. Their times were found through another anchor, and they went out under the old identity.
#[test]
fn no_identity_has_two_contents_after_states_were_restored_on_a_box_whose_clock_is_set_later() {
    let place = tempfile::tempdir().expect("a directory");
    let (journal, backup) = (place.path().join("journal"), place.path().join("backup"));
    let mut record = Record::default();
    let up = |seconds| Duration::from_secs(seconds);
    // What waits: of a boot that has ended, and of the one that lasts, half of which was sent with estimated times.
    live(&journal, Boot { id: 2, up: up(20), set: None }, 100, &mut record, Sends::Nothing, true);
    live(&journal, Boot { id: 3, up: up(20), set: None }, 200, &mut record, Sends::Nothing, false);
    copy(&journal, &backup);
    // 2026-06-01 12:00 UTC, for a box that was up for no time at all.
    let noon_ns = 1_780_315_200_000_000_000 - Y2001_NS;
    let mut came = 0;
    for round in 0..restores() {
        fs::remove_dir_all(&journal).expect("removed");
        copy(&backup, &journal);
        let days = i64::try_from(round / 4).expect("small") * 86_400_000_000_000;
        let first = round % WINDOWS + 1;
        // Within the boot of the backup or in another one; at once, later, or never; and before what waits is sent or after.
        let (id, set) = match round % 4 {
            0 => (3, Some((first, noon_ns + days))),
            1 => (u8::try_from(10 + round % 200).expect("small"), Some((first, noon_ns + days))),
            2 => (3, Some((WINDOWS / 2, noon_ns + days))),
            _ => (u8::try_from(10 + round % 200).expect("small"), None),
        };
        let sends =
            [Sends::AtTheEnd, Sends::Unacknowledged, Sends::Twice][usize::try_from(round / 4 % 3).expect("small")];
        let boot = Boot { id, up: up(1_000 + round), set };
        let before = record.contents.len() as u64 + record.twice;
        live(&journal, boot, 1_000 * (round + 1), &mut record, sends, round.is_multiple_of(2));
        came += record.contents.len() as u64 + record.twice - before;
        // What was not acknowledged comes again as it was.
        live(&journal, Boot { up: up(2_000 + round), ..boot }, 500_000 + round, &mut record, Sends::AtTheEnd, true);
    }
    let (identities, rounds) = (record.contents.len(), restores());
    println!(
        "{rounds} restored states, {identities} identities, {} came again unchanged, {:?} changed",
        record.twice, record.changed
    );
    assert_eq!(record.changed, [], "identities with two contents");
    assert_eq!(came, rounds * 3 * WINDOWS, "what waited in the backup came out of each, and what each had of its own");
}
