//! A real Modbus RTU server at the other end of a pseudo-terminal.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use tokio::task::JoinHandle;
use tokio_modbus::server::rtu::Server;
use tokio_serial::{SerialPort, SerialStream};

use super::modbus::{Answering, Behaviour, RegisterImage, Units};
use crate::register_bus::UnitId;

/// A serial line with any number of units. Ends when dropped: its path is then gone, as that of an unplugged adapter.
///
/// A late unit holds up those that are asked after it: the server does one thing at a time.
#[derive(Debug)]
pub struct ModbusLine {
    path: PathBuf,
    units: Units,
    task: JoinHandle<()>,
    /// Without it, the server would see the line end whenever nobody has the port open.
    _held: SerialStream,
}

impl ModbusLine {
    /// Makes a pseudo-terminal and serves it.
    ///
    /// # Errors
    /// There is none left.
    pub fn start() -> io::Result<Self> {
        let (far, near) = SerialStream::pair()?;
        let path = near.name().map(PathBuf::from).ok_or(io::ErrorKind::NotFound)?;
        let units = Units::default();
        let answering = Answering { units: Arc::clone(&units), behind_gateway: false };
        let task = tokio::spawn(async move {
            if let Err(error) = Server::new(far).serve_forever(answering).await {
                tracing::warn!(%error, "the simulated Modbus line ended");
            }
        });
        Ok(Self { path, units, task, _held: near })
    }

    /// The port to open.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives a unit a new image, all at once.
    pub fn put(&self, unit: UnitId, image: RegisterImage) {
        self.units.lock().unwrap_or_else(PoisonError::into_inner).entry(unit.get()).or_default().0 = image;
    }

    /// Tells a unit how to behave from now on.
    pub fn behave(&self, unit: UnitId, behaviour: Behaviour) {
        self.units.lock().unwrap_or_else(PoisonError::into_inner).entry(unit.get()).or_default().1 = behaviour;
    }
}

impl Drop for ModbusLine {
    fn drop(&mut self) {
        self.task.abort();
    }
}
