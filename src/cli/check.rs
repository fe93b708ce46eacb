//! `v2g-edge check`: every mistake of a configuration at once.

use anyhow::Result;
use serde_json::json;

use super::show::{note, print, print_line};
use super::{ConfigPath, Exit};
use crate::config::{self, DepotSummary, Summary};
use crate::net::TlsFiles;
use crate::tls;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigPath,
    /// One JSON object on stdout: `{"ok":…,"faults":[…],"files":[…],"summary":…}`
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit> {
    match config::load(&arguments.config.config) {
        Ok(plan) => {
            // What is in a file that the configuration names is none of its own mistakes, and a reason to mend it as good.
            let problems = plan.uplink.tls.as_ref().map(of_files).unwrap_or_default();
            if !problems.is_empty() {
                if arguments.json {
                    print_line(json!({ "ok": false, "faults": [], "files": problems, "summary": plan.summary() }));
                } else {
                    problems.iter().for_each(|problem| {
                        note(format_args!("{}: {problem}", arguments.config.config.display()));
                    });
                }
                return Ok(Exit::Usage);
            }
            if arguments.json {
                print_line(json!({ "ok": true, "faults": [], "summary": plan.summary() }));
            } else {
                print_line(format_args!("{}: good", arguments.config.config.display()));
                print(text(&plan.summary()));
            }
            Ok(Exit::Fine)
        }
        Err(faults) => {
            if arguments.json {
                print_line(json!({ "ok": false, "faults": faults }));
            } else {
                note(&faults);
            }
            Ok(Exit::Usage)
        }
    }
}

/// Why no connection can be made with these files.
fn of_files(files: &TlsFiles) -> Vec<String> {
    let unusable = tls::examine(files).err().map(|error| format!("[uplink.tls]: {error}"));
    let bearer = files.own.as_ref().and_then(tls::bearer);
    let refused = bearer.and_then(|bearer| {
        Some(format!("{}, the certificate of [uplink.tls], {}", bearer.path.display(), bearer.problem()?))
    });
    unusable.into_iter().chain(refused).collect()
}

/// The grid connection: by what it is known, and how much it may carry.
fn depot_text(depot: &DepotSummary) -> String {
    let known_by = match &depot.meter {
        Some(meter) => format!("measured by {meter}"),
        None => "without a meter, the sum of charge points, batteries and inverters".to_owned(),
    };
    let limit =
        |kw: Option<f64>, what| kw.map_or_else(|| format!("no {what} limit"), |kw| format!("{what} up to {kw} kW"));
    let (import, export) = (limit(depot.import_max_kw, "import"), limit(depot.export_max_kw, "export"));
    format!("grid connection: {known_by}; {import}, {export}; V2G down to {} %", depot.v2g_soc_floor)
}

fn text(summary: &Summary) -> String {
    let mut out = format!(
        "{} at {}: {} devices with {} points, {:.0} values a second, windows of {} ms\n",
        summary.gateway,
        summary.site,
        summary.devices.len(),
        summary.points,
        summary.values_per_second,
        summary.window_ms
    );
    out += &format!("to {} below {}\n", summary.brokers.join(", then "), summary.topic_prefix);
    out += &format!("{}\n", depot_text(&summary.depot));
    for device in &summary.devices {
        let pace = if device.requests_per_second > 0.0 {
            format!("{:.1} requests a second", device.requests_per_second)
        } else {
            "speaks by itself".to_owned()
        };
        out += &format!(
            "  {:<16} {} on {} at {}{}{}: {}, {} points, {pace}\n",
            device.id,
            device.kind.as_str(),
            device.bus,
            device.address,
            device.unit.map(|unit| format!(" unit {unit}")).unwrap_or_default(),
            device.connector.map(|connector| format!(" connector {connector}")).unwrap_or_default(),
            device.profile,
            device.points
        );
        for derived in &device.derived {
            out += &format!("      {} is worked out: {}\n", derived.point, derived.of);
        }
    }
    out
}
