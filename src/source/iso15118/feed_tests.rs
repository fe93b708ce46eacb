//! Feeds as stations send them and as no schema foresees: each file of `tests/data/iso15118/feeds` is a kind of fault that was
//! read wrongly once.

use std::collections::BTreeMap;

use super::adapter::SessionAdapter;
use super::feed_clock::FeedClock;
use super::*;
use crate::measure::{ClockTrust, EventKind, Missing, Mono, OfSession, Payload, Raw, SessionEvent, Stamp, Utc};
use crate::spec::{DeviceKind, Origin, PointIx, PointSpec, Scaling, SessionPoint, SessionValue};

/// A device with every value, and what it has told.
pub(super) struct Heard {
    pub(super) adapter: SessionAdapter,
    pub(super) now_ms: u64,
    last: BTreeMap<&'static str, Result<Raw, Missing>>,
    /// Every number of a field, in order.
    pub(super) all: Vec<(&'static str, f64)>,
    pub(super) events: Vec<EventKind>,
    vehicle: Option<String>,
    /// The session of now, and each that there was.
    pub(super) session: Option<String>,
    pub(super) sessions: Vec<String>,
    /// Each vehicle that was told, in order.
    vehicles: Vec<Option<String>>,
}

impl Heard {
    pub(super) fn new() -> Self {
        Self::telling(VehicleIds::Send)
    }

    pub(super) fn telling(vehicle_ids: VehicleIds) -> Self {
        let spec = DeviceSpec {
            id: "evse-1".try_into().expect("a name"),
            kind: DeviceKind::Evse,
            profile: "iso15118".to_owned(),
            points: SessionValue::ALL.map(point).into_iter().collect(),
            groups: vec![],
        };
        let adapter = SessionAdapter::new(&Target { ix: DeviceIx(0), connector: 1, spec }, &vehicle_ids, true);
        Self {
            adapter,
            now_ms: 1_000,
            last: BTreeMap::new(),
            all: vec![],
            events: vec![],
            vehicle: None,
            session: None,
            sessions: vec![],
            vehicles: vec![],
        }
    }

    pub(super) fn stamp(&self) -> Stamp {
        let ns = self.now_ms * 1_000_000;
        Stamp { mono: Mono(ns), utc: Utc(i64::try_from(ns).expect("short")), trust: ClockTrust::Synced }
    }

    /// One connection of a feed, a record every `pace_ms`.
    pub(super) fn feed(&mut self, name: &str, pace_ms: u64) -> &mut Self {
        let path = format!("{}/tests/data/iso15118/feeds/{name}.feed", env!("CARGO_MANIFEST_DIR"));
        let (bytes, mut clock) = (std::fs::read(path).expect("a feed"), FeedClock::default());
        self.adapter.feed_connected(self.stamp());
        Records::default()
            .push(&bytes, |record| {
                self.now_ms += pace_ms;
                let at = self.stamp();
                let own = clock.at(record.unix_us, at.mono, self.adapter.tracker().heard_own());
                match record.kind {
                    Kind::Open => self.adapter.hear(at, |tracker| tracker.handle_open(at.mono)),
                    Kind::FromVehicle => self.adapter.frames(true, record.bytes, at, own),
                    Kind::FromStation => self.adapter.frames(false, record.bytes, at, own),
                    Kind::Close => self.adapter.hear(at, |tracker| tracker.handle_close(at.mono)),
                }
                self.take();
            })
            .expect("records");
        self
    }

    /// What was told since the last time.
    pub(super) fn take(&mut self) {
        for sample in self.adapter.drain() {
            match sample.payload {
                Payload::Values(values) => {
                    for (PointIx(point), raw) in values {
                        let name = SessionValue::ALL[usize::from(point)].name();
                        if let Ok(Raw::Float(number)) = raw {
                            self.all.push((name, number));
                        }
                        self.last.insert(name, raw);
                    }
                }
                Payload::Noticed(kind) => self.events.push(kind),
                Payload::Vehicle(vehicle) => {
                    self.vehicle = vehicle.map(|id| id.as_str().to_owned());
                    self.vehicles.push(self.vehicle.clone());
                }
                Payload::Session(session) => {
                    self.session = session.map(|id| id.as_str().to_owned());
                    self.sessions.extend(self.session.clone());
                }
                _ => {}
            }
        }
    }

    pub(super) fn lose_feed(&mut self) -> &mut Self {
        self.adapter.feed_lost("the station closed it", self.stamp());
        for sample in self.adapter.drain() {
            if let Payload::Vehicle(vehicle) = sample.payload {
                self.vehicle = vehicle.map(|id| id.as_str().to_owned());
                self.vehicles.push(self.vehicle.clone());
            }
        }
        self
    }

    fn unreadable(&self) -> Vec<(Unreadable, u64)> {
        self.adapter.tracker().unreadable().collect()
    }

    fn number(&self, field: &str) -> f64 {
        match &self.last[field] {
            Ok(Raw::Float(number)) => *number,
            other => panic!("{field}: {other:?}"),
        }
    }

    fn word(&self, field: &str) -> &str {
        match &self.last[field] {
            Ok(Raw::Text(word)) => word,
            other => panic!("{field}: {other:?}"),
        }
    }

    fn names(&self) -> Vec<&'static str> {
        self.events.iter().map(EventKind::name).filter(|name| *name != "session_phase").collect()
    }

    fn count(&self, name: &str) -> usize {
        self.names().iter().filter(|told| **told == name).count()
    }

    /// How, seconds, Wh and their source.
    pub(super) fn ended(&self) -> (&str, u64, u64, &str) {
        let of_end = |event: &'_ EventKind| {
            matches!(event, EventKind::Session(OfSession { event: SessionEvent::Ended { .. }, .. }))
        };
        match self.events.iter().rev().find(|event| of_end(event)) {
            Some(EventKind::Session(OfSession {
                event: SessionEvent::Ended { how, seconds, import_wh, energy_source, .. },
                ..
            })) => (how, *seconds, *import_wh, energy_source),
            _ => panic!("no end: {:?}", self.names()),
        }
    }
}

pub(super) fn point(value: SessionValue) -> PointSpec {
    PointSpec {
        field: value.name().try_into().expect("a field"),
        unit: value.unit(),
        value_type: value.value_type(),
        aggregation: value.fold(),
        valid: None,
        frozen_after: None,
        scaling: Scaling::default(),
        origin: Origin::Session(SessionPoint { value }),
    }
}

fn heard(name: &str) -> Heard {
    let mut heard = Heard::new();
    heard.feed(name, 250);
    heard
}

#[test]
fn zeros_behind_a_document_are_no_part_of_it() {
    let heard = heard("01-trailing-byte");
    // The one message in it of another session.
    assert_eq!(heard.unreadable(), [(Unreadable::OtherSession, 1)]);
    assert_eq!((heard.word("protocol"), heard.word("state")), ("din70121", "parameters"));
    assert_eq!((heard.number("soc"), heard.number("evse_power_limit_charge")), (23.0, 150.0));
}

#[test]
fn a_value_outside_its_facet_costs_nothing_but_itself() {
    let heard = heard("02-facet");
    // The one message in it of another session.
    assert_eq!(heard.unreadable(), [(Unreadable::OtherSession, 1)]);
    let phases: Vec<String> = heard
        .events
        .iter()
        .filter_map(|event| match event {
            EventKind::Session(OfSession { event: SessionEvent::Phase { phase, .. }, .. }) => Some(phase.to_string()),
            _ => None,
        })
        .collect();
    assert!(phases.contains(&"starting".to_owned()), "{phases:?}");
    assert_eq!((heard.count("session_started"), heard.number("soc")), (1, 41.0));
}

#[test]
fn another_session_id_is_another_session() {
    let heard = heard("03-other-session-id");
    assert_eq!(heard.vehicle, None);
    assert_eq!((heard.count("session_started"), heard.count("session_ended")), (2, 1));
    assert_eq!((heard.ended().0, heard.ended().2), ("superseded", 8_340));
    let energies = heard.all.iter().filter(|(name, _)| *name == "energy_import").map(|(_, kwh)| *kwh);
    let of_the_second: Vec<f64> = energies.skip_while(|kwh| *kwh < 8.34).skip_while(|kwh| *kwh >= 8.34).collect();
    assert!(of_the_second[0] < 0.1 && of_the_second.last() == Some(&4.359), "{of_the_second:?}");
}

#[test]
fn a_lost_feed_is_no_end_of_the_session() {
    let mut heard = heard("04-feed-gap.a");
    heard.lose_feed().feed("04-feed-gap.b", 250);
    assert_eq!((heard.count("session_started"), heard.count("session_ended")), (1, 1));
    assert_eq!((heard.ended().0, heard.ended().2, heard.ended().3), ("terminated", 9_733, "meter"));
}

/// What was lost in the gap had nothing to say of the vehicle: it is the one of before until the session ends.
#[test]
fn after_a_lost_feed_the_vehicle_of_the_session_is_known() {
    let mut heard = heard("04-feed-gap.a");
    let vehicle = heard.vehicle.clone();
    assert!(vehicle.is_some(), "it was heard");
    heard.lose_feed();
    assert_eq!(heard.vehicle, vehicle, "with the feed it does not go");
    let vehicles = heard.feed("04-feed-gap.b", 250).vehicles.clone();
    // One alone after the gap: that it has left, with the end of the session.
    assert_eq!((vehicles.len(), vehicles.last()), (2, Some(&None)), "{vehicles:?}");
    assert_eq!((vehicles[0].clone(), heard.count("session_started")), (vehicle, 1));
}

#[test]
fn a_stray_message_of_another_protocol_ends_no_session() {
    let heard = heard("05-stray-20-frame");
    assert_eq!(heard.unreadable(), [(Unreadable::OtherProtocol, 1)]);
    assert_eq!((heard.count("session_started"), heard.count("session_ended")), (1, 0));
    assert_eq!(heard.word("protocol"), "iso15118-2");
    assert!(heard.vehicle.is_some());
}

#[test]
fn a_minute_that_comes_at_once_is_a_minute() {
    let mut heard = Heard::new();
    heard.feed("06-late", 0);
    // 240 turns of 250 ms at 45.5 kW are 60 s; from the set-up to the stop are 61.
    assert_eq!(heard.ended(), ("terminated", 61, 758, "integrated"));
    assert!((heard.number("energy_import") - 0.758).abs() < 0.001, "{}", heard.number("energy_import"));
}

#[test]
fn a_meter_that_stands_still_while_power_flows_is_not_believed() {
    let heard = heard("09-frozen-meter");
    // It may be one of 100 Wh, and less flows: that it is frozen is not known.
    let mut read = heard.all.iter().filter(|(name, _)| *name == "meter_import").map(|(_, kwh)| kwh);
    assert!(read.next().is_some_and(|kwh| (kwh * 1e3).round() % 100.0 == 0.0));
    assert_eq!(heard.count("point_frozen"), 0);
    assert!(heard.ended().2 > 60 && heard.ended().3 == "integrated", "{:?}", heard.ended());
}

#[test]
fn a_record_may_hold_two_frames_and_a_frame_two_records() {
    let mut heard = heard("10-two-frames-in-a-record");
    assert_eq!(heard.unreadable(), []);
    let whole = heard.adapter.tracker().messages();
    assert_eq!(whole, 58);
    // The same bytes cut elsewhere.
    heard = Heard::new();
    let (at, own) = (heard.stamp(), heard.stamp().mono);
    let path = format!("{}/tests/data/iso15118/feeds/10-two-frames-in-a-record.feed", env!("CARGO_MANIFEST_DIR"));
    Records::default()
        .push(&std::fs::read(path).expect("a feed"), |record| {
            if let Kind::FromVehicle | Kind::FromStation = record.kind {
                for piece in record.bytes.chunks(7) {
                    heard.adapter.frames(record.kind == Kind::FromVehicle, piece, at, own);
                }
            }
        })
        .expect("records");
    assert_eq!((heard.unreadable(), heard.adapter.tracker().messages()), (vec![], whole));
}

#[test]
fn a_negative_limit_of_charge_is_a_limit_of_discharge() {
    let heard = heard("12-j2847-v2g-over-2");
    for (name, number) in &heard.all {
        assert!(!(name.contains("limit") || name.contains("least")) || *number >= 0.0, "{name} {number}");
    }
    assert_eq!(heard.number("ev_current_limit_discharge"), 60.0);
    assert_eq!(heard.number("evse_current_limit_discharge"), 50.0);
    assert_eq!((heard.word("ev_discharge_sign"), heard.word("evse_discharge_sign")), ("negative", "negative"));
    assert!(heard.all.iter().any(|(name, kw)| *name == "power_flow" && *kw < -10.0));
}

#[test]
fn a_session_that_has_an_end_has_a_start() {
    let heard = heard("13-setup-unanswered");
    assert_eq!(heard.names(), ["feed_connected", "session_started", "session_ended"]);
}

#[test]
fn a_set_up_of_20_is_read_under_the_payload_type_of_2() {
    let heard = heard("16-setup-of-20-under-8001");
    assert_eq!(heard.unreadable(), []);
    assert_eq!((heard.vehicle.as_deref(), heard.count("session_started")), (Some("DEXYZ000000000008DCB"), 1));
}

#[test]
fn a_vehicle_that_is_not_to_be_told_is_told_nowhere() {
    for (vehicle_ids, expected) in [(VehicleIds::Omit([7; 32]), None), (VehicleIds::Hash([7; 32]), Some(16))] {
        let mut heard = Heard::telling(vehicle_ids);
        heard.feed("04-feed-gap.a", 250);
        let mut facts = crate::health::SessionFacts::default();
        heard.adapter.tracker().facts(&mut facts);
        assert_eq!(heard.vehicle.as_ref().map(String::len), expected);
        let told = format!("{:?} {:?} {:?} {:?} {facts:?}", heard.last, heard.events, heard.vehicle, heard.sessions);
        let id = self::heard("04-feed-gap.a").vehicle.expect("it has an id");
        assert!(!told.to_lowercase().contains(&id.to_lowercase()), "{id} in {told}");
    }
}
