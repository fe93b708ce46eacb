//! `v2g-edge check`: every mistake of a configuration at once.

use anyhow::Result;
use serde_json::json;

use super::{ConfigPath, Exit};
use crate::config::{self, Summary};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigPath,
    /// One JSON object on stdout: `{"ok":…,"faults":[…],"summary":…}`
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit> {
    match config::load(&arguments.config.config) {
        Ok(plan) => {
            if arguments.json {
                println!("{}", json!({ "ok": true, "faults": [], "summary": plan.summary() }));
            } else {
                println!("{}: good", arguments.config.config.display());
                print!("{}", text(&plan.summary()));
            }
            Ok(Exit::Fine)
        }
        Err(faults) => {
            if arguments.json {
                println!("{}", json!({ "ok": false, "faults": faults }));
            } else {
                eprintln!("{faults}");
            }
            Ok(Exit::Usage)
        }
    }
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
    }
    out
}
