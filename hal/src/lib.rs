//! Hardware of the gateway box.
//!
//! Traits, their Linux form, and (feature `sim`, never in the firmware) their simulated form:
//!
//! | trait | Linux | simulated |
//! |---|---|---|
//! | [`RegisterBus`] | [`TcpBus`], [`RtuBus`] | `sim::ModbusServer`, `sim::ModbusLine`: real servers to talk to |
//! | [`Clock`] | [`LinuxClock`] | `sim::SimClock` |
//! | – | [`PacketTap`]: what passes on an interface | – |
//! | [`Watchdog`] | [`Systemd`], [`KernelWatchdog`] | – |
//!
//! Nothing here knows a meter, a journal or a broker. Nothing here writes to a device: there is no such method.
//! All `unsafe` code of the product is in this crate, each block with the reason why it is sound.

mod clock;
mod packet_tap;
mod process;
mod register_bus;
mod rtu_bus;
#[cfg(feature = "sim")]
pub mod sim;
mod tcp_bus;
mod transaction;
mod watchdog;

pub use clock::{Clock, LinuxClock, Stamp, Trust, boot_id};
pub use packet_tap::PacketTap;
pub use process::{rss_bytes, terminate, trim_heap};
pub use register_bus::{BusError, ReadRequest, RegisterBus, Table, UnitId, exception_name};
pub use rtu_bus::{Parity, RtuBus, SerialLine, StopBits};
pub use tcp_bus::TcpBus;
pub use watchdog::{KernelWatchdog, Systemd, Watchdog};
