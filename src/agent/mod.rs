//! The only room that knows all rooms: it assembles them into a generation of tasks, supervises it, and ends it in order.
//!
//! In: a configuration file. Out: a running agent, until SIGTERM or SIGINT.
//!
//! ```text
//! run ──▶ generation ──▶ generation ──▶ …          a generation = one plan, one epoch of the journal, all tasks
//!          │ SIGHUP with a good plan, or a task that failed: the generation ends in order, the next begins
//!          └ SIGTERM: sources stop, the last window is kept, the uplink drains, the journal closes
//! ```
//!
//! - A generation begins with any of these broken: bus, broker, disk, clock, the certificates of a mirror feed. It says
//!   READY once its tasks run.
//! - A task that panics ends its generation, not the process; more than [`FAULTS_MAX`] such ends within
//!   [`FAULTS_WITHIN`] and the process exits with an error, so that systemd decides.
//! - A reload that does not pass `check` changes nothing; the log, `status` and systemd say so. The gateway's id, its site and the state directory
//!   cannot change in a running agent: they are the identity of what the journal holds.
//! - After an update of the box it says what is still waited for, and tells the update's events; it decides nothing ([`confirm`]).

#[cfg(feature = "bench")]
pub mod bench;
pub mod confirm;
mod generation;
mod key_file;
mod pipeline;
mod probe_command;
mod task;
pub mod wiring;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::{Faults, Plan};
use crate::health::LogError;
use crate::journal;

pub use task::run;

/// So many failed generations …
pub const FAULTS_MAX: usize = 5;
/// … within this time are a fault that a restart inside the process does not cure.
pub const FAULTS_WITHIN: Duration = Duration::from_secs(600);

/// Where the agent finds its plan.
#[derive(Debug, Clone)]
pub struct Options {
    /// The configuration file; read at the start and at each SIGHUP.
    pub config: PathBuf,
    /// In place of the plan's log filter.
    pub log: Option<String>,
}

/// Why the agent ended otherwise than by a signal. What was durable in the journal is still there.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The configuration does not pass `check`. Nothing was started.
    #[error("{0}")]
    Config(Faults),
    /// No log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Another agent holds the journal, or it belongs to another gateway.
    #[error("the journal cannot be opened")]
    Journal(#[from] journal::OpenError),
    /// The kernel gives no runtime (out of file descriptors or memory).
    #[error("the runtime cannot be started")]
    Runtime(#[source] std::io::Error),
    /// It failed too often.
    #[error("{FAULTS_MAX} failures within 10 minutes, the last in {task}; see the log above")]
    Worn {
        /// The task that failed last.
        task: String,
    },
}

/// Characters of what is told of a refused reload in one line: a mistake can quote a line of any length.
const REFUSED_CHARS_MAX: usize = 300;

/// Why a running agent goes on with the configuration that it has.
struct ReloadRefused {
    /// All that is wrong, over many lines.
    all: String,
    /// The first of it and what to do, in one.
    line: String,
}

/// The configuration, or why a running agent does not take it.
fn reloaded(current: &Plan, path: &Path) -> Result<Plan, ReloadRefused> {
    let next = crate::config::load_to_reload(path).map_err(|faults| {
        let all = faults.to_string();
        let first: String = all.lines().next().unwrap_or_default().chars().take(REFUSED_CHARS_MAX).collect();
        ReloadRefused { line: format!("{first}; v2g-edge check shows all mistakes: mend them and reload again"), all }
    })?;
    let fixed = [
        ("gateway.id", current.gateway.id == next.gateway.id),
        ("gateway.site", current.gateway.site == next.gateway.site),
        ("gateway.state_dir", current.gateway.state_dir == next.gateway.state_dir),
    ];
    match fixed.into_iter().find(|(_, same)| !same) {
        Some((key, _)) => {
            let line = format!(
                "{key} cannot change while the agent runs: it is the identity of what the journal holds; \
                 let the backlog drain, then restart the agent"
            );
            Err(ReloadRefused { all: line.clone(), line })
        }
        None => Ok(next),
    }
}
