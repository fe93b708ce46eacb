//! The thread that owns the medium: gives it commands and the time.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::health::StatusBoard;
use crate::journal::core::epoch::JournalMeta;
use crate::journal::core::journal_core::{JournalCore, Purge};
use crate::journal::core::wear::{Counts, Rates, Wear};
use crate::journal::disk::files;
use crate::journal::disk::store::Store;
use crate::journal::line::{Command, Inbox, Lease, Line};
use crate::journal::report::{Inventory, Progress, Purged};
use crate::measure::{BootId, Stamp};

/// The longest sleep: bounds and the cursor are looked after this often.
const MAINTAIN: Duration = Duration::from_millis(250);
/// Orders to give up what is old that are carried out at once, each a segment at a time. Whoever orders more is told that
/// the journal is busy.
const ORDERS_MAX: usize = 8;

/// Runs until it is told to close.
pub(super) fn run<S: Store>(
    core: JournalCore<S>,
    meta: JournalMeta,
    (wear, dir): (Wear, PathBuf),
    inbox: &Inbox,
    line: &Line,
    tell: &watch::Sender<Progress>,
    facts: &StatusBoard,
) {
    let (end, orders, start, commit_ms) = (None, VecDeque::new(), Instant::now(), None);
    let mut driver = Driver { core, meta, wear, dir, line, end, orders, start, commit_ms };
    loop {
        let now = driver.start.elapsed();
        let due = driver.core.commit_at().map_or(MAINTAIN, |at| at.saturating_sub(now));
        let due = if driver.orders.is_empty() { due.min(MAINTAIN) } else { Duration::ZERO };
        let received = inbox.next(due);
        for settlement in inbox.settlements() {
            driver.core.settle(settlement);
        }
        match received {
            Ok(Command::Close(reply)) => {
                let closed = driver.close();
                driver.note(facts);
                let _ = reply.send(closed);
                return;
            }
            Ok(Command::Abandon) | Err(RecvTimeoutError::Disconnected) => return,
            Ok(command) => driver.take(command),
            Err(RecvTimeoutError::Timeout) => {}
        }
        let now = driver.start.elapsed();
        if driver.core.commit_at().is_some_and(|at| at <= now) {
            driver.commit(JournalCore::commit_on);
        }
        driver.purge_on();
        driver.core.maintain(driver.start.elapsed());
        driver.count();
        driver.note(facts);
        let progress = driver.core.progress();
        tell.send_if_modified(|known| std::mem::replace(known, progress) != progress);
    }
}

struct Driver<'a, S> {
    core: JournalCore<S>,
    meta: JournalMeta,
    wear: Wear,
    dir: PathBuf,
    line: &'a Line,
    /// The newest window's end: the time of what is told last.
    end: Option<(BootId, Stamp)>,
    /// Orders to give up what is old, and who waits for each; the first is being carried out.
    orders: VecDeque<(Purge, oneshot::Sender<Purged>)>,
    start: Instant,
    commit_ms: Option<f64>,
}

impl<S: Store> Driver<'_, S> {
    fn take(&mut self, command: Command) {
        match command {
            Command::Append(window) => {
                self.end = Some((window.boot, window.end));
                self.core.append(*window, self.start.elapsed());
            }
            Command::Lease { lane, entries_max, reply } => {
                let lease = |entry| Lease::new(entry, lane, self.line.clone());
                let leases = self.core.lease(lane, entries_max).into_iter().map(lease).collect();
                // Nobody waits for it any more: dropped, the leases go back.
                let _ = reply.send(leases);
            }
            Command::GoLive => self.core.go_live(),
            Command::Commit(reply) => {
                self.commit(JournalCore::commit);
                let _ = reply.send(());
            }
            Command::Inventory(reply) => {
                let Rates { kept, written, device } = self.wear.rates();
                let told = self.core.inventory();
                let _ = reply.send(Inventory {
                    growth_bytes_per_day: told.growth_bytes_per_day.or(kept),
                    written_bytes_per_day: written,
                    device_bytes_per_day: device,
                    ..told
                });
            }
            Command::Purge { older_than, reply } => {
                if self.orders.len() < ORDERS_MAX {
                    // Counted from the newest entry: that is now, unless the clock cannot be believed.
                    self.orders.push_back((Purge::new(older_than, None), reply));
                }
            }
            Command::Wake | Command::Close(_) | Command::Abandon => {}
        }
    }

    /// Carries the first order on by a segment: what else waits for the thread has its turn in between.
    fn purge_on(&mut self) {
        let now = self.start.elapsed();
        let Some((order, _)) = self.orders.front_mut() else { return };
        if let Some(purged) = self.core.purge(order, now)
            && let Some((_, reply)) = self.orders.pop_front()
        {
            let _ = reply.send(purged);
        }
    }

    fn commit(&mut self, commit: impl FnOnce(&mut JournalCore<S>, Duration)) {
        let before = self.start.elapsed();
        commit(&mut self.core, before);
        self.commit_ms = Some(self.start.elapsed().saturating_sub(before).as_secs_f64() * 1e3);
    }

    /// Takes what the kernel counts, once a minute: two small files.
    fn count(&mut self) {
        let now = self.start.elapsed();
        if self.wear.is_due(now) {
            let (commits, bytes_written) = self.core.written();
            let counts = Counts {
                kept: bytes_written,
                commits,
                written: files::written_by_process(),
                device: files::written_to_disk(&self.dir),
            };
            self.core.set_commit_interval(self.wear.take(now, counts));
        }
    }

    fn close(&mut self) -> Result<(), String> {
        let now = self.start.elapsed();
        let closed = self.core.close(self.end, now).and_then(|()| self.core.save_meta(&self.meta));
        closed.map_err(|error| error.in_words())
    }

    fn note(&self, facts: &StatusBoard) {
        let (rates, (planned, interval)) = (self.wear.rates(), self.wear.intervals());
        facts.journal(|facts| {
            self.core.note(facts);
            facts.commit_ms = self.commit_ms;
            facts.commit_interval_ms = interval.as_secs_f64() * 1e3;
            facts.commit_interval_planned_ms = planned.as_secs_f64() * 1e3;
            facts.kept_bytes_per_day = rates.kept;
            facts.written_bytes_per_day = rates.written;
            facts.device_bytes_per_day = rates.device;
        });
    }
}
