//! A backlog: what the station saw before, sent all at once.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::net::UnixStream;

use hil_tests::oracle::{Line, Value};
use hil_tests::wait::unix_ns;

use super::mirror_of;
use super::rig::{Rig, text};

const S: i64 = 1_000_000_000;
/// 60 s at 45.5 kW, with the times of a day of 2025.
const FEED: &str = "tests/data/iso15118/feeds/06-late.feed";
/// Its first time, µs.
const FIRST_US: u64 = 1_764_000_000_000_000;

/// A feed with every record's time moved by as much as its first one is.
fn from(feed: &str, first_us: u64) -> Vec<u8> {
    let mut bytes = std::fs::read(feed).expect("the feed");
    let mut at = 0;
    while at < bytes.len() {
        let field = |from: usize| <[u8; 8]>::try_from(&bytes[at + from..at + from + 8]).expect("eight bytes");
        let time = u64::from_be_bytes(field(4)) - FIRST_US + first_us;
        let length = u32::from_be_bytes(bytes[at + 12..at + 16].try_into().expect("four bytes"));
        bytes[at + 4..at + 12].copy_from_slice(&time.to_be_bytes());
        at += 16 + usize::try_from(length).expect("short");
    }
    bytes
}

fn power(line: &Line) -> Option<f64> {
    line.field("power_flow").and_then(Value::number)
}

/// Delivers the feed, and holds what arrives against the minute before `newest_ns`.
fn deliver(bytes: &[u8], newest_ns: impl Fn(i64) -> i64) {
    let rig = Rig::start(&mirror_of(1));
    let mut stream = UnixStream::connect(rig.path("mirror.sock")).expect("the mirror");
    let now = unix_ns();
    stream.write_all(bytes).expect("it listens");
    let ended =
        rig.wait_for("the end", |heard| heard.events_of("evse-1", "session_ended").first().map(|line| (*line).clone()));
    let number = |field: &str| ended.field(field).and_then(Value::number);
    // 240 turns of 250 ms at 45.5 kW are 60 s; from the set-up to the stop are 61.
    assert_eq!((number("import_wh"), number("seconds")), (Some(758.0), Some(61.0)), "{ended:?}");
    let times: BTreeSet<i64> = rig.wait_for("every value", |heard| {
        let with_power = heard.lines.iter().filter(|line| power(line).is_some_and(|kw| (kw - 45.5).abs() < 0.1));
        let times: BTreeSet<i64> = with_power.map(|line| line.time_ns).collect();
        (times.len() >= 235).then_some(times)
    });
    let (first, last) = (times.first().expect("some"), times.last().expect("some"));
    assert!((58 * S..=61 * S).contains(&(last - first)), "{} ms", (last - first) / 1_000_000);
    let newest = newest_ns(now);
    assert!((newest - 3 * S..=newest + 5 * S).contains(last), "{} ms after the newest", (last - newest) / 1_000_000);
    let heard = rig.heard();
    assert!(
        heard.lines.iter().filter(|line| power(line).is_some()).all(|line| line.time_ns <= unix_ns()),
        "none is to come"
    );
    let started = heard.events_of("evse-1", "session_started");
    assert_eq!(started.len(), 1);
    assert!(started[0].time_ns <= first + S, "it began before its values");
    assert!(!text(&ended, "how").is_empty());
}

#[test]
fn a_minute_of_ten_minutes_ago_that_comes_at_once_is_ten_minutes_old() {
    let began = unix_ns() - 660 * S;
    deliver(&from(FEED, u64::try_from(began / 1_000).expect("after 1970")), |_| began + 60 * S);
}

#[test]
fn a_minute_of_a_station_whose_clock_is_in_another_year_ends_when_it_comes() {
    deliver(&from(FEED, FIRST_US), |now| now);
}

/// Nobody tells the power of an AC session of ISO 15118-2: it is worked out from the meter, and every line that has it says so.
#[test]
fn a_power_that_is_worked_out_of_a_meter_is_marked_in_each_line() {
    let rig = Rig::start(&mirror_of(1));
    let mut stream = UnixStream::connect(rig.path("mirror.sock")).expect("the mirror");
    let began = unix_ns() - 660 * S;
    let feed = from("tests/data/iso15118/feeds/17-ac-power.feed", u64::try_from(began / 1_000).expect("after 1970"));
    stream.write_all(&feed).expect("it listens");
    rig.wait_for("the end", |heard| heard.events_of("evse-1", "session_ended").first().map(|_| ()));
    let lines: Vec<Line> = rig.wait_for("the power before and after", |heard| {
        let with_power: Vec<Line> = heard.lines.iter().filter(|line| power(line).is_some()).cloned().collect();
        let zeros = with_power.iter().filter(|line| power(line) == Some(0.0)).count();
        (with_power.len() >= 40 && zeros >= 10).then_some(with_power)
    });
    for line in &lines {
        assert_eq!((text(line, "power_source"), text(line, "suspect")), ("meter", ""), "{line:?}");
        assert_eq!(text(line, "session_id"), "4fde139fc6844d0e", "{line:?}");
        let (kw, since) = (power(line).expect("a power"), (line.time_ns - began) / S);
        assert!((kw - 3.68).abs() <= 0.37 && since < 70 || kw == 0.0 && since > 95, "{kw} kW after {since} s");
        assert_eq!(line.tag("direction"), Some(if kw == 0.0 { "idle" } else { "G2V" }));
    }
}
