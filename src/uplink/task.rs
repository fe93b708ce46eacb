//! Carries leases to the connection and answers back to the journal.

mod files;
mod telling;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::client::{Accepted, ConnectOptions, Connection, ConnectionEvent, Document, Loss, LossKind, probe, quoted};
use super::reason::Reason;
use super::session::{Dead, EntryKey, Limits, LinkLimits, Next, Route, SUBSCRIBE_ID, Session, Settled};
use super::settings::Settings;
use super::twin::{End, Twin};
use super::watch::{Lately, ToldTroubles};
use super::wire::{Batch, Presence, catalog, split, state};
use crate::health::{BrokerLimits, Heartbeat, StatusBoard, UplinkState};
use crate::journal::{JournalHandle, Lane, Lease, Leasing, Progress};
use crate::measure::{Epoch, EventKind, Notice, Stamp};
use crate::tls::{Certificates, Fingerprint};

/// The longest sleep between two signs of life.
const BEAT: Duration = Duration::from_secs(5);
/// What the last PUBACK and the DISCONNECT may take.
const DISCONNECT_WITHIN: Duration = Duration::from_millis(500);
/// Entries leased in one go: keeps the loop responsive.
const LEASE_AT_ONCE: usize = 32;
/// So long the journal is waited for with nothing else done: a sync of slow flash. Beyond, its disk hangs, and its answer
/// is waited for beside everything else.
const PATIENCE: Duration = Duration::from_millis(250);

/// What the uplink needs of its surroundings.
#[derive(Debug)]
pub struct Surroundings {
    /// Where it is told how the uplink is.
    pub facts: Arc<StatusBoard>,
    /// Its signs of life.
    pub heartbeat: Heartbeat,
    /// What a person or an audit must be able to find later. One that does not fit into the queue is in the log only.
    pub notices: mpsc::Sender<Notice>,
}

/// Delivers what the journal holds until `stop` turns true, then drains for at most [`Settings::drain`].
pub async fn run(
    settings: Settings,
    journal: JournalHandle,
    surroundings: Surroundings,
    clock: impl Fn() -> Stamp + Send,
    mut stop: watch::Receiver<bool>,
) {
    let start = Instant::now();
    let mut progress = journal.progress();
    let heartbeat = surroundings.heartbeat.clone();
    let mut driver = Driver::new(settings, journal, surroundings, start);
    loop {
        let stamp = clock();
        heartbeat.beat(stamp.mono);
        let draining = *stop.borrow();
        if draining {
            // The first deadline stays.
            driver.session.drain(start.elapsed() + driver.settings.drain);
        }
        driver.look_at_files(stamp);
        let current = *progress.borrow_and_update();
        driver.follow(current.epoch);
        let waiting = driver.fill(current).await;
        let until = match driver.session.next(waiting, start.elapsed()) {
            Next::Connect(route) => {
                driver.connect(route, stamp);
                continue;
            }
            Next::Probe(route) => {
                driver.probe(route);
                continue;
            }
            Next::Drop(dead) => {
                driver.lost(dead.into(), stamp);
                continue;
            }
            Next::Leave => {
                driver.leave(stamp).await;
                continue;
            }
            Next::Disconnect => {
                driver.end(stamp).await;
                return;
            }
            Next::Wait(until) => until.min(start.elapsed() + BEAT),
        };
        tokio::select! {
            happened = happened(&mut driver.connection) => driver.take(happened, clock()),
            found = found(&mut driver.probing) => driver.probed(found),
            leases = leased(&mut driver.leasing) => driver.leased(leases),
            changed = progress.changed() => if changed.is_err() {
                // The journal has ended: there is nothing more to deliver.
                driver.end(clock()).await;
                return;
            },
            () = sleep_until(start + until) => {}
            () = told_to(&mut stop), if !draining => {}
        }
    }
}

/// What happens on the connection; nothing ever if there is none.
async fn happened(connection: &mut Option<Connection>) -> ConnectionEvent {
    match connection {
        Some(connection) => connection.happened().await,
        None => match std::future::pending::<Infallible>().await {},
    }
}

/// Whether the probed route can be had; nothing ever if none is being probed.
async fn found(probing: &mut Option<JoinHandle<Result<(), Loss>>>) -> bool {
    match probing {
        Some(probing) => matches!(probing.await, Ok(Ok(()))),
        None => match std::future::pending::<Infallible>().await {},
    }
}

/// What a journal that hangs has leased after all; nothing ever if nothing was asked for.
async fn leased(leasing: &mut Option<Asked>) -> Vec<Lease> {
    match leasing {
        Some(asked) => (&mut asked.leasing).await,
        None => match std::future::pending::<Infallible>().await {},
    }
}

/// Until `stop` turns true, or nobody is left who could turn it.
async fn told_to(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

impl From<Dead> for Loss {
    fn from(dead: Dead) -> Self {
        match dead {
            Dead::Silent => Self::new(
                "nothing was heard for 10 s with messages in flight: the link is dead",
                "check the link; the gateway connects anew by itself",
            ),
            Dead::Unanswered => Self::new(
                "a message was not answered for 20 s, though the broker is there: it is sent again",
                "look into the broker's log: it must acknowledge every message of QoS 1",
            ),
        }
    }
}

/// Leases that were asked of a journal that hangs: for a lane, on the so-many-th connection.
struct Asked {
    lane: Lane,
    connection: u64,
    leasing: Leasing,
}

/// A message that waits for room.
enum Waiting {
    Document(Document),
    Part { entry: EntryKey, lane: Lane, batch: Batch },
}

struct Driver {
    session: Session<Lease>,
    connection: Option<Connection>,
    /// What the broker has granted; what is not known yet is the least.
    accepted: Option<Accepted>,
    /// Messages that wait for room: our own, and parts of entries.
    outbox: VecDeque<Waiting>,
    route: Option<Route>,
    probing: Option<JoinHandle<Result<(), Loss>>>,
    /// Asked of a journal that hangs; nothing more is asked before it answers.
    leasing: Option<Asked>,
    /// How many connections there were so far.
    connections: u64,
    /// A broker that does not retain refused our will for it.
    will_retained: bool,
    /// The life that the will of this connection names.
    will_of: Option<Epoch>,
    files: Fingerprint,
    looked: Option<Duration>,
    certificates: Certificates,
    told: ToldTroubles,
    twin: Twin,
    twin_told: bool,
    /// Messages that nobody asked for.
    unasked: Lately,
    /// Of each lane whether nobody subscribed to the last entry of it.
    unheard: [bool; 2],
    /// The last refusal on this connection: some brokers cut it then without another word.
    refusal: Option<Reason>,
    settings: Settings,
    journal: JournalHandle,
    facts: Arc<StatusBoard>,
    notices: mpsc::Sender<Notice>,
    start: Instant,
}

impl Driver {
    fn new(settings: Settings, journal: JournalHandle, surroundings: Surroundings, start: Instant) -> Self {
        let links = settings.links.iter().map(|link| LinkLimits {
            history_rate_max: link.history_rate_max,
            history_bytes_per_day: link.history_bytes_per_day,
        });
        let limits = Limits {
            brokers: settings.brokers.clone(),
            links: links.collect(),
            in_flight_max: settings.in_flight_max,
            holds_unheard: settings.holds_unheard,
            fail_back: settings.fail_back,
        };
        let files = Fingerprint::of(settings.files());
        let twin = Twin::new(settings.client_id.clone(), format!("{}/state", settings.prefix), settings.birth.epoch);
        let Surroundings { facts, heartbeat: _, notices } = surroundings;
        // Another plan's uplink may have left it.
        facts.uplink(|facts| (facts.no_subscriber, facts.unasked_lately) = (None, 0));
        Self {
            session: Session::new(limits, Duration::ZERO),
            connection: None,
            accepted: None,
            outbox: VecDeque::new(),
            route: None,
            probing: None,
            leasing: None,
            connections: 0,
            will_retained: true,
            will_of: None,
            files,
            looked: None,
            certificates: Certificates::default(),
            told: ToldTroubles::default(),
            twin,
            twin_told: false,
            unasked: Lately::default(),
            unheard: [false; 2],
            refusal: None,
            settings,
            journal,
            facts,
            notices,
            start,
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn topic(&self, name: &str) -> String {
        format!("{}/{name}", self.settings.prefix)
    }

    fn state(&self, presence: Presence, since: Stamp) -> Document {
        let birth = &self.settings.birth;
        Document { topic: self.topic("state"), payload: state(presence, birth.epoch, &birth.version, since) }
    }

    fn connect(&mut self, route: Route, stamp: Stamp) {
        let link = &self.settings.links[route.link];
        let interface = link.interface.clone();
        self.facts.uplink(|facts| {
            facts.state = UplinkState::Connecting;
            facts.broker = Some(route.broker.to_string());
            facts.interface.clone_from(&interface);
            facts.granted = None;
        });
        self.session.connecting();
        self.files = Fingerprint::of(self.settings.files());
        self.will_of = Some(self.settings.birth.epoch);
        let Document { topic, payload } = self.state(Presence::Offline, self.settings.birth.since);
        let options = ConnectOptions {
            broker: &route.broker,
            interface: interface.as_deref(),
            tls: self.settings.tls.as_ref(),
            login: self.settings.login.as_ref(),
            client_id: &self.settings.client_id,
            keep_alive: self.settings.keep_alive,
            in_flight_max: self.settings.in_flight_max,
            will: Some((topic, payload)),
            will_retained: self.will_retained,
            session_kept: None,
        };
        let opened = Connection::open(&options);
        self.route = Some(route);
        match opened {
            Ok(connection) => self.connection = Some(connection),
            Err(loss) => self.lost(loss, stamp),
        }
    }

    /// The journal may go on in another life. The documents at the broker, and the will, are of that: they are made anew.
    fn follow(&mut self, epoch: Option<Epoch>) {
        if let Some(epoch) = epoch.filter(|epoch| *epoch != self.settings.birth.epoch) {
            tracing::info!(%epoch, "the journal goes on in another life, and so does the uplink");
            self.settings.birth.epoch = epoch;
            self.twin.live_on_as(epoch);
        }
        if self.session.is_online() && self.will_of != Some(self.settings.birth.epoch) {
            self.session.renew(self.now());
        }
    }

    fn probe(&mut self, route: Route) {
        let interface = self.settings.links[route.link].interface.clone();
        self.probing = Some(tokio::spawn(probe(route.broker, interface, self.settings.tls.clone())));
    }

    fn probed(&mut self, can_be_had: bool) {
        self.probing = None;
        let now = self.now();
        self.session.probed(can_be_had, chance(), now);
        if let Some(next) = self.session.to_probe() {
            self.probe(next);
        }
    }

    fn take(&mut self, happened: ConnectionEvent, stamp: Stamp) {
        let now = self.now();
        match happened {
            ConnectionEvent::Connected(accepted) => self.connected(*accepted, stamp),
            ConnectionEvent::Answered(id, code, why) => {
                let settled = self.session.answered(id, code, now);
                self.settle(settled, why.as_deref());
            }
            ConnectionEvent::Unasked(messages) => {
                self.session.heard(now);
                self.unasked.add(messages, now);
                self.facts.uplink(|facts| facts.unasked += messages);
                self.look_for_unasked();
            }
            ConnectionEvent::Message(publish) => {
                self.session.heard(now);
                self.twin.heard(&publish.topic, &publish.payload, publish.retain, now);
                self.look_for_twin();
            }
            ConnectionEvent::Subscribed(code) => {
                self.session.heard(now);
                self.twin.subscribed(code);
            }
            ConnectionEvent::Heard => self.session.heard(now),
            ConnectionEvent::Lost(loss) => self.lost(loss, stamp),
        }
        let in_flight = u64::try_from(self.session.in_flight()).unwrap_or(u64::MAX);
        let left = self.session.budget_left();
        self.facts.uplink(|facts| (facts.in_flight, facts.history_bytes_left_today) = (in_flight, left));
    }

    fn connected(&mut self, accepted: Accepted, since: Stamp) {
        // From here on what is new is live; all else is history.
        self.journal.go_live();
        self.connections += 1;
        let birth = &self.settings.birth;
        let bytes_max = packet_bytes_max(Some(&accepted));
        self.twin.comes_online(since);
        let mut documents = vec![self.state(Presence::Online, since)];
        // The words of a large depot may be more than the broker takes; the names of its devices say more than nothing.
        let catalogs =
            [true, false].map(|points| Document { topic: self.topic("catalog"), payload: catalog(birth, points) });
        documents.extend(catalogs.into_iter().find(|catalog| catalog.packet_bytes() <= bytes_max));
        let expected = documents.len();
        documents.retain(|document| document.packet_bytes() <= bytes_max);
        let all = expected == 2 && documents.len() == 2;
        self.outbox = documents.into_iter().map(Waiting::Document).collect();
        let now = self.now();
        self.session.connected(accepted.receive_maximum, chance(), now);
        let broker = self.route.as_ref().map_or_else(String::new, |route| route.broker.to_string());
        // Before our own state: what is there is what was there.
        if let (Some(connection), Some(topic)) = (&self.connection, self.twin.connected(&broker, now)) {
            let _ = connection.subscribe_others(SUBSCRIBE_ID, &topic);
        }
        let Accepted { receive_maximum, packet_bytes_max, topic_alias_max, retains, keep_alive, .. } = &accepted;
        tracing::info!(broker, receive_maximum, ?packet_bytes_max, topic_alias_max, retains, ?keep_alive, "online");
        if let Some(id) = &accepted.assigned_client_id {
            tracing::warn!(broker, id, "the broker has given this gateway another client id than [uplink] client_id");
        }
        self.facts.uplink(|facts| {
            facts.state = UplinkState::Online;
            facts.connections += 1;
            facts.granted = Some(BrokerLimits {
                receive_maximum: accepted.receive_maximum,
                packet_bytes_max: accepted.packet_bytes_max,
                topic_alias_max: accepted.topic_alias_max,
                retains: accepted.retains,
                keep_alive_s: accepted.keep_alive.as_secs(),
                client_id: accepted.assigned_client_id.clone(),
                session_expiry_s: accepted.session_expiry_s,
            });
        });
        self.accepted = Some(accepted);
        self.told.forget();
        self.refusal = None;
        self.notice(EventKind::UplinkOnline(broker.into()));
        if !all {
            let what = format!("the broker takes packets of {bytes_max} bytes: `state` or `catalog` is larger");
            self.trouble(what, Reason::of(0x95).remedy.to_owned());
        }
    }

    /// Sends what there is room for: our own documents, then entries by lane; answers whether live data still waits.
    async fn fill(&mut self, progress: Progress) -> bool {
        self.empty_outbox();
        let mut live_waits = progress.live_waiting > 0;
        if self.leasing.is_some() {
            return live_waits;
        }
        for (lane, waiting) in [(Lane::Live, progress.live_waiting), (Lane::History, progress.history_waiting)] {
            if waiting == 0 {
                continue;
            }
            let mut room = self.session.room(lane, live_waits, self.now());
            while room > 0 && self.outbox.is_empty() {
                let mut leasing = self.journal.lease(lane, room.min(LEASE_AT_ONCE));
                let Ok(leases) = timeout(PATIENCE, &mut leasing).await else {
                    self.leasing = Some(Asked { lane, connection: self.connections, leasing });
                    return live_waits;
                };
                if leases.is_empty() {
                    if lane == Lane::Live {
                        live_waits = false;
                    }
                    break;
                }
                for lease in leases {
                    self.send(lease, lane);
                }
                room = self.session.room(lane, live_waits, self.now());
            }
        }
        live_waits
    }

    /// Sends what a journal that had hung has leased. Meanwhile the connection may have ended: what there is no room for
    /// now goes back. So does all of it if there is another connection: what was live on the one before is history.
    fn leased(&mut self, leases: Vec<Lease>) {
        let Some(Asked { lane, connection, .. }) = self.leasing.take() else { return };
        if connection != self.connections {
            return;
        }
        for lease in leases {
            if self.session.room(lane, lane == Lane::Live, self.now()) > 0 {
                self.send(lease, lane);
            }
        }
    }

    /// Sends what waits, as far as the broker takes it now. A queue that is full here is a connection that has just
    /// ended: its leases go back with it.
    fn empty_outbox(&mut self) {
        while self.session.document_room()
            && let Some(waiting) = self.outbox.pop_front()
        {
            let now = self.now();
            let Some(connection) = &self.connection else { return };
            match waiting {
                Waiting::Document(document) => {
                    let retain = self.accepted.as_ref().is_none_or(|accepted| accepted.retains);
                    let id = self.session.sent_document(now);
                    let _ = connection.publish_document(id, document, retain);
                }
                Waiting::Part { entry, lane, batch } => {
                    let alias = alias(lane, self.accepted.as_ref().map_or(0, |accepted| accepted.topic_alias_max));
                    let bytes = batch.packet_bytes();
                    let id = self.session.sent_part(entry, bytes, now);
                    let _ = connection.publish(id, batch, alias);
                    self.lane_facts(lane, |facts| facts.bytes += u64::try_from(bytes).unwrap_or(u64::MAX));
                }
            }
        }
    }

    fn send(&mut self, lease: Lease, lane: Lane) {
        let batch = Batch::new(lease.entry(), lane, &self.settings.prefix);
        let bytes_max = packet_bytes_max(self.accepted.as_ref());
        let parts = match split(batch, bytes_max) {
            Ok(parts) => parts,
            Err(whole) => {
                let reason = Reason::of(0x95);
                let bytes = whole.packet_bytes();
                let what = format!("an entry of {bytes} bytes has a field for which {bytes_max} are too few: {reason}");
                self.trouble(what, reason.remedy.to_owned());
                self.lane_facts(lane, |facts| facts.refused += 1);
                lease.refuse(reason.code);
                return;
            }
        };
        let entry = self.session.opened(lease, lane, parts.len());
        self.outbox.extend(parts.into_iter().map(|batch| Waiting::Part { entry, lane, batch }));
        self.lane_facts(lane, |facts| facts.published += 1);
        self.empty_outbox();
    }

    fn settle(&mut self, settled: Settled<Lease>, why: Option<&str>) {
        self.note_this_boot(&settled);
        if let Settled::Document(reason) | Settled::GiveBack(_, reason) | Settled::Refuse(_, reason) = &settled {
            self.refusal = Some(*reason);
        }
        match settled {
            Settled::Nothing => {}
            Settled::Document(reason) => {
                let what = format!("the broker refuses `state` or `catalog`: {reason}{}", quoted(why));
                self.trouble(what, reason.remedy.to_owned());
            }
            Settled::Acknowledge(lease) => {
                self.taken(lease.lane());
                self.lane_facts(lease.lane(), |facts| facts.acknowledged += 1);
                self.note_subscriber(lease.lane(), true);
                lease.acknowledge();
            }
            Settled::Unheard(lease) => {
                self.taken(lease.lane());
                self.lane_facts(lease.lane(), |facts| {
                    facts.acknowledged += 1;
                    facts.unheard += 1;
                });
                self.note_subscriber(lease.lane(), false);
                lease.acknowledge();
            }
            Settled::Hold(lease) => {
                self.taken(lease.lane());
                self.lane_facts(lease.lane(), |facts| {
                    facts.given_back += 1;
                    facts.unheard += 1;
                });
                self.note_subscriber(lease.lane(), false);
                lease.hold();
            }
            Settled::HoldHeard(lease) => {
                self.taken(lease.lane());
                self.lane_facts(lease.lane(), |facts| facts.given_back += 1);
                drop(lease);
            }
            Settled::GiveBack(lease, reason) => {
                self.lane_facts(lease.lane(), |facts| facts.given_back += 1);
                let what = format!("the broker does not take an entry now: {reason}{}", quoted(why));
                self.not_taken(lease.lane(), what, reason.remedy.to_owned());
                drop(lease);
            }
            Settled::Refuse(lease, reason) => {
                self.lane_facts(lease.lane(), |facts| facts.refused += 1);
                let what = format!("the broker refuses an entry for good: {reason}{}", quoted(why));
                tracing::debug!(seq = lease.entry().identity.seq.0, "{what}");
                self.not_taken(lease.lane(), what, reason.remedy.to_owned());
                lease.refuse(reason.code);
            }
        }
    }

    fn lost(&mut self, mut loss: Loss, stamp: Stamp) {
        let was_online = self.session.is_online();
        let end = match (loss.code, loss.kind) {
            (Some(0x8e), _) => End::TakenOver,
            (None, LossKind::Closed) => End::Closed,
            _ => End::Other,
        };
        self.twin.lost(end, self.now());
        self.forget_subscribers();
        (self.connection, self.accepted) = (None, None);
        self.outbox.clear();
        self.stop_probing();
        // The broker's words about a certificate are few; what we see in ours is more.
        if let Some(problem) = self.own_problem(stamp)
            && loss.code.is_none()
            && self.route.as_ref().is_some_and(|route| route.broker.tls)
        {
            loss.remedy = format!("{}; {problem}", loss.remedy);
        }
        if let Some(reason) = self.refusal.take()
            && loss.code.is_none()
        {
            loss.what = format!("{}, after it had answered {reason}", loss.what);
            loss.remedy = reason.remedy.to_owned();
        }
        // Asked for by 0x9A at a CONNECT: the will is all that was to be retained by then.
        self.will_retained &= was_online || loss.code != Some(0x9a);
        let server = self.route.as_ref().zip(loss.server.as_deref());
        let follows = matches!(loss.code, Some(0x9c | 0x9d));
        let server = server.filter(|_| follows).and_then(|(route, server)| route.broker.referred(server));
        let now = self.now();
        self.session.lost(server, chance(), now);
        self.trouble(loss.what, loss.remedy);
        self.facts.uplink(|facts| {
            facts.state = UplinkState::Offline;
            facts.in_flight = 0;
            facts.granted = None;
            facts.disconnections += u64::from(was_online);
        });
        self.look_for_twin();
    }

    fn stop_probing(&mut self) {
        if let Some(probing) = self.probing.take() {
            probing.abort();
        }
    }

    /// Ends a connection in order, to make another one.
    async fn leave(&mut self, now: Stamp) {
        let offline = self.session.leaves_for_another().then(|| self.state(Presence::Offline, now));
        tracing::info!(other_broker = offline.is_some(), "leaving the broker in order, to connect anew");
        self.farewell(offline).await;
        self.stop_probing();
        self.twin.left();
        self.forget_subscribers();
        self.outbox.clear();
        self.accepted = None;
        let now = self.now();
        self.session.left(now);
        self.facts.uplink(|facts| (facts.state, facts.in_flight) = (UplinkState::Offline, 0));
    }

    /// Says "offline" and DISCONNECT, if there is anybody to say it to; for good.
    async fn end(&mut self, now: Stamp) {
        self.facts.uplink(|facts| facts.state = UplinkState::Draining);
        self.stop_probing();
        let offline = self.state(Presence::Offline, now);
        self.farewell(Some(offline)).await;
        self.forget_subscribers();
        self.facts.uplink(|facts| facts.state = UplinkState::Offline);
    }

    async fn farewell(&mut self, offline: Option<Document>) {
        let online = self.session.is_online();
        let Some(mut connection) = self.connection.take().filter(|_| online) else { return };
        let fits = |offline: &Document| offline.packet_bytes() <= packet_bytes_max(self.accepted.as_ref());
        let mut offline = offline.filter(fits);
        let retain = self.accepted.as_ref().is_none_or(|accepted| accepted.retains);
        let last = async {
            loop {
                if self.session.document_room()
                    && let Some(document) = offline.take()
                {
                    let id = self.session.sent_document(self.start.elapsed());
                    let _ = connection.publish_document(id, document, retain);
                }
                if self.session.in_flight() == 0 && offline.is_none() {
                    break;
                }
                match connection.happened().await {
                    ConnectionEvent::Answered(id, code, why) => {
                        let settled = self.session.answered(id, code, self.start.elapsed());
                        self.settle(settled, why.as_deref());
                    }
                    ConnectionEvent::Lost(_) => return,
                    ConnectionEvent::Connected(_)
                    | ConnectionEvent::Message(_)
                    | ConnectionEvent::Unasked(_)
                    | ConnectionEvent::Subscribed(_)
                    | ConnectionEvent::Heard => {}
                }
            }
            if connection.disconnect().is_ok() {
                while !matches!(connection.happened().await, ConnectionEvent::Lost(_)) {}
            }
        };
        // A broker that does not answer now has the will.
        let _ = timeout(DISCONNECT_WITHIN, last).await;
    }
}

fn packet_bytes_max(accepted: Option<&Accepted>) -> usize {
    let granted = accepted.and_then(|accepted| accepted.packet_bytes_max);
    granted.and_then(|max| usize::try_from(max).ok()).unwrap_or(usize::MAX)
}

/// The number of a lane's topic, if the broker takes so many.
fn alias(lane: Lane, max: u16) -> Option<u16> {
    let number = match lane {
        Lane::Live => 1,
        Lane::History => 2,
    };
    (number <= max).then_some(number)
}

/// Uniform in 0..=1, different in every process and at every call.
pub(super) fn chance() -> f64 {
    let bits = RandomState::new().hash_one(0_u8) >> 11;
    #[allow(clippy::cast_precision_loss, reason = "53 bits")]
    let chance = bits as f64 / (1_u64 << 53) as f64;
    chance
}

#[cfg(test)]
#[path = "task_tests.rs"]
mod tests;
