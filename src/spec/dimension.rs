//! What comes of multiplying and dividing quantities: V times A is W, kWh in a time are kW.

use super::unit::{Conversion, Unit};

/// A unit as powers of others, and its size in these.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dimension {
    /// V, A, s, °C, degrees.
    powers: [i8; 5],
    /// How often a percentage is a factor.
    percent: i8,
    size: Conversion,
    sort: Option<Sort>,
}

/// Which power or energy. All three are V times A, and nobody takes one for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Active,
    Reactive,
    Apparent,
}

/// A unit that goes with powers, and that with a time.
const POWER: [i8; 5] = [1, 1, 0, 0, 0];
const ENERGY: [i8; 5] = [1, 1, 1, 0, 0];
/// W s in a kWh.
const KILOWATT_HOUR: f64 = 3.6e6;

impl Dimension {
    /// Of a number in this unit.
    #[must_use]
    pub fn of(unit: Unit) -> Self {
        let (wire, conversion) = unit.wire();
        let (powers, size, sort) = match wire {
            Unit::Kilovar => (POWER, 1e3, Some(Sort::Reactive)),
            Unit::KilovoltAmpere => (POWER, 1e3, Some(Sort::Apparent)),
            Unit::KilowattHour => (ENERGY, KILOWATT_HOUR, Some(Sort::Active)),
            Unit::KilovarHour => (ENERGY, KILOWATT_HOUR, Some(Sort::Reactive)),
            Unit::KilovoltAmpereHour => (ENERGY, KILOWATT_HOUR, Some(Sort::Apparent)),
            Unit::Volt => ([1, 0, 0, 0, 0], 1.0, None),
            Unit::Ampere => ([0, 1, 0, 0, 0], 1.0, None),
            Unit::Ohm => ([1, -1, 0, 0, 0], 1.0, None),
            Unit::Hertz => ([0, 0, -1, 0, 0], 1.0, None),
            Unit::Second => ([0, 0, 1, 0, 0], 1.0, None),
            Unit::Celsius => ([0, 0, 0, 1, 0], 1.0, None),
            Unit::Degree => ([0, 0, 0, 0, 1], 1.0, None),
            Unit::Percent | Unit::One => ([0; 5], 1.0, None),
            // Of the units of the wire no other is left: W, MW, … are not among them.
            _ => (POWER, 1e3, Some(Sort::Active)),
        };
        let size = Conversion { multiply: size * conversion.multiply, divide: conversion.divide };
        Self { powers, percent: i8::from(wire == Unit::Percent), size, sort }
    }

    /// Of a product of both.
    #[must_use]
    pub fn times(self, other: Self) -> Self {
        Self {
            powers: std::array::from_fn(|n| self.powers[n].saturating_add(other.powers[n])),
            percent: self.percent.saturating_add(other.percent),
            size: Conversion {
                multiply: self.size.multiply * other.size.multiply,
                divide: self.size.divide * other.size.divide,
            },
            sort: self.sort.xor(other.sort),
        }
    }

    /// Of this divided by the other.
    #[must_use]
    pub fn over(self, other: Self) -> Self {
        let Self { powers, percent, size: Conversion { multiply, divide }, sort } = other;
        self.times(Self {
            powers: powers.map(i8::saturating_neg),
            percent: percent.saturating_neg(),
            size: Conversion { multiply: divide, divide: multiply },
            sort,
        })
    }

    /// The unit of the wire that it is in; `None`: no unit is like that, or it may be anything (so often in a second).
    #[must_use]
    pub fn unit(self) -> Option<Unit> {
        let sorted = |active, reactive, apparent| match self.sort {
            Some(Sort::Active) | None => active,
            Some(Sort::Reactive) => reactive,
            Some(Sort::Apparent) => apparent,
        };
        match self.powers {
            POWER => Some(sorted(Unit::Kilowatt, Unit::Kilovar, Unit::KilovoltAmpere)),
            ENERGY => Some(sorted(Unit::KilowattHour, Unit::KilovarHour, Unit::KilovoltAmpereHour)),
            [0, 0, 0, 0, 0] if self.percent == 1 => Some(Unit::Percent),
            [0, 0, 0, 0, 0] => Some(Unit::One),
            [1, 0, 0, 0, 0] => Some(Unit::Volt),
            [0, 1, 0, 0, 0] => Some(Unit::Ampere),
            [1, -1, 0, 0, 0] => Some(Unit::Ohm),
            [0, 0, 1, 0, 0] => Some(Unit::Second),
            [0, 0, 0, 1, 0] => Some(Unit::Celsius),
            [0, 0, 0, 0, 1] => Some(Unit::Degree),
            _ => None,
        }
    }

    /// From a number of this to one in the unit that goes over the wire for `unit`; `None`: it is another quantity.
    #[must_use]
    pub fn in_unit(self, unit: Unit) -> Option<Conversion> {
        let to = Self::of(unit.wire().0);
        let hundreds = 100_f64.powi(i32::from(self.percent.saturating_sub(to.percent)));
        let multiply = self.size.multiply * to.size.divide;
        let divide = self.size.divide * to.size.multiply * hundreds;
        (self.powers == to.powers).then(|| reduced(multiply, divide))
    }
}

/// 3600 and not 3,600,000 / 1000: fewer roundings.
fn reduced(multiply: f64, divide: f64) -> Conversion {
    let (up, down) = (multiply / divide, divide / multiply);
    if up.fract() == 0.0 {
        Conversion { multiply: up, divide: 1.0 }
    } else if down.fract() == 0.0 {
        Conversion { multiply: 1.0, divide: down }
    } else {
        Conversion { multiply, divide }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(unit: Unit) -> Dimension {
        Dimension::of(unit)
    }

    #[test]
    fn volts_times_amperes_are_a_thousandth_of_kilowatts() {
        let power = of(Unit::Volt).times(of(Unit::Ampere));
        assert_eq!(
            (power.unit(), power.in_unit(Unit::Watt)),
            (Some(Unit::Kilowatt), Some(Conversion { multiply: 1.0, divide: 1e3 }))
        );
        assert_eq!(power.in_unit(Unit::KilovoltAmpere), power.in_unit(Unit::Kilowatt));
        assert_eq!(power.in_unit(Unit::Volt), None);
    }

    #[test]
    fn kilowatt_hours_in_a_second_are_3600_kilowatts() {
        for (energy, power) in [
            (Unit::KilowattHour, Unit::Kilowatt),
            (Unit::KilovarHour, Unit::Kilovar),
            (Unit::KilovoltAmpereHour, Unit::KilovoltAmpere),
        ] {
            let rate = of(energy).over(of(Unit::Second));
            assert_eq!(rate.unit(), Some(power));
            assert_eq!(rate.in_unit(power), Some(Conversion { multiply: 3600.0, divide: 1.0 }));
        }
    }

    #[test]
    fn what_is_divided_and_multiplied_again_is_what_it_was() {
        for unit in Unit::ALL.map(|unit| unit.wire().0) {
            for by in [Unit::Volt, Unit::KilowattHour, Unit::Percent, Unit::Celsius] {
                let back = of(unit).times(of(by)).over(of(by));
                assert_eq!(back.in_unit(unit), Some(Conversion::IDENTITY), "{unit:?} {by:?}");
            }
        }
    }

    #[test]
    fn a_ratio_is_a_hundredth_of_its_percentage() {
        let ratio = of(Unit::Kilowatt).over(of(Unit::KilovoltAmpere));
        assert_eq!((ratio.unit(), ratio.in_unit(Unit::One)), (Some(Unit::One), Some(Conversion::IDENTITY)));
        assert_eq!(ratio.in_unit(Unit::Percent), Some(Conversion { multiply: 100.0, divide: 1.0 }));
        let part = of(Unit::Percent).times(of(Unit::KilowattHour));
        assert_eq!(
            (part.unit(), part.in_unit(Unit::KilowattHour)),
            (Some(Unit::KilowattHour), Some(Conversion { multiply: 1.0, divide: 100.0 }))
        );
    }

    #[test]
    fn what_no_unit_is_like_has_none() {
        assert_eq!(of(Unit::Kilowatt).times(of(Unit::Kilowatt)).unit(), None);
        assert_eq!(of(Unit::Percent).over(of(Unit::Second)).unit(), None);
        assert_eq!(of(Unit::Kilowatt).over(of(Unit::Volt)).unit(), Some(Unit::Ampere));
    }
}
