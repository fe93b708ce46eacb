//! How what is worked out of windows stands after one of them: with it, and with the windows after it, a restart goes on where the
//! life before ended, however that was.

use std::collections::BTreeMap;

use super::charging::{ChargingSession, OpenSession};
use super::quarter::SiteProgress;
use super::schema::Schema;
use super::time::{BootId, Stamp};
use crate::spec::{DeviceId, DeviceIx, FieldName, PointIx};

/// How it stands. Its indices are those of its window's schema.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Checkpoint {
    /// Registers of energy.
    pub registers: BTreeMap<(DeviceIx, PointIx), RegisterBase>,
    /// Charging sessions that have not ended: one of a device.
    pub sessions: BTreeMap<DeviceIx, OpenSession>,
    /// The grid connection.
    pub site: SiteProgress,
}

/// Up to where the energy of a register has been told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RegisterBase {
    /// What it showed, in the point's unit.
    pub value: f64,
    /// The boot in which the time of `at` counts.
    pub boot: BootId,
    /// The end of the window that told it.
    pub at: Stamp,
}

impl Checkpoint {
    /// The same under another schema: of what that does not have nothing is left.
    #[must_use]
    pub fn under(&self, own: &Schema, other: &Schema) -> Self {
        let places = other.places();
        let moved = |session: &OpenSession| {
            let device = *places.get(&own.series.get(usize::from(session.told.device.0))?.device)?;
            let told = ChargingSession { device, ..session.told.clone() };
            Some((device, OpenSession { told, ..session.clone() }))
        };
        let sessions = self.sessions.values().filter_map(moved).collect();
        Self { sessions, site: self.site.clone(), ..Self::of_registers(self.registers(own), other) }
    }

    /// The registers by the names of their device and their field.
    pub fn registers<'a>(
        &'a self,
        schema: &'a Schema,
    ) -> impl Iterator<Item = (&'a DeviceId, &'a FieldName, RegisterBase)> {
        self.registers.iter().filter_map(|((device, point), base)| {
            let series = schema.series.get(usize::from(device.0))?;
            Some((&series.device, &series.points.get(usize::from(point.0))?.field, *base))
        })
    }

    /// Of registers by their names, as far as a schema has them.
    #[must_use]
    pub fn of_registers<'a>(
        registers: impl IntoIterator<Item = (&'a DeviceId, &'a FieldName, RegisterBase)>,
        schema: &Schema,
    ) -> Self {
        let places = schema.places();
        let place = |device: &DeviceId, field: &FieldName| {
            let ix = *places.get(device)?;
            let series = schema.series.get(usize::from(ix.0))?;
            let (point, _) = (0..).map(PointIx).zip(&series.points).find(|(_, column)| column.field == *field)?;
            Some((ix, point))
        };
        let registers = registers.into_iter();
        let registers = registers.filter_map(|(device, field, base)| Some((place(device, field)?, base))).collect();
        Self { registers, ..Self::default() }
    }
}
