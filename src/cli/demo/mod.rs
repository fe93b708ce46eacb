//! `v2g-edge demo`: the whole product in half a minute, on any machine.
//!
//! A simulated depot behind real Modbus TCP, an MQTT 5 broker inside the process, a wire between the two that can be
//! cut; and the real agent, as a process of its own, with a real journal in a temporary directory. The exit code is the
//! audit's.

mod agent;
mod broker;
mod depot;
mod plant;
mod screen;
mod story;
mod wan;

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hal::Clock;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Exit;
use super::show::{self, Paint, Stdout, complain};
use crate::api::Report;
use crate::measure::Utc;
use crate::net::BrokerUrl;
use crate::uplink::audit::{self, AuditReport, ConsumerSettings, Heard, Judge};
use agent::Agent;
use plant::Plant;
use screen::Scene;
use story::Chapter;
use wan::Wan;

/// The picture is redrawn this often.
const FRAME: Duration = Duration::from_millis(200);
/// The audit waits for the replay at most this long; the demo fails then.
const REPLAY_WITHIN: Duration = Duration::from_secs(30);
/// So many entries are to go out live after the outage: 2 s.
const LIVE_AFTER: u64 = 8;
/// A terminal that does not tell its size.
const COLUMNS: u16 = 80;
const ROWS: u16 = 24;
/// Without a terminal a line is written this often.
const LINE: Duration = Duration::from_secs(2);
const MESSAGES_MAX: usize = 1024;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// One JSON object per line: each chapter as it begins, and last the verdict
    #[arg(long)]
    json: bool,
    /// Keep the agent's directory (configuration, journal, log) and say where it is
    #[arg(long)]
    keep: bool,
}

/// However it ends, its agent ends with it, and its directory goes or, if it is to be kept, is told.
pub(super) fn run(arguments: &Arguments) -> Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    let mut directory =
        tempfile::Builder::new().prefix("v2g-edge-demo-").tempdir().context("no temporary directory")?;
    directory.disable_cleanup(arguments.keep);
    let exit = runtime.block_on(async {
        let mut signals = Signals::catch().context("no signals")?;
        tokio::select! {
            biased;
            number = signals.next() => Ok(Exit::Signal(number)),
            played = play(arguments, directory.path()) => match played {
                Ok(verdict) => Ok(if verdict.passes() { Exit::Fine } else { Exit::Wrong }),
                // Whoever watched has seen enough.
                Err(error) if show::is_unread(&error) => Ok(Exit::Fine),
                Err(error) => Err(error),
            },
        }
    });
    // A question to the agent may still be on its way.
    runtime.shutdown_background();
    if arguments.keep {
        complain(format_args!("kept: {}", directory.path().display()));
    }
    exit
}

/// Those that end a program.
struct Signals([Signal; 3]);

impl Signals {
    const KINDS: [SignalKind; 3] = [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::terminate()];

    fn catch() -> io::Result<Self> {
        let [hangup, interrupt, terminate] = Self::KINDS.map(signal);
        Ok(Self([hangup?, interrupt?, terminate?]))
    }

    /// Its number. Cancel-safe.
    async fn next(&mut self) -> u8 {
        let Self([hangup, interrupt, terminate]) = self;
        let [first, second, third] = Self::KINDS;
        let kind = tokio::select! {
            _ = hangup.recv() => first,
            _ = interrupt.recv() => second,
            _ = terminate.recv() => third,
        };
        u8::try_from(kind.as_raw_value()).unwrap_or_default()
    }
}

async fn play(arguments: &Arguments, directory: &Path) -> Result<AuditReport> {
    let broker = broker::start().await.context("the demo's MQTT broker cannot be started")?;
    let wan = Wan::lay(broker).await.context("no loopback port is free")?;
    let plant = Plant::build().await.context("the simulated depot cannot be served")?;
    let agent = Agent::prepare(directory, plant.address(), wan.address())?;

    let (tell, heard) = mpsc::channel(MESSAGES_MAX);
    let (stop, stopped) = watch::channel(false);
    let settings = ConsumerSettings {
        broker: BrokerUrl { tls: false, endpoint: broker.into(), websocket: None },
        tls: None,
        login: None,
        prefix: "v2g/+/+".to_owned(),
    };
    let clock = hal::LinuxClock::new();
    let consumer = tokio::spawn(audit::consume(settings, move || Utc(clock.now().utc_ns), tell, stopped));

    let mut stage = Stage {
        start: Instant::now(),
        plant,
        wan,
        agent,
        heard,
        judge: Judge::default(),
        report: None,
        cut_at: None,
        view: View::new(arguments.json),
    };
    stage.wait_for_consumer().await?;
    stage.start = Instant::now();
    let verdict = stage.perform().await?;
    stop.send_replace(true);
    drop(stage);
    consumer.await.context("the consumer failed")??;

    View::report(arguments.json, &verdict)?;
    Ok(verdict)
}

/// All that plays.
struct Stage {
    start: Instant,
    plant: Plant,
    wan: Wan,
    agent: Agent,
    heard: mpsc::Receiver<Heard>,
    judge: Judge,
    report: Option<Report>,
    cut_at: Option<Instant>,
    view: View,
}

impl Stage {
    /// The audit must listen before the first entry is sent.
    async fn wait_for_consumer(&mut self) -> Result<()> {
        let first = tokio::time::timeout(Duration::from_secs(10), self.heard.recv()).await;
        ensure!(matches!(first, Ok(Some(Heard::Listening))), "the audit cannot listen at the demo's broker");
        Ok(())
    }

    async fn perform(&mut self) -> Result<AuditReport> {
        self.agent.start()?;
        let mut chapter = Chapter::Live;
        self.view.chapter(chapter)?;
        let mut frame = interval(FRAME);
        frame.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                told = self.heard.recv() => self.take(told),
                _ = frame.tick() => {
                    let elapsed = self.start.elapsed();
                    let now = Chapter::at(elapsed);
                    if now > chapter && (now != Chapter::Audit || self.is_drained(elapsed)?) {
                        chapter = now;
                        self.view.chapter(chapter)?;
                        if chapter == Chapter::Audit {
                            break;
                        }
                        self.enter(chapter)?;
                    }
                    self.report = self.agent.report().await;
                    self.draw(chapter, elapsed)?;
                }
            }
        }
        self.agent.stop().await?;
        // What the agent sent last is still on its way through the broker.
        while let Ok(told) = tokio::time::timeout(Duration::from_millis(500), self.heard.recv()).await {
            self.take(told);
        }
        self.draw(chapter, self.start.elapsed())?;
        Ok(self.judge.report())
    }

    fn enter(&mut self, chapter: Chapter) -> Result<()> {
        match chapter {
            Chapter::Cut => {
                self.wan.cut();
                self.cut_at = Some(Instant::now());
            }
            Chapter::Killed => self.agent.kill()?,
            Chapter::Restarted => self.agent.start()?,
            Chapter::Mended => {
                self.wan.restore();
                self.cut_at = None;
            }
            Chapter::Live | Chapter::Audit => {}
        }
        Ok(())
    }

    /// Whether the backlog is gone and new data has been seen going beside and after it.
    fn is_drained(&self, elapsed: Duration) -> Result<bool> {
        ensure!(
            elapsed < Chapter::Audit.begins() + REPLAY_WITHIN,
            "the replay has not ended within {} s after the WAN came back",
            REPLAY_WITHIN.as_secs()
        );
        let acknowledged_live = |report: &Report| report.status.uplink.live.acknowledged;
        Ok(self.report.as_ref().is_some_and(|report| {
            report.status.journal.waiting_entries <= 2 && acknowledged_live(report) >= LIVE_AFTER
        }))
    }

    fn take(&mut self, told: Option<Heard>) {
        match told {
            Some(Heard::Message(message)) => self.judge.take(&message),
            Some(Heard::Blind) => self.judge.was_blind(),
            Some(Heard::Listening | Heard::Away(_)) | None => {}
        }
    }

    fn draw(&mut self, chapter: Chapter, elapsed: Duration) -> io::Result<()> {
        let (live, history) = self.judge.heard();
        let depot = self.plant.depot();
        let scene = Scene {
            elapsed,
            chapter,
            depot: &depot,
            agent: self.report.as_ref(),
            outage: self.cut_at.map(|at| at.elapsed()),
            received: screen::Received { live, history, last_latency_ms: self.judge.last_latency_ms() },
        };
        self.view.frame(&scene)
    }
}

/// Where it is shown: a terminal that is redrawn, lines, or JSON.
enum View {
    Picture { paint: Paint, height: usize },
    Lines { last: Option<Duration> },
    Json,
}

impl View {
    fn new(json: bool) -> Self {
        if json {
            Self::Json
        } else if io::stdout().is_terminal() {
            Self::Picture { paint: Paint::for_stdout(), height: 0 }
        } else {
            Self::Lines { last: None }
        }
    }

    fn chapter(&mut self, chapter: Chapter) -> io::Result<()> {
        match self {
            Self::Json => tell(json!({ "chapter": chapter.name(), "at_s": chapter.begins().as_secs() })),
            Self::Lines { .. } => tell(format_args!("{}: {}", chapter.title(), chapter.tells())),
            Self::Picture { .. } => Ok(()),
        }
    }

    fn frame(&mut self, scene: &Scene<'_>) -> io::Result<()> {
        match self {
            Self::Json => Ok(()),
            Self::Lines { last } => {
                if last.is_some_and(|last| scene.elapsed < last + LINE) {
                    return Ok(());
                }
                *last = Some(scene.elapsed);
                tell(screen::line(scene))
            }
            Self::Picture { paint, height } => {
                // Asked each time: a window may be drawn larger or smaller meanwhile.
                let (columns, rows) = hal::terminal_size().unwrap_or((COLUMNS, ROWS));
                // The cursor stands below the last line.
                let rows = usize::from(rows).saturating_sub(1);
                let mut out = String::new();
                if *height > 0 {
                    out += &format!("\x1b[{}A", (*height).min(rows));
                }
                let lines = screen::render(scene, *paint);
                for line in lines.iter().take(rows) {
                    out += &format!("\x1b[2K{}\n", screen::clipped(line, columns.into()));
                }
                *height = lines.len().min(rows);
                let mut stdout = Stdout::new();
                stdout.write_all(out.as_bytes())?;
                stdout.flush()
            }
        }
    }

    fn report(json: bool, verdict: &AuditReport) -> io::Result<()> {
        if json { tell(json!({ "verdict": verdict })) } else { tell(format_args!("\n{verdict}")) }
    }
}

/// Writes a line.
fn tell(line: impl fmt::Display) -> io::Result<()> {
    let mut stdout = Stdout::new();
    stdout.write_all(format!("{line}\n").as_bytes())?;
    stdout.flush()
}
