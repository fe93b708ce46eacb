//! ISO 15118 and DIN SPEC 70121: telemetry out of the charging session itself, heard and never touched.
//!
//! In: what vehicle (EVCC) and station (SECC) say to each other, from a mirror feed (the station sends a copy of every frame),
//! a passive tap on the wire between them, or a recording. Out: values of the moment, limits, energies and events of the
//! session at each connector, as [`crate::measure::Sample`]s.
//!
//! ```text
//! mirror ─ listener ─ feeds ──┐                  ┌─ decode ─ iso2, iso20, din ─┐
//! tap ─ packet ───────────────┼─ frames (V2GTP) ─┤                             ├─ tracker ─ adapter ─▶ samples
//! files ──────────────────────┘                  └─ trouble ◀── unreadable ────┘
//! ```
//!
//! - Never inline: nothing here can delay or change a byte between vehicle and station. A mirror feed is read as fast as it
//!   comes and never answered; a tap has no method to send.
//! - Nothing is silent: another schema, an unknown namespace, a frame that does not decode, garbage, TLS: each has a name, a
//!   count and an event, at most one a second; the next good frame goes on.
//! - A mirror feed over the network is mutual TLS 1.3: a sender shows a certificate of the configured CA before a byte of it is
//!   read as a record. Who is not let in has a name, a count and an event, at most one a minute for each reason.
//! - A mirror with 16 feeds takes no more, and says so (`feeds_full`); who holds several, and most of all, loses one that has never
//!   sent a record to another sender (`feed_mute`). An idle station loses nothing.
//! - What is told of a vehicle's id is decided in one place ([`VehicleIds`]): as it is, hashed, or not at all. Where it is not told as
//!   it is, a session's id is hashed, too: it is the station's own, but nobody forbids a station to make it of the vehicle's.
//! - Certificates, contract ids (EMAID) and signatures are not read out of a message, and no message is ever logged.
//! - Phases (`state`): `idle`, `discovery`, `handshake`, `setup`, `authorization`, `service`, `parameters`, `cable_check`, `precharge`,
//!   `starting`, `charging` (the loop, whichever way power flows), `standby`, `renegotiation`, `stopping`, `welding_detection`,
//!   `parking`; ends: `terminated`, `paused`, `failed`, `aborted`, `silent`, `superseded`; besides `encrypted`, `unknown_protocol`.
//!
//! Bounds: a frame 64 KiB; a record one frame; 16 feeds at a mirror, and 16 handshakes of 10 s in progress; 8 TCP connections, 64 KiB out of order in each direction, on
//! a tap; one session for each connector. Nothing survives a restart: a session that runs is joined.
//!
//! Deliberately absent: decryption, Plug & Charge contracts, wireless (WPT), pantograph (ACDP) and AC_DER message sets: those
//! frames are counted as `no_codec`.

mod adapter;
mod admission;
mod decode;
mod din;
mod driver;
mod energy;
mod enums;
mod feed_clock;
mod feeds;
mod frames;
mod iso2;
mod iso20;
mod lateness;
mod listener;
mod measured;
mod message;
mod meter_power;
mod packet;
mod record;
mod recording;
mod refused;
mod session_ids;
mod tap;
mod task;
mod tolerance;
mod tracker;
mod trouble;
mod vehicle;

#[cfg(test)]
mod course_tests;
#[cfg(test)]
mod feed_tests;
#[cfg(test)]
mod meter_power_tests;
#[cfg(test)]
mod session_id_tests;
#[cfg(test)]
mod tests;

pub use decode::Unreadable;
pub use frames::{Frames, PAYLOAD_BYTES_MAX, Piece, whole};
pub use record::{BadRecord, Kind, Record, Records};
pub use tap::Tap;
pub use task::run;
pub use tracker::{Identified, Tracker, TrackerOutput};
pub use vehicle::VehicleIds;

use std::time::Duration;

use crate::net::SessionSource;
use crate::spec::{BusId, DeviceIx, DeviceSpec};

/// One bus with the devices whose sessions are heard on it.
#[derive(Debug, Clone)]
pub struct Port {
    /// Its name, for people.
    pub bus: BusId,
    /// Where the sessions are seen.
    pub source: SessionSource,
    /// At least one; exactly one on an interface and on files.
    pub devices: Vec<Target>,
    /// The aggregation window: a recording is replayed at one exchange for each.
    pub window: Duration,
    /// What is told of a vehicle's id.
    pub vehicle_ids: VehicleIds,
}

/// One charge point.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its place in the plan.
    pub ix: DeviceIx,
    /// As the charger counts its connectors; of no meaning on an interface and on files.
    pub connector: u16,
    /// What is told of it.
    pub spec: DeviceSpec,
}
