//! An A/B roll-back in the booted box: the program that was rolled back to finds a segment of a newer one.

use hil_tests::fault::Fault;
use hil_tests::rig::{GATEWAY, Options, Rig, RigError};

use super::judged;

/// The box's journal.
const JOURNAL: &str = "/data/v2g-edge/journal";
/// Bytes before the body of a frame (the journal's layout: `src/journal/disk/chunk.rs`).
const FRAME_HEAD_BYTES: usize = 56;
/// Where a frame has its flags; 4 is one that no program of today knows.
const FLAGS: usize = 53;
const UNKNOWN_FLAG: u8 = 4;

#[test]
fn what_a_newer_program_left_is_told_untouched_and_delivered_when_it_is_back() -> Result<(), RigError> {
    let mut rig = Rig::start(Options::default())?;
    rig.wait_until_live()?;
    // What the newer program leaves waits for a broker.
    rig.inject(Fault::BrokerMute)?;
    rig.wait_for_status("entries that wait", |status| status.waiting().is_some_and(|waiting| waiting > 20))?;
    kill(&mut rig)?;
    let segment = rig.run(&format!("ls {JOURNAL} | grep -E '^[0-9a-f]{{16}}$' | tail -n 1"))?;
    let segment = format!("{JOURNAL}/{segment}");
    let marker = bytes_of(&rig.run(&format!("od -An -v -tx1 {segment}/ready"))?);
    write(&mut rig, &segment, &of_a_newer_program(&marker))?;
    let before = sums(&mut rig, &segment)?;

    start(&mut rig)?;
    rig.heal(Fault::BrokerMute)?;
    rig.wait_until_live()?;
    rig.wait_for_text("kind=journal_newer")?;
    let told = rig.run("v2g-edge status || true")?;
    assert!(told.contains("newer program"), "{told}");
    kill(&mut rig)?;
    assert_eq!(sums(&mut rig, &segment)?, before, "nothing of it was touched");

    // The newer program is back: it knows its own mark.
    write(&mut rig, &segment, &marker)?;
    start(&mut rig)?;
    rig.wait_until_live()?;
    let judgement = judged(&mut rig)?;
    let tally = judgement.tally(GATEWAY);
    assert!(tally.epochs == 3 && tally.historical > 20, "{judgement}");
    Ok(())
}

/// As by a power cut, but for the kernel: nothing is put in order.
fn kill(rig: &mut Rig) -> Result<(), RigError> {
    rig.run("touch /run/rig-stop; killall -KILL v2g-edge; while pidof v2g-edge >/dev/null; do sleep 0.1; done")?;
    Ok(())
}

fn start(rig: &mut Rig) -> Result<(), RigError> {
    rig.run("rm /run/rig-stop; while ! pidof v2g-edge >/dev/null; do sleep 0.1; done")?;
    Ok(())
}

/// What lies in the segment, to the byte.
fn sums(rig: &mut Rig, segment: &str) -> Result<String, RigError> {
    rig.run(&format!("cd {segment} && find . | sort && md5sum $(find . -type f | sort)"))
}

fn write(rig: &mut Rig, segment: &str, marker: &[u8]) -> Result<(), RigError> {
    let escaped: String = marker.iter().map(|byte| format!("\\x{byte:02x}")).collect();
    rig.run(&format!("printf '{escaped}' > {segment}/ready && sync"))?;
    Ok(())
}

fn bytes_of(hex: &str) -> Vec<u8> {
    hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect("od writes two digits a byte")).collect()
}

/// The frames of a segment's header with a flag more, and checksums that are right.
fn of_a_newer_program(marker: &[u8]) -> Vec<u8> {
    let mut frames = marker.to_vec();
    let mut at = 0;
    while at < frames.len() {
        let length = u32::from_le_bytes(frames[at + 4..at + 8].try_into().expect("four bytes"));
        let end = at + FRAME_HEAD_BYTES + usize::try_from(length).expect("a frame is short");
        let frame = &mut frames[at..end];
        frame[FLAGS] |= UNKNOWN_FLAG;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&frame[4..8]), &frame[12..]);
        frame[8..12].copy_from_slice(&crc.to_le_bytes());
        at = end;
    }
    frames
}
