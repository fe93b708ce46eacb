//! What the indices in a window stand for. It travels with the data, so that history is always
//! told in the words of its own time, whatever the plan says today.

use std::collections::BTreeMap;

use crate::spec::{
    Aggregation, DeviceId, DeviceIx, DeviceKind, DeviceSpec, FieldName, GatewayId, SiteId, Unit, ValueType,
};

/// The dictionary of a run of entries: who speaks, and what each index means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    /// The gateway that kept the entries.
    pub gateway: GatewayId,
    /// Its site.
    pub site: SiteId,
    /// Indexed by [`DeviceIx`](crate::spec::DeviceIx).
    pub series: Vec<SeriesSpec>,
}

/// One device in a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeriesSpec {
    /// Tag `device`.
    pub device: DeviceId,
    /// Measurement.
    pub kind: DeviceKind,
    /// Indexed by [`PointIx`](crate::spec::PointIx).
    pub points: Vec<PointColumn>,
}

/// One point in a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointColumn {
    /// Field key.
    pub field: FieldName,
    /// Unit of the value.
    pub unit: Unit,
    /// Type of the value.
    pub value_type: ValueType,
    /// How several values become one, should the journal have to.
    pub aggregation: Aggregation,
}

impl Schema {
    /// The dictionary of a plan's devices, in the plan's order.
    #[must_use]
    pub fn new(gateway: GatewayId, site: SiteId, devices: &[DeviceSpec]) -> Self {
        let series = devices
            .iter()
            .map(|device| SeriesSpec {
                device: device.id.clone(),
                kind: device.kind,
                points: device
                    .points
                    .iter()
                    .map(|p| PointColumn {
                        field: p.field.clone(),
                        unit: p.unit,
                        value_type: p.value_type,
                        aggregation: p.aggregation,
                    })
                    .collect(),
            })
            .collect();
        Self { gateway, site, series }
    }

    /// Where each device is in it.
    #[must_use]
    pub fn places(&self) -> BTreeMap<&DeviceId, DeviceIx> {
        self.series.iter().map(|series| &series.device).zip((0..).map(DeviceIx)).collect()
    }
}
