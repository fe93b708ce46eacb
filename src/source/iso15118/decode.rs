//! From the payload of one frame to what it says, by the protocol that the session has agreed on.

use std::fmt;
use std::sync::Arc;

use iso15118::app_protocol::{ResponseCode, SupportedAppProtocolReq, SupportedAppProtocolRes};
use iso15118::exi::{ExiDocument, ExiError, ExiResult};
use iso15118::iso20::{ac, dc, messages};
use iso15118::{Protocol, iso2};

use super::message::{Act, Heard};
use super::tolerance::{self, Behind};
use super::{din, iso2 as part2, iso20 as part20};

/// What the two have agreed on, as far as it was heard.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Agreed {
    /// The handshake was not heard: the first message that fits a schema decides.
    #[default]
    Unheard,
    /// A protocol that can be read.
    On(Protocol),
    /// A namespace that is none of those.
    Foreign,
}

/// Why a frame could not be read. Each is counted by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Unreadable {
    /// No V2GTP header where a frame should begin.
    Garbage,
    /// A frame longer than any message (64 KiB).
    TooLong,
    /// The connection ended, or bytes went missing, in the midst of a frame.
    Truncated,
    /// TCP bytes that never came by.
    Lost,
    /// A payload type that carries no message.
    PayloadType,
    /// A message that does not fit the negotiated schema, in a session in which none has fitted yet: another edition.
    SchemaMismatch,
    /// A message that does not fit the schema, among others that do.
    Undecodable,
    /// The negotiated namespace is none that we know.
    UnknownNamespace,
    /// A message set that this build does not have (WPT, ACDP, AC_DER).
    NoCodec,
    /// A message of another protocol than the negotiated one.
    OtherProtocol,
    /// A record of the mirror feed that is none: the feed is closed.
    BadRecord,
    /// A record for a connector that no device of this bus has.
    UnknownConnector,
    /// Messages of another session in the midst of one that goes on.
    OtherSession,
    /// Bytes behind a message in its frame: the message is read, and they are not.
    TrailingBytes,
}

impl Unreadable {
    /// Every reason.
    pub const ALL: [Self; 14] = [
        Self::Garbage,
        Self::TooLong,
        Self::Truncated,
        Self::Lost,
        Self::PayloadType,
        Self::SchemaMismatch,
        Self::Undecodable,
        Self::UnknownNamespace,
        Self::NoCodec,
        Self::OtherProtocol,
        Self::BadRecord,
        Self::UnknownConnector,
        Self::OtherSession,
        Self::TrailingBytes,
    ];

    /// The word in `status` and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Garbage => "garbage",
            Self::TooLong => "too_long",
            Self::Truncated => "truncated",
            Self::Lost => "lost",
            Self::PayloadType => "payload_type",
            Self::SchemaMismatch => "schema_mismatch",
            Self::Undecodable => "undecodable",
            Self::UnknownNamespace => "unknown_namespace",
            Self::NoCodec => "no_codec",
            Self::OtherProtocol => "other_protocol",
            Self::BadRecord => "bad_record",
            Self::UnknownConnector => "unknown_connector",
            Self::OtherSession => "other_session",
            Self::TrailingBytes => "trailing_bytes",
        }
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What decoding one payload came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decoded {
    /// A message of this protocol; `None` is the handshake.
    As(Option<Protocol>),
    /// Not read.
    Not(Unreadable),
}

/// EXI payload types (ISO 15118-20, table 10; 0x8010 and 0x8011 of its amendment 1).
const HANDSHAKE_OR_2: u16 = 0x8001;
const COMMON: u16 = 0x8002;
const AC: u16 = 0x8003;
const DC: u16 = 0x8004;
const OTHER_20: [u16; 4] = [0x8005, 0x8006, 0x8010, 0x8011];

/// Whether a frame of this type may carry a message.
pub(super) fn is_message_type(payload_type: u16) -> bool {
    matches!(payload_type, HANDSHAKE_OR_2 | COMMON | AC | DC) || OTHER_20.contains(&payload_type)
}

/// Reads one payload into `heard`, which is cleared first.
pub(super) fn decode(agreed: &Agreed, payload_type: u16, payload: &[u8], heard: &mut Heard) -> Decoded {
    heard.clear();
    match payload_type {
        HANDSHAKE_OR_2 => first_generation(agreed, payload, heard),
        COMMON => second_generation(agreed, payload, heard, common),
        AC => second_generation(agreed, payload, heard, energy_ac),
        DC => second_generation(agreed, payload, heard, energy_dc),
        other if OTHER_20.contains(&other) => Decoded::Not(Unreadable::NoCodec),
        _ => Decoded::Not(Unreadable::PayloadType),
    }
}

type Read = fn(&[u8], &mut Heard) -> ExiResult<()>;

fn part_2(bytes: &[u8], heard: &mut Heard) -> ExiResult<()> {
    let document = iso2::Document::from_bytes(bytes)?;
    if part2::read(&document, heard) { Ok(()) } else { Err(ExiError::MissingElement) }
}

fn common(bytes: &[u8], heard: &mut Heard) -> ExiResult<()> {
    messages::Document::from_bytes(bytes).map(|document| part20::read_common(&document, heard))
}

fn energy_ac(bytes: &[u8], heard: &mut Heard) -> ExiResult<()> {
    ac::Document::from_bytes(bytes).map(|document| part20::read_ac(&document, heard))
}

fn energy_dc(bytes: &[u8], heard: &mut Heard) -> ExiResult<()> {
    dc::Document::from_bytes(bytes).map(|document| part20::read_dc(&document, heard))
}

/// The handshake, ISO 15118-2 and DIN share a payload type, and older stacks send a set-up of -20 under it. The handshake
/// can come at any time: a new session whose predecessor was not heard to end. Its document code differs from that
/// of a message in the first two bits.
fn first_generation(agreed: &Agreed, payload: &[u8], heard: &mut Heard) -> Decoded {
    if handshake(payload, Behind::Zeros, heard) {
        return Decoded::As(None);
    }
    let readers: [(Protocol, Read); 5] = [
        (Protocol::Iso20, common),
        (Protocol::Iso20, energy_dc),
        (Protocol::Iso20, energy_ac),
        (Protocol::Iso2, part_2),
        (Protocol::Din70121, din::read),
    ];
    let is_asked = |protocol: Protocol| match agreed {
        Agreed::On(Protocol::Iso2) => protocol == Protocol::Iso2,
        Agreed::On(Protocol::Din70121) => protocol == Protocol::Din70121,
        // After one of -20 a session of the first generation may follow whose beginning was not heard.
        Agreed::On(_) => true,
        Agreed::Unheard => protocol != Protocol::Iso20,
        Agreed::Foreign => false,
    };
    let asked = || readers.into_iter().filter(|(protocol, _)| is_asked(*protocol));
    if let Some((protocol, _)) = asked().find(|(_, read)| tolerance::read(payload, Behind::Zeros, heard, read).is_ok())
    {
        return Decoded::As(Some(protocol));
    }
    let is_known = matches!(agreed, Agreed::On(Protocol::Iso2 | Protocol::Din70121));
    let mut known = asked().filter(|_| is_known);
    match known.find(|(_, read)| tolerance::read(payload, Behind::Anything, heard, read).is_ok()) {
        Some((protocol, _)) => Decoded::As(Some(protocol)),
        None if handshake(payload, Behind::Anything, heard) => Decoded::As(None),
        None => Decoded::Not(match agreed {
            Agreed::On(Protocol::Iso2 | Protocol::Din70121) | Agreed::Unheard => Unreadable::Undecodable,
            Agreed::On(_) => Unreadable::OtherProtocol,
            Agreed::Foreign => Unreadable::UnknownNamespace,
        }),
    }
}

/// -20 says by its payload type what it is.
fn second_generation(agreed: &Agreed, payload: &[u8], heard: &mut Heard, read: Read) -> Decoded {
    let behind = match agreed {
        Agreed::On(Protocol::Iso2 | Protocol::Din70121) => Behind::Zeros,
        _ => Behind::Anything,
    };
    match (tolerance::read(payload, behind, heard, read), agreed) {
        (Ok(()), _) => Decoded::As(Some(Protocol::Iso20)),
        (Err(_), Agreed::On(Protocol::Iso2 | Protocol::Din70121)) => Decoded::Not(Unreadable::OtherProtocol),
        (Err(_), _) => Decoded::Not(Unreadable::Undecodable),
    }
}

fn handshake(payload: &[u8], behind: Behind, heard: &mut Heard) -> bool {
    // 10: EXI header; then 00 is the request, 01 the answer.
    match payload.get(1).map(|byte| byte >> 6) {
        Some(0b00) => tolerance::read(payload, behind, heard, offer).is_ok(),
        Some(0b01) => tolerance::read(payload, behind, heard, choice).is_ok(),
        _ => false,
    }
}

fn offer(bytes: &[u8], heard: &mut Heard) -> ExiResult<()> {
    let offer = SupportedAppProtocolReq::from_bytes(bytes)?;
    heard.name = "supportedAppProtocolReq";
    let entries = offer.app_protocols.into_iter().map(|entry| (entry.schema_id, entry.protocol_namespace));
    heard.act = Act::Offer(entries.collect());
    Ok(())
}

fn choice(bytes: &[u8], heard: &mut Heard) -> ExiResult<()> {
    let choice = SupportedAppProtocolRes::from_bytes(bytes)?;
    heard.name = "supportedAppProtocolRes";
    heard.respond(match choice.response_code {
        ResponseCode::OkSuccessfulNegotiation => "OK_SuccessfulNegotiation",
        ResponseCode::OkSuccessfulNegotiationWithMinorDeviation => "OK_SuccessfulNegotiationWithMinorDeviation",
        ResponseCode::FailedNoNegotiation => "Failed_NoNegotiation",
    });
    heard.act = Act::Choice(choice.schema_id);
    Ok(())
}

/// What a namespace means to us.
pub(super) fn agreed_on(namespace: &str) -> Agreed {
    Protocol::from_namespace(namespace).map_or(Agreed::Foreign, Agreed::On)
}

/// The names that the field knows.
pub(super) fn protocol_name(protocol: Protocol) -> Arc<str> {
    protocol.as_str().into()
}
