//! Modbus TCP, on tokio-modbus.

use std::fmt;
use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_modbus::client::{Context, tcp};
use tokio_modbus::slave::{Slave, SlaveContext};

use crate::register_bus::{BusError, ReadRequest, RegisterBus, UnitId};
use crate::transaction::{is_answer, transact};

/// One TCP connection to one server, made when it is needed.
pub struct TcpBus {
    host: String,
    port: u16,
    deadline: Duration,
    connection: Option<Context>,
}

impl TcpBus {
    /// A bus to `host:port` that gives each connect and each answer `deadline`. Connects at the first read.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16, deadline: Duration) -> Self {
        Self { host: host.into(), port, deadline, connection: None }
    }

    /// The deadline of the reads that follow: units behind one gateway may differ.
    pub fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = deadline;
    }
}

impl fmt::Debug for TcpBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, deadline, connection } = self;
        let connected = connection.is_some();
        write!(f, "TcpBus {{ {host}:{port}, deadline: {deadline:?}, connected: {connected} }}")
    }
}

async fn connect(host: &str, port: u16, deadline: Duration) -> io::Result<Context> {
    let stream = timeout(deadline, TcpStream::connect((host, port))).await.map_err(|_| io::ErrorKind::TimedOut)??;
    // A request is one small segment that must not wait for another.
    stream.set_nodelay(true)?;
    Ok(tcp::attach_slave(stream, Slave(0)))
}

impl RegisterBus for TcpBus {
    async fn read(&mut self, unit: UnitId, request: ReadRequest) -> Result<Vec<u16>, BusError> {
        // Taken, and put back only after a whole answer: whatever goes wrong, or if this future is dropped, the
        // connection goes with it and no late answer can meet a later request.
        let taken = self.connection.take();
        let (host, port, deadline) = (&self.host, self.port, self.deadline);
        let address = || format!("{host}:{port}");
        let mut connection = match taken {
            Some(connection) => connection,
            None => connect(host, port, deadline)
                .await
                .map_err(|source| BusError::Unreachable { address: address(), source })?,
        };
        connection.set_slave(Slave(unit.get()));
        let answer = transact(&mut connection, unit, request, deadline, address).await;
        if is_answer(&answer) {
            self.connection = Some(connection);
        }
        answer
    }
}

#[cfg(all(test, feature = "sim"))]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::register_bus::Table;
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
