//! Buses on which registers are read: Modbus.

use std::fmt;
use std::future::Future;

use crate::reach;
use crate::reply_times::ReplyTimes;

/// A Modbus unit id: 1 to 247 are devices, and over TCP 0 and 255 are the server itself, which has no number of its own
/// (Modbus Messaging on TCP/IP 1.0b, 4.4.1.2). On a serial line 0 is everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnitId(u8);

impl UnitId {
    /// The id as on the wire.
    #[must_use]
    pub fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for UnitId {
    type Error = InvalidUnitId;

    fn try_from(id: u8) -> Result<Self, InvalidUnitId> {
        if matches!(id, 0..=247 | 255) { Ok(Self(id)) } else { Err(InvalidUnitId(id)) }
    }
}

/// Not a unit id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is reserved; a unit is 1 to 247, over TCP also 0 or 255")]
pub struct InvalidUnitId(pub u8);

impl fmt::Display for UnitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The tables of a device, by the function code that reads them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Table {
    /// Function code 3.
    Holding,
    /// Function code 4.
    Input,
    /// Function code 1: single bits, each of which is read as a word of 0 or 1.
    Coil,
    /// Function code 2: single bits, as well.
    Discrete,
}

impl Table {
    /// Whether it holds single bits.
    #[must_use]
    pub fn is_of_bits(self) -> bool {
        matches!(self, Self::Coil | Self::Discrete)
    }
}

/// One read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadRequest {
    /// Which table.
    pub table: Table,
    /// Zero-based address of the first register.
    pub start: u16,
    /// 1 to 125 registers (Modbus Application Protocol 1.1b3, 6.3 and 6.4), or 1 to 2000 bits (6.1 and 6.2).
    pub count: u16,
}

impl ReadRequest {
    /// How many bytes hold what is asked for.
    #[must_use]
    pub fn bytes(self) -> u16 {
        if self.table.is_of_bits() { self.count.div_ceil(8) } else { self.count.saturating_mul(2) }
    }
}

/// Why a read gave nothing. In every case no value was changed and the bus may be used again at once; what it costs
/// is told with each.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// Nobody accepts a connection, or the serial port cannot be opened. The next read tries again.
    #[error("cannot reach {address}: {source}; {cure}")]
    Unreachable {
        /// Host and port, or device path.
        address: String,
        /// What the system said.
        source: std::io::Error,
        /// What to do about it. It is found out when it happens: who has a port is looked for among all processes.
        cure: String,
    },
    /// No answer in time. A late one is recognised as such when it comes.
    #[error(
        "no answer from unit {unit} within {ms} ms; check unit id and wiring, on a serial line also baud rate, parity \
         and stop bits"
    )]
    Timeout {
        /// Who was asked.
        unit: UnitId,
        /// The deadline.
        ms: u128,
    },
    /// The answer came, but after its deadline. It was dropped; the bus is free.
    #[error("unit {unit} answers late, after {after_ms} ms instead of {ms} ms; give it a longer timeout")]
    Late {
        /// Who was asked.
        unit: UnitId,
        /// When it came.
        after_ms: u128,
        /// When it should have.
        ms: u128,
    },
    /// Bytes came that are no frame, or one whose CRC is wrong. They were dropped.
    #[error(
        "{heard} bytes came from unit {unit} of which none make a right frame (CRC): noise; check termination, shield, \
         ground and the length of the line, and that no other unit has this id"
    )]
    Noise {
        /// Who was asked.
        unit: UnitId,
        /// How many bytes.
        heard: usize,
    },
    /// An answer began and did not end. It was dropped.
    #[error(
        "the answer of unit {unit} breaks off: {heard} of {expected} bytes; check baud rate, wiring and the adapter"
    )]
    Short {
        /// Who was asked.
        unit: UnitId,
        /// Bytes that came.
        heard: usize,
        /// Bytes of a whole answer.
        expected: usize,
    },
    /// Another unit spoke, which had not been asked. It was not listened to.
    #[error("unit {by} answers when unit {unit} is asked; is another master on the line, or a unit id given twice?")]
    WrongUnit {
        /// Who was asked.
        unit: UnitId,
        /// Who spoke.
        by: u8,
    },
    /// The device refused. The connection is good.
    #[error("unit {unit} refuses: {} (exception {code})", exception_name(*code))]
    Exception {
        /// Who was asked.
        unit: UnitId,
        /// Modbus exception code.
        code: u8,
    },
    /// A whole reply came, but not to what was asked. It was dropped, on TCP with its connection.
    #[error("unit {unit} gave an answer that is not one: {why}")]
    Malformed {
        /// Who was asked.
        unit: UnitId,
        /// What is wrong with it.
        why: String,
    },
    /// The connection or the port went away. The next read opens it again.
    #[error("the connection to {address} was lost: {source}")]
    Gone {
        /// Host and port, or device path.
        address: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl BusError {
    /// It cannot be reached: looks for what to do about it.
    pub(crate) fn unreachable(address: String, source: std::io::Error) -> Self {
        let cure = reach::cure(&address, &source);
        Self::Unreachable { address, source, cure }
    }

    /// A short name for counters.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::Timeout { .. } => "timeout",
            Self::Late { .. } => "late",
            Self::Noise { .. } => "noise",
            Self::Short { .. } => "short",
            Self::WrongUnit { .. } => "wrong_unit",
            Self::Exception { .. } => "exception",
            Self::Malformed { .. } => "malformed",
            Self::Gone { .. } => "gone",
        }
    }
}

/// The standard's name of an exception code (Modbus Application Protocol 1.1b3, 7).
#[must_use]
pub fn exception_name(code: u8) -> &'static str {
    match code {
        1 => "illegal function",
        2 => "illegal data address",
        3 => "illegal data value",
        4 => "server device failure",
        5 => "acknowledge, still working",
        6 => "server device busy",
        8 => "memory parity error",
        10 => "gateway path unavailable",
        11 => "gateway target device failed to respond",
        _ => "unknown exception",
    }
}

/// A bus that reads registers of the units on it, one request at a time.
pub trait RegisterBus: Send {
    /// Reads `request.count` registers; the answer has exactly that many.
    ///
    /// Cancel-safe in the sense that counts: the answer to a read that is dropped is never taken for another's.
    ///
    /// # Errors
    /// See [`BusError`].
    fn read(&mut self, unit: UnitId, request: ReadRequest) -> impl Future<Output = Result<Vec<u16>, BusError>> + Send;

    /// How long answers are waited for, and what was learned of when they come.
    fn times(&mut self) -> &mut ReplyTimes;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserved_unit_is_refused() {
        let refused: Vec<u8> = (0..=255).filter(|n| UnitId::try_from(*n).is_err()).collect();
        assert_eq!(refused, [248, 249, 250, 251, 252, 253, 254]);
    }
}
