//! What is worked out of readings and windows: energy. Pure: nothing here reads a clock or a disk.
//!
//! In: the [`Reading`]s of the windows, and the windows as `aggregate` closes them. Out: the same windows, with what each knows of
//! the energy of its devices ([`Energy`](crate::measure::Energy)).
//!
//! - **From a register where there is one**, else from power over the time for which it was known; each direction for itself. What a
//!   register counts is told with the reading that shows it, so that the sum over any time is the difference of what it
//!   showed, also over an outage of the device and over a restart of the agent. An end of its bits, another meter, a fall for a
//!   reading are told apart before (`measure::counter`), and make no energy.
//! - **Power over time** is the area under straight lines between its readings, told in the window of the second. Between two readings that
//!   are further apart than three polls (5 s of a device that speaks by itself), or if the device has said in between that it is
//!   not known, nothing is made up: `known` is shorter, and there is no energy. Each area is off by at most half the difference of
//!   its two powers times their distance.
//! - Energies are whole mWh and times whole ms; what is less is carried to the next window. So they may be added in any order
//!   and over any windows, and the sums are the same.
//! - What is of a window that could not be kept is told in the next one ([`Deriver::take_back`]).
//!
//! Memory: some words for each device. A restart goes on from the [`Checkpoint`](crate::measure::Checkpoint) that the journal keeps.

mod energy;
#[cfg(test)]
mod tests;

use std::time::Duration;

use self::energy::EnergyMeter;
use crate::measure::{Checkpoint, Interval, Reading, Window};
use crate::spec::{DeviceIx, DeviceSpec, SessionId};

/// The state of the room.
#[derive(Debug)]
pub struct Deriver {
    devices: Vec<EnergyMeter>,
}

impl Deriver {
    /// Of these devices; `window` is the length of a window.
    #[must_use]
    pub fn new(devices: &[DeviceSpec], window: Duration) -> Self {
        Self { devices: devices.iter().map(|device| EnergyMeter::new(device, window)).collect() }
    }

    /// The energy of these registers was told up to here.
    pub fn resume(&mut self, checkpoint: &Checkpoint) {
        for ((device, point), base) in &checkpoint.registers {
            if let Some(meter) = self.devices.get_mut(usize::from(device.0)) {
                meter.resume(*point, base.value);
            }
        }
    }

    /// Takes a reading of the open window.
    pub fn add(&mut self, reading: &Reading) {
        if let Some(meter) = self.devices.get_mut(usize::from(reading.device.0)) {
            meter.add(reading);
        }
    }

    /// The session at a device from now on (as [`Aggregator::set_session`](crate::aggregate::Aggregator::set_session)).
    pub fn set_session(&mut self, device: DeviceIx, session: Option<SessionId>) {
        if let Some(meter) = self.devices.get_mut(usize::from(device.0)) {
            meter.set_session(session);
        }
    }

    /// Adds to a window that has just ended what it knows of energy. Each window is completed once.
    pub fn complete(&mut self, window: &mut Window) {
        for of_device in window.intervals.chunk_by_mut(|one, other| one.device == other.device) {
            let device = of_device.first().map(|interval| interval.device);
            if let Some(meter) = device.and_then(|ix| self.devices.get_mut(usize::from(ix.0))) {
                meter.tell(of_device);
            }
        }
    }

    /// A window is not kept: what it knew of energy is told in the next one.
    pub fn take_back(&mut self, intervals: &[Interval]) {
        for interval in intervals.iter().filter(|interval| !interval.energy.is_empty()) {
            if let Some(meter) = self.devices.get_mut(usize::from(interval.device.0)) {
                meter.take_back(interval);
            }
        }
    }
}
