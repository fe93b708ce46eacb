//! What a source hands to the pipeline while the queue between them is full: nothing waits for it, and what matters most
//! is kept.
//!
//! Events, vehicles and sessions wait for room in their order. Values of one device that were captured in the same moment become one
//! sample with the newest of each point; the others are counted as shed. Beyond the bound the oldest values go first.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::timeout;

use crate::health::StatusBoard;
use crate::measure::{Payload, Sample, Stamp};

/// Samples that wait: as many as the queue itself holds.
const WAITING_MAX: usize = 4096;
/// Captured within the shortest window after the first of them, whose time stays: folding moves no value by more than that.
const FOLD_WITHIN: Duration = Duration::from_millis(50);
/// What a source waits at its end for the pipeline to take what is left. It takes thousands a millisecond.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// The way of one source to the pipeline.
pub(super) struct Outbox {
    samples: mpsc::Sender<Sample>,
    waiting: VecDeque<Sample>,
    facts: Arc<StatusBoard>,
}

impl Outbox {
    pub(super) fn new(samples: mpsc::Sender<Sample>, facts: Arc<StatusBoard>) -> Self {
        Self { samples, waiting: VecDeque::new(), facts }
    }

    /// Hands a sample over, or lets it wait. Never waits itself.
    pub(super) fn push(&mut self, sample: Sample) {
        self.flush();
        if !self.waiting.is_empty() {
            self.wait(sample);
        } else if let Err(TrySendError::Full(sample)) = self.samples.try_send(sample) {
            self.wait(sample);
        }
    }

    /// Hands over what has waited, as far as there is room. At least once a tick of the source.
    pub(super) fn flush(&mut self) {
        while let Some(sample) = self.waiting.pop_front() {
            match self.samples.try_send(sample) {
                Ok(()) => {}
                Err(TrySendError::Full(sample)) => return self.waiting.push_front(sample),
                // The generation ends.
                Err(TrySendError::Closed(_)) => return self.waiting.clear(),
            }
        }
    }

    /// Waits for room for all that has waited; `false` if nobody takes samples any more. Not cancel-safe: a sample is lost.
    pub(super) async fn drain(&mut self) -> bool {
        while let Some(sample) = self.waiting.pop_front() {
            if self.samples.send(sample).await.is_err() {
                return false;
            }
        }
        true
    }

    /// The source ends: what waits is handed over, within a second.
    pub(super) async fn close(mut self) {
        if timeout(CLOSE_WAIT, self.drain()).await.is_err() {
            let left = self.waiting.len() as u64 + 1;
            self.facts.pipeline(|facts| facts.samples_shed += left);
        }
    }

    fn wait(&mut self, sample: Sample) {
        let newest = self.waiting.iter_mut().rev().find(|waiting| waiting.device == sample.device);
        let shed = match newest {
            Some(waiting) if are_of_a_moment(waiting.at, sample.at) => match fold(waiting, sample) {
                None => true,
                Some(sample) => self.append(sample),
            },
            _ => self.append(sample),
        };
        if shed {
            self.facts.pipeline(|facts| facts.samples_shed += 1);
        }
    }

    /// Answers whether another one went for it.
    fn append(&mut self, sample: Sample) -> bool {
        let is_full = self.waiting.len() >= WAITING_MAX;
        if is_full {
            let oldest = self.waiting.iter().position(is_value).unwrap_or(0);
            self.waiting.remove(oldest);
        }
        self.waiting.push_back(sample);
        is_full
    }
}

/// Also by the time of a source that has its own.
fn are_of_a_moment(earlier: Stamp, later: Stamp) -> bool {
    let within = i64::try_from(FOLD_WITHIN.as_nanos()).unwrap_or(i64::MAX);
    later.mono.since(earlier.mono) <= FOLD_WITHIN
        && earlier.trust == later.trust
        && (!earlier.trust.is_of_source() || (0..=within).contains(&(later.utc.0 - earlier.utc.0)))
}

fn is_value(sample: &Sample) -> bool {
    match sample.payload {
        Payload::Values(_) | Payload::Registers { .. } | Payload::Silent(_) => true,
        Payload::Noticed(_) | Payload::Vehicle(_) | Payload::Session(_) => false,
    }
}

/// Puts the newer values into the sample that waits; gives back what is none.
fn fold(waiting: &mut Sample, sample: Sample) -> Option<Sample> {
    let (Payload::Values(known), Payload::Values(newer)) = (&mut waiting.payload, &sample.payload) else {
        return Some(sample);
    };
    for (point, value) in newer {
        match known.binary_search_by_key(point, |(point, _)| *point) {
            // A value that was heard is not undone by one that was not.
            Ok(at) if value.is_ok() || known[at].1.is_err() => known[at].1 = value.clone(),
            Ok(_) => {}
            Err(at) => known.insert(at, (*point, value.clone())),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{ClockTrust, EventKind, Mono, Raw, SessionEvent, Utc};
    use crate::spec::{DeviceIx, PointIx};

    fn sample(ms: u64, payload: Payload) -> Sample {
        let at = Stamp { mono: Mono(ms * 1_000_000), utc: Utc(0), trust: ClockTrust::Synced };
        Sample { device: DeviceIx(0), at, payload }
    }

    fn value(ms: u64, value: i128) -> Sample {
        sample(ms, Payload::Values(vec![(PointIx(0), Ok(Raw::Integer(value)))]))
    }

    fn event(count: u64) -> Sample {
        sample(0, Payload::Noticed(EventKind::Session(SessionEvent::Readable { count }.into())))
    }

    #[tokio::test]
    async fn a_full_queue_sheds_values_and_keeps_every_event_and_the_final_state_in_order() {
        let (sender, mut queue) = mpsc::channel(2);
        let facts = Arc::new(StatusBoard::default());
        let mut outbox = Outbox::new(sender, Arc::clone(&facts));
        for n in 0..1_000 {
            outbox.push(value(0, n));
            if n % 100 == 99 {
                outbox.push(event(u64::try_from(n).expect("small")));
            }
        }
        outbox.push(sample(0, Payload::Vehicle(None)));
        tokio::spawn(outbox.close());
        let mut told = Vec::new();
        while let Some(sample) = queue.recv().await {
            told.push(sample);
        }
        let events = told.iter().filter(|sample| matches!(sample.payload, Payload::Noticed(_))).count();
        assert_eq!(events, 10);
        assert_eq!(told[told.len() - 3..], [value(0, 999), event(999), sample(0, Payload::Vehicle(None))]);
        let arrived = told.iter().filter(|sample| is_value(sample)).count() as u64;
        assert_eq!(facts.status().pipeline.samples_shed, 1_000 - arrived, "each one that did not arrive is counted");
    }

    #[test]
    fn values_in_a_dense_row_are_folded_within_a_window_and_no_further() {
        let (sender, _queue) = mpsc::channel(1);
        let mut outbox = Outbox::new(sender, Arc::new(StatusBoard::default()));
        outbox.push(event(1));
        for n in 0..1_000_u64 {
            outbox.push(value(n, n.into()));
        }
        let expected: Vec<Sample> = (0..20).map(|n| value(n * 51, i128::from((n * 51 + 50).min(999)))).collect();
        assert_eq!(outbox.waiting, expected, "each holds 50 ms, at the time of its first");
        let missing = sample(999, Payload::Values(vec![(PointIx(0), Err(crate::measure::Missing::Stale))]));
        outbox.push(missing);
        assert_eq!(outbox.waiting.back(), expected.last());
    }

    #[test]
    fn values_of_other_times_stay_apart_and_beyond_the_bound_the_oldest_go() {
        let (sender, _queue) = mpsc::channel(1);
        let facts = Arc::new(StatusBoard::default());
        let mut outbox = Outbox::new(sender, Arc::clone(&facts));
        outbox.push(event(1));
        outbox.push(event(2));
        for n in 0..5_000_u64 {
            outbox.push(value(n * 100, n.into()));
        }
        assert_eq!(outbox.waiting.len(), WAITING_MAX);
        assert_eq!(outbox.waiting[0], event(2));
        assert_eq!(outbox.waiting.back(), Some(&value(499_900, 4_999)));
        assert_eq!(facts.status().pipeline.samples_shed, 5_001 - WAITING_MAX as u64);
    }
}
