//! What the uplink must know.

use std::path::PathBuf;
use std::time::Duration;

use super::wire::DeviceCard;
use crate::measure::{BootId, Epoch, Stamp};
use crate::net::{BrokerUrl, Link, Login, TlsFiles};
use crate::spec::{GatewayId, SiteId};

/// How to reach the broker, and as whom.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Tried in this order; not empty.
    pub brokers: Vec<BrokerUrl>,
    /// MQTT client id, unique at the broker.
    pub client_id: String,
    /// Of all topics, without a slash at the end.
    pub prefix: String,
    /// 5 s or more.
    pub keep_alive: Duration,
    /// Own limit of messages in flight; the broker's receive maximum may lower it.
    pub in_flight_max: u16,
    /// Ways out, in order of preference; not empty.
    pub links: Vec<Link>,
    /// Between two looks whether a better broker or link can be had again.
    pub fail_back: Duration,
    /// Entries that nobody subscribes to stay in the journal, though the broker has taken them.
    pub holds_unheard: bool,
    /// For brokers with TLS.
    pub tls: Option<TlsFiles>,
    /// For brokers that want a name and a password.
    pub login: Option<Login>,
    /// What the last messages and the DISCONNECT may take.
    pub drain: Duration,
    /// What is counted apart when it is acknowledged: entries that were recorded in this boot.
    pub boot: BootId,
    /// Who is there.
    pub birth: Birth,
}

impl Settings {
    /// All that is read anew for each connection.
    pub(super) fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let password = self.login.iter().map(|login| &login.password_file);
        self.tls.iter().flat_map(TlsFiles::paths).chain(password)
    }
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
