//! What is in the journal, as numbers: told by the running agent, or read from the files.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::journal::settings::Settings;
use crate::measure::{Epoch, Seq, Utc};
use crate::spec::{GatewayId, SiteId};

/// Growth is measured over the newest day of what is there.
const DAY_NS: i64 = 86_400_000_000_000;
/// A shorter stretch says nothing about a day.
const STRETCH_MIN_NS: i64 = 60_000_000_000;

/// The journal at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Inventory {
    /// Whose record it is; `None` if the files do not tell any more.
    pub gateway: Option<GatewayId>,
    /// Of which site.
    pub site: Option<SiteId>,
    /// Ascending.
    pub segments: Vec<SegmentFacts>,
    /// The number of the next window.
    pub next: Option<Seq>,
    /// Entries that are neither acknowledged nor told as lost.
    pub waiting: u64,
    /// Entries that are, and still lie on disk.
    pub settled: u64,
    /// Damaged segments that are put aside, by name.
    pub quarantined: Vec<String>,
    /// The end of the oldest entry, if its clock could be believed.
    pub oldest: Option<Utc>,
    /// The end of the newest entry, if its clock could be believed.
    pub newest: Option<Utc>,
    /// `bytes_max`; `None`: no plan is known.
    pub bytes_max: Option<u64>,
    /// `age_max`, s.
    pub age_max_s: Option<u64>,
    /// What the entries take on disk for a day at the rate of now; `None`: there is too little to tell.
    pub growth_bytes_per_day: Option<u64>,
    /// What the running agent writes for it in a day, by the kernel's count.
    pub written_bytes_per_day: Option<u64>,
    /// What all programs together write to that disk in a day, since the agent started.
    pub device_bytes_per_day: Option<u64>,
}

/// One segment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentFacts {
    /// Its first number.
    pub first: Seq,
    /// Its last number; below the first if it is empty.
    pub last: Seq,
    /// The life that wrote it; `None` if its header cannot be read.
    pub epoch: Option<Epoch>,
    /// On disk.
    pub bytes: u64,
    /// Measured values in it; `None`: it is not complete.
    pub points: Option<u64>,
    /// Of its entries, those that are neither acknowledged nor told as lost.
    pub waiting: u64,
    /// The newest wall time in it that could be believed.
    pub newest: Option<Utc>,
    /// Whether it is complete.
    pub sealed: bool,
    /// Something in it turned out not to be what was written.
    pub damaged: bool,
    /// The version in which a newer program wrote it: it is left alone. `None`: this program can read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newer: Option<u16>,
}

/// How far the journal and its delivery are. Changes whenever something becomes leasable or a lease is settled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// The life that lasts; another one when a medium was found after all.
    pub epoch: Option<Epoch>,
    /// The newest durable number.
    pub durable: Option<Seq>,
    /// Entries that the live lane could lease now.
    pub live_waiting: u64,
    /// Entries that the history lane could lease now.
    pub history_waiting: u64,
    /// Entries that are neither acknowledged nor given up, leased or not.
    pub unacknowledged: u64,
}

/// What was given up by order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Purged {
    /// Entries that waited and will never be delivered; a gap event tells it.
    pub entries: u64,
    /// Segments that go.
    pub segments: u64,
    /// Segments that stay because a newer program wrote them, or entries in them, or cannot be read to know.
    #[serde(default)]
    pub newer: u64,
    /// Segments that stay because nothing in them says when it was.
    pub undated: u64,
    /// The time from which the age was counted.
    pub counted_from: Option<Utc>,
}

impl Inventory {
    /// Bytes of all segments.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }

    /// The lives that are still there, each with its first and last number.
    #[must_use]
    pub fn epochs(&self) -> Vec<(Epoch, Seq, Seq)> {
        let mut epochs: Vec<(Epoch, Seq, Seq)> = Vec::new();
        for segment in &self.segments {
            match (epochs.last_mut(), segment.epoch) {
                (Some((known, _, last)), Some(epoch)) if *known == epoch => *last = segment.last,
                (_, Some(epoch)) => epochs.push((epoch, segment.first, segment.last)),
                _ => {}
            }
        }
        epochs
    }

    /// How long an outage that begins now could last before a bound makes something give, if nothing changes. What
    /// waits already takes its share; what is settled makes room.
    #[must_use]
    pub fn bridged(&self) -> Option<Duration> {
        let (bytes_max, growth) = (self.bytes_max?, self.growth_bytes_per_day.filter(|growth| *growth > 0)?);
        let held: u64 = self.segments.iter().filter(|segment| segment.waiting > 0).map(|segment| segment.bytes).sum();
        #[allow(clippy::cast_precision_loss, reason = "a forecast")]
        let by_room = bytes_max.saturating_sub(held) as f64 / growth as f64 * 86_400.0;
        let by_room = Duration::try_from_secs_f64(by_room).unwrap_or(Duration::MAX);
        let by_age = self.age_max_s.map_or(Duration::MAX, |max| {
            let waits_since = self.segments.iter().find(|segment| segment.waiting > 0).and_then(|s| s.newest);
            let age = waits_since.zip(self.newest).map_or(0, |(oldest, newest)| newest.0.saturating_sub(oldest.0));
            Duration::from_secs(max).saturating_sub(Duration::from_nanos(u64::try_from(age).unwrap_or(0)))
        });
        Some(by_room.min(by_age))
    }

    /// Fills in what follows from the segments.
    pub(super) fn concluded(mut self) -> Self {
        self.waiting = self.segments.iter().map(|segment| segment.waiting).sum();
        let entries: u64 = self.segments.iter().map(|s| (s.last.0 + 1).saturating_sub(s.first.0)).sum();
        self.settled = entries.saturating_sub(self.waiting);
        self.growth_bytes_per_day = self.growth().or(self.growth_bytes_per_day);
        self
    }

    /// By the segments of the newest day: the bytes of all that follow one with a time, over the time between them.
    fn growth(&self) -> Option<u64> {
        let newest = self.newest?;
        let timed = self.segments.iter().enumerate().filter_map(|(place, segment)| Some((place, segment.newest?)));
        let (bytes, stretch) = match timed.clone().find(|(_, at)| newest.0.saturating_sub(at.0) <= DAY_NS) {
            Some((place, at)) if newest.0.saturating_sub(at.0) >= STRETCH_MIN_NS => {
                let bytes: u64 = self.segments[place + 1..].iter().map(|segment| segment.bytes).sum();
                (bytes, newest.0 - at.0)
            }
            // All of it is in one segment.
            _ => (self.bytes(), newest.0.saturating_sub(self.oldest?.0)),
        };
        if stretch < STRETCH_MIN_NS {
            return None;
        }
        u64::try_from(i128::from(bytes) * i128::from(DAY_NS) / i128::from(stretch)).ok()
    }
}

impl Inventory {
    /// With the bounds of a plan, of which the files know nothing.
    #[must_use]
    pub fn bounded_by(mut self, settings: &Settings) -> Self {
        self.bytes_max = Some(settings.bytes_max);
        self.age_max_s = Some(settings.age_max.as_secs());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One segment of 1 MiB every hour, all waiting.
    fn hours(count: i64) -> Inventory {
        let hour = 3_600_000_000_000;
        let segment = |n: i64| SegmentFacts {
            first: Seq(n.unsigned_abs() * 100 + 1),
            last: Seq(n.unsigned_abs() * 100 + 100),
            epoch: Some(Epoch(n.unsigned_abs() / 3)),
            bytes: 1 << 20,
            points: Some(1),
            waiting: 100,
            newest: Some(Utc(n * hour + hour)),
            sealed: true,
            damaged: false,
            newer: None,
        };
        let segments: Vec<_> = (0..count).map(segment).collect();
        Inventory {
            oldest: Some(Utc(0)),
            newest: Some(Utc(count * hour)),
            bytes_max: Some(48 << 20),
            age_max_s: Some(72 * 3600),
            segments,
            ..Inventory::default()
        }
        .concluded()
    }

    #[test]
    fn hours_of_outage_follow_from_growth_room_and_age() {
        assert_eq!(hours(8).growth_bytes_per_day, Some(24 << 20));
        assert_eq!(hours(8).bridged(), Some(Duration::from_secs(40 * 3600)), "48 MiB less 8 of 1 MiB an hour");
        assert_eq!(hours(1).bridged(), Some(Duration::from_secs(47 * 3600)), "one segment alone is enough");
        let mut drained = hours(8);
        drained.segments.iter_mut().for_each(|segment| segment.waiting = 0);
        assert_eq!(drained.bridged(), Some(Duration::from_secs(48 * 3600)), "what is settled makes room");
        let mut young = hours(8);
        young.age_max_s = Some(24 * 3600);
        assert_eq!(young.bridged(), Some(Duration::from_secs(17 * 3600)), "age comes first: 7 of 24 h are over");
    }

    #[test]
    fn lives_are_told_with_their_first_and_last_number() {
        let epochs: Vec<_> = hours(4).epochs().into_iter().map(|(e, a, b)| (e.0, a.0, b.0)).collect();
        assert_eq!(epochs, [(0, 1, 300), (1, 301, 400)]);
    }
}
