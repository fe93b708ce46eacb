//! A bundle from an address, by the program `curl`: it knows proxies, redirections and this system's certificates. It is kept beside the
//! journal, and what is there is gone on with.
//!
//! The directory is the agent's own, and we are root: nothing is written through a link, and a file that is not root's is taken away.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::fs::OFlags;

use crate::cli::show;

/// For what curl is asked in every call: as it is, without a person's settings; a link that is silent for a minute is broken.
const CURL: [&str; 15] = [
    "--disable",
    "--silent",
    "--show-error",
    "--fail",
    "--location",
    "--max-redirs",
    "5",
    "--proto",
    "=http,https",
    "--connect-timeout",
    "30",
    "--speed-time",
    "60",
    "--speed-limit",
    "1",
];
/// curl(1), EXIT CODES: the server cannot go on in the middle, and refuses what was asked.
const NO_RANGES: i32 = 33;
const HTTP_ERROR: i32 = 22;
/// Names that cannot be resolved, hosts that cannot be reached, transfers that break off: what may be mended by itself.
const TRANSIENT: [i32; 8] = [5, 6, 7, 18, 28, 52, 55, 56];
/// Doubled with each failure: 4 s to 4 min.
const TRY_AGAIN: Duration = Duration::from_secs(2);
const TRIES_MAX: u32 = 8;

/// How a transfer ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// All is there.
    Whole,
    /// The server cannot go on in the middle.
    FromTheBeginning,
    /// It broke off.
    Broken(String),
    /// It cannot be had.
    Refused(String),
}

/// Transfers that have failed one after the other. One that comes further than any before it is no failure, however slow it is; one that
/// must begin anew is: a server that does not go on in the middle, on a link that always breaks, would be asked for ever.
#[derive(Debug, Default)]
pub(super) struct Tries {
    furthest: u64,
    failed: u32,
}

impl Tries {
    /// A transfer has ended before its end, and so many bytes are here: how long to wait before the next one; `None`: there is none.
    pub(super) fn after_failure(&mut self, here: u64) -> Option<Duration> {
        self.failed = if here > self.furthest { 1 } else { self.failed + 1 };
        self.furthest = self.furthest.max(here);
        (self.failed < TRIES_MAX).then(|| TRY_AGAIN * (1 << self.failed))
    }
}

/// A file that is there in part.
#[derive(Debug)]
pub(super) struct Partial {
    url: String,
    path: PathBuf,
    /// What the server says: its bytes, and what changes when the file does.
    bytes: Option<u64>,
}

/// curl, while it runs.
pub(super) struct Transfer {
    curl: Child,
    is_continued: bool,
}

/// Whether this is an address and no file.
pub(super) fn is_url(what: &str) -> bool {
    what.starts_with("http://") || what.starts_with("https://")
}

impl Partial {
    /// Asks the server what is there, and looks what of it is here. Anything else that was fetched before goes.
    pub(super) fn of(url: &str, state_dir: &Path) -> Result<Self> {
        let mut head = Command::new("curl");
        let output = head.args(CURL).args(["--head", "--", url]).stdin(Stdio::null()).output().map_err(not_run)?;
        let mut partial = Self { url: url.to_owned(), path: state_dir.join("update.raucb"), bytes: None };
        let mut marks = vec![url.to_owned()];
        // A server that knows no HEAD may still give the file.
        if output.status.success() {
            let (bytes, mark) = facts(&String::from_utf8_lossy(&output.stdout));
            partial.bytes = bytes;
            marks.extend(bytes.map(|bytes| bytes.to_string()));
            marks.extend(mark);
        }
        let (marks, beside) = (marks.join("\n"), partial.path.with_extension("from"));
        if read_plain(&beside).is_none_or(|before| before != marks) {
            partial.discard()?;
            remove(&beside)?;
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
            io::Write::write_all(&mut file, marks.as_bytes())?;
        }
        Ok(partial)
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How much is there.
    pub(super) fn bytes(&self) -> Result<u64> {
        match fs::symlink_metadata(&self.path) {
            Ok(metadata) if metadata.is_file() && metadata.uid() == 0 && metadata.nlink() == 1 => Ok(metadata.len()),
            Ok(_) => {
                self.discard()?;
                Ok(0)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error).with_context(|| self.path.display().to_string()),
        }
    }

    /// `None`: nobody knows how much there will be.
    pub(super) fn percent(&self) -> Result<Option<u64>> {
        let here = self.bytes()?;
        Ok(self.bytes.filter(|bytes| *bytes > 0).map(|bytes| here.min(bytes) * 100 / bytes))
    }

    /// What is here goes.
    pub(super) fn discard(&self) -> Result<()> {
        remove(&self.path)
    }

    /// Bytes that are free, and those of `free_min` that stay so: as the journal counts them, not more than an eighth of the file system.
    fn free(&self, free_min: u64) -> Result<(u64, u64)> {
        let Space { free, all } = space(self.directory())?;
        Ok((free, free_min.min(all / 8)))
    }

    /// Whether the rest finds room, and `free_min` is left.
    pub(super) fn check_space(&self, free_min: u64) -> Result<()> {
        let rest = self.bytes.unwrap_or(0).saturating_sub(self.bytes()?);
        let (free, free_min) = self.free(free_min)?;
        if free < rest.saturating_add(free_min) {
            let [free, rest, min] = [free, rest, free_min].map(show::bytes);
            bail!(
                "{} has {free} free, and the download needs {rest} more besides {min} that stay free for the record ([journal] \
                 free_min): make room, or copy the bundle to another disk and name the file",
                self.directory().display()
            );
        }
        Ok(())
    }

    /// Whether `free_min` is left now.
    pub(super) fn check_free(&self, free_min: u64) -> Result<()> {
        let (free, free_min) = self.free(free_min)?;
        if free < free_min {
            let min = show::bytes(free_min);
            bail!(
                "the download has stopped: {} has less than {min} free ([journal] free_min)",
                self.directory().display()
            );
        }
        Ok(())
    }

    fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }

    /// Whether nothing is missing, as far as the server has said how much there is.
    pub(super) fn is_whole(&self) -> Result<bool> {
        Ok(self.bytes.is_some_and(|bytes| bytes > 0) && self.bytes == Some(self.bytes()?))
    }

    /// Goes on with what is missing.
    pub(super) fn start(&self) -> Result<Transfer> {
        self.bytes()?;
        let flags = OFlags::NOFOLLOW.bits().cast_signed();
        let mut open = OpenOptions::new();
        let file = open.append(true).create(true).mode(0o600).custom_flags(flags).open(&self.path);
        let file = file.with_context(|| self.path.display().to_string())?;
        // What was opened, and not what lay there a moment before.
        let found = file.metadata()?;
        if !found.is_file() || found.uid() != 0 || found.nlink() != 1 {
            bail!("{} is no file of ours: remove it", self.path.display());
        }
        let here = found.len();
        let mut curl = Command::new("curl");
        curl.args(CURL);
        if here > 0 {
            curl.args(["--continue-at", &here.to_string()]);
        }
        curl.args(["--", &self.url]).stdin(Stdio::null()).stdout(file).stderr(Stdio::piped());
        Ok(Transfer { curl: curl.spawn().map_err(not_run)?, is_continued: here > 0 })
    }
}

impl Transfer {
    /// `None`: it goes on.
    pub(super) fn ended(&mut self) -> Result<Option<Ended>> {
        let Some(status) = self.curl.try_wait()? else { return Ok(None) };
        let mut said = String::new();
        if let Some(stderr) = &mut self.curl.stderr {
            let _ = stderr.take(4096).read_to_string(&mut said);
        }
        let said = said.lines().last().unwrap_or("curl says nothing").trim().to_owned();
        Ok(Some(match status.code() {
            Some(0) => Ended::Whole,
            Some(NO_RANGES) => Ended::FromTheBeginning,
            // 416: there is nothing behind what is here. It is another file, or more than all of it.
            Some(HTTP_ERROR) if self.is_continued && said.contains("416") => Ended::FromTheBeginning,
            Some(code) if TRANSIENT.contains(&code) => Ended::Broken(said),
            _ => Ended::Refused(said),
        }))
    }

    pub(super) fn stop(mut self) {
        let _ = self.curl.kill();
        let _ = self.curl.wait();
    }
}

/// Of the last answer's headers: the length, and what changes when the file does.
fn facts(headers: &str) -> (Option<u64>, Option<String>) {
    let (mut length, mut mark) = (None, None);
    for line in headers.lines() {
        let Some((name, value)) = line.split_once(':') else {
            if line.starts_with("HTTP/") {
                (length, mark) = (None, None);
            }
            continue;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok(),
            "etag" => mark = Some(value.trim().to_owned()),
            "last-modified" if mark.is_none() => mark = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    (length, mark)
}

fn not_run(error: io::Error) -> anyhow::Error {
    if error.kind() == io::ErrorKind::NotFound {
        return anyhow::anyhow!("there is no curl on this box: install it, or copy the bundle here and name the file");
    }
    anyhow::Error::from(error).context("curl cannot be run")
}

fn read_plain(path: &Path) -> Option<String> {
    let is_ours = fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.uid() == 0);
    if !is_ours {
        return None;
    }
    let mut text = String::new();
    File::open(path).ok()?.take(64 * 1024).read_to_string(&mut text).ok()?;
    Some(text)
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", path.display()))
        }
        _ => Ok(()),
    }
}

/// A file system, in bytes.
pub(super) struct Space {
    /// What others than root may still take.
    pub(super) free: u64,
    all: u64,
}

/// Of the file system of a directory.
pub(super) fn space(directory: &Path) -> Result<Space> {
    let found = rustix::fs::statvfs(directory).with_context(|| directory.display().to_string())?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Ok(Space { free: bytes(found.f_bavail), all: bytes(found.f_blocks) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_no_file() {
        assert!(is_url("https://a/b.raucb") && is_url("http://a/b"));
        assert!(!is_url("/tmp/https://a") && !is_url("b.raucb") && !is_url("ftp://a/b"));
    }

    #[test]
    fn a_link_that_always_breaks_is_given_up_also_where_each_transfer_begins_anew_and_what_comes_further_is_not() {
        // Half of it comes, then the server is asked to go on, and does not: what is here goes.
        let mut tries = Tries::default();
        let ended = [50, 0].iter().cycle().take(1_000).position(|here| tries.after_failure(*here).is_none());
        assert_eq!(ended, Some(7));
        // A byte more each time is slow, and enough.
        let mut tries = Tries::default();
        assert!((1..1_000).all(|here| tries.after_failure(here).is_some()));
        let pauses: Vec<_> = std::iter::from_fn(|| tries.after_failure(999)).map(|pause| pause.as_secs()).collect();
        assert_eq!(pauses, [8, 16, 32, 64, 128, 256]);
    }

    #[test]
    fn of_redirections_the_last_answer_counts() {
        let headers = "HTTP/1.1 302 Found\r\nContent-Length: 5\r\nETag: \"x\"\r\n\r\nHTTP/2 200\r\ncontent-length: 700\r\n\
                       last-modified: Mon, 30 Nov 2026\r\n\r\n";
        assert_eq!(facts(headers), (Some(700), Some("Mon, 30 Nov 2026".to_owned())));
        assert_eq!(facts("HTTP/1.1 200 OK\r\nETag: \"y\"\r\n\r\n"), (None, Some("\"y\"".to_owned())));
        assert_eq!(facts(""), (None, None));
    }
}
