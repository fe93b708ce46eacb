//! The conservation oracle: what was issued must arrive, once, unchanged and true, or be accounted for.
//!
//! In: every [`Message`] that an independent consumer got, in order; what the devices really had ([`Truth`]); and,
//! where it is known, what the issuer says it issued and saw acknowledged. Out: one [`Judgement`].
//!
//! It knows the wire contract (versions 1 and 2, MQTT 5) and nothing else of the product, with which it shares no code:
//!
//! - Identity is `(gateway, epoch, seq)`. `seq` goes on across epochs, epochs only rise: whatever lies between the
//!   lowest and the highest number and was not delivered must be covered by a `gap` event, or it is a
//!   [`Kind::Gap`].
//! - One identity has one payload, to the byte ([`Kind::Changed`]); one set of device lines has one identity
//!   ([`Kind::Twin`]). A message that comes again unchanged is no fault: QoS 1 allows it.
//! - A batch may come in parts; it has arrived when all of them have.
//! - A message agrees with itself: topic, properties, first line, number of points ([`Kind::Malformed`]).
//! - Every number is one that the device had at about that time ([`Kind::Untrue`]).
//!
//! It keeps every distinct payload in memory: a few KB for each window. An hour of one gateway is about 40 MB.

mod batch;
mod end;
mod judgement;
mod line;
mod parts;
mod truth;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use batch::{Batch, GapNote};
pub use end::judge_the_end;
pub use judgement::{Finding, Judgement, Kind, Tally};
pub use line::{Line, Value};
pub use truth::Truth;

/// Of an epoch: drawn, or made of the time that another life has found. Above them, lives that know of each other are two apart.
const EPOCH_LOWER_BITS: u32 = 25;

/// One MQTT message as a consumer got it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its topic.
    pub topic: String,
    /// What it carries.
    pub payload: Vec<u8>,
    /// Whether `payload` is all that it carried; `false` if the consumer could not keep every byte.
    pub intact: bool,
    /// In order, with repetitions.
    pub user_properties: Vec<(String, String)>,
    /// If there is one.
    pub content_type: Option<String>,
    /// Whether the payload format indicator is 1.
    pub payload_is_utf8: bool,
    /// Of the delivery.
    pub qos: u8,
    /// Whether it was delivered because it is retained.
    pub retain: bool,
    /// When the consumer got it, ns since 1970.
    pub received_ns: i64,
}

impl Message {
    /// Whether it is the state of a gateway that has left.
    #[must_use]
    pub fn says_offline(&self) -> bool {
        self.topic.ends_with("/state") && String::from_utf8_lossy(&self.payload).contains("offline")
    }

    /// What its devices say, line by line; nothing if it is no batch.
    #[must_use]
    pub fn device_lines(&self) -> Vec<Line> {
        if !self.topic.ends_with("/telemetry") && !self.topic.ends_with("/history") {
            return Vec::new();
        }
        let text = String::from_utf8_lossy(&self.payload);
        let lines = text.lines().filter_map(|line| Line::parse(line).ok());
        lines.filter(|line| line.is_of_window() && line.tag("device").is_some()).collect()
    }
}

/// Collects, and judges at the end. One for all gateways.
#[derive(Debug, Default)]
pub struct Oracle {
    gateways: BTreeMap<String, Gateway>,
    truths: Vec<Truth>,
    /// What was found while taking messages.
    findings: Vec<Finding>,
    parts: parts::Parts,
}

/// Epoch and number.
type Identity = (u64, u64);

#[derive(Debug, Default)]
struct Gateway {
    tally: Tally,
    delivered: BTreeMap<Identity, Vec<u8>>,
    /// Device lines, with the identity that first had them.
    contents: HashMap<Vec<u8>, Identity>,
    /// Series and time, with the identity that first had them.
    series: HashMap<String, Identity>,
    gaps: Vec<GapNote>,
    /// What of a life came under another epoch.
    renumbered: Vec<GapNote>,
    newest_live: Option<u64>,
    latencies_ns: Vec<i64>,
    issuer: Issuer,
}

/// What the sending side is known to have done.
#[derive(Debug, Default)]
struct Issuer {
    range: Option<(u64, u64)>,
    issued: BTreeMap<Identity, Option<Vec<u8>>>,
    acknowledged: BTreeSet<Identity>,
    /// Epoch, first and last number that it said to be durable.
    committed: BTreeMap<u64, (u64, u64)>,
}

impl Oracle {
    /// One that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on the values of this device are held against what it really had. Before the messages are taken.
    pub fn know(&mut self, truth: Truth) {
        self.truths.push(truth);
    }

    /// All numbers from `first` to `last` were issued: none may be missing, nor any beyond be there.
    pub fn expect_range(&mut self, gateway: &str, first: u64, last: u64) {
        self.gateway(gateway).issuer.range = Some((first, last));
    }

    /// The issuer has made this entry durable; with its payload, if that is known.
    pub fn issued(&mut self, gateway: &str, epoch: u64, seq: u64, payload: Option<&[u8]>) {
        self.gateway(gateway).issuer.issued.insert((epoch, seq), payload.map(<[u8]>::to_vec));
    }

    /// The issuer has said that in this epoch it made everything from `first` to `last` durable. The numbers alone do
    /// not tell of a loss: what a power cut takes is given out again, under another epoch.
    pub fn committed(&mut self, gateway: &str, epoch: u64, first: u64, last: u64) {
        self.gateway(gateway).issuer.committed.insert(epoch, (first, last));
    }

    /// The issuer was told by the broker that it has this entry.
    pub fn acknowledged(&mut self, gateway: &str, epoch: u64, seq: u64) {
        self.gateway(gateway).issuer.acknowledged.insert((epoch, seq));
    }

    /// Takes all of them.
    pub fn take_all<'a>(&mut self, messages: impl IntoIterator<Item = &'a Message>) {
        for message in messages {
            self.take(message);
        }
    }

    /// Takes one message. In the order of their arrival.
    pub fn take(&mut self, message: &Message) {
        let levels: Vec<&str> = message.topic.rsplitn(3, '/').collect();
        let [kind, gateway, _] = levels[..] else {
            self.find(&message.topic, Kind::Malformed, "a topic without a gateway".to_owned());
            return;
        };
        match kind {
            "telemetry" | "history" => match self
                .parts
                .take(message)
                .and_then(|whole| whole.map(|whole| Batch::read(&whole).map(|batch| (whole, batch))).transpose())
            {
                Ok(None) => {}
                Ok(Some((whole, batch))) => self.take_batch(&whole, batch),
                Err(error) => {
                    let at = message.received_ns;
                    self.gateway(gateway).tally.corrupted += 1;
                    self.find(gateway, Kind::Malformed, format!("a batch received at {at}: {error}"));
                }
            },
            "state" => self.take_document(gateway, message, &["state", "epoch", "version", "since"]),
            "catalog" => self.take_document(gateway, message, &["devices"]),
            _ => self.find(gateway, Kind::Malformed, format!("the contract has no topic {}", message.topic)),
        }
    }

    /// The verdict on all that was taken. Can be asked again after more.
    #[must_use]
    pub fn judge(&self) -> Judgement {
        let mut judgement = Judgement { gateways: BTreeMap::new(), findings: self.findings.clone() };
        for (name, gateway) in &self.gateways {
            let mut findings = Vec::new();
            gateway.judge_order(&mut findings);
            gateway.judge_continuity(&mut findings);
            gateway.judge_issuer(&mut findings);
            let finding = |(kind, text)| Finding { gateway: name.clone(), kind, text };
            judgement.findings.extend(findings.into_iter().map(finding));
            judgement.gateways.insert(name.clone(), gateway.tally());
        }
        judgement
    }

    fn gateway(&mut self, name: &str) -> &mut Gateway {
        self.gateways.entry(name.to_owned()).or_default()
    }

    fn find(&mut self, gateway: &str, kind: Kind, text: String) {
        self.findings.push(Finding { gateway: gateway.to_owned(), kind, text });
    }

    fn take_batch(&mut self, message: &Message, batch: Batch) {
        let name = batch.gateway.clone();
        let identity = (batch.epoch, batch.seq);
        let gateway = self.gateways.entry(name.clone()).or_default();
        let mut found = Vec::new();
        gateway.count(message, &batch);
        match gateway.delivered.get(&identity) {
            Some(first) if *first == message.payload => gateway.tally.repeated += 1,
            Some(first) => {
                gateway.tally.corrupted += 1;
                found.push((Kind::Changed, changed(identity, first, &message.payload)));
            }
            None => {
                gateway.delivered.insert(identity, message.payload.clone());
                found
                    .extend(batch.faults.iter().map(|fault| (Kind::Malformed, format!("{}: {fault}", told(identity)))));
                gateway.keep(message, &batch, &mut found);
                gateway.compare(&self.truths, &batch, &mut found);
                if !found.is_empty() {
                    gateway.tally.corrupted += 1;
                }
            }
        }
        for (kind, text) in found {
            self.find(&name, kind, text);
        }
    }

    fn take_document(&mut self, gateway: &str, message: &Message, keys: &[&str]) {
        self.gateway(gateway).tally.messages += 1;
        let json: Result<serde_json::Value, _> = serde_json::from_slice(&message.payload);
        let fault = match &json {
            Ok(json) => keys.iter().find(|key| json.get(**key).is_none()).map(|key| format!("it has no key {key:?}")),
            Err(error) => Some(error.to_string()),
        };
        if let Some(fault) = fault {
            self.find(gateway, Kind::Malformed, format!("{}: {fault}", message.topic));
        }
    }
}

impl Gateway {
    fn count(&mut self, message: &Message, batch: &Batch) {
        self.tally.messages += 1;
        if batch.historical {
            self.tally.historical += 1;
            return;
        }
        self.tally.live += 1;
        self.latencies_ns.push(message.received_ns.saturating_sub(batch.time_ns));
        if self.newest_live.is_some_and(|newest| newest > batch.seq) {
            self.tally.live_out_of_order += 1;
        }
        self.newest_live = self.newest_live.max(Some(batch.seq));
    }

    /// Of a batch that is new: what it must not share with another, and what it tells.
    fn keep(&mut self, message: &Message, batch: &Batch, found: &mut Vec<(Kind, String)>) {
        let identity = (batch.epoch, batch.seq);
        self.tally.points += batch.points;
        self.gaps.extend(batch.gaps().filter_map(Result::ok));
        self.renumbered.extend(batch.renumbered());
        for (kind, _) in batch.events() {
            *self.tally.events.entry(kind.to_owned()).or_default() += 1;
        }
        let mut twin = None;
        if batch.device_lines().next().is_some() {
            twin = self.contents.insert(message.payload[batch.body..].to_vec(), identity);
        }
        if let Some(other) = twin {
            let (one, other) = (told(other), told(identity));
            found.push((Kind::Twin, format!("{one} and {other} have the same lines")));
        }
        // News of a charging session takes the place of what stands at its start.
        for line in
            batch.lines.iter().filter(|line| !matches!(line.measurement.as_str(), "charging_session" | "site_interval"))
        {
            let series = line.series_at_time();
            let before = self.series.insert(series.clone(), identity);
            // Inside one batch it has been found already; of twins every line is one.
            if let Some(other) = before.filter(|other| *other != identity && twin.is_none()) {
                let text = format!("{} and {} both have {series}: a database keeps one", told(other), told(identity));
                found.push((Kind::Twin, text));
            }
        }
    }

    fn compare(&mut self, truths: &[Truth], batch: &Batch, found: &mut Vec<(Kind, String)>) {
        for (device, line) in batch.device_lines() {
            for truth in truths.iter().filter(|truth| truth.device() == device) {
                let comparison = truth.compare(line);
                self.tally.values_checked += comparison.checked;
                let identity = told((batch.epoch, batch.seq));
                found.extend(comparison.untrue.into_iter().map(|text| (Kind::Untrue, format!("{identity}: {text}"))));
            }
        }
    }

    fn judge_order(&self, found: &mut Vec<(Kind, String)>) {
        let mut by_seq: Vec<Identity> = self.delivered.keys().copied().collect();
        by_seq.sort_by_key(|&(epoch, seq)| (seq, epoch));
        for pair in by_seq.windows(2) {
            let (one, next) = (pair[0], pair[1]);
            if one.1 == next.1 {
                found.push((Kind::Order, format!("{} and {}: a number is used twice", told(one), told(next))));
            } else if one.0 > next.0 {
                found.push((Kind::Order, format!("{} comes before {}: epochs must rise", told(one), told(next))));
            }
        }
    }

    fn judge_continuity(&self, found: &mut Vec<(Kind, String)>) {
        let seen = self.delivered.keys().map(|&(_, seq)| (seq, seq));
        let mut known: Vec<(u64, u64)> = seen.chain(self.gaps.iter().map(|gap| (gap.from, gap.to))).collect();
        known.sort_unstable();
        let Some(&(lowest, _)) = known.first() else {
            if let Some((first, last)) = self.issuer.range {
                found.push((Kind::Gap, format!("seq {first} to {last}: nothing at all was delivered")));
            }
            return;
        };
        let mut wanted = self.issuer.range.map_or(lowest, |(first, _)| first);
        for (from, to) in known {
            if from > wanted {
                found.push((Kind::Gap, self.missing(wanted, from - 1)));
            }
            wanted = wanted.max(to.saturating_add(1));
        }
        match self.issuer.range {
            Some((_, last)) if wanted <= last => found.push((Kind::Gap, self.missing(wanted, last))),
            Some((first, last)) => {
                let beyond = |&&(_, seq): &&Identity| seq < first || seq > last;
                for &stranger in self.delivered.keys().filter(beyond) {
                    found.push((Kind::Spurious, format!("{} was never issued", told(stranger))));
                }
            }
            None => {}
        }
    }

    fn judge_issuer(&self, found: &mut Vec<(Kind, String)>) {
        let Issuer { range: _, issued, acknowledged, committed } = &self.issuer;
        for (&epoch, &(first, last)) in committed {
            let of_epoch = self.delivered.range((epoch, 0)..=(epoch, u64::MAX)).next();
            let first = of_epoch.map_or(first, |(&(_, seq), _)| seq.min(first));
            let lost: Vec<u64> = (first..=last)
                .filter(|&seq| !self.delivered.contains_key(&(epoch, seq)) && !self.accounted((epoch, seq)))
                .filter(|&seq| !self.came_renumbered((epoch, seq)))
                .collect();
            if let (Some(from), Some(to)) = (lost.first(), lost.last()) {
                let count = lost.len();
                let text =
                    format!("epoch {epoch}: {count} entries (seq {from} to {to}) were committed, and are nowhere");
                found.push((Kind::Lost, text));
            }
        }
        for (&identity, payload) in issued {
            match (self.delivered.get(&identity), payload) {
                (Some(delivered), Some(payload)) if delivered != payload => {
                    found.push((Kind::Changed, changed(identity, payload, delivered)));
                }
                (None, _) if !self.accounted(identity) => {
                    found.push((Kind::Lost, format!("{} was issued and neither delivered nor told", told(identity))));
                }
                _ => {}
            }
        }
        for &identity in acknowledged.iter().filter(|identity| !self.delivered.contains_key(*identity)) {
            found.push((Kind::Lost, format!("{} was acknowledged and not delivered", told(identity))));
        }
        for &identity in self.delivered.keys().filter(|identity| !issued.is_empty() && !issued.contains_key(*identity))
        {
            found.push((Kind::Spurious, format!("{} was never issued", told(identity))));
        }
    }

    fn accounted(&self, (epoch, seq): Identity) -> bool {
        self.gaps.iter().any(|gap| gap.epoch == epoch && (gap.from..=gap.to).contains(&seq))
    }

    /// Whether a later life has found its time, and sent it under the epoch between the two: one unit of the upper bits behind its own. Or
    /// that it was sent under another is told; a power cut may take the telling.
    fn came_renumbered(&self, (epoch, seq): Identity) -> bool {
        let is_told = self.renumbered.iter().any(|note| note.epoch == epoch && (note.from..=note.to).contains(&seq));
        let is_between = |of: u64| of >> EPOCH_LOWER_BITS == (epoch >> EPOCH_LOWER_BITS) + 1;
        self.delivered.keys().any(|&(of, number)| number == seq && of > epoch && (is_told || is_between(of)))
    }

    fn missing(&self, from: u64, to: u64) -> String {
        let near = |seq: Option<u64>| {
            let identity = self.delivered.keys().find(|&&(_, s)| Some(s) == seq);
            identity.map_or("the edge of what was seen, or a told gap".to_owned(), |&identity| told(identity))
        };
        let (before, after) = (near(from.checked_sub(1)), near(to.checked_add(1)));
        let count = to - from + 1;
        format!(
            "seq {from} to {to} ({count}) between {before} and {after}: not delivered, and no gap event tells of it"
        )
    }

    fn tally(&self) -> Tally {
        let mut tally = self.tally.clone();
        let seqs = || self.delivered.keys().map(|&(_, seq)| seq);
        tally.delivered = self.delivered.len() as u64;
        tally.epochs = self.delivered.keys().map(|&(epoch, _)| epoch).collect::<BTreeSet<_>>().len() as u64;
        tally.range = seqs().min().zip(seqs().max());
        let range = self.issuer.range.map(|(first, last)| (last + 1).saturating_sub(first));
        tally.issued = range.or((!self.issuer.issued.is_empty()).then_some(self.issuer.issued.len() as u64));
        tally.acknowledged = self.issuer.acknowledged.len() as u64;
        for gap in &self.gaps {
            *tally.gaps.entry(gap.reason.clone()).or_default() += gap.to - gap.from + 1;
        }
        let mut latencies = self.latencies_ns.clone();
        latencies.sort_unstable();
        tally.live_p99_ns = latencies.get((latencies.len() * 99).div_ceil(100).saturating_sub(1)).copied();
        tally
    }
}

fn told((epoch, seq): Identity) -> String {
    format!("(epoch {epoch}, seq {seq})")
}

/// The first line in which two payloads differ, side by side.
fn changed(identity: Identity, one: &[u8], other: &[u8]) -> String {
    let (one, other) = (String::from_utf8_lossy(one), String::from_utf8_lossy(other));
    let longest = one.lines().count().max(other.lines().count());
    let line = |text: &str, n| text.lines().nth(n).unwrap_or("(nothing)").to_owned();
    let first = (0..longest).map(|n| (line(&one, n), line(&other, n))).find(|(a, b)| a != b);
    let (a, b) = first.unwrap_or_else(|| ("(only line breaks differ)".to_owned(), String::new()));
    format!("{} has two contents:\n      {a}\n      {b}", told(identity))
}

#[cfg(test)]
mod tests;
