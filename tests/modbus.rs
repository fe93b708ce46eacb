//! Modbus against peers: a serial line at the speed of the wire whose units are dead, late and noisy, and pymodbus with
//! register images of its own.

#![cfg(feature = "demo")]

#[path = "modbus/learn.rs"]
mod learn;
#[path = "modbus/line.rs"]
mod line;
#[path = "modbus/misbehaving.rs"]
mod misbehaving;
#[path = "modbus/parts.rs"]
mod parts;
#[path = "modbus/peer.rs"]
mod peer;
#[path = "modbus/probe.rs"]
mod probe;
#[path = "modbus/stage.rs"]
mod stage;
#[path = "modbus/values.rs"]
mod values;
