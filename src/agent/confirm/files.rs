//! Small files in the state directory, which the agent's user owns and root writes into: a file of another kind in their place is not
//! read, and a link is neither read nor written through. Each is one JSON object with the number of its form.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The form that this program writes.
pub(super) const FORMAT: u32 = 1;
/// A record with 32 buses of the longest names has 3 KiB.
const BYTES_MAX: u64 = 64 * 1024;

/// The form alone, of whatever version.
#[derive(Deserialize)]
struct Form {
    format: u32,
}

/// What a file says; `None`: it is not there. The error is in words and names the file.
pub(super) fn read_form<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, String> {
    let named = |why: String| format!("{}: {why}", path.display());
    let bytes = read(path).map_err(|error| named(in_words(&error)))?;
    bytes.map(|bytes| parse(&bytes).map_err(named)).transpose()
}

/// Puts it in the place of a file, durably: whole or not at all.
pub(super) fn write_form(path: &Path, form: &impl Serialize) -> io::Result<()> {
    replace(path, &serde_json::to_vec(form).map_err(io::Error::other)?)
}

fn in_words(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::PermissionDenied {
        return "only root and the gateway's own user may read it: use sudo".to_owned();
    }
    error.to_string()
}

/// The error is in words.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let damaged = |error: serde_json::Error| format!("it is damaged ({error}): remove it");
    let Form { format } = serde_json::from_slice(bytes).map_err(damaged)?;
    if format > FORMAT {
        return Err(format!("a newer program wrote it (format {format}, this one reads {FORMAT}): it is left alone"));
    }
    serde_json::from_slice(bytes).map_err(damaged)
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match open_plain(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(io::Error::other(format!("it is larger than {BYTES_MAX} bytes")));
    }
    Ok(Some(bytes))
}

/// A pipe is not waited for, and a link is an error.
fn open_plain(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// Whole or not at all, and durable. Anybody may read it who may enter the directory.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Made by us or an error: not through a link that somebody puts there meanwhile.
    let mut file = OpenOptions::new().write(true).create_new(true).open(&new)?;
    // Whatever the umask of who has called us.
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_what_lies_in_its_place_is_not_written_through() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, other) = (dir.path().join("update.json"), dir.path().join("other"));
        assert!(matches!(read(&path), Ok(None)));
        replace(&path, b"1").expect("written");
        assert_eq!(read(&path).expect("read").as_deref(), Some(&b"1"[..]));
        // Whoever owns the directory has put links there.
        fs::write(&other, b"not ours").expect("written");
        std::os::unix::fs::symlink(&other, dir.path().join("update.new")).expect("linked");
        fs::remove_file(&path).expect("removed");
        std::os::unix::fs::symlink(&other, &path).expect("linked");
        assert!(read(&path).is_err());
        replace(&path, b"2").expect("written");
        assert_eq!(read(&path).expect("read").as_deref(), Some(&b"2"[..]));
        assert_eq!(fs::read(&other).expect("read"), b"not ours");
    }

    /// `update status` of a person who is not root said `Permission denied`, and not what to do.
    #[test]
    fn who_may_not_read_it_is_told_who_may() {
        let told = in_words(&rustix::io::Errno::ACCESS.into());
        assert_eq!(told, "only root and the gateway's own user may read it: use sudo");
        assert!(in_words(&rustix::io::Errno::IO.into()).contains("os error 5"));
    }

    #[test]
    fn neither_a_pipe_nor_a_directory_nor_what_is_far_too_long_is_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a pipe");
        assert!(read(&pipe).is_err(), "and it does not wait");
        assert!(read(dir.path()).is_err());
        let long = dir.path().join("long");
        fs::write(&long, vec![b' '; 70_000]).expect("written");
        assert!(read(&long).is_err());
    }
}
