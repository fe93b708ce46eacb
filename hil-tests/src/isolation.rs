//! A network of the test's own: loopback and nothing else, so that what is under test reaches its peers and no one else.

use std::io;
use std::process::Command;

use nix::sched::{CloneFlags, unshare};

use crate::tool::{self, ToolError};

/// There is no network of its own; this thread stays in the one it was in, or in one without loopback.
#[derive(Debug, thiserror::Error)]
pub enum IsolationError {
    /// The kernel does not allow it.
    #[error("no network namespace: run as root, or through hil-tests/run, which makes a user namespace first")]
    Forbidden(#[source] io::Error),
    /// Loopback does not come up.
    #[error("loopback in the new network namespace")]
    Loopback(#[from] ToolError),
}

/// Takes this thread, and all threads and processes that it starts from now on, into a new network namespace.
pub fn enter() -> Result<(), IsolationError> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(|error| IsolationError::Forbidden(error.into()))?;
    tool::run(Command::new(crate::process::program("ip")).args(["link", "set", "lo", "up"]))?;
    Ok(())
}
