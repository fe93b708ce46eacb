//! The bus of a port, by its kind.

use std::time::Duration;

use hal::{Ahead, BusError, ReadRequest, RegisterBus, ReplyTimes, RtuBus, Table, TcpBus, UnitId};

use super::queue::Read;
use super::{Address, Port};
use crate::net::Endpoint;
use crate::spec::RegisterTable;

pub(super) enum Bus {
    Tcp(TcpBus),
    Rtu(RtuBus),
}

impl Bus {
    pub(super) fn of(port: &Port) -> Self {
        let timeout = port.devices.iter().map(|target| target.timeout).max().unwrap_or_default();
        let mut bus = match port.address.clone() {
            Address::Tcp(Endpoint { host, port }) => Self::Tcp(TcpBus::new(host, port, timeout)),
            Address::RtuOverTcp(Endpoint { host, port }) => Self::Rtu(RtuBus::over_tcp(host, port, timeout)),
            Address::Serial(line) => Self::Rtu(RtuBus::new(line, timeout)),
        };
        bus.times().set_byte_timeout(port.byte_timeout);
        bus
    }

    pub(super) fn set_deadline(&mut self, deadline: Duration, limit: Duration, ahead: Ahead) {
        self.times().set_deadline(deadline, limit);
        if let Self::Tcp(bus) = self {
            bus.set_ahead(ahead);
        }
    }

    /// Hears what comes while nothing is asked. Never ends; cancel-safe.
    pub(super) async fn listen(&mut self) {
        match self {
            Self::Tcp(bus) => bus.listen().await,
            Self::Rtu(bus) => bus.listen().await,
        }
        // There is nothing to hear before the next request.
        std::future::pending::<()>().await;
    }
}

impl RegisterBus for Bus {
    async fn read(&mut self, unit: UnitId, request: ReadRequest) -> Result<Vec<u16>, BusError> {
        match self {
            Self::Tcp(bus) => bus.read(unit, request).await,
            Self::Rtu(bus) => bus.read(unit, request).await,
        }
    }

    fn times(&mut self) -> &mut ReplyTimes {
        match self {
            Self::Tcp(bus) => bus.times(),
            Self::Rtu(bus) => bus.times(),
        }
    }
}

pub(super) fn request(job: Read) -> ReadRequest {
    let table = match job.block.table {
        RegisterTable::Holding => Table::Holding,
        RegisterTable::Input => Table::Input,
        RegisterTable::Coil => Table::Coil,
        RegisterTable::Discrete => Table::Discrete,
    };
    ReadRequest { table, start: job.block.start, count: job.block.count }
}
