//! A directory in one file: what a test keeps of files that are mostly zeros.
//!
//! All numbers little-endian:
//!
//! ```text
//! magic "V2GTREE1"
//! for each file and each empty directory, ascending by path:
//!   2  length of the path below the directory, in bytes; the path, with '/' between its parts
//!   8  length of the file; all ones: an empty directory, and nothing follows
//!   4  how many runs
//!   for each run: 8 offset in the file, 4 length, its bytes; what no run has is zero
//! ```

use std::fs;
use std::io::{self, Error, ErrorKind};
use std::path::Path;

const MAGIC: &[u8; 8] = b"V2GTREE1";
/// A shorter run of zeros costs less as bytes than as another run.
const ZEROS_MIN: usize = 16;
const IS_DIRECTORY: u64 = u64::MAX;
/// What a file that lies about its length may allocate: beyond any that a test keeps.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Puts all files below `dir` into one.
///
/// # Errors
/// The system refused, or a path is no text.
pub fn pack(dir: &Path) -> io::Result<Vec<u8>> {
    let mut found = Vec::new();
    collect(dir, "", &mut found)?;
    found.sort();
    let mut out = MAGIC.to_vec();
    for (path, is_directory) in found {
        out.extend_from_slice(&u16::try_from(path.len()).map_err(Error::other)?.to_le_bytes());
        out.extend_from_slice(path.as_bytes());
        if is_directory {
            out.extend_from_slice(&IS_DIRECTORY.to_le_bytes());
            continue;
        }
        let bytes = fs::read(dir.join(&path))?;
        let runs = runs(&bytes);
        out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        out.extend_from_slice(&u32::try_from(runs.len()).map_err(Error::other)?.to_le_bytes());
        for (at, run) in runs {
            out.extend_from_slice(&(at as u64).to_le_bytes());
            out.extend_from_slice(&u32::try_from(run.len()).map_err(Error::other)?.to_le_bytes());
            out.extend_from_slice(run);
        }
    }
    Ok(out)
}

/// Makes below `dir` what was packed.
///
/// # Errors
/// The system refused, or the bytes are no packed directory.
pub fn unpack(packed: &[u8], dir: &Path) -> io::Result<()> {
    let mut rest = packed.strip_prefix(MAGIC.as_slice()).ok_or_else(|| wrong("no packed directory"))?;
    while !rest.is_empty() {
        let length = usize::from(u16::from_le_bytes(take(&mut rest)?));
        let path = std::str::from_utf8(slice(&mut rest, length)?).map_err(|_| wrong("a path is no text"))?;
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(wrong("a path leads elsewhere"));
        }
        let path = dir.join(path);
        let length = u64::from_le_bytes(take(&mut rest)?);
        if length == IS_DIRECTORY {
            fs::create_dir_all(&path)?;
            continue;
        }
        if length > FILE_BYTES_MAX {
            return Err(wrong("a file is too long"));
        }
        let mut bytes = vec![0; usize::try_from(length).map_err(Error::other)?];
        for _ in 0..u32::from_le_bytes(take(&mut rest)?) {
            let at = usize::try_from(u64::from_le_bytes(take(&mut rest)?)).map_err(Error::other)?;
            let length = usize::try_from(u32::from_le_bytes(take(&mut rest)?)).map_err(Error::other)?;
            let run = slice(&mut rest, length)?;
            let place = bytes.get_mut(at..).and_then(|from| from.get_mut(..length));
            place.ok_or_else(|| wrong("a run lies outside of its file"))?.copy_from_slice(run);
        }
        fs::create_dir_all(path.parent().unwrap_or(dir))?;
        fs::write(path, bytes)?;
    }
    Ok(())
}

fn collect(dir: &Path, below: &str, found: &mut Vec<(String, bool)>) -> io::Result<()> {
    let mut is_empty = true;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        is_empty = false;
        let name = entry.file_name().into_string().map_err(|_| wrong("a path is no text"))?;
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), &path, found)?;
        } else {
            found.push((path, false));
        }
    }
    if is_empty && !below.is_empty() {
        found.push((below.to_owned(), true));
    }
    Ok(())
}

/// What is not zero, with where it lies.
fn runs(bytes: &[u8]) -> Vec<(usize, &[u8])> {
    let mut runs = Vec::new();
    let mut at = 0;
    while let Some(start) = bytes[at..].iter().position(|byte| *byte != 0).map(|offset| at + offset) {
        let zeros = bytes[start..].windows(ZEROS_MIN).position(|window| window.iter().all(|byte| *byte == 0));
        let end = zeros.map_or(bytes.len(), |offset| start + offset);
        runs.push((start, &bytes[start..end]));
        at = end;
    }
    runs
}

fn take<const N: usize>(rest: &mut &[u8]) -> io::Result<[u8; N]> {
    let (array, after) = rest.split_first_chunk::<N>().ok_or_else(|| wrong("cut short"))?;
    *rest = after;
    Ok(*array)
}

fn slice<'a>(rest: &mut &'a [u8], length: usize) -> io::Result<&'a [u8]> {
    let (slice, after) = rest.split_at_checked(length).ok_or_else(|| wrong("cut short"))?;
    *rest = after;
    Ok(slice)
}

fn wrong(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_comes_back_to_the_byte() {
        let (from, to) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let sparse: Vec<u8> = (0..5_000_u32).map(|at| if at % 700 < 3 { 7 } else { 0 }).collect();
        let files: [(&str, &[u8]); 4] = [("a", b""), ("deep/b", b"\0\0x\0"), ("deep/er/c", &[0; 900]), ("d", &sparse)];
        for (path, bytes) in files {
            let path = from.path().join(path);
            fs::create_dir_all(path.parent().expect("below")).expect("made");
            fs::write(path, bytes).expect("written");
        }
        fs::create_dir_all(from.path().join("deep/empty")).expect("made");
        let packed = pack(from.path()).expect("packed");
        assert!(packed.len() < 600, "zeros cost nothing: {}", packed.len());
        unpack(&packed, to.path()).expect("unpacked");
        for (path, bytes) in files {
            assert_eq!(fs::read(to.path().join(path)).expect("a file"), bytes, "{path}");
        }
        assert!(to.path().join("deep/empty").is_dir());
        assert!(unpack(&packed[..packed.len() - 1], to.path()).is_err(), "cut short");
    }

    #[test]
    fn bytes_that_are_no_packed_directory_write_nothing_elsewhere() {
        let dir = tempfile::tempdir().expect("a directory");
        for path in ["../out", "/out", "a//b", ""] {
            let mut packed = MAGIC.to_vec();
            packed.extend_from_slice(&u16::try_from(path.len()).expect("short").to_le_bytes());
            packed.extend_from_slice(path.as_bytes());
            packed.extend_from_slice(&[0; 12]);
            assert!(unpack(&packed, dir.path()).is_err(), "{path}");
        }
        assert!(unpack(b"V2GTREE2", dir.path()).is_err());
    }
}
