//! Files that survive a power cut, or are not there at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

/// Replaces a file as a whole, durably: a cut leaves the old one or the new one.
pub(in crate::journal) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    sync_parent(path)
}

/// Overwrites the beginning of a file in place; a cut may leave anything. Made if it is not there.
pub(in crate::journal) fn overwrite(path: &Path, bytes: &[u8], durably: bool) -> io::Result<()> {
    let new = !path.exists();
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
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
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
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
