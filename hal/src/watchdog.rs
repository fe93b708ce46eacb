//! Who resets us when we hang: systemd by its notification protocol (`sd_notify(3)`), and the kernel by its watchdog
//! device (Documentation/watchdog/watchdog-api.rst).

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
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

/// `WDIOC_SETTIMEOUT`, `_IOWR('W', 6, int)`.
#[allow(
    clippy::cast_possible_wrap,
    clippy::cast_lossless,
    trivial_numeric_casts,
    reason = "the bits count: musl has a request as a signed int of 32 bits, glibc as an unsigned long"
)]
const SET_TIMEOUT: libc::Ioctl = 0xc004_5706_u32 as libc::Ioctl;
/// Written before the device is closed, it says that the end is meant ("magic close").
const DISARM: &[u8] = b"V";

/// A watchdog of the kernel, hardware or not. Once it is open the box is reset unless it is fed, also if this process
/// dies, until [`KernelWatchdog::disarm`].
#[derive(Debug)]
pub struct KernelWatchdog {
    device: File,
    path: PathBuf,
    timeout: Duration,
}

impl KernelWatchdog {
    /// Opens and so arms it. The driver may round `timeout`: [`KernelWatchdog::timeout`] is what holds.
    ///
    /// # Errors
    /// There is no such device, it may not be opened, or somebody else has it; or its driver refuses the timeout, and
    /// then it was disarmed again.
    pub fn open(path: &Path, timeout: Duration) -> io::Result<Self> {
        let device = OpenOptions::new().write(true).open(path)?;
        let mut seconds = libc::c_int::try_from(timeout.as_secs()).unwrap_or(libc::c_int::MAX);
        // SAFETY: the request reads and writes one int, which outlives the call; the descriptor is open.
        let set = unsafe { libc::ioctl(device.as_raw_fd(), SET_TIMEOUT, &raw mut seconds) };
        let error = io::Error::last_os_error();
        let mut watchdog = Self { device, path: path.to_owned(), timeout };
        if set != 0 {
            watchdog.disarm()?;
            return Err(error);
        }
        watchdog.timeout = Duration::from_secs(seconds.unsigned_abs().into());
        Ok(watchdog)
    }

    /// How long it waits for its food.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The end is meant: the box is not reset. A driver with `nowayout` resets it all the same.
    ///
    /// # Errors
    /// The driver does not take it.
    pub fn disarm(&mut self) -> io::Result<()> {
        self.device.write_all(DISARM)
    }
}

impl Watchdog for KernelWatchdog {
    fn interval(&self) -> Option<Duration> {
        Some(self.timeout)
    }

    fn feed(&self) {
        if let Err(error) = (&self.device).write_all(b"\0") {
            tracing::error!(device = %self.path.display(), %error, "the watchdog cannot be fed; the box will be reset");
        }
    }
}

/// Without systemd the socket is not named and nothing is sent; a socket that fails is systemd's own trouble.
fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd was not told");
    }
}
