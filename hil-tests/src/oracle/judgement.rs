//! The verdict, in numbers and in words.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Of each kind the first so many are shown: one cause often has thousands of effects.
const SHOWN_MAX: usize = 12;

/// What was found out about all gateways.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judgement {
    /// By gateway.
    pub gateways: BTreeMap<String, Tally>,
    /// What is wrong; empty is the verdict one wants.
    pub findings: Vec<Finding>,
}

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Whose; of a topic without a gateway, the topic.
    pub gateway: String,
    /// Of which kind.
    pub kind: Kind,
    /// What exactly, for a person.
    pub text: String,
}

/// Kinds of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A number was not delivered and no gap event tells of it.
    Gap,
    /// Issued or even acknowledged, and not delivered, and not told.
    Lost,
    /// Delivered, and never issued.
    Spurious,
    /// One identity with two contents.
    Changed,
    /// One content, or one point of a series, under two identities.
    Twin,
    /// A number used twice, or an epoch that fell.
    Order,
    /// A message that contradicts the contract or itself.
    Malformed,
    /// A value that the device did not have at that time.
    Untrue,
}

/// What one gateway delivered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages of all kinds.
    pub messages: u64,
    /// Batches on `…/telemetry`, with repetitions.
    pub live: u64,
    /// Batches on `…/history`, with repetitions.
    pub historical: u64,
    /// Distinct entries.
    pub delivered: u64,
    /// Batches that came again, unchanged.
    pub repeated: u64,
    /// Entries that the issuer is known to have issued; `None` if nothing is known.
    pub issued: Option<u64>,
    /// Entries that the issuer is known to have seen acknowledged.
    pub acknowledged: u64,
    /// Batches that were changed, malformed or untrue.
    pub corrupted: u64,
    /// Starts of the agent seen.
    pub epochs: u64,
    /// Lowest and highest number delivered.
    pub range: Option<(u64, u64)>,
    /// Entries given up and told, by reason.
    pub gaps: BTreeMap<String, u64>,
    /// Measured values.
    pub points: u64,
    /// Values that were held against the truth.
    pub values_checked: u64,
    /// Event lines, by kind.
    pub events: BTreeMap<String, u64>,
    /// Live batches with a lower number than one before.
    pub live_out_of_order: u64,
    /// From the window's end to the consumer, on the live lane, 99th percentile.
    pub live_p99_ns: Option<i64>,
}

impl Judgement {
    /// Whether nothing is wrong, and there was something to judge.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.findings.is_empty() && self.gateways.values().any(|tally| tally.delivered > 0)
    }

    /// How many faults of a kind.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        self.findings.iter().filter(|finding| finding.kind == kind).count()
    }

    /// The numbers of one gateway; all zero if nothing came from it.
    #[must_use]
    pub fn tally(&self, gateway: &str) -> Tally {
        self.gateways.get(gateway).cloned().unwrap_or_default()
    }

    /// # Panics
    /// With the whole judgement, if it is not passed.
    #[track_caller]
    pub fn assert_passed(&self) {
        assert!(self.passed(), "{self}");
    }
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match (self.passed(), self.findings.len()) {
            (true, _) => "PASSED".to_owned(),
            (false, 0) => "FAILED: nothing was delivered".to_owned(),
            (false, n) => format!("FAILED: {n} findings"),
        };
        writeln!(f, "conservation: {verdict}")?;
        for (name, tally) in &self.gateways {
            write!(f, "  {name}: {tally}")?;
        }
        let mut kinds: Vec<Kind> = self.findings.iter().map(|finding| finding.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        for kind in kinds {
            writeln!(f, "  {kind:?}: {}", self.count(kind))?;
            for finding in self.findings.iter().filter(|finding| finding.kind == kind).take(SHOWN_MAX) {
                writeln!(f, "    {}: {}", finding.gateway, finding.text)?;
            }
            if self.count(kind) > SHOWN_MAX {
                writeln!(f, "    … and {} more", self.count(kind) - SHOWN_MAX)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { messages, live, historical, delivered, repeated, issued, acknowledged, corrupted, .. } = self;
        let Self { epochs, range, gaps, points, values_checked, events, live_out_of_order, live_p99_ns, .. } = self;
        let issued = issued.map_or("issued unknown".to_owned(), |n| format!("issued {n}"));
        let (first, last) = range.unwrap_or_default();
        writeln!(f, "{issued}, delivered {delivered} (seq {first} to {last}, {epochs} epochs), corrupted {corrupted}")?;
        writeln!(f, "    {messages} messages: {live} live, {historical} historical, {repeated} repeated unchanged")?;
        writeln!(f, "    {points} points, {values_checked} values held against the truth")?;
        if *acknowledged > 0 {
            writeln!(f, "    acknowledged {acknowledged}")?;
        }
        if let Some(p99) = live_p99_ns {
            let ms = Duration::from_nanos(p99.unsigned_abs()).as_secs_f64() * 1e3;
            let sign = if *p99 < 0 { "-" } else { "" };
            writeln!(f, "    live p99 {sign}{ms:.1} ms, {live_out_of_order} live out of order")?;
        }
        if !events.is_empty() {
            writeln!(f, "    events {events:?}")?;
        }
        if !gaps.is_empty() {
            writeln!(f, "    entries given up and told, by reason: {gaps:?}")?;
        }
        Ok(())
    }
}
