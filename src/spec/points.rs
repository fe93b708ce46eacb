//! What a device offers, with the points that play a part in what others work out of it.

use std::ops::Deref;
use std::sync::Arc;

use super::device::{DeviceKind, PointIx};
use super::name::FieldName;
use super::plausibility::{COMPARISONS, Comparison, Rule, Tolerances};
use super::point::{Origin, PointSpec, ValueType};

/// The points of a device and their [`Roles`], which are found when the list is made. Cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub struct Points {
    list: Arc<[PointSpec]>,
    roles: Roles,
    /// How near they must be to each other; `None`: as is usual.
    tolerances: Option<Arc<Tolerances>>,
}

impl Points {
    /// The place of the point of this name.
    #[must_use]
    pub fn place_of(&self, field: &FieldName) -> Option<PointIx> {
        (0..).map(PointIx).zip(self.list.iter()).find(|(_, point)| point.field == *field).map(|(ix, _)| ix)
    }

    /// Which of them play which part.
    #[must_use]
    pub fn roles(&self) -> Roles {
        self.roles
    }

    /// The same with other tolerances.
    #[must_use]
    pub fn with_tolerances(self, tolerances: Tolerances) -> Self {
        Self { tolerances: Some(Arc::new(tolerances)), ..self }
    }

    /// How near they must be to each other, by the rules.
    #[must_use]
    pub fn tolerances(&self) -> Tolerances {
        self.tolerances.as_deref().copied().unwrap_or_default()
    }

    /// The points over a wire that this one is worked out of; itself if it comes over one.
    #[must_use]
    pub fn operands_of(&self, point: PointIx) -> Vec<PointIx> {
        let spec = |ix: PointIx| self.get(usize::from(ix.0));
        let (mut all, mut at) = (vec![point], 0);
        while let Some(ix) = all.get(at) {
            at += 1;
            let Some(derived) = spec(*ix).and_then(PointSpec::derived) else { continue };
            for operand in derived.formula.operands().filter_map(|field| self.place_of(field)) {
                if !all.contains(&operand) {
                    all.push(operand);
                }
            }
        }
        all.retain(|ix| spec(*ix).is_some_and(|spec| spec.derived().is_none()));
        all
    }

    /// The points of a comparison in the order of its fields, of a device of this kind; `None`: it has not all of them, or one side is
    /// worked out of the other.
    #[must_use]
    pub fn compared_by(&self, comparison: &Comparison, kind: DeviceKind) -> Option<Vec<PointIx>> {
        let Comparison { value, expected, with, without, .. } = comparison;
        let is_number = |ix: &PointIx| self.get(usize::from(ix.0)).is_some_and(|p| p.value_type == ValueType::Float);
        let place = |field: &&str| {
            let mut named = (0..).map(PointIx).zip(self.iter()).filter(|(_, point)| point.field.as_str() == *field);
            named.next().map(|(ix, _)| ix).filter(is_number)
        };
        let is_of_kind = !comparison.is_of_charger || kind == DeviceKind::Evse;
        if !is_of_kind || !with.iter().all(|field| place(field).is_some()) || without.iter().any(|f| place(f).is_some())
        {
            return None;
        }
        let value = value.iter().map(place).collect::<Option<Vec<_>>>()?;
        let expected = expected.iter().copied().flatten().map(place).collect::<Option<Vec<_>>>()?;
        let own: Vec<PointIx> = value.iter().flat_map(|ix| self.operands_of(*ix)).collect();
        let is_circular =
            value != expected && expected.iter().flat_map(|ix| self.operands_of(*ix)).any(|ix| own.contains(&ix));
        // What a session tells has been worked out where it was heard.
        let is_heard =
            |ix: &PointIx| self.get(usize::from(ix.0)).is_some_and(|point| matches!(point.origin, Origin::Session(_)));
        let all: Vec<PointIx> = value.into_iter().chain(expected).collect();
        (!is_circular && !all.iter().any(is_heard)).then_some(all)
    }

    /// Whether a device of this kind with these points has what a rule looks at.
    #[must_use]
    pub fn has_quantities_of(&self, rule: Rule, kind: DeviceKind) -> bool {
        let Roles { power, soc, energy_import, energy_export } = self.roles;
        match rule {
            Rule::RegisterAgainstPower => {
                let is_counter = |ix: PointIx| self.get(usize::from(ix.0)).is_some_and(PointSpec::is_counter);
                power.is_some() && [energy_import, energy_export].into_iter().flatten().any(is_counter)
            }
            Rule::SocAgainstEnergy => soc.is_some() && (power.is_some() || energy_import.is_some()),
            _ => {
                let own = COMPARISONS.iter().filter(|comparison| comparison.rule == rule);
                own.into_iter().any(|comparison| self.compared_by(comparison, kind).is_some())
            }
        }
    }
}

/// A point's index in the list is its [`PointIx`].
impl Deref for Points {
    type Target = [PointSpec];

    fn deref(&self) -> &[PointSpec] {
        &self.list
    }
}

impl From<Arc<[PointSpec]>> for Points {
    fn from(list: Arc<[PointSpec]>) -> Self {
        let roles = Roles::of(list.iter().map(|point| &point.field));
        Self { list, roles, tolerances: None }
    }
}

impl From<Vec<PointSpec>> for Points {
    fn from(list: Vec<PointSpec>) -> Self {
        Arc::<[PointSpec]>::from(list).into()
    }
}

impl FromIterator<PointSpec> for Points {
    fn from_iter<I: IntoIterator<Item = PointSpec>>(points: I) -> Self {
        points.into_iter().collect::<Arc<[PointSpec]>>().into()
    }
}

/// The points by which direction, roll-up, energy and sessions are worked out: known by the names that the wire has for
/// them, whatever the device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Roles {
    /// `power_flow`: kW, positive towards the vehicle or the site.
    pub power: Option<PointIx>,
    /// `soc`: the vehicle's state of charge, %.
    pub soc: Option<PointIx>,
    /// `energy_import`: a counter, kWh.
    pub energy_import: Option<PointIx>,
    /// `energy_export`: a counter, kWh.
    pub energy_export: Option<PointIx>,
}

impl Roles {
    /// Of a device whose points have these names, in their order.
    #[must_use]
    pub fn of<'f>(fields: impl IntoIterator<Item = &'f FieldName>) -> Self {
        let mut roles = Self::default();
        for (ix, field) in (0..).map(PointIx).zip(fields) {
            let role = match field.as_str() {
                "power_flow" => &mut roles.power,
                "soc" => &mut roles.soc,
                "energy_import" => &mut roles.energy_import,
                "energy_export" => &mut roles.energy_export,
                _ => continue,
            };
            role.get_or_insert(ix);
        }
        roles
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_plays_the_part_that_its_name_on_the_wire_says() {
        let names = ["voltage", "soc", "power_flow", "power_flow_l1", "energy_export"];
        let fields = names.map(|name| FieldName::try_from(name).expect("a field"));
        let expected = Roles {
            power: Some(PointIx(2)),
            soc: Some(PointIx(1)),
            energy_import: None,
            energy_export: Some(PointIx(4)),
        };
        assert_eq!(Roles::of(&fields), expected);
    }
}
