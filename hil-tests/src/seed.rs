//! Random moments that can be had again: set `HIL_SEED` to the number that a failing run has printed.

use std::time::Duration;

/// SplitMix64: enough to scatter moments, nothing more.
#[derive(Debug)]
pub struct Seed {
    state: u64,
}

impl Seed {
    /// From `HIL_SEED`, else from the clock; prints which, so that a failure can be repeated.
    ///
    /// # Panics
    /// If `HIL_SEED` is not a number.
    #[must_use]
    pub fn from_env() -> Self {
        let number = match std::env::var("HIL_SEED") {
            Ok(text) => text.parse().expect("HIL_SEED must be a whole number"),
            Err(_) => crate::wait::unix_ns().unsigned_abs() / 1_000,
        };
        println!("HIL_SEED={number}");
        Self::new(number)
    }

    /// The same moments for the same number.
    #[must_use]
    pub fn new(number: u64) -> Self {
        Self { state: number }
    }

    /// A duration from `from` up to but not including `to`, to the microsecond.
    ///
    /// # Panics
    /// If `from` is not shorter than `to`.
    pub fn between(&mut self, from: Duration, to: Duration) -> Duration {
        let span = to.checked_sub(from).map_or(0, |span| u64::try_from(span.as_micros()).unwrap_or(u64::MAX));
        assert!(span > 0, "there is no moment between {from:?} and {to:?}");
        from + Duration::from_micros(self.draw() % span)
    }

    /// Heads or tails.
    pub fn coin(&mut self) -> bool {
        self.draw() & 1 == 1
    }

    /// A number below `end`.
    ///
    /// # Panics
    /// If `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        assert!(end > 0, "there is no number below 0");
        self.draw() % end
    }

    /// One of these numbers.
    ///
    /// # Panics
    /// If there is none.
    pub fn within(&mut self, numbers: std::ops::RangeInclusive<usize>) -> usize {
        assert!(!numbers.is_empty(), "there is no number in {numbers:?}");
        let below = u64::try_from(numbers.end() - numbers.start()).unwrap_or(u64::MAX).saturating_add(1);
        numbers.start() + usize::try_from(self.below(below)).unwrap_or(0)
    }

    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.state;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_moments_within_their_bounds() {
        let (from, to) = (Duration::from_millis(200), Duration::from_secs(9));
        let draw = |seed| {
            let mut seed = Seed::new(seed);
            [(); 50].map(|()| seed.between(from, to))
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert!(draw(7).iter().all(|moment| (from..to).contains(moment)));
        let mut seed = Seed::new(7);
        let numbers = [(); 50].map(|()| seed.within(3..=5));
        assert!([3, 4, 5].iter().all(|number| numbers.contains(number)) && numbers.iter().all(|n| (3..=5).contains(n)));
    }
}
