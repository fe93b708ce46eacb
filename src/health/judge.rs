//! What a person should look at now: from facts to findings. Pure, so that the command line, the exit code, the page and
//! the metrics say the same.

use std::fmt;

use serde::Serialize;

use super::facts::{
    BusFacts, DeviceFacts, DeviceState, ImplausibleFacts, JournalFacts, QuestionableFacts, RECORDING_OVER, Status,
    UpdateFacts, UplinkFacts, UplinkState,
};
use crate::measure::{ClockTrust, SiteLimit, SiteLimitTold};
use crate::spec::{BusId, DeviceId, Rule};

/// A window that is closed later than this comes too late for whoever controls by it.
pub(crate) const LATE_MS_MAX: f64 = 1_000.0;

/// Values of a device that one finding names.
const VALUES_NAMED_MAX: usize = 3;

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
    /// An update of the box.
    Update,
    /// The depot's grid connection.
    Depot,
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
    if status.without_devices {
        let cure = "add a [bus.NAME] and a [device.NAME] to the configuration, check it (v2g-edge check), and reload the agent";
        let finding = watch(Subject::Configuration, "no devices: nothing is read".to_owned());
        found.push(Finding { cure: Some(cure.to_owned()), ..finding });
    }
    if let Some(trouble) = &status.files {
        found.push(bad(Subject::Configuration, trouble.clone()));
    }
    found.extend(status.update.as_ref().and_then(of_update));
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
    for (id, device) in &status.devices {
        let bus = device.bus.as_ref().and_then(|bus| status.buses.get(bus));
        found.extend(of_device(id, device, bus.is_some_and(|bus| bus.detail == RECORDING_OVER)));
        found.extend(of_values(id, device));
        found.extend(of_rules(id, device));
        let what =
            device.overrun.as_ref().map(|overrun| format!("{id} is not read as often as it should be: {overrun}"));
        found.extend(what.map(|what| bad(Subject::Device(id.clone()), what)));
    }
    found.extend(status.depot.exceeded.iter().map(of_limit));
    found.extend(of_uplink(&status.uplink));
    found.extend(of_clock(&status.journal, clock));
    found
}

#[allow(clippy::cast_precision_loss, reason = "a power in W is exact")]
fn of_limit(told: &SiteLimitTold) -> Finding {
    let (does, key, cure) = match told.limit {
        SiteLimit::Import => ("takes", "import_max", "charge with less, or let vehicles and batteries give"),
        SiteLimit::Export => ("gives", "export_max", "let less be given, or charge with it"),
    };
    let (power, max) = (told.power_w as f64 / 1e3, told.max_w as f64 / 1e3);
    let what = format!("the depot {does} more than it may: {power:.1} kW when it was found, [site] {key} is {max} kW");
    Finding { cure: Some(cure.to_owned()), ..watch(Subject::Depot, what) }
}

fn of_update(update: &UpdateFacts) -> Option<Finding> {
    let UpdateFacts { state, from, to, waits_for, trouble, .. } = update;
    let told = |what: String, cure: String| Some(Finding { cure: Some(cure), ..watch(Subject::Update, what) });
    if let Some(trouble) = trouble {
        return Some(watch(Subject::Update, format!("update: {trouble}")));
    }
    match state.as_str() {
        "installing" => told(
            format!("update from {from} to {to}: it is being installed, or that was broken off"),
            "v2g-edge update status says which".to_owned(),
        ),
        "installed" => told(
            format!("update from {from} to {to}: it is installed, and runs after the next boot"),
            "systemctl reboot".to_owned(),
        ),
        "confirming" => {
            let awaited = if waits_for.is_empty() { "nothing any more".to_owned() } else { waits_for.join(", ") };
            told(
                format!("update from {from} to {to}: it is not confirmed yet, and waits for {awaited}"),
                format!("without it the box goes back to {from} when [update] confirm_within is over"),
            )
        }
        _ => None,
    }
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

/// `is_over`: what it was heard in was a recording, and that is over.
fn of_device(id: &DeviceId, device: &DeviceFacts, is_over: bool) -> Option<Finding> {
    let subject = || Subject::Device(id.clone());
    match (device.state, &device.trouble) {
        (DeviceState::Silent(_), _) if is_over => {
            let what = format!("{id} has no values any more: the recording that it is heard in was played to its end");
            let cure = "name its interface in place of log, or restart the agent to play it again".to_owned();
            Some(Finding { cure: Some(cure), ..watch(subject(), what) })
        }
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

/// The values of a device that make no sense and are of one kind, in words; `None` if there are none.
fn list(device: &DeviceFacts, is_of_kind: impl Fn(&QuestionableFacts) -> bool) -> Option<String> {
    let of_kind = device.questionable.iter().filter(|(_, fact)| is_of_kind(fact));
    let told: Vec<String> = of_kind.map(|(field, fact)| format!("{field} {fact}")).collect();
    let named = told.iter().take(VALUES_NAMED_MAX).map(String::as_str).collect::<Vec<_>>().join(", ");
    match (told.len(), told.len().saturating_sub(VALUES_NAMED_MAX)) {
        (0, _) => None,
        (_, 0) => Some(named),
        (_, more) => Some(format!("{named} and {more} more")),
    }
}

/// Of values that make no sense: what cannot be, what cannot be measured now, and counters that do not go on.
fn of_values(id: &DeviceId, device: &DeviceFacts) -> Vec<Finding> {
    let subject = || Subject::Device(id.clone());
    let is_of_counter = |fact: &QuestionableFacts| fact.why.starts_with("counter_");
    // A serial line has one owner.
    let stop = device.probe.as_ref().is_some_and(|command| command.split(' ').any(|word| word.starts_with("/dev/")));
    let stop = if stop { "stop the agent, which holds the line, and compare with: " } else { "compare with: " };
    let compare = device.probe.as_ref().map_or_else(
        || "compare with what the device itself shows".to_owned(),
        |command| format!("its profile, word order or scale may be another's; {stop}{command}"),
    );
    let mut found = Vec::new();
    if let Some(values) = list(device, |fact| !is_of_counter(fact) && !fact.is_unpowered) {
        let cure = compare.clone();
        let what = format!("{id} says what cannot be: {values}; it is sent, and marked as suspect");
        found.push(Finding { cure: Some(cure), ..bad(subject(), what) });
    }
    if let Some(values) = list(device, |fact| fact.is_unpowered) {
        let cure = format!("nothing is wrong behind an open contactor or at rest; if it is energised: {compare}");
        let what = format!("{id} measures no frequency: {values}, and no voltage: nothing is connected or energised");
        found.push(Finding { cure: Some(cure), ..watch(subject(), what) });
    }
    if let Some(values) = list(device, is_of_counter) {
        let cure = "one reading is a fault of the device's; if it stays, the event counter_break says what it was";
        let what = format!("{id}: a counter does not go on from where it was: {values}");
        found.push(Finding { cure: Some(cure.to_owned()), ..watch(subject(), what) });
    }
    found
}

/// Of what does not go together.
fn of_rules(id: &DeviceId, device: &DeviceFacts) -> Vec<Finding> {
    let found = |(rule, facts): (&String, &ImplausibleFacts)| {
        let ImplausibleFacts { value, expected, unit, what } = facts;
        let what = format!(
            "{id} says what does not go together ({rule}): {what}: {value:.2} {unit}, where {expected:.2} {unit} fits"
        );
        let cure = Rule::from_name(rule).map(|rule| rule.cure().to_owned());
        Finding { cure, ..watch(Subject::Device(id.clone()), what) }
    };
    device.implausible.iter().map(found).collect()
}

fn of_uplink(uplink: &UplinkFacts) -> Vec<Finding> {
    let mut found = Vec::new();
    let told = |finding: Finding, cure: &str| Finding { cure: Some(cure.to_owned()), ..finding };
    match (uplink.state, &uplink.trouble) {
        (UplinkState::Online, _) => {
            let not_taken = [("live data", &uplink.live), ("history", &uplink.history)];
            for (of, trouble) in not_taken.iter().filter_map(|(of, lane)| Some((of, lane.not_taken.as_ref()?))) {
                found.push(told(bad(Subject::Uplink, format!("uplink, {of}: {}", trouble.what)), &trouble.remedy));
            }
        }
        (_, Some(trouble)) => {
            found.push(told(bad(Subject::Uplink, format!("uplink: {}", trouble.what)), &trouble.remedy));
        }
        (_, None) => {
            let what = "uplink: not connected yet".to_owned();
            found.push(told(watch(Subject::Uplink, what), "wait, or check [uplink] brokers"));
        }
    }
    if uplink.unasked_lately > 0 {
        let what = format!("uplink: the broker has sent {} messages that nobody asked for", uplink.unasked_lately);
        let cure =
            "look at the broker who subscribes under this gateway's client id (a bridge, a tool, a kept session)";
        found.push(told(watch(Subject::Uplink, what), cure));
    }
    if let Some(twin) = &uplink.twin {
        found.push(told(bad(Subject::Uplink, format!("uplink: {}", twin.what)), &twin.remedy));
    }
    if let Some(nobody) = &uplink.no_subscriber {
        found.push(told(watch(Subject::Uplink, format!("uplink: {}", nobody.what)), &nobody.remedy));
    }
    found.extend(uplink.warnings.iter().map(|warning| watch(Subject::Uplink, format!("uplink: {warning}"))));
    found
}

fn of_clock(journal: &JournalFacts, clock: ClockTrust) -> Option<Finding> {
    if let Some(why) = &journal.held_why {
        return Some(watch(Subject::Clock, format!("{} wait for the clock: {why}", entries(journal.held_entries))));
    }
    if let Some(off_s) = journal.clock_off_s {
        let what = format!(
            "the wall clock is {off_s:+.0} s off: it runs free, and somebody has set it; times go on from its last sync"
        );
        return Some(Finding { cure: Some("check NTP".to_owned()), ..watch(Subject::Clock, what) });
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
    fn a_limit_of_the_grid_connection_is_a_finding_while_it_is_exceeded() {
        let mut status = online();
        status.depot.exceeded = vec![SiteLimitTold { limit: SiteLimit::Import, max_w: 250_000, power_w: 262_040 }];
        let found = judge(&status, &[], ClockTrust::Synced);
        let line = "the depot takes more than it may: 262.0 kW when it was found, [site] import_max is 250 kW; charge with less, \
                    or let vehicles and batteries give";
        assert_eq!(lines(&found), [(Severity::Watch, line.to_owned())]);
    }

    #[test]
    fn what_does_not_go_together_is_found_with_its_rule_and_what_is_likely() {
        let mut status = online();
        let facts = ImplausibleFacts {
            value: -7.25,
            expected: 21.75,
            unit: "kW".to_owned(),
            what: "power_flow against its phases".to_owned(),
        };
        let implausible = [("phase_sum".to_owned(), facts)].into();
        status.devices.extend([device("a", DeviceFacts { implausible, ..DeviceFacts::default() })]);
        let found = lines(&judge(&status, &[], ClockTrust::Synced));
        let expected = "a says what does not go together (phase_sum): power_flow against its phases: -7.25 kW, where 21.75 kW fits; \
                        look for a current transformer that is the wrong way round, and for a wrong scale, sign or register in its profile";
        assert_eq!(found, [(Severity::Watch, expected.to_owned())]);
    }

    #[test]
    fn messages_that_nobody_asked_for_are_a_finding_while_they_come() {
        let mut status = online();
        (status.uplink.unasked, status.uplink.unasked_lately) = (7, 2);
        let found = judge(&status, &[], ClockTrust::Synced);
        assert!(found.len() == 1 && found[0].what.contains("2 messages that nobody asked for"), "{found:?}");
        status.uplink.unasked_lately = 0;
        assert_eq!(judge(&status, &[], ClockTrust::Synced), []);
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
        assert_eq!(found[8].subject, Subject::Device("mute".try_into().expect("a name")));
    }

    #[test]
    fn what_a_device_says_and_cannot_be_is_found_with_the_command_that_shows_it() {
        let fact = |value, unit: &str, why: &str| QuestionableFacts {
            value,
            unit: unit.to_owned(),
            why: why.to_owned(),
            is_unpowered: false,
        };
        let facts = |probe: Option<&str>, values: &[(&str, QuestionableFacts)]| DeviceFacts {
            state: DeviceState::Answering,
            questionable: values.iter().map(|(field, fact)| ((*field).to_owned(), fact.clone())).collect(),
            probe: probe.map(str::to_owned),
            ..DeviceFacts::default()
        };
        let mut status = online();
        let garbage = fact(-3.2e29, "kW", "out_of_range");
        status.devices.extend([
            device("a", facts(Some("v2g-edge probe modbus 10.0.0.1:502"), &[("power_flow", garbage.clone())])),
            device(
                "b",
                facts(Some("v2g-edge probe modbus /dev/ttyS1"), &[("frequency", fact(0.0, "Hz", "out_of_range"))]),
            ),
            device(
                "c",
                facts(
                    None,
                    &[("soc", fact(300.0, "%", "out_of_range")), ("energy_import", fact(0.0, "kWh", "counter_zero"))],
                ),
            ),
            device("d", facts(None, &["v1", "v2", "v3", "v4"].map(|field| (field, garbage.clone())))),
        ]);
        let (bad, watch) = (Severity::Bad, Severity::Watch);
        let fit = "it is sent, and marked as suspect; its profile, word order or scale may be another's";
        let expected = [
            (bad, format!("a says what cannot be: power_flow -3.2e29 kW; {fit}; compare with: v2g-edge probe modbus 10.0.0.1:502")),
            (bad, format!("b says what cannot be: frequency 0 Hz; {fit}; stop the agent, which holds the line, and compare with: v2g-edge probe modbus /dev/ttyS1")),
            (bad, "c says what cannot be: soc 300 %; it is sent, and marked as suspect; compare with what the device itself shows".to_owned()),
            (watch, "c: a counter does not go on from where it was: energy_import 0 kWh; one reading is a fault of the device's; if it stays, the event counter_break says what it was".to_owned()),
            (bad, "d says what cannot be: v1 -3.2e29 kW, v2 -3.2e29 kW, v3 -3.2e29 kW and 1 more; it is sent, and marked as suspect; compare with what the device itself shows".to_owned()),
        ];
        assert_eq!(lines(&judge(&status, &[], ClockTrust::Holdover)), expected);
    }

    #[test]
    fn an_update_is_found_while_it_is_open_and_not_when_it_has_ended() {
        let of = |state: &str, waits_for: &[&str], trouble: Option<&str>| {
            let update = UpdateFacts {
                state: state.to_owned(),
                from: "0.1.0".to_owned(),
                to: "0.2.0".to_owned(),
                waits_for: waits_for.iter().map(|awaited| (*awaited).to_owned()).collect(),
                trouble: trouble.map(str::to_owned),
                ..UpdateFacts::default()
            };
            lines(&judge(&Status { update: Some(update), ..online() }, &[], ClockTrust::Synced))
        };
        let expected = "update from 0.1.0 to 0.2.0: it is not confirmed yet, and waits for a, b; without it the box goes back to \
                        0.1.0 when [update] confirm_within is over";
        assert_eq!(of("confirming", &["a", "b"], None), [(Severity::Watch, expected.to_owned())]);
        let found = of("installed", &[], None);
        assert!(found[0].1.ends_with("runs after the next boot; systemctl reboot"), "{found:?}");
        assert_eq!(of("", &[], Some("x"))[0].1, "update: x");
        assert_eq!(["confirmed", "rolled_back", "failed"].map(|state| of(state, &[], None).len()), [0; 3]);
    }

    #[test]
    fn a_clock_that_was_set_while_it_runs_free_is_told_with_what_becomes_of_times() {
        let mut status = online();
        status.journal.clock_off_s = Some(-397_440.2);
        let found = judge(&status, &[], ClockTrust::Holdover);
        let expected = "the wall clock is -397440 s off: it runs free, and somebody has set it; times go on from its last sync; \
                        check NTP";
        assert_eq!(lines(&found), [(Severity::Watch, expected.to_owned())]);
    }

    #[test]
    fn a_recording_that_was_played_to_its_end_is_no_silent_device_and_a_twin_and_nobody_who_reads_are_told_online() {
        let mut status = online();
        let bus = BusFacts { state: "active".to_owned(), detail: RECORDING_OVER.to_owned(), ..BusFacts::default() };
        status.buses.insert("a".try_into().expect("a name"), bus);
        let silent = DeviceFacts {
            state: DeviceState::Silent(Missing::Stale),
            bus: Some("a".try_into().expect("a name")),
            ..DeviceFacts::default()
        };
        status.devices.extend([device("dc", silent)]);
        let told = |what: &str| {
            let (what, remedy) = (what.to_owned(), "mend it".to_owned());
            Some(BrokerTrouble { broker: "b".to_owned(), what, remedy })
        };
        status.uplink.no_subscriber = told("nobody subscribes");
        status.uplink.twin = told("another box");
        let found = judge(&status, &[], ClockTrust::Synced);
        let expected = [
            (
                Severity::Watch,
                "dc has no values any more: the recording that it is heard in was played to its end; name its interface in \
                 place of log, or restart the agent to play it again",
            ),
            (Severity::Bad, "uplink: another box; mend it"),
            (Severity::Watch, "uplink: nobody subscribes; mend it"),
        ];
        assert_eq!(lines(&found), expected.map(|(severity, line)| (severity, line.to_owned())));
    }

    /// A broker that refused every entry was "online", with nothing to look at.
    #[test]
    fn a_broker_that_takes_no_entries_is_a_finding_although_there_is_a_connection() {
        let mut status = online();
        status.uplink.live.not_taken = Some(BrokerTrouble {
            broker: "mqtts://a:8883".to_owned(),
            what: "the broker does not take an entry now: Not authorized (0x87)".to_owned(),
            remedy: "check the ACL".to_owned(),
        });
        let found = judge(&status, &[], ClockTrust::Synced);
        let line = "uplink, live data: the broker does not take an entry now: Not authorized (0x87); check the ACL";
        assert_eq!(lines(&found), [(Severity::Bad, line.to_owned())]);
        status.uplink.live.not_taken = None;
        assert_eq!(lines(&judge(&status, &[], ClockTrust::Synced)), []);
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
