//! Everything that came to the broker, held against the truth of the depot.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::peers::Depot;
use super::script::Source;
use super::truth::{DeviceTruth, VisitTruth};
use crate::oracle::{Line, Message, Value};

const MS: i64 = 1_000_000;
const S: i64 = 1_000 * MS;
/// `aggregate.window` of the agent, which is also how often it polls.
pub(super) const WINDOW_NS: i64 = S;
/// What is integrated may be off by so much of it.
const PART: f64 = 1e-3;
/// And by what is less than a millisecond and a milliwatt-hour at the ends of the times that are known, mWh.
const ROUNDING_MWH: f64 = 30.0;
/// Registers of power have whole watts, kW.
const POWER_STEP: f64 = 0.002;
/// Below it power has no direction, kW.
const DEAD_BAND: f64 = 0.05;
/// What an agent had not made durable when it was killed, and what it needs until it has read everything again.
const LOST_BEFORE: i64 = 3 * S;
const FOUND_AFTER: i64 = 5 * S;

/// The agent did not run.
#[derive(Debug, Clone, Copy)]
pub struct Down {
    /// Killed, or without power, ns since 1970.
    pub from_ns: i64,
    /// It answered again.
    pub to_ns: i64,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Verdict {
    /// What is not as it was.
    pub findings: Vec<String>,
    lines: usize,
    values: usize,
    sessions: usize,
    /// By source: devices, energy as told and as it was (kWh, both ways), the widest deviation, time known (s).
    energies: BTreeMap<&'static str, Energies>,
}

#[derive(Debug, Default)]
struct Energies {
    devices: usize,
    told_kwh: f64,
    true_kwh: f64,
    widest: f64,
    known_s: f64,
}

/// What was told of one device.
#[derive(Debug, Default)]
struct Told {
    /// By the end of their windows, by this machine's clock.
    lines: BTreeMap<i64, Vec<Line>>,
    /// As a database keeps them.
    rows: BTreeMap<String, Row>,
}

/// What a database keeps of a charging session.
#[derive(Debug, Default)]
struct Row {
    /// Its time stamp, by this machine's clock.
    start_ns: i64,
    fields: BTreeMap<String, Value>,
}

/// A time of which one life of the agent knows everything, and the energy that was told of it (mWh).
#[derive(Debug)]
struct Run {
    life: usize,
    from: i64,
    to: i64,
    told: (i64, i64),
}

/// Both ways, mWh.
#[derive(Debug, Default, Clone, Copy)]
struct Sums {
    told: (i64, i64),
    truth: (f64, f64),
    known_ms: i64,
}

/// Judges. `late_ns`: what the clock of the box was late in this life of the agent (epoch), ns; `slack_ns`: what that is not known by.
#[must_use]
pub fn judge(
    depot: &Depot,
    messages: &[Message],
    downs: &[Down],
    late_ns: impl Fn(u64) -> i64,
    slack_ns: i64,
) -> Verdict {
    let told = told(messages, late_ns);
    let mut verdict = Verdict::default();
    let nothing = Told::default();
    for truth in depot.truths() {
        let told = told.get(truth.id).unwrap_or(&nothing);
        if told.lines.is_empty() {
            verdict.findings.push(format!("{}: nothing was told", truth.id));
            continue;
        }
        let mut judge = Judge { truth, told, downs, slack_ns, verdict: &mut verdict };
        judge.judge_values();
        let sums = judge.judge_energy();
        judge.judge_sessions(&sums);
    }
    verdict
}

fn told(messages: &[Message], late_ns: impl Fn(u64) -> i64) -> BTreeMap<String, Told> {
    let mut told: BTreeMap<String, Told> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for message in messages.iter().filter(|m| m.topic.ends_with("/telemetry") || m.topic.ends_with("/history")) {
        let text = String::from_utf8_lossy(&message.payload);
        let mut lines = text.lines().filter_map(|line| Line::parse(line).ok());
        let Some(head) = lines.next() else { continue };
        let identity = (head.count("epoch").unwrap_or(0), head.count("seq").unwrap_or(0));
        if !seen.insert(identity) {
            continue;
        }
        for line in lines {
            let Some(device) = line.tag("device").filter(|_| line.measurement != "event") else { continue };
            let told = told.entry(device.to_owned()).or_default();
            if line.measurement == "charging_session" {
                let row = told.rows.entry(line.series_at_time()).or_default();
                row.start_ns = line.time_ns + late_ns(identity.0);
                row.fields.extend(line.fields.iter().cloned());
            } else {
                // Two lines of one window differ by nanoseconds.
                let end = line.time_ns / MS * MS + late_ns(identity.0);
                told.lines.entry(end).or_default().push(line);
            }
        }
    }
    told
}

fn number(line: &Line, field: &str) -> Option<f64> {
    line.field(field).and_then(Value::number)
}

#[allow(clippy::cast_possible_truncation, reason = "a day at a gigawatt")]
fn mwh(kwh: f64) -> i64 {
    (kwh * 1e6).round() as i64
}

#[allow(clippy::cast_possible_truncation, reason = "a time stamp")]
fn ns_of(seconds: f64) -> i64 {
    (seconds * 1e3).round() as i64 * MS
}

fn id_of(line: &Line) -> Option<&str> {
    match line.field("session_id") {
        Some(Value::Text(id)) => Some(id),
        _ => None,
    }
}

struct Judge<'j> {
    truth: DeviceTruth<'j>,
    told: &'j Told,
    downs: &'j [Down],
    slack_ns: i64,
    verdict: &'j mut Verdict,
}

impl Judge<'_> {
    fn find(&mut self, text: &str) {
        self.verdict.findings.push(format!("{}: {text}", self.truth.id));
    }

    /// Power at its time, and its direction.
    fn judge_values(&mut self) {
        let mut found = Vec::new();
        for (end, line) in self.told.lines.iter().flat_map(|(end, lines)| lines.iter().map(move |line| (end, line))) {
            self.verdict.lines += 1;
            let Some(kw) = number(line, "power_flow") else { continue };
            self.verdict.values += 1;
            let Some((min, max)) = self.truth.power.range(end - WINDOW_NS - self.slack_ns, end + self.slack_ns) else {
                found.push(format!("{kw} kW at {end} is of no time at which it said any"));
                continue;
            };
            if kw < min - POWER_STEP || kw > max + POWER_STEP {
                found.push(format!("{kw} kW at {end}, and it had {min} to {max}"));
            }
            let wanted = match (min, max) {
                _ if line.measurement == "meter" => None,
                (min, _) if min > DEAD_BAND => Some("G2V"),
                (_, max) if max < -DEAD_BAND => Some("V2G"),
                (min, max) if min > -DEAD_BAND / 2.0 && max < DEAD_BAND / 2.0 => Some("idle"),
                _ => continue,
            };
            if line.tag("direction") != wanted {
                found.push(format!("direction {:?} at {end}, and it had {min} to {max} kW", line.tag("direction")));
            }
        }
        found.iter().for_each(|text| self.find(text));
    }

    /// Energy of each session, and of the device.
    fn judge_energy(&mut self) -> BTreeMap<Option<String>, Sums> {
        let mut sums: BTreeMap<Option<String>, Sums> = BTreeMap::new();
        let mut until: Option<i64> = None;
        let (mut found, mut runs) = (Vec::new(), Vec::new());
        for (end, lines) in &self.told.lines {
            let known = |line: &Line| number(line, "known_s").map_or(0, ns_of);
            let all: i64 = lines.iter().map(known).sum();
            let heard = self.truth.heard.partition_point(|at| at <= end);
            let newest = heard.checked_sub(1).map_or(*end, |place| self.truth.heard[place]);
            let mut from = newest - all;
            if all > 0 {
                let hole = until.filter(|until| from - until > self.hole_min());
                if let Some(until) = hole.filter(|until| !self.is_excused(*until, from)) {
                    let time = (from - until) as f64 / 1e9;
                    found.push(format!("{time} s before {from} are not known, and nothing was wrong"));
                }
                // Of each life of the agent: what it closed before it was killed ended before.
                let life = self.downs.iter().filter(|down| down.from_ns < *end).count();
                if runs.last().is_none_or(|run: &Run| run.life != life) {
                    runs.push(Run { life, from, to: newest, told: (0, 0) });
                }
                runs.iter_mut().last().into_iter().for_each(|run| run.to = newest);
                until = Some(newest);
            }
            for line in lines {
                let delta = |field| number(line, field).map_or(0, mwh);
                let told = (delta("energy_import_delta"), delta("energy_export_delta"));
                let (import, export) = self.truth.power.flowed(from, from + known(line));
                from += known(line);
                let sums = sums.entry(id_of(line).map(str::to_owned)).or_default();
                sums.told = (sums.told.0 + told.0, sums.told.1 + told.1);
                sums.truth = (sums.truth.0 + import * 1e6, sums.truth.1 + export * 1e6);
                sums.known_ms += known(line) / MS;
                if let Some(run) = runs.last_mut() {
                    run.told = (run.told.0 + told.0, run.told.1 + told.1);
                }
            }
        }
        found.iter().for_each(|text| self.find(text));
        if let Some((id, kwh)) = self.truth.last_turn.as_ref().filter(|_| self.truth.counted.is_none()) {
            // The last power stands for its turn of the loop, in which no other is told.
            let last = (kwh.max(0.0), (-kwh).max(0.0));
            let count = runs.len();
            let flowed = runs
                .iter()
                .enumerate()
                .map(|(number, run)| self.between_messages(run, if number + 1 == count { last } else { (0.0, 0.0) }));
            let all = flowed.fold((0.0, 0.0), |sum, kwh| (sum.0 + kwh.0, sum.1 + kwh.1));
            sums.entry(Some(id.clone())).or_default().truth = (all.0 * 1e6, all.1 * 1e6);
        }
        let all = sums.values().fold(Sums::default(), |all, sums| Sums {
            told: (all.told.0 + sums.told.0, all.told.1 + sums.told.1),
            truth: (all.truth.0 + sums.truth.0, all.truth.1 + sums.truth.1),
            known_ms: all.known_ms + sums.known_ms,
        });
        self.compare_energy("all of it", &all, self.truth.counted);
        self.keep(&all);
        sums
    }

    /// Longer than this is no rounding and no reply that was late.
    fn hole_min(&self) -> i64 {
        if self.truth.source == Source::Messages { 6 * S / 5 } else { S / 2 }
    }

    /// What flowed in a time that is known, kWh. Between messages it is known from one to the next, by the clock of their sender; when they
    /// arrived, by which the time is told, may be a turn or two later. Of the messages there that with which it begins and that with which
    /// it ends are those with which the energy fits: what is told may not be anything in between. `last` flowed after the last of them, kWh.
    fn between_messages(&self, run: &Run, last: (f64, f64)) -> (f64, f64) {
        let heard = &self.truth.heard;
        let near = |at: i64| heard.iter().copied().filter(move |heard| (heard - at).abs() <= 6 * S / 5);
        let spans =
            near(run.from).flat_map(|from| near(run.to).map(move |to| (from, to))).filter(|(from, to)| from <= to);
        let off = |(import, export): (f64, f64)| {
            (import * 1e6 - run.told.0 as f64).abs() + (export * 1e6 - run.told.1 as f64).abs()
        };
        let flowed = spans.map(|(from, to)| self.truth.power.flowed(from, to));
        let flowed = flowed.map(|(import, export)| (import + last.0, export + last.1));
        flowed.min_by(|one, other| off(*one).total_cmp(&off(*other))).unwrap_or_default()
    }

    /// Whether it is told that the device or the agent was not to be heard then.
    fn is_excused(&self, from: i64, to: i64) -> bool {
        let down = |down: &Down| from < down.to_ns + FOUND_AFTER && to > down.from_ns - LOST_BEFORE;
        let mute = |(begin, end): &(i64, i64)| from < end + WINDOW_NS && to > begin - WINDOW_NS;
        self.downs.iter().any(down) || self.truth.mute.iter().any(mute)
    }

    fn compare_energy(&mut self, what: &str, sums: &Sums, counted: Option<(i64, i64)>) {
        let ways = [("import", sums.told.0, sums.truth.0), ("export", sums.told.1, sums.truth.1)];
        for ((way, told, truth), counted) in ways.into_iter().zip([counted.map(|(i, _)| i), counted.map(|(_, e)| e)]) {
            match counted {
                Some(counted) => {
                    // Of what a station's meter counts while nobody hears it, nothing need be told.
                    let least = counted - if way == "import" { self.unheard().0 } else { self.unheard().1 };
                    if told > counted || told < least {
                        self.find(&format!(
                            "{way} of {what}: {told} mWh, and its registers counted {least} to {counted}"
                        ));
                    }
                }
                None if (told as f64 - truth).abs() > truth * PART + ROUNDING_MWH => {
                    self.find(&format!("{way} of {what}: {told} mWh, and it was {truth:.0} in the time that is known"));
                }
                None => {}
            }
        }
    }

    /// What the meter behind messages counted while the agent was down, mWh.
    fn unheard(&self) -> (i64, i64) {
        let is_unheard = |pair: &&[(i64, (i64, i64))]| {
            let (from, to) = (pair[0].0, pair[1].0);
            self.downs.iter().any(|down| from < down.to_ns + FOUND_AFTER && to > down.from_ns - LOST_BEFORE)
        };
        let pairs = self.truth.readings.windows(2).filter(is_unheard);
        pairs.fold((0, 0), |sum, pair| {
            let ((one_import, one_export), (import, export)) = (pair[0].1, pair[1].1);
            (sum.0 + import - one_import, sum.1 + export - one_export)
        })
    }

    fn keep(&mut self, sums: &Sums) {
        let source = match self.truth.source {
            Source::Registers | Source::Meter => "registers",
            Source::State | Source::Power | Source::PowerMeter => "power (Modbus)",
            Source::Bus => "power (CAN)",
            Source::Messages if self.truth.counted.is_some() => "messages with a meter",
            Source::Messages => "messages",
        };
        let energies = self.verdict.energies.entry(source).or_default();
        energies.devices += 1;
        energies.known_s += sums.known_ms as f64 / 1e3;
        let truths = match self.truth.counted {
            Some((import, export)) => (import as f64, export as f64),
            None => sums.truth,
        };
        for (told, truth) in [(sums.told.0 as f64, truths.0), (sums.told.1 as f64, truths.1)] {
            energies.told_kwh += told / 1e6;
            energies.true_kwh += truth / 1e6;
            if truth > ROUNDING_MWH {
                energies.widest = energies.widest.max((told - truth).abs() / truth);
            }
        }
    }

    fn judge_sessions(&mut self, sums: &BTreeMap<Option<String>, Sums>) {
        let mut rows: Vec<&Row> = self.told.rows.values().collect();
        self.verdict.sessions += rows.len();
        // Of power alone, a vehicle that stays away for less than 15 min has not gone.
        let is_one = self.truth.source == Source::Power;
        let count = if is_one { 1 } else { self.truth.visits.len() };
        if rows.len() != count {
            self.find(&format!("{} sessions, and there were {count}: {rows:?}", rows.len()));
            return;
        }
        rows.sort_by_key(|row| row.start_ns);
        let ids: BTreeSet<String> = rows.iter().filter_map(|row| word(&row.fields, "session_id")).collect();
        if ids.len() != rows.len() {
            self.find(&format!("{} sessions have the ids {ids:?}", rows.len()));
        }
        if let Some(stray) = sums.keys().flatten().find(|id| !ids.contains(*id)) {
            self.find(&format!("lines are of a session {stray} that was never told; told were {ids:?}"));
        }
        let visits = std::mem::take(&mut self.truth.visits);
        for (Row { start_ns, fields: row }, visit) in rows.into_iter().zip(&visits) {
            self.judge_row(*start_ns, row, visit);
            let id = word(row, "session_id");
            let sums = sums.get(&id).copied().unwrap_or_default();
            let field = |name: &str| row.get(name).and_then(Value::number).map_or(0, mwh);
            let told = (field("energy_import"), field("energy_export"));
            if !is_one && told != sums.told {
                self.find(&format!("the session has {told:?} mWh, and its windows {:?}", sums.told));
            }
            if !is_one {
                self.compare_energy("its session", &sums, visit.counted);
            }
            self.judge_lines(id.as_deref(), visit);
        }
    }

    fn judge_row(&mut self, start_ns: i64, row: &BTreeMap<String, Value>, visit: &VisitTruth) {
        let is_one = self.truth.source == Source::Power;
        let late = WINDOW_NS + S + self.slack_ns;
        if is_one {
            self.judge_start_by_power(start_ns, visit);
        } else {
            for (what, told, truth, early) in [
                ("start", start_ns, visit.from_ns, 0),
                // In whole seconds.
                ("end", row.get("end").and_then(Value::number).map_or(0, ns_of), visit.to_ns, S),
            ] {
                if told < truth - early - self.slack_ns || told > truth + late {
                    self.find(&format!("its {what} is {} s off", (told - truth) as f64 / 1e9));
                }
            }
            for (field, wanted) in [("state", "ended"), ("reason", self.reason())] {
                let told = word(row, field);
                if told.as_deref() != Some(wanted) {
                    self.find(&format!("{field} is {told:?}, not {wanted}"));
                }
            }
        }
        if self.truth.source != Source::Power {
            for (field, truth) in [("soc_start", visit.soc.0), ("soc_end", visit.soc.1)] {
                let told = row.get(field).and_then(Value::number);
                if told.is_none_or(|told| (told - truth).abs() > 1e-6) {
                    self.find(&format!("{field} is {told:?}, not {truth}"));
                }
            }
        }
        for (field, wanted) in [("session_id", &visit.session_id), ("vehicle", &visit.vehicle)] {
            let told = word(row, field);
            if wanted.is_some() && told != *wanted {
                self.find(&format!("{field} is {told:?}, not {wanted:?}"));
            }
        }
    }

    /// Power begins up to 7 s after the vehicle has come, and has to flow for 5 s: if the agent is killed before it has told that, then again.
    fn judge_start_by_power(&mut self, start_ns: i64, visit: &VisitTruth) {
        let by = visit.from_ns + 7 * S + WINDOW_NS;
        let is_cut = |down: &&Down| down.from_ns > visit.from_ns && down.from_ns - LOST_BEFORE < by + 5 * S;
        let by = self.downs.iter().find(is_cut).map_or(by, |down| down.to_ns + FOUND_AFTER);
        if start_ns < visit.from_ns || start_ns > by {
            self.find(&format!("its start is {} s off", (start_ns - visit.from_ns) as f64 / 1e9));
        }
    }

    fn reason(&self) -> &'static str {
        match self.truth.source {
            Source::Messages => "terminated",
            _ => "disconnected",
        }
    }

    /// What was read while a vehicle was there is of its session.
    fn judge_lines(&mut self, id: Option<&str>, visit: &VisitTruth) {
        let from = visit.from_ns + 2 * WINDOW_NS + self.slack_ns;
        let until = visit.to_ns - self.slack_ns;
        let lines = self.told.lines.range(from..until).flat_map(|(_, lines)| lines);
        let powers = lines.filter(|line| number(line, "power_flow").is_some());
        let others: Vec<_> = powers.filter(|line| id_of(line) != id).take(2).cloned().collect();
        if self.truth.source != Source::Power && !others.is_empty() {
            self.find(&format!("lines in the session {id:?} that are not of it: {others:?}"));
        }
    }
}

fn word(row: &BTreeMap<String, Value>, field: &str) -> Option<String> {
    match row.get(field) {
        Some(Value::Text(word)) => Some(word.clone()),
        _ => None,
    }
}

impl Verdict {
    /// # Panics
    /// With everything that was found, if that is anything.
    #[track_caller]
    pub fn assert_passed(&self) {
        assert!(self.findings.is_empty() && self.values > 0, "{self}");
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { findings, lines, values, sessions, energies } = self;
        writeln!(f, "depot: {} findings; {lines} lines, {values} powers, {sessions} sessions", findings.len())?;
        for (source, energies) in energies {
            let Energies { devices, told_kwh, true_kwh, widest, known_s } = energies;
            writeln!(
                f,
                "  {devices:>2} by {source:<22} {told_kwh:.6} kWh told of {true_kwh:.6}, at most {:.4} % off; {known_s:.0} s known",
                widest * 100.0
            )?;
        }
        findings.iter().try_for_each(|finding| writeln!(f, "  {finding}"))
    }
}
