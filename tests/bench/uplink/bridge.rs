//! A mosquitto at the edge that bridges to the centre, with one queued message for each reading, QoS 1.

use std::fmt;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use hil_tests::port::free_port;
use serde::Serialize;

use super::counter::{connect, count, packet};
use super::{Central, cpu_s, mosquitto};

/// Unanswered at a time while the queue is filled.
const WINDOW: usize = 500;

#[derive(Debug, Serialize)]
pub(crate) struct Bridged {
    points: u64,
    seconds: f64,
    cpu_s: f64,
    rss_mb: f64,
}

impl Bridged {
    pub(crate) fn points_per_s(&self) -> f64 {
        self.points as f64 / self.seconds
    }
}

impl fmt::Display for Bridged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { points, seconds, cpu_s, rss_mb } = self;
        let rate = self.points_per_s();
        write!(
            f,
            "{points} points in {seconds:.2} s: {rate:.0} points/s; {cpu_s:.2} s of CPU, {rss_mb:.1} MB resident at most"
        )
    }
}

pub(crate) fn measure(dir: &Path, points: u64) -> Bridged {
    let (port, central_port) = (free_port(), free_port());
    let bridge = format!(
        "connection depot\naddress 127.0.0.1:{central_port}\ntopic # out 1\nbridge_protocol_version mqttv50\n\
         cleansession false\nrestart_timeout 5 5\nnotifications false\ntry_private false"
    );
    let edge = mosquitto(dir, "edge", port, &bridge);
    fill(port, points);
    // The centre comes back; the bridge tries every 5 s, the counter is there at once.
    let central = Central::start_at(&dir.join("bridged"), central_port);
    let counted = count(central.port, "v2g/#");
    let cpu_before = cpu_s(edge.id());
    counted.wait(1, Duration::from_secs(60));
    let begin = Instant::now();
    counted.wait(points, Duration::from_secs(1_800));
    let seconds = begin.elapsed().as_secs_f64();
    let cpu_s = cpu_s(edge.id()) - cpu_before;
    let rss_mb = edge.rss_peak_bytes().unwrap_or(0) as f64 / 1e6;
    Bridged { points, seconds, cpu_s, rss_mb }
}

/// Publishes one reading after the other, as a gateway of that kind does, and waits until all are queued.
fn fill(port: u16, points: u64) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the broker listens");
    stream.write_all(&connect("filler")).expect("connected");
    let (mut sent, mut answered) = (0_u64, 0_u64);
    let (mut bytes, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    while answered < points {
        let mut out = Vec::new();
        while sent < points && (sent - answered) < WINDOW as u64 {
            let topic = format!("v2g/depot-a/gw-01/evse-{:02}/power_flow", sent % 20);
            let payload = format!("{{\"value\":-7.{:03},\"time\":{}}}", sent % 1000, 1_780_315_200_000 + sent * 4);
            let length = 2 + topic.len() + 2 + payload.len();
            assert!(length < 128, "one byte of length");
            out.push(0x32);
            out.push(length as u8);
            out.extend((topic.len() as u16).to_be_bytes());
            out.extend(topic.as_bytes());
            out.extend(((sent % u64::from(u16::MAX)) as u16 + 1).to_be_bytes());
            out.extend(payload.as_bytes());
            sent += 1;
        }
        stream.write_all(&out).expect("connected");
        let length = stream.read(&mut buffer).expect("connected");
        bytes.extend_from_slice(&buffer[..length]);
        let mut at = 0;
        while let Some((kind, _, next)) = packet(&bytes, at) {
            answered += u64::from(kind >> 4 == 4);
            at = next;
        }
        bytes.drain(..at);
    }
}
