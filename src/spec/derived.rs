//! A point that is worked out of other points of the same device.

use std::fmt;
use std::time::Duration;

use super::name::FieldName;

/// How a point is worked out. Its operands are points with a number, none of which needs this one; each counts as it goes over the
/// wire, in its unit and sign there.
#[derive(Debug, Clone, PartialEq)]
pub struct DerivedPoint {
    /// Of what.
    pub formula: DerivedFormula,
    /// An operand that is older is not known any more; `None`: by how often it is read.
    pub stale_after: Option<Duration>,
}

/// What is made of the operands.
#[derive(Debug, Clone, PartialEq)]
pub enum DerivedFormula {
    /// A sum of two or more. A difference is one with a factor of -1.
    Sum(Vec<DerivedTerm>),
    /// A product of two or more.
    Product(Vec<DerivedTerm>),
    /// The first divided by the second; not known while that is 0.
    Quotient(Box<[DerivedTerm; 2]>),
    /// By how much it has changed in a second.
    Rate {
        /// What changes.
        of: FieldName,
        /// Told each time when so much has passed, at the earliest.
        over: Duration,
    },
}

/// An operand.
#[derive(Debug, Clone, PartialEq)]
pub struct DerivedTerm {
    /// Times this.
    pub times: f64,
    /// Its name.
    pub field: FieldName,
}

impl DerivedFormula {
    /// The names of what it needs.
    pub fn operands(&self) -> impl Iterator<Item = &FieldName> {
        let (terms, of): (&[DerivedTerm], _) = match self {
            Self::Sum(terms) | Self::Product(terms) => (terms, None),
            Self::Quotient(terms) => (terms.as_slice(), None),
            Self::Rate { of, over: _ } => (&[], Some(of)),
        };
        terms.iter().map(|term| &term.field).chain(of)
    }
}

/// `sum of power_flow_l1, power_flow_l2, power_flow_l3`, as the catalog has it.
impl fmt::Display for DerivedFormula {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |terms: &[DerivedTerm]| terms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Self::Sum(terms) => match terms.as_slice() {
                [first, second] if first.times > 0.0 && second.times < 0.0 => {
                    let second = DerivedTerm { times: -second.times, ..second.clone() };
                    write!(f, "difference of {first} and {second}")
                }
                terms => write!(f, "sum of {}", list(terms)),
            },
            Self::Product(terms) => write!(f, "product of {}", list(terms)),
            Self::Quotient(terms) => write!(f, "quotient of {} and {}", terms[0], terms[1]),
            Self::Rate { of, over: _ } => write!(f, "rate of {of}"),
        }
    }
}

impl fmt::Display for DerivedTerm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { times, field } = self;
        if *times == 1.0 {
            write!(f, "{field}")
        } else if *times == -1.0 {
            write!(f, "-{field}")
        } else {
            write!(f, "{times} * {field}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn term(times: f64, field: &str) -> DerivedTerm {
        DerivedTerm { times, field: field.try_into().expect("a field") }
    }

    #[test]
    fn a_formula_is_told_in_words() {
        let sum = DerivedFormula::Sum(vec![term(1.0, "a"), term(-1.0, "b"), term(2.5, "c")]);
        assert_eq!(sum.to_string(), "sum of a, -b, 2.5 * c");
        let difference = DerivedFormula::Sum(vec![term(1.0, "a"), term(-2.0, "b")]);
        assert_eq!(difference.to_string(), "difference of a and 2 * b");
        let product = DerivedFormula::Product(vec![term(1.0, "a"), term(1.0, "b")]);
        assert_eq!(product.to_string(), "product of a, b");
        let quotient = DerivedFormula::Quotient(Box::new([term(1.0, "a"), term(1.0, "b")]));
        assert_eq!(quotient.to_string(), "quotient of a and b");
        let rate = DerivedFormula::Rate { of: "a".try_into().expect("a field"), over: Duration::ZERO };
        assert_eq!(rate.to_string(), "rate of a");
        assert_eq!(
            quotient.operands().chain(rate.operands()).map(FieldName::as_str).collect::<Vec<_>>(),
            ["a", "b", "a"]
        );
    }
}
