//! MQTT 5 packets, to and from bytes. Pure.
//!
//! The packets are rumqttc's. What decides about a connection or an entry is read here from the bytes themselves first
//! (CONNACK, PUBACK, DISCONNECT: MQTT 5.0, 3.2, 3.4, 3.14), so that a reason code that nobody has heard of, a short
//! form, or an answer in the form of MQTT 3.1.1 is an answer and not a broken connection.

use bytes::{BufMut, Bytes, BytesMut};
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    Connect, ConnectProperties, Filter, LastWill, LastWillProperties, Login, Packet, Publish, PublishProperties,
    Subscribe,
};

/// A fixed header: one byte of type, one to four of length.
const HEADER_MAX: usize = 5;

/// What came in.
#[derive(Debug)]
pub(super) enum Incoming {
    ConnAck(Answer),
    PubAck {
        id: u16,
        code: u8,
        why: Option<String>,
    },
    Publish(Box<Publish>),
    Disconnect {
        code: u8,
        why: Option<String>,
        server: Option<String>,
    },
    /// A SUBACK of one filter.
    SubAck {
        code: u8,
    },
    /// PINGRESP and all that we have no use for.
    Other,
}

/// A CONNACK.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) code: u8,
    pub(super) session_present: bool,
    pub(super) why: Option<String>,
    pub(super) server: Option<String>,
    pub(super) receive_maximum: Option<u16>,
    pub(super) packet_bytes_max: Option<u32>,
    pub(super) topic_alias_max: u16,
    pub(super) qos_max: Option<u8>,
    pub(super) retains: bool,
    pub(super) keep_alive: Option<u16>,
    pub(super) assigned_client_id: Option<String>,
    pub(super) session_expiry: Option<u32>,
}

/// Bytes that are not MQTT 5.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("a packet of {0} bytes; more than {1} is not taken")]
    TooLarge(usize, usize),
    #[error("a length that does not end")]
    Length,
    #[error("a packet of type {0} that is not MQTT 5")]
    Packet(u8),
}

/// Takes the next whole packet out of what has come in; `None` until there is one.
pub(super) fn next(buffer: &mut BytesMut, bytes_max: usize) -> Result<Option<Incoming>, Malformed> {
    let Some((header, length)) = length(buffer)? else { return Ok(None) };
    if length > bytes_max {
        return Err(Malformed::TooLarge(length, bytes_max));
    }
    if buffer.len() < header + length {
        buffer.reserve(header + length - buffer.len());
        return Ok(None);
    }
    read(buffer.split_to(header + length), header).map(Some)
}

/// The lengths of the fixed header and of what follows.
fn length(buffer: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let mut length = 0;
    for (n, byte) in buffer.iter().enumerate().skip(1).take(HEADER_MAX - 1) {
        length |= usize::from(byte & 0x7f) << (7 * (n - 1));
        if byte & 0x80 == 0 {
            return Ok(Some((n + 1, length)));
        }
    }
    if buffer.len() >= HEADER_MAX { Err(Malformed::Length) } else { Ok(None) }
}

fn read(frame: BytesMut, header: usize) -> Result<Incoming, Malformed> {
    let kind = frame[0] >> 4;
    let body = &frame[header..];
    let malformed = Malformed::Packet(kind);
    match kind {
        2 => {
            let [flags, code, ..] = *body else { return Err(malformed) };
            Ok(Incoming::ConnAck(answer(flags, code, frame)))
        }
        3 => match Packet::read(&mut { frame }, None) {
            Ok(Packet::Publish(publish)) => Ok(Incoming::Publish(Box::new(publish))),
            _ => Err(malformed),
        },
        4 => {
            let [high, low, ref rest @ ..] = *body else { return Err(malformed) };
            // Without a code it is a success (3.4.2.1).
            let (id, code) = (u16::from_be_bytes([high, low]), rest.first().copied().unwrap_or(0));
            let packet = if rest.len() > 1 { whole(frame) } else { None };
            let why = packet.and_then(|packet| match packet {
                Packet::PubAck(ack) => ack.properties.and_then(|p| p.reason_string),
                _ => None,
            });
            Ok(Incoming::PubAck { id, code, why })
        }
        // Packet id, properties, and one code for each filter (3.9).
        9 => Ok(Incoming::SubAck { code: body.last().copied().ok_or(malformed)? }),
        14 => {
            let code = body.first().copied().unwrap_or(0);
            let properties = whole(frame).and_then(|packet| match packet {
                Packet::Disconnect(disconnect) => disconnect.properties,
                _ => None,
            });
            let (why, server) = properties.map_or((None, None), |p| (p.reason_string, p.server_reference));
            Ok(Incoming::Disconnect { code, why, server })
        }
        // A broker has no business to send CONNECT, SUBSCRIBE, UNSUBSCRIBE, PINGREQ or type 0.
        0 | 1 | 8 | 10 | 12 => Err(malformed),
        _ => Ok(Incoming::Other),
    }
}

fn whole(mut frame: BytesMut) -> Option<Packet> {
    Packet::read(&mut frame, None).ok()
}

fn answer(flags: u8, code: u8, frame: BytesMut) -> Answer {
    let mut answer = Answer { code, session_present: flags & 1 == 1, retains: true, ..Answer::default() };
    // The crate refuses an answer whose code it does not know; its properties are worth reading all the same.
    let mut known = frame;
    if let Some(at) = code_at(&known) {
        known[at] = 0;
    }
    if let Some(Packet::ConnAck(ack)) = whole(known)
        && let Some(p) = ack.properties
    {
        answer.why = p.reason_string;
        answer.server = p.server_reference;
        answer.receive_maximum = p.receive_max;
        answer.packet_bytes_max = p.max_packet_size;
        answer.topic_alias_max = p.topic_alias_max.unwrap_or(0);
        answer.qos_max = p.max_qos;
        answer.retains = p.retain_available != Some(0);
        answer.keep_alive = p.server_keep_alive;
        answer.assigned_client_id = p.assigned_client_identifier;
        answer.session_expiry = p.session_expiry_interval;
    }
    answer
}

fn code_at(frame: &[u8]) -> Option<usize> {
    length(frame).ok().flatten().map(|(header, _)| header + 1)
}

/// Who we are, in a CONNECT.
pub(super) struct Introduction<'a> {
    pub(super) client_id: &'a str,
    pub(super) keep_alive_s: u16,
    /// Seconds for which the broker keeps the session; `None` for a clean one.
    pub(super) session_kept_s: Option<u32>,
    pub(super) bytes_max: u32,
    /// Topic, payload, retained or not; and how long the broker waits with it.
    pub(super) will: Option<(&'a str, &'a str, bool, u32)>,
    pub(super) login: Option<(&'a str, &'a str)>,
}

/// Writes a CONNECT.
pub(super) fn connect(out: &mut BytesMut, who: &Introduction<'_>) -> Result<(), Malformed> {
    let mut properties = ConnectProperties::new();
    properties.session_expiry_interval = who.session_kept_s;
    properties.max_packet_size = Some(who.bytes_max);
    let connect = Connect {
        keep_alive: who.keep_alive_s,
        client_id: who.client_id.to_owned(),
        clean_start: who.session_kept_s.is_none(),
        properties: Some(properties),
    };
    let will = who.will.map(|(topic, payload, retain, delay_s)| {
        let properties = LastWillProperties {
            delay_interval: Some(delay_s),
            payload_format_indicator: Some(1),
            message_expiry_interval: None,
            content_type: Some("application/json".to_owned()),
            response_topic: None,
            correlation_data: None,
            user_properties: Vec::new(),
        };
        LastWill::new(topic, payload, QoS::AtLeastOnce, retain, Some(properties))
    });
    let login = who.login.map(|(name, password)| Login::new(name, password));
    write(out, &Packet::Connect(connect, will, login))
}

/// A CONNECT of MQTT 3.1.1 with a clean session, and the DISCONNECT after its answer (MQTT 3.1.1, 3.1 and 3.14). Its
/// client id is of a length that every server of that version takes.
pub(super) fn connect_3_1_1(out: &mut BytesMut, login: Option<(&str, &str)>) -> Result<(), Malformed> {
    let mut connect = rumqttc::mqttbytes::v4::Connect::new("v2g-edge-doctor");
    if let Some((name, password)) = login {
        connect.set_login(name, password);
    }
    connect.write(out).map(drop).map_err(|_| Malformed::Length)
}

/// A message to be sent, QoS 1.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) id: u16,
    pub(super) topic: String,
    /// In place of the topic: the broker knows it by this number, or learns it now.
    pub(super) alias: Option<(u16, bool)>,
    pub(super) retain: bool,
    pub(super) content_type: &'static str,
    pub(super) properties: Vec<(String, String)>,
    pub(super) payload: String,
}

/// Writes a PUBLISH.
pub(super) fn publish(out: &mut BytesMut, message: Outgoing) -> Result<(), Malformed> {
    let topic = match message.alias {
        Some((_, true)) => Bytes::new(),
        _ => Bytes::from(message.topic),
    };
    let properties = PublishProperties {
        payload_format_indicator: Some(1),
        content_type: Some(message.content_type.to_owned()),
        topic_alias: message.alias.map(|(alias, _)| alias),
        user_properties: message.properties,
        ..PublishProperties::default()
    };
    let publish = Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: message.retain,
        topic,
        pkid: message.id,
        payload: Bytes::from(message.payload),
        properties: Some(properties),
    };
    write(out, &Packet::Publish(publish))
}

/// Writes a SUBSCRIBE, QoS 1; `nolocal`: not for what we send ourselves.
pub(super) fn subscribe(out: &mut BytesMut, id: u16, filter: &str, nolocal: bool) -> Result<(), Malformed> {
    let filter = Filter { nolocal, ..Filter::new(filter, QoS::AtLeastOnce) };
    let subscribe = Subscribe { pkid: id, ..Subscribe::new(filter, None) };
    write(out, &Packet::Subscribe(subscribe))
}

/// Writes a PUBACK that says success.
pub(super) fn puback(out: &mut BytesMut, id: u16) {
    out.put_slice(&[0x40, 2]);
    out.put_u16(id);
}

/// Writes a PINGREQ.
pub(super) fn pingreq(out: &mut BytesMut) {
    out.put_slice(&[0xc0, 0]);
}

/// Writes a DISCONNECT, reason 0x00: the broker forgets the will.
pub(super) fn disconnect(out: &mut BytesMut) {
    out.put_slice(&[0xe0, 0]);
}

/// What cannot be written (a text above 65,535 bytes, a packet above 256 MiB) leaves `out` as it was.
fn write(out: &mut BytesMut, packet: &Packet) -> Result<(), Malformed> {
    let before = out.len();
    match packet.write(out, None) {
        Ok(_) => Ok(()),
        Err(_) => {
            out.truncate(before);
            Err(Malformed::Packet(0))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(bytes: &[u8]) -> Result<Option<Incoming>, Malformed> {
        next(&mut BytesMut::from(bytes), 1000)
    }

    #[test]
    fn an_answer_to_a_message_is_read_in_every_form() {
        let cases: [(&[u8], u8, Option<&str>); 5] = [
            (&[0x40, 2, 1, 2], 0, None),
            (&[0x40, 3, 1, 2, 0x97], 0x97, None),
            (&[0x40, 4, 1, 2, 0x10, 0], 0x10, None),
            (&[0x40, 9, 1, 2, 0x87, 5, 31, 0, 2, b'n', b'o'], 0x87, Some("no")),
            // A code that MQTT 5 does not have.
            (&[0x40, 3, 1, 2, 0xee], 0xee, None),
        ];
        for (bytes, expected, text) in cases {
            let Ok(Some(Incoming::PubAck { id, code, why })) = one(bytes) else { panic!("{bytes:?}") };
            assert_eq!((id, code, why.as_deref()), (0x0102, expected, text), "{bytes:?}");
        }
    }

    #[test]
    fn a_connack_is_read_with_its_limits_also_from_a_broker_of_mqtt_3() {
        let bytes = [0x20, 15, 0, 0x9c, 12, 0x21, 0, 7, 0x27, 0, 0, 4, 0, 0x25, 0, 0x24, 1];
        let Ok(Some(Incoming::ConnAck(answer))) = one(&bytes) else { panic!("no CONNACK") };
        assert_eq!((answer.code, answer.receive_maximum, answer.packet_bytes_max), (0x9c, Some(7), Some(1024)));
        assert!(!answer.retains);
        assert_eq!(answer.qos_max, Some(1));
        let Ok(Some(Incoming::ConnAck(old))) = one(&[0x20, 2, 0, 5]) else { panic!("no CONNACK") };
        assert_eq!(old.code, 5);
    }

    #[test]
    fn what_a_broker_says_to_a_subscription_is_read() {
        for code in [0, 1, 0x87] {
            let Ok(Some(Incoming::SubAck { code: read })) = one(&[0x90, 4, 0xff, 0xff, 0, code]) else {
                panic!("no SUBACK")
            };
            assert_eq!(read, code);
        }
        assert_eq!(one(&[0x90, 0]).err(), Some(Malformed::Packet(9)));
    }

    #[test]
    fn a_disconnect_is_read_with_and_without_a_reason() {
        let code = |bytes: &[u8]| match one(bytes) {
            Ok(Some(Incoming::Disconnect { code, server, .. })) => (code, server),
            other => panic!("{other:?}"),
        };
        assert_eq!(code(&[0xe0, 0]), (0, None));
        assert_eq!(code(&[0xe0, 1, 0x8b]), (0x8b, None));
        assert_eq!(code(&[0xe0, 1, 0xee]), (0xee, None));
        assert_eq!(code(&[0xe0, 7, 0x9d, 5, 28, 0, 2, b'h', b'1']), (0x9d, Some("h1".to_owned())));
    }

    #[test]
    fn what_is_written_is_read_by_the_crate() {
        let mut out = BytesMut::new();
        let message = |alias| Outgoing {
            id: 7,
            topic: "a/b".to_owned(),
            alias,
            retain: false,
            content_type: "t",
            properties: vec![("k".to_owned(), "v".to_owned())],
            payload: "p".to_owned(),
        };
        publish(&mut out, message(Some((1, false)))).expect("it fits");
        publish(&mut out, message(Some((1, true)))).expect("it fits");
        for topic in ["a/b", ""] {
            let Ok(Packet::Publish(read)) = Packet::read(&mut out, None) else { panic!("no PUBLISH") };
            assert_eq!((&read.topic[..], read.pkid, &read.payload[..]), (topic.as_bytes(), 7, &b"p"[..]));
            assert_eq!(read.properties.and_then(|p| p.topic_alias), Some(1));
        }
        assert!(out.is_empty());
    }

    proptest! {
        #[test]
        fn bytes_from_anybody_are_read_or_refused_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = next(&mut buffer, 100) {}
        }

        #[test]
        fn a_packet_comes_out_whole_however_it_is_cut(cuts in prop::collection::vec(1_usize..9, 1..20)) {
            let bytes: Vec<u8> = [&[0x40_u8, 3, 1, 2, 0x97][..], &[0xd0, 0], &[0x20, 3, 0, 0, 0]].concat();
            let (mut buffer, mut at, mut found) = (BytesMut::new(), 0, 0);
            for cut in cuts.into_iter().cycle() {
                let end = (at + cut).min(bytes.len());
                buffer.extend_from_slice(&bytes[at..end]);
                at = end;
                while let Some(_packet) = next(&mut buffer, 100).expect("well formed") {
                    found += 1;
                }
                if at == bytes.len() {
                    break;
                }
            }
            prop_assert_eq!((found, buffer.len()), (3, 0));
        }
    }
}
