//! What time entries are told with, and which of them wait for the clock. What must be durable for that is handed out as
//! bytes ([`Times`]); the medium is not touched here.

use std::time::Duration;

use crate::health::ClockWait;
use crate::journal::core::times::{Label, Times};
use crate::measure::{BootId, ClockTrust, Event, EventKind, Stamp, Window};

/// Whether an entry may leave with its label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MayLeave {
    Yes,
    /// The label depends on something that cannot be made durable now, and the entry is durable. Those behind it wait, too.
    NotNow,
    /// The same, and the entry may turn out to be durable: it was written, and the sync failed. The medium is failing, so
    /// those behind it do not wait.
    NotYet,
    /// Its label is a newer program's business.
    Newer,
}

/// See the module's head.
#[derive(Debug)]
pub(super) struct Clock {
    times: Times,
    /// A clock is synced over the same network by which entries leave, so the wait for it counts from the first connection
    /// of a life.
    is_connected: bool,
    waits_since: Option<Duration>,
    /// The end of the newest window, as it was captured.
    newest: Option<Stamp>,
    /// The newest end of a window whose clock could be believed.
    newest_utc: Option<i64>,
}

impl Clock {
    /// A clock that goes on with what a start has found.
    pub(super) fn new(times: Times) -> Self {
        Self { times, is_connected: false, waits_since: None, newest: None, newest_utc: None }
    }

    /// The newest end of a kept window whose clock could be believed.
    pub(super) fn newest_utc(&self) -> Option<i64> {
        self.newest_utc
    }

    /// A window was kept; `utc`: its end, if its clock can be believed.
    pub(super) fn note_kept(&mut self, utc: Option<i64>) {
        self.newest_utc = utc.or(self.newest_utc);
    }

    /// Sees the time of a window, whether it is kept or not.
    pub(super) fn witness(&mut self, boot: BootId, end: Stamp) {
        self.times.witness(boot, end);
    }

    /// Whether the boot before ended without a clock, and when that was matters.
    pub(super) fn lacks_end(&self) -> bool {
        self.times.lacks_end()
    }

    /// The last window of the boot before.
    pub(super) fn note_end(&mut self, boot: BootId, end: Stamp) {
        self.times.note_end(boot, end);
    }

    /// Gives a window's time its final form before it is written as `seq`. A clock that was set back is told, if the
    /// window does not tell it already.
    pub(super) fn capture(&mut self, window: &mut Window, seq: u64) {
        self.newest = Some(window.end);
        let back = self.times.capture(window.boot, &mut window.end, seq);
        if let Some(by_ns) = back {
            tracing::warn!(by_ns, seq, "the wall clock went back: it shows times that were given before");
            if !window.events.iter().any(|event| matches!(event.kind, EventKind::ClockStepped(by) if by < 0)) {
                window.events.push(Event { device: None, kind: EventKind::ClockStepped(by_ns) });
            }
        }
    }

    /// Labels a window as far as its label is decided.
    pub(super) fn label(&self, window: &mut Window) {
        if let Label::Told(stamp) = self.times.label(window.boot, window.end) {
            window.end = stamp;
        }
    }

    /// Labels a window that is about to leave; what is not decided is decided now. Answers whether the label is the
    /// captured time, on which nothing depends; `None`: it is not for this program to say.
    pub(super) fn seal(&mut self, window: &mut Window) -> Option<bool> {
        if window.end.trust != ClockTrust::Unsynced {
            return Some(true);
        }
        match self.times.label(window.boot, window.end) {
            Label::Newer => return None,
            Label::Open => self.times.decide(window.boot, window.end.mono),
            Label::Told(_) => {}
        }
        self.label(window);
        Some(false)
    }

    /// What must be durable before anything that was captured is written or told.
    pub(super) fn unsaved(&self) -> Option<Vec<u8>> {
        self.times.unsaved()
    }

    /// What must be durable before the newest entries may be removed.
    pub(super) fn behind(&self) -> Option<Vec<u8>> {
        self.times.behind()
    }

    /// It is durable as it is now.
    pub(super) fn saved(&mut self) {
        self.times.saved();
    }

    /// A connection was made.
    pub(super) fn connected(&mut self) {
        self.is_connected = true;
    }

    /// The first number that must wait for the clock; the wait lasts at most `time_wait` from the first connection on.
    pub(super) fn held_from(&mut self, now: Duration, time_wait: Duration) -> Option<u64> {
        if self.is_connected {
            self.waits_since.get_or_insert(now);
        }
        let is_over = self.waits_since.is_some_and(|since| now >= since + time_wait);
        if is_over { None } else { self.times.held_from() }
    }

    /// What entries wait for, if they wait for the clock.
    pub(super) fn wait(&self, time_wait: Duration) -> ClockWait {
        ClockWait { shows: self.newest.map(|stamp| stamp.utc), time_wait }
    }
}
