//! MQTT over WebSocket (RFC 6455; MQTT 5.0, 6): the HTTP upgrade, then a stream of bytes over binary frames.
//!
//! In: an open connection, TCP or TLS over it. Out: MQTT's bytes, however the other side cuts its frames, and in frames
//! of at most [`FRAME_BYTES_MAX`] from us. Frames, masks and pings are tungstenite's; the upgrade is read here, because
//! what a proxy or a wrong port answers in place of it is what a person needs to know.
//!
//! - A head of HTTP has at most 16 KiB and 64 headers. A message has at most [`MESSAGE_BYTES_MAX`]; one that comes in
//!   pieces is held once more while it is put together.
//! - A ping is answered when we read next; that the connection lives is shown by MQTT's own keep-alive. A message is
//!   heard when it is whole: one that takes longer than the keep-alive to come counts as silence.
//! - A close frame is an error with its code and reason, a text frame is one too (MQTT-6.0.0-1).
//! - Not here: redirects, compression, a login in HTTP, proxies that want CONNECT.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Error as WsError, Message, error::ProtocolError};

use super::connect::{Duplex, io_loss};
use super::{INCOMING_BYTES_MAX, Loss, quoted, speaks_tls, words};
use crate::net::BrokerUrl;

/// What we send in one frame: a packet above it spans several (MQTT 5.0, 6), and nobody has to hold more of us at once.
const FRAME_BYTES_MAX: usize = 16 * 1024;
/// What we take in one message: a packet of the largest size, and what a server puts beside it.
const MESSAGE_BYTES_MAX: usize = INCOMING_BYTES_MAX + 64 * 1024;
/// Room for reading, as without WebSocket.
const READ_BYTES: usize = 8 * 1024;
/// A frame, its header of up to 14 bytes, and answers to pings (up to 131 bytes each) that could not be written yet.
const WRITE_BYTES_MAX: usize = FRAME_BYTES_MAX + 1024;
/// Of an answer to the upgrade: a bound on what a stranger may make us hold, far above what servers need for a few lines.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;
/// What is looked at of the page that comes with a refusal, and how long is waited for it.
const PAGE_BYTES_MAX: usize = 4 * 1024;
const PAGE_WITHIN: Duration = Duration::from_millis(500);
/// The subprotocol (MQTT-6.0.0-3).
const MQTT: &str = "mqtt";

/// Asks for the upgrade and makes frames of what follows.
pub(super) async fn upgrade(mut stream: Box<dyn Duplex>, broker: &BrokerUrl, path: &str) -> Result<WebSocket, Loss> {
    let key = generate_key();
    let authority = broker.endpoint.to_string();
    // As browsers do: a rule of a proxy for a name is seldom for the name with its port.
    let host = authority.strip_suffix(if broker.tls { ":443" } else { ":80" }).unwrap_or(&authority);
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: {MQTT}\r\n\r\n"
    );
    let written = async {
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await
    };
    written.await.map_err(|error| no_answer(broker, &error))?;
    let mut head = BytesMut::new();
    let (answer, length) = loop {
        head.reserve(READ_BYTES);
        match stream.read_buf(&mut head).await {
            Ok(0) => return Err(no_answer(broker, &io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => {}
            Err(error) => return Err(no_answer(broker, &error)),
        }
        match Answer::read(&head) {
            Read::Whole(answer, length) => break (answer, length),
            Read::Partial if head.len() < HEAD_BYTES_MAX => {}
            Read::Partial | Read::NoHttp => return Err(no_http(broker, &head)),
        }
    };
    let mut rest = head.split_off(length);
    if answer.status != 101 {
        let page = async {
            while rest.len() < PAGE_BYTES_MAX && stream.read_buf(&mut rest).await.is_ok_and(|read| read > 0) {}
        };
        // Most come with the head; who keeps the connection open has said all after this while.
        if answer.status == 400 && !broker.tls {
            let _ = timeout(PAGE_WITHIN, page).await;
        }
        return Err(answer.refusal(broker, path, &rest));
    }
    answer.agrees(&derive_accept_key(key.as_bytes())).map_err(|what| no_upgrade(broker, path, what))?;
    match answer.protocol.as_deref() {
        Some(MQTT) => Ok(WebSocket::new(stream, rest.to_vec()).await),
        other => Err(no_mqtt(broker, path, other)),
    }
}

/// A stream of bytes over the binary messages of a WebSocket.
pub(super) struct WebSocket {
    frames: WebSocketStream<Box<dyn Duplex>>,
    /// Of a message that has come in, what was not asked for yet.
    read: Bytes,
}

impl WebSocket {
    /// `begun`: what came behind the head of the upgrade.
    async fn new(stream: Box<dyn Duplex>, begun: Vec<u8>) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            // What is handed over is written at once; what belongs together comes together.
            .write_buffer_size(0)
            .max_write_buffer_size(WRITE_BYTES_MAX)
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let frames = WebSocketStream::from_partially_read(stream, begun, Role::Client, Some(config)).await;
        Self { frames, read: Bytes::new() }
    }
}

impl AsyncRead for WebSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let mut frames = Pin::new(&mut this.frames);
        while this.read.is_empty() {
            match ready!(frames.as_mut().poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => this.read = bytes,
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Text(_))) => return Poll::Ready(Err(Breach::Text.into())),
                Some(Ok(Message::Close(frame))) => {
                    // Our answer to it goes out by reading on.
                    let _ = frames.as_mut().poll_next(cx);
                    let (code, reason) =
                        frame.map_or((None, String::new()), |f| (Some(f.code.into()), f.reason.as_str().to_owned()));
                    return Poll::Ready(Err(Breach::Closed(code, reason).into()));
                }
                Some(Err(WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake))) | None => {
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => return Poll::Ready(Err(io_error(error))),
            }
        }
        let length = this.read.len().min(buffer.remaining());
        buffer.put_slice(&this.read.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WebSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let chunk = &bytes[..bytes.len().min(FRAME_BYTES_MAX)];
        if chunk.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let mut frames = Pin::new(&mut self.get_mut().frames);
        loop {
            ready!(frames.as_mut().poll_ready(cx)).map_err(io_error)?;
            match frames.as_mut().start_send(Message::Binary(Bytes::copy_from_slice(chunk))) {
                Ok(()) => return Poll::Ready(Ok(chunk.len())),
                // Answers to pings are in the way. A frame has room when they are gone.
                Err(WsError::WriteBufferFull(_)) => ready!(frames.as_mut().poll_flush(cx)).map_err(io_error)?,
                Err(error) => return Poll::Ready(Err(io_error(error))),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().frames).poll_flush(cx).map_err(io_error)
    }

    /// A close frame, and the end of the stream below.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let frames = &mut self.get_mut().frames;
        ready!(Pin::new(&mut *frames).poll_close(cx)).map_err(io_error)?;
        Pin::new(frames.get_mut()).poll_shutdown(cx)
    }
}

/// Why no more bytes come out of an open WebSocket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Breach {
    /// A close frame, with its code and its reason.
    #[error("the other side has closed the WebSocket: {}{}", code_name(*.0), quoted(Some(.1)))]
    Closed(Option<u16>, String),
    /// A text frame: not MQTT.
    #[error("a text frame came over the WebSocket; MQTT comes in binary frames")]
    Text,
    /// A message that we do not take.
    #[error("a WebSocket message of {0} bytes came; more than {MESSAGE_BYTES_MAX} is not taken")]
    TooLarge(usize),
    /// Not RFC 6455.
    #[error("what comes over the WebSocket is not in its form: {0}")]
    Malformed(String),
}

impl From<Breach> for io::Error {
    fn from(breach: Breach) -> Self {
        Self::new(io::ErrorKind::InvalidData, breach)
    }
}

impl Breach {
    /// The one inside an error of the stream.
    pub(super) fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref().and_then(|inner| inner.downcast_ref())
    }

    pub(super) fn loss(&self) -> Loss {
        let remedy = match self {
            Self::Closed(Some(1000 | 1001 | 1012 | 1013) | None, _) => {
                "look into the log of the broker, or of the proxy before it; the gateway connects anew by itself"
            }
            Self::Closed(Some(1002 | 1003 | 1007), _) | Self::Text => {
                "check that the path in [uplink] brokers leads to an MQTT broker"
            }
            Self::Closed(Some(1008), _) => {
                "a rule of the broker or of the proxy before it is against us: look into its log"
            }
            Self::Closed(Some(1009), _) => {
                "raise the limit for WebSocket messages at the broker or at the proxy before it: frames of 16 KiB are sent"
            }
            Self::Closed(Some(_), _) => "look into the log of the broker, or of the proxy before it",
            Self::TooLarge(_) => "the broker must keep to the maximum packet size of our CONNECT",
            Self::Malformed(_) => "look for a proxy between that changes what passes; wss:// keeps it out",
        };
        Loss::new(self.to_string(), remedy)
    }
}

/// A code by its name (RFC 6455, 7.4.1).
fn code_name(code: Option<u16>) -> String {
    let Some(code) = code else { return "no reason given".to_owned() };
    let name = match code {
        1000 => "normal closure",
        1001 => "going away",
        1002 => "protocol error",
        1003 => "unsupported data",
        1007 => "invalid data",
        1008 => "policy violation",
        1009 => "message too big",
        1011 => "internal error",
        1012 => "service restart",
        1013 => "try again later",
        1014 => "bad gateway",
        _ => return format!("code {code}"),
    };
    format!("{name} ({code})")
}

fn io_error(error: WsError) -> io::Error {
    match error {
        WsError::Io(error) => error,
        WsError::ConnectionClosed | WsError::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        WsError::Protocol(ProtocolError::SendAfterClosing) => io::ErrorKind::BrokenPipe.into(),
        WsError::Capacity(tungstenite::error::CapacityError::MessageTooLong { size, .. }) => {
            Breach::TooLarge(size).into()
        }
        other => Breach::Malformed(other.to_string()).into(),
    }
}

/// What of an HTTP answer matters here.
#[derive(Debug, Default, PartialEq, Eq)]
struct Answer {
    status: u16,
    reason: String,
    upgrade: Option<String>,
    connection: Option<String>,
    accept: Option<String>,
    protocol: Option<String>,
    extensions: Option<String>,
    location: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Read {
    /// With the length of the head.
    Whole(Answer, usize),
    Partial,
    NoHttp,
}

impl Answer {
    fn read(head: &[u8]) -> Read {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let length = match response.parse(head) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Read::Partial,
            Err(_) => return Read::NoHttp,
        };
        let mut answer = Self {
            status: response.code.unwrap_or(0),
            reason: response.reason.unwrap_or("").to_owned(),
            ..Self::default()
        };
        for header in response.headers.iter() {
            let slot = match header.name {
                name if name.eq_ignore_ascii_case("upgrade") => &mut answer.upgrade,
                name if name.eq_ignore_ascii_case("connection") => &mut answer.connection,
                name if name.eq_ignore_ascii_case("sec-websocket-accept") => &mut answer.accept,
                name if name.eq_ignore_ascii_case("sec-websocket-protocol") => &mut answer.protocol,
                name if name.eq_ignore_ascii_case("sec-websocket-extensions") => &mut answer.extensions,
                name if name.eq_ignore_ascii_case("location") => &mut answer.location,
                _ => continue,
            };
            slot.get_or_insert_with(|| String::from_utf8_lossy(header.value).trim().to_owned());
        }
        Read::Whole(answer, length)
    }

    /// Whether a 101 is the one to our request (RFC 6455, 4.1); else what is wrong.
    fn agrees(&self, accept: &str) -> Result<(), &'static str> {
        let has = |header: &Option<String>, word: &str| {
            header.iter().flat_map(|list| list.split(',')).any(|item| item.trim().eq_ignore_ascii_case(word))
        };
        if !has(&self.upgrade, "websocket") {
            return Err("it lacks \"Upgrade: websocket\"");
        }
        if !has(&self.connection, "upgrade") {
            return Err("it lacks \"Connection: Upgrade\"");
        }
        if self.accept.as_deref() != Some(accept) {
            return Err("its Sec-WebSocket-Accept is not the answer to our key");
        }
        if self.extensions.is_some() {
            return Err("it has an extension that we did not ask for");
        }
        Ok(())
    }

    fn refusal(&self, broker: &BrokerUrl, path: &str, page: &[u8]) -> Loss {
        let place = format!("HTTP {}{} at {path}", self.status, quoted(Some(&self.reason)));
        let (what, remedy) = match self.status {
            // nginx, Apache, Go and others say so in words.
            400 if !broker.tls && page.windows(5).any(|word| word == b"HTTPS") => {
                return speaks_tls(broker);
            }
            400 | 426 | 505 => (
                "the upgrade to WebSocket is not understood there",
                "check port and path in [uplink] brokers; a proxy between must hand on Upgrade and Connection (HTTP/1.1)",
            ),
            401 => (
                "a login in HTTP is wanted there",
                "let gateways pass without it: they are known by certificate, or by [uplink] username in MQTT itself",
            ),
            403 => (
                "this gateway is not let in there",
                "look into the server's rules: client certificate, address of origin, path in [uplink] brokers",
            ),
            404 | 410 => ("there is nothing", "correct the path in [uplink] brokers"),
            405 => ("that path is not for WebSocket", "correct the path in [uplink] brokers"),
            407 => (
                "a proxy between wants a login",
                "let it pass connections to the broker without one; the gateway has none for proxies",
            ),
            429 => ("there are too many requests", "raise the server's limit; the gateway tries again by itself"),
            200..=299 => (
                "a page came in place of the upgrade to WebSocket",
                "correct the path in [uplink] brokers; a proxy between must hand on Upgrade and Connection (HTTP/1.1)",
            ),
            300..=399 => {
                let elsewhere = self.location.as_deref().map_or_else(|| "elsewhere".to_owned(), words);
                return Loss::new(
                    format!("{place}: it points to {elsewhere}"),
                    "write that address into [uplink] brokers, as wss:// if it is https://; redirects are not followed",
                );
            }
            502..=504 => (
                "there is no broker behind that proxy now",
                "is the broker running, and does the proxy know its address?",
            ),
            _ => ("the upgrade to WebSocket is refused", "look into the log of the server there"),
        };
        Loss::new(format!("{place}: {what}"), remedy)
    }
}

/// The connection has ended in place of an answer.
fn no_answer(broker: &BrokerUrl, error: &io::Error) -> Loss {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            let what = format!("{} has closed the connection in place of an answer to HTTP", broker.endpoint);
            let remedy = if broker.tls {
                "a port of MQTT without WebSocket does so: write mqtts:// in [uplink] brokers, or correct the port"
            } else {
                "a port of TLS or of MQTT without WebSocket does so: write wss:// or mqtt:// in [uplink] brokers, or \
                 correct the port"
            };
            Loss::new(what, remedy)
        }
        _ => io_loss(error),
    }
}

/// Something that is not HTTP.
fn no_http(broker: &BrokerUrl, head: &[u8]) -> Loss {
    match head {
        // A TLS record: alert or handshake, version 3.x.
        [0x15 | 0x16, 3, ..] => speaks_tls(broker),
        // CONNACK or DISCONNECT.
        [0x20 | 0xe0, ..] => Loss::new(
            format!("{} speaks MQTT without WebSocket", broker.endpoint),
            "write mqtt:// (with TLS mqtts://) in [uplink] brokers, or correct the port",
        ),
        _ => Loss::new(
            format!("{} does not speak HTTP, which WebSocket begins with", broker.endpoint),
            "check host and port in [uplink] brokers",
        ),
    }
}

fn no_upgrade(broker: &BrokerUrl, path: &str, what: &str) -> Loss {
    Loss::new(
        format!("{} answers with HTTP 101 at {path}, but not to WebSocket: {what}", broker.endpoint),
        "look for a proxy between that changes what passes; check host, port and path in [uplink] brokers",
    )
}

fn no_mqtt(broker: &BrokerUrl, path: &str, protocol: Option<&str>) -> Loss {
    let other = protocol.map_or_else(|| "no subprotocol".to_owned(), |name| format!("the subprotocol {}", words(name)));
    Loss::new(
        format!("{} speaks WebSocket at {path}, but not MQTT 5 over it: it names {other}, not {MQTT}", broker.endpoint),
        "correct the path in [uplink] brokers, or switch on MQTT over WebSocket there",
    )
}

#[cfg(test)]
#[path = "websocket_tests.rs"]
mod tests;
