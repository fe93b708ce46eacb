//! What the indices in a window stand for. It travels with the data, so that history is always
//! told in the words of its own time, whatever the plan says today.

use serde::{Deserialize, Serialize};

use super::id::{DeviceId, FieldName, GatewayId, SiteId};
use super::point::{DeviceSpec, Fold, Shape};
use super::unit::Unit;

/// The kind of a device: the measurement of its lines on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// Electric vehicle supply equipment: a charge point. Part of the site's roll-up.
    Evse,
    /// A meter.
    Meter,
}

impl DeviceKind {
    /// The word in the configuration and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Evse => "evse",
            Self::Meter => "meter",
        }
    }
}

/// The dictionary of a run of entries: who speaks, and what each index means.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    /// The gateway that kept the entries.
    pub gateway: GatewayId,
    /// Its site.
    pub site: SiteId,
    /// Indexed by [`super::DeviceIx`].
    pub series: Vec<SeriesSpec>,
}

/// One device in a schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeriesSpec {
    /// Tag `device`.
    pub device: DeviceId,
    /// Measurement.
    pub kind: DeviceKind,
    /// Indexed by [`super::PointIx`].
    pub points: Vec<PointColumn>,
}

/// One point in a schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointColumn {
    /// Field key.
    pub field: FieldName,
    /// Unit of the value.
    pub unit: Unit,
    /// Type of the value.
    pub shape: Shape,
    /// How several values become one, should the journal have to. Kept beside the schema, not in it: see
    /// `journal/disk/segment.rs`.
    #[serde(skip)]
    pub fold: Fold,
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
                    .map(|p| PointColumn { field: p.field.clone(), unit: p.unit, shape: p.shape, fold: p.fold })
                    .collect(),
            })
            .collect();
        Self { gateway, site, series }
    }
}
