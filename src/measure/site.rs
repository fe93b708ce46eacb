//! The depot as one.

use serde::{Deserialize, Serialize};

use super::direction::Direction;
use super::energy::Energy;

/// Below, the phases of a connection at rest differ by noise, A.
const IMBALANCE_FROM_A: f64 = 1.0;

/// The depot in one window. What is not known is not there; what a program did not work out yet is not there, either.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SiteRollup {
    /// Of all charge points whose power is known; `None`: of none of them it is.
    #[serde(flatten)]
    pub power: Option<SitePower>,
    /// How many charge.
    pub charging: u32,
    /// How many discharge.
    pub discharging: u32,
    /// How many do neither, and are not free.
    pub idle: Option<u32>,
    /// How many have no vehicle, as their state says.
    pub free: Option<u32>,
    /// How many charge points are not in the sums, because their power is not known now.
    pub unknown: u32,
    /// Smallest and mean state of charge of the vehicles that tell it, %.
    pub soc: Option<(f64, f64)>,
    /// The largest, %.
    pub soc_max: Option<f64>,
    /// What the vehicles could give.
    pub v2g: Option<V2gEnergy>,
    /// Sum over all stationary batteries, kW, positive as they charge; `None`: there are none, or one is not known.
    pub battery_power_kw: Option<f64>,
    /// Sum over all inverters, kW, negative as they feed in; `None` likewise.
    pub inverter_power_kw: Option<f64>,
    /// The grid connection.
    pub grid: Option<GridConnection>,
    /// What has passed the grid connection, and how much of the window its power was known.
    #[serde(skip)]
    pub energy: Energy,
}

/// The power of the charge points.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SitePower {
    /// Of `flow_kw`.
    pub direction: Direction,
    /// Sum over all charge points, kW.
    #[serde(rename = "power_flow_kw")]
    pub flow_kw: f64,
    /// Sum over those that charge, kW, not negative.
    #[serde(rename = "power_import_kw")]
    pub import_kw: f64,
    /// Sum over those that discharge, kW, not positive.
    #[serde(rename = "power_export_kw")]
    pub export_kw: f64,
}

/// What the vehicles could give down to the floor that they keep.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct V2gEnergy {
    /// Sum over those whose state of charge and capacity are known, kWh.
    pub kwh: f64,
    /// How many these are.
    pub vehicles: u32,
}

/// Where the depot is connected to the grid.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GridConnection {
    /// By what it is known.
    pub known_by: GridKnownBy,
    /// Power that is taken, kW, not negative.
    pub import_kw: f64,
    /// Power that is given, kW, not negative. By a meter one of the two is 0; of devices each has its own.
    pub export_kw: f64,
    /// L1 to L3, A, as the meter has them.
    pub currents: Option<[f64; 3]>,
    /// What may be taken beside that, kW; negative: the limit is exceeded.
    pub headroom_import_kw: Option<f64>,
    /// What may be given beside that, kW.
    pub headroom_export_kw: Option<f64>,
}

impl GridConnection {
    /// kW, positive as it is taken.
    #[must_use]
    pub fn power_kw(&self) -> f64 {
        self.import_kw - self.export_kw
    }

    /// By how much the phase that is furthest from the mean of the three is off it, in % of the mean; `None`: the currents are not known, or
    /// next to nothing flows.
    #[must_use]
    pub fn imbalance(&self) -> Option<f64> {
        let amounts = self.currents?.map(f64::abs);
        let mean = amounts.iter().sum::<f64>() / 3.0;
        let off = amounts.iter().map(|amount| (amount - mean).abs()).fold(0.0, f64::max);
        (mean >= IMBALANCE_FROM_A).then(|| off / mean * 100.0)
    }
}

/// By what the power of the grid connection is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GridKnownBy {
    /// Its meter.
    Meter,
    /// The sum of charge points, stationary batteries and inverters: what else the depot takes is not in it.
    Devices,
}

impl GridKnownBy {
    /// The word on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Meter => "meter",
            Self::Devices => "devices",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_imbalance_is_the_largest_distance_from_the_mean_and_nothing_is_said_of_a_connection_at_rest() {
        let grid = |currents| GridConnection {
            known_by: GridKnownBy::Meter,
            import_kw: 0.0,
            export_kw: 0.0,
            currents,
            headroom_import_kw: None,
            headroom_export_kw: None,
        };
        assert_eq!(grid(Some([30.0, 20.0, 10.0])).imbalance(), Some(50.0));
        assert_eq!(grid(Some([-20.0, 20.0, 20.0])).imbalance(), Some(0.0));
        assert_eq!((grid(Some([0.9, 0.0, 0.0])).imbalance(), grid(None).imbalance()), (None, None));
    }
}
