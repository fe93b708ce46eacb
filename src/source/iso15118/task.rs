//! Carries bytes from mirror feeds, a tap or recordings to the adapters of a bus, and their samples to the pipeline.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hal::{Clock, PacketTap};
use tokio::io::AsyncReadExt;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet, yield_now};
use tokio::time::{Instant, interval, sleep, sleep_until};

use super::Port;
use super::adapter::SessionAdapter;
use super::admission::{Peer, Place, to_make_room};
use super::decode::Unreadable;
use super::feed_clock::FeedClock;
use super::frames::{Frames, Piece};
use super::listener::{self, Caller, FeedListener, Handshakes, Stream, address_of, is_of_one_caller};
use super::record::{Kind, Record, Records};
use super::refused::Refusals;
use super::tap::Tap;
use crate::health::{DeviceFacts, DeviceState, Heartbeat, SessionFacts, StatusBoard};
use crate::measure::{EventKind, Missing, Mono, Sample, SessionEvent, Stamp};
use crate::net::{Mirror, SessionSource};
use crate::source::outbox::Outbox;
use crate::spec::BusId;
use crate::tls::{Certificates, Days, Look, Refusal};

/// How often adapters are asked for what only time tells: a lost segment, silence, a trouble that goes on.
const TICK: Duration = Duration::from_millis(50);
/// How long to wait before a socket or an interface that cannot be had is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// Between two looks at the files of TLS, beside the one at each connection.
const LOOK: Duration = Duration::from_secs(5);
/// A charger has one feed; a depot's controller may serve a few.
const FEEDS_MAX: usize = 16;
/// Turns in which a feed's reader comes by what was sent: in the first its socket is polled.
const TURNS: usize = 2;
/// One read of a feed.
const READ_BYTES: usize = 8 << 10;
/// Reads that wait for the bus: 16 feeds at two each.
const READS_MAX: usize = 32;
/// The largest packet that segmentation offload hands over.
const PACKET_BYTES_MAX: usize = 64 << 10;
/// A recording larger than this is none: an hour of a charging loop has 4 MB.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Hears the port's sessions until `stop` turns true.
pub async fn run<C: Clock>(
    port: Port,
    clock: Arc<C>,
    samples: mpsc::Sender<Sample>,
    facts: Arc<StatusBoard>,
    heartbeat: Heartbeat,
    mut stop: watch::Receiver<bool>,
) {
    let mut driver = Driver::new(&port, samples, facts, heartbeat);
    let now = || -> Stamp { clock.now().into() };
    let heard = async {
        match &port.source {
            SessionSource::Mirror(address) => mirror(address, &mut driver, &now).await,
            SessionSource::Interface(interface) => tap(interface, &mut driver, &now).await,
            SessionSource::Files(pairs) => replay(pairs, port.window, &mut driver, &now).await,
        }
    };
    tokio::select! {
        () = heard => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    let at = now();
    driver.all(|adapter| adapter.hear(at, |tracker| tracker.handle_stop(at.mono)));
    driver.outbox.close().await;
}

/// The adapters of a bus, and where they tell.
struct Driver {
    bus: BusId,
    adapters: Vec<SessionAdapter>,
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
}

impl Driver {
    fn new(port: &Port, samples: mpsc::Sender<Sample>, facts: Arc<StatusBoard>, heartbeat: Heartbeat) -> Self {
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
        let adapters: Vec<SessionAdapter> =
            port.devices.iter().map(|target| SessionAdapter::new(target, &port.vehicle_ids)).collect();
        let told = adapters.iter().map(|_| SessionFacts::default()).collect();
        Self {
            bus: port.bus.clone(),
            adapters,
            outbox: Outbox::new(samples, Arc::clone(&facts)),
            facts,
            heartbeat,
            told,
            trouble: None,
            refusals: Refusals::default(),
            certificates: Certificates::default(),
            broken: None,
        }
    }

    /// Lets every adapter work.
    fn all(&mut self, mut work: impl FnMut(&mut SessionAdapter)) {
        for index in 0..self.adapters.len() {
            work(&mut self.adapters[index]);
            self.tell(index);
        }
    }

    /// Lets one adapter work.
    fn one(&mut self, index: usize, work: impl FnOnce(&mut SessionAdapter)) {
        work(&mut self.adapters[index]);
        self.tell(index);
    }

    /// Where the newest message stands on the line of its feed's times. One feed may speak of several connectors.
    fn heard(&self) -> Mono {
        self.adapters.iter().map(|adapter| adapter.tracker().heard_own()).max().unwrap_or(Mono(0))
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

    fn tick(&mut self, at: Stamp) {
        self.heartbeat.beat(at.mono);
        self.outbox.flush();
        self.tell_refusals(at);
        self.all(|adapter| adapter.tick(at));
    }

    /// A sender is not let in.
    fn refuse(&mut self, peer: &impl fmt::Display, refusal: &Refusal, at: Stamp) {
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
            adapters[0].notice(EventKind::Session(event), at);
        });
    }

    /// What the files of TLS have become.
    fn looked(&mut self, look: Look, at: Stamp) {
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
    fn count_days(&mut self, days: &[Days], at: Stamp) {
        for (text, notice) in self.certificates.look(days, at) {
            tracing::warn!(bus = %self.bus, "{text}");
            self.one(0, |adapter| adapter.notice(notice, at));
        }
        self.tell_trouble(at);
    }

    /// What a person should look at though the bus can be heard.
    fn tell_trouble(&self, at: Stamp) {
        let refused = self.refusals.trouble(at.mono).map(str::to_owned);
        let all: Vec<_> = self.broken.iter().cloned().chain(self.certificates.warnings()).chain(refused).collect();
        let trouble = (!all.is_empty()).then(|| format!("at its bus {}: {}", self.bus, all.join("; ")));
        self.facts.device(&self.adapters[0].id, |facts| facts.trouble = trouble);
    }

    /// Nothing can be heard, or all can again.
    fn bus_trouble(&mut self, trouble: Option<String>) {
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

/// What a feed's task tells.
enum FromFeed {
    Bytes(u64, Vec<u8>),
    Closed(u64, String),
}

/// A feed, as the bus knows it.
struct OpenFeed {
    /// Who reads it; ended with it.
    reader: AbortHandle,
    peer: Option<Peer>,
    /// It has sent a record.
    has_spoken: bool,
    records: Records,
    clock: FeedClock,
    /// The adapters it has spoken to, by their place.
    adapters: Vec<usize>,
}

async fn mirror(address: &Mirror, driver: &mut Driver, now: &impl Fn() -> Stamp) {
    loop {
        match FeedListener::open(address).await {
            Ok(mut listener) => {
                driver.bus_trouble(None);
                let error = serve(&mut listener, &listener::name(address), driver, now).await;
                driver.bus_trouble(Some(format!("{}: {error}", listener::name(address))));
            }
            Err(closed) => driver.bus_trouble(Some(closed.to_string())),
        }
        driver.tick(now());
        sleep(RETRY).await;
    }
}

/// Serves feeds until the listener fails.
async fn serve(listener: &mut FeedListener, name: &str, driver: &mut Driver, now: &impl Fn() -> Stamp) -> io::Error {
    let (sender, mut news) = mpsc::channel(READS_MAX);
    let mut readers = JoinSet::new();
    let mut handshakes = Handshakes::default();
    let mut feeds: BTreeMap<u64, OpenFeed> = BTreeMap::new();
    let mut numbers = 0_u64..;
    let (mut ticks, mut looks) = (interval(TICK), interval(LOOK));
    let failed = loop {
        // Open feeds keep nobody from being told that there are too many.
        let takes_more = !listener.is_guarded() || handshakes.has_room();
        let arrived = tokio::select! {
            accepted = listener.accept(), if takes_more => match accepted {
                Ok(Caller::Feed(stream, peer)) => Some((stream, peer)),
                Ok(Caller::Unauthenticated(tcp, peer)) => {
                    driver.looked(listener.look(), now());
                    let given_way = listener.acceptor().and_then(|acceptor| handshakes.begin(tcp, peer, acceptor));
                    if let Some((peer, refusal)) = given_way {
                        driver.refuse(&peer, &refusal, now());
                    }
                    None
                }
                Err(error) if is_of_one_caller(&error) => None,
                Err(error) => break error,
            },
            Some((peer, ended)) = handshakes.next() => match admit(ended, listener, now()) {
                Ok(stream) => {
                    tracing::info!(bus = %driver.bus, %peer, "a sender was let in by its certificate");
                    Some((stream, Some(address_of(peer))))
                }
                Err(refusal) => {
                    driver.refuse(&peer, &refusal, now());
                    None
                }
            },
            Some(told) = news.recv() => {
                from_feed(told, &mut feeds, driver, now());
                None
            }
            Some(_) = readers.join_next() => None,
            _ = ticks.tick() => {
                driver.tick(now());
                None
            }
            _ = looks.tick() => {
                driver.looked(listener.look(), now());
                driver.count_days(&listener.days(), now());
                None
            }
        };
        let Some((stream, peer)) = arrived else { continue };
        if feeds.len() >= FEEDS_MAX {
            // Who has sent something that nobody has looked at yet is not mute.
            for _ in 0..TURNS {
                yield_now().await;
            }
            while let Ok(told) = news.try_recv() {
                from_feed(told, &mut feeds, driver, now());
            }
        }
        if let Some((refusal, mute)) = crowded(&feeds, peer, listener.is_guarded()) {
            let is_refused = mute.is_none();
            close(mute.and_then(|mute| feeds.remove(&mute)), refusal.reason, None, driver, now());
            driver.refuse(&name, &refusal, now());
            if is_refused {
                continue;
            }
        }
        if let Some(number) = numbers.next() {
            let reader = readers.spawn(read(number, stream, sender.clone()));
            feeds.insert(number, OpenFeed::new(reader, peer));
        }
    };
    for feed in feeds.into_values() {
        close(Some(feed), &format!("the door was closed: {failed}"), None, driver, now());
    }
    failed
}

impl OpenFeed {
    fn new(reader: AbortHandle, peer: Option<Peer>) -> Self {
        let (records, clock, adapters) = Default::default();
        Self { reader, peer, has_spoken: false, records, clock, adapters }
    }
}

/// Who cannot be a feed because there are too many: a mute one that makes room, or the new one.
fn crowded(
    feeds: &BTreeMap<u64, OpenFeed>,
    newcomer: Option<Peer>,
    by_certificate: bool,
) -> Option<(Refusal, Option<u64>)> {
    if feeds.len() < FEEDS_MAX {
        return None;
    }
    let places: Vec<Place> = feeds.values().map(|feed| Place { peer: feed.peer, is_mute: !feed.has_spoken }).collect();
    let mute = to_make_room(&places, newcomer, by_certificate).and_then(|place| feeds.keys().nth(place).copied());
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

/// Whether a sender whose handshake has ended has shown who it is.
fn admit(ended: Result<Stream, Refusal>, listener: &FeedListener, at: Stamp) -> Result<Stream, Refusal> {
    ended.map_err(|mut refusal| {
        // A sender's words about a certificate are few; what we see in ours is more.
        let problem = || listener.days().iter().find_map(|days| days.problem(at.utc));
        if let Some(problem) = refusal.blames_us().then(problem).flatten() {
            refusal.what = format!("{} ({problem})", refusal.what);
        }
        refusal
    })
}

fn from_feed(told: FromFeed, feeds: &mut BTreeMap<u64, OpenFeed>, driver: &mut Driver, at: Stamp) {
    match told {
        FromFeed::Bytes(number, bytes) => {
            let Some(feed) = feeds.get_mut(&number) else { return };
            if let Err(why) = hear_records(feed, &bytes, driver, at) {
                close(feeds.remove(&number), &why, Some(Unreadable::BadRecord), driver, at);
            }
        }
        FromFeed::Closed(number, why) => {
            let Some(feed) = feeds.remove(&number) else { return };
            let cut_off = (!feed.records.is_between()).then_some(Unreadable::Truncated);
            close(Some(feed), &why, cut_off, driver, at);
        }
    }
}

/// Reads one feed. Waits for the bus, not for what is behind it; the station never gets an answer.
async fn read(number: u64, mut stream: Stream, news: mpsc::Sender<FromFeed>) {
    let mut buffer = vec![0; READ_BYTES];
    let why = loop {
        match stream.read(&mut buffer).await {
            Ok(0) => break "the station closed it".to_owned(),
            Ok(length) => {
                if news.send(FromFeed::Bytes(number, buffer[..length].to_vec())).await.is_err() {
                    return;
                }
            }
            // A record cut off by it is noticed by its length.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                break "the station closed it without TLS's goodbye (close_notify)".to_owned();
            }
            Err(error) => break error.to_string(),
        }
    };
    let _ = news.send(FromFeed::Closed(number, why)).await;
}

fn hear_records(feed: &mut OpenFeed, bytes: &[u8], driver: &mut Driver, at: Stamp) -> Result<(), String> {
    let OpenFeed { records, clock, adapters, has_spoken, .. } = feed;
    let heard = records.push(bytes, |record| {
        *has_spoken = true;
        let own = clock.at(record.unix_us, at.mono, driver.heard());
        hear_record(adapters, &record, driver, (at, own));
    });
    heard.map_err(|bad| bad.to_string())
}

fn hear_record(adapters: &mut Vec<usize>, record: &Record<'_>, driver: &mut Driver, (at, own): (Stamp, Mono)) {
    let Some(index) = driver.adapters.iter().position(|adapter| adapter.connector == record.connector) else {
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
    driver.told[index].lag_ms = lag_ms(at, record.unix_us);
    driver.one(index, |adapter| {
        if is_new {
            adapter.feed_connected(at);
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

/// From the station's clock to ours; `None` when the two are clearly not one.
fn lag_ms(at: Stamp, unix_us: u64) -> Option<f64> {
    const BELIEVABLE_US: i64 = 60_000_000;
    let by_us = i64::try_from(unix_us).ok().and_then(|sent| (at.utc.0 / 1000).checked_sub(sent))?;
    #[allow(clippy::cast_precision_loss, reason = "within a minute")]
    (by_us.abs() <= BELIEVABLE_US).then_some(by_us as f64 / 1000.0)
}

fn close(feed: Option<OpenFeed>, why: &str, fault: Option<Unreadable>, driver: &mut Driver, at: Stamp) {
    let Some(OpenFeed { adapters, reader, .. }) = feed else { return };
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

async fn tap(interface: &str, driver: &mut Driver, now: &impl Fn() -> Stamp) {
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    loop {
        let mut tap = Tap::default();
        match PacketTap::open(interface) {
            Err(error) => {
                let needs =
                    if error.kind() == io::ErrorKind::PermissionDenied { " (it needs CAP_NET_RAW)" } else { "" };
                driver.bus_trouble(Some(format!("the interface {interface} cannot be tapped{needs}: {error}")));
            }
            Ok(mut packets) => {
                driver.bus_trouble(None);
                let mut tick = Instant::now() + TICK;
                loop {
                    let received = tokio::select! {
                        biased;
                        () = sleep_until(tick) => None,
                        received = packets.receive(&mut buffer) => Some(received),
                    };
                    let at = now();
                    match received {
                        Some(Ok(length)) => {
                            driver.one(0, |adapter| {
                                adapter.hear(at, |tracker| tap.handle_packet(&buffer[..length], at.mono, tracker));
                            });
                        }
                        Some(Err(error)) => {
                            driver.bus_trouble(Some(format!("the interface {interface}: {error}")));
                            break;
                        }
                        None => {
                            for _ in 0..packets.dropped() {
                                driver.one(0, |adapter| {
                                    adapter.hear(at, |tracker| tracker.handle_unreadable(Unreadable::Lost, at.mono));
                                });
                            }
                            driver.one(0, |adapter| adapter.hear(at, |tracker| tap.poll(at.mono, tracker)));
                            driver.tick(at);
                            tick = Instant::now() + TICK;
                        }
                    }
                }
            }
        }
        driver.tick(now());
        sleep(RETRY).await;
    }
}

/// The frames of one recording, in order; `Err` is a run of bytes that are none.
type Recorded = Vec<Result<(u16, Vec<u8>), Unreadable>>;

async fn replay(pairs: &[(PathBuf, PathBuf)], pace: Duration, driver: &mut Driver, now: &impl Fn() -> Stamp) {
    for (vehicle, station) in pairs {
        let sides = [recorded(vehicle), recorded(station)];
        for (path, side) in [vehicle, station].into_iter().zip(&sides) {
            if let Err(error) = side {
                driver.bus_trouble(Some(format!("the recording {} cannot be read: {error}", path.display())));
            }
        }
        let [Ok(requests), Ok(answers)] = sides else { continue };
        driver.one(0, |adapter| {
            let at = now();
            adapter.hear(at, |tracker| tracker.handle_open(at.mono));
        });
        let mut next = Instant::now();
        for turn in 0..requests.len().max(answers.len()) {
            // Half duplex: the answer to each request follows it.
            for frame in [requests.get(turn), answers.get(turn)].into_iter().flatten() {
                let at = now();
                driver.one(0, |adapter| {
                    adapter.hear(at, |tracker| match frame {
                        Ok((payload_type, payload)) => tracker.handle_frame(*payload_type, payload, at.mono),
                        Err(reason) => tracker.handle_unreadable(*reason, at.mono),
                    });
                });
            }
            next += pace;
            while Instant::now() < next {
                sleep_until(next.min(Instant::now() + TICK)).await;
                driver.tick(now());
            }
        }
        driver.one(0, |adapter| {
            let at = now();
            adapter.hear(at, |tracker| tracker.handle_close(at.mono));
        });
    }
    // A recording ends; the agent goes on.
    loop {
        sleep(TICK).await;
        driver.tick(now());
    }
}

fn recorded(path: &Path) -> io::Result<Recorded> {
    use std::io::Read;
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    let (mut frames, mut recorded) = (Frames::default(), Vec::new());
    let mut keep = |piece: Piece<'_>| {
        recorded.push(match piece {
            Piece::Frame { payload_type, payload } => Ok((payload_type, payload.to_vec())),
            Piece::Bad(reason) => Err(reason),
        });
    };
    frames.push(&bytes, &mut keep);
    frames.finish(&mut keep);
    Ok(recorded)
}
