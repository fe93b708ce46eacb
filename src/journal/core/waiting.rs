//! What the core does about time: entries that wait for the clock, and labels that are sealed before they leave.

use std::time::Duration;

use crate::journal::core::journal_core::JournalCore;
use crate::journal::core::reader::Fetched;
use crate::journal::core::times::Label;
use crate::journal::disk::store::{Durably, Record, Store, StoreError};
use crate::measure::{ClockTrust, Entry, Event, EventKind, Stamp, Window};

/// How long the wait for the clock has lasted. A clock is synced over the same network by which entries leave, so it
/// counts from the first connection of a life.
#[derive(Debug, Default)]
pub(in crate::journal) struct ClockWait {
    connected: bool,
    since: Option<Duration>,
    newest: Option<Stamp>,
}

impl ClockWait {
    /// A connection was made.
    pub(in crate::journal) fn connected(&mut self) {
        self.connected = true;
    }
}

/// Whether an entry may leave with its label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::journal) enum MayLeave {
    Yes,
    /// The label depends on something that cannot be made durable now, and the entry is durable. Those behind it wait, too.
    NotNow,
    /// The same, and the entry may turn out to be durable: it was written, and the sync failed. The medium is failing, so
    /// those behind it do not wait.
    NotYet,
}

impl<S: Store> JournalCore<S> {
    /// If the boot before ended without a clock: when that was, as its last entry says.
    pub(in crate::journal) fn look_for_end(&mut self, last: u64) {
        if last > 0
            && self.times.lacks_end()
            && let Fetched::Entry(entry) = self.fetch(last)
        {
            self.times.note_end(entry.window.boot, entry.window.end);
        }
    }

    /// Gives a window's time its final form before it is written as `seq`. A clock that was set back is told, if the
    /// window does not tell it already.
    pub(in crate::journal) fn capture_time(&mut self, window: &mut Window, seq: u64) {
        self.clock_wait.newest = Some(window.end);
        let back = self.times.capture(window.boot, &mut window.end, seq);
        if let Some(by_ns) = back {
            tracing::warn!(by_ns, seq, "the wall clock went back: it shows times that were given before");
            if !window.events.iter().any(|event| matches!(event.kind, EventKind::ClockStepped(by) if by < 0)) {
                window.events.push(Event { device: None, kind: EventKind::ClockStepped(by_ns) });
            }
        }
    }

    /// Labels an entry that is about to be leased, and answers whether it may leave.
    pub(in crate::journal) fn seal_time(&mut self, entry: &mut Entry) -> MayLeave {
        let window = &mut entry.window;
        if window.end.trust != ClockTrust::Unsynced {
            return MayLeave::Yes;
        }
        let label = match self.times.label(window.boot, window.end) {
            Label::Told(stamp) => Label::Told(stamp),
            Label::Open => {
                self.times.decide(window.boot, window.end.mono);
                self.times.label(window.boot, window.end)
            }
        };
        if let Label::Told(stamp) = label {
            window.end = stamp;
        }
        match self.save_times() {
            Ok(()) => MayLeave::Yes,
            Err(error) => {
                tracing::debug!(%error, "the times of entries cannot be saved");
                match entry.identity.seq.0 {
                    seq if seq <= self.durable => MayLeave::NotNow,
                    seq if seq <= self.may_survive => MayLeave::NotYet,
                    // Neither the entry nor its label outlives this life.
                    _ => MayLeave::Yes,
                }
            }
        }
    }

    /// The medium works again: what was withheld for it goes out as history.
    pub(in crate::journal) fn release_withheld(&mut self) {
        for number in std::mem::take(&mut self.withheld) {
            self.lanes.take_up(number);
        }
    }

    /// Decides from which number on entries wait for the clock.
    pub(in crate::journal) fn mind_the_clock(&mut self, now: Duration) {
        // An anchor may have been seen in a window that was not kept.
        if self.tail.open_count() == 0
            && let Err(error) = self.save_times()
        {
            tracing::debug!(%error, "the times of entries cannot be saved");
        }
        if self.clock_wait.connected {
            self.clock_wait.since.get_or_insert(now);
        }
        let over = self.clock_wait.since.is_some_and(|since| now >= since + self.limits.time_wait);
        self.lanes.hold(if over { None } else { self.times.held_from() });
    }

    /// How many entries wait for the clock, and in words why and what to do.
    pub(in crate::journal) fn held(&self) -> (u64, Option<String>) {
        let held = self.lanes.held();
        let shows = self.clock_wait.newest.map_or_else(|| "nothing yet".to_owned(), |stamp| stamp.utc.rfc3339());
        let why = format!(
            "their time is not known: the wall clock was not synced in this boot and shows {shows}; they are sent when \
             it is, or with estimated times {} s after the first connection (journal.time_wait). Check NTP and the way \
             to its server (timedatectl, chronyc sources)",
            self.limits.time_wait.as_secs()
        );
        (held, (held > 0).then_some(why))
    }

    /// Makes durable what the times of entries depend on.
    pub(in crate::journal) fn save_times(&mut self) -> Result<(), StoreError> {
        self.save_as(self.times.unsaved())
    }

    /// The same, before the newest entries may go.
    pub(in crate::journal) fn save_times_behind(&mut self) -> Result<(), StoreError> {
        self.save_as(self.times.behind())
    }

    fn save_as(&mut self, bytes: Option<Vec<u8>>) -> Result<(), StoreError> {
        let Some(bytes) = bytes else { return Ok(()) };
        if let Some(store) = self.store.as_mut() {
            store.save(Record::Times, &bytes, Durably::Yes)?;
        }
        self.times.saved();
        Ok(())
    }
}
