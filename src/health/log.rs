//! Log set-up: to journald where systemd started us, else to stderr.

use std::io::IsTerminal;

use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// The log could not be set up. Nothing has been changed; the caller stops.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter is not one.
    #[error("log filter \"{filter}\" cannot be read; write for example \"info\" or \"info,v2g_edge::uplink=debug\"")]
    Filter {
        /// As given.
        filter: String,
        /// Where it breaks.
        #[source]
        source: ParseError,
    },
    /// Something else in the process has already set one up.
    #[error("a log is already set up in this process")]
    Taken,
}

/// Sends `tracing` events to journald if `JOURNAL_STREAM` says that stderr is connected to it, else to stderr;
/// coloured only on a terminal and without `NO_COLOR`. `filter` is a level, or `RUST_LOG`'s `target=level` with commas between.
///
/// # Errors
/// [`LogError::Filter`] and [`LogError::Taken`]; nothing has been changed then.
pub fn init(filter: &str) -> Result<(), LogError> {
    // rumqttc tells each packet and sled each page: neither is news for an operator.
    let quiet = format!("warn,v2g_edge={filter},hal={filter}");
    let spec = if filter.contains('=') || filter.contains(',') { filter } else { &quiet };
    // Not the filter with patterns over spans: nobody needs it here, and its automata are 200 KB of the firmware.
    let targets: Targets = spec.parse().map_err(|source| LogError::Filter { filter: filter.to_owned(), source })?;
    let registry = tracing_subscriber::registry().with(targets);
    let under_systemd = std::env::var_os("JOURNAL_STREAM").is_some();
    if under_systemd && let Ok(journald) = tracing_journald::layer() {
        return registry.with(journald).try_init().map_err(|_| LogError::Taken);
    }
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let stderr = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colour).with_target(false);
    registry.with(stderr).try_init().map_err(|_| LogError::Taken)
}
