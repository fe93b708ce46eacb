//! Carries samples and time to the pipeline.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hal::Clock;
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout};

use super::Pipeline;
use crate::health::Heartbeat;
use crate::journal::JournalHandle;
use crate::measure::{Notice, Sample, Stamp};

/// A sample takes a moment from its port to here. The window stays open for that long after its end, so that
/// what was captured in it is counted in it.
const GRACE: Duration = Duration::from_millis(5);
/// Samples that are taken between two looks at the clock.
const BATCH: usize = 64;
/// What the end of the agent waits at most for the journal to take what came late. It takes thousands of windows a second.
const LATE_WAIT: Duration = Duration::from_secs(5);
/// Turns that the sources have before a window is closed. Who was starved wakes together with them: the first turn polls the
/// ports, the second lets the sources hand over what has come in meanwhile.
const TURNS: usize = 2;

/// Runs until all sources have ended, then keeps what the open window holds.
pub(in crate::agent) async fn run<C: Clock>(
    mut pipeline: Pipeline,
    clock: Arc<C>,
    (mut samples, mut notices): (mpsc::Receiver<Sample>, mpsc::Receiver<Notice>),
    journal: JournalHandle,
    heartbeat: Heartbeat,
) {
    let now = || -> Stamp { clock.now().into() };
    let until_due = |pipeline: &Pipeline| {
        let (end, now) = (pipeline.next_end(), now().mono);
        (end.since(now) + GRACE).saturating_sub(now.since(end))
    };
    // One timer for each window, set once: set anew after each sample it would never end on a dense stream.
    let mut timer = pin!(sleep(until_due(&pipeline)));
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        tokio::select! {
            biased;
            () = timer.as_mut() => {}
            Some(notice) = notices.recv() => pipeline.notice(notice, now()),
            count = samples.recv_many(&mut batch, BATCH) => if count == 0 { break },
        }
        let at = now();
        for sample in batch.drain(..) {
            pipeline.receive(sample, at, &journal);
        }
        if timer.is_elapsed() || until_due(&pipeline).is_zero() {
            for _ in 0..TURNS {
                yield_now().await;
            }
            let at = now();
            for _ in 0..samples.len() {
                if let Ok(sample) = samples.try_recv() {
                    pipeline.receive(sample, at, &journal);
                }
            }
            heartbeat.beat(at.mono);
            pipeline.close(at, GRACE, &journal);
            timer.as_mut().reset(Instant::now() + until_due(&pipeline));
        }
    }
    // What came late may be more than the journal takes at once.
    let until = Instant::now() + LATE_WAIT;
    while pipeline.finish_late(&journal) && Instant::now() < until {
        let _ = timeout(LATE_WAIT, journal.commit()).await;
        yield_now().await;
    }
    pipeline.finish(now(), &journal);
}
