//! One connection to a broker, from the name in the plan to its end: MQTT 5 in rumqttc's packets, over TCP or TLS, and
//! over WebSocket on either.
//!
//! In: [`ConnectOptions`], then messages with the packet ids that the session gives them. Out: [`ConnectionEvent`], in order; the last is
//! always [`ConnectionEvent::Lost`].
//!
//! rumqttc's own event loop is not used. It was measured and read to swallow messages when a wait for it is cancelled, to
//! stop all traffic when acknowledgements come out of order or one is withheld, to break the connection at a repeated
//! acknowledgement, an unknown reason code or a bare DISCONNECT, to hide why a connection was refused, and to spin at a
//! server keep-alive of 0. All of that is the broker's to do and ours to bear. What a connection needs beside the packets
//! is little, as there is nothing to resend: the journal keeps that.
//!
//! - Every name is looked up anew for each connection; IPv6 and IPv4 addresses are tried side by side, each 250 ms after
//!   the one before (RFC 8305, 5), at most [`ADDRESSES_MAX`]; all of it, TLS, WebSocket and CONNACK within 5 s.
//! - Reading and writing never wait for each other; silence is noticed within the keep-alive, also behind a full socket.
//! - At most 64 KiB wait to be written here, then nothing more is taken out of the queue of orders.

mod connect;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod keep_alive;
mod packet;
mod surplus;
mod task;
mod websocket;

use std::time::Duration;

use rumqttc::v5::mqttbytes::v5::Publish;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::reason::Reason;
use super::wire::{Batch, CONTENT_TYPE};
use crate::net::{BrokerUrl, Login, TlsFiles};
use crate::tls::{self, Connector};
pub(super) use connect::probe;

/// TCP, TLS, WebSocket and CONNACK together may take this long.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Events between the connection and its owner: more than a full window makes at once.
const EVENTS_MAX: usize = 512;
/// What a broker may send us in one packet.
const INCOMING_BYTES_MAX: usize = 1024 * 1024;
/// Of one name.
const ADDRESSES_MAX: usize = 8;
/// A short loss of the link is not told as "offline": the broker waits this long with the will.
const WILL_DELAY_S: u32 = 5;
/// What is shown of a broker's own words.
const WORDS_MAX: usize = 200;

/// What happened on the connection.
#[derive(Debug)]
pub(super) enum ConnectionEvent {
    /// The broker has accepted us.
    Connected(Box<Accepted>),
    /// The message with this packet id was answered with this code, and with the broker's own words.
    Answered(u16, u8, Option<String>),
    /// A message for us.
    Message(Box<Publish>),
    /// So many messages came in that nobody asked for; at most once a second.
    Unasked(u64),
    /// Our SUBSCRIBE was answered with this code.
    Subscribed(u8),
    /// Anything else came in.
    Heard,
    /// The connection has ended, or none was had.
    Lost(Loss),
}

/// What the broker told in its CONNACK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Accepted {
    pub(super) session_present: bool,
    /// Messages in flight, at least 1.
    pub(super) receive_maximum: u16,
    /// Bytes of a packet.
    pub(super) packet_bytes_max: Option<u32>,
    /// Topics that may be named by a number.
    pub(super) topic_alias_max: u16,
    /// Whether it takes retained messages.
    pub(super) retains: bool,
    /// What holds for both sides.
    pub(super) keep_alive: Duration,
    /// It calls us otherwise than we do.
    pub(super) assigned_client_id: Option<String>,
    /// It keeps our session for so many seconds, though we want none.
    pub(super) session_expiry_s: Option<u32>,
}

/// Why there is no connection, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loss {
    pub(super) what: String,
    pub(super) remedy: String,
    /// The broker's reason code, if it gave one.
    pub(super) code: Option<u8>,
    /// The broker named another one.
    pub(super) server: Option<String>,
    pub(super) kind: LossKind,
}

/// What a loss without a reason of the broker is a sign of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LossKind {
    /// The broker has closed a connection that it had accepted, in order and without a word.
    Closed,
    /// What answers did not take our CONNECT for one: it may speak an older version.
    NotMqtt5,
    Other,
}

impl Loss {
    pub(super) fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into(), code: None, server: None, kind: LossKind::Other }
    }

    /// What the broker has told: in a CONNACK or in a DISCONNECT.
    fn told(what: &str, reason: Reason, why: Option<&str>, server: Option<String>) -> Self {
        let named = server.as_deref().map_or_else(String::new, |server| format!(", it names {}", words(server)));
        let what = format!("{what}: {reason}{}{named}", quoted(why));
        Self { what, remedy: reason.remedy.to_owned(), code: Some(reason.code), server, kind: LossKind::Other }
    }
}

/// TLS came where it was not expected.
fn speaks_tls(broker: &BrokerUrl) -> Loss {
    let (plain, tls) = (broker.scheme(), broker.clone().encrypted());
    Loss::new(
        format!("{} speaks TLS on a port that we took for {plain}://", broker.endpoint),
        format!("write {}:// in [uplink] brokers, or correct the port", tls.scheme()),
    )
}

/// A broker's own words, fit for a log and a terminal.
fn words(text: &str) -> String {
    let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    printable.take(WORDS_MAX).collect()
}

/// The same behind a colon and in quotation marks, or nothing.
pub(super) fn quoted(why: Option<&str>) -> String {
    why.filter(|why| !why.is_empty()).map_or_else(String::new, |why| format!(" (\"{}\")", words(why)))
}

/// How a connection is made.
pub(super) struct ConnectOptions<'a> {
    pub(super) broker: &'a BrokerUrl,
    /// The network interface to leave by; `None` for the system's choice.
    pub(super) interface: Option<&'a str>,
    pub(super) tls: Option<&'a TlsFiles>,
    pub(super) login: Option<&'a Login>,
    pub(super) client_id: &'a str,
    pub(super) keep_alive: Duration,
    /// Messages that we shall have in flight at the most.
    pub(super) in_flight_max: u16,
    /// Topic and payload of the will.
    pub(super) will: Option<(String, String)>,
    /// Whether the will is to be retained.
    pub(super) will_retained: bool,
    /// For how long the broker shall keep the session of a consumer; `None` for a clean session.
    pub(super) session_kept: Option<Duration>,
}

/// A connection, or the attempt at one. Ends when dropped.
#[derive(Debug)]
pub(super) struct Connection {
    orders: mpsc::Sender<Order>,
    events: mpsc::Receiver<ConnectionEvent>,
    carrier: JoinHandle<()>,
}

/// What the connection shall send.
#[derive(Debug)]
enum Order {
    Publish(packet::Outgoing),
    /// With its id; whether not for what we send ourselves.
    Subscribe(u16, String, bool),
    Disconnect,
}

/// All that the carrier needs, read from disk and owned.
#[derive(Debug)]
struct Call {
    broker: BrokerUrl,
    interface: Option<String>,
    tls: Option<Connector>,
    login: Option<(String, String)>,
    client_id: String,
    keep_alive: Duration,
    will: Option<(String, String)>,
    will_retained: bool,
    session_kept: Option<Duration>,
}

impl Call {
    fn read(options: &ConnectOptions<'_>) -> Result<Self, Loss> {
        let tls = if options.broker.tls { Some(connector(options.broker, options.tls)?) } else { None };
        let unreadable = |error: tls::TlsError| Loss::new(error.to_string(), MEND);
        let login =
            options.login.map(|login| tls::password(&login.password_file).map(|word| (login.username.clone(), word)));
        Ok(Self {
            broker: options.broker.clone(),
            interface: options.interface.map(str::to_owned),
            tls,
            login: login.transpose().map_err(unreadable)?,
            client_id: options.client_id.to_owned(),
            keep_alive: options.keep_alive.max(Duration::from_secs(1)),
            will: options.will.clone(),
            will_retained: options.will_retained,
            session_kept: options.session_kept,
        })
    }
}

/// Whether a broker that has not taken our CONNECT takes one of MQTT 3.1.1; under a client id of its own, and only asked by
/// a person. Answers within [`CONNECT_WITHIN`].
pub(super) async fn takes_3_1_1(options: &ConnectOptions<'_>) -> bool {
    match Call::read(options) {
        Ok(call) => task::takes_3_1_1(&call).await,
        Err(_) => false,
    }
}

/// The connection's queue is full or gone: it is about to end, and says so itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unsent;

impl Connection {
    /// Begins to connect. What comes of it is told by [`Self::happened`].
    pub(super) fn open(options: &ConnectOptions<'_>) -> Result<Self, Loss> {
        let call = Call::read(options)?;
        // Room for the window, the documents and the DISCONNECT: handing over never waits.
        let (orders, taken) = mpsc::channel(usize::from(options.in_flight_max) + 16);
        let (tell, events) = mpsc::channel(EVENTS_MAX);
        Ok(Self { orders, events, carrier: tokio::spawn(task::carry(call, taken, tell)) })
    }

    /// What happens next. After [`ConnectionEvent::Lost`] nothing more does. Cancel-safe.
    pub(super) async fn happened(&mut self) -> ConnectionEvent {
        let ended = || ConnectionEvent::Lost(Loss::new("the connection has ended", "nothing; the gateway tries again"));
        self.events.recv().await.unwrap_or_else(ended)
    }

    /// Hands a batch to the connection, QoS 1. `alias`: the number of its topic, if the broker takes numbers.
    pub(super) fn publish(&self, id: u16, batch: Batch, alias: Option<u16>) -> Result<(), Unsent> {
        let Batch { topic, properties, payload } = batch;
        let alias = alias.map(|alias| (alias, false));
        let message =
            packet::Outgoing { id, topic, alias, retain: false, content_type: CONTENT_TYPE, properties, payload };
        self.order(Order::Publish(message))
    }

    /// Hands a JSON document to the connection, QoS 1.
    pub(super) fn publish_document(&self, id: u16, document: Document, retain: bool) -> Result<(), Unsent> {
        let Document { topic, payload } = document;
        self.order(Order::Publish(packet::Outgoing {
            id,
            topic,
            alias: None,
            retain,
            content_type: DOCUMENT_TYPE,
            properties: Vec::new(),
            payload,
        }))
    }

    /// Asks for messages, QoS 1.
    pub(super) fn subscribe(&self, id: u16, filter: &str) -> Result<(), Unsent> {
        self.order(Order::Subscribe(id, filter.to_owned(), false))
    }

    /// The same for what others send.
    pub(super) fn subscribe_others(&self, id: u16, filter: &str) -> Result<(), Unsent> {
        self.order(Order::Subscribe(id, filter.to_owned(), true))
    }

    /// Says DISCONNECT after all that was handed over before, and ends.
    pub(super) fn disconnect(&self) -> Result<(), Unsent> {
        self.order(Order::Disconnect)
    }

    fn order(&self, order: Order) -> Result<(), Unsent> {
        self.orders.try_send(order).map_err(|_| Unsent)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.carrier.abort();
    }
}

const DOCUMENT_TYPE: &str = "application/json";
const MEND: &str = "mend the file; it is read again at the next try";

/// A JSON document on its topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Document {
    pub(super) topic: String,
    pub(super) payload: String,
}

impl Document {
    /// Upper bound of the packet's size: fixed header, topic, packet id, properties, payload.
    pub(super) fn packet_bytes(&self) -> usize {
        5 + 2 + self.topic.len() + 2 + 4 + 2 + 3 + DOCUMENT_TYPE.len() + self.payload.len()
    }
}

/// The TLS of a broker that wants it.
fn connector(broker: &BrokerUrl, files: Option<&TlsFiles>) -> Result<Connector, Loss> {
    let files = files
        .ok_or_else(|| Loss::new(format!("{broker} needs TLS files"), "write [uplink.tls] ca, certificate and key"))?;
    Connector::read(files).map_err(|error| Loss::new(error.to_string(), MEND))
}
