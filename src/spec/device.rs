//! A device and its place in the plan.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::name::DeviceId;
use super::point::{PointSpec, RegisterBlock};
use super::points::Points;

/// The kind of a device: the measurement of its lines on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// Electric vehicle supply equipment: a charge point. The power of all of them is the site's `power_flow`.
    Evse,
    /// A meter. Not part of the roll-up, unless it is that of the grid connection: what it measures may be that of the others once more.
    Meter,
    /// A vehicle that is heard by itself, on a J1939 bus. Its power is not part of the roll-up, that of its charge point is; its SoC is.
    Vehicle,
    /// A stationary battery: the site's `battery_power`.
    Battery,
    /// An inverter of a photovoltaic plant, with or without a battery behind it: the site's `inverter_power`.
    Inverter,
}

impl DeviceKind {
    /// The word in the configuration and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Evse => "evse",
            Self::Meter => "meter",
            Self::Vehicle => "vehicle",
            Self::Battery => "battery",
            Self::Inverter => "inverter",
        }
    }
}

/// The place of a device in the plan's list, and of its series in the [`Schema`](crate::measure::Schema).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceIx(pub u16);

/// The place of a point in its device's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PointIx(pub u16);

/// A device as the plan has it: all that a source, the normaliser and the aggregator need of it.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceSpec {
    /// Its name on this gateway.
    pub id: DeviceId,
    /// The measurement of its lines on the wire.
    pub kind: DeviceKind,
    /// Its profile's name, for the catalog.
    pub profile: String,
    /// What it offers. A point's index in this list is its [`PointIx`].
    pub points: Points,
    /// How often each group of points is read; empty for a device that speaks by itself.
    pub groups: Vec<PollGroup>,
}

impl DeviceSpec {
    /// Time between two reads of a point, at most; `None`: the device speaks by itself. What is worked out is told as often as the
    /// most frequent of its operands.
    #[must_use]
    pub fn interval_of(&self, point: PointIx) -> Option<Duration> {
        let slowest = || self.groups.iter().map(|group| group.interval).max();
        let of_register = |point: &PointSpec| {
            let extent = point.register()?.extent();
            let group = self.groups.iter().find(|group| group.blocks.iter().any(|block| block.covers(&extent)))?;
            Some(group.interval)
        };
        let operands = self.points.operands_of(point);
        let intervals = operands.iter().filter_map(|ix| self.points.get(usize::from(ix.0))).filter_map(of_register);
        intervals.min().or_else(slowest)
    }
}

/// Points that are read together at one interval.
#[derive(Debug, Clone, PartialEq)]
pub struct PollGroup {
    /// Its name in the profile, `fast`, `slow`.
    pub name: String,
    /// Time between two reads of each point in it. 10 ms to 1 h.
    pub interval: Duration,
    /// The reads that cover all its points, each within the device's limit; each point's [`extent`](super::RegisterPoint::extent) is whole
    /// in one of them, and must stay so when they are split.
    pub blocks: Vec<RegisterBlock>,
}
