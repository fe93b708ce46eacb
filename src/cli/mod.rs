//! What a person types. One file per command; each does its work through the other rooms and decides nothing
//! about data.
//!
//! Exit codes, the same for every command: 0 fine, 1 found something wrong, 2 usage or configuration,
//! 3 could not do it; 128 and the signal's number if one has ended it. A command whose reader has gone (`| head`) ends without a
//! word and with 0. SIGPIPE stays ignored, as in every Rust program: its default would end a command at a peer's reset, too, for
//! sockets that are written to with `writev` raise it. So stdout is written only by way of [`show`], which tells the two apart. Every command has `--json`; what a machine reads goes to stdout, all else to stderr.

#![warn(clippy::print_stdout, clippy::print_stderr, reason = "they panic when nobody reads: show writes")]

mod audit;
mod check;
#[cfg(feature = "demo")]
mod demo;
mod doctor;
mod doctor_ports;
mod journal;
mod probe;
mod run;
mod show;
mod status;
mod update;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

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
    /// A signal has ended it, after it had cleared away.
    #[cfg(feature = "demo")]
    Signal(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Fine => 0,
            Exit::Wrong => 1,
            Exit::Usage => 2,
            Exit::Failed => 3,
            // As a shell counts them.
            #[cfg(feature = "demo")]
            Exit::Signal(number) => 128 + number,
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
    /// Update the whole box: install a bundle, see how it goes; a version that does not deliver is taken back
    Update(update::Arguments),
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

/// The command line, for what is made of it: man pages and completions (`configs/package/assets.rs`).
#[must_use]
pub fn command() -> clap::Command {
    Arguments::command()
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
        Command::Update(arguments) => update::run(&arguments),
        #[cfg(feature = "demo")]
        Command::Demo(arguments) => demo::run(&arguments),
    };
    exit.unwrap_or_else(|error| {
        if show::is_unread(&error) {
            return Exit::Fine;
        }
        show::complain(format_args!("{error:#}"));
        Exit::Failed
    })
    .into()
}
