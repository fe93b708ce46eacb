//! Who may send how much now. Pure; times are since the uplink's start.
//!
//! Live data may fill the whole window of messages in flight. History gets what is left of three quarters of it, within
//! a byte rate, and within a window of its own that halves when the broker's acknowledgements of live data are slow and
//! grows again by one message with each that is quick.

use std::time::Duration;

use crate::journal::Lane;

/// Bytes in flight: about 30 ms of 256 Mbit/s, and a bound on what a dead link holds in memory.
const BYTES_MAX: usize = 1024 * 1024;
/// An acknowledgement of live data that takes longer is a sign that history is in its way.
const SLOW: Duration = Duration::from_millis(60);
/// The rate may be saved up for this long, so that the pace does not depend on how often we are asked.
const SAVED: Duration = Duration::from_millis(250);
/// The history window begins here after each connect.
const HISTORY_FIRST: usize = 4;

/// The state of both lanes on one connection.
#[derive(Debug)]
pub(super) struct Lanes {
    window: usize,
    live: Load,
    history: Load,
    history_window: usize,
    rate: f64,
    /// Bytes that history may send; negative after a large batch.
    credit: f64,
    credited: Duration,
    shrunk: Duration,
}

#[derive(Debug, Default)]
struct Load {
    messages: usize,
    bytes: usize,
}

impl Lanes {
    /// `window`: messages in flight, the smaller of our limit and the broker's receive maximum, at least 1.
    pub(super) fn new(window: u16, history_rate_max: u64, now: Duration) -> Self {
        #[allow(clippy::cast_precision_loss, reason = "a rate")]
        let rate = history_rate_max.max(1) as f64;
        Self {
            window: usize::from(window.max(1)),
            live: Load::default(),
            history: Load::default(),
            history_window: HISTORY_FIRST,
            rate,
            credit: SAVED.as_secs_f64() * rate,
            credited: now,
            shrunk: now,
        }
    }

    /// How many messages the lane may send now. `live_waits`: whether live data waits; on a window of one message it
    /// then goes first.
    pub(super) fn room(&mut self, lane: Lane, live_waits: bool, now: Duration) -> usize {
        let messages = self.window.saturating_sub(self.live.messages + self.history.messages);
        let bytes = self.live.bytes + self.history.bytes;
        match lane {
            Lane::Live if bytes < BYTES_MAX => messages,
            Lane::Live => 0,
            Lane::History => {
                self.earn(now);
                if self.credit <= 0.0 || self.history.bytes >= BYTES_MAX / 4 * 3 || (live_waits && self.window < 4) {
                    return 0;
                }
                let share = (self.window - self.window / 4).min(self.history_window);
                messages.min(share.saturating_sub(self.history.messages))
            }
        }
    }

    /// When history may go on, if its rate holds it.
    pub(super) fn history_from(&self) -> Option<Duration> {
        let owed = Duration::from_secs_f64((-self.credit).max(0.0) / self.rate);
        (self.credit <= 0.0).then(|| self.credited + owed + Duration::from_millis(1))
    }

    fn earn(&mut self, now: Duration) {
        let earned = now.saturating_sub(self.credited).as_secs_f64() * self.rate;
        // At least one packet of any size can always be saved up for.
        self.credit = (self.credit + earned).min((SAVED.as_secs_f64() * self.rate).max(1.0));
        self.credited = now;
    }

    pub(super) fn sent(&mut self, lane: Lane, bytes: usize) {
        let load = self.load(lane);
        load.messages += 1;
        load.bytes += bytes;
        if lane == Lane::History {
            #[allow(clippy::cast_precision_loss, reason = "bounded by a packet")]
            let cost = bytes as f64;
            self.credit -= cost;
        }
    }

    /// A message was acknowledged, with whatever reason, `took` after it was sent.
    pub(super) fn settled(&mut self, lane: Lane, bytes: usize, took: Duration, now: Duration) {
        let load = self.load(lane);
        load.messages = load.messages.saturating_sub(1);
        load.bytes = load.bytes.saturating_sub(bytes);
        match lane {
            // One slow round trip is judged once, not with each message that was in it.
            Lane::Live if took > SLOW && now.saturating_sub(self.shrunk) > took => {
                self.history_window = (self.history_window / 2).max(1);
                self.shrunk = now;
            }
            Lane::History if took <= SLOW => self.history_window = (self.history_window + 1).min(self.window),
            _ => {}
        }
    }

    fn load(&mut self, lane: Lane) -> &mut Load {
        match lane {
            Lane::Live => &mut self.live,
            Lane::History => &mut self.history,
        }
    }

    /// Of a lane, messages that wait for an answer.
    pub(super) fn in_flight_of(&self, lane: Lane) -> usize {
        match lane {
            Lane::Live => self.live.messages,
            Lane::History => self.history.messages,
        }
    }

    /// Entries that wait for an answer.
    pub(super) fn in_flight(&self) -> usize {
        self.live.messages + self.history.messages
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Duration = Duration::from_secs(100);
    const QUICK: Duration = Duration::from_millis(5);

    #[test]
    fn history_leaves_a_quarter_of_the_window_to_live_data() {
        let mut lanes = Lanes::new(8, u64::MAX, NOW);
        let later = NOW + Duration::from_secs(1);
        let mut sent = 0;
        for _ in 0..100 {
            for _ in 0..lanes.room(Lane::History, true, later) {
                lanes.sent(Lane::History, 100);
                sent += 1;
            }
            lanes.settled(Lane::History, 100, QUICK, later);
            sent -= 1;
            lanes.sent(Lane::History, 100);
            sent += 1;
        }
        assert_eq!(sent, 6);
        assert_eq!(lanes.room(Lane::Live, true, later), 2);
    }

    #[test]
    fn live_data_goes_first_through_a_window_of_one() {
        let mut lanes = Lanes::new(1, u64::MAX, NOW);
        let later = NOW + QUICK;
        assert_eq!(lanes.room(Lane::History, true, later), 0);
        assert_eq!(lanes.room(Lane::Live, true, later), 1);
        assert_eq!(lanes.room(Lane::History, false, later), 1);
    }

    #[test]
    fn slow_acknowledgements_of_live_data_make_history_yield() {
        let mut lanes = Lanes::new(100, u64::MAX, NOW);
        for k in 0..60 {
            lanes.sent(Lane::History, 1);
            lanes.settled(Lane::History, 1, QUICK, NOW + QUICK * k);
        }
        let wide = lanes.history_window;
        assert!(wide > 50);
        let mut now = NOW + Duration::from_secs(1);
        for _ in 0..10 {
            lanes.sent(Lane::Live, 1);
            now += Duration::from_millis(250);
            lanes.settled(Lane::Live, 1, Duration::from_millis(200), now);
        }
        assert_eq!(lanes.history_window, 1);
    }

    proptest! {
        #[test]
        fn history_keeps_its_rate_and_the_window_its_bound(
            rate in 1_000_u64..1_000_000, window in 1_u16..50,
            steps in prop::collection::vec((1_u64..50, 1_usize..60_000), 1..300),
        ) {
            let mut lanes = Lanes::new(window, rate, NOW);
            let (mut now, mut sent, mut largest) = (NOW, 0.0, 0.0_f64);
            for (ms, bytes) in steps {
                now += Duration::from_millis(ms);
                if lanes.room(Lane::History, false, now) > 0 {
                    lanes.sent(Lane::History, bytes);
                    lanes.settled(Lane::History, bytes, QUICK, now);
                    sent += bytes as f64;
                    largest = largest.max(bytes as f64);
                }
                prop_assert!(lanes.in_flight() <= usize::from(window));
                let allowed = (now.saturating_sub(NOW) + SAVED).as_secs_f64() * rate as f64 + largest;
                prop_assert!(sent <= allowed + 1.0, "{sent} bytes, {allowed} allowed");
            }
        }
    }
}
