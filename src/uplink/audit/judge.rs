//! The judge: messages in, findings out. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::lives::Lives;
use super::parts::Parts;
use super::report::{AuditReport, GatewayReport, Latency, Span};
use crate::uplink::wire::read::{self, Line};

/// Pairs of one content that are kept to be judged: more say nothing new.
const TWINS_MAX: usize = 10_000;
/// The malformed messages that are told in words.
const MALFORMED_MAX: usize = 20;
/// A replay that was heard this recently may still be going on, ns.
const REPLAYING_NS: i64 = 10_000_000_000;

/// A message as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it was published.
    pub topic: String,
    /// Its content.
    pub payload: Vec<u8>,
    /// Its user properties.
    pub properties: Vec<(String, String)>,
    /// When it came, ns since 1970.
    pub received_ns: i64,
}

/// What is known so far.
#[derive(Debug, Default)]
pub struct Judge {
    gateways: BTreeMap<String, Gateway>,
    malformed: Vec<String>,
    malformed_count: u64,
    blind: u64,
    last_ns: i64,
    parts: Parts,
}

#[derive(Debug, Default)]
struct Gateway {
    /// Its epochs.
    lives: Lives,
    /// Content by identity: number, epoch.
    contents: BTreeMap<(u64, u64), u64>,
    /// Identity by content, of entries with data.
    identities: HashMap<u64, (u64, u64)>,
    /// Entries of one content, the first few.
    twins: Vec<[(u64, u64); 2]>,
    accounted: BTreeSet<(u64, u64)>,
    live_latency_us: Vec<u32>,
    highest_live: u64,
    highest_history: Option<u64>,
    last_history_ns: i64,
    /// Numbers heard live, to tell where the replay must end.
    live_starts: BTreeSet<u64>,
    counts: GatewayReport,
}

/// A batch whose form is right.
struct Batch {
    gateway: String,
    epoch: u64,
    seq: u64,
    points: u64,
    live: bool,
    time_ns: i64,
    /// Of the whole payload, and of all but its first line if that has data.
    content: u64,
    data: Option<u64>,
    lines: Vec<Line>,
}

impl Judge {
    /// Judges one message. Messages that are not batches (`state`, `catalog`) say nothing.
    pub fn take(&mut self, message: &Message) {
        self.last_ns = self.last_ns.max(message.received_ns);
        let Some((_, name)) = message.topic.rsplit_once('/') else { return };
        let live = match name {
            "telemetry" => true,
            "history" => false,
            _ => return,
        };
        let Some(message) = self.parts.take(message) else { return };
        match batch(&message, live) {
            Ok(batch) => {
                self.gateways.entry(batch.gateway.clone()).or_default().take(&batch, message.received_ns);
            }
            Err(why) => {
                self.malformed_count += 1;
                if self.malformed.len() < MALFORMED_MAX {
                    self.malformed.push(format!("{}: {why}", message.topic));
                }
            }
        }
    }

    /// The broker had forgotten us: what was sent meanwhile was not heard.
    pub fn was_blind(&mut self) {
        self.blind += 1;
    }

    /// Entries heard so far, live and as history.
    #[must_use]
    pub fn heard(&self) -> (u64, u64) {
        self.gateways
            .values()
            .fold((0, 0), |(live, history), gateway| (live + gateway.counts.live, history + gateway.counts.history))
    }

    /// Latency of the newest live entry, ms.
    #[must_use]
    pub fn last_latency_ms(&self) -> Option<f64> {
        let last = self.gateways.values().filter_map(|gateway| gateway.live_latency_us.last()).max();
        last.map(|us| f64::from(*us) / 1e3)
    }

    /// The findings so far.
    #[must_use]
    pub fn report(&self) -> AuditReport {
        let gateways: BTreeMap<String, GatewayReport> =
            self.gateways.iter().map(|(name, gateway)| (name.clone(), gateway.report(self.last_ns))).collect();
        AuditReport {
            passes: !gateways.is_empty() && self.malformed_count == 0 && gateways.values().all(GatewayReport::passes),
            gateways,
            malformed: self.malformed.clone(),
            malformed_count: self.malformed_count,
            blind: self.blind,
        }
    }
}

impl Gateway {
    fn take(&mut self, batch: &Batch, received_ns: i64) {
        let identity = (batch.seq, batch.epoch);
        if !batch.live {
            self.highest_history = self.highest_history.max(Some(batch.seq));
            self.last_history_ns = received_ns;
        }
        match self.contents.insert(identity, batch.content) {
            Some(known) if known == batch.content => {
                self.counts.duplicates += 1;
                return;
            }
            Some(_) => {
                self.counts.changed += 1;
                return;
            }
            None => {}
        }
        self.counts.entries += 1;
        self.counts.points += batch.points;
        self.lives.hear(batch.epoch, batch.seq);
        if let Some(data) = batch.data {
            let first = *self.identities.entry(data).or_insert(identity);
            if first != identity && self.twins.len() < TWINS_MAX {
                self.twins.push([first, identity]);
            }
        }
        if batch.live {
            self.counts.live += 1;
            self.live_starts.insert(batch.seq);
            if batch.seq < self.highest_live {
                self.counts.out_of_order += 1;
            }
            self.highest_live = self.highest_live.max(batch.seq);
            let late_us = received_ns.saturating_sub(batch.time_ns).max(0) / 1000;
            self.live_latency_us.push(u32::try_from(late_us).unwrap_or(u32::MAX));
        } else {
            self.counts.history += 1;
        }
        for line in batch.lines.iter().filter(|line| line.measurement == "event") {
            let Some(kind) = line.tags.get("kind") else { continue };
            self.lives.take(batch.epoch, batch.seq, kind, line);
            // Numbers of a life in memory say nothing of others of the same number.
            let is_of_all = !matches!(line.text("reason"), Some("renumbered" | "in_memory"));
            if kind == "gap"
                && is_of_all
                && let (Some(from), Some(to)) = (line.count("from_seq"), line.count("to_seq"))
                && from <= to
            {
                self.accounted.insert((from, to));
            }
        }
    }

    /// The numbers between the first and the last heard that were not, as runs.
    fn missing(&self) -> Vec<Span> {
        let mut missing = Vec::new();
        let Some(baseline) = self.lives.baseline() else { return missing };
        let mut expected = baseline;
        let counting_on = self.contents.keys().filter(|(_, epoch)| !self.lives.counts_anew(*epoch));
        for &(seq, _) in counting_on.filter(|(seq, _)| *seq >= baseline) {
            if seq > expected {
                missing.push(Span { from: expected, to: seq - 1 });
            }
            expected = expected.max(seq + 1);
        }
        missing
    }

    /// Splits a run into what gap events account for (counted) and the rest.
    fn unaccounted(&self, span: Span, accounted: &mut u64) -> Vec<Span> {
        let mut rest = Vec::new();
        let mut at = span.from;
        for &(from, to) in self.accounted.iter().filter(|(from, to)| *to >= span.from && *from <= span.to) {
            if from > at {
                rest.push(Span { from: at, to: from - 1 });
            }
            let end = to.min(span.to);
            if end >= at {
                *accounted += end - at.max(from) + 1;
                at = end + 1;
            }
        }
        if at <= span.to {
            rest.push(Span { from: at, to: span.to });
        }
        rest
    }

    /// Whether a missing run may still be on its way: the replay goes on, has not come so far, and what follows was
    /// heard live.
    fn is_pending(&self, span: Span, now_ns: i64) -> bool {
        now_ns.saturating_sub(self.last_history_ns) < REPLAYING_NS
            && self.highest_history.is_some_and(|highest| highest < span.from)
            && self.live_starts.contains(&(span.to + 1))
    }

    /// What was heard of an epoch, ascending.
    fn numbers_of(&self, epoch: u64) -> Vec<u64> {
        self.contents.keys().filter(|(_, of)| *of == epoch).map(|(seq, _)| *seq).collect()
    }

    fn report(&self, now_ns: i64) -> GatewayReport {
        let mut verdict = self.counts.clone();
        let mut accounted = 0;
        let open: Vec<Span> =
            self.missing().into_iter().flat_map(|span| self.unaccounted(span, &mut accounted)).collect();
        let (mut pending, mut gaps): (Vec<Span>, Vec<Span>) =
            open.into_iter().partition(|span| self.is_pending(*span, now_ns));
        // Within one epoch; what is missing in all of them is told already.
        for (span, may_come) in self.lives.missing(|epoch| self.numbers_of(epoch)) {
            let list = if may_come && self.is_pending(span, now_ns) { &mut pending } else { &mut gaps };
            if !list.contains(&span) {
                list.push(span);
            }
        }
        verdict.in_memory = self.lives.open(|epoch| self.numbers_of(epoch));
        let is_excused = |(_, epoch): &(u64, u64)| self.lives.is_renumbered(*epoch);
        verdict.twins = self.twins.iter().filter(|twins| !twins.iter().any(is_excused)).count() as u64;
        (verdict.pending, verdict.gaps, verdict.accounted) = (pending, gaps, accounted);
        let epochs: BTreeSet<u64> = self.contents.keys().map(|(_, epoch)| *epoch).collect();
        verdict.epochs = epochs.len() as u64;
        let (first, last) = (self.contents.first_key_value(), self.contents.last_key_value());
        verdict.seq = first.zip(last).map(|((first, _), (last, _))| Span { from: first.0, to: last.0 });
        verdict.latency = latency(&self.live_latency_us);
        verdict
    }
}

fn latency(samples_us: &[u32]) -> Option<Latency> {
    let mut sorted = samples_us.to_vec();
    sorted.sort_unstable();
    let at = |share: usize| sorted.get((sorted.len() * share / 100).min(sorted.len().saturating_sub(1)));
    let ms = |us: &u32| f64::from(*us) / 1e3;
    Some(Latency { p50_ms: at(50).map(ms)?, p99_ms: at(99).map(ms)?, max_ms: sorted.last().map(ms)? })
}

/// Checks the form of a batch, and that its properties say what its first line says.
fn batch(message: &Message, live: bool) -> Result<Batch, String> {
    let payload = std::str::from_utf8(&message.payload).map_err(|_| "not UTF-8")?;
    let lines = read::lines(payload).map_err(|error| error.to_string())?;
    let own =
        lines.first().filter(|line| line.measurement == "gateway").ok_or("the first line is not the batch's own")?;
    let property = |key: &str| {
        let found = message.properties.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str());
        found.ok_or_else(|| format!("no user property {key}"))
    };
    let gateway = own.tags.get("gateway").ok_or("no gateway in the first line")?.clone();
    if property("gateway")? != gateway {
        return Err("property gateway and first line differ".to_owned());
    }
    let number = |key: &str| -> Result<u64, String> {
        let told = own.count(key).ok_or_else(|| format!("no {key} in the first line"))?;
        if property(key)? == told.to_string() { Ok(told) } else { Err(format!("property {key} and first line differ")) }
    };
    let (epoch, seq, points) = (number("epoch")?, number("seq")?, number("points")?);
    read::time_trust(own)?;
    let historical = property("historical").is_ok_and(|value| value == "true");
    if historical == live {
        return Err("topic and property historical differ".to_owned());
    }
    let time_ns = own.time_ns;
    let data = payload.split_once('\n').map(|(_, rest)| hash(rest));
    Ok(Batch { gateway, epoch, seq, points, live, time_ns, content: hash(payload), data, lines })
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::super::report::MemoryLife;
    use super::*;

    /// Numbers below 5 are of wire version 1.
    fn message(epoch: u64, seq: u64, live: bool, more: &str) -> Message {
        let trust = if seq < 5 { "time=\"synced\"" } else { "time_trust=\"synced\",version=2i" };
        let time = 1_764_000_000_000_000_000 + i64::try_from(seq).expect("small") * 250_000_000;
        let property = |key: &str, value: String| (key.to_owned(), value);
        let mut properties = vec![
            property("gateway", "gw".to_owned()),
            property("epoch", epoch.to_string()),
            property("seq", seq.to_string()),
            property("points", "1".to_owned()),
        ];
        if !live {
            properties.push(property("historical", "true".to_owned()));
        }
        let payload = format!(
            "gateway,site=s,gateway=gw epoch={epoch}i,seq={seq}i,points=1i,{trust} {time}\nmeter,device=m power_flow={seq} {time}{more}"
        );
        Message {
            topic: format!("v2g/s/gw/{}", if live { "telemetry" } else { "history" }),
            payload: payload.into_bytes(),
            properties,
            received_ns: time + 5_000_000,
        }
    }

    fn judged(messages: impl IntoIterator<Item = Message>) -> GatewayReport {
        let mut judge = Judge::default();
        for message in messages {
            judge.take(&message);
        }
        let verdict = judge.report();
        assert!(verdict.malformed.is_empty(), "{:?}", verdict.malformed);
        assert_eq!(verdict.passes(), verdict.gateways["gw"].passes());
        verdict.gateways["gw"].clone()
    }

    #[test]
    fn a_whole_record_over_an_outage_and_a_new_epoch_passes() {
        let live = (10..20).map(|seq| message(1, seq, true, ""));
        let after = (30..40).map(|seq| message(2, seq, true, ""));
        let history = (18..30).map(|seq| message(if seq < 25 { 1 } else { 2 }, seq, false, ""));
        let verdict = judged(live.chain(after).chain(history));
        assert!(verdict.passes(), "{verdict}");
        assert_eq!((verdict.entries, verdict.duplicates, verdict.live, verdict.history), (30, 2, 20, 10));
        assert_eq!(verdict.latency, Some(Latency { p50_ms: 5.0, p99_ms: 5.0, max_ms: 5.0 }));
    }

    #[test]
    fn a_number_that_is_missing_is_a_gap_unless_an_event_accounts_for_it() {
        let record = |event: &str| {
            let event = event.to_owned();
            judged(
                (1..20)
                    .filter(|seq| !(5..9).contains(seq))
                    .map(move |seq| message(1, seq, true, if seq == 12 { &event } else { "" })),
            )
        };
        assert_eq!(record("").gaps, [Span { from: 5, to: 8 }]);
        let event =
            |from, to| format!("\nevent,kind=gap from_epoch=1i,from_seq={from}i,to_seq={to}i,reason=\"aged\" 5");
        let told = record(&event(5, 8));
        assert!(told.passes());
        assert_eq!(told.accounted, 4);
        assert_eq!(record(&event(6, 7)).gaps, [Span { from: 5, to: 5 }, Span { from: 8, to: 8 }]);
    }

    #[test]
    fn one_identity_with_two_contents_fails_and_so_does_one_content_with_two_identities() {
        assert_eq!(judged([message(1, 1, true, ""), message(1, 1, false, "\nmeter x=1 5")]).changed, 1);
        let twin = |seq: u64| {
            let mut twin = message(1, seq, true, "");
            let text = String::from_utf8(twin.payload).expect("text");
            let (own, _) = text.split_once('\n').expect("two lines");
            twin.payload = format!("{own}\nmeter power_flow=7 5").into_bytes();
            twin
        };
        assert_eq!(judged([twin(1), twin(2)]).twins, 1);
    }

    /// Of a life that is in memory only from its first entry on; `end`: in its last entry.
    fn in_memory(epoch: u64, numbers: std::ops::Range<u64>, end: &str) -> impl Iterator<Item = Message> {
        let (first, last) = (numbers.start, numbers.end - 1);
        let begin = format!("\nevent,kind=journal_in_memory from_seq={first}i,reason=\"full\" 5");
        let end = if end.is_empty() { String::new() } else { format!("\nevent,kind={end} reason=\"r\" 5") };
        numbers.map(move |seq| {
            let told = if seq == first { begin.as_str() } else { "" };
            message(epoch, seq, true, if seq == last { &end } else { told })
        })
    }

    #[test]
    fn a_life_in_memory_that_does_not_say_how_it_ended_is_never_complete() {
        let before = || (1..10).map(|seq| message(1, seq, true, ""));
        let after = |first| (first..30).map(|seq| message(9, seq, true, ""));
        let verdict = judged(before().chain(in_memory(7, 10..15, "")));
        let open = |told, lasts| MemoryLife { epoch: 7, entries: 5, after: 14, told, lasts };
        assert_eq!((verdict.passes(), &verdict.in_memory[..]), (false, &[open(false, true)][..]));
        // The next one gives its numbers again, so that none is missing.
        let verdict = judged(before().chain(in_memory(7, 10..15, "")).chain(after(10)));
        assert_eq!((verdict.passes(), &verdict.in_memory[..]), (false, &[open(false, false)][..]));
        assert!(verdict.to_string().contains("what came after 14 is not"), "{verdict}");
        for end in ["journal_working", "stopping"] {
            let verdict = judged(before().chain(in_memory(7, 10..15, end)).chain(after(15)));
            assert!(verdict.passes(), "{end}: {verdict}");
        }
    }

    #[test]
    fn what_is_missing_of_a_life_in_memory_is_missing_though_another_has_the_same_numbers() {
        let holed = in_memory(7, 10..20, "stopping").filter(|m| !m.properties.contains(&("seq".into(), "13".into())));
        let verdict = judged(
            (1..10)
                .map(|seq| message(1, seq, true, ""))
                .chain(holed)
                .chain((10..30).map(|seq| message(9, seq, true, ""))),
        );
        assert_eq!((verdict.passes(), &verdict.gaps[..]), (false, &[Span { from: 13, to: 13 }][..]));
    }

    #[test]
    fn a_life_that_nobody_heard_is_not_complete_once_it_is_told() {
        let told = "\nevent,kind=gap from_epoch=7i,from_seq=10i,reason=\"in_memory\" 5";
        let verdict = judged((1..20).map(|seq| message(9, seq, true, if seq == 12 { told } else { "" })));
        let life = MemoryLife { epoch: 7, entries: 0, after: 9, told: true, lasts: false };
        assert_eq!((verdict.passes(), &verdict.in_memory[..]), (false, &[life][..]));
    }

    #[test]
    fn a_note_of_a_life_that_could_not_be_removed_makes_no_loss_of_what_was_written_after_all() {
        let told = "\nevent,kind=gap from_epoch=7i,from_seq=10i,reason=\"in_memory\" 5";
        let next = |first: u64| (first..30).map(move |seq| message(9, seq, true, if seq == 20 { told } else { "" }));
        for (end, from_itself) in [("journal_working", 11), ("journal_working", 10), ("stopping", 10)] {
            // Its last entry says so, and is the first that the note is about, or comes after it.
            let life = in_memory(7, 9..from_itself + 1, end);
            let verdict = judged((1..9).map(|seq| message(1, seq, true, "")).chain(life).chain(next(from_itself + 1)));
            let is_old = (end, from_itself) != ("journal_working", 10);
            assert_eq!(verdict.passes(), is_old, "{end} in {from_itself}: {verdict}");
        }
    }

    /// Who begins to listen in the midst of a life has not heard what that lost, though it stopped in order.
    #[test]
    fn a_note_of_a_life_that_stopped_is_old_only_if_all_from_it_on_was_heard() {
        let verdict_on = |lost_from: u64| {
            let told = format!("\nevent,kind=gap from_epoch=7i,from_seq={lost_from}i,reason=\"in_memory\" 5");
            let end = "\nevent,kind=stopping reason=\"r\" 5";
            let life = (25..30).map(|seq| message(7, seq, true, if seq == 29 { end } else { "" }));
            judged(life.chain((30..40).map(|seq| message(9, seq, true, if seq == 30 { &told } else { "" }))))
        };
        let verdict = verdict_on(20);
        let life = MemoryLife { epoch: 7, entries: 5, after: 29, told: true, lasts: false };
        assert_eq!((verdict.passes(), &verdict.in_memory[..]), (false, &[life][..]), "{verdict}");
        assert!(verdict_on(25).passes());
    }

    #[test]
    fn what_a_coarser_entry_tells_of_another_life_is_taken_for_that_one() {
        let of = |kind: &str, seq: u64| format!("\nevent,kind={kind} of_epoch=7i,of_seq={seq}i,reason=\"r\" 5");
        let judge = |events: String| {
            let own = (1..10).map(|seq| message(7, seq, true, ""));
            let thinned = "\nevent,kind=gap from_epoch=7i,from_seq=10i,to_seq=19i,reason=\"thinned\" 5";
            judged(own.chain((20..30).map(move |seq| {
                message(9, seq, true, &if seq == 25 { format!("{events}{thinned}") } else { String::new() })
            })))
        };
        let verdict = judge(of("journal_failing", 12) + &of("journal_working", 18));
        assert!(verdict.passes(), "{verdict}");
        let verdict = judge(of("journal_working", 12) + &of("journal_failing", 18));
        let told: Vec<u64> = verdict.in_memory.iter().map(|life| life.epoch).collect();
        assert_eq!((verdict.passes(), told), (false, vec![7]), "{verdict}");
    }

    #[test]
    fn a_life_that_counts_anew_is_counted_by_itself_and_its_rest_may_come_under_other_numbers() {
        let begin = "\nevent,kind=journal_in_memory from_seq=1i,counts_anew=1i,reason=\"no right\" 5";
        let own = (1..5).map(|seq| message(7, seq, true, if seq == 1 { begin } else { "" }));
        let told = "\nevent,kind=gap from_epoch=7i,from_seq=1i,to_seq=9i,reason=\"renumbered\" 5";
        let after =
            |told: &'static str| (500..520).map(move |seq| message(9, seq, true, if seq == 500 { told } else { "" }));
        let verdict = judged(own.clone().chain(after(told)));
        assert!(verdict.passes(), "{verdict}");
        let verdict = judged(own.chain(after("")));
        assert_eq!((&verdict.gaps[..], verdict.in_memory.len()), (&[][..], 1), "{verdict}");
    }

    /// A box without a clock: what a life had on its disk was told by the next one, with the time that this has found.
    #[test]
    fn what_came_under_another_epoch_says_nothing_of_what_its_life_had_in_memory_only() {
        let judge = |failing: &str| {
            let of = format!("\nevent,kind={failing} of_epoch=7i,of_seq=14i,reason=\"r\" 5");
            let found = (10..20).map(|seq| message(8, seq, false, if seq == 14 { &of } else { "" }));
            let told = "\nevent,kind=gap from_epoch=7i,from_seq=10i,to_seq=13i,reason=\"renumbered\" 5";
            let next = (20..30).map(|seq| message(9, seq, true, if seq == 20 { told } else { "" }));
            judged((1..10).map(|seq| message(1, seq, true, "")).chain(found).chain(next))
        };
        assert!(judge("journal_working").passes());
        let verdict = judge("journal_failing");
        let told: Vec<u64> = verdict.in_memory.iter().map(|life| life.epoch).collect();
        assert_eq!((verdict.passes(), told), (false, vec![7]), "{verdict}");
    }

    #[test]
    fn what_the_replay_has_not_come_to_is_pending_and_not_lost() {
        let live = (1..10).chain(50..55).map(|seq| message(1, seq, true, ""));
        let mut history: Vec<Message> = (10..20).map(|seq| message(1, seq, false, "")).collect();
        for late in &mut history {
            late.received_ns = message(1, 54, true, "").received_ns;
        }
        let verdict = judged(live.chain(history));
        assert_eq!(verdict.pending, [Span { from: 20, to: 49 }]);
        assert!(verdict.passes());
    }

    #[test]
    fn what_was_before_our_time_is_not_missed() {
        let verdict = judged([message(1, 100, true, ""), message(1, 98, false, ""), message(1, 101, true, "")]);
        assert!(verdict.passes());
    }

    #[test]
    fn properties_that_contradict_the_payload_are_malformed() {
        let mut wrong = message(1, 7, true, "");
        wrong.properties[2].1 = "8".to_owned();
        let mut judge = Judge::default();
        judge.take(&wrong);
        let verdict = judge.report();
        assert!(!verdict.passes() && verdict.malformed[0].contains("seq"), "{verdict}");
    }
}
