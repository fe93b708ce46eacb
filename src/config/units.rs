//! Durations, sizes and rates as a person writes them: a whole number and its unit, with nothing between.
//!
//! The unit is never guessed: `250` is refused, not read as seconds or milliseconds.

use std::time::Duration;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
const TIB: u64 = 1024 * GIB;

/// Units of time, in ms. The longest that divides comes first when a duration is written back.
const TIMES: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Units of size, in bytes.
const SIZES: [(&str, u64); 5] = [("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB), ("B", 1)];

/// Units of power, in W.
const POWERS: [(&str, u64); 3] = [("MW", 1_000_000), ("kW", 1000), ("W", 1)];

/// Units of energy, in Wh.
const ENERGIES: [(&str, u64); 3] = [("MWh", 1_000_000), ("kWh", 1000), ("Wh", 1)];

/// The units of a power, for messages.
pub(super) const POWER_UNITS: &str = "units: W, kW, MW";
/// The units of an energy, for messages.
pub(super) const ENERGY_UNITS: &str = "units: Wh, kWh, MWh";
/// The units of a duration, for messages.
pub(super) const TIME_UNITS: &str = "units: ms, s, m (minutes), h, d";
/// The units of a size, for messages.
pub(super) const SIZE_UNITS: &str = "units: B, KiB, MiB, GiB, TiB; 1 KiB is 1024 B";
/// The units of a rate, for messages.
pub(super) const RATE_UNITS: &str = "units: B/s, KiB/s, MiB/s, GiB/s";

/// Why a text is no quantity: the problem as the end of a sentence, and the text that was probably meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NotAQuantity {
    pub problem: &'static str,
    pub instead: Option<String>,
}

/// `250ms`, `15s`, `2m`, `72h`, `7d`.
pub(super) fn duration(text: &str) -> Result<Duration, NotAQuantity> {
    quantity(text, &TIMES, meant_time).map(Duration::from_millis)
}

/// `1000B`, `64KiB`, `512MiB`, `4GiB`, in bytes.
pub(super) fn size(text: &str) -> Result<u64, NotAQuantity> {
    quantity(text, &SIZES, meant_size)
}

/// `250kW`, in W.
pub(super) fn power(text: &str) -> Result<u64, NotAQuantity> {
    quantity(text, &POWERS, |unit| same_unit(unit, &POWERS))
}

/// `60kWh`, in Wh.
pub(super) fn energy(text: &str) -> Result<u64, NotAQuantity> {
    quantity(text, &ENERGIES, |unit| same_unit(unit, &ENERGIES))
}

/// A power as it would be written.
pub(super) fn show_power(watts: u64) -> String {
    show(watts, &POWERS)
}

/// An energy as it would be written.
pub(super) fn show_energy(watt_hours: u64) -> String {
    show(watt_hours, &ENERGIES)
}

/// `2MiB/s`, in bytes per second.
pub(super) fn rate(text: &str) -> Result<u64, NotAQuantity> {
    let per_second = |size: String| format!("{size}/s");
    match text.strip_suffix("/s") {
        Some(size_text) => {
            size(size_text).map_err(|wrong| NotAQuantity { instead: wrong.instead.map(per_second), ..wrong })
        }
        None => Err(NotAQuantity {
            problem: "does not end in \"/s\"",
            instead: size(text).ok().map(|bytes| per_second(show_size(bytes))),
        }),
    }
}

/// A duration as it would be written. Exact for whole milliseconds, which is all that [`duration`] reads.
pub(super) fn show_duration(duration: Duration) -> String {
    show(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), &TIMES)
}

/// A size as it would be written.
pub(super) fn show_size(bytes: u64) -> String {
    show(bytes, &SIZES)
}

fn show(value: u64, units: &[(&str, u64)]) -> String {
    let fits = |(_, factor): &&(&str, u64)| value != 0 && value.is_multiple_of(*factor);
    let &(unit, factor) = units.iter().find(fits).unwrap_or(&units[units.len() - 1]);
    format!("{}{unit}", value / factor)
}

fn quantity(
    text: &str,
    units: &[(&str, u64)],
    meant: impl Fn(&str) -> Option<&'static str>,
) -> Result<u64, NotAQuantity> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let known = units.iter().find(|(name, _)| *name == unit);
    let tidy = unit.trim();
    let instead = || {
        let unit = units.iter().map(|(name, _)| *name).find(|name| *name == tidy).or_else(|| meant(tidy))?;
        (digits > 0).then(|| format!("{number}{unit}"))
    };
    match known {
        _ if text.is_empty() => Err(NotAQuantity { problem: "is empty", instead: None }),
        _ if digits == 0 => Err(NotAQuantity { problem: "does not begin with a whole number", instead: None }),
        None if unit.is_empty() => Err(NotAQuantity { problem: "has no unit", instead: None }),
        None if unit.starts_with(['.', ',']) => Err(NotAQuantity { problem: "is not a whole number", instead: None }),
        None if unit != tidy => Err(NotAQuantity { problem: "has a space in it", instead: instead() }),
        None => Err(NotAQuantity { problem: "has a unit that is not known here", instead: instead() }),
        Some((_, factor)) => number
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(*factor))
            .ok_or(NotAQuantity { problem: "is too large to count", instead: None }),
    }
}

/// The unit in other letters: `KW`, `Kwh`.
fn same_unit(unit: &str, units: &[(&'static str, u64)]) -> Option<&'static str> {
    units.iter().map(|(name, _)| *name).find(|name| name.eq_ignore_ascii_case(unit))
}

/// The unit that is meant by a usual other spelling.
fn meant_time(unit: &str) -> Option<&'static str> {
    match unit.to_ascii_lowercase().as_str() {
        "msec" | "millis" | "milliseconds" => Some("ms"),
        "sec" | "secs" | "second" | "seconds" => Some("s"),
        "min" | "mins" | "minute" | "minutes" => Some("m"),
        "hour" | "hours" | "hr" | "hrs" => Some("h"),
        "day" | "days" => Some("d"),
        _ => None,
    }
}

fn meant_size(unit: &str) -> Option<&'static str> {
    match unit.to_ascii_lowercase().as_str() {
        "b" | "byte" | "bytes" => Some("B"),
        "k" | "kb" | "kib" => Some("KiB"),
        "m" | "mb" | "mib" => Some("MiB"),
        "g" | "gb" | "gib" => Some("GiB"),
        "t" | "tb" | "tib" => Some("TiB"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read_and_written_back() {
        for (text, ms) in [("250ms", 250), ("15s", 15_000), ("2m", 120_000), ("73h", 262_800_000), ("7d", 604_800_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)));
            assert_eq!(show_duration(Duration::from_millis(ms)), text);
        }
        for (text, bytes) in [("1000B", 1000), ("64KiB", 65_536), ("512MiB", 512 << 20), ("4GiB", 4 << 30)] {
            assert_eq!(size(text), Ok(bytes));
            assert_eq!(show_size(bytes), text);
        }
        for (text, watts) in [("500W", 500), ("250kW", 250_000), ("1500kW", 1_500_000), ("2MW", 2_000_000)] {
            assert_eq!(power(text), Ok(watts));
            assert_eq!(energy(&format!("{text}h")), Ok(watts));
        }
        assert_eq!((show_power(1_500_000), show_energy(77_000)), ("1500kW".to_owned(), "77kWh".to_owned()));
        assert_eq!(rate("2MiB/s"), Ok(2 << 20));
        assert_eq!(show_duration(Duration::ZERO), "0ms");
    }

    #[test]
    fn a_number_without_a_unit_is_refused() {
        assert_eq!(duration("250").expect_err("no unit").problem, "has no unit");
        assert_eq!(size("4096").expect_err("no unit").problem, "has no unit");
        assert_eq!(rate("2MiB").expect_err("no time").instead, Some("2MiB/s".to_owned()));
    }

    #[test]
    fn the_usual_other_spelling_is_answered_with_ours() {
        for (text, instead) in [("250 ms", "250ms"), ("5sec", "5s"), ("3 hours", "3h"), ("250 m", "250m")] {
            assert_eq!(duration(text).expect_err("not ours").instead.as_deref(), Some(instead));
        }
        assert_eq!(size("4GB").expect_err("not ours").instead.as_deref(), Some("4GiB"));
        assert_eq!(power("250 KW").expect_err("not ours").instead.as_deref(), Some("250kW"));
        assert_eq!(rate("2 mb/s").expect_err("not ours").instead.as_deref(), Some("2MiB/s"));
    }

    #[test]
    fn what_is_no_whole_number_is_refused() {
        for text in ["", "ms", "-5s", "0.5s", "1,5s", "1h30m", "99999999999999999999s", "18446744073709551615d", "５s"]
        {
            assert!(duration(text).is_err(), "{text:?} was accepted");
        }
    }
}
