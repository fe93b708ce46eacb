//! The byte streams of both directions of a charging session, cut anywhere, with time passing: no panic, and every frame is
//! either understood or counted. Each byte of the input that says how the rest is cut is followed by what it cuts:
//! bit 0 the direction, bit 1 a loss before it, bit 2 the end of the connection, the rest the length.
#![no_main]

use libfuzzer_sys::fuzz_target;
use v2g_edge::measure::Mono;
use v2g_edge::source::iso15118::{Frames, PAYLOAD_BYTES_MAX, Piece, Records, Tap, Tracker, whole};

fuzz_target!(|input: &[u8]| {
    let (mut tracker, mut sides) = (Tracker::default(), [Frames::default(), Frames::default()]);
    let (mut tap, mut tapped) = (Tap::default(), Tracker::default());
    let (mut mono, mut heard) = (0_u64, 0_u64);
    let mut rest = input;
    while let [how, more @ ..] = rest {
        let (bytes, later) = more.split_at(usize::from(how >> 3).min(more.len()));
        rest = later;
        mono += 1 + u64::from(*how) * 10_000_000;
        let now = Mono(mono);
        let side = &mut sides[usize::from(how & 1)];
        let mut hear = |piece: Piece<'_>| {
            heard += 1;
            match piece {
                Piece::Frame { payload_type, payload } => {
                    assert!(payload.len() <= PAYLOAD_BYTES_MAX);
                    tracker.handle_frame(payload_type, payload, now);
                }
                Piece::Bad(reason) => tracker.handle_unreadable(reason, now),
            }
        };
        if how & 2 != 0 {
            side.skip(&mut hear);
        }
        side.push(bytes, &mut hear);
        if how & 4 != 0 {
            side.finish(&mut hear);
            tracker.handle_close(now);
        }
        tracker.poll(now);
        tap.handle_packet(bytes, now, &mut tapped);
        tap.poll(now, &mut tapped);
    }
    let counted: u64 = tracker.unreadable().map(|(_, count)| count).sum();
    assert_eq!(counted + tracker.messages(), heard, "every frame is one or the other");
    let _ = whole(input);
    let mut records = Records::default();
    let _ = records.push(input, |record| {
        let _ = whole(record.bytes);
    });
});
