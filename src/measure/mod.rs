//! The vocabulary: what a value, a time, an identity and a loss are.
//!
//! A leaf: it knows no other room, does no I/O and reads no clock. Everything the rooms hand to
//! each other is defined here, in the order in which data walks:
//!
//! ```text
//! source ─Sample▶ normalise ─Reading▶ aggregate ─Window▶ journal ─Entry▶ uplink
//! ```
//!
//! Three rules hold for every type below:
//! - a missing value is a value ([`Missing`]); no zero and no old value stands for "unknown";
//! - a wall time never travels without its trust ([`Stamp`]);
//! - power is in kW and positive towards the vehicle or the site (G2V, import).

mod event;
mod id;
mod point;
mod sample;
mod schema;
mod time;
mod unit;
mod window;

pub use event::{Event, EventKind, Gap, GapReason, Thinned};
pub use id::{BusId, DeviceId, Epoch, FieldName, GatewayId, Identity, InvalidName, Seq, SiteId, VehicleId};
pub use point::{
    ByteOrder, DeviceSpec, Fold, Meaning, Origin, PointSpec, PollGroup, RawKind, RegisterBlock, RegisterPoint,
    RegisterTable, ScaleKind, ScaleRegister, SessionPoint, Shape, SignalPoint, WordOrder,
};
pub use sample::{DeviceIx, Missing, Outcome, Payload, PointIx, Raw, Reading, Sample, Suspicion, Value};
pub use schema::{DeviceKind, PointColumn, Schema, SeriesSpec};
pub use time::{BootId, ClockTrust, Mono, Stamp, Utc};
pub use unit::{Conversion, Unit};
pub use window::{Direction, Entry, Interval, IntervalValue, PointInterval, SiteRollup, Statistic, Window};
