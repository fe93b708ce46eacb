//! The image that is flashed, started by U-Boot: it delivers, is watched over, and lets through what it must and nothing else.
//! `hil-tests/run-image` builds it and runs these; `HIL_SEED` repeats the random moments of a run that failed.

#[path = "image/firewall.rs"]
mod firewall;
#[path = "image/long.rs"]
mod long;
#[path = "image/uboot.rs"]
mod uboot;
#[path = "image/update.rs"]
mod update;
#[path = "image/versions.rs"]
mod versions;

use hil_tests::disk::Remains;
use hil_tests::fault::Fault;
use hil_tests::oracle::{Judgement, Line, Value};
use hil_tests::rig::{GATEWAY, Options, Rig, RigError, SOON};
use hil_tests::wait::{unix_ns, wait_for};

/// `HIL_LONG=1`: an hour and more instead of minutes.
fn long() -> bool {
    std::env::var_os("HIL_LONG").is_some_and(|value| value == "1")
}

/// What `systemd-analyze security` may say of the unit as it runs, serial lines opened.
const EXPOSURE_MAX: f64 = 2.0;

/// One controller on which the gateway listens, and one that sends; the system sets both up.
const CAN: &str = r#"
[bus.can-a]
can = { interface = "can1" }
[device.dc-1]
kind = "evse"
bus = "can-a"
profile = "chademo"
"#;
const LISTENER: (&str, &str) =
    ("/etc/systemd/network/80-can.network", include_str!("../../configs/system/networkd/80-can.network"));
const SENDER: (&str, &str) = ("/etc/systemd/network/20-sender.network", "[Match]\nName=can0\n[CAN]\nBitRate=500K\n");
/// V2H: 400 V, 14 A back (0xF1 = 255 - 14), 45 % SoC.
const FRAMES: [&str; 4] =
    ["100#00000000A4016400", "102#02A4011400812D00", "109#0290010001050000", "208#F15E01F100000000"];

/// Over serial line, CAN and network into a broker with client certificates, all within the unit's sandbox.
#[test]
fn it_delivers_and_takes_over_a_configuration_with_its_backlog() -> Result<(), RigError> {
    let mut rig = Rig::start(Options { extra: CAN, files: &[LISTENER, SENDER], ..Options::firmware() })?;
    rig.wait_until_live()?;
    println!(
        "{}",
        rig.run("cat /proc/uptime /proc/cmdline; free -m; df -m / /data; fw_printenv; v2g-edge status || true")?
    );

    let sent: String = FRAMES.iter().map(|frame| format!("cansend can0 {frame}; ")).collect();
    rig.run(&format!("(while :; do {sent} sleep 0.1; done) >/dev/null 2>&1 & echo $! >/run/sender"))?;
    let from = unix_ns();
    let line = rig.wait_for_line("frames of the charger", |line| {
        line.tag("device") == Some("dc-1") && line.field("power_flow").is_some() && line.time_ns > from
    })?;
    assert!((number(&line, "power_flow") + 5.6).abs() < 1e-9 && line.tag("direction") == Some("V2G"), "{line:?}");
    rig.run("kill $(cat /run/sender)")?;

    let shown = rig.run("systemd-analyze security v2g-edge --no-pager | tail -n 1")?;
    println!("{shown}");
    let exposure = shown.split_whitespace().find_map(|word| word.parse::<f64>().ok());
    assert!(exposure.is_some_and(|exposure| exposure <= EXPOSURE_MAX), "{shown}");
    wait_until_started(&mut rig)?;

    rig.inject(Fault::BrokerMute)?;
    rig.wait_for_status("entries that wait", |status| status.waiting().is_some_and(|waiting| waiting > 30))?;
    let process = rig.run("systemctl show -p MainPID -p NRestarts v2g-edge")?;
    rig.run("echo '# changed' >>/etc/v2g-edge/gateway.toml && systemctl reload v2g-edge")?;
    rig.wait_for_status("that all still waits", |status| status.waiting().is_some_and(|waiting| waiting > 40))?;
    assert_eq!(rig.run("systemctl show -p MainPID -p NRestarts v2g-edge")?, process, "the same process");
    rig.heal(Fault::BrokerMute)?;
    rig.wait_until_live()?;
    let judgement = judged(&mut rig)?;
    let tally = judgement.tally(GATEWAY);
    // A reload begins a new life of the journal in the same process.
    assert!(tally.epochs == 2 && tally.historical > 20, "{judgement}");
    Ok(())
}

/// The slot is read-only and the same in every box; what makes a box itself is made at its first start and outlives a power cut.
#[test]
fn nothing_of_a_slot_changes_and_what_makes_a_box_itself_stays() -> Result<(), RigError> {
    let mut rig = Rig::start(Options::firmware())?;
    rig.wait_until_live()?;
    assert!(rig.run("touch /usr/x").is_err(), "the slot is read-only");
    wait_until_started(&mut rig)?;
    let identity = "cat /etc/machine-id; cat /etc/ssh/ssh_host_*.pub | cut -d' ' -f2; cat /var/lib/kept";
    rig.run("echo kept >/var/lib/kept && sync")?;
    let before = rig.run(identity)?;
    assert!(before.lines().count() >= 4 && before.lines().next().is_some_and(|id| id.len() == 32), "{before}");
    let size = rig.run("df -m --output=size /data | tail -n 1")?;
    assert!(size.trim().parse::<u32>().is_ok_and(|mebibytes| mebibytes > 400), "the data partition grows: {size} MiB");

    // Nobody can log in at a console, nor by a password.
    assert_eq!(rig.run("cut -d: -f2 /etc/shadow | grep -v '^[!*]' || true")?, "");
    assert_eq!(rig.run("systemctl list-units --plain --no-legend '*getty*.service'")?, "");
    let listens =
        rig.run("ss -Hltun | awk '{ print $5 }' | grep -v '^127\\.' | sed 's/.*://' | sort -u | paste -sd' '")?;
    assert_eq!(listens, "22 68", "what is open besides SSH and the DHCP client");

    rig.power_cut(Remains::Random)?;
    rig.power_on()?;
    rig.wait_until_live()?;
    assert_eq!(rig.run(identity)?, before);
    let judgement = judged(&mut rig)?;
    assert_eq!(judgement.tally(GATEWAY).epochs, 2, "{judgement}");
    Ok(())
}

/// systemd kills a gateway that hangs, and the hardware resets a box whose systemd does.
#[test]
fn who_hangs_is_started_again() -> Result<(), RigError> {
    let mut rig = Rig::start(Options::firmware())?;
    rig.wait_until_live()?;
    assert!(rig.run("wdctl 2>/dev/null; cat /sys/class/watchdog/watchdog0/state")?.contains("active"));
    rig.run("systemctl kill -s STOP v2g-edge")?;
    let mut restarted = || match rig.run("systemctl show -p NRestarts --value v2g-edge") {
        Ok(count) if count == "1" => Ok(()),
        other => Err(format!("{other:?}")),
    };
    wait_for(SOON, "systemd to have started it again", &mut restarted)?;
    assert!(rig.run("journalctl -b -u v2g-edge --no-pager")?.contains("Watchdog timeout"));
    rig.wait_until_live()?;

    let boot = rig.boot_id()?;
    assert_eq!(rig.watchdog_fired(), 0, "a box that lives is left alone");
    // The first process of all stands still.
    rig.run("echo 1 >/sys/fs/cgroup/init.scope/cgroup.freeze")?;
    rig.wait_for_reset()?;
    rig.wait_for_start_after(&boot)?;
    rig.wait_until_live()?;
    println!("the watchdog has fired {} time(s)", rig.watchdog_fired());
    let judgement = judged(&mut rig)?;
    assert_eq!(judgement.tally(GATEWAY).epochs, 3, "{judgement}");
    Ok(())
}

/// Everything that the image starts has started, host keys and all.
fn wait_until_started(rig: &mut Rig) -> Result<(), RigError> {
    let state = rig.run_within("systemctl is-system-running --wait || systemctl --failed --plain --no-legend", SOON)?;
    assert_eq!(state, "running", "a unit of the image does not start");
    Ok(())
}

fn number(line: &Line, field: &str) -> f64 {
    line.field(field).and_then(Value::number).unwrap_or_else(|| panic!("no {field} in {line:?}"))
}

/// Stops the agent in order; everything from the first number to the last must have come, once, unchanged and true.
#[track_caller]
fn judged(rig: &mut Rig) -> Result<Judgement, RigError> {
    let judgement = rig.stop_and_judge()?;
    println!("{judgement}");
    judgement.assert_passed();
    assert!(judgement.tally(GATEWAY).values_checked > 0, "no value was held against the truth: {judgement}");
    Ok(judgement)
}
