//! What a device really had, for the judge.

use super::course::Course;
use super::script::Source;

/// Between two messages of a loop, at most: beyond, nobody knows what was in between.
const HOLE_NS: i64 = 5_000_000_000;

/// One device over the whole run. Times are ns since 1970 by this machine's clock.
#[derive(Debug)]
pub(super) struct DeviceTruth<'d> {
    pub(super) id: &'d str,
    pub(super) source: Source,
    pub(super) power: Power<'d>,
    /// When its power was read, or sent. In order.
    pub(super) heard: Vec<i64>,
    /// What its registers counted, from and to the grid, mWh.
    pub(super) counted: Option<(i64, i64)>,
    /// Of a meter behind messages: its readings, from and to the grid, mWh.
    pub(super) readings: Vec<(i64, (i64, i64))>,
    pub(super) visits: Vec<VisitTruth>,
    /// Of a session that is heard: its id, and what flowed after the last power that was told, kWh.
    pub(super) last_turn: Option<(String, f64)>,
    /// When nothing of it could be known, though the agent ran.
    pub(super) mute: Vec<(i64, i64)>,
}

/// A charging session.
#[derive(Debug)]
pub(super) struct VisitTruth {
    pub(super) from_ns: i64,
    pub(super) to_ns: i64,
    /// First and last, %.
    pub(super) soc: (f64, f64),
    /// What its registers counted in it, mWh.
    pub(super) counted: Option<(i64, i64)>,
    pub(super) session_id: Option<String>,
    pub(super) vehicle: Option<String>,
}

/// Power as a function of time.
#[derive(Debug)]
pub(super) enum Power<'d> {
    /// As the script has it, which begins then.
    Course(&'d Course, i64),
    /// As was sent, straight lines in between.
    Sent(Vec<(i64, f64)>),
}

fn seconds(ns: i64) -> f64 {
    ns as f64 / 1e9
}

impl Power<'_> {
    /// Least and most in this time, kW; `None`: nothing is known of it.
    pub(super) fn range(&self, from_ns: i64, to_ns: i64) -> Option<(f64, f64)> {
        match self {
            Self::Course(course, begin) => Some(course.range(seconds(from_ns - begin), seconds(to_ns - begin))),
            Self::Sent(sent) => {
                let first = sent.partition_point(|(at, _)| *at < from_ns).saturating_sub(1);
                let within = sent[first..].iter().take_while(|(at, _)| *at <= to_ns).map(|(_, kw)| *kw);
                within.fold(None, |range, kw| {
                    let (min, max) = range.unwrap_or((kw, kw));
                    Some((kw.min(min), kw.max(max)))
                })
            }
        }
    }

    /// What flowed each way in this time, kWh.
    pub(super) fn flowed(&self, from_ns: i64, to_ns: i64) -> (f64, f64) {
        match self {
            Self::Course(course, begin) => {
                let (before, then) = (course.flowed(seconds(from_ns - begin)), course.flowed(seconds(to_ns - begin)));
                (then.0 - before.0, then.1 - before.1)
            }
            Self::Sent(sent) => {
                let first = sent.partition_point(|(at, _)| *at < from_ns).saturating_sub(1);
                let pairs = sent[first..].windows(2).take_while(|pair| pair[0].0 < to_ns);
                pairs.filter(|pair| pair[1].0 - pair[0].0 < HOLE_NS).fold((0.0, 0.0), |sum, pair| {
                    let (one, next) = (pair[0], pair[1]);
                    let kw = |at: i64| one.1 + (next.1 - one.1) * seconds(at - one.0) / seconds(next.0 - one.0);
                    let (from, to) = (from_ns.clamp(one.0, next.0), to_ns.clamp(one.0, next.0));
                    let (import, export) = areas(kw(from), kw(to), seconds(to - from) / 3_600.0);
                    (sum.0 + import, sum.1 + export)
                })
            }
        }
    }
}

/// Under and over a straight line, above and below 0.
fn areas(from: f64, to: f64, hours: f64) -> (f64, f64) {
    if from * to >= 0.0 {
        let kwh = f64::midpoint(from, to) * hours;
        return (kwh.max(0.0), (-kwh).max(0.0));
    }
    let part = from / (from - to);
    let (first, second) = (from * part * hours / 2.0, to * (1.0 - part) * hours / 2.0);
    (first.max(second), (-first).max(-second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_is_known_between_two_messages_and_not_over_a_silence() {
        const S: i64 = 1_000_000_000;
        let power = Power::Sent(vec![(0, 36.0), (S, 36.0), (2 * S, -36.0), (20 * S, 36.0), (21 * S, 36.0)]);
        let (import, export) = power.flowed(S / 2, 30 * S);
        // Half a second, half of the triangle each way, and a second behind the silence.
        assert!((import - (0.005 + 0.0025 + 0.01)).abs() < 1e-9, "{import}");
        assert!((export - 0.0025).abs() < 1e-9, "{export}");
        assert_eq!(power.range(S, 2 * S), Some((-36.0, 36.0)));
        assert_eq!(Power::Sent(vec![]).range(0, S), None);
    }
}
