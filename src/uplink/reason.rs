//! MQTT 5 reason codes: their names, whose fault they tell of, and what a person can do (MQTT 5.0, 2.4).

/// What a code asks of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FaultDomain {
    /// It went well.
    Nobody,
    /// It may go well later.
    Moment,
    /// It goes wrong until a person changes something; the entry itself is good.
    Setup,
    /// This one entry is not wanted, now or later.
    Entry,
}

/// A reason code, explained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reason {
    pub(super) code: u8,
    pub(super) name: &'static str,
    pub(super) domain: FaultDomain,
    pub(super) remedy: &'static str,
}

const WAIT: &str = "nothing; the gateway tries again by itself";
const LOG: &str = "look into the broker's log";
/// To a broker of MQTT 3.1.1.
pub(super) const OLD: &str = "the broker must speak MQTT 5; update it, or enable version 5";
const OLD_ACL: &str = "the broker answers in MQTT 3.1.1, where this is what 0x87 (Not authorized) is in MQTT 5: allow this \
    gateway at the broker, and enable version 5";

/// 0x87 in a CONNACK: the broker does not know us. Nothing was written yet that an ACL could forbid.
const UNKNOWN_TO_IT: &str = "correct [uplink] username and password_file, or what the broker knows this gateway by \
    (password, certificate, client id); then look whether its ACL lets it connect";

/// Every code that a server may send in CONNACK, PUBACK or DISCONNECT.
const REASONS: [Reason; 41] = [
    reason(0x00, "Success", FaultDomain::Nobody, WAIT),
    // What a broker of MQTT 3.1.1 answers to a CONNECT of MQTT 5 (MQTT 3.1.1, 3.2.2.3).
    reason(0x01, "Unacceptable protocol version, of MQTT 3.1.1", FaultDomain::Setup, OLD),
    reason(0x02, "Identifier rejected, of MQTT 3.1.1", FaultDomain::Setup, OLD),
    reason(0x03, "Server unavailable, of MQTT 3.1.1", FaultDomain::Setup, OLD),
    reason(0x04, "Disconnect with Will Message, or bad user name or password of MQTT 3.1.1", FaultDomain::Setup, OLD),
    reason(0x05, "Not authorized, of MQTT 3.1.1", FaultDomain::Setup, OLD_ACL),
    reason(0x10, "No matching subscribers", FaultDomain::Nobody, "nothing; the broker has it, nobody listens yet"),
    reason(0x80, "Unspecified error", FaultDomain::Moment, LOG),
    reason(0x81, "Malformed Packet", FaultDomain::Setup, "update broker or agent; one of them is not MQTT 5"),
    reason(0x82, "Protocol Error", FaultDomain::Setup, "update broker or agent; one of them is not MQTT 5"),
    reason(0x83, "Implementation specific error", FaultDomain::Moment, LOG),
    reason(0x84, "Unsupported Protocol Version", FaultDomain::Setup, OLD),
    reason(
        0x85,
        "Client Identifier not valid",
        FaultDomain::Setup,
        "set [uplink] client_id to one that the broker allows",
    ),
    reason(
        0x86,
        "Bad User Name or Password",
        FaultDomain::Setup,
        "correct [uplink] username and password_file, or the credentials at the broker",
    ),
    reason(
        0x87,
        "Not authorized",
        FaultDomain::Setup,
        "allow this gateway to write below its topic prefix in the broker's ACL (an MQTT 3.1.1 broker calls this 0x05)",
    ),
    reason(0x88, "Server unavailable", FaultDomain::Moment, WAIT),
    reason(0x89, "Server busy", FaultDomain::Moment, WAIT),
    reason(0x8a, "Banned", FaultDomain::Setup, "lift the ban at the broker"),
    reason(0x8b, "Server shutting down", FaultDomain::Moment, WAIT),
    reason(0x8c, "Bad authentication method", FaultDomain::Setup, "allow client certificates at the broker"),
    reason(0x8d, "Keep Alive timeout", FaultDomain::Moment, "check the link; raise [uplink] keep_alive on a slow one"),
    reason(
        0x8e,
        "Session taken over",
        FaultDomain::Setup,
        "another client uses this client id: give each gateway its own gateway.id or [uplink] client_id",
    ),
    reason(0x8f, "Topic Filter invalid", FaultDomain::Setup, "correct the topic prefix"),
    reason(0x90, "Topic Name invalid", FaultDomain::Setup, "correct [uplink] topic_prefix"),
    reason(0x91, "Packet Identifier in use", FaultDomain::Moment, WAIT),
    reason(0x92, "Packet Identifier not found", FaultDomain::Moment, WAIT),
    reason(0x93, "Receive Maximum exceeded", FaultDomain::Moment, "lower [uplink] in_flight_max"),
    reason(0x94, "Topic Alias invalid", FaultDomain::Setup, LOG),
    reason(
        0x95,
        "Packet too large",
        FaultDomain::Entry,
        "raise the broker's maximum packet size, or shorten [aggregate] window",
    ),
    reason(0x96, "Message rate too high", FaultDomain::Moment, "lower [uplink] history_rate_max"),
    reason(0x97, "Quota exceeded", FaultDomain::Moment, "raise the broker's quota for this client"),
    reason(0x98, "Administrative action", FaultDomain::Moment, "ask who manages the broker"),
    reason(
        0x99,
        "Payload format invalid",
        FaultDomain::Entry,
        "turn off payload validation at the broker, or allow UTF-8",
    ),
    reason(0x9a, "Retain not supported", FaultDomain::Setup, "enable retained messages at the broker"),
    reason(0x9b, "QoS not supported", FaultDomain::Setup, "enable QoS 1 at the broker"),
    reason(
        0x9c,
        "Use another server",
        FaultDomain::Setup,
        "nothing if the broker names the other server; else write it into [uplink] brokers",
    ),
    reason(
        0x9d,
        "Server moved",
        FaultDomain::Setup,
        "nothing if the broker names the other server; else write it into [uplink] brokers",
    ),
    reason(0x9e, "Shared Subscriptions not supported", FaultDomain::Setup, LOG),
    reason(0x9f, "Connection rate exceeded", FaultDomain::Moment, WAIT),
    reason(0xa0, "Maximum connect time", FaultDomain::Moment, WAIT),
    reason(
        0xa2,
        "Wildcard Subscriptions not supported",
        FaultDomain::Setup,
        "enable wildcard subscriptions at the broker",
    ),
];

const fn reason(code: u8, name: &'static str, domain: FaultDomain, remedy: &'static str) -> Reason {
    Reason { code, name, domain, remedy }
}

impl Reason {
    /// The reason with this code. An unknown code from 0x80 on is taken as a failure of the moment.
    pub(super) fn of(code: u8) -> Self {
        let unknown = if code < 0x80 { FaultDomain::Nobody } else { FaultDomain::Moment };
        REASONS.into_iter().find(|r| r.code == code).unwrap_or(reason(code, "Unknown reason code", unknown, LOG))
    }

    /// The same in answer to CONNECT, where a code can have another cure than in answer to a message.
    pub(super) fn of_connack(code: u8) -> Self {
        let reason = Self::of(code);
        if code == 0x87 { Self { remedy: UNKNOWN_TO_IT, ..reason } } else { reason }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (0x{:02X})", self.name, self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_listed_once_in_order_and_has_a_remedy() {
        assert!(REASONS.is_sorted_by(|a, b| a.code < b.code));
        assert!(REASONS.iter().all(|r| !r.remedy.is_empty()));
    }

    #[test]
    fn not_authorized_is_who_we_are_at_the_connection_and_what_we_may_write_at_a_message() {
        let (at_connect, at_message) = (Reason::of_connack(0x87).remedy, Reason::of(0x87).remedy);
        assert!(at_connect.starts_with("correct [uplink] username and password_file"), "{at_connect}");
        assert!(at_message.starts_with("allow this gateway to write below its topic prefix"), "{at_message}");
        let others = (0..=255).filter(|code| *code != 0x87);
        assert!(others.into_iter().all(|code| Reason::of_connack(code) == Reason::of(code)));
    }

    #[test]
    fn only_the_entrys_own_reasons_blame_the_entry() {
        let blamed: Vec<u8> = (0..=255).filter(|code| Reason::of(*code).domain == FaultDomain::Entry).collect();
        assert_eq!(blamed, [0x95, 0x99]);
        let setup: Vec<u8> = (0..0x80).filter(|code| Reason::of(*code).domain == FaultDomain::Setup).collect();
        assert_eq!(setup, [1, 2, 3, 4, 5], "the answers of MQTT 3.1.1");
        assert!((0x80..=255).all(|code| Reason::of(code).domain != FaultDomain::Nobody));
    }
}
