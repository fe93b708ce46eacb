//! The depot of the demo behind real Modbus TCP.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hal::sim::{ModbusServer, RegisterImage};
use hal::{Table, UnitId};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use super::depot::{Charger, Depot};

/// The registers change this often.
const STEP: Duration = Duration::from_millis(100);
/// The meter's unit; the chargers follow.
pub(super) const METER: u8 = 1;

/// A running depot. Ends when dropped.
#[derive(Debug)]
pub(super) struct Plant {
    address: SocketAddr,
    depot: Arc<Mutex<Depot>>,
    task: JoinHandle<()>,
}

impl Plant {
    pub(super) async fn build() -> std::io::Result<Self> {
        let server = ModbusServer::start().await?;
        let address = server.address();
        let depot = Arc::new(Mutex::new(Depot::new()));
        serve(&server, &depot.lock().unwrap_or_else(PoisonError::into_inner));
        let shared = Arc::clone(&depot);
        let task = tokio::spawn(async move {
            let mut step = interval(STEP);
            step.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                step.tick().await;
                let mut depot = shared.lock().unwrap_or_else(PoisonError::into_inner);
                depot.step(STEP.as_secs_f64());
                serve(&server, &depot);
            }
        });
        Ok(Self { address, depot, task })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn depot(&self) -> Depot {
        self.depot.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Plant {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn serve(server: &ModbusServer, depot: &Depot) {
    for (id, image) in (METER + 1..).zip(depot.chargers.iter().map(charger)) {
        server.put(unit(id), image);
    }
    server.put(unit(METER), meter(depot));
}

fn unit(id: u8) -> UnitId {
    UnitId::try_from(id).expect("the demo has fewer than 247 units")
}

/// Registers of an Eastron SDM630 (input registers, f32): see its profile. All others read as zero.
#[allow(clippy::cast_possible_truncation, reason = "the meter itself has 32-bit floats")]
fn meter(depot: &Depot) -> RegisterImage {
    let mut image = RegisterImage::default();
    image.set_words(Table::Input, 0, &[0; 400]);
    let mut set = |address, value: f64| image.set_f32(Table::Input, address, value as f32);
    let grid_w = depot.grid_kw() * 1e3;
    for phase in 0..3_u16 {
        set(2 * phase, 230.4 + 0.3 * f64::from(phase) - depot.grid_kw() * 2e-3);
        set(6 + 2 * phase, (grid_w / 3.0 / 230.0).abs());
        set(12 + 2 * phase, grid_w / 3.0);
        set(18 + 2 * phase, grid_w.abs() / 3.0);
        set(30 + 2 * phase, 1.0_f64.copysign(grid_w));
    }
    set(42, 230.7 - depot.grid_kw() * 2e-3);
    set(46, (grid_w / 3.0 / 230.0).abs());
    set(48, (grid_w / 230.0).abs());
    set(52, grid_w);
    set(56, grid_w.abs());
    set(62, 1.0_f64.copysign(grid_w));
    set(70, depot.frequency());
    set(72, depot.grid_import_kwh);
    set(74, depot.grid_export_kwh);
    set(342, depot.grid_import_kwh + depot.grid_export_kwh);
    image
}

/// Registers of the simulated bidirectional charger: see its profile.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded by the depot's physics")]
fn charger(charger: &Charger) -> RegisterImage {
    let mut image = RegisterImage::default();
    let t = Table::Input;
    image.set_words(t, 0, &[0; 64]);
    let state = if charger.power_kw > 0.05 {
        2
    } else if charger.power_kw < -0.05 {
        3
    } else {
        1
    };
    let tenths = |value: f64| (value * 10.0).round();
    image.set_u16(t, 0, state);
    image.set_i32(t, 2, (charger.power_kw * 1e3).round() as i32);
    image.set_u16(t, 4, tenths(charger.voltage()) as u16);
    image.set_i16(t, 5, tenths(charger.current()) as i16);
    image.set_u16(t, 6, tenths(charger.soc) as u16);
    image.set_i16(t, 7, tenths(31.0 + charger.power_kw.abs() / 6.0) as i16);
    image.set_u16(t, 8, 600);
    image.set_u16(t, 9, 600);
    image.set_u64(t, 10, (charger.import_kwh * 1e3) as u64);
    image.set_u64(t, 14, (charger.export_kwh * 1e3) as u64);
    image
}
