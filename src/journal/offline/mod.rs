//! A journal that no agent has open: read, verified, repaired and given up by a person's command.
//!
//! In: a directory. Out: an inventory, a report of what is wrong, one entry after the other. Reading changes nothing; what changes
//! something is a short life of its own under the agent's lock.

pub(in crate::journal) mod archive;
pub(in crate::journal) mod repair;
pub(in crate::journal) mod verify;
