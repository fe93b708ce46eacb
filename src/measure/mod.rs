//! What was measured: what a value, a time, an identity and a loss are.
//!
//! It knows what devices offer ([`spec`](crate::spec)) and no other room, does no I/O and reads no clock. Everything the
//! rooms hand to each other is defined here, in the order in which data walks:
//!
//! ```text
//! source ─Sample▶ normalise ─Reading▶ aggregate ─Window▶ derive ─Window▶ journal ─Entry▶ uplink
//! ```
//!
//! Three rules hold for every type below:
//! - a missing value is a value ([`Missing`]); no zero and no old value stands for "unknown";
//! - a wall time never travels without its trust ([`Stamp`]);
//! - power is in kW and positive towards the vehicle or the site (G2V, import).

mod charging;
mod checkpoint;
mod counter;
mod direction;
mod energy;
mod event;
mod fingerprint;
mod id;
mod limit;
mod quality;
mod quarter;
mod sample;
mod schema;
mod session;
mod site;
#[cfg(test)]
pub(crate) mod testing;
mod time;
mod when_full;
mod window;

pub use charging::{ChargingSession, OpenSession, SessionKnownBy, SessionState, SessionTime};
pub use checkpoint::{Checkpoint, RegisterBase};
pub use counter::{Count, Counter, CounterBreak, CounterKind};
pub use direction::Direction;
pub use energy::{Energy, EnergyDelta, EnergySource, areas, mwh_of};
pub use event::{AboutLife, BreakReason, Event, EventKind, Gap, GapReason, LifeLost, Notice, Thinned, Verdict};
pub use fingerprint::fingerprint;
pub use id::{Epoch, Identity, Seq};
pub use limit::{SiteLimit, SiteLimitTold};
pub use quality::{Missing, Questionable};
pub use quarter::{SiteInterval, SiteProgress};
pub use sample::{Outcome, Payload, Raw, Reading, Sample, Value};
pub use schema::{PointColumn, Schema, SeriesSpec};
pub use session::{OfSession, SessionEvent, SessionFact};
pub use site::{GridConnection, GridKnownBy, SitePower, SiteRollup, V2gEnergy};
pub use time::{BootId, ClockTrust, Mono, Stamp, Utc};
pub use when_full::WhenFull;
pub use window::{Entry, Interval, IntervalValue, PointInterval, Statistic, Window, Words};
