//! Carries bytes from mirror feeds, a tap or recordings to the adapters of a bus (`driver.rs`, `feeds.rs`), and their samples to the
//! pipeline.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hal::{Clock, PacketTap};
use tokio::io::AsyncReadExt;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, interval, sleep, sleep_until};

use super::Port;
use super::admission::Peer;
use super::decode::Unreadable;
use super::driver::Driver;
use super::feeds::{Feeds, FromFeed};
use super::listener::{self, Caller, FeedListener, Handshakes, Stream, address_of, is_of_one_caller};
use super::recording::recorded;
use super::tap::{Tap, cure};
use crate::health::{Heartbeat, StatusBoard, out_of_files};
use crate::measure::{Sample, Stamp};
use crate::net::{Mirror, SessionSource};
use crate::tls::Refusal;

/// How often adapters are asked for what only time tells: a lost segment, silence, a trouble that goes on.
const TICK: Duration = Duration::from_millis(50);
/// How long to wait before a socket or an interface that cannot be had is tried again.
const RETRY: Duration = Duration::from_secs(2);
/// Between two looks at the files of TLS, beside the one at each connection.
const LOOK: Duration = Duration::from_secs(5);
/// Turns in which a feed's reader comes by what was sent: in the first its socket is polled.
const TURNS: usize = 2;
/// One read of a feed.
const READ_BYTES: usize = 8 << 10;
/// Reads that wait for the bus: 16 feeds at two each.
const READS_MAX: usize = 32;
/// The largest packet that segmentation offload hands over.
const PACKET_BYTES_MAX: usize = 64 << 10;

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
    driver.close(now()).await;
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
    let mut feeds = Feeds::new();
    let (mut ticks, mut looks) = (interval(TICK), interval(LOOK));
    let mut pause_until = Instant::now();
    let failed = loop {
        // Open feeds keep nobody from being told that there are too many.
        let takes_more = (!listener.is_guarded() || handshakes.has_room()) && Instant::now() >= pause_until;
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
                // The feeds that are open stay; who calls waits in the queue.
                Err(error) if out_of_files(&error).is_some() => {
                    pause_until = Instant::now() + RETRY;
                    let cure = out_of_files(&error).unwrap_or_default();
                    driver.starve(Some(format!("no sender can be let in: {error}; {cure}")), now());
                    None
                }
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
                feeds.hear(told, driver, now());
                None
            }
            Some(_) = readers.join_next() => None,
            _ = ticks.tick() => {
                feeds.release_held(driver, now());
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
        driver.starve(None, now());
        if !has_room(&mut feeds, (peer, listener.is_guarded()), (&mut news, name), driver, now).await {
            continue;
        }
        feeds.open(peer, |number| readers.spawn(read(number, stream, sender.clone())));
    };
    feeds.close(&format!("the listener has failed: {failed}"), driver, now());
    failed
}

/// Whether one more feed has room, or gets it from a mute one. Who has none is told so.
async fn has_room(
    feeds: &mut Feeds,
    newcomer: (Option<Peer>, bool),
    (news, name): (&mut mpsc::Receiver<FromFeed>, &str),
    driver: &mut Driver,
    now: &impl Fn() -> Stamp,
) -> bool {
    if feeds.are_full() {
        // Who has sent something that nobody has looked at yet is not mute.
        for _ in 0..TURNS {
            yield_now().await;
        }
        while let Ok(told) = news.try_recv() {
            feeds.hear(told, driver, now());
        }
    }
    feeds.make_room(newcomer, name, driver, now())
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

async fn tap(interface: &str, driver: &mut Driver, now: &impl Fn() -> Stamp) {
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    loop {
        let mut tap = Tap::default();
        match PacketTap::open(interface) {
            Err(error) => {
                driver.bus_trouble(Some(format!(
                    "the interface {interface} cannot be tapped: {error}; {}",
                    cure(&error)
                )));
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
