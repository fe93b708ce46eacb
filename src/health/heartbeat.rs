//! Signs of life: every long-lived task beats, and the watchdog is fed only while all of them do.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::measure::Mono;

/// The name of a task in the watchdog's report.
pub type TaskName = &'static str;

/// The heartbeat of one task. Cheap to beat; beats at least every half of its allowance.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    last: Arc<AtomicU64>,
}

impl Heartbeat {
    /// Says: alive at `now`.
    pub fn beat(&self, now: Mono) {
        self.last.store(now.0, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Watched {
    name: TaskName,
    allowance: Duration,
    last: Arc<AtomicU64>,
}

/// All heartbeats of the agent, by task.
#[derive(Debug, Default)]
pub struct Heartbeats {
    watched: Mutex<Vec<Watched>>,
}

impl Heartbeats {
    /// Watches a task from `now` on: longer than `allowance` without a beat is a hang.
    pub fn watch(&self, name: TaskName, allowance: Duration, now: Mono) -> Heartbeat {
        let last = Arc::new(AtomicU64::new(now.0));
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.push(Watched { name, allowance, last: Arc::clone(&last) });
        Heartbeat { last }
    }

    /// Stops watching everything: the tasks are being replaced.
    pub fn clear(&self) {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The tasks that have not beaten within their allowance at `now`, with the length of their silence.
    #[must_use]
    pub fn silent(&self, now: Mono) -> Vec<(TaskName, Duration)> {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        let silence = |w: &Watched| now.since(Mono(w.last.load(Ordering::Relaxed)));
        watched.iter().filter(|w| silence(w) > w.allowance).map(|w| (w.name, silence(w))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_stops_beating_is_named() {
        let heartbeats = Heartbeats::default();
        let second = |s: u64| Mono(s * 1_000_000_000);
        let steady = heartbeats.watch("pipeline", Duration::from_secs(2), second(0));
        let _hung = heartbeats.watch("journal", Duration::from_secs(2), second(0));
        steady.beat(second(5));
        assert_eq!(heartbeats.silent(second(6)), [("journal", Duration::from_secs(6))]);
    }
}
