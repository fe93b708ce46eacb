//! `v2g-edge status`: how the running agent is, in its own view.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};

use super::show::{self, Paint};
use super::{ConfigPath, Exit};
use crate::api::{self, Report, Request, Response};
use crate::config;
use crate::health::{
    BusFacts, DepotFacts, DepotWindow, DeviceFacts, DeviceState, JournalFacts, LATE_MS_MAX, PipelineFacts,
    SessionFacts, Severity, UplinkFacts, UplinkState, entries,
};

/// Questionable values of a device in one line.
const VALUES_SHOWN: usize = 4;
/// Ids of a CAN bus in one line.
const IDS_SHOWN: usize = 6;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    config: ConfigPath,
    /// The agent's socket, in place of the configuration's
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The report as one JSON object; with --every one object a line
    #[arg(long)]
    json: bool,
    /// Again and again, at this interval, until the agent or the reader is gone
    #[arg(long, value_name = "DURATION", value_parser = config::duration)]
    every: Option<Duration>,
}

#[allow(
    clippy::disallowed_methods,
    reason = "a person's interval between two looks; nothing else goes on in this process"
)]
pub(super) fn run(arguments: &Arguments) -> Result<Exit> {
    let socket = match &arguments.socket {
        Some(socket) => socket.clone(),
        // A configuration with mistakes elsewhere still says where its agent answers.
        None => config::load_sound_parts(&arguments.config.config).api.unwrap_or_default().socket,
    };
    loop {
        let report = ask(&socket)?;
        let told =
            if arguments.json { serde_json::to_string(&report)? + "\n" } else { text(&report, Paint::for_stdout()) };
        let mut stdout = show::Stdout::new();
        match (stdout.write_all(told.as_bytes()).and_then(|()| stdout.flush()), arguments.every) {
            (Ok(()), Some(interval)) => std::thread::sleep(interval),
            (Ok(()), None) => return Ok(if report.findings().is_empty() { Exit::Fine } else { Exit::Wrong }),
            (Err(error), _) => return Err(error.into()),
        }
    }
}

/// How the agent behind this socket is.
pub(super) fn ask(socket: &Path) -> Result<Box<Report>> {
    match api::ask(socket, Request::Status)? {
        Response::Status(report) => Ok(report),
        Response::Refused { why } => bail!("the agent refused the question: {why}"),
        _ => bail!(
            "the agent answered something else: another version runs than this one (systemctl restart v2g-edge starts the one that \
             is installed)"
        ),
    }
}

fn text(report: &Report, paint: Paint) -> String {
    let (status, mut lines) = (&report.status, Lines { out: String::new(), paint });
    gateway_lines(report, &mut lines);
    journal_lines(&status.journal, &mut lines);
    pipeline_lines(&status.pipeline, &mut lines);
    depot_lines(&status.depot, &mut lines);
    uplink_lines(&status.uplink, &mut lines);
    for (id, bus) in &status.buses {
        lines.add("bus", format!("{} {}", paint.bold(&format!("{:<16}", id.as_str())), bus_text(bus, paint)));
    }
    for (id, device) in &status.devices {
        lines.add("device", format!("{} {}", paint.bold(&format!("{:<16}", id.as_str())), device_text(device, paint)));
    }
    for finding in report.findings() {
        let told = finding.to_string();
        lines.add("look at", if finding.severity == Severity::Bad { paint.bad(&told) } else { paint.odd(&told) });
    }
    lines.out
}

/// What is said, a line each, with what it is about before it.
struct Lines {
    out: String,
    paint: Paint,
}

impl Lines {
    fn add(&mut self, label: &str, text: String) {
        self.out.push_str(&format!("{} {text}\n", self.paint.dim(&format!("{label:<9}"))));
    }
}

fn gateway_lines(report: &Report, lines: &mut Lines) {
    let paint = lines.paint;
    let rss = report.rss_bytes.map_or_else(|| "unknown".to_owned(), show::bytes);
    let uptime = show::duration(Duration::from_secs(report.uptime_s));
    lines.add(
        "gateway",
        format!(
            "{} at {}, v2g-edge {}, pid {}, up {uptime}, {rss} resident",
            paint.bold(report.gateway.as_str()),
            report.site,
            report.version,
            report.pid
        ),
    );
    lines.add("clock", format!("{} ({})", report.wall_clock, report.clock.as_str()));
}

fn journal_lines(journal: &JournalFacts, lines: &mut Lines) {
    let paint = lines.paint;
    lines.add(
        "journal",
        format!(
            "{} waiting for the broker, {} of {} on disk in {} segments; durable to {}, last sync {}",
            entries(journal.waiting_entries),
            show::bytes(journal.bytes),
            show::bytes(journal.bytes_max),
            journal.segments,
            journal.durable.map_or_else(|| "–".to_owned(), |s| s.to_string()),
            milliseconds(journal.commit_ms),
        ),
    );
    if let Some(written) = journal.written_bytes_per_day {
        let device = journal
            .device_bytes_per_day
            .map_or_else(String::new, |all| format!("; all that goes to its disk: {} a day", show::bytes(all)));
        let kept = journal.kept_bytes_per_day.map_or_else(|| "–".to_owned(), show::bytes);
        lines.add("", format!("{} a day written for {kept} of entries{device}", show::bytes(written)));
    }
    if journal.commit_interval_ms > journal.commit_interval_planned_ms {
        let (now, planned) = (journal.commit_interval_ms / 1e3, journal.commit_interval_planned_ms / 1e3);
        let max = journal.bytes_per_day_max.map_or_else(String::new, show::bytes);
        let text = format!("commits every {now:.2} s instead of {planned:.2} s, to keep below {max} a day");
        lines.add("", paint.odd(&text));
    }
    if journal.entries_lost > 0 {
        let lost =
            format!("{} given up since the start, told by {} gap entries", entries(journal.entries_lost), journal.gaps);
        lines.add("", paint.odd(&lost));
    }
}

fn pipeline_lines(pipeline: &PipelineFacts, lines: &mut Lines) {
    let paint = lines.paint;
    if let Some(late_ms) = pipeline.late_ms {
        let (windows, max) = (pipeline.windows, pipeline.late_max_ms);
        let text = format!("{windows} closed, the last {late_ms:.0} ms after its end, at most {max:.0} ms");
        lines.add("windows", if late_ms > LATE_MS_MAX { paint.odd(&text) } else { text });
    }
    if pipeline.samples_shed > 0 {
        let PipelineFacts { samples_shed, samples_shed_told, .. } = pipeline;
        let text =
            format!("{samples_shed} samples were shed since the start, {samples_shed_told} of them told by events");
        lines.add("", paint.odd(&text));
    }
}

/// The depot in few words, and the quarter-hour that is billed.
fn depot_lines(depot: &DepotFacts, lines: &mut Lines) {
    if let Some(DepotWindow { rollup, .. }) = &depot.newest {
        let power = rollup.power.map_or_else(|| "power unknown".to_owned(), |power| format!("{:.1} kW", power.flow_kw));
        let mut told = vec![format!("{power}, {} charging, {} discharging", rollup.charging, rollup.discharging)];
        told.extend(rollup.free.map(|free| format!("{free} free")));
        told.extend((rollup.unknown > 0).then(|| format!("{} unknown", rollup.unknown)));
        told.extend(rollup.v2g.map(|v2g| format!("{:.1} kWh for V2G", v2g.kwh)));
        let mut told = told.join(", ");
        if let Some(grid) = rollup.grid {
            told += &format!("; grid {:.1} kW ({})", grid.power_kw(), grid.known_by.as_str());
            let left = [("import", grid.headroom_import_kw), ("export", grid.headroom_export_kw)];
            for (what, kw) in left.into_iter().filter_map(|(what, kw)| Some((what, kw?))) {
                told += &format!(", {kw:.1} kW left to {what}");
            }
        }
        lines.add("depot", told);
    }
    if let Some(quarter) = &depot.quarter {
        let kw = |kw: Option<f64>| kw.map_or_else(|| "unknown".to_owned(), |kw| format!("{kw:.1} kW"));
        let (mean, forecast) = (kw(quarter.power_import_mean_kw), kw(quarter.power_import_forecast_kw));
        let how = if quarter.complete { "complete".to_owned() } else { format!("{forecast} expected") };
        let peak = quarter.power_import_peak_kw;
        lines.add("", format!("quarter-hour from {}: mean {mean}, {how}, peak {peak:.1} kW taken", quarter.start));
    }
}

fn uplink_lines(uplink: &UplinkFacts, lines: &mut Lines) {
    let paint = lines.paint;
    let state = match uplink.state {
        UplinkState::Online => paint.good("online"),
        UplinkState::Connecting => paint.odd("connecting"),
        UplinkState::Draining => paint.odd("draining"),
        UplinkState::Offline => paint.bad("offline"),
    };
    lines.add(
        "uplink",
        format!(
            "{state} {}{}; acknowledged by the broker: {} live, {} history; {} in flight; {} connections lost",
            uplink.broker.as_deref().unwrap_or("no broker"),
            uplink.interface.as_ref().map_or_else(String::new, |interface| format!(" by {interface}")),
            uplink.live.acknowledged,
            uplink.history.acknowledged,
            uplink.in_flight,
            uplink.disconnections,
        ),
    );
    if let (UplinkState::Online, Some(trouble)) = (uplink.state, &uplink.trouble) {
        lines.add("", paint.dim(&format!("the last trouble: {}; {}", trouble.what, trouble.remedy)));
    }
    if let Some(left) = uplink.history_bytes_left_today {
        lines.add("", format!("{} of history may still go out today", show::bytes(left)));
    }
}

/// State, load and the busiest ids of a CAN bus.
fn bus_text(bus: &BusFacts, paint: Paint) -> String {
    let state = match bus.state.as_str() {
        "active" => paint.good("active"),
        "" => paint.dim("not looked at yet"),
        "warning" | "passive" => paint.odd(&bus.state),
        other => paint.bad(&other.replace('_', "-")),
    };
    let load = bus.load.map_or_else(|| "load unknown".to_owned(), |load| format!("load {:.1} %", load * 100.0));
    let mut ids: Vec<_> = bus.ids.iter().collect();
    ids.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let busiest: Vec<String> = ids.iter().take(IDS_SHOWN).map(|(id, rate)| format!("{id} {rate:.0}/s")).collect();
    let more = if ids.len() > IDS_SHOWN { format!(" and {} more", ids.len() - IDS_SHOWN) } else { String::new() };
    let port = &bus.port;
    let list = if busiest.is_empty() { String::new() } else { format!("; {}{more}", busiest.join(", ")) };
    let given_up: Vec<String> =
        bus.messages_given_up.iter().map(|(why, count)| format!("{count} {}", why.replace('_', " "))).collect();
    let messages = match (bus.messages, given_up.is_empty()) {
        (0, true) => String::new(),
        (put_together, true) => format!("; {put_together} messages of several frames"),
        (put_together, false) => {
            format!("; {put_together} messages of several frames, not {}", given_up.join(", not "))
        }
    };
    format!("{state} {port}, {load}, {:.0} frames/s{list}{messages}", bus.frames_per_second)
}

fn device_text(device: &DeviceFacts, paint: Paint) -> String {
    let told = device_told(device, paint);
    let others = device.questionable.iter().filter(|(field, _)| *field != "power_flow");
    let questionable: Vec<String> =
        others.take(VALUES_SHOWN).map(|(field, fact)| format!("{field} {fact} ({})", fact.why)).collect();
    if questionable.is_empty() {
        return told;
    }
    format!("{told}, {}", paint.bad(&format!("questionable: {}", questionable.join(", "))))
}

fn device_told(device: &DeviceFacts, paint: Paint) -> String {
    let state = match device.state {
        DeviceState::Answering => paint.good("answering"),
        DeviceState::Partly { answering, blocks } => paint.odd(&format!("partly ({answering} of {blocks} blocks)")),
        DeviceState::Silent(why) => paint.bad(&format!("silent ({})", why.as_str())),
        DeviceState::Unknown => paint.dim("not asked yet"),
    };
    let power = match (device.power_flow_kw, device.questionable.get("power_flow")) {
        (_, Some(fact)) => format!(" {},", paint.bad(&format!("{fact} (questionable)"))),
        (Some(kw), None) => format!(" {kw:>9.3} kW,"),
        (None, None) => String::new(),
    };
    if let Some(session) = &device.session {
        return format!("{}{power} {}", session_state(device, session, paint), session_text(device, session, paint));
    }
    if device.requests == 0 && device.answers > 0 {
        return format!("{state}{power} {} frames read", device.answers);
    }
    let failed: u64 = device.failures.values().sum();
    let pause = device
        .pause_ms
        .map_or_else(String::new, |ms| format!(", asked {ms:.0} ms after an answer (it is deaf before)"));
    let reply = milliseconds(device.reply_ms);
    format!("{state}{power} {} of {} requests failed, reply {reply}{pause}", failed, device.requests)
}

fn session_state(device: &DeviceFacts, session: &SessionFacts, paint: Paint) -> String {
    match (device.state, session.state.as_str()) {
        (DeviceState::Silent(why), _) => paint.bad(&format!("silent ({})", why.as_str())),
        (_, "") | (DeviceState::Unknown, "unknown") => paint.dim("nothing heard yet"),
        (_, state @ ("failed" | "aborted" | "unknown_protocol" | "encrypted")) => paint.odd(state),
        (_, state) => paint.good(state),
    }
}

/// What is known of a charging session, as far as it is.
fn session_text(device: &DeviceFacts, session: &SessionFacts, paint: Paint) -> String {
    let mut parts: Vec<String> = Vec::new();
    parts.extend(session.protocol.clone());
    parts.extend(session.vehicle.as_ref().map(|vehicle| format!("vehicle {vehicle}")));
    parts.extend(session.session_id.as_ref().map(|id| format!("session {id}")));
    parts.extend(session.soc.map(|soc| format!("SoC {soc} %")));
    parts.extend(session.voltage.map(|voltage| format!("{voltage} V")));
    parts.extend(session.current.map(|current| format!("{current} A")));
    if session.power_source.as_deref() == Some("meter") {
        parts.push("power worked out from the meter's readings".to_owned());
    }
    if let (Some(import), Some(export)) = (session.energy_import_kwh, session.energy_export_kwh) {
        let source = session.energy_source.as_deref().unwrap_or("–");
        parts.push(format!("{import:.3} kWh in, {export:.3} kWh out ({source})"));
    }
    parts.extend(session.last_end.as_ref().map(|end| format!("last session {end}")));
    parts.push(format!("{} messages in {} sessions", session.messages, session.sessions));
    let unreadable: Vec<String> = device.failures.iter().map(|(why, count)| format!("{count} {why}")).collect();
    if !unreadable.is_empty() {
        let namespace = session.namespace.as_deref().map_or_else(String::new, |name| format!(" (negotiated: {name})"));
        let text = format!("unreadable: {}{namespace}", unreadable.join(", "));
        parts.push(if session.readable { text } else { paint.bad(&text) });
    }
    if !session.refused.is_empty() {
        let refused: Vec<String> = session.refused.iter().map(|(why, count)| format!("{count} {why}")).collect();
        parts.push(format!("senders not let in: {}", refused.join(", ")));
    }
    parts.join(", ")
}

fn milliseconds(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |ms| format!("{ms:.1} ms"))
}
