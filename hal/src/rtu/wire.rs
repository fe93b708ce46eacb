//! What a serial frame travels on: a serial port, or a TCP connection to a gateway that hands bytes through.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_serial::{DataBits, SerialStream};

use super::rs485;

/// Start, 8 data bits, parity, stop; without parity a second stop bit takes its place (Modbus over Serial Line 1.02,
/// 2.5.1).
const CHARACTER_BITS: u32 = 11;
/// Above 19,200 baud the silence between frames does not shrink any more (2.5.1.1).
const BAUD_OF_FIXED_SILENCE: u32 = 19_200;
const FIXED_SILENCE: Duration = Duration::from_micros(1_750);
/// Where the system keeps a name of each USB adapter that does not depend on the order of plugging.
pub(super) const BY_ID: &str = "/dev/serial/by-id";

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

impl Parity {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::None, Self::Even, Self::Odd];

    /// The word of a configuration: `none`, `even`, `odd`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Even => "even",
            Self::Odd => "odd",
        }
    }
}

/// The stop bits of a serial line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopBits {
    /// One.
    One,
    /// Two.
    Two,
}

impl StopBits {
    /// How many.
    #[must_use]
    pub fn count(self) -> u8 {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }
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
    /// Whether the driver is told to switch the direction of an RS-485 transceiver by RTS (`TIOCSRS485`). Without it the
    /// driver stays as the system has set it up.
    pub rs485: bool,
}

impl fmt::Display for SerialLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, baud, parity, stop_bits, rs485: _ } = self;
        let (count, parity) = (stop_bits.count(), parity.as_str());
        let plural = if count == 1 { "" } else { "s" };
        write!(f, "{} ({baud} baud, {parity} parity, {count} stop bit{plural})", path.display())
    }
}

impl SerialLine {
    /// What so many characters take on the wire.
    #[must_use]
    pub fn characters(&self, count: u32) -> Duration {
        Duration::from_secs((count * CHARACTER_BITS).into()) / self.baud.max(1)
    }

    /// t3.5, the silence between frames.
    #[must_use]
    pub fn silence(&self) -> Duration {
        if self.baud > BAUD_OF_FIXED_SILENCE { FIXED_SILENCE } else { self.characters(7) / 2 }
    }

    fn open(&self, path: &Path) -> io::Result<SerialStream> {
        let parity = match self.parity {
            Parity::None => tokio_serial::Parity::None,
            Parity::Even => tokio_serial::Parity::Even,
            Parity::Odd => tokio_serial::Parity::Odd,
        };
        let stop_bits = match self.stop_bits {
            StopBits::One => tokio_serial::StopBits::One,
            StopBits::Two => tokio_serial::StopBits::Two,
        };
        let builder = tokio_serial::new(path.to_string_lossy(), self.baud)
            .data_bits(DataBits::Eight)
            .parity(parity)
            .stop_bits(stop_bits);
        let port = SerialStream::open(&builder)?;
        if self.rs485 {
            rs485::switch_by_rts(&port)?;
        }
        Ok(port)
    }
}

/// Where the bytes of a bus go, opened or not.
#[derive(Debug, Clone)]
pub(super) enum Place {
    Serial {
        line: SerialLine,
        /// The directory of names that stay.
        by_id: PathBuf,
        /// The name that stays of the adapter that was last seen at the path.
        stays: Option<PathBuf>,
    },
    Tcp {
        host: String,
        port: u16,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serial { line, .. } => write!(f, "{}", line.path.display()),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

impl Place {
    pub(super) fn serial(line: SerialLine) -> Self {
        Self::Serial { line, by_id: PathBuf::from(BY_ID), stays: None }
    }

    /// What so many characters take on the wire. Behind a gateway that is not known, and its own matter.
    pub(super) fn characters(&self, count: u32) -> Duration {
        match self {
            Self::Serial { line, .. } => line.characters(count),
            Self::Tcp { .. } => Duration::ZERO,
        }
    }

    /// The silence that must be kept between frames.
    pub(super) fn silence(&self) -> Duration {
        match self {
            Self::Serial { line, .. } => line.silence(),
            Self::Tcp { .. } => Duration::ZERO,
        }
    }

    /// Opens it. An adapter that is not at its path any more is looked for by the name that stays: unplugged and plugged
    /// in again, `ttyUSB0` may be `ttyUSB1`.
    pub(super) async fn open(&mut self, patience: Duration) -> io::Result<Wire> {
        match self {
            Self::Tcp { host, port } => {
                let connect = TcpStream::connect((host.as_str(), *port));
                let stream = timeout(patience, connect).await.map_err(|_| io::ErrorKind::TimedOut)??;
                // A request is one small segment that must not wait for another.
                stream.set_nodelay(true)?;
                Ok(Wire::Tcp(stream))
            }
            Self::Serial { line, by_id, stays } => {
                let moved = stays.as_ref().filter(|_| !line.path.exists());
                let path = moved.unwrap_or(&line.path);
                let port = line.open(path)?;
                if let Some(moved) = moved {
                    tracing::info!(path = %line.path.display(), now = %moved.display(), "serial adapter found again");
                } else {
                    *stays = name_that_stays(by_id, &line.path);
                }
                Ok(Wire::Serial(port))
            }
        }
    }
}

/// The link in `by_id` that leads where `path` leads.
fn name_that_stays(by_id: &Path, path: &Path) -> Option<PathBuf> {
    let target = path.canonicalize().ok()?;
    let links = std::fs::read_dir(by_id).ok()?;
    links.filter_map(|link| Some(link.ok()?.path())).find(|link| link.canonicalize().is_ok_and(|to| to == target))
}

/// An open wire.
#[derive(Debug)]
pub(super) enum Wire {
    Serial(SerialStream),
    Tcp(TcpStream),
}

impl Wire {
    /// Reads some bytes, at least one; an end of the stream is an error. Cancel-safe.
    pub(super) async fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = match self {
            Self::Serial(port) => port.read(into).await,
            Self::Tcp(stream) => stream.read(into).await,
        }?;
        if count == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(count) }
    }

    /// Reads what has come already; `None` if there is nothing. Asks the kernel itself: the reactor may not know yet of
    /// what just came.
    pub(super) fn read_now(&mut self, into: &mut [u8]) -> io::Result<Option<usize>> {
        let read = match self {
            Self::Serial(port) => port.try_read(into),
            Self::Tcp(stream) => stream.try_read(into),
        };
        match read {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => Ok(Some(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Hands a frame to the kernel; does not wait until it is on the wire: `tcdrain(3)` would hold the thread.
    pub(super) async fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        match self {
            Self::Serial(port) => port.write_all(frame).await,
            Self::Tcp(stream) => stream.write_all(frame).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_silence_between_frames_is_the_standards() {
        let line = SerialLine {
            path: "/dev/null".into(),
            baud: 115_200,
            parity: Parity::Even,
            stop_bits: StopBits::One,
            rs485: false,
        };
        let silence = |baud| SerialLine { baud, ..line.clone() }.silence();
        assert_eq!(silence(115_200), Duration::from_micros(1_750));
        assert_eq!(silence(9_600).as_micros(), 4_010);
        assert!(silence(19_200) >= Duration::from_micros(1_750));
    }

    #[test]
    fn the_name_that_stays_is_the_one_that_leads_to_the_same_port() {
        let directory = tempfile::tempdir().expect("a directory");
        let (port, other) = (directory.path().join("ttyUSB0"), directory.path().join("ttyUSB1"));
        std::fs::write(&port, "").expect("written");
        std::fs::write(&other, "").expect("written");
        let by_id = directory.path().join("by-id");
        std::fs::create_dir(&by_id).expect("made");
        symlink(&other, by_id.join("usb-FTDI_A")).expect("linked");
        assert_eq!(name_that_stays(&by_id, &port), None);
        symlink(&port, by_id.join("usb-FTDI_B")).expect("linked");
        assert_eq!(name_that_stays(&by_id, &port), Some(by_id.join("usb-FTDI_B")));
    }
}
