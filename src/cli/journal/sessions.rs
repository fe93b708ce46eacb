//! The charging sessions in a journal: of each the newest news, as CSV or JSON lines.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::csv::quoted;
use crate::measure::{ChargingSession, Energy, EnergyDelta, EnergySource, Entry, Utc};
use crate::spec::{DeviceId, SessionId};

/// The columns, by the names of the wire with their units.
const COLUMNS: [&str; 27] = [
    "start",
    "end",
    "device",
    "session_id",
    "vehicle",
    "state",
    "phase",
    "reason",
    "known_by",
    "joined",
    "duration_s",
    "energy_import_kwh",
    "energy_export_kwh",
    "energy_source",
    "known_s",
    "charging_s",
    "discharging_s",
    "idle_s",
    "power_import_peak_kw",
    "power_export_peak_kw",
    "soc_start",
    "soc_end",
    "meter_import_start_kwh",
    "meter_import_end_kwh",
    "meter_export_start_kwh",
    "meter_export_end_kwh",
    "clock",
];

/// What is known of the sessions in the entries so far, in the order in which they were told first.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    newest: Vec<((DeviceId, SessionId), Row)>,
}

type Row = [Value; COLUMNS.len()];

impl Sessions {
    /// Takes the next entry, in order.
    pub(super) fn take(&mut self, entry: &Entry) {
        for session in &entry.window.sessions {
            let Some(series) = entry.schema.series.get(usize::from(session.device.0)) else { continue };
            let (key, row) = ((series.device.clone(), session.id.clone()), row(&series.device, session, entry));
            match self.newest.iter_mut().find(|(known, _)| *known == key) {
                Some((_, known)) => *known = row,
                None => self.newest.push((key, row)),
            }
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.newest.len()
    }

    /// One object a line.
    pub(super) fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        for (_, row) in &self.newest {
            let named = COLUMNS.iter().map(|name| (*name).to_owned()).zip(row.iter().cloned());
            writeln!(out, "{}", Value::Object(named.collect()))?;
        }
        Ok(())
    }

    /// A head, and one row for each; what is not known is empty.
    pub(super) fn write_csv(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}", COLUMNS.join(","))?;
        for (_, row) in &self.newest {
            let cell = |value: &Value| match value {
                Value::Null => String::new(),
                Value::String(text) => quoted(text),
                other => other.to_string(),
            };
            writeln!(out, "{}", row.iter().map(cell).collect::<Vec<_>>().join(","))?;
        }
        Ok(())
    }
}

fn row(device: &DeviceId, session: &ChargingSession, entry: &Entry) -> Row {
    let end = entry.window.end;
    let (start, until) = (session.start.utc(end.utc), session.until.utc(end.utc));
    let Energy { import, export, known } = session.energy;
    let kwh = |delta: Option<EnergyDelta>| delta.map_or(0.0, EnergyDelta::kwh);
    let source = [import, export].into_iter().flatten().map(|delta| delta.source).reduce(EnergySource::with);
    let first = |pair: Option<(f64, f64)>| json!(pair.map(|(first, _)| first));
    let newest = |pair: Option<(f64, f64)>| json!(pair.map(|(_, newest)| newest));
    [
        json!(start.rfc3339()),
        json!(until.rfc3339()),
        json!(device),
        json!(session.id),
        json!(session.vehicle),
        json!(session.state),
        json!(&*session.phase),
        json!(&*session.reason),
        json!(session.source),
        json!(session.is_joined),
        json!(seconds_between(start, until)),
        json!(kwh(import)),
        json!(kwh(export)),
        json!(source),
        json!(known.map(|known| known.as_secs_f64())),
        json!(session.charging.as_secs_f64()),
        json!(session.discharging.as_secs_f64()),
        json!(session.idle.as_secs_f64()),
        json!(session.import_max_kw),
        json!(session.export_max_kw),
        first(session.soc),
        newest(session.soc),
        first(session.meter_import),
        newest(session.meter_import),
        first(session.meter_export),
        newest(session.meter_export),
        json!(end.trust),
    ]
}

/// To the millisecond, as both are.
#[allow(clippy::cast_precision_loss, reason = "a session of 10^12 ms would be 30 years")]
fn seconds_between(start: Utc, until: Utc) -> f64 {
    ((until.0 - start.0) / 1_000_000) as f64 / 1e3
}
