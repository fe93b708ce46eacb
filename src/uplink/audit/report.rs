//! What the judge has found.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// All gateways.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct AuditReport {
    /// Whether nothing is missing and nothing is wrong.
    pub passes: bool,
    /// By name.
    pub gateways: BTreeMap<String, GatewayReport>,
    /// Messages that are not batches of this wire version, in words; the first few.
    pub malformed: Vec<String>,
    /// How many there were.
    pub malformed_count: u64,
    /// How often the broker had forgotten this consumer's session: what was sent meanwhile was not heard, and a gap
    /// there may be the consumer's own.
    pub blind: u64,
}

/// One gateway.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct GatewayReport {
    /// Different entries heard.
    pub entries: u64,
    /// Measured values in them.
    pub points: u64,
    /// Of them first heard live.
    pub live: u64,
    /// Of them first heard as history.
    pub history: u64,
    /// Epochs heard.
    pub epochs: u64,
    /// Lowest and highest number.
    pub seq: Option<Span>,
    /// Numbers that nobody accounts for.
    pub gaps: Vec<Span>,
    /// Numbers that gap events account for.
    pub accounted: u64,
    /// The replay has not come to these yet.
    pub pending: Vec<Span>,
    /// Lives that had entries in memory only, and of which nobody knows how many.
    pub in_memory: Vec<MemoryLife>,
    /// Repeats with the same content: allowed, counted.
    pub duplicates: u64,
    /// Repeats with another content.
    pub changed: u64,
    /// The same content under two identities.
    pub twins: u64,
    /// Live entries that came after a later one.
    pub out_of_order: u64,
    /// From a window's end to its receipt here, live entries.
    pub latency: Option<Latency>,
}

/// A life that had entries in memory only and did not say that this was over: what was not delivered may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MemoryLife {
    /// Which.
    pub epoch: u64,
    /// Its entries that were heard.
    pub entries: u64,
    /// The last of them: what came after is not known.
    pub after: u64,
    /// Whether a later life tells the loss.
    pub told: bool,
    /// Whether it may still go on.
    pub lasts: bool,
}

/// A run of numbers, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Span {
    /// The first.
    pub from: u64,
    /// The last.
    pub to: u64,
}

/// ms.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Latency {
    /// Median.
    pub p50_ms: f64,
    /// 99 of 100 are faster.
    pub p99_ms: f64,
    /// The slowest.
    pub max_ms: f64,
}

impl AuditReport {
    /// Whether nothing is missing and nothing is wrong.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.passes
    }
}

impl GatewayReport {
    /// Whether nothing is missing and nothing is wrong.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.gaps.is_empty() && self.in_memory.is_empty() && self.changed == 0 && self.twins == 0
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.from == self.to { write!(f, "{}", self.from) } else { write!(f, "{}–{}", self.from, self.to) }
    }
}

impl fmt::Display for GatewayReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = self.seq.map_or_else(String::new, |seq| format!(", numbers {seq}"));
        writeln!(
            f,
            "  {} entries with {} points over {} epochs{range}: {} live, {} history",
            self.entries, self.points, self.epochs, self.live, self.history
        )?;
        writeln!(
            f,
            "  {} gaps, {} changed duplicates, {} identical duplicates, {} entries under two identities",
            self.gaps.len(),
            self.changed,
            self.duplicates,
            self.twins
        )?;
        for gap in self.gaps.iter().take(10) {
            writeln!(f, "    missing and not accounted for: {gap}")?;
        }
        if self.gaps.len() > 10 {
            writeln!(f, "    … and {} more", self.gaps.len() - 10)?;
        }
        if self.accounted > 0 {
            writeln!(f, "  {} entries are accounted for by gap events", self.accounted)?;
        }
        for MemoryLife { epoch, entries, after, told, lasts } in self.in_memory.iter().take(10) {
            let end = match (told, lasts) {
                (true, _) => "the gateway tells it as lost",
                (false, true) => "it goes with that life, unless its disk is written before",
                (false, false) => "it went with that life",
            };
            writeln!(
                f,
                "  epoch {epoch} was in memory only: {entries} of its entries are known, what came after {after} is not; {end}"
            )?;
        }
        if self.in_memory.len() > 10 {
            writeln!(f, "  … and {} more such epochs", self.in_memory.len() - 10)?;
        }
        for pending in &self.pending {
            writeln!(f, "  the replay has not come to {pending} yet: listen longer")?;
        }
        if self.out_of_order > 0 {
            writeln!(f, "  {} live entries came after a later one", self.out_of_order)?;
        }
        match &self.latency {
            Some(Latency { p50_ms, p99_ms, max_ms }) => writeln!(
                f,
                "  live latency from window end to here: p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms, max {max_ms:.1} ms"
            ),
            None => writeln!(f, "  nothing was heard live"),
        }
    }
}

impl fmt::Display for AuditReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (gateway, verdict) in &self.gateways {
            writeln!(f, "{gateway}: {}", if verdict.passes() { "complete" } else { "NOT COMPLETE" })?;
            write!(f, "{verdict}")?;
        }
        if self.gateways.is_empty() {
            writeln!(f, "no gateway was heard: check the broker, the topic prefix and this client's rights")?;
        }
        for text in &self.malformed {
            writeln!(f, "malformed: {text}")?;
        }
        if self.blind > 0 {
            writeln!(f, "the broker forgot this consumer {} times: gaps may be its own", self.blind)?;
        }
        write!(f, "audit {}", if self.passes { "passed" } else { "FAILED" })
    }
}
