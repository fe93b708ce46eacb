//! Simulated hardware for tests and the demo. Never part of the firmware.

mod clock;
mod line;
mod modbus;

pub use clock::SimClock;
pub use line::ModbusLine;
pub use modbus::{Behaviour, ModbusServer, RegisterImage};
