//! The mirror feed over mutual TLS, with certificates and sockets that are real.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hil_tests::certs::{Authority, Files, Validity};
use hil_tests::wait::wait_for;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};

use crate::rig::{Mirror, Rig, text};
use crate::{Script, assert_two_frames_of_a_handshake, mirror_of, play_and_judge, send_by_python, senders_of_the_docs};

const SOON: Duration = Duration::from_secs(20);

/// A bus whose mirror feed shows and wants certificates of `{dir}/tls`.
fn guarded(port: u16, count: usize) -> String {
    let tls = "ca = \"{dir}/tls/ca.pem\", certificate = \"{dir}/tls/localhost.pem\", key = \"{dir}/tls/localhost.key\"";
    mirror_of(count).replace("\"unix:{dir}/mirror.sock\"", &format!("\"tls:127.0.0.1:{port}\", {tls}"))
}

/// A station: whom it trusts, who it is, and which TLS it speaks.
struct Station<'f> {
    ca: &'f Path,
    own: Option<&'f Files>,
    version: &'static SupportedProtocolVersion,
}

impl<'f> Station<'f> {
    fn of(own: &'f Files) -> Self {
        Self { ca: &own.ca, own: Some(own), version: &rustls::version::TLS13 }
    }

    /// Its stream, as soon as the port is there; what this gateway thinks of its certificate shows later.
    fn connect(&self, port: u16) -> Result<StreamOwned<ClientConnection, TcpStream>, String> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.ca).expect("a certificate")).expect("a ca");
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[self.version])
            .expect("a version")
            .with_root_certificates(roots);
        let config = match self.own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let chain = vec![CertificateDer::from_pem_file(&own.certificate).expect("a certificate")];
                let key = PrivateKeyDer::from_pem_file(&own.key).expect("a key");
                builder.with_client_auth_cert(chain, key).expect("they fit")
            }
        };
        let name = ServerName::try_from("localhost").expect("a name");
        let mut connection = ClientConnection::new(Arc::new(config), name).expect("a client");
        let look = || TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string());
        let mut tcp = wait_for(SOON, "the mirror's port", look).unwrap_or_else(|late| panic!("{late}"));
        while connection.is_handshaking() {
            connection.complete_io(&mut tcp).map_err(|error| error.to_string())?;
        }
        Ok(StreamOwned::new(connection, tcp))
    }

    fn mirror(&self, port: u16) -> Mirror {
        Mirror::over(self.connect(port).unwrap_or_else(|error| panic!("it is let in: {error}")))
    }
}

fn refused(reason: &str) -> String {
    format!("/devices/evse-1/session/refused/{reason}")
}

/// In place of what is there, as a tool that renews would: a new file under the same name.
fn put(from: &Path, to: &Path) {
    let new = to.with_extension("new");
    fs::copy(from, &new).expect("copied");
    fs::rename(&new, to).expect("renamed");
}

#[test]
fn a_session_over_tls_is_what_its_sender_meant() {
    let port = hil_tests::port::free_port();
    let sessions = ["din-dc", "iso2-dc-eim", "iso20-dcbpt-sched"];
    let mut rig = Rig::start(&guarded(port, sessions.len()));
    let files = rig.authority.client("secc-1", Validity::Good).expect("a client");
    let mut mirror = Station::of(&files).mirror(port);
    let compared = play_and_judge(&mut rig, &mut mirror, &sessions);
    assert!(compared > 500, "{compared}");
    assert!(rig.heard().events_of("evse-1", "feed_refused").is_empty());
    drop(mirror);
    let lost = rig
        .wait_for("the feed's end", |heard| heard.events_of("evse-1", "feed_lost").first().map(|line| (*line).clone()));
    assert_eq!(text(&lost, "reason"), "the station closed it without TLS's goodbye (close_notify)");
    let log = fs::read_to_string(rig.agent.log()).expect("its log");
    assert!(!log.contains(" WARN ") && !log.contains(" ERROR "), "{log}");
}

#[test]
fn the_sender_of_the_docs_is_a_feed_over_tls_too() {
    let port = hil_tests::port::free_port();
    let mut rig = Rig::start(&guarded(port, 1));
    let files = rig.authority.client("secc", Validity::Good).expect("a client");
    let [plain, tls] = senders_of_the_docs();
    let (head, tail) = plain.split_once("feed = socket").expect("it opens a socket");
    let (_, tail) = tail.split_once("def mirror").expect("it mirrors");
    let shown = |path: &Path| path.display().to_string();
    let tls = tls
        .replace("gateway-ca.pem", &shown(&files.ca))
        .replace("secc.pem", &shown(&files.certificate))
        .replace("secc.key", &shown(&files.key))
        .replace("15119", &port.to_string())
        .replace("gateway.example", "localhost");
    wait_for(SOON, "the mirror's port", || TcpStream::connect(("127.0.0.1", port)).map_err(|e| e.to_string()))
        .unwrap_or_else(|late| panic!("{late}"));
    send_by_python(&format!("{head}{tls}def mirror{tail}"));
    assert_two_frames_of_a_handshake(&mut rig);
}

fn assert_not_let_in(rig: &mut Rig, port: u16, reason: &str, station: &Station<'_>, remedy: &str) {
    // Refused in its handshake, or by the first bytes back after it.
    if let Ok(mut stream) = station.connect(port) {
        let closed = stream.read(&mut [0; 16]);
        assert!(!matches!(closed, Ok(1..)), "{reason}: a byte came back");
    }
    rig.wait_for_status(reason, |status| status.number(&refused(reason)).is_some());
    let event = rig.wait_for(reason, |heard| {
        let told = heard.events_of("evse-1", "feed_refused");
        told.into_iter().find(|line| text(line, "reason") == reason).cloned()
    });
    let detail = text(&event, "detail");
    assert!(detail.starts_with("the sender 127.0.0.1:") && detail.contains(remedy), "{reason}: {detail}");
}

#[test]
fn who_is_not_let_in_is_named_and_counted_and_keeps_nobody_out() {
    let port = hil_tests::port::free_port();
    let mut rig = Rig::start(&guarded(port, 1));
    let good = rig.authority.client("secc-1", Validity::Good).expect("a client");
    let mut mirror = Station::of(&good).mirror(port);
    let script = Script::of("din-dc", 1);
    let (first, rest) = script.frames.split_at(script.frames.len() / 2);
    mirror.send(0, 1, b"");
    first.iter().for_each(|(kind, frame)| mirror.send(*kind, 1, frame));

    // The same name, another key: what a second installation of the same PKI looks like.
    let other = Authority::new(&rig.path("other"), "depot ca").expect("a ca");
    let stranger = other.client("secc-1", Validity::Good).expect("one");
    let named = Authority::new(&rig.path("third"), "another ca").expect("a ca").client("secc-1", Validity::Good);
    let named = named.expect("one");
    let expired = rig.authority.client("secc-2", Validity::Expired).expect("one");
    let not_yet = rig.authority.client("secc-3", Validity::NotYet).expect("one");
    let server = rig.authority.server_known_as("secc-4", Validity::Good).expect("one");
    let ours = rig.authority.ca();
    let trusting = |own| Station { ca: &ours, own, version: &rustls::version::TLS13 };
    let cases = [
        ("tls_unknown_ca", trusting(Some(&stranger)), "not signed by ca"),
        ("tls_unknown_ca", trusting(Some(&named)), "not signed by ca"),
        ("tls_no_certificate", trusting(None), "give the sender a client certificate"),
        ("tls_expired", trusting(Some(&expired)), "has expired by this box's clock"),
        ("tls_not_yet_valid", trusting(Some(&not_yet)), "check the clock"),
        ("tls_purpose", trusting(Some(&server)), "clientAuth"),
        (
            "tls_refused",
            Station { ca: &stranger.ca, ..Station::of(&good) },
            "does not know the CA of this gateway's certificate",
        ),
        ("tls_version", Station { version: &rustls::version::TLS12, ..Station::of(&good) }, "must offer TLS 1.3"),
    ];
    for (reason, station, remedy) in &cases {
        assert_not_let_in(&mut rig, port, reason, station, remedy);
    }
    rig.wait_for_status("both strangers", |status| status.number(&refused("tls_unknown_ca")) == Some(2));

    // Plain records, a web browser, and one that comes and goes.
    let mut plain = Mirror::connect_tcp(port);
    plain.send(0, 1, b"");
    rig.wait_for_status("plain records", |status| status.number(&refused("tls_not_spoken")) == Some(1));
    Mirror::connect_tcp(port).raw(b"GET / HTTP/1.1\r\n\r\n");
    rig.wait_for_status("a browser", |status| status.number(&refused("tls_not_spoken")) == Some(2));
    drop(TcpStream::connect(("127.0.0.1", port)).expect("the door is open"));
    rig.wait_for_status("one that goes", |status| status.number(&refused("tls_cut")) == Some(1));

    // 40 that say nothing: the oldest give way, and a good one is let in at once beside them.
    let silent: Vec<TcpStream> =
        (0..40).map(|_| TcpStream::connect(("127.0.0.1", port)).expect("the door is open")).collect();
    let second = Station::of(&good).mirror(port);
    let log = rig.agent.log();
    let is_in = || {
        let log = fs::read_to_string(&log).map_err(|error| error.to_string())?;
        if log.matches("a sender was let in").count() == 2 { Ok(()) } else { Err(log) }
    };
    wait_for(SOON, "the good one", is_in).unwrap_or_else(|late| panic!("{late}"));
    rig.wait_for_status("who gave way, before the silent were given up", |status| {
        let count = |reason| status.number(&refused(reason));
        count("tls_crowded").is_some_and(|count| count >= 24) && count("tls_timeout").is_none()
    });
    rig.wait_for_status("the rest of the silent", |status| {
        let count = |reason| status.number(&refused(reason)).unwrap_or(0);
        count("tls_timeout") >= 15 && count("tls_timeout") + count("tls_crowded") >= 40
    });
    drop((silent, second));

    let config = rig.agent.config().display().to_string();
    // A person sees the last of it, and what has been heard all the while is whole.
    let (_, shown) = rig.agent.ask(&["status", "--config", &config]).expect("it runs");
    assert!(shown.contains("look at   evse-1 answers, but at its bus plc: the sender 127.0.0.1:"), "{shown}");
    assert!(shown.contains("senders not let in: ") && shown.contains("2 tls_unknown_ca"), "{shown}");
    rest.iter().for_each(|(kind, frame)| mirror.send(*kind, 1, frame));
    let ended = rig.wait_for("the session's end", |heard| {
        heard.events_of("evse-1", "session_ended").first().map(|line| (*line).clone())
    });
    assert_eq!(text(&ended, "how"), "terminated");
    assert_eq!(ended.count("unreadable"), Ok(0), "a handshake is no frame");
    assert!(rig.heard().events_of("evse-1", "feed_lost").is_empty());
    // One warning for each name: 60 failures are no storm.
    let log = fs::read_to_string(rig.agent.log()).expect("its log");
    let warnings = log.lines().filter(|line| line.contains("was not let in")).count();
    let names = cases.len() - 1 + 4;
    assert!((names..=2 * names).contains(&warnings), "{warnings} warnings of {names} names");
}

#[test]
fn certificates_of_a_mirror_come_are_mended_and_renewed_without_a_restart() {
    let port = hil_tests::port::free_port();
    let tables = guarded(port, 1).replace("{dir}/tls", "{dir}/mirror");
    let mut rig = Rig::start(&tables);
    let epoch = rig.agent.status().expect("it runs").epoch();
    let told = |rig: &mut Rig, pointer: &'static str, part: &'static str| {
        rig.wait_for_status(part, |status| status.text(pointer).is_some_and(|text| text.contains(part)));
    };
    let (failure, trouble) = ("/devices/evse-1/last_failure", "/devices/evse-1/trouble");
    let is_silent = |rig: &mut Rig, is: bool| {
        rig.wait_for_status("whether it can be heard", |status| {
            (status.text("/devices/evse-1/state/silent") == Some("bus_off")) == is
        });
    };

    // Nothing is there, and `check` says so; then a key that others can read; then all is well.
    told(&mut rig, failure, "ca.pem cannot be read");
    is_silent(&mut rig, true);
    let config = rig.agent.config().display().to_string();
    let (exit, _) = rig.agent.ask(&["check", "--config", &config]).expect("it can be asked");
    assert_eq!(exit.code(), Some(2), "check wants the files to be there");
    let place = rig.path("mirror");
    let authority = Authority::new(&place, "stations ca").expect("a ca");
    let ours = authority.server(Validity::Good).expect("a server certificate");
    fs::set_permissions(&ours.key, fs::Permissions::from_mode(0o640)).expect("ours");
    told(&mut rig, failure, "mend it with `chmod 600");
    fs::set_permissions(&ours.key, fs::Permissions::from_mode(0o600)).expect("ours");
    let old = authority.client("secc-1", Validity::Good).expect("a client");
    let mut mirror = Station::of(&old).mirror(port);
    mirror.send(0, 1, b"");
    is_silent(&mut rig, false);

    // A file that is none: the ones before are used further.
    let good = rig.path("good.pem");
    fs::copy(&ours.certificate, &good).expect("copied");
    fs::write(&ours.certificate, "not a certificate\n").expect("ours");
    told(&mut rig, trouble, "holds no certificate in PEM form");
    told(&mut rig, trouble, "until it is mended the files before are used further");
    Station::of(&old).mirror(port).send(0, 1, b"");
    put(&good, &ours.certificate);
    rig.wait_for_status("that it is mended", |status| status.text(trouble).is_none());

    // Another PKI altogether: who comes now needs its certificates, and the feed that stands stands on.
    let renewed = Authority::new(&rig.path("renewed"), "stations ca of next year").expect("a ca");
    let theirs = renewed.server(Validity::Good).expect("one");
    put(&theirs.ca, &ours.ca);
    put(&theirs.certificate, &ours.certificate);
    put(&theirs.key, &ours.key);
    let new = renewed.client("secc-1", Validity::Good).expect("one");
    let mut second = Station::of(&new).mirror(port);
    second.send(0, 1, b"");
    let of_last_year = Station { ca: &new.ca, ..Station::of(&old) };
    if let Ok(mut stream) = of_last_year.connect(port) {
        let _ = stream.write_all(b"x");
        let _ = stream.read(&mut [0; 16]);
    }
    rig.wait_for_status("who is of last year", |status| status.number(&refused("tls_unknown_ca")) == Some(1));
    Script::of("din-dc", 1).frames.iter().for_each(|(kind, frame)| mirror.send(*kind, 1, frame));
    rig.wait_for("the session over the feed that stood", |heard| {
        let ended = heard.events_of("evse-1", "session_ended");
        ended.into_iter().any(|line| text(line, "how") == "terminated").then_some(())
    });
    assert_eq!(rig.agent.status().expect("it runs").epoch(), epoch, "it has lived through all of it in one life");

    // One that has expired: a sender says little of it, we say more.
    let over = renewed.server_known_as("over", Validity::Expired).expect("one");
    put(&over.key, &ours.key);
    put(&over.certificate, &ours.certificate);
    assert!(Station::of(&new).connect(port).is_err(), "it does not believe us");
    told(&mut rig, failure, "localhost.pem has expired on 2001-01-01");
    told(&mut rig, failure, "renew it");
    let (exit, found) = rig.agent.ask(&["doctor", "--config", &config]).expect("it can be asked");
    assert_eq!(exit.code(), Some(1), "{found}");
    assert!(found.lines().any(|line| line.contains("mirror/localhost.pem") && line.contains("has expired")), "{found}");
}
