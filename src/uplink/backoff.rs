//! How long to wait before the next try. Pure.

use std::time::Duration;

/// The first wait: a broker that restarts is back within about this.
const FIRST: Duration = Duration::from_millis(250);
/// The longest: what a depot may stay dark after its WAN is back. A fleet of 1,000 then spreads over 4 s.
const LONGEST: Duration = Duration::from_secs(8);

/// The wait after so many failures in a row (1 is the first). `chance` is uniform in 0..=1: each gateway waits between
/// half of the step and all of it, so that a fleet that lost its broker at once does not return at once.
pub(super) fn wait(failures: u32, chance: f64) -> Duration {
    let step = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST);
    step.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_are_bounded_and_spread() {
        assert_eq!(wait(1, 1.0), Duration::from_millis(250));
        assert_eq!(wait(1, 0.0), Duration::from_millis(125));
        assert_eq!(wait(3, 1.0), Duration::from_secs(1));
        assert_eq!(wait(u32::MAX, 1.0), LONGEST);
        assert_eq!(wait(u32::MAX, 0.0), LONGEST / 2);
    }
}
