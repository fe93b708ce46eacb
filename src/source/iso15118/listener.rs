//! Where feeds come in: a unix socket, TCP on loopback, or TCP with mutual TLS.
//!
//! A connection from the network is no feed before its handshake is done. Handshakes go on beside each other and beside the feeds, so
//! that none waits for another; at most [`HANDSHAKES_MAX`] are in progress, and the one too many takes the place of the oldest
//! from the address that has most: who opens connections and says nothing displaces itself.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hal::Holding;
use rustix::net::sockopt;
use tokio::io::AsyncRead;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::{AbortHandle, JoinSet};

use super::admission::Peer;
use crate::net::Mirror;
use crate::tls::{Acceptor, Days, Look, Refusal, Server, TlsError, days};

/// As many as there are feeds: all stations of a bus come back at once after an outage.
const HANDSHAKES_MAX: usize = 16;
/// A station that has lost its power or its link is noticed after 30 s + 3 × 10 s, and its place is free again.
const KEEP_ALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_PROBES: u32 = 3;

/// What a feed is read from.
pub(super) type Stream = Box<dyn AsyncRead + Send + Unpin>;

/// It cannot be listened on; it is tried again.
#[derive(Debug, thiserror::Error)]
pub(super) enum Closed {
    #[error("{name} cannot be listened on: {source}; {cure}")]
    Socket { name: String, source: io::Error, cure: String },
    #[error("{name} is not listened on: {source}")]
    Files { name: String, source: TlsError },
}

/// An address that is listened on.
#[derive(Debug)]
pub(super) struct FeedListener {
    socket: Socket,
    /// `None` where whoever connects is a feed.
    server: Option<Server>,
}

#[derive(Debug)]
enum Socket {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// For people.
pub(super) fn name(address: &Mirror) -> String {
    match address {
        Mirror::Unix(path) => path.display().to_string(),
        Mirror::Tcp(endpoint) | Mirror::Tls { endpoint, .. } => format!("{} port {}", endpoint.host, endpoint.port),
    }
}

/// What to do about an address that cannot be listened on.
fn cure(address: &Mirror, error: &io::Error) -> String {
    let port = match address {
        Mirror::Unix(_) => None,
        Mirror::Tcp(endpoint) | Mirror::Tls { endpoint, .. } => Some(endpoint.port),
    };
    match (error.kind(), port) {
        (io::ErrorKind::AddrInUse, Some(port)) => match hal::listener_on(port) {
            Holding::Process(holder) if holder.pid == std::process::id() => {
                "another bus of this agent has that port: give this one another, here and at the charger".to_owned()
            }
            Holding::Process(holder) => {
                format!("{holder} has that port: stop it, or write another port here and at the charger")
            }
            Holding::User(user) => format!(
                "a process of user {user} has that port (`sudo ss -ltnp` names it): stop it, or write another port here and at the \
                 charger"
            ),
            Holding::Nobody | Holding::Unclear(_) => {
                "another program has that port (`ss -ltnp` names it): stop it, or write another port here and at the charger"
                    .to_owned()
            }
        },
        (io::ErrorKind::AddrNotAvailable, _) => {
            "this box has no such address (`ip addr`): correct it, or wait until the interface has it".to_owned()
        }
        (io::ErrorKind::PermissionDenied, Some(_)) => {
            "a port below 1024 needs CAP_NET_BIND_SERVICE: take one above, at the charger, too".to_owned()
        }
        (io::ErrorKind::PermissionDenied, None) => {
            "give the directory of the socket to the agent's user (RuntimeDirectory= under systemd)".to_owned()
        }
        _ => "it is tried again".to_owned(),
    }
}

async fn bind(address: &Mirror) -> io::Result<Socket> {
    match address {
        Mirror::Unix(path) => {
            use std::os::unix::fs::{FileTypeExt, PermissionsExt};
            // What an agent before this one has left. Only a socket is ever removed.
            if fs::symlink_metadata(path).is_ok_and(|left| left.file_type().is_socket()) {
                fs::remove_file(path)?;
            }
            if let Some(directory) = path.parent() {
                fs::create_dir_all(directory)?;
            }
            let listener = UnixListener::bind(path)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
            Ok(Socket::Unix(listener))
        }
        Mirror::Tcp(endpoint) | Mirror::Tls { endpoint, .. } => {
            Ok(Socket::Tcp(TcpListener::bind((endpoint.host.as_str(), endpoint.port)).await?))
        }
    }
}

/// Who has connected.
pub(super) enum Caller {
    Feed(Stream, Option<Peer>),
    Unauthenticated(TcpStream, SocketAddr),
}

impl FeedListener {
    pub(super) async fn open(address: &Mirror) -> Result<Self, Closed> {
        let server = match address {
            Mirror::Tls { files, .. } => {
                Some(Server::open(files.clone()).map_err(|source| Closed::Files { name: name(address), source })?)
            }
            Mirror::Unix(_) | Mirror::Tcp(_) => None,
        };
        let socket = bind(address).await.map_err(|source| Closed::Socket {
            name: name(address),
            cure: cure(address, &source),
            source,
        })?;
        Ok(Self { socket, server })
    }

    /// Cancel-safe.
    pub(super) async fn accept(&self) -> io::Result<Caller> {
        let (tcp, peer) = match &self.socket {
            Socket::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let peer = process_of(&stream);
                return Ok(Caller::Feed(Box::new(stream), peer));
            }
            Socket::Tcp(listener) => listener.accept().await?,
        };
        if self.server.is_none() {
            return Ok(Caller::Feed(Box::new(tcp), Some(address_of(peer))));
        }
        if let Err(error) = keep_alive(&tcp) {
            tracing::debug!(%error, %peer, "no keep-alive on a feed");
        }
        Ok(Caller::Unauthenticated(tcp, peer))
    }

    /// For a connection that is not authenticated yet, with the files as they were at the last look; `None` where none has to be.
    pub(super) fn acceptor(&self) -> Option<Acceptor> {
        self.server.as_ref().map(Server::acceptor)
    }

    /// Whether a connection must be authenticated.
    pub(super) fn is_guarded(&self) -> bool {
        self.server.is_some()
    }

    /// Takes over files that have changed.
    pub(super) fn look(&mut self) -> Look {
        self.server.as_mut().map_or(Look::Same, Server::look)
    }

    /// When its certificates end.
    pub(super) fn days(&self) -> Vec<Days> {
        self.server.iter().flat_map(|server| days(server.files().certificates())).collect()
    }
}

/// A port is another one each time.
pub(super) fn address_of(peer: SocketAddr) -> Peer {
    Peer::Address(peer.ip().to_canonical())
}

/// None for one that this system does not see: in another PID namespace all of them have the number 0.
fn process_of(stream: &UnixStream) -> Option<Peer> {
    stream.peer_cred().ok()?.pid().filter(|pid| *pid != 0).map(Peer::Process)
}

/// What `accept` says of one connection and not of the listener (accept(2): errors of the network are to be tried again).
pub(super) fn is_of_one_caller(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionAborted
            | Kind::ConnectionReset
            | Kind::TimedOut
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
    )
}

fn keep_alive(tcp: &TcpStream) -> io::Result<()> {
    sockopt::set_socket_keepalive(tcp, true)?;
    sockopt::set_tcp_keepidle(tcp, KEEP_ALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(tcp, KEEP_ALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(tcp, KEEP_ALIVE_PROBES)?;
    Ok(())
}

/// Handshakes in progress. Dropping it ends them.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    tasks: JoinSet<(SocketAddr, Result<Stream, Refusal>)>,
    /// The oldest first.
    running: VecDeque<(SocketAddr, AbortHandle)>,
}

impl Handshakes {
    /// Whether another may begin: those that have ended and were not taken count, too.
    pub(super) fn has_room(&self) -> bool {
        self.tasks.len() < 2 * HANDSHAKES_MAX
    }

    /// Begins one; who had to give way for it, if anybody had to.
    pub(super) fn begin(
        &mut self,
        tcp: TcpStream,
        peer: SocketAddr,
        acceptor: Acceptor,
    ) -> Option<(SocketAddr, Refusal)> {
        self.running.retain(|(_, task)| !task.is_finished());
        let displaced = (self.running.len() >= HANDSHAKES_MAX).then(|| {
            let addresses: Vec<IpAddr> = self.running.iter().map(|(peer, _)| peer.ip()).collect();
            self.running.remove(to_give_way(&addresses))
        });
        let task = self.tasks.spawn(async move {
            let stream = acceptor.accept(tcp).await.map(|stream| Box::new(stream) as Stream);
            (peer, stream)
        });
        self.running.push_back((peer, task));
        let (peer, task) = displaced??;
        task.abort();
        let refusal = Refusal {
            reason: "tls_crowded",
            what: format!("it gave way to another, as more than {HANDSHAKES_MAX} handshakes were in progress"),
            remedy: "find out what opens connections at this address and does not speak",
        };
        Some((peer, refusal))
    }

    /// The next one that has ended; `None` if there are none. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<(SocketAddr, Result<Stream, Refusal>)> {
        loop {
            // Who gave way has been told of.
            if let Ok(ended) = self.tasks.join_next().await? {
                return Some(ended);
            }
        }
    }
}

/// The oldest of the address that has most; `addresses` are by age and not empty.
fn to_give_way(addresses: &[IpAddr]) -> usize {
    let of_the_same = |at: usize| addresses.iter().filter(|other| **other == addresses[at]).count();
    (0..addresses.len()).rev().max_by_key(|at| of_the_same(*at)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_opens_most_gives_way_first_and_among_equals_the_oldest() {
        let of = |last: u8| IpAddr::from([10, 0, 0, last]);
        assert_eq!(to_give_way(&[of(1), of(2), of(3)]), 0);
        assert_eq!(to_give_way(&[of(1), of(2), of(3), of(2)]), 1);
        assert_eq!(to_give_way(&[of(1), of(2), of(2), of(1), of(3)]), 0);
    }
}
