//! The adapters of a bus with all that is told of them: samples to the pipeline, facts to the status. Pure: `at` is an argument.
//!
//! What is wrong with the bus itself, with who wanted to send and with its certificates is told at its first device.

use std::fmt;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::Port;
use super::adapter::SessionAdapter;
use super::lateness::{Lateness, lag_ms};
use super::record::Record;
use super::refused::Refusals;
use crate::health::{DeviceFacts, DeviceState, Heartbeat, SessionFacts, StatusBoard};
use crate::measure::{EventKind, Missing, Mono, Sample, SessionEvent, Stamp};
use crate::net::SessionSource;
use crate::source::outbox::Outbox;
use crate::spec::BusId;
use crate::tls::{Certificates, Days, Look, Refusal};

/// The adapters of a bus, and where they tell.
pub(super) struct Driver {
    pub(super) bus: BusId,
    adapters: Vec<SessionAdapter>,
    /// Of each adapter's connector.
    lateness: Vec<Lateness>,
    outbox: Outbox,
    facts: Arc<StatusBoard>,
    heartbeat: Heartbeat,
    /// What was told of each adapter last.
    told: Vec<SessionFacts>,
    /// Why nothing can be heard on this bus.
    trouble: Option<String>,
    /// Who was not let in.
    refusals: Refusals,
    certificates: Certificates,
    /// Why the newest files of TLS are of no use.
    broken: Option<String>,
    /// Why no sender can be taken.
    starved: Option<String>,
}

impl Driver {
    pub(super) fn new(
        port: &Port,
        samples: mpsc::Sender<Sample>,
        facts: Arc<StatusBoard>,
        heartbeat: Heartbeat,
    ) -> Self {
        for target in &port.devices {
            facts.device(&target.spec.id, |facts| {
                *facts = DeviceFacts {
                    bus: Some(port.bus.clone()),
                    kind: Some(target.spec.kind),
                    session: Some(SessionFacts::default()),
                    ..Default::default()
                };
            });
        }
        let is_timed = !matches!(port.source, SessionSource::Files(_));
        let adapters: Vec<SessionAdapter> =
            port.devices.iter().map(|target| SessionAdapter::new(target, &port.vehicle_ids, is_timed)).collect();
        let told = adapters.iter().map(|_| SessionFacts::default()).collect();
        let lateness = adapters.iter().map(|_| Lateness::default()).collect();
        Self {
            bus: port.bus.clone(),
            adapters,
            lateness,
            outbox: Outbox::new(samples, Arc::clone(&facts)),
            facts,
            heartbeat,
            told,
            trouble: None,
            refusals: Refusals::default(),
            certificates: Certificates::default(),
            broken: None,
            starved: None,
        }
    }

    /// Lets every adapter work.
    pub(super) fn all(&mut self, mut work: impl FnMut(&mut SessionAdapter)) {
        for index in 0..self.adapters.len() {
            work(&mut self.adapters[index]);
            self.tell(index);
        }
    }

    /// Lets one adapter work.
    pub(super) fn one(&mut self, index: usize, work: impl FnOnce(&mut SessionAdapter)) {
        work(&mut self.adapters[index]);
        self.tell(index);
    }

    /// Where the newest message stands on the line of its feed's times. One feed may speak of several connectors.
    pub(super) fn heard(&self) -> Mono {
        self.adapters.iter().map(|adapter| adapter.tracker().heard_own()).max().unwrap_or(Mono(0))
    }

    pub(super) fn place_of(&self, connector: u16) -> Option<usize> {
        self.adapters.iter().position(|adapter| adapter.connector == connector)
    }

    /// Whether the first record of a feed, by its connector and the station's clock, shows nothing that can be compared with ours.
    pub(super) fn is_puzzled_by(&self, (connector, unix_us): (u16, u64), at: Stamp) -> bool {
        self.place_of(connector).is_some_and(|place| self.lateness[place].is_puzzled_by(unix_us, at))
    }

    /// This record of a connector is not late.
    pub(super) fn is_of_now(&mut self, record: &Record<'_>, at: Stamp) {
        if let Some(place) = self.place_of(record.connector) {
            self.lateness[place].is_of_now(record.unix_us, at);
        }
    }

    /// From when a record is that has arrived at `at`; how far it lags is told.
    pub(super) fn stamp(&mut self, index: usize, unix_us: u64, at: Stamp) -> Stamp {
        self.told[index].lag_ms = lag_ms(at, unix_us);
        self.lateness[index].stamp(unix_us, at)
    }

    /// The agent stops: what is known is told, however full the queue is.
    pub(super) async fn close(mut self, at: Stamp) {
        self.all(|adapter| adapter.hear(at, |tracker| tracker.handle_stop(at.mono)));
        self.outbox.close().await;
    }

    /// Never waits: a wire must not feel what is behind it.
    fn tell(&mut self, index: usize) {
        let adapter = &mut self.adapters[index];
        for sample in adapter.drain() {
            self.outbox.push(sample);
        }
        let told = &mut self.told[index];
        if adapter.news(told) {
            let state = if adapter.has_feed() || adapter.tracker().messages() > 0 {
                DeviceState::Answering
            } else if self.trouble.is_some() {
                DeviceState::Silent(Missing::BusOff)
            } else {
                DeviceState::Unknown
            };
            self.facts.device(&adapter.id, |facts| {
                facts.state = state;
                facts.answers = adapter.tracker().messages();
                for (reason, count) in adapter.tracker().unreadable() {
                    facts.failures.insert(reason.as_str().to_owned(), count);
                }
                facts.session = Some(told.clone());
            });
        }
    }

    pub(super) fn tick(&mut self, at: Stamp) {
        self.heartbeat.beat(at.mono);
        self.outbox.flush();
        self.tell_refusals(at);
        self.all(|adapter| adapter.tick(at));
    }

    /// A sender is not let in.
    pub(super) fn refuse(&mut self, peer: &impl fmt::Display, refusal: &Refusal, at: Stamp) {
        let Refusal { reason, what, remedy } = refusal;
        let detail = format!("the sender {peer} was not let in: {what}; {remedy}");
        tracing::debug!(bus = %self.bus, reason, "{detail}");
        self.refusals.add(reason, detail.clone(), at.mono);
        self.told[0].refused = self.refusals.counts();
        self.facts.device(&self.adapters[0].id, |facts| facts.last_failure = Some(detail));
        self.tell_refusals(at);
        self.one(0, SessionAdapter::touch);
        self.tell_trouble(at);
    }

    fn tell_refusals(&mut self, at: Stamp) {
        let Self { bus, adapters, refusals, .. } = self;
        refusals.poll(at.mono, |event| {
            if let SessionEvent::FeedRefused { reason, count, detail } = &event {
                tracing::warn!(%bus, %reason, count, "{detail}");
            }
            adapters[0].notice(EventKind::Session(event.into()), at);
        });
    }

    /// No sender can be taken for want of files, or one can again.
    pub(super) fn starve(&mut self, why: Option<String>, at: Stamp) {
        if self.starved != why {
            if let Some(why) = &why {
                tracing::warn!(bus = %self.bus, "{why}");
            }
            self.starved = why;
            self.tell_trouble(at);
        }
    }

    /// What the files of TLS have become.
    pub(super) fn looked(&mut self, look: Look, at: Stamp) {
        match look {
            Look::Same => return,
            Look::Renewed => {
                tracing::info!(bus = %self.bus, "the files of TLS have changed: new senders get them");
                self.broken = None;
            }
            Look::Broken(error) => {
                let why = format!("{error}; until it is mended the files before are used further");
                tracing::warn!(bus = %self.bus, "{why}");
                self.broken = Some(why);
            }
        }
        self.tell_trouble(at);
    }

    /// Certificates that end soon are warned of.
    pub(super) fn count_days(&mut self, days: &[Days], at: Stamp) {
        for (text, notice) in self.certificates.look(days, at) {
            tracing::warn!(bus = %self.bus, "{text}");
            self.one(0, |adapter| adapter.notice(notice, at));
        }
        self.tell_trouble(at);
    }

    /// What a person should look at though the bus can be heard.
    fn tell_trouble(&self, at: Stamp) {
        let refused = self.refusals.trouble(at.mono).map(str::to_owned);
        let all: Vec<_> = self
            .broken
            .iter()
            .chain(&self.starved)
            .cloned()
            .chain(self.certificates.warnings())
            .chain(refused)
            .collect();
        let trouble = (!all.is_empty()).then(|| format!("at its bus {}: {}", self.bus, all.join("; ")));
        self.facts.device(&self.adapters[0].id, |facts| facts.trouble = trouble);
    }

    /// Nothing can be heard, or all can again.
    pub(super) fn bus_trouble(&mut self, trouble: Option<String>) {
        if self.trouble == trouble {
            return;
        }
        match &trouble {
            Some(why) => tracing::warn!(why, "the charging sessions of a bus cannot be heard"),
            None => tracing::info!("the charging sessions of a bus can be heard"),
        }
        for adapter in &self.adapters {
            self.facts.device(&adapter.id, |facts| {
                if let Some(why) = &trouble {
                    facts.last_failure = Some(why.clone());
                    facts.state = DeviceState::Silent(Missing::BusOff);
                }
            });
        }
        self.trouble = trouble;
        if self.trouble.is_none() {
            self.all(SessionAdapter::touch);
        }
    }
}
