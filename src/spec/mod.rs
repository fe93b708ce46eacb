//! What devices offer: their names, points, units, and where each value stands on its wire.
//!
//! A leaf: it knows no other room, does no I/O and reads no clock. The plan is made of these types, and what was
//! measured ([`measure`](crate::measure)) names its devices and points by them.

mod connector;
mod derived;
mod device;
mod dimension;
mod name;
mod plausibility;
mod point;
mod points;
mod sense;
mod session;
mod signal;
mod site;
mod unit;

pub use connector::Connector;
pub use derived::{DerivedFormula, DerivedPoint, DerivedTerm};
pub use device::{DeviceIx, DeviceKind, DeviceSpec, PointIx, PollGroup};
pub use dimension::Dimension;
pub use name::{BusId, DeviceId, FieldName, GatewayId, InvalidName, SessionId, SiteId, VehicleId};
pub use plausibility::{COMPARISONS, Comparison, Relation, Rule, Tolerance, Tolerances};
pub use point::{
    Aggregation, ByteOrder, Origin, PointSpec, RawKind, RegisterBlock, RegisterPoint, RegisterTable, ScaleKind,
    ScaleRegister, Scaling, SessionPoint, SunSpecPoint, SunSpecSource, ValueType, WordOrder,
};
pub use points::{Points, Roles};
pub use session::SessionValue;
pub use signal::{BitField, BitOrder, Formula, FrameMatch, Gate, Signal, SignalKind, SignalPoint, Term};
pub use site::SiteSpec;
pub use unit::{Conversion, Unit};
