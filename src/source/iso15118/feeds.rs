//! The feeds of a mirror: what they send goes to the adapters they speak of, and there are never too many. Pure: `at` is an
//! argument.

use std::collections::BTreeMap;
use std::ops::RangeFrom;

use tokio::task::AbortHandle;

use super::admission::{Peer, Place, to_make_room};
use super::decode::Unreadable;
use super::driver::Driver;
use super::feed_clock::FeedClock;
use super::lateness::Hold;
use super::record::{Kind, Record, Records, first_time};
use crate::measure::{Mono, Stamp};
use crate::tls::Refusal;

/// A charger has one feed; a depot's controller may serve a few.
pub(super) const FEEDS_MAX: usize = 16;

/// What a feed's task tells.
pub(super) enum FromFeed {
    Bytes(u64, Vec<u8>),
    Closed(u64, String),
}

/// Those that are open.
pub(super) struct Feeds {
    open: BTreeMap<u64, Feed>,
    numbers: RangeFrom<u64>,
}

/// A feed, as the bus knows it.
struct Feed {
    /// Who reads it; ended with it.
    reader: AbortHandle,
    peer: Option<Peer>,
    /// It has sent a record.
    has_spoken: bool,
    records: Records,
    clock: FeedClock,
    held: Option<Hold>,
    /// The adapters it has spoken to, by their place.
    adapters: Vec<usize>,
}

impl Feeds {
    pub(super) fn new() -> Self {
        Self { open: BTreeMap::new(), numbers: 0.. }
    }

    /// One more; `reader` begins to read the feed of this number.
    pub(super) fn open(&mut self, peer: Option<Peer>, reader: impl FnOnce(u64) -> AbortHandle) {
        if let Some(number) = self.numbers.next() {
            self.open.insert(number, Feed::new(reader(number), peer));
        }
    }

    pub(super) fn are_full(&self) -> bool {
        self.open.len() >= FEEDS_MAX
    }

    /// Whether one more has room, or gets it from a mute one. Who has none is told so, at `name`.
    pub(super) fn make_room(
        &mut self,
        (newcomer, by_certificate): (Option<Peer>, bool),
        name: &str,
        driver: &mut Driver,
        at: Stamp,
    ) -> bool {
        let Some((refusal, mute)) = self.crowded(newcomer, by_certificate) else { return true };
        let has_room = mute.is_some();
        close(mute.and_then(|mute| self.open.remove(&mute)), refusal.reason, None, driver, at);
        driver.refuse(&name, &refusal, at);
        has_room
    }

    /// Who cannot be a feed because there are too many: a mute one that makes room, or the new one.
    fn crowded(&self, newcomer: Option<Peer>, by_certificate: bool) -> Option<(Refusal, Option<u64>)> {
        if !self.are_full() {
            return None;
        }
        let place = |feed: &Feed| Place { peer: feed.peer, is_mute: !feed.has_spoken };
        let places: Vec<Place> = self.open.values().map(place).collect();
        let mute = to_make_room(&places, newcomer, by_certificate);
        let mute = mute.and_then(|place| self.open.keys().nth(place).copied());
        let refusal = match mute {
            Some(_) => Refusal {
                reason: "feed_mute",
                what: format!("it has sent no record, and made room for another when {FEEDS_MAX} feeds were open"),
                remedy: "find out what connects here and does not speak",
            },
            None => Refusal {
                reason: "feeds_full",
                what: format!("{FEEDS_MAX} feeds are open, and no bus has more"),
                remedy: "let it send over one of them, or give it a bus of its own",
            },
        };
        Some((refusal, mute))
    }

    /// Hears what the reader of a feed tells.
    pub(super) fn hear(&mut self, told: FromFeed, driver: &mut Driver, at: Stamp) {
        match told {
            FromFeed::Bytes(number, bytes) => {
                let Some(feed) = self.open.get_mut(&number) else { return };
                if let Err(why) = feed.hear_or_hold(bytes, driver, at) {
                    close(self.open.remove(&number), &why, Some(Unreadable::BadRecord), driver, at);
                }
            }
            FromFeed::Closed(number, why) => {
                let Some(mut feed) = self.open.remove(&number) else { return };
                if let Err(why) = feed.release(driver, at) {
                    return close(Some(feed), &why, Some(Unreadable::BadRecord), driver, at);
                }
                let cut_off = (!feed.records.is_between()).then_some(Unreadable::Truncated);
                close(Some(feed), &why, cut_off, driver, at);
            }
        }
    }

    /// Hears what was kept back for long enough.
    pub(super) fn release_held(&mut self, driver: &mut Driver, at: Stamp) {
        let is_over = |feed: &Feed| feed.held.as_ref().is_some_and(|hold| hold.is_over(at.mono));
        let over: Vec<u64> = self.open.iter().filter(|(_, feed)| is_over(feed)).map(|(number, _)| *number).collect();
        for number in over {
            let Some(feed) = self.open.get_mut(&number) else { continue };
            if let Err(why) = feed.release(driver, at) {
                close(self.open.remove(&number), &why, Some(Unreadable::BadRecord), driver, at);
            }
        }
    }

    /// All end.
    pub(super) fn close(self, why: &str, driver: &mut Driver, at: Stamp) {
        for feed in self.open.into_values() {
            close(Some(feed), why, None, driver, at);
        }
    }
}

impl Feed {
    fn new(reader: AbortHandle, peer: Option<Peer>) -> Self {
        let (records, clock, held, adapters) = Default::default();
        Self { reader, peer, has_spoken: false, records, clock, held, adapters }
    }

    /// The first records of a station whose clock is another one wait for the last of those that come with them.
    fn hear_or_hold(&mut self, bytes: Vec<u8>, driver: &mut Driver, at: Stamp) -> Result<(), String> {
        if let Some(hold) = &mut self.held {
            hold.bytes.extend_from_slice(&bytes);
            hold.newest = at.mono;
            return if hold.is_over(at.mono) { self.release(driver, at) } else { Ok(()) };
        }
        if !self.has_spoken && first_time(&bytes).is_some_and(|first| driver.is_puzzled_by(first, at)) {
            self.has_spoken = true;
            self.held = Some(Hold { bytes, since: at.mono, newest: at.mono });
            return Ok(());
        }
        self.hear(&bytes, driver, at)
    }

    /// Hears what was kept back: its newest record is of now.
    fn release(&mut self, driver: &mut Driver, at: Stamp) -> Result<(), String> {
        let Some(Hold { bytes, .. }) = self.held.take() else { return Ok(()) };
        // What is no record is told when it is heard.
        let _ = Records::default().push(&bytes, |record| driver.is_of_now(&record, at));
        self.hear(&bytes, driver, at)
    }

    fn hear(&mut self, bytes: &[u8], driver: &mut Driver, at: Stamp) -> Result<(), String> {
        let Self { records, clock, adapters, has_spoken, .. } = self;
        let heard = records.push(bytes, |record| {
            *has_spoken = true;
            let own = clock.at(record.unix_us, at.mono, driver.heard());
            hear_record(adapters, &record, driver, (at, own));
        });
        heard.map_err(|bad| bad.to_string())
    }
}

fn hear_record(adapters: &mut Vec<usize>, record: &Record<'_>, driver: &mut Driver, (at, own): (Stamp, Mono)) {
    let Some(index) = driver.place_of(record.connector) else {
        // Told at the first device of the bus: some connector of its charger has none.
        driver.one(0, |adapter| {
            adapter.hear(at, |tracker| tracker.handle_unreadable(Unreadable::UnknownConnector, at.mono));
        });
        return;
    };
    let is_new = !adapters.contains(&index);
    if is_new {
        adapters.push(index);
    }
    let (arrived, at) = (at, driver.stamp(index, record.unix_us, at));
    driver.one(index, |adapter| {
        if is_new {
            adapter.feed_connected(arrived);
        }
        match record.kind {
            Kind::Open => {
                adapter.cut(at);
                adapter.hear(at, |tracker| tracker.handle_open(at.mono));
            }
            Kind::FromVehicle => adapter.frames(true, record.bytes, at, own),
            Kind::FromStation => adapter.frames(false, record.bytes, at, own),
            Kind::Close => {
                adapter.cut(at);
                adapter.hear(at, |tracker| tracker.handle_close(at.mono));
            }
        }
    });
}

fn close(feed: Option<Feed>, why: &str, fault: Option<Unreadable>, driver: &mut Driver, at: Stamp) {
    let Some(Feed { adapters, reader, .. }) = feed else { return };
    reader.abort();
    if let (Some(reason), true) = (fault, adapters.is_empty()) {
        driver.one(0, |adapter| adapter.hear(at, |tracker| tracker.handle_unreadable(reason, at.mono)));
    }
    for index in adapters {
        driver.one(index, |adapter| {
            if let Some(reason) = fault {
                adapter.hear(at, |tracker| tracker.handle_unreadable(reason, at.mono));
            }
            adapter.feed_lost(why, at);
        });
    }
}
