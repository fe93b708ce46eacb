//! The uplink beside a journal that hangs with its disk, against a broker that says only what a test lets it say.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::{Surroundings, run};
use crate::health::{BrokerTrouble, Heartbeats, StatusBoard};
use crate::journal::testing::HangingJournal;
use crate::measure::{BootId, ClockTrust, Epoch, Mono, Notice, Stamp, Utc};
use crate::net::{BrokerUrl, Endpoint, Link};
use crate::uplink::settings::{Birth, Settings};

const CONNACK: [u8; 5] = [0x20, 3, 0, 0, 0];
const PINGRESP: [u8; 2] = [0xd0, 0];
/// For what comes at once, on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// The `n`-th look at the clock.
fn stamp(n: u64) -> Stamp {
    Stamp { mono: Mono(n), utc: Utc(0), trust: ClockTrust::Synced }
}

fn settings(endpoint: Endpoint) -> Settings {
    Settings {
        brokers: vec![BrokerUrl { tls: false, endpoint, websocket: None }],
        client_id: "gw-01".to_owned(),
        prefix: "v2g/depot-a/gw-01".to_owned(),
        keep_alive: Duration::from_secs(60),
        in_flight_max: 16,
        links: vec![Link { interface: None, history_rate_max: 1 << 20, history_bytes_per_day: None }],
        fail_back: Duration::from_secs(600),
        holds_unheard: false,
        tls: None,
        login: None,
        drain: Duration::from_millis(100),
        boot: BootId([1; 16]),
        birth: Birth {
            gateway: "gw-01".try_into().expect("a name"),
            site: "depot-a".try_into().expect("a name"),
            epoch: Epoch(1),
            version: "0.1.0".to_owned(),
            since: stamp(0),
            window: Duration::from_millis(250),
            devices: Vec::new(),
        },
    }
}

/// Takes a CONNECT, whatever is in it, and accepts it.
async fn accept(listener: &TcpListener) -> TcpStream {
    let (mut caller, _) = listener.accept().await.expect("the uplink calls");
    assert_eq!(caller.read_u8().await.expect("a packet"), 0x10, "CONNECT");
    let (mut length, mut shift) = (0, 0);
    loop {
        let byte = usize::from(caller.read_u8().await.expect("its length"));
        length |= (byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            break;
        }
    }
    caller.read_exact(&mut vec![0; length]).await.expect("all of it");
    caller.write_all(&CONNACK).await.expect("it listens");
    caller
}

/// Reads until this was sent.
async fn read_until(caller: &mut TcpStream, what: &[u8]) {
    let mut read = Vec::new();
    while !read.windows(what.len()).any(|part| part == what) {
        assert_ne!(caller.read_buf(&mut read).await.expect("it sends"), 0, "it has ended");
    }
}

/// An uplink beside a journal that hangs.
struct Uplink {
    /// Where its broker listens.
    listener: TcpListener,
    /// How often it has looked at the clock.
    looks: Arc<AtomicU64>,
    heartbeats: Heartbeats,
    facts: Arc<StatusBoard>,
    stop: watch::Sender<bool>,
    running: JoinHandle<()>,
    _noticed: mpsc::Receiver<Notice>,
}

impl Uplink {
    async fn beside(journal: &HangingJournal) -> Self {
        Self::with(journal, Arc::default(), |_| {}).await
    }

    async fn in_boot(journal: &HangingJournal, boot: BootId) -> Self {
        Self::with(journal, Arc::default(), |settings| settings.boot = boot).await
    }

    /// With settings that `change` has changed.
    async fn with(journal: &HangingJournal, facts: Arc<StatusBoard>, change: impl FnOnce(&mut Settings)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = Endpoint::from(listener.local_addr().expect("bound"));
        let looks = Arc::new(AtomicU64::new(0));
        let heartbeats = Heartbeats::default();
        let heartbeat = heartbeats.watch("uplink", Duration::ZERO, Mono(0));
        let (notices, noticed) = mpsc::channel(64);
        let (stop, stopped) = watch::channel(false);
        let clock = {
            let looks = Arc::clone(&looks);
            move || stamp(looks.fetch_add(1, Ordering::Relaxed) + 1)
        };
        let surroundings = Surroundings { facts: Arc::clone(&facts), heartbeat, notices };
        let mut settings = settings(endpoint);
        change(&mut settings);
        let running = tokio::spawn(run(settings, journal.handle(), surroundings, clock, stopped));
        Self { facts, listener, looks, heartbeats, stop, running, _noticed: noticed }
    }

    async fn accept(&self) -> TcpStream {
        timeout(SOON, accept(&self.listener)).await.expect("the uplink calls")
    }

    async fn end(self) {
        self.stop.send_replace(true);
        timeout(SOON, self.running).await.expect("it ends in time").expect("and in order");
    }
}

/// The disk hung in the midst of a sync, and with it the journal's thread. The uplink waited for its lease, gave no sign of
/// life, took no answer of the broker, and was killed by the watchdog.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_journal_hangs_the_uplink_gives_signs_of_life_and_hears_the_broker() {
    let journal = Arc::new(HangingJournal::with_history(1));
    let uplink = Uplink::beside(&journal).await;
    let mut broker = uplink.accept().await;

    let asked = Arc::clone(&journal);
    let answer = spawn_blocking(move || asked.lease_asked()).await.expect("a lease is asked for");
    // It looks at the clock once for each thing that it hears, and once for each beat.
    let begun = uplink.looks.load(Ordering::Relaxed);
    let lives = async {
        while uplink.looks.load(Ordering::Relaxed) < begun + 9 {
            broker.write_all(&PINGRESP).await.expect("it listens");
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, lives).await.expect("the uplink hears nothing while the journal hangs");
    assert!(uplink.heartbeats.silent(Mono(begun + 1)).is_empty(), "no sign of life since the lease was asked for");

    answer();
    timeout(SOON, read_until(&mut broker, b"/history")).await.expect("what was leased goes out");
    uplink.end().await;
    let settled = spawn_blocking(move || journal.settled()).await.expect("the lease comes back");
    assert_eq!(settled, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_leased_for_a_connection_that_has_ended_goes_back_and_not_out_on_the_next() {
    let journal = Arc::new(HangingJournal::with_history(1));
    let uplink = Uplink::beside(&journal).await;
    let broker = uplink.accept().await;
    let asked = Arc::clone(&journal);
    let answer = spawn_blocking(move || asked.lease_asked()).await.expect("a lease is asked for");
    drop(broker);
    let mut broker = uplink.accept().await;
    timeout(SOON, read_until(&mut broker, b"/state")).await.expect("it is online again");

    answer();
    let asked = Arc::clone(&journal);
    let settled = spawn_blocking(move || asked.settled()).await.expect("the lease comes back");
    assert_eq!(settled, 1);
    uplink.end().await;
}

/// PUBACK of a message (MQTT 5, 3.4).
fn answer(id: u8, code: u8) -> [u8; 5] {
    [0x40, 3, 0, id, code]
}

/// A medium was found after all, and the journal went on in another life: `state`, and the will, named the one before until the next
/// start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_journal_goes_on_in_another_life_state_and_will_are_of_that() {
    let journal = HangingJournal::with_history(0);
    let uplink = Uplink::beside(&journal).await;
    let mut broker = uplink.accept().await;
    timeout(SOON, read_until(&mut broker, b"\"epoch\":1,")).await.expect("its state");
    for id in 1..=2 {
        broker.write_all(&answer(id, 0)).await.expect("it listens");
    }
    journal.go_on_as(Epoch(2));
    timeout(SOON, read_until(&mut broker, &[0xe0, 0])).await.expect("it leaves in order");
    drop(broker);
    let connect = async {
        let (mut caller, _) = uplink.listener.accept().await.expect("the uplink calls");
        read_until(&mut caller, b"\"epoch\":2,").await;
        caller.write_all(&CONNACK).await.expect("it listens");
        caller
    };
    let mut broker = timeout(SOON, connect).await.expect("its will is of the other life");
    timeout(SOON, read_until(&mut broker, b"\"epoch\":2,")).await.expect("and so is its state");
    uplink.end().await;
}

/// Nobody subscribed, and that stayed a finding after the uplink had left the broker in order, and after a reload.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_nobody_subscribes_is_forgotten_with_the_connection_and_with_the_plan() {
    let journal = Arc::new(HangingJournal::with_history(0));
    let uplink = Uplink::beside(&journal).await;
    let nobody = |facts: &StatusBoard| facts.status().uplink.no_subscriber.is_some();
    let unheard = async |broker: &mut TcpStream| {
        journal.waits(0, 1);
        let asked = Arc::clone(&journal);
        let one_leased = move || {
            asked.lease_asked()();
            let nothing = asked.lease_asked_in_vain();
            asked.waits(0, 0);
            nothing();
        };
        spawn_blocking(one_leased).await.expect("a lease is asked for");
        timeout(SOON, read_until(broker, b"/history")).await.expect("what was leased goes out");
        // Its own documents, and the entry: numbers go on from one connection to the next.
        for id in 1..=6 {
            broker.write_all(&answer(id, 0x10)).await.expect("it listens");
        }
        let told = async {
            while !nobody(&uplink.facts) {
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, told).await.expect("it is told");
    };
    let mut broker = uplink.accept().await;
    unheard(&mut broker).await;
    journal.go_on_as(Epoch(2));
    timeout(SOON, read_until(&mut broker, &[0xe0, 0])).await.expect("it leaves in order");
    drop(broker);
    let mut broker = uplink.accept().await;
    assert!(!nobody(&uplink.facts), "nobody knows who subscribes now");
    unheard(&mut broker).await;
    // As a generation ends that is told to, and as one that fails.
    let facts = Arc::clone(&uplink.facts);
    uplink.end().await;
    assert!(!nobody(&facts));
    let [broker, what, remedy] = ["a", "nobody", "look"].map(str::to_owned);
    facts.uplink(|facts| facts.no_subscriber = Some(BrokerTrouble { broker, what, remedy }));
    let journal = HangingJournal::with_history(0);
    let next = Uplink::with(&journal, Arc::clone(&facts), |_| {}).await;
    let _broker = next.accept().await;
    assert!(!nobody(&facts));
    next.end().await;
}

/// With `no_subscriber = "hold"` live data waited for nobody, and the end of the agent for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_does_not_wait_for_a_lane_that_nobody_reads() {
    let journal = Arc::new(HangingJournal::with_history(0));
    let change =
        |settings: &mut Settings| (settings.holds_unheard, settings.drain) = (true, Duration::from_secs(3_600));
    let uplink = Uplink::with(&journal, Arc::default(), change).await;
    let mut broker = uplink.accept().await;
    journal.waits(7, 0);
    let asked = Arc::clone(&journal);
    spawn_blocking(move || asked.lease_asked()).await.expect("a lease is asked for")();
    timeout(SOON, read_until(&mut broker, b"/telemetry")).await.expect("what was leased goes out");
    for (id, code) in [(1, 0), (2, 0), (3, 0x10)] {
        broker.write_all(&answer(id, code)).await.expect("it listens");
    }
    let asked = Arc::clone(&journal);
    spawn_blocking(move || asked.settled()).await.expect("the lease comes back");
    uplink.end().await;
}

/// An update is confirmed by what was recorded since its boot, and not by what the version before has left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_what_is_acknowledged_only_entries_of_this_boot_count_for_it() {
    // As the entries of that journal have it, and another one.
    for (boot, counted) in [(BootId([7; 16]), 1), (BootId([1; 16]), 0)] {
        let journal = Arc::new(HangingJournal::with_history(1));
        let uplink = Uplink::in_boot(&journal, boot).await;
        let mut broker = uplink.accept().await;
        let asked = Arc::clone(&journal);
        spawn_blocking(move || asked.lease_asked()).await.expect("a lease is asked for")();
        timeout(SOON, read_until(&mut broker, b"/history")).await.expect("it goes out");
        // After `state` and `catalog`.
        broker.write_all(&[0x40, 2, 0, 3]).await.expect("it listens");
        let asked = Arc::clone(&journal);
        let settled = spawn_blocking(move || asked.settled()).await.expect("it is acknowledged");
        assert_eq!(settled, 1);
        let facts = uplink.facts.status().uplink;
        assert_eq!((facts.history.acknowledged, facts.acknowledged_of_this_boot), (1, counted));
        uplink.end().await;
    }
}
