//! The agent in a booted box: `hil-tests/run` runs these.

use hil_tests::rig::{GATEWAY, Options, Rig};

#[test]
fn boots_and_delivers() {
    let mut rig = Rig::start(Options::default()).expect("the rig");
    rig.wait_until_live().expect("live values");
    let judgement = rig.stop_and_judge().expect("an orderly end");
    println!("{judgement}");
    judgement.assert_passed();
    assert!(judgement.tally(GATEWAY).values_checked > 100, "{judgement}");
}
