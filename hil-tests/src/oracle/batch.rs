//! One message of the lanes, read and checked against the wire contract by itself.

use std::collections::BTreeSet;

use super::Message;
use super::line::{Line, Value};

/// The content type of a batch.
const CONTENT_TYPE: &str = "application/vnd.influx-line-protocol";

/// A batch, as far as it can be told apart from the next.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub(super) gateway: String,
    pub(super) epoch: u64,
    pub(super) seq: u64,
    pub(super) points: u64,
    pub(super) time_ns: i64,
    pub(super) historical: bool,
    /// All lines but the first.
    pub(super) lines: Vec<Line>,
    /// Byte offset of the second line in the payload.
    pub(super) body: usize,
    /// What contradicts the contract or itself.
    pub(super) faults: Vec<String>,
}

/// What a gap event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GapNote {
    pub(super) epoch: u64,
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) reason: String,
}

impl Batch {
    /// Reads a message of `…/telemetry` or `…/history`. An error means that it cannot even be said which entry it is.
    pub(super) fn read(message: &Message) -> Result<Self, String> {
        if !message.intact {
            return Err("the payload is not UTF-8 or holds a NUL".to_owned());
        }
        let text = std::str::from_utf8(&message.payload).map_err(|error| error.to_string())?;
        let (head_text, body_text) = text.split_once('\n').unwrap_or((text, ""));
        let head = Line::parse(head_text).map_err(|error| format!("first line: {error}: {head_text:?}"))?;
        if head.measurement != "gateway" {
            return Err(format!("the first line is {:?} and not the batch's own", head.measurement));
        }
        let gateway = head.tag("gateway").ok_or("the first line has no tag gateway")?.to_owned();
        let mut batch = Self {
            gateway,
            epoch: head.count("epoch")?,
            seq: head.count("seq")?,
            points: head.count("points")?,
            time_ns: head.time_ns,
            historical: message.topic.ends_with("/history"),
            lines: Vec::new(),
            body: text.len() - body_text.len(),
            faults: Vec::new(),
        };
        for line in body_text.split_terminator('\n') {
            match Line::parse(line) {
                Ok(line) => batch.lines.push(line),
                Err(error) => batch.faults.push(format!("{error}: {line:?}")),
            }
        }
        batch.check_envelope(message, &head);
        batch.check_lines(&head);
        Ok(batch)
    }

    /// Lines that speak of a device and not of an event.
    pub(super) fn device_lines(&self) -> impl Iterator<Item = (&str, &Line)> {
        self.lines
            .iter()
            .filter(|line| line.is_of_window())
            .filter_map(|line| line.tag("device").map(|device| (device, line)))
    }

    /// Lines that say what happened, with their kind.
    pub(super) fn events(&self) -> impl Iterator<Item = (&str, &Line)> {
        self.lines
            .iter()
            .filter(|line| line.measurement == "event")
            .map(|line| (line.tag("kind").unwrap_or("(none)"), line))
    }

    /// What will never come, in its own words.
    pub(super) fn gaps(&self) -> impl Iterator<Item = Result<GapNote, String>> {
        // Of a life in memory: its numbers are its own, and it may not be known how many there were.
        let is_of_memory = |line: &Line| matches!(line.field("reason"), Some(Value::Text(why)) if why == "in_memory" || why == "renumbered");
        let told = self.events().filter(move |(kind, line)| *kind == "gap" && !is_of_memory(line));
        told.map(|(_, line)| GapNote::read(line))
    }

    /// What of a life comes under another epoch. Of a life in memory its numbers are others as well.
    pub(super) fn renumbered(&self) -> impl Iterator<Item = GapNote> {
        let told = self.events().filter(|(kind, _)| *kind == "gap");
        told.filter_map(|(_, line)| GapNote::read(line).ok()).filter(|note| note.reason == "renumbered")
    }

    fn check_envelope(&mut self, message: &Message, head: &Line) {
        let mut fault = |text: String| self.faults.push(text);
        if message.content_type.as_deref() != Some(CONTENT_TYPE) {
            fault(format!("the content type is {:?}", message.content_type));
        }
        if !message.payload_is_utf8 {
            fault("the payload format indicator is not 1".to_owned());
        }
        if message.qos != 1 {
            fault(format!("it came with QoS {}", message.qos));
        }
        if message.retain {
            fault("it is retained: a batch must not be".to_owned());
        }
        let history = message.topic.ends_with("/history").then(|| "true".to_owned());
        let told = [
            ("gateway", Some(self.gateway.clone())),
            ("epoch", Some(self.epoch.to_string())),
            ("seq", Some(self.seq.to_string())),
            ("points", Some(self.points.to_string())),
            ("historical", history),
        ];
        for (key, wanted) in told {
            let found: Vec<_> = message.user_properties.iter().filter(|(k, _)| k == key).map(|(_, v)| v).collect();
            if found != wanted.iter().collect::<Vec<_>>() {
                fault(format!("user property {key} is {found:?}; the topic and the first line say {wanted:?}"));
            }
        }
        let levels: Vec<&str> = message.topic.split('/').collect();
        let site = head.tag("site").unwrap_or("(none)");
        if let ["v2g", topic_site, topic_gateway, _] = levels[..]
            && (topic_site != site || topic_gateway != self.gateway)
        {
            fault(format!("the topic {} is not that of gateway {} at site {site}", message.topic, self.gateway));
        }
        // What was written before the wire had a version says so by having none.
        let trust = match head.count("version") {
            Ok(2) => "time_trust",
            Ok(version) => return fault(format!("the first line is of version {version}")),
            Err(_) => "time",
        };
        match head.field(trust) {
            Some(Value::Text(time))
                if matches!(time.as_str(), "synced" | "holdover" | "unsynced" | "resolved" | "estimated") => {}
            other => fault(format!("the first line says {trust}={other:?}")),
        }
    }

    /// Where a line of a device must stand: 1 ns later for each one before it that is of another session of the same vehicle.
    fn time_of(&self, place: usize) -> i64 {
        let line = &self.lines[place];
        let is_like = |other: &&Line| {
            (&other.measurement, &other.tags) == (&line.measurement, &line.tags)
                && other.field("session_id") != line.field("session_id")
        };
        let before = self.lines[..place].iter().filter(is_like).count();
        self.time_ns + i64::try_from(before).unwrap_or(i64::MAX)
    }

    fn check_lines(&mut self, head: &Line) {
        let mut faults = Vec::new();
        let mut series = BTreeSet::new();
        for (place, line) in self.lines.iter().enumerate() {
            for key in ["site", "gateway"] {
                if line.tag(key) != head.tag(key) {
                    faults.push(format!("a line of {} has {key}={:?}", line.measurement, line.tag(key)));
                }
            }
            if line.measurement == "gateway" {
                faults.push("a second line of the batch's own".to_owned());
            }
            if line.is_of_window() && line.time_ns != self.time_of(place) {
                let (measurement, time) = (&line.measurement, line.time_ns);
                faults.push(format!("a line of {measurement} stands at {time}, the batch at {}", self.time_ns));
            }
            if !series.insert(line.series_at_time()) {
                faults.push(format!("{} comes twice: a database keeps one of them", line.series_at_time()));
            }
        }
        let mut points = 0;
        for (device, line) in self.device_lines() {
            points += line.fields.iter().filter(|(key, _)| is_point(key)).count() as u64;
            faults.extend(direction_fault(device, line));
        }
        if points != self.points {
            faults.push(format!("it says points={} and holds {points}", self.points));
        }
        faults.extend(self.gaps().filter_map(Result::err));
        self.faults.append(&mut faults);
    }
}

impl GapNote {
    fn read(line: &Line) -> Result<Self, String> {
        let note = Self {
            epoch: line.count("from_epoch")?,
            from: line.count("from_seq")?,
            to: line.count("to_seq")?,
            reason: match line.field("reason") {
                Some(Value::Text(reason)) => reason.clone(),
                other => return Err(format!("a gap event has reason={other:?}")),
            },
        };
        if note.from > note.to {
            return Err(format!("a gap event goes from {} back to {}", note.from, note.to));
        }
        Ok(note)
    }
}

/// Whether a field is a measured value and not an extreme of one or a remark about one.
pub(super) fn is_point(key: &str) -> bool {
    !(key.ends_with("_min")
        || key.ends_with("_max")
        || matches!(
            key,
            "missing" | "suspect" | "session_id" | "energy_import_delta" | "energy_export_delta" | "known_s"
        ))
}

fn direction_fault(device: &str, line: &Line) -> Option<String> {
    let power = line.field("power_flow").and_then(Value::number);
    match (line.tag("direction"), power) {
        (Some("G2V" | "charging"), Some(kw)) if kw > 0.0 => None,
        (Some("V2G" | "discharging"), Some(kw)) if kw < 0.0 => None,
        (Some("idle"), Some(_)) | (None, _) => None,
        (Some(direction), _) => Some(format!("{device} has direction={direction} and power_flow={power:?}")),
    }
}
