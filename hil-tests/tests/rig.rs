//! The agent in a booted box, and what happens to such boxes. `hil-tests/run` runs these; `HIL_LONG=1` for hours,
//! `HIL_SEED` repeats the random moments of a run that failed.

#[path = "rig/can.rs"]
mod can;
#[path = "rig/newer.rs"]
mod newer;

use std::fmt;
use std::time::Duration;

use hil_tests::disk::{Defects, Remains};
use hil_tests::fault::Fault;
use hil_tests::oracle::{Judgement, Kind, Line};
use hil_tests::rig::{Cut, GATEWAY, METER_RTU, METER_TCP, Options, Rig, RigError};
use hil_tests::wait::{let_pass, unix_ns};

/// Longer than the tolerance around a value's time, so that an old value that is told again is found.
const LONG_SILENCE: Duration = Duration::from_secs(8);
/// Longer than the keep-alive of 5 s with all that belongs to it.
const LONG_OUTAGE: Duration = Duration::from_secs(15);
/// Longer than the agent lets its uplink be silent (60 s).
const LONG_HANG: Duration = Duration::from_secs(75);

/// `HIL_LONG=1`: hours instead of minutes.
fn long() -> bool {
    std::env::var_os("HIL_LONG").is_some_and(|value| value == "1")
}

#[test]
fn boots_and_delivers() -> Result<(), RigError> {
    let mut rig = Rig::start(Options::default())?;
    rig.wait_until_live()?;
    println!("{}", rig.run("uname -a; ls -l /usr/bin/v2g-edge; free; v2g-edge status || true")?);
    let from = rig.count("/telemetry");
    let soak = Duration::from_secs(if long() { 3_600 } else { 10 });
    let_pass(soak);
    // At 4 windows a second, less what a busy machine is late.
    let expected = usize::try_from(soak.as_secs() * 2).expect("few");
    assert!(rig.count("/telemetry") - from > expected, "{} live batches in {soak:?}", rig.count("/telemetry") - from);
    let judgement = judged(&mut rig)?;
    assert!(judgement.tally(GATEWAY).values_checked > 1_000, "{judgement}");
    Ok(())
}

#[test]
fn frames_cross_the_can_bus() -> Result<(), RigError> {
    let mut rig = Rig::start(Options::default())?;
    for interface in ["can0", "can1"] {
        let shown = rig.run(&format!("/usr/bin/ip -d link show {interface}"))?;
        assert!(shown.contains("bitrate 250000") && shown.contains(",UP") && shown.contains("ERROR-ACTIVE"), "{shown}");
    }
    let heard = rig.run(
        "candump -n 100 -T 20000 can1 > /tmp/heard & sleep 1; \
         for i in $(seq 100 199); do cansend can0 102#00000000000000$(printf %02X $i); sleep 0.01; done; \
         wait $!; cat /tmp/heard",
    )?;
    let frames: Vec<&str> = heard.lines().filter(|line| line.contains("can1")).collect();
    assert_eq!(frames.len(), 100, "{heard}");
    for (frame, number) in frames.iter().zip(100..200) {
        assert!(frame.ends_with(&format!("{number:02X}")), "{frame} is not number {number}");
    }
    rig.inject(Fault::BusOff)?;
    assert!(rig.run("cansend can0 102#00").is_err(), "a controller that has left the bus sends nothing");
    rig.heal(Fault::BusOff)?;
    rig.run("cansend can0 102#00")?;
    Ok(())
}

#[test]
fn link_cut() -> Result<(), RigError> {
    let mut rig = Rig::start(Options::default())?;
    rig.wait_until_live()?;
    rig.inject(Fault::LinkDown)?;
    let_pass(LONG_OUTAGE);
    rig.wait_for_status("that it is offline", |status| !status.is_online())?;
    rig.heal(Fault::LinkDown)?;
    rig.wait_until_live()?;
    let judgement = judged(&mut rig)?;
    assert!(judgement.tally(GATEWAY).historical > 0, "nothing came by the history lane: {judgement}");
    Ok(())
}

#[test]
fn broker_mute() -> Result<(), RigError> {
    let mut rig = Rig::start(Options::default())?;
    rig.wait_until_live()?;
    rig.inject(Fault::BrokerMute)?;
    // Everything stays open and nothing answers: only the agent's own clock can tell.
    rig.wait_for_status("that it is not online", |status| !status.is_online())?;
    rig.heal(Fault::BrokerMute)?;
    rig.wait_until_live()?;
    let judgement = judged(&mut rig)?;
    assert!(judgement.tally(GATEWAY).historical > 0, "nothing came by the history lane: {judgement}");
    Ok(())
}

/// A silent line is missing, never an old value with a new time; noise and late replies are never values.
#[test]
fn line_troubles() -> Result<(), RigError> {
    let mut rig = Rig::start(Options::default())?;
    rig.wait_until_live()?;
    for fault in [Fault::Silence, Fault::Noise, Fault::LateReply(Duration::from_millis(1_300))] {
        rig.inject(fault)?;
        let since = unix_ns();
        let silent = |line: &Line| {
            line.tag("device") == Some(METER_RTU) && line.field("missing").is_some() && line.time_ns > since
        };
        rig.wait_for_line(&format!("a line that says that values are missing ({})", fault.name()), silent)?;
        let_pass(LONG_SILENCE);
        rig.heal(fault)?;
        let healed = unix_ns();
        rig.wait_for_line("values again", |line| {
            line.tag("device") == Some(METER_RTU) && line.field("power_flow").is_some() && line.time_ns > healed
        })?;
        println!("{}: survived", fault.name());
    }
    // The meter on the network has not noticed.
    let judgement = judged(&mut rig)?;
    let gaps_of_the_other = rig.lines().into_iter().filter(|line| line.tag("device") == Some(METER_TCP));
    let missing = gaps_of_the_other.filter(|line| line.field("missing").is_some()).count();
    assert!(missing <= 2, "the meter on the network was missing in {missing} windows: {judgement}");
    Ok(())
}

/// The power goes at random instants, with and without a broker, and a random part of what was not flushed remains.
#[test]
fn power_cut() -> Result<(), RigError> {
    let cuts = if long() { 300 } else { 20 };
    let mut rig = Rig::start(Options::default())?;
    let mut record = Record::default();
    for number in 1..=cuts {
        // Every other time nobody takes the data: then it is nowhere but on the disk.
        let alone = number % 2 == 0;
        if alone {
            rig.inject(Fault::BrokerMute)?;
        }
        rig.wait_for_status("something durable in this boot", |status| status.durable().is_some())?;
        let instant = rig.seed().between(Duration::from_millis(300), Duration::from_secs(5));
        let_pass(instant);
        // Every third time in the midst of a write: between two commits the disk has nothing to lose.
        let writing = number % 3 == 0;
        if writing {
            let writes = rig.seed().below(40) + 1;
            rig.wait_for_writes(writes)?;
        }
        let remains = if number % 4 == 0 { Remains::Nothing } else { Remains::Random };
        let cut = rig.power_cut(remains)?;
        if alone {
            rig.heal(Fault::BrokerMute)?;
        }
        rig.power_on()?;
        record.add(instant, alone, remains, cut);
    }
    rig.wait_until_live()?;
    let judgement = rig.stop_and_judge()?;
    println!("{record}");
    println!("{judgement}");
    println!("committed entries lost: {}", judgement.count(Kind::Lost));
    judgement.assert_passed();
    assert_eq!(record.rows.len(), cuts, "every cut was made");
    assert!(judgement.tally(GATEWAY).epochs > 1, "{judgement}");
    Ok(())
}

/// The control: a disk that answers a flush and does not do it must be found out, or `power_cut` proves nothing.
#[test]
fn power_cut_with_a_disk_that_ignores_flush_is_caught() -> Result<(), RigError> {
    let liar = Defects { ignores_flush: true, ..Defects::default() };
    let mut rig = Rig::start(Options { disk: liar, ..Options::default() })?;
    // Somebody takes the first entries, so that it is known that this life was.
    rig.wait_until_live()?;
    rig.inject(Fault::BrokerMute)?;
    let_pass(Duration::from_secs(5));
    rig.wait_for_status("something durable", |status| status.durable().is_some_and(|durable| durable > 20))?;
    let instant = rig.seed().between(Duration::from_millis(100), Duration::from_secs(1));
    let_pass(instant);
    let cut = rig.power_cut(Remains::Nothing)?;
    rig.heal(Fault::BrokerMute)?;
    let mut record = Record::default();
    record.add(instant, true, Remains::Nothing, cut);
    rig.power_on()?;
    rig.wait_until_live()?;
    let judgement = rig.stop_and_judge()?;
    println!("{record}");
    println!("how the control was caught:\n{judgement}");
    assert!(judgement.count(Kind::Lost) > 0, "the disk lied and nobody has noticed: {judgement}");
    Ok(())
}

#[test]
fn watchdog() -> Result<(), RigError> {
    let mut rig = Rig::start(Options { watchdog: Some("6s"), ..Options::default() })?;
    rig.wait_until_live()?;
    assert!(rig.console()?.contains("the kernel's watchdog is armed"), "{}", rig.console()?);
    let_pass(Duration::from_secs(9));
    assert_eq!(rig.watchdog_fired(), 0, "an agent that lives is left alone");
    rig.inject(Fault::Hang)?;
    rig.wait_for_reset()?;
    println!(
        "the watchdog has reset the box {} time(s); uptime now: {}",
        rig.watchdog_fired(),
        rig.run("cat /proc/uptime")?
    );
    rig.wait_until_live()?;
    let judgement = judged(&mut rig)?;
    assert_eq!(judgement.tally(GATEWAY).epochs, 2, "{judgement}");
    // An orderly end disarms it: nothing resets the box any more.
    let_pass(Duration::from_secs(9));
    assert_eq!(rig.watchdog_fired(), 1, "the watchdog fired after an orderly end");
    Ok(())
}

/// The box believes it is 2001, so that no certificate is valid and no time is true; then its clock is set.
#[test]
fn clock_jump() -> Result<(), RigError> {
    let mut rig = Rig::start(Options { rtc: "2001-01-01T00:00:00", ..Options::default() })?;
    let late = rig.clock_late()?;
    assert!(late > 20 * 365 * 86_400, "the box is late by {late} s only");
    rig.wait_for_status("entries that wait", |status| status.waiting().is_some_and(|waiting| waiting > 20))?;
    let told = rig.run("v2g-edge status || true")?;
    println!("{told}");
    rig.sync_clock()?;
    assert!(rig.clock_late()?.abs() <= 1);
    // What it recorded before comes with its true time, or the oracle finds every value of it untrue.
    rig.wait_until_live()?;
    let judgement = judged(&mut rig)?;
    assert!(judgement.tally(GATEWAY).historical > 0, "what was recorded before has not come: {judgement}");
    Ok(())
}

#[test]
fn disk_troubles() -> Result<(), RigError> {
    let mut rig = Rig::start(Options::default())?;
    rig.wait_until_live()?;
    for fault in [Fault::SlowDisk(Duration::from_millis(200)), Fault::DiskFull] {
        rig.inject(fault)?;
        let_pass(LONG_SILENCE);
        assert!(!rig.run("pidof v2g-edge")?.is_empty(), "the agent lives");
        rig.heal(fault)?;
        rig.wait_until_live()?;
        println!("{}: survived", fault.name());
    }
    judged(&mut rig)?;
    Ok(())
}

/// A single flush takes longer than any part of the agent may be silent, and the journal's thread waits for it: nobody is
/// taken for dead, and what can be sent from memory or again afterwards is.
#[test]
fn disk_hangs() -> Result<(), RigError> {
    let mut rig = Rig::start(Options { watchdog: Some("6s"), ..Options::default() })?;
    rig.wait_until_live()?;
    let hang = Fault::SlowDisk(LONG_HANG);
    rig.inject(hang)?;
    let_pass(LONG_HANG + LONG_SILENCE);
    assert_eq!(rig.watchdog_fired(), 0, "an agent whose disk hangs is left alone");
    rig.heal(hang)?;
    // What was asked of the disk before takes its time all the same.
    let_pass(LONG_HANG);
    rig.wait_until_live()?;
    assert_eq!(rig.watchdog_fired(), 0, "and so it is when the disk is back");
    let judgement = judged(&mut rig)?;
    assert_eq!(judgement.tally(GATEWAY).epochs, 1, "nobody has started it anew: {judgement}");
    Ok(())
}

/// The disk fails for good, and then the power goes: the agent lives on from memory, and what was durable before is there.
#[test]
fn disk_error() -> Result<(), RigError> {
    let mut rig = Rig::start(Options::default())?;
    rig.wait_until_live()?;
    rig.inject(Fault::DiskError)?;
    let status =
        rig.wait_for_status("that it says what is wrong", |status| status.text("/journal/trouble").is_some())?;
    println!("the agent says: {}", status.text("/journal/trouble").unwrap_or_default());
    assert!(!rig.run("pidof v2g-edge")?.is_empty(), "the agent lives");
    rig.wait_until_live()?;
    rig.power_cut(Remains::Nothing)?;
    rig.heal(Fault::DiskError)?;
    rig.power_on()?;
    rig.wait_until_live()?;
    let judgement = rig.stop_and_judge()?;
    println!("{judgement}");
    // What went out from memory had numbers that no disk remembers: they come again, under the next epoch. Nothing that
    // was called durable is lost, and no identity is used twice.
    for kind in [Kind::Lost, Kind::Changed, Kind::Untrue, Kind::Malformed, Kind::Gap] {
        assert_eq!(judgement.count(kind), 0, "{judgement}");
    }
    Ok(())
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

/// What each cut met.
#[derive(Default)]
struct Record {
    rows: Vec<(Duration, bool, Remains, Cut)>,
}

impl Record {
    fn add(&mut self, instant: Duration, alone: bool, remains: Remains, cut: Cut) {
        self.rows.push((instant, alone, remains, cut));
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "cut  at      broker  of what was not flushed          written / flushes  committed (epoch, seq)")?;
        for (number, (instant, alone, remains, cut)) in self.rows.iter().enumerate() {
            let broker = if *alone { "mute" } else { "takes" };
            let left = format!("{remains:?} left, {} blocks lost", cut.blocks_lost);
            let traffic = format!("{} KiB / {}", cut.traffic.bytes / 1024, cut.traffic.flushes);
            let (at, committed) = (instant.as_secs_f64(), cut.committed);
            writeln!(f, "{:>3}  {at:.3} s  {broker:<6}  {left:<32} {traffic:<18} {committed:?}", number + 1)?;
        }
        Ok(())
    }
}
