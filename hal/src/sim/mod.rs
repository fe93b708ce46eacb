//! Simulated hardware for tests and the demo. Never part of the firmware.

mod clock;
mod line;
mod modbus;
mod wire;

pub use clock::SimClock;
pub use line::ModbusLine;
pub use modbus::{Behaviour, ModbusServer, RegisterImage};
pub use wire::{Manner, WireLine};
