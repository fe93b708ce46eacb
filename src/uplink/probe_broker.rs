//! Whether a broker would take us, without being the gateway: for `v2g-edge doctor`.

use std::time::Duration;

use super::client::{ConnectOptions, Connection, ConnectionEvent, Loss, LossKind, takes_3_1_1};
use super::reason::OLD;
use crate::net::{BrokerUrl, Link, Login, TlsFiles};

/// Short; the connection lasts for one CONNACK.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// What the broker has granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// Messages in flight.
    pub receive_maximum: u16,
    /// Bytes of a packet; `None` for no bound.
    pub packet_bytes_max: Option<u32>,
    /// Whether it takes retained messages.
    pub retains: bool,
}

/// The broker cannot be reached, or does not want us.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {remedy}")]
pub struct Refused {
    /// What happened.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// Connects under this client id, which must not be the gateway's own, or it would throw it off; disconnects at once.
///
/// # Errors
/// [`Refused`], with the broker's own reason if it gave one.
pub async fn probe_broker(
    broker: &BrokerUrl,
    link: &Link,
    tls: Option<&TlsFiles>,
    login: Option<&Login>,
    client_id: &str,
) -> Result<Granted, Refused> {
    let options = ConnectOptions {
        broker,
        interface: link.interface.as_deref(),
        tls,
        login,
        client_id,
        keep_alive: KEEP_ALIVE,
        in_flight_max: 1,
        will: None,
        will_retained: false,
        session_kept: None,
    };
    let refused = |loss: Loss| Refused { what: loss.what, remedy: loss.remedy };
    let mut connection = Connection::open(&options).map_err(refused)?;
    let granted = loop {
        match connection.happened().await {
            ConnectionEvent::Connected(accepted) => {
                break Granted {
                    receive_maximum: accepted.receive_maximum,
                    packet_bytes_max: accepted.packet_bytes_max,
                    retains: accepted.retains,
                };
            }
            // Many brokers of the version before hang up on what they do not know.
            ConnectionEvent::Lost(loss)
                if loss.code.is_none() && loss.kind == LossKind::NotMqtt5 && takes_3_1_1(&options).await =>
            {
                return Err(Refused {
                    what: format!("{}; it takes a CONNECT of MQTT 3.1.1: it speaks that version only", loss.what),
                    remedy: OLD.to_owned(),
                });
            }
            ConnectionEvent::Lost(loss) => return Err(refused(loss)),
            ConnectionEvent::Answered(..)
            | ConnectionEvent::Subscribed(_)
            | ConnectionEvent::Message(_)
            | ConnectionEvent::Unasked(_)
            | ConnectionEvent::Heard => {}
        }
    };
    // A broker that wants a certificate refuses it only now: TLS 1.3 lets a client speak before it is believed.
    if connection.disconnect().is_ok() {
        while !matches!(connection.happened().await, ConnectionEvent::Lost(_)) {}
    }
    Ok(granted)
}
