//! Messages of several frames against peers: the traffic in `tests/data/can/j1939-long.log` was sent by python's can-j1939
//! (2.0.12; two broadcasts between each other, one of 70 bytes, a connection with RTS and CTS, a message of one frame), the
//! payloads here are what its receivers have put together, and cantools reads them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hil_tests::oracle::Value;
use hil_tests::process::program;

use super::{Rig, lines, number, probe, said};

/// What was received: the id without its source, the source, the payload.
const RECEIVED: [(u32, u32, &str); 5] = [
    (0x18fe_ca00, 0x03, "04FF13F82405640003016E00107E"),
    (0x18fe_ca00, 0x04, "00FF2D0461022E0402010000"),
    (
        0x18ff_5400,
        0x03,
        "0B30557A9FC4E90E33587DA2C7EC11365B80A5CAEF14395E83A8CDF2173C6186ABD0F51A3F6489AED3F81D42678CB1D6FB20456A8FB4D9FE\
         23486D92B7DC01264B7095BADF04",
    ),
    (0x18ef_2100, 0x03, "FFFFFFFFFFFFFFFFE0E3FFFF00000000FFFF03FF"),
    (0x18fe_ca00, 0x03, "04FF64000301FFFF"),
];
/// The source that the DBC file's ids have.
const IN_FILE: u32 = 0xfe;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/can").join(name)
}

#[test]
fn messages_of_several_frames_are_what_their_receivers_put_together_and_read_as_cantools_reads_them() {
    let (dbc, log) = (data("j1939-long.dbc"), data("j1939-long.log"));
    let (dbc, log) = (dbc.to_str().expect("plain"), log.to_str().expect("plain"));
    let told = lines(&probe(&["--log", log, "--dbc", dbc, "--frames", "--json"]));
    let ours: Vec<_> = told.iter().filter(|line| !line["message"].is_null()).collect();
    let payloads: Vec<(String, &str)> =
        ours.iter().filter_map(|line| Some((line["id"].as_str()?.to_owned(), line["data"].as_str()?))).collect();
    let expected: Vec<(String, &str)> =
        RECEIVED.iter().map(|(group, source, payload)| (format!("{:08X}", group | source), *payload)).collect();
    assert_eq!(payloads, expected);

    let whole: String = RECEIVED
        .iter()
        .map(|(group, _, payload)| {
            // cantools knows the ids as the file has them.
            let group = if group >> 16 & 0xff < 240 { group & !0xff00 } else { *group };
            format!("(1.0) can0 {:08X}#{payload}\n", group | IN_FILE)
        })
        .collect();
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("whole.log");
    fs::write(&path, whole).expect("written");
    let oracle = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/can/oracle.py");
    let output = Command::new(program("python3")).arg(oracle).arg(dbc).arg(&path).output().expect("python3 starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let theirs = lines(&output);
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let (ours, theirs) = (said(ours), said(theirs));
        assert_eq!(ours.0, theirs.0);
        assert!(ours.1.keys().eq(theirs.1.keys()), "{ours:?} {theirs:?}");
        for (name, value) in &ours.1 {
            assert!(super::is_same(value, &theirs.1[name]), "{name}: {value:?} {:?}", theirs.1[name]);
        }
    }
}

/// A profile of the charger's faults and limits, beside the configuration.
const PROFILE: &str = "[profile]\nvendor = \"v\"\nmodel = \"m\"\nkind = \"evse\"\nsources = [\"s\"]\n\
    [can]\ndbc = \"j1939-long.dbc\"\nprotocol = \"j1939\"\nstale_after = \"60s\"\n\
    [point]\nfault_spn = { sum = [\"SpnLow\", \"65536 * SpnHigh\"], unit = \"\" }\n\
    fault_fmi = { signal = \"Fmi\", unit = \"\", shape = \"integer\" }\n\
    fault_count = { signal = \"DM1.Count\", unit = \"\", shape = \"integer\" }\n\
    power_limit_discharge = { signal = \"DischargePower\", unit = \"kW\", sign = \"import-positive\", optional = true }\n\
    pack_tail = { signal = \"Tail\", unit = \"\", optional = true }\n";

/// The first faults of two chargers come at once, each in two frames; later one of them has a single fault, in one frame.
#[test]
fn the_faults_of_two_chargers_reach_the_broker_whether_they_come_in_one_frame_or_in_several() {
    let devices = "[device.dc-3]\nkind = \"evse\"\nbus = \"can-a\"\nprofile = \"long\"\nnode = 3\n\
        [device.dc-4]\nkind = \"evse\"\nbus = \"can-a\"\nprofile = \"long\"\nnode = 4\n";
    let log = fs::read_to_string(data("j1939-long.log")).expect("it is there");
    let beside = |dir: &Path| {
        let devices = dir.join("devices");
        fs::create_dir_all(&devices).expect("made");
        fs::copy(data("j1939-long.dbc"), devices.join("j1939-long.dbc")).expect("copied");
        fs::write(devices.join("long.toml"), PROFILE).expect("written");
    };
    let mut rig = Rig::start_beside(&log, "bitrate = 250000", devices, beside);
    for (device, spn, fmi, count) in [("dc-3", 129_043.0, 4, 5), ("dc-4", 197_677.0, 1, 2), ("dc-3", 100.0, 3, 1)] {
        let line = rig.wait_for_line("a fault", |line| {
            line.tag("device") == Some(device) && line.field("fault_spn").and_then(Value::number) == Some(spn)
        });
        assert_eq!(line.field("fault_fmi").and_then(Value::number), Some(f64::from(fmi)), "{line:?}");
        assert_eq!(line.field("fault_count").and_then(Value::number), Some(f64::from(count)), "{line:?}");
    }
    let limit = rig.wait_for_line("a limit", |line| line.field("power_limit_discharge").is_some());
    assert!((number(&limit, "power_limit_discharge").abs() - 7.2).abs() < 1e-9, "{limit:?}");
    let tail = rig.wait_for_line("the last byte of 70", |line| line.field("pack_tail").is_some());
    assert!((number(&tail, "pack_tail") - 4.0).abs() < 1e-9, "{tail:?}");
    let status = rig.agent.status().expect("it runs");
    assert_eq!(status.number("/buses/can-a/messages"), Some(4), "{status:?}");
}
