//! Entries go to the broker and are released by its PUBACK, by nothing else.
//!
//! In: leases of the journal, by lane. Out: MQTT 5 messages (see [`wire`]); a verdict for every lease.
//!
//! - **The journal is the only truth.** Every connection begins with a fresh client, a clean session and an empty map
//!   from packet ids to leases. When it is lost, the leases are dropped, which gives them back to the journal.
//! - **Two lanes.** New entries go out at once on `…/telemetry`. What waits from before goes out beside them on
//!   `…/history`, oldest first, paced by the configured rate, by the receive maximum and by the live lane's
//!   acknowledgements: while those are slow, history yields.
//! - A packet that the broker's maximum packet size would not let through is never sent.
//! - A link on which nothing is heard for 10 s while something is in flight is dead, whatever TCP says.
//! - Nobody subscribes (0x10): counted and told; with `no_subscriber = "hold"` the entry stays (`unheard.rs`). Another box under our
//!   id: named (`twin.rs`).
//! - CA, certificate and key are read anew for each connection: what is mended on disk works at the next try.
//!
//! Nothing here survives a restart, and nothing needs to: a lost acknowledgement is a repeat under the same identity.
//!
//! - **Routes.** Brokers by links, in order of preference; a random wait before each try, so that a fleet does not return
//!   in one moment; the way back to a better route is looked for while there is a connection.
//! - What the broker grants is kept to: receive maximum, maximum packet size, topic alias maximum, server keep-alive, no
//!   retained messages, another server. Every reason code has its name, a consequence and a remedy in `reason.rs`.
//!
//! Limits: `in_flight_max` messages and 1 MiB in flight, of which history takes at most three quarters. Over WebSocket, too
//! (`client/websocket.rs`), but by no proxy that wants to be asked (CONNECT).

pub mod audit;
mod backoff;
mod budget;
mod client;
mod lanes;
mod probe_broker;
mod reason;
mod session;
mod settings;
mod task;
mod tls;
mod twin;
mod unheard;
mod watch;
pub mod wire;

#[cfg(feature = "fuzz")]
pub use client::fuzz;
pub use probe_broker::{Granted, Refused, probe_broker};
pub use settings::{Birth, Settings};
pub use task::{Surroundings, run};
