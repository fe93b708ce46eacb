//! Files that survive a power cut, or are not there at all. What is made here nobody but its owner can read or list, whatever
//! the process's umask says.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// The modes of all that is ours (chmod(2)).
const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// Things of one name that are moved aside; who makes more of them has a plan.
const ASIDE_MAX: u32 = 1_000;
const NOT_A_FILE: &str = "it is no file";

/// Makes a directory; one more than is there.
pub(in crate::journal) fn make_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(DIR_MODE).create(path)
}

/// Makes a directory and what is missing above it.
pub(in crate::journal) fn make_dirs(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(DIR_MODE).recursive(true).create(path)
}

/// Takes the right to read, write or list away from everybody but the owner: below `dir`, and last of all from it, so that what
/// was cut short is begun again.
pub(in crate::journal) fn make_private(dir: &Path) -> io::Result<()> {
    if fs::symlink_metadata(dir)?.permissions().mode() & 0o077 == 0 {
        return Ok(());
    }
    make_content_private(dir)?;
    fs::set_permissions(dir, Permissions::from_mode(DIR_MODE))
}

/// The same for all that lies in a directory, as far as it goes; answers the first refusal.
pub(in crate::journal) fn make_content_private(dir: &Path) -> io::Result<()> {
    let mut refused = Ok(());
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let metadata = match fs::symlink_metadata(&path) {
            // It went meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            metadata => metadata?,
        };
        let tightened = if metadata.is_dir() {
            make_private(&path)
        } else if metadata.is_file() && metadata.permissions().mode() & 0o077 != 0 {
            fs::set_permissions(&path, Permissions::from_mode(FILE_MODE))
        } else {
            Ok(())
        };
        refused = refused.and(tightened);
    }
    refused
}

/// Moves what lies at `dir/name` into `dir/to`, under a name that nothing has there. Answers where it is now.
pub(in crate::journal) fn move_aside(dir: &Path, name: &str, to: &str) -> io::Result<PathBuf> {
    let aside = dir.join(to);
    if !aside.is_dir() {
        make_dir(&aside)?;
    }
    let names = std::iter::once(name.to_owned()).chain((1..ASIDE_MAX).map(|n| format!("{name}.{n}")));
    let free = names.map(|name| aside.join(name)).find(|path| fs::symlink_metadata(path).is_err());
    let free = free.ok_or(io::ErrorKind::AlreadyExists)?;
    fs::rename(dir.join(name), &free)?;
    sync_dir(&aside)?;
    sync_dir(dir)?;
    Ok(free)
}

/// Replaces a file as a whole, durably: a cut leaves the old one or the new one.
pub(in crate::journal) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = open_file(OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE), &new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    sync_parent(path)
}

/// Opens for writing, without truncating it, what must be a file; made if it is not there.
pub(in crate::journal) fn open_for_writing(path: &Path) -> io::Result<File> {
    open_file(OpenOptions::new().write(true).create(true).truncate(false).mode(FILE_MODE), path)
}

/// Opens for reading what must be a file.
pub(in crate::journal) fn open(path: &Path) -> io::Result<File> {
    open_file(OpenOptions::new().read(true), path)
}

/// A pipe or a device of that name would hold up whoever opens it until somebody is at its other end.
fn open_file(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = options.custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if metadata.is_file() { Ok(file) } else { Err(io::Error::new(io::ErrorKind::InvalidInput, NOT_A_FILE)) }
}

/// Overwrites the beginning of a file in place; a cut may leave anything. Made if it is not there.
pub(in crate::journal) fn overwrite(path: &Path, bytes: &[u8], durably: bool) -> io::Result<()> {
    let new = !path.exists();
    let file = open_for_writing(path)?;
    file.write_all_at(bytes, 0)?;
    if durably {
        file.sync_data()?;
        if new {
            sync_parent(path)?;
        }
    }
    Ok(())
}

/// The content of a file; `None` if there is none.
pub(in crate::journal) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    match open(path).and_then(|mut file| file.read_to_end(&mut bytes)) {
        Ok(_) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes the names in a directory durable.
pub(in crate::journal) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes the name of this file or directory durable.
pub(in crate::journal) fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| sync_dir(if parent.as_os_str().is_empty() { Path::new(".") } else { parent }))
}

/// The names in a directory, ascending; none if it cannot be read.
pub(in crate::journal) fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    names
}

/// Bytes that this process has caused to be written (proc_pid_io(5), `write_bytes`); `None` if the kernel does not tell.
pub(in crate::journal) fn written_by_process() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/io").ok()?;
    text.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok())
}

/// Bytes written to the disk under `path` since the boot, by whomever (Linux, Documentation/block/stat.rst: the seventh
/// number, in units of 512 bytes); `None` if there is no such disk.
pub(in crate::journal) fn written_to_disk(path: &Path) -> Option<u64> {
    let device = fs::metadata(path).ok()?.dev();
    // As glibc's gnu_dev_major and gnu_dev_minor take it apart.
    let major = (device >> 8 & 0xfff) | (device >> 32 & !0xfff);
    let minor = (device & 0xff) | (device >> 12 & !0xff);
    let text = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).ok()?;
    text.split_whitespace().nth(6)?.parse::<u64>().ok()?.checked_mul(512)
}

/// Bytes that a file takes on its file system; 0 if it cannot be told.
pub(in crate::journal) fn taken(path: &Path) -> u64 {
    // st_blocks counts 512 bytes, whatever the file system's own block (stat(2)).
    fs::metadata(path).map_or(0, |metadata| metadata.blocks() * 512)
}
