//! The supervisor above us: systemd's notification protocol (`sd_notify(3)`).

use std::time::Duration;

use sd_notify::NotifyState;

/// Somebody who resets us when we hang.
pub trait Watchdog {
    /// How often it must be fed at the least; `None` if it does not watch.
    fn interval(&self) -> Option<Duration>;
    /// Says: alive.
    fn feed(&self);
}

/// systemd, if it started us; else everything here does nothing.
#[derive(Debug)]
pub struct Systemd {
    interval: Option<Duration>,
}

impl Systemd {
    /// Reads `WATCHDOG_USEC`, if it is meant for this process (`WATCHDOG_PID`).
    #[must_use]
    pub fn from_env() -> Self {
        Self { interval: sd_notify::watchdog_enabled() }
    }

    /// `READY=1`.
    pub fn ready(&self) {
        tell(&[NotifyState::Ready]);
    }

    /// `STOPPING=1`.
    pub fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }

    /// `RELOADING=1` with the monotonic time, as `Type=notify-reload` wants it.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(_) => tell(&[NotifyState::Reloading]),
        }
    }

    /// `STATUS=…`: one line for `systemctl status`.
    pub fn status(&self, line: &str) {
        tell(&[NotifyState::Status(line)]);
    }
}

impl Watchdog for Systemd {
    fn interval(&self) -> Option<Duration> {
        self.interval
    }

    fn feed(&self) {
        tell(&[NotifyState::Watchdog]);
    }
}

/// Without systemd the socket is not named and nothing is sent; a socket that fails is systemd's own trouble.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd was not told");
    }
}
