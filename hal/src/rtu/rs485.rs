//! The direction of an RS-485 transceiver, switched by the driver of its port.

use std::io;
use std::os::fd::AsRawFd;

use tokio_serial::SerialStream;

/// `struct serial_rs485` of the kernel's `include/uapi/linux/serial.h`: flags, delay before and after sending in ms,
/// padding. 32 bytes since it exists.
#[repr(C)]
struct SerialRs485 {
    flags: u32,
    delay_rts_before_send_ms: u32,
    delay_rts_after_send_ms: u32,
    padding: [u32; 5],
}

/// `SER_RS485_ENABLED`, and RTS high while sending, `SER_RS485_RTS_ON_SEND`.
const ENABLED_RTS_ON_SEND: u32 = 1 | 1 << 1;

/// Tells the driver to hold RTS high exactly while it sends.
///
/// # Errors
/// The driver has no such mode.
pub(super) fn switch_by_rts(port: &SerialStream) -> io::Result<()> {
    let settings = SerialRs485 {
        flags: ENABLED_RTS_ON_SEND,
        delay_rts_before_send_ms: 0,
        delay_rts_after_send_ms: 0,
        padding: [0; 5],
    };
    // SAFETY: the descriptor is open for as long as `port` is borrowed; the kernel reads, and on success writes back,
    // exactly the 32 bytes of `settings`, which live until the call returns.
    let done = unsafe { libc::ioctl(port.as_raw_fd(), libc::TIOCSRS485, &raw const settings) };
    if done == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOTTY | libc::EINVAL | libc::ENOSYS) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "its driver cannot switch the direction of an RS-485 transceiver; leave rs485 out if the adapter does it itself",
        )),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_driver_without_the_mode_is_told_with_what_to_do() {
        let (port, _other) = SerialStream::pair().expect("a pseudo-terminal");
        let error = switch_by_rts(&port).expect_err("a pseudo-terminal has no transceiver");
        assert!(error.to_string().contains("leave rs485 out"), "{error}");
    }

    #[test]
    fn the_kernels_structure_has_32_bytes() {
        assert_eq!(size_of::<SerialRs485>(), 32);
    }
}
