//! Simulated hardware for tests and the demo. Never part of the firmware.

mod clock;
mod modbus;

pub use clock::SimClock;
pub use modbus::{Behaviour, ModbusServer, RegisterImage};
