//! One frame, as it is on the wire.

use std::fmt;

/// The longest payload of CAN FD (ISO 11898-1).
const BYTES_MAX: usize = 64;
/// The longest payload of classic CAN.
const CLASSIC_BYTES_MAX: usize = 8;
const STANDARD_MAX: u32 = 0x7ff;
const EXTENDED_MAX: u32 = 0x1fff_ffff;

/// An arbitration id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FrameId {
    /// 11 bits.
    Standard(u16),
    /// 29 bits.
    Extended(u32),
}

impl FrameId {
    /// The number alone.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Self::Standard(id) => id.into(),
            Self::Extended(id) => id,
        }
    }

    /// Whether it has 29 bits.
    #[must_use]
    pub fn is_extended(self) -> bool {
        matches!(self, Self::Extended(_))
    }

    /// The id of this number and form.
    ///
    /// # Errors
    /// It does not fit.
    pub fn new(number: u32, extended: bool) -> Result<Self, InvalidFrame> {
        match u16::try_from(number) {
            _ if extended && number <= EXTENDED_MAX => Ok(Self::Extended(number)),
            Ok(short) if !extended && number <= STANDARD_MAX => Ok(Self::Standard(short)),
            _ => Err(InvalidFrame::Id { number, bits: if extended { 29 } else { 11 } }),
        }
    }
}

impl fmt::Display for FrameId {
    /// As `candump` writes it: three digits for 11 bits, eight for 29.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standard(id) => write!(f, "{id:03X}"),
            Self::Extended(id) => write!(f, "{id:08X}"),
        }
    }
}

/// A data frame, or a remote frame, which carries no data.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Its arbitration id.
    pub id: FrameId,
    /// A request for data, of classic CAN.
    pub remote: bool,
    /// CAN FD.
    pub fd: bool,
    /// CAN FD with the faster data phase (BRS).
    pub fast: bool,
    len: u8,
    data: [u8; BYTES_MAX],
}

impl Frame {
    /// A frame with this payload.
    ///
    /// # Errors
    /// A payload of more than 8 bytes, or 64 with `fd`.
    pub fn new(id: FrameId, payload: &[u8], fd: bool) -> Result<Self, InvalidFrame> {
        let most = if fd { BYTES_MAX } else { CLASSIC_BYTES_MAX };
        let mut data = [0; BYTES_MAX];
        match (u8::try_from(payload.len()), data.get_mut(..payload.len())) {
            (Ok(len), Some(place)) if payload.len() <= most => {
                place.copy_from_slice(payload);
                Ok(Self { id, remote: false, fd, fast: false, len, data })
            }
            _ => Err(InvalidFrame::Length { bytes: payload.len(), most }),
        }
    }

    /// A remote frame.
    #[must_use]
    pub fn remote(id: FrameId) -> Self {
        Self { id, remote: true, fd: false, fast: false, len: 0, data: [0; BYTES_MAX] }
    }

    /// The payload: 0 to 8 bytes, 0 to 64 of CAN FD.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        self.data.get(..self.len.into()).unwrap_or_default()
    }

    /// Bits on the wire in the arbitration phase and, of a fast CAN FD frame, in the data phase; without stuff bits, as
    /// `canbusload` counts. With them it is up to a fifth more.
    #[must_use]
    pub fn bits(&self) -> (u32, u32) {
        let payload = u32::from(self.len) * 8;
        if !self.fd {
            // SOF, id, RTR, IDE, r0, DLC, CRC, ACK, EOF and the space between frames; 29 bits need SRR, 18 bits and r1 more.
            return (if self.id.is_extended() { 67 } else { 47 } + payload, 0);
        }
        // Arbitration: SOF, id, RRS, IDE, FDF, res, BRS; CRC delimiter, ACK, its delimiter, EOF, space. Data: ESI, DLC, payload,
        // stuff count and CRC of 17 or 21 bits with their fixed stuff bits (ISO 11898-1:2015, 10.4).
        let arbitration = if self.id.is_extended() { 36 } else { 17 } + 13;
        let crc = if self.len > 16 { 4 + 21 + 7 } else { 4 + 17 + 6 };
        let data = 5 + payload + crc;
        if self.fast { (arbitration, data) } else { (arbitration + data, 0) }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_string())
    }
}

impl fmt::Display for Frame {
    /// As `candump -L` writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#", self.id)?;
        if self.remote {
            return f.write_str("R");
        }
        if self.fd {
            write!(f, "#{}", u8::from(self.fast))?;
        }
        self.data().iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

/// Not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFrame {
    /// The id is too large.
    #[error("{number:#x} does not fit into an id of {bits} bits")]
    Id {
        /// What was given.
        number: u32,
        /// 11 or 29.
        bits: u8,
    },
    /// The payload is too long.
    #[error("{bytes} bytes are more than the {most} that such a frame holds")]
    Length {
        /// What was given.
        bytes: usize,
        /// What fits.
        most: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_shown_as_candump_writes_it() {
        let standard = FrameId::new(0x109, false).expect("fits");
        let extended = FrameId::new(0x283_f000, true).expect("fits");
        assert_eq!(Frame::new(standard, &[2, 0x90], false).expect("fits").to_string(), "109#0290");
        assert_eq!(Frame::new(extended, &[], false).expect("fits").to_string(), "0283F000#");
        assert_eq!(Frame::new(standard, &[1; 12], true).expect("fits").to_string(), "109##0010101010101010101010101");
        assert_eq!(Frame::remote(standard).to_string(), "109#R");
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        assert!(FrameId::new(0x800, false).is_err());
        assert!(FrameId::new(0x2000_0000, true).is_err());
        let id = FrameId::Standard(1);
        assert!(Frame::new(id, &[0; 9], false).is_err());
        assert!(Frame::new(id, &[0; 64], true).is_ok());
        assert!(Frame::new(id, &[0; 65], true).is_err());
    }

    #[test]
    fn a_full_bus_of_1_mbit_carries_about_eight_thousand_frames() {
        let (bits, _) = Frame::new(FrameId::Standard(1), &[0; 8], false).expect("fits").bits();
        assert_eq!(bits, 111);
        let (bits, _) = Frame::new(FrameId::Extended(1), &[0; 8], false).expect("fits").bits();
        assert_eq!(bits, 131);
    }
}
