//! The number of a life of the journal: never used twice, not after a restored backup or a factory reset.
//!
//! ```text
//! bit 52 … 25   units of 16 s since 2020 by the clock, if it can be right; at least two above every epoch that is known here
//! bit 24 … 0    drawn at random
//! ```
//!
//! Lives that know of each other are ordered by the upper part, whatever their clocks show, and so are all whose clock is
//! right. Lives that do not know of each other (the same backup restored twice on a box without a clock, two clones of an SD
//! card, a factory reset, a life without a medium) have the same upper part at worst, and differ in the lower one: of 200
//! lives that all begin with the same backup two are alike once in 1,700 times. All of it stays below 2^53, which JavaScript
//! and JSON keep exactly.
//!
//! The unit between two lives is for entries of the first whose time a later one has found ([`of_time_found`]): an entry without a
//! sealed time may lie in a backup as well, and whoever restores that finds another time for it. So what was found is
//! a part of its epoch.
//!
//! Version 0.1.0 counted seconds since 2020, and took 2^52 and more where it knew neither past nor clock. Every epoch of it
//! that is known is below the next one of this program; put back, it goes on at one above the newest.

use std::hash::{BuildHasher, RandomState};

use crate::journal::disk::chunk::Damage;
use crate::journal::disk::unreadable::Unreadable;
use crate::journal::disk::v1::record as v1;
use crate::measure::{BootId, Epoch, Stamp};
use crate::spec::{GatewayId, SiteId};

/// 2020-01-01 UTC, in seconds since 1970.
const ORIGIN_S: i64 = 1_577_836_800;
/// 2026-01-01 UTC, in seconds since 1970: this agent did not exist before, so a clock that says so is wrong.
pub(super) const PLAUSIBLE_S: i64 = 1_767_225_600;
/// Of the lower part.
const DRAWN_BITS: u32 = 25;
/// One of the upper part: 28 bits of it last for 136 years.
const UNIT_S: i64 = 16;
/// The units of a life that knows neither past nor clock are drawn, too: above the seconds of version 0.1.0 (2^28 of them are
/// over in 2028), and below the year 2024, so that any clock is above.
const BLIND_UNITS: std::ops::Range<u64> = 8..1 << 23;
/// A clock that shows more than 68 years is as wrong as one that shows less than six: what it says would be kept for ever.
const UNITS_MAX: u64 = 1 << 27;
/// 2^53 and one less.
const MAX: u64 = (1 << 53) - 1;

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
/// medium may have been reset or restored from a backup, not below the clock's and not twice the same.
pub(super) fn begin(newest: Option<Epoch>, now: Stamp, boot: BootId) -> Epoch {
    above(newest, now, drawn(&RandomState::new(), now, boot))
}

/// The epoch under which an entry goes out that was recorded in the life `recorded` and whose time another life has found: between
/// the two, and another one for each finding. `found`: a checksum of what was found; who finds the same tells the same.
pub(super) fn of_time_found(recorded: Epoch, found: u32) -> Epoch {
    // All bits of both count, whatever the lower ones have in common.
    let drawn = u64::from(crc32c::crc32c_append(found, &recorded.0.to_le_bytes())) & ((1 << DRAWN_BITS) - 1);
    match ((recorded.0 >> DRAWN_BITS) + 1) << DRAWN_BITS | drawn {
        epoch @ ..=MAX => Epoch(epoch),
        // Of the last that version 0.1.0 drew.
        _ => Epoch(recorded.0 & !((1 << DRAWN_BITS) - 1) | drawn),
    }
}

fn above(newest: Option<Epoch>, now: Stamp, drawn: u64) -> Epoch {
    let clock_s = now.utc.0.div_euclid(1_000_000_000);
    let shown = u64::try_from((clock_s - ORIGIN_S) / UNIT_S).ok();
    let shown = shown.filter(|units| clock_s >= PLAUSIBLE_S && *units < UNITS_MAX);
    let least = newest.map(|Epoch(newest)| (newest >> DRAWN_BITS) + 2);
    let blind = BLIND_UNITS.start + (drawn >> DRAWN_BITS) % (BLIND_UNITS.end - BLIND_UNITS.start);
    let units = least.max(shown).unwrap_or(blind);
    match (units << DRAWN_BITS) | (drawn & ((1 << DRAWN_BITS) - 1)) {
        epoch @ ..=MAX => Epoch(epoch),
        // Version 0.1.0 drew one of the last: what is left is used up one by one.
        _ => Epoch(newest.map_or(MAX, |Epoch(newest)| newest + 1)),
    }
}

/// Bits that no other life has drawn. The keys are the system's (getrandom(2), which does not wait: std takes what there is).
/// A box that has gathered no entropy yet may have the same keys at each boot; then the boot id, the nanosecond of the start
/// and the process make the difference.
fn drawn(keys: &impl BuildHasher, now: Stamp, boot: BootId) -> u64 {
    keys.hash_one((boot.0, now.mono.0, now.utc.0, std::process::id()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::hash::{BuildHasherDefault, DefaultHasher};

    use proptest::prelude::*;

    use super::*;
    use crate::measure::{ClockTrust, Mono, Utc};

    const BOOT: BootId = BootId([1; 16]);

    fn at(utc_s: i64) -> Stamp {
        Stamp { mono: Mono(0), utc: Utc(utc_s * 1_000_000_000), trust: ClockTrust::Synced }
    }

    fn units(epoch: Epoch) -> u64 {
        epoch.0 >> DRAWN_BITS
    }

    #[test]
    fn a_life_with_a_clock_is_above_all_before_it_and_below_the_next() {
        let lives = [1_767_225_600, 1_800_000_000, 1_800_000_016, 3_000_000_000].map(|s| begin(None, at(s), BOOT));
        assert_eq!(lives.map(units), [11_836_800, 13_885_200, 13_885_201, 88_885_200]);
        assert!(lives.is_sorted() && lives[3].0 < 1 << 53);
        assert_eq!(units(begin(Some(lives[0]), at(1_800_000_000), BOOT)), 13_885_200, "the clock of a restored backup");
    }

    #[test]
    fn two_hundred_lives_of_one_backup_without_a_clock_differ_and_are_above_it() {
        let backup = begin(None, at(1_800_000_000), BOOT);
        // All in the same nanosecond of the same boot, as two clones might be.
        let lives: BTreeSet<Epoch> = (0..200).map(|_| begin(Some(backup), at(0), BOOT)).collect();
        assert!(lives.len() >= 199, "once in 1,700 times two are alike, three never: {}", lives.len());
        assert!(lives.iter().all(|life| units(*life) == units(backup) + 2));
        assert!(lives.iter().all(|life| units(begin(Some(*life), at(0), BOOT)) == units(backup) + 4));
    }

    #[test]
    fn what_a_later_life_has_found_is_between_the_two_lives_and_differs_by_what_it_found() {
        let life = begin(None, at(1_800_000_000), BOOT);
        let found: BTreeSet<Epoch> = (0..200).map(|found| of_time_found(life, found)).collect();
        assert_eq!(found.len(), 200);
        let next = begin(Some(life), at(0), BOOT);
        assert!(found.iter().all(|epoch| (life..next).contains(epoch) && *epoch != life), "{life} {found:?} {next}");
        // On the wire for ever.
        assert_eq!(of_time_found(Epoch(390_412_534_860_721), 0x1234_5678), Epoch(390_412_581_351_518));
    }

    #[test]
    fn without_entropy_the_boot_and_the_moment_make_the_difference() {
        let none = BuildHasherDefault::<DefaultHasher>::new();
        let moment = |mono| Stamp { mono: Mono(mono), ..at(0) };
        let boots: BTreeSet<u64> = (0..200).map(|n| drawn(&none, moment(5), BootId([n; 16])) & 0x1ff_ffff).collect();
        let moments: BTreeSet<u64> = (0..200).map(|n| drawn(&none, moment(n), BOOT) & 0x1ff_ffff).collect();
        // The process makes a difference, too, so that chance has a say: two alike once in 1,700 times, three never.
        assert!(boots.len() >= 199 && moments.len() >= 199, "{} and {}", boots.len(), moments.len());
    }

    #[test]
    fn without_past_and_clock_a_life_is_above_0_1_0s_seconds_and_below_any_clock() {
        let lives: Vec<Epoch> = (0..1_000).map(|_| begin(None, at(0), BOOT)).collect();
        assert!(lives.iter().all(|life| life.0 >= 1 << 28 && *life < begin(None, at(PLAUSIBLE_S), BOOT)));
        assert!(lives.iter().collect::<BTreeSet<_>>().len() >= 999);
    }

    #[test]
    fn a_clock_that_shows_the_year_2262_does_not_use_up_the_numbers() {
        let life = begin(None, Stamp { utc: Utc(i64::MAX), ..at(0) }, BOOT);
        assert!(BLIND_UNITS.contains(&units(life)), "{life}");
    }

    proptest! {
        #[test]
        fn every_epoch_of_0_1_0_and_of_this_program_is_below_the_next(
            newest in prop_oneof![0..1_u64 << 28, (1_u64 << 52)..(1 << 53), 0..MAX, Just(MAX - 1)],
            clock_s in prop_oneof![Just(0_i64), 1_767_225_600..4_000_000_000_i64],
            drawn: u64,
        ) {
            let next = above(Some(Epoch(newest)), at(clock_s), drawn);
            prop_assert!(next.0 > newest && next.0 <= MAX);
            // What version 0.1.0 makes of it.
            let back = Epoch((next.0 + 1).max(u64::try_from(clock_s - ORIGIN_S).unwrap_or(0)));
            prop_assert!(back > next && above(Some(back), at(0), drawn) > back);
        }
    }
}
