//! A Modbus TCP device whose input registers are worked out when they are asked for (Modbus Messaging on TCP/IP 1.0b, 3.1.3).

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// The unit.
    pub unit: u8,
    /// The first register.
    pub start: usize,
    /// How many of them.
    pub count: usize,
}

impl Asked {
    /// Whether this register is one of them.
    #[must_use]
    pub fn has(&self, register: usize) -> bool {
        (self.start..self.start + self.count).contains(&register)
    }
}

/// Answers reads with all registers of a unit from 0 on; `None`: there is no such unit.
pub trait Serve: Fn(Asked) -> Option<Vec<u16>> + Send + Sync + 'static {}
impl<F: Fn(Asked) -> Option<Vec<u16>> + Send + Sync + 'static> Serve for F {}

/// The device. It serves until the process ends.
#[derive(Debug)]
pub struct Registers {
    port: u16,
}

impl Registers {
    /// Serves on a free port of loopback.
    pub fn start(serve: impl Serve) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let serve = Arc::new(serve);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || answer(stream, &*serve));
            }
        });
        Ok(Self { port })
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// Answers until the connection ends.
fn answer(mut stream: TcpStream, serve: &impl Serve) {
    let mut request = [0; 12];
    while stream.read_exact(&mut request).is_ok() {
        let word = |at: usize| usize::from(u16::from_be_bytes([request[at], request[at + 1]]));
        let (unit, function) = (request[6], request[7]);
        let asked = Asked { unit, start: word(8), count: word(10) };
        let words = (function == 4).then(|| serve(asked)).flatten();
        let words = words.as_ref().and_then(|words| words.get(asked.start..asked.start + asked.count));
        let body = match words {
            Some(words) => {
                let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
                [&[unit, 4, u8::try_from(bytes.len()).unwrap_or(u8::MAX)], &bytes[..]].concat()
            }
            None => vec![unit, function | 0x80, 2],
        };
        let length = u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes();
        if stream.write_all(&[&request[..4], &length, &body].concat()).is_err() {
            return;
        }
    }
}

/// The state of a bidirectional DC charger, as the profile `sim-bidirectional-dc` has it in its registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DcCharger {
    /// 0 available, 1 preparing, 2 charging, 3 discharging, 4 finishing.
    pub state: u16,
    /// To the vehicle.
    pub power_w: i32,
    /// 0.1 %; 0xFFFF without a vehicle.
    pub soc: u16,
    /// Counted to vehicles.
    pub import_wh: u64,
    /// Counted from vehicles.
    pub export_wh: u64,
}

impl DcCharger {
    /// Registers 0 to 17.
    #[must_use]
    pub fn words(&self) -> Vec<u16> {
        let mut words = vec![0; 18];
        let mut put = |at: usize, bytes: &[u8]| {
            let pairs = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
            words[at..].iter_mut().zip(pairs).for_each(|(word, value)| *word = value);
        };
        put(0, &self.state.to_be_bytes());
        put(2, &self.power_w.to_be_bytes());
        put(4, &4_000_u16.to_be_bytes());
        put(6, &self.soc.to_be_bytes());
        put(10, &self.import_wh.to_be_bytes());
        put(14, &self.export_wh.to_be_bytes());
        words
    }
}
