//! A host and a port, and their one parser.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// A name or an address; an IPv6 address stands here without brackets.
    pub host: String,
    /// Not 0.
    pub port: u16,
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port() }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// Not the address of anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct InvalidAddress {
    /// What is wrong with it.
    pub problem: String,
}

impl Endpoint {
    /// Reads `host`, `host:port`, `1.2.3.4:502`, `[::1]:502` or `::1`.
    ///
    /// # Errors
    /// The host is empty or has characters that no host has, or the port is not 1 to 65535.
    pub fn parse(text: &str, default_port: u16) -> Result<Self, InvalidAddress> {
        let invalid = |problem: &str| InvalidAddress { problem: problem.to_owned() };
        let is_ipv6 = |host: &str| host.parse::<std::net::Ipv6Addr>().is_ok();
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, after) = rest.split_once(']').ok_or_else(|| invalid("has a '[' that is not closed"))?;
            if !is_ipv6(host) {
                return Err(invalid("has no IPv6 address in its brackets"));
            }
            (host, if after.is_empty() { None } else { Some(after.strip_prefix(':').unwrap_or("")) })
        } else if is_ipv6(text) {
            (text, None)
        } else {
            text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)))
        };
        let port = match port {
            None => default_port,
            // `u16::from_str` would take "+502".
            Some(port) => match port.parse() {
                Ok(number) if number != 0 && port.bytes().all(|b| b.is_ascii_digit()) => number,
                _ => return Err(invalid("has a port that is not 1 to 65535")),
            },
        };
        let of_a_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        // RFC 1035: 253 characters is the longest name.
        if !is_ipv6(host) && (host.is_empty() || host.len() > 253 || !host.bytes().all(of_a_name)) {
            return Err(invalid("has no host name or IP address that could be one"));
        }
        Ok(Self { host: host.to_owned(), port })
    }

    /// Whether it never leaves this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self.host.parse::<IpAddr>() {
            Ok(address) => address.is_loopback(),
            Err(_) => self.host.eq_ignore_ascii_case("localhost"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_with_and_without_its_port() {
        for (text, shown) in [
            ("10.0.0.17", "10.0.0.17:502"),
            ("meter.local:1502", "meter.local:1502"),
            ("::1", "[::1]:502"),
            ("[fe80::2]:503", "[fe80::2]:503"),
        ] {
            assert_eq!(Endpoint::parse(text, 502).expect(text).to_string(), shown);
        }
        for text in ["", ":502", "a:0", "a:65536", "a:b", "a b", "[::1", "[::1]x", "[x]:1", "http://a", "a:+5"] {
            assert!(Endpoint::parse(text, 502).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for (host, expected) in [("127.3.2.1", true), ("::1", true), ("LocalHost", true), ("localhost.example", false)]
        {
            assert_eq!(Endpoint { host: host.to_owned(), port: 1 }.is_loopback(), expected, "{host}");
        }
    }
}
