//! Free ports on loopback.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// Below Linux' range for outgoing connections (32768 and up). In that range a client that keeps trying a port
/// on which nobody listens will at last be given that very port for itself, connect to itself, and keep the
/// server from coming back.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// Each process begins somewhere else and goes on from there, so that two ports asked for in a row differ and
/// tests in other processes rarely want the same.
static NEXT: AtomicU16 = AtomicU16::new(0);

/// A port on which nothing listens. Somebody else may take it before it is used: whoever uses it must be ready to
/// try another.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn free_port() -> u16 {
    let span = PORTS.end - PORTS.start;
    let home = u16::try_from(u64::from(std::process::id()) * 131 % u64::from(span)).unwrap_or(0);
    for _ in 0..span {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % span;
        let port = PORTS.start + (home + step) % span;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port on loopback in {PORTS:?}");
}

/// Whether somebody accepts connections there.
#[must_use]
pub fn accepts(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_ok()
}
