//! For fuzzing only (feature `fuzz`, never in the firmware): what reads a broker's bytes, without a broker.

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::INCOMING_BYTES_MAX;
use super::packet;
use super::websocket;
use crate::net::BrokerUrl;

/// The packets of a stream that comes in these pieces, as text, and how it broke off, if it did.
#[must_use]
pub fn packets<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<String>, Option<String>) {
    let (mut buffer, mut found) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match packet::next(&mut buffer, INCOMING_BYTES_MAX) {
                Ok(Some(packet)) => found.push(format!("{packet:?}")),
                Ok(None) => break,
                Err(malformed) => return (found, Some(malformed.to_string())),
            }
        }
    }
    (found, None)
}

/// In an answer: stands for the right `Sec-WebSocket-Accept`, which noise does not find.
pub const ACCEPT: &[u8] = b"%ACCEPT%";

/// What comes of an answer to the upgrade: the bytes of MQTT in what follows it, as far as they can be read, or what a person
/// is told.
///
/// # Errors
/// Not an upgrade: what a person is told.
pub async fn upgraded(answer: &[u8]) -> Result<Vec<u8>, String> {
    let broker: BrokerUrl = "ws://broker.example/mqtt".parse().map_err(|_| "no URL".to_owned())?;
    // The request and the whole answer fit in: nobody waits for anybody.
    let (ours, mut theirs) = tokio::io::duplex(1 << 20);
    let peer = async {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") && theirs.read_buf(&mut request).await.is_ok_and(|read| read > 0) {}
        let request = String::from_utf8_lossy(&request);
        let key = request.split("Sec-WebSocket-Key: ").nth(1).and_then(|rest| rest.lines().next()).unwrap_or_default();
        let accept = derive_accept_key(key.as_bytes());
        let answer = match answer.windows(ACCEPT.len()).position(|window| window == ACCEPT) {
            Some(at) => [&answer[..at], accept.as_bytes(), &answer[at + ACCEPT.len()..]].concat(),
            None => answer.to_vec(),
        };
        // Who has heard enough hangs up.
        let _ = theirs.write_all(&answer).await;
        let _ = theirs.shutdown().await;
        theirs
    };
    let (opened, _theirs) = tokio::join!(websocket::upgrade(Box::new(ours), &broker, "/mqtt"), peer);
    let mut stream = opened.map_err(|loss| format!("{}; {}", loss.what, loss.remedy))?;
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    Ok(bytes)
}
