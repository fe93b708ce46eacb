//! An entry as an MQTT message.

use super::charging::charging_session;
use super::energy::energy;
use super::event::{SESSION, event};
use super::line::{Line, Lines};
use super::site::{site, site_interval};
use crate::journal::Lane;
use crate::measure::{
    Direction, Entry, Interval, IntervalValue, Missing, PointColumn, PointInterval, SeriesSpec, Words,
};
use crate::spec::DeviceKind;

pub(in crate::uplink) const CONTENT_TYPE: &str = "application/vnd.influx-line-protocol";

/// A message, ready to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::uplink) struct Batch {
    pub(in crate::uplink) topic: String,
    pub(in crate::uplink) properties: Vec<(String, String)>,
    pub(in crate::uplink) payload: String,
}

impl Batch {
    /// The message of `entry` on `lane` below `prefix`.
    pub(in crate::uplink) fn new(entry: &Entry, lane: Lane, prefix: &str) -> Self {
        let points = entry.window.points();
        let mut properties = vec![
            ("gateway".to_owned(), entry.schema.gateway.as_str().to_owned()),
            ("epoch".to_owned(), entry.identity.epoch.to_string()),
            ("seq".to_owned(), entry.identity.seq.to_string()),
            ("points".to_owned(), points.to_string()),
        ];
        let topic = match lane {
            Lane::Live => format!("{prefix}/telemetry"),
            Lane::History => {
                properties.push(("historical".to_owned(), "true".to_owned()));
                format!("{prefix}/history")
            }
        };
        Self { topic, properties, payload: payload(entry, points) }
    }

    /// Upper bound of the whole packet's size on the wire: fixed header, topic, packet id, properties, payload
    /// (MQTT 5, 3.3).
    pub(in crate::uplink) fn packet_bytes(&self) -> usize {
        let properties: usize = self.properties.iter().map(|(key, value)| 5 + key.len() + value.len()).sum();
        // The three bytes more are a topic alias.
        5 + 2 + self.topic.len() + 2 + 4 + 2 + 3 + 3 + CONTENT_TYPE.len() + properties + self.payload.len()
    }
}

/// The payload of an entry's message, to the byte.
#[must_use]
pub fn payload_of(entry: &Entry) -> String {
    payload(entry, entry.window.points())
}

fn payload(entry: &Entry, points: u64) -> String {
    let (window, schema) = (&entry.window, &entry.schema);
    let time = window.end.utc.0;
    let from_here = |measurement: &str| {
        Line::new(measurement).tag("site", schema.site.as_str()).tag("gateway", schema.gateway.as_str())
    };
    let mut lines = Lines::default();
    let mut own = from_here("gateway");
    own.count("epoch", entry.identity.epoch.0);
    own.count("seq", entry.identity.seq.0);
    own.count("points", points);
    own.text(trust_key(entry.words), window.end.trust.as_str());
    if entry.words > Words::First {
        own.count("version", entry.words.wire_version().into());
    }
    lines.push(own, time);
    for interval in &window.intervals {
        // An index beyond the schema cannot be written with it; the journal checks what it reads.
        if let Some(series) = schema.series.get(usize::from(interval.device.0)) {
            lines.push(device(from_here(series.kind.as_str()), interval, series), time);
        }
    }
    if let Some(rollup) = &window.site {
        lines.push(site(from_here("site"), rollup), time);
    }
    for session in &window.sessions {
        if let Some(series) = schema.series.get(usize::from(session.device.0)) {
            let line = from_here("charging_session").tag("device", series.device.as_str());
            lines.put(&charging_session(line, session, window.end.utc), session.start.utc(window.end.utc).0);
        }
    }
    for told in &window.site_intervals {
        lines.put(&site_interval(from_here("site_interval"), told), told.start.0);
    }
    for told in &window.events {
        lines.push(event(from_here("event"), told), time);
    }
    lines.finish()
}

/// The field that says how far the times of a batch can be believed. InfluxDB drops a field `time` without a word.
fn trust_key(words: Words) -> &'static str {
    match words {
        Words::First => "time",
        Words::Second => "time_trust",
    }
}

fn device(line: Line, interval: &Interval, series: &SeriesSpec) -> Line {
    let mut line = line.tag("device", series.device.as_str());
    if let Some(vehicle) = &interval.vehicle {
        line = line.tag("vehicle_id", vehicle.as_str());
    }
    if let Some(direction) = interval.direction.and_then(|direction| direction_of(series.kind, direction)) {
        line = line.tag("direction", direction);
    }
    let known = |point: &PointInterval| series.points.get(usize::from(point.point.0)).cloned();
    let named: Vec<(PointColumn, &PointInterval)> =
        interval.points.iter().filter_map(|point| Some((known(point)?, point))).collect();
    let mut suspects = Vec::new();
    for (column, point) in &named {
        let key = column.field.as_str();
        match &point.value {
            IntervalValue::Float(statistic) => {
                line.float(key, "", statistic.value);
                if statistic.count > 1 {
                    line.float(key, "_min", statistic.min);
                    line.float(key, "_max", statistic.max);
                }
            }
            IntervalValue::Integer(code) => line.integer(key, *code),
            IntervalValue::Text(word) => line.text(key, word),
            IntervalValue::Missing(_) => {}
        }
        if let Some(questionable) = point.questionable {
            suspects.push(format!("{key}:{}", questionable.as_str()));
        }
    }
    energy(&mut line, interval.energy);
    if let Some(why) = commonest_missing(interval) {
        line.text("missing", why.as_str());
    }
    if !suspects.is_empty() {
        line.text("suspect", &suspects.join(" "));
    }
    // A field: as a tag each session would be a series of its own.
    if let Some(session) = &interval.session {
        line.text(SESSION, session.as_str());
    }
    line
}

/// Which way the energy of a device goes. What a stationary battery gives is none of a vehicle's, and no auditor shall count it as that;
/// a meter and an inverter measure what may be either.
fn direction_of(kind: DeviceKind, direction: Direction) -> Option<&'static str> {
    match (kind, direction) {
        (DeviceKind::Evse | DeviceKind::Vehicle, _) => Some(direction.as_str()),
        (DeviceKind::Battery, Direction::GridToVehicle) => Some("charging"),
        (DeviceKind::Battery, Direction::VehicleToGrid) => Some("discharging"),
        (DeviceKind::Battery, Direction::Idle) => Some(direction.as_str()),
        (DeviceKind::Meter | DeviceKind::Inverter, _) => None,
    }
}

/// The reason why most of the missing points are; of two as common the one that comes first.
fn commonest_missing(interval: &Interval) -> Option<Missing> {
    let mut counted: Vec<(Missing, usize)> = Vec::new();
    for point in &interval.points {
        let IntervalValue::Missing(why) = point.value else { continue };
        match counted.iter_mut().find(|(known, _)| *known == why) {
            Some((_, count)) => *count += 1,
            None => counted.push((why, 1)),
        }
    }
    let most = counted.iter().map(|(_, count)| *count).max()?;
    counted.into_iter().find(|(_, count)| *count == most).map(|(why, _)| why)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::read;
    use super::*;
    use crate::journal::testing::charging_session;
    use crate::measure::{
        BootId, ClockTrust, Direction, Energy, EnergyDelta, EnergySource, Epoch, Event, EventKind, Gap, GapReason,
        Identity, Mono, OfSession, Questionable, Schema, Seq, SessionEvent, SessionState, SessionTime, SitePower,
        SiteRollup, Stamp, Statistic, Thinned, Utc, Window,
    };
    use crate::spec::{Aggregation, DeviceIx, PointIx, SessionId, Unit, ValueType};

    fn column(field: &str, unit: Unit) -> PointColumn {
        PointColumn {
            field: field.try_into().expect("a field"),
            unit,
            value_type: ValueType::Float,
            aggregation: Aggregation::Mean,
        }
    }

    fn once(value: f64) -> IntervalValue {
        IntervalValue::Float(Statistic { value, min: value, max: value, count: 1 })
    }

    fn at(point: u16, value: IntervalValue) -> PointInterval {
        PointInterval { point: PointIx(point), value, questionable: None }
    }

    /// The entry of the contract's own example.
    fn example() -> Entry {
        let series =
            |device: &str, kind, points| SeriesSpec { device: device.try_into().expect("a name"), kind, points };
        let power = || column("power_flow", Unit::Kilowatt);
        let schema = Schema {
            gateway: "gw-01".try_into().expect("a name"),
            site: "depot-a".try_into().expect("a name"),
            series: vec![
                series("evse-07", DeviceKind::Evse, vec![power(), column("soc", Unit::Percent)]),
                series("grid-main", DeviceKind::Meter, vec![power(), column("frequency", Unit::Hertz)]),
            ],
        };
        let discharging = Statistic { value: -7.2, min: -7.4, max: -7.0, count: 2 };
        let gap =
            Gap { epoch: Epoch(12), from: Seq(100), to: Seq(180), points: Some(4021), reason: GapReason::JournalFull };
        let window = Window {
            boot: BootId([0; 16]),
            end: Stamp { mono: Mono(1), utc: Utc(1_764_000_000_250_000_000), trust: ClockTrust::Synced },
            length: Duration::from_millis(250),
            intervals: vec![
                Interval {
                    device: DeviceIx(0),
                    direction: Some(Direction::VehicleToGrid),
                    vehicle: Some("EV001".try_into().expect("a name")),
                    session: None,
                    energy: Energy::default(),
                    points: vec![at(0, IntervalValue::Float(discharging)), at(1, once(45.5))],
                },
                Interval {
                    device: DeviceIx(1),
                    direction: Some(Direction::GridToVehicle),
                    vehicle: None,
                    session: None,
                    energy: Energy::default(),
                    points: vec![at(0, once(112.4)), at(1, once(49.98))],
                },
            ],
            site: Some(Box::new(SiteRollup {
                power: Some(SitePower {
                    direction: Direction::GridToVehicle,
                    flow_kw: 96.1,
                    import_kw: 120.3,
                    export_kw: -24.2,
                }),
                charging: 11,
                discharging: 3,
                soc: Some((12.0, 54.1)),
                ..SiteRollup::default()
            })),
            events: vec![Event { device: None, kind: EventKind::Gap(gap) }],
            sessions: Vec::new(),
            site_intervals: Vec::new(),
            checkpoint: None,
        };
        let identity = Identity { epoch: Epoch(12), seq: Seq(345) };
        Entry { identity, schema: Arc::new(schema), words: Words::Second, window }
    }

    #[test]
    fn the_contracts_example_is_written_to_the_letter() {
        let expected = [
            r#"gateway,site=depot-a,gateway=gw-01 epoch=12i,seq=345i,points=4i,time_trust="synced",version=2i 1764000000250000000"#,
            "evse,site=depot-a,gateway=gw-01,device=evse-07,vehicle_id=EV001,direction=V2G power_flow=-7.2,power_flow_min=-7.4,power_flow_max=-7,soc=45.5 1764000000250000000",
            "meter,site=depot-a,gateway=gw-01,device=grid-main power_flow=112.4,frequency=49.98 1764000000250000000",
            "site,site=depot-a,gateway=gw-01,direction=G2V power_flow=96.1,power_import=120.3,power_export=-24.2,charging=11i,discharging=3i,soc_min=12,soc_mean=54.1 1764000000250000000",
            r#"event,site=depot-a,gateway=gw-01,kind=gap from_epoch=12i,from_seq=100i,to_seq=180i,points=4021i,reason="journal_full" 1764000000250000000"#,
        ];
        let live = Batch::new(&example(), Lane::Live, "v2g/depot-a/gw-01");
        assert_eq!(live.payload.lines().collect::<Vec<_>>(), expected);
        assert_eq!(live.topic, "v2g/depot-a/gw-01/telemetry");
        let property = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let mut properties = vec![
            property("gateway", "gw-01"),
            property("epoch", "12"),
            property("seq", "345"),
            property("points", "4"),
        ];
        assert_eq!(live.properties, properties);

        let history = Batch::new(&example(), Lane::History, "v2g/depot-a/gw-01");
        properties.push(property("historical", "true"));
        assert_eq!((history.payload, history.properties), (live.payload, properties));
        assert_eq!(history.topic, "v2g/depot-a/gw-01/history");
    }

    #[test]
    fn a_direction_is_that_of_a_vehicle_or_of_a_battery_in_its_own_words_and_of_nothing_else() {
        let told = |kind, direction| {
            let mut entry = example();
            let schema = Arc::make_mut(&mut entry.schema);
            schema.series[0].kind = kind;
            entry.window.intervals[0].direction = Some(direction);
            let payload = payload_of(&entry);
            let line = payload.lines().nth(1).expect("its line").split_once(' ').expect("tags and fields").0.to_owned();
            line.replace(",site=depot-a,gateway=gw-01,device=evse-07,vehicle_id=EV001", "")
        };
        for (kind, [charging, discharging, idle]) in [
            (DeviceKind::Vehicle, ["vehicle,direction=G2V", "vehicle,direction=V2G", "vehicle,direction=idle"]),
            (
                DeviceKind::Battery,
                ["battery,direction=charging", "battery,direction=discharging", "battery,direction=idle"],
            ),
            (DeviceKind::Inverter, ["inverter"; 3]),
            (DeviceKind::Meter, ["meter"; 3]),
        ] {
            assert_eq!(told(kind, Direction::GridToVehicle), charging);
            assert_eq!(told(kind, Direction::VehicleToGrid), discharging);
            assert_eq!(told(kind, Direction::Idle), idle);
        }
    }

    #[test]
    fn what_version_1_wrote_is_told_in_the_words_of_version_1() {
        let (new, old) = (example(), Entry { words: Words::First, ..example() });
        let own =
            r#"gateway,site=depot-a,gateway=gw-01 epoch=12i,seq=345i,points=4i,time="synced" 1764000000250000000"#;
        let (new, old) = (payload_of(&new), payload_of(&old));
        assert_eq!(old.split_once('\n').expect("lines"), (own, new.split_once('\n').expect("lines").1));
    }

    #[test]
    fn what_is_not_known_is_told_and_no_number_stands_for_it() {
        let mut entry = example();
        let interval = &mut entry.window.intervals[1];
        interval.points = vec![at(0, IntervalValue::Missing(Missing::Timeout)), at(1, once(12.0))];
        interval.points[1].questionable = Some(Questionable::OutOfRange);
        let payload = Batch::new(&entry, Lane::Live, "p").payload;
        let line = payload.lines().nth(2).expect("the meter's line");
        assert!(
            line.contains(r#"grid-main frequency=12,missing="timeout",suspect="frequency:out_of_range" "#),
            "{line}"
        );
        entry.window.intervals[1].points.truncate(1);
        let payload = Batch::new(&entry, Lane::Live, "p").payload;
        assert!(payload.contains(r#"grid-main missing="timeout" "#), "{payload}");
    }

    #[test]
    fn a_thinned_gap_names_what_stands_for_it_and_trouble_with_the_disk_is_told() {
        let mut entry = example();
        let gap = Gap { epoch: Epoch(12), from: Seq(1), to: Seq(80), points: Some(9), reason: GapReason::Thinned };
        let window = Duration::from_secs(10);
        let thinned = Thinned { gap, as_epoch: Epoch(13), as_from: Seq(345), as_to: Seq(347), window };
        let kinds = [EventKind::Thinned(thinned), EventKind::JournalFailing("no space".into())];
        entry.window.events = kinds.map(|kind| Event { device: None, kind }).into();
        let payload = Batch::new(&entry, Lane::History, "p").payload;
        let told: Vec<&str> = payload.lines().skip(4).collect();
        assert_eq!(
            told,
            [
                r#"event,site=depot-a,gateway=gw-01,kind=gap from_epoch=12i,from_seq=1i,to_seq=80i,points=9i,reason="thinned",as_epoch=13i,as_from_seq=345i,as_to_seq=347i,window_ms=10000i 1764000000250000000"#,
                r#"event,site=depot-a,gateway=gw-01,kind=journal_failing reason="no space" 1764000000250000000"#,
            ]
        );
    }

    #[test]
    fn what_happens_to_a_bus_is_told_with_its_name() {
        let mut entry = example();
        let bus = || "can-a".try_into().expect("a name");
        let kinds = [
            EventKind::BusState { bus: bus(), state: "bus_off".into(), detail: "by an error frame".into() },
            EventKind::BusRestarted(bus()),
            EventKind::FramesDropped { bus: bus(), frames: 7 },
        ];
        entry.window.events = kinds.map(|kind| Event { device: None, kind }).into();
        let payload = Batch::new(&entry, Lane::Live, "p").payload;
        let told: Vec<&str> =
            payload.lines().filter_map(|line| line.strip_prefix("event,site=depot-a,gateway=gw-01,")).collect();
        assert_eq!(
            told,
            [
                r#"kind=bus_state bus="can-a",state="bus_off",reason="by an error frame" 1764000000250000000"#,
                r#"kind=bus_restarted bus="can-a" 1764000000250000000"#,
                r#"kind=frames_dropped bus="can-a",frames=7i 1764000000250000000"#,
            ]
        );
    }

    #[test]
    fn what_the_uplink_has_to_tell_is_an_event_with_its_cure() {
        let mut entry = example();
        let trouble = EventKind::UplinkTrouble {
            broker: "mqtts://a:8883".into(),
            what: r#"refused: Not authorized (0x87) ("no")"#.into(),
            remedy: "the ACL".into(),
        };
        let expires = EventKind::CertificateExpires { file: "/etc/gw.pem".into(), days: 7 };
        let kinds = [trouble, EventKind::UplinkOnline("mqtts://a:8883".into()), expires];
        entry.window.events = kinds.map(|kind| Event { device: None, kind }).into();
        let payload = Batch::new(&entry, Lane::Live, "p").payload;
        let told: Vec<&str> = payload.lines().skip(4).collect();
        assert_eq!(
            told,
            [
                r#"event,site=depot-a,gateway=gw-01,kind=uplink_trouble broker="mqtts://a:8883",reason="refused: Not authorized (0x87) (\"no\")",remedy="the ACL" 1764000000250000000"#,
                r#"event,site=depot-a,gateway=gw-01,kind=uplink_online broker="mqtts://a:8883" 1764000000250000000"#,
                r#"event,site=depot-a,gateway=gw-01,kind=certificate_expires file="/etc/gw.pem",days=7i 1764000000250000000"#,
            ]
        );
    }

    #[test]
    fn a_device_that_answers_in_part_is_an_event_that_says_how_much_and_what_does_not() {
        let mut entry = example();
        let kind =
            EventKind::DevicePartly { answering: 3, blocks: 5, silent: "unit 200 holding registers 100 to 166".into() };
        entry.window.events = vec![Event { device: Some("evse-07".try_into().expect("a name")), kind }];
        let payload = Batch::new(&entry, Lane::Live, "p").payload;
        let told: Vec<&str> = payload.lines().skip(4).collect();
        assert_eq!(
            told,
            [
                r#"event,site=depot-a,gateway=gw-01,device=evse-07,kind=device_partly answering=3i,blocks=5i,silent="unit 200 holding registers 100 to 166" 1764000000250000000"#
            ]
        );
    }

    #[test]
    fn what_becomes_of_a_counter_is_told_with_both_its_readings() {
        let mut entry = example();
        let device = || Some("grid-main".try_into().expect("a name"));
        let field = "energy_import".try_into().expect("a field");
        let reason = crate::measure::BreakReason::RolledOver;
        let kinds = [
            EventKind::CounterBreak { field, from_milli: 99_999_900, to_milli: 400, reason },
            EventKind::MeterExchanged { before: "1234567".into(), after: "7654321".into() },
        ];
        entry.window.events = kinds.map(|kind| Event { device: device(), kind }).into();
        let payload = Batch::new(&entry, Lane::Live, "p").payload;
        let told: Vec<&str> = payload.lines().skip(4).collect();
        assert_eq!(
            told,
            [
                r#"event,site=depot-a,gateway=gw-01,device=grid-main,kind=counter_break point="energy_import",from=99999.9,to=0.4,reason="rolled_over" 1764000000250000000"#,
                r#"event,site=depot-a,gateway=gw-01,device=grid-main,kind=meter_exchanged before="1234567",after="7654321" 1764000000250000000"#,
            ]
        );
    }

    #[test]
    fn what_does_not_go_together_is_told_with_its_rule_as_a_tag_and_both_values() {
        let mut entry = example();
        let verdict = |value_milli: i64| crate::measure::Verdict {
            rule: "phase_sum".into(),
            value_milli,
            expected_milli: 7_250,
            unit: "kW".into(),
            what: "power_flow against its phases".into(),
        };
        let kinds = [EventKind::Implausible(verdict(-7_250).into()), EventKind::Plausible(verdict(7_200).into())];
        entry.window.events = kinds.map(|kind| Event { device: Some("m".try_into().expect("a name")), kind }).into();
        let payload = Batch::new(&entry, Lane::Live, "p").payload;
        let told: Vec<&str> = payload.lines().skip(4).collect();
        assert_eq!(
            told,
            [
                r#"event,site=depot-a,gateway=gw-01,device=m,kind=implausible,rule=phase_sum value=-7.25,expected=7.25,unit="kW",reason="power_flow against its phases",stands=1i 1764000000250000000"#,
                r#"event,site=depot-a,gateway=gw-01,device=m,kind=plausible,rule=phase_sum value=7.2,expected=7.25,unit="kW",reason="power_flow against its phases",stands=0i 1764000000250000000"#,
            ]
        );
    }

    #[test]
    fn what_was_not_told_each_and_what_became_of_a_reload_are_events() {
        let mut entry = example();
        let left_out = EventKind::EventsLeftOut { of: "bus_state".into(), about: "can0".into(), count: 199 };
        let kinds = [left_out, EventKind::ReloadRefused("gateway.toml:3: x".into()), EventKind::Reloaded];
        entry.window.events = kinds.map(|kind| Event { device: None, kind }).into();
        let payload = Batch::new(&entry, Lane::Live, "p").payload;
        let told: Vec<&str> = payload.lines().skip(4).collect();
        assert_eq!(
            told,
            [
                r#"event,site=depot-a,gateway=gw-01,kind=events_left_out of="bus_state",about="can0",count=199i 1764000000250000000"#,
                r#"event,site=depot-a,gateway=gw-01,kind=reload_refused reason="gateway.toml:3: x" 1764000000250000000"#,
                r#"event,site=depot-a,gateway=gw-01,kind=reloaded reason="the configuration has changed" 1764000000250000000"#,
            ]
        );
    }

    #[test]
    fn an_update_is_told_with_both_versions_and_why_it_did_not_stay() {
        let mut entry = example();
        let (from, to) = (Arc::<str>::from("0.1.0"), Arc::<str>::from("0.2.0"));
        let versions = || (Arc::clone(&from), Arc::clone(&to));
        let kinds = [
            EventKind::UpdateStarted { from: versions().0, to: versions().1 },
            EventKind::UpdateConfirmed { from: versions().0, to: versions().1 },
            EventKind::UpdateRolledBack { from: versions().0, to: versions().1, why: "no PUBACK".into() },
            EventKind::UpdateFailed { from, to, why: "no space".into() },
        ];
        entry.window.events = kinds.map(|kind| Event { device: None, kind }).into();
        let payload = Batch::new(&entry, Lane::Live, "p").payload;
        let told: Vec<&str> =
            payload.lines().filter_map(|line| line.strip_prefix("event,site=depot-a,gateway=gw-01,")).collect();
        assert_eq!(
            told,
            [
                r#"kind=update_started from_version="0.1.0",to_version="0.2.0" 1764000000250000000"#,
                r#"kind=update_confirmed from_version="0.1.0",to_version="0.2.0" 1764000000250000000"#,
                r#"kind=update_rolled_back from_version="0.1.0",to_version="0.2.0",reason="no PUBACK" 1764000000250000000"#,
                r#"kind=update_failed from_version="0.1.0",to_version="0.2.0",reason="no space" 1764000000250000000"#,
            ]
        );
    }

    #[test]
    fn a_charging_session_is_a_field_of_its_lines_and_events_and_no_tag() {
        let mut entry = example();
        let session = Some(SessionId::try_from("4fde139fc6844d0e").expect("a name"));
        entry.window.intervals[0].session.clone_from(&session);
        let next = Interval { session: Some("6f1c".try_into().expect("a name")), ..entry.window.intervals[0].clone() };
        entry.window.intervals.insert(1, next);
        let event = SessionEvent::Phase { phase: "charging".into(), before: "starting".into() };
        let kind = EventKind::Session(OfSession { session, event });
        entry.window.events = vec![Event { device: Some("evse-07".try_into().expect("a name")), kind }];
        let payload = Batch::new(&entry, Lane::Live, "p").payload;
        let told: Vec<&str> = payload.lines().filter(|line| line.contains("session_id")).collect();
        let values = "power_flow=-7.2,power_flow_min=-7.4,power_flow_max=-7,soc=45.5";
        let series = "evse,site=depot-a,gateway=gw-01,device=evse-07,vehicle_id=EV001,direction=V2G";
        let expected = [
            format!(r#"{series} {values},session_id="4fde139fc6844d0e" 1764000000250000000"#),
            format!(r#"{series} {values},session_id="6f1c" 1764000000250000001"#),
            r#"event,site=depot-a,gateway=gw-01,device=evse-07,kind=session_phase phase="charging",before="starting",session_id="4fde139fc6844d0e" 1764000000250000000"#.to_owned(),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn what_is_known_of_energy_is_told_beside_the_points_and_nothing_else() {
        let delta = |mwh| Some(EnergyDelta { mwh, source: EnergySource::Register });
        let told = |energy| {
            let mut entry = example();
            entry.window.intervals[1].energy = energy;
            let payload = Batch::new(&entry, Lane::Live, "p").payload;
            let line = payload.lines().find(|line| line.starts_with("meter")).expect("a line").to_owned();
            line.split(' ').nth(1).expect("fields").to_owned()
        };
        let values = "power_flow=112.4,frequency=49.98";
        let known = Some(Duration::from_millis(250));
        let both = Energy { import: delta(7_805), export: delta(0), known };
        let fields = "energy_import_delta=0.007805,energy_export_delta=0,known_s=0.25";
        assert_eq!(told(both), format!("{values},{fields}"));
        assert_eq!(told(Energy { import: None, export: None, known }), format!("{values},known_s=0.25"));
        assert_eq!(told(Energy::default()), values);
    }

    #[test]
    fn a_charging_session_stands_at_its_start_and_says_all_that_is_known_of_it() {
        let mut entry = example();
        let second = Utc(entry.window.end.utc.0 - 60_123_456_789);
        let mut session = charging_session(0, "6f1c", SessionState::Ended);
        session.reason = "SessionStop".into();
        session.start = SessionTime::At(second);
        entry.window.sessions = vec![session.clone()];
        session.is_of_vehicle = false;
        session.start = SessionTime::Before(Duration::from_nanos(60_123_456_789));
        session.energy = Energy::default();
        (session.charging, session.soc) = (Duration::ZERO, None);
        entry.window.sessions.push(session);
        let payload = Batch::new(&entry, Lane::Live, "p").payload;
        let told: Vec<&str> = payload.lines().filter(|line| line.starts_with("charging_session")).collect();
        let series = "charging_session,site=depot-a,gateway=gw-01,device=evse-07";
        let words = r#"session_id="6f1c",vehicle="EV001",state="ended",phase="charging",reason="SessionStop",known_by="messages",joined=0i"#;
        let times = "start=1763999940i,end=1763999999i,duration_s=59.124";
        let expected = [
            format!(
                r#"{series},vehicle_id=EV001 {words},{times},energy_import=0.1,energy_export=0,energy_source="register",v2g_share=0,power_import_mean=720,known_s=1,charging_s=0.5,discharging_s=0,idle_s=0.5,power_import_peak=11,power_export_peak=0,soc_start=41,soc_end=63 1763999940126000000"#
            ),
            format!(
                "{series} {words},{times},energy_import=0,energy_export=0,charging_s=0,discharging_s=0,idle_s=0.5,power_import_peak=11,power_export_peak=0 1763999940126000000"
            ),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn two_events_of_one_series_do_not_overwrite_each_other() {
        let mut entry = example();
        entry.window.events = vec![entry.window.events[0].clone(); 3];
        let payload = Batch::new(&entry, Lane::Live, "p").payload;
        let times: Vec<i64> = read::lines(&payload).expect("lines").iter().skip(4).map(|line| line.time_ns).collect();
        let first = 1_764_000_000_250_000_000;
        assert_eq!(times, [first, first + 1, first + 2]);
    }

    #[test]
    fn the_packets_size_is_never_underestimated() {
        let batch = Batch::new(&example(), Lane::History, "v2g/depot-a/gw-01");
        let mut packet = rumqttc::v5::mqttbytes::v5::Publish::new(
            batch.topic.clone(),
            rumqttc::v5::mqttbytes::QoS::AtLeastOnce,
            batch.payload.clone(),
            Some(rumqttc::v5::mqttbytes::v5::PublishProperties {
                payload_format_indicator: Some(1),
                content_type: Some(CONTENT_TYPE.to_owned()),
                user_properties: batch.properties.clone(),
                ..Default::default()
            }),
        );
        packet.pkid = 7;
        assert!(packet.size() <= batch.packet_bytes(), "{} > {}", packet.size(), batch.packet_bytes());
        assert!(batch.packet_bytes() <= packet.size() + 16);
    }
}
