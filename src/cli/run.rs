//! `v2g-edge run`: the agent itself.

use std::io::{self, Write};

use anyhow::Result;

use super::{ConfigPath, Exit};
use crate::agent::{self, AgentError, Options};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigPath,
    /// Log filter in place of the configuration's, as `debug` or `info,v2g_edge::uplink=debug`
    #[arg(long, value_name = "FILTER", env = "V2G_EDGE_LOG")]
    log: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit> {
    let options = Options { config: arguments.config.config.clone(), log: arguments.log.clone() };
    match agent::run(&options) {
        Ok(()) => Ok(Exit::Fine),
        Err(AgentError::Config(faults)) => {
            let _ = writeln!(io::stderr(), "{faults}");
            Ok(Exit::Usage)
        }
        Err(error) => Err(error.into()),
    }
}
