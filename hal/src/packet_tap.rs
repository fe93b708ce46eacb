//! Packets that pass on a network interface, seen and never sent (AF_PACKET, packet(7)).

use std::ffi::CString;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Room for what comes while the agent does something else: a second of a charging loop is some kilobytes.
const RECEIVE_BYTES: libc::c_int = 1 << 20;

/// A tap on one interface: every IPv6 packet with TCP or UDP, in both directions, also what is meant for others.
/// There is no method to send, and the socket is never written to.
#[derive(Debug)]
pub struct PacketTap {
    socket: AsyncFd<OwnedFd>,
}

impl PacketTap {
    /// Opens the tap. Needs CAP_NET_RAW, and a tokio runtime with I/O.
    ///
    /// # Errors
    /// There is no such interface, or the kernel refuses (EPERM without the capability).
    pub fn open(interface: &str) -> io::Result<Self> {
        let name = CString::new(interface).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: `name` is a C string that lives for the call.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        let index = libc::c_int::try_from(index).unwrap_or(0);
        if index == 0 {
            return Err(io::Error::last_os_error());
        }
        let kinds = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // Nothing is received before `bind` names a protocol. SAFETY: no memory is passed.
        let socket = unsafe { libc::socket(libc::AF_PACKET, kinds, 0) };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and is owned by nobody else.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        filter(&socket)?;
        receive_buffer(&socket);
        bind(&socket, index)?;
        promiscuous(&socket, index)?;
        // SAFETY: the descriptor is owned by what is registered, and stays open as long as that lives.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) }?;
        Ok(Self { socket })
    }

    /// The next packet, from its Ethernet header on; what does not fit into `buffer` is cut off. Answers its length.
    /// Cancel-safe: a packet is either received or still there.
    ///
    /// # Errors
    /// `ENETDOWN` when the interface goes down (the tap works again when it is up); anything else ends the tap.
    pub async fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket
            .async_io(Interest::READABLE, |socket| {
                let (bytes, length) = (buffer.as_mut_ptr().cast(), buffer.len());
                // SAFETY: `buffer` is writable for `length` bytes and lives for the call.
                let received = unsafe { libc::recv(socket.as_raw_fd(), bytes, length, 0) };
                usize::try_from(received).map_err(|_| io::Error::last_os_error())
            })
            .await
    }

    /// Packets that the kernel threw away since the last call, because they came faster than they were received.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        let mut statistics = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        #[allow(clippy::cast_possible_truncation, reason = "a struct of 8 bytes")]
        let mut length = size_of::<libc::tpacket_stats>() as libc::socklen_t;
        let (socket, place) = (self.socket.as_raw_fd(), (&raw mut statistics).cast());
        // SAFETY: both places are writable, of the sizes said, and live for the call.
        let done =
            unsafe { libc::getsockopt(socket, libc::SOL_PACKET, libc::PACKET_STATISTICS, place, &raw mut length) };
        if done == 0 { u64::from(statistics.tp_drops) } else { 0 }
    }
}

/// Only IPv6 with TCP, UDP or an extension header comes up to us: whatever else passes costs nothing.
fn filter(socket: &OwnedFd) -> io::Result<()> {
    const fn op(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
        #[allow(clippy::cast_possible_truncation, reason = "BPF codes have 16 bits")]
        libc::sock_filter { code: code as u16, jt, jf, k }
    }
    const LOAD_HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
    const LOAD_BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
    const JUMP: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
    let mut program = [
        // The Ethernet type: IPv6, or a VLAN tag that the hardware left in.
        op(LOAD_HALF, 0, 0, 12),
        op(JUMP, 5, 0, 0x8100),
        op(JUMP, 0, 5, 0x86dd),
        // IPv6: the next header is TCP, UDP, or hop-by-hop.
        op(LOAD_BYTE, 0, 0, 20),
        op(JUMP, 2, 0, 6),
        op(JUMP, 1, 0, 17),
        op(JUMP, 0, 1, 0),
        op(RETURN, 0, 0, 0x4_0000),
        op(RETURN, 0, 0, 0),
    ];
    #[allow(clippy::cast_possible_truncation, reason = "nine instructions")]
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// A smaller one is less room, not a failure.
fn receive_buffer(socket: &OwnedFd) {
    if set(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &RECEIVE_BYTES).is_err() {
        let _ = set(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, &RECEIVE_BYTES);
    }
}

fn bind(socket: &OwnedFd, index: libc::c_int) -> io::Result<()> {
    // SAFETY: all its fields are numbers, for which zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "constants of 16 bits")]
    {
        address.sll_family = libc::AF_PACKET as u16;
        // All protocols: of one alone, only what comes in would be seen.
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    }
    address.sll_ifindex = index;
    #[allow(clippy::cast_possible_truncation, reason = "a struct of 20 bytes")]
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the address is a sockaddr_ll of the length said, and lives for the call.
    let done = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The kernel ends it with the socket.
fn promiscuous(socket: &OwnedFd, index: libc::c_int) -> io::Result<()> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a constant of 16 bits")]
    let request = libc::packet_mreq {
        mr_ifindex: index,
        mr_type: libc::PACKET_MR_PROMISC as u16,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set(socket, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request)
}

fn set<T>(socket: &OwnedFd, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
    #[allow(clippy::cast_possible_truncation, reason = "options of a few bytes")]
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is readable for its own size and lives for the call; the kernel copies it (and, of a filter, the
    // instructions it points to, which outlive the call).
    let done = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, std::ptr::from_ref(value).cast(), length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_interface_that_is_not_there_is_an_error() {
        let error = PacketTap::open("nothere0").expect_err("there is none");
        assert!(matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENXIO)), "{error}");
    }
}
