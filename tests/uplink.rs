//! The uplink against brokers that are good, bad, gone and lying: a real meter, the real agent, and the oracle at the end.
//!
//! `tests/run` installs the peers. `HIL_LONG=1` makes 50 outages of up to a minute out of a few short ones;
//! `HIL_SEED` repeats the random moments of a run that failed; `V2G_EDGE_BIN` names another binary.

#[path = "uplink/answers.rs"]
mod answers;
#[path = "uplink/certificates.rs"]
mod certificates;
#[path = "uplink/doctor.rs"]
mod doctor;
#[path = "uplink/fleet.rs"]
mod fleet;
#[path = "uplink/limits.rs"]
mod limits;
#[path = "uplink/outages.rs"]
mod outages;
#[cfg(feature = "rabbitmq")]
#[path = "uplink/rabbitmq.rs"]
mod rabbitmq;
#[path = "uplink/reload.rs"]
mod reload;
#[path = "uplink/routes.rs"]
mod routes;
#[path = "uplink/stage.rs"]
mod stage;
#[path = "uplink/twins.rs"]
mod twins;
#[path = "uplink/unheard.rs"]
mod unheard;
#[path = "uplink/websocket.rs"]
mod websocket;
