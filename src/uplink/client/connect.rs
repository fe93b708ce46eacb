//! From a broker's name to a stream of bytes.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::websocket::{self, Breach};
use super::{ADDRESSES_MAX, CONNECT_WITHIN, Loss, connector};
use crate::health::out_of_files;
use crate::net::{BrokerUrl, TlsFiles};
use crate::tls::{Connector, rustls_error};
use crate::uplink::tls;

/// Between two addresses of one name (RFC 8305, 5: 250 ms).
const STAGGER: Duration = Duration::from_millis(250);

/// TCP, TLS over it, WebSocket over either.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// Whether a connection can be had there at all, with TLS and WebSocket if the broker has it. Says nothing of MQTT.
pub(in crate::uplink) async fn probe(
    broker: BrokerUrl,
    interface: Option<String>,
    files: Option<TlsFiles>,
) -> Result<(), Loss> {
    let tls = if broker.tls { Some(connector(&broker, files.as_ref())?) } else { None };
    match timeout(CONNECT_WITHIN, connect(&broker, interface.as_deref(), tls.as_ref())).await {
        Ok(reached) => reached.map(drop),
        Err(_) => Err(late(&broker)),
    }
}

/// Nobody answered in time.
pub(super) fn late(broker: &BrokerUrl) -> Loss {
    Loss::new(
        format!("{broker} did not answer within {} s", CONNECT_WITHIN.as_secs()),
        "check the link, and the broker's address and port",
    )
}

/// Looks the name up, connects, and makes TLS of it, and WebSocket of that.
pub(super) async fn connect(
    broker: &BrokerUrl,
    interface: Option<&str>,
    tls: Option<&Connector>,
) -> Result<Box<dyn Duplex>, Loss> {
    let found = lookup_host((broker.endpoint.host.as_str(), broker.endpoint.port)).await;
    let addresses: Vec<SocketAddr> = match found {
        Ok(found) => found.collect(),
        Err(error) => {
            let what = format!("the name {} cannot be found: {error}", broker.endpoint.host);
            return Err(Loss::new(what, unresolved(&error)));
        }
    };
    let tcp = first(in_turn(&addresses), interface).await?;
    // Each message goes out when it is written: what belongs together is written together.
    let _ = tcp.set_nodelay(true);
    let stream = match tls {
        Some(connector) => encrypt(broker, connector, tcp).await?,
        None => Box::new(tcp),
    };
    match &broker.websocket {
        Some(path) => Ok(Box::new(websocket::upgrade(stream, broker, path).await?)),
        None => Ok(stream),
    }
}

/// What to do about a name without an address. The C library tells it in words only: glibc's and musl's for EAI_AGAIN.
fn unresolved(error: &io::Error) -> &'static str {
    let text = error.to_string();
    if text.contains("Temporary failure") || text.contains("Try again") {
        "no name server answers: check the box's DNS (`resolvectl`, /etc/resolv.conf) and its way there, or write an IP address \
         in [uplink] brokers"
    } else {
        "the name server knows no such name: correct it in [uplink] brokers"
    }
}

async fn encrypt(broker: &BrokerUrl, connector: &Connector, tcp: TcpStream) -> Result<Box<dyn Duplex>, Loss> {
    let name = ServerName::try_from(broker.endpoint.host.clone()).map_err(|_| {
        Loss::new(format!("no certificate can be for {}", broker.endpoint.host), "correct [uplink] brokers")
    })?;
    match connector.connect(name, tcp).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(handshake_loss(broker, &error)),
    }
}

/// The families take turns, beginning with the resolver's favourite: a family without a way out costs 250 ms and not all
/// of the time.
fn in_turn(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for address in addresses {
        if address.is_ipv6() == first_is_v6 { &mut first } else { &mut second }.push(*address);
    }
    let mut turns = Vec::new();
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    loop {
        let (one, other) = (first.next(), second.next());
        if (one, other) == (None, None) || turns.len() >= ADDRESSES_MAX {
            turns.truncate(ADDRESSES_MAX);
            return turns;
        }
        turns.extend(one.into_iter().chain(other));
    }
}

/// The first connection that can be had.
async fn first(addresses: Vec<SocketAddr>, interface: Option<&str>) -> Result<TcpStream, Loss> {
    let mut tries = JoinSet::new();
    for (address, delay) in addresses.into_iter().zip((0..).map(|n| STAGGER * n)) {
        let interface = interface.map(str::to_owned);
        tries.spawn(async move {
            sleep(delay).await;
            connect_tcp(address, interface.as_deref()).await
        });
    }
    let mut last = Loss::new("the name has no address", "check [uplink] brokers, and the box's DNS");
    while let Some(tried) = tries.join_next().await {
        match tried {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(loss)) => last = loss,
            Err(_) => {}
        }
    }
    Err(last)
}

async fn connect_tcp(address: SocketAddr, interface: Option<&str>) -> Result<TcpStream, Loss> {
    let refused = |error: &io::Error| {
        let remedy = match error.kind() {
            io::ErrorKind::ConnectionRefused => "is the broker running, and is the port right?",
            io::ErrorKind::NetworkUnreachable => {
                "this box has no route there: check its address and gateway (`ip addr`, `ip route`), and that the link is up"
            }
            io::ErrorKind::HostUnreachable => {
                "nobody has that address in the network it should be in: check the address, and the router before it"
            }
            io::ErrorKind::PermissionDenied => "a firewall of this box forbids it (`nft list ruleset`)",
            _ => out_of_files(error).unwrap_or("check the link, and the broker's address and port"),
        };
        Loss::new(format!("no connection to {address}: {error}"), remedy)
    };
    let socket = if address.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() };
    let socket = socket.map_err(|error| refused(&error))?;
    if let Some(interface) = interface {
        socket.bind_device(Some(interface.as_bytes())).map_err(|error| {
            let what = format!("the network interface {interface} cannot be used: {error}");
            Loss::new(what, "is it there (`ip link`)? correct interface in the configuration")
        })?;
    }
    socket.connect(address).await.map_err(|error| refused(&error))
}

/// The handshake has failed. Who does not know TLS hangs up without a word.
fn handshake_loss(broker: &BrokerUrl, error: &io::Error) -> Loss {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
            if told(error).is_none() =>
        {
            let plain = if broker.websocket.is_some() { "ws" } else { "mqtt" };
            Loss::new(
                format!("{} has cut the connection in the TLS handshake ({error})", broker.endpoint),
                format!(
                    "if that port is one without TLS, write {plain}:// in [uplink] brokers, or correct the port; \
                     else look into the broker's log"
                ),
            )
        }
        _ => io_loss(error),
    }
}

/// What an error of a stream means, and what to do.
pub(super) fn io_loss(error: &io::Error) -> Loss {
    if let Some(loss) = told(error) {
        return loss;
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            Loss::new(format!("the broker has cut the connection ({error})"), "look into the broker's log")
        }
        _ => {
            let cure = out_of_files(error).unwrap_or("check the link, and the broker's address and port");
            Loss::new(error.to_string(), cure)
        }
    }
}

/// What the other side, or the layer that heard it, has said in TLS or WebSocket; `None` for an error of the line.
pub(super) fn told(error: &io::Error) -> Option<Loss> {
    if let Some(found) = rustls_error(error) {
        let (what, remedy) = tls::explained(found);
        return Some(Loss::new(what, remedy));
    }
    Breach::of(error).map(Breach::loss)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_unknown_and_a_name_server_that_is_away_have_cures_of_their_own() {
        let told = |why: &str| unresolved(&io::Error::other(format!("failed to lookup address information: {why}")));
        for away in ["Temporary failure in name resolution", "Try again"] {
            assert!(told(away).starts_with("no name server answers"), "{away}");
        }
        for unknown in ["Name or service not known", "Name does not resolve"] {
            assert!(told(unknown).starts_with("the name server knows no such name"), "{unknown}");
        }
    }

    #[test]
    fn the_families_take_turns_and_the_resolvers_favourite_begins() {
        let parse = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let addresses = ["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1"].map(parse);
        let expected = ["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"].map(parse);
        assert_eq!(in_turn(&addresses), expected);
        assert_eq!(in_turn(&[]), []);
        assert_eq!(in_turn(&[parse("1.1.1.1:1"); 20]).len(), ADDRESSES_MAX);
    }
}
