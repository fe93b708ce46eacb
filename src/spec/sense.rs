//! What a number of a quantity can be at all: the one table by which a probe, `status` and what is sent call a value senseless.

use std::ops::RangeInclusive;

use super::point::{Origin, PointSpec, ValueType};
use super::unit::Unit;

/// A float that is read with its words or bytes exchanged has its exponent at random. Nothing measured is that small: what a
/// double's rounding leaves of a zero is above 1e-20.
const SIZE_MIN: f64 = 1e-30;
/// Nor that large, in whatever unit.
const SIZE_MAX: f64 = 1e15;

impl PointSpec {
    /// What its numbers can be, in the wire's unit: as its profile says; where it says nothing, what such a quantity can be
    /// in a depot at all. `None`: nothing is known of it.
    #[must_use]
    pub fn range(&self) -> Option<RangeInclusive<f64>> {
        self.valid.clone().or_else(|| of_quantity(self.field.as_str(), self.unit))
    }

    /// Whether a number of it can be true.
    #[must_use]
    pub fn makes_sense(&self, value: f64) -> bool {
        let is_some_size = value == 0.0 || (SIZE_MIN..=SIZE_MAX).contains(&value.abs());
        is_some_size && self.range().is_none_or(|range| range.contains(&value))
    }

    /// Whether it counts energy for life, forwards only: not that of a session, which begins anew, and no difference of two.
    #[must_use]
    pub fn is_counter(&self) -> bool {
        let is_energy = matches!(self.unit, Unit::KilowattHour | Unit::KilovarHour | Unit::KilovoltAmpereHour);
        let is_scaled_only = !self.scaling.invert && self.scaling.offset == 0.0;
        let is_of_life = match self.origin {
            Origin::Session(_) => false,
            Origin::Register(_) | Origin::SunSpec(_) | Origin::Signal(_) | Origin::Derived(_) => true,
        };
        self.value_type == ValueType::Float && is_energy && is_scaled_only && is_of_life && counts(self.field.as_str())
    }

    /// Whether the energy of a window is told by it: it counts for life, or a session.
    #[must_use]
    pub fn is_energy_register(&self) -> bool {
        matches!(self.origin, Origin::Session(_)) || self.is_counter()
    }
}

fn counts(field: &str) -> bool {
    ["energy_import", "energy_export", "energy_reactive_import", "energy_reactive_export"]
        .iter()
        .any(|name| field.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("_l")))
}

/// The table. Wide on purpose: what is outside is garbage, not a fault of the grid.
fn of_quantity(field: &str, unit: Unit) -> Option<RangeInclusive<f64>> {
    let is = |name: &str| field.starts_with(name);
    Some(match unit {
        // 100 MW: more than any depot's connection, either way.
        Unit::Kilowatt | Unit::Kilovar | Unit::KilovoltAmpere => -1e5..=1e5,
        // A meter behind transformers of the high-voltage side.
        Unit::Volt => -1e5..=1e5,
        // 20 times what a megawatt charger draws; also behind transformers.
        Unit::Ampere => -1e5..=1e5,
        // Railways have 16.7 Hz, aircraft 400. 0 Hz: nothing to be measured was there (`status` tells whether there was a voltage).
        Unit::Hertz => 10.0..=500.0,
        // No counter runs below nothing; 1 TWh is 100 MW for a thousand years.
        Unit::KilowattHour | Unit::KilovarHour | Unit::KilovoltAmpereHour if counts(field) => 0.0..=1e9,
        Unit::KilowattHour | Unit::KilovarHour | Unit::KilovoltAmpereHour => -1e9..=1e9,
        Unit::Percent if is("soc") || is("soh") => 0.0..=100.0,
        // Distortion of a current may be many times its base.
        Unit::Percent => -1e5..=1e5,
        // Colder than any place with chargers; silicon is dead at 250.
        Unit::Celsius => -60.0..=250.0,
        Unit::Degree => -360.0..=360.0,
        Unit::One if is("power_factor") || is("cos_phi") => -1.01..=1.01,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Aggregation, Scaling, SessionPoint, SessionValue};

    fn point(field: &str, unit: Unit) -> PointSpec {
        PointSpec {
            field: field.try_into().expect("a field"),
            unit,
            value_type: ValueType::Float,
            aggregation: Aggregation::Mean,
            valid: None,
            frozen_after: None,
            scaling: Scaling::default(),
            origin: Origin::SunSpec(crate::spec::SunSpecPoint { from: vec![] }),
        }
    }

    #[test]
    fn what_no_quantity_can_be_makes_no_sense_and_what_a_healthy_device_says_does() {
        let garbage = [
            ("power_flow", Unit::Kilowatt, -3.2e29),
            ("power_flow", Unit::Kilowatt, 2e5),
            ("power_flow", Unit::Kilowatt, f64::NAN),
            ("power_flow", Unit::Kilowatt, f64::INFINITY),
            ("voltage_l1", Unit::Volt, 2.4e-41),
            ("frequency", Unit::Hertz, 0.0),
            ("frequency", Unit::Hertz, 5000.0),
            ("soc", Unit::Percent, 300.0),
            ("soc", Unit::Percent, -1.0),
            ("power_factor", Unit::One, 87.0),
            ("temperature_module", Unit::Celsius, 6000.0),
            ("energy_import", Unit::KilowattHour, -1.0),
            ("whatever", Unit::One, 1e16),
        ];
        for (field, unit, value) in garbage {
            assert!(!point(field, unit).makes_sense(value), "{field} {value}");
        }
        let healthy = [
            ("power_flow", Unit::Kilowatt, 0.0),
            ("power_flow", Unit::Kilowatt, -3750.0),
            ("power_reactive", Unit::Kilovar, 1e-9),
            // A charger at rest.
            ("voltage", Unit::Volt, 0.0),
            ("voltage_l1", Unit::Volt, 63_500.0),
            ("frequency", Unit::Hertz, 16.7),
            ("soc", Unit::Percent, 0.0),
            ("thd_current_l1", Unit::Percent, 140.0),
            ("power_factor", Unit::One, -1.0),
            ("energy_net", Unit::KilowattHour, -12.0),
            ("station_time", Unit::Second, 1.8e9),
        ];
        for (field, unit, value) in healthy {
            assert!(point(field, unit).makes_sense(value), "{field} {value}");
        }
    }

    #[test]
    fn the_profiles_own_range_goes_before_the_table() {
        let narrow = PointSpec { valid: Some(0.0..=22.0), ..point("power_flow", Unit::Kilowatt) };
        let wide = PointSpec { valid: Some(0.0..=3000.0), ..point("frequency", Unit::Hertz) };
        assert!(!narrow.makes_sense(23.0) && wide.makes_sense(0.0) && wide.makes_sense(2000.0));
    }

    #[test]
    fn a_counter_is_what_counts_energy_for_life() {
        for field in ["energy_import", "energy_export_l2", "energy_reactive_import"] {
            assert!(point(field, Unit::KilowattHour).is_counter(), "{field}");
        }
        for field in ["energy_session", "energy_net", "energy_total", "energy_import_session", "energy_importer"] {
            assert!(!point(field, Unit::KilowattHour).is_counter(), "{field}");
        }
        let session = Origin::Session(SessionPoint { value: SessionValue::EnergyImport });
        assert!(!PointSpec { origin: session, ..point("energy_import", Unit::KilowattHour) }.is_counter());
        assert!(!point("energy_import", Unit::One).is_counter());
    }
}
