//! Drives the agent *binary* as a black box, against real peers, and judges what arrives.
//!
//! ```text
//! meter ──Modbus──▶ agent ──MQTT 5, TLS──▶ broker ──▶ consumer ──Message──▶ oracle ──▶ Judgement
//!   └────────────────────────── Truth ──────────────────────────────────────▲
//! ```
//!
//! - [`oracle`] is the one judge, for these tests and for the rigs that boot a whole image: it knows the wire
//!   contract and nothing of the agent. It shares no code with it, so that one misreading cannot hide another.
//! - The peers are the ones of the field: mosquitto with client certificates ([`broker`], [`certs`]), a pymodbus
//!   server that plays an Eastron SDM630 ([`meter`]), `mosquitto_sub` ([`consumer`]).
//! - [`agent`] knows the agent's command line and configuration, and its pid; nothing else.
//!
//! What is started here dies with the test ([`process`]). Nothing here sleeps for a fixed time: a test waits
//! for a level, with a bound ([`wait`]). Nothing listens beyond loopback.
//!
//! This crate may name peers, files and processes. What it may not do is depend on the package under test.
#![allow(
    clippy::missing_errors_doc,
    clippy::missing_panics_doc,
    reason = "what a peer or a rig cannot do fails the test that asked, with the error's own words"
)]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "real processes live in real time: there is no clock to pause"
)]

pub mod agent;
pub mod broker;
pub mod bundle;
pub mod certs;
pub mod consumer;
pub mod depot;
pub mod disk;
pub mod fault;
pub mod gpt;
pub mod image;
pub mod isolation;
pub mod line;
pub mod meter;
pub mod oracle;
pub mod port;
pub mod process;
pub mod proxy;
pub mod registers;
pub mod rig;
pub mod scripted;
pub mod seed;
pub mod stage;
pub mod tool;
pub mod tree;
pub mod wait;
