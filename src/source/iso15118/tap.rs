//! Sessions out of the packets that pass between vehicle and station. Pure: packets and times in, a tracker's work out.
//!
//! SDP (ISO 15118-2, 7.10.1; UDP 15118) announces where the station listens and whether it wants TLS. A TCP connection on
//! link-local addresses is a session's when it goes to such a place, or when its bytes are V2GTP or TLS. Each direction is put
//! in order: what comes twice is dropped, what comes early waits; what the other end has acknowledged and never came by here is
//! lost, and told. Memory: [`FLOWS_MAX`] connections with [`EARLY_BYTES_MAX`] waiting in each direction.

use std::io;
use std::time::Duration;

use super::decode::Unreadable;
use super::frames::{Frames, Piece};
use super::packet::{Content, End, Packet, Segment, parse};
use super::tracker::Tracker;
use crate::measure::Mono;

/// A PLC link carries one session; others are leftovers.
const FLOWS_MAX: usize = 8;
const EARLY_BYTES_MAX: usize = 64 << 10;
const EARLY_SEGMENTS_MAX: usize = 64;
/// An acknowledgement may be captured before what it acknowledges; a lost frame must still be told within a second.
const GRACE: Duration = Duration::from_millis(100);
/// Half closed for so long is closed.
const HALF_CLOSED: Duration = Duration::from_secs(5);
/// A connection without a packet for so long has gone (V2G_SECC_Sequence_Timeout is 60 s).
const IDLE: Duration = Duration::from_secs(120);
const SDP_PORT: u16 = 15_118;
const SDP_RESPONSE: [u8; 8] = [0x01, 0xfe, 0x90, 0x01, 0, 0, 0, 20];

/// What to do about an interface that cannot be tapped.
pub(super) fn cure(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "give the agent CAP_NET_RAW (AmbientCapabilities=CAP_NET_RAW in its unit)",
        _ => "is it there (`ip link`), and is that its name?",
    }
}

/// All that is known of the packets on one interface.
#[derive(Debug, Default)]
pub struct Tap {
    flows: Vec<Flow>,
    /// Where the station listens, and whether with TLS, as SDP said last.
    announced: Option<(End, bool)>,
}

#[derive(Debug)]
struct Flow {
    ends: [End; 2],
    /// By the end that sends.
    sides: [Side; 2],
    kind: Kind,
    heard_at: Mono,
}

/// What a connection carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Not known yet.
    Unknown,
    /// V2GTP.
    Plain,
    /// TLS: told, and not looked at any more.
    Encrypted,
}

#[derive(Debug, Default)]
struct Side {
    /// The sequence number that comes next; not known before the first segment.
    next: Option<u32>,
    /// What came early, by sequence number.
    early: Vec<(u32, Vec<u8>)>,
    /// The other end has acknowledged all before this number; since when that is more than what has come.
    acknowledged: Option<(u32, Mono)>,
    /// Where the stream ends, if it is known.
    ends_at: Option<u32>,
    closed_at: Option<Mono>,
    frames: Frames,
}

/// Whether `a` lies before `b` in a number space that wraps around (RFC 9293, 3.4).
fn is_before(a: u32, b: u32) -> bool {
    a != b && b.wrapping_sub(a) < 1 << 31
}

impl Tap {
    /// An Ethernet frame passed.
    pub fn handle_packet(&mut self, frame: &[u8], now: Mono, tracker: &mut Tracker) {
        let Some(packet) = parse(frame) else { return };
        match packet.content {
            Content::Udp(payload) => self.handle_datagram(packet.from, payload, now, tracker),
            Content::Tcp(ref segment) => {
                if is_link_local(packet.from) && is_link_local(packet.to) {
                    self.handle_segment(&packet, segment, now, tracker);
                }
            }
        }
    }

    /// Time passes: at least ten times a second.
    pub fn poll(&mut self, now: Mono, tracker: &mut Tracker) {
        for flow in &mut self.flows {
            for side in &mut flow.sides {
                side.give_up(now, flow.kind, tracker);
            }
        }
        let is_over = |flow: &Flow| {
            let closed: Vec<Mono> = flow.sides.iter().filter_map(|side| side.closed_at).collect();
            let half = closed.iter().any(|at| now.since(*at) >= HALF_CLOSED);
            closed.len() == 2 || half || now.since(flow.heard_at) >= IDLE
        };
        self.remove(is_over, now, tracker);
    }

    fn remove(&mut self, is_over: impl Fn(&Flow) -> bool, now: Mono, tracker: &mut Tracker) {
        self.flows.retain_mut(|flow| {
            let over = is_over(flow);
            if over {
                flow.end(now, tracker);
            }
            !over
        });
    }

    fn handle_datagram(&mut self, from: End, payload: &[u8], now: Mono, tracker: &mut Tracker) {
        let Some(rest) = payload.strip_prefix(&SDP_RESPONSE).filter(|_| from.port == SDP_PORT) else { return };
        let (Some(octets), Some([p0, p1, security, _])) = (rest.first_chunk::<16>(), rest.get(16..20)) else { return };
        let end = End { address: (*octets).into(), port: u16::from_be_bytes([*p0, *p1]) };
        self.announced = Some((end, *security == 0));
        tracker.handle_discovery(now);
    }

    fn handle_segment(&mut self, packet: &Packet<'_>, segment: &Segment<'_>, now: Mono, tracker: &mut Tracker) {
        let ends = if packet.from < packet.to { [packet.from, packet.to] } else { [packet.to, packet.from] };
        let sender = usize::from(packet.from != ends[0]);
        let known = self.flows.iter().position(|flow| flow.ends == ends);
        // A connection that begins anew in the place of an old one.
        let is_anew = segment.syn && segment.ack.is_none();
        let index = match known {
            Some(index) if !is_anew => index,
            Some(index) if self.flows[index].sides[sender].next == Some(segment.seq.wrapping_add(1)) => index,
            _ => {
                self.remove(|flow| flow.ends == ends, now, tracker);
                if segment.rst || (segment.payload.is_empty() && !segment.syn) {
                    return;
                }
                if self.flows.len() == FLOWS_MAX {
                    let oldest = self.flows.iter().map(|flow| flow.heard_at).min();
                    self.remove(|flow| Some(flow.heard_at) == oldest, now, tracker);
                }
                self.flows.push(Flow { ends, sides: Default::default(), kind: Kind::Unknown, heard_at: now });
                self.flows.len() - 1
            }
        };
        let announced_tls = self.announced.is_some_and(|(end, tls)| tls && ends.contains(&end));
        let flow = &mut self.flows[index];
        flow.heard_at = now;
        if segment.rst {
            flow.end(now, tracker);
            self.flows.remove(index);
            return;
        }
        if let Some(ack) = segment.ack {
            flow.sides[1 - sender].acknowledge(ack, now);
        }
        flow.take(sender, segment, announced_tls, now, tracker);
    }
}

impl Flow {
    fn take(&mut self, sender: usize, segment: &Segment<'_>, announced_tls: bool, now: Mono, tracker: &mut Tracker) {
        if self.kind == Kind::Unknown && !segment.payload.is_empty() {
            self.kind = match segment.payload {
                [0x01, 0xfe, ..] => Kind::Plain,
                // A TLS record of version 3.x.
                [0x14..=0x17, 0x03, ..] => Kind::Encrypted,
                _ if announced_tls => Kind::Encrypted,
                _ => Kind::Unknown,
            };
            match self.kind {
                Kind::Plain => tracker.handle_open(now),
                Kind::Encrypted => tracker.handle_encrypted(now),
                Kind::Unknown => {}
            }
        }
        let kind = self.kind;
        let side = &mut self.sides[sender];
        side.take(segment, kind, now, tracker);
    }

    fn end(&mut self, now: Mono, tracker: &mut Tracker) {
        for side in &mut self.sides {
            if self.kind == Kind::Plain {
                side.frames.finish(|piece| hear(tracker, &piece, now));
            }
        }
        if self.kind != Kind::Unknown {
            tracker.handle_close(now);
        }
        self.kind = Kind::Unknown;
    }
}

impl Side {
    fn take(&mut self, segment: &Segment<'_>, kind: Kind, now: Mono, tracker: &mut Tracker) {
        let begin = if segment.syn { segment.seq.wrapping_add(1) } else { segment.seq };
        // Of an end that was silent so far an acknowledgement is heard before anything else.
        let next = match self.next {
            Some(next) if !segment.syn => next,
            before => {
                if before.is_none() && !segment.syn {
                    self.frames.join();
                }
                *self.next.insert(begin)
            }
        };
        #[allow(clippy::cast_possible_truncation, reason = "a segment is shorter than 64 KiB")]
        let end = begin.wrapping_add(segment.payload.len() as u32);
        if segment.fin {
            self.ends_at = Some(end);
        }
        if kind != Kind::Plain {
            // Nothing is read: only where the stream stands is kept.
            if is_before(next, end) {
                self.next = Some(end);
            }
        } else if !is_before(next, begin) {
            let old = usize::try_from(next.wrapping_sub(begin)).unwrap_or(usize::MAX);
            if let Some(new) = segment.payload.get(old..).filter(|new| !new.is_empty()) {
                self.frames.push(new, |piece| hear(tracker, &piece, now));
                self.next = Some(end);
            }
            self.catch_up(now, tracker);
        } else if !segment.payload.is_empty() {
            let waiting: usize = self.early.iter().map(|(_, bytes)| bytes.len()).sum();
            let fits = waiting + segment.payload.len() <= EARLY_BYTES_MAX && self.early.len() < EARLY_SEGMENTS_MAX;
            if fits && !self.early.iter().any(|(seq, bytes)| *seq == begin && bytes.len() >= segment.payload.len()) {
                self.early.push((begin, segment.payload.to_vec()));
            } else if !fits {
                self.leap(now, tracker);
            }
        }
        if self.ends_at.is_some() && self.ends_at == self.next {
            self.closed_at.get_or_insert(now);
        }
    }

    /// What waited and is next now.
    fn catch_up(&mut self, now: Mono, tracker: &mut Tracker) {
        while let Some(next) = self.next {
            let Some(at) = self.early.iter().position(|(seq, _)| !is_before(next, *seq)) else { return };
            let (seq, bytes) = self.early.swap_remove(at);
            let old = usize::try_from(next.wrapping_sub(seq)).unwrap_or(usize::MAX);
            if let Some(new) = bytes.get(old..).filter(|new| !new.is_empty()) {
                self.frames.push(new, |piece| hear(tracker, &piece, now));
                #[allow(clippy::cast_possible_truncation, reason = "a segment is shorter than 64 KiB")]
                let end = seq.wrapping_add(bytes.len() as u32);
                self.next = Some(end);
            }
        }
    }

    fn acknowledge(&mut self, ack: u32, now: Mono) {
        let Some(next) = self.next else { return };
        if !is_before(next, ack) {
            self.acknowledged = None;
        } else if self.acknowledged.is_none_or(|(before, _)| is_before(before, ack)) {
            let since = self.acknowledged.map_or(now, |(_, since)| since);
            self.acknowledged = Some((ack, since));
        }
    }

    /// What was acknowledged will not be sent again: what is missing of it never comes.
    fn give_up(&mut self, now: Mono, kind: Kind, tracker: &mut Tracker) {
        let (Some((ack, since)), Some(next)) = (self.acknowledged, self.next) else { return };
        // An acknowledgement of a FIN counts one more than there are bytes.
        let is_end = self.ends_at == Some(next) && ack == next.wrapping_add(1);
        if !is_before(next, ack) || is_end {
            self.acknowledged = None;
        } else if now.since(since) >= GRACE {
            self.acknowledged = None;
            if kind == Kind::Plain {
                self.lose(ack, now, tracker);
            } else {
                self.next = Some(ack);
            }
        }
    }

    /// Too much waits: go on with what is there.
    fn leap(&mut self, now: Mono, tracker: &mut Tracker) {
        let Some(next) = self.next else { return };
        let first = self.early.iter().map(|(seq, _)| *seq).min_by_key(|seq| seq.wrapping_sub(next));
        if let Some(first) = first {
            self.lose(first, now, tracker);
        }
    }

    /// What lies between the next byte and `until`, and is not among what came early, is lost.
    fn lose(&mut self, until: u32, now: Mono, tracker: &mut Tracker) {
        while let Some(next) = self.next.filter(|next| is_before(*next, until)) {
            let ahead = |seq: &u32| seq.wrapping_sub(next);
            let first = self.early.iter().map(|(seq, _)| *seq).min_by_key(ahead);
            let to = first.filter(|first| is_before(*first, until)).unwrap_or(until);
            tracker.handle_unreadable(Unreadable::Lost, now);
            self.frames.skip(|piece| hear(tracker, &piece, now));
            self.next = Some(to);
            self.catch_up(now, tracker);
        }
        self.catch_up(now, tracker);
    }
}

fn hear(tracker: &mut Tracker, piece: &Piece<'_>, now: Mono) {
    match piece {
        Piece::Frame { payload_type, payload } => tracker.handle_frame(*payload_type, payload, now),
        Piece::Bad(reason) => tracker.handle_unreadable(*reason, now),
    }
}

fn is_link_local(end: End) -> bool {
    end.address.segments()[0] & 0xffc0 == 0xfe80
}

#[cfg(test)]
mod tests {
    use super::super::packet::testing::{end, tcp, udp};
    use super::super::tracker::TrackerOutput;
    use super::*;
    use crate::measure::SessionEvent;

    const SYN: u8 = 0x02;
    const ACK: u8 = 0x10;
    const FIN: u8 = 0x01;
    const RST: u8 = 0x04;

    /// One connection on a tapped wire.
    struct Wire {
        tap: Tap,
        tracker: Tracker,
        ends: [End; 2],
        seq: [u32; 2],
        now: u64,
    }

    impl Wire {
        /// Sequence numbers that wrap around in the midst.
        fn new() -> Self {
            let (tap, tracker) = (Tap::default(), Tracker::default());
            Self { tap, tracker, ends: [end(1, 50_000), end(2, 61_341)], seq: [u32::MAX - 60, 7], now: 0 }
        }

        fn opened() -> Self {
            let mut wire = Self::new();
            let [vehicle, station] = wire.seq;
            wire.pass(0, vehicle, SYN, b"");
            wire.seq[0] = vehicle.wrapping_add(1);
            wire.pass(1, station, SYN | ACK, b"");
            wire.seq[1] = station.wrapping_add(1);
            wire
        }

        fn pass(&mut self, from: usize, seq: u32, flags: u8, payload: &[u8]) {
            self.now += 1_000_000;
            let frame = tcp(self.ends[from], self.ends[1 - from], seq, self.seq[1 - from], flags, payload);
            self.tap.handle_packet(&frame, Mono(self.now), &mut self.tracker);
        }

        /// In order.
        fn send(&mut self, from: usize, payload: &[u8]) {
            let seq = self.seq[from];
            self.seq[from] = seq.wrapping_add(u32::try_from(payload.len()).expect("short"));
            self.pass(from, seq, ACK, payload);
        }

        fn wait(&mut self) {
            self.now += 200_000_000;
            self.tap.poll(Mono(self.now), &mut self.tracker);
        }

        fn lost(&self) -> u64 {
            self.tracker.unreadable().map(|(_, count)| count).sum()
        }
    }

    fn frame(payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        [&[0x01, 0xfe, 0x80, 0x01][..], &length[..], payload].concat()
    }

    /// The handshake of ISO 15118-2: request and answer.
    fn handshake() -> [Vec<u8>; 2] {
        use iso15118::app_protocol::{SupportedAppProtocolReq, SupportedAppProtocolRes};
        use iso15118::exi::ExiDocument;
        let request = SupportedAppProtocolReq::advertising([iso15118::Protocol::Iso2]);
        let agreed = request.negotiate(iso15118::Protocol::Iso2).expect("agreed");
        let answer = SupportedAppProtocolRes::accept(agreed);
        [request.to_vec(), answer.to_vec()].map(|bytes| frame(&bytes.expect("encoded")))
    }

    #[test]
    fn what_comes_twice_early_or_in_pieces_is_read_once_and_in_order() {
        let [request, answer] = handshake();
        let mut wire = Wire::opened();
        let begin = wire.seq[0];
        let at = |offset: u32| begin.wrapping_add(offset);
        // The third piece before the second, the first twice, the second overlapping both.
        wire.pass(0, begin, ACK, &request[..10]);
        wire.pass(0, at(30), ACK, &request[30..]);
        wire.pass(0, begin, ACK, &request[..10]);
        wire.pass(0, at(5), ACK, &request[5..35]);
        wire.seq[0] = at(u32::try_from(request.len()).expect("short"));
        wire.send(1, &answer);
        wire.wait();
        assert_eq!((wire.tracker.messages(), wire.lost()), (2, 0));
    }

    #[test]
    fn what_was_acknowledged_and_never_came_by_is_lost_and_the_next_frame_is_read() {
        let [request, answer] = handshake();
        let mut wire = Wire::opened();
        wire.send(0, &request);
        // The answer does not come by; the vehicle acknowledges it, and goes on.
        wire.seq[1] = wire.seq[1].wrapping_add(u32::try_from(answer.len()).expect("short"));
        wire.send(0, &request);
        wire.wait();
        assert_eq!((wire.tracker.messages(), wire.lost()), (2, 1));
        wire.send(1, &answer);
        assert_eq!(wire.tracker.messages(), 3);
    }

    #[test]
    fn a_segment_that_never_comes_holds_back_no_more_than_the_bound() {
        let mut wire = Wire::opened();
        wire.send(0, &handshake()[0]);
        let gap = wire.seq[0].wrapping_add(1000);
        for n in 0..1000_u32 {
            wire.pass(0, gap.wrapping_add(n * 1400), ACK, &[0x55; 1400]);
            let side = &wire.tap.flows[0].sides[usize::from(wire.tap.flows[0].ends[0] != wire.ends[0])];
            let waiting: usize = side.early.iter().map(|(_, bytes)| bytes.len()).sum();
            assert!(waiting <= EARLY_BYTES_MAX && side.early.len() <= EARLY_SEGMENTS_MAX);
        }
        assert!(wire.lost() > 0);
    }

    #[test]
    fn tls_is_one_state_and_no_error() {
        let mut wire = Wire::new();
        let mut answer = SDP_RESPONSE.to_vec();
        answer.extend(wire.ends[1].address.octets());
        answer.extend(wire.ends[1].port.to_be_bytes());
        answer.extend([0x00, 0x00]);
        let packet = udp(end(2, SDP_PORT), wire.ends[0], &answer);
        wire.tap.handle_packet(&packet, Mono(0), &mut wire.tracker);
        assert_eq!(wire.tap.announced, Some((wire.ends[1], true)));
        let Wire { tap, tracker, .. } = wire;
        wire = Wire { tap, tracker, ..Wire::new() };
        let [vehicle, station] = wire.seq;
        wire.pass(0, vehicle, SYN, b"");
        wire.seq = [vehicle.wrapping_add(1), station.wrapping_add(1)];
        wire.pass(1, station, SYN | ACK, b"");
        for n in 0..500_u16 {
            wire.send(0, &[&[0x16, 0x03, 0x01][..], &n.to_be_bytes(), &[0; 300]].concat());
            wire.send(1, &[&[0x17, 0x03, 0x03][..], &n.to_be_bytes(), &[0; 300]].concat());
        }
        let events: Vec<SessionEvent> = wire
            .tracker
            .drain()
            .filter_map(|told| if let TrackerOutput::Event(event) = told { Some(event) } else { None })
            .collect();
        assert_eq!(events, [SessionEvent::Encrypted]);
        assert_eq!(wire.lost(), 0);
    }

    #[test]
    fn a_reset_ends_the_session_and_half_a_close_does_after_a_while() {
        for flags in [RST, FIN | ACK] {
            let [request, answer] = handshake();
            let mut wire = Wire::opened();
            wire.send(0, &request);
            wire.send(1, &answer);
            let seq = wire.seq[0];
            wire.pass(0, seq, flags, b"");
            wire.now += 6_000_000_000;
            wire.wait();
            assert!(wire.tap.flows.is_empty(), "{flags:#x}");
            let mut facts = crate::health::SessionFacts::default();
            wire.tracker.facts(&mut facts);
            assert_eq!(facts.state, "idle");
        }
    }

    #[test]
    fn connections_that_are_no_session_take_a_bounded_place_and_say_nothing() {
        let mut wire = Wire::new();
        for port in 1..2000 {
            wire.ends[0].port = port;
            wire.pass(0, 5, ACK, b"SSH-2.0-OpenSSH");
        }
        assert!(wire.tap.flows.len() <= FLOWS_MAX);
        assert_eq!((wire.tracker.messages(), wire.lost()), (0, 0));
    }
}
