//! The rules of the journal: what is kept, when it counts, what goes out, what is given up and how that is told.
//!
//! In: windows, settlements of leases, and `now` as an argument. Out: entries that may be leased, and calls of the medium
//! ([`Store`](crate::journal::disk::store::Store)). Limits are those of [`Limits`](limits::Limits). No thread, no clock, no
//! file: what survives a power cut is decided by the medium, and what counts as kept by what it has answered.
//!
//! Six owners keep the state, and none sees into another: `medium` (with `segments`, `ledger`, `reader`), `queue` (with
//! `tail`, `lanes`, `ranges`), `losses`, `held`, `clock` (with `times`) and `age`. What concerns more than one of them is in
//! `journal_core`.

mod age;
mod checkpoint;
mod clock;
pub(in crate::journal) mod context;
mod downsampler;
pub(in crate::journal) mod epoch;
mod held;
mod job;
pub(in crate::journal) mod journal_core;
mod lanes;
mod ledger;
pub(in crate::journal) mod limits;
mod losses;
mod medium;
pub(in crate::journal) mod newer;
mod parts;
mod queue;
pub(in crate::journal) mod ranges;
pub(in crate::journal) mod reader;
pub(in crate::journal) mod recovery;
mod segments;
mod tail;
pub(in crate::journal) mod times;
mod upkeep;
pub(in crate::journal) mod wear;

#[cfg(test)]
mod age_tests;
#[cfg(test)]
mod checkpoint_tests;
#[cfg(test)]
mod gone_tests;
#[cfg(test)]
mod held_tests;
#[cfg(test)]
mod in_memory_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod ring_tests;
#[cfg(test)]
mod unheard_tests;
