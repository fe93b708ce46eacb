//! `v2g-edge doctor` finds what is wrong, and leaves the running agent alone.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};

use hil_tests::broker::{Broker, Options};
use hil_tests::certs::Validity;
use hil_tests::scripted::{Script, ScriptedBroker};

use crate::stage::{SOON, Stage};

/// Its exit code and its report.
fn doctor(stage: &Stage) -> (Option<i32>, serde_json::Value) {
    let config = stage.agent.config().display().to_string();
    let (status, output) = stage.agent.ask(&["doctor", "--json", "--config", &config]).expect("it ends");
    (status.code(), serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error}: {output}")))
}

fn found(report: &serde_json::Value, what: &str) -> (String, String) {
    let checks = report["checks"].as_array().expect("a list");
    let check = checks.iter().find(|check| check["what"].as_str().is_some_and(|text| text.contains(what)));
    let check = check.unwrap_or_else(|| panic!("nothing of {what} in {report}"));
    let text = |key: &str| check[key].as_str().unwrap_or_default().to_owned();
    (text("verdict"), text("found"))
}

#[test]
fn a_healthy_gateway_is_found_healthy_while_it_runs_and_is_not_disturbed() {
    let mut stage = Stage::set();
    let server = stage.authority.server(Validity::Good).expect("a server certificate");
    let broker = Broker::start(&stage.dir.path().join("broker"), &server, Options::default()).expect("a broker");
    stage.start(&[broker.url()], "");
    stage.wait_until_online();
    let (code, report) = doctor(&stage);
    assert_eq!((code, report["healthy"].as_bool()), (Some(0), Some(true)), "{report}");
    assert_eq!(found(&report, "gw-01.pem"), ("good".to_owned(), "valid until 2099-01-01T00:00:00.000Z".to_owned()));
    let (verdict, text) = found(&report, &broker.url());
    assert_eq!(verdict, "good");
    assert!(text.contains("100 messages in flight"), "{text}");
    stage.wait_for_status_within(SOON, "the same connection", |status| {
        status.is_online() && status.number("/uplink/connections") == Some(1)
    });
}

#[test]
fn an_expired_certificate_a_dead_broker_and_one_that_refuses_are_each_named() {
    let mut stage = Stage::set();
    stage.setup.tls = stage.authority.client("expired", Validity::Expired).expect("a certificate");
    let refusing =
        ScriptedBroker::start(Script { refusals: vec![(0x8a, None)], refuses_always: true, ..Script::default() });
    stage.setup.brokers = vec!["mqtt://127.0.0.1:9".to_owned(), refusing.url()];
    stage.agent.configure(&stage.setup).expect("the file is ours");
    let (code, report) = doctor(&stage);
    assert_eq!((code, report["healthy"].as_bool()), (Some(1), Some(false)), "{report}");
    for (what, part) in [
        ("expired.pem", "has expired on 2001-01-01"),
        ("mqtt://127.0.0.1:9", "is the broker running"),
        (&refusing.url(), "Banned (0x8A)"),
    ] {
        let (verdict, text) = found(&report, what);
        assert!(verdict == "bad" && text.contains(part), "{what}: {verdict}, {text}");
    }
}

#[test]
fn tls_on_a_plain_port_and_the_other_way_round_are_told_with_the_right_scheme() {
    let mut stage = Stage::set();
    let server = stage.authority.server(Validity::Good).expect("a server certificate");
    let broker = Broker::start(&stage.dir.path().join("broker"), &server, Options::default()).expect("a broker");
    let to_plain = format!("mqtts://127.0.0.1:{}", broker.plain_port());
    let to_tls = format!("mqtt://127.0.0.1:{}", broker.tls_port());
    stage.setup.brokers = vec![to_plain.clone(), to_tls.clone()];
    stage.agent.configure(&stage.setup).expect("the file is ours");
    let (code, report) = doctor(&stage);
    assert_eq!(code, Some(1), "{report}");
    for (what, part) in
        [(&to_plain, "write mqtt:// in [uplink] brokers"), (&to_tls, "write mqtts:// in [uplink] brokers")]
    {
        let (verdict, text) = found(&report, what);
        assert!(verdict == "bad" && text.contains(part), "{what}: {verdict}, {text}");
    }
}

/// A broker that takes CONNECT of this protocol level only and hangs up on all others, for as long as the test runs.
fn broker_of(level: Option<u8>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("ours").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            // Fixed header with one byte of length, "MQTT" behind its length, the level.
            let mut head = [0; 9];
            if stream.read_exact(&mut head).is_ok() && head[4..8] == *b"MQTT" && Some(head[8]) == level {
                let _ = stream.write_all(&[0x20, 2, 0, 0]);
                // Until the client has read it and goes.
                let _ = stream.read_to_end(&mut Vec::new());
            }
        }
    });
    port
}

#[test]
fn a_broker_that_speaks_3_1_1_only_is_told_apart_from_one_that_hangs_up_on_everybody() {
    let mut stage = Stage::set();
    let [old, mute] = [Some(4), None].map(|level| format!("mqtt://127.0.0.1:{}", broker_of(level)));
    stage.setup.brokers = vec![old.clone(), mute.clone()];
    stage.agent.configure(&stage.setup).expect("the file is ours");
    let (code, report) = doctor(&stage);
    assert_eq!(code, Some(1), "{report}");
    let (verdict, text) = found(&report, &old);
    assert!(verdict == "bad" && text.contains("it speaks that version only; the broker must speak MQTT 5"), "{text}");
    let (verdict, text) = found(&report, &mute);
    assert!(verdict == "bad" && text.contains("closed the connection") && !text.contains("3.1.1"), "{text}");
}

#[test]
fn a_mistake_in_the_configuration_hides_nothing_that_has_nothing_to_do_with_it() {
    let mut stage = Stage::set();
    stage.setup.tls = stage.authority.client("expired", Validity::Expired).expect("a certificate");
    stage.setup.brokers = vec!["mqtt://127.0.0.1:9".to_owned()];
    stage.setup.extra = "[device.nowhere]\nkind = \"meter\"\nbus = \"moon\"\nprofile = \"eastron-sdm630\"\n".to_owned();
    stage.agent.configure(&stage.setup).expect("the file is ours");
    let (code, report) = doctor(&stage);
    assert_eq!((code, report["healthy"].as_bool()), (Some(2), Some(false)), "{report}");
    assert_eq!(report["faults"][0]["key"], "device.nowhere.bus", "{report}");
    for (what, wanted, part) in [
        ("configuration", "bad", "1 mistake, the first in line"),
        ("journal below", "good", "can be written"),
        ("expired.pem", "bad", "has expired on 2001-01-01"),
        ("mqtt://127.0.0.1:9", "bad", "is the broker running"),
    ] {
        let (verdict, text) = found(&report, what);
        assert!(verdict == wanted && text.contains(part), "{what}: {verdict}, {text}");
    }

    // What is no TOML stands in its table, and has no key.
    for torn in ["client_id = \"doctor\n", "keep_alive = = \"5s\"\n", "[uplink.tls\n"] {
        stage.setup.uplink = torn.to_owned();
        stage.agent.configure(&stage.setup).expect("the file is ours");
        let (code, report) = doctor(&stage);
        assert_eq!(code, Some(2), "{torn}: {report}");
        let looked_at = report["checks"].as_array().expect("a list").iter().map(|check| check["what"].to_string());
        let looked_at: Vec<String> = looked_at.collect();
        assert!(looked_at.iter().all(|what| !what.contains("mqtt://")), "{torn}: {looked_at:?}");
        assert_eq!(found(&report, "journal below").0, "good", "{torn}");
    }

    // What is wrong itself is not looked at: it would be blamed for what it is not.
    stage.setup.uplink = "client_id = \"\"\n".to_owned();
    stage.agent.configure(&stage.setup).expect("the file is ours");
    let (_, report) = doctor(&stage);
    let looked_at = report["checks"].as_array().expect("a list").iter().map(|check| check["what"].to_string());
    let looked_at: Vec<String> = looked_at.collect();
    assert!(looked_at.iter().all(|what| !what.contains("mqtt://")), "{looked_at:?}");
}

#[test]
fn a_certificate_that_brokers_refuse_or_take_for_anothers_is_told_before_they_are_blamed() {
    let mut stage = Stage::set();
    stage.setup.brokers = vec!["mqtt://127.0.0.1:9".to_owned()];
    let server = stage.authority.server_known_as("gw-01", Validity::Good).expect("a certificate");
    let another = stage.authority.client("gw-02", Validity::Good).expect("a certificate");
    for (files, wanted, part) in
        [(server, "bad", "with clientAuth"), (another, "watch", "gives it the rights of gw-02")]
    {
        stage.setup.tls = files;
        stage.agent.configure(&stage.setup).expect("the file is ours");
        let (_, report) = doctor(&stage);
        let (verdict, text) = found(&report, "as a client's");
        assert!(verdict == wanted && text.contains(part), "{verdict}, {text}");
    }
}
