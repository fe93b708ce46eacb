//! Any bytes from a broker, cut anywhere: no panic, and the same packets however the stream was cut. The first byte says how
//! long the pieces are.
#![no_main]

use libfuzzer_sys::fuzz_target;
use v2g_edge::uplink::fuzz::packets;

fuzz_target!(|bytes: &[u8]| {
    let Some((length, stream)) = bytes.split_first() else { return };
    let whole = packets([stream]);
    assert_eq!(packets(stream.chunks(usize::from(*length).max(1))), whole);
});
