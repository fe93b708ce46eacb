//! What a plan comes to, in numbers, for people and for `check --json`.

use std::path::PathBuf;

use serde::Serialize;

use hal::UnitId;

use super::plan::{DevicePlan, Plan};
use crate::spec::{BusId, DeviceId, DeviceKind, GatewayId, PointSpec, RegisterBlock, SiteId};

/// A plan in numbers. The form is stable: keys are added, never changed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Our name.
    pub gateway: GatewayId,
    /// The depot.
    pub site: SiteId,
    /// Where the record is kept.
    pub state_dir: PathBuf,
    /// Length of a window, ms.
    pub window_ms: u64,
    /// The brokers in order of preference.
    pub brokers: Vec<String>,
    /// The first part of every topic.
    pub topic_prefix: String,
    /// Measured points of all devices together.
    pub points: usize,
    /// Values read per second, all devices together.
    pub values_per_second: f64,
    /// The depot as a whole.
    pub depot: DepotSummary,
    /// In the order of the file.
    pub buses: Vec<BusSummary>,
    /// In the order of the file.
    pub devices: Vec<DeviceSummary>,
}

/// `[site]` in numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DepotSummary {
    /// The meter of the grid connection; `None`: what is read of charge points, batteries and inverters stands for it.
    pub meter: Option<DeviceId>,
    /// kW; `None`: no limit is known.
    pub import_max_kw: Option<f64>,
    /// kW; `None`: no limit is known.
    pub export_max_kw: Option<f64>,
    /// %.
    pub v2g_soc_floor: f64,
    /// Devices of whose vehicle the capacity is given.
    pub battery_capacities: usize,
}

/// A bus in numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BusSummary {
    /// Its name.
    pub id: BusId,
    /// `modbus-tcp`, …
    pub wire: &'static str,
    /// Devices on it.
    pub devices: usize,
    /// Requests per second when all answer.
    pub requests_per_second: f64,
}

/// A device in numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeviceSummary {
    /// Its name.
    pub id: DeviceId,
    /// Meter, charge point, …
    pub kind: DeviceKind,
    /// Its bus.
    pub bus: BusId,
    /// `host:port`, or the serial port and how it is set.
    pub address: String,
    /// Its Modbus unit, where there is one.
    pub unit: Option<u8>,
    /// Which connector of its station, if there are several.
    pub connector: Option<u16>,
    /// Its profile.
    pub profile: String,
    /// Measured points, and those that are worked out of them.
    pub points: usize,
    /// Those that are worked out of others.
    pub derived: Vec<DerivedSummary>,
    /// The shortest interval of its groups, ms.
    pub poll_ms: u64,
    /// Requests per second.
    pub requests_per_second: f64,
    /// Registers read per second.
    pub registers_per_second: f64,
    /// Values read per second.
    pub values_per_second: f64,
    /// The line of its header in the file.
    pub line: usize,
}

/// A point that is worked out of others.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DerivedSummary {
    /// Its name.
    pub point: String,
    /// `sum of power_flow_l1, power_flow_l2, power_flow_l3`
    pub of: String,
}

impl Plan {
    /// The plan in numbers.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let devices: Vec<DeviceSummary> = self.devices.iter().map(DeviceSummary::of).collect();
        let bus = |id: &BusId, wire| {
            let here: Vec<&DeviceSummary> = devices.iter().filter(|device| device.bus == *id).collect();
            BusSummary {
                id: id.clone(),
                wire,
                devices: here.len(),
                requests_per_second: rounded(here.iter().map(|device| device.requests_per_second).sum()),
            }
        };
        Summary {
            gateway: self.gateway.id.clone(),
            site: self.gateway.site.clone(),
            state_dir: self.gateway.state_dir.clone(),
            window_ms: millis(self.aggregate.window),
            brokers: self.uplink.brokers.iter().map(ToString::to_string).collect(),
            topic_prefix: self.uplink.topic_prefix.clone(),
            points: devices.iter().map(|device| device.points).sum(),
            values_per_second: rounded(devices.iter().map(|device| device.values_per_second).sum()),
            depot: DepotSummary {
                meter: self.site.meter.and_then(|ix| Some(self.devices.get(usize::from(ix.0))?.spec.id.clone())),
                import_max_kw: self.site.import_max_kw,
                export_max_kw: self.site.export_max_kw,
                v2g_soc_floor: self.site.v2g_soc_floor,
                battery_capacities: self.site.battery_capacities.len(),
            },
            buses: self.buses.iter().map(|b| bus(&b.id, b.kind.as_str())).collect(),
            devices,
        }
    }
}

impl DeviceSummary {
    fn of(device: &DevicePlan) -> Self {
        let spec = &device.spec;
        let (mut requests, mut registers, mut values) = (0.0, 0.0, 0.0);
        for group in &spec.groups {
            let rate = 1.0 / group.interval.as_secs_f64();
            for block in &group.blocks {
                requests += rate;
                registers += rate * f64::from(block.count);
                values += spec.points.iter().filter(|point| lies_in(block, point)).map(|_| rate).sum::<f64>();
            }
        }
        Self {
            id: spec.id.clone(),
            kind: spec.kind,
            bus: device.bus.clone(),
            address: device.address.to_string(),
            unit: device.address.unit().map(UnitId::get),
            connector: device.connector,
            profile: spec.profile.clone(),
            points: spec.points.len(),
            derived: spec.points.iter().filter_map(DerivedSummary::of).collect(),
            poll_ms: spec.groups.iter().map(|group| millis(group.interval)).min().unwrap_or(0),
            requests_per_second: rounded(requests),
            registers_per_second: rounded(registers),
            values_per_second: rounded(values),
            line: device.line,
        }
    }
}

impl DerivedSummary {
    fn of(point: &PointSpec) -> Option<Self> {
        let of = point.derived()?.formula.to_string();
        Some(Self { point: point.field.to_string(), of })
    }
}

/// Whether a reply to this request brings the point, of whatever group it is.
fn lies_in(block: &RegisterBlock, point: &PointSpec) -> bool {
    point.register().is_some_and(|register| block.covers(&register.extent()))
}

/// Sums of thirds and tenths, without the dust of binary fractions.
fn rounded(rate: f64) -> f64 {
    // Of nothing, a sum is -0.
    (rate * 1000.0).round() / 1000.0 + 0.0
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
