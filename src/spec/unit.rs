//! Units, and the exact conversion of a device's unit to the wire's.

/// A unit that a profile may state. The wire uses only the ones that [`Unit::wire`] answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// Active power, W.
    Watt,
    /// Active power, kW.
    Kilowatt,
    /// Active power, MW.
    Megawatt,
    /// Reactive power, var.
    Var,
    /// Reactive power, kvar.
    Kilovar,
    /// Apparent power, VA.
    VoltAmpere,
    /// Apparent power, kVA.
    KilovoltAmpere,
    /// mV.
    Millivolt,
    /// V.
    Volt,
    /// mA.
    Milliampere,
    /// A.
    Ampere,
    /// Hz.
    Hertz,
    /// Active energy, Wh.
    WattHour,
    /// Active energy, kWh.
    KilowattHour,
    /// Active energy, MWh.
    MegawattHour,
    /// Reactive energy, varh.
    VarHour,
    /// Reactive energy, kvarh.
    KilovarHour,
    /// Apparent energy, VAh.
    VoltAmpereHour,
    /// Apparent energy, kVAh.
    KilovoltAmpereHour,
    /// %.
    Percent,
    /// °C.
    Celsius,
    /// Angle, degrees.
    Degree,
    /// Ω.
    Ohm,
    /// s.
    Second,
    /// ms.
    Millisecond,
    /// A ratio, a count, a code, a text.
    One,
}

impl Unit {
    /// Every unit, in the order of the list in the documentation.
    pub const ALL: [Self; 26] = [
        Self::Watt,
        Self::Kilowatt,
        Self::Megawatt,
        Self::Var,
        Self::Kilovar,
        Self::VoltAmpere,
        Self::KilovoltAmpere,
        Self::Millivolt,
        Self::Volt,
        Self::Milliampere,
        Self::Ampere,
        Self::Hertz,
        Self::WattHour,
        Self::KilowattHour,
        Self::MegawattHour,
        Self::VarHour,
        Self::KilovarHour,
        Self::VoltAmpereHour,
        Self::KilovoltAmpereHour,
        Self::Percent,
        Self::Celsius,
        Self::Degree,
        Self::Ohm,
        Self::Second,
        Self::Millisecond,
        Self::One,
    ];

    /// The symbol, as written in a profile and in the catalog. `One` is the empty text.
    #[must_use]
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Watt => "W",
            Self::Kilowatt => "kW",
            Self::Megawatt => "MW",
            Self::Var => "var",
            Self::Kilovar => "kvar",
            Self::VoltAmpere => "VA",
            Self::KilovoltAmpere => "kVA",
            Self::Millivolt => "mV",
            Self::Volt => "V",
            Self::Milliampere => "mA",
            Self::Ampere => "A",
            Self::Hertz => "Hz",
            Self::WattHour => "Wh",
            Self::KilowattHour => "kWh",
            Self::MegawattHour => "MWh",
            Self::VarHour => "varh",
            Self::KilovarHour => "kvarh",
            Self::VoltAmpereHour => "VAh",
            Self::KilovoltAmpereHour => "kVAh",
            Self::Percent => "%",
            Self::Celsius => "°C",
            Self::Degree => "deg",
            Self::Ohm => "ohm",
            Self::Second => "s",
            Self::Millisecond => "ms",
            Self::One => "",
        }
    }

    /// The unit of this symbol.
    #[must_use]
    pub fn from_symbol(symbol: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| unit.symbol() == symbol)
    }

    /// The unit that the wire uses for this kind of quantity, and the way there.
    #[must_use]
    pub fn wire(self) -> (Self, Conversion) {
        let (unit, multiply, divide) = match self {
            Self::Watt => (Self::Kilowatt, 1.0, 1e3),
            Self::Megawatt => (Self::Kilowatt, 1e3, 1.0),
            Self::Var => (Self::Kilovar, 1.0, 1e3),
            Self::VoltAmpere => (Self::KilovoltAmpere, 1.0, 1e3),
            Self::Millivolt => (Self::Volt, 1.0, 1e3),
            Self::Milliampere => (Self::Ampere, 1.0, 1e3),
            Self::WattHour => (Self::KilowattHour, 1.0, 1e3),
            Self::MegawattHour => (Self::KilowattHour, 1e3, 1.0),
            Self::VarHour => (Self::KilovarHour, 1.0, 1e3),
            Self::VoltAmpereHour => (Self::KilovoltAmpereHour, 1.0, 1e3),
            Self::Millisecond => (Self::Second, 1.0, 1e3),
            same => (same, 1.0, 1.0),
        };
        (unit, Conversion { multiply, divide })
    }
}

/// `x * multiply / divide`. A quotient and not a factor: 7,200.5 W is 7.2005 kW to the last bit,
/// while times 0.001 is not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conversion {
    /// Factor above the line; finite, not zero.
    pub multiply: f64,
    /// Factor below the line; finite, not zero.
    pub divide: f64,
}

impl Conversion {
    /// Leaves the value as it is.
    pub const IDENTITY: Self = Self { multiply: 1.0, divide: 1.0 };

    /// The converted value.
    #[must_use]
    pub fn apply(self, value: f64) -> f64 {
        value * self.multiply / self.divide
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watts_become_the_nearest_kilowatts() {
        let (unit, conversion) = Unit::Watt.wire();
        assert_eq!(unit, Unit::Kilowatt);
        assert_eq!(conversion.apply(7200.5).to_bits(), 7.2005_f64.to_bits());
    }

    #[test]
    fn every_symbol_names_one_unit_and_every_wire_unit_is_its_own() {
        for unit in Unit::ALL {
            assert_eq!(Unit::from_symbol(unit.symbol()), Some(unit));
            let (wire, _) = unit.wire();
            assert_eq!(wire.wire(), (wire, Conversion::IDENTITY));
        }
    }
}
