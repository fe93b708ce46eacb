//! An interface of the kernel as a bus.
//!
//! The kernel hands over only the frames that match a filter, and error frames. It is looked at once a second besides:
//! whether the interface is there and up, what its controller says, and what it has counted.
//!
//! After frames came, the socket is left alone for [`PAUSE`]: at 8,000 frames a second that is 500 wake-ups instead of
//! 8,000, and the kernel's time stamps lose nothing by it. The receive buffer is sized for far more.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd as _, RawFd};
use std::time::Duration;

use socketcan::{CanAddr, CanFdSocket, CanFilter, Socket as _, SocketOptions as _};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep, timeout_at};

use super::fault::{Fault, faults};
use super::frame::FrameId;
use super::link::{self, LinkSettings, SetUp};
use super::receive::{self, BATCH, Message, Receiver, set_int};
use super::{BusState, FrameBus, Heard};

/// How often the interface is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// See above. Less than the time for which a window waits for its last samples.
const PAUSE: Duration = Duration::from_millis(2);
/// Asked of the kernel for the socket: a frame takes about 700 bytes there, so that is 700 ms of a full 1 Mbit/s bus.
const BUFFER_BYTES: libc::c_int = 4 << 20;
/// What [`FrameBus::hear`] hands over at most.
const HEARD_MAX: usize = 16 * BATCH;
/// `CAN_RAW_FILTER_MAX`.
const FILTERS_MAX: usize = 512;

const EXTENDED_FLAG: u32 = 0x8000_0000;
const REMOTE_FLAG: u32 = 0x4000_0000;
/// All classes of `linux/can/error.h` (`CAN_ERR_MASK`).
const ERRORS_ALL: u32 = 0x1fff_ffff;

/// Frames that are wanted: those whose id agrees with `id` in every bit of `mask`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FrameFilter {
    /// The number, and whether it has 11 or 29 bits.
    pub id: FrameId,
    /// Bits that count.
    pub mask: u32,
}

/// What an interface counts of all frames, since it was made; bytes are of payload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames.
    pub frames: u64,
    /// Their payload.
    pub bytes: u64,
    /// Frames that its driver lost: no memory, or the controller's buffer was full.
    pub lost: u64,
}

/// An interface of the kernel as a bus. Nothing is sent on it.
pub struct CanSocket {
    settings: LinkSettings,
    filters: Vec<FrameFilter>,
    socket: Option<Opened>,
    receiver: Receiver,
    state: BusState,
    /// The state with its reason was told already.
    told: Option<(BusState, String)>,
    next_look: Instant,
    paused: bool,
    /// The interface as it was set up last.
    set_up: Option<u32>,
}

struct Opened {
    socket: AsyncFd<CanFdSocket>,
    index: u32,
    dropped: u32,
}

impl Opened {
    /// Losses that were not told yet, of this total. The total that comes with a frame is of when the frame came, and may
    /// be older than what is known.
    fn lost_since(&mut self, total: u32) -> Option<u64> {
        let more = total.wrapping_sub(self.dropped);
        if more == 0 || more > u32::MAX / 2 {
            return None;
        }
        self.dropped = total;
        Some(more.into())
    }
}

impl CanSocket {
    /// The bus of this interface. `filters` empty: every frame. It begins at the first [`FrameBus::hear`].
    #[must_use]
    pub fn new(settings: LinkSettings, filters: Vec<FrameFilter>) -> Self {
        Self {
            settings,
            filters,
            socket: None,
            receiver: Receiver::new(),
            state: BusState::Absent,
            told: None,
            next_look: Instant::now(),
            paused: false,
            set_up: None,
        }
    }

    /// Tells a state once; the same state with another reason is told again.
    fn enter(&mut self, state: BusState, detail: String, into: &mut Vec<Heard>) {
        let told = (state, detail);
        if self.told.as_ref() != Some(&told) && (self.state != state || self.told.is_none() || !state.is_heard()) {
            into.push(Heard::State(state, told.1.clone()));
        }
        self.state = state;
        self.told = Some(told);
    }

    /// Looks at the interface; opens the socket if there is none.
    fn look(&mut self, into: &mut Vec<Heard>) {
        let looked = link::look(&self.settings.interface);
        let link = match looked {
            Ok(link) => link,
            Err(error) => {
                self.socket = None;
                self.set_up = None;
                return self.enter(BusState::Absent, error.to_string(), into);
            }
        };
        if self.socket.as_ref().is_some_and(|opened| opened.index != link.index) {
            // It vanished and is back under the same name.
            self.socket = None;
        }
        let mut detail = String::new();
        if self.set_up != Some(link.index) {
            match link::set_up(&self.settings) {
                Ok(SetUp::AsWanted | SetUp::Virtual) => {}
                Ok(SetUp::Acknowledging) => {
                    detail = "its controller cannot listen only: it acknowledges frames".to_owned();
                }
                Err(error) if link.up => detail = error.to_string(),
                Err(error) => return self.enter(BusState::Down, error.to_string(), into),
            }
            self.set_up = Some(link.index);
        }
        if self.socket.is_none() {
            match open(link.index, &self.filters) {
                Ok(socket) => self.socket = Some(Opened { socket, index: link.index, dropped: 0 }),
                Err(error) => {
                    let detail = format!("{} cannot be opened: {error}", self.settings.interface);
                    return self.enter(BusState::Absent, detail, into);
                }
            }
        }
        // Once more: setting it up may have changed it.
        let Ok(link) = link::look(&self.settings.interface) else { return };
        if !link.up {
            let detail = format!("{} is down; see: {}", self.settings.interface, link::command(&self.settings));
            self.enter(BusState::Down, detail, into);
        } else if let Some(state) = link.state {
            self.enter(state, detail, into);
        } else if !self.state.is_heard() && self.state != BusState::BusOff {
            // A virtual one has no state of its own; what an error frame said stands.
            self.enter(BusState::Active, detail, into);
        }
    }

    /// Tells frames that were lost after the last one that came.
    fn tell_losses(&mut self, into: &mut Vec<Heard>) {
        let Some(opened) = &mut self.socket else { return };
        let Ok(total) = receive::dropped(opened.socket.get_ref().as_raw_fd()) else { return };
        into.extend(opened.lost_since(total).map(Heard::Dropped));
    }

    /// Takes what the socket holds.
    fn take(&mut self, into: &mut Vec<Heard>) -> io::Result<()> {
        let Self { socket: Some(opened), receiver, .. } = self else { return Ok(()) };
        let fd = opened.socket.get_ref().as_raw_fd();
        let (mut errors, mut overruns, mut states) = (0, 0, Vec::new());
        let mut most = HEARD_MAX;
        let ended = loop {
            let received = receiver.receive(fd, |message| match message {
                Message::Frame(received) => into.push(Heard::Frame(received)),
                Message::Error { class, data } => {
                    for fault in faults(class, &data) {
                        match fault {
                            Fault::Bus => errors += 1,
                            Fault::Overrun => overruns += 1,
                            Fault::Restarted | Fault::State(_) => states.push(fault),
                        }
                    }
                }
            });
            match received {
                Ok((count, dropped)) => {
                    into.extend(dropped.and_then(|total| opened.lost_since(total)).map(Heard::Dropped));
                    most = most.saturating_sub(count);
                    if count < BATCH || most == 0 {
                        break Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        into.extend((errors > 0).then_some(Heard::BusErrors(errors)));
        into.extend((overruns > 0).then_some(Heard::Overrun(overruns)));
        for fault in states {
            match fault {
                Fault::State(state) => self.enter(state, "by an error frame".to_owned(), into),
                _ => into.push(Heard::Restarted),
            }
        }
        ended
    }
}

/// A socket on this interface with all that makes it tell its losses.
fn open(index: u32, filters: &[FrameFilter]) -> io::Result<AsyncFd<CanFdSocket>> {
    let socket = CanFdSocket::open_addr(&CanAddr::new(index))?;
    socket.set_nonblocking(true)?;
    let fd = socket.as_raw_fd();
    // Privileged; without the privilege up to `net.core.rmem_max`.
    if set_int(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, BUFFER_BYTES).is_err() {
        set_int(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, BUFFER_BYTES)?;
    }
    set_int(fd, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1)?;
    set_int(fd, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
    socket.set_error_filter(ERRORS_ALL)?;
    // Too many for the kernel: all frames, and the decoder looks away.
    if !filters.is_empty() && filters.len() <= FILTERS_MAX {
        socket.set_filters(&filters.iter().map(kernel_filter).collect::<Vec<_>>())?;
    }
    discard(fd);
    // SAFETY: `socket` owns its descriptor and is moved into the AsyncFd, which deregisters it before it drops it; nothing
    // takes the descriptor out or closes it meanwhile.
    let registered = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?;
    Ok(registered)
}

/// Between bind and filter the socket took everything.
fn discard(fd: RawFd) {
    let mut receiver = Receiver::new();
    while receiver.receive(fd, |_| {}).is_ok_and(|(count, _)| count == BATCH) {}
}

/// Remote frames are not wanted: they carry nothing.
fn kernel_filter(filter: &FrameFilter) -> CanFilter {
    let flag = if filter.id.is_extended() { EXTENDED_FLAG } else { 0 };
    CanFilter::new(filter.id.number() | flag, filter.mask | EXTENDED_FLAG | REMOTE_FLAG)
}

impl FrameBus for CanSocket {
    async fn hear(&mut self, into: &mut Vec<Heard>) {
        if std::mem::take(&mut self.paused) {
            sleep(PAUSE).await;
        }
        let had = into.len();
        let now = Instant::now();
        if now >= self.next_look {
            self.next_look = now + LOOK_EVERY;
            self.look(into);
            self.tell_losses(into);
        }
        let until = self.next_look;
        let Some(opened) = &self.socket else {
            if into.len() == had {
                tokio::time::sleep_until(until).await;
            }
            return;
        };
        if into.len() == had {
            match timeout_at(until, opened.socket.readable()).await {
                Err(_elapsed) => return,
                Ok(Err(_)) => {
                    self.socket = None;
                    return;
                }
                // Asked anew below; if nothing more is there, the next readiness is a new one.
                Ok(Ok(mut ready)) => ready.clear_ready(),
            }
        }
        match self.take(into) {
            Ok(()) => self.paused = into.len() > had,
            // Down: the socket stays, and hears again when the interface is up again. Anything else: it is gone.
            Err(error) => {
                if error.raw_os_error() != Some(libc::ENETDOWN) {
                    self.socket = None;
                    self.set_up = None;
                }
                self.next_look = Instant::now();
            }
        }
    }

    fn counters(&mut self) -> Option<Counters> {
        let read = |name: &str| -> Option<u64> {
            let path = format!("/sys/class/net/{}/statistics/{name}", self.settings.interface);
            fs::read_to_string(path).ok()?.trim().parse().ok()
        };
        Some(Counters {
            frames: read("rx_packets")?,
            bytes: read("rx_bytes")?,
            lost: read("rx_over_errors")?.saturating_add(read("rx_dropped")?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_tells_11_from_29_bits_and_keeps_remote_frames_out() {
        let repr = |number, extended, mask| {
            let id = FrameId::new(number, extended).expect("fits");
            format!("{:?}", kernel_filter(&FrameFilter { id, mask }))
        };
        assert!(repr(0x109, false, 0x7ff).contains(&format!("{}", 0xc000_07ff_u32)), "{}", repr(0x109, false, 0x7ff));
        assert_ne!(repr(0x109, false, 0x7ff), repr(0x109, true, 0x7ff));
    }

    #[tokio::test(start_paused = true)]
    async fn an_interface_that_is_not_there_is_a_state_told_once() {
        let settings = LinkSettings {
            interface: "can-none".to_owned(),
            timing: None,
            data_timing: None,
            restart: None,
            fd: false,
            listen_only: true,
        };
        let mut bus = CanSocket::new(settings, vec![]);
        let mut heard = Vec::new();
        for _ in 0..4 {
            bus.hear(&mut heard).await;
        }
        let [Heard::State(BusState::Absent, why)] = heard.as_slice() else { panic!("{heard:?}") };
        assert!(why.contains("no interface can-none"), "{why}");
    }
}
