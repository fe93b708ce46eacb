//! A clock that moves only when it is told to.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::{Clock, Stamp, Trust};

/// Two clocks under the hand of a test.
#[derive(Debug)]
pub struct SimClock {
    now: Mutex<Stamp>,
}

impl SimClock {
    /// Stands at 10 s after the boot and at `utc_ns`, synced.
    #[must_use]
    pub fn new(utc_ns: i64) -> Self {
        Self { now: Mutex::new(Stamp { mono: Duration::from_secs(10), utc_ns, trust: Trust::Synced }) }
    }

    fn change(&self, change: impl FnOnce(&mut Stamp)) {
        change(&mut self.now.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Both clocks go on.
    pub fn advance(&self, by: Duration) {
        self.change(|now| {
            now.mono += by;
            now.utc_ns += i64::try_from(by.as_nanos()).unwrap_or(i64::MAX);
        });
    }

    /// Only the wall clock jumps.
    pub fn step(&self, by_ns: i64) {
        self.change(|now| now.utc_ns += by_ns);
    }

    /// What `adjtimex` would say.
    pub fn trust(&self, trust: Trust) {
        self.change(|now| now.trust = trust);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Stamp {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
