//! Which root file systems have been good on this box, by the checksum that RAUC has of what it wrote: one that RAUC was told to install by
//! somebody else than `v2g-edge update` is new, too, and must show that it delivers.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::files::{FORMAT, read_form, write_form};

/// Two slots, and what was in them before: who goes back to an older one by hand is not judged again.
const KNOWN_MAX: usize = 8;

/// `update-good.json`, written by root beside the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownGood {
    format: u32,
    /// SHA-256, the newest last.
    good: Vec<String>,
}

impl KnownGood {
    /// Of a box that is looked at for the first time: what runs is good, as there is nothing to judge it by.
    #[must_use]
    pub fn begin(checksum: Option<&str>) -> Self {
        Self { format: FORMAT, good: checksum.map(str::to_owned).into_iter().collect() }
    }

    fn path(state_dir: &Path) -> PathBuf {
        state_dir.join("update-good.json")
    }

    /// `None`: this box was never looked at. The error is in words.
    ///
    /// # Errors
    /// It is damaged, or a newer program's.
    pub fn read(state_dir: &Path) -> Result<Option<Self>, String> {
        read_form(&Self::path(state_dir))
    }

    /// Writes it durably.
    ///
    /// # Errors
    /// The system refused; what was there still is.
    pub fn write(&self, state_dir: &Path) -> io::Result<()> {
        write_form(&Self::path(state_dir), self)
    }

    /// Whether this root file system has been good before.
    #[must_use]
    pub fn has(&self, checksum: &str) -> bool {
        self.good.iter().any(|known| known == checksum)
    }

    /// It is from now on.
    pub fn add(&mut self, checksum: &str) {
        self.good.retain(|known| known != checksum);
        self.good.push(checksum.to_owned());
        self.good.drain(..self.good.len().saturating_sub(KNOWN_MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_good_is_known_until_eight_others_were() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(KnownGood::read(dir.path()), Ok(None));
        let mut known = KnownGood::begin(Some("a"));
        (0..7).for_each(|n| known.add(&n.to_string()));
        known.add("3");
        known.write(dir.path()).expect("written");
        let mut known = KnownGood::read(dir.path()).expect("read").expect("there");
        assert!(known.has("a") && known.has("3") && !known.has("b"));
        known.add("b");
        assert!(!known.has("a") && known.has("0") && known.has("b"));
        std::fs::write(dir.path().join("update-good.json"), r#"{"format":2}"#).expect("written");
        assert!(KnownGood::read(dir.path()).is_err_and(|why| why.contains("newer program")));
    }
}
