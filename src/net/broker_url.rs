//! The address of a broker, and its one parser.

use std::fmt;
use std::str::FromStr;

use super::{Endpoint, InvalidAddress};

/// A broker: `mqtts://host:port`, `wss://host:port/path` for MQTT over WebSocket, `mqtt://` and `ws://` without encryption.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BrokerUrl {
    /// `mqtts` or `wss`.
    pub tls: bool,
    /// With TLS, what the certificate must be for. Port 8883, 1883, 443 or 80 if the text does not say.
    pub endpoint: Endpoint,
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
        let port = Self::default_port(true, self.websocket.is_some());
        Self { tls: true, endpoint: Endpoint { port, ..self.endpoint }, ..self }
    }

    /// Whether it is on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.endpoint.is_loopback()
    }

    /// Another broker, as this one names it in a server reference (MQTT 5, 4.11: a host, or host:port, or several with
    /// spaces between, of which the first is taken); `None` if it is none. With or without TLS as this one: a broker
    /// cannot talk us out of it. Over WebSocket as this one, unless the reference has a scheme.
    #[must_use]
    pub fn referred(&self, reference: &str) -> Option<Self> {
        let first = reference.split_whitespace().next()?;
        let (scheme, rest) = first.split_once("://").unwrap_or(("", first));
        let (authority, path) = split_path(rest);
        let own_path = match scheme {
            "mqtt" | "mqtts" => None,
            "ws" | "wss" => Some(self.websocket.as_deref().unwrap_or(PATH_DEFAULT)),
            _ => self.websocket.as_deref(),
        };
        let websocket = match (own_path, path) {
            (own, "" | "/") => own.map(str::to_owned),
            (Some(_), path) => Some(read_path(path)?),
            (None, _) => return None,
        };
        // A port of another kind of connection says nothing about this one.
        let same_kind = websocket.is_some() == self.websocket.is_some();
        let port = if same_kind { self.endpoint.port } else { Self::default_port(self.tls, websocket.is_some()) };
        let referred = Self { tls: self.tls, endpoint: Endpoint::parse(authority, port).ok()?, websocket };
        // Without TLS nothing leaves this machine because a broker says so.
        (referred.tls || referred.is_loopback() || !self.is_loopback()).then_some(referred)
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
        let (authority, path) = split_path(rest);
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
        let endpoint = Endpoint::parse(authority, Self::default_port(tls, websocket.is_some()))?;
        Ok(Self { tls, endpoint, websocket })
    }
}

/// What stands before the first `/`, and the rest from it on.
fn split_path(text: &str) -> (&str, &str) {
    text.find('/').map_or((text, ""), |at| text.split_at(at))
}

/// A path as HTTP carries it (RFC 3986, 3.3).
fn read_path(text: &str) -> Option<String> {
    let of_a_path = |b: u8| b.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@%".contains(&b);
    (text.len() <= PATH_BYTES_MAX && text.bytes().all(of_a_path)).then(|| text.to_owned())
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.endpoint, self.websocket.as_deref().unwrap_or(""))
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

    #[test]
    fn another_server_is_read_in_every_form_and_keeps_tls() {
        let url = |text: &str| text.parse::<BrokerUrl>().expect(text);
        let here = url("mqtts://a:8883");
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
            let found = here.referred(reference).map(|broker| broker.to_string());
            assert_eq!(found.as_deref(), expected, "{reference}");
        }
        let here = url("wss://a:8084/here");
        for (reference, expected) in [
            ("b", Some("wss://b:8084/here")),
            ("[::2]:9/", Some("wss://[::2]:9/here")),
            ("b:443/there", Some("wss://b:443/there")),
            ("ws://b", Some("wss://b:8084/here")),
            ("mqtt://b", Some("mqtts://b:8883")),
            ("b/a\r\nHost:x", Some("wss://b:8084/a")),
            ("b/a?b", None),
        ] {
            let found = here.referred(reference).map(|broker| broker.to_string());
            assert_eq!(found.as_deref(), expected, "{reference}");
        }
        let plain = url("mqtt://127.0.0.1:1883");
        assert_eq!(plain.referred("10.0.0.1"), None, "nothing readable leaves the machine because a broker says so");
        assert!(plain.referred("localhost:1884").is_some());
    }
}
