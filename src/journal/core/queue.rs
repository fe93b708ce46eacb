//! What waits: the newest entries in memory, the state of every number, and how many are out on lease.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::journal::core::lanes::Lanes;
use crate::journal::core::tail::{Kept, Tail};
use crate::journal::disk::entry::Encoded;
use crate::journal::line::{LEASES_MAX, Lane};

/// See the module's head.
#[derive(Debug)]
pub(super) struct Queue {
    tail: Tail,
    lanes: Lanes,
    /// The number of the next window.
    next: u64,
    /// Passed over because the medium fails, until it works again.
    withheld: BTreeSet<u64>,
    outstanding: usize,
    /// Since when something waits for a commit.
    open_since: Option<Duration>,
}

impl Queue {
    /// A queue that goes on with number `next`.
    pub(super) fn new(lanes: Lanes, next: u64) -> Self {
        let (withheld, outstanding) = (BTreeSet::new(), 0);
        Self { tail: Tail::new(next), lanes, next, withheld, outstanding, open_since: None }
    }

    /// The state of every number.
    pub(super) fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// The entries in memory.
    pub(super) fn tail(&self) -> &Tail {
        &self.tail
    }

    /// The number of the next window.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Gives the next number away, whatever becomes of it.
    pub(super) fn take_number(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }

    /// Numbers up to this one were given away by others.
    pub(super) fn go_on_after(&mut self, last: u64) {
        self.next = last + 1;
    }

    /// Takes an entry that is not durable yet.
    pub(super) fn push(&mut self, number: u64, encoded: Encoded, now: Duration) {
        self.tail.push(number, encoded);
        self.open_since.get_or_insert(now);
    }

    /// Gives up the oldest entry that is not durable.
    pub(super) fn shed(&mut self) -> Option<Kept> {
        self.tail.shed()
    }

    /// Numbers up to this one are durable.
    pub(super) fn close_to(&mut self, durable: u64) {
        self.tail.close_to(durable);
    }

    /// Whether anything waits for a commit.
    pub(super) fn is_open(&self) -> bool {
        self.tail.open_count() > 0
    }

    /// Since when something waits for a commit.
    pub(super) fn open_since(&self) -> Option<Duration> {
        self.open_since
    }

    /// A commit was made: what waits now, waits from now on.
    pub(super) fn committed(&mut self, now: Duration) {
        self.open_since = self.is_open().then_some(now);
    }

    /// No commit will be made of what waits.
    pub(super) fn await_no_commit(&mut self) {
        self.open_since = None;
    }

    /// Entries up to this number may be leased.
    pub(super) fn extend_to(&mut self, last: u64) {
        self.lanes.extend(last + 1);
    }

    /// All entries may be leased, durable or not.
    pub(super) fn extend_to_all(&mut self) {
        self.lanes.extend(self.next);
    }

    /// These and all above may not be leased; `None`: no such bound.
    pub(super) fn hold(&mut self, from: Option<u64>) {
        self.lanes.hold(from);
    }

    pub(super) fn go_live(&mut self) {
        self.lanes.go_live();
    }

    /// The next number to lease, if another lease may be out.
    pub(super) fn next_to_lease(&mut self, lane: Lane) -> Option<u64> {
        if self.outstanding < LEASES_MAX { self.lanes.next(lane) } else { None }
    }

    /// It is handed out.
    pub(super) fn hand_out(&mut self, number: u64, lane: Lane) {
        self.lanes.take(number, lane);
        self.outstanding += 1;
    }

    /// How many are out on lease.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// All that is in memory, taken out.
    pub(super) fn into_entries(self) -> impl Iterator<Item = Kept> {
        self.tail.into_entries()
    }

    /// A lease has come back, with whatever became of it.
    pub(super) fn lease_ended(&mut self) {
        self.outstanding = self.outstanding.saturating_sub(1);
    }

    pub(super) fn acknowledge(&mut self, number: u64) {
        self.lanes.acknowledge(number);
    }

    pub(super) fn give_back(&mut self, number: u64) {
        self.lanes.give_back(number);
    }

    pub(super) fn give_back_unheard(&mut self, number: u64) {
        self.lanes.give_back_unheard(number);
    }

    /// These need nothing more.
    pub(super) fn settle(&mut self, from: u64, to: u64) {
        self.lanes.settle(from, to);
    }

    /// These are given up: never leased again.
    pub(super) fn start_dropping(&mut self, from: u64, to: u64) {
        self.lanes.start_dropping(from, to);
    }

    /// This one cannot be read by this version of the agent.
    pub(super) fn pass_over(&mut self, number: u64) {
        self.lanes.pass_over(number);
    }

    /// None of these can be read by this version of the agent.
    pub(super) fn pass_over_all(&mut self, from: u64, to: u64) {
        self.lanes.pass_over_all(from, to);
    }

    /// It is passed over until the medium works again.
    pub(super) fn withhold(&mut self, number: u64) {
        self.lanes.pass_over(number);
        self.withheld.insert(number);
    }

    /// The medium works again: what was withheld for it goes out as history.
    pub(super) fn release_withheld(&mut self) {
        for number in std::mem::take(&mut self.withheld) {
            self.lanes.take_up(number);
        }
    }

    /// These are new, durable, and history all the same.
    pub(super) fn backfill(&mut self, from: u64, to: u64) {
        self.go_on_after(to);
        self.tail.close_to(to);
        self.lanes.set_backfilled(from, to);
        self.extend_to_all();
    }
}
