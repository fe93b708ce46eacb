//! How long to wait before the next try. Pure.
//!
//! A fleet loses its broker in one moment and must not return in one: each gateway waits for a random time between
//! [`SHORTEST`] and a step that doubles ("full jitter"). 1,000 gateways that were all cut off by a restart of the broker
//! come back over 3 s, after a longer outage over 8 s; the test below lets them.

use std::time::Duration;

/// No wait is shorter: a broker that cuts every connection at once is asked ten times a second at the most.
const SHORTEST: Duration = Duration::from_millis(100);
/// The first step.
pub(super) const FIRST: Duration = Duration::from_secs(3);
/// The last: what a depot may stay dark after its WAN is back.
pub(super) const LONGEST: Duration = Duration::from_secs(8);

/// The wait after so many rounds of failures (1 is the first; in a round every broker is tried once). `chance` is
/// uniform in 0..=1.
pub(super) fn wait(rounds: u32, chance: f64) -> Duration {
    let step = FIRST.saturating_mul(1 << rounds.saturating_sub(1).min(16)).min(LONGEST);
    SHORTEST + step.saturating_sub(SHORTEST).mul_f64(chance.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_are_bounded_and_spread() {
        assert_eq!(wait(1, 1.0), FIRST);
        assert_eq!(wait(2, 1.0), 2 * FIRST);
        assert_eq!(wait(u32::MAX, 1.0), LONGEST);
        assert_eq!(wait(u32::MAX, 0.0), SHORTEST);
    }

    /// Uniform, the same in every run.
    fn chances(mut state: u64) -> impl FnMut() -> f64 {
        move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        }
    }

    /// When each of 1,000 gateways connects to a broker that is away for `outage`, in order. They all lose it at 0.
    fn returns(outage: Duration) -> Vec<Duration> {
        let mut returns: Vec<Duration> = (0..1_000)
            .map(|gateway| {
                let mut chance = chances(gateway);
                let (mut now, mut rounds) = (Duration::ZERO, 1);
                loop {
                    now += wait(rounds, chance());
                    if now >= outage {
                        return now;
                    }
                    rounds += 1;
                }
            })
            .collect();
        returns.sort_unstable();
        returns
    }

    #[test]
    fn a_fleet_of_a_thousand_that_lost_its_broker_at_once_does_not_return_within_one_second() {
        for (outage_ms, most_in_one_second) in [(0, 400), (500, 400), (5_000, 300), (60_000, 300), (3_600_000, 300)] {
            let returns = returns(Duration::from_millis(outage_ms));
            let second = Duration::from_secs(1);
            let crowd = returns.iter().map(|from| returns.iter().filter(|at| **at >= *from && **at < *from + second));
            let most = crowd.map(Iterator::count).max().expect("they are a thousand");
            let last = returns[999].saturating_sub(Duration::from_millis(outage_ms));
            println!("outage {outage_ms} ms: at most {most} in a second, the last after {last:?}");
            assert!(most <= most_in_one_second, "{most} in one second after an outage of {outage_ms} ms");
            assert!(last <= LONGEST, "the last is back {last:?} after the broker");
        }
    }
}
