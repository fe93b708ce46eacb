//! What a device offers, with the points that play a part in what others work out of it.

use std::ops::Deref;
use std::sync::Arc;

use super::device::PointIx;
use super::name::FieldName;
use super::point::PointSpec;

/// The points of a device and their [`Roles`], which are found when the list is made. Cheap to clone.
#[derive(Debug, Clone, PartialEq)]
pub struct Points {
    list: Arc<[PointSpec]>,
    roles: Roles,
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
        Self { list, roles }
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
