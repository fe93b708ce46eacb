//! `v2g-edge probe`: what is on a wire, without a configuration. Nothing is written to a device or sent on a bus but
//! the reads that are asked for.

mod can;

use anyhow::Result;

use super::Exit;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    wire: Wire,
}

#[derive(Debug, clap::Subcommand)]
enum Wire {
    /// What passes on a CAN bus: ids, rates, load; decoded with a DBC file
    Can(can::Arguments),
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit> {
    match &arguments.wire {
        Wire::Can(arguments) => can::run(arguments),
    }
}
