//! Windows on a dense stream, through the whole agent to a subscriber.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use hil_tests::oracle::Message;
use hil_tests::wait::wait_for;

use super::{CHADEMO, Rig, SOON};

const SECONDS: u64 = 12;
const WINDOW_NS: i64 = 250_000_000;
/// A label is a whole millisecond, and a wall clock that is slewed (at most 500 ppm) runs apart from the monotonic one by 0.1 ms in a window.
const LABEL_NS: i64 = 3_000_000;
/// Windows in as many seconds, but for the two that its beginning and its end cut. On a busy machine not each of them has a frame.
const WHOLE: usize = 46;

/// Frames of a session at this rate. Their times are of no day, so that they are of the moment at which they are played.
fn recording(frames_per_second: u64) -> String {
    let frames = ["100#00000000A4016400", "102#02A4011400812D00", "109#0290010001050000", "208#F15E01F100000000"];
    let mut log = String::new();
    for (n, frame) in (0..frames_per_second * SECONDS).zip(frames.into_iter().cycle()) {
        let us = n * 1_000_000 / frames_per_second;
        writeln!(log, "({}.{:06}) can0 {frame}", 1 + us / 1_000_000, us % 1_000_000).expect("written");
    }
    log
}

/// Of each window with a voltage, by its end: how long after that it came to the subscriber, ns.
fn arrivals(messages: &[Message]) -> BTreeMap<i64, Vec<i64>> {
    let mut arrivals: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for message in messages {
        for line in message.device_lines().into_iter().filter(|line| line.field("voltage").is_some()) {
            arrivals.entry(line.time_ns).or_default().push(message.received_ns - line.time_ns);
        }
    }
    arrivals
}

/// Of 48 windows 41, 18 and 9 were closed, and one held seconds.
#[test]
fn every_window_of_a_dense_stream_ends_and_comes_to_a_subscriber() {
    let rigs = [400, 1_000, 8_000].map(|rate| (rate, Rig::start(&recording(rate), CHADEMO)));
    for (rate, rig) in rigs {
        let over = || {
            let status = rig.agent.status().map_err(|error| error.to_string())?;
            let answers = status.number("/devices/dc-1/answers");
            if answers == Some(rate * SECONDS) { Ok(status) } else { Err(format!("{answers:?} frames")) }
        };
        let status = wait_for(SOON, "the recording's end", over).unwrap_or_else(|late| panic!("{late}"));
        assert_eq!(status.number("/pipeline/samples_shed"), Some(0), "{rate} frames/s");
        let came = wait_for(SOON, "every window", || {
            let came = rig.consumer.look(arrivals);
            if came.len() >= WHOLE / 2 { Ok(came) } else { Err(format!("{} windows", came.len())) }
        });
        let came = came.unwrap_or_else(|late| panic!("at {rate} frames/s: {late}"));
        let closed = status.number("/pipeline/windows");
        assert!(closed >= Some(WHOLE as u64), "at {rate} frames/s {closed:?} windows were closed");
        // How late one may be is measured, and no matter of a test: `cargo bench --bench can`. What must hold on any machine: each came
        // once and not before its end, and the ends are 250 ms apart, or a multiple of that where one had no frame.
        let ends: Vec<i64> = came.keys().copied().collect();
        for (end, after) in &came {
            assert!(
                matches!(after[..], [after] if after > 0),
                "at {rate} frames/s window {end} came after {after:?} ns"
            );
        }
        let apart = ends.windows(2).map(|pair| pair[1] - pair[0]);
        let is_whole = |ns: i64| (ns + WINDOW_NS / 2) % WINDOW_NS - WINDOW_NS / 2;
        let odd: Vec<i64> = apart.filter(|ns| is_whole(*ns).abs() > LABEL_NS || *ns < WINDOW_NS / 2).collect();
        assert!(odd.is_empty(), "at {rate} frames/s: windows of another length: {odd:?} ns");
        let ns = |after: i64| Duration::from_nanos(u64::try_from(after).unwrap_or(0));
        let mut after: Vec<Duration> = came.into_values().flatten().map(ns).collect();
        after.sort_unstable();
        let [median, p99, most] = [after.len() / 2, (after.len() - 1) * 99 / 100, after.len() - 1].map(|at| after[at]);
        println!(
            "{rate} frames/s: {} windows; end to subscriber {median:?} in the median, p99 {p99:?}, at most {most:?}",
            after.len()
        );
    }
}
