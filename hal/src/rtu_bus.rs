//! Modbus RTU on a serial line, on tokio-serial and tokio-modbus.
//!
//! An RTU frame has no number by which an answer could be told from the answer to an earlier request. What tells them
//! apart is the unit id, the function code, the length, the CRC – and silence. So:
//!
//! - A request goes out only on a quiet line: what was received is dropped, and nothing more comes for the silence
//!   between frames, t3.5 (Modbus over Serial Line 1.02, 2.5.1.1).
//! - From the moment a request is sent an answer is owed. Only a whole, right answer pays. If there was none, or
//!   another one, or the read was dropped, the line is heard out: until **two patiences after the request** whatever
//!   comes is dropped, and then as long as it takes until nothing has come for [`HUSH`]. A patience is the deadline and
//!   the time that request and answer take on the wire. The same holds after opening: whoever had the port before may
//!   have asked something.
//! - The bound: an answer that comes later than two patiences after its request meets a later request. Of another unit,
//!   function or length it is refused; one that agrees in all of these cannot be told. Two patiences are far more than
//!   a device takes that is meant to answer within one.
//!
//! Closing a port does not unsay a request, and it may reset an adapter: the port stays open through all of this, and is
//! opened anew, by its path, only when it went away.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep_until};
use tokio_modbus::client::rtu;
use tokio_modbus::slave::Slave;
use tokio_serial::{DataBits, SerialStream};

use crate::register_bus::{BusError, ReadRequest, RegisterBus, UnitId};
use crate::transaction::{is_answer, transact};

/// Start, 8 data bits, parity, stop; without parity a second stop bit takes its place (2.5.1).
const CHARACTER_BITS: u32 = 11;
/// Above 19,200 baud the silence between frames does not shrink any more (2.5.1.1).
const BAUD_OF_FIXED_SILENCE: u32 = 19_200;
const FIXED_SILENCE: Duration = Duration::from_micros(1_750);
/// Unit, function, start, count and CRC of the request; unit, function, byte count and CRC of the answer.
const FRAME_BYTES: u32 = 8 + 5;
/// So long must nothing come on a line on which something came that nobody asked for. USB adapters hand bytes over in
/// lumps up to 16 ms apart.
const HUSH: Duration = Duration::from_millis(50);
/// A line that still talks so long after it should be quiet is given up for this request.
const BABBLE_MAX: Duration = Duration::from_secs(1);
/// Reads of one look into the receive buffer. The kernel holds 4 KiB for us, and as much again on the way.
const LUMPS_MAX: usize = 32;
const LUMP_BYTES: usize = 256;

/// The parity of a serial line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Parity {
    /// No parity bit.
    None,
    /// Even.
    Even,
    /// Odd.
    Odd,
}

/// The stop bits of a serial line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopBits {
    /// One.
    One,
    /// Two.
    Two,
}

/// A serial port and how it is set. 8 data bits, no flow control.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SerialLine {
    /// `/dev/ttyS1`.
    pub path: PathBuf,
    /// Bits per second.
    pub baud: u32,
    /// As the devices have it.
    pub parity: Parity,
    /// As the devices have it.
    pub stop_bits: StopBits,
}

impl SerialLine {
    /// What so many characters take on the wire.
    fn characters(&self, count: u32) -> Duration {
        Duration::from_secs((count * CHARACTER_BITS).into()) / self.baud.max(1)
    }

    /// t3.5, the silence between frames.
    fn silence(&self) -> Duration {
        if self.baud > BAUD_OF_FIXED_SILENCE { FIXED_SILENCE } else { self.characters(7) / 2 }
    }

    fn open(&self) -> io::Result<Line> {
        let parity = match self.parity {
            Parity::None => tokio_serial::Parity::None,
            Parity::Even => tokio_serial::Parity::Even,
            Parity::Odd => tokio_serial::Parity::Odd,
        };
        let stop_bits = match self.stop_bits {
            StopBits::One => tokio_serial::StopBits::One,
            StopBits::Two => tokio_serial::StopBits::Two,
        };
        let builder = tokio_serial::new(self.path.to_string_lossy(), self.baud)
            .data_bits(DataBits::Eight)
            .parity(parity)
            .stop_bits(stop_bits);
        Ok(Line(Arc::new(Mutex::new(SerialStream::open(&builder)?))))
    }
}

/// One serial port with the units on its line, opened when it is needed. Unit 0 is broadcast and never answers.
pub struct RtuBus {
    settings: SerialLine,
    deadline: Duration,
    line: Option<Line>,
    /// Before this nothing may be sent, and what comes is not for us.
    quiet_at: Instant,
}

impl RtuBus {
    /// A bus on this port whose units have `deadline` to answer, besides the time on the wire. Opens at the first read.
    #[must_use]
    pub fn new(settings: SerialLine, deadline: Duration) -> Self {
        Self { settings, deadline, line: None, quiet_at: Instant::now() }
    }

    /// The deadline of the reads that follow: units on one line may differ.
    pub fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = deadline;
    }

    fn address(&self) -> String {
        shown(&self.settings.path)
    }

    fn opened(&mut self, patience: Duration) -> Result<Line, BusError> {
        if let Some(line) = &self.line {
            return Ok(line.clone());
        }
        let line = self.settings.open().map_err(|source| BusError::Unreachable { address: self.address(), source })?;
        self.quiet_at = Instant::now() + patience;
        self.line = Some(line.clone());
        Ok(line)
    }

    /// Waits until the line is quiet, and drops what came meanwhile. Cancel-safe: what was heard is remembered.
    async fn hear_out(&mut self, line: &Line, unit: UnitId) -> Result<(), BusError> {
        let give_up = self.quiet_at.max(Instant::now()) + BABBLE_MAX;
        loop {
            sleep_until(self.quiet_at).await;
            match line.discard() {
                Ok(Heard::Nothing) => return Ok(()),
                Ok(Heard::Something) if Instant::now() < give_up => {
                    self.quiet_at = Instant::now() + HUSH.max(self.settings.silence());
                }
                Ok(Heard::Something) => {
                    let why = "the line does not fall silent; is there another master on it, or noise?".to_owned();
                    return Err(BusError::Malformed { unit, why });
                }
                Err(source) => {
                    self.line = None;
                    return Err(BusError::Gone { address: self.address(), source });
                }
            }
        }
    }
}

impl fmt::Debug for RtuBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { settings, deadline, line, quiet_at: _ } = self;
        write!(f, "RtuBus {{ {settings:?}, deadline: {deadline:?}, open: {} }}", line.is_some())
    }
}

impl RegisterBus for RtuBus {
    async fn read(&mut self, unit: UnitId, request: ReadRequest) -> Result<Vec<u16>, BusError> {
        let patience = self.deadline + self.settings.characters(FRAME_BYTES + 2 * u32::from(request.count));
        let line = self.opened(patience)?;
        self.hear_out(&line, unit).await?;
        // Written down before the request goes out, so that it stands also if this future is dropped.
        self.quiet_at = Instant::now() + 2 * patience;
        // A client of its own for each request: nothing that an earlier one received is in its buffer.
        let mut client = rtu::attach_slave(line, Slave(unit.get()));
        let answer = transact(&mut client, unit, request, patience, || shown(&self.settings.path)).await;
        if is_answer(&answer) {
            self.quiet_at = Instant::now() + self.settings.silence();
        } else if matches!(answer, Err(BusError::Gone { .. })) {
            self.line = None;
        }
        answer
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// What a look into the receive buffer found.
enum Heard {
    Nothing,
    Something,
}

/// The open port, shared by the bus and the client of the request that is under way; never used by both at a time.
#[derive(Clone)]
struct Line(Arc<Mutex<SerialStream>>);

impl Line {
    fn with<T>(&self, act: impl FnOnce(&mut SerialStream) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Drops what has been received. Asks the kernel itself: the reactor may not know yet of what just came.
    fn discard(&self) -> io::Result<Heard> {
        let mut lump = [0; LUMP_BYTES];
        let mut heard = Heard::Nothing;
        for _ in 0..LUMPS_MAX {
            match self.with(|port| port.try_read(&mut lump)) {
                Ok(0) => return Err(io::ErrorKind::BrokenPipe.into()),
                Ok(_) => heard = Heard::Something,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(heard)
    }
}

impl AsyncRead for Line {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.with(|port| Pin::new(port).poll_read(cx, buf))
    }
}

impl AsyncWrite for Line {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.with(|port| Pin::new(port).poll_write(cx, bytes))
    }

    /// Does nothing: `tcdrain(3)` would hold the thread until the last bit is on the wire, or for ever.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(all(test, feature = "sim"))]
mod tests;
