//! How much is written, as flash feels it, and what is done when that is more than was planned: the commits come rarer.
//! Pure; `task` brings the counts.
//!
//! A sync of one small entry costs pages and the file system's own journal, many times the entry: what a day costs is
//! decided by how often is synced, hardly by how much.

use std::collections::VecDeque;
use std::time::Duration;

/// How often the counts are taken. A rate is told from the second one on.
pub(in crate::journal) const SAMPLE: Duration = Duration::from_secs(60);
/// A rate is taken over the last hour: a shorter one jumps, a longer one hides what has changed.
const SAMPLES_MAX: usize = 61;
/// The longest that commits are put off: what a power cut may take, as the configuration's longest.
const INTERVAL_MAX: Duration = Duration::from_secs(10);
const DAY: Duration = Duration::from_secs(86_400);

/// Counts at one moment, each since some time before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::journal) struct Counts {
    /// Bytes of frames.
    pub(in crate::journal) kept: u64,
    pub(in crate::journal) commits: u64,
    /// Bytes that this process caused to be written; `None`: the kernel does not tell.
    pub(in crate::journal) written: Option<u64>,
    /// Bytes written to the disk under the journal, by whomever.
    pub(in crate::journal) device: Option<u64>,
}

/// Bytes a day, at the rate of the last hour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::journal) struct Rates {
    pub(in crate::journal) kept: Option<u64>,
    pub(in crate::journal) written: Option<u64>,
    pub(in crate::journal) device: Option<u64>,
}

/// See the module's head.
#[derive(Debug)]
pub(in crate::journal) struct Wear {
    bytes_per_day_max: Option<u64>,
    planned: Duration,
    interval: Duration,
    samples: VecDeque<(Duration, Counts)>,
}

impl Wear {
    pub(in crate::journal) fn new(bytes_per_day_max: Option<u64>, planned: Duration) -> Self {
        Self { bytes_per_day_max, planned, interval: planned, samples: VecDeque::new() }
    }

    /// Whether it is time to take counts.
    pub(in crate::journal) fn is_due(&self, now: Duration) -> bool {
        self.samples.back().is_none_or(|(at, _)| now >= *at + SAMPLE)
    }

    /// Takes counts, and answers the shortest time between two commits from here on.
    pub(in crate::journal) fn take(&mut self, now: Duration, counts: Counts) -> Duration {
        if let Some(&(at, before)) = self.samples.back() {
            self.adjust(now.saturating_sub(at), before, counts);
        }
        self.samples.push_back((now, counts));
        if self.samples.len() > SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.interval
    }

    /// At the rate of the last hour.
    pub(in crate::journal) fn rates(&self) -> Rates {
        let (Some((began, first)), Some((ended, last))) = (self.samples.front(), self.samples.back()) else {
            return Rates::default();
        };
        let length = ended.saturating_sub(*began);
        let rate = |pick: fn(&Counts) -> Option<u64>| {
            pick(last).zip(pick(first)).and_then(|(last, first)| a_day(last.saturating_sub(first), length))
        };
        Rates { kept: rate(|c| Some(c.kept)), written: rate(|c| c.written), device: rate(|c| c.device) }
    }

    /// The time between commits that the plan asks for, and the one that is.
    pub(in crate::journal) fn intervals(&self) -> (Duration, Duration) {
        (self.planned, self.interval)
    }

    /// What is written is, beside the entries themselves, in proportion to the number of commits: so the interval follows
    /// the excess, and follows it back.
    fn adjust(&mut self, length: Duration, before: Counts, counts: Counts) {
        let Some(max) = self.bytes_per_day_max else { return };
        let moved = |after: u64, before: u64| after.saturating_sub(before);
        // A file system in memory counts nothing: then what is kept must do.
        let written = counts.written.zip(before.written).map_or(0, |(after, before)| moved(after, before));
        let Some(rate) = a_day(written.max(moved(counts.kept, before.kept)), length) else { return };
        let commits = moved(counts.commits, before.commits);
        if commits == 0 {
            return;
        }
        #[allow(clippy::cast_precision_loss, reason = "a ratio")]
        let next = length.as_secs_f64() / commits as f64 * rate as f64 / max as f64;
        let longest = INTERVAL_MAX.max(self.planned);
        let next = Duration::try_from_secs_f64(next).unwrap_or(longest).clamp(self.planned, longest);
        if next > self.planned && self.interval == self.planned {
            tracing::info!(rate, max, "more is written a day than [journal] bytes_per_day_max: commits come rarer");
        }
        if next == longest && self.interval < longest && rate > max {
            tracing::warn!(rate, max, "bytes_per_day_max cannot be kept: commits come as rarely as they may");
        }
        if next == self.planned && self.interval > self.planned {
            tracing::info!("commits come as often as planned again");
        }
        self.interval = next;
    }
}

fn a_day(bytes: u64, length: Duration) -> Option<u64> {
    let ns = length.as_nanos();
    (ns > 0).then(|| u64::try_from(u128::from(bytes) * DAY.as_nanos() / ns).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLANNED: Duration = Duration::from_millis(100);

    /// A depot of four windows a second on a disk on which a commit costs 16 KiB: the interval after each minute.
    fn minutes(wear: &mut Wear, minutes: u32) -> Vec<f64> {
        let mut counts = Counts { written: Some(0), ..Counts::default() };
        let mut interval = PLANNED;
        let mut intervals = Vec::new();
        for minute in 0..=minutes {
            interval = wear.take(SAMPLE * minute, counts);
            intervals.push(interval.as_secs_f64());
            // At most one for each window.
            let commits = (60.0 / interval.as_secs_f64().max(0.25)).round();
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
            let commits = commits as u64;
            counts.commits += commits;
            counts.kept += 240 * 1_000;
            counts.written = counts.written.map(|written| written + 240 * 1_000 + commits * 16_384);
        }
        assert!(interval <= INTERVAL_MAX);
        intervals
    }

    #[test]
    fn without_a_ceiling_the_commits_come_as_planned_and_the_rates_are_told() {
        let mut wear = Wear::new(None, PLANNED);
        assert_eq!(wear.rates(), Rates::default());
        assert!(minutes(&mut wear, 5).iter().all(|s| (s - 0.1).abs() < 1e-9));
        let rates = wear.rates();
        assert_eq!(rates.kept, Some(345_600_000));
        assert_eq!((rates.written, rates.device), (Some(345_600_000 + 345_600 * 16_384), None));
    }

    #[test]
    fn a_ceiling_makes_commits_as_rare_as_it_needs_and_no_rarer() {
        let mut wear = Wear::new(Some(2_000_000_000), PLANNED);
        let intervals = minutes(&mut wear, 30);
        // (2.0 - 0.3456) GB are 100,976 commits a day, one every 0.856 s.
        let last = intervals[30];
        assert!((0.82..0.90).contains(&last), "{intervals:?}");
        assert_eq!(wear.intervals().0, PLANNED);
    }

    #[test]
    fn a_ceiling_that_cannot_be_kept_costs_no_more_than_ten_seconds() {
        let mut wear = Wear::new(Some(1_000), PLANNED);
        assert!((minutes(&mut wear, 3)[3] - 10.0).abs() < 1e-9);
    }

    #[test]
    fn memory_does_not_grow_with_time() {
        let mut wear = Wear::new(Some(2_000_000_000), PLANNED);
        minutes(&mut wear, 500);
        assert_eq!(wear.samples.len(), SAMPLES_MAX);
        assert!(!wear.is_due(SAMPLE * 500 + SAMPLE / 2) && wear.is_due(SAMPLE * 501));
    }
}
