//! How much may be logged: a few lines a minute for each cause, and a count of what was left out. Pure.
//!
//! - A cause is a place in the code (a callsite) and what its line is about: its field `device`, `bus`, `broker` or `path`.
//!   The first [`LINES_MAX`] lines of a cause in a minute are written; of one callsite, whatever they are about, the first
//!   [`CALLSITE_LINES_MAX`].
//! - What is left out is counted. When the minute is over one line tells how many lines about the same were left out, and
//!   the last of them word by word: how it ended is always to be found. Of a cause that goes on in the next minute
//!   nothing else is written, so that a flood costs one line a minute.
//! - Lines below INFO are asked for by a person, and are not bounded.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

/// What is counted together.
const MINUTE: Duration = Duration::from_secs(60);
/// Lines of a cause in a minute before the others are left out.
const LINES_MAX: u32 = 4;
/// Lines of a callsite in a minute: a switch that fails silences 50 devices, and each is worth a line.
const CALLSITE_LINES_MAX: u32 = 60;
/// Causes remembered. Beyond, all that are new are one for each callsite.
const CAUSES_MAX: usize = 512;
/// What is left out of more subjects than this is told in one line.
const SUMMARIES_MAX: usize = 8;
/// Bytes of a line that was left out and is told as the last one.
pub(super) const LAST_BYTES_MAX: usize = 400;

/// What was written in this minute; `C` is a callsite.
#[derive(Debug)]
pub(super) struct LogBound<C> {
    /// When the minute began: one for all, so that what belongs together is told together.
    since: Duration,
    causes: HashMap<(C, String), Lines>,
    /// Lines written of each.
    callsites: HashMap<C, u32>,
    /// Lines left out so far.
    places: u64,
}

#[derive(Debug, Default)]
struct Lines {
    written: u32,
    left_out: u64,
    /// Some were left out in the minute before this one, too.
    is_lasting: bool,
    /// The last that was left out, and its place among all.
    last: String,
    place: u64,
}

/// What was left out in the last minute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// What the lines were about; empty: nothing of its own.
    pub(super) subject: String,
    /// How many.
    pub(super) lines: u64,
    /// The last of them.
    pub(super) last: String,
}

impl<C: Clone + Eq + Hash> Default for LogBound<C> {
    fn default() -> Self {
        Self { since: Duration::ZERO, causes: HashMap::new(), callsites: HashMap::new(), places: 0 }
    }
}

impl<C: Clone + Eq + Hash> LogBound<C> {
    /// Whether a line may be written; `text` is asked for if not.
    pub(super) fn take(&mut self, callsite: C, subject: &str, text: impl FnOnce() -> String) -> bool {
        let key = (callsite.clone(), subject.to_owned());
        let is_new = !self.causes.contains_key(&key);
        let key = if is_new && self.causes.len() >= CAUSES_MAX { (callsite.clone(), String::new()) } else { key };
        let all = self.callsites.entry(callsite).or_default();
        let cause = self.causes.entry(key).or_default();
        let may = if cause.is_lasting { 0 } else { LINES_MAX };
        if cause.written < may && *all < CALLSITE_LINES_MAX {
            *all += 1;
            cause.written += 1;
            return true;
        }
        self.places += 1;
        cause.left_out += 1;
        cause.place = self.places;
        cause.last = text();
        false
    }

    /// It is `now`: what is to be told of the minute, if it is over.
    pub(super) fn due(&mut self, now: Duration) -> Vec<LeftOut> {
        if now < self.since + MINUTE {
            return Vec::new();
        }
        self.since = now;
        self.rest()
    }

    /// All that is to be told; another minute begins.
    pub(super) fn rest(&mut self) -> Vec<LeftOut> {
        let mut found: Vec<(LeftOut, u64)> = Vec::new();
        self.callsites.clear();
        self.causes.retain(|(_, subject), lines| {
            let Lines { written, left_out, last, place, .. } = std::mem::take(lines);
            lines.is_lasting = left_out > 0;
            if left_out == 0 {
                return written > 0;
            }
            // Lines without a subject have nothing in common.
            match found.iter_mut().find(|(told, _)| !subject.is_empty() && told.subject == *subject) {
                Some((told, newest)) => {
                    told.lines += left_out;
                    if place > *newest {
                        (told.last, *newest) = (last, place);
                    }
                }
                None => found.push((LeftOut { subject: subject.clone(), lines: left_out, last }, place)),
            }
            true
        });
        together(found)
    }
}

/// The noisiest ones each, and all others in one.
fn together(mut found: Vec<(LeftOut, u64)>) -> Vec<LeftOut> {
    found.sort_by(|(a, _), (b, _)| b.lines.cmp(&a.lines).then_with(|| a.subject.cmp(&b.subject)));
    let others = found.split_off(found.len().min(SUMMARIES_MAX));
    let mut told: Vec<LeftOut> = found.into_iter().map(|(told, _)| told).collect();
    if let Some((last, _)) = others.iter().max_by_key(|(_, place)| *place) {
        let lines = others.iter().map(|(told, _)| told.lines).sum();
        let subject = format!("{} others", others.len());
        told.push(LeftOut { subject, lines, last: last.last.clone() });
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    /// Offers `per_second` lines a second about each subject for so long, telling every 5 s; answers what was written.
    fn written(bound: &mut LogBound<u8>, subjects: &[&str], per_second: u32, seconds: u32) -> Vec<(u32, String)> {
        let mut lines = Vec::new();
        for second in 0..seconds {
            for n in 0..per_second {
                for subject in subjects {
                    // Two callsites in turn: a device comes and goes.
                    let callsite = u8::try_from(n % 2).expect("small");
                    if bound.take(callsite, subject, || format!("{callsite} {second}.{n}")) {
                        lines.push((second, format!("{callsite} {subject}")));
                    }
                }
            }
            if second % 5 == 0 {
                let left_out = bound.due(S * second);
                lines.extend(
                    left_out.into_iter().map(|told| (second, format!("{} more of {}", told.lines, told.subject))),
                );
            }
        }
        lines
    }

    #[test]
    fn a_device_that_comes_and_goes_for_an_hour_costs_a_line_a_minute() {
        let mut bound = LogBound::default();
        let lines = written(&mut bound, &["meter-1"], 20, 3_600);
        assert!(lines.len() <= 2 * LINES_MAX as usize + 60, "{} lines: {lines:?}", lines.len());
        let later: Vec<_> = lines.iter().filter(|(second, _)| *second > 120).collect();
        assert!(later.iter().all(|(_, line)| line.ends_with("more of meter-1")), "{later:?}");
    }

    #[test]
    fn every_line_is_written_or_counted_and_the_last_one_is_told() {
        let mut bound = LogBound::default();
        let mut written = 0;
        for n in 0..1_000_u32 {
            written += u64::from(bound.take((), "a", || n.to_string()));
        }
        let left_out = bound.due(S * 60);
        assert_eq!(left_out, [LeftOut { subject: "a".to_owned(), lines: 1_000 - written, last: "999".to_owned() }]);
        assert_eq!(bound.due(S * 61), [], "told once");
        assert_eq!(written, u64::from(LINES_MAX));
    }

    #[test]
    fn what_has_calmed_down_is_written_at_once_again() {
        let mut bound = LogBound::default();
        for _ in 0..1_000 {
            bound.take((), "a", String::new);
        }
        assert_eq!(bound.due(S * 60).len(), 1);
        // Within the next minute it would still be the same flood.
        assert!(!bound.take((), "a", String::new));
        assert_eq!(bound.due(S * 130).len(), 1);
        assert_eq!(bound.due(S * 200).len(), 0);
        assert!(bound.take((), "a", String::new));
    }

    #[test]
    fn a_few_lines_a_minute_are_written_as_they_come() {
        let mut bound = LogBound::default();
        for n in 1..300_u32 {
            assert!(bound.take((), "a", String::new), "{n}");
            assert_eq!(bound.due(S * n * 20 + S), []);
        }
    }

    #[test]
    fn a_hundred_devices_at_once_are_bounded_and_told_together() {
        let mut bound = LogBound::default();
        let names: Vec<String> = (0..100).map(|n| format!("meter-{n:02}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let lines = written(&mut bound, &names, 10, 600);
        let of_minute = |minute| lines.iter().filter(|(second, _)| second / 60 == minute).count();
        assert!(of_minute(0) <= 2 * CALLSITE_LINES_MAX as usize, "{}", of_minute(0));
        assert!((2..10).all(|minute| of_minute(minute) <= SUMMARIES_MAX + 1), "{lines:?}");
        assert!(lines.iter().any(|(_, line)| line.ends_with("more of 92 others")), "{lines:?}");
    }

    #[test]
    fn more_causes_than_can_be_remembered_are_one_for_each_callsite() {
        let mut bound = LogBound::default();
        let mut written = 0;
        for n in 0..100_000_u32 {
            written += u32::from(bound.take((), &n.to_string(), String::new));
        }
        assert!(written <= CALLSITE_LINES_MAX, "{written}");
        assert!(bound.causes.len() <= CAUSES_MAX + 1);
        assert_eq!(bound.rest().iter().map(|told| told.lines).sum::<u64>(), u64::from(100_000 - written));
    }
}
