//! The process: generations one after another, signals, the watchdog.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hal::{Clock, KernelWatchdog, Systemd, Watchdog};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::generation::{FailedTask, Generation, ProcessContext};
use super::{AgentError, FAULTS_MAX, FAULTS_WITHIN, Options, ReloadRefused, reloaded};
use crate::api::{ApiServer, Report};
use crate::config::{self, BusKind, Plan, WatchdogPlan};
use crate::health::{LogLimit, StatusBoard, init_log};
use crate::journal::JournalHandle;
use crate::measure::{EventKind, Stamp};

/// A failed generation is followed by a pause, so that a broken device cannot make the journal's epochs run.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// Files that are open in any case: the journal's segments and records, sockets, the uplink's lines, 8 local callers, and what
/// is opened for a moment. 16 were counted on a quiet gateway.
const FILES: usize = 48;
/// Feeds at a mirror, and handshakes in progress.
const FILES_OF_A_MIRROR: usize = 32;
/// systemd's own default.
const FILES_ASKED: usize = 1024;
/// How often the signs of life are looked at, at the least.
const QUIET_CHECK: Duration = Duration::from_secs(5);

/// Runs the agent until SIGTERM or SIGINT. Blocks. Says READY to systemd once its tasks run, with whatever is broken
/// around it.
///
/// # Errors
/// See [`AgentError`].
pub fn run(options: &Options) -> Result<(), AgentError> {
    let plan = config::load_to_run(&options.config).map_err(AgentError::Config)?;
    let log = init_log(options.log.as_deref().unwrap_or(&plan.log.filter))?;
    tell_unused_mistakes(&options.config);
    hal::trim_heap();
    keep_real_time();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(AgentError::Runtime)?;
    let ended = runtime.block_on(run_generations(plan, options, &log));
    log.tell_rest();
    ended
}

/// What `check` would blame and nothing here needs.
fn tell_unused_mistakes(config: &Path) {
    let mistakes = config::unused_mistakes(config);
    if let Some(first) = mistakes.first() {
        let count = mistakes.len();
        tracing::warn!(count, first, "a DBC file has mistakes in what no profile uses; v2g-edge check shows them all");
    }
}

/// Real-time priority is for the thread that reads and times, which never waits for another one by spinning. sled does:
/// the first threads of its pool spin until the thread that makes them has made them all, and if that one sleeps for a moment
/// (in the kernel, for the memory map), spinners of its own real-time priority fill every core and it never runs again.
fn keep_real_time() {
    match hal::keep_real_time_to_this_thread() {
        Ok(false) => {}
        Ok(true) => {
            tracing::info!("real-time priority is kept to the main thread; the journal's threads are normal ones");
        }
        Err(error) => tracing::warn!(%error, "real-time priority cannot be kept from the journal's threads"),
    }
}

/// Asks for as many files as the plan may need open, and says what to do if there may not be as many.
fn too_few_files(plan: &Plan) -> Option<String> {
    let mirrors = plan.buses.iter().filter(|bus| matches!(bus.kind, BusKind::Iso15118(_))).count();
    let needed = FILES + plan.devices.len() + mirrors * FILES_OF_A_MIRROR;
    let granted = hal::open_files_max(needed.max(FILES_ASKED)).ok()?;
    if granted >= needed {
        return None;
    }
    let wanted = needed.max(FILES_ASKED);
    let trouble = format!(
        "only {granted} files may be open at once, and this configuration may need {needed}: write LimitNOFILE={wanted} \
         into the agent's unit (systemctl edit v2g-edge), or raise ulimit -n, and restart it"
    );
    tracing::warn!("{trouble}");
    Some(trouble)
}

/// How a generation ends.
enum End {
    Stop,
    Reload(Box<Plan>),
    Fault(FailedTask),
}

async fn run_generations(mut plan: Plan, options: &Options, log: &LogLimit) -> Result<(), AgentError> {
    let context = ProcessContext::begin();
    let systemd = Systemd::from_env();
    let mut kernel = arm(&plan.watchdog);
    let mut signals = Signals::catch().map_err(AgentError::Runtime)?;
    let mut faults: Vec<Instant> = Vec::new();
    tracing::info!(gateway = %plan.gateway.id, version = env!("CARGO_PKG_VERSION"), "agent starts");
    let mut has_reloaded = false;
    loop {
        context.facts.files(too_few_files(&plan));
        let mut generation = Generation::begin(&plan, &context, std::mem::take(&mut has_reloaded))?;
        let (stop_api, api_stopped) = watch::channel(false);
        let api = open_api(&plan, &context, generation.journal(), api_stopped);
        systemd.ready();
        let end = tokio::select! {
            end = until_ended(&mut generation, &mut signals, &systemd, &plan, options, &context.facts) => end,
            () = feed(&systemd, kernel.as_ref(), &context, log) => unreachable!("feeding the watchdogs never ends"),
        };
        // Ending takes seconds, in which nobody feeds.
        if let Some(kernel) = &kernel {
            kernel.feed();
        }
        match end {
            End::Stop => {
                tracing::info!("stopping: the last window is kept, then the uplink drains");
                systemd.stopping();
                generation.end().await;
                disarm(kernel);
                tracing::info!("stopped");
                return Ok(());
            }
            End::Reload(next) => {
                tracing::info!("reloading: the new plan begins a new epoch, the backlog stays");
                generation.end().await;
                stop_api.send_replace(true);
                if let Some(api) = api {
                    // The next generation often listens on the same socket.
                    let _ = api.await;
                }
                if next.watchdog != plan.watchdog {
                    disarm(kernel);
                    kernel = arm(&next.watchdog);
                }
                tell_unused_mistakes(&options.config);
                context.facts.reload_refused(None);
                systemd.status("");
                (plan, has_reloaded) = (*next, true);
            }
            End::Fault(failed) => {
                tracing::error!(task = failed.task, why = failed.why, "a task failed; starting again");
                generation.end().await;
                let now = Instant::now();
                faults.retain(|at| now.duration_since(*at) < FAULTS_WITHIN);
                faults.push(now);
                if faults.len() > FAULTS_MAX {
                    // The watchdog stays armed: if nobody starts us again, the kernel starts everything again.
                    return Err(AgentError::Worn { task: failed.task });
                }
                sleep(RESTART_PAUSE).await;
            }
        }
    }
}

/// Waits until a signal or a fault ends the generation.
async fn until_ended(
    generation: &mut Generation,
    signals: &mut Signals,
    systemd: &Systemd,
    plan: &Plan,
    options: &Options,
    facts: &StatusBoard,
) -> End {
    loop {
        tokio::select! {
            failed = generation.failed() => return End::Fault(failed),
            signal = signals.next() => {
                if signal == ProcessSignal::Stop {
                    return End::Stop;
                }
                systemd.reloading();
                match reloaded(plan, &options.config) {
                    Ok(next) => return End::Reload(Box::new(next)),
                    Err(ReloadRefused { all, line }) => {
                        tracing::warn!("reload refused, the agent goes on as it was: {all}");
                        systemd.status(&format!("reload refused, the agent goes on as it was: {line}"));
                        generation.notice(EventKind::ReloadRefused(line.as_str().into()));
                        facts.reload_refused(Some(line));
                    }
                }
                systemd.ready();
            }
        }
    }
}

/// Feeds the watchdogs while every task shows signs of life; names those that do not, and what the log left out. Never
/// returns.
async fn feed(systemd: &Systemd, kernel: Option<&KernelWatchdog>, context: &ProcessContext, log: &LogLimit) {
    let allowances = [systemd.interval(), kernel.and_then(Watchdog::interval)].into_iter().flatten();
    let mut beat = interval(allowances.map(|allowance| allowance / 3).fold(QUIET_CHECK, Duration::min));
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut hung = false;
    loop {
        beat.tick().await;
        let now = context.now().mono;
        log.tell(now);
        let silent = context.heartbeats.silent(now);
        if silent.is_empty() {
            systemd.feed();
            if let Some(kernel) = kernel {
                kernel.feed();
            }
        } else if !hung {
            tracing::error!(?silent, "tasks show no sign of life; the watchdog is not fed any more");
        }
        hung = !silent.is_empty();
    }
}

/// Arms the kernel's watchdog, if the plan names one; without it the agent runs on, and says so.
fn arm(plan: &WatchdogPlan) -> Option<KernelWatchdog> {
    let device = plan.device.as_deref()?;
    match KernelWatchdog::open(device, plan.timeout) {
        Ok(watchdog) => {
            tracing::info!(device = %device.display(), timeout = ?watchdog.timeout(), "the kernel's watchdog is armed");
            Some(watchdog)
        }
        Err(error) => {
            let device = device.display();
            tracing::error!(
                %device, %error,
                "no watchdog: a hang will not reset the box; check [watchdog] device, its permissions, and who else has it"
            );
            None
        }
    }
}

fn disarm(watchdog: Option<KernelWatchdog>) {
    if let Some(Err(error)) = watchdog.map(|mut watchdog| watchdog.disarm()) {
        tracing::error!(%error, "the watchdog does not let go; the box will be reset");
    }
}

/// Serves the local API for as long as this generation lasts; without it the agent runs on, and says so.
fn open_api(
    plan: &Plan,
    context: &ProcessContext,
    journal: JournalHandle,
    stopped: watch::Receiver<bool>,
) -> Option<JoinHandle<()>> {
    match ApiServer::open(&plan.api.socket) {
        Ok(server) => {
            let report = reporter(plan, context);
            let live = Arc::clone(&context.live);
            Some(tokio::spawn(server.serve(report, (journal, live), stopped)))
        }
        Err(error) => {
            tracing::error!(%error, "no local status");
            None
        }
    }
}

fn reporter(plan: &Plan, context: &ProcessContext) -> impl Fn() -> Report + Send + Sync + 'static {
    let (gateway, site) = (plan.gateway.id.clone(), plan.gateway.site.clone());
    let (clock, facts, heartbeats) =
        (Arc::clone(&context.clock), Arc::clone(&context.facts), Arc::clone(&context.heartbeats));
    let since = context.since.mono;
    move || {
        let now: Stamp = clock.now().into();
        Report {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            gateway: gateway.clone(),
            site: site.clone(),
            pid: std::process::id(),
            uptime_s: now.mono.since(since).as_secs(),
            rss_bytes: hal::rss_bytes(),
            wall_clock: now.utc.rfc3339(),
            clock: now.trust,
            hung: heartbeats.silent(now.mono).into_iter().map(|(name, s)| (name.to_owned(), s.as_secs_f64())).collect(),
            status: facts.status(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProcessSignal {
    Stop,
    Reload,
}

/// The signals that mean something to the agent.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    reload: Signal,
}

impl Signals {
    fn catch() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            reload: signal(SignalKind::hangup())?,
        })
    }

    /// Cancel-safe.
    async fn next(&mut self) -> ProcessSignal {
        tokio::select! {
            _ = self.terminate.recv() => ProcessSignal::Stop,
            _ = self.interrupt.recv() => ProcessSignal::Stop,
            _ = self.reload.recv() => ProcessSignal::Reload,
        }
    }
}
