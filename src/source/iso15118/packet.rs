//! Ethernet II, IPv6, TCP and UDP, as far as a charging session needs them. Pure, and total: what is cut off or odd is no
//! packet. Checksums are not looked at: on the sending host they are not filled in yet.

use std::net::Ipv6Addr;

const ETHERTYPE_IPV6: u16 = 0x86dd;
/// 802.1Q and 802.1ad.
const ETHERTYPES_VLAN: [u16; 2] = [0x8100, 0x88a8];
/// Two VLAN tags are the most that are in use.
const TAGS_MAX: usize = 2;
/// Hop-by-hop, routing, destination options (RFC 8200, 4).
const EXTENSIONS: [u8; 3] = [0, 43, 60];
const EXTENSIONS_MAX: usize = 4;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct End {
    pub(super) address: Ipv6Addr,
    pub(super) port: u16,
}

/// What passed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Packet<'a> {
    pub(super) from: End,
    pub(super) to: End,
    pub(super) content: Content<'a>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content<'a> {
    Tcp(Segment<'a>),
    Udp(&'a [u8]),
}

/// A TCP segment (RFC 9293, 3.1).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Segment<'a> {
    pub(super) seq: u32,
    pub(super) ack: Option<u32>,
    pub(super) syn: bool,
    pub(super) fin: bool,
    pub(super) rst: bool,
    pub(super) payload: &'a [u8],
}

/// The IPv6 packet in an Ethernet frame, if it is TCP or UDP and whole.
pub(super) fn parse(frame: &[u8]) -> Option<Packet<'_>> {
    let mut ethertype = u16_at(frame, 12)?;
    let mut rest = frame.get(14..)?;
    for _ in 0..TAGS_MAX {
        if ETHERTYPES_VLAN.contains(&ethertype) {
            ethertype = u16_at(rest, 2)?;
            rest = rest.get(4..)?;
        }
    }
    if ethertype != ETHERTYPE_IPV6 {
        return None;
    }
    let header: &[u8; 40] = rest.first_chunk()?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let length = usize::from(u16_at(header, 4)?);
    let (from, to) = (address(&header[8..24])?, address(&header[24..40])?);
    // Behind it there may be padding to Ethernet's least length. 0 is a jumbogram, or a packet that the host has yet to cut.
    let behind = rest.get(40..)?;
    let mut payload = if length == 0 { behind } else { behind.get(..length)? };
    let mut next = header[6];
    for _ in 0..EXTENSIONS_MAX {
        if EXTENSIONS.contains(&next) {
            let size = 8 * (usize::from(*payload.get(1)?) + 1);
            next = *payload.first()?;
            payload = payload.get(size..)?;
        }
    }
    let from = End { address: from, port: u16_at(payload, 0)? };
    let to = End { address: to, port: u16_at(payload, 2)? };
    let content = match next {
        TCP => Content::Tcp(segment(payload)?),
        UDP => Content::Udp(payload.get(8..)?),
        _ => return None,
    };
    Some(Packet { from, to, content })
}

fn segment(bytes: &[u8]) -> Option<Segment<'_>> {
    let offset = 4 * usize::from(bytes.get(12)? >> 4);
    let flags = *bytes.get(13)?;
    let has = |bit: u8| flags & bit != 0;
    if offset < 20 {
        return None;
    }
    Some(Segment {
        seq: u32_at(bytes, 4)?,
        ack: if has(0x10) { u32_at(bytes, 8) } else { None },
        fin: has(0x01),
        syn: has(0x02),
        rst: has(0x04),
        payload: bytes.get(offset..)?,
    })
}

fn address(bytes: &[u8]) -> Option<Ipv6Addr> {
    bytes.first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// Packets as a test's wire has them.
#[cfg(test)]
pub(super) mod testing {
    use super::*;

    pub(crate) fn end(last: u16, port: u16) -> End {
        End { address: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, last), port }
    }

    fn ethernet(from: End, to: End, next: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend(ETHERTYPE_IPV6.to_be_bytes());
        frame.extend([0x60, 0, 0, 0]);
        frame.extend(u16::try_from(payload.len()).expect("short").to_be_bytes());
        frame.extend([next, 64]);
        frame.extend(from.address.octets());
        frame.extend(to.address.octets());
        frame.extend(payload);
        frame.resize(frame.len().max(60), 0);
        frame
    }

    pub(crate) fn tcp(from: End, to: End, seq: u32, ack: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
        let mut segment = Vec::new();
        segment.extend(from.port.to_be_bytes());
        segment.extend(to.port.to_be_bytes());
        segment.extend(seq.to_be_bytes());
        segment.extend(ack.to_be_bytes());
        segment.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        segment.extend(payload);
        ethernet(from, to, TCP, &segment)
    }

    pub(crate) fn udp(from: End, to: End, payload: &[u8]) -> Vec<u8> {
        let mut datagram = Vec::new();
        datagram.extend(from.port.to_be_bytes());
        datagram.extend(to.port.to_be_bytes());
        datagram.extend([0, 0, 0, 0]);
        datagram.extend(payload);
        ethernet(from, to, UDP, &datagram)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::testing::{end, tcp};
    use super::*;

    #[test]
    fn padding_is_no_payload_and_a_vlan_tag_no_hindrance() {
        let (ev, se) = (end(1, 50_000), end(2, 61_341));
        let plain = tcp(ev, se, 7, 9, 0x18, b"x");
        let tagged = [&plain[..12], &[0x81, 0, 0, 5], &plain[12..]].concat();
        for frame in [plain, tagged] {
            let packet = parse(&frame).expect("a packet");
            assert_eq!((packet.from, packet.to), (ev, se));
            let expected = Segment { seq: 7, ack: Some(9), syn: false, fin: false, rst: false, payload: b"x" };
            assert_eq!(packet.content, Content::Tcp(expected));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_and_no_cut_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120), cut in 0_usize..100) {
            let _ = parse(&bytes);
            let mut frame = tcp(end(1, 1), end(2, 2), 1, 1, 0x10, &bytes);
            frame.truncate(cut);
            let _ = parse(&frame);
        }
    }
}
