//! What a person types. One file per command; each does its work through the other rooms and decides nothing
//! about data.
//!
//! Exit codes, the same for every command: 0 fine, 1 found something wrong, 2 usage or configuration,
//! 3 could not do it. Every command has `--json`; what a machine reads goes to stdout, all else to stderr.

mod audit;
mod check;
#[cfg(feature = "demo")]
mod demo;
mod doctor;
mod journal;
mod probe;
mod run;
mod show;
mod status;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    /// All is well.
    Fine,
    /// The command worked and found something wrong.
    Wrong,
    /// The call or the configuration is wrong.
    Usage,
    /// It could not be done.
    Failed,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Fine => 0,
            Exit::Wrong => 1,
            Exit::Usage => 2,
            Exit::Failed => 3,
        })
    }
}

/// Where the configuration is, on an installed gateway.
const CONFIG: &str = "/etc/v2g-edge/gateway.toml";

#[derive(Debug, Parser)]
#[command(name = "v2g-edge", version, about = "The edge gateway of a V2G depot", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent in the foreground (what systemd starts)
    Run(run::Arguments),
    /// Check a configuration: every mistake at once, with its line and what to write
    Check(check::Arguments),
    /// Ask the running agent how it is
    Status(status::Arguments),
    /// What is on a wire: ids, rates, values; no configuration needed
    Probe(probe::Arguments),
    /// Look for what would keep this gateway from working: clock, disk, certificates, brokers
    Doctor(doctor::Arguments),
    /// Look into the journal: what waits, whether it is whole, what it says; repair it, make it forget
    Journal(journal::Arguments),
    /// Listen at the broker and judge: gaps, duplicates, order, latency
    Audit(audit::Arguments),
    /// Show the whole product in half a minute: a simulated depot, a WAN outage, a killed agent, an audit
    #[cfg(feature = "demo")]
    Demo(demo::Arguments),
}

#[derive(Debug, clap::Args)]
struct ConfigPath {
    /// The configuration file
    #[arg(long, short, value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,
}

/// Does what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    let exit = match Arguments::parse().command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Probe(arguments) => probe::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Journal(arguments) => journal::run(&arguments),
        Command::Audit(arguments) => audit::run(&arguments),
        #[cfg(feature = "demo")]
        Command::Demo(arguments) => demo::run(&arguments),
    };
    exit.unwrap_or_else(|error| {
        eprintln!("v2g-edge: {error:#}");
        Exit::Failed
    })
    .into()
}
