//! How the last requests to a device went, and what a person should know of it. Pure.

use std::collections::VecDeque;

use hal::BusError;

/// At two requests a second, two minutes: long enough to count one in a hundred.
const REMEMBERED: usize = 256;
/// Fewer failures of a kind, or a smaller share, is a bad moment.
const FAILURES_MIN: usize = 3;
const SHARE_MIN: f64 = 0.01;
/// From so many requests on, a share means something.
const REQUESTS_MIN: usize = 20;

/// The outcomes of the last requests, by the name of the failure.
#[derive(Debug, Default)]
pub(super) struct Record {
    last: VecDeque<Option<&'static str>>,
    /// The newest words for each kind of failure.
    words: Vec<(&'static str, String)>,
}

impl Record {
    /// Another outcome; what is wrong with the device, in its own share and words, if anything is.
    pub(super) fn add(&mut self, failure: Option<&BusError>) -> Option<String> {
        self.last.push_back(failure.map(BusError::name));
        if self.last.len() > REMEMBERED {
            self.last.pop_front();
        }
        if let Some(error) = failure {
            self.words.retain(|(name, _)| *name != error.name());
            self.words.push((error.name(), error.to_string()));
        }
        self.trouble()
    }

    fn count(&self, name: &str) -> usize {
        self.last.iter().filter(|outcome| **outcome == Some(name)).count()
    }

    /// Whether late answers explain its silences.
    pub(super) fn is_mostly_late(&self) -> bool {
        self.count("late") > 0 && self.count("late") * 2 >= self.count("timeout")
    }

    fn trouble(&self) -> Option<String> {
        let all = self.last.len();
        if all < REQUESTS_MIN {
            return None;
        }
        // Late answers are told first: each of them was also counted as a silence.
        let (name, words) =
            self.words.iter().max_by_key(|(name, _)| usize::from(*name == "late") * all + self.count(name))?;
        let count = self.count(name);
        #[allow(clippy::cast_precision_loss, reason = "at most 256")]
        let share = count as f64 / all as f64;
        (count >= FAILURES_MIN && share >= SHARE_MIN)
            .then(|| format!("{:.0} % of the last {all} requests: {words}", share * 100.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit() -> hal::UnitId {
        hal::UnitId::try_from(5).expect("a unit")
    }

    #[test]
    fn one_bad_frame_is_no_trouble_and_five_in_a_hundred_are() {
        let noise = BusError::Noise { unit: unit(), heard: 9 };
        let mut record = Record::default();
        for _ in 0..99 {
            assert_eq!(record.add(None), None);
        }
        assert_eq!(record.add(Some(&noise)), None);
        for n in 0..100 {
            record.add((n % 20 == 0).then_some(&noise));
        }
        let trouble = record.add(None).expect("told");
        assert!(trouble.starts_with("3 % of the last 201 requests: 9 bytes came from unit 5"), "{trouble}");
        (0..256).for_each(|_| drop(record.add(None)));
        assert_eq!(record.add(None), None, "mended");
    }

    #[test]
    fn a_device_that_is_late_is_told_as_late_though_it_is_also_silent() {
        let late = BusError::Late { unit: unit(), after_ms: 240, ms: 100 };
        let silent = BusError::Timeout { unit: unit(), ms: 100 };
        let mut record = Record::default();
        let mut told = None;
        for _ in 0..20 {
            record.add(Some(&silent));
            told = record.add(Some(&late));
        }
        assert!(told.is_some_and(|told| told.contains("answers late, after 240 ms")));
        assert!(record.is_mostly_late());
    }
}
