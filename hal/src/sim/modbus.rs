//! A real Modbus TCP server on loopback over register images that a simulation changes.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;
use tokio_modbus::server::Service;
use tokio_modbus::server::tcp::{Server, accept_tcp_connection};
use tokio_modbus::{ExceptionCode, Request, Response, SlaveRequest};

use crate::register_bus::{Table, UnitId};

/// The registers of one unit. Multi-register values lie most significant word first. An address that was never set
/// does not exist: reading it is an illegal data address.
#[derive(Debug, Clone, Default)]
pub struct RegisterImage {
    input: BTreeMap<u16, u16>,
    holding: BTreeMap<u16, u16>,
    /// 0 or 1.
    coils: BTreeMap<u16, u16>,
    discrete: BTreeMap<u16, u16>,
}

impl RegisterImage {
    fn table(&mut self, table: Table) -> &mut BTreeMap<u16, u16> {
        match table {
            Table::Holding => &mut self.holding,
            Table::Input => &mut self.input,
            Table::Coil => &mut self.coils,
            Table::Discrete => &mut self.discrete,
        }
    }

    /// Lays words from `address` on.
    pub fn set_words(&mut self, table: Table, address: u16, words: &[u16]) {
        self.table(table).extend((address..).zip(words.iter().copied()));
    }

    fn set_bytes(&mut self, table: Table, address: u16, bytes: &[u8]) {
        let words: Vec<u16> = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
        self.set_words(table, address, &words);
    }

    /// One register.
    pub fn set_u16(&mut self, table: Table, address: u16, value: u16) {
        self.set_words(table, address, &[value]);
    }

    /// One register, two's complement.
    pub fn set_i16(&mut self, table: Table, address: u16, value: i16) {
        self.set_bytes(table, address, &value.to_be_bytes());
    }

    /// Two registers.
    pub fn set_u32(&mut self, table: Table, address: u16, value: u32) {
        self.set_bytes(table, address, &value.to_be_bytes());
    }

    /// Two registers, two's complement.
    pub fn set_i32(&mut self, table: Table, address: u16, value: i32) {
        self.set_bytes(table, address, &value.to_be_bytes());
    }

    /// Four registers.
    pub fn set_u64(&mut self, table: Table, address: u16, value: u64) {
        self.set_bytes(table, address, &value.to_be_bytes());
    }

    /// Two registers, IEEE 754.
    pub fn set_f32(&mut self, table: Table, address: u16, value: f32) {
        self.set_bytes(table, address, &value.to_be_bytes());
    }

    /// A run of words; `None` if one of them does not exist.
    pub(super) fn words(&self, table: Table, start: u16, count: u16) -> Option<Vec<u16>> {
        let table = match table {
            Table::Holding => &self.holding,
            Table::Input => &self.input,
            Table::Coil => &self.coils,
            Table::Discrete => &self.discrete,
        };
        (0..count).map(|i| start.checked_add(i).and_then(|address| table.get(&address).copied())).collect()
    }

    fn read(&self, request: &Request<'_>) -> Result<Response, ExceptionCode> {
        let run = |table, start, count| self.words(table, start, count).ok_or(ExceptionCode::IllegalDataAddress);
        match *request {
            Request::ReadInputRegisters(start, count) => {
                run(Table::Input, start, count).map(Response::ReadInputRegisters)
            }
            Request::ReadHoldingRegisters(start, count) => {
                run(Table::Holding, start, count).map(Response::ReadHoldingRegisters)
            }
            Request::ReadCoils(start, count) => run(Table::Coil, start, count)
                .map(|bits| Response::ReadCoils(bits.iter().map(|bit| *bit != 0).collect())),
            Request::ReadDiscreteInputs(start, count) => run(Table::Discrete, start, count)
                .map(|bits| Response::ReadDiscreteInputs(bits.iter().map(|bit| *bit != 0).collect())),
            _ => Err(ExceptionCode::IllegalFunction),
        }
    }
}

/// How a unit behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Behaviour {
    /// It answers at once.
    #[default]
    Prompt,
    /// It does not answer.
    Silent,
    /// It answers after this time.
    Late(Duration),
    /// It refuses everything with this exception code.
    Refusing(u8),
}

pub(super) type Units = Arc<Mutex<HashMap<u8, (RegisterImage, Behaviour)>>>;

/// A server with any number of units. Ends, with its connections, when dropped.
#[derive(Debug)]
pub struct ModbusServer {
    address: SocketAddr,
    units: Units,
    task: JoinHandle<()>,
}

impl ModbusServer {
    /// Listens on a free loopback port.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start() -> io::Result<Self> {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into()).await
    }

    /// Listens at `address`, also right after a server there has ended.
    ///
    /// # Errors
    /// The address is taken.
    #[allow(clippy::unused_async, reason = "it wants a runtime to be called in, as its sibling does")]
    pub async fn start_at(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener: TcpListener = socket.listen(64)?;
        let address = listener.local_addr()?;
        let units = Units::default();
        let task = tokio::spawn(serve(listener, Arc::clone(&units)));
        Ok(Self { address, units, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn units<T>(&self, change: impl FnOnce(&mut HashMap<u8, (RegisterImage, Behaviour)>) -> T) -> T {
        change(&mut self.units.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Gives a unit a new image, all at once.
    pub fn put(&self, unit: UnitId, image: RegisterImage) {
        self.units(|units| units.entry(unit.get()).or_default().0 = image);
    }

    /// Tells a unit how to behave from now on.
    pub fn behave(&self, unit: UnitId, behaviour: Behaviour) {
        self.units(|units| units.entry(unit.get()).or_default().1 = behaviour);
    }
}

impl Drop for ModbusServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, units: Units) {
    let server = Server::new(listener);
    let on_connected = |stream: tokio::net::TcpStream, peer| {
        let units = Units::clone(&units);
        async move {
            stream.set_nodelay(true)?;
            accept_tcp_connection(stream, peer, |_| {
                Ok(Some(Answering { units: Units::clone(&units), behind_gateway: true }))
            })
        }
    };
    if let Err(error) = server.serve(&on_connected, |error| tracing::debug!(%error, "a simulated line ended")).await {
        tracing::warn!(%error, "the simulated Modbus server ended");
    }
}

/// What the units do with a request.
pub(super) struct Answering {
    pub(super) units: Units,
    /// Who answers for a unit that is not there: a gateway with exception 11 (true), or nobody.
    pub(super) behind_gateway: bool,
}

impl Service for Answering {
    type Request = SlaveRequest<'static>;
    type Response = Option<Response>;
    type Exception = ExceptionCode;
    type Future = Pin<Box<dyn Future<Output = Result<Option<Response>, ExceptionCode>> + Send>>;

    fn call(&self, request: Self::Request) -> Self::Future {
        let units = Units::clone(&self.units);
        let behind_gateway = self.behind_gateway;
        Box::pin(async move {
            let known = units.lock().unwrap_or_else(PoisonError::into_inner).get(&request.slave).cloned();
            let Some((image, behaviour)) = known else {
                return if behind_gateway { Err(ExceptionCode::GatewayTargetDevice) } else { Ok(None) };
            };
            match behaviour {
                Behaviour::Prompt => {}
                Behaviour::Silent => return Ok(None),
                Behaviour::Late(by) => tokio::time::sleep(by).await,
                Behaviour::Refusing(code) => return Err(ExceptionCode::new(code)),
            }
            image.read(&request.request).map(Some)
        })
    }
}
