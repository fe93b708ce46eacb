//! Energy that is known to have flowed, in whole mWh: sums of it are exact, in whatever order and grouping.

use std::time::Duration;

use serde::Serialize;

/// mWh in a kWh.
const MWH_PER_KWH: f64 = 1e6;

/// What a window knows of a device's energy. It may be added up over any windows, and over any merging of them; where nothing was
/// known, nothing is in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Energy {
    /// Towards the vehicle or the site; `None`: nothing is known to have flowed, nor that nothing has.
    pub import: Option<EnergyDelta>,
    /// From the vehicle or the site.
    pub export: Option<EnergyDelta>,
    /// For how long power is known to have been what it was, to the millisecond; `None`: it was not asked for, or not known.
    pub known: Option<Duration>,
}

/// Energy that has flowed one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnergyDelta {
    /// How much, mWh (10^-6 kWh).
    pub mwh: u64,
    /// Where it comes from.
    pub source: EnergySource,
}

/// Where an energy comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EnergySource {
    /// The difference of what a register counts.
    Register,
    /// Power over the time for which it was known.
    Power,
    /// Some of each.
    Mixed,
}

impl EnergySource {
    /// The source of both together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        if self == other { self } else { Self::Mixed }
    }

    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Power => "power",
            Self::Mixed => "mixed",
        }
    }

    /// Whether a register has a part in it.
    #[must_use]
    pub fn is_of_register(self) -> bool {
        matches!(self, Self::Register | Self::Mixed)
    }
}

impl Energy {
    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a register has a part in it.
    #[must_use]
    pub fn is_of_register(&self) -> bool {
        [self.import, self.export].into_iter().flatten().any(|delta| delta.source.is_of_register())
    }

    /// Adds what another window, or another part of this one, knows.
    pub fn add(&mut self, other: Self) {
        let Self { import, export, known } = other;
        add(&mut self.import, import);
        add(&mut self.export, export);
        if let Some(known) = known {
            self.known = Some(self.known.unwrap_or_default() + known);
        }
    }
}

impl Energy {
    /// Takes back what was added. Of where the rest comes from it remembers all that ever was in it.
    pub fn take_back(&mut self, other: Self) {
        let take = |of: Option<EnergyDelta>, other: Option<EnergyDelta>| {
            let rest = of.map(|of| EnergyDelta { mwh: of.mwh.saturating_sub(other.map_or(0, |o| o.mwh)), ..of });
            rest.filter(|rest| rest.mwh > 0 || other.is_none())
        };
        let rest = |of: Duration| of.saturating_sub(other.known.unwrap_or_default());
        *self = Self {
            import: take(self.import, other.import),
            export: take(self.export, other.export),
            known: self.known.map(rest).filter(|rest| !rest.is_zero() || other.known.is_none()),
        };
    }
}

/// Adds to what has flowed one way.
fn add(to: &mut Option<EnergyDelta>, flowed: Option<EnergyDelta>) {
    let Some(flowed) = flowed else { return };
    *to = Some(match *to {
        None => flowed,
        Some(before) => {
            EnergyDelta { mwh: before.mwh.saturating_add(flowed.mwh), source: before.source.with(flowed.source) }
        }
    });
}

impl EnergyDelta {
    /// In kWh, for the wire: the number nearest to a decimal of six places.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "exact up to 9,007,199,254 kWh in one window")]
    pub fn kwh(self) -> f64 {
        self.mwh as f64 / MWH_PER_KWH
    }
}

/// What a register of kWh shows, in whole mWh: of two of them the difference is exact.
#[must_use]
#[allow(clippy::cast_possible_truncation, reason = "saturates; a register within its range is far below")]
pub fn mwh_of(kwh: f64) -> i64 {
    (kwh * MWH_PER_KWH).round() as i64
}

/// The areas above and below zero (kWh, both not negative) under a straight line between two powers (kW) that are `hours` apart. Of
/// a power that lies between the two all the time, in whatever way it goes, the energy is off by at most half their difference
/// times the hours.
#[must_use]
pub fn areas(from_kw: f64, to_kw: f64, hours: f64) -> (f64, f64) {
    let whole = f64::midpoint(from_kw, to_kw) * hours;
    if from_kw * to_kw >= 0.0 {
        return if whole >= 0.0 { (whole, 0.0) } else { (0.0, -whole) };
    }
    let crossing = from_kw / (from_kw - to_kw);
    let (first, second) = (from_kw * crossing / 2.0 * hours, to_kw * (1.0 - crossing) / 2.0 * hours);
    if from_kw > 0.0 { (first, -second) } else { (second, -first) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delta(mwh: u64, source: EnergySource) -> Option<EnergyDelta> {
        Some(EnergyDelta { mwh, source })
    }

    #[test]
    fn energies_add_up_exactly_and_say_where_they_come_from() {
        let mut sum = Energy::default();
        assert!(sum.is_empty());
        for n in 0..10 {
            let source = if n < 5 { EnergySource::Power } else { EnergySource::Register };
            sum.add(Energy { import: delta(100_000, source), export: None, known: Some(Duration::from_millis(250)) });
        }
        let expected = Energy {
            import: delta(1_000_000, EnergySource::Mixed),
            export: None,
            known: Some(Duration::from_millis(2_500)),
        };
        assert_eq!(sum, expected);
        assert_eq!(sum.import.map(EnergyDelta::kwh), Some(1.0));
    }

    #[test]
    fn what_was_added_can_be_taken_back() {
        let one = Energy { import: delta(5, EnergySource::Power), export: None, known: Some(Duration::from_millis(7)) };
        let two = Energy { import: delta(0, EnergySource::Power), export: delta(9, EnergySource::Power), known: None };
        let mut sum = one;
        sum.add(two);
        sum.take_back(two);
        assert_eq!(sum, one);
        sum.take_back(one);
        assert!(sum.is_empty());
    }

    #[test]
    fn a_register_of_decimals_is_a_whole_number_of_mwh() {
        assert_eq!(mwh_of(12_345.7) - mwh_of(12_345.6), 100_000);
        assert_eq!(mwh_of(9_999_999.999), 9_999_999_999_000);
    }

    #[test]
    fn a_power_that_turns_flows_both_ways() {
        assert_eq!(areas(10.0, 20.0, 2.0), (30.0, 0.0));
        assert_eq!(areas(-10.0, -20.0, 2.0), (0.0, 30.0));
        assert_eq!(areas(10.0, -10.0, 2.0), (5.0, 5.0));
        assert_eq!(areas(-30.0, 10.0, 4.0), (5.0, 45.0));
    }
}
