//! Carries samples and time to the pipeline.

use std::sync::Arc;
use std::time::Duration;

use hal::Clock;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::Pipeline;
use crate::health::Heartbeat;
use crate::journal::JournalHandle;
use crate::measure::{EventKind, Sample, Stamp};

/// A sample takes a moment from its port to here. The window stays open for that long after its end, so that
/// what was captured in it is counted in it.
const GRACE: Duration = Duration::from_millis(5);

/// Runs until all sources have ended, then keeps what the open window holds.
pub(in crate::agent) async fn run<C: Clock>(
    mut pipeline: Pipeline,
    clock: Arc<C>,
    (mut samples, mut notices): (mpsc::Receiver<Sample>, mpsc::Receiver<EventKind>),
    journal: JournalHandle,
    heartbeat: Heartbeat,
) {
    let now = || -> Stamp { clock.now().into() };
    loop {
        let wait = pipeline.next_end().since(now().mono) + GRACE;
        tokio::select! {
            biased;
            () = sleep_until(Instant::now() + wait) => {
                let now = now();
                heartbeat.beat(now.mono);
                pipeline.close(now, &journal);
            }
            Some(notice) = notices.recv() => pipeline.notice(notice),
            sample = samples.recv() => match sample {
                Some(sample) => pipeline.take(&sample),
                None => break,
            },
        }
    }
    pipeline.finish(now(), &journal);
}
