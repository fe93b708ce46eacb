//! What a broker sends that nobody has asked for: counted, and read no faster than costs little. Pure; times are since the
//! connection began.

use std::time::Duration;

/// Packets and bytes that are read in a second. A broker that behaves sends an answer to a question every few seconds.
const PACKETS_PER_SECOND: u32 = 1_000;
const BYTES_PER_SECOND: usize = 1 << 20;
/// Who sends more than that for so long is left.
const FLOOD: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);

/// Of one connection.
#[derive(Debug, Default)]
pub(super) struct Surplus {
    /// The second that is counted: its begin, packets and bytes.
    since: Duration,
    packets: u32,
    bytes: usize,
    /// Since when every second was full.
    flooded: Option<Duration>,
    /// Messages that nobody asked for, and when they were told last.
    messages: u64,
    told: Option<Duration>,
}

impl Surplus {
    /// A packet of so many bytes that nothing depends on.
    pub(super) fn count(&mut self, bytes: usize, now: Duration) {
        if now.saturating_sub(self.since) >= SECOND {
            let was_full = self.is_full() && now.saturating_sub(self.since) < 2 * SECOND;
            self.flooded = was_full.then(|| self.flooded.unwrap_or(self.since));
            (self.since, self.packets, self.bytes) = (now, 0, 0);
        }
        (self.packets, self.bytes) = (self.packets.saturating_add(1), self.bytes.saturating_add(bytes));
    }

    /// The same, of a message.
    pub(super) fn count_message(&mut self, bytes: usize, now: Duration) {
        self.messages += 1;
        self.count(bytes, now);
    }

    /// Until when nothing is read.
    pub(super) fn deaf_until(&self, now: Duration) -> Option<Duration> {
        let until = self.since + SECOND;
        (self.is_full() && now < until).then_some(until)
    }

    /// Whether it has been too much for too long.
    pub(super) fn is_flood(&self, now: Duration) -> bool {
        self.flooded.is_some_and(|since| now.saturating_sub(since) >= FLOOD)
    }

    /// Messages that nobody asked for since they were told last; at most once a second.
    pub(super) fn news(&mut self, now: Duration) -> Option<u64> {
        let is_due = self.told.is_none_or(|told| now.saturating_sub(told) >= SECOND);
        if self.messages == 0 || !is_due {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.messages))
    }

    fn is_full(&self) -> bool {
        self.packets >= PACKETS_PER_SECOND || self.bytes >= BYTES_PER_SECOND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_flood_is_read_a_thousand_packets_a_second_and_left_after_ten() {
        let (mut surplus, mut read, mut now) = (Surplus::default(), 0, ms(0));
        while !surplus.is_flood(now) {
            assert!(now < ms(13_000), "{surplus:?}");
            match surplus.deaf_until(now) {
                Some(until) => now = until,
                None => {
                    surplus.count_message(10, now);
                    read += 1;
                }
            }
        }
        assert!(now >= ms(10_000) && (10_000..=12_000).contains(&read), "{read} in {now:?}");
    }

    #[test]
    fn large_messages_count_by_their_bytes_and_a_few_are_no_flood() {
        let mut surplus = Surplus::default();
        for _ in 0..4 {
            assert_eq!(surplus.deaf_until(ms(10)), None);
            surplus.count_message(256 << 10, ms(10));
        }
        assert_eq!(surplus.deaf_until(ms(10)), Some(ms(1_000)));
        for s in 2..100 {
            (0..900).for_each(|_| surplus.count(2, ms(s * 1_000)));
            assert!(surplus.deaf_until(ms(s * 1_000)).is_none() && !surplus.is_flood(ms(s * 1_000)));
        }
    }

    #[test]
    fn what_nobody_asked_for_is_told_once_a_second_with_its_count() {
        let mut surplus = Surplus::default();
        assert_eq!(surplus.news(ms(0)), None);
        surplus.count_message(1, ms(0));
        assert_eq!(surplus.news(ms(0)), Some(1));
        surplus.count_message(1, ms(10));
        surplus.count_message(1, ms(20));
        assert_eq!((surplus.news(ms(30)), surplus.news(ms(1_000)), surplus.news(ms(3_000))), (None, Some(2), None));
    }
}
