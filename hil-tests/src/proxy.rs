//! A line between a client and a server on loopback that can be cut, reset in the midst of a packet, slowed, and frozen
//! with open sockets.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::port::free_port;

/// How often a direction looks whether something has changed.
const TICK: Duration = Duration::from_millis(5);

/// The line. Dropping it cuts it.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    ways: Arc<Ways>,
    listener: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Ways {
    target: AtomicU64,
    ended: AtomicBool,
    /// Connections are refused, and those that are there are cut.
    closed: AtomicBool,
    /// Nothing passes, and nobody is told.
    frozen: AtomicBool,
    delay_ms: AtomicU64,
    /// Of what the client sends, so many bytes more pass; then both sides get a reset.
    reset_after: Mutex<Option<usize>>,
    /// Raised by each cut: connections of an older number end.
    generation: AtomicU64,
    passed: AtomicU64,
}

impl Proxy {
    /// A line to this port.
    ///
    /// # Panics
    /// If there is no free port on loopback.
    #[must_use]
    pub fn start(target: u16) -> Self {
        let (listener, port) = std::iter::repeat_with(free_port)
            .take(20)
            .find_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok().map(|listener| (listener, port)))
            .expect("a free port on loopback");
        listener.set_nonblocking(true).expect("a listener of ours");
        let ways = Arc::new(Ways::default());
        ways.target.store(target.into(), Ordering::Relaxed);
        let accepting = Arc::clone(&ways);
        let listener = std::thread::spawn(move || {
            let mut lines = Vec::new();
            while !accepting.ended.load(Ordering::Relaxed) {
                match listener.accept() {
                    // Closed at once: as if nobody listened.
                    Ok(_) if accepting.closed.load(Ordering::Relaxed) => {}
                    Ok((client, _)) => {
                        let ways = Arc::clone(&accepting);
                        lines.push(std::thread::spawn(move || {
                            let _ = ways.carry(client);
                        }));
                    }
                    Err(_) => std::thread::sleep(TICK),
                }
            }
            for line in lines {
                let _ = line.join();
            }
        });
        Self { port, ways, listener: Some(listener) }
    }

    /// Where clients connect.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Cuts every connection and takes no new one.
    pub fn close(&self) {
        self.ways.closed.store(true, Ordering::Relaxed);
        self.ways.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes connections again.
    pub fn open(&self) {
        self.ways.closed.store(false, Ordering::Relaxed);
    }

    /// Nothing passes any more, sockets stay open; or all passes again.
    pub fn freeze(&self, frozen: bool) {
        self.ways.frozen.store(frozen, Ordering::Relaxed);
    }

    /// Everything arrives so much later, and nothing is lost.
    pub fn delay(&self, by: Duration) {
        self.ways.delay_ms.store(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// After so many bytes more from a client both sides get a TCP reset, wherever in a packet that is.
    pub fn reset_after(&self, bytes: usize) {
        *self.ways.reset_after.lock().unwrap_or_else(PoisonError::into_inner) = Some(bytes);
    }

    /// Whether the ordered reset has taken place.
    #[must_use]
    pub fn has_reset(&self) -> bool {
        self.ways.reset_after.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Bytes from clients so far.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.ways.passed.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.ways.ended.store(true, Ordering::Relaxed);
        self.ways.generation.fetch_add(1, Ordering::Relaxed);
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

impl Ways {
    fn carry(self: &Arc<Self>, client: TcpStream) -> io::Result<()> {
        let generation = self.generation.load(Ordering::Relaxed);
        client.set_nonblocking(false)?;
        let port = u16::try_from(self.target.load(Ordering::Relaxed)).unwrap_or(0);
        let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        for side in [&client, &server] {
            side.set_nodelay(true)?;
            side.set_read_timeout(Some(TICK))?;
        }
        let back = {
            let (ways, from, to) = (Arc::clone(self), server.try_clone()?, client.try_clone()?);
            std::thread::spawn(move || ways.pass(from, to, generation, false))
        };
        let sent = self.pass(client, server, generation, true);
        let _ = back.join();
        sent
    }

    fn pass(&self, mut from: TcpStream, mut to: TcpStream, generation: u64, is_client: bool) -> io::Result<()> {
        let mut buffer = [0_u8; 16_384];
        loop {
            if self.generation.load(Ordering::Relaxed) != generation {
                break;
            }
            if self.frozen.load(Ordering::Relaxed) {
                std::thread::sleep(TICK);
                continue;
            }
            let length = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => continue,
                Err(_) => break,
            };
            let delay = self.delay_ms.load(Ordering::Relaxed);
            if delay > 0 {
                std::thread::sleep(Duration::from_millis(delay));
            }
            // What was read before a freeze stays here until the thaw.
            while self.frozen.load(Ordering::Relaxed) && self.generation.load(Ordering::Relaxed) == generation {
                std::thread::sleep(TICK);
            }
            if is_client {
                self.passed.fetch_add(length as u64, Ordering::Relaxed);
                if let Some(part) = self.last_part(length) {
                    let _ = to.write_all(&buffer[..part]);
                    for side in [&from, &to] {
                        // Data that is dropped at close makes it a reset.
                        let _ = rustix::net::sockopt::set_socket_linger(side, Some(Duration::ZERO));
                    }
                    self.generation.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
            }
            if to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
        Ok(())
    }

    /// How much of this still passes before the reset; `None` for all of it.
    fn last_part(&self, length: usize) -> Option<usize> {
        let mut reset = self.reset_after.lock().unwrap_or_else(PoisonError::into_inner);
        match *reset {
            Some(left) if left < length => {
                *reset = None;
                Some(left)
            }
            Some(left) => {
                *reset = Some(left - length);
                None
            }
            None => None,
        }
    }
}
