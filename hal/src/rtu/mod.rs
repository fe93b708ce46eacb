//! Modbus RTU: on a serial line, or through a TCP gateway that hands its bytes through.
//!
//! In: one read at a time. Out: its words, or an error that says what went wrong and with whom.
//!
//! - A request goes out only on a quiet line: what was received is looked at and dropped, and nothing more comes for
//!   the silence between frames, t3.5 (Modbus over Serial Line 1.02, 2.5.1.1).
//! - From the moment a request is sent, a reply is **owed**. A late one is known as what it is: by its unit, or because
//!   no request goes out while a reply of its shape is owed by the unit (`owed.rs`, which states the rule and why it
//!   holds). So silence is not what safety rests on; it only keeps a late reply from running into another request.
//! - After a deadline the line is heard out for [`grace`]: half the deadline, and three times what the exchange takes
//!   on the wire. A reply that comes in that time is told as late ([`BusError::Late`]), and ends it.
//! - A unit that does not hear what comes soon after its answer is left alone for so long (`rest`).
//! - What cannot be read is heard until nothing has come for [`HUSH`], and refused. The beginning of the answer is waited on for the
//!   byte timeout after each byte, and for a few of those in all: some gateways and adapters fall silent within a frame. Of a unit
//!   whose frames were not completed in that time, it is waited for seldom ([`WAIT_EVERY`]).
//! - Closing a port does not unsay a request, and it may reset an adapter: the port stays open through all of this, and
//!   is opened anew, by its path or by the name of its adapter that stays, only when it went away. After opening the line
//!   is heard out: whoever had the port before may have asked something.

mod owed;
mod rs485;
mod wire;

pub use wire::{Parity, SerialLine, StopBits};

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use crate::register_bus::{BusError, ReadRequest, RegisterBus, UnitId};
use crate::reply::{Content, Head, Reply, Shape, serial_head, serial_request};
use crate::reply_times::ReplyTimes;
use owed::{Owed, Whose};
use wire::{Place, Wire};

/// Unit, function, start, count and CRC.
const REQUEST_BYTES: u32 = 8;
/// Unit, function, byte count and CRC, around the words.
const REPLY_BYTES: u32 = 5;
/// So long must nothing come on a line on which something came that is no whole reply. USB adapters hand bytes over in
/// lumps up to 16 ms apart.
const HUSH: Duration = Duration::from_millis(40);
/// A line that still talks so long after it should be quiet is given up for this request.
const BABBLE_MAX: Duration = Duration::from_secs(1);
/// The most that is kept of what cannot be read: longer than any frame with noise around it.
const RX_BUF_BYTES_MAX: usize = 1024;
/// Requests of another shape that are tried before one whose reply is still owed.
const SETTLING_MAX: usize = 2;

/// Frames of a unit that ended with a silence, after which it is taken that they break off; and then every so many it is given the
/// time again.
const BROKEN_OFF: u32 = 2;
const WAIT_EVERY: u32 = 16;

/// How long the line is heard after a deadline has passed: "later than the slowest reply".
fn grace(deadline: Duration, on_wire: Duration) -> Duration {
    deadline / 2 + 3 * on_wire
}

/// One line with the units on it, opened when it is needed. Unit 0 is broadcast and never answers.
pub struct RtuBus {
    place: Place,
    times: ReplyTimes,
    wire: Option<Wire>,
    owed: Owed,
    /// What was received and not yet understood.
    rx_buf: Vec<u8>,
    /// Before this nothing may be sent.
    quiet_at: Instant,
    /// Of each unit, how many answers in a row broke off.
    broken_off: BTreeMap<u8, u32>,
}

/// What became of one request on the wire.
enum Said {
    Words(Vec<u16>),
    Refusal(u8),
}

impl RtuBus {
    /// A bus on this port whose units have `deadline` to answer, besides the time on the wire. Opens at the first read.
    #[must_use]
    pub fn new(line: SerialLine, deadline: Duration) -> Self {
        Self::at(Place::serial(line), deadline)
    }

    /// A bus behind `host:port`, a gateway that hands the bytes of serial frames through as they are.
    #[must_use]
    pub fn over_tcp(host: impl Into<String>, port: u16, deadline: Duration) -> Self {
        Self::at(Place::Tcp { host: host.into(), port }, deadline)
    }

    fn at(place: Place, deadline: Duration) -> Self {
        let quiet_at = Instant::now();
        Self {
            place,
            times: ReplyTimes::new(deadline),
            wire: None,
            owed: Owed::default(),
            rx_buf: Vec::new(),
            quiet_at,
            broken_off: BTreeMap::new(),
        }
    }

    /// Hears what comes while nothing is asked, so that what is late is known by when it came. Ends only when there is nothing to
    /// hear. Cancel-safe.
    pub async fn listen(&mut self) {
        while let Some(wire) = &mut self.wire {
            let mut lump = [0; 256];
            match wire.read(&mut lump).await {
                Ok(count) => self.overhear(&lump[..count]),
                Err(error) => drop(self.gone(error)),
            }
        }
    }

    /// Something came that nobody waits for.
    fn overhear(&mut self, lump: &[u8]) {
        let now = Instant::now();
        self.hear(lump);
        while let Some((reply, ..)) = self.understand(false) {
            self.settle(None, &reply, now);
        }
        // What ended with a whole reply needs no longer silence than any frame.
        let silence = self.place.silence();
        self.quiet_at = now + if self.rx_buf.is_empty() { silence } else { HUSH.max(silence) };
    }

    /// What request and answer take on the wire.
    fn on_wire(&self, request: ReadRequest) -> Duration {
        self.place.characters(REQUEST_BYTES + REPLY_BYTES + u32::from(request.bytes()))
    }

    fn gone(&mut self, source: io::Error) -> BusError {
        self.wire = None;
        self.rx_buf.clear();
        BusError::Gone { address: self.place.to_string(), source }
    }

    async fn open(&mut self, patience: Duration) -> Result<(), BusError> {
        if self.wire.is_none() {
            let opened = self.place.open(self.times.deadline).await;
            let wire = opened.map_err(|source| BusError::unreachable(self.place.to_string(), source))?;
            self.rx_buf.clear();
            self.quiet_at = Instant::now() + patience;
            self.wire = Some(wire);
        }
        Ok(())
    }

    /// Waits until the line is quiet, and drops what came meanwhile; late replies settle what is owed. Cancel-safe: what
    /// was heard is remembered.
    async fn hear_out(&mut self, unit: UnitId) -> Result<(), BusError> {
        let give_up = self.quiet_at.max(Instant::now()) + BABBLE_MAX;
        loop {
            sleep_until(self.quiet_at).await;
            let mut lump = [0; 256];
            let Some(wire) = &mut self.wire else { return Ok(()) };
            match wire.read_now(&mut lump) {
                Ok(None) => {
                    self.understand_to_the_end(None);
                    return Ok(());
                }
                Ok(Some(count)) => {
                    self.overhear(&lump[..count]);
                    if Instant::now() > give_up {
                        let why = "the line does not fall silent; is there another master on it, or noise?".to_owned();
                        return Err(BusError::Malformed { unit, why });
                    }
                }
                Err(source) => return Err(self.gone(source)),
            }
        }
    }

    fn hear(&mut self, bytes: &[u8]) {
        self.rx_buf.extend_from_slice(bytes);
        let surplus = self.rx_buf.len().saturating_sub(RX_BUF_BYTES_MAX);
        self.rx_buf.drain(..surplus);
    }

    /// The next whole reply in what was heard, and the bytes before it that are none. Unless nothing more will come
    /// (`ended`), the beginning of a reply is waited for.
    fn understand(&mut self, ended: bool) -> Option<(Reply, usize)> {
        for skipped in 0..self.rx_buf.len() {
            match serial_head(&self.rx_buf[skipped..]) {
                Head::Reply(reply, length) => {
                    self.rx_buf.drain(..skipped + length);
                    return Some((reply, skipped));
                }
                Head::Unfinished if !ended => return None,
                Head::Unfinished | Head::Noise => {}
            }
        }
        None
    }

    /// All whole replies in what was heard and will not go on; the rest is dropped.
    fn understand_to_the_end(&mut self, asked: Option<u8>) {
        while let Some((reply, _)) = self.understand(true) {
            self.settle(asked, &reply, Instant::now());
        }
        self.rx_buf.clear();
    }

    fn settle(&mut self, asked: Option<u8>, reply: &Reply, now: Instant) -> Whose {
        let whose = self.owed.heard(asked, reply, now);
        if let Whose::Late(after) = whose {
            self.times.was_late(reply.unit, after, now);
        }
        whose
    }

    /// One request whose shape is not owed, and what comes of it.
    async fn exchange(&mut self, unit: UnitId, request: ReadRequest) -> Result<Said, BusError> {
        self.hear_out(unit).await?;
        while let Some(ready) = self.times.rests.ready_at(unit.get()).filter(|ready| *ready > Instant::now()) {
            self.quiet_at = self.quiet_at.max(ready);
            self.hear_out(unit).await?;
        }
        let on_wire = self.on_wire(request);
        let asked = Instant::now();
        let rested = self.times.rests.asked(unit.get(), request.start, asked);
        let deadline = asked + self.times.deadline + on_wire;
        let end = deadline + grace(self.times.deadline, on_wire);
        let frame_end = end + self.times.frame_max();
        // Written down before the request goes out, so that it stands also if this future is dropped.
        self.owed.asked(unit.get(), Shape::from(request), asked);
        self.quiet_at = end;
        let frame = serial_request(unit, request);
        if let Some(wire) = &mut self.wire
            && let Err(source) = wire.write(&frame).await
        {
            return Err(self.gone(source));
        }
        let mut stranger = None;
        let mut heard_bytes = 0;
        let mut last = asked;
        // An answer that has begun in time is not late, however long it takes.
        let mut first = None;
        loop {
            let is_garbage = !self.rx_buf.is_empty() || stranger.is_some();
            let hush = HUSH.max(self.place.silence());
            let until = match (is_garbage, self.goes_on(unit, request)) {
                (false, _) => end,
                (true, false) => end.min(last + hush),
                (true, true) => frame_end.min(last + hush.max(self.times.byte_timeout)),
            };
            let mut lump = [0; 256];
            let Some(wire) = &mut self.wire else { return Err(BusError::Timeout { unit, ms: 0 }) };
            let (read, ended) = match timeout_at(until, wire.read(&mut lump)).await {
                Ok(Ok(count)) => (count, false),
                Ok(Err(source)) => return Err(self.gone(source)),
                Err(_) => (0, true),
            };
            let now = Instant::now();
            if read > 0 {
                last = now;
                first.get_or_insert(now);
                heard_bytes += read;
                self.hear(&lump[..read]);
            }
            let began = ended && self.has_begun(unit, request);
            while let Some((reply, _)) = self.understand(ended) {
                match self.settle(Some(unit.get()), &reply, now) {
                    Whose::Newest | Whose::Unclear => {
                        self.times.rests.answered(rested, now);
                        self.broken_off.remove(&unit.get());
                        self.times.took = now.duration_since(asked);
                        self.quiet_at = now + self.place.silence();
                        self.rx_buf.clear();
                        let began = first.unwrap_or(now).duration_since(asked);
                        return said(unit, reply, began, self.times.limit + on_wire);
                    }
                    Whose::Late(_) => {}
                    Whose::Nobodys => stranger = Some(reply),
                }
            }
            if ended {
                self.quiet_at = now;
                self.rx_buf.clear();
                if began {
                    *self.broken_off.entry(unit.get()).or_default() += 1;
                }
                if heard_bytes == 0 {
                    self.times.rests.silent(rested, now);
                } else {
                    self.times.rests.spoke(unit.get(), last);
                }
                return Err(self.nothing(unit, request, stranger, heard_bytes));
            }
        }
    }

    /// Whether what was heard last is the beginning of the answer, and may go on after a silence.
    fn goes_on(&self, unit: UnitId, request: ReadRequest) -> bool {
        let broken = self.broken_off.get(&unit.get()).copied().unwrap_or(0);
        (broken < BROKEN_OFF || broken.is_multiple_of(WAIT_EVERY)) && self.has_begun(unit, request)
    }

    fn has_begun(&self, unit: UnitId, request: ReadRequest) -> bool {
        let function = Shape::from(request).function;
        let head = [unit.get(), function, u8::try_from(request.bytes()).unwrap_or(u8::MAX)];
        (0..self.rx_buf.len()).any(|at| {
            let rest = &self.rx_buf[at..];
            let length = rest.len().min(head.len());
            // Within what came, less than a head is chance.
            (at == 0 || length == head.len())
                && rest[..length] == head[..length]
                && serial_head(rest) == Head::Unfinished
        })
    }

    /// Why there was no answer.
    fn nothing(&self, unit: UnitId, request: ReadRequest, stranger: Option<Reply>, heard: usize) -> BusError {
        let expected = usize::from(request.bytes()) + REPLY_BYTES as usize;
        match stranger {
            Some(Reply { unit: by, .. }) if by != unit.get() => BusError::WrongUnit { unit, by },
            Some(Reply { content: Content::Words(words), function, .. }) => BusError::Malformed {
                unit,
                why: format!("{} registers by function {function} instead of {}", words.len(), request.count),
            },
            Some(Reply { content: Content::Exception(code), function, .. }) => {
                let why = format!("a refusal ({code}) of function {function}, which was not asked");
                BusError::Malformed { unit, why }
            }
            None if heard == 0 => BusError::Timeout { unit, ms: self.times.deadline.as_millis() },
            None if heard < expected => BusError::Short { unit, heard, expected },
            None => BusError::Noise { unit, heard },
        }
    }
}

fn said(unit: UnitId, reply: Reply, after: Duration, patience: Duration) -> Result<Said, BusError> {
    if after > patience {
        return Err(BusError::Late { unit, after_ms: after.as_millis(), ms: patience.as_millis() });
    }
    Ok(match reply.content {
        Content::Words(words) => Said::Words(words),
        Content::Exception(code) => Said::Refusal(code),
    })
}

impl fmt::Debug for RtuBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, times, wire, .. } = self;
        let deadline = times.deadline;
        write!(f, "RtuBus {{ {place}, deadline: {deadline:?}, open: {} }}", wire.is_some())
    }
}

impl RegisterBus for RtuBus {
    async fn read(&mut self, unit: UnitId, request: ReadRequest) -> Result<Vec<u16>, BusError> {
        self.open(self.times.deadline + self.on_wire(request)).await?;
        let shape = Shape::from(request);
        for _ in 0..SETTLING_MAX {
            // What is late may have come by now.
            self.hear_out(unit).await?;
            if !self.owed.is_owed(unit.get(), shape, Instant::now()) {
                break;
            }
            let Some(another) = self.owed.another(unit.get(), request, Instant::now()) else { break };
            // Its words are not wanted; whatever it says tells the older replies apart from what follows.
            self.exchange(unit, another).await?;
            self.quiet_at =
                self.times.rests.surely_ready_at(unit.get()).map_or(self.quiet_at, |ready| ready.max(self.quiet_at));
        }
        if self.owed.is_owed(unit.get(), shape, Instant::now()) {
            let why = "it still owes answers to earlier requests, and refuses all by which they could be told apart";
            return Err(BusError::Malformed { unit, why: why.to_owned() });
        }
        match self.exchange(unit, request).await? {
            Said::Words(mut words) => {
                words.truncate(request.count.into());
                Ok(words)
            }
            Said::Refusal(code) => Err(BusError::Exception { unit, code }),
        }
    }

    fn times(&mut self) -> &mut ReplyTimes {
        &mut self.times
    }
}

#[cfg(all(test, feature = "sim"))]
mod tests;
