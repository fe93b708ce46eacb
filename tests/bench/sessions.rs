//! What a charging session costs: frame to values, on one core.
//!
//! `cargo bench --features bench --bench sessions`. The recorded sessions of `tests/data/iso15118` are played again and again through
//! the whole of the source's pure part (framing, EXI, tracker, values); `loop` plays the messages of the charging loops only.
#![allow(clippy::cast_precision_loss, clippy::disallowed_methods, clippy::disallowed_types, reason = "a measurement")]

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use v2g_edge::measure::Mono;
use v2g_edge::source::iso15118::{Frames, Piece, Tracker};

const SESSIONS: [&str; 6] =
    ["din-dc", "iso2-ac-eim", "iso2-dc-eim", "iso20-acbpt-dyn", "iso20-dc-sched", "iso20-dcbpt-sched"];
/// What is asked for.
const TARGET_PER_S: f64 = 200_000.0;

type Frame = (u16, Vec<u8>);

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("nothing is measured without `cargo bench`");
        return;
    }
    println!("{:20} {:>9} {:>14} {:>10}", "session", "messages", "messages/s", "µs each");
    let mut slowest = f64::MAX;
    for name in SESSIONS {
        let all = frames(name);
        let lengths: Vec<usize> = all.iter().map(|(_, payload)| payload.len()).collect();
        let begin = all.len() / 2 - all.len() / 8;
        let (session, of_loop) = (rate(&all, 0), rate(&all, begin));
        let bytes = lengths.iter().sum::<usize>() / lengths.len();
        for (what, rate) in [("whole", session), ("loop", of_loop)] {
            println!("{:20} {:>9} {rate:>14.0} {:>10.2}", format!("{name} {what}"), all.len(), 1e6 / rate);
        }
        println!("{:20} {bytes} bytes a message", "");
        slowest = slowest.min(of_loop);
    }
    println!("{{\"messages_per_s_slowest_loop\":{slowest:.0},\"asked\":{TARGET_PER_S}}}");
}

/// Messages in a second: the whole session, or a quarter of it from `begin` on, in its charging loop.
fn rate(all: &[Frame], begin: usize) -> f64 {
    let (mut tracker, mut mono, mut told) = (Tracker::default(), 0_u64, 0_usize);
    let mut play = |tracker: &mut Tracker, frames: &[Frame]| {
        for (payload_type, payload) in frames {
            // A loop of 250 ms.
            mono += 125_000_000;
            tracker.handle_frame(*payload_type, black_box(payload), Mono(mono));
            told += tracker.drain().count();
        }
    };
    let part = if begin == 0 { all } else { &all[begin..begin + all.len() / 4] };
    play(&mut tracker, &all[..begin]);
    let (started, mut played) = (Instant::now(), 0_usize);
    while started.elapsed() < Duration::from_secs(1) {
        for _ in 0..20 {
            play(&mut tracker, part);
            played += part.len();
        }
    }
    black_box(told);
    assert_eq!(tracker.unreadable().count(), 0, "the recordings can be read");
    played as f64 / started.elapsed().as_secs_f64()
}

/// Both sides in the order in which they spoke.
fn frames(name: &str) -> Vec<Frame> {
    let side = |side: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/iso15118/{name}.{side}.bin"));
        let mut frames: Vec<Frame> = Vec::new();
        Frames::default().push(&std::fs::read(path).expect("a recording"), |piece| match piece {
            Piece::Frame { payload_type, payload } => frames.push((payload_type, payload.to_vec())),
            Piece::Bad(reason) => panic!("{reason}"),
        });
        frames
    };
    side("ev").into_iter().zip(side("se")).flat_map(|(request, answer)| [request, answer]).collect()
}
