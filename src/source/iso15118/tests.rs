//! Recorded sessions against what their senders meant, and hostile ones against our bounds. What the sessions are is in
//! `tests/data/iso15118/README.md`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;
use crate::measure::{Mono, Payload, Raw, SessionEvent};
use crate::spec::{PointIx, SessionValue};
use truth::Expected;

#[path = "../../../tests/sessions/truth.rs"]
mod truth;

const SESSIONS: [&str; 7] = [
    "din-dc",
    "iso2-ac-eim",
    "iso2-dc-eim",
    "iso2-dc-failed",
    "iso20-acbpt-dyn",
    "iso20-dc-sched",
    "iso20-dcbpt-sched",
];

/// 250 ms a message, as a loop has it.
pub(super) const TURN_NS: u64 = 250_000_000;

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/iso15118").join(name)
}

/// The frames of one side.
fn side(name: &str, side: &str) -> Vec<(u16, Vec<u8>)> {
    let bytes = std::fs::read(data(&format!("{name}.{side}.bin"))).expect("a recording");
    let mut frames = Vec::new();
    Frames::default().push(&bytes, |piece| match piece {
        Piece::Frame { payload_type, payload } => frames.push((payload_type, payload.to_vec())),
        Piece::Bad(reason) => panic!("{reason}"),
    });
    frames
}

/// Both sides in the order in which they spoke.
pub(super) fn frames(name: &str) -> Vec<(u16, Vec<u8>)> {
    let (vehicle, station) = (side(name, "ev"), side(name, "se"));
    assert_eq!(vehicle.len(), station.len());
    vehicle.into_iter().zip(station).flat_map(|(request, answer)| [request, answer]).collect()
}

fn truth_of(name: &str) -> serde_json::Value {
    let text = std::fs::read_to_string(data(&format!("{name}.json"))).expect("the truth");
    serde_json::from_str(&text).expect("it is JSON")
}

/// What was told so far.
#[derive(Default)]
pub(super) struct Consumer {
    last: BTreeMap<&'static str, Result<Raw, crate::measure::Missing>>,
    pub(super) events: Vec<SessionEvent>,
    pub(super) vehicles: Vec<Option<String>>,
}

impl Consumer {
    pub(super) fn take(&mut self, tracker: &mut Tracker) {
        for told in tracker.drain() {
            match told {
                TrackerOutput::Values(values) => {
                    self.last.extend(values.into_iter().map(|(value, raw)| (value.name(), raw)));
                }
                TrackerOutput::Event(event) => self.events.push(event),
                TrackerOutput::Vehicle(vehicle) => self.vehicles.push(vehicle.map(|id| id.as_str().to_owned())),
                TrackerOutput::Stuck(..) | TrackerOutput::Session(_) => {}
            }
        }
    }

    fn number(&self, field: &str) -> f64 {
        match &self.last[field] {
            Ok(Raw::Float(number)) => *number,
            other => panic!("{field}: {other:?}"),
        }
    }

    pub(super) fn text(&self, field: &str) -> &str {
        match &self.last[field] {
            Ok(Raw::Text(text)) => text,
            other => panic!("{field}: {other:?}"),
        }
    }

    pub(super) fn names(&self) -> Vec<&'static str> {
        self.events.iter().map(SessionEvent::name).collect()
    }

    pub(super) fn ended(&self) -> (&str, &str) {
        let ends = self.events.iter().rev().find_map(|event| match event {
            SessionEvent::Ended { how, reason, .. } => Some((&**how, &**reason)),
            _ => None,
        });
        ends.expect("an end")
    }
}

fn fits(told: &Raw, expected: &Expected) -> bool {
    match (told, expected) {
        (Raw::Float(told), Expected::Number(expected)) => (told - expected).abs() <= 1e-9 * expected.abs().max(1.0),
        (Raw::Integer(told), Expected::Integer(expected)) => *told == i128::from(*expected),
        (Raw::Text(told), Expected::Text(expected)) => **told == **expected,
        _ => false,
    }
}

/// Plays a session to a tracker, with a look at it after each message.
fn play(name: &str, tracker: &mut Tracker, mut look: impl FnMut(usize, &mut Tracker)) {
    tracker.handle_open(Mono(0));
    for (turn, (payload_type, payload)) in frames(name).iter().enumerate() {
        tracker.handle_frame(*payload_type, payload, Mono(turn as u64 * TURN_NS));
        look(turn, tracker);
    }
}

#[test]
fn every_value_of_the_recorded_sessions_is_what_its_sender_meant() {
    let mut compared = 0;
    for name in SESSIONS {
        let truth = truth_of(name);
        let messages = truth["messages"].as_array().expect("a list").clone();
        let (mut tracker, mut consumer) = (Tracker::default(), Consumer::default());
        play(name, &mut tracker, |turn, tracker| {
            consumer.take(tracker);
            for (field, expected) in truth::told_by(&messages[turn]) {
                // A session that is over has no present any more.
                let Some(Ok(told)) = consumer.last.get(field.as_str()) else {
                    panic!("{name} {turn} {}: {field} was not told", truth::name(&messages[turn]));
                };
                assert!(fits(told, &expected), "{name} {turn} {field}: {told:?}, not {expected:?}");
                compared += 1;
            }
        });
        assert_eq!(tracker.unreadable().count(), 0, "{name}");
        assert_eq!(tracker.messages(), messages.len() as u64, "{name}");
        assert_eq!(consumer.vehicles[0].as_deref(), truth["session"]["evcc_id"].as_str(), "{name}");
        assert_eq!(consumer.text("evse_id"), truth["session"]["evse_id"], "{name}");
        tracker.handle_close(Mono(1 << 40));
        consumer.take(&mut tracker);
        assert_eq!(consumer.vehicles.last(), Some(&None), "{name}");
        for (field, meter) in [("energy_import", "meter_wh"), ("energy_export", "discharged_wh")] {
            let readings = truth["session"][meter].as_array().map(|pair| [&pair[0], &pair[1]].map(|wh| wh.as_f64()));
            if let Some([Some(first), Some(last)]) = readings {
                let expected = (last - first) / 1000.0;
                assert!(
                    (consumer.number(field) - expected).abs() < 1e-6,
                    "{name}: {} {expected}",
                    consumer.number(field)
                );
                assert_eq!(consumer.text("energy_source"), "meter");
            }
        }
    }
    println!("{compared} values");
    assert!(compared > 3_000, "{compared}");
}

#[test]
fn discharging_is_negative_and_its_limits_are_magnitudes() {
    for (name, lowest) in [("iso20-dcbpt-sched", -43.0), ("iso20-acbpt-dyn", -10.0)] {
        let (mut tracker, mut consumer) = (Tracker::default(), Consumer::default());
        let (mut least, mut most) = (f64::MAX, f64::MIN);
        play(name, &mut tracker, |_, tracker| {
            consumer.take(tracker);
            if consumer.last.get("power_flow").is_some_and(Result::is_ok) {
                least = least.min(consumer.number("power_flow"));
                most = most.max(consumer.number("power_flow"));
            }
        });
        assert!(least < lowest && most > 10.0, "{name}: {least} to {most}");
        assert!(consumer.number("power_limit_discharge") > 0.0);
        assert_eq!(consumer.text("ev_discharge_sign"), "positive");
    }
}

#[test]
fn the_course_of_a_session_is_told_in_order() {
    let (mut tracker, mut consumer) = (Tracker::default(), Consumer::default());
    play("iso20-dcbpt-sched", &mut tracker, |_, tracker| consumer.take(tracker));
    let phases: Vec<&str> = consumer
        .events
        .iter()
        .filter_map(|event| match event {
            SessionEvent::Phase { phase, .. } => Some(&**phase),
            _ => None,
        })
        .collect();
    let expected = [
        "setup",
        "authorization",
        "service",
        "parameters",
        "cable_check",
        "precharge",
        "starting",
        "charging",
        "stopping",
        "welding_detection",
        "stopping",
    ];
    assert_eq!(phases, expected);
    assert_eq!(consumer.names().first(), Some(&"session_phase"));
    let started = consumer.events.iter().find(|event| matches!(event, SessionEvent::Started { .. }));
    let expected = SessionEvent::Started {
        protocol: "iso15118-20".into(),
        namespace: "urn:iso:std:iso:15118:-20:DC".into(),
        evse_id: "DE*EDG*E0042*1".into(),
        how: "new".into(),
    };
    assert_eq!(started, Some(&expected));
    assert_eq!(consumer.ended(), ("terminated", ""));
    let ends = consumer.names().iter().filter(|name| **name == "session_ended").count();
    assert_eq!(ends, 1);
    assert!(consumer.last["power_flow"].is_err(), "power is not known after the end");
}

#[test]
fn a_session_that_fails_is_told_with_its_code() {
    let (mut tracker, mut consumer) = (Tracker::default(), Consumer::default());
    play("iso2-dc-failed", &mut tracker, |_, tracker| consumer.take(tracker));
    let failed = SessionEvent::Failed { code: "FAILED".into(), message: "PreChargeRes".into() };
    assert!(consumer.events.contains(&failed), "{:?}", consumer.events);
    tracker.handle_close(Mono(1 << 40));
    consumer.take(&mut tracker);
    let words = "FAILED: Target current or present current too high in state Precharge";
    assert_eq!(consumer.ended(), ("failed", words));
}

#[test]
fn a_session_may_be_joined_at_any_message() {
    for name in SESSIONS {
        let all = frames(name);
        for from in 2..all.len() - 2 {
            let (mut tracker, mut consumer) = (Tracker::default(), Consumer::default());
            for (turn, (payload_type, payload)) in all.iter().enumerate().skip(from) {
                tracker.handle_frame(*payload_type, payload, Mono(turn as u64 * TURN_NS));
            }
            consumer.take(&mut tracker);
            assert_eq!(tracker.unreadable().count(), 0, "{name} from {from}");
            let how = consumer.events.iter().find_map(|event| match event {
                SessionEvent::Started { how, .. } => Some(how.to_string()),
                _ => None,
            });
            assert_eq!(how.as_deref(), Some(if from == 2 { "new" } else { "joined" }), "{name} from {from}");
        }
    }
}

#[test]
fn a_session_without_a_goodbye_ends_with_its_connection_or_after_silence() {
    let all = frames("iso2-dc-eim");
    let cut = |tracker: &mut Tracker| {
        for (payload_type, payload) in &all[..40] {
            tracker.handle_frame(*payload_type, payload, Mono(0));
        }
    };
    let (mut tracker, mut consumer) = (Tracker::default(), Consumer::default());
    cut(&mut tracker);
    tracker.handle_close(Mono(1));
    consumer.take(&mut tracker);
    assert_eq!(consumer.ended(), ("aborted", ""));

    let (mut tracker, mut consumer) = (Tracker::default(), Consumer::default());
    cut(&mut tracker);
    tracker.poll(Mono(11_000_000_000));
    consumer.take(&mut tracker);
    assert_eq!(consumer.last["current"], Err(crate::measure::Missing::Stale));
    assert!(!consumer.names().contains(&"session_ended"));
    tracker.poll(Mono(61_000_000_000));
    consumer.take(&mut tracker);
    assert_eq!(consumer.ended(), ("silent", ""));
}

#[test]
fn an_unknown_namespace_is_named_and_the_next_session_is_read() {
    let (mut tracker, mut consumer) = (Tracker::default(), Consumer::default());
    // The same handshake for an edition of 2010.
    let all = frames("iso2-dc-eim");
    let mut request =
        <iso15118::app_protocol::SupportedAppProtocolReq as iso15118::exi::ExiDocument>::from_bytes(&all[0].1)
            .expect("a handshake");
    request.app_protocols[0].protocol_namespace = "urn:iso:15118:2:2010:MsgDef".to_owned();
    let request = iso15118::exi::ExiDocument::to_vec(&request).expect("it can be written");
    tracker.handle_frame(0x8001, &request, Mono(0));
    for (turn, (payload_type, payload)) in all.iter().enumerate().skip(1) {
        tracker.handle_frame(*payload_type, payload, Mono(turn as u64 * TURN_NS));
    }
    consumer.take(&mut tracker);
    let named = consumer.events.iter().any(|event| {
        matches!(event, SessionEvent::Unreadable { reason, namespace, .. }
            if &**reason == "unknown_namespace" && &**namespace == "urn:iso:15118:2:2010:MsgDef")
    });
    assert!(named, "{:?}", consumer.events);
    assert_eq!(consumer.text("state"), "unknown_protocol");
    assert!(tracker.unreadable().eq([(Unreadable::UnknownNamespace, all.len() as u64 - 2)]));
    assert!(consumer.events.len() < 30, "a storm: {:?}", consumer.names());

    play("din-dc", &mut tracker, |_, tracker| consumer.take(tracker));
    assert!(!tracker.is_troubled());
    assert_eq!(consumer.ended(), ("terminated", ""));
}

#[test]
fn another_edition_of_the_schema_is_a_mismatch_and_one_odd_frame_is_not() {
    let all = frames("iso2-dc-eim");
    let mut broken = all[2].1.clone();
    broken[2] ^= 0xff;
    let reason_after = |read: usize| {
        let mut tracker = Tracker::default();
        for (payload_type, payload) in &all[..read] {
            tracker.handle_frame(*payload_type, payload, Mono(0));
        }
        tracker.handle_frame(0x8001, &broken, Mono(1));
        let reasons: Vec<_> = tracker.unreadable().map(|(reason, _)| reason).collect();
        reasons
    };
    assert_eq!(reason_after(2), [Unreadable::SchemaMismatch]);
    assert_eq!(reason_after(20), [Unreadable::Undecodable]);
}

#[test]
fn no_certificate_contract_or_signature_leaves_the_tracker() {
    // Plug & Charge: the third message of the vehicle carries a contract chain and a signature.
    let (mut tracker, mut told) = (Tracker::default(), String::new());
    play("iso20-dcbpt-sched", &mut tracker, |_, tracker| {
        for piece in tracker.drain() {
            told.push_str(&format!("{piece:?}"));
        }
    });
    let mut facts = crate::health::SessionFacts::default();
    tracker.facts(&mut facts);
    told.push_str(&format!("{facts:?}"));
    let carried: Vec<u8> = frames("iso20-dcbpt-sched").into_iter().flat_map(|(_, payload)| payload).collect();
    assert!(carried.len() > 2_000 && told.len() > 2_000);
    for secret in ["UKSWI123456791A", "Certificate", "MIIC", "PKI-Ext", "ecdsa", "DigestValue"] {
        assert!(!told.contains(secret), "{secret} was told");
    }
}

/// An ISO 15118-2 frame with something else in its body.
pub(super) fn changed(payload: &[u8], change: impl FnOnce(&mut iso15118::iso2::BodyChoice)) -> Vec<u8> {
    use iso15118::exi::ExiDocument;
    let mut document = iso15118::iso2::Document::from_bytes(payload).expect("a message");
    let iso15118::iso2::Document::V2GMessage(message) = &mut document else { panic!("no message") };
    change(message.body.choice.as_mut().expect("a body"));
    document.to_vec().expect("it can be written")
}

#[test]
fn a_paused_session_is_paused_and_goes_on_as_resumed() {
    use iso15118::iso2::{BodyChoice, ChargingSession, ResponseCode};
    let mut all = frames("iso2-dc-eim");
    let stop = all.len() - 2;
    all[stop].1 = changed(&all[stop].1, |body| match body {
        BodyChoice::SessionStopReq(request) => request.charging_session = ChargingSession::Pause,
        other => panic!("{}", other.name()),
    });
    let (mut tracker, mut consumer) = (Tracker::default(), Consumer::default());
    for (payload_type, payload) in &all {
        tracker.handle_frame(*payload_type, payload, Mono(0));
    }
    consumer.take(&mut tracker);
    assert_eq!((consumer.ended(), consumer.text("state")), (("paused", ""), "paused"));

    all[3].1 = changed(&all[3].1, |body| match body {
        BodyChoice::SessionSetupRes(answer) => answer.response_code = ResponseCode::OKOldSessionJoined,
        other => panic!("{}", other.name()),
    });
    for (payload_type, payload) in &all[..20] {
        tracker.handle_frame(*payload_type, payload, Mono(1));
    }
    consumer.take(&mut tracker);
    let hows: Vec<&str> = consumer
        .events
        .iter()
        .filter_map(|event| if let SessionEvent::Started { how, .. } = event { Some(&**how) } else { None })
        .collect();
    assert_eq!(hows, ["new", "resumed"]);
}

#[test]
fn an_emergency_stop_is_noticed_and_is_why_the_session_ended() {
    use iso15118::iso2::{BodyChoice, DCEVSEStatusCode, EVSENotification};
    let mut all = frames("iso2-dc-eim");
    let at = all.len() / 2 / 2 * 2 + 1;
    all[at].1 = changed(&all[at].1, |body| match body {
        BodyChoice::CurrentDemandRes(answer) => {
            answer.dc_evse_status.evse_status_code = DCEVSEStatusCode::EVSEEmergencyShutdown;
            answer.dc_evse_status.evse_notification = EVSENotification::StopCharging;
        }
        other => panic!("{}", other.name()),
    });
    let (mut tracker, mut consumer) = (Tracker::default(), Consumer::default());
    for (payload_type, payload) in &all[..=at] {
        tracker.handle_frame(*payload_type, payload, Mono(0));
    }
    tracker.handle_close(Mono(1));
    consumer.take(&mut tracker);
    for what in ["EVSE_EmergencyShutdown", "StopCharging"] {
        assert!(consumer.events.contains(&SessionEvent::Notified { what: what.into() }), "{:?}", consumer.events);
    }
    assert_eq!(consumer.ended(), ("aborted", "EVSE_EmergencyShutdown"));
}

#[test]
fn a_stack_that_sends_its_limits_of_discharge_negative_is_read_alike() {
    use iso15118::exi::ExiDocument;
    use iso15118::iso20::dc::{DCChargeParameterDiscoveryReqChoice as Choice, Document};
    let mut all = frames("iso20-dcbpt-sched");
    let mut changed = 0;
    for (payload_type, payload) in &mut all {
        if *payload_type != 0x8004 {
            continue;
        }
        let mut document = Document::from_bytes(payload).expect("a message");
        if let Document::DCChargeParameterDiscoveryReq(request) = &mut document
            && let Choice::BPTDCCPDReqEnergyTransferMode(mode) = &mut request.choice
        {
            mode.ev_maximum_discharge_power.value = -mode.ev_maximum_discharge_power.value;
            mode.ev_maximum_discharge_current.value = -mode.ev_maximum_discharge_current.value;
            *payload = document.to_vec().expect("it can be written");
            changed += 1;
        }
    }
    assert_eq!(changed, 1);
    let (mut tracker, mut consumer) = (Tracker::default(), Consumer::default());
    for (payload_type, payload) in &all[..16] {
        tracker.handle_frame(*payload_type, payload, Mono(0));
    }
    consumer.take(&mut tracker);
    assert_eq!(consumer.number("ev_power_limit_discharge"), 45.0);
    assert_eq!((consumer.text("ev_discharge_sign"), consumer.text("evse_discharge_sign")), ("negative", "positive"));
    assert_eq!(consumer.number("power_limit_discharge"), 45.0);
}

/// xorshift64*: the same mutations everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).expect("below a usize")
    }
}

fn mutate(frame: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = frame.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(6) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            1 if !bytes.is_empty() => bytes[at] = u8::try_from(random.below(256)).expect("a byte"),
            2 => bytes.truncate(at),
            3 => bytes.insert(at, 0xff),
            4 if !bytes.is_empty() => {
                let piece = bytes[at..].to_vec();
                bytes.extend_from_slice(&piece);
            }
            _ => bytes.extend((0..random.below(20)).map(|n| u8::try_from(n).expect("small"))),
        }
    }
    bytes
}

/// How many mutated frames: `V2G_FRAMES=1000000` is the full measure.
fn mutations() -> usize {
    std::env::var("V2G_FRAMES").ok().and_then(|count| count.parse().ok()).unwrap_or(60_000)
}

#[test]
fn mutated_frames_neither_panic_nor_grow_and_every_bad_one_is_counted() {
    let all: Vec<(u16, Vec<u8>)> = SESSIONS.iter().flat_map(|name| frames(name)).collect();
    let mut random = Random(0x5eed_0015_1118);
    let (mut tracker, mut events, mut mono) = (Tracker::default(), 0_usize, 0_u64);
    let (mut sent, mut counted) = (0_u64, 0_u64);
    let mut settled = None;
    let total = mutations();
    for round in 0..total {
        let (payload_type, payload) = &all[random.below(all.len())];
        let payload = mutate(payload, &mut random);
        let payload_type =
            if random.below(10) == 0 { u16::try_from(random.below(65_536)).expect("a type") } else { *payload_type };
        mono += 1_000_000;
        tracker.handle_frame(payload_type, &payload, Mono(mono));
        sent += 1;
        events += tracker
            .drain()
            .filter(|told| matches!(told, TrackerOutput::Event(SessionEvent::Unreadable { .. })))
            .count();
        if round == total / 10 {
            settled = hal::rss_bytes();
        }
    }
    // What has bytes behind it is read.
    let is_unread = |(reason, _): &(Unreadable, u64)| *reason != Unreadable::TrailingBytes;
    counted += tracker.unreadable().filter(is_unread).map(|(_, count)| count).sum::<u64>();
    assert_eq!(counted + tracker.messages(), sent, "every frame is one or the other");
    assert!(counted > sent / 10 && tracker.messages() > sent / 100, "{counted} of {sent} were bad");
    // One a second and reason at most, at 1000 frames a second.
    let reasons = tracker.unreadable().count();
    assert!(events <= (total / 1000 + 2) * reasons, "{events} events of {reasons} reasons for {total} frames");
    println!("{sent} frames: {:?}", tracker.unreadable().collect::<Vec<_>>());
    if let (Some(before), Some(after)) = (settled, hal::rss_bytes()) {
        println!("rss {before} then {after}");
        assert!(after < before + (8 << 20), "from {before} to {after} bytes");
    }
}

#[test]
fn mutated_streams_neither_panic_nor_grow() {
    let streams: Vec<Vec<u8>> = SESSIONS
        .iter()
        .flat_map(|name| {
            ["ev", "se"].map(|side| std::fs::read(data(&format!("{name}.{side}.bin"))).expect("a recording"))
        })
        .collect();
    let mut random = Random(0x00b0_55ed);
    for _ in 0..mutations() / 200 {
        let stream = mutate(&streams[random.below(streams.len())], &mut random);
        let (mut frames, mut tracker) = (Frames::default(), Tracker::default());
        for cut in stream.chunks(1 + random.below(300)) {
            frames.push(cut, |piece| match piece {
                Piece::Frame { payload_type, payload } => tracker.handle_frame(payload_type, payload, Mono(0)),
                Piece::Bad(reason) => tracker.handle_unreadable(reason, Mono(0)),
            });
        }
        frames.finish(|_| {});
        tracker.handle_close(Mono(0));
        tracker.drain().count();
    }
}

/// A record of a mirror feed for connector 1.
fn record(kind: u8, bytes: &[u8]) -> Vec<u8> {
    let (time, length) = (1_764_000_000_000_000_u64, u32::try_from(bytes.len()).expect("short"));
    [&[1, kind, 0, 1][..], &time.to_be_bytes(), &length.to_be_bytes(), bytes].concat()
}

/// A V2GTP frame.
fn v2gtp((payload_type, payload): &(u16, Vec<u8>)) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short");
    [&[0x01, 0xfe][..], &payload_type.to_be_bytes(), &length.to_be_bytes(), payload].concat()
}

/// A mirror on a unix socket that one device listens at, with a queue of samples.
struct Mirror {
    path: PathBuf,
    queue: tokio::sync::mpsc::Receiver<crate::measure::Sample>,
    facts: std::sync::Arc<crate::health::StatusBoard>,
    source: tokio::task::JoinHandle<()>,
    _dir: tempfile::TempDir,
    _stop: tokio::sync::watch::Sender<bool>,
}

impl Mirror {
    fn open(room: usize) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("feed.sock");
        let spec = DeviceSpec {
            id: "evse-1".try_into().expect("a name"),
            kind: crate::spec::DeviceKind::Evse,
            profile: "iso15118".to_owned(),
            points: [SessionValue::State, SessionValue::Soc, SessionValue::PowerFlow].map(point).into_iter().collect(),
            groups: vec![],
        };
        let port = Port {
            bus: "mirror".try_into().expect("a name"),
            source: SessionSource::Mirror(crate::net::Mirror::Unix(path.clone())),
            devices: vec![Target { ix: DeviceIx(0), connector: 1, spec }],
            window: Duration::from_millis(250),
            vehicle_ids: VehicleIds::Send,
        };
        let facts = std::sync::Arc::new(crate::health::StatusBoard::default());
        let heartbeat = crate::health::Heartbeats::default().watch("source", Duration::from_secs(9), Mono(0));
        let (samples, queue) = tokio::sync::mpsc::channel(room);
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let clock = std::sync::Arc::new(hal::LinuxClock::new());
        let source = tokio::spawn(run(port, clock, samples, std::sync::Arc::clone(&facts), heartbeat, stopped));
        Self { path, queue, facts, source, _dir: dir, _stop: stop }
    }

    /// How often senders were refused for this reason.
    fn refused(&self, reason: &str) -> u64 {
        let status = self.facts.status();
        let session = status.devices.values().find_map(|device| device.session.as_ref());
        session.and_then(|session| session.refused.get(reason)).copied().unwrap_or(0)
    }
}

async fn connect(path: &std::path::Path) -> tokio::net::UnixStream {
    loop {
        match tokio::net::UnixStream::connect(path).await {
            Ok(stream) => return stream,
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// A session of 10,000 messages in its loop, as a mirror sends it.
fn long_session() -> Vec<u8> {
    let all = frames("iso2-dc-eim");
    let middle = all.len() / 4 * 2;
    let turns = all[..middle].iter().chain(all[middle..middle + 2].iter().cycle().take(10_000)).chain(&all[middle..]);
    let mut feed = record(0, b"");
    for (turn, frame) in turns.enumerate() {
        feed.extend(record(if turn % 2 == 0 { 1 } else { 2 }, &v2gtp(frame)));
    }
    feed.extend(record(3, b""));
    feed
}

#[tokio::test]
async fn a_burst_sheds_values_and_neither_the_end_nor_the_final_state() {
    use tokio::io::AsyncWriteExt;
    // Nobody takes a sample before the burst is over.
    let mut mirror = Mirror::open(64);
    let mut stream = connect(&mirror.path).await;
    stream.write_all(&long_session()).await.expect("it is read however full the queue is");
    while mirror.facts.status().devices.values().all(|device| device.answers < 10_000) {
        tokio::task::yield_now().await;
    }
    let (mut told, mut state) = (Vec::new(), None);
    while !told.contains(&"session_ended") {
        match mirror.queue.recv().await.expect("the source runs").payload {
            Payload::Noticed(event) => told.push(event.name()),
            Payload::Values(values) => {
                let newest = values.into_iter().find(|(point, _)| *point == PointIx(0));
                state = newest.map(|(_, state)| state).or(state);
            }
            _ => {}
        }
    }
    assert!(told.contains(&"feed_connected") && told.contains(&"session_started"), "{told:?}");
    assert_eq!(state, Some(Ok(Raw::Text("terminated".into()))));
    assert!(mirror.facts.status().pipeline.samples_shed > 1_000);
    mirror.source.abort();
}

fn point(value: SessionValue) -> crate::spec::PointSpec {
    crate::spec::PointSpec {
        field: value.name().try_into().expect("a field"),
        unit: value.unit(),
        value_type: value.value_type(),
        aggregation: value.fold(),
        valid: None,
        frozen_after: None,
        scaling: crate::spec::Scaling::default(),
        origin: crate::spec::Origin::Session(crate::spec::SessionPoint { value }),
    }
}

#[tokio::test]
async fn feeds_beyond_the_bound_are_told_and_mute_connections_keep_no_real_one_out() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut mirror = Mirror::open(4096);
    let mut mutes = Vec::new();
    for _ in 0..16 {
        mutes.push(connect(&mirror.path).await);
    }
    let mut feeds = Vec::new();
    for _ in 0..16 {
        let mut feed = connect(&mirror.path).await;
        feed.write_all(&record(0, b"")).await.expect("it is let in");
        feeds.push(feed);
    }
    // Each of them has taken the place of one that said nothing, the oldest first.
    for mut mute in mutes {
        assert_eq!(mute.read(&mut [0]).await.expect("closed"), 0);
    }
    assert_eq!((mirror.refused("feed_mute"), mirror.refused("feeds_full")), (16, 0));
    for count in 1..=4 {
        assert_eq!(connect(&mirror.path).await.read(&mut [0]).await.expect("closed"), 0);
        assert_eq!(mirror.refused("feeds_full"), count);
    }
    let mut told = Vec::new();
    while told.len() < 2 {
        if let Payload::Noticed(crate::measure::EventKind::Session(of)) =
            mirror.queue.recv().await.expect("it runs").payload
            && let SessionEvent::FeedRefused { reason, .. } = of.event
        {
            told.push(reason.to_string());
        }
    }
    assert_eq!(told, ["feed_mute", "feeds_full"]);
    mirror.source.abort();
}
