//! An event as a line.

use super::line::Line;
use crate::measure::{
    AboutLife, Event, EventKind, Gap, Identity, LifeLost, OfSession, Seq, SessionFact, SiteLimitTold, Thinned, Verdict,
};

const STOP: &str = "stop";
pub(super) const SESSION: &str = "session_id";
const JOURNAL_WORKS: &str = "it writes again";

/// All that an event says, behind the tags of its line.
pub(super) fn event(line: Line, event: &Event) -> Line {
    let mut line = match &event.device {
        Some(device) => line.tag("device", device.as_str()),
        None => line,
    };
    line = line.tag("kind", event.kind.name());
    match &event.kind {
        EventKind::Gap(gap) => gap_fields(&mut line, gap),
        EventKind::Started { version, clean } => {
            line.text("version", version);
            line.text("last_end", last_end(*clean));
        }
        EventKind::Stopping => line.text("reason", STOP),
        EventKind::DeviceSilent(why) => line.text("reason", why.as_str()),
        EventKind::DeviceAnswering => line.text("reason", "answer"),
        EventKind::PointFrozen(field) | EventKind::PointMoving(field) => line.text("point", field.as_str()),
        EventKind::ClockStepped(by_ns) => line.integer("by_ns", *by_ns),
        EventKind::SamplesShed(points) => line.count("points", *points),
        EventKind::EntryRefused { identity, code } => {
            line.count("refused_epoch", identity.epoch.0);
            line.count("refused_seq", identity.seq.0);
            line.integer("code", (*code).into());
        }
        EventKind::Thinned(thinned) => thinned_fields(&mut line, thinned),
        EventKind::JournalFailing(why)
        | EventKind::JournalNewer(why)
        | EventKind::PollOverrun(why)
        | EventKind::ReloadRefused(why) => line.text("reason", why),
        EventKind::PollKept => line.text("reason", "every poll is kept again"),
        EventKind::JournalWorking => line.text("reason", JOURNAL_WORKS),
        EventKind::BusState { bus, state, detail } => {
            line.text("bus", bus.as_str());
            line.text("state", state);
            text_if_any(&mut line, "reason", detail);
        }
        EventKind::BusRestarted(bus) => line.text("bus", bus.as_str()),
        EventKind::FramesDropped { bus, frames } => {
            line.text("bus", bus.as_str());
            line.count("frames", *frames);
        }
        EventKind::Session(told) => session_fields(&mut line, told),
        EventKind::UplinkTrouble { broker, what, remedy } => {
            trouble_fields(&mut line, (broker, what, remedy));
        }
        EventKind::UplinkOnline(broker) => line.text("broker", broker),
        EventKind::CertificateExpires { file, days } => {
            line.text("file", file);
            line.integer("days", (*days).into());
        }
        EventKind::DevicePartly { answering, blocks, silent } => {
            partly_fields(&mut line, (*answering, *blocks), silent);
        }
        EventKind::CounterBreak { field, from_milli, to_milli, reason } => {
            counter_fields(&mut line, field.as_str(), (*from_milli, *to_milli), reason.as_str());
        }
        EventKind::MeterExchanged { before, after } => {
            line.text("before", before);
            line.text("after", after);
        }
        EventKind::JournalInMemory { why, from, counts_anew } => in_memory_fields(&mut line, why, *from, *counts_anew),
        EventKind::LifeLost(lost) => life_fields(&mut line, *lost),
        EventKind::EventsLeftOut { of, about, count } => {
            line.text("of", of);
            text_if_any(&mut line, "about", about);
            line.count("count", *count);
        }
        EventKind::Reloaded => line.text("reason", "the configuration has changed"),
        EventKind::OfEntry { entry, told } => of_entry_fields(&mut line, *entry, told),
        EventKind::SiteLimitExceeded(told) | EventKind::SiteLimitKept(told) => limit_fields(&mut line, *told),
        EventKind::UpdateStarted { from, to } | EventKind::UpdateConfirmed { from, to } => {
            version_fields(&mut line, from, to);
        }
        EventKind::UpdateRolledBack { from, to, why } | EventKind::UpdateFailed { from, to, why } => {
            version_fields(&mut line, from, to);
            line.text("reason", why);
        }
        EventKind::Implausible(verdict) => return verdict_fields(line, verdict, 1),
        EventKind::Plausible(verdict) => return verdict_fields(line, verdict, 0),
    }
    line
}

/// What another entry told of its own life: of that it is, and not of the one that this batch has.
fn of_entry_fields(line: &mut Line, Identity { epoch, seq }: Identity, told: &AboutLife) {
    line.count("of_epoch", epoch.0);
    line.count("of_seq", seq.0);
    match told {
        AboutLife::Failing(why) => line.text("reason", why),
        AboutLife::Working => line.text("reason", JOURNAL_WORKS),
        AboutLife::InMemory { why, from, counts_anew } => in_memory_fields(line, why, *from, *counts_anew),
        AboutLife::Stopping => line.text("reason", STOP),
    }
}

fn session_fields(line: &mut Line, OfSession { session, event }: &OfSession) {
    event.facts().into_iter().for_each(|(key, fact)| match fact {
        SessionFact::Text(text) => line.text(key, text),
        SessionFact::Count(count) => line.count(key, count),
    });
    if let Some(session) = session {
        line.text(SESSION, session.as_str());
    }
}

fn partly_fields(line: &mut Line, (answering, blocks): (u16, u16), silent: &str) {
    line.integer("answering", answering.into());
    line.integer("blocks", blocks.into());
    line.text("silent", silent);
}

/// The rule is a tag, so that a database groups by it; `stands` is what its newest line says of it.
fn verdict_fields(line: Line, verdict: &Verdict, stands: i64) -> Line {
    let Verdict { rule, value_milli, expected_milli, unit, what } = verdict;
    let mut line = line.tag("rule", rule);
    line.float("value", "", thousandths(*value_milli));
    line.float("expected", "", thousandths(*expected_milli));
    text_if_any(&mut line, "unit", unit);
    line.text("reason", what);
    line.integer("stands", stands);
    line
}

fn trouble_fields(line: &mut Line, (broker, what, remedy): (&str, &str, &str)) {
    line.text("broker", broker);
    line.text("reason", what);
    line.text("remedy", remedy);
}

fn counter_fields(line: &mut Line, point: &str, (from_milli, to_milli): (i64, i64), reason: &str) {
    line.text("point", point);
    line.float("from", "", thousandths(from_milli));
    line.float("to", "", thousandths(to_milli));
    line.text("reason", reason);
}

/// Not `from` and `to`: those of a counter are numbers, and a database has one type for a field.
fn version_fields(line: &mut Line, from: &str, to: &str) {
    line.text("from_version", from);
    line.text("to_version", to);
}

fn text_if_any(line: &mut Line, key: &str, text: &str) {
    if !text.is_empty() {
        line.text(key, text);
    }
}

#[allow(clippy::cast_precision_loss, reason = "a counter of 10^15 thousandths is exact")]
fn thousandths(count: i64) -> f64 {
    count as f64 / 1000.0
}

/// kW, as the power of every line.
#[allow(clippy::cast_precision_loss, reason = "a power in W is exact")]
fn limit_fields(line: &mut Line, SiteLimitTold { limit, max_w, power_w }: SiteLimitTold) {
    line.text("limit", limit.as_str());
    line.float("power", "", power_w as f64 / 1000.0);
    line.float("max", "", max_w as f64 / 1000.0);
}

/// How the life before ended.
fn last_end(clean: Option<bool>) -> &'static str {
    match clean {
        None => "none",
        Some(true) => "clean",
        Some(false) => "cut_off",
    }
}

fn in_memory_fields(line: &mut Line, why: &str, from: Seq, counts_anew: bool) {
    line.count("from_seq", from.0);
    line.text("reason", why);
    if counts_anew {
        line.integer("counts_anew", 1);
    }
}

fn life_fields(line: &mut Line, LifeLost { epoch, from, to, renumbered }: LifeLost) {
    line.count("from_epoch", epoch.0);
    line.count("from_seq", from.0);
    if let Some(to) = to {
        line.count("to_seq", to.0);
    }
    line.text("reason", if renumbered { "renumbered" } else { "in_memory" });
}

/// What stands for a gap's entries.
fn thinned_fields(line: &mut Line, thinned: &Thinned) {
    let Thinned { gap, as_epoch, as_from, as_to, window } = thinned;
    gap_fields(line, gap);
    line.count("as_epoch", as_epoch.0);
    line.count("as_from_seq", as_from.0);
    line.count("as_to_seq", as_to.0);
    line.count("window_ms", u64::try_from(window.as_millis()).unwrap_or(u64::MAX));
}

fn gap_fields(line: &mut Line, gap: &Gap) {
    line.count("from_epoch", gap.epoch.0);
    line.count("from_seq", gap.from.0);
    line.count("to_seq", gap.to.0);
    if let Some(points) = gap.points {
        line.count("points", points);
    }
    line.text("reason", gap.reason.as_str());
}
