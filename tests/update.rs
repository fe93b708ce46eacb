//! An update of the whole box, as far as this machine has one: the real agent, a broker that does what it is told, and a double of the
//! program `rauc` on the path that writes down what it is asked; where it can be installed, the real `rauc` with real bundles.
//!
//! A boot of another slot is played: the double says another slot, and the record is of another boot. `hil-tests/run` boots a real one.

#[path = "update/bundles.rs"]
mod bundles;
#[path = "update/confirm.rs"]
mod confirm;
#[path = "update/fetch.rs"]
mod fetch;
#[path = "update/gateway.rs"]
mod gateway;
#[path = "update/refused.rs"]
mod refused;
#[allow(dead_code, reason = "of the uplink's stage what is needed here")]
#[path = "uplink/stage.rs"]
mod stage;
