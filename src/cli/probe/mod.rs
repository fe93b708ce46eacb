//! `v2g-edge probe`: what is on a wire, without a configuration. Nothing is written to a device or sent on a bus but
//! the reads that are asked for.

mod can;
mod guess;
mod link;
mod modbus;
mod sunspec;

use anyhow::Result;

use super::Exit;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    protocol: Protocol,
}

#[derive(Debug, clap::Subcommand)]
enum Protocol {
    /// Which units are on a Modbus line or server, what they are, and every point with its raw words
    Modbus(modbus::Arguments),
    /// What a SunSpec device says of itself: its chain of models, and every point of them
    Sunspec(sunspec::Arguments),
    /// What passes on a CAN bus: ids, rates, load; decoded with a DBC file
    Can(can::Arguments),
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit> {
    match &arguments.protocol {
        Protocol::Modbus(arguments) => modbus::run(arguments),
        Protocol::Sunspec(arguments) => sunspec::run(arguments),
        Protocol::Can(arguments) => can::run(arguments),
    }
}
