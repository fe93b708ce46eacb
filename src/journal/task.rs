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
use crate::journal::core::recovery::Start;
use crate::journal::core::wear::{Counts, Rates, Wear};
use crate::journal::disk::files;
use crate::journal::disk::in_memory::InMemoryNotes;
use crate::journal::disk::store::{Store, StoreError};
use crate::journal::line::{Command, Inbox, Lease, Line};
use crate::journal::report::{Inventory, Progress, Purged};
use crate::measure::{BootId, Stamp};

/// The longest sleep: bounds and the cursor are looked after this often.
const MAINTAIN: Duration = Duration::from_millis(250);
/// Orders to give up what is old that are carried out at once, each a segment at a time. Whoever orders more is told that
/// the journal is busy.
const ORDERS_MAX: usize = 8;

/// A journal without a medium looks for one this often.
const LOOK_FOR_MEDIUM: Duration = Duration::from_secs(2);

/// Looks for a medium: what it is, and what is on it.
pub(super) type Reopen<S> = Box<dyn FnMut(Option<Stamp>) -> Result<(S, Start), StoreError> + Send>;

/// What a driver does beside what its core decides.
pub(super) struct Duties<S> {
    pub(super) meta: JournalMeta,
    pub(super) wear: Wear,
    pub(super) dir: PathBuf,
    pub(super) notes: InMemoryNotes,
    pub(super) reopen: Reopen<S>,
}

/// Runs until it is told to close.
pub(super) fn run<S: Store>(
    core: JournalCore<S>,
    Duties { meta, wear, dir, notes, reopen }: Duties<S>,
    inbox: &Inbox,
    line: &Line,
    tell: &watch::Sender<Progress>,
    facts: &StatusBoard,
) {
    let (end, orders, start, commit_ms) = (None, VecDeque::new(), Instant::now(), None);
    let search = Search { reopen, found: None, next: LOOK_FOR_MEDIUM };
    let mut driver = Driver { core, meta, wear, dir, notes, search, line, end, orders, start, commit_ms };
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
        driver.look_for_medium();
        driver.purge_on();
        driver.core.maintain(driver.start.elapsed());
        driver.count();
        driver.note_memory();
        driver.note(facts);
        let progress = driver.core.progress();
        tell.send_if_modified(|known| std::mem::replace(known, progress) != progress);
    }
}

/// The search for a medium.
struct Search<S> {
    reopen: Reopen<S>,
    /// There is one; it is taken into use as soon as nobody holds an entry.
    found: Option<(S, Start)>,
    next: Duration,
}

struct Driver<'a, S> {
    core: JournalCore<S>,
    meta: JournalMeta,
    wear: Wear,
    dir: PathBuf,
    notes: InMemoryNotes,
    search: Search<S>,
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
                let entries = if self.search.found.is_some() { Vec::new() } else { self.core.lease(lane, entries_max) };
                let leases = entries.into_iter().map(lease).collect();
                // Nobody waits for it any more: dropped, the leases go back.
                let _ = reply.send(leases);
            }
            Command::GoLive => self.core.go_live(),
            Command::Commit(reply) => {
                self.commit(JournalCore::commit);
                let _ = reply.send(self.core.is_durable());
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

    /// Without a medium, looks for one; one that was found is used when nobody holds an entry of the life that then ends.
    fn look_for_medium(&mut self) {
        let now = self.start.elapsed();
        if !self.core.lacks_medium() {
            return;
        }
        if self.search.found.is_none() && now >= self.search.next {
            match (self.search.reopen)(self.end.map(|(_, stamp)| stamp)) {
                Ok(found) => self.search.found = Some(found),
                Err(error) => self.core.still_without_medium(&error),
            }
            self.search.next = self.start.elapsed() + LOOK_FOR_MEDIUM;
        }
        if self.core.is_unleased()
            && let Some((store, start)) = self.search.found.take()
        {
            self.core.adopt(store, start, now);
            self.meta.epoch = self.core.epoch();
            self.commit(JournalCore::commit);
        }
    }

    /// Notes what is in memory only, where the next life will find it.
    fn note_memory(&mut self) {
        let lasting = self.core.in_memory_from().map(|from| (self.core.epoch(), from));
        self.notes.note(lasting, self.core.has_told_lives(), self.start.elapsed());
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
        // A medium that was mended a moment ago takes what would go with this life.
        self.search.next = Duration::ZERO;
        self.look_for_medium();
        let now = self.start.elapsed();
        let closed = self.core.close(self.end, now).and_then(|()| self.core.save_meta(&self.meta));
        if self.core.progress().unacknowledged == 0 || closed.is_ok() && !self.core.lacks_medium() {
            // Nothing goes with this life.
            self.notes.note(None, self.core.has_told_lives(), Duration::MAX);
        }
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
