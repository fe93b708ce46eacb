//! A subscriber that looks at the first line of each message and at the clock (MQTT 3.1.1, QoS 0).

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use hil_tests::wait::unix_ns;

use super::counter::{connect, packet};

/// A window that takes longer to the subscriber comes after the next one has ended.
const LATE_NS: i64 = 250_000_000;

/// Messages with points.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) points: u64,
    pub(super) bytes: u64,
    /// Of each message: from the end of its window until it was received as a whole; sorted. One that comes as history is late in any case.
    pub(super) latencies_ns: Vec<i64>,
}

impl Seen {
    pub(super) fn late(&self) -> usize {
        self.latencies_ns.iter().filter(|ns| **ns > LATE_NS).count()
    }

    pub(super) fn quantile_ms(&self, q: f64) -> f64 {
        let at = ((self.latencies_ns.len() as f64 - 1.0) * q).round() as usize;
        self.latencies_ns.get(at).map_or(f64::NAN, |ns| *ns as f64 / 1e6)
    }

    fn take(&mut self, body: &[u8], received_ns: i64) {
        let topic_end = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
        let topic = &body[2..topic_end];
        let is_live = topic.ends_with(b"/telemetry");
        if !is_live && !topic.ends_with(b"/history") {
            return;
        }
        let first = body[topic_end..].split(|byte| *byte == b'\n').next().unwrap_or_default();
        let first = std::str::from_utf8(first).unwrap_or_default();
        let (fields, time) = first.rsplit_once(' ').unwrap_or_default();
        let points = fields.split([',', ' ']).find_map(|field| field.strip_prefix("points=")?.strip_suffix('i'));
        let points: u64 = points.and_then(|points| points.parse().ok()).unwrap_or(0);
        if points == 0 {
            return;
        }
        (self.points, self.bytes) = (self.points + points, self.bytes + body.len() as u64);
        let ended: i64 = time.parse().expect("the first line has a time");
        let least = if is_live { 0 } else { LATE_NS + 1 };
        self.latencies_ns.push((received_ns - ended).max(least));
    }
}

pub(super) struct Subscriber {
    stream: TcpStream,
    points: Arc<AtomicU64>,
    thread: JoinHandle<Seen>,
}

impl Subscriber {
    pub(super) fn points(&self) -> u64 {
        self.points.load(Ordering::Relaxed)
    }

    pub(super) fn end(self) -> Seen {
        let _ = self.stream.shutdown(Shutdown::Both);
        let mut seen = self.thread.join().expect("it reads what a broker writes");
        seen.latencies_ns.sort_unstable();
        seen
    }
}

/// Subscribes to all that gateways publish.
pub(super) fn subscribe(port: u16) -> Subscriber {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the broker listens");
    stream.write_all(&connect("subscriber")).expect("connected");
    stream.write_all(&[0x82, 10, 0, 1, 0, 5, b'v', b'2', b'g', b'/', b'#', 0]).expect("connected");
    let (mut reader, points) = (stream.try_clone().expect("a handle"), Arc::new(AtomicU64::new(0)));
    let counted = Arc::clone(&points);
    let thread = std::thread::spawn(move || {
        let (mut seen, mut bytes, mut buffer) = (Seen::default(), Vec::new(), vec![0; 1 << 20]);
        while let Ok(length @ 1..) = reader.read(&mut buffer) {
            let received = unix_ns();
            bytes.extend_from_slice(&buffer[..length]);
            let mut at = 0;
            while let Some((kind, body, next)) = packet(&bytes, at) {
                if kind >> 4 == 3 {
                    seen.take(body, received);
                }
                at = next;
            }
            bytes.drain(..at);
            counted.store(seen.points, Ordering::Relaxed);
        }
        seen
    });
    Subscriber { stream, points, thread }
}
