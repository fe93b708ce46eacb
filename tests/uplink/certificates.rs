//! Show 6: what can be wrong with certificates, each with its own words, and each mended while the agent runs.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use hil_tests::broker::{Broker, Options};
use hil_tests::certs::{Authority, Validity};
use hil_tests::consumer::{Consumer, Endpoint};

use crate::stage::{GATEWAY, Stage};

/// In place of what is there, as a person or a tool would: a new file under the same name.
fn put(from: &Path, to: &Path) {
    let new = to.with_extension("new");
    fs::copy(from, &new).expect("copied");
    fs::rename(&new, to).expect("renamed");
}

#[test]
fn every_trouble_with_certificates_has_its_own_words_and_is_mended_without_a_restart() {
    let mut stage = Stage::set();
    let dir = stage.dir.path().to_owned();
    let server = stage.authority.server(Validity::Good).expect("a server certificate");
    let options = Options { listen: Ipv4Addr::UNSPECIFIED, ..Options::default() };
    let mut broker = Broker::start(&dir.join("broker"), &server, options).expect("a broker");
    let endpoint = Endpoint::Plain(broker.plain_port());
    let consumer = Consumer::start(&dir, &endpoint, "judge", &["v2g/#"]).expect("a consumer");
    let ours = stage.setup.tls.clone();
    let good = dir.join("good");
    fs::create_dir(&good).expect("made");
    for path in [&ours.ca, &ours.certificate, &ours.key, &server.certificate, &server.key] {
        fs::copy(path, good.join(path.file_name().expect("a file"))).expect("copied");
    }
    let keep = |path: &Path| put(&good.join(path.file_name().expect("a file")), path);
    let of = |authority: &str| Authority::new(&dir.join(authority), "another ca").expect("a ca");

    stage.start(&[broker.url()], "");
    stage.wait_until_online();
    let epoch = stage.agent.status().expect("it runs").epoch();

    // Ours has expired: the broker says so, and so do we.
    let expired = stage.authority.client("expired", Validity::Expired).expect("one");
    put(&expired.certificate, &ours.certificate);
    put(&expired.key, &ours.key);
    stage.wait_for_trouble("", "has expired on 2001-01-01");
    keep(&ours.certificate);
    keep(&ours.key);
    stage.wait_until_online();

    // A CA that has not signed the broker's.
    put(&of("other").ca(), &ours.ca);
    stage.wait_for_trouble("UnknownIssuer", "not signed by [uplink.tls] ca");
    keep(&ours.ca);
    stage.wait_until_online();

    // A certificate of ours that the broker does not believe.
    let stranger = of("stranger").client(GATEWAY, Validity::Good).expect("one");
    put(&stranger.certificate, &ours.certificate);
    put(&stranger.key, &ours.key);
    stage.wait_for_trouble("", "does not know the CA of this gateway's certificate");
    keep(&ours.certificate);
    keep(&ours.key);
    stage.wait_until_online();

    // The broker's is for another name, has expired, is not valid yet (a box in 2001 sees it so); a reissue mends it.
    for (validity, cause, remedy) in [
        (Validity::Expired, "certificate expired", "the broker's certificate has expired by this box's clock"),
        (Validity::NotYet, "not valid yet", "check the clock"),
    ] {
        let odd = stage.authority.server_known_as("odd", validity).expect("one");
        put(&odd.certificate, &server.certificate);
        put(&odd.key, &server.key);
        broker.stop().expect("it ran");
        broker.start_again().expect("it comes back");
        stage.wait_for_trouble(cause, remedy);
        keep(&server.certificate);
        keep(&server.key);
        broker.stop().expect("it ran");
        broker.start_again().expect("it comes back");
        stage.wait_until_online();
    }

    // A key that others may read is not used, and a connection that stands stands on.
    fs::set_permissions(&ours.key, fs::Permissions::from_mode(0o640)).expect("ours");
    stage.wait_for_trouble("chmod 600", "mend the file");
    assert!(stage.agent.status().expect("it runs").is_online());
    broker.stop().expect("it ran");
    broker.start_again().expect("it comes back");
    stage.wait_for_status("that it is not online", |status| !status.is_online());
    fs::set_permissions(&ours.key, fs::Permissions::from_mode(0o600)).expect("ours");
    stage.wait_until_online();

    // A file that is no certificate.
    fs::write(&ours.certificate, "not a certificate\n").expect("ours");
    stage.wait_for_trouble("holds no certificate in PEM form", "mend the file");
    keep(&ours.certificate);

    // The name.
    stage.setup.brokers = vec![broker.url().replace("127.0.0.1", "127.0.0.2")];
    stage.agent.configure(&stage.setup).expect("the file is ours");
    assert_eq!(stage.agent.status().expect("it runs").epoch(), epoch, "it has lived through all of it in one life");
    stage.agent.reload().expect("it runs");
    stage.wait_for_trouble("not valid for name", "for another name");
    let named = stage.authority.server_known_as("127.0.0.2", Validity::Good).expect("one");
    put(&named.certificate, &server.certificate);
    put(&named.key, &server.key);
    broker.stop().expect("it ran");
    broker.start_again().expect("it comes back");
    stage.wait_until_online();
    stage.judge(|| consumer.messages());
}
