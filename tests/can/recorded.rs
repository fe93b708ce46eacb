//! Recordings and DBC files that were read wrongly once, through the program: each file of `tests/data/can` is a kind of fault.

use std::path::PathBuf;

use hil_tests::oracle::Value;
use hil_tests::wait::wait_for;

use super::{CHADEMO, Rig, SOON, compare, lines, probe};

fn data(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/can")).join(name)
}

fn path(name: &str) -> String {
    data(name).to_str().expect("plain").to_owned()
}

#[test]
fn constructs_of_other_tools_have_the_values_that_cantools_reads() {
    for dbc in [
        "dbc-comment-holds-BO.dbc",
        "dbc-factor-enddot.dbc",
        "dbc-factor-zero.dbc",
        "dbc-independent-0x40000000.dbc",
        "dbc-val-u64.dbc",
    ] {
        let (frames, values) = compare(&data(dbc), &data("one-frame.log"));
        assert!(frames == 1 && values >= 1, "{dbc}: {frames} frames, {values} values");
    }
}

#[test]
fn a_mistake_of_a_dbc_file_is_told_with_its_line_and_what_is_right_in_it_is_read() {
    for (dbc, part, is_read) in [
        ("dbc-one-bad-id.dbc", "dbc-one-bad-id.dbc:11: ", true),
        ("dbc-signal-beyond.dbc", "the signal T needs 3 bytes", true),
        ("dbc-dup-signal.dbc", "two signals T", false),
    ] {
        let output = probe(&["--log", &path("one-frame.log"), "--dbc", &path(dbc), "--frames", "--json"]);
        assert_eq!(output.status.code(), Some(1), "{dbc}");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains(part), "{dbc}: {told}");
        let signals =
            lines(&output).into_iter().filter_map(|line| Some(line["signals"].as_object()?.len())).sum::<usize>();
        assert!(!is_read || signals > 0, "{dbc}");
    }
}

/// An engine, and two others that send the same parameter group.
#[test]
fn a_parameter_group_is_decoded_from_every_source_address() {
    for dbc in ["j1939-enum-index.dbc", "j1939-vector.dbc"] {
        let output = probe(&["--log", &path("j1939.log"), "--dbc", &path(dbc), "--frames", "--json"]);
        let speeds: Vec<_> =
            lines(&output).iter().map(|line| line["signals"]["EngineSpeed"]["value"].as_f64()).collect();
        assert_eq!(speeds, [499.375, 1_011.375, 1_523.375].map(Some), "{dbc}");
    }
}

#[test]
fn a_recording_of_two_interfaces_is_read_once_one_is_named() {
    let log = path("two-interfaces.log");
    let both = probe(&["--log", &log, "--dbc", "chademo.dbc", "--json"]);
    let told = String::from_utf8_lossy(&both.stderr).into_owned() + &String::from_utf8_lossy(&both.stdout);
    assert!(both.status.code() == Some(1) && told.contains("can0 and can1"), "{told}");
    for (interface, volts) in [("can0", 400), ("can1", 350)] {
        let one = probe(&[interface, "--log", &log, "--dbc", "chademo.dbc", "--frames", "--json"]);
        assert_eq!(one.status.code(), Some(0));
        let told = lines(&one);
        let voltages: Vec<_> =
            told.iter().filter_map(|line| line["signals"]["PresentOutputVoltage"]["value"].as_i64()).collect();
        assert!(voltages.len() == 80 && voltages.iter().all(|voltage| *voltage == volts), "{interface}: {voltages:?}");
    }
}

#[test]
fn recordings_with_the_other_times_of_candump_are_read() {
    for log in ["candump-td.log", "candump-tA.log"] {
        let output = probe(&["--log", &path(log), "--dbc", "chademo.dbc", "--json"]);
        assert_eq!(output.status.code(), Some(0), "{log}");
        let [report] = lines(&output).try_into().expect("one object");
        let of_109 = &report["ids"][0];
        assert_eq!((of_109["id"].as_str(), of_109["frames"].as_u64()), (Some("109"), Some(100)), "{log}: {of_109}");
        let rate = of_109["per_second"].as_f64().expect("a number");
        assert!((9.5..10.5).contains(&rate), "{log}: {rate} a second");
    }
}

/// 1,600 changes of state in eight seconds were as many events.
#[test]
fn a_controller_whose_state_flaps_is_told_at_most_once_a_second_with_how_often() {
    let log = std::fs::read_to_string(data("error-flap.log")).expect("it is there");
    let changes = log.lines().filter(|line| line.contains(" 20000004#")).count();
    let rig = Rig::start(&log, CHADEMO);
    let told = || {
        let text = rig.texts();
        let of_kind =
            |kind: &str| text.lines().filter(|line| line.contains(kind)).map(str::to_owned).collect::<Vec<_>>();
        (of_kind("kind=bus_state"), of_kind("kind=device_silent"))
    };
    // Its end: the recording is over, and what it told goes stale.
    wait_for(SOON, "the end", || if told().1.is_empty() { Err(rig.texts()) } else { Ok(()) })
        .unwrap_or_else(|late| panic!("{late}"));
    let (states, _) = told();
    println!("{changes} changes, {} events", states.len());
    assert!(changes > 1_500 && (2..=15).contains(&states.len()), "{}", states.join("\n"));
    let lines = rig.lines();
    assert!(
        lines.iter().any(|line| line.field("voltage").and_then(Value::number) == Some(400.0)),
        "its values come through"
    );
}
