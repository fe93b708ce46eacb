//! The owner of the journal: opens it, starts its thread, and ends both in order.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{oneshot, watch};

use crate::health::StatusBoard;
use crate::journal::core::context::WriterContext;
use crate::journal::core::epoch::JournalMeta;
use crate::journal::core::journal_core::JournalCore;
use crate::journal::core::limits::Limits;
use crate::journal::core::newer::NewerRecords;
use crate::journal::core::recovery::{self, Start};
use crate::journal::core::wear::Wear;
use crate::journal::disk::in_memory::InMemoryNotes;
use crate::journal::disk::sled_store::{SledStore, Unusable};
use crate::journal::disk::store::{Store, StoreError};
use crate::journal::line::{Command, JournalHandle, Line};
use crate::journal::settings::Settings;
use crate::journal::task::{self, Duties, Reopen};
use crate::measure::{BootId, Checkpoint, Epoch, Schema, Stamp};
use crate::spec::{GatewayId, SiteId};

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

/// The owner of the journal's thread. Dropped without [`Journal::close`] it ends as if killed.
#[derive(Debug)]
pub struct Journal {
    handle: JournalHandle,
    thread: Option<JoinHandle<()>>,
    epoch: Epoch,
    previous_ended_clean: Option<bool>,
    checkpoint: Checkpoint,
}

impl Journal {
    /// Opens the journal, begins a new epoch, and starts its thread. Blocks for as long as the newest segment takes to
    /// be looked at. A directory that cannot be used does not stop it: it then runs from memory, says so in
    /// [`crate::health::JournalFacts::trouble`], and takes the directory into use as soon as that goes.
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
        let of = (&schema.site, &schema.gateway);
        let notes = InMemoryNotes::read(&settings.dir, settings.runtime_dir.as_deref(), of);
        // A sync that fails once has told all that it has to tell.
        let known = notes.newest();
        let opened = match open_store(&settings, &schema, known, boot, now)? {
            Err(_) => open_store(&settings, &schema, known, boot, now)?,
            opened => opened,
        };
        let (store, start, missing) = match opened {
            Ok((store, start)) => (Some(store), start, None),
            Err(error) => (None, Start::in_memory(known, boot, now), Some(error)),
        };
        let (epoch, previous_ended_clean) = (start.epoch, start.previous_ended_clean);
        let checkpoint = start.checkpoint.clone();
        let meta = JournalMeta { epoch, gateway: schema.gateway.clone(), site: schema.site.clone(), clean: true };
        let reopen = reopener(settings.clone(), schema.clone(), epoch, boot, now);
        let context = WriterContext { epoch, boot, schema: Arc::new(schema) };
        let limits = Limits::of(&settings);
        facts.journal(|facts| {
            facts.epoch = Some(epoch);
            facts.bytes_max = limits.bytes_max;
            facts.bytes_per_day_max = settings.bytes_per_day_max;
        });
        let mut core = JournalCore::new(store, limits, context, start);
        if let Some(error) = missing {
            core.without_medium(&error);
        }
        core.tell_lives_lost(notes.former().iter().copied());

        let (line, inbox) = Line::new();
        let (tell, progress) = watch::channel(core.progress());
        let handle = JournalHandle::new(line.clone(), progress);
        let wear = Wear::new(settings.bytes_per_day_max, settings.commit_interval);
        let duties = Duties { meta, wear, dir: settings.dir, notes, reopen };
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || task::run(core, duties, &inbox, &line, &tell, &facts))
            .map_err(OpenError::Thread)?;
        Ok(Self { handle, thread: Some(thread), epoch, previous_ended_clean, checkpoint })
    }

    /// A handle for one task.
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

    /// How what is worked out of windows stood at the end of the life before, in the words of this one.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Commits what is queued, writes the cursor, marks the end as orderly, and ends the thread.
    ///
    /// # Errors
    /// See [`CloseError`].
    pub async fn close(mut self) -> Result<(), CloseError> {
        let (reply, closed) = oneshot::channel();
        let line = self.handle.line().clone();
        // The queue may be full of windows; the thread makes room.
        let sent = tokio::task::spawn_blocking(move || line.end(Command::Close(reply))).await;
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
            let _ = self.handle.line().end(Command::Abandon);
            let _ = thread.join();
        }
    }
}

type Begun = Result<(SledStore, Start), StoreError>;

/// The medium with what is on it; or why there is none, which is no reason to stop.
fn open_store(
    settings: &Settings,
    schema: &Schema,
    known: Option<Epoch>,
    boot: BootId,
    now: Stamp,
) -> Result<Begun, OpenError> {
    let mut store = match SledStore::open(&settings.dir) {
        Ok(store) => store,
        Err(Unusable::Locked) => return Err(OpenError::Held(settings.dir.clone())),
        Err(Unusable::Store(error)) => return Ok(Err(error)),
    };
    let newer = NewerRecords::of(&store.newer_records());
    let meta = match recovery::previous_meta(&mut store, &newer) {
        Ok(meta) => meta,
        Err(error) => return Ok(Err(error)),
    };
    if let Some(meta) = meta
        && (meta.gateway != schema.gateway || meta.site != schema.site)
    {
        return Err(OpenError::Foreign { dir: settings.dir.clone(), gateway: meta.gateway, site: meta.site });
    }
    Ok(recovery::find(&mut store, schema, known, boot, now).map(|start| (store, start)))
}

/// How a medium is looked for while there is none. What is there may not be ours, or not only.
fn reopener(settings: Settings, schema: Schema, known: Epoch, boot: BootId, begun: Stamp) -> Reopen<SledStore> {
    Box::new(move |now| match open_store(&settings, &schema, Some(known), boot, now.unwrap_or(begun)) {
        Ok(opened) => opened,
        Err(OpenError::Held(dir)) => {
            let what = format!("{} is held by another running agent", dir.display());
            Err(StoreError::Refused { what, cure: "stop that one" })
        }
        Err(refused) => Err(StoreError::Refused { what: refused.to_string(), cure: "see there" }),
    })
}
