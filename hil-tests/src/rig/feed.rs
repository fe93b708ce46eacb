//! The agent's status, as the box tells it ten times a second: the record of what it said was durable, and when.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::agent::Status;
use crate::wait::unix_ns;

/// What the agent has said of itself so far, over all boots. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Feed {
    heard: Arc<Mutex<Heard>>,
}

#[derive(Debug, Default)]
struct Heard {
    newest: Option<(i64, Status)>,
    /// When it was heard, ns since 1970; epoch, number. In order, changes only.
    durable: Vec<(i64, u64, u64)>,
}

impl Feed {
    /// Listens to one boot's stream until it ends.
    pub(super) fn listen(&self, stream: impl Read + Send + 'static) {
        let feed = self.clone();
        feed.lock().newest = None;
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                // A line that the power cut short is none.
                let Some(status) = Status::parse(&line) else { continue };
                let mut heard = feed.lock();
                let at_ns = unix_ns();
                if let (Some(epoch), Some(durable)) = (status.epoch(), status.durable())
                    && heard.durable.last().is_none_or(|&(_, e, d)| (e, d) != (epoch, durable))
                {
                    heard.durable.push((at_ns, epoch, durable));
                }
                heard.newest = Some((at_ns, status));
            }
        });
    }

    /// What it said last in this boot, and when that was heard, ns since 1970.
    pub(super) fn newest(&self) -> Option<(i64, Status)> {
        self.lock().newest.clone()
    }

    /// For each epoch the numbers that the agent has said to have made durable in it: first and last. None, if the
    /// last is before the first.
    pub(super) fn durable(&self) -> BTreeMap<u64, (u64, u64)> {
        let mut ranges = BTreeMap::new();
        for &(_, epoch, durable) in &self.lock().durable {
            ranges.entry(epoch).or_insert((durable + 1, durable)).1 = durable;
        }
        ranges
    }

    /// What was heard by then, for a box that was taken back to that moment: the rest it has never said. No boot is listened to.
    pub(super) fn until(&self, ns: i64) -> Self {
        let durable = self.lock().durable.iter().copied().filter(|&(at_ns, ..)| at_ns <= ns).collect();
        Self { heard: Arc::new(Mutex::new(Heard { newest: None, durable })) }
    }

    /// The newest number that it has said to be durable.
    pub(super) fn newest_durable(&self) -> Option<u64> {
        self.lock().durable.last().map(|&(.., durable)| durable)
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
