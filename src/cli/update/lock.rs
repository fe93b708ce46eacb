//! One installation at a time: an advisory lock (flock(2)) on a file beside the record. The kernel lets it go with the process, however
//! that ends.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::process;

use anyhow::{Context as _, Result, bail};
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

const NAME: &str = "update.lock";
/// Looks at a lock that is held: `update status` holds it for some microseconds.
const LOOKS: u32 = 1_000;
/// What is written in it: a number and a path or address.
const BYTES_MAX: u64 = 8 * 1024;

/// It is held until this is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes it, to install `what`.
    pub(super) fn take(state_dir: &Path, what: &str) -> Result<Self> {
        let path = state_dir.join(NAME);
        let mut file = open_ours(&path).with_context(|| format!("{} cannot be opened", path.display()))?;
        for look in 1.. {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK) if look < LOOKS => std::thread::yield_now(),
                Err(Errno::WOULDBLOCK) => bail!(
                    "another `v2g-edge update install` is at it ({}): wait until it has ended (`v2g-edge update status`), or end it \
                     with kill",
                    holder(&mut file)
                ),
                Err(error) => {
                    return Err(io::Error::from(error)).with_context(|| format!("{} cannot be locked", path.display()));
                }
            }
        }
        file.set_len(0)?;
        write!(file, "process {}, {what}", process::id()).with_context(|| path.display().to_string())?;
        Ok(Self { _file: file })
    }

    /// Who holds it, in words; `None`: nobody.
    pub(super) fn holder(state_dir: &Path) -> Option<String> {
        let mut options = OpenOptions::new();
        let mut file = options.read(true).custom_flags(flags()).open(state_dir.join(NAME)).ok()?;
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Err(Errno::WOULDBLOCK) => Some(holder(&mut file)),
            _ => None,
        }
    }
}

/// The directory is the agent's own, and we are root: what is not root's goes, and nothing is opened through a link.
fn open_ours(path: &Path) -> io::Result<File> {
    let is_ours = |found: &fs::Metadata| found.is_file() && found.uid() == 0 && found.nlink() == 1;
    if fs::symlink_metadata(path).is_ok_and(|found| !is_ours(&found)) {
        fs::remove_file(path)?;
    }
    let mut options = OpenOptions::new();
    let file =
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags()).open(path)?;
    if is_ours(&file.metadata()?) { Ok(file) } else { Err(io::Error::other("it is no file of root's: remove it")) }
}

fn flags() -> i32 {
    (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed()
}

fn holder(file: &mut File) -> String {
    let mut said = String::new();
    let read = file.rewind().and_then(|()| file.take(BYTES_MAX).read_to_string(&mut said));
    if read.is_ok() && !said.is_empty() { said } else { "it has not said yet which process it is".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_second_is_told_who_was_first_until_that_has_ended() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(Lock::holder(dir.path()), None);
        let first = Lock::take(dir.path(), "/a/long/path/first.raucb").expect("it is free");
        let said = format!("process {}, /a/long/path/first.raucb", process::id());
        assert_eq!(Lock::holder(dir.path()), Some(said.clone()));
        let refused = Lock::take(dir.path(), "second.raucb").expect_err("it is held").to_string();
        assert!(refused.contains(&said) && refused.contains("v2g-edge update status"), "{refused}");
        drop(first);
        assert_eq!(Lock::holder(dir.path()), None);
        let second = Lock::take(dir.path(), "second.raucb").expect("it is free again");
        assert!(Lock::holder(dir.path()).is_some_and(|said| said.ends_with(", second.raucb")), "nothing of the first");
        drop(second);
    }

    #[test]
    fn neither_a_link_nor_what_is_no_file_is_locked() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, other) = (dir.path().join(NAME), dir.path().join("other"));
        fs::write(&other, "not ours").expect("written");
        std::os::unix::fs::symlink(&other, &path).expect("linked");
        let lock = Lock::take(dir.path(), "a.raucb").expect("the link goes");
        assert_eq!(fs::read_to_string(&other).expect("there"), "not ours");
        drop(lock);
        fs::remove_file(&path).expect("ours");
        fs::create_dir(&path).expect("ours");
        assert!(Lock::take(dir.path(), "a.raucb").is_err_and(|error| error.to_string().contains("update.lock")));
    }
}
