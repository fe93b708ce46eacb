//! Messages of J1939 that are longer than a frame, put together from what others send each other (SAE J1939-21, 5.10).
//! Pure; `now` is an argument.
//!
//! ```text
//! TP.CM, PGN 60416: 0xEC  byte 0: 16 RTS, 17 CTS, 19 end of message, 32 BAM, 255 abort; bytes 5 to 7 the group
//!   16 and 32: bytes 1, 2 the length, byte 3 the number of packets; 17: byte 1 how many next (0: wait), byte 2 from which on
//! TP.DT, PGN 60160: 0xEB  byte 0: the packet's number, from 1 on; then seven bytes
//! ```
//!
//! - Listening only: nothing is answered, no CTS and no abort. What a receiver asks for again comes again, and counts.
//! - A message is told when its last packet has come, each in its turn. A broadcast of which one is missing, comes out of
//!   its turn or says something else than before is given up, as its receivers give it up; a connection is taken up where its
//!   receiver asks for it.
//! - Only groups that somebody wants are put together. Bounds: [`SESSIONS_MAX`] at once on a bus, 1,785 bytes each, and the
//!   times of the standard between two packets. What is given up is counted by its reason.
//!
//! Deliberately absent: J1939-22 (CAN FD), and the extended protocol (ETP) of messages above 1,785 bytes.

use std::collections::BTreeMap;
use std::time::Duration;

use hal::can::{Frame, FrameId};

use crate::measure::Mono;
use crate::spec::FrameMatch;

/// 255 packets of seven bytes each.
const MESSAGE_BYTES_MAX: usize = 1785;
const PACKET_BYTES: usize = 7;
/// Sources on a bus have one broadcast and one connection to each other at a time; a depot's charger has a handful of sources.
/// 32 messages take 57 KB.
const SESSIONS_MAX: usize = 32;
/// T1: between two packets of a broadcast.
const BROADCAST_SILENCE: Duration = Duration::from_millis(750);
/// T2 and T3: between two signs of life of a connection. T4, while its receiver makes it wait, is shorter (1,050 ms).
const CONNECTION_SILENCE: Duration = Duration::from_millis(1250);
/// What waits in the kernel for a starved agent is older than the moment.
const SWEEP_GRACE: Duration = Duration::from_secs(2);

const CONNECTION_MANAGEMENT: u32 = 0xec;
const DATA_TRANSFER: u32 = 0xeb;
/// The destination that is everybody.
const GLOBAL: u8 = 255;
const RTS: u8 = 16;
const CTS: u8 = 17;
const END_OF_MESSAGE: u8 = 19;
const BAM: u8 = 32;
const ABORT: u8 = 255;

/// The frames of the transport protocol, for a filter.
pub(super) fn frames() -> [FrameMatch; 2] {
    [CONNECTION_MANAGEMENT, DATA_TRANSFER].map(|format| FrameMatch::parameter_group(format << 16))
}

/// A message that was put together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The id that a frame of its group, source and destination has.
    pub id: FrameId,
    /// What it carries.
    pub data: Vec<u8>,
}

/// Why a message was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum GivenUp {
    /// One of the two has said so.
    Aborted,
    /// The next packet did not come in time.
    TimedOut,
    /// A packet is missing, or came out of its turn.
    OutOfSequence,
    /// Another one of the same source took its place.
    Restarted,
    /// Its beginning contradicts itself, or a packet is too short.
    Malformed,
    /// [`SESSIONS_MAX`] others were open.
    Crowded,
}

impl GivenUp {
    /// The word in `status`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::TimedOut => "timed_out",
            Self::OutOfSequence => "out_of_sequence",
            Self::Restarted => "restarted",
            Self::Malformed => "malformed",
            Self::Crowded => "crowded",
        }
    }
}

/// The messages that are under way on one bus.
#[derive(Debug)]
pub struct Transport {
    /// What somebody wants; none: nothing is looked at.
    wanted: Vec<FrameMatch>,
    /// By source and destination: each pair has one at a time.
    sessions: BTreeMap<(u8, u8), Session>,
    assembled: u64,
    given_up: BTreeMap<GivenUp, u64>,
}

#[derive(Debug)]
struct Session {
    id: FrameId,
    group: [u8; 3],
    length: usize,
    /// The bytes of the packets before [`Session::next`], each in its turn.
    data: Vec<u8>,
    /// The number of the packet that comes next.
    next: u16,
    heard: Mono,
}

impl Session {
    /// What the packet before the next one held, and the next one is to repeat if it comes again.
    fn newest(&self) -> Option<&[u8]> {
        let from = usize::from(self.next).checked_sub(2)? * PACKET_BYTES;
        self.data.get(from..)
    }
}

impl Transport {
    /// Puts together what these want, as far as they are parameter groups.
    #[must_use]
    pub fn new(frames: impl IntoIterator<Item = FrameMatch>) -> Self {
        let mut wanted: Vec<FrameMatch> = frames.into_iter().filter(|frame| frame.is_group()).collect();
        wanted.sort_unstable();
        wanted.dedup();
        Self { wanted, sessions: BTreeMap::new(), assembled: 0, given_up: BTreeMap::new() }
    }

    /// A frame came at `now`: the message that it completes, if it does.
    pub fn handle_frame(&mut self, frame: &Frame, now: Mono) -> Option<Message> {
        let (number, extended) = (frame.id.number(), frame.id.is_extended());
        if self.wanted.is_empty() || !extended || frame.remote || number >> 24 & 3 != 0 {
            return None;
        }
        let [_, format, to, from] = number.to_be_bytes();
        match u32::from(format) {
            CONNECTION_MANAGEMENT => {
                if let Ok(bytes) = <[u8; 8]>::try_from(frame.data()) {
                    self.manage(bytes, number >> 26, (from, to), now);
                }
                None
            }
            DATA_TRANSFER => self.take(frame.data(), (from, to), now),
            _ => None,
        }
    }

    /// Gives up what is late. At least once in a while: nothing else depends on it.
    pub(super) fn handle_tick(&mut self, now: Mono) {
        self.give_up_late(now - SWEEP_GRACE);
    }

    /// How many messages were put together.
    pub(super) fn assembled(&self) -> u64 {
        self.assembled
    }

    /// How many were given up, by reason.
    pub(super) fn given_up(&self) -> impl Iterator<Item = (GivenUp, u64)> + '_ {
        self.given_up.iter().map(|(why, count)| (*why, *count))
    }

    fn manage(&mut self, bytes: [u8; 8], priority: u32, (from, to): (u8, u8), now: Mono) {
        let [control, one, two, three, _, group @ ..] = bytes;
        let is_of = |session: &Session| session.group == group;
        match control {
            BAM if to == GLOBAL => self.open((from, to), (u16::from_le_bytes([one, two]), three), group, priority, now),
            RTS if to != GLOBAL => self.open((from, to), (u16::from_le_bytes([one, two]), three), group, priority, now),
            CTS => {
                let key = (to, from);
                let Some(session) = self.sessions.get_mut(&key).filter(|session| is_of(session)) else { return };
                match (one, u16::from(two)) {
                    // "Wait": the connection is held open.
                    (0, _) => session.heard = now,
                    (_, next) if (1..=session.next).contains(&next) => {
                        session.heard = now;
                        session.next = next;
                        session.data.truncate(usize::from(next - 1) * PACKET_BYTES);
                    }
                    // Its receiver has more than we have heard.
                    _ => self.give_up(key, GivenUp::OutOfSequence),
                }
            }
            END_OF_MESSAGE if self.sessions.get(&(to, from)).is_some_and(is_of) => {
                self.give_up((to, from), GivenUp::OutOfSequence);
            }
            ABORT => {
                for key in [(from, to), (to, from)] {
                    if self.sessions.get(&key).is_some_and(is_of) {
                        self.give_up(key, GivenUp::Aborted);
                    }
                }
            }
            _ => {}
        }
    }

    fn open(&mut self, key: (u8, u8), (length, packets): (u16, u8), group: [u8; 3], priority: u32, now: Mono) {
        // Whatever it was: the source has begun something else.
        if self.sessions.contains_key(&key) {
            self.give_up(key, GivenUp::Restarted);
        }
        let Some(id) = id_of(group, key, priority) else { return };
        if !self.wanted.iter().any(|wanted| wanted.accepts(id.number(), true)) {
            return;
        }
        let length = usize::from(length);
        if length > MESSAGE_BYTES_MAX || length == 0 || length.div_ceil(PACKET_BYTES) != usize::from(packets) {
            *self.given_up.entry(GivenUp::Malformed).or_default() += 1;
            return;
        }
        if self.sessions.len() >= SESSIONS_MAX {
            self.give_up_late(now);
        }
        if self.sessions.len() >= SESSIONS_MAX {
            // Who has sent a packet is not one that only opens.
            let oldest = self.sessions.iter().min_by_key(|(_, session)| (session.next > 1, session.heard));
            if let Some(key) = oldest.map(|(key, _)| *key) {
                self.give_up(key, GivenUp::Crowded);
            }
        }
        let data = Vec::with_capacity(length);
        self.sessions.insert(key, Session { id, group, length, data, next: 1, heard: now });
    }

    fn take(&mut self, data: &[u8], key: (u8, u8), now: Mono) -> Option<Message> {
        let session = self.sessions.get_mut(&key)?;
        if now.since(session.heard) > silence(key) {
            self.give_up(key, GivenUp::TimedOut);
            return None;
        }
        let (number, bytes) = data.split_first()?;
        let wanted = PACKET_BYTES.min(session.length - session.data.len());
        if u16::from(*number) == session.next {
            let Some(bytes) = bytes.get(..wanted) else {
                self.give_up(key, GivenUp::Malformed);
                return None;
            };
            session.data.extend_from_slice(bytes);
            (session.next, session.heard) = (session.next + 1, now);
            if session.data.len() < session.length {
                return None;
            }
            let Session { id, data, .. } = self.sessions.remove(&key)?;
            self.assembled += 1;
            return Some(Message { id, data });
        }
        let is_repeated = u16::from(*number) + 1 == session.next
            && session.newest().is_some_and(|newest| bytes.starts_with(newest) && !newest.is_empty());
        // A connection's receiver asks again for what it has missed.
        if is_repeated || key.1 != GLOBAL {
            session.heard = now;
        } else {
            self.give_up(key, GivenUp::OutOfSequence);
        }
        None
    }

    fn give_up_late(&mut self, now: Mono) {
        let is_late =
            |(key, session): (&(u8, u8), &Session)| (now.since(session.heard) > silence(*key)).then_some(*key);
        let late: Vec<(u8, u8)> = self.sessions.iter().filter_map(is_late).collect();
        late.into_iter().for_each(|key| self.give_up(key, GivenUp::TimedOut));
    }

    fn give_up(&mut self, key: (u8, u8), why: GivenUp) {
        if self.sessions.remove(&key).is_some() {
            *self.given_up.entry(why).or_default() += 1;
        }
    }
}

fn silence((_, to): (u8, u8)) -> Duration {
    if to == GLOBAL { BROADCAST_SILENCE } else { CONNECTION_SILENCE }
}

/// The id of a group: one that is sent to somebody (PDU format below 240) has the destination in it.
fn id_of([low, format, page]: [u8; 3], (from, to): (u8, u8), priority: u32) -> Option<FrameId> {
    let specific = if format < 240 { to } else { low };
    let number = u32::from_be_bytes([page & 3, format, specific, from]) | priority << 26;
    FrameId::new(number, true).ok()
}

#[cfg(test)]
#[path = "transport_tests.rs"]
mod tests;
