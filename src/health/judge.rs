//! What a person should look at now: from facts to findings. Pure, so that the command line, the exit code, the page and
//! the metrics say the same.

use std::fmt;

use serde::Serialize;

use super::facts::{BusFacts, DeviceFacts, DeviceState, JournalFacts, Status, UplinkFacts, UplinkState};
use crate::measure::ClockTrust;
use crate::spec::{BusId, DeviceId};

/// A window that is closed later than this comes too late for whoever controls by it.
pub(crate) const LATE_MS_MAX: f64 = 1_000.0;

/// One thing that should be looked at. Its `Display` is one line: what is wrong, and the cure behind a semicolon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What it is about.
    pub subject: Subject,
    /// What was seen: a sentence that names its subject.
    pub what: String,
    /// What to do; `None` where `what` says it, or where nothing is known that helps.
    pub cure: Option<String>,
}

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nothing is lost, and it may pass; it is worth a look.
    Watch,
    /// Data is lost or does not arrive, or a part of the agent does not work.
    Bad,
}

/// What a finding is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A task of the agent.
    Task(String),
    /// Where data waits.
    Journal,
    /// From samples to windows.
    Pipeline,
    /// A CAN bus.
    Bus(BusId),
    /// A device.
    Device(DeviceId),
    /// Towards the broker.
    Uplink,
    /// The wall clock.
    Clock,
    /// The file that the agent was told to read.
    Configuration,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        self.cure.iter().try_for_each(|cure| write!(f, "; {cure}"))
    }
}

/// All that should be looked at, in the order in which data flows, after what hangs. Nothing: all is well. `hung` are the
/// tasks without a sign of life, with their silence in s; `clock` is the wall clock now.
#[must_use]
pub fn judge(status: &Status, hung: &[(String, f64)], clock: ClockTrust) -> Vec<Finding> {
    let mut found = Vec::new();
    for (task, silence) in hung {
        let what = format!("task {task} has shown no sign of life for {silence:.0} s");
        found.push(bad(Subject::Task(task.clone()), what));
    }
    if let Some(why) = &status.reload_refused {
        let what = format!("reload refused, the agent goes on as it was: {why}");
        found.push(watch(Subject::Configuration, what));
    }
    if let Some(trouble) = &status.journal.trouble {
        found.push(bad(Subject::Journal, format!("journal: {trouble}")));
    }
    if let Some(newer) = &status.journal.newer {
        found.push(watch(Subject::Journal, format!("journal: {newer}")));
    }
    if let Some(late_ms) = status.pipeline.late_ms.filter(|late_ms| *late_ms > LATE_MS_MAX) {
        let what = format!("windows are closed {late_ms:.0} ms after their end: the box has too little processor time");
        found.push(watch(Subject::Pipeline, what));
    }
    for (id, bus) in &status.buses {
        found.extend(of_bus(id, bus));
    }
    found.extend(status.devices.iter().filter_map(|(id, device)| of_device(id, device)));
    found.extend(of_uplink(&status.uplink));
    found.extend(of_clock(&status.journal, clock));
    found
}

fn of_bus(id: &BusId, bus: &BusFacts) -> Vec<Finding> {
    let mut found = Vec::new();
    let what = || format!("bus {id} is {}: {}", bus.state.replace('_', "-"), bus.detail);
    match bus.state.as_str() {
        "active" | "" => {}
        "warning" => found.push(watch(Subject::Bus(id.clone()), what())),
        _ => found.push(bad(Subject::Bus(id.clone()), what())),
    }
    if bus.dropped + bus.overruns + bus.lost > 0 {
        let what = format!(
            "bus {id}: frames were lost: {} at our buffer, {} times in the controller, {} in its driver",
            bus.dropped, bus.overruns, bus.lost
        );
        found.push(bad(Subject::Bus(id.clone()), what));
    }
    found
}

fn of_device(id: &DeviceId, device: &DeviceFacts) -> Option<Finding> {
    let subject = || Subject::Device(id.clone());
    match (device.state, &device.trouble) {
        (DeviceState::Silent(why), _) => {
            let last = device.last_failure.as_deref().unwrap_or("no detail");
            Some(bad(subject(), format!("{id} is silent ({}): {last}", why.as_str())))
        }
        (DeviceState::Partly { answering, blocks }, _) => {
            let silent = device.silent_part.as_deref().unwrap_or("no detail");
            let what = format!("{id} answers in part ({answering} of {blocks} blocks of registers): {silent}");
            Some(bad(subject(), what))
        }
        (DeviceState::Answering, Some(trouble)) => Some(watch(subject(), format!("{id} answers, but {trouble}"))),
        (DeviceState::Unknown, Some(trouble)) => Some(bad(subject(), format!("{id}: {trouble}"))),
        (_, None) => None,
    }
}

fn of_uplink(uplink: &UplinkFacts) -> Vec<Finding> {
    let mut found = Vec::new();
    let told = |finding: Finding, cure: &str| Finding { cure: Some(cure.to_owned()), ..finding };
    match (uplink.state, &uplink.trouble) {
        (UplinkState::Online, _) => {}
        (_, Some(trouble)) => {
            found.push(told(bad(Subject::Uplink, format!("uplink: {}", trouble.what)), &trouble.remedy));
        }
        (_, None) => {
            let what = "uplink: not connected yet".to_owned();
            found.push(told(watch(Subject::Uplink, what), "wait, or check [uplink] brokers"));
        }
    }
    found.extend(uplink.warnings.iter().map(|warning| watch(Subject::Uplink, format!("uplink: {warning}"))));
    found
}

fn of_clock(journal: &JournalFacts, clock: ClockTrust) -> Option<Finding> {
    if let Some(why) = &journal.held_why {
        return Some(watch(Subject::Clock, format!("{} wait for the clock: {why}", entries(journal.held_entries))));
    }
    let what = "the wall clock was never synced in this boot: entries go out with estimated times";
    let finding = || Finding { cure: Some("check NTP".to_owned()), ..watch(Subject::Clock, what.to_owned()) };
    (clock == ClockTrust::Unsynced).then(finding)
}

fn bad(subject: Subject, what: String) -> Finding {
    Finding { severity: Severity::Bad, subject, what, cure: None }
}

fn watch(subject: Subject, what: String) -> Finding {
    Finding { severity: Severity::Watch, subject, what, cure: None }
}

/// `1 entry`, `2 entries`.
pub(crate) fn entries(count: u64) -> String {
    if count == 1 { "1 entry".to_owned() } else { format!("{count} entries") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::{BrokerTrouble, PipelineFacts};
    use crate::measure::Missing;

    fn online() -> Status {
        Status { uplink: UplinkFacts { state: UplinkState::Online, ..UplinkFacts::default() }, ..Status::default() }
    }

    fn device(name: &str, facts: DeviceFacts) -> (DeviceId, DeviceFacts) {
        (DeviceId::try_from(name).expect("a name"), facts)
    }

    fn lines(found: &[Finding]) -> Vec<(Severity, String)> {
        found.iter().map(|finding| (finding.severity, finding.to_string())).collect()
    }

    #[test]
    fn a_healthy_agent_has_nothing_to_look_at() {
        let mut status = online();
        let answers = DeviceFacts {
            state: DeviceState::Answering,
            last_failure: Some("long ago".to_owned()),
            ..DeviceFacts::default()
        };
        status.devices.extend([device("a", answers)]);
        status
            .buses
            .insert("can0".try_into().expect("a name"), BusFacts { state: "active".to_owned(), ..BusFacts::default() });
        status.pipeline = PipelineFacts { late_ms: Some(LATE_MS_MAX), ..PipelineFacts::default() };
        assert_eq!(judge(&status, &[], ClockTrust::Holdover), []);
    }

    #[test]
    fn each_trouble_is_one_line_that_names_its_subject_and_the_worse_ones_are_told_apart() {
        let mut status = Status { reload_refused: Some("gateway.toml:3: x".to_owned()), ..Status::default() };
        status.journal.trouble = Some("the disk is full; make room".to_owned());
        status.pipeline.late_ms = Some(2_345.6);
        let bus = |state: &str, lost| BusFacts {
            state: state.to_owned(),
            detail: "check the termination".to_owned(),
            lost,
            ..BusFacts::default()
        };
        status.buses.insert("a".try_into().expect("a name"), bus("bus_off", 0));
        status.buses.insert("b".try_into().expect("a name"), bus("warning", 3));
        let facts = |state, trouble: Option<&str>| DeviceFacts {
            state,
            trouble: trouble.map(str::to_owned),
            ..DeviceFacts::default()
        };
        let partly = DeviceFacts {
            silent_part: Some("unit 200 gives no answer; check that it is there".to_owned()),
            ..facts(DeviceState::Partly { answering: 3, blocks: 5 }, Some("not told beside it"))
        };
        status.devices.extend([
            device("mute", facts(DeviceState::Silent(Missing::Timeout), Some("not told beside the silence"))),
            device("odd", facts(DeviceState::Answering, Some("late"))),
            device("unasked", facts(DeviceState::Unknown, Some("its feed cannot be opened"))),
            device("half", partly),
        ]);
        let found = judge(&status, &[("uplink".to_owned(), 61.4)], ClockTrust::Unsynced);
        let (bad, watch) = (Severity::Bad, Severity::Watch);
        let expected = [
            (bad, "task uplink has shown no sign of life for 61 s"),
            (watch, "reload refused, the agent goes on as it was: gateway.toml:3: x"),
            (bad, "journal: the disk is full; make room"),
            (watch, "windows are closed 2346 ms after their end: the box has too little processor time"),
            (bad, "bus a is bus-off: check the termination"),
            (watch, "bus b is warning: check the termination"),
            (bad, "bus b: frames were lost: 0 at our buffer, 0 times in the controller, 3 in its driver"),
            (
                bad,
                "half answers in part (3 of 5 blocks of registers): unit 200 gives no answer; check that it is there",
            ),
            (bad, "mute is silent (timeout): no detail"),
            (watch, "odd answers, but late"),
            (bad, "unasked: its feed cannot be opened"),
            (watch, "uplink: not connected yet; wait, or check [uplink] brokers"),
            (watch, "the wall clock was never synced in this boot: entries go out with estimated times; check NTP"),
        ];
        assert_eq!(lines(&found), expected.map(|(severity, line)| (severity, line.to_owned())));
        assert_eq!(found[7].subject, Subject::Device("mute".try_into().expect("a name")));
    }

    #[test]
    fn the_brokers_own_reason_and_the_reason_of_waiting_take_the_place_of_the_general_ones() {
        let mut status = Status::default();
        status.uplink.trouble = Some(BrokerTrouble {
            broker: "mqtts://a:8883".to_owned(),
            what: "not authorised".to_owned(),
            remedy: "check the ACL".to_owned(),
        });
        status.uplink.warnings = vec!["a certificate expires within 7 days".to_owned()];
        (status.journal.held_entries, status.journal.held_why) = (1, Some("no NTP server answers".to_owned()));
        let found = judge(&status, &[], ClockTrust::Unsynced);
        let expected = [
            (Severity::Bad, "uplink: not authorised; check the ACL"),
            (Severity::Watch, "uplink: a certificate expires within 7 days"),
            (Severity::Watch, "1 entry wait for the clock: no NTP server answers"),
        ];
        assert_eq!(lines(&found), expected.map(|(severity, line)| (severity, line.to_owned())));
        assert_eq!(found[0].cure.as_deref(), Some("check the ACL"));
    }
}
