//! What a person is told of the uplink: in the log, at the broker, and in the facts.

use super::Driver;
use crate::health::{BrokerTrouble, LaneFacts};
use crate::journal::{Lane, Lease};
use crate::measure::{EventKind, Notice};
use crate::uplink::reason::Reason;
use crate::uplink::session::Settled;
use crate::uplink::unheard::NO_MATCHING_SUBSCRIBERS;

impl Driver {
    /// What is delivered of this boot is what an update waits for.
    pub(super) fn note_this_boot(&self, settled: &Settled<Lease>) {
        if let Settled::Acknowledge(lease) | Settled::Unheard(lease) | Settled::Hold(lease) = settled
            && lease.entry().window.boot == self.settings.boot
        {
            self.facts.uplink(|facts| facts.acknowledged_of_this_boot += 1);
        }
    }

    /// Whether anybody subscribes to what the lane sends: told when that changes.
    pub(super) fn note_subscriber(&mut self, lane: Lane, is_there: bool) {
        let place = usize::from(lane == Lane::History);
        if std::mem::replace(&mut self.unheard[place], !is_there) != is_there {
            return;
        }
        let topics = ["telemetry", "history"].into_iter().zip(self.unheard);
        let topics: Vec<String> = topics.filter(|(_, unheard)| *unheard).map(|(name, _)| self.topic(name)).collect();
        if topics.is_empty() {
            tracing::info!("somebody subscribes at the broker again");
            self.facts.uplink(|facts| facts.no_subscriber = None);
            return;
        }
        let (topics, reason) = (topics.join(" and "), Reason::of(NO_MATCHING_SUBSCRIBERS));
        let (then, cure) = if self.settings.holds_unheard {
            ("the entries are kept and offered again", "")
        } else {
            let cure = "; with no_subscriber = \"hold\" in [uplink] the entries are kept until somebody does. Where a rule \
                of the broker reads them, nothing is lost";
            ("the broker takes the entries, and nobody has them", cure)
        };
        let what = format!("nobody subscribes to {topics}: {reason}; {then}");
        let remedy = format!("start what should read them, or correct its subscription (v2g/#){cure}");
        self.trouble(what.clone(), remedy.clone());
        let broker = self.route.as_ref().map_or_else(String::new, |route| route.broker.to_string());
        self.facts.uplink(|facts| facts.no_subscriber = Some(BrokerTrouble { broker, what, remedy }));
    }

    /// There is no connection any more on which nobody subscribes, or that takes nothing.
    pub(super) fn forget_subscribers(&mut self) {
        self.unheard = [false; 2];
        self.facts.uplink(|facts| {
            facts.no_subscriber = None;
            (facts.live.not_taken, facts.history.not_taken) = (None, None);
        });
    }

    /// The broker has taken an entry of the lane.
    pub(super) fn taken(&mut self, lane: Lane) {
        self.twin.acknowledged();
        self.lane_facts(lane, |facts| facts.not_taken = None);
    }

    /// It has not: a finding until it takes one, although there is a connection.
    pub(super) fn not_taken(&mut self, lane: Lane, what: String, remedy: String) {
        let broker = self.route.as_ref().map_or_else(String::new, |route| route.broker.to_string());
        let trouble = BrokerTrouble { broker, what: what.clone(), remedy: remedy.clone() };
        self.lane_facts(lane, |facts| facts.not_taken = Some(trouble));
        self.trouble(what, remedy);
    }

    /// Messages that nobody asked for are a finding while they come, and for a while after.
    pub(super) fn look_for_unasked(&mut self) {
        let count = self.unasked.count(self.now());
        self.facts.uplink(|facts| facts.unasked_lately = count);
    }

    /// Another box under our id is told once, and again only after it was gone.
    pub(super) fn look_for_twin(&mut self) {
        let finding = self.twin.finding(self.now());
        let broker = self.route.as_ref().map_or_else(String::new, |route| route.broker.to_string());
        let was_told = std::mem::replace(&mut self.twin_told, finding.is_some());
        if let Some((what, remedy)) = &finding
            && !was_told
        {
            tracing::error!(broker, remedy, "uplink: {what}");
            let kind = EventKind::UplinkTrouble {
                broker: broker.as_str().into(),
                what: what.as_str().into(),
                remedy: remedy.as_str().into(),
            };
            // Two boxes of one id take the session from each other: `uplink_online` is never far.
            self.notice(Notice { kind, is_rare: true });
        }
        self.facts.uplink(|facts| facts.twin = finding.map(|(what, remedy)| BrokerTrouble { broker, what, remedy }));
    }

    /// Tells a trouble once, and again when it comes back after a connection or lasts.
    pub(super) fn trouble(&mut self, what: String, remedy: String) {
        let broker = self.route.as_ref().map_or_else(String::new, |route| route.broker.to_string());
        if self.told.is_news(&broker, &what, self.start.elapsed()) {
            tracing::warn!(broker, remedy, "uplink: {what}");
            self.notice(EventKind::UplinkTrouble {
                broker: broker.as_str().into(),
                what: what.as_str().into(),
                remedy: remedy.as_str().into(),
            });
        }
        self.facts.uplink(|facts| facts.trouble = Some(BrokerTrouble { broker, what, remedy }));
    }

    pub(super) fn notice(&self, notice: impl Into<Notice>) {
        if self.notices.try_send(notice.into()).is_err() {
            tracing::debug!("an event of the uplink found no room; it is in this log");
        }
    }

    pub(super) fn lane_facts(&self, lane: Lane, update: impl FnOnce(&mut LaneFacts)) {
        self.facts.uplink(|facts| {
            update(match lane {
                Lane::Live => &mut facts.live,
                Lane::History => &mut facts.history,
            });
        });
    }
}
