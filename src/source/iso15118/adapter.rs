//! What the tracker of one device tells becomes samples of its points. Pure.

use crate::health::SessionFacts;
use crate::measure::{EventKind, Missing, Payload, Raw, Sample, SessionEvent, Stamp};
use crate::spec::{DeviceId, DeviceIx, Origin, PointIx, SessionValue};

use super::Target;
use super::decode::Unreadable;
use super::frames::whole;
use super::tracker::{Tracker, TrackerOutput};

/// The first byte of a TLS record: handshake, application data (RFC 8446, 5.1).
const TLS: [u8; 2] = [0x16, 0x17];

#[derive(Debug)]
pub(super) struct SessionAdapter {
    pub(super) id: DeviceId,
    pub(super) connector: u16,
    device: DeviceIx,
    tracker: Tracker,
    /// Where each value is a point; a profile need not have them all.
    places: [Option<PointIx>; SessionValue::COUNT],
    /// Feeds that have spoken of this connector and are open.
    feeds: u32,
    samples: Vec<Sample>,
    /// Something has changed since the facts were last told.
    dirty: bool,
}

impl SessionAdapter {
    pub(super) fn new(target: &Target) -> Self {
        let mut places = [None; SessionValue::COUNT];
        for (ix, point) in (0..).map(PointIx).zip(target.spec.points.iter()) {
            if let Origin::Session(session) = &point.origin {
                places[session.value.index()] = Some(ix);
            }
        }
        Self {
            id: target.spec.id.clone(),
            connector: target.connector,
            device: target.ix,
            tracker: Tracker::default(),
            places,
            feeds: 0,
            samples: Vec::new(),
            dirty: true,
        }
    }

    /// Lets the tracker work and takes what it tells.
    pub(super) fn hear(&mut self, at: Stamp, work: impl FnOnce(&mut Tracker)) {
        work(&mut self.tracker);
        let Self { tracker, places, samples, device, dirty, .. } = self;
        for told in tracker.drain() {
            let payload = match told {
                TrackerOutput::Values(values) => {
                    let placed = |(value, raw): (SessionValue, Result<Raw, Missing>)| {
                        places[value.index()].map(|point| (point, raw))
                    };
                    let mut values: Vec<_> = values.into_iter().filter_map(placed).collect();
                    if values.is_empty() {
                        continue;
                    }
                    values.sort_by_key(|(point, _)| *point);
                    Payload::Values(values)
                }
                TrackerOutput::Event(event) => Payload::Noticed(EventKind::Session(event)),
                TrackerOutput::Vehicle(vehicle) => Payload::Vehicle(vehicle),
            };
            samples.push(Sample { device: *device, at, payload });
            *dirty = true;
        }
    }

    /// One V2GTP frame, as a feed has cut it.
    pub(super) fn frame(&mut self, bytes: &[u8], at: Stamp) {
        let first = bytes.first().copied();
        self.hear(at, |tracker| match whole(bytes) {
            Ok((payload_type, payload)) => tracker.handle_frame(payload_type, payload, at.mono),
            Err(Unreadable::Garbage) if first.is_some_and(|byte| TLS.contains(&byte)) => {
                tracker.handle_encrypted(at.mono);
            }
            Err(reason) => tracker.handle_unreadable(reason, at.mono),
        });
        self.dirty = true;
    }

    /// A feed speaks of this connector for the first time.
    pub(super) fn feed_connected(&mut self, at: Stamp) {
        self.feeds += 1;
        if self.feeds == 1 {
            self.notice(EventKind::Session(SessionEvent::FeedConnected), at);
        }
    }

    /// A feed that spoke of it is gone.
    pub(super) fn feed_lost(&mut self, reason: &str, at: Stamp) {
        self.feeds = self.feeds.saturating_sub(1);
        if self.feeds == 0 {
            self.hear(at, |tracker| tracker.handle_close(at.mono));
            self.notice(EventKind::Session(SessionEvent::FeedLost { reason: reason.into() }), at);
            self.samples.push(Sample { device: self.device, at, payload: Payload::Silent(Missing::Timeout) });
        }
    }

    pub(super) fn has_feed(&self) -> bool {
        self.feeds > 0
    }

    /// Something that did not come out of a session.
    pub(super) fn notice(&mut self, kind: EventKind, at: Stamp) {
        self.samples.push(Sample { device: self.device, at, payload: Payload::Noticed(kind) });
        self.dirty = true;
    }

    /// What is known of it is to be told anew.
    pub(super) fn touch(&mut self) {
        self.dirty = true;
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = Sample> + '_ {
        self.samples.drain(..)
    }

    /// What `status` is to show, if it has changed.
    pub(super) fn news(&mut self, facts: &mut SessionFacts) -> bool {
        if std::mem::take(&mut self.dirty) {
            self.tracker.facts(facts);
            return true;
        }
        false
    }

    pub(super) fn tracker(&self) -> &Tracker {
        &self.tracker
    }
}
