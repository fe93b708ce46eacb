//! Files that are not what was written.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use v2g_edge::journal::WhenFull;

use super::depot::{self, Oracle};

const PLACES: u64 = 300;
const WINDOWS: u64 = 450;
/// A chunk has 24 KiB or a little more of entries of some 560 bytes.
const ENTRIES_PER_CHUNK: u64 = 60;

/// xorshift64 (Marsaglia 2003).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

#[derive(Debug, Clone, Copy)]
enum Damage {
    Flip,
    Zero,
    Truncate,
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("it is copied");
        }
    }
}

/// The databases of all segments.
fn databases(journal: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(journal)
        .expect("a directory")
        .flatten()
        .map(|e| e.path().join("db"))
        .filter(|p| p.exists())
        .collect();
    found.sort();
    found
}

fn damage(path: &Path, kind: Damage, dice: &mut Dice) -> u64 {
    let file: File = OpenOptions::new().read(true).write(true).open(path).expect("a database");
    let length = file.metadata().expect("a length").len();
    let at = dice.roll(length);
    match kind {
        Damage::Flip => {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).expect("a byte");
            file.write_all_at(&[byte[0] ^ (1 << dice.roll(8))], at).expect("it is written");
        }
        Damage::Zero => {
            let zeros = vec![0; usize::try_from((length - at).min(1 + dice.roll(4096))).expect("small")];
            file.write_all_at(&zeros, at).expect("it is written");
        }
        Damage::Truncate => file.set_len(at).expect("it is cut"),
    }
    at
}

#[test]
fn damage_at_300_random_places_costs_the_chunks_it_hits_and_is_told() {
    let seed = std::env::var("V2G_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| {
        u64::from(std::process::id()) * 0x9E37_79B9 + std::time::UNIX_EPOCH.elapsed().map_or(1, |t| t.as_secs())
    });
    println!("V2G_SEED={seed}");
    let mut dice = Dice(seed | 1);
    let place = tempfile::tempdir().expect("a directory");
    let sound = place.path().join("sound");
    let made = depot::block_on(async {
        let (journal, _) = depot::open(depot::settings(&sound, 1 << 20, WhenFull::RefuseNewest), 0);
        for n in 1..=WINDOWS {
            depot::append(&journal.handle(), depot::window(n)).await;
            if n % 45 == 0 {
                journal.handle().commit().await;
            }
        }
        journal.close().await.expect("it closes");
        databases(&sound).len()
    });
    let (mut hit, mut lost, mut worst) = (0, 0, 0);
    for round in 0..PLACES {
        let kind = [Damage::Flip, Damage::Zero, Damage::Truncate][usize::try_from(round % 3).expect("small")];
        let dir = place.path().join("damaged");
        copy(&sound, &dir);
        let all = databases(&dir);
        let path = &all[usize::try_from(dice.roll(all.len() as u64)).expect("small")];
        let at = damage(path, kind, &mut dice);
        let told = depot::block_on(async {
            let (journal, _) = depot::open(depot::settings(&dir, 1 << 30, WhenFull::DropOldest), WINDOWS);
            let (mut oracle, mut n) = (Oracle::default(), WINDOWS);
            oracle.drain(&journal, &mut n).await;
            journal.close().await.expect("it closes");
            oracle.judge_windows(WINDOWS);
            let numbers = oracle.came.keys().next_back().copied().expect("something came").max(WINDOWS);
            oracle.judge_numbers(numbers).into_iter().filter(|(why, _)| *why == "corrupt").map(|(_, c)| c).sum::<u64>()
        });
        if !matches!(kind, Damage::Truncate) {
            assert!(told <= 2 * ENTRIES_PER_CHUNK, "{kind:?} at {at} of {}: {told} entries are lost", path.display());
            worst = worst.max(told);
        }
        (hit, lost) = (hit + u64::from(told > 0), lost + told);
        fs::remove_dir_all(&dir).expect("it is removed");
    }
    println!(
        "{PLACES} damages to one of {made} segments with {WINDOWS} entries: {hit} cost entries, {lost} in all, told as \
         gaps; a flip or zeros at most {worst}"
    );
    assert!(hit > PLACES / 10, "the damage hits nothing");
}
