//! Carries bytes between a connection's two queues and its stream.

use std::collections::HashSet;
use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::connect::{Duplex, connect, io_loss, late, told};
use super::keep_alive::{KeepAlive, Need};
use super::packet::{self, Answer, Incoming, Introduction};
use super::{
    Accepted, CONNECT_WITHIN, Call, ConnectionEvent, INCOMING_BYTES_MAX, Loss, Order, WILL_DELAY_S, speaks_tls,
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
            return Err(last_words(&mut reader, &error).await);
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
        let line = Self { reader, writer, incoming, out, start, keep_alive, aliases: HashSet::new() };
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
            if closing && !writing && !unflushed {
                // What a broker does after our DISCONNECT is its own affair.
                let _ = timeout(LAST_WORDS, self.writer.shutdown()).await;
                return Loss::new("we have said goodbye", "nothing");
            }
            self.incoming.reserve(READ_BYTES);
            let Self { reader, writer, incoming, out, start, .. } = &mut self;
            tokio::select! {
                read = reader.read_buf(incoming) => {
                    match read {
                        Ok(0) => return cut("the broker has closed the connection"),
                        Ok(_) => self.keep_alive.heard(self.start.elapsed()),
                        Err(error) => return io_loss(&error),
                    }
                    if let Err(loss) = self.take(tell).await {
                        return loss;
                    }
                }
                written = write(writer, out), if writing || unflushed => match written {
                    Ok(more) => unflushed = more,
                    Err(error) => return last_words(reader, &error).await,
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
            Order::Subscribe(id, filter) => packet::subscribe(&mut self.out, id, &filter).map_err(|_| id),
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
            let happened = match packet::next(&mut self.incoming, INCOMING_BYTES_MAX) {
                Ok(None) => return Ok(()),
                Err(malformed) => return Err(stranger(&malformed.to_string())),
                Ok(Some(Incoming::PubAck { id, code, why })) => ConnectionEvent::Answered(id, code, why),
                Ok(Some(Incoming::Publish(publish))) => {
                    if publish.pkid != 0 {
                        packet::puback(&mut self.out, publish.pkid);
                    }
                    ConnectionEvent::Message(publish)
                }
                Ok(Some(Incoming::Disconnect { code, why, server })) => return Err(disconnected(code, why, server)),
                Ok(Some(Incoming::ConnAck(_))) => return Err(stranger("a second CONNACK")),
                Ok(Some(Incoming::Other)) => ConnectionEvent::Heard,
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

/// Writing has failed; the broker may have said why before it cut the line, and that tells more.
async fn last_words(reader: &mut ReadHalf<Box<dyn Duplex>>, error: &io::Error) -> Loss {
    let mut buffer = BytesMut::new();
    let heard = timeout(LAST_WORDS, async {
        loop {
            match packet::next(&mut buffer, INCOMING_BYTES_MAX) {
                Ok(Some(Incoming::Disconnect { code, why, server })) => return Some(disconnected(code, why, server)),
                Ok(Some(Incoming::ConnAck(answer))) if answer.code != 0 => {
                    return Some(refused(answer));
                }
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
        return cut(what);
    }
    let tls = broker.clone().encrypted();
    let remedy = format!(
        "if that port is one for TLS, write {}:// in [uplink] brokers; else look into the broker's log",
        tls.scheme()
    );
    Loss::new(what, remedy)
}

fn stranger(what: &str) -> Loss {
    Loss::new(
        format!("what answers does not speak MQTT 5: {what}"),
        "check host and port in [uplink] brokers (mqtts:// for TLS), and that the broker speaks MQTT 5",
    )
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
