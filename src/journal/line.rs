//! The line between the journal's thread and everybody else: how they append, lease and settle without ever waiting for
//! a disk. It knows what is said on it, and neither who answers nor how.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SendError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::journal::report::{Inventory, Progress, Purged};
use crate::measure::{Entry, Gap, Identity, Seq, Window};

/// Windows on their way to the thread: 16 s of 250 ms, far beyond any sync that ends well.
const WINDOWS_MAX: usize = 64;
/// Questions on their way: each caller asks one at a time.
const REQUESTS_MAX: usize = 16;
/// The most leases that are out at once, and so the most settlements that can be on their way. Above the receive maximum
/// that brokers grant (mosquitto 20, EMQX 32, HiveMQ 10 by default; more helps only on very long lines).
pub(in crate::journal) const LEASES_MAX: usize = 256;

/// The two ways out of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// What was appended since the last call of `go_live`, in order, as soon as it is durable.
    Live,
    /// All the rest, oldest first.
    History,
}

/// What became of a window that was handed over.
#[derive(Debug)]
#[must_use]
pub enum Appended {
    /// It will be kept with the next commit, or told as a gap.
    Queued,
    /// The journal stalls; here is the window back. The caller sheds it, counts it, and tells it.
    Stalled(Window),
    /// The journal has ended.
    Closed,
}

/// What became of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::journal) enum Settlement {
    /// The broker has it.
    Acknowledged(Seq),
    /// The broker will never take it, for a reason of its own.
    Refused {
        identity: Identity,
        points: u64,
        code: u8,
        /// The gaps that the entry itself was to tell.
        told: Vec<Gap>,
    },
    /// Nothing is known; it goes back.
    GivenBack(Seq),
}

/// What others ask of the thread.
#[derive(Debug)]
pub(super) enum Command {
    Append(Box<Window>),
    Settle(Settlement),
    Lease {
        lane: Lane,
        entries_max: usize,
        reply: oneshot::Sender<Vec<Lease>>,
    },
    GoLive(oneshot::Sender<()>),
    Commit(oneshot::Sender<()>),
    Inventory(oneshot::Sender<Inventory>),
    Purge {
        older_than: Duration,
        reply: oneshot::Sender<Purged>,
    },
    Close(oneshot::Sender<Result<(), String>>),
    /// The owner was dropped: end as if killed.
    Abandon,
}

/// The way to the thread. It has room for every settlement that can be on its way, so that giving one never fails.
#[derive(Debug, Clone)]
pub(super) struct Line {
    commands: SyncSender<Command>,
    /// Windows on their way.
    windows: Arc<AtomicUsize>,
}

impl Line {
    /// A line, and its other end.
    pub(super) fn new() -> (Self, Receiver<Command>) {
        let (commands, received) = sync_channel(WINDOWS_MAX + LEASES_MAX + REQUESTS_MAX);
        (Self { commands, windows: Arc::default() }, received)
    }

    /// Waits until there is room: for the end, and not from a task.
    pub(super) fn send(&self, command: Command) -> Result<(), SendError<Command>> {
        self.commands.send(command)
    }

    /// A window has arrived.
    pub(super) fn window_taken(&self) {
        self.windows.fetch_sub(1, Ordering::Relaxed);
    }

    fn append(&self, window: Window) -> Appended {
        if self.windows.fetch_add(1, Ordering::Relaxed) >= WINDOWS_MAX {
            self.window_taken();
            return Appended::Stalled(window);
        }
        match self.commands.try_send(Command::Append(Box::new(window))) {
            Ok(()) => Appended::Queued,
            Err(TrySendError::Full(Command::Append(window))) => {
                self.window_taken();
                Appended::Stalled(*window)
            }
            Err(_) => Appended::Closed,
        }
    }

    /// There is room for every lease's settlement; if the thread has ended, the next start has the entry again.
    fn settle(&self, settlement: Settlement) {
        let _ = self.commands.try_send(Command::Settle(settlement));
    }

    /// Drops the question if there is no room; whoever asked sees its answer's sender dropped.
    fn ask(&self, command: Command) {
        let _ = self.commands.try_send(command);
    }
}

/// A handle for one task. Cheap to clone.
#[derive(Debug, Clone)]
pub struct JournalHandle {
    line: Line,
    progress: watch::Receiver<Progress>,
}

impl JournalHandle {
    pub(super) fn new(line: Line, progress: watch::Receiver<Progress>) -> Self {
        Self { line, progress }
    }

    pub(super) fn line(&self) -> &Line {
        &self.line
    }

    /// Hands a window over. Never waits.
    pub fn append(&self, window: Window) -> Appended {
        self.line.append(window)
    }

    /// Leases up to `entries_max` entries of a lane, in order; none if none waits, or if the journal is busy with its
    /// disk or has ended. Cancel-safe: a call that is dropped gives its leases back.
    pub async fn lease(&self, lane: Lane, entries_max: usize) -> Vec<Lease> {
        let (reply, leased) = oneshot::channel();
        self.line.ask(Command::Lease { lane, entries_max, reply });
        leased.await.unwrap_or_default()
    }

    /// A (re)connection was made: what is kept from here on is live, all before is history. Cancel-safe.
    pub async fn go_live(&self) {
        let (reply, done) = oneshot::channel();
        self.line.ask(Command::GoLive(reply));
        let _ = done.await;
    }

    /// Makes all that was appended before durable, and waits until it is, or has failed. Cancel-safe.
    pub async fn commit(&self) {
        let (reply, done) = oneshot::channel();
        self.line.ask(Command::Commit(reply));
        let _ = done.await;
    }

    /// What is there, segment by segment; `None` if the journal is too busy to say or has ended. Reads two small files
    /// for each segment: some milliseconds. Cancel-safe.
    pub async fn inventory(&self) -> Option<Inventory> {
        let (reply, told) = oneshot::channel();
        self.line.ask(Command::Inventory(reply));
        told.await.ok()
    }

    /// Gives up every complete segment of which all is older than this. The next window tells it as a gap; when that is
    /// durable it takes place. `None` if the journal is too busy or has ended: then nothing is given up. Cancel-safe in
    /// that what was ordered takes place, whoever listens.
    pub async fn purge(&self, older_than: Duration) -> Option<Purged> {
        let (reply, done) = oneshot::channel();
        self.line.ask(Command::Purge { older_than, reply });
        done.await.ok()
    }

    /// What waits. Changes whenever something becomes leasable or a lease is settled.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }
}

/// A durable entry in the hands of whoever delivers it. Dropped, it goes back to the journal.
#[derive(Debug)]
pub struct Lease {
    entry: Arc<Entry>,
    lane: Lane,
    line: Line,
    settled: bool,
}

impl Lease {
    pub(super) fn new(entry: Arc<Entry>, lane: Lane, line: Line) -> Self {
        Self { entry, lane, line, settled: false }
    }

    /// What is to be delivered.
    #[must_use]
    pub fn entry(&self) -> &Arc<Entry> {
        &self.entry
    }

    /// The lane it was leased for.
    #[must_use]
    pub fn lane(&self) -> Lane {
        self.lane
    }

    fn seq(&self) -> Seq {
        self.entry.identity.seq
    }

    /// The broker has it: the journal may let it go.
    pub fn acknowledge(mut self) {
        self.settle(Settlement::Acknowledged(self.seq()));
    }

    /// The broker will never take it, for a reason of the entry's own: it becomes a gap that tells `code`.
    pub fn refuse(mut self, code: u8) {
        let Entry { identity: Identity { epoch, seq }, window, .. } = &*self.entry;
        let identity = Identity { epoch: *epoch, seq: *seq };
        let (points, told) = (window.points(), window.gaps().collect());
        self.settle(Settlement::Refused { identity, points, code, told });
    }

    fn settle(&mut self, settlement: Settlement) {
        self.settled = true;
        self.line.settle(settlement);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.settled {
            self.settle(Settlement::GivenBack(self.seq()));
        }
    }
}
