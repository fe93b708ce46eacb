//! When something was told: a moment of a boot, short where it stands beside a window.

use serde::{Deserialize, Serialize};

use crate::journal::disk::v1::enums::ClockTrust;
use crate::measure::{BootId, Mono, Stamp, Utc, Window};

/// A moment. The order is what is written.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Told {
    /// In the boot of the window and by the same clock, so many ms before its end.
    Before(u64),
    At {
        boot: [u8; 16],
        mono: u64,
        utc: i64,
        trust: ClockTrust,
    },
}

const MS: u64 = 1_000_000;

impl Told {
    /// `window`: beside whose end it is written, if it is.
    pub(super) fn of((boot, at): (BootId, Stamp), window: Option<&Window>) -> Self {
        let before = window.filter(|window| window.boot == boot).and_then(|window| {
            let ms = window.end.mono.0.checked_sub(at.mono.0)? / MS;
            (before_by(window.end, ms) == Some(at)).then_some(ms)
        });
        match before {
            Some(ms) => Self::Before(ms),
            None => Self::At { boot: boot.0, mono: at.mono.0, utc: at.utc.0, trust: at.trust.into() },
        }
    }

    /// `None`: it stands beside no window, and is written as if it did.
    pub(super) fn read(&self, window: Option<&Window>) -> Option<(BootId, Stamp)> {
        match *self {
            Self::Before(ms) => window.map(|window| (window.boot, before_by(window.end, ms).unwrap_or(window.end))),
            Self::At { boot, mono, utc, trust } => {
                Some((BootId(boot), Stamp { mono: Mono(mono), utc: Utc(utc), trust: trust.into() }))
            }
        }
    }
}

/// So many ms before, by both clocks.
fn before_by(at: Stamp, ms: u64) -> Option<Stamp> {
    let ns = ms.checked_mul(MS)?;
    let utc = at.utc.0.checked_sub(i64::try_from(ns).ok()?)?;
    Some(Stamp { mono: Mono(at.mono.0.checked_sub(ns)?), utc: Utc(utc), trust: at.trust })
}
