//! What the uplink must know.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::wire::DeviceCard;
use crate::measure::{Epoch, Stamp};
use crate::spec::{GatewayId, SiteId};
use crate::tls::TlsFiles;

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
    /// Ways out, in order of preference; not empty.
    pub links: Vec<Link>,
    /// Between two looks whether a better broker or link can be had again.
    pub fail_back: Duration,
    /// For brokers with TLS.
    pub tls: Option<TlsFiles>,
    /// For brokers that want a name and a password.
    pub login: Option<Login>,
    /// What the last messages and the DISCONNECT may take.
    pub drain: Duration,
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

/// One broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Name or address. With TLS, what the certificate must be for.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether the connection is by mutual TLS.
    pub tls: bool,
    /// The path of MQTT over WebSocket, `/mqtt`; `None` for MQTT without it.
    pub websocket: Option<String>,
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match (&self.websocket, self.tls) {
            (None, false) => "mqtt",
            (None, true) => "mqtts",
            (Some(_), false) => "ws",
            (Some(_), true) => "wss",
        };
        write!(f, "{scheme}://{}{}", self.authority(), self.websocket.as_deref().unwrap_or(""))
    }
}

impl Broker {
    /// `host:port`, an IPv6 address in brackets.
    pub(super) fn authority(&self) -> String {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        format!("{open}{}{close}:{}", self.host, self.port)
    }

    /// Another broker, by this one's word (server reference; MQTT 5, 4.13: a host, or host:port, or several with spaces
    /// between). With or without TLS as this one: a broker cannot talk us out of it. Over WebSocket as this one, unless
    /// it names a scheme.
    pub(super) fn named(&self, reference: &str) -> Option<Self> {
        let first = reference.split_whitespace().next()?;
        let (scheme, address) = first.split_once("://").map_or(("", first), |(scheme, address)| (scheme, address));
        let (address, path) = address.find('/').map_or((address, ""), |at| address.split_at(at));
        let (host, port) = match address.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']')?;
                (host, after.strip_prefix(':'))
            }
            None if address.matches(':').count() > 1 => (address, None),
            None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
        };
        let own_path = match scheme {
            "mqtt" | "mqtts" => None,
            "ws" | "wss" => Some(self.websocket.as_deref().unwrap_or("/mqtt")),
            _ => self.websocket.as_deref(),
        };
        let of_a_path = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '-' | '_' | '~' | '%');
        let websocket = match (own_path, path) {
            (own, "" | "/") => own.map(str::to_owned),
            (Some(_), path) if path.len() <= 256 && path.chars().all(of_a_path) => Some(path.to_owned()),
            _ => return None,
        };
        // A port of another kind of connection says nothing about this one.
        let default = match (websocket.is_some(), self.tls) {
            (over, _) if over == self.websocket.is_some() => self.port,
            (false, false) => 1883,
            (false, true) => 8883,
            (true, false) => 80,
            (true, true) => 443,
        };
        let port = port.map_or(Some(default), |port| port.parse().ok().filter(|port| *port != 0))?;
        let plausible = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        let good = !host.is_empty() && host.len() <= 253 && host.chars().all(plausible);
        let named = Self { host: host.to_owned(), port, tls: self.tls, websocket };
        // Without TLS nothing leaves this machine by a stranger's word.
        (good && (named.tls || named.is_loopback() || !self.is_loopback())).then_some(named)
    }

    fn is_loopback(&self) -> bool {
        match self.host.parse::<std::net::IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => self.host.eq_ignore_ascii_case("localhost"),
        }
    }
}

/// One way out to the brokers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The network interface, as `ip link` names it; `None` for the system's choice.
    pub interface: Option<String>,
    /// Bytes per second of the history lane.
    pub history_rate_max: u64,
    /// Bytes of the history lane in a day; `None` where data costs nothing.
    pub history_bytes_per_day: Option<u64>,
}

/// A name and a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// As the broker knows us.
    pub username: String,
    /// A file with the password in its first line; readable by its owner only.
    pub password_file: PathBuf,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_server_is_read_in_every_form_and_keeps_tls() {
        let here = Broker { host: "a".to_owned(), port: 8883, tls: true, websocket: None };
        for (reference, expected) in [
            ("b.example", Some("mqtts://b.example:8883")),
            ("b.example:1883 c.example:1884", Some("mqtts://b.example:1883")),
            ("mqtt://b.example:1883/", Some("mqtts://b.example:1883")),
            ("[::2]:9", Some("mqtts://[::2]:9")),
            ("::2", Some("mqtts://[::2]:8883")),
            ("", None),
            ("b:0", None),
            ("b:x", None),
            ("a b/c", Some("mqtts://a:8883")),
            ("b/../c", None),
            ("wss://b", Some("wss://b:443/mqtt")),
            ("ws://b:8084/x", Some("wss://b:8084/x")),
        ] {
            let found = here.named(reference).map(|broker| broker.to_string());
            assert_eq!(found.as_deref(), expected, "{reference}");
        }
        let here = Broker { host: "a".to_owned(), port: 8084, tls: true, websocket: Some("/here".to_owned()) };
        for (reference, expected) in [
            ("b", Some("wss://b:8084/here")),
            ("[::2]:9/", Some("wss://[::2]:9/here")),
            ("b:443/there", Some("wss://b:443/there")),
            ("ws://b", Some("wss://b:8084/here")),
            ("mqtt://b", Some("mqtts://b:8883")),
            ("b/a\r\nHost:x", Some("wss://b:8084/a")),
            ("b/a?b", None),
        ] {
            let found = here.named(reference).map(|broker| broker.to_string());
            assert_eq!(found.as_deref(), expected, "{reference}");
        }
        let plain = Broker { host: "127.0.0.1".to_owned(), port: 1883, tls: false, websocket: None };
        assert_eq!(plain.named("10.0.0.1"), None, "nothing readable leaves the machine by a broker's word");
        assert!(plain.named("localhost:1884").is_some());
    }
}
