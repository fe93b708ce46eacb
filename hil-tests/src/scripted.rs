//! A broker that does what it is told, also what no good broker would: it withholds, delays, reorders and repeats
//! acknowledgements, answers with any reason code, grants odd limits, cuts the line in the midst of things.
//!
//! It speaks just enough MQTT 5 for a gateway that publishes (own code, OASIS MQTT 5.0), plain, on loopback. What it
//! takes is kept as [`Message`]s for the oracle; what the client does against the limits that it was given is kept as
//! [`ScriptedBroker::violations`]. A message that is answered with 0x80 or more was not taken.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::oracle::Message;
use crate::port::free_port;
use crate::wait::unix_ns;

/// How often a connection looks whether something is due.
const TICK: Duration = Duration::from_millis(5);

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Do {
    /// Answered at once with this code.
    Ack(u8),
    /// Answered with success after a while. Different whiles put answers out of order.
    Late(Duration),
    /// Taken, and never answered.
    Withhold,
    /// Answered with success, twice.
    Twice,
    /// Answered with success, after an answer to a message that nobody sent.
    Invent,
    /// Not answered: a DISCONNECT with this code, and the end.
    Disconnect(u8),
    /// Not answered: the line is cut.
    Cut,
}

/// A message on its way in.
#[derive(Debug, Clone, Copy)]
pub struct Offer<'a> {
    /// Its topic, with aliases resolved.
    pub topic: &'a str,
    /// The user property `seq`; `None` for a document.
    pub seq: Option<u64>,
    /// How often this `seq` was offered before.
    pub before: usize,
    /// The number of this connection, from 0.
    pub connection: usize,
}

/// Decides on each message.
pub type Answers = Box<dyn FnMut(Offer<'_>) -> Do + Send>;

/// How it behaves.
pub struct Script {
    /// Of each connection, in turn: the code of the CONNACK and its server reference; after the last, success.
    pub refusals: Vec<(u8, Option<String>)>,
    /// Refuse for ever with the first of `refusals`.
    pub refuses_always: bool,
    /// Answer CONNECT in the form of MQTT 3.1.1 (no properties).
    pub speaks_3_1_1: bool,
    /// Granted; `None` grants 65,535.
    pub receive_maximum: Option<u16>,
    /// Granted.
    pub packet_bytes_max: Option<u32>,
    /// Granted.
    pub topic_alias_max: u16,
    /// Imposed.
    pub keep_alive_s: Option<u16>,
    /// Granted.
    pub retains: bool,
    /// The code of a SUBACK; `None` ends the connection in place of it.
    pub subscriptions: Option<u8>,
    /// What becomes of messages.
    pub answers: Answers,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            refusals: Vec::new(),
            refuses_always: false,
            speaks_3_1_1: false,
            receive_maximum: None,
            packet_bytes_max: None,
            topic_alias_max: 0,
            keep_alive_s: None,
            retains: true,
            subscriptions: Some(1),
            answers: Box::new(|_| Do::Ack(0)),
        }
    }
}

/// The running broker. Dropping it ends it and its connections.
pub struct ScriptedBroker {
    port: u16,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

struct Shared {
    script: Mutex<Script>,
    kept: Mutex<Kept>,
    connections: AtomicUsize,
    ended: AtomicBool,
}

#[derive(Default)]
struct Kept {
    messages: Vec<Message>,
    violations: Vec<String>,
    offered: HashMap<u64, usize>,
    aliased: u64,
    most_in_flight: usize,
    pings: u64,
    subscriptions: u64,
}

fn open<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ScriptedBroker {
    /// How often something was subscribed to.
    #[must_use]
    pub fn subscriptions(&self) -> u64 {
        open(&self.shared.kept).subscriptions
    }

    /// Listens on a free port of loopback.
    ///
    /// # Panics
    /// If there is no port.
    #[must_use]
    pub fn start(script: Script) -> Self {
        let (listener, port) = std::iter::repeat_with(free_port)
            .take(20)
            .find_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok().map(|listener| (listener, port)))
            .expect("a free port on loopback");
        listener.set_nonblocking(true).expect("a listener of ours");
        let shared = Arc::new(Shared {
            script: Mutex::new(script),
            kept: Mutex::default(),
            connections: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        let listener = std::thread::spawn(move || {
            let mut lines = Vec::new();
            while !accepting.ended.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        let shared = Arc::clone(&accepting);
                        lines.push(std::thread::spawn(move || {
                            // A line that ends with an error has ended all the same.
                            let _ = serve(stream, &shared);
                        }));
                    }
                    Err(_) => std::thread::sleep(TICK),
                }
            }
            for line in lines {
                let _ = line.join();
            }
        });
        Self { port, shared, listener: Some(listener) }
    }

    /// Where it is reached.
    #[must_use]
    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Changes its ways for what comes from now on.
    pub fn change(&self, change: impl FnOnce(&mut Script)) {
        change(&mut open(&self.shared.script));
    }

    /// What it has taken, in order.
    #[must_use]
    pub fn messages(&self) -> Vec<Message> {
        open(&self.shared.kept).messages.clone()
    }

    /// What the client did against the limits it was granted, or against MQTT 5.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        open(&self.shared.kept).violations.clone()
    }

    /// Connections that came so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// The most messages that waited for an answer at once.
    #[must_use]
    pub fn most_in_flight(&self) -> usize {
        open(&self.shared.kept).most_in_flight
    }

    /// Messages whose topic was a number.
    #[must_use]
    pub fn aliased(&self) -> u64 {
        open(&self.shared.kept).aliased
    }

    /// PINGREQs so far.
    #[must_use]
    pub fn pings(&self) -> u64 {
        open(&self.shared.kept).pings
    }
}

impl Drop for ScriptedBroker {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

/// What one connection remembers.
struct Line {
    stream: TcpStream,
    incoming: Vec<u8>,
    due: Vec<(Instant, u16)>,
    in_flight: HashSet<u16>,
    aliases: HashMap<u16, String>,
    number: usize,
    heard: Instant,
    silence_max: Option<Duration>,
}

fn serve(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TICK))?;
    let number = shared.connections.fetch_add(1, Ordering::Relaxed);
    let mut line = Line {
        stream,
        incoming: Vec::new(),
        due: Vec::new(),
        in_flight: HashSet::new(),
        aliases: HashMap::new(),
        number,
        heard: Instant::now(),
        silence_max: None,
    };
    let mut buffer = [0_u8; 65_536];
    while !shared.ended.load(Ordering::Relaxed) {
        match line.stream.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => {
                line.heard = Instant::now();
                line.incoming.extend_from_slice(&buffer[..length]);
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
        while let Some((kind, body, length)) = take_packet(&mut line.incoming) {
            if !line.take(kind, &body, length, shared)? {
                return Ok(());
            }
        }
        let now = Instant::now();
        let (ready, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut line.due).into_iter().partition(|(at, _)| *at <= now);
        line.due = later;
        for (_, id) in ready {
            line.ack(id, 0)?;
        }
        if line.silence_max.is_some_and(|max| line.heard.elapsed() > max) {
            let text = format!("connection {number}: nothing was heard for one and a half keep-alives");
            open(&shared.kept).violations.push(text);
            return line.disconnect(0x8d);
        }
    }
    line.stream.shutdown(Shutdown::Both)
}

impl Line {
    /// Whether the line goes on.
    fn take(&mut self, kind: u8, body: &[u8], length: usize, shared: &Shared) -> io::Result<bool> {
        match kind >> 4 {
            1 => self.greet(body, shared),
            3 => self.publish(kind, body, length, shared),
            8 => self.subscribe(body, shared),
            12 => {
                open(&shared.kept).pings += 1;
                self.stream.write_all(&[0xd0, 0]).map(|()| true)
            }
            14 => Ok(false),
            other => {
                open(&shared.kept).violations.push(format!("a packet of type {other}"));
                Ok(false)
            }
        }
    }

    fn greet(&mut self, body: &[u8], shared: &Shared) -> io::Result<bool> {
        let script = open(&shared.script);
        // Protocol name (6), level, flags, keep-alive.
        let asked = u16::from_be_bytes([body[8], body[9]]);
        let keep_alive = script.keep_alive_s.unwrap_or(asked);
        self.silence_max = (keep_alive > 0).then(|| Duration::from_secs(keep_alive.into()) * 3 / 2);
        let refusal = if script.refuses_always { script.refusals.first() } else { script.refusals.get(self.number) };
        let (code, server) = refusal.cloned().unwrap_or((0, None));
        if script.speaks_3_1_1 {
            self.stream.write_all(&[0x20, 2, 0, code])?;
            return Ok(code == 0);
        }
        let mut properties = Vec::new();
        if let Some(max) = script.receive_maximum {
            properties.push(0x21);
            properties.extend(max.to_be_bytes());
        }
        if let Some(max) = script.packet_bytes_max {
            properties.push(0x27);
            properties.extend(max.to_be_bytes());
        }
        properties.push(0x22);
        properties.extend(script.topic_alias_max.to_be_bytes());
        if let Some(seconds) = script.keep_alive_s {
            properties.push(0x13);
            properties.extend(seconds.to_be_bytes());
        }
        if !script.retains {
            properties.extend([0x25, 0]);
        }
        if let Some(server) = &server {
            properties.push(0x1c);
            properties.extend(u16::try_from(server.len()).unwrap_or(0).to_be_bytes());
            properties.extend(server.as_bytes());
        }
        let length = u8::try_from(3 + properties.len()).unwrap_or(0x7f);
        let mut packet = vec![0x20, length, 0, code, length - 3];
        packet.extend(properties);
        self.stream.write_all(&packet)?;
        Ok(code == 0)
    }

    /// One filter, whatever it is.
    fn subscribe(&mut self, body: &[u8], shared: &Shared) -> io::Result<bool> {
        let script = open(&shared.script);
        open(&shared.kept).subscriptions += 1;
        let Some(code) = script.subscriptions else { return Ok(false) };
        self.stream.write_all(&[0x90, 4, body[0], body[1], 0, code])?;
        Ok(true)
    }

    fn publish(&mut self, kind: u8, body: &[u8], length: usize, shared: &Shared) -> io::Result<bool> {
        let Some(mut publish) = read_publish(kind, body) else {
            open(&shared.kept).violations.push("a PUBLISH that cannot be read".to_owned());
            return Ok(false);
        };
        let mut script = open(&shared.script);
        let mut kept = open(&shared.kept);
        let violation = self.violation(&script, &mut publish, length, &mut kept);
        if let Some(text) = violation {
            kept.violations.push(format!("connection {}: {text}", self.number));
        }
        self.in_flight.insert(publish.id);
        kept.most_in_flight = kept.most_in_flight.max(self.in_flight.len());
        let seq = publish.message.user_properties.iter().find(|(key, _)| key == "seq");
        let seq = seq.and_then(|(_, value)| value.parse().ok());
        let before = seq.map_or(0, |seq| {
            let count = kept.offered.entry(seq).or_insert(0);
            *count += 1;
            *count - 1
        });
        let offer = Offer { topic: &publish.message.topic, seq, before, connection: self.number };
        let what = (script.answers)(offer);
        let id = publish.id;
        let taken = !matches!(what, Do::Ack(0x80..) | Do::Disconnect(_) | Do::Cut);
        if taken {
            kept.messages.push(publish.message);
        }
        drop((script, kept));
        match what {
            Do::Ack(code) => self.ack(id, code)?,
            Do::Late(by) => self.due.push((Instant::now() + by, id)),
            Do::Withhold => {}
            Do::Twice => {
                self.ack(id, 0)?;
                self.ack(id, 0)?;
            }
            Do::Invent => {
                self.ack(id.wrapping_add(20_000).max(1), 0)?;
                self.ack(id, 0)?;
            }
            Do::Disconnect(code) => {
                self.disconnect(code)?;
                return Ok(false);
            }
            Do::Cut => return Ok(false),
        }
        Ok(true)
    }

    fn violation(&mut self, script: &Script, publish: &mut Publish, length: usize, kept: &mut Kept) -> Option<String> {
        if let Some(alias) = publish.alias {
            if alias == 0 || alias > script.topic_alias_max {
                return Some(format!("topic alias {alias}; {} are granted", script.topic_alias_max));
            }
            if publish.message.topic.is_empty() {
                kept.aliased += 1;
                match self.aliases.get(&alias) {
                    Some(topic) => publish.message.topic.clone_from(topic),
                    None => return Some(format!("topic alias {alias} stands for nothing")),
                }
            } else {
                self.aliases.insert(alias, publish.message.topic.clone());
            }
        }
        let max = script.receive_maximum.map_or(usize::from(u16::MAX), usize::from);
        if self.in_flight.len() >= max {
            return Some(format!("{} messages in flight; {max} are granted", self.in_flight.len() + 1));
        }
        if self.in_flight.contains(&publish.id) {
            return Some(format!("packet id {} is in flight", publish.id));
        }
        if script.packet_bytes_max.is_some_and(|max| length > max as usize) {
            return Some(format!("a packet of {length} bytes"));
        }
        (publish.message.retain && !script.retains).then(|| "a retained message".to_owned())
    }

    fn ack(&mut self, id: u16, code: u8) -> io::Result<()> {
        self.in_flight.remove(&id);
        let [high, low] = id.to_be_bytes();
        if code == 0 {
            return self.stream.write_all(&[0x40, 2, high, low]);
        }
        // With words, as a good broker has them.
        let words = b"as told";
        let mut packet = vec![0x40, 14, high, low, code, 10, 0x1f, 0, 7];
        packet.extend(words);
        self.stream.write_all(&packet)
    }

    fn disconnect(&mut self, code: u8) -> io::Result<()> {
        self.stream.write_all(&[0xe0, 2, code, 0])?;
        self.stream.shutdown(Shutdown::Both)
    }
}

/// Type with flags, body, and the length of the whole.
fn take_packet(incoming: &mut Vec<u8>) -> Option<(u8, Vec<u8>, usize)> {
    let (mut length, mut at) = (0_usize, 1);
    loop {
        let byte = *incoming.get(at)?;
        length |= usize::from(byte & 0x7f) << (7 * (at - 1));
        at += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    if incoming.len() < at + length {
        return None;
    }
    let packet: Vec<u8> = incoming.drain(..at + length).collect();
    Some((packet[0], packet[at..].to_vec(), at + length))
}

struct Publish {
    id: u16,
    alias: Option<u16>,
    message: Message,
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.bytes(1).map(|bytes| bytes[0])
    }

    fn number(&mut self) -> Option<u16> {
        self.bytes(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn text(&mut self) -> Option<String> {
        let length = self.number()?;
        String::from_utf8(self.bytes(length.into())?.to_vec()).ok()
    }

    fn length(&mut self) -> Option<usize> {
        let mut length = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            length |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(length);
            }
        }
        None
    }
}

fn read_publish(kind: u8, body: &[u8]) -> Option<Publish> {
    let mut reader = Reader(body);
    let topic = reader.text()?;
    let qos = (kind >> 1) & 3;
    let id = if qos > 0 { reader.number()? } else { 0 };
    let length = reader.length()?;
    let mut properties = Reader(reader.bytes(length)?);
    let (mut alias, mut user_properties, mut content_type, mut payload_is_utf8) = (None, Vec::new(), None, false);
    while let Some(property) = properties.byte() {
        match property {
            0x01 => payload_is_utf8 = properties.byte()? == 1,
            0x03 => content_type = Some(properties.text()?),
            0x23 => alias = Some(properties.number()?),
            0x26 => user_properties.push((properties.text()?, properties.text()?)),
            _ => return None,
        }
    }
    let message = Message {
        topic,
        payload: reader.0.to_vec(),
        intact: true,
        user_properties,
        content_type,
        payload_is_utf8,
        qos,
        // As a subscriber that was there would be told.
        retain: kind & 1 == 1,
        received_ns: unix_ns(),
    };
    Some(Publish { id, alias, message })
}
