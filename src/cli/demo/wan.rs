//! The WAN of the demo: a wire between the agent and the broker that can be cut.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A TCP relay on loopback. While it is cut, connections die and new ones are closed at once, as when a
/// router has lost its uplink.
#[derive(Debug)]
pub(super) struct Wan {
    address: SocketAddr,
    up: watch::Sender<bool>,
    relay: JoinHandle<()>,
}

impl Wan {
    /// Lays the wire to `broker`; it is up.
    pub(super) async fn lay(broker: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (up, is_up) = watch::channel(true);
        let relay = tokio::spawn(relay(listener, broker, is_up));
        Ok(Self { address, up, relay })
    }

    /// The gateway's end.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn cut(&self) {
        self.up.send_replace(false);
    }

    pub(super) fn restore(&self) {
        self.up.send_replace(true);
    }
}

impl Drop for Wan {
    fn drop(&mut self) {
        self.relay.abort();
    }
}

async fn relay(listener: TcpListener, broker: SocketAddr, is_up: watch::Receiver<bool>) {
    while let Ok((mut near, _)) = listener.accept().await {
        let mut is_up = is_up.clone();
        if !*is_up.borrow_and_update() {
            continue;
        }
        tokio::spawn(async move {
            let Ok(mut far) = TcpStream::connect(broker).await else { return };
            // The relay must not be the slowest part of the latency that the demo shows.
            let (_, _) = (near.set_nodelay(true), far.set_nodelay(true));
            tokio::select! {
                _ = copy_bidirectional(&mut near, &mut far) => {}
                _ = is_up.wait_for(|up| !up) => {}
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_cut_wire_drops_what_is_open_and_carries_again_once_mended() {
        let broker = TcpListener::bind(("127.0.0.1", 0)).await.expect("bound");
        let wan = Wan::lay(broker.local_addr().expect("an address")).await.expect("laid");

        let mut gateway = TcpStream::connect(wan.address()).await.expect("connected");
        let (mut peer, _) = broker.accept().await.expect("accepted");
        gateway.write_all(b"ping").await.expect("sent");
        let mut heard = [0; 4];
        peer.read_exact(&mut heard).await.expect("heard");

        wan.cut();
        assert_eq!(gateway.read(&mut heard).await.unwrap_or(0), 0, "the open connection must end");

        wan.restore();
        let _gateway = TcpStream::connect(wan.address()).await.expect("connected");
        broker.accept().await.expect("carried again");
    }
}
