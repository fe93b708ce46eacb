//! Carries bytes from mirror feeds, a tap or recordings to the ears of a bus, and their samples to the pipeline.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hal::{Clock, PacketTap};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, sleep_until};

use super::decode::Unreadable;
use super::ear::Ear;
use super::frames::{Frames, Piece};
use super::record::{Kind, Record, Records};
use super::tap::Tap;
use super::{Feed, Port};
use crate::health::{DeviceFacts, DeviceState, Facts, Pulse, SessionFacts};
use crate::measure::{Missing, Sample, Stamp};

/// How often ears are asked for what only time tells: a lost segment, silence, a trouble that goes on.
const TICK: Duration = Duration::from_millis(50);
/// How long to wait before a socket or an interface that cannot be had is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// A charger has one feed; a depot's controller may serve a few.
const FEEDS_MAX: usize = 16;
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
    facts: Arc<Facts>,
    pulse: Pulse,
    mut stop: watch::Receiver<bool>,
) {
    let mut desk = Desk::new(&port, samples, facts, pulse);
    let now = || -> Stamp { clock.now().into() };
    let heard = async {
        match &port.feed {
            Feed::MirrorUnix(path) => mirror(Door::Unix(path), &mut desk, &now).await,
            Feed::MirrorTcp { host, port } => mirror(Door::Tcp(host, *port), &mut desk, &now).await,
            Feed::Tap(interface) => tap(interface, &mut desk, &now).await,
            Feed::Files(pairs) => replay(pairs, port.window, &mut desk, &now).await,
        }
    };
    tokio::select! {
        () = heard => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    let at = now();
    desk.all(|ear| ear.hear(at, |tracker| tracker.handle_stop(at.mono)));
}

/// The ears of a bus, and where they tell.
struct Desk {
    ears: Vec<Ear>,
    samples: mpsc::Sender<Sample>,
    facts: Arc<Facts>,
    pulse: Pulse,
    /// What was told of each ear last.
    told: Vec<SessionFacts>,
    /// Why nothing can be heard on this bus.
    trouble: Option<String>,
}

impl Desk {
    fn new(port: &Port, samples: mpsc::Sender<Sample>, facts: Arc<Facts>, pulse: Pulse) -> Self {
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
        let ears: Vec<Ear> = port.devices.iter().map(Ear::new).collect();
        let told = ears.iter().map(|_| SessionFacts::default()).collect();
        Self { ears, samples, facts, pulse, told, trouble: None }
    }

    /// Lets every ear work.
    fn all(&mut self, mut work: impl FnMut(&mut Ear)) {
        for index in 0..self.ears.len() {
            work(&mut self.ears[index]);
            self.tell(index);
        }
    }

    /// Lets one ear work.
    fn one(&mut self, index: usize, work: impl FnOnce(&mut Ear)) {
        work(&mut self.ears[index]);
        self.tell(index);
    }

    /// Never waits: a wire must not feel what is behind it.
    fn tell(&mut self, index: usize) {
        let ear = &mut self.ears[index];
        let mut shed = 0;
        for sample in ear.drain() {
            shed += u64::from(self.samples.try_send(sample).is_err());
        }
        if shed > 0 {
            self.facts.pipeline(|facts| facts.samples_shed += shed);
        }
        let told = &mut self.told[index];
        if ear.news(told) {
            let state = if ear.has_feed() || ear.tracker().messages() > 0 {
                DeviceState::Answering
            } else if self.trouble.is_some() {
                DeviceState::Silent(Missing::BusOff)
            } else {
                DeviceState::Unknown
            };
            self.facts.device(&ear.id, |facts| {
                facts.state = state;
                facts.answers = ear.tracker().messages();
                for (reason, count) in ear.tracker().unreadable() {
                    facts.failures.insert(reason.as_str().to_owned(), count);
                }
                facts.session = Some(told.clone());
            });
        }
    }

    fn tick(&mut self, at: Stamp) {
        self.pulse.beat(at.mono);
        self.all(|ear| ear.hear(at, |tracker| tracker.poll(at.mono)));
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
        for ear in &self.ears {
            self.facts.device(&ear.id, |facts| {
                if let Some(why) = &trouble {
                    facts.last_failure = Some(why.clone());
                    facts.state = DeviceState::Silent(Missing::BusOff);
                }
            });
        }
        self.trouble = trouble;
    }
}

/// Where feeds come in.
enum Door<'a> {
    Unix(&'a Path),
    Tcp(&'a str, u16),
}

enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

type Stream = Box<dyn AsyncRead + Send + Unpin>;

impl Door<'_> {
    async fn open(&self) -> io::Result<Listener> {
        match self {
            Self::Unix(path) => {
                use std::os::unix::fs::{FileTypeExt, PermissionsExt};
                // What an agent before this one has left. Only a socket is ever removed.
                if fs::symlink_metadata(path).is_ok_and(|left| left.file_type().is_socket()) {
                    fs::remove_file(path)?;
                }
                if let Some(directory) = path.parent() {
                    fs::create_dir_all(directory)?;
                }
                let listener = UnixListener::bind(path)?;
                fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
                Ok(Listener::Unix(listener))
            }
            Self::Tcp(host, port) => Ok(Listener::Tcp(TcpListener::bind((*host, *port)).await?)),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Unix(path) => path.display().to_string(),
            Self::Tcp(host, port) => format!("{host} port {port}"),
        }
    }
}

impl Listener {
    async fn accept(&self) -> io::Result<Stream> {
        Ok(match self {
            Self::Unix(listener) => Box::new(listener.accept().await?.0),
            Self::Tcp(listener) => Box::new(listener.accept().await?.0),
        })
    }
}

/// What a feed's task tells.
enum FromFeed {
    Bytes(u64, Vec<u8>),
    Closed(u64, String),
}

/// A feed, as the bus knows it.
#[derive(Default)]
struct OpenFeed {
    records: Records,
    /// The ears it has spoken to, by their place.
    ears: Vec<usize>,
}

async fn mirror(door: Door<'_>, desk: &mut Desk, now: &impl Fn() -> Stamp) {
    loop {
        match door.open().await {
            Ok(listener) => {
                desk.bus_trouble(None);
                let error = serve(&listener, desk, now).await;
                desk.bus_trouble(Some(format!("{}: {error}", door.name())));
            }
            Err(error) => {
                desk.bus_trouble(Some(format!("{} cannot be listened on: {error}", door.name())));
            }
        }
        desk.tick(now());
        sleep(RETRY).await;
    }
}

/// Serves feeds until the listener fails.
async fn serve(listener: &Listener, desk: &mut Desk, now: &impl Fn() -> Stamp) -> io::Error {
    let (sender, mut news) = mpsc::channel(READS_MAX);
    let mut readers = JoinSet::new();
    let mut feeds: BTreeMap<u64, OpenFeed> = BTreeMap::new();
    let mut numbers = 0_u64..;
    let mut ticks = interval(TICK);
    loop {
        tokio::select! {
            accepted = listener.accept(), if feeds.len() < FEEDS_MAX => match accepted {
                Ok(stream) => {
                    let Some(number) = numbers.next() else { continue };
                    feeds.insert(number, OpenFeed::default());
                    readers.spawn(read(number, stream, sender.clone()));
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => return error,
            },
            Some(told) = news.recv() => match told {
                FromFeed::Bytes(number, bytes) => {
                    let Some(feed) = feeds.get_mut(&number) else { continue };
                    if let Err(why) = hear_records(feed, &bytes, desk, now()) {
                        close(feeds.remove(&number), &why, Some(Unreadable::BadRecord), desk, now());
                    }
                }
                FromFeed::Closed(number, why) => {
                    let Some(feed) = feeds.remove(&number) else { continue };
                    let cut_off = (!feed.records.is_between()).then_some(Unreadable::Truncated);
                    close(Some(feed), &why, cut_off, desk, now());
                }
            },
            Some(_) = readers.join_next() => {}
            _ = ticks.tick() => desk.tick(now()),
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
            Err(error) => break error.to_string(),
        }
    };
    let _ = news.send(FromFeed::Closed(number, why)).await;
}

fn hear_records(feed: &mut OpenFeed, bytes: &[u8], desk: &mut Desk, at: Stamp) -> Result<(), String> {
    let OpenFeed { records, ears } = feed;
    let heard = records.push(bytes, |record| hear_record(ears, &record, desk, at));
    heard.map_err(|bad| bad.to_string())
}

fn hear_record(ears: &mut Vec<usize>, record: &Record<'_>, desk: &mut Desk, at: Stamp) {
    let Some(index) = desk.ears.iter().position(|ear| ear.connector == record.connector) else {
        // Told at the first device of the bus: some connector of its charger has none.
        desk.one(0, |ear| ear.hear(at, |tracker| tracker.handle_unreadable(Unreadable::UnknownConnector, at.mono)));
        return;
    };
    let is_new = !ears.contains(&index);
    if is_new {
        ears.push(index);
    }
    desk.told[index].lag_ms = lag_ms(at, record.unix_us);
    desk.one(index, |ear| {
        if is_new {
            ear.feed_connected(at);
        }
        match record.kind {
            Kind::Open => ear.hear(at, |tracker| tracker.handle_open(at.mono)),
            Kind::FromVehicle | Kind::FromStation => ear.frame(record.bytes, at),
            Kind::Close => ear.hear(at, |tracker| tracker.handle_close(at.mono)),
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

fn close(feed: Option<OpenFeed>, why: &str, fault: Option<Unreadable>, desk: &mut Desk, at: Stamp) {
    let Some(OpenFeed { ears, .. }) = feed else { return };
    if let (Some(reason), true) = (fault, ears.is_empty()) {
        desk.one(0, |ear| ear.hear(at, |tracker| tracker.handle_unreadable(reason, at.mono)));
    }
    for index in ears {
        desk.one(index, |ear| {
            if let Some(reason) = fault {
                ear.hear(at, |tracker| tracker.handle_unreadable(reason, at.mono));
            }
            ear.feed_lost(why, at);
        });
    }
}

async fn tap(interface: &str, desk: &mut Desk, now: &impl Fn() -> Stamp) {
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    loop {
        let mut tap = Tap::default();
        match PacketTap::open(interface) {
            Err(error) => {
                let needs =
                    if error.kind() == io::ErrorKind::PermissionDenied { " (it needs CAP_NET_RAW)" } else { "" };
                desk.bus_trouble(Some(format!("the interface {interface} cannot be tapped{needs}: {error}")));
            }
            Ok(mut packets) => {
                desk.bus_trouble(None);
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
                            desk.one(0, |ear| {
                                ear.hear(at, |tracker| tap.handle_packet(&buffer[..length], at.mono, tracker));
                            });
                        }
                        Some(Err(error)) => {
                            desk.bus_trouble(Some(format!("the interface {interface}: {error}")));
                            break;
                        }
                        None => {
                            for _ in 0..packets.dropped() {
                                desk.one(0, |ear| {
                                    ear.hear(at, |tracker| tracker.handle_unreadable(Unreadable::Lost, at.mono));
                                });
                            }
                            desk.one(0, |ear| ear.hear(at, |tracker| tap.poll(at.mono, tracker)));
                            desk.tick(at);
                            tick = Instant::now() + TICK;
                        }
                    }
                }
            }
        }
        desk.tick(now());
        sleep(RETRY).await;
    }
}

/// The frames of one recording, in order; `Err` is a run of bytes that are none.
type Recorded = Vec<Result<(u16, Vec<u8>), Unreadable>>;

async fn replay(pairs: &[(PathBuf, PathBuf)], pace: Duration, desk: &mut Desk, now: &impl Fn() -> Stamp) {
    for (vehicle, station) in pairs {
        let sides = [recorded(vehicle), recorded(station)];
        for (path, side) in [vehicle, station].into_iter().zip(&sides) {
            if let Err(error) = side {
                desk.bus_trouble(Some(format!("the recording {} cannot be read: {error}", path.display())));
            }
        }
        let [Ok(requests), Ok(answers)] = sides else { continue };
        desk.one(0, |ear| {
            let at = now();
            ear.hear(at, |tracker| tracker.handle_open(at.mono));
        });
        let mut next = Instant::now();
        for turn in 0..requests.len().max(answers.len()) {
            // Half duplex: the answer to each request follows it.
            for frame in [requests.get(turn), answers.get(turn)].into_iter().flatten() {
                let at = now();
                desk.one(0, |ear| {
                    ear.hear(at, |tracker| match frame {
                        Ok((payload_type, payload)) => tracker.handle_frame(*payload_type, payload, at.mono),
                        Err(reason) => tracker.handle_unreadable(*reason, at.mono),
                    });
                });
            }
            next += pace;
            while Instant::now() < next {
                sleep_until(next.min(Instant::now() + TICK)).await;
                desk.tick(now());
            }
        }
        desk.one(0, |ear| {
            let at = now();
            ear.hear(at, |tracker| tracker.handle_close(at.mono));
        });
    }
    // A recording ends; the agent goes on.
    loop {
        sleep(TICK).await;
        desk.tick(now());
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
