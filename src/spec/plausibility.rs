//! Which quantities of a device must go together: rules as data. A profile may tighten, loosen or switch off each of them.

use std::time::Duration;

use super::unit::Unit;

/// A rule. Its name is on the wire, in profiles and in `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// Power is what voltage times current make, or less.
    PowerAgainstCurrent,
    /// A total is the sum of its phases.
    PhaseSum,
    /// A charger takes or gives on all of its phases.
    PhaseDirection,
    /// Active power is no more than the apparent one.
    ApparentAgainstActive,
    /// Active power is no more than power factor and apparent power make.
    PowerFactor,
    /// A register counts what power brings.
    RegisterAgainstPower,
    /// The state of charge rises with what is charged.
    SocAgainstEnergy,
}

/// How near the two sides of a rule must be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// As a part of what is expected; 0 to 1.
    pub part: f64,
    /// For so long they are not, without a break, before it is a finding; and are again, before it is none. 1 s to 1 h.
    pub hold: Duration,
    /// Nobody looks.
    pub is_off: bool,
}

/// The tolerances of a device, by rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerances([Tolerance; Rule::ALL.len()]);

impl Rule {
    /// Every rule.
    pub const ALL: [Self; 7] = [
        Self::PowerAgainstCurrent,
        Self::PhaseSum,
        Self::PhaseDirection,
        Self::ApparentAgainstActive,
        Self::PowerFactor,
        Self::RegisterAgainstPower,
        Self::SocAgainstEnergy,
    ];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PowerAgainstCurrent => "power_against_current",
            Self::PhaseSum => "phase_sum",
            Self::PhaseDirection => "phase_direction",
            Self::ApparentAgainstActive => "apparent_against_active",
            Self::PowerFactor => "power_factor",
            Self::RegisterAgainstPower => "register_against_power",
            Self::SocAgainstEnergy => "soc_against_energy",
        }
    }

    /// The rule of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.as_str() == name)
    }

    /// What is usual.
    #[must_use]
    pub const fn usual(self) -> Tolerance {
        let (part, seconds) = match self {
            Self::PowerAgainstCurrent => (0.1, 30),
            Self::PhaseSum => (0.05, 30),
            Self::PhaseDirection => (0.2, 30),
            Self::ApparentAgainstActive => (0.05, 30),
            // Of unlike phases the total of the apparent power is made in two ways.
            Self::PowerFactor => (0.25, 30),
            Self::RegisterAgainstPower => (0.1, 60),
            // What heats a battery or a bus does not charge it.
            Self::SocAgainstEnergy => (0.4, 60),
        };
        Tolerance { part, hold: Duration::from_secs(seconds), is_off: false }
    }

    /// What is likely where it does not hold, and what to do.
    #[must_use]
    pub const fn cure(self) -> &'static str {
        match self {
            Self::PowerAgainstCurrent => {
                "look for a wrong scale or register in its profile, for a current transformer whose ratio is not set, and for a voltage \
                 and a current of different phases"
            }
            Self::PhaseSum => {
                "look for a current transformer that is the wrong way round, and for a wrong scale, sign or register in its profile"
            }
            Self::PhaseDirection => {
                "a current transformer is the wrong way round, or its voltage is that of another phase: exchange its two wires, or \
                 the phases"
            }
            Self::ApparentAgainstActive | Self::PowerFactor => "look for a wrong scale or register in its profile",
            Self::RegisterAgainstPower => {
                "look for import and export that are exchanged, for a wrong scale or sign in its profile, and for a meter that counts \
                 something else or not at all"
            }
            Self::SocAgainstEnergy => {
                "look for a wrong scale or register of soc or of the capacity in its profile; or the vehicle tells it wrong"
            }
        }
    }

    const fn place(self) -> usize {
        self as usize
    }
}

impl Default for Tolerances {
    /// What is usual.
    fn default() -> Self {
        Self(Rule::ALL.map(Rule::usual))
    }
}

impl Tolerances {
    /// Of a rule.
    #[must_use]
    pub fn of(&self, rule: Rule) -> Tolerance {
        self.0.get(rule.place()).copied().unwrap_or(rule.usual())
    }

    /// The same with another one for this rule.
    pub fn set(&mut self, rule: Rule, tolerance: Tolerance) {
        if let Some(own) = self.0.get_mut(rule.place()) {
            *own = tolerance;
        }
    }
}

/// Two sides that are compared. Fields are those of the wire.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// Of which rule.
    pub rule: Rule,
    /// What the device says: the sum of these.
    pub value: &'static [&'static str],
    /// What its other quantities make of it: a sum of products.
    pub expected: &'static [&'static [&'static str]],
    /// The products times this, for the unit.
    pub times: f64,
    /// How the two sides must stand.
    pub relation: Relation,
    /// Off by less than this, in the unit, is never a finding.
    pub least: f64,
    /// Of both sides.
    pub unit: Unit,
    /// Of charge points only.
    pub is_of_charger: bool,
    /// Of devices that have these.
    pub with: &'static [&'static str],
    /// And none of these.
    pub without: &'static [&'static str],
}

/// How the two sides of a comparison must stand. All but the first are of magnitudes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// The same, with their signs.
    Same,
    /// As large.
    AsLarge,
    /// The value is no larger.
    NoLarger,
    /// The value is no smaller.
    NoSmaller,
}

const BASE: Comparison = Comparison {
    rule: Rule::PowerAgainstCurrent,
    value: &[],
    expected: &[],
    times: 1.0,
    relation: Relation::NoLarger,
    least: 0.0,
    unit: Unit::Kilowatt,
    is_of_charger: false,
    with: &[],
    without: &[],
};

const POWER: &[&str] = &["power_flow"];
const POWERS: &[&str] = &["power_flow_l1", "power_flow_l2", "power_flow_l3"];
const EACH_POWER: &[&[&str]] = &[&["power_flow_l1"], &["power_flow_l2"], &["power_flow_l3"]];
const EACH_CURRENT: &[&[&str]] = &[&["current_l1"], &["current_l2"], &["current_l3"]];
const PHASE_PRODUCTS: &[&[&str]] =
    &[&["voltage_l1", "current_l1"], &["voltage_l2", "current_l2"], &["voltage_l3", "current_l3"]];
const PHASE_PRODUCTS_BY_FACTOR: &[&[&str]] = &[
    &["voltage_l1", "current_l1", "power_factor"],
    &["voltage_l2", "current_l2", "power_factor"],
    &["voltage_l3", "current_l3", "power_factor"],
];
const WHOLE_PRODUCT: &[&[&str]] = &[&["voltage", "current"]];
/// What a device of alternating current has, in one form or another.
const ALTERNATING: &[&str] = &["current_l1", "frequency", "power_factor", "power_apparent", "power_reactive"];

/// V times A in kW.
const KILO: f64 = 1e-3;
/// The same of three phases of which `voltage` and `current` are the means.
const THREE_KILO: f64 = 3e-3;
/// A charger's own electronics take a current that does no work, but no more than what charges.
const HALF_KILO: f64 = 5e-4;
/// Beside a power factor that is one of the first harmonic alone.
const MOST_KILO: f64 = 7e-4;

/// All comparisons of the rules but those of energy, which are no comparisons of a moment (`derive::plausibility`).
pub const COMPARISONS: &[Comparison] = &[
    Comparison {
        value: &["power_flow_l1"],
        expected: &[&["voltage_l1", "current_l1"]],
        times: KILO,
        least: 0.1,
        ..BASE
    },
    Comparison {
        value: &["power_flow_l2"],
        expected: &[&["voltage_l2", "current_l2"]],
        times: KILO,
        least: 0.1,
        ..BASE
    },
    Comparison {
        value: &["power_flow_l3"],
        expected: &[&["voltage_l3", "current_l3"]],
        times: KILO,
        least: 0.1,
        ..BASE
    },
    Comparison { value: POWER, expected: PHASE_PRODUCTS, times: KILO, least: 0.3, ..BASE },
    Comparison {
        value: POWER,
        expected: PHASE_PRODUCTS,
        times: HALF_KILO,
        relation: Relation::NoSmaller,
        least: 1.0,
        is_of_charger: true,
        without: &["power_reactive", "power_factor"],
        ..BASE
    },
    Comparison {
        value: POWER,
        expected: PHASE_PRODUCTS_BY_FACTOR,
        times: MOST_KILO,
        relation: Relation::NoSmaller,
        least: 1.0,
        is_of_charger: true,
        ..BASE
    },
    // Direct current: who tells a state of charge.
    Comparison {
        value: POWER,
        expected: WHOLE_PRODUCT,
        times: KILO,
        relation: Relation::AsLarge,
        least: 1.0,
        with: &["soc"],
        without: ALTERNATING,
        ..BASE
    },
    Comparison {
        value: POWER,
        expected: WHOLE_PRODUCT,
        times: THREE_KILO,
        least: 1.0,
        without: &["soc", "current_l1"],
        ..BASE
    },
    Comparison {
        rule: Rule::PhaseSum,
        value: POWER,
        expected: EACH_POWER,
        relation: Relation::Same,
        least: 0.2,
        ..BASE
    },
    Comparison {
        rule: Rule::PhaseSum,
        value: &["current_sum"],
        expected: EACH_CURRENT,
        relation: Relation::AsLarge,
        least: 2.0,
        unit: Unit::Ampere,
        ..BASE
    },
    Comparison {
        rule: Rule::PhaseDirection,
        value: POWERS,
        expected: EACH_POWER,
        relation: Relation::NoSmaller,
        least: 0.5,
        is_of_charger: true,
        ..BASE
    },
    Comparison {
        rule: Rule::ApparentAgainstActive,
        value: POWER,
        expected: &[&["power_apparent"]],
        least: 0.2,
        ..BASE
    },
    Comparison {
        rule: Rule::ApparentAgainstActive,
        value: &["power_flow_l1"],
        expected: &[&["power_apparent_l1"]],
        least: 0.1,
        ..BASE
    },
    Comparison {
        rule: Rule::ApparentAgainstActive,
        value: &["power_flow_l2"],
        expected: &[&["power_apparent_l2"]],
        least: 0.1,
        ..BASE
    },
    Comparison {
        rule: Rule::ApparentAgainstActive,
        value: &["power_flow_l3"],
        expected: &[&["power_apparent_l3"]],
        least: 0.1,
        ..BASE
    },
    Comparison {
        rule: Rule::PowerFactor,
        value: POWER,
        expected: &[&["power_factor", "power_apparent"]],
        least: 0.5,
        ..BASE
    },
    Comparison {
        rule: Rule::PowerFactor,
        value: &["power_flow_l1"],
        expected: &[&["power_factor_l1", "power_apparent_l1"]],
        least: 0.3,
        ..BASE
    },
    Comparison {
        rule: Rule::PowerFactor,
        value: &["power_flow_l2"],
        expected: &[&["power_factor_l2", "power_apparent_l2"]],
        least: 0.3,
        ..BASE
    },
    Comparison {
        rule: Rule::PowerFactor,
        value: &["power_flow_l3"],
        expected: &[&["power_factor_l3", "power_apparent_l3"]],
        least: 0.3,
        ..BASE
    },
];
