//! Which way energy goes.

use serde::{Deserialize, Serialize};

/// Which way energy goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Direction {
    /// Charging: grid to vehicle, import.
    #[serde(rename = "G2V")]
    GridToVehicle,
    /// Discharging: vehicle to grid, export.
    #[serde(rename = "V2G")]
    VehicleToGrid,
    /// Less than the dead band either way.
    #[serde(rename = "idle")]
    Idle,
}

impl Direction {
    /// The direction of a power, in kW, positive towards the vehicle.
    #[must_use]
    pub fn of(power_kw: f64, dead_band_kw: f64) -> Self {
        if power_kw.abs() < dead_band_kw {
            Self::Idle
        } else if power_kw > 0.0 {
            Self::GridToVehicle
        } else {
            Self::VehicleToGrid
        }
    }

    /// The tag's value on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GridToVehicle => "G2V",
            Self::VehicleToGrid => "V2G",
            Self::Idle => "idle",
        }
    }
}
