//! The one place where data waits: entries on disk, leases, retention, recovery.
//!
//! # In and out
//! In: one [`Window`](crate::measure::Window) after the other ([`JournalHandle::append`], never blocks). Out:
//! [`Lease`]s on durable entries, in two [`Lane`]s; each comes back as acknowledged, refused or, by being dropped,
//! untouched. One thread owns the medium ([`Journal`]); everybody else talks to it through bounded queues.
//!
//! # What holds
//! - **Identity** is `(gateway, epoch, seq)`. `seq` begins at 1 and goes on across starts: the next is the last durable
//!   one and one, so that a difference other than 1 is a gap for whoever reads. The epoch is raised, durably, before the
//!   first append of each start, and a part of it is drawn, so that not even a restored backup or a reset repeats one (see
//!   `epoch`). Numbers that a crash took before their commit may come again, under the new epoch: nobody has seen them.
//! - **Durable before it counts.** A group commit (`commit_interval`, or 1 MiB) ends in `fdatasync`; only then an entry
//!   can be leased. What a power cut takes is what was appended since the last commit.
//! - **Every loss is told before it takes place.** Retention, damage and refusals leave a gap event in a later entry;
//!   only when that entry is durable the loss is carried out. A gap whose telling is itself given up is told again.
//! - **Same identity, same content**, under the schema of its own time: each segment keeps the one it was written under.
//!   The time belongs to the content. What was captured before the clock was set is resolved through the anchor of its
//!   boot, or estimated if there is none, when it is first leased, and never changes from then on (see `times`). Where another
//!   life finds it than the one that recorded the entry, it is a part of the entry's epoch: a backup may hold it as well. While
//!   the clock of a boot cannot be right (before 2026, or behind what is known) its entries wait: for the anchor, or for
//!   `time_wait` after the first connection. No two entries share a time.
//! - Acknowledgements come in any order and are kept as ranges. A lost one means a repeat, never a loss.
//! - **Downsampled, not lost.** With [`WhenFull::Thin`] the oldest entries that were never handed out become coarser before
//!   any are dropped: a new segment under new numbers, made whole or not at all, whose first entry names what it stands
//!   for (`downsampling`, `downsampler`). It is history: the lanes go by number, and its numbers are newer than its time. Of which
//!   segments something was handed out is durable before it is, so that nothing goes out under two numbers.
//! - **Old is what has waited while it ran** for longer than `age_max`: the wall clock has no say in it, and time without power does
//!   not count (see `age`).
//! - **Bounds**: `bytes_max` and at most one segment (8 MiB) more on disk; `free_min` of the file system left free, as
//!   long as the journal has more than two segments; 4 MiB of entries in memory while the disk fails, and 1 MiB while
//!   downsampling; 64 windows, 256 leases, 4 requests of the agent and 8 of people in the queues. Start-up and memory do not grow with the backlog.
//! - A broken medium never stops the agent, whether it breaks in a life or before it: it is tried again every 2 s, and what
//!   waits in memory follows. A life that begins without one says so, and what it took with it is told by the next that finds a note
//!   of it (`disk::in_memory`). While it fails, entries wait in memory; after 5 s of that, or in a life
//!   that could not be noted yet, they go out from memory without being durable, and [`JournalFacts::trouble`] and an event
//!   in the next window say so. What such an entry tells or is may be undone by a restart: it then comes again, or may
//!   be downsampled. One that was written in a sync that failed may have survived, and waits for the medium if its time is
//!   not sealed. Damaged segments are read chunk by chunk for what is intact, then put aside (`quarantine/`).
//!
//! # On disk
//! ```text
//! journal/
//!                          the directory itself is locked while an agent lives
//!   lock                   so is this, for programs before this one
//!   in-memory              lives that held entries in memory only (see `disk::in_memory`)
//!   life                   newest epoch, gateway, site, whether it ended in order
//!   cursor-a, cursor-b     what is settled, what was handed out, and the next number; two slots in turn
//!   times                  anchor of the newest boot; what was decided for boots without a clock (see `times`)
//!   deciders               which life decided each of that
//!   checkpoint             how energies stood at the end of a life that ended in order (see `core::checkpoint`)
//!   lived                  how long the journal has run in all its lives, and since when each segment is complete (see `age`)
//!   0000000000000001/      a segment: one small sled database, named by its first number (16 hex digits)
//!     db, conf             sled's; values are frames (see `chunk`)
//!     ready                the header; without it the directory is half made, unless entries are in it
//!     seal                 last number, points, newest time, how coarse; without it the segment was not completed
//!   quarantine/            damaged segments, the newest two; and what lay in the place of one of our files
//!   life-2, cursor-2-a, …  what a newer program wrote, left alone; so are its segments
//! ```
//! A segment is one life and one schema, never reopened for writing, and goes as a whole. Complete, it is read without
//! sled, by a look at every byte: sled writes over what it takes for damage.
//!
//! What was written in version 1 is read for ever: `disk/v1` owns its types, and nothing that changes in another room changes
//! what is on disk. What a **newer** program wrote is left alone and told (status, an event `journal_newer`, a WARN): after a
//! roll-back this one goes on in segments of its own, above all numbers and epochs that were used, and the newer one
//! delivers the rest when it is back. `disk/newer` has the rules for both. Its bytes count towards `bytes_max`, and only what
//! is ours gives; where the newer's alone exceed the bound, two segments of ours (16 MiB) stay, and the journal is so much
//! over it until the newer program is back or a person removes its segments.
//!
//! # Who else may look
//! A person, by `v2g-edge journal`: [`Archive`] reads the files without the database and without writing, [`repair`] and
//! [`purge`] are short lives of their own under the same lock. A running agent answers by [`JournalHandle::inventory`].
//!
//! # What it does not do
//! It does not know what a value means, and does not talk to a broker. When others fill the disk to the last byte before the next
//! look at it (1 s), no loss can be told and so none takes place: it goes on from memory until there is space. A medium
//! that lies about a sync cannot be helped; `store` has the fault model.
//!
//! [`JournalFacts::trouble`]: crate::health::JournalFacts::trouble

#[cfg(feature = "bench")]
pub mod bench;
mod core;
mod disk;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod line;
mod offline;
mod open;
mod report;
mod resolution;
mod settings;
mod task;

#[cfg(test)]
mod golden_tests;
#[cfg(test)]
pub(crate) mod testing;

pub use disk::sled_segment::{BUFFER_ALIGN, BUFFER_BYTES};
pub use line::{Appended, JournalHandle, Lane, Lease, Leasing};
pub use offline::archive::{Archive, ArchiveError, Place, View};
pub use offline::repair::{RepairError, Repaired, purge, repair};
pub use offline::verify::{Finding, VerifyReport};
pub use open::{CloseError, Journal, OpenError};
pub use report::{Inventory, Progress, Purged, SegmentFacts};
pub use settings::Settings;
// Part of [`Settings`]; the plan has the same type.
pub use crate::measure::WhenFull;
