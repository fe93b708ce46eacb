//! The source itself on a port, as the agent runs it.

use std::sync::Arc;
use std::time::Duration;

use hal::{LinuxClock, UnitId};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};
use v2g_edge::health::{Heartbeats, Status, StatusBoard};
use v2g_edge::measure::{Mono, Sample};
use v2g_edge::source::modbus::{Address, Port, Target, run};

pub(crate) fn unit(id: u8) -> UnitId {
    UnitId::try_from(id).expect("a unit")
}

/// A port whose windows end with the seconds.
pub(crate) fn port(address: Address, devices: Vec<Target>, window: Duration) -> Port {
    Port {
        bus: "bus".try_into().expect("a name"),
        address,
        devices,
        window,
        window_end: Mono(0),
        byte_timeout: hal::BYTE_TIMEOUT,
        learned: None,
    }
}

/// Reads the port until `end`, or until a sample is enough; the status afterwards, and whether one was.
pub(crate) async fn listen(
    port: Port,
    end: Instant,
    mut is_enough: impl FnMut(Sample, &StatusBoard) -> bool,
) -> (Status, bool) {
    let (sender, mut samples) = mpsc::channel(4096);
    let (stop, stopped) = watch::channel(false);
    let board = Arc::new(StatusBoard::default());
    let beat = Heartbeats::default().watch("source", Duration::from_secs(90), Mono(0));
    let task = tokio::spawn(run(port, Arc::new(LinuxClock::new()), sender, Arc::clone(&board), beat, stopped));
    let mut was_enough = false;
    while !was_enough && let Ok(Some(sample)) = timeout_at(end, samples.recv()).await {
        was_enough = is_enough(sample, &board);
    }
    stop.send_replace(true);
    task.await.expect("ended");
    (board.status(), was_enough)
}
