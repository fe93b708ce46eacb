//! Wires become samples: what came, when, of which device; not yet what it means.
//!
//! In: a port of the `hal` and a list of what is on it. Out: [`crate::measure::Sample`]s on a bounded queue, one for
//! every read that was due, also when nothing came.
//!
//! - One task owns one port. A dead device costs the others on its port a bounded part of their time, and those on
//!   other ports nothing: all silent ones together get a twelfth of a port's time while another answers.
//! - Nothing waits for the queue: when it is full, values are shed, counted, and told by an event; events and vehicles wait for
//!   room ([`outbox`]). A bus never feels what is behind.
//! - Polls follow a grid of the monotonic clock; a missed one is skipped, never caught up in a burst.
//! - Nothing is ever written to a device.

pub mod can;
pub mod iso15118;
pub mod modbus;
mod outbox;

use crate::measure::{ClockTrust, Mono, Stamp, Utc};

impl From<hal::Stamp> for Stamp {
    fn from(stamp: hal::Stamp) -> Self {
        Self {
            mono: Mono(0) + stamp.mono,
            utc: Utc(stamp.utc_ns),
            trust: match stamp.trust {
                hal::Trust::Synced => ClockTrust::Synced,
                hal::Trust::Holdover => ClockTrust::Holdover,
                hal::Trust::Unsynced => ClockTrust::Unsynced,
            },
        }
    }
}
