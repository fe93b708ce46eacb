//! Two clocks, and how far the second can be believed.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// How far a wall time can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trust {
    /// Disciplined by NTP or PTP now.
    Synced,
    /// Was synced in the life of this clock, and is running free since.
    Holdover,
    /// Never synced in the life of this clock.
    Unsynced,
}

/// One moment on both clocks, read back to back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// `CLOCK_MONOTONIC`: since about the boot; slewed, never stepped.
    pub mono: Duration,
    /// `CLOCK_REALTIME`: ns since 1970-01-01 UTC.
    pub utc_ns: i64,
    /// Of `utc_ns`.
    pub trust: Trust,
}

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Stamp;
}

/// The kernel's clocks. A stamp costs three calls into the vDSO; `adjtimex(2)` is asked once a second, and at once when the wall clock
/// was set: the kernel knows then that nobody disciplines it any more.
#[derive(Debug, Default)]
pub struct LinuxClock {
    /// Monotonic second of the last `adjtimex`, plus one; 0 before the first.
    asked: AtomicU64,
    synced: AtomicBool,
    ever_synced: AtomicBool,
    /// Wall minus monotonic time when it was last looked at, ns.
    apart: AtomicI64,
}

/// Both clocks run at one pace: when they move apart by more, the wall clock was set.
const SET_NS: u64 = 100_000_000;

impl LinuxClock {
    /// A clock that has not asked for the trust yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn trust(&self, mono: Duration) -> Trust {
        let second = mono.as_secs() + 1;
        if self.asked.swap(second, Ordering::Relaxed) != second {
            self.note(kernel_says_synced());
        }
        self.known()
    }

    fn note(&self, synced: bool) {
        self.ever_synced.fetch_or(synced, Ordering::Relaxed);
        self.synced.store(synced, Ordering::Release);
    }

    /// The trust of a moment at which the clocks were so far apart, read when `before` was known: no better than what is known
    /// after it, and that is asked anew if the wall clock was set since.
    fn trust_at(&self, apart_ns: i64, before: Trust, is_synced: impl FnOnce() -> bool) -> Trust {
        if self.apart.load(Ordering::Acquire).abs_diff(apart_ns) > SET_NS {
            self.note(is_synced());
            self.apart.store(apart_ns, Ordering::Release);
        }
        before.max(self.known())
    }

    fn known(&self) -> Trust {
        if self.synced.load(Ordering::Acquire) {
            Trust::Synced
        } else if self.ever_synced.load(Ordering::Relaxed) {
            Trust::Holdover
        } else {
            Trust::Unsynced
        }
    }
}

impl Clock for LinuxClock {
    fn now(&self) -> Stamp {
        // First the trust: a clock that is set right between the two is then called unsynced for a second more. The other
        // way round its old time would be called synced.
        let trust = self.trust(since_boot());
        let mono = since_boot();
        let wall = read(libc::CLOCK_REALTIME);
        let utc_ns = wall_secs(&wall).saturating_mul(1_000_000_000).saturating_add(i64::from(nanos(&wall)));
        let mono_ns = i64::try_from(mono.as_nanos()).unwrap_or(i64::MAX);
        let trust = self.trust_at(utc_ns.saturating_sub(mono_ns), trust, kernel_says_synced);
        Stamp { mono, utc_ns, trust }
    }
}

fn since_boot() -> Duration {
    let mono = read(libc::CLOCK_MONOTONIC);
    Duration::new(u64::try_from(wall_secs(&mono)).unwrap_or(0), nanos(&mono))
}

fn read(clock: libc::clockid_t) -> libc::timespec {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec that outlives the call; both clock ids used here always exist on Linux,
    // so the call cannot fail and leave it unset (and it is set to zero before).
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time
}

#[allow(clippy::useless_conversion, reason = "time_t is 32 bits on some targets")]
fn wall_secs(time: &libc::timespec) -> i64 {
    time.tv_sec.into()
}

fn nanos(time: &libc::timespec) -> u32 {
    u32::try_from(time.tv_nsec).unwrap_or(0)
}

/// Whether the kernel's clock is being disciplined: `STA_UNSYNC` is clear and no error state is returned.
fn kernel_says_synced() -> bool {
    // SAFETY: `timex` is plain old data for which all zeroes is valid, and modes == 0 only reads; the pointer is valid
    // for the call.
    let (state, status) = unsafe {
        let mut timex = MaybeUninit::<libc::timex>::zeroed().assume_init();
        let state = libc::adjtimex(&raw mut timex);
        (state, timex.status)
    };
    state >= 0 && state != libc::TIME_ERROR && status & libc::STA_UNSYNC == 0
}

/// The id of this run of the kernel. Where the kernel does not tell (no `/proc`), the process's own start takes its
/// place: boots are then told apart more often than needed, never less.
#[must_use]
pub fn boot_id() -> [u8; 16] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    match u128::from_str_radix(&digits, 16) {
        Ok(id) if digits.len() == 32 => id.to_be_bytes(),
        _ => {
            let now = LinuxClock::new().now();
            (u128::from(std::process::id()) << 96 | now.mono.as_nanos()).to_be_bytes()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clocks_go_forward_and_the_wall_is_after_2020() {
        let clock = LinuxClock::new();
        let (first, second) = (clock.now(), clock.now());
        assert!(second.mono >= first.mono);
        assert!(second.utc_ns > 1_577_836_800_000_000_000);
    }

    /// What the kernel says is a second old at worst; a clock that was set by hand meanwhile was called synced until then.
    #[test]
    fn a_clock_that_was_set_is_not_called_synced_by_what_the_kernel_said_before() {
        let clock = LinuxClock::new();
        clock.note(true);
        let unasked = || panic!("nobody has set it");
        assert_eq!(clock.trust_at(9_000_000_000, Trust::Synced, || true), Trust::Synced);
        assert_eq!(clock.trust_at(9_050_000_000, Trust::Synced, unasked), Trust::Synced);
        assert_eq!(clock.trust_at(99_000_000_000, Trust::Synced, || false), Trust::Holdover);
        assert_eq!(clock.trust_at(99_000_000_000, clock.known(), unasked), Trust::Holdover);
        // Set right, and synced: a time that was read before that was known is not.
        assert_eq!(clock.trust_at(9_000_000_000, Trust::Holdover, || true), Trust::Holdover);
        assert_eq!(clock.trust_at(9_000_000_000, clock.known(), unasked), Trust::Synced);
    }

    #[test]
    fn the_boot_id_is_the_same_each_time() {
        assert_eq!(boot_id(), boot_id());
        assert_ne!(boot_id(), [0; 16]);
    }
}
