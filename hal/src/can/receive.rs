//! `recvmmsg(2)` on a raw CAN socket: frames in batches, each with the kernel's time stamp and its count of losses.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::RawFd;

use super::Received;
use super::frame::{Frame, FrameId};

/// Frames of one system call: 4 ms of a full bus of 1 Mbit/s.
pub(super) const BATCH: usize = 32;
/// The same, as the system call has it.
const BATCH_U32: u32 = 32;
/// `struct canfd_frame`; a classic one has 16 bytes.
const FRAME_BYTES: usize = 72;
const CLASSIC_BYTES: usize = 16;
/// A time stamp (16 bytes) and a count (4 bytes), each with a header of 16 bytes, aligned; and as much again.
const CONTROL_BYTES: usize = 128;

const EXTENDED_FLAG: u32 = 0x8000_0000;
const REMOTE_FLAG: u32 = 0x4000_0000;
const ERROR_FLAG: u32 = 0x2000_0000;
const EXTENDED_MASK: u32 = 0x1fff_ffff;
/// `CANFD_BRS` in `canfd_frame.flags`.
const FD_FAST: u8 = 0x01;

/// What one message of the socket holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    Frame(Received),
    Error { class: u32, data: [u8; 8] },
}

/// Control data, aligned as its headers want it.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL_BYTES]);

/// The buffers of the call, made once.
pub(super) struct Receiver {
    frames: Box<[[u8; FRAME_BYTES]; BATCH]>,
    controls: Box<[Control; BATCH]>,
}

impl Receiver {
    pub(super) fn new() -> Self {
        Self { frames: Box::new([[0; FRAME_BYTES]; BATCH]), controls: Box::new([Control([0; CONTROL_BYTES]); BATCH]) }
    }

    /// Takes what the socket holds, at most [`BATCH`] messages; answers how many they were and the kernel's count of the
    /// frames that it had to drop, if it told one.
    #[allow(trivial_numeric_casts, reason = "glibc and musl have two of these numbers in other types")]
    pub(super) fn receive(&mut self, socket: RawFd, mut out: impl FnMut(Message)) -> io::Result<(usize, Option<u32>)> {
        let mut vectors: [libc::iovec; BATCH] =
            std::array::from_fn(|n| libc::iovec { iov_base: self.frames[n].as_mut_ptr().cast(), iov_len: FRAME_BYTES });
        // SAFETY: `mmsghdr` is plain old data, for which all zeroes is valid (no name, no vector, no control data).
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { MaybeUninit::zeroed().assume_init() };
        for (n, header) in headers.iter_mut().enumerate() {
            header.msg_hdr.msg_iov = &raw mut vectors[n];
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = self.controls[n].0.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = CONTROL_BYTES as _;
        }
        // SAFETY: every header points to one vector and one control buffer of the lengths it names; all of them live, and
        // are not touched otherwise, until the call has returned. There are BATCH headers. No time limit is given.
        let count = unsafe {
            libc::recvmmsg(socket, headers.as_mut_ptr(), BATCH_U32, libc::MSG_DONTWAIT as _, std::ptr::null_mut())
        };
        let count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        let mut dropped = None;
        for (header, bytes) in headers.iter().zip(self.frames.iter()).take(count) {
            let length = usize::try_from(header.msg_len).unwrap_or(0).min(FRAME_BYTES);
            let (utc_ns, drops) = control(&header.msg_hdr);
            dropped = drops.or(dropped);
            if let Some(message) = message(&bytes[..length], utc_ns) {
                out(message);
            }
        }
        Ok((count, dropped))
    }
}

/// The time stamp and the count of losses in the control data of a message.
fn control(header: &libc::msghdr) -> (Option<i64>, Option<u32>) {
    let (mut utc_ns, mut dropped) = (None, None);
    // SAFETY: the kernel filled this header's control buffer and set its length to what it wrote; CMSG_FIRSTHDR and
    // CMSG_NXTHDR stay within that length and answer null at its end.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: not null, so it points to a whole header inside of the control buffer, which is aligned for it.
    while let Some(part) = unsafe { next.as_ref() } {
        match (part.cmsg_level, part.cmsg_type) {
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                // SAFETY: the kernel writes one timespec for this type; read by copy, whatever its alignment.
                let time: libc::timespec = unsafe { libc::CMSG_DATA(part).cast::<libc::timespec>().read_unaligned() };
                #[allow(clippy::useless_conversion, reason = "time_t and the nanoseconds are 32 bits on some targets")]
                let (seconds, nanos) = (i64::from(time.tv_sec), i64::from(time.tv_nsec));
                utc_ns = seconds.checked_mul(1_000_000_000).and_then(|ns| ns.checked_add(nanos));
            }
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                // SAFETY: the kernel writes one u32 for this type; read by copy, whatever its alignment.
                dropped = Some(unsafe { libc::CMSG_DATA(part).cast::<u32>().read_unaligned() });
            }
            _ => {}
        }
        // SAFETY: as for CMSG_FIRSTHDR; `part` came from there or from here.
        next = unsafe { libc::CMSG_NXTHDR(header, part) };
    }
    (utc_ns, dropped)
}

/// Reads `struct can_frame` or `struct canfd_frame`: id (4 bytes of the host), length, flags, two bytes, payload.
fn message(bytes: &[u8], utc_ns: Option<i64>) -> Option<Message> {
    let id = u32::from_ne_bytes(*bytes.first_chunk()?);
    let (length, flags) = (usize::from(*bytes.get(4)?), *bytes.get(5)?);
    let payload = bytes.get(8..)?;
    if id & ERROR_FLAG != 0 {
        let mut data = [0; 8];
        data.iter_mut().zip(payload).for_each(|(to, from)| *to = *from);
        return Some(Message::Error { class: id & EXTENDED_MASK, data });
    }
    let fd = bytes.len() > CLASSIC_BYTES;
    let number = id & EXTENDED_MASK;
    let id_of = FrameId::new(number, id & EXTENDED_FLAG != 0).ok()?;
    if !fd && id & REMOTE_FLAG != 0 {
        return Some(Message::Frame(Received { utc_ns, frame: Frame::remote(id_of) }));
    }
    let mut frame = Frame::new(id_of, payload.get(..length)?, fd).ok()?;
    frame.fast = fd && flags & FD_FAST != 0;
    Some(Message::Frame(Received { utc_ns, frame }))
}

/// How many frames the socket had no room for since it was made (`SO_MEMINFO`, `linux/sock_diag.h`). The count that comes
/// with a frame is that of the moment at which it came: a burst's end is known only from here.
pub(super) fn dropped(socket: RawFd) -> io::Result<u32> {
    /// `SK_MEMINFO_VARS`, and the place of `SK_MEMINFO_DROPS` among them.
    const COUNTS: usize = 9;
    const DROPS: usize = 8;
    let mut counts = [0_u32; COUNTS];
    let mut length = libc::socklen_t::try_from(size_of::<[u32; COUNTS]>()).unwrap_or(36);
    // SAFETY: the kernel writes at most `length` bytes into `counts`, which has that size and outlives the call, and the
    // length of what it wrote into `length`.
    let read = unsafe {
        libc::getsockopt(socket, libc::SOL_SOCKET, libc::SO_MEMINFO, counts.as_mut_ptr().cast(), &raw mut length)
    };
    if read == 0 { Ok(counts[DROPS]) } else { Err(io::Error::last_os_error()) }
}

/// Sets an option of a socket that is an int.
pub(super) fn set_int(socket: RawFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(4);
    // SAFETY: the option is an int; `value` outlives the call and its length is given.
    match unsafe { libc::setsockopt(socket, level, name, (&raw const value).cast(), length) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(id: u32, length: u8, flags: u8, size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        bytes[..4].copy_from_slice(&id.to_ne_bytes());
        bytes[4] = length;
        bytes[5] = flags;
        (8..size).for_each(|at| bytes[at] = u8::try_from(at - 7).expect("small"));
        bytes
    }

    fn shown(bytes: &[u8]) -> String {
        match message(bytes, None) {
            Some(Message::Frame(received)) => received.frame.to_string(),
            Some(Message::Error { class, data }) => format!("error {class:#x} {data:?}"),
            None => "nothing".to_owned(),
        }
    }

    #[test]
    fn the_kernels_frames_are_read_as_candump_shows_them() {
        assert_eq!(shown(&bytes(0x109, 3, 0, 16)), "109#010203");
        assert_eq!(shown(&bytes(0x8283_f000, 1, 0, 16)), "0283F000#01");
        assert_eq!(shown(&bytes(0x4000_0123, 0, 0, 16)), "123#R");
        assert_eq!(shown(&bytes(0x123, 2, 1, 72)), "123##10102");
        assert_eq!(shown(&bytes(0x2000_0040, 8, 0, 16)), "error 0x40 [1, 2, 3, 4, 5, 6, 7, 8]");
    }

    #[test]
    fn what_the_kernel_would_never_write_is_nothing() {
        assert_eq!(shown(&[]), "nothing");
        assert_eq!(shown(&bytes(0x109, 9, 0, 16)), "nothing");
        assert_eq!(shown(&bytes(0x109, 200, 0, 72)), "nothing");
        assert_eq!(shown(&bytes(0x0000_0fff, 1, 0, 16)), "nothing", "no id of 11 bits");
    }
}
