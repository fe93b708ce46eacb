//! The line between the journal's thread and everybody else: how they append, lease and settle without ever waiting for
//! a disk. It knows what is said on it, and neither who answers nor how.
//!
//! Each kind of command has room of its own in the queue, counted from when it is sent until it arrives: whoever finds
//! none is told so, and takes nobody else's. What becomes of a lease does not go through the queue: its place is there
//! from when the lease is handed out, so that it can always be told.

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SendError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::journal::report::{Inventory, Progress, Purged};
use crate::measure::{Entry, Gap, Identity, LifeLost, Seq, Window};

/// Windows on their way to the thread: 16 s of 250 ms, far beyond any sync that ends well.
const WINDOWS_MAX: usize = 64;
/// Of those, windows of what comes late: a backlog leaves room for what is of the moment.
const LATE_WINDOWS_MAX: usize = WINDOWS_MAX / 2;
/// Requests of the agent's own tasks on their way: the uplink has one lease open at a time, and the end of the agent asks
/// for a commit.
const REQUESTS_MAX: usize = 4;
/// What people ask or order, on its way: as much as the local API answers at once.
const QUESTIONS_MAX: usize = 8;
/// Connections that are told, on their way: one that is told stands for all that were made meanwhile.
const CONNECTIONS_MAX: usize = 1;
/// Wake-ups on their way: one makes the thread look at all that was settled.
const WAKES_MAX: usize = 1;
/// The owner's last words: the end, and that it was dropped.
const ENDS_MAX: usize = 2;
/// Room for all of them together.
const COMMANDS_MAX: usize = WINDOWS_MAX + REQUESTS_MAX + QUESTIONS_MAX + CONNECTIONS_MAX + WAKES_MAX + ENDS_MAX;
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
        /// And the lives.
        lives: Vec<LifeLost>,
    },
    /// Nothing is known; it goes back.
    GivenBack(Seq),
    /// It goes back, and nobody has it: the broker has said so.
    Unheard(Seq),
}

/// What others ask of the thread.
#[derive(Debug)]
pub(super) enum Command {
    Append(Box<Window>),
    /// Something was settled: see [`Inbox::settlements`].
    Wake,
    Lease {
        lane: Lane,
        entries_max: usize,
        reply: oneshot::Sender<Vec<Lease>>,
    },
    GoLive,
    /// Answered by whether all that was appended before is durable.
    Commit(oneshot::Sender<bool>),
    Inventory(oneshot::Sender<Inventory>),
    Purge {
        older_than: Duration,
        reply: oneshot::Sender<Purged>,
    },
    Close(oneshot::Sender<Result<(), String>>),
    /// The owner was dropped: end as if killed.
    Abandon,
}

/// Room for something on its way. It is given back when that arrives, or is not sent after all.
#[derive(Debug)]
struct Slot(Arc<AtomicUsize>);

impl Slot {
    fn claim(taken: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        let claimed = taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < max).then_some(n + 1));
        claimed.ok().map(|_| Self(Arc::clone(taken)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A command on its way, with its room.
type Sent = (Command, Option<Slot>);

/// What became of leases, until the thread looks. At most [`LEASES_MAX`]: a lease counts as out until then.
type Settlements = Arc<Mutex<Vec<Settlement>>>;

/// The way to the thread.
#[derive(Debug, Clone)]
pub(super) struct Line {
    commands: SyncSender<Sent>,
    settlements: Settlements,
    windows: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    questions: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    wakes: Arc<AtomicUsize>,
}

/// The thread's end of the line.
#[derive(Debug)]
pub(super) struct Inbox {
    commands: Receiver<Sent>,
    settlements: Settlements,
}

impl Inbox {
    /// The next command. Waits for one no longer than this.
    pub(super) fn next(&self, within: Duration) -> Result<Command, RecvTimeoutError> {
        // Its room is given back before it is carried out: what comes meanwhile waits in its place.
        self.commands.recv_timeout(within).map(|(command, _)| command)
    }

    /// What became of leases since the last look, in the order in which it was told. To be asked after each command: what was
    /// settled before a command was sent is settled before it is carried out.
    pub(super) fn settlements(&self) -> Vec<Settlement> {
        std::mem::take(&mut *self.settlements.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Line {
    /// A line, and its other end.
    pub(super) fn new() -> (Self, Inbox) {
        let (sender, commands) = sync_channel(COMMANDS_MAX);
        let settlements = Settlements::default();
        let inbox = Inbox { commands, settlements: Arc::clone(&settlements) };
        let line = Self {
            commands: sender,
            settlements,
            windows: Arc::default(),
            requests: Arc::default(),
            questions: Arc::default(),
            connections: Arc::default(),
            wakes: Arc::default(),
        };
        (line, inbox)
    }

    /// The last words. Waits until there is room; not for a task.
    pub(super) fn end(&self, command: Command) -> Result<(), Command> {
        self.commands.send((command, None)).map_err(|SendError((command, _))| command)
    }

    fn append(&self, window: Window, windows_max: usize) -> Appended {
        let Some(slot) = Slot::claim(&self.windows, windows_max) else { return Appended::Stalled(window) };
        match self.commands.try_send((Command::Append(Box::new(window)), Some(slot))) {
            Ok(()) => Appended::Queued,
            Err(TrySendError::Full((Command::Append(window), _))) => Appended::Stalled(*window),
            Err(_) => Appended::Closed,
        }
    }

    /// Tells what became of a lease. If the thread has ended, the next start has the entry again.
    fn settle(&self, settlement: Settlement) {
        self.settlements.lock().unwrap_or_else(PoisonError::into_inner).push(settlement);
        self.send(Command::Wake, &self.wakes, WAKES_MAX);
    }

    /// A request of the agent's own.
    fn request(&self, command: Command) {
        self.send(command, &self.requests, REQUESTS_MAX);
    }

    /// What a person asks or orders.
    fn ask(&self, command: Command) {
        self.send(command, &self.questions, QUESTIONS_MAX);
    }

    /// Drops the command if there is no room for it; whoever asked sees its answer's sender dropped.
    fn send(&self, command: Command, taken: &Arc<AtomicUsize>, max: usize) {
        if let Some(slot) = Slot::claim(taken, max) {
            // There is room for what has a slot: it fails only if the thread has ended.
            let _ = self.commands.try_send((command, Some(slot)));
        }
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
        self.line.append(window, WINDOWS_MAX)
    }

    /// The same for a window of what comes late: there is room for it only while half of the room is free.
    pub fn append_late(&self, window: Window) -> Appended {
        self.line.append(window, LATE_WINDOWS_MAX)
    }

    /// Leases up to `entries_max` entries of a lane, in order; none if none waits, or if the journal has no room for the
    /// request or has ended. While its disk hangs, so does the answer: wait for it beside other things.
    pub fn lease(&self, lane: Lane, entries_max: usize) -> Leasing {
        let (reply, leased) = oneshot::channel();
        self.line.request(Command::Lease { lane, entries_max, reply });
        Leasing { leased }
    }

    /// A (re)connection was made: what is kept from here on is live, all before is history. Never waits. Takes place
    /// before any lease that is asked for later.
    pub fn go_live(&self) {
        self.line.send(Command::GoLive, &self.line.connections, CONNECTIONS_MAX);
    }

    /// Makes all that was appended before durable, and waits until it is, or has failed. Answers whether it is: not without a medium, and not
    /// if the journal has no room for the request or has ended. Cancel-safe.
    pub async fn commit(&self) -> bool {
        let (reply, done) = oneshot::channel();
        self.line.request(Command::Commit(reply));
        done.await.unwrap_or(false)
    }

    /// What is there, segment by segment; `None` if too many ask already, or if the journal has ended. Reads two small files
    /// for each segment: some milliseconds. Cancel-safe.
    pub async fn inventory(&self) -> Option<Inventory> {
        let (reply, told) = oneshot::channel();
        self.line.ask(Command::Inventory(reply));
        told.await.ok()
    }

    /// Gives up every complete segment of which all is older than this. The next window tells it as a gap; when that is
    /// durable it takes place. `None` if too many ask already, and nothing is given up; or if the journal ends before all is done.
    /// Cancel-safe in that what was ordered takes place, whoever listens.
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

/// Leases that were asked for: a future that can be waited for again and again. Dropped, they go back.
#[derive(Debug)]
#[must_use = "dropped, what is leased goes back at once"]
pub struct Leasing {
    leased: oneshot::Receiver<Vec<Lease>>,
}

impl Future for Leasing {
    type Output = Vec<Lease>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Vec<Lease>> {
        Pin::new(&mut self.leased).poll(context).map(Result::unwrap_or_default)
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

    /// The broker has it and nobody else: it goes back as if it had never gone out.
    pub fn hold(mut self) {
        self.settle(Settlement::Unheard(self.seq()));
    }

    /// The broker will never take it, for a reason of the entry's own: it becomes a gap that tells `code`.
    pub fn refuse(mut self, code: u8) {
        let Entry { identity: Identity { epoch, seq }, window, .. } = &*self.entry;
        let identity = Identity { epoch: *epoch, seq: *seq };
        let (points, told, lives) = (window.points(), window.gaps().collect(), window.lives_lost().collect());
        self.settle(Settlement::Refused { identity, points, code, told, lives });
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

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;
    use crate::journal::testing::{depot_schema, empty_window, small_journal};
    use crate::measure::{Epoch, Event, EventKind, Words};

    /// A journal whose thread hangs, as it does with its disk.
    fn hanging() -> (JournalHandle, Inbox) {
        let (line, inbox) = Line::new();
        (JournalHandle::new(line, watch::channel(Progress::default()).1), inbox)
    }

    fn lease(handle: &JournalHandle, seq: u64) -> Lease {
        let identity = Identity { epoch: Epoch(1), seq: Seq(seq) };
        let (schema, words) = (Arc::new(depot_schema("gw-01", 0, 0)), Words::Second);
        let entry = Entry { identity, schema, words, window: empty_window(seq) };
        Lease::new(Arc::new(entry), Lane::History, handle.line().clone())
    }

    fn arrived(inbox: &Inbox) -> Vec<Command> {
        std::iter::from_fn(|| inbox.next(Duration::ZERO).ok()).collect()
    }

    #[tokio::test]
    async fn who_asks_a_hanging_journal_too_often_is_told_so_and_takes_nobody_elses_room() {
        let (handle, inbox) = hanging();
        let mut questions: Vec<_> = (0..QUESTIONS_MAX).map(|_| Box::pin(handle.inventory())).collect();
        for question in &mut questions {
            assert!(is_pending(question).await, "it waits for its answer");
        }
        for _ in 0..QUESTIONS_MAX {
            assert!(!is_pending(&mut Box::pin(handle.inventory())).await, "one too many is told so at once");
            assert!(!is_pending(&mut Box::pin(handle.purge(Duration::ZERO))).await);
        }
        // All others have their room.
        handle.go_live();
        let mut leasing = handle.lease(Lane::Live, 1);
        assert!(is_pending(&mut Pin::new(&mut leasing)).await);
        for n in 0..WINDOWS_MAX as u64 {
            assert!(matches!(handle.append(empty_window(n)), Appended::Queued));
        }
        assert!(matches!(handle.append(empty_window(0)), Appended::Stalled(_)));
        assert_eq!(arrived(&inbox).len(), QUESTIONS_MAX + 1 + 1 + WINDOWS_MAX);
        assert!(matches!(handle.append(empty_window(0)), Appended::Queued), "there is room again");
        assert!(is_pending(&mut Box::pin(handle.inventory())).await);
    }

    #[tokio::test]
    async fn what_only_memory_has_or_was_not_committed_is_not_called_durable() {
        let dir = tempfile::tempdir().expect("a directory");
        let told = || Window { events: vec![Event { device: None, kind: EventKind::Stopping }], ..empty_window(1) };
        let on_disk = small_journal(&dir.path().join("journal"));
        assert!(matches!(on_disk.handle().append(told()), Appended::Queued));
        assert!(on_disk.handle().commit().await);
        // A file lies where the journal belongs: it runs from memory.
        std::fs::write(dir.path().join("file"), "").expect("ours");
        let in_memory = small_journal(&dir.path().join("file"));
        assert!(matches!(in_memory.handle().append(told()), Appended::Queued));
        assert!(!in_memory.handle().commit().await);
        let (hanging, _inbox) = hanging();
        let mut asked: Vec<_> = (0..REQUESTS_MAX).map(|_| Box::pin(hanging.commit())).collect();
        for commit in &mut asked {
            assert!(is_pending(commit).await);
        }
        assert!(!hanging.commit().await, "there is no room for one more");
    }

    #[tokio::test]
    async fn what_became_of_every_lease_is_told_though_the_queue_is_full() {
        let (handle, inbox) = hanging();
        let leases: Vec<Lease> = (1..=LEASES_MAX as u64).map(|seq| lease(&handle, seq)).collect();
        while matches!(handle.append(empty_window(0)), Appended::Queued) {}
        let mut asked: Vec<_> = (0..COMMANDS_MAX).map(|_| Box::pin(handle.commit())).collect();
        for commit in &mut asked {
            let _ = is_pending(commit).await;
        }
        for (n, lease) in leases.into_iter().enumerate() {
            match n % 3 {
                0 => lease.acknowledge(),
                1 => lease.refuse(0x99),
                _ => drop(lease),
            }
        }
        let wakes = arrived(&inbox).iter().filter(|command| matches!(command, Command::Wake)).count();
        let told = inbox.settlements();
        assert_eq!((wakes, told.len()), (1, LEASES_MAX));
        assert!(matches!(
            told[..3],
            [Settlement::Acknowledged(_), Settlement::Refused { .. }, Settlement::GivenBack(_)]
        ));
        // The next one wakes it again.
        lease(&handle, 1).acknowledge();
        assert_eq!((arrived(&inbox).len(), inbox.settlements().len()), (1, 1));
    }

    async fn is_pending<F: Future>(future: &mut Pin<impl std::ops::DerefMut<Target = F>>) -> bool {
        std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await
    }
}
