//! One request and its answer over tokio-modbus, whatever carries it.

use std::io;
use std::time::Duration;

use tokio::time::timeout;
use tokio_modbus::client::{Client, Context};
use tokio_modbus::{Error, Request, Response};

use crate::register_bus::{BusError, ReadRequest, Table, UnitId};

/// Asks, and gives the answer `patience` to be whole. The client must have been told the unit. `address` is for people.
///
/// tokio-modbus itself verifies the CRC or the transaction number, the unit id and the function code, also those of an
/// exception; the number of registers is verified here.
pub(crate) async fn transact(
    client: &mut Context,
    unit: UnitId,
    request: ReadRequest,
    patience: Duration,
    address: impl FnOnce() -> String,
) -> Result<Vec<u16>, BusError> {
    let asked = match request.table {
        Table::Holding => Request::ReadHoldingRegisters(request.start, request.count),
        Table::Input => Request::ReadInputRegisters(request.start, request.count),
    };
    let malformed = |why: String| BusError::Malformed { unit, why };
    match timeout(patience, client.call(asked)).await {
        Err(_) => Err(BusError::Timeout { unit, ms: patience.as_millis() }),
        // The codec's word for bytes that are no frame.
        Ok(Err(Error::Transport(error))) if error.kind() == io::ErrorKind::InvalidData => {
            Err(malformed(error.to_string()))
        }
        Ok(Err(Error::Transport(source))) => Err(BusError::Gone { address: address(), source }),
        Ok(Err(Error::Protocol(error))) => Err(malformed(error.to_string())),
        Ok(Ok(Err(code))) => Err(BusError::Exception { unit, code: code.into() }),
        Ok(Ok(Ok(Response::ReadHoldingRegisters(words) | Response::ReadInputRegisters(words)))) => {
            if words.len() == usize::from(request.count) {
                Ok(words)
            } else {
                Err(malformed(format!("{} registers instead of {}", words.len(), request.count)))
            }
        }
        Ok(Ok(Ok(other))) => Err(malformed(format!("function {}", other.function_code()))),
    }
}

/// Whether this came from the unit that was asked, whole and in time: what it was asked is answered, and nothing more
/// will come.
pub(crate) fn is_answer(outcome: &Result<Vec<u16>, BusError>) -> bool {
    matches!(outcome, Ok(_) | Err(BusError::Exception { .. }))
}
