//! When to ask whether the broker is still there, and when to believe that it is not. Pure; times are since the
//! connection began.

use std::time::Duration;

/// What the link needs now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing before this.
    Nothing(Duration),
    /// A PINGREQ.
    Ping,
    /// Nothing was heard for a whole keep-alive, though it was asked for: the link is half-open.
    Dead,
}

/// The clockwork of one connection.
#[derive(Debug)]
pub(super) struct KeepAlive {
    interval: Duration,
    heard: Duration,
    sent: Duration,
    /// Asked and not answered.
    asked: bool,
}

impl KeepAlive {
    /// `own` is what we asked for. `server` is what the broker wants instead (MQTT 5, 3.2.2.3.14); 0 means that it does
    /// not look, which is no reason for us not to.
    pub(super) fn new(own: Duration, server: Option<u16>, now: Duration) -> Self {
        let interval = match server {
            None | Some(0) => own,
            Some(seconds) => Duration::from_secs(seconds.into()),
        };
        Self { interval, heard: now, sent: now, asked: false }
    }

    /// What was agreed on.
    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    /// Bytes came in.
    pub(super) fn heard(&mut self, now: Duration) {
        (self.heard, self.asked) = (now, false);
    }

    /// Bytes went out.
    pub(super) fn sent(&mut self, now: Duration) {
        self.sent = now;
    }

    /// A PINGREQ is on its way.
    pub(super) fn asked(&mut self) {
        self.asked = true;
    }

    /// Silence is noticed within the interval: half of it until the question, half for the answer. A link on which we
    /// only hear is asked, too: the broker must hear from us within the interval.
    pub(super) fn need(&self, now: Duration) -> Need {
        let ask_at = self.heard.min(self.sent) + self.interval / 2;
        let dead_at = self.heard + self.interval;
        match (self.asked, now) {
            (true, now) if now >= dead_at => Need::Dead,
            (true, _) => Need::Nothing(dead_at),
            (false, now) if now >= ask_at => Need::Ping,
            (false, _) => Need::Nothing(ask_at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn silence_is_asked_about_at_half_and_believed_at_the_whole() {
        let mut link = KeepAlive::new(10 * S, None, S);
        assert_eq!(link.need(S), Need::Nothing(6 * S));
        assert_eq!(link.need(6 * S), Need::Ping);
        link.asked();
        link.sent(6 * S);
        assert_eq!(link.need(7 * S), Need::Nothing(11 * S));
        assert_eq!(link.need(11 * S), Need::Dead);
        link.heard(8 * S);
        assert_eq!(link.need(8 * S), Need::Nothing(11 * S), "answered: the clockwork begins anew");
    }

    #[test]
    fn the_brokers_interval_wins_and_its_zero_does_not_make_us_deaf() {
        assert_eq!(KeepAlive::new(15 * S, Some(4), Duration::ZERO).interval(), 4 * S);
        assert_eq!(KeepAlive::new(15 * S, Some(0), Duration::ZERO).interval(), 15 * S);
    }

    #[test]
    fn a_busy_link_is_never_believed_dead_and_the_broker_hears_from_a_listener() {
        let mut link = KeepAlive::new(2 * S, None, Duration::ZERO);
        let mut pings = 0;
        for tenth in 0..300 {
            let now = S / 10 * tenth;
            link.heard(now);
            match link.need(now) {
                Need::Ping => {
                    pings += 1;
                    link.asked();
                    link.sent(now);
                }
                Need::Dead => panic!("dead at {now:?}"),
                Need::Nothing(until) => assert!(until > now),
            }
        }
        assert!((25..=31).contains(&pings), "{pings} in 30 s at an interval of 2 s");
    }
}
