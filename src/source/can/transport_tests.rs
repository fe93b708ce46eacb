use super::*;
use crate::spec::FrameMatch;

const MS: u64 = 1_000_000;
/// DM1, active faults.
const DM1: u32 = 0x18fe_ca00;
/// EEC1, sent to nobody in particular.
const EEC1: u32 = 0x0cf0_0400;
/// Addressed: PDU format 0xef, proprietary A.
const PROPRIETARY: u32 = 0x18ef_0000;

/// A bus with a clock of its own.
struct Bench {
    transport: Transport,
    ms: u64,
}

impl Bench {
    fn new() -> Self {
        let wanted = [DM1, PROPRIETARY].map(FrameMatch::parameter_group);
        Self { transport: Transport::new(wanted), ms: 0 }
    }

    fn frame(&mut self, id: u32, data: &[u8]) -> Option<Message> {
        let id = FrameId::new(id, true).expect("29 bits");
        let frame = Frame::new(id, data, false).expect("a frame");
        self.transport.handle_frame(&frame, Mono(self.ms * MS))
    }

    /// Begins a message of `group`; a destination of 255 is a broadcast.
    fn begin(&mut self, group: u32, (from, to): (u8, u8), length: u16) {
        let [low, high] = length.to_le_bytes();
        let packets = u8::try_from(length.div_ceil(7)).expect("255 at most");
        let control = if to == 255 { 32 } else { 16 };
        let [_, page_format_specific @ ..] = (group >> 8).to_be_bytes();
        let [page, format, specific] = page_format_specific;
        let bytes = [control, low, high, packets, 255, specific, format, page & 3];
        assert_eq!(self.frame(managing(from, to), &bytes), None);
    }

    fn packet(&mut self, (from, to): (u8, u8), number: u8, content: &[u8]) -> Option<Vec<u8>> {
        let bytes: Vec<u8> = [number].into_iter().chain(content.iter().copied()).collect();
        let id = 0x1ceb_0000 | u32::from(to) << 8 | u32::from(from);
        self.frame(id, &bytes).map(|message| message.data)
    }

    /// Sends a whole broadcast of these bytes, 50 ms between two packets.
    fn broadcast(&mut self, from: u8, content: &[u8]) -> Option<Vec<u8>> {
        self.begin(DM1, (from, 255), u16::try_from(content.len()).expect("short"));
        let mut told = None;
        for (number, packet) in (1..=255).zip(content.chunks(7)) {
            self.ms += 50;
            let mut packet = packet.to_vec();
            packet.resize(7, 255);
            told = self.packet((from, 255), number, &packet);
        }
        told
    }

    fn given_up(&self) -> Vec<(&'static str, u64)> {
        self.transport.given_up().map(|(why, count)| (why.as_str(), count)).collect()
    }
}

fn managing(from: u8, to: u8) -> u32 {
    0x1cec_0000 | u32::from(to) << 8 | u32::from(from)
}

fn bytes(length: u8) -> Vec<u8> {
    (0..length).collect()
}

/// Ten faults of a truck's instrument cluster (source 0x17), as it sends them.
#[test]
fn a_broadcast_of_a_trucks_cluster_is_put_together_as_it_was_sent() {
    let mut bench = Bench::new();
    bench.frame(0x18ec_ff17, &[0x20, 0x2a, 0, 6, 0xff, 0xca, 0xfe, 0]);
    let packets = [
        [0x01, 0xc0, 0xff, 0x13, 0xf8, 0x24, 0xfe, 0x23],
        [0x02, 0xf4, 0xe4, 0xfd, 0x23, 0xf5, 0x04, 0xfe],
        [0x03, 0x23, 0xf6, 0x04, 0xfe, 0x23, 0xf5, 0x84],
        [0x04, 0xfe, 0x23, 0xf7, 0x24, 0xfe, 0x23, 0xf7],
        [0x05, 0x64, 0xfe, 0x23, 0xf8, 0x44, 0xfe, 0x53],
        [0x06, 0xf5, 0x24, 0xfe, 0x53, 0xf5, 0xa4, 0xfe],
    ];
    let told: Vec<Message> = packets.iter().filter_map(|packet| bench.frame(0x18eb_ff17, packet)).collect();
    let [Message { id, data }] = &told[..] else { panic!("{told:?}") };
    assert_eq!((id.number(), data.len()), (0x18fe_ca17, 42));
    assert_eq!(data[..10], [0xc0, 0xff, 0x13, 0xf8, 0x24, 0xfe, 0x23, 0xf4, 0xe4, 0xfd]);
    assert_eq!(data[38..], [0x53, 0xf5, 0xa4, 0xfe]);
    assert_eq!(bench.transport.assembled(), 1);
}

#[test]
fn two_sources_that_send_between_each_other_are_two_messages() {
    let mut bench = Bench::new();
    bench.begin(DM1, (3, 255), 10);
    bench.begin(DM1, (4, 255), 10);
    assert_eq!(bench.packet((3, 255), 1, &[3; 7]), None);
    assert_eq!(bench.packet((4, 255), 1, &[4; 7]), None);
    assert_eq!(
        bench.packet((4, 255), 2, &[44, 44, 44, 255, 255, 255, 255]),
        Some([[4; 7].to_vec(), vec![44; 3]].concat())
    );
    assert_eq!(
        bench.packet((3, 255), 2, &[33, 33, 33, 255, 255, 255, 255]),
        Some([[3; 7].to_vec(), vec![33; 3]].concat())
    );
}

#[test]
fn a_connection_is_heard_with_what_its_receiver_asks_for_again() {
    let (mut bench, way, back) = (Bench::new(), (3, 9), managing(9, 3));
    let group = [0x00, 0xef, 0x00];
    let clear = |count: u8, next: u8| [17, count, next, 255, 255, group[0], group[1], group[2]];
    bench.begin(PROPRIETARY, way, 20);
    bench.frame(back, &clear(2, 1));
    assert_eq!(bench.packet(way, 1, &[1; 7]), None);
    // The second one does not reach us; the receiver missed it, too, and asks again, after it made the sender wait.
    assert_eq!(bench.packet(way, 3, &[3; 7]), None);
    bench.ms += 1_000;
    bench.frame(back, &clear(0, 255));
    bench.ms += 1_000;
    bench.frame(back, &clear(2, 2));
    assert_eq!(bench.packet(way, 2, &[2; 7]), None);
    let told = bench.packet(way, 3, &[3, 3, 3, 3, 3, 3, 255]);
    assert_eq!(told, Some([vec![1; 7], vec![2; 7], vec![3; 6]].concat()));
    // It goes on to ask: nobody listens any more.
    bench.frame(back, &clear(1, 3));
    assert_eq!(bench.packet(way, 3, &[3; 7]), None);
    assert_eq!(bench.given_up(), []);
}

#[test]
fn a_connection_that_ends_without_a_packet_that_we_missed_is_given_up() {
    let mut bench = Bench::new();
    bench.begin(PROPRIETARY, (3, 9), 14);
    bench.packet((3, 9), 2, &[2; 7]);
    bench.frame(managing(9, 3), &[19, 14, 0, 2, 255, 0, 0xef, 0]);
    assert_eq!(bench.given_up(), [("out_of_sequence", 1)]);
    assert_eq!(bench.packet((3, 9), 1, &[1; 7]), None);
}

#[test]
fn either_side_may_abort_and_an_abort_of_another_group_means_nothing() {
    for (aborts, to) in [(3, 9), (9, 3)] {
        let mut bench = Bench::new();
        bench.begin(PROPRIETARY, (3, 9), 14);
        bench.packet((3, 9), 1, &[1; 7]);
        bench.frame(managing(aborts, to), &[255, 1, 255, 255, 255, 0xca, 0xfe, 0]);
        assert_eq!(bench.given_up(), []);
        bench.frame(managing(aborts, to), &[255, 1, 255, 255, 255, 0, 0xef, 0]);
        assert_eq!(bench.packet((3, 9), 2, &[2; 7]), None);
        assert_eq!(bench.given_up(), [("aborted", 1)]);
    }
}

#[test]
fn a_broadcast_with_a_packet_missing_or_out_of_its_turn_is_given_up_and_the_next_one_is_whole() {
    for turns in [&[1, 3][..], &[2, 1, 3], &[1, 2, 1, 3]] {
        let mut bench = Bench::new();
        bench.begin(DM1, (3, 255), 21);
        for turn in turns {
            assert_eq!(bench.packet((3, 255), *turn, &[*turn; 7]), None, "{turns:?}");
        }
        assert_eq!(bench.given_up(), [("out_of_sequence", 1)], "{turns:?}");
        assert_eq!(bench.broadcast(3, &bytes(21)), Some(bytes(21)));
    }
}

#[test]
fn a_packet_that_comes_twice_is_one_and_one_that_contradicts_it_is_an_end() {
    let mut bench = Bench::new();
    for (again, is_whole) in [(1, true), (7, false)] {
        bench.begin(DM1, (3, 255), 9);
        bench.packet((3, 255), 1, &[1; 7]);
        bench.packet((3, 255), 1, &[again; 7]);
        assert_eq!(bench.packet((3, 255), 2, &[2; 7]).is_some(), is_whole);
    }
}

#[test]
fn a_message_that_begins_anew_holds_nothing_of_the_one_before() {
    let mut bench = Bench::new();
    bench.begin(DM1, (3, 255), 14);
    bench.packet((3, 255), 1, &[9; 7]);
    assert_eq!(bench.broadcast(3, &bytes(14)), Some(bytes(14)));
    assert_eq!(bench.given_up(), [("restarted", 1)]);
    // Something else that nobody wants ends it as well.
    bench.begin(DM1, (3, 255), 14);
    bench.begin(EEC1, (3, 255), 14);
    assert_eq!(bench.packet((3, 255), 1, &[1; 7]), None);
    assert_eq!(bench.packet((3, 255), 2, &[2; 7]), None);
}

#[test]
fn who_is_silent_for_longer_than_the_standard_allows_is_given_up() {
    for (to, allowed) in [(255, 750), (9, 1_250)] {
        for (silence, is_whole) in [(allowed, true), (allowed + 1, false)] {
            let mut bench = Bench::new();
            bench.begin(if to == 255 { DM1 } else { PROPRIETARY }, (3, to), 14);
            bench.packet((3, to), 1, &[1; 7]);
            bench.ms += silence;
            assert_eq!(bench.packet((3, to), 2, &[2; 7]).is_some(), is_whole, "{to} {silence}");
        }
    }
    let mut bench = Bench::new();
    bench.begin(DM1, (3, 255), 14);
    bench.transport.handle_tick(Mono(4_000 * MS));
    assert_eq!((bench.transport.sessions.len(), bench.given_up()), (0, vec![("timed_out", 1)]));
}

#[test]
fn what_nobody_wants_or_contradicts_itself_is_not_begun() {
    let mut bench = Bench::new();
    bench.begin(EEC1, (3, 255), 14);
    // More packets than its length needs; longer than a message can be; nothing.
    for head in [[32, 14, 0, 3], [32, 0xfa, 6, 255], [32, 0, 0, 0]] {
        bench.frame(managing(3, 255), &[head[0], head[1], head[2], head[3], 255, 0xca, 0xfe, 0]);
    }
    // A broadcast to one, a request to all, and a frame too short.
    bench.frame(managing(3, 9), &[32, 14, 0, 2, 255, 0xca, 0xfe, 0]);
    bench.frame(managing(3, 255), &[16, 14, 0, 2, 255, 0xca, 0xfe, 0]);
    bench.frame(managing(3, 255), &[32, 14, 0, 2]);
    assert_eq!((bench.transport.sessions.len(), bench.given_up()), (0, vec![("malformed", 3)]));
    bench.begin(DM1, (3, 255), 14);
    assert_eq!(bench.packet((3, 255), 1, &[1; 3]), None);
    assert_eq!(bench.given_up(), [("malformed", 4)]);
}

#[test]
fn a_flood_of_messages_that_are_only_begun_is_bounded_and_leaves_a_real_one_alone() {
    let mut bench = Bench::new();
    bench.begin(DM1, (200, 255), 21);
    bench.packet((200, 255), 1, &[1; 7]);
    for round in 0..100_u64 {
        for to in 0..100_u8 {
            bench.begin(PROPRIETARY, (7, to), 1785);
            assert!(bench.transport.sessions.len() <= SESSIONS_MAX);
        }
        bench.ms += u64::from(round % 10 == 0);
    }
    bench.packet((200, 255), 2, &[2; 7]);
    assert_eq!(bench.packet((200, 255), 3, &[3; 7]).map(|data| data.len()), Some(21));
    assert!(bench.given_up().iter().any(|(why, count)| *why == "crowded" && *count > 5_000), "{:?}", bench.given_up());
}

#[test]
fn the_longest_message_is_put_together() {
    let mut bench = Bench::new();
    let content: Vec<u8> = (0..1785_u32).map(|n| (n % 251) as u8).collect();
    assert_eq!(bench.broadcast(3, &content), Some(content));
}

mod random {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_frames_make_it_panic_or_tell_more_than_was_sent(
            frames in prop::collection::vec((0_u8..4, 0_u8..4, any::<bool>(), prop::collection::vec(any::<u8>(), 0..=8)), 0..200),
        ) {
            let mut bench = Bench::new();
            for (from, to, manages, mut data) in frames {
                let to = if to == 3 { 255 } else { to };
                let format = if manages { 0x1cec_0000 } else { 0x1ceb_0000 };
                if manages && data.len() == 8 {
                    data[0] = [16, 17, 19, 32, 255][usize::from(data[0] % 5)];
                    data[2] %= 7;
                    data[5..].copy_from_slice(&[0xca, 0xfe, 0]);
                }
                bench.ms += 10;
                let told = bench.frame(format | u32::from(to) << 8 | u32::from(from), &data);
                prop_assert!(told.is_none_or(|message| message.data.len() <= 1785));
                prop_assert!(bench.transport.sessions.len() <= SESSIONS_MAX);
            }
        }
    }
}
