//! Version 1 of what is written.
//!
//! In: windows. Out: their bytes, and windows again.

pub(in crate::journal) mod entry;
pub(in crate::journal) mod number;
