//! The number of a life of the journal: never used twice, not after a restored backup or a factory reset.

use crate::journal::disk::chunk::Damage;
use crate::journal::disk::unreadable::Unreadable;
use crate::journal::disk::v1::record as v1;
use crate::measure::{BootId, Epoch, Stamp};
use crate::spec::{GatewayId, SiteId};

/// 2020-01-01 UTC, in seconds since 1970.
const ORIGIN_S: i64 = 1_577_836_800;
/// 2026-01-01 UTC, in seconds since 1970: this agent did not exist before, so a clock that says so is wrong.
pub(super) const PLAUSIBLE_S: i64 = 1_767_225_600;
/// Lives without a clock and without a past begin here: above what seconds will reach, below 2^53 so that JSON keeps it.
const BLIND: u64 = 1 << 52;

/// What is known of the newest life: written before its first append, and again at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::journal) struct JournalMeta {
    pub(in crate::journal) epoch: Epoch,
    pub(in crate::journal) gateway: GatewayId,
    pub(in crate::journal) site: SiteId,
    /// Whether it ended in order. False while it lasts.
    pub(in crate::journal) clean: bool,
}

impl JournalMeta {
    pub(in crate::journal) fn write(&self) -> Option<Vec<u8>> {
        let Self { epoch, gateway, site, clean } = self;
        v1::write_life(&v1::Life { epoch: epoch.0, gateway: gateway.as_str(), site: site.as_str(), clean: *clean })
    }

    pub(in crate::journal) fn read(bytes: &[u8]) -> Result<Self, Unreadable> {
        Ok(v1::read_life(bytes)?.try_into()?)
    }
}

impl JournalMeta {
    /// What the life of any version begins with.
    pub(in crate::journal) fn begin_of(bytes: &[u8]) -> Option<Self> {
        v1::begin_of_life(bytes).and_then(|life| Self::try_from(life).ok())
    }
}

impl TryFrom<v1::Life<'_>> for JournalMeta {
    type Error = Damage;
    fn try_from(v1::Life { epoch, gateway, site, clean }: v1::Life<'_>) -> Result<Self, Damage> {
        let gateway = gateway.try_into().map_err(|_| Damage::Content)?;
        let site = site.try_into().map_err(|_| Damage::Content)?;
        Ok(Self { epoch: Epoch(epoch), gateway, site, clean })
    }
}

/// The epoch of a life that begins at `now`: above every epoch that is still known here (`newest`), and, because the
/// medium may have been reset or restored from a backup, not below the seconds since 2020. Without a past and without a
/// clock it is [`blind`].
pub(super) fn begin(newest: Option<Epoch>, now: Stamp, boot: BootId) -> Epoch {
    let clock_s = now.utc.0.div_euclid(1_000_000_000);
    let since_origin = u64::try_from(clock_s - ORIGIN_S).ok().filter(|_| clock_s >= PLAUSIBLE_S);
    match (newest, since_origin) {
        (Some(epoch), clock) => Epoch((epoch.0 + 1).max(clock.unwrap_or(0))),
        (None, Some(clock)) => Epoch(clock),
        (None, None) => blind(now, boot),
    }
}

/// An epoch without a past: drawn from the boot id, which the kernel makes at random, and from the time within the boot,
/// so that two lives in one boot differ.
pub(super) fn blind(now: Stamp, boot: BootId) -> Epoch {
    let mut random = [0; 8];
    random.copy_from_slice(&boot.0[..8]);
    Epoch(BLIND | ((u64::from_le_bytes(random) ^ now.mono.0) & (BLIND - 1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{ClockTrust, Mono, Utc};

    fn at(utc_s: i64) -> Stamp {
        Stamp { mono: Mono(0), utc: Utc(utc_s * 1_000_000_000), trust: ClockTrust::Synced }
    }

    #[test]
    fn a_restored_backup_does_not_repeat_an_epoch() {
        let backup = Epoch(5);
        assert_eq!(begin(Some(backup), at(1_800_000_000), BootId([1; 16])), Epoch(222_163_200));
    }

    #[test]
    fn a_clock_in_the_past_does_not_lower_the_epoch() {
        assert_eq!(begin(Some(Epoch(222_163_200)), at(0), BootId([1; 16])), Epoch(222_163_201));
        assert_eq!(begin(Some(Epoch(222_163_200)), at(1_767_225_600), BootId([1; 16])), Epoch(222_163_201));
    }

    #[test]
    fn without_past_and_clock_the_boot_decides() {
        let (a, b) = (begin(None, at(0), BootId([1; 16])), begin(None, at(0), BootId([2; 16])));
        assert_ne!(a, b);
        assert!((BLIND..1 << 53).contains(&a.0));
    }
}
