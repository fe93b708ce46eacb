//! What happens in a charging session. The words of ISO 15118-2, ISO 15118-20 and DIN SPEC 70121.

use std::sync::Arc;

use serde::Serialize;

use crate::spec::SessionId;

/// Something that happened in a charging session, and in which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct OfSession {
    /// The session; `None` if there is none, or its id is not known.
    #[serde(skip)]
    pub session: Option<SessionId>,
    /// What happened.
    pub event: SessionEvent,
}

/// Of no session, or of one whose id is not known.
impl From<SessionEvent> for OfSession {
    fn from(event: SessionEvent) -> Self {
        Self { session: None, event }
    }
}

/// Something that happened in a charging session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum SessionEvent {
    /// A session began, or was joined while it ran.
    Started {
        /// `din70121`, `iso15118-2`, `iso15118-20`.
        protocol: Arc<str>,
        /// The negotiated namespace; empty if it was joined after that.
        namespace: Arc<str>,
        /// EVSEID; empty if not heard.
        evse_id: Arc<str>,
        /// `new`, `resumed` (after a pause), or `joined` (its beginning was not heard).
        how: Arc<str>,
    },
    /// The session does something else now.
    Phase {
        /// What it does.
        phase: Arc<str>,
        /// What it did.
        before: Arc<str>,
    },
    /// The station asks the vehicle for something, or warns it.
    Notified {
        /// `StopCharging`, `ReNegotiation`, `EVSE_EmergencyShutdown`, …
        what: Arc<str>,
    },
    /// A response code that begins with FAILED.
    Failed {
        /// The code, as the schema has it.
        code: Arc<str>,
        /// The message that carried it.
        message: Arc<str>,
    },
    /// The session is over.
    Ended {
        /// `terminated`, `paused`, `failed`, `aborted` (closed without SessionStop), `silent`, `superseded`, `agent_stopped`.
        how: Arc<str>,
        /// What led to it, as the schema has it; empty if nothing did.
        reason: Arc<str>,
        /// Its length as far as it was heard, s.
        seconds: u64,
        /// Energy to the vehicle, Wh.
        import_wh: u64,
        /// Energy from the vehicle, Wh.
        export_wh: u64,
        /// `meter`, `integrated` or `mixed`.
        energy_source: Arc<str>,
        /// Messages that were understood.
        messages: u64,
        /// Frames that were not.
        unreadable: u64,
    },
    /// The session runs in TLS: there are no values to be had on this wire.
    Encrypted,
    /// Frames that cannot be read.
    Unreadable {
        /// Why: `garbage`, `undecodable`, `schema_mismatch`, `unknown_namespace`, …
        reason: Arc<str>,
        /// How many for this reason since the last such event.
        count: u64,
        /// The negotiated namespace; empty if none is known.
        namespace: Arc<str>,
    },
    /// Frames can be read again.
    Readable {
        /// How many could not, since the last time.
        count: u64,
    },
    /// The station's feed is connected.
    FeedConnected,
    /// It is not any more.
    FeedLost {
        /// What ended it.
        reason: Arc<str>,
    },
    /// Senders that were not let in: no feed of theirs was heard.
    FeedRefused {
        /// Why: `tls_unknown_ca`, `tls_no_certificate`, `tls_expired`, `tls_not_spoken`, …
        reason: Arc<str>,
        /// How many for this reason since the last such event.
        count: u64,
        /// The last one: its address, what happened, and what to do.
        detail: Arc<str>,
    },
}

/// A field of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionFact<'a> {
    /// Words.
    Text(&'a str),
    /// A count.
    Count(u64),
}

impl SessionEvent {
    /// The tag `kind` on the wire.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Started { .. } => "session_started",
            Self::Phase { .. } => "session_phase",
            Self::Notified { .. } => "session_notified",
            Self::Failed { .. } => "session_failed",
            Self::Ended { .. } => "session_ended",
            Self::Encrypted => "session_encrypted",
            Self::Unreadable { .. } => "session_unreadable",
            Self::Readable { .. } => "session_readable",
            Self::FeedConnected => "feed_connected",
            Self::FeedLost { .. } => "feed_lost",
            Self::FeedRefused { .. } => "feed_refused",
        }
    }

    /// Its fields on the wire, in order; empty texts are left out, and at least one field is there.
    #[must_use]
    pub fn facts(&self) -> Vec<(&'static str, SessionFact<'_>)> {
        use SessionFact::{Count, Text};
        let all = match self {
            Self::Started { protocol, namespace, evse_id, how } => {
                vec![
                    ("how", Text(how)),
                    ("protocol", Text(protocol)),
                    ("namespace", Text(namespace)),
                    ("evse_id", Text(evse_id)),
                ]
            }
            Self::Phase { phase, before } => vec![("phase", Text(phase)), ("before", Text(before))],
            Self::Notified { what } => vec![("what", Text(what))],
            Self::Failed { code, message } => vec![("code", Text(code)), ("message", Text(message))],
            Self::Ended { how, reason, seconds, import_wh, export_wh, energy_source, messages, unreadable } => vec![
                ("how", Text(how)),
                ("reason", Text(reason)),
                ("seconds", Count(*seconds)),
                ("import_wh", Count(*import_wh)),
                ("export_wh", Count(*export_wh)),
                ("energy_source", Text(energy_source)),
                ("messages", Count(*messages)),
                ("unreadable", Count(*unreadable)),
            ],
            Self::Encrypted => vec![("reason", Text("tls"))],
            Self::Unreadable { reason, count, namespace } => {
                vec![("reason", Text(reason)), ("count", Count(*count)), ("namespace", Text(namespace))]
            }
            Self::Readable { count } => vec![("count", Count(*count))],
            Self::FeedConnected => vec![("reason", Text("connected"))],
            Self::FeedLost { reason } => vec![("reason", Text(reason))],
            Self::FeedRefused { reason, count, detail } => {
                vec![("reason", Text(reason)), ("count", Count(*count)), ("detail", Text(detail))]
            }
        };
        all.into_iter().filter(|(_, fact)| *fact != Text("")).collect()
    }
}
