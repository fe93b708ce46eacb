//! The rules of the journal: what is kept, when it counts, what goes out, what is given up and how that is told.
//!
//! In: windows, settlements of leases, and `now` as an argument. Out: entries that may be leased, and calls of the medium
//! ([`Store`](crate::journal::disk::store::Store)). Limits are those of [`Limits`](journal_core::Limits). No thread, no clock, no
//! file: what survives a power cut is decided by the medium, and what counts as kept by what it has answered.

pub(in crate::journal) mod downsampler;
pub(in crate::journal) mod downsampling;
pub(in crate::journal) mod epoch;
pub(in crate::journal) mod journal_core;
pub(in crate::journal) mod lanes;
pub(in crate::journal) mod losses;
#[cfg(test)]
mod model_tests;
pub(in crate::journal) mod ranges;
pub(in crate::journal) mod reader;
pub(in crate::journal) mod recovery;
pub(in crate::journal) mod retention;
#[cfg(test)]
mod ring_tests;
pub(in crate::journal) mod tail;
pub(in crate::journal) mod times;
pub(in crate::journal) mod waiting;
pub(in crate::journal) mod wear;
pub(in crate::journal) mod writing;
