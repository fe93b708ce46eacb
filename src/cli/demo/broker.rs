//! The MQTT 5 broker of the demo, inside the process.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};

/// Far above what the demo holds: at most a minute of one small depot.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// Starts a broker on a free loopback port and waits until it listens. It ends with the process: rumqttd has
/// no way to stop.
pub(super) async fn start() -> io::Result<SocketAddr> {
    // rumqttd cannot bind port 0 and tell which it got; take a free one and hand it over.
    let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
    let server = ServerSettings {
        name: "demo".to_owned(),
        listen: address,
        tls: None,
        next_connection_delay_ms: 1,
        connections: ConnectionSettings {
            connection_timeout_ms: 5_000,
            max_payload_size: MESSAGE_BYTES_MAX,
            max_inflight_count: 500,
            auth: None,
            external_auth: None,
            dynamic_filters: true,
        },
    };
    let config = Config {
        router: RouterConfig {
            max_connections: 16,
            max_outgoing_packet_count: 200,
            max_segment_size: 16 * MESSAGE_BYTES_MAX,
            max_segment_count: 4,
            ..RouterConfig::default()
        },
        v5: Some(HashMap::from([("demo".to_owned(), server)])),
        ..Config::default()
    };
    let mut broker = Broker::new(config);
    std::thread::Builder::new().name("demo-broker".to_owned()).spawn(move || {
        if let Err(error) = broker.start() {
            tracing::error!(%error, "the demo's broker ended");
        }
    })?;
    for _ in 0..200 {
        if TcpStream::connect(address).is_ok() {
            return Ok(address);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "the demo's MQTT broker did not listen within 2 s"))
}
