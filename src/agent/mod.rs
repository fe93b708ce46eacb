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
//! - A reload that does not pass `check` changes nothing. The gateway's id, its site and the state directory
//!   cannot change in a running agent: they are the identity of what the journal holds.

mod generation;
mod key_file;
mod pipeline;
mod task;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::{BusKind, Faults, Mirror, SessionSource};
use crate::health::LogError;
use crate::journal;
use crate::spec::BusId;

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

/// What a plan says of the journal: where it is, and its bounds.
#[must_use]
pub fn journal_settings(plan: &crate::config::Plan) -> journal::Settings {
    generation::journal_settings(plan)
}

/// What a plan says of TLS towards the brokers.
#[must_use]
pub fn tls_files(plan: &crate::config::TlsPlan) -> crate::tls::TlsFiles {
    generation::tls_files(plan)
}

/// What a plan says of the TLS of its mirror feeds, each with its bus.
pub fn feed_files(plan: &crate::config::Plan) -> impl Iterator<Item = (&BusId, crate::tls::ServerFiles)> {
    plan.buses.iter().filter_map(|bus| match &bus.kind {
        BusKind::Iso15118(SessionSource::Mirror(Mirror::Tls { ca, own, .. })) => {
            Some((&bus.id, generation::server_files(ca, own)))
        }
        _ => None,
    })
}

/// What a plan says of a broker.
#[must_use]
pub fn broker(url: &crate::config::BrokerUrl) -> crate::uplink::Broker {
    generation::broker(url)
}

/// What a plan says of a way out to the brokers.
#[must_use]
pub fn link(plan: &crate::config::LinkPlan) -> crate::uplink::Link {
    generation::link(plan)
}

/// What a plan says of name and password towards the brokers.
#[must_use]
pub fn login(plan: &crate::config::LoginPlan) -> crate::uplink::Login {
    generation::login(plan)
}

/// The configuration, or the reason why a running agent goes on with the one it has.
fn reloaded(current: &crate::config::Plan, path: &Path) -> Result<crate::config::Plan, String> {
    let next = crate::config::load(path).map_err(|faults| faults.to_string())?;
    let fixed = [
        ("gateway.id", current.gateway.id == next.gateway.id),
        ("gateway.site", current.gateway.site == next.gateway.site),
        ("gateway.state_dir", current.gateway.state_dir == next.gateway.state_dir),
    ];
    match fixed.into_iter().find(|(_, same)| !same) {
        Some((key, _)) => Err(format!(
            "{key} cannot change while the agent runs: it is the identity of what the journal holds; \
             let the backlog drain, then restart the agent"
        )),
        None => Ok(next),
    }
}
