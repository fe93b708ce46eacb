//! Entries as line protocol, JSON lines or CSV.

use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;

use anyhow::Result;
use serde_json::{Value, json};

use super::csv::quoted;
use super::sessions::Sessions;
use super::{Target, Where};
use crate::cli::Exit;
use crate::cli::show::{Stdout, note};
use crate::journal::{Archive, Place, View};
use crate::measure::{Energy, EnergyDelta, Entry, EventKind, IntervalValue, PointColumn, PointInterval, Seq};
use crate::spec::SessionId;
use crate::uplink::wire;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) place: Where,
    /// lp: what the broker gets, to the byte. json: one object a line. csv: one value a line
    #[arg(long, value_enum, default_value = "lp", conflicts_with = "json")]
    format: Format,
    /// The first number
    #[arg(long, value_name = "SEQ", default_value_t = 1)]
    from: u64,
    /// The last number
    #[arg(long, value_name = "SEQ", default_value_t = u64::MAX)]
    to: u64,
    /// Only what the broker has not acknowledged
    #[arg(long)]
    waiting: bool,
    /// The charging sessions in these entries, of each the newest news: as CSV, or JSON lines with --json
    #[arg(long)]
    sessions: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Lp,
    Json,
    Csv,
}

const CSV_HEAD: &str = "epoch,seq,time,clock,device,vehicle,point,unit,value,min,max,readings,quality,session";

/// What was written, and what could not be.
#[derive(Debug, Default)]
struct Tally {
    entries: u64,
    newer: u64,
    holes: Vec<(Seq, Seq)>,
}

pub(super) fn run(target: &Target, arguments: &Arguments) -> Result<Exit> {
    let archive = Archive::open(&target.dir)?;
    let view = archive.view();
    note(format_args!("{}, {}", target.dir.display(), view.as_str()));
    if view == View::FilesBesideAgent {
        note("the segment that the agent writes is left out");
    }
    let format = if arguments.place.json { Format::Json } else { arguments.format };
    let mut out = BufWriter::new(Stdout::new());
    match export(&archive, target, arguments, format, &mut out) {
        Ok(tally) => {
            if archive.view() != view {
                note(format_args!("an agent has started meanwhile: {}", archive.view().as_str()));
            }
            note(format_args!("{} entries", tally.entries));
            if tally.newer > 0 {
                note(format_args!("{} entries of a newer agent cannot be read by this one", tally.newer));
            }
            for (from, to) in &tally.holes {
                note(format_args!("{from} to {to} are damaged or missing"));
            }
            Ok(if tally.holes.is_empty() { Exit::Fine } else { Exit::Wrong })
        }
        Err(error) => Err(error),
    }
}

fn export(
    archive: &Archive,
    target: &Target,
    arguments: &Arguments,
    format: Format,
    out: &mut impl Write,
) -> Result<Tally> {
    let mut sessions = arguments.sessions.then(Sessions::default);
    match format {
        Format::Lp => {}
        _ if sessions.is_some() => {}
        Format::Json => writeln!(out, "{}", json!({ "view": archive.view(), "journal": target.dir }))?,
        Format::Csv => writeln!(out, "{CSV_HEAD}")?,
    }
    let mut tally = Tally::default();
    let mut failed = None;
    archive.read((Seq(arguments.from), Seq(arguments.to)), |place| {
        let written = match place {
            Place::Entry(_, false) if arguments.waiting => Ok(()),
            Place::Entry(entry, waits) => {
                tally.entries += 1;
                if let Some(sessions) = &mut sessions {
                    sessions.take(&entry);
                    return ControlFlow::Continue(());
                }
                match format {
                    // A batch ends without a line feed only if it is empty.
                    Format::Lp => out.write_all(with_line_feed(wire::payload_of(&entry)).as_bytes()),
                    Format::Json => writeln!(out, "{}", as_json(&entry, waits)),
                    Format::Csv => as_csv(&entry, out),
                }
            }
            Place::Newer { from, to, version } => {
                tally.newer += to.0 - from.0 + 1;
                if format == Format::Json && sessions.is_none() {
                    writeln!(out, "{}", json!({ "newer": from, "to": to, "version": version }))
                } else {
                    Ok(())
                }
            }
            Place::Hole { from, to } => {
                tally.holes.push((from, to));
                if format == Format::Json && sessions.is_none() {
                    writeln!(out, "{}", json!({ "hole": { "from": from, "to": to } }))
                } else {
                    Ok(())
                }
            }
        };
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    match failed {
        Some(error) => return Err(error.into()),
        None => {
            if let Some(sessions) = sessions {
                note(format_args!("{} charging sessions", sessions.count()));
                if format == Format::Json { sessions.write_json(out)? } else { sessions.write_csv(out)? }
            }
            out.flush()?;
        }
    }
    Ok(tally)
}

fn with_line_feed(mut text: String) -> String {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// The points of an interval with their columns; a column that the schema does not have cannot be named.
fn named(entry: &Entry) -> impl Iterator<Item = (&crate::measure::Interval, Option<&crate::measure::SeriesSpec>)> {
    entry.window.intervals.iter().map(|i| (i, entry.schema.series.get(usize::from(i.device.0))))
}

fn column<'a>(series: Option<&'a crate::measure::SeriesSpec>, point: &PointInterval) -> Option<&'a PointColumn> {
    series?.points.get(usize::from(point.point.0))
}

fn as_json(entry: &Entry, waits: bool) -> Value {
    let window = &entry.window;
    let points = |series, points: &[PointInterval]| -> Vec<Value> {
        points.iter().map(|point| point_json(column(series, point), point)).collect()
    };
    let devices: Vec<Value> = named(entry)
        .map(|(interval, series)| {
            json!({
                "device": series.map(|series| series.device.as_str()),
                "kind": series.map(|series| series.kind.as_str()),
                "vehicle": interval.vehicle,
                "session": interval.session,
                "direction": interval.direction,
                "points": points(series, &interval.points),
                "energy": energy_json(interval.energy),
            })
        })
        .collect();
    let event = |event: &crate::measure::Event| {
        // What an event says is behind its name, if it says anything.
        let detail = match serde_json::to_value(&event.kind) {
            Ok(Value::Object(named)) => named.into_iter().next().map(|(_, detail)| detail),
            _ => None,
        };
        json!({ "kind": event.kind.name(), "device": event.device, "session": session_of(event), "detail": detail })
    };
    json!({
        "gateway": entry.schema.gateway,
        "site": entry.schema.site,
        "epoch": entry.identity.epoch,
        "seq": entry.identity.seq,
        "time": window.end.utc.rfc3339(),
        "time_ns": window.end.utc,
        "clock": window.end.trust,
        "length_s": window.length.as_secs_f64(),
        "waiting": waits,
        "devices": devices,
        "rollup": window.site,
        "rollup_energy": window.site.as_ref().map(|site| energy_json(site.energy)),
        "events": window.events.iter().map(event).collect::<Vec<_>>(),
    })
}

/// What is known of energy, as far as it is.
fn energy_json(Energy { import, export, known }: Energy) -> Value {
    let delta = |delta: EnergyDelta| json!({ "kwh": delta.kwh(), "source": delta.source });
    json!({
        "import_delta": import.map(delta),
        "export_delta": export.map(delta),
        "known_s": known.map(|known| known.as_secs_f64()),
    })
}

/// The charging session that an event is of.
fn session_of(event: &crate::measure::Event) -> Option<&SessionId> {
    if let EventKind::Session(told) = &event.kind { told.session.as_ref() } else { None }
}

fn point_json(column: Option<&PointColumn>, point: &PointInterval) -> Value {
    let mut told = json!({
        "point": column.map(|column| column.field.as_str()),
        "unit": column.map(|column| column.unit.symbol()),
    });
    let more = match &point.value {
        IntervalValue::Float(s) => json!({ "value": s.value, "min": s.min, "max": s.max, "readings": s.count }),
        IntervalValue::Integer(code) => json!({ "value": code }),
        IntervalValue::Text(word) => json!({ "value": word }),
        IntervalValue::Missing(why) => json!({ "missing": why.as_str() }),
    };
    if let (Some(told), Value::Object(more)) = (told.as_object_mut(), more) {
        told.extend(more);
        if let Some(questionable) = point.questionable {
            told.insert("suspect".to_owned(), json!(questionable.as_str()));
        }
    }
    told
}

fn as_csv(entry: &Entry, out: &mut impl Write) -> io::Result<()> {
    let window = &entry.window;
    let identity = entry.identity;
    let head =
        format!("{},{},{},{}", identity.epoch, identity.seq, window.end.utc.rfc3339(), window.end.trust.as_str());
    for (interval, series) in named(entry) {
        let device = series.map_or("", |series| series.device.as_str());
        let vehicle = interval.vehicle.as_ref().map_or("", |vehicle| vehicle.as_str());
        let session = interval.session.as_ref().map_or("", |session| session.as_str());
        for point in &interval.points {
            let column = column(series, point);
            let (name, unit) = column.map_or(("", ""), |column| (column.field.as_str(), column.unit.symbol()));
            let quality = point.questionable.map_or("good", |questionable| questionable.as_str());
            let rest = match &point.value {
                IntervalValue::Float(s) => format!("{},{},{},{},{quality}", s.value, s.min, s.max, s.count),
                IntervalValue::Integer(code) => format!("{code},,,,{quality}"),
                IntervalValue::Text(word) => format!("{},,,,{quality}", quoted(word)),
                IntervalValue::Missing(why) => format!(",,,,{}", why.as_str()),
            };
            writeln!(out, "{head},{device},{vehicle},{name},{unit},{rest},{session}")?;
        }
        for (name, unit, value) in energy_rows(interval.energy) {
            writeln!(out, "{head},{device},{vehicle},{name},{unit},{value},,,,good,{session}")?;
        }
    }
    for event in &window.events {
        let device = event.device.as_ref().map_or("", |device| device.as_str());
        let session = session_of(event).map_or("", |session| session.as_str());
        writeln!(out, "{head},{device},,event,,{},,,,,{session}", event.kind.name())?;
    }
    Ok(())
}

/// What is known of energy, by the names of the wire.
fn energy_rows(Energy { import, export, known }: Energy) -> impl Iterator<Item = (&'static str, &'static str, f64)> {
    let deltas = [("energy_import_delta", import), ("energy_export_delta", export)];
    let deltas = deltas.into_iter().filter_map(|(name, delta)| Some((name, "kWh", delta?.kwh())));
    deltas.chain(known.map(|known| ("known_s", "s", known.as_secs_f64())))
}
