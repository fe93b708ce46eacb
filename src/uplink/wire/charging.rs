//! A charging session as a line. Its time stamp is the session's start, so that a database keeps one row for each.

use std::time::Duration;

use super::event::SESSION;
use super::line::Line;
use crate::measure::{ChargingSession, Energy, EnergyDelta, EnergySource, Utc};
use crate::spec::VehicleId;

const S: i64 = 1_000_000_000;

/// All that is known of a session; `end` is that of the window that tells it.
pub(super) fn charging_session(line: Line, session: &ChargingSession, end: Utc) -> Line {
    let vehicle = session.vehicle.as_ref().map(VehicleId::as_str);
    let mut line = match vehicle.filter(|_| session.is_of_vehicle) {
        Some(vehicle) => line.tag("vehicle_id", vehicle),
        None => line,
    };
    line.text(SESSION, session.id.as_str());
    if let Some(vehicle) = vehicle {
        line.text("vehicle", vehicle);
    }
    line.text("state", session.state.as_str());
    for (key, text) in [("phase", &session.phase), ("reason", &session.reason)] {
        if !text.is_empty() {
            line.text(key, text);
        }
    }
    line.text("known_by", session.source.as_str());
    line.integer("joined", session.is_joined.into());
    let (start, until) = (session.start.utc(end), session.until.utc(end));
    line.integer("start", start.0.div_euclid(S));
    line.integer("end", until.0.div_euclid(S));
    seconds(&mut line, "duration_s", Duration::from_nanos(u64::try_from(until.0 - start.0).unwrap_or(0)));
    energy(&mut line, session);
    seconds(&mut line, "charging_s", session.charging);
    seconds(&mut line, "discharging_s", session.discharging);
    seconds(&mut line, "idle_s", session.idle);
    line.float("power_import_peak", "", session.import_max_kw);
    line.float("power_export_peak", "", session.export_max_kw);
    let pairs = [("soc", session.soc), ("meter_import", session.meter_import), ("meter_export", session.meter_export)];
    for (key, (first, newest)) in pairs.into_iter().filter_map(|(key, pair)| Some((key, pair?))) {
        line.float(key, "_start", first);
        line.float(key, "_end", newest);
    }
    line
}

fn energy(line: &mut Line, session: &ChargingSession) {
    let Energy { import, export, known } = session.energy;
    let kwh = |delta: Option<EnergyDelta>| delta.map_or(0.0, EnergyDelta::kwh);
    let (imported, exported) = (kwh(import), kwh(export));
    line.float("energy_import", "", imported);
    line.float("energy_export", "", exported);
    let sources = [import, export].into_iter().flatten().map(|delta| delta.source);
    if let Some(source) = sources.reduce(EnergySource::with) {
        line.text("energy_source", source.as_str());
    }
    // Of what flowed: 0 for a session that only charged.
    if imported + exported > 0.0 {
        line.float("v2g_share", "", exported / (imported + exported));
    }
    let mean = |kwh: f64, time: Duration| (!time.is_zero()).then(|| kwh * 3600.0 / time.as_secs_f64());
    if let Some(kw) = mean(imported, session.charging) {
        line.float("power_import_mean", "", kw);
    }
    if let Some(kw) = mean(exported, session.discharging) {
        line.float("power_export_mean", "", kw);
    }
    if let Some(known) = known {
        seconds(line, "known_s", known);
    }
}

fn seconds(line: &mut Line, key: &'static str, time: Duration) {
    line.float(key, "", time.as_secs_f64());
}
