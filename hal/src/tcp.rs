//! Modbus TCP.
//!
//! A reply names the transaction it belongs to: a late one is told from the answer that is waited for, and dropped. So a
//! connection survives a silence; a second one in a row without a single byte may be a link that is half dead, and the
//! connection is made anew.

use std::fmt;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::register_bus::{BusError, ReadRequest, RegisterBus, UnitId};
use crate::reply::{Content, Head, Reply, Shape, tcp_head, tcp_request};
use crate::reply_times::ReplyTimes;
use crate::rest::Rested;

/// Silences in a row after which a connection is not believed any more.
const SILENCES_MAX: u32 = 2;

/// Requests without an answer that are remembered.
const UNANSWERED_MAX: usize = 16;

/// One TCP connection to one server, made when it is needed.
pub struct TcpBus {
    host: String,
    port: u16,
    /// The limit is the longest that a gateway may be waiting for a unit.
    times: ReplyTimes,
    ahead: Ahead,
    connection: Option<Connection>,
    transaction: u16,
    /// Requests that were not answered in time.
    unanswered: Vec<Unanswered>,
}

/// Of which requests that were given up a server may have to be done with before it comes to the next one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Ahead {
    /// Of none: what is asked next is not worth the wait.
    None,
    /// Of those to other units: a gateway that asks one after the other.
    OtherUnits,
    /// Of all.
    #[default]
    All,
}

#[derive(Debug, Clone, Copy)]
struct Unanswered {
    transaction: u16,
    unit: UnitId,
    asked: Instant,
    /// Until then a gateway that serves one unit after the other may be busy with it.
    until: Instant,
}

struct Connection {
    stream: TcpStream,
    /// Received, and no whole reply yet.
    rx_buf: Vec<u8>,
    silences: u32,
}

impl Connection {
    /// Whether what was received, and is no whole reply yet, begins as the one to this transaction.
    fn has_begun(&self, transaction: u16) -> bool {
        !self.rx_buf.is_empty() && self.rx_buf.iter().zip(transaction.to_be_bytes()).all(|(came, of_it)| *came == of_it)
    }
}

impl TcpBus {
    /// A bus to `host:port` that gives each connect and each answer `deadline`. Connects at the first read.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16, deadline: Duration) -> Self {
        Self {
            host: host.into(),
            port,
            times: ReplyTimes::new(deadline),
            ahead: Ahead::All,
            connection: None,
            transaction: 0,
            unanswered: Vec::new(),
        }
    }

    /// Of the reads that follow: which of the requests that were given up before them are waited for.
    pub fn set_ahead(&mut self, ahead: Ahead) {
        self.ahead = ahead;
    }

    /// Hears what comes while nothing is asked: what is late is known by when it came, and a connection that the server closes is
    /// not used again. Ends only when there is nothing to hear. Cancel-safe.
    pub async fn listen(&mut self) {
        while let Some(connection) = &mut self.connection {
            let mut lump = [0; 512];
            match connection.stream.read(&mut lump).await {
                Ok(count) if count > 0 => connection.rx_buf.extend_from_slice(&lump[..count]),
                Ok(_) | Err(_) => {
                    self.connection = None;
                    return;
                }
            }
            loop {
                let Some(Connection { rx_buf, .. }) = &mut self.connection else { return };
                match tcp_head(rx_buf) {
                    (Head::Reply(reply, length), transaction) => {
                        rx_buf.drain(..length);
                        self.not_waited_for(transaction, &reply, Instant::now());
                    }
                    (Head::Unfinished, _) => break,
                    (Head::Noise, _) => self.connection = None,
                }
            }
        }
    }

    /// A reply to another request than the one that is waited for. Answers whether it is to one of ours.
    fn not_waited_for(&mut self, transaction: u16, reply: &Reply, now: Instant) -> bool {
        let of_it = self.unanswered.iter().position(|earlier| earlier.transaction == transaction);
        let Some(Unanswered { unit, asked, .. }) = of_it.map(|at| self.unanswered.remove(at)) else { return false };
        // A gateway's word that a unit gave no answer is none of the unit's.
        if !is_gateways_word(&reply.content) {
            self.times.was_late(unit.get(), now.duration_since(asked), now);
        }
        true
    }

    fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    async fn connect(&self) -> io::Result<Connection> {
        let connect = TcpStream::connect((self.host.as_str(), self.port));
        let stream = timeout(self.times.deadline, connect).await.map_err(|_| io::ErrorKind::TimedOut)??;
        // A request is one small segment that must not wait for another.
        stream.set_nodelay(true)?;
        Ok(Connection { stream, rx_buf: Vec::new(), silences: 0 })
    }

    /// Whether a part of an answer has come that is not the one to this transaction. A single byte may begin several.
    fn is_stuck(&self, connection: &Connection, asked: u16) -> bool {
        let is_an_earlier_one = || self.unanswered.iter().any(|earlier| connection.has_begun(earlier.transaction));
        !connection.rx_buf.is_empty() && (!connection.has_begun(asked) || is_an_earlier_one())
    }

    /// There was no answer in time.
    fn given_up(
        &mut self,
        mut connection: Connection,
        asked: Unanswered,
        rested: Rested,
        request: ReadRequest,
        stranger: Option<u16>,
    ) -> (Option<Connection>, Result<Vec<u16>, BusError>) {
        let (unit, now) = (asked.unit, Instant::now());
        if self.is_stuck(&connection, asked.transaction) {
            // The answer to an earlier request comes, byte by byte, before ours: it is asked again over another connection.
            let source = io::Error::new(io::ErrorKind::TimedOut, "an answer to an earlier request does not end");
            return (None, Err(BusError::Gone { address: self.address(), source }));
        }
        if !connection.rx_buf.is_empty() {
            // The stream has lost its beat: what comes next is the rest of this, or another answer.
            self.times.rests.spoke(unit.get(), now);
            let (heard, expected) = (connection.rx_buf.len(), 9 + usize::from(request.bytes()));
            return (None, Err(BusError::Short { unit, heard, expected }));
        }
        if let Some(stranger) = stranger {
            let why = format!(
                "it has transaction number {stranger} instead of {}, so that nobody knows to which request it belongs; the device \
                 or gateway does not keep to Modbus TCP: update it, or see that no other master's answers are sent to us",
                asked.transaction
            );
            return (Some(connection), Err(BusError::Malformed { unit, why }));
        }
        connection.silences += 1;
        self.times.rests.silent(rested, now);
        self.unanswered.push(Unanswered { until: asked.asked + self.times.limit, ..asked });
        let surplus = self.unanswered.len().saturating_sub(UNANSWERED_MAX);
        self.unanswered.drain(..surplus);
        let kept = (connection.silences < SILENCES_MAX).then_some(connection);
        (kept, Err(BusError::Timeout { unit, ms: self.times.deadline.as_millis() }))
    }

    /// Asks over this connection. The connection is good afterwards if, and only if, it is handed back.
    async fn ask(
        &mut self,
        mut connection: Connection,
        unit: UnitId,
        request: ReadRequest,
    ) -> (Option<Connection>, Result<Vec<u16>, BusError>) {
        if let Some(ready) = self.times.rests.ready_at(unit.get()) {
            sleep_until(ready).await;
        }
        self.transaction = self.transaction.wrapping_add(1);
        let asked = self.transaction;
        let address = self.address();
        let gone = |source| Err(BusError::Gone { address: address.clone(), source });
        if let Err(source) = connection.stream.write_all(&tcp_request(asked, unit, request)).await {
            return (None, gone(source));
        }
        let asked_at = Instant::now();
        let rested = self.times.rests.asked(unit.get(), request.start, asked_at);
        let is_ahead = |earlier: &&Unanswered| match self.ahead {
            Ahead::None => false,
            Ahead::OtherUnits => earlier.unit != unit,
            Ahead::All => true,
        };
        let busy_until = self.unanswered.iter().filter(is_ahead).map(|earlier| earlier.until).max().unwrap_or(asked_at);
        let mut deadline = busy_until.max(asked_at) + self.times.deadline;
        let ends = deadline + self.times.frame_max();
        let mut goes_on_until = asked_at;
        // The number of a reply to nothing that was asked over this connection.
        let mut stranger = None;
        // Since when there is a part of another answer, and nothing after it.
        let mut stuck_since = None;
        loop {
            let (head, transaction) = tcp_head(&connection.rx_buf);
            match head {
                Head::Noise => {
                    let why = "the stream is not Modbus TCP; if this is a gateway that hands serial frames through, \
                               use modbus-rtu-tcp";
                    return (None, Err(BusError::Malformed { unit, why: why.to_owned() }));
                }
                Head::Reply(reply, length) => {
                    connection.rx_buf.drain(..length);
                    connection.silences = 0;
                    stuck_since = None;
                    if transaction == asked {
                        // Who answers this is not busy with what came before it.
                        self.unanswered.iter_mut().for_each(|earlier| earlier.until = asked_at);
                        self.times.took = asked_at.elapsed();
                        if is_gateways_word(&reply.content) {
                            self.times.rests.silent(rested, Instant::now());
                        } else {
                            self.times.rests.answered(rested, Instant::now());
                        }
                        let answer = judged(unit, request, reply);
                        let is_good = matches!(answer, Ok(_) | Err(BusError::Exception { .. }));
                        return (is_good.then_some(connection), answer);
                    }
                    let is_ours = self.not_waited_for(transaction, &reply, Instant::now());
                    // One of ours that came twice, or very late, is no stranger. Number 0 is the first only after 65,535 others.
                    let is_recent = usize::from(asked.wrapping_sub(transaction)) <= UNANSWERED_MAX && transaction != 0;
                    if !is_ours && !is_recent {
                        stranger = Some(transaction);
                    }
                }
                Head::Unfinished => {
                    let is_stuck = self.is_stuck(&connection, asked);
                    // A server that has begun with an earlier answer is not busy any more: the rest of it comes at once, or a byte
                    // now and then.
                    let unstuck_by = is_stuck
                        .then(|| *stuck_since.get_or_insert_with(Instant::now) + self.times.deadline)
                        .filter(|unstuck_by| *unstuck_by < deadline);
                    let mut lump = [0; 512];
                    match timeout_at(unstuck_by.unwrap_or(deadline), connection.stream.read(&mut lump)).await {
                        Ok(Ok(0)) => return (None, gone(io::ErrorKind::UnexpectedEof.into())),
                        Ok(Ok(count)) => {
                            connection.rx_buf.extend_from_slice(&lump[..count]);
                            goes_on_until = ends.min(Instant::now() + self.times.byte_timeout);
                        }
                        Ok(Err(source)) => return (None, gone(source)),
                        // What has begun may go on after a silence.
                        Err(_) if !is_stuck && connection.has_begun(asked) && goes_on_until > deadline => {
                            deadline = goes_on_until;
                        }
                        Err(_) => {
                            let given_up = Unanswered { transaction: asked, unit, asked: asked_at, until: asked_at };
                            return self.given_up(connection, given_up, rested, request, stranger);
                        }
                    }
                }
            }
        }
    }
}

/// Whether it says that the unit gave no answer: path unavailable, or target failed to respond.
fn is_gateways_word(content: &Content) -> bool {
    matches!(content, Content::Exception(10 | 11))
}

/// Whether a reply of the right transaction is the answer.
fn judged(unit: UnitId, request: ReadRequest, reply: Reply) -> Result<Vec<u16>, BusError> {
    let asked = Shape::from(request);
    // A server that has no units of its own may call itself as it likes, and many do: it is the transaction that tells.
    let is_itself = |unit| matches!(unit, 0 | 255);
    if reply.unit != unit.get() && !is_itself(reply.unit) && !is_itself(unit.get()) {
        return Err(BusError::WrongUnit { unit, by: reply.unit });
    }
    if reply.function != asked.function {
        return Err(BusError::Malformed {
            unit,
            why: format!("function {} instead of {}", reply.function, asked.function),
        });
    }
    match reply.content {
        Content::Exception(code) => Err(BusError::Exception { unit, code }),
        Content::Words(mut words) if words.len() == usize::from(asked.count) => {
            words.truncate(request.count.into());
            Ok(words)
        }
        Content::Words(words) => {
            Err(BusError::Malformed { unit, why: format!("{} registers instead of {}", words.len(), request.count) })
        }
    }
}

impl fmt::Debug for TcpBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (deadline, connection) = (self.times.deadline, &self.connection);
        let connected = connection.is_some();
        write!(f, "TcpBus {{ {}, deadline: {deadline:?}, connected: {connected} }}", self.address())
    }
}

impl RegisterBus for TcpBus {
    async fn read(&mut self, unit: UnitId, request: ReadRequest) -> Result<Vec<u16>, BusError> {
        // Taken, and put back only when it is good: if this future is dropped, the connection goes with it.
        if let Some(kept) = self.connection.take() {
            let (connection, answer) = self.ask(kept, unit, request).await;
            self.connection = connection;
            // Some servers close a connection after each answer, or when it is idle: that one was kept says nothing of the next one.
            if !matches!(answer, Err(BusError::Gone { .. })) {
                return answer;
            }
        }
        let connection = self.connect().await.map_err(|source| BusError::unreachable(self.address(), source))?;
        let (connection, answer) = self.ask(connection, unit, request).await;
        self.connection = connection;
        answer
    }

    fn times(&mut self) -> &mut ReplyTimes {
        &mut self.times
    }
}

#[cfg(all(test, feature = "sim"))]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::register_bus::Table;
    use crate::reply_times::LateReply;
    use crate::sim::{Behaviour, ModbusServer, RegisterImage};

    const UNIT: u8 = 1;
    const DEADLINE: Duration = Duration::from_millis(200);

    fn request(start: u16, count: u16) -> ReadRequest {
        ReadRequest { table: Table::Input, start, count }
    }

    fn unit(id: u8) -> UnitId {
        UnitId::try_from(id).expect("a unit")
    }

    async fn served() -> (ModbusServer, TcpBus) {
        let server = ModbusServer::start().await.expect("started");
        let mut image = RegisterImage::default();
        image.set_f32(Table::Input, 52, -7200.5);
        server.put(unit(UNIT), image);
        let bus = TcpBus::new("127.0.0.1", server.address().port(), DEADLINE);
        (server, bus)
    }

    #[tokio::test]
    async fn registers_arrive_as_they_are_served() {
        let (_server, mut bus) = served().await;
        let words = bus.read(unit(UNIT), request(52, 2)).await.expect("read");
        let bits = u32::from(words[0]) << 16 | u32::from(words[1]);
        assert_eq!(f32::from_bits(bits), -7200.5);
    }

    #[tokio::test]
    async fn an_exception_is_named_and_leaves_the_connection_good() {
        let (_server, mut bus) = served().await;
        let error = bus.read(unit(UNIT), request(1000, 2)).await.expect_err("refused");
        assert!(error.to_string().contains("illegal data address"), "{error}");
        assert!(matches!(bus.read(unit(9), request(52, 2)).await, Err(BusError::Exception { code: 11, .. })));
        bus.read(unit(UNIT), request(52, 2)).await.expect("read");
    }

    #[tokio::test]
    async fn a_silent_unit_times_out_and_answers_again_later() {
        let (server, mut bus) = served().await;
        server.behave(unit(UNIT), Behaviour::Silent);
        assert!(matches!(bus.read(unit(UNIT), request(52, 2)).await, Err(BusError::Timeout { .. })));
        server.behave(unit(UNIT), Behaviour::Prompt);
        bus.read(unit(UNIT), request(52, 2)).await.expect("read");
    }

    #[tokio::test]
    async fn a_late_answer_is_never_taken_for_the_answer_to_another_request() {
        let (server, mut bus) = served().await;
        let mut other = RegisterImage::default();
        other.set_f32(Table::Input, 52, 1.0);
        server.put(unit(2), other);
        server.behave(unit(UNIT), Behaviour::Late(DEADLINE + DEADLINE / 2));
        assert!(matches!(bus.read(unit(UNIT), request(52, 2)).await, Err(BusError::Timeout { .. })));
        let words = bus.read(unit(2), request(52, 2)).await.expect("read");
        assert_eq!(words, [0x3f80, 0x0000], "unit 2 must be heard, not the late unit 1");
    }

    #[tokio::test]
    async fn a_unit_behind_a_gateway_that_waits_for_a_dead_one_is_not_given_up_for_that() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let mut bus = TcpBus::new("127.0.0.1", listener.local_addr().expect("an address").port(), DEADLINE);
        bus.times().set_deadline(DEADLINE / 4, 2 * DEADLINE);
        let gateway = tokio::spawn(async move {
            let (mut peer, _) = listener.accept().await.expect("accepted");
            let mut asked = [0; 12];
            peer.read_exact(&mut asked).await.expect("a request to the dead one");
            // One after the other: the first is waited for, and then said to be dead.
            tokio::time::sleep(DEADLINE).await;
            peer.write_all(&[asked[0], asked[1], 0, 0, 0, 3, asked[6], 0x84, 11]).await.expect("said");
            peer.read_exact(&mut asked).await.expect("a request");
            peer.write_all(&[asked[0], asked[1], 0, 0, 0, 5, asked[6], 4, 2, 0x12, 0x34]).await.expect("answered");
            peer
        });
        assert!(matches!(bus.read(unit(1), request(0, 1)).await, Err(BusError::Timeout { .. })));
        assert_eq!(bus.read(unit(2), request(0, 1)).await.expect("read"), [0x1234]);
        assert_eq!(bus.times().take_late(), [], "it was the gateway's word");
        gateway.await.expect("the gateway");
    }

    #[tokio::test]
    async fn what_was_given_up_is_waited_for_only_where_it_may_be_in_the_way() {
        let (server, mut bus) = served().await;
        server.put(unit(2), RegisterImage::default());
        [unit(UNIT), unit(2)].into_iter().for_each(|unit| server.behave(unit, Behaviour::Silent));
        let limit = 20 * DEADLINE;
        bus.times().set_deadline(DEADLINE / 4, limit);
        assert!(matches!(bus.read(unit(UNIT), request(52, 2)).await, Err(BusError::Timeout { .. })));
        for (ahead, id) in [(Ahead::None, 2), (Ahead::OtherUnits, UNIT)] {
            let asked = Instant::now();
            bus.set_ahead(ahead);
            assert!(matches!(bus.read(unit(id), request(52, 2)).await, Err(BusError::Timeout { .. })));
            assert!(asked.elapsed() < limit / 4, "{ahead:?}: {:?}", asked.elapsed());
            // One that answers is not busy with those before it.
            server.behave(unit(UNIT), Behaviour::Prompt);
            bus.set_ahead(Ahead::All);
            bus.read(unit(UNIT), request(52, 2)).await.expect("read");
            let asked = Instant::now();
            assert!(matches!(bus.read(unit(2), request(52, 2)).await, Err(BusError::Timeout { .. })));
            assert!(asked.elapsed() < limit / 4, "after an answer: {:?}", asked.elapsed());
            bus.read(unit(UNIT), request(52, 2)).await.expect("read");
            server.behave(unit(UNIT), Behaviour::Silent);
        }
    }

    /// Answers each request with one register, as by this transaction and unit.
    async fn answers_as(reply_head: impl Fn([u8; 2], u8) -> ([u8; 2], u8) + Send + 'static) -> TcpBus {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let bus = TcpBus::new("127.0.0.1", listener.local_addr().expect("an address").port(), DEADLINE);
        tokio::spawn(async move {
            let (mut peer, _) = listener.accept().await.expect("accepted");
            let mut asked = [0; 12];
            while peer.read_exact(&mut asked).await.is_ok() {
                let ([t0, t1], unit) = reply_head([asked[0], asked[1]], asked[6]);
                peer.write_all(&[t0, t1, 0, 0, 0, 5, unit, 4, 2, 0x12, 0x34]).await.expect("answered");
            }
        });
        bus
    }

    #[tokio::test]
    async fn a_server_that_calls_itself_0_or_255_is_read_and_one_that_calls_itself_another_unit_is_not() {
        for echoed in [0, 255] {
            let mut bus = answers_as(move |transaction, _| (transaction, echoed)).await;
            assert_eq!(bus.read(unit(UNIT), request(0, 1)).await.expect("read"), [0x1234], "echoed as {echoed}");
        }
        let mut bus = answers_as(|transaction, _| (transaction, 1)).await;
        assert_eq!(bus.read(unit(255), request(0, 1)).await.expect("read"), [0x1234], "the server itself");
        let mut bus = answers_as(|transaction, unit| (transaction, unit + 1)).await;
        assert!(matches!(bus.read(unit(UNIT), request(0, 1)).await, Err(BusError::WrongUnit { by: 2, .. })));
    }

    /// It was told as "no answer; check unit id and wiring".
    #[tokio::test]
    async fn a_wrong_transaction_number_is_named_as_that_and_its_words_are_not_taken() {
        let mut bus = answers_as(|_, unit| ([0, 0], unit)).await;
        for asked in 1..=3 {
            let error = bus.read(unit(UNIT), request(0, 1)).await.expect_err("nobody knows whose it is");
            let told = format!("transaction number 0 instead of {asked}");
            assert!(matches!(error, BusError::Malformed { .. }) && error.to_string().contains(&told), "{error}");
        }
        assert_eq!(bus.times().take_late(), []);
    }

    #[tokio::test]
    async fn an_answer_that_comes_twice_is_no_wrong_transaction_number() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let mut bus = TcpBus::new("127.0.0.1", listener.local_addr().expect("an address").port(), DEADLINE);
        let server = tokio::spawn(async move {
            let (mut peer, _) = listener.accept().await.expect("accepted");
            let mut asked = [0; 12];
            peer.read_exact(&mut asked).await.expect("a request");
            let answer = [asked[0], asked[1], 0, 0, 0, 5, asked[6], 4, 2, 0x12, 0x34];
            peer.write_all(&[answer, answer].concat()).await.expect("answered");
            peer.read_exact(&mut asked).await.expect("a request that is not answered");
            peer
        });
        bus.read(unit(UNIT), request(0, 1)).await.expect("read");
        assert!(matches!(bus.read(unit(UNIT), request(0, 1)).await, Err(BusError::Timeout { .. })));
        server.await.expect("the server");
    }

    /// Answers one request with these pieces, so long apart, and hands the connection back.
    async fn in_pieces(pieces: fn([u8; 2]) -> Vec<Vec<u8>>, apart: Duration) -> (TcpBus, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let bus = TcpBus::new("127.0.0.1", listener.local_addr().expect("an address").port(), DEADLINE);
        let server = tokio::spawn(async move {
            loop {
                let (mut peer, _) = listener.accept().await.expect("accepted");
                let mut asked = [0; 12];
                while peer.read_exact(&mut asked).await.is_ok() {
                    for piece in pieces([asked[0], asked[1]]) {
                        if peer.write_all(&piece).await.is_err() {
                            break;
                        }
                        tokio::time::sleep(apart).await;
                    }
                }
            }
        });
        (bus, server)
    }

    #[tokio::test]
    async fn an_answer_in_pieces_is_read_and_one_that_breaks_off_is_named_and_left_behind() {
        let whole = |[t0, t1]: [u8; 2]| vec![vec![t0, t1, 0, 0, 0, 5, 1], vec![4, 2, 0x12], vec![0x34]];
        let (mut bus, server) = in_pieces(whole, Duration::from_millis(150)).await;
        assert_eq!(bus.read(unit(UNIT), request(0, 1)).await.expect("read"), [0x1234]);
        server.abort();
        let broken = |[t0, t1]: [u8; 2]| {
            if t1 == 1 {
                vec![vec![t0, t1, 0, 0, 0, 5, 1, 4]]
            } else {
                vec![vec![t0, t1, 0, 0, 0, 5, 1, 4, 2, 0x12, 0x34]]
            }
        };
        let (mut bus, server) = in_pieces(broken, Duration::ZERO).await;
        assert!(matches!(
            bus.read(unit(UNIT), request(0, 1)).await,
            Err(BusError::Short { heard: 8, expected: 11, .. })
        ));
        assert_eq!(bus.read(unit(UNIT), request(0, 1)).await.expect("read"), [0x1234]);
        server.abort();
    }

    /// A byte at a time, each within the byte timeout: 250 registers had the bus for two minutes, and a next one after them for more.
    #[tokio::test]
    async fn an_answer_that_comes_byte_by_byte_is_given_up_after_a_few_silences() {
        let trickle = |[t0, t1]: [u8; 2]| {
            let head = [t0, t1, 0, 0, 0, 253, 1, 4, 250].map(|byte| vec![byte]);
            head.into_iter().chain(vec![vec![0]; 250]).collect()
        };
        let (mut bus, server) = in_pieces(trickle, Duration::from_millis(40)).await;
        bus.times().set_byte_timeout(Duration::from_millis(100));
        let asked = Instant::now();
        let error = bus.read(unit(UNIT), request(0, 125)).await.expect_err("it never ends");
        assert!(matches!(error, BusError::Short { expected: 259, .. }), "{error}");
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
        server.abort();
    }

    /// Another unit behind the same gateway was not read, and was told as one whose answers break off.
    #[tokio::test]
    async fn an_answer_that_trickles_in_keeps_no_other_unit_of_the_gateway_from_being_read() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let mut bus = TcpBus::new("127.0.0.1", listener.local_addr().expect("an address").port(), DEADLINE);
        let gateway = tokio::spawn(async move {
            loop {
                let (mut peer, _) = listener.accept().await.expect("accepted");
                let mut asked = [0; 12];
                while peer.read_exact(&mut asked).await.is_ok() {
                    let answer = [asked[0], asked[1], 0, 0, 0, 5, asked[6], 4, 2, 0x12, 0x34];
                    if asked[6] == UNIT {
                        tokio::time::sleep(2 * DEADLINE).await;
                        for byte in [&answer[..5], &[253, UNIT, 4, 250], &[0; 250]].concat() {
                            if peer.write_all(&[byte]).await.is_err() {
                                break;
                            }
                            tokio::time::sleep(DEADLINE / 4).await;
                        }
                    } else if peer.write_all(&answer).await.is_err() {
                        break;
                    }
                }
            }
        });
        let asked = Instant::now();
        // It may be busy for so long with what was given up, but not when it has begun with the answer to that.
        bus.times().set_deadline(DEADLINE, 50 * DEADLINE);
        assert!(matches!(bus.read(unit(UNIT), request(0, 125)).await, Err(BusError::Timeout { .. })));
        assert_eq!(bus.read(unit(2), request(0, 1)).await.expect("read"), [0x1234]);
        assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
        gateway.abort();
    }

    /// One that closes after each answer was lost every other time.
    #[tokio::test]
    async fn a_server_that_closes_after_each_answer_is_read_each_time_also_back_to_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let mut bus = TcpBus::new("127.0.0.1", listener.local_addr().expect("an address").port(), DEADLINE);
        let server = tokio::spawn(async move {
            loop {
                let (mut peer, _) = listener.accept().await.expect("accepted");
                let mut asked = [0; 12];
                peer.read_exact(&mut asked).await.expect("a request");
                peer.write_all(&[asked[0], asked[1], 0, 0, 0, 5, asked[6], 4, 2, 0x12, 0x34]).await.expect("answered");
            }
        });
        for _ in 0..20 {
            assert_eq!(bus.read(unit(UNIT), request(0, 1)).await.expect("read"), [0x1234]);
        }
        server.abort();
    }

    /// It was taken to be as late as the next request.
    #[tokio::test]
    async fn an_answer_that_comes_between_two_requests_is_late_by_when_it_came() {
        let (server, mut bus) = served().await;
        server.behave(unit(UNIT), Behaviour::Late(DEADLINE + DEADLINE / 4));
        assert!(matches!(bus.read(unit(UNIT), request(52, 2)).await, Err(BusError::Timeout { .. })));
        let _ = timeout(5 * DEADLINE, bus.listen()).await;
        server.behave(unit(UNIT), Behaviour::Prompt);
        bus.read(unit(UNIT), request(52, 2)).await.expect("read");
        let late = bus.times().take_late();
        assert!(matches!(late[..], [LateReply { unit: UNIT, after }] if after < 4 * DEADLINE), "{late:?}");
    }

    #[tokio::test]
    async fn a_reply_of_the_wrong_length_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let mut bus = TcpBus::new("127.0.0.1", listener.local_addr().expect("an address").port(), DEADLINE);
        tokio::spawn(async move {
            let (mut peer, _) = listener.accept().await.expect("accepted");
            let mut asked = [0; 12];
            peer.read_exact(&mut asked).await.expect("a request");
            let answer = [asked[0], asked[1], 0, 0, 0, 5, asked[6], 4, 2, 0x12, 0x34];
            peer.write_all(&answer).await.expect("answered");
        });
        assert!(matches!(bus.read(unit(UNIT), request(0, 2)).await, Err(BusError::Malformed { .. })));
    }

    #[tokio::test]
    async fn a_server_that_vanished_is_found_again() {
        let (server, mut bus) = served().await;
        bus.read(unit(UNIT), request(52, 2)).await.expect("read");
        let address = server.address();
        drop(server);
        assert!(bus.read(unit(UNIT), request(52, 2)).await.is_err());
        assert!(bus.read(unit(UNIT), request(52, 2)).await.is_err());
        let server = ModbusServer::start_at(address).await.expect("the port is free again");
        let mut image = RegisterImage::default();
        image.set_f32(Table::Input, 52, 3.0);
        server.put(unit(UNIT), image);
        bus.read(unit(UNIT), request(52, 2)).await.expect("read");
    }
}
