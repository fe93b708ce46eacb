//! A depot of fifty charge points and ten meters through an outage and three kills: what is told of it at the broker is what was so.
//!
//! Polls and windows are 1 s long. `HIL_SEED` repeats the depot of a run that failed. The same with a CAN bus and a power cut in a booted box:
//! `hil-tests/tests/rig/depot.rs`.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hil_tests::depot::{Calm, Depot, Down, Feed, judge, profiles};
use hil_tests::oracle::{Kind, Message, Oracle};
use hil_tests::seed::Seed;
use hil_tests::stage::{GATEWAY, Play, Stage};
use hil_tests::wait::unix_ns;

const SOON: Duration = Duration::from_secs(60);
/// In between the agent is killed.
const CALMS: [Calm; 4] = [(3.0, 13.0), (19.0, 29.0), (35.0, 45.0), (51.0, 61.0)];
const KILLS: [f64; 3] = [14.5, 30.5, 46.5];
/// The second kill is in the midst of it.
const OUTAGE: (f64, f64) = (25.0, 40.0);
/// One clock, and a reply that is on its way.
const SLACK_NS: i64 = 250_000_000;

#[test]
fn a_depot_is_told_as_it_was_through_an_outage_and_three_kills() {
    let mut seed = Seed::from_env();
    let depot = Depot::start(&mut seed, &CALMS, false).expect("ports");
    let binary =
        std::env::var_os("V2G_EDGE_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_v2g-edge")), PathBuf::from);
    let mut stage = Stage::start(Play {
        binary: Path::new(&binary),
        window: "1s",
        tables: depot.tables("127.0.0.1", "unix:{dir}/mirror.sock", "can0"),
        files: profiles(),
        soon: SOON,
    });
    let socket = stage.path("mirror.sock");
    let sessions = depot.begin(move || UnixStream::connect(&socket).map(|stream| Box::new(stream) as Feed));
    let mut downs = Vec::new();
    for kill in KILLS {
        if kill > OUTAGE.0 && downs.len() == 1 {
            depot.run_until(OUTAGE.0);
            stage.broker.stop().expect("it ends");
        }
        depot.run_until(kill);
        let from_ns = unix_ns();
        stage.agent.kill9().expect("it runs");
        stage.agent.start().expect("it starts again");
        stage.wait_for_status("that it answers", |_| true);
        downs.push(Down { from_ns, to_ns: unix_ns() });
        if kill > OUTAGE.0 && downs.len() == 2 {
            depot.run_until(OUTAGE.1);
            stage.broker.start_again().expect("it comes back");
        }
    }
    depot.run_until(CALMS[3].1 + 3.0);
    sessions.join().expect("every session was played");
    let status = stage
        .wait_for_status("an empty backlog", |status| status.is_online() && status.waiting().is_some_and(|n| n <= 2));
    assert!(stage.agent.terminate(Duration::from_secs(15)).expect("it ends").success(), "{}", stage.agent.log_tail());
    stage.wait_for_offline();

    let messages = stage.consumer.messages();
    let mut oracle = Oracle::new();
    oracle.take_all(&messages);
    let last = oracle.judge().tally(GATEWAY).range.map_or(0, |(_, last)| last.max(status.durable().unwrap_or(0)));
    oracle.expect_range(GATEWAY, 1, last);
    let judgement = oracle.judge();
    println!("{judgement}");
    judgement.assert_passed();
    assert_eq!((judgement.tally(GATEWAY).epochs, judgement.count(Kind::Gap)), (4, 0));
    let verdict = judge(&depot, &messages, &downs, |_| 0, SLACK_NS);
    println!("{verdict}");
    verdict.assert_passed();
    assert_what_is_changed_is_found(&depot, &messages, &downs);
}

/// The control: a judge that finds nothing in what is not so would prove nothing.
fn assert_what_is_changed_is_found(depot: &Depot, messages: &[Message], downs: &[Down]) {
    let changed = |from: &str, to: &str| -> Vec<Message> {
        let change = |message: &Message| {
            let text = String::from_utf8_lossy(&message.payload).replace(from, to);
            Message { payload: text.into_bytes(), ..message.clone() }
        };
        messages.iter().map(change).collect()
    };
    // Far from a kill: what was not made durable before one may be lost.
    let is_quiet = |message: &Message| message.received_ns > downs[0].to_ns + 7_000_000_000;
    let place = messages.iter().position(|m| m.topic.ends_with("/telemetry") && is_quiet(m)).expect("windows");
    let lost = [&messages[..place], &messages[place + 1..]].concat();
    for (what, told) in [
        ("a window is lost", lost),
        ("a direction is the other one", changed("device=evse-03,direction=G2V", "device=evse-03,direction=V2G")),
        ("an energy is more", changed("energy_export_delta=0.00", "energy_export_delta=0.01")),
        ("a session is another", changed("reason=\"terminated\"", "reason=\"superseded\"")),
        ("a power is half", changed("power_flow=4", "power_flow=2")),
    ] {
        let verdict = judge(depot, &told, downs, |_| 0, SLACK_NS);
        assert!(!verdict.findings.is_empty(), "nobody has noticed that {what}");
    }
}
