//! Time: a monotonic clock that orders and schedules, and a wall clock that labels and may lie.

use std::ops::{Add, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One run of the kernel (`/proc/sys/kernel/random/boot_id`). Monotonic times of different boots do not compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BootId(pub [u8; 16]);

/// Nanoseconds of `CLOCK_MONOTONIC` in one boot. Slewed by NTP, never stepped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

impl Mono {
    /// After every time: never.
    pub const MAX: Self = Self(u64::MAX);

    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Saturates at [`Mono::MAX`], 584 years after the boot.
impl Add<Duration> for Mono {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(nanos(by)))
    }
}

/// Saturates at the boot: nothing was before it.
impl Sub<Duration> for Mono {
    type Output = Self;

    fn sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(by)))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds since 1970-01-01 UTC. Range: 1677 to 2262, as InfluxDB's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Utc(pub i64);

impl Utc {
    /// `2026-11-24T13:02:07.250Z`: RFC 3339 with milliseconds.
    #[must_use]
    pub fn rfc3339(self) -> String {
        let ms = self.0.div_euclid(1_000_000);
        let (days, ms_of_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
        let (year, month, day) = civil(days);
        let (h, m, s) = (ms_of_day / 3_600_000, ms_of_day / 60_000 % 60, ms_of_day / 1000 % 60);
        format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{:03}Z", ms_of_day % 1000)
    }
}

/// The Gregorian date of a day counted from 1970-01-01. Years are counted from March, so that the leap day is the
/// last of its year; 400 years are 146,097 days.
fn civil(days: i64) -> (i64, i64, i64) {
    let from_0000_03_01 = days + 719_468;
    let (era, day_of_era) = (from_0000_03_01.div_euclid(146_097), from_0000_03_01.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// How far a time can be believed. A clock says one of the first three (`adjtimex(2)`); the journal makes one of the last
/// two of what was captured unsynced, when it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClockTrust {
    /// Disciplined by NTP or PTP now.
    Synced,
    /// Was synced in this boot and is running free since.
    Holdover,
    /// Never synced in this boot: a box without a working RTC is in the past.
    Unsynced,
    /// Captured unsynced; found through the moment at which the clock was synced later in the same boot. Or the time that the
    /// source itself has given, of what came late or was recorded.
    Resolved,
    /// Captured in a boot that was not synced; placed between its neighbours, at the pace of the monotonic clock. Or the time that
    /// the source itself has given, counted back from a clock that is not synced.
    Estimated,
}

impl ClockTrust {
    /// The word on the wire and in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Synced => "synced",
            Self::Holdover => "holdover",
            Self::Unsynced => "unsynced",
            Self::Resolved => "resolved",
            Self::Estimated => "estimated",
        }
    }
}

impl ClockTrust {
    /// Whether a time at capture is not our clock's but the source's own.
    #[must_use]
    pub fn is_of_source(self) -> bool {
        matches!(self, Self::Resolved | Self::Estimated)
    }
}

/// When something happened: the time that orders, the time that labels, and how far to believe the label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Orders and schedules.
    pub mono: Mono,
    /// Labels.
    pub utc: Utc,
    /// Of `utc`.
    pub trust: ClockTrust,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_monotonic_time_neither_wraps_nor_goes_below_the_boot() {
        let second = Duration::from_secs(1);
        assert_eq!(Mono(5) + second, Mono(1_000_000_005));
        assert_eq!(Mono(1_000_000_005) - second, Mono(5));
        assert_eq!(
            [Mono(5) - second, Mono(u64::MAX - 5) + second, Mono(0) + Duration::MAX],
            [Mono(0), Mono::MAX, Mono::MAX]
        );
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        let of = |seconds: i64| Utc(seconds * 1_000_000_000).rfc3339();
        assert_eq!(of(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(of(951_782_400), "2000-02-29T00:00:00.000Z");
        assert_eq!(of(1_764_000_000), "2025-11-24T16:00:00.000Z");
        assert_eq!(of(4_107_542_399), "2100-02-28T23:59:59.000Z");
        assert_eq!(of(-1), "1969-12-31T23:59:59.000Z");
        assert_eq!(Utc(1_764_000_000_250_000_000).rfc3339(), "2025-11-24T16:00:00.250Z");
    }
}
