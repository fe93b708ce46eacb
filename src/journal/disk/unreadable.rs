//! Why bytes are of no use to this program.

use crate::journal::disk::chunk::Damage;

/// Bytes that this program cannot make use of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::journal) enum Unreadable {
    /// Whole, and written by a newer program: left alone for it, passed over and told.
    #[error("written in version {version}, which this program does not know")]
    Newer {
        /// Of what is written.
        version: u16,
    },
    /// Not what was written.
    #[error(transparent)]
    Damage(#[from] Damage),
}
