//! Whether everything on disk is what was written: checksums, continuity, seals, records.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::journal::disk::entry;
use crate::journal::disk::segment::{Header, Seal};
use crate::journal::disk::unreadable::Unreadable;
use crate::journal::offline::archive::{Archive, ArchiveError, Folder, Piece, View, walk};
use crate::measure::{BootId, Seq};

/// Something that is not what was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Where.
    pub file: PathBuf,
    /// The first and the last number concerned; `None`: no entry is.
    pub range: Option<(Seq, Seq)>,
    /// How many of those still wait for the broker.
    pub waiting: u64,
    /// What is wrong.
    pub what: String,
}

/// What a look at every byte has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// Whose view it is.
    pub view: View,
    /// Segments looked at. Beside a running agent the one being written is not.
    pub segments: u64,
    /// Chunks whose checksum is right.
    pub chunks: u64,
    /// Entries that can be read.
    pub entries: u64,
    /// Measured values in them, by their chunks.
    pub points: u64,
    /// Entries of a newer agent: intact, and not readable by this one.
    pub newer: u64,
    /// The first number of a segment that was not completed: the last life was cut short, which the next start repairs.
    pub incomplete: Option<Seq>,
    /// All that is wrong.
    pub findings: Vec<Finding>,
    /// What a newer program wrote, and this one leaves alone: nothing in it is wrong.
    pub left_alone: Vec<Finding>,
}

impl Archive {
    /// Looks at every byte.
    ///
    /// # Errors
    /// The system refused.
    pub fn verify(&self) -> Result<VerifyReport, ArchiveError> {
        let mut report = VerifyReport {
            view: self.view(),
            segments: 0,
            chunks: 0,
            entries: 0,
            points: 0,
            newer: 0,
            incomplete: None,
            findings: Vec::new(),
            left_alone: Vec::new(),
        };
        self.verify_records(&mut report);
        let mut expected = None;
        for folder in self.folders() {
            let found = match self.verify_folder(folder, &mut report) {
                Err(_) if self.gone(folder) => {
                    // Delivered: what is before the next one is none of ours.
                    expected = Some(u64::MAX);
                    continue;
                }
                found => found?,
            };
            report.segments += 1;
            let begins = expected.unwrap_or_else(|| if self.has_cursor() { 1 } else { folder.first });
            self.between(begins, folder, &mut report);
            expected = Some(found.last + 1);
        }
        report.view = self.view();
        Ok(report)
    }

    fn verify_records(&self, report: &mut VerifyReport) {
        for record in self.newer() {
            report.left_alone.push(left_alone(self.dir().join(&record.name), None, Some(record.version)));
        }
        for file in self.misfits() {
            let what =
                "it is not the kind of file that belongs there; `journal repair`, or the next start, moves it aside";
            report.findings.push(Finding { file, range: None, waiting: 0, what: what.to_owned() });
        }
        let mut find = |name: &str, what: &str| {
            let file = self.dir().join(name);
            report.findings.push(Finding { file, range: None, waiting: 0, what: what.to_owned() });
        };
        if !self.has_meta() && self.dir().join("life").is_file() {
            find("life", "the record of the last life is damaged");
        }
        if self.has_damaged_times() {
            find("times", "the record of times is damaged: entries of boots without a clock are told as captured");
        }
        let slots = ["cursor-a", "cursor-b"].map(|name| self.dir().join(name).is_file());
        if !self.has_cursor() && slots.contains(&true) {
            find("cursor-a", "neither cursor-a nor cursor-b is whole: what was acknowledged will be sent once more");
        }
    }

    /// Numbers that no segment has must be settled.
    fn between(&self, begins: u64, folder: &Folder, report: &mut VerifyReport) {
        // Beside a running agent what it has settled may not be in the cursor yet.
        // What a newer program has settled is in its own cursor.
        if !self.has_cursor() || !self.newer().is_empty() || self.view() == View::FilesBesideAgent {
            return;
        }
        for (from, to) in self.settled().missing(begins, folder.first.saturating_sub(1)) {
            report.findings.push(Finding {
                file: self.dir().to_owned(),
                range: Some((Seq(from), Seq(to))),
                waiting: to - from + 1,
                what: "no segment has these numbers, and they are neither acknowledged nor told as lost".to_owned(),
            });
        }
    }

    fn verify_folder(&self, folder: &Folder, report: &mut VerifyReport) -> Result<Seal, ArchiveError> {
        if let Some((version, _)) = folder.newer {
            let last = self.last_of(folder)?;
            report.newer += (last + 1).saturating_sub(folder.first);
            report.left_alone.push(left_alone(folder.path.clone(), Some((folder.first, last)), Some(version)));
            return Ok(Seal { last, ..Seal::open(folder.first) });
        }
        let mut scan = folder.scan()?;
        let waiting = |from, to| self.settled().missing(from, to).iter().map(|(a, b)| b - a + 1).sum();
        let mut findings = Vec::new();
        let mut find = |name: &str, range: Option<(u64, u64)>, what: &str| {
            let waiting = range.map_or(0, |(from, to)| waiting(from, to));
            let range = range.map(|(from, to)| (Seq(from), Seq(to)));
            findings.push(Finding { file: folder.file(name), range, waiting, what: what.to_owned() });
        };

        let marker = Header::of_marker(&folder.file("ready"), folder.first);
        let copy = scan.header().ok().and_then(|frames| Header::from_frames(&frames).ok());
        if !folder.file("db").exists() {
            find("db", None, "it is not there: nothing in this segment can be read");
        } else if let Some((name, what)) = of_header(folder, marker.is_some(), copy.is_some()) {
            find(name, None, what);
        }
        if folder.sealed && folder.seal.is_none() {
            find("seal", None, "the seal is damaged");
        }

        let boot = marker.or(copy).map_or(BootId([0; 16]), |header| header.boot);
        let (mut content, mut complete, mut told) = (Seal::open(folder.first), true, Vec::new());
        let (mut entries, mut newer, mut left) = (0, 0, Vec::new());
        let _ = walk(folder, &mut scan, |piece| {
            match piece {
                Piece::Hole(from, to) => {
                    complete = false;
                    told.push((from, to, "a chunk is missing or its checksum is wrong"));
                }
                Piece::Chunk(chunk) if chunk.newer => {
                    content.add(&chunk);
                    newer += u64::from(chunk.count);
                    left.push(left_alone(folder.file("db"), Some((chunk.first.0, chunk.last())), None));
                }
                Piece::Chunk(chunk) => {
                    content.add(&chunk);
                    for (number, range) in (chunk.first.0..).zip(chunk.entries().unwrap_or_default()) {
                        match entry::decode(&chunk.body[range], boot) {
                            Ok(_) => entries += 1,
                            Err(Unreadable::Newer { .. }) => newer += 1,
                            Err(Unreadable::Damage(_)) => {
                                told.push((number, number, "the checksum is right and the entry cannot be read"));
                            }
                        }
                    }
                }
            }
            ControlFlow::Continue(())
        })?;
        for (from, to, what) in told {
            find("db", Some((from, to)), what);
        }
        if let Some(seal) = &folder.seal
            && complete
            && (seal.first, seal.last, seal.points) != (content.first, content.last, content.points)
        {
            find("seal", None, "the seal says something else than the chunks");
        }
        report.chunks += u64::from(content.chunks);
        report.points += content.points;
        report.entries += entries;
        report.newer += newer;
        report.left_alone.append(&mut left);
        report.findings.append(&mut findings);
        if !folder.sealed {
            report.incomplete = Some(Seq(folder.first));
        }
        Ok(folder.seal.clone().unwrap_or(content))
    }
}

/// What is wrong with the header in the marker, or with its copy in the database: in which file, and what.
fn of_header(folder: &Folder, marker: bool, copy: bool) -> Option<(&'static str, &'static str)> {
    match (marker, copy) {
        (true, true) => None,
        (false, _) if !folder.file("ready").exists() => {
            Some(("ready", "the marker is missing, and there are entries: the next start marks the segment again"))
        }
        (false, true) => Some(("ready", "the header is damaged or another segment's; its copy in db is intact")),
        (true, false) => Some(("db", "the copy of the header is damaged; the one in ready is intact")),
        (false, false) => Some(("ready", "the header and its copy are damaged: nothing in it can be told")),
    }
}

/// A newer program wrote it; `version`: in which, if it says so.
fn left_alone(file: PathBuf, range: Option<(u64, u64)>, version: Option<u16>) -> Finding {
    let range = range.map(|(from, to)| (Seq(from), Seq(to)));
    let waiting = range.map_or(0, |(from, to)| (to.0 + 1).saturating_sub(from.0));
    let version = version.map_or_else(|| "a later version".to_owned(), |version| format!("version {version}"));
    let what = format!("newer: written in {version}, which this program does not know; it is left alone");
    Finding { file, range, waiting, what }
}

/// The findings that concern the segment below `path`.
pub(super) fn concerns(finding: &Finding, path: &Path) -> bool {
    finding.file.starts_with(path)
}
