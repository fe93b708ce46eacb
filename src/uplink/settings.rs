//! What the uplink must know.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::wire::DeviceCard;
use crate::measure::{Epoch, GatewayId, SiteId, Stamp};

/// How to reach the broker, and as whom.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Tried in this order; not empty.
    pub brokers: Vec<Broker>,
    /// MQTT client id, unique at the broker.
    pub client_id: String,
    /// Of all topics, without a slash at the end.
    pub prefix: String,
    /// 5 s or more.
    pub keep_alive: Duration,
    /// Own limit of messages in flight; the broker's receive maximum may lower it.
    pub in_flight_max: u16,
    /// Payload bytes per second of the history lane.
    pub history_rate_max: u64,
    /// For brokers with TLS.
    pub tls: Option<TlsFiles>,
    /// What the last messages and the goodbye may take.
    pub drain: Duration,
    /// Who is there.
    pub birth: Birth,
}

/// One broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Name or address. With TLS, what the certificate must be for.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether the connection is by mutual TLS.
    pub tls: bool,
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "mqtts" } else { "mqtt" };
        let bracketed = self.host.contains(':');
        let (open, close) = if bracketed { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}://{open}{}{close}:{}", self.host, self.port)
    }
}

/// The PEM files of mutual TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Who may have signed the broker's certificate.
    pub ca: PathBuf,
    /// Ours, with its chain.
    pub certificate: PathBuf,
    /// The key of ours; readable by its owner only.
    pub key: PathBuf,
}

/// What the retained documents tell.
#[derive(Debug, Clone)]
pub struct Birth {
    /// Which gateway.
    pub gateway: GatewayId,
    /// Where.
    pub site: SiteId,
    /// The journal's present life.
    pub epoch: Epoch,
    /// The agent's version.
    pub version: String,
    /// When the agent started.
    pub since: Stamp,
    /// The aggregation window.
    pub window: Duration,
    /// The devices.
    pub devices: Vec<DeviceCard>,
}
