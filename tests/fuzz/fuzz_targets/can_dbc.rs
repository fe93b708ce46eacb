//! Any bytes as a DBC file, and a frame of noise read by whatever it describes: no panic.
#![no_main]

use hal::can::{Frame, FrameId};
use libfuzzer_sys::fuzz_target;
use v2g_edge::config::Dbc;
use v2g_edge::source::can::Decoder;

fuzz_target!(|bytes: &[u8]| {
    let Ok(dbc) = Dbc::read(bytes) else { return };
    let decoder = Decoder::new(dbc.signals().filter_map(|(_, signal)| signal.signal.as_ref().ok()));
    for message in &dbc.messages {
        let Ok(id) = FrameId::new(message.frame.id, message.frame.extended) else { continue };
        for length in [0, 1, 8, 64] {
            let noise: Vec<u8> = (0..length).map(|n| bytes.get(n).copied().unwrap_or(0xa5)).collect();
            let Ok(frame) = Frame::new(id, &noise, length > 8) else { continue };
            decoder.decode(&frame, |_, decoded| {
                std::hint::black_box(decoded.map(|decoded| decoded.value.as_f64()));
            });
        }
    }
});
