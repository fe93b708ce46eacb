//! A thin adapter over rumqttc: one connection, from CONNECT to its end.
//!
//! `EventLoop::poll` is not cancel-safe, so it runs alone in a task of its own and talks through a bounded channel. What
//! rumqttc keeps to resend is never used: the event loop ends with its connection.

use std::error::Error;
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAck, ConnectReturnCode, LastWill, LastWillProperties, Packet, PubAckReason, Publish, PublishProperties,
};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, StateError};
use rumqttc::{NetworkOptions, Outgoing, TlsConfiguration, Transport};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::reason::Reason;
use super::settings::{Broker, TlsFiles};
use super::tls;
use super::wire::{Batch, CONTENT_TYPE};

/// TCP, TLS and CONNACK together may take this long.
const CONNECT_WITHIN_S: u64 = 5;
/// Events between rumqttc and us: more than a full window makes at once.
const EVENTS_MAX: usize = 512;
/// What a broker may send us in one packet.
const INCOMING_BYTES_MAX: u32 = 1024 * 1024;

/// What happened on the connection.
#[derive(Debug)]
pub(super) enum Happened {
    /// The broker has accepted us.
    Connected(Accepted),
    /// The oldest message without a packet id has got this one.
    Numbered(u16),
    /// The message with this packet id was answered with this code.
    Answered(u16, u8),
    /// A message for us.
    Message(Box<Publish>),
    /// Anything else came in.
    Heard,
    /// The connection has ended, or none was had.
    Lost(Loss),
}

/// What the broker told in its CONNACK.
#[derive(Debug, Clone, Copy)]
pub(super) struct Accepted {
    pub(super) session_present: bool,
    /// Messages in flight.
    pub(super) receive_maximum: u16,
    /// Bytes of a packet.
    pub(super) packet_bytes_max: Option<u32>,
}

/// Why there is no connection, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loss {
    pub(super) what: String,
    pub(super) remedy: String,
}

/// How a connection is made.
pub(super) struct Dial<'a> {
    pub(super) broker: &'a Broker,
    pub(super) tls: Option<&'a TlsFiles>,
    pub(super) client_id: &'a str,
    pub(super) keep_alive: Duration,
    /// Messages that we shall have in flight at the most.
    pub(super) in_flight_max: u16,
    /// Topic and payload of the will, retained.
    pub(super) will: Option<(String, String)>,
    /// For how long the broker shall keep the session of a consumer; `None` for a clean session.
    pub(super) session_kept: Option<Duration>,
}

/// A connection, or the attempt at one. Ends when dropped.
#[derive(Debug)]
pub(super) struct Connection {
    client: AsyncClient,
    events: mpsc::Receiver<Happened>,
    poller: JoinHandle<()>,
}

/// The client's queue is full or gone: the connection is about to end, and says so itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unsent;

impl Connection {
    /// Begins to connect. What comes of it is told by [`Self::happened`].
    pub(super) fn dial(dial: &Dial<'_>) -> Result<Self, Loss> {
        let mut options = MqttOptions::new(dial.client_id, dial.broker.host.as_str(), dial.broker.port);
        options
            .set_keep_alive(dial.keep_alive.max(Duration::from_secs(5)))
            .set_clean_start(dial.session_kept.is_none())
            .set_max_packet_size(Some(INCOMING_BYTES_MAX))
            .set_outgoing_inflight_upper_limit(dial.in_flight_max.max(1));
        if let Some(kept) = dial.session_kept {
            options.set_session_expiry_interval(Some(u32::try_from(kept.as_secs()).unwrap_or(u32::MAX)));
        }
        if dial.broker.tls {
            let files = dial.tls.ok_or_else(|| Loss {
                what: format!("{} needs TLS files", dial.broker),
                remedy: "write [uplink.tls] ca, certificate and key".to_owned(),
            })?;
            let config = tls::client(files).map_err(|error| Loss {
                what: error.to_string(),
                remedy: "mend the file; it is read again at the next try".to_owned(),
            })?;
            options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(config)));
        }
        if let Some((topic, payload)) = &dial.will {
            let properties = LastWillProperties {
                delay_interval: Some(WILL_DELAY_S),
                payload_format_indicator: Some(1),
                message_expiry_interval: None,
                content_type: Some("application/json".to_owned()),
                response_topic: None,
                correlation_data: None,
                user_properties: Vec::new(),
            };
            options.set_last_will(LastWill::new(topic, payload.as_str(), QoS::AtLeastOnce, true, Some(properties)));
        }
        // Room for the window, the documents and the goodbye: handing over never waits.
        let queue = usize::from(dial.in_flight_max) + 16;
        let (client, mut event_loop) = AsyncClient::new(options, queue);
        let mut network = NetworkOptions::new();
        network.set_connection_timeout(CONNECT_WITHIN_S);
        network.set_tcp_nodelay(true);
        event_loop.options.set_network_options(network);
        let (tell, events) = mpsc::channel(EVENTS_MAX);
        Ok(Self { client, events, poller: tokio::spawn(poll(event_loop, tell)) })
    }

    /// What happens next. After [`Happened::Lost`] nothing more does. Cancel-safe.
    pub(super) async fn happened(&mut self) -> Happened {
        self.events.recv().await.unwrap_or_else(|| Happened::Lost(ended()))
    }

    /// Hands a batch to the connection, QoS 1.
    pub(super) fn publish(&self, batch: Batch) -> Result<(), Unsent> {
        let properties = PublishProperties {
            payload_format_indicator: Some(1),
            content_type: Some(CONTENT_TYPE.to_owned()),
            user_properties: batch.properties,
            ..PublishProperties::default()
        };
        self.client
            .try_publish_with_properties(batch.topic, QoS::AtLeastOnce, false, batch.payload, properties)
            .map_err(|_| Unsent)
    }

    /// Hands a retained JSON document to the connection, QoS 1.
    pub(super) fn publish_document(&self, topic: String, document: String) -> Result<(), Unsent> {
        let properties = PublishProperties {
            payload_format_indicator: Some(1),
            content_type: Some("application/json".to_owned()),
            ..PublishProperties::default()
        };
        self.client.try_publish_with_properties(topic, QoS::AtLeastOnce, true, document, properties).map_err(|_| Unsent)
    }

    /// Asks for messages, QoS 1.
    pub(super) fn subscribe(&self, filter: &str) -> Result<(), Unsent> {
        self.client.try_subscribe(filter, QoS::AtLeastOnce).map_err(|_| Unsent)
    }

    /// Says DISCONNECT.
    pub(super) fn goodbye(&self) -> Result<(), Unsent> {
        self.client.try_disconnect().map_err(|_| Unsent)
    }
}

/// A short loss of the link is not told as "offline": the broker waits this long with the will.
const WILL_DELAY_S: u32 = 5;

impl Drop for Connection {
    fn drop(&mut self) {
        self.poller.abort();
    }
}

fn ended() -> Loss {
    Loss { what: "the connection has ended".to_owned(), remedy: "nothing; the gateway tries again".to_owned() }
}

async fn poll(mut event_loop: EventLoop, tell: mpsc::Sender<Happened>) {
    loop {
        let happened = match event_loop.poll().await {
            Ok(event) => happened(event),
            Err(error) => Some(Happened::Lost(loss(&error))),
        };
        let Some(happened) = happened else { continue };
        let last = matches!(happened, Happened::Lost(_));
        if tell.send(happened).await.is_err() || last {
            return;
        }
    }
}

fn happened(event: Event) -> Option<Happened> {
    Some(match event {
        Event::Incoming(Packet::ConnAck(ack)) => Happened::Connected(accepted(&ack)),
        Event::Incoming(Packet::PubAck(ack)) => Happened::Answered(ack.pkid, puback_code(ack.reason)),
        Event::Incoming(Packet::Publish(publish)) => Happened::Message(Box::new(publish)),
        Event::Incoming(Packet::Disconnect(goodbye)) => {
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "the enum's values are u8 codes"
            )]
            let reason = Reason::of(goodbye.reason_code as u8);
            Happened::Lost(told(&format!("the broker ended the session: {reason}"), reason))
        }
        Event::Incoming(_) => Happened::Heard,
        Event::Outgoing(Outgoing::Publish(id)) if id != 0 => Happened::Numbered(id),
        Event::Outgoing(_) => return None,
    })
}

fn accepted(ack: &ConnAck) -> Accepted {
    let properties = ack.properties.as_ref();
    Accepted {
        session_present: ack.session_present,
        // Absent means 65,535 (MQTT 5, 3.2.2.3.3); 0 is a protocol error that must not stop us.
        receive_maximum: properties.and_then(|p| p.receive_max).filter(|max| *max > 0).unwrap_or(u16::MAX),
        packet_bytes_max: properties.and_then(|p| p.max_packet_size),
    }
}

fn puback_code(reason: PubAckReason) -> u8 {
    match reason {
        PubAckReason::Success => 0x00,
        PubAckReason::NoMatchingSubscribers => 0x10,
        PubAckReason::UnspecifiedError => 0x80,
        PubAckReason::ImplementationSpecificError => 0x83,
        PubAckReason::NotAuthorized => 0x87,
        PubAckReason::TopicNameInvalid => 0x90,
        PubAckReason::PacketIdentifierInUse => 0x91,
        PubAckReason::QuotaExceeded => 0x97,
        PubAckReason::PayloadFormatInvalid => 0x99,
    }
}

fn told(what: &str, reason: Reason) -> Loss {
    Loss { what: what.to_owned(), remedy: reason.remedy.to_owned() }
}

fn loss(error: &ConnectionError) -> Loss {
    match error {
        ConnectionError::ConnectionRefused(code)
        | ConnectionError::MqttState(StateError::ConnFail { reason: code }) => {
            let reason = Reason::of(connack_code(*code));
            told(&format!("the broker refuses the connection: {reason}"), reason)
        }
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, .. }) => {
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "the enum's values are u8 codes"
            )]
            let reason = Reason::of(*reason_code as u8);
            told(&format!("the broker ended the session: {reason}"), reason)
        }
        ConnectionError::Timeout(_) => Loss {
            what: format!("the broker did not answer within {CONNECT_WITHIN_S} s"),
            remedy: "check the link and the broker's address and port".to_owned(),
        },
        other => {
            let remedy = match rustls_error(other) {
                Some(error) => tls::remedy(error),
                None => "check the link, and the broker's address and port",
            };
            Loss { what: chain(other), remedy: remedy.to_owned() }
        }
    }
}

/// The error with its causes, without saying the same twice.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = inner.source();
    }
    text
}

/// The TLS error inside, however deep: rustls errors travel inside of I/O errors.
fn rustls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if let Some(found) = inner.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        if let Some(io) = inner.downcast_ref::<std::io::Error>()
            && let Some(found) = io.get_ref().and_then(|wrapped| wrapped.downcast_ref::<rustls::Error>())
        {
            return Some(found);
        }
        cause = inner.source();
    }
    None
}

fn connack_code(code: ConnectReturnCode) -> u8 {
    match code {
        ConnectReturnCode::Success => 0x00,
        ConnectReturnCode::UnspecifiedError => 0x80,
        ConnectReturnCode::MalformedPacket => 0x81,
        ConnectReturnCode::ProtocolError => 0x82,
        ConnectReturnCode::ImplementationSpecificError => 0x83,
        ConnectReturnCode::UnsupportedProtocolVersion | ConnectReturnCode::RefusedProtocolVersion => 0x84,
        ConnectReturnCode::ClientIdentifierNotValid | ConnectReturnCode::BadClientId => 0x85,
        ConnectReturnCode::BadUserNamePassword => 0x86,
        ConnectReturnCode::NotAuthorized => 0x87,
        ConnectReturnCode::ServerUnavailable | ConnectReturnCode::ServiceUnavailable => 0x88,
        ConnectReturnCode::ServerBusy => 0x89,
        ConnectReturnCode::Banned => 0x8a,
        ConnectReturnCode::BadAuthenticationMethod => 0x8c,
        ConnectReturnCode::TopicNameInvalid => 0x90,
        ConnectReturnCode::PacketTooLarge => 0x95,
        ConnectReturnCode::QuotaExceeded => 0x97,
        ConnectReturnCode::PayloadFormatInvalid => 0x99,
        ConnectReturnCode::RetainNotSupported => 0x9a,
        ConnectReturnCode::QoSNotSupported => 0x9b,
        ConnectReturnCode::UseAnotherServer => 0x9c,
        ConnectReturnCode::ServerMoved => 0x9d,
        ConnectReturnCode::ConnectionRateExceeded => 0x9f,
    }
}
