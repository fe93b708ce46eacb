//! Whether another box speaks under this gateway's id: two boxes of one configuration, a cloned disk, an agent that was
//! forgotten. Pure; times are since the uplink's start.
//!
//! Two clients of one id throw each other off for ever, and what both send comes under one name. Signs of it, none of which an
//! ordinary link that comes and goes gives:
//!
//! - The broker says that it gave our session to another client (0x8E), twice within [`REMEMBERED`].
//! - On our own `state` topic, which we read, another life than ours comes online beside us; or there is a younger one than ours,
//!   though this broker has had our state already. An older one that was kept is no sign: a broker that was killed may have
//!   forgotten that ours came after it. Neither is one that was online before we were, by its own `since`: a bridge between brokers
//!   hands over late what a life of ours before this one has said.
//! - The broker has closed the connection shortly after it had accepted us, without a word, [`CUTS_MIN`] times in a row (as one
//!   does that throws off the older client without a reason), and our `state` cannot be read. That is a suspicion only. Where it
//!   can be read and shows our own life, nobody else has written it: then it was the link.
//!
//! A broker that may end a connection for a SUBSCRIBE that it forbids is not asked a third time.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Deserialize;

use crate::measure::{ClockTrust, Epoch, Stamp};

/// Signs are remembered for so long, and the finding lasts as long after the last.
const REMEMBERED: Duration = Duration::from_secs(600);
/// Sessions that went to another client: once may be a restart of our own that overlapped.
const TAKEOVERS_MIN: usize = 2;
/// Brokers remembered: those of the plan, and some that they name.
const BROKERS_MAX: usize = 16;
/// Connections in a row that were closed within [`SHORTLY`] of their acceptance.
const CUTS_MIN: usize = 5;
const SHORTLY: Duration = Duration::from_secs(10);
/// Connections that were lost before the broker had answered our SUBSCRIBE.
const UNANSWERED_MAX: usize = 2;
/// Our own document has 200 bytes.
const STATE_BYTES_MAX: usize = 4096;

/// What was seen of another box.
#[derive(Debug)]
pub(super) struct Twin {
    client_id: String,
    topic: String,
    epoch: Epoch,
    /// The lives that this one was before: the journal was found after all.
    before: Vec<Epoch>,
    /// Since when we are online, as our `state` says it; `None` if that was never by a clock that can be compared.
    online_from: Option<String>,
    takeovers: VecDeque<Duration>,
    /// The foreign life that was seen last.
    foreign: Option<(Epoch, Duration)>,
    cuts: VecDeque<Duration>,
    online_since: Option<Duration>,
    broker: String,
    /// Brokers that have taken our own state in this life: what is there now was put there later.
    stated: VecDeque<String>,
    reading: Reading,
    /// Brokers that have cut a connection without an answer to our SUBSCRIBE, by the order in time.
    unanswered: VecDeque<String>,
}

/// Whether we read our own topic on this connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    No,
    Asked,
    Yes,
}

/// How a connection was lost, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The session was given to another client.
    TakenOver,
    /// Closed by the broker, without a word.
    Closed,
    Other,
}

#[derive(Deserialize)]
struct State {
    state: String,
    epoch: u64,
    since: Option<String>,
    since_trust: Option<String>,
}

impl State {
    /// Whether it began before `moment`: both as the `state` document writes them, which sort as times do.
    fn is_from_before(&self, moment: Option<&str>) -> bool {
        let is_known = self.since_trust.as_deref().is_none_or(|trust| trust == ClockTrust::Holdover.as_str());
        let since = self.since.as_deref().zip(moment).filter(|(since, moment)| is_known && since.len() == moment.len());
        since.is_some_and(|(since, moment)| since < moment)
    }
}

/// Whether a clock shows the time that others show.
fn can_be_compared(trust: ClockTrust) -> bool {
    matches!(trust, ClockTrust::Synced | ClockTrust::Holdover)
}

impl Twin {
    /// `topic` is that of our own `state`.
    pub(super) fn new(client_id: String, topic: String, epoch: Epoch) -> Self {
        Self {
            client_id,
            topic,
            epoch,
            before: Vec::new(),
            online_from: None,
            takeovers: VecDeque::new(),
            foreign: None,
            cuts: VecDeque::new(),
            online_since: None,
            broker: String::new(),
            stated: VecDeque::new(),
            reading: Reading::No,
            unanswered: VecDeque::new(),
        }
    }

    /// We go on as another life.
    pub(super) fn live_on_as(&mut self, epoch: Epoch) {
        self.before.push(std::mem::replace(&mut self.epoch, epoch));
    }

    /// We say that we are online, since now.
    pub(super) fn comes_online(&mut self, since: Stamp) {
        if can_be_compared(since.trust) {
            self.online_from.get_or_insert_with(|| since.utc.rfc3339());
        }
    }

    /// We are connected to this broker; the topic to read, if it may be asked for it.
    pub(super) fn connected(&mut self, broker: &str, now: Duration) -> Option<String> {
        self.online_since = Some(now);
        broker.clone_into(&mut self.broker);
        if self.unanswered.iter().filter(|by| **by == self.broker).count() >= UNANSWERED_MAX {
            return None;
        }
        self.reading = Reading::Asked;
        Some(self.topic.clone())
    }

    /// The broker has answered our SUBSCRIBE.
    pub(super) fn subscribed(&mut self, code: u8) {
        self.reading = if code < 0x80 { Reading::Yes } else { Reading::No };
        self.unanswered.retain(|by| *by != self.broker);
    }

    /// It has taken what we sent after our `state`.
    pub(super) fn acknowledged(&mut self) {
        if !self.stated.contains(&self.broker) {
            remember(&mut self.stated, self.broker.clone(), BROKERS_MAX);
        }
    }

    /// A message has come.
    pub(super) fn heard(&mut self, topic: &[u8], payload: &[u8], is_retained: bool, now: Duration) {
        if topic != self.topic.as_bytes() || payload.len() > STATE_BYTES_MAX {
            return;
        }
        let Ok(told) = serde_json::from_slice::<State>(payload) else { return };
        let epoch = Epoch(told.epoch);
        let is_online = told.state == "online";
        if epoch == self.epoch || self.before.contains(&epoch) {
            if is_retained {
                self.cuts.clear();
            }
            return;
        }
        if is_online && told.is_from_before(self.online_from.as_deref()) {
            return;
        }
        if (is_online && !is_retained) || (epoch > self.epoch && self.stated.contains(&self.broker)) {
            self.foreign = Some((epoch, now));
        }
    }

    /// The connection is lost, or none was had.
    pub(super) fn lost(&mut self, end: End, now: Duration) {
        let since = self.online_since.take();
        if since.is_some() && self.reading == Reading::Asked {
            remember(&mut self.unanswered, self.broker.clone(), BROKERS_MAX * UNANSWERED_MAX);
        }
        self.reading = Reading::No;
        match (end, since) {
            (End::TakenOver, _) => remember(&mut self.takeovers, now, TAKEOVERS_MIN),
            (End::Closed, Some(since)) if now.saturating_sub(since) <= SHORTLY => {
                remember(&mut self.cuts, now, CUTS_MIN);
            }
            (End::Closed | End::Other, _) => self.cuts.clear(),
        }
    }

    /// We have left it by ourselves.
    pub(super) fn left(&mut self) {
        (self.online_since, self.reading) = (None, Reading::No);
        self.cuts.clear();
    }

    /// What is to be told, with what to do; `None` while there is nothing.
    pub(super) fn finding(&mut self, now: Duration) -> Option<(String, String)> {
        let is_old = |at: Duration| at + REMEMBERED < now;
        self.takeovers.retain(|at| !is_old(*at));
        self.cuts.retain(|at| !is_old(*at));
        self.foreign = self.foreign.filter(|(_, at)| !is_old(*at));
        let Self { client_id, topic, .. } = self;
        let cure = "give each box its own [gateway] id (and [uplink] client_id, if it is set); look for a copied \
            configuration or disk, and for a second agent on this box";
        if let Some((epoch, _)) = self.foreign {
            let what = format!(
                "another box speaks as this gateway: {topic} tells of a life of epoch {}, and ours is {}",
                epoch.0, self.epoch.0
            );
            return Some((what, cure.to_owned()));
        }
        if self.takeovers.len() >= TAKEOVERS_MIN {
            let what = format!("another client connects with our client id {client_id}, and each throws the other off");
            return Some((what, cure.to_owned()));
        }
        if self.cuts.len() >= CUTS_MIN {
            let what = format!(
                "the broker has closed {CUTS_MIN} connections in a row shortly after it had accepted them, without a reason: \
                 perhaps another client connects with our client id {client_id}"
            );
            return Some((what, format!("look into the broker's log; if it is so, {cure}")));
        }
        None
    }
}

/// Adds to the newest; `min` of them are enough.
fn remember<T>(seen: &mut VecDeque<T>, new: T, min: usize) {
    if seen.len() >= min {
        seen.pop_front();
    }
    seen.push_back(new);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{Mono, Utc};
    use crate::uplink::wire::Presence;

    const OURS: Epoch = Epoch(100);
    const TOPIC: &str = "v2g/depot-a/gw-01/state";

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn twin() -> Twin {
        Twin::new("gw-01".to_owned(), TOPIC.to_owned(), OURS)
    }

    fn state(state: &str, epoch: u64) -> Vec<u8> {
        format!(r#"{{"state":"{state}","epoch":{epoch},"version":"1"}}"#).into_bytes()
    }

    /// Connects, hears what is retained, is acknowledged, and is lost after `lasts`.
    fn connection(twin: &mut Twin, at: u64, retained: Option<Vec<u8>>, end: End, lasts: u64) {
        if twin.connected("a", s(at)).is_some() {
            twin.subscribed(1);
            if let Some(retained) = retained {
                twin.heard(TOPIC.as_bytes(), &retained, true, s(at));
            }
        }
        twin.acknowledged();
        twin.lost(end, s(at + lasts));
    }

    #[test]
    fn sessions_that_go_to_another_client_are_told_from_the_second_on() {
        let mut twin = twin();
        connection(&mut twin, 0, None, End::TakenOver, 3);
        assert_eq!(twin.finding(s(4)), None, "a restart of our own that overlaps");
        connection(&mut twin, 10, None, End::TakenOver, 3);
        let (what, cure) = twin.finding(s(14)).expect("a finding");
        assert!(what.contains("our client id gw-01") && cure.contains("its own [gateway] id"), "{what}; {cure}");
        assert_eq!(twin.finding(s(14 + 601)), None, "it is over");
    }

    #[test]
    fn another_life_on_our_topic_is_told_and_our_own_before_is_not() {
        for (retained, times, told) in [
            (state("online", 101), 1, true),
            (state("offline", 101), 1, true),
            (state("offline", 7), 9, false),
            (state("online", 7), 9, false),
            (state("offline", 100), 9, false),
            (b"{}".to_vec(), 9, false),
            (vec![b' '; 5_000], 9, false),
        ] {
            let mut twin = twin();
            // What is there at the first connection may be of our life before, whose number may be the higher one: a restored disk.
            connection(&mut twin, 0, Some(state("online", 102)), End::Other, 60);
            assert_eq!(twin.finding(s(60)), None);
            for n in 0..times {
                connection(&mut twin, 100 + n, Some(retained.clone()), End::Other, 1);
            }
            assert_eq!(twin.finding(s(120)).is_some(), told, "{:?} {times}", String::from_utf8_lossy(&retained));
        }
    }

    #[test]
    fn who_comes_online_beside_us_under_another_client_id_is_told_at_once() {
        let mut twin = twin();
        twin.connected("a", s(0));
        twin.subscribed(1);
        twin.heard(TOPIC.as_bytes(), &state("online", 7), false, s(1));
        let (what, _) = twin.finding(s(1)).expect("a finding");
        assert!(what.contains("epoch 7, and ours is 100"), "{what}");
    }

    /// A bridge was connected anew and handed over, as a message of the moment, what it had kept of a life before a restart.
    #[test]
    fn what_a_bridge_hands_over_of_an_older_life_is_no_twin_and_who_comes_online_after_us_is() {
        let at =
            |s: i64, trust| Stamp { mono: Mono(0), utc: Utc(1_780_315_200_000_000_000 + s * 1_000_000_000), trust };
        let online = |epoch: u64, since: Stamp| crate::uplink::wire::state(Presence::Online, Epoch(epoch), "1", since);
        let synced = ClockTrust::Synced;
        for (ours, theirs, told) in [
            (at(0, synced), at(-60, synced), false),
            (at(0, synced), at(-60, ClockTrust::Holdover), false),
            (at(0, synced), at(60, synced), true),
            // No clock to compare by.
            (at(0, synced), at(-60, ClockTrust::Unsynced), true),
            (at(0, ClockTrust::Unsynced), at(-60, synced), true),
        ] {
            for epoch in [7, 101] {
                let mut twin = twin();
                twin.comes_online(ours);
                twin.connected("a", s(0));
                twin.subscribed(1);
                twin.heard(TOPIC.as_bytes(), online(epoch, theirs).as_bytes(), false, s(1));
                assert_eq!(twin.finding(s(1)).is_some(), told, "{epoch} {ours:?} {theirs:?}");
            }
        }
    }

    #[test]
    fn the_life_that_we_were_before_is_no_twin() {
        let mut twin = twin();
        connection(&mut twin, 0, None, End::Other, 60);
        twin.live_on_as(Epoch(200));
        connection(&mut twin, 100, Some(state("offline", OURS.0)), End::Other, 60);
        twin.connected("a", s(200));
        twin.heard(TOPIC.as_bytes(), &state("online", OURS.0), false, s(201));
        assert_eq!(twin.finding(s(202)), None);
        twin.heard(TOPIC.as_bytes(), &state("online", 150), false, s(203));
        assert!(twin.finding(s(204)).is_some());
    }

    #[test]
    fn a_link_that_comes_and_goes_is_no_twin() {
        // It breaks in every way but by a word of the broker.
        for end in [End::Closed, End::Other] {
            let mut twin = twin();
            for n in 0..200 {
                connection(&mut twin, n * 5, (n > 0).then(|| state("offline", OURS.0)), end, 2);
                assert_eq!(twin.finding(s(n * 5 + 3)), None, "{end:?} {n}");
            }
        }
        // Where our state cannot be read: closed each time, but late, or not each time.
        let mut twin = twin();
        for n in 0..200 {
            let (end, lasts) = if n % 4 == 0 { (End::Other, 1) } else { (End::Closed, 2) };
            connection(&mut twin, n * 20, None, end, lasts);
            connection(&mut twin, n * 20 + 5, None, End::Closed, 11);
            assert_eq!(twin.finding(s(n * 20 + 17)), None, "{n}");
        }
    }

    #[test]
    fn connections_closed_in_a_row_without_a_word_are_a_suspicion_where_our_state_cannot_be_read() {
        let mut twin = twin();
        for n in 0..5 {
            assert_eq!(twin.finding(s(n * 5)), None);
            twin.connected("a", s(n * 5));
            twin.subscribed(0x87);
            twin.lost(End::Closed, s(n * 5 + 1));
        }
        let (what, cure) = twin.finding(s(30)).expect("a finding");
        assert!(
            what.contains("perhaps another client") && cure.starts_with("look into the broker's log"),
            "{what}; {cure}"
        );
    }

    #[test]
    fn a_broker_that_ends_the_connection_for_our_question_is_not_asked_a_third_time() {
        let mut twin = twin();
        let asked: Vec<bool> = (0..4)
            .map(|n| {
                let asked = twin.connected("a", s(n)).is_some();
                twin.lost(End::Closed, s(n));
                asked
            })
            .collect();
        assert_eq!(asked, [true, true, false, false]);
    }
}
