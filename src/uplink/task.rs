//! Carries leases to the connection and answers back to the journal.

use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::mqtt::{Accepted, Connection, Dial, Happened, Loss};
use super::reason::Reason;
use super::session::{Limits, Next, Session, Settled};
use super::settings::Settings;
use super::wire::{Batch, Presence, catalog, state};
use crate::health::{BrokerTrouble, Facts, LaneFacts, Pulse, UplinkState};
use crate::journal::{JournalHandle, Lane, Lease, Tide};
use crate::measure::Stamp;

/// The longest sleep between two signs of life.
const BEAT: Duration = Duration::from_secs(5);
/// What the last PUBACK and the DISCONNECT may take.
const GOODBYE: Duration = Duration::from_millis(500);
/// Entries leased in one go: keeps the loop responsive.
const LEASE_AT_ONCE: usize = 32;

/// Delivers what the journal holds until `stop` turns true, then drains for at most [`Settings::drain`].
pub async fn run(
    settings: Settings,
    journal: JournalHandle,
    facts: Arc<Facts>,
    pulse: Pulse,
    clock: impl Fn() -> Stamp + Send,
    mut stop: watch::Receiver<bool>,
) {
    let limits = Limits {
        brokers: settings.brokers.len(),
        in_flight_max: settings.in_flight_max,
        history_rate_max: settings.history_rate_max,
    };
    let start = Instant::now();
    let mut tide = journal.tide();
    let mut desk = Desk {
        session: Session::new(limits, Duration::ZERO),
        connection: None,
        packet_bytes_max: usize::MAX,
        broker: 0,
        settings,
        journal,
        facts,
        start,
    };
    loop {
        pulse.beat(clock().mono);
        let draining = *stop.borrow();
        if draining {
            // The first deadline stays.
            desk.session.drain(start.elapsed() + desk.settings.drain);
        }
        let current = *tide.borrow_and_update();
        let waiting = desk.fill(current).await;
        let until = match desk.session.next(waiting, start.elapsed()) {
            Next::Connect(broker) => {
                desk.dial(broker);
                continue;
            }
            Next::Drop => {
                desk.lost(&Loss {
                    what: "nothing was heard for 10 s with messages in flight: the link is dead".to_owned(),
                    remedy: "check the link; the gateway connects anew by itself".to_owned(),
                });
                continue;
            }
            Next::Goodbye => {
                desk.goodbye(clock()).await;
                return;
            }
            Next::Wait(until) => until.min(start.elapsed() + BEAT),
        };
        tokio::select! {
            happened = happened(&mut desk.connection) => desk.take(happened, &clock).await,
            changed = tide.changed() => if changed.is_err() {
                // The journal has ended: there is nothing more to deliver.
                desk.goodbye(clock()).await;
                return;
            },
            () = sleep_until(start + until) => {}
            () = told_to(&mut stop), if !draining => {}
        }
    }
}

/// What happens on the connection; nothing ever if there is none.
async fn happened(connection: &mut Option<Connection>) -> Happened {
    match connection {
        Some(connection) => connection.happened().await,
        None => match std::future::pending::<Infallible>().await {},
    }
}

/// Until `stop` turns true, or nobody is left who could turn it.
async fn told_to(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

struct Desk {
    session: Session<Lease>,
    connection: Option<Connection>,
    packet_bytes_max: usize,
    broker: usize,
    settings: Settings,
    journal: JournalHandle,
    facts: Arc<Facts>,
    start: Instant,
}

impl Desk {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn topic(&self, name: &str) -> String {
        format!("{}/{name}", self.settings.prefix)
    }

    fn state(&self, presence: Presence, since: Stamp) -> String {
        state(presence, self.settings.birth.epoch, &self.settings.birth.version, since)
    }

    fn dial(&mut self, broker: usize) {
        self.broker = broker;
        let address = self.settings.brokers[broker].clone();
        self.facts.uplink(|facts| {
            facts.state = UplinkState::Connecting;
            facts.broker = Some(address.to_string());
        });
        self.session.connecting();
        let dial = Dial {
            broker: &address,
            tls: self.settings.tls.as_ref(),
            client_id: &self.settings.client_id,
            keep_alive: self.settings.keep_alive,
            in_flight_max: self.settings.in_flight_max,
            will: Some((self.topic("state"), self.state(Presence::Offline, self.settings.birth.since))),
            session_kept: None,
        };
        match Connection::dial(&dial) {
            Ok(connection) => self.connection = Some(connection),
            Err(loss) => self.lost(&loss),
        }
    }

    async fn take(&mut self, happened: Happened, clock: &(impl Fn() -> Stamp + Send)) {
        let now = self.now();
        match happened {
            Happened::Connected(accepted) => self.connected(accepted, clock()).await,
            Happened::Numbered(id) => self.session.numbered(id),
            Happened::Answered(id, code) => {
                let settled = self.session.answered(id, code, now);
                self.settle(settled);
            }
            Happened::Message(_) | Happened::Heard => self.session.heard(now),
            Happened::Lost(loss) => self.lost(&loss),
        }
        let in_flight = u64::try_from(self.session.in_flight()).unwrap_or(u64::MAX);
        self.facts.uplink(|facts| facts.in_flight = in_flight);
    }

    async fn connected(&mut self, accepted: Accepted, since: Stamp) {
        self.packet_bytes_max =
            accepted.packet_bytes_max.and_then(|max| usize::try_from(max).ok()).unwrap_or(usize::MAX);
        // From here on what is new is live; all else is history.
        self.journal.go_live().await;
        let birth = &self.settings.birth;
        let documents = [
            (self.topic("state"), self.state(Presence::Online, since)),
            (self.topic("catalog"), catalog(&birth.gateway, &birth.site, &birth.version, birth.window, &birth.devices)),
        ];
        let now = self.now();
        self.session.connected(accepted.receive_maximum, now);
        for (topic, document) in documents {
            if let Some(connection) = &self.connection
                && connection.publish_document(topic, document).is_ok()
            {
                self.session.sent_document();
            }
        }
        let broker = self.settings.brokers[self.broker].to_string();
        tracing::info!(broker, receive_maximum = accepted.receive_maximum, "online");
        self.facts.uplink(|facts| {
            facts.state = UplinkState::Online;
            facts.connections += 1;
        });
    }

    /// Leases and sends what there is room for; answers whether live data still waits.
    async fn fill(&mut self, tide: Tide) -> bool {
        let mut live_waits = tide.live_waiting > 0;
        for (lane, waiting) in [(Lane::Live, tide.live_waiting), (Lane::History, tide.history_waiting)] {
            if waiting == 0 {
                continue;
            }
            let mut room = self.session.room(lane, live_waits, self.now());
            while room > 0 {
                let leases = self.journal.lease(lane, room.min(LEASE_AT_ONCE)).await;
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

    fn send(&mut self, lease: Lease, lane: Lane) {
        let batch = Batch::new(lease.entry(), lane, &self.settings.prefix);
        let bytes = batch.packet_bytes();
        if bytes > self.packet_bytes_max {
            let reason = Reason::of(0x95);
            let what = format!("an entry of {bytes} bytes; the broker takes {}: {reason}", self.packet_bytes_max);
            self.trouble(what, reason.remedy.to_owned());
            self.lane_facts(lane, |facts| facts.refused += 1);
            lease.refuse(reason.code);
            return;
        }
        let Some(connection) = &self.connection else { return };
        if connection.publish(batch).is_ok() {
            let now = self.now();
            self.session.sent(lease, lane, bytes, now);
            self.lane_facts(lane, |facts| {
                facts.published += 1;
                facts.bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
            });
        }
    }

    fn settle(&mut self, settled: Settled<Lease>) {
        match settled {
            Settled::Nothing => {}
            Settled::Acknowledge(lease) => {
                self.lane_facts(lease.lane(), |facts| facts.acknowledged += 1);
                lease.acknowledge();
            }
            Settled::GiveBack(lease, reason) => {
                self.lane_facts(lease.lane(), |facts| facts.refused += 1);
                self.trouble(format!("the broker does not take an entry now: {reason}"), reason.remedy.to_owned());
                drop(lease);
            }
            Settled::Refuse(lease, reason) => {
                self.lane_facts(lease.lane(), |facts| facts.refused += 1);
                let identity = lease.entry().identity;
                self.trouble(
                    format!("the broker refuses entry {} of epoch {}: {reason}", identity.seq, identity.epoch),
                    reason.remedy.to_owned(),
                );
                lease.refuse(reason.code);
            }
        }
    }

    fn lane_facts(&self, lane: Lane, update: impl FnOnce(&mut LaneFacts)) {
        self.facts.uplink(|facts| {
            update(match lane {
                Lane::Live => &mut facts.live,
                Lane::History => &mut facts.history,
            });
        });
    }

    fn lost(&mut self, loss: &Loss) {
        let was_online = self.session.is_online();
        self.connection = None;
        let now = self.now();
        self.session.lost(chance(), now);
        self.trouble(loss.what.clone(), loss.remedy.clone());
        self.facts.uplink(|facts| {
            facts.state = UplinkState::Offline;
            facts.in_flight = 0;
            facts.disconnections += u64::from(was_online);
        });
    }

    /// Tells a trouble once, and again only after another one.
    fn trouble(&self, what: String, remedy: String) {
        let trouble = BrokerTrouble { broker: self.settings.brokers[self.broker].to_string(), what, remedy };
        let mut known = false;
        self.facts.uplink(|facts| {
            known = facts.state != UplinkState::Online && facts.trouble.as_ref() == Some(&trouble);
            facts.trouble = Some(trouble.clone());
        });
        if !known {
            tracing::warn!(broker = trouble.broker, remedy = trouble.remedy, "uplink: {}", trouble.what);
        }
    }

    /// Says "offline" and DISCONNECT, if there is anybody to say it to.
    async fn goodbye(&mut self, now: Stamp) {
        self.facts.uplink(|facts| facts.state = UplinkState::Draining);
        let online = self.session.is_online();
        let offline = self.state(Presence::Offline, now);
        let topic = self.topic("state");
        if let Some(mut connection) = self.connection.take()
            && online
            && connection.publish_document(topic, offline).is_ok()
        {
            self.session.sent_document();
            let last = async {
                while self.session.in_flight() > 0 {
                    match connection.happened().await {
                        Happened::Numbered(id) => self.session.numbered(id),
                        Happened::Answered(id, code) => {
                            let settled = self.session.answered(id, code, self.start.elapsed());
                            self.settle(settled);
                        }
                        Happened::Lost(_) => return,
                        Happened::Connected(_) | Happened::Message(_) | Happened::Heard => {}
                    }
                }
                if connection.goodbye().is_ok() {
                    while !matches!(connection.happened().await, Happened::Lost(_)) {}
                }
            };
            // A broker that does not answer now has the will.
            let _ = timeout(GOODBYE, last).await;
        }
        self.facts.uplink(|facts| facts.state = UplinkState::Offline);
    }
}

/// Uniform in 0..=1, different in every process and at every call.
fn chance() -> f64 {
    let bits = RandomState::new().hash_one(0_u8) >> 11;
    #[allow(clippy::cast_precision_loss, reason = "53 bits")]
    let chance = bits as f64 / (1_u64 << 53) as f64;
    chance
}
