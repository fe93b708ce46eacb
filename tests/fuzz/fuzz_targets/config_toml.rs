//! Any text as a configuration, and as a profile that a good one names: no panic, and every mistake is shown at a line that there
//! is. The first byte says which of the two.
#![no_main]

use libfuzzer_sys::fuzz_target;
use v2g_edge::config::{self, ProfileSource, Surroundings};

const CONFIG: &str = r#"[gateway]
id = "gw-01"
site = "depot-a"
state_dir = "/var/lib/v2g-edge"
[uplink]
brokers = ["mqtt://127.0.0.1"]
[bus.lan]
modbus-tcp = {}
[device.one]
kind = "meter"
bus = "lan"
address = "10.0.0.16"
unit = 1
profile = "own"
"#;

fuzz_target!(|bytes: &[u8]| {
    let Some((which, text)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let (config, profile) = if which & 1 == 0 { (text, "") } else { (CONFIG, text) };
    let profiles = ProfileSource::built_in().and_text("own", "own.toml", profile);
    match config::parse(config, "gateway.toml", &Surroundings::none().with_profiles(profiles)) {
        Ok(plan) => {
            std::hint::black_box(plan.summary());
        }
        Err(faults) => {
            assert!(faults.len() > 0, "refused without a reason");
            std::hint::black_box(faults.to_string());
            for fault in faults.iter().filter(|fault| fault.file == "gateway.toml") {
                assert!(fault.line >= 1 && fault.line <= config.lines().count() + 1, "{fault:?}");
            }
        }
    }
});
