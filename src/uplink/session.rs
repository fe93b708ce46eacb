//! The session with the broker, as values: what happened goes in, what to do comes out. Pure; times are since the
//! uplink's start, and the lease is any value that gives itself back when it is dropped.
//!
//! ```text
//! offline ──wait──▶ connecting ──▶ online ─disconnect─▶ the end
//!    ▲                   │           │ └─ leaving: what is in flight is answered, then a better route or new files
//!    └──── next route ───┴── lost ───┘
//! ```
//!
//! A route is a broker by a link. They are in order of preference: every broker by the first link, then every broker by
//! the second. After a loss the next one is tried, after a wait that grows with each round; once connected to a route
//! that is not the best one, the better ones are probed every [`Limits::fail_back`], and the first that can be had is
//! moved to.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::backoff;
use super::budget::Budget;
use super::lanes::Lanes;
use super::reason::{FaultDomain, Reason};
use super::unheard::{NO_MATCHING_SUBSCRIBERS, Unheard};
use crate::journal::Lane;
use crate::net::BrokerUrl;

/// Nothing heard for so long while something is in flight: the link is dead, whatever TCP says.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// A message that is not answered for so long, on a link that is alive, has been forgotten by the broker. Only a new
/// connection may send it again (MQTT 5, 4.4).
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// A broker that refused a message for a reason that is not the message's own gets no new one for this long, doubling …
const PAUSE_FIRST: Duration = Duration::from_millis(200);
/// … up to this.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// A connection that lasted this long, or on which an entry was acknowledged, ends the count of failures.
const SETTLED_AFTER: Duration = Duration::from_secs(5);
/// What is in flight may take this long to be answered before a move.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);
/// The packet id of our one SUBSCRIBE; no message has it.
pub(super) const SUBSCRIBE_ID: u16 = u16::MAX;
/// A broker that names another one is followed so often in a row.
const REFERRALS_MAX: u32 = 3;

/// What the task shall do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// Connect there.
    Connect(Route),
    /// See whether this better route can be had; tell with [`Session::probed`].
    Probe(Route),
    /// Nothing before this; earlier if something happens.
    Wait(Duration),
    /// Drop the connection, and tell with [`Session::lost`].
    Drop(Dead),
    /// Disconnect, then tell with [`Session::left`].
    Leave,
    /// All that could be sent was, or time is up: disconnect and end.
    Disconnect,
}

/// Why a connection is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dead {
    /// Nothing is heard at all.
    Silent,
    /// A message is not answered.
    Unanswered,
}

/// A way to a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) broker: BrokerUrl,
    /// Its place in the list of links.
    pub(super) link: usize,
}

/// What shall become of a lease.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Settled<L> {
    /// The broker has it.
    Acknowledge(L),
    /// The broker has it, and nobody subscribes.
    Unheard(L),
    /// The broker has it, nobody subscribes, and that is not enough: later again, and nobody has it.
    Hold(L),
    /// The same, but somebody may have a part of it.
    HoldHeard(L),
    /// Later again.
    GiveBack(L, Reason),
    /// Never again: the broker refuses this one.
    Refuse(L, Reason),
    /// One of our own documents was refused.
    Document(Reason),
    /// It was one of our own documents, or nothing we know of.
    Nothing,
}

/// The session with its leases in flight.
#[derive(Debug)]
pub(super) struct Session<L> {
    limits: Limits,
    phase: Phase,
    /// Place of the route in use or to be tried next.
    route: usize,
    /// The broker has named another one: that comes first, once.
    referred: Option<BrokerUrl>,
    referrals: u32,
    failures: u32,
    flights: HashMap<u16, Flight>,
    /// Entries of which a message is in flight, or still to be sent.
    entries: HashMap<u64, Open<L>>,
    last_entry: u64,
    /// Packet ids in the order of sending, with those that were answered since.
    order: VecDeque<(u16, Duration)>,
    last_id: u16,
    heard: Duration,
    paused_until: Duration,
    pause: Duration,
    /// One for each link.
    budgets: Vec<Budget>,
    drain_until: Option<Duration>,
    unheard: Unheard,
}

/// What the session must know of the plan.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    /// Not empty.
    pub(super) brokers: Vec<BrokerUrl>,
    /// Not empty.
    pub(super) links: Vec<LinkLimits>,
    pub(super) in_flight_max: u16,
    /// What nobody subscribes to is not taken as delivered.
    pub(super) holds_unheard: bool,
    /// Between two looks for a better route.
    pub(super) fail_back: Duration,
}

/// What a link may carry of history.
#[derive(Debug, Clone, Copy)]
pub(super) struct LinkLimits {
    /// Bytes a second.
    pub(super) history_rate_max: u64,
    /// Bytes a day.
    pub(super) history_bytes_per_day: Option<u64>,
}

#[derive(Debug)]
enum Phase {
    Offline {
        retry_at: Duration,
    },
    Connecting,
    Online {
        since: Duration,
        useful: bool,
        window: usize,
        documents: usize,
        lanes: Lanes,
        looking: Looking,
        leaving: Option<Leaving>,
    },
}

/// For a better route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Looking {
    /// There is none.
    Never,
    /// Not before this.
    From(Duration),
    /// This one is being probed; if it cannot be had, the next one after it is, or a later time.
    At(usize),
}

#[derive(Debug, Clone, Copy)]
struct Leaving {
    to: usize,
    until: Duration,
}

#[derive(Debug)]
enum Flight {
    Document,
    Part { entry: EntryKey, bytes: usize, sent: Duration },
}

/// An entry on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EntryKey(u64);

#[derive(Debug)]
struct Open<L> {
    lease: L,
    lane: Lane,
    /// Parts without an answer, sent or not.
    left: usize,
    /// The worst answer so far; `None` while all were good.
    refused: Option<Reason>,
    /// Of a part nobody wants to know, and so it is to be kept, or not.
    unheard: Option<bool>,
    /// A part was taken, and somebody may have it.
    is_heard: bool,
}

impl<L> Session<L> {
    pub(super) fn new(limits: Limits, now: Duration) -> Self {
        let unheard = Unheard::new(limits.holds_unheard);
        let budgets = limits.links.iter().map(|link| Budget::new(link.history_bytes_per_day, now)).collect();
        Self {
            limits,
            phase: Phase::Offline { retry_at: now },
            route: 0,
            referred: None,
            referrals: 0,
            failures: 0,
            flights: HashMap::new(),
            entries: HashMap::new(),
            last_entry: 0,
            order: VecDeque::new(),
            last_id: 0,
            heard: now,
            paused_until: now,
            pause: PAUSE_FIRST,
            budgets,
            drain_until: None,
            unheard,
        }
    }

    fn routes(&self) -> usize {
        self.limits.brokers.len() * self.limits.links.len()
    }

    fn link(&self) -> usize {
        self.route / self.limits.brokers.len()
    }

    fn at(&self, place: usize) -> Route {
        let brokers = &self.limits.brokers;
        Route { broker: brokers[place % brokers.len()].clone(), link: place / brokers.len() }
    }

    /// What to do at `now`. `waiting`: whether live data waits in the journal.
    pub(super) fn next(&mut self, waiting: bool, now: Duration) -> Next {
        if let Some(until) = self.drain_until {
            // A lane that nobody reads stays in the journal: there is nothing to wait for.
            let done = self.in_flight() == 0 && !(waiting && self.unheard.is_read(Lane::Live));
            if now >= until || done || !matches!(self.phase, Phase::Online { .. }) {
                return Next::Disconnect;
            }
        }
        let oldest = self.oldest();
        let in_flight = self.in_flight();
        match &mut self.phase {
            Phase::Offline { retry_at } if *retry_at <= now => Next::Connect(match &self.referred {
                Some(broker) => Route { broker: broker.clone(), link: self.link() },
                None => self.at(self.route),
            }),
            Phase::Offline { retry_at } => Next::Wait(*retry_at),
            Phase::Connecting => Next::Wait(now + SILENCE_MAX),
            Phase::Online { lanes, looking, leaving, .. } => {
                if let Some(Leaving { until, .. }) = leaving
                    && (in_flight == 0 || *until <= now)
                {
                    return Next::Leave;
                }
                if let (Looking::From(at), None, None) = (*looking, &leaving, self.drain_until)
                    && at <= now
                {
                    *looking = Looking::At(0);
                    return Next::Probe(self.at(0));
                }
                let look_at = if let Looking::From(at) = looking { Some(*at) } else { None };
                let leave_at = leaving.map(|leaving| leaving.until);
                let wake = [Some(self.paused_until), lanes.history_from(), self.drain_until, look_at, leave_at];
                let budget = self.budgets[self.link()].allows_from();
                let offer = self.unheard.until(now);
                let later = wake.into_iter().chain([budget, offer]).flatten().filter(|at| *at > now).min();
                let later = later.unwrap_or(now + SILENCE_MAX);
                let Some(oldest) = oldest else { return Next::Wait(later) };
                if self.heard + SILENCE_MAX <= now {
                    return Next::Drop(Dead::Silent);
                }
                if oldest + ANSWER_MAX <= now {
                    return Next::Drop(Dead::Unanswered);
                }
                Next::Wait(later.min(self.heard + SILENCE_MAX).min(oldest + ANSWER_MAX))
            }
        }
    }

    /// When the oldest message without an answer was sent.
    fn oldest(&mut self) -> Option<Duration> {
        while let Some((id, sent)) = self.order.front() {
            if self.flights.get(id).is_some_and(|flight| flight.sent_at().is_none_or(|at| at == *sent)) {
                return Some(*sent);
            }
            self.order.pop_front();
        }
        None
    }

    /// The task is connecting.
    pub(super) fn connecting(&mut self) {
        self.phase = Phase::Connecting;
    }

    /// The broker has accepted us and takes `receive_maximum` messages in flight.
    pub(super) fn connected(&mut self, receive_maximum: u16, chance: f64, now: Duration) {
        let window = self.limits.in_flight_max.min(receive_maximum).max(1);
        let rate = self.limits.links[self.link()].history_rate_max;
        let looking = if self.route == 0 && self.referred.is_none() {
            Looking::Never
        } else {
            Looking::From(now + spread(self.limits.fail_back, chance))
        };
        self.phase = Phase::Online {
            since: now,
            useful: false,
            window: usize::from(window),
            documents: 0,
            lanes: Lanes::new(window, rate, now),
            looking,
            leaving: None,
        };
        self.heard = now;
        self.paused_until = now;
    }

    /// There is no connection any more, or none was had. Everything in flight goes back to the journal; the next route
    /// is tried after a wait; `server` is another broker that this one has named.
    pub(super) fn lost(&mut self, server: Option<BrokerUrl>, chance: f64, now: Duration) {
        if let Phase::Online { since, useful, .. } = self.phase
            && (useful || now.saturating_sub(since) >= SETTLED_AFTER)
        {
            (self.failures, self.referrals) = (0, 0);
        }
        let was_referred = self.referred.take().is_some();
        if server.is_some() && self.referrals < REFERRALS_MAX {
            self.referrals += 1;
            self.referred = server;
        } else if !was_referred {
            self.route = (self.route + 1) % self.routes();
        }
        self.failures = self.failures.saturating_add(1);
        let routes = u32::try_from(self.routes()).unwrap_or(u32::MAX);
        let rounds = (self.failures - 1) / routes + 1;
        self.forget(now + backoff::wait(rounds, chance));
    }

    fn forget(&mut self, retry_at: Duration) {
        self.flights.clear();
        self.entries.clear();
        self.order.clear();
        self.phase = Phase::Offline { retry_at };
    }

    /// What came of a probe.
    pub(super) fn probed(&mut self, can_be_had: bool, chance: f64, now: Duration) {
        let (best, routes) = (if self.referred.is_some() { self.routes() } else { self.route }, self.routes());
        let fail_back = self.limits.fail_back;
        let Phase::Online { looking, leaving, .. } = &mut self.phase else { return };
        let Looking::At(place) = *looking else { return };
        *looking = if can_be_had {
            leaving.get_or_insert(Leaving { to: place, until: now + LEAVE_WITHIN });
            Looking::Never
        } else if place + 1 < best.min(routes) {
            Looking::At(place + 1)
        } else {
            Looking::From(now + spread(fail_back, chance))
        };
    }

    /// The route to be probed after the last one could not be had.
    pub(super) fn to_probe(&self) -> Option<Route> {
        match self.phase {
            Phase::Online { looking: Looking::At(place), .. } => Some(self.at(place)),
            _ => None,
        }
    }

    /// Connects anew by the same route once what is in flight is answered: the certificates have changed.
    pub(super) fn renew(&mut self, now: Duration) {
        let to = self.route;
        if let Phase::Online { leaving, .. } = &mut self.phase {
            leaving.get_or_insert(Leaving { to, until: now + LEAVE_WITHIN });
        }
    }

    /// Whether the session moves to another broker, and not to the same one anew.
    pub(super) fn leaves_for_another(&self) -> bool {
        matches!(self.phase, Phase::Online { leaving: Some(Leaving { to, .. }), .. } if to != self.route)
    }

    /// DISCONNECT was sent before a move.
    pub(super) fn left(&mut self, now: Duration) {
        if let Phase::Online { leaving: Some(Leaving { to, .. }), .. } = self.phase {
            self.route = to;
        }
        (self.failures, self.referred) = (0, None);
        self.forget(now);
    }

    /// Something was heard from the broker.
    pub(super) fn heard(&mut self, now: Duration) {
        self.heard = now;
    }

    /// How many entries the lane may lease now.
    pub(super) fn room(&mut self, lane: Lane, live_waits: bool, now: Duration) -> usize {
        let draining = self.drain_until.is_some();
        let link = self.link();
        let Phase::Online { lanes, leaving, window, documents, .. } = &mut self.phase else { return 0 };
        if now < self.paused_until || leaving.is_some() {
            return 0;
        }
        if lane == Lane::History && (draining || !self.budgets[link].allows(now)) {
            return 0;
        }
        let room = lanes.room(lane, live_waits, now).min(window.saturating_sub(*documents + lanes.in_flight()));
        self.unheard.room(lane, room, lanes.in_flight_of(lane), now)
    }

    /// Whether one of our documents may be sent now.
    pub(super) fn document_room(&self) -> bool {
        matches!(self.phase, Phase::Online { window, .. } if self.in_flight() < window)
    }

    /// One of our documents goes out under this packet id.
    pub(super) fn sent_document(&mut self, now: Duration) -> u16 {
        if let Phase::Online { documents, .. } = &mut self.phase {
            *documents += 1;
        }
        self.fly(Flight::Document, now)
    }

    /// An entry goes out in so many parts, each told with [`Self::sent_part`].
    pub(super) fn opened(&mut self, lease: L, lane: Lane, parts: usize) -> EntryKey {
        self.last_entry += 1;
        let open = Open { lease, lane, left: parts, refused: None, unheard: None, is_heard: false };
        self.entries.insert(self.last_entry, open);
        EntryKey(self.last_entry)
    }

    /// A part of an entry goes out under this packet id.
    pub(super) fn sent_part(&mut self, entry: EntryKey, bytes: usize, now: Duration) -> u16 {
        let link = self.link();
        let lane = self.entries.get(&entry.0).map_or(Lane::History, |open| open.lane);
        if lane == Lane::History {
            self.budgets[link].spend(bytes);
        }
        if let Phase::Online { lanes, .. } = &mut self.phase {
            lanes.sent(lane, bytes);
        }
        self.fly(Flight::Part { entry, bytes, sent: now }, now)
    }

    /// An entry goes out in one piece, under this packet id.
    #[cfg(test)]
    fn sent(&mut self, lease: L, lane: Lane, bytes: usize, now: Duration) -> u16 {
        let entry = self.opened(lease, lane, 1);
        self.sent_part(entry, bytes, now)
    }

    fn fly(&mut self, flight: Flight, now: Duration) -> u16 {
        if self.in_flight() == 0 {
            // Silence counts from the first message that waits for an answer.
            self.heard = now;
        }
        // At most 1,016 are in flight: a free one is near.
        let mut id = self.last_id;
        loop {
            id = id.checked_add(1).filter(|id| *id != SUBSCRIBE_ID).unwrap_or(1);
            if !self.flights.contains_key(&id) {
                break;
            }
        }
        self.last_id = id;
        self.flights.insert(id, flight);
        self.order.push_back((id, now));
        id
    }

    /// The broker has answered the message with this packet id. An answer to a message that we do not know of (late,
    /// repeated, invented) changes nothing.
    pub(super) fn answered(&mut self, id: u16, code: u8, now: Duration) -> Settled<L> {
        self.heard = now;
        let reason = Reason::of(code);
        let (entry, bytes, sent) = match self.flights.remove(&id) {
            None => return Settled::Nothing,
            Some(Flight::Document) => {
                if let Phase::Online { documents, .. } = &mut self.phase {
                    *documents = documents.saturating_sub(1);
                }
                return if reason.domain == FaultDomain::Nobody { Settled::Nothing } else { Settled::Document(reason) };
            }
            Some(Flight::Part { entry, bytes, sent }) => (entry, bytes, sent),
        };
        // A part flies for an entry that is open.
        let Some(open) = self.entries.get_mut(&entry.0) else { return Settled::Nothing };
        let lane = open.lane;
        open.left = open.left.saturating_sub(1);
        if reason.domain != FaultDomain::Nobody && open.refused.is_none_or(|worst| worst.domain != FaultDomain::Entry) {
            open.refused = Some(reason);
        }
        if reason.domain == FaultDomain::Nobody {
            let holds = self.unheard.answered(lane, code, now);
            if code == NO_MATCHING_SUBSCRIBERS {
                open.unheard = Some(holds);
            } else {
                open.is_heard = true;
            }
        }
        let done = open.left == 0;
        if let Phase::Online { lanes, .. } = &mut self.phase {
            lanes.settled(lane, bytes, now.saturating_sub(sent), now);
        }
        match reason.domain {
            FaultDomain::Nobody => {
                self.pause = PAUSE_FIRST;
                if let Phase::Online { useful, .. } = &mut self.phase {
                    *useful = true;
                }
            }
            FaultDomain::Entry => {}
            FaultDomain::Moment | FaultDomain::Setup => {
                // A whole window that is refused at once is one refusal.
                if now >= self.paused_until {
                    self.paused_until = now + self.pause;
                    self.pause = (2 * self.pause).min(PAUSE_MAX);
                }
            }
        }
        let done = if done { self.entries.remove(&entry.0) } else { None };
        match done {
            None => Settled::Nothing,
            Some(Open { lease, refused: None, unheard, is_heard, .. }) => match (unheard, is_heard) {
                (None, _) => Settled::Acknowledge(lease),
                (Some(false), _) => Settled::Unheard(lease),
                (Some(true), false) => Settled::Hold(lease),
                (Some(true), true) => Settled::HoldHeard(lease),
            },
            Some(Open { lease, refused: Some(reason), .. }) if reason.domain == FaultDomain::Entry => {
                Settled::Refuse(lease, reason)
            }
            Some(Open { lease, refused: Some(reason), .. }) => Settled::GiveBack(lease, reason),
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
        self.flights.len()
    }

    /// Bytes of history that the link in use may still carry today; `None` without a bound.
    pub(super) fn budget_left(&self) -> Option<u64> {
        self.budgets[self.link()].left()
    }
}

impl Flight {
    fn sent_at(&self) -> Option<Duration> {
        match self {
            Self::Document => None,
            Self::Part { sent, .. } => Some(*sent),
        }
    }
}

/// Three quarters of it to five quarters: a fleet does not come home in one moment either.
fn spread(time: Duration, chance: f64) -> Duration {
    time.mul_f64(0.75 + chance.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
