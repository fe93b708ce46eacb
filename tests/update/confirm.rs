//! What becomes of a version that delivers, and of one that does not.

use std::fs;

use hil_tests::agent::MeterSetup;
use hil_tests::scripted::{Do, Script, ScriptedBroker};
use hil_tests::wait::wait_for;

use crate::gateway::{Gateway, OLD, event, events, wait_for_events};
use crate::stage::SOON;

/// More than a busy machine needs; a version that delivers is confirmed after 20 s.
const LONG: &str = "5m";

/// One that runs version A, delivers, and has answered its meter.
fn running(broker: &ScriptedBroker) -> Gateway {
    let mut gateway = Gateway::new();
    gateway.stage.start(&[broker.url()], "");
    gateway.stage.wait_until_online();
    gateway.stage.wait_for_status("an answer of the meter", |status| {
        status.text("/devices/grid-main/state") == Some("answering")
    });
    gateway
}

#[test]
fn a_version_that_delivers_is_confirmed_and_each_event_is_told_once_whatever_is_killed() {
    let broker = ScriptedBroker::start(Script::default());
    let mut gateway = running(&broker);
    let said = gateway.install();
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.out.starts_with("installed: 9.9.9 runs after the next boot (systemctl reboot)"), "{}", said.out);
    assert!(said.err.contains("100% Installing done."), "progress: {}", said.err);
    let bundle = gateway.bundle().display().to_string();
    assert_eq!(
        gateway.asked(),
        [format!("info --output-format=json {bundle}"), format!("install --progress {bundle}")]
    );
    let record = gateway.record();
    let of =
        |pointer: &str| record.pointer(pointer).map(|value| value.to_string().replace('"', "")).unwrap_or_default();
    let told = ["/state", "/from/version", "/from/slot", "/to/version", "/to/slot", "/buses"].map(of);
    assert_eq!(told, ["installed", OLD, "A", "9.9.9", "B", "[lan]"]);
    wait_for_events(&broker, &[event("started")]);
    let status = gateway.update(&["status"]);
    assert_eq!(status.code, Some(1));
    assert!(status.out.contains("installed; it runs after the next boot"), "{}", status.out);
    // Nothing is decided before the boot.
    assert_eq!(gateway.update(&["confirm"]).code, Some(0));
    assert_eq!(gateway.asked().len(), 2);

    gateway.reboots_into("B");
    gateway.starts();
    let said = gateway.update(&["confirm", "--within", LONG]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert!(said.err.contains("it delivers, and stays"), "{}", said.err);
    assert_eq!(gateway.asked().last().map(String::as_str), Some("status mark-good"));
    wait_for_events(&broker, &[event("started"), event("confirmed")]);
    // Killed at once, and again: what was told is not told again.
    for _ in 0..2 {
        gateway.stage.agent.kill9().expect("it is ours");
        gateway.starts();
        gateway.stage.wait_until_online();
    }
    // The next boot of this slot asks for nothing.
    assert_eq!(gateway.update(&["confirm"]).code, Some(0));
    assert_eq!(gateway.asked().iter().filter(|call| *call == "status mark-good").count(), 2);
    let status = gateway.update(&["status", "--json"]);
    assert!(status.code == Some(0) && status.out.contains("\"state\":\"confirmed\""), "{}", status.out);
    gateway.stage.judge(|| broker.messages());
    assert_eq!(events(&broker.messages()), [event("started"), event("confirmed")]);
}

#[test]
fn a_version_that_gets_no_acknowledgement_goes_back_and_the_old_one_says_why() {
    let broker = ScriptedBroker::start(Script::default());
    let mut gateway = running(&broker);
    assert_eq!(gateway.install().code, Some(0));
    wait_for_events(&broker, &[event("started")]);

    // The new version is let in and not answered. (Both boots of this test are one of the kernel: what an earlier one has left, and
    // is acknowledged in the new one, is told apart in src/uplink/task_tests.rs.)
    broker.change(|script| script.answers = Box::new(|_| Do::Withhold));
    gateway.reboots_into("B");
    gateway.starts();
    let awaited = "the broker's acknowledgement of something recorded since this boot";
    gateway.stage.wait_for_status_within(4 * SOON, "that nothing else is waited for", |status| {
        status.text("/update/waits_for/0") == Some(awaited) && status.text("/update/waits_for/1").is_none()
    });
    let said = gateway.update(&["confirm", "--within", "1s"]);
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert!(said.err.contains(&format!("at the next boot {OLD} runs again")), "{}", said.err);
    assert_eq!(gateway.asked().last().map(String::as_str), Some("status mark-bad"));

    // Back in the old one, which can deliver.
    broker.change(|script| script.answers = Box::new(|_| Do::Ack(0)));
    gateway.reboots_into("A");
    gateway.starts();
    let said = gateway.update(&["confirm"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(gateway.asked().last().map(String::as_str), Some("status mark-good"));
    let look = || match events(&broker.messages()) {
        told if told.len() >= 2 => Ok(told),
        told => Err(format!("{told:?}")),
    };
    let told = wait_for(SOON, "the end of the update", look).unwrap_or_else(|late| panic!("{late}"));
    assert_eq!(told[0], event("started"));
    let reason = told[1].strip_prefix(&format!("{},reason=", event("rolled_back"))).expect("rolled back");
    assert_eq!(reason, format!("\"not within the time that it had: {awaited}\""));
    let status = gateway.update(&["status"]);
    assert!(
        status.code == Some(1) && status.out.contains(&format!("did not stay, {OLD} runs again")),
        "{}",
        status.out
    );
    gateway.stage.judge(|| broker.messages());
    assert_eq!(events(&broker.messages()).len(), 2);
}

#[test]
fn a_bus_that_answered_before_and_does_not_now_is_named_and_one_that_is_no_longer_configured_is_not_waited_for() {
    let broker = ScriptedBroker::start(Script::default());
    let mut gateway = running(&broker);
    assert_eq!(gateway.install().code, Some(0));
    gateway.reboots_into("B");
    gateway.stage.setup.meters = vec![MeterSetup::sdm630("grid-main", "127.0.0.1:9")];
    gateway.stage.agent.configure(&gateway.stage.setup).expect("ours");
    gateway.starts();
    let lan = "something read from bus lan";
    gateway.stage.wait_for_status_within(4 * SOON, "that nothing else is waited for", |status| {
        status.text("/update/waits_for/0") == Some(lan)
    });
    let said = gateway.update(&["confirm", "--within", "1s"]);
    assert!(said.code == Some(1) && said.err.contains(lan), "{}", said.err);
    assert!(gateway.record()["why"].as_str().is_some_and(|why| why.contains(lan)), "{}", gateway.record());
    gateway.stage.wait_for_status_within(4 * SOON, "that nothing else is waited for", |status| {
        status.text("/update/waits_for/0") == Some(lan) && status.text("/update/state") == Some("confirming")
    });
    let (code, shown) = gateway.stage.agent.ask(&["status", "--config", &config(&gateway)]).expect("asked");
    let told = format!("it is not confirmed yet, and waits for {lan}; without it the box goes back to {OLD}");
    assert!(code.code() == Some(1) && shown.contains(&told), "{shown}");

    // Another try, without that bus: a gateway without devices is confirmed by what it has to tell itself.
    gateway.stage.setup.meters.clear();
    gateway.stage.agent.configure(&gateway.stage.setup).expect("ours");
    gateway.stage.agent.reload().expect("it runs");
    let said = gateway.update(&["confirm", "--within", LONG]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    wait_for_events(&broker, &[event("started"), event("confirmed")]);
}

#[test]
fn a_version_whose_gateway_does_not_run_goes_back() {
    let broker = ScriptedBroker::start(Script::default());
    let mut gateway = running(&broker);
    assert_eq!(gateway.install().code, Some(0));
    gateway.reboots_into("B");
    // A service of RAUC that hangs keeps the box from nothing.
    gateway.says("hangs", "status mark-bad");
    let said = gateway.update(&["confirm", "--within", "1s"]);
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert!(said.err.contains("an answer of the gateway: it does not run"), "{}", said.err);
    assert!(said.err.contains("`rauc status mark-bad` has not ended within 30 s, and was killed"), "{}", said.err);
    gateway.says_no_more("hangs");
    assert_eq!(gateway.asked().last().map(String::as_str), Some("status mark-bad"));
    // Also one that never came so far as to say why.
    let mut record = gateway.record();
    record.as_object_mut().expect("an object").remove("why");
    fs::write(gateway.state().join("update.json"), record.to_string()).expect("ours");
    gateway.boots("A");
    assert_eq!(gateway.update(&["confirm"]).code, Some(0));
    assert!(gateway.record()["why"].as_str().is_some_and(|why| why.contains("did not boot, crashed, hung")));
}

#[test]
fn what_rauc_was_told_to_install_by_somebody_else_must_deliver_too() {
    let broker = ScriptedBroker::start(Script::default());
    let mut gateway = running(&broker);
    // The first look at this box: what runs is good.
    assert_eq!(gateway.update(&["confirm"]).code, Some(0));
    // One whose gateway does not run.
    gateway.stage.agent.kill9().expect("it is ours");
    gateway.boots("B");
    let said = gateway.update(&["confirm", "--within", "1s"]);
    assert!(said.code == Some(1) && said.err.contains("update from slot-A to slot-B: not confirmed"), "{}", said.err);
    assert_eq!(gateway.asked(), ["status mark-good", "status mark-bad"]);
    gateway.boots("A");
    gateway.starts();
    assert_eq!(gateway.update(&["confirm"]).code, Some(0));
    let look = || match events(&broker.messages()) {
        told if told.len() >= 2 => Ok(told),
        told => Err(format!("{told:?}")),
    };
    let told = wait_for(SOON, "both events", look).unwrap_or_else(|late| panic!("{late}"));
    assert!(told[1].starts_with("rolled_back from_version=\"slot-A\",to_version=\"slot-B\",reason="), "{told:?}");
    // By now somebody has mended it: one that delivers is known from then on.
    gateway.boots("B");
    let said = gateway.update(&["confirm", "--within", LONG]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!(gateway.update(&["confirm", "--within", "1s"]).code, Some(0));
    assert_eq!(gateway.asked()[2..], ["status mark-good"; 3]);
}

/// What was good at the first look was whatever ran, and the slot that RAUC calls bad was marked good.
#[test]
fn a_slot_that_rauc_has_written_and_calls_bad_is_not_taken_as_good_at_the_first_look() {
    let gateway = Gateway::new();
    gateway.boots_as("B", "bad");
    let said = gateway.update(&["confirm", "--within", "1s"]);
    assert!(said.code == Some(1) && said.err.contains("update from slot-A to slot-B: not confirmed"), "{}", said.err);
    assert_eq!(gateway.asked(), ["status mark-bad"]);
    // And the other one is what the box goes back to.
    gateway.boots("A");
    assert_eq!(gateway.update(&["confirm"]).code, Some(0));
    assert_eq!(gateway.update(&["confirm"]).code, Some(0));
    assert_eq!(gateway.asked(), ["status mark-bad", "status mark-good", "status mark-good"]);
}

/// The slot was marked before anything was recorded: a version that had delivered had to deliver again, and went back if the broker was
/// away by then; or the record would have said that it was confirmed, and the slot was not marked.
#[test]
fn a_power_cut_at_any_step_of_a_confirmation_leaves_a_version_that_has_delivered_in_place_or_says_that_it_went_back() {
    let broker = ScriptedBroker::start(Script::default());
    let mut gateway = running(&broker);
    assert_eq!(gateway.install().code, Some(0));
    gateway.reboots_into("B");
    gateway.starts();
    gateway.says("cut", "status --detailed>status mark-good");
    assert_eq!(gateway.update(&["confirm", "--within", LONG]).code, None, "it was killed while the slot was marked");
    assert_eq!((&gateway.record()["state"], &gateway.record()["delivered"]), (&"confirming".into(), &true.into()));

    // From here on no gateway runs: what was shown need not be shown again.
    gateway.stage.agent.kill9().expect("it is ours");
    let before = gateway.record();
    assert_eq!(gateway.update(&["status"]).code, Some(1));
    gateway.says("cut", "status mark-good>status --detailed");
    assert_eq!(gateway.update(&["confirm", "--within", "1s"]).code, None, "and after it was marked");
    assert_eq!(gateway.record(), before, "what is good is noted first");
    gateway.says_no_more("cut");
    let said = gateway.update(&["confirm", "--within", "1s"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    assert_eq!((&gateway.record()["state"], gateway.record().get("delivered")), (&"confirmed".into(), None));
    assert_eq!(gateway.update(&["confirm", "--within", "1s"]).code, Some(0), "it is known as good");
    assert_eq!(gateway.asked()[2..], ["status mark-good"; 4]);

    // The bootloader had no try left.
    fs::write(gateway.state().join("update.json"), before.to_string()).expect("ours");
    gateway.boots("A");
    assert_eq!(gateway.update(&["confirm"]).code, Some(0));
    let record = gateway.record();
    assert_eq!(record["state"], "rolled_back");
    assert_eq!(record["why"], "it delivered, and its slot could not be marked good in time");
}

#[test]
fn an_update_that_takes_the_place_of_one_that_was_not_booted_ends_it() {
    let broker = ScriptedBroker::start(Script::default());
    let gateway = running(&broker);
    assert_eq!([gateway.install().code, gateway.install().code], [Some(0), Some(0)]);
    let failed = format!("{},reason=\"another update takes its place before it was booted\"", event("failed"));
    wait_for_events(&broker, &[event("started"), failed, event("started")]);
}

fn config(gateway: &Gateway) -> String {
    gateway.stage.agent.config().display().to_string()
}
