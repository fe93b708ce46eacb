//! A subscriber that only counts and looks at the clock (MQTT 3.1.1, QoS 0): the same small load for every sender.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hil_tests::wait::unix_ns;

#[derive(Default)]
pub(crate) struct Counted {
    /// Messages on topics that end with `/history`, or any other but `/telemetry`.
    pub(crate) others: AtomicU64,
    /// Latencies of messages on `…/telemetry`, from their first line's time, ns.
    pub(crate) live_ns: Mutex<Vec<i64>>,
}

impl Counted {
    /// Waits until so many others have come; answers how long that took, or what is lacking after `within`.
    pub(crate) fn wait(&self, others: u64, within: Duration) -> Duration {
        let start = Instant::now();
        while self.others.load(Ordering::Relaxed) < others {
            assert!(start.elapsed() < within, "{} of {others} came", self.others.load(Ordering::Relaxed));
            std::thread::sleep(Duration::from_millis(1));
        }
        start.elapsed()
    }
}

/// Subscribes to `filter`, and counts for as long as the broker runs.
pub(crate) fn count(port: u16, filter: &str) -> Arc<Counted> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the broker listens");
    stream.write_all(&connect("counter")).expect("connected");
    let length = u8::try_from(2 + 2 + filter.len() + 1).expect("short");
    let mut subscribe = vec![0x82, length, 0, 1, 0, u8::try_from(filter.len()).expect("short")];
    subscribe.extend(filter.as_bytes());
    subscribe.push(0);
    stream.write_all(&subscribe).expect("connected");
    let counted = Arc::new(Counted::default());
    let counting = Arc::clone(&counted);
    std::thread::spawn(move || {
        let (mut bytes, mut buffer) = (Vec::new(), vec![0; 1 << 18]);
        while let Ok(length @ 1..) = stream.read(&mut buffer) {
            let received = unix_ns();
            bytes.extend_from_slice(&buffer[..length]);
            let mut at = 0;
            while let Some((kind, body, next)) = packet(&bytes, at) {
                if kind >> 4 == 3 {
                    take(&counting, body, received);
                }
                at = next;
            }
            bytes.drain(..at);
        }
    });
    counted
}

/// CONNECT of MQTT 3.1.1, clean, without a keep-alive.
pub(crate) fn connect(id: &str) -> Vec<u8> {
    let id_length = u8::try_from(id.len()).expect("short");
    let mut packet = vec![0x10, 12 + id_length, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, id_length];
    packet.extend(id.as_bytes());
    packet
}

/// Type, body, and where the next one begins.
pub(crate) fn packet(bytes: &[u8], from: usize) -> Option<(u8, &[u8], usize)> {
    let (mut length, mut at) = (0_usize, from + 1);
    loop {
        let byte = *bytes.get(at)?;
        length |= usize::from(byte & 0x7f) << (7 * (at - from - 1));
        at += 1;
        if byte & 0x80 == 0 {
            break;
        }
    }
    Some((bytes[from], bytes.get(at..at + length)?, at + length))
}

fn take(counted: &Counted, body: &[u8], received_ns: i64) {
    let topic_end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
    if !body[2..topic_end].ends_with(b"/telemetry") {
        counted.others.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let first_line = body[topic_end..].split(|b| *b == b'\n').next().unwrap_or_default();
    let time = first_line.rsplit(|b| *b == b' ').next().and_then(|time| std::str::from_utf8(time).ok());
    if let Some(time) = time.and_then(|time| time.parse::<i64>().ok()) {
        counted.live_ns.lock().expect("nobody panics").push(received_ns - time);
    }
}
