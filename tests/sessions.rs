//! Charging sessions end to end: recorded frames through the mirror feed and from files, the agent, mosquitto, a consumer;
//! judged against what the senders of the recordings meant (`tests/data/iso15118/README.md`).

#[path = "sessions/guarded.rs"]
mod guarded;
#[path = "sessions/late.rs"]
mod late;
#[path = "sessions/live.rs"]
mod live;
#[path = "sessions/rig.rs"]
mod rig;
#[path = "sessions/truth.rs"]
mod truth;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use hil_tests::oracle::{Line, Value};
use hil_tests::wait::unix_ns;

use rig::{Heard, Mirror, Rig, data, recorded, text};
use truth::Expected;

const SESSIONS: [&str; 7] = [
    "din-dc",
    "iso2-ac-eim",
    "iso2-dc-eim",
    "iso2-dc-failed",
    "iso20-acbpt-dyn",
    "iso20-dc-sched",
    "iso20-dcbpt-sched",
];

/// One bus with a device for each of `count` connectors, `evse-1` the first.
fn mirror_of(count: usize) -> String {
    let mut tables = "[bus.plc]\niso15118 = { mirror = \"unix:{dir}/mirror.sock\" }\n".to_owned();
    for connector in 1..=count {
        let device = "kind = \"evse\"\nbus = \"plc\"\nprofile = \"iso15118\"";
        writeln!(tables, "[device.evse-{connector}]\n{device}\nconnector = {connector}").expect("a string");
    }
    tables
}

/// A recorded session, as it is sent and as it was meant.
struct Script {
    device: String,
    connector: u16,
    frames: Vec<(u8, Vec<u8>)>,
    truth: serde_json::Value,
}

impl Script {
    fn of(name: &str, connector: u16) -> Self {
        let (vehicle, station) = (recorded(name, "ev"), recorded(name, "se"));
        let turns = vehicle.into_iter().zip(station).flat_map(|(request, answer)| [(1, request), (2, answer)]);
        let json = std::fs::read_to_string(data(&format!("{name}.json"))).expect("the truth");
        Self {
            device: format!("evse-{connector}"),
            connector,
            frames: turns.collect(),
            truth: serde_json::from_str(&json).expect("it is JSON"),
        }
    }

    /// As its station has sent it in every header.
    fn session_id(&self) -> String {
        let message =
            self.truth["messages"][5].as_object().and_then(|message| message.values().next()).expect("a message");
        message.pointer("/Header/SessionID").and_then(serde_json::Value::as_str).expect("an id").to_lowercase()
    }
}

/// Every line of its device has the id from the station's answer to the set-up on, until it has ended; and every phase but the first.
fn assert_told_of_its_session<'a>(script: &Script, phases: Vec<&Line>, lines: impl Iterator<Item = &'a Line> + Clone) {
    let id_of = |line: &Line| match line.field("session_id") {
        Some(Value::Text(id)) => Some(id.clone()),
        _ => None,
    };
    let id = Some(script.session_id());
    let is_of = |line: &Line| id_of(line) == id;
    let setup = lines.clone().position(is_of).expect("a line of it");
    let end = lines.clone().position(|line| matches!(text(line, "state"), "terminated" | "failed")).expect("its end");
    assert!(lines.clone().skip(setup).take(end + 1 - setup).all(is_of), "{}", script.truth["session"]);
    assert!(lines.clone().take(setup).all(|line| id_of(line).is_none()), "{}", script.truth["session"]);
    assert!(phases[1..].iter().all(|phase| is_of(phase)), "{phases:?}");
}

/// The one row of a session says who charged, when, and how much, as its messages did.
fn assert_row_is_the_session(rig: &mut Rig, script: &Script, ended: &Line) {
    let session = &script.truth["session"];
    let row = rig.wait_for("the end of every charging session", |heard| {
        let rows = heard.rows_of(&script.device);
        rows.into_iter().find(|row| row.get("state") == Some(&Value::Text("ended".to_owned())))
    });
    let sums = rig.heard().sums_of(&script.device, &script.session_id());
    assert_eq!((row["energy_import"].number(), row["energy_export"].number()), sums, "{session}");
    assert_eq!(rig.heard().rows_of(&script.device).len(), 1, "{session}");
    let words = [
        ("session_id", script.session_id()),
        ("vehicle", session["evcc_id"].as_str().expect("an id").to_owned()),
        ("known_by", "messages".to_owned()),
    ];
    for (field, word) in words {
        assert_eq!(row.get(field), Some(&Value::Text(word)), "{session}: {row:?}");
    }
    // The event has whole Wh.
    for (field, wh) in [("energy_import", "import_wh"), ("energy_export", "export_wh")] {
        let (told, wh) = (row[field].number().expect("a number"), ended.count(wh).expect("a count") as f64);
        assert!((told * 1e3 - wh).abs() <= 0.5, "{session}: {field} is {told}, and {wh} Wh");
    }
    assert_eq!(row["joined"].number(), Some(0.0), "{session}");
    assert!(row["start"].number() <= row["end"].number(), "{row:?}");
}

fn fits(told: &Value, expected: &Expected) -> bool {
    match (told, expected) {
        (Value::Float(told), Expected::Number(expected)) => (told - expected).abs() <= 1e-9 * expected.abs().max(1.0),
        (Value::Integer(told), Expected::Integer(expected)) => told == expected,
        (Value::Text(told), Expected::Text(expected)) => told == expected,
        _ => false,
    }
}

#[test]
fn every_value_at_the_broker_is_what_its_sender_meant() {
    let mut rig = Rig::start(&mirror_of(SESSIONS.len()));
    let mut mirror = Mirror::connect(&rig.path("mirror.sock"));
    let compared = play_and_judge(&mut rig, &mut mirror, &SESSIONS);
    assert!(compared > 3_000, "{compared}");
    let status = rig.agent.terminate(std::time::Duration::from_secs(15)).expect("it ends");
    assert!(status.success());
}

/// Plays these sessions at once, one at each connector, and holds every value and event at the broker against what its sender
/// meant. How many values were compared.
fn play_and_judge(rig: &mut Rig, mirror: &mut Mirror, sessions: &[&str]) -> usize {
    let scripts: Vec<Script> = (1..).zip(sessions).map(|(connector, name)| Script::of(name, connector)).collect();
    scripts.iter().for_each(|script| mirror.send(0, script.connector, b"[fe80::1]:50000"));
    let longest = scripts.iter().map(|script| script.frames.len()).max().expect("there are some");
    let mut compared = 0;
    for turn in 0..longest {
        for script in &scripts {
            if let Some((kind, frame)) = script.frames.get(turn) {
                mirror.send(*kind, script.connector, frame);
            }
        }
        // Nothing of a handshake is counted: it is before the session.
        let Some(count) = turn.checked_sub(1).filter(|count| *count > 0) else { continue };
        let speaking: Vec<&Script> = scripts.iter().filter(|script| script.frames.len() > turn).collect();
        let all_counted = |heard: &Heard| {
            let counted = |script: &&&Script| {
                heard.last(&script.device).get("messages").and_then(Value::number) == Some(count as f64)
            };
            speaking.iter().all(|script| counted(&script)).then_some(())
        };
        rig.wait_for("every session's message", all_counted);
        let heard = rig.heard();
        for script in speaking {
            let last: BTreeMap<String, Value> = heard.last(&script.device);
            let message = &script.truth["messages"][turn];
            for (field, expected) in truth::told_by(message) {
                let name = (&script.truth["session"]["name"], truth::name(message));
                let Some(told) = last.get(&field) else { panic!("{name:?}: {field} did not come") };
                assert!(fits(told, &expected), "{name:?}: {field} is {told:?}, not {expected:?}");
                compared += 1;
            }
        }
    }
    scripts.iter().for_each(|script| mirror.send(3, script.connector, b"closed"));
    for script in &scripts {
        let device = &script.device;
        let ended: Line = rig.wait_for("the end of every session", |heard| {
            heard.events_of(device, "session_ended").first().map(|line| (*line).clone())
        });
        let (session, heard) = (&script.truth["session"], rig.heard());
        let failed = session["session_stop"].is_null();
        assert_eq!(text(&ended, "how"), if failed { "failed" } else { "terminated" }, "{session}");
        assert_eq!(heard.events_of(device, "session_started").len(), 1, "{session}");
        assert_eq!(heard.events_of(device, "session_ended").len(), 1, "{session}");
        assert!(heard.events_of(device, "session_unreadable").is_empty(), "{session}");
        let started = heard.events_of(device, "session_started")[0].clone();
        assert_eq!(text(&started, "namespace"), session["protocol"], "{session}");
        let of_device = heard.lines.iter().filter(|line| line.tag("device") == Some(device));
        let vehicles: Vec<Option<&str>> = of_device.clone().map(|line| line.tag("vehicle_id")).collect();
        assert!(vehicles.contains(&session["evcc_id"].as_str()), "{session}: {vehicles:?}");
        assert_told_of_its_session(script, heard.events_of(device, "session_phase"), of_device.clone());
        for event in [&started, &ended] {
            assert_eq!(text(event, "session_id"), script.session_id(), "{session}");
        }
        for line in of_device {
            // V2G is negative, and says so.
            if let (Some(power), Some(direction)) =
                (line.field("power_flow").and_then(Value::number), line.tag("direction"))
            {
                let expected = if power.abs() < 0.05 {
                    "idle"
                } else if power > 0.0 {
                    "G2V"
                } else {
                    "V2G"
                };
                assert_eq!(direction, expected, "{session}: {power} kW");
            }
        }
        if let Some([first, last]) = session["meter_wh"].as_array().map(Vec::as_slice) {
            let energy = last.as_u64().zip(first.as_u64()).map(|(last, first)| last - first).expect("readings");
            assert_eq!(ended.count("import_wh"), Ok(energy), "{session}");
            assert_eq!(text(&ended, "energy_source"), "meter");
        }
        assert_row_is_the_session(rig, script, &ended);
    }
    println!("{compared} values of {} sessions compared at the broker", scripts.len());
    rig.wait_for_status("every session in the status", |status| {
        (1..=sessions.len()).all(|n| status.number(&format!("/devices/evse-{n}/session/sessions")) == Some(1))
    });
    compared
}

#[test]
fn what_cannot_be_read_is_named_at_the_broker_within_a_second_and_the_next_frame_is_read() {
    let mut rig = Rig::start(&mirror_of(1));
    let mut mirror = Mirror::connect(&rig.path("mirror.sock"));
    let script = Script::of("iso2-dc-eim", 1);
    let play = |mirror: &mut Mirror, until: usize, from: usize| {
        script.frames[from..until].iter().for_each(|(kind, frame)| mirror.send(*kind, 1, frame));
    };
    mirror.send(0, 1, b"");
    play(&mut mirror, 30, 0);
    rig.wait_for("a session", |heard| heard.events_of("evse-1", "session_started").first().map(|_| ()));

    let mut odd = script.frames[30].1.clone();
    odd[12] ^= 0x55;
    odd.truncate(20);
    odd[7] = 12;
    let hostile: [(&str, Vec<u8>); 5] = [
        ("garbage", vec![0; 5000]),
        ("too_long", vec![0x01, 0xfe, 0x80, 0x01, 0xff, 0xff, 0xff, 0xff]),
        ("truncated", script.frames[30].1[..11].to_vec()),
        ("payload_type", vec![0x01, 0xfe, 0xaa, 0xaa, 0, 0, 0, 0]),
        ("undecodable", odd),
    ];
    for (reason, bytes) in &hostile {
        let sent_ns = unix_ns();
        (0..500).for_each(|_| mirror.send(1, 1, bytes));
        let event = rig.wait_for(reason, |heard| {
            let told = heard.events_of("evse-1", "session_unreadable");
            told.into_iter().find(|line| text(line, "reason") == *reason).cloned()
        });
        // Clocked by the consumer: this test may have slept.
        let arrived = rig.consumer.messages().into_iter().find(|message| {
            let payload = String::from_utf8_lossy(&message.payload).into_owned();
            message.received_ns >= sent_ns && payload.contains("session_unreadable") && payload.contains(reason)
        });
        let late = std::time::Duration::from_nanos(
            arrived.and_then(|message| u64::try_from(message.received_ns - sent_ns).ok()).expect("it came"),
        );
        assert_eq!(text(&event, "namespace"), "urn:iso:15118:2:2013:MsgDef");
        assert!(late < std::time::Duration::from_secs(1), "{reason} was told after {late:?}");
        let pointer = format!("/devices/evse-1/failures/{reason}");
        rig.wait_for_status(reason, |status| status.number(&pointer) == Some(500));
        // The very next good frame is read.
        let before = rig.heard().events_of("evse-1", "session_readable").len();
        play(&mut mirror, 32, 30);
        rig.wait_for("that frames can be read again", |heard| {
            (heard.events_of("evse-1", "session_readable").len() > before).then_some(())
        });
    }
    let events = rig.heard().events_of("evse-1", "session_unreadable").len();
    assert!(events <= 3 * hostile.len(), "{events} events for 2,500 frames are a storm");

    // A connector that nobody has, and a stream that is no feed: told, and the door stays open.
    mirror.send(1, 77, b"x");
    mirror.raw(b"GET / HTTP/1.1\r\n\r\n");
    for reason in ["unknown_connector", "bad_record"] {
        rig.wait_for(reason, |heard| {
            let told = heard.events_of("evse-1", "session_unreadable");
            told.into_iter().any(|line| text(line, "reason") == reason).then_some(())
        });
    }
    rig.wait_for("the feed's end", |heard| heard.events_of("evse-1", "feed_lost").first().map(|_| ()));
    let mut again = Mirror::connect(&rig.path("mirror.sock"));
    again.send(0, 1, b"");
    script.frames.iter().for_each(|(kind, frame)| again.send(*kind, 1, frame));
    rig.wait_for("the whole session", |heard| {
        let ended = heard.events_of("evse-1", "session_ended");
        ended.into_iter().any(|line| text(line, "how") == "terminated").then_some(())
    });
    // Nothing of its contract leaves: the recording's certificates and signatures are not in any message.
    let all: Vec<u8> = rig.consumer.look(|messages| messages.iter().flat_map(|m| m.payload.clone()).collect());
    assert!(!String::from_utf8_lossy(&all).contains("Certificate"));
}

#[test]
fn a_recorded_pair_of_files_is_a_bus() {
    let (vehicle, station) = (data("din-dc.ev.bin"), data("din-dc.se.bin"));
    let rig = Rig::start(&format!(
        "[bus.recorded]\niso15118 = {{ files = [{vehicle:?}, {station:?}] }}\n\
         [device.evse-1]\nkind = \"evse\"\nbus = \"recorded\"\nprofile = \"iso15118\"\n"
    ));
    let ended = rig.wait_for("the end of the session", |heard| {
        heard.events_of("evse-1", "session_ended").first().map(|line| (*line).clone())
    });
    assert_eq!((text(&ended, "how"), text(&ended, "energy_source")), ("terminated", "integrated"));
    let started = rig.heard().events_of("evse-1", "session_started")[0].clone();
    assert_eq!((text(&started, "how"), text(&started, "protocol")), ("new", "din70121"));
    let socs: Vec<f64> =
        rig.heard().lines.iter().filter_map(|line| line.field("soc").and_then(Value::number)).collect();
    assert_eq!((socs.first(), socs.last()), (Some(&23.0), Some(&63.0)));
}

#[test]
fn the_sender_of_the_docs_is_a_feed() {
    let mut rig = Rig::start(&mirror_of(1));
    let [code, _] = senders_of_the_docs();
    let socket = rig.path("mirror.sock");
    let code = code.replace("/run/v2g-edge/iso15118.sock", &socket.display().to_string());
    assert!(code.contains(&socket.display().to_string()));
    send_by_python(&code);
    assert_two_frames_of_a_handshake(&mut rig);
}

/// The one for a unix socket, and what is another for TLS.
fn senders_of_the_docs() -> [String; 2] {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/mirror-feed.md")).expect("the page");
    let mut blocks = page.split("```python\n").skip(1).map(|block| block.split("```").next().expect("its end"));
    std::array::from_fn(|_| blocks.next().expect("a sender").to_owned())
}

fn send_by_python(code: &str) {
    let hex =
        |side: &str| recorded("iso20-dcbpt-sched", side)[0].iter().map(|b| format!("{b:02x}")).collect::<String>();
    let frames = format!(
        "frame_from_vehicle = bytes.fromhex('{}')\nframe_from_station = bytes.fromhex('{}')\n",
        hex("ev"),
        hex("se")
    );
    let sent = std::process::Command::new("python3").args(["-c", &format!("{frames}{code}")]).output().expect("python");
    assert!(sent.status.success(), "{sent:?}");
}

fn assert_two_frames_of_a_handshake(rig: &mut Rig) {
    rig.wait_for_status("the two frames of the handshake", |status| {
        status.number("/devices/evse-1/session/messages") == Some(2)
            && status.text("/devices/evse-1/session/state") == Some("idle")
    });
    assert!(rig.heard().events_of("evse-1", "session_unreadable").is_empty());
}

#[test]
fn a_feed_over_tcp_is_heard() {
    let port = hil_tests::port::free_port();
    let tables = mirror_of(1).replace("unix:{dir}/mirror.sock", &format!("tcp:127.0.0.1:{port}"));
    let mut rig = Rig::start(&tables);
    let mut mirror = Mirror::connect_tcp(port);
    mirror.send(0, 1, b"");
    Script::of("din-dc", 1).frames.iter().for_each(|(kind, frame)| mirror.send(*kind, 1, frame));
    drop(mirror);
    rig.wait_for_status("the session's end", |status| {
        status.text("/devices/evse-1/session/last_end") == Some("terminated")
    });
}
