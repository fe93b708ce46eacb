//! The address of a broker.

use std::fmt;
use std::str::FromStr;

use super::plan::{Endpoint, InvalidAddress};

/// A broker: `mqtts://host:port`, or `mqtt://` without encryption.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BrokerUrl {
    /// `mqtts`.
    pub tls: bool,
    /// A name or an address; an IPv6 address stands here without brackets.
    pub host: String,
    /// 8883 or 1883 if the text does not say.
    pub port: u16,
}

impl BrokerUrl {
    /// The registered port of MQTT over TLS.
    pub const PORT_TLS: u16 = 8883;
    /// The registered port of MQTT.
    pub const PORT_PLAIN: u16 = 1883;

    /// Whether it is on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        Endpoint { host: self.host.clone(), port: self.port }.is_loopback()
    }
}

impl FromStr for BrokerUrl {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let invalid = |problem: &str| InvalidAddress { problem: problem.to_owned() };
        let (scheme, rest) =
            text.split_once("://").ok_or_else(|| invalid("does not begin with mqtts:// or mqtt://"))?;
        let (tls, default_port) = match scheme {
            "mqtts" => (true, Self::PORT_TLS),
            "mqtt" => (false, Self::PORT_PLAIN),
            _ => return Err(invalid("does not begin with mqtts:// or mqtt://")),
        };
        if rest.contains('@') {
            return Err(invalid("has a user in it; the gateway is known by its certificate"));
        }
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains('/') {
            return Err(invalid("has a path; a broker has only a host and a port"));
        }
        let Endpoint { host, port } = Endpoint::parse(authority, default_port)?;
        Ok(Self { tls, host, port })
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "mqtts" } else { "mqtt" };
        write!(f, "{scheme}://{}", Endpoint { host: self.host.clone(), port: self.port })
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
        ] {
            let url: BrokerUrl = text.parse().expect(text);
            assert_eq!(url.to_string(), shown);
            assert_eq!(shown.parse(), Ok(url));
        }
        for text in ["a.example:8883", "tcp://a", "mqtts://", "mqtts://u:p@a", "mqtts://a/b", "MQTT://a"] {
            assert!(text.parse::<BrokerUrl>().is_err(), "{text:?} was accepted");
        }
    }
}
