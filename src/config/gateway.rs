//! The tables of which there is one: `[gateway]`, `[aggregate]`, `[journal]`, `[privacy]`, `[api]`, `[log]`,
//! `[watchdog]`, `[update]`.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::document::Value;
use super::plan::{
    AggregatePlan, ApiPlan, GatewayPlan, JournalPlan, LogPlan, PrivacyPlan, UpdatePlan, VehicleIdPolicy, WatchdogPlan,
};
use super::section::{Form, Section, Taken, Wrong, duration_within, name, nearest, number, one_of, size_within, text};
use super::units::show_duration;
use crate::measure::WhenFull;

pub(super) const GATEWAY: Form = Form {
    table: "gateway",
    keys: &[("id", "\"gw-01\""), ("site", "\"depot-a\""), ("state_dir", "\"/var/lib/v2g-edge\"")],
};
pub(super) const AGGREGATE: Form =
    Form { table: "aggregate", keys: &[("window", "\"250ms\""), ("dead_band_kw", "0.05")] };
pub(super) const JOURNAL: Form = Form {
    table: "journal",
    keys: &[
        ("bytes_max", "\"4GiB\""),
        ("free_min", "\"64MiB\""),
        ("age_max", "\"72h\""),
        ("commit_interval", "\"100ms\""),
        ("bytes_per_day_max", "\"4GiB\""),
        ("when_full", "\"thin\""),
        ("time_wait", "\"5m\""),
    ],
};
pub(super) const PRIVACY: Form = Form { table: "privacy", keys: &[("vehicle_id", "\"hash\"")] };
pub(super) const API: Form = Form { table: "api", keys: &[("socket", "\"/run/v2g-edge/api.sock\"")] };
pub(super) const LOG: Form = Form { table: "log", keys: &[("filter", "\"info\"")] };
pub(super) const WATCHDOG: Form =
    Form { table: "watchdog", keys: &[("device", "\"/dev/watchdog\""), ("timeout", "\"30s\"")] };
pub(super) const UPDATE: Form = Form { table: "update", keys: &[("confirm_within", "\"15m\"")] };

/// Below, a message costs more than what is in it; above, a battery can have turned twice unseen.
const WINDOW: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(60);
/// 16 MiB is two segments of the journal: one to write, one to read.
const JOURNAL_BYTES: RangeInclusive<u64> = (16 << 20)..=(16 << 40);
/// 0: the journal may fill the disk to the last byte.
const JOURNAL_FREE: RangeInclusive<u64> = 0..=(16 << 40);
const JOURNAL_AGE: RangeInclusive<Duration> = Duration::from_secs(3600)..=Duration::from_secs(3650 * 86_400);
/// Below, the medium does nothing but sync; above, a power cut takes more than anyone expects.
const COMMIT: RangeInclusive<Duration> = Duration::from_millis(20)..=Duration::from_secs(10);
/// Below, a depot's record has no room even at one commit in 10 s; above, no flash of a small box lasts.
const JOURNAL_BYTES_PER_DAY: RangeInclusive<u64> = (64 << 20)..=(16 << 40);
/// An NTP client asks again within minutes; longer is a live view that stays dark.
const TIME_WAIT: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);
/// Below, a busy box is reset for nothing; above, a depot is without its record for long.
const WATCHDOG_TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(600);
/// Below, a modem has not dialled yet; above, the unit's own bound (7 h, `v2g-edge-confirm.service`) is near.
const CONFIRM_WITHIN: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(6 * 3600);
/// What a version needs at least besides the wait for the clock: 20 s without a restart, a connection and an acknowledgement.
const AFTER_TIME_WAIT: Duration = Duration::from_secs(60);
/// `sockaddr_un.sun_path` less its final NUL.
const SOCKET_BYTES_MAX: usize = 107;

pub(super) fn gateway(section: &Section<'_>) -> Option<GatewayPlan> {
    let id = section.required("id", name);
    let site = section.required("site", name);
    let state_dir = section.required("state_dir", absolute_path);
    Some(GatewayPlan { id: id?, site: site?, state_dir: state_dir? })
}

pub(super) fn aggregate(section: &Section<'_>) -> AggregatePlan {
    AggregatePlan {
        window: section.optional("window", duration_within(WINDOW)).unwrap_or(Duration::from_millis(250)),
        dead_band_kw: section.optional("dead_band_kw", number(0.0..=1000.0)).unwrap_or(0.05),
    }
}

pub(super) fn journal(section: &Section<'_>) -> JournalPlan {
    let when_full =
        [("thin", WhenFull::Thin), ("drop-oldest", WhenFull::DropOldest), ("refuse-newest", WhenFull::RefuseNewest)];
    JournalPlan {
        bytes_max: section.optional("bytes_max", size_within(JOURNAL_BYTES)).unwrap_or(4 << 30),
        free_min: section.optional("free_min", size_within(JOURNAL_FREE)).unwrap_or(JournalPlan::FREE_MIN),
        age_max: section.optional("age_max", duration_within(JOURNAL_AGE)).unwrap_or(Duration::from_secs(72 * 3600)),
        commit_interval: section
            .optional("commit_interval", duration_within(COMMIT))
            .unwrap_or(Duration::from_millis(100)),
        bytes_per_day_max: section.optional("bytes_per_day_max", size_within(JOURNAL_BYTES_PER_DAY)),
        when_full: section.optional("when_full", one_of(&when_full)).unwrap_or(WhenFull::Thin),
        time_wait: section.optional("time_wait", duration_within(TIME_WAIT)).unwrap_or(Duration::from_secs(300)),
    }
}

pub(super) fn privacy(section: &Section<'_>) -> PrivacyPlan {
    let policies = [("send", VehicleIdPolicy::Send), ("hash", VehicleIdPolicy::Hash), ("omit", VehicleIdPolicy::Omit)];
    PrivacyPlan { vehicle_id: section.optional("vehicle_id", one_of(&policies)).unwrap_or_default() }
}

pub(super) fn api(section: &Section<'_>) -> ApiPlan {
    let socket = section.optional("socket", |value| {
        let path = absolute_path(value)?;
        let bytes = path.as_os_str().len();
        if bytes <= SOCKET_BYTES_MAX {
            Ok(path)
        } else {
            Err(Wrong::new(format!("has {bytes} bytes; the kernel takes {SOCKET_BYTES_MAX}")))
        }
    });
    socket.map_or_else(ApiPlan::default, |socket| ApiPlan { socket })
}

pub(super) fn log(section: &Section<'_>) -> LogPlan {
    LogPlan { filter: section.optional("filter", log_filter).unwrap_or_else(|| "info".to_owned()) }
}

pub(super) fn watchdog(section: &Section<'_>) -> WatchdogPlan {
    WatchdogPlan {
        device: section.optional("device", absolute_path),
        timeout: section.optional("timeout", duration_within(WATCHDOG_TIMEOUT)).unwrap_or(Duration::from_secs(30)),
    }
}

/// `time_wait` is the journal's: until it is over, a box whose clock cannot be right sends nothing that could be acknowledged.
pub(super) fn update(section: &Section<'_>, time_wait: Duration) -> UpdatePlan {
    let within = section.optional("confirm_within", |value| {
        let (within, least) = (duration_within(CONFIRM_WITHIN)(value)?, time_wait + AFTER_TIME_WAIT);
        if within >= least {
            return Ok(within);
        }
        let problem = format!(
            "= \"{}\" is over before a version can have shown anything on a box that waits for its clock (journal.time_wait = \"{}\")",
            show_duration(within),
            show_duration(time_wait)
        );
        let note = "or a shorter time_wait in [journal]; \"0s\" for a box with a battery for its clock";
        Err(Wrong::instead(problem, format!("\"{}\"", show_duration(least)), note))
    });
    within.map_or_else(|| UpdatePlan::after(time_wait), |confirm_within| UpdatePlan { confirm_within })
}

pub(super) fn absolute_path(value: &Value) -> Taken<PathBuf> {
    let given = text(value)?;
    if given.starts_with('/') && !given.contains('\0') {
        return Ok(PathBuf::from(given));
    }
    Err(Wrong::noted(format!("= \"{given}\" is not an absolute path"), "it begins with /"))
}

/// `info`, or directives such as `info,v2g_edge::uplink=debug`. Stricter than the log itself, which takes a
/// misspelt level for the name of a module and then logs everything of nothing.
fn log_filter(value: &Value) -> Taken<String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let given = text(value)?;
    for directive in given.split(',') {
        let level = directive.rsplit('=').next().unwrap_or(directive).trim();
        if !LEVELS.contains(&level.to_ascii_lowercase().as_str()) {
            let problem = format!("= \"{given}\" has \"{level}\" where a level is due");
            let list = LEVELS.join(" | ");
            let whole = nearest(level, LEVELS.into_iter()).map(|near| format!("\"{}\"", given.replace(level, near)));
            return Err(match whole {
                Some(whole) if !level.is_empty() => Wrong::instead(problem, whole, list),
                _ => Wrong::noted(problem, format!("{list}, or \"info,v2g_edge::uplink=debug\"")),
            });
        }
    }
    Ok(given)
}
