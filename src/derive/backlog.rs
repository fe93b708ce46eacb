//! What has ended beside a backlog.

use std::collections::VecDeque;
use std::time::Duration;

use crate::measure::Mono;

/// What waits for the end of a backlog: each gives way to a newer one beyond.
const WAITING_MAX: usize = 4_096;
/// A backlog that shows so long after something has ended was there already: it is known only once the broker is connected.
const BACKLOG_SHOWS: Duration = Duration::from_secs(60);

/// Told as ended while older news of it may wait in a backlog, and when.
#[derive(Debug)]
pub(super) struct BesideBacklog<T> {
    waiting: VecDeque<(T, Mono)>,
    /// A backlog has shown since they were told.
    had_backlog: bool,
}

impl<T> Default for BesideBacklog<T> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), had_backlog: false }
    }
}

impl<T> BesideBacklog<T> {
    /// Takes what has ended now. Answers what is to be told once more: the backlog has gone.
    pub(super) fn take(&mut self, ended: Vec<T>, has_backlog: bool, now: Mono) -> Vec<T> {
        let again = if has_backlog || !std::mem::take(&mut self.had_backlog) {
            Vec::new()
        } else {
            self.waiting.drain(..).map(|(told, _)| told).collect()
        };
        self.waiting.extend(ended.into_iter().map(|told| (told, now)));
        self.had_backlog |= has_backlog;
        if !has_backlog {
            self.waiting.retain(|(_, at)| now.since(*at) < BACKLOG_SHOWS);
        }
        let surplus = self.waiting.len().saturating_sub(WAITING_MAX);
        self.waiting.drain(..surplus);
        again
    }

    /// The window of `now` is not kept. What it told for the first time ends anew; what it told once more is to be told with the next.
    pub(super) fn take_back(&mut self, lost: impl Iterator<Item = T>, now: Mono)
    where
        T: PartialEq,
    {
        for lost in lost {
            let first = self.waiting.iter().rposition(|(told, at)| *told == lost && *at == now);
            if first.and_then(|place| self.waiting.remove(place)).is_none() {
                self.waiting.push_back((lost, now));
                self.had_backlog = true;
            }
        }
    }
}
