//! The bytes of the journal: how entries, headers, seals and records lie on the medium, and the medium itself.
//!
//! In: entries and records of the rules above. Out: the same, or by name why they cannot be read. It decides nothing:
//! which bytes are written, kept or removed is the rules' business.

pub(in crate::journal) mod chunk;
pub(in crate::journal) mod compress;
pub(in crate::journal) mod cursor;
pub(in crate::journal) mod entry;
pub(in crate::journal) mod files;
pub(in crate::journal) mod in_memory;
pub(in crate::journal) mod lived;
#[cfg(test)]
pub(in crate::journal) mod mem_store;
pub(in crate::journal) mod newer;
pub(in crate::journal) mod record;
pub(in crate::journal) mod scan;
pub(in crate::journal) mod segment;
pub(in crate::journal) mod sled_segment;
pub(in crate::journal) mod sled_store;
pub(in crate::journal) mod store;
pub(in crate::journal) mod unreadable;
pub(in crate::journal) mod unwritable;
pub(in crate::journal) mod v1;
pub(in crate::journal) mod v2;
