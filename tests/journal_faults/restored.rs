//! A box without a clock whose state comes back from a backup, again and again; and clones of its card.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use v2g_edge::journal::{Journal, Lane, WhenFull};
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
}

impl Boot {
    fn at(self, n: u64) -> Stamp {
        let mono = u64::try_from(self.up.as_nanos()).expect("short") + n * 250_000_000;
        let apart = n * 7_919 % 900_000;
        Stamp {
            mono: Mono(mono),
            utc: Utc(Y2001_NS.saturating_add_unsigned(mono + apart)),
            trust: ClockTrust::Unsynced,
        }
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

/// A life that appends, sends all that waits if it `sends`, and ends in order or as if killed.
fn live(dir: &Path, boot: Boot, value: u64, record: &mut Record, sends: bool, in_order: bool) {
    let settings =
        v2g_edge::journal::Settings { time_wait: Duration::ZERO, ..depot::settings(dir, 1 << 30, WhenFull::Thin) };
    depot::block_on(async {
        let (id, now) = (BootId([boot.id; 16]), boot.at(0));
        let journal = Journal::open(settings, depot::schema(), id, now, Arc::default()).expect("the journal opens");
        let handle = journal.handle();
        for n in 1..=WINDOWS {
            depot::append(&handle, boot.window(n, value + n)).await;
        }
        handle.commit().await;
        handle.go_live();
        loop {
            let leases = if sends { handle.lease(Lane::History, 256).await } else { Vec::new() };
            if leases.is_empty() {
                break;
            }
            for lease in leases {
                record.take(lease.entry().identity, payload_of(lease.entry()));
                lease.acknowledge();
            }
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
    live(&journal, Boot { id: 1, up: up(20) }, 0, &mut record, true, true);
    live(&journal, Boot { id: 2, up: up(20) }, 100, &mut record, false, true);
    live(&journal, Boot { id: 3, up: up(20) }, 200, &mut record, false, false);
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
        live(&journal, Boot { id, up }, 1_000 * (round + 1), &mut record, true, round.is_multiple_of(2));
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
