//! Waiting for a level, never for an edge and never for a fixed time.

use std::time::{Duration, Instant};

/// Between two looks. Short against every time that a test measures, long against the cost of a look.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// What was waited for did not come. The world is as the last look found it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("waited {:.1} s for {what}; at the last look: {lacking}", waited.as_secs_f64())]
pub struct TimedOut {
    /// What was waited for.
    pub what: String,
    /// For how long.
    pub waited: Duration,
    /// What was still lacking.
    pub lacking: String,
}

/// Looks until there is something to see, at most for `within`. A look answers what it was after, or in words
/// what is still lacking. There is always a look at the very end.
pub fn wait_for<T>(within: Duration, what: &str, mut look: impl FnMut() -> Result<T, String>) -> Result<T, TimedOut> {
    let begin = Instant::now();
    loop {
        let late = begin.elapsed() >= within;
        match look() {
            Ok(found) => return Ok(found),
            Err(lacking) if late => {
                return Err(TimedOut { what: what.to_owned(), waited: begin.elapsed(), lacking });
            }
            Err(_) => std::thread::sleep(LOOK_INTERVAL.min(within)),
        }
    }
}

/// Looks until `condition` holds.
///
/// # Panics
/// If it does not within `within`.
#[track_caller]
pub fn wait_until(within: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let look = || if condition() { Ok(()) } else { Err("not so".to_owned()) };
    if let Err(late) = wait_for(within, what, look) {
        panic!("{late}");
    }
}

/// Lets the world run for a while: the length of an outage, not a guess at when something is ready.
pub fn let_pass(time: Duration) {
    std::thread::sleep(time);
}

/// Wall time, ns since 1970.
///
/// # Panics
/// If this machine's clock stands before 1970 or after 2262.
#[must_use]
pub fn unix_ns() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970");
    i64::try_from(since.as_nanos()).expect("a clock before 2262")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_comes_is_handed_over() {
        let mut looks = 0;
        let found = wait_for(Duration::from_secs(5), "the third look", || {
            looks += 1;
            if looks == 3 { Ok(looks) } else { Err(format!("{looks} looks")) }
        });
        assert_eq!(found, Ok(3));
    }

    #[test]
    fn a_level_that_does_not_come_is_told_with_what_is_lacking() {
        let late = wait_for(Duration::from_millis(30), "rain", || Err::<(), _>("sun".to_owned())).unwrap_err();
        assert!(late.to_string().ends_with("s for rain; at the last look: sun"), "{late}");
    }
}
