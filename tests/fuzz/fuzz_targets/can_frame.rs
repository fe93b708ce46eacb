//! Any frame, read by every signal of the built-in DBC files, whatever its id: no panic, and a value for every signal
//! that lies within the payload.
#![no_main]

use std::sync::LazyLock;

use hal::can::{Frame, FrameId, parse_log_line};
use libfuzzer_sys::fuzz_target;
use v2g_edge::config::{Dbc, built_in_dbc};
use v2g_edge::source::can::Decoder;
use v2g_edge::spec::{FrameMatch, Signal};

/// All signals of all files, as if every frame had them.
static SIGNALS: LazyLock<Vec<Signal>> = LazyLock::new(|| {
    let names = ["chademo.dbc", "infypower-v113.dbc", "uugreenpower-ur1000x0.dbc", "winline-uxr.dbc"];
    let files = names.map(|name| Dbc::read(built_in_dbc(name).expect("built in").as_bytes()).expect("a DBC file"));
    let any = FrameMatch { id: 0, mask: 0, extended: true };
    let signals = files.iter().flat_map(Dbc::signals).filter_map(|(_, signal)| signal.signal.clone().ok());
    signals.map(|signal| Signal { frame: any, ..signal }).collect()
});
static DECODER: LazyLock<Decoder> = LazyLock::new(|| Decoder::new(SIGNALS.iter()));

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = parse_log_line(text);
    }
    let Some((id, data)) = bytes.split_first_chunk::<4>() else { return };
    let id = FrameId::new(u32::from_le_bytes(*id) & 0x1fff_ffff, true).expect("29 bits");
    let Ok(frame) = Frame::new(id, &data[..data.len().min(64)], true) else { return };
    DECODER.decode(&frame, |ix, decoded| {
        let fits = usize::from(SIGNALS[ix].field.last() / 8) < frame.data().len();
        assert_eq!(decoded.is_some(), fits, "{:?} in {frame}", SIGNALS[ix]);
    });
});
