//! Where ISO 15118 messages are seen.

use std::path::PathBuf;

use super::{Endpoint, ServerFiles};

/// Where ISO 15118 sessions are seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionSource {
    /// The charger sends a copy of its messages here.
    Mirror(Mirror),
    /// A network interface on which they pass.
    Interface(String),
    /// Recordings: the vehicle's side and the station's side of each.
    Files(Vec<(PathBuf, PathBuf)>),
}

/// Where a charger sends a copy of its messages: an address of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mirror {
    /// A unix socket; absolute, at most 107 bytes.
    Unix(PathBuf),
    /// On loopback.
    Tcp(Endpoint),
    /// Who shows a certificate of the authority may send.
    Tls {
        /// Where it listens.
        endpoint: Endpoint,
        /// Absolute; need not be there, and are read anew when they change.
        files: ServerFiles,
    },
}
