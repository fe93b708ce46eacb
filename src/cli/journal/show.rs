//! The answers, in words and for machines.

use anyhow::Result;
use serde::Serialize;
use serde_json::{Value, json};

use super::Target;
use crate::cli::show::{Paint, bytes};
use crate::journal::{Finding, Inventory, Purged, Repaired, VerifyReport, View};

/// More epochs than this are summed up.
const EPOCHS_SHOWN: usize = 5;

/// The fields of `more` behind those of `head`, in one object.
pub(super) fn with(mut head: Value, more: &impl Serialize) -> Result<Value> {
    if let (Some(head), Value::Object(more)) = (head.as_object_mut(), serde_json::to_value(more)?) {
        head.extend(more);
    }
    Ok(head)
}

pub(super) fn stats_json(view: View, target: &Target, inventory: &Inventory) -> Result<Value> {
    let epochs = inventory.epochs().into_iter();
    let epochs: Vec<Value> = epochs.map(|(e, a, b)| json!({ "epoch": e, "first": a, "last": b })).collect();
    let mut told = with(json!({ "view": view, "journal": target.dir }), inventory)?;
    if let Some(told) = told.as_object_mut() {
        told.insert("segments".to_owned(), json!(inventory.segments.len()));
        told.insert("bytes".to_owned(), json!(inventory.bytes()));
        told.insert("epochs".to_owned(), json!(epochs));
        let hours = inventory.bridged().map(|length| length.as_secs_f64() / 3600.0);
        told.insert("outage_hours_bridged".to_owned(), json!(hours));
    }
    Ok(told)
}

fn line(out: &mut String, label: &str, text: &str) {
    out.push_str(&format!("{} {text}\n", Paint::for_stdout().dim(&format!("{label:<10}"))));
}

pub(super) fn stats_text(view: View, target: &Target, inventory: &Inventory) -> String {
    let mut out = String::new();
    line(&mut out, "journal", &format!("{}, {}", target.dir.display(), view.as_str()));
    match (&inventory.gateway, &inventory.site) {
        (Some(gateway), Some(site)) => line(&mut out, "gateway", &format!("{gateway} at {site}")),
        _ => line(&mut out, "gateway", "the files do not say"),
    }
    let of = inventory.bytes_max.map_or_else(String::new, |max| format!(" of {}", bytes(max)));
    line(&mut out, "segments", &format!("{}, {}{of} on disk", inventory.segments.len(), bytes(inventory.bytes())));
    let Inventory { waiting, settled, .. } = inventory;
    line(&mut out, "entries", &format!("{waiting} wait for the broker, {settled} are settled and not removed yet"));
    let epochs = inventory.epochs();
    for (epoch, first, last) in epochs.iter().rev().take(EPOCHS_SHOWN).rev() {
        line(&mut out, "epoch", &format!("{epoch}: {first} to {last}"));
    }
    if epochs.len() > EPOCHS_SHOWN {
        line(&mut out, "", &format!("and {} epochs before", epochs.len() - EPOCHS_SHOWN));
    }
    let time = |at: Option<crate::measure::Utc>| at.map_or_else(|| "not known".to_owned(), |at| at.rfc3339());
    line(&mut out, "time", &format!("{} to {}", time(inventory.oldest), time(inventory.newest)));
    match inventory.growth_bytes_per_day {
        Some(growth) => line(&mut out, "grows", &format!("{} a day", bytes(growth))),
        None => line(&mut out, "grows", "too little to tell"),
    }
    if let Some(written) = inventory.written_bytes_per_day {
        let whole = inventory
            .device_bytes_per_day
            .map_or_else(String::new, |all| format!("; all programs on that disk together {} a day", bytes(all)));
        line(&mut out, "writes", &format!("{} a day{whole}", bytes(written)));
    }
    let bridged = match inventory.bridged() {
        Some(length) => format!("{:.1} h of outage from now on, at that rate", length.as_secs_f64() / 3600.0),
        None if inventory.bytes_max.is_none() => "not known without the configuration (-c)".to_owned(),
        None => "too little to tell".to_owned(),
    };
    line(&mut out, "bridges", &bridged);
    for name in &inventory.quarantined {
        let path = target.dir.join("quarantine").join(name);
        line(&mut out, "put aside", &format!("{}: a damaged segment", path.display()));
    }
    out
}

pub(super) fn list_text(view: View, target: &Target, inventory: &Inventory) -> String {
    let mut out = format!("{}, {}\n", target.dir.display(), view.as_str());
    out += &format!(
        "{:<16}  {:>10} {:>10} {:>17} {:>10} {:>9} {:>8}  {:<24} state\n",
        "segment", "first", "last", "epoch", "bytes", "points", "waiting", "newest"
    );
    for segment in &inventory.segments {
        let or_dash = |value: Option<String>| value.unwrap_or_else(|| "–".to_owned());
        let state = match (segment.newer, segment.damaged, segment.sealed) {
            (Some(version), ..) => format!("newer: version {version}, left alone"),
            (None, true, _) => "damaged".to_owned(),
            (None, false, true) => "complete".to_owned(),
            (None, false, false) if view == View::Agent => "being written".to_owned(),
            (None, false, false) => "not completed".to_owned(),
        };
        out += &format!(
            "{:016x}  {:>10} {:>10} {:>17} {:>10} {:>9} {:>8}  {:<24} {state}\n",
            segment.first.0,
            segment.first.0,
            segment.last.0,
            or_dash(segment.epoch.map(|epoch| epoch.to_string())),
            bytes(segment.bytes),
            or_dash(segment.points.map(|points| points.to_string())),
            segment.waiting,
            or_dash(segment.newest.map(crate::measure::Utc::rfc3339)),
        );
    }
    out
}

pub(super) fn verify_text(target: &Target, report: &VerifyReport) -> String {
    let VerifyReport { view, segments, chunks, entries, points, newer, incomplete, findings, left_alone } = report;
    let mut out = format!("{}, {}\n", target.dir.display(), view.as_str());
    out += &format!("{segments} segments, {chunks} chunks, {entries} entries with {points} values read\n");
    if *view == View::FilesBesideAgent {
        out += "the segment that the agent writes is not looked at\n";
    }
    if *newer > 0 {
        out += &format!("{newer} entries were written by a newer agent; they are kept for it\n");
    }
    if let Some(first) = incomplete {
        out += &format!("segment {:016x} was not completed; the next start does that\n", first.0);
    }
    out += &left_alone_text(left_alone);
    for finding in findings {
        let range = finding.range.map_or_else(String::new, |(from, to)| {
            format!(" {from} to {to} ({} of them wait for the broker)", finding.waiting)
        });
        out += &Paint::for_stdout().bad(&format!("{}:{range} {}\n", finding.file.display(), finding.what));
    }
    out += if findings.is_empty() {
        "good\n"
    } else {
        "what waits and cannot be read will be told as a gap; `journal repair` does that now, with the agent stopped\n"
    };
    out
}

/// What a newer program wrote, a line each.
fn left_alone_text(left_alone: &[Finding]) -> String {
    let line = |finding: &Finding| {
        let range = finding.range.map_or_else(String::new, |(from, to)| format!(" {from} to {to}"));
        format!("{}:{range} {}\n", finding.file.display(), finding.what)
    };
    left_alone.iter().map(line).collect()
}

pub(super) fn repaired_text(target: &Target, repaired: &Repaired) -> String {
    let Repaired { findings, rewritten, set_aside, entries_lost, left_alone, completed } = repaired;
    let mut out = format!("{}, {}\n", target.dir.display(), View::Files.as_str());
    out += &left_alone_text(left_alone);
    if findings.is_empty() && !completed {
        return out + "nothing is damaged; nothing was changed\n";
    }
    if *completed {
        out += "the newest segment, cut short, was completed\n";
    }
    for finding in findings {
        out += &format!("found: {}: {}\n", finding.file.display(), finding.what);
    }
    for first in rewritten {
        out += &format!("segment {:016x}: what is intact was written anew\n", first.0);
    }
    for first in set_aside {
        out += &format!("segment {:016x}: nothing in it is needed any more\n", first.0);
    }
    if !findings.is_empty() {
        out += &format!("damaged originals: {} (the newest two)\n", target.dir.join("quarantine").display());
    }
    out + &format!("{entries_lost} entries are lost and told as a gap\n")
}

pub(super) fn purged_text(view: View, target: &Target, purged: &Purged) -> String {
    let Purged { entries, segments, newer, undated, counted_from } = purged;
    let mut out = format!("{}, {}\n", target.dir.display(), view.as_str());
    out += &match (segments, view) {
        (0, _) => "nothing is older; nothing was given up\n".to_owned(),
        (_, View::Agent) => {
            format!("{entries} entries in {segments} segments are given up; the next window tells it\n")
        }
        (..) => format!("{entries} entries in {segments} segments are given up; a gap entry tells it\n"),
    };
    if let Some(from) = counted_from {
        out += &format!("counted from {}\n", from.rfc3339());
    }
    if *newer > 0 {
        out += &format!("{newer} segments stay: a newer program wrote them, or entries in them\n");
    }
    if *undated > 0 {
        out += &format!("{undated} segments stay: no clock that could be believed says how old they are\n");
    }
    out
}
