//! Carries bytes between a connection's two queues and its stream.

use std::collections::HashSet;
use std::time::Duration;
use std::{io, mem};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::connect::{Duplex, connect, io_loss, late, told};
use super::keep_alive::{KeepAlive, Need};
use super::packet::{self, Answer, Incoming, Introduction};
use super::surplus::Surplus;
use super::{
    Accepted, CONNECT_WITHIN, Call, ConnectionEvent, INCOMING_BYTES_MAX, Loss, LossKind, Order, WILL_DELAY_S,
    speaks_tls,
};
use crate::net::BrokerUrl;
use crate::uplink::reason::Reason;

/// What may wait to be written: about four windows of a depot, and a bound on what is copied at once.
const OUT_BYTES_MAX: usize = 64 * 1024;
/// Room made for reading; acknowledgements are a few bytes each.
const READ_BYTES: usize = 8 * 1024;
/// What a broker that has cut the line may take to tell why.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Connects and carries until the connection ends, and tells why it did.
pub(super) async fn carry(call: Call, orders: mpsc::Receiver<Order>, tell: mpsc::Sender<ConnectionEvent>) {
    let loss = match timeout(CONNECT_WITHIN, Line::open(&call)).await {
        Err(_) => late(&call.broker),
        Ok(Err(loss)) => loss,
        Ok(Ok((line, accepted))) => {
            if tell.send(ConnectionEvent::Connected(Box::new(accepted))).await.is_err() {
                return;
            }
            line.run(orders, &tell).await
        }
    };
    // Whoever is not there any more does not want to know.
    let _ = tell.send(ConnectionEvent::Lost(loss)).await;
}

/// Whether the broker answers a CONNECT of MQTT 3.1.1 with a CONNACK that accepts it (MQTT 3.1.1, 3.2).
pub(super) async fn takes_3_1_1(call: &Call) -> bool {
    let asked = async {
        let stream = connect(&call.broker, call.interface.as_deref(), call.tls.as_ref()).await.ok()?;
        let (mut reader, mut writer) = split(stream);
        let mut out = BytesMut::new();
        packet::connect_3_1_1(&mut out, call.login.as_ref().map(|(name, password)| (&**name, &**password))).ok()?;
        writer.write_all_buf(&mut out).await.ok()?;
        writer.flush().await.ok()?;
        let mut answer = [0; 4];
        reader.read_exact(&mut answer).await.ok()?;
        packet::disconnect(&mut out);
        let _ = writer.write_all_buf(&mut out).await;
        let _ = writer.shutdown().await;
        Some(matches!(answer, [0x20, 2, _, 0]))
    };
    timeout(CONNECT_WITHIN, asked).await.ok().flatten().unwrap_or(false)
}

/// An open connection.
struct Line {
    reader: ReadHalf<Box<dyn Duplex>>,
    writer: WriteHalf<Box<dyn Duplex>>,
    incoming: BytesMut,
    out: BytesMut,
    start: Instant,
    keep_alive: KeepAlive,
    /// Numbers that the broker knows a topic by.
    aliases: HashSet<u16>,
    asked: Asked,
    surplus: Surplus,
    /// Whole packets may wait in `incoming`: they are read when that is allowed again, whatever else happens then.
    is_unread: bool,
}

/// What of the messages that come was asked for.
#[derive(Debug, Default)]
enum Asked {
    #[default]
    Nothing,
    /// The messages of this topic: few, so that a flood of them is one.
    Topic(String),
    /// A consumer's.
    Everything,
}

impl Asked {
    fn by(filter: &str) -> Self {
        if filter.contains(['#', '+']) { Self::Everything } else { Self::Topic(filter.to_owned()) }
    }
}

impl Line {
    /// TCP, TLS, WebSocket, CONNECT, CONNACK.
    async fn open(call: &Call) -> Result<(Self, Accepted), Loss> {
        let start = Instant::now();
        let stream = connect(&call.broker, call.interface.as_deref(), call.tls.as_ref()).await?;
        let (mut reader, mut writer) = split(stream);
        let (mut incoming, mut out) = (BytesMut::new(), BytesMut::new());
        introduce(call, &mut out)?;
        let written = async {
            writer.write_all_buf(&mut out).await?;
            writer.flush().await
        };
        if let Err(error) = written.await {
            return Err(last_words(&mut reader, incoming, false, &error).await);
        }
        let answer = loop {
            if incoming.starts_with(b"HTTP/") {
                return Err(web_server());
            }
            // A TLS record: alert or handshake. No packet of MQTT that a broker sends begins so.
            if !call.broker.tls && matches!(incoming.first(), Some(0x15 | 0x16)) {
                return Err(speaks_tls(&call.broker));
            }
            match packet::next(&mut incoming, INCOMING_BYTES_MAX) {
                Ok(Some(Incoming::ConnAck(answer))) => break answer,
                Ok(Some(Incoming::Disconnect { code, why, server })) => return Err(disconnected(code, why, server)),
                Ok(Some(_)) => return Err(stranger("another packet came before CONNACK")),
                Err(malformed) => return Err(stranger(&malformed.to_string())),
                Ok(None) => {}
            }
            incoming.reserve(READ_BYTES);
            match reader.read_buf(&mut incoming).await {
                Ok(0) => return Err(unanswered(&call.broker)),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset && !call.broker.tls => {
                    return Err(unanswered(&call.broker));
                }
                Err(error) => return Err(io_loss(&error)),
            }
        };
        let keep_alive = KeepAlive::new(call.keep_alive, answer.keep_alive, start.elapsed());
        let accepted = accepted(answer, &keep_alive)?;
        let (aliases, asked, surplus, is_unread) = Default::default();
        let line = Self { reader, writer, incoming, out, start, keep_alive, aliases, asked, surplus, is_unread };
        Ok((line, accepted))
    }

    /// Until the end, which it answers.
    async fn run(mut self, mut orders: mpsc::Receiver<Order>, tell: &mpsc::Sender<ConnectionEvent>) -> Loss {
        let (mut unflushed, mut closing) = (false, false);
        if let Err(loss) = self.take(tell).await {
            return loss;
        }
        loop {
            let now = self.start.elapsed();
            let until = match self.keep_alive.need(now) {
                Need::Nothing(until) => until,
                Need::Ping => {
                    packet::pingreq(&mut self.out);
                    self.keep_alive.asked();
                    self.keep_alive.sent(now);
                    continue;
                }
                Need::Dead => return silent(self.keep_alive.interval()),
            };
            let (writing, room) = (!self.out.is_empty(), self.out.len() < OUT_BYTES_MAX);
            if self.surplus.is_flood(now) {
                return flood();
            }
            if let Some(messages) = self.surplus.news(now)
                && tell.send(ConnectionEvent::Unasked(messages)).await.is_err()
            {
                return Loss::new("nobody listens any more", "nothing");
            }
            let deaf_until = self.surplus.deaf_until(now);
            if deaf_until.is_none() && self.is_unread {
                if let Err(loss) = self.take(tell).await {
                    return loss;
                }
                continue;
            }
            let until = deaf_until.map_or(until, |deaf_until| deaf_until.min(until));
            if closing && !writing && !unflushed {
                // What a broker does after our DISCONNECT is its own affair.
                let _ = timeout(LAST_WORDS, self.writer.shutdown()).await;
                return Loss::new("we have said goodbye", "nothing");
            }
            self.incoming.reserve(READ_BYTES);
            let Self { reader, writer, incoming, out, start, .. } = &mut self;
            tokio::select! {
                // A broker that takes no answers gets no more of them.
                read = reader.read_buf(incoming), if deaf_until.is_none() && room => {
                    match read {
                        Ok(0) => return Loss { kind: LossKind::Closed, ..cut("the broker has closed the connection") },
                        Ok(_) => self.keep_alive.heard(self.start.elapsed()),
                        Err(error) => return io_loss(&error),
                    }
                    if let Err(loss) = self.take(tell).await {
                        return loss;
                    }
                }
                written = write(writer, out), if writing || unflushed => match written {
                    Ok(more) => unflushed = more,
                    Err(error) => return last_words(reader, mem::take(incoming), true, &error).await,
                },
                order = orders.recv(), if !closing && room => {
                    let now = start.elapsed();
                    let mut next = order;
                    while let Some(order) = next {
                        closing = matches!(order, Order::Disconnect);
                        self.write(order);
                        // What is ready goes out together.
                        next = if closing || self.out.len() >= OUT_BYTES_MAX { None } else { orders.try_recv().ok() };
                    }
                    self.keep_alive.sent(now);
                    // Nobody is left to order anything, so nobody listens.
                    closing |= orders.is_closed() && orders.is_empty();
                }
                () = sleep_until(*start + until) => {}
            }
        }
    }

    fn write(&mut self, order: Order) {
        let written = match order {
            Order::Publish(mut message) => {
                message.alias = message.alias.map(|(alias, _)| (alias, !self.aliases.insert(alias)));
                let id = message.id;
                packet::publish(&mut self.out, message).map_err(|_| id)
            }
            Order::Subscribe(id, filter, nolocal) => {
                self.asked = Asked::by(&filter);
                packet::subscribe(&mut self.out, id, &filter, nolocal).map_err(|_| id)
            }
            Order::Disconnect => {
                packet::disconnect(&mut self.out);
                Ok(())
            }
        };
        if let Err(id) = written {
            // Beyond what MQTT can carry at all (256 MiB, texts of 64 KiB): it is not answered, and so it is not lost.
            tracing::error!(id, "a message is larger than MQTT allows and was not sent");
        }
    }

    /// Tells all whole packets that have come in.
    async fn take(&mut self, tell: &mpsc::Sender<ConnectionEvent>) -> Result<(), Loss> {
        loop {
            let now = self.start.elapsed();
            self.is_unread = self.surplus.deaf_until(now).is_some();
            if self.is_unread {
                return Ok(());
            }
            let happened = match packet::next(&mut self.incoming, INCOMING_BYTES_MAX) {
                Ok(None) => return Ok(()),
                Err(malformed) => return Err(stranger(&malformed.to_string())),
                Ok(Some(Incoming::PubAck { id, code, why })) => ConnectionEvent::Answered(id, code, why),
                Ok(Some(Incoming::Publish(publish))) => {
                    let bytes = publish.payload.len() + publish.topic.len();
                    match &self.asked {
                        Asked::Everything => {}
                        Asked::Topic(topic) if publish.topic == topic.as_bytes() => self.surplus.count(bytes, now),
                        // Not acknowledged: who keeps to what we can receive stops by itself.
                        Asked::Nothing | Asked::Topic(_) => {
                            self.surplus.count_message(bytes, now);
                            continue;
                        }
                    }
                    if publish.pkid != 0 {
                        packet::puback(&mut self.out, publish.pkid);
                    }
                    ConnectionEvent::Message(publish)
                }
                Ok(Some(Incoming::Disconnect { code, why, server })) => return Err(disconnected(code, why, server)),
                Ok(Some(Incoming::ConnAck(_))) => return Err(stranger("a second CONNACK")),
                Ok(Some(Incoming::SubAck { code })) => ConnectionEvent::Subscribed(code),
                Ok(Some(Incoming::Other)) => {
                    self.surplus.count(2, now);
                    ConnectionEvent::Heard
                }
            };
            if tell.send(happened).await.is_err() {
                return Err(Loss::new("nobody listens any more", "nothing"));
            }
        }
    }
}

/// Writes some of it, or flushes when all is written; answers whether there is something to flush. Cancel-safe.
async fn write(writer: &mut WriteHalf<Box<dyn Duplex>>, out: &mut BytesMut) -> io::Result<bool> {
    if out.is_empty() {
        return writer.flush().await.map(|()| false);
    }
    writer.write_buf(out).await.map(|_| true)
}

fn introduce(call: &Call, out: &mut BytesMut) -> Result<(), Loss> {
    let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    let who = Introduction {
        client_id: &call.client_id,
        keep_alive_s: u16::try_from(call.keep_alive.as_secs()).unwrap_or(u16::MAX),
        session_kept_s: call.session_kept.map(seconds),
        bytes_max: u32::try_from(INCOMING_BYTES_MAX).unwrap_or(u32::MAX),
        will: call.will.as_ref().map(|(topic, payload)| (&**topic, &**payload, call.will_retained, WILL_DELAY_S)),
        login: call.login.as_ref().map(|(name, password)| (&**name, &**password)),
    };
    packet::connect(out, &who)
        .map_err(|_| Loss::new("client id, name, password or topic prefix is above 65,535 bytes", "shorten it"))
}

/// What the broker grants; or why we cannot work with it.
fn accepted(answer: Answer, keep_alive: &KeepAlive) -> Result<Accepted, Loss> {
    if answer.code != 0 {
        return Err(refused(answer));
    }
    if answer.qos_max == Some(0) {
        let reason = Reason::of(0x9b);
        let what = format!("the broker takes messages without acknowledgement only: {reason}");
        return Err(Loss { code: Some(0x9b), ..Loss::new(what, reason.remedy) });
    }
    Ok(Accepted {
        session_present: answer.session_present,
        // Absent means 65,535 (MQTT 5, 3.2.2.3.3); 0 is a protocol error that must not stop us.
        receive_maximum: answer.receive_maximum.filter(|max| *max > 0).unwrap_or(u16::MAX),
        packet_bytes_max: answer.packet_bytes_max.filter(|max| *max > 0),
        topic_alias_max: answer.topic_alias_max,
        retains: answer.retains,
        keep_alive: keep_alive.interval(),
        assigned_client_id: answer.assigned_client_id,
        session_expiry_s: answer.session_expiry.filter(|seconds| *seconds > 0),
    })
}

/// Writing has failed; the broker may have said why before it cut the line, and that tells more. `buffer` is what has come in and
/// is no whole packet yet; an answer to CONNECT is expected only until the connection is open.
async fn last_words(
    reader: &mut ReadHalf<Box<dyn Duplex>>,
    mut buffer: BytesMut,
    is_open: bool,
    error: &io::Error,
) -> Loss {
    let heard = timeout(LAST_WORDS, async {
        loop {
            match packet::next(&mut buffer, INCOMING_BYTES_MAX) {
                Ok(Some(Incoming::Disconnect { code, why, server })) => return Some(disconnected(code, why, server)),
                Ok(Some(Incoming::ConnAck(answer))) if answer.code != 0 && !is_open => return Some(refused(answer)),
                Ok(Some(_)) => continue,
                Err(_) => return None,
                Ok(None) => {}
            }
            match reader.read_buf(&mut buffer).await {
                Ok(0) => return None,
                Ok(_) => {}
                Err(last) => return told(&last),
            }
        }
    });
    heard.await.ok().flatten().unwrap_or_else(|| io_loss(error))
}

fn refused(answer: Answer) -> Loss {
    let reason = Reason::of_connack(answer.code);
    Loss::told("the broker refuses the connection", reason, answer.why.as_deref(), answer.server)
}

fn disconnected(code: u8, why: Option<String>, server: Option<String>) -> Loss {
    Loss::told("the broker ended the session", Reason::of(code), why.as_deref(), server)
}

fn cut(what: &str) -> Loss {
    Loss::new(what, "look into the broker's log; the gateway connects anew by itself")
}

/// It has hung up in place of a CONNACK. That is what CONNECT without TLS gets on a port for TLS.
fn unanswered(broker: &BrokerUrl) -> Loss {
    let what = "the broker has closed the connection in place of an answer to CONNECT";
    if broker.tls {
        return Loss { kind: LossKind::NotMqtt5, ..cut(what) };
    }
    let tls = broker.clone().encrypted();
    let remedy = format!(
        "if that port is one for TLS, write {}:// in [uplink] brokers; else look into the broker's log",
        tls.scheme()
    );
    Loss { kind: LossKind::NotMqtt5, ..Loss::new(what, remedy) }
}

fn flood() -> Loss {
    Loss::new(
        "the broker sends more than 1,000 messages a second that nobody asked for",
        "look at the broker who subscribes under this gateway's client id (a bridge, a tool, a session that was kept), and end it",
    )
}

fn stranger(what: &str) -> Loss {
    let told = Loss::new(
        format!("what answers does not speak MQTT 5: {what}"),
        "check host and port in [uplink] brokers (mqtts:// for TLS), and that the broker speaks MQTT 5",
    );
    Loss { kind: LossKind::NotMqtt5, ..told }
}

fn web_server() -> Loss {
    Loss::new(
        "what answers speaks HTTP and not MQTT",
        "write ws:// (with TLS wss://) in [uplink] brokers if it is MQTT over WebSocket, or correct the port",
    )
}

fn silent(interval: Duration) -> Loss {
    Loss::new(
        format!("nothing was heard for the keep-alive of {} s: the link is half-open", interval.as_secs()),
        "check the link; the gateway connects anew by itself",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A broker sent more than is read in a second, and with the end of that second came something to send: the rest of what it had
    /// sent, an acknowledgement among it, was not read before it sent more.
    #[tokio::test]
    async fn what_a_flood_has_left_is_read_when_it_may_be_whatever_else_happens_then() {
        let second = Duration::from_secs(1);
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let (reader, writer) = split(Box::new(ours) as Box<dyn Duplex>);
        let (start, keep_alive) = (Instant::now(), KeepAlive::new(3_600 * second, None, Duration::ZERO));
        let (aliases, asked, surplus, is_unread) = Default::default();
        let (incoming, out) = (BytesMut::new(), BytesMut::new());
        let line = Line { reader, writer, incoming, out, start, keep_alive, aliases, asked, surplus, is_unread };
        let (order, orders) = mpsc::channel(1);
        let (tell, mut told) = mpsc::channel(4_096);
        // PINGRESP (MQTT 5, 3.13) that nobody asked for, and a PUBACK (3.4).
        let flood = [[0xd0, 0].repeat(1_500), vec![0x40, 2, 0, 7]].concat();
        theirs.write_all(&flood).await.expect("there is room");
        let running = tokio::spawn(async move { line.run(orders, &tell).await });
        for _ in 0..1_000 {
            timeout(60 * second, told.recv()).await.expect("so many are read").expect("it goes on");
        }
        // It waits for the end of the second now, and the thread of both is busy until that is over.
        for _ in 0..256 {
            tokio::task::yield_now().await;
        }
        order.try_send(Order::Subscribe(1, "t".to_owned(), true)).expect("it listens");
        while start.elapsed() <= second {
            std::thread::park_timeout(second);
        }
        let answered =
            async { while !matches!(told.recv().await.expect("it goes on"), ConnectionEvent::Answered(7, ..)) {} };
        timeout(60 * second, answered).await.expect("it is read without more from the broker");
        running.abort();
    }

    /// A broker sent a burst and cut the line while we acknowledged it. Half a message had come in, the rest was read as if it began
    /// a packet, and its payload told "the broker refuses the connection: unknown reason code".
    #[tokio::test]
    async fn the_rest_of_a_message_is_not_taken_for_the_brokers_last_words() {
        // PUBLISH (MQTT 5, 3.3), QoS 0, topic "t", no properties; its payload reads as a CONNACK with 0x87.
        let message = [0x30, 12, 0, 1, b't', 0, 0x20, 3, 0, 0x87, 0, 0, 0, 0];
        let disconnect = [0xe0, 2, 0x8e, 0];
        let (ours, mut theirs) = tokio::io::duplex(256);
        theirs.write_all(&[&message[6..], &disconnect].concat()).await.expect("there is room");
        let (mut reader, _writer) = split(Box::new(ours) as Box<dyn Duplex>);
        let loss =
            last_words(&mut reader, BytesMut::from(&message[..6]), true, &io::ErrorKind::BrokenPipe.into()).await;
        assert_eq!(loss.code, Some(0x8e), "{loss:?}");
    }
}
