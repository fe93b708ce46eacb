//! What time entries are told with, and which of them wait for the clock. What must be durable for that is handed out as
//! bytes ([`Times`]); the medium is not touched here.

use std::time::Duration;

use crate::health::ClockWait;
use crate::journal::core::times::{Label, Times, Unsaved};
use crate::measure::{BootId, ClockTrust, Entry, Event, EventKind, Mono, Stamp, Window};

/// Between two events of steps of the wall clock.
const STEP_TOLD_EVERY: Duration = Duration::from_secs(1);
/// A window may tell two: against the window before, and against times of a life before.
const OF_A_WINDOW: u64 = 2;

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
    steps: Steps,
}

/// Steps of the wall clock that wait to be told.
#[derive(Debug, Default)]
struct Steps {
    /// Their sum, and how many they are.
    by_ns: i64,
    count: u64,
    /// The end of the window that told the last.
    told: Option<Mono>,
}

impl Steps {
    /// What the window says of steps is told in it, or with those that follow within the second: as their sum, and how many were left
    /// out for that.
    fn bound(&mut self, window: &mut Window) {
        let step = |event: &Event| if let EventKind::ClockStepped(by_ns) = event.kind { Some(by_ns) } else { None };
        let waiting = self.count;
        for by_ns in window.events.iter().filter_map(step) {
            (self.by_ns, self.count) = (self.by_ns.saturating_add(by_ns), self.count + 1);
        }
        let is_due = self.is_due(window);
        if self.count == 0 || (is_due && waiting == 0 && self.count <= OF_A_WINDOW) {
            // As it is.
            self.told = if self.count == 0 { self.told } else { Some(window.end.mono) };
            (self.by_ns, self.count) = (0, 0);
            return;
        }
        window.events.retain(|event| step(event).is_none());
        if is_due {
            let (of, about, count) = ("clock_stepped".into(), "".into(), self.count - 1);
            let left_out = (count > 0).then_some(EventKind::EventsLeftOut { of, about, count });
            let told = left_out.into_iter().chain([EventKind::ClockStepped(self.by_ns)]);
            window.events.extend(told.map(|kind| Event { device: None, kind }));
            *self = Self { told: Some(window.end.mono), ..Self::default() };
        }
    }

    /// The last window of all tells what waits.
    fn is_due(&self, window: &Window) -> bool {
        self.told.is_none_or(|told| window.end.mono.since(told) >= STEP_TOLD_EVERY)
            || window.events.iter().any(|event| matches!(event.kind, EventKind::Stopping))
    }
}

impl Clock {
    /// A clock that goes on with what a start has found.
    pub(super) fn new(times: Times) -> Self {
        let steps = Steps::default();
        Self { times, is_connected: false, waits_since: None, newest: None, newest_utc: None, steps }
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
    /// window does not tell it already; one that is set again and again once a second.
    pub(super) fn capture(&mut self, window: &mut Window, seq: u64) {
        self.place(window, seq, true);
        // What comes late shows another clock.
        if !window.end.trust.is_of_source() {
            self.steps.bound(window);
        }
    }

    /// The same for a window that was captured before, under another number: what its life knew of steps is in it, or waits
    /// ([`Self::go_on_with`]). Only the first is seen against times of a life before.
    pub(super) fn capture_again(&mut self, window: &mut Window, seq: u64) {
        self.place(window, seq, self.newest.is_none());
    }

    /// What waits to be told of steps goes on waiting.
    pub(super) fn go_on_with(&mut self, before: Self) {
        self.steps = before.steps;
    }

    fn place(&mut self, window: &mut Window, seq: u64, tells_back: bool) {
        if !window.end.trust.is_of_source() {
            self.newest = Some(window.end);
        }
        let mut end = window.end;
        let back = self.times.capture(window.boot, &mut end, seq);
        window.move_end(end);
        if let Some(by_ns) = back.filter(|_| tells_back) {
            tracing::warn!(by_ns, seq, "the wall clock went back: it shows times that were given before");
            if !window.events.iter().any(|event| matches!(event.kind, EventKind::ClockStepped(by) if by < 0)) {
                window.events.push(Event { device: None, kind: EventKind::ClockStepped(by_ns) });
            }
        }
    }

    /// Whether the next window must be kept because a step is to be told in it.
    pub(super) fn has_step_to_tell(&self, window: &Window) -> bool {
        self.steps.count > 0 && !window.end.trust.is_of_source() && self.steps.is_due(window)
    }

    /// Labels a window as far as its label is decided.
    pub(super) fn label(&self, window: &mut Window) {
        if let Label::Told(stamp) = self.times.label(window.boot, window.end) {
            window.end = stamp;
        }
    }

    /// Labels an entry that is about to leave; what is not decided is decided now. Answers whether the label is the
    /// captured time, on which nothing depends; `None`: it is not for this program to say.
    pub(super) fn seal(&mut self, entry: &mut Entry) -> Option<bool> {
        let (boot, end) = (entry.window.boot, entry.window.end);
        if end.trust != ClockTrust::Unsynced {
            return Some(true);
        }
        match self.times.label(boot, end) {
            Label::Newer => return None,
            Label::Open => self.times.decide(boot, end.mono),
            Label::Told(_) => {}
        }
        self.times.tell(entry);
        Some(false)
    }

    /// What must be durable before anything that was captured is written or told.
    pub(super) fn unsaved(&self) -> Option<Unsaved> {
        self.times.unsaved()
    }

    /// What must be durable before the newest entries may be removed.
    pub(super) fn behind(&self) -> Option<Unsaved> {
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

    /// By how much a wall clock that runs free is off its last sync, ns, because somebody has set it.
    pub(super) fn set(&self) -> Option<i64> {
        self.times.set()
    }

    /// What entries wait for, if they wait for the clock.
    pub(super) fn wait(&self, time_wait: Duration) -> ClockWait {
        ClockWait { shows: self.newest.map(|stamp| stamp.utc), time_wait }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::testing::empty_window;
    use crate::measure::Epoch;

    const BOOT: BootId = BootId([7; 16]);

    /// A clock that two programs set, one against the other: in each window it is 5 ms ahead or back.
    #[test]
    fn steps_of_the_clock_are_told_once_a_second_and_none_is_uncounted() {
        let mut clock = Clock::new(Times::open(None, None, 1, (Epoch(1), BOOT)));
        let (mut told, mut left_out, mut sum) = (Vec::new(), 0, 0);
        for n in 1..=80_u64 {
            let mut window = empty_window(n);
            let by_ns = if n % 3 == 0 { -6_000_000 } else { 5_000_000 };
            window.events.push(Event { device: None, kind: EventKind::ClockStepped(by_ns) });
            if n == 80 {
                window.events.push(Event { device: None, kind: EventKind::Stopping });
            }
            clock.capture(&mut window, n);
            for event in window.events {
                match event.kind {
                    EventKind::ClockStepped(by_ns) => {
                        told.push(n);
                        sum += by_ns;
                    }
                    EventKind::EventsLeftOut { count, .. } => left_out += count,
                    _ => {}
                }
            }
        }
        assert!(told.windows(2).all(|pair| pair[1] - pair[0] >= 4 || pair[1] == 80), "{told:?}");
        assert_eq!((told.len() as u64 + left_out, sum), (80, 54 * 5_000_000 - 26 * 6_000_000));
    }

    #[test]
    fn a_step_that_waits_is_told_when_its_second_is_over() {
        let mut clock = Clock::new(Times::open(None, None, 1, (Epoch(1), BOOT)));
        let stepped = |n| {
            let events = vec![Event { device: None, kind: EventKind::ClockStepped(7) }];
            Window { events, ..empty_window(n) }
        };
        let (mut first, mut second) = (stepped(1), stepped(2));
        clock.capture(&mut first, 1);
        clock.capture(&mut second, 2);
        assert_eq!((first.events.len(), second.events.len()), (1, 0));
        assert!(!clock.has_step_to_tell(&empty_window(4)) && clock.has_step_to_tell(&empty_window(5)));
        let mut third = empty_window(5);
        clock.capture(&mut third, 3);
        assert_eq!(third.events, first.events, "alone it is as it was");
    }
}
