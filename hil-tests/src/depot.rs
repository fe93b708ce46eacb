//! A scripted depot of fifty charge points and ten meters, whose truth is known, and a judge of what was told of it.
//!
//! ```text
//! Script (seed, calms) ──▶ Depot: Modbus, CAN, mirror feeds ──▶ the agent ──▶ broker ──▶ consumer ──▶ Judge
//!    └──────────────────────────── truth, and when it could be read ─────────────────────────────────▲
//! ```
//!
//! - [`Script`] is a function of time: who is plugged in, at which power, with which state of charge; energies are the areas under it.
//! - [`Depot`] plays it in real time, from [`Depot::begin`] on, and keeps when each device was read or heard.
//! - [`judge`] holds every power, direction, energy and charging session against it. It accepts nothing as unknown but what was told as
//!   unknown, and only where the agent was down.

mod course;
mod judge;
mod messages;
mod peers;
mod script;
mod truth;

pub use judge::{Down, Verdict, judge};
pub use peers::{Depot, Feed, profiles};
pub use script::{Calm, EVSES, METERS, Script, Source};
