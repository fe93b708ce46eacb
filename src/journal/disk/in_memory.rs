//! Which lives hold entries in memory only, noted where that can be noted while the journal cannot be written: the next life
//! tells what went with one that was killed.
//!
//! In: the life that lasts, and whether those before it are told. Out: a small record, in the first of these places that takes it:
//!
//! 1. `journal/in-memory`: a block that is taken while all is well and written over in place, also on a full disk;
//! 2. `journal-in-memory` in the directory above, where only the journal's own cannot be used;
//! 3. the same in the directory of the agent's socket, which is in memory (`/run`): it outlives a kill, and no power cut. Gateways on
//!    one box may share it, so that its name says whose it is.
//!
//! Read is what stands in any of them. On a disk that is read-only at a power cut nothing outlives it but what was delivered.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::journal::disk::{files, v2};
use crate::measure::{Epoch, Seq};
use crate::spec::{GatewayId, SiteId};

/// What is kept free for the record: a block of most file systems.
const RESERVED_BYTES: usize = 4096;
/// Lives that are remembered: at two numbers of at most 10 bytes they fit. Of more the newest are.
const LIVES_MAX: usize = 128;
/// A place that did not take it is asked again after this time.
const RETRY: Duration = Duration::from_secs(2);
const NAME: &str = "in-memory";
const NAME_ELSEWHERE: &str = "journal-in-memory";

/// A life, and the first of its entries that may have gone with it.
pub(in crate::journal) type Life = (Epoch, Seq);

/// See the module's head.
#[derive(Debug)]
pub(in crate::journal) struct InMemoryNotes {
    own: PathBuf,
    elsewhere: Vec<PathBuf>,
    /// Lives before this one that are not told yet.
    former: Vec<Life>,
    /// What is noted now; `None`: not what should be.
    noted: Option<Vec<Life>>,
    next_try: Duration,
}

impl InMemoryNotes {
    /// Reads what lives before have left.
    pub(in crate::journal) fn read(dir: &Path, runtime_dir: Option<&Path>, of: (&SiteId, &GatewayId)) -> Self {
        let own = dir.join(NAME);
        let above = dir.parent().map(|dir| dir.join(NAME_ELSEWHERE));
        // No name of a site or gateway has an @.
        let (site, gateway) = of;
        let beside_socket = runtime_dir.map(|dir| dir.join(format!("{NAME_ELSEWHERE}@{site}@{gateway}")));
        let elsewhere: Vec<PathBuf> = above.into_iter().chain(beside_socket).collect();
        let mut former = Vec::new();
        for path in std::iter::once(&own).chain(&elsewhere) {
            let lives = files::read(path).ok().flatten().and_then(|bytes| v2::read_in_memory(&bytes));
            former.extend(lives.unwrap_or_default().into_iter().map(|(epoch, from)| (Epoch(epoch), Seq(from))));
        }
        former.sort_unstable();
        former.dedup();
        let noted = Some(former.clone());
        Self { own, elsewhere, former, noted, next_try: Duration::ZERO }
    }

    /// The lives before this one that are to be told.
    pub(in crate::journal) fn former(&self) -> &[Life] {
        &self.former
    }

    /// The newest of them.
    pub(in crate::journal) fn newest(&self) -> Option<Epoch> {
        self.former.iter().map(|(epoch, _)| *epoch).max()
    }

    /// Notes the life that lasts, if it holds something in memory only. `told`: those before it need not be remembered.
    pub(in crate::journal) fn note(&mut self, lasting: Option<Life>, told: bool, now: Duration) {
        if told {
            self.former.clear();
        }
        let mut lives: Vec<Life> = self.former.iter().copied().chain(lasting).collect();
        lives.drain(..lives.len().saturating_sub(LIVES_MAX));
        if lives.is_empty() && !self.own.exists() && now >= self.next_try {
            self.next_try = now.saturating_add(RETRY);
            self.reserve();
        }
        if self.noted.as_ref() == Some(&lives) || now < self.next_try {
            return;
        }
        self.noted = None;
        self.next_try = now.saturating_add(RETRY);
        let Some(bytes) = v2::write_in_memory(&lives.iter().map(|(epoch, from)| (epoch.0, from.0)).collect::<Vec<_>>())
        else {
            return;
        };
        let done = if lives.is_empty() { self.clear(&bytes) } else { self.write(&bytes) };
        if done {
            (self.noted, self.next_try) = (Some(lives), Duration::ZERO);
        }
    }

    fn reserve(&self) {
        if let Err(error) = files::overwrite(&self.own, &[0; RESERVED_BYTES], true) {
            tracing::debug!(%error, "no room can be kept for a note of lives in memory");
        }
    }

    fn write(&self, bytes: &[u8]) -> bool {
        for path in std::iter::once(&self.own).chain(&self.elsewhere) {
            match files::overwrite(path, bytes, true) {
                Ok(()) => return true,
                Err(error) => tracing::debug!(path = %path.display(), %error, "no note of a life in memory here"),
            }
        }
        false
    }

    fn clear(&self, bytes: &[u8]) -> bool {
        // What stands elsewhere was written in need, and is in nobody's way but ours. A directory that lets nothing be removed may let
        // it be overwritten.
        let is_cleared = |path: &PathBuf| fs::remove_file(path).is_ok() || files::overwrite(path, bytes, true).is_ok();
        let left = self.elsewhere.iter().filter(|path| path.is_file() && !is_cleared(path)).count();
        left == 0 && (!self.own.is_file() || files::overwrite(&self.own, bytes, true).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Life = (Epoch(1 << 52), Seq(1));
    const SECOND: Life = (Epoch(9), Seq(400));

    fn notes_of(gateway: &str, dir: &Path, runtime_dir: Option<&Path>) -> InMemoryNotes {
        let (site, gateway) = ("depot-a".try_into().expect("a name"), gateway.try_into().expect("a name"));
        InMemoryNotes::read(dir, runtime_dir, (&site, &gateway))
    }

    #[test]
    fn gateways_that_share_the_directory_of_their_sockets_share_no_note() {
        let place = tempfile::tempdir().expect("a directory");
        let dir = |gateway: &str| place.path().join(gateway).join("journal");
        let notes = |gateway: &str| notes_of(gateway, &dir(gateway), Some(place.path()));
        notes("a").note(Some(FIRST), false, Duration::ZERO);
        assert_eq!((notes("a").former(), notes("b").former()), (&[FIRST][..], &[][..]));
        notes("b").note(Some(SECOND), false, Duration::ZERO);
        notes("b").note(None, true, Duration::MAX);
        assert_eq!((notes("a").former(), notes("b").former()), (&[FIRST][..], &[][..]));
    }

    #[test]
    fn a_life_is_remembered_until_it_is_told_wherever_it_could_be_noted() {
        for usable in 0..3 {
            let place = tempfile::tempdir().expect("a directory");
            let (state_dir, runtime_dir) = (place.path().join("state"), place.path().join("run"));
            let dir = state_dir.join("journal");
            for (n, made) in [&dir, &state_dir, &runtime_dir].into_iter().enumerate() {
                if n >= usable {
                    fs::create_dir_all(made).expect("a directory");
                }
            }
            // What is not usable has a directory in its place.
            for taken in [dir.join(NAME), state_dir.join(NAME_ELSEWHERE)].into_iter().take(usable) {
                fs::create_dir_all(taken).expect("a directory");
            }
            let read = || notes_of("gw-01", &dir, Some(&runtime_dir));
            let mut notes = read();
            assert_eq!(notes.former(), []);
            notes.note(Some(FIRST), false, Duration::ZERO);
            let mut notes = read();
            assert_eq!(notes.former(), [FIRST], "{usable}");
            notes.note(Some(SECOND), false, Duration::ZERO);
            assert_eq!(read().former(), [SECOND, FIRST]);
            notes.note(None, false, Duration::ZERO);
            assert_eq!(read().former(), [FIRST], "the second has it on disk now");
            notes.note(None, true, Duration::ZERO);
            assert_eq!(read().former(), []);
        }
    }

    #[test]
    fn there_is_always_room_for_a_note() {
        let place = tempfile::tempdir().expect("a directory");
        let mut notes = notes_of("gw-01", place.path(), None);
        notes.note(None, false, Duration::ZERO);
        let length = || fs::metadata(place.path().join(NAME)).expect("it is kept").len();
        assert_eq!(length(), RESERVED_BYTES as u64);
        notes.former = (0..500).map(|n| (Epoch(u64::MAX - n), Seq(u64::MAX))).collect();
        notes.note(Some(FIRST), false, Duration::from_secs(3));
        assert_eq!(length(), RESERVED_BYTES as u64);
        let found = notes_of("gw-01", place.path(), None);
        assert!(found.former().len() == LIVES_MAX && found.former().contains(&FIRST));
    }
}
