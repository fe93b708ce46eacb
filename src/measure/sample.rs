//! What a source hands over ([`Sample`]) and what it means ([`Reading`]).

use std::sync::Arc;

use super::counter::Count;
use super::event::EventKind;
use super::quality::{Missing, Questionable};
use super::time::Stamp;
use crate::spec::{DeviceIx, PointIx, RegisterBlock, SessionId, VehicleId};

/// What came from a wire, or that nothing came: not interpreted yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Of which device.
    pub device: DeviceIx,
    /// When the last byte of it came in, or when it was given up.
    pub at: Stamp,
    /// What came.
    pub payload: Payload,
}

/// The content of a sample, by kind of wire.
#[derive(Debug, Clone, PartialEq)]
pub enum Payload {
    /// The answer to a Modbus read: `words.len() == block.count`, or why there is none.
    Registers {
        /// What was asked for.
        block: RegisterBlock,
        /// What came.
        words: Result<Vec<u16>, Missing>,
    },
    /// What the source has taken out of a frame or a message; ascending by point, and only points that it was to carry.
    Values(Vec<(PointIx, Result<Raw, Missing>)>),
    /// Nothing is heard of the device: every point of it is missing.
    Silent(Missing),
    /// The source noticed something about the device.
    Noticed(EventKind),
    /// The vehicle at the device from now on; `None` when it has left.
    Vehicle(Option<VehicleId>),
    /// The charging session at the device from now on; `None` when it is over.
    Session(Option<SessionId>),
}

/// A value as the device means it, before scale, unit and sign.
#[derive(Debug, Clone, PartialEq)]
pub enum Raw {
    /// A whole number: a count or a code.
    Integer(i128),
    /// A floating-point number; it need not be finite.
    Float(f64),
    /// Words.
    Text(Arc<str>),
}

/// A value of a point at a time, in the wire's unit and sign.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Of which device.
    pub device: DeviceIx,
    /// Of which point of it.
    pub point: PointIx,
    /// When it was captured.
    pub at: Stamp,
    /// What is known.
    pub outcome: Outcome,
    /// Of a counter: what this reading says has passed.
    pub count: Option<Count>,
}

/// A value, a doubtful value, or the reason why there is none.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Plausible.
    Good(Value),
    /// Kept as it came, but not to be billed on.
    Questionable(Value, Questionable),
    /// Not known.
    Missing(Missing),
}

/// A value on the wire. A float is always finite.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// In the point's wire unit.
    Float(f64),
    /// A code or a count.
    Integer(i64),
    /// A state.
    Text(Arc<str>),
}
