//! The journal on real file systems that fill up, rot, refuse and are cut off. One oracle for all: what was committed
//! arrives with its true content, or a gap tells of it.
//!
//! Some of these mount a small file system of their own, in a mount namespace of their own, and so need root or a
//! user namespace. Where that is not possible they fail and say so; they are never skipped.

#[path = "journal_faults/campaign.rs"]
mod campaign;
#[path = "journal_faults/depot.rs"]
mod depot;
#[path = "journal_faults/full.rs"]
mod full;
#[path = "journal_faults/kill.rs"]
mod kill;
#[path = "journal_faults/late.rs"]
mod late;
#[path = "journal_faults/misplaced.rs"]
mod misplaced;
#[path = "journal_faults/refusing.rs"]
mod refusing;
#[path = "journal_faults/restored.rs"]
mod restored;
#[path = "journal_faults/rot.rs"]
mod rot;
#[path = "journal_faults/stage.rs"]
mod stage;
