//! Version 1 of what is written: plain types for all of it, with the way to and from the domain's. It is frozen: what it
//! has written is read for ever (`tests/golden.rs`), and none of its types is ever changed.
//!
//! In: the domain's values, and bytes. Out: bytes, and the domain's values or by name why there are none. Postcard is what
//! makes bytes of the types here, and of no others: a field or a variant that the domain gets changes nothing on disk. It
//! does not compile until somebody has decided here what becomes of it (nothing, or that it is of a later version).
//!
//! Types are named as the domain's are; the domain's stand behind `measure::` and `spec::`. What is read borrows from the
//! bytes, what is written from the domain.

pub(in crate::journal) mod entry;
pub(in crate::journal) mod enums;
pub(in crate::journal) mod event;
pub(in crate::journal) mod number;
pub(in crate::journal) mod record;
pub(in crate::journal) mod schema;

use serde::Serializer;

/// The number of this version: before each entry, and in each header and record.
pub(in crate::journal) const VERSION: u8 = 1;

/// Bytes in one piece, written as a sequence of them is.
pub(in crate::journal) fn bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}
