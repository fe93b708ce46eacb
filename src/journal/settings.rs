//! What an operator decides of the journal.

use std::path::PathBuf;
use std::time::Duration;

use crate::measure::WhenFull;

/// What an operator decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Its directory; made if it is not there. Nothing else lives in it.
    pub dir: PathBuf,
    /// Bytes on disk; at most one segment more. Less than 4 MiB is taken as 4 MiB.
    pub bytes_max: u64,
    /// Bytes that the journal leaves free on its file system, or an eighth of it if that is less; but for its own last
    /// two segments. When less is free it gives up as if `bytes_max` were reached.
    pub free_min: u64,
    /// Entries older than this are given up, by wall times that can be believed.
    pub age_max: Duration,
    /// The shortest time between two group commits, and so what a power cut can take.
    pub commit_interval: Duration,
    /// What this process may cause to be written in a day, by the kernel's count. Above, commits come rarer, every 10 s
    /// at the least. `None`: they come as often as `commit_interval` says.
    pub bytes_per_day_max: Option<u64>,
    /// What gives when `bytes_max` or `free_min` is reached.
    pub when_full: WhenFull,
    /// Where a note outlives this process while no disk can be written, and need not outlive the boot.
    pub runtime_dir: Option<PathBuf>,
    /// So long after the first connection entries of a boot with a clock that cannot be right wait for it to be synced.
    pub time_wait: Duration,
}
