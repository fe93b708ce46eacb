//! The RS-485 line between the box and a meter, with what can happen on it.
//!
//! Bytes go both ways between the box's serial port (a unix socket of QEMU's) and a meter that speaks Modbus RTU over
//! TCP. What a fault does, it does to the bytes: the meter stays what it is.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::seed::Seed;

/// What is wrong on the line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Trouble {
    /// Nothing.
    #[default]
    None,
    /// Requests do not reach the meter.
    Silence,
    /// One byte in every answer is another, and now and then one too many comes before it.
    Noise,
    /// Answers take this much longer.
    Late(Duration),
}

/// A line. Dropping it cuts it.
#[derive(Debug)]
pub struct Line {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    trouble: Trouble,
    seed: Seed,
    /// The meter's end of every attachment, to be shut.
    meters: Vec<TcpStream>,
}

impl Line {
    /// A line with nothing at its ends. The noise on it can be had again with the same seed.
    #[must_use]
    pub fn new(seed: Seed) -> Self {
        let state = State { trouble: Trouble::None, seed, meters: Vec::new() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Puts a box's serial port, its two directions, and the meter on this loopback port to its ends. After a power cut
    /// the box has another port: attach again.
    pub fn attach(
        &self,
        from_box: impl Read + Send + 'static,
        to_box: impl Write + Send + 'static,
        meter: u16,
    ) -> io::Result<()> {
        let meter = TcpStream::connect((Ipv4Addr::LOCALHOST, meter))?;
        meter.set_nodelay(true)?;
        let (from_meter, to_meter) = (meter.try_clone()?, meter.try_clone()?);
        self.lock().meters.push(meter);
        let state = Arc::clone(&self.state);
        std::thread::spawn(move || carry(from_box, to_meter, |bytes| requests(&state, bytes)));
        let state = Arc::clone(&self.state);
        std::thread::spawn(move || carry(from_meter, to_box, |bytes| answers(&state, bytes)));
        Ok(())
    }

    /// From now on.
    pub fn set(&self, trouble: Trouble) {
        self.lock().trouble = trouble;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // The other end of a virtual box goes with it; an adapter stays open until its next byte.
        for meter in self.lock().meters.drain(..) {
            let _ = meter.shutdown(Shutdown::Both);
        }
    }
}

/// Until one end is gone: a box without power, a meter that died, a test that is over.
fn carry(mut from: impl Read, mut to: impl Write, mut on_the_way: impl FnMut(Vec<u8>) -> Vec<u8>) {
    let mut buffer = [0; 512];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&on_the_way(buffer[..count].to_vec())).is_err() {
            return;
        }
    }
}

fn requests(state: &Mutex<State>, bytes: Vec<u8>) -> Vec<u8> {
    match state.lock().unwrap_or_else(PoisonError::into_inner).trouble {
        Trouble::Silence => Vec::new(),
        Trouble::None | Trouble::Noise | Trouble::Late(_) => bytes,
    }
}

fn answers(state: &Mutex<State>, mut bytes: Vec<u8>) -> Vec<u8> {
    let mut locked = state.lock().unwrap_or_else(PoisonError::into_inner);
    match locked.trouble {
        Trouble::None | Trouble::Silence => bytes,
        Trouble::Noise => {
            let victim = usize::try_from(locked.seed.below(bytes.len() as u64)).expect("an index of the buffer");
            bytes[victim] ^= 1 << locked.seed.below(8);
            if locked.seed.coin() {
                bytes.insert(0, 0x55);
            }
            bytes
        }
        Trouble::Late(by) => {
            drop(locked);
            std::thread::sleep(by);
            bytes
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_is_wrong_on_the_line_happens_to_the_bytes() {
        let (mut box_end, port) = UnixStream::pair().expect("sockets");
        let the_meter = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let line = Line::new(Seed::new(1));
        let other_way = port.try_clone().expect("a descriptor");
        line.attach(port, other_way, the_meter.local_addr().expect("an address").port()).expect("it listens");
        let (mut meter_end, _) = the_meter.accept().expect("attached");
        for end in [box_end.set_read_timeout(Some(Duration::from_millis(300))), meter_end.set_nodelay(true)] {
            end.expect("a socket");
        }
        let mut heard = [0; 16];

        box_end.write_all(b"who?").expect("open");
        assert_eq!(meter_end.read(&mut heard).expect("open"), 4);
        line.set(Trouble::Silence);
        meter_end.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket");
        box_end.write_all(b"who?").expect("open");
        assert!(meter_end.read(&mut heard).is_err(), "silence");
        line.set(Trouble::Noise);
        meter_end.write_all(b"\0\0\0\0").expect("open");
        let count = box_end.read(&mut heard).expect("noise");
        assert_ne!(&heard[..count], b"\0\0\0\0");
        line.set(Trouble::Late(Duration::from_millis(600)));
        meter_end.write_all(b"late").expect("open");
        assert!(box_end.read(&mut heard).is_err(), "too early");
        box_end.set_read_timeout(Some(Duration::from_secs(5))).expect("a socket");
        assert_eq!(box_end.read(&mut heard).expect("at last"), 4);
    }
}
