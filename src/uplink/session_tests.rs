use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use proptest::prelude::*;

use super::*;

const S: Duration = Duration::from_secs(1);

fn broker(name: &str) -> BrokerUrl {
    format!("mqtts://{name}:8883").parse().expect("a URL")
}

fn limits(brokers: &[&str], links: usize) -> Limits {
    let link = LinkLimits { history_rate_max: u64::MAX, history_bytes_per_day: None };
    Limits {
        brokers: brokers.iter().map(|name| broker(name)).collect(),
        links: vec![link; links],
        in_flight_max: 10,
        holds_unheard: false,
        fail_back: 300 * S,
    }
}

fn session(brokers: &[&str]) -> Session<u32> {
    Session::new(limits(brokers, 1), Duration::ZERO)
}

fn online() -> Session<u32> {
    let mut session = session(&["a", "b"]);
    session.connecting();
    session.connected(65_535, 0.5, Duration::ZERO);
    session
}

fn route(name: &str, link: usize) -> Route {
    Route { broker: broker(name), link }
}

#[test]
fn only_a_success_releases_an_entry() {
    for code in 0..=255_u8 {
        let mut session = online();
        let id = session.sent(7, Lane::Live, 1, Duration::ZERO);
        let settled = session.answered(id, code, Duration::ZERO);
        match code {
            0x95 | 0x99 => assert!(matches!(settled, Settled::Refuse(7, _)), "{code:x}"),
            1..=5 | 0x80.. => assert!(matches!(settled, Settled::GiveBack(7, _)), "{code:x}"),
            0x10 => assert_eq!(settled, Settled::Unheard(7)),
            _ => assert_eq!(settled, Settled::Acknowledge(7), "{code:x}"),
        }
    }
}

#[test]
fn an_entry_in_parts_is_released_by_its_last_answer_and_by_the_worst() {
    for (codes, expected) in [
        ([0, 0, 0x10], Settled::Unheard(7)),
        ([0x97, 0, 0], Settled::GiveBack(7, Reason::of(0x97))),
        ([0, 0x99, 0x97], Settled::Refuse(7, Reason::of(0x99))),
        ([0x97, 0x99, 0], Settled::Refuse(7, Reason::of(0x99))),
    ] {
        let mut session = online();
        let entry = session.opened(7, Lane::Live, 3);
        // The last one goes out after the first was answered, as through a window of two.
        let [first, second] = [0, 1].map(|_| session.sent_part(entry, 1, Duration::ZERO));
        assert_eq!(session.answered(first, codes[0], Duration::ZERO), Settled::Nothing);
        let third = session.sent_part(entry, 1, Duration::ZERO);
        assert_eq!(session.answered(third, codes[1], Duration::ZERO), Settled::Nothing);
        assert_eq!(session.answered(second, codes[2], Duration::ZERO), expected, "{codes:x?}");
        assert_eq!(session.in_flight(), 0);
    }
}

#[test]
fn a_refusal_pauses_longer_each_time_and_a_success_ends_the_patience() {
    let mut session = online();
    let refuse = |session: &mut Session<u32>, now| {
        let id = session.sent(1, Lane::Live, 1, now);
        session.answered(id, 0x97, now);
    };
    refuse(&mut session, Duration::ZERO);
    // Those of the same window are the same refusal.
    refuse(&mut session, Duration::ZERO);
    assert_eq!(session.room(Lane::Live, true, PAUSE_FIRST / 2), 0);
    assert_eq!(session.room(Lane::Live, true, PAUSE_FIRST), 10);
    refuse(&mut session, PAUSE_FIRST);
    assert_eq!(session.room(Lane::Live, true, 2 * PAUSE_FIRST), 0);
    let id = session.sent(1, Lane::Live, 1, S);
    session.answered(id, 0, S);
    refuse(&mut session, S);
    assert_eq!(session.room(Lane::Live, true, S + PAUSE_FIRST), 10);
}

#[test]
fn a_link_that_is_silent_with_something_in_flight_is_dropped() {
    let mut session = online();
    assert!(matches!(session.next(false, SILENCE_MAX * 3), Next::Wait(_)), "an idle link may be silent");
    session.sent(1, Lane::Live, 1, SILENCE_MAX * 3);
    assert!(matches!(session.next(false, (SILENCE_MAX * 4).saturating_sub(Duration::from_millis(1))), Next::Wait(_)));
    assert_eq!(session.next(false, SILENCE_MAX * 4), Next::Drop(Dead::Silent));
}

#[test]
fn an_answer_that_never_comes_on_a_living_link_ends_the_connection() {
    let mut session = online();
    let forgotten = session.sent(1, Lane::Live, 1, Duration::ZERO);
    for second in 1..20 {
        let id = session.sent(2, Lane::Live, 1, S * second);
        assert_ne!(id, forgotten);
        session.answered(id, 0, S * second);
        assert!(matches!(session.next(false, S * second), Next::Wait(_)), "after {second} s");
    }
    session.heard(20 * S);
    assert_eq!(session.next(false, 20 * S), Next::Drop(Dead::Unanswered));
}

#[test]
fn a_packet_id_is_not_given_again_before_its_answer() {
    let mut session = online();
    let held = session.sent(0, Lane::Live, 1, Duration::ZERO);
    for _ in 0..70_000 {
        let id = session.sent(1, Lane::Live, 1, Duration::ZERO);
        assert!(id != held && id != 0);
        assert_eq!(session.answered(id, 0, Duration::ZERO), Settled::Acknowledge(1));
    }
    assert_eq!(session.answered(held, 0, Duration::ZERO), Settled::Acknowledge(0));
}

#[test]
fn a_broker_that_fails_gives_way_to_the_next_and_waits_grow_with_each_round() {
    let mut session = session(&["a", "b"]);
    let mut now = Duration::ZERO;
    for (name, wait) in [("a", 3), ("b", 3), ("a", 6), ("b", 6), ("a", 8), ("b", 8)] {
        assert_eq!(session.next(false, now), Next::Connect(route(name, 0)));
        session.connecting();
        session.lost(None, 1.0, now);
        assert_eq!(session.next(false, now), Next::Wait(now + S * wait));
        now += S * wait;
    }
}

#[test]
fn a_broker_that_dies_in_mid_drain_is_left_within_the_first_step_of_the_back_off() {
    for chance in [0.0, 0.5, 1.0] {
        let mut session = online();
        for n in 0..10 {
            session.sent(n, Lane::History, 1, 60 * S);
        }
        session.lost(None, chance, 61 * S);
        let Next::Wait(until) = session.next(false, 61 * S) else { panic!("it waits") };
        assert!(until <= 61 * S + backoff::FIRST);
        assert_eq!(session.next(false, until), Next::Connect(route("b", 0)));
        assert_eq!(session.in_flight(), 0);
    }
}

#[test]
fn every_broker_is_tried_by_the_first_link_before_the_second_link() {
    let mut session: Session<u32> = Session::new(limits(&["a", "b"], 2), Duration::ZERO);
    let mut now = Duration::ZERO;
    for (name, link) in [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 0)] {
        assert_eq!(session.next(false, now), Next::Connect(route(name, link)));
        session.connecting();
        session.lost(None, 0.0, now);
        now += S;
    }
}

#[test]
fn a_better_route_is_moved_to_when_it_can_be_had_again_and_nothing_in_flight_is_lost() {
    let mut session: Session<u32> = Session::new(limits(&["a", "b"], 2), Duration::ZERO);
    for _ in 0..3 {
        session.connecting();
        session.lost(None, 0.0, Duration::ZERO);
    }
    // Now by (b, the second link).
    session.connecting();
    session.connected(10, 0.5, Duration::ZERO);
    assert_eq!(session.next(false, Duration::ZERO), Next::Wait(SILENCE_MAX.max(300 * S)));
    assert_eq!(session.next(false, 300 * S), Next::Probe(route("a", 0)));
    session.probed(false, 0.5, 300 * S);
    assert_eq!(session.to_probe(), Some(route("b", 0)));
    let id = session.sent(7, Lane::History, 1, 300 * S);
    session.probed(true, 0.5, 301 * S);
    assert_eq!(session.to_probe(), None);
    assert_eq!(session.room(Lane::Live, true, 301 * S), 0, "nothing new before a move");
    assert!(matches!(session.next(true, 301 * S), Next::Wait(_)));
    assert_eq!(session.answered(id, 0, 301 * S), Settled::Acknowledge(7));
    assert_eq!(session.next(true, 301 * S), Next::Leave);
    assert!(session.leaves_for_another());
    session.left(302 * S);
    assert_eq!(session.next(true, 302 * S), Next::Connect(route("b", 0)));
}

#[test]
fn what_no_probe_reaches_is_looked_for_again_later() {
    let mut session = session(&["a", "b"]);
    session.connecting();
    session.lost(None, 0.0, Duration::ZERO);
    session.connecting();
    session.connected(10, 0.5, S);
    assert_eq!(session.next(false, 301 * S), Next::Probe(route("a", 0)));
    session.probed(false, 0.5, 302 * S);
    assert_eq!(session.to_probe(), None);
    assert!(matches!(session.next(false, 601 * S), Next::Wait(_)));
    assert_eq!(session.next(false, 602 * S), Next::Probe(route("a", 0)));
}

#[test]
fn new_certificates_make_a_new_connection_by_the_same_route() {
    let mut session = online();
    session.sent(7, Lane::Live, 1, Duration::ZERO);
    session.renew(Duration::ZERO);
    assert!(matches!(session.next(false, S), Next::Wait(_)));
    assert_eq!(session.next(false, LEAVE_WITHIN), Next::Leave, "an answer that does not come holds nothing up");
    assert!(!session.leaves_for_another());
    session.left(LEAVE_WITHIN);
    assert_eq!(session.next(false, LEAVE_WITHIN), Next::Connect(route("a", 0)));
}

#[test]
fn another_server_is_followed_and_a_circle_of_them_is_left() {
    let mut session = session(&["a", "b"]);
    let mut tried = Vec::new();
    for _ in 0..6 {
        let Next::Connect(route) = session.next(false, S * 1_000) else { panic!("it connects") };
        tried.push(route.broker.endpoint.host);
        session.connecting();
        session.lost(Some(broker("c")), 0.0, Duration::ZERO);
    }
    assert_eq!(tried, ["a", "c", "c", "c", "a", "b"]);
}

#[test]
fn a_spent_budget_holds_history_back_and_live_data_goes_on() {
    let mut limits = limits(&["a"], 1);
    limits.links[0].history_bytes_per_day = Some(24_000);
    let mut session: Session<u32> = Session::new(limits, Duration::ZERO);
    session.connecting();
    session.connected(10, 0.5, Duration::ZERO);
    assert!(session.room(Lane::History, false, Duration::ZERO) > 0);
    session.sent(1, Lane::History, 1_200, Duration::ZERO);
    assert_eq!(session.room(Lane::History, false, S), 0);
    assert!(session.room(Lane::Live, true, S) > 0);
    assert!(session.room(Lane::History, false, 800 * S) > 0);
}

#[test]
fn draining_sends_what_is_live_and_ends_at_its_deadline() {
    let mut session = online();
    let id = session.sent(1, Lane::Live, 1, Duration::ZERO);
    session.drain(3 * S);
    assert_eq!(session.room(Lane::History, false, Duration::ZERO), 0);
    assert_eq!(session.next(false, Duration::ZERO), Next::Wait(3 * S));
    session.answered(id, 0, S);
    assert!(matches!(session.next(true, S), Next::Wait(_)));
    assert_eq!(session.next(false, S), Next::Disconnect);
    assert_eq!(session.next(true, 3 * S), Next::Disconnect);
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
    /// One of a lane, if there is room.
    Send(bool),
    Document,
    /// The n-th of what is in flight, in any order, or an id that nobody has.
    Answer(usize, u8),
    Repeat(u8),
    Lose,
    Refer,
    Renew,
    Probed(bool),
    Pass(u64),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        6 => any::<bool>().prop_map(Happens::Send),
        1 => Just(Happens::Document),
        6 => (0_usize..12, prop_oneof![3 => Just(0_u8), 1 => any::<u8>()]).prop_map(|(n, code)| Happens::Answer(n, code)),
        1 => any::<u8>().prop_map(Happens::Repeat),
        1 => Just(Happens::Lose),
        1 => Just(Happens::Refer),
        1 => Just(Happens::Renew),
        1 => any::<bool>().prop_map(Happens::Probed),
        3 => (0_u64..9_000).prop_map(Happens::Pass),
    ]
}

/// A session with a broker that loses, delays, repeats, reorders and invents answers, and a model of what is in flight.
struct World {
    session: Session<Tracked>,
    now: Duration,
    next_lease: u32,
    in_flight: BTreeMap<u16, Option<u32>>,
    answered: Vec<u16>,
    returned: Rc<RefCell<BTreeSet<u32>>>,
    released: BTreeSet<u32>,
    receive_maximum: u16,
}

impl World {
    fn answer(&mut self, id: u16, code: u8) -> Result<(), TestCaseError> {
        let expected = self.in_flight.remove(&id);
        self.answered.push(id);
        match self.session.answered(id, code, self.now) {
            Settled::Acknowledge(lease) | Settled::Unheard(lease) | Settled::Refuse(lease, _) => {
                prop_assert_eq!(expected, Some(Some(lease.0)), "the answer is to another message");
                prop_assert!(code < 0x80 || Reason::of(code).domain == FaultDomain::Entry);
                prop_assert!(self.released.insert(lease.0), "released twice");
                std::mem::forget(lease);
            }
            Settled::GiveBack(lease, _) | Settled::Hold(lease) | Settled::HoldHeard(lease) => {
                prop_assert_eq!(expected, Some(Some(lease.0)));
            }
            Settled::Document(_) => prop_assert_eq!(expected, Some(None)),
            Settled::Nothing => prop_assert!(matches!(expected, None | Some(None)), "an answer was ignored"),
        }
        Ok(())
    }

    fn lose(&mut self, server: Option<BrokerUrl>) {
        self.session.lost(server, 0.5, self.now);
        self.in_flight.clear();
    }

    fn step(&mut self, step: Happens) -> Result<(), TestCaseError> {
        match step {
            Happens::Send(live) => {
                let lane = if live { Lane::Live } else { Lane::History };
                if self.session.room(lane, false, self.now) > 0 {
                    let lease = Tracked(self.next_lease, Rc::clone(&self.returned));
                    let id = self.session.sent(lease, lane, 100, self.now);
                    prop_assert!(self.in_flight.insert(id, Some(self.next_lease)).is_none(), "an id twice");
                    self.next_lease += 1;
                }
            }
            Happens::Document => {
                if self.session.document_room() {
                    let id = self.session.sent_document(self.now);
                    prop_assert!(self.in_flight.insert(id, None).is_none(), "an id twice");
                }
            }
            Happens::Answer(n, code) => {
                let id = self.in_flight.keys().nth(n).copied().unwrap_or(60_000);
                self.answer(id, code)?;
            }
            Happens::Repeat(code) => {
                if let Some(id) = self.answered.last().copied().filter(|id| !self.in_flight.contains_key(id)) {
                    self.answer(id, code)?;
                }
            }
            Happens::Lose => self.lose(None),
            Happens::Refer => self.lose(Some(broker("c"))),
            Happens::Renew => self.session.renew(self.now),
            Happens::Probed(found) => self.session.probed(found, 0.5, self.now),
            Happens::Pass(ms) => self.now += Duration::from_millis(ms),
        }
        Ok(())
    }

    /// What the task would do now, until there is nothing to do but wait.
    fn act(&mut self) -> Result<(), TestCaseError> {
        for _ in 0..8 {
            match self.session.next(false, self.now) {
                Next::Connect(_) => {
                    self.session.connecting();
                    self.session.connected(self.receive_maximum, 0.5, self.now);
                }
                Next::Drop(_) => {
                    prop_assert!(!self.in_flight.is_empty(), "a connection was dropped with nothing in flight");
                    self.lose(None);
                }
                Next::Leave => {
                    self.session.left(self.now);
                    self.in_flight.clear();
                }
                Next::Probe(_) => {}
                Next::Wait(until) => {
                    prop_assert!(until > self.now, "a wait into the past");
                    return Ok(());
                }
                Next::Disconnect => return Err(TestCaseError::fail("nobody has told it to end")),
            }
        }
        Err(TestCaseError::fail("it never comes to rest"))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Acknowledgements lost, late, repeated, out of order, invented, with any reason code; connections lost, moved and
    /// renewed at any step.
    #[test]
    fn every_lease_is_acknowledged_refused_or_given_back_and_only_once(
        receive_maximum in 1_u16..12, steps in prop::collection::vec(happens(), 0..300),
    ) {
        let returned = Rc::new(RefCell::new(BTreeSet::new()));
        let mut world = World {
            session: Session::new(limits(&["a", "b"], 2), Duration::ZERO),
            now: Duration::ZERO,
            next_lease: 0,
            in_flight: BTreeMap::new(),
            answered: Vec::new(),
            returned: Rc::clone(&returned),
            released: BTreeSet::new(),
            receive_maximum,
        };
        for step in steps {
            world.act()?;
            world.step(step)?;
            prop_assert_eq!(world.session.in_flight(), world.in_flight.len());
            prop_assert!(world.session.in_flight() <= usize::from(receive_maximum.min(10)), "the receive maximum is kept");
        }
        world.session.lost(None, 0.5, world.now);
        prop_assert_eq!(world.session.in_flight(), 0);
        let returned = returned.borrow();
        prop_assert!(returned.is_disjoint(&world.released));
        prop_assert_eq!(returned.len() + world.released.len(), world.next_lease as usize, "none is forgotten");
    }
}
