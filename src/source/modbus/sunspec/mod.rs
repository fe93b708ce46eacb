//! SunSpec: devices that say themselves what they offer.
//!
//! In: the words of the reads that a [`Survey`] asks for. Out: the chain of models that a device has, and the values of the
//! points of the plan that some of its models carries (`config`'s catalogue says which model's point is which quantity).
//!
//! - A device is surveyed at its first contact, after every start, and whenever a model does not stand where it stood: every
//!   read begins at a model's own number and length and is refused if they are not those of the survey. So no value is ever
//!   taken from another register than the model says.
//! - The layouts are data (`models.txt`), not code. The crate `sunspec` has them as generated types with a client of its own;
//!   it cannot decode what is known only by number, and is ten times as large.
//! - Not implemented is absent: a point that has never had a value is not told; one that had one and has none is missing.
//! - Deliberately absent: the second of two models of one number, and values inside of repeating groups but those of model 160
//!   (DC inputs), are shown by `probe sunspec` and not collected. Nothing is ever written.
//!
//! Source: SunSpec Device Information Model Specification 1.2, 4 (types, not-implemented values), 6 (Modbus: base, chain).

mod models;
mod request_length;
mod survey;

pub use models::{Decoded, decode, label, supported};
pub use survey::{MARK, ModelAt, Survey, SurveyStep};

/// Where a chain begins: the first of these registers that reads `SunS`. Zero-based, as on the wire.
pub const BASES: [u16; 3] = [40_000, 50_000, 0];
