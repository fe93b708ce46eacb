//! Any answer to a WebSocket upgrade, and any frames behind it: no panic, an end, and what a person is told of it is one line
//! that fits into a log. `%ACCEPT%` in the input becomes the right answer to our key.
#![no_main]

use libfuzzer_sys::fuzz_target;
use v2g_edge::uplink::fuzz::upgraded;

fuzz_target!(|answer: &[u8]| {
    if answer.len() > 64 << 10 {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    match runtime.block_on(upgraded(answer)) {
        Ok(bytes) => assert!(bytes.len() <= answer.len(), "more bytes than came"),
        Err(told) => {
            assert!(!told.chars().any(char::is_control), "{told:?}");
            assert!(told.len() <= 4096, "{} bytes for a person to read", told.len());
        }
    }
});
