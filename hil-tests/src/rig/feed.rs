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
    durable: BTreeMap<u64, (u64, u64)>,
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
                if let (Some(epoch), Some(durable)) = (status.epoch(), status.durable()) {
                    heard.durable.entry(epoch).or_insert((durable + 1, durable)).1 = durable;
                }
                heard.newest = Some((unix_ns(), status));
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
        self.lock().durable.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
