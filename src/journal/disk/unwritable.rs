//! Why a window cannot become bytes.

use crate::journal::disk::chunk::ENTRY_BYTES_MAX;

/// A window that cannot be written. It is given up and told as lost; the next one is not concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::journal) enum Unwritable {
    /// Logic of the pipeline: the points of a device are not in ascending order.
    #[error("the points of a device are not in ascending order")]
    Disordered,
    /// More than the journal's longest entry.
    #[error("the window takes {bytes} bytes and the longest entry has {ENTRY_BYTES_MAX}")]
    Long {
        /// How long it would be.
        bytes: usize,
    },
    /// Postcard refused.
    #[error("the window cannot be encoded")]
    Codec,
}
