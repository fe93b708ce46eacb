//! How old is what version 0.1.0 left, which says by the wall clock alone when it was written.

use std::time::Duration;

use super::depot::{NOON_NS, after_change, second_schema};
use super::{DAY_NS, Lived, boot, boundless, golden};
use crate::health::JournalFacts;
use crate::journal::core::limits::Limits;
use crate::measure::ClockTrust;

const AGE_MAX: Duration = Duration::from_secs(72 * 3_600);

#[test]
fn what_0_1_0_left_is_not_old_by_any_clock_and_ages_while_this_program_runs() {
    for name in ["cut-short.tree", "ended-in-order.tree"] {
        let (_dir, journal) = golden(name);
        let later = boot(0xf7, NOON_NS + 100 * DAY_NS, ClockTrust::Synced);
        let limits = Limits { age_max: AGE_MAX, ..boundless() };
        let mut life = Lived::begin_within(limits, &journal, second_schema(), later);
        let lost = |life: &Lived| {
            let mut facts = JournalFacts::default();
            life.core.note(&mut facts);
            facts.entries_lost
        };
        for n in 1..=20 {
            life.keep([after_change(later, n)]);
            life.maintain();
        }
        assert_eq!(lost(&life), 0, "{name} is 100 days old by the calendar");
        life.now += AGE_MAX;
        for n in 21..=50 {
            life.keep([after_change(later, n)]);
            life.maintain();
        }
        assert!(lost(&life) > 0, "{name} has waited for 72 hours");
    }
}
