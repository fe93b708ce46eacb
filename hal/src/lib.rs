//! Hardware of the gateway box.
//!
//! Traits, their Linux form, and (feature `sim`, never in the firmware) their simulated form:
//!
//! | trait | Linux | simulated |
//! |---|---|---|
//! | [`RegisterBus`] | [`TcpBus`], [`RtuBus`] | `sim::ModbusServer`, `sim::ModbusLine`: real servers to talk to |
//! | [`can::FrameBus`] | [`can::CanSocket`], [`can::CanLog`] | – (a recording is one) |
//! | [`Clock`] | [`LinuxClock`] | `sim::SimClock` |
//! | – | [`PacketTap`]: what passes on an interface | – |
//! | [`Watchdog`] | [`Systemd`], [`KernelWatchdog`] | – |
//!
//! Nothing here knows a meter, a journal or a broker. Nothing here writes to a device or sends on a bus: there is no
//! such method.
//! All `unsafe` code of the product is in this crate, each block with the reason why it is sound.

pub mod can;
mod clock;
mod heap;
mod packet_tap;
mod process;
mod reach;
mod register_bus;
pub mod reply;
mod reply_times;
mod rest;
mod rtu;
#[cfg(feature = "sim")]
pub mod sim;
mod tcp;
mod watchdog;

pub use clock::{Clock, LinuxClock, Stamp, Trust, boot_id};
pub use heap::{KeepingHeap, trim_heap};
pub use packet_tap::PacketTap;
pub use process::{keep_real_time_to_this_thread, open_files_max, rss_bytes, terminal_size, terminate};
pub use reach::{Holder, Holding, cure, holder_of, listener_on, unresolved};
pub use register_bus::{BusError, InvalidUnitId, ReadRequest, RegisterBus, Table, UnitId, exception_name};
pub use reply_times::{BYTE_TIMEOUT, LateReply, ReplyTimes};
pub use rest::{PAUSE_MAX, Pause};
pub use rtu::{Parity, RtuBus, SerialLine, StopBits};
pub use tcp::{Ahead, TcpBus};
pub use watchdog::{KernelWatchdog, Systemd, Watchdog};
