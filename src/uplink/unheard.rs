//! Nobody subscribes: the broker says so in a PUBACK (0x10, "No matching subscribers"). Pure; times are since the uplink's
//! start.
//!
//! By default that is an acknowledgement like others: a broker whose own rules read what comes has no subscribers either.
//! With `no_subscriber = "hold"` it is not believed: the entry stays in the journal. Its lane then offers one entry after a
//! wait that doubles, until one of it has somebody who reads it; the other lane goes on.

use std::time::Duration;

use crate::journal::Lane;

/// The code.
pub(super) const NO_MATCHING_SUBSCRIBERS: u8 = 0x10;
/// Between two offers of a lane that nobody reads, at first …
const PAUSE_FIRST: Duration = Duration::from_millis(500);
/// … and after a while: so long a consumer that comes waits for its first entry.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Which lanes nobody reads.
#[derive(Debug)]
pub(super) struct Unheard {
    holds: bool,
    lanes: [Option<Pause>; 2],
}

#[derive(Debug, Clone, Copy)]
struct Pause {
    until: Duration,
    length: Duration,
}

impl Unheard {
    /// `holds`: what nobody reads is not taken as delivered.
    pub(super) fn new(holds: bool) -> Self {
        Self { holds, lanes: [None; 2] }
    }

    /// The broker has taken an entry of the lane; whether the entry has to stay here all the same.
    pub(super) fn answered(&mut self, lane: Lane, code: u8, now: Duration) -> bool {
        let pause = &mut self.lanes[place(lane)];
        if code != NO_MATCHING_SUBSCRIBERS || !self.holds {
            *pause = None;
            return false;
        }
        match pause {
            None => *pause = Some(Pause { until: now + PAUSE_FIRST, length: PAUSE_FIRST }),
            // A whole window that nobody reads is one answer.
            Some(Pause { until, .. }) if now < *until => {}
            Some(Pause { until, length }) => {
                *length = (*length * 2).min(PAUSE_MAX);
                *until = now + *length;
            }
        }
        true
    }

    /// Whether the lane goes on, as far as is known.
    pub(super) fn is_read(&self, lane: Lane) -> bool {
        self.lanes[place(lane)].is_none()
    }

    /// How many of `room` entries the lane may offer now, of which `in_flight` are on their way.
    pub(super) fn room(&self, lane: Lane, room: usize, in_flight: usize, now: Duration) -> usize {
        match self.lanes[place(lane)] {
            None => room,
            Some(Pause { until, .. }) if now < until => 0,
            Some(_) => room.min(1_usize.saturating_sub(in_flight)),
        }
    }

    /// When the next lane may offer an entry again, after `now`.
    pub(super) fn until(&self, now: Duration) -> Option<Duration> {
        self.lanes.iter().flatten().map(|pause| pause.until).filter(|until| *until > now).min()
    }
}

fn place(lane: Lane) -> usize {
    match lane {
        Lane::Live => 0,
        Lane::History => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: u8 = NO_MATCHING_SUBSCRIBERS;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn by_default_nobody_is_an_acknowledgement_like_others() {
        let mut unheard = Unheard::new(false);
        assert!(!unheard.answered(Lane::Live, NOBODY, ms(0)));
        assert_eq!((unheard.room(Lane::Live, 7, 3, ms(0)), unheard.until(ms(0))), (7, None));
    }

    #[test]
    fn a_lane_that_nobody_reads_offers_one_entry_at_a_time_and_more_and_more_rarely() {
        let mut unheard = Unheard::new(true);
        let (mut offers, mut now) = (0, ms(0));
        while now < Duration::from_secs(3_600) {
            if unheard.room(Lane::Live, 100, 0, now) > 0 {
                offers += 1;
                assert!(unheard.answered(Lane::Live, NOBODY, now));
            }
            now += ms(50);
        }
        assert!((300..400).contains(&offers), "{offers} in an hour");
        assert_eq!(unheard.room(Lane::History, 7, 3, now), 7, "the other lane goes on");
        now = unheard.until(now).unwrap_or(now);
        assert_eq!(unheard.room(Lane::Live, 100, 1, now), 0, "one is on its way");
        assert!(!unheard.answered(Lane::Live, 0, now));
        assert_eq!(unheard.room(Lane::Live, 100, 0, now), 100);
    }

    #[test]
    fn a_whole_window_that_nobody_reads_is_one_answer() {
        let mut unheard = Unheard::new(true);
        for _ in 0..100 {
            assert!(unheard.answered(Lane::History, NOBODY, ms(10)));
        }
        assert_eq!(unheard.until(ms(10)), Some(ms(10) + PAUSE_FIRST));
    }
}
