//! The address of a broker.

use std::fmt;
use std::str::FromStr;

use super::plan::{Endpoint, InvalidAddress};

/// A broker: `mqtts://host:port`, `wss://host:port/path` for MQTT over WebSocket, `mqtt://` and `ws://` without encryption.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BrokerUrl {
    /// `mqtts` or `wss`.
    pub tls: bool,
    /// A name or an address; an IPv6 address stands here without brackets.
    pub host: String,
    /// 8883, 1883, 443 or 80 if the text does not say.
    pub port: u16,
    /// `ws` or `wss`: the path, 1 to 256 bytes from its `/` on, `/mqtt` if the text does not say. `None`: MQTT without
    /// WebSocket.
    pub websocket: Option<String>,
}

/// What brokers offer MQTT at; no standard says (EMQX, HiveMQ and AWS IoT have it so, mosquitto takes any).
const PATH_DEFAULT: &str = "/mqtt";
/// It stands in the log, in `status` and in events.
const PATH_BYTES_MAX: usize = 256;

impl BrokerUrl {
    /// As the text begins.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        match (&self.websocket, self.tls) {
            (None, true) => "mqtts",
            (None, false) => "mqtt",
            (Some(_), true) => "wss",
            (Some(_), false) => "ws",
        }
    }

    /// The same with TLS, at its usual port.
    #[must_use]
    pub fn encrypted(self) -> Self {
        Self { tls: true, port: Self::default_port(true, self.websocket.is_some()), ..self }
    }

    /// Whether it is on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        Endpoint { host: self.host.clone(), port: self.port }.is_loopback()
    }

    /// The registered port.
    fn default_port(tls: bool, websocket: bool) -> u16 {
        match (websocket, tls) {
            (false, true) => 8883,
            (false, false) => 1883,
            (true, true) => 443,
            (true, false) => 80,
        }
    }
}

impl FromStr for BrokerUrl {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let invalid = |problem: &str| InvalidAddress { problem: problem.to_owned() };
        let no_scheme = || invalid("does not begin with mqtts://, wss://, mqtt:// or ws://");
        let (scheme, rest) = text.split_once("://").ok_or_else(no_scheme)?;
        let (tls, websocket) = match scheme {
            "mqtts" => (true, false),
            "mqtt" => (false, false),
            "wss" => (true, true),
            "ws" => (false, true),
            _ => return Err(no_scheme()),
        };
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        if authority.contains('@') {
            return Err(invalid(
                "has a user in it; the gateway is known by its certificate, or by username in [uplink]",
            ));
        }
        if rest.contains(['?', '#']) {
            return Err(invalid(
                "has a '?' or '#' in it; only host, port and path are taken, as they stand in every log",
            ));
        }
        let websocket = match (websocket, path) {
            (false, "" | "/") => None,
            (false, _) => return Err(invalid("has a path, which only wss:// and ws:// have")),
            (true, "") => Some(PATH_DEFAULT.to_owned()),
            (true, path) => Some(read_path(path).ok_or_else(|| {
                invalid(
                    "has a path that is longer than 256 bytes or has characters that no path has (write them as %20)",
                )
            })?),
        };
        let Endpoint { host, port } = Endpoint::parse(authority, Self::default_port(tls, websocket.is_some()))?;
        Ok(Self { tls, host, port, websocket })
    }
}

/// A path as HTTP carries it (RFC 3986, 3.3).
fn read_path(text: &str) -> Option<String> {
    let of_a_path = |b: u8| b.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@%".contains(&b);
    (text.len() <= PATH_BYTES_MAX && text.bytes().all(of_a_path)).then(|| text.to_owned())
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let endpoint = Endpoint { host: self.host.clone(), port: self.port };
        write!(f, "{}://{endpoint}{}", self.scheme(), self.websocket.as_deref().unwrap_or(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_written_as_it_is_read() {
        for (text, shown) in [
            ("mqtts://a.example", "mqtts://a.example:8883"),
            ("mqtt://localhost/", "mqtt://localhost:1883"),
            ("mqtts://[::1]:1", "mqtts://[::1]:1"),
            ("wss://a.example", "wss://a.example:443/mqtt"),
            ("ws://localhost", "ws://localhost:80/mqtt"),
            ("wss://a.example/", "wss://a.example:443/"),
            ("ws://[::1]:9001/depot/~x%20", "ws://[::1]:9001/depot/~x%20"),
        ] {
            let url: BrokerUrl = text.parse().expect(text);
            assert_eq!(url.to_string(), shown);
            assert_eq!(shown.parse(), Ok(url));
        }
        let long = format!("wss://a/{}", "x".repeat(PATH_BYTES_MAX));
        for text in [
            "a.example:8883",
            "tcp://a",
            "mqtts://",
            "mqtts://u:p@a",
            "mqtts://a/b",
            "MQTT://a",
            "wss://",
            "wss:///mqtt",
            "wss://u:p@a/mqtt",
            "wss://a/mqtt?token=x",
            "wss://a?x",
            "wss://a/b c",
            "ws://a/b\r\nX: y",
            "ws://a:0/b",
            &long,
        ] {
            assert!(text.parse::<BrokerUrl>().is_err(), "{text:?} was accepted");
        }
    }
}
