//! The thread that owns the medium: carries commands to the heart, and time.

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::Tide;
use crate::health::StatusBoard;
use crate::journal::core::epoch::Life;
use crate::journal::core::heart::{Heart, Verdict};
use crate::journal::core::lanes::Lane;
use crate::journal::core::recovery;
use crate::journal::core::wear::{Counts, Rates, Wear};
use crate::journal::disk::files;
use crate::journal::disk::store::Store;
use crate::journal::line::{Lease, Line, in_words};
use crate::journal::offline::mend::Forgotten;
use crate::journal::report::Inventory;
use crate::measure::{BootId, Stamp, Window};

/// The longest sleep: bounds and the cursor are looked after this often.
const TEND: Duration = Duration::from_millis(250);

/// What others ask of the thread.
#[derive(Debug)]
pub(super) enum Command {
    Append(Box<Window>),
    Verdict(Verdict),
    Lease {
        lane: Lane,
        entries_max: usize,
        reply: oneshot::Sender<Vec<Lease>>,
    },
    GoLive(oneshot::Sender<()>),
    Commit(oneshot::Sender<()>),
    Inventory(oneshot::Sender<Inventory>),
    Forget {
        older_than: Duration,
        reply: oneshot::Sender<Forgotten>,
    },
    Close(oneshot::Sender<Result<(), String>>),
    /// The owner was dropped: end as if killed.
    Abandon,
}

/// Runs until it is told to close.
pub(super) fn run<S: Store>(
    heart: Heart<S>,
    life: Life,
    (wear, dir): (Wear, PathBuf),
    orders: &Receiver<Command>,
    line: &Line,
    tell: &watch::Sender<Tide>,
    facts: &StatusBoard,
) {
    let mut desk = Desk { heart, life, wear, dir, line, end: None, start: Instant::now(), commit_ms: None };
    loop {
        let now = desk.start.elapsed();
        let due = desk.heart.commit_at().map_or(TEND, |at| at.saturating_sub(now));
        match orders.recv_timeout(due.min(TEND)) {
            Ok(Command::Close(reply)) => {
                let closed = desk.close();
                desk.note(facts);
                let _ = reply.send(closed);
                return;
            }
            Ok(Command::Abandon) | Err(RecvTimeoutError::Disconnected) => return,
            Ok(command) => desk.take(command),
            Err(RecvTimeoutError::Timeout) => {}
        }
        let now = desk.start.elapsed();
        if desk.heart.commit_at().is_some_and(|at| at <= now) {
            desk.commit(Heart::commit_on);
        }
        desk.heart.tend(desk.start.elapsed());
        desk.count();
        desk.note(facts);
        let tide = desk.heart.tide();
        tell.send_if_modified(|known| std::mem::replace(known, tide) != tide);
    }
}

struct Desk<'a, S> {
    heart: Heart<S>,
    life: Life,
    wear: Wear,
    dir: PathBuf,
    line: &'a Line,
    /// The newest window's end: the time of what is told last.
    end: Option<(BootId, Stamp)>,
    start: Instant,
    commit_ms: Option<f64>,
}

impl<S: Store> Desk<'_, S> {
    fn take(&mut self, command: Command) {
        match command {
            Command::Append(window) => {
                self.line.windows.fetch_sub(1, Ordering::Relaxed);
                self.end = Some((window.boot, window.end));
                self.heart.append(*window, self.start.elapsed());
            }
            Command::Verdict(verdict) => self.heart.settle(verdict),
            Command::Lease { lane, entries_max, reply } => {
                let lease = |entry| Lease::new(entry, lane, self.line.clone());
                let leases = self.heart.lease(lane, entries_max).into_iter().map(lease).collect();
                // Nobody waits for it any more: dropped, the leases go back.
                let _ = reply.send(leases);
            }
            Command::GoLive(reply) => {
                self.heart.go_live();
                let _ = reply.send(());
            }
            Command::Commit(reply) => {
                self.commit(Heart::commit);
                let _ = reply.send(());
            }
            Command::Inventory(reply) => {
                let Rates { kept, written, device } = self.wear.rates();
                let told = self.heart.inventory();
                let _ = reply.send(Inventory {
                    growth_bytes_per_day: told.growth_bytes_per_day.or(kept),
                    written_bytes_per_day: written,
                    device_bytes_per_day: device,
                    ..told
                });
            }
            Command::Forget { older_than, reply } => {
                // Counted from the newest entry: that is now, unless the clock cannot be believed.
                let _ = reply.send(self.heart.forget(older_than, None));
            }
            Command::Close(_) | Command::Abandon => {}
        }
    }

    fn commit(&mut self, commit: impl FnOnce(&mut Heart<S>, Duration)) {
        let before = self.start.elapsed();
        commit(&mut self.heart, before);
        self.commit_ms = Some((self.start.elapsed() - before).as_secs_f64() * 1e3);
    }

    /// Takes what the kernel counts, once a minute: two small files.
    fn count(&mut self) {
        let now = self.start.elapsed();
        if self.wear.is_due(now) {
            let counts = Counts {
                kept: self.heart.bytes_written,
                commits: self.heart.commits,
                written: files::written_by_process(),
                device: files::written_to_disk(&self.dir),
            };
            self.heart.limits.commit_interval = self.wear.take(now, counts);
        }
    }

    fn close(&mut self) -> Result<(), String> {
        let now = self.start.elapsed();
        self.heart.close(self.end, now).map_err(|error| in_words(&error))?;
        match &mut self.heart.store {
            Some(store) => recovery::save_life(store, &self.life).map_err(|error| in_words(&error)),
            None => Ok(()),
        }
    }

    fn note(&self, facts: &StatusBoard) {
        let heart = &self.heart;
        let tide = heart.tide();
        let (gaps, entries_lost, entries_thinned) = heart.losses.counts();
        let (rates, (planned, interval)) = (self.wear.rates(), self.wear.intervals());
        facts.journal(|facts| {
            facts.durable = tide.durable;
            facts.waiting_entries = tide.unacknowledged;
            (facts.held_entries, facts.held_why) = heart.held();
            facts.unsynced_entries = heart.next - 1 - heart.durable;
            facts.bytes = heart.segments.iter().map(|segment| segment.bytes).sum();
            facts.segments = heart.segments.len() as u64;
            facts.commits = heart.commits;
            facts.bytes_written = heart.bytes_written;
            facts.commit_ms = self.commit_ms;
            facts.commit_interval_ms = interval.as_secs_f64() * 1e3;
            facts.commit_interval_planned_ms = planned.as_secs_f64() * 1e3;
            facts.kept_bytes_per_day = rates.kept;
            facts.written_bytes_per_day = rates.written;
            facts.device_bytes_per_day = rates.device;
            facts.gaps = gaps;
            facts.entries_lost = entries_lost;
            facts.entries_thinned = entries_thinned;
            facts.trouble = heart.trouble().map(str::to_owned);
        });
    }
}
