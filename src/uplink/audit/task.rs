//! Brings messages from a broker.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::judge::Message;
use crate::measure::Utc;
use crate::net::{BrokerUrl, Login, TlsFiles};
use crate::uplink::backoff;
use crate::uplink::client::{ConnectOptions, Connection, ConnectionEvent};

/// The broker keeps what is sent while the consumer is away for this long.
const SESSION_KEPT: Duration = Duration::from_secs(3600);
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Where to listen.
#[derive(Debug, Clone)]
pub struct ConsumerSettings {
    /// The broker.
    pub broker: BrokerUrl,
    /// For a broker with TLS.
    pub tls: Option<TlsFiles>,
    /// For a broker that wants a name and a password.
    pub login: Option<Login>,
    /// Topics below it are heard; `+` stands for any level: `v2g/+/+`.
    pub prefix: String,
}

/// What the consumer tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// It listens.
    Listening,
    /// A message.
    Message(Message),
    /// The broker had forgotten us.
    Blind,
    /// There is no connection; why, and what to do.
    Away(String),
}

/// The consumer cannot listen at all.
#[derive(Debug, thiserror::Error)]
pub enum ConsumeError {
    /// The first connection failed; later ones are tried again and told by [`Heard::Away`].
    #[error("{broker}: {what}; {remedy}")]
    Refused {
        /// Which broker.
        broker: String,
        /// What happened.
        what: String,
        /// What to do.
        remedy: String,
    },
}

/// Listens until `stop` turns true or nobody takes what is heard. `wall` tells the time of receipt.
///
/// # Errors
/// [`ConsumeError`], only before the first connection.
pub async fn consume(
    settings: ConsumerSettings,
    wall: impl Fn() -> Utc,
    tell: mpsc::Sender<Heard>,
    mut stop: watch::Receiver<bool>,
) -> Result<(), ConsumeError> {
    let client_id = format!("v2g-edge-audit-{:08x}", RandomState::new().hash_one(0_u8) >> 32);
    let options = ConnectOptions {
        broker: &settings.broker,
        interface: None,
        tls: settings.tls.as_ref(),
        login: settings.login.as_ref(),
        client_id: &client_id,
        keep_alive: KEEP_ALIVE,
        in_flight_max: 16,
        will: None,
        will_retained: false,
        session_kept: Some(SESSION_KEPT),
    };
    let (mut ever, mut failures) = (false, 0);
    loop {
        let why = match Connection::open(&options) {
            Err(loss) => loss,
            Ok(mut connection) => loop {
                let happened = tokio::select! {
                    happened = connection.happened() => happened,
                    _ = stop.wait_for(|stop| *stop) => return Ok(()),
                };
                let heard = match happened {
                    ConnectionEvent::Connected(accepted) => {
                        let blind = ever && !accepted.session_present;
                        (ever, failures) = (true, 0);
                        for (id, topic) in (1..).zip(["telemetry", "history", "state"]) {
                            // A queue that is full here is a connection that has just ended.
                            let _ = connection.subscribe(id, &format!("{}/{topic}", settings.prefix));
                        }
                        if blind { Heard::Blind } else { Heard::Listening }
                    }
                    ConnectionEvent::Message(publish) => Heard::Message(Message {
                        topic: String::from_utf8_lossy(&publish.topic).into_owned(),
                        payload: publish.payload.to_vec(),
                        properties: publish.properties.map(|p| p.user_properties).unwrap_or_default(),
                        received_ns: wall().0,
                    }),
                    ConnectionEvent::Lost(loss) => break loss,
                    ConnectionEvent::Answered(..)
                    | ConnectionEvent::Subscribed(_)
                    | ConnectionEvent::Unasked(_)
                    | ConnectionEvent::Heard => continue,
                };
                if tell.send(heard).await.is_err() {
                    return Ok(());
                }
            },
        };
        if !ever {
            let broker = settings.broker.to_string();
            return Err(ConsumeError::Refused { broker, what: why.what, remedy: why.remedy });
        }
        failures += 1;
        if tell.send(Heard::Away(format!("{}; {}", why.what, why.remedy))).await.is_err() {
            return Ok(());
        }
        let until = Instant::now() + backoff::wait(failures, 0.5).min(Duration::from_secs(2));
        tokio::select! {
            () = sleep_until(until) => {}
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        }
    }
}
