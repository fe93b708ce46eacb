//! A key that a gateway makes for itself and keeps: 32 random bytes, for its own eyes.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// The key in this file; a new one if there is none, written to it. The error is why the key will be another one next time.
pub(super) fn read_or_make(path: &Path) -> ([u8; 32], io::Result<()>) {
    match read(path) {
        Ok(key) => (key, Ok(())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = random();
            (key, keep(path, &key))
        }
        Err(error) => (random(), Err(error)),
    }
}

fn read(path: &Path) -> io::Result<[u8; 32]> {
    let mut key = [0; 32];
    File::open(path)?.read_exact(&mut key)?;
    Ok(key)
}

/// Whole or not at all: a power cut leaves no half of a key.
fn keep(path: &Path, key: &[u8; 32]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(key)?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}

/// From the kernel, which always has some.
fn random() -> [u8; 32] {
    let mut key = [0; 32];
    let read = File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut key));
    if let Err(error) = read {
        tracing::error!(%error, "the kernel gives no random bytes: vehicles' hashes can be guessed");
    }
    key
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_is_for_its_owner_only() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("vehicle-key");
        let (key, kept) = read_or_make(&path);
        kept.expect("it is kept");
        assert_eq!(read_or_make(&path).0, key);
        assert_ne!(read_or_make(&dir.path().join("other")).0, key);
        let mode = std::fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let (another, kept) = read_or_make(&dir.path().join("missing/vehicle-key"));
        assert!(another != key && kept.is_err());
    }
}
