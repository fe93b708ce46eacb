//! What is known of the newest update: the record that `v2g-edge update` writes as root, and the agent reads.
//!
//! `update.json` in the state directory. It is durable before RAUC begins, so that the new version knows what to wait for, and the old
//! one that it is back. Fields may be added; a form that an older program would misread has a higher `format`, and is left alone by it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::files::{FORMAT, read_form, write_form};
use crate::spec::BusId;

/// An update, from before it is installed until its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateRecord {
    /// Of the record's form.
    format: u32,
    /// Tells updates apart: 16 hexadecimal digits, drawn.
    pub id: String,
    /// How far it is.
    pub state: UpdateState,
    /// What ran before.
    pub from: Side,
    /// What is to run.
    pub to: Side,
    /// The boot in which it was installed: 32 hexadecimal digits.
    pub boot: String,
    /// Buses that answered before.
    #[serde(default)]
    pub buses: Vec<BusId>,
    /// While it is confirmed: it has shown that it delivers, and what is left to do is to mark its slot good. That need not be shown
    /// again after a power cut in between.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub delivered: bool,
    /// What kept it from being confirmed or installed, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<Arc<str>>,
}

/// A version, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// The version of the program, or of a bundle.
    pub version: Arc<str>,
    /// The bootloader's name of the slot.
    pub slot: String,
}

/// How far an update is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateState {
    /// RAUC writes it into the other slot.
    Installing,
    /// The next boot is into it.
    Installed,
    /// It was booted, and has not shown yet that it delivers.
    Confirming,
    /// It delivers: it stays.
    Confirmed,
    /// It did not: the old version runs.
    RolledBack,
    /// It was not installed.
    Failed,
}

impl UpdateState {
    /// The word in the record, in JSON and in `status`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Installing => "installing",
            Self::Installed => "installed",
            Self::Confirming => "confirming",
            Self::Confirmed => "confirmed",
            Self::RolledBack => "rolled_back",
            Self::Failed => "failed",
        }
    }

    /// Whether it has not come to its end.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Installing | Self::Installed | Self::Confirming)
    }
}

/// What lies in the place of the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing: this box was never updated.
    Nothing,
    /// A record.
    Record(Box<UpdateRecord>),
    /// Something that this program cannot read: a newer program's, or damaged. In words.
    Unreadable(String),
}

impl UpdateRecord {
    /// One that begins.
    #[must_use]
    pub fn new(id: String, from: Side, to: Side, boot: String, buses: Vec<BusId>) -> Self {
        Self { format: FORMAT, id, state: UpdateState::Installing, from, to, boot, buses, delivered: false, why: None }
    }

    /// Where it lies.
    #[must_use]
    pub fn path(state_dir: &Path) -> PathBuf {
        state_dir.join("update.json")
    }

    /// Reads it.
    #[must_use]
    pub fn read(state_dir: &Path) -> Found {
        match read_form(&Self::path(state_dir)) {
            Ok(None) => Found::Nothing,
            Ok(Some(record)) => Found::Record(Box::new(record)),
            Err(why) => Found::Unreadable(why),
        }
    }

    /// Writes it durably.
    ///
    /// # Errors
    /// The system refused; the record before it is still there.
    pub fn write(&self, state_dir: &Path) -> io::Result<()> {
        write_form(&Self::path(state_dir), self)
    }
}

#[cfg(test)]
pub(super) fn example(state: UpdateState) -> UpdateRecord {
    let side = |version: &str, slot: &str| Side { version: version.into(), slot: slot.to_owned() };
    let buses = vec!["lan".try_into().expect("a name")];
    let record = UpdateRecord::new("00".repeat(8), side("0.1.0", "A"), side("0.2.0", "B"), "ab".repeat(16), buses);
    UpdateRecord { state, ..record }
}

#[cfg(test)]
mod tests {
    use super::super::files::parse;
    use super::*;

    #[test]
    fn the_bytes_of_a_record_are_these_and_what_is_added_later_is_passed_over() {
        let record = example(UpdateState::RolledBack);
        let text = r#"{"format":1,"id":"0000000000000000","state":"rolled_back","from":{"version":"0.1.0","slot":"A"},"to":{"version":"0.2.0","slot":"B"},"boot":"abababababababababababababababab","buses":["lan"]}"#;
        assert_eq!(serde_json::to_string(&record).expect("written"), text);
        assert_eq!(parse(text.as_bytes()), Ok(record.clone()));
        assert_eq!(parse(text.replace("\"boot\"", "\"colour\":[1],\"boot\"").as_bytes()), Ok(record));
    }

    #[test]
    fn what_is_newer_damaged_or_no_file_is_told_in_words() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(UpdateRecord::read(dir.path()), Found::Nothing);
        for state in [UpdateState::Installing, UpdateState::Confirming] {
            example(state).write(dir.path()).expect("written");
            assert_eq!(UpdateRecord::read(dir.path()), Found::Record(Box::new(example(state))));
        }
        let path = UpdateRecord::path(dir.path());
        for (text, said) in [
            (r#"{"format":2,"id":7}"#, "a newer program wrote it (format 2, this one reads 1)"),
            ("{}", "it is damaged (missing field `format`"),
            (r#"{"format":1,"#, "it is damaged"),
            ("", "it is damaged"),
        ] {
            std::fs::write(&path, text).expect("written");
            let Found::Unreadable(why) = UpdateRecord::read(dir.path()) else { panic!("{text} was read") };
            assert!(why.contains(said) && why.contains("update.json: "), "{why}");
        }
    }
}
