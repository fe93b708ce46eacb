//! Whether the polls of a device are kept, and what to do if they are not. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use crate::measure::Mono;
use crate::spec::DeviceId;

/// So many polls that were not kept within [`Keeping::span`] are told; fewer are a bad moment.
const MISSED_MIN: usize = 3;
/// The span, and how long all must have been kept before that is told; at least so many polls.
const SPAN: Duration = Duration::from_secs(60);
const SPAN_POLLS: u32 = 10;
/// Polls that are remembered.
const MISSED_MAX: usize = 64;

/// The polls that one device did not keep.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    missed: VecDeque<Mono>,
    interval: Duration,
    is_told: bool,
    /// It has answered since the last poll that it did not keep.
    has_answered: bool,
}

/// What has become of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Its polls are not kept any more.
    Lost,
    /// They are again.
    Kept,
}

impl Keeping {
    fn span(&self) -> Duration {
        SPAN.max(self.interval * SPAN_POLLS)
    }

    fn forget(&mut self, now: Mono) {
        let span = self.span();
        self.missed.retain(|at| now.since(*at) < span);
    }

    /// A block that is due every `interval` was not read in time. Of one poll each block comes here.
    pub(super) fn missed(&mut self, interval: Duration, now: Mono) {
        self.interval = self.interval.max(interval);
        self.forget(now);
        let is_of_it = |last: &Mono| now.since(*last) < interval / 2;
        if !self.missed.back().is_some_and(is_of_it) && self.missed.len() < MISSED_MAX {
            self.missed.push_back(now);
            self.has_answered = false;
        }
    }

    /// A request to it was answered, be it late.
    pub(super) fn answered(&mut self) {
        self.has_answered = true;
    }

    /// A request to it was not answered: that is told by itself, and polls that were due meanwhile say nothing more.
    pub(super) fn failed(&mut self) {
        self.missed.clear();
        self.has_answered = false;
    }

    /// What is to be told now.
    pub(super) fn change(&mut self, now: Mono) -> Option<Change> {
        self.forget(now);
        if !self.has_answered {
            return None;
        }
        let change = match (self.is_told, self.missed.len()) {
            (false, MISSED_MIN..) => Change::Lost,
            (true, 0) => Change::Kept,
            _ => return None,
        };
        self.is_told = !self.is_told;
        Some(change)
    }

    pub(super) fn is_told(&self) -> bool {
        self.is_told
    }
}

/// What a device and its bus have to do, at the pace of the device's fastest poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Load {
    /// That pace.
    pub(super) poll: Duration,
    /// How long its slowest unit takes to answer.
    pub(super) answer: Duration,
    /// Requests of one poll.
    pub(super) requests: usize,
    /// The longest pause after an answer that it needs.
    pub(super) pause: Duration,
    /// What all that takes in one poll.
    pub(super) own: Duration,
    /// What the devices of the bus take together in the same time.
    pub(super) all: Duration,
}

impl Load {
    /// Why the polls of a device are not kept, with what to do.
    pub(super) fn words(&self, id: &DeviceId, is_serial: bool) -> String {
        let Self { poll, answer, requests, pause, own, all } = *self;
        let shown = shown(poll);
        if own * 10 > poll * 9 {
            let each =
                if requests == 1 { "its request".to_owned() } else { format!("each of its {requests} requests") };
            let of_pause = if pause.is_zero() {
                String::new()
            } else {
                format!(", after each of which it does not hear for {}", self::shown(pause))
            };
            return format!(
                "{each} takes up to {}{of_pause}, and its poll is {shown}; set poll = \"{}\" in [device.{id}], or read less of it by \
                 a profile of your own",
                self::shown(answer),
                poll_for(own)
            );
        }
        if all * 10 > poll * 9 {
            let faster = if is_serial { ", raise its baud rate" } else { "" };
            return format!(
                "all that is read on its bus takes {} of every {shown}; set poll = \"{}\" for the devices of the bus{faster}, or give \
                 some of them a bus of their own",
                self::shown(all),
                poll_for(all)
            );
        }
        format!(
            "its bus was waiting for answers that did not come when its poll of {shown} was due; see to the devices of this bus that \
             are silent or late, give them a shorter timeout, or set a longer poll"
        )
    }
}

/// A usual interval into which this fits with room to spare.
fn poll_for(time: Duration) -> String {
    const USUAL: [u64; 14] =
        [100, 200, 250, 500, 1_000, 1_500, 2_000, 3_000, 5_000, 10_000, 15_000, 30_000, 60_000, 300_000];
    let wanted = time + time / 5;
    let usual = USUAL.into_iter().map(Duration::from_millis).find(|usual| *usual >= wanted);
    let fit = usual.unwrap_or(Duration::from_secs(3600));
    if fit.subsec_millis() == 0 { format!("{}s", fit.as_secs()) } else { format!("{}ms", fit.as_millis()) }
}

fn shown(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{} ms", time.as_millis())
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL: Duration = Duration::from_millis(500);

    fn at(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }

    #[test]
    fn polls_that_are_not_kept_are_told_once_and_so_is_that_they_are_again() {
        let mut keeping = Keeping::default();
        let mut told = Vec::new();
        for n in 0..1_000 {
            // Two blocks of each poll.
            keeping.missed(POLL, at(n * 1_000));
            keeping.missed(POLL, at(n * 1_000 + 2));
            keeping.answered();
            told.extend(keeping.change(at(n * 1_000 + 3)));
        }
        assert_eq!(told, [Change::Lost]);
        assert_eq!(keeping.change(at(1_050_000)), None);
        assert_eq!(keeping.change(at(1_060_000)), Some(Change::Kept));
        assert_eq!(keeping.change(at(1_070_000)), None);
    }

    /// A server that was unplugged was told as one that is not read often enough, and a minute later as one that is again.
    #[test]
    fn of_a_device_that_does_not_answer_nothing_is_told() {
        let mut keeping = Keeping::default();
        for n in 0..1_000 {
            keeping.missed(POLL, at(n * 500));
            assert_eq!(keeping.change(at(n * 500 + 1)), None);
            if n % 4 == 3 {
                keeping.failed();
            }
        }
        keeping.answered();
        assert_eq!(keeping.change(at(500_000)), None);
    }

    #[test]
    fn a_bad_moment_is_not_told() {
        let mut keeping = Keeping::default();
        for n in 0..20 {
            keeping.missed(POLL, at(n * 60_000));
            keeping.missed(POLL, at(n * 60_000 + 500));
            keeping.answered();
            assert_eq!(keeping.change(at(n * 60_000 + 501)), None);
        }
    }

    #[test]
    fn the_cure_is_that_of_the_situation() {
        let id = "meter".try_into().expect("a name");
        let ms = Duration::from_millis;
        let slow = Load { poll: POLL, answer: ms(700), requests: 1, pause: ms(0), own: ms(700), all: ms(700) };
        let words = slow.words(&id, false);
        assert!(
            words.contains(
                "its request takes up to 700 ms, and its poll is 500 ms; set poll = \"1s\" in [device.meter]"
            ),
            "{words}"
        );
        let deaf = Load { answer: ms(40), requests: 3, pause: ms(530), own: ms(1_710), ..slow };
        let words = deaf.words(&id, true);
        assert!(words.contains("does not hear for 530 ms") && words.contains("poll = \"3s\""), "{words}");
        let full = Load { answer: ms(40), own: ms(120), all: ms(1_200), ..slow };
        let words = full.words(&id, true);
        assert!(words.contains("takes 1.2 s of every 500 ms") && words.contains("baud rate"), "{words}");
        let held_up = Load { answer: ms(40), own: ms(120), all: ms(200), ..slow };
        assert!(held_up.words(&id, true).contains("did not come"));
    }
}
