//! The journal that version 0.1.0 wrote is read for ever: every entry, the same content, the same bytes on the wire.
//!
//! `tests/data/journal-0.1.0` is what that program left on its disk, and was made by it (`journal::golden_tests`). None of
//! its files is ever edited.
//!
//! | file | what it is |
//! |---|---|
//! | `cut-short.tree` | a journal of five lives in four boots, the last one cut short; see `hil_tests::tree` |
//! | `ended-in-order.tree` | a journal of one life that ended in order |
//! | `*.txt` | every entry of it, in words |
//! | `*.wire` | what a broker gets of it: the payloads, to the byte |
//! | `*.inventory` | what is known of it as a whole |

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use v2g_edge::journal::{Appended, Archive, Journal, Lane, Place, Settings, WhenFull};
use v2g_edge::measure::{
    BootId, ClockTrust, Entry, Event, EventKind, Gap, IntervalValue, Missing, Mono, OfSession, PointColumn,
    PointInterval, Schema, Seq, SessionEvent, SessionFact, Stamp, Thinned, Utc, Window, Words,
};
use v2g_edge::spec::{Aggregation, ValueType};
use v2g_edge::uplink::wire::payload_of;

/// 2026-06-03 12:00 UTC: two days after the first life.
const LATER_NS: i64 = 1_780_488_000_000_000_000;
/// A payload is told by its length and its CRC-32C if it is longer.
const PAYLOAD_BYTES_MAX: usize = 20_000;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/journal-0.1.0").join(name)
}

/// A copy of a golden journal.
fn copy(name: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let journal = dir.path().join("journal");
    fs::create_dir_all(&journal).expect("made");
    let packed = fs::read(data(&format!("{name}.tree"))).expect("the golden bytes");
    hil_tests::tree::unpack(&packed, &journal).expect("they are whole");
    (dir, journal)
}

/// Compares with what is committed; what is not there yet is written.
#[track_caller]
fn same(name: &str, said: &str) {
    let path = data(name);
    let Ok(kept) = fs::read_to_string(&path) else {
        fs::write(&path, said).expect("written");
        panic!("{name} was not there: look at it, and commit it");
    };
    for (line, (kept, said)) in kept.lines().zip(said.lines()).enumerate() {
        assert_eq!(said, kept, "{name}:{}", line + 1);
    }
    assert_eq!(said.len(), kept.len(), "{name} is longer or shorter");
}

fn places(journal: &Path) -> Vec<Place> {
    let mut places = Vec::new();
    let take = |place| {
        places.push(place);
        ControlFlow::Continue(())
    };
    Archive::open(journal).expect("a journal").read((Seq::FIRST, Seq(u64::MAX)), take).expect("it can be read");
    places
}

fn column(column: &PointColumn) -> String {
    let shape = match column.value_type {
        ValueType::Float => "float",
        ValueType::Integer => "integer",
        ValueType::Text => "text",
    };
    let fold = match column.aggregation {
        Aggregation::Mean => "mean",
        Aggregation::Last => "last",
    };
    format!("{}[{}] {shape} {fold}", column.field, column.unit.symbol())
}

fn text(text: &str) -> String {
    match text.len() {
        0..200 => format!("{text:?}"),
        bytes => format!("{bytes} bytes of CRC-32C {:08x}", crc32c::crc32c(text.as_bytes())),
    }
}

fn point(series: &[PointColumn], point: &PointInterval) -> String {
    let PointInterval { point: ix, value, questionable } = point;
    let value = match value {
        IntervalValue::Float(s) if s.count == 1 && s.min.to_bits() == s.max.to_bits() => format!("{:?}", s.value),
        IntervalValue::Float(s) => format!("{:?} of {} from {:?} to {:?}", s.value, s.count, s.min, s.max),
        IntervalValue::Integer(code) => format!("{code}i"),
        IntervalValue::Text(word) => text(word),
        IntervalValue::Missing(why) => format!("missing ({})", why.as_str()),
    };
    let doubt = questionable.map_or_else(String::new, |why| format!(" suspect ({})", why.as_str()));
    format!("{} = {value}{doubt}", series[usize::from(ix.0)].field)
}

fn gap(gap: &Gap) -> String {
    let Gap { epoch, from, to, points, reason } = gap;
    format!("{} of epoch {epoch}, {from} to {to}, points {points:?}", reason.as_str())
}

fn fact(fact: &SessionFact<'_>) -> String {
    match fact {
        SessionFact::Text(word) => format!("{word:?}"),
        SessionFact::Count(count) => count.to_string(),
    }
}

fn event(event: &Event) -> String {
    let kind = &event.kind;
    let told = match kind {
        EventKind::Gap(lost) => gap(lost),
        EventKind::Thinned(Thinned { gap: lost, as_epoch, as_from, as_to, window }) => {
            format!("{}; as epoch {as_epoch}, {as_from} to {as_to}, at {window:?}", gap(lost))
        }
        EventKind::Started { version, clean } => format!("version {version}, clean {clean:?}"),
        EventKind::DeviceSilent(why) => why.as_str().to_owned(),
        EventKind::PointFrozen(field) | EventKind::PointMoving(field) => field.to_string(),
        EventKind::ClockStepped(by_ns) => format!("by {by_ns} ns"),
        EventKind::SamplesShed(count) => count.to_string(),
        EventKind::EntryRefused { identity, code } => {
            format!("epoch {}, {}, code {code:#04x}", identity.epoch, identity.seq)
        }
        EventKind::JournalFailing(why) | EventKind::JournalNewer(why) | EventKind::PollOverrun(why) => {
            format!("{why:?}")
        }
        EventKind::BusState { bus, state, detail } => format!("{bus} {state:?} {detail:?}"),
        EventKind::BusRestarted(bus) => bus.to_string(),
        EventKind::FramesDropped { bus, frames } => format!("{bus} {frames}"),
        EventKind::UplinkTrouble { broker, what, remedy } => format!("{broker:?} {what:?} {remedy:?}"),
        EventKind::UplinkOnline(broker) => format!("{broker:?}"),
        EventKind::CertificateExpires { file, days } => format!("{file:?} {days}"),
        EventKind::DevicePartly { answering, blocks, silent } => format!("{answering} of {blocks}, not {silent:?}"),
        EventKind::CounterBreak { field, from_milli, to_milli, reason } => {
            format!("{field} from {from_milli} to {to_milli}, {}", reason.as_str())
        }
        EventKind::MeterExchanged { before, after } => format!("{before:?} to {after:?}"),
        EventKind::JournalInMemory { why, from, counts_anew } => format!("{why:?}, from {from}, anew {counts_anew}"),
        EventKind::LifeLost(lost) => format!("{lost:?}"),
        EventKind::OfEntry { entry, told } => format!("{entry:?}: {told:?}"),
        EventKind::EventsLeftOut { of, about, count } => format!("{of:?} {about:?} {count}"),
        EventKind::ReloadRefused(why) => format!("{why:?}"),
        EventKind::UpdateStarted { from, to } | EventKind::UpdateConfirmed { from, to } => {
            format!("{from:?} to {to:?}")
        }
        EventKind::UpdateRolledBack { from, to, why } | EventKind::UpdateFailed { from, to, why } => {
            format!("{from:?} to {to:?}, {why:?}")
        }
        EventKind::Session(OfSession { event: told, .. }) => {
            told.facts().iter().map(|(key, value)| format!("{key}={}", fact(value))).collect::<Vec<_>>().join(" ")
        }
        EventKind::Implausible(verdict) | EventKind::Plausible(verdict) => format!("{verdict:?}"),
        EventKind::SiteLimitExceeded(told) | EventKind::SiteLimitKept(told) => format!("{told:?}"),
        EventKind::Stopping
        | EventKind::DeviceAnswering
        | EventKind::JournalWorking
        | EventKind::PollKept
        | EventKind::Reloaded => String::new(),
    };
    let device = event.device.as_ref().map_or("the gateway", |device| device.as_str());
    format!("  event {} of {device}: {told}", kind.name()).trim_end().to_owned()
}

/// An entry in words. Its schema is told when it is another than `before`.
fn entry(entry: &Entry, before: &mut Option<Arc<Schema>>) -> String {
    let Entry { identity, schema, words: told_in, window } = entry;
    assert_eq!(*told_in, Words::First);
    let Window { boot, end, length, intervals, site, events, sessions, site_intervals, checkpoint } = window;
    assert!(sessions.is_empty() && site_intervals.is_empty() && checkpoint.is_none(), "version 1 has none");
    let mut out = String::new();
    if before.replace(Arc::clone(schema)).as_ref() != Some(schema) {
        let _ = writeln!(out, "in the words of {} at {}:", schema.gateway, schema.site);
        for series in &schema.series {
            let columns: Vec<_> = series.points.iter().map(column).collect();
            let _ = writeln!(out, "  {} {}: {}", series.kind.as_str(), series.device, columns.join(", "));
        }
    }
    let _ =
        write!(out, "epoch {} number {}: boot {:02x} at {} ns, ", identity.epoch, identity.seq, boot.0[0], end.mono.0);
    let _ = writeln!(out, "{} ns UTC ({}), window {length:?}", end.utc.0, end.trust.as_str());
    for interval in intervals {
        let series = &schema.series[usize::from(interval.device.0)];
        let direction = interval.direction.map_or("no direction", |direction| direction.as_str());
        let vehicle = interval.vehicle.as_ref().map_or("no vehicle", |vehicle| vehicle.as_str());
        let points: Vec<_> = interval.points.iter().map(|p| point(&series.points, p)).collect();
        let _ = writeln!(out, "  {} {direction}, {vehicle}: {}", series.device, points.join("; "));
    }
    if let Some(s) = site {
        let power = s.power.expect("version 1 always tells it");
        let (direction, powers) = (power.direction.as_str(), (power.flow_kw, power.import_kw, power.export_kw));
        let counts = (s.charging, s.discharging, s.unknown);
        let _ = writeln!(out, "  site {direction}: {powers:?} kW, {counts:?} charge points, soc {:?}", s.soc);
    }
    for told in events {
        out += &event(told);
        out.push('\n');
    }
    out
}

fn place(place: &Place, words: &mut Option<Arc<Schema>>) -> String {
    match place {
        Place::Entry(kept, true) => entry(kept, words) + "  waits\n",
        Place::Entry(kept, false) => entry(kept, words) + "  is settled\n",
        Place::Newer { from, to, version } => format!("{from} to {to} are of version {version:?}\n"),
        Place::Hole { from, to } => format!("{from} to {to} cannot be read\n"),
    }
}

/// The payload as it goes out, under a line of its own.
fn wire(entry: &Entry) -> String {
    let (payload, seq) = (payload_of(entry), entry.identity.seq);
    match payload.len() {
        0..PAYLOAD_BYTES_MAX => format!("--- {seq}\n{payload}"),
        bytes => format!("--- {seq}: {bytes} bytes of CRC-32C {:08x}\n", crc32c::crc32c(payload.as_bytes())),
    }
}

/// All that waits, as the next life of the journal hands it out: by number; and how the life before ended.
fn leased(journal: &Path, schema: Schema) -> (BTreeMap<u64, Arc<Entry>>, Option<bool>) {
    let settings = Settings {
        dir: journal.to_owned(),
        bytes_max: 64 << 20,
        free_min: 0,
        age_max: Duration::from_secs(3650 * 86_400),
        commit_interval: Duration::from_millis(20),
        bytes_per_day_max: None,
        when_full: WhenFull::RefuseNewest,
        runtime_dir: None,
        time_wait: Duration::ZERO,
    };
    let boot = BootId([0xf6; 16]);
    let end = Stamp { mono: Mono(9_000_000_000), utc: Utc(LATER_NS), trust: ClockTrust::Synced };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let journal = Journal::open(settings, schema, boot, end, Arc::default()).expect("it opens");
        let (handle, epoch, clean) = (journal.handle(), journal.epoch(), journal.previous_ended_clean());
        // The anchor of this boot: what a boot without a clock left behind has its place between two that are known.
        let events = vec![Event { device: None, kind: EventKind::JournalWorking }];
        let length = Duration::from_millis(250);
        let anchor = Window {
            boot,
            end,
            length,
            intervals: Vec::new(),
            site: None,
            events,
            sessions: Vec::new(),
            site_intervals: Vec::new(),
            checkpoint: None,
        };
        assert!(matches!(handle.append(anchor), Appended::Queued));
        handle.commit().await;
        let mut out = BTreeMap::new();
        while handle.progress().borrow().unacknowledged > 0 {
            for lease in handle.lease(Lane::History, 100).await {
                let entry = Arc::clone(lease.entry());
                lease.acknowledge();
                let before = out.insert(entry.identity.seq.0, entry);
                assert!(before.is_none(), "handed out twice: {before:?}");
            }
            handle.commit().await;
        }
        journal.close().await.expect("it ends in order");
        out.retain(|_, entry| entry.identity.epoch != epoch);
        (out, clean)
    })
}

/// Reads a golden journal in every way, and answers all its entries as the archive has them.
fn judge(name: &str, clean: bool) -> Vec<Entry> {
    let (_dir, journal) = copy(name);
    let found = places(&journal);
    let mut words = None;
    same(&format!("{name}.txt"), &found.iter().map(|found| place(found, &mut words)).collect::<String>());

    let schema = Schema::clone(words.as_ref().expect("there is an entry"));
    let (leased, ended_clean) = leased(&journal, schema);
    assert_eq!(ended_clean, Some(clean));
    let (mut waiting, mut told, mut entries) = (BTreeSet::new(), String::new(), Vec::new());
    for found in found {
        let Place::Entry(kept, waits) = found else { continue };
        let seq = kept.identity.seq.0;
        match leased.get(&seq) {
            Some(sent) => {
                let mut sent = Entry::clone(sent);
                let is_found = kept.window.end.trust == ClockTrust::Unsynced;
                if is_found {
                    // It never went out before, and another life than its own has found its time.
                    let units = [sent.identity, kept.identity].map(|identity| identity.epoch.0 >> 25);
                    assert_eq!(units[0], units[1] + 1, "{seq}");
                    sent.identity = kept.identity;
                }
                told += &wire(&sent);
                // What the archive has as captured, because it was not decided yet, is sealed when it leaves.
                if is_found {
                    assert_eq!(sent.window.end.trust, ClockTrust::Estimated, "{seq}");
                    sent.window.end = kept.window.end;
                }
                assert_eq!(sent, *kept);
            }
            None => told += &wire(&kept),
        }
        waiting.extend(waits.then_some(seq));
        entries.push(*kept);
    }
    assert_eq!(leased.keys().copied().collect::<BTreeSet<_>>(), waiting, "all that waits is handed out, and no more");
    same(&format!("{name}.wire"), &told);
    entries
}

/// Each has a number of its own; a new one has none until it stands here, and must not be looked for in old journals.
fn kind(kind: &EventKind) -> u8 {
    match kind {
        EventKind::Gap(gap) => gap.reason as u8,
        EventKind::Started { clean, .. } => 10 + clean.map_or(2, u8::from),
        EventKind::Stopping => 13,
        EventKind::DeviceSilent(why) => 14 + *why as u8,
        EventKind::DeviceAnswering => 20,
        EventKind::PointFrozen(_) => 21,
        EventKind::PointMoving(_) => 22,
        EventKind::ClockStepped(_) => 23,
        EventKind::SamplesShed(_) => 24,
        EventKind::EntryRefused { .. } => 25,
        EventKind::Thinned(_) => 26,
        EventKind::JournalFailing(_) => 27,
        EventKind::JournalWorking => 28,
        EventKind::BusState { .. } => 29,
        EventKind::BusRestarted(_) => 30,
        EventKind::FramesDropped { .. } => 31,
        EventKind::UplinkTrouble { .. } => 32,
        EventKind::UplinkOnline(_) => 33,
        EventKind::CertificateExpires { .. } => 34,
        // Written by no program of 0.1.0.
        EventKind::JournalNewer(_) => 35,
        EventKind::DevicePartly { .. } => 36,
        EventKind::CounterBreak { .. } => 60,
        EventKind::MeterExchanged { .. } => 61,
        EventKind::JournalInMemory { .. } => 37,
        EventKind::LifeLost(_) => 38,
        EventKind::PollOverrun(_) => 62,
        EventKind::PollKept => 63,
        EventKind::EventsLeftOut { .. } => 64,
        EventKind::ReloadRefused(_) => 65,
        EventKind::Reloaded => 66,
        EventKind::OfEntry { .. } => 67,
        EventKind::UpdateStarted { .. } => 68,
        EventKind::UpdateConfirmed { .. } => 69,
        EventKind::UpdateRolledBack { .. } => 70,
        EventKind::UpdateFailed { .. } => 71,
        EventKind::Implausible(_) => 72,
        EventKind::Plausible(_) => 73,
        EventKind::SiteLimitExceeded(_) => 74,
        EventKind::SiteLimitKept(_) => 75,
        EventKind::Session(OfSession { event: told, .. }) => {
            40 + match told {
                SessionEvent::Started { .. } => 0,
                SessionEvent::Phase { .. } => 1,
                SessionEvent::Notified { .. } => 2,
                SessionEvent::Failed { .. } => 3,
                SessionEvent::Ended { .. } => 4,
                SessionEvent::Encrypted => 5,
                SessionEvent::Unreadable { .. } => 6,
                SessionEvent::Readable { .. } => 7,
                SessionEvent::FeedConnected => 8,
                SessionEvent::FeedLost { .. } => 9,
                SessionEvent::FeedRefused { .. } => 10,
            }
        }
    }
}

#[test]
fn a_journal_of_0_1_0_that_was_cut_short_is_read_whole_and_sent_as_it_was() {
    let entries = judge("cut-short", false);
    let windows = || entries.iter().map(|entry| &entry.window);
    let kinds: BTreeSet<u8> = windows().flat_map(|w| &w.events).map(|event| kind(&event.kind)).collect();
    let all: BTreeSet<u8> = (0..6).chain(10..19).chain(20..35).chain(40..51).collect();
    assert_eq!(kinds, all, "it holds every kind of event");
    let points = || windows().flat_map(|w| &w.intervals).flat_map(|interval| &interval.points);
    let missing: BTreeSet<_> = points()
        .filter_map(|p| if let IntervalValue::Missing(why) = p.value { Some(Missing::as_str(why)) } else { None })
        .collect();
    let doubts: BTreeSet<_> = points().filter_map(|p| Some(p.questionable?.as_str())).collect();
    let trusts: BTreeSet<_> = windows().map(|w| w.end.trust.as_str()).collect();
    let directions: BTreeSet<_> =
        windows().flat_map(|w| &w.intervals).map(|i| i.direction.map(|d| d.as_str())).collect();
    let epochs: BTreeSet<_> = entries.iter().map(|entry| entry.identity.epoch).collect();
    let counts = (missing.len(), doubts.len(), trusts.len(), directions.len(), epochs.len());
    assert_eq!(counts, (5, 4, 5, 4, 4), "{missing:?} {doubts:?} {trusts:?} {directions:?}");
    assert!(windows().any(|w| w.length == Duration::from_secs(1)), "some of it is coarser");
    assert!(windows().any(|w| w.site.is_some()));
}

#[test]
fn a_journal_of_0_1_0_that_ended_in_order_is_read_whole_and_sent_as_it_was() {
    let entries = judge("ended-in-order", true);
    assert_eq!(entries.len(), 15);
}

#[test]
fn what_is_known_of_a_journal_of_0_1_0_as_a_whole_is_what_that_program_said() {
    for name in ["cut-short", "ended-in-order"] {
        let (_dir, journal) = copy(name);
        let archive = Archive::open(&journal).expect("a journal");
        let inventory = archive.inventory().expect("it can be read");
        let (gateway, site) = inventory.gateway.zip(inventory.site).expect("it says whose it is");
        let next = inventory.next.map_or(0, |next| next.0);
        let mut said = format!("{gateway} at {site}, next {next}\n");
        let utc = |at: Option<Utc>| at.map_or(0, |at| at.0);
        let (oldest, newest) = (utc(inventory.oldest), utc(inventory.newest));
        let _ = writeln!(said, "{} wait, {} are settled", inventory.waiting, inventory.settled);
        let _ = writeln!(said, "from {oldest} to {newest}, put aside: {:?}", inventory.quarantined);
        for s in &inventory.segments {
            let (first, last, epoch) = (s.first.0, s.last, s.epoch.map_or(0, |epoch| epoch.0));
            let _ =
                write!(said, "{first:016x} to {last} of epoch {epoch}: points {:?}, {} wait, ", s.points, s.waiting);
            let _ = writeln!(said, "newest {}, sealed {}, damaged {}", utc(s.newest), s.sealed, s.damaged);
        }
        let verdict = archive.verify().expect("it can be read");
        let (chunks, entries, points) = (verdict.chunks, verdict.entries, verdict.points);
        let incomplete = verdict.incomplete.map_or(0, |first| first.0);
        let _ = writeln!(said, "{chunks} chunks, {entries} entries, {points} points; incomplete: {incomplete}");
        for finding in &verdict.findings {
            let file = finding.file.strip_prefix(&journal).expect("below");
            let (from, to) = finding.range.map_or((0, 0), |(from, to)| (from.0, to.0));
            let _ = writeln!(said, "{}: {from} to {to}, {} wait: {}", file.display(), finding.waiting, finding.what);
        }
        same(&format!("{name}.inventory"), &said);
    }
}
