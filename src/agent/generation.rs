//! One generation of tasks: a plan becomes tasks, and the tasks end in order.

use std::sync::Arc;
use std::time::Duration;

use hal::{Clock, LinuxClock};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::confirm;
use super::pipeline::{self, Pipeline};
use super::wiring::{self, Source};
use crate::config::Plan;
use crate::health::{Heartbeat, Heartbeats, StatusBoard};
use crate::journal::{self, Journal, JournalHandle};
use crate::live::Live;
use crate::measure::{BootId, EventKind, Mono, Notice, Sample, Stamp};
use crate::source::{can, iso15118 as sessions, modbus};
use crate::uplink;

/// Samples between the sources and the pipeline: 4 s of 1,000 devices at a block and 4 polls a second.
const SAMPLES_MAX: usize = 16_384;
/// Events of the uplink and of reloads on their way into a window: troubles are told once each, so a window has a few.
const NOTICES_MAX: usize = 64;
/// A source waits at most for its slowest device before it shows its next sign of life. On a serial line that is
/// three exchanges (two to tell a late answer from the one that is asked for), each of one and a half times the
/// longest timeout of 30 s and four times the 2.4 s of the longest frame at 1200 baud, and 1 s of babble before
/// each: 167 s.
const SOURCE_ALLOWANCE: Duration = Duration::from_secs(180);
/// The pipeline wakes at every window; the longest is 60 s.
const PIPELINE_ALLOWANCE: Duration = Duration::from_secs(150);
/// The uplink wakes at least every few seconds.
const UPLINK_ALLOWANCE: Duration = Duration::from_secs(60);

/// What all generations of a process share.
pub(super) struct ProcessContext {
    pub(super) clock: Arc<LinuxClock>,
    pub(super) boot: BootId,
    pub(super) facts: Arc<StatusBoard>,
    pub(super) heartbeats: Arc<Heartbeats>,
    pub(super) live: Arc<Live>,
    pub(super) since: Stamp,
}

impl ProcessContext {
    /// It begins now; nothing is known yet.
    pub(super) fn begin() -> Self {
        let clock = Arc::new(LinuxClock::new());
        Self {
            boot: BootId(hal::boot_id()),
            facts: Arc::new(StatusBoard::default()),
            heartbeats: Arc::new(Heartbeats::default()),
            live: Arc::new(Live::default()),
            since: clock.now().into(),
            clock,
        }
    }

    pub(super) fn now(&self) -> Stamp {
        self.clock.now().into()
    }
}

/// Which task ended, and why, if it was not told to.
pub(super) struct FailedTask {
    pub(super) task: String,
    pub(super) why: String,
}

/// Each task answers with its name when it ends.
type Tasks = JoinSet<&'static str>;

/// The tasks of one plan.
pub(super) struct Generation {
    journal: Journal,
    sources: Tasks,
    /// The pipeline ends by itself once its sources have.
    pipeline: Tasks,
    uplink: Tasks,
    /// The watch over an update of the box.
    confirm: Tasks,
    /// The pipeline's own end of the sources' queue: without a device there is no other, and it waits all the same.
    samples: mpsc::Sender<Sample>,
    stop_sources: watch::Sender<bool>,
    stop_uplink: watch::Sender<bool>,
    stop_confirm: watch::Sender<bool>,
    notices: mpsc::Sender<Notice>,
}

impl Generation {
    /// Opens the journal and starts every task of the plan; `reloaded`: it takes the place of another plan.
    pub(super) fn begin(plan: &Plan, context: &ProcessContext, reloaded: bool) -> Result<Self, journal::OpenError> {
        Self::begin_with(plan, context, reloaded, wiring::sources)
    }

    /// The same with other sources than those of the plan.
    pub(super) fn begin_with(
        plan: &Plan,
        context: &ProcessContext,
        reloaded: bool,
        wire: fn(&Plan, Mono) -> Vec<Source>,
    ) -> Result<Self, journal::OpenError> {
        context.facts.clear_devices();
        context.heartbeats.clear();
        let now = context.now();
        let settings = wiring::journal_settings(plan);
        confirm::find_told(&plan.gateway.state_dir, &settings.dir);
        let journal = Journal::open(settings, plan.schema(), context.boot, now, Arc::clone(&context.facts))?;
        let (stop_sources, sources_stopped) = watch::channel(false);
        let (stop_uplink, uplink_stopped) = watch::channel(false);
        let (samples, sampled) = mpsc::channel(SAMPLES_MAX);
        let (notices, noticed) = mpsc::channel(NOTICES_MAX);
        let mono = now.mono;
        let started =
            EventKind::Started { version: env!("CARGO_PKG_VERSION").to_owned(), clean: journal.previous_ended_clean() };
        let first = std::iter::once(started).chain(reloaded.then_some(EventKind::Reloaded)).collect();
        let stages = Pipeline::new(plan, context, now, first, journal.checkpoint().clone());

        let mut sources = Tasks::new();
        for source in wire(plan, stages.next_end()) {
            let heartbeat = context.heartbeats.watch("source", SOURCE_ALLOWANCE, mono);
            let (clock, facts) = (Arc::clone(&context.clock), Arc::clone(&context.facts));
            let (samples, stopped) = (samples.clone(), sources_stopped.clone());
            sources.spawn(async move {
                source.run(clock, samples, facts, heartbeat, stopped).await;
                "source"
            });
        }
        context.facts.without_devices(plan.devices.is_empty());

        let mut pipeline = Tasks::new();
        let heartbeat = context.heartbeats.watch("pipeline", PIPELINE_ALLOWANCE, mono);
        let (clock, handle) = (Arc::clone(&context.clock), journal.handle());
        pipeline.spawn(async move {
            pipeline::run(stages, clock, (sampled, noticed), handle, heartbeat).await;
            "pipeline"
        });

        let mut uplink = Tasks::new();
        let heartbeat = context.heartbeats.watch("uplink", UPLINK_ALLOWANCE, mono);
        let settings = wiring::uplink_settings(plan, journal.epoch(), context.boot, context.since);
        let (handle, facts, clock) = (journal.handle(), Arc::clone(&context.facts), Arc::clone(&context.clock));
        let told = notices.clone();
        uplink.spawn(async move {
            let surroundings = uplink::Surroundings { facts, heartbeat, notices: told };
            uplink::run(settings, handle, surroundings, move || clock.now().into(), uplink_stopped).await;
            "uplink"
        });

        let (stop_confirm, confirm_stopped) = watch::channel(false);
        let mut confirm = Tasks::new();
        let surroundings = confirm::Surroundings {
            state_dir: plan.gateway.state_dir.clone(),
            buses: confirm::watched(plan),
            facts: Arc::clone(&context.facts),
            notices: notices.clone(),
            journal: journal.handle(),
            since: context.since.mono,
        };
        let clock = Arc::clone(&context.clock);
        confirm.spawn(async move {
            let now = move || Stamp::from(clock.now()).mono;
            confirm::run(surroundings, now, confirm_stopped).await;
            "confirm"
        });
        Ok(Self {
            journal,
            sources,
            pipeline,
            uplink,
            confirm,
            samples,
            stop_sources,
            stop_uplink,
            stop_confirm,
            notices,
        })
    }

    /// A handle of its journal.
    pub(super) fn journal(&self) -> JournalHandle {
        self.journal.handle()
    }

    /// The way of the sources to the pipeline.
    #[cfg(feature = "bench")]
    pub(super) fn samples(&self) -> mpsc::Sender<Sample> {
        self.samples.clone()
    }

    /// Tells what a person or an audit must be able to find later; what finds no room is in the log only.
    pub(super) fn notice(&self, kind: EventKind) {
        if self.notices.try_send(kind.into()).is_err() {
            tracing::debug!("an event found no room; it is in this log");
        }
    }

    /// Waits until a task ends that was not told to. Cancel-safe.
    pub(super) async fn failed(&mut self) -> FailedTask {
        let ended = tokio::select! {
            Some(ended) = self.sources.join_next() => ended,
            Some(ended) = self.pipeline.join_next() => ended,
            Some(ended) = self.uplink.join_next() => ended,
            Some(ended) = self.confirm.join_next() => ended,
            else => std::future::pending().await,
        };
        match ended {
            Ok(task) => FailedTask { task: task.to_owned(), why: "it ended by itself".to_owned() },
            Err(error) => FailedTask { task: "a task".to_owned(), why: error.to_string() },
        }
    }

    /// Ends in the order in which data flows, so that what was read is kept, and what was kept and can be sent
    /// is sent. Takes at most about [`wiring::DRAIN`] and one device timeout.
    pub(super) async fn end(mut self) {
        self.stop_sources.send_replace(true);
        while self.sources.join_next().await.is_some() {}
        drop(self.samples);
        while self.pipeline.join_next().await.is_some() {}
        self.journal.handle().commit().await;
        self.stop_confirm.send_replace(true);
        while self.confirm.join_next().await.is_some() {}
        self.stop_uplink.send_replace(true);
        while self.uplink.join_next().await.is_some() {}
        if let Err(error) = self.journal.close().await {
            tracing::error!(%error, "the journal did not close in order; its next start repairs what is left");
        }
    }
}

impl Source {
    async fn run<C: Clock>(
        self,
        clock: Arc<C>,
        samples: mpsc::Sender<Sample>,
        facts: Arc<StatusBoard>,
        heartbeat: Heartbeat,
        stop: watch::Receiver<bool>,
    ) {
        match self {
            Self::Modbus(port) => modbus::run(port, clock, samples, facts, heartbeat, stop).await,
            Self::Can(bus) => can::run(bus, clock, samples, facts, heartbeat, stop).await,
            Self::Sessions(port) => sessions::run(port, clock, samples, facts, heartbeat, stop).await,
        }
    }
}
