//! Which entry goes out next, and which are settled: numbers only, no content.

use std::collections::{BTreeMap, BTreeSet};

use crate::journal::core::ranges::Ranges;
use crate::journal::line::Lane;

/// How far the live lane may lag: 10 s of 250 ms windows. Beyond, it jumps to the newest entry and what it skipped
/// becomes history; a live view that is older than that is history already.
pub(super) const LIVE_LAG_MAX: u64 = 40;

/// The state of every number: settled, being dropped (its loss is being told), passed over, leased, or waiting in a lane.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    /// Acknowledged, or told as lost with the telling durable. Holds everything below the oldest segment.
    settled: Ranges,
    /// Given up, and the gap entry is not durable yet. Disjoint from `settled`.
    dropping: Ranges,
    /// Cannot be read by this version; kept for one that can. Disjoint from both.
    passed: Ranges,
    /// Handed out at least once and not settled, but for what nobody heard; after a start all that may have been. Never downsampled.
    published: Ranges,
    /// Above the floor, and history all the same: what was downsampled. Emptied when the floor rises above it.
    backfilled: Ranges,
    /// On lease, and whether each is handed out for the first time.
    leased: BTreeMap<u64, bool>,
    /// Entries of the live lane that came back: history, although not below the floor. At most as many as leases.
    requeued: BTreeSet<u64>,
    /// The first number of the live lane; `None` before the first connection.
    floor: Option<u64>,
    /// The next number that the live lane looks at.
    live_next: u64,
    /// One above the newest number that may be leased, but for what is held.
    end: u64,
    /// From here on they wait for the clock.
    held_from: Option<u64>,
}

impl Lanes {
    /// After a start: all that is there is history.
    pub(super) fn new(settled: Ranges, published: Ranges, end: u64) -> Self {
        Self { settled, published, end, live_next: end, ..Self::default() }
    }

    /// A (re)connection: what becomes leasable from here on is live.
    pub(super) fn go_live(&mut self) {
        self.floor = Some(self.end);
        self.live_next = self.end;
        self.requeued.clear();
        self.backfilled = Ranges::default();
    }

    /// These are history, although they are new.
    pub(super) fn set_backfilled(&mut self, from: u64, to: u64) {
        if self.floor.is_some() {
            self.backfilled.insert(from, to);
        }
    }

    /// Entries below `end` may be leased now.
    pub(super) fn extend(&mut self, end: u64) {
        self.end = self.end.max(end);
    }

    /// These and all above may not be leased; `None`: no such bound.
    pub(super) fn hold(&mut self, from: Option<u64>) {
        self.held_from = from;
    }

    /// How many could be leased if they were not held.
    pub(super) fn held(&self) -> u64 {
        self.free(self.leasable(), self.end.saturating_sub(1))
    }

    fn leasable(&self) -> u64 {
        self.held_from.map_or(self.end, |from| from.min(self.end))
    }

    /// The next number to lease. It stays the next one until it is taken, settled, given up or passed over.
    pub(super) fn next(&mut self, lane: Lane) -> Option<u64> {
        match lane {
            Lane::Live => self.next_live(),
            Lane::History => self.next_history(),
        }
    }

    /// It has been read and is handed out.
    pub(super) fn take(&mut self, number: u64, lane: Lane) {
        self.leased.insert(number, !self.published.contains(number));
        self.published.insert(number, number);
        self.requeued.remove(&number);
        if lane == Lane::Live {
            self.live_next = number + 1;
        }
    }

    /// The broker has it.
    pub(super) fn acknowledge(&mut self, number: u64) {
        self.leased.remove(&number);
        self.settle(number, number);
    }

    /// It comes back, and nobody has it. What was out before as well may be somewhere all the same.
    pub(super) fn give_back_unheard(&mut self, number: u64) {
        if self.leased.get(&number) == Some(&true) {
            self.published.remove(number, number);
        }
        self.give_back(number);
    }

    /// It comes back; it is history now.
    pub(super) fn give_back(&mut self, number: u64) {
        // Also one that came back before and was leased as history: it is above the floor all the same.
        if self.leased.remove(&number).is_some() {
            self.requeue(number);
        }
    }

    /// These are given up: never leased again.
    pub(super) fn start_dropping(&mut self, from: u64, to: u64) {
        for (a, b) in self.settled.missing(from, to) {
            self.dropping.insert(a, b);
        }
        self.passed.remove(from, to);
        self.leased.retain(|n, _| !(from..=to).contains(n));
        self.forget_requeued(from, to);
    }

    /// These need nothing more: acknowledged, or their loss is told durably.
    pub(super) fn settle(&mut self, from: u64, to: u64) {
        self.settled.insert(from, to);
        self.dropping.remove(from, to);
        self.passed.remove(from, to);
        self.published.remove(from, to);
        self.forget_requeued(from, to);
    }

    fn forget_requeued(&mut self, from: u64, to: u64) {
        if from <= to {
            let gone: Vec<u64> = self.requeued.range(from..=to).copied().collect();
            gone.iter().for_each(|number| _ = self.requeued.remove(number));
        }
    }

    /// This one cannot be read by this version of the agent.
    pub(super) fn pass_over(&mut self, number: u64) {
        self.pass_over_all(number, number);
    }

    /// None of these can be read by this version of the agent, as far as they still wait.
    pub(super) fn pass_over_all(&mut self, from: u64, to: u64) {
        self.waiting_in(from, to).into_iter().for_each(|(a, b)| self.passed.insert(a, b));
        self.forget_requeued(from, to);
    }

    /// What of `from..=to` still waits, leased or not: neither settled nor being dropped.
    pub(super) fn waiting_in(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        let open = self.settled.missing(from, to);
        open.into_iter().flat_map(|(a, b)| self.dropping.missing(a, b)).collect()
    }

    /// The first of `from..=to` that still waits and can be read by this version.
    pub(super) fn readable_from(&self, mut from: u64, to: u64) -> Option<u64> {
        loop {
            let before = from;
            for set in [&self.settled, &self.dropping, &self.passed] {
                from = set.next_outside(from);
            }
            if from == before {
                return (from <= to).then_some(from);
            }
        }
    }

    /// One that was passed over can be handed out after all, unless it was given up meanwhile. It is history now.
    pub(super) fn take_up(&mut self, number: u64) {
        self.passed.remove(number, number);
        if !self.settled.contains(number) && !self.dropping.contains(number) {
            self.requeue(number);
        }
    }

    /// The live lane is past it: it is history, also above the floor.
    fn requeue(&mut self, number: u64) {
        if self.floor.is_some_and(|floor| number >= floor) && !self.backfilled.contains(number) {
            self.requeued.insert(number);
        }
    }

    /// Whether any of `from..=to` is out on lease.
    pub(super) fn any_leased_in(&self, from: u64, to: u64) -> bool {
        from <= to && self.leased.range(from..=to).next().is_some()
    }

    /// Whether any of `from..=to` was handed out and is not settled.
    pub(super) fn any_published_in(&self, from: u64, to: u64) -> bool {
        self.published.count_within(from, to) > 0
    }

    pub(super) fn settled(&self) -> &Ranges {
        &self.settled
    }

    /// Whether there has been a connection.
    pub(super) fn is_live(&self) -> bool {
        self.floor.is_some()
    }

    #[cfg(test)]
    pub(super) fn leased(&self) -> usize {
        self.leased.len()
    }

    /// Durable (or otherwise leasable) and not settled, with those on lease.
    pub(super) fn waiting(&self) -> u64 {
        let all = self.end.saturating_sub(1);
        all - self.settled.count_within(1, all) - self.dropping.count_within(1, all)
    }

    /// How many could be leased now, in the live lane and in history.
    pub(super) fn ready(&self) -> (u64, u64) {
        let end = self.leasable();
        let Some(floor) = self.floor else {
            return (0, self.free(1, end.saturating_sub(1)));
        };
        let (last, live_from) = (end.saturating_sub(1), self.live_next);
        let backfilled: u64 = self.backfilled.iter().map(|(a, b)| self.free(a, b.min(last))).sum();
        let ahead: u64 = self.backfilled.within(live_from, last).into_iter().map(|(a, b)| self.free(a, b)).sum();
        let live = self.free(live_from, last).saturating_sub(ahead);
        (live, self.free(1, floor.min(end).saturating_sub(1)) + self.requeued.len() as u64 + backfilled)
    }

    /// How many of `from..=to` are in no set and not leased.
    fn free(&self, from: u64, to: u64) -> u64 {
        if from > to {
            return 0;
        }
        let gone = [&self.settled, &self.dropping, &self.passed].iter().map(|r| r.count_within(from, to)).sum();
        let leased = self.leased.range(from..=to).filter(|(n, _)| !self.settled.contains(**n)).count() as u64;
        (to - from + 1).saturating_sub(gone).saturating_sub(leased)
    }

    fn next_live(&mut self) -> Option<u64> {
        let floor = self.floor?;
        let end = self.leasable();
        let last = end.saturating_sub(1);
        let lag = end.saturating_sub(self.live_next).saturating_sub(self.backfilled.count_within(self.live_next, last));
        if lag > LIVE_LAG_MAX
            && let Some(&(_, newest)) = self.backfilled.missing(self.live_next, last).last()
        {
            self.floor = Some(newest);
            self.live_next = newest;
            self.requeued.clear();
            self.backfilled.remove(1, newest);
        }
        self.live_next = self.live_next.max(floor);
        loop {
            let at = self.backfilled.next_outside(self.free_from(self.live_next));
            if at == self.live_next {
                return (at < end).then_some(at);
            }
            self.live_next = at;
        }
    }

    fn next_history(&self) -> Option<u64> {
        let first = self.free_from(1);
        let end = self.leasable();
        let limit = self.floor.unwrap_or(u64::MAX).min(end);
        if first < limit {
            return Some(first);
        }
        let backfilled = || {
            let mut free = self.backfilled.iter().map(|(a, b)| (self.free_from(a), b.min(end.saturating_sub(1))));
            free.find(|(at, last)| at <= last).map(|(at, _)| at)
        };
        self.requeued.first().copied().or_else(backfilled)
    }

    /// The first number from here on that is in no set. Each round skips a range or a lease: at most as many rounds as
    /// there are of both.
    fn free_from(&self, mut at: u64) -> u64 {
        loop {
            let before = at;
            for set in [&self.settled, &self.dropping, &self.passed] {
                at = set.next_outside(at);
            }
            while self.leased.contains_key(&at) {
                at += 1;
            }
            if at == before {
                return at;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_ten_entries() -> Lanes {
        let mut lanes = Lanes::new(Ranges::default(), Ranges::default(), 1);
        lanes.extend(11);
        lanes
    }

    fn drain(lanes: &mut Lanes, lane: Lane) -> Vec<u64> {
        let mut taken = Vec::new();
        while let Some(number) = lanes.next(lane) {
            lanes.take(number, lane);
            taken.push(number);
        }
        taken
    }

    #[test]
    fn before_the_first_connection_everything_is_history() {
        let mut lanes = with_ten_entries();
        assert_eq!(lanes.ready(), (0, 10));
        assert_eq!(lanes.next(Lane::Live), None);
        assert_eq!(drain(&mut lanes, Lane::History), (1..=10).collect::<Vec<_>>());
        assert_eq!((lanes.ready(), lanes.waiting()), ((0, 0), 10));
    }

    #[test]
    fn live_entries_do_not_wait_for_history() {
        let mut lanes = with_ten_entries();
        lanes.go_live();
        lanes.extend(13);
        assert_eq!(lanes.ready(), (2, 10));
        assert_eq!(drain(&mut lanes, Lane::Live), [11, 12]);
        assert_eq!(drain(&mut lanes, Lane::History), (1..=10).collect::<Vec<_>>());
    }

    #[test]
    fn a_live_lane_that_lags_jumps_ahead_and_leaves_history() {
        let mut lanes = with_ten_entries();
        lanes.go_live();
        lanes.extend(11 + LIVE_LAG_MAX + 1);
        assert_eq!(drain(&mut lanes, Lane::Live), [11 + LIVE_LAG_MAX]);
        assert_eq!(drain(&mut lanes, Lane::History), (1..11 + LIVE_LAG_MAX).collect::<Vec<_>>());
    }

    /// What a newer program left and had delivered in part was counted twice, and what came after it was no longer seen in history.
    #[test]
    fn what_is_passed_over_hides_nothing_that_waits_behind_it() {
        let settled = [(1, 8)].into_iter().collect();
        let mut lanes = Lanes::new(settled, Ranges::default(), 17);
        lanes.pass_over_all(1, 16);
        lanes.extend(18);
        lanes.go_live();
        assert_eq!((lanes.ready(), lanes.waiting()), ((0, 1), 9));
        assert_eq!(drain(&mut lanes, Lane::History), [17]);
        lanes.start_dropping(9, 12);
        lanes.extend(20);
        lanes.go_live();
        assert_eq!((lanes.ready(), lanes.waiting()), ((0, 2), 7));
    }

    #[test]
    fn what_nobody_has_heard_may_become_coarser_unless_it_was_out_before_as_well() {
        let mut lanes = with_ten_entries();
        lanes.take(1, Lane::History);
        lanes.give_back_unheard(1);
        assert!(!lanes.any_published_in(1, 10));
        for give_back in [Lanes::give_back, Lanes::give_back_unheard, Lanes::give_back_unheard] {
            lanes.take(2, Lane::History);
            give_back(&mut lanes, 2);
            assert!(lanes.any_published_in(2, 2));
        }
        assert_eq!(drain(&mut lanes, Lane::History), (1..=10).collect::<Vec<_>>());
    }

    #[test]
    fn what_was_thinned_is_history_although_it_is_new() {
        let mut lanes = with_ten_entries();
        lanes.go_live();
        lanes.extend(13);
        lanes.set_backfilled(13, 99);
        lanes.extend(102);
        assert_eq!(lanes.ready(), (4, 97));
        assert_eq!(drain(&mut lanes, Lane::Live), [11, 12, 100, 101]);
        assert_eq!(lanes.ready(), (0, 97));
        assert_eq!(drain(&mut lanes, Lane::History), (1..11).chain(13..100).collect::<Vec<_>>());
        lanes.give_back(50);
        assert_eq!((lanes.ready(), lanes.next(Lane::Live), lanes.next(Lane::History)), ((0, 1), None, Some(50)));
        lanes.go_live();
        assert_eq!((lanes.ready(), lanes.next(Lane::History)), ((0, 1), Some(50)));
    }

    #[test]
    fn what_was_handed_out_is_remembered_until_it_is_settled() {
        let mut lanes = with_ten_entries();
        assert!(!lanes.any_published_in(1, 10));
        drain(&mut lanes, Lane::History);
        lanes.give_back(4);
        assert!(lanes.any_published_in(4, 4));
        lanes.settle(1, 10);
        assert!(!lanes.any_published_in(1, 10));
    }

    #[test]
    fn what_waits_for_the_clock_is_in_no_lane_until_it_may_go() {
        let mut lanes = with_ten_entries();
        lanes.hold(Some(8));
        lanes.go_live();
        lanes.extend(13);
        assert_eq!((lanes.ready(), lanes.held(), lanes.waiting()), ((0, 7), 5, 12));
        assert_eq!(lanes.next(Lane::Live), None);
        assert_eq!(drain(&mut lanes, Lane::History), (1..=7).collect::<Vec<_>>());
        lanes.hold(None);
        assert_eq!((lanes.ready(), lanes.held()), ((2, 3), 0));
        assert_eq!(drain(&mut lanes, Lane::Live), [11, 12]);
        assert_eq!(drain(&mut lanes, Lane::History), [8, 9, 10]);
    }

    #[test]
    fn what_the_live_lane_gives_back_is_history() {
        let mut lanes = with_ten_entries();
        lanes.go_live();
        lanes.extend(13);
        assert_eq!(drain(&mut lanes, Lane::Live), [11, 12]);
        lanes.give_back(11);
        lanes.acknowledge(12);
        assert_eq!(lanes.ready(), (0, 11));
        assert_eq!(lanes.next(Lane::Live), None);
        assert_eq!(drain(&mut lanes, Lane::History), (1..=11).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_being_dropped_or_passed_over_is_not_leased() {
        let mut lanes = with_ten_entries();
        lanes.start_dropping(1, 3);
        lanes.pass_over(5);
        lanes.acknowledge(7);
        assert_eq!(lanes.ready(), (0, 5));
        assert_eq!(drain(&mut lanes, Lane::History), [4, 6, 8, 9, 10]);
        lanes.settle(1, 3);
        assert_eq!(lanes.waiting(), 6);
        assert_eq!(lanes.waiting_in(1, 10), [(4, 6), (8, 10)]);
    }

    /// Nobody had heard it, and a coarser one stood for it: it went out all the same, beside the other.
    #[test]
    fn what_came_back_unheard_and_was_downsampled_is_not_leased() {
        let mut lanes = with_ten_entries();
        lanes.go_live();
        lanes.extend(13);
        assert_eq!(drain(&mut lanes, Lane::Live), [11, 12]);
        lanes.give_back_unheard(11);
        lanes.give_back_unheard(12);
        lanes.settle(1, 11);
        lanes.settle(1, 0);
        assert_eq!(lanes.ready(), (0, 1));
        assert_eq!(drain(&mut lanes, Lane::History), [12]);
    }

    /// The medium failed, and what was withheld for it was given up before it worked again: it went out, and a gap said that it never
    /// would.
    #[test]
    fn what_was_given_up_while_it_was_withheld_is_not_taken_up() {
        let mut lanes = with_ten_entries();
        lanes.go_live();
        lanes.extend(13);
        lanes.pass_over(11);
        lanes.pass_over(12);
        assert_eq!(lanes.next(Lane::Live), None);
        lanes.start_dropping(11, 11);
        lanes.take_up(11);
        lanes.take_up(12);
        assert_eq!(lanes.ready(), (0, 11));
        assert_eq!(drain(&mut lanes, Lane::History), (1..=10).chain([12]).collect::<Vec<_>>());
    }

    #[test]
    fn an_acknowledgement_of_something_being_dropped_settles_it() {
        let mut lanes = with_ten_entries();
        assert_eq!(drain(&mut lanes, Lane::History).len(), 10);
        lanes.start_dropping(1, 10);
        lanes.acknowledge(4);
        assert_eq!((lanes.leased(), lanes.waiting()), (0, 0));
        lanes.give_back(5);
        assert_eq!(lanes.next(Lane::History), None);
    }
}
