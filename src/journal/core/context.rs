//! Under which life entries are written, and read again.

use std::sync::Arc;

use crate::journal::disk::segment::Header;
use crate::measure::{BootId, Epoch, Schema, Seq};

/// The schema, the boot and the epoch under which entries are written and read.
#[derive(Debug, Clone)]
pub(in crate::journal) struct WriterContext {
    pub(in crate::journal) epoch: Epoch,
    pub(in crate::journal) boot: BootId,
    pub(in crate::journal) schema: Arc<Schema>,
}

impl WriterContext {
    /// The header of a segment that begins with this number.
    pub(in crate::journal) fn header(&self, first: u64) -> Header {
        Header { epoch: self.epoch, first: Seq(first), boot: self.boot, schema: Arc::clone(&self.schema) }
    }
}

impl From<Header> for WriterContext {
    fn from(header: Header) -> Self {
        let Header { epoch, first: _, boot, schema } = header;
        Self { epoch, boot, schema }
    }
}
