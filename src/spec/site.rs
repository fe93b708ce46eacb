//! What is to be known of the depot as a whole.

use std::collections::BTreeMap;
use std::time::Duration;

use super::device::DeviceIx;

/// `[site]`, and what the devices say for it.
#[derive(Debug, Clone, PartialEq)]
pub struct SiteSpec {
    /// The meter of the grid connection; `None`: what is read of charge points, batteries and inverters stands for it.
    pub meter: Option<DeviceIx>,
    /// The most that the connection may take, kW.
    pub import_max_kw: Option<f64>,
    /// The most that it may give, kW, a magnitude.
    pub export_max_kw: Option<f64>,
    /// So far below a limit, in % of it, it is kept again.
    pub hysteresis: f64,
    /// A limit is exceeded, and kept again, after so long: 1 s to 10 min.
    pub hold: Duration,
    /// What a vehicle keeps: energy below it is not available for V2G, %.
    pub v2g_soc_floor: f64,
    /// Of devices that do not tell the capacity of the vehicle at them, kWh.
    pub battery_capacities: BTreeMap<DeviceIx, f64>,
}

impl Default for SiteSpec {
    /// Of a configuration that does not say it.
    fn default() -> Self {
        Self {
            meter: None,
            import_max_kw: None,
            export_max_kw: None,
            hysteresis: 2.0,
            hold: Duration::from_secs(5),
            v2g_soc_floor: 20.0,
            battery_capacities: BTreeMap::new(),
        }
    }
}
