//! Show 1, the line's half: outages one after another, against a real mosquitto with TLS behind a line that can be cut,
//! reset in the midst of a packet, slowed and frozen.

use std::time::Duration;

use hil_tests::broker::{Broker, Options};
use hil_tests::certs::Validity;
use hil_tests::consumer::{Consumer, Endpoint};
use hil_tests::proxy::Proxy;
use hil_tests::seed::Seed;
use hil_tests::wait::{let_pass, wait_for};

use crate::stage::{GATEWAY, SOON, Stage, kill_behind};

/// How many outages, and how long the longest is.
fn plan() -> (usize, Duration) {
    match std::env::var_os("HIL_LONG") {
        Some(_) => (50, Duration::from_secs(60)),
        None => (6, Duration::from_secs(3)),
    }
}

#[test]
fn outages_of_every_kind_one_after_another_leave_no_gap_and_no_changed_duplicate() {
    let mut seed = Seed::from_env();
    let mut stage = Stage::set();
    let server = stage.authority.server(Validity::Good).expect("a server certificate");
    // Nothing that the broker has acknowledged waits in it for room with its consumer.
    let options = Options { receive_maximum: 1_000, ..Options::default() };
    let mut broker = Broker::start(&stage.dir.path().join("broker"), &server, options).expect("a broker");
    let line = Proxy::start(broker.tls_port());
    let endpoint = Endpoint::Plain(broker.plain_port());
    let consumer = Consumer::start(stage.dir.path(), &endpoint, "judge", &["v2g/#"]).expect("a consumer");
    stage.start(&[format!("mqtts://127.0.0.1:{}", line.port())], "");
    stage.wait_until_online();

    let (outages, longest) = plan();
    for n in 0..outages {
        let length = seed.between(Duration::from_secs(1), longest);
        // Each kind in turn, so that a short run has all of them.
        let kind = n % 6;
        println!("outage {n} of kind {kind}: {length:?}");
        match kind {
            0 => {
                broker.stop().expect("it ran");
                let_pass(length);
                broker.start_again().expect("it comes back");
            }
            1 => {
                kill_behind(&line, &mut broker);
                let_pass(length);
                broker.start_again().expect("it comes back");
            }
            2 => {
                broker.freeze().expect("it ran");
                let_pass(length);
                broker.thaw().expect("it was frozen");
            }
            3 => {
                // Somewhere in the second message from here.
                line.reset_after(200 + usize::try_from(seed.below(1_200)).expect("small"));
                let reset = || if line.has_reset() { Ok(()) } else { Err("it passes".to_owned()) };
                wait_for(SOON, "the reset", reset).unwrap_or_else(|late| panic!("{late}"));
            }
            4 => {
                line.freeze(true);
                let_pass(length);
                line.freeze(false);
            }
            _ => {
                line.close();
                let_pass(length);
                line.open();
            }
        }
        line.delay(Duration::from_millis(seed.below(40)));
        stage.wait_until_online();
        stage.wait_until_drained();
        stage.wait_until_heard(&consumer);
    }
    line.delay(Duration::ZERO);
    let judgement = stage.judge(|| consumer.messages());
    assert!(judgement.tally(GATEWAY).historical > 0, "nothing came by the history lane: {judgement}");
    assert!(judgement.tally(GATEWAY).gaps.is_empty(), "nothing was to be given up: {judgement}");
}

#[test]
fn a_link_that_freezes_is_noticed_within_its_keep_alive() {
    let mut stage = Stage::set();
    let server = stage.authority.server(Validity::Good).expect("a server certificate");
    let broker = Broker::start(&stage.dir.path().join("broker"), &server, Options::default()).expect("a broker");
    let line = Proxy::start(broker.tls_port());
    stage.start(&[format!("mqtts://127.0.0.1:{}", line.port())], "");
    stage.wait_until_online();
    line.freeze(true);
    // 5 s of keep-alive, and a busy machine.
    stage.wait_for_status_within(Duration::from_secs(7), "that it is not online", |status| !status.is_online());
    line.freeze(false);
    stage.wait_until_online();
    stage.wait_until_drained();
}
