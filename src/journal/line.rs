//! How others append, lease and settle, without ever waiting for a disk.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::{Progress, Settings};
use crate::health::StatusBoard;
use crate::journal::core::epoch::JournalMeta;
use crate::journal::core::journal_core::{
    COMMIT_BYTES_MAX, JournalCore, LEASES_MAX, Limits, Settlement, WriterContext,
};
use crate::journal::core::lanes::Lane;
use crate::journal::core::recovery::{self, Start};
use crate::journal::core::wear::Wear;
use crate::journal::disk::sled_store::{SledStore, Unusable};
use crate::journal::disk::store::{Record, Store, StoreError};
use crate::journal::offline::repair::Purged;
use crate::journal::report::Inventory;
use crate::journal::task::{self, Command};
use crate::measure::{BootId, Entry, Epoch, Identity, Schema, Seq, Stamp, Window};
use crate::spec::{GatewayId, SiteId};

/// Windows on their way to the thread: 16 s of 250 ms, far beyond any sync that ends well.
const WINDOWS_MAX: usize = 64;
/// Questions on their way: each caller asks one at a time.
const REQUESTS_MAX: usize = 16;
/// A segment is as small as its removal is cheap, and as large as its five small files are not felt.
pub(super) const SEGMENT_BYTES: u64 = 8 * 1024 * 1024;
/// 128 trees of 9 chunks. sled rewrites the list of its trees with each new one; at a depot's rate of one small chunk
/// a commit this bounds that list to a few KiB, and a segment to about five minutes.
pub(super) const SEGMENT_CHUNKS: u32 = 128 * 9;

/// The journal cannot be opened, and nothing may take its place. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another agent writes here.
    #[error("{0} is held by another running agent, or by a `v2g-edge journal` command; stop that first")]
    Held(PathBuf),
    /// It holds the record of another gateway.
    #[error(
        "{dir} holds the record of gateway {gateway} at {site}; give this gateway another state_dir, or move that \
         directory away once its backlog is delivered"
    )]
    Foreign {
        /// The journal.
        dir: PathBuf,
        /// Whose it is.
        gateway: GatewayId,
        /// From where.
        site: SiteId,
    },
    /// No thread can be had for it.
    #[error("the journal's thread cannot be started")]
    Thread(#[source] io::Error),
}

/// The journal did not end in order. What was durable still is; the next start repairs the rest.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    /// Its thread had ended before.
    #[error("the journal's thread had ended before")]
    Ended,
    /// The last commit, the cursor or the end could not be written.
    #[error("the last of the journal could not be written: {0}")]
    Unwritten(String),
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

/// The owner of the journal's thread. Dropped without [`Journal::close`] it ends as if killed.
#[derive(Debug)]
pub struct Journal {
    handle: JournalHandle,
    thread: Option<JoinHandle<()>>,
    epoch: Epoch,
    previous_ended_clean: Option<bool>,
}

/// A handle for one task. Cheap to clone.
#[derive(Debug, Clone)]
pub struct JournalHandle {
    line: Line,
    progress: watch::Receiver<Progress>,
}

/// The way to the thread. It has room for every settlement that can be on its way, so that giving one never fails.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) commands: SyncSender<Command>,
    /// Windows on their way.
    pub(super) windows: Arc<AtomicUsize>,
}

impl Journal {
    /// Opens the journal, begins a new epoch, and starts its thread. Blocks for as long as the newest segment takes to
    /// be looked at. A directory that cannot be used does not stop it: it then runs from memory and says so in
    /// [`crate::health::JournalFacts::trouble`].
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(
        settings: Settings,
        schema: Schema,
        boot: BootId,
        now: Stamp,
        facts: Arc<StatusBoard>,
    ) -> Result<Self, OpenError> {
        let limits = Limits {
            bytes_max: settings.bytes_max.max(SEGMENT_BYTES / 2),
            free_min: settings.free_min,
            age_max: settings.age_max,
            when_full: settings.when_full,
            commit_interval: settings.commit_interval,
            commit_bytes: COMMIT_BYTES_MAX,
            time_wait: settings.time_wait,
            segment_bytes: SEGMENT_BYTES.min(settings.bytes_max / 4),
            segment_chunks: SEGMENT_CHUNKS,
        };
        let meta =
            |epoch| JournalMeta { epoch, gateway: schema.gateway.clone(), site: schema.site.clone(), clean: true };
        let opened = open_store(&settings, &schema, boot, now)?;
        let (store, start, trouble) = match opened {
            Ok((store, start)) => (Some(store), start, None),
            Err(error) => {
                let text = format!("{}: {}", in_words(&error), error.remedy());
                (None, Start::in_memory(boot, now), Some(text))
            }
        };
        let (epoch, previous_ended_clean) = (start.epoch, start.previous_ended_clean);
        let meta = meta(epoch);
        let context = WriterContext { epoch, boot, schema: Arc::new(schema) };
        let bytes_max = limits.bytes_max;
        let wear = Wear::new(settings.bytes_per_day_max, settings.commit_interval);
        let dir = settings.dir.clone();
        let mut core = JournalCore::new(store, limits, context, start);
        if let Some(text) = trouble {
            tracing::error!(
                trouble = text,
                "no journal on disk: entries wait in memory only, and a restart loses them"
            );
            core.without_medium(format!("entries wait in memory only: {text}"));
        }
        facts.journal(|facts| {
            facts.epoch = Some(epoch);
            facts.bytes_max = bytes_max;
            facts.bytes_per_day_max = settings.bytes_per_day_max;
        });

        let (commands, orders) = sync_channel(WINDOWS_MAX + LEASES_MAX + REQUESTS_MAX);
        let (tell, progress) = watch::channel(core.progress());
        let line = Line { commands, windows: Arc::default() };
        let handle = JournalHandle { line: line.clone(), progress };
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || task::run(core, meta, (wear, dir), &orders, &line, &tell, &facts))
            .map_err(OpenError::Thread)?;
        Ok(Self { handle, thread: Some(thread), epoch, previous_ended_clean })
    }

    /// A handle.
    #[must_use]
    pub fn handle(&self) -> JournalHandle {
        self.handle.clone()
    }

    /// The epoch of this life.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// How the life before ended; `None` if there was none.
    #[must_use]
    pub fn previous_ended_clean(&self) -> Option<bool> {
        self.previous_ended_clean
    }

    /// Commits what is queued, writes the cursor, marks the end as orderly, and ends the thread.
    ///
    /// # Errors
    /// See [`CloseError`].
    pub async fn close(mut self) -> Result<(), CloseError> {
        let (reply, closed) = oneshot::channel();
        let line = self.handle.line.commands.clone();
        // The queue may be full of windows; the thread makes room.
        let sent = tokio::task::spawn_blocking(move || line.send(Command::Close(reply))).await;
        if !matches!(sent, Ok(Ok(()))) {
            return Err(CloseError::Ended);
        }
        let result = closed.await.map_err(|_| CloseError::Ended)?;
        if let Some(thread) = self.thread.take() {
            // It has answered and does nothing more but return.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        result.map_err(CloseError::Unwritten)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = self.handle.line.commands.send(Command::Abandon);
            let _ = thread.join();
        }
    }
}

type Begun = Result<(SledStore, Start), StoreError>;

/// The medium with what is on it; or why there is none, which is no reason to stop.
fn open_store(settings: &Settings, schema: &Schema, boot: BootId, now: Stamp) -> Result<Begun, OpenError> {
    let mut store = match SledStore::open(&settings.dir) {
        Ok(store) => store,
        Err(Unusable::Locked) => return Err(OpenError::Held(settings.dir.clone())),
        Err(Unusable::Store(error)) => return Ok(Err(error)),
    };
    let meta = match store.load(Record::Life) {
        Ok(bytes) => bytes.as_deref().and_then(|bytes| JournalMeta::read(bytes).ok()),
        Err(error) => return Ok(Err(error)),
    };
    if let Some(meta) = meta
        && (meta.gateway != schema.gateway || meta.site != schema.site)
    {
        return Err(OpenError::Foreign { dir: settings.dir.clone(), gateway: meta.gateway, site: meta.site });
    }
    Ok(recovery::start(&mut store, schema, boot, now).map(|start| (store, start)))
}

/// An error with its cause.
pub(super) fn in_words(error: &StoreError) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

impl JournalHandle {
    /// Hands a window over. Never waits.
    pub fn append(&self, window: Window) -> Appended {
        let Line { commands, windows } = &self.line;
        if windows.fetch_add(1, Ordering::Relaxed) >= WINDOWS_MAX {
            windows.fetch_sub(1, Ordering::Relaxed);
            return Appended::Stalled(window);
        }
        match commands.try_send(Command::Append(Box::new(window))) {
            Ok(()) => Appended::Queued,
            Err(std::sync::mpsc::TrySendError::Full(Command::Append(window))) => {
                windows.fetch_sub(1, Ordering::Relaxed);
                Appended::Stalled(*window)
            }
            Err(_) => Appended::Closed,
        }
    }

    /// Leases up to `entries_max` entries of a lane, in order; none if none waits, or if the journal is busy with its
    /// disk or has ended. Cancel-safe: a call that is dropped gives its leases back.
    pub async fn lease(&self, lane: Lane, entries_max: usize) -> Vec<Lease> {
        let (reply, leased) = oneshot::channel();
        self.ask(Command::Lease { lane, entries_max, reply });
        leased.await.unwrap_or_default()
    }

    /// A (re)connection was made: what is kept from here on is live, all before is history. Cancel-safe.
    pub async fn go_live(&self) {
        let (reply, done) = oneshot::channel();
        self.ask(Command::GoLive(reply));
        let _ = done.await;
    }

    /// Makes all that was appended before durable, and waits until it is, or has failed. Cancel-safe.
    pub async fn commit(&self) {
        let (reply, done) = oneshot::channel();
        self.ask(Command::Commit(reply));
        let _ = done.await;
    }

    /// What is there, segment by segment; `None` if the journal is too busy to say or has ended. Reads two small files
    /// for each segment: some milliseconds. Cancel-safe.
    pub async fn inventory(&self) -> Option<Inventory> {
        let (reply, told) = oneshot::channel();
        self.ask(Command::Inventory(reply));
        told.await.ok()
    }

    /// Gives up every complete segment of which all is older than this. The next window tells it as a gap; when that is
    /// durable it takes place. `None` if the journal is too busy or has ended: then nothing is given up. Cancel-safe in
    /// that what was ordered takes place, whoever listens.
    pub async fn purge(&self, older_than: Duration) -> Option<Purged> {
        let (reply, done) = oneshot::channel();
        self.ask(Command::Purge { older_than, reply });
        done.await.ok()
    }

    /// What waits. Changes whenever something becomes leasable or a lease is settled.
    #[must_use]
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Drops the question if there is no room; whoever asked sees its answer's sender dropped.
    fn ask(&self, command: Command) {
        let _ = self.line.commands.try_send(command);
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
        // There is room for every lease's settlement; if the thread has ended, the next start has the entry again.
        let _ = self.line.commands.try_send(Command::Settlement(settlement));
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.settled {
            self.settle(Settlement::GivenBack(self.seq()));
        }
    }
}
