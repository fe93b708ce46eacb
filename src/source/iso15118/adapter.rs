//! What the tracker of one device tells becomes samples of its points. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::health::SessionFacts;
use crate::measure::{EventKind, Missing, Mono, Payload, Raw, Sample, SessionEvent, Stamp};
use crate::spec::{DeviceId, DeviceIx, FieldName, Origin, PointIx, SessionValue};

use super::Target;
use super::decode::Unreadable;
use super::frames::{Frames, Piece, begins_a_message};
use super::session_ids::SessionIds;
use super::tracker::{Tracker, TrackerOutput};
use super::vehicle::VehicleIds;

/// The first byte of a TLS record: handshake, application data (RFC 8446, 5.1).
const TLS: [u8; 2] = [0x16, 0x17];
/// A sender that mirrors its reads has the rest of a frame in its next read.
const REST_WITHIN: Duration = Duration::from_millis(500);

/// Events of one connector: so many at once (five sessions with all their phases), and then so many a second. What is beyond is
/// counted by kind, and told as that.
const EVENTS_AT_ONCE: u32 = 128;
const EVENT_EVERY: Duration = Duration::from_millis(500);

/// Events that may be told.
#[derive(Debug)]
struct Budget {
    events: u32,
    since: Mono,
}

impl Budget {
    fn take(&mut self, now: Mono) -> bool {
        let earned = now.since(self.since).as_nanos() / EVENT_EVERY.as_nanos();
        if let Some(earned) = u32::try_from(earned).ok().filter(|earned| *earned < EVENTS_AT_ONCE) {
            self.events = (self.events + earned).min(EVENTS_AT_ONCE);
            self.since = self.since + EVENT_EVERY * earned;
        } else {
            (self.events, self.since) = (EVENTS_AT_ONCE, now);
        }
        let has_room = self.events > 0;
        self.events -= u32::from(has_room);
        has_room
    }
}

#[derive(Debug)]
pub(super) struct SessionAdapter {
    pub(super) id: DeviceId,
    pub(super) connector: u16,
    device: DeviceIx,
    tracker: Tracker,
    ids: SessionIds,
    /// What the station and the vehicle send, as far as it is cut into records elsewhere than into frames.
    directions: [Frames; 2],
    /// When the last bytes of each came.
    begun_at: [Mono; 2],
    /// Where each value is a point; a profile need not have them all.
    places: [Option<PointIx>; SessionValue::COUNT],
    /// The names of the points.
    fields: Vec<FieldName>,
    /// Feeds that have spoken of this connector and are open.
    feeds: u32,
    samples: Vec<Sample>,
    budget: Budget,
    /// Events that were not told each, by kind.
    left_out: BTreeMap<&'static str, u64>,
    /// Something has changed since the facts were last told.
    dirty: bool,
}

impl SessionAdapter {
    /// `is_timed`: what it hears comes with its times, and not at a pace of somebody's choice.
    pub(super) fn new(target: &Target, vehicle_ids: &VehicleIds, is_timed: bool) -> Self {
        let mut places = [None; SessionValue::COUNT];
        for (ix, point) in (0..).map(PointIx).zip(target.spec.points.iter()) {
            if let Origin::Session(session) = &point.origin {
                places[session.value.index()] = Some(ix);
            }
        }
        let mut tracker = Tracker::telling(vehicle_ids.clone());
        // A power that was worked out is not told where it cannot be marked.
        if is_timed && places[SessionValue::PowerSource.index()].is_some() {
            tracker.work_out_power();
        }
        Self {
            id: target.spec.id.clone(),
            connector: target.connector,
            device: target.ix,
            tracker,
            ids: SessionIds::new(vehicle_ids.clone()),
            directions: Default::default(),
            begun_at: [Mono(0); 2],
            places,
            fields: target.spec.points.iter().map(|point| point.field.clone()).collect(),
            feeds: 0,
            samples: Vec::new(),
            budget: Budget { events: EVENTS_AT_ONCE, since: Mono(0) },
            left_out: BTreeMap::new(),
            dirty: true,
        }
    }

    /// Lets the tracker work and takes what it tells.
    pub(super) fn hear(&mut self, at: Stamp, work: impl FnOnce(&mut Tracker)) {
        work(&mut self.tracker);
        let Self { tracker, ids, places, fields, samples, device, dirty, budget, left_out, .. } = self;
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
                TrackerOutput::Event(event) => {
                    if !budget.take(at.mono) {
                        *left_out.entry(event.name()).or_default() += 1;
                        continue;
                    }
                    Payload::Noticed(ids.event(event))
                }
                TrackerOutput::Vehicle(vehicle) => Payload::Vehicle(vehicle),
                TrackerOutput::Session(session) => Payload::Session(ids.session(session, at.utc)),
                TrackerOutput::Stuck(value, is_stuck) => {
                    let Some(PointIx(point)) = places[value.index()] else { continue };
                    let Some(field) = fields.get(usize::from(point)).cloned() else { continue };
                    Payload::Noticed(if is_stuck {
                        EventKind::PointFrozen(field)
                    } else {
                        EventKind::PointMoving(field)
                    })
                }
            };
            samples.push(Sample { device: *device, at, payload });
            *dirty = true;
        }
    }

    /// What a record holds: usually one V2GTP frame, from a sender that mirrors its reads also several or a part of one.
    /// `own` is where it stands on the line of the feed's times.
    pub(super) fn frames(&mut self, from_vehicle: bool, bytes: &[u8], at: Stamp, own: Mono) {
        let Self { tracker, directions, .. } = self;
        let direction = &mut directions[usize::from(from_vehicle)];
        let mut take = |piece: Piece<'_>| match piece {
            Piece::Frame { payload_type, payload } => tracker.handle_frame_of(payload_type, payload, at.mono, own),
            Piece::Bad(Unreadable::Garbage) if bytes.first().is_some_and(|byte| TLS.contains(byte)) => {
                tracker.handle_encrypted(at.mono);
            }
            Piece::Bad(reason) => tracker.handle_unreadable(reason, at.mono),
        };
        // The rest of a frame does not begin like one: then that rest has not come, and never will.
        if begins_a_message(bytes) {
            direction.finish(&mut take);
        }
        direction.next_record();
        direction.push(bytes, &mut take);
        self.begun_at[usize::from(from_vehicle)] = at.mono;
        self.hear(at, |_| {});
        self.dirty = true;
    }

    /// A connection begins or ends: what is left of a frame is none.
    pub(super) fn cut(&mut self, at: Stamp) {
        self.finish_those(at, |_| true);
    }

    /// What only time tells: silence, a trouble that goes on, the rest of a frame that does not come.
    pub(super) fn tick(&mut self, at: Stamp) {
        self.finish_those(at, |begun_at| at.mono.since(begun_at) >= REST_WITHIN);
        self.hear(at, |tracker| tracker.poll(at.mono));
        if !self.left_out.is_empty() && self.budget.take(at.mono) {
            let counts = std::mem::take(&mut self.left_out);
            let counts: Vec<String> = counts.into_iter().map(|(kind, count)| format!("{count} {kind}")).collect();
            let what = format!("not told each: {}", counts.join(", "));
            self.notice(self.ids.event(SessionEvent::Notified { what: what.into() }), at);
        }
    }

    fn finish_those(&mut self, at: Stamp, is_over: impl Fn(Mono) -> bool) {
        let Self { tracker, directions, begun_at, dirty, .. } = self;
        for (direction, begun_at) in directions.iter_mut().zip(begun_at) {
            if direction.is_begun() && is_over(*begun_at) {
                *dirty = true;
                direction.finish(|piece| {
                    if let Piece::Bad(reason) = piece {
                        tracker.handle_unreadable(reason, at.mono);
                    }
                });
            }
        }
        self.hear(at, |_| {});
    }

    /// A feed speaks of this connector for the first time.
    pub(super) fn feed_connected(&mut self, at: Stamp) {
        self.feeds += 1;
        if self.feeds == 1 {
            self.tell(SessionEvent::FeedConnected, at);
        }
    }

    /// A feed that spoke of it is gone.
    pub(super) fn feed_lost(&mut self, reason: &str, at: Stamp) {
        self.feeds = self.feeds.saturating_sub(1);
        if self.feeds == 0 {
            self.cut(at);
            self.hear(at, |tracker| tracker.handle_feed_lost(at.mono));
            self.tell(SessionEvent::FeedLost { reason: reason.into() }, at);
            self.samples.push(Sample { device: self.device, at, payload: Payload::Silent(Missing::Timeout) });
        }
    }

    pub(super) fn has_feed(&self) -> bool {
        self.feeds > 0
    }

    fn tell(&mut self, event: SessionEvent, at: Stamp) {
        if self.budget.take(at.mono) {
            self.notice(self.ids.event(event), at);
        } else {
            *self.left_out.entry(event.name()).or_default() += 1;
        }
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
            facts.session_id = self.ids.running().cloned();
            return true;
        }
        false
    }

    pub(super) fn tracker(&self) -> &Tracker {
        &self.tracker
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::{ClockTrust, OfSession, Utc};
    use crate::spec::{DeviceKind, DeviceSpec};

    #[test]
    fn a_feed_that_flaps_is_a_few_events_a_second_and_a_count_of_the_others() {
        let spec = DeviceSpec {
            id: "evse-1".try_into().expect("a name"),
            kind: DeviceKind::Evse,
            profile: "iso15118".to_owned(),
            points: vec![].into(),
            groups: vec![],
        };
        let mut adapter = SessionAdapter::new(&Target { ix: DeviceIx(0), connector: 1, spec }, &VehicleIds::Send, true);
        let at = |ms: u64| Stamp { mono: Mono(ms * 1_000_000), utc: Utc(0), trust: ClockTrust::Synced };
        // 100 times a second, for 20 s; then it is quiet.
        for turn in 0..2_000 {
            adapter.feed_connected(at(1_000 + turn * 10));
            adapter.feed_lost("the station closed it", at(1_005 + turn * 10));
            adapter.tick(at(1_005 + turn * 10));
        }
        adapter.tick(at(30_000));
        let (mut told, mut counted) = (0, 0);
        for sample in adapter.drain() {
            match sample.payload {
                Payload::Noticed(EventKind::Session(OfSession { event: SessionEvent::Notified { what }, .. })) => {
                    let counts = what.strip_prefix("not told each: ").expect("counts").split(", ");
                    counted += counts.filter_map(|count| count.split(' ').next()?.parse::<u64>().ok()).sum::<u64>();
                }
                Payload::Noticed(_) => told += 1,
                _ => {}
            }
        }
        assert!(told < 128 + 2 * 20, "{told}");
        assert_eq!(told + counted, 4_000, "each is told or counted");
    }
}
