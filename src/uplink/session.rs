//! The session with the broker, as values: what happened goes in, what to do comes out. Pure; times are since the
//! uplink's start, and the lease is any value that gives itself back when it is dropped.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::backoff;
use super::lanes::Lanes;
use super::reason::{Blame, Reason};
use crate::journal::Lane;

/// Nothing heard for so long while something is in flight: the link is dead, whatever TCP says.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// A broker that refused a message for a reason of the moment gets no new one for this long, doubling …
const PAUSE_FIRST: Duration = Duration::from_millis(200);
/// … up to this.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// A broker whose set-up must be mended by a person is asked again so often.
const PAUSE_SETUP: Duration = Duration::from_secs(10);
/// A connection that lasted this long ends the count of failures.
const SETTLED_AFTER: Duration = Duration::from_secs(5);

/// What the task shall do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Connect to the broker at this place of the list.
    Connect(usize),
    /// Nothing before this; earlier if something happens.
    Wait(Duration),
    /// The link is dead: drop it, and tell with [`Session::lost`].
    Drop,
    /// All that could be sent was, or time is up: say goodbye.
    Goodbye,
}

/// What shall become of a lease.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Settled<L> {
    /// The broker has it.
    Acknowledge(L),
    /// Later again.
    GiveBack(L, Reason),
    /// Never again: the broker refuses this one.
    Refuse(L, Reason),
    /// It was one of our own documents, or nothing we know of.
    Nothing,
}

/// The session with its leases in flight.
#[derive(Debug)]
pub(super) struct Session<L> {
    settings: Limits,
    phase: Phase,
    broker: usize,
    failures: u32,
    /// Handed to the client, not numbered yet; in order.
    unnumbered: VecDeque<Flight<L>>,
    numbered: HashMap<u16, Flight<L>>,
    heard: Duration,
    paused_until: Duration,
    pause: Duration,
    drain_until: Option<Duration>,
}

/// What the session must know of the plan.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) brokers: usize,
    pub(super) in_flight_max: u16,
    pub(super) history_rate_max: u64,
}

#[derive(Debug)]
enum Phase {
    Offline { retry_at: Duration },
    Connecting,
    Online { since: Duration, lanes: Lanes },
}

#[derive(Debug)]
enum Flight<L> {
    Document,
    Entry { lease: L, lane: Lane, bytes: usize, sent: Duration },
}

impl<L> Session<L> {
    pub(super) fn new(settings: Limits, now: Duration) -> Self {
        Self {
            settings,
            phase: Phase::Offline { retry_at: now },
            broker: 0,
            failures: 0,
            unnumbered: VecDeque::new(),
            numbered: HashMap::new(),
            heard: now,
            paused_until: now,
            pause: PAUSE_FIRST,
            drain_until: None,
        }
    }

    /// What to do at `now`. `waiting`: whether live data waits in the journal.
    pub(super) fn next(&mut self, waiting: bool, now: Duration) -> Next {
        if let Some(until) = self.drain_until {
            let done = self.in_flight() == 0 && !waiting;
            if now >= until || done || !matches!(self.phase, Phase::Online { .. }) {
                return Next::Goodbye;
            }
        }
        match &self.phase {
            Phase::Offline { retry_at } if *retry_at <= now => Next::Connect(self.broker),
            Phase::Offline { retry_at } => Next::Wait(*retry_at),
            Phase::Connecting => Next::Wait(now + SILENCE_MAX),
            Phase::Online { lanes, .. } => {
                let dead_at = self.heard + SILENCE_MAX;
                if self.in_flight() == 0 {
                    return Next::Wait(self.later(lanes.history_from(), now));
                }
                if dead_at <= now {
                    return Next::Drop;
                }
                Next::Wait(self.later(lanes.history_from(), now).min(dead_at))
            }
        }
    }

    /// The next moment after `now` at which a lane may have room that it has not now.
    fn later(&self, history_from: Option<Duration>, now: Duration) -> Duration {
        let wake = [Some(self.paused_until), history_from, self.drain_until];
        wake.into_iter().flatten().filter(|at| *at > now).min().unwrap_or(now + SILENCE_MAX)
    }

    /// The task is connecting.
    pub(super) fn connecting(&mut self) {
        self.phase = Phase::Connecting;
    }

    /// The broker has accepted us and takes `receive_maximum` messages in flight.
    pub(super) fn connected(&mut self, receive_maximum: u16, now: Duration) {
        let window = self.settings.in_flight_max.min(receive_maximum);
        self.phase = Phase::Online { since: now, lanes: Lanes::new(window, self.settings.history_rate_max, now) };
        self.heard = now;
        self.paused_until = now;
    }

    /// There is no connection any more, or none was had. Everything in flight goes back to the journal; the next broker
    /// is tried after a wait.
    pub(super) fn lost(&mut self, chance: f64, now: Duration) {
        if let Phase::Online { since, .. } = self.phase
            && now.saturating_sub(since) >= SETTLED_AFTER
        {
            self.failures = 0;
        } else if self.settings.brokers > 1 {
            self.broker = (self.broker + 1) % self.settings.brokers;
        }
        self.failures = self.failures.saturating_add(1);
        self.unnumbered.clear();
        self.numbered.clear();
        self.phase = Phase::Offline { retry_at: now + backoff::wait(self.failures, chance) };
    }

    /// Something was heard from the broker.
    pub(super) fn heard(&mut self, now: Duration) {
        self.heard = now;
    }

    /// How many entries the lane may lease now.
    pub(super) fn room(&mut self, lane: Lane, live_waits: bool, now: Duration) -> usize {
        let draining = self.drain_until.is_some();
        let Phase::Online { lanes, .. } = &mut self.phase else { return 0 };
        if now < self.paused_until || (draining && lane == Lane::History) {
            return 0;
        }
        lanes.room(lane, live_waits, now)
    }

    /// One of our documents was handed to the client.
    pub(super) fn sent_document(&mut self) {
        self.unnumbered.push_back(Flight::Document);
    }

    /// An entry was handed to the client.
    pub(super) fn sent(&mut self, lease: L, lane: Lane, bytes: usize, now: Duration) {
        if self.in_flight() == 0 {
            // Silence counts from the first message that waits for an answer.
            self.heard = now;
        }
        if let Phase::Online { lanes, .. } = &mut self.phase {
            lanes.sent(lane, bytes);
        }
        self.unnumbered.push_back(Flight::Entry { lease, lane, bytes, sent: now });
    }

    /// The client has given the oldest unnumbered message this packet id.
    pub(super) fn numbered(&mut self, id: u16) {
        if let Some(flight) = self.unnumbered.pop_front() {
            self.numbered.insert(id, flight);
        }
    }

    /// The broker has answered the message with this packet id. An answer to a message that we do not know of (late,
    /// repeated, invented) changes nothing.
    pub(super) fn answered(&mut self, id: u16, code: u8, now: Duration) -> Settled<L> {
        self.heard = now;
        let Some(flight) = self.numbered.remove(&id) else { return Settled::Nothing };
        let Flight::Entry { lease, lane, bytes, sent } = flight else { return Settled::Nothing };
        if let Phase::Online { lanes, .. } = &mut self.phase {
            lanes.settled(lane, bytes, now.saturating_sub(sent), now);
        }
        let reason = Reason::of(code);
        match reason.blame {
            Blame::Nobody => {
                self.pause = PAUSE_FIRST;
                Settled::Acknowledge(lease)
            }
            Blame::Entry => Settled::Refuse(lease, reason),
            Blame::Moment => {
                self.paused_until = now + self.pause;
                self.pause = (2 * self.pause).min(PAUSE_MAX);
                Settled::GiveBack(lease, reason)
            }
            Blame::Setup => {
                self.paused_until = now + PAUSE_SETUP;
                Settled::GiveBack(lease, reason)
            }
        }
    }

    /// Sends what is live, no more history, and ends: at the latest at `until`.
    pub(super) fn drain(&mut self, until: Duration) {
        self.drain_until.get_or_insert(until);
    }

    pub(super) fn is_online(&self) -> bool {
        matches!(self.phase, Phase::Online { .. })
    }

    /// Entries and documents that wait for an answer.
    pub(super) fn in_flight(&self) -> usize {
        self.unnumbered.len() + self.numbered.len()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;
    use std::rc::Rc;

    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits { brokers: 2, in_flight_max: 10, history_rate_max: u64::MAX };

    fn online() -> Session<u32> {
        let mut session = Session::new(LIMITS, Duration::ZERO);
        session.connecting();
        session.connected(65_535, Duration::ZERO);
        session
    }

    #[test]
    fn only_a_success_releases_an_entry() {
        let mut session = online();
        for code in [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x95, 0x97, 0x99, 0xff] {
            session.sent(7, Lane::Live, 1, Duration::ZERO);
            session.numbered(1);
            let settled = session.answered(1, code, Duration::ZERO);
            match code {
                0x00 | 0x10 => assert_eq!(settled, Settled::Acknowledge(7)),
                0x95 | 0x99 => assert!(matches!(settled, Settled::Refuse(7, _)), "{code:x}"),
                _ => assert!(matches!(settled, Settled::GiveBack(7, _)), "{code:x}"),
            }
        }
    }

    #[test]
    fn a_refusal_of_the_moment_pauses_and_a_success_ends_the_patience() {
        let mut session = online();
        session.sent(1, Lane::Live, 1, Duration::ZERO);
        session.numbered(1);
        session.answered(1, 0x97, Duration::ZERO);
        assert_eq!(session.room(Lane::Live, true, PAUSE_FIRST / 2), 0);
        assert_eq!(session.room(Lane::Live, true, PAUSE_FIRST), 10);
    }

    #[test]
    fn a_link_that_is_silent_with_something_in_flight_is_dropped() {
        let mut session = online();
        assert!(matches!(session.next(false, SILENCE_MAX * 3), Next::Wait(_)), "an idle link may be silent");
        session.sent(1, Lane::Live, 1, SILENCE_MAX * 3);
        assert!(matches!(session.next(false, SILENCE_MAX * 4 - Duration::from_millis(1)), Next::Wait(_)));
        assert_eq!(session.next(false, SILENCE_MAX * 4), Next::Drop);
    }

    #[test]
    fn a_broker_that_fails_gives_way_to_the_next_and_waits_grow() {
        let mut session: Session<u32> = Session::new(LIMITS, Duration::ZERO);
        assert_eq!(session.next(false, Duration::ZERO), Next::Connect(0));
        session.connecting();
        session.lost(1.0, Duration::ZERO);
        assert_eq!(session.next(false, Duration::ZERO), Next::Wait(Duration::from_millis(250)));
        assert_eq!(session.next(false, Duration::from_millis(250)), Next::Connect(1));
        session.connecting();
        session.lost(1.0, Duration::ZERO);
        assert_eq!(session.next(false, Duration::ZERO), Next::Wait(Duration::from_millis(500)));
        assert_eq!(session.next(false, Duration::from_millis(500)), Next::Connect(0));
    }

    #[test]
    fn draining_sends_what_is_live_and_ends_at_its_deadline() {
        let mut session = online();
        session.sent(1, Lane::Live, 1, Duration::ZERO);
        session.numbered(9);
        session.drain(Duration::from_secs(3));
        assert_eq!(session.room(Lane::History, false, Duration::ZERO), 0);
        assert_eq!(session.next(false, Duration::ZERO), Next::Wait(Duration::from_secs(3)));
        session.answered(9, 0, Duration::from_secs(1));
        assert!(matches!(session.next(true, Duration::from_secs(1)), Next::Wait(_)));
        assert_eq!(session.next(false, Duration::from_secs(1)), Next::Goodbye);
        assert_eq!(session.next(true, Duration::from_secs(3)), Next::Goodbye);
    }

    /// A lease that tells where it went.
    struct Tracked(u32, Rc<RefCell<BTreeSet<u32>>>);

    impl Drop for Tracked {
        fn drop(&mut self) {
            self.1.borrow_mut().insert(self.0);
        }
    }

    #[derive(Debug, Clone)]
    enum Happens {
        Send(bool),
        Number,
        Answer(u16, u8),
        Lose,
        Pass(u64),
    }

    fn happens() -> impl Strategy<Value = Happens> {
        prop_oneof![
            4 => any::<bool>().prop_map(Happens::Send),
            4 => Just(Happens::Number),
            5 => (0_u16..20, prop_oneof![3 => Just(0_u8), 1 => any::<u8>()]).prop_map(|(id, code)| Happens::Answer(id, code)),
            1 => Just(Happens::Lose),
            2 => (0_u64..3_000).prop_map(Happens::Pass),
        ]
    }

    proptest! {
        /// Acknowledgements lost, late, repeated, out of order, invented; connections lost at any step.
        #[test]
        fn every_lease_is_acknowledged_refused_or_given_back_and_only_once(steps in prop::collection::vec(happens(), 0..200)) {
            let returned = Rc::new(RefCell::new(BTreeSet::new()));
            let mut session = Session::new(LIMITS, Duration::ZERO);
            let (mut now, mut next_lease, mut next_id) = (Duration::ZERO, 0, 0_u16);
            let mut released = BTreeSet::new();
            for step in steps {
                if !session.is_online() {
                    session.connecting();
                    session.connected(5, now);
                }
                match step {
                    Happens::Send(live) => {
                        let lane = if live { Lane::Live } else { Lane::History };
                        if session.room(lane, false, now) > 0 {
                            session.sent(Tracked(next_lease, Rc::clone(&returned)), lane, 100, now);
                            next_lease += 1;
                        }
                        prop_assert!(session.in_flight() <= 5, "the receive maximum is kept");
                    }
                    Happens::Number if !session.unnumbered.is_empty() => {
                        next_id = next_id % 20 + 1;
                        if !session.numbered.contains_key(&next_id) {
                            session.numbered(next_id);
                        }
                    }
                    Happens::Number => {}
                    Happens::Answer(id, code) => match session.answered(id, code, now) {
                        Settled::Acknowledge(lease) | Settled::Refuse(lease, _) => {
                            prop_assert!(code < 0x80 || Reason::of(code).blame == Blame::Entry);
                            prop_assert!(released.insert(lease.0), "released twice");
                            prop_assert!(!returned.borrow().contains(&lease.0));
                            std::mem::forget(lease);
                        }
                        Settled::GiveBack(..) | Settled::Nothing => {}
                    },
                    Happens::Lose => session.lost(0.5, now),
                    Happens::Pass(ms) => now += Duration::from_millis(ms),
                }
            }
            session.lost(0.5, now);
            prop_assert_eq!(session.in_flight(), 0);
            let returned = returned.borrow();
            prop_assert!(returned.is_disjoint(&released));
            prop_assert_eq!(returned.len() + released.len(), next_lease as usize, "none is forgotten");
        }
    }
}
